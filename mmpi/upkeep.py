"""Upkeep: what an account must ask of its venue beside quoting: the dead-man switch, and how many requests are left.

Invariant: nothing is asked but in the handling of an event (I5), and nothing where orders go to a simulated exchange.
It must not know orders, prices or wires.
"""

from typing import TypeAlias

from mmpi.actions import Action, RequestBudget, ScheduleCancel
from mmpi.deadman import REFRESH, STRETCHED, DeadMan, DeadManState
from mmpi.events import DEAD_MAN, RATE_LIMIT, ExecReport
from mmpi.governor import BACK_OFF, HEAVY, Governor, GovernorConfig, GovernorState
from mmpi.instrument import Nanos
from mmpi.structs import Frozen, State


class UpkeepConfig(Frozen, frozen=True):
    """What the venue offers and asks for."""

    governor: GovernorConfig
    dead_man: bool = True
    """The venue has a dead-man switch."""
    amends: bool = False
    """An order may be replaced by another in one step."""


MaybeUpkeep: TypeAlias = UpkeepConfig | None
"""None = a simulated exchange. (A name, because of `X | None` in a struct mypyc would leave nothing.)"""


class UpkeepState(State, frozen=True):
    """An Upkeep as plain values."""

    dead_man: DeadManState
    governor: GovernorState
    wake: Nanos


class Upkeep:
    """One account's; `config` None = a simulated exchange, which has neither limits nor a switch, and ends with us."""

    def __init__(self, config: "UpkeepConfig | None") -> None:
        self.at_venue = config is not None
        self.amends = config is not None and config.amends
        self.dead_man = DeadMan(config is not None and config.dead_man)
        self.governor = Governor(config.governor if config is not None else GovernorConfig(weight_per_minute=0))
        self.wake: Nanos = 0
        """When `step` is to be called again at the latest; 0 = never."""

    def unarmed(self, now: Nanos) -> bool:
        """Return True if the smaller limits apply: real orders rest at a venue that would not cancel for us."""
        return self.at_venue and not self.dead_man.covers(now)

    def waits(self, now: Nanos) -> str:
        """Return why quoting waits for the dead-man switch, "" = it does not."""
        return "" if self.dead_man.permits(now) else "dead-man switch: not set yet"

    def step(self, now: Nanos, connected: bool, wanted: bool, idle: bool) -> list[Action]:
        """Return what to ask the venue now; see DeadMan.step for `wanted` and `idle`."""
        if not (self.at_venue and connected):
            self.wake = 0
            return []
        actions: list[Action] = []
        time = self.dead_man.step(now, wanted, idle, STRETCHED if self.governor.step else REFRESH)
        if time >= 0:
            self.governor.spend(1, 1, now)
            actions.append(ScheduleCancel(time))
        if self.governor.wants_word(now):
            self.governor.spend(0, HEAVY, now)
            actions.append(RequestBudget())
        # What is spent until then may bring the question forward.
        self.wake = min(self.governor.next_word(), now + BACK_OFF)
        if switch := self.dead_man.wake(now, wanted, idle):
            self.wake = min(self.wake, switch)
        return actions

    def heed(self, report: ExecReport) -> bool:
        """Return True if the venue's word on an order tells that the dead-man switch is spent; take what it tells."""
        now = report.recv_ts
        fired = report.reason == DEAD_MAN
        if fired:
            self.dead_man.fired(now, report.exch_ts or now)
        elif report.reason.startswith(RATE_LIMIT):
            self.governor.limited(now)
        else:
            return False
        # There is something to ask now.
        self.wake = now
        return fired

    def lost(self) -> None:
        """The connection is gone."""
        self.dead_man.lost()

    def checkpoint(self) -> UpkeepState:
        """Return the state as plain values."""
        return UpkeepState(self.dead_man.checkpoint(), self.governor.checkpoint(), self.wake)

    def restore(self, state: UpkeepState) -> None:
        """Take the state that `checkpoint` returned."""
        self.dead_man.restore(state.dead_man)
        self.governor.restore(state.governor)
        self.wake = state.wake
