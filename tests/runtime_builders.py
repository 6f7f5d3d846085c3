"""Builders for the tests of mmpi.runtime: servers on loopback, a patient `until`, a practice venue, a loop's parts."""

import asyncio
import base64
import hashlib
import queue
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

from practice_builders import GUARDIAN, MASTER, QUOTER, venue

from mmpi.actions import AmendOrder, Approved, NewOrder
from mmpi.events import Event, ExecReport, ExecType
from mmpi.practice.hyperliquid.server import PracticeServer
from mmpi.practice.hyperliquid.streams import Hub
from mmpi.practice.hyperliquid.venue import Venue
from mmpi.runtime.board import StatusBoard, process_start
from mmpi.runtime.loop import SteadyClock
from mmpi.runtime.websocket import Link
from mmpi.venues.hyperliquid.signing import Signer

INSTANCE = "0xa1b2c3d4"
OTHER_INSTANCE = "0xffffffff"
PATIENCE_S = 5.0
BOARD_PID, BOARD_START = 2, 3
"""Places of two words in the status file."""
ACCEPT = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""What RFC 6455 section 1.3 appends to the client's key."""


def cloid(number: int = 1, instance: str = INSTANCE) -> str:
    """Return an id of one of our orders."""
    return f"{instance}{1:08x}{number:016x}"


async def until(condition: Callable[[], object], patience_s: float = PATIENCE_S) -> None:
    """Return as soon as the condition holds; fail if it does not in time."""
    end = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        await asyncio.sleep(0.002)


# Servers ----------------------------------------------------------------------------------------------------------

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def tcp_server(talk: Talk) -> AsyncIterator[str]:
    """Give the ws:// address of a server that talks raw bytes with each connection, then closes it."""
    ends: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        ends.add(task)
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await talk(reader, writer)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws"
    finally:
        server.close()
        for task in ends:
            task.cancel()
        await asyncio.gather(*ends, return_exceptions=True)


async def shake_hands(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, rest: bytes = b"") -> None:
    """Answer an opening handshake, with `rest` in the same bytes."""
    request = await reader.readuntil(b"\r\n\r\n")
    key = next(line.split()[1] for line in request.splitlines() if line.lower().startswith(b"sec-websocket-key:"))
    accept = base64.b64encode(hashlib.sha1(key + ACCEPT).digest())
    head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    writer.write(head + b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n" + rest)


class Ear:
    """What a Link told its owner."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.stamps: list[int] = []
        self.opened = 0
        self.closed: list[str] = []

    def on_open(self) -> None:
        """Count."""
        self.opened += 1

    def on_frame(self, frame: bytes, recv_ts: int) -> None:
        """Remember."""
        self.frames.append(frame)
        self.stamps.append(recv_ts)

    def link(self, url: str) -> Link:
        """Return a link that tells this ear."""
        return Link(url, self.on_open, self.on_frame, self.closed.append)


@asynccontextmanager
async def kept_up(link: Link) -> AsyncIterator[asyncio.Task[None]]:
    """Keep a link up meanwhile."""
    task = asyncio.create_task(link.maintain())
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)


# The practice venue -----------------------------------------------------------------------------------------------


class Practice:
    """A practice server in this process, with one BTC book and no further market."""

    def __init__(self, server: PracticeServer, built: Venue, port: int) -> None:
        self.server, self.venue, self.port = server, built, port
        self.url = f"ws://127.0.0.1:{port}/ws"

    def delay(self, one_way_s: float) -> None:
        """Make every message take this long from now on, on open connections too."""
        self.server._one_way_s = one_way_s
        for connection in self.server._connections:
            connection._one_way_s = connection._line._delay_s = one_way_s


@asynccontextmanager
async def practice(path: Path, latency_ms: float = 0.0, *, strict: bool = True) -> AsyncIterator[Practice]:
    """Give a server that knows MASTER with the agents QUOTER and GUARDIAN, and nobody else."""
    hub = Hub()
    built = venue(path, hub, strict=strict)
    server = PracticeServer(built, hub, latency_ms)
    try:
        yield Practice(server, built, await server.start("127.0.0.1", 0))
    finally:
        await server.close()


def quoter_signer() -> Signer:
    """Return the signer of MASTER's first agent."""
    return Signer(QUOTER, mainnet=False)


def guardian_signer(*, mainnet: bool = False) -> Signer:
    """Return the signer of MASTER's second agent."""
    return Signer(GUARDIAN, mainnet=mainnet)


ACCOUNT = MASTER


# A loop's parts ---------------------------------------------------------------------------------------------------


def board_of(path: Path, pid: int, start: int | None = None) -> StatusBoard:
    """Return a board that this process wrote in the name of another."""
    board = StatusBoard.create(path)
    board._words[BOARD_START] = process_start(pid) or 0 if start is None else start
    board._words[BOARD_PID] = pid
    return board


class HandClock(SteadyClock):
    """A clock that is moved by hand."""

    def __init__(self, now: int) -> None:
        super().__init__()
        self.time = now

    def now(self) -> int:
        """Return the time set."""
        return self.time


class Shelf:
    """A sink that keeps everything."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.actions: list[Approved] = []

    def event(self, event: Event) -> bool:
        """Keep."""
        self.events.append(event)
        return True

    def action(self, approved: Approved) -> bool:
        """Keep."""
        self.actions.append(approved)
        return True

    def kinds(self) -> list[str]:
        """Return the types of the events."""
        return [type(event).__name__ for event in self.events]


class Door:
    """An outlet that keeps what was sent."""

    def __init__(self) -> None:
        self.unsent: deque[ExecReport] = deque()
        self.sent: list[Approved] = []

    def send(self, actions: Sequence[Approved], now: int) -> None:
        """Keep."""
        assert all(approved.ts == now for approved in actions)
        self.sent += actions

    def refuse(self, actions: Sequence[Approved], now: int, why: str) -> None:
        """Keep the reports of what must not leave."""
        for each in actions:
            assert isinstance(each.action, NewOrder | AmendOrder)
            order = each.action
            self.unsent.append(
                ExecReport(now, order.instrument, now, order.cl_ord_id, "", ExecType.REJECTED, reason=why)
            )


# A box --------------------------------------------------------------------------------------------------------------


def write_keys(folder: Path, quoter: bytes = QUOTER, guardian: bytes = GUARDIAN) -> Path:
    """Return a folder of secrets for MASTER."""
    folder.mkdir(mode=0o700, exist_ok=True)
    texts = {"account": MASTER, "quoter.key": f"0x{quoter.hex()}", "guardian.key": f"0x{guardian.hex()}"}
    for name, text in texts.items():
        (folder / name).write_text(text + "\n")
        (folder / name).chmod(0o600)
    return folder


def box_environ(folder: Path, url: str = "") -> dict[str, str]:
    """Return the environment of a box in a folder: on the generated market, or practising at a server."""
    environ = {
        "MMPI_PATHS__STATE_DIR": str(folder / "state"),
        "MMPI_PATHS__RUNTIME_DIR": str(folder / "run"),
        "MMPI_SECRETS__DIR": str(folder / "keys"),
    }
    if url:
        base = url.removesuffix("/ws").replace("ws://", "http://")
        environ |= {"MMPI_VENUE__NAME": "hyperliquid", "MMPI_VENUE__MODE": "practice", "MMPI_VENUE__URL": base}
    return environ


@contextmanager
def practice_thread(path: Path) -> Iterator[Practice]:
    """Give a practice server in a thread of its own, for commands that bring their own loop."""
    made: queue.Queue[tuple[Practice, asyncio.AbstractEventLoop, asyncio.Event]] = queue.Queue()

    async def serve() -> None:
        ended = asyncio.Event()
        async with practice(path) as venue:
            made.put((venue, asyncio.get_running_loop(), ended))
            await ended.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    venue, loop, ended = made.get(timeout=5)
    try:
        yield venue
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
