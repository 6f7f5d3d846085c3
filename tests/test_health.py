"""mmpi health: when a boot is healthy, row by row; the wait until it is; what is looked at, and what is said."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from runtime_builders import board_of, box_environ

from mmpi.causes import TABLE
from mmpi.cli import main
from mmpi.commands import health
from mmpi.commands.health import FAULTS, PASSING, STEADY_S, WAITS, Facts, Healthy, Waiting, look, until_steady, verdict
from mmpi.runtime.board import lock

ROOT = Path(__file__).resolve().parents[1]
QUOTING = Facts(state="run", steady=True, pid=7, quoter="quoting")
OFFLINE = Facts(state="paused", reason="guardian_starting", causes=("venue_session",), pid=7,
                waits=f"{WAITS}wss://api.hyperliquid.xyz/ws: Temporary failure in name resolution")  # fmt: skip


def but(facts: Facts, **changes: Any) -> Facts:
    """Return facts with these changed."""
    return msgspec.structs.replace(facts, **changes)


PAUSED = but(QUOTING, state="paused", quoter="paused", reason="by_hand", causes=("by_hand",))
LATCHED = but(QUOTING, state="latched", quoter="latched", reason="smoke")


# One moment -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        (QUOTING, "quoting"),
        (but(QUOTING, quoter="clock", quoter_reason="clock: not synchronised"), "waiting: clock: not synchronised"),
        (but(QUOTING, quoter="connecting", quoter_reason="connecting"), "waiting: connecting"),
        (LATCHED, "latched: smoke"),
        (but(LATCHED, causes=("temperature",), details={"temperature": "81 C"}), "latched: temperature: 81 C"),
        (PAUSED, "paused: by_hand"),
        (but(PAUSED, causes=("setup",), details={"setup": "wifi.toml: no ssid"}), "paused: setup: wifi.toml: no ssid"),
        (but(PAUSED, causes=("power", "disk"), details={"disk": "full"}), "paused: power; disk: full"),
        (but(PAUSED, causes=("venue_session",)), "paused: venue_session"),
        (but(PAUSED, state="reduce", quoter="flattening", causes=("flattened",)), "reduce: flattened"),
        (OFFLINE, OFFLINE.waits),
        (but(OFFLINE, state="run", causes=()), OFFLINE.waits),
        (but(OFFLINE, state="latched", reason="smoke", causes=()), OFFLINE.waits),
        (but(OFFLINE, causes=("quoter_died",)), OFFLINE.waits),
    ],
)
def test_a_healthy_moment(facts: Facts, why: str) -> None:
    """It quotes, or it is known why not, and that is no fault of this box; the reason is told."""
    assert verdict(facts) == Healthy(why)


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        (Facts(silence="guardian.sock: no guardian is listening"), "guardian: guardian.sock: no guardian is listening"),
        (but(QUOTING, quoter="reconciling", quoter_reason="reconciling"), "the quoter does not quote: reconciling"),
        (but(QUOTING, quoter="journal", quoter_reason="journal: full"), "the quoter does not quote: journal: full"),
        (but(QUOTING, quoter=""), "the quoter does not quote: it has said nothing yet"),
        (but(QUOTING, steady=False), "the quoter (pid 7) gives no steady sign of life"),
        (but(QUOTING, pid=0), "no quoter is running"),
        (but(LATCHED, pid=0), "no quoter is running"),
        (but(LATCHED, steady=False), "the quoter (pid 7) gives no steady sign of life"),
        (but(LATCHED, causes=("pins",), details={"pins": "/dev/gpiochip0: gone"}), "pins: /dev/gpiochip0: gone"),
        (but(PAUSED, causes=("quoter_died",)), "quoter_died"),
        (but(PAUSED, causes=("quoter_heartbeat",)), "quoter_heartbeat"),
        (but(PAUSED, causes=("guardian_starting",)), "guardian_starting: a stop is not verified yet"),
        (but(PAUSED, causes=("armed",)), "armed: a stop is not verified yet"),
        (but(PAUSED, causes=("gremlins",)), "gremlins: not known to this version"),
        (but(PAUSED, causes=(), reason="network"), "paused, and about to go on: network"),
        (but(OFFLINE, causes=("pins",)), "pins"),
        (but(OFFLINE, causes=("guardian_starting",)), "guardian_starting: a stop is not verified yet"),
        (but(OFFLINE, waits="waiting for the disk: No space left on device"),
         "the quoter has not begun: waiting for the disk: No space left on device"),
        (but(OFFLINE, pid=0, waits="failed (failed), 20 restarts"),
         "no quoter is running; systemd says of it: failed (failed), 20 restarts"),
    ],
)  # fmt: skip
def test_a_moment_that_is_not_healthy_yet(facts: Facts, why: str) -> None:
    """Nobody answers, nobody quotes, or what stops it is a fault of this box: the reason is told."""
    assert verdict(facts) == Waiting((why,))


def test_every_reason_is_told() -> None:
    """What is wrong is a sentence each."""
    facts = but(PAUSED, causes=("pins", "armed", "disk"), pid=0)
    assert verdict(facts) == Waiting(("pins", "armed: a stop is not verified yet", "no quoter is running"))


@pytest.mark.parametrize("name", [cause.name for cause in TABLE])
@pytest.mark.parametrize("halted", [PAUSED, LATCHED], ids=["paused", "latched"])
def test_every_cause(name: str, halted: Facts) -> None:
    """Each row of the table has its verdict: what a person, a limit or the surroundings do is deliberate."""
    unhealthy = {"hardware_watchdog", "pins", "quoter_died", "quoter_heartbeat", "guardian_starting", "armed"}
    assert unhealthy == {*FAULTS, *PASSING}
    assert isinstance(verdict(but(halted, causes=(name,))), Waiting) is (name in unhealthy)


def test_the_words_of_a_waiting_quoter_are_the_quoters() -> None:
    """What is looked for in systemd's status is what mmpi.app says there."""
    assert f'"{WAITS}{{error}}"' in (ROOT / "mmpi" / "app.py").read_text("utf-8")


# The wait ---------------------------------------------------------------------------------------------------------


class Stage:
    """A box that changes by the clock: (from this second on, these facts)."""

    def __init__(self, *acts: tuple[float, Facts]) -> None:
        self.now = 1000.0
        self.told: list[str] = []
        self._acts = acts

    def look(self) -> Facts:
        """Return what is to be seen now."""
        return [facts for since, facts in self._acts if since <= self.now - 1000.0][-1]

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds

    def wait(self, timeout_s: float) -> tuple[Healthy | Waiting, float]:
        """Return how a wait ends, and after how many seconds."""
        clock: Callable[[], float] = lambda: self.now  # noqa: E731
        found = until_steady(self.look, timeout_s, clock=clock, sleep=self.sleep, tell=self.told.append)
        return found, self.now - 1000.0


NOBODY = but(QUOTING, pid=0)


def test_what_is_healthy_at_once_is_looked_at_for_a_while() -> None:
    """5 s of it count, and not one moment."""
    assert Stage((0, QUOTING)).wait(180) == (Healthy("quoting"), STEADY_S)


def test_a_box_that_comes_up_slowly() -> None:
    """The 5 s begin when everything is well, whatever was before; changes are told once each."""
    starting = but(PAUSED, causes=("guardian_starting",))
    stage = Stage((0, Facts(silence="nobody")), (9, NOBODY), (20, starting), (31, QUOTING))
    assert stage.wait(180) == (Healthy("quoting"), 36)
    assert stage.told == [
        "guardian: nobody", "no quoter is running", "guardian_starting: a stop is not verified yet", "quoting",
    ]  # fmt: skip


def test_from_one_healthy_state_to_another() -> None:
    """A quoter that connects, quotes and is paused is the same healthy box; the last state is told."""
    stage = Stage((0, OFFLINE), (2, but(QUOTING, quoter="connecting", quoter_reason="connecting")), (4, PAUSED))
    assert stage.wait(180) == (Healthy("paused: by_hand"), STEADY_S)


def test_one_bad_moment_begins_the_wait_anew() -> None:
    """What is well for less than 5 s is not healthy yet."""
    assert Stage((0, QUOTING), (4, but(QUOTING, steady=False)), (5, QUOTING)).wait(180) == (Healthy("quoting"), 10)


def test_a_quoter_that_is_started_again_and_again() -> None:
    """Each time another process: that is not healthy, though every moment looks well, and it is told how often."""
    stage = Stage(*((3.0 * number, but(QUOTING, pid=100 + number)) for number in range(100)))
    found, took = stage.wait(30)
    assert took == 30
    assert found == Waiting(("it was well for 0.0 s only: quoting", "the quoter began anew 10 times"))


def test_a_quoter_that_was_started_again_once() -> None:
    """The next one is given its 5 s."""
    assert Stage((0, QUOTING), (3, NOBODY), (5, but(QUOTING, pid=8))).wait(180) == (Healthy("quoting"), 10)


def test_the_time_is_over() -> None:
    """What was wrong last is told, at the very end of the time, and not later."""
    assert Stage((0, Facts(silence="nobody")), (10, NOBODY)).wait(60) == (Waiting(("no quoter is running",)), 60)


def test_too_late_is_not_healthy() -> None:
    """What began to be well less than 5 s before the end did not show that it stays so; what was wrong is told, too."""
    found, took = Stage((0, NOBODY), (58, QUOTING)).wait(60)
    assert (found, took) == (Waiting(("it was well for 2.0 s only: quoting", "no quoter is running")), 60)


# Looking ----------------------------------------------------------------------------------------------------------

STATUS: dict[str, Any] = {
    "final": True, "state": "run", "reason": "", "causes": ["disk"], "details": {"disk": "full"},
    "quoter_steady": True,
}  # fmt: skip


class Guardian:
    """A socket that answers each request by its command, one connection after the other."""

    def __init__(self, path: Path, **answers: dict[str, Any]) -> None:
        self.asked: list[dict[str, Any]] = []
        self._answers = answers
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
                    data = peer.recv(65536)
                    if not data:
                        return
                    self.asked.append(msgspec.json.decode(data))
                    peer.sendall(msgspec.json.encode(self._answers[self.asked[-1]["cmd"]]) + b"\n")

    def close(self) -> None:
        """End it."""
        with socket.socket(socket.AF_UNIX) as last:
            last.connect(self._server.getsockname())
        self._thread.join()


@pytest.fixture
def guardian(box: Path) -> Iterator[Callable[..., Guardian]]:
    """Return what makes a guardian with these answers."""
    made: list[Guardian] = []

    def make(**answers: dict[str, Any]) -> Guardian:
        made.append(Guardian(box / "run" / "guardian.sock", **answers))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Be in a box of one's own."""
    for name in [name for name in os.environ if name.startswith("MMPI_")]:
        monkeypatch.delenv(name)
    for name, value in box_environ(tmp_path).items():
        monkeypatch.setenv(name, value)
    (tmp_path / "run").mkdir()
    return tmp_path


def never() -> str:
    """Be asked for nothing."""
    raise AssertionError("systemd is asked only about a quoter that does not tell by itself")


def test_a_quoter_on_its_board(box: Path, guardian: Callable[..., Guardian]) -> None:
    """The guardian's answer and the quoter's board are taken as they are."""
    guardian(status=STATUS)
    board = board_of(box / "run" / "status", os.getpid())
    board.publish(b'{"state": "clock", "reason": "clock: not synchronised"}')
    assert look(box / "run", never) == Facts(
        state="run", causes=("disk",), details={"disk": "full"}, steady=True, pid=os.getpid(), quoter="clock",
        quoter_reason="clock: not synchronised",
    )  # fmt: skip


def test_a_quoter_that_has_said_nothing(box: Path, guardian: Callable[..., Guardian]) -> None:
    """A board without a text is that of a quoter that begins."""
    guardian(status=STATUS)
    board_of(box / "run" / "status", os.getpid())
    found = look(box / "run", never)
    assert (found.pid, found.quoter) == (os.getpid(), "")


def test_the_last_word_of_a_dead_quoter_is_not_taken(box: Path, guardian: Callable[..., Guardian]) -> None:
    """A board whose writer is gone says nothing about now."""
    guardian(status=STATUS)
    board_of(box / "run" / "status", os.getpid(), start=1).publish(b'{"state": "quoting", "reason": ""}')
    found = look(box / "run", lambda: "LoadState=not-found\nMainPID=0\n")
    assert (found.pid, found.quoter, found.waits) == (0, "", "")


def test_a_quoter_that_waits_for_its_venue(box: Path, guardian: Callable[..., Guardian]) -> None:
    """It is on no board yet: the lock names it, and systemd what it waits for."""
    guardian(status=STATUS)
    with lock(box / "run" / "quoter.lock"):
        found = look(box / "run", lambda: f"LoadState=loaded\nMainPID={os.getpid()}\nStatusText={WAITS}a = b\n")
        silent = look(box / "run", lambda: f"LoadState=loaded\nMainPID={os.getpid()}\nStatusText=\n")
    assert (found.pid, found.waits) == (os.getpid(), f"{WAITS}a = b")
    assert verdict(silent) == Waiting(("the quoter has not begun: it says nothing",))


@pytest.mark.parametrize("content", [b"1\n", b"", b"garbage", None])
def test_another_folders_unit_says_nothing_about_this_one(
    box: Path, guardian: Callable[..., Guardian], content: bytes | None
) -> None:
    """A unit whose process does not hold this folder's lock waits for something else; its restarts are told."""
    guardian(status=STATUS)
    if content is not None:
        (box / "run" / "quoter.lock").write_bytes(content)
    said = "LoadState=loaded\nActiveState=activating\nSubState=auto-restart\nMainPID=4242\nNRestarts=3\n"
    found = look(box / "run", lambda: f"{said}StatusText={WAITS}\n")
    assert (found.pid, found.waits) == (0, "activating (auto-restart), 3 restarts")


def test_a_guardian_that_does_not_answer(box: Path, guardian: Callable[..., Guardian]) -> None:
    """No guardian, and one that refuses to say, are told as what they are."""
    assert "no guardian is listening" in look(box / "run", never).silence
    guardian(status={"final": True, "error": "not now"})
    assert look(box / "run", never).silence == "not now"


@pytest.mark.parametrize(
    ("done", "said"),
    [
        (subprocess.CompletedProcess([], 0, stdout="MainPID=7\n"), "MainPID=7\n"),
        (subprocess.CompletedProcess([], 1, stdout="garbage"), ""),
        (FileNotFoundError("systemctl"), ""),
        (subprocess.TimeoutExpired("systemctl", 5), ""),
    ],
)
def test_systemd_is_asked(monkeypatch: pytest.MonkeyPatch, done: Any, said: str) -> None:
    """One call for all that is wanted of the quoter's unit; where there is no systemd nothing is known."""
    asked: list[list[str]] = []

    def call(command: list[str], **_: object) -> Any:
        asked.append(command)
        if isinstance(done, Exception):
            raise done
        return done

    monkeypatch.setattr(subprocess, "run", call)
    assert health.ask_systemd() == said
    assert asked[0][:3] == ["systemctl", "show", "mmpi-quoter.service"]
    assert {word.removeprefix("--property=") for word in asked[0][3:]} == {
        "LoadState", "ActiveState", "SubState", "MainPID", "NRestarts", "StatusText",
    }  # fmt: skip


# The command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut the waits that are settings of the real world."""
    monkeypatch.setattr(health, "STEADY_S", 0.02)
    monkeypatch.setattr(health, "POLL_S", 0.005)
    monkeypatch.setattr(health, "ask_systemd", lambda: "")


KEPT = {"final": True, "booted": True}


@pytest.mark.usefixtures("short")
def test_healthy(box: Path, guardian: Callable[..., Guardian], capfd: pytest.CaptureFixture[str]) -> None:
    """Exit 0, one line, no progress where nobody looks; the guardian is told so, once, with the reason."""
    listening = guardian(status={**STATUS, "causes": []}, booted=KEPT)
    board_of(box / "run" / "status", os.getpid()).publish(b'{"state": "quoting", "reason": ""}')
    assert main(["health"]) == 0
    assert capfd.readouterr() == ("healthy: quoting\n", "")
    last = {**listening.asked[-1], "by": ""}
    assert last == {"cmd": "booted", "healthy": True, "why": "quoting", "by": ""}
    assert [each["cmd"] for each in listening.asked[:-1]] == ["status"] * (len(listening.asked) - 1)
    assert main(["health", "--json"]) == 0
    said = capfd.readouterr()
    assert (said.out.count("\n"), said.err) == (1, "")
    assert msgspec.json.decode(said.out) == {"healthy": True, "why": ["quoting"], "kept": True}


@pytest.mark.usefixtures("short", "box")
def test_not_healthy(guardian: Callable[..., Guardian], capfd: pytest.CaptureFixture[str]) -> None:
    """Exit 4, a line for each reason on stderr; the guardian is told so with all of them."""
    listening = guardian(status={**STATUS, "causes": ["pins"], "details": {"pins": "no chip"}}, booted=KEPT)
    assert main(["health", "--timeout", "0.05"]) == 4
    assert capfd.readouterr() == (
        "",
        "mmpi health: this boot is not healthy\nmmpi health: pins: no chip\nmmpi health: no quoter is running\n",
    )
    told = listening.asked[-1]
    assert (told["cmd"], told["healthy"], told["why"]) == ("booted", False, "pins: no chip; no quoter is running")
    assert main(["health", "--timeout", "0.05", "--json"]) == 4
    said = msgspec.json.decode(capfd.readouterr().out)
    assert said == {"healthy": False, "why": ["pins: no chip", "no quoter is running"], "kept": True}


@pytest.mark.usefixtures("short", "box")
def test_without_a_guardian(capfd: pytest.CaptureFixture[str]) -> None:
    """Exit 4: nobody answers, and so nobody keeps it, which is told, too."""
    assert main(["health", "--timeout", "0.02", "--json"]) == 4
    said = capfd.readouterr()
    assert msgspec.json.decode(said.out)["kept"] is False
    assert "the guardian keeps no record of it: " in said.err
    assert said.err.splitlines()[-1].startswith("mmpi health: guardian: ")


@pytest.mark.usefixtures("short")
def test_a_verdict_that_is_not_kept(
    box: Path, guardian: Callable[..., Guardian], capfd: pytest.CaptureFixture[str]
) -> None:
    """A guardian that refuses, or whose disk does, changes nothing of what was found; it is said."""
    guardian(status={**STATUS, "causes": []}, booted={"final": True, "error": "No space left on device"})
    board_of(box / "run" / "status", os.getpid()).publish(b'{"state": "quoting", "reason": ""}')
    assert main(["health"]) == 0
    said = capfd.readouterr()
    assert said.out == "healthy: quoting\n"
    assert said.err == "mmpi health: the guardian keeps no record of it: No space left on device\n"


@pytest.mark.usefixtures("short", "box")
def test_progress_is_for_people(
    guardian: Callable[..., Guardian], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal each change is said, with --json nothing is."""
    guardian(status={**STATUS, "causes": []}, booted=KEPT)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    main(["health", "--timeout", "0.02"])
    assert capsys.readouterr().err.splitlines()[0] == "mmpi health: no quoter is running"
    main(["health", "--timeout", "0.02", "--json"])
    assert capsys.readouterr().err.splitlines()[0] == "mmpi health: this boot is not healthy"


@pytest.mark.parametrize("seconds", ["0", "-1", "soon", "nan"])
def test_bad_usage(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A time that is none ends with 2."""
    with pytest.raises(SystemExit) as ended:
        main(["health", f"--timeout={seconds}"])
    assert ended.value.code == 2
    assert "argument --timeout: " in capsys.readouterr().err


def test_it_is_light() -> None:
    """It loads nothing that `mmpi status` does not: on a Pi Zero it runs while everything else starts."""

    def loaded(command: str) -> set[str]:
        code = f"import sys, mmpi.cli, mmpi.commands.{command}; print(*sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
        return set(done.stdout.split())

    more = loaded("health") - loaded("status")
    assert more <= {"mmpi.commands.health", "mmpi.commands.control"}


def test_the_time_between_looks_is_slept() -> None:
    """Between two looks the processor is left to those who start."""
    slept: list[float] = []
    begun = time.monotonic()
    until_steady(lambda: NOBODY, 1.0, clock=lambda: begun + sum(slept), sleep=slept.append)
    assert slept == [health.POLL_S] * 2
