"""Control sockets: one JSON object a line, request and answers, between processes of one machine.

Invariant: a peer that floods, stalls or talks nonsense costs its own connection and nothing else; an urgent request is
neither refused nor made to wait by any number of others.
It must not know what commands mean.
"""

import asyncio
import socket
import stat
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from mmpi.errors import ConfigError, RefusedError, RemoteError
from mmpi.runtime.peers import Peer as Peer
from mmpi.runtime.peers import Peers

MAX_LINE: Final = 16 * 1024
MAX_CLIENTS: Final = 64
MAX_AT_WORK: Final = 32
"""Of them may be answered at the same time, the urgent ones not counted: those always find a place."""
URGENT: Final = frozenset({"kill", "press", "latch"})
SILENT_S: Final = 0.1
"""Silent for so long, a connection makes room for another one. What was sent at once has been read by then."""
IDLE_S: Final = 5.0
"""A request has to come whole within this, or its connection is closed."""
WRITE_S: Final = 1.0
"""A peer that does not take an answer within this is closed."""
REQUESTS_PER_S: Final = 200.0
"""Of all connections together, who take turns; urgent ones are not counted. Ten a second is what observers ask for."""
CONNECTIONS_PER_S: Final = 100.0
"""One costs about three requests. What comes faster waits in the kernel's queue, in order of arrival."""
BURST: Final = 40
"""That many come at any speed."""
BACKLOG: Final = 16
"""Connections that the kernel keeps for us; a client beyond them waits in its connect."""

Answer = Callable[[dict[str, Any]], Awaitable[None]]
Handler = Callable[[dict[str, Any], Peer, Answer], Awaitable[None]]
"""(request, who asks, send an answer line)."""


class Pace:
    """Turns at `per_s` a second after a burst, given in the order in which they are asked for."""

    def __init__(self, per_s: float, burst: int) -> None:
        self._interval: Final = 1 / per_s
        self._ahead: Final = burst / per_s
        self._next = 0.0

    def reserve(self, now: float) -> float:
        """Return how many seconds to wait for the next turn, which is taken."""
        self._next = max(self._next, now - self._ahead) + self._interval
        return max(0.0, self._next - now)


class ControlServer:
    """A Unix socket that serves commands to root, to this user, and to the group of the socket's folder."""

    def __init__(self, path: Path, handler: Handler) -> None:
        self.path = path
        self.refused = 0
        """Connections and lines that were not served."""
        self._handler = handler
        self._peers = Peers(path)
        self._socket: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._conversations: set[asyncio.Task[None]] = set()
        self._ended = asyncio.Event()
        """A conversation has ended since it was last cleared."""
        self._idle: dict[asyncio.StreamWriter, float] = {}
        """Connections that do not ask anything -> since when, the longest first."""
        self._at_work = 0
        """Requests being answered, without the urgent ones."""
        self._requests = Pace(REQUESTS_PER_S, BURST)
        self._connections = Pace(CONNECTIONS_PER_S, BURST)

    async def start(self) -> None:
        """Listen; RefusedError if a live process already does, ConfigError if the path cannot be used."""
        if self.path.exists():
            if not stat.S_ISSOCK(self.path.stat().st_mode):
                raise RefusedError(f"{self.path}: exists and is not a socket")
            if _answers(self.path):
                raise RefusedError(f"{self.path}: another guardian is listening")
        self._socket = listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.path.unlink(missing_ok=True)
            listener.setblocking(False)
            listener.bind(str(self.path))
            # Nobody can connect before it listens, so nobody could while it had other rights.
            self.path.chmod(0o660)
            listener.listen(BACKLOG)
        except OSError as error:
            listener.close()
            # A path that is too long has no number, only a sentence.
            raise ConfigError(f"{self.path}: no socket can be opened here: {error.strerror or error}") from None
        self._accepting = asyncio.create_task(self._accept(listener))

    async def close(self) -> None:
        """Stop listening and remove the socket."""
        if self._accepting is not None and self._socket is not None:
            self._accepting.cancel()
            await asyncio.wait({self._accepting})
            self._socket.close()
            self.path.unlink(missing_ok=True)

    # Connections --------------------------------------------------------------------------------------------------

    async def _accept(self, listener: socket.socket) -> None:
        """Begin conversations for ever, each in its turn."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._connections.reserve(loop.time()))
            try:
                link, _ = await loop.sock_accept(listener)
            except OSError:
                # Gone before it was taken, or no descriptor is left; the next turn may be luckier.
                self.refused += 1
                continue
            try:
                await self._room()
            except asyncio.CancelledError:
                link.close()
                raise
            task = asyncio.create_task(self._serve(link))
            self._conversations.add(task)
            task.add_done_callback(self._end)

    async def _room(self) -> None:
        """Return once there is room for one more; the connection that has been silent for longest is closed for it."""
        loop = asyncio.get_running_loop()
        while len(self._conversations) >= MAX_CLIENTS:
            silent, since = next(iter(self._idle.items()), (None, 0.0))
            if silent is not None and loop.time() - since >= SILENT_S:
                del self._idle[silent]
                silent.close()
            self._ended.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(SILENT_S):
                    await self._ended.wait()

    def _end(self, task: "asyncio.Task[None]") -> None:
        self._conversations.discard(task)
        self._ended.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            told = {"message": "a request failed", "exception": error, "task": task}
            task.get_loop().call_exception_handler(told)

    async def _serve(self, link: socket.socket) -> None:
        """Talk to one peer until it ends, errs, or is in the way."""
        writer: asyncio.StreamWriter | None = None
        try:
            peer = await self._peers.known(link)
            if peer is None:
                self.refused += 1
                return
            reader, writer = await asyncio.open_unix_connection(sock=link, limit=MAX_LINE)
            await self._converse(reader, writer, peer)
        except (OSError, asyncio.IncompleteReadError):
            self.refused += 1
        except asyncio.CancelledError:
            # The process ends. CPython 3.11 prints a traceback for a connection whose task ends as cancelled.
            pass
        finally:
            if writer is None:
                link.close()
            else:
                writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: Peer) -> None:
        loop = asyncio.get_running_loop()
        while (request := await self._request(reader, writer)) is not None:
            urgent = request.get("cmd") in URGENT
            if not urgent and self._at_work >= MAX_AT_WORK:
                self.refused += 1
                return
            self._at_work += not urgent
            try:
                # Requests that are already here are read without a wait: let the others have their turn.
                await asyncio.sleep(0 if urgent else self._requests.reserve(loop.time()))
                await self._handler(request, peer, lambda answer: _write(writer, answer))
            finally:
                self._at_work -= not urgent

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> dict[str, Any] | None:
        """Return the next request, or None if the connection is to be closed."""
        self._idle[writer] = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(IDLE_S):
                line = await reader.readline()
            return msgspec.json.decode(line, type=dict[str, Any]) if line else None
        except (ValueError, msgspec.MsgspecError):
            # Too long, or no JSON object: what follows cannot be trusted to start at a line.
            self.refused += 1
            return None
        finally:
            self._idle.pop(writer, None)


async def call(path: Path, request: dict[str, Any], timeout_s: float) -> AsyncIterator[dict[str, Any]]:
    """Yield the answer lines to one request until one has `final`; RemoteError if nobody answers in time."""
    # The time allowed must not run inside a `yield`: it would cancel whatever the caller then waits for.
    end = asyncio.get_running_loop().time() + timeout_s
    try:
        async with asyncio.timeout_at(end):
            reader, writer = await asyncio.open_unix_connection(sock=await _connected(path, timeout_s), limit=MAX_LINE)
        try:
            writer.write(msgspec.json.encode(request) + b"\n")
            while line := await _line(reader, end):
                answer = msgspec.json.decode(line, type=dict[str, Any])
                yield answer
                if answer.get("final"):
                    return
        finally:
            writer.close()
    except (FileNotFoundError, ConnectionRefusedError):
        raise RemoteError(f"{path}: no guardian is listening; start one with: mmpi guardian") from None
    except TimeoutError:
        raise RemoteError(f"{path}: the guardian did not answer within {timeout_s:g} s") from None
    except OSError as error:
        raise RemoteError(f"{path}: {error.strerror or error}") from None
    except (ValueError, msgspec.MsgspecError) as error:
        raise RemoteError(f"{path}: the guardian's answer cannot be read: {error}") from None
    raise RemoteError(f"{path}: the guardian closed the connection without an answer")


async def _connected(path: Path, timeout_s: float) -> socket.socket:
    """Return a connection; it waits in the kernel's queue if there is one, which only a blocking connect can."""
    link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        link.setblocking(False)
        try:
            link.connect(str(path))
        except BlockingIOError:
            # A thread of its own: the usual ones may all be waiting for a name server.
            thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="connect")
            try:
                await asyncio.get_running_loop().run_in_executor(thread, _queue_up, link, path, timeout_s)
            finally:
                thread.shutdown(wait=False)
    except BaseException:
        link.close()
        raise
    return link


def _queue_up(link: socket.socket, path: Path, timeout_s: float) -> None:
    """Connect as soon as the server takes one more; BlockingIOError if that takes too long."""
    link.setblocking(True)
    seconds, micros = divmod(round(timeout_s * 1e6), 1_000_000)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", seconds, micros))
    link.connect(str(path))
    link.setblocking(False)


async def _line(reader: asyncio.StreamReader, end: float) -> bytes:
    async with asyncio.timeout_at(end):
        return await reader.readline()


async def _write(writer: asyncio.StreamWriter, answer: dict[str, Any]) -> None:
    writer.write(msgspec.json.encode(answer) + b"\n")
    async with asyncio.timeout(WRITE_S):
        await writer.drain()


def _answers(path: Path) -> bool:
    """Return True unless certainly nobody listens: a guardian that is too busy to accept is one."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(0.2)
        try:
            probe.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except OSError:
            return True
        return True
