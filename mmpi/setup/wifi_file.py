"""Wi-Fi file: wifi.toml, the network to join.

Invariant: an error never shows a value: a passphrase may stand in any place. It must not know who joins the network.
"""

import re
import tomllib
from typing import Any, Final

import msgspec

from mmpi.setup.folder import WIFI

CREDENTIAL: Final = "wifi"
KEYS: Final = ("ssid", "passphrase", "country", "hidden")
MOST_SSID: Final = 32
"""Bytes (IEEE 802.11-2020, 9.4.2.2)."""
_NAME: Final = re.compile(r"[A-Za-z_-]{1,20}")
_PASSPHRASE: Final = re.compile(r"[ -~]{8,63}|[0-9a-fA-F]{64}")
"""IEEE 802.11-2020, J.4: a passphrase of 8 to 63 characters, or the 256-bit key itself."""
_PLACE: Final = re.compile(r"line (\d+), column (\d+)")
_COUNTRIES: Final = (
    "A-DEFGILMOQRSTUWXZ B-ABDEFGHIJLMNOQRSTVWYZ C-ACDFGHIKLMNORUVWXYZ D-EJKMOZ E-CEGHRST F-IJKMOR "
    "G-ABDEFGHILMNPQRSTUWY H-KMNRTU I-DELMNOQRST J-EMOP K-EGHIMNPRWYZ L-ABCIKRSTUVY M-ACDEFGHKLMNOPQRSTUVWXYZ "
    "N-ACEFGILOPRUZ O-M P-AEFGHKLMNRSTWY Q-A R-EOSUW S-ABCDEGHIJKLMNORSTVXYZ T-CDFGHJKLMNORTVWZ U-AGMSYZ "
    "V-ACEGINU W-FS Y-ET Z-AMW"
)
"""First letters with their second ones: ISO 3166-1 alpha-2, as tzdata's iso3166.tab has it."""
COUNTRIES: Final = frozenset(group[0] + second for group in _COUNTRIES.split() for second in group[2:])


class Wifi(msgspec.Struct, frozen=True):
    """A network."""

    ssid: str
    passphrase: str
    country: str
    hidden: bool = False

    def __repr__(self) -> str:
        """Return nothing of it."""
        return "Wifi()"


def parse(text: str) -> tuple[Wifi | None, list[str]]:
    """Return the network, or what is wrong."""
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        found = _PLACE.search(str(error))
        where = f": line {found[1]}, column {found[2]}" if found else ""
        return None, [f'{WIFI}{where}: not valid TOML; allowed: lines such as ssid = "name"']
    errors = [f"{WIFI}: {_shown(key)}: unknown key; allowed: {', '.join(KEYS)}" for key in table if key not in KEYS]
    for key in KEYS:
        if key not in table:
            if key != "hidden":
                errors.append(f"{WIFI}: {key}: missing; allowed: {_ALLOWED[key]}")
        elif fault := _fault(key, table[key]):
            errors.append(f"{WIFI}: {key}: {fault}; allowed: {_ALLOWED[key]}")
    if errors:
        return None, errors
    return Wifi(table["ssid"], table["passphrase"], table["country"], table.get("hidden", False)), []


def normalised(wifi: Wifi) -> bytes:
    """Return the network as a wifi.toml with every key."""
    texts = {"ssid": wifi.ssid, "passphrase": wifi.passphrase, "country": wifi.country}
    lines = [f"{key} = {_quoted(value)}" for key, value in texts.items()]
    return "\n".join([*lines, f"hidden = {'true' if wifi.hidden else 'false'}", ""]).encode()


_ALLOWED: Final = {
    "ssid": f"text of 1 to {MOST_SSID} bytes, without control characters",
    "passphrase": "8 to 63 printable ASCII characters, or 64 hex digits",
    "country": "the two capital letters of ISO 3166 for where the box stands, such as DE, US or GB",
    "hidden": "true or false",
}


def _fault(key: str, value: Any) -> str:
    """Return what is wrong with a value, "" if nothing is."""
    if key == "hidden":
        return "" if isinstance(value, bool) else "not a flag"
    if not isinstance(value, str):
        return "not a text"
    if key == "ssid":
        size = len(value.encode())
        fits = 0 < size <= MOST_SSID and all(ord(c) >= 32 and ord(c) != 127 for c in value)
        return "" if fits else f"{size} bytes, not shown"
    fits = _PASSPHRASE.fullmatch(value) is not None if key == "passphrase" else value in COUNTRIES
    return "" if fits else f"{len(value)} characters, not shown"


def _shown(key: str) -> str:
    return key if _NAME.fullmatch(key) else f"a key of {len(key)} characters, not shown"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
