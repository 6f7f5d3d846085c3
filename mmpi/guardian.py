"""Guardian: owns the latch and the halt word, watches quoter and box, and ends every order of ours by its own hand.

Invariant: from the moment the halt word is set nothing new is placed, and a stop is called verified only after the
venue twice answered "none of ours is live", the second time later than the expiry of all that the quoter sent.
It must not know strategies, prices or the quoter's memory; who may ask for what is in control.py.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from mmpi.causes import HELD, NO_SELLING, latches
from mmpi.device.held import Held
from mmpi.device.latch import Latch
from mmpi.errors import DeviceError
from mmpi.instrument import MILLISECOND, SECOND, Nanos
from mmpi.runtime.board import LATCHED, PAUSED, REDUCE, RUN, STATE_NAMES, HaltWord
from mmpi.runtime.latch_keeper import LatchKeeper
from mmpi.runtime.senses import Panel, Sense
from mmpi.runtime.service import say
from mmpi.runtime.sign import sign_of
from mmpi.runtime.watch import QuoterWatch
from mmpi.runtime.zero import POLL_S, Canceller, Zero, keep_up
from mmpi.sections import GuardianSettings

VENUE_PATIENCE: Final[Nanos] = 3 * SECOND
"""Who cannot reach the venue for this long cannot stop anything there: quoting pauses."""
VERIFY_S: Final = 10.0
"""How long arming waits for a stop to be verified; one takes 3 s and two round trips."""
IDLE_S: Final = 0.08
"""While nothing is being stopped: twelve looks within a quoter's patience. The panel wakes it when a contact moves."""
PASSING: Final = frozenset({"guardian_starting", "armed"})
"""Causes that are over once zero is verified."""

class Guardian:
    """The stop path. All its state changes happen on one loop; only disk writes run in a thread."""

    def __init__(
        self,
        settings: GuardianSettings,
        latch: Latch,
        halt: HaltWord,
        watch: QuoterWatch,
        canceller: Canceller | None,
        *,
        senses: Sequence[Sense] = (),
        panel: Panel | None = None,
        held: Held | None = None,
        scope: str = "",
        progress: Callable[[], None] = lambda: None,
    ) -> None:
        """`scope`: account and configuration that an arming is for, "" = any; `progress` is told of each look."""
        self.settings, self.latch, self.halt, self.watch = settings, latch, halt, watch
        self.canceller, self.panel, self.scope = canceller, panel, scope
        self.disk = LatchKeeper(latch)
        self.causes: dict[str, Nanos] = {}
        """Why quoting is paused -> since when; a pause ends by itself when this is empty and zero was verified."""
        self.found: dict[str, str] = {}
        """The causes that buttons and box show now, latching ones too, each with its detail."""
        self.verified_at: Nanos = 0
        """When the last stop was verified; 0 = a stop is going on."""
        self.last_stop: dict[str, Any] = {}
        self.last_error = ""
        self.well = True  # this boot was not found unhealthy; it shows, and stops nothing
        self.presses = 0  # looks and commands that latched, or would have: a wish that waits sees if one came later
        self._errors = 0
        self._held_file = held
        self.held: dict[str, str] = held.load() if held is not None else {}
        """Pauses that a person set -> who; they outlive a power loss."""
        self._senses, self._progress = senses, progress
        self._zero = Zero(canceller, lambda: self._silent_since)
        self._timeout = round(settings.heartbeat_timeout_s * SECOND)
        self._ack_timeout = round(settings.ack_timeout_s * SECOND)
        self._stopping: asyncio.Task[None] | None = None
        self._stop_began, self._stop_reason = 0, ""
        self._halted_at: Nanos = 0
        self._silent_since: Nanos = 0
        """Since when the quoter cannot have sent: it acknowledged the present halt, or died; 0 = not yet."""
        self._venue_lost: Nanos = 0
        self._word = 0
        """The generation of the word that this guardian set; another one is another hand's."""
        self._resuming: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def errors(self) -> int:
        """Return how many answers the venue did not give, and failures of our own; each was followed by a try."""
        return self._errors + self._zero.errors + self.disk.errors

    async def run(self, start_latched: str = "") -> None:
        """Guard until cancelled. A latch on disk is kept; otherwise quoting starts once zero orders are verified.

        `start_latched`: a cause, with its detail, that latches before anything may happen; "" = none.
        """
        if self.disk.stored.latched:
            self._halt(LATCHED, self.disk.stored.reason)
        elif start_latched:
            self._halt(LATCHED, start_latched)
            await self.disk.trip("guardian", start_latched)
        else:
            self.causes["guardian_starting"] = _now()
            self._halt(PAUSED, "guardian_starting")
        session = asyncio.create_task(keep_up(self.canceller, self._failed)) if self.canceller else None
        try:
            while True:
                if session is not None and session.done():
                    session.result()
                if self.look():
                    self.halt.beat(_now())
                    self._progress()
                await asyncio.sleep(IDLE_S if self.verified_at and not self.disk.storing else POLL_S)
        finally:
            if session is not None:
                session.cancel()

    def look(self) -> bool:
        """Look at everything now; True if nothing failed. Without that the guardian does not beat, and quoting pauses.

        Buttons are looked at first: they go on working whatever else fails.
        """
        now = _now()
        try:
            found = dict(self.panel.present(now)) if self.panel is not None else {}
            # Taken at every look: a wish that nothing came of must not be granted when nobody stands there any more.
            wish = self.panel.wants_arming(now) if self.panel is not None else ""
            self._latch_if(found)
            for sense in self._senses:
                found.update(sense.present(now))
            self.found = found
            self._latch_if(found)
            if self.halt.state == LATCHED:
                self.disk.save_again(self.halt.reason, now)
            if wish:
                self._keep_task(self._arm_by_hand(wish))
            self._look(now)
            if self.panel is not None:
                self.panel.show(self.sign(now), now)
        except Exception as error:
            self._failed(error)
            return False
        return True

    def sign(self, now: Nanos) -> str:
        """Return what the lamps are to show."""
        proven = self.verified_at > 0 and self.disk.durable
        return sign_of(
            self.halt.state, proven, {**self.causes, **self.found}, self.watch, now,
            well=self.well, fresh=not self.disk.stored.generation,
        )  # fmt: skip

    def _failed(self, error: Exception) -> None:
        """Count a failure of our own; say it, but not fifty times a second."""
        self._errors += 1
        if repr(error) != self.last_error:
            self.last_error = repr(error)
            _say(self.last_error)

    # What persons ask for -----------------------------------------------------------------------------------------

    def press(self, reason: str, by: str) -> "asyncio.Task[dict[str, Any]]":
        """Latch and stop, from this instant; return the task that ends with the account of the verified stop."""
        self.presses += 1
        self._halt(LATCHED, reason)
        return self._keep_task(self._pressed(self._stop(reason), self.disk.trip(by, reason)))

    async def _pressed(self, stop: Awaitable[None], stored: "asyncio.Future[None]") -> dict[str, Any]:
        await asyncio.shield(stored)
        await stop
        return {"verified": True, **self.last_stop, "stored": self.disk.stored.valid}

    async def arm(self, by: str) -> dict[str, Any]:
        """Unlatch, if nothing is left to be stopped and no cause is there; return the answer, `error` or `armed`."""
        if self.halt.state == REDUCE:
            return {"error": "positions are being flattened; arm when that is over"}
        presses = self.presses
        if self.halt.state != LATCHED:
            on_disk = await self.disk.load()
            if not on_disk.latched:
                return {"armed": True, "note": "was not latched"}
            # Latched by another hand while we did not answer; the disk is what the next start believes.
            self._halt(LATCHED, on_disk.reason)
            self._stop(on_disk.reason)
        if not await self.verified():
            return {"error": "it is not verified that none of our orders is live; is the venue reachable?"}
        if self.watch.alive and not self.watch.acknowledged(self.halt.generation):
            return {"error": f"the quoter (pid {self.watch.pid}) does not answer; end it first"}
        if self.found:
            return {"error": "; ".join(f"{name}: {detail}" for name, detail in self.found.items())}
        if self.presses != presses:
            return {"error": "pressed again while arming: still latched"}
        generation = self.halt.generation
        try:
            record = partial(self.latch.arm, by, "armed by hand", time.time_ns(), self.scope)
            stored = await self.disk.on_disk(record)
        except DeviceError as error:
            return {"error": str(error)}
        if self.halt.state in (RUN, PAUSED):
            # Armed twice at once; the other was quicker.
            return {"armed": True, "note": "was not latched"}
        if self.halt.generation != generation or self.presses != presses or self.found:
            # Pressed while the disk was writing: the press wins.
            await self.disk.trip(by, next(iter(self.found), self.halt.reason))
            return {"error": "pressed again while arming: still latched"}
        self.disk.stored = stored
        self.held.pop("flattened", None)  # who arms has seen that; a pause that a person set is theirs to end
        self.causes = {"armed": _now()}
        self._halt(PAUSED, next(iter(self.held), "armed"))
        await self.keep_held()
        return {"armed": True, "generation": stored.generation}

    async def verified(self) -> bool:
        """Return True once zero orders are verified; False if that takes longer than VERIFY_S."""
        end = _now() + round(VERIFY_S * SECOND)
        while not self.verified_at and _now() < end:
            await asyncio.sleep(POLL_S)
        return self.verified_at > 0

    def hold(self, name: str, by: str) -> None:
        """Pause, from this instant, until a person lets go of it; `keep_held` puts it on the disk."""
        self.held[name] = by
        self.causes.setdefault(name, _now())
        if self.halt.state == RUN:  # and not by a look, which may fail
            self._halt(PAUSED, name)
            self._stop(name)
        elif name != "flattened":
            self.restore(name)

    async def release(self, names: Sequence[str]) -> None:
        """Let go of pauses that persons set; off the disk first, or a power loss would bring them back."""
        await self.keep_held(names)
        for name in names:
            self.held.pop(name, None)

    async def keep_held(self, but: Sequence[str] = ()) -> None:
        """Put what persons hold on the disk, but these; DeviceError if the disk does not take it."""
        if self._held_file is not None:
            kept = {name: by for name, by in self.held.items() if name in HELD and name not in but}
            await self.disk.on_disk(partial(self._held_file.store, kept))

    def reduce(self, reason: str) -> None:
        """Let the quoter place what reduces a position, and nothing else; only after a verified zero."""
        assert self.verified_at and not any(map(latches, self.found))
        self._halt(REDUCE, reason)
        self.verified_at = 0

    def restore(self, reason: str) -> None:
        """End that: latched again if it was latched, paused if not."""
        if self.halt.state == REDUCE:
            latched = self.disk.stored.latched
            self._halt(LATCHED if latched else PAUSED, self.disk.stored.reason if latched else reason)
            self._stop(reason)

    def _keep_task(self, work: Any) -> "asyncio.Task[Any]":
        task: asyncio.Task[Any] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # Watching -----------------------------------------------------------------------------------------------------

    def _latch_if(self, found: Mapping[str, str]) -> None:
        """Latch for the first of these causes that does, unless it is latched already."""
        name = next(filter(latches, found), None)
        self.presses += name is not None
        if name is not None and self.halt.state != LATCHED:
            self.press(f"{name}: {found[name]}" if found[name] else name, name)

    def _look(self, now: Nanos) -> None:
        """Pause on what pauses, resume when every cause is gone, stop again what came alive."""
        self.watch.poll(now, self._timeout)
        self._note([*(name for name in self.found if not latches(name)), *self._own(now), *self.held], now)
        state, generation = self.halt.read()
        if state == LATCHED and generation != self._word:
            # By `mmpi kill`, while we did not answer: nothing is proven of it.
            self.press(self.halt.reason, "another hand")
        if state in (PAUSED, LATCHED) and not self._silent_since:
            self._listen(now, state)
        if state == RUN:
            if self.causes:
                reason = next(iter(self.causes))
                self._halt(PAUSED, reason)
                self._stop(reason)
        elif state == REDUCE:
            if others := [name for name in NO_SELLING if name in self.causes]:
                self.restore(others[0])
        elif state == PAUSED and self._may_resume(now):
            if self._resuming is None or self._resuming.done():
                self._resuming = self._keep_task(self._resume(generation))
        elif self._stopping is None and self._is_ready() and (not self.verified_at or self._live()):
            # Not yet verified, or something of ours came alive while nothing may be.
            self._stop(self.halt.reason)

    async def _resume(self, generation: int) -> None:
        """Let the quoter run, unless the disk says latched: another hand may have written it."""
        on_disk = await self.disk.load()
        if self.halt.generation != generation:
            return
        if on_disk.latched:
            self.press(on_disk.reason, "another hand")
        elif self._may_resume(_now()):
            self.causes.clear()
            self._word = self.halt.set(RUN, "")
            if self.canceller is not None:
                self.canceller.alone = False
            _say("run")

    def _own(self, now: Nanos) -> list[str]:
        """Return what pauses because of quoter and venue."""
        names = []
        if self.watch.alive and self.watch.age(now) > self._timeout:
            names.append("quoter_heartbeat")
        if self.watch.died_at:
            names.append("quoter_died")
        if self.canceller is not None:
            self._venue_lost = 0 if self.canceller.ready else (self._venue_lost or now)
            if self._venue_lost and now - self._venue_lost > VENUE_PATIENCE:
                names.append("venue_session")
        return names

    def _note(self, names: Sequence[str], now: Nanos) -> None:
        """Take the pauses that are there now; what is gone counts until quoting has been halted for it."""
        for name in names:
            self.causes.setdefault(name, now)
        if (state := self.halt.state) != RUN:
            kept = {*names, *(PASSING if state == PAUSED and not names else ())}
            self.causes = {name: since for name, since in self.causes.items() if name in kept}

    async def _arm_by_hand(self, way: str) -> None:
        answer = await self.arm(way)
        _say(f"{way}: {answer.get('error') or answer.get('note') or 'armed'}")

    def _may_resume(self, now: Nanos) -> bool:
        if self.found or self.causes.keys() - PASSING or self._stopping is not None:
            return False
        if not self.verified_at or self.disk.storing or self.disk.stored.latched or not self._is_ready():
            return False
        watch = self.watch
        return not watch.alive or (watch.steady(now) and watch.acknowledged(self.halt.generation))

    def _is_ready(self) -> bool:
        return self.canceller is None or self.canceller.ready

    def _live(self) -> bool:
        return self.canceller is not None and bool(self.canceller.live)

    # Stopping -----------------------------------------------------------------------------------------------------

    def _halt(self, state: int, reason: str) -> None:
        """Forbid placing, from this instant."""
        self._word = self.halt.set(state, reason)
        if self.canceller is not None:
            self.canceller.alone = state != REDUCE
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
            elif state != LATCHED and not self.watch.beats(now, self._timeout):
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
            first_zero = await self._zero.reach()
            self.verified_at = _now()
            self.last_stop = {
                "reason": self._stop_reason,
                "first_zero_ms": max(0, first_zero - self._stop_began) / MILLISECOND,
                "verified_ms": (self.verified_at - self._stop_began) / MILLISECOND,
            }
            _say(f"zero orders, verified {self.last_stop['verified_ms']:.0f} ms after {self._stop_reason!r}")
        finally:
            self._stopping = None


def _say(text: str) -> None:
    say(f"mmpi guardian: {text}")


def _now() -> Nanos:
    return time.monotonic_ns()
