"""Bundle: an incident in one file: a zip of journal segments and facts, and a manifest of what is in it and what not.

    manifest.json           Manifest
    <place>/00000001.mmj    segments as they were, stored without compression; a place's numbers have no hole
    <name>.json, .txt       facts, without secrets

Invariant: nothing is unpacked that the manifest does not name, and no byte more than it says; no file of a bundle can
be written outside the folder. It must not know what is worth putting into one.
"""

import hashlib
import os
import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import msgspec

from mmpi.errors import ConfigError, JournalError
from mmpi.instrument import Nanos

FORMAT: Final = 1
WHAT: Final = "mmpi incident bundle"
MANIFEST: Final = "manifest.json"
LEDGER: Final = "ledger"
"""The place of the durable ledger's segments; those of all others are of an engine's journal, which replays."""
CHUNK: Final = 256 * 1024
MAX_MANIFEST: Final = 16 * 2**20
MAX_FACT: Final = 16 * 2**20
SPARE: Final = 16 * 2**20
"""Bytes of the temporary folder's disk that stay free."""
_SEGMENT: Final = re.compile(r"([a-z0-9][A-Za-z0-9._-]{0,63})/(\d{8,20}\.mmj(?:\.zst)?)")
_BROKEN: Final = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError)
"""What zipfile raises for a file that is damaged, encrypted, or packed in a way that it does not know."""

Size = Annotated[int, msgspec.Meta(ge=0)]


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One file in a bundle; segments have a place, and the time that they cover, both ends included."""

    name: str
    bytes: Size
    sha256: str
    place: str = ""
    source: str = ""
    """Where it was."""
    first_ts: Nanos = 0
    last_ts: Nanos = 0
    interval: str = ""


class Missing(msgspec.Struct, frozen=True):
    """What could not be put in, and why."""

    what: str
    why: str


class Manifest(msgspec.Struct, frozen=True):
    """What a bundle says of itself."""

    format: int
    what: str
    device_id: str
    mmpi: str
    """The build that made it."""
    made_at: str
    around: str
    """What was asked for."""
    around_ts: Nanos
    first_ts: Nanos
    last_ts: Nanos
    interval: str
    files: tuple[Entry, ...] = ()
    missing: tuple[Missing, ...] = ()
    redacted: tuple[str, ...] = ()
    """Files in which something that looked like a secret was replaced."""


class Unpacked(msgspec.Struct, frozen=True):
    """A bundle whose segments lie in folders."""

    manifest: Manifest
    folders: dict[str, Path]
    """Place -> folder, in the order of time; the ledger last."""
    damage: tuple[str, ...]
    """What is not as the manifest says."""


def is_bundle(path: Path) -> bool:
    """Return whether a file is a zip, by how it begins."""
    try:
        with path.open("rb") as file:
            return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")
    except OSError:
        return False


@contextmanager
def unpacked(path: Path, moved: Callable[[int], None] = lambda _: None) -> Iterator[Unpacked]:
    """Give a bundle's segments in a temporary folder, which is deleted at the end; `moved` is told of the bytes.

    ConfigError if it is no bundle, or there is no room; JournalError if it cannot be read.
    """
    with tempfile.TemporaryDirectory(prefix="mmpi-bundle-") as name:
        try:
            with zipfile.ZipFile(path) as packed:
                found = _unpack(path, packed, _manifest(path, packed), Path(name), moved)
        except OSError as error:
            raise ConfigError(f"{path}: cannot be unpacked: {error.strerror or error}") from None
        except zipfile.BadZipFile as error:
            raise JournalError(f"{path}: not a whole zip file: {error}") from None
        yield found


def _unpack(
    path: Path, packed: zipfile.ZipFile, manifest: Manifest, folder: Path, moved: Callable[[int], None]
) -> Unpacked:
    needed = sum(entry.bytes for entry in manifest.files if entry.place)
    if needed > path.stat().st_size or any(entry.bytes > MAX_FACT for entry in manifest.files if not entry.place):
        raise JournalError(f"{path}: its {MANIFEST} names more bytes than are in it; nothing is unpacked")
    free = shutil.disk_usage(folder).free
    if needed + SPARE > free:
        raise ConfigError(
            f"{path}: unpacked it takes {needed / 1e6:.1f} MB, and {folder.parent} has {free / 1e6:.1f} MB free; "
            "allowed: a folder with more room in TMPDIR"
        )
    for entry in manifest.files:
        name = _SEGMENT.fullmatch(entry.name)
        if entry.place and (name is None or name[1] != entry.place):
            raise JournalError(f"{path}: {entry.name!r}: not the name of a segment; nothing is unpacked")
    begins: dict[str, Nanos] = {}
    damage: list[str] = []
    for entry in manifest.files:
        target = folder / entry.name if entry.place else None
        if target is not None:
            target.parent.mkdir(exist_ok=True)
        if why := _take(packed, entry, target, moved):
            damage.append(f"{entry.name}: {why}")
        if target is not None and target.exists():
            # 0 = its times are not known.
            begins[entry.place] = begins.get(entry.place) or entry.first_ts
    places = sorted(begins, key=lambda place: (place == LEDGER, begins[place], place))
    return Unpacked(manifest, {place: folder / place for place in places}, tuple(damage))


def _take(packed: zipfile.ZipFile, entry: Entry, target: Path | None, moved: Callable[[int], None]) -> str:
    """Unpack one file, or only look at it; return what is wrong with it, "" = nothing."""
    try:
        info = packed.getinfo(entry.name)
    except KeyError:
        return "it is in the manifest, and not in the file"
    if info.file_size != entry.bytes:
        return f"it has {info.file_size} bytes; the manifest says {entry.bytes}"
    digest, left = hashlib.sha256(), entry.bytes
    try:
        with packed.open(info) as source, open(target or os.devnull, "wb") as out:
            while left and (chunk := source.read(min(CHUNK, left))):
                digest.update(chunk)
                out.write(chunk)
                left -= len(chunk)
                moved(len(chunk))
            # Whoever stops before the end is not told that the checksum is wrong.
            source.read(1)
    except _BROKEN as error:
        return f"it cannot be read: {error}"
    return "" if digest.hexdigest() == entry.sha256 else "its SHA-256 is not the manifest's"


def _manifest(path: Path, packed: zipfile.ZipFile) -> Manifest:
    try:
        info = packed.getinfo(MANIFEST)
    except KeyError:
        raise ConfigError(f"{path}: a zip file, but no bundle: there is no {MANIFEST} in it") from None
    if info.file_size > MAX_MANIFEST:
        raise ConfigError(f"{path}: no bundle: its {MANIFEST} has {info.file_size} bytes; allowed: {MAX_MANIFEST}")
    try:
        with packed.open(info) as file:
            manifest = msgspec.json.decode(file.read(MAX_MANIFEST), type=Manifest)
    except (*_BROKEN, msgspec.MsgspecError) as error:
        raise JournalError(f"{path}: {MANIFEST} cannot be read: {error}") from None
    if manifest.what != WHAT or manifest.format != FORMAT:
        found = f"{manifest.what[:40]!r} of format {manifest.format}"
        raise ConfigError(f"{path}: {found}; this version reads {WHAT!r} of format {FORMAT}")
    return manifest
