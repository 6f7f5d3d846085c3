"""mmpi.runtime.hand against a practice server: the guardian's own view of our orders, and its cancels."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from practice_builders import QUOTER, STRANGER, cancel, order, orders, signed, status
from runtime_builders import ACCOUNT, INSTANCE, OTHER_INSTANCE, Practice, cloid, guardian_signer, practice, until

from mmpi.errors import ConfigError, RemoteError
from mmpi.runtime import hand as hand_module
from mmpi.runtime import websocket
from mmpi.runtime.hand import HyperliquidHand
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
    """An order of ours in a market that we do not know is no zero: an error, and a fresh connection that knows it."""
    async with practice(tmp_path) as venue, held(of(venue)) as hand:
        place(venue, cloid(1))
        await until(lambda: hand.live)
        del hand._assets["BTC"]
        with pytest.raises(RemoteError, match="markets that were not listed before"):
            await hand.live_orders()
        with pytest.raises(RemoteError, match="not connected|markets that were not listed before"):
            await hand.cancel(list(hand.live.values()))
        await until(lambda: not hand.ready)
        await until(lambda: hand.ready)
        await hand.cancel(await hand.live_orders())
        assert live(venue) == set()


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
        assert hand.failures == 1
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
        now = hand._now()
        for each in (now, now, now - 1_000_000_000):
            (oid,) = place(venue, cloid(next(_nonces)))
            listed = await hand.live_orders()
            monkeypatch.setattr(hand, "_now", lambda each=each: each)
            await hand.cancel(listed)
            monkeypatch.undo()
            assert oid not in live(venue)


YEAR_NS = 365 * 86_400 * 10**9


@pytest.mark.parametrize("years", [-5, 5])
async def test_a_clock_set_right_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, years: int) -> None:
    """I8: a box that booted years off cancels at once; setting its clock right changes nothing of what is signed."""
    async with practice(tmp_path) as venue:
        wrong = time.time_ns() + years * YEAR_NS
        monkeypatch.setattr(hand_module.time, "time_ns", lambda: wrong)
        hand = of(venue)
        monkeypatch.undo()
        assert abs(hand._now() - wrong) < 10**9, "the wall clock is right again, and the hand does not look at it"
        async with held(hand):
            assert abs(hand._ahead_ms - years * YEAR_NS // 10**6) < 2000
            (oid,) = place(venue, cloid(1))
            await hand.cancel(await hand.live_orders())
            assert (oid in live(venue), hand.failures, hand._link.connects) == (False, 0, 1)


@pytest.mark.parametrize("years", [-5, 5])
async def test_a_clock_that_moved_is_measured_again(tmp_path: Path, years: int) -> None:
    """A refused cancel has the clock measured, so the next one bears the venue's time and a nonce that it takes."""
    async with practice(tmp_path) as venue, held(of(venue)) as hand:
        place(venue, cloid(1))
        listed = await hand.live_orders()
        hand._base += years * YEAR_NS
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
