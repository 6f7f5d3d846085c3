"""Boot: in which boot of this machine the guardian last ran, and how that run ended: boot.json.

Invariant: what cannot be read as this very boot is a new one, and what did not say that it ended cleanly did not.
It must not know what a new boot leads to.
"""

from pathlib import Path
from typing import Final

import msgspec

from mmpi.device import durable
from mmpi.errors import DeviceError
from mmpi.instrument import Nanos

MAX_FILE: Final = 4096
"""Bytes read at most; a record takes about 250."""
CARD_RESET: Final = 0x20
"""WDIOF_CARDRESET, "Card previously reset the CPU" (linux/watchdog.h), in a watchdog's bootstatus."""
_ID_CHARACTERS: Final = frozenset("0123456789abcdef-")


class LastEnd(msgspec.Struct, frozen=True):
    """How the guardian's run before this one ended: first (there was none), clean, killed or power; and in words."""

    ended: str = "first"
    reason: str = "the guardian has not run on this box before"


class _Record(msgspec.Struct, frozen=True):
    boot_id: str
    at: Nanos
    clean: bool = False
    """The run that wrote this has ended, as it was told to."""
    before: LastEnd = LastEnd()


class BootRecord:
    """The boot in which the guardian last ran, in the file `path` (boot.json). Calls touch the disk."""

    def __init__(self, path: Path, proc_root: Path = Path("/proc"), sysfs_root: Path = Path("/sys")) -> None:
        self._path: Final = path
        self._proc: Final = proc_root
        self._sysfs: Final = sysfs_root
        self._id = ""
        """This boot's, once it was asked for: it is the one that this process began in."""

    def is_new_boot(self) -> bool:
        """Return whether the machine was booted since `remember` was last called; True if that cannot be known."""
        try:
            record = self._load()
            return record is None or record.boot_id != boot_id(self._proc)
        except DeviceError:
            return True

    def last_end(self) -> LastEnd:
        """Return how the run before this one ended; to be asked before `remember`."""
        record = self._load()
        if record is None:
            unread = LastEnd("unknown", f"{self._path} cannot be read")
            return unread if self._path.exists() else LastEnd()
        if not self.is_new_boot():
            if record.clean:
                return LastEnd("clean", "the guardian was told to end")
            return LastEnd("killed", "the guardian ended without a word, while the machine went on")
        if record.clean:
            return LastEnd("clean", "the machine was shut down, or booted anew")
        if self._was_reset():
            return LastEnd("power", "the hardware watchdog reset the machine")
        return LastEnd("power", "the machine ended first: the supply, or the kernel")

    def remember(self, now: Nanos, before: LastEnd | None = None, *, clean: bool = False) -> None:
        """Keep this boot, on disk by the return; DeviceError if it could not be kept.

        To be called once everything that a new boot leads to is durable, and `clean` at the very end of a run that was
        told to end. `now`: wall clock, for people. `before`: what `last_end` said.
        """
        self._id = self._id or boot_id(self._proc)
        data = msgspec.json.encode(_Record(self._id, now, clean, before or LastEnd())) + b"\n"
        try:
            durable.replace(self._path, data)
        except OSError as error:
            raise DeviceError(f"{self._path}: this boot was not remembered: {error.strerror}") from None

    def _load(self) -> _Record | None:
        try:
            with self._path.open("rb") as file:
                return msgspec.json.decode(file.read(MAX_FILE), type=_Record)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return None

    def _was_reset(self) -> bool:
        """Return whether the kernel knows that its watchdog reset the machine before this boot."""
        try:
            text = (self._sysfs / "class/watchdog/watchdog0/bootstatus").read_text("ascii").strip()
            return bool(int(text, 0) & CARD_RESET)
        except (OSError, ValueError):
            return False


def boot_id(proc_root: Path = Path("/proc")) -> str:
    """Return the kernel's id of this boot (proc_sys_kernel_random(5)); DeviceError if it has none."""
    path = proc_root / "sys/kernel/random/boot_id"
    try:
        text = path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise DeviceError(f"{path}: the kernel's boot id cannot be read: {error}") from None
    if len(text) != 36 or not _ID_CHARACTERS.issuperset(text):
        raise DeviceError(f"{path}: {text[:40]!r} is no boot id; allowed: a UUID in lower case")
    return text
