"""Guardian: owns the latch and the halt word, watches the quoter, and ends every order of ours by its own hand.

Invariant: from the moment the halt word is set nothing new is placed, and a stop is called verified only after the
venue twice answered "none of ours is live", the second time later than the expiry of all that the quoter sent.
It must not know strategies, prices or the quoter's memory.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, Protocol, TypeVar

from mmpi.device.latch import Latch, LatchState
from mmpi.errors import ConfigError, DeviceError, RemoteError
from mmpi.events import OpenOrder
from mmpi.instrument import MILLISECOND, SECOND, Nanos
from mmpi.runtime.board import LATCHED, PAUSED, RUN, STATE_NAMES, HaltWord
from mmpi.runtime.service import say
from mmpi.runtime.watch import QuoterWatch
from mmpi.sections import GuardianSettings

POLL_S: Final = 0.02
"""How often the quoter's beat and the venue session are looked at: a twentieth of the tightest deadline."""
EXPIRY: Final[Nanos] = 2 * SECOND
"""The longest that a trading action of the quoter stays valid once signed (settings: expires_after_ms <= 2000)."""
RETRY_FIRST_S: Final = 0.1
RETRY_LAST_S: Final = 2.0
VENUE_PATIENCE: Final[Nanos] = 3 * SECOND
"""A guardian that cannot reach the venue for this long cannot stop anything there: quoting pauses."""

VERIFY_S: Final = 10.0
"""How long arming waits for a stop to be verified; one takes 3 s and two round trips."""

T = TypeVar("T")
Answer = Callable[[dict[str, Any]], Awaitable[None]]


class Hand(Protocol):
    """The guardian's own hand on the venue; `live` follows the venue's order stream without being asked."""

    ready: bool
    news: asyncio.Event

    @property
    def live(self) -> dict[str, OpenOrder]:
        """Return our live orders by the venue's id."""
        ...

    async def maintain(self) -> None:
        """Keep the session up for ever; ConfigError if the venue will never let us cancel."""
        ...

    async def live_orders(self) -> Sequence[OpenOrder]:
        """Return the venue's answer; RemoteError if there is none."""
        ...

    async def cancel(self, orders: Sequence[OpenOrder]) -> None:
        """Ask the venue to cancel; RemoteError if it could not be sent or was not answered."""
        ...


class Guardian:
    """The stop path. All its state changes happen on one loop; only latch writes run in a thread."""

    def __init__(
        self, settings: GuardianSettings, latch: Latch, halt: HaltWord, watch: QuoterWatch, hand: Hand | None
    ) -> None:
        self.settings = settings
        self.latch = latch
        self.halt = halt
        self.watch = watch
        self.hand = hand
        self.stored: LatchState = latch.load()
        self.causes: dict[str, Nanos] = {}
        """Why quoting is paused -> since when; a pause ends by itself when this is empty and zero was verified."""
        self.verified_at: Nanos = 0
        """When the last stop was verified; 0 = a stop is going on."""
        self.last_stop: dict[str, Any] = {}
        self.errors = 0
        """Answers that the venue owed us and did not give, and failures of our own; each was followed by a try."""
        self.last_error = ""
        self._timeout = round(settings.heartbeat_timeout_s * SECOND)
        self._ack_timeout = round(settings.ack_timeout_s * SECOND)
        self._stopping: asyncio.Task[None] | None = None
        self._stop_began: Nanos = 0
        self._stop_reason = ""
        self._halted_at: Nanos = 0
        self._silent_since: Nanos = 0
        """Since when the quoter cannot have sent: it acknowledged the present halt, or died; 0 = not yet."""
        self._venue_lost: Nanos = 0
        self._writing: set[asyncio.Task[None]] = set()
        self._disk = ThreadPoolExecutor(max_workers=1, thread_name_prefix="latch")

    async def run(self) -> None:
        """Guard until cancelled. A latch on disk is kept; otherwise quoting starts once zero orders are verified."""
        if self.stored.latched:
            self._halt(LATCHED, self.stored.reason)
        else:
            self.causes["guardian_starting"] = _now()
            self._halt(PAUSED, "guardian_starting")
        hand = asyncio.create_task(self._keep(self.hand)) if self.hand is not None else None
        try:
            while True:
                if hand is not None and hand.done():
                    hand.result()
                now = _now()
                try:
                    self._look(now)
                    self.halt.beat(now)
                except Exception as error:
                    # No beat: a quoter that nobody watches pauses by itself. The button goes on working.
                    self._failed(error)
                await asyncio.sleep(POLL_S)
        finally:
            if hand is not None:
                hand.cancel()

    async def _keep(self, hand: Hand) -> None:
        """Keep the venue session up whatever happens to it; a key that is no agent's could not stop anything."""
        while True:
            try:
                await hand.maintain()
            except ConfigError:
                raise
            except Exception as error:
                self._failed(error)
            await asyncio.sleep(RETRY_LAST_S)

    def _failed(self, error: Exception) -> None:
        """Count a failure of our own; say it, but not fifty times a second."""
        self.errors += 1
        if repr(error) != self.last_error:
            self.last_error = repr(error)
            _say(self.last_error)

    # Commands -----------------------------------------------------------------------------------------------------

    async def command(self, request: dict[str, Any], pid: int, answer: Answer) -> None:
        """Serve one control request: kill (or press), arm, status."""
        name = request.get("cmd")
        by = f"{str(request.get('by', 'somebody'))[:64]} (pid {pid})"
        if name in ("kill", "press", "latch"):
            await self._kill(by, str(request.get("reason", "kill"))[:200], answer)
        elif name == "arm":
            await self._arm(by, answer)
        elif name == "status":
            await answer({"final": True, **self.status()})
        else:
            await answer({"final": True, "error": f"unknown command {name!r}; allowed: kill, arm, status"})

    def status(self) -> dict[str, Any]:
        """Return what observers may see."""
        state, generation = self.halt.read()
        return {
            "latch": "latched" if state == LATCHED else "armed",
            "state": STATE_NAMES[state],
            "reason": self.halt.reason,
            "generation": generation,
            "venue_session": self.hand.ready if self.hand is not None else None,
            "live_orders": len(self.hand.live) if self.hand is not None else None,
            "quoter_alive": self.watch.alive,
            "quoter_beat_ms": self.watch.age(_now()) // MILLISECOND,
            "verified_zero": self.verified_at > 0,
            "last_stop": self.last_stop,
            "errors": self.errors,
            "last_error": self.last_error,
        }

    async def _kill(self, by: str, reason: str, answer: Answer) -> None:
        """Latch, stop, and answer twice: at once, and when the stop is verified."""
        self._halt(LATCHED, reason)
        stop = self._stop(reason)
        stored = asyncio.create_task(self._on_disk(partial(self._trip, by, reason)))
        self._writing.add(stored)
        stored.add_done_callback(self._writing.discard)
        await answer({"accepted": True, "reason": reason})
        await stored
        await stop
        await answer({"final": True, "verified": True, **self.last_stop, "stored": self.stored.valid})

    async def _on_disk(self, work: Callable[[], T]) -> T:
        """Return what `work` returns, done in the one thread that no look-up and nothing else can keep busy."""
        return await asyncio.get_running_loop().run_in_executor(self._disk, work)

    def _trip(self, by: str, reason: str) -> None:
        try:
            self.stored = self.latch.trip(by, reason, time.time_ns())
        except DeviceError as error:
            self.errors += 1
            self.stored = LatchState(latched=True, reason=str(error), valid=False)

    async def _arm(self, by: str, answer: Answer) -> None:
        """Unlatch, if nothing is left to be stopped."""
        if self.halt.state != LATCHED:
            on_disk = await self._on_disk(self.latch.load)
            if not on_disk.latched:
                await answer({"final": True, "armed": True, "note": "was not latched"})
                return
            # Latched by another hand while we did not answer; the disk is what the next start believes.
            self._halt(LATCHED, on_disk.reason)
            self._stop(on_disk.reason)
        if not await self._verified():
            why = "it is not verified that none of our orders is live; is the venue reachable?"
            await answer({"final": True, "error": why})
            return
        if self.watch.alive and not self.watch.acknowledged(self.halt.generation):
            await answer({"final": True, "error": f"the quoter (pid {self.watch.pid}) does not answer; end it first"})
            return
        generation = self.halt.generation
        try:
            stored = await self._on_disk(partial(self.latch.arm, by, "armed by hand", time.time_ns()))
        except DeviceError as error:
            await answer({"final": True, "error": str(error)})
            return
        if self.halt.state != LATCHED:
            # Armed twice at once; the other was quicker.
            await answer({"final": True, "armed": True, "note": "was not latched"})
            return
        if self.halt.generation != generation:
            # Pressed while the disk was writing: the press wins.
            await self._on_disk(partial(self._trip, by, self.halt.reason))
            await answer({"final": True, "error": "pressed again while arming: still latched"})
            return
        self.stored = stored
        self.causes = {"armed": _now()}
        self._halt(PAUSED, "armed")
        await answer({"final": True, "armed": True, "generation": stored.generation})

    async def _verified(self) -> bool:
        """Return True once zero orders are verified; False if that takes longer than VERIFY_S."""
        end = _now() + round(VERIFY_S * SECOND)
        while not self.verified_at and _now() < end:
            await asyncio.sleep(POLL_S)
        return self.verified_at > 0

    # Watching -----------------------------------------------------------------------------------------------------

    def _look(self, now: Nanos) -> None:
        """Pause on what must pause, resume when every cause is gone."""
        self.watch.poll(now, self._timeout)
        self._cause("quoter_heartbeat", self.watch.alive and self.watch.age(now) > self._timeout, now)
        self._cause("quoter_died", self.watch.died_at > 0, now)
        if self.hand is not None:
            self._venue_lost = 0 if self.hand.ready else (self._venue_lost or now)
            self._cause("venue_session", self._venue_lost > 0 and now - self._venue_lost > VENUE_PATIENCE, now)
        state = self.halt.state
        if state != RUN and not self._silent_since:
            self._listen(now, state)
        if state == RUN:
            if self.causes:
                reason = next(iter(self.causes))
                self._halt(PAUSED, reason)
                self._stop(reason)
        elif state == PAUSED and self._may_resume(now):
            self.causes.clear()
            self.halt.set(RUN, "")
            _say("run")
        elif self._stopping is None and self._hand_ready() and (not self.verified_at or self._live()):
            # Not yet verified, or something of ours came alive while nothing may be.
            self._stop(self.halt.reason)

    def _cause(self, name: str, present: bool, now: Nanos) -> None:
        if present:
            self.causes.setdefault(name, now)
        elif name in self.causes and self.halt.state != RUN:
            del self.causes[name]

    def _may_resume(self, now: Nanos) -> bool:
        passing = {"guardian_starting", "armed"}
        if self.causes.keys() - passing or self._stopping is not None or not self.verified_at:
            return False
        if not self._hand_ready():
            return False
        return not self.watch.alive or (
            self.watch.steady(now) and self.watch.acknowledged(self.halt.generation)
        )

    def _hand_ready(self) -> bool:
        return self.hand is None or self.hand.ready

    def _live(self) -> bool:
        return self.hand is not None and len(self.hand.live) > 0

    # Stopping -----------------------------------------------------------------------------------------------------

    def _halt(self, state: int, reason: str) -> None:
        """Forbid placing, from this instant."""
        self.halt.set(state, reason)
        self._halted_at, self._silent_since = _now(), 0
        _say(f"{STATE_NAMES[state]}: {reason}")

    def _listen(self, now: Nanos, state: int) -> None:
        """Note when the quoter obeys or is dead; a latch kills one that does not answer in time."""
        if not self.watch.alive:
            self._silent_since = self.watch.died_at or self._halted_at
        elif self.watch.acknowledged(self.halt.generation):
            self._silent_since = now
        elif now - self._halted_at >= self._ack_timeout:
            if state == LATCHED and self.watch.kill():
                _say(f"quoter (pid {self.watch.pid}) did not obey: killed")
            elif state != LATCHED:
                # Frozen, so it sends nothing; what it sent expires. It is not let on before it obeys (_may_resume).
                self._silent_since = now

    def _stop(self, reason: str) -> asyncio.Task[None]:
        """Return the task that ends when zero is verified; one runs at a time, and follows the present halt."""
        self.verified_at = 0
        self._stop_began, self._stop_reason = _now(), reason
        if self._stopping is None or self._stopping.done():
            self._stopping = asyncio.create_task(self._until_zero())
        return self._stopping

    async def _until_zero(self) -> None:
        try:
            first_zero = await self._empty_book() if self.hand is not None else await self._obeyed()
            self.verified_at = _now()
            self.last_stop = {
                "reason": self._stop_reason,
                "first_zero_ms": max(0, first_zero - self._stop_began) / MILLISECOND,
                "verified_ms": (self.verified_at - self._stop_began) / MILLISECOND,
            }
            _say(f"zero orders, verified {self.last_stop['verified_ms']:.0f} ms after {self._stop_reason!r}")
        finally:
            self._stopping = None

    async def _obeyed(self) -> Nanos:
        """Without a venue (paper): wait for the quoter's acknowledgement or death."""
        while not self._silent_since:
            await asyncio.sleep(POLL_S)
        return _now()

    async def _empty_book(self) -> Nanos:
        """Cancel and ask until two empty answers, the second after all expiries; return when the first was given."""
        assert self.hand is not None
        first_zero: Nanos = 0
        delay = RETRY_FIRST_S
        await self._cancel(list(self.hand.live.values()))
        while True:
            asked = _now()
            try:
                live = await self.hand.live_orders()
            except RemoteError:
                self.errors += 1
                await self._pause_for(delay)
                delay = min(2 * delay, RETRY_LAST_S)
                # Whoever does not answer questions may still take orders: what the stream shows is cancelled again.
                await self._cancel(list(self.hand.live.values()))
                continue
            if live:
                first_zero = 0
                await self._cancel(live)
                await self._pause_for(delay / 4)
                delay = min(2 * delay, RETRY_LAST_S)
                continue
            if first_zero and self._silent_since and asked > self._silent_since + EXPIRY:
                return first_zero
            first_zero = first_zero or _now()
            await self._expire()

    async def _expire(self) -> None:
        """Wait until all that was sent has expired, or until an order of ours comes alive; cancel that at once."""
        assert self.hand is not None
        while not self.hand.live:
            left = POLL_S
            if self._silent_since:
                left = (self._silent_since + EXPIRY - _now()) / SECOND
            if left < 0:
                return
            await self._pause_for(min(left + 0.001, POLL_S))
        await self._cancel(list(self.hand.live.values()))

    async def _pause_for(self, seconds: float) -> None:
        """Wait, but wake as soon as the venue tells of an order."""
        assert self.hand is not None
        self.hand.news.clear()
        try:
            async with asyncio.timeout(seconds):
                await self.hand.news.wait()
        except TimeoutError:
            return

    async def _cancel(self, orders: Sequence[OpenOrder]) -> None:
        assert self.hand is not None
        if not orders:
            return
        try:
            await self.hand.cancel(orders)
        except RemoteError:
            self.errors += 1


def _say(text: str) -> None:
    say(f"mmpi guardian: {text}")


def _now() -> Nanos:
    return time.monotonic_ns()
