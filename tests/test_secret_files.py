"""mmpi.runtime.secret_files: keys are read only from files that nobody else may read, and never shown."""

from pathlib import Path

import pytest

from mmpi.errors import ConfigError
from mmpi.runtime.secret_files import read_secret

KEY = "0x" + "5e" * 32


def key_file(folder: Path, content: bytes = KEY.encode() + b"\n", mode: int = 0o600) -> Path:
    """Return a key file."""
    path = folder / "quoter.key"
    path.write_bytes(content)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_private_file_is_read(tmp_path: Path, mode: int) -> None:
    """The text comes without the white space around it."""
    assert read_secret(key_file(tmp_path, f"  {KEY}\r\n".encode(), mode)) == KEY


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o606, 0o601, 0o777])
def test_a_file_for_others_is_refused(tmp_path: Path, mode: int) -> None:
    """Any right of group or others is an error that names the file, the mode and the remedy, and not the key."""
    path = key_file(tmp_path, mode=mode)
    with pytest.raises(ConfigError) as caught:
        read_secret(path)
    assert str(caught.value) == (
        f"{path}: mode {mode:04o} lets others read a secret; allowed: 0600 (chmod 600 {path})"
    )


def test_no_file(tmp_path: Path) -> None:
    """A missing key says how to make one for practice."""
    with pytest.raises(ConfigError) as caught:
        read_secret(tmp_path / "quoter.key")
    assert str(caught.value) == (
        f"{tmp_path}/quoter.key: no such file; for practice make one with: mmpi practice keys --out {tmp_path}"
    )


@pytest.mark.parametrize("content", [b"", b" \n\t\n"])
def test_an_empty_file(tmp_path: Path, content: bytes) -> None:
    """An empty key is named as such."""
    path = key_file(tmp_path, content)
    with pytest.raises(ConfigError) as caught:
        read_secret(path)
    assert str(caught.value) == f"{path}: is empty; allowed: one secret on one line"


def test_what_is_no_file(tmp_path: Path) -> None:
    """A folder in a key's place, or a file in the folder's, is one clear error."""
    with pytest.raises(ConfigError, match=f"{tmp_path}: cannot be read: Is a directory"):
        read_secret(tmp_path)
    path = key_file(tmp_path)
    with pytest.raises(ConfigError, match="key/x: cannot be read: Not a directory"):
        read_secret(path / "x")


def test_other_bytes_are_not_a_crash(tmp_path: Path) -> None:
    """Bytes that are no text come as some text, which is no key; a huge file is not read whole."""
    assert "\ufffd" in read_secret(key_file(tmp_path, b"\xff\xfe"))
    assert len(read_secret(key_file(tmp_path, b"x" * 10**6))) == 4096
