"""mmpi.app: whole quoters in this process, on the generated market and against a practice server."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from engine_builders import Bench
from practice_builders import STRANGER, book
from runtime_builders import box_environ, practice, until, write_keys

from mmpi import app
from mmpi.app import Outcome, _Quoter, run_quoter
from mmpi.config import load_config
from mmpi.device.latch import Latch
from mmpi.engines import checkpoint, rebuild
from mmpi.errors import ConfigError, RefusedError, RemoteError
from mmpi.events import BookSnapshot, VenueFault
from mmpi.journal.survey import verify_journal
from mmpi.runtime import venue_facts
from mmpi.runtime.board import RUN, HaltWord, StatusBoard, lock
from mmpi.runtime.ipc import Answer, ControlServer
from mmpi.runtime.replay import verify_replay
from mmpi.settings import Settings


def settings_of(folder: Path, url: str = "", **more: str) -> Settings:
    """Return the settings of a box in a folder, without latency; `more` are overrides, as venue__url."""
    more = {"sim__latency_in_ms": "0", "sim__latency_out_ms": "0"} | more
    extra = {f"MMPI_{key.upper()}": value for key, value in more.items()}
    return load_config(None, box_environ(folder, url) | extra).settings


def arm(settings: Settings) -> None:
    """Arm a box."""
    settings.paths.latch.parent.mkdir(parents=True, exist_ok=True)
    Latch(settings.paths.latch).arm("test", "test", 1)


@asynccontextmanager
async def quoting(
    settings: Settings, *, service: bool = False
) -> AsyncIterator[tuple[_Quoter, "asyncio.Task[Outcome]"]]:
    """Give a quoter, from when it quotes; it is not left behind."""
    quoter = _Quoter(settings, service=service)
    task = asyncio.create_task(quoter.run(0.0))
    try:
        await until(lambda: task.done() or (hasattr(quoter, "engine") and quoter.engine.quoting))
        if task.done():
            task.result()
        yield quoter, task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await task
        await asyncio.sleep(0.01)


def fresh() -> BookSnapshot:
    """Return a book of this moment: one of another time would make the clock look wrong."""
    return book(ts=time.time_ns())


def confirmed(quoter: _Quoter) -> int:
    """Return how many orders the venue has confirmed: one that it has not cannot be cancelled yet."""
    return sum(len(desk.orders.live) - len(desk.orders.doubtful) for desk in quoter.engine.desks.values())


@asynccontextmanager
async def guarded(settings: Settings) -> AsyncIterator[HaltWord]:
    """Play a guardian that is alive and says RUN."""
    word = HaltWord.create(settings.paths.halt)
    word.set(RUN, "")
    word.beat(time.monotonic_ns())

    async def live() -> None:
        while True:
            word.beat(time.monotonic_ns())
            await asyncio.sleep(0.05)

    task = asyncio.create_task(live())
    try:
        yield word
    finally:
        task.cancel()


def test_paper_from_start_to_stop(tmp_path: Path) -> None:
    """A timed run on the generated market quotes, stops clean, shows itself, and its journal replays."""
    settings = settings_of(tmp_path)
    arm(settings)
    outcome = run_quoter(settings, service=False, seconds=0.4)
    summary = outcome.summary
    assert (outcome.failure, summary.state, summary.mode, summary.latch) == ("", "stopped", "paper", "armed")
    assert summary.orders.placed > 0
    assert [each.orders for each in summary.instruments.values()] == [0, 0]
    assert summary.invariant_violations == 0
    verdict = verify_journal(settings.paths.journal)
    assert (verdict.clean_stop, verdict.damage, verdict.torn) == (True, (), ())
    assert verify_replay(settings.paths.journal, rebuild).exact
    board = StatusBoard.open(settings.paths.status)
    assert board is not None
    assert (board.pid, board.read() is not None) == (os.getpid(), True)


def test_a_latched_box_refuses(tmp_path: Path) -> None:
    """By hand a latched quoter does not start, and says how to arm."""
    settings = settings_of(tmp_path)
    Latch(settings.paths.latch).trip("somebody", "smoke", 1)
    with pytest.raises(RefusedError) as caught:
        run_quoter(settings, service=False)
    assert str(caught.value) == "latched: smoke; nothing is quoted; to arm it again: mmpi arm"


def test_a_second_quoter_refuses(tmp_path: Path) -> None:
    """Two quoters of one box would undo each other's orders."""
    settings = settings_of(tmp_path)
    arm(settings)
    text = f"another quoter is running .pid {os.getpid()}"
    with lock(settings.paths.quoter_lock), pytest.raises(RefusedError, match=text):
        run_quoter(settings, service=False)


def test_a_latched_service_waits(tmp_path: Path) -> None:
    """As a service a latched quoter runs and places nothing, as the guardian's word has it."""
    settings = settings_of(tmp_path)
    word = HaltWord.create(settings.paths.halt)
    word.set(2, "smoke")
    word.beat(time.monotonic_ns())
    outcome = run_quoter(settings, service=True, seconds=0.1)
    assert (outcome.summary.orders.placed, outcome.failure) == (0, "")
    assert outcome.summary.latch == "latched"


async def test_practice_from_start_to_sigterm(tmp_path: Path) -> None:
    """Against a venue: orders rest there; SIGTERM takes them back, waits for the venue's word, and ends clean."""
    write_keys(tmp_path / "keys")
    async with practice(tmp_path) as venue:
        settings = settings_of(tmp_path, venue.url)
        async with guarded(settings), quoting(settings) as (quoter, task):
            await until(lambda: len(venue.venue.live_orders()) >= 6 or venue.venue.on_market(fresh()))
            os.kill(os.getpid(), signal.SIGTERM)
            async with asyncio.timeout(5):
                outcome = await task
        assert (outcome.failure, quoter.engine.stopped, venue.venue.live_orders()) == ("", True, [])
    verdict = verify_journal(settings.paths.journal)
    assert (verdict.clean_stop, verdict.segments) == (True, 1)
    assert verify_replay(settings.paths.journal, rebuild).exact


async def test_no_guardian_no_orders(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Where orders are real nothing is placed without a guardian, and the quoter says that it waits for one."""
    write_keys(tmp_path / "keys")
    async with practice(tmp_path) as venue:
        settings = settings_of(tmp_path, venue.url)
        task = asyncio.create_task(_Quoter(settings).run(0.2))
        await asyncio.sleep(0.1)
        venue.venue.on_market(fresh())
        outcome = await task
    assert (outcome.summary.orders.placed, outcome.failure) == (0, "")
    assert "waiting for the guardian; start it with: mmpi guardian" in capfd.readouterr().err


async def test_a_venue_that_does_not_confirm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop that the venue does not confirm in time is a failure that counts what may be live."""
    monkeypatch.setattr(app, "STOP_S", 0.1)
    write_keys(tmp_path / "keys")
    async with practice(tmp_path) as venue:
        settings = settings_of(tmp_path, venue.url)
        async with guarded(settings), quoting(settings) as (quoter, task):
            await until(lambda: confirmed(quoter) == 6 or venue.venue.on_market(fresh()), 20)
            venue.delay(0.2)
            os.kill(os.getpid(), signal.SIGTERM)
            outcome = await task
    words = "the venue did not confirm within 0.1 s that no order of ours is live; we know of 6: BTC "
    assert outcome.failure.startswith(words)
    assert outcome.failure.count(", pending_cancel)") == 6


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"instruments__btc__tick_size": "0.5"}, "BTC.tick_size: value 0.5: allowed: 0, or 0.1 as the venue says"),
        ({"instruments__btc__lot_size": "1"}, "BTC.lot_size: value 1: allowed: 0, or 0.00001 as the venue says"),
    ],
)
async def test_a_grid_that_is_not_the_venues(tmp_path: Path, more: dict[str, str], text: str) -> None:
    """Prices come in the venue's grid; one of our own would misread them by its ratio."""
    write_keys(tmp_path / "keys")
    async with practice(tmp_path) as venue:
        with pytest.raises(ConfigError, match=text):
            await _Quoter(settings_of(tmp_path, venue.url, **more)).run(1)


async def test_the_venues_own_grid_may_be_said(tmp_path: Path) -> None:
    """Saying what the venue says, however it is written, changes nothing."""
    write_keys(tmp_path / "keys")
    async with practice(tmp_path) as venue:
        outcome = await _Quoter(settings_of(tmp_path, venue.url, instruments__btc__tick_size="0.10")).run(0.05)
    assert outcome.summary.orders.placed == 0


async def test_a_wrong_key(tmp_path: Path) -> None:
    """A quoter whose key is no agent of the account does not start."""
    write_keys(tmp_path / "keys", quoter=STRANGER)
    async with practice(tmp_path) as venue:
        with pytest.raises(ConfigError, match=r"quoter\.key: its address 0x\w+ is unknown to the venue, not an agent"):
            await _Quoter(settings_of(tmp_path, venue.url)).run(1)


async def test_a_venue_that_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the venue's rules no quoter is built."""
    monkeypatch.setattr(venue_facts, "TIMEOUT_S", 0.1)
    write_keys(tmp_path / "keys")
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"ws://127.0.0.1:{free.getsockname()[1]}/ws"
    with pytest.raises(RemoteError, match="no answer within"):
        await _Quoter(settings_of(tmp_path, url)).run(1)


async def test_paper_at_a_venue_needs_no_key(tmp_path: Path) -> None:
    """On paper no secret is read, and the venue's market is quoted against the simulated exchange."""
    async with practice(tmp_path) as venue:
        settings = settings_of(tmp_path, venue.url, venue__mode="paper")
        async with quoting(settings) as (quoter, _):
            await until(lambda: quoter.engine.live_orders() or venue.venue.on_market(fresh()))
        assert venue.venue.live_orders() == []


async def test_a_touched_limit_without_a_guardian(tmp_path: Path) -> None:
    """The quoter latches by its own hand and ends with the limit as its failure."""
    settings = settings_of(tmp_path)
    arm(settings)
    async with quoting(settings) as (quoter, task):
        quoter._latch("session loss 201")
        async with asyncio.timeout(5):
            outcome = await task
    stored = Latch(settings.paths.latch).load()
    assert outcome.failure == "limit touched: session loss 201"
    assert (stored.latched, stored.reason, stored.by) == (True, "session loss 201", "quoter")


@pytest.mark.parametrize("answers", [True, False])
async def test_a_touched_limit_with_a_guardian(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: bool
) -> None:
    """The guardian is asked to latch; one that does not answer in time is not waited for."""
    settings = settings_of(tmp_path)
    arm(settings)
    asked: list[dict[str, Any]] = []

    async def handle(request: dict[str, Any], _pid: int, answer: Answer) -> None:
        asked.append(request)
        if answers:
            await answer({"accepted": True})
        await asyncio.sleep(1)

    monkeypatch.setattr(app, "LATCH_S", 0.05)
    async with guarded(settings):
        control = ControlServer(settings.paths.control, handle)
        await control.start()
        async with quoting(settings) as (quoter, task):
            quoter._latch("drawdown")
            await until(lambda: asked)
            if answers:
                await asyncio.sleep(app.LATCH_S + 0.05)
                assert (task.done(), quoter.failure) == (False, "")
            else:
                async with asyncio.timeout(5):
                    failure = (await task).failure
                # `mmpi run` ends with 3 for a limit, by how the sentence begins.
                assert failure.startswith("limit touched: drawdown; the guardian was asked to latch and did not: ")
        await control.close()
    assert asked == [{"cmd": "latch", "by": "quoter", "reason": "drawdown"}]
    assert Latch(settings.paths.latch).load().latched is not answers


async def test_a_fault_is_told_however_the_quoter_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service waits for the guardian after one; asked to stop later, it still says what was refused."""
    settings = settings_of(tmp_path)
    arm(settings)

    async def handle(_request: dict[str, Any], _pid: int, answer: Answer) -> None:
        await answer({"accepted": True})

    monkeypatch.setattr(app, "LATCH_S", 0.05)
    for answers, service in ((True, True), (False, True), (False, False)):
        async with guarded(settings):
            control = ControlServer(settings.paths.control, handle)
            if answers:
                await control.start()
            async with quoting(settings, service=service) as (quoter, task):
                quoter.loop.feed([VenueFault(quoter.loop.now(), "sim", "", "User or API Wallet 0x1 does not exist.")])
                if answers:
                    await asyncio.sleep(app.LATCH_S + 0.05)
                    assert not task.done()
                    quoter.loop.stop("asked to stop")
                async with asyncio.timeout(5):
                    outcome = await task
            await control.close()
        assert outcome.fault
        assert outcome.failure.startswith("the venue refuses what we sign: User or API Wallet 0x1 does not exist. C")
        assert ("asked to latch and did not" in outcome.failure) is not answers
        assert len(outcome.failure.splitlines()) == 1


async def test_a_full_journal_pauses_the_quoter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A quoter that cannot write down what it does cancels everything and waits; then it goes on, and tells the gap."""
    settings = settings_of(tmp_path)
    arm(settings)
    real = os.write
    async with quoting(settings) as (quoter, _):
        await until(lambda: confirmed(quoter) > 0)

        def full(fd: int, data: bytes) -> int:
            if b"\xf5" in bytes(data[:2000]):
                raise OSError(28, "No space left on device")
            return real(fd, data)

        monkeypatch.setattr(os, "write", full)
        await until(lambda: quoter.engine.blocked.startswith("journal: ") and not quoter.engine.live_orders())
        assert quoter.engine.blocked.endswith("No space left on device")
        monkeypatch.undo()
        await until(lambda: quoter.engine.quoting)
    verdict = verify_journal(settings.paths.journal)
    assert verdict.damage == () and len(verdict.gaps) == 1


def test_a_checkpoint_is_the_engine() -> None:
    """An engine rebuilt from a checkpoint is the engine that wrote it."""
    engine = Bench().start().engine
    saved = checkpoint(engine, "digest")
    again = rebuild(saved)
    assert (again.checkpoint(), saved.digest) == (engine.checkpoint(), "digest")
    assert saved.cl_ord_prefix == engine.params.cl_ord_prefix
