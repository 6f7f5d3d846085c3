"""Everything that a broker can do to telemetry: each trouble gives the settings to meet it with, and plays itself.

    .venv/bin/python -m tests.broker_troubles --pairs 5 --seconds 10 [--troubles killed,slow] [--json]

measures the quoter's loop lateness with and without a telemetry that is in trouble, in interleaved windows.
"""

import argparse
import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parent))

from mosquitto_box import Mosquitto, free_port  # noqa: E402
from stack import Process, Stack  # noqa: E402

from mmpi.practice.hyperliquid.tls import server_context  # noqa: E402
from mmpi.status import EDGES_US  # noqa: E402

DEVICE: Final = "troubled"
BASE: Final = f"mmpi/{DEVICE}"
SPACE: Final = "mmpi-broker"
WARM_S: Final = 2.0
"""For telemetry to be up before a window begins: its start is no broker's doing."""
RESTARTS: Final = 100
SLOW_BYTES: Final = 400
"""A second; a status is about 2 kB."""


class Trouble:
    """One broker's behaviour: `env` is what telemetry is told, `play` what happens during a window."""

    def __init__(self, env: Mapping[str, str], play: Callable[[float], None], broker: Mosquitto | None = None) -> None:
        self.env, self.play, self.broker = dict(env), play, broker


def _url(port: int, host: str = "127.0.0.1") -> dict[str, str]:
    return {"MMPI_MQTT__URL": f"mqtt://{host}:{port}", "MMPI_MQTT__KEEPALIVE_S": "5", "MMPI_DEVICE__ID": DEVICE}


@contextlib.contextmanager
def none(folder: Path) -> Iterator[Trouble]:
    """All is well: what telemetry costs as such."""
    with Mosquitto(folder) as broker:
        yield Trouble(_url(broker.port), time.sleep, broker)


@contextlib.contextmanager
def absent(folder: Path) -> Iterator[Trouble]:  # noqa: ARG001  # the shape of all of them
    """Nobody listens."""
    yield Trouble(_url(free_port()), time.sleep)


@contextlib.contextmanager
def killed(folder: Path) -> Iterator[Trouble]:
    """Killed in the middle, and started again, with an empty memory."""
    with Mosquitto(folder) as broker:

        def play(seconds: float) -> None:
            time.sleep(seconds / 3)
            broker.kill()
            time.sleep(seconds / 3)
            broker.start()
            time.sleep(seconds / 3)

        yield Trouble(_url(broker.port), play, broker)


@contextlib.contextmanager
def frozen(folder: Path) -> Iterator[Trouble]:
    """Connections stay open, and nothing is answered."""
    with Mosquitto(folder) as broker:

        def play(seconds: float) -> None:
            time.sleep(seconds / 4)
            broker.freeze()
            time.sleep(seconds / 2)
            broker.thaw()
            time.sleep(seconds / 4)

        yield Trouble(_url(broker.port), play, broker)


@contextlib.contextmanager
def black_hole(folder: Path) -> Iterator[Trouble]:
    """In a network of its own, whose cable swallows every packet without a word."""
    host, guest = "mmpib0", "mmpib1"

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)

    ip("netns", "add", SPACE)
    try:
        ip("link", "add", host, "type", "veth", "peer", "name", guest, "netns", SPACE)
        ip("addr", "add", "198.18.77.1/30", "dev", host)
        ip("link", "set", host, "up")
        ip("-n", SPACE, "addr", "add", "198.18.77.2/30", "dev", guest)
        ip("-n", SPACE, "link", "set", guest, "up")
        ip("-n", SPACE, "link", "set", "lo", "up")
        lines = ["listener 1883 198.18.77.2", "allow_anonymous true"]
        with Mosquitto(folder, lines, inside=("ip", "netns", "exec", SPACE), host="198.18.77.2") as broker:

            def play(seconds: float) -> None:
                time.sleep(seconds / 4)
                ip("-n", SPACE, "link", "set", guest, "down")
                time.sleep(seconds / 2)
                ip("-n", SPACE, "link", "set", guest, "up")
                time.sleep(seconds / 4)

            yield Trouble(_url(1883, "198.18.77.2"), play, broker)
    finally:
        subprocess.run(["ip", "netns", "del", SPACE], check=False, capture_output=True)


@contextlib.contextmanager
def slow(folder: Path) -> Iterator[Trouble]:
    """Behind a line that carries a few hundred bytes a second."""
    with Mosquitto(folder) as broker, socket.create_server(("127.0.0.1", 0)) as listener:
        ended = threading.Event()

        def carry(source: socket.socket, sink: socket.socket) -> None:
            source.settimeout(0.5)
            with contextlib.suppress(OSError):
                while not ended.is_set():
                    with contextlib.suppress(TimeoutError):
                        if not (data := source.recv(SLOW_BYTES // 10)):
                            break
                        sink.sendall(data)
                        time.sleep(0.1)
            for each in (source, sink):
                each.close()

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                    server = socket.create_connection(("127.0.0.1", broker.port))
                    for pair in ((client, server), (server, client)):
                        threading.Thread(target=carry, args=pair, daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield Trouble(_url(listener.getsockname()[1]), time.sleep, broker)
        ended.set()
        listener.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def full_disk(folder: Path) -> Iterator[Trouble]:
    """It keeps what it knows on a disk that has no byte left."""
    disk = folder / "disk"
    disk.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", disk], check=True)
    try:
        with contextlib.suppress(OSError), (disk / "full").open("wb") as file:
            file.write(bytes(2**20))
        lines = ["allow_anonymous true", "persistence true", f"persistence_location {disk}/", "autosave_interval 1"]
        with Mosquitto(folder, lines) as broker:
            yield Trouble(_url(broker.port), time.sleep, broker)
    finally:
        subprocess.run(["umount", disk], check=True)


@contextlib.contextmanager
def wrong_certificate(folder: Path) -> Iterator[Trouble]:
    """Somebody else answers: his certificate is of another authority."""
    for name in ("ours", "theirs"):
        server_context(folder / name)
    port, theirs = free_port(), folder / "theirs"
    lines = [f"listener {port} 127.0.0.1", "allow_anonymous true", f"cafile {theirs}/ca.pem",
             f"certfile {theirs}/server.pem", f"keyfile {theirs}/server.key"]  # fmt: skip
    with Mosquitto(folder, lines) as broker:
        env = _url(port) | {"MMPI_MQTT__URL": f"mqtts://127.0.0.1:{port}",
                            "MMPI_MQTT__CA_FILE": str(folder / "ours" / "ca.pem")}  # fmt: skip
        yield Trouble(env, time.sleep, broker)


@contextlib.contextmanager
def restarted(folder: Path) -> Iterator[Trouble]:
    """Restarted again and again, RESTARTS times over all windows of five pairs."""
    with Mosquitto(folder) as broker:

        def play(seconds: float) -> None:
            end, times = time.monotonic() + seconds, 0
            while time.monotonic() < end or times < RESTARTS // 5:
                broker.kill()
                broker.start()
                times += 1
                time.sleep(max(0.0, seconds / (RESTARTS // 5) - 0.1))

        yield Trouble(_url(broker.port), play, broker)


TROUBLES: Final = {
    each.__name__: each
    for each in (none, absent, killed, frozen, black_hole, slow, full_disk, wrong_certificate, restarted)
}


def may(name: str) -> str:
    """Return why a trouble cannot be had here, "" = it can."""
    if name in ("black_hole", "full_disk") and os.geteuid() != 0:
        return "only root makes networks and mounts"
    return "" if name != "black_hole" or shutil.which("ip") else "there is no program ip (Debian: iproute2)"


# Measuring ------------------------------------------------------------------------------------------------------------


def counts(stack: Stack) -> list[int]:
    """Return how late the quoter's loop was, by EDGES_US."""
    return list(stack.summary()["loop_lateness"]["counts"])


def quantile_us(found: Sequence[int], share: float) -> float:
    """Return a quantile of counts between the edges, by a straight line within each."""
    wanted, below, low = share * sum(found), 0, 0.0
    for count, high in zip(found, [*EDGES_US, 2 * EDGES_US[-1]], strict=True):
        if count and below + count >= wanted:
            return low + (high - low) * (wanted - below) / count
        below, low = below + count, float(high)
    return low


class Pair(msgspec.Struct, frozen=True):
    """Loop lateness p99.9 of two windows, one after the other, microseconds."""

    off_us: float
    on_us: float


def window(stack: Stack, play: Callable[[float], None], seconds: float) -> float:
    """Return p99.9 of the quoter's lateness while something is played."""
    before = counts(stack)
    play(seconds)
    time.sleep(0.3)
    return quantile_us([b - a for a, b in zip(before, counts(stack), strict=True)], 0.999)


def start_telemetry(stack: Stack, env: Mapping[str, str]) -> Process:
    """Return telemetry, told of its broker, up."""
    stack._more.update({"MMPI_WEB__PORT": str(free_port()), **env})
    process = stack.begin("telemetry", "telemetry")
    stack.wait(lambda: "mmpi telemetry: " in process.said(), 20, "telemetry to start")
    return process


def pairs_of(stack: Stack, trouble: Trouble, pairs: int, seconds: float) -> list[Pair]:
    """Return interleaved pairs of windows, the first one of each without telemetry, or with it, by turns."""
    found = []
    for number in range(pairs):
        told = {}
        for on in (False, True) if number % 2 == 0 else (True, False):
            if on:
                process = start_telemetry(stack, trouble.env)
                time.sleep(WARM_S)
            told[on] = window(stack, trouble.play if on else time.sleep, seconds)
            if on:
                process.child.terminate()
                process.wait(10)
        found.append(Pair(round(told[False], 1), round(told[True], 1)))
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0 if no trouble costs the quoter more than 2 ms, 1 if one does."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--troubles", default=",".join(TROUBLES))
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    told: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="mmpi-troubles-") as name, Stack(Path(name), latency_ms=5) as stack:
        stack.start()
        for trouble in args.troubles.split(","):
            if why := may(trouble):
                told[trouble] = {"not_run": why}
                print(f"{trouble:<18} NOT RUN: {why}", file=sys.stderr, flush=True)
                continue
            with TROUBLES[trouble](Path(name) / trouble) as made:
                found = pairs_of(stack, made, args.pairs, args.seconds)
            difference = statistics.median(each.on_us - each.off_us for each in found)
            told[trouble] = {"pairs": msgspec.to_builtins(found), "median_difference_us": round(difference, 1)}
            shown = ", ".join(f"{each.off_us:.0f}/{each.on_us:.0f}" for each in found)
            print(f"{trouble:<18} {difference:+8.0f} us   off/on p99.9: {shown}", file=sys.stderr, flush=True)
    if args.json:
        print(json.dumps(told))
    return 1 if any(each.get("median_difference_us", 0) > 2000 for each in told.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
