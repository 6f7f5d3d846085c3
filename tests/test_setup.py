"""The set-up as a whole: what it stores, wipes, arms, says and leaves alone."""

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from setup_builders import (
    GUARDIAN,
    LIVE,
    NOW,
    PAPER,
    PASSPHRASE,
    PLAIN,
    PRACTICE,
    QUOTER,
    SECRETS,
    VERSION,
    WIFI,
    Box,
    Sealer,
    opened,
)
from test_setup_files import ED25519

from mmpi.device.latch import Latch
from mmpi.errors import DeviceError
from mmpi.setup import card as card_module
from mmpi.setup import erasing
from mmpi.setup.arming import BY
from mmpi.setup.card import Card, is_fat, mount_point
from mmpi.setup.folder import FILL

PRIVATE = "-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0IHNlY3JldCBzZWNyZXQ\n-----END OPENSSH PRIVATE KEY-----\n"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for no disk."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(os, "sync", lambda: None)


def everything(root: Path) -> Box:
    """Return a new box with every file in its folder."""
    box = Box(root, mmpi__toml=PRACTICE, secrets__env=SECRETS, wifi__toml=WIFI, hostname="desk-1")
    box.put(authorized_keys=ED25519, RESULT__txt="old", secrets__env__example="x")
    return box


def stamps(*roots: Path) -> dict[str, tuple[int, int]]:
    """Return what every write changes, of everything below some folders."""
    paths = [path for root in roots for path in (root, *root.rglob("*"))]
    return {str(path): (path.lstat().st_mtime_ns, path.lstat().st_ino) for path in paths}


def latch(box: Box) -> tuple[bool, str]:
    """Return whether a box is latched, and by whom."""
    state = Latch(box.data / "mmpi" / "latch.json").load()
    return state.latched, state.by


# What is stored ---------------------------------------------------------------------------------------------------


def test_a_first_set_up(tmp_path: Path) -> None:
    """Everything is stored, secrets sealed and their files gone; the box is armed; the result says so."""
    box = everything(tmp_path)
    outcome = box.run().outcome
    applied = ("mmpi.toml", "secrets.env", "wifi.toml", "authorized_keys", "hostname")
    assert (outcome.ok, outcome.errors, outcome.at, outcome.first) == (True, (), int(NOW), True)
    assert outcome.applied == applied
    assert box.settings() == PLAIN | {
        "mmpi.toml": PRACTICE,
        "mmpi.wifi": WIFI + "hidden = false\n",
        "authorized_keys": ED25519 + "\n",
        "hostname": "desk-1\n",
    }
    assert box.names() == ["RESULT.txt", "authorized_keys", "hostname", "mmpi.toml", "secrets.env.example"]
    assert (latch(box), box.fills) == ((False, BY), 1)


def test_rights(tmp_path: Path) -> None:
    """Whatever the umask, each file and folder has the rights that it is to have."""
    box = everything(tmp_path)
    before = os.umask(0o077)
    try:
        box.run()
    finally:
        os.umask(before)
    modes = {
        path.relative_to(box.data).as_posix(): stat.S_IMODE(path.stat().st_mode)
        for path in box.data.rglob("*") if path.parts[-1] != "setup.json"
    }  # fmt: skip
    assert modes == {
        "mmpi": 0o2770, "mmpi/latch.json": 0o640, "settings": 0o755, "settings.1": 0o755, "settings.1/mmpi": 0o755,
        "settings.1/mmpi/mmpi.toml": 0o600, "settings.1/credstore": 0o700, "settings.1/authorized_keys": 0o644,
        "settings.1/hostname": 0o644,
    } | {f"settings.1/credstore/{name}": 0o600 for name in (*PLAIN, "mmpi.wifi")}  # fmt: skip
    assert os.readlink(box.data / "settings") == "settings.1"


def test_what_it_says(tmp_path: Path) -> None:
    """RESULT.txt in full, with the line ends of Notepad."""
    box = everything(tmp_path)
    box.run()
    assert box.result().replace("\r\n", "|") == (
        f"mmpi {VERSION}: set-up|Time by the box's clock: 2026-11-30 00:53:20 UTC||DONE: all is well.||"
        "OK   mmpi.toml: practice mode|"
        "OK   secrets.env: ACCOUNT, QUOTER_KEY, GUARDIAN_KEY stored, encrypted for this box; the file is wiped|"
        "OK   wifi.toml: stored, encrypted for this box; the file is wiped|"
        "OK   authorized_keys: 1 key may log in|OK   hostname: desk-1, from the next start on||"
        "Mode practice. The new box is armed, and begins to quote by itself.|"
        "Stored in the box: configuration, ACCOUNT, QUOTER_KEY, GUARDIAN_KEY, Wi-Fi, SSH keys, host name.||"
        f"Left alone, being examples: secrets.env.example||More: docs/setup.md of mmpi {VERSION}|"
    )
    assert "\n" not in box.result().replace("\r\n", "")


def test_an_unchanged_folder_is_left_alone(tmp_path: Path) -> None:
    """The next boot writes nothing at all, and asks neither the check nor the sealer."""
    box = everything(tmp_path)
    box.run()
    before, checked = stamps(box.folder, box.data), box.checked
    box.sealer.broken, box.now = "asked", NOW + 1000
    ended = box.run()
    assert (ended.outcome.ok, ended.outcome.applied, ended.outcome.first, ended.notes) == (True, (), False, ())
    assert (stamps(box.folder, box.data), box.checked) == (before, checked)


def test_without_a_folder_the_box_trades_on_paper(tmp_path: Path) -> None:
    """No folder at all is a first set-up, too: armed, nothing stored; then nothing is done any more."""
    box = Box(tmp_path)
    box.folder.rmdir()
    outcome = box.run().outcome
    assert (outcome.ok, outcome.first, latch(box)) == (True, True, (False, BY))
    assert sorted(os.listdir(box.data)) == ["mmpi", "setup.json"]
    before = stamps(box.data)
    assert box.run().outcome.ok
    assert stamps(box.data) == before
    assert not box.folder.exists()


def test_a_change_keeps_the_rest(tmp_path: Path) -> None:
    """What is not in the folder any more stays in force; the older generation is gone."""
    box = everything(tmp_path)
    box.run()
    (box.folder / "hostname").unlink()
    box.put(mmpi__toml=PAPER, authorized_keys="# nobody\n")
    outcome = box.run().outcome
    assert (outcome.ok, outcome.first) == (True, False)
    assert box.settings() == PLAIN | {
        "mmpi.toml": PAPER, "mmpi.wifi": WIFI + "hidden = false\n", "authorized_keys": "", "hostname": "desk-1\n",
    }  # fmt: skip
    assert sorted(os.listdir(box.data)) == ["mmpi", "settings", "settings.2", "setup.json"]
    assert "nobody may log in" in box.result()


def test_the_same_again_is_no_new_generation(tmp_path: Path) -> None:
    """Secrets that are stored already are wiped all the same, and sealed no second time."""
    box = everything(tmp_path)
    box.run()
    box.put(secrets__env=SECRETS)
    sealed = box.sealer.count
    assert box.run().outcome.applied == ("mmpi.toml", "secrets.env", "authorized_keys", "hostname")
    assert (box.sealer.count, os.readlink(box.data / "settings"), box.fills) == (sealed, "settings.1", 2)
    assert "secrets.env" not in box.names()


def test_another_version_looks_again(tmp_path: Path) -> None:
    """An update may refuse what was right before: nothing is changed then, and it says so."""
    box = everything(tmp_path)
    box.run()
    box.version, box.wrong = "10", ["mmpi.toml: venue.mode: gone"]
    assert box.errors() == ["mmpi.toml: venue.mode: gone"]
    assert box.settings()["mmpi.toml"] == PRACTICE
    assert "NOT DONE: nothing was changed" in box.result()


def test_what_is_right_again_is_told(tmp_path: Path) -> None:
    """After a wrong edit, the old folder is looked at anew, though the last one that was right was the same."""
    box = everything(tmp_path)
    box.run()
    box.put(hostname="-")
    assert len(box.errors()) == 1
    written = stamps(box.folder, box.data)
    assert len(box.errors()) == 1
    assert stamps(box.folder, box.data) == written
    box.put(hostname="desk-1")
    assert box.errors() == []
    assert "DONE: all is well." in box.result()


# Secrets ----------------------------------------------------------------------------------------------------------


def test_no_secret_is_anywhere(tmp_path: Path) -> None:
    """Planted secrets are in no file, outcome or note, after a good set-up and after a bad one."""
    box = everything(tmp_path)
    said = [repr(box.run())]
    box.put(secrets__env=SECRETS.replace("ACCOUNT=", "ACOUNT="), wifi__toml=WIFI + "x")
    said.append(repr(box.run()))
    paths = [path for path in tmp_path.rglob("*") if path.is_file() and path.name not in ("secrets.env", "wifi.toml")]
    said += [path.read_bytes().decode("latin-1") for path in paths]
    assert len(said) > 10
    assert [secret for secret in (QUOTER, GUARDIAN, PASSPHRASE) for text in said if secret[:16] in text] == []


def test_a_private_key_is_refused_and_wiped(tmp_path: Path) -> None:
    """It goes at once, as there is nothing to correct in it; everything else stays as it is."""
    box = Box(tmp_path, authorized_keys=PRIVATE, mmpi__toml=PAPER, secrets__env=SECRETS)
    assert [error.partition(",")[0] for error in box.errors()] == ["authorized_keys: holds a private key"]
    assert (box.names(), box.fills) == (["RESULT.txt", "mmpi.toml", "secrets.env"], 1)
    assert (box.settings(), box.latch()) == ({}, False)
    outcome = box.run().outcome
    assert (outcome.ok, outcome.first, box.latch()) == (True, True, True)


def test_a_secret_that_cannot_be_sealed_stays(tmp_path: Path) -> None:
    """Without encryption nothing is stored, wiped or armed."""
    box = everything(tmp_path)
    box.sealer.broken = "no systemd-creds here"
    ended = box.run()
    assert ended.outcome.errors == ("account: no systemd-creds here",)
    assert (box.settings(), box.latch(), box.fills) == ({}, False, 0)
    assert (box.folder / "secrets.env").read_text() == SECRETS
    assert "NOT ENDED" in box.result()
    box.sealer.broken = ""
    assert box.run().outcome.ok


def test_a_file_that_cannot_be_wiped_is_an_error(tmp_path: Path) -> None:
    """The settings are in force, but the box says what still lies on its card, and tries again at the next boot."""
    box = everything(tmp_path)

    def full(_: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    errors = box.run(fill=full).outcome.errors
    assert errors == ("secrets.env and wifi.toml: could not be wiped from the card: Input/output error",)
    assert box.settings()["mmpi.toml"] == PRACTICE
    ended = box.run()
    assert (ended.outcome.ok, box.fills) == (True, 1)
    assert "secrets.env: ACCOUNT, QUOTER_KEY, GUARDIAN_KEY stored" in box.result()


def test_wiping_overwrites_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """First a sector of zeros, then all of it to the end of the cluster, before it is cut to nothing and deleted."""
    path = tmp_path / "secrets.env"
    path.write_bytes(b"s" * 1000)
    seen: list[bytes] = []
    real = os.ftruncate
    monkeypatch.setattr(os, "fsync", lambda _: seen.append(path.read_bytes() if path.exists() else b"gone"))
    monkeypatch.setattr(os, "ftruncate", lambda file, size: (seen.append(b"cut"), real(file, size)))
    erasing.wipe(path)
    cluster = os.statvfs(tmp_path).f_frsize
    assert seen == [bytes(512) + b"s" * 488, bytes(1000), bytes(-(-1000 // cluster) * cluster), b"cut", b"", b"gone"]
    erasing.wipe(path)


def test_the_free_space_is_filled_to_the_last_sector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large writes, then small ones, until the disk takes no more; files of a full size are followed by others."""
    room, most = 5 * 2**20 + 5000, 2 * 2**20
    written: dict[int, int] = {}
    real = os.write

    def write(file: int, data: bytes) -> int:
        inode = os.fstat(file).st_ino
        if written.get(inode, 0) + len(data) > most:
            raise OSError(errno.EFBIG, "too large")
        if sum(written.values()) + len(data) > room:
            raise OSError(errno.ENOSPC, "full")
        written[inode] = written.get(inode, 0) + len(data)
        return real(file, data)

    (tmp_path / FILL).write_bytes(b"of a power cut")
    (tmp_path / "mine").write_bytes(b"kept")
    said: list[str] = []
    monkeypatch.setattr(os, "write", write)
    erasing.fill(tmp_path, said.append)
    assert sum(written.values()) == 5 * 2**20 + 9 * 512
    assert sorted(os.listdir(tmp_path)) == ["mine"]
    assert said[0] == "wiping free space: 1 MiB"


# The latch --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("config", "armed"), [("", True), (PAPER, True), (PRACTICE, True), (LIVE, False)])
def test_who_is_armed(tmp_path: Path, config: str, armed: bool) -> None:
    """Play money arms a new box; real money never does, and the way to do it is told."""
    box = Box(tmp_path, mmpi__toml=config, secrets__env=SECRETS)
    assert box.run().outcome.ok
    assert box.latch() is armed
    assert ("live: hold the arm button at the box" in box.result()) is not armed


@pytest.mark.parametrize("content", ["", "{}", "armed"])
def test_a_latch_that_exists_is_not_touched(tmp_path: Path, content: str) -> None:
    """Not even one that nobody can read, which is latched."""
    box = Box(tmp_path, mmpi__toml=PAPER)
    (box.data / "mmpi").mkdir()
    path = box.data / "mmpi" / "latch.json"
    path.write_text(content)
    assert box.run().outcome.ok
    assert path.read_text() == content
    assert "armed" not in box.result()


def test_a_latch_that_is_lost_is_never_made_again(tmp_path: Path) -> None:
    """A press that found a full disk deletes the file (I3): no later set-up arms, by whatever change or lost record."""
    box = Box(tmp_path, mmpi__toml=PAPER)
    box.run()
    (box.data / "mmpi" / "latch.json").unlink()
    assert box.run().outcome.ok
    box.put(hostname="new")
    assert box.run().outcome.ok
    (box.data / "setup.json").write_text("broken")
    assert box.run().outcome.ok
    assert not box.latch()


def test_a_latch_of_a_persons_making_is_noted_once(tmp_path: Path) -> None:
    """Live, armed by hand, then lost, then paper: it stays latched."""
    box = Box(tmp_path, mmpi__toml=LIVE, secrets__env=SECRETS)
    box.run()
    Latch(box.data / "mmpi" / "latch.json").path.parent.mkdir()
    Latch(box.data / "mmpi" / "latch.json").arm("a person", "", 1)
    box.run()
    before = stamps(box.data)
    box.run()
    assert stamps(box.data) == before
    (box.data / "mmpi" / "latch.json").unlink()
    box.put(mmpi__toml=PAPER)
    assert box.run().outcome.ok
    assert not box.latch()


# Mounts and faults ------------------------------------------------------------------------------------------------


def test_the_card_is_writable_only_while_it_must_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read-only, it is opened once and closed again, also on failure; a boot with nothing to write leaves it alone."""
    box = everything(tmp_path)
    done: list[str] = []
    monkeypatch.setattr(card_module, "is_read_only", lambda _: True)
    monkeypatch.setattr(card_module, "mount_point", lambda _: Path("/card"))
    remount: Any = lambda point, how: done.append(f"{point} {how}")  # noqa: E731
    assert box.run(remount=remount).outcome.ok
    assert done == ["/card rw", "/card ro"]
    assert box.run(remount=remount).outcome.ok
    assert len(done) == 2
    box.put(secrets__env=SECRETS)

    def cut(_: Path) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        box.run(remount=remount, fill=cut)
    assert done[2:] == ["/card rw", "/card ro"]


def test_a_card_that_stays_read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be wiped is an error; a report that cannot be written is a note; the root is never remounted."""
    box = everything(tmp_path)
    monkeypatch.setattr(card_module, "is_read_only", lambda _: True)

    def fails(point: Path, how: str) -> None:
        raise DeviceError(f"{point.name}: mount -o remount,{how} failed: it is locked")

    monkeypatch.setattr(card_module, "mount_point", lambda _: Path("/card"))
    ended = box.run(remount=fails)
    locked = "card: mount -o remount,rw failed: it is locked"
    assert ended.outcome.errors == (f"secrets.env and wifi.toml: could not be wiped from the card: {locked}",)
    assert ended.notes[-1] == "card: mount -o remount,ro failed: it is locked"
    monkeypatch.setattr(card_module, "mount_point", lambda _: Path("/"))
    with Card(box.folder, fails) as card, pytest.raises(DeviceError, match="is on the root file system"):
        card.open_up()


def test_a_real_file_system_is_looked_up(tmp_path: Path) -> None:
    """This one is no FAT, and is mounted somewhere."""
    assert not is_fat(tmp_path)
    assert os.path.ismount(mount_point(tmp_path / "not" / "there"))


def test_data_that_are_not_there(tmp_path: Path) -> None:
    """A missing data folder is told, in the folder as well."""
    box = everything(tmp_path)
    box.data.rmdir()
    ended = box.run()
    assert ended.outcome.errors == (f"{box.data}: No such file or directory",)
    assert "NOT ENDED" in box.result()
    assert (box.folder / "secrets.env").exists()


def test_a_disk_that_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is in force then, and nothing is wiped; the next run does it."""
    box = everything(tmp_path)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        ended = box.run()
    assert ended.outcome.errors == ("No space left on device",)
    assert ended.notes == ("RESULT.txt: No space left on device",)
    assert (box.settings(), (box.folder / "secrets.env").exists()) == ({}, True)
    assert box.run().outcome.ok


def test_files_of_a_later_version_are_kept(tmp_path: Path) -> None:
    """What this version does not know of the settings in force is taken along."""
    box = everything(tmp_path)
    box.run()
    (box.data / "settings" / "later").mkdir()
    (box.data / "settings" / "later" / "x").write_text("y")
    box.put(hostname="other")
    box.run()
    assert opened(box.data, box.sealer)["x"] == "y"


def test_a_record_says_what_was_done(tmp_path: Path) -> None:
    """The record has the version and the time, and nothing of what was read."""
    box = everything(tmp_path)
    box.run()
    record = json.loads((box.data / "setup.json").read_text())
    digest = record.pop("digest")
    assert record == {
        "settings": "settings.1", "version": VERSION, "at": int(NOW), "first": False, "armed": True, "wipe": [],
        "said": {},
    }  # fmt: skip
    assert len(digest) == 64


def test_the_sealer_of_these_tests_is_honest() -> None:
    """It gives back what it sealed, under its own name alone, and never shows it."""
    sealer = Sealer()
    sealed = sealer.seal("x", b"secret")
    assert (sealer.unseal("x", sealed), b"secret" in sealed) == (b"secret", False)
    with pytest.raises(DeviceError):
        sealer.unseal("y", sealed)
