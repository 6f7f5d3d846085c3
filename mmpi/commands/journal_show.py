"""mmpi journal cat, tail: records as text, one JSON object a line.

Invariant: whatever is in a journal, each record is one line, and a line that cannot say what is in it says why.
"""

import argparse
import select
import signal
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from mmpi.commands.journal_places import Place, chosen
from mmpi.errors import ConfigError, MmpiError
from mmpi.journal.follow import Follower, Shown
from mmpi.journal.readable import kind_name, kinds_of, readable
from mmpi.journal.reader import Segment, read
from mmpi.journal.record import ACTION, EVENT, KIND_NAMES, Header, Record
from mmpi.journal.survey import settled, value_of

POLL_MS: Final = 250
"""Between two looks for what was added."""


def cat(args: argparse.Namespace) -> int:
    """Print every record; return 0."""
    with chosen(args) as found:
        wanted = _kinds(args.kind, found.places)
        for place in found.places:
            for text in _lines(place, wanted):
                sys.stdout.write(text + "\n")
    sys.stdout.flush()
    return 0


def tail(args: argparse.Namespace) -> int:
    """Print the last records, with -f also those that are added, until told to end; return 0."""
    with chosen(args) as found:
        place = found.places[-1]
        if args.follow and place.packed:
            raise ConfigError(f"-f: {args.path}: a bundle, to which nothing is added; allowed: a folder or a segment")
        follower = Follower(place.path)
        _print(follower.last(args.lines, ended=not args.follow), place.prefix)
        if args.follow:
            _follow(follower)
    return 0


def _follow(follower: Follower) -> None:
    """Print what is added until SIGINT, SIGTERM, or nobody reads it any more."""
    ended: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda which, _: ended.append(which))
    reader = select.poll()
    # Nothing is asked for but what cannot be left out: that the other end is closed.
    reader.register(sys.stdout.fileno(), 0)
    while not ended and not reader.poll(POLL_MS):
        _print(follower.more(), "")


def _print(shown: Iterable[Shown], prefix: str) -> None:
    for item, header in shown:
        text = line(item, header, prefix) if isinstance(item, Record) else _note(item, prefix)
        sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _lines(place: Place, wanted: set[str]) -> Iterator[str]:
    """Yield a line for each record of the wanted kinds, and for what is torn or damaged; wanted {} = all."""
    header: Header | None = None
    for item in settled(read(place.path)):
        if isinstance(item, Segment):
            header = item.header
        elif not isinstance(item, Record):
            if wanted:
                print(f"mmpi journal: {item}", file=sys.stderr)
            else:
                yield _note(item, place.prefix)
        elif not wanted or kind_name(item, header) in wanted or str(item.kind) in wanted:
            assert header is not None
            yield line(item, header, place.prefix)


def line(record: Record, header: Header, prefix: str = "") -> str:
    """Return a record as one line of JSON; one that cannot be read is said to be unreadable, with the reason."""
    about: dict[str, Any] = {
        "segment": prefix + record.segment,
        "offset": record.offset,
        "record": record.number,
        "kind": kind_name(record, header),
    }
    if record.kind not in KIND_NAMES:
        about["note"] = f"of a kind that this version does not know ({record.kind})"
    try:
        value = value_of(record, header)
        about["value"] = value if record.kind in (EVENT, ACTION) else readable(value)
        return msgspec.json.encode(about).decode()
    except (MmpiError, ValueError, TypeError, LookupError, RecursionError) as error:
        about.pop("value", None)
        return msgspec.json.encode({**about, "unreadable": str(error)}).decode()


def _kinds(names: list[str], places: tuple[Place, ...]) -> set[str]:
    """Return the kinds that are wanted; ConfigError for one that there is none of by that name."""
    wanted = set(names)
    if not wanted:
        return wanted
    known = set(KIND_NAMES.values())
    if unknown := {name for name in wanted - known if not name.isdecimal()}:
        for place in places:
            for path in sorted(place.path.iterdir()) if place.path.is_dir() else [place.path]:
                known |= _described(path)
        if unknown := unknown - known:
            name = sorted(unknown)[0]
            raise ConfigError(f"--kind {name!r}: no kind of record; allowed: {', '.join(sorted(known))}, or a number")
    return wanted


def _described(path: Path) -> set[str]:
    try:
        first = next(read(path))
    except MmpiError:
        return set()
    return set(kinds_of(first.header).values()) if isinstance(first, Segment) else set()


def _note(item: object, prefix: str) -> str:
    return msgspec.json.encode({type(item).__name__.lower(): f"{prefix}{item}"}).decode()
