"""`mmpi setup` as it is typed: its options, its result, its words, the real check and the real encryption."""

import json
import os
import shutil
import signal
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ended import Ended
from setup_builders import ACCOUNT, GUARDIAN, LIVE, PAPER, QUOTER, SECRETS, WIFI, Box

from mmpi.cli import main
from mmpi.commands import setup
from mmpi.errors import DeviceError
from mmpi.setup import sealing
from mmpi.setup.configuration import check
from mmpi.setup.sealing import SystemdCreds

Command = Callable[..., Ended]
EXAMPLE = Path(__file__).resolve().parents[1] / "image" / "firmware" / "mmpi-setup-example"


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Box:
    """Give a box whose secrets are sealed in memory, and which nothing outside of it changes."""
    box = Box(tmp_path)
    monkeypatch.setattr(setup, "SystemdCreds", lambda: box.sealer)
    monkeypatch.setattr(setup, "keep_out_of_core_dumps", lambda: True)
    monkeypatch.setattr(setup, "REBOOT", ("true",))
    return box


@pytest.fixture
def run(box: Box, capfd: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """Give what runs the command on the box."""

    def command(*words: str) -> Ended:
        places = {"--folder": box.folder, "--data": box.data, "--result-file": box.data.parent / "run" / "r.json"}
        capfd.readouterr()
        code = main(["setup", *(str(word) for pair in places.items() for word in pair), "--no-mount", *words])
        return Ended(code, *capfd.readouterr())

    yield command
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def result(box: Box) -> dict[str, object]:
    """Return the result, which everybody may read."""
    path = box.data.parent / "run" / "r.json"
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    found = json.loads(path.read_bytes())
    assert sorted(found) == ["applied", "at", "errors", "first", "ok"]
    return dict(found)


def test_a_good_folder(box: Box, run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real check finds nothing; the result, stdout and the exit code say so; then there is nothing to do."""
    monkeypatch.setenv("MMPI_VENUE__MODE", "nonsense")
    box.put(mmpi__toml=PAPER, secrets__env=SECRETS)
    assert run() == (0, "in force: mmpi.toml, secrets.env\n", "")
    found = result(box)
    assert (found["ok"], found["errors"], found["applied"]) == (True, [], ["mmpi.toml", "secrets.env"])
    assert found["first"] is True
    assert run() == (0, "nothing to do\n", "")
    ended = run("--json")
    assert (ended.code, ended.err) == (0, "")
    assert ended.json() == result(box)


def test_the_folder_that_the_card_comes_with(box: Box, run: Command) -> None:
    """Copied as it is, it is in order; with the examples' names shortened, what a person has to fill in is wrong."""
    for path in EXAMPLE.iterdir():
        shutil.copyfile(path, box.folder / path.name)
    assert run() == (0, "in force: mmpi.toml, hostname\n", "")
    for path in EXAMPLE.glob("*.example"):
        (box.folder / path.name).rename(box.folder / path.stem)
    wrong = run().err.splitlines()
    assert sorted({line.split(": ")[1] for line in wrong}) == ["authorized_keys", "secrets.env"], wrong
    (box.folder / "secrets.env").write_text(SECRETS)
    (box.folder / "authorized_keys").unlink()
    assert run().out == "in force: mmpi.toml, secrets.env, wifi.toml, hostname\n"


def test_a_card_that_is_not_mounted(box: Box, capfd: pytest.CaptureFixture[str]) -> None:
    """A folder that nobody could look into is not an empty one: what was in force stays, and the box pauses."""
    shutil.rmtree(box.folder)
    places = ("--folder", str(box.folder), "--data", str(box.data))
    assert main(["setup", *places, "--result-file", str(box.data.parent / "run" / "r.json")]) == 2
    (error,) = result(box)["errors"]  # type: ignore[misc]
    assert error.startswith(f"{box.folder.parent} is not mounted: the card's first partition cannot be read")
    assert capfd.readouterr().err == f"mmpi setup: {error}\n"
    assert (result(box)["ok"], result(box)["first"]) == (False, True)
    # The new box is as new as before: not armed, and no folder was taken for a good one.
    assert not box.latch()
    box.folder.mkdir()
    box.put(mmpi__toml=PAPER)
    assert main(["setup", *places, "--result-file", str(box.data.parent / "run" / "r.json"), "--no-mount"]) == 0
    assert box.latch() and "begins to quote by itself" in box.result()


def test_a_bad_folder(box: Box, run: Command) -> None:
    """Every error is a line of stderr, under the file's own name, and no secret is anywhere; the exit code is 2."""
    box.put(mmpi__toml="[venue]\nmode = 'real'\n[risk]\ncapitol = 1\n", secrets__env=f"{SECRETS}\nX={QUOTER}\n")
    ended = run()
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.splitlines() == [f"mmpi setup: {error}" for error in result(box)["errors"]]  # type: ignore[attr-defined]
    assert ended.err.splitlines() == [
        "mmpi setup: secrets.env: line 6: unknown key (not shown); allowed: ACCOUNT, QUOTER_KEY, GUARDIAN_KEY, "
        "MQTT_PASSWORD, MQTT_FAR_PASSWORD, WEBHOOK_TOKEN, BROKER_USERS, BRIDGE_PASSWORD",
        'mmpi setup: mmpi.toml: venue.mode: value "real": allowed: one of "paper", "practice", "live"',
        "mmpi setup: mmpi.toml: risk.capitol: value 1: unknown key; did you mean capital?",
    ]
    for secret in (QUOTER, GUARDIAN):
        assert secret[:12] not in ended.err + (box.data.parent / "run" / "r.json").read_text() + box.result()


def test_what_the_check_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bad syntax has line and column; a check that breaks, or hangs, is an error and no traceback."""
    assert check(b"x =\n") == ["mmpi.toml: line 1, column 4: not valid TOML: Invalid value"]

    def done(code: int, stderr: bytes) -> Callable[..., "subprocess.CompletedProcess[bytes]"]:
        return lambda *_, **__: subprocess.CompletedProcess([], code, b"", stderr)

    monkeypatch.setattr(subprocess, "run", done(1, b"Traceback\nValueError: x\n"))
    assert check(b"") == ["mmpi.toml: could not be checked: mmpi check ended with 1"]
    monkeypatch.setattr(subprocess, "run", done(2, b"mmpi check: defaults: x: wrong\nother\n"))
    assert check(b"") == ["mmpi.toml: defaults: x: wrong"]

    def hangs(*_: object, **__: object) -> None:
        raise subprocess.TimeoutExpired("x", 1)

    monkeypatch.setattr(subprocess, "run", hangs)
    assert check(b"") == ["mmpi.toml: could not be checked: mmpi check took longer than 120 s"]


def test_a_reset_starts_the_box_anew(box: Box, run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends with 0 and systemd's reboot; where that cannot be asked for, the result is there all the same."""
    box.put(**{"factory-reset": ""})
    text = "factory reset: all that was stored is deleted; starting anew\n"
    assert run() == (0, text, "")
    assert result(box)["applied"] == ["factory-reset"]
    for words in (("false",), ("/no/such/program",)):
        box.put(**{"factory-reset": ""})
        monkeypatch.setattr(setup, "REBOOT", words)
        ended = run()
        assert (ended.code, ended.out) == (4, text)
        assert ended.err.startswith("mmpi setup: the box could not be started anew")


def test_notes_and_a_result_that_cannot_be_written(box: Box, run: Command, tmp_path: Path) -> None:
    """A report that could not be written is a note; a result that could not be is an error of the box (3)."""
    (box.folder / "RESULT.new").mkdir()
    ended = run()
    note = f"mmpi setup: note: RESULT.txt: {box.folder}/RESULT.new"
    assert (ended.code, ended.err.partition(": Is a")[0]) == (0, note)
    (tmp_path / "run" / "r.json").unlink()
    (tmp_path / "run" / "r.json").mkdir()
    ended = run()
    assert (ended.code, ended.err[-40:].partition(": Is")[2]) == (3, " a directory\n")


def test_progress_is_for_a_terminal_and_a_fill_for_a_card(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log gets no progress; a file system that is no FAT is never filled."""
    filled: list[Path] = []
    monkeypatch.setattr(setup.erasing, "fill", lambda folder, _: filled.append(folder))
    setup._fill(tmp_path)
    monkeypatch.setattr(setup, "is_fat", lambda _: True)
    setup._fill(tmp_path)
    assert filled == [tmp_path]
    setup._progress(False, "x")
    setup._progress(True, "y")
    assert capfd.readouterr() == ("", "\ry")


def test_a_sealer_that_does_not_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No program, one that fails, hangs or gives back something else: an error each, and none shows the secret."""
    program = tmp_path / "creds"
    monkeypatch.setattr(sealing, "PROGRAM", str(program))
    monkeypatch.setattr(sealing, "ENDS_S", 0.5)
    said = []
    for script in ("", "cat >/dev/null; echo 'no key' >&2; exit 1", "exec sleep 3", "cat >/dev/null; echo x", "exit 1"):
        if script:
            program.write_text(f"#!/bin/sh\n{script}\n")
            program.chmod(0o755)
        with pytest.raises(DeviceError) as caught:
            SystemdCreds().seal("quoter.key", QUOTER.encode())
        said.append(str(caught.value).replace(str(program), "creds"))
    assert said == [
        "quoter.key: creds cannot be started: No such file or directory",
        "quoter.key: creds encrypt failed: no key",
        "quoter.key: creds encrypt took longer than 0.5 s",
        "quoter.key: creds does not give back what it encrypted",
        "quoter.key: creds encrypt failed: it did not say why",
    ]


def test_the_real_encryption(tmp_path: Path) -> None:
    """systemd-creds seals each secret under its own name; what is stored has nothing of it, and only it opens it."""
    if shutil.which(sealing.PROGRAM) is None:
        pytest.skip("no systemd-creds here: the system package systemd is missing")
    try:
        SystemdCreds().seal("probe", b"probe")
    except DeviceError as error:
        pytest.skip(f"systemd-creds cannot use a key of this host: {error}")
    box = Box(tmp_path, mmpi__toml=LIVE, secrets__env=SECRETS, wifi__toml=WIFI)
    box.sealer = SystemdCreds()  # type: ignore[assignment]
    assert box.run().outcome.ok
    folder = box.data / "settings" / "credstore"
    wanted = {"account": ACCOUNT, "quoter.key": f"0x{QUOTER}", "guardian.key": f"0x{GUARDIAN}"}
    for name, secret in wanted.items():
        sealed = (folder / f"mmpi.{name}").read_bytes()
        assert secret[2:].encode() not in sealed
        assert SystemdCreds().unseal(name, sealed).decode() == f"{secret}\n"
        with pytest.raises(DeviceError):
            SystemdCreds().unseal("other", sealed)
    assert SystemdCreds().unseal("wifi", (folder / "mmpi.wifi").read_bytes()).decode() == WIFI + "hidden = false\n"
    assert os.listdir(folder.parent / "mmpi") == ["mmpi.toml"]
