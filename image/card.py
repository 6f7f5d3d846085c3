"""Card: partitions and their contents, and the image of the whole card.

Invariant: everything on the card bears the lock's date and numbers that follow from the layout, never from chance.
It must not know what the files are for.
"""

import os
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from image.archive import Tree, tar
from image.builder import Builder
from image.debian import UnavailableError

MIB: Final = 2**20
SECTOR: Final = 512
DISK_ID: Final = 0x6D6D7069
"""In every image: "mmpi". Partitions are found by it (PARTUUID=6d6d7069-01)."""
STATE_COPY: Final = 0x1000
STATE_APART: Final = 0x100000
ATTEMPTS: Final = 3


class Partition(NamedTuple):
    """One partition: number, place and size in MiB, type of the MBR."""

    number: int
    start: int
    size: int
    kind: str


FIRMWARE: Final = Partition(1, 4, 64, "c")
STATE: Final = Partition(2, 68, 4, "da")
EXTENDED: Final = Partition(4, 72, 628, "f")
BOOT_A: Final = Partition(5, 76, 48, "83")
BOOT_B: Final = Partition(6, 128, 48, "83")
ROOT_A: Final = Partition(7, 180, 256, "83")
ROOT_B: Final = Partition(8, 440, 256, "83")
DATA: Final = Partition(3, 700, 64, "83")
"""The last on the card, and grown at the first boot."""
LAYOUT: Final = (FIRMWARE, STATE, DATA, EXTENDED, BOOT_A, BOOT_B, ROOT_A, ROOT_B)
SIZE: Final = 768
"""MiB of the image."""
GROWN: Final = 256 * 2**30
"""Bytes that the data's file system is prepared to grow to while it is mounted."""


def state(order: str = "A B", left: Mapping[str, int] | None = None) -> bytes:
    """Return the partition of the boot state: two copies as libubootenv writes them, the first one the newer."""
    attempts = left or {"A": ATTEMPTS, "B": ATTEMPTS}
    variables = [f"BOOT_{slot}_LEFT={attempts[slot]}" for slot in "AB"] + [f"BOOT_ORDER={order}"]
    data = ("\0".join(variables) + "\0\0").encode().ljust(STATE_COPY - 5, b"\0")
    out = bytearray(STATE.size * MIB)
    for number in (0, 1):
        copy = struct.pack("<IB", zlib.crc32(data), 1 - number) + data
        out[number * STATE_APART : number * STATE_APART + len(copy)] = copy
    return bytes(out)


def fat(files: Mapping[str, bytes], builder: Builder, scratch: Path, epoch: int) -> Path:
    """Return a FAT image with these files; folders are made."""
    place, image = scratch / "fat", scratch / "firmware.fat"
    place.mkdir()
    for name, data in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(data)
    for path in sorted(place.rglob("*")):
        os.utime(path, (epoch, epoch))
    folders = [path.relative_to(place).as_posix() for path in sorted(place.rglob("*")) if path.is_dir()]
    lines = [
        f"mkfs.vfat -C -F 32 -s 1 -n MMPI -i {DISK_ID:08X} --invariant firmware.fat {FIRMWARE.size * 1024}",
        *(f"mmd -i firmware.fat '::{name}'" for name in folders),
        *(f"mcopy -m -i firmware.fat 'fat/{name}' '::{name}'" for name in sorted(files)),
    ]
    builder.script(scratch, "cd /mnt\n" + "\n".join(lines))
    return image


def ext4(name: str, tree: Tree, partition: Partition, builder: Builder, scratch: Path, epoch: int) -> Path:
    """Return an ext4 image of a partition's size: read by U-Boot, or written for years.

    Without metadata_csum: a torn superblock can be mended then, with it not (docs/DECISIONS.md, 41).
    """
    image = scratch / f"{name}.ext4"
    with image.open("wb") as out:
        out.truncate(partition.size * MIB)
    (scratch / f"{name}.tar").write_bytes(tar(tree, epoch))
    uuid = f"{DISK_ID:08x}-0000-4000-8000-{partition.number:012x}"
    options = f"hash_seed={uuid},lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0"
    more = [f"{options},resize={GROWN // 4096}", "-J", "size=8"] if partition is DATA else [options]
    features = "^metadata_csum,^metadata_csum_seed,^orphan_file"
    features += "" if partition is DATA else ",^has_journal,^resize_inode"
    builder.run(
        scratch, "mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-m", "1", "-O", features, "-L", name, "-U", uuid,
        "-E", *more, "-d", f"/mnt/{name}.tar", f"/mnt/{image.name}", env={"E2FSPROGS_FAKE_TIME": str(epoch)},
    )  # fmt: skip
    return image


def erofs(tree: bytes, builder: Builder, scratch: Path, epoch: int) -> Path:
    """Return the read-only root of a slot, from its tar; UnavailableError if it is too large for its partition."""
    (scratch / "root.tar").write_bytes(tree)
    uuid = f"{DISK_ID:08x}-0000-4000-8000-{ROOT_A.number:012x}"
    builder.run(
        scratch, "mkfs.erofs", "--quiet", "-zlz4hc,9", "-Efragments,dedupe", "-C65536", f"-T{epoch}", "--all-time",
        "-U", uuid, "--tar=f", "/mnt/root.erofs", "/mnt/root.tar",
    )  # fmt: skip
    image = scratch / "root.erofs"
    if image.stat().st_size > ROOT_A.size * MIB * 9 // 10:
        took = image.stat().st_size // MIB
        raise UnavailableError(f"the root takes {took} MiB; allowed: nine tenths of {ROOT_A.size}")
    return image


def assemble(parts: Mapping[Partition, Path], out: Path, builder: Builder) -> None:
    """Write the image of the card; holes stay holes."""
    with out.open("wb") as image:
        image.truncate(SIZE * MIB)
    lines = [
        f"{each.number} : start={each.start}MiB, size={each.size}MiB, type={each.kind}"
        + (", bootable" if each is FIRMWARE else "")
        for each in LAYOUT
    ]
    table = f"label: dos\nlabel-id: 0x{DISK_ID:08x}\nunit: sectors\n\n" + "\n".join(lines) + "\n"
    builder.run(out.parent, "sfdisk", "-q", "--no-reread", "--no-tell-kernel", f"/mnt/{out.name}", data=table.encode())
    with out.open("r+b") as image:
        for partition, path in parts.items():
            if path.stat().st_size > partition.size * MIB:
                raise UnavailableError(f"{path.name}: larger than its partition of {partition.size} MiB")
            _copy(path, image.fileno(), partition.start * MIB)


def _copy(path: Path, target: int, offset: int) -> None:
    with path.open("rb") as source:
        while data := source.read(MIB):
            if data.strip(b"\0"):
                for start in range(0, len(data), 4096):
                    block = data[start : start + 4096]
                    if block.strip(b"\0"):
                        os.pwrite(target, block, offset + start)
            offset += len(data)
