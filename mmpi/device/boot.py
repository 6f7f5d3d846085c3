"""Boot: in which boot of this machine the guardian last ran, how that run ended, and what was found of the boot.

All of it is in boot.json.

Invariant: what cannot be read as this very boot is a new one, what did not say that it ended cleanly did not, and a new
boot is not judged yet. It must not know what a new boot leads to, or what makes one healthy.
"""

from pathlib import Path
from typing import Final

import msgspec

from mmpi.device import durable
from mmpi.errors import DeviceError
from mmpi.instrument import Nanos

MAX_FILE: Final = 4096
"""Bytes read at most; a record takes about 400. MAX_WHY characters of at most 6 bytes of JSON each leave room."""
MAX_WHY: Final = 400
CARD_RESET: Final = 0x20
"""WDIOF_CARDRESET, "Card previously reset the CPU" (linux/watchdog.h), in a watchdog's bootstatus."""
_ID_CHARACTERS: Final = frozenset("0123456789abcdef-")
_SLOT: Final = "rauc.slot="


class LastEnd(msgspec.Struct, frozen=True):
    """How the guardian's run before this one ended: first (there was none), clean, killed or power; and in words."""

    ended: str = "first"
    reason: str = "the guardian has not run on this box before"


class Verdict(msgspec.Struct, frozen=True):
    """What `mmpi health` found of a boot, and when and where: seconds after the boot, version of mmpi, RAUC's slot."""

    healthy: bool
    why: str
    uptime_s: float | None = None
    """None = the kernel does not say."""
    version: str = ""
    slot: str = ""
    """"" = this machine has no slots."""


class _Record(msgspec.Struct, frozen=True):
    boot_id: str
    at: Nanos
    clean: bool = False
    """The run that wrote this has ended, as it was told to."""
    before: LastEnd = LastEnd()
    verdict: Verdict | None = None
    """None = not judged yet."""


class BootRecord:
    """The boot in which the guardian last ran, in the file `path` (boot.json). Calls touch the disk."""

    def __init__(self, path: Path, proc_root: Path = Path("/proc"), sysfs_root: Path = Path("/sys")) -> None:
        self._path: Final = path
        self._proc: Final = proc_root
        self._sysfs: Final = sysfs_root
        self._id = ""
        """This boot's, once it was asked for: it is the one that this process began in."""
        self.verdict: Verdict | None = None
        """Of this boot, as far as it is known here; None = not judged yet."""

    def is_new_boot(self) -> bool:
        """Return whether the machine was booted since `remember` was last called; True if that cannot be known."""
        try:
            record = self._load()
            return record is None or record.boot_id != boot_id(self._proc)
        except DeviceError:
            return True

    def last_end(self) -> LastEnd:
        """Return how the run before this one ended, and take its verdict if it was in this boot.

        To be asked before `remember`.
        """
        record = self._load()
        if record is None:
            unread = LastEnd("unknown", f"{self._path} cannot be read")
            return unread if self._path.exists() else LastEnd()
        if not self.is_new_boot():
            self.verdict = record.verdict
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
        self._store(_Record(self._id, now, clean, before or LastEnd(), self.verdict), "this boot was not remembered")

    def judge(self, healthy: bool, why: str, version: str) -> None:
        """Keep a verdict on this boot, the last one counts; DeviceError if it could not be kept.

        A boot that is not remembered yet is not remembered by this: its verdict is written when it is.
        """
        text = why[:MAX_WHY].encode("utf-8", "replace").decode()
        self.verdict = Verdict(healthy, text, self._uptime_s(), version[:40], self._slot())
        record = self._load()
        if record is not None and record.boot_id == (self._id or boot_id(self._proc)):
            self._store(msgspec.structs.replace(record, verdict=self.verdict), "the verdict on this boot was not kept")

    def _store(self, record: _Record, failed: str) -> None:
        try:
            durable.replace(self._path, msgspec.json.encode(record) + b"\n")
        except OSError as error:
            raise DeviceError(f"{self._path}: {failed}: {error.strerror}") from None

    def _load(self) -> _Record | None:
        try:
            with self._path.open("rb") as file:
                return msgspec.json.decode(file.read(MAX_FILE), type=_Record)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return None

    def _uptime_s(self) -> float | None:
        """Return the seconds since this boot (proc_uptime(5)); None if the kernel does not say."""
        try:
            return float((self._proc / "uptime").read_text("ascii").split()[0])
        except (OSError, ValueError, IndexError):
            return None

    def _slot(self) -> str:
        """Return the slot that the boot loader chose, from the kernel's command line; "" = none is named."""
        try:
            words = (self._proc / "cmdline").read_text("ascii").split()
        except (OSError, UnicodeDecodeError):
            return ""
        return next((word.removeprefix(_SLOT)[:40] for word in words if word.startswith(_SLOT)), "")

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
