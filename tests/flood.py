"""Flood: a way to the practice server on which market messages without end are mixed into what the server says.

    .venv/bin/python -m tests.flood --messages 1000000      # memory of a live quoter after 10^5 messages and at the end

The quoter is real, trades for real at the practice server, and handles every message; the flood keeps as close to the
server's own last book as a market that moves by a few ticks.
"""

import argparse
import json
import random
import socket
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parent))

from stack import Stack, rss_mb  # noqa: E402

BATCH = 50
"""Messages between two looks at what the server says."""
LEVELS = 20
AHEAD = 5_000
"""Messages that may be on their way; beyond that the flood waits for the quoter."""


class Growth(msgspec.Struct):
    """What a live quoter weighed: MB of 10^6 after `first` messages and after `last`."""

    first: int
    last: int
    first_mb: float
    last_mb: float
    fills: int
    placed: int
    violations: int
    messages_per_s: float


class FloodedWay:
    """Sits between a quoter and the server; `sent` counts the messages that were added."""

    def __init__(self, port: int, seed: int = 1) -> None:
        self.sent = 0
        self.limit = 0
        """Up to how many may be added by now."""
        self._to, self._chance = port, random.Random(seed)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._mids = {"BTC": 0.0, "ETH": 0.0}
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._to))
                threading.Thread(target=_copy, args=(client, server), daemon=True).start()
                threading.Thread(target=self._mix, args=(server, client), daemon=True).start()

    def _mix(self, server: socket.socket, client: socket.socket) -> None:
        """Pass on whole frames of the server, and between them what is added."""
        server.settimeout(0.001)
        waiting = b""
        with suppress(OSError):
            head, waiting = _after_handshake(server)
            client.sendall(head)
            while True:
                with suppress(TimeoutError):
                    data = server.recv(262_144)
                    if not data:
                        break
                    waiting += data
                whole = _whole(waiting)
                for payload in _payloads(waiting[:whole]):
                    self._learn(payload)
                client.sendall(waiting[:whole] + b"".join(_frame(message) for message in self._some()))
                waiting = waiting[whole:]
        client.close()
        server.close()

    def _learn(self, payload: bytes) -> None:
        if payload.startswith(b'{"channel":"l2Book"'):
            data = json.loads(payload)["data"]
            bids, asks = data["levels"]
            if bids and asks:
                self._mids[data["coin"]] = (float(bids[0]["px"]) + float(asks[0]["px"])) / 2

    def _some(self) -> Iterator[bytes]:
        if not all(self._mids.values()):
            return
        for _ in range(max(0, min(BATCH, self.limit - self.sent))):
            self.sent += 1
            yield self._message()

    def _message(self) -> bytes:
        coin, tick = ("BTC", 1.0) if self._chance.random() < 0.5 else ("ETH", 0.1)
        mid, now = self._mids[coin] + self._chance.randint(-3, 3) * tick, time.time_ns() // 1_000_000
        if self._chance.random() < 0.3:
            return _trade(coin, mid, now, self.sent)
        return _book(coin, mid, tick, now)


def _book(coin: str, mid: float, tick: float, now: int) -> bytes:
    def level(price: float) -> dict[str, Any]:
        return {"px": f"{price:.1f}", "sz": "1.5", "n": 3}

    levels = [[level(mid + side * tick * (n + 1)) for n in range(LEVELS)] for side in (-1, 1)]
    return json.dumps({"channel": "l2Book", "data": {"coin": coin, "time": now, "levels": levels}}).encode()


def _trade(coin: str, price: float, now: int, number: int) -> bytes:
    one = {"coin": coin, "side": "A", "px": f"{price:.1f}", "sz": "0.01", "time": now, "tid": 10**14 + number}
    return json.dumps({"channel": "trades", "data": [one]}).encode()


def _frame(payload: bytes) -> bytes:
    """Return a server's text frame (RFC 6455, section 5.2)."""
    size = len(payload)
    if size < 126:
        return struct.pack("!BB", 0x81, size) + payload
    if size < 65_536:
        return struct.pack("!BBH", 0x81, 126, size) + payload
    return struct.pack("!BBQ", 0x81, 127, size) + payload


def _frame_sizes(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Return start, start of the payload and end of every whole frame."""
    at = 0
    while at + 2 <= len(data):
        size, body = data[at + 1] & 0x7F, at + 2
        if size == 126:
            size, body = int.from_bytes(data[body : body + 2], "big"), body + 2
        elif size == 127:
            size, body = int.from_bytes(data[body : body + 8], "big"), body + 8
        if body + size > len(data):
            return
        yield at, body, body + size
        at = body + size


def _whole(data: bytes) -> int:
    return max((end for _, _, end in _frame_sizes(data)), default=0)


def _payloads(data: bytes) -> Iterator[bytes]:
    return (data[body:end] for _, body, end in _frame_sizes(data))


def _after_handshake(server: socket.socket) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        with suppress(TimeoutError):
            data += server.recv(65_536)
    head, _, rest = data.partition(b"\r\n\r\n")
    return head + b"\r\n\r\n", rest


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
    sink.close()


def grow(stack: Stack, first: int, last: int, patience_s: float) -> Growth:
    """Return what the quoter of a stack, whose server and guardian run, weighs after `first` and `last` messages."""
    way = FloodedWay(stack.port)
    quoter = stack.start_quoter(port=way.port)
    stack.wait_quoting()
    base, began, weights = _summary(stack)["events"], time.monotonic(), []
    for goal in (first, last):
        while (done := _summary(stack)["events"] - base) < goal:
            way.limit = min(done + AHEAD, goal + AHEAD)
            assert time.monotonic() - began < patience_s, f"{done} of {goal} messages in {patience_s:g} s"
            assert quoter.runs, quoter.said()
            time.sleep(0.02)
        weights.append(rss_mb(quoter.pid))
    took, summary = time.monotonic() - began, _summary(stack)
    way.close()
    return Growth(
        first,
        last,
        weights[0],
        weights[1],
        summary["fills"],
        summary["orders"]["placed"],
        summary["invariant_violations"],
        round(last / took, 1),
    )


def _summary(stack: Stack) -> dict[str, Any]:
    """Return what the quoter shows; looked at again where it was just being written."""
    for _ in range(200):
        if shown := stack.summary():
            return shown
        time.sleep(0.01)
    raise AssertionError("the quoter has shown nothing for 2 s")


def main() -> int:
    """Print one JSON object; exit 1 if the quoter grew by more than 2 MB or weighs more than 64."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=1_000_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder), latency_ms=20.0) as stack:
        stack.start_server()
        stack.start_guardian()
        stack.arm()
        found = grow(stack, args.messages // 10, args.messages, 1800)
    print(msgspec.json.encode(found).decode())
    return int(found.last_mb > 64 or found.last_mb - found.first_mb > 2 or found.violations > 0)


if __name__ == "__main__":
    sys.exit(main())
