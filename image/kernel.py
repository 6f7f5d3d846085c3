"""Kernel: image, modules and initial file system of a slot, from the kernel's package.

Invariant: the modules are those of the list in packages.toml and what they need, and nothing of the host is in it.
It must not know the other parts of the image.
"""

import gzip
import lzma
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Final

from image.archive import Tree, cpio, file, folder, from_tar, link
from image.builder import Builder
from image.debian import UnavailableError

HERE: Final = Path(__file__).resolve().parent
INDEXES: Final = ("modules.order", "modules.builtin", "modules.builtin.modinfo")
CHECKER: Final = ("usr/sbin/e2fsck", "lib/ld-linux-aarch64.so.1")
CHECKER_LIBRARIES: Final = (
    "libblkid.so.1", "libc.so.6", "libcom_err.so.2", "libe2p.so.2", "libext2fs.so.2", "libuuid.so.1",
)  # fmt: skip
"""What e2fsck of Debian's e2fsprogs is linked against (readelf -d), and what those are."""
LIBRARIES: Final = "usr/lib/aarch64-linux-gnu"


class Kernel:
    """One kernel package, unpacked, with its index of what needs what."""

    def __init__(self, package: Tree, builder: Builder, scratch: Path) -> None:
        (self.image,) = (entry.data for path, entry in package.items() if path.startswith("boot/vmlinuz-"))
        (self.release,) = {path.split("/")[3] for path in package if path.startswith("usr/lib/modules/")}
        self._base: Final = f"usr/lib/modules/{self.release}"
        self._files: Final = {
            path.removeprefix(f"{self._base}/"): entry.data
            for path, entry in package.items()
            if path.startswith(f"{self._base}/")
        }
        self._builder, self._scratch = builder, scratch
        indexed = self._indexed(self._files)
        found = re.findall(r"^(.*?):(.*)$", indexed["modules.dep"].decode(), re.MULTILINE)
        self._needs: Final = {path: line.split() for path, line in found}
        self._paths: Final = {_name(path): path for path in self._needs}
        self._builtin: Final = {_name(path) for path in self._files["modules.builtin"].decode().split()}

    def closure(self, names: Iterable[str]) -> list[str]:
        """Return the paths of modules and all that they need, each after what it needs; built-in ones have none."""
        ordered: dict[str, None] = {}
        for name in names:
            path = self._paths.get(_plain(name))
            if path is None:
                if _plain(name) not in self._builtin:
                    raise UnavailableError(f"packages.toml: the kernel {self.release} has no module {name!r}")
                continue
            for each in (*reversed(self._needs[path]), path):
                ordered.setdefault(each)
        return list(ordered)

    def modules(self, names: Iterable[str]) -> Tree:
        """Return the tree of modules as the running system looks for them."""
        chosen = {path: self._files[path] for path in self.closure(names)}
        indexed = self._indexed(chosen | {name: self._files[name] for name in INDEXES})
        return {f"{self._base}/{path}": file(data) for path, data in (chosen | indexed).items()}

    def initrd(self, names: Iterable[str], root: Mapping[str, bytes], busybox: bytes) -> bytes:
        """Return the initial file system; `root`: files of the target by path, of which e2fsck and its libraries."""
        tree: Tree = {
            "init": file((HERE / "initrd" / "init").read_bytes(), 0o755),
            "bin/busybox": file(busybox, 0o755),
            "bin/e2fsck": file(root["usr/sbin/e2fsck"], 0o755),
            "lib/ld-linux-aarch64.so.1": file(root[f"{LIBRARIES}/ld-linux-aarch64.so.1"], 0o755),
            "dev": folder(),
            "proc": folder(),
            "sys": folder(),
            "run": folder(),
            "new": folder(),
            "usr/lib": link("../lib"),
        }
        for name in CHECKER_LIBRARIES:
            tree[f"lib/aarch64-linux-gnu/{name}"] = file(root[f"{LIBRARIES}/{name}"])
        listed = []
        for path in self.closure(names):
            tree[f"modules/{_name(path)}.ko"] = file(lzma.decompress(self._files[path]))
            listed.append(_name(path))
        tree["modules/list"] = file("".join(f"{name}\n" for name in listed))
        return cpio(tree)

    def _indexed(self, files: Mapping[str, bytes]) -> dict[str, bytes]:
        """Return what depmod makes of these modules, by name."""
        base = self._scratch / "depmod" / "lib" / "modules" / self.release
        for path, data in files.items():
            (base / path).parent.mkdir(parents=True, exist_ok=True)
            (base / path).write_bytes(data)
        self._builder.run(self._scratch / "depmod", "depmod", "-b", "/mnt", self.release)
        made = {path.name: path.read_bytes() for path in base.glob("modules.*") if path.name not in files}
        shutil.rmtree(self._scratch / "depmod")
        return made


def uimages(kernel: Kernel, initrd: bytes, builder: Builder, scratch: Path) -> tuple[bytes, bytes]:
    """Return kernel and initial file system as U-Boot takes them, each with a checksum that it looks at."""
    (scratch / "kernel.gz").write_bytes(gzip.compress(kernel.image, 9, mtime=0))
    (scratch / "initrd").write_bytes(initrd)
    builder.script(scratch, "cd /mnt; zstd -q -19 -T1 initrd -o initrd.zst")
    for source, kind, compressed, name in (
        ("kernel.gz", "kernel_noload", "gzip", "kernel"),
        ("initrd.zst", "ramdisk", "none", "initrd"),
    ):
        builder.run(
            scratch, "mkimage", "-A", "arm64", "-O", "linux", "-T", kind, "-C", compressed, "-a", "0", "-e", "0", "-n",
            name, "-d", f"/mnt/{source}", f"/mnt/{name}.uimg",
        )  # fmt: skip
    return (scratch / "kernel.uimg").read_bytes(), (scratch / "initrd.uimg").read_bytes()


def package_of(data: bytes) -> Tree:
    """Return what is wanted of the kernel's package, from its tar."""
    return from_tar(data, ("boot/vmlinuz-", "usr/lib/modules/", "usr/lib/linux-image-"))


def _name(path: str) -> str:
    """Return a module's name as lists have it."""
    return _plain(PurePosixPath(path).name.partition(".ko")[0])


def _plain(name: str) -> str:
    return name.replace("-", "_")
