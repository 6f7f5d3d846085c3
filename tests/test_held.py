"""Pauses that persons set, on disk: what cannot be trusted is a pause."""

import os
import stat
from pathlib import Path

import pytest

from mmpi.device.held import Held
from mmpi.errors import DeviceError


def test_what_was_stored_is_loaded(tmp_path: Path) -> None:
    """A pause outlives the process that wrote it; an empty one is none."""
    held = Held(tmp_path / "state" / "held.json")
    assert held.load() == {}
    held.store({"by_remote": "phone"})
    assert Held(held.path).load() == {"by_remote": "phone"}
    held.store({})
    assert Held(held.path).load() == {}
    assert stat.S_IMODE(held.path.stat().st_mode) & 0o007 == 0


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"version":2,"held":{}}', b'{"version":1}', b"[]"])
def test_a_file_that_cannot_be_trusted_is_a_pause(tmp_path: Path, content: bytes) -> None:
    """A torn or foreign record pauses by hand, and says why."""
    path = tmp_path / "held.json"
    path.write_bytes(content)
    assert list(Held(path).load()) == ["by_hand"]
    assert "not trusted" in Held(path).load()["by_hand"]


def test_every_prefix_of_a_record_is_a_pause(tmp_path: Path) -> None:
    """A record cut short at any byte pauses; only the whole one is believed."""
    held = Held(tmp_path / "held.json")
    held.store({"by_remote": "phone"})
    whole = held.path.read_bytes()
    for length in range(len(whole) - 1):
        held.path.write_bytes(whole[:length])
        assert list(held.load()) == ["by_hand"]


def test_a_full_disk_is_an_error_and_keeps_the_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be confirmed is said, and the record before it stays whole."""
    held = Held(tmp_path / "held.json")
    held.store({"by_hand": "me"})

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DeviceError, match=r"held\.json: the pause was not written: No space left"):
        held.store({})
    assert held.load() == {"by_hand": "me"}
