"""Mosquitto: the configuration of the device's own broker: who may come, what each may say and hear, and how much.

Source: mosquitto.conf(5) of 2.0.11 (Debian 12) and 2.0.21 (Debian 13), which both take every line; the format of the
passwords is that of mosquitto_passwd 2.0.

Invariant: nobody comes in without a name and its proof, on no listener, the box itself included; who has a name and no
rights hears and says nothing. It must not know how the broker is started, or where secrets are kept.
"""

import base64
import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from mmpi.channels import BrokerSettings as BrokerSettings
from mmpi.channels import MqttSettings
from mmpi.device.durable import FRESH, sync_folder
from mmpi.errors import ConfigError

CONF: Final = "mosquitto.conf"
ACL: Final = "acl"
PASSWORDS: Final = "passwords"
MODE: Final = 0o600
"""For the broker's user alone: mosquitto warns of files that others can read, and later ones refuse them."""
ITERATIONS: Final = 10_000
"""Of PBKDF2: 5 ms on a PC, 50 on a small Pi, for each who logs in. mosquitto_passwd's own default is 101."""
SALT_BYTES: Final = 12
HASH_BYTES: Final = 64
TOLD: Final = ("availability", "status", "pnl", "orders", "host", "fills", "alerts", "alerts/active", "command/result")
"""What the box tells; a bridge carries these out, and `command` in."""
BIRTH: Final = "homeassistant/status"
"""Where Home Assistant says that it is there, whatever the discovery prefix is."""
SYSTEM_AUTHORITIES: Final = "/etc/ssl/certs"

_NAME: Final = re.compile(r"[A-Za-z0-9._@-]{1,64}")
_TOPIC: Final = re.compile(r"[^\s+#$/\x00-\x20\x7f][^\s+#\x00-\x20\x7f]{0,127}")
_HOST: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?")
_ADDRESS: Final = re.compile(r"[0-9A-Fa-f:.]{2,45}")


def render(
    settings: BrokerSettings, device_id: str, mqtt: MqttSettings, users: Mapping[str, str], bridge_password: str = ""
) -> dict[str, tuple[bytes, int]]:
    """Return the broker's files: name -> (content, mode). `mqtt` is how the box logs in, `users` are the passwords.

    ConfigError names the field and what is wrong with it; a password is never shown.
    """
    _check(settings, device_id, mqtt, users)
    if settings.bridge_address:
        _check_bridge(settings, bridge_password)
    lines = [*_limits(settings), *_listeners(settings)]
    if settings.bridge_address:
        lines += _bridge(settings, device_id, mqtt, bridge_password)
    return {
        CONF: (_text(lines), MODE),
        ACL: (_text(_rights(settings, device_id, mqtt)), MODE),
        PASSWORDS: (_text([f"{name}:{hashed(password)}" for name, password in users.items()]), MODE),
    }


def write(folder: Path, files: Mapping[str, tuple[bytes, int]]) -> None:
    """Put files into a folder, making it; OSError if that could not be done, and then each is the old or the new one.

    All are on the disk before the first takes its place, so that a full disk changes nothing.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = {folder / name: folder / f"{name}{FRESH}" for name in files}
    try:
        for path, new in fresh.items():
            content, mode = files[path.name]
            new.unlink(missing_ok=True)
            with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                os.fchmod(file.fileno(), mode)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for path, new in fresh.items():
            new.replace(path)
    except OSError:
        for new in fresh.values():
            with suppress(OSError):
                new.unlink(missing_ok=True)
        raise
    sync_folder(folder)


def hashed(password: str, salt: bytes = b"", iterations: int = ITERATIONS) -> str:
    """Return what the broker keeps of a password: $7$iterations$salt$hash, by PBKDF2 with HMAC-SHA512.

    Without a salt it is drawn by chance.
    """
    salt = salt or os.urandom(SALT_BYTES)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, iterations, HASH_BYTES)
    return f"$7${iterations}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def _text(lines: Sequence[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode()


def _limits(settings: BrokerSettings) -> list[str]:
    """Return what holds for all; first that listeners have rights of their own, which nothing may come before."""
    return [
        "per_listener_settings true",
        "persistence false",
        "log_dest stderr",
        "log_type error",
        "log_type warning",
        "log_type notice",
        "log_timestamp false",
        "connection_messages true",
        "sys_interval 0",
        "set_tcp_nodelay true",
        "queue_qos0_messages false",
        "persistent_client_expiration 1d",
        f"max_packet_size {settings.max_packet_bytes}",
        f"max_queued_messages {settings.max_queued_messages}",
        f"max_queued_bytes {settings.max_queued_bytes}",
        f"max_inflight_messages {settings.max_inflight_messages}",
        f"max_keepalive {settings.max_keepalive_s}",
        f"memory_limit {settings.memory_bytes}",
    ]


def _listeners(settings: BrokerSettings) -> list[str]:
    lines = [f"listener {settings.port} 127.0.0.1", *_entrance(settings, certificates=False)]
    if settings.tls_port:
        lines += [f"listener {settings.tls_port} {settings.address}".rstrip(), *_secure(settings)]
        lines += _entrance(settings, certificates=settings.client_certificates)
    if settings.websocket_port:
        where = settings.address if settings.cert_file else "127.0.0.1"
        lines += [f"listener {settings.websocket_port} {where}".rstrip(), "protocol websockets"]
        lines += _secure(settings) if settings.cert_file else []
        lines += _entrance(settings, certificates=bool(settings.cert_file) and settings.client_certificates)
    return lines


def _entrance(settings: BrokerSettings, *, certificates: bool) -> list[str]:
    proof = (
        ["require_certificate true", "use_identity_as_username true"]
        if certificates
        else [f"password_file {settings.folder}/{PASSWORDS}"]
    )
    return [
        "allow_anonymous false",
        *proof,
        f"acl_file {settings.folder}/{ACL}",
        f"max_connections {settings.max_connections}",
    ]


def _secure(settings: BrokerSettings) -> list[str]:
    lines = [f"certfile {settings.cert_file}", f"keyfile {settings.key_file}", "tls_version tlsv1.2"]
    if settings.client_certificates:
        lines += [f"cafile {settings.ca_file}"] + ([f"crlfile {settings.crl_file}"] if settings.crl_file else [])
    return lines


def _rights(settings: BrokerSettings, device_id: str, mqtt: MqttSettings) -> list[str]:
    """Return the rights, by name; what is not in them nobody has."""
    base, births = f"{mqtt.prefix}/{device_id}", dict.fromkeys((BIRTH, f"{mqtt.discovery_prefix}/status"))
    lines = [
        f"user {mqtt.username}",
        f"topic write {base}/#",
        f"topic read {base}/command",
        f"topic write {mqtt.discovery_prefix}/device/{device_id}/config",
        *(f"topic read {birth}" for birth in births),
    ]
    for name in (*settings.owners, *settings.readers):
        lines += [f"user {name}", f"topic read {base}/#", f"topic read {mqtt.discovery_prefix}/#"]
        if name in settings.owners:
            lines += [f"topic write {base}/command", *(f"topic write {birth}" for birth in births)]
    return lines


def _bridge(settings: BrokerSettings, device_id: str, mqtt: MqttSettings, password: str) -> list[str]:
    """Return the bridge. The directions have no topic in common, so that nothing can go round.

    Its `bridge` topic, here and there, is the other broker's word on whether it has us: 1 or 0, retained.
    """
    base = f"{mqtt.prefix}/{device_id}"
    lines = [
        f"connection mmpi-{device_id}",
        f"address {settings.bridge_address}:{settings.bridge_port}",
        f"remote_clientid mmpi-bridge-{device_id}",
        "bridge_protocol_version mqttv311",
        "try_private false",
        "notifications true",
        f"notification_topic {base}/bridge",
        "cleansession true",
        "start_type automatic",
        "restart_timeout 5 60",
        "keepalive_interval 30",
        *(f"topic {base}/{topic} out 1" for topic in TOLD),
        f"topic {mqtt.discovery_prefix}/device/{device_id}/config out 1",
    ]
    if settings.bridge_commands:
        lines.append(f"topic {base}/command in 1")
    if settings.bridge_tls:
        file = settings.bridge_ca_file
        lines += [f"bridge_cafile {file}" if file else f"bridge_capath {SYSTEM_AUTHORITIES}", "bridge_insecure false"]
    if settings.bridge_username:
        lines += [f"remote_username {settings.bridge_username}", f"remote_password {password}"]
    return lines


# Checks ---------------------------------------------------------------------------------------------------------------


def _check(settings: BrokerSettings, device_id: str, mqtt: MqttSettings, users: Mapping[str, str]) -> None:
    for field, value in (("device.id", device_id), ("mqtt.prefix", mqtt.prefix),
                         ("mqtt.discovery_prefix", mqtt.discovery_prefix)):  # fmt: skip
        _matches(field, value, _TOPIC, "no blanks, + or #, not empty, not begun with / or $")
    if "/" in device_id:
        raise ConfigError(f"device.id {device_id!r}; allowed: no /")
    names = {"mqtt.username": [mqtt.username], "broker.owners": settings.owners, "broker.readers": settings.readers,
             "users": list(users)}  # fmt: skip
    for field, found in names.items():
        for name in found:
            _matches(field, name, _NAME, "letters, digits and . _ @ -, at most 64 of them")
    _check_people(settings, mqtt, users)
    _check_ports(settings)
    if settings.address:
        _matches("broker.address", settings.address, _ADDRESS, "an IP address of this machine, or empty for all")
    for field in ("folder", "cert_file", "key_file", "ca_file", "crl_file", "bridge_ca_file"):
        _check_path(field, getattr(settings, field))
    if not settings.folder:
        raise ConfigError("broker.folder is empty; allowed: an absolute path")
    _check_tls(settings)
    _check_numbers(settings)


def _check_people(settings: BrokerSettings, mqtt: MqttSettings, users: Mapping[str, str]) -> None:
    """See to it that everybody has one part to play, and a proof of who they are."""
    everybody = [mqtt.username, *settings.owners, *settings.readers]
    for name in everybody:
        if everybody.count(name) > 1:
            raise ConfigError(f"broker: {name!r} is there twice; allowed: one of mqtt.username, owners and readers")
        if name not in users and (name == mqtt.username or not settings.client_certificates):
            raise ConfigError(f"broker: {name!r} has no password")
    for name, password in users.items():
        if name not in everybody:
            raise ConfigError(f"broker: user {name!r} is in neither owners nor readers")
        _check_password(f"password of {name!r}", password)


def _check_password(field: str, password: str) -> None:
    # In the bridge's lines blanks at the ends are lost, and nobody who types one could tell why it is refused.
    if not password or not password.isprintable() or password != password.strip():
        raise ConfigError(f"broker: {field}; allowed: not empty, printable, without blanks at its ends")


def _check_ports(settings: BrokerSettings) -> None:
    ports = {"port": settings.port, "tls_port": settings.tls_port, "websocket_port": settings.websocket_port}
    for field, port in ports.items():
        least = 1 if field == "port" else 0
        if not least <= port <= 65535:
            raise ConfigError(f"broker.{field} {port}; allowed: {least} to 65535")
        if port and list(ports.values()).count(port) > 1:
            raise ConfigError(f"broker.{field} {port} is there twice; allowed: a port for each listener")


def _check_tls(settings: BrokerSettings) -> None:
    if bool(settings.cert_file) != bool(settings.key_file):
        raise ConfigError("broker: cert_file and key_file go together")
    if settings.tls_port and not settings.cert_file:
        raise ConfigError(f"broker.tls_port {settings.tls_port} needs cert_file and key_file")
    if settings.client_certificates and not (settings.cert_file and settings.ca_file):
        raise ConfigError("broker.client_certificates needs cert_file, key_file and ca_file")


def _check_numbers(settings: BrokerSettings) -> None:
    bounds = {
        "max_connections": (1, 1000), "max_packet_bytes": (70_000, 2**24), "max_queued_messages": (1, 10_000),
        "max_queued_bytes": (70_000, 2**26), "max_inflight_messages": (1, 1000), "max_keepalive_s": (30, 65535),
        "memory_bytes": (2**22, 2**30),
    }  # fmt: skip
    for field, (least, most) in bounds.items():
        value = getattr(settings, field)
        if not least <= value <= most:
            raise ConfigError(f"broker.{field} {value}; allowed: {least} to {most}")


def _check_bridge(settings: BrokerSettings, password: str) -> None:
    _matches("broker.bridge_address", settings.bridge_address, _HOST, "a host's name or IPv4 address, without port")
    if not 1 <= settings.bridge_port <= 65535:
        raise ConfigError(f"broker.bridge_port {settings.bridge_port}; allowed: 1 to 65535")
    if settings.bridge_username:
        _matches("broker.bridge_username", settings.bridge_username, re.compile(r"[!-~]{1,128}"), "no blanks")
        _check_password("password of the bridge", password)


def _check_path(field: str, path: str) -> None:
    if path and (not path.startswith("/") or not path.isprintable() or path != path.strip()):
        raise ConfigError(f"broker.{field} {path!r}; allowed: an absolute path without line breaks, or empty")


def _matches(field: str, value: str, pattern: re.Pattern[str], allowed: str) -> None:
    if not pattern.fullmatch(value):
        raise ConfigError(f"{field} {value!r}; allowed: {allowed}")
