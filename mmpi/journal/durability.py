"""Durability: what is kept how safely; the one table. docs/journal.md is made from it.

Invariant: what is not named here is routine. It must not know how anything is written.
"""

from enum import Enum
from typing import Final

import msgspec


class Durability(Enum):
    """When something is on the disk."""

    AT_ONCE = "at once"
    """Before whatever depends on it goes on."""
    SOON = "within 15 s"
    """And at once when the supply fails, quoting is halted, or the process is told to end."""
    ROUTINE = "routine"
    """Perhaps never: it is in memory, until the cap."""


class Kept(msgspec.Struct, frozen=True):
    """One row: what, how safely, where, and what it is for."""

    what: str
    durability: Durability
    where: str
    why: str


_LEDGER: Final = "ledger"

TABLE: Final = (
    Kept("latch", Durability.AT_ONCE, "`latch.json`", "latched is latched, whatever happens (I3)"),
    Kept("pauses by a person", Durability.AT_ONCE, "`held.json`", "they outlive a power loss"),
    Kept("instance id, run epoch", Durability.AT_ONCE, "`instance`, `epoch`", "no ClOrdId is ever used twice (I2)"),
    Kept("run", Durability.AT_ONCE, _LEDGER, "a run that begins: its ids, its configuration, how the one before ended"),
    Kept("config", Durability.AT_ONCE, _LEDGER, "a configuration that is not the one before"),
    Kept("end", Durability.AT_ONCE, _LEDGER, "the marker of a clean end, or the error that ended the run"),
    Kept("intent", Durability.AT_ONCE, _LEDGER, "an order before it is sent, with `intent_durability` fsync"),
    Kept("breach", Durability.AT_ONCE, _LEDGER, "a limit that was touched"),
    Kept("fill", Durability.SOON, _LEDGER, "a fill of ours, and a funding payment"),
    Kept("session", Durability.SOON, _LEDGER, "positions, profit, peak, day's loss, counters"),
    Kept("event", Durability.ROUTINE, "memory", "what the engine was told"),
    Kept("action", Durability.ROUTINE, "memory", "what it answered; in memory before it is sent (I2)"),
    Kept("checkpoint", Durability.ROUTINE, "memory", "the whole engine, at the start of each segment"),
    Kept("status", Durability.ROUTINE, "memory", "the board of the last second; never written down"),
)

CLASSES: Final = {row.what: row.durability for row in TABLE}


def is_urgent(what: str) -> bool:
    """Return whether it is to be on the disk at once."""
    return CLASSES.get(what) is Durability.AT_ONCE


def markdown() -> str:
    """Return the table as docs/journal.md shows it."""
    rows = [f"| {row.what} | {row.durability.value} | {row.where} | {row.why} |" for row in TABLE]
    return "\n".join(["| what | on the disk | where | what for |", "|---|---|---|---|", *rows]) + "\n"
