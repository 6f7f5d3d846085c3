"""The practice venue on a port: HTTP, WebSockets, the network's delay and the pace of the generated market.

Invariant: each way takes half of the latency, messages of one connection never overtake each other, and no client can
slow another or make the server's memory grow. It must not know what a message means.
"""

import asyncio
import contextlib
import errno
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any, Final, TypeAlias

import msgspec
from aiohttp import WSMsgType, web

from mmpi.errors import ConfigError
from mmpi.events import MarketEvent
from mmpi.instrument import MILLISECOND, SECOND, Nanos
from mmpi.practice.hyperliquid import info
from mmpi.practice.hyperliquid.messages import UNPROCESSABLE, Json, PostRequest, UnprocessableError, encode, parse
from mmpi.practice.hyperliquid.streams import GREETING, Client, Hub
from mmpi.practice.hyperliquid.venue import Venue
from mmpi.practice.keys import REGISTRY_FILE, Registry
from mmpi.sim.market import GENERATED, Market, MarketConfig

MAX_BODY: Final = 2**20
"""Bytes of a request; 1000 orders are less than a fifth of it."""
MAX_QUEUED: Final = 1000
"""Messages waiting for one connection, either way: over a minute of what one listener of everything gets."""
MAX_SOCKETS: Final = 100
IDLE_S: Final = 60.0
"""The venue closes a connection to which it has sent nothing for so long ("Timeouts and heartbeats")."""
MAX_LAG_S: Final = 1.0
"""After a pause of the machine the market goes on from there instead of catching up."""
MAX_LATENCY_MS: Final = 10_000.0
LOOPBACK: Final = frozenset({"127.0.0.1", "::1"})

Frame: TypeAlias = tuple[float, bytes | str]
"""When it is due (loop time), and what it says."""


class _Line:
    """The way to one client: messages leave after the delay, in order; a client too slow for its queue is dropped."""

    def __init__(self, delay_s: float, drop: Callable[[], None]) -> None:
        self._delay_s = delay_s
        self._drop = drop
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(MAX_QUEUED)
        self._open = True

    def send(self, message: bytes) -> None:
        if not self._open:
            return
        try:
            self._queue.put_nowait((self._loop.time() + self._delay_s, message))
        except asyncio.QueueFull:
            self._open = False
            self._drop()

    async def pump(self, socket: web.WebSocketResponse) -> None:
        """Send what is due until the client is gone or nothing was sent for IDLE_S."""
        with contextlib.suppress(ConnectionError, TimeoutError):
            while True:
                due, message = await asyncio.wait_for(self._queue.get(), IDLE_S)
                await asyncio.sleep(max(0.0, due - self._loop.time()))
                await socket.send_frame(message, WSMsgType.TEXT)
        self._open = False
        with contextlib.suppress(ConnectionError):
            await socket.close()


class PracticeServer:
    """One venue behind one port; `dropped` counts the clients that were too slow."""

    def __init__(self, venue: Venue, hub: Hub, latency_ms: float) -> None:
        self.dropped = 0
        self._venue = venue
        self._hub = hub
        self._one_way_s = latency_ms / 2000
        self._sockets: set[web.WebSocketResponse] = set()
        app = web.Application(client_max_size=MAX_BODY)
        app.add_routes(
            [
                web.post("/info", self._info),
                web.post("/exchange", self._exchange),
                web.get("/ws", self._socket),
                web.get("/control/orders", self._control_orders),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)

    async def start(self, host: str, port: int) -> int:
        """Return the port that is now listening (a free one for 0); ConfigError if it cannot."""
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError as error:
            await self._runner.cleanup()
            if error.errno == errno.EADDRINUSE:
                text = f"port {port} on {host} is already in use; choose another with --port"
                raise ConfigError(text) from None
            raise ConfigError(f"port {port} on {host} cannot be opened: {error.strerror}") from None
        return int(self._runner.addresses[0][1])

    async def close(self) -> None:
        """Close every connection and the port."""
        for socket in tuple(self._sockets):
            await socket.close()
        await self._runner.cleanup()

    async def play(self, events: Iterator[MarketEvent]) -> None:
        """Give the venue the market's events at their pace, stamped with the wall clock; return when they end."""
        loop = asyncio.get_running_loop()
        due, previous = loop.time(), None
        for event in events:
            due += 0.0 if previous is None else (event.recv_ts - previous) / SECOND
            previous = event.recv_ts
            due = max(due, loop.time() - MAX_LAG_S)
            # What is due at once is handled at once: the first books are there before the port is.
            if (wait := due - loop.time()) > 0:
                await asyncio.sleep(wait)
            now = time.time_ns()
            self._venue.on_market(msgspec.structs.replace(event, recv_ts=now, exch_ts=now))

    async def _info(self, request: web.Request) -> web.Response:
        return await self._rest(request, lambda body, now: info.answer(self._venue, body, now))

    async def _exchange(self, request: web.Request) -> web.Response:
        return await self._rest(request, self._venue.act)

    async def _rest(self, request: web.Request, answer: Callable[[Json, Nanos], Any]) -> web.Response:
        body = await request.read()
        await asyncio.sleep(self._one_way_s)
        try:
            response = web.Response(body=encode(answer(parse(body), time.time_ns())), content_type="application/json")
        except UnprocessableError:
            response = web.Response(status=422, text=UNPROCESSABLE)
        await asyncio.sleep(self._one_way_s)
        return response

    async def _control_orders(self, request: web.Request) -> web.Response:
        if request.remote not in LOOPBACK:
            raise web.HTTPForbidden(text="/control is for this machine only")
        return web.Response(body=encode(self._venue.live_orders()), content_type="application/json")

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        if len(self._sockets) >= MAX_SOCKETS:
            raise web.HTTPTooManyRequests(text=f"more than {MAX_SOCKETS} connections")
        socket = web.WebSocketResponse(compress=False, max_msg_size=MAX_BODY)
        await socket.prepare(request)
        self._sockets.add(socket)
        line = _Line(self._one_way_s, lambda: self._drop(request))
        client = Client(self._hub, line, self._post, lambda topic, now: info.snapshot(self._venue, topic, now))
        line.send(GREETING)
        pump = asyncio.create_task(line.pump(socket))
        try:
            await self._converse(socket, client)
        finally:
            client.close()
            self._sockets.discard(socket)
            pump.cancel()
            await asyncio.gather(pump, return_exceptions=True)
        return socket

    async def _converse(self, socket: web.WebSocketResponse, client: Client) -> None:
        """Read until the client leaves; what it sent before that still arrives, as it would at the venue."""
        loop = asyncio.get_running_loop()
        inbox: asyncio.Queue[Frame | None] = asyncio.Queue(MAX_QUEUED)
        worker = asyncio.create_task(_work(inbox, client))
        async for message in socket:
            if worker.done():
                break
            if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                await inbox.put((loop.time() + self._one_way_s, message.data))
        await inbox.put(None)
        await worker

    def _post(self, request: PostRequest, now: Nanos) -> Json:
        if request.type == "action":
            return self._venue.act(request.payload, now)
        return {"type": request.payload.get("type"), "data": info.answer(self._venue, request.payload, now)}

    def _drop(self, request: web.Request) -> None:
        self.dropped += 1
        print(f"practice hyperliquid: a client was too slow and is dropped ({self.dropped} so far)", file=sys.stderr)
        if request.transport is not None:
            request.transport.abort()


async def _work(inbox: asyncio.Queue[Frame | None], client: Client) -> None:
    loop = asyncio.get_running_loop()
    while (frame := await inbox.get()) is not None:
        # Even a wait of zero lets the other connections have their turn.
        await asyncio.sleep(max(0.0, frame[0] - loop.time()))
        client.receive(frame[1], time.time_ns())


def run_practice(
    port: int,
    latency_ms: float,
    seed: int,
    secrets_dir: Path | None,
    mainnet: bool,
    *,
    registry: Path,
    host: str = "127.0.0.1",
) -> None:
    """Run a practice venue until SIGTERM or SIGINT; ConfigError if the port or a registry cannot be used.

    With `secrets_dir` its agents.json alone says who exists. Without, the agents in `registry` (to which `make_keys`
    appends) act for their accounts, and every other address is an account of its own.
    """
    if not 0 <= latency_ms <= MAX_LATENCY_MS:
        raise ConfigError(f"--latency-ms {latency_ms:g} is not between 0 and {MAX_LATENCY_MS:g}")
    if not 0 <= port <= 65_535:
        raise ConfigError(f"--port {port} is not between 0 and 65535")
    if secrets_dir is None:
        agents = Registry(registry, strict=False)
    else:
        agents = Registry(_existing(secrets_dir / REGISTRY_FILE), strict=True)
    asyncio.run(_run(agents, host, port, latency_ms, seed, mainnet))


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; make one with: mmpi practice keys --out {path.parent}")
    return path


async def _run(registry: Registry, host: str, port: int, latency_ms: float, seed: int, mainnet: bool) -> None:
    start = time.time_ns()
    hub = Hub()
    venue = Venue(GENERATED, registry, hub, mainnet=mainnet, first_id=start // MILLISECOND)
    server = PracticeServer(venue, hub, latency_ms)
    events = Market(tuple(GENERATED.values()), MarketConfig(seed=seed), Random(seed)).events(start)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    market = asyncio.create_task(server.play(events))
    stopped = asyncio.create_task(stop.wait())
    await asyncio.sleep(0)
    try:
        bound = await server.start(host, port)
        how = f"{'mainnet' if mainnet else 'testnet'} signatures, latency {latency_ms:g} ms"
        print(f"practice hyperliquid listening on http://{host}:{bound} ({how})", file=sys.stderr, flush=True)
        await asyncio.wait({market, stopped}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await server.close()
        for task in (market, stopped):
            task.cancel()
    if market.done() and not market.cancelled():
        market.result()
