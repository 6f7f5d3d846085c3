"""mmpi.commands.resolved and mmpi.config.resolved: one file for two services, each with its own secrets."""

import os
import subprocess
from pathlib import Path

import pytest

from mmpi.commands import resolved as module
from mmpi.commands.resolved import resolved
from mmpi.config import load_config, resolve
from mmpi.errors import ConfigError
from mmpi.folders import secrets_folder
from mmpi.sections import Box, load_resolved

CREDENTIALS = "/run/credentials/mmpi-quoter.service"


@pytest.fixture
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the runtime folder of a box that the environment describes."""
    for name in [name for name in os.environ if name.startswith("MMPI_")]:
        monkeypatch.delenv(name)
    for name in ("NOTIFY_SOCKET", "CREDENTIALS_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MMPI_PATHS__RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("MMPI_PATHS__STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "run"


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Give the checks that were made; each is made here instead of in another process."""
    made: list[list[str]] = []

    def check(command: list[str], **_: object) -> "subprocess.CompletedProcess[str]":
        made.append(command)
        loaded = load_config(None, os.environ)
        resolve(loaded, Path(loaded.settings.paths.runtime_dir) / "config.json")
        return subprocess.CompletedProcess(command, 0, stderr="")

    monkeypatch.setattr("mmpi.commands.resolved.subprocess.run", check)
    return made


@pytest.fixture
def by_root(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the file that root resolved, with a patience of 7 s; who asks now is a service of another user."""
    out = run_dir / "config.json"
    resolve(load_config(None, {**os.environ, "MMPI_VENUE__ACK_TIMEOUT_S": "7"}), out)
    monkeypatch.setattr(module, "ROOT", os.getuid())
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    monkeypatch.setattr("mmpi.config.resolved._refuse_strangers", lambda _: None)
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    return out


def test_a_service_takes_roots_word(by_root: Path, checks: list[list[str]]) -> None:
    """A service that is not root reads what root resolved, whatever its own environment says, and checks nothing."""
    assert resolved(None, Box).venue.ack_timeout_s == 7
    assert checks == []
    assert list(by_root.parent.iterdir()) == [by_root]


@pytest.mark.parametrize("case", ["by hand", "as root", "writable for the group", "another user's", "a link"])
def test_whose_word_is_not_taken(
    by_root: Path, checks: list[list[str]], monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    """By hand and as root the configuration is checked as ever, and so it is where others may have written it."""
    if case == "by hand":
        monkeypatch.delenv("NOTIFY_SOCKET")
    elif case == "as root":
        monkeypatch.setattr(os, "geteuid", os.getuid)
    elif case == "writable for the group":
        by_root.chmod(0o660)
    elif case == "another user's":
        monkeypatch.setattr(module, "ROOT", os.getuid() + 2)
    else:
        by_root.rename(by_root.with_name("elsewhere"))
        by_root.symlink_to(by_root.with_name("elsewhere"))
    assert resolved(None, Box).venue.ack_timeout_s != 7
    assert len(checks) == 1


def test_each_service_has_its_own_secrets(
    run_dir: Path, checks: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Credentials of one service are not in the file, and the other's start is no reason to check again."""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", CREDENTIALS)
    assert resolved(None, Box).paths.secrets_dir == CREDENTIALS
    usual = str(run_dir.parent / "state" / "secrets")
    assert load_resolved(run_dir / "config.json", Box).paths.secrets_dir == usual
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials/other")
    assert resolved(None, Box).paths.secrets_dir == "/run/credentials/other"
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    assert resolved(None, Box).paths.secrets_dir == usual
    assert len(checks) == 1


@pytest.mark.usefixtures("run_dir")
def test_the_name_of_the_box_is_an_input(checks: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody chose and the machine decides is checked again when it changes, and only then."""
    monkeypatch.setattr("mmpi.folders._host_name", lambda: "one")
    assert (resolved(None, Box).device_id, resolved(None, Box).device_id) == ("one", "one")
    monkeypatch.setattr("mmpi.folders._host_name", lambda: "another")
    assert resolved(None, Box).device_id == "another"
    assert len(checks) == 2


def test_a_chosen_folder_of_secrets_wins(
    run_dir: Path, checks: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who writes secrets.dir means it, credentials or not."""
    monkeypatch.setenv("MMPI_SECRETS__DIR", str(run_dir / "keys"))
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", CREDENTIALS)
    assert resolved(None, Box).paths.secrets_dir == str(run_dir / "keys")
    assert len(checks) == 1


@pytest.mark.parametrize(
    ("secrets_dir", "environ", "found"),
    [
        ("/s/secrets", {}, "/s/secrets"),
        ("/s/secrets", {"CREDENTIALS_DIRECTORY": "/c"}, "/c"),
        ("/s/secrets", {"CREDENTIALS_DIRECTORY": "c"}, "/s/secrets"),
        ("/keys", {"CREDENTIALS_DIRECTORY": "/c"}, "/keys"),
    ],
)
def test_where_secrets_are(secrets_dir: str, environ: dict[str, str], found: str) -> None:
    """The usual folder gives way to credentials, a chosen one does not, and a relative path is none."""
    assert secrets_folder(secrets_dir, "/s", environ) == found


def test_roots_word_that_is_damaged(by_root: Path) -> None:
    """A service says which file it could not read."""
    by_root.write_text("{")
    with pytest.raises(ConfigError, match=r"config\.json: .*run: mmpi check --resolve"):
        resolved(None, Box)
