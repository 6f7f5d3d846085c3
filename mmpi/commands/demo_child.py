"""A child process of the demo: its log, its standard output, its end.

Invariant: it dies with its parent, SIGKILL of the parent included. It must not know what the child does.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from mmpi.errors import MmpiError

_PR_SET_PDEATHSIG: Final = 1
"""Source: prctl(2), <linux/prctl.h>."""
_LIBC: Final = ctypes.CDLL(None)
LOG_LINES: Final = 12
"""Lines of a child's log that are shown when it fails."""


class ChildError(MmpiError):
    """A child process failed; the exit code is the child's own where it gave one."""

    def __init__(self, text: str, exit_code: int) -> None:
        super().__init__(text)
        self.exit_code = exit_code if 0 < exit_code <= 4 else 1


class Child:
    """One process of ours, `mmpi WORDS`, with its log and its standard output in `folder`.

    It may be made in the main thread only, and while there is no other: the kernel takes the end of the thread that
    makes a child for the end of the parent.
    """

    def __init__(self, name: str, words: Sequence[str], folder: Path, environ: Mapping[str, str]) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self.out = folder / f"{name}.out"
        self.started = time.monotonic()
        with self.log.open("ab") as log, self.out.open("wb") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mmpi", *words],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                env=environ,
                process_group=0,  # Ctrl-C is for the demo, which ends its children in order.
                preexec_fn=_dying_with(os.getpid()),
            )

    @property
    def pid(self) -> int:
        """Return the process id."""
        return self._process.pid

    @property
    def code(self) -> int | None:
        """Return the exit code, negative for a signal; None while it runs."""
        return self._process.poll()

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if it still runs."""
        self._process.send_signal(number)

    def end(self) -> None:
        """Kill it, and what it started, if it still runs; wait until it is gone."""
        if self.code is None:
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()

    def check(self) -> None:
        """Raise ChildError if it has ended."""
        if self.code is not None:
            raise self.failure("ended")

    def failure(self, what: str) -> ChildError:
        """Return the error that says what is wrong with it and shows the end of its log."""
        code = self.code
        how = f" with exit code {code}" if code is not None and code >= 0 else f" by signal {-code}" if code else ""
        lines = self.log.read_text(errors="replace").splitlines()[-LOG_LINES:]
        return ChildError("\n".join([f"the {self.name} {what}{how}; the end of its log:", *lines]), code or 1)


def _dying_with(parent: int) -> Callable[[], None]:
    """Return what a new child does first: have itself killed when `parent` dies, and not start if it is dead already.

    The setting survives exec (prctl(2)).
    """

    def prepare() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return prepare
