"""Lossy: a disk of this machine's that outlives power cuts as a real one does, without what was not flushed.

    with LossyDisk(folder, size_mb=256) as disk:
        ...                     # a box writes below disk.path
        disk.lose(dice)         # the power has gone; disk.path is another one now

It is mounted so that a file in another's place may be empty after a cut if nobody has flushed it (`noauto_da_alloc`):
no standard promises more, and not every file system gives more. Otherwise as the image mounts its data.

Invariant: what a flush or forced unit access has made safe before the power went is there afterwards; what was sent
later is not. It must not know what is written.
"""

import random
import shutil
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from hil.disk_log import DiskLog
from hil.logged_disk import LoggedDisk
from hil.power_cut import VARIANTS, image_at

OPTIONS: Final = ("noatime", "lazytime", "noauto_da_alloc")


class LossyDisk:
    """One disk after another, each with what the last one had when the power went."""

    def __init__(self, folder: Path, size_mb: int) -> None:
        self._folder: Final = folder
        self._size_mb: Final = size_mb
        self._number = 0

    def __enter__(self) -> Self:
        self._disk = self._next(None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._disk.__exit__(kind, error, trace)

    @property
    def path(self) -> Path:
        """Return where it is mounted."""
        return self._disk.path

    def refuse_writes(self) -> None:
        """Answer every write from now on with an error, as a card that has worn out does."""
        self._disk.fail_writes()
        self._disk.fail_flushes()

    def cut(self) -> None:
        """Take its power away."""
        self._disk.cut()

    def lose(self, dice: random.Random) -> None:
        """Be what is left after a cut, or after writes were refused; nobody has anything on it open."""
        number = self._number
        before = self._place(number)
        self._disk.cut()
        self._disk.__exit__(None, None, None)
        left = self._folder / f"left{number}.img"
        with DiskLog(self._disk.log) as log:
            image_at(log, None, self._disk.base, left, seed=dice.randrange(2**32), **dice.choice(VARIANTS))
        shutil.rmtree(before)
        self._disk = self._next(left)
        left.unlink()

    def renew(self) -> None:
        """Be an empty one; nobody has anything on it open."""
        self._disk.__exit__(None, None, None)
        shutil.rmtree(self._place(self._number))
        self._disk = self._next(None)

    def _next(self, image: Path | None) -> LoggedDisk:
        self._number += 1
        place = self._place(self._number)
        place.mkdir(parents=True)
        return LoggedDisk(place, self._size_mb, options=OPTIONS, image=image).__enter__()

    def _place(self, number: int) -> Path:
        return self._folder / f"disk{number}"
