"""Wheels: what mmpi imports on the device, checked against the hashes of requirements/run.txt, as a tree of files.

Invariant: nothing is compiled for the device; what has no wheel is one file of Python.
It must not know where the files are installed.
"""

import importlib.util
import re
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from image.archive import Tree, file
from image.debian import UnavailableError, run

ROOT: Final = Path(__file__).resolve().parents[1]
LOCK: Final = ROOT / "requirements" / "run.txt"
PLATFORMS: Final = ("manylinux2014_aarch64", "manylinux_2_24_aarch64", "manylinux_2_28_aarch64")
SOURCES: Final = ("sdnotify",)
"""Published as source alone, of one file: that of this environment, which was installed by the same hashes."""


def locked(lock: Path = LOCK) -> dict[str, str]:
    """Return each distribution's lines of the lock file, by name."""
    blocks = re.split(r"^(?=[a-z])", lock.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {block.partition("==")[0]: block for block in blocks if "==" in block}


def wheels(names: Sequence[str], folder: Path) -> Tree:
    """Return the unpacked wheels for the device's Python, CPython 3.13 on aarch64; `folder` is pip's own cache."""
    lines = locked()
    with tempfile.TemporaryDirectory() as place:
        target, wanted = Path(place) / "wheels", Path(place) / "wanted.txt"
        wanted.write_text("".join(lines[name] for name in names if name not in SOURCES), encoding="utf-8")
        run(
            sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps",
            "--require-hashes", f"--cache-dir={folder}", "--only-binary=:all:", "--implementation=cp",
            "--python-version=3.13",
            *(f"--platform={name}" for name in PLATFORMS), "-d", str(target), "-r", str(wanted),
        )  # fmt: skip
        tree: Tree = {}
        for wheel in sorted(target.iterdir()):
            with zipfile.ZipFile(wheel) as archive:
                members = [member for member in archive.infolist() if not member.is_dir()]
                tree |= {member.filename: file(archive.read(member)) for member in members}
    return tree | {f"{name}/__init__.py": file(_source(name)) for name in names if name in SOURCES}


def _source(name: str) -> bytes:
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        raise UnavailableError(f"{name} is not in this Python's environment; make it with: make setup")
    return Path(found.origin).read_bytes()
