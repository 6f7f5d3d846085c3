"""Held: the pauses that a person set; they outlive a power loss, as the person's wish does.

Invariant: what cannot be read as an intact record is one pause by hand. It must not know what a pause does.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from mmpi.device import durable
from mmpi.errors import DeviceError

VERSION: Final = 1
MAX_FILE: Final = 16 * 1024


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    held: dict[str, str]


class Held:
    """The file at `path`. Calls block on the disk: run them in a thread, one at a time."""

    def __init__(self, path: Path) -> None:
        self.path: Final = path

    def load(self) -> dict[str, str]:
        """Return cause -> who set it; no file = none; never raises."""
        try:
            with self.path.open("rb") as file:
                data = file.read(MAX_FILE + 1)
            content = msgspec.json.decode(data, type=_File)
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            return {"by_hand": f"{self.path} is not trusted: {error}"}
        if content.version != VERSION:
            return {"by_hand": f"{self.path} is not trusted: its version is {content.version}, not {VERSION}"}
        return content.held

    def store(self, held: Mapping[str, str]) -> None:
        """Write durably: the whole new record or the old one; DeviceError if that could not be confirmed."""
        data = msgspec.json.encode(_File(VERSION, {name: by[:200] for name, by in held.items()})) + b"\n"
        try:
            durable.replace(self.path, data)
        except OSError as error:
            raise DeviceError(f"{self.path}: the pause was not written: {error.strerror}") from error
