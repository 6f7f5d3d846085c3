"""Boot: whether this machine was booted since the guardian last ran.

Invariant: what cannot be read as this very boot is a new one. It must not know what a new boot leads to.
"""

from pathlib import Path
from typing import Final

import msgspec

from mmpi.device import durable
from mmpi.errors import DeviceError
from mmpi.instrument import Nanos

MAX_FILE: Final = 1024
"""Bytes read at most; a record takes about 70."""
_ID_CHARACTERS: Final = frozenset("0123456789abcdef-")


class _Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    boot_id: str
    at: Nanos


class BootRecord:
    """The boot in which the guardian last ran, in the file `path` (boot.json). Calls touch the disk."""

    def __init__(self, path: Path, proc_root: Path = Path("/proc")) -> None:
        self._path: Final = path
        self._proc: Final = proc_root

    def is_new_boot(self) -> bool:
        """Return whether the machine was booted since `remember` was last called; True if that cannot be known."""
        try:
            with self._path.open("rb") as file:
                before = msgspec.json.decode(file.read(MAX_FILE), type=_Record)
            return before.boot_id != self._boot_id()
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError, DeviceError):
            return True

    def remember(self, now: Nanos) -> None:
        """Keep this boot, on disk by the return; DeviceError if it could not be kept.

        To be called once everything that a new boot leads to is durable. `now`: wall clock, for people.
        """
        data = msgspec.json.encode(_Record(self._boot_id(), now)) + b"\n"
        try:
            durable.replace(self._path, data)
        except OSError as error:
            raise DeviceError(f"{self._path}: this boot was not remembered: {error.strerror}") from None

    def _boot_id(self) -> str:
        """Return the kernel's id of this boot (proc_sys_kernel_random(5)); DeviceError if it has none."""
        path = self._proc / "sys/kernel/random/boot_id"
        try:
            text = path.read_text("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise DeviceError(f"{path}: the kernel's boot id cannot be read: {error}") from None
        if len(text) != 36 or not _ID_CHARACTERS.issuperset(text):
            raise DeviceError(f"{path}: {text[:40]!r} is no boot id; allowed: a UUID in lower case")
        return text
