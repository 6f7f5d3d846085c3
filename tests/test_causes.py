"""Latch or pause: the table, its page in docs, and one test for each row that the guardian finds.

Print the page: python -m tests.test_causes > docs/latch-or-pause.md (from the project's folder).
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
from engine_builders import WIDE, Bench, places
from guardian_builders import HANDS, REMOTE, FakeHand, FakePanel, FakeSense, guarding, shorten
from runtime_builders import until

from mmpi.actions import Action, CancelOrder, RequestLatch
from mmpi.causes import CAUSES, HELD, TABLE, Kind, latches, markdown, row_of
from mmpi.device.latch import Latch
from mmpi.instrument import MONEY_SCALE
from mmpi.runtime.board import LATCHED, PAUSED, RUN

PAGE = Path(__file__).resolve().parents[1] / "docs" / "latch-or-pause.md"


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut every wait that is a setting of the real world; the rules between them stay."""
    shorten(monkeypatch)


def page() -> str:
    """Return the page with the table in it anew."""
    text = PAGE.read_text("utf-8")
    return text[: text.index("| cause |")] + markdown() if "| cause |" in text else text + markdown()


def test_the_page_is_the_table() -> None:
    """docs/latch-or-pause.md shows every row as the code has it."""
    assert PAGE.read_text("utf-8") == page()


def test_every_row_has_a_test() -> None:
    """A row without a test of its name here is a promise that nobody checks."""
    tested = {*SENSED, *GUARDED, *QUOTED}
    assert tested == set(CAUSES)
    assert len(TABLE) == len(CAUSES)


def test_what_nobody_knows_latches() -> None:
    """A name that is not in the table is nobody's to end by itself."""
    assert latches("made_up") and latches("kill_button") and not latches("power")
    assert row_of("drawdown: 5 of 4") == row_of("drawdown") == "drawdown"
    assert row_of("venue: no such agent") == "venue_refusal"
    assert row_of("smoke in the kitchen") == row_of("") == "command"
    assert all(CAUSES[name].kind is Kind.PAUSE for name in HELD)


# What buttons and machine show ------------------------------------------------------------------------------------

SENSED = (
    "kill_button", "kill_contacts", "kill_bounce", "pins", "power", "undervoltage", "temperature", "throttled",
    "memory", "disk", "cpu", "hardware_watchdog", "setup",
)  # fmt: skip


@pytest.mark.parametrize("name", SENSED)
@pytest.mark.parametrize("where", ["panel", "sense"])
async def test_a_row_that_buttons_or_machine_show(tmp_path: Path, name: str, where: str) -> None:
    """A latch is on disk and outlives its cause; a pause is not, and ends with it. Both cancel everything first."""
    hand, panel, sense = FakeHand(), FakePanel(), FakeSense()
    async with guarding(tmp_path, hand, panel=panel, senses=(sense,)) as box:
        hand.place("1")
        (panel if where == "panel" else sense).causes = {name: "detail"}
        await until(lambda: box.halt.state != RUN)
        await until(lambda: box.guardian.verified_at and not hand.orders)
        assert name in box.control.status()["causes"]
        panel.causes = sense.causes = {}
        if CAUSES[name].kind is Kind.LATCH:
            await until(lambda: Latch(tmp_path / "latch.json").load().latched)
            await asyncio.sleep(0.03)
            assert (box.halt.state, box.halt.reason) == (LATCHED, f"{name}: detail")
        else:
            await until(lambda: box.halt.state == RUN)
            assert Latch(tmp_path / "latch.json").load().latched is False


# What the guardian finds by itself --------------------------------------------------------------------------------


async def _command(folder: Path) -> None:
    async with guarding(folder) as box:
        await box.command("kill", REMOTE)
        assert (box.halt.state, box.latch.load().latched) == (LATCHED, True)


async def _start_latched(folder: Path, name: str) -> None:
    async with guarding(folder, start_latched=f"{name}: why", wait=False) as box:
        await until(lambda: box.guardian.verified_at)
        assert (box.halt.state, box.latch.load().reason) == (LATCHED, f"{name}: why")


async def _starting(folder: Path) -> None:
    hand = FakeHand()
    hand.place("1", unseen=True)
    async with guarding(folder, hand, wait=False) as box:
        await until(lambda: box.halt.reason == "guardian_starting")
        assert box.halt.state == PAUSED
        await until(lambda: box.halt.state == RUN)
        assert not hand.orders


async def _armed(folder: Path) -> None:
    async with guarding(folder) as box:
        await box.command("kill")
        await box.command("arm")
        assert (box.halt.state, box.halt.reason) == (PAUSED, "armed")
        await until(lambda: box.halt.state == RUN)


async def _held(folder: Path, name: str) -> None:
    async with guarding(folder) as box:
        if name == "flattened" or name == "reload":
            box.guardian.hold(name, "test")
        else:
            await box.command("pause", HANDS if name == "by_hand" else REMOTE)
        await until(lambda: box.guardian.verified_at)
        await asyncio.sleep(0.03)
        assert (box.halt.state, box.halt.reason) == (PAUSED, name)
        await box.guardian.release([name])
        await until(lambda: box.halt.state == RUN)
        assert box.latch.load().latched is False


async def _quoter(folder: Path, name: str) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as sleeper:
        try:
            async with guarding(folder) as box:
                async with box.quoter(sleeper.pid) as frozen:
                    await until(lambda: box.guardian.watch.alive)
                    if name == "quoter_heartbeat":
                        frozen.append(True)
                    else:
                        sleeper.kill()
                        sleeper.wait()
                    await until(lambda: box.halt.state == PAUSED)
                    assert box.halt.reason == name
                    frozen.clear()
                async with box.quoter(os.getpid()):
                    await until(lambda: box.halt.state == RUN)
        finally:
            sleeper.kill()


async def _venue_session(folder: Path) -> None:
    hand = FakeHand()
    async with guarding(folder, hand) as box:
        hand.ready = False
        await until(lambda: box.halt.state == PAUSED)
        assert box.halt.reason == "venue_session"
        hand.ready = True
        await until(lambda: box.halt.state == RUN)


GUARDED: dict[str, Callable[[Path], Awaitable[None]]] = {
    "command": _command,
    "not_armed_here": lambda folder: _start_latched(folder, "not_armed_here"),
    "booted": lambda folder: _start_latched(folder, "booted"),
    "guardian_starting": _starting,
    "armed": _armed,
    "by_hand": lambda folder: _held(folder, "by_hand"),
    "by_remote": lambda folder: _held(folder, "by_remote"),
    "flattened": lambda folder: _held(folder, "flattened"),
    "reload": lambda folder: _held(folder, "reload"),
    "quoter_heartbeat": lambda folder: _quoter(folder, "quoter_heartbeat"),
    "quoter_died": lambda folder: _quoter(folder, "quoter_died"),
    "venue_session": _venue_session,
}


@pytest.mark.parametrize("name", GUARDED)
async def test_a_row_that_the_guardian_finds(tmp_path: Path, name: str) -> None:
    """What the row says happens, and ends as the row says."""
    await GUARDED[name](tmp_path)


# What the quoter finds --------------------------------------------------------------------------------------------


def _latches(*events: list[Action]) -> list[str]:
    return [action.reason for actions in events for action in actions if isinstance(action, RequestLatch)]


def _session_loss() -> None:
    bench = Bench(risk=msgspec.structs.replace(WIDE, session_loss=5 * MONEY_SCALE)).start()
    assert _latches(bench.fund(-5 * MONEY_SCALE)) == ["session_loss"]
    assert places(bench.after(9).book()) == []


def _daily_loss() -> None:
    bench = Bench(risk=msgspec.structs.replace(WIDE, daily_loss=5 * MONEY_SCALE)).start()
    assert _latches(bench.fund(-4 * MONEY_SCALE, "1")) == []
    bench.after(86_400).book()
    assert _latches(bench.fund(-4 * MONEY_SCALE, "2")) == [], "another day"
    assert _latches(bench.fund(-1 * MONEY_SCALE, "3")) == ["daily_loss"]
    assert places(bench.after(9).book()) == []


def _drawdown() -> None:
    bench = Bench(risk=msgspec.structs.replace(WIDE, max_drawdown=5 * MONEY_SCALE)).start()
    bench.fund(8 * MONEY_SCALE, "1")
    assert _latches(bench.fund(-5 * MONEY_SCALE, "2")) == ["drawdown"]


def _hard_inventory() -> None:
    bench = Bench(risk=msgspec.structs.replace(WIDE, max_position=20_000 * MONEY_SCALE)).start()
    assert _latches(bench.fill("0x" + "77" * 16, 25, 1000)) == ["hard_inventory"]


def _fills_per_minute() -> None:
    bench = Bench(risk=msgspec.structs.replace(WIDE, max_fills_per_minute=3)).start()
    asked = [_latches(bench.after(1).fill(bench.orders()[-1], 1)) for _ in range(4)]
    assert asked == [[], [], [], ["fills_per_minute"]]
    assert places(bench.after(9).book()) == []


def _unknown_fates() -> None:
    bench = Bench(risk=msgspec.structs.replace(WIDE, unknown_fate_s=60.0))
    bench.quote()
    asked = []
    for _ in range(80):
        asked += _latches(bench.after(1).book(), bench.timer())
    assert asked == ["unknown_fates"]
    assert places(bench.after(9).book()) == []


def _venue_refusal() -> None:
    bench = Bench().start()
    assert _latches(bench.fault("no such agent")) == ["venue: no such agent"]


def _clock() -> None:
    bench = Bench().start()
    assert any(isinstance(action, CancelOrder) for action in bench.clock("90 s ahead"))
    bench.acknowledge()
    assert places(bench.after(9).book()) == [] and bench.engine.blocked == "clock: 90 s ahead"
    assert places(bench.after(1).clock())


def _journal() -> None:
    bench = Bench().start()
    assert any(isinstance(action, CancelOrder) for action in bench.storage("No space left on device"))
    bench.acknowledge()
    assert places(bench.after(9).book()) == [] and bench.engine.blocked == "journal: No space left on device"
    assert places(bench.after(1).storage())


def _stale_feed() -> None:
    bench = Bench().start()
    assert any(isinstance(action, CancelOrder) for action in bench.after(6).timer())
    bench.acknowledge()
    assert bench.engine.desks["A"].reason == "stale_data"
    assert places(bench.after(2).book())


def _network() -> None:
    bench = Bench().start()
    bench.disconnect()
    assert places(bench.after(9).book()) == [] and bench.engine.blocked == "connecting"
    bench.connect()
    bench.confirm()
    assert bench.engine.quoting


QUOTED: dict[str, Callable[[], None]] = {
    "session_loss": _session_loss,
    "daily_loss": _daily_loss,
    "drawdown": _drawdown,
    "hard_inventory": _hard_inventory,
    "fills_per_minute": _fills_per_minute,
    "unknown_fates": _unknown_fates,
    "venue_refusal": _venue_refusal,
    "clock": _clock,
    "journal": _journal,
    "stale_feed": _stale_feed,
    "network": _network,
}


@pytest.mark.parametrize("name", QUOTED)
def test_a_row_that_the_quoter_finds(name: str) -> None:
    """A latch is asked for once, and nothing is placed from then on; a pause pulls and ends with its cause."""
    QUOTED[name]()


if __name__ == "__main__":
    print(page(), end="")
