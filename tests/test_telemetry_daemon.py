"""telemetry.daemon: the parts together, without processes: what fails alone, and what is told when."""

import asyncio
import socket
import time
from pathlib import Path

import msgspec
import pytest
from telemetry_builders import instrument, summary
from test_telemetry_facts import telling

from mmpi.channels import AlertSettings, MqttSettings, WebSettings
from mmpi.runtime.board import StatusBoard
from mmpi.runtime.service import Systemd
from mmpi.sections import PinSettings
from mmpi.telemetry.daemon import Secrets, Telemetry


class Told:
    """What systemd is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def systemd(self) -> Systemd:
        return Systemd({"WATCHDOG_USEC": "20000"}, self.lines.append)


@pytest.fixture
def board(tmp_path: Path) -> StatusBoard:
    """Give the board of a quoter that quotes."""
    made = StatusBoard.create(tmp_path / "status")
    made.beat(1)
    made.publish(msgspec.json.encode(summary()))
    return made


def made(folder: Path, **changes: object) -> Telemetry:
    """Return telemetry of a box without a page."""
    told = telling(folder, **{"web": WebSettings(port=0), **changes})
    return Telemetry(told, Secrets(), Told().systemd())


def test_states_are_put_out_for_every_broker(tmp_path: Path, board: StatusBoard) -> None:  # noqa: ARG001
    """One look fills the outbox with everything that is retained, the announcement included, and no broker is asked."""
    telemetry = made(tmp_path, mqtt=MqttSettings(url="mqtt://127.0.0.1:1"))
    telemetry._look()
    (broker,) = telemetry._brokers
    wanted = {f"mmpi/shelf/{name}" for name in ("status", "pnl", "orders", "host", "alerts/active")}
    assert set(broker.link.outbox._states) == wanted | {"homeassistant/device/shelf/config"}


def test_a_box_without_a_quoter_is_announced(tmp_path: Path) -> None:
    """Its buttons and its alerts are worth most when nothing runs."""
    telemetry = made(tmp_path, mqtt=MqttSettings(url="mqtt://127.0.0.1:1"))
    telemetry._look()
    said = telemetry._brokers[0].link.outbox._states["homeassistant/device/shelf/config"].payload
    assert "kill" in msgspec.json.decode(said)["cmps"]


def test_a_box_that_is_not_to_be_found_is_taken_back(tmp_path: Path, board: StatusBoard) -> None:  # noqa: ARG001
    """`mqtt.discovery = false` empties what an earlier configuration left at the broker."""
    telemetry = made(tmp_path, mqtt=MqttSettings(url="mqtt://127.0.0.1:1", discovery=False))
    telemetry._look()
    assert telemetry._brokers[0].link.outbox._states["homeassistant/device/shelf/config"].payload == b""


def test_the_same_failure_is_told_once_whatever_else_fails(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Two parts that fail by turns do not fill the log."""
    telemetry = made(tmp_path)
    for _ in range(50):
        telemetry._failed("page", ValueError("taken"))
        telemetry._failed("webhook", ValueError("gone"))
    assert len(capfd.readouterr().err.splitlines()) == 2
    assert telemetry.counters["failures"] == 100


def test_an_instrument_that_is_gone_leaves_home_assistant(tmp_path: Path, board: StatusBoard) -> None:
    """The announcement after it has its components as bare platforms, in the same message."""
    telemetry = made(tmp_path, mqtt=MqttSettings(url="mqtt://127.0.0.1:1"))
    board.publish(msgspec.json.encode(summary(instruments={"BTC": instrument(), "ETH": instrument()})))
    telemetry._look()
    topic = "homeassistant/device/shelf/config"
    outbox = telemetry._brokers[0].link.outbox
    before = msgspec.json.decode(outbox._states[topic].payload)["cmps"]
    board.publish(msgspec.json.encode(summary()))
    telemetry._due = 0.0
    telemetry._look()
    after = msgspec.json.decode(outbox._states[topic].payload)["cmps"]
    gone = [key for key in before if "eth" in key.lower()]
    assert gone and all(set(after[key]) == {"p"} for key in gone)
    assert all(after[key] == before[key] for key in before if "btc" in key.lower())


async def test_a_look_that_fails_feeds_no_watchdog(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is counted, told once, and systemd ends a telemetry that never looks again."""
    told = Told()
    telemetry = Telemetry(telling(tmp_path, web=WebSettings(port=0)), Secrets(), told.systemd())
    monkeypatch.setattr("mmpi.telemetry.daemon.LOOK_S", 0.01)

    def fail() -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(telemetry._facts, "look", fail)
    running = asyncio.create_task(telemetry.run())
    while telemetry.counters["failures"] < 5:
        await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert "WATCHDOG=1" not in told.lines
    assert capfd.readouterr().err.count("looking: ValueError: a bug") == 1


async def test_a_part_that_fails_takes_no_other_with_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The page's port is taken: the rest goes on, and the reason is told."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        told = Told()
        page = WebSettings(port=taken.getsockname()[1])
        telemetry = Telemetry(telling(tmp_path, web=page), Secrets(), told.systemd())
        running = asyncio.create_task(telemetry.run())
        while not telemetry.counters["failures"] or "WATCHDOG=1" not in told.lines:
            await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert f"page: ConfigError: web.port = {page.port}" in capfd.readouterr().err


def test_only_a_virtual_box_lends_a_hand(tmp_path: Path) -> None:
    """Real pins, or none, have no buttons on the page."""
    for backend, panel in (("none", False), ("gpiod", False), ("virtual", True)):
        told = telling(tmp_path, pins=PinSettings(backend=backend))
        page = Telemetry(told, Secrets(), Told().systemd())._page
        assert page is not None and page.panel is panel


def test_a_webhook_is_there_if_it_is_wanted(tmp_path: Path) -> None:
    """And its losses are among the counters."""
    telemetry = made(tmp_path, alerts=AlertSettings(webhook_url="http://127.0.0.1:1/x"))
    telemetry._look()
    assert (telemetry.counters["webhook_dropped"], made(tmp_path)._webhook) == (0, None)


async def test_the_clock_is_vouched_for_by_a_quoter(tmp_path: Path, board: StatusBoard) -> None:
    """By one that runs and does not complain of it; its old words count for nothing."""
    telemetry = made(tmp_path)
    assert "no quoter runs" in telemetry._clock_fault()
    telemetry._look()
    assert "no quoter runs" in telemetry._clock_fault()  # its last beat was at boot
    board.beat(time.monotonic_ns())
    telemetry._look()
    assert telemetry._clock_fault() == ""
    board.publish(msgspec.json.encode(summary(state="clock", reason="clock: 90 s behind")))
    telemetry._look()
    assert telemetry._clock_fault() == "clock: 90 s behind"
