"""Generations: what is in force, as whole folders of which the link `settings` names one.

Invariant: the link leads to a generation that is whole and on the disk, at every moment and after any power cut.
It must not know what is in the files.
"""

import os
import re
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from mmpi.device.durable import FRESH, sync_folder

LINK: Final = "settings"
CONFIG: Final = "mmpi/mmpi.toml"
CREDENTIALS: Final = "credstore"
KEYS: Final = "authorized_keys"
HOSTNAME: Final = "hostname"
_NUMBERED: Final = re.compile(rf"{LINK}\.(\d{{1,9}})")
_FOLDER, _PRIVATE_FOLDER, _FILE, _PRIVATE_FILE = 0o755, 0o700, 0o644, 0o600


def credential(name: str) -> str:
    """Return where the credential of this name is in a generation."""
    return f"{CREDENTIALS}/mmpi.{name}"


def target(data: Path) -> str:
    """Return the name of the generation in force, "" if there is none."""
    try:
        return os.readlink(data / LINK)
    except FileNotFoundError:
        return ""


def read(data: Path) -> dict[str, bytes]:
    """Return the files of the generation in force by their paths in it."""
    root = data / LINK
    files = {}
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder) / name
            if stat.S_ISREG(path.lstat().st_mode):
                files[path.relative_to(root).as_posix()] = path.read_bytes()
    return files


def store(data: Path, files: Mapping[str, bytes]) -> None:
    """Put a new generation in force; when it returns that is on the disk."""
    found = _NUMBERED.fullmatch(target(data))
    name = f"{LINK}.{int(found[1]) + 1 if found else 1}"
    sweep(data)
    _write(data / name, files)
    link = data / (LINK + FRESH)
    os.symlink(name, link)
    # The generation's own name before the link that leads to it.
    sync_folder(data)
    os.replace(link, data / LINK)
    sync_folder(data)


def sweep(data: Path) -> None:
    """Remove the generations that are not in force, and what a power cut left of one."""
    kept = target(data)
    for name in sorted(os.listdir(data)):
        if name == LINK + FRESH:
            os.unlink(data / name)
        elif _NUMBERED.fullmatch(name) and name != kept:
            shutil.rmtree(data / name)


def _write(root: Path, files: Mapping[str, bytes]) -> None:
    """Write a generation to the disk."""
    folders = {root, *(parent for name in files for parent in (root / name).parents if root in parent.parents)}
    for folder in sorted(folders):
        os.mkdir(folder)
        os.chmod(folder, _PRIVATE_FOLDER if folder == root / CREDENTIALS else _FOLDER)
    for name, content in files.items():
        private = name == CONFIG or name.startswith(f"{CREDENTIALS}/")
        _write_file(root / name, content, _PRIVATE_FILE if private else _FILE)
    for folder in sorted(folders, reverse=True):
        sync_folder(folder)


def _write_file(path: Path, content: bytes, mode: int) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _PRIVATE_FILE)
    try:
        written = 0
        while written < len(content):
            written += os.write(file, content[written:])
        # Whatever the umask says.
        os.fchmod(file, mode)
        os.fsync(file)
    finally:
        os.close(file)
