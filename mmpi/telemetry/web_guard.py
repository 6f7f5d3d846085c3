"""Web guard: which requests the page's server obeys, what it says to the others, and what it counts of them.

The server listens on the loopback address, which does not keep out the pages that a browser on the same machine has
open: a strange page may send requests there, and by DNS rebinding even reads answers. So a request must name this
server in Host, come from its own page (Origin, Sec-Fetch-Site), and, to change anything, carry the page's token.

Invariant: reasons are a fixed set, so that counting never grows. It must not know what a request is for.
"""

import asyncio
import hmac
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import RawRequestMessage

MAX_BODY: Final = 1024
"""Bytes of a request's body, or of a message on the socket; a command has a tenth of it."""
MAX_CONNECTIONS: Final = 64
"""Sixteen pages with a socket and a few requests each."""
MAX_HEADER: Final = 4096
"""Bytes of the request line, and of one header."""
MAX_HEADERS: Final = 64
HEAD_S: Final = 5.0
"""For a request's head to come, also the next one on a connection that is kept."""
BODY_S: Final = 3.0
ANSWER_S: Final = 10.0
"""For a client to take an answer."""
LINGER_S: Final = 0.5
"""How long what is still coming of a refused body is thrown away, so that the refusal can be read."""
COMMANDS_PER_S: Final = 5.0
COMMANDS_BURST: Final = 10.0

HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; manifest-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Of every answer, refusals included. Nothing is kept by a browser: the page has the token in it."""

REFUSALS: Final[dict[str, tuple[int, str]]] = {
    "host": (403, "this server is not called that: open it as http://localhost with its own port"),
    "site": (403, "asked for by another site's page: open this address by hand"),
    "origin": (403, "not asked for by this server's own page"),
    "header": (403, "the header X-Mmpi: 1 is missing"),
    "token": (403, "not the token of this run: load the page again"),
    "type": (415, "Content-Type must be application/json"),
    "body": (413, f"the body has more than {MAX_BODY} bytes"),
    "slow": (408, "it did not come, or was not taken, in time"),
    "command": (400, 'a command is {"name": ..., "reason": ...}, with a name that is known here'),
    "rate": (429, "too many commands; kill is always taken"),
    "busy": (429, "too many commands are under way; kill is always taken"),
    "upgrade": (400, "this is a WebSocket"),
    "clients": (503, "as many pages are open as this box serves"),
    "not_found": (404, "there is no such thing here"),
    "malformed": (400, "this is no HTTP request, or one of its headers is too long"),
    "error": (500, "this server has a fault; it is counted"),
    "connections": (503, "too many connections"),
    "unfinished": (408, "the request did not come whole"),
    "message": (400, "this socket only tells"),
}
"""Reason -> status and words; counted as web_<reason>. The last three have no answer: the connection is closed."""


def refusal(reason: str) -> web.Response:
    """Return the answer to a request that is refused; it is the last one on its connection."""
    status, text = REFUSALS[reason]
    answer = web.json_response({"error": text, "refused": reason}, status=status, headers=HEADERS)
    answer.force_close()
    return answer


class Rate:
    """A bucket of permits that fills up by itself; `now` is monotonic seconds."""

    def __init__(self, per_s: float, burst: float) -> None:
        self._per_s, self._burst = per_s, burst
        self._left, self._at = burst, 0.0

    def take(self, now: float) -> bool:
        """Return True, and take one permit, if there is one."""
        self._left = min(self._burst, self._left + (now - self._at) * self._per_s)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Guard:
    """Judges requests by their heads; `token` is that of this run."""

    def __init__(self, port: int, token: str, counters: "Counter[str]") -> None:
        names = ("localhost", "127.0.0.1", "[::1]")
        self._hosts: Final = {f"{name}:{port}" for name in names} | (set(names) if port == 80 else set())
        self._token: Final = token.encode()
        self._counters: Final = counters

    def refuse(self, reason: str) -> web.Response:
        """Count a refusal and return its answer."""
        self._counters[f"web_{reason}"] += 1
        return refusal(reason)

    def stranger(self, request: web.BaseRequest, must_say: bool) -> str:
        """Return why a request is not of our own page, "" = it may be; `must_say`: it has to name its origin."""
        headers = request.headers
        hosts = [host.lower() for host in headers.getall("Host", [])]
        if len(hosts) != 1 or hosts[0] not in self._hosts:
            return "host"
        if any(site not in ("same-origin", "none") for site in headers.getall("Sec-Fetch-Site", [])):
            # same-site, too: that is any other port of localhost.
            return "site"
        origins = headers.getall("Origin", [])
        if any(origin.lower() != f"http://{hosts[0]}" for origin in origins) or (must_say and len(origins) != 1):
            return "origin"
        return ""

    def unfit(self, request: web.BaseRequest) -> str:
        """Return why a request of our own page may change nothing, "" = it may."""
        if request.content_type != "application/json":
            return "type"
        if request.headers.getall("X-Mmpi", []) != ["1"]:
            return "header"
        given = request.headers.get("X-Mmpi-Token", "").encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(given, self._token):
            return "token"
        return "body" if (request.content_length or 0) > MAX_BODY else ""


async def body_of(request: web.BaseRequest) -> tuple[bytes, str]:
    """Return the body and "", or nothing and why it is not taken."""
    try:
        async with asyncio.timeout(BODY_S):
            return await request.read(), ""
    except TimeoutError:
        return b"", "slow"
    except web.HTTPRequestEntityTooLarge:
        return b"", "body"
    except (ConnectionError, web.RequestPayloadError, HttpProcessingError):
        return b"", "malformed"


class Doors:
    """The connections that are open; one too many ends the oldest that only waits, so that nobody locks others out."""

    def __init__(self, guard: Guard, counters: "Counter[str]") -> None:
        self.guard: Final = guard
        self.counters: Final = counters
        self._open: dict[Connection, None] = {}

    def enter(self, connection: "Connection") -> None:
        """Take a new connection in, or cut off an old one or this one."""
        self._open[connection] = None
        if len(self._open) > MAX_CONNECTIONS:
            self.counters["web_connections"] += 1
            # The newest is idle, too: there is always one.
            victim = next(each for each in self._open if not each.held)
            self._open.pop(victim)
            victim.cut()

    def leave(self, connection: "Connection") -> None:
        """Forget a connection that is over."""
        self._open.pop(connection, None)


class Connection(web.RequestHandler):
    """One connection."""

    def __init__(self, server: "Server", doors: Doors, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(
            server, loop=loop, keepalive_timeout=HEAD_S, max_line_size=MAX_HEADER, max_field_size=MAX_HEADER,
            max_headers=MAX_HEADERS, lingering_time=LINGER_S, read_bufsize=2 * MAX_BODY, auto_decompress=False,
            access_log=None,  # type: ignore[arg-type]  # it is asked whether there is one
        )  # fmt: skip
        self.held = False
        """A socket, or a command under way: not to be cut off for others."""
        self._doors = doors
        self._answering = False
        self._unfinished = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        super().connection_made(transport)
        self._doors.enter(self)

    def data_received(self, data: bytes) -> None:
        """Take bytes of a request, or of a socket."""
        if data:
            self._unfinished = not self._answering
        super().data_received(data)

    def begin(self) -> None:
        """The head of a request has come; what comes from now on belongs to that."""
        self._answering, self._unfinished = True, False

    def end(self, goes_on: bool) -> None:
        """A request is answered; `goes_on`: another one may come."""
        self._answering = not goes_on

    def connection_lost(self, exc: BaseException | None) -> None:
        """End; a request that never came whole is counted."""
        if self._unfinished:
            self._doors.counters["web_unfinished"] += 1
        self._doors.leave(self)
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,  # noqa: ARG002  # aiohttp's signature
        message: str | None = None,  # noqa: ARG002
    ) -> web.StreamResponse:
        """Return the answer to what is no request; nothing of it is repeated or logged."""
        self.begin()
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun already")
        return self._doors.guard.refuse("malformed" if status == 400 else "error")

    def cut(self) -> None:
        """End the connection at once, whatever is still to be sent."""
        if self.transport is not None:
            # It is a transport of TCP, which has an abort.
            self.transport.abort()


class Server(web.Server):
    """Makes a `Connection` of everybody who connects, and has `handler` answer."""

    def __init__(self, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], doors: Doors) -> None:
        self._doors = doors
        self._running = asyncio.get_running_loop()
        super().__init__(handler, request_factory=self._small)

    def __call__(self) -> Connection:
        """Return what serves one connection."""
        return Connection(self, self._doors, self._running)

    def _small(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> web.BaseRequest:
        """Return a request whose body may have MAX_BODY bytes."""
        return web.BaseRequest(message, payload, protocol, writer, task, self._running, client_max_size=MAX_BODY)
