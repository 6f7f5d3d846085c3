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
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from hil.archive import Tree, cpio, file, from_tar, link

ROOT: Final = Path(__file__).resolve().parents[1]
LOCK: Final = ROOT / "requirements" / "run.txt"
KEYRING: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
SITE: Final = "usr/lib/python3/dist-packages"
"""Debian's Python looks here for modules."""
PLATFORMS: Final = ("manylinux2014_aarch64", "manylinux_2_24_aarch64", "manylinux_2_28_aarch64")
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
    "websockets",
)
"""What quoter and guardian import. sdnotify has no wheel: its one file is copied from the environment at hand."""
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


class UnavailableError(Exception):
    """This machine cannot make the guest; the text says why."""


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
        tree |= _wheels(fresh)
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
    sources = (Path(__file__), Path(__file__).with_name("archive.py"), LOCK)
    parts = [b"bytecode" if _python() else b"", *(path.read_bytes() for path in sources)]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _debian(folder: Path) -> tuple[bytes, Tree]:
    """Return the kernel's image, and the tree of all other packages."""
    apt = _apt(folder)
    _run(*apt, "update")
    depends = _run("apt-cache", *apt[1:], "depends", "linux-image-arm64")
    found = re.search(r"Depends: (linux-image-\S+)", depends)
    if found is None:
        raise UnavailableError("the Debian source has no kernel for arm64")
    debs = folder / "debs"
    debs.mkdir()
    _run(*apt, "download", found[1], *PACKAGES, cwd=debs)
    tree: Tree = {"bin": link("usr/bin"), "lib": link("usr/lib"), "sbin": link("usr/bin")}
    kernel = b""
    for deb in sorted(debs.iterdir()):
        data = subprocess.run(["dpkg-deb", "--fsys-tarfile", deb], capture_output=True, check=True).stdout
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


def _apt(folder: Path) -> tuple[str, ...]:
    """Return apt-get with a root of its own for arm64; the rest is as this machine's apt is set up."""
    for tool in ("apt-get", "apt-cache", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise UnavailableError(f"no {tool} on this machine")
    if not KEYRING.exists():
        raise UnavailableError(f"no {KEYRING}: Debian's keys are not on this machine")
    for part in ("state/lists/partial", "cache/archives/partial"):
        (folder / part).mkdir(parents=True)
    (folder / "status").touch()
    sources = folder / "trixie.list"
    sources.write_text(f"deb [arch=arm64 signed-by={KEYRING}] {_mirror()} trixie main\n")
    settings = {
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "APT::Sandbox::User": "root" if os.getuid() == 0 else "",
        "Dir::Cache": folder / "cache",
        "Dir::Etc::sourcelist": sources,
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State": folder / "state",
        "Dir::State::status": folder / "status",
    }
    return ("apt-get", "-qq", *(f"-o{key}={value}" for key, value in settings.items()))


def _mirror() -> str:
    """Return where this machine's apt gets Debian from."""
    wanted = ("--format", "$(ORIGIN) $(LABEL) $(REPO_URI)", "Created-By: Packages")
    for line in _run("apt-get", "indextargets", *wanted).splitlines():
        if line.startswith("Debian Debian "):
            return line.split()[2]
    raise UnavailableError("this machine's apt knows no Debian packages, or has no list of them yet (apt-get update)")


def _wheels(folder: Path) -> Tree:
    """Return the unpacked wheels of WHEELS, checked against the lock file's hashes."""
    blocks = re.split(r"^(?=[a-z])", LOCK.read_text(encoding="utf-8"), flags=re.MULTILINE)
    locked = {block.partition("==")[0]: block for block in blocks}
    wanted = folder / "wheels.txt"
    wanted.write_text("".join(locked[name] for name in WHEELS))
    target = folder / "wheels"
    platforms = [f"--platform={name}" for name in PLATFORMS]
    _run(
        sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps", "--require-hashes",
        "--only-binary=:all:", "--implementation=cp", "--python-version=3.13", *platforms, "-d", str(target), "-r",
        str(wanted),
    )  # fmt: skip
    tree: Tree = {}
    for wheel in sorted(target.iterdir()):
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.infolist():
                if not member.is_dir():
                    tree[f"{SITE}/{member.filename}"] = file(archive.read(member))
    return tree | _sdnotify()


def _sdnotify() -> Tree:
    import sdnotify

    assert sdnotify.__file__ is not None
    return {f"{SITE}/sdnotify/__init__.py": file(Path(sdnotify.__file__).read_bytes())}


def _run(*command: str, cwd: Path | None = None) -> str:
    """Return what a command printed; UnavailableError with its last words if it failed."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no reason given"]
        raise UnavailableError(f"{Path(command[0]).name} {command[-1]}: {last[0]}")
    return done.stdout
