"""Builders of books, reports and engines, and two ways to shake an engine: wild events, a careless venue."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import msgspec
from hypothesis import strategies as st

from mmpi.actions import (
    Action,
    AmendOrder,
    Approved,
    CancelOrder,
    NewOrder,
    QueryOrder,
    RequestBudget,
    RequestReconcile,
    ScheduleCancel,
)
from mmpi.deadman import AHEAD
from mmpi.desk import DeskParams
from mmpi.engine import Engine, EngineParams
from mmpi.events import (
    DEAD_MAN,
    POST_ONLY,
    RATE_LIMIT,
    Bbo,
    BookSnapshot,
    Budget,
    ClockTrust,
    Connected,
    DeadManReport,
    Disconnected,
    Event,
    ExecReport,
    ExecType,
    Flatten,
    Funding,
    Halted,
    OpenOrder,
    Reconciled,
    Resumed,
    Stopping,
    StorageTrust,
    Timer,
    VenueFault,
)
from mmpi.governor import GovernorConfig
from mmpi.instrument import BUY, MONEY_SCALE, SECOND, SELL, Instrument, Side, make_instrument
from mmpi.orders import Order
from mmpi.quoting.layered import LayeredConfig
from mmpi.risk import RiskConfig
from mmpi.sim.exchange import Matching, SimConfig
from mmpi.upkeep import UpkeepConfig

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
VENUE = UpkeepConfig(GovernorConfig(), dead_man=True, amends=True)
"""A venue as Hyperliquid is: with a dead-man switch, request limits, and orders amended in one step."""
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
    fee: int = 0, exec_id: str = "", order_id: str = "", reason: str = "",
) -> ExecReport:  # fmt: skip
    """Return the venue's word on an order."""
    return ExecReport(ts, name, ts, cl_ord_id, order_id, what, side, price, size, fee, True, exec_id, reason)


def engine_params(
    instruments: Iterable[Instrument] = (A,),
    quoter: LayeredConfig = LADDER,
    risk: RiskConfig = WIDE,
    upkeep: UpkeepConfig | None = None,
) -> EngineParams:
    """Return what an engine is built from."""
    return EngineParams(PREFIX, tuple(DeskParams(each, quoter) for each in instruments), risk, PATIENCE, upkeep)


class Bench:
    """An engine and the time; every method that feeds an event returns the actions it caused."""

    def __init__(
        self,
        instruments: Iterable[Instrument] = (A,),
        quoter: LayeredConfig = LADDER,
        risk: RiskConfig = WIDE,
        upkeep: UpkeepConfig | None = None,
    ) -> None:
        self.engine = Engine(engine_params(instruments, quoter, risk, upkeep))
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

    def tell(self, cl_ord_id: str, what: ExecType, name: str = "A", reason: str = "") -> list[Action]:
        return self.feed(report(self.now, cl_ord_id, what, name=name, reason=reason))

    def switch(self, what: ExecType = ExecType.NEW, until: int | None = None, reason: str = "") -> list[Action]:
        """Answer about the dead-man switch; without `until`, as for a request made just now."""
        until = self.now + AHEAD if until is None else until
        return self.feed(DeadManReport(self.now, "sim", until, what, reason))

    def budget(self, used: int, cap: int = 10_000) -> list[Action]:
        return self.feed(Budget(self.now, "sim", used, cap))

    def storage(self, fault: str = "") -> list[Action]:
        """Return what the engine does on news of the journal, good or bad."""
        return self.feed(StorageTrust(self.now, fault))

    def clock(self, reason: str = "") -> list[Action]:
        """Say that the clock may be trusted, or, with a reason, that it may not."""
        return self.feed(ClockTrust(self.now, not reason, reason))

    def fault(self, reason: str = "no such agent", name: str = "") -> list[Action]:
        return self.feed(VenueFault(self.now, "sim", name, reason))

    def pass_time(self, seconds: float) -> list[Action]:
        """Live through some seconds: a book a second, every wish of the engine to be woken, every answer at once."""
        actions: list[Action] = []
        end, next_book = self.now + round(seconds * SECOND), self.now
        while self.now < end:
            self.now = min(self.engine.wake_at or end, next_book, end)
            caused: list[Action] = []
            if self.now == next_book:
                next_book += SECOND
                caused += [action for name in self.engine.desks for action in self.book(name=name)]
            if 0 < self.engine.wake_at <= self.now:
                caused += self.timer()
            while caused:
                actions += caused
                caused = [answer for time in schedules(caused) for answer in self.switch(until=time)]
                caused += self.acknowledge()
            assert not 0 < self.engine.wake_at <= self.now, "it asks for a time that is past"
        return actions

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
        if schedules(self.connect()):
            self.switch()
        for name in names or ("A",):
            self.book(name=name)
        return self.reconcile()

    def start(self, *names: str) -> Bench:
        """Go on until quotes rest: every order acknowledged."""
        self.quote(*names)
        self.acknowledge()
        return self

    def acknowledge(self) -> list[Action]:
        """Answer every request in flight as a venue without surprises does; return what that causes."""
        actions: list[Action] = []
        for name, desk in self.engine.desks.items():
            for order in list(desk.orders.live.values()):
                if order.status.value == "pending_new":
                    actions += self.tell(order.cl_ord_id, ExecType.NEW, name)
                elif order.status.value in ("pending_cancel", "pending_replace"):
                    actions += self.tell(order.cl_ord_id, ExecType.CANCELED, name)
        return actions

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


def amends(actions: Iterable[Action]) -> list[AmendOrder]:
    """Return the amends among actions."""
    return [action for action in actions if isinstance(action, AmendOrder)]


def entries(actions: Iterable[Action]) -> list[NewOrder | AmendOrder]:
    """Return what would put an order on the book."""
    return [action for action in actions if isinstance(action, NewOrder | AmendOrder)]


def schedules(actions: Iterable[Action]) -> list[int]:
    """Return the times of the requests about the dead-man switch among actions."""
    return [action.time for action in actions if isinstance(action, ScheduleCancel)]


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


_UPKEEP_KINDS = (
    *("switch",) * 3, "switch_lost", "fired", "budget", "clock", "refused", "fault", "freeze", "flatten",
    "storage",
)


def wild_events(
    *, stopping: bool = False, upkeep: bool = False, min_size: int = 20, max_size: int = 50
) -> st.SearchStrategy[list[Wild]]:
    """Return a strategy of event sequences; `stopping` lets Stopping happen, too, `upkeep` what venues alone tell."""
    kinds = (*_KINDS, *_UPKEEP_KINDS) if upkeep else _KINDS
    kinds = (*kinds, "stopping") if stopping else kinds
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
            what = {
                "pending_new": ExecType.NEW,
                "pending_cancel": ExecType.CANCELED,
                "pending_replace": ExecType.CANCELED,
            }
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
            picture = Reconciled(now, "sim", tuple(orders), positions)
            if not engine.upkeep.at_venue:
                return [*first, StorageTrust(now, ""), Resumed(now), picture]
            switch = DeadManReport(now, "sim", now + AHEAD, ExecType.NEW)
            return [*first, StorageTrust(now, ""), ClockTrust(now, True), switch, Resumed(now), picture]
        case "fired":
            return [
                report(now, order.cl_ord_id, ExecType.CANCELED, name=name, reason=DEAD_MAN) for order in live[: 1 + b]
            ]
        case "refused":
            target = known[a % len(known)].cl_ord_id if known else "0xdead"
            reason = f"{POST_ONLY}: x" if b % 3 else f"{RATE_LIMIT}: x"
            return [report(now, target, ExecType.REJECTED, name=name, reason=reason)]
        case "freeze":
            bench.after(b)
            return [book(bench.now, 980 + a, 981 + a, name)]
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
        case "flatten":
            return Flatten(now, "by hand")
        case "switch":
            until = (now + AHEAD, now + 1, 0)[wild.b % 3]
            return DeadManReport(now, "sim", until, ExecType.NEW)
        case "switch_lost":
            what = ExecType.LOST if wild.a % 3 else ExecType.REJECTED
            return DeadManReport(now, "sim", now + AHEAD, what, "too little volume")
        case "budget":
            return Budget(now, "sim", 250 * wild.a, 10_000)
        case "clock":
            return ClockTrust(now, wild.b > 3, "off")
        case "storage":
            return StorageTrust(now, "" if wild.b > 3 else "No space left on device")
        case "fault":
            return VenueFault(now, "sim", "" if wild.a == 39 else "B", "agent unknown")
        case _:
            return Stopping(now, "asked")


# A careless venue: loses what can be lost, keeps its word about the rest ---------------------------------------------


class CarelessVenue:
    """A matching engine behind a line that delays and drops requests, drops and jumbles answers, and can be cut.

    What it keeps: every fill is delivered exactly once, and a Reconciled comes after every fill it holds and before
    every later one. Requests about the dead-man switch stay in their order; what it is set to, happens.
    """

    def __init__(self, instruments: Sequence[Instrument], seed: int, loss: float) -> None:
        self.matching = Matching({each.name: each for each in instruments}, SimConfig())
        self.rng = random.Random(seed)
        self.loss = loss
        self.connected = True
        self.firings = 0
        """Times the dead-man switch took at least one order."""
        self._transit: list[tuple[int, Action]] = []
        self._pending: list[Event] = []
        self._fires_at = self._last_schedule = self._requests = 0

    def market(self, event: BookSnapshot) -> None:
        """Take the market; its fills wait for delivery."""
        self._pending += self.matching.on_market(event)

    def send(self, actions: Iterable[Action], now: int) -> None:
        """Put actions on their way, or lose them."""
        for action in actions:
            self._requests += 1
            if self.connected and self.rng.random() >= self.loss:
                arrival = now + self.rng.randrange(TRANSIT)
                if isinstance(action, ScheduleCancel):
                    arrival = self._last_schedule = max(arrival, self._last_schedule)
                self._transit.append((arrival, action))

    def deliver(self, now: int, share: float) -> list[Event]:
        """Execute what has arrived, and return some of the answers in any order."""
        for arrival in sorted((each for each in self._transit if each[0] <= now), key=lambda each: each[0]):
            self._transit.remove(arrival)
            self._execute(arrival[1], now)
        if 0 < self._fires_at <= now:
            self._fire(now)
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
        elif isinstance(action, AmendOrder):
            self._amend(action, now)
        elif isinstance(action, ScheduleCancel):
            self._schedule(action.time, now)
        elif self.connected and isinstance(action, RequestBudget):
            self._pending.append(Budget(now, "sim", self._requests, 10_000))
        elif self.connected and isinstance(action, RequestReconcile):
            self._pending.append(Reconciled(now, "sim", self.matching.open_orders(""), self.matching.positions("")))

    def _amend(self, amend: AmendOrder, now: int) -> None:
        """Replace an order; where its successor is refused, the old one is gone or not, as it happens."""
        old, name = self.matching.find("", amend.orig_cl_ord_id), amend.instrument
        new = NewOrder(name, amend.cl_ord_id, amend.side, amend.price, amend.size, amend.level)
        kept = report(now, amend.orig_cl_ord_id, ExecType.CANCEL_REJECTED, name=name)
        if old is None or self.rng.random() < 0.1:
            self._answer([kept, report(now, amend.cl_ord_id, ExecType.REJECTED, name=name, reason=f"{POST_ONLY}: x")])
            return
        self._answer([*self.matching.cancel(old.order_id, now), *self.matching.place(new, "", now)])

    def _schedule(self, time: int, now: int) -> None:
        if time and time < now + 5 * SECOND:
            answer = DeadManReport(now, "sim", time, ExecType.LOST, "too early")
        else:
            self._fires_at = time
            answer = DeadManReport(now, "sim", time, ExecType.NEW)
        if self.connected and self.rng.random() >= self.loss:
            self._pending.append(answer)

    def _fire(self, now: int) -> None:
        """Cancel everything, as the dead-man switch does."""
        self._fires_at = 0
        live = self.matching.open_orders("")
        self.firings += bool(live)
        for order in live:
            reports = self.matching.cancel(order.order_id, now)
            self._answer([msgspec.structs.replace(each, reason=DEAD_MAN) for each in reports])

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
