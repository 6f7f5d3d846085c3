"""Control: who may ask the guardian for what, and the answers.

Remote may stop; only hands may start (I9). Hands are root and the guardian's own user at the box; everybody else, and
whoever says so of itself, is remote. Every request that changes something is told on stderr with who and why.

Invariant: kill and pause are never refused. It must not know how a stop is made.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from mmpi.causes import HELD, NO_SELLING, latches, row_of
from mmpi.errors import DeviceError
from mmpi.guardian import Guardian
from mmpi.instrument import MILLISECOND
from mmpi.runtime.board import LATCHED, REDUCE, STATE_NAMES
from mmpi.runtime.ipc import Answer
from mmpi.runtime.peers import Peer
from mmpi.runtime.service import say

FLATTEN_S: Final = 60.0
"""Time for the quoter to sell what is held; it gives up by itself earlier."""
FLATTEN_START_S: Final = 3.0
"""Time for the quoter to take the order: fifteen of its looks at the halt word, and a reconciliation."""
ASK_S: Final = 0.1
COMMANDS: Final = ("kill", "pause", "resume", "arm", "flatten", "reload", "booted", "status")

Serve = Callable[[str, bool, dict[str, Any], Answer], Awaitable[dict[str, Any]]]
"""(who, remote, request, send an answer line) -> the final answer."""
Judge = Callable[[bool, str], None]
"""Keep whether this boot is healthy, and why; touches the disk."""


class Control:
    """Serves requests of the control socket."""

    def __init__(
        self,
        guardian: Guardian,
        *,
        has_button: bool,
        more: Callable[[], dict[str, Any]] = dict,
        judge: Judge = lambda *_: None,
    ) -> None:
        """`has_button`: arming is the button's business; `more` is what else `status` shows of the box."""
        self.reloading = asyncio.Event()
        """Set once everything stands still for a new configuration: end, and begin anew."""
        self._guardian, self._has_button, self._more, self._judge = guardian, has_button, more, judge
        self._serve: dict[str, Serve] = {
            "kill": self._kill,
            "press": self._kill,
            "latch": self._kill,
            "pause": self._pause,
            "resume": self._resume,
            "arm": self._arm,
            "flatten": self._flatten,
            "reload": self._reload,
            "booted": self._booted,
            "status": self._status,
        }

    async def command(self, request: dict[str, Any], peer: Peer, answer: Answer) -> None:
        """Serve one request, with `final` in its last answer."""
        name = request.get("cmd")
        serve = self._serve.get(name) if isinstance(name, str) else None
        if serve is None:
            told = repr(name)[:60]
            await answer({"final": True, "error": f"unknown command {told}; allowed: {', '.join(COMMANDS)}"})
            return
        remote = not peer.hands or bool(request.get("remote"))
        by = f"{str(request.get('by', 'somebody'))[:64]} (pid {peer.pid}, uid {peer.uid}{', remote' if remote else ''})"
        if name in ("pause", "resume", "arm", "flatten", "reload"):
            say(f"mmpi guardian: {name} by {by}: {_reason(request)}")
        try:
            said = await serve(by, remote, request, answer)
        except DeviceError as error:
            # What was asked for is in force all the same; but the next start would not know of it.
            said = {"error": str(error)}
        await answer({"final": True, **said})

    async def _kill(self, by: str, _remote: bool, request: dict[str, Any], answer: Answer) -> dict[str, Any]:
        """Latch and stop; answered twice: at once, and when the stop is verified."""
        reason = _reason(request)
        stopped = self._guardian.press(reason, by)
        say(f"mmpi guardian: pressed by {by}")
        await answer({"accepted": True, "reason": reason})
        return await stopped

    async def _pause(self, by: str, remote: bool, request: dict[str, Any], answer: Answer) -> dict[str, Any]:
        reason = _reason(request)
        self._guardian.hold("by_remote" if remote else "by_hand", f"{by}: {reason}")
        stored = asyncio.create_task(self._guardian.keep_held())
        await answer({"accepted": True, "reason": reason})
        await stored
        return {"paused": True, "verified": await self._guardian.verified(), **self._guardian.last_stop}

    async def _resume(self, _by: str, remote: bool, _request: dict[str, Any], _answer: Answer) -> dict[str, Any]:
        guardian = self._guardian
        if guardian.halt.state == LATCHED:
            return {"error": f"latched, not paused: {guardian.halt.reason}; only arming ends that"}
        held = [name for name in guardian.held if name in HELD]
        if remote and (hands := [name for name in held if name != "by_remote"]):
            return {"error": f"paused at the box ({guardian.held[hands[0]]}): only hands there may let it go on"}
        await guardian.release(held)
        left = [name for name in guardian.causes if name not in held]
        note = "" if held else "nobody had paused it"
        return {"resumed": True, "held": held, "causes": left, **({"note": note} if note else {})}

    async def _arm(self, by: str, remote: bool, _request: dict[str, Any], _answer: Answer) -> dict[str, Any]:
        if (self._has_button or remote) and not self._guardian.settings.allow_remote_arm:
            how = "hold the button at the box" if self._has_button else "run mmpi arm at the box"
            return {"error": f"only hands at the box arm: {how} (guardian.allow_remote_arm is false)"}
        return await self._guardian.arm(by)

    async def _flatten(self, by: str, remote: bool, request: dict[str, Any], answer: Answer) -> dict[str, Any]:
        """Have the quoter sell what is held, by orders that only reduce; halted before and after."""
        guardian = self._guardian
        presses = guardian.presses
        if remote and (guardian.disk.stored.latched or guardian.halt.state == LATCHED):
            return {"error": "latched: then only hands at the box may flatten"}
        if guardian.halt.state == REDUCE:
            return {"error": "it is being flattened already"}
        if not guardian.watch.alive:
            return {"error": "no quoter is running that could; start it (a latched one is started as a service only)"}
        guardian.hold("flattened", f"{by}: {_reason(request)}")
        await guardian.keep_held()
        await answer({"accepted": True})
        if not await guardian.verified():
            return {"error": "it is not verified that none of our orders is live; nothing was placed"}
        if guardian.presses != presses:
            return {"error": f"pressed meanwhile: {guardian.halt.reason}; nothing was placed"}
        if problem := self._not_now():
            return {"error": f"{problem}; nothing was placed"}
        guardian.reduce(f"flatten by {by}")
        generation = guardian.halt.generation
        try:
            said = await self._until_flat(generation, answer)
        finally:
            guardian.restore("flattened")
        if said != "flat":
            return {"error": said}
        return {"flat": True, "verified": await guardian.verified()}

    def _not_now(self) -> str:
        """Return what must be over before anything may be placed, though it only reduces; "" = nothing."""
        guardian = self._guardian
        causes = [name for name in (*guardian.found, *guardian.causes) if latches(name) or name in NO_SELLING]
        if causes:
            return f"not while there is: {', '.join(dict.fromkeys(causes))}"
        if guardian.disk.storing:
            return "the latch is not on the disk yet"
        if guardian.watch.alive and guardian.watch.acknowledged(guardian.halt.generation):
            return ""
        return "the quoter does not answer"

    async def _until_flat(self, generation: int, answer: Answer) -> str:
        """Return the quoter's last word, or why it was broken off."""
        guardian, told = self._guardian, ""
        began = time.monotonic()
        while guardian.halt.generation == generation:
            glance = guardian.watch.glance()
            said = glance.flatten if glance is not None else ""
            if said and not said.startswith("working"):
                return said
            passed = time.monotonic() - began
            if passed > FLATTEN_S or (not said and passed > FLATTEN_START_S):
                return f"not flat after {passed:.0f} s: {said or 'the quoter did not begin'}"
            if said and said != told:
                told = said
                await answer({"progress": said})
            await asyncio.sleep(ASK_S)
        return f"broken off: {guardian.halt.reason}"

    async def _reload(self, by: str, remote: bool, _request: dict[str, Any], answer: Answer) -> dict[str, Any]:
        """Halt, prove zero, and begin anew with the configuration that the asker has checked."""
        if remote:
            return {"error": "a new configuration is taken at the box only"}
        try:
            self._guardian.hold("reload", by)
            await answer({"accepted": True})
            if await self._guardian.verified():
                self.reloading.set()
                return {"reloading": True}
        finally:
            # Nobody else could end this pause.
            if not self.reloading.is_set():
                self._guardian.held.pop("reload", None)
        return {"error": "it is not verified that none of our orders is live; the old configuration goes on"}

    async def _booted(self, by: str, remote: bool, request: dict[str, Any], _answer: Answer) -> dict[str, Any]:
        """Take what `mmpi health` found of this boot; it stops nothing, and lets nothing go on."""
        healthy, why = request.get("healthy"), request.get("why")
        if remote:
            return {"error": "whether this boot is healthy is for hands at the box to say"}
        if not isinstance(healthy, bool) or not isinstance(why, str):
            return {"error": "allowed: healthy, true or false, and why, a text"}
        say(f"mmpi guardian: this boot is {'healthy' if healthy else 'NOT healthy'}, by {by}: {why[:200]}")
        self._guardian.well = healthy
        await self._guardian.disk.on_disk(partial(self._judge, healthy, why))
        return {"booted": True}

    async def _status(self, _by: str, _remote: bool, _request: dict[str, Any], _answer: Answer) -> dict[str, Any]:
        return self.status()

    def status(self) -> dict[str, Any]:
        """Return what observers may see."""
        guardian = self._guardian
        state, generation = guardian.halt.read()
        venue, now = guardian.canceller, time.monotonic_ns()
        return {
            "latch": "latched" if state == LATCHED or guardian.disk.stored.latched else "armed",
            "state": STATE_NAMES[state],
            "reason": guardian.halt.reason,
            "cause": row_of(guardian.disk.stored.reason) if guardian.disk.stored.latched else "",
            "causes": [*dict.fromkeys([*guardian.found, *guardian.causes])],
            "details": {**guardian.found, **guardian.held},
            "sign": guardian.sign(now),
            "generation": generation,
            "venue_session": venue.ready if venue is not None else None,
            "live_orders": len(venue.live) if venue is not None else None,
            "quoter_alive": guardian.watch.alive,
            "quoter_steady": guardian.watch.alive and guardian.watch.steady(now),
            "quoter_beat_ms": guardian.watch.age(now) // MILLISECOND,
            "verified_zero": guardian.verified_at > 0,
            "last_stop": guardian.last_stop,
            "errors": guardian.errors,
            "last_error": guardian.last_error,
            **self._more(),
        }


def _reason(request: dict[str, Any]) -> str:
    return str(request.get("reason") or request.get("cmd"))[:200]
