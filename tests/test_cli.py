"""The commands as people type them: every way to end, its words and its exit code."""

import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from ended import Ended
from engine_builders import Bench, book
from practice_builders import STRANGER
from runtime_builders import board_of, box_environ, practice_thread, write_keys

from mmpi import cli
from mmpi.cli import main
from mmpi.device.latch import Latch
from mmpi.engines import checkpoint
from mmpi.errors import DeviceError
from mmpi.events import Connected, Reconciled, Timer
from mmpi.journal.writer import JournalWriter
from mmpi.practice.keys import make_keys
from mmpi.runtime import venue_facts
from mmpi.runtime.board import lock

ROOT = Path(__file__).resolve().parents[1]


Run = Callable[..., Ended]


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Be in a box of one's own: its folders, no configuration, no systemd."""
    for name in [name for name in os.environ if name.startswith("MMPI_") or name == "NOTIFY_SOCKET"]:
        monkeypatch.delenv(name)
    for name, value in box_environ(tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    (tmp_path / "state").mkdir()
    (tmp_path / "run").mkdir()
    return tmp_path


@pytest.fixture
def run(box: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    """Return what runs a command in this process."""
    assert box.is_dir()

    def command(*argv: str | Path) -> Ended:
        capfd.readouterr()
        try:
            code = main([str(word) for word in argv])
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
        return Ended(code, *capfd.readouterr())

    return command


def process(*argv: str | Path) -> Ended:
    """Run a command in a process of its own."""
    command = [sys.executable, "-m", "mmpi", *map(str, argv)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=30, check=False)
    return Ended(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a daemon check its configuration in this process; that it is done in another is the claim of one test."""

    def here(command: list[str], **_: object) -> "subprocess.CompletedProcess[str]":
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            return subprocess.CompletedProcess(command, main(command[3:]), stderr="")

    monkeypatch.setattr("mmpi.commands.resolved.subprocess.run", here)


# Usage ------------------------------------------------------------------------------------------------------------


def test_python_m_mmpi() -> None:
    """`python -m mmpi` is the command; --version says which."""
    ended = process("--version")
    assert (ended.code, ended.out.split()[0], ended.err) == (0, "mmpi", "")


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["frobnicate"], "invalid choice: 'frobnicate'"),
        (["run", "--frob"], "unrecognized arguments: --frob"),
        (["run", "--seconds", "0"], "argument --seconds: 0 is not a number above 0"),
        (["run", "--seconds", "nan"], "argument --seconds: nan is not a number above 0"),
        (["run", "--seconds", "1 s"], "argument --seconds: '1 s' is not a number above 0"),
        (["practice"], "the following arguments are required: WHAT"),
        (["practice", "keys"], "the following arguments are required: --out"),
        (["journal", "burn"], "argument WHAT: invalid choice: 'burn'"),
        (["backtest", "--seed", "x"], "argument --seed: 'x' is not a whole number"),
    ],
)
def test_bad_usage(run: Run, argv: list[str], text: str) -> None:
    """What is no command line ends with 2, the usage and the reason, on stderr."""
    ended = run(*argv)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("usage: mmpi")
    assert text in ended.err


@pytest.mark.parametrize("name", [*cli.COMMANDS, "--help"])
def test_help(run: Run, name: str) -> None:
    """Every command explains itself."""
    ended = run(name, *(["--help"] if name != "--help" else []))
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("usage: mmpi")


def test_an_interrupt_and_a_closed_pipe(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends with 130 and without a traceback."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mmpi.commands.settings.load_config", interrupted)
    assert run("check") == (130, "", "")


@pytest.mark.slow
def test_a_reader_that_leaves() -> None:
    """`mmpi schema | head -1` is no error."""
    line = f"{sys.executable} -m mmpi schema | head -1"
    done = subprocess.run(line, shell=True, capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.stdout, done.stderr) == ("{\n", "")


# Configuration ----------------------------------------------------------------------------------------------------


def test_everything_that_is_wrong_at_once(run: Run, box: Path) -> None:
    """An unknown key, a negative size and a wrong unit are each one line with file, key, value and what is allowed."""
    file = box / "mmpi.toml"
    file.write_text('[risk]\ncapitol = 3\n[venue]\nack_timeout_s = "5 s"\n[instruments.BTC.layered]\nsize = -1\n')
    for command in ("check", "backtest"):
        ended = run(command, "--config", file)
        assert (ended.code, ended.out) == (2, "")
        assert sorted(ended.err.splitlines()) == [
            f"mmpi {command}: {file}: instruments.BTC.layered.size: value -1: allowed: decimal number of at most 12 "
            "places from 0 to 1000000000, in base currency",
            f"mmpi {command}: {file}: risk.capitol: value 3: unknown key; did you mean capital?",
            f'mmpi {command}: {file}: venue.ack_timeout_s: value "5 s": allowed: plain number above 0, at most 60, in '
            "seconds",
        ]


@pytest.mark.parametrize("command", ["check", "backtest", "kill", "arm", "status", "replay", "journal"])
def test_a_missing_configuration(run: Run, box: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    """A file that was named and is not there is an error of every command that needs it."""
    monkeypatch.delenv("MMPI_PATHS__RUNTIME_DIR")
    ended = run(command, *(["verify"] if command == "journal" else []), "--config", box / "none.toml")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(f"mmpi {command}: {box}/none.toml: no such file; ")


def test_a_runtime_folder_that_is_too_long(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's limit on a socket's name is told by the check, with how much is too much."""
    folder = "/" + "r" * 98
    monkeypatch.setenv("MMPI_PATHS__RUNTIME_DIR", folder)
    ended = run("check")
    assert ended.code == 2
    assert ended.err == (
        f'mmpi check: environment MMPI_PATHS__RUNTIME_DIR: paths.runtime_dir: value "{folder}": allowed: a path 6 '
        f"bytes shorter: {folder}/guardian.sock is too long for a socket\n"
    )


def test_check_shows_values_and_origins(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every value is printed with where it comes from; --json says the same on one line."""
    monkeypatch.setenv("MMPI_RISK__CAPITAL", "12345")
    text, found = run("check"), run("check", "--json").json()
    assert text.code == 0
    assert found["values"]["risk.capital"] == {"value": "12345", "origin": "environment MMPI_RISK__CAPITAL"}
    lines = {line.partition(" = ")[0]: line for line in text.out.splitlines()}
    assert lines["risk.capital"].startswith("risk.capital = 12345 ")
    assert lines["risk.capital"].endswith("# environment MMPI_RISK__CAPITAL")
    assert set(lines) == set(found["values"])


def test_schema(run: Run) -> None:
    """The schema is one JSON object, on one line with --json."""
    assert run("schema", "--json").json()["properties"].keys() >= {"venue", "risk", "instruments"}
    assert json.loads(run("schema").out)["properties"].keys() >= {"venue", "risk", "instruments"}


@pytest.mark.slow
def test_a_daemons_check_is_done_elsewhere_and_once(run: Run, box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon has its configuration checked by another process; unchanged, it is not checked again; its errors are
    the daemon's."""
    calls: list[list[str]] = []
    real = subprocess.run

    def counted(command: list[str], **how: Any) -> Any:
        calls.append(command)
        return real(command, **how)

    monkeypatch.setattr("mmpi.commands.resolved.subprocess.run", counted)
    (box / "bad.toml").write_text("[risk]\ncapitol = 3\n")
    (box / "good.toml").write_text("")
    bad = run("run", "--config", box / "bad.toml")
    assert bad == (2, "", f"mmpi run: {box}/bad.toml: risk.capitol: value 3: unknown key; did you mean capital?\n")
    first, second = run("run", "--config", box / "good.toml"), run("run", "--config", box / "good.toml")
    assert (first.code, second.code, len(calls)) == (3, 3, 2)


@pytest.mark.usefixtures("checked")
def test_another_configuration_in_its_place(run: Run, box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolved configuration that somebody else wrote there meanwhile is not taken for one's own."""
    for name, mode in (("paper", "8"), ("other", "9")):
        (box / f"{name}.toml").write_text(f"[risk]\norder_burst = {mode}\n")
    Latch(box / "state" / "latch.json").trip("t", "t", 1)
    resolved = box / "run" / "config.json"
    run("run", "--config", box / "paper.toml")
    assert json.loads(resolved.read_text())["risk"]["order_burst"] == 8
    run("check", "--resolve", "--config", box / "other.toml")
    assert json.loads(resolved.read_text())["risk"]["order_burst"] == 9
    run("run", "--config", box / "paper.toml")
    assert json.loads(resolved.read_text())["risk"]["order_burst"] == 8
    monkeypatch.setenv("MMPI_RISK__ORDER_BURST", "10")
    run("run", "--config", box / "paper.toml")
    assert json.loads(resolved.read_text())["risk"]["order_burst"] == 10


def test_a_runtime_folder_that_cannot_be(run: Run, box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon whose runtime folder cannot be made names it."""
    (box / "file").write_text("")
    monkeypatch.setenv("MMPI_PATHS__RUNTIME_DIR", str(box / "file" / "run"))
    for command in ("run", "guardian"):
        ended = run(command)
        assert ended == (
            2, "", f"mmpi {command}: {box}/file/run: Not a directory; the runtime folder must be writable\n"
        )  # fmt: skip


# Daemons that refuse ----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("checked")
def test_a_latched_run(run: Run, box: Path) -> None:
    """A latched box does not quote: exit 3, with the reason and how to arm."""
    Latch(box / "state" / "latch.json").trip("somebody", "smoke", 1)
    ended = run("run")
    assert (ended.code, ended.out) == (3, "")
    assert ended.err.endswith("mmpi run: latched: smoke; nothing is quoted; to arm it again: mmpi arm\n")


@pytest.mark.usefixtures("checked")
def test_a_second_quoter(run: Run, box: Path) -> None:
    """While one quoter runs no other does: exit 3, with the number of the first."""
    Latch(box / "state" / "latch.json").arm("t", "t", 1)
    with lock(box / "run" / "quoter.lock"):
        ended = run("run")
    assert ended.code == 3
    assert ended.err.endswith(f"mmpi run: another quoter is running (pid {os.getpid()})\n")


@pytest.mark.usefixtures("checked")
def test_a_second_guardian(run: Run, box: Path) -> None:
    """While one guardian runs or listens no other starts: exit 3, and the first one's halt word is not touched."""
    with lock(box / "run" / "guardian.lock", "guardian"):
        ended = run("guardian")
    assert ended == (3, "", f"mmpi guardian: another guardian is running (pid {os.getpid()})\n")
    with socket.socket(socket.AF_UNIX) as first:
        first.bind(str(box / "run" / "guardian.sock"))
        first.listen()
        ended = run("guardian")
    assert ended.code == 3
    assert ended.err.endswith(f"mmpi guardian: {box}/run/guardian.sock: another guardian is listening\n")
    assert not (box / "run" / "halt").exists()


@pytest.fixture
def practising(box: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Be in a box that practises at a server, with keys and armed."""
    with practice_thread(box) as venue:
        for name, value in box_environ(box, venue.url).items():
            monkeypatch.setenv(name, value)
        write_keys(box / "keys")
        Latch(box / "state" / "latch.json").arm("t", "t", 1)
        yield box


@pytest.mark.usefixtures("checked")
@pytest.mark.parametrize(("command", "key"), [("run", "quoter.key"), ("guardian", "guardian.key")])
def test_a_wrong_practice_key(run: Run, practising: Path, command: str, key: str) -> None:
    """A key that is no agent of the account ends quoter and guardian with 2, file and address, and what to do."""
    write_keys(practising / "keys", quoter=STRANGER, guardian=STRANGER)
    ended = run(command)
    assert (ended.code, ended.out) == (2, "")
    last = ended.err.splitlines()[-1]
    assert last.startswith(f"mmpi {command}: {practising}/keys/{key}: its address 0x")
    assert last.endswith(
        "allowed: the key of an approved agent (practice: mmpi practice keys --out DIR, then secrets.dir = DIR)"
    )


@pytest.mark.usefixtures("checked")
@pytest.mark.parametrize(("command", "key"), [("run", "quoter.key"), ("guardian", "guardian.key")])
def test_keys_that_are_not_right(run: Run, practising: Path, command: str, key: str) -> None:
    """A key that others may read, that is none, or that is missing: exit 2, and never the key itself."""
    path = practising / "keys" / key
    secret = path.read_text().strip()
    path.chmod(0o644)
    readable = run(command)
    assert readable.code == 2
    assert readable.err.endswith(
        f"mmpi {command}: {path}: mode 0644 lets others read a secret; allowed: 0600 (chmod 600 {path})\n"
    )
    path.chmod(0o600)
    path.write_text(secret[:-1] + "\n")
    short = run(command)
    assert (short.code, secret[:-1] in short.err, str(path) in short.err) == (2, False, True)
    path.unlink()
    missing = run(command)
    assert missing.code == 2
    assert missing.err.endswith(
        f"{path}: no such file; for practice make one with: mmpi practice keys --out {practising}/keys\n"
    )


@pytest.mark.usefixtures("checked", "practising")
def test_a_dead_venue(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A venue that does not answer ends the quoter with 4, the address and the reason."""
    monkeypatch.setattr(venue_facts, "TIMEOUT_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("MMPI_VENUE__URL", f"http://127.0.0.1:{port}")
    ended = run("run")
    assert (ended.code, ended.out) == (4, "")
    assert f"mmpi run: ws://127.0.0.1:{port}/ws: no answer within 0.1 s" in ended.err


@pytest.mark.slow
@pytest.mark.usefixtures("checked")
def test_a_timed_run(run: Run, box: Path) -> None:
    """A run that ends by itself: exit 0, one summary on one line, and where the journal is."""
    Latch(box / "state" / "latch.json").arm("t", "t", 1)
    ended = run("run", "--seconds", "0.2", "--json")
    assert (ended.code, ended.json()["mode"]) == (0, "paper")
    assert ended.err.endswith(f"mmpi run: stopped, no orders left; journal in {box}/run/journal\n")


# The button -------------------------------------------------------------------------------------------------------


class Guardian:
    """A socket that answers as a guardian does, and notes what it was asked and when."""

    def __init__(self, path: Path, *answers: dict[str, Any]) -> None:
        self.asked: list[dict[str, Any]] = []
        self.at: list[float] = []
        self._answers = b"".join(json.dumps(answer).encode() + b"\n" for answer in answers)
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with self._server:
            while True:
                peer, _ = self._server.accept()
                with peer:
                    asked = peer.recv(4096)
                    if not asked:
                        return
                    self.at.append(time.monotonic())
                    self.asked.append(json.loads(asked))
                    peer.sendall(self._answers)

    def close(self) -> None:
        """End it."""
        with socket.socket(socket.AF_UNIX) as last:
            last.connect(self._server.getsockname())
        self._thread.join()


@pytest.fixture
def guardian(box: Path) -> Iterator[Callable[..., Guardian]]:
    """Return what makes a guardian with these answers."""
    made: list[Guardian] = []

    def make(*answers: dict[str, Any]) -> Guardian:
        made.append(Guardian(box / "run" / "guardian.sock", *answers))
        return made[-1]

    yield make
    for each in made:
        each.close()


STOPPED = {"final": True, "verified": True, "first_zero_ms": 12.4, "verified_ms": 2034.6, "stored": True}
STATUS = {
    "final": True, "latch": "latched", "state": "latched", "reason": "smoke", "venue_session": True, "live_orders": 0,
}  # fmt: skip


def test_kill(run: Run, guardian: Callable[..., Guardian], monkeypatch: pytest.MonkeyPatch) -> None:
    """The press is told at once and the verified stop after it; the guardian hears who and why."""
    monkeypatch.setenv("SUDO_USER", "ada")
    listening = guardian({"accepted": True, "reason": "smoke"}, STOPPED)
    ended = run("kill", "--reason", "smoke")
    assert ended == (
        0,
        "latched; zero orders: first seen after 12 ms, verified after 2035 ms\n",
        "mmpi kill: pressed: nothing is placed any more; cancelling\n",
    )
    assert run("kill", "--json").json()["verified"] is True
    assert listening.asked == [{"cmd": "kill", "by": "ada", "reason": text} for text in ("smoke", "kill button")]


def test_kill_without_a_guardian(run: Run, box: Path) -> None:
    """What can be done from here is done, and what could not be is said: exit 4."""
    for argv in (["kill"], ["kill", "--json"]):
        ended = run(*argv)
        assert ended.code == 4
        assert ended.err == (
            "mmpi kill: no guardian answers: latched; no quoter is running. Nobody verified that no order rests at a "
            "venue: start the guardian (mmpi guardian), it cancels and verifies\n"
        )
    found = ended.json()
    assert (found["verified"], found["latched"], found["quoter_killed"]) == (False, True, False)
    stored = Latch(box / "state" / "latch.json").load()
    assert (stored.latched, stored.reason, stored.valid) == (True, "kill button", True)


@pytest.mark.slow
def test_kill_without_a_guardian_ends_a_frozen_quoter(
    run: Run, box: Path, sleeper: "subprocess.Popen[bytes]"
) -> None:
    """A quoter that does not obey in time is killed from here, and that is said: exit 4."""
    board_of(box / "run" / "status", sleeper.pid)
    ended = run("kill", "--json")
    assert (ended.code, ended.json()["quoter_killed"]) == (4, True)
    assert sleeper.wait(timeout=5) == -signal.SIGKILL
    assert f"the quoter (pid {sleeper.pid}) did not obey within 0.5 s and was killed" in ended.err


@pytest.mark.slow
def test_kill_stops_the_quoter_though_the_disk_does_not_take_the_latch(
    run: Run, box: Path, sleeper: "subprocess.Popen[bytes]", monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill switch that throws must not leave anything quoting: the quoter is ended, and the failure is said."""

    def full(*_: object) -> None:
        raise DeviceError("latch.json: the latch was not written (latched): No space left on device")

    monkeypatch.setattr(Latch, "trip", full)
    (box / "run" / "halt").mkdir(parents=True)  # the halt word cannot be written either
    board_of(box / "run" / "status", sleeper.pid)
    ended = run("kill", "--json")
    assert (ended.code, ended.json()["latched"], ended.json()["quoter_killed"]) == (4, False, True)
    assert sleeper.wait(timeout=5) == -signal.SIGKILL
    assert not (box / "run" / "halt").is_file()
    assert "NOT latched (latch.json: the latch was not written (latched): No space left on device)" in ended.err


def test_arm(run: Run, guardian: Callable[..., Guardian]) -> None:
    """A guardian arms; --json is its answer."""
    guardian({"final": True, "armed": True, "generation": 7})
    assert run("arm") == (0, "armed\n", "")
    assert run("arm", "--json").json() == {"armed": True, "generation": 7}


def test_arm_is_refused(run: Run, guardian: Callable[..., Guardian]) -> None:
    """A guardian's refusal is exit 3 with its words."""
    guardian({"final": True, "error": "it is not verified"})
    assert run("arm") == (3, "", "mmpi arm: it is not verified\n")


def test_arm_without_a_guardian(run: Run, box: Path) -> None:
    """Without a guardian the latch is unlatched by hand."""
    assert run("arm") == (0, "armed (no guardian is running)\n", "")
    assert Latch(box / "state" / "latch.json").load().latched is False
    assert run("arm", "--json").json() == {"armed": True, "generation": 2}


def test_status_of_nothing(run: Run) -> None:
    """With nothing running the status has its whole shape and says so: exit 0."""
    found = run("status", "--json").json()
    assert found.keys() >= {
        "mode", "venue", "instruments", "events", "orders", "fills", "pnl", "tick_to_order_us", "rss_mb", "deadman",
        "latch", "refusals", "invariant_violations",
    }  # fmt: skip
    assert (found["state"], found["guardian"], found["latch"], found["age_s"]) == ("no quoter", None, "latched", None)
    ended = run("status")
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert lines[0].endswith("latch.json does not exist: never armed")
    assert lines[1:3] == ["quoter    no quoter has run", "guardian  not running"]


VERDICT = {"healthy": True, "why": "quoting", "uptime_s": 41.4, "version": "0.1.0", "slot": "B"}


@pytest.mark.parametrize(
    ("boot", "line"),
    [
        (VERDICT, "boot      healthy 41 s after it: quoting; mmpi 0.1.0, slot B"),
        (VERDICT | {"slot": "", "uptime_s": None}, "boot      healthy: quoting; mmpi 0.1.0"),
        (VERDICT | {"healthy": False, "why": "pins"}, "boot      NOT healthy 41 s after it: pins; mmpi 0.1.0, slot B"),
        ({"healthy": None, "why": "not yet judged"}, "boot      not yet judged"),
    ],
)
def test_status_tells_of_this_boot(
    run: Run, guardian: Callable[..., Guardian], boot: dict[str, object], line: str
) -> None:
    """What `mmpi health` found of this boot stands beside how the last run ended, in words and as JSON."""
    guardian({**STATUS, "before": {"ended": "power", "reason": "the supply"}, "boot": boot})
    lines = run("status").out.splitlines()
    assert lines[lines.index("machine   before: power: the supply") + 1] == line
    assert run("status", "--json").json()["guardian"]["boot"] == boot


@pytest.mark.slow
@pytest.mark.usefixtures("checked")
def test_status_after_a_run(
    run: Run, box: Path, guardian: Callable[..., Guardian], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last status of a quoter that ended is shown as old, beside what the guardian says."""
    Latch(box / "state" / "latch.json").arm("t", "t", 1)
    run("run", "--seconds", "0.2")
    now = time.monotonic_ns
    monkeypatch.setattr(time, "monotonic_ns", lambda: now() + 60_000_000_000)
    guardian(STATUS)
    found = run("status", "--json").json()
    assert (found["mode"], found["guardian"]["reason"], found["latch"]) == ("paper", "smoke", "latched")
    assert 60 <= found["age_s"] < 70
    text = run("status").out
    assert "quoter    SILENT for 60." in text
    assert "guardian  latched: smoke; venue session True; live orders 0" in text
    pnl = found["pnl"]
    assert f"p&l       {pnl['total']} = spread {pnl['spread']} + inventory" in text


# Weight and speed -------------------------------------------------------------------------------------------------


def loaded_by(code: str, *names: str) -> list[str]:
    """Return which of these modules a process has after this code."""
    script = f"{code}\nimport sys\nprint(*sorted(set({names!r}) & set(sys.modules)), file=sys.__stdout__)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].split()


HEAVY = ("asyncio", "msgspec", "pydantic", "websockets", "aiohttp", "numpy", "rich", "subprocess", "ssl", "logging")


def test_kill_is_light(box: Path, guardian: Callable[..., Guardian]) -> None:
    """With a guardian listening, pressing loads nothing heavy: a person is waiting."""
    assert box.is_dir()
    listening = guardian({"accepted": True}, STOPPED)
    assert loaded_by("from mmpi.cli import main\nassert main(['kill']) == 0", *HEAVY) == []
    assert len(listening.asked) == 1


def test_kill_is_quick(box: Path, guardian: Callable[..., Guardian]) -> None:
    """From the start of the process to the press at the guardian's socket: 100 ms, on a machine that is not busy."""
    assert box.is_dir()
    listening = guardian({"accepted": True}, STOPPED)
    took = []
    while not took or (min(took) >= 0.1 and len(took) < 20):
        begun = time.monotonic()
        assert process("kill").code == 0
        took.append(listening.at[-1] - begun)
    assert min(took) < 0.1, took


@pytest.mark.slow
def test_the_guardian_is_small(box: Path) -> None:
    """The guardian's process has no strategy, no configuration checker and no web framework in it."""
    assert box.is_dir()
    names = ("pydantic", "aiohttp", "numpy", "pyarrow", "rich", "mmpi.config", "mmpi.engine", "mmpi.quoting",
             "mmpi.risk", "mmpi.sim", "mmpi.settings", "mmpi.app", "coincurve")  # fmt: skip
    assert loaded_by("import mmpi.commands.guard", *names) == ["coincurve"]


@pytest.mark.slow
def test_the_quoter_is_small(box: Path) -> None:
    """The quoter's process has only what quoting needs."""
    assert box.is_dir()
    names = ("pydantic", "aiohttp", "numpy", "pyarrow", "rich", "mmpi.config", "mmpi.guardian", "mmpi.practice",
             "mmpi.research", "mmpi.engine")  # fmt: skip
    assert loaded_by("import mmpi.commands.run", *names) == ["mmpi.engine"]


# Practice ---------------------------------------------------------------------------------------------------------


def test_practice_keys(run: Run, box: Path) -> None:
    """An account is made, told, and not overwritten."""
    made = run("practice", "keys", "--out", box / "new", "--json").json()
    assert (made["dir"], set(made["agents"])) == (str(box / "new"), {"quoter", "guardian"})
    assert (box / "new" / "account").read_text().strip() == made["account"]
    again = run("practice", "keys", "--out", box / "new")
    assert again.code == 2
    assert again.err.endswith("exists already; choose another folder with --out, or replace it with --force\n")
    assert run("practice", "keys", "--out", box / "new", "--force").code == 0


def test_practice_on_a_port_in_use(run: Run) -> None:
    """A port that is taken is named, with the option that chooses another."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run("practice", "hyperliquid", "--port", str(port))
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == f"mmpi practice: port {port} on 127.0.0.1 is already in use; choose another with --port\n"


def test_practice_with_the_keys_of_nobody(run: Run, box: Path) -> None:
    """A folder without an account is named."""
    make_keys(box / "keys", box / "registry")
    (box / "keys" / "agents.json").unlink()
    ended = run("practice", "hyperliquid", "--port", "0", "--secrets", box / "keys")
    assert ended.code == 2
    assert f"mmpi practice: {box}/keys/agents.json: no such file; make one with" in ended.err


# Backtests --------------------------------------------------------------------------------------------------------


def test_a_backtest_of_the_generated_market(run: Run) -> None:
    """Without options the built-in market is quoted: fills, exact money, no violation, the shared shape."""
    found = run("backtest", "--seconds", "60", "--json").json()
    assert found.keys() >= {"mode", "venue", "instruments", "orders", "fills", "pnl", "invariant_violations", "data"}
    assert (found["mode"], found["invariant_violations"], found["data"]) == ("backtest", 0, {})
    assert found["orders"]["placed"] > 0
    assert found["fills"] > 0
    pnl = {key: Decimal(value) for key, value in found["pnl"].items()}
    assert pnl["total"] == pnl["spread"] + pnl["inventory"] + pnl["funding"] - pnl["fees"]
    text = run("backtest", "--seconds", "60")
    assert text.code == 0
    assert f"p&l         {found['pnl']['total']}" in text.out


def test_a_backtest_twice(run: Run, box: Path) -> None:
    """The same market gives the same journal, byte for byte; another seed gives another; it verifies and replays."""
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert run("backtest", "--seconds", "20", "--seed", seed, "--journal", box / name).code == 0
    contents = [b"".join(path.read_bytes() for path in sorted((box / name).iterdir())) for name in "abc"]
    assert contents[0] == contents[1] != contents[2]
    assert run("journal", "verify", box / "a", "--json").json()["clean_stop"] is True
    assert run("replay", "--verify", box / "a", "--json").json()["exact"] is True


def test_a_journal_folder_in_use(run: Run, box: Path) -> None:
    """A folder with something in it is not written into, and what is in it stays."""
    (box / "full").mkdir()
    (box / "full" / "diary").write_text("dear")
    ended = run("backtest", "--seconds", "1", "--journal", box / "full")
    assert ended.code == 2
    assert ended.err.startswith(f"mmpi backtest: --journal {box}/full: exists; allowed: a new or empty folder")
    assert os.listdir(box / "full") == ["diary"]


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["--quoter", "nope"], "--quoter nope: no such quoter; allowed: layered"),
        (["--instrument", "DOGE"], "--instrument DOGE: the generated market has BTC, ETH; or give --data"),
        (["--tick", "1"], "--tick and --lot: allowed with --data only; the generated market has its own grid"),
        (["--data", "none.parquet"], "none.parquet: no such file."),
        (["--data", "none.jsonl"], "none.jsonl: no such file"),
        (["--data", "none"], "none: no data set; looked for "),
    ],
)
def test_a_backtest_that_cannot_be(run: Run, argv: list[str], text: str) -> None:
    """An unknown strategy, instrument or data set is one clear error."""
    ended = run("backtest", *argv)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(f"mmpi backtest: {text}")


BOOK = (
    '{"channel":"l2Book","data":{"coin":"BTC","time":%d,"levels":[[{"px":"100000","sz":"1","n":1}],'
    '[{"px":"100002","sz":"1","n":1}]]}}\n'
)


def test_recorded_lines_and_a_truncated_one(run: Run, box: Path) -> None:
    """Raw lines are quoted on with the grid that is given; a line that is cut off is named by file and number."""
    file = box / "btc.jsonl"
    file.write_text("".join(BOOK % (1_700_000_000_000 + 1000 * each) for each in range(5)))
    found = run("backtest", "--data", file, "--instrument", "BTC", "--json").json()
    assert (list(found["instruments"]), found["orders"]["placed"] > 0) == (["BTC"], True)
    coarse = run("backtest", "--data", file, "--instrument", "BTC", "--tick", "2", "--lot", "0.1", "--json").json()
    assert coarse["instruments"]["BTC"]["ask"] == "100002"
    with file.open("a") as more:
        more.write('{"channel":"l2Bo')
    ended = run("backtest", "--data", file, "--instrument", "BTC")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(f"mmpi backtest: {file}:6: not a Hyperliquid message (")
    assert ended.err.endswith("""'{"channel":"l2Bo'\n""")
    assert run("backtest", "--data", file, "--instrument", "BTC", "--tick", "1").err == (
        "mmpi backtest: --tick '1' --lot '': give both or neither\n"
    )


def test_parquet_without_its_columns(run: Run, box: Path) -> None:
    """A file without the columns that are needed is named with those that are missing and those that are needed."""
    pa = pytest.importorskip("pyarrow", reason="the research extra (pyarrow) is not installed")
    pq = pytest.importorskip("pyarrow.parquet")
    for name in ("bbo", "trades"):
        pq.write_table(pa.table({"t_recv_ns": [1], "price": [2.0]}), box / f"lab_xy.{name}.parquet")
    ended = run("backtest", "--data", box / "lab_xy", "--tick", "1", "--lot", "1")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(f"mmpi backtest: {box}/lab_xy.bbo.parquet: missing columns: t_exch_ns, ")
    assert "; needed: t_recv_ns, t_exch_ns, " in ended.err
    unknown = run("backtest", "--data", box / "lab_xy")
    assert unknown.err.startswith("mmpi backtest: no tick and lot known for 'lab_xy'; give --tick and --lot. Known: ")


def test_a_shared_set(run: Run, data: Path) -> None:
    """A recorded set finds its tick and lot by its name, and the money of the result is exact."""
    found = run("backtest", "--data", data / "market" / "lighter_btc_20250915", "--json").json()
    assert (list(found["instruments"]), found["invariant_violations"]) == (["BTC"], 0)
    assert found["data"]["done"] > 0
    pnl = {key: Decimal(value) for key, value in found["pnl"].items()}
    assert pnl["total"] == pnl["spread"] + pnl["inventory"] + pnl["funding"] - pnl["fees"]


# Journals ---------------------------------------------------------------------------------------------------------


def small_journal(folder: Path) -> Path:
    """Return the only segment of a quoter's journal that ended without a last word, in a short record."""
    engine = Bench().engine
    out = JournalWriter(folder, segment_bytes=2**20, max_bytes=None, checkpoint=lambda: checkpoint(engine, "d"))
    for event in (Connected(1, "sim"), book(2), Reconciled(3, "sim", (), ()), Timer(4), Timer(5)):
        out.event(event)
        for approved in engine.handle(event):
            out.action(approved)
    os.close(out._fd)
    return folder / "00000001.mmj"


def test_a_journal_cut_at_every_byte_of_its_last_record(run: Run, box: Path) -> None:
    """A torn tail is reported and cut off, wherever it is torn: exit 0, nothing before it is lost, and it replays."""
    segment = small_journal(box / "j")
    whole = segment.read_bytes()
    records = run("journal", "verify", box / "j", "--json").json()["records"]
    last = len(whole) - 1
    while True:
        segment.write_bytes(whole[:last])
        verified = run("journal", "verify", box / "j", "--json")
        replayed = run("replay", "--verify", box / "j", "--json")
        found = verified.json()
        assert (verified.code, replayed.code, found["damage"], replayed.json()["exact"]) == (0, 0, [], True)
        assert found["records"] == records - 1
        if not found["torn"]:
            break
        (torn,) = found["torn"]
        assert torn.startswith("00000001.mmj: torn tail, ")
        assert verified.err == f"mmpi journal: {torn}\n"
        last -= 1
    assert 10 < len(whole) - last < 60


def test_a_flipped_byte(run: Run, box: Path) -> None:
    """A damaged record is located: exit 1."""
    segment = small_journal(box / "j")
    content = bytearray(segment.read_bytes())
    content[-30] ^= 1
    segment.write_bytes(content)
    verified, replayed = run("journal", "verify", box / "j"), run("replay", "--verify", box / "j")
    assert (verified.code, replayed.code) == (1, 1)
    assert "00000001.mmj" in verified.err
    assert "record" in verified.err


def test_no_journal(run: Run, box: Path) -> None:
    """A journal that is not there is named; without a path the quoter's own is meant."""
    assert run("journal", "verify", box / "none") == (2, "", f"mmpi journal: {box}/none: no such file or folder\n")
    assert run("replay") == (2, "", f"mmpi replay: {box}/run/journal: no such file or folder\n")
    (box / "empty").mkdir()
    assert "no journal segments (files named 00000001.mmj) in this folder" in run("journal", "cat", box / "empty").err


def test_a_journal_as_text(run: Run, box: Path) -> None:
    """`journal cat` prints one line for each record; verify prints its counts as text, too."""
    small_journal(box / "j")
    lines = run("journal", "cat", box / "j").out.splitlines()
    text = run("journal", "verify", box / "j").out
    assert "events: 5" in text
    assert len(lines) >= 5
