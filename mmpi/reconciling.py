"""Reconciling: when the venue is to be asked for the account's whole picture, and what to believe when it differs.

Fills still on their way look like a drift of the position, so one is taken over only if a second answer repeats it;
what an account held before the first order of a run is taken over at once.

Invariant: a question is asked again until it is answered, and a drift is never forgotten: it is taken over and counted,
or asked about again. It must not know orders, wires or money.
"""

from collections.abc import Iterable, Mapping

from mmpi.actions import Approved, RequestReconcile
from mmpi.desk import Desk
from mmpi.governor import RECONCILE, Governor
from mmpi.instrument import Lots, Nanos
from mmpi.risk import RiskGate
from mmpi.standing import Standing
from mmpi.structs import State


class ReconcilingState(State, frozen=True):
    """A Reconciling as plain values."""

    asked: Nanos
    asked_last: bool
    taken: int
    rounds: int


class Reconciling:
    """The questions and drifts of one account."""

    def __init__(self, gate: RiskGate, standing: Standing, governor: Governor, patience: Nanos) -> None:
        self.asked_last = False
        """The last question of a stop is out."""
        self.taken = 0
        """Drifts taken over in mid-run."""
        self._asked: Nanos = 0
        self._rounds = 0
        """Answers in a row that showed a drift."""
        self._gate, self._standing, self._governor, self._patience = gate, standing, governor, patience

    def ask(self, reason: str, now: Nanos) -> Approved:
        """Return the question, whose weight is charged."""
        self._asked = now
        self._governor.spend(0, RECONCILE, now)
        return self._gate.pass_through(RequestReconcile(reason), now)

    def due(self) -> Nanos:
        """Return when to ask again because the venue owes an answer; 0 = it owes none."""
        standing = self._standing
        owed = self.asked_last or not (standing.reconciled or (standing.halt and not standing.flatten))
        return self._asked + self._patience if owed and standing.connected and not standing.stopped else 0

    def settle(self, desks: Iterable[Desk], positions: Mapping[str, Lots], unused: bool) -> bool:
        """Return True if every desk's position is the venue's now; `unused`: this run has placed nothing yet."""
        settled = True
        for desk in desks:
            drift = positions.get(desk.instrument.name, 0) - desk.position.lots - desk.carry
            if drift and not self._take_over(desk, drift, unused):
                settled = False
            desk.drift = drift
            desk.dirty = True
        self._rounds = 0 if settled else self._rounds + 1
        self.asked_last = self.asked_last and not settled
        self._standing.reconciled = settled
        return settled

    def checkpoint(self) -> ReconcilingState:
        """Return the state as plain values."""
        return ReconcilingState(self._asked, self.asked_last, self.taken, self._rounds)

    def restore(self, state: ReconcilingState) -> None:
        """Take the state that `checkpoint` returned."""
        self._asked, self.asked_last, self.taken, self._rounds = (
            state.asked, state.asked_last, state.taken, state.rounds,
        )  # fmt: skip

    def _take_over(self, desk: Desk, drift: Lots, unused: bool) -> bool:
        # Before any order of this run no fill of ours can be on its way.
        first = unused and desk.position.lots == 0 and desk.carry == 0
        if not first and (self._rounds == 0 or desk.drift != drift):
            return False
        if first:
            # The box was started with it, so it does not latch by itself.
            self._gate.accepted[desk.instrument.name] = abs(drift)
        else:
            self.taken += 1
        if desk.position.mid2:
            desk.position.carry(drift)
        else:
            desk.carry += drift
        return True
