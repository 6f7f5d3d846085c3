"""mmpi practice: a venue to practise on, and keys for it.

Invariant: a recorded market is played by the rules of its coins at Hyperliquid, or refused.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from heapq import merge
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import Final

import msgspec

from mmpi.errors import ConfigError
from mmpi.events import MarketEvent
from mmpi.folders import practice_registry
from mmpi.instrument import MONEY_SCALE, Instrument, Nanos
from mmpi.practice.hyperliquid.playback import endless
from mmpi.practice.hyperliquid.process import PracticeOptions, Shown, generated, run_practice
from mmpi.practice.hyperliquid.rules import Rules
from mmpi.practice.keys import make_keys

SEED: Final = 7
FIRST_LINES: Final = 20_000
"""Of raw messages, in which every coin that is to be played has a book."""
SIGNIFICANT_FIGURES: Final = 5
PRICE_DECIMALS: Final = 6
"""Of a perpetual's price there are 6 - szDecimals at most ("Tick and lot size")."""


def run(args: argparse.Namespace) -> int:
    """Return 0 once the keys are made, or the server was told to end."""
    return _serve(args) if args.what == "hyperliquid" else _keys(args)


def _keys(args: argparse.Namespace) -> int:
    made = make_keys(args.out, practice_registry(os.environ), force=args.force, vault=args.vault)
    if args.json:
        told = {"account": made.account, "agents": dict(made.agents), "dir": str(args.out)}
        print(json.dumps(told | ({"vault": made.vault} if made.vault else {})))
    else:
        print(f"practice account {made.account}: keys in {args.out}")
        if made.vault:
            print(f"and the vault {made.vault}, which it leads")
        print(f"use them: export MMPI_SECRETS__DIR={args.out.absolute()}")
    return 0


def _serve(args: argparse.Namespace) -> int:
    report = run_practice(_options(args), _shown(args))
    if args.json:
        print(msgspec.json.encode(report).decode(), flush=True)
    return 0


def _options(args: argparse.Namespace) -> PracticeOptions:
    registry = practice_registry(os.environ)
    if args.tls_dir is not None and not args.tls:
        raise ConfigError(f"--tls-dir {args.tls_dir}: allowed only with --tls")
    return PracticeOptions(
        registry=registry,
        port=args.port,
        latency_ms=args.latency_ms,
        secrets_dir=args.secrets,
        strict=args.strict,
        mainnet=args.mainnet,
        rules=Rules(volume_gate=args.volume_gate * MONEY_SCALE, requests_free=args.budget),
        weight=args.weight,
        faults=tuple(args.fault),
        fault_seed=args.fault_seed,
        tls_dir=(args.tls_dir or registry.parent / "tls") if args.tls else None,
        seconds=args.seconds,
    )


def _shown(args: argparse.Namespace) -> Shown:
    """Return the market that was asked for."""
    if args.data is not None:
        if args.seed is not None:
            raise ConfigError(f"--seed {args.seed}: allowed only without --data; a recorded market has no chance in it")
        return recorded(args.data, args.instrument)
    if args.instrument:
        raise ConfigError(f"--instrument {args.instrument}: allowed only with --data; generated are BTC and ETH")
    return generated(SEED if args.seed is None else args.seed)


def recorded(data: str, name: str = "") -> Shown:
    """Return a recording as an endless market, of one coin or of all that it has; ConfigError if it cannot be one."""
    from mmpi.research.dataset import open_dataset

    if not data:
        raise ConfigError("--data '': empty; allowed: a recorded set or file, or leave it out (generated market)")
    instruments = _instruments(data, name)
    for instrument in instruments:
        open_dataset(data, instrument)
    by_name = {each.name: each for each in instruments}
    return Shown(data, by_name, _Played(data, instruments), recorded=True)


class _Played:
    """A recording as an endless market."""

    def __init__(self, data: str, instruments: list[Instrument]) -> None:
        self._data, self._instruments = data, instruments

    def __call__(self, start: Nanos) -> Iterator[MarketEvent]:
        """Return its events from a time on."""
        return endless(self._once, self._again, start)

    def _once(self) -> Iterator[MarketEvent]:
        from mmpi.research.dataset import open_dataset

        return merge(*(iter(open_dataset(self._data, each)) for each in self._instruments), key=attrgetter("recv_ts"))

    def _again(self) -> None:
        print(f"practice hyperliquid plays {self._data} again, from its beginning", file=sys.stderr, flush=True)


def _instruments(data: str, name: str) -> list[Instrument]:
    """Return the perpetuals of a recording, or the one that was asked for; ConfigError for another venue's."""
    from mmpi.research.dataset import find_set, instrument_for

    files = find_set(data)
    names = [name]
    if not name and files.recorded:
        names = _recorded_coins(files.recorded[0].parent) or names
    elif not name and files.lines:
        names = _coins(files.lines)
    found = [instrument_for(data, each) for each in names]
    for instrument in found:
        if not _is_perpetual(instrument):
            grid = f"tick {instrument.tick_size}, lot {instrument.lot_size}"
            raise ConfigError(
                f"--data {data}: {instrument.name} ({grid}) is no perpetual of Hyperliquid; allowed: its own recorded "
                "sets, recordings and raw messages"
            )
    return found


def _is_perpetual(instrument: Instrument) -> bool:
    """Return whether clients find the grid of prices from the lot, as the venue's rules have it."""
    decimals = PRICE_DECIMALS - instrument.lot_exponent
    return instrument.significant_figures == SIGNIFICANT_FIGURES and instrument.tick_exponent == decimals


def _recorded_coins(folder: Path) -> list[str]:
    """Return the perpetuals that a recording says it has, [] if it says nothing."""
    from mmpi.runtime.recording import instrument_of, read_about

    about = read_about(folder)
    coins = about.instruments if about is not None else {}
    return [coin for coin, market in coins.items() if _is_perpetual(instrument_of(coin, market))]


class _Named(msgspec.Struct):
    coin: str = ""


class _Message(msgspec.Struct):
    channel: str = ""
    data: msgspec.Raw = msgspec.Raw(b"{}")


def _coins(lines: Path) -> list[str]:
    """Return the coins with a book in the first of raw messages, in the order of their coming, known ones alone."""
    from mmpi.research.grid import Tally
    from mmpi.research.instruments import HYPERLIQUID, is_listed
    from mmpi.research.jsonl import numbered_lines

    coins: dict[str, None] = {}
    for _, line in islice(numbered_lines(lines, Tally()), FIRST_LINES):
        try:
            message = msgspec.json.decode(line[line.index(b"{") :], type=_Message)
            if message.channel == "l2Book":
                coins[msgspec.json.decode(message.data, type=_Named).coin] = None
        except (ValueError, RecursionError):
            # What is wrong with it is said, with its number, where the line is read to be played.
            continue
    known = [coin for coin in coins if is_listed(f"{HYPERLIQUID}_{coin}")]
    if not known:
        seen = ", ".join(coins) or "no book at all"
        raise ConfigError(
            f"--data {lines}: {seen} in its first {FIRST_LINES} lines; allowed: books of coins with known tick and lot"
        )
    return known
