"""Archive: an initial file system for the kernel, as bytes.

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
    """What stands at a path: its mode with the type bits, and its bytes (of a link: where it points to)."""

    mode: int
    data: bytes = b""


Tree = dict[str, Entry]
"""Path without a leading slash -> entry. Folders need not be named."""


def file(data: bytes | str, mode: int = 0o644) -> Entry:
    """Return a plain file's entry."""
    return Entry(stat.S_IFREG | mode, data.encode() if isinstance(data, str) else data)


def link(target: str) -> Entry:
    """Return a symbolic link's entry."""
    return Entry(LINK, target.encode())


def from_tar(data: bytes, wanted: Iterable[str] = ("",)) -> Tree:
    """Return a tar archive's files and links under the prefixes `wanted`; hard links become copies."""
    prefixes = tuple(wanted)
    tree: Tree = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            path = member.name.removeprefix("./").strip("/")
            if not path.startswith(prefixes):
                continue
            if member.issym():
                tree[path] = link(member.linkname)
            elif member.isreg() or member.islnk():
                content = archive.extractfile(member)
                assert content is not None
                tree[path] = file(content.read(), member.mode & 0o777)
    return tree


def cpio(tree: Mapping[str, Entry]) -> bytes:
    """Return the archive of a tree, every folder of it included, owned by root, without times."""
    entries = dict(tree)
    for path in tree:
        for parent in PurePosixPath(path).parents:
            if parent.name:
                entries.setdefault(parent.as_posix(), Entry(DIRECTORY))
    out = io.BytesIO()
    for number, path in enumerate(sorted(entries), 1):
        _write(out, number, path, entries[path])
    _write(out, 0, "TRAILER!!!", Entry(0))
    out.write(bytes(-out.tell() % 512))
    return out.getvalue()


def _write(out: io.BytesIO, inode: int, path: str, entry: Entry) -> None:
    name = path.encode() + b"\0"
    links = 2 if entry.mode == DIRECTORY else 1
    fields = (inode, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, 0, 0, len(name), 0)
    out.write(b"070701" + b"".join(b"%08x" % field for field in fields) + name)
    out.write(bytes(-out.tell() % 4))
    out.write(entry.data)
    out.write(bytes(-out.tell() % 4))
