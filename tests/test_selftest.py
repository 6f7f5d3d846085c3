"""mmpi selftest: as a person runs it at a terminal, as a program runs it, and when it must not run."""

import argparse
import io
import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ended import Ended
from runtime_builders import box_environ

from mmpi.commands import selftest
from mmpi.device.virtual_pins import VirtualPanel
from mmpi.errors import ConfigError, RefusedError
from mmpi.runtime.board import lock
from mmpi.sections import Box, GuardianSettings, PathSettings, PinSettings, PowerSettings, VenueSettings

PROGRAM = """
import sys
from mmpi import cli
def options(command):
    command.add_argument("--unattended", action="store_true")
if "selftest" not in cli.COMMANDS:
    cli.COMMANDS["selftest"] = ("selftest", "walk through buttons and lamps after wiring")
    cli._OPTIONS["selftest"] = options
sys.exit(cli.main(sys.argv[1:]))
"""
PINS = PinSettings(backend="virtual", kill_second=6, buzzer=12)


def box_of(folder: Path, pins: PinSettings = PINS, power: PowerSettings | None = None) -> Box:
    """Return a box whose folders are in `folder`."""
    paths = PathSettings(state_dir=str(folder / "state"), runtime_dir=str(folder / "run"), secrets_dir=str(folder))
    return Box("box", paths, VenueSettings(), GuardianSettings(), pins, power or PowerSettings())


def run(monkeypatch: pytest.MonkeyPatch, box: Box, *, unattended: bool = True, as_json: bool = False) -> int:
    """Return the exit code of the command on this box."""
    monkeypatch.setattr(selftest, "resolved", lambda *_: box)
    return selftest.run(argparse.Namespace(config=None, json=as_json, unattended=unattended, command="selftest"))


# When it must not run ---------------------------------------------------------------------------------------------


def test_without_pins_there_is_nothing_to_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names pins.backend and what is allowed."""
    with pytest.raises(ConfigError, match=r'pins\.backend is "none".*"gpiod" or "virtual"'):
        run(monkeypatch, box_of(tmp_path, PinSettings()))


def test_real_pins_need_a_person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--unattended is for virtual pins; and without it there has to be a terminal."""
    box = box_of(tmp_path, PinSettings(backend="gpiod"))
    with pytest.raises(ConfigError, match=r'--unattended: pins\.backend is "gpiod"; allowed: "virtual"'):
        run(monkeypatch, box)
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    with pytest.raises(ConfigError, match="no terminal"):
        run(monkeypatch, box, unattended=False)


def test_a_guardian_owns_the_pins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused while one runs, and told how to stop it."""
    box = box_of(tmp_path)
    said = r"a guardian is running \(pid \d+\) and owns the pins; stop it first: systemctl stop mmpi-guardian"
    with lock(box.paths.guardian_lock, "guardian"), pytest.raises(RefusedError, match=said):
        run(monkeypatch, box)


def test_no_lock_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock of ours (root's, mostly) would keep the guardian's own user out for ever."""
    box = box_of(tmp_path, PinSettings(backend="gpiod", chip="/nowhere/gpiochip9"))
    monkeypatch.setattr(sys, "stdin", type("Terminal", (io.StringIO,), {"isatty": lambda _: True})("y\n"))
    assert run(monkeypatch, box, unattended=False) == selftest.NOT_PASSED
    assert not box.paths.guardian_lock.exists()


def test_a_chip_that_is_missing_did_not_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 4, and the sentence names the chip, in JSON as well."""
    box = box_of(tmp_path, PinSettings(backend="gpiod", chip="/nowhere/gpiochip9"))
    monkeypatch.setattr(sys, "stdin", type("Terminal", (io.StringIO,), {"isatty": lambda _: True})("y\n"))
    assert run(monkeypatch, box, unattended=False, as_json=True) == selftest.NOT_PASSED
    found = json.loads(capsys.readouterr().out)
    (step,) = found.pop("steps")
    assert found == {"backend": "gpiod", "passed": False}
    assert (step["step"], step["passed"]) == ("pins", False)
    assert "/nowhere/gpiochip9" in step["text"]


def test_the_supplys_pin_is_walked_only_if_it_is_used(tmp_path: Path) -> None:
    """A number in pins.power means nothing while power.source is not "pin"."""
    pins = PinSettings(backend="virtual", power=26)
    assert selftest.panel_config(box_of(tmp_path, pins)).power == -1
    config = selftest.panel_config(box_of(tmp_path, pins, PowerSettings(source="pin", fail_level="high")))
    assert (config.power, config.power_fail_level) == (26, "high")
    assert config.virtual == str(tmp_path / "run" / "pins")


def test_answers_at_the_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """y and n, letters for lamps, and again what cannot be understood; an end of the terminal is an error."""
    person = selftest._Asked(selftest.panel_config(box_of(tmp_path)))
    monkeypatch.setattr(sys, "stdin", io.StringIO("Y\nwhat?\nn\nga\nno\nx\n\n"))
    assert person.sees("green") == {"green"}
    assert person.sees("amber") == {"green", "amber"}
    assert person.sees("red") == frozenset()
    with pytest.raises(ConfigError, match="the terminal ended"):
        person.sees("")


# Real processes ---------------------------------------------------------------------------------------------------


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """Return the environment of a box of one's own, with virtual pins."""
    settings = {"BACKEND": "virtual", "KILL_SECOND": "6", "BUZZER": "12", "POWER": "26"}
    pins = {f"MMPI_PINS__{key}": value for key, value in settings.items()}
    return {**box_environ(tmp_path), **pins, "MMPI_POWER__SOURCE": "pin"}


def command(environ: dict[str, str], *words: str) -> Ended:
    """Return how `mmpi selftest` ended in a process of its own."""
    program = [sys.executable, "-c", PROGRAM, "selftest", *words]
    done = subprocess.run(program, env=environ, capture_output=True, text=True, timeout=120, check=False)
    return Ended(done.returncode, done.stdout, done.stderr)


@pytest.mark.slow
def test_unattended(environ: dict[str, str]) -> None:
    """The program plays the person on virtual pins: every lamp and contact passes; one JSON object, exit 0."""
    ended = command(environ, "--unattended", "--json")
    assert ended.code == 0, ended.err
    assert ended.out.count("\n") == 1
    found: dict[str, Any] = json.loads(ended.out)
    assert found["passed"] is True
    steps = ["green", "amber", "red", "buzzer", "kill", "kill_second", "arm", "power"]
    assert [step["step"] for step in found["steps"]] == steps
    assert all(step["passed"] for step in found["steps"])


@pytest.mark.slow
def test_no_backend_is_exit_2(environ: dict[str, str]) -> None:
    """As any bad configuration."""
    ended = command({**environ, "MMPI_PINS__BACKEND": "none", "MMPI_POWER__SOURCE": "none"}, "--unattended")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith('mmpi selftest: pins.backend is "none"')


class Terminal:
    """The command at a pseudo terminal, and a person who reads it."""

    def __init__(self, environ: dict[str, str], folder: Path) -> None:
        self.master, slave = pty.openpty()
        program = [sys.executable, "-c", PROGRAM, "selftest"]
        self.process = subprocess.Popen(program, env=environ, preexec_fn=lambda: os.login_tty(slave))
        os.close(slave)
        self.text = ""
        self.hand = VirtualPanel.create(folder / "run" / "pins", closed=[5])
        self.hand.drive(26, 1)

    def until(self, *words: str) -> str:
        """Return the first of these words that comes after what was read before."""
        end = time.monotonic() + 20
        pattern = re.compile("|".join(map(re.escape, words)))
        while not (found := pattern.search(self.text)):
            assert time.monotonic() < end, self.text
            more = self._read()
            assert more is not None, f"it ended: {self.text}"
            self.text += more
        self.text = self.text[found.end() :]
        return found.group()

    def type(self, text: str) -> None:
        """Type a line."""
        os.write(self.master, f"{text}\n".encode())

    def code(self) -> int:
        """Return how it ended."""
        end = time.monotonic() + 20
        while self._read() is not None:
            assert time.monotonic() < end
        return self.process.wait(timeout=30)

    def _read(self) -> str | None:
        """Return what came within 0.1 s, None at the end."""
        if not select.select([self.master], [], [], 0.1)[0]:
            return ""
        try:
            return os.read(self.master, 4096).decode() or None
        except OSError:
            return None


@pytest.fixture
def terminal(environ: dict[str, str], tmp_path: Path) -> Iterator[Terminal]:
    """Give the command at a terminal."""
    at = Terminal(environ, tmp_path)
    yield at
    at.process.kill()
    at.process.wait()
    os.close(at.master)


@pytest.mark.slow
def test_a_person_with_a_wrong_button(terminal: Terminal) -> None:
    """Lamps answered by what is seen, a normally open kill button: named, the rest passes, exit 4."""
    hand = terminal.hand
    hand.release(5)
    lines = {"green": 17, "amber": 27, "red": 22, "buzzer": 12}
    terminal.until("All lamps should be dark")
    assert [hand.output(line) for line in lines.values()] == [0, 0, 0, 0]
    terminal.type("y")
    for name, line in lines.items():
        terminal.until(f"The {name}")
        terminal.until("[y/n]")
        assert {lamp: hand.output(number) for lamp, number in lines.items()} == {
            lamp: int(number == line) for lamp, number in lines.items()
        }
        terminal.type("y")
    terminal.until("press Enter")
    terminal.type("")
    terminal.until("Press the red button")
    hand.drive(5, 0)
    hand.drive(6, 0)
    terminal.until("Let the red button go")
    hand.release(5)
    hand.release(6)
    assert terminal.until("FAIL  kill ", "ok    kill ") == "FAIL  kill "
    terminal.until("use the normally closed one")
    terminal.until("ok    kill_second")
    terminal.until("Hold the arm button")
    hand.drive(13, 0)
    terminal.until("Let the arm button go")
    hand.release(13)
    terminal.until("Pull the mains plug")
    hand.drive(26, 0)
    terminal.until("Put the mains plug back")
    hand.drive(26, 1)
    terminal.until("ok    power")
    terminal.until("NOT passed")
    assert terminal.code() == 4
    assert hand.output(17) is None


@pytest.mark.slow
def test_it_can_be_broken_off(terminal: Terminal) -> None:
    """Ctrl-C ends it as any command, and the lamps are given up."""
    terminal.until("All lamps should be dark")
    os.write(terminal.master, b"\x03")
    assert terminal.process.wait(timeout=30) in (130, -2)
    assert terminal.hand.output(17) is None
