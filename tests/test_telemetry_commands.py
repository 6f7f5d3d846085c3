"""telemetry.commands: what comes from afar, judged, and handed to a guardian on a real socket."""

import asyncio
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mmpi.runtime.ipc import Answer, ControlServer
from mmpi.runtime.peers import Peer
from mmpi.telemetry.commands import IDS, RESULTS_PER_S, STARTS_PER_MINUTE, WAITING, Commands, is_kill


class Box:
    """Commands, and a guardian that notes what it is asked for."""

    def __init__(self, folder: Path) -> None:
        self.asked: list[dict[str, Any]] = []
        self.told: list[tuple[str, str, str, str]] = []
        self.counters: Counter[str] = Counter()
        self.trusted = True
        self.answer: dict[str, Any] = {"verified": True, "verified_ms": 120.0, "causes": []}
        self.go = asyncio.Event()
        self.go.set()
        self.server = ControlServer(folder / "g.sock", self.serve)
        self.commands = Commands(folder / "g.sock", self.counters, lambda: "" if self.trusted else "clock: 90 s off")

    async def serve(self, request: dict[str, Any], peer: Peer, answer: Answer) -> None:  # noqa: ARG002
        self.asked.append(request)
        await answer({"accepted": True})
        await self.go.wait()
        await answer({"final": True, **self.answer})

    def tell(self, cmd: str, id: str, result: str, text: str, answer: dict[str, Any]) -> None:  # noqa: ARG002
        self.told.append((cmd, id, result, text))

    async def take(self, payload: bytes | dict[str, Any], *, retained: bool = False, allowed: str = "all") -> str:
        """Take a command, and return the last thing that was said of it once it is over."""
        raw = json.dumps(payload).encode() if isinstance(payload, dict) else payload
        before = len(self.told)
        self.commands.take(raw, retained, allowed, "mqtt", self.tell)
        end = time.monotonic() + 5
        while not any(each[2] != "accepted" for each in self.told[before:]):
            assert time.monotonic() < end, self.told
            await asyncio.sleep(0.005)
        return f"{self.told[-1][2]}: {self.told[-1][3]}"


@pytest.fixture
async def box(tmp_path: Path) -> Any:
    """Give a box whose guardian listens."""
    made = Box(tmp_path)
    await made.server.start()
    working = asyncio.create_task(made.commands.run())
    yield made
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    await made.server.close()


def start(cmd: str = "resume", **changes: Any) -> dict[str, Any]:
    """Return a command that passes."""
    return {"cmd": cmd, "id": "1", "issued_at": time.time(), "ttl_s": 20, "by": "ann", **changes}


@pytest.mark.parametrize(
    "payload",
    [b"kill", b" KILL\n", {"cmd": "kill"}, {"cmd": "kill", "id": "1", "issued_at": 5.0, "ttl_s": 1},
     {"cmd": "Kill", "unknown": [1]}, {"cmd": "kill", "ttl_s": "soon"}],
)  # fmt: skip
@pytest.mark.parametrize("trusted", [True, False])
async def test_a_kill_is_never_refused(box: Box, payload: bytes | dict[str, Any], trusted: bool) -> None:
    """Whatever its age, id, other fields and the clock (I9); it says who asked, and that it comes from afar."""
    box.trusted = trusted
    for _ in range(2):
        assert await box.take(payload) == "done: latched; zero orders verified after 120 ms"
    assert [(each["cmd"], each["remote"]) for each in box.asked] == [("kill", True)] * 2
    assert all(each["by"].startswith("mqtt") for each in box.asked)


async def test_a_bare_pause_passes(box: Box) -> None:
    """A pause needs no more than its word, either."""
    assert await box.take(b"pause") == "done: paused; zero orders verified after 120 ms"


@pytest.mark.parametrize("cmd", ["kill", "pause", "resume", "status"])
async def test_what_is_retained_is_refused(box: Box, cmd: str) -> None:
    """A broker repeats it to whoever comes, long after."""
    assert (await box.take(start(cmd), retained=True)).startswith("refused: a retained command is old")
    assert (box.asked, box.counters["commands_refused"]) == ([], 1)


@pytest.mark.parametrize("cmd", ["resume", "flatten", "arm"])
async def test_what_starts_must_be_fresh_and_said_once(box: Box, cmd: str) -> None:
    """With all that it needs it passes, and the same again is a replay."""
    asked = start(cmd)
    assert (await box.take(asked)).startswith("done: ")
    assert await box.take(asked) == "refused: this id was used before"
    assert [each["cmd"] for each in box.asked] == [cmd]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"id": ""}, "it needs an id"),
        ({"id": "x" * 65}, "it needs an id"),
        ({"by": ""}, "it needs an id"),
        ({"ttl_s": 0}, "ttl_s is 0; allowed"),
        ({"ttl_s": 61}, "ttl_s is 61; allowed"),
        ({"ttl_s": -1}, "ttl_s is -1; allowed"),
        ({"issued_at": 0}, "issued before this run"),
        ({"issued_at": time.time() + 10**6}, "issued -"),
        ({"issued_at": None}, "cannot be read"),
        ({"more": 1}, "cannot be read"),
        ({"cmd": "buy"}, "no such command; allowed: kill, pause, resume, flatten, arm, status"),
        ({"cmd": 3}, "cannot be read"),
    ],
)
async def test_what_starts_is_refused_with_its_reason(box: Box, changes: dict[str, Any], why: str) -> None:
    """Everything that is missing or too much is named, and the guardian is not asked."""
    assert (await box.take({**start(), **changes})).startswith(f"refused: {why}")
    assert box.asked == []


async def test_an_old_command_is_refused(box: Box) -> None:
    """It lay somewhere for longer than its time to live."""
    box.commands._began -= 100
    assert (await box.take(start(issued_at=time.time() - 30))).startswith("refused: issued 30 s ago")


async def test_without_a_trusted_clock_nothing_starts(box: Box) -> None:
    """Nobody could say how old it is."""
    box.trusted = False
    assert (await box.take(start())).startswith("refused: nobody knows how old this is: clock: 90 s off")
    assert box.asked == []


@pytest.mark.parametrize(
    ("allowed", "cmd", "passes"),
    [("stop", "kill", True), ("stop", "pause", True), ("stop", "resume", False), ("stop", "status", True),
     ("none", "kill", False), ("none", "status", False)],
)  # fmt: skip
async def test_a_broker_may_ask_for_what_it_may(box: Box, allowed: str, cmd: str, passes: bool) -> None:
    """The key `commands` of its section says what."""
    said = await box.take(start(cmd), allowed=allowed)
    assert said.startswith("done: ") is passes and bool(box.asked) is passes


@pytest.mark.parametrize("payload", [b"\xff\xfe", b"{", b"[]", b"{}", b'"kill"', b"x" * 5000, b"kill now", b"\0"])
async def test_nonsense_is_refused(box: Box, payload: bytes) -> None:
    """It is counted, and nothing of it reaches the guardian."""
    assert (await box.take(payload)).startswith("refused: ")
    assert (box.asked, box.counters["commands_refused"]) == ([], 1)


async def test_nothing_at_all_is_no_command(box: Box) -> None:
    """That is how a retained message is taken away."""
    box.commands.take(b"", True, "all", "mqtt", box.tell)
    assert (box.told, box.counters) == ([], Counter())


async def test_a_refusal_of_the_guardian_is_told(box: Box) -> None:
    """It has the last word on everything."""
    box.answer = {"error": "paused at the box (by_hand): only hands there may let it go on"}
    assert (await box.take(start())).startswith("refused: paused at the box")


async def test_without_a_guardian_it_is_told_that_it_failed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The phone hears it, and so does the log."""
    box = Box(tmp_path)
    assert "no guardian is listening" in await box.take(b"kill")
    assert box.told[-1][2] == "failed"
    assert "kill by mqtt: " in capfd.readouterr().err


async def test_a_flood_costs_a_bounded_number_of_requests(box: Box) -> None:
    """Ten thousand kills are one; of ten thousand others a few wait, and few answers are said."""
    box.go.clear()
    for number in range(10_000):
        box.commands.take(b"kill", False, "all", "mqtt", box.tell)
        box.commands.take(json.dumps(start("status", id=str(number))).encode(), False, "all", "mqtt", box.tell)
    await asyncio.sleep(0.2)
    assert sum(each["cmd"] == "kill" for each in box.asked) == 1
    assert len(box.asked) <= 2
    assert len(box.told) <= 2 * RESULTS_PER_S + 2
    assert box.counters["results_unsaid"] > 15_000
    box.go.set()
    end = time.monotonic() + 5
    while not any(each[:1] + each[2:3] == ("kill", "done") for each in box.told):
        assert time.monotonic() < end
        await asyncio.sleep(0.01)
    assert len(box.asked) <= WAITING + 2


async def test_replayed_ids_are_remembered_within_bounds(box: Box) -> None:
    """No more are kept than can still be fresh, and more than so many a minute do not pass (I12)."""
    assert IDS > STARTS_PER_MINUTE
    box.go.clear()
    for number in range(STARTS_PER_MINUTE + 5):
        box.commands.take(json.dumps(start(id=str(number))).encode(), False, "all", "mqtt", box.tell)
    assert len(box.commands._ids) == STARTS_PER_MINUTE
    box.go.set()


@pytest.mark.parametrize(
    ("payload", "expected"),
    [(b"kill", True), (b"Kill ", True), (b'{"cmd":"kill","x":1}', True), (b"killed", False), (b"", False),
     (b'{"cmd":"pause","reason":"kill"}', False), (b'{"cmd":"kill"', False), (b"\xff", False)],
)  # fmt: skip
def test_a_kill_is_known_at_a_glance(payload: bytes, expected: bool) -> None:
    """It must get its front seat without being wholly read."""
    assert is_kill(payload) is expected
