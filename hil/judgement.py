"""Judgement: what must have been seen at the venue, given what troubles there were and when.

Each trouble that says within how many seconds no order is left is held to it, with the time that the others may cost:

- while guardian, network or power are gone as well, the dead man at the venue ends what is left, counted from the last
  of them; a quoter that is gone costs that only beside a guardian that is;
- errors of the venue's may cost their whole time and a tail, but not where only the dead man ends orders, who does not
  depend on them; of a venue that hangs nothing is expected before it has gone on for a while.

A press that a guardian which is well has seen for a moment forbids orders until a hand arms, power cuts or not. One
that nobody saw counts while it lasts. What was said while the disk took no write holds until the box begins anew.

Invariant: it judges from what was seen outside of the box alone, and a doubt is the box's. It must not know rigs.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from hil.rig import SUPPLY
from hil.troubles import (
    ALL,
    ARMED,
    BUTTON,
    DEAD_MAN_ALLOWED_S,
    DISK,
    ENDS,
    GUARDIAN,
    LINK,
    MACHINE,
    ONCE,
    PAUSE,
    QUOTER,
    Trouble,
)

SLACK_S: Final = 0.5
"""What this machine may dawdle."""
EDGE_S: Final = 0.3
"""Before the end of a time without orders what is seen is not counted: the answer may be of later."""
SEEN_S: Final = 1.5
"""A guardian that was well for so long while the button was pressed has latched, and the latch is on the disk."""
RECOVERY_S: Final = 5.0
"""A guardian that begins anew, or a box that boots, may take so long until it sees."""
OFF: Final = ("power", "panic")
"""While these last the box does nothing, and afterwards it begins anew."""
ALONE: Final = ("power", "panic", "cable")
"""While these last nothing ends an order but the dead man at the venue, and nothing puts him off."""
LASTING: Final = frozenset({BUTTON, LINK, MACHINE, PAUSE, SUPPLY})
"""What outlives a box that begins anew; what a process was, or a sensor said, does not."""


class Span(msgspec.Struct):
    """A trouble as it was: when it was about to begin, had begun, was about to end, and had ended."""

    trouble: str
    at: float
    begun: float
    ending: float
    ended: float


class Verdict(msgspec.Struct):
    """What became of one trouble's promise."""

    trouble: str
    exposure_s: float
    """From its beginning until the last order that it should have ended."""
    allowed_s: float
    broken: str = ""


Samples = Sequence[tuple[float, int]]


def judge(spans: Sequence[Span], samples: Samples, judged_at: float) -> list[Verdict]:
    """Return a verdict on each trouble that promises something; until `judged_at` no owner has armed."""
    judged, whole = _judged(spans)
    return [
        _once(each, whole, samples) if ALL[each.trouble].until == ONCE else _held(each, whole, samples, judged_at)
        for each in judged
    ]


def due(spans: Sequence[Span]) -> float:
    """Return the last deadline of those whose promise outlives them: before it nobody can judge; 0 if there is none."""
    judged, whole = _judged(spans)
    return max((_deadline(each, whole) for each in judged if ALL[each.trouble].until != ENDS), default=0.0)


def _judged(spans: Sequence[Span]) -> tuple[list[Span], list[Span]]:
    """Return the spans of the troubles that promise something, and all that may cost these time."""
    known = [_since_power(each, spans) for each in spans]
    # A disk that takes no write is exchanged with the box switched off.
    off = [
        Span("power", each.ending, each.ending, each.ended, each.ended)
        for each in spans
        if {DISK, MACHINE} <= ALL[each.trouble].holds
    ]
    return [each for each in known if ALL[each.trouble].zero_s is not None], known + off


def _since_power(span: Span, spans: Iterable[Span]) -> Span:
    """Return a trouble that began on a box that was off as of the moment in which that was on."""
    for other in spans:
        if other is not span and other.trouble == "power" and other.at <= span.begun <= other.ended:
            begun = min(other.ended, span.ended)
            return msgspec.structs.replace(span, begun=begun, ending=max(span.ending, begun))
    return span


def _held(span: Span, spans: Sequence[Span], samples: Samples, judged_at: float) -> Verdict:
    """Judge a trouble while which no order may be."""
    until = min(_until(span, spans, judged_at), judged_at)
    deadline = _deadline(span, spans)
    last = max((at for at, live in samples if span.begun <= at < until - EDGE_S and live), default=span.begun)
    verdict = Verdict(span.trouble, round(last - span.begun, 3), round(deadline - span.begun, 3))
    wrong = [(at, live) for at, live in samples if deadline <= at < until - EDGE_S and live]
    if wrong:
        at, live = wrong[0]
        verdict.broken = (
            f"{span.trouble} at {span.begun:.2f} s: {live} orders alive at {at:.2f} s; none allowed from "
            f"{deadline:.2f} s to {until:.2f} s"
        )
    return verdict


def _once(span: Span, spans: Sequence[Span], samples: Samples) -> Verdict:
    """Judge a trouble after which there must be a moment without an order."""
    deadline = _deadline(span, spans)
    zero = next((at for at, live in samples if at >= span.at and not live), None)
    seen = max((at for at, _ in samples), default=0.0)
    exposure = (seen if zero is None else zero) - span.begun
    verdict = Verdict(span.trouble, round(max(exposure, 0.0), 3), round(deadline - span.begun, 3))
    if seen > deadline and (zero is None or zero > deadline):
        when = "never" if zero is None else f"at {zero:.2f} s"
        verdict.broken = (
            f"{span.trouble} at {span.begun:.2f} s: first without an order {when}; allowed: until {deadline:.2f} s"
        )
    return verdict


def _deadline(span: Span, spans: Iterable[Span]) -> float:
    """Return when no order may be left any more because of a trouble, beside the others."""
    trouble = ALL[span.trouble]
    assert trouble.zero_s is not None
    deadline = span.begun + trouble.zero_s
    for other in sorted(spans, key=lambda each: each.at):
        if other is span:
            continue
        if other.at > deadline:
            break
        what = ALL[other.trouble]
        alone = span.trouble in ALONE
        if what.tail_s and (what.slows_dead_man or not alone) and other.ended + what.tail_s > span.begun:
            deadline = max(deadline, other.ended + what.tail_s)
        elif not alone and _hinders(other, trouble) and other.ended + RECOVERY_S > span.begun:
            deadline = max(deadline, max(span.begun, other.begun) + DEAD_MAN_ALLOWED_S)
    return deadline + SLACK_S


def _hinders(other: Span, trouble: Trouble) -> bool:
    """Return whether one trouble keeps another's orders from being ended in time."""
    hindering = {GUARDIAN, LINK, QUOTER} if GUARDIAN in trouble.holds else {GUARDIAN, LINK}
    return other.trouble in OFF or bool(ALL[other.trouble].holds & hindering)


def _until(span: Span, spans: Sequence[Span], judged_at: float) -> float:
    """Return until when no order may be because of a trouble."""
    trouble = ALL[span.trouble]
    until = span.ending
    if trouble.until == ARMED and _was_seen(span, spans):
        armed = (max(each.at, span.ending) for each in spans if each.trouble == "arm" and each.ending > span.ending)
        until = min(armed, default=judged_at)
    if trouble.at_most_s is not None:
        until = min(until, span.begun + trouble.at_most_s)
    if not trouble.holds & LASTING or _not_kept(span, spans):
        anew = (each.at for each in spans if each.trouble in OFF and each.at >= span.begun)
        until = min([until, *anew])
    if QUOTER in trouble.holds:  # one that does not obey a press is killed, and another one begun
        until = min([until, *(each.at for each in spans if BUTTON in ALL[each.trouble].holds and each.at > span.at)])
    return until


def _was_seen(span: Span, spans: Iterable[Span]) -> bool:
    """Return whether a guardian that was well for a moment has seen a press."""
    at = span.begun
    for other in sorted(spans, key=lambda each: each.at):
        unwell = other.trouble in OFF or GUARDIAN in ALL[other.trouble].holds
        if not unwell or other.ended + RECOVERY_S <= at:
            continue
        if other.at - at >= SEEN_S:
            break
        at = max(at, other.ended + RECOVERY_S)
    return span.ending - at >= SEEN_S


def _not_kept(span: Span, spans: Iterable[Span]) -> bool:
    """Return whether the disk took nothing while something was to be remembered."""
    return any(DISK in ALL[each.trouble].holds and each.at < span.ended and each.ended > span.at for each in spans)
