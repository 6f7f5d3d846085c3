"""The guardian's hand on Hyperliquid: its own session, its own key, the live set of our orders, and cancels.

Invariant: `live` follows the venue's order stream and is filled from the venue's answer before `ready` says so.
It must not know the quoter, limits or why something is cancelled.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, TypeVar

import msgspec

from mmpi.errors import ConfigError, RemoteError
from mmpi.events import OpenOrder
from mmpi.instrument import MILLISECOND, Nanos
from mmpi.runtime.posts import Posts, info_data, info_frame
from mmpi.runtime.service import say
from mmpi.runtime.venue_facts import VenueFacts
from mmpi.runtime.websocket import Link
from mmpi.venues.hyperliquid import cancelling
from mmpi.venues.hyperliquid.answers import ActionAnswer, ClearinghouseState, Meta, SpotMeta, UserRole
from mmpi.venues.hyperliquid.messages import FIRST_SPOT, PostResponse
from mmpi.venues.hyperliquid.requests import PING
from mmpi.venues.hyperliquid.signing import Signer

ANSWER_TIMEOUT_S: Final = 1.0
"""A stop does not wait longer for one answer before it asks again on a fresh connection."""
OPENING_TIMEOUT_S: Final = 5.0
"""The lists of markets that a session opens with are long: on a slow line they take their time."""
PING_S: Final = 5.0
SILENCE_S: Final = 12.0
"""Two pings without a byte in return: the connection is half open."""
OFF_MS: Final = 1000
"""A difference to the venue's time below this is its own delay as much as our clock's fault."""
EXPIRES_MS: Final = 2000
"""Every trading action is void this long after it was signed; but see `cancel`."""
NONCE_AHEAD_MS: Final = 86_400_000
"""The venue takes no nonce that is more than a day ahead of its time ("Nonces and API wallets")."""


T = TypeVar("T")


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
    ) -> None:
        """Take where the key came from too, to name it if the venue does not accept it."""
        self.ready = False
        self.news = asyncio.Event()
        """Set when an order of ours comes alive."""
        self.failures = 0
        self._account, self._signer, self._instance, self._key_file = account, signer, instance, key_file
        self._vault, self._trader = vault, vault or account
        self._base = time.time_ns() - time.monotonic_ns()
        """Our time is the wall clock's of this moment, moved on by the monotonic clock: setting the wall clock right
        later on, as a box without a clock of its own does, must not make a cancel bear a time that nobody means."""
        self._ahead_ms = 0
        """How far our time is ahead of the venue's: cancels bear the venue's time, whatever ours says (I8)."""
        self._accepted = False
        self._was_refused = False
        self._refused: asyncio.Future[None] | None = None
        self._assets: dict[str, int] = {}
        self._orders = cancelling.LiveOrders(instance)
        self._nonce = 0
        self._link = Link(url, self._opened, self._frame, self._closed, ca_file=ca_file, any_date=True)
        self._posts = Posts(self._link.send, ANSWER_TIMEOUT_S)
        self._opening: asyncio.Task[None] | None = None
        self._told = False
        self._why = ""

    @property
    def live(self) -> dict[str, OpenOrder]:
        """Return our live orders by the venue's id, as the stream tells them."""
        return {order.order_id: order for order in self._orders.orders()}

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
                    if time.monotonic() - self._link.last_rx > SILENCE_S:
                        self._link.abort("no answer to pings")
                    else:
                        self._link.send(PING)
        finally:
            link.cancel()
            self._link.abort("ending")

    def _tell(self) -> None:
        """Say, once for each time, that the session is not up: until it is, nothing can be cancelled."""
        if self.ready:
            self._told = False
        elif not self._told:
            self._told = True
            say(f"mmpi guardian: no session with the venue: {self._why or 'no answer yet'}")

    async def live_orders(self) -> Sequence[OpenOrder]:
        """Return our live orders by the venue's own answer; RemoteError if there is none."""
        if not self._assets:
            raise RemoteError("hyperliquid: the guardian's session is not up yet")
        try:
            answer = await self._posts.ask(
                lambda number: cancelling.open_orders_request(number, self._trader), self._listed
            )
        except RemoteError:
            self._suspect()
            raise
        try:
            return cancelling.open_orders(answer, self._instance, self._assets)
        except RemoteError:
            self._suspect()
            raise

    async def cancel(self, orders: Sequence[OpenOrder]) -> None:
        """Send one signed cancel for all of these and wait for its answer; RemoteError without one.

        After a refusal the clock is measured anew, and the next one carries no expiry: with a clock that lies, nothing
        that expires gets through, and a cancel that comes late does no harm (I8).
        """
        now_ms = self._now() // MILLISECOND - self._ahead_ms
        if self._nonce > now_ms + NONCE_AHEAD_MS:
            # By a clock that was wrong; the venue refused it, and would refuse all that follow it.
            self._nonce = 0
        self._nonce = max(self._nonce + 1, now_ms)
        nonce, expires = self._nonce, None if self._was_refused else now_ms + EXPIRES_MS
        known = [order for order in orders if order.instrument in self._assets]
        if orders and not known:
            raise self._unlisted()
        try:
            answer = await self._posts.ask(
                lambda number: cancelling.cancel_frame(
                    number, known, self._assets, self._signer, nonce, expires, self._vault
                )
            )
        except RemoteError:
            self._suspect()
            raise
        self._was_refused = not _is_accepted(answer)
        if self._was_refused:
            with suppress(RemoteError):
                await self._measure_clock()
            raise RemoteError(f"hyperliquid: cancel refused: {bytes(answer.payload)[:200].decode(errors='replace')}")
        if len(known) < len(orders):
            raise self._unlisted()

    def _unlisted(self) -> RemoteError:
        """Return the error for a market listed since we connected; a fresh connection asks for the list again."""
        self._suspect()
        return RemoteError("hyperliquid: orders of ours are live in markets that were not listed before")

    def _listed(self, answer: PostResponse) -> None:
        """Take the venue's list before any later update is looked at, or an order newer than the list would be lost."""
        with suppress(RemoteError):
            self._orders.replace(cancelling.open_orders(answer, self._instance, self._assets))

    def _suspect(self) -> None:
        """A question was not answered: a fresh connection is the quickest way to an answer."""
        self.failures += 1
        if self._link.open:
            self._link.abort("no answer in time")

    def _opened(self) -> None:
        self._link.send(cancelling.subscription(self._trader))
        self._opening = asyncio.create_task(self._fill())

    async def _fill(self) -> None:
        try:
            meta, spot, _ = await asyncio.gather(
                self._ask("meta", Meta), self._ask("spotMeta", SpotMeta), self._measure_clock()
            )
            self._assets.update({asset.name: number for number, asset in enumerate(meta.universe)})
            self._assets.update({pair.name: FIRST_SPOT + pair.index for pair in spot.universe})
            await self._check_key(meta)
            await self.live_orders()
        except RemoteError:
            self._suspect()
            return
        except ConfigError as error:
            if self._refused is not None and not self._refused.done():
                self._refused.set_exception(error)
            return
        self.ready = True
        self.news.set()

    async def _ask(self, what: str, kind: type[T], user: str = "") -> T:
        return info_data(await self._posts.ask(info_frame(what, user), timeout_s=OPENING_TIMEOUT_S), kind, what)

    async def _measure_clock(self) -> None:
        """Note how wrong our clock is, if it is: an answer's own time against the middle of its round trip."""
        began = self._now()
        state = await self._ask("clearinghouseState", ClearinghouseState, self._trader)
        ahead_ms = (began + self._now()) // 2 // MILLISECOND - state.time
        self._ahead_ms = ahead_ms if state.time and abs(ahead_ms) > OFF_MS else 0

    def _now(self) -> Nanos:
        return time.monotonic_ns() + self._base

    async def _check_key(self, meta: Meta) -> None:
        """ConfigError if our key could not cancel anything; asked once, as a key seldom stops to be an agent's."""
        if self._accepted:
            return
        role = await self._ask("userRole", UserRole, self._signer.address)
        VenueFacts(meta, role).check_agent(self._signer.address, self._account, self._key_file)
        self._accepted = True

    def _frame(self, frame: bytes, _recv_ts: Nanos) -> None:
        if self._posts.take(frame):
            return
        before = self._orders.births
        self._orders.receive(frame)
        if self._orders.births > before:
            self.news.set()

    def _closed(self, why: str) -> None:
        self.ready, self._why = False, why
        if self._opening is not None:
            self._opening.cancel()
        self._posts.fail(why)


def _is_accepted(answer: PostResponse) -> bool:
    """Return True if the venue took the cancel as a whole; single misses are normal (already gone)."""
    with suppress(msgspec.MsgspecError):
        return answer.type == "action" and msgspec.json.decode(answer.payload, type=ActionAnswer).status == "ok"
    return False
