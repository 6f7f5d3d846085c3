"""The pin factory: a backend by its name, and nothing loaded for a box without pins."""

import subprocess
import sys
from pathlib import Path

import pytest
from gpiozero import LED

from mmpi.device.pin_factory import open_factory
from mmpi.device.virtual_pins import VirtualPanel
from mmpi.errors import DeviceError

ROOT = Path(__file__).resolve().parents[1]


def test_the_virtual_backend_is_the_file(tmp_path: Path) -> None:
    """"virtual" opens the mapped file, whatever the chip is called."""
    panel = VirtualPanel.create(tmp_path / "pins")
    with open_factory("virtual", "/dev/gpiochip0", tmp_path / "pins") as factory:
        lamp = LED(17, pin_factory=factory)
        lamp.on()
        assert panel.output(17) == 1
        lamp.close()


def test_the_gpiod_backend_is_the_chip(tmp_path: Path) -> None:
    """"gpiod" opens the chip; without one the error names it, and no file is made."""
    with pytest.raises(DeviceError, match="/dev/gpiochip99: cannot be opened"):
        open_factory("gpiod", "/dev/gpiochip99", tmp_path / "pins")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("backend", ["none", "lgpio", ""])
def test_no_other_backend_exists(backend: str, tmp_path: Path) -> None:
    """Anything else is refused with what is allowed."""
    with pytest.raises(DeviceError, match=rf"^pins.backend = '{backend}': no such pins; allowed: gpiod, virtual$"):
        open_factory(backend, "gpiochip0", tmp_path / "pins")


def test_a_box_without_pins_loads_neither_library() -> None:
    """Importing the factory and the panel brings in neither gpiozero nor gpiod."""
    code = "import sys, mmpi.device.pin_factory, mmpi.device.virtual_pins; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert {"gpiozero", "gpiod"} & set(done.stdout.split()) == set()
