"""Scenarios: what may happen to a box, and what is promised then; each is played on every rig that can."""

from collections.abc import Callable
from typing import Final, NamedTuple

from hil.stage import Stage

SHORT: Final = frozenset({"press_while_quoting", "power_cut_while_quoting"})
"""What is played where there are minutes only, as in CI: the button, the power."""


class Scenario(NamedTuple):
    """One story: what it needs of a rig, what it promises, and the seconds within which no order may be left."""

    name: str
    promise: str
    needs: frozenset[str]
    limit_s: float | None
    """Of exposure; None = the promise is another."""
    play: Callable[[Stage], None]


ALL: dict[str, Scenario] = {}


def scenario(promise: str, *needs: str, limit_s: float | None = None) -> Callable[[Callable[[Stage], None]], Scenario]:
    """Have a function be a scenario; its name and its docstring are the story's."""

    def take(play: Callable[[Stage], None]) -> Scenario:
        made = Scenario(play.__name__, promise, frozenset(needs), limit_s, play)
        ALL[made.name] = made
        return made

    return take


def load() -> dict[str, Scenario]:
    """Return all scenarios, by their names."""
    from hil.scenarios import button, clock, host, kernel, outside, power, processes, setup, storage  # noqa: F401

    return ALL
