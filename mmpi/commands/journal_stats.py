"""mmpi journal stats: how much is in a journal, of what, how fast it grows, and how its runs ended.

Invariant: it only reads, each segment once, in constant memory but for a line a run. It must not judge.
"""

import argparse
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import msgspec

from mmpi.commands.journal_places import Place, Progress, box_paths, chosen, many, quoter_runs, size_of, size_text
from mmpi.errors import ConfigError, JournalError
from mmpi.instrument import SECOND, Nanos
from mmpi.journal.budget import ARCHIVE
from mmpi.journal.bundle import LEDGER
from mmpi.journal.cold import COLD, segment_paths
from mmpi.journal.entries import ENDINGS
from mmpi.journal.reader import Damage, Item, Segment, Torn, paths_of, read
from mmpi.journal.record import COMMIT, EVENT, FRAME_BYTES, GAP, Record, decode, encode_header
from mmpi.journal.runs import Runs, RunTold
from mmpi.journal.spans import stamp
from mmpi.journal.survey import settled
from mmpi.runtime.rescue import PREFIX

HOUR_S: Final = 3600.0
SHOWN_RUNS: Final = 10


class Kept(msgspec.Struct, frozen=True):
    """Segments that are kept beside the tiers."""

    segments: int
    bytes: int


def run(args: argparse.Namespace) -> int:
    """Return 0; ConfigError if there is no journal."""
    with chosen(args, both=True) as found:
        content: dict[str, Any] = {}
        missing: list[str] = []
        alive = args.path is None and quoter_runs(box_paths(args))
        for place in found.places:
            try:
                with Progress(args, f"stats {place.label}", sum(map(size_of, paths_of(place.path)))) as progress:
                    content[place.label or "journal"] = _Stats(place.path, progress).content(alive=alive)
            except (ConfigError, JournalError) as error:
                missing.append(str(error))
                content[place.label or "journal"] = None
        if not any(content.values()):
            raise ConfigError("\n".join(missing))
        if args.path is None and not args.ledger:
            content |= _kept(found.places)
    if args.json:
        print(json.dumps({**content, "missing": missing}), flush=True)
        return 0
    for label, stats in content.items():
        if stats is not None:
            print("\n".join(_in_words(label, stats)))
    for text in missing:
        print(f"missing: {text}")
    return 0


class _Stats:
    """The counts of one journal."""

    def __init__(self, path: Path, progress: Progress) -> None:
        self.path = path
        self.paths = paths_of(path)
        self.kinds: dict[str, list[int]] = {}
        self.runs = Runs()
        self.raw = self.cold_raw = self.cold_packed = self.cold = self.segments = 0
        self.first: Nanos = 0
        self.last: Nanos = 0
        self.torn: list[str] = []
        self.damage: list[str] = []
        self.gaps: list[str] = []
        self._is_cold = False
        self._event: Record | None = None
        for item in settled(read(path)):
            if isinstance(item, Segment):
                self._segment(item, progress)
            else:
                self._item(item)
        if self._event is not None:
            self._time_or_gap(self._event)

    def _segment(self, item: Segment, progress: Progress) -> None:
        self.segments += 1
        self._is_cold = item.path.name.endswith(COLD)
        size = size_of(item.path)
        self.cold += self._is_cold
        self.cold_packed += size if self._is_cold else 0
        self._count(len(encode_header(item.header)))
        progress.moved(size)

    def _item(self, item: Item) -> None:
        if isinstance(item, Torn):
            self.torn.append(str(item))
        elif isinstance(item, Damage):
            self.damage.append(str(item))
        elif isinstance(item, Record):
            size = FRAME_BYTES + len(item.payload)
            self._count(size)
            count = self.kinds.setdefault(item.name, [0, 0])
            count[0] += 1
            count[1] += size
            self.runs.take(item)
            if item.kind == EVENT and self.first:
                # Only the last one's time is of interest.
                self._event = item
            elif item.kind in (EVENT, COMMIT, GAP):
                self._time_or_gap(item)

    def _count(self, size: int) -> None:
        self.raw += size
        self.cold_raw += size if self._is_cold else 0

    def _time_or_gap(self, item: Record) -> None:
        try:
            value = decode(item)
        except JournalError:
            return
        if item.kind == GAP:
            self.gaps.append(f"{item.segment}: {value.records} records: {value.why}")
            return
        time: Nanos = value.recv_ts if item.kind == EVENT else value.at
        self.first = min(self.first or time, time)
        self.last = max(self.last, time)

    def content(self, *, alive: bool) -> dict[str, Any]:
        """Return all that is known, as JSON."""
        sizes = [size_of(path) for path in self.paths]
        hours = (self.last - self.first) / SECOND / HOUR_S
        runs, commit_hours = self.runs, (self.runs.last_commit - self.runs.first_commit) / SECOND / HOUR_S
        disk = os.statvfs(self.path)
        return {
            "path": str(self.path),
            "segments": self.segments,
            "cold_segments": self.cold,
            "file_bytes": sum(sizes),
            "record_bytes": self.raw,
            "kinds": {kind: {"records": many, "bytes": size} for kind, (many, size) in self.kinds.items()},
            "first": stamp(self.first) if self.first else None,
            "last": stamp(self.last) if self.last else None,
            "hours": round(hours, 6),
            "bytes_per_hour": round(self.raw / hours) if hours else None,
            "compression": round(self.cold_raw / self.cold_packed, 3) if self.cold_packed else None,
            "commits": runs.commits,
            "commits_per_hour": round(runs.commits / commit_hours, 1) if commit_hours else None,
            "runs": [_run(told, runs=alive and told is runs.told[-1]) for told in runs.told],
            "gaps": self.gaps,
            "torn": self.torn,
            "damage": self.damage,
            "disk_free_bytes": disk.f_bavail * disk.f_frsize,
        }


def _run(told: RunTold, *, runs: bool) -> dict[str, Any]:
    ending = told.ending
    how = "running" if runs and ending is None else ending.kind if ending else "unknown"
    said = ending.reason or ENDINGS.get(ending.kind, "") if ending else ""
    return {
        "cl_ord_prefix": told.run.cl_ord_prefix,
        "scope": told.run.scope,
        "mmpi": told.run.mmpi_version,
        "began": stamp(told.run.at),
        "last": stamp(told.last),
        "ended": how,
        "reason": said,
        "commits": told.commits,
        "fills": told.fills,
    }


def _in_words(label: str, stats: dict[str, Any]) -> Iterable[str]:
    if "kinds" not in stats:
        yield f"{label}: {many(stats['segments'], 'segment')}, {size_text(stats['bytes'])}"
        return
    yield f"{label} {stats['path']}"
    cold = f", {stats['cold_segments']} of them cold" if stats["cold_segments"] else ""
    yield f"  segments    {stats['segments']}{cold}, {size_text(stats['file_bytes'])} of files"
    if stats["compression"]:
        yield f"  cold        packed to 1/{stats['compression']:.1f}"
    if stats["first"]:
        rate = f", {size_text(stats['bytes_per_hour'])} an hour" if stats["bytes_per_hour"] else ""
        yield f"  time        {stats['first']} to {stats['last']}{rate}"
    for kind, count in sorted(stats["kinds"].items(), key=lambda each: -each[1]["bytes"]):
        yield f"  {kind:<11} {many(count['records'], 'record')}, {size_text(count['bytes'])}"
    if stats["commits"]:
        rate = f", {stats['commits_per_hour']} an hour" if stats["commits_per_hour"] else ""
        yield f"  commits     {stats['commits']}{rate}"
    if (earlier := len(stats["runs"]) - SHOWN_RUNS) > 0:
        yield f"  run         {earlier} earlier"
    for each in stats["runs"][-SHOWN_RUNS:]:
        how = each["ended"] + (f": {each['reason']}" if each["reason"] else "")
        what = f"{each['began']} to {each['last']}, {many(each['fills'], 'fill')}"
        yield f"  run         {each['cl_ord_prefix']} {what}; {how}"
    for name in ("gaps", "torn", "damage"):
        for text in stats[name]:
            yield f"  {name:<11} {text}"
    yield f"  disk        {size_text(stats['disk_free_bytes'])} free"


def _kept(places: Iterable[Place]) -> dict[str, Any]:
    """Return what is kept of the journal in memory beside the ledger."""
    ledger = next(place.path for place in places if place.label == LEDGER)
    if not ledger.is_dir():
        return {}
    folders = [path for path in sorted(ledger.iterdir()) if path.is_dir() and path.name.startswith((PREFIX, ARCHIVE))]
    return {
        path.name: msgspec.to_builtins(Kept(len(segment_paths(path)), sum(map(size_of, segment_paths(path)))))
        for path in folders
    }
