"""Card: the file system of the set-up folder, which can be written only while something has to be.

Invariant: what was read-only is read-only again when the block ends, however it ends. It must not know what is written.
"""

import os
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final

from mmpi.device.durable import sync_folder
from mmpi.errors import DeviceError

MOUNT_S: Final = 60.0
FAT: Final = ("vfat", "msdos")

Remount = Callable[[Path, str], None]
"""(mount point, "ro" or "rw"); DeviceError."""


class Card:
    """The folder and the file system under it; use it as a context manager."""

    def __init__(self, folder: Path, remount: Remount | None) -> None:
        """`remount` None: it can be written already, and stays so."""
        self.folder: Final = folder
        self.notes: Final[list[str]] = []
        """What failed and keeps nothing from working."""
        self._remount, self._opened = remount, False

    def __enter__(self) -> "Card":
        """Return the card, as it is."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Make it read-only again."""
        if self._opened and self._remount is not None:
            try:
                self._remount(mount_point(self.folder), "ro")
            except DeviceError as failed:
                self.notes.append(str(failed))

    def open_up(self) -> None:
        """Return once files can be written; DeviceError."""
        if self._remount is None or self._opened or not is_read_only(self.folder):
            return
        point = mount_point(self.folder)
        if point == Path("/"):
            raise DeviceError(f"{self.folder}: is on the root file system, which is not made writable for a set-up")
        # Before it is tried: whatever becomes of it, it ends read-only.
        self._opened = True
        self._remount(point, "rw")

    def remove(self, path: Path) -> None:
        """Delete a file of the folder durably."""
        self.open_up()
        with suppress(FileNotFoundError):
            os.unlink(path)
        sync_folder(self.folder)


def remount(point: Path, how: str) -> None:
    """Make a mounted file system read-only or writable; DeviceError with mount's own words."""
    try:
        done = subprocess.run(
            ["mount", "-o", f"remount,{how}", str(point)],
            stdin=subprocess.DEVNULL, capture_output=True, timeout=MOUNT_S, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DeviceError(f"{point}: mount -o remount,{how} did not work: {error}") from None
    if done.returncode:
        # What follows the first line says where to read more.
        said = (done.stderr.decode("utf-8", "replace").strip().splitlines() or ["it did not say why"])[0]
        raise DeviceError(f"{point}: mount -o remount,{how} failed: {said}")


def is_read_only(path: Path) -> bool:
    """Return whether the file system of a path is mounted read-only."""
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def mount_point(path: Path) -> Path:
    """Return where the file system of a path is mounted."""
    path = Path(os.path.realpath(path))
    return next(each for each in (path, *path.parents) if os.path.ismount(each))


def is_fat(path: Path) -> bool:
    """Return whether a path is on a FAT file system: one that a person's computer writes, too."""
    try:
        lines = Path("/proc/self/mountinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return False
    point = str(mount_point(path)).replace("\\", "\\134").replace(" ", "\\040").replace("\t", "\\011")
    kinds = [rest.split()[0] for line in lines for first, _, rest in (line.partition(" - "),)
             if first.split()[4] == point and rest]  # fmt: skip
    return bool(kinds) and kinds[-1] in FAT
