"""The limits of one address on real sockets: what a client that asks too much is told."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientWebSocketResponse, WSServerHandshakeError
from practice_builders import MASTER, order, orders
from practice_running import Running, heard, running, send

pytestmark = pytest.mark.slow

PING, META = {"method": "ping"}, {"type": "info", "payload": {"type": "meta"}}


async def asked(run: Running, kind: str, **more: str) -> int:
    """Return the status of a question over REST."""
    async with run.session.post(run.url + "/info", json={"type": kind, **more}) as response:
        return response.status


async def posted(socket: ClientWebSocketResponse, number: int) -> Any:
    """Return the answer to a question over the socket."""
    await socket.send_json({"method": "post", "id": number, "request": META})
    return await socket.receive_json(timeout=5)


async def test_weight_over_rest(tmp_path: Path) -> None:
    """Requests are refused with 429 once the minute's weight is spent, light ones later than heavy ones."""
    async with running(tmp_path, weight=64) as run:
        statuses = [await asked(run, kind) for kind in ["meta"] * 4 + ["allMids"] * 3]
        assert statuses == [200, 200, 200, 429, 200, 200, 429]
        assert run.server.reception.limits.refused == 2


async def test_a_long_answer_weighs_more(tmp_path: Path) -> None:
    """Twenty orders in the history weigh one more than none."""
    async with running(tmp_path, weight=45) as run:
        for _ in range(2):
            await run.act(orders(*[order("99990", "0.001")] * 10))
        assert await asked(run, "historicalOrders", user=MASTER) == 200, "2 and 20 of 45, and 1 for the answer"
        assert await asked(run, "meta") == 200
        assert [await asked(run, "allMids") for _ in range(2)] == [200, 429]


async def test_messages_over_the_socket(tmp_path: Path) -> None:
    """A post too many is answered as an error by its id; what has no id, on the channel `error`; REST is apart."""
    async with running(tmp_path, weight=60) as run:
        socket = await run.socket()
        for _ in range(100):
            await socket.send_json(PING)
        assert [message["channel"] for message in [await socket.receive_json(timeout=5) for _ in range(100)]] == [
            "pong"
        ] * 100
        why = "Cannot send more than 100 messages per minute."
        answer = await posted(socket, 7)
        assert answer["data"] == {"id": 7, "response": {"type": "error", "payload": f"429 Too Many Requests: {why}"}}
        await socket.send_json(PING)
        assert await socket.receive_json(timeout=5) == {"channel": "error", "data": why}
        assert await asked(run, "meta") == 200


async def test_an_action_too_many_is_not_done(tmp_path: Path) -> None:
    """What is refused for its number changes nothing."""
    async with running(tmp_path, weight=6) as run:
        socket = await run.socket()
        for number in range(12):
            await send(socket, number, orders(order()))
        kinds = [message["data"]["response"]["type"] for message in await heard(socket, 0.2)]
        assert kinds == ["action"] * 10 + ["error"] * 2
        assert len(await run.live()) == 10


async def test_posts_that_wait(tmp_path: Path) -> None:
    """Of posts that are sent before any answer can be there, the hundred-and-first is refused by its id."""
    async with running(tmp_path, 300.0, weight=1200) as run:
        socket = await run.socket()
        for number in range(102):
            await socket.send_json({"method": "post", "id": number, "request": META})
        answers = [await socket.receive_json(timeout=5) for _ in range(102)]
        assert [answer["channel"] for answer in answers] == ["post"] * 100 + ["error"] * 2
        assert answers[-1]["data"] == "too many pending post requests id=101"
        assert (await posted(socket, 200))["data"]["id"] == 200


async def test_sockets_of_one_address(tmp_path: Path) -> None:
    """The eleventh is refused with 429; one that leaves makes room."""
    async with running(tmp_path, weight=1200) as run:
        sockets = [await run.socket() for _ in range(10)]
        with pytest.raises(WSServerHandshakeError) as raised:
            await run.session.ws_connect(run.url + "/ws")
        assert raised.value.status == 429
        await sockets.pop().close()
        await asyncio.sleep(0.05)
        assert not (await run.socket()).closed


async def test_without_a_weight_nothing_is_refused(tmp_path: Path) -> None:
    """A server that enforces no limits of an address takes whatever comes."""
    async with running(tmp_path) as run:
        assert {await asked(run, "meta") for _ in range(70)} == {200}
        sockets = [await run.socket() for _ in range(12)]
        for _ in range(150):
            await sockets[0].send_json(PING)
        assert len(await heard(sockets[0], 0.2)) == 150
