"""Gateways of the quoter process: the last place where a halt is looked at before anything leaves.

Invariant: the halt word is read immediately before every write of an order; what is held back is reported as rejected.
It must not decide anything else.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

from mmpi.actions import (
    AmendOrder,
    Approved,
    CancelOrder,
    NewOrder,
    QueryOrder,
    RequestLatch,
    ScheduleCancel,
)
from mmpi.events import DeadManReport, ExecReport, ExecType
from mmpi.instrument import Nanos
from mmpi.ports import Gateway, Session
from mmpi.runtime.board import HaltWord
from mmpi.runtime.websocket import Link

Unsent: TypeAlias = ExecReport | DeadManReport
"""What the engine is told about an action that did not leave."""


class Wire(Session, Protocol):
    """A session that can say what is under way."""

    def is_full(self, now: Nanos) -> bool:
        """Return whether so much is unanswered that no new order may be sent."""
        ...

    def withdraw(self) -> None:
        """Forget the frame built last: it was not sent."""
        ...


class VenueGateway:
    """To a venue: frames through a link. `unsent` holds reports for the loop about what did not leave."""

    def __init__(self, session: Wire, link: Link, halt: HaltWord | None, on_latch: Callable[[str], None]) -> None:
        self.unsent: deque[Unsent] = deque()
        self._session, self._link, self._halt, self._on_latch = session, link, halt, on_latch

    def send(self, actions: Sequence[Approved], now: Nanos) -> None:
        """Write cancels and questions, then amends and orders, unless the halt word forbids those."""
        amends = [approved for approved in actions if isinstance(approved.action, AmendOrder)]
        places = [approved for approved in actions if isinstance(approved.action, NewOrder)]
        if len(amends) + len(places) < len(actions):
            self._others([each for each in actions if not isinstance(each.action, AmendOrder | NewOrder)], now)
        for entries in (amends, places):
            if entries:
                self._enter(entries, now)

    def refuse(self, actions: Sequence[Approved], now: Nanos, why: str) -> None:
        """Report orders as rejected: they must not leave."""
        self.unsent.extend(_unsent(actions, now, ExecType.REJECTED, why))

    def _others(self, actions: Sequence[Approved], now: Nanos) -> None:
        _ask_latch(actions, self._on_latch)
        for frame in self._session.send(actions, now):
            if not self._link.send(frame):
                self.unsent.extend(_unsent(actions, now, ExecType.LOST, "not connected"))
                return

    def _enter(self, entries: Sequence[Approved], now: Nanos) -> None:
        """Write the one frame of some orders; the halt word is read again when it is signed and about to leave."""
        full = self._session.is_full(now)
        why = "halted" if self._is_halted(entries) else ("too many requests in flight" if full else "")
        if not why:
            for frame in self._session.send(entries, now):
                why = "halted" if self._is_halted(entries) else ("" if self._link.send(frame) else "not connected")
                if why:
                    self._session.withdraw()
        if why:
            self.unsent.extend(_unsent(entries, now, ExecType.REJECTED, why))

    def _is_halted(self, entries: Sequence[Approved]) -> bool:
        return self._halt is not None and not _permits(self._halt, entries)


class PaperGateway:
    """To the simulated exchange, under the same halt word."""

    def __init__(self, venue: Gateway, halt: HaltWord | None, on_latch: Callable[[str], None]) -> None:
        self.unsent: deque[Unsent] = deque()
        self._venue, self._halt, self._on_latch = venue, halt, on_latch

    def send(self, actions: Sequence[Approved], now: Nanos) -> None:
        """Pass everything on; orders only while the halt word permits them."""
        _ask_latch(actions, self._on_latch)
        places = [approved for approved in actions if isinstance(approved.action, NewOrder)]
        if self._halt is not None and not _permits(self._halt, places):
            self.unsent.extend(_unsent(places, now, ExecType.REJECTED, "halted"))
            actions = [approved for approved in actions if not isinstance(approved.action, NewOrder)]
        self._venue.send(actions, now)

    def refuse(self, actions: Sequence[Approved], now: Nanos, why: str) -> None:
        """Report orders as rejected: they must not leave."""
        self.unsent.extend(_unsent(actions, now, ExecType.REJECTED, why))


def _permits(halt: HaltWord, entries: Sequence[Approved]) -> bool:
    """Return True if the halt word lets these orders pass: all of them, or those that all only reduce."""
    now = time.monotonic_ns()
    if halt.permits(now):
        return True
    only = all(isinstance(each.action, NewOrder) and each.action.reduce_only for each in entries)
    return only and halt.permits(now, reducing=True)


def _ask_latch(actions: Sequence[Approved], on_latch: Callable[[str], None]) -> None:
    for approved in actions:
        if isinstance(approved.action, RequestLatch):
            on_latch(approved.action.reason)


def _unsent(actions: Sequence[Approved], now: Nanos, what: ExecType, reason: str) -> list[Unsent]:
    reports: list[Unsent] = []
    for action in [approved.action for approved in actions]:
        if isinstance(action, NewOrder | CancelOrder | QueryOrder):
            reports.append(ExecReport(now, action.instrument, now, action.cl_ord_id, "", what, reason=reason))
        elif isinstance(action, AmendOrder):
            # The order that was to be replaced still rests, as far as we know: it is asked about.
            old = ExecReport(
                now, action.instrument, now, action.orig_cl_ord_id, "", ExecType.CANCEL_REJECTED, reason=reason
            )
            reports += [old, ExecReport(now, action.instrument, now, action.cl_ord_id, "", what, reason=reason)]
        elif isinstance(action, ScheduleCancel):
            reports.append(DeadManReport(now, "", action.time, ExecType.LOST, reason))
    return reports
