"""Resolved: the checked settings as the one file that the daemons read.

Invariant: it appears whole or not at all, others cannot read it, and it holds no secret; nothing in it belongs to one
service alone, so that two services under two users can read the same file.
It must not know TOML, pydantic or the environment.
"""

import os
import tempfile
from pathlib import Path
from typing import Final

import msgspec

from mmpi.config.load import Loaded
from mmpi.errors import ConfigError
from mmpi.folders import FROM_CREDENTIALS, usual_secrets
from mmpi.settings import Settings

RESOLVED_MODE: Final = 0o640
"""Architecture section 3: the service's group may read it, others not."""


def resolve(loaded: Loaded, out: Path) -> None:
    """Write the settings to `out` for the daemons, making its folder; ConfigError says why if it cannot."""
    try:
        out.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _refuse_strangers(out.parent)
        _write_whole(out, msgspec.json.encode(_shared(loaded)))
    except OSError as error:
        raise ConfigError(f"{out}: cannot be written: {error.strerror}") from None


def _shared(loaded: Loaded) -> Settings:
    """Return the settings without the folder of one service's credentials: each service has its own (folders.py)."""
    paths = loaded.settings.paths
    if loaded.origins["secrets.dir"] != FROM_CREDENTIALS:
        return loaded.settings
    usual = msgspec.structs.replace(paths, secrets_dir=usual_secrets(paths.state_dir))
    return msgspec.structs.replace(loaded.settings, paths=usual)


def _refuse_strangers(folder: Path) -> None:
    """A folder of someone else's under the temporary one could feed us their configuration."""
    owner = folder.stat().st_uid
    if os.geteuid() != 0 and owner not in (0, os.geteuid()):
        raise ConfigError(f"{folder}: belongs to user id {owner}; allowed: a folder of your own, or root's")


def _write_whole(out: Path, content: bytes) -> None:
    descriptor, name = tempfile.mkstemp(prefix=f".{out.name}.", dir=out.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(descriptor, RESOLVED_MODE)
            os.fsync(descriptor)
        os.replace(name, out)
    except OSError:
        os.unlink(name)
        raise
