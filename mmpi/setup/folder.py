"""Folder: the files of mmpi-setup/ by the names that count, read once.

Invariant: whatever lies there, it is a content or a sentence, never an exception. It must not know what a file means.
"""

import difflib
import os
import re
import stat
from pathlib import Path
from typing import Final

import msgspec

CONFIG: Final = "mmpi.toml"
SECRETS: Final = "secrets.env"
WIFI: Final = "wifi.toml"
KEYS: Final = "authorized_keys"
HOSTNAME: Final = "hostname"
RESET: Final = "factory-reset"
NAMES: Final = (CONFIG, SECRETS, WIFI, KEYS, HOSTNAME, RESET)
SECRET: Final = (SECRETS, WIFI)
"""Wiped once they are stored."""
MOST: Final = 64 * 1024
"""Bytes of a file."""
MOST_FILES: Final = 256
SECTOR: Final = 512
"""What a card writes whole or not at all: a file that is being wiped begins with one of zeros."""
RESULT: Final = "RESULT.txt"
FRESH_RESULT: Final = "RESULT.new"
FILL: Final = "MMPIZERO.TMP"
"""Fills the file system with zeros; a power cut may leave it over."""
EXAMPLE: Final = ".example"
_OURS: Final = frozenset(name.lower() for name in (RESULT, FRESH_RESULT, "README.txt"))
_DROPPED: Final = re.compile(
    r"\._.*|\.ds_store|\.spotlight-v100|\.trashes|\.fseventsd|\.temporaryitems|\.documentrevisions-v100|\.apdisk"
    r"|\.metadata_never_index|\.com\.apple\..*|\.trash-.*|\.directory|\.hidden|(eh)?thumbs\.db|desktop\.ini"
    r"|system volume information|\$recycle\.bin|indexervolumeguid|wpsettings\.dat"
)
"""What macOS, Linux desktops and Windows leave on a card."""


class Found(msgspec.Struct, frozen=True):
    """The folder as it was found."""

    there: bool = False
    files: dict[str, bytes] = {}
    """Contents by the names in NAMES."""
    paths: dict[str, Path] = {}
    """Where each of them is, as it is written there."""
    examples: tuple[str, ...] = ()
    """Names of files that were left alone because they are examples."""
    errors: tuple[str, ...] = ()


def look(folder: Path) -> Found:
    """Return what is in a folder; one that does not exist is empty."""
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return Found()
    except OSError as error:
        return Found(there=True, errors=(f"{folder.name}: cannot be read: {error.strerror}",))
    if len(names) > MOST_FILES:
        return Found(there=True, errors=(f"{folder.name}: {len(names)} files; allowed: {MOST_FILES}",))
    files: dict[str, bytes] = {}
    paths: dict[str, Path] = {}
    errors: list[str] = []
    for name in names:
        known = name.lower()
        if known in paths:
            spelled = f"{_shown(paths[known].name)} and {_shown(name)}"
            errors.append(f"{known}: is there twice, as {spelled}; allowed: once")
        elif known in NAMES:
            paths[known] = folder / name
            content = _read(folder / name)
            if isinstance(content, str):
                errors.append(f"{known}: {content}")
            else:
                files[known] = content
        elif not is_ignored(name):
            errors.append(_unknown(name))
    examples = tuple(name for name in names if name.lower().endswith(EXAMPLE))
    return Found(True, files, paths, examples, tuple(errors))


def is_ignored(name: str) -> bool:
    """Return whether a file of this name is none of ours, and none of a person's who mistyped ours."""
    known = name.lower()
    ours = known in _OURS or known.endswith(EXAMPLE) or known.startswith(FILL.lower())
    return ours or _DROPPED.fullmatch(known) is not None


def is_wiped(content: bytes) -> bool:
    """Return whether a content is that of a file whose wiping has begun: its first sector is zeros, or it is empty."""
    return not content[:SECTOR].strip(b"\0")


def text_of(name: str, content: bytes) -> tuple[str, list[str]]:
    """Return a file's text with plain line ends, or what keeps it from being one."""
    if content and not content.strip(b"\0"):
        return "", [f"{name}: holds nothing but zeros; copy it once more, and eject the card before you take it out"]
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return "", [f"{name}: byte {error.start + 1} is not UTF-8; allowed: plain text, saved as UTF-8"]
    if "\0" in text:
        return "", [f"{name}: byte {content.index(0) + 1} is zero; allowed: plain text, saved as UTF-8"]
    return text.replace("\r\n", "\n"), []


def _read(path: Path) -> bytes | str:
    """Return a file's content, or a sentence."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                return "is a folder or a device; allowed: a file"
            with os.fdopen(os.dup(file), "rb") as stream:
                content = stream.read(MOST + 1)
        finally:
            os.close(file)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return content if len(content) <= MOST else f"more than {MOST // 1024} KiB; allowed: at most that"


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name.lower(), NAMES, n=1, cutoff=0.0)[0]
    return f"{_shown(name)}: no file of this name is read; did you mean {near}? allowed: {', '.join(NAMES)}"


def _shown(name: str) -> str:
    """Return a name in letters that can be printed."""
    plain = name.encode("utf-8", "replace").decode()
    return plain if plain.isprintable() else ascii(plain)
