"""SignalBoard: what a quoter names is kept, nothing else, and its state comes back exactly."""

import msgspec
import pytest

from mmpi.book import OrderBook
from mmpi.events import BookSnapshot
from mmpi.instrument import BUY, SECOND, SELL
from mmpi.ports import NO_READINGS, Readings
from mmpi.signals.board import BoardState, SignalBoard
from mmpi.signals.depth_imbalance import depth_imbalance
from mmpi.signals.micro_price import micro_price, table_for
from mmpi.signals.realised_volatility import RealisedVolatility
from mmpi.signals.trade_intensity import TradeIntensity

T0 = 1_700_000_000 * SECOND
ALL = frozenset(Readings.__struct_fields__)


def shown(n: int) -> BookSnapshot:
    """Return a book that wanders, of two levels a side."""
    mid = 10_000 + (n * 7919) % 37
    return BookSnapshot(T0 + n * 300_000_007, "BTC", 0, 0, ((mid - 10, 3 + n % 5), (mid - 20, 9)), ((mid + 10, 4),))


def fed(names: frozenset[str], events: int = 2_000) -> tuple[SignalBoard, OrderBook]:
    """Return a board of these names after some books and trades, and the last book."""
    board, book = SignalBoard(names, "BTC"), OrderBook("BTC")
    feed(board, book, 0, events)
    return board, book


def feed(board: SignalBoard, book: OrderBook, first: int, end: int) -> None:
    """Show a board the books and trades of these numbers."""
    for n in range(first, end):
        event = shown(n)
        book.apply(event)
        board.on_mid(event.recv_ts, book.mid2)
        if n % 3 == 0:
            board.on_trade(event.recv_ts, BUY if n % 2 else SELL)


def test_every_reading_is_its_signal() -> None:
    """Asked for everything, the board says what the signals say when they are fed by hand."""
    board, book = fed(ALL)
    realised, intensity = RealisedVolatility(), TradeIntensity(60.0)
    for n in range(2_000):
        event = shown(n)
        realised.update(event.recv_ts, event.bids[0][0] + event.asks[0][0])
        if n % 3 == 0:
            intensity.update(event.recv_ts, BUY if n % 2 else SELL)
    now = book.recv_ts + SECOND
    said, (buys, sells) = board.readings(book, now), intensity.at(now)
    table = table_for("BTC")
    assert table is not None
    assert said == Readings(
        imbalance=depth_imbalance(book.bids, book.asks, 5),
        micro_price=micro_price(book.best_bid, book.best_bid_size, book.best_ask, book.best_ask_size, table),
        realised_1m=realised.over(0),
        realised_5m=realised.over(1),
        realised_1h=realised.over(2),
        regime=said.regime,
        buy_intensity=buys,
        sell_intensity=sells,
    )
    assert min(said.realised_1m, said.realised_5m, said.realised_1h, said.buy_intensity, said.sell_intensity) > 0


@pytest.mark.parametrize("name", sorted(ALL))
def test_only_what_was_asked_for_is_read(name: str) -> None:
    """Each reading alone has the value that it has among all; the others stay at their default."""
    alone, book = fed(frozenset({name}))
    together, _ = fed(ALL)
    now = book.recv_ts
    said = alone.readings(book, now)
    assert getattr(said, name) == getattr(together.readings(book, now), name)
    allowed = {name, "buy_intensity", "sell_intensity"} if name.endswith("intensity") else {name}
    for other in ALL - allowed:
        assert getattr(said, other) == getattr(NO_READINGS, other)


def test_nobody_asked() -> None:
    """Without names there is the volatility alone."""
    board, book = fed(frozenset())
    assert board.readings(book, book.recv_ts) is NO_READINGS and board.volatility.value > 0


def test_an_instrument_without_a_table_has_no_micro_price() -> None:
    """UNAVAILABLE, never made up."""
    book = OrderBook("X")
    book.apply(shown(1))
    assert SignalBoard(frozenset({"micro_price"}), "X").readings(book, T0).micro_price == 0.0


@pytest.mark.parametrize("names", [ALL, frozenset(), frozenset({"regime"})])
def test_a_restored_board_goes_on_the_same(names: frozenset[str]) -> None:
    """I10: through the checkpoint's JSON and back, every later reading is the same to the last bit."""
    board, book = fed(names, 1_500)
    again = SignalBoard(names, "BTC")
    again.restore(msgspec.json.decode(msgspec.json.encode(board.checkpoint()), type=BoardState))
    for each in (board, again):
        feed(each, book, 1_500, 2_500)
    now = book.recv_ts
    assert board.readings(book, now) == again.readings(book, now)
    assert board.checkpoint() == again.checkpoint()


def test_sigma_is_the_volatility_in_steps() -> None:
    """Never below what was measured, at most 2% above, and the same while the measure stays within a step."""
    board, book = fed(frozenset(), 0)
    assert board.sigma() == 0.0
    seen: set[float] = set()
    for n in range(500):
        feed(board, book, n, n + 1)
        value = board.volatility.value
        if value:
            assert value * (1 - 1e-12) <= board.sigma() <= value * 1.0203
            seen.add(board.sigma())
    assert 1 < len(seen) < 250
