"""Troubles: what may go wrong around the guardian just before the button is pressed, and the bounds that hold then.

A trouble is a set of the practice server's faults, or something done on this machine: a flood of the control socket,
names that cannot be resolved any more. Each says why its bounds are what they are.
"""

import os
import re
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from stack import HttpLine, OrderWatch, Process, Stack

FIRST_ZERO_MS = 250.0
VERIFIED_MS = 3000.0
"""Bounds without any trouble, each plus two round trips."""
WINDOW_S = 4.0
"""How long a fault of the venue goes on after it began, just before the press."""
AFTER_MS = 2500.0
"""From the end of a window to the cancel that gets through: a pause of 2 s at most, and an answer that never comes."""
RECONNECT_MS = 5000.0
"""The longest pause between two connections; a press waits for it if the venue took none."""
BACK_OFF_MS = 5000.0
"""The longest pause after 429."""
WEIGHT_MS = 6600.0
"""For 22 of weight to come back at 200 a minute."""
RESOLVER_S = 0.5
"""For a resolver that is silent, where addresses are remembered."""
FLOOD_A_SECOND = 10_000
FLOOD_MS = 500.0
"""What a flood may cost: the guardian has one core, and shares it with whoever floods it."""


class Trouble(msgspec.Struct, frozen=True):
    """What goes wrong, and the bounds in milliseconds, two round trips not counted."""

    name: str
    zero_ms: float
    verified_ms: float
    faults: tuple[str, ...] = ()
    cut: bool = False
    """Every connection is cut when it begins."""
    dns: bool = False
    flood: bool = False


def _window(name: str, *faults: str, zero_ms: float = 0.0, verified_ms: float = 0.0) -> Trouble:
    """Return a trouble of the venue's that lasts for WINDOW_S; what may come on top of the window is told."""
    window = 1000 * WINDOW_S
    return Trouble(
        name, FIRST_ZERO_MS + window + AFTER_MS + zero_ms, VERIFIED_MS + window + AFTER_MS + verified_ms, faults
    )


def _during(length_s: float) -> str:
    return f"at=0,for={length_s:g}"


NO_TROUBLE = Trouble("", FIRST_ZERO_MS, VERIFIED_MS)
_LIST = (
    _window("http_429", f"http_429:p=0.7,until={WINDOW_S:g}", verified_ms=BACK_OFF_MS + WEIGHT_MS),
    _window(
        "http_5xx", f"http_5xx:p=0.4,until={WINDOW_S:g},executed=1", f"http_5xx:p=0.4,until={WINDOW_S:g}",
        verified_ms=WEIGHT_MS,
    ),
    _window("half_open", f"half_open:{_during(WINDOW_S)}", zero_ms=RECONNECT_MS, verified_ms=RECONNECT_MS + WEIGHT_MS),
    _window(
        "refuse_ws", "disconnect:at=0.01", f"refuse_ws:{_during(WINDOW_S)}",
        zero_ms=RECONNECT_MS, verified_ms=RECONNECT_MS + WEIGHT_MS,
    ),
    _window("late", f"late:p=0.5,ms=1900,until={WINDOW_S:g}", verified_ms=WEIGHT_MS),
    _window("ack_lost", f"ack_lost:p=1,until={WINDOW_S:g}", verified_ms=WEIGHT_MS),
    _window("cancel_lost", f"cancel_lost:p=1,until={WINDOW_S:g}", verified_ms=WEIGHT_MS),
    _window("place_lost", f"place_lost:p=0.5,until={WINDOW_S:g}", verified_ms=WEIGHT_MS),
    # The connections are cut, the resolver is silent: one wait for it, then the addresses that are remembered.
    Trouble(
        "dns", FIRST_ZERO_MS + 1000 * RESOLVER_S + AFTER_MS, VERIFIED_MS + 1000 * RESOLVER_S + AFTER_MS,
        cut=True, dns=True,
    ),
    Trouble("flood", FIRST_ZERO_MS + FLOOD_MS, VERIFIED_MS + FLOOD_MS, flood=True),
)  # fmt: skip
TROUBLES: Mapping[str, Trouble] = {each.name: each for each in _LIST}


class LineWatch(OrderWatch):
    """Looks at a stack's orders over a line of the stack's own kind, TLS or not."""

    def __init__(self, stack: Stack) -> None:
        super().__init__(stack.port)
        self._line.close()
        self._line = stack.line()


class Names:
    """A folder with the files that tell processes of a mount namespace of their own where a host is; needs root."""

    IN = 'mount --bind "$1" /etc/hosts && mount --bind "$2" /etc/resolv.conf && shift 2 && exec "$@"'

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.hosts, self.resolver = folder / "hosts", folder / "resolv.conf"
        self.resolver.write_text("nameserver 127.0.0.53\noptions timeout:10 attempts:3\n")
        self._silence = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._silence.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._silence.bind(("127.0.0.53", 53))
        self.known()

    def known(self) -> None:
        """Have the host's name in the file, in place: its mounts stay."""
        self.hosts.write_text("127.0.0.1 localhost\n")

    def unknown(self) -> None:
        """Have nobody who could tell: the file is empty, and the resolver takes questions without a word."""
        self.hosts.write_text("")

    def close(self) -> None:
        """Let the resolver's port go."""
        self._silence.close()

    def within(self, command: tuple[str, ...]) -> tuple[str, ...]:
        """Return the command as it runs where these files are the machine's."""
        return ("unshare", "-m", "sh", "-c", self.IN, "sh", str(self.hosts), str(self.resolver), *command)


def can_unshare() -> bool:
    """Return whether this process may make mount namespaces, and has the resolver's port."""
    with suppress(OSError):
        return os.geteuid() == 0 and subprocess.run(["unshare", "-m", "true"], check=False).returncode == 0
    return False


class TroubledStack(Stack):
    """A practice box that a trouble can come upon, over TLS if wanted."""

    def __init__(self, folder: Path, trouble: Trouble = NO_TROUBLE, *, tls: bool = False, **how: Any) -> None:
        super().__init__(folder, **how)
        self.trouble, self.tls = trouble, tls
        # Presses come quicker here than the venue's weight would come back; the server has no limits (see Stack).
        self._more.setdefault("MMPI_VENUE__WEIGHT_PER_MINUTE", "0")
        # Several boxes on few cores keep the machine busy, which is a reason to pause for a box of its own.
        self._more.setdefault("MMPI_HOST__MAX_CPU_PERCENT", "0")
        self.names = Names(folder / "names") if trouble.dns else None
        self.flooded = 0.0
        """Requests a second that guardian.sock took from the last flood."""
        self._context: ssl.SSLContext | None = None
        self._flood: Flood | None = None

    def __exit__(self, *error: object) -> None:
        if self._flood is not None:
            self._flood.end()
        if self.names is not None:
            self.names.close()
        super().__exit__(*error)

    @property
    def env(self) -> dict[str, str]:
        """Return the environment, with the server's address as this box calls it."""
        host = "127.0.0.1" if self.names is None else "localhost"
        return super().env | {"MMPI_VENUE__URL": f"{'https' if self.tls else 'http'}://{host}:{self.port}"} | self._more

    def line(self) -> HttpLine:
        """Return a connection to the server; who asks for it closes it."""
        return HttpLine(self.port, self._context)

    def start_server(self, *words: str) -> None:
        """Start the practice server, over TLS with an authority of its own if wanted."""
        tls = ("--tls", "--tls-dir", str(self.folder / "tls")) if self.tls else ()
        super().start_server(*tls, *words)
        if self.tls:
            authority = re.search(r"CA file (\S+?)[;)]", self.server.said())
            assert authority is not None, self.server.said()
            self._context = ssl.create_default_context(cafile=authority[1])
            self._more["MMPI_VENUE__CA_FILE"] = authority[1]

    def set_faults(self, *faults: str) -> None:
        """Have the server play these faults from now on, and no others."""
        self.tell("/control/fault", {"faults": list(faults)})

    def tell(self, path: str, body: dict[str, Any]) -> Any:
        """Return the server's answer to a control request."""
        line = self.line()
        try:
            return line.post(path, body)
        finally:
            line.close()

    def control(self, path: str) -> Any:
        """Return the server's answer to a control question."""
        line = self.line()
        try:
            return line.get(path)
        finally:
            line.close()

    def begin_trouble(self) -> None:
        """Have it come."""
        if self.trouble.faults:
            self.set_faults(*self.trouble.faults)
        if self.names is not None:
            self.names.unknown()
        if self.trouble.cut:
            self.tell("/control/close", {})
        if self.trouble.flood:
            self._flood = Flood(self.runtime / "guardian.sock")

    def end_trouble(self) -> None:
        """Have everything well again."""
        if self.trouble.faults:
            self.set_faults()
        if self.names is not None:
            self.names.known()
        if self._flood is not None:
            self.flooded = self._flood.end()
            self._flood = None

    def _start(self, name: str, command: tuple[str, ...], more: Mapping[str, str] | None = None) -> Process:
        if self.names is not None and name != "server":
            command = self.names.within(command)
        return super()._start(name, command, more)


class Flood:
    """Asks the guardian for its status without a pause, FLOOD_A_SECOND times a second if it takes that many."""

    def __init__(self, path: Path, connections: int = 4) -> None:
        self.sent = 0
        """Requests that the socket took."""
        self._path, self._began = path, time.monotonic()
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(connections,), daemon=True) for _ in range(1)]
        for thread in self._threads:
            thread.start()

    def end(self) -> float:
        """Stop it; return how many requests a second the socket took."""
        self._ended.set()
        for thread in self._threads:
            thread.join()
        return self.sent / (time.monotonic() - self._began)

    def _run(self, connections: int) -> None:
        peers: list[socket.socket] = []
        part = FLOOD_A_SECOND // (100 * connections)
        requests = b'{"cmd":"status"}\n' * part
        try:
            while not self._ended.wait(0.01):
                while len(peers) < connections:
                    peers.append(self._connect())
                peers = [peer for peer in peers if self._push(peer, requests, part)]
        finally:
            for peer in peers:
                peer.close()

    def _connect(self) -> socket.socket:
        peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        peer.setblocking(False)
        with suppress(OSError):
            peer.connect(str(self._path))
        return peer

    def _push(self, peer: socket.socket, requests: bytes, part: int) -> bool:
        """Write as much as the socket takes and forget what it says; False if it is gone."""
        try:
            while peer.recv(2**20):
                pass
            return self._gone(peer)
        except BlockingIOError:
            pass
        except OSError:
            return self._gone(peer)
        try:
            if peer.send(requests) == len(requests):
                self.sent += part
                return True
        except BlockingIOError:
            return True
        except OSError:
            pass
        # A request cut in two would be the end of this connection's lines.
        return self._gone(peer)

    def _gone(self, peer: socket.socket) -> bool:
        peer.close()
        return False


def cpu_percent(pid: int, seconds: float) -> float:
    """Return how much of one core a process uses in the next seconds (proc_pid_stat(5), fields 14 and 15)."""

    def ticks() -> int:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return int(fields[11]) + int(fields[12])

    before, began = ticks(), time.monotonic()
    time.sleep(seconds)
    return 100 * (ticks() - before) / os.sysconf("SC_CLK_TCK") / (time.monotonic() - began)


