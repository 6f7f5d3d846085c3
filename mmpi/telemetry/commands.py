"""Commands: what comes from afar, judged, and handed to the guardian; it alone decides and does.

Kill and pause are never refused for age, id, duplicate or clock, only if they were retained; resume, flatten and arm
need an id that was never used, the time of issue, a time to live and a name (I9).

Invariant: taking a command never waits; however many come, a bounded number of them waits, and a kill is under way at
once. It must not know brokers, topics or pages.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from mmpi.errors import RemoteError
from mmpi.runtime import ipc
from mmpi.runtime.service import say
from mmpi.telemetry.payloads import CommandPayload

STOPS: Final = ("kill", "pause")
STARTS: Final = ("resume", "flatten", "arm")
"""What needs to be fresh, and said once."""
KNOWN: Final = (*STOPS, *STARTS, "status")
OBEYED: Final = {"all": KNOWN, "stop": (*STOPS, "status"), "none": ()}
MOST_TTL_S: Final = 60.0
AHEAD_S: Final = 5.0
"""So far may the issuer's clock be ahead of ours."""
MOST_ID: Final = 64
IDS: Final = 4096
"""Ids that are remembered: more than may come within MOST_TTL_S, by MOST_STARTS."""
STARTS_PER_MINUTE: Final = 60
WAITING: Final = 16
ANSWER_S: Final = {"kill": 30.0, "pause": 15.0, "resume": 5.0, "flatten": 90.0, "arm": 15.0, "status": 5.0}
RESULTS_PER_S: Final = 10
"""More are counted, and not said."""

Tell = Callable[[str, str, str, str, dict[str, Any]], None]
"""(cmd, id, result, text, answer): what became of it; result is accepted, done, refused or failed. `answer` is the
guardian's last one, {} before there is one."""


class Order(NamedTuple):
    """A command that passed."""

    cmd: str
    id: str
    by: str
    reason: str
    tell: Tell
    awaited: bool = False
    """Somebody waits for what becomes of it, and is told even in a flood."""


class _Word(msgspec.Struct):
    cmd: str = ""


def word_of(payload: bytes) -> str:
    """Return the command that a payload names, bare or in JSON, whatever else is in it; "" = none."""
    text = payload.strip()
    if text[:1] != b"{":
        return text[:MOST_ID].decode("ascii", "replace").lower()
    try:
        return msgspec.json.decode(text, type=_Word).cmd.lower()
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ""


def is_kill(payload: bytes) -> bool:
    """Return whether a payload asks for a stop at once."""
    return word_of(payload) == "kill"


class Commands:
    """Everything that may be asked for from afar, from all sides together."""

    def __init__(self, control: Path, counters: "Counter[str]", clock_fault: Callable[[], str]) -> None:
        """`control`: the guardian's socket. `clock_fault`: why ages cannot be judged now, "" = they can."""
        self._control, self._counters, self._clock_fault = control, counters, clock_fault
        self._began = time.time()
        self._ids: dict[str, None] = {}
        self._starts: deque[float] = deque()
        self._said: deque[float] = deque()
        self._waiting: deque[Order] = deque()
        self._busy: set[str] = set()
        """Stops that are under way: the same again is the same."""
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self, payload: bytes, retained: bool, allowed: str, who: str, tell: Tell) -> None:
        """Judge what came, and have it done if it passes. `allowed`: all, stop or none; `who`: which broker.

        Nothing at all, which is how a retained message is taken away, is no command.
        """
        if not payload.strip():
            return
        cmd, wanted = word_of(payload), None
        if retained:
            self._refuse(cmd, "", "a retained command is old by its nature: publish it without retain", tell)
            return
        try:
            wanted = self._decoded(payload, cmd)
            refusal = self._refusal(wanted, OBEYED[allowed])
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            refusal = f"cannot be read: {str(error)[:120]}"
        if cmd in STOPS and cmd in OBEYED[allowed]:
            # Whatever else is wrong with it: the word is enough.
            wanted, refusal = wanted or CommandPayload(cmd), ""
        if refusal or wanted is None:
            self._refuse(cmd, wanted.id if wanted is not None else "", refusal, tell)
            return
        by = f"{who}: {_short(wanted.by, MOST_ID)}" if wanted.by else who
        self.do(Order(wanted.cmd.lower(), wanted.id, by, _short(wanted.reason, 200) or f"from {who}", tell))

    def do(self, order: Order) -> None:
        """Have it done, without waiting."""
        self._counters["commands"] += 1
        if order.cmd in STOPS:
            if order.cmd in self._busy:
                self._say(order, "accepted", "it is under way already", {"joined": True})
                return
            self._busy.add(order.cmd)
            self._spawn(order)
        elif len(self._waiting) >= WAITING:
            self._refuse(order.cmd, order.id, f"{WAITING} commands wait already", order.tell, order.awaited)
        else:
            self._waiting.append(order)
            self._wake.set()

    async def run(self) -> None:
        """Work off what may wait, one after the other, until cancelled; what is under way then is given up."""
        try:
            while True:
                while self._waiting:
                    await self._have_done(self._waiting.popleft())
                self._wake.clear()
                await self._wake.wait()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    # Judging ------------------------------------------------------------------------------------------------------

    def _decoded(self, payload: bytes, cmd: str) -> CommandPayload:
        if payload.strip()[:1] != b"{":
            return CommandPayload(cmd)
        return msgspec.json.decode(payload, type=CommandPayload)

    def _refusal(self, wanted: CommandPayload, obeyed: tuple[str, ...]) -> str:
        """Return why this is not done, "" = it is; an id is used up by being looked at."""
        cmd = wanted.cmd.lower()
        if cmd not in KNOWN:
            return f"no such command; allowed: {', '.join(KNOWN)}"
        if cmd not in obeyed:
            return f"not from this broker; allowed: {', '.join(obeyed) or 'nothing'} (its key `commands`)"
        if cmd not in STARTS:
            return ""
        now = time.time()
        if not wanted.id or len(wanted.id) > MOST_ID or not wanted.by:
            return f"it needs an id of 1 to {MOST_ID} characters, and by: who asks"
        if not 0 < wanted.ttl_s <= MOST_TTL_S:
            return f"ttl_s is {wanted.ttl_s:g}; allowed: above 0, at most {MOST_TTL_S:g}"
        if fault := self._clock_fault():
            return f"nobody knows how old this is: {fault}"
        if wanted.issued_at < self._began - AHEAD_S:
            return "issued before this run of telemetry began, so it may have been obeyed already"
        if wanted.issued_at > now + AHEAD_S or now > wanted.issued_at + wanted.ttl_s:
            return f"issued {now - wanted.issued_at:.0f} s ago; allowed: 0 to ttl_s ({wanted.ttl_s:g})"
        if wanted.id in self._ids:
            return "this id was used before"
        while self._starts and now - self._starts[0] > MOST_TTL_S:
            self._starts.popleft()
        if len(self._starts) >= STARTS_PER_MINUTE:
            return f"more than {STARTS_PER_MINUTE} of these in a minute"
        self._starts.append(now)
        self._ids[wanted.id] = None
        if len(self._ids) > IDS:
            del self._ids[next(iter(self._ids))]
        return ""

    # Doing --------------------------------------------------------------------------------------------------------

    def _spawn(self, order: Order) -> None:
        task = asyncio.create_task(self._have_done(order))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _have_done(self, order: Order) -> None:
        request = {"cmd": order.cmd, "by": order.by, "reason": order.reason, "remote": True}
        try:
            answer: dict[str, Any] = {}
            async for answer in ipc.call(self._control, request, ANSWER_S[order.cmd]):
                if answer.get("accepted"):
                    self._say(order, "accepted", "nothing is placed any more" if order.cmd in STOPS else "begun")
            if error := answer.get("error"):
                self._refuse(order.cmd, order.id, str(error), order.tell, order.awaited)
            else:
                self._say(order, "done", _told(order.cmd, answer), answer)
        except RemoteError as error:
            say(f"mmpi telemetry: {order.cmd} by {order.by}: {error}")
            self._say(order, "failed", str(error))
        finally:
            self._busy.discard(order.cmd)

    def _refuse(self, cmd: str, id: str, why: str, tell: Tell, awaited: bool = False) -> None:
        self._counters["commands_refused"] += 1
        if awaited or self._may_say():
            tell(_short(cmd, MOST_ID), _short(id, MOST_ID), "refused", why, {})

    def _say(self, order: Order, result: str, text: str, answer: dict[str, Any] | None = None) -> None:
        # What was done is always said.
        if result != "accepted" or order.awaited or self._may_say():
            order.tell(order.cmd, order.id, result, text, answer or {})

    def _may_say(self) -> bool:
        now = time.monotonic()
        while self._said and now - self._said[0] > 1.0:
            self._said.popleft()
        if len(self._said) >= RESULTS_PER_S:
            self._counters["results_unsaid"] += 1
            return False
        self._said.append(now)
        return True


def _short(text: str, most: int) -> str:
    """Return a stranger's text without what a terminal or a log would take amiss."""
    return "".join(letter if letter.isprintable() else " " for letter in text[:most])


def _told(cmd: str, answer: dict[str, Any]) -> str:
    """Return the guardian's final answer in words."""
    if cmd in STOPS:
        state = "latched" if cmd == "kill" else "paused"
        if answer.get("verified"):
            return f"{state}; zero orders verified after {answer.get('verified_ms', 0):.0f} ms"
        return f"{state}; that no order is left is not verified yet"
    if cmd == "resume":
        left = ", ".join(answer.get("causes", ()))
        return str(answer.get("note", "resumed")) + (f"; but there is: {left}" if left else "")
    if cmd == "status":
        return f"{answer.get('state')}: {answer.get('reason') or 'no reason'}; {answer.get('latch')}"
    return {"flatten": "flat: no position, no order", "arm": "armed"}[cmd]
