"""step(): the one function that live, paper and backtest call for every event.

Invariant: an event is in the journal before the engine sees it, an action before a gateway does (I2, I10).
It must not know which mode it runs in.
"""

from mmpi.engine import Engine
from mmpi.events import Event
from mmpi.ports import Gateway, Sink


def step(engine: Engine, sink: Sink, gateway: Gateway, event: Event) -> int:
    """Return how many actions the event caused; all are journalled and handed to the gateway."""
    sink.event(event)
    actions = engine.handle(event)
    if not actions:
        return 0
    for approved in actions:
        sink.action(approved)
    gateway.send(actions, event.recv_ts)
    return len(actions)


class NoJournal:
    """A sink that keeps nothing, for backtests without --journal."""

    def event(self, event: Event) -> None:
        """Drop the event."""

    def action(self, approved: object) -> None:
        """Drop the action."""
