"""step(): the one function that live, paper and backtest call for every event.

Invariant: an event is in the journal before the engine sees it, an action before a gateway does (I2, I10). Where the
journal cannot be written nothing is placed, and everything else goes on. It must not know which mode it runs in.
"""

from collections.abc import Callable, Sequence

from mmpi.actions import AmendOrder, Approved, NewOrder
from mmpi.engine import Engine
from mmpi.events import Event
from mmpi.instrument import Nanos
from mmpi.ports import Gateway, Sink

Refuse = Callable[[Sequence[Approved], Nanos, str], None]
"""Report orders as rejected."""


def _raise(actions: Sequence[Approved], now: Nanos, why: str) -> None:
    raise AssertionError(f"{len(actions)} orders at {now} could not be journalled: {why}")


def step(engine: Engine, sink: Sink, gateway: Gateway, event: Event, refuse: Refuse = _raise) -> int:
    """Return how many actions the event caused; all are journalled and handed to the gateway.

    Orders that could not be journalled go to `refuse` instead; a sink that may fail needs one.
    """
    sink.event(event)
    actions = engine.handle(event)
    if not actions:
        return 0
    lost = [approved for approved in actions if not sink.action(approved)]
    if lost:
        orders = [approved for approved in lost if isinstance(approved.action, NewOrder | AmendOrder)]
        refuse(orders, event.recv_ts, "the journal cannot be written")
        actions = [approved for approved in actions if not any(approved is order for order in orders)]
    gateway.send(actions, event.recv_ts)
    return len(actions)


class NoJournal:
    """A sink that keeps nothing, for backtests without --journal."""

    def event(self, event: Event) -> bool:  # noqa: ARG002 (the port's signature)
        """Drop the event."""
        return True

    def action(self, approved: object) -> bool:  # noqa: ARG002
        """Drop the action."""
        return True
