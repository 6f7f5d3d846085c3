"""Faults on demand on real sockets, plain and over TLS: what a client sees, and what the venue did."""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientError, ClientWebSocketResponse, ServerDisconnectedError, WSMsgType, WSServerHandshakeError
from practice_builders import CLOID, book, cancel_by_cloid, order, orders, schedule_cancel, signed, status, trade
from practice_running import NONCES, Running, heard, running, send

from mmpi.practice.hyperliquid import line as line_module
from mmpi.practice.hyperliquid import server as server_module

pytestmark = pytest.mark.slow

pytest.importorskip("cryptography", reason="the practice extra (cryptography) is not installed")

Serve = Callable[..., AbstractAsyncContextManager[Running]]
BOOKS, TRADES = {"type": "l2Book", "coin": "BTC"}, {"type": "trades", "coin": "BTC"}


@pytest.fixture(params=[pytest.param(False, id="tcp"), pytest.param(True, id="tls", marks=pytest.mark.slow)])
def serve(request: pytest.FixtureRequest, tmp_path: Path) -> Serve:
    """Return what starts a server with faults, over plain TCP and over TLS."""

    def started(*faults: str, latency_ms: float = 0.0, **how: Any) -> AbstractAsyncContextManager[Running]:
        return running(tmp_path, latency_ms, tls=request.param, faults=faults, **how)

    return started


async def answers(socket: ClientWebSocketResponse, count: int) -> list[Any]:
    """Return the data of so many messages."""
    return [(await socket.receive_json(timeout=5))["data"] for _ in range(count)]


async def closed(socket: ClientWebSocketResponse, timeout: float = 5.0) -> bool:
    """Return whether the connection ends within so long, whatever comes before."""
    async with asyncio.timeout(timeout):
        while (message := await socket.receive()).type is WSMsgType.TEXT:
            pass
    return message.type in (WSMsgType.CLOSED, WSMsgType.CLOSE, WSMsgType.ERROR)


# Messages ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["drop:p=1,channels=l2Book", "stale_book:at=0,for=60", "hole:at=0,n=50"])
async def test_books_are_lost_and_nothing_else(serve: Serve, fault: str) -> None:
    """Whether dropped, stale or in a hole: trades come, books do not, and each one lost is counted."""
    async with serve() as run:
        socket = await run.socket(TRADES)
        await run.post("/control/fault", {"faults": [fault]})
        await socket.send_json({"method": "subscribe", "subscription": BOOKS})
        assert (await socket.receive_json(timeout=5))["channel"] == "subscriptionResponse"
        for i in range(3):
            run.venue.on_market(book(ts=book().recv_ts + 2 * i))
            run.venue.on_market(trade("100000", ts=book().recv_ts + 2 * i + 1))
        channels = [message["channel"] for message in await heard(socket, 0.2)]
        assert channels == ["trades"] * 3
        assert await run.fired() == {fault: 4}, "the book that a subscription begins with, and three more"


async def test_a_message_comes_twice(serve: Serve) -> None:
    """duplicate repeats an answer."""
    async with serve("duplicate:p=1,channels=post") as run:
        socket = await run.socket()
        await send(socket, 1, orders(order()))
        first, second = await answers(socket, 2)
        assert first == second
        assert len(await run.live()) == 1


async def test_neighbours_change_places(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """reorder lets the second answer come first; one without a neighbour comes after a moment all the same."""
    monkeypatch.setattr(line_module, "SWAP_S", 0.1)
    async with serve("reorder:p=1,channels=post") as run:
        socket = await run.socket()
        for number in (1, 2, 3):
            await send(socket, number, orders(order()))
        assert [each["id"] for each in await answers(socket, 3)] == [2, 1, 3]


async def test_a_late_message_holds_up_the_next(serve: Serve) -> None:
    """delay strikes one message, and what follows it keeps its place behind it."""
    async with serve("delay:p=1,ms=150,channels=post") as run:
        socket = await run.socket()
        begun = asyncio.get_running_loop().time()
        await send(socket, 1, orders(order()))
        await socket.send_json({"method": "ping"})
        channels = [(await socket.receive_json(timeout=5))["channel"] for _ in range(2)]
        assert channels == ["post", "pong"]
        assert asyncio.get_running_loop().time() - begun >= 0.15


# Sockets ----------------------------------------------------------------------------------------------------------


async def test_a_connection_is_cut(serve: Serve) -> None:
    """disconnect ends the socket without a goodbye; the next connection is as good as new."""
    async with serve() as run:
        first = await run.socket(BOOKS)
        await run.post("/control/fault", {"faults": ["disconnect:at=0.05"]})
        assert await closed(first)
        second = await run.socket(BOOKS)
        await second.send_json({"method": "ping"})
        assert "pong" in [message["channel"] for message in await heard(second, 0.15)]
        assert await run.fired() == {"disconnect:at=0.05": 1}


async def test_half_open(serve: Serve) -> None:
    """Nothing passes in either direction while the socket stays open; afterwards everything held up arrives."""
    async with serve() as run:
        socket = await run.socket(TRADES)
        await run.post("/control/fault", {"faults": ["half_open:at=0,for=0.4"]})
        await asyncio.sleep(0.05)
        await send(socket, 1, orders(order()))
        await socket.ping()
        run.venue.on_market(trade("100000"))
        assert await heard(socket, 0.15) == []
        assert await run.live() == [], "the order is still on its way"
        assert {(await socket.receive_json(timeout=5))["channel"] for _ in range(2)} == {"trades", "post"}
        assert len(await run.live()) == 1
        assert not socket.closed


async def test_a_server_ends_though_a_socket_is_deaf(serve: Serve) -> None:
    """A client that hears nothing does not keep the server from ending."""
    async with serve("half_open:at=0,for=60") as run:
        socket = await run.session.ws_connect(run.url + "/ws")
        await asyncio.sleep(0.1)
        begun = asyncio.get_running_loop().time()
        await run.server.close()
        assert asyncio.get_running_loop().time() - begun < 2.5
        assert await closed(socket)


async def test_new_connections_are_refused(serve: Serve) -> None:
    """refuse_ws answers the upgrade with 503; whoever was there stays."""
    async with serve() as run:
        there = await run.socket()
        await run.post("/control/fault", {"faults": ["refuse_ws:at=0,for=60"]})
        with pytest.raises(WSServerHandshakeError) as raised:
            await run.session.ws_connect(run.url + "/ws")
        assert raised.value.status == 503
        await there.send_json({"method": "ping"})
        assert (await there.receive_json(timeout=5))["channel"] == "pong"


# Requests ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "code", "words", "live"),
    [
        ("http_429:p=1", 429, "429 Too Many Requests", 0),
        ("http_5xx:p=1", 502, "502 Bad Gateway", 0),
        ("http_5xx:p=1,status=504,executed=1", 504, "504 Gateway Timeout", 2),
        ("http_5xx:p=1,status=599", 599, "599 Error", 0),
    ],
)
async def test_requests_are_refused(serve: Serve, fault: str, code: int, words: str, live: int) -> None:
    """Over REST by the status, over the socket by an error post; the action is done only if the fault says so."""
    async with serve(fault) as run:
        async with run.session.post(run.url + "/info", json={"type": "meta"}) as response:
            assert response.status == code
        body = signed(orders(order()), nonce=next(NONCES))
        async with run.session.post(run.url + "/exchange", json=body) as response:
            assert response.status == code
        socket = await run.socket()
        await send(socket, 7, orders(order("99980")))
        (answer,) = await answers(socket, 1)
        assert answer == {"id": 7, "response": {"type": "error", "payload": words}}
        assert len(await run.live()) == live
        assert await run.fired() == {fault: 3}


async def test_an_answer_is_lost_and_the_order_lives(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """ack_lost does what was asked and says nothing: over the socket for ever, over REST until it hangs up."""
    monkeypatch.setattr(server_module, "UNANSWERED_S", 0.1)
    async with serve("ack_lost:p=1") as run:
        socket = await run.socket()
        await send(socket, 1, orders(order(cloid=CLOID)))
        assert await heard(socket, 0.1) == []
        with pytest.raises((ServerDisconnectedError, ClientError)):
            await run.act(orders(order()))
        assert len(await run.live()) == 2


async def test_a_cancel_is_lost(serve: Serve) -> None:
    """cancel_lost swallows the cancel and nothing else: the order stays, and places are answered."""
    async with serve("cancel_lost:p=1") as run:
        socket = await run.socket()
        await send(socket, 1, orders(order(cloid=CLOID)))
        await send(socket, 2, cancel_by_cloid(CLOID))
        await send(socket, 3, schedule_cancel())
        assert [message["data"]["id"] for message in await heard(socket, 0.15)] == [1, 3]
        assert len(await run.live()) == 1


async def test_a_place_is_lost(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """place_lost swallows the order: nothing is live, nothing is answered, and its nonce is still unused."""
    monkeypatch.setattr(server_module, "UNANSWERED_S", 0.1)
    async with serve("place_lost:p=1") as run:
        socket = await run.socket()
        body = signed(orders(order()), nonce=next(NONCES))
        await socket.send_json({"method": "post", "id": 1, "request": {"type": "action", "payload": body}})
        assert await heard(socket, 0.1) == []
        with pytest.raises((ServerDisconnectedError, ClientError)):
            await run.post("/exchange", body)
        await run.post("/control/fault", {"faults": []})
        assert "resting" in status(await run.post("/exchange", body))


async def test_a_late_order_lands_after_its_cancel(serve: Serve) -> None:
    """late lets a cancel overtake the order that it is for: the cancel finds nothing, then the order rests."""
    async with serve("late:p=1,ms=200") as run:
        socket = await run.socket()
        await send(socket, 1, orders(order(cloid=CLOID)))
        await run.post("/control/fault", {"faults": []})
        await send(socket, 2, cancel_by_cloid(CLOID))
        cancelled, placed = await answers(socket, 2)
        assert (cancelled["id"], placed["id"]) == (2, 1)
        assert "never placed" in status(cancelled["response"]["payload"])["error"]
        assert len(await run.live()) == 1


@pytest.mark.parametrize("over_rest", [False, True])
async def test_a_late_order_dies_by_its_expiry(serve: Serve, over_rest: bool) -> None:
    """An order with expiresAfter that is done too late is refused: it cannot land."""
    async with serve("late:p=1,ms=200") as run:
        body = signed(orders(order()), nonce=next(NONCES), expires_after=time.time_ns() // 1_000_000 + 100)
        if over_rest:
            answer = await run.post("/exchange", body)
        else:
            socket = await run.socket()
            await socket.send_json({"method": "post", "id": 1, "request": {"type": "action", "payload": body}})
            answer = (await answers(socket, 1))[0]["response"]["payload"]
        assert answer == {"status": "err", "response": "Action already expired"}
        assert await run.live() == []


async def test_the_clock_is_wrong_everywhere(serve: Serve) -> None:
    """clock_skew puts every time off that the venue stamps or checks, until it is taken back."""
    async with serve("clock_skew:s=90") as run:
        now = time.time() * 1000
        socket = await run.socket(BOOKS)
        shown = [
            (await run.post("/info", {"type": "exchangeStatus"}))["time"],
            (await run.post("/info", {"type": "l2Book", "coin": "BTC"}))["time"],
            (await answers(socket, 1))[0]["time"],
        ]
        assert [round((time_ms - now) / 1000) for time_ms in shown] == [90, 90, 90]
        expired = await run.act(orders(order()), expires_after=round(now) + 60_000)
        assert expired["response"] == "Action already expired"
        await run.post("/control/fault", {"faults": []})
        assert "resting" in status(await run.act(orders(order()), expires_after=round(now) + 60_000))


# Everything at once -----------------------------------------------------------------------------------------------

STORM = (
    "drop:p=0.1,channels=l2Book+orderUpdates+post+userFills",
    "delay:p=0.1,ms=80",
    "duplicate:p=0.1",
    "reorder:p=0.1",
    "disconnect:every=0.7",
    "half_open:every=0.9,for=0.2",
    "http_429:p=0.05",
    "http_5xx:p=0.05,executed=1",
    "stale_book:every=1,for=0.3",
    "hole:every=0.5,n=3",
    "clock_skew:every=1,for=0.5,s=-3",
    "clock_skew:s=0.5",
    "ack_lost:p=0.1",
    "cancel_lost:p=0.1",
    "place_lost:p=0.1",
    "late:p=0.1,ms=150",
    "refuse_ws:every=1,for=0.2",
)


@pytest.mark.slow
async def test_a_storm(serve: Serve, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """All faults at once against clients that place and cancel: no error in the server, and in the calm it is whole."""
    monkeypatch.setattr(server_module, "UNANSWERED_S", 0.3)
    errors: list[Any] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: errors.append(context))
    with caplog.at_level(logging.WARNING):
        async with serve(*STORM, fault_seed=3, latency_ms=10.0) as run:
            market = asyncio.create_task(run.server.play(_market()))
            end = loop.time() + 4.0
            await asyncio.gather(*(_restless(run, number, end) for number in range(4)), _over_rest(run, end))
            market.cancel()
            storm = await run.fired()
            await run.post("/control/fault", {"faults": []})
            await asyncio.sleep(0.3)
            assert run.server.looking is not None and not run.server.looking.done()
            for each in await run.live():
                assert await run.act(cancel_by_cloid(each["cloid"])) is not None
            assert await run.live() == []
            assert len(run.server._connections) <= 4
            assert run.server.reception.limits._address("127.0.0.1").posts == 0
    silent = [fault for fault, fired in storm.items() if not fired]
    assert silent == [], "every fault has struck"
    assert errors == []
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


def _market() -> Any:
    """Return books and trades, a hundred a second."""
    start = time.time_ns()
    for i in range(100_000):
        ts = start + i * 10_000_000
        yield book(ts=ts) if i % 2 else trade("100000", "0.001", ts=ts)


async def _restless(run: Running, number: int, end: float) -> None:
    """Place, cancel and listen over sockets that go down all the time, until the end."""
    loop, cloid = asyncio.get_running_loop(), 0
    while loop.time() < end:
        try:
            socket = await asyncio.wait_for(run.session.ws_connect(run.url + "/ws"), 1.0)
        except (ClientError, TimeoutError):
            await asyncio.sleep(0.02)
            continue
        reader = asyncio.create_task(_listen(socket))
        try:
            for topic in ({"type": "orderUpdates"}, {"type": "userFills"}, BOOKS):
                await socket.send_json({"method": "subscribe", "subscription": {"user": "0x" + "ab" * 20} | topic})
            while loop.time() < end and not reader.done():
                cloid += 1
                name = f"0x{number:02x}{cloid:030x}"
                await send(socket, cloid, orders(order("99000", cloid=name)))
                await send(socket, cloid, cancel_by_cloid(name))
                await asyncio.sleep(0.01)
        except (ClientError, ConnectionError):
            pass
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
            await socket.close()


async def _listen(socket: ClientWebSocketResponse) -> None:
    async for _ in socket:
        pass


async def _over_rest(run: Running, end: float) -> None:
    """Ask and place over REST until the end."""
    while asyncio.get_running_loop().time() < end:
        try:
            async with asyncio.timeout(0.5):
                await run.post("/info", {"type": "openOrders", "user": "0x" + "ab" * 20})
                await run.act(orders(order("99000", cloid=f"0xff{next(NONCES):030x}")))
        except (ClientError, ConnectionError, TimeoutError, ValueError):
            await asyncio.sleep(0.01)
