"""Incident: which segments of a box tell of a time, and the bundle that is made of them.

Segments are taken whole, and so that each place can be read on its own: it begins with a state. What two places hold
alike (a rescue is a copy of what is in memory) is taken once.

Invariant: everything is only read, and may go on changing meanwhile; what could not be taken is told in the manifest.
It must not know what made anybody ask.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Final

import msgspec

from mmpi.errors import ConfigError
from mmpi.instrument import Nanos
from mmpi.journal.budget import ARCHIVE
from mmpi.journal.bundle import CHUNK, LEDGER, Entry, Missing
from mmpi.journal.bundle_writer import BundleWriter
from mmpi.journal.cold import open_segment, segment_paths
from mmpi.journal.spans import Span, chains_of, covered, linked, opens_whole, stamp, there
from mmpi.runtime.rescue import PREFIX
from mmpi.sections import PathSettings, ledger_folder

MEMORY: Final = "memory"


class Window(msgspec.Struct, frozen=True):
    """The time in question."""

    text: str
    """As it was asked for."""
    around: Nanos
    first: Nanos
    last: Nanos

    @property
    def interval(self) -> str:
        """Return it as people read it."""
        return f"{stamp(self.first)} to {stamp(self.last)}"


class Source(msgspec.Struct, frozen=True):
    """One folder of segments."""

    place: str
    folder: Path
    chains: tuple[tuple[Span, ...], ...] = ()
    why: str = ""
    """Why there is nothing of it."""

    @property
    def covered(self) -> tuple[Nanos, Nanos] | None:
        """Return the time that it covers, None if that is not known."""
        return covered(span for chain in self.chains for span in chain)


class Chosen(msgspec.Struct, frozen=True):
    """What goes into a bundle."""

    places: dict[str, tuple[Span, ...]]
    """Place -> segments without a hole."""
    missing: tuple[Missing, ...]


def sources(paths: PathSettings, near: tuple[Nanos, Nanos]) -> list[Source]:
    """Return what a box has: the journal in memory, what was archived and rescued of it, and the ledger.

    Of two copies of a segment the one that was made later, and so is the whole of it, comes first. `near`: the interval
    in question.
    """
    ledger = ledger_folder(paths)
    kept = [ledger / ARCHIVE] if (ledger / ARCHIVE).is_dir() else []
    if ledger.is_dir():
        rescues = (path for path in ledger.iterdir() if path.name.startswith(PREFIX) and path.is_dir())
        kept += sorted(rescues, reverse=True)
    folders = [(MEMORY, paths.journal), *((path.name, path) for path in kept), (LEDGER, ledger)]
    return [source(place, folder, near) for place, folder in folders]


def source(place: str, folder: Path, near: tuple[Nanos, Nanos]) -> Source:
    """Return a folder of segments, or one segment, and the times that they cover."""
    try:
        paths = segment_paths(folder) if folder.is_dir() else [folder] if folder.exists() else []
        chains = chains_of(paths, ledger=near if place == LEDGER else None)
    except OSError as error:
        return Source(place, folder, (), error.strerror or str(error))
    except ConfigError as error:
        return Source(place, folder, (), str(error))
    why = "" if chains else "no segments in this folder" if folder.exists() else "no such file or folder"
    return Source(place, folder, tuple(map(tuple, chains)), why)


def choose(found: Sequence[Source], window: Window) -> Chosen:
    """Return what tells of the window; ConfigError, with the time that the journal covers, if nothing does."""
    places: dict[str, tuple[Span, ...]] = {}
    missing: list[Missing] = []
    taken: list[Span] = []
    for each in found:
        selected = [chain for chain in (_of_chain(each_chain, window) for each_chain in each.chains) if chain]
        if not selected:
            missing.append(Missing(f"{each.place} ({each.folder})", each.why or f"nothing of that time; {_told(each)}"))
        twice = {span.path for chain in selected for span in chain if any(_is_in(span, other) for other in taken)}
        missing += [Missing(str(path), "in this file already, from another place") for path in sorted(twice)]
        chains = [run for chain in selected for run in linked(span for span in chain if span.path not in twice)]
        for index, run in enumerate(chains, 1):
            places[f"{each.place}-{index}" if len(chains) > 1 else each.place] = tuple(run)
            taken += run
    if not any(span.header for chain in places.values() for span in chain):
        there_is = "; ".join(f"{each.place}: {_told(each)}" for each in found)
        raise ConfigError(f"--around {window.text}: no segment from {window.interval}; {there_is}")
    return Chosen(places, tuple(missing))


def put(chosen: Chosen, writer: BundleWriter, moved: Callable[[int], None]) -> list[Missing]:
    """Put the segments in; return those that were deleted meanwhile."""
    gone: list[Missing] = []
    for place, chain in chosen.places.items():
        for span in chain:
            path = there(span.path)
            try:
                if path is None:
                    raise FileNotFoundError
                with path.open("rb") as file:
                    _put(writer, place, msgspec.structs.replace(span, path=path), file, moved)
            except FileNotFoundError:
                gone.append(Missing(f"{place}/{span.name}", "deleted while the bundle was made"))
            except PermissionError as error:
                gone.append(Missing(f"{place}/{span.name}", str(error.strerror)))
    return gone


def _put(writer: BundleWriter, place: str, span: Span, file: IO[bytes], moved: Callable[[int], None]) -> None:
    name = f"{place}/{span.name}"
    interval = f"{stamp(span.first)} to {stamp(span.last)}" if span.header else span.why
    about = Entry(name, 0, "", place, str(span.path), span.first, span.last, interval)
    writer.add_segment(name, file, about, moved)


def _of_chain(chain: Sequence[Span], window: Window) -> Sequence[Span]:
    """Return what of a chain tells of the window, from a state on; an unreadable end is part of what it follows."""
    touched = [index for index, span in enumerate(chain) if span.touches(window.first, window.last)]
    if not touched:
        return ()
    begin, end = touched[0], touched[-1]
    while begin > 0 and not opens_whole(chain[begin]):
        begin -= 1
    while end + 1 < len(chain) and chain[end + 1].header is None:
        end += 1
    return chain[begin : end + 1]


def _told(found: Source) -> str:
    between = found.covered
    if between is None:
        return found.why or "no segment whose header can be read"
    return f"it covers {stamp(between[0])} to {stamp(between[1])}"


def _is_in(span: Span, other: Span) -> bool:
    """Return whether a segment is the beginning, or the whole, of another one."""
    if span.header is None or span.header != other.header:
        return False
    try:
        with open_segment(span.path) as one, open_segment(other.path) as two:
            return all(chunk == two.read(len(chunk)) for chunk in _chunks(one))
    except OSError:
        return False


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    while chunk := file.read(CHUNK):
        yield chunk
