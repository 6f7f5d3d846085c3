"""Webhook: posts alerts to an address that takes a text as ntfy does: the body, and headers for title and priority.

A request runs in a thread of its own, one at a time and only while there is something to post: names are looked up and
keys exchanged there. http.client and ssl take 4 MB (x86, CPython 3.11, 2026-11-29), an HTTP client on asyncio 15.

Invariant: posting never waits, what waits is bounded, and what is lost is counted; the token is in no message.
It must not know what an alert means.
"""

import asyncio
import random
import socket
import threading
import time
from base64 import b64encode
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final
from urllib.parse import quote, urlsplit

import msgspec

from mmpi.errors import ConfigError
from mmpi.runtime.service import say
from mmpi.telemetry.alerts import Alert

WAITING: Final = 64
MOST_BODY: Final = 2000
"""Bytes of a text; ntfy makes an attachment of more than 4096 (ntfy documentation, "Publishing")."""
MOST_TITLE: Final = 120
PRIORITY: Final = {"critical": "5", "warning": "3"}
RESOLVED: Final = "2"
TAGS: Final = {"critical": "rotating_light", "warning": "warning"}
"""ntfy shows these as signs (ntfy documentation, "Tags & emojis")."""
REFUSED: Final = (400, 413, 414, 431)
"""Answers that this very message would get again however often it is posted."""
WORD_BYTES: Final = 42
"""Of text in an encoded word: 56 characters of base64, and 75 are the most (RFC 2047, section 2)."""
UNRESERVED: Final = "/%:@!$&'()*+,;=-._~"
"""Characters that stay as they are in a path (RFC 3986, section 3.3), and % of what is quoted already."""
QUIET_S: Final = 300.0
"""The same trouble is told once in so long."""


class Patience(msgspec.Struct, frozen=True):
    """How long is waited; seconds."""

    request_s: float = 10.0
    """For one request, from the look-up of the name to the answer."""
    first_s: float = 1.0
    """After a request that failed; twice as long after each further one."""
    most_s: float = 60.0
    give_up_s: float = 600.0
    """An alert that is older is not posted any more."""


USUAL: Final = Patience()


class _Post(msgspec.Struct, frozen=True):
    """An alert that waits, and since when (monotonic)."""

    alert: Alert
    at: float


class Webhook:
    """One address."""

    def __init__(self, url: str, token: str = "", device: str = "", patience: Patience = USUAL) -> None:
        """`token`: "" = none; `device` begins the titles. ConfigError if address or token cannot be one."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            raise ConfigError("alerts.webhook_url: allowed: http(s)://host/path, without a password, or empty")
        if any(not "!" <= letter <= "~" for letter in token):
            raise ConfigError(f"webhook.token: no token ({len(token)} characters, not shown); allowed: an ASCII word")
        self.sent = self.dropped = self.given_up = 0
        """Alerts that were taken, that made room for newer ones, and that were not taken in time or at all."""
        self.error = ""
        """Why the last request failed; "" = it did not."""
        secure = parts.scheme == "https"
        self._place: Final = _Place(parts.hostname, parts.port or (443 if secure else 80), secure)
        self._path: Final = quote(parts.path or "/", safe=UNRESERVED)
        self._token, self._device, self._patience = token, device, patience
        self._waiting: deque[_Post] = deque()
        self._current: _Post | None = None
        self._wake = asyncio.Event()
        self._request: _Request | None = None
        self._said: tuple[str, float] = ("", 0.0)

    def post(self, alert: Alert) -> None:
        """Have an alert posted; the oldest that waits makes room."""
        if len(self._waiting) >= WAITING:
            self._waiting.popleft()
            self.dropped += 1
        self._waiting.append(_Post(alert, time.monotonic()))
        self._wake.set()

    async def run(self) -> None:
        """Post what waits, one after the other, until cancelled; what was begun goes on with the next call."""
        failures = 0
        while True:
            post = await self._next()
            if time.monotonic() - post.at > self._patience.give_up_s:
                self._give_up(post)
                continue
            status, problem = await self._attempt(post.alert)
            self.error = problem
            if not problem:
                self.sent, self._current, failures = self.sent + 1, None, 0
                continue
            self._trouble(problem)
            if status in REFUSED:
                self._give_up(post)
                continue
            pause = min(self._patience.most_s, self._patience.first_s * 2 ** min(failures, 16))
            failures += 1
            # A fleet whose server comes back does not come all at once.
            await asyncio.sleep(random.uniform(0.5, 1.0) * pause)

    def status(self) -> dict[str, Any]:
        """Return what observers may see; the path is left out, as a topic is as good as a password."""
        return {
            "server": str(self._place), "waiting": len(self._waiting) + (self._current is not None), "sent": self.sent,
            "dropped": self.dropped, "given_up": self.given_up, "error": self.error,
        }  # fmt: skip

    async def _next(self) -> _Post:
        """Return the post that is under way, or else the oldest that waits; wait for one."""
        while self._current is None:
            if self._waiting:
                self._current = self._waiting.popleft()
                break
            self._wake.clear()
            await self._wake.wait()
        return self._current

    async def _attempt(self, alert: Alert) -> tuple[int, str]:
        """Return the answer's status (0 = there was none) and why the alert was not taken, "" = it was."""
        if self._request is not None and self._request.is_running:
            # A look-up of a name cannot be broken off; there is never a second thread.
            return 0, "the last request still hangs"
        body, headers = message(alert, self._device)
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        request = self._request = _Request(self._place, self._path, body, headers, self._patience.request_s)
        try:
            async with asyncio.timeout(self._patience.request_s):
                return await request.start(asyncio.get_running_loop())
        except TimeoutError:
            return 0, f"no answer within {self._patience.request_s:g} s"
        finally:
            request.abort()

    def _give_up(self, post: _Post) -> None:
        self._current = None
        self.given_up += 1
        say(f"mmpi telemetry: webhook: {self._place}: gave up the alert {post.alert.name}: {self.error or 'too old'}")

    def _trouble(self, problem: str) -> None:
        """Say what is wrong, if it is new."""
        said, at = self._said
        if said != problem or time.monotonic() - at >= QUIET_S:
            self._said = (problem, time.monotonic())
            say(f"mmpi telemetry: webhook: {self._place}: {problem}")


class _Place(msgspec.Struct, frozen=True):
    """Where to connect to."""

    host: str
    port: int
    secure: bool

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class _Request:
    """One request, in its own thread. A redirect is an answer like any other: nobody is followed."""

    def __init__(self, place: _Place, path: str, body: bytes, headers: dict[str, str], seconds: float) -> None:
        self._place, self._path, self._body, self._headers = place, path, body, headers
        self._end = time.monotonic() + seconds
        self._socket: socket.socket | None = None
        self._aborted = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="webhook", daemon=True)
        self._told: Callable[[tuple[int, str]], None] = lambda _: None

    @property
    def is_running(self) -> bool:
        return self._thread.is_alive()

    def start(self, loop: asyncio.AbstractEventLoop) -> "asyncio.Future[tuple[int, str]]":
        """Begin; return what will have the answer's status, and why it is none that was hoped for."""
        future: asyncio.Future[tuple[int, str]] = loop.create_future()

        def take(answer: tuple[int, str]) -> None:
            if not future.done():
                future.set_result(answer)

        def told(answer: tuple[int, str]) -> None:
            # RuntimeError: the loop has ended meanwhile.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(take, answer)

        self._told = told
        self._thread.start()
        return future

    def abort(self) -> None:
        """Break it off: whatever waits for the other end fails at once."""
        with self._lock:
            self._aborted = True
            if self._socket is not None:
                # Not SSLSocket's own, which takes the other thread's state away.
                with suppress(OSError):
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def _run(self) -> None:
        # Only what is posted pays for it.
        import ssl
        from http.client import HTTPException

        answer = (0, "failed")
        try:
            status = self._exchange()
            answer = (status, "" if 200 <= status < 300 else f"HTTP {status}")
        except TimeoutError:
            answer = (0, "no answer in time")
        except ssl.SSLError as error:
            # (An SSLError is an OSError without a text of the system's.)
            answer = (0, f"TLS: {getattr(error, 'verify_message', '') or error.reason or type(error).__name__}")
        except OSError as error:
            answer = (0, error.strerror or type(error).__name__)
        except HTTPException as error:
            # What the other end says may be what we said, the token included.
            answer = (0, f"no answer in HTTP ({type(error).__name__})")
        except ValueError as error:
            answer = (0, f"the address cannot be used ({type(error).__name__})")
        finally:
            self._hold(None)
            self._told(answer)

    def _exchange(self) -> int:
        """Return the status of the answer."""
        from http.client import HTTPConnection

        place = self._place
        sock = self._connected()
        connection = HTTPConnection(place.host, place.port)
        # What has no port of its own scheme says so in Host, as a client of that scheme would.
        connection.default_port = 443 if place.secure else 80
        connection.auto_open = 0
        try:
            connection.sock = sock
            sock.settimeout(self._left())
            connection.request("POST", self._path, self._body, self._headers)
            with connection.getresponse() as response:
                return response.status
        finally:
            connection.close()
            sock.close()

    def _connected(self) -> socket.socket:
        """Return a connected socket; each address of the name gets its part of the time that is left."""
        found = socket.getaddrinfo(self._place.host, self._place.port, type=socket.SOCK_STREAM)
        for number, (family, kind, protocol, _, address) in enumerate(found):
            try:
                return self._opened(socket.socket(family, kind, protocol), address, len(found) - number)
            except OSError:
                if number + 1 == len(found):
                    raise
        raise OSError("the name has no address")

    def _opened(self, sock: socket.socket, address: Any, parts: int) -> socket.socket:
        """Return this socket connected, by TLS if wanted; closed if that fails."""
        try:
            self._hold(sock)
            sock.settimeout(self._left() / parts)
            sock.connect(address)
            if self._place.secure:
                import ssl

                # The context is not kept: it takes 2 MB, and may never be needed again.
                wrapped = ssl.create_default_context().wrap_socket(
                    sock, server_hostname=self._place.host, do_handshake_on_connect=False
                )
                sock = wrapped
                self._hold(wrapped)
                wrapped.settimeout(self._left())
                wrapped.do_handshake()
        except BaseException:
            self._hold(None)
            sock.close()
            raise
        return sock

    def _hold(self, sock: socket.socket | None) -> None:
        """Let `abort` know what to break off; OSError if it was called already."""
        with self._lock:
            self._socket = sock
            if self._aborted and sock is not None:
                raise TimeoutError

    def _left(self) -> float:
        """Return the time that is left; TimeoutError if there is none."""
        if (left := self._end - time.monotonic()) <= 0:
            raise TimeoutError
        return left


def message(alert: Alert, device: str) -> tuple[bytes, dict[str, str]]:
    """Return body and headers for an alert; all headers are ASCII and of one line, whatever is in its texts."""
    is_over = alert.state == "resolved"
    words = alert.name.replace("_", " ") + (f" {alert.instrument}" if alert.instrument else "")
    title = f"{device}: {words}" if device else words
    sign = "white_check_mark" if is_over else TAGS.get(alert.severity, "warning")
    headers = {
        "Title": encoded(f"{title} is over" if is_over else title),
        "Priority": RESOLVED if is_over else PRIORITY.get(alert.severity, "3"),
        "Tags": encoded(f"{sign},{alert.name}"),
        "Content-Type": "text/plain; charset=utf-8",
        "User-Agent": "mmpi",
        "Connection": "close",
    }
    return alert.text.encode("utf-8", "replace")[:MOST_BODY].decode("utf-8", "ignore").encode(), headers


def encoded(text: str) -> str:
    """Return a text as a header's value: as it is if it is plain ASCII, else as encoded words (RFC 2047)."""
    line = "".join(letter if letter.isprintable() else "?" for letter in " ".join(text.split())[:MOST_TITLE])
    if line.isascii() and "=?" not in line:
        return line
    words, word = [], b""
    for letter in line:
        data = letter.encode("utf-8", "replace")
        if len(word) + len(data) > WORD_BYTES:
            words.append(word)
            word = b""
        word += data
    return " ".join(f"=?UTF-8?B?{b64encode(each).decode('ascii')}?=" for each in (*words, word))
