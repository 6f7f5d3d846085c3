"""Judge: what one seed of the fault campaign has shown, from three sources that know nothing of each other.

The practice server's own record, the quoter's journal, and what the quoter said at its end. Each rule is a function
from the evidence to sentences about what broke it; none = it held.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import msgspec
from fault_journal import MAX_TOLD, Course, Story

from mmpi.actions import AmendOrder, NewOrder
from mmpi.events import DeadManReport, Disconnected, ExecReport, Halted, Reconciled
from mmpi.instrument import BUY, Nanos

STOP_S = 5.0
"""A quoter's own limit for its stop."""
STOP_SLACK_S = 0.7
"""And what this machine's load may add to it: its processes share two cores with those of three other boxes."""
LEFT_S = 10.0
"""Whatever a quoter leaves is ended within this: the dead-man switch is set 8 s ahead."""
PER_SLOT = 2
"""An order that is leaving and its successor."""
LONGEST_WAIT_S = 45.0
"""A quoter under gentle faults that may not place for longer has not come back by itself."""
FEWEST_ORDERS = 20
"""A quoter that placed fewer has shown nothing."""
CONFIRM = "the venue did not confirm within 4.5 s that no order of ours is live; we know of "


class Live(msgspec.Struct, frozen=True):
    """One order at the server."""

    cloid: str
    coin: str
    side: str
    px: str
    sz: str


class Look(msgspec.Struct, frozen=True):
    """The server's live orders, asked for at `sent` and known at `seen` (wall clock, Nanos)."""

    sent: Nanos
    seen: Nanos
    orders: tuple[Live, ...]


class Fill(msgspec.Struct, frozen=True):
    """One fill of the server's record."""

    tid: int
    cloid: str | None
    coin: str
    side: str
    px: str
    sz: str
    fee: str
    time: int

    @property
    def signed(self) -> Decimal:
        """Return the size, below zero if it was sold."""
        return Decimal(self.sz) if self.side == "B" else -Decimal(self.sz)


class Placed(msgspec.Struct, frozen=True):
    """One accepted order of the server's record; `time` is the venue's, in milliseconds."""

    cloid: str | None
    coin: str
    time: int


class Evidence(msgspec.Struct):
    """Everything that one seed left behind. Times are Nanos of the wall clock, durations seconds."""

    story: Story
    course: Course
    placed: list[Placed]
    fills: list[Fill]
    looks: list[Look]
    venue_positions: dict[str, str]
    """By the server's clearinghouseState."""
    state_positions: dict[str, str]
    """By the server's own books."""
    summary: dict[str, Any]
    exit_code: int
    stop_s: float
    """From SIGTERM to the exit."""
    stopped: Nanos
    """When the quoter was seen to have exited."""
    said: str
    calm_s: float
    """For how long there had been no faults when the quoter was asked to stop; 0 = they went on."""
    levels: dict[str, int]
    """Of each ladder, a side."""
    most_side: float
    """The configured max_position."""
    skew_ms: float = 0.0
    """How far the server's clock may have been put wrong."""
    zero_verified: bool = True
    """The guardian verified at the end that nothing of ours is live."""
    checks: list[str] = []
    """What `mmpi journal verify` and `mmpi replay --verify` complained about."""
    faults: dict[str, int] = {}
    """How often each kind of fault struck."""


class Verdict(msgspec.Struct):
    """What the judge found: every broken rule, and what is worth knowing of the seed."""

    reasons: list[str]
    notes: list[str]
    counts: dict[str, int]
    gaps: dict[str, float]


def judge(evidence: Evidence) -> Verdict:
    """Return the verdict on a seed."""
    return Verdict(
        reasons=[sentence for rule in RULES for sentence in _some(rule(evidence))],
        notes=_notes(evidence),
        counts=_counts(evidence),
        gaps=_gaps(evidence),
    )


def _notes(e: Evidence) -> list[str]:
    """Return what is no failure but must not go unsaid: fills that a quoter which was cut off cannot have heard of."""
    unheard = [f"{fill.tid} ({fill.coin} {fill.signed})" for fill in _unheard(e)]
    return [f"not accounted, after the last word from the venue: fills {', '.join(unheard)}"] if unheard else []


def _some(sentences: Sequence[str]) -> list[str]:
    """Return the first sentences, and how many more there are."""
    more = len(sentences) - MAX_TOLD
    return [*sentences[:MAX_TOLD], *([f"and {more} more of this kind"] if more > 0 else [])]


# The stop -----------------------------------------------------------------------------------------------------------


def exit_is_right(e: Evidence) -> list[str]:
    """0, or where faults went on 4 with the sentence about what is left; within 5 s either way."""
    found = []
    if e.stop_s > STOP_S + STOP_SLACK_S:
        found.append(f"exit: {e.stop_s:.2f} s after SIGTERM; allowed: {STOP_S:g} s (and {STOP_SLACK_S:g} s of load)")
    if e.exit_code not in (0, 4):
        found.append(f"exit: code {e.exit_code}; allowed: 0, or 4 with what is left: {e.said[-500:]!r}")
    elif e.exit_code == 4 and CONFIRM not in e.said:
        found.append(f"exit: code 4 without what is left: {e.said[-500:]!r}")
    elif e.exit_code == 4 and e.calm_s:
        found.append(f"exit: code 4 though nothing had gone wrong for {e.calm_s:g} s: {e.said[-500:]!r}")
    return found


def nothing_is_left(e: Evidence) -> list[str]:
    """After exit 0 nothing is ever seen live; after exit 4 only what it named, and that is ended in time."""
    after = [look for look in e.looks if look.sent >= e.stopped]
    if not after:
        return ["left: nobody looked at the server after the exit"]
    seen = {order.cloid: look.sent for look in after for order in look.orders}
    if e.exit_code == 0:
        return [f"left: {name} was live {(at - e.stopped) / 1e9:.2f} s after exit 0" for name, at in seen.items()]
    listed, more = named(e.said)
    strange = [name for name in seen if name not in listed]
    found = [f"left: {name} was live after the exit, which did not name it" for name in strange[more:]]
    late = {name: at for name, at in seen.items() if at - e.stopped > LEFT_S * 1e9}
    found += [f"left: {name} was live {(at - e.stopped) / 1e9:.1f} s after exit" for name, at in late.items()]
    if after[-1].orders:
        found.append(f"left: {len(after[-1].orders)} orders at the last look")
    return found


def guardian_verified(e: Evidence) -> list[str]:
    """The guardian saw the quoter go, and verified that nothing is left."""
    return [] if e.zero_verified else ["guardian: it did not verify zero after the quoter's end"]


# Position and fills -------------------------------------------------------------------------------------------------


def positions_agree(e: Evidence) -> list[str]:
    """The quoter's position is the venue's, but for fills that no one can have told it before it was cut off."""
    missing: defaultdict[str, Decimal] = defaultdict(Decimal)
    for fill in _unheard(e):
        missing[fill.coin] += fill.signed
    found = []
    ours = {name: Decimal(each["position"]) for name, each in e.summary["instruments"].items()}
    for name in sorted({*ours, *e.venue_positions, *e.state_positions}):
        own, venue = ours.get(name, Decimal(0)) + missing[name], Decimal(e.venue_positions.get(name, "0"))
        if own != venue:
            beside = f", {missing[name]} of it unheard" if missing[name] else ""
            found.append(f"position: {name} {own}{beside}; the venue says {venue}")
        if venue != Decimal(e.state_positions.get(name, "0")):
            found.append(f"position: the venue itself says {venue} and {e.state_positions.get(name, '0')} of {name}")
    return found


def fills_are_booked_once(e: Evidence) -> list[str]:
    """Every fill of the server is one TRADE of the journal, with the same numbers; there is no other TRADE."""
    found = [f"fill: {tid} was told to the engine more than once" for tid in e.story.retold]
    twice = [tid for tid, count in Counter(fill.tid for fill in e.fills).items() if count > 1]
    found += [f"fill: the server itself has {tid} twice" for tid in twice]
    unheard = {fill.tid for fill in _unheard(e)}
    for fill in e.fills:
        trade = e.story.trades.get(str(fill.tid))
        if trade is None and fill.tid not in unheard:
            found.append(f"fill: never booked: {fill}")
        elif trade is not None and (wrong := _differs(e, fill, trade)):
            found.append(f"fill: {fill.tid}: {wrong}")
    known = {str(fill.tid) for fill in e.fills}
    found += [f"fill: invented: {trade}" for tid, trade in e.story.trades.items() if tid not in known]
    return found


def _differs(e: Evidence, fill: Fill, trade: ExecReport) -> str:
    """Return in what a TRADE is not the server's fill, "" = it is."""
    grid = e.story.instruments[trade.instrument]
    ours = (
        trade.instrument,
        trade.cl_ord_id,
        "B" if trade.side == BUY else "A",
        Decimal(grid.price_text(trade.price)),
        Decimal(grid.size_text(trade.size)),
        Decimal(trade.fee).scaleb(-12),
    )
    theirs = (fill.coin, fill.cloid, fill.side, Decimal(fill.px), Decimal(fill.sz), Decimal(fill.fee))
    return "" if ours == theirs else f"booked {ours}, the server has {theirs}"


def _unheard(e: Evidence) -> list[Fill]:
    """Return the fills, without a TRADE, that happened when a quoter which could not end cleanly heard nothing more.

    A second before the market was last heard is still allowed: what is under way then arrives no more.
    """
    if e.exit_code == 0:
        return []
    since_ms = e.story.heard / 1e6 - 1000.0 - e.skew_ms
    return [fill for fill in e.fills if str(fill.tid) not in e.story.trades and fill.time >= since_ms]


def money_agrees(e: Evidence) -> list[str]:
    """The P&L identity held after each event, its parts add up, and the fees are those of the server's fills."""
    found, pnl = [], {name: Decimal(text) for name, text in e.summary["pnl"].items()}
    if e.summary["invariant_violations"]:
        found.append(f"money: the P&L identity did not hold {e.summary['invariant_violations']} times")
    if pnl["total"] != pnl["spread"] + pnl["inventory"] + pnl["funding"] - pnl["fees"]:
        found.append(f"money: the parts do not add up: {e.summary['pnl']}")
    booked = {fill.tid: Decimal(fill.fee) for fill in e.fills if str(fill.tid) in e.story.trades}
    fees = sum(booked.values(), Decimal(0))
    if pnl["fees"] != fees:
        found.append(f"money: fees {pnl['fees']}; the server took {fees} for the fills that were booked")
    return found


# Orders -------------------------------------------------------------------------------------------------------------


def ids_are_single(e: Evidence) -> list[str]:
    """No ClOrdId is sent twice or accepted twice."""
    found = [f"id: {name} was sent twice" for name in e.story.again]
    taken = Counter(each.cloid for each in e.placed)
    return found + [f"id: {name} was accepted {count} times" for name, count in taken.items() if count > 1]


def journal_came_first(e: Evidence) -> list[str]:
    """Every order at the server is in the journal, with a time before the server's (I2)."""
    found = []
    for each in e.placed:
        sent = e.story.placed.get(each.cloid or "")
        if sent is None:
            found.append(f"journal: it does not know {each}")
        # The server cuts its time to whole milliseconds.
        elif sent / 1e6 > each.time + 1 + e.skew_ms:
            found.append(f"journal: {each} was accepted {sent / 1e6 - each.time:.0f} ms before it was written down")
    return found


def nothing_was_forbidden(e: Evidence) -> list[str]:
    """Nothing was placed while disconnected, unreconciled, halted, stopping, or before the dead-man switch was set."""
    return [f"forbidden: {each}" for each in e.story.forbidden]


def nothing_was_forgotten(e: Evidence) -> list[str]:
    """I4: whatever is live at the server the engine takes for live, at that moment."""
    found: dict[str, str] = {}
    for look in e.looks:
        if look.seen > e.story.end:
            continue
        for order in look.orders:
            known, level = e.course.at(order.cloid, look.sent)
            if known and level is None:
                found.setdefault(order.cloid, f"forgotten: {order} was live at {look.sent}, when it had ended for us")
            elif not known and not e.course.at(order.cloid, look.seen)[0]:
                found.setdefault(order.cloid, f"forgotten: {order} was live at {look.seen}, before we had sent it")
    return list(found.values())


def slots_are_single(e: Evidence) -> list[str]:
    """No order is put into a slot beside more than the one it follows; nor does the server ever have more there."""
    crowds = e.course.crowds.items()
    found = {name: f"slot: {name} was the {count}th in its slot" for name, count in crowds if count > PER_SLOT}
    for look in e.looks:
        sides = Counter((order.coin, order.side) for order in look.orders)
        for (coin, side), count in sides.items():
            if count > PER_SLOT * e.levels[coin]:
                found.setdefault(f"{coin} {side}", f"slot: {count} orders at {coin} {side} at {look.sent}")
        slots = Counter((order.coin, order.side, e.course.placed_at(order.cloid)) for order in look.orders)
        for (coin, side, level), count in slots.items():
            if level is not None and level >= 0 and count > PER_SLOT:
                where = f"{coin} {side} level {level}"
                found.setdefault(where, f"slot: {count} orders at {where} at {look.sent}")
    return list(found.values())


def sides_are_within_limits(e: Evidence) -> list[str]:
    """What is open on one side of one instrument is never worth more than max_position (and one percent of drift)."""
    found: dict[str, str] = {}
    for look in e.looks:
        worth: defaultdict[str, float] = defaultdict(float)
        for order in look.orders:
            worth[f"{order.coin} {order.side}"] += float(order.px) * float(order.sz)
        for side, value in worth.items():
            if value > e.most_side * 1.01:
                found.setdefault(side, f"limit: orders worth {value:.2f} at {side}; allowed: {e.most_side:g}")
    return list(found.values())


# The rest -----------------------------------------------------------------------------------------------------------


def nothing_is_odd(e: Evidence) -> list[str]:
    """The quoter itself counted nothing that cannot be: illegal reports, overfills, strange fills, drifts."""
    odd = [f"odd: {name}: {count}" for name, count in e.summary["anomalies"].items() if count]
    if e.summary["fills"] != len(e.story.trades):
        odd.append(f"odd: {e.summary['fills']} fills in the summary, {len(e.story.trades)} in the journal")
    return odd


def journal_replays(e: Evidence) -> list[str]:
    """The journal is whole, and the engine acts the same when it reads it."""
    return [f"replay: {each}" for each in e.checks]


def it_worked(e: Evidence) -> list[str]:
    """There were faults, orders all the same, and no wait without end: otherwise the seed has shown nothing."""
    found = []
    if len(e.placed) < FEWEST_ORDERS:
        found.append(f"idle: {len(e.placed)} orders; it shows nothing with fewer than {FEWEST_ORDERS}")
    if not sum(e.faults.values()):
        found.append("idle: not one fault struck")
    if e.story.waited_ms > LONGEST_WAIT_S * 1000:
        found.append(f"idle: nothing might be placed for {e.story.waited_ms / 1000:.1f} s; at most {LONGEST_WAIT_S:g}")
    return found


RULES: tuple[Callable[[Evidence], list[str]], ...] = (
    exit_is_right, nothing_is_left, guardian_verified, positions_agree, fills_are_booked_once, money_agrees,
    ids_are_single, journal_came_first, nothing_was_forbidden, nothing_was_forgotten, slots_are_single,
    sides_are_within_limits, nothing_is_odd, journal_replays, it_worked,
)  # fmt: skip


def _counts(e: Evidence) -> dict[str, int]:
    told = e.story.counts
    return {
        "placed": len(e.placed),
        "sent": told[NewOrder.__name__],
        "amends": told[AmendOrder.__name__],
        "fills": len(e.fills),
        "disconnects": told[Disconnected.__name__],
        "reconciled": told[Reconciled.__name__],
        "halts": told[Halted.__name__],
        "dead_man_reports": told[DeadManReport.__name__],
        "unknown_fates": e.story.lost,
        "faults": sum(e.faults.values()),
        "looks": len(e.looks),
        "exit_code": e.exit_code,
        "live_at_exit": next((len(look.orders) for look in e.looks if look.sent >= e.stopped), 0),
        "unheard_fills": len(_unheard(e)),
        "most_in_a_slot": max(e.course.crowds.values(), default=0),
    }


def _gaps(e: Evidence) -> dict[str, float]:
    looks, empty, longest = e.looks, 0, 0.0
    for look in looks:
        empty = 0 if look.orders or look.sent > e.story.end else empty or look.sent
        longest = max(longest, (look.sent - empty) / 1e9 if empty else 0.0)
    blind = max((b.sent - a.seen for a, b in zip(looks, looks[1:], strict=False)), default=0)
    running = [look for look in looks if look.sent <= e.story.end]
    seconds = max((e.story.end - e.story.begin) / 1e9, 1e-9)
    gone = [look.sent for look in looks if look.sent >= e.stopped and look.orders]
    return {
        "stop_s": round(e.stop_s, 3),
        "left_s": round((max(gone) - e.stopped) / 1e9, 3) if gone else 0.0,
        "forbidden_s": round(e.story.waited_ms / 1000, 3),
        "without_orders_s": round(longest, 3),
        "doubt_s": round(e.course.doubt_ms / 1000, 3),
        "allowed_percent": round(100 * e.story.allowed_ms / 1000 / seconds, 1),
        "quoted_percent": round(100 * sum(bool(look.orders) for look in running) / max(len(running), 1), 1),
        "blind_ms": round(blind / 1e6, 1),
    }


def named(said: str) -> tuple[list[str], int]:
    """Return the ids that a quoter named as perhaps still live when it ended, and how many more it only counted."""
    sentence = said.partition(CONFIRM)[2]
    more = re.search(r"; and (\d+) more", sentence)
    return re.findall(r"\((0x[0-9a-f]+), [a-z_]+\)", sentence), int(more[1]) if more else 0
