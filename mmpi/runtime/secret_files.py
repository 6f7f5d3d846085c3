"""Key files: read from a folder in which nobody else may read or replace them, and kept out of core dumps.

Invariant: a secret's text is never in a message, a log or an exception. It must not know what a key signs.

A file must have mode 0600 or less. Only a credential of systemd may be readable by a group: where it gives the service
access by an ACL, the file is root's and its group bits are the ACL's mask (systemd.exec(5), "Credentials"; acl(5)).
"""

import ctypes
import os
import resource
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from mmpi.errors import ConfigError

MOST: Final = 4096
"""Bytes read of a file."""
CREDENTIALS: Final = "CREDENTIALS_DIRECTORY"
"""The variable in which systemd names the folder of a service's credentials."""
PR_SET_DUMPABLE: Final = 4
"""linux/prctl.h."""
ADDRESS_DIGITS: Final = 40


def read_secret(path: Path, environ: Mapping[str, str] = os.environ) -> str:
    """Return a secret's text; ConfigError if it is missing, empty, or if others may read or replace it.

    What counts is the file that a symbolic link leads to, and the folders of both.
    """
    try:
        # A named pipe in the key's place must not hold us up.
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        trading = path.name == "account" or path.suffix == ".key"
        how = f"; for practice make one with: mmpi practice keys --out {path.parent}" if trading else ""
        raise ConfigError(f"{path}: no such file{how}") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        target = Path(os.path.realpath(path))
        fault = _file_fault(path, os.fstat(file), environ) or folder_fault(path.parent) or folder_fault(target.parent)
        if fault:
            raise ConfigError(fault)
        text = os.read(file, MOST).decode("ascii", "replace").strip()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    finally:
        os.close(file)
    if not text:
        raise ConfigError(f"{path}: is empty; allowed: one secret on one line")
    return text


def read_address(path: Path, environ: Mapping[str, str] = os.environ) -> str:
    """Return the address in a file, in lower case; ConfigError without its text if it is none: it may be a key."""
    text = read_secret(path, environ).lower()
    digits = text.removeprefix("0x")
    if not text.startswith("0x") or len(digits) != ADDRESS_DIGITS or any(c not in "0123456789abcdef" for c in digits):
        raise ConfigError(
            f"{path}: not an address ({len(text)} characters, not shown); allowed: 0x and {ADDRESS_DIGITS} hex digits"
        )
    return text


def folder_fault(folder: Path) -> str:
    """Return what is wrong with the rights of a folder of secrets, "" if nothing is; OSError if it cannot be seen."""
    mode = stat.S_IMODE(folder.stat().st_mode)
    if not mode & stat.S_IWOTH:
        return ""
    return f"{folder}: mode {mode:04o} lets anyone put another key in its place; allowed: 0700 (chmod 700 {folder})"


def keep_out_of_core_dumps() -> bool:
    """Return whether the kernel will from now on dump no memory of this process, keys included; it never fails.

    The process cannot be traced by its own user any more, either, and files under its /proc are root's (proc(5)).
    """
    with suppress(OSError, ValueError):
        # A kernel that pipes dumps to a program does not look at the limit, so it is the lesser half.
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    try:
        return int(ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, *map(ctypes.c_ulong, (0, 0, 0, 0)))) == 0
    except (OSError, AttributeError):
        return False


def _file_fault(path: Path, found: os.stat_result, environ: Mapping[str, str]) -> str:
    """Return what is wrong with a file's kind, mode and owner; "" if nothing is."""
    mode = stat.S_IMODE(found.st_mode)
    if stat.S_ISDIR(found.st_mode):
        return f"{path}: cannot be read: Is a directory"
    if not stat.S_ISREG(found.st_mode):
        return f"{path}: is not a regular file"
    if not mode & 0o077:
        return ""
    if not _is_credential(path, environ):
        return f"{path}: mode {mode:04o} lets others read a secret; allowed: 0600 (chmod 600 {path})"
    if mode & 0o077 == stat.S_IRGRP and found.st_uid in (0, os.geteuid()):
        return ""
    return (
        f"{path}: mode {mode:04o}, owner {found.st_uid}: others may read a secret; allowed in ${CREDENTIALS}: 0400, or "
        "0440 of root or of this user"
    )


def _is_credential(path: Path, environ: Mapping[str, str]) -> bool:
    """Return whether a file really is in the very folder in which systemd put this service's credentials."""
    folder = environ.get(CREDENTIALS, "")
    return folder.startswith("/") and Path(os.path.realpath(path)).parent == Path(os.path.realpath(folder))
