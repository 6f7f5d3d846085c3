"""Web: the page's server on the loopback address: the page, its live data, commands, /metrics.

Invariant: a client that reads slowly, or not at all, makes nobody wait and costs a bounded memory: of each state the
newest alone is kept for it. A kill is never refused for its rate. It must not know where states come from, or what a
command does. docs/page.md explains it to the owner.
"""

import asyncio
import contextlib
import secrets
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec
from aiohttp import ClientError, WebSocketError, WSCloseCode, WSMsgType, web

from mmpi.channels import WebSettings
from mmpi.errors import ConfigError, MmpiError
from mmpi.telemetry.web_guard import (
    ANSWER_S,
    COMMANDS_BURST,
    COMMANDS_PER_S,
    HEADERS,
    MAX_BODY,
    Connection,
    Doors,
    Guard,
    Rate,
    Server,
    body_of,
)

HOST: Final = "127.0.0.1"
PAGE: Final = Path(__file__).with_name("page")
FILES: Final = {
    "/": ("index.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
    "/manifest.webmanifest": ("manifest.webmanifest", "application/manifest+json"),
}
TOKEN_PLACE: Final = b"@TOKEN@"
MAX_CLIENTS: Final = 16
HEARTBEAT_S: Final = 10.0
"""How often a silent client is asked whether it is there; it has half of that to answer."""
SEND_BUFFER: Final = 32_768
"""Bytes that wait in the kernel for a slow client, and as many here: states in there are old when they are read."""
MAX_UNDER_WAY: Final = 8
"""Commands at a time, but for the urgent ones."""
KILL_S: Final = 20.0
"""An urgent command that takes longer is given up, so that the next one begins anew; the guardian's zero takes 3 s."""
COMMAND_S: Final = 90.0
"""The guardian gives selling all that is held 60 s."""
MAX_REASON: Final = 200
PAUSE_S: Final = 0.25
"""After a fault of the source."""

COMMANDS: Final = ("kill", "pause", "resume", "flatten")
BUTTONS: Final = ("arm_down", "arm_up", "red_down", "red_up")
"""Of a virtual panel."""
URGENT: Final = ("kill", "red_down", "red_up", "arm_up")
"""Never refused for their rate: what stops, and what lets go. The same again joins the one that is under way."""


class Source(Protocol):
    """What the page is made of, and who obeys it."""

    panel: bool
    """There is a virtual front panel (the demo), whose buttons the page may hold."""

    def state(self) -> bytes:
        """Return the newest `PageState` as JSON; one text for all clients."""
        ...

    def history(self) -> bytes:
        """Return the past as JSON (`History.encoded`)."""
        ...

    async def wait(self) -> None:
        """Return when there is a newer state."""
        ...

    async def command(self, name: str, reason: str) -> dict[str, Any]:
        """Do what is asked; return the guardian's last answer (mmpi.control), MmpiError if it failed.

        The page reads of it: error or text, verified, verified_ms, causes, note.
        """
        ...

    def metrics(self) -> tuple[bytes, str] | None:
        """Return /metrics and its content type; None = there is none."""
        ...


class Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A command's body."""

    name: str
    reason: str = ""


class _Client:
    """One page's socket, and the state that waits for it."""

    def __init__(self, out: web.WebSocketResponse, connection: Connection) -> None:
        self._out, self._connection = out, connection
        self._next: bytes | None = None
        self._begun = False
        """It has taken the past; what was newer meanwhile was not skipped."""
        self._ready = asyncio.Event()

    def offer(self, state: bytes) -> bool:
        """Take a state in place of the one that still waits; return True if there was one."""
        replaced = self._next is not None and self._begun
        self._next = state
        self._ready.set()
        return replaced

    async def send(self, first: bytes) -> None:
        """Send this and then, for ever, the newest state; a client that takes nothing for ANSWER_S is cut off."""
        text = first
        with contextlib.suppress(ConnectionError, ClientError):
            while True:
                try:
                    async with asyncio.timeout(ANSWER_S):
                        await self._out.send_frame(text, WSMsgType.TEXT)
                except TimeoutError:
                    self._connection.cut()
                    return
                await self._ready.wait()
                self._ready.clear()
                self._begun = True
                text, self._next = self._next or b"", None


class Web:
    """The server. `counters` counts what is refused (web_<reason>, web_guard.REFUSALS) and states that were skipped."""

    def __init__(self, settings: WebSettings, source: Source, counters: "Counter[str] | None" = None) -> None:
        """Port 0 is a free one; `port` names it once it is listened on."""
        self.counters: Final[Counter[str]] = Counter() if counters is None else counters
        self.port = settings.port
        self._metrics: Final = settings.metrics
        self._source = source
        self._token: Final = secrets.token_urlsafe(32)
        self._files: Final = {path: _file(name, kind, self._token) for path, (name, kind) in FILES.items()}
        self._rate: Final = Rate(COMMANDS_PER_S, COMMANDS_BURST)
        self._clients: set[_Client] = set()
        self._urgent: dict[str, asyncio.Task[dict[str, Any]]] = {}
        self._under_way = 0
        self._runner: web.ServerRunner | None = None
        self._pumping: asyncio.Task[None] | None = None

    @property
    def clients(self) -> int:
        """Return how many pages have a socket."""
        return len(self._clients)

    async def run(self) -> None:
        """Serve until cancelled; ConfigError if the port cannot be had."""
        await self.start()
        try:
            await asyncio.Event().wait()
        finally:
            await self.close()

    async def start(self) -> None:
        """Listen; `port` is then the one that was found. ConfigError if it cannot be had."""
        listening = _listen(self.port)
        self.port = listening.getsockname()[1]
        self._guard = Guard(self.port, self._token, self.counters)
        runner = web.ServerRunner(Server(self._answer, Doors(self._guard, self.counters)), shutdown_timeout=0.2)
        await runner.setup()
        await web.SockSite(runner, listening).start()
        self._runner, self._pumping = runner, asyncio.create_task(self._pump())

    async def close(self) -> None:
        """End all connections and the port."""
        tasks = [*self._urgent.values(), *([self._pumping] if self._pumping is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _pump(self) -> None:
        """Offer each new state to all clients."""
        while True:
            try:
                await self._source.wait()
                state = self._source.state() if self._clients else b""
            except Exception:  # the page must go on when one state cannot be made
                self.counters["web_error"] += 1
                await asyncio.sleep(PAUSE_S)
                continue
            for client in self._clients:
                if client.offer(state):
                    self.counters["web_states_skipped"] += 1

    # Requests -----------------------------------------------------------------------------------------------------

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request, the taking of the answer included."""
        connection = request.protocol
        assert isinstance(connection, Connection)
        connection.begin()
        if (request.method, request.path) == ("GET", "/live"):
            return await self._live(request, connection)
        answer = await self._plain(request, connection)
        try:
            async with asyncio.timeout(ANSWER_S):
                await answer.prepare(request)
                await answer.write_eof()
        except TimeoutError:
            self.counters["web_slow"] += 1
            connection.cut()
        connection.end(goes_on=bool(answer.keep_alive))
        return answer

    async def _plain(self, request: web.BaseRequest, connection: Connection) -> web.StreamResponse:
        """Return the answer to everything but the socket."""
        posted = (request.method, request.path) == ("POST", "/command")
        if why := self._guard.stranger(request, posted) or (self._guard.unfit(request) if posted else ""):
            return self._guard.refuse(why)
        try:
            if posted:
                connection.held = True
                return await self._command(request)
            return self._get(request.path) if request.method == "GET" else self._guard.refuse("not_found")
        except Exception:  # one request's fault is not the server's end
            return self._guard.refuse("error")
        finally:
            connection.held = False

    def _get(self, path: str) -> web.Response:
        if (file := self._files.get(path)) is not None:
            return _ok(*file)
        if path == "/status.json":
            return _ok(self._source.state(), "application/json")
        if path == "/metrics" and self._metrics and (metrics := self._source.metrics()) is not None:
            text, kind = metrics
            return web.Response(body=text, headers={**HEADERS, "Content-Type": kind})
        return self._guard.refuse("not_found")

    async def _live(self, request: web.BaseRequest, connection: Connection) -> web.StreamResponse:
        """Serve one socket until it ends."""
        out = web.WebSocketResponse(
            heartbeat=HEARTBEAT_S, max_msg_size=MAX_BODY, compress=False, timeout=1.0, writer_limit=SEND_BUFFER
        )
        if why := self._guard.stranger(request, True):
            return self._guard.refuse(why)
        if not out.can_prepare(request).ok or "Sec-WebSocket-Protocol" in request.headers:
            return self._guard.refuse("upgrade")
        if len(self._clients) >= MAX_CLIENTS:
            return self._guard.refuse("clients")
        client = _Client(out, connection)
        self._clients.add(client)
        connection.held = True
        sending: asyncio.Task[None] | None = None
        try:
            _keep_short(request)
            out.headers.update(HEADERS)
            await out.prepare(request)
            client.offer(self._source.state())
            sending = asyncio.create_task(client.send(self._source.history()))
            await self._listen_to(out)
        except (web.HTTPException, ConnectionError):
            if not out.prepared:
                return self._guard.refuse("upgrade")
        except Exception:  # one page's fault is not the server's end
            self.counters["web_error"] += 1
        finally:
            self._clients.discard(client)
            if sending is not None:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
        return out

    async def _listen_to(self, out: web.WebSocketResponse) -> None:
        """Return when the socket has ended; a client that says anything is refused."""
        said = await out.receive()
        if said.type in (WSMsgType.TEXT, WSMsgType.BINARY):
            self.counters["web_message"] += 1
            await out.close(code=WSCloseCode.POLICY_VIOLATION, message=b"this socket only tells")
        elif isinstance(said.data, WebSocketError):
            # Too long, not UTF-8, or no frame at all: it was closed with the reason.
            self.counters["web_message"] += 1

    # Commands -----------------------------------------------------------------------------------------------------

    async def _command(self, request: web.BaseRequest) -> web.Response:
        body, why = await body_of(request)
        if why:
            return self._guard.refuse(why)
        try:
            asked = msgspec.json.decode(body, type=Asked)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return self._guard.refuse("command")
        name = asked.name
        if name not in COMMANDS and not (self._source.panel and name in BUTTONS):
            return self._guard.refuse("command")
        reason = "".join(each if each.isprintable() else " " for each in asked.reason[:MAX_REASON]).strip()
        if name in URGENT:
            return await _told(lambda: self._joined(name, reason))
        if not self._rate.take(time.monotonic()):
            return self._guard.refuse("rate")
        if self._under_way >= MAX_UNDER_WAY:
            return self._guard.refuse("busy")
        self._under_way += 1
        try:
            return await _told(lambda: self._done(name, reason, COMMAND_S))
        finally:
            self._under_way -= 1

    async def _joined(self, name: str, reason: str) -> dict[str, Any]:
        """Return what came of an urgent command: of the one that is under way, or of a new one."""
        task = self._urgent.get(name)
        if task is None or task.done():
            task = self._urgent[name] = asyncio.create_task(self._done(name, reason, KILL_S))
        else:
            self.counters["web_joined"] += 1
        return await asyncio.shield(task)

    async def _done(self, name: str, reason: str, limit_s: float) -> dict[str, Any]:
        async with asyncio.timeout(limit_s):
            return await self._source.command(name, reason)


async def _told(command: Callable[[], Awaitable[dict[str, Any]]]) -> web.Response:
    """Return what came of a command as its answer."""
    try:
        said = await command()
    except MmpiError as error:
        return _json({"error": str(error)}, 502)
    except TimeoutError:
        return _json({"error": "no answer in time; whether it was done is not known"}, 504)
    return _json(said, 200)


def _json(said: dict[str, Any], status: int) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(said), status=status, content_type="application/json", headers=HEADERS
    )


def _ok(body: bytes, kind: str) -> web.Response:
    charset = "utf-8" if kind.startswith("text/") else None
    return web.Response(body=body, content_type=kind, charset=charset, headers=HEADERS)


def _file(name: str, kind: str, token: str) -> tuple[bytes, str]:
    """Return a file of the page with its type; ConfigError if this installation lacks it."""
    try:
        return (PAGE / name).read_bytes().replace(TOKEN_PLACE, token.encode()), kind
    except OSError as error:
        raise ConfigError(f"{PAGE / name}: the page cannot be read: {error.strerror}") from None


def _listen(port: int) -> socket.socket:
    """Return a socket that is bound to the port on the loopback address; ConfigError if it cannot be."""
    bound = socket.socket()
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((HOST, port))
    except OSError as error:
        bound.close()
        raise ConfigError(f"web.port = {port}: {HOST} cannot be listened on: {error.strerror}") from None
    return bound


def _keep_short(request: web.BaseRequest) -> None:
    """Make the queues to a client short."""
    transport = request.transport
    if transport is not None:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        transport.set_write_buffer_limits(high=SEND_BUFFER)
