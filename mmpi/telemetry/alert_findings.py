"""Alert findings: how each thing that the owner is told of is seen in a snapshot (the table is in alert_rules.py).

Invariant: these are pure functions; what a snapshot does not know is no finding, and so begins and ends nothing.
It must not know what was found before, who is told, or how.
"""

from collections.abc import Callable
from math import inf
from typing import Any, Final, TypeAlias

import msgspec

from mmpi.channels import AlertSettings
from mmpi.device.host_health import COOLER_C, EASIER
from mmpi.status import Summary
from mmpi.telemetry.snapshot import Snapshot

OLD_S: Final = 2.0
"""A quoter's words that are older say nothing about now; the lamps have the same limit."""
CLOSER: Final = 0.9
"""A position's alert is over below this part of its threshold."""
CALMER: Final = 0.8
"""And that of a latency, or of adverse selection, below this part."""
FORGOTTEN_S: Final = 600.0
"""Without a fill for so long there is nothing that adverse selection could be measured by (mmpi.telemetry.fills)."""
START_S: Final = 60.0
"""A quoter that never beat may still be starting, on the slowest Pi for half of this."""
UNSURE_S: Final = 10.0
"""A guardian begins anew in less; until then nobody knows whether a quoter that ended was meant to."""
TRUSTING: Final = ("quoting", "connecting", "reconciling", "journal", "dead-man switch")
"""States that a quoter tells only if it trusts the clock: Standing.why has the gravest first."""


class Finding(msgspec.Struct, frozen=True):
    """What is seen now of one instrument, or of the box ("").

    While its alert is not active only `so` counts, while it is only `over`; where neither is true, it stays as it is.
    """

    so: bool
    over: bool
    text: str
    """How things stand now, so or not."""
    value: float | None = None
    """The figure that was looked at, in the unit of its setting."""
    instrument: str = ""
    wait_s: float | None = None
    """How long it must be so, if not as long as the rule says."""


Find: TypeAlias = Callable[[Snapshot, AlertSettings], list[Finding]]


def fresh(snapshot: Snapshot) -> Summary | None:
    """Return what the quoter says of itself, None if that is not of now."""
    quoter = snapshot.quoter
    is_old = not quoter.alive or quoter.age_s is None or quoter.age_s > OLD_S
    return None if is_old else quoter.summary


# What the quoter says ---------------------------------------------------------------------------------------------


def position(snapshot: Snapshot, settings: AlertSettings) -> list[Finding]:
    """Return each instrument's position against its limit."""
    summary = fresh(snapshot)
    found = []
    for name in summary.instruments if summary is not None else ():
        if (exposure := snapshot.exposures.get(name)) is not None:
            percent, most = exposure.share * 100, settings.position_percent
            text = f"{name}: the position is at {percent:.0f} % of its limit (told from {most:g} %)"
            found.append(Finding(percent >= most, percent < most * CLOSER, text, percent, name))
    return found


def adverse_selection(snapshot: Snapshot, settings: AlertSettings) -> list[Finding]:
    """Return what the price does after our fills."""
    if fresh(snapshot) is None:
        return []
    bps, most = snapshot.adverse_bps, settings.adverse_bps
    if bps is not None:
        text = f"the price went {bps:.1f} bps against our fills within 5 s, on average (told from {most:g})"
        return [Finding(bps >= most, bps < most * CALMER, text, bps)]
    since = snapshot.uptime_s if snapshot.last_fill_s is None else min(snapshot.last_fill_s, snapshot.uptime_s)
    # A telemetry that has just begun does not know; one that saw no fill for so long does.
    return [Finding(False, True, "no fills for ten minutes")] if since >= FORGOTTEN_S else []


def no_fills(snapshot: Snapshot, settings: AlertSettings) -> list[Finding]:
    """Return whether it quotes in vain: for so long, and since the last fill."""
    summary, last_s = fresh(snapshot), snapshot.last_fill_s
    if summary is None:
        return []
    markets = summary.instruments.values()
    if summary.state != "quoting" or all(each.reason for each in markets):
        return [Finding(False, True, "it does not quote now", last_s)]
    if any(float(each.position) for each in markets):
        return [Finding(False, True, "there is a position", last_s)]
    if last_s is None or last_s >= settings.no_fills_s:
        return [Finding(True, False, f"it quotes without a fill for {settings.no_fills_s:g} s or more", last_s)]
    return [Finding(True, True, f"the last fill is {last_s:.0f} s old", last_s, wait_s=inf)]


def latency(snapshot: Snapshot, settings: AlertSettings) -> list[Finding]:
    """Return how long orders take."""
    summary = fresh(snapshot)
    if summary is None or not summary.tick_to_order_us.n:
        return []
    ms, most = summary.tick_to_order_us.p99 / 1000, settings.latency_p99_ms
    text = f"from market data to orders it takes {ms:.1f} ms, 99 of 100 (told from {most:g})"
    return [Finding(ms >= most, ms < most * CALMER, text, ms)]


def feed(snapshot: Snapshot, settings: AlertSettings) -> list[Finding]:
    """Return how old market data is; without a connection that of the box, from which all the rest follows."""
    summary, guardian, most = fresh(snapshot), _guardian(snapshot), settings.feed_age_s
    lost = "the quoter has no connection to the venue" if summary is not None and summary.state == "connecting" else ""
    if "venue_session" in _causes(guardian):
        lost = "the guardian has no session with the venue"
    if lost:
        return [Finding(True, False, lost)]
    if summary is None:
        return []
    found = []
    for name, each in summary.instruments.items():
        if each.feed_age_ms is not None:
            age = each.feed_age_ms / 1000
            text = f"{name}: the last market data is {age:.0f} s old (told from {most:g} s)"
            found.append(Finding(age >= most, age < most, text, age, name))
        elif each.reason in ("no_price", "stale_data"):
            found.append(Finding(True, False, f"{name}: there was no market data yet", instrument=name, wait_s=most))
    # A quoter that is paused does not say whether it is connected, but its data do.
    heard = bool(guardian) and any(each.over for each in found)
    return [Finding(False, heard, "the venue is connected"), *found]


def dead_man(snapshot: Snapshot, _: AlertSettings) -> list[Finding]:
    """Return what the venue says to the dead-man switch."""
    summary = fresh(snapshot)
    if summary is None:
        return []
    refused = summary.deadman.startswith("REFUSED")
    # UNARMED comes between a refusal and the next: it says nothing of what the venue would answer.
    over = summary.deadman in ("ARMED", "UNSUPPORTED")
    return [Finding(refused, over, f"the venue's dead-man switch: {summary.deadman}")]


def clock(snapshot: Snapshot, _: AlertSettings) -> list[Finding]:
    """Return whether the quoter trusts the clock."""
    summary = fresh(snapshot)
    if summary is None:
        return []
    if summary.state == "clock":
        return [Finding(True, False, summary.reason)]
    return [Finding(False, True, "the clock is trusted")] if summary.state in TRUSTING else []


def invariants(snapshot: Snapshot, _: AlertSettings) -> list[Finding]:
    """Return how often a sum was wrong."""
    summary = fresh(snapshot)
    if summary is None:
        return []
    count = summary.invariant_violations
    return [Finding(count > 0, count == 0, f"{count} violations of invariants: the books do not add up", float(count))]


def journal(snapshot: Snapshot, _: AlertSettings) -> list[Finding]:
    """Return whether the journal can be kept."""
    summary = fresh(snapshot)
    if summary is None or summary.storage is None:
        return []
    fault = summary.storage.fault
    return [Finding(bool(fault), not fault, f"the journal cannot be kept: {fault}" if fault else "the journal is kept")]


# Who is alive -----------------------------------------------------------------------------------------------------


def quoter_silent(snapshot: Snapshot, settings: AlertSettings) -> list[Finding]:
    """Return whether the quoter lives.

    That it hangs is always told. That it ended is told unless it is latched: `mmpi run` by hand ends then, as it must.
    """
    quoter, guardian, most = snapshot.quoter, _guardian(snapshot), settings.quoter_silent_s
    if not quoter.alive and guardian.get("latch") == "latched":
        return []
    wait_s = 0.0 if quoter.alive or guardian else UNSURE_S
    age = quoter.age_s
    if age is None:
        text = "the quoter starts, and gives no sign of life" if quoter.alive else "no quoter runs"
        return [Finding(True, False, text, None, "", START_S)]
    what = "hangs" if quoter.alive else "is not running"
    if age >= most:
        return [Finding(True, False, f"the quoter {what}: no sign of life for {age:.0f} s", age, "", wait_s)]
    return [Finding(False, quoter.alive, "the quoter gives signs of life" if quoter.alive else f"it {what}", age)]


def guardian_silent(snapshot: Snapshot, _: AlertSettings) -> list[Finding]:
    """Return whether the guardian answers."""
    if snapshot.guardian is None:
        return [Finding(True, False, "the guardian does not answer: the button may not work; look at the box")]
    return [Finding(False, True, "the guardian answers")]


# What the guardian says -------------------------------------------------------------------------------------------


def kill(snapshot: Snapshot, _: AlertSettings) -> list[Finding]:
    """Return the latch."""
    guardian = _guardian(snapshot)
    if guardian.get("latch") not in ("latched", "armed"):
        return []
    if guardian["latch"] == "armed":
        return [Finding(False, True, "armed again")]
    why = guardian.get("cause") if guardian.get("state") == "reduce" else guardian.get("reason")
    return [Finding(True, False, f"stopped and latched: {why or 'no reason given'}; a person must arm")]


def paused(snapshot: Snapshot, _: AlertSettings) -> list[Finding]:
    """Return whether it quotes, as far as it may."""
    guardian, summary = _guardian(snapshot), fresh(snapshot)
    if guardian.get("latch") == "latched":
        return [Finding(False, True, "latched instead")]
    if guardian.get("state") == "paused":
        details = _part(guardian, "details")
        told = [f"{each} ({details[each]})" if details.get(each) else each for each in _causes(guardian)]
        return [Finding(True, False, f"paused: {', '.join(told) or guardian.get('reason')}")]
    if guardian.get("state") != "run" or summary is None:
        return []
    if summary.state == "quoting":
        return [Finding(False, True, "it quotes")]
    return [Finding(True, False, f"it does not quote: {summary.reason or summary.state}")]


def setup(snapshot: Snapshot, _: AlertSettings) -> list[Finding]:
    """Return what the set-up folder holds."""
    guardian = _guardian(snapshot)
    if not guardian:
        return []
    if "setup" not in _causes(guardian):
        return [Finding(False, True, "the set-up folder is right")]
    return [Finding(True, False, f"the set-up folder on the card: {_part(guardian, 'details').get('setup', '')}")]


def boot(snapshot: Snapshot, _: AlertSettings) -> list[Finding]:
    """Return whether this boot is healthy."""
    boot = _part(_guardian(snapshot), "boot")
    if not isinstance(boot.get("healthy"), bool):
        return []
    healthy = bool(boot["healthy"])
    text = "this boot is healthy" if healthy else f"this boot, or the update before it, failed: {boot.get('why', '')}"
    return [Finding(not healthy, healthy, text)]


def temperature(snapshot: Snapshot, settings: AlertSettings) -> list[Finding]:
    """Return the processor's temperature."""
    value, most = _figure(snapshot, "temperature_c"), settings.temperature_c
    if value is None:
        return []
    text = f"the processor has {value:.0f} degrees Celsius (told from {most:g})"
    return [Finding(value >= most, value <= most - COOLER_C, text, value)]


def disk(snapshot: Snapshot, settings: AlertSettings) -> list[Finding]:
    """Return the space on the disk."""
    return _scarce(_figure(snapshot, "disk_free_mb"), settings.disk_mb, "MB are free on the disk")


def memory(snapshot: Snapshot, settings: AlertSettings) -> list[Finding]:
    """Return the memory that is left."""
    return _scarce(_figure(snapshot, "memory_mb"), settings.memory_mb, "MB of memory are available")


def _scarce(value: float | None, least: float, words: str) -> list[Finding]:
    if value is None:
        return []
    return [Finding(value < least, value >= least * EASIER, f"{value:.0f} {words} (told below {least:g})", value)]


def weak(figure: str, bad: str, well: str) -> Find:
    """Return a look at what the kernel says yes or no to; the guardian's cause of that name lasts longer."""

    def find(snapshot: Snapshot, _: AlertSettings) -> list[Finding]:
        guardian = _guardian(snapshot)
        value = _part(_part(guardian, "box"), "host").get(figure)
        so = value is True or figure in _causes(guardian)
        return [Finding(so, not so, bad if so else well)] if so or value is False else []

    return find


def _guardian(snapshot: Snapshot) -> dict[str, Any]:
    """Return the guardian's answer, empty if it is silent."""
    return snapshot.guardian.status if snapshot.guardian is not None else {}


def _part(status: dict[str, Any], name: str) -> dict[str, Any]:
    part = status.get(name)
    return part if isinstance(part, dict) else {}


def _causes(guardian: dict[str, Any]) -> list[str]:
    return [str(each) for each in guardian.get("causes") or ()]


def _figure(snapshot: Snapshot, name: str) -> float | None:
    """Return a figure of the machine, None if it is not known: there a word stands in its place."""
    value = _part(_part(_guardian(snapshot), "box"), "host").get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
