"""mmpi.runtime.service: systemd is told without a wait, and its absence costs nothing."""

import contextlib
import gc
import os
import socket
from collections import deque
from pathlib import Path

import pytest

from mmpi.runtime.service import notifier, say


def test_systemd_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said arrives at the socket that systemd named."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        notify = notifier()
        notify("READY=1")
        assert systemd.recv(100) == b"READY=1"
        notify.__self__.socket.close()  # type: ignore[attr-defined]


def test_a_full_socket_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A systemd that reads nothing does not stop the caller."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        notify = notifier()
        for _ in range(2000):
            notify("WATCHDOG=1")
        notify.__self__.socket.close()  # type: ignore[attr-defined]


def test_no_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without systemd nothing is opened and nothing is told."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notifier()("READY=1")
    gc.collect()


def test_a_reader_of_stderr_that_does_not_read_or_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said fits or is lost; the teller, which may be stopping all orders, neither waits nor fails."""
    reader, writer = os.pipe()
    monkeypatch.setattr("mmpi.runtime.service.STDERR", writer)
    monkeypatch.setattr("mmpi.runtime.service._UNSAID", deque(maxlen=64))
    for _ in range(1000):
        say("x" * 200)
    assert os.read(reader, 201) == b"x" * 200 + b"\n"
    os.close(reader)
    say("nobody reads")
    os.close(writer)
    say("no stderr at all")


def test_a_slow_reader_of_stderr_gets_the_newest_lines_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines that stderr did not take wait for the next one, whole and in order; only the oldest of many are lost."""
    reader, writer = os.pipe()
    monkeypatch.setattr("mmpi.runtime.service.STDERR", writer)
    monkeypatch.setattr("mmpi.runtime.service._UNSAID", deque(maxlen=64))
    os.set_blocking(reader, False)
    for number in range(1000):
        say(f"{number:0200}")
    first = _read_all(reader)
    say("at last")
    rest = _read_all(reader)
    os.close(reader)
    os.close(writer)
    assert [int(line) for line in first] == list(range(len(first)))
    assert [*map(int, rest[:-1])] == list(range(1000 - len(rest) + 1, 1000))
    assert len(rest) == 64 and rest[-1] == b"at last"


def _read_all(reader: int) -> list[bytes]:
    data = b""
    with contextlib.suppress(BlockingIOError):
        while more := os.read(reader, 65536):
            data += more
    return data.splitlines()
