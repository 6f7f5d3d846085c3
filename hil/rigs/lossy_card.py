"""Lossy card: a card in a machine's reader, which loses with the power what was not flushed, and can wear out.

    with LossyCard(folder, image) as card:
        Virt(..., disk=card.socket)
        card.lose(dice)         # the power has gone; card.socket is another one now

Invariant: as of LossyDisk (hil/rigs/lossy.py). It must not know what is written, nor by whom.
"""

import random
import shutil
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from hil.disk_log import DiskLog
from hil.logged_disk import ServedDisk
from hil.power_cut import VARIANTS, image_at


class LossyCard:
    """One card after another, each with what the last one had when the power went."""

    def __init__(self, folder: Path, image: Path) -> None:
        """`image` is what the first one holds."""
        self._folder: Final = folder
        self._image: Final = image
        self._number = 0

    def __enter__(self) -> Self:
        self._card = self._next(self._image)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._card.__exit__(kind, error, trace)

    @property
    def socket(self) -> Path:
        """Return where it is served."""
        return self._card.socket

    def refuse_writes(self) -> None:
        """Answer every write from now on with an error, as a card that has worn out does."""
        self._card.fail_writes()
        self._card.fail_flushes()

    def cut(self) -> None:
        """Take its power away."""
        self._card.cut()

    def lose(self, dice: random.Random) -> None:
        """Be what is left after a cut, or after writes were refused; it is in no machine."""
        before, left = self._place(), self._folder / f"left{self._number}.img"
        self._card.cut()
        self._card.__exit__(None, None, None)
        with DiskLog(self._card.log) as log:
            image_at(log, None, self._card.base, left, seed=dice.randrange(2**32), **dice.choice(VARIANTS))
        shutil.rmtree(before)
        self._card = self._next(left)
        left.unlink()

    def renew(self) -> None:
        """Be a card as the first one was; it is in no machine."""
        self._card.__exit__(None, None, None)
        shutil.rmtree(self._place())
        self._card = self._next(self._image)

    def _next(self, image: Path) -> ServedDisk:
        self._number += 1
        return ServedDisk(self._place(), image=image).__enter__()

    def _place(self) -> Path:
        return self._folder / f"card{self._number}"
