"""Capture: Hyperliquid's public streams of some coins, from one connection into a spool.

Invariant: every message of a stream is taken as it came, with the time at which it came, or a gap is marked where it is
missing; receive times never go back. It must not know files, engines or keys.

Source: Hyperliquid documentation, "Subscriptions", "Timeouts and heartbeats" and "Rate limits and user limits"
(read 2026-11-28).
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import msgspec

from mmpi.instrument import SECOND, Nanos
from mmpi.runtime.recording import Gap
from mmpi.runtime.spool import Spool
from mmpi.runtime.websocket import Link
from mmpi.venues.hyperliquid.messages import GREETING
from mmpi.venues.hyperliquid.requests import PING, subscribe

CHANNELS: Final = ("l2Book", "trades", "bbo", "activeAssetCtx")
RECORDED: Final = frozenset({*CHANNELS, "activeSpotAssetCtx"})
"""Of a spot market activeAssetCtx comes under another name."""
MAX_COINS: Final = 1000 // len(CHANNELS)
"""The venue allows 1000 subscriptions to an address."""
TICK_S: Final = 0.5
"""How often lines go to the writer's thread, and everything is looked at."""
PING_S: Final = 5.0
SILENCE_S: Final = 12.0
"""Two pings without a byte in return: the connection is half open."""
IDLE_S: Final = 30.0
"""Without a message of a coin for so long something is wrong with its streams: recorded books come twice a second."""
JUMP: Final[Nanos] = SECOND
"""A wall clock that moves by more than this was set; less is its ordinary correction, which both clocks see."""
MAX_COMPLAINTS: Final = 20
"""Complaints of the venue that are shown; further ones are counted."""

Say: TypeAlias = Callable[[str], None]


class _Seen(msgspec.Struct, gc=False):
    channel: str
    data: msgspec.Raw = msgspec.Raw(b"null")


class _Named(msgspec.Struct, gc=False):
    coin: str


_SEEN: Final = msgspec.json.Decoder(_Seen)
_NAMED: Final[msgspec.json.Decoder[_Named | list[_Named]]] = msgspec.json.Decoder(_Named | list[_Named])


class ReceiveClock:
    """Wall-clock time that never goes back: moved on by the monotonic clock, and ahead where the wall clock is set.

    A box without a battery for its clock may begin to record before it knows the time.
    """

    def __init__(
        self, wall: Callable[[], Nanos] = time.time_ns, steady: Callable[[], Nanos] = time.monotonic_ns
    ) -> None:
        self.jumped: Nanos = 0
        """By how much the wall clock was set ahead so far."""
        self._wall, self._steady = wall, steady
        self._base: Nanos = wall() - steady()

    def now(self) -> Nanos:
        """Return nanoseconds since the Unix epoch."""
        now = self._steady() + self._base
        ahead = self._wall() - now
        if ahead <= JUMP:
            return now
        self._base += ahead
        self.jumped += ahead
        return now + ahead

    @property
    def is_ahead(self) -> bool:
        """Return whether the wall clock was set back."""
        return self._steady() + self._base - self._wall() > JUMP


class Capture:
    """One connection, kept up. `gaps` counts the times that it was lost."""

    def __init__(self, url: str, say: Say, clock: ReceiveClock, ca_file: str = "") -> None:
        """ConfigError if `url` is no WebSocket address, or `ca_file` holds no certificates."""
        self.gaps = 0
        self.complaints = 0
        self._link: Final = Link(url, self._opened, self._frame, self._closed, clock.now, ca_file=ca_file)
        self._say, self._clock = say, clock
        self._spool: Spool | None = None
        self._coins: Sequence[str] = ()
        self._heard: dict[str, float] = {}
        """When a coin's last message came, monotonic seconds."""
        self._quiet: set[str] = set()
        self._is_up = False
        self._why = ""
        """Of the loss that is not made good yet."""
        self._failed = ""
        """Why the last attempt to connect failed: the same reason is said once."""
        self._jumped: Nanos = 0
        self._is_told_of_clock = False

    async def record(
        self, coins: Sequence[str], spool: Spool, stop: asyncio.Event, seconds: float, look: Callable[[], str]
    ) -> str:
        """Record until `stop`, until `seconds` (0 = never) are over, or until `look` says why to end; return why."""
        self._coins, self._spool = coins, spool
        self._heard = dict.fromkeys(coins, time.monotonic())
        spool.mark(self._clock.now(), Gap("start"))
        link, stopping = asyncio.create_task(self._link.maintain()), asyncio.create_task(stop.wait())
        try:
            return await self._until({link, stopping}, spool, seconds, look)
        finally:
            # What the end of the connection brings is no gap any more.
            self._spool = None
            self._link.abort("ending")
            for task in (link, stopping):
                task.cancel()
            await asyncio.gather(link, stopping, return_exceptions=True)

    async def _until(
        self, tasks: "set[asyncio.Task[Any]]", spool: Spool, seconds: float, look: Callable[[], str]
    ) -> str:
        started = pinged = time.monotonic()
        while True:
            now = time.monotonic()
            spool.hand_over()
            if why := look():
                return why
            if seconds and now - started >= seconds:
                return "seconds"
            if now - pinged >= PING_S:
                pinged = now
                self._ping(now)
            self._mind_the_clock()
            self._mind_the_coins(now)
            wait = min(TICK_S, started + seconds - now) if seconds else TICK_S
            done, _ = await asyncio.wait(tasks, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                # The link's task ends by an error alone, which is raised here.
                task.result()
                return "asked to stop"

    # The link's callbacks ---------------------------------------------------------------------------------------------

    def _opened(self) -> None:
        if self._spool is None:
            return
        if self._why:
            self._say(f"connected again after: {self._why}")
            self._spool.mark(self._clock.now(), Gap(self._why, self._spool.last))
        self._is_up, self._why, self._failed = True, "", ""
        self._heard = dict.fromkeys(self._coins, time.monotonic())
        for coin in self._coins:
            for channel in CHANNELS:
                self._link.send(subscribe(channel, coin=coin))

    def _closed(self, why: str) -> None:
        if self._spool is None:
            return
        if self._is_up:
            self.gaps += 1
            self._is_up, self._why = False, why
            self._say(f"the connection was lost ({why}); connecting again")
        elif why != self._failed:
            self._failed = why
            self._say(f"no connection: {why}; trying again")

    def _frame(self, frame: bytes, recv_ts: Nanos) -> None:
        if self._spool is None:
            return
        try:
            seen = _SEEN.decode(frame)
            if seen.channel in RECORDED:
                self._spool.put(recv_ts, frame)
                self._note(_NAMED.decode(seen.data))
            elif seen.channel == "error":
                self._complaint(f"the venue says: {bytes(seen.data).decode(errors='replace')}")
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            if frame != GREETING.encode():
                self._complaint(f"a message is not as the venue documents it: {error}")

    # Inside -----------------------------------------------------------------------------------------------------------

    def _ping(self, now: float) -> None:
        if self._link.open:
            if now - self._link.last_rx > SILENCE_S:
                self._link.abort("no answer to pings")
            else:
                self._link.send(PING)

    def _note(self, named: _Named | list[_Named]) -> None:
        for each in named if isinstance(named, list) else (named,):
            if each.coin in self._heard:
                self._heard[each.coin] = time.monotonic()

    def _mind_the_coins(self, now: float) -> None:
        """Say which coins have gone silent, and which are back."""
        if not self._link.open:
            return
        quiet = {coin for coin in self._coins if now - self._heard[coin] > IDLE_S}
        if new := sorted(quiet - self._quiet):
            self._say(f"no message of {', '.join(new)} for {IDLE_S:g} s")
        if back := sorted(self._quiet - quiet):
            self._say(f"messages of {', '.join(back)} again")
        self._quiet = quiet

    def _mind_the_clock(self) -> None:
        if self._clock.jumped != self._jumped:
            self._say(f"the clock was set ahead by {(self._clock.jumped - self._jumped) / SECOND:.1f} s")
            self._jumped = self._clock.jumped
        if self._clock.is_ahead and not self._is_told_of_clock:
            self._is_told_of_clock = True
            self._say("the clock was set back: receive times go on as before, ahead of it")

    def _complaint(self, text: str) -> None:
        self.complaints += 1
        if self.complaints <= MAX_COMPLAINTS:
            self._say(text[:500])
