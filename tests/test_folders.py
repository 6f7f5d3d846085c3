"""mmpi.folders: which file counts, where things are kept, and that the quick answer is the configuration's answer."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmpi import folders
from mmpi.config import load_config
from mmpi.errors import ConfigError
from mmpi.folders import automatic, config_file, path_setting, practice_registry


@pytest.fixture
def user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be an ordinary user."""
    monkeypatch.setattr(os, "geteuid", lambda: 1234)


def test_which_file_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line wins over MMPI_CONFIG, that over the installed file; without any there is none."""
    installed = tmp_path / "installed.toml"
    monkeypatch.setattr(folders, "INSTALLED_CONFIG", installed)
    environ = {"MMPI_CONFIG": "/from/environment"}
    assert config_file(Path("/chosen"), environ) == Path("/chosen")
    assert config_file(None, environ) == Path("/from/environment")
    assert config_file(None, {"MMPI_CONFIG": ""}) is None
    installed.write_text("")
    assert config_file(None, {}) == installed


@pytest.mark.usefixtures("user")
@pytest.mark.parametrize(
    ("environ", "state", "runtime"),
    [
        ({"HOME": "/home/u"}, "/home/u/.local/state/mmpi", "/tmp/mmpi-1234"),
        ({"HOME": "/home/u", "XDG_STATE_HOME": "/s/", "XDG_RUNTIME_DIR": "/r"}, "/s/mmpi", "/r/mmpi"),
        ({"HOME": "/home/u", "XDG_STATE_HOME": "s", "TMPDIR": "/t/"}, "/home/u/.local/state/mmpi", "/t/mmpi-1234"),
        ({}, "/tmp/mmpi-1234/state", "/tmp/mmpi-1234"),
    ],
)
def test_a_users_folders(environ: dict[str, str], state: str, runtime: str) -> None:
    """A user's folders are those of the XDG specification, whose relative values do not count."""
    found = automatic(environ, "")
    assert (found["paths.state_dir"][0], found["paths.runtime_dir"][0]) == (state, runtime)
    assert found["secrets.dir"][0] == f"{state}/secrets"


def test_the_services_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Root has the folders of the installed service, whatever its environment says; credentials come from systemd."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    found = automatic({"XDG_RUNTIME_DIR": "/r", "CREDENTIALS_DIRECTORY": "/run/credentials/x"}, "")
    assert found["paths.state_dir"] == ("/var/lib/mmpi", "default")
    assert found["paths.runtime_dir"] == ("/run/mmpi", "default")
    assert found["secrets.dir"] == ("/run/credentials/x", "environment CREDENTIALS_DIRECTORY")


def test_practice_accounts_are_a_users(tmp_path: Path) -> None:
    """The registry of practice accounts does not depend on the box's folders."""
    assert practice_registry({"XDG_STATE_HOME": "/s", "MMPI_PATHS__STATE_DIR": "/x"}) == Path(
        "/s/mmpi-practice/agents.json"
    )
    assert practice_registry({"HOME": str(tmp_path)}) == tmp_path / ".local/state/mmpi-practice/agents.json"
    assert practice_registry({}) == Path("/tmp/.local/state/mmpi-practice/agents.json")


FOLDER = st.sampled_from(["", "/a", "/b/c", "/d/"])


@given(
    file=st.none() | st.fixed_dictionaries({"state_dir": FOLDER, "runtime_dir": FOLDER}),
    environ=st.dictionaries(
        st.sampled_from(
            ["HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR", "TMPDIR", "MMPI_PATHS__STATE_DIR", "MMPI_PATHS__RUNTIME_DIR"]
        ),
        st.sampled_from(["/x", "/y/z"]),
    ),
)
def test_the_quick_answer_is_the_configurations(
    tmp_path_factory: pytest.TempPathFactory, file: dict[str, str] | None, environ: dict[str, str]
) -> None:
    """`mmpi kill` looks for the guardian exactly where the checked configuration puts it."""
    path = None
    if file is not None:
        path = tmp_path_factory.getbasetemp() / "folders.toml"
        path.write_text("[paths]\n" + "".join(f'{key} = "{value}"\n' for key, value in file.items()))
    paths = load_config(path, environ).settings.paths
    assert path_setting("state_dir", path, environ) == Path(paths.state_dir)
    assert path_setting("runtime_dir", path, environ) == Path(paths.runtime_dir)


def test_the_quick_answer_passes_over_the_rest(tmp_path: Path) -> None:
    """A configuration that is wrong elsewhere does not keep the button from working."""
    file = tmp_path / "mmpi.toml"
    file.write_text('nonsense = 1\n[paths]\nruntime_dir = "/r"\nstate_dir = 7\n[risk]\ncapital = "x"\n')
    assert path_setting("runtime_dir", file, {}) == Path("/r")
    assert path_setting("state_dir", file, {"HOME": "/h"}) == path_setting("state_dir", None, {"HOME": "/h"})


@pytest.mark.parametrize(
    ("content", "text"),
    [(None, "no such file; without --config"), (b"paths = [", "mmpi.toml: "), (b"\xff", "mmpi.toml: ")],
)
def test_a_file_that_cannot_be_read(tmp_path: Path, content: bytes | None, text: str) -> None:
    """A file that is missing or no TOML is named, unless the environment says all that is asked for."""
    file = tmp_path / "mmpi.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=text):
        path_setting("runtime_dir", file, {})
    assert path_setting("runtime_dir", file, {"MMPI_PATHS__RUNTIME_DIR": "/r"}) == Path("/r")


def test_it_is_light() -> None:
    """Looking up a folder loads nothing of weight: a person waits for the orders to be gone."""
    code = (
        "import sys, mmpi.folders; "
        "print(*sorted({'asyncio', 'msgspec', 'pydantic', 'websockets', 'json', 'subprocess'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
