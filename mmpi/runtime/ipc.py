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

from mmpi.errors import RefusedError, RemoteError

MAX_LINE: Final = 16 * 1024
MAX_CLIENTS: Final = 32
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

    async def start(self) -> None:
        """Listen; RefusedError if a live process already does."""
        if self.path.exists():
            if not stat.S_ISSOCK(self.path.stat().st_mode):
                raise RefusedError(f"{self.path}: exists and is not a socket")
            if _answers(self.path):
                raise RefusedError(f"{self.path}: another guardian is listening")
            self.path.unlink()
        self._server = await asyncio.start_unix_server(self._serve, self.path, limit=MAX_LINE)
        self.path.chmod(0o660)

    async def close(self) -> None:
        """Stop listening and remove the socket."""
        if self._server is not None:
            self._server.close()
            self.path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pid, uid = _peer(writer)
        if self._clients >= MAX_CLIENTS or uid not in (0, os.getuid()):
            self.refused += 1
            writer.close()
            return
        self._clients += 1
        try:
            async for request in self._requests(reader):
                await self._handler(request, pid, lambda answer: _write(writer, answer))
        except (OSError, asyncio.IncompleteReadError):
            self.refused += 1
        finally:
            self._clients -= 1
            writer.close()

    async def _requests(self, reader: asyncio.StreamReader) -> AsyncIterator[dict[str, Any]]:
        while True:
            try:
                line = await reader.readline()
                if not line:
                    return
                yield msgspec.json.decode(line, type=dict[str, Any])
            except (ValueError, msgspec.MsgspecError):
                # Too long, or no JSON object: what follows cannot be trusted to start at a line.
                self.refused += 1
                return


async def call(path: Path, request: dict[str, Any], timeout_s: float) -> AsyncIterator[dict[str, Any]]:
    """Yield the answer lines to one request until one has `final`; RemoteError if nobody answers in time."""
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_unix_connection(path, limit=MAX_LINE)
            try:
                writer.write(msgspec.json.encode(request) + b"\n")
                while line := await reader.readline():
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
    raise RemoteError(f"{path}: the guardian closed the connection without an answer")


async def _write(writer: asyncio.StreamWriter, answer: dict[str, Any]) -> None:
    writer.write(msgspec.json.encode(answer) + b"\n")
    async with asyncio.timeout(1.0):
        await writer.drain()


def _peer(writer: asyncio.StreamWriter) -> tuple[int, int]:
    """Return (pid, uid) of the connected process, as the kernel knows them."""
    sock = writer.get_extra_info("socket")
    pid, uid, _ = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return pid, uid


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(0.2)
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True
