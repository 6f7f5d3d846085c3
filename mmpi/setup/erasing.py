"""Erasing: files overwritten where they lie, and the free space of their file system after them.

Invariant: a file that a power cut leaves half-wiped begins with a sector of zeros or is empty (folder.is_wiped), so
that it is never taken for one that a person wrote. It must not know what was in it.

What a card's own controller keeps of a block in its spare cells is out of reach (docs/setup.md).
"""

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from mmpi.device.durable import sync_folder
from mmpi.setup.folder import FILL, SECTOR

MOST_CLUSTER: Final = 64 * 1024
"""Bytes: the largest cluster of a FAT."""
CHUNKS: Final = (1024 * 1024, 4096, SECTOR)
"""Bytes written at once; smaller ones when a larger one has no room any more."""
FULL: Final = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)

Progress = Callable[[str], None]


def wipe(path: Path) -> None:
    """Overwrite a file with zeros to the end of its last cluster, and delete it; OSError. One that is gone is wiped."""
    try:
        file = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        size = os.fstat(file).st_size
        cluster = min(max(os.statvfs(path).f_frsize, SECTOR), MOST_CLUSTER)
        _zero(file, 0, min(size, SECTOR))
        os.fsync(file)
        _zero(file, 0, size)
        os.fsync(file)
        with suppress(OSError):
            # What an earlier, longer version left behind its end; without room for that there is no such place.
            _zero(file, size, -size % cluster)
            os.fsync(file)
        os.ftruncate(file, 0)
        os.fsync(file)
    finally:
        os.close(file)
    os.unlink(path)
    sync_folder(path.parent)


def fill(folder: Path, progress: Progress) -> None:
    """Write zeros into all the free space of a folder's file system, and give it back.

    An editor that saves to a new file leaves the old one's clusters, and a secret in them, among the free ones.
    """
    path = folder / FILL
    clear(folder)
    try:
        while _fill_one(path, progress):
            # A file of a FAT has 4 GiB at most. The next one finds the rest, while this one keeps its place.
            path = path.with_name(f"{FILL}.{len(list(folder.glob(f'{FILL}*')))}")
    finally:
        clear(folder)


def clear(folder: Path) -> None:
    """Give back what a fill took, also one that a power cut ended."""
    for path in folder.glob(f"{FILL}*"):
        os.unlink(path)
    sync_folder(folder)


def _fill_one(path: Path, progress: Progress) -> bool:
    """Fill one file; return whether it was the file that ended and not the room."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    written, reason = 0, errno.ENOSPC
    try:
        for chunk in CHUNKS:
            zeros = bytes(chunk)
            try:
                while True:
                    written += os.write(file, zeros)
                    if chunk == CHUNKS[0]:
                        progress(f"wiping free space: {written // chunk} MiB")
            except OSError as error:
                if error.errno not in FULL:
                    raise
                reason = error.errno
        os.fsync(file)
    finally:
        os.close(file)
    return reason == errno.EFBIG and written > 0


def _zero(file: int, start: int, count: int) -> None:
    while count > 0:
        done = os.pwrite(file, bytes(min(count, MOST_CLUSTER)), start)
        start, count = start + done, count - done
