"""mmpi journal bundle: an incident in one file, to be looked at and replayed anywhere.

Invariant: of the box everything is only read; the file is there whole, for its owner only, or not at all.
It must not know how a bundle is made.
"""

import argparse
import json
import re
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from mmpi.commands.journal_places import Progress, box_paths, ended_by_term, many, quoter_runs, size_of, size_text
from mmpi.errors import ConfigError, MmpiError
from mmpi.instrument import SECOND, Nanos
from mmpi.journal.bundle import FORMAT, LEDGER, WHAT, Manifest, is_bundle
from mmpi.journal.bundle_writer import BundleWriter
from mmpi.journal.cold import segment_paths
from mmpi.journal.entries import Checkpoint
from mmpi.journal.reader import Segment, read
from mmpi.journal.record import CHECKPOINT, Record, decode_checkpoint
from mmpi.journal.runs import Runs, RunTold, last_crash
from mmpi.journal.spans import Span, is_ledger, stamp
from mmpi.runtime.build import build_id
from mmpi.runtime.incident import MEMORY, Chosen, Source, Window, choose, put, source, sources
from mmpi.runtime.incident_facts import Facts
from mmpi.sections import PathSettings, ledger_folder

NOW: Final = "now"
LAST_CRASH: Final = "last-crash"
LATEST: Final[Nanos] = 253_402_300_800 * SECOND
"""The year 10000, which no date reaches."""
_UNITS: Final = ((10**11, SECOND), (10**14, SECOND // 1000), (10**17, 1000), (10**21, 1))
"""A number below this is in units of so many nanoseconds: seconds, milliseconds, microseconds, nanoseconds."""
_NUMBER: Final = re.compile(r"[0-9]{1,20}(\.[0-9]{1,9})?")
ALLOWED: Final = "ISO 8601 such as 2026-11-28T20:54:00Z, seconds, ms, us or ns since 1970, now, or last-crash"


def run(args: argparse.Namespace) -> int:
    """Return 0 once the file is there; ConfigError if nothing tells of that time."""
    paths = None if args.path is not None else box_paths(args)
    crash: RunTold | None = None
    asked = None if args.around == LAST_CRASH else time_of(args.around)
    with Progress(args, "looking for the segments"):
        ledger = ledger_folder(paths) if paths is not None else args.path
        runs = _runs(ledger)
        if asked is None:
            crash = _last_crash(ledger, runs, running=paths is not None and quoter_runs(paths))
            asked = crash.last
        found = _sources(args, paths, _window(args, asked))
    if crash is not None:
        asked = max([asked, *(_last_of(each, crash) for each in found if each.place != LEDGER)])
        how = crash.ending or "killed: no run has begun since, and none is running"
        print(f"mmpi journal: the last crash: {crash.run.cl_ord_prefix} at {stamp(asked)}, {how}", file=sys.stderr)
    window = _window(args, asked)
    chosen = choose(found, window)
    facts = Facts(paths, runs, window)
    out = args.out or Path(f"mmpi-{_plain(facts.device_id)}-{stamp(asked)[:19].replace(':', '')}Z.zip")
    total = sum(size_of(span.path) for chain in chosen.places.values() for span in chain)
    with ended_by_term(), BundleWriter(out) as writer, Progress(args, f"bundle {out.name}", total) as progress:
        gone = put(chosen, writer, progress.moved)
        for name, text in facts.texts.items():
            writer.add_text(name, text)
        manifest = Manifest(
            FORMAT, WHAT, facts.device_id, build_id(), stamp(time.time_ns()), window.text, asked, window.first,
            window.last, window.interval, (), (*chosen.missing, *facts.missing, *gone), tuple(facts.redacted),
        )  # fmt: skip
        size = writer.finish(manifest)
    _tell(args, out, size, manifest, chosen)
    return 0


def time_of(text: str) -> Nanos:
    """Return the time that a text names; ConfigError if it names none."""
    if text == NOW:
        return time.time_ns()
    try:
        if _NUMBER.fullmatch(text):
            number = Decimal(text)
            value = next(int(number * unit) for limit, unit in _UNITS if number < limit)
        else:
            moment = datetime.fromisoformat(text)
            if moment.tzinfo is None:
                print(f"mmpi journal: --around {text}: no time zone in it, so it is taken as UTC", file=sys.stderr)
                moment = moment.replace(tzinfo=UTC)
            elapsed = moment - datetime(1970, 1, 1, tzinfo=UTC)
            value = (elapsed.days * 86_400 + elapsed.seconds) * SECOND + elapsed.microseconds * 1000
    except (ValueError, OverflowError, StopIteration):
        raise ConfigError(f"--around {text!r}: no time; allowed: {ALLOWED}") from None
    if not 0 <= value < LATEST:
        raise ConfigError(f"--around {text!r}: not between 1970 and the year 10000; allowed: {ALLOWED}")
    return value


def _window(args: argparse.Namespace, around: Nanos) -> Window:
    first = max(0, around - round(args.before * SECOND))
    return Window(args.around, around, first, around + round(args.after * SECOND))


def _sources(args: argparse.Namespace, paths: PathSettings | None, window: Window) -> list[Source]:
    """Return the folders: the box's, or the one that PATH names."""
    near = (window.first, window.last)
    if paths is not None:
        return sources(paths, near)
    path: Path = args.path
    if is_bundle(path):
        raise ConfigError(f"{path}: a bundle already; allowed: a folder of segments, or one")
    if not path.exists():
        raise ConfigError(f"{path}: no such file or folder")
    segments = segment_paths(path) if path.is_dir() else [path]
    place = LEDGER if any(map(is_ledger, segments[-1:])) else MEMORY
    return [source(place, path, near)]


def _runs(ledger: Path) -> Runs:
    """Return what a ledger tells of the runs; another folder, or none, tells nothing."""
    runs = Runs()
    with suppress(MmpiError):
        for item in read(ledger):
            runs.take(item)
    return runs


def _last_crash(ledger: Path, runs: Runs, *, running: bool) -> RunTold:
    """Return the last run that did not end cleanly; ConfigError if there is none."""
    crash = last_crash(runs.told, running=running)
    if crash is None:
        told = f"{many(len(runs.told), 'run')} in the ledger ({ledger}), and none ended uncleanly"
        raise ConfigError(f"--around {LAST_CRASH}: {told}; allowed: {ALLOWED}")
    return crash


def _last_of(found: Source, crash: RunTold) -> Nanos:
    """Return when the last event of a run was, 0 if there is none of it."""
    spans = [span for chain in found.chains for span in chain if span.header is not None]
    for span in sorted(spans, key=lambda each: each.last, reverse=True):
        saved = _checkpoint(span)
        if saved is not None and saved.cl_ord_prefix == crash.run.cl_ord_prefix:
            return span.last
    return 0


def _checkpoint(span: Span) -> Checkpoint | None:
    with suppress(MmpiError):
        for item in read(span.path):
            if isinstance(item, Record) and item.kind == CHECKPOINT:
                return decode_checkpoint(item)
            if not isinstance(item, Segment):
                return None
    return None


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "-", name)[:32]


def _tell(args: argparse.Namespace, out: Path, size: int, manifest: Manifest, chosen: Chosen) -> None:
    places = {place: len(chain) for place, chain in chosen.places.items()}
    report: dict[str, Any] = {
        "file": str(out),
        "bytes": size,
        "device_id": manifest.device_id,
        "interval": manifest.interval,
        "segments": places,
        "missing": [{"what": each.what, "why": each.why} for each in manifest.missing],
        "redacted": list(manifest.redacted),
    }
    if args.json:
        print(json.dumps(report), flush=True)
        return
    print(f"bundle      {out}, {size_text(size)}")
    print(f"interval    {manifest.interval}")
    for place, count in places.items():
        chain = chosen.places[place]
        print(f"{place:<11} {many(count, 'segment')}, {stamp(chain[0].first)} to {stamp(chain[-1].last)}")
    for each in manifest.missing:
        print(f"missing     {each.what}: {each.why}")
    for name in manifest.redacted:
        print(f"redacted    something in {name} looked like a secret")
    print(f"replay      mmpi replay --verify {out}")
