"""The resolved configuration of a daemon started by hand: checked by `mmpi check --resolve` in a process of its own.

Invariant: the daemon's own process never imports pydantic; an unchanged configuration is not checked twice.
"""

import hashlib
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from mmpi.errors import ConfigError
from mmpi.folders import config_file, path_setting


def resolved_config(config: Path | None) -> Path:
    """Return the path of an up-to-date config.json; ConfigError with everything that is wrong."""
    out = path_setting("runtime_dir", config, os.environ) / "config.json"
    stamp = out.with_suffix(".inputs")
    inputs = _inputs(config)
    if out.is_file() and stamp.is_file() and stamp.read_text() == inputs:
        return out
    command = [sys.executable, "-m", "mmpi", "check", "--resolve", *(["--config", str(config)] if config else [])]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise ConfigError("\n".join(line.removeprefix("mmpi check: ") for line in done.stderr.splitlines()))
    stamp.write_text(inputs)
    return out


def _inputs(config: Path | None) -> str:
    """Return a digest of all that decides the result: file, environment, version, user."""
    file = config_file(config, os.environ)
    content = file.read_bytes() if file is not None and file.is_file() else b""
    folders = ("HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR", "TMPDIR", "CREDENTIALS_DIRECTORY")
    environment = sorted((k, v) for k, v in os.environ.items() if k.startswith("MMPI_") or k in folders)
    return hashlib.sha256(repr((str(file), content, environment, version("mmpi"), os.geteuid())).encode()).hexdigest()
