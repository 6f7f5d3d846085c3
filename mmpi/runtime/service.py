"""Service: what systemd, and whoever reads stderr, is told about this process.

Invariant: telling never waits and never fails. It must not know what is told.
"""

import os
import select
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import sdnotify

STDERR: Final = 2


def notifier() -> Callable[[str], None]:
    """Return the function that tells systemd one line, such as READY=1; it does nothing where there is no systemd."""
    if "NOTIFY_SOCKET" not in os.environ:
        return lambda _: None
    systemd = sdnotify.SystemdNotifier()
    if systemd.socket is not None:
        systemd.socket.setblocking(False)
    tell: Callable[[str], None] = systemd.notify
    return tell


def say(text: str) -> None:
    """Write one line to stderr if it takes it now; a reader that is gone, or that does not read, loses it.

    A pipe that select calls writable takes PIPE_BUF bytes at once (pipe(7)).
    """
    with suppress(OSError):
        if select.select([], [STDERR], [], 0)[1]:
            os.write(STDERR, f"{text}\n".encode("utf-8", "replace")[: select.PIPE_BUF])
