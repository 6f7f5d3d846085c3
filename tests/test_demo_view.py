"""The demo's words and picture, from made-up summaries."""

import re
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from mmpi.commands.demo_view import picture
from mmpi.commands.demo_words import Frame, account, armed_not, lamp, line, shown, told
from mmpi.status import InstrumentStatus, Latency, OrderCounts, OwnOrder, PnlStatus, RequestStatus, Summary

NOTHING = PnlStatus("0", "0", "0", "0", "0")
RUNNING: dict[str, Any] = {
    "latch": "armed",
    "state": "run",
    "reason": "",
    "live_orders": 2,
    "last_stop": {"reason": "armed", "first_zero_ms": 41.6, "verified_ms": 2040.2},
}
LATCHED = RUNNING | {"latch": "latched", "state": "latched", "reason": "red button"}


def instrument(pnl: PnlStatus = NOTHING, **changes: Any) -> InstrumentStatus:
    """Return an instrument with one own bid beyond the five levels shown of its book."""
    status = InstrumentStatus(
        bid="100050",
        ask="100051",
        position="-0.00099",
        orders=2,
        reason="",
        bids=[(str(100050 - n), "0.5") for n in range(5)],
        asks=[(str(100051 + n), "0.25") for n in range(5)],
        own=[OwnOrder("buy", "100040", "0.00098", "new"), OwnOrder("sell", "100052", "0.00099", "new")],
        pnl=pnl,
    )
    return msgspec.structs.replace(status, **changes)


def summary(**changes: Any) -> Summary:
    """Return a quoting summary of BTC and ETH."""
    pnl = PnlStatus(spread="0.05", inventory="-0.1", funding="0", fees="0.0134", total="-0.0634")
    status = Summary(
        mode="practice",
        venue="hyperliquid",
        state="quoting",
        reason="",
        instruments={"BTC": instrument(pnl), "ETH": instrument()},
        events=100,
        orders=OrderCounts(placed=12, canceled=5, rejected=1, amended=0),
        fills=7,
        pnl=pnl,
        tick_to_order_us=Latency(120.0, 400.0, 9),
        rss_mb=32.4,
        deadman="UNSUPPORTED",
        latch="armed",
        refusals={"stale": 3},
        invariant_violations=0,
        anomalies={},
        requests=RequestStatus(0, 0, 0, 1, 0.0, 0.0, 0),
    )
    return msgspec.structs.replace(status, **changes)


def frame(**changes: Any) -> Frame:
    """Return the frame of a healthy box."""
    healthy = Frame(
        elapsed_s=12.3,
        title="practice hyperliquid",
        summary=summary(),
        beat_age_s=0.02,
        guardian=RUNNING,
        quoter="runs (pid 1)",
        message="armed",
    )
    return msgspec.structs.replace(healthy, **changes)


def screen(shown_frame: Frame, width: int = 80, height: int = 24) -> list[str]:
    """Return the lines of text that a terminal of this size would show, without colours."""
    console = Console(record=True, width=width, height=height, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        console.print(picture(shown_frame, height))
        return console.export_text().splitlines()


def row(lines: list[str], start: str) -> str:
    """Return the only line that starts with a word."""
    (found,) = [text for text in lines if text.startswith(start)]
    return found


def test_orders_that_the_guardian_no_longer_sees_are_not_shown() -> None:
    """A frozen quoter's last word shows orders that the guardian has cancelled: its zero wins over that word."""
    own = "sell 0.00099"
    assert any(own in text for text in screen(frame()))
    assert any(own in text for text in screen(frame(guardian=LATCHED)))
    assert not any(own in text for text in screen(frame(guardian=LATCHED | {"live_orders": 0})))


@pytest.mark.parametrize(
    ("changes", "colour", "words"),
    [
        ({}, "green", "quoting"),
        ({"summary": None}, "yellow", "paused: starting"),
        ({"guardian": RUNNING | {"state": "paused", "reason": "quoter_died"}}, "yellow", "paused: quoter_died"),
        ({"summary": summary(state="paused", reason="paused: no guardian")}, "yellow", "paused: no guardian"),
        ({"summary": summary(state="reconciling", reason="reconciling")}, "yellow", "paused: reconciling"),
        ({"guardian": LATCHED}, "red", "latched: red button"),
        ({"guardian": None}, "red", "no sign of life from the guardian"),
        ({"beat_age_s": 2.6}, "red", "no sign of life from the quoter for 3 s"),
    ],
)
def test_one_lamp_tells_the_state(changes: dict[str, Any], colour: str, words: str) -> None:
    """Each state of the box lights its lamp and says its reason."""
    assert lamp(frame(**changes)) == (colour, words)


def test_the_latch_is_worse_news_than_silence() -> None:
    """A latched box whose quoter was killed is latched, not merely silent."""
    assert lamp(frame(guardian=LATCHED, beat_age_s=60.0)) == ("red", "latched: red button")


def test_lamps_are_readable_without_colour() -> None:
    """The lit lamp is full and has the words, the other two are hollow."""
    assert screen(frame())[1].split("    ")[:3] == [" ● quoting", "○ paused", "○ stopped"]
    assert screen(frame(guardian=LATCHED))[1].split("    ")[:3] == [" ○ quoting", "○ paused", "● latched: red button"]


def test_a_small_terminal_shows_everything() -> None:
    """At 80 by 24 no line is wrapped or lost, and no number is cut."""
    lines = screen(frame())
    assert len(lines) == 24
    assert max(map(len, lines)) <= 80
    assert not [text for text in lines if "…" in text]
    assert "red button" in lines[-1] and "quit" in lines[-1]


def test_a_high_terminal_shows_deeper_books() -> None:
    """With more lines the whole book of the status is there, levels in order of price."""
    prices = [int(found[0]) for text in screen(frame(), 120, 40) if (found := re.findall(r"\b100\d{3}\b", text))]
    assert prices == [*range(100055, 100045, -1), 100040]


def test_own_orders_are_marked_with_side_and_size() -> None:
    """An own order stands at its price, even beyond the levels that fit."""
    lines = screen(frame())
    (sell,) = [text for text in lines if "100052" in text]
    (buy,) = [text for text in lines if "100040" in text]
    assert sell[:36].split() == ["sell", "0.00099", "100052", "0.25"]
    assert buy[:36].split() == ["buy", "0.00098", "100040"]


def test_orders_at_one_price_are_one_line() -> None:
    """Two own orders at one price are shown with their sum, and with a ? while one is not confirmed."""
    own = [OwnOrder("sell", "100052", "0.001", "new"), OwnOrder("sell", "100052", "0.002", "pending_new")]
    lines = screen(frame(summary=summary(instruments={"BTC": instrument(own=own)})))
    assert [text.split()[:3] for text in lines if "100052" in text] == [["sell", "0.003?", "100052"]]


def test_an_empty_book_leaves_the_picture_in_shape() -> None:
    """An instrument without any price takes the same lines."""
    empty = instrument(bid="", ask="", bids=[], asks=[], own=[], reason="no_book")
    lines = screen(frame(summary=summary(instruments={"BTC": empty})))
    assert len(lines) == 23
    assert "no_book" in row(lines, "BTC  position")


def test_old_news_is_called_old() -> None:
    """What a silent quoter last published is labelled with its age, in the books and in its own line."""
    lines = screen(frame(beat_age_s=4.2, quoter="frozen (pid 1)"))
    assert "  4 s old" in row(lines, "BTC  position")
    assert "frozen (pid 1)  SILENT 4 s" in row(lines, "quoter")


def test_the_processes_are_described() -> None:
    """Guardian, last stop, latency, memory, counts and refusals are all in words."""
    lines = screen(frame())
    assert row(lines, "guardian") == "guardian run  live orders 2  last stop: zero orders 42 ms, verified 2040 ms"
    assert row(lines, "quoter") == "quoter   runs (pid 1)  beat 20 ms  tick to order us p50 120 p99 400  32 MB"
    assert row(lines, "orders") == "orders   placed 12  canceled 5  rejected 1  fills 7  violations 0"
    assert row(lines, "refusals") == "refusals stale 3"
    assert "does not answer" in row(screen(frame(guardian=None)), "guardian")


def test_nothing_published_yet() -> None:
    """Before the quoter's first word there are lamps, the message and the keys."""
    lines = screen(frame(summary=None, message="starting"))
    assert lines[1:3] == [" ○ quoting    ● paused: starting    ○ stopped    ", "starting"]


money = st.decimals(-1000, 1000, places=12).map(str)
pnls = st.builds(PnlStatus, money, money, money, money, st.just("0"))


@given(btc=pnls, eth=pnls)
def test_shown_money_adds_up(btc: PnlStatus, eth: PnlStatus) -> None:
    """Whatever the digits behind the shown ones, every row and every column of the table adds up as shown."""
    lines = screen(frame(summary=summary(instruments={"BTC": instrument(btc), "ETH": instrument(eth)})))
    first = lines.index(row(lines, "P&L")) + 1
    table = [[Decimal(number) for number in text.split()[1:]] for text in lines[first : first + 3]]
    for spread, inventory, funding, fees, total in table:
        assert spread + inventory + funding - fees == total
    assert [a + b for a, b in zip(table[0], table[1], strict=True)] == table[2]


@given(pnl=pnls)
def test_shown_money_is_near_the_exact(pnl: PnlStatus) -> None:
    """No part is off by more than half of its last digit."""
    for name, value in shown(pnl).items():
        if name != "total":
            assert abs(value - Decimal(getattr(pnl, name))) <= Decimal("0.00005")


def test_a_line_tells_it_all() -> None:
    """A log line has time, state, touch, position, fills and P&L with its parts."""
    assert line(frame(summary=summary(instruments={"BTC": instrument()}))) == (
        "12s quoting BTC 100050/100051 pos -0.00099 fills 7 pnl -0.0634 "
        "(spread +0.0500 inventory -0.1000 funding +0.0000 fees 0.0134)"
    )
    assert line(frame(summary=None)) == "12s paused: starting"


def test_the_account_ends_with_the_identity() -> None:
    """The last line is the exact identity; orders left and restarts are told."""
    text = account(summary(), 20.0, 1, 0)
    assert text.splitlines()[-1] == (
        "p&l         total -0.0634 = spread 0.05 + inventory -0.1 + funding 0 - fees 0.0134"
    )
    assert "left at the exchange: 0" in text and "started" not in text
    assert "left at the exchange: unknown" in account(summary(), 20.0, 1, None)
    assert "quoter started 2 times" in account(summary(), 20.0, 2, 0)


def test_the_guardians_account_in_words() -> None:
    """A verified stop has its sentence, and so has an arming that did not come about."""
    stop = {"reason": "kill_button", "first_zero_ms": 89.4, "verified_ms": 2057.0}
    assert told(stop) == "zero orders at the exchange: first seen after 89 ms, verified after 2057 ms"
    assert armed_not(None) == "the guardian does not answer"
    assert armed_not({"causes": ["kill_button", "power"]}) == "kill_button; power"
    assert "not there yet" in armed_not({"causes": []})


def test_the_footer_shows_the_pins() -> None:
    """The lamps at the end of the last line are lit as the box's pins are, and it still fits."""
    assert screen(frame())[-1].rstrip().endswith("○ ○ ○")
    assert screen(frame(lamps=(True, False, True)))[-1].rstrip().endswith("● ○ ●")
    assert len(screen(frame(lamps=(True, True, True)))[-1].rstrip()) <= 80
