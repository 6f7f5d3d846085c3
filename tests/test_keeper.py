"""The keeper: a run takes up what those before it left, and leaves what those after it need."""

import shutil
import zlib
from pathlib import Path

import msgspec
import pytest
from engine_builders import WIDE, book, engine_params, report
from journals import records

from mmpi.engine import Engine
from mmpi.engines import checkpoint
from mmpi.errors import DeviceError
from mmpi.events import Disconnected, Event, ExecReport, ExecType, Funding, Halted, Stopping
from mmpi.instrument import BUY, MONEY_SCALE, SECOND
from mmpi.journal.record import CONFIG, END, EVENT, RUN, SESSION, decode
from mmpi.journal.recovery import read_ledger, state_of
from mmpi.journal.writer import JournalWriter
from mmpi.risk import RiskConfig
from mmpi.runtime import keeper as keeper_module
from mmpi.runtime.keeper import EVERY, Keeper, KeeperSettings
from mmpi.runtime.step import step
from mmpi.sections import JournalSettings, PathSettings
from mmpi.session import NOTHING, Counted
from mmpi.status import StartStatus

START = 1_700_000_000 * SECOND


class Sent:
    """A gateway that takes everything and says nothing."""

    def send(self, actions: object, now: int) -> None:
        """Take them."""


class Waiting:
    """Orders that wait for the disk."""

    voids = 0

    def void(self) -> None:
        """Count."""
        self.voids += 1


class Box:
    """One run in a folder that others were in before."""

    def __init__(self, root: Path, epoch: int, risk: RiskConfig = WIDE, scope: str = "generated paper") -> None:
        self.paths = PathSettings(str(root / "state"), str(root / "run"), str(root / "secrets"))
        prefix = f"0xaaaaaaaa{epoch:08x}"
        journal = JournalSettings(commit_s=0.02)
        self.keeper = Keeper(KeeperSettings(self.paths, journal, risk.max_drawdown), prefix, scope, "digest", b"{}")
        params = msgspec.structs.replace(engine_params(risk=risk), cl_ord_prefix=prefix)
        self.engine = Engine(params)
        self.held = self.keeper.take_up(self.engine)
        self.writer = JournalWriter(
            self.paths.journal, segment_bytes=2**20, max_bytes=None, on_closed=self.keeper.cold,
            checkpoint=lambda: checkpoint(self.engine, "digest"),
        )  # fmt: skip
        self.counted = self.keeper.counted
        """Of the venue, as its session would say it."""
        self.keeper.open(self.writer, lambda: self.counted)

    def feed(self, *events: Event) -> None:
        """Handle events as the loop does."""
        for event in events:
            step(self.engine, self.writer, Sent(), event)
            self.keeper.after(event)

    def end(self) -> None:
        """End as a run does that is told to."""
        self.writer.close()
        assert self.keeper.close("")

    def vanish(self) -> None:
        """End as SIGKILL does: nothing is said any more. (The thread of this process goes on, with nothing to do.)"""
        self.keeper.ledger.close = lambda *_: False  # type: ignore[method-assign]

    def on_disk(self, kind: int) -> list[object]:
        """Return the records of a kind in the ledger."""
        return [decode(item) for item in records(Path(self.paths.state_dir) / "journal") if item.kind == kind]


def trade(second: float, exec_id: str, price: int = 1000, size: int = 10) -> ExecReport:
    """Return a fill of nobody's order."""
    return report(
        START + round(second * SECOND), "0xelse", ExecType.TRADE, side=BUY, price=price, size=size, exec_id=exec_id
    )


def test_the_first_run_begins_with_nothing(tmp_path: Path) -> None:
    """It says that there was none before; its configuration and its state are on the disk before anything else."""
    box = Box(tmp_path, 1)
    assert box.keeper.start == StartStatus("first", "there was no run before", False, 0, 0, [])
    (run,) = box.on_disk(RUN)
    (config,) = box.on_disk(CONFIG)
    assert run.cl_ord_prefix == "0xaaaaaaaa00000001" and zlib.decompress(config.text) == b"{}"  # type: ignore[attr-defined]
    assert len(box.on_disk(SESSION)) == 2
    box.end()
    assert [str(end) for end in box.on_disk(END)] == ["clean: it was told to stop, and did"]


@pytest.mark.parametrize("how", ["clean", "killed", "power"])
def test_a_second_run_goes_on(tmp_path: Path, how: str) -> None:
    """Told to end, killed, or cut off with all memory: position, cash, counters and peak are what they were."""
    first = Box(tmp_path, 1)
    first.feed(book(START), trade(1, "1", 990), trade(2, "2", 1001), Funding(START + 3 * SECOND, "A", 0, "f", 7))
    first.feed(book(START + 5 * SECOND))
    before = first.engine.desks["A"].position.checkpoint()
    if how == "power":
        first.feed(Halted(START + 6 * SECOND, False, "power"))
        end = Path(first.paths.state_dir) / "journal"
        for _ in range(500):
            if len(records(end)) > 8:
                break
            first.keeper.ledger._thread.join(0.01)
        first.vanish()
        shutil.rmtree(tmp_path / "run")
    elif how == "clean":
        first.end()
    else:
        first.vanish()
    second = Box(tmp_path, 2)
    start = second.keeper.start
    assert (start.before, start.resumed) == ({"power": "killed"}.get(how, how), True)  # the machine goes on
    after = second.engine.desks["A"].position.checkpoint()
    assert after == before and second.held == {"A": 20}
    assert (second.engine.session.fills, second.engine.gate.peak) == (2, first.engine.gate.peak)
    second.feed(book(START + 9 * SECOND), msgspec.structs.replace(trade(1, "1", 990), recv_ts=START + 9 * SECOND))
    assert second.engine.session.fills == 2
    second.end()


def test_the_ledger_has_every_fill(tmp_path: Path) -> None:
    """Those that a killed run had no time to write are written by the next one; none is there twice."""
    first = Box(tmp_path, 1)
    first.keeper.ledger._commit_s = 1000  # type: ignore[misc]
    first.feed(book(START), trade(1, "1"), trade(2, "2"))
    first.vanish()
    assert first.on_disk(EVENT) == []
    second = Box(tmp_path, 2)
    assert [fill.exec_id for fill in second.on_disk(EVENT)] == ["1", "2"]  # type: ignore[attr-defined]
    second.feed(book(START + 4 * SECOND), trade(5, "3"))
    second.end()
    third = Box(tmp_path, 3)
    assert [fill.exec_id for fill in third.on_disk(EVENT)] == ["1", "2", "3"]  # type: ignore[attr-defined]
    assert third.engine.session.fills == 3


def test_a_repeated_fill_is_kept_once(tmp_path: Path) -> None:
    """A venue repeats its list of fills at each connection: the ledger does not grow with that."""
    box = Box(tmp_path, 1)
    box.feed(book(START), *[msgspec.structs.replace(trade(1, "1"), recv_ts=START + at) for at in range(1, 50)])
    box.end()
    assert len(box.on_disk(EVENT)) == 1


def test_a_breach_is_on_the_disk_at_once(tmp_path: Path) -> None:
    """A touched limit does not wait for the next commit."""
    box = Box(tmp_path, 1, msgspec.structs.replace(WIDE, session_loss=10 * MONEY_SCALE))
    box.keeper.ledger._commit_s = 1000  # type: ignore[misc]
    box.feed(book(START), trade(1, "1", 1005))
    for _ in range(500):
        states = [state_of(each) for each in box.on_disk(SESSION)]  # type: ignore[arg-type]
        if states[-1].breach:
            break
        box.keeper.ledger._thread.join(0.01)
    assert states[-1].breach == "session_loss"
    box.end()


@pytest.mark.parametrize("turn", [Halted(START + 2 * SECOND, False, "power"), Stopping(START + 2 * SECOND, "told to")])
def test_a_failing_supply_commits_at_once(tmp_path: Path, turn: Event) -> None:
    """A halt, as for power, and the request to end do not leave fills and limits to the next commit."""
    box = Box(tmp_path, 1)
    box.keeper.ledger._commit_s = 1000  # type: ignore[misc]
    box.feed(book(START), trade(1, "1"), turn)
    for _ in range(500):
        if box.on_disk(EVENT):
            break
        box.keeper.ledger._thread.join(0.01)
    assert len(box.on_disk(EVENT)) == 1
    assert state_of(box.on_disk(SESSION)[-1]).fills == 1  # type: ignore[arg-type]
    box.end()


def test_marks_alone_cost_no_commit(tmp_path: Path) -> None:
    """A price that moves is worth no write to the disk; in memory the state is renewed every second at most."""
    box = Box(tmp_path, 1)
    box.feed(book(START), trade(1, "1"))
    for _ in range(200):
        if len(box.on_disk(EVENT)):
            break
        box.keeper.ledger._thread.join(0.01)
    commits = box.keeper.ledger.status().commits
    for tenth in range(100):
        box.feed(book(START + 2 * SECOND + tenth * SECOND // 10, 990 + tenth % 3, 996 + tenth % 3))
    box.keeper.ledger._thread.join(0.1)
    assert box.keeper.ledger.status().commits <= commits + 1
    states = [item for item in records(box.paths.journal) if item.kind == SESSION]
    assert 10 <= len(states) <= 14
    assert EVERY == SECOND
    box.end()


def test_what_was_decided_is_void_after_a_turn(tmp_path: Path) -> None:
    """Halted, stopped or disconnected: orders that wait for the disk must not leave any more."""
    box = Box(tmp_path, 1)
    box.keeper.intents = intents = Waiting()
    box.feed(book(START))
    for turn in (Halted(START + 1, False, "x"), Disconnected(START + 2, "v", "gone"), Stopping(START + 3, "asked")):
        before = intents.voids
        box.feed(turn)
        assert intents.voids > before
    box.end()


def test_from_when_on_fills_are_ours_is_on_the_disk_at_once(tmp_path: Path) -> None:
    """The first list of the venue's is known to a run after a power cut that comes before the next commit."""
    first = Box(tmp_path, 1)
    first.keeper.ledger._commit_s = 1000  # type: ignore[misc]
    first.feed(book(START))
    first.counted = Counted(5, 7000)
    first.feed(book(START + 1))
    for _ in range(500):
        if first.on_disk(SESSION)[-1].history_ms == 5:  # type: ignore[attr-defined]
            break
        first.keeper.ledger._thread.join(0.01)
    shutil.rmtree(tmp_path / "run")
    first.vanish()
    second = Box(tmp_path, 2)
    assert second.keeper.counted == Counted(5, 7000)
    second.end()


@pytest.mark.parametrize("how", ["clean", "killed", "power"])
def test_what_is_counted_of_the_venue_is_kept(tmp_path: Path, how: str) -> None:
    """What the venue's first lists say is on the disk with the next commit; a payment told again is paid once."""
    first = Box(tmp_path, 1)
    assert first.counted == NOTHING
    first.feed(book(START), trade(1, "1"))
    first.counted = Counted(5, 7000)
    first.feed(book(START + 2 * SECOND), Funding(START + 3 * SECOND, "A", 8000, "A:8", -MONEY_SCALE))
    cash = first.engine.desks["A"].position.cash
    if how == "clean":
        first.end()
    else:
        if how == "power":
            for _ in range(500):
                if len(first.on_disk(EVENT)) == 2:
                    break
                first.keeper.ledger._thread.join(0.01)
            shutil.rmtree(tmp_path / "run")
        first.vanish()
    second = Box(tmp_path, 2)
    assert second.keeper.counted == Counted(5, 7000)
    second.feed(book(START + 9 * SECOND), Funding(START + 9 * SECOND, "A", 8000, "A:8", -MONEY_SCALE))
    assert second.engine.desks["A"].position.cash == cash
    second.end()


def test_another_scope_is_another_session(tmp_path: Path) -> None:
    """Paper profits are not live ones, and both are there when their turn comes again."""
    paper = Box(tmp_path, 1)
    paper.feed(book(START), trade(1, "1"))
    paper.end()
    live = Box(tmp_path, 2, scope="hyperliquid mainnet live 0x1")
    assert (live.engine.session.fills, live.held, live.keeper.start.resumed) == (0, {"A": 0}, False)
    live.feed(book(START + 5 * SECOND), trade(6, "9", size=3))
    live.end()
    assert (Box(tmp_path, 3).held, Box(tmp_path, 4, scope="hyperliquid mainnet live 0x1").held) == ({"A": 10}, {"A": 3})


def test_a_ledger_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    """The path and the reason are named, and no run has begun."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "journal").write_text("not a folder")
    with pytest.raises(DeviceError, match="journal: the ledger cannot be written"):
        Box(tmp_path, 1)


def test_a_damaged_ledger_is_told_and_gone_on_with(tmp_path: Path) -> None:
    """One wrong bit costs its record: the status says so, and the rest is taken up."""
    first = Box(tmp_path, 1)
    first.feed(book(START), trade(1, "1"), book(START + 2 * SECOND), trade(3, "2"))
    first.end()
    path = Path(first.paths.state_dir) / "journal" / "00000001.mmj"
    data = bytearray(path.read_bytes())
    data[-300] ^= 4
    path.write_bytes(data)
    shutil.rmtree(tmp_path / "run")
    second = Box(tmp_path, 2)
    assert second.keeper.start.repaired
    assert second.engine.session.fills == 2
    second.end()
    assert read_ledger(Path(second.paths.state_dir) / "journal").ending is not None


def test_money_of_any_size_is_kept(tmp_path: Path) -> None:
    """Ten digits before the point and twelve behind it are more than 64 bits."""
    first = Box(tmp_path, 1)
    first.feed(book(START, 999_999, 1_000_001), trade(1, "1", 1_000_000, 10**6))
    assert first.engine.desks["A"].position.cash < -(2**63)
    first.end()
    second = Box(tmp_path, 2)
    assert second.engine.desks["A"].position.cash == first.engine.desks["A"].position.cash


def test_the_boot_is_the_kernels_or_the_units_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where /proc/sys cannot be seen the unit says which boot this is, in the same form; nobody's word is none."""
    here = keeper_module.this_boot({})
    assert len(here) == 32 and "-" not in here

    def hidden() -> str:
        raise DeviceError("no /proc/sys")

    monkeypatch.setattr(keeper_module, "boot_id", hidden)
    assert keeper_module.this_boot({"BOOT_ID": here}) == here
    assert keeper_module.this_boot({}) == ""
