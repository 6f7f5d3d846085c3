"""telemetry.source: what the page is given, and what becomes of what it asks for."""

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from telemetry_builders import snapshot
from test_telemetry_facts import telling

from mmpi.device.virtual_pins import VirtualPanel
from mmpi.errors import RefusedError, RemoteError
from mmpi.runtime.ipc import Answer, ControlServer
from mmpi.runtime.peers import Peer
from mmpi.sections import PinSettings
from mmpi.telemetry.commands import Commands
from mmpi.telemetry.panel import Panel
from mmpi.telemetry.source import Source


class Page:
    """A source, and a guardian that gives one answer."""

    def __init__(self, folder: Path, panel: Panel | None = None) -> None:
        self.answer: dict[str, Any] = {"verified": True, "verified_ms": 120.0}
        self.asked: list[dict[str, Any]] = []
        self.server = ControlServer(folder / "g.sock", self.serve)
        self.commands = Commands(folder / "g.sock", Counter(), lambda: "")
        self.source = Source(self.commands, panel, 5.0)

    async def serve(self, request: dict[str, Any], peer: Peer, answer: Answer) -> None:  # noqa: ARG002
        self.asked.append(request)
        await answer({"accepted": True})
        await answer({"final": True, **self.answer})


@pytest.fixture
async def page(tmp_path: Path) -> Any:
    """Give a page whose guardian listens."""
    made = Page(tmp_path)
    await made.server.start()
    working = asyncio.create_task(made.commands.run())
    yield made
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    await made.server.close()


async def test_a_kill_tells_whether_it_is_proven(page: Page) -> None:
    """The guardian's own word on zero orders reaches the page, true or not."""
    assert await page.source.command("kill", "") == {
        "result": "done", "text": "latched; zero orders verified after 120 ms", "verified": True, "verified_ms": 120.0,
    }  # fmt: skip
    page.answer = {"verified": False}
    assert (await page.source.command("pause", "")) == {
        "result": "done", "text": "paused; that no order is left is not verified yet", "verified": False,
    }  # fmt: skip
    assert [(each["cmd"], each["by"], each["remote"]) for each in page.asked] == [
        ("kill", "the page", True), ("pause", "the page", True),
    ]  # fmt: skip


async def test_what_the_guardian_refuses_is_an_error(page: Page) -> None:
    """It has the last word, in its own words."""
    page.answer = {"error": "latched, not paused"}
    with pytest.raises(RefusedError, match="latched, not paused"):
        await page.source.command("resume", "")


async def test_without_a_guardian_it_fails(tmp_path: Path) -> None:
    """Nobody there is no refusal."""
    with pytest.raises(RemoteError, match="no guardian is listening"):
        await Page(tmp_path).source.command("kill", "")


async def test_a_flood_from_elsewhere_leaves_the_page_its_answers(page: Page) -> None:
    """Answers to a flood are cut short; whoever holds the button hears what became of it, refused or joined."""
    for _ in range(100):
        page.commands.take(b"nonsense", False, "all", "mqtt", lambda *_: None)
    page.answer = {"error": "latched, not paused"}
    with pytest.raises(RefusedError, match="latched, not paused"):
        await asyncio.wait_for(page.source.command("resume", ""), 5)
    page.answer = {"verified": True, "verified_ms": 1.0}
    both = await asyncio.wait_for(asyncio.gather(*(page.source.command("kill", "") for _ in range(2))), 5)
    assert [each["result"] for each in both] == ["done", "accepted"]


async def test_a_state_is_made_once_for_all(page: Page) -> None:
    """Before the first there is none; each update brings another one, for which those who wait are woken."""
    with pytest.raises(RemoteError, match="nothing is known yet"):
        page.source.state()
    assert page.source.metrics() is None
    waiting = asyncio.create_task(page.source.wait())
    await asyncio.sleep(0)
    page.source.update(snapshot(), ())
    await asyncio.wait_for(waiting, 1)
    state = page.source.state()
    assert page.source.state() is state
    assert json.loads(state)["box"]["device"] == "shelf"
    page.source.update(snapshot(sequence=8), ())
    assert json.loads(page.source.state())["box"]["sequence"] == 8
    metrics = page.source.metrics()
    assert metrics is not None and b"mmpi_quoting 1.0" in metrics[0]


async def test_the_hand_on_a_virtual_box(tmp_path: Path) -> None:
    """Buttons go down and up; a real box lends no hand, and no box has a button that is not there."""
    told = telling(tmp_path, pins=PinSettings(backend="virtual"))
    VirtualPanel.create(told.paths.pins, closed=(told.pins.kill,))
    page = Page(tmp_path, Panel(told))
    panel = VirtualPanel.open(told.paths.pins)
    levels = []
    for name in ("arm_down", "arm_up"):
        assert (await page.source.command(name, ""))["result"] == "done"
        levels.append(panel._bytes[64 + told.pins.arm])
    assert levels == [1, 0]  # driven low; let go
    with pytest.raises(RefusedError, match="no such button; allowed: red, arm"):
        await page.source.command("green_down", "")
    with pytest.raises(RefusedError, match="its buttons are real"):
        await Page(tmp_path).source.command("arm_down", "")
