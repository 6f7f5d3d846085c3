"""Facts: looks at the quoter's board and asks the guardian, and makes a snapshot of both.

Invariant: reading the board touches memory only, and a guardian that hangs makes nobody wait here: its last answer
grows old, and after OLD_S it is silent. It must not know who is told.
"""

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import msgspec

from mmpi.channels import Telling
from mmpi.errors import RemoteError
from mmpi.instrument import MONEY_SCALE
from mmpi.runtime import ipc
from mmpi.runtime.board import StatusBoard, process_start
from mmpi.runtime.memory import rss_mb
from mmpi.status import Summary
from mmpi.telemetry.fills import Fills
from mmpi.telemetry.payloads import middle
from mmpi.telemetry.snapshot import Exposure, Fill, GuardianView, QuoterView, Snapshot

ASK_S: Final = 0.5
"""How often the guardian is asked."""
ANSWER_S: Final = 1.5
OLD_S: Final = 2.0
"""An answer that is older is none: the lamps themselves show a fault by then."""
LOOK_S: Final = 1.0
"""How often it is looked whether the board is still the file at its path."""


class Guardian:
    """The guardian's last answer."""

    def __init__(self, path: Path) -> None:
        """`path`: its control socket."""
        self._path: Final = path
        self._status: dict[str, Any] | None = None
        self._at = 0.0
        self.error = ""

    async def run(self) -> None:
        """Ask, for ever."""
        while True:
            began = time.monotonic()
            try:
                async for answer in ipc.call(self._path, {"cmd": "status", "remote": True}, ANSWER_S):
                    self._status, self._at, self.error = answer, began, ""
            except RemoteError as error:
                self.error = str(error)
            await asyncio.sleep(max(0.0, began + ASK_S - time.monotonic()))

    def view(self, now: float) -> GuardianView | None:
        """Return its last answer with the age of that, None if it is silent."""
        age = now - self._at
        return GuardianView(age, self._status) if self._status is not None and age <= OLD_S else None


class Facts:
    """Everything that telemetry knows."""

    def __init__(self, telling: Telling, guardian: Guardian, counters: "Counter[str]") -> None:
        self.fills: Final = Fills()
        self.fresh: list[Fill] = []
        """Fills that the last look found new, or complete."""
        self._telling, self._guardian, self._counters = telling, guardian, counters
        self._board: StatusBoard | None = None
        self._inode: tuple[int, int] = (0, 0)
        self._due = 0.0
        self._summary: Summary | None = None
        self._sequence = 0
        self._began: Final = time.monotonic()
        self._version: Final = version("mmpi")

    def look(self, clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time) -> Snapshot:
        """Return what is known now."""
        now, at = clock(), wall()
        self._find_board(now)
        guardian = self._guardian.view(now)
        quoter = self._quoter(now, guardian)
        summary = quoter.summary
        self._sequence += 1
        exposures: dict[str, Exposure] = {}
        self.fresh = []
        if summary is not None and self._board is not None:
            # Words of a quoter that is gone say nothing about the mid now.
            live = quoter.age_s is not None and quoter.age_s <= OLD_S
            mids = {name: middle(each) if live else None for name, each in summary.instruments.items()}
            exposures = self._exposures(summary)
            run = (self._board.pid, self._board.start_time)
            self.fresh = self.fills.look(summary, run, mids, now, at)
        self._counters["fills_missed"] = self.fills.missed
        return Snapshot(
            device=self._telling.device_id,
            version=self._version,
            sequence=self._sequence,
            at=at,
            monotonic=now,
            uptime_s=now - self._began,
            quoter=quoter,
            guardian=guardian,
            exposures=exposures,
            fills=self.fills.all(),
            adverse_bps=self.fills.adverse_bps(now),
            last_fill_s=self.fills.last_s(now),
            counters=dict(self._counters),
            rss_mb=rss_mb(),
        )

    def _quoter(self, now: float, guardian: GuardianView | None) -> QuoterView:
        board = self._board
        if board is None:
            return QuoterView(False, None, 0, None)
        age = max(0.0, now - board.beat_ns / 1e9) if board.beat_ns else None
        if guardian is not None:
            # It holds a descriptor of the process; a service of another user does not even see that there is one.
            alive = bool(guardian.status.get("quoter_alive"))
        else:
            start = process_start(board.pid)
            alive = start == board.start_time if start is not None else age is not None and age <= OLD_S
        self._take(board)
        return QuoterView(alive, age, board.pid, self._summary)

    def _take(self, board: StatusBoard) -> None:
        """Decode the newest status; one that cannot be read is counted, and the last one stays."""
        text = board.read()
        if text is None:
            return
        try:
            self._summary = msgspec.json.decode(text, type=Summary)
        except msgspec.MsgspecError:
            self._counters["status_unreadable"] += 1

    def _exposures(self, summary: Summary) -> dict[str, Exposure]:
        limit = self._telling.risk.max_position / MONEY_SCALE
        found = {}
        for name, each in summary.instruments.items():
            if (mid := middle(each)) is not None:
                notional = float(each.position) * mid
                found[name] = Exposure(notional, abs(notional) / limit)
        return found

    def _find_board(self, now: float) -> None:
        """Map the board that is at the path now: the folder may have been made anew."""
        if self._board is not None and now < self._due:
            return
        self._due = now + LOOK_S
        try:
            found = os.stat(self._telling.paths.status)
        except OSError:
            return
        if (found.st_dev, found.st_ino) != self._inode:
            self._board = StatusBoard.open(self._telling.paths.status)
            self._inode = (found.st_dev, found.st_ino) if self._board is not None else (0, 0)
