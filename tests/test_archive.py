"""The archive of a guest's files: every file once, its folders before it, and the same bytes every time."""

import io
import stat
import tarfile
from collections.abc import Iterator

from image.archive import Entry, Tree, cpio, file, folder, from_tar, link, tar, with_folders

TREE: Tree = {"usr/bin/tool": file("#!/bin/sh\n", 0o755), "a": file(b"\0\1\2"), "bin": link("usr/bin")}


def entries(archive: bytes) -> Iterator[tuple[str, int, bytes]]:
    """Yield (name, mode, data) as the kernel's own reader would find them (init/initramfs.c)."""
    at = 0
    while True:
        assert archive[at : at + 6] == b"070701"
        fields = [int(archive[at + 6 + 8 * number : at + 14 + 8 * number], 16) for number in range(13)]
        mode, size, length = fields[1], fields[6], fields[11]
        name = archive[at + 110 : at + 110 + length - 1].decode()
        begin = at + (110 + length + 3 & ~3)
        if name == "TRAILER!!!":
            return
        yield name, mode, archive[begin : begin + size]
        at = begin + (size + 3 & ~3)


def test_what_goes_in_is_what_a_reader_finds() -> None:
    """Files with their modes, links with their targets, and folders ahead of what lies in them."""
    found = list(entries(cpio(TREE)))
    names = [name for name, _, _ in found]
    expected = {path: (entry.mode, entry.data) for path, entry in TREE.items()}
    assert {name: (mode, data) for name, mode, data in found if not stat.S_ISDIR(mode)} == expected
    assert names == ["a", "bin", "usr", "usr/bin", "usr/bin/tool"]


def test_the_order_of_a_tree_does_not_matter() -> None:
    """The same files give the same bytes, and an archive ends where another may begin."""
    assert cpio(TREE) == cpio(dict(reversed(TREE.items())))
    assert len(cpio(TREE)) % 4 == 0


def test_a_package_is_unpacked_in_part() -> None:
    """Only the wanted prefixes, without ./ in front; hard links become files, devices and folders are left out."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name in ("./usr/bin/tool", "./usr/share/doc"):
            member = tarfile.TarInfo(name)
            member.size, member.mode = 3, 0o755
            archive.addfile(member, io.BytesIO(b"abc"))
        for name, kind, target in (
            ("./usr/bin/same", tarfile.LNKTYPE, "./usr/bin/tool"),
            ("./usr/bin/short", tarfile.SYMTYPE, "tool"),
            ("./usr/bin/sub", tarfile.DIRTYPE, ""),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.mode = kind, target, 0o755
            archive.addfile(member)
    tree = from_tar(out.getvalue(), ("usr/bin/",))
    assert tree == {
        "usr/bin/tool": file(b"abc", 0o755),
        "usr/bin/same": file(b"abc", 0o755),
        "usr/bin/short": link("tool"),
    }


def test_tar_keeps_modes_owners_and_one_time() -> None:
    """What was written is read back, folders and owners too; every time in it is the one that was given."""
    tree = {**TREE, "home": folder(0o2770, 5, 6), "home/own": Entry(stat.S_IFREG | 0o600, b"x", 5, 6)}
    data = tar(tree, 1_000_000)
    assert from_tar(data, folders=True) == with_folders(tree)
    assert tar(dict(reversed(tree.items())), 1_000_000) == data
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert {member.mtime for member in archive} == {1_000_000}
