"""SimVenue: a gateway with latency in front of the simulated exchange, for backtest, demo and paper.

Invariant: messages of one direction never overtake each other, and an order meets the market as it is when the order
arrives, so fills and cancels race as they do at a venue. Funding is paid on the position at its due time and told after
the way back. It must not know the engine or the wall clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from mmpi.actions import Action, Approved, CancelOrder, NewOrder, QueryOrder, RequestLatch
from mmpi.errors import LocalError
from mmpi.events import Event, ExecReport, ExecType, Funding, Mark, Reconciled
from mmpi.instrument import MILLISECOND, Nanos
from mmpi.sim.exchange import GONE, Matching, SimConfig
from mmpi.sim.funding import FundingSchedule
from mmpi.sim.l3 import SimEvent

if TYPE_CHECKING:
    import random

MAX_IN_FLIGHT: Final = 20_000
"""Messages under way in one direction: four for each order that can be live."""
OWNER: Final = ""


class SimVenue:
    """A Gateway; the exchange behind it belongs to it alone. The caller wakes it at `next_ts` with `due`."""

    def __init__(self, matching: Matching, config: SimConfig, rng: random.Random) -> None:
        self._matching = matching
        self._rng = rng
        self._latency_in = config.latency_in_ms
        self._latency_out = config.latency_out_ms
        self._jitter = config.jitter_ms
        self._funding = FundingSchedule(config.funding_price)
        self._arrivals: deque[tuple[Nanos, Action]] = deque()
        self._deliveries: deque[tuple[Nanos, ExecReport | Funding | Reconciled]] = deque()
        self._last_arrival: Nanos = 0
        self._last_delivery: Nanos = 0

    @property
    def next_ts(self) -> Nanos:
        """When the next message arrives at either end or funding falls due, 0 if nothing is under way."""
        first = self._funding.next_ts
        if self._arrivals and (first == 0 or self._arrivals[0][0] < first):
            first = self._arrivals[0][0]
        if self._deliveries and (first == 0 or self._deliveries[0][0] < first):
            first = self._deliveries[0][0]
        return first

    def send(self, actions: Sequence[Approved], now: Nanos) -> None:
        """Put actions on their way in the order given; what is no venue's business (a latch) is ignored."""
        for approved in actions:
            if not isinstance(approved.action, RequestLatch):
                self._last_arrival = max(self._last_arrival, now + self._delay(self._latency_in))
                self._arrivals.append((self._last_arrival, approved.action))
        if len(self._arrivals) > MAX_IN_FLIGHT:
            raise LocalError(f"more than {MAX_IN_FLIGHT} messages to the simulated exchange; call market() or due()")

    def market(self, event: SimEvent) -> None:
        """Let the exchange handle what arrives up to `event.recv_ts`, then the event itself."""
        self._execute(event.recv_ts)
        if isinstance(event, Mark):
            if event.instrument in self._matching.instruments:
                self._funding.on_mark(event)
            return
        reports = self._matching.on_market(event)
        if reports:
            self._deliver(reports, event.recv_ts)

    def due(self, now: Nanos) -> list[Event]:
        """Return the reports delivered up to `now`, in time order, `recv_ts` their time of delivery."""
        self._execute(now)
        events: list[Event] = []
        while self._deliveries and self._deliveries[0][0] <= now:
            ts, event = self._deliveries.popleft()
            events.append(msgspec.structs.replace(event, recv_ts=ts))
        return events

    def _execute(self, now: Nanos) -> None:
        """Let happen at the exchange what is due there up to `now`, in the order of time."""
        if 0 < self._funding.next_ts <= now:
            for payment in self._funding.due(now):
                self._arrive(payment.ts)
                lots = self._matching.position(OWNER, payment.instrument)
                if lots:
                    amount, ts = payment.amount(self._matching.instruments[payment.instrument], lots), payment.ts
                    self._deliver([Funding(ts, payment.instrument, ts, payment.name, amount)], ts)
        self._arrive(now)

    def _arrive(self, now: Nanos) -> None:
        while self._arrivals and self._arrivals[0][0] <= now:
            ts, action = self._arrivals.popleft()
            self._deliver(self._answer(action, ts), ts)

    def _deliver(self, events: Sequence[ExecReport | Funding | Reconciled], now: Nanos) -> None:
        """Put one message's events on their way back."""
        self._last_delivery = max(self._last_delivery, now + self._delay(self._latency_out))
        self._deliveries.extend((self._last_delivery, event) for event in events)
        if len(self._deliveries) > MAX_IN_FLIGHT:
            raise LocalError(f"more than {MAX_IN_FLIGHT} reports of the simulated exchange not collected; call due()")

    def _answer(self, action: Action, now: Nanos) -> Sequence[ExecReport | Reconciled]:
        match action:
            case NewOrder():
                return self._matching.place(action, OWNER, now)
            case CancelOrder():
                return self._cancel(action, now)
            case QueryOrder():
                return [self._fate(action, now)]
            case _:
                orders, positions = self._matching.open_orders(OWNER), self._matching.positions(OWNER)
                return [Reconciled(now, "sim", orders, positions)]

    def _cancel(self, action: CancelOrder, now: Nanos) -> list[ExecReport]:
        named = self._matching.find(OWNER, action.cl_ord_id) if not action.order_id else None
        order = named or self._matching.order(action.order_id)
        if order is not None:
            return self._matching.cancel(order.order_id, now)
        return [_answer_to(action, now, ExecType.CANCEL_REJECTED, GONE)]

    def _fate(self, action: QueryOrder, now: Nanos) -> ExecReport:
        """Return NEW for a live order, how it ended for a remembered one, NOT_FOUND otherwise."""
        live = self._matching.find(OWNER, action.cl_ord_id)
        order = live or self._matching.finished(OWNER, action.cl_ord_id)
        if order is None:
            return _answer_to(action, now, ExecType.NOT_FOUND, "")
        what, size = (ExecType.NEW, order.size) if order.done is None else (order.done, order.left)
        return ExecReport(
            now, order.instrument, now, order.cl_ord_id, order.order_id, what, order.side, order.price, size
        )

    def _delay(self, latency_ms: float) -> Nanos:
        return round((latency_ms + self._rng.random() * self._jitter) * MILLISECOND)


def _answer_to(action: CancelOrder | QueryOrder, now: Nanos, what: ExecType, reason: str) -> ExecReport:
    return ExecReport(now, action.instrument, now, action.cl_ord_id, action.order_id, what, reason=reason)
