"""What tests of the image share: the card's set-up folder, and waiting for a box to come to rest."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from hil.emulator import ensure_emulator
from hil.rigs.card import Build, Card
from hil.rigs.virt import ARM, KILL, PINS, SECOND, Key, Virt
from image.debian import UnavailableError

SIZE_MB = 2048
PASSPHRASE = "planted passphrase 77"
SECRETS = {"ACCOUNT": "0x" + "ab" * 20, "QUOTER_KEY": "c1" * 32, "GUARDIAN_KEY": "d2" * 32}


def secrets_env(secrets: dict[str, str]) -> bytes:
    """Return a file of secrets."""
    return "".join(f"{name}={value}\n" for name, value in secrets.items()).encode()


def good(key: Key, config: str = PINS) -> dict[str, bytes]:
    """Return a set-up folder in which all is well."""
    wifi = f'ssid = "My Home"\npassphrase = "{PASSPHRASE}"\ncountry = "DE"\n'
    return {"mmpi.toml": config.encode(), "secrets.env": secrets_env(SECRETS), "wifi.toml": wifi.encode(),
            "authorized_keys": key.public, "hostname": b"shelf\n"}  # fmt: skip


def card_for(build: Build, key: Key, folder: Path, config: str = PINS) -> Card:
    """Return a freshly flashed card with a set-up folder that is in order."""
    card = Card(build, folder / "card.img", SIZE_MB)
    card.put(good(key, config))
    return card


@contextmanager
def flashed(folder: Path) -> Iterator[SimpleNamespace]:
    """Give the build, a key, and a card with a set-up folder that is in order; where something is missing, skip."""
    try:
        ensure_emulator()
        build, key = Build(), Key(folder)
        card = card_for(build, key, folder)
    except UnavailableError as error:
        pytest.skip(f"no image here: {error}")
    yield SimpleNamespace(build=build, key=key, card=card, folder=folder)


def settle(box: Virt, timeout_s: float = 400) -> None:
    """Wait until systemd has started everything that it was going to."""
    end = time.monotonic() + timeout_s
    while box.run("systemctl is-system-running").stdout.strip() not in (b"running", b"degraded"):
        assert time.monotonic() < end, box.check("systemctl list-jobs --no-pager")
        time.sleep(3)


def wait_state(box: Virt, state: str, timeout_s: float = 120) -> dict[str, object]:
    """Wait until the quoter is in this state, and return what the box then says of itself."""
    end = time.monotonic() + timeout_s
    while (status := box.status())["state"] != state:
        assert time.monotonic() < end, box.check("mmpi status; journalctl -b -p 5 -o cat --no-pager | tail -30")
        time.sleep(2)
    return status


def press(box: Virt, timeout_s: float = 60) -> None:
    """Press the red button until the box says that it is latched, and leave it pressed."""
    box.header.drive(SECOND, 0)
    box.header.drive(KILL, 1)
    end = time.monotonic() + timeout_s
    while box.status()["latch"] != "latched":
        assert time.monotonic() < end, box.check("mmpi status")
        time.sleep(0.5)


def release(box: Virt) -> None:
    """Let the red button go."""
    box.header.drive(KILL, 0)
    box.header.drive(SECOND, 1)


def arm(box: Virt, timeout_s: float = 90) -> None:
    """Hold the arm button until the box says that it is armed: its stop must have been proven first."""
    end = time.monotonic() + timeout_s
    while box.status()["latch"] == "latched":
        assert time.monotonic() < end, box.check("mmpi status; journalctl -b -u mmpi-guardian -o cat --no-pager | tail")
        box.header.drive(ARM, 0)
        time.sleep(6)
        box.header.drive(ARM, 1)
        time.sleep(2)
