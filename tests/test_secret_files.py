"""mmpi.runtime.secret_files: keys are read where nobody else may read or replace them, and never shown or dumped."""

import ctypes
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from mmpi.errors import ConfigError
from mmpi.runtime import secret_files
from mmpi.runtime.secret_files import folder_fault, keep_out_of_core_dumps, read_address, read_secret

ROOT = Path(__file__).resolve().parents[1]
KEY = "0x" + "5e" * 32
ADDRESS = "0x" + "Ab" * 20


def key_file(folder: Path, content: bytes = KEY.encode() + b"\n", mode: int = 0o600) -> Path:
    """Return a key file."""
    path = folder / "quoter.key"
    path.write_bytes(content)
    path.chmod(mode)
    return path


def refused(path: Path, **environ: str) -> str:
    """Return why a file is not read; never with the key in it."""
    with pytest.raises(ConfigError) as caught:
        read_secret(path, environ)
    assert "5e5e" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_private_file_is_read(tmp_path: Path, mode: int) -> None:
    """The text comes without the white space around it."""
    assert read_secret(key_file(tmp_path, f"  {KEY}\r\n".encode(), mode)) == KEY


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o606, 0o601, 0o777, 0o440])
def test_a_file_for_others_is_refused(tmp_path: Path, mode: int) -> None:
    """Any right of group or others is an error that names the file, the mode and the remedy, and not the key."""
    path = key_file(tmp_path, mode=mode)
    assert refused(path) == f"{path}: mode {mode:04o} lets others read a secret; allowed: 0600 (chmod 600 {path})"


def test_no_file(tmp_path: Path) -> None:
    """A missing key says how to make one for practice."""
    assert refused(tmp_path / "quoter.key") == (
        f"{tmp_path}/quoter.key: no such file; for practice make one with: mmpi practice keys --out {tmp_path}"
    )


def test_no_password(tmp_path: Path) -> None:
    """Of a broker's password nobody is told to make a venue's keys."""
    assert refused(tmp_path / "mqtt.password") == f"{tmp_path}/mqtt.password: no such file"


@pytest.mark.parametrize("content", [b"", b" \n\t\n"])
def test_an_empty_file(tmp_path: Path, content: bytes) -> None:
    """An empty key is named as such."""
    path = key_file(tmp_path, content)
    assert refused(path) == f"{path}: is empty; allowed: one secret on one line"


def test_what_is_no_file(tmp_path: Path) -> None:
    """A folder or a pipe in a key's place, or a file in the folder's, is one clear error, and nothing waits."""
    assert refused(tmp_path) == f"{tmp_path}: cannot be read: Is a directory"
    assert refused(key_file(tmp_path) / "x").endswith("key/x: cannot be read: Not a directory")
    os.mkfifo(tmp_path / "pipe", 0o600)
    assert refused(tmp_path / "pipe") == f"{tmp_path}/pipe: is not a regular file"


def test_other_bytes_are_not_a_crash(tmp_path: Path) -> None:
    """Bytes that are no text come as some text, which is no key; a huge file is not read whole."""
    assert "\ufffd" in read_secret(key_file(tmp_path, b"\xff\xfe"))
    assert len(read_secret(key_file(tmp_path, b"x" * 10**6))) == 4096


# Links and folders ------------------------------------------------------------------------------------------------


def test_a_link_is_as_safe_as_its_target(tmp_path: Path) -> None:
    """The target's mode counts, and the rights of the folders of link and target."""
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir(0o700)
    here.mkdir(0o700)
    target, link = key_file(there), here / "link"
    link.symlink_to(target)
    assert read_secret(link) == KEY
    target.chmod(0o644)
    assert "mode 0644 lets others read a secret" in refused(link)
    target.chmod(0o600)
    for folder in (there, here):
        folder.chmod(0o777)
        assert refused(link) == (
            f"{folder}: mode 0777 lets anyone put another key in its place; allowed: 0700 (chmod 700 {folder})"
        )
        folder.chmod(0o700)


@pytest.mark.parametrize(
    ("mode", "bad"), [(0o700, False), (0o755, False), (0o777, True), (0o1777, True), (0o702, True)]
)
def test_a_folder_that_anyone_may_write(tmp_path: Path, mode: int, bad: bool) -> None:
    """In a folder that anyone may write no key is safe, sticky or not: it need not be the owner's."""
    folder = tmp_path / "keys"
    folder.mkdir()
    folder.chmod(mode)
    assert bool(folder_fault(folder)) is bad
    path = key_file(folder)
    if bad:
        assert f"{folder}: mode {mode:04o} lets anyone" in refused(path)
    else:
        assert read_secret(path) == KEY


# Credentials of systemd -------------------------------------------------------------------------------------------


def credentials(tmp_path: Path, mode: int = 0o440) -> Path:
    """Return a credential in a folder as systemd makes them."""
    folder = tmp_path / "mmpi.service"
    folder.mkdir(0o700)
    path = key_file(folder, mode=mode)
    folder.chmod(0o550)
    return path


@pytest.mark.parametrize("mode", [0o400, 0o440, 0o600, 0o640])
def test_a_credential_is_read(tmp_path: Path, mode: int) -> None:
    """In systemd's folder the group bits are an ACL's mask: a file that they let read is read."""
    path = credentials(tmp_path, mode)
    assert read_secret(path, {"CREDENTIALS_DIRECTORY": str(path.parent)}) == KEY
    assert read_secret(path, {"CREDENTIALS_DIRECTORY": f"{path.parent}/"}) == KEY


@pytest.mark.parametrize("mode", [0o444, 0o404, 0o460, 0o660, 0o450])
def test_a_credential_for_the_world_is_refused(tmp_path: Path, mode: int) -> None:
    """More than reading by the group is refused in systemd's folder, too."""
    path = credentials(tmp_path, mode)
    assert refused(path, CREDENTIALS_DIRECTORY=str(path.parent)) == (
        f"{path}: mode {mode:04o}, owner {os.geteuid()}: others may read a secret; allowed in $CREDENTIALS_DIRECTORY: "
        "0400, or 0440 of root or of this user"
    )


@pytest.mark.parametrize("folder", ["", ".", "/", "{parent}", "{folder}/x", "relative"])
def test_only_the_very_folder_counts(tmp_path: Path, folder: str) -> None:
    """A credential's rights hold for no folder but the one that systemd named."""
    path = credentials(tmp_path)
    named = folder.format(folder=path.parent, parent=path.parent.parent)
    assert "mode 0440 lets others read a secret" in refused(path, CREDENTIALS_DIRECTORY=named)


def test_a_link_out_of_the_credentials_is_none(tmp_path: Path) -> None:
    """A link in systemd's folder to a file elsewhere has that file's rights."""
    folder, elsewhere = tmp_path / "mmpi.service", tmp_path / "elsewhere"
    folder.mkdir(0o700)
    elsewhere.mkdir(0o700)
    (folder / "quoter.key").symlink_to(key_file(elsewhere, mode=0o440))
    said = refused(folder / "quoter.key", CREDENTIALS_DIRECTORY=str(folder))
    assert "mode 0440 lets others read a secret" in said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
@pytest.mark.parametrize(("owner", "reader", "fine"), [(0, 0, True), (0, 77, True), (77, 77, True), (78, 77, False)])
def test_whose_credential_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: int, reader: int, fine: bool
) -> None:
    """A credential that its group may read is root's or ours; another user's is refused."""
    path = credentials(tmp_path)
    os.chown(path, owner, -1)
    monkeypatch.setattr(secret_files.os, "geteuid", lambda: reader)
    environ = {"CREDENTIALS_DIRECTORY": str(path.parent)}
    if fine:
        assert read_secret(path, environ) == KEY
    else:
        assert f"owner {owner}" in refused(path, **environ)


# Addresses --------------------------------------------------------------------------------------------------------


def test_an_address(tmp_path: Path) -> None:
    """An address comes in lower case."""
    assert read_address(key_file(tmp_path, f" {ADDRESS}\n".encode())) == ADDRESS.lower()


@pytest.mark.parametrize("text", [KEY, ADDRESS[2:], ADDRESS[:-1], ADDRESS + "0", "0x" + "g" * 40, "BTC"])
def test_no_address(tmp_path: Path, text: str) -> None:
    """What stands in an address's place is not shown: somebody may have put a key there."""
    path = key_file(tmp_path, text.encode())
    with pytest.raises(ConfigError) as caught:
        read_address(path)
    assert str(caught.value) == (
        f"{path}: not an address ({len(text)} characters, not shown); allowed: 0x and 40 hex digits"
    )


# Core dumps -------------------------------------------------------------------------------------------------------

ASK = """
import ctypes, resource
print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), *resource.getrlimit(resource.RLIMIT_CORE))
"""
"""3 is PR_GET_DUMPABLE."""
KEEP = "from mmpi.runtime.secret_files import keep_out_of_core_dumps as keep; assert keep()"
ABORT = """
import os, resource
hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
os.chdir({folder!r})
{keep}
os.abort()
"""


def python(code: str) -> str:
    """Return what a fresh interpreter prints."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=30).stdout


@pytest.mark.slow
def test_the_kernel_is_told_not_to_dump() -> None:
    """A process that keeps out of core dumps is not dumpable, and has a limit of zero; another is dumpable."""
    before, after = python(ASK).split(), python(KEEP + ASK).split()
    assert before[0] == "1"
    assert after == ["0", "0", before[2]]


@pytest.mark.slow
def test_an_abort_leaves_no_core(tmp_path: Path) -> None:
    """With every limit lifted the kernel dumps an aborted process, but not one that keeps out of core dumps."""

    def dumps(keep: str) -> bool:
        code = ABORT.format(folder=str(tmp_path), keep=keep)
        environ = os.environ | {"PYTHONPATH": str(ROOT)}
        child = os.posix_spawn(sys.executable, [sys.executable, "-c", code], environ)
        status = os.waitpid(child, 0)[1]
        assert os.WIFSIGNALED(status), status
        return os.WCOREDUMP(status)

    if not dumps(""):
        pytest.skip("this machine dumps no process: core_pattern or the hard limit forbids it")
    for core in tmp_path.iterdir():
        core.unlink()
    assert not dumps(KEEP)
    assert list(tmp_path.iterdir()) == []


def test_it_never_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no prctl, and the limit may not be changed, it says that dumps are possible."""

    def refuse(*_: object) -> None:
        raise ValueError("not allowed to raise maximum limit")

    class Library:
        """A C library without prctl."""

    monkeypatch.setattr(resource, "setrlimit", refuse)
    monkeypatch.setattr(ctypes, "CDLL", lambda _: Library())
    assert keep_out_of_core_dumps() is False
