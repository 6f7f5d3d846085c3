"""mmpi bench: how long it takes from the bytes of a market message to approved orders, and in which stage.

Invariant: the yardstick, a quoter written with json and Decimal, does its job on the same bytes in the same process.
"""

import argparse
import os
import sys
from typing import Final

import msgspec

from mmpi.config import load_config
from mmpi.engines import engine_params
from mmpi.instrument import Instrument
from mmpi.quoting import QuoterSettings
from mmpi.quoting.avellaneda_stoikov import AvellanedaStoikovConfig
from mmpi.research import frames, wire_bench
from mmpi.research.instruments import HYPERLIQUID, lookup
from mmpi.settings import InstrumentSettings

PREFIX: Final = "0x" + "00" * 8
JOB: Final = AvellanedaStoikovConfig(
    levels=5, update_interval_s=0.05, tolerance_percent=15.0, size_tolerance_percent=20.0
)
"""The yardstick's job: a ladder of five orders a side around a reservation price, decided anew at every book; an order
moves when it is off by 15% of its depth or 20% of its size."""


def run(args: argparse.Namespace) -> int:
    """Return 0 once everything is measured and printed."""
    settings = load_config(args.config, os.environ).settings
    coin, messages = frames.load(args.messages, args.instrument, args.limit)
    instrument = lookup(f"{HYPERLIQUID}_{coin}", "", "")
    given = {each.name: each.quoter for each in settings.instruments} if args.config else {}
    quoter: QuoterSettings = given.get(coin, JOB)
    settings = msgspec.structs.replace(settings, instruments=(InstrumentSettings(name=coin, quoter=quoter),))
    show = _progress if sys.stderr.isatty() and not args.json else None
    params = engine_params(settings, {coin: instrument}, PREFIX)
    result = wire_bench.measure(messages, params, instrument, args.rounds, show)
    if args.json:
        about = {"instrument": coin, "quoter": msgspec.to_builtins(quoter)}
        print(msgspec.json.encode({**msgspec.to_builtins(result), **about}).decode(), flush=True)
    else:
        print(_text(result, instrument, quoter))
    return 0


def _text(result: wire_bench.Result, instrument: Instrument, quoter: QuoterSettings) -> str:
    def line(name: str, times: dict[str, float]) -> str:
        return f"{name:<24}" + "".join(f"{key} {value:<10.1f}" for key, value in times.items())

    tag = quoter.__struct_config__.tag
    lines = [
        f"{result.n} books of {instrument.name} among {result.messages} messages, {result.rounds} rounds; {tag}, "
        f"{'compiled' if result.compiled else 'interpreted'}",
        line("bytes to actions, us", result.bytes_to_actions_us),
        line("stages, us (p50)", result.stages_us),
    ]
    if result.naive_us is None:
        lines.append("no yardstick beside this installation: neither shared/lab/naive.py nor bench/reference.py")
    else:
        lines.append(line(f"{result.yardstick}, us", result.naive_us))
        lines.append(f"ratio of the p50s        {result.ratio}")
    lines.append(f"actions                  {result.actions}, the yardstick's {result.naive_actions}")
    return "\n".join(lines)


def _progress(done: int, rounds: int) -> None:
    print(f"\rmmpi bench: round {done} of {rounds}", end="\n" if done == rounds else "", file=sys.stderr, flush=True)
