"""mmpi.practice.hyperliquid.server on real loopback sockets: delay, order, slow clients."""

import asyncio
import ssl
import time
from pathlib import Path

import pytest
from practice_builders import (
    CLOID,
    GUARDIAN,
    MASTER,
    book,
    cancel,
    cancel_by_cloid,
    order,
    orders,
    signed,
    status,
    trade,
)
from practice_running import NONCES, running
from websockets.asyncio.client import connect

from mmpi.errors import ConfigError
from mmpi.practice.hyperliquid.line import MAX_QUEUED
from mmpi.practice.hyperliquid.server import PracticeServer
from mmpi.practice.hyperliquid.streams import Hub


async def test_orders_over_rest(tmp_path: Path) -> None:
    """Two agents of one account place, see and cancel the same orders; /control/orders lists them at once."""
    async with running(tmp_path) as run:
        oid = status(await run.act(orders(order(cloid=CLOID))))["resting"]["oid"]
        other = status(await run.act(orders(order("99980")), key=GUARDIAN))["resting"]["oid"]
        listed = await run.post("/info", {"type": "openOrders", "user": MASTER})
        assert [each["oid"] for each in listed] == [each["oid"] for each in await run.live()] == [oid, other]
        assert status(await run.act(cancel(other))) == "success"
        assert status(await run.act(cancel_by_cloid(CLOID), key=GUARDIAN)) == "success"
        assert await run.live() == []


@pytest.mark.parametrize(("path", "body"), [("/info", {"type": "x"}), ("/exchange", {"action": {}}), ("/info", [1])])
async def test_a_body_of_another_form_is_http_422(tmp_path: Path, path: str, body: object) -> None:
    """What cannot be read is answered with the venue's status and sentence."""
    async with running(tmp_path) as run, run.session.post(run.url + path, json=body) as response:
        assert (response.status, await response.text()) == (
            422,
            "Failed to deserialize the JSON body into the target type",
        )


async def test_orders_over_the_socket(tmp_path: Path) -> None:
    """A posted action is answered by its id, and its updates reach every connection of the account."""
    async with running(tmp_path) as run:
        quoter = await run.socket()
        guardian = await run.socket({"type": "orderUpdates", "user": MASTER})
        body = signed(orders(order()), nonce=next(NONCES))
        await quoter.send_json({"method": "post", "id": 5, "request": {"type": "action", "payload": body}})
        answer = await quoter.receive_json(timeout=5)
        (update,) = (await guardian.receive_json(timeout=5))["data"]
        assert (answer["channel"], answer["data"]["id"], answer["data"]["response"]["type"]) == ("post", 5, "action")
        oid = status(answer["data"]["response"]["payload"])["resting"]["oid"]
        assert (update["order"]["oid"], update["status"]) == (oid, "open")
        ask = {"type": "openOrders", "user": MASTER}
        await quoter.send_json({"method": "post", "id": 6, "request": {"type": "info", "payload": ask}})
        payload = (await quoter.receive_json(timeout=5))["data"]["response"]["payload"]
        assert payload == {"type": "openOrders", "data": await run.post("/info", ask)}
        await quoter.send_json({"method": "post", "id": 7, "request": {"type": "info", "payload": {"type": "x"}}})
        assert (await quoter.receive_json(timeout=5))["data"]["response"]["type"] == "error"


async def test_fills_over_the_socket(tmp_path: Path) -> None:
    """userFills opens with a snapshot and goes on with fills as the market makes them."""
    async with running(tmp_path) as run:
        socket = await run.socket({"type": "userFills", "user": MASTER})
        assert (await socket.receive_json(timeout=5))["data"]["isSnapshot"] is True
        await run.act(orders(order(size="0.01")))
        run.venue.on_market(trade("99989", "1"))
        (fill,) = (await socket.receive_json(timeout=5))["data"]["fills"]
        assert (fill["px"], fill["sz"], fill["crossed"]) == ("99990.0", "0.01", False)


async def test_a_round_trip_takes_the_latency(tmp_path: Path) -> None:
    """Over REST and over the socket an answer comes one latency after the question; the control list is not delayed."""
    async with running(tmp_path, latency_ms=100.0) as run:
        loop = asyncio.get_running_loop()
        start = loop.time()
        await run.post("/info", {"type": "meta"})
        rest = loop.time() - start
        socket = await run.socket()
        start = loop.time()
        await socket.send_json({"method": "ping"})
        await socket.receive_json(timeout=5)
        over_socket = loop.time() - start
        start = loop.time()
        await run.live()
        control = loop.time() - start
        assert 0.1 <= rest < 0.2
        assert 0.1 <= over_socket < 0.2
        assert control < 0.05


async def test_the_state_changes_half_way(tmp_path: Path) -> None:
    """An order is live at the venue after half the latency, before its sender knows."""
    async with running(tmp_path, latency_ms=200.0) as run:
        placing = asyncio.create_task(run.act(orders(order())))
        await asyncio.sleep(0.05)
        early = await run.live()
        await asyncio.sleep(0.1)
        half_way, answered = await run.live(), placing.done()
        assert (len(early), len(half_way), answered) == (0, 1, False)
        assert "resting" in status(await placing)


async def test_messages_of_one_connection_keep_their_order(tmp_path: Path) -> None:
    """Many posts sent at once are answered in the order sent, all after one latency."""
    async with running(tmp_path, latency_ms=50.0) as run:
        socket = await run.socket()
        start = asyncio.get_running_loop().time()
        for i in range(50):
            ask = {"type": "info", "payload": {"type": "meta"}}
            await socket.send_json({"method": "post", "id": i, "request": ask})
        ids = [(await socket.receive_json(timeout=5))["data"]["id"] for _ in range(50)]
        assert ids == list(range(50))
        assert asyncio.get_running_loop().time() - start < 0.5, "not one latency each"


async def test_what_was_sent_before_leaving_still_arrives(tmp_path: Path) -> None:
    """An order on its way is placed though its sender is gone when it arrives."""
    async with running(tmp_path, latency_ms=100.0) as run:
        socket = await run.socket()
        body = signed(orders(order()), nonce=next(NONCES))
        await socket.send_json({"method": "post", "id": 1, "request": {"type": "action", "payload": body}})
        await socket.close()
        await asyncio.sleep(0.1)
        assert len(await run.live()) == 1


async def test_a_client_that_does_not_read_is_dropped(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A full queue ends its connection, is counted and said, and does not disturb the others."""
    async with running(tmp_path) as run:
        await run.socket({"type": "l2Book", "coin": "BTC"})
        good = await run.socket({"type": "bbo", "coin": "BTC"})
        for _ in range(MAX_QUEUED + 10):
            run.venue.on_market(book())
        await asyncio.sleep(0)
        assert run.server.dropped == 1
        await good.send_json({"method": "ping"})
        assert (await good.receive_json(timeout=5))["channel"] == "pong"
        assert "too slow" in capfd.readouterr().err


async def test_the_market_is_paced_and_stamped(tmp_path: Path) -> None:
    """Events come at the generator's intervals with the wall clock's time, starting at once."""
    async with running(tmp_path) as run:
        socket = await run.socket({"type": "trades", "coin": "BTC"})
        start = time.time()
        step = 50_000_000
        await run.server.play(iter([trade("100000", ts=i * step) for i in range(1, 5)]))
        stamps = [(await socket.receive_json(timeout=5))["data"][0]["time"] / 1000 - start for _ in range(4)]
        assert stamps == pytest.approx([0.0, 0.05, 0.1, 0.15], abs=0.04)


@pytest.mark.parametrize("tls", [False, True])
async def test_another_client_is_served(tmp_path: Path, tls: bool) -> None:
    """The package websockets, which pings by frames of the protocol, is greeted, heard and answered."""
    async with running(tmp_path, tls=tls) as run:
        trust = ssl.create_default_context(cafile=tmp_path / "tls" / "ca.pem") if tls else None
        async with connect(run.url.replace("http", "ws", 1) + "/ws", ssl=trust) as socket:
            assert await socket.recv() == "Websocket connection established."
            await asyncio.wait_for(await socket.ping(), 5)
            await socket.send('{"method":"ping"}')
            assert await socket.recv() == '{"channel":"pong"}'


async def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    """The error says which port is taken and which option chooses another."""
    async with running(tmp_path) as run:
        port = int(run.url.rpartition(":")[2])
        second = PracticeServer(run.venue, Hub(), 0.0)
        text = f"^port {port} on 127.0.0.1 is already in use; choose another with --port$"
        with pytest.raises(ConfigError, match=text):
            await second.start("127.0.0.1", port)
