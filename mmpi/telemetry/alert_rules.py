"""Alert rules: what the owner is told of, how grave it is, and what to do. docs/alerts.md is made from this.

Invariant: a rule says how it ends as it says how it begins; every threshold of it is a setting, or told in the table.
It must not know how anything is seen (alert_findings.py), or who is told.
"""

from typing import Final, Literal, TypeAlias

import msgspec

from mmpi.channels import AlertSettings
from mmpi.telemetry import alert_findings as findings
from mmpi.telemetry.alert_findings import UNSURE_S, Find

Severity: TypeAlias = Literal["warning", "critical"]

CLOCK_S: Final = 30.0
"""A box that was booted has the right time by then, if it gets it at all."""


class Rule(msgspec.Struct, frozen=True):
    """One row: when its alert begins and ends, and what the owner does then."""

    name: str
    severity: Severity
    find: Find
    when: str
    over: str
    todo: str
    setting: str = ""
    """The key of [alerts] whose 0 switches it off; "" = it is always on."""
    wait: str | float = 0.0
    """How long it must be so without a break: seconds, or the key of [alerts] that says it."""
    rest_s: float = 0.0
    """How long it must be over without a break."""

    def is_on(self, settings: AlertSettings) -> bool:
        """Return whether the owner wants it."""
        return not self.setting or getattr(settings, self.setting) > 0

    def wait_s(self, settings: AlertSettings) -> float:
        """Return how long it must be so."""
        return float(getattr(settings, self.wait)) if isinstance(self.wait, str) else self.wait


TABLE: Final = (
    Rule("kill", "critical", findings.kill,
         "the box is latched: a button, a limit or a command stopped it", "a person armed it",
         "Find out why: `mmpi status` names the reason. Look at the venue, then arm at the box."),
    Rule("guardian_silent", "critical", findings.guardian_silent,
         "the guardian does not answer; the quoter then stops by itself", "it answers",
         "Look at the lamps, and at the venue: cancel there what is left. `systemctl status mmpi-guardian`, or switch "
         "the box off and on.", wait=UNSURE_S),
    Rule("quoter_silent", "critical", findings.quoter_silent,
         "the quoter hangs for `quoter_silent_s`, or is gone for so long while it should run; the guardian has then "
         "cancelled its orders", "it gives signs of life",
         "It is begun anew by itself. If this comes again: `journalctl -u mmpi-quoter`, and `mmpi journal bundle`.",
         "quoter_silent_s", rest_s=10.0),
    Rule("invariant_violated", "critical", findings.invariants,
         "a sum that must be right to the last digit is not", "a new run of the quoter has none",
         "Press the button: it is an error of the program. Compare positions with the venue's, and keep the journal: "
         "`mmpi journal bundle`."),
    Rule("journal_fault", "critical", findings.journal,
         "the journal cannot be kept, so nothing is quoted", "it can",
         "The card is full or worn out: `mmpi journal stats`; free some space, or take a new card.", rest_s=10.0),
    Rule("position", "warning", findings.position,
         "a position is at `position_percent` of `risk.max_position` or more", "it is below 90 % of that",
         "Near the limit only one side is quoted, which is as it should be. If you do not like it: pause, then `mmpi "
         "flatten`.", "position_percent", "position_for_s"),
    Rule("adverse_selection", "warning", findings.adverse_selection,
         "within 5 s after our fills the price goes `adverse_bps` or more against us, on average of ten minutes",
         "it is below 80 % of that, or there was no fill for ten minutes",
         "Somebody knows more than we do: pause, or quote wider.", "adverse_bps", "adverse_for_s"),
    Rule("no_fills", "warning", findings.no_fills,
         "it quotes, holds no position, and has no fill", "there is a fill or a position, or it does not quote",
         "The spread may be too wide for this market (docs/quoters.md).", "no_fills_s", "no_fills_s", rest_s=60.0),
    Rule("latency", "warning", findings.latency,
         "of 100 orders the slowest one leaves `latency_p99_ms` or more after the market data that led to it",
         "it is below 80 % of that", "Does something else run on the box? Is it hot, or throttled?",
         "latency_p99_ms", "latency_for_s"),
    Rule("feed_down", "warning", findings.feed,
         "a market's last data is `feed_age_s` old, or there is no connection to the venue",
         "it is younger, and the venue is connected", "Is the network there? Does the venue say that it is down?",
         "feed_age_s", "feed_for_s", rest_s=10.0),
    Rule("deadman_refused", "warning", findings.dead_man,
         "the venue refuses the dead-man switch; smaller sizes apply", "it is armed",
         "The venue refuses it to accounts without volume, and after ten firings a day. Stay near the box, or pause."),
    Rule("clock", "warning", findings.clock,
         "the quoter does not trust the clock, so nothing is quoted", "it does",
         "`chronyc tracking` at the box. Is the network there, and a time server?", wait=CLOCK_S),
    Rule("paused", "warning", findings.paused,
         "nothing is quoted, whatever the cause; the text names it", "it quotes, or is latched",
         "docs/latch-or-pause.md says of each cause how it ends.", "pause_for_s", "pause_for_s", rest_s=5.0),
    Rule("temperature", "warning", findings.temperature,
         "the processor has `temperature_c` or more", "it is 5 degrees below that",
         "Give it air or a cooler, before it pauses (`host.max_temperature_c`).", "temperature_c", "temperature_for_s"),
    Rule("disk", "warning", findings.disk,
         "less than `disk_mb` is free where `state_dir` is", "1.25 times that is free",
         "`mmpi journal prune`, or delete what is not ours, before it pauses (`host.min_disk_mb`).",
         "disk_mb", "disk_for_s"),
    Rule("memory", "warning", findings.memory,
         "less than `memory_mb` is available", "1.25 times that is available",
         "End what else runs on the box, before it pauses (`host.min_memory_mb`).", "memory_mb", "memory_for_s"),
    Rule("undervoltage", "warning",
         findings.weak("undervoltage", "the supply is too weak, the kernel says", "the supply is strong enough"),
         "the kernel says that the supply is too weak", "it does not say so any more",
         "Take the official supply, and a short cable.", rest_s=60.0),
    Rule("throttled", "warning",
         findings.weak("throttled", "the processor is slowed down, the kernel says", "the processor has full speed"),
         "the kernel says that the processor is slowed down", "it does not say so any more",
         "It is too hot, or its supply is too weak.", rest_s=60.0),
    Rule("unhealthy_boot", "warning", findings.boot,
         "this boot was found not healthy, perhaps because an update failed", "it was found healthy",
         "`mmpi health` says why. After an update the box may go back to the version before.", rest_s=5.0),
    Rule("setup", "warning", findings.setup,
         "the set-up folder on the card holds something that is wrong", "a later set-up found everything right",
         "Put the card into a computer and read RESULT.txt in the folder (docs/setup.md)."),
)  # fmt: skip
"""The gravest first."""

RULES: Final = {rule.name: rule for rule in TABLE}


def markdown() -> str:
    """Return the table as docs/alerts.md shows it."""
    rows = [
        f"| `{each.name}` | {each.severity} | {each.when} | {_wait(each)} | {_over(each)} | {each.todo} |"
        for each in TABLE
    ]
    head = ["| alert | severity | begins when | for | ends when | what to do |", "|---|---|---|---|---|---|"]
    return "\n".join([*head, *rows]) + "\n"


def _wait(rule: Rule) -> str:
    if isinstance(rule.wait, str):
        return f"`{rule.wait}`"
    return f"{rule.wait:g} s" if rule.wait else "at once"


def _over(rule: Rule) -> str:
    return f"{rule.over}, for {rule.rest_s:g} s" if rule.rest_s else rule.over
