"""Watch: what the guardian sees of the quoter, and the pidfd with which it ends it.

Invariant: the process that would be killed is the one that wrote the board, never a later one with its number.
It must not know why anything is stopped.
"""

import os
import select
import signal
from pathlib import Path
from typing import Final

import msgspec

from mmpi.instrument import MILLISECOND, SECOND, Nanos
from mmpi.runtime.board import StatusBoard, process_start

GLANCE_EVERY: Final[Nanos] = 200 * MILLISECOND
"""What it acts on, the quoter shows within a quarter of a second (mmpi.runtime.showing)."""


class _Market(msgspec.Struct, frozen=True):
    reason: str = ""


class _Requests(msgspec.Struct, frozen=True):
    thinning: float = 1.0


class Glance(msgspec.Struct, frozen=True):
    """The part of a quoter's summary (mmpi.status) that the guardian looks at."""

    mode: str = ""
    state: str = ""
    reason: str = ""
    deadman: str = ""
    flatten: str = ""
    instruments: dict[str, _Market] = {}
    requests: _Requests = _Requests()

    @property
    def is_degraded(self) -> bool:
        """Return True if it quotes, but not all, or not as often or as much as it should."""
        silent = any(market.reason for market in self.instruments.values())
        return silent or self.requests.thinning > 1 or self.deadman.startswith("REFUSED")



class QuoterWatch:
    """The quoter as its status board and the kernel show it. Times are monotonic Nanos."""

    def __init__(self, path: Path) -> None:
        self.died_at: Nanos = 0
        """When the last known quoter was first seen dead; 0 = alive, or none was ever seen."""
        self.pid = 0
        self._path = path
        self._board: StatusBoard | None = None
        self._start = 0
        self._pidfd = -1
        self._fresh_since: Nanos = 0
        self._glance: Glance | None = None
        self._glanced: Nanos = 0

    def poll(self, now: Nanos, timeout: Nanos) -> None:
        """Look at the board: take a pidfd of a new quoter, note a death, note since when beats are fresh."""
        if self._board is None:
            self._board = StatusBoard.open(self._path)
            if self._board is None:
                return
        if (self._board.pid, self._board.start_time) != (self.pid, self._start) and self._board.pid:
            self._adopt(self._board.pid, self._board.start_time, now)
        if self.pid and not self.died_at and not self._runs():
            self.died_at = now
        if now - self._glanced >= GLANCE_EVERY:
            self._glanced, self._glance = now, self._read()
        if not self.alive or self.age(now) >= timeout:
            self._fresh_since = 0
        elif not self._fresh_since:
            self._fresh_since = now

    @property
    def alive(self) -> bool:
        """Return True if a quoter is known and has not been seen dead."""
        return self.pid > 0 and self.died_at == 0

    def age(self, now: Nanos) -> Nanos:
        """Return how old the quoter's last beat is; a quoter that has not beaten yet is still starting: 0."""
        if self._board is None or self._board.beat_ns == 0:
            return 0
        return max(0, now - self._board.beat_ns)

    def beats(self, now: Nanos, timeout: Nanos) -> bool:
        """Return True if the quoter gave a sign of life within this time; one that has not begun does not."""
        return self._board is not None and self._board.beat_ns > 0 and self.age(now) <= timeout

    def steady(self, now: Nanos) -> bool:
        """Return True if beats have been fresh for one second."""
        return self._fresh_since > 0 and now - self._fresh_since >= SECOND

    def acknowledged(self, generation: int) -> bool:
        """Return True if the quoter says that it obeys this halt word (or a later one)."""
        return self._board is not None and self._board.acknowledged >= generation

    def glance(self) -> Glance | None:
        """Return what the quoter last said of itself, None = nothing that can be read."""
        return self._glance

    def kill(self) -> bool:
        """Return True if SIGKILL was sent."""
        return self.send(signal.SIGKILL)

    def send(self, number: int) -> bool:
        """Return True if the signal was sent, to that very process."""
        if self._pidfd < 0 or not self.alive:
            return False
        try:
            signal.pidfd_send_signal(self._pidfd, number)
        except ProcessLookupError:
            return False
        return True

    def _adopt(self, pid: int, start: int, now: Nanos) -> None:
        """Take a new quoter's pidfd; OSError if there is none to be had, as that does not make a quoter dead."""
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            pidfd = -1
        if pidfd >= 0 and process_start(pid) != start:
            # The number belongs to somebody else by now.
            os.close(pidfd)
            pidfd = -1
        if self._pidfd >= 0:
            os.close(self._pidfd)
        self.pid, self._start, self._pidfd = pid, start, pidfd
        self.died_at = 0 if pidfd >= 0 else now

    def _read(self) -> Glance | None:
        text = self._board.read() if self._board is not None else None
        try:
            return msgspec.json.decode(text, type=Glance) if text else None
        except msgspec.MsgspecError:
            return None

    def _runs(self) -> bool:
        return self._pidfd >= 0 and not select.select([self._pidfd], [], [], 0)[0]
