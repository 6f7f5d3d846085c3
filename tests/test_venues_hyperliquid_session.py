"""The session: frames in the venue's documented form become events, actions become signed frames."""

import gzip
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmpi.actions import (
    Action,
    Approved,
    CancelOrder,
    NewOrder,
    QueryOrder,
    RequestBudget,
    RequestLatch,
    RequestReconcile,
    TimeInForce,
)
from mmpi.errors import LocalError
from mmpi.events import (
    RATE_LIMIT,
    BookSnapshot,
    Event,
    ExecReport,
    ExecType,
    Mark,
    OpenOrder,
    Reconciled,
    Trade,
    VenueFault,
)
from mmpi.instrument import BUY, SECOND, SELL
from mmpi.venues.hyperliquid import fills, names, outbox
from mmpi.venues.hyperliquid.messages import CHANNELS, Message, instrument_from_meta
from mmpi.venues.hyperliquid.session import HyperliquidSession
from mmpi.venues.hyperliquid.signing import Signer, connection_id
from mmpi.venues.hyperliquid.words import MAX_REASON

WIRE = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "wire" / "hyperliquid"
RECORDED = WIRE / "ws_l2book_trades_btc_20250126.jsonl.gz"
ACCOUNT = "0x" + "ab" * 20
PREFIX = "0x1111222233334444"
MS = 1_000_000
NOW = 1_700_000_000_000 * MS
SIGNER = Signer((7).to_bytes(32, "big"), mainnet=False)


def new_session(*, signer: Signer | None = SIGNER) -> HyperliquidSession:
    """Return a session for BTC (asset 3) and ETH (asset 4)."""
    instruments = {"BTC": (instrument_from_meta("BTC", 5), 3), "ETH": (instrument_from_meta("ETH", 4), 4)}
    return HyperliquidSession(instruments, ACCOUNT, signer, PREFIX, 2000)


def cloid(number: int, prefix: str = PREFIX) -> str:
    """Return one of our ids."""
    return f"{prefix}{number:016x}"


def place(number: int, **changes: Any) -> NewOrder:
    """Return a buy of 0.001 BTC at 50000."""
    fields = {"instrument": "BTC", "side": BUY, "price": 500_000, "size": 100, "level": 0} | changes
    return NewOrder(cl_ord_id=cloid(number), **fields)


def sent(session: HyperliquidSession, *actions: Action, now: int = NOW) -> list[dict[str, Any]]:
    """Return the frames that carry the actions, decoded."""
    return [json.loads(frame) for frame in session.send([Approved(now, action) for action in actions], now)]


ECHO = {"method": "subscribe", "subscription": {"type": "trades", "coin": "BTC"}}


def channel(name: str, data: object) -> bytes:
    """Return a frame of a channel."""
    return json.dumps({"channel": name, "data": data}).encode()


def answer(post_id: int, kind: str, payload: object) -> bytes:
    """Return the frame that answers a post."""
    return channel("post", {"id": post_id, "response": {"type": kind, "payload": payload}})


def statuses(post_id: int, *each: object, kind: str = "order") -> bytes:
    """Return the frame that accepts an action, with a status for each of its orders."""
    ok = {"status": "ok", "response": {"type": kind, "data": {"statuses": list(each)}}}
    return answer(post_id, "action", ok)


def order(oid: int, cloid_: str | None, **changes: Any) -> dict[str, Any]:
    """Return an order as the venue describes it."""
    fields = {
        "coin": "BTC", "side": "B", "limitPx": "50000.0", "sz": "0.001", "oid": oid, "origSz": "0.001",
        "timestamp": 1_700_000_000_000,
    }  # fmt: skip
    return fields | ({} if cloid_ is None else {"cloid": cloid_}) | changes


def update(oid: int, cloid_: str | None, status: str, **changes: Any) -> bytes:
    """Return an orderUpdates frame with one update."""
    one = {"order": order(oid, cloid_, **changes), "status": status, "statusTimestamp": 1_700_000_000_123}
    return channel("orderUpdates", [one])


def fill(tid: int, oid: int, **changes: Any) -> dict[str, Any]:
    """Return a fill as the venue describes it: a maker's buy with a rebate."""
    return {
        "coin": "BTC", "px": "50000.0", "sz": "0.0004", "side": "B", "time": 1_700_000_000_500, "startPosition": "0.0",
        "dir": "Open Long", "closedPnl": "0.0", "hash": "0x0", "oid": oid, "crossed": False, "fee": "-0.002",
        "tid": tid, "feeToken": "USDC",
    } | changes  # fmt: skip


def user_fills(*each: dict[str, Any], snapshot: bool | None = None) -> bytes:
    """Return a userFills frame."""
    data: dict[str, Any] = {"user": ACCOUNT, "fills": list(each)}
    return channel("userFills", data if snapshot is None else data | {"isSnapshot": snapshot})


def reports(events: list[Event]) -> list[ExecReport]:
    """Return the execution reports; every event must be one, or the fault that one of them tells of."""
    assert all(isinstance(event, ExecReport | VenueFault) for event in events)
    return [event for event in events if isinstance(event, ExecReport)]


def outcome(events: list[Event]) -> list[tuple[ExecType, str, str]]:
    """Return what the reports say: type, our id, the venue's id."""
    return [(report.exec_type, report.cl_ord_id, report.order_id) for report in reports(events)]


def recorded() -> Iterator[tuple[int, bytes]]:
    """Return the recorded frames with their receive times; skips the test where they are absent."""
    if not RECORDED.exists():
        pytest.skip("recorded Hyperliquid frames are absent")
    with gzip.open(RECORDED) as lines:
        for line in lines:
            recv_ts, frame = line.split(b" ", 1)
            yield int(recv_ts), frame.rstrip()


# Market data


def test_subscribes_to_market_data_and_private_streams() -> None:
    """With a key, three channels for each coin and four for the account."""
    subscriptions = [json.loads(frame) for frame in new_session().connected(NOW)]
    assert {frame["method"] for frame in subscriptions} == {"subscribe"}
    assert [frame["subscription"] for frame in subscriptions] == [
        {"type": "l2Book", "coin": "BTC"},
        {"type": "trades", "coin": "BTC"},
        {"type": "activeAssetCtx", "coin": "BTC"},
        {"type": "l2Book", "coin": "ETH"},
        {"type": "trades", "coin": "ETH"},
        {"type": "activeAssetCtx", "coin": "ETH"},
        {"type": "orderUpdates", "user": ACCOUNT},
        {"type": "userFills", "user": ACCOUNT},
        {"type": "userFundings", "user": ACCOUNT},
        {"type": "userEvents", "user": ACCOUNT},
    ]


def test_paper_reads_market_data_only() -> None:
    """Without a key there is no private subscription and nothing can be sent."""
    session = new_session(signer=None)
    assert not any(b"user" in frame for frame in session.connected(NOW))
    with pytest.raises(LocalError, match="market data only"):
        session.send([Approved(NOW, place(1))], NOW)


def context(coin: str = "BTC", **ctx: object) -> bytes:
    """Return a frame of activeAssetCtx as documented ("Subscriptions", WsActiveAssetCtx): decimals as text."""
    data = {"coin": coin, "ctx": {"openInterest": "688.11", "midPx": None, **ctx}}
    return json.dumps({"channel": "activeAssetCtx", "data": data}).encode()


def test_the_venues_mark_oracle_and_funding() -> None:
    """Prices become float ticks between the ticks, too; the rate is due at the next full hour."""
    session = new_session()
    now = 1_700_000_000 * SECOND  # 22:13:20
    frame = context(markPx="14.3161", oraclePx="14.32", funding="0.0000125")
    (mark,) = session.receive(frame, now)
    ticks = instrument_from_meta("BTC", 5).ticks_per_quote
    assert isinstance(mark, Mark)
    assert (mark.recv_ts, mark.instrument, mark.exch_ts, mark.rate) == (now, "BTC", 0, 0.0000125)
    assert (mark.mark, mark.index) == (pytest.approx(14.3161 * ticks), pytest.approx(14.32 * ticks))
    assert mark.next_ts == now + 2800 * SECOND


@pytest.mark.parametrize("price", ["0.0", "-1.0", "1e300", "nan", "inf"])
def test_a_mark_that_is_no_price_is_unavailable(price: str) -> None:
    """UNAVAILABLE, not a number to quote around; the same where it is left out. Other coins are not ours."""
    session = new_session()
    silent = Mark(NOW, "BTC", 0, 0.0)
    assert session.receive(context(markPx=price, oraclePx=price), NOW) in ([silent], [])
    assert session.receive(context(), NOW) == [silent]
    assert (session.receive(context("DOGE", markPx="1.0"), NOW), session.ignored) == ([], 1)


@pytest.mark.parametrize("rate", ["1.0", "-7", "1e300"])
def test_a_rate_that_is_none_is_not_due(rate: str) -> None:
    """A funding payment of the whole notional is a broken message, not a payment."""
    (mark,) = new_session().receive(context(markPx="100.0", funding=rate), NOW)
    assert isinstance(mark, Mark)
    assert (mark.mark > 0, mark.rate, mark.next_ts) == (True, 0.0, 0)


def test_recorded_books_are_read_exactly() -> None:
    """Every level of every recorded book equals what Instrument makes of its text."""
    session = new_session()
    instrument = instrument_from_meta("BTC", 5)
    books = 0
    for recv_ts, frame in recorded():
        message = json.loads(frame)
        if message["channel"] != "l2Book":
            continue
        books += 1
        [book] = session.receive(frame, recv_ts)
        assert isinstance(book, BookSnapshot)
        assert (book.recv_ts, book.instrument, book.exch_ts) == (recv_ts, "BTC", message["data"]["time"] * MS)
        for ours, theirs in zip((book.bids, book.asks), message["data"]["levels"], strict=True):
            exact = tuple((instrument.ticks(level["px"]), instrument.lots(level["sz"])) for level in theirs)
            assert ours == exact
    assert books > 20
    assert session.unreadable == 0


@given(st.sampled_from([("BTC", 5), ("ETH", 4)]), st.integers(1, 10**8), st.integers(1, 10**9))
def test_any_level_on_the_grid_is_read_exactly(coin: tuple[str, int], price: int, size: int) -> None:
    """The way through floats loses no tick and no lot, in books and in trades."""
    session, instrument = new_session(), instrument_from_meta(*coin)
    level = {"px": instrument.price_text(price), "sz": instrument.size_text(size), "n": 1}
    [book] = session.receive(channel("l2Book", {"coin": coin[0], "time": 1, "levels": [[level], []]}), NOW)
    assert isinstance(book, BookSnapshot)
    [trade] = session.receive(channel("trades", [level | {"coin": coin[0], "side": "B", "time": 2, "tid": 1}]), NOW)
    assert isinstance(trade, Trade)
    assert (book.bids, trade.price, trade.size) == (((price, size),), price, size)


def test_recorded_trades_are_those_since_the_first_book() -> None:
    """The trades that every subscribe repeats are left out, the later ones have the taker's side."""
    session = new_session()
    first_book: int | None = None
    expected: list[tuple[int, int, int]] = []
    events: list[Event] = []
    for recv_ts, frame in recorded():
        message = json.loads(frame)
        events += session.receive(frame, recv_ts)
        if message["channel"] == "l2Book":
            first_book = first_book or message["data"]["time"]
        elif message["channel"] == "trades" and first_book is not None:
            later = [trade for trade in message["data"] if trade["time"] > first_book]
            expected += [(t["tid"], 1 if t["side"] == "B" else -1, round(float(t["sz"]) * 1e5)) for t in later]
    trades = [event for event in events if isinstance(event, Trade)]
    assert [(trade.trade_id, trade.side, trade.size) for trade in trades] == expected
    assert expected
    assert session.ignored > 0


def test_trades_before_the_connections_first_book_are_not_repeated_after_a_reconnect() -> None:
    """A reconnect starts anew: what was traded before its first book was heard or missed, never heard twice."""
    session = new_session()
    trade = {"coin": "BTC", "side": "A", "px": "50000.0", "sz": "0.1", "time": 2000, "tid": 1}

    def book(time: int) -> bytes:
        return channel("l2Book", {"coin": "BTC", "time": time, "levels": [[], []]})

    session.receive(book(1000), NOW)
    heard = session.receive(channel("trades", [trade]), NOW)
    assert heard == [Trade(NOW, "BTC", 2000 * MS, 1, SELL, 500_000, 10_000)]
    session.disconnected(NOW)
    assert session.receive(channel("trades", [trade]), NOW) == []
    session.receive(book(3000), NOW)
    assert session.receive(channel("trades", [trade]), NOW) == []


# Placing and cancelling


def test_places_share_one_signed_frame() -> None:
    """A batch is one post whose signature is over exactly the action it carries."""
    session = new_session()
    other = place(2, side=SELL, price=500_010, time_in_force=TimeInForce.IOC, reduce_only=True)
    third = place(3, instrument="ETH", price=200_000, size=10_000, time_in_force=TimeInForce.GTC)
    [frame] = sent(session, place(1), other, third)
    payload = frame["request"]["payload"]
    assert (frame["method"], frame["request"]["type"]) == ("post", "action")
    assert payload["action"] == {
        "type": "order",
        "orders": [
            {"a": 3, "b": True, "p": "50000", "s": "0.001", "r": False, "t": {"limit": {"tif": "Alo"}}, "c": cloid(1)},
            {"a": 3, "b": False, "p": "50001", "s": "0.001", "r": True, "t": {"limit": {"tif": "Ioc"}}, "c": cloid(2)},
            {"a": 4, "b": True, "p": "2000", "s": "1", "r": False, "t": {"limit": {"tif": "Gtc"}}, "c": cloid(3)},
        ],
        "grouping": "na",
    }
    assert payload["nonce"] == NOW // MS
    assert payload["expiresAfter"] == NOW // MS + 2000
    assert payload["vaultAddress"] is None
    r, s, v = SIGNER.sign(payload["action"], payload["nonce"], payload["expiresAfter"])
    assert payload["signature"] == {"r": r, "s": s, "v": v}


def test_key_order_on_the_wire_is_the_signed_order() -> None:
    """A server that hashes the JSON as it came gets the hash that was signed."""
    [frame] = sent(new_session(), place(1))
    action = frame["request"]["payload"]["action"]
    assert [list(action), list(action["orders"][0])] == [["type", "orders", "grouping"], list("abpsrtc")]
    assert connection_id(action, 1, 2) != connection_id(dict(reversed(action.items())), 1, 2)


def test_cancels_go_first_and_by_oid_when_all_are_known() -> None:
    """One frame for all cancels, before the places."""
    session = new_session()
    cancels = [CancelOrder("BTC", cloid(1), "11"), CancelOrder("ETH", cloid(2), "12")]
    first, second = sent(session, place(3), *cancels)
    expected = {"type": "cancel", "cancels": [{"a": 3, "o": 11}, {"a": 4, "o": 12}]}
    assert first["request"]["payload"]["action"] == expected
    assert second["request"]["payload"]["action"]["type"] == "order"


def test_cancels_go_by_our_id_when_an_oid_is_unknown() -> None:
    """One order that the venue has not named yet makes the batch go by cloid, still under one signature."""
    cancels = [CancelOrder("BTC", cloid(1), "11"), CancelOrder("ETH", cloid(2), "")]
    [frame] = sent(new_session(), *cancels)
    assert frame["request"]["payload"]["action"] == {
        "type": "cancelByCloid",
        "cancels": [{"asset": 3, "cloid": cloid(1)}, {"asset": 4, "cloid": cloid(2)}],
    }


def test_nonces_rise_strictly_even_when_the_clock_does_not() -> None:
    """Two actions in one millisecond, or after a step back of the clock, never share a nonce."""
    session = new_session()
    times = [NOW, NOW, NOW + MS, NOW - 5 * MS, NOW + 10 * MS]
    nonces = [sent(session, place(i), now=now)[0]["request"]["payload"]["nonce"] for i, now in enumerate(times)]
    base = NOW // MS
    assert nonces == [base, base + 1, base + 2, base + 3, base + 10]


def test_questions_are_not_signed() -> None:
    """Order queries and reconciliation are info posts; a latch request is not the venue's business."""
    session = new_session()
    query, *three = sent(session, QueryOrder("BTC", cloid(1), ""), RequestReconcile("start"), RequestLatch("loss"))
    assert query["request"] == {
        "type": "info",
        "payload": {"type": "orderStatus", "user": ACCOUNT, "oid": cloid(1)},
    }
    kinds = [frame["request"]["payload"] for frame in three]
    names_of = ("frontendOpenOrders", "clearinghouseState", "userFills")
    assert kinds == [{"type": kind, "user": ACCOUNT} for kind in names_of]
    assert len({frame["id"] for frame in (query, *three)}) == 4


# Answers to batches


def test_a_batch_is_answered_order_by_order() -> None:
    """Resting and filled name the order; a refusal rejects it, with the venue's sentence as its reason."""
    session = new_session()
    [frame] = sent(session, place(1), place(2), place(3))
    events = session.receive(
        statuses(
            frame["id"],
            {"resting": {"oid": 11}},
            {"filled": {"totalSz": "0.001", "avgPx": "50000.0", "oid": 12}},
            {"error": "Post only order would have immediately matched, bbo was 49999@50000. asset=3"},
        ),
        NOW,
    )
    assert outcome(events) == [
        (ExecType.NEW, cloid(1), "11"),
        (ExecType.NEW, cloid(2), "12"),
        (ExecType.REJECTED, cloid(3), ""),
    ]
    assert "bbo was" in reports(events)[2].reason
    assert session.unknown_errors == 0


REFUSALS = [
    "Price must be divisible by tick size.",
    "Order must have minimum value of $10.",
    "Insufficient margin to place order.",
    "Reduce only order would increase position.",
    "Post only order would have immediately matched, bbo was 1@2.",
    "Order could not immediately match against any resting orders.",
    "Order would increase open interest while open interest is capped",
    "Order rejected due to price more aggressive than oracle while at open interest cap",
    "Order would increase open interest too quickly",
    "Order price too far from oracle",
    "Price too far from oracle asset=3",
    "Order would cause position to exceed margin tier limit at current leverage",
    "Order has insufficient spot balance to trade",
    "Insufficient spot balance asset=10107",
    "Reduce-only is invalid for spot trading.",
    "Only post-only orders allowed immediately after network upgrade",
]
ACTION_REFUSALS = [
    "Invalid nonce: duplicate nonce 1700000000000",
    "L1 error: User or API Wallet 0xcd9de27135a4e0826525509178e97d592f24ef5a does not exist.",
    "Must deposit before performing actions. User: 0x00",
    "Too many cumulative requests sent (10001 > 10000) for cumulative volume traded $0.0.",
    "Unable to recover signer.",
    "Vault not registered: 0x5a5a",
    "Action expired",
    "Action already expired",
]


@pytest.mark.parametrize("text", REFUSALS + ACTION_REFUSALS)
def test_documented_refusals_are_certain(text: str) -> None:
    """Every documented error proves that the order was never live."""
    session = new_session()
    [frame] = sent(session, place(1))
    events = session.receive(statuses(frame["id"], {"error": text}), NOW)
    assert outcome(events) == [(ExecType.REJECTED, cloid(1), "")]
    assert session.unknown_errors == 0


@pytest.mark.parametrize("text", ACTION_REFUSALS)
@pytest.mark.parametrize("kind", ["place", "cancel"])
def test_a_refused_action_refuses_everything_in_it(kind: str, text: str) -> None:
    """Status err with a known sentence: places are rejected, cancels are known to have done nothing."""
    session = new_session()
    actions = [place(1), place(2)] if kind == "place" else [CancelOrder("BTC", cloid(i), str(i)) for i in (1, 2)]
    [frame] = sent(session, *actions)
    events = session.receive(answer(frame["id"], "action", {"status": "err", "response": text}), NOW)
    expected = ExecType.REJECTED if kind == "place" else ExecType.CANCEL_REJECTED
    assert [report.exec_type for report in reports(events)] == [expected, expected]


def test_one_error_for_a_whole_batch_applies_to_all() -> None:
    """Pre-validation answers once for the payload."""
    session = new_session()
    [frame] = sent(session, place(1), place(2), place(3))
    events = session.receive(statuses(frame["id"], {"error": "Price must be divisible by tick size."}), NOW)
    assert [report.exec_type for report in reports(events)] == [ExecType.REJECTED] * 3
    assert [report.cl_ord_id for report in reports(events)] == [cloid(1), cloid(2), cloid(3)]


def unknown_answers(post_id: int) -> list[bytes]:
    """Return answers to a batch of two that prove nothing."""
    return [
        statuses(post_id, {"error": "Something new"}, {"error": "Something else"}),
        statuses(post_id, {"resting": {"oid": 1}}),
        statuses(post_id),
        statuses(post_id, "waitingForFill", {}),
        statuses(post_id, 1, 2),
        answer(post_id, "action", {"status": "err", "response": "Something new"}),
        answer(post_id, "action", {"status": "err", "response": {"why": 1}}),
        answer(post_id, "action", {"status": "ok", "response": {"type": "default"}}),
        answer(post_id, "action", "?"),
        answer(post_id, "error", "429 Too Many Requests: Invalid nonce"),
        answer(post_id, "error", {"code": 500}),
        answer(post_id, "info", {"type": "meta", "data": {}}),
    ]


@pytest.mark.parametrize("kind", ["place", "cancel"])
@pytest.mark.parametrize("number", range(12))
def test_what_proves_nothing_leaves_the_fate_unknown(number: int, kind: str) -> None:
    """Every order of a batch whose answer is not understood is LOST, and it is counted."""
    session = new_session()
    actions = [place(1), place(2)] if kind == "place" else [CancelOrder("BTC", cloid(i), str(i)) for i in (1, 2)]
    [frame] = sent(session, *actions)
    events = session.receive(unknown_answers(frame["id"])[number], NOW)
    assert [(report.exec_type, report.cl_ord_id) for report in reports(events)] == [
        (ExecType.LOST, cloid(1)),
        (ExecType.LOST, cloid(2)),
    ]
    assert session.unknown_errors == 2
    assert session.last_error


def test_an_error_instead_of_an_answer_is_told_as_it_came() -> None:
    """The venue's sentence is the reason, and the frame counts as read."""
    session = new_session()
    [frame] = sent(session, place(1))
    [report] = reports(session.receive(answer(frame["id"], "error", "429 Too Many Requests"), NOW))
    text = "rate limit: 429 Too Many Requests"
    assert (report.reason, session.last_error) == (text, text)
    assert session.unreadable == 0


@pytest.mark.parametrize(("text", "is_limit"), [
    ("429", True), ("429 Too Many Requests", True), ("HTTP 429: slow down", True), ("Error: Too Many Requests", True),
    ("Order price too far from oracle asset=10429", False), ("Insufficient margin to place order. asset=429", False),
    ("Post only order would have immediately matched, bbo was 64290@64291. asset=0", False),
    ("503 Service Unavailable, request 1429", False),
])  # fmt: skip
def test_a_number_that_looks_like_https_limit_is_none(text: str, is_limit: bool) -> None:
    """HTTP's 429 stands in front; anywhere else it is part of a price, of an asset's or of an order's number."""
    session = new_session()
    [frame] = sent(session, place(1))
    [report] = reports(session.receive(answer(frame["id"], "action", {"status": "err", "response": text}), NOW))
    assert report.reason.startswith(RATE_LIMIT) is is_limit


def test_a_reason_is_bounded() -> None:
    """A venue's endless sentence does not fill the journal, wherever it stands."""
    endless = "Something new " * 100_000
    session = new_session()
    [first, second, third, fourth, fifth] = [sent(session, place(number))[0]["id"] for number in range(5)]
    [query] = sent(session, QueryOrder("BTC", cloid(9), "9"))
    events = [
        *session.receive(statuses(first, {"error": endless}), NOW),
        *session.receive(statuses(second, endless), NOW),
        *session.receive(answer(third, "action", {"status": "err", "response": endless}), NOW),
        *session.receive(answer(fourth, "error", endless), NOW),
        *session.receive(answer(fifth, endless, 1), NOW),
        *session.receive(answer(query["id"], "info", {"data": {"status": endless}}), NOW),
        *session.receive(update(11, cloid(1), endless), NOW),
    ]
    assert len(reports(events)) == 7
    assert max(len(report.reason) for report in reports(events)) <= MAX_REASON + len(RATE_LIMIT) + 2
    assert len(session.last_error) <= 200


def test_cancels_are_answered_one_by_one() -> None:
    """Success cancels; the venue's only cancel error says that there was nothing to cancel."""
    session = new_session()
    [frame] = sent(session, CancelOrder("BTC", cloid(1), "11"), CancelOrder("BTC", cloid(2), "12"))
    missing = {"error": "Order was never placed, already canceled, or filled. asset=3"}
    events = session.receive(statuses(frame["id"], "success", missing, kind="cancel"), NOW)
    assert outcome(events) == [(ExecType.CANCELED, cloid(1), "11"), (ExecType.CANCEL_REJECTED, cloid(2), "12")]
    assert len(session._names) == 1, "a cancel that found no order must not keep a name for it"


def test_an_answer_counts_once() -> None:
    """The same answer again, or one to a post that was never sent, is ignored."""
    session = new_session()
    [frame] = sent(session, place(1))
    resting = statuses(frame["id"], {"resting": {"oid": 11}})
    assert len(session.receive(resting, NOW)) == 1
    assert session.receive(resting, NOW) == []
    assert session.receive(statuses(999, "success"), NOW) == []
    assert session.ignored == 2


def test_a_lost_connection_loses_what_was_unanswered() -> None:
    """Every order in an unanswered post becomes LOST; what was answered does not."""
    session = new_session()
    done, cancel, open_ = sent(session, place(1))[0], CancelOrder("BTC", cloid(2), "12"), place(3)
    sent(session, cancel, open_, QueryOrder("ETH", cloid(4), ""), RequestReconcile("gap"))
    session.receive(statuses(done["id"], {"resting": {"oid": 11}}), NOW)
    events = session.disconnected(NOW + 1)
    assert {(report.exec_type, report.cl_ord_id) for report in reports(events)} == {
        (ExecType.LOST, cloid(2)),
        (ExecType.LOST, cloid(3)),
        (ExecType.LOST, cloid(4)),
    }
    assert session.disconnected(NOW + 2) == []


# Order updates and queries


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("open", ExecType.NEW),
        ("accepted", ExecType.NEW),
        ("triggered", ExecType.NEW),
        ("filled", ExecType.FILLED),
        *[
            (status, ExecType.CANCELED)
            for status in (
                "canceled", "marginCanceled", "vaultWithdrawalCanceled", "openInterestCapCanceled",
                "selfTradeCanceled", "reduceOnlyCanceled", "siblingFilledCanceled", "delistedCanceled",
                "liquidatedCanceled", "scheduledCancel",
            )
        ],
        *[
            (status, ExecType.REJECTED)
            for status in (
                "rejected", "tickRejected", "minTradeNtlRejected", "perpMarginRejected", "reduceOnlyRejected",
                "badAloPxRejected", "iocCancelRejected", "badTriggerPxRejected", "marketOrderNoLiquidityRejected",
                "positionIncreaseAtOpenInterestCapRejected", "positionFlipAtOpenInterestCapRejected",
                "tooAggressiveAtOpenInterestCapRejected", "openInterestIncreaseRejected",
                "insufficientSpotBalanceRejected", "oracleRejected", "perpMaxPositionRejected",
            )
        ],
    ],
)  # fmt: skip
def test_every_documented_status_is_understood(status: str, expected: ExecType) -> None:
    """Each status of the venue's table has its meaning, in updates and in answers to queries."""
    session = new_session()
    events = session.receive(update(11, cloid(1), status), NOW)
    assert outcome(events) == [(expected, cloid(1), "11")]
    assert reports(events)[0].exch_ts == 1_700_000_000_123 * MS
    [frame] = sent(session, QueryOrder("BTC", cloid(1), ""))
    described = {"order": order(11, cloid(1)), "status": status, "statusTimestamp": 5}
    found = {"type": "orderStatus", "data": {"status": "order", "order": described}}
    assert outcome(session.receive(answer(frame["id"], "info", found), NOW)) == [(expected, cloid(1), "11")]
    assert session.unknown_errors == 0


def test_an_unknown_status_leaves_the_fate_unknown() -> None:
    """A word that is in no table is LOST and counted, never guessed."""
    session = new_session()
    [report] = reports(session.receive(update(11, cloid(1), "pondering"), NOW))
    assert (report.exec_type, report.reason, session.unknown_errors) == (ExecType.LOST, "pondering", 1)


def test_other_peoples_orders_are_ignored() -> None:
    """Orders without our instance's id are not ours; those of an earlier run of this instance are."""
    session = new_session()
    earlier = cloid(9, "0x1111222299999999")
    for stranger in (None, cloid(1, "0x9999222233334444")):
        assert session.receive(update(11, stranger, "open"), NOW) == []
    assert session.receive(update(11, cloid(1), "open", coin="DOGE"), NOW) == []
    assert session.ignored == 3
    assert outcome(session.receive(update(12, earlier, "open"), NOW)) == [(ExecType.NEW, earlier, "12")]


def test_a_query_that_finds_nothing_says_so() -> None:
    """unknownOid is NOT_FOUND; an error is an unknown fate still."""
    session = new_session()
    first, second = sent(session, QueryOrder("BTC", cloid(1), "11"), QueryOrder("BTC", cloid(2), ""))
    missing = {"type": "orderStatus", "data": {"status": "unknownOid"}}
    assert outcome(session.receive(answer(first["id"], "info", missing), NOW)) == [(ExecType.NOT_FOUND, cloid(1), "11")]
    events = session.receive(answer(second["id"], "error", "timeout"), NOW)
    assert outcome(events) == [(ExecType.LOST, cloid(2), "")]


# Fills


def with_history() -> HyperliquidSession:
    """Return a session that has received its first, empty list of fills."""
    session = new_session()
    assert session.receive(user_fills(snapshot=True), NOW) == []
    return session


def test_a_fill_is_a_trade_under_our_id() -> None:
    """Price, size, fee (a rebate is negative), side and maker come over exactly."""
    session = with_history()
    session.receive(update(11, cloid(1), "open"), NOW)
    [report] = reports(session.receive(user_fills(fill(1, 11)), NOW + 5))
    assert report == ExecReport(
        NOW + 5, "BTC", 1_700_000_000_500 * MS, cloid(1), "11", ExecType.TRADE,
        side=BUY, price=500_000, size=40, fee=-2_000_000_000, maker=True, exec_id="1",
    )  # fmt: skip


def test_a_repeated_fill_counts_once() -> None:
    """However often the venue repeats a fill, in stream or snapshot, it is reported once."""
    session = with_history()
    frame = user_fills(fill(1, 11), fill(1, 11), fill(2, 11, side="A", crossed=True))
    assert [report.exec_id for report in reports(session.receive(frame, NOW))] == ["1", "2"]
    assert session.receive(frame, NOW) == []
    assert session.receive(user_fills(fill(2, 11), fill(1, 11), snapshot=True), NOW) == []


def test_the_first_snapshot_is_history() -> None:
    """Fills from before this process are not reported, whatever list they turn up in later."""
    session = new_session()
    old = [fill(3, 11, time=3000), fill(2, 11, time=2000)]
    older = [*old, fill(1, 11, time=1000)]
    assert session.receive(user_fills(*old, snapshot=True), NOW) == []
    assert session.receive(user_fills(*older, snapshot=True), NOW) == []


@pytest.mark.parametrize("newest_first", [True, False])
def test_after_a_reconnect_the_snapshot_tells_what_was_missed(newest_first: bool) -> None:
    """Unseen fills of a later snapshot are reported, oldest first, whichever way the venue lists them."""
    session = with_history()
    session.receive(user_fills(fill(1, 11, time=1000)), NOW)
    session.disconnected(NOW)
    missed = [fill(tid, 11, time=time) for tid, time in {4: 3000, 3: 2000, 2: 2000, 1: 1000}.items()]
    frame = user_fills(*(missed if newest_first else reversed(missed)), snapshot=True)
    assert [report.exec_id for report in reports(session.receive(frame, NOW))] == ["2", "3", "4"]


def test_a_fill_before_its_orders_answer_waits_for_the_name() -> None:
    """A fill may overtake the answer that names its order; it follows that answer under our id."""
    session = with_history()
    [frame] = sent(session, place(1))
    assert session.receive(user_fills(fill(1, 11)), NOW) == []
    filled = {"filled": {"totalSz": "0.001", "avgPx": "50000.0", "oid": 11}}
    assert outcome(session.receive(statuses(frame["id"], filled), NOW)) == [
        (ExecType.NEW, cloid(1), "11"),
        (ExecType.TRADE, cloid(1), "11"),
    ]


def test_a_fill_that_names_its_order_does_not_wait() -> None:
    """A cloid in the fill settles whose it is at once, ours or not."""
    session = with_history()
    sent(session, place(1))
    events = session.receive(user_fills(fill(1, 11, cloid=cloid(1)), fill(2, 12, cloid="0x" + "9" * 32)), NOW)
    assert outcome(events) == [(ExecType.TRADE, cloid(1), "11"), (ExecType.TRADE, "", "12")]


def test_a_fill_of_nobody_we_know_moves_the_position() -> None:
    """With nothing in flight a fill of an unknown order is somebody else's, told at once with an empty id."""
    events = with_history().receive(user_fills(fill(1, 77)), NOW)
    assert outcome(events) == [(ExecType.TRADE, "", "77")]


def test_a_held_fill_is_let_go_in_time() -> None:
    """After an unanswered place can no longer land, the fill is told without our id."""
    session = with_history()
    sent(session, place(1))
    assert session.receive(user_fills(fill(1, 77)), NOW) == []
    assert session.receive(b'{"channel":"pong"}', NOW + 1999 * MS) == []
    assert outcome(session.receive(b'{"channel":"pong"}', NOW + 2000 * MS)) == [(ExecType.TRADE, "", "77")]


def test_a_fill_after_the_cancel_is_still_ours() -> None:
    """The name of a finished order is kept for its last fills."""
    session = with_history()
    session.receive(update(11, cloid(1), "open"), NOW)
    [frame] = sent(session, CancelOrder("BTC", cloid(1), "11"))
    session.receive(statuses(frame["id"], "success", kind="cancel"), NOW)
    session.receive(update(11, cloid(1), "canceled"), NOW)
    assert outcome(session.receive(user_fills(fill(1, 11)), NOW)) == [(ExecType.TRADE, cloid(1), "11")]


@pytest.mark.parametrize("change", [{"px": "50000.05"}, {"sz": "x"}, {"fee": "1e-20"}, {"px": "1e999999999"}])
def test_one_unreadable_fill_does_not_hide_the_next(change: dict[str, str]) -> None:
    """A fill off the grid is counted, and the others of its frame are reported."""
    session = with_history()
    events = session.receive(user_fills(fill(1, 11, **change), fill(2, 11)), NOW)
    assert [report.exec_id for report in reports(events)] == ["2"]
    assert session.unreadable == 1


# Reconciliation


def ask(session: HyperliquidSession) -> list[int]:
    """Return the numbers of the three posts of a new round."""
    return [frame["id"] for frame in sent(session, RequestReconcile("test"))]


def open_orders(post_id: int, *orders: dict[str, Any]) -> bytes:
    """Return the answer to frontendOpenOrders."""
    return answer(post_id, "info", {"type": "frontendOpenOrders", "data": list(orders)})


def state(post_id: int, time: int = 1_700_000_000_000, **positions: str) -> bytes:
    """Return the answer to clearinghouseState."""
    held = [{"type": "oneWay", "position": {"coin": coin, "szi": size}} for coin, size in positions.items()]
    data = {"assetPositions": held, "marginSummary": {}, "time": time}
    return answer(post_id, "info", {"type": "clearinghouseState", "data": data})


def fill_list(post_id: int, *each: dict[str, Any]) -> bytes:
    """Return the answer to userFills."""
    return answer(post_id, "info", {"type": "userFills", "data": list(each)})


@pytest.mark.parametrize("sequence", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_a_round_ends_when_all_answers_are_in(sequence: tuple[int, ...]) -> None:
    """In whatever order they come, the last of the three gives the missed fills and then the picture."""
    session = with_history()
    first, second, third = ask(session)
    frames = [
        open_orders(first, order(11, cloid(1), sz="0.0006"), order(12, None), order(13, cloid(3), coin="DOGE")),
        state(second, time=1_700_000_001_000, BTC="-0.00785", DOGE="3"),
        fill_list(third, fill(1, 11)),
    ]
    for index in sequence[:2]:
        assert session.receive(frames[index], NOW) == []
    trade, picture = session.receive(frames[sequence[2]], NOW)
    assert outcome([trade]) == [(ExecType.TRADE, cloid(1), "11")]
    assert picture == Reconciled(
        NOW,
        "hyperliquid",
        (OpenOrder("BTC", cloid(1), "11", BUY, 500_000, 60),),
        (("BTC", -785), ("ETH", 0)),
    )
    assert session._round is None, "a finished round must not gather fills for ever"


def test_a_fill_between_the_answers_is_in_the_position_once() -> None:
    """Whether the state is older than a fill that was received by then or newer, the position holds the fill."""
    for state_time, held in ((1_700_000_000_000, "0.0"), (1_700_000_000_500, "0.0004")):
        session = with_history()
        first, second, third = ask(session)
        session.receive(open_orders(first), NOW)
        session.receive(state(second, time=state_time, BTC=held), NOW)
        assert len(session.receive(user_fills(fill(1, 11)), NOW)) == 1
        [picture] = session.receive(fill_list(third, fill(1, 11)), NOW)
        assert isinstance(picture, Reconciled)
        assert picture.positions == (("BTC", 40), ("ETH", 0))


def test_the_first_rounds_fills_are_history() -> None:
    """At start the answer may overtake the snapshot; neither reports what happened before."""
    session = new_session()
    first, second, third = ask(session)
    session.receive(open_orders(first), NOW)
    session.receive(state(second, BTC="1"), NOW)
    [picture] = session.receive(fill_list(third, fill(1, 11, time=1000)), NOW)
    assert isinstance(picture, Reconciled)
    assert session.receive(user_fills(fill(1, 11, time=1000), snapshot=True), NOW) == []


def test_held_fills_are_told_before_the_picture_that_contains_them() -> None:
    """A fill that waits for a name does not wait beyond the reconciliation."""
    session = with_history()
    sent(session, place(1))
    first, second, third = ask(session)
    assert session.receive(user_fills(fill(1, 77)), NOW) == []
    session.receive(open_orders(first), NOW)
    session.receive(state(second, time=1_700_000_009_000, BTC="0.0004"), NOW)
    trade, picture = session.receive(fill_list(third), NOW)
    assert outcome([trade]) == [(ExecType.TRADE, "", "77")]
    assert isinstance(picture, Reconciled)


def test_a_newer_round_replaces_an_older_one() -> None:
    """Answers of the abandoned round do not complete the new one."""
    session = with_history()
    old = ask(session)
    new = ask(session)
    for frame in (open_orders(old[0]), state(old[1]), fill_list(old[2])):
        assert session.receive(frame, NOW) == []
    session.receive(open_orders(new[0]), NOW)
    session.receive(state(new[1]), NOW)
    assert len(session.receive(fill_list(new[2]), NOW)) == 1


def test_a_refused_question_ends_the_round_without_a_picture() -> None:
    """One error instead of an answer: no picture, counted; a later round works."""
    session = with_history()
    first, second, third = ask(session)
    assert session.receive(answer(first, "error", "429"), NOW) == []
    assert session.receive(state(second), NOW) == []
    assert session.receive(fill_list(third), NOW) == []
    assert (session.unknown_errors, session.last_error) == (1, "429")
    first, second, third = ask(session)
    session.receive(open_orders(first), NOW)
    session.receive(state(second), NOW)
    assert isinstance(session.receive(fill_list(third), NOW)[0], Reconciled)


def test_a_position_off_the_grid_gives_no_picture() -> None:
    """A wrong grid is never rounded away: there is no Reconciled, so nothing is quoted."""
    session = with_history()
    first, second, third = ask(session)
    session.receive(open_orders(first), NOW)
    session.receive(state(second, BTC="0.000001"), NOW)
    assert session.receive(fill_list(third), NOW) == []
    assert session.unreadable == 1


# Bounds, noise


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names, fill ids, held fills and posts have limits; a live order's name outlives any number of finished ones."""
    monkeypatch.setattr(names, "MAX_NAMES", 10)
    monkeypatch.setattr(fills, "MAX_TIDS", 10)
    monkeypatch.setattr(fills, "MAX_HELD", 3)
    monkeypatch.setattr(outbox, "MAX_POSTS", 5)
    session = with_history()
    session.receive(update(1, cloid(1), "open"), NOW)
    for oid in range(2, 50):
        session.receive(update(oid, cloid(oid), "canceled"), NOW)
    assert len(session._names) == 10
    assert outcome(session.receive(user_fills(fill(1, 1)), NOW)) == [(ExecType.TRADE, cloid(1), "1")]
    for number in range(20):
        sent(session, place(number))
    assert session._out.waiting(NOW) == 5
    strangers = [fill(tid, 1000 + tid) for tid in range(100, 120)]
    let_go = session.receive(user_fills(*strangers), NOW)
    assert [report.exec_id for report in reports(let_go)] == [str(tid) for tid in range(100, 117)]
    assert (len(session._fills.held), len(session._fills._tids)) == (3, 10)


def test_an_order_that_ended_never_lives_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that comes after its order's end does not keep the order's name for ever."""
    monkeypatch.setattr(names, "MAX_NAMES", 2)
    kept = names.OrderNames(PREFIX)
    kept.learn(1, cloid(1), live=False)
    kept.learn(1, cloid(1), live=True)
    kept.learn(2, cloid(2), live=True)
    kept.learn(3, cloid(3), live=False)
    assert [kept.cloid(oid) for oid in (1, 2, 3)] == [None, cloid(2), cloid(3)]


@pytest.mark.parametrize(
    "frame",
    [
        "Websocket connection established.",
        b"Websocket connection established.",
        b'{"channel":"notification","data":{"notification":"hello"}}',
        channel("l2Book", {"coin": "DOGE", "time": 1, "levels": [[], []]}),
    ],
)
def test_what_is_of_no_interest_is_counted_as_ignored(frame: bytes | str) -> None:
    """The greeting, unknown channels and other coins are neither events nor errors."""
    session = new_session()
    assert session.receive(frame, NOW) == []
    assert (session.ignored, session.unreadable) == (1, 0)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"null",
        b"\xff\xfe",
        "\ud800",
        b'{"channel":"l2Book"}',
        channel("l2Book", {"coin": "BTC", "time": 1, "levels": [[{"px": "nan", "sz": "1"}], []]}),
        channel("l2Book", {"coin": "BTC", "time": 1, "levels": [[{"px": "1", "sz": "inf"}], []]}),
        channel("l2Book", {"coin": "BTC", "time": 1, "levels": [[]]}),
        b'{"channel":"pong","x":' + b"[" * 100_000,
    ],
)
def test_what_cannot_be_read_is_counted(frame: bytes | str) -> None:
    """Broken frames and numbers that are none give no event and no exception."""
    session = new_session()
    assert session.receive(frame, NOW) == []
    assert (session.ignored, session.unreadable) == (0, 1)


def test_quiet_frames_mean_nothing() -> None:
    """Pong and subscription confirmations are read and dropped; a complaint is kept."""
    session = new_session()
    assert session.receive(b'{"channel":"pong"}', NOW) == []
    assert session.receive(channel("subscriptionResponse", ECHO), NOW) == []
    assert session.receive(channel("error", "Invalid subscription"), NOW) == []
    assert (session.ignored, session.unreadable) == (0, 0)
    assert (session.unknown_errors, session.last_error) == (1, "Invalid subscription")
    assert json.loads(session.ping()) == {"method": "ping"}


def test_every_message_type_has_its_channel() -> None:
    """The set of known channels is that of the message types."""
    tags = {msgspec.inspect.type_info(member).tag for member in Message.__args__}  # type: ignore[attr-defined]
    assert tags == CHANNELS


PRIVATE = [
    statuses(1, {"resting": {"oid": 11}}),
    update(11, cloid(1), "open"),
    user_fills(fill(1, 11), snapshot=True),
    channel("l2Book", {"coin": "BTC", "time": 1, "levels": [[{"px": "1", "sz": "2", "n": 1}], []]}),
    state(3, BTC="1"),
]
words = st.text(max_size=5)
leaves: st.SearchStrategy[object] = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), words
)
json_values: st.SearchStrategy[object] = st.recursive(
    leaves,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(words, inner, max_size=3)),
    max_leaves=8,
)


def busy_session() -> HyperliquidSession:
    """Return a session with a place and a reconciliation in flight."""
    session = new_session()
    sent(session, place(1))
    ask(session)
    return session


@given(st.binary(max_size=200))
def test_receive_never_raises_on_bytes(frame: bytes) -> None:
    """Arbitrary bytes become a count."""
    session = busy_session()
    session.receive(frame, NOW)
    assert session.unreadable + session.ignored <= 1


@given(st.sampled_from(PRIVATE), st.data())
def test_receive_never_raises_on_damaged_frames(frame: bytes, data: st.DataObject) -> None:
    """A frame cut short or with a byte changed never raises."""
    at = data.draw(st.integers(min_value=0, max_value=len(frame) - 1))
    byte = data.draw(st.binary(min_size=1, max_size=1))
    session = busy_session()
    assert session.receive(frame[:at], NOW) == []
    session.receive(frame[:at] + byte + frame[at + 1 :], NOW)


@given(st.sampled_from(sorted(CHANNELS)), json_values)
def test_receive_never_raises_on_wrong_shapes(name: str, data: object) -> None:
    """Sound JSON of any other shape on a known channel never raises."""
    busy_session().receive(channel(name, data), NOW)


WILD = ["1e300", "-1e300", "1e-300", "nan", "-inf", "1e999999", "-1e900000", "9" * 30, "-1", "0", "", "\u0664", "1_0"]
NUMBERS = [-(2**70), -1, 0, 2**43, 2**53, 2**63, 2**64, 10**30, 10**5000]


def paths(value: object, at: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    """Return the ways to every leaf of a JSON value."""
    if isinstance(value, dict):
        return [way for key, each in value.items() for way in paths(each, (*at, key))]
    if isinstance(value, list):
        return [way for index, each in enumerate(value) for way in paths(each, (*at, index))]
    return [at]


def mutated(value: Any, at: tuple[Any, ...], leaf: object) -> Any:
    """Return a copy of a JSON value with another leaf."""
    if not at:
        return leaf
    if isinstance(value, dict):
        return {key: mutated(each, at[1:], leaf) if key == at[0] else each for key, each in value.items()}
    return [mutated(each, at[1:], leaf) if index == at[0] else each for index, each in enumerate(value)]


def whole_frames() -> list[bytes]:
    """Return one frame of every kind that moves something; the posts are those of `busy_session`."""
    book = {"coin": "BTC", "time": 1, "levels": [[{"px": "1", "sz": "2", "n": 1}], [{"px": "3", "sz": "2", "n": 1}]]}
    paid = {"time": 5, "coin": "BTC", "usdc": "-1.5", "szi": "1", "fundingRate": "0.1"}
    return [
        channel("l2Book", book),
        channel("trades", [{"coin": "BTC", "side": "B", "px": "1", "sz": "2", "time": 9, "tid": 4, "hash": "0x"}]),
        channel("activeAssetCtx", {"coin": "BTC", "ctx": {"markPx": "1", "oraclePx": "1", "funding": "0.1"}}),
        update(11, cloid(1), "open"),
        user_fills(fill(1, 11)),
        channel("userFundings", {"user": "x", "fundings": [paid]}),
        channel("user", {"nonUserCancel": [{"coin": "BTC", "oid": 11}]}),
        statuses(1, {"resting": {"oid": 11}}),
        open_orders(2, order(11, cloid(1))),
        state(3, BTC="1"),
        fill_list(4, fill(2, 11)),
        answer(5, "info", {"type": "userRateLimit", "data": {"cumVlm": "1", "nRequestsUsed": 1, "nRequestsCap": 2}}),
    ]


@pytest.mark.parametrize("number", range(12))
def test_whatever_number_comes_can_be_journalled(number: int) -> None:
    """Every number of every frame replaced by wild ones: no exception, and no event that 64 bits do not hold."""
    sound = json.loads(whole_frames()[number])
    told = 0
    leaves = [*WILD, 1e300, -0.0, *NUMBERS, *map(str, NUMBERS[:-1]), None]
    for way, some in [((), [sound["data"]]), *[(way, leaves) for way in paths(sound["data"])]]:
        for leaf in some:
            session = busy_session()
            sent(session, RequestBudget())
            session.receive(user_fills(snapshot=True), NOW)
            session.receive(whole_frames()[0], NOW)
            session.receive(update(11, cloid(1), "open"), NOW)
            frames = whole_frames()
            with int_digits(6000):
                frames[number] = json.dumps(sound | {"data": mutated(sound["data"], way, leaf)}).encode()
            for frame in frames[number:] if 8 <= number <= 10 else frames[number : number + 1]:
                for event in session.receive(frame, NOW):
                    told += 1
                    assert msgspec.msgpack.decode(msgspec.msgpack.encode(event), type=type(event)) == event
    assert told, "the frame as it should be is read"


@contextmanager
def int_digits(limit: int) -> Iterator[None]:
    """Allow longer integers in text meanwhile."""
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(limit)
    try:
        yield
    finally:
        sys.set_int_max_str_digits(before)


@pytest.mark.parametrize("size", ["nan", "1e900000", "-1e999999", "9" * 40, "x"])
def test_a_fill_that_cannot_be_read_takes_no_other_along(size: str) -> None:
    """It is counted; those before and behind it in the same frame are told."""
    for number, key in enumerate(("sz", "px", "fee")):
        session, number = with_history(), 10 * number
        events = session.receive(
            user_fills(fill(number, 7), fill(number + 1, 7, **{key: size}), fill(number + 2, 7)), NOW
        )
        assert [report.exec_id for report in reports(events)] == [str(number), str(number + 2)], key
        assert session.unreadable == 1


def test_a_fee_finer_than_money_costs_no_fill() -> None:
    """What is below 10^-12 of a fee is cut off."""
    [report] = reports(with_history().receive(user_fills(fill(1, 7, fee="-0.0000000000019")), NOW))
    assert (report.size, report.fee) == (40, -1)


@given(st.sampled_from(["action", "info", "error", "?"]), json_values, st.integers(min_value=1, max_value=5))
def test_a_place_gets_exactly_one_report_whatever_the_answer(kind: str, payload: object, post_id: int) -> None:
    """An answer of any shape to the place ends in one report on it; answers to questions never raise."""
    events = busy_session().receive(answer(post_id, kind, payload), NOW)
    assert [report.cl_ord_id for report in reports(events)] == ([cloid(1)] if post_id == 1 else [])
