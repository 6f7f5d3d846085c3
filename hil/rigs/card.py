"""Card: the image as it is flashed, and what is put on its FAT partition and read from it, before it is in a machine.

Invariant: tools are the builder's own; no partition is mounted. It must not know machines.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from image.builder import Builder
from image.card import DATA, FIRMWARE, MIB
from image.command import cache
from image.lock import load
from image.stage import Stages
from image.stages import STAGES

AT: Final = f"@@{FIRMWARE.start}M"
PUT: Final = """\
cd /mnt
if mdir -b -i "$1" "::$2" >/dev/null 2>&1; then mdeltree -i "$1" "::$2"; fi
mcopy -n -o -s -i "$1" "put/$2" ::
"""


class Build(Stages):
    """The image of this checkout, made now if it is not there, and the tools that made it."""

    def __init__(self) -> None:
        super().__init__(STAGES, cache() / "stages", cache())

    @property
    def image(self) -> Path:
        """Return the image; UnavailableError if it cannot be made here."""
        (image,) = self.run("image").glob("*.img")
        return image

    @property
    def builder(self) -> Builder:
        """Return the tools."""
        return Builder(self.run("builder") / "root", load().epoch)


class Card:
    """One card, in the file `path`: a copy of the image on a disk of `size_mb`."""

    def __init__(self, build: Build, path: Path, size_mb: int = 2048) -> None:
        self.path: Final = path
        self._builder: Final = build.builder
        subprocess.run(["cp", "--sparse=always", str(build.image), str(path)], check=True)
        with path.open("r+b") as file:
            file.truncate(size_mb * MIB)

    def put(self, files: Mapping[str, bytes], folder: str = "mmpi-setup") -> None:
        """Put files into a folder of the FAT partition, as a person does; an existing one is replaced."""
        place = self.path.parent / "put"
        shutil.rmtree(place, ignore_errors=True)
        (place / folder).mkdir(parents=True)
        for name, data in files.items():
            (place / folder / name).write_bytes(data)
        self._builder.script(self.path.parent, PUT, (f"{self.path.name}{AT}", folder))
        shutil.rmtree(place)

    def get(self, name: str) -> bytes | None:
        """Return a file of the FAT partition, None if there is none."""
        words, got = (self.path.name, name), self.path.parent / "got"
        self._builder.script(self.path.parent, f'cd /mnt; mcopy -n -o -i "$1{AT}" "::$2" got || true', words)
        data = got.read_bytes() if got.exists() else None
        got.unlink(missing_ok=True)
        return data

    def data_partition(self, target: Path) -> Path:
        """Return a copy of the data partition, as large as it is now."""
        with self.path.open("rb") as file:
            file.seek(446 + (DATA.number - 1) * 16 + 12)
            sectors = int.from_bytes(file.read(4), "little")
        command = ["dd", f"if={self.path}", f"of={target}", "bs=1M", f"skip={DATA.start}", f"count={sectors // 2048}"]
        subprocess.run([*command, "conv=sparse", "status=none"], check=True)
        return target

    def contains(self, needle: bytes) -> list[int]:
        """Return where on the card these bytes lie."""
        found, overlap, position = [], b"", 0
        with self.path.open("rb") as file:
            while data := file.read(16 * MIB):
                block = overlap + data
                at = block.find(needle)
                while at >= 0:
                    found.append(position - len(overlap) + at)
                    at = block.find(needle, at + 1)
                overlap = block[-(len(needle) - 1) :]
                position += len(data)
        return found

    def put_file(self, name: str, data: bytes) -> None:
        """Put one file into the FAT partition's top folder."""
        (self.path.parent / "put").write_bytes(data)
        self._builder.script(self.path.parent, f'cd /mnt; mcopy -n -o -i "$1{AT}" put "::$2"', (self.path.name, name))
        (self.path.parent / "put").unlink()

    def environment(self, build: Build, name: str, size: int, more: str = "") -> bytes:
        """Return U-Boot's settings from image/uboot/NAME in its own form, with `more` for the kernel's command line."""
        folder = self.path.parent
        settings = (Path(__file__).resolve().parents[2] / "image" / "uboot" / name).read_text(encoding="utf-8")
        (folder / "env.txt").write_text(settings + (f"more={more}\n" if more else ""), encoding="utf-8")
        build.builder.script(folder, f"cd /mnt; mkenvimage -s {size:#x} -o env.img env.txt")
        return (folder / "env.img").read_bytes()

    def flash(self, build: Build, more: str = "") -> Path:
        """Return the virtual board's own memory: U-Boot's settings, with `more` for the kernel's command line."""
        target = self.path.with_suffix(".flash")
        target.write_bytes(self.environment(build, "env-virt.txt", 0x40000, more))
        os.truncate(target, 64 * MIB)
        return target
