"""Control sockets: one JSON object a line, request and answers, between processes of one machine.

Invariant: a peer that floods, stalls or talks nonsense costs its own connection and nothing else.
It must not know what commands mean.
"""

import asyncio
import os
import socket
import stat
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from mmpi.errors import ConfigError, RefusedError, RemoteError

MAX_LINE: Final = 16 * 1024
MAX_CLIENTS: Final = 32
IDLE_S: Final = 5.0
"""A request has to come whole within this, or its connection is closed."""
WRITE_S: Final = 1.0
"""A peer that does not take an answer within this is closed."""
_UCRED: Final = struct.Struct("3i")

Answer = Callable[[dict[str, Any]], Awaitable[None]]
Handler = Callable[[dict[str, Any], int, Answer], Awaitable[None]]
"""(request, peer's process id, send an answer line)."""


class ControlServer:
    """A Unix socket that serves commands to processes of the same user, or of root."""

    def __init__(self, path: Path, handler: Handler) -> None:
        self.path = path
        self.refused = 0
        """Connections and lines that were not served."""
        self._handler = handler
        self._server: asyncio.Server | None = None
        self._clients = 0
        self._idle: dict[asyncio.StreamWriter, None] = {}
        """Connections that have not asked yet, the longest waiting first."""

    async def start(self) -> None:
        """Listen; RefusedError if a live process already does, ConfigError if the path cannot be used."""
        if self.path.exists():
            if not stat.S_ISSOCK(self.path.stat().st_mode):
                raise RefusedError(f"{self.path}: exists and is not a socket")
            if _answers(self.path):
                raise RefusedError(f"{self.path}: another guardian is listening")
            self.path.unlink()
        try:
            self._server = await asyncio.start_unix_server(self._serve, self.path, limit=MAX_LINE)
            self.path.chmod(0o660)
        except OSError as error:
            # A path that is too long has no number, only a sentence.
            raise ConfigError(f"{self.path}: no socket can be opened here: {error.strerror or error}") from None

    async def close(self) -> None:
        """Stop listening and remove the socket."""
        if self._server is not None:
            self._server.close()
            self.path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pid, uid = _peer(writer)
        if uid not in (0, os.getuid()) or not self._has_room():
            self.refused += 1
            writer.close()
            return
        self._clients += 1
        try:
            while (request := await self._request(reader, writer)) is not None:
                await self._handler(request, pid, lambda answer: _write(writer, answer))
                # Requests that are already here are read without a wait: let the others have their turn.
                await asyncio.sleep(0)
        except (OSError, asyncio.IncompleteReadError):
            self.refused += 1
        except asyncio.CancelledError:
            # The process ends. CPython 3.11 prints a traceback for a connection whose task ends as cancelled.
            pass
        finally:
            self._clients -= 1
            writer.close()

    def _has_room(self) -> bool:
        """Return True if one more may come; the connection that has been silent for longest makes room for it."""
        if self._clients < MAX_CLIENTS:
            return True
        silent = next(iter(self._idle), None)
        if silent is None:
            return False
        del self._idle[silent]
        silent.close()
        return True

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> dict[str, Any] | None:
        """Return the next request, or None if the connection is to be closed."""
        self._idle[writer] = None
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
            reader, writer = await asyncio.open_unix_connection(path, limit=MAX_LINE)
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


async def _line(reader: asyncio.StreamReader, end: float) -> bytes:
    async with asyncio.timeout_at(end):
        return await reader.readline()


async def _write(writer: asyncio.StreamWriter, answer: dict[str, Any]) -> None:
    writer.write(msgspec.json.encode(answer) + b"\n")
    async with asyncio.timeout(WRITE_S):
        await writer.drain()


def _peer(writer: asyncio.StreamWriter) -> tuple[int, int]:
    """Return (pid, uid) of the connected process, as the kernel knows them."""
    sock = writer.get_extra_info("socket")
    pid, uid, _ = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return pid, uid


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
