"""A practice server in this process, on a free port, with one BTC book and no further market; and clients for it."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, ClientWebSocketResponse, TCPConnector
from practice_builders import signed, venue

from mmpi.practice.hyperliquid.server import PracticeServer
from mmpi.practice.hyperliquid.streams import Hub
from mmpi.practice.hyperliquid.tls import server_context
from mmpi.practice.hyperliquid.venue import Venue

GREETING = "Websocket connection established."


def _nonces() -> Iterator[int]:
    nonce = time.time_ns() // 1_000_000
    while True:
        nonce += 1
        yield nonce


NONCES = _nonces()


class Running:
    """The server, and a client session for it."""

    def __init__(self, server: PracticeServer, built: Venue, url: str, session: ClientSession) -> None:
        self.server, self.venue, self.url, self.session = server, built, url, session
        self.sockets: list[ClientWebSocketResponse] = []

    async def post(self, path: str, body: object) -> Any:
        """Return the JSON answer to a POST."""
        async with self.session.post(self.url + path, json=body) as response:
            return await response.json()

    async def get(self, path: str) -> Any:
        """Return the JSON at a path."""
        async with self.session.get(self.url + path) as response:
            assert response.status == 200, await response.text()
            return await response.json()

    async def act(self, action: dict[str, Any], **how: Any) -> Any:
        """Return the answer to an action signed now."""
        return await self.post("/exchange", signed(action, nonce=next(NONCES), **how))

    async def live(self) -> list[dict[str, Any]]:
        """Return what /control/orders lists."""
        listed: list[dict[str, Any]] = await self.get("/control/orders")
        return listed

    async def fired(self) -> dict[str, int]:
        """Return how often each fault has struck."""
        listed = await self.get("/control/fault")
        return {each["fault"]: each["fired"] for each in listed["faults"]}

    async def socket(self, *subscriptions: dict[str, str]) -> ClientWebSocketResponse:
        """Return a connection that was greeted, with its subscriptions asked for."""
        socket = await self.session.ws_connect(self.url + "/ws")
        self.sockets.append(socket)
        assert await socket.receive_str(timeout=5) == GREETING
        for subscription in subscriptions:
            await socket.send_json({"method": "subscribe", "subscription": subscription})
            assert (await socket.receive_json(timeout=5))["channel"] == "subscriptionResponse"
        return socket


async def send(socket: ClientWebSocketResponse, number: int, action: dict[str, Any]) -> None:
    """Post an action signed now."""
    payload = signed(action, nonce=next(NONCES))
    await socket.send_json({"method": "post", "id": number, "request": {"type": "action", "payload": payload}})


async def heard(socket: ClientWebSocketResponse, seconds: float) -> list[dict[str, Any]]:
    """Return everything that comes within so long."""
    found: list[dict[str, Any]] = []
    end = asyncio.get_running_loop().time() + seconds
    while (left := end - asyncio.get_running_loop().time()) > 0:
        try:
            found.append(await socket.receive_json(timeout=left))
        except TimeoutError:
            break
    return found


@asynccontextmanager
async def running(path: Path, latency_ms: float = 0.0, *, tls: bool = False, **how: Any) -> AsyncIterator[Running]:
    """Give a server on plain TCP or over TLS; `how` are the server's own keywords."""
    hub = Hub()
    built = venue(path, hub)
    context, trust = None, None
    if tls:
        context, ca_file = server_context(path / "tls")
        trust = ssl.create_default_context(cafile=str(ca_file))
    server = PracticeServer(built, hub, latency_ms, tls=context, **how)
    port = await server.start("127.0.0.1", 0)
    try:
        connector = TCPConnector(ssl=trust) if trust else TCPConnector()
        async with ClientSession(connector=connector) as session:
            run = Running(server, built, f"http{'s' if tls else ''}://127.0.0.1:{port}", session)
            yield run
            for socket in run.sockets:
                await socket.close()
    finally:
        await server.close()
