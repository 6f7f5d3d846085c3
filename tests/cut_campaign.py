"""Cut campaign: a real quoter's state on a disk whose every write is logged; the power cut anywhere in that log.

    .venv/bin/python -m tests.cut_campaign --cuts 1000 --guests 5         (root; docs/journal.md)

The quoter is started, killed, started again, told to end, started again. Meanwhile it is noted in the disk's log what
it calls committed. Then the disk is made as the cut would have left it, just before and after each flush and in
between, with what was not flushed lost, kept or torn; it is mounted, read as a start reads it, and gone on with. With
--guests the same quoter runs in an emulated Pi, and what the cuts left is read by another one. Exit 1 if a promise was
broken.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parent))

from stack import TIGHT  # noqa: E402

from hil.disk_log import DiskLog  # noqa: E402
from hil.logged_disk import LoggedDisk  # noqa: E402
from hil.power_cut import VARIANTS, Cut, Replay, cuts, fsck, mounted  # noqa: E402
from mmpi.device.latch import Latch  # noqa: E402
from mmpi.journal.budget import Budget, DiskLimits  # noqa: E402
from mmpi.journal.entries import CLEAN, FIRST, Ending, Run  # noqa: E402
from mmpi.journal.ledger import Ledger  # noqa: E402
from mmpi.journal.reader import read  # noqa: E402
from mmpi.journal.record import EVENT, RUN, Record, decode  # noqa: E402
from mmpi.journal.recovery import Memory, is_fill, read_ledger, resumption  # noqa: E402
from mmpi.journal.survey import verify_journal  # noqa: E402
from mmpi.runtime.board import StatusBoard  # noqa: E402

MMPI = (sys.executable, "-m", "mmpi")
SCOPE = "generated paper"
COMMIT_S = 1.0
LAG_S = 1.5
"""The board is published four times a second, and this machine is busy."""
SETTINGS = TIGHT | {
    "MMPI_JOURNAL__COMMIT_S": str(COMMIT_S),
    "MMPI_JOURNAL__SEGMENT_BYTES": str(2**20),
    "MMPI_MARKET__BOOK_INTERVAL_MS": "50",
    "MMPI_MARKET__TRADES_PER_S": "8",
    "MMPI_RISK__MAX_FILLS_PER_MINUTE": "0",
    "MMPI_RISK__SESSION_LOSS": "1000",
    "MMPI_RISK__MAX_DRAWDOWN": "1000",
}
MKFS = ("-O", "^metadata_csum")
"""With checksums of metadata a superblock torn between its two sectors keeps ext4 from being mounted at all
(docs/DECISIONS.md, 41)."""
OPTIONS = ("lazytime", "noatime")
"""As the image mounts its data: only then are zeros written ahead."""
RUNS: Sequence[tuple[float, int]] = ((7.0, signal.SIGKILL), (6.0, signal.SIGTERM), (5.0, signal.SIGKILL))


class Promise(msgspec.Struct, frozen=True):
    """What had been said when it stood in the log."""

    commits: int
    wall: int


class Story(msgspec.Struct):
    """The whole ledger at the end: what was ever written."""

    records: dict[int, tuple[int, bytes]]
    fills: dict[str, int]
    """Id -> recv_ts."""


class Judged(msgspec.Struct):
    """What the cuts came to."""

    cuts: int = 0
    torn: int = 0
    """Ledgers with a torn tail."""
    lost: int = 0
    """Records that a cut took, all cuts together."""
    failures: list[str] = msgspec.field(default_factory=list)


def record(disk: LoggedDisk, folder: Path, runs: Sequence[tuple[float, int]] = RUNS) -> None:
    """Have quoters live on the disk, and note in its log what they call committed."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("MMPI_")} | SETTINGS | {
        "MMPI_PATHS__STATE_DIR": str(disk.path / "state"),
        "MMPI_PATHS__RUNTIME_DIR": str(folder / "run"),
    }
    subprocess.run([*MMPI, "arm"], env=env, check=True, capture_output=True)
    for seconds, number in runs:
        with (folder / "quoter.log").open("ab") as log:
            quoter = subprocess.Popen([*MMPI, "run"], env=env, stdout=log, stderr=log)
        ended = threading.Event()
        noting = threading.Thread(target=_note, args=(disk, folder / "run" / "status", quoter.pid, ended))
        noting.start()
        time.sleep(seconds)
        quoter.send_signal(number)
        quoter.wait(20)
        ended.set()
        noting.join()
        shutil.rmtree(folder / "run" / "journal")  # a power cut would have taken it


def _note(disk: LoggedDisk, board: Path, pid: int, ended: threading.Event) -> None:
    seen = -1
    while not ended.wait(0.02):
        with suppress(OSError, ValueError):
            opened = StatusBoard.open(board)
            text = opened.read() if opened is not None and opened.pid == pid else None
            if text and (commits := json.loads(text)["storage"]["commits"]) != seen:
                seen = commits
                disk.mark(msgspec.json.encode(Promise(commits, time.time_ns())).decode())


def story(ledger: Path) -> Story:
    """Return everything that is in a ledger."""
    told = Story({}, {})
    for item in read(ledger):
        if isinstance(item, Record):
            told.records[item.number] = (item.kind, item.payload)
            if item.kind == EVENT and is_fill(event := decode(item)):
                told.fills[event.exec_id] = event.recv_ts
    return told


def judge(image: Path, promised: Promise | None, told: Story, judged: Judged, where: str) -> None:
    """Mount what a cut left, and hold it against what was promised and what was ever written."""
    judged.cuts += 1
    say = judged.failures.append
    with mounted(image) as disk:
        state = disk / "state"
        if promised is None and not (state / "journal").is_dir():
            return
        ledger = state / "journal"
        here = story(ledger) if any(ledger.glob("*.mmj")) else Story({}, {})
        judged.lost += len(told.records) - len(here.records)
        for number, content in here.records.items():
            if told.records.get(number) != content:
                say(f"{where}: record {number} was never written like that")
                break
        verdict = verify_journal(ledger) if here.records else None
        if verdict is not None and verdict.damage:
            say(f"{where}: damage: {verdict.damage[:2]}")
        judged.torn += bool(verdict is not None and verdict.torn)
        end = read_ledger(ledger)
        if promised is not None:
            if end.commits < promised.commits:
                say(f"{where}: {end.commits} commits of {promised.commits} that were promised")
            due = promised.wall - round((COMMIT_S + LAG_S) * 1e9)
            late = [name for name, ts in told.fills.items() if ts < due and name not in here.fills]
            if late:
                say(f"{where}: {len(late)} fills older than {COMMIT_S + LAG_S} s are lost")
        _judge_ids(state, end.run, say, where)
        _judge_session(end, here, say, where)
        if end.run is not None:
            _go_on(ledger, say, where)


def _judge_ids(state: Path, run: Run | None, say: Any, where: str) -> None:
    """No run's ids can come again, and the latch says what it said."""
    epoch = int((state / "epoch").read_text()) if (state / "epoch").exists() else 0
    if run is not None:
        if epoch < int(run.cl_ord_prefix[-8:], 16):
            say(f"{where}: epoch {epoch}, but {run.cl_ord_prefix} has been used")
        if f"0x{(state / 'instance').read_text().strip()}" != run.cl_ord_prefix[:10]:
            say(f"{where}: another instance")
        latch = Latch(state / "latch.json").load()
        if latch.latched or not latch.valid:
            say(f"{where}: the latch says {latch.reason}")


def _judge_session(end: Any, here: Story, say: Any, where: str) -> None:
    """What a start would take up is exactly what the fills in this ledger come to."""
    found = resumption(end, Memory(), SCOPE, 0)
    if found is None:
        return
    kept = found[1]
    counted = kept.state.fills + len(kept.later)
    if counted != len(here.fills):
        say(f"{where}: a start counts {counted} fills, the ledger has {len(here.fills)}")


def _go_on(ledger: Path, say: Any, where: str) -> None:
    """A new run begins on what the cut left, and can be read again without a trace of it."""
    end = read_ledger(ledger)
    found = end.sessions[SCOPE].session
    out = Ledger(ledger, commit_s=1.0, budget=Budget(DiskLimits(2**30, 2**30, 0)))
    out.open(end, found, [(RUN, Run("0x0", SCOPE, "", "", "", 0, Ending(FIRST)))])
    if not out.close(Ending(CLEAN), 10):
        say(f"{where}: a new run could not end")
    verdict = verify_journal(ledger)
    if verdict.damage or not verdict.clean_stop:
        say(f"{where}: after a new run: {verdict.damage[:2]}, clean {verdict.clean_stop}")


def chosen(log: DiskLog, many: int, dice: random.Random) -> list[Cut]:
    """Return so many cuts, in their order: each place as often as any other, or once."""
    places = cuts(log, between=2)
    whole, rest = divmod(many, len(places))
    return sorted([*places * whole, *dice.sample(places, rest)])


def variants(many: int) -> Iterator[Mapping[str, Any]]:
    """Return the settings of so many images, each with its own seed."""
    for number in range(many):
        yield dict(VARIANTS[number % len(VARIANTS)]) | {"seed": number}


def campaign(folder: Path, many: int, seed: int = 1, runs: Sequence[tuple[float, int]] = RUNS) -> Judged:
    """Return what so many cuts in the log of a real run showed."""
    judged = Judged()
    with LoggedDisk(folder / "disk", mkfs=MKFS, options=OPTIONS) as disk:
        record(disk, folder, runs)
        told = story(disk.path / "state" / "journal")
        if len(told.fills) < 20:
            judged.failures.append(f"only {len(told.fills)} fills: this shows nothing")
    (folder / "replay").mkdir()
    with DiskLog(disk.log) as log, Replay(log, disk.base, folder / "replay") as replay:
        places = chosen(log, many, random.Random(seed))
        for number, (cut, settings) in enumerate(zip(places, variants(len(places)), strict=True)):
            marks = log.marks(cut.at)
            promised = msgspec.json.decode(marks[-1], type=Promise) if marks else None
            image = replay.image(cut.at, **settings)
            where = f"cut {cut.at} ({cut.why}), {settings}"
            judge(image, promised, told, judged, where)
            if number % 20 == 0 and (problems := fsck(image)):
                judged.failures.append(f"{where}: e2fsck: {problems[:3]}")
    return judged


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0 if every promise was kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuts", type=int, default=1000)
    parser.add_argument("--guests", type=int, default=0, help="cuts in an emulated Pi")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(argv)
    not_run: list[str] = []
    with tempfile.TemporaryDirectory(prefix="mmpi-cut-") as folder:
        judged = campaign(Path(folder), args.cuts, args.seed)
        if judged.cuts < args.cuts:
            not_run.append(f"{args.cuts - judged.cuts} cuts: the log has {judged.cuts} places")
        if args.guests:
            from guest_cuts import guest_campaign

            guest = guest_campaign(Path(folder) / "guest", args.guests, args.seed)
            judged.failures += guest.failures
        else:
            not_run.append("cuts in an emulated Pi (--guests)")
    for failure in judged.failures[:20]:
        print(failure, file=sys.stderr)
    done = {"cuts": judged.cuts, "guests": args.guests, "torn": judged.torn, "failures": len(judged.failures)}
    print(json.dumps(done | {"not_run": not_run}))
    return 1 if judged.failures else 0


if __name__ == "__main__":
    sys.exit(main())
