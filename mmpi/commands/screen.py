"""Screen: a terminal that a picture can be drawn on, and whose keys are told at once.

Invariant: the terminal is left as it was found. It must not know what is drawn, or what a key means.
"""

import argparse
import asyncio
import contextlib
import os
import sys
import termios
import tty
from collections.abc import Callable, Iterator


def has_screen(args: argparse.Namespace) -> bool:
    """Return whether there is a terminal that a picture can be drawn on."""
    terminal = sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    return terminal and not args.json


@contextlib.contextmanager
def keys_of(on_key: Callable[[str], None]) -> Iterator[None]:
    """Have each key pressed on the terminal told at once; Ctrl-C stays a signal."""
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    running = asyncio.get_running_loop()

    def read() -> None:
        typed = os.read(terminal, 64).decode(errors="replace")
        if not typed:
            running.remove_reader(terminal)
        for key in typed:
            on_key(key)

    tty.setcbreak(terminal)
    running.add_reader(terminal, read)
    try:
        yield
    finally:
        running.remove_reader(terminal)
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
