"""mmpi.practice.hyperliquid.dead_man: scheduleCancel, alone and in the venue."""

from pathlib import Path

import pytest
from practice_builders import (
    GUARDIAN,
    MASTER,
    NOW,
    NOW_MS,
    QUOTER,
    STRANGER,
    Ear,
    ask,
    order,
    place,
    schedule_cancel,
    signed,
    spot_book,
    spot_order,
    venue,
)

from mmpi.instrument import MONEY_SCALE, money
from mmpi.practice.hyperliquid.dead_man import DAY_MS, DeadManSwitch
from mmpi.practice.hyperliquid.rules import Rules
from mmpi.practice.hyperliquid.signatures import address_of
from mmpi.practice.hyperliquid.streams import Hub

MILLION = 1_000_000 * MONEY_SCALE
EARLY = "Scheduled cancel time too early, must be at least 5 seconds from now."
MIDNIGHT = NOW_MS - NOW_MS % DAY_MS


def test_it_fires_at_its_time_and_once() -> None:
    """Not a millisecond before, and no second time."""
    switch = DeadManSwitch(Rules())
    assert switch.schedule(NOW_MS + 5_000, 0, NOW_MS) == ""
    fired = [switch.fire(now) for now in (NOW_MS + 4_999, NOW_MS + 5_000, NOW_MS + 5_001)]
    assert fired == [False, True, False]
    assert switch.time is None


def test_five_seconds_ahead() -> None:
    """A time less than five seconds ahead is refused in the venue's words, and the time set before stays."""
    switch = DeadManSwitch(Rules())
    switch.schedule(NOW_MS + 9_000, 0, NOW_MS)
    assert switch.schedule(NOW_MS + 4_999, 0, NOW_MS) == EARLY
    assert switch.time == NOW_MS + 9_000


def test_no_time_clears_it() -> None:
    """scheduleCancel without a time is never too early, and nothing fires any more."""
    switch = DeadManSwitch(Rules())
    switch.schedule(NOW_MS + 9_000, 0, NOW_MS)
    assert switch.schedule(None, 0, NOW_MS) == ""
    assert not switch.fire(NOW_MS + 10_000)


def test_ten_fires_a_day() -> None:
    """Setting it anew is no fire; after ten it is refused until midnight, though it can be cleared."""
    switch, now = DeadManSwitch(Rules()), MIDNIGHT
    for i in range(10):
        for again in (6_000, 5_000):
            assert switch.schedule(now + again, 0, now) == ""
        now += 5_000
        assert switch.fire(now)
        assert switch.fires(now) == i + 1
    assert "10 times today" in switch.schedule(now + 5_000, 0, now)
    assert switch.schedule(None, 0, now) == ""
    assert switch.fires(MIDNIGHT + DAY_MS) == 0
    assert switch.schedule(MIDNIGHT + DAY_MS + 5_000, 0, MIDNIGHT + DAY_MS) == ""


@pytest.mark.parametrize("time", [NOW_MS + 10_000, NOW_MS, None])
def test_the_volume_gate(time: int | None) -> None:
    """Without the volume it can be neither set nor cleared, in the venue's words with the numbers of both."""
    switch = DeadManSwitch(Rules(volume_gate=MILLION))
    text = "Cannot set scheduled cancel time until enough volume traded. Required: $1000000. Traded: $373.47205."
    assert switch.schedule(time, money("373.47205"), NOW_MS) == text
    assert switch.schedule(NOW_MS + 10_000, MILLION, NOW_MS) == ""


def test_every_order_of_the_account_goes(tmp_path: Path) -> None:
    """Orders of both agents, spot too, end as scheduledCancel at the time; the stream and the list say so."""
    hub, ear = Hub(), Ear()
    built = venue(tmp_path, hub)
    built.on_market(spot_book())
    oids = [
        place(built, order(), key=QUOTER)["resting"]["oid"],
        place(built, order("99980"), key=GUARDIAN)["resting"]["oid"],
        place(built, spot_order("0.19", "100"))["resting"]["oid"],
    ]
    theirs = place(built, order("99970"), key=STRANGER)["resting"]["oid"]
    for topic in ("orderUpdates", "userEvents"):
        hub.add((topic, MASTER), ear)
    answer = built.act(signed(schedule_cancel(NOW_MS + 5_000), GUARDIAN), NOW)
    assert answer == {"status": "ok", "response": {"type": "default"}}
    built.tick(NOW + 4_999_000_000)
    assert len(built.live_orders()) == 4
    built.tick(NOW + 5_000_000_000)
    assert [each["oid"] for each in built.live_orders()] == [theirs]
    told = [(u["order"]["oid"], u["status"], u["statusTimestamp"]) for each in ear.on("orderUpdates") for u in each]
    assert told == [(oid, "scheduledCancel", NOW_MS + 5_000) for oid in oids]
    assert [each["oid"] for event in ear.on("user") for each in event["nonUserCancel"]] == oids
    assert ask(built, "orderStatus", oid=oids[0])["order"]["status"] == "scheduledCancel"


def test_an_action_that_comes_at_the_time_finds_the_orders_gone(tmp_path: Path) -> None:
    """What is due happens before an action, even if nobody looked at the clock in between."""
    built = venue(tmp_path)
    place(built, order())
    built.act(signed(schedule_cancel(NOW_MS + 5_000)), NOW)
    later = NOW + 6_000_000_000
    oid = place(built, order("99980"), now=later)["resting"]["oid"]
    assert [each["oid"] for each in built.live_orders()] == [oid]


def test_the_standing_of_an_account(tmp_path: Path) -> None:
    """states() tells positions, balances, orders, volume, requests and the switch of each account that acted."""
    built = venue(tmp_path)
    place(built, order())
    place(built, order("100000", "0.5", buy=False, tif="Ioc"))
    built.act(signed(schedule_cancel(NOW_MS + 60_000)), NOW)
    assert built.states() == {
        MASTER: {
            "positions": {"BTC": "-0.5"},
            "balances": {"USDC": "100000.0", "PURR": "500000.0"},
            "open_orders": 1,
            "volume": "50000.0",
            "requests_used": 3,
            "requests_cap": 60_000,
            "dead_man_ms": NOW_MS + 60_000,
            "fires_today": 0,
        }
    }
    built.tick(NOW + 60_000_000_000)
    (standing,) = built.states().values()
    assert (standing["open_orders"], standing["dead_man_ms"], standing["fires_today"]) == (0, None, 1)


def test_the_gate_counts_what_the_account_traded_here(tmp_path: Path) -> None:
    """Its own volume is in the refusal, and once it is enough the switch can be set."""
    built = venue(tmp_path, rules=Rules(volume_gate=100_000 * MONEY_SCALE))
    place(built, order("100001", "0.5", tif="Ioc"))
    refused = built.act(signed(schedule_cancel(NOW_MS + 5_000)), NOW)["response"]
    assert refused.endswith("Required: $100000. Traded: $50000.5.")
    place(built, order("100000", "0.5", buy=False, tif="Ioc"))
    assert built.act(signed(schedule_cancel(NOW_MS + 5_000)), NOW)["status"] == "ok"
    stranger = built.act(signed(schedule_cancel(NOW_MS + 5_000), STRANGER), NOW)["response"]
    assert stranger.endswith("Traded: $0."), address_of(STRANGER)
