"""The practice venue on a port: HTTP, WebSockets, the network's delay, the pace of the market, faults, TLS.

Invariant: each way takes half of the latency, and no client can slow another or make the server's memory grow.
It must not know what a message means.
"""

import asyncio
import contextlib
import errno
import ssl
import sys
from collections.abc import Iterator, Sequence
from typing import Final

from aiohttp import web

from mmpi.errors import ConfigError
from mmpi.events import MarketEvent
from mmpi.practice.hyperliquid import control, playback
from mmpi.practice.hyperliquid.connection import Connection
from mmpi.practice.hyperliquid.fault_plan import FaultPlan
from mmpi.practice.hyperliquid.faults import read_faults
from mmpi.practice.hyperliquid.limits import Limits
from mmpi.practice.hyperliquid.messages import UNPROCESSABLE, Json, UnprocessableError, encode, parse
from mmpi.practice.hyperliquid.reception import Kind, Reception
from mmpi.practice.hyperliquid.streams import Hub
from mmpi.practice.hyperliquid.venue import Venue

MAX_BODY: Final = 2**20
"""Bytes of a request; 1000 orders are less than a fifth of it."""
MAX_SOCKETS: Final = 100
"""Of all addresses, whether or not limits of one address are enforced."""
LOOK_S: Final = 0.02
"""How often the server looks for what is due: dead-man switches, funding, sockets to cut."""
UNANSWERED_S: Final = 60.0
"""A request over REST whose answer is lost is closed after this; the venue's own time is not in our sources."""
MAX_UNANSWERED: Final = 200
"""Of them open at a time; one more is closed at once."""


class PracticeServer:
    """One venue behind one port; `dropped` counts the clients that were too slow."""

    def __init__(
        self,
        venue: Venue,
        hub: Hub,
        latency_ms: float,
        *,
        faults: Sequence[str] = (),
        fault_seed: int = 0,
        weight: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`weight` is what an address may ask for in a minute, 0 = as much as it wants; ConfigError for bad faults."""
        self.dropped = 0
        self.sockets = 0
        """Accepted since the start."""
        self.reception = Reception(venue, FaultPlan(read_faults(faults), fault_seed), Limits(weight))
        self.looking: asyncio.Task[None] | None = None
        """Ends with an error if the venue has one."""
        self._venue = venue
        self._hub = hub
        self._one_way_s = latency_ms / 2000
        self._tls = tls
        self._connections: set[Connection] = set()
        self._closing = asyncio.Event()
        self._unanswered = 0
        app = web.Application(client_max_size=MAX_BODY)
        app.add_routes([web.post("/info", self._info), web.post("/exchange", self._exchange)])
        app.add_routes([web.get("/ws", self._socket), *control.routes(venue, self)])
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)

    async def start(self, host: str, port: int) -> int:
        """Return the port that is now listening (a free one for 0); ConfigError if it cannot."""
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port, ssl_context=self._tls).start()
        except OSError as error:
            await self._runner.cleanup()
            if error.errno == errno.EADDRINUSE:
                text = f"port {port} on {host} is already in use; choose another with --port"
                raise ConfigError(text) from None
            raise ConfigError(f"port {port} on {host} cannot be opened: {error.strerror}") from None
        # The faults' time begins when clients can come.
        self._plan(self.reception.plan)
        self.looking = asyncio.create_task(self._look())
        return int(self._runner.addresses[0][1])

    async def close(self) -> None:
        """Close every connection and the port."""
        self._closing.set()
        if self.looking is not None:
            self.looking.cancel()
            await asyncio.gather(self.looking, return_exceptions=True)
        await asyncio.gather(*(connection.leave() for connection in self._connections))
        await self._runner.cleanup()

    async def play(self, events: Iterator[MarketEvent]) -> None:
        """Give the venue the market's events at their pace, stamped with its clock; return when they end."""
        await playback.play(events, self._venue.on_market, self.reception.wall, self.reception.now)

    # What /control asks for -------------------------------------------------------------------------------------------

    def faults(self) -> Json:
        """Return the faults in force, `random` spelt out, and how often each has struck."""
        plan = self.reception.plan
        return {"seed": plan.seed, "faults": [{"fault": text, "fired": fired} for text, fired in plan.fired()]}

    def set_faults(self, texts: Sequence[str], seed: int | None) -> None:
        """Replace the faults from now on; ConfigError if one cannot be read, and the present ones stay."""
        chosen = self.reception.plan.seed if seed is None else seed
        self._plan(FaultPlan(read_faults(texts), chosen))

    def cut_all(self) -> int:
        """Close every socket now; return how many there were."""
        connections = tuple(self._connections)
        for connection in connections:
            connection.cut()
        return len(connections)

    def _plan(self, plan: FaultPlan) -> None:
        now = asyncio.get_running_loop().time()
        self.reception.plan = FaultPlan(plan.faults, plan.seed, now)
        for connection in self._connections:
            connection.take_plan(now)

    # Requests ---------------------------------------------------------------------------------------------------------

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(LOOK_S)
            self._venue.tick(self.reception.now())
            for connection in tuple(self._connections):
                connection.look(loop.time())

    async def _info(self, request: web.Request) -> web.Response:
        return await self._rest(request, "info")

    async def _exchange(self, request: web.Request) -> web.Response:
        return await self._rest(request, "action")

    async def _rest(self, request: web.Request, kind: Kind) -> web.Response:
        data = await request.read()
        await asyncio.sleep(self._one_way_s)
        try:
            response = await self._answer(request, kind, parse(data))
        except UnprocessableError:
            response = web.Response(status=422, text=UNPROCESSABLE)
        await asyncio.sleep(self._one_way_s)
        return response

    async def _answer(self, request: web.Request, kind: Kind, body: Json) -> web.Response:
        reception, peer = self.reception, request.remote or ""
        verdict = reception.over_rest(kind, body, peer)
        if verdict.status:
            if verdict.executed:
                reception.answer(kind, body, reception.now())
            return web.Response(status=verdict.status)
        if verdict.fate.lost:
            return await self._leave_unanswered(request)
        if verdict.fate.late_s:
            await asyncio.sleep(verdict.fate.late_s)
        answer = reception.answer(kind, body, reception.now())
        if verdict.fate.unanswered:
            return await self._leave_unanswered(request)
        reception.charge(body, answer, peer)
        return web.Response(body=encode(answer), content_type="application/json")

    async def _leave_unanswered(self, request: web.Request) -> web.Response:
        """Say nothing for a long time, then hang up."""
        if self._unanswered < MAX_UNANSWERED:
            self._unanswered += 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), UNANSWERED_S)
            self._unanswered -= 1
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=502)

    # Sockets ----------------------------------------------------------------------------------------------------------

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        if len(self._connections) >= MAX_SOCKETS:
            raise web.HTTPTooManyRequests(text=f"more than {MAX_SOCKETS} connections")
        status, why = self.reception.refuse_socket(request.remote or "")
        if status:
            kind = web.HTTPServiceUnavailable if status == 503 else web.HTTPTooManyRequests
            raise kind(text=why)
        try:
            return await self._accept(request)
        finally:
            self.reception.limits.disconnect(request.remote or "")

    async def _accept(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=False, max_msg_size=MAX_BODY)
        await socket.prepare(request)
        self.sockets += 1
        connection = Connection(
            self.reception, self._hub, request, socket, self._one_way_s, self.sockets, self._too_slow
        )
        self._connections.add(connection)
        try:
            await connection.converse()
        finally:
            self._connections.discard(connection)
        return socket

    def _too_slow(self, connection: Connection) -> None:
        self.dropped += 1
        print(f"practice hyperliquid: a client was too slow and is dropped ({self.dropped} so far)", file=sys.stderr)
        connection.cut()
