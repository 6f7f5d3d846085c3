"""Alerts: what the owner is to be told now, and what has not ended. The rules are in alert_rules.py.

Each alert is told once when it begins and once when it is over; what was told outlives a restart of telemetry. A rule
that changes all the time is told a bounded number of times, then that it flaps, and then nothing until it stands still.

Invariant: time is a snapshot's monotonic one, so a clock that is set changes nothing; what is kept is bounded by rules
and instruments. It must not know who is told, or how.
"""

import os
import stat
from pathlib import Path
from typing import Final, Literal, TypeAlias

import msgspec

from mmpi.channels import AlertSettings
from mmpi.device.durable import FRESH
from mmpi.runtime.service import say
from mmpi.telemetry.alert_findings import Finding, fresh
from mmpi.telemetry.alert_rules import RULES, TABLE, Rule, Severity
from mmpi.telemetry.snapshot import Snapshot

State: TypeAlias = Literal["firing", "resolved"]

GAP_S: Final = 10.0
"""What nobody knew, or nobody looked at, for longer than this breaks a time; what is shorter does not count in it."""
MOST_CHANGES: Final = 20
"""Of one rule that are told in an hour."""
HOUR_S: Final = 3600.0
QUIET_S: Final = 600.0
"""A rule that flaps is told again once it has stood still for so long."""
MOST_TEXT: Final = 300
MOST_BYTES: Final = 256 * 1024
"""Of the file; more is none of ours: an alert takes less than a kilobyte."""


class Alert(msgspec.Struct, frozen=True):
    """One alert. Its name and instrument tell it from others; `since` stays the same until it is over."""

    name: str
    instrument: str
    """ "" = the whole box."""
    severity: Severity
    state: State
    text: str
    """One line; of an alert that is firing, how things stand now."""
    since: float
    """Since when it is so: Unix time, s, by the clock as it was when it began to be told."""
    value: float | None = None


class _Case(msgspec.Struct):
    """An alert that is firing, or that ended and has not been told to have."""

    alert: Alert
    began: float
    """Monotonic seconds."""
    told: bool = False
    """The last thing that was told of it is that it is firing."""

    @property
    def is_firing(self) -> bool:
        return self.alert.state == "firing"


class _Book(msgspec.Struct):
    """What was told of one rule; monotonic seconds."""

    told: list[float] = []
    changed: float = 0.0
    """When it last began or ended, told or not."""
    flaps: bool = False

    def has_room(self, now: float) -> bool:
        """Return whether another change may be told; times to come are of another boot."""
        self.told = [at for at in self.told[-MOST_CHANGES:] if 0 <= now - at < HOUR_S]
        return len(self.told) < MOST_CHANGES


class _Kept(msgspec.Struct, forbid_unknown_fields=True):
    """The file."""

    mmpi_alerts: Literal[1]
    cases: list[_Case]
    books: dict[str, _Book]


class _Watch(msgspec.Struct):
    """How long what would change an alert has been so, and for how long it is not known; seconds."""

    held_s: float = 0.0
    unknown_s: float = 0.0


class Alerts:
    """All alerts of this box."""

    def __init__(self, settings: AlertSettings, kept: Path | None) -> None:
        """`kept`: the file in the runtime folder that a restart goes on from; None = nothing is kept."""
        self._settings, self._path = settings, kept
        self._watches: dict[str, dict[str, _Watch]] = {rule.name: {} for rule in TABLE}
        self._looked: float | None = None
        self._problem = ""
        self._changed = False
        found = _load(kept) if kept is not None else None
        self._cases: dict[tuple[str, str], _Case] = {
            (case.alert.name, case.alert.instrument): case
            for case in (found.cases if found is not None else ())
            if case.alert.name in RULES
        }
        books = found.books if found is not None else {}
        self._books = {rule.name: books.get(rule.name, _Book()) for rule in TABLE}

    @property
    def active(self) -> tuple[Alert, ...]:
        """Return the alerts that have not ended, the gravest first, then the oldest."""
        firing = [case.alert for case in self._cases.values() if case.is_firing]
        return tuple(sorted(firing, key=lambda alert: (alert.severity != "critical", alert.since, alert.name)))

    def look(self, snapshot: Snapshot) -> list[Alert]:
        """Return the changes to be told now, in the order of the table; they count as told from here on."""
        now = snapshot.monotonic
        step = now - self._looked if self._looked is not None else 0.0
        if not 0 <= step <= GAP_S:
            for watches in self._watches.values():
                watches.clear()
            step = 0.0
        self._looked = now
        changes = []
        for rule in TABLE:
            self._judge(rule, snapshot, step)
            changes += self._due(rule.name, now)
        if changes or self._changed:
            self._changed = False
            self._keep()
        return changes

    # What is so ---------------------------------------------------------------------------------------------------

    def _judge(self, rule: Rule, snapshot: Snapshot, step: float) -> None:
        """Begin and end the alerts of a rule; `step`: seconds since the last look."""
        watches = self._watches[rule.name]
        firing = [name for (of, name), case in self._cases.items() if of == rule.name and case.is_firing]
        if not rule.is_on(self._settings):
            for name in firing:
                self._end(rule, name, "not watched any more", None, snapshot)
            return
        found = {finding.instrument: finding for finding in rule.find(snapshot, self._settings)}
        for name, finding in found.items():
            self._weigh(rule, finding, snapshot, step)
            if (case := self._cases.get((rule.name, name))) is not None and case.is_firing:
                text = _line(finding.text)
                if (text, finding.value) != (case.alert.text, case.alert.value):
                    case.alert = msgspec.structs.replace(case.alert, text=text, value=finding.value)
        summary = fresh(snapshot)
        for name in dict.fromkeys((*watches, *firing)):
            if name in found:
                continue
            if name and summary is not None and name not in summary.instruments:
                watches.pop(name, None)
                if name in firing:
                    self._end(rule, name, f"{name} is not quoted any more", None, snapshot)
            elif (watch := watches.get(name)) is not None:
                watch.unknown_s += step
                if watch.unknown_s > GAP_S:
                    del watches[name]

    def _weigh(self, rule: Rule, finding: Finding, snapshot: Snapshot, step: float) -> None:
        """Count how long it is so, or over, and let that begin or end the alert."""
        watches, name = self._watches[rule.name], finding.instrument
        case = self._cases.get((rule.name, name))
        is_firing = case is not None and case.is_firing
        if not (finding.over if is_firing else finding.so):
            watches.pop(name, None)
            return
        watch = watches.get(name)
        if watch is None:
            watch = watches[name] = _Watch()
        else:
            watch.held_s += step
        watch.unknown_s = 0.0
        usual = rule.rest_s if is_firing else rule.wait_s(self._settings)
        if watch.held_s >= (finding.wait_s if finding.wait_s is not None and not is_firing else usual):
            del watches[name]
            if is_firing:
                self._end(rule, name, finding.text, finding.value, snapshot)
            else:
                self._begin(rule, finding, watch.held_s, snapshot)

    def _begin(self, rule: Rule, finding: Finding, held_s: float, snapshot: Snapshot) -> None:
        key = (rule.name, finding.instrument)
        since, text = round(snapshot.at - held_s, 3), _line(finding.text)
        alert = Alert(*key, rule.severity, "firing", text, since, finding.value)
        before = self._cases.get(key)
        self._cases[key] = _Case(alert, snapshot.monotonic - held_s, before is not None and before.told)
        self._note(rule, snapshot)

    def _end(self, rule: Rule, instrument: str, text: str, value: float | None, snapshot: Snapshot) -> None:
        case = self._cases[rule.name, instrument]
        lasted = snapshot.monotonic - case.began
        # A beginning that is still to come is of another boot.
        after = f"over after {_duration(lasted)}" if lasted >= 0 else "over"
        case.alert = msgspec.structs.replace(case.alert, state="resolved", text=_line(f"{after}: {text}"), value=value)
        self._watches[rule.name].pop(instrument, None)
        self._note(rule, snapshot)

    def _note(self, rule: Rule, snapshot: Snapshot) -> None:
        self._changed = True
        self._books[rule.name].changed = snapshot.monotonic

    # What is told -------------------------------------------------------------------------------------------------

    def _due(self, name: str, now: float) -> list[Alert]:
        """Return what is to be told of a rule, and note it as told."""
        book = self._books[name]
        untold = [case for (of, _), case in self._cases.items() if of == name and case.is_firing != case.told]
        is_still = book.flaps and not 0 <= now - book.changed < QUIET_S
        if is_still:
            book.flaps, self._changed = False, True
        changes: list[Alert] = []
        for case in () if book.flaps else untold:
            alert, has_room = case.alert, book.has_room(now)
            if not (has_room or is_still):
                book.flaps = True
                alert = msgspec.structs.replace(alert, text=_flapping(alert))
            book.told.append(now)
            case.told = case.is_firing
            changes.append(alert)
            if book.flaps:
                break
        for key in [key for key, case in self._cases.items() if key[0] == name and not (case.is_firing or case.told)]:
            del self._cases[key]
        return changes

    def _keep(self) -> None:
        """Put the state into the file; where that fails alerts go on, and it is said once."""
        if self._path is None:
            return
        fresh_path = self._path.with_name(self._path.name + FRESH)
        kept = _Kept(1, list(self._cases.values()), {name: book for name, book in self._books.items() if book.told})
        try:
            fresh_path.unlink(missing_ok=True)
            fresh_path.write_bytes(msgspec.json.encode(kept))
            os.replace(fresh_path, self._path)
        except OSError as error:
            problem = f"mmpi telemetry: {self._path}: alerts cannot be kept: {error.strerror}"
            if problem != self._problem:
                say(problem)
            self._problem = problem
        else:
            self._problem = ""


def _load(path: Path) -> _Kept | None:
    """Return what was kept, None if there is nothing, or nothing of ours, which is said."""
    try:
        # Neither a named pipe nor a link in its place holds us up or leads us elsewhere.
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        say(f"mmpi telemetry: {path}: cannot be read: {error.strerror}; alerts begin anew")
        return None
    try:
        data = os.read(file, MOST_BYTES + 1) if stat.S_ISREG(os.fstat(file).st_mode) else b""
        if len(data) > MOST_BYTES:
            raise ValueError(f"more than {MOST_BYTES} bytes")
        return msgspec.json.decode(data, type=_Kept)
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        say(f"mmpi telemetry: {path}: is none of ours, or damaged: {' '.join(str(error).split())}; alerts begin anew")
        return None
    finally:
        os.close(file)


def _flapping(alert: Alert) -> str:
    return _line(
        f"{alert.name} is flapping: {MOST_CHANGES} changes within an hour were told. The next one is told once it has "
        f"stood still for {_duration(QUIET_S)}. Now: {alert.text}"
    )


def _line(text: str) -> str:
    """Return a text as one line without what a terminal, a log or a header would take amiss."""
    line = " ".join(text.split())
    return "".join(letter if letter.isprintable() else "?" for letter in line[:MOST_TEXT])


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
