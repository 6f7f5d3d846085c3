"""Memory: how much of the machine's this process holds.

Invariant: asking costs one read of the kernel's own figures. It must not know who asks.
"""

import os
from typing import Final

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


_open: tuple[int, int] = (0, -1)
"""The process that opened its figures, and the descriptor: to open them costs more than to read them."""


def rss_mb() -> float:
    """Return this process's resident memory in MB (10^6 bytes); source: proc_pid_statm(5), second field, pages."""
    global _open
    try:
        if _open[0] != os.getpid():
            # A child has its parent's descriptor, which tells of the parent.
            _open = os.getpid(), os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        return int(os.pread(_open[1], 128, 0).split()[1]) * _PAGE / 1e6
    except OSError:
        return 0.0
