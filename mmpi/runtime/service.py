"""Service: what systemd is told about this process.

Invariant: telling never waits and never fails. It must not know what is told.
"""

import os
from collections.abc import Callable

import sdnotify


def notifier() -> Callable[[str], None]:
    """Return the function that tells systemd one line, such as READY=1; it does nothing where there is no systemd."""
    if "NOTIFY_SOCKET" not in os.environ:
        return lambda _: None
    systemd = sdnotify.SystemdNotifier()
    if systemd.socket is not None:
        systemd.socket.setblocking(False)
    tell: Callable[[str], None] = systemd.notify
    return tell
