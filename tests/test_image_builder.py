"""image/: the parts of the builder that need no builder: lock, stages, boot state, bill of materials, root's rules."""

import json
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

import pytest

from image import lock, root, sbom
from image.archive import file
from image.card import LAYOUT, MIB, SIZE, STATE, STATE_APART, STATE_COPY, state
from image.debian import Package, UnavailableError
from image.stage import Stage, Stages, Work
from image.wheels import LOCK as WHEELS

ONE = Package("chrony", "4.6.1-3", "arm64", "ab" * 32, 1234, "pool/main/c/chrony/chrony_4.6.1-3_arm64.deb")
TWO = ONE._replace(name="nftables", sha256="cd" * 32)


def test_a_lock_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Role, name, version, architecture, hash, size and path come back, and the date."""
    found = lock.Lock(86_400, {"target": [TWO, ONE], "builder": [ONE]})
    path = tmp_path / "packages.lock"
    path.write_text(lock.text(found))
    assert lock.load(path) == lock.Lock(86_400, {"target": [ONE, TWO], "builder": [ONE]})


@pytest.mark.parametrize("line", ["target chrony 1 arm64", "other a b c " + "0" * 64 + " 1 p", "epoch soon"])
def test_a_wrong_line_is_named(tmp_path: Path, line: str) -> None:
    """One clear error with the line's number."""
    path = tmp_path / "packages.lock"
    path.write_text(f"# comment\n{line}\n")
    with pytest.raises(UnavailableError, match="line 2"):
        lock.load(path)


def test_what_moved_is_listed() -> None:
    """Another version, a package that is gone and one that is new each have a line; what is the same has none."""
    new = [ONE._replace(version="4.6.1-4", sha256="ef" * 32), TWO._replace(name="iwd")]
    assert lock.differences([ONE, TWO], new) == [
        "chrony: locked 4.6.1-3, now 4.6.1-4",
        "iwd: locked not, now 4.6.1-3",
        "nftables: locked 4.6.1-3, now gone",
    ]
    assert lock.differences([ONE], [ONE]) == []


def test_the_shipped_lock_fits_what_is_wanted() -> None:
    """Every package that packages.toml names is locked, and nothing that it leaves out."""
    found, wanted = lock.load(), lock.wanted()
    for role in lock.ROLES:
        names = {package.name for package in found.packages[role]}
        missing = set(wanted[role]["packages"]) - set(wanted[role]["without"]) - names - {"linux-image-arm64"}
        assert missing == set()
        assert names & set(wanted[role]["without"]) == set()
    assert found.epoch % lock.DAY_S == 0 and found.epoch > 0
    assert "://" not in lock.LOCK.read_text()


def stages(tmp_path: Path, data: dict[str, bytes], made: list[str]) -> Stages:
    """Return two stages, the second of which needs the first; `made` gets the names of those that run."""

    def make(work: Work) -> None:
        made.append(work.folder.name)
        before = b"".join((folder / "out").read_bytes() for folder in work.before.values())
        (work.folder / "out").write_bytes(before + data["first"])

    def inputs() -> Mapping[str, bytes]:
        return {"in": data["first"]}

    both = (Stage("first", "one", (), inputs, make), Stage("second", "two", ("first",), dict, make))
    return Stages(both, tmp_path / "cache", tmp_path, quiet=True)


def test_a_stage_runs_when_something_changed(tmp_path: Path) -> None:
    """Once for the same inputs, again for other ones with all that needs it; what was made before is found again."""
    made: list[str] = []
    assert (stages(tmp_path, {"first": b"a"}, made).run("second") / "out").read_bytes() == b"aa"
    stages(tmp_path, {"first": b"a"}, made).run("second")
    assert len(made) == 2
    assert (stages(tmp_path, {"first": b"b"}, made).run("second") / "out").read_bytes() == b"bb"
    stages(tmp_path, {"first": b"a"}, made).run("second")
    assert len(made) == 4


def test_a_stage_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """A broken-off result is never taken for one."""

    def make(work: Work) -> None:
        (work.folder / "half").write_bytes(b"")
        raise UnavailableError("no")

    broken = Stages((Stage("a", "a", (), dict, make),), tmp_path, tmp_path, quiet=True)
    for _ in range(2):
        with pytest.raises(UnavailableError):
            broken.run("a")
    assert list(tmp_path.iterdir()) == []


def test_the_boot_state_is_libubootenvs() -> None:
    """Two copies, CRC-32 over all but the first five bytes, the first one newer; variables end with two zeros."""
    data = state()
    assert len(data) == STATE.size * MIB
    for number, flag in ((0, 1), (1, 0)):
        copy = data[number * STATE_APART :][:STATE_COPY]
        crc, found = struct.unpack("<IB", copy[:5])
        assert (crc, found) == (zlib.crc32(copy[5:]), flag)
        assert copy[5:].startswith(b"BOOT_A_LEFT=3\0BOOT_B_LEFT=3\0BOOT_ORDER=A B\0\0")


def test_partitions_do_not_overlap() -> None:
    """Inside the extended one each has room for its own table before it; all begin on 4 MiB; the data is the last."""
    places = sorted((each for each in LAYOUT if each.number != 4), key=lambda each: each.start)
    for before, after in zip(places, places[1:], strict=False):
        assert before.start + before.size + (4 if after.number >= 5 else 0) <= after.start
    assert all(each.start % 4 == 0 for each in LAYOUT)
    assert places[-1].number == 3 and places[-1].start + places[-1].size <= SIZE


def test_the_bill_of_materials_is_the_same_twice() -> None:
    """Every package and wheel with its version and hash, without a time of its own."""
    found = lock.Lock(86_400, {"target": [ONE, TWO], "builder": []})
    text = sbom.cyclonedx(found, WHEELS.read_text(), ("setuptools",), "1.2")
    bill = json.loads(text)
    assert text == sbom.cyclonedx(found, WHEELS.read_text(), ("setuptools",), "1.2")
    names = {component["name"]: component for component in bill["components"]}
    assert names["chrony"]["hashes"] == [{"alg": "SHA-256", "content": "ab" * 32}]
    assert names["msgspec"]["properties"] and "setuptools" not in names
    assert bill["metadata"]["timestamp"] == "1970-01-02T00:00:00Z"


def test_settings_hold_no_identity() -> None:
    """No machine id, no key, and everything that may change is a link to the data or memory."""
    tree = root.settings(86_400)
    assert tree["etc/machine-id"].data == b"uninitialized\n"
    assert tree["etc/mmpi"].data == b"/data/settings/mmpi"
    assert not [path for path in tree if "ssh_host" in path or path.endswith(".key")]
    with pytest.raises(UnavailableError, match="locked password"):
        root._locked({"etc/passwd": file("root:secret:0:0::/:/bin/sh\n")}, 0)
