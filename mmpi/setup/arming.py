"""Arming: the one latch file that nobody's hand made (I3): that of a box that is set up for play money.

Invariant: it is made only where there has never been one; a latch that exists, whatever is in it, is never touched.
It must not know what a latch stops.
"""

import grp
import os
import pwd
from contextlib import suppress
from pathlib import Path
from typing import Final

from mmpi.device.durable import MODE
from mmpi.device.latch import Latch

STATE: Final = "mmpi"
LATCH: Final = "latch.json"
BY: Final = "first set-up"
REASON: Final = "a new box that trades with play money"
USER: Final = "mmpi-guardian"
GROUP: Final = "mmpi"
FOLDER_MODE: Final = 0o2770
"""Root's and the group's (docs/service.md)."""


def has_latch(data: Path) -> bool:
    """Return whether there is a latch file, or anything in its place."""
    return os.path.lexists(data / STATE / LATCH)


def is_ours(data: Path) -> bool:
    """Return whether the box is armed, and by nobody but the set-up."""
    state = Latch(data / STATE / LATCH).load()
    return not state.latched and state.by == BY


def arm(data: Path, now: float) -> None:
    """Make the latch file, armed; DeviceError or OSError."""
    path = data / STATE / LATCH
    if not path.parent.is_dir():
        os.mkdir(path.parent)
        _give(path.parent, "root", FOLDER_MODE)
    Latch(path).arm(BY, REASON, int(now * 1e9))
    _give(path, USER, MODE)


def _give(path: Path, user: str, mode: int) -> None:
    """Set a path's rights whatever the umask, and its owners, where we are root and both exist.

    By its descriptor: the group may write in the folder, and a link in the path's place is not to be followed.
    """
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.geteuid() == 0:
            with suppress(KeyError):
                os.fchown(file, pwd.getpwnam(user).pw_uid, grp.getgrnam(GROUP).gr_gid)
        # Last, as a change of owners takes set-group-id away.
        os.fchmod(file, mode)
    finally:
        os.close(file)
