"""Gateways of the quoter process: the last place where a halt is looked at before anything leaves.

Invariant: the halt word is read immediately before every write of an order; what is held back is reported as rejected.
It must not decide anything else.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence

from mmpi.actions import Approved, CancelOrder, NewOrder, QueryOrder, RequestLatch
from mmpi.events import ExecReport, ExecType
from mmpi.instrument import Nanos
from mmpi.ports import Gateway, Session
from mmpi.runtime.board import HaltWord
from mmpi.runtime.websocket import Link


class VenueGateway:
    """To a venue: frames through a link. `unsent` holds reports for the loop about what did not leave."""

    def __init__(
        self, session: Session, link: Link, halt: HaltWord | None, on_latch: Callable[[str], None]
    ) -> None:
        self.unsent: deque[ExecReport] = deque()
        self._session, self._link, self._halt, self._on_latch = session, link, halt, on_latch

    def send(self, actions: Sequence[Approved], now: Nanos) -> None:
        """Write cancels and questions, then orders, unless the halt word forbids those."""
        places = [approved for approved in actions if isinstance(approved.action, NewOrder)]
        others = [approved for approved in actions if not isinstance(approved.action, NewOrder)]
        # Signed with the wall clock, which the venue compares with its own; `now` is the loop's steady time.
        wall = time.time_ns()
        if others:
            _ask_latch(others, self._on_latch)
            for frame in self._session.send(others, wall):
                if not self._link.send(frame):
                    self._report(others, now, ExecType.LOST, "not connected")
                    break
        if places:
            for frame in self._session.send(places, wall):
                if self._halt is not None and not self._halt.permits(time.monotonic_ns()):
                    self._report(places, now, ExecType.REJECTED, "halted")
                    return
                if not self._link.send(frame):
                    self._report(places, now, ExecType.REJECTED, "not connected")
                    return

    def _report(self, actions: Sequence[Approved], now: Nanos, what: ExecType, reason: str) -> None:
        self.unsent.extend(_unsent(actions, now, what, reason))


class PaperGateway:
    """To the simulated exchange, under the same halt word."""

    def __init__(self, venue: Gateway, halt: HaltWord | None, on_latch: Callable[[str], None]) -> None:
        self.unsent: deque[ExecReport] = deque()
        self._venue, self._halt, self._on_latch = venue, halt, on_latch

    def send(self, actions: Sequence[Approved], now: Nanos) -> None:
        """Pass everything on; orders only while the halt word permits them."""
        _ask_latch(actions, self._on_latch)
        if self._halt is not None and not self._halt.permits(time.monotonic_ns()):
            places = [approved for approved in actions if isinstance(approved.action, NewOrder)]
            self.unsent.extend(_unsent(places, now, ExecType.REJECTED, "halted"))
            actions = [approved for approved in actions if not isinstance(approved.action, NewOrder)]
        self._venue.send(actions, now)


def _ask_latch(actions: Sequence[Approved], on_latch: Callable[[str], None]) -> None:
    for approved in actions:
        if isinstance(approved.action, RequestLatch):
            on_latch(approved.action.reason)


def _unsent(actions: Sequence[Approved], now: Nanos, what: ExecType, reason: str) -> list[ExecReport]:
    return [
        ExecReport(now, action.instrument, now, action.cl_ord_id, "", what, reason=reason)
        for action in (approved.action for approved in actions)
        if isinstance(action, NewOrder | CancelOrder | QueryOrder)
    ]
