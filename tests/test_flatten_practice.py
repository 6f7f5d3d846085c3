"""Flattening at the practice venue: our session and their words for orders that are immediate or cancelled."""

from collections import deque
from pathlib import Path
from typing import Any

import msgspec
from engine_builders import PATIENCE, VENUE, WIDE
from practice_builders import (
    BTC,
    MASTER,
    NOW,
    PURR,
    PURR_ASSET,
    QUOTER,
    ask,
    order,
    place,
    spot_book,
    spot_order,
    venue,
)

from mmpi.desk import DeskParams
from mmpi.engine import Engine, EngineParams
from mmpi.events import BookSnapshot, Connected, Disconnected, Event, Flatten, Halted, Timer
from mmpi.instrument import SECOND, Instrument
from mmpi.practice.hyperliquid import info
from mmpi.practice.hyperliquid.streams import Client, Hub
from mmpi.quoting.layered import LayeredConfig
from mmpi.sim.market import GENERATED
from mmpi.venues.hyperliquid.session import HyperliquidSession
from mmpi.venues.hyperliquid.signing import Signer

ETH = GENERATED["ETH"]
PREFIX = "0x1111222233334444"
MARKETS: dict[str, tuple[Instrument, int]] = {"BTC": (BTC, 0), "ETH": (ETH, 1), PURR.name: (PURR, PURR_ASSET)}


class Floor:
    """An engine, a session and the practice venue, joined by queues; time is moved by hand."""

    def __init__(self, path: Path, *names: str) -> None:
        self.now = NOW + 10 * SECOND
        self.hub = Hub()
        self.venue = venue(path, self.hub)
        self.venue.on_market(self.book_of("ETH", 3000, 3001, 50))
        self.markets = {name: MARKETS[name] for name in names}
        desks = tuple(DeskParams(each[0], LayeredConfig(), True) for each in self.markets.values())
        self.engine = Engine(EngineParams(PREFIX, desks, WIDE, PATIENCE, VENUE))
        self.engine.handle(Halted(self.now, False, "nothing is quoted here"))
        self.frames: deque[bytes] = deque()
        self.deaf = False
        self.sold: list[dict[str, Any]] = []
        """The orders that reached the venue, as they stood on the wire."""

    def book_of(self, name: str, bid: float, ask_: float, size: float) -> BookSnapshot:
        """Return a book of one level a side, from decimals; 0 leaves its side empty."""
        grid = MARKETS[name][0]
        bids, asks = [
            ((grid.ticks(f"{price}"), grid.lots(f"{size}")),) if price else () for price in (bid, ask_)
        ]
        return BookSnapshot(self.now, name, self.now, 0, bids, asks)

    def send(self, message: bytes) -> None:
        """Take a message of the venue's, unless the line is dead."""
        if not self.deaf:
            self.frames.append(message)

    def connect(self) -> None:
        """Open a session and subscribe."""
        self.deaf = False
        self.session = HyperliquidSession(self.markets, MASTER, Signer(QUOTER, mainnet=False), PREFIX, 2000)
        self.client = Client(self.hub, self, self._answer, lambda topic, now: info.snapshot(self.venue, topic, now))
        for frame in self.session.connected(self.now):
            self.client.receive(frame, self.now)
        self.feed([Connected(self.now, "hyperliquid")])

    def cut(self) -> None:
        """End the session; what is on its way is lost, and so is what is said into the dead line."""
        self.client.close()
        self.frames.clear()
        self.deaf = True
        self.feed([*self.session.disconnected(self.now), Disconnected(self.now, "hyperliquid", "cut")])

    def feed(self, events: list[Event]) -> None:
        """Handle events, and all that follows from them, until the line is quiet."""
        while True:
            for event in events:
                actions = self.engine.handle(event)
                if actions:
                    for frame in self.session.send(actions, self.now):
                        if not self.deaf:
                            self.client.receive(frame, self.now)
            if not self.frames:
                return
            events = self.session.receive(self.frames.popleft(), self.now)

    def show(self, *books: BookSnapshot, after: float = 1.0) -> str:
        """Let the market move and the engine's alarms ring; return how far the flattening is."""
        self.now += round(after * SECOND)
        for each in books:
            self.venue.on_market(msgspec.structs.replace(each, recv_ts=self.now, exch_ts=self.now))
        self.venue.tick(self.now)
        self.feed([])
        self.feed([Timer(self.now)])
        return self.engine.flattening.text

    def flatten(self) -> str:
        """Ask for it; return how far it is."""
        self.feed([Flatten(self.now, "by hand")])
        return self.engine.flattening.text

    def positions(self) -> dict[str, str]:
        """Return what the venue says is held."""
        held = ask(self.venue, "clearinghouseState")["assetPositions"]
        return {each["position"]["coin"]: each["position"]["szi"] for each in held if float(each["position"]["szi"])}

    def _answer(self, request: Any, now: int) -> Any:
        if request.type == "action":
            self.sold += request.payload["action"].get("orders", [])
            return self.venue.act(request.payload, now)
        return {"type": request.payload.get("type"), "data": info.answer(self.venue, request.payload, now)}


def buy(floor: Floor, price: str, size: str, asset: int = 0) -> None:
    """Take from the book in the account's name."""
    assert "filled" in place(floor.venue, order(price, size, tif="Ioc", asset=asset))


def test_one_order_sells_everything(tmp_path: Path) -> None:
    """One reduce-only IOC order of the exact position; the venue says that nothing is held, and that is flat."""
    floor = Floor(tmp_path, "BTC")
    buy(floor, "100001", "0.5")
    floor.connect()
    floor.venue.on_market(floor.book_of("BTC", 100000, 100001, 1))
    assert floor.flatten() == "flat"
    (sold,) = floor.sold
    assert (sold["b"], sold["s"], sold["p"], sold["r"], sold["t"]) == (
        False, "0.5", "99900", True, {"limit": {"tif": "Ioc"}},
    )  # fmt: skip
    assert floor.positions() == {}


def test_a_thin_book_is_sold_into_bit_by_bit(tmp_path: Path) -> None:
    """Of each order what matches is filled and the rest cancelled: the next one is for exactly what is left, and goes
    deeper."""
    floor = Floor(tmp_path, "BTC")
    buy(floor, "100001", "0.5")
    floor.connect()
    floor.venue.on_market(floor.book_of("BTC", 100000, 100001, 0.2))
    assert floor.flatten() == "working: BTC 0.3 left, attempt 1"
    assert floor.show(floor.book_of("BTC", 90000, 90001, 0.2)) == "working: BTC 0.1 left, attempt 2"
    assert floor.show(floor.book_of("BTC", 80000, 80001, 0.2)) == "flat"
    assert [(each["s"], each["p"]) for each in floor.sold] == [("0.5", "99900"), ("0.3", "89820"), ("0.1", "79760")]
    assert floor.positions() == {}


def test_nobody_buys(tmp_path: Path) -> None:
    """The venue's error for an order that matches nothing is a certain end, without a question; bids that return are
    sold to."""
    floor = Floor(tmp_path, "BTC")
    buy(floor, "100001", "0.5")
    floor.connect()
    floor.venue.on_market(floor.book_of("BTC", 0, 100001, 1))
    assert floor.flatten() == "working: BTC 0.5 left, attempt 1"
    assert floor.show(floor.book_of("BTC", 0, 100001, 1)) == "working: BTC 0.5 left, attempt 2"
    assert floor.engine.live_orders() == 0 and floor.positions() == {"BTC": "0.5"}
    assert floor.show(floor.book_of("BTC", 100000, 100001, 1)) == "flat"


def test_it_ends_when_nobody_ever_buys(tmp_path: Path) -> None:
    """The last word of the venue's is in the reason, with what is left."""
    floor = Floor(tmp_path, "BTC")
    buy(floor, "100001", "0.5")
    floor.connect()
    floor.venue.on_market(floor.book_of("BTC", 0, 100001, 1))
    floor.flatten()
    for _ in range(60):
        text = floor.show(floor.book_of("BTC", 0, 100001, 1))
    assert text.startswith("failed: BTC 0.5 left: iocCancelRejected (")
    assert len(floor.sold) == WIDE.flatten_attempts
    assert floor.positions() == {"BTC": "0.5"}


def test_long_and_short_and_little(tmp_path: Path) -> None:
    """Several markets at once, and a position worth less than the least order: the venue takes what only reduces."""
    floor = Floor(tmp_path, "BTC", "ETH")
    buy(floor, "100001", "0.00015")
    assert "filled" in place(floor.venue, order("100000", "0.0001", buy=False, tif="Ioc"))
    assert "filled" in place(floor.venue, order("3000", "2", buy=False, tif="Ioc", asset=1))
    floor.connect()
    floor.venue.on_market(floor.book_of("BTC", 100000, 100001, 1))
    floor.venue.on_market(floor.book_of("ETH", 3000, 3001, 50))
    floor.flatten()
    assert floor.show() == "flat"
    assert [(each["a"], each["b"], each["s"], each["r"]) for each in floor.sold] == [
        (0, False, "0.00005", True), (1, True, "2", True),
    ]  # fmt: skip
    assert floor.positions() == {}


def test_quotes_that_rest_are_cancelled_first(tmp_path: Path) -> None:
    """Orders of ours that the venue still holds go before anything is sold, and nothing of ours is left at the end."""
    floor = Floor(tmp_path, "BTC")
    buy(floor, "100001", "0.5")
    cloid = f"{PREFIX}{99:016x}"
    assert "resting" in place(floor.venue, order("99000", "0.1", tif="Gtc", cloid=cloid))
    floor.connect()
    floor.venue.on_market(floor.book_of("BTC", 100000, 100001, 1))
    floor.flatten()
    assert floor.show() == "flat"
    assert floor.venue.live_orders() == []
    assert floor.positions() == {}


def test_the_line_is_cut_while_an_order_is_under_way(tmp_path: Path) -> None:
    """Its answer and its fills are lost with the session: after the next connect the account is read first, and what is
    left is sold once."""
    floor = Floor(tmp_path, "BTC")
    buy(floor, "100001", "0.5")
    floor.connect()
    floor.venue.on_market(floor.book_of("BTC", 100000, 100001, 0.2))
    act = floor.venue.act

    def swallowed(body: Any, now: int) -> Any:
        floor.deaf = floor.deaf or body["action"]["type"] == "order"
        return act(body, now)

    floor.venue.act = swallowed  # type: ignore[method-assign]
    floor.flatten()
    assert floor.positions() == {"BTC": "0.3"}
    floor.venue.act = act  # type: ignore[method-assign]
    floor.now += SECOND
    floor.cut()
    assert floor.engine.live_orders() == 1
    floor.now += SECOND
    floor.connect()
    for _ in range(20):
        text = floor.show(floor.book_of("BTC", 100000, 100001, 1))
    assert (text, floor.positions()) == ("flat", {})
    assert [each["s"] for each in floor.sold] == ["0.5", "0.3"]


def test_a_balance_is_sold_without_the_flag(tmp_path: Path) -> None:
    """Spot knows no reduce-only orders: what is sold there is what is held, and too little of it is named."""
    floor = Floor(tmp_path, PURR.name)
    floor.venue.on_market(spot_book(size="1000000", ts=NOW + 1))
    floor.connect()
    floor.venue.on_market(spot_book(size="1000000", ts=floor.now))
    floor.flatten()
    (sold,) = floor.sold
    assert (sold["b"], sold["r"]) == (False, False)
    assert floor.show() == "flat"
    assert "filled" in place(floor.venue, spot_order("0.20001", "51", tif="Ioc"), now=floor.now)
    floor.venue.on_market(spot_book(bid="0.10000", ask="0.10001", ts=floor.now))
    floor.now += SECOND
    floor.feed([Flatten(floor.now, "again")])
    for _ in range(3):
        floor.show(spot_book(bid="0.10000", ask="0.10001", ts=floor.now))
    assert "too little for the venue: Order must have minimum value of 10 USDC." in floor.engine.flattening.text
