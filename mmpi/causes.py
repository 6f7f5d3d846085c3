"""Causes: everything that stops quoting, and whether it latches or pauses. docs/latch-or-pause.md is made from this.

Invariant: a latch ends only by a person's hand; a pause ends by itself, or by the person who set it.
It must not know who looks for a cause, or how.
"""

from enum import Enum
from typing import Final

import msgspec


class Kind(Enum):
    """What a cause does."""

    LATCH = "latch"
    PAUSE = "pause"


class Cause(msgspec.Struct, frozen=True):
    """One row: its name, what it does, which daemon finds it, when, and how it ends."""

    name: str
    kind: Kind
    finder: str
    when: str
    ends: str


_ARMED: Final = "a person arms"
_FROM_THERE: Final = "a person arms; it is measured from there"
_SELF: Final = "by itself when it is over, zero orders are verified and the account is reconciled"


def _latch(name: str, finder: str, when: str, ends: str = _ARMED) -> Cause:
    return Cause(name, Kind.LATCH, finder, when, ends)


def _pause(name: str, finder: str, when: str, ends: str = _SELF) -> Cause:
    return Cause(name, Kind.PAUSE, finder, when, ends)


TABLE: Final = (
    _latch("command", "guardian", "`mmpi kill`, the phone, any message `kill` on the control socket"),
    _latch("kill_button", "guardian", "the kill contact is open: pressed, its wire cut, or unplugged"),
    _latch("kill_contacts", "guardian", "the two kill contacts disagree"),
    _latch("kill_bounce", "guardian", "the kill contact cannot decide: a storm of edges"),
    _latch("pins", "guardian", "the GPIO chip or a line cannot be opened or read, so the button might not work"),
    _latch("not_armed_here", "guardian", "live, and never armed for this account and configuration"),
    _latch("booted", "guardian", "the machine was booted, and `guardian.resume_after_boot` is false"),
    _latch("session_loss", "quoter", "the session lost `risk.session_loss`", _FROM_THERE),
    _latch("daily_loss", "quoter", "the day (UTC) lost `risk.daily_loss`", _FROM_THERE),
    _latch("drawdown", "quoter", "equity fell `risk.max_drawdown` from its peak", _FROM_THERE),
    _latch("hard_inventory", "quoter", "a position reached `risk.hard_percent` of `risk.max_position`",
           "a person arms; what is held then is accepted"),
    _latch("fills_per_minute", "quoter", "more fills in a minute than `risk.max_fills_per_minute`"),
    _latch("unknown_fates", "quoter", "again and again the venue does not say what became of an order"),
    _latch("venue_refusal", "quoter", "the venue knows no such agent, or liquidated the account"),
    _pause("guardian_starting", "guardian", "a guardian starts", "zero orders are verified"),
    _pause("armed", "guardian", "a person armed", "zero orders are verified"),
    _pause("by_hand", "guardian", "`mmpi pause` at the box", "`mmpi resume` at the box; outlives a power loss"),
    _pause("by_remote", "guardian", "`pause` from afar", "`mmpi resume`, from anywhere; outlives a power loss"),
    _pause("flattened", "guardian", "`mmpi flatten` sold what was held", "`mmpi resume` at the box"),
    _pause("reload", "guardian", "`mmpi reload`: both daemons begin anew with the new configuration"),
    _pause("quoter_heartbeat", "guardian", "the quoter was silent for `guardian.heartbeat_timeout_s`"),
    _pause("quoter_died", "guardian", "the quoter's process ended"),
    _pause("venue_session", "guardian", "the guardian's own session with the venue is down for 3 s"),
    _pause("power", "guardian", "the supply says that the mains failed", "the mains were back for `power.good_s`"),
    _pause("undervoltage", "guardian", "the kernel says that the supply is too weak"),
    _pause("temperature", "guardian", "hotter than `host.max_temperature_c`"),
    _pause("throttled", "guardian", "the kernel says that the processor is slowed down"),
    _pause("memory", "guardian", "less memory available than `host.min_memory_mb`"),
    _pause("disk", "guardian", "less disk free than `host.min_disk_mb`"),
    _pause("cpu", "guardian", "busier than `host.max_cpu_percent` over a minute"),
    _pause("hardware_watchdog", "guardian", "kernel or systemd do not say `watchdog.hardware_s`"),
    _pause("setup", "guardian", "the set-up folder on the card holds something that is wrong",
           "a later set-up finds everything right"),
    _pause("clock", "quoter", "the clock is not trusted: no synchronisation, or far from the venue's time"),
    _pause("stale_feed", "quoter", "no market data for `risk.stale_after_s` (that instrument alone)"),
    _pause("journal", "quoter", "the journal in memory cannot be written, or the disk takes no ledger for 20 s"),
    _pause("network", "quoter", "the quoter's session with the venue is down"),
)  # fmt: skip
"""Telemetry's death is no cause: it neither latches nor pauses."""

CAUSES: Final = {cause.name: cause for cause in TABLE}
HELD: Final = ("by_hand", "by_remote", "flattened")
"""Pauses that a person set, and that only a person ends."""

NO_SELLING: Final = ("guardian_starting", "quoter_heartbeat", "quoter_died", "venue_session", "reload")
"""Pauses in which not even what is held is sold: nobody could do it, or stop it. A hot box may still be made flat."""


def latches(name: str) -> bool:
    """Return True if this cause latches; a name that is not in the table does, as it is nobody's."""
    return name not in CAUSES or CAUSES[name].kind is Kind.LATCH


def row_of(reason: str) -> str:
    """Return the cause that a reason such as "drawdown: ..." names by its first word; "command" for free text."""
    word = reason.replace(":", " ").split(" ", 1)[0]
    if word == "venue":
        # What the quoter says of a venue that refuses it.
        return "venue_refusal"
    return word if word in CAUSES else "command"


def markdown() -> str:
    """Return the table as docs/latch-or-pause.md shows it."""
    rows = [f"| `{each.name}` | {each.kind.value} | {each.finder} | {each.when} | {each.ends} |" for each in TABLE]
    return "\n".join(["| cause | does | found by | when | ends |", "|---|---|---|---|---|", *rows]) + "\n"
