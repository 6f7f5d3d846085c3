"""mmpi broker: the configuration of the box's own broker, from mmpi.toml and the folder of secrets."""

import json
from pathlib import Path

import pytest

from mmpi.cli import main

TOML = """
[device]
id = "shelf"

[mqtt]
url = "mqtt://127.0.0.1"
username = "box"

[broker]
enabled = true
owners = "alice, home"
readers = "display"
"""
PASSWORDS = {"mqtt.password": "the box's", "broker.users": "alice:hers:with-colon home:its display:shown"}


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the folder of a box with its configuration and its secrets."""
    for name in ("state", "run", "keys"):
        (tmp_path / name).mkdir(mode=0o700)
    monkeypatch.setenv("MMPI_PATHS__STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("MMPI_PATHS__RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("MMPI_SECRETS__DIR", str(tmp_path / "keys"))
    (tmp_path / "mmpi.toml").write_text(TOML)
    for name, text in PASSWORDS.items():
        (tmp_path / "keys" / name).write_text(text)
        (tmp_path / "keys" / name).chmod(0o600)
    return tmp_path


def broker(box: Path, *words: str) -> int:
    """Run the command."""
    return main(["broker", "--config", str(box / "mmpi.toml"), "--folder", str(box / "out"), *words])


def test_it_is_written(box: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three files for the broker's user alone, without a password in any of them."""
    assert broker(box, "--json") == 0
    assert json.loads(capsys.readouterr().out)["users"] == ["alice", "box", "display", "home"]
    files = {path.name: path for path in (box / "out").iterdir()}
    assert set(files) == {"mosquitto.conf", "acl", "passwords"}
    assert {path.stat().st_mode & 0o777 for path in files.values()} == {0o600}
    whole = "".join(path.read_text() for path in files.values())
    assert "allow_anonymous false" in whole and str(box / "out" / "acl") in whole
    assert not any(word in whole for word in ("the box's", "hers:with-colon", "shown"))


def test_without_one_nothing_is_written(box: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A box that wants none says so by 3, by which its unit is passed over."""
    (box / "mmpi.toml").write_text(TOML.replace("enabled = true", "enabled = false"))
    assert (broker(box), broker(box, "--wanted")) == (3, 3)
    assert "broker.enabled is false" in capsys.readouterr().err
    assert not (box / "out").exists()


def test_wanted_writes_nothing(box: Path) -> None:
    """It only answers."""
    assert broker(box, "--wanted") == 0
    assert not (box / "out").exists()


def test_the_ports_of_others(box: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What a firewall has to let in: nothing but what is for others, and that is by TLS."""
    assert broker(box, "--ports") == 0
    assert capsys.readouterr().out.split() == []
    more = 'tls_port = 8883\nwebsocket_port = 8884\ncert_file = "/x.pem"\nkey_file = "/x.key"'
    (box / "mmpi.toml").write_text(TOML.replace("enabled = true", f"enabled = true\n{more}"))
    assert broker(box, "--ports") == 0
    assert capsys.readouterr().out.split() == ["8883", "8884"]
    assert not (box / "out").exists()


@pytest.mark.parametrize(
    ("users", "said"),
    [
        ("alice:hers home", "pair 2: not shown; allowed: name:password"),
        ("alice:hers alice:again", "pair 2: alice has a password already"),
        ("alice:hers home:its", "'display' has no password"),
        ("alice:hers home:its display:x thief:y", "'thief' is in neither owners nor readers"),
    ],
)
def test_people_who_do_not_fit(box: Path, users: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One sentence names who; no password is shown, and nothing is written."""
    (box / "keys" / "broker.users").write_text(users)
    assert broker(box) == 2
    told = capsys.readouterr().err
    assert said in told and "hers" not in told
    assert not (box / "out").exists()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('url = "mqtt://127.0.0.1"', 'url = "mqtt://house"', "mqtt.url"),
        ('username = "box"', "", "mqtt.username"),
        ("enabled = true", "enabled = true\ntls_port = 8883", "broker.tls_port"),
        ("enabled = true", "enabled = true\nport = 1884", "mqtt.url"),
    ],
)
def test_a_configuration_that_does_not_fit(
    box: Path, old: str, new: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The box has to be able to use its own broker, and nobody is let in from outside in the clear."""
    (box / "mmpi.toml").write_text(TOML.replace(old, new))
    assert broker(box) == 2
    assert said in capsys.readouterr().err
