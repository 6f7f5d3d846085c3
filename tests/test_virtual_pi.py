"""The virtual Pi: commands and files go in, output and status come out, and what is missing is said."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from hil.emulator import DIES_WITH_US, EMULATOR, Lines, command, connected
from hil.virtual_pi import VirtualPi, ensure_emulator
from image.archive import file
from image.debian import UnavailableError


@pytest.fixture(scope="module")
def pi() -> Iterator[VirtualPi]:
    """Give a running guest with a script of ours in it."""
    with ExitStack() as stack:
        try:
            guest = stack.enter_context(VirtualPi(files={"opt/greet": file("#!/bin/sh\necho hello $1\n", 0o755)}))
        except UnavailableError as error:
            pytest.skip(f"no virtual Pi: {error}")
        yield guest


def test_without_emulator_and_apt_the_reason_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that can neither run nor install the emulator says so in one sentence, to be skipped with."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnavailableError, match="no apt-get here; install qemu-system-aarch64 by hand"):
        ensure_emulator()


@pytest.mark.slow
def test_a_reset_does_not_move_what_is_wired(tmp_path: Path) -> None:
    """A machine that resets itself finds its contacts as they were, though the emulated chip forgets them."""
    try:
        ensure_emulator()
    except UnavailableError as error:
        pytest.skip(f"no emulator: {error}")
    words = [EMULATOR, "-M", "virt", "-accel", "tcg", "-nodefaults", "-S", "-display", "none", "-qtest-log", "none"]
    for option, name in (("-qmp", "qmp"), ("-qmp", "qmp2"), ("-qtest", "qtest")):
        words += [option, f"unix:{tmp_path}/{name},server=on,wait=off"]
    with subprocess.Popen([*DIES_WITH_US, *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as emulator:
        try:
            lines = Lines(tmp_path)
            lines.drive(2, 1)
            lines.drive(4, 1)
            lines.drive(4, 0)
            assert lines.levels() & 0b10100 == 0b00100
            with connected(tmp_path / "qmp2") as monitor, monitor.makefile("rw") as stream:
                stream.readline()
                command(stream, "qmp_capabilities")
                command(stream, "system_reset")
            deadline = time.monotonic() + 10
            while lines.resets == 0:
                assert time.monotonic() < deadline, "no reset was heard of"
                time.sleep(0.01)
            assert lines.levels() & 0b10100 == 0b00100
            lines.close()
        finally:
            emulator.kill()


@pytest.mark.slow
def test_a_command_gives_its_status_and_output(pi: VirtualPi) -> None:
    """Both streams come back in order, with the status, whatever the command prints."""
    assert pi.run("/opt/greet you") == (0, "hello you\n")
    assert pi.run("echo one; echo two >&2; (exit 3)") == (3, "one\ntwo\n")
    assert pi.run("true") == (0, "")


@pytest.mark.slow
def test_the_guest_runs_this_checkout_on_debians_python(pi: VirtualPi) -> None:
    """mmpi is importable, on arm64 and Python 3.13, with a loopback network and a clock."""
    code = "import mmpi.instrument, platform, sys; print(platform.machine(), sys.version_info[:2])"
    assert pi.run(f"python3 -c '{code}'") == (0, "aarch64 (3, 13)\n")
    assert pi.run("ping -c 1 -W 5 127.0.0.1 >/dev/null")[0] == 0


@pytest.mark.slow
def test_a_background_command_is_followed_on_the_serial_line(pi: VirtualPi) -> None:
    """`start` does not wait; `wait_serial` gives what comes later, and says what came instead if it does not."""
    pi.start("for n in 1 2 3; do echo step $n; done")
    assert [pi.wait_serial(r"step \d") for _ in range(3)] == ["step 1", "step 2", "step 3"]
    with pytest.raises(TimeoutError, match=r"(?s)0 s passed without 'step 4' on the serial line; it said: .*step 3"):
        pi.wait_serial("step 4", timeout_s=0.1)


@pytest.mark.slow
def test_a_running_command_can_be_interrupted(pi: VirtualPi) -> None:
    """Ctrl-C reaches the program in the foreground, and the shell goes on."""
    pi.start("echo asleep; sleep 600; echo woken by $?")
    pi.wait_serial("asleep")
    time.sleep(0.5)
    pi.interrupt()
    assert pi.run("echo back") == (0, "back\n")
    assert "woken" not in pi.serial


@pytest.mark.slow
def test_an_undriven_line_is_no_output(pi: VirtualPi) -> None:
    """A line that the guest does not drive shows no level."""
    assert [pi.output(line) for line in range(8)] == [None] * 8
