"""Hyperliquid's session and the order store in a storm: lost, late, doubled and swapped messages, reconnections.

pytestmark = pytest.mark.slow

The venue here is a few lines that take what the session signed and say what the venue would say; everything between
the two goes astray as the dice say.
"""

import json
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_venues_hyperliquid_session import PREFIX, answer, channel, cloid, new_session, order, statuses

from mmpi.actions import Action, AmendOrder, Approved, CancelOrder, NewOrder, QueryOrder, RequestReconcile
from mmpi.events import Event, ExecReport, Reconciled
from mmpi.instrument import BUY, MILLISECOND, SECOND
from mmpi.orders import Order, OrderStore, OrdStatus

START = 1_700_000_000 * SECOND
PATIENCE = 2500 * MILLISECOND
"""Longer than an action is valid (2 s), as the settings demand."""
MISSING = "Order was never placed, already canceled, or filled."
WORKING = (OrdStatus.NEW, OrdStatus.PARTIALLY_FILLED)


@dataclass
class Resting:
    """An order at the venue; sizes in lots of 0.00001."""

    oid: int
    cloid: str
    left: int
    status: str = "open"


@dataclass
class Venue:
    """The truth about the account: one coin, buys only."""

    dice: Random
    named: bool
    """Fills name the order's cloid."""
    orders: dict[str, Resting] = field(default_factory=dict)
    fills: list[dict[str, Any]] = field(default_factory=list)
    position: int = 0
    said: list[bytes] = field(default_factory=list)
    """Frames of the streams that are to be sent."""

    def resting(self) -> list[Resting]:
        """Return what is live."""
        return [each for each in self.orders.values() if each.status == "open"]

    def take(self, frame: bytes, now: int) -> bytes:
        """Return the answer to a frame that arrived."""
        post = json.loads(frame)
        request, number = post["request"], post["id"]
        if request["type"] == "info":
            return answer(number, "info", {"type": "x", "data": self.told(request["payload"], now)})
        action = request["payload"]["action"]
        if request["payload"]["expiresAfter"] < now // MILLISECOND:
            return answer(number, "action", {"status": "err", "response": "Action already expired"})
        if action["type"] == "order":
            return statuses(number, *[self.place(each) for each in action["orders"]])
        if action["type"] == "batchModify":
            return statuses(number, *[self.modify(each) for each in action["modifies"]])
        return statuses(number, *[self.cancel(each.get("o", each.get("cloid"))) for each in action["cancels"]])

    def told(self, question: dict[str, Any], now: int) -> object:
        """Return the data of an info answer."""
        if question["type"] == "orderStatus":
            found = self.find(question["oid"])
            if found is None:
                return {"status": "unknownOid"}
            return {"status": "order", "order": self.shown(found, found.status)}
        if question["type"] == "frontendOpenOrders":
            return [self.shown(each, "open")["order"] for each in self.resting()]
        if question["type"] == "userFills":
            return self.fills[::-1]
        held = {"coin": "BTC", "szi": f"{self.position / 1e5:.5f}"}
        return {"assetPositions": [{"position": held}] if self.position else [], "time": now // MILLISECOND}

    def place(self, wire: dict[str, Any]) -> dict[str, Any]:
        """Place an order, refuse it, or fill it at once."""
        if self.dice.random() < 0.15:
            return {"error": "Post only order would have immediately matched, bbo was 1@2."}
        made = Resting(1000 + len(self.orders), wire["c"], round(float(wire["s"]) * 1e5))
        assert made.cloid not in self.orders, "a client id is used once"
        self.orders[made.cloid] = made
        self.tell(made)
        if self.dice.random() < 0.15:
            self.fill(made, made.left)
            return {"filled": {"oid": made.oid, "totalSz": wire["s"], "avgPx": "50000"}}
        return {"resting": {"oid": made.oid}}

    def cancel(self, name: int | str) -> object:
        """Cancel an order."""
        found = self.find(name)
        if found is None or found.status != "open":
            return {"error": MISSING}
        found.status = "canceled"
        self.tell(found)
        return "success"

    def modify(self, wire: dict[str, Any]) -> object:
        """Cancel an order and place its successor; if that is refused the old one is gone all the same, or not."""
        found = self.find(wire["oid"])
        if found is None or found.status != "open":
            return {"error": "Cannot modify canceled or filled order"}
        if self.dice.random() < 0.2:
            if self.dice.random() < 0.5:
                self.cancel(found.oid)
            return {"error": f"Error placing new order during modify: {MISSING}"}
        self.cancel(found.oid)
        placed = self.place(wire["order"])
        return placed if "error" not in placed else {"error": f"Error placing new order during modify: {placed}"}

    def fill(self, found: Resting, size: int) -> None:
        """Fill part of an order."""
        found.left -= size
        self.position += size
        tid = 1 + len(self.fills)
        one = {
            "coin": "BTC", "px": "50000", "sz": f"{size / 1e5:.5f}", "side": "B", "time": self.now // MILLISECOND,
            "oid": found.oid, "tid": tid, "crossed": False, "fee": "0", "feeToken": "USDC",
        } | ({"cloid": found.cloid} if self.named else {})  # fmt: skip
        self.fills.append(one)
        self.said.append(channel("userFills", {"user": "x", "fills": [one]}))
        if found.left == 0:
            found.status = "filled"
            self.tell(found)

    def find(self, name: int | str) -> Resting | None:
        """Return an order by either id."""
        return next((each for each in self.orders.values() if name in (each.oid, each.cloid)), None)

    def shown(self, found: Resting, status: str) -> dict[str, Any]:
        """Return an order as orderUpdates and orderStatus show it."""
        size = f"{found.left / 1e5:.5f}"
        return {"order": order(found.oid, found.cloid, sz=size), "status": status, "statusTimestamp": 1}

    def tell(self, found: Resting) -> None:
        """Say on the stream what became of an order."""
        self.said.append(channel("orderUpdates", [self.shown(found, found.status)]))

    now: int = START


class Storm:
    """The session, the store that follows it, and what is on its way between session and venue."""

    def __init__(self, dice: Random) -> None:
        self.dice = dice
        self.venue = Venue(dice, named=dice.random() < 0.5)
        self.session, self.store = new_session(), OrderStore(PATIENCE)
        self.now = START
        self.out: list[bytes] = []
        self.back: list[bytes] = []
        self.names: list[str] = []
        self.position = self.fills = 0
        self.late: list[tuple[int, bytes]] = []
        """What a lost connection had carried to the venue, and when the venue takes it."""
        self.picture: Reconciled | None = None
        self.drift = 0
        self.hear(self.session.receive(channel("userFills", {"user": "x", "fills": [], "isSnapshot": True}), self.now))

    def send(self, *actions: Action) -> None:
        """Send as the gateway does."""
        self.out += self.session.send([Approved(self.now, action) for action in actions], self.now)

    def place(self, count: int) -> None:
        """Place a batch."""
        made = [self.fresh() for _ in range(count)]
        self.send(*[NewOrder("BTC", name, BUY, 500_000, 100, 0) for name in made])

    def fresh(self) -> str:
        """Return a new id of an order that the store knows as sent."""
        self.names.append(cloid(1 + len(self.names)))
        self.store.sent(Order(self.names[-1], BUY, 500_000, 100, 0, self.now))
        return self.names[-1]

    def working(self) -> list[Order]:
        """Return the orders that may be cancelled or amended."""
        return [each for each in self.store.live.values() if each.status in WORKING]

    def cancel(self, some: list[Order]) -> None:
        """Cancel these."""
        for each in some:
            self.store.cancel_sent(each, self.now)
        if some:
            self.send(*[CancelOrder("BTC", each.cl_ord_id, each.order_id) for each in some])

    def amend(self, some: list[Order]) -> None:
        """Amend these."""
        for each in some:
            self.store.cancel_sent(each, self.now, replaced=True)
        if some:
            pairs = [(each, self.fresh()) for each in some]
            self.send(*[AmendOrder("BTC", o.cl_ord_id, o.order_id, name, BUY, 500_010, 100, 0) for o, name in pairs])

    def ask(self) -> None:
        """Ask about what the store doubts."""
        for each in self.store.timed_out(self.now):
            self.send(QueryOrder("BTC", each.cl_ord_id, each.order_id))

    def hear(self, events: list[Event]) -> None:
        """Take what the session says, as the engine does."""
        for event in events:
            if isinstance(event, ExecReport):
                if self.store.apply(event):
                    self.position += event.size
                    self.fills += 1
            elif isinstance(event, Reconciled):
                self.reconciled(event)

    def reconciled(self, event: Reconciled) -> None:
        """Take a picture; one that differs from our position is asked for again, as fills may be on their way."""
        self.picture = event
        self.store.reconcile(event.open_orders)
        drift = dict(event.positions)["BTC"] - self.position
        assert not drift or drift != self.drift, "the engine would take this over, and be wrong"
        self.drift = drift
        if drift:
            self.send(RequestReconcile("position"))

    def carry(self, loss: float) -> None:
        """Let one frame arrive at either end, or get lost, or come twice, or out of turn."""
        self.venue.now = self.now
        for when, frame in self.late:
            if when <= self.now:
                self.venue.take(frame, self.now)
        self.late = [each for each in self.late if each[0] > self.now]
        if self.out and self.dice.random() < 0.6:
            frame = self.out.pop(0)
            if self.dice.random() >= loss:
                said = self.venue.take(frame, self.now)
                self.back.append(said)
        self.back += self.venue.said
        self.venue.said.clear()
        if self.back:
            frame = self.back.pop(self.dice.randrange(min(4, len(self.back))))
            if self.dice.random() >= loss:
                self.hear(self.session.receive(frame, self.now))
                if self.dice.random() < loss:
                    self.back.append(frame)

    def reconnect(self) -> None:
        """Lose the connection with all that is on its way, and begin a new one."""
        # The venue takes some of it, late perhaps, and nobody hears the answer.
        kept = [frame for frame in self.out if self.dice.random() < 0.5]
        self.late += [(self.now + self.dice.randint(0, 3000) * MILLISECOND, frame) for frame in kept]
        self.out.clear()
        self.back.clear()
        self.venue.said.clear()
        self.hear(self.session.disconnected(self.now))
        self.store.lost()
        self.drift = 0
        self.session.connected(self.now)
        told = {"user": "x", "fills": self.venue.fills[::-1], "isSnapshot": True}
        self.back.append(channel("userFills", told))
        self.send(RequestReconcile("connected"))

    def step(self) -> None:
        """Do one thing."""
        roll = self.dice.random()
        if roll < 0.12:
            self.place(self.dice.randint(1, 3))
        elif roll < 0.2:
            self.cancel(self.working()[:2])
        elif roll < 0.27:
            self.amend(self.working()[:2])
        elif roll < 0.35 and (live := self.venue.resting()):
            self.venue.now = self.now
            found = self.dice.choice(live)
            self.venue.fill(found, self.dice.randint(1, found.left))
        elif roll < 0.37:
            self.reconnect()
        elif roll < 0.42:
            self.ask()
        else:
            self.now += self.dice.randint(0, 300) * MILLISECOND
            self.carry(0.1)

    def check(self) -> None:
        """What the store calls ended does not rest at the venue."""
        ended = set(self.names) - set(self.store.live)
        assert not [each for each in self.venue.resting() if each.cloid in ended]

    def settle(self) -> None:
        """Reconnect in good weather and end everything."""
        self.reconnect()
        for _ in range(400):
            self.now += 100 * MILLISECOND
            self.carry(0.0)
            while self.out or self.back or self.venue.said:
                self.carry(0.0)
            self.ask()
            self.cancel(self.working())
            self.check()
            if not (self.store.live or self.out or self.back or self.late or self.drift):
                return
        raise AssertionError([(each.cl_ord_id, each.status) for each in self.store.live.values()])


def weather(seed: int, steps: int) -> None:
    """Go through one storm and hold its end against the truth."""
    storm = Storm(Random(seed))
    for _ in range(steps):
        storm.step()
        storm.check()
    storm.settle()
    storm.check()
    assert storm.venue.resting() == []
    assert sum(storm.store.ended.values()) >= len(storm.names)
    assert set(storm.names) <= set(storm.store.finished), "each has an end, and one only"
    assert (storm.position, storm.fills) == (storm.venue.position, len(storm.venue.fills)), "each fill once"
    assert storm.picture is not None, "and no picture showed another position twice"
    assert storm.session.unreadable == 0
    assert all(name.startswith(PREFIX) for name in storm.names)


@settings(max_examples=20, deadline=None)
@given(st.integers(min_value=0, max_value=2**32))
def test_every_order_ends_once_and_every_fill_counts_once(seed: int) -> None:
    """Whatever got lost, doubled or swapped: no order rests that we call ended, and the position is the venue's."""
    weather(seed, 120)


@pytest.mark.slow
def test_many_storms() -> None:
    """The same over fixed seeds, longer."""
    for seed in range(300):
        weather(seed, 400)
