"""The guardian's hand on Hyperliquid: its own session, its own key, the live set of our orders, and cancels.

Invariant: `live` follows the venue's order stream and is filled from the venue's answer before `ready` says so; what
the stream has just told counts, though a list that the venue made before does not have it yet.
It must not know the quoter, limits or why something is cancelled.
"""

import asyncio
import time
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

import msgspec

from mmpi.errors import ConfigError, RemoteError
from mmpi.events import OpenOrder
from mmpi.instrument import Nanos
from mmpi.runtime.addresses import SHARED, Addresses
from mmpi.runtime.allowance import LIGHT, LIST, PER_MINUTE, ROLE, Allowance, cancel_weight
from mmpi.runtime.questions import Questions
from mmpi.runtime.service import say
from mmpi.runtime.venue_clock import VenueClock
from mmpi.runtime.venue_facts import VenueFacts
from mmpi.runtime.websocket import Link
from mmpi.venues.hyperliquid import cancelling
from mmpi.venues.hyperliquid.answers import ActionAnswer, ClearinghouseState, Meta, SpotMeta, UserRole
from mmpi.venues.hyperliquid.messages import FIRST_SPOT, PostResponse
from mmpi.venues.hyperliquid.requests import PING
from mmpi.venues.hyperliquid.signing import Signer

ANSWER_TIMEOUT_S: Final = 1.0
"""A stop does not wait longer for one answer before it asks again."""
OPENING_TIMEOUT_S: Final = 5.0
"""The lists of markets that a session opens with are long: on a slow line they take their time."""
OPENING_RETRY_S: Final = 0.25
PING_S: Final = 5.0
SILENCE_S: Final = 12.0
"""Two pings without a byte in return: the connection is half open."""
EXPIRES_MS: Final = 2000
"""Every trading action is void this long after it was signed; but see `cancel`."""
LISTING_LAG_S: Final = 1.0
"""How long an order that the stream told of may be missing in the venue's list and count as live all the same."""
CANCELS_A_FRAME: Final = 100
"""Orders in one cancel; a refusal of one for a single order leaves the others."""


T = TypeVar("T")


class _AnyMarket(dict[str, int]):
    """What a list of orders is read with: one in a market that we do not know must not be passed over."""

    def __contains__(self, _: object) -> bool:
        return True


class HyperliquidHand:
    """Follows and cancels the orders of one instance on one account."""

    def __init__(
        self,
        url: str,
        account: str,
        signer: Signer,
        instance: str,
        key_file: str,
        *,
        vault: str = "",
        ca_file: str = "",
        addresses: Addresses = SHARED,
        weight_per_minute: int = PER_MINUTE,
    ) -> None:
        """Take where the key came from too, to name it if the venue does not accept it.

        `weight_per_minute` is the guardian's part of what the network address may ask; 0 = do not count.
        """
        self.ready = False
        self.news = asyncio.Event()
        """Set when an order of ours comes alive."""
        self._account, self._signer, self._instance, self._key_file = account, signer, instance, key_file
        self._vault, self._trader = vault, vault or account
        self._clock = VenueClock(time.time_ns(), time.monotonic_ns())
        self._accepted = False
        self._was_refused = False
        self._refused: asyncio.Future[None] | None = None
        self._assets: dict[str, int] = {}
        self._orders = cancelling.LiveOrders(instance)
        self._born: dict[str, float] = {}
        """When the stream of this connection told of a live order, by its id; 0 = a list did."""
        self._birth = asyncio.Event()
        self._link = Link(
            url, self._opened, self._frame, self._closed, ca_file=ca_file, any_date=True, addresses=addresses
        )
        self._questions = Questions(self._link, Allowance(weight_per_minute), ANSWER_TIMEOUT_S)
        self._opening: asyncio.Task[None] | None = None
        self._timing: asyncio.Task[None] | None = None
        self._told = False
        self._why = ""

    @property
    def live(self) -> dict[str, OpenOrder]:
        """Return our live orders by the venue's id, as the stream tells them."""
        return {order.order_id: order for order in self._orders.orders()}

    @property
    def alone(self) -> bool:
        """Return whether the quoter's part of the request weight is ours, too, as it is halted."""
        return self._questions.allowance.alone

    @alone.setter
    def alone(self, alone: bool) -> None:
        """Take whether it is halted."""
        self._questions.allowance.alone = alone

    @property
    def failures(self) -> int:
        """Return how many questions and cancels were not answered as they should have been."""
        return self._questions.failures

    async def maintain(self) -> None:
        """Keep the session up until cancelled; raise what ended it, ConfigError if the venue knows no such agent."""
        link = asyncio.create_task(self._link.maintain())
        self._refused = asyncio.get_running_loop().create_future()
        try:
            while True:
                ends = {link, self._refused}
                done, _ = await asyncio.wait(ends, timeout=PING_S, return_when=asyncio.FIRST_COMPLETED)
                for end in done:
                    end.result()
                self._tell()
                if self._link.open:
                    self._look()
        finally:
            link.cancel()
            self._link.abort("ending")

    async def live_orders(self) -> Sequence[OpenOrder]:
        """Return our live orders by the venue's own answer; RemoteError if there is none, or it proves nothing.

        A question that must wait, for its weight or after a refusal, is not waited for while the stream shows an order
        or as soon as it shows one: that is no zero, and to be cancelled without delay.
        """
        if not self.ready:
            raise RemoteError("hyperliquid: the guardian's session is not up yet")
        while self._questions.must_wait(LIST + LIGHT):
            if self.live:
                return self._orders.orders()
            # Not even a born order that has ended by now makes this an answer.
            self._birth.clear()
            await _either(self._questions.afford(LIST + LIGHT), self._birth)
        await self._ask_all()
        if (left := self._clock.unsettled_s(time.monotonic_ns())) > 0:
            raise RemoteError(f"hyperliquid: the venue's clock went back; orders may come alive for {left:.0f} s more")
        return self._orders.orders()

    async def cancel(self, orders: Sequence[OpenOrder]) -> None:
        """Send signed cancels for all of these and wait for the answers; RemoteError without one. It never waits.

        After a refusal the clock is measured anew, and the next one carries no expiry: with a clock that lies, nothing
        that expires gets through, and a cancel that comes late does no harm (I8). It then also goes by market, so that
        one that is refused for its market does not keep the others.
        """
        known = [order for order in orders if order.instrument in self._assets]
        if orders and not known:
            raise _unlisted()
        frames = [self._cancel(batch) for batch in _batches(known, by_market=self._was_refused)]
        failed = [each for each in await asyncio.gather(*frames, return_exceptions=True) if each is not None]
        if refused := any(isinstance(error, _RefusedCancelError) for error in failed):
            with suppress(RemoteError):
                await self._measure_clock(waits=False)
        if refused or not failed:
            self._was_refused = refused
        for error in failed:
            raise error
        if len(known) < len(orders):
            raise _unlisted()

    async def _cancel(self, orders: Sequence[OpenOrder]) -> None:
        now = time.monotonic_ns()
        nonce = self._clock.nonce(now)
        expires = None if self._was_refused else self._clock.now_ms(now) + EXPIRES_MS
        answer = await self._questions.post(
            lambda number: cancelling.cancel_frame(
                number, orders, self._assets, self._signer, nonce, expires, self._vault
            ),
            cancel_weight(len(orders)),
        )
        if not _is_accepted(answer):
            text = bytes(answer.payload)[:200].decode(errors="replace")
            raise _RefusedCancelError(f"hyperliquid: cancel refused: {text}")

    # Asking ---------------------------------------------------------------------------------------------------------

    async def _ask_all(self) -> None:
        """Ask for our open orders and the venue's time; RemoteError without an answer, or if a market is unknown."""
        listing = self._questions.post(
            lambda number: cancelling.open_orders_request(number, self._trader), LIST, self._listed
        )
        answer, _ = await asyncio.gather(listing, self._measure_clock(waits=False))
        # Read again, for its errors.
        cancelling.open_orders(answer, self._instance, _AnyMarket())
        if self._has_unknown():
            await self._learn_markets()
        if self._has_unknown():
            raise _unlisted()

    def _has_unknown(self) -> bool:
        return any(order.instrument not in self._assets for order in self._orders.orders())

    def _listed(self, answer: PostResponse) -> None:
        """Take the venue's list before any later update is looked at, or an order newer than the list would be lost.

        An order that the stream told of a moment ago is kept: lists may be older than the stream.
        """
        young = time.monotonic() - LISTING_LAG_S
        recent = {oid: order for oid, order in self.live.items() if self._born.get(oid, 0.0) > young}
        with suppress(RemoteError):
            listed = {each.order_id: each for each in cancelling.open_orders(answer, self._instance, _AnyMarket())}
            self._orders.replace((recent | listed).values())
            self._born = {oid: self._born.get(oid, 0.0) for oid in self.live}

    async def _measure_clock(self, *, waits: bool) -> None:
        began = time.monotonic_ns()
        state = await self._questions.info(
            "clearinghouseState", ClearinghouseState, LIGHT, self._trader, timeout_s=ANSWER_TIMEOUT_S, waits=waits
        )
        self._clock.told(state.time, began, time.monotonic_ns())

    async def _info(self, kind: str, form: type[T], weight: int, user: str = "") -> T:
        return await self._questions.info(kind, form, weight, user, timeout_s=OPENING_TIMEOUT_S)

    # The session ----------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Ask for a sign of life, and how the venue's clock goes; leave a connection that gives none."""
        if time.monotonic() - self._link.last_rx > SILENCE_S:
            self._link.abort("no answer to pings")
            return
        self._link.send(PING)
        if self.ready and (self._timing is None or self._timing.done()):
            self._timing = asyncio.create_task(self._time())

    async def _time(self) -> None:
        with suppress(RemoteError):
            await self._measure_clock(waits=True)

    def _tell(self) -> None:
        """Say, once for each time, that the session is not up: until it is, nothing can be cancelled."""
        if self.ready:
            self._told = False
        elif not self._told:
            self._told = True
            say(f"mmpi guardian: no session with the venue: {self._why or 'no answer yet'}")

    def _opened(self) -> None:
        self._link.send(cancelling.subscription(self._trader))
        self._opening = asyncio.create_task(self._open())

    async def _open(self) -> None:
        """Learn what a session must know, however often the venue refuses to say it, while the connection lasts."""
        while self._link.open:
            try:
                await self._fill()
            except RemoteError as error:
                self._why = str(error)
                await asyncio.sleep(OPENING_RETRY_S)
            except ConfigError as error:
                if self._refused is not None and not self._refused.done():
                    self._refused.set_exception(error)
                return
            else:
                self.ready = True
                self.news.set()
                return

    async def _fill(self) -> None:
        """Learn the markets and whether our key is accepted, once; then the time and our orders."""
        if not self._accepted:
            await self._check_key(await self._learn_markets())
        await self._questions.afford(LIST + LIGHT)
        await self._ask_all()

    async def _learn_markets(self) -> Meta:
        meta, spot = await asyncio.gather(self._info("meta", Meta, LIST), self._info("spotMeta", SpotMeta, LIST))
        self._assets.update({asset.name: number for number, asset in enumerate(meta.universe)})
        self._assets.update({pair.name: FIRST_SPOT + pair.index for pair in spot.universe})
        return meta

    async def _check_key(self, meta: Meta) -> None:
        """ConfigError if our key could not cancel anything; asked once, as a key seldom stops to be an agent's."""
        role = await self._info("userRole", UserRole, ROLE, self._signer.address)
        VenueFacts(meta, role).check_agent(self._signer.address, self._account, self._key_file)
        self._accepted = True

    def _frame(self, frame: bytes, _recv_ts: Nanos) -> None:
        if self._questions.take(frame):
            return
        before = self._orders.births
        self._orders.receive(frame)
        if self._orders.births > before:
            now = time.monotonic()
            self._born = {oid: self._born.get(oid, now) for oid in self.live}
            self.news.set()
            self._birth.set()

    def _closed(self, why: str) -> None:
        self.ready, self._why = False, why
        self._born = dict.fromkeys(self.live, 0.0)
        if self._opening is not None:
            self._opening.cancel()
        self._questions.fail(why)


class _RefusedCancelError(RemoteError):
    """The venue took a cancel for what it is, and refused it."""


def _unlisted() -> RemoteError:
    return RemoteError("hyperliquid: orders of ours are live in markets that were not listed before")


def _batches(orders: Sequence[OpenOrder], *, by_market: bool) -> Iterator[Sequence[OpenOrder]]:
    """Yield the orders in frames; one frame without any order, which the venue answers too, if there are none."""
    markets = dict.fromkeys(order.instrument for order in orders) if by_market else ()
    groups = [[order for order in orders if order.instrument == market] for market in markets] or [list(orders)]
    for group in groups:
        for start in range(0, max(1, len(group)), CANCELS_A_FRAME):
            yield group[start : start + CANCELS_A_FRAME]


async def _either(work: Coroutine[Any, Any, None], event: asyncio.Event) -> None:
    """Return when the work is done or the event has come."""
    tasks = [asyncio.ensure_future(work), asyncio.ensure_future(event.wait())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


def _is_accepted(answer: PostResponse) -> bool:
    """Return True if the venue took the cancel as a whole; single misses are normal (already gone)."""
    with suppress(msgspec.MsgspecError):
        return answer.type == "action" and msgspec.json.decode(answer.payload, type=ActionAnswer).status == "ok"
    return False
