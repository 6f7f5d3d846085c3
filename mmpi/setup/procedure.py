"""Procedure: one set-up from the first look to the record, in the order that survives a power cut at any point.

1. Look; an unchanged folder ends here. 2. Judge everything; an error ends here, and nothing is changed. 3. Store the
new generation. 4. Note what is to be wiped. 5. Wipe it, and the free space. 6. Arm, where that is due. 7. RESULT.txt.
8. The record. A cut before 3 is done leaves the old settings and the folder as it was; after it each run does 3 to 8
again, finds done what is done, and ends with the record.

Invariant: what a run does depends on the disk alone, never on how far an earlier one came. It must not know pins,
systemd or mounts: those are given to it.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from mmpi.errors import DeviceError, MmpiError
from mmpi.setup import arming, erasing, generations, record, reset, ssh_keys, words
from mmpi.setup.card import Card, Remount
from mmpi.setup.configuration import PLAY
from mmpi.setup.folder import KEYS, NAMES, RESET, RESULT, SECRET, Found, is_wiped, look
from mmpi.setup.judging import Check, Stored, Verdict, judge, merged
from mmpi.setup.record import Record
from mmpi.setup.sealing import Sealer
from mmpi.setup.words import Outcome

FAILED: Final = (OSError, MmpiError)


class Tools(msgspec.Struct, frozen=True):
    """What the world gives a set-up."""

    sealer: Sealer
    check: Check
    held: Callable[[bytes | None], bool]
    """Given the stored configuration: are both buttons held, and stay so?"""
    remount: Remount | None
    fill: Callable[[Path], None]
    """Overwrite the free space of a folder's file system."""
    now: Callable[[], float]
    version: str
    unseen: Callable[[Path], str] = lambda _: ""
    """Why nobody can say what is in a folder that is not there; "" = it really is not there."""


class Ended(msgspec.Struct, frozen=True):
    """How a run ended: its outcome, notes for the log, and whether the box must now be started anew."""

    outcome: Outcome
    notes: tuple[str, ...] = ()
    restart: bool = False


class _Run(msgspec.Struct, frozen=True):
    """What one run knows: places, tools, and what it found."""

    data: Path
    tools: Tools
    card: Card
    record: Record
    found: Found
    begun: tuple[str, ...]
    """Files whose wiping an earlier run began."""
    now: float


def set_up(folder: Path, data: Path, tools: Tools) -> Ended:
    """Return how a set-up ended; it never raises for what people, disks or programs do."""
    now = tools.now()
    card = Card(folder, tools.remount)
    with card:
        try:
            with _alone(data):
                ended = _set_up(data, tools, card, now)
        except FAILED as error:
            outcome = Outcome(False, (_said(error),), at=int(now))
            _tell(card, words.broken(outcome.errors), tools, now)
            ended = Ended(outcome)
    return msgspec.structs.replace(ended, notes=tuple(card.notes))


def _set_up(data: Path, tools: Tools, card: Card, now: float) -> Ended:
    found = look(card.folder)
    known = record.load(data)
    begun = tuple(name for name in known.wipe if name in found.files and is_wiped(found.files[name]))
    run = _Run(data, tools, card, known, found, begun, now)
    if _is_reset_wanted(run):
        return _reset(run)
    if not found.there and (error := tools.unseen(card.folder)):
        found = msgspec.structs.replace(found, errors=(*found.errors, error))
        run = msgspec.structs.replace(run, found=found)
    if _is_unchanged(run):
        return Ended(Outcome(at=int(now)))
    stored = Stored(generations.read(data), tools.sealer)
    files = {name: content for name, content in found.files.items() if name not in begun}
    verdict = judge(files, stored, tools.check)
    verdict.errors = [*found.errors, *verdict.errors]
    outcome = _refuse(run, files, verdict) if verdict.errors else _apply(run, files, verdict, stored)
    return Ended(outcome)


@contextmanager
def _alone(data: Path) -> Iterator[None]:
    """Keep other set-ups of these data out."""
    lock = os.open(data, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


# Nothing to do ----------------------------------------------------------------------------------------------------


def _remaining(run: _Run) -> dict[str, bytes]:
    """Return the files that stay in the folder."""
    return {name: content for name, content in run.found.files.items() if name not in SECRET and name not in run.begun}


def _is_unchanged(run: _Run) -> bool:
    """Return whether the last set-up came to its end, and nothing that it depends on is another now."""
    known, found = run.record, run.found
    return (
        not known.first
        and not known.wipe
        and not found.errors
        and not any(name in found.files for name in SECRET)
        and known.digest == record.digest(_remaining(run), run.tools.version)
        and known.settings == generations.target(run.data)
        and (not known.settings or (run.data / generations.LINK).is_dir())
        # A latch that a person's hand made is noted once, so that one that is lost later is not made again.
        and (known.armed or not arming.has_latch(run.data))
    )


# Refused ----------------------------------------------------------------------------------------------------------


def _refuse(run: _Run, files: dict[str, bytes], verdict: Verdict) -> Outcome:
    """Change nothing but a private key in the wrong place, which has to go, and say what is wrong."""
    private = (KEYS,) if KEYS in files and ssh_keys.is_private(files[KEYS]) else ()
    known = _wiped(run, private, run.record.said)
    secret = [name for name in run.found.paths if name in SECRET and name not in run.begun]
    _tell(run.card, words.refused(verdict.errors, secret), run.tools, run.now)
    # What is right again must be told, even if it is what was there before.
    known = msgspec.structs.replace(known, digest="")
    if private or known != run.record:
        record.save(run.data, known)
    return Outcome(False, tuple(verdict.errors), at=int(run.now), first=run.record.first)


# Applied ----------------------------------------------------------------------------------------------------------


def _apply(run: _Run, files: dict[str, bytes], verdict: Verdict, stored: Stored) -> Outcome:
    """Put everything in force."""
    new = merged(verdict, stored)
    if new != stored.files:
        generations.store(run.data, new)
    generations.sweep(run.data)
    said = run.record.said | verdict.said
    known = _wiped(run, tuple(name for name in SECRET if name in files), said)
    if not known.armed and verdict.mode in PLAY and not arming.has_latch(run.data):
        arming.arm(run.data, run.now)
    new_box = run.record.first and arming.is_ours(run.data)
    _tell(run.card, words.done(said, verdict.mode, new_box, new, run.found.examples), run.tools, run.now)
    last = msgspec.structs.replace(
        known,
        digest=record.digest(_remaining(run), run.tools.version),
        settings=generations.target(run.data),
        version=run.tools.version,
        at=int(run.now),
        first=False,
        armed=known.armed or arming.has_latch(run.data),
    )
    record.save(run.data, last)
    return Outcome(True, applied=tuple(name for name in NAMES if name in said), at=int(run.now), first=run.record.first)


def _wiped(run: _Run, names: tuple[str, ...], said: dict[str, str]) -> Record:
    """Wipe files, those that an earlier run began with, and the free space; return the record for when all is done."""
    if not run.found.there or not (names or run.record.wipe):
        return run.record
    known = msgspec.structs.replace(run.record, wipe=tuple(dict.fromkeys((*run.record.wipe, *names))), said=said)
    # The key that the secrets are encrypted with is not ours to sync, and without it they are lost.
    os.sync()
    if known != run.record:
        record.save(run.data, known)
    names = (*run.begun, *names)
    try:
        run.card.open_up()
        for name in names:
            erasing.wipe(run.found.paths[name])
        run.tools.fill(run.card.folder)
    except FAILED as error:
        what = " and ".join(names) or "the free space"
        raise DeviceError(f"{what}: could not be wiped from the card: {_said(error)}") from None
    return msgspec.structs.replace(known, wipe=(), said={})


# Reset ------------------------------------------------------------------------------------------------------------


def _is_reset_wanted(run: _Run) -> bool:
    if reset.is_begun(run.data) or (RESET in run.found.files and not run.found.files[RESET].strip()):
        return True
    try:
        config = generations.read(run.data).get(generations.CONFIG)
        return run.tools.held(config)
    except DeviceError as error:
        run.card.notes.append(f"the buttons cannot be read: {error}")
        return False


def _reset(run: _Run) -> Ended:
    """Delete everything; the wish for it last."""
    for name in run.begun:
        run.card.open_up()
        erasing.wipe(run.found.paths[name])
    reset.reset(run.data)
    if RESET in run.found.paths:
        run.card.remove(run.found.paths[RESET])
    _tell(run.card, words.was_reset(), run.tools, run.now)
    return Ended(Outcome(applied=(RESET,), at=int(run.now)), restart=True)


# Said -------------------------------------------------------------------------------------------------------------


def _tell(card: Card, lines: list[str], tools: Tools, now: float) -> None:
    """Write RESULT.txt; that it cannot be written stops nothing."""
    if not card.folder.is_dir():
        return
    try:
        words.tell(card, lines, tools.version, now)
    except FAILED as error:
        card.notes.append(f"{RESULT}: {_said(error)}")


def _said(error: Exception) -> str:
    if isinstance(error, OSError):
        return ": ".join(str(part) for part in (error.filename, error.strerror or error) if part)
    return str(error)
