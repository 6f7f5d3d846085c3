"""The resolved configuration of a daemon started by hand: checked by `mmpi check --resolve` in a process of its own.

Invariant: the daemon's own process never imports pydantic; an unchanged configuration is not checked twice.
"""

import fcntl
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

from mmpi.errors import ConfigError
from mmpi.folders import config_file, path_setting
from mmpi.sections import load_resolved

T = TypeVar("T")


def resolved(config: Path | None, kind: type[T]) -> T:
    """Return the present configuration as `kind`; ConfigError with everything that is wrong."""
    out = path_setting("runtime_dir", config, os.environ) / "config.json"
    stamp = out.with_suffix(".inputs")
    with _alone(out.parent):
        if _stamp_of(stamp) != _stamp(config, out):
            _check(config)
            stamp.write_text(_stamp(config, out))
        # Read while nobody can put another configuration in its place.
        return load_resolved(out, kind)


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
        lock = os.open(folder / "config.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
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
        return path.read_text() if path.stat().st_uid in (0, os.geteuid()) else ""
    except OSError:
        return ""


def _bytes(path: Path) -> bytes:
    """Return a file's content; b"" if it cannot be read, which the check will say better."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _stamp(config: Path | None, out: Path) -> str:
    """Return a digest of all that decides the result (file, environment, version, user), and of the result itself."""
    file = config_file(config, os.environ)
    content, result = (_bytes(path) if path is not None else b"" for path in (file, out))
    folders = ("HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR", "TMPDIR", "CREDENTIALS_DIRECTORY")
    environment = sorted((k, v) for k, v in os.environ.items() if k.startswith("MMPI_") or k in folders)
    inputs = (str(file), content, environment, version("mmpi"), os.geteuid(), result)
    return hashlib.sha256(repr(inputs).encode()).hexdigest()
