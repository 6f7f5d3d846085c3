"""The resolved configuration of a daemon: root's word where it is a service, its own check where it is started by hand.

A service's configuration was checked by root just before (ExecStartPre= of its unit, or `mmpi reload`), and several
services under several users read that one file. By hand nobody has checked, so `mmpi check --resolve` does, in a
process of its own.

Invariant: the daemon's own process never imports pydantic; an unchanged configuration is not checked twice.
"""

import fcntl
import hashlib
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Final, Protocol, TypeVar

import msgspec

from mmpi.errors import ConfigError
from mmpi.folders import automatic, config_file, path_setting, secrets_folder
from mmpi.sections import PathSettings, load_resolved


class _Located(Protocol):
    @property
    def paths(self) -> PathSettings: ...


T = TypeVar("T", bound=_Located)
ROOT: Final = 0
"""The user whose word counts."""


def resolved(config: Path | None, kind: type[T]) -> T:
    """Return the present configuration as `kind`; ConfigError with everything that is wrong."""
    out = path_setting("runtime_dir", config, os.environ) / "config.json"
    if _is_roots_word(out):
        return _with_own_secrets(load_resolved(out, kind))
    stamp = out.with_suffix(".inputs")
    with _alone(out.parent):
        if _stamp_of(stamp) != _stamp(config, out):
            _check(config)
            stamp.unlink(missing_ok=True)
            stamp.write_text(_stamp(config, out))
        # Read while nobody can put another configuration in its place.
        return _with_own_secrets(load_resolved(out, kind))


def _is_roots_word(out: Path) -> bool:
    """Return whether this is a service, and a configuration waits for it that nobody but root can have written."""
    if "NOTIFY_SOCKET" not in os.environ or os.geteuid() == ROOT:
        return False
    try:
        found = out.lstat()
    except OSError:
        return False
    others = stat.S_IWGRP | stat.S_IWOTH
    return found.st_uid == ROOT and stat.S_ISREG(found.st_mode) and not found.st_mode & others


def _with_own_secrets(settings: T) -> T:
    """Return the settings with the folder of this process's secrets: each service has credentials of its own."""
    paths = settings.paths
    folder = secrets_folder(paths.secrets_dir, paths.state_dir, os.environ)
    own: T = msgspec.structs.replace(settings, paths=msgspec.structs.replace(paths, secrets_dir=folder))  # type: ignore[type-var]
    return own


def _check(config: Path | None) -> None:
    command = [sys.executable, "-m", "mmpi", "check", "--resolve", *(["--config", str(config)] if config else [])]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise ConfigError("\n".join(line.removeprefix("mmpi check: ") for line in done.stderr.splitlines()))


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other daemons that start at this moment out."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # To lock it, it need not be writable, so that root's leaves nobody of the group out.
        lock = os.open(folder / "config.lock", os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise ConfigError(f"{folder}: {error.strerror}; the runtime folder must be writable") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _stamp_of(path: Path) -> str:
    """Return what was written beside the last result; "" without one, or if it is another user's."""
    try:
        return path.read_text() if path.stat().st_uid in (ROOT, os.geteuid()) else ""
    except OSError:
        return ""


def _bytes(path: Path) -> bytes:
    """Return a file's content; b"" if it cannot be read, which the check will say better."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _stamp(config: Path | None, out: Path) -> str:
    """Return a digest of all that decides the result, and of the result itself.

    That is the file, the overrides, the version, and what the box and its user stand for where nobody chose: not the
    user as such, and not the credentials, which are each service's own.
    """
    file = config_file(config, os.environ)
    content, result = (_bytes(path) if path is not None else b"" for path in (file, out))
    overrides = sorted((k, v) for k, v in os.environ.items() if k.startswith("MMPI_"))
    usual = sorted((key, value) for key, (value, _) in automatic(os.environ, "").items() if key != "secrets.dir")
    inputs = (str(file), content, overrides, version("mmpi"), usual, result)
    return hashlib.sha256(repr(inputs).encode()).hexdigest()
