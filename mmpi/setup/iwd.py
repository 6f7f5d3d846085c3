"""iwd: the network of the set-up folder as iwd wants it, in memory; run by mmpi-wifi.service before iwd.

    python -m mmpi.setup.iwd [STATE_DIR [CONFIG_DIR]]       reads $CREDENTIALS_DIRECTORY/wifi

Invariant: the passphrase is written nowhere but into iwd's own folder, which is in memory on the image.
It must not know where the network came from.

Source: iwd.network(5) and iwd.config(5) of iwd 3.8: names of profiles, escapes of values, [General] Country.
"""

import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from mmpi.device import durable
from mmpi.errors import ConfigError, MmpiError
from mmpi.setup.wifi_file import Wifi, parse

STATE: Final = Path("/var/lib/iwd")
CONFIG: Final = Path("/run/mmpi-box/iwd")
_PLAIN: Final = re.compile(r"[A-Za-z0-9 _-]+")
_KEY: Final = re.compile("[0-9a-fA-F]{64}")


def profile_name(ssid: str) -> str:
    """Return the name of a network's profile: plain where iwd reads it so, else = and the bytes in hex."""
    return f"{ssid}.psk" if _PLAIN.fullmatch(ssid) else f"={ssid.encode().hex()}.psk"


def profile(wifi: Wifi) -> str:
    """Return a network's profile."""
    secret = wifi.passphrase
    line = f"PreSharedKey={secret.lower()}" if _KEY.fullmatch(secret) else f"Passphrase={_escaped(secret)}"
    hidden = "Hidden=true\n" if wifi.hidden else ""
    return f"[Security]\n{line}\n\n[Settings]\nAutoConnect=true\n{hidden}"


def main_conf(wifi: Wifi) -> str:
    """Return iwd's own settings."""
    return f"[General]\nCountry={wifi.country}\nEnableNetworkConfiguration=false\n"


def write(text: str, state: Path, config: Path) -> None:
    """Write both files; ConfigError if the text is no network."""
    wifi, errors = parse(text)
    if wifi is None:
        raise ConfigError("\n".join(errors))
    config.mkdir(parents=True, exist_ok=True)
    durable.replace(config / "main.conf", main_conf(wifi).encode())
    for old in state.glob("*.psk"):
        if old.name != profile_name(wifi.ssid):
            old.unlink()
    durable.replace(state / profile_name(wifi.ssid), profile(wifi).encode())


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Return 0; 2 with the reason on stderr."""
    state, config = ([Path(word) for word in argv] + [STATE, CONFIG][len(argv) :])[:2]
    folder = environ.get("CREDENTIALS_DIRECTORY", "")
    if not folder:
        print("mmpi wifi: CREDENTIALS_DIRECTORY is not set; allowed: as a service only", file=sys.stderr)
        return 2
    try:
        write((Path(folder) / "wifi").read_text(encoding="utf-8"), state, config)
    except (MmpiError, OSError) as error:
        print(f"mmpi wifi: {error}", file=sys.stderr)
        return 2
    return 0


def _escaped(value: str) -> str:
    """Return a value as iwd's settings have it: backslashes doubled, a leading blank as \\s."""
    text = value.replace("\\", "\\\\")
    return "\\s" + text[1:] if text.startswith(" ") else text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
