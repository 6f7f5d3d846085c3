"""mmpi broker: writes the configuration of the box's own MQTT broker, mosquitto, from mmpi.toml and its secrets.

Invariant: without `broker.enabled` nothing is written. It must not start or stop a broker: its unit does.
"""

import argparse
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Final

import msgspec

from mmpi.channels import BrokerSettings, Telling
from mmpi.commands.resolved import resolved
from mmpi.errors import ConfigError, DeviceError, RefusedError
from mmpi.runtime.secret_files import read_secret
from mmpi.telemetry import mosquitto

USERS: Final = "broker.users"
"""Pairs name:password with blanks between them, or one on each line."""
BRIDGE: Final = "bridge.password"


def run(args: argparse.Namespace) -> int:
    """Return 0 once it is written; 3 if no broker is wanted."""
    telling = resolved(args.config, Telling)
    if not telling.broker.enabled:
        raise RefusedError("no broker is wanted: broker.enabled is false")
    if args.wanted or args.ports:
        if args.ports:
            print(*(port for port in _open_ports(telling.broker)))
        return 0
    folder = args.folder or Path(telling.broker.folder)
    settings = msgspec.structs.replace(telling.broker, folder=str(folder))
    secrets = Path(telling.paths.secrets_dir)
    users = {telling.mqtt.username: read_secret(secrets / "mqtt.password"), **_users(secrets / USERS)}
    bridge = read_secret(secrets / BRIDGE) if settings.bridge_username else ""
    files = mosquitto.render(settings, telling.device_id, telling.mqtt, users, bridge)
    try:
        mosquitto.write(folder, files)
        if args.owner:
            for path in (folder, *(folder / name for name in files)):
                shutil.chown(path, args.owner, args.owner)
    except (OSError, LookupError) as error:
        raise DeviceError(f"{folder}: cannot be written: {error}") from None
    if args.json:
        print(json.dumps({"config": str(folder / mosquitto.CONF), "users": sorted(users)}), flush=True)
    else:
        print(f"mmpi broker: {folder / mosquitto.CONF}, for {', '.join(sorted(users))}", file=sys.stderr)
    return 0


def _open_ports(broker: BrokerSettings) -> list[int]:
    """Return the ports that are not on the loopback address alone: without a certificate a page's is."""
    pages = broker.websocket_port if broker.cert_file else 0
    return [port for port in (broker.tls_port, pages) if port]


def _users(path: Path) -> dict[str, str]:
    """Return the broker's people and their passwords, {} without the file; ConfigError, which shows none of them."""
    if not os.path.lexists(path):
        return {}
    users: dict[str, str] = {}
    for number, pair in enumerate(read_secret(path).split(), 1):
        name, colon, password = pair.partition(":")
        if not (name and colon and password):
            raise ConfigError(f"{path}: pair {number}: not shown; allowed: name:password, with blanks between pairs")
        if name in users:
            raise ConfigError(f"{path}: pair {number}: {name} has a password already; allowed: one")
        users[name] = password
    return users
