"""Stack: the real processes of a practice box (server, guardian, quoter) in a folder of their own, and what one sees.

Every process is started here and ended here, by its own handle. Times are monotonic nanoseconds, as the daemons use.
"""

import json
import os
import queue
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from mmpi.commands.client import call
from mmpi.errors import RemoteError
from mmpi.practice.keys import make_keys
from mmpi.runtime.board import StatusBoard

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "docs" / "examples" / "practice.toml"
MMPI = (sys.executable, "-m", "mmpi")
BLOCKABLE = (sys.executable, str(ROOT / "tests" / "blockable_quoter.py"))
LEVELS = {"BTC": 3, "ETH": 2}
"""Of the example's ladders, a side."""
QUOTES = 2 * sum(LEVELS.values())
RESTLESS = {
    "MMPI_INSTRUMENTS__BTC__LAYERED__UPDATE_INTERVAL_S": "0.1",
    "MMPI_INSTRUMENTS__BTC__LAYERED__TOLERANCE_PERCENT": "0",
    "MMPI_INSTRUMENTS__ETH__LAYERED__UPDATE_INTERVAL_S": "0.1",
    "MMPI_INSTRUMENTS__ETH__LAYERED__TOLERANCE_PERCENT": "0",
    "MMPI_RISK__ORDERS_PER_S": "100",
    "MMPI_RISK__ORDER_BURST": "200",
    "MMPI_VENUE__WEIGHT_PER_MINUTE": "0",
}
"""A quoter that always has orders in flight."""


TIGHT = {
    f"MMPI_INSTRUMENTS__{coin}__LAYERED__{key}_PERCENT": "0.002" for coin in LEVELS for key in ("SPREAD", "STEP")
}
"""A ladder at the touch: fills every second."""


class Press(msgspec.Struct, frozen=True):
    """One press of the button: when it was sent, when zero was verified, and the guardian's last answer."""

    sent: int
    verified: int
    answer: dict[str, Any]
    start_ms: float = 0.0
    """What the command `mmpi kill` took from its exec until the guardian had its message."""


class OrderWatch:
    """Asks the server for its live orders every few milliseconds until closed; `samples` are (time, ids)."""

    excess = ""
    """The first ladder side that was seen with more orders than it has levels."""

    def __init__(self, port: int, pause_s: float = 0.004) -> None:
        self.samples: list[tuple[int, frozenset[str]]] = []
        self._line = HttpLine(port)
        self._pause_s = pause_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "OrderWatch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._line.close()

    def _run(self) -> None:
        while not self._ended.wait(self._pause_s):
            orders = self._line.get("/control/orders")
            self.samples.append((time.monotonic_ns(), frozenset(order["cloid"] for order in orders)))
            sides = Counter((order["coin"], order["side"]) for order in orders)
            crowded = [f"{side}: {count}" for side, count in sides.items() if count > LEVELS[side[0]]]
            self.excess = self.excess or ", ".join(crowded)

    def first_zero(self, since: int) -> int:
        """Return when the server was first seen without an order; 0 = never."""
        return next((at for at, ids in self.samples if at >= since and not ids), 0)

    def last_live(self, since: int) -> int:
        """Return when the server was last seen with an order; 0 = never."""
        return max((at for at, ids in self.samples if at >= since and ids), default=0)

    def widest_gap_ms(self, since: int, until: int) -> float:
        """Return the longest time between two looks: what the machine's load hides from us."""
        times = [at for at, _ in self.samples if since <= at <= until]
        return max((b - a for a, b in zip(times, times[1:], strict=False)), default=0) / 1e6


class SlowWay:
    """A way to the server on which whatever a client sends arrives `delay_s` later, even after the client's death."""

    def __init__(self, port: int, delay_s: float) -> None:
        self._to, self._delay_s = port, delay_s
        self.orders = 0
        """Messages with new orders that a client has sent so far."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> "SlowWay":
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._to))
                late: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
                threading.Thread(target=self._take, args=(client, late), daemon=True).start()
                threading.Thread(target=self._give, args=(late, server), daemon=True).start()
                threading.Thread(target=self._back, args=(server, client), daemon=True).start()

    def _take(self, client: socket.socket, late: "queue.SimpleQueue[tuple[float, bytes]]") -> None:
        data = b" "
        while data:
            data = _received(client)
            self.orders += sum(b'"type":"order"' in each for each in _payloads(data))
            late.put((time.monotonic() + self._delay_s, data))

    def _give(self, late: "queue.SimpleQueue[tuple[float, bytes]]", server: socket.socket) -> None:
        with suppress(OSError):
            while True:
                due, data = late.get()
                time.sleep(max(0.0, due - time.monotonic()))
                if not data:
                    server.shutdown(socket.SHUT_WR)
                    return
                server.sendall(data)

    def _back(self, server: socket.socket, client: socket.socket) -> None:
        with server, client:
            gone = False
            while data := _received(server):
                with suppress(OSError):
                    if not gone:
                        gone = True
                        client.sendall(data)
                        gone = False


def _payloads(data: bytes) -> Iterator[bytes]:
    """Yield what masked WebSocket frames carry; a quoter sends each whole and at once (RFC 6455, 5.2)."""
    while len(data) > 1 and data[1] & 0x80:
        length, at = data[1] & 0x7F, 2
        if length == 126:
            length, at = int.from_bytes(data[2:4], "big"), 4
        mask, payload, data = data[at : at + 4], data[at + 4 : at + 4 + length], data[at + 4 + length :]
        yield bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))


def _received(peer: socket.socket) -> bytes:
    try:
        return peer.recv(65536)
    except OSError:
        return b""


class HttpLine:
    """One kept-alive HTTP connection to the practice server; over TLS with a context."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=5)
        if tls is not None:
            self._socket = tls.wrap_socket(self._socket, server_hostname="127.0.0.1")
        self._file = self._socket.makefile("rb")

    def get(self, path: str) -> Any:
        """Return the JSON at a path."""
        return self._ask(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """Return the JSON that answers a body."""
        data = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        return self._ask(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)

    def close(self) -> None:
        """Hang up."""
        self._file.close()
        self._socket.close()

    def _ask(self, request: bytes) -> Any:
        self._socket.sendall(request)
        status = self._file.readline()
        if b" 200 " not in status:
            raise ConnectionError(f"the practice server answered {status!r}")
        length = 0
        while (line := self._file.readline().strip()) != b"":
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        return json.loads(self._file.read(length))


class Process:
    """One child with its output in a file."""

    def __init__(self, name: str, command: tuple[str, ...], folder: Path, env: Mapping[str, str]) -> None:
        self.log = folder / f"{name}.log"
        self.begin = self.log.stat().st_size if self.log.exists() else 0
        self.started = time.monotonic_ns()
        with self.log.open("ab") as log:
            self.child = subprocess.Popen(command, env=dict(env), cwd=ROOT, stdout=log, stderr=log)

    @property
    def pid(self) -> int:
        """Return the process id."""
        return self.child.pid

    @property
    def runs(self) -> bool:
        """Return True until it has ended."""
        return self.child.poll() is None

    def send(self, number: int) -> int:
        """Send a signal; return when."""
        at = time.monotonic_ns()
        self.child.send_signal(number)
        return at

    def wait(self, timeout: float) -> int:
        """Return the exit code."""
        return self.child.wait(timeout)

    def end(self) -> None:
        """End it, whatever state it is in."""
        if self.runs:
            self.child.kill()
            self.child.wait(10)

    def said(self) -> str:
        """Return what this process has written so far."""
        with self.log.open("rb") as log:
            log.seek(self.begin)
            return log.read().decode("utf-8", "replace")


class Stack:
    """A practice box. Use as a context manager; `start` brings it to quoting."""

    def __init__(
        self, folder: Path, *, latency_ms: float = 80.0, more: Mapping[str, str] | None = None, blockable: bool = False
    ) -> None:
        self.folder, self.latency_ms, self.blockable = folder, latency_ms, blockable
        self.round_trips_ms = 2 * latency_ms
        self.state, self.runtime, self.secrets = folder / "state", folder / "run", folder / "keys"
        self.port = 0
        self.server: Process
        self.guardian: Process
        self.quoter: Process
        self._processes: list[Process] = []
        self.account = make_keys(self.secrets, folder / "registry.json").account
        self._more = dict(more or {})

    def __enter__(self) -> "Stack":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.end()

    @property
    def env(self) -> dict[str, str]:
        """Return the environment of every process of this box."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("MMPI_")}
        return kept | self._more | {
            "MMPI_CONFIG": str(CONFIG),
            "MMPI_HOST__MAX_CPU_PERCENT": "0",
            "MMPI_PATHS__STATE_DIR": str(self.state),
            "MMPI_PATHS__RUNTIME_DIR": str(self.runtime),
            "MMPI_SECRETS__DIR": str(self.secrets),
            "MMPI_VENUE__URL": f"http://127.0.0.1:{self.port}",
            "PYTHONUNBUFFERED": "1",
        }

    # Processes ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start everything and wait until it quotes."""
        self.start_server()
        self.start_guardian()
        self.arm()
        self.start_quoter()
        self.wait_quoting()

    def start_server(self, *words: str) -> None:
        """Start the practice server, on the port it had before if it had one, with more words if wanted.

        It enforces no limits of requests: these are stacks that ask far more than a venue would let them.
        """
        more = ("--latency-ms", str(self.latency_ms), "--secrets", str(self.secrets), "--port", str(self.port))
        free = ("--weight", "0", "--budget", "0")
        self.server = self._start("server", (*MMPI, "practice", "hyperliquid", *more, *free, *words))
        self.wait(lambda: "listening on" in self.server.said(), 10, "the server to listen")
        found = re.search(r"listening on https?://127\.0\.0\.1:(\d+)", self.server.said())
        assert found is not None
        self.port = int(found[1])

    def start_guardian(self) -> None:
        """Start the guardian and wait until its session with the venue is up."""
        self.guardian = self._start("guardian", (*MMPI, "guardian"))
        self.wait(lambda: "listening on" in self.guardian.said(), 15, "the guardian to listen")
        self.wait(lambda: self.status()["venue_session"], 10, "the guardian's venue session")

    def start_quoter(self, *, blockable: bool | None = None, port: int = 0, **settings: str) -> Process:
        """Start a quoter, as the box has it or as asked; `port` leads to the server by another way."""
        wanted = self.blockable if blockable is None else blockable
        more = settings | ({"MMPI_VENUE__URL": f"http://127.0.0.1:{port}"} if port else {})
        self.quoter = self._start("quoter", (*(BLOCKABLE if wanted else MMPI), "run"), more)
        return self.quoter

    def mmpi(self, *words: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        command = (*MMPI, *words)
        return subprocess.run(
            command, env=self.env, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False
        )

    def begin(self, name: str, *words: str) -> Process:
        """Start a command and return at once."""
        return self._start(name, (*MMPI, *words))

    def _start(self, name: str, command: tuple[str, ...], more: Mapping[str, str] | None = None) -> Process:
        process = Process(name, command, self.folder, self.env | dict(more or {}))
        self._processes.append(process)
        return process

    # Conversations ------------------------------------------------------------------------------------------------

    def ask(self, command: str, timeout: float = 20.0, **more: str) -> dict[str, Any]:
        """Return the guardian's final answer."""
        answers = list(call(self.runtime / "guardian.sock", {"cmd": command, "by": "test", **more}, timeout))
        return answers[-1]

    def press(self, reason: str = "test") -> Press:
        """Press the button by a message of our own, and wait until zero is verified."""
        sent = time.monotonic_ns()
        request = {"cmd": "press", "by": "test", "reason": reason}
        answer = list(call(self.runtime / "guardian.sock", request, 30))[-1]
        return Press(sent, time.monotonic_ns(), answer)

    def press_by_command(self, reason: str = "test") -> Press:
        """Press the button by `mmpi kill`; `sent` is when the guardian had the message, by the latch's own time."""
        began, wall = time.monotonic_ns(), time.time_ns()
        done = self.mmpi("kill", "--json", "--reason", reason)
        ended = time.monotonic_ns()
        assert done.returncode == 0, done.stderr
        start = json.loads((self.state / "latch.json").read_bytes())["at"] - wall
        return Press(began + start, ended, json.loads(done.stdout), start / 1e6)

    def arm(self) -> None:
        """Arm, by a message of our own."""
        answer = self.ask("arm")
        assert answer.get("armed"), answer

    def status(self) -> dict[str, Any]:
        """Return the guardian's status."""
        return self.ask("status", 5.0)

    def summary(self) -> dict[str, Any]:
        """Return what the quoter shows; {} before it shows anything."""
        board = self.board()
        text = board.read() if board is not None and board.pid == self.quoter.pid else None
        return json.loads(text) if text else {}

    def board(self) -> StatusBoard | None:
        """Return the quoter's board."""
        return StatusBoard.open(self.runtime / "status")

    def line(self) -> HttpLine:
        """Return a connection to the server; who asks for it closes it."""
        return HttpLine(self.port)

    def orders(self) -> list[dict[str, Any]]:
        """Return the server's live orders."""
        line = self.line()
        try:
            orders: list[dict[str, Any]] = line.get("/control/orders")
            return orders
        finally:
            line.close()

    def venue_positions(self) -> dict[str, str]:
        """Return the account's positions by the server's clearinghouseState."""
        line = self.line()
        try:
            state = line.post("/info", {"type": "clearinghouseState", "user": self.account})
        finally:
            line.close()
        return {each["position"]["coin"]: each["position"]["szi"] for each in state["assetPositions"]}

    # Waiting ------------------------------------------------------------------------------------------------------

    def wait(self, true: Callable[[], Any], timeout: float, what: str) -> float:
        """Wait until it is true; return how many seconds that took, AssertionError with all that is known if never."""
        began = time.monotonic()
        while True:
            try:
                if true():
                    return time.monotonic() - began
            except (OSError, RemoteError):
                pass
            if time.monotonic() - began > timeout:
                raise AssertionError(f"waited {timeout:g} s for {what}\n{self.picture()}")
            time.sleep(0.01)

    def wait_quoting(self, timeout: float = 20.0) -> float:
        """Wait until the quoter quotes and most of the ladder is live at the server."""
        return self.wait(
            lambda: self.summary().get("state") == "quoting" and len(self.orders()) >= QUOTES // 2,
            timeout,
            "quotes",
        )

    def picture(self) -> str:
        """Return what a person would look at after a failure."""
        parts = []
        for name, ask in (("guardian", self.status), ("quoter", self.summary), ("orders", self.orders)):
            try:
                parts.append(f"{name}: {ask()}"[:3000])
            except Exception as error:
                parts.append(f"{name}: {error!r}")
        parts += [f"{process.log.name}: {process.said()[-1500:]}" for process in self._processes[-3:]]
        return "\n".join(parts)


def latch_file(stack: Stack) -> str:
    """Return the state in latch.json."""
    return str(json.loads((stack.state / "latch.json").read_bytes())["state"])


def rss_mb(pid: int) -> float:
    """Return a process's resident memory in MB (10^6 bytes)."""
    pages = int(Path(f"/proc/{pid}/statm").read_bytes().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


FREEZE, THAW, KILL, BLOCK = signal.SIGSTOP, signal.SIGCONT, signal.SIGKILL, signal.SIGUSR1
