"""mmpi.runtime.questions over a link in memory: errors are answers, silence is not, and weight is waited for."""

import asyncio
import time
from typing import Any

import msgspec
import pytest
from runtime_builders import until

from mmpi.errors import RemoteError
from mmpi.runtime.allowance import BURST, LIST, Allowance
from mmpi.runtime.questions import Questions


class Wire:
    """A link in memory: it keeps what is sent, and is heard when a test says so."""

    def __init__(self) -> None:
        self.open = True
        self.last_rx = 0.0
        self.sent: list[dict[str, Any]] = []
        self.aborted: list[str] = []

    def send(self, frame: bytes) -> bool:
        """Keep."""
        self.sent.append(msgspec.json.decode(frame))
        return self.open

    def abort(self, why: str) -> None:
        """Keep why."""
        self.open = False
        self.aborted.append(why)


def of(wire: Wire, timeout_s: float = 0.05, per_minute: int = 200) -> Questions:
    """Return questions over this wire."""
    return Questions(wire, Allowance(per_minute), timeout_s)  # type: ignore[arg-type]


def answer(questions: Questions, number: int, kind: str, payload: Any) -> None:
    """Have the venue answer."""
    data = {"id": number, "response": {"type": kind, "payload": payload}}
    assert questions.take(msgspec.json.encode({"channel": "post", "data": data}))


def frame(number: int) -> bytes:
    """Return some question."""
    return msgspec.json.encode({"id": number})


async def test_an_answer_is_returned_and_its_weight_counted() -> None:
    """The form asked for, and the allowance is less by what the question weighed."""
    wire = Wire()
    questions = of(wire, timeout_s=1)
    asking = asyncio.create_task(questions.info("meta", dict[str, int], LIST, timeout_s=1.0))
    await until(lambda: wire.sent)
    answer(questions, 1, "info", {"type": "meta", "data": {"universe": 7}})
    assert await asking == {"universe": 7}
    assert questions.must_wait(BURST - LIST + 2)
    assert not questions.must_wait(BURST - LIST)


@pytest.mark.parametrize(("text", "waits"), [("429 Too Many Requests", True), ("502 Bad Gateway", False)])
async def test_an_error_costs_no_connection(text: str, waits: bool) -> None:
    """Its words are the error; only "too many" makes the next question wait."""
    wire = Wire()
    questions = of(wire, timeout_s=1)
    asking = asyncio.create_task(questions.post(frame, 1))
    await until(lambda: wire.sent)
    answer(questions, 1, "error", text)
    with pytest.raises(RemoteError, match=f"hyperliquid: {text}"):
        await asking
    assert (wire.aborted, questions.failures, questions.must_wait(1)) == ([], 1, waits)


async def test_silence_costs_the_connection_unless_something_is_heard() -> None:
    """Nothing heard since the question: left at once. Something heard: left at the second silence in a row."""
    wire = Wire()
    with pytest.raises(RemoteError, match="no answer"):
        await of(wire).post(frame, 1)
    assert wire.aborted == ["no answer in time"]
    alive = Wire()
    questions = of(alive)
    alive.last_rx = time.monotonic() + 60
    for aborted in ([], ["no answer in time"]):
        with pytest.raises(RemoteError, match="no answer"):
            await questions.post(frame, 1)
        assert alive.aborted == aborted
    assert questions.failures == 2


async def test_an_answer_in_between_forgives_a_silence() -> None:
    """Silences count in a row only."""
    wire = Wire()
    questions = of(wire)
    wire.last_rx = time.monotonic() + 60
    for number in (1, 3):
        with pytest.raises(RemoteError, match="no answer"):
            await questions.post(frame, 1)
        asking = asyncio.create_task(questions.post(frame, 1))
        await until(lambda number=number: len(wire.sent) == number + 1)
        answer(questions, number + 1, "info", {"data": {}})
        await asking
    assert wire.aborted == []


async def test_a_question_waits_for_its_weight_and_a_post_does_not() -> None:
    """A spent allowance holds a question back; what is sent at any price goes out."""
    wire = Wire()
    questions = of(wire, per_minute=6000)
    questions.allowance.charge(BURST, time.monotonic())
    asking = asyncio.create_task(questions.info("meta", dict[str, int], LIST, timeout_s=0.05))
    await asyncio.sleep(0)
    assert wire.sent == []
    with pytest.raises(RemoteError, match="no answer"):
        await questions.post(frame, 1)
    assert wire.sent[0] == {"id": 1}
    with pytest.raises(RemoteError, match="not connected"):
        await asking


async def test_what_is_not_sent_is_not_counted() -> None:
    """A closed link costs no weight, however often it is tried."""
    wire = Wire()
    wire.open = False
    questions = of(wire)
    for _ in range(50):
        with pytest.raises(RemoteError, match="not connected"):
            await questions.post(frame, LIST)
    assert not questions.must_wait(BURST)
