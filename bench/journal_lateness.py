"""What the journal costs the quoting loop: its lateness with the journal and without, in interleaved pairs.

    .venv/bin/python bench/journal_lateness.py --pairs 5 --seconds 20 --state DIR

In one process a real Loop quotes a generated market of 50 messages a second on paper. A probe asks the event loop every
millisecond to wake it, and notes how late that comes. With the journal: memory, ledger on DIR's disk, compression of
full segments. Prints p99.9 of each run and the median difference of the pairs, in milliseconds.
"""

import argparse
import asyncio
import json
import random
import statistics
import tempfile
import time
from pathlib import Path

import msgspec

from mmpi.config import load_config
from mmpi.engine import Engine
from mmpi.engines import checkpoint, engine_params
from mmpi.journal.writer import JournalWriter
from mmpi.runtime.board import StatusBoard
from mmpi.runtime.feeds import play
from mmpi.runtime.gateway import PaperGateway
from mmpi.runtime.keeper import Keeper, KeeperSettings
from mmpi.runtime.loop import Loop, SteadyClock
from mmpi.runtime.step import NoJournal
from mmpi.settings import Settings
from mmpi.sim.exchange import Matching
from mmpi.sim.market import GENERATED, Market
from mmpi.sim.venue import SimVenue

PROBE_S = 0.001
PREFIX = "0xbbbbbbbb00000001"
BOOK_MS = 45.0


def settings() -> Settings:
    """Return paper defaults at 50 messages a second, in segments that are full within seconds."""
    made = load_config(None, {}).settings
    return msgspec.structs.replace(
        made,
        market=msgspec.structs.replace(made.market, book_interval_ms=BOOK_MS, trades_per_s=3.0),
        journal=msgspec.structs.replace(made.journal, segment_bytes=2**18, max_bytes=2**24, commit_s=1.0),
    )


async def lateness_ms(made: Settings, state: Path | None, seconds: float) -> list[float]:
    """Return how late the loop was, every millisecond; `state` None = without a journal."""
    with tempfile.TemporaryDirectory(prefix="mmpi-late-", dir="/dev/shm") as runtime:
        grids = {name: GENERATED[name] for name in ("BTC", "ETH")}
        engine = Engine(engine_params(made, grids, PREFIX))
        sim = SimVenue(Matching(grids, made.sim), made.sim, random.Random(1))
        clock, keeper = SteadyClock(), None
        sink: JournalWriter | NoJournal = NoJournal()
        if state is not None:
            paths = msgspec.structs.replace(made.paths, state_dir=str(state), runtime_dir=runtime)
            keeper = Keeper(KeeperSettings(paths, made.journal, made.risk.max_drawdown), PREFIX, "bench", "d", b"{}")
            keeper.take_up(engine)
            sink = JournalWriter(
                Path(runtime) / "journal", segment_bytes=made.journal.segment_bytes, max_bytes=made.journal.max_bytes,
                checkpoint=lambda: checkpoint(engine, "d"), on_closed=keeper.cold,
            )  # fmt: skip
            keeper.open(sink)
        board = StatusBoard.create(Path(runtime) / "status")
        outlet = PaperGateway(sim, None, lambda _: None)
        loop = Loop(engine, sink, outlet, clock, None, board, lambda: b"{}", keeper=keeper)
        market = Market(list(grids.values()), made.market, random.Random(7))
        tasks = [asyncio.create_task(play(market.events(loop.now()), sim, loop)), asyncio.create_task(loop.run())]
        late: list[float] = []
        end = time.perf_counter() + seconds
        while (began := time.perf_counter()) < end:
            await asyncio.sleep(PROBE_S)
            late.append((time.perf_counter() - began - PROBE_S) * 1000)
        for task in tasks:
            task.cancel()
        if keeper is not None and isinstance(sink, JournalWriter):
            sink.close()
            keeper.close("")
            assert engine.session.fills > 0
        return late


def p999(late: list[float]) -> float:
    """Return the 99.9th percentile."""
    return sorted(late)[len(late) * 999 // 1000]


def main() -> None:
    """Print the figures of the pairs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--state", type=Path, default=None, help="a folder on the disk to measure (default: temporary)")
    args = parser.parse_args()
    made, pairs = settings(), []
    for number in range(args.pairs):
        with tempfile.TemporaryDirectory(prefix="mmpi-late-", dir=args.state) as state:
            order = (None, Path(state)) if number % 2 == 0 else (Path(state), None)
            found = {each is not None: p999(asyncio.run(lateness_ms(made, each, args.seconds))) for each in order}
        pairs.append((round(found[False], 3), round(found[True], 3)))
    difference = statistics.median(with_ - without for without, with_ in pairs)
    print(json.dumps({"p99.9_ms_without_and_with": pairs, "median_difference_ms": round(difference, 3)}))


if __name__ == "__main__":
    main()
