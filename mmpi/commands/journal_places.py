"""Journal places: which journals a command of `mmpi journal` is about, and the line that shows how it goes.

Invariant: without PATH they are this box's, of which nothing but the folders need be configured; a bundle is unpacked
for as long as it is read. It must not know what is done with them.
"""

import argparse
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final

import msgspec

from mmpi.errors import ConfigError
from mmpi.folders import path_setting
from mmpi.journal.bundle import LEDGER, is_bundle, unpacked
from mmpi.journal.spans import Span
from mmpi.runtime.board import StatusBoard, process_start
from mmpi.runtime.incident import MEMORY
from mmpi.sections import PathSettings, ledger_folder

FIRST_S: Final = 1.0
"""What takes no longer shows nothing."""
EVERY_S: Final = 0.5


class Place(msgspec.Struct, frozen=True):
    """One journal: a folder, or one segment."""

    label: str
    """What it is called where there are several, "" = it is the only one."""
    path: Path
    packed: bool = False
    """It is from a bundle, where the places' segments have the same names."""

    @property
    def prefix(self) -> str:
        """Return what its segments' names begin with."""
        return f"{self.label}/" if self.packed else ""


class Places(msgspec.Struct, frozen=True):
    """The journals that are meant, and what is wrong with the bundle that they are from."""

    places: tuple[Place, ...]
    damage: tuple[str, ...] = ()


def box_paths(args: argparse.Namespace) -> PathSettings:
    """Return this box's folders; that of the secrets is not known."""
    runtime, state = (path_setting(key, args.config, os.environ) for key in ("runtime_dir", "state_dir"))
    return PathSettings(state_dir=str(state), runtime_dir=str(runtime), secrets_dir="")


def quoter_runs(paths: PathSettings) -> bool:
    """Return whether this box's quoter is running, by its board."""
    board = StatusBoard.open(paths.status)
    return board is not None and process_start(board.pid) == board.start_time


@contextmanager
def chosen(args: argparse.Namespace, *, both: bool = False) -> Iterator[Places]:
    """Give the journals that PATH and --ledger name; without them the quoter's in memory, or `both` tiers."""
    if args.path is None:
        paths = box_paths(args)
        memory, ledger = Place(MEMORY, paths.journal), Place(LEDGER, ledger_folder(paths))
        yield Places((ledger,) if args.ledger else (memory, ledger) if both else (memory,))
    elif is_bundle(args.path):
        with unpacked(args.path) as found:
            places = [Place(name, path, packed=True) for name, path in found.folders.items()]
            if args.ledger:
                places = [place for place in places if place.label == LEDGER]
            elif not both:
                places = [place for place in places if place.label != LEDGER] or places
            if not places:
                raise ConfigError(f"{args.path}: {'no ledger' if args.ledger else 'no journal'} in this bundle")
            yield Places(tuple(places), found.damage)
    elif args.ledger:
        raise ConfigError(f"--ledger: allowed without PATH, or with a bundle as PATH; {args.path} is a journal itself")
    else:
        yield Places((Place("", args.path),))


def size_of(path: Path) -> int:
    """Return a file's bytes, 0 if it is not there any more."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


@contextmanager
def as_folder(chain: Sequence[Span]) -> Iterator[Path]:
    """Give a folder in which segments that follow each other have the names that they were written under."""
    with tempfile.TemporaryDirectory(prefix="mmpi-journal-") as name:
        for span in chain:
            (Path(name) / span.name).symlink_to(span.path.absolute())
        yield Path(name)


def size_text(size: float) -> str:
    """Return bytes as people read them."""
    for unit in ("bytes", "kB", "MB"):
        if abs(size) < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def many(count: int, what: str) -> str:
    """Return a count and its noun."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


@contextmanager
def ended_by_term() -> Iterator[None]:
    """Have SIGTERM unwind what is being done, as Ctrl-C does, so that nothing half done is left."""

    def end(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Progress:
    """A line on the terminal, rewritten by a thread; nothing where stderr is none, or with --json."""

    def __init__(self, args: argparse.Namespace, what: str, total: int = 0) -> None:
        """`what` is being done; `total` = bytes, 0 = nobody knows."""
        self._what, self._total = f"mmpi {args.command}: {what}", total
        self._done = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._shows = sys.stderr.isatty() and not args.json

    def __enter__(self) -> "Progress":
        if self._shows:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._shows:
            self._thread.join()

    def moved(self, size: int) -> None:
        """Take that so many bytes more are done."""
        self._done += size

    def _run(self) -> None:
        began = time.monotonic()
        pause = FIRST_S
        while not self._ended.wait(pause):
            pause = EVERY_S
            part = f" {100 * min(self._done, self._total) // self._total}%" if self._total else ""
            text = f"{self._what}{part}  {time.monotonic() - began:.0f} s"
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
        if pause == EVERY_S:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
