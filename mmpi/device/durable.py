"""Durable: a small file put in another's place so that a power cut at any moment leaves the old or the new one.

Invariant: when `replace` returns, the new content is on the disk under its name. It must not know what is in a file.
"""

import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

MODE: Final = 0o640
"""Quoter and guardian are two users of one group (docs/service.md)."""


FRESH: Final = ".new"
"""How the name of a file ends that is to be put in another's place."""


def replace(path: Path, data: bytes) -> None:
    """Put data at path, making its folder; OSError if that could not be confirmed: then it is the old or the new."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_name(path.name + FRESH)
    # Left over by a cut, and perhaps another user's.
    fresh.unlink(missing_ok=True)
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE)
    try:
        try:
            if os.write(fd, data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(fresh, path)
    except OSError:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Return once the folder's names are on the disk."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
