"""mmpi.setup.iwd: what a network becomes for iwd."""

from pathlib import Path

import pytest

from mmpi.setup.iwd import main, profile, profile_name
from mmpi.setup.wifi_file import Wifi, normalised

HOME = Wifi("My Home_5", "correct horse", "DE")


def test_names() -> None:
    """A name of plain characters stands as it is, any other one in hex."""
    assert profile_name("My Home_5") == "My Home_5.psk"
    assert profile_name("café") == "=636166c3a9.psk"
    assert profile_name("a.b") == "=612e62.psk"


def test_profiles() -> None:
    """A passphrase is escaped as iwd reads it, 64 digits are the key itself, a hidden network is looked for."""
    assert "Passphrase=correct horse\n" in profile(HOME)
    assert "Passphrase=\\sback\\\\slash\n" in profile(Wifi("x", " back\\slash", "DE"))
    assert f"PreSharedKey={'ab' * 32}\n" in profile(Wifi("x", "AB" * 32, "DE"))
    assert "Hidden=true" in profile(Wifi("x", "12345678", "DE", hidden=True)) and "Hidden" not in profile(HOME)


def test_the_service(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both files are written, the profile for root alone; that of another network goes; without a credential: 2."""
    credentials, state, config = tmp_path / "credentials", tmp_path / "state", tmp_path / "config"
    credentials.mkdir()
    state.mkdir()
    (state / "Old.psk").write_text("")
    words, environ = [str(state), str(config)], {"CREDENTIALS_DIRECTORY": str(credentials)}
    assert main(words, environ) == main(words, {}) == 2
    (credentials / "wifi").write_bytes(normalised(HOME))
    assert main(words, environ) == 0
    assert [path.name for path in state.iterdir()] == ["My Home_5.psk"]
    assert "Country=DE" in (config / "main.conf").read_text()
    (credentials / "wifi").write_text("ssid = 5\n")
    assert main(words, environ) == 2
    assert "correct" not in capsys.readouterr().err
