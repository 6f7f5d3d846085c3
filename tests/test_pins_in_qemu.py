"""Our pins on a kernel's real GPIO chip: Debian's arm64 kernel and Python in an emulator that we drive from outside.

A minute with a warm cache: the first run fetches packages and wheels through apt and pip and takes half a minute more.
"""

import ast
import re
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from hil.virtual_pi import VirtualPi
from image.archive import file
from image.debian import UnavailableError

pytestmark = pytest.mark.slow

KILL, LAMP, SECOND_CONTACT, FREE = 5, 6, 4, 2
CHIP = "/dev/gpiochip0"
LABEL = "9030000.pl061"
AGENT = """
import os, resource, select, sys, time
from pathlib import Path
from gpiozero import LED, DigitalInputDevice
from mmpi.device.pin_factory import open_factory
from mmpi.errors import DeviceError

def cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime

def rss_kb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024

def watch(seconds):
    # As the guardian does: a look every 20 ms, and one when edges_fd says so.
    count = takes = reads = 0
    latest, seen, began, before = 0, [], cpu(), rss_kb()
    now = due = time.monotonic()
    end = now + seconds
    while now < end:
        select.select([factory.edges_fd], [], [], max(0, due - now))
        for edges in factory.take_edges():
            if edges.line == 5:
                count, takes = count + edges.count, takes + 1
                latest = max(latest, time.monotonic_ns() - edges.at)
        now = time.monotonic()
        if now >= due:
            factory.beat(time.monotonic_ns())
            seen.append(contact.value)
            due += 0.02
    return {"count": count, "takes": takes, "looks": len(seen), "last": seen[-1], "opened": 0 in seen,
            "latest_ms": latest / 1e6, "cpu_s": cpu() - began, "grown_kb": rss_kb() - before}

def mirror(edges):
    # The lamp follows the contact, by its edges alone.
    counts, levels = [], []
    while sum(counts) < edges and select.select([factory.edges_fd], [], [], 30)[0]:
        for taken in factory.take_edges():
            counts.append(taken.count)
            levels.append(taken.level)
            lamp.value = not taken.level
        factory.beat(time.monotonic_ns())
    return {"counts": counts, "levels": levels}

print("agent ready", flush=True)
for number, line in enumerate(sys.stdin, 1):
    try:
        value = eval(line) if not line.startswith("!") else exec(line[1:])
    except Exception as error:
        value = f"{type(error).__name__}: {error}"
    print(f"={number}", repr(value), flush=True)
"""


class Guest:
    """A guest with an agent in it that evaluates what it is told."""

    def __init__(self, pi: VirtualPi) -> None:
        self.pi = pi
        self._asked = 0

    def ask(self, expression: str) -> Any:
        """Return an expression's value in the guest, an exception as its text."""
        self.begin(expression)
        return self.answer()

    def begin(self, expression: str) -> None:
        """Have the guest evaluate while we go on."""
        self._asked += 1
        self.pi.start(expression)

    def answer(self) -> Any:
        """Return what the guest evaluated."""
        return ast.literal_eval(self.pi.wait_serial(rf"(?m)^={self._asked} .*\n").partition(" ")[2])


@pytest.fixture(scope="module")
def guest() -> Iterator[Guest]:
    """Give a guest whose agent has the kill contact, closed, and a lamp, dark."""
    with ExitStack() as stack:
        try:
            pi = stack.enter_context(VirtualPi(files={"opt/agent.py": file(AGENT)}))
        except UnavailableError as error:
            pytest.skip(f"no virtual Pi: {error}")
        pi.drive(KILL, 0)
        pi.start("python3 /opt/agent.py")
        pi.wait_serial("agent ready")
        made = Guest(pi)
        made.ask(f"!factory = open_factory('gpiod', '{CHIP}', Path('/run/pins'))")
        made.ask(f"!contact = DigitalInputDevice({KILL}, pull_up=True, pin_factory=factory)")
        made.ask(f"!lamp = LED({LAMP}, pin_factory=factory)")
        yield made


def test_a_level_is_read_as_it_is_driven(guest: Guest) -> None:
    """Closed, open and closed again, through gpiozero's own device; this device tree has no revision of a Pi in it."""
    seen = []
    for level in (0, 1, 0):
        guest.pi.drive(KILL, level)
        seen.append((guest.ask("contact.pin.state"), guest.ask("contact.is_active")))
    assert seen == [(0, True), (1, False), (0, True)]
    assert guest.ask("os.path.exists('/proc/device-tree/system/linux,revision')") is False


def test_a_lamp_is_lit_on_the_wire(guest: Guest) -> None:
    """What gpiozero's LED says stands in the chip's registers, from the first moment to the last."""
    seen = [guest.pi.output(LAMP)]
    for step in ("lamp.on()", "lamp.off()", "lamp.toggle()", "lamp.close()"):
        guest.ask(step)
        seen.append(guest.pi.output(LAMP) if step != "lamp.close()" else None)
    assert seen == [0, 1, 0, 1, None]
    guest.ask(f"!lamp = LED({LAMP}, active_high=False, pin_factory=factory)")
    assert guest.pi.output(LAMP) == 1


def test_every_edge_of_the_kernel_arrives(guest: Guest) -> None:
    """100 edges, each driven when the lamp has followed the one before: all are counted, each with its own level."""
    guest.ask("!factory.take_edges(); factory.beat(1)")
    guest.ask("lamp.on()")  # active low, so that it has the contact's level
    guest.begin("mirror(100)")
    took_ms = []
    for number in range(100):
        level = 1 - number % 2
        began = time.monotonic()
        guest.pi.drive(KILL, level)
        while guest.pi.output(LAMP) != level:
            assert time.monotonic() < began + 10, f"edge {number}: the lamp did not follow"
            time.sleep(0.001)
        took_ms.append((time.monotonic() - began) * 1000)
    assert guest.answer() == {"counts": [1] * 100, "levels": [1, 0] * 50}
    print(f"contact to lamp: p50 {statistics.median(took_ms):.1f} ms, max {max(took_ms):.1f} ms")


def test_a_press_wakes_the_watcher_at_once(guest: Guest) -> None:
    """edges_fd is readable with the edge, long before a look would be due, and gpiozero's callback has been called."""
    guest.ask("!factory.take_edges(); factory.beat(1)")
    guest.ask("!told = []")
    guest.ask("!contact.when_deactivated = lambda: told.append('open')")
    guest.begin("(bool(select.select([factory.edges_fd], [], [], 30)[0]), factory.take_edges()[0].level, told)")
    time.sleep(0.3)
    began = time.monotonic()
    guest.pi.drive(KILL, 1)
    assert guest.answer() == (True, 1, ["open"])
    assert time.monotonic() - began < 10
    guest.pi.drive(KILL, 0)
    guest.ask("watch(0.1)")


def test_a_storm_costs_a_look_each_and_no_memory(guest: Guest) -> None:
    """Edges as fast as the emulator makes them: taken once a look at most; memory stays, and the level is right."""
    guest.begin("watch(4)")
    time.sleep(0.5)
    end = time.monotonic() + 2.5
    driven = 0
    while time.monotonic() < end:
        driven += 1
        guest.pi.drive(KILL, driven % 2)
        time.sleep(0.0002)
    guest.pi.drive(KILL, 0)
    seen = guest.answer()
    print(f"storm of {driven} edges: {seen}")
    assert 500 < seen["count"] <= driven + 1
    assert seen["takes"] <= seen["looks"] + 1
    assert seen["grown_kb"] < 512
    assert (seen["last"], seen["opened"]) == (1, True)


def test_what_is_not_to_be_had_is_told(guest: Guest) -> None:
    """No chip, no such label, no GPIO chip, no such line, a line in use: each is told with path, line and cause."""
    told = {
        chip: guest.ask(f"open_factory('gpiod', '{chip}', Path('/run/pins'))")
        for chip in ("/dev/gpiochip9", "pinctrl-bcm2835", "/dev/null")
    }
    assert told == {
        "/dev/gpiochip9": "DeviceError: /dev/gpiochip9: cannot be opened: No such file or directory",
        "pinctrl-bcm2835": f"DeviceError: pins.chip 'pinctrl-bcm2835': no GPIO chip has that name or label; "
        f"there are: {CHIP} ({LABEL})",
        "/dev/null": "DeviceError: /dev/null: cannot be opened: this is no GPIO chip",
    }
    assert guest.ask("LED(8, pin_factory=factory)") == f"DeviceError: {CHIP}: no line 8; it has lines 0 to 7"
    guest.ask(f"!other = open_factory('gpiod', '{LABEL}', Path('/run/pins'))")
    assert guest.ask(f"LED({KILL}, pin_factory=other)") == (
        f"DeviceError: {CHIP} ({LABEL}): line {KILL} cannot be used: it is in use by 'mmpi'"
    )
    assert guest.ask(f"LED({FREE}, pin_factory=other).value") == 0
    assert guest.ask("other.close()") is None


def test_a_label_is_one_chip_under_two_names(guest: Guest) -> None:
    """A link to the chip's older name, as on a Pi 5, does not make its label ambiguous."""
    guest.ask("os.symlink('gpiochip0', '/dev/gpiochip4')")
    guest.ask(f"!other = open_factory('gpiod', '{LABEL}', Path('/run/pins'))")
    assert guest.ask("other.lines.name") == f"{CHIP} ({LABEL})"
    assert guest.ask("(other.close(), os.unlink('/dev/gpiochip4'))") == (None, None)


def test_lines_given_up_are_free_again(guest: Guest) -> None:
    """A closed factory holds nothing: another one may have its line at once."""
    for _ in range(3):
        guest.ask("!other = open_factory('gpiod', 'gpiochip0', Path('/run/pins'))")
        assert guest.ask(f"DigitalInputDevice({SECOND_CONTACT}, pull_up=True, pin_factory=other).value") == 1
        assert guest.ask("other.close()") is None


def test_a_look_costs_little(guest: Guest) -> None:
    """Looks sleep in between, though the core is emulated and takes 50 us for a system call."""
    seen = guest.ask("watch(5)")
    print(f"idle: {seen}")
    assert seen["looks"] > 50
    assert seen["cpu_s"] < 2.5
    assert (seen["count"], seen["last"]) == (0, 1)


def test_without_rights_the_way_out_is_told(guest: Guest) -> None:
    """A user who may not open the chip reads what to set."""
    guest.ask("os.seteuid(65534)")
    told = guest.ask(f"open_factory('gpiod', '{CHIP}', Path('/run/pins'))")
    guest.ask("os.seteuid(0)")
    assert re.match(rf"DeviceError: {CHIP}: cannot be opened: Permission denied; .*DeviceAllow", told)


def test_a_chip_that_goes_away_is_an_error_of_the_next_read(guest: Guest) -> None:
    """Last, as it breaks the guest: the driver lets go, and read, lamp, edges and a new device each say so."""
    guest.ask(f"Path('/sys/bus/amba/drivers/pl061_gpio/unbind').write_text('{LABEL}')")
    assert guest.ask("contact.value") == f"DeviceError: {CHIP}: line {KILL} cannot be read: No such device"
    assert guest.ask("lamp.on()") == f"DeviceError: {CHIP}: line {LAMP} cannot be set: No such device"
    assert guest.ask("factory.take_edges()") == (
        f"DeviceError: {CHIP}: line {KILL} has no edges any more: No such device"
    )
    assert guest.ask(f"LED({FREE}, pin_factory=factory)") == (
        f"DeviceError: {CHIP}: line {FREE} cannot be used: No such device"
    )
    assert guest.ask("(contact.close(), lamp.close(), factory.close())") == (None, None, None)
