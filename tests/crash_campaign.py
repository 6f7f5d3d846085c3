"""Crash campaign: quoters killed at random moments, again and again, and what the next one makes of it.

    .venv/bin/python -m tests.crash_campaign --kills 300 --boxes 4

A box is a practice server, a quoter and, in every second box, a guardian; without one the orders of a dead quoter go on
filling until the next one comes. After every kill the books are read as a new run reads them, and compared with the
server's record of everything: fills, orders, positions, cash. The next quoter has to find what is missing. Exit 1 if
anything is not as it must be.
"""

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parent))

from stack import RESTLESS, TIGHT, Stack  # noqa: E402

from mmpi.instrument import MONEY_SCALE  # noqa: E402
from mmpi.journal.reader import read  # noqa: E402
from mmpi.journal.record import ACTION, EVENT, Record, decode  # noqa: E402
from mmpi.journal.recovery import LedgerEnd, Memory, is_fill, read_ledger, read_memory, resumption  # noqa: E402
from mmpi.session import Resumption  # noqa: E402

FAST = RESTLESS | TIGHT | {
    "MMPI_JOURNAL__SEGMENT_BYTES": str(2**20),
    "MMPI_JOURNAL__MAX_BYTES": str(256 * 2**20),
    "MMPI_JOURNAL__COMMIT_S": "3",
    "MMPI_RISK__MAX_FILLS_PER_MINUTE": "0",
    "MMPI_RISK__SESSION_LOSS": "1000",
    "MMPI_RISK__MAX_DRAWDOWN": "1000",
}
"""Fills every second, segments that rotate, commits that are often missed."""
START_S = 20.0
TOLD_S = 0.3
"""A fill of the server's is told within this."""
LONGEST_S = 2.0
"""A quoter is killed at a random moment up to so long after it began to quote, or before it does."""


class Kill(msgspec.Struct):
    """What one kill showed."""

    fills: int = 0
    """Of the server, when the quoter was killed."""
    in_ledger: int = 0
    """Of these, on the disk's side."""
    while_dead: int = 0
    """Fills that came between the kill and the next quoter."""
    failures: list[str] = msgspec.field(default_factory=list)


class CrashBox:
    """One box, from its first quoter to the last."""

    def __init__(self, stack: Stack, chance: random.Random, *, guarded: bool) -> None:
        self.stack, self.chance, self.guarded = stack, chance, guarded
        self.peak = 0
        self.kills: list[Kill] = []
        self.line: Any = None
        self.payments: list[dict[str, Any]] = []

    def run(self, kills: int) -> list[Kill]:
        """Return what so many kills showed, and a clean end."""
        stack = self.stack
        stack.start_server()
        self.line = stack.line()
        if self.guarded:
            stack.start_guardian()
            stack.arm()
        else:
            assert stack.mmpi("arm").returncode == 0
        stack.start_quoter()
        self.wait_reconciled()
        for _ in range(kills):
            self.kills.append(self.one_kill())
        last = Kill()
        self.wait_reconciled()
        stack.quoter.send(signal.SIGTERM)
        if stack.quoter.wait(15) != 0:
            last.failures.append(f"the last quoter did not end cleanly: {stack.quoter.said()[-500:]}")
        self.judge(last, self.line.get("/control/fills"), clean=True)
        self.kills.append(last)
        return self.kills

    def one_kill(self) -> Kill:
        """Return what a kill at a random moment showed, once the next quoter has reconciled."""
        stack, kill = self.stack, Kill()
        time.sleep(self.chance.uniform(0.0, LONGEST_S))
        stack.quoter.send(signal.SIGKILL)
        stack.quoter.wait(10)
        at_kill = self.line.get("/control/fills")
        kill.fills = len(at_kill)
        end, memory, _ = self.books()
        known = ledger_ids(self.stack)
        kill.in_ledger = sum(str(fill["tid"]) in known for fill in at_kill)
        self.check_orders(kill)
        if self.chance.random() < 0.5:
            time.sleep(self.chance.uniform(0.0, 1.0))
        del end, memory
        stack.start_quoter()
        before = {fill["tid"] for fill in at_kill}
        if self.chance.random() < 0.2:
            # Killed again while it starts.
            time.sleep(self.chance.uniform(0.0, 1.2))
            return kill
        self.wait_reconciled()
        now = self.line.get("/control/fills")
        kill.while_dead = sum(fill["tid"] not in before for fill in now)
        self.judge(kill, now)
        return kill

    def wait_reconciled(self) -> None:
        """Wait until the quoter has the venue's word on everything."""
        done = ("quoting", "paused", "latched", "stale_data")

        def reconciled() -> bool:
            told = self.stack.summary()
            return told.get("state") in done and told["start"] is not None

        self.stack.wait(reconciled, START_S, "a quoter that has reconciled")

    def books(self) -> tuple[LedgerEnd, Memory, Resumption | None]:
        """Return ledger and memory as a new run would read them, and what it would take up."""
        stack = self.stack
        end = read_ledger(stack.state / "journal")
        memory = read_memory(stack.runtime / "journal", "0x" + (stack.state / "instance").read_text().strip())
        scope = f"hyperliquid testnet practice {stack.account}"
        found = resumption(end, memory, scope, 0)
        return end, memory, found[1] if found else None

    def check_orders(self, kill: Kill) -> None:
        """No order at the server that the journal does not know."""
        sent = {
            action.cl_ord_id
            for record in records(self.stack.runtime / "journal")
            if record.kind == ACTION and hasattr(action := decode(record).action, "cl_ord_id")
        }
        for order in (*self.line.get("/control/placed"), *self.line.get("/control/orders")):
            if order["cloid"] not in sent:
                kill.failures.append(f"order {order['cloid']} at the server is not in the journal")

    def judge(self, kill: Kill, fills: Sequence[dict[str, Any]], *, clean: bool = False) -> None:
        """Compare the books with the server's fills, of which the books may know newer ones."""
        time.sleep(TOLD_S)
        _, _, kept = self.books()
        if kept is None:
            kill.failures.append("the books hold no session")
            return
        known = ledger_ids(self.stack) | memory_ids(self.stack)
        missing = [fill["tid"] for fill in fills if str(fill["tid"]) not in known]
        if missing:
            kill.failures.append(f"{len(missing)} of the server's fills are in no book: {missing[:3]}")
        told = self.stack.summary()
        odd = {name: count for name, count in told.get("anomalies", {}).items() if count}
        if odd:
            kill.failures.append(f"anomalies: {odd}")
        self.compare(kill, kept, self.line.get("/control/fills"))
        state = kept.state
        if state.base != 0 or state.breach:
            kill.failures.append(f"base {state.base}, breach {state.breach!r}")
        if state.peak < self.peak:
            kill.failures.append(f"the peak fell from {self.peak} to {state.peak}")
        self.peak = state.peak
        if clean and (positions := self.stack.venue_positions()) != held(kept):
            kill.failures.append(f"positions {held(kept)}, the server's are {positions}")

    def compare(self, kill: Kill, kept: Resumption, fills: Sequence[dict[str, Any]]) -> None:
        """Position and cash of the books are those of exactly the fills that they know, and of payments of funding."""
        counted = set(kept.exec_ids) | {event.exec_id for event in kept.later if hasattr(event, "exec_id")}
        for name, part in kept.state.instruments.items():
            lots, cash, funding = part.position[0], part.position[2], part.position[5]
            for event in kept.later:
                if event.instrument != name:
                    continue
                if not hasattr(event, "exec_id"):
                    cash += event.amount
                    funding += event.amount
                else:
                    lots += event.side * event.size
                    cash -= event.side * event.size * event.price * part.unit + event.fee
            size = price_of = Decimal(0)
            for fill in fills:
                if fill["coin"] == name and str(fill["tid"]) in counted:
                    sign = 1 if fill["side"] == "B" else -1
                    size += sign * Decimal(fill["sz"])
                    price_of -= sign * Decimal(fill["sz"]) * Decimal(fill["px"]) + Decimal(fill["fee"])
            if size != lots * Decimal(part.lot_size):
                told = lots * Decimal(part.lot_size)
                kill.failures.append(f"{name}: the books hold {told}, the fills come to {size}")
            if price_of * MONEY_SCALE != cash - funding:
                told = f"cash {cash} with funding {funding}"
                kill.failures.append(f"{name}: {told}, the fills come to {price_of * MONEY_SCALE}")
            if funding not in self.paid(name) and funding not in (paid := self.paid(name, anew=True)):
                kill.failures.append(f"{name}: funding {funding}, the server's payments come to {paid}")

    def paid(self, name: str, *, anew: bool = False) -> list[int]:
        """Return what the server had paid after each payment, the first of which is none; asked for anew on demand.

        Not at every kill: the venue counts questions, the quoter's and these together.
        """
        if anew:
            request = {"type": "userFunding", "user": self.stack.account, "startTime": 0}
            self.payments = [each["delta"] for each in self.line.post("/info", request)]
        amounts = [int(Decimal(each["usdc"]) * MONEY_SCALE) for each in self.payments if each["coin"] == name]
        return [sum(amounts[:count]) for count in range(len(amounts) + 1)]


def held(kept: Resumption) -> dict[str, str]:
    """Return the positions as the server writes them."""
    sizes = {
        name: Decimal(part.position[0]) * Decimal(part.lot_size) for name, part in kept.state.instruments.items()
    }
    return {name: format(size.normalize(), "f") for name, size in sizes.items() if size}


def records(folder: Path) -> list[Record]:
    """Return the records of a journal."""
    return [item for item in read(folder) if isinstance(item, Record)] if folder.is_dir() else []


def ids_in(folder: Path) -> set[str]:
    """Return the fills in a journal."""
    found = [decode(record) for record in records(folder) if record.kind == EVENT]
    return {event.exec_id for event in found if is_fill(event)}


def ledger_ids(stack: Stack) -> set[str]:
    """Return the fills in the ledger."""
    return ids_in(stack.state / "journal")


def memory_ids(stack: Stack) -> set[str]:
    """Return the fills in the journal in memory."""
    return ids_in(stack.runtime / "journal")


def box(job: tuple[int, int]) -> list[Kill]:
    """Return what a share of the kills showed; `job`: the box's number, and how many."""
    number, kills = job
    with tempfile.TemporaryDirectory(prefix=f"mmpi-crash-{number}-") as folder:
        more = FAST | ({} if number % 2 else {"MMPI_GUARDIAN__REQUIRED": "false"})
        with Stack(Path(folder), latency_ms=15.0, more=more) as stack:
            crash = CrashBox(stack, random.Random(number), guarded=bool(number % 2))
            try:
                return crash.run(kills)
            except Exception as error:
                return [*crash.kills, Kill(failures=[f"box {number}: {error!r}"[:3000]])]


def campaign(kills: int, boxes: int, say: Callable[[str], None] = lambda _: None) -> list[Kill]:
    """Return what so many kills in so many boxes at once showed."""
    shares = [(number, kills // boxes + (number < kills % boxes)) for number in range(boxes)]
    found: list[Kill] = []
    with ProcessPoolExecutor(boxes) as pool:
        for number, share in enumerate(pool.map(box, shares)):
            found += share
            say(f"box {number}: {len(share)} rounds, {sum(bool(kill.failures) for kill in share)} failed")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0 if every kill was survived as it must be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--boxes", type=int, default=4)
    args = parser.parse_args(argv)
    began = time.monotonic()
    kills = campaign(args.kills, args.boxes, lambda text: print(text, file=sys.stderr, flush=True))
    failures = [failure for kill in kills for failure in kill.failures]
    for failure in failures[:20]:
        print(failure, file=sys.stderr)
    done = {
        "kills": len(kills), "fills": max(kill.fills for kill in kills), "failures": len(failures),
        "not_yet_in_ledger": sum(kill.fills - kill.in_ledger for kill in kills),
        "while_dead": sum(kill.while_dead for kill in kills), "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip
    print(json.dumps(done))
    return 1 if failures or len(kills) < args.kills else 0


if __name__ == "__main__":
    sys.exit(main())
