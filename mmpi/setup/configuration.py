"""Configuration: what `mmpi check` says to a mmpi.toml, and the little that the set-up itself reads of one.

Invariant: what decides is the file alone: no variable of ours, and no secret, reaches the check from outside.
It must not know what is allowed in the file.
"""

import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any, Final

import msgspec

from mmpi.sections import PinSettings
from mmpi.setup.folder import CONFIG

PREFIX: Final = "mmpi check: "
CHECK_S: Final = 120.0
"""A Pi Zero imports pydantic in some seconds; more means that it hangs."""
PASSED_ON: Final = ("PATH", "LANG", "LC_ALL", "TMPDIR", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
"""The only variables that the check is given."""
PAPER: Final = "paper"
PLAY: Final = (PAPER, "practice")
WITH_SECRETS: Final = ("practice", "live")


def check(content: bytes) -> list[str]:
    """Return the errors of a configuration, each under the name that its writer knows."""
    with tempfile.TemporaryDirectory(prefix="mmpi-setup-") as scratch:
        staged = Path(scratch) / CONFIG
        staged.write_bytes(content)
        command = [sys.executable, "-m", "mmpi", "check", "--json", "--config", str(staged)]
        environ = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        try:
            done = subprocess.run(
                command, env=environ, stdin=subprocess.DEVNULL, capture_output=True, timeout=CHECK_S, check=False
            )
        except subprocess.TimeoutExpired:
            return [f"{CONFIG}: could not be checked: mmpi check took longer than {CHECK_S:g} s"]
        if done.returncode == 0:
            return []
        lines = done.stderr.decode("utf-8", "replace").splitlines()
        said = [line.removeprefix(PREFIX) for line in lines if line.startswith(PREFIX)]
        return [_named(line, str(staged)) for line in said] or [
            f"{CONFIG}: could not be checked: mmpi check ended with {done.returncode}"
        ]


def mode_of(content: bytes | None) -> str:
    """Return the mode of a configuration that was checked; no configuration is paper."""
    mode = _table(content, "venue").get("mode", PAPER)
    return mode if isinstance(mode, str) else PAPER


def passwords_of(content: bytes | None) -> dict[str, str]:
    """Return the secrets that a configuration needs for its brokers, each with the key that needs it."""
    needed = {"mqtt": "MQTT_PASSWORD", "mqtt_far": "MQTT_FAR_PASSWORD"}
    return {secret: f"{name}.username" for name, secret in needed.items() if _table(content, name).get("username")}


def pins_of(content: bytes | None) -> PinSettings:
    """Return where the buttons of a configuration are; one that cannot be read has none."""
    try:
        return msgspec.convert(_table(content, "pins"), PinSettings)
    except msgspec.ValidationError:
        return PinSettings()


def _table(content: bytes | None, name: str) -> dict[str, Any]:
    try:
        table = tomllib.loads((content or b"").decode()).get(name)
    except (ValueError, RecursionError):
        return {}
    return table if isinstance(table, dict) else {}


def _named(line: str, staged: str) -> str:
    named = line.replace(staged, CONFIG)
    return named if named.startswith(CONFIG) else f"{CONFIG}: {named}"
