"""Senses: what the guardian asks at each look, and the thread that does the slow reading for it.

Invariant: `present` never waits. It must not know what a cause leads to.
"""

import threading
from collections.abc import Callable, Mapping
from typing import Protocol

from mmpi.instrument import Nanos
from mmpi.runtime.service import say


class Sense(Protocol):
    """Something that sees causes on this box (mmpi.causes)."""

    def present(self, now: Nanos) -> Mapping[str, str]:
        """Return the causes that are there now, with a detail each."""
        ...


class Panel(Sense, Protocol):
    """Buttons and lamps. Its `present` never raises: a line that cannot be read is a cause."""

    def wants_arming(self, now: Nanos) -> str:
        """Return how a person at the box asked to arm, once for each time; "" = nobody did."""
        ...

    def show(self, sign: str, now: Nanos) -> None:
        """Show a sign from now on."""
        ...


class Rounds:
    """A thread that does one piece of work again and again, so that a slow disk or bus costs nobody else a moment."""

    def __init__(self, name: str, every_s: float, work: Callable[[], None]) -> None:
        self.failures = 0
        self.last_error = ""
        self.name = name
        self._every_s, self._work = every_s, work
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin; the first round at once."""
        self._thread.start()

    def close(self) -> None:
        """Begin no further round; one that hangs in the kernel is not waited for."""
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self._work()
            except Exception as error:
                self.failures += 1
                if repr(error) != self.last_error:
                    self.last_error = repr(error)
                    say(f"mmpi guardian: {self.name}: {self.last_error}")
            self._ended.wait(self._every_s)
