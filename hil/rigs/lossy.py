"""Lossy: a disk that outlives power cuts as a real one does, without what was not flushed.

    with Lossy(folder, lambda place, image: ServedDisk(place, image=image), first) as lossy:
        Virt(..., disk=lossy.disk.socket)
        lossy.lose(dice)         # the power has gone; lossy.disk is another one now

Invariant: what a flush or forced unit access has made safe before the power went is there afterwards; what was sent
later is not. It must not know what is written, nor by whom.
"""

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Generic, Self, TypeVar

from hil.disk_log import DiskLog
from hil.logged_disk import ServedDisk
from hil.power_cut import VARIANTS, image_at

Served = TypeVar("Served", bound=ServedDisk)


class Lossy(Generic[Served]):
    """One disk after another, each with what the last one had when the power went; a context manager."""

    def __init__(self, folder: Path, make: Callable[[Path, Path | None], Served], first: Path | None = None) -> None:
        """`make` gives a disk in a folder with an image's content, or an empty one; `first` is the first one's."""
        self._folder: Final = folder
        self._make: Final = make
        self._first: Final = first
        self._number = 0

    def __enter__(self) -> Self:
        self._begin(self._first)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the disk that there is; between two of them there is none."""
        self.disk.__exit__(kind, error, trace)

    def refuse_writes(self) -> None:
        """Answer every write from now on with an error, as a card that has worn out does."""
        self.disk.fail_writes()
        self.disk.fail_flushes()

    def lose(self, dice: random.Random) -> None:
        """Be what is left after a cut, or after writes were refused; nobody has anything on it open."""
        before, left = self._place(), self._folder / f"left{self._number}.img"
        self.disk.cut()
        self.disk.__exit__(None, None, None)
        with DiskLog(self.disk.log) as log:
            image_at(log, None, self.disk.base, left, seed=dice.randrange(2**32), **dice.choice(VARIANTS))
        shutil.rmtree(before)
        self._begin(left)
        left.unlink()

    def renew(self) -> None:
        """Be a disk as the first one was; nobody has anything on it open."""
        self.disk.__exit__(None, None, None)
        shutil.rmtree(self._place())
        self._begin(self._first)

    def _begin(self, image: Path | None) -> None:
        self._number += 1
        self._place().mkdir(parents=True)
        self.disk = self._make(self._place(), image)
        self.disk.__enter__()

    def _place(self) -> Path:
        return self._folder / f"disk{self._number}"
