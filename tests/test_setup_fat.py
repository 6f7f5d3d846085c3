"""The set-up on a real FAT: mounted, remounted, wiped, and every byte of the card looked at afterwards."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from setup_builders import ACCOUNT, GUARDIAN, PAPER, PASSPHRASE, QUOTER, SECRETS, WIFI

from mmpi.setup.card import is_fat, is_read_only

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
SIZE = 34 * 2**20
"""The least that a FAT32 with clusters of 512 bytes takes."""
PLANTED = tuple(each.encode() for each in (QUOTER, GUARDIAN, ACCOUNT[2:], PASSPHRASE))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Return an empty FAT as on the image's card; skip where it could not be mounted."""
    if os.geteuid():
        pytest.skip("only root may mount")
    if (mkfs := shutil.which("mkfs.vfat", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")) is None:
        pytest.skip("no mkfs.vfat here: the system package dosfstools is missing")
    if shutil.which("modprobe"):
        subprocess.run(["modprobe", "vfat"], capture_output=True, check=False)
    if "vfat" not in Path("/proc/filesystems").read_text():
        pytest.skip("this kernel has no vfat")
    path = tmp_path / "card.fat"
    with path.open("wb") as file:
        file.truncate(SIZE)
    subprocess.run([mkfs, "-F", "32", "-s", "1", str(path)], capture_output=True, check=True)
    return path


@contextmanager
def mounted(image: Path, how: str) -> Iterator[Path]:
    """Give the mount point of a card, mounted "ro" or "rw"."""
    point = image.with_name("card")
    point.mkdir(exist_ok=True)
    # By hand, as `mount -o loop,ro` makes the device read-only, too, and no remount changes that.
    losetup = ["losetup", "--find", "--show", str(image)]
    device = subprocess.run(losetup, capture_output=True, text=True, check=True).stdout.strip()
    try:
        subprocess.run(["mount", "-t", "vfat", "-o", f"{how},umask=077", device, str(point)], check=True)
        try:
            yield point
        finally:
            subprocess.run(["umount", str(point)], check=True)
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


def edited(folder: Path, name: str, text: str) -> None:
    """Write a file as editors do: a new one in the old one's place, several times, the last one shorter."""
    for content in (text * 3, text + "# more", text):
        (folder / "editor.tmp").write_text(content)
        os.sync()
        (folder / name).unlink(missing_ok=True)
        (folder / "editor.tmp").rename(folder / name)


def found(image: Path) -> list[bytes]:
    """Return which of the planted secrets are anywhere on the card."""
    content = image.read_bytes()
    return [secret for secret in PLANTED if secret in content]


def set_up(point: Path, tmp_path: Path) -> "subprocess.CompletedProcess[str]":
    """Run the command as the service does, with a sealer that needs no systemd."""
    (tmp_path / "data").mkdir(exist_ok=True)
    places = ["--folder", point / "mmpi-setup", "--data", tmp_path / "data", "--result-file", tmp_path / "result"]
    code = (
        "import sys; sys.path.insert(0, 'tests'); from setup_builders import Sealer; from mmpi.commands import setup; "
        "setup.SystemdCreds = Sealer; from mmpi.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "setup", *map(str, places)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def test_nothing_of_a_secret_is_left_on_the_card(image: Path, tmp_path: Path) -> None:
    """Files, older versions of them and deleted copies are gone from every byte; the card is read-only again."""
    with mounted(image, "rw") as point:
        assert is_fat(point)
        folder = point / "mmpi-setup"
        folder.mkdir()
        edited(folder, "Secrets.env", SECRETS)
        edited(folder, "WIFI.TOML", WIFI)
        (folder / "mmpi.toml").write_bytes(PAPER.replace("\n", "\r\n").encode())
        (folder / "copy").write_text(SECRETS)
        (folder / "copy").unlink()
    assert found(image) == list(PLANTED)
    with mounted(image, "ro") as point:
        assert is_read_only(point)
        done = set_up(point, tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert is_read_only(point)
        assert sorted(os.listdir(point / "mmpi-setup")) == ["RESULT.txt", "mmpi.toml"]
        written = os.stat(point / "mmpi-setup").st_mtime_ns
        assert set_up(point, tmp_path).stdout == "nothing to do\n"
        assert os.stat(point / "mmpi-setup").st_mtime_ns == written
        assert os.statvfs(point).f_bavail > SIZE * 9 // 10 // 512
    assert found(image) == []
    fsck = subprocess.run(["/usr/sbin/fsck.vfat", "-n", str(image)], capture_output=True, text=True, check=False)
    assert fsck.returncode == 0, fsck.stdout


def test_a_folder_that_is_wrong_keeps_its_secrets(image: Path, tmp_path: Path) -> None:
    """RESULT.txt is written, and the card is read-only again; with the next good folder everything is gone."""
    with mounted(image, "rw") as point:
        (point / "mmpi-setup").mkdir()
        (point / "mmpi-setup" / "secrets.env").write_text(SECRETS)
        (point / "mmpi-setup" / "hostname").write_text("my.box")
    with mounted(image, "ro") as point:
        assert set_up(point, tmp_path).returncode == 2
        assert is_read_only(point)
        assert (point / "mmpi-setup" / "secrets.env").read_text() == SECRETS
        assert "hostname: value my.box" in (point / "mmpi-setup" / "RESULT.txt").read_text()
    with mounted(image, "rw") as point:
        (point / "mmpi-setup" / "hostname").write_text("my-box")
    with mounted(image, "ro") as point:
        assert set_up(point, tmp_path).returncode == 0
    assert found(image) == []


def test_a_card_without_room_for_a_report(image: Path, tmp_path: Path) -> None:
    """A full card still has its secrets wiped; only the report may be missing, and that is a note."""
    with mounted(image, "rw") as point:
        (point / "mmpi-setup").mkdir()
        (point / "mmpi-setup" / "secrets.env").write_text(SECRETS)
        with (point / "kernel").open("wb") as file, pytest.raises(OSError, match="No space left"):
            while True:
                file.write(b"k" * 2**20)
                file.flush()
    with mounted(image, "ro") as point:
        done = set_up(point, tmp_path)
        assert done.returncode == 0
        assert is_read_only(point)
    assert found(image) == []


def test_a_reset_by_a_file_of_the_card(image: Path, tmp_path: Path) -> None:
    """The file is gone from the card when everything else is gone from the data."""
    with mounted(image, "rw") as point:
        (point / "mmpi-setup").mkdir()
        (point / "mmpi-setup" / "FACTORY-RESET").write_text("")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "old").write_text("x")
    with mounted(image, "ro") as point:
        script = tmp_path / "bin" / "systemctl"
        script.parent.mkdir()
        script.write_text(f'#!/bin/sh\necho "$*" >{tmp_path}/asked\n')
        script.chmod(0o755)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
            assert set_up(point, tmp_path).returncode == 0
        assert sorted(os.listdir(point / "mmpi-setup")) == ["RESULT.txt"]
    assert (tmp_path / "asked").read_text() == "--no-block reboot\n"
    assert os.listdir(tmp_path / "data") == []
