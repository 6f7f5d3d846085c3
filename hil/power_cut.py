"""Power cut: what a disk with a volatile cache would hold, had the power gone at a given place in its log.

    with DiskLog(disk.log) as log, Replay(log, disk.base, folder) as replay:
        for cut in cuts(log):
            image = replay.image(cut.at, keep=0.5, seed=1, torn="sectors")
            with mounted(image) as path:
                ...  # everything in log.marks(cut.at) was promised

An honest device has on it all that it was given before its last flush, and every write with forced unit access. Of the
writes after that flush any may be there and any may be missing, whichever was sent first; of two to the same place that
are both there, the later one counts. A forgetful one has also lost for good what it could not flush when it refused a
flush, though a later flush went well: a program that only tries again is found out by it. A lying one ignores flushes:
the last writes, however many, may be missing; it is for reports, as no file system can keep a promise on it.

Invariant: the same log, cut and settings give the same image. It must not know what is on a disk, but that it holds a
file system that can be mounted and checked.
"""

import os
import random
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, Self

from hil.disk_log import CUT, FLUSH, DiskLog, Request
from hil.mounts import loop_mounted

BLOCK: Final = 4096
"""What is written in one piece where nothing is torn: a block of the file system, a page of flash."""
SECTOR: Final = 512
Torn = Literal["none", "prefix", "sectors"]
"""none: blocks of 4 KiB are there or not; sectors: so is each sector; prefix: as none, but of one block that was under
way only the beginning is there."""
Device = Literal["honest", "forgetful", "lying"]


VARIANTS: Sequence[Mapping[str, Any]] = (
    {"keep": 0.0},
    {"keep": 0.5, "torn": "sectors"},
    {"keep": 0.5, "torn": "prefix"},
    {"keep": 1.0},
    {"keep": 0.8, "torn": "sectors", "device": "forgetful"},
)
"""What may become of the writes that no flush has made safe: settings for an image."""


class Cut(NamedTuple):
    """A place to cut at: so many of the log's requests were answered."""

    at: int
    why: str


class _Piece(NamedTuple):
    """A part of a request, which a cut leaves or takes as a whole."""

    request: Request
    start: int
    length: int
    is_there: bool


def cuts(log: DiskLog, between: int = 1) -> list[Cut]:
    """Return the places just before and just after each flush, evenly spaced ones between two of them, and the end."""
    found: dict[int, str] = {}
    end = _end(log)
    last = 0
    for place in (*log.flush_places(), end):
        for number in range(1, between + 1):
            found.setdefault(last + (place - last) * number // (between + 1), "between flushes")
        found[place] = "the end" if place == end else "before a flush"
        if place < end:
            found[place + 1] = "after a flush"
        last = min(place + 1, end)
    return [Cut(at, why) for at, why in sorted(found.items())]


class Replay:
    """Makes images of one log; cuts in ascending order cost least, as what is safe is written once only."""

    def __init__(self, log: DiskLog, base: Path, folder: Path) -> None:
        """`base` is the disk before the log's first request; two images come to lie in the folder."""
        self._log: Final = log
        self._base: Final = base
        self._image: Final = folder / "cut.img"
        self._safe: Final = folder / "safe.img"
        self._refused: Final = [n for n, each in enumerate(log.requests) if each.kind == FLUSH and each.failed]
        self._done = 0
        self._drops: frozenset[int] = frozenset()
        self._file = -1

    def __enter__(self) -> Self:
        """Return the replay with the base as its safe image."""
        self._restart()
        return self

    def __exit__(self, *_: object) -> None:
        """Remove both images."""
        os.close(self._file)
        self._safe.unlink(missing_ok=True)
        self._image.unlink(missing_ok=True)

    def image(
        self,
        at: int | None = None,
        keep: float = 1.0,
        seed: int = 0,
        sector: int = SECTOR,
        torn: Torn = "none",
        device: Device = "honest",
    ) -> Path:
        """Return the image after `at` requests (None: when the power went), `keep` of what was not safe being there.

        It is the caller's to mount and write on, until the next call.
        """
        at = _end(self._log) if at is None else at
        dice = random.Random(f"{seed} {at}")
        # A liar's cache holds some number of the last requests, which it has not written yet.
        safe = dice.randint(0, at) if device == "lying" else self._log.safe_until(at)
        self._advance(safe, self._forgotten(at) if device == "forgetful" else frozenset())
        _copy(self._safe, self._image)
        file = os.open(self._image, os.O_WRONLY | os.O_CLOEXEC)
        try:
            for piece in self._survivors(safe, at, keep, dice, sector, torn):
                data = self._log.data(piece.request, piece.start, piece.length)
                os.pwrite(file, data, piece.request.offset + piece.start)
        finally:
            os.close(file)
        return self._image

    def _survivors(
        self, first: int, at: int, keep: float, dice: random.Random, sector: int, torn: Torn
    ) -> list[_Piece]:
        """Return what is there of the writes that no flush made safe, in the order in which they were sent."""
        unit = sector if torn == "sectors" else BLOCK
        requests = self._log.requests
        numbers = (number for number in range(first, at) if number not in self._drops)
        pieces = [piece for number in numbers for piece in _pieces(requests[number], unit)]
        if torn == "prefix":
            # The request after the cut was sent, too: it may have come half the way.
            pieces = _with_one_torn(pieces, _pieces(requests[at], unit) if at < len(requests) else [], sector, dice)
        return [piece for piece in pieces if piece.is_there or dice.random() < keep]

    def _forgotten(self, at: int) -> frozenset[int]:
        """Return the requests that were lost for good at a refused flush, although a later one was answered well."""
        return frozenset(
            number
            for refused in self._refused
            if refused < at
            for number in range(self._log.safe_until(refused), refused)
            if not self._log.requests[number].fua
        )

    def _advance(self, safe: int, drops: frozenset[int]) -> None:
        if safe < self._done or drops != self._drops:
            self._restart()
            self._drops = drops
        for number in range(self._done, safe):
            request = self._log.requests[number]
            if request.changes and number not in drops:
                os.pwrite(self._file, self._log.data(request), request.offset)
        self._done = safe

    def _restart(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        _copy(self._base, self._safe)
        self._file = os.open(self._safe, os.O_WRONLY | os.O_CLOEXEC)
        self._done = 0


def image_at(
    log: DiskLog,
    at: int | None,
    base: Path,
    target: Path,
    *,
    keep: float = 1.0,
    seed: int = 0,
    sector: int = SECTOR,
    torn: Torn = "none",
    device: Device = "honest",
) -> Path:
    """Return `target`, made the image of a single cut; Replay makes many."""
    with tempfile.TemporaryDirectory(dir=target.parent) as folder, Replay(log, base, Path(folder)) as replay:
        return replay.image(at, keep, seed, sector, torn, device).replace(target)


@contextmanager
def mounted(image: Path) -> Iterator[Path]:
    """Mount an image, which replays its file system's journal, and give the folder; OSError if it is refused."""
    with tempfile.TemporaryDirectory(prefix="mmpi-cut-") as name:
        folder = Path(name).resolve()
        with loop_mounted(image, folder):
            yield folder


def fsck(image: Path) -> list[str]:
    """Return what e2fsck finds wrong once a mount has replayed the journal; empty if all is well."""
    with mounted(image):
        pass
    done = subprocess.run(["e2fsck", "-f", "-n", image], capture_output=True, text=True, check=False)
    return done.stdout.splitlines() if done.returncode else []


def _end(log: DiskLog) -> int:
    """Return how many requests were answered before the power went, all if it did not."""
    return next((number for number, each in enumerate(log.requests) if each.kind == CUT), len(log.requests))


def _pieces(request: Request, unit: int) -> list[_Piece]:
    """Return what a request changes, cut at the disk's multiples of a unit; nothing if it changes nothing."""
    pieces = []
    start = 0
    while request.changes and start < request.length:
        length = min(unit - (request.offset + start) % unit, request.length - start)
        pieces.append(_Piece(request, start, length, request.fua))
        start += length
    return pieces


def _with_one_torn(pieces: list[_Piece], under_way: list[_Piece], sector: int, dice: random.Random) -> list[_Piece]:
    """Return the pieces with one of them, or of the request under way, there but for its end."""
    every = pieces + under_way
    open_ones = [
        number
        for number, piece in enumerate(every)
        if piece.length > sector and (number >= len(pieces) or not piece.is_there)
    ]
    if not open_ones:
        return pieces
    number = dice.choice(open_ones)
    sectors = -(-every[number].length // sector)
    torn = every[number]._replace(length=sector * dice.randrange(1, sectors), is_there=True)
    return [*pieces[:number], torn, *pieces[number + 1 :]]


def _copy(source: Path, target: Path) -> None:
    """Copy an image, holes as holes."""
    subprocess.run(["cp", "--sparse=auto", source, target], check=True, capture_output=True)
