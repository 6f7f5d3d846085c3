"""Reset: everything that a box has stored deleted, keys first.

Invariant: once begun it is gone through with, however often the power fails; the wish for it is the last thing that is
deleted. It must not know what the deleted files were for.
"""

import os
import stat
from pathlib import Path
from typing import Final

from mmpi.device.durable import sync_folder
from mmpi.errors import DeviceError

MARK: Final = "factory-reset"
"""In the data folder from the beginning of a reset to its end."""
HOST_KEY: Final = "systemd/credential.secret"
"""What every stored secret is encrypted with."""
KEPT: Final = ("lost+found", MARK)


def is_begun(data: Path) -> bool:
    """Return whether a reset was begun and not ended."""
    return os.path.lexists(data / MARK)


def reset(data: Path) -> None:
    """Delete everything in the data folder, and return once that is on the disk; DeviceError names what is left."""
    mark = os.open(data / MARK, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    os.fsync(mark)
    os.close(mark)
    sync_folder(data)
    _overwrite(data / HOST_KEY)
    problems: list[str] = []
    _clear(data, KEPT, problems)
    if problems:
        raise DeviceError(f"factory reset: {problems[0]}" + (f" (and {len(problems) - 1} more)" * (len(problems) > 1)))
    os.sync()
    os.unlink(data / MARK)
    sync_folder(data)


def _overwrite(path: Path) -> None:
    """Overwrite a file where it lies; none, or one that cannot be written, is deleted later with the rest."""
    try:
        os.chmod(path, 0o600)
        file = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return
    try:
        os.pwrite(file, bytes(os.fstat(file).st_size), 0)
        os.fsync(file)
    finally:
        os.close(file)


def _clear(folder: Path, kept: tuple[str, ...], problems: list[str]) -> None:
    """Delete what is in a folder, and go on where something cannot be."""
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        problems.append(f"{folder} cannot be read: {error.strerror}")
        return
    for name in names:
        path = folder / name
        if name in kept:
            continue
        try:
            if not stat.S_ISDIR(path.lstat().st_mode):
                os.unlink(path)
                continue
            _clear(path, (), problems)
            # Where something else is mounted, the place for it stays.
            if not os.path.ismount(path):
                os.rmdir(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            problems.append(f"{path} cannot be deleted: {error.strerror}")
