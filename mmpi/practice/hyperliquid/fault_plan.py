"""The fault plan: what becomes of each message, request and socket, decided by a seed and by what time it is.

Invariant: the same faults, seed and traffic at the same times have the same fate, and each fault has dice of its own,
so that one more fault changes nothing for the others. It must not know sockets, clocks or what messages say.

Times are seconds of any steady clock. `at` and `until` count from the beginning of the plan. A fault of messages or
sockets has a schedule for each socket, which begins with it; the others have one for all.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from random import Random
from typing import Final

import msgspec

from mmpi.practice.hyperliquid.faults import RANDOM, Fault, drawn

BOOK: Final = "l2Book"
PLACES: Final = frozenset({"order", "modify", "batchModify"})
"""The types of action that `place_lost` swallows."""
CANCELS: Final = frozenset({"cancel", "cancelByCloid"})
"""And those that `cancel_lost` does."""
BY_SOCKET: Final = ("drop", "delay", "duplicate", "reorder", "disconnect", "half_open", "hole")
TOO_MANY: Final = 429


class Fate(msgspec.Struct, frozen=True):
    """What becomes of one message to a client."""

    lost: bool = False
    twice: bool = False
    swapped: bool = False
    """It changes places with the next one."""
    late_s: float = 0.0
    """It, and whatever follows on its socket, comes so much later."""


class ActionFate(msgspec.Struct, frozen=True):
    """What becomes of one action; `lost` = it never reaches the venue, `unanswered` = its answer is lost."""

    lost: bool = False
    unanswered: bool = False
    late_s: float = 0.0


UNTOUCHED: Final = Fate()
AS_SENT: Final = ActionFate()


class Trigger:
    """When one fault strikes: its windows or moments, and its dice."""

    def __init__(self, fault: Fault, seed: str, count: Callable[[], None], start: float, birth: float) -> None:
        """`start` is the plan's, `birth` that of whatever is struck; `count` is called for each stroke."""
        self.fault = fault
        self.count = count
        self._until = start + fault.until_s
        self._dice = Random(f"{seed}/dice") if fault.p < 1.0 else None
        self._gaps = Random(f"{seed}/gaps") if fault.every_s is not None else None
        self._seen = -math.inf
        self.begin, self._end = birth, math.inf
        if not fault.always:
            self.begin = birth + self._gap() if fault.at_s is None else start + fault.at_s
            self._end = self.begin + fault.for_s
            if self._end < birth:
                self._next()

    def in_force(self, now: float) -> bool:
        """Return whether a window is open; `begin` is when it opened."""
        while self._end <= now:
            if not self._next():
                return False
        return self.begin <= now < self._until

    def strikes(self, now: float) -> bool:
        """Return whether this message or request is struck, and count it."""
        struck = self.in_force(now) and (self._dice is None or self._dice.random() < self.fault.p)
        if struck:
            self.count()
        return struck

    def opened(self, now: float) -> bool:
        """Return whether a window is open, counting each once."""
        if not self.in_force(now):
            return False
        if self.begin > self._seen:
            self._seen = self.begin
            self.count()
        return True

    def moment(self, now: float) -> bool:
        """Return True once for each moment that has come; of several at once, True once."""
        came = False
        while self.begin <= now and self.begin < self._until:
            came = True
            if not self._next():
                break
        return came

    def _next(self) -> bool:
        """Go on to the next window or moment; False if there is none."""
        if self._gaps is None:
            self.begin = self._end = math.inf
            return False
        self.begin = self._end + self._gap()
        self._end = self.begin + self.fault.for_s
        return True

    def _gap(self) -> float:
        """Return the time between two windows; from start to start it is `every` on average."""
        assert self._gaps is not None and self.fault.every_s is not None
        return (self.fault.every_s - self.fault.for_s) * (0.5 + self._gaps.random())


class SocketFaults:
    """The fates of one socket's messages, and when it is cut or deaf."""

    def __init__(self, triggers: Iterable[Trigger], stale: Sequence[Trigger]) -> None:
        """`stale` are the windows in which no socket gets books."""
        mine = tuple(triggers)
        self._cuts = [each for each in mine if each.fault.name == "disconnect"]
        self._deaf = [each for each in mine if each.fault.name == "half_open"]
        self._holes = [each for each in mine if each.fault.name == "hole"]
        self._by_message = {
            name: [each for each in mine if each.fault.name == name]
            for name in ("drop", "delay", "duplicate", "reorder")
        }
        self._stale = stale
        self._missing = 0
        self._hole: Trigger | None = None
        self.touches_messages = bool(self._holes or self._stale or any(self._by_message.values()))

    def cut(self, now: float) -> bool:
        """Return whether the socket is closed now."""
        cut = [each for each in self._cuts if each.moment(now)]
        for each in cut:
            each.count()
        return bool(cut)

    def deaf(self, now: float) -> bool:
        """Return whether nothing passes on the socket."""
        return sum(each.opened(now) for each in self._deaf) > 0

    def fate(self, channel: str, now: float) -> Fate:
        """Return what becomes of the next message to this client; every fault has its say, whatever the others said."""
        if not self.touches_messages or not channel:
            return UNTOUCHED
        book = channel == BOOK and self._book_is_lost(now)
        struck = {
            name: [each for each in triggers if channel in each.fault.channels and each.strikes(now)]
            for name, triggers in self._by_message.items()
        }
        if not book and not any(struck.values()):
            return UNTOUCHED
        return Fate(
            lost=book or bool(struck["drop"]),
            twice=bool(struck["duplicate"]),
            swapped=bool(struck["reorder"]),
            late_s=sum(each.fault.ms for each in struck["delay"]) / 1000,
        )

    def _book_is_lost(self, now: float) -> bool:
        lost = sum(each.strikes(now) for each in self._stale) > 0
        for each in self._holes:
            if each.moment(now):
                self._missing, self._hole = each.fault.n, each
        if self._missing and self._hole is not None:
            self._missing -= 1
            self._hole.count()
            lost = True
        return lost


class FaultPlan:
    """What goes wrong at a venue, from `start` on."""

    def __init__(self, faults: Sequence[Fault] = (), seed: int = 0, start: float = 0.0) -> None:
        self.seed = seed
        self.faults = tuple(each for fault in faults for each in _spelt_out(fault, seed))
        self._start = start
        self._fired = [0] * len(self.faults)
        self._skews = self._triggers("clock_skew")
        self._stale = self._triggers("stale_book")
        self._refusals = self._triggers("refuse_ws")
        self._errors = self._triggers("http_429") + self._triggers("http_5xx")
        self._late = self._triggers("late")
        self._unanswered = self._triggers("ack_lost")
        self._places_lost = self._triggers("place_lost")
        self._cancels_lost = self._triggers("cancel_lost")

    def fired(self) -> list[tuple[str, int]]:
        """Return each fault as it is written and how often it has struck: messages, requests, sockets or windows."""
        return [(fault.text, count) for fault, count in zip(self.faults, self._fired, strict=True)]

    def socket(self, number: int, now: float) -> SocketFaults:
        """Return the faults of a socket that opens now, the `number`th; its messages know no others."""
        triggers = [each for name in BY_SOCKET for each in self._triggers(name, f"socket {number}", now)]
        return SocketFaults(triggers, self._stale)

    def skew_s(self, now: float) -> float:
        """Return how far the venue's clock is ahead."""
        return sum(each.fault.s for each in self._skews if each.opened(now))

    def refuses_socket(self, now: float) -> bool:
        """Return whether a new socket is refused."""
        return sum(each.strikes(now) for each in self._refusals) > 0

    def error(self, now: float) -> tuple[int, bool]:
        """Return the HTTP status that a request is refused with, 0 = none, and whether an action is done first."""
        struck = [each.fault for each in self._errors if each.strikes(now)]
        if not struck:
            return 0, False
        return struck[0].status or TOO_MANY, struck[0].executed

    def action(self, kind: str, now: float) -> ActionFate:
        """Return what becomes of an action of a type."""
        lost = [each for each in self._losing(kind) if each.strikes(now)]
        unanswered = [each for each in self._unanswered if each.strikes(now)]
        late = [each.fault.ms for each in self._late if each.strikes(now)]
        if not (lost or unanswered or late):
            return AS_SENT
        return ActionFate(bool(lost), bool(unanswered), sum(late) / 1000)

    def _losing(self, kind: str) -> list[Trigger]:
        if kind in PLACES:
            return self._places_lost
        return self._cancels_lost if kind in CANCELS else []

    def _triggers(self, name: str, whose: str = "all", birth: float | None = None) -> list[Trigger]:
        born = self._start if birth is None else birth
        found: list[Trigger] = []
        for place, fault in enumerate(self.faults):
            if fault.name == name:
                twin = sum(other.text == fault.text for other in self.faults[:place])
                seed = f"{self.seed}/{fault.text}/{twin}/{whose}"
                found.append(Trigger(fault, seed, partial(self._count, place), self._start, born))
        return found

    def _count(self, place: int) -> None:
        self._fired[place] += 1


def _spelt_out(fault: Fault, seed: int) -> Sequence[Fault]:
    """Return the faults that one stands for, `random` for many."""
    if fault.name != RANDOM:
        return (fault,)
    return drawn(seed if fault.seed is None else fault.seed, fault.until_s)
