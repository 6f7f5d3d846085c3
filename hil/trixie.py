"""Trixie: the kernel and the Python of Debian 13 for arm64, unpacked from their packages without running any of them.

Packages come through apt, from the source that this machine's own apt has for Debian, into a private root under the
cache folder; wheels come through pip, by the hashes of requirements/run.txt. What was made is kept under a key of all
that it was made from, so that the next run asks nobody; delete the folder to get newer packages.

Invariant: nothing of the machine is changed, and nothing outside the cache folder is written.
It must not know what the guest runs.
"""

import hashlib
import lzma
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from image.archive import Tree, cpio, file, from_tar, link
from image.debian import Apt, UnavailableError, content
from image.wheels import LOCK, wheels

ROOT: Final = Path(__file__).resolve().parents[1]
SITE: Final = "usr/lib/python3/dist-packages"
"""Debian's Python looks here for modules."""
WHEELS: Final = (
    "backports-zstd",
    "coincurve",
    "colorzero",
    "gpiod",
    "gpiozero",
    "msgpack",
    "msgspec",
    "psutil",
    "safe-pysha3",
    "sdnotify",
    "websockets",
)
"""What quoter and guardian import."""
PACKAGES: Final = (
    "busybox-static",
    "libbz2-1.0",
    "libc6",
    "libexpat1",
    "libffi8",
    "libgcc-s1",
    "liblzma5",
    "libpython3.13-minimal",
    "libpython3.13-stdlib",
    "libssl3t64",
    "libstdc++6",
    "libuuid1",
    "libzstd1",
    "python3.13-minimal",
    "zlib1g",
)
MODULES: Final = ("crc16", "crc32c_generic", "mbcache", "jbd2", "ext4", "virtio_blk")
"""What a disk with ext4 takes, in the order in which it is loaded; the PCI bus and virtio on it are built in."""
KEPT: Final = 3
"""Guests kept in the cache, of 110 MB each; a change of this file or of the locked packages makes another."""
UNCOMPILED: Final = ("usr/lib/python3.13/idlelib/", "usr/lib/python3.13/test/", "usr/lib/python3.13/pydoc_data/")
UNPACKED: Final = ("usr/bin/", "usr/lib/", "etc/ssl/", "etc/python3")
INIT: Final = """\
#!/usr/bin/busybox sh
/usr/bin/busybox --install -s /usr/bin
mkdir -p /dev /proc /sys /run /tmp /root
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
mkdir -p /dev/pts /dev/shm
mount -t devpts pts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tmpfs run /run
ip link set lo up
hostname virtual-pi
cd /root
export HOME=/root PATH=/usr/bin PS1= PS2= TERM=dumb PYTHONPATH=/opt/mmpi PYTHONUNBUFFERED=1
exec setsid cttyhack sh -c 'stty -echo; echo "the guest is up"; exec sh -i' </dev/ttyAMA0 >/dev/ttyAMA0 2>&1
"""


def module_path(name: str) -> str:
    """Return where a kernel module lies in the guest, unpacked; it is not there if the kernel has it built in."""
    return f"usr/lib/modules/{name}.ko"


class Base(NamedTuple):
    """The guest without our own files."""

    kernel: Path
    initramfs: Path


def cache() -> Path:
    """Return the folder that everything downloaded and made is kept in."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mmpi-hil"


def base() -> Base:
    """Return the guest's kernel and file system, made now if the cache has none; UnavailableError if that fails."""
    folder = cache() / f"base-{_key()}"
    made = Base(folder / "vmlinuz", folder / "initramfs")
    if folder.is_dir():
        return made
    cache().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache()) as name:
        fresh = Path(name)
        kernel, tree = _debian(fresh)
        tree |= {f"{SITE}/{path}": entry for path, entry in wheels(WHEELS, cache() / "pip").items()}
        done = fresh / "done"
        done.mkdir()
        (done / made.kernel.name).write_bytes(kernel)
        (done / made.initramfs.name).write_bytes(cpio(compiled(tree) | {"init": file(INIT, 0o755)}))
        try:
            done.rename(folder)
        except OSError:
            if not folder.is_dir():  # otherwise another run was quicker
                raise
    for old in sorted(cache().glob("base-*"), key=lambda path: path.stat().st_mtime)[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return made


def compiled(tree: Tree) -> Tree:
    """Return the tree with bytecode for its modules; as it is if this machine has another Python than the guest."""
    python = _python()
    if python is None:
        return tree
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        for path, entry in tree.items():
            if path.endswith(".py") and not path.startswith(UNCOMPILED):
                (place / path).parent.mkdir(parents=True, exist_ok=True)
                (place / path).write_bytes(entry.data)
        options = ("-q", "-j2", "--invalidation-mode=unchecked-hash", f"-s{place}", "-p/")
        # One file that does not compile (they exist: templates) is left to whoever imports it.
        subprocess.run([python, "-m", "compileall", *options, place], capture_output=True, check=False)
        made = {path.relative_to(place).as_posix(): file(path.read_bytes()) for path in place.rglob("*.pyc")}
    return tree | made


def _python() -> str | None:
    """Return an interpreter of this machine that makes the guest's bytecode."""
    for candidate in (sys.executable, shutil.which("python3.13"), ROOT / ".venv313" / "bin" / "python"):
        command = [str(candidate), "-c", "import sys; sys.exit(sys.version_info[:2] != (3, 13))"]
        with suppress(OSError):
            if subprocess.run(command, capture_output=True, check=False).returncode == 0:
                return str(candidate)
    return None


def _key() -> str:
    """Return the name of what this file and the locked requirements make."""
    sources = (Path(__file__), *(ROOT / "image" / name for name in ("archive.py", "debian.py", "wheels.py")), LOCK)
    parts = [b"bytecode" if _python() else b"", *(path.read_bytes() for path in sources)]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _debian(folder: Path) -> tuple[bytes, Tree]:
    """Return the kernel's image, and the tree of all other packages."""
    apt = Apt(folder, "arm64")
    apt.update()
    debs = folder / "debs"
    debs.mkdir()
    apt.download([apt.depends("linux-image-arm64", r"linux-image-\S+"), *PACKAGES], debs)
    tree: Tree = {"bin": link("usr/bin"), "lib": link("usr/lib"), "sbin": link("usr/bin")}
    kernel = b""
    for deb in sorted(debs.iterdir()):
        data = content(deb)
        if deb.name.startswith("linux-image-"):
            kernel, modules = _kernel(from_tar(data, ("boot/vmlinuz-", "usr/lib/modules/")))
            tree |= modules
        else:
            tree |= from_tar(data, UNPACKED)
    tree["usr/bin/python3"] = link("python3.13")
    return kernel, tree


def _kernel(package: Tree) -> tuple[bytes, Tree]:
    """Return the image of the kernel's package, and those of its modules that the guest may load."""
    (image,) = (entry.data for path, entry in package.items() if path.startswith("boot/vmlinuz-"))
    (builtin,) = (entry.data.decode() for path, entry in package.items() if path.endswith("/modules.builtin"))
    modules: Tree = {}
    for name in MODULES:
        if found := [path for path in package if path.endswith(f"/{name}.ko.xz")]:
            modules[module_path(name)] = file(lzma.decompress(package[found[0]].data))
        elif f"/{name}.ko\n" not in builtin:
            raise UnavailableError(f"the kernel has no module {name}")
    return image, modules
