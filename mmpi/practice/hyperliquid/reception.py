"""What a request meets before the venue: the limits of its address, and faults; and the venue's clock.

Invariant: a request over REST and one over a WebSocket meet the same. It must not know sockets.
"""

import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final, Literal, TypeAlias

import msgspec

from mmpi.instrument import SECOND, Nanos
from mmpi.practice.hyperliquid import info
from mmpi.practice.hyperliquid.fault_plan import AS_SENT, TOO_MANY, ActionFate, FaultPlan
from mmpi.practice.hyperliquid.limits import Limits, action_weight, answer_weight, info_weight
from mmpi.practice.hyperliquid.messages import Json
from mmpi.practice.hyperliquid.streams import Topic
from mmpi.practice.hyperliquid.venue import Venue

Kind: TypeAlias = Literal["info", "action"]


class Verdict(msgspec.Struct, frozen=True):
    """What becomes of a request: refused with an HTTP status (0 = not), an action perhaps done nevertheless."""

    status: int = 0
    executed: bool = False
    fate: ActionFate = AS_SENT


GRANTED: Final = Verdict()


class Reception:
    """In front of one venue; `plan` may be replaced at any time."""

    def __init__(
        self,
        venue: Venue,
        plan: FaultPlan,
        limits: Limits,
        wall: Callable[[], Nanos] = time.time_ns,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self.venue = venue
        self.plan = plan
        self.limits = limits
        self.requests = 0
        self.wall = wall
        self._steady = steady

    def now(self) -> Nanos:
        """Return the time by the venue's clock, which a fault may put wrong."""
        return self.wall() + round(self.plan.skew_s(self._steady()) * SECOND)

    def over_rest(self, kind: Kind, body: Json, peer: str) -> Verdict:
        """Return what becomes of a request over REST."""
        weight = info_weight(body) if kind == "info" else action_weight(body)
        if not self.limits.weigh(peer, weight, self._steady()):
            return Verdict(TOO_MANY)
        return self.judge(kind, body)

    def judge(self, kind: Kind, body: Json) -> Verdict:
        """Return what becomes of a request that is within the limits."""
        self.requests += 1
        now = self._steady()
        status, executed = self.plan.error(now)
        if kind == "info":
            return Verdict(status) if status else GRANTED
        action = body.get("action")
        name = action.get("type") if isinstance(action, dict) else None
        fate = self.plan.action(name if isinstance(name, str) else "", now)
        if status:
            return Verdict(status, executed)
        return GRANTED if fate is AS_SENT else Verdict(fate=fate)

    def message(self, peer: str) -> str:
        """Return why a message over a WebSocket is one too many, or ""."""
        return self.limits.message(peer, self._steady())

    def refuse_socket(self, peer: str) -> tuple[int, str]:
        """Return the status and the reason that a new socket is refused with, 0 and "" having counted it."""
        if self.plan.refuses_socket(self._steady()):
            return HTTPStatus.SERVICE_UNAVAILABLE, "no new connections for a while"
        why = self.limits.connect(peer, self._steady())
        return (TOO_MANY, why) if why else (0, "")

    def answer(self, kind: Kind, body: Json, now: Nanos) -> Any:
        """Return the venue's answer; UnprocessableError if the request has no form that it knows."""
        if kind == "action":
            return self.venue.act(body, now)
        self.venue.tick(now)
        return info.answer(self.venue, body, now)

    def charge(self, body: Json, answer: Any, peer: str) -> None:
        """Add what an answer over REST weighs."""
        self.limits.charge(peer, answer_weight(body, answer), self._steady())

    def snapshot(self, topic: Topic, now: Nanos) -> object | None:
        """Return the first message of a new subscription, None if it has none."""
        return info.snapshot(self.venue, topic, now)
