"""Folders: where mmpi keeps things on this machine when nobody says, and which configuration file counts.

Invariant: it imports next to nothing, so that `mmpi kill` starts at once. It must not know what is in the folders.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from mmpi.errors import ConfigError

INSTALLED_CONFIG: Final = Path("/etc/mmpi/mmpi.toml")
CONFIG_VARIABLE: Final = "MMPI_CONFIG"
CREDENTIALS: Final = "CREDENTIALS_DIRECTORY"
"""The variable in which systemd names the folder of a service's credentials."""
DEFAULT: Final = "default"
FROM_CREDENTIALS: Final = f"environment {CREDENTIALS}"


def config_file(chosen: Path | None, environ: Mapping[str, str]) -> Path | None:
    """Return the configuration file that counts: the chosen one, MMPI_CONFIG's, the installed one if there is one."""
    if chosen is None and environ.get(CONFIG_VARIABLE):
        return Path(environ[CONFIG_VARIABLE])
    return chosen or (INSTALLED_CONFIG if INSTALLED_CONFIG.exists() else None)


def path_setting(key: str, chosen: Path | None, environ: Mapping[str, str]) -> Path:
    """Return paths.state_dir or paths.runtime_dir as the full configuration would, without checking the rest."""
    if override := environ.get(f"MMPI_PATHS__{key.upper()}"):
        return Path(override)
    file = config_file(chosen, environ)
    if file is not None:
        try:
            tables = tomllib.loads(file.read_text("utf-8"))
        except FileNotFoundError:
            otherwise = "without --config and MMPI_CONFIG built-in paper defaults apply"
            raise ConfigError(f"{file}: no such file; {otherwise}") from None
        except (OSError, ValueError) as error:
            raise ConfigError(f"{file}: {error}") from None
        paths = tables.get("paths")
        if isinstance(paths, dict) and isinstance(paths.get(key), str) and paths[key]:
            return Path(paths[key])
    return Path(automatic(environ, "")[f"paths.{key}"][0])


def practice_registry(environ: Mapping[str, str]) -> Path:
    """Return where practice accounts of this user are known, whatever box they are for."""
    home = _folder(environ, "XDG_STATE_HOME") or f"{_folder(environ, 'HOME') or '/tmp'}/.local/state"
    return Path(home) / "mmpi-practice" / "agents.json"


def automatic(environ: Mapping[str, str], state_dir: str) -> dict[str, tuple[str, str]]:
    """Return the host name and the folders where nobody chose them: dotted key -> (value, origin).

    root: the folders of the installed service. Others: those of the XDG Base Directory Specification 0.8, whose
    relative values are to be ignored; without them ~/.local/state, and a folder for the user id under the temporary
    one. `state_dir` is the chosen state folder, "" for none.
    """
    temporary = _folder(environ, "TMPDIR") or "/tmp"
    private = f"{temporary}/mmpi-{os.geteuid()}"
    home = _folder(environ, "HOME")
    state = _xdg(environ, "XDG_STATE_HOME") or (f"{home}/.local/state/mmpi" if home else f"{private}/state", DEFAULT)
    runtime = _xdg(environ, "XDG_RUNTIME_DIR") or (private, DEFAULT)
    if os.geteuid() == 0:
        state, runtime = ("/var/lib/mmpi", DEFAULT), ("/run/mmpi", DEFAULT)
    secrets = (usual_secrets(state_dir or state[0]), DEFAULT)
    if credentials := _folder(environ, CREDENTIALS):
        secrets = (credentials, FROM_CREDENTIALS)
    return {
        "device.id": (_host_name(), DEFAULT),
        "paths.state_dir": state,
        "paths.runtime_dir": runtime,
        "secrets.dir": secrets,
    }


def usual_secrets(state_dir: str) -> str:
    """Return the folder of secrets where nobody chose one and systemd gives no credentials."""
    return f"{state_dir}/secrets"


def secrets_folder(secrets_dir: str, state_dir: str, environ: Mapping[str, str]) -> str:
    """Return where this process finds its secrets: in its credentials, unless another folder was chosen."""
    chosen = secrets_dir != usual_secrets(state_dir)
    return secrets_dir if chosen else _folder(environ, CREDENTIALS) or secrets_dir


def _host_name() -> str:
    """Return the host name in the letters of device.id."""
    return re.sub(r"[^a-z0-9_-]", "-", os.uname().nodename.lower()).lstrip("_-")[:32] or "mmpi"


def _xdg(environ: Mapping[str, str], name: str) -> tuple[str, str] | None:
    folder = _folder(environ, name)
    return (f"{folder}/mmpi", f"environment {name}") if folder else None


def _folder(environ: Mapping[str, str], name: str) -> str:
    value = environ.get(name, "")
    return value.rstrip("/") if value.startswith("/") else ""
