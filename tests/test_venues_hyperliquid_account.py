"""Hyperliquid's session beyond orders: amends, dead-man switch, budget, funding, faults, adoption, vaults, spot."""

import json
from typing import Any

import msgspec
import pytest
from test_venues_hyperliquid_session import (
    ACCOUNT,
    NOW,
    PREFIX,
    SIGNER,
    answer,
    channel,
    cloid,
    fill,
    new_session,
    order,
    outcome,
    reports,
    sent,
    statuses,
    update,
    user_fills,
)

from mmpi.actions import AmendOrder, CancelOrder, NewOrder, QueryOrder, RequestBudget, RequestReconcile, ScheduleCancel
from mmpi.events import (
    DEAD_MAN,
    POST_ONLY,
    RATE_LIMIT,
    Budget,
    DeadManReport,
    ExecType,
    Funding,
    OpenOrder,
    Reconciled,
    VenueFault,
)
from mmpi.instrument import BUY, MILLISECOND, MONEY_SCALE, SECOND, SELL, make_instrument, money
from mmpi.session import Counted
from mmpi.venues.hyperliquid import reconcile as reconcile_module
from mmpi.venues.hyperliquid.messages import FIRST_SPOT, instrument_from_meta
from mmpi.venues.hyperliquid.session import MAX_IN_FLIGHT, HyperliquidSession
from mmpi.venues.hyperliquid.signing import connection_id

VAULT = "0x" + "5a" * 20
GONE = "Cannot modify canceled or filled order"
PURR = make_instrument("PURR/USDC", "0.00000001", "1", significant_figures=5, base="PURR", quote="USDC")


def amend(number: int, replaces: int, oid: str = "11") -> AmendOrder:
    """Return the action that replaces one of our orders by another."""
    return AmendOrder("BTC", cloid(replaces), oid, cloid(number), BUY, 500_010, 100, 0)


def payload(frame: dict[str, Any]) -> dict[str, Any]:
    """Return what a post carries."""
    found: dict[str, Any] = frame["request"]["payload"]
    return found


# Amends -----------------------------------------------------------------------------------------------------------


def test_an_amend_is_one_modify_by_the_venues_number() -> None:
    """All amends of an event go under one signature; an order without a number yet is named by our own id."""
    [frame] = sent(new_session(), amend(3, 1), amend(4, 2, oid=""))
    action = payload(frame)["action"]
    assert action["type"] == "batchModify"
    assert [each["oid"] for each in action["modifies"]] == [11, cloid(2)]
    assert [each["order"]["c"] for each in action["modifies"]] == [cloid(3), cloid(4)]
    assert action["modifies"][0]["order"]["t"] == {"limit": {"tif": "Alo"}}


def test_cancels_amends_and_places_are_signed_in_that_order() -> None:
    """Three frames, what removes risk first, each with a nonce of its own that only grows."""
    place = NewOrder("BTC", cloid(5), BUY, 500_000, 100, 0)
    frames = sent(new_session(), place, amend(3, 1), CancelOrder("BTC", "x", "7"))
    assert [payload(frame)["action"]["type"] for frame in frames] == ["cancel", "batchModify", "order"]
    nonces = [payload(frame)["nonce"] for frame in frames]
    assert nonces == sorted(set(nonces))


def test_an_amend_that_worked_ends_one_order_and_confirms_the_other() -> None:
    """The answer names the new order only; the old one is gone by it, in whatever order the streams say so."""
    session = new_session()
    [frame] = sent(session, amend(3, 1))
    events = session.receive(statuses(frame["id"], {"resting": {"oid": 12}}, kind="order"), NOW)
    assert outcome(events) == [(ExecType.CANCELED, cloid(1), "11"), (ExecType.NEW, cloid(3), "12")]
    assert outcome(session.receive(update(12, cloid(3), "open"), NOW)) == [(ExecType.NEW, cloid(3), "12")]
    assert outcome(session.receive(update(11, cloid(1), "canceled"), NOW)) == [(ExecType.CANCELED, cloid(1), "11")]
    # A fill of the new leg finds its name, by number too.
    session.receive(user_fills(snapshot=True), NOW)
    assert outcome(session.receive(user_fills(fill(1, 12)), NOW)) == [(ExecType.TRADE, cloid(3), "12")]


@pytest.mark.parametrize(("text", "old", "new"), [
    (GONE, ExecType.CANCEL_REJECTED, ExecType.REJECTED),
    ("Post only order would have immediately matched, bbo was 1@2.", ExecType.CANCEL_REJECTED, ExecType.REJECTED),
    ("Price must be divisible by tick size. asset=3", ExecType.CANCEL_REJECTED, ExecType.REJECTED),
    ("Something new", ExecType.LOST, ExecType.LOST),
])  # fmt: skip
def test_a_refused_amend(text: str, old: ExecType, new: ExecType) -> None:
    """Known words: the new order never lived and the old one must be asked about; unknown words prove nothing."""
    session = new_session()
    [frame] = sent(session, amend(3, 1))
    events = session.receive(statuses(frame["id"], {"error": text}), NOW)
    assert [(each.exec_type, each.cl_ord_id) for each in reports(events)] == [(old, cloid(1)), (new, cloid(3))]


def test_an_amend_without_an_answer_leaves_both_in_doubt() -> None:
    """Disconnected, an error instead of an answer, an unreadable one: four reports of two amends, all LOST."""
    for ending in ("disconnect", "error", "unreadable"):
        session = new_session()
        [frame] = sent(session, amend(3, 1), amend(4, 2))
        if ending == "disconnect":
            events = session.disconnected(NOW)
        elif ending == "error":
            events = session.receive(answer(frame["id"], "error", "500 Internal Server Error"), NOW)
        else:
            events = session.receive(answer(frame["id"], "action", {"status": "ok", "response": 7}), NOW)
        assert {(each.exec_type, each.cl_ord_id) for each in reports(events)} == {
            (ExecType.LOST, cloid(number)) for number in (1, 2, 3, 4)
        }, ending


def test_the_engines_own_words_stand_before_the_venues() -> None:
    """Post-only, request limits, the dead-man switch: the engine tells them by how the reason begins."""
    session = new_session()
    [frame] = sent(session, NewOrder("BTC", cloid(1), BUY, 500_000, 100, 0))
    text = "Post only order would have immediately matched, bbo was 1@2."
    [report] = reports(session.receive(statuses(frame["id"], {"error": text}), NOW))
    assert (report.exec_type, report.reason) == (ExecType.REJECTED, f"{POST_ONLY}: {text}")
    [frame] = sent(session, NewOrder("BTC", cloid(2), BUY, 500_000, 100, 0))
    text = "Too many cumulative requests sent (10001 > 10000) for cumulative volume traded $0."
    [report] = reports(session.receive(answer(frame["id"], "action", {"status": "err", "response": text}), NOW))
    assert (report.exec_type, report.reason) == (ExecType.REJECTED, f"{RATE_LIMIT}: {text}")
    [report] = reports(session.receive(update(11, cloid(3), "scheduledCancel"), NOW))
    assert (report.exec_type, report.reason) == (ExecType.CANCELED, DEAD_MAN)


def test_in_flight_posts_are_counted() -> None:
    """From so many unanswered posts on the session calls itself full; a withdrawal or a disconnection makes room."""
    session = new_session()
    for number in range(MAX_IN_FLIGHT):
        assert not session.is_full(NOW)
        [frame] = sent(session, CancelOrder("BTC", cloid(number), "1"))
    assert session.is_full(NOW)
    session.withdraw()
    assert not session.is_full(NOW)
    session.disconnected(NOW)
    assert session._out.waiting(NOW) == 0


def test_answers_that_got_lost_do_not_fill_a_session_for_ever() -> None:
    """A post is in flight for ten seconds at most; an answer that comes even later is still that order's."""
    session = new_session()
    for number in range(MAX_IN_FLIGHT):
        [frame] = sent(session, NewOrder("BTC", cloid(number), BUY, 500_000, 100, 0))
    assert session.is_full(NOW + 10 * SECOND)
    later = NOW + 10 * SECOND + 1
    assert (session.is_full(later), session._out.waiting(later), session._out.is_placing(later)) == (False, 0, False)
    events = session.receive(statuses(frame["id"], {"resting": {"oid": 7}}), later)
    assert outcome(events) == [(ExecType.NEW, cloid(MAX_IN_FLIGHT - 1), "7")]


# Dead-man switch, budget --------------------------------------------------------------------------------------------


def test_the_dead_man_switch_is_set_in_the_venues_time() -> None:
    """The time asked for is the engine's; what is signed is the venue's, by the offset measured; 0 clears."""
    session = new_session()
    session.set_offset(90 * SECOND)
    set_, clear = sent(session, ScheduleCancel(NOW + 8 * SECOND), ScheduleCancel(0))
    time_ms = (NOW - 82 * SECOND) // MILLISECOND
    assert payload(set_)["action"] == {"type": "scheduleCancel", "time": time_ms}
    assert payload(clear)["action"] == {"type": "scheduleCancel"}
    ok = {"status": "ok", "response": {"type": "default"}}
    assert session.receive(answer(set_["id"], "action", ok), NOW) == [
        DeadManReport(NOW, "hyperliquid", NOW + 8 * SECOND, ExecType.NEW)
    ]
    cleared = session.receive(answer(clear["id"], "action", ok), NOW)
    assert cleared == [DeadManReport(NOW, "hyperliquid", 0, ExecType.NEW)]


@pytest.mark.parametrize(("kind", "words", "expected"), [
    ("action", "Cannot set scheduled cancel time until enough volume traded. Required: $1000000. Traded: $0.",
     ExecType.REJECTED),
    ("action", "Scheduled cancel limit reached for today", ExecType.REJECTED),
    ("action", "Invalid nonce: duplicate nonce 1", ExecType.LOST),
    ("action", "Too many cumulative requests sent (2 > 1)", ExecType.LOST),
    ("error", "502 Bad Gateway", ExecType.LOST),
])  # fmt: skip
def test_a_refused_dead_man_switch(kind: str, words: str, expected: ExecType) -> None:
    """The venue's words about the switch refuse it; what concerns the request alone may be asked again."""
    session = new_session()
    [frame] = sent(session, ScheduleCancel(NOW + 8 * SECOND))
    body: object = {"status": "err", "response": words} if kind == "action" else words
    [report] = session.receive(answer(frame["id"], kind, body), NOW)
    assert isinstance(report, DeadManReport)
    assert (report.outcome, report.reason) == (expected, words)


def test_the_request_budget_is_asked_for() -> None:
    """userRateLimit of whose orders these are; its two counts become an event."""
    session = new_session()
    [frame] = sent(session, RequestBudget())
    assert payload(frame) == {"type": "userRateLimit", "user": ACCOUNT}
    data = {"cumVlm": "123.4", "nRequestsUsed": 77, "nRequestsCap": 10_123}
    body = {"type": "userRateLimit", "data": data}
    assert session.receive(answer(frame["id"], "info", body), NOW) == [Budget(NOW, "hyperliquid", 77, 10_123)]
    [frame] = sent(session, RequestBudget())
    assert session.receive(answer(frame["id"], "error", "429"), NOW) == []
    assert session.unknown_errors == 1


# Funding, faults ----------------------------------------------------------------------------------------------------


def funding(time: int, usdc: str, coin: str = "BTC") -> dict[str, Any]:
    """Return a payment as the venue describes it."""
    return {"time": time, "coin": coin, "usdc": usdc, "szi": "1", "fundingRate": "0.0000125", "nSamples": None}


def user_fundings(*each: dict[str, Any], snapshot: bool = False) -> bytes:
    """Return a userFundings frame."""
    data = {"user": ACCOUNT, "fundings": list(each)}
    return channel("userFundings", data | ({"isSnapshot": True} if snapshot else {}))


def test_funding_is_booked_once() -> None:
    """The first list is history; a later one repeats what is known and tells what was missed."""
    session = new_session()
    assert session.receive(user_fundings(funding(1000, "-1.5"), funding(500, "1"), snapshot=True), NOW) == []
    [event] = session.receive(user_fundings(funding(2000, "-0.25")), NOW)
    assert event == Funding(NOW, "BTC", 2000 * MILLISECOND, "BTC:2000", money("-0.25"))
    again = session.receive(
        user_fundings(funding(3000, "2"), funding(3000, "9", "WIF"), funding(2000, "-0.25"), snapshot=True), NOW
    )
    assert again == [Funding(NOW, "BTC", 3000 * MILLISECOND, "BTC:3000", money("2"))]


def test_funding_paid_between_two_processes_is_told_to_the_second() -> None:
    """It goes on after the last payment that the first knew; of a coin that the first had not, that is history."""
    first = with_options()
    assert first.counted == Counted(-1, -1)
    first.receive(user_fundings(snapshot=True), NOW)
    assert first.counted.funded_ms == 0
    first.receive(user_fundings(funding(1000, "1")), NOW)
    assert first.counted.funded_ms == 1000
    meanwhile = [funding(2000, "-0.5"), funding(2000, "7", "PURR/USDC"), funding(1000, "1")]
    second = with_options(counted=first.counted, fresh=frozenset({"PURR/USDC"}))
    [event] = second.receive(user_fundings(*meanwhile, snapshot=True), NOW)
    assert event == Funding(NOW, "BTC", 2000 * MILLISECOND, "BTC:2000", money("-0.5"))
    later = user_fundings(*meanwhile, funding(3000, "7", "PURR/USDC"), snapshot=True)
    [event] = second.receive(later, NOW)
    assert isinstance(event, Funding) and event.instrument == "PURR/USDC" and second.counted.funded_ms == 3000


def test_a_list_of_payments_that_cannot_be_read_is_none() -> None:
    """After it the next list is still the first, and so history."""
    session = new_session()
    broken = user_fundings(funding(1500, "1e9"))
    assert session.receive(broken, NOW) == []
    assert session.unreadable == 1
    assert session.receive(user_fundings(funding(1000, "-1.5"), snapshot=True), NOW) == []
    assert len(session.receive(user_fundings(funding(2000, "-0.25")), NOW)) == 1


@pytest.mark.parametrize("text", [
    "User or API Wallet 0xcd9d does not exist.", "Must deposit before performing actions. User: 0x00",
    "Unable to recover signer.",
])  # fmt: skip
def test_a_key_that_is_refused_for_good_is_a_fault(text: str) -> None:
    """Whatever was asked, the venue's word that nothing of ours is taken is one event, with its words."""
    session = new_session()
    place, cancel = NewOrder("BTC", cloid(1), BUY, 500_000, 100, 0), CancelOrder("BTC", "", "1")
    for action in (place, amend(3, 1), ScheduleCancel(NOW), cancel):
        [frame] = sent(session, action)
        events = session.receive(answer(frame["id"], "action", {"status": "err", "response": text}), NOW)
        assert [each for each in events if isinstance(each, VenueFault)] == [VenueFault(NOW, "hyperliquid", "", text)]


def test_a_delisted_market_is_a_fault_of_its_own() -> None:
    """The order is cancelled, and that market alone is over."""
    events = new_session().receive(update(11, cloid(1), "delistedCanceled"), NOW)
    assert outcome(events[:1]) == [(ExecType.CANCELED, cloid(1), "11")]
    assert events[1:] == [VenueFault(NOW, "hyperliquid", "BTC", "this market is delisted")]


def test_user_events() -> None:
    """What the venue cancelled itself, by number, is cancelled; our liquidation is a fault, a stranger's is not."""
    session = new_session()
    session.receive(update(11, cloid(1), "open"), NOW)
    canceled = {"nonUserCancel": [{"coin": "BTC", "oid": 11}, {"coin": "BTC", "oid": 99}]}
    assert outcome(session.receive(channel("user", canceled), NOW)) == [(ExecType.CANCELED, cloid(1), "11")]
    for user, faults in ((ACCOUNT.upper().replace("0X", "0x"), 1), ("0x" + "99" * 20, 0)):
        happened = session.receive(channel("user", {"liquidation": {"liquidated_user": user, "lid": 1}}), NOW)
        assert len([each for each in happened if isinstance(each, VenueFault)]) == faults
    assert session.receive(channel("user", {"fills": [fill(1, 11)]}), NOW) == []
    assert session.unreadable == 0


# Reconciliation: adoption, spot ---------------------------------------------------------------------------------------


def reconcile(
    session: HyperliquidSession, *found: dict[str, Any], spot: list[dict[str, Any]] | None = None
) -> Reconciled:
    """Return the picture of an account with these open orders, no perpetuals and these balances."""
    last: list[Any] = []
    for frame in sent(session, RequestReconcile("test")):
        kind = payload(frame)["type"]
        data: dict[str, Any] = {
            "frontendOpenOrders": list(found),
            "clearinghouseState": {"assetPositions": [], "time": 5},
            "userFills": [],
            "spotClearinghouseState": {"balances": spot},
        }
        last = session.receive(answer(frame["id"], "info", {"type": kind, "data": data[kind]}), NOW)
    assert isinstance(last[-1], Reconciled)
    return last[-1]


def with_options(**options: Any) -> HyperliquidSession:
    """Return a session for BTC and a spot market."""
    markets = {"BTC": (instrument_from_meta("BTC", 5), 3), "PURR/USDC": (PURR, FIRST_SPOT)}
    return HyperliquidSession(markets, ACCOUNT, SIGNER, PREFIX, 2000, **options)


def test_orders_of_other_hands_are_left_alone() -> None:
    """Without `adopt` an order by hand, and one of another box, are not in the picture."""
    strangers = [order(50, None), order(51, "0x" + "77" * 16)]
    assert reconcile(new_session(), *strangers, order(11, cloid(1))).open_orders == (
        OpenOrder("BTC", cloid(1), "11", BUY, 500_000, 100),
    )


def test_adopted_orders_are_ours_from_then_on() -> None:
    """With `adopt` they are listed, under a name of ours where they have none, cancelled and followed like our own."""
    session = with_options(adopt=True)
    found = order(50, None), order(51, "0x" + "77" * 16, side="A"), order(52, None, coin="WIF")
    picture = reconcile(session, *found, spot=[])
    assert picture.open_orders == (
        OpenOrder("BTC", "oid 50", "50", BUY, 500_000, 100),
        OpenOrder("BTC", "0x" + "77" * 16, "51", SELL, 500_000, 100),
    )
    assert outcome(session.receive(update(50, None, "canceled"), NOW)) == [(ExecType.CANCELED, "oid 50", "50")]
    assert outcome(session.receive(user_fills(fill(1, 51, cloid="0x" + "77" * 16)), NOW)) == [
        (ExecType.TRADE, "0x" + "77" * 16, "51")
    ]
    [frame] = sent(session, QueryOrder("BTC", "oid 50", "50"))
    assert payload(frame)["oid"] == 50


def test_an_adopted_order_is_cancelled_by_its_number() -> None:
    """It has no id that the venue knows, so it does not share a frame with orders that have nothing but one."""
    session = with_options(adopt=True)
    reconcile(session, order(50, None), spot=[])
    adopted, unnamed = CancelOrder("BTC", "oid 50", "50"), CancelOrder("BTC", cloid(1), "")
    first, second = sent(session, unnamed, adopted, CancelOrder("BTC", cloid(2), "9"))
    assert payload(first)["action"] == {"type": "cancel", "cancels": [{"a": 3, "o": 50}]}
    assert payload(second)["action"]["type"] == "cancelByCloid"
    assert [each["cloid"] for each in payload(second)["action"]["cancels"]] == [cloid(1), cloid(2)]
    assert outcome(session.receive(statuses(first["id"], "success"), NOW)) == [(ExecType.CANCELED, "oid 50", "50")]
    ends = outcome(session.receive(statuses(second["id"], "success", "success"), NOW))
    assert [(what, name) for what, name, _ in ends] == [(ExecType.CANCELED, cloid(1)), (ExecType.CANCELED, cloid(2))]


def test_a_spot_position_is_the_balance() -> None:
    """In whole lots, what fees left over of one cut off; without a balance it is nothing."""
    balances = [
        {"coin": coin, "token": number, "hold": "0.0", "total": total}
        for number, (coin, total) in enumerate([("USDC", "12.5"), ("PURR", "99.93")])
    ]
    assert dict(reconcile(with_options(), spot=balances).positions) == {"BTC": 0, "PURR/USDC": 99}
    assert dict(reconcile(with_options(), spot=[]).positions) == {"BTC": 0, "PURR/USDC": 0}


def test_a_fee_in_the_token_bought_is_told_in_the_quote_currency() -> None:
    """Spot: 0.07 PURR at a price of 0.2 are 0.014 USDC."""
    session = with_options()
    session.receive(user_fills(snapshot=True), NOW)
    bought = fill(1, 11, coin="PURR/USDC", px="0.2", sz="100.0", fee="0.07", feeToken="PURR", cloid=cloid(1))
    [report] = reports(session.receive(user_fills(bought), NOW))
    assert (report.instrument, report.size, report.fee) == ("PURR/USDC", 100, 14 * MONEY_SCALE // 1000)


def test_a_spot_order_bears_its_asset_number() -> None:
    """10000 and the index of its pair."""
    [frame] = sent(with_options(), NewOrder("PURR/USDC", cloid(1), BUY, 20_000_000, 100, 0))
    [one] = payload(frame)["action"]["orders"]
    assert (one["a"], one["p"], one["s"]) == (10_000, "0.2", "100")


def test_stops_of_other_hands_are_never_adopted() -> None:
    """A trigger order protects a position that somebody holds: taken over, it would be cancelled as a stray."""
    assert reconcile(with_options(adopt=True), order(50, None, isTrigger=True), spot=[]).open_orders == ()


def test_a_session_is_deaf_until_its_private_streams_are_confirmed() -> None:
    """All four, on each connection anew; market data alone has nothing to wait for."""
    session = new_session()
    for _ in range(2):
        session.connected(NOW)
        for kind in ("orderUpdates", "userFills", "userFundings", "userEvents"):
            assert session.is_deaf()
            echo = {"method": "subscribe", "subscription": {"type": kind, "user": ACCOUNT}}
            session.receive(channel("subscriptionResponse", echo), NOW)
        assert not session.is_deaf()
    paper = new_session(signer=None)
    paper.connected(NOW)
    assert not paper.is_deaf()


# Vaults, time ---------------------------------------------------------------------------------------------------------


def test_a_vault_is_signed_for_and_followed() -> None:
    """Every action names the vault, and its address is part of what is signed."""
    session = HyperliquidSession(
        {"BTC": (instrument_from_meta("BTC", 5), 3)}, VAULT, SIGNER, PREFIX, 2000, vault=VAULT
    )
    followed = {json.loads(frame)["subscription"].get("user") for frame in session.connected(NOW)}
    assert followed == {None, VAULT}
    [frame] = sent(session, NewOrder("BTC", cloid(1), BUY, 500_000, 100, 0))
    body = payload(frame)
    assert body["vaultAddress"] == VAULT
    own = connection_id(body["action"], body["nonce"], body["expiresAfter"])
    assert own != connection_id(body["action"], body["nonce"], body["expiresAfter"], bytes.fromhex(VAULT[2:]))
    signed = SIGNER.sign(body["action"], body["nonce"], body["expiresAfter"], bytes.fromhex(VAULT[2:]))
    assert (body["signature"]["r"], body["signature"]["s"], body["signature"]["v"]) == signed


def test_what_is_signed_bears_the_venues_time() -> None:
    """I8: nonce and expiry follow the venue's clock; the nonce never goes back when the offset changes."""
    session = new_session()
    session.set_offset(-60 * SECOND)
    [first] = sent(session, CancelOrder("BTC", cloid(1), "1"))
    assert payload(first)["nonce"] == (NOW + 60 * SECOND) // MILLISECOND
    assert payload(first)["expiresAfter"] == payload(first)["nonce"] + 2000
    session.set_offset(0)
    [second] = sent(session, CancelOrder("BTC", cloid(1), "1"))
    assert payload(second)["nonce"] == payload(first)["nonce"] + 1
    assert payload(second)["expiresAfter"] == NOW // MILLISECOND + 2000


DAY_NS = 86_400 * SECOND


def test_nonces_after_the_clock_was_wrong() -> None:
    """Within the day that the venue allows they go on rising; from beyond it they come back, as none was taken."""
    session = new_session()
    cancel = CancelOrder("BTC", cloid(1), "1")

    def nonce(offset: int) -> int:
        session.set_offset(offset)
        [frame] = sent(session, cancel)
        assert payload(frame)["expiresAfter"] == (NOW - offset) // MILLISECOND + 2000, "by the time as it is known now"
        return int(payload(frame)["nonce"])

    right = NOW // MILLISECOND
    assert [nonce(0), nonce(0), nonce(SECOND)] == [right, right + 1, right + 2]
    hour = right + 3_600_000
    assert [nonce(-3600 * SECOND), nonce(0)] == [hour, hour + 1], "the venue took these"
    assert [nonce(-400 * DAY_NS), nonce(0)] == [right + 400 * 86_400_000, right], "and not these"


def test_a_round_without_an_end_gathers_no_fills_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a halt an unanswered round is not asked again; the fills of other hands that it notes are bounded."""
    monkeypatch.setattr(reconcile_module, "MAX_LATELY", 10)
    session = new_session()
    sent(session, RequestReconcile("test"))
    session.receive(user_fills(snapshot=True), NOW)
    for tid in range(50):
        session.receive(user_fills(fill(tid, 7)), NOW)
    assert session._round is not None
    assert list(session._round._lately) == list(range(40, 50))


def test_every_new_event_can_be_journalled() -> None:
    """What the session tells survives the journal's encoding."""
    for event in (DeadManReport(1, "v", 2, ExecType.NEW), Budget(1, "v", 2, 3), VenueFault(1, "v", "", "r")):
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(event), type=type(event)) == event
