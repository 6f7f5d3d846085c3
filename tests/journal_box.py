"""Journal box: a box of one's own with journals in it, real engines' and real ledgers', and the commands on them."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from ended import Ended
from engine_builders import Bench, book, report

from mmpi.cli import main
from mmpi.engine import Engine
from mmpi.engines import checkpoint
from mmpi.events import Connected, Event, ExecReport, ExecType, Reconciled
from mmpi.instrument import SECOND, Nanos
from mmpi.journal.entries import CLEAN, FIRST, ConfigText, Ending, Run, Session
from mmpi.journal.ledger_file import Entry, LedgerFile
from mmpi.journal.record import CONFIG, END, EVENT, RUN, SESSION, encode_payload
from mmpi.journal.writer import JournalWriter
from mmpi.session import SessionState

START: Nanos = 1_795_899_240 * SECOND
"""2026-11-28T20:54:00Z."""
PREFIX = "0x" + "00" * 8
"""Of engine_builders' engines."""


class JournalBox:
    """Folders of a box, and commands that see no others."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self.folder, self.state, self.runtime = folder, folder / "state", folder / "run"
        self.memory, self.ledger = self.runtime / "journal", self.state / "journal"
        self._capfd = capfd
        for name in [name for name in os.environ if name.startswith("MMPI_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("MMPI_PATHS__STATE_DIR", str(self.state))
        monkeypatch.setenv("MMPI_PATHS__RUNTIME_DIR", str(self.runtime))

    def __call__(self, *argv: object) -> Ended:
        """Run `mmpi` with these words."""
        self._capfd.readouterr()
        try:
            code = main([str(word) for word in argv])
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
        return Ended(code, *self._capfd.readouterr())

    def journal(self, *words: object) -> Ended:
        """Run `mmpi journal` with these words."""
        return self("journal", *words)


# An engine's journal ----------------------------------------------------------------------------------------------


def events(seconds: int, start: Nanos = START) -> Iterator[Event]:
    """Return a connection, and a book a second whose price moves, so that orders are placed and moved."""
    yield Connected(start, "sim")
    yield Reconciled(start + 1, "sim", (), ())
    for second in range(seconds):
        at = start + (second + 1) * SECOND
        move = (second * 7) % 5 * 3
        yield book(at, 999 + move, 1001 + move)


class Running:
    """An engine that writes its journal; each order is answered, so that it goes on placing."""

    def __init__(self, folder: Path, segment_bytes: int = 2**20) -> None:
        self.engine: Engine = Bench().engine
        self.actions = 0
        self._placed = self._fills = 0
        self.out = JournalWriter(
            folder, segment_bytes=segment_bytes, max_bytes=None, checkpoint=lambda: checkpoint(self.engine, "d")
        )

    def feed(self, happened: Iterable[Event]) -> "Running":
        """Handle events, and what the venue says to the actions."""
        for event in happened:
            for approved in self._handle(event):
                cl_ord_id = getattr(approved.action, "cl_ord_id", "")
                new = type(approved.action).__name__ == "NewOrder"
                if cl_ord_id:
                    what = ExecType.NEW if new else ExecType.CANCELED
                    self._handle(report(event.recv_ts + 1000, cl_ord_id, what))
                self._placed += new
                if new and self._placed % 4 == 0:
                    self._fill(approved.action, event.recv_ts + 2000)
        return self

    def _handle(self, event: Event) -> list[Any]:
        assert self.out.event(event)
        done = self.engine.handle(event)
        for approved in done:
            assert self.out.action(approved)
        self.actions += len(done)
        return done

    def _fill(self, action: Any, at: Nanos) -> None:
        self._fills += 1
        fill = report(
            at, action.cl_ord_id, ExecType.TRADE, size=1, price=action.price, side=action.side, fee=7,
            exec_id=f"x{self._fills}",
        )  # fmt: skip
        self._handle(fill)

    def killed(self) -> "Running":
        """End without a word."""
        os.close(self.out._fd)
        return self

    def stopped(self) -> "Running":
        """End with one."""
        self.out.close()
        return self


def ran(folder: Path, seconds: int = 20, start: Nanos = START, segment_bytes: int = 2**20) -> Running:
    """Return a run that was stopped."""
    return Running(folder, segment_bytes).feed(events(seconds, start)).stopped()


# A ledger ---------------------------------------------------------------------------------------------------------


def state(ts: Nanos, **more: Any) -> SessionState:
    """Return a session's state without an instrument."""
    content = {
        "ts": ts, "began": START, "ends": START + 10**15, "instruments": {}, "base": 0, "peak": 0, "breach": "",
        "accepted": {}, "wires": (0, 0, 0, (), {}), **more,
    }  # fmt: skip
    return msgspec.convert(content, SessionState)


def session(ts: Nanos, prefix: str = PREFIX, **more: Any) -> Session:
    """Return what a ledger has of a session."""
    return Session("sim paper", prefix, msgspec.json.encode(state(ts, **more)))


def run_entry(prefix: str, at: Nanos, before: str = FIRST, digest: str = "d" * 64) -> Run:
    """Return a run that begins."""
    return Run(prefix, "sim paper", digest, "0.1.0+00000000", "boot", at, Ending(before))


def fill_entry(ts: Nanos, exec_id: str) -> ExecReport:
    """Return a fill."""
    return report(ts, PREFIX + "01", ExecType.TRADE, size=3, price=1000, exec_id=exec_id, fee=5)


def entry(kind: int, value: object) -> Entry:
    """Return a record of a ledger."""
    return kind, encode_payload(value)


class LedgerMaker:
    """A ledger written as the quoter does."""

    def __init__(self, folder: Path, segment_bytes: int = 2**20) -> None:
        self._file = LedgerFile(folder, segment_bytes=segment_bytes)

    def commit(self, at: Nanos, *entries: tuple[int, object]) -> "LedgerMaker":
        """Commit records."""
        packed = [entry(kind, value) for kind, value in entries]
        if self._file.has_room(packed):
            self._file.commit(packed, at)
        else:
            self._file.begin([entry(SESSION, session(at))], packed, at)
        return self

    def run(self, at: Nanos, prefix: str = PREFIX, before: str = FIRST, digest: str = "d" * 64) -> "LedgerMaker":
        """Begin a run."""
        return self.commit(at, (RUN, run_entry(prefix, at, before, digest)))

    def config(self, at: Nanos, digest: str, packed: bytes) -> "LedgerMaker":
        """Commit a configuration."""
        return self.commit(at, (CONFIG, ConfigText(digest, packed)))

    def fill(self, at: Nanos, exec_id: str = "1") -> "LedgerMaker":
        """Commit a fill of 5 s ago."""
        return self.commit(at, (EVENT, fill_entry(at - 5 * SECOND, exec_id)))

    def end(self, at: Nanos, kind: str = CLEAN, reason: str = "") -> "LedgerMaker":
        """End the run."""
        return self.commit(at, (END, Ending(kind, reason)))

    def close(self) -> None:
        """Close the file."""
        self._file.close()
