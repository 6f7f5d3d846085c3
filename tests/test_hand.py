"""mmpi.runtime.hand against a practice server: the guardian's own view of our orders, and its cancels."""

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from practice_builders import ETH_ASSET, QUOTER, STRANGER, cancel, order, orders, signed, status
from runtime_builders import ACCOUNT, INSTANCE, OTHER_INSTANCE, Practice, cloid, guardian_signer, practice, until

from mmpi.errors import ConfigError, RemoteError
from mmpi.events import BookSnapshot, OpenOrder
from mmpi.runtime import hand as hand_module
from mmpi.runtime import websocket
from mmpi.runtime.allowance import BURST
from mmpi.runtime.hand import HyperliquidHand
from mmpi.sim.market import GENERATED
from mmpi.venues.hyperliquid.signing import Signer


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reconnect at once."""
    monkeypatch.setattr(websocket, "BACKOFF_FIRST_S", 0.01)


_nonces = itertools.count(time.time_ns() // 1_000_000)


def place(venue: Practice, *ids: str) -> list[int]:
    """Place orders with these ids as the quoter would; return the venue's numbers."""
    placed = []
    for number, each in enumerate(ids):
        body = signed(orders(order(str(99_900 - number), cloid=each)), QUOTER, nonce=next(_nonces))
        placed.append(int(status(venue.venue.act(body, time.time_ns()))["resting"]["oid"]))
    return placed


def live(venue: Practice) -> set[int]:
    """Return the orders that are live at the venue."""
    return {int(each["oid"]) for each in venue.venue.live_orders()}


def of(venue: Practice, signer: Signer | None = None) -> HyperliquidHand:
    """Return a hand on this venue."""
    return HyperliquidHand(venue.url, ACCOUNT, signer or guardian_signer(), INSTANCE, "keys/guardian.key")


@asynccontextmanager
async def held(hand: HyperliquidHand) -> AsyncIterator[HyperliquidHand]:
    """Keep a hand's session up meanwhile, from when it is ready."""
    task = asyncio.create_task(hand.maintain())
    try:
        await until(lambda: hand.ready or task.done())
        if task.done():
            task.result()
        yield hand
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, ConfigError):
            await task
        await asyncio.sleep(0)


async def test_it_knows_what_was_live_before(tmp_path: Path) -> None:
    """When the hand is ready it knows the orders that were there before, ours alone, and says that there is news."""
    async with practice(tmp_path) as venue:
        (ours, _) = place(venue, cloid(1), cloid(2, OTHER_INSTANCE))
        async with held(of(venue)) as hand:
            assert (set(hand.live), hand.news.is_set()) == ({str(ours)}, True)
            assert hand.live[str(ours)].cl_ord_id == cloid(1)


async def test_it_follows_the_stream(tmp_path: Path) -> None:
    """An order that comes alive is known, and waited for; one that ends is forgotten; other people's never matter."""
    async with practice(tmp_path) as venue, held(of(venue)) as hand:
        hand.news.clear()
        place(venue, cloid(7, OTHER_INSTANCE))
        first, second = place(venue, cloid(1), cloid(2))
        async with asyncio.timeout(5):
            await hand.news.wait()
        await until(lambda: set(hand.live) == {str(first), str(second)})
        venue.venue.act(signed(cancel(first), QUOTER, nonce=next(_nonces)), time.time_ns())
        await until(lambda: set(hand.live) == {str(second)})


async def test_it_asks_and_cancels(tmp_path: Path) -> None:
    """The venue's own list is asked for, and one signed cancel ends all that it names, and nothing else."""
    async with practice(tmp_path) as venue, held(of(venue)) as hand:
        place(venue, cloid(1), cloid(2), cloid(3))
        (foreign,) = place(venue, cloid(9, OTHER_INSTANCE))
        await until(lambda: len(hand.live) == 3)
        listed = await hand.live_orders()
        assert len(listed) == 3
        await hand.cancel(listed)
        assert live(venue) == {foreign}
        assert list(await hand.live_orders()) == []
        await until(lambda: not hand.live)
        await hand.cancel(listed)
        assert hand.failures == 0, "cancelling what is gone is no failure"


async def test_it_comes_back(tmp_path: Path) -> None:
    """A lost connection is not ready; the next one reads the whole list again, with what changed meanwhile."""
    async with practice(tmp_path) as venue, held(of(venue)) as hand:
        (first,) = place(venue, cloid(1))
        await until(lambda: set(hand.live) == {str(first)})
        hand._link.abort("test")
        venue.venue.act(signed(cancel(first), QUOTER, nonce=next(_nonces)), time.time_ns())
        (second,) = place(venue, cloid(2))
        await until(lambda: not hand.ready)
        await until(lambda: hand.ready)
        assert set(hand.live) == {str(second)}


async def test_a_key_that_is_no_agents(tmp_path: Path) -> None:
    """A key that could cancel nothing ends the hand with an error that names it; it was never ready."""
    async with practice(tmp_path) as venue:
        hand = of(venue, Signer(STRANGER, mainnet=False))
        with pytest.raises(ConfigError, match=r"keys/guardian\.key: its address 0x\w+ is unknown to the venue"):
            async with held(hand):
                pass
        assert hand.ready is False


async def test_a_cancel_that_the_venue_refuses(tmp_path: Path) -> None:
    """A cancel that is refused as a whole is an error with the venue's words, and the orders are still known."""
    async with practice(tmp_path) as venue, held(of(venue)) as hand:
        (oid,) = place(venue, cloid(1))
        await until(lambda: hand.live)
        hand._signer = guardian_signer(mainnet=True)
        with pytest.raises(RemoteError, match="cancel refused: .*does not exist"):
            await hand.cancel(list(hand.live.values()))
        assert (set(hand.live), live(venue)) == ({str(oid)}, {oid})


async def test_a_clock_that_lies_does_not_stop_a_cancel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """I8: a clock so far behind that every expiry is over: the venue refuses once, then the cancel carries none."""
    monkeypatch.setattr("mmpi.runtime.hand.EXPIRES_MS", -5000)
    async with practice(tmp_path) as venue, held(of(venue)) as hand:
        place(venue, cloid(1))
        listed = await hand.live_orders()
        with pytest.raises(RemoteError, match="cancel refused: "):
            await hand.cancel(listed)
        await hand.cancel(listed)
        assert live(venue) == set()


async def test_a_market_listed_since_we_connected(tmp_path: Path) -> None:
    """An order of ours in a market that we do not know has the markets asked for again, on the same connection."""
    async with practice(tmp_path) as venue, held(of(venue)) as hand:
        place(venue, cloid(1))
        await until(lambda: hand.live)
        del hand._assets["BTC"]
        with pytest.raises(RemoteError, match="markets that were not listed before"):
            await hand.cancel(list(hand.live.values()))
        await hand.cancel(await hand.live_orders())
        assert (live(venue), hand._link.connects) == (set(), 1)


async def test_an_order_in_a_market_that_stays_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is never zero, and it does not keep the others from being known and cancelled."""
    async with practice(tmp_path) as venue, held(of(venue)) as hand:

        async def learn_nothing() -> None:
            return None

        monkeypatch.setattr(hand, "_learn_markets", learn_nothing)
        (here,) = place(venue, cloid(1))
        eth, now = GENERATED["ETH"], time.time_ns()
        bids, asks = (((eth.ticks(price), eth.lots("1")),) for price in ("4001", "4002"))
        venue.venue.on_market(BookSnapshot(now, "ETH", now, 1, bids, asks))
        body = signed(orders(order("4000", "0.01", cloid=cloid(2), asset=ETH_ASSET)), QUOTER, nonce=next(_nonces))
        there = int(status(venue.venue.act(body, time.time_ns()))["resting"]["oid"])
        await until(lambda: len(hand.live) == 2)
        del hand._assets["ETH"]
        with pytest.raises(RemoteError, match="markets that were not listed before"):
            await hand.live_orders()
        with pytest.raises(RemoteError, match="markets that were not listed before"):
            await hand.cancel(list(hand.live.values()))
        assert live(venue) == {there}
        assert (str(there) in hand.live, here in live(venue)) == (True, False)


async def test_before_the_session_is_up(tmp_path: Path) -> None:
    """A hand without a session says so at once."""
    async with practice(tmp_path) as venue:
        with pytest.raises(RemoteError, match="the guardian's session is not up yet"):
            await of(venue).live_orders()


@pytest.mark.parametrize("question", [lambda h: h.live_orders(), lambda h: h.cancel([])])
async def test_a_venue_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, question: Callable[[HyperliquidHand], Any]
) -> None:
    """A question without an answer is counted and makes a fresh connection, the quickest way to an answer."""
    monkeypatch.setattr(hand_module, "ANSWER_TIMEOUT_S", 0.1)
    async with practice(tmp_path) as venue, held(of(venue)) as hand:
        connects = hand._link.connects
        venue.delay(0.25)
        with pytest.raises(RemoteError, match=r"no answer within 0\.1 s"):
            await question(hand)
        assert hand.failures >= 1
        venue.delay(0.0)
        await until(lambda: hand.ready and hand._link.connects > connects)


async def test_a_half_open_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A venue that answers no ping is left for a fresh connection; one that does is kept."""
    monkeypatch.setattr(hand_module, "PING_S", 0.02)
    monkeypatch.setattr(hand_module, "SILENCE_S", 0.1)
    async with practice(tmp_path) as venue, held(of(venue)) as hand:
        await asyncio.sleep(0.15)
        assert hand._link.connects == 1
        venue.delay(0.25)
        await until(lambda: hand._link.connects == 2)


async def test_nonces_never_repeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cancels in the same millisecond, or after the clock went back, still have nonces that grow."""
    async with practice(tmp_path) as venue, held(of(venue)) as hand:
        now = hand._clock.now_ms(time.monotonic_ns())
        for each in (now, now, now - 1000):
            (oid,) = place(venue, cloid(next(_nonces)))
            await until(lambda: hand.live)
            monkeypatch.setattr(hand._clock, "now_ms", lambda _, each=each: each)
            await hand.cancel(list(hand.live.values()))
            monkeypatch.undo()
            assert oid not in live(venue)
            await until(lambda: not hand.live)


YEAR_NS = 365 * 86_400 * 10**9


@pytest.mark.parametrize("years", [-5, 5])
async def test_a_clock_set_right_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, years: int) -> None:
    """I8: a box that booted years off cancels at once; setting its clock right changes nothing of what is signed."""
    async with practice(tmp_path) as venue:
        wrong = time.time_ns() + years * YEAR_NS
        monkeypatch.setattr(hand_module.time, "time_ns", lambda: wrong)
        hand = of(venue)
        monkeypatch.undo()
        ours = hand._clock.now_ms(time.monotonic_ns())
        assert abs(ours - wrong // 10**6) < 1000, "the wall clock is right again, and the hand does not look at it"
        async with held(hand):
            assert abs(hand._clock.ahead_ms - years * YEAR_NS // 10**6) < 2000
            (oid,) = place(venue, cloid(1))
            await until(lambda: hand.live)
            await hand.cancel(await hand.live_orders())
            assert (oid in live(venue), hand.failures, hand._link.connects) == (False, 0, 1)


@pytest.mark.parametrize("years", [-5, 5])
async def test_a_clock_that_moved_is_measured_again(tmp_path: Path, years: int) -> None:
    """A refused cancel has the clock measured, so the next one bears the venue's time and a nonce that it takes."""
    async with practice(tmp_path) as venue, held(of(venue)) as hand:
        place(venue, cloid(1))
        listed = await hand.live_orders()
        hand._clock._base += years * YEAR_NS
        with pytest.raises(RemoteError, match="cancel refused: "):
            await hand.cancel(listed)
        await hand.cancel(listed)
        assert live(venue) == set()


async def test_an_order_that_takes_anothers_place_is_news(tmp_path: Path) -> None:
    """One message that tells an end and a beginning, as an amend's does, leaves as many live and is news."""
    async with practice(tmp_path) as venue, held(of(venue)) as hand:
        (first,) = place(venue, cloid(1))
        await until(lambda: set(hand.live) == {str(first)})
        hand.news.clear()
        old = {"coin": "BTC", "side": "B", "limitPx": "1", "sz": "1", "oid": first, "cloid": cloid(1)}
        new = old | {"oid": first + 1, "cloid": cloid(2)}
        told = [{"order": old, "status": "canceled"}, {"order": new, "status": "open"}]
        hand._frame(msgspec.json.encode({"channel": "orderUpdates", "data": told}), 0)
        assert (set(hand.live), hand.news.is_set()) == ({str(first + 1)}, True)


# Faults ---------------------------------------------------------------------------------------------------------------


def struck(venue: Practice, *faults: str) -> None:
    """Have the venue play these faults from now on."""
    venue.server.set_faults(faults, 1)


@pytest.mark.parametrize("fault", ["http_429:p=1", "http_5xx:p=1", "http_5xx:p=1,status=503,executed=1"])
async def test_an_error_is_an_answer(tmp_path: Path, fault: str) -> None:
    """429 and 5xx are errors at once, not silence: the connection and the session stay, and the next one works."""
    async with practice(tmp_path) as venue, held(of(venue)) as hand:
        place(venue, cloid(1))
        await until(lambda: hand.live)
        order = list(hand.live.values())
        struck(venue, fault)
        with pytest.raises(RemoteError, match=r"hyperliquid: (429|50\d) "):
            await hand.live_orders()
        with pytest.raises(RemoteError, match=r"hyperliquid: (429|50\d) "):
            await hand.cancel(order)
        assert (hand.ready, hand._link.connects, hand._was_refused) == (True, 1, False)
        struck(venue)
        await hand.cancel(order)
        assert live(venue) == set()


async def test_after_429_questions_wait_and_cancels_do_not(tmp_path: Path) -> None:
    """A venue that says "too many" is asked again half a second later; a cancel goes out meanwhile."""
    async with practice(tmp_path) as venue, held(of(venue)) as hand:
        place(venue, cloid(1))
        await until(lambda: hand.live)
        struck(venue, "http_429:p=1")
        with pytest.raises(RemoteError, match="429"):
            await hand.live_orders()
        struck(venue)
        refused = time.monotonic()
        await hand.cancel(list(hand.live.values()))
        assert (live(venue), time.monotonic() - refused < 0.3) == (set(), True)
        await until(lambda: not hand.live)
        assert list(await hand.live_orders()) == []
        assert time.monotonic() - refused > 0.3


async def test_an_opening_that_is_refused_goes_on(tmp_path: Path) -> None:
    """A venue full of errors when the session opens is asked again on the same connection until it answers."""
    async with practice(tmp_path) as venue:
        struck(venue, "http_5xx:p=1")
        hand = of(venue)
        task = asyncio.create_task(hand.maintain())
        await until(lambda: hand.failures >= 2)
        struck(venue)
        await until(lambda: hand.ready)
        assert hand._link.connects == 1
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.mark.parametrize("fault", ["ack_lost:p=1", "cancel_lost:p=1"])
async def test_a_cancel_that_is_lost_does_not_cost_a_living_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """Nobody answers the cancel, but the list: the connection is kept, and the next cancel works."""
    monkeypatch.setattr(hand_module, "ANSWER_TIMEOUT_S", 0.1)
    async with practice(tmp_path) as venue, held(of(venue)) as hand:
        place(venue, cloid(1))
        await until(lambda: hand.live)
        struck(venue, fault)
        orders_ = list(hand.live.values())
        cancelling_ = asyncio.create_task(hand.cancel(orders_))
        await asyncio.sleep(0.02)
        await hand.live_orders()
        with pytest.raises(RemoteError, match="no answer"):
            await cancelling_
        struck(venue)
        await hand.cancel(orders_)
        assert (live(venue), hand._link.connects) == (set(), 1)


# What counts as live --------------------------------------------------------------------------------------------------


def told(hand: HyperliquidHand, number: int, status_: str = "open") -> None:
    """Have the stream tell of an order that the venue's list does not have."""
    wire = {"coin": "BTC", "side": "B", "limitPx": "1", "sz": "1", "oid": number, "cloid": cloid(number)}
    hand._frame(msgspec.json.encode({"channel": "orderUpdates", "data": [{"order": wire, "status": status_}]}), 0)


async def test_a_list_older_than_the_stream_is_no_zero(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An order that the stream told of just now counts, though the list lacks it; after a while the list is right."""
    monkeypatch.setattr(hand_module, "LISTING_LAG_S", 0.2)
    async with practice(tmp_path) as venue, held(of(venue)) as hand:
        told(hand, 77)
        assert [each.order_id for each in await hand.live_orders()] == ["77"]
        await asyncio.sleep(0.21)
        assert list(await hand.live_orders()) == []


async def test_an_order_that_comes_alive_is_not_kept_waiting(tmp_path: Path) -> None:
    """While a question waits for its weight, a birth is told at once."""
    async with practice(tmp_path) as venue, held(of(venue)) as hand:
        hand._questions.allowance.charge(BURST, time.monotonic())
        began = time.monotonic()
        asking = asyncio.create_task(hand.live_orders())
        await asyncio.sleep(0.05)
        assert not asking.done(), "twenty of weight take six seconds to come back"
        (oid,) = place(venue, cloid(1))
        assert [each.order_id for each in await asking] == [str(oid)]
        assert time.monotonic() - began < 1


async def test_an_order_that_came_and_went_is_no_answer(tmp_path: Path) -> None:
    """While a question waits an order is born and ends at once: nothing is live, but the venue has not said so."""
    async with practice(tmp_path) as venue, held(of(venue)) as hand:
        hand._questions.allowance.charge(BURST, time.monotonic())
        asking = asyncio.create_task(hand.live_orders())
        await asyncio.sleep(0.02)
        told(hand, 77)
        told(hand, 77, "canceled")
        await asyncio.sleep(0.05)
        assert (hand.live, asking.done()) == ({}, False)
        asking.cancel()


async def test_no_question_is_waited_for_while_something_is_live(tmp_path: Path) -> None:
    """What must be cancelled needs no list that comes in six seconds; once all has ended, the list is waited for."""
    async with practice(tmp_path) as venue, held(of(venue)) as hand:
        (oid,) = place(venue, cloid(1))
        await until(lambda: hand.live)
        hand._questions.allowance.charge(BURST, time.monotonic())
        async with asyncio.timeout(0.5):
            assert [each.order_id for each in await hand.live_orders()] == [str(oid)]
            await hand.cancel(list(hand.live.values()))
        await until(lambda: not hand.live)
        asking = asyncio.create_task(hand.live_orders())
        await asyncio.sleep(0.05)
        assert not asking.done()
        hand._questions.allowance.charge(-BURST, time.monotonic())
        asking.cancel()


async def test_a_clock_that_went_back_proves_nothing(tmp_path: Path) -> None:
    """The venue's clock goes back by a minute: an order signed before may come alive for that long, so no zero."""
    async with practice(tmp_path) as venue, held(of(venue)) as hand:
        struck(venue, "clock_skew:s=60")
        assert list(await hand.live_orders()) == []
        struck(venue)
        with pytest.raises(RemoteError, match=r"clock went back; orders may come alive for 7[012] s more"):
            await hand.live_orders()


# Many orders, and whose -----------------------------------------------------------------------------------------------


async def test_many_orders_are_cancelled_in_frames_of_a_hundred(tmp_path: Path) -> None:
    """250 orders of three runs of ours and one of somebody else: ours all end, in three frames, and nothing else."""
    async with practice(tmp_path) as venue, held(of(venue)) as hand:
        epochs = [f"{INSTANCE}{1 + number % 3:08x}{number:016x}" for number in range(250)]
        place(venue, *epochs)
        (foreign,) = place(venue, cloid(9, OTHER_INSTANCE))
        await until(lambda: len(hand.live) == 250)
        before = venue.server.reception.requests
        await hand.cancel(list(hand.live.values()))
        assert (live(venue), venue.server.reception.requests - before) == ({foreign}, 3)
        await until(lambda: not hand.live)
        assert list(await hand.live_orders()) == []


async def test_a_vaults_orders_are_ended_in_its_name(tmp_path: Path) -> None:
    """With a vault its orders are followed and cancelled, and those of the account itself are left alone."""
    vault = "0x" + "cd" * 20
    async with practice(tmp_path) as venue:
        file = tmp_path / "registry"
        file.write_text(file.read_text() + json.dumps({vault: {"leader": ACCOUNT}}) + "\n")
        hand = HyperliquidHand(venue.url, ACCOUNT, guardian_signer(), INSTANCE, "key", vault=vault)
        async with held(hand):
            (own,) = place(venue, cloid(1))
            body = signed(orders(order("99000", cloid=cloid(2))), QUOTER, nonce=next(_nonces), vault=vault)
            oid = int(status(venue.venue.act(body, time.time_ns()))["resting"]["oid"])
            await until(lambda: set(hand.live) == {str(oid)})
            await hand.cancel(await hand.live_orders())
            assert live(venue) == {own}


def test_a_refused_cancel_goes_by_market() -> None:
    """What one market refuses does not keep the orders of another; nothing at all is one empty frame."""
    both = [OpenOrder(coin, "0x1", str(number), 1, 0, 0) for number, coin in enumerate(["BTC", "ETH"] * 60)]
    sizes = [[{each.instrument for each in batch}, len(batch)] for batch in hand_module._batches(both, by_market=True)]
    assert sizes == [[{"BTC"}, 60], [{"ETH"}, 60]]
    assert [len(batch) for batch in hand_module._batches(both, by_market=False)] == [100, 20]
    assert list(hand_module._batches([], by_market=True)) == [[]]
