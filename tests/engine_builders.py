"""Builders of books, reports and engines, and two ways to shake an engine: wild events, a careless venue."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import msgspec
from hypothesis import strategies as st

from mmpi.actions import Action, Approved, CancelOrder, NewOrder, QueryOrder, RequestReconcile
from mmpi.desk import DeskParams
from mmpi.engine import Engine, EngineParams
from mmpi.events import (
    Bbo,
    BookSnapshot,
    Connected,
    Disconnected,
    Event,
    ExecReport,
    ExecType,
    Funding,
    Halted,
    OpenOrder,
    Reconciled,
    Resumed,
    Stopping,
    Timer,
)
from mmpi.instrument import BUY, MONEY_SCALE, SECOND, SELL, Instrument, Side, make_instrument
from mmpi.orders import Order
from mmpi.quoting.layered import LayeredConfig
from mmpi.risk import RiskConfig
from mmpi.sim.exchange import Matching, SimConfig

A = make_instrument("A", "1", "1")
"""One lot at price p is worth p."""
B = make_instrument("B", "1", "1")
LADDER = LayeredConfig(
    levels=2,
    spread_percent=0.2,
    step_percent=0.1,
    size="10",
    notional="",
    tolerance_percent=0.0,
    size_tolerance_percent=0.0,
)
"""Around a mid of 1000: bids 999 and 998, asks 1001 and 1002, ten lots each."""
WIDE = RiskConfig(
    max_position=10**9 * MONEY_SCALE,
    max_order=10**9 * MONEY_SCALE,
    max_instrument=10**9 * MONEY_SCALE,
    max_total=10**9 * MONEY_SCALE,
    session_loss=10**9 * MONEY_SCALE,
    max_drawdown=10**9 * MONEY_SCALE,
    orders_per_s=1000.0,
    order_burst=1000,
)
"""Limits that no test touches by accident."""
PATIENCE = 5 * SECOND
TRANSIT: Final = 2 * SECOND
"""The longest that a request is under way: `expires_after` of Hyperliquid, less than PATIENCE."""
PREFIX = "0x" + "00" * 8


def book(ts: int, bid: int = 999, ask: int = 1001, name: str = "A", size: int = 5) -> BookSnapshot:
    """Return a book of one level a side; a price of 0 leaves its side empty."""
    bids = ((bid, size),) if bid else ()
    asks = ((ask, size),) if ask else ()
    return BookSnapshot(ts, name, ts, 0, bids, asks)


def report(
    ts: int, cl_ord_id: str, what: ExecType, *, name: str = "A", size: int = 0, price: int = 0, side: Side = BUY,
    fee: int = 0, exec_id: str = "", order_id: str = "",
) -> ExecReport:  # fmt: skip
    """Return the venue's word on an order."""
    return ExecReport(ts, name, ts, cl_ord_id, order_id, what, side, price, size, fee, True, exec_id)


def engine_params(
    instruments: Iterable[Instrument] = (A,), quoter: LayeredConfig = LADDER, risk: RiskConfig = WIDE
) -> EngineParams:
    """Return what an engine is built from."""
    return EngineParams(PREFIX, tuple(DeskParams(each, quoter) for each in instruments), risk, PATIENCE)


class Bench:
    """An engine and the time; every method that feeds an event returns the actions it caused."""

    def __init__(
        self, instruments: Iterable[Instrument] = (A,), quoter: LayeredConfig = LADDER, risk: RiskConfig = WIDE
    ) -> None:
        self.engine = Engine(engine_params(instruments, quoter, risk))
        self.now = 1_700_000_000 * SECOND
        self._execs = 0

    def feed(self, event: Event) -> list[Action]:
        """Handle an event."""
        approved = self.engine.handle(event)
        assert all(isinstance(each, Approved) and each.ts == event.recv_ts for each in approved)
        return [each.action for each in approved]

    def after(self, seconds: float) -> Bench:
        """Let time pass, without an event."""
        self.now += round(seconds * SECOND)
        return self

    def connect(self) -> list[Action]:
        return self.feed(Connected(self.now, "sim"))

    def disconnect(self) -> list[Action]:
        return self.feed(Disconnected(self.now, "sim", "gone"))

    def reconcile(self, orders: Sequence[OpenOrder] = (), **positions: int) -> list[Action]:
        return self.feed(Reconciled(self.now, "sim", tuple(orders), tuple(positions.items())))

    def confirm(self) -> list[Action]:
        """Reconcile with a venue that knows exactly what the engine knows."""
        desks = self.engine.desks
        orders = [listing(order, name) for name, desk in desks.items() for order in desk.orders.live.values()]
        return self.reconcile(orders, **{name: desk.position.lots + desk.carry for name, desk in desks.items()})

    def book(self, bid: int = 999, ask: int = 1001, name: str = "A", size: int = 5) -> list[Action]:
        return self.feed(book(self.now, bid, ask, name, size))

    def timer(self) -> list[Action]:
        return self.feed(Timer(self.now))

    def halt(self, reason: str = "pressed", *, latched: bool = True) -> list[Action]:
        return self.feed(Halted(self.now, latched, reason))

    def resume(self) -> list[Action]:
        return self.feed(Resumed(self.now))

    def stop(self) -> list[Action]:
        return self.feed(Stopping(self.now, "asked"))

    def fund(self, amount: int, funding_id: str = "f", name: str = "A") -> list[Action]:
        return self.feed(Funding(self.now, name, self.now, funding_id, amount))

    def tell(self, cl_ord_id: str, what: ExecType, name: str = "A") -> list[Action]:
        return self.feed(report(self.now, cl_ord_id, what, name=name))

    def fill(
        self, order: Order | str, size: int, price: int = 0, side: Side = BUY, fee: int = 0, exec_id: str = ""
    ) -> list[Action]:
        """Fill an order of instrument A at its own price, or a foreign one at `price`."""
        self._execs += 1
        if isinstance(order, Order):
            order_id, price, side = order.cl_ord_id, price or order.price, order.side
        else:
            order_id = order
        exec_id = exec_id or f"bench-{self._execs}"
        return self.feed(
            report(
                self.now, order_id, ExecType.TRADE, size=size, price=price, side=side, fee=fee, exec_id=exec_id
            )  # fmt: skip
        )

    def quote(self, *names: str) -> list[Action]:
        """Connect, show a book of each instrument, reconcile; return what that places."""
        self.connect()
        for name in names or ("A",):
            self.book(name=name)
        return self.reconcile()

    def start(self, *names: str) -> Bench:
        """Go on until quotes rest: every order acknowledged."""
        self.quote(*names)
        self.acknowledge()
        return self

    def acknowledge(self) -> None:
        """Answer every request in flight as a venue without surprises does."""
        for name, desk in self.engine.desks.items():
            for order in list(desk.orders.live.values()):
                if order.status.value == "pending_new":
                    self.tell(order.cl_ord_id, ExecType.NEW, name)
                elif order.status.value == "pending_cancel":
                    self.tell(order.cl_ord_id, ExecType.CANCELED, name)

    def orders(self, name: str = "A") -> list[Order]:
        """Return the live orders, highest price first."""
        return sorted(self.engine.desks[name].orders.live.values(), key=lambda order: -order.price)

    def prices(self, name: str = "A") -> list[int]:
        """Return the prices of the live orders, highest first."""
        return [order.price for order in self.orders(name)]


def listing(order: Order, name: str = "A") -> OpenOrder:
    """Return an order as a venue lists it."""
    return OpenOrder(name, order.cl_ord_id, order.order_id, order.side, order.price, order.leaves)


def places(actions: Iterable[Action]) -> list[NewOrder]:
    """Return the new orders among actions."""
    return [action for action in actions if isinstance(action, NewOrder)]


def cancels(actions: Iterable[Action]) -> list[CancelOrder]:
    """Return the cancels among actions."""
    return [action for action in actions if isinstance(action, CancelOrder)]


def queries(actions: Iterable[Action]) -> list[QueryOrder]:
    """Return the questions among actions."""
    return [action for action in actions if isinstance(action, QueryOrder)]


# Wild events: anything at any time -------------------------------------------------------------------------------


class Wild(NamedTuple):
    """One event to be: what, and numbers that choose among what there is at that moment."""

    what: str
    a: int = 0
    b: int = 0


_REPORTS = [what for what in ExecType if what is not ExecType.TRADE]
_KINDS = (
    *("book",) * 8, *("ack_all",) * 5, *("trade",) * 3, *("report",) * 3, *("timer",) * 2, *("recover",) * 4,
    "bbo", "broken_book", "funding", "reconciled", "connected", "disconnected", "halted", "resumed",
)  # fmt: skip
"""Weighed so that the engine quotes about half of the time."""


def wild_events(*, stopping: bool = False, min_size: int = 20, max_size: int = 50) -> st.SearchStrategy[list[Wild]]:
    """Return a strategy of event sequences; `stopping` lets Stopping happen, too."""
    kinds = (*_KINDS, "stopping") if stopping else _KINDS
    wild = st.builds(Wild, st.sampled_from(kinds), st.integers(0, 39), st.integers(0, 11))
    return st.lists(wild, min_size=min_size, max_size=max_size)


def wild_event(wild: Wild, bench: Bench) -> list[Event]:
    """Return the events, of this moment, that a wild one stands for; time moves on with each."""
    bench.after((0.001, 0.3, 1.0, 6.0)[wild.b % 4])
    now, engine = bench.now, bench.engine
    names = list(engine.desks)
    name = names[wild.a % len(names)]
    live = list(engine.desks[name].orders.live.values())
    known = [*live, *engine.desks[name].orders.finished.values()]
    a, b = wild.a, wild.b
    match wild.what:
        case "book":
            return [book(now, 980 + a, 980 + a + b % 4, name)]
        case "bbo":
            return [Bbo(now, name, now, 0, 980 + a, b, 981 + a + b, b % 3)]
        case "broken_book":
            return [book(now, (0, 1000, 1010)[a % 3], (1000, 0, 990)[a % 3], name, 5 if b else 0)]
        case "report":
            target = known[a % len(known)].cl_ord_id if known else "0xdead"
            return [report(now, target, _REPORTS[b % len(_REPORTS)], name=name, order_id=str(a))]
        case "trade":
            exec_id = f"t{a * 12 + b}"
            if not known or b == 0:
                return [report(now, "", ExecType.TRADE, name=name, size=b, price=980 + a, exec_id=exec_id)]
            order = known[a % len(known)]
            return [
                report(
                    now, order.cl_ord_id, ExecType.TRADE, name=name, size=b, price=order.price, side=order.side,
                    fee=a * MONEY_SCALE // 100, exec_id=exec_id,
                )  # fmt: skip
            ]
        case "ack_all":
            what = {"pending_new": ExecType.NEW, "pending_cancel": ExecType.CANCELED}
            return [
                report(now, order.cl_ord_id, what[order.status.value], name=name, order_id=order.cl_ord_id[-4:])
                for order in live
                if order.status.value in what
            ]
        case "funding":
            return [Funding(now, name, now, f"f{a % 5}", (b - 6) * MONEY_SCALE)]
        case "reconciled":
            some = [listing(order, name) for order in known[: a % 5] if order.leaves]
            if b == 1:
                some.append(OpenOrder(name, f"0xstray{a}", "77", BUY if a % 2 else SELL, 990 if a % 2 else 1010, 3))
            return [Reconciled(now, "sim", tuple(some), ((name, engine.desks[name].position.lots + b % 3 - 1),))]
        case "recover":
            orders = [listing(o, n) for n, desk in engine.desks.items() for o in desk.orders.live.values()]
            positions = tuple((n, desk.position.lots + desk.carry) for n, desk in engine.desks.items())
            first: list[Event] = [] if engine.standing.connected else [Connected(now, "sim")]
            return [*first, Resumed(now), Reconciled(now, "sim", tuple(orders), positions)]
        case _:
            return [_session_event(wild, now)]


def _session_event(wild: Wild, now: int) -> Event:
    match wild.what:
        case "timer":
            return Timer(now)
        case "connected":
            return Connected(now, "sim")
        case "disconnected":
            return Disconnected(now, "sim", "gone")
        case "halted":
            return Halted(now, wild.a % 2 == 0, "button")
        case "resumed":
            return Resumed(now)
        case _:
            return Stopping(now, "asked")


# A careless venue: loses what can be lost, keeps its word about the rest ---------------------------------------------


class CarelessVenue:
    """A matching engine behind a line that delays and drops requests, drops and jumbles answers, and can be cut.

    What it keeps: every fill is delivered exactly once, and a Reconciled comes after every fill it holds and before
    every later one.
    """

    def __init__(self, instruments: Sequence[Instrument], seed: int, loss: float) -> None:
        self.matching = Matching({each.name: each for each in instruments}, SimConfig())
        self.rng = random.Random(seed)
        self.loss = loss
        self.connected = True
        self._transit: list[tuple[int, Action]] = []
        self._pending: list[Event] = []

    def market(self, event: BookSnapshot) -> None:
        """Take the market; its fills wait for delivery."""
        self._pending += self.matching.on_market(event)

    def send(self, actions: Iterable[Action], now: int) -> None:
        """Put actions on their way, or lose them."""
        for action in actions:
            if self.connected and self.rng.random() >= self.loss:
                self._transit.append((now + self.rng.randrange(TRANSIT), action))

    def deliver(self, now: int, share: float) -> list[Event]:
        """Execute what has arrived, and return some of the answers in any order."""
        for arrival in sorted((each for each in self._transit if each[0] <= now), key=lambda each: each[0]):
            self._transit.remove(arrival)
            self._execute(arrival[1], now)
        pictures = [index for index, event in enumerate(self._pending) if isinstance(event, Reconciled)]
        end = pictures[0] if pictures else len(self._pending)
        if not self.connected:
            return []
        if pictures and self.rng.random() < share:
            chosen, self._pending = self._pending[: end + 1], self._pending[end + 1 :]
        else:
            chosen = [event for event in self._pending[:end] if self.rng.random() < share]
            self._pending = [event for event in self._pending if not any(event is each for each in chosen)]
            self.rng.shuffle(chosen)
        return [msgspec.structs.replace(event, recv_ts=now) for event in chosen]

    def cut(self) -> None:
        """Lose the connection and every answer on its way but the fills, which the next connection repeats."""
        self.connected = False
        self._pending = [e for e in self._pending if isinstance(e, ExecReport) and e.exec_type is ExecType.TRADE]

    def _execute(self, action: Action, now: int) -> None:
        if isinstance(action, NewOrder):
            self._answer(self.matching.place(action, "", now))
        elif isinstance(action, CancelOrder):
            order = self.matching.find("", action.cl_ord_id)
            if order is not None:
                self._answer(self.matching.cancel(order.order_id, now))
            else:
                self._answer([report(now, action.cl_ord_id, ExecType.CANCEL_REJECTED, name=action.instrument)])
        elif isinstance(action, QueryOrder):
            self._answer([self._fate(action, now)])
        elif self.connected and isinstance(action, RequestReconcile):
            self._pending.append(Reconciled(now, "sim", self.matching.open_orders(""), self.matching.positions("")))

    def _answer(self, reports: Sequence[ExecReport]) -> None:
        for each in reports:
            if each.exec_type is ExecType.TRADE or (self.connected and self.rng.random() >= self.loss):
                self._pending.append(each)

    def _fate(self, query: QueryOrder, now: int) -> ExecReport:
        live = self.matching.find("", query.cl_ord_id)
        past = self.matching.finished("", query.cl_ord_id)
        if live is not None:
            return report(now, query.cl_ord_id, ExecType.NEW, name=query.instrument, order_id=live.order_id)
        what = past.done if past is not None and past.done is not None else ExecType.NOT_FOUND
        return report(now, query.cl_ord_id, what, name=query.instrument)
