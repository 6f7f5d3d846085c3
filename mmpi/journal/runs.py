"""Runs: what a ledger tells of the quoter's runs: when each began, how it ended, with which configuration.

Invariant: a run that said nothing of its end has the ending that the next run found, and none if there is no next run.
It must not know files.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec

from mmpi.errors import JournalError
from mmpi.events import ExecReport
from mmpi.instrument import Nanos
from mmpi.journal.entries import FAILED, KILLED, POWER, Ending, Run
from mmpi.journal.reader import Item
from mmpi.journal.record import COMMIT, CONFIG, END, EVENT, RUN, Record, decode

UNCLEAN: Final = (FAILED, KILLED, POWER)


class RunTold(msgspec.Struct):
    """One run."""

    run: Run
    last: Nanos
    """Of the last thing that the ledger has of it."""
    commits: int = 0
    fills: int = 0
    ending: Ending | None = None
    """None = nobody has said: it is going on, or ended without a word and none has begun since."""


class Runs:
    """What was read so far."""

    def __init__(self) -> None:
        self.told: list[RunTold] = []
        self.configs: dict[str, bytes] = {}
        """Digest -> configuration, zlib-packed JSON; the last one last."""
        self.commits = 0
        self.first_commit: Nanos = 0
        self.last_commit: Nanos = 0
        self._open: Nanos = 0
        """Time of a commit whose first record, which may be a run's first, has not come yet; 0 = none."""

    def take(self, item: Item) -> None:
        """Note what a record says; all else is passed over, and so is what cannot be decoded."""
        if not isinstance(item, Record) or (item.kind == EVENT and not self.told):
            return
        if item.kind != RUN:
            self._settle()
        if item.kind in (RUN, END, COMMIT, CONFIG, EVENT):
            with suppress(JournalError):
                self._record(item.kind, decode(item))

    def _record(self, kind: int, value: Any) -> None:
        last = self.told[-1] if self.told else None
        if kind == RUN:
            if last is not None and last.ending is None:
                last.ending = value.before
            self.told.append(RunTold(value, value.at))
            self._settle()
        elif kind == COMMIT:
            self.commits += 1
            self.first_commit = self.first_commit or value.at
            self.last_commit = self._open = value.at
        elif kind == CONFIG:
            self.configs.pop(value.digest, None)
            self.configs[value.digest] = value.text
        elif last is not None and kind == END:
            last.ending = value
        elif last is not None:
            last.last = max(last.last, value.recv_ts)
            last.fills += isinstance(value, ExecReport)

    def _settle(self) -> None:
        """Count the last commit for the run that is told of in it."""
        if self._open and self.told:
            self.told[-1].last = max(self.told[-1].last, self._open)
            self.told[-1].commits += 1
        self._open = 0


def last_crash(told: Sequence[RunTold], *, running: bool) -> RunTold | None:
    """Return the last run with an unclean end; `running`: the last run of all is going on."""
    for each in reversed(told):
        ending = each.ending or (None if running and each is told[-1] else Ending(KILLED))
        if ending is not None and ending.kind in UNCLEAN:
            return each
    return None
