"""Stages: what the image is made of, in the order in which it is made.

Invariant: everything that a stage reads is in its inputs or in the stages before it.
It must not know caches and progress.
"""

import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from image import card, kernel, lock, root, sbom
from image.archive import Tree, file, from_tar, tar
from image.builder import Builder
from image.card import BOOT_A, DATA, FIRMWARE, ROOT_A, STATE
from image.check import check_imports
from image.debian import UnavailableError, content
from image.stage import Stage, Work
from image.wheels import LOCK as WHEEL_LOCK
from image.wheels import ROOT, locked, wheels

HERE: Final = Path(__file__).resolve().parent
NOT_SHIPPED: Final = ("setuptools",)
"""Locked for builds from source, of which there are none on the device."""
NOT_MAKING: Final = ("reproduce.py", "tested.py", "wheel_set.py")
"""Files of this folder that make nothing of an image: they judge one, or make something else."""
BOARDS: Final = ("bcm2837", "bcm2711")
FIRMWARE_FILES: Final = ("bootcode.bin", "start.elf", "fixup.dat", "start4.elf", "fixup4.dat")


def sources(*names: str) -> dict[str, bytes]:
    """Return files of this folder by name, for a key; a folder stands for all that is in it."""
    found = {}
    for name in names:
        path = HERE / name
        for each in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if each.is_file() and "__pycache__" not in each.parts:
                found[each.relative_to(HERE).as_posix()] = each.read_bytes()
    return found


def _below(*folders: str) -> dict[str, bytes]:
    """Return the project's files below these folders, by name."""
    paths = (path for name in folders for path in sorted((ROOT / name).rglob("*")))
    return {
        path.relative_to(ROOT).as_posix(): path.read_bytes()
        for path in paths
        if path.is_file() and "__pycache__" not in path.parts
    }


def _locked(role: str) -> Callable[[], Mapping[str, bytes]]:
    def inputs() -> dict[str, bytes]:
        found = lock.load()
        return {"lock": json.dumps([found.epoch, found.packages[role]]).encode()}

    return inputs


def _builder_inputs() -> dict[str, bytes]:
    return {**_locked("builder")(), "how": b"4"}


def _make_builder(work: Work) -> None:
    """Unpack the tools."""
    files = lock.files(lock.load(), "builder", work.downloads / "debs")
    target = work.folder / "root"
    for name in ("proc", "dev", "mnt", "tmp", "root", "usr/bin", "usr/sbin", "usr/lib", "usr/lib64"):
        (target / name).mkdir(parents=True, exist_ok=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        (target / name).symlink_to(f"usr/{name}")
    for number, (package, path) in enumerate(files, 1):
        work.say(f"{number} of {len(files)}: {package.name} {package.version}")
        # As whoever builds; what is there already as a link to a folder (bin, lib) stays one.
        command = ["tar", "-x", "--no-same-owner", "--keep-directory-symlink", "-C", str(target)]
        subprocess.run(command, input=content(path), capture_output=True, check=True)


def _builder(work: Work) -> Builder:
    return Builder(work.before["builder"] / "root", lock.load().epoch)


def _package(work: Work, prefix: str) -> bytes:
    """Return the content of the one package whose name begins so."""
    found = lock.load()
    chosen = [package for package in found.packages["target"] if package.name.startswith(prefix)]
    if len(chosen) != 1:
        raise UnavailableError(f"packages.lock: {len(chosen)} packages {prefix}*; allowed: one")
    only = found._replace(packages={**found.packages, "target": chosen})
    return content(lock.files(only, "target", work.downloads / "debs")[0][1])


def _make_wheels(work: Work) -> None:
    names = [name for name in locked() if name not in NOT_SHIPPED]
    (work.folder / "wheels.tar").write_bytes(tar(wheels(names, work.downloads / "pip"), lock.load().epoch))


def _make_kernel(work: Work) -> None:
    """Choose modules, and put the initial file system together."""
    wanted, builder = lock.wanted()["kernel"], _builder(work)
    scratch = work.folder / "scratch"
    scratch.mkdir()
    found = kernel.Kernel(kernel.package_of(_package(work, "linux-image-")), builder, scratch)
    base: dict[str, bytes] = {}
    for name in ("busybox-static", "e2fsprogs", "libblkid1", "libc6", "libcom-err2", "libext2fs2t64", "libuuid1"):
        for path, entry in from_tar(_package(work, name)).items():
            base[f"usr/{path}" if path.startswith(root.MERGED) else path] = entry.data
    for path in [path for path in base if path.startswith(kernel.LIBRARIES)]:
        # A link's target stands beside it.
        target = f"{kernel.LIBRARIES}/{base[path].decode()}" if len(base[path]) < 80 else path
        base[path] = base.get(target, base[path])
    initrd = found.initrd(wanted["first"], base, base["usr/bin/busybox"])
    made, first = kernel.uimages(found, initrd, builder, scratch)
    trees = {path.split("/")[-1]: entry for path, entry in kernel.package_of(_package(work, "linux-image-")).items()
             if path.endswith(".dtb") and path.split("/")[-1].startswith(BOARDS)}  # fmt: skip
    epoch = lock.load().epoch
    modules = found.modules([*wanted["first"], *wanted["modules"]])
    modules |= _wifi(work, wanted["firmware"])
    shutil.rmtree(scratch)
    (work.folder / "modules.tar").write_bytes(tar(modules, epoch))
    (work.folder / "boards.tar").write_bytes(tar(trees, epoch))
    (work.folder / "kernel.uimg").write_bytes(made)
    (work.folder / "initrd.uimg").write_bytes(first)
    (work.folder / "release").write_text(found.release, encoding="utf-8")


def _wifi(work: Work, wanted: list[str]) -> Tree:
    base = "usr/lib/firmware/"
    prefixes = tuple(base + name for name in wanted)
    tree: Tree = {}
    for name in ("firmware-brcm80211", "raspi-firmware", "wireless-regdb"):
        tree |= from_tar(_package(work, name), prefixes)
    # An alternative, of which this is the one that Debian's kernel has the key for.
    return {path.removesuffix("-debian"): entry for path, entry in tree.items() if not path.endswith("-upstream")}


def _make_root(work: Work) -> None:
    """Put the root together."""
    found, builder = lock.load(), _builder(work)
    files = lock.files(found, "target", work.downloads / "debs")
    tree = root.packages(files)
    tree |= from_tar((work.before["kernel"] / "modules.tar").read_bytes())
    tree |= root.own(from_tar((work.before["wheels"] / "wheels.tar").read_bytes()))
    tree |= root.units(work.folder)
    tree |= root.settings(found.epoch)
    for source, target in (
        ("usr/share/base-files/profile", "etc/profile"),
        ("usr/share/openssh/sshd_config", "etc/ssh/sshd_config"),
    ):
        tree[target] = tree[source]
    release = tree["usr/lib/os-release"].data.decode() + f'IMAGE_ID=mmpi\nIMAGE_VERSION="{root.version()}"\n'
    tree["usr/lib/os-release"] = file(release)
    tree["var/lib/dpkg/status"] = root.status(files)
    tree = root.settled(tree, builder, work.folder, found.epoch)
    check_imports(tree, builder, work.folder, work.say)
    (work.folder / "root.tar").write_bytes(tar(tree, found.epoch))


def _make_slot(work: Work) -> None:
    """Make the two partitions of a slot."""
    builder, epoch = _builder(work), lock.load().epoch
    card.erofs((work.before["root"] / "root.tar").read_bytes(), builder, work.folder, epoch)
    (work.folder / "root.tar").unlink()
    tree = {name: file((work.before["kernel"] / name).read_bytes()) for name in ("kernel.uimg", "initrd.uimg")}
    card.ext4("boot", tree, BOOT_A, builder, work.folder, epoch)
    (work.folder / "boot.tar").unlink()


def _make_card(work: Work) -> None:
    """Make what the slots share: firmware, boot loader, boot state, and the empty data."""
    builder, epoch = _builder(work), lock.load().epoch
    uboot = from_tar(_package(work, "u-boot-rpi")) | from_tar(_package(work, "u-boot-qemu"))
    firmware = from_tar(_package(work, "raspi-firmware"))
    for name in ("boot.cmd", "env-rpi.txt", "env-virt.txt"):
        shutil.copyfile(HERE / "uboot" / name, work.folder / name)
    builder.script(work.folder, UBOOT)
    files = {name: firmware[f"usr/lib/raspi-firmware/{name}"].data for name in FIRMWARE_FILES}
    files |= {path: entry.data for path, entry in from_tar((work.before["kernel"] / "boards.tar").read_bytes()).items()}
    files |= {
        "u-boot.bin": uboot["usr/lib/u-boot/rpi_arm64/u-boot.bin"].data,
        "uboot.env": (work.folder / "env-rpi.img").read_bytes(),
        "boot.scr": (work.folder / "boot.scr").read_bytes(),
        "config.txt": (HERE / "uboot" / "config.txt").read_bytes(),
    }
    files |= {path.relative_to(HERE / "firmware").as_posix(): path.read_bytes()
              for path in sorted((HERE / "firmware").rglob("*")) if path.is_file()}  # fmt: skip
    card.fat(files, builder, work.folder, epoch)
    card.ext4("data", {}, DATA, builder, work.folder, epoch)
    (work.folder / "state.bin").write_bytes(card.state())
    (work.folder / "virt-u-boot.bin").write_bytes(uboot["usr/lib/u-boot/qemu_arm64/u-boot.bin"].data)
    shutil.copyfile(work.folder / "env-virt.img", work.folder / "virt-flash.img")
    (work.folder / "rpi-u-boot.bin").write_bytes(uboot["usr/lib/u-boot/rpi_arm64/u-boot.bin"].data)
    shutil.rmtree(work.folder / "fat")
    for name in ("boot.cmd", "boot.scr", "env-rpi.txt", "env-virt.txt", "env-rpi.img", "env-virt.img", "data.tar"):
        (work.folder / name).unlink()


UBOOT: Final = """\
cd /mnt
mkimage -A arm64 -T script -C none -n mmpi -d boot.cmd boot.scr >/dev/null
mkenvimage -s 0x4000 -o env-rpi.img env-rpi.txt
mkenvimage -s 0x40000 -o env-virt.img env-virt.txt
"""


def _make_image(work: Work) -> None:
    """Assemble, compress, and describe."""
    builder, epoch = _builder(work), lock.load().epoch
    name = f"mmpi-{root.version()}-arm64"
    slot, shared = work.before["slot"], work.before["card"]
    parts = {FIRMWARE: shared / "firmware.fat", STATE: shared / "state.bin", BOOT_A: slot / "boot.ext4",
             ROOT_A: slot / "root.erofs", DATA: shared / "data.ext4"}  # fmt: skip
    image = work.folder / f"{name}.img"
    card.assemble(parts, image, builder)
    builder.script(work.folder, IMAGE, (image.name, str(epoch)))
    bill = sbom.cyclonedx(lock.load(), WHEEL_LOCK.read_text(encoding="utf-8"), NOT_SHIPPED, root.version())
    (work.folder / f"{name}.sbom.json").write_text(bill, encoding="utf-8")
    digest = hashlib.sha256(image.read_bytes()).hexdigest()
    release = (work.before["kernel"] / "release").read_text(encoding="utf-8")
    manifest = {
        "name": "mmpi", "version": root.version(), "architecture": "arm64", "epoch": epoch, "kernel": release,
        "sha256": digest, "bytes": image.stat().st_size,
        "partitions": [each._asdict() for each in card.LAYOUT],
        "packages": {package.name: package.version for package in lock.load().packages["target"]},
        "inputs": {path: hashlib.sha256(data).hexdigest() for path, data in sorted(_all_inputs().items())},
    }  # fmt: skip
    described = json.dumps(manifest, indent=1, sort_keys=True) + "\n"
    (work.folder / f"{name}.manifest.json").write_text(described, encoding="utf-8")
    sums = [f"{digest}  {image.name}"]
    for path in sorted(work.folder.iterdir()):
        if path != image and path.name != "SHA256SUMS":
            sums.append(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}")
    (work.folder / "SHA256SUMS").write_text("\n".join(sums) + "\n", encoding="utf-8")


IMAGE: Final = """\
cd /mnt
bmaptool -q create -o "${1%.img}.bmap" "$1"
zstd -q -12 -T0 --long=27 "$1" -o "$1.zst"
"""


def _all_inputs() -> dict[str, bytes]:
    own = {name: data for name, data in sources(".").items() if name not in NOT_MAKING}
    return {f"image/{name}": data for name, data in own.items()} | _below("mmpi", "systemd") | {
        "requirements/run.txt": WHEEL_LOCK.read_bytes()
    }


def _code(*names: str) -> Callable[[], Mapping[str, bytes]]:
    return lambda: sources("stages.py", "archive.py", "debian.py", "lock.py", "builder.py", *names)


def _root_inputs() -> dict[str, bytes]:
    script = (ROOT / "scripts" / "install-service").read_bytes()
    project = (ROOT / "pyproject.toml").read_bytes()
    own = {**_code("root.py", "check.py", "rootfs")(), **_locked("target")(), **_below("mmpi", "systemd")}
    return {**own, "install-service": script, "pyproject": project}


STAGES: Final = (
    Stage("builder", "unpack the tools", (), _builder_inputs, _make_builder),
    Stage("wheels", "fetch and unpack the wheels", (), lambda: {**_code("wheels.py")(), "run": WHEEL_LOCK.read_bytes()},
          _make_wheels),
    Stage("kernel", "choose modules, make kernel and initial file system", ("builder",),
          lambda: {**_code("kernel.py", "initrd", "packages.toml")(), **_locked("target")()}, _make_kernel),
    Stage("root", "put the root together, import every extension", ("builder", "wheels", "kernel"), _root_inputs,
          _make_root),
    Stage("slot", "make the root and boot partitions of a slot", ("builder", "kernel", "root"), _code("card.py"),
          _make_slot),
    Stage("card", "make firmware, boot loader, boot state and data", ("builder", "kernel"),
          lambda: {**_code("card.py", "uboot", "firmware")(), **_locked("target")()}, _make_card),
    Stage("image", "assemble and compress the image", ("builder", "kernel", "slot", "card"),
          lambda: {**_code("card.py", "sbom.py")(), **_all_inputs()}, _make_image),
)  # fmt: skip
