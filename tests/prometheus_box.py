"""Prometheus for tests: the real program, from Debian's package, and a box's snapshots for it to scrape.

Nothing is installed: the package is unpacked into a cache folder, and the server listens on the loopback address only.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from mmpi.status import (
    EDGES_US,
    FillStatus,
    Histogram,
    InstrumentStatus,
    Latency,
    OrderCounts,
    OwnOrder,
    PnlStatus,
    RequestStatus,
    StorageStatus,
    Summary,
)
from mmpi.telemetry.snapshot import Exposure, Fill, GuardianView, QuoterView, Snapshot

DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL") if shutil.which("setpriv") else ()
START_S = 20.0
ANSWER_S = 5.0


class UnavailableError(Exception):
    """This machine cannot have the programs; the text says why."""


class Programs(NamedTuple):
    """Where the two programs are."""

    prometheus: Path
    promtool: Path


def ensure_prometheus() -> Programs:
    """Return the programs: installed ones, or Debian's unpacked; UnavailableError with the reason if there are none."""
    installed = [shutil.which(name) for name in Programs._fields]
    if all(installed):
        return Programs(*(Path(each) for each in installed if each))
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mmpi-prometheus"
    unpacked = Programs(*(cache / "root" / "usr" / "bin" / name for name in Programs._fields))
    if not all(each.exists() for each in unpacked):
        _unpack(cache)
    for each in unpacked:
        done = subprocess.run([each, "--version"], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise UnavailableError(f"Debian's {each.name} does not run here: {done.stderr.strip()[:200]}")
    return unpacked


def _unpack(cache: Path) -> None:
    """Fetch Debian's package with this machine's apt, and unpack it into the cache, whole or not at all."""
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise UnavailableError(f"prometheus and promtool are not installed, and there is no {tool} to fetch them")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as name:
        fetch, folder = ["apt-get", "-qq", "download", "prometheus"], Path(name)
        done = subprocess.run(fetch, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode != 0 and os.geteuid() == 0:
            subprocess.run(["apt-get", "-qq", "update"], capture_output=True, check=False)
            done = subprocess.run(fetch, cwd=folder, capture_output=True, text=True, check=False)
        packages = list(folder.glob("prometheus_*.deb"))
        if done.returncode != 0 or not packages:
            why = (done.stderr.strip().splitlines() or ["no such package"])[-1]
            raise UnavailableError(f"apt-get download prometheus: {why}")
        subprocess.run(["dpkg-deb", "-x", packages[0], folder / "root"], check=True)
        if not (cache / "root").exists():
            (folder / "root").rename(cache / "root")


class Exporter:
    """A page /metrics on the loopback address, answered by a function; use as a context manager."""

    def __init__(self, page: Callable[[], tuple[bytes, str]]) -> None:
        class Handler(BaseHTTPRequestHandler):
            """Serves the page."""

            def do_GET(self) -> None:  # noqa: N802  # http.server's own name
                text, kind = page()
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="exporter")
        self.port: int = self._server.server_address[1]

    def __enter__(self) -> "Exporter":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Prometheus:
    """One server, on a port of the system's choice, its data below a folder; use as a context manager."""

    def __init__(self, program: Path, folder: Path, config: str) -> None:
        self._folder = folder
        self._log = (folder / "prometheus.log").open("wb")
        (folder / "prometheus.yml").write_text(config, "utf-8")
        command = [
            *DIES_WITH_US, str(program), f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}", "--web.listen-address=127.0.0.1:0",
        ]  # fmt: skip
        self._process = subprocess.Popen(command, stdout=self._log, stderr=self._log, cwd=folder)
        self._base = ""

    def __enter__(self) -> "Prometheus":
        deadline = time.monotonic() + START_S
        try:
            while not self._ready():
                assert self._process.poll() is None and time.monotonic() < deadline, self.log()
                time.sleep(0.1)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def _ready(self) -> bool:
        if not self._base:
            # Its log names the port, too, but not in the same words in every version.
            ours = psutil.Process(self._process.pid).net_connections("tcp")
            ports = [each.laddr.port for each in ours if each.status == psutil.CONN_LISTEN]
            self._base = f"http://127.0.0.1:{ports[0]}" if ports else ""
        try:
            return bool(self._base) and self._get("/-/ready") is not None
        except OSError:
            return False

    def _get(self, path: str, **parameters: str) -> bytes:
        query = f"?{urllib.parse.urlencode(parameters)}" if parameters else ""
        with urllib.request.urlopen(f"{self._base}{path}{query}", timeout=ANSWER_S) as answer:
            return bytes(answer.read())

    def ask(self, path: str, **parameters: str) -> Any:
        """Return the data of an answer of /api/v1; AssertionError with the server's words if it is an error."""
        try:
            answer = json.loads(self._get(f"/api/v1/{path}", **parameters))
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{parameters}: {error.read().decode('utf-8', 'replace')}") from None
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expr: str) -> list[tuple[dict[str, str], float]]:
        """Return (labels, value) of each series that an expression has now."""
        result = self.ask("query", query=expr)["result"]
        return [(each["metric"], float(each["value"][1])) for each in result]

    def log(self) -> str:
        """Return the end of what the server wrote."""
        return (self._folder / "prometheus.log").read_text("utf-8", "replace")[-3000:]


# A box ------------------------------------------------------------------------------------------------------------


def summary(step: int = 1, **changes: Any) -> Summary:
    """Return what a quoter says that works: everything in it is known, and its numbers grow with the step."""
    pnl = PnlStatus("12.5", "-3.25", "0.75", "2", "8")
    own = [OwnOrder("buy", "99.9", "1", "new"), OwnOrder("sell", "100.3", "1", "new")]
    btc = InstrumentStatus("99.95", "100.05", "-2.5", 2, "", [("99.95", "3")], [("100.05", "2")], own, pnl, 250)
    eth = InstrumentStatus("9.99", "10.01", "0", 0, "stale_data", [], [], [], PnlStatus("0", "0", "0", "0", "0"), 4000)
    counts = tuple(step * (position + 1) for position in range(len(EDGES_US) + 1))
    fill = FillStatus("f1", "BTC", "buy", "99.9", "1", "0.01", True, 10**18, 10**18 + 30_000_000)
    values: dict[str, Any] = {
        "mode": "practice", "venue": "hyperliquid", "state": "quoting", "reason": "",
        "instruments": {"BTC": btc, "ETH": eth}, "events": 1000 * step,
        "orders": OrderCounts(40 * step, 30 * step, 2 * step, 5 * step), "fills": 3 * step, "pnl": pnl,
        "tick_to_order_us": Latency(300.0, 900.0, 500), "rss_mb": 48.5, "deadman": "ARMED", "latch": "armed",
        "refusals": {"position": 4 * step, "order_rate": step}, "invariant_violations": 0,
        "anomalies": {"illegal_reports": 0, "foreign_fills": step}, "requests":
        RequestStatus(1200, 10_000, 60 * step, 2, 15.0, 20.0, 1),
        "storage": StorageStatus("", 3_000_000, 7 * step, 900_000, 12.5, 80.0, 4.5, 0),
        "tick_to_order": Histogram(counts, 5000.0 * step), "loop_lateness": Histogram(counts, 2500.0 * step),
        "run_fills": 3 * step, "last_fills": [fill],
    }  # fmt: skip
    return Summary(**{**values, **changes})


def guardian(**changes: Any) -> dict[str, Any]:
    """Return what a guardian answers that holds nothing up."""
    host = {
        "cpu_percent": 37.5, "memory_mb": 200.0, "temperature_c": 61.5, "disk_free_mb": 4096.0, "undervoltage": False,
        "throttled": False, "uptime_s": 86400.0, "unavailable": {},
    }  # fmt: skip
    power = {"mains": "good", "failing_s": None, "why": ""}
    return {
        "latch": "armed", "state": "run", "reason": "", "cause": "", "causes": [], "details": {}, "sign": "practice",
        "live_orders": 2, "quoter_alive": True, "boot": {"healthy": True, "why": ""},
        "box": {"host": host, "power": power}, **changes,
    }  # fmt: skip


def snapshot(step: int = 1, **changes: Any) -> Snapshot:
    """Return a moment of a box of which everything is known; `changes` replace fields, `at` is the real time."""
    markouts = ({"1s": 1.0, "5s": -3.0, "30s": None}, {"1s": 4.0, "5s": 6.0, "30s": 8.0})
    fills = tuple(
        Fill(f"f{number}", "BTC", "buy", "100", size, "0.01", True, 1e9, each)
        for number, (size, each) in enumerate(zip(("1", "2"), markouts, strict=True))
    )
    values: dict[str, Any] = {
        "device": "kitchen", "version": "0.1.0", "sequence": 4 * step, "at": time.time(), "monotonic": 100.0 + step,
        "uptime_s": 10.0 + step, "quoter": QuoterView(True, 0.1, 4242, summary(step)),
        "guardian": GuardianView(0.2, guardian()),
        "exposures": {"BTC": Exposure(-250.0, 0.25), "ETH": Exposure(0.0, 0.0)},
        "fills": fills, "adverse_bps": 4.5, "last_fill_s": 33.0, "counters": {"mqtt_reconnects": step, "alerts": 2},
        "rss_mb": 36.0,
    }  # fmt: skip
    return Snapshot(**{**values, **changes})


if __name__ == "__main__":
    print(*ensure_prometheus(), sep="\n", file=sys.stdout)
