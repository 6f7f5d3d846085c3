"""The hardware watchdog: kernel and systemd must both say what the configuration relies on."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mmpi.device import hardware_watchdog
from mmpi.device.hardware_watchdog import ask_systemd, check, seconds
from mmpi.errors import DeviceError

PI = "Broadcom BCM2835 Watchdog timer"


def sysfs(root: Path, *, timeout: str = "14", state: str = "active", identity: str = PI) -> Path:
    """Return a sysfs with one watchdog."""
    folder = root / "class/watchdog/watchdog0"
    folder.mkdir(parents=True)
    for name, value in (("timeout", timeout), ("state", state), ("identity", identity)):
        (folder / name).write_text(f"{value}\n")
    return root


def says(runtime: str = "14s", reboot: str = "14s") -> Callable[[], str]:
    """Return a systemd that answers as `systemctl show` prints."""
    return lambda: f"RuntimeWatchdogUSec={runtime}\nRebootWatchdogUSec={reboot}\n"


def unasked() -> str:
    """Fail: nobody may ask."""
    raise AssertionError("systemd was asked")


def test_both_agree(tmp_path: Path) -> None:
    """A kernel and a systemd that both say 14 s are what the configuration wants."""
    assert check(14, sysfs(tmp_path), says()) == ""


@pytest.mark.parametrize("span", ["14s", "14000000", "14000ms", "14.0s", " 14s "])
def test_systemd_may_write_it_as_it_likes(tmp_path: Path, span: str) -> None:
    """Seconds are seconds in each of systemd's ways of writing them."""
    assert check(14, sysfs(tmp_path), says(span, span)) == ""


def test_a_host_without_one_is_not_asked(tmp_path: Path) -> None:
    """0 means that there is none: neither kernel nor systemd is asked."""
    assert check(0, tmp_path / "none", unasked) == ""


@pytest.mark.parametrize(
    ("kernel", "sentence"),
    [
        ({"timeout": "15"}, f"watchdog.hardware_s 14: the kernel's watchdog ({PI}) is set to 15 s"),
        ({"state": "inactive"}, f"watchdog.hardware_s 14: the kernel's watchdog ({PI}) is inactive: nobody feeds it"),
    ],
)
def test_the_kernel_disagrees(tmp_path: Path, kernel: dict[str, str], sentence: str) -> None:
    """Another time, or a watchdog that nobody has started, is said in one sentence; systemd need not be asked."""
    assert check(14, sysfs(tmp_path, **kernel), unasked) == sentence


def test_a_kernel_without_one(tmp_path: Path) -> None:
    """A configured watchdog that the kernel does not show is said, with the file that is missing."""
    told = check(14, tmp_path, unasked)
    assert told.startswith("watchdog.hardware_s 14: the kernel shows no hardware watchdog: ")
    assert "class/watchdog/watchdog0/identity" in told


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (says(runtime="0"), "systemd's RuntimeWatchdogUSec is '0'"),
        (says(runtime="infinity"), "systemd's RuntimeWatchdogUSec is 'infinity'"),
        (says(reboot="10min"), "systemd's RebootWatchdogUSec is '10min'"),
        (says(runtime="soon"), "systemd's RuntimeWatchdogUSec is 'soon'"),
        (lambda: "RuntimeWatchdogUSec=14s\n", "systemd knows no RebootWatchdogUSec"),
        (lambda: "", "systemd knows no RuntimeWatchdogUSec"),
    ],
)
def test_systemd_disagrees(tmp_path: Path, answer: Callable[[], str], sentence: str) -> None:
    """Both of systemd's timers count: the one while it runs and the one while it shuts down."""
    assert check(14, sysfs(tmp_path), answer) == f"watchdog.hardware_s 14: {sentence}"


def test_systemd_does_not_answer(tmp_path: Path) -> None:
    """A systemd that cannot be asked has not agreed."""

    def silent() -> str:
        raise DeviceError("systemctl show: Failed to connect to bus")

    told = check(14, sysfs(tmp_path), silent)
    assert told == "watchdog.hardware_s 14: systemd does not say what it does: systemctl show: Failed to connect to bus"


@pytest.mark.parametrize(("expected", "bites"), [(16, 0), (20, 4), (600, 8)])
def test_more_than_a_pi_can_is_refused(tmp_path: Path, expected: int, bites: int) -> None:
    """More than 15 s wraps round on a Pi although kernel and systemd repeat it: refused, with what would happen."""
    told = check(expected, sysfs(tmp_path, timeout=str(expected)), says(f"{expected}s", f"{expected}s"))
    assert told == (
        f"watchdog.hardware_s {expected}: at most 15 on a {PI!r}, which wraps round and would bite after {bites} s"
    )


def test_another_watchdog_may_take_longer(tmp_path: Path) -> None:
    """The limit is the Pi's, not that of a machine with another watchdog."""
    assert check(30, sysfs(tmp_path, timeout="30", identity="i6300ESB timer"), says("30s", "30s")) == ""


@pytest.mark.parametrize(
    ("span", "expected"),
    [
        ("14s", 14), ("0", 0), ("14000000", 14), ("1min 30s", 90), ("1.5s", 1.5), ("250ms", 0.25), ("2h 5min", 7500),
        ("1w 1d", 691_200), ("500us", 0.0005), ("500μs", 0.0005), ("infinity", float("inf")), ("", None),
        ("soon", None), ("14", 14e-6), ("-14s", None), ("14s or so", None), ("14parsecs", None), ("1min 30", None),
    ],
)  # fmt: skip
def test_time_spans(span: str, expected: float | None) -> None:
    """What systemd prints is read as systemd.time(7) means it; anything else is no time."""
    assert seconds(span) == (expected if expected is None else pytest.approx(expected))


def run_instead(monkeypatch: pytest.MonkeyPatch, code: str, patience_s: float = 5.0) -> None:
    """Let a process of this Python stand in for systemctl."""
    real = hardware_watchdog.subprocess.run

    def run(command: list[str], **kwargs: object) -> object:
        assert command == ["systemctl", "show", "--property=RuntimeWatchdogUSec", "--property=RebootWatchdogUSec"]
        return real([sys.executable, "-Sc", code], **{**kwargs, "timeout": patience_s})

    monkeypatch.setattr(hardware_watchdog.subprocess, "run", run)


def test_systemctl_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """What systemctl prints is returned as it is."""
    run_instead(monkeypatch, "print('RuntimeWatchdogUSec=14s')")
    assert ask_systemd() == "RuntimeWatchdogUSec=14s\n"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import sys; sys.exit('no bus')", "systemctl show: no bus"),
        ("import sys; sys.exit(3)", "systemctl show: it ended with 3"),
    ],
)
def test_systemctl_fails(monkeypatch: pytest.MonkeyPatch, code: str, words: str) -> None:
    """A systemctl that fails is an error with its own words."""
    run_instead(monkeypatch, code)
    with pytest.raises(DeviceError, match=words):
        ask_systemd()


def test_systemctl_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A systemctl that does not answer is given up."""
    run_instead(monkeypatch, "import time; time.sleep(60)", 0.05)
    with pytest.raises(DeviceError, match="timed out"):
        ask_systemd()


def test_a_machine_without_systemctl(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without systemd is an error that names what is missing."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeviceError, match="No such file or directory: 'systemctl'"):
        ask_systemd()
