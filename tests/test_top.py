"""mmpi top: the box in a terminal, without a hand on it."""

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from telemetry_builders import guardian, summary

from mmpi.cli import main
from mmpi.runtime.board import StatusBoard
from mmpi.runtime.ipc import Answer, ControlServer
from mmpi.runtime.peers import Peer


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the runtime folder of a box that has nothing yet."""
    monkeypatch.setenv("MMPI_PATHS__RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("MMPI_PATHS__STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("LINES", "40")
    return tmp_path


@contextmanager
def answering(path: Path, said: dict[str, Any]) -> Iterator[None]:
    """Have a guardian on that socket that says this, in a thread of its own."""
    ready, ended = threading.Event(), asyncio.Event()

    async def serve(request: dict[str, Any], peer: Peer, answer: Answer) -> None:  # noqa: ARG001
        await answer({"final": True, **said})

    async def listen() -> None:
        server = ControlServer(path, serve)
        await server.start()
        loops.append(asyncio.get_running_loop())
        ready.set()
        await ended.wait()
        await server.close()

    loops: list[asyncio.AbstractEventLoop] = []
    thread = threading.Thread(target=lambda: asyncio.run(listen()))
    thread.start()
    assert ready.wait(5)
    try:
        yield
    finally:
        loops[0].call_soon_threadsafe(ended.set)
        thread.join()


def test_a_box_that_never_ran(run: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: ARG001
    """Nothing is there, and it says so."""
    assert main(["top"]) == 0
    assert "no quoter has run" in capsys.readouterr().out


def test_a_box_that_quotes(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ladder, position, parts of the result, the guardian's word; and no key that does anything."""
    board = StatusBoard.create(run / "status")
    board.beat(1)
    board.publish(msgspec.json.encode(summary()))
    with answering(run / "guardian.sock", guardian()):
        assert main(["top", "--once"]) == 0
    said = capsys.readouterr().out
    for word in ("mmpi top", "practice hyperliquid", "BTC", "position 2", "run  live orders 2", f"pid {os.getpid()}"):
        assert word in said
    assert "red button" not in said


def test_as_json_it_is_the_status(run: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: ARG001
    """A program that asks gets what `mmpi status --json` says."""
    assert main(["top", "--json"]) == 0
    shown = msgspec.json.decode(capsys.readouterr().out)
    assert main(["status", "--json"]) == 0
    assert shown == msgspec.json.decode(capsys.readouterr().out)
