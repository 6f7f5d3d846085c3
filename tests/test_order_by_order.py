"""Order-by-order recordings: what each message does to the book, both forms, and what cannot be read."""

import gzip
import lzma
from collections.abc import Sequence
from pathlib import Path

import pytest

from mmpi.errors import ConfigError
from mmpi.events import BookSnapshot, Trade
from mmpi.instrument import BUY, SELL, Lots, Side, Ticks
from mmpi.research.bitstamp_orders import STUCK, BitstampOrders
from mmpi.research.dataset import find_set, instrument_for, open_dataset
from mmpi.research.grid import Tally
from mmpi.research.instruments import lookup
from mmpi.research.order_by_order import Snapshot, updates
from mmpi.sim.l3 import ADD, EXECUTE, REDUCE, OrdersBook, OrderUpdate
from tests.order_files import HEADER, T0_MS, Row, Told, busy, csv_line, write, ws_line

BTC = lookup("bitstamp_btcusd")
REST: list[Row] = [(0, "created", 1, BUY, 100, 50), (1, "created", 2, BUY, 99, 50), (2, "created", 3, SELL, 105, 50)]
Done = tuple[int, int, Side, Ticks, Lots]


def read(rows: Sequence[Row]) -> tuple[list[Done], Tally]:
    """Return the updates after REST as (action, id, side, price, size), and the tally."""
    tally = Tally()
    orders = BitstampOrders("BTCUSD", tally)
    for ms, action, order_id, side, price, left in [*REST, *rows]:
        getattr(orders, action)(ms * 10**6, order_id, side, price, left)
    return [(u.action, u.order_id, u.side, u.price, u.size) for u in orders.updates[len(REST) :]], tally


TAKER = (10, "created", 4, SELL, 99, 70)
ALL = [(EXECUTE, 1, BUY, 100, 50), (EXECUTE, 2, BUY, 99, 20)]
MAKER_1, TAKER_1 = (11, "deleted", 1, BUY, 100, 0), (11, "changed", 4, SELL, 99, 20)
MAKER_2, TAKER_2 = (12, "changed", 2, BUY, 99, 30), (12, "deleted", 4, SELL, 99, 0)


@pytest.mark.parametrize("first", [[MAKER_1, TAKER_1], [TAKER_1, MAKER_1]])
@pytest.mark.parametrize("second", [[MAKER_2, TAKER_2], [TAKER_2, MAKER_2]])
def test_a_taker_executes_what_it_meets_and_is_never_in_the_book(first: list[Row], second: list[Row]) -> None:
    """Whichever side of a fill is told first, the resting orders are executed and the taker leaves no trace."""
    assert read([TAKER, *first, *second])[0] == ALL


@pytest.mark.parametrize("words", [[MAKER_1, TAKER_1, MAKER_2], [TAKER_1, MAKER_1, MAKER_2]])
def test_a_taker_that_is_through_rests_with_what_is_left(words: list[Row]) -> None:
    """Once nothing is left to meet, the rest joins the book at its own price."""
    taker = (10, "created", 4, SELL, 99, 120)
    rest = [(*w[:5], 70) if w is TAKER_1 else (12, "deleted", 2, BUY, 99, 0) if w is MAKER_2 else w for w in words]
    told = (13, "changed", 4, SELL, 99, 20)
    done, _ = read([taker, *rest, told])
    assert done == [(EXECUTE, 1, BUY, 100, 50), (EXECUTE, 2, BUY, 99, 50), (ADD, 4, SELL, 99, 20)]


def test_a_market_order_walks_by_changing_its_price() -> None:
    """A changed price means the next level is hit; between levels the rest stands in the book for a moment."""
    rows = [
        (10, "created", 4, SELL, 100, 70), (11, "deleted", 1, BUY, 100, 0), (11, "changed", 4, SELL, 100, 20),
        (12, "changed", 4, SELL, 99, 20), (13, "changed", 2, BUY, 99, 30), (13, "deleted", 4, SELL, 99, 0),
    ]  # fmt: skip
    assert read(rows)[0] == [
        (EXECUTE, 1, BUY, 100, 50), (ADD, 4, SELL, 100, 20), (REDUCE, 4, SELL, 100, 0), (EXECUTE, 2, BUY, 99, 20),
    ]  # fmt: skip


def test_a_deletion_with_a_size_left_is_a_cancel() -> None:
    """With nothing left it was filled, with something left it was taken back."""
    assert read([(9, "deleted", 1, BUY, 100, 50)])[0] == [(REDUCE, 1, BUY, 100, 0)]
    assert read([(9, "deleted", 1, BUY, 100, 20)])[0] == [(EXECUTE, 1, BUY, 100, 30), (REDUCE, 1, BUY, 100, 0)]


def test_what_comes_after_the_deletion_is_counted() -> None:
    """A change of a deleted order, or its second creation, is no order."""
    done, tally = read(
        [(9, "deleted", 1, BUY, 100, 50), (9, "changed", 1, BUY, 100, 9), (9, "created", 1, BUY, 100, 9)]
    )
    assert done == [(REDUCE, 1, BUY, 100, 0)]
    assert tally.out_of_order == 2


@pytest.mark.parametrize("taker_first", [True, False])
def test_the_taker_tells_how_much_of_an_unknown_order_was_filled(taker_first: bool) -> None:
    """An order older than the recording names no size; its taker does."""
    words: list[Row] = [(12, "deleted", 4, SELL, 100, 0), (12, "deleted", 9, BUY, 100, 0)]
    rows: list[Row] = [(10, "created", 4, SELL, 100, 7), *(words if taker_first else words[::-1])]
    done, tally = read(rows)
    assert done == [(EXECUTE, 9, BUY, 100, 7)]
    assert tally.unknown_orders == 1


def test_a_taker_that_also_met_an_unknown_order_waits_for_its_word() -> None:
    """It told of 55 filled, the known order of 50: the other 5 are the unknown order's, and then the rest joins."""
    rows: list[Row] = [
        (10, "created", 4, SELL, 100, 60), (11, "changed", 4, SELL, 100, 5),
        (11, "deleted", 1, BUY, 100, 0), (12, "deleted", 9, BUY, 100, 0),
    ]  # fmt: skip
    assert read(rows)[0] == [(EXECUTE, 1, BUY, 100, 50), (EXECUTE, 9, BUY, 100, 5), (ADD, 4, SELL, 100, 5)]


def test_a_taker_that_is_cancelled_never_rests() -> None:
    """What it crossed may go away later; it is not there any more."""
    rows: list[Row] = [
        (10, "created", 4, SELL, 100, 60), (11, "deleted", 4, SELL, 100, 60), (12, "deleted", 1, BUY, 100, 50),
    ]  # fmt: skip
    assert read(rows)[0] == [(REDUCE, 1, BUY, 100, 0)]


def test_what_is_crossed_for_too_long_is_gone() -> None:
    """Where an order's end was not recorded, others that go through it show that it is not there."""
    late = STUCK // 10**6 + 20
    done, tally = read([(10, "created", 4, SELL, 99, 70), (late, "created", 5, BUY, 90, 1)])
    assert [d[:2] for d in done] == [(ADD, 5), (REDUCE, 1), (REDUCE, 2), (ADD, 4)]
    assert tally.lost_orders == 2


def test_snapshots_reveal_older_orders_at_the_front() -> None:
    """What a level shows above the known orders is older; where less is shown it is gone."""
    tally = Tally()
    orders = BitstampOrders("BTCUSD", tally)
    orders.created(1, 1, BUY, 100, 50)
    orders.snapshot(2, BUY, ((100, 80), (98, 10)))
    assert [(u.action, u.order_id < 0, u.price, u.size) for u in orders.updates[1:]] == [
        (ADD, True, 100, 30), (ADD, True, 98, 10),
    ]  # fmt: skip
    orders.deleted(3, 77, BUY, 100, 30)
    orders.snapshot(4, BUY, ((100, 50), (98, 4), (90, 6)))
    assert orders.book.levels(BUY) == {100: 50, 98: 4, 90: 6}


@pytest.mark.parametrize("seed", range(5))
def test_the_book_and_trades_are_the_engines(seed: int, tmp_path: Path) -> None:
    """A recording of an engine of lists comes back as that engine's executions and, in the end, its book."""
    told = busy(seed, 400)
    path, tally, book = write(tmp_path, told.rows), Tally(), OrdersBook()
    traded = 0
    for event in updates(path, BTC, tally):
        if isinstance(event, OrderUpdate):
            book.apply(event)
        elif isinstance(event, Trade):
            traded += event.size
        elif isinstance(event, BookSnapshot):
            assert not event.bids or not event.asks or event.bids[0][0] < event.asks[0][0]
    sizes = {(o.side, o.price): told.engine.size(o.side, o.price) for o in told.engine.orders}
    assert {(s, p): q for s in (BUY, SELL) for p, q in book.levels(s).items()} == sizes
    assert 2 * traded == sum(told.engine.filled.values())
    assert tally.done == path.stat().st_size


def test_both_forms_and_all_packings_say_the_same(tmp_path: Path) -> None:
    """csv and wslog, plain or compressed, are the same events."""
    told = busy(3, 200)
    plain = [list(updates(write(tmp_path, told.rows, form), BTC, Tally())) for form in ("l3orders.csv", "wslog")]
    assert plain[0] == plain[1] != []
    for form in ("l3orders.csv", "wslog"):
        content = write(tmp_path, told.rows, form).read_bytes()
        (tmp_path / f"a.{form}.xz").write_bytes(lzma.compress(content))
        (tmp_path / f"a.{form}.gz").write_bytes(gzip.compress(content))
        for packing in ("xz", "gz"):
            assert list(updates(tmp_path / f"a.{form}.{packing}", BTC, Tally())) == plain[0]


def test_nothing_follows_from_later_lines(tmp_path: Path) -> None:
    """The events of a recording's beginning are the beginning of its events."""
    rows = busy(4, 200).rows
    whole = list(updates(write(tmp_path, rows), BTC, Tally()))
    part = list(updates(write(tmp_path, rows[:120], name="part"), BTC, Tally()))
    assert whole[: len(part)] == part != []


BAD = [
    (csv_line(REST[0]).replace("created", "made"), "action 'made'; allowed: created"),
    (csv_line(REST[0]).replace("bid", "buy"), "direction 'buy'; allowed: bid, ask"),
    (csv_line(REST[0]) + ",", "8 cells; allowed: id,"),
    (csv_line(REST[0]).replace("1.00", "x"), "could not convert"),
    (csv_line(REST[0]).replace("1.00", "nan"), "price nan"),
    (csv_line(REST[0]).replace("1.00", "-1"), "price -1"),
    (csv_line((-5, *REST[0][1:])), "earlier than the line before"),
    ("-" + csv_line(REST[0]), "id '-1'; allowed: a whole number"),
    (csv_line((9 * 10**12, *REST[0][1:])), "allowed: up to 92"),
    (csv_line((10**30, *REST[0][1:])), "time 100000000000000000...; allowed: at most 18 digits"),
    (f"1,{T0_MS},{T0_MS},1.00,{'9' * 400},created,bid", "volume 999999999999999999...; allowed: at most 18"),
    ("\xff\x00", "decode"),
]


@pytest.mark.parametrize(("line", "words"), BAD)
def test_a_bad_row_stops_the_reading(line: str, words: str, tmp_path: Path) -> None:
    """One error names the file, the line, the value and what is allowed."""
    path = tmp_path / "bitstamp_btcusd_x.l3orders.csv"
    path.write_bytes("\n".join([HEADER, csv_line(REST[0]), line]).encode("latin-1"))
    with pytest.raises(ConfigError) as caught:
        list(updates(path, BTC, Tally()))
    assert f"{path}:3: " in str(caught.value) and words in str(caught.value)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (f"{T0_MS} order_gone {{}}", "event 'order_gone'; allowed: order_created"),
        (f'{T0_MS} trade {{"price": 0, "amount": 1}}', "price 0"),
        (f"{T0_MS} trade x", "malformed"),
        (ws_line(REST[0]).replace('_type": 0', '_type": 2'), "order_type"),
        ("", "empty"),
    ],
)
def test_a_bad_message_stops_the_reading(line: str, words: str, tmp_path: Path) -> None:
    """The other form too; a file without a line is an error as well."""
    path = tmp_path / "x.wslog"
    path.write_text(line)
    with pytest.raises(ConfigError, match=words):
        list(updates(path, BTC, Tally()))


def test_a_cut_file_is_named(tmp_path: Path) -> None:
    """A compressed file that ends too early is an error, not the end."""
    path = tmp_path / "x.wslog.xz"
    path.write_bytes(lzma.compress(write(tmp_path, busy(1, 200).rows, "wslog").read_bytes())[:-100])
    with pytest.raises(ConfigError, match="x.wslog.xz"):
        list(updates(path, BTC, Tally()))


def test_a_set_is_found_by_its_file(tmp_path: Path) -> None:
    """The dataset gives books and trades; the orders too where they are asked for; other sets have none."""
    path = write(tmp_path, Told(1).rows or REST, name="bitstamp_btcusd_20150501")
    instrument = instrument_for(path, "BTCUSD")
    dataset = open_dataset(path, instrument)
    assert find_set(path).orders == path
    assert (instrument.tick_size, instrument.lot_size) == ("0.01", "0.00000001")
    assert {type(event) for event in dataset} == {BookSnapshot}
    assert {type(event) for event in dataset.with_orders()} == {BookSnapshot, OrderUpdate}
    (tmp_path / "hyperliquid.jsonl").write_text("{}\n")
    with pytest.raises(ConfigError, match="'fifo'.*hyperliquid.*allowed.*conservative"):
        open_dataset(tmp_path / "hyperliquid.jsonl", instrument).with_orders()


@pytest.mark.slow
def test_the_recorded_orders_make_the_recorded_snapshots(data: Path) -> None:
    """Of the venue's own snapshots, all best prices but four and 99.9% of the levels agree; so do the trades."""
    same = levels = best = sides = 0

    def compare(snapshot: Snapshot, orders: BitstampOrders) -> None:
        nonlocal same, levels, best, sides
        for side, shown in ((BUY, dict(snapshot[1])), (SELL, dict(snapshot[2]))):
            worst = list(shown)[-1]
            ours = {p: q for p, q in orders.book.levels(side).items() if side * (p - worst) >= 0}
            levels += len(shown.keys() | ours.keys())
            same += sum(shown.get(p) == ours.get(p) for p in shown.keys() | ours.keys())
            sides, best = sides + 1, best + (orders.best(side) == next(iter(shown)))

    tally, trades, volume = Tally(), 0, 0
    for event in updates(data / "raw" / "bitstamp_btcusd_20150501.wslog.xz", BTC, tally, compare):
        if isinstance(event, Trade):
            trades, volume = trades + 1, volume + event.size
        if isinstance(event, BookSnapshot) and event.bids and event.asks:
            assert event.bids[0][0] < event.asks[0][0]
    assert sides > 10_000 and sides - best <= 4
    assert same >= 0.999 * levels
    assert (trades, volume, tally.unmatched_trades) == (575, 847_65711841, 9)  # as many, and as much, as recorded
