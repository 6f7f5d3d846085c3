"""mmpi.runtime.showing: what matters is shown at the next look, the rest as seldom as it can be."""

from typing import Any

import msgspec
import pytest
from engine_builders import Bench, report

from mmpi.events import ExecType, Flatten
from mmpi.instrument import MILLISECOND, MONEY_SCALE, SELL
from mmpi.runtime.showing import Showing
from mmpi.runtime.summary import summarise, worded
from mmpi.status import FillStatus, Latency, Summary


class Shelf:
    """A keeper that is told what to say."""

    def __init__(self) -> None:
        self.fault = ""
        self.fills = 0
        self.last_fills: list[FillStatus] = []


class Stand:
    """A quoting engine that is looked at every 250 ms."""

    def __init__(self) -> None:
        self.bench, self.shelf, self.wholes = Bench().start(), Shelf(), 0
        self.now = self.bench.now
        self.showing = Showing(self.bench.engine, self.shelf, self._whole)
        self.board: dict[str, Any] = {}

    def _whole(self) -> Summary:
        self.wholes += 1
        return summarise(
            self.bench.engine, mode="paper", venue="sim", latency=Latency(0.0, 0.0, self.wholes), latch="armed",
            now=self.now, run_fills=self.shelf.fills, last_fills=self.shelf.last_fills,
        )  # fmt: skip

    def look(self) -> bool:
        """Return True if there was something new, 250 ms later; it is on the board then."""
        self.now += 250 * MILLISECOND
        text = self.showing.text(self.now)
        if text:
            self.board = msgspec.json.decode(text)
        return bool(text)


@pytest.fixture
def stand() -> Stand:
    """Give one that has been looked at once."""
    stand = Stand()
    assert stand.look() and stand.wholes == 1
    return stand


def test_a_quiet_minute_costs_little(stand: Stand) -> None:
    """In a minute of looks 80 statuses are made, 40 of them whole."""
    assert sum(stand.look() for _ in range(240)) == 80
    assert stand.wholes == 41


def test_a_busy_market_costs_no_more(stand: Stand) -> None:
    """Books and fills move the figures, not how often they are made."""
    shown = 0
    for number in range(240):
        stand.bench.book(bid=990 + number % 9)
        stand.shelf.fills += 1
        shown += stand.look()
    assert shown == 80


def test_markets_are_shown_within_three_looks(stand: Stand) -> None:
    """A touch that moved, a fill and the profit are there 750 ms later, in a status that is not whole."""
    stand.bench.fill(stand.bench.orders()[0], 10, fee=7)
    stand.bench.book(bid=997, ask=1003)
    stand.shelf.fills = 1
    assert [stand.look() for _ in range(3)] == [False, False, True]
    assert (stand.board["instruments"]["A"]["bid"], stand.board["instruments"]["A"]["ask"]) == ("997", "1003")
    assert (stand.board["fills"], stand.board["run_fills"]) == (1, 1)
    assert stand.board["pnl"] == stand.board["instruments"]["A"]["pnl"]
    assert stand.board["pnl"]["total"] != "0"
    assert stand.wholes == 1


def test_what_was_refreshed_is_what_a_whole_one_says(stand: Stand) -> None:
    """Nothing of a market differs between the two ways to make it."""
    stand.bench.fill(stand.bench.orders()[0], 10, fee=7)
    for _ in range(3):
        stand.look()
    whole = msgspec.json.decode(msgspec.json.encode(stand._whole()))
    for key in ("instruments", "events", "fills", "pnl", "run_fills", "last_fills", "state", "reason", "latch"):
        assert stand.board[key] == whole[key], key


@pytest.mark.parametrize("what", ["latched", "paused", "storage", "clock", "flatten", "stopping", "one market"])
def test_what_matters_is_shown_at_once(stand: Stand, what: str) -> None:
    """The next look after it is a whole status that says so; the one after that has nothing to add."""
    bench, before = stand.bench, dict(stand.board)
    match what:
        case "latched":
            bench.halt("pressed", latched=True)
        case "paused":
            bench.halt("wait", latched=False)
        case "storage":
            stand.shelf.fault = "no space left on device"
        case "clock":
            bench.clock("not set")
        case "flatten":
            bench.feed(Flatten(bench.now, "by hand"))
        case "stopping":
            bench.stop()
        case "one market":
            bench.engine.desks["A"].reason = "book is crossed"
    assert stand.look() and stand.wholes == 2
    assert what == "storage" or stand.board != before
    if what != "stopping":
        assert not stand.look()


def test_a_stopped_engine_is_shown_whole_whenever_it_is_asked(stand: Stand) -> None:
    """The last status of a run leaves nothing out, however soon it comes after the one before."""
    bench = stand.bench
    bench.stop()
    bench.acknowledge()
    bench.confirm()
    assert bench.engine.stopped
    assert stand.showing.text(stand.now + 1) and stand.showing.text(stand.now + 2)
    assert stand.wholes == 3


def test_fills_in_words() -> None:
    """Prices, sizes and fees are exact text in the instrument's own units."""
    bench = Bench().start()
    fill = report(
        5, "x", ExecType.TRADE, size=12, price=1001, side=SELL, fee=15 * MONEY_SCALE // 1000, exec_id="e"
    )  # fmt: skip
    assert worded(bench.engine, fill) == FillStatus("e", "A", "sell", "1001", "12", "0.015", True, 5, 5)
