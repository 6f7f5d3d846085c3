"""Plans: which troubles begin when, and how long each lasts, drawn from a seed and a number.

Invariant: the same seed, number and troubles give the same plan, and what holds the same thing never overlaps in one.
It must not know how a plan is played.
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from hil.stage import HOLD_S
from hil.troubles import ALL, BUTTON, MACHINE, Trouble

WHOLE_S: Final = 25.0
"""Within which all of a plan lies."""
FEWEST: Final = 2
MOST: Final = 5
TRIES: Final = 50
APART_S: Final = 0.5
AFTER_BOOT_S: Final = 3.0
PROMISING: Final = 0.6
"""How likely a trouble is one after which no order may be left; the others make that harder."""
NEAR: Final = 0.35
"""How likely a trouble begins in the moment in which another one begins or ends."""
NEAR_S: Final = 0.3
THEN_ARM: Final = 0.5
"""How likely a hand arms after a press."""
LONGEST_S: Final = 60.0
"""Of a plan that is read."""


class Step(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One trouble of a plan."""

    at_s: float
    trouble: str
    lasts_s: float

    @property
    def until_s(self) -> float:
        """Return when it is to end."""
        return round(self.at_s + self.lasts_s, 2)


Plan = tuple[Step, ...]


def told(plan: Iterable[Step]) -> str:
    """Return a plan in a line."""
    return ", ".join(f"{each.at_s:g} s {each.trouble} for {each.lasts_s:g} s" for each in plan)


def draw(seed: int, number: int, can: Iterable[str]) -> Plan:
    """Return the plan of a number, of troubles that a rig which has this can express."""
    dice = random.Random(f"{seed} {number}")
    known = sorted(playable(can))
    promising = [name for name in known if ALL[name].zero_s is not None]
    plan: list[Step] = []
    wanted = dice.randint(FEWEST, MOST)
    for _ in range(TRIES):
        if len(plan) >= wanted:
            break
        among = promising if promising and dice.random() < PROMISING else known
        step = _throw(dice, ALL[dice.choice(among)], plan)
        if not _fits(step, plan):
            continue
        plan.append(step)
        if BUTTON in ALL[step.trouble].holds and len(plan) < MOST and dice.random() < THEN_ARM:
            arm = Step(round(step.until_s + dice.uniform(0.2, 4), 2), "arm", round(dice.uniform(HOLD_S, HOLD_S + 1), 2))
            plan += [arm] * (arm.until_s <= WHOLE_S and _fits(arm, plan))
    return tuple(sorted(plan, key=lambda each: each.at_s))


def _throw(dice: random.Random, trouble: Trouble, plan: Sequence[Step]) -> Step:
    lasts = round(dice.uniform(trouble.shortest_s, trouble.longest_s), 2)
    at = dice.uniform(0, WHOLE_S - lasts)
    if plan and dice.random() < NEAR:
        other = dice.choice(plan)
        at = dice.choice((other.at_s, other.until_s)) + dice.uniform(-NEAR_S, NEAR_S)
    return Step(round(min(max(at, 0.0), WHOLE_S - lasts), 2), trouble.name, lasts)


def _fits(step: Step, plan: Iterable[Step]) -> bool:
    holds = ALL[step.trouble].holds
    apart = AFTER_BOOT_S if MACHINE in holds else APART_S
    return all(
        step.at_s > other.until_s + apart or other.at_s > step.until_s + apart
        for other in plan
        if holds & ALL[other.trouble].holds
    )


def clash(plan: Sequence[Step]) -> Plan:
    """Return two steps that hold the same thing at once, or none."""
    for number, step in enumerate(plan):
        for other in plan[number + 1 :]:
            together = step.at_s <= other.until_s and other.at_s <= step.until_s
            if together and ALL[step.trouble].holds & ALL[other.trouble].holds:
                return step, other
    return ()


def playable(can: Iterable[str]) -> set[str]:
    """Return the troubles that such a rig can express."""
    has = frozenset(can)
    return {name for name, each in ALL.items() if each.needs <= has}


def inexpressible(can: Iterable[str]) -> Mapping[str, str]:
    """Return the others, each with the reason."""
    has = frozenset(can)
    return {
        name: f"this rig has no {', '.join(sorted(each.needs - has))}"
        for name, each in sorted(ALL.items())
        if each.needs - has
    }


def read_plan(value: Any) -> Plan:
    """Return a plan that was written down; ValueError says what is wrong with it."""
    try:
        plan = msgspec.convert(value, Plan)
    except msgspec.ValidationError as error:
        raise ValueError(f"no plan: {error}; allowed: [[at_s, trouble, lasts_s], ...]") from None
    if not plan:
        raise ValueError("no plan: it has no step; allowed: at least one")
    for step in plan:
        if step.trouble not in ALL:
            raise ValueError(f"trouble {step.trouble}: unknown; allowed: {', '.join(sorted(ALL))}")
        if not (step.at_s >= 0 and step.lasts_s >= 0 and step.until_s <= LONGEST_S):
            raise ValueError(f"{told([step])}: outside of a plan; allowed: within 0 to {LONGEST_S:g} s")
    if both := clash(plan):
        raise ValueError(f"{told(both)}: both at once; allowed: one after the other")
    return tuple(sorted(plan, key=lambda each: each.at_s))

