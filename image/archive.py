"""Archive: a tree of files in memory, from tar, and as tar or as an initial file system for the kernel.

Invariant: the same tree gives the same bytes. It must not know what the files are for.

Source: kernel, Documentation/driver-api/early-userspace/buffer-format.rst: the "newc" form of cpio. Archives that
follow each other are unpacked one over the other.
"""

import io
import stat
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Final, NamedTuple

DIRECTORY: Final = stat.S_IFDIR | 0o755
LINK: Final = stat.S_IFLNK | 0o777


class Entry(NamedTuple):
    """What stands at a path: its mode with the type bits, its bytes (of a link: its target), and whose it is."""

    mode: int
    data: bytes = b""
    uid: int = 0
    gid: int = 0


Tree = dict[str, Entry]
"""Path without a leading slash -> entry. Folders need not be named."""


def file(data: bytes | str, mode: int = 0o644) -> Entry:
    """Return a plain file's entry."""
    return Entry(stat.S_IFREG | mode, data.encode() if isinstance(data, str) else data)


def link(target: str) -> Entry:
    """Return a symbolic link's entry."""
    return Entry(LINK, target.encode())


def folder(mode: int = 0o755, uid: int = 0, gid: int = 0) -> Entry:
    """Return a folder's entry."""
    return Entry(stat.S_IFDIR | mode, b"", uid, gid)


def from_tar(data: bytes, wanted: Iterable[str] = ("",), *, folders: bool = False) -> Tree:
    """Return a tar archive's files and links under the prefixes `wanted`; hard links become copies.

    With `folders`, folders and owners are taken over too; without, everything is root's and folders need not be named.
    """
    prefixes = tuple(wanted)
    tree: Tree = {}
    with tarfile.open(fileobj=io.BytesIO(data), encoding="utf-8") as archive:
        for member in archive:
            path = member.name.removeprefix("./").strip("/")
            if not path.startswith(prefixes):
                continue
            owner = (member.uid, member.gid) if folders else (0, 0)
            if member.issym():
                tree[path] = link(member.linkname)
            elif member.isreg() or member.islnk():
                content = archive.extractfile(member)
                assert content is not None
                mode = member.mode & (0o7777 if folders else 0o777)
                tree[path] = Entry(stat.S_IFREG | mode, content.read(), *owner)
            elif member.isdir() and folders and path:
                tree[path] = folder(member.mode & 0o7777, *owner)
    return tree


def tar(tree: Mapping[str, Entry], time: int) -> bytes:
    """Return the archive of a tree, every folder of it included; every time in it is `time` (Unix seconds)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT, encoding="utf-8") as archive:
        for path, entry in sorted(with_folders(tree).items()):
            info = tarfile.TarInfo(path)
            info.mode, info.mtime, info.uid, info.gid = stat.S_IMODE(entry.mode), time, entry.uid, entry.gid
            if stat.S_ISDIR(entry.mode):
                info.type = tarfile.DIRTYPE
            elif stat.S_ISLNK(entry.mode):
                info.type, info.linkname = tarfile.SYMTYPE, entry.data.decode()
            else:
                info.size = len(entry.data)
            archive.addfile(info, io.BytesIO(entry.data) if info.isreg() else None)
    return out.getvalue()


def with_folders(tree: Mapping[str, Entry]) -> Tree:
    """Return the tree with every folder that something stands in."""
    entries = dict(tree)
    for path in tree:
        for parent in PurePosixPath(path).parents:
            if parent.name:
                entries.setdefault(parent.as_posix(), Entry(DIRECTORY))
    return entries


def cpio(tree: Mapping[str, Entry]) -> bytes:
    """Return the archive of a tree, every folder of it included, owned by root, without times."""
    entries = with_folders(tree)
    out = io.BytesIO()
    for number, path in enumerate(sorted(entries), 1):
        _write(out, number, path, entries[path])
    _write(out, 0, "TRAILER!!!", Entry(0))
    out.write(bytes(-out.tell() % 512))
    return out.getvalue()


def _write(out: io.BytesIO, inode: int, path: str, entry: Entry) -> None:
    name = path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    fields = (inode, entry.mode, entry.uid, entry.gid, links, 0, len(entry.data), 0, 0, 0, 0, len(name), 0)
    out.write(b"070701" + b"".join(b"%08x" % field for field in fields) + name)
    out.write(bytes(-out.tell() % 4))
    out.write(entry.data)
    out.write(bytes(-out.tell() % 4))
