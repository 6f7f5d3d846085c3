"""mmpi journal prune: what is on the disk, kept within its caps by hand.

Invariant: the ledger's newest segment stays, whatever is asked for; with --dry-run everything does.
It must not know what is in a segment.
"""

import argparse
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from mmpi.commands.journal_places import box_paths, many, size_text
from mmpi.errors import ConfigError
from mmpi.journal.budget import ARCHIVE, DiskLimits, prune
from mmpi.journal.cold import number_of, segment_paths
from mmpi.sections import ledger_folder

TRIES: Final = 5
"""A quoter that compresses or deletes a segment at this very moment is done by the next one."""


def run(args: argparse.Namespace) -> int:
    """Return 0; ConfigError if there is no ledger, or something could not be deleted."""
    folder = ledger_folder(box_paths(args))
    limits = _limits(args)
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder: no ledger has been kept yet")
    before = _sizes(folder)
    gone = _prune(folder, limits, dry=args.dry_run)
    after = {path: size for path, size in before.items() if path not in gone}
    report = {
        "folder": str(folder),
        "max_bytes": limits.max_bytes,
        "max_days": limits.max_days,
        "dry_run": args.dry_run,
        "deleted": [{"name": _name(path, folder), "bytes": before.get(path, 0)} for path in gone],
        "kept": [{"name": _name(path, folder), "bytes": size} for path, size in after.items()],
        "bytes_before": sum(before.values()),
        "bytes_after": sum(after.values()),
    }
    if args.json:
        print(json.dumps(report), flush=True)
        return 0
    word = "would be deleted" if args.dry_run else "deleted"
    for each in gone:
        print(f"{word:<16}  {_name(each, folder)}  {size_text(before.get(each, 0))}")
    for each, size in after.items():
        print(f"{'stays':<16}  {_name(each, folder)}  {size_text(size)}")
    age = f", {limits.max_days} days" if limits.max_days else ""
    total = f"{size_text(sum(after.values()))} in {many(len(after), 'segment')}"
    print(f"{folder}: {total}; at most {limits.max_bytes} bytes{age}")
    return 0


def _limits(args: argparse.Namespace) -> DiskLimits:
    """Return the caps of the command line, and for what it does not say those of the configuration."""
    if args.max_bytes is not None and args.max_days is not None:
        return DiskLimits(0, args.max_bytes, args.max_days)
    from mmpi.config import load_config

    journal = load_config(args.config, os.environ).settings.journal
    return DiskLimits(
        0,
        journal.disk_max_bytes if args.max_bytes is None else args.max_bytes,
        journal.disk_max_days if args.max_days is None else args.max_days,
    )


def _prune(folder: Path, limits: DiskLimits, *, dry: bool) -> list[Path]:
    """Return what was deleted. Only whole segments are: what a quoter is compressing at the moment is none yet."""
    gone = _beyond(folder, limits)
    for path in () if dry else gone:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise ConfigError(f"{path}: cannot be deleted: {error.strerror}") from None
    return gone


def _beyond(folder: Path, limits: DiskLimits) -> list[Path]:
    """Return what is beyond the caps."""
    for _ in range(TRIES):
        # What was begun since stays, too: its number is higher.
        newest = max(map(number_of, segment_paths(folder)), default=0)
        try:
            return prune(folder, limits, newest, time.time_ns(), dry=True)
        except FileNotFoundError:
            continue
    raise ConfigError(f"{folder}: it changes all the time; try again")


def _sizes(folder: Path) -> dict[Path, int]:
    """Return the segments, those of the archive first, as they would go."""
    archive = folder / ARCHIVE
    sizes: dict[Path, int] = {}
    for path in [*_segments(archive), *_segments(folder)]:
        try:
            sizes[path] = path.stat().st_size
        except FileNotFoundError:
            continue
    return sizes


def _segments(folder: Path) -> Iterable[Path]:
    return segment_paths(folder) if folder.is_dir() else []


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()
