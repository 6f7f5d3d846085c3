"""What the set-up of the card's folder left, as the guardian sees it: the cause `setup`."""

import json
import os
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmpi.causes import CAUSES, HELD, NO_SELLING, Kind
from mmpi.commands.guard_box import HOST_S, MAX_ERROR, MAX_RESULT, SetupSense, parts_of
from mmpi.config.load import load_config
from mmpi.sections import Box, GuardianSettings, HostSettings, PathSettings, VenueSettings

RIGHT = {"ok": True, "errors": [], "applied": ["wifi.toml"], "at": 1796000000, "first": False}
WRONG = {**RIGHT, "ok": False, "errors": ["quoter.toml: risk.capitol: unknown key", "wifi.toml: ssid: missing"]}


def left(path: Path, result: object) -> SetupSense:
    """Return a sense that has looked at this result."""
    write(path, result)
    sense = SetupSense(path)
    sense.look()
    return sense


def write(path: Path, result: object) -> None:
    """Put a result in place, as the set-up does: a new file in the old one's place."""
    fresh = path.with_name("fresh")
    fresh.write_bytes(result if isinstance(result, bytes) else json.dumps(result).encode())
    fresh.replace(path)


def test_a_set_up_that_is_wrong_is_a_cause(tmp_path: Path) -> None:
    """Its first error is the detail."""
    sense = left(tmp_path / "setup.json", WRONG)
    assert sense.present(1) == {"setup": "quoter.toml: risk.capitol: unknown key"}


def test_no_set_up_and_a_right_one_are_none(tmp_path: Path) -> None:
    """A machine that is not our image has no file, nor a folder for it; a right one takes nothing away."""
    sense = SetupSense(tmp_path / "none" / "setup.json")
    sense.look()
    assert sense.present(1) == {}
    assert left(tmp_path / "setup.json", RIGHT).present(1) == {}
    assert left(tmp_path / "setup.json", {"ok": True}).present(1) == {}
    # Advice, perhaps, of a later version; what is right is right.
    assert left(tmp_path / "setup.json", {**RIGHT, "errors": ["?"], "later": {"x": 1}}).present(1) == {}


def test_it_follows_the_file(tmp_path: Path) -> None:
    """A later set-up that is right ends it, one that is wrong begins it, and a file that goes ends it, too."""
    path = tmp_path / "setup.json"
    sense = left(path, WRONG)
    for result, expected in (
        (RIGHT, {}), (WRONG, {"setup": WRONG["errors"][0]}), ({**WRONG, "errors": ["other"]}, {"setup": "other"}),
    ):  # fmt: skip
        write(path, result)
        sense.look()
        assert sense.present(1) == expected
    path.unlink()
    sense.look()
    assert sense.present(1) == {}


def test_a_file_is_read_when_it_changed_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look at a file that is the same costs one stat; one that is written in place is another."""
    path = tmp_path / "setup.json"
    sense = left(path, WRONG)
    opened: list[Path] = []
    real = Path.open

    def counted(self: Path, *args: object) -> object:
        opened.append(self)
        return real(self, *args)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", counted)
    sense.look()
    sense.look()
    assert opened == []
    with open(path, "w", encoding="utf-8") as file:
        json.dump({**WRONG, "errors": ["in place"]}, file)
    sense.look()
    assert (opened, sense.present(1)) == ([path], {"setup": "in place"})


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is no result of a set-up: Input data was truncated"),
        (b"garbage", "is no result of a set-up: JSON is malformed"),
        (b'{"ok": fal', "is no result of a set-up: Input data was truncated"),
        (b"[]", "is no result of a set-up: Expected `object`, got `array`"),
        (b"{}", "is no result of a set-up: Object missing required field `ok`"),
        (b'{"ok": "yes"}', "is no result of a set-up: Expected `bool`, got `str` - at `$.ok`"),
        (b'{"ok": true, "errors": [3]}', "is no result of a set-up: Expected `str`, got `int` - at `$.errors[0]`"),
        (b" " * (MAX_RESULT + 1) + b'{"ok": true}', f"is no result of a set-up: more than {MAX_RESULT} bytes"),
    ],
)
def test_what_is_no_result_is_a_wrong_one(tmp_path: Path, content: bytes, why: str) -> None:
    """Nothing is taken for right that does not say so, and the detail says what is wrong with it."""
    path = tmp_path / "setup.json"
    sense = left(path, content)
    assert sense.present(1)["setup"].startswith(f"{path}: {why}")
    write(path, RIGHT)
    sense.look()
    assert sense.present(1) == {}


@given(st.binary(max_size=300))
def test_garbage_breaks_nothing(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """Whatever is in the file, a look ends, and only an explicit "ok" is none."""
    sense = left(tmp_path_factory.mktemp("setup") / "setup.json", content)
    assert set(sense.present(1)) <= {"setup"}
    assert sense.wrong


@pytest.mark.parametrize(
    ("errors", "detail"),
    [
        ([], "the set-up does not say what is wrong"),
        (["", "second"], "the set-up does not say what is wrong"),
        (["two\nlines  and\tmore"], "two lines and more"),
        (["x" * 999], "x" * MAX_ERROR),
    ],
)
def test_the_detail_is_one_line(tmp_path: Path, errors: list[str], detail: str) -> None:
    """An error of many lines, or none at all, is one short line on the display."""
    assert left(tmp_path / "setup.json", {**WRONG, "errors": errors}).present(1) == {"setup": detail}


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """It counts as wrong, says why, and is tried again at each look."""
    path = tmp_path / "setup.json"
    path.mkdir()
    sense = SetupSense(path)
    sense.look()
    assert sense.present(1) == {"setup": f"{path}: cannot be read: Is a directory"}
    path.rmdir()
    write(path, RIGHT)
    sense.look()
    assert sense.present(1) == {}


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A result that only root may read is told as what it is; once its rights are mended it counts, unchanged."""
    path = tmp_path / "setup.json"
    write(path, RIGHT)

    def denied(*_: object) -> None:
        raise PermissionError(13, os.strerror(13))

    sense = SetupSense(path)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", denied)
        sense.look()
    assert sense.present(1) == {"setup": f"{path}: cannot be read: Permission denied"}
    sense.look()
    assert sense.present(1) == {}


def test_the_row() -> None:
    """It pauses, by itself, nobody holds it, and what is held may be sold meanwhile."""
    assert CAUSES["setup"].kind is Kind.PAUSE
    assert "setup" not in (*HELD, *NO_SELLING)


def test_the_guardian_looks_where_the_configuration_says(tmp_path: Path) -> None:
    """The usual place without a word, another one with; it is one of the box's senses, read in a round of its own."""
    assert HostSettings().setup_result == "/run/mmpi-box/setup.json"
    assert load_config(None, {}).settings.host.setup_result == "/run/mmpi-box/setup.json"
    path = tmp_path / "setup.json"
    write(path, WRONG)
    host = load_config(None, {"MMPI_HOST__SETUP_RESULT": str(path)}).settings.host
    paths = PathSettings(str(tmp_path), str(tmp_path), str(tmp_path))
    parts = parts_of(Box("box", paths, VenueSettings(), GuardianSettings(), host=host))
    assert parts.setup in parts.senses
    rounds = {each.name: each for each in parts._rounds}
    assert rounds["set-up"]._every_s == HOST_S == 2.0
    rounds["set-up"]._work()
    assert parts.setup.present(1) == {"setup": WRONG["errors"][0]}


def test_the_resolved_configuration_carries_it() -> None:
    """A resolved configuration of before the key was there is read with the usual place."""
    old = msgspec.json.decode(b'{"max_temperature_c": 80.0}', type=HostSettings)
    assert old.setup_result == "/run/mmpi-box/setup.json"
