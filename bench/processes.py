"""What the daemons cost as processes: start-up, memory, tick to order. Each box has a folder of its own, and every
process is ended by its own handle.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, TypeAlias

from mmpi.practice.keys import make_keys
from mmpi.runtime.board import HaltWord, StatusBoard

Process: TypeAlias = "subprocess.Popen[bytes]"

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "docs" / "examples"
MMPI = (sys.executable, "-m", "mmpi")
STARTS = 3
START_S = 20.0
"""Patience with one start: a hundred times what it takes."""
RUN_S = 8.0
"""The quoter runs this long before its memory and latencies are read."""
LISTENING = re.compile(rb"listening on (http://127\.0\.0\.1:\d+)")
RESTLESS = {
    "MMPI_INSTRUMENTS__BTC__LAYERED__UPDATE_INTERVAL_S": "0.05",
    "MMPI_INSTRUMENTS__BTC__LAYERED__TOLERANCE_PERCENT": "0",
    "MMPI_INSTRUMENTS__ETH__LAYERED__UPDATE_INTERVAL_S": "0.05",
    "MMPI_INSTRUMENTS__ETH__LAYERED__TOLERANCE_PERCENT": "0",
    "MMPI_RISK__ORDERS_PER_S": "200",
    "MMPI_RISK__ORDER_BURST": "400",
}
"""Orders at nearly every book, for enough ticks to tell a 99th percentile from the worst."""


class Box:
    """A box in a folder of its own, on one of the example configurations."""

    def __init__(self, folder: Path, example: str, more: dict[str, str]) -> None:
        self.runtime, self.state, self.config = folder / "run", folder / "state", EXAMPLES / example
        self.env = {
            **{key: value for key, value in os.environ.items() if not key.startswith("MMPI_")},
            **more,
            "MMPI_PATHS__RUNTIME_DIR": str(self.runtime),
            "MMPI_PATHS__STATE_DIR": str(self.state),
            "PYTHONUNBUFFERED": "1",
        }

    def command(self, *words: str) -> None:
        """Run a command to its end."""
        subprocess.run(self._line(*words), env=self.env, cwd=ROOT, check=True, capture_output=True)

    @contextmanager
    def started(self, *words: str) -> Iterator[tuple[Process, int]]:
        """Run a daemon; give it and the monotonic time just before it was started."""
        started = time.monotonic_ns()
        process = subprocess.Popen(
            self._line(*words), env=self.env, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        try:
            yield process, started
        finally:
            if process.poll() is None:
                process.terminate()
                process.communicate(timeout=START_S)

    def first_event_ms(self) -> float:
        """Return how long after its start a quoter had handled its first event."""
        with self.started("run") as (quoter, started):
            board = _until(lambda: StatusBoard.open(self.runtime / "status"), quoter)
            _until(lambda: board.pid == quoter.pid and board.beat_ns, quoter)
            return float(board.beat_ns - started) / 1e6

    def first_beat_ms(self) -> float:
        """Return how long after its start a guardian gave its first sign of life, which is on the halt word."""
        with self.started("guardian") as (guardian, started):
            self.await_guardian(guardian, started)
            return (self._guardian_beat() - started) / 1e6

    def await_guardian(self, guardian: Process, started: int) -> None:
        """Return once the guardian beats."""
        _until(lambda: self._guardian_beat() > started, guardian)

    def _guardian_beat(self) -> int:
        return HaltWord.open(self.runtime / "halt").beat_ns

    def _line(self, *words: str) -> list[str]:
        return [*MMPI, *words, "--config", str(self.config)]


def paper_box(folder: Path) -> Box:
    """Return a box on the generated market, armed and with its configuration checked, as after a first start."""
    box = Box(folder, "paper.toml", {})
    box.command("arm")
    box.command("check", "--resolve")
    return box


def starts(box: Box) -> dict[str, float]:
    """Return the medians of warm starts in milliseconds; the first start of each daemon is not counted."""
    kinds = {"run_first_event_ms": box.first_event_ms, "guardian_first_beat_ms": box.first_beat_ms}
    return {name: median([start() for _ in range(STARTS + 1)][1:]) for name, start in kinds.items()}


def practice(folder: Path) -> dict[str, Any]:
    """Return memory (MB of 10^6) and tick to order of a quoter that trades, signed, against a practice server."""
    make_keys(folder / "keys", folder / "agents.json")
    box = Box(folder, "practice.toml", {**RESTLESS, "MMPI_SECRETS__DIR": str(folder / "keys")})
    with _practice_server(folder / "keys") as url:
        box.env["MMPI_VENUE__URL"] = url
        with box.started("guardian") as (guardian, began):
            box.await_guardian(guardian, began)
            box.command("arm")
            with box.started("run", "--json") as (quoter, _):
                time.sleep(RUN_S)
                memory = {"run_rss_mb": rss_mb(quoter.pid), "guardian_rss_mb": rss_mb(guardian.pid)}
                quoter.terminate()
                output, errors = quoter.communicate(timeout=START_S)
    if quoter.returncode:
        raise RuntimeError(f"mmpi run ended with {quoter.returncode}: {errors.decode()}")
    return {**memory, "tick_to_order_us": json.loads(output)["tick_to_order_us"]}


@contextmanager
def _practice_server(keys: Path) -> Iterator[str]:
    """Give the URL of a practice server."""
    line = [*MMPI, "practice", "hyperliquid", "--port", "0", "--secrets", str(keys)]
    server = subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        assert server.stdout is not None
        said = b""
        while (found := LISTENING.search(said)) is None:
            more = server.stdout.readline()
            if not more:
                raise RuntimeError(f"mmpi practice hyperliquid: {said.decode('utf-8', 'replace')}")
            said += more
        yield str(found[1], "ascii")
    finally:
        server.terminate()
        server.communicate(timeout=START_S)


def backtest(data: Path) -> dict[str, Any]:
    """Return the summary of `mmpi backtest` over a recorded set, in a process of its own."""
    return _answer(*MMPI, "backtest", "--data", str(data), "--json")


def growth(data: Path) -> dict[str, Any]:
    """Return what `bench.growth` says of a recorded set."""
    return _answer(sys.executable, "-m", "bench.growth", str(data))


def rss_mb(pid: int) -> float:
    """Return a process's resident memory in MB of 10^6 bytes (proc_pid_statm(5), second field, pages)."""
    pages = int(Path(f"/proc/{pid}/statm").read_bytes().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _answer(*line: str) -> dict[str, Any]:
    done = subprocess.run(line, cwd=ROOT, check=True, stdout=subprocess.PIPE)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _until(look: Callable[[], Any], process: Process) -> Any:
    """Return the first true value of `look`; RuntimeError if the process ends or takes START_S."""
    end = time.monotonic() + START_S
    while not (seen := look()):
        if process.poll() is not None or time.monotonic() > end:
            process.kill()
            raise RuntimeError(f"{process.args!r}: no sign of life: {process.communicate()[1].decode()}")
        time.sleep(0.0005)
    return seen
