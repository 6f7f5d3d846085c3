"""Clock synchronisation: whether the kernel holds the system's clock for right.

Invariant: asking changes nothing and needs no right. It must not know venues.

Source: adjtimex(2): STA_UNSYNC, set at boot and by every service that has lost its source of time; TIME_ERROR.
"""

import ctypes
from collections.abc import Callable
from typing import Any, Final

STA_UNSYNC: Final = 0x0040
TIME_ERROR: Final = 5


class Timex(ctypes.Structure):
    """The head of struct timex, and more room than the rest of it takes; `modes` 0 = only ask."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 256),
    )


def is_synchronised(adjtimex: Callable[[Any], int] | None = None) -> bool | None:
    """Return whether chrony, systemd-timesyncd or the like keeps the clock right; None where the kernel does not say.

    `adjtimex` is the C library's.
    """
    told = Timex()
    try:
        state = (adjtimex or ctypes.CDLL(None).adjtimex)(ctypes.byref(told))
    except (OSError, AttributeError):
        return None
    if state < 0:
        return None
    return state != TIME_ERROR and not told.status & STA_UNSYNC
