"""Secrets file: secrets.env, as KEY=VALUE: three secrets for trading, the others for telling.

Invariant: an error never shows what stands in the file, not even a key's name, which may be a secret in the wrong
place. It must not know where secrets are kept.
"""

import difflib
import re
from typing import Final

from mmpi.errors import ConfigError
from mmpi.runtime.secret_files import ADDRESS_DIGITS
from mmpi.setup.folder import SECRETS

ACCOUNT: Final = "ACCOUNT"
AGENTS: Final = ("QUOTER_KEY", "GUARDIAN_KEY")
TRADING: Final = (ACCOUNT, *AGENTS)
"""What practice and live need."""
TELLING: Final = ("MQTT_PASSWORD", "MQTT_FAR_PASSWORD", "WEBHOOK_TOKEN", "BROKER_USERS", "BRIDGE_PASSWORD")
"""Telemetry's: passwords of brokers, the token of a webhook; of the box's own broker its people and its bridge."""
NAMES: Final = (*TRADING, *TELLING)
CREDENTIALS: Final = {
    ACCOUNT: "account", "QUOTER_KEY": "quoter.key", "GUARDIAN_KEY": "guardian.key", "MQTT_PASSWORD": "mqtt.password",
    "MQTT_FAR_PASSWORD": "mqtt_far.password", "WEBHOOK_TOKEN": "webhook.token", "BROKER_USERS": "broker.users",
    "BRIDGE_PASSWORD": "bridge.password",
}  # fmt: skip
"""Each under the name by which its service sees it (docs/service.md)."""
MOST_WORD: Final = 1000
"""Characters of a password or token."""
_NEAR: Final = 0.6
_ALLOWED: Final = ", ".join(NAMES)
_EXPORT: Final = re.compile(r"export\s+")
_VALUE: Final = re.compile(r"""\s*(?:"([^"]*)"|'([^']*)'|([^\s"'#]*))\s*(?:#.*)?""")
_ADDRESS: Final = re.compile(rf"0x[0-9a-f]{{{ADDRESS_DIGITS}}}")


def parse(text: str) -> tuple[dict[str, str], list[str]]:
    """Return each secret in its one spelling, and what is wrong."""
    secrets: dict[str, str] = {}
    errors: list[str] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        where = f"{SECRETS}: line {number}"
        key, equals, rest = _EXPORT.sub("", line, count=1).partition("=")
        key = key.strip()
        if not equals:
            errors.append(f"{where}: no = in it ({len(line)} characters, not shown); allowed: KEY=VALUE")
        elif key not in NAMES:
            errors.append(f"{where}: unknown key (not shown); {_suggestion(key)}")
        elif key in seen:
            errors.append(f"{where}: {key} stands in line {seen[key]} already; allowed: once")
        else:
            seen[key] = number
            try:
                secrets[key] = _value(key, rest, f"{where}: {key}")
            except ConfigError as error:
                errors.append(str(error))
    if all(agent in secrets for agent in AGENTS) and not are_two(secrets):
        errors.append(one_key(f"{SECRETS}: line {seen[AGENTS[1]]}"))
    return secrets, errors


def are_two(secrets: dict[str, str]) -> bool:
    """Return whether the keys of quoter and guardian differ."""
    return secrets[AGENTS[0]] != secrets[AGENTS[1]]


def one_key(where: str) -> str:
    """Return what is to be said of one key for both."""
    return (
        f"{where}: GUARDIAN_KEY is the same as QUOTER_KEY; allowed: a key of its own (the venue counts nonces by key, "
        "and the guardian must be able to cancel whatever becomes of the quoter)"
    )


def address_of(key: str) -> str:
    """Return the address of a private key."""
    from mmpi.venues.hyperliquid.signing import Signer, parse_key

    return Signer(parse_key(key, SECRETS), mainnet=False).address


def _value(key: str, rest: str, where: str) -> str:
    """Return a secret in its one spelling; ConfigError."""
    found = _VALUE.fullmatch(rest)
    if found is None:
        raise ConfigError(f"{where}: more than one word ({len(rest)} characters, not shown); allowed: one value")
    value = next((each for each in found.groups() if each is not None), "").strip()
    if key == ACCOUNT:
        if not _ADDRESS.fullmatch(value.lower()):
            said = f"not an address ({len(value)} characters, not shown)"
            raise ConfigError(f"{where}: {said}; allowed: 0x and {ADDRESS_DIGITS} hex digits")
        return value.lower()
    if key in TELLING:
        if not 0 < len(value) <= MOST_WORD or not (value.isascii() and value.isprintable()):
            allowed = f"1 to {MOST_WORD} printable ASCII characters"
            raise ConfigError(f"{where}: {len(value)} characters, not shown; allowed: {allowed}")
        return value
    from mmpi.venues.hyperliquid.signing import parse_key

    return f"0x{parse_key(value, where).hex()}"


def _suggestion(key: str) -> str:
    near = difflib.get_close_matches(key.upper()[:64], NAMES, n=1, cutoff=_NEAR)
    return f"did you mean {near[0]}? allowed: {_ALLOWED}" if near else f"allowed: {_ALLOWED}"
