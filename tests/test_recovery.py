"""Recovery: what an earlier run left, read back from memory and disk, whichever is there."""

import shutil
from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest
from engine_builders import Bench, book, report
from journals import LARGE, writer

from mmpi.actions import Approved, NewOrder
from mmpi.engines import checkpoint
from mmpi.errors import DeviceError
from mmpi.events import Event, ExecReport, ExecType
from mmpi.instrument import BUY, SECOND
from mmpi.journal import cold, reader
from mmpi.journal.entries import CLEAN, FAILED, FIRST, KILLED, POWER, Ending, Intent, Run, Session
from mmpi.journal.ledger_file import LedgerFile
from mmpi.journal.record import END, EVENT, INTENT, RUN, SESSION, Record, encode_payload
from mmpi.journal.recovery import ending_of, read_ledger, read_memory, resumption, state_of, unwritten

INSTANCE, PREFIX, SCOPE = "0xaaaaaaaa", "0xaaaaaaaa00000001", "generated paper"
BEGIN = Run(PREFIX, SCOPE, "digest", "0", "boot-1", 1, Ending(FIRST))


def state(ts: int, fills: int = 0, armed: int = 1, scope: str = SCOPE) -> Session:
    """Return a session's state."""
    bench = Bench()
    bench.engine.session.fills = fills
    kept = bench.engine.session.state(ts, 0, 0, 0)
    return Session(scope, PREFIX, msgspec.json.encode(kept), 77, armed, boot_id="boot-1")


def trade(ts: int, exec_id: str) -> ExecReport:
    """Return a fill."""
    return report(ts, PREFIX + "0" * 16, ExecType.TRADE, price=1000, size=1, exec_id=exec_id)


def ledger(folder: Path, entries: Iterable[tuple[int, object]], run: Run = BEGIN) -> Path:
    """Return a ledger's folder with a run and these entries, a commit each."""
    file = LedgerFile(folder)
    opening = [(SESSION, encode_payload(state(0, scope=run.scope)))]
    file.begin(opening, [(RUN, encode_payload(run))], 1)
    for kind, value in entries:
        file.commit([(kind, encode_payload(value))], 2)
    file.close()
    return folder


def memory(folder: Path, steps: Iterable[Event | Approved | Session]) -> Path:
    """Return a folder of a journal in memory, ended by SIGKILL."""
    engine = Bench().engine
    engine.params = msgspec.structs.replace(engine.params, cl_ord_prefix=PREFIX)
    out = writer(folder, segment_bytes=LARGE, state=lambda: checkpoint(engine, "digest"))
    for step in steps:
        if isinstance(step, Approved):
            out.action(step)
        elif isinstance(step, Session):
            out.keep(SESSION, step, 0)
        else:
            out.event(step)
    return folder


def order(ts: int, cl_ord_id: str) -> Approved:
    """Return an order's intent."""
    return Approved(ts, NewOrder("A", cl_ord_id, BUY, 999, 10, 0))


def test_nothing_is_left_of_nothing(tmp_path: Path) -> None:
    """Without ledger and journal there is nothing to take up, and no run before."""
    end, left = read_ledger(tmp_path / "no"), read_memory(tmp_path / "no", INSTANCE)
    assert resumption(end, left, SCOPE, 1) is None
    assert ending_of(end, "boot-1") == Ending(FIRST)


@pytest.mark.parametrize(
    ("last", "boot", "kind"),
    [
        (None, "boot-1", KILLED),
        (None, "boot-2", POWER),
        (Ending(CLEAN), "boot-2", CLEAN),
        (Ending(FAILED, "ValueError()"), "boot-1", FAILED),
    ],
)
def test_how_a_run_ended(tmp_path: Path, last: Ending | None, boot: str, kind: str) -> None:
    """A clean end says so, an error too; without a word it was killed in this boot, or the machine ended first."""
    ledger(tmp_path, [] if last is None else [(END, last)])
    assert ending_of(read_ledger(tmp_path), boot).kind == kind


def test_a_second_run_hides_the_firsts_end(tmp_path: Path) -> None:
    """The end of the run before is not the end of the last one."""
    ledger(tmp_path, [(END, Ending(CLEAN)), (RUN, BEGIN)])
    assert ending_of(read_ledger(tmp_path), "boot-1").kind == KILLED


def test_after_a_power_cut_the_ledger_speaks(tmp_path: Path) -> None:
    """The last state, and the fills behind it, each once, are what there is."""
    entries = [(EVENT, trade(5, "1")), (SESSION, state(5, 1)), (EVENT, trade(6, "2")), (EVENT, trade(6, "2"))]
    end = read_ledger(ledger(tmp_path, entries))
    found = resumption(end, read_memory(tmp_path / "no", INSTANCE), SCOPE, 1)
    assert found is not None
    session, kept = found
    assert (session.history_ms, state_of(session).ts, kept.state.fills) == (77, 5, 1)
    assert [event.recv_ts for event in kept.later] == [6]
    assert kept.exec_ids == ("1", "2") and not kept.rearmed


def test_after_a_kill_memory_knows_more(tmp_path: Path) -> None:
    """What the ledger had no time to write is taken from memory, and is to be written into the ledger."""
    end = read_ledger(ledger(tmp_path / "l", [(EVENT, trade(5, "1")), (SESSION, state(5, 1))]))
    steps = [book(1), trade(5, "1"), state(5, 1), trade(7, "2"), state(7, 2), trade(8, "3"), book(9)]
    left = read_memory(memory(tmp_path / "m", steps), INSTANCE)
    found = resumption(end, left, SCOPE, 1)
    assert found is not None
    _, kept = found
    assert (kept.state.fills, [event.recv_ts for event in kept.later]) == (2, [8])
    assert set(kept.exec_ids) == {"1", "2", "3"}
    assert [fill.exec_id for fill in unwritten(end, left, SCOPE)] == ["2", "3"]


def test_an_older_memory_is_not_believed(tmp_path: Path) -> None:
    """A journal in memory that could not be written at the end knows less than the ledger."""
    end = read_ledger(ledger(tmp_path / "l", [(SESSION, state(9, 3))]))
    left = read_memory(memory(tmp_path / "m", [book(1), state(2, 1)]), INSTANCE)
    found = resumption(end, left, SCOPE, 1)
    assert found is not None and found[1].state.fills == 3


def test_another_accounts_session_is_its_own(tmp_path: Path) -> None:
    """Practice, paper and live, one account and another: none takes up what is another's; each is still there."""
    entries = [(SESSION, state(5, 1)), (RUN, msgspec.structs.replace(BEGIN, scope="live")),
               (SESSION, state(6, 2, scope="live")), (EVENT, trade(7, "9"))]  # fmt: skip
    end = read_ledger(ledger(tmp_path / "l", entries))
    left = read_memory(memory(tmp_path / "m", [book(1), state(8, 5, scope="live")]), INSTANCE)
    paper, live = resumption(end, left, SCOPE, 1), resumption(end, left, "live", 1)
    assert paper is not None and (paper[1].state.fills, paper[1].later) == (1, ())
    assert live is not None and live[1].state.fills == 5
    assert resumption(end, left, "third", 1) is None


def test_another_boxs_memory_is_nobodys(tmp_path: Path) -> None:
    """Orders of another instance are not ours to ask about."""
    memory(tmp_path, [book(1), order(2, PREFIX + "0" * 15 + "1")])
    assert read_memory(tmp_path, INSTANCE).live and not read_memory(tmp_path, "0xbbbbbbbb").live


def test_orders_in_doubt_are_those_without_an_end(tmp_path: Path) -> None:
    """An intent in memory is in doubt until the venue's last word on it was heard."""
    first, second = PREFIX + "0" * 15 + "1", PREFIX + "0" * 15 + "2"
    steps = [book(1), order(2, first), order(2, second), report(3, first, ExecType.CANCELED), state(3)]
    left = read_memory(memory(tmp_path / "m", steps), INSTANCE)
    found = resumption(read_ledger(tmp_path / "no"), left, SCOPE, 1)
    assert found is not None
    assert [row[0] for row in found[1].doubtful["A"]] == [second]


def test_intents_on_the_disk_are_in_doubt(tmp_path: Path) -> None:
    """After a power cut the orders are those whose intents were committed; a clean end leaves none."""
    intent = (INTENT, Intent(5, "A", PREFIX + "0" * 15 + "7", 1, 999, 10))
    nothing = read_memory(tmp_path / "no", INSTANCE)
    cut = resumption(read_ledger(ledger(tmp_path / "cut", [intent])), nothing, SCOPE, 1)
    clean = resumption(read_ledger(ledger(tmp_path / "clean", [intent, (END, Ending(CLEAN))])), nothing, SCOPE, 1)
    assert cut is not None and clean is not None
    assert [row[:6] for row in cut[1].doubtful["A"]] == [(intent[1].cl_ord_id, "", 1, 999, 10, 0)]
    assert clean[1].doubtful == {}


def test_a_person_who_armed_since_is_seen(tmp_path: Path) -> None:
    """Another arming in force than the state knows means that somebody armed; latched means that nobody did."""
    end, nothing = read_ledger(ledger(tmp_path, [(SESSION, state(5, armed=4))])), read_memory(tmp_path / "no", INSTANCE)
    rearmed = [found[1].rearmed for armed in (0, 3, 4, 5) if (found := resumption(end, nothing, SCOPE, armed))]
    assert rearmed == [False, True, False, True]


def test_damage_is_told_and_not_written_to(tmp_path: Path) -> None:
    """A ledger with a wrong bit in its middle still speaks, says what it lost, and goes on in another segment."""
    ledger(tmp_path, [(EVENT, trade(5, "1")), (EVENT, trade(6, "2")), (EVENT, trade(7, "3"))])
    path = tmp_path / "00000001.mmj"
    data = bytearray(path.read_bytes())
    data[2 * 4096 + 60] ^= 1
    path.write_bytes(data)
    end = read_ledger(tmp_path)
    assert end.path is None and end.number == 1 and len(end.repaired) == 1
    assert [event.exec_id for event in end.sessions[SCOPE].later] == ["1", "3"]


@pytest.mark.parametrize("missing", [1, 2, 3])
def test_a_state_is_not_believed_without_the_fills_that_it_counts(tmp_path: Path, missing: int) -> None:
    """A cut in a commit may leave the state at its end whole and fills before it not: the state before it counts, with
    the fills that are whole, so that the others are counted once when the venue tells of them."""
    file = LedgerFile(tmp_path)
    file.begin([(SESSION, encode_payload(state(0)))], [(RUN, encode_payload(BEGIN))], 1)
    before = file._end
    fills = [(EVENT, encode_payload(trade(number, f"{number:0200d}"))) for number in range(8)]
    file.commit([*fills, (SESSION, encode_payload(state(9, fills=8)))], 2)
    file.close()
    (path,) = tmp_path.glob("*.mmj")
    data = bytearray(path.read_bytes())
    start = before + missing * 512
    data[start : start + 512] = bytes(512)
    path.write_bytes(data)
    end = read_ledger(tmp_path)
    told = end.sessions[SCOPE]
    assert state_of(told.session).fills == 0
    assert 0 < len(told.later) == len(told.ids) < 8
    assert end.path is None and any("torn tail" in text for text in end.repaired)
    # The fills are as they are in the file, each once.
    kept = {item.number for item in reader.read(tmp_path) if isinstance(item, Record) and item.kind == EVENT}
    assert len(kept) == len(told.later)


def test_a_ledger_that_cannot_be_read_says_nothing(tmp_path: Path) -> None:
    """Garbage in place of a ledger is told, and a new ledger begins behind it."""
    (tmp_path / "00000007.mmj").write_bytes(b"garbage" * 100)
    end = read_ledger(tmp_path)
    assert (end.path, end.number, end.sessions) == (None, 7, {}) and end.repaired
    shutil.rmtree(tmp_path)
    assert read_ledger(tmp_path).repaired == []


def test_old_intents_are_the_venues_to_list(tmp_path: Path) -> None:
    """Of thousands of intents those are in doubt that may still have been under way when the power went."""
    many = [(INTENT, Intent(second * SECOND, "A", f"{PREFIX}{second:016x}", 1, 999, 10)) for second in range(1, 300)]
    found = resumption(read_ledger(ledger(tmp_path, many)), read_memory(tmp_path / "no", INSTANCE), SCOPE, 1)
    assert found is not None
    assert [int(row[0][-16:], 16) for row in found[1].doubtful["A"]] == list(range(289, 300))


def test_a_disk_that_does_not_give_the_ledger_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """EIO anywhere is no torn tail: nothing is taken up, and nothing cut off."""
    ledger(tmp_path, [(EVENT, trade(at, str(at))) for at in range(1, 60)])
    before = (tmp_path / "00000001.mmj").read_bytes()
    real = cold.open_segment

    class Bad:
        """A file whose blocks behind some place cannot be read."""

        def __init__(self, path: Path, good: int) -> None:
            self.file, self.good = real(path), good

        def __enter__(self) -> "Bad":
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

        def read(self, size: int) -> bytes:
            if self.file.tell() >= self.good:
                raise OSError(5, "Input/output error")
            return self.file.read(min(size, self.good - self.file.tell()))

    for good in (0, 4096, 64 * 1024):
        monkeypatch.setattr(reader, "open_segment", lambda path, good=good: Bad(path, good))
        with pytest.raises(DeviceError, match="the ledger cannot be read"):
            read_ledger(tmp_path)
    assert (tmp_path / "00000001.mmj").read_bytes() == before


def test_a_run_whose_beginning_is_gone_still_counts(tmp_path: Path) -> None:
    """With the segment pruned that says that the run began, its later fills are known all the same."""
    file = LedgerFile(tmp_path)
    file.begin([(SESSION, encode_payload(state(0)))], [(RUN, encode_payload(BEGIN))], 1)
    file.begin([(SESSION, encode_payload(state(5, 1)))], [(EVENT, encode_payload(trade(6, "2")))], 2)
    file.close()
    (tmp_path / "00000001.mmj").unlink()
    assert [event.exec_id for event in read_ledger(tmp_path).sessions[SCOPE].later] == ["2"]


def test_a_fill_that_the_venue_tells_again_is_not_counted_again(tmp_path: Path) -> None:
    """What the run's checkpoint knows as counted is no later fill, though its report is in memory once more."""
    engine = Bench().engine
    engine.params = msgspec.structs.replace(engine.params, cl_ord_prefix=PREFIX)
    engine.desks["A"].orders.exec_ids["1"] = None
    out = writer(tmp_path, segment_bytes=LARGE, state=lambda: checkpoint(engine, "digest"))
    out.event(book(1))
    out.keep(SESSION, state(5, 1), 0)
    out.event(trade(6, "1"))
    out.event(trade(7, "2"))
    found = resumption(read_ledger(tmp_path / "no"), read_memory(tmp_path, INSTANCE), SCOPE, 1)
    assert found is not None
    assert [event.recv_ts for event in found[1].later] == [7]
