"""Entries: what a journal holds beside events and actions.

Invariant: fields are only ever added, at the end and with a default (mmpi.journal.schema). It must not know files.
"""

from typing import Final

import msgspec

from mmpi.instrument import Nanos

CLEAN, FAILED, KILLED, POWER, FIRST = "clean", "failed", "killed", "power", "first"
ENDINGS: Final = {
    CLEAN: "it was told to stop, and did",
    FAILED: "it ended by itself, because of an error",
    KILLED: "it ended without a word, while the machine went on: killed, or crashed",
    POWER: "the machine ended first: power, or the kernel",
    FIRST: "there was no run before",
}
"""How a run ended."""


class Checkpoint(msgspec.Struct, frozen=True):
    """All that rebuilds the engine as it was before a segment's first event; the two `engine_` fields are opaque."""

    digest: str
    """SHA-256 of the settings that decide behaviour."""
    cl_ord_prefix: str
    """Instance id and run epoch, the constant front of every ClOrdId of this run."""
    mmpi_version: str
    engine_config: bytes
    engine_state: bytes


class Gap(msgspec.Struct, frozen=True, array_like=True):
    """Records that could not be written, or were dropped by policy: how many, since when, and why."""

    records: int
    since: Nanos
    why: str


class Commit(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The first record of each commit of the ledger: its number over the ledger's life, and the wall clock."""

    number: int
    at: Nanos


class Ending(msgspec.Struct, frozen=True, array_like=True):
    """How a run ended (ENDINGS), and what was said of it."""

    kind: str
    reason: str = ""

    def __str__(self) -> str:
        """Return it as people read it."""
        return f"{self.kind}: {self.reason or ENDINGS.get(self.kind, '')}"


class Run(msgspec.Struct, frozen=True, array_like=True):
    """A run of the quoter begins; committed before its first order."""

    cl_ord_prefix: str
    scope: str
    """Whose money this is: venue, network, mode and account."""
    digest: str
    mmpi_version: str
    boot_id: str
    at: Nanos
    """Wall clock."""
    before: Ending
    """How the run before it ended."""
    repaired: tuple[str, ...] = ()
    """What was cut off, or skipped, when the ledger was read."""


class ConfigText(msgspec.Struct, frozen=True, array_like=True):
    """A configuration that was not the one before: its digest, and its resolved text in JSON, zlib."""

    digest: str
    text: bytes


class Session(msgspec.Struct, frozen=True, array_like=True):
    """The account's session as it was after an event."""

    scope: str
    cl_ord_prefix: str
    state: bytes
    """JSON of a mmpi.session.SessionState: its money may be more than 64 bits."""
    history_ms: int = -1
    """Fills of the venue from then on are ours to count (its clock, milliseconds); -1 = not known."""
    armed: int = 0
    """Generation of the latch record that limits are measured from."""
    exec_ids: tuple[str, ...] = ()
    """At the start of a segment: the last fills that are counted."""
    boot_id: str = ""
    """In which boot of the machine."""
    funded_ms: int = -1
    """When the last funding payment that the venue has told of was made (its clock); -1 = it has told of none."""


class Intent(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An order that is about to be sent (`journal.intent_durability` fsync)."""

    ts: Nanos
    instrument: str
    cl_ord_id: str
    side: int
    price: int
    size: int
