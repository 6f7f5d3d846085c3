"""Record: what the last set-up did, and what is left to do of it after a power cut.

Invariant: a record that cannot be read is one of a box that was armed before: nothing is armed by a lost file (I3).
It must not know how anything is done.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from mmpi.device import durable

NAME: Final = "setup.json"
MOST: Final = 64 * 1024


class Record(msgspec.Struct, frozen=True):
    """The content of `setup.json`."""

    digest: str = ""
    """Of the files that were taken over and remain in the folder, and of the version; "" = look again."""
    settings: str = ""
    """The generation that was then in force."""
    version: str = ""
    at: int = 0
    """Seconds since 1970, by the box's clock."""
    first: bool = True
    """No set-up has come to its end yet."""
    armed: bool = False
    """There has been a latch file: the set-up never makes one again."""
    wipe: tuple[str, ...] = ()
    """Files of the folder that are stored and being wiped; after them the free space is."""
    said: dict[str, str] = {}
    """While there is something to wipe: what was taken over, for the report."""


def load(data: Path) -> Record:
    """Return the record; never raises but for a disk that cannot be read."""
    try:
        with (data / NAME).open("rb") as file:
            return msgspec.json.decode(file.read(MOST), type=Record)
    except FileNotFoundError:
        return Record()
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return Record(first=False, armed=True)


def save(data: Path, record: Record) -> None:
    """Write a record durably: the whole new one or the old one; OSError."""
    durable.replace(data / NAME, msgspec.json.encode(record) + b"\n")


def digest(files: Mapping[str, bytes], version: str) -> str:
    """Return the SHA-256, in hexadecimal, of files with their names, and of the version that read them."""
    content = [(name, hashlib.sha256(files[name]).hexdigest()) for name in sorted(files)]
    return hashlib.sha256(repr((version, content)).encode()).hexdigest()
