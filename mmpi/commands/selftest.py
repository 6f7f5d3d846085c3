"""mmpi selftest: a walk through buttons and lamps after wiring, with a person or, on virtual pins, without one.

Invariant: it runs only while no guardian does, and quotes, cancels and arms nothing.
It must not know what a healthy contact looks like (mmpi.device.inspection).
"""

import argparse
import fcntl
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from mmpi.commands.resolved import resolved
from mmpi.device.header import place
from mmpi.device.inspection import PATIENCE, Inspection, Person, Verdict
from mmpi.device.panel_lines import LAMPS, PanelConfig, PanelLines
from mmpi.device.virtual_pins import VirtualPanel
from mmpi.errors import ConfigError, DeviceError, RefusedError
from mmpi.instrument import SECOND, Nanos
from mmpi.sections import Box

NOT_PASSED: Final = 4
"""Exit code: the hardware did not pass."""
HAND_S: Final = 0.05
"""What the played person takes to do as asked."""


def run(args: argparse.Namespace) -> int:
    """Return 0 if everything passed, 4 if something did not; ConfigError without pins, or without a person."""
    box = resolved(args.config, Box)
    config = panel_config(box)
    if config.backend == "none":
        raise ConfigError('pins.backend is "none": nothing is wired; allowed here: "gpiod" or "virtual"')
    if args.unattended and config.backend != "virtual":
        raise ConfigError(f'--unattended: pins.backend is "{config.backend}"; allowed: "virtual": others need a person')
    if not (args.unattended or sys.stdin.isatty()):
        raise ConfigError("no terminal to ask a person at; allowed without one: --unattended, with virtual pins")
    with _no_guardian(box.paths.guardian_lock):
        verdicts = list(_walk(config, _Played(config) if args.unattended else _Asked(config), args))
    passed = all(verdict.passed for verdict in verdicts)
    if args.json:
        steps = [msgspec.structs.asdict(verdict) for verdict in verdicts]
        print(json.dumps({"backend": config.backend, "passed": passed, "steps": steps}), flush=True)
    else:
        print("passed" if passed else "NOT passed: mend what is said above, then run this again", flush=True)
    return 0 if passed else NOT_PASSED


def panel_config(box: Box) -> PanelConfig:
    """Return what is wired where, out of the sections pins, power and paths."""
    pins: dict[str, Any] = msgspec.structs.asdict(box.pins)
    if box.power.source != "pin":
        pins["power"] = -1
    return PanelConfig(virtual=str(box.paths.pins), power_fail_level=box.power.fail_level, **pins)


@contextmanager
def _no_guardian(lock: Path) -> Iterator[None]:
    """Keep a guardian from starting meanwhile; RefusedError if one runs. A lock that is not there is not made.

    It would be ours then, and the guardian's own user could not open it.
    """
    try:
        with lock.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pid = file.read(16).decode("ascii", "replace").strip() or "unknown"
                raise RefusedError(
                    f"a guardian is running (pid {pid}) and owns the pins; stop it first: systemctl stop mmpi-guardian "
                    "(by hand: end it with Ctrl-C). Nothing is quoted until it runs again"
                ) from None
            yield
    except FileNotFoundError:
        yield
    except PermissionError as error:
        raise ConfigError(f"{lock}: {error.strerror}; run this as root or as the guardian's user") from None


def _walk(config: PanelConfig, person: Person, args: argparse.Namespace) -> Iterator[Verdict]:
    """Yield the verdicts, each told as soon as it is there."""
    try:
        lines = PanelLines.open(config)
    except DeviceError as error:
        yield _told(Verdict("pins", False, str(error)), args)
        return
    try:
        for verdict in Inspection(config, lines, person, time.monotonic_ns, _sleep).run():
            yield _told(verdict, args)
    except DeviceError as error:
        yield _told(Verdict("pins", False, f"failed in the middle: {error}"), args)
    finally:
        lines.close()


def _told(verdict: Verdict, args: argparse.Namespace) -> Verdict:
    mark = "ok  " if verdict.passed else "FAIL"
    print(f"{mark}  {verdict.step:<12} {verdict.text}", file=sys.stderr if args.json else sys.stdout, flush=True)
    return verdict


def _sleep(pause: Nanos) -> None:
    time.sleep(pause / SECOND)


class _Asked:
    """A person at the terminal. Questions go to stderr, as stdout may be for a program."""

    def __init__(self, config: PanelConfig) -> None:
        self._config = config
        self._lamps: Final = [name for name in LAMPS if config.line(name) >= 0]
        self._letters: Final = {name[0]: name for name in self._lamps}
        _say("This looks at every lamp and button of the box. Nothing is quoted, cancelled or armed. Ctrl-C ends it.")

    def sees(self, expected: str) -> frozenset[str]:
        """Return what the person says."""
        if not expected:
            question = "All lamps should be dark now. Are they?"
        elif expected == "buzzer":
            question = f"The buzzer ({place(self._config.buzzer)}) should sound now, and no lamp be lit. Is it so?"
        else:
            where = place(self._config.line(expected))
            question = f"The {expected} lamp ({where}) should be lit now, and no other. Is it so?"
        if self._yes(question):
            return frozenset([expected] if expected else [])
        choices = ", ".join(f"{letter} = {name}" for letter, name in self._letters.items())
        while True:
            answer = _read(f"What is on? Letters ({choices}), or nothing and Enter for nothing: ").replace(" ", "")
            if set(answer) <= self._letters.keys():
                return frozenset(self._letters[letter] for letter in answer)

    def told(self, wish: str) -> None:
        """Say what to do."""
        if wish == "hands off":
            _read("Leave all buttons alone; turn the red one free if it is down. Then press Enter. ")
            return
        kill = place(self._config.kill)
        words = {
            "press kill": f"Press the red button ({kill}) and keep it down",
            "free kill": "Let the red button go (turn it free if it stays down)",
            "press arm": f"Hold the arm button ({place(self._config.arm)}) until told otherwise",
            "free arm": "Let the arm button go",
            "mains off": "Pull the mains plug of the supply, so that the battery takes over",
            "mains on": "Put the mains plug back",
        }
        _say(f"{words[wish]} (within {PATIENCE // SECOND} s).")

    def _yes(self, question: str) -> bool:
        while True:
            answer = _read(f"{question} [y/n] ").lower()
            if answer in ("y", "yes", "n", "no"):
                return answer[0] == "y"


class _Played:
    """A program that plays the person, on the other side of virtual pins."""

    def __init__(self, config: PanelConfig) -> None:
        self._config = config
        self._hand: Final = VirtualPanel.open(Path(config.virtual))
        self._failing = 1 if config.power_fail_level == "high" else 0
        self._rest()

    def sees(self, expected: str) -> frozenset[str]:  # noqa: ARG002  # it looks, and does not let itself be told
        """Return which lamps the lines light."""
        wired = (name for name in LAMPS if self._config.line(name) >= 0)
        return frozenset(name for name in wired if self._hand.output(self._config.line(name)) == 1)

    def told(self, wish: str) -> None:
        """Do it, a moment later and in a thread of its own, as a person would."""
        if wish == "hands off":
            self._rest()
            return
        config = self._config
        deeds: dict[str, Callable[[], None]] = {
            "press kill": lambda: self._put(kill=False, kill_second=True),
            "free kill": self._rest,
            "press arm": lambda: self._put(arm=True),
            "free arm": self._rest,
            "mains off": lambda: self._hand.drive(config.power, self._failing),
            "mains on": self._rest,
        }
        timer = threading.Timer(HAND_S, deeds[wish])
        timer.daemon = True
        timer.start()

    def _rest(self) -> None:
        self._put(kill=True, kill_second=False, arm=False)
        if self._config.power >= 0:
            self._hand.drive(self._config.power, 1 - self._failing)

    def _put(self, **contacts: bool) -> None:
        """Close or open contacts; what is not wired is left alone."""
        for name, closed in contacts.items():
            line = self._config.line(name)
            if line >= 0 and closed:
                self._hand.drive(line, 0)
            elif line >= 0:
                self._hand.release(line)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _read(question: str) -> str:
    print(question, end="", file=sys.stderr, flush=True)
    line = sys.stdin.readline()
    if not line:
        raise ConfigError("the terminal ended before the walk did")
    return line.strip()
