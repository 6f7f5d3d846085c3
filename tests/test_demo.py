"""mmpi demo with its real processes: what it prints, how it ends, and what it leaves behind, which is nothing."""

import argparse
import contextlib
import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import psutil
import pytest

from mmpi.commands import demo_box
from mmpi.commands.demo import _Demo
from mmpi.commands.demo_box import Box
from mmpi.commands.demo_child import Child, ChildError

PATIENCE_S = 30.0
DEMO = [sys.executable, "-m", "mmpi", "demo"]


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """Give a folder with a short name: the demo's socket lies two folders deeper, and a socket's path has 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="demo-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """Return an environment whose temporary folder is this test's own, with settings that the demo must override."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MMPI_")}
    return kept | {
        "TMPDIR": str(tmp_path),
        "MMPI_VENUE__URL": "https://127.0.0.1:1",
        "MMPI_VENUE__MODE": "live",
        "MMPI_PATHS__STATE_DIR": str(tmp_path / "not-here"),
    }


def until(found: Callable[[], bool]) -> bool:
    """Return True once something is so, False if it is not in PATIENCE_S."""
    deadline = time.monotonic() + PATIENCE_S
    while not found():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def gone(children: list[psutil.Process]) -> bool:
    """Return True once none of these processes runs any more."""
    return until(lambda: not [each for each in children if alive(each)])


def alive(process: psutil.Process) -> bool:
    """Return True if a process runs and is no zombie."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def box(folder: Path) -> Box:
    """Return a box that is not started."""
    return Box(folder, None, 7, 0.0)


# Without a whole demo --------------------------------------------------------------------------------------------


def test_q_ends_the_demo(tmp_path: Path) -> None:
    """The key q, and no other, ends it; keys pressed before anything runs do no harm."""
    demo = _Demo(argparse.Namespace(latency_ms=40.0), box(tmp_path))
    for key in "fcx":
        demo._key(key)
    assert not demo._ended
    demo._key("q")
    assert demo._ended


@pytest.mark.slow
def test_a_child_that_fails_shows_its_log(tmp_path: Path) -> None:
    """The error names the child and its exit code, has the end of its log, and gives its exit code on."""
    child = Child("exchange", ["practice", "hyperliquid", "--latency-ms", "-1"], tmp_path, os.environ)
    try:
        assert until(lambda: child.code is not None)
        with pytest.raises(ChildError, match=r"^the exchange ended with exit code 2(.|\n)*--latency-ms: -1") as caught:
            child.check()
        assert caught.value.exit_code == 2
    finally:
        child.end()


@pytest.mark.slow
def test_a_child_is_ended_even_when_frozen(tmp_path: Path) -> None:
    """A stopped process is gone after `end`, and its code says by which signal."""
    child = Child("exchange", ["practice", "hyperliquid", "--port", "0"], tmp_path, os.environ)
    child.send(signal.SIGSTOP)
    child.end()
    assert child.code == -signal.SIGKILL


@pytest.mark.slow
async def test_a_start_that_takes_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that is not ready in time is named in the error."""
    monkeypatch.setattr(demo_box, "START_S", 0.05)
    late = box(tmp_path)
    try:
        with pytest.raises(ChildError, match=r"^the exchange did not listen within 0.05 s; the end of its log:"):
            await late.start()
    finally:
        late.kill()


# Lines and JSON --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_json_is_one_exact_line(tmp_path: Path, environ: dict[str, str]) -> None:
    """Exit 0; stdout is one JSON object whose P&L parts sum exactly; lines go to stderr; no file is left."""
    done = subprocess.run(
        [*DEMO, "--seconds", "5", "--json"], env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    (text,) = done.stdout.splitlines()
    summary = json.loads(text)
    for pnl in (summary["pnl"], *(each["pnl"] for each in summary["instruments"].values())):
        part = {name: Decimal(value) for name, value in pnl.items()}
        assert part["spread"] + part["inventory"] + part["funding"] - part["fees"] == part["total"]
    assert (summary["mode"], summary["venue"], summary["latch"]) == ("practice", "hyperliquid", "armed")
    assert set(summary["instruments"]) == {"BTC", "ETH"}
    assert [each["orders"] for each in summary["instruments"].values()] == [0, 0]
    assert summary["orders"]["placed"] >= 12
    assert summary["invariant_violations"] == 0
    assert "s quoting BTC" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def children_of(demo: int) -> list[psutil.Process]:
    """Return the demo's four processes, once all of them run."""
    end = time.monotonic() + PATIENCE_S
    while len(found := psutil.Process(demo).children(recursive=True)) != 4:
        assert time.monotonic() < end, found
        time.sleep(0.05)
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly(number: signal.Signals, tmp_path: Path, environ: dict[str, str]) -> None:
    """Ctrl-C and SIGTERM end a demo without --seconds with its account, exit 0, and nothing left."""
    with running(DEMO, environ) as demo:
        assert read_until(demo, b"quoting")
        children = children_of(demo.pid)
        demo.send_signal(number)
        out, errors = demo.communicate(timeout=PATIENCE_S)
    assert demo.returncode == 0, errors
    assert out.splitlines()[-1].startswith(b"p&l         total ")
    assert b"left at the exchange: 0" in out
    assert gone(children)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_killed_it_leaves_no_child(environ: dict[str, str]) -> None:
    """SIGKILL of the demo ends exchange, guardian, quoter and telemetry."""
    with running(DEMO, environ) as demo:
        assert read_until(demo, b"quoting")
        children = children_of(demo.pid)
        demo.kill()
        demo.wait()
    assert gone(children)


@pytest.mark.slow
def test_a_dead_guardian_is_a_failure(tmp_path: Path, environ: dict[str, str]) -> None:
    """A guardian killed from outside ends the demo with exit 1, the logs shown and kept, and no process left."""
    with running(DEMO, environ) as demo:
        assert read_until(demo, b"quoting")
        children = children_of(demo.pid)
        (guardian,) = [each for each in children if "guardian" in each.cmdline()]
        guardian.kill()
        _, errors = demo.communicate(timeout=PATIENCE_S)
    assert demo.returncode == 1
    assert b"the guardian ended by signal 9; the end of its log:\nmmpi demo: mmpi guardian: " in errors
    (folder,) = tmp_path.iterdir()
    assert str(folder).encode() in errors and (folder / "quoter.log").exists()
    # Of a long log the end alone is shown; all of it is kept.
    assert b"mmpi guardian: armed" in (folder / "guardian.log").read_bytes()
    assert gone(children)


@pytest.mark.slow
def test_bad_configuration_is_told(tmp_path: Path, environ: dict[str, str]) -> None:
    """A configuration that is wrong ends the demo with exit 2 and the line that names the key; no folder is kept."""
    config = tmp_path / "my.toml"
    config.write_text("[risk]\nmax_ordr = 3\n")
    command = [*DEMO, "--config", str(config), "--seconds", "1"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "risk.max_ordr" in done.stderr
    assert list(tmp_path.iterdir()) == [config]


@contextlib.contextmanager
def running(command: list[str], environ: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Yield a started command with its output in pipes; it is gone afterwards."""
    process = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with process:
        try:
            yield process
        finally:
            process.kill()


def read_until(process: subprocess.Popen[bytes], word: bytes) -> bool:
    """Return True once the process has written a line with this word to its standard output."""
    assert process.stdout is not None
    return any(word in text for text in iter(process.stdout.readline, b""))


# On a terminal ---------------------------------------------------------------------------------------------------


class Terminal:
    """A demo on a terminal of 80 by 24; `seen` is all that it has written since the last `forget`."""

    def __init__(self, environ: dict[str, str]) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
        self.before = termios.tcgetattr(slave)
        self.slave = slave
        self.seen = b""
        self.demo = subprocess.Popen(
            DEMO, env=environ | {"TERM": "xterm-256color"}, stdin=slave, stdout=slave, stderr=slave,
            start_new_session=True,
        )  # fmt: skip

    def press(self, key: bytes) -> None:
        """Type a key, and look only at what comes after it."""
        self.seen = b""
        os.write(self._master, key)

    def sees(self, word: str) -> bool:
        """Return True once the terminal shows a word."""
        return until(lambda: self._read() and word.encode() in self.seen)

    def _read(self) -> bool:
        while select.select([self._master], [], [], 0.0)[0]:
            self.seen += os.read(self._master, 65536)
        return True

    def close(self) -> None:
        """End what is left."""
        self.demo.kill()
        self.demo.wait()
        os.close(self._master)
        os.close(self.slave)


@pytest.fixture
def terminal(environ: dict[str, str]) -> Iterator[Terminal]:
    """Yield a demo on a terminal."""
    opened = Terminal(environ)
    try:
        yield opened
    finally:
        opened.close()


@pytest.mark.slow
def test_the_front_panel(terminal: Terminal, tmp_path: Path) -> None:
    """k latches and shows zero orders verified, a arms, f and c freeze and free the quoter, q ends it with 0."""
    assert terminal.sees("● quoting")
    terminal.press(b"k")
    assert terminal.sees("● latched: kill_button")
    assert terminal.sees("zero orders at the exchange: first seen after")
    terminal.press(b"a")
    assert terminal.sees("● quoting")
    terminal.press(b"f")
    assert terminal.sees("● no sign of life from the quoter")
    terminal.press(b"c")
    assert terminal.sees("● quoting")
    terminal.press(b"q")
    assert terminal.sees("p&l         total ")
    assert terminal.demo.wait(PATIENCE_S) == 0
    assert termios.tcgetattr(terminal.slave) == terminal.before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_killed_quoter_comes_back_when_armed(terminal: Terminal) -> None:
    """A frozen quoter is killed by the red button; after arming a new one quotes, and the account says so."""
    assert terminal.sees("● quoting")
    terminal.press(b"f")
    assert terminal.sees("frozen (pid")
    terminal.press(b"k")
    assert terminal.sees("ended (SIGKILL)")
    assert terminal.sees("zero orders at the exchange: first seen after")
    terminal.press(b"a")
    assert terminal.sees("● quoting")
    terminal.press(b"q")
    assert terminal.sees("quoter started 2 times")
    assert terminal.demo.wait(PATIENCE_S) == 0
