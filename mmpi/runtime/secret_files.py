"""Key files: read from a folder that nobody else may read.

Invariant: a key's text is never in a message, a log or an exception. It must not know what a key signs.
"""

import os
import stat
from pathlib import Path

from mmpi.errors import ConfigError


def read_secret(path: Path) -> str:
    """Return a secret's text; ConfigError if it is missing, empty, or readable by others."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            text = file.read(4096).decode("ascii", "replace").strip()
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: no such file; for practice make one with: mmpi practice keys --out {path.parent}"
        ) from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    if mode & 0o077:
        raise ConfigError(f"{path}: mode {mode:04o} lets others read a secret; allowed: 0600 (chmod 600 {path})")
    if not text:
        raise ConfigError(f"{path}: is empty; allowed: one secret on one line")
    return text
