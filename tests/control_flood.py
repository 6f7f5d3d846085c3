"""A process that floods a control socket: python control_flood.py KIND SOCKET SECONDS [THREADS].

pipe: one connection a thread, questions without end, answers read and thrown away. connect: a connection for each
question, and away before the answer comes.
"""

import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

QUESTION = b'{"cmd":"status"}\n'
AT_ONCE = 100
RATE = 10_000
"""Questions a second, all threads together."""


def main(kind: str, path: Path, seconds: float, threads: int) -> None:
    """Flood, and print how many questions were sent."""
    end, sent = time.monotonic() + seconds, [0] * threads
    flood: Callable[[Path, float, list[int], int], None] = {"pipe": pipe, "connect": connect}[kind]
    workers = [threading.Thread(target=flood, args=(path, end, sent, i), daemon=True) for i in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(seconds + 5)
    print(sum(sent), flush=True)


def pipe(path: Path, end: float, sent: list[int], number: int) -> None:
    """Ask on one connection, a new one when it is closed."""
    while time.monotonic() < end:
        with socket.socket(socket.AF_UNIX) as link:
            try:
                link.connect(str(path))
                link.settimeout(1)
                threading.Thread(target=drain, args=(link,), daemon=True).start()
                while time.monotonic() < end:
                    link.sendall(QUESTION * AT_ONCE)
                    sent[number] += AT_ONCE
                    time.sleep(AT_ONCE * len(sent) / RATE)
            except OSError:
                time.sleep(0.01)


def drain(link: socket.socket) -> None:
    """Read and throw away."""
    try:
        while link.recv(65536):
            pass
    except OSError:
        return


def connect(path: Path, end: float, sent: list[int], number: int) -> None:
    """Connect for each question; wait only where the kernel makes one wait."""
    while time.monotonic() < end:
        with socket.socket(socket.AF_UNIX) as link:
            try:
                link.connect(str(path))
                link.sendall(QUESTION)
                sent[number] += 1
            except OSError:
                time.sleep(0.001)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]) if len(sys.argv) > 4 else 1)
