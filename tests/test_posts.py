"""mmpi.runtime.posts: questions and their answers, in time or not at all."""

import asyncio
import json
from typing import Any

import msgspec
import pytest

from mmpi.errors import RemoteError
from mmpi.runtime.posts import MAX_WAITING, Posts, info_data, info_frame
from mmpi.venues.hyperliquid.messages import PostResponse


class Wire:
    """What was sent; it can be cut."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.up = True

    def send(self, frame: bytes) -> bool:
        """Keep the frame while the wire is up."""
        if self.up:
            self.sent.append(json.loads(frame))
        return self.up


def answer(number: int, payload: object, kind: str = "info") -> bytes:
    """Return the venue's answer to a post."""
    return json.dumps(
        {"channel": "post", "data": {"id": number, "response": {"type": kind, "payload": payload}}}
    ).encode()


async def asked(posts: Posts, *frames: str) -> list[asyncio.Task[PostResponse]]:
    """Return the tasks of questions that are on the wire."""
    tasks = [asyncio.create_task(posts.ask(info_frame(frame))) for frame in frames]
    await asyncio.sleep(0)
    return tasks


async def test_each_question_gets_its_own_answer() -> None:
    """Answers in any order go to the questions they belong to."""
    wire = Wire()
    posts = Posts(wire.send, 5.0)
    first, second = await asked(posts, "meta", "userRole")
    assert [(frame["id"], frame["request"]["payload"]["type"]) for frame in wire.sent] == [(1, "meta"), (2, "userRole")]
    assert posts.take(answer(2, "two"))
    assert posts.take(answer(1, "one"))
    assert [bytes(each.payload) for each in await asyncio.gather(first, second)] == [b'"one"', b'"two"']


@pytest.mark.parametrize("frame", [b'{"channel":"pong"}', b"no json", b"[]", b'{"channel":"post"}', b""])
async def test_other_frames_are_not_taken(frame: bytes) -> None:
    """What answers no post is left to others, whatever it is."""
    assert Posts(Wire().send, 5.0).take(frame) is False


async def test_an_answer_to_nothing_is_dropped() -> None:
    """A late or repeated answer is taken and changes nothing."""
    posts = Posts(Wire().send, 5.0)
    (task,) = await asked(posts, "meta")
    assert [posts.take(answer(1, "x")), posts.take(answer(1, "y")), posts.take(answer(9, "z"))] == [True] * 3
    assert bytes((await task).payload) == b'"x"'


async def test_at_once_comes_before_the_next_frame() -> None:
    """`at_once` has seen the answer when `take` returns, before the asking task runs."""
    seen: list[bytes] = []
    posts = Posts(Wire().send, 5.0)
    task = asyncio.create_task(posts.ask(info_frame("meta"), lambda response: seen.append(bytes(response.payload))))
    await asyncio.sleep(0)
    posts.take(answer(1, 7))
    assert (seen, task.done()) == ([b"7"], False)
    await task


async def test_no_answer() -> None:
    """A question ends in an error when its time is over, and its number is forgotten."""
    posts = Posts(Wire().send, 0.01)
    with pytest.raises(RemoteError, match=r"no answer within 0\.01 s"):
        await posts.ask(info_frame("meta"))
    assert posts._waiting == {}


async def test_not_connected() -> None:
    """What cannot be sent is not waited for."""
    wire = Wire()
    wire.up = False
    with pytest.raises(RemoteError, match="not connected"):
        await Posts(wire.send, 60.0).ask(info_frame("meta"))


async def test_a_lost_connection_ends_every_question() -> None:
    """All who wait are told why, at once, and new questions can be asked."""
    posts = Posts(Wire().send, 60.0)
    tasks = await asked(posts, "a", "b")
    posts.fail("gone")
    for error in await asyncio.gather(*tasks, return_exceptions=True):
        assert (type(error), str(error)) == (RemoteError, "hyperliquid: gone")
    (task,) = await asked(posts, "c")
    posts.take(answer(3, 1))
    await task


async def test_a_cancelled_question_leaves_nothing() -> None:
    """Who stops waiting does not disturb the answer's arrival or the end of the connection."""
    posts = Posts(Wire().send, 60.0)
    (task,) = await asked(posts, "a")
    task.cancel()
    posts.fail("gone")
    await asyncio.gather(task, return_exceptions=True)
    assert posts._waiting == {}


async def test_the_venues_limit() -> None:
    """No more questions are in flight than the venue allows."""
    wire = Wire()
    posts = Posts(wire.send, 60.0)
    tasks = await asked(posts, *["a"] * MAX_WAITING)
    with pytest.raises(RemoteError, match="100 questions are unanswered"):
        await posts.ask(info_frame("b"))
    assert len(wire.sent) == MAX_WAITING
    posts.fail("end")
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize(
    ("response", "text"),
    [
        (PostResponse("error", msgspec.Raw(b'"too many"')), "meta: too many"),
        (PostResponse("action", msgspec.Raw(b"{}")), "meta: answer of the kind action"),
        (PostResponse("info", msgspec.Raw(b'{"data":["x"]}')), "meta: cannot be read"),
        (PostResponse("info", msgspec.Raw(b"{}")), "meta: cannot be read"),
    ],
)
def test_info_data_of_another_form(response: PostResponse, text: str) -> None:
    """An error, another kind or another form is the venue's failure, with what was asked."""
    with pytest.raises(RemoteError, match=text):
        info_data(response, list[int], "meta")


def test_info_data() -> None:
    """The data of an info answer comes typed."""
    assert info_data(PostResponse("info", msgspec.Raw(b'{"type":"x","data":[1,2]}')), list[int], "x") == [1, 2]
