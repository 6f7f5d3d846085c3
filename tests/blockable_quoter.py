"""A quoter whose interpreter can be held: SIGUSR1 starts a thread that keeps the GIL for about a minute.

One regular expression that backtracks 2^33 times runs inside one C call, so no other thread gets a turn: the loop is
blocked as by a badly written extension, while the process is alive and its sockets are open.
"""

import re
import signal
import sys
import threading

from mmpi.cli import main


def _hold(*_: object) -> None:
    threading.Thread(target=lambda: re.match("(a+)+$", "a" * 33 + "b"), daemon=True).start()


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, _hold)
    sys.exit(main())
