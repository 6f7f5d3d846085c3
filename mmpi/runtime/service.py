"""Service: what systemd, and whoever reads stderr, is told about this process.

Invariant: telling never waits and never fails; the watchdog is fed by nothing but a call of `progress`.
It must not know what is told.
"""

import os
import select
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

import sdnotify

STDERR: Final = 2
_UNSAID: Final[deque[bytes]] = deque(maxlen=64)
MAX_STATUS: Final = 200
"""Characters of a status: what `systemctl status` shows on a line or two."""


def notifier() -> Callable[[str], None]:
    """Return the function that tells systemd one line, such as READY=1; it does nothing where there is no systemd."""
    if "NOTIFY_SOCKET" not in os.environ:
        return lambda _: None
    systemd = sdnotify.SystemdNotifier()
    if systemd.socket is not None:
        systemd.socket.setblocking(False)
    tell: Callable[[str], None] = systemd.notify
    return tell


class Systemd:
    """What a daemon tells systemd (sd_notify(3)); all of it is nothing where there is no systemd."""

    def __init__(
        self,
        environ: Mapping[str, str] = os.environ,
        tell: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tell, self._clock = tell or notifier(), clock
        self._every_s = _watchdog_s(environ) / 2
        self._fed = 0.0
        self._said = ""

    def ready(self) -> None:
        """Say that the service is up; the watchdog's time runs from here."""
        self._tell("READY=1")

    def progress(self) -> None:
        """Feed the watchdog, twice in its time at most. Only what really went on may call this (I6)."""
        if self._every_s and (now := self._clock()) - self._fed >= self._every_s:
            self._fed = now
            self._tell("WATCHDOG=1")

    def status(self, text: str) -> None:
        """Show what it is doing, if that changed."""
        line = " ".join(text.split())[:MAX_STATUS]
        if line != self._said:
            self._said = line
            self._tell(f"STATUS={line}")

    def extend(self, seconds: float) -> None:
        """Ask for so much more time to start or stop."""
        self._tell(f"EXTEND_TIMEOUT_USEC={round(seconds * 1e6)}")

    def stopping(self) -> None:
        """Say that the end has begun."""
        self._tell("STOPPING=1")


def _watchdog_s(environ: Mapping[str, str]) -> float:
    """Return the watchdog's time; 0 = there is none, or it is another process's (sd_watchdog_enabled(3))."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    microseconds = environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 1e6 if microseconds.isascii() and microseconds.isdigit() else 0.0


def say(text: str) -> None:
    """Write one line to stderr, and what it did not take before, as far as it takes it now; nobody waits for a reader.

    A slow one (a serial console) gets the lines late; one that is gone, or that does not read, loses the oldest. A pipe
    that select calls writable takes PIPE_BUF bytes at once (pipe(7)).
    """
    _UNSAID.append(f"{text}\n".encode("utf-8", "replace")[: select.PIPE_BUF])
    # IndexError: another thread has said it.
    with suppress(OSError, IndexError):
        while _UNSAID and select.select([], [STDERR], [], 0)[1]:
            os.write(STDERR, _UNSAID.popleft())
