"""Signatures against the venue's own vectors, and keys that never show."""

import json
import traceback
from pathlib import Path
from typing import Any

import pytest

from mmpi.errors import ConfigError
from mmpi.venues.hyperliquid.signing import Signer, connection_id, parse_key

VECTORS = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "vectors" / "hyperliquid_signing.json"
SECRET = "0x0123456789012345678901234567890123456789012345678901234567890123"


def vectors(kind: str) -> list[Any]:
    """Return the recorded vectors of a kind as parameters, or one skipped parameter where the data is absent."""
    if not VECTORS.exists():
        return [pytest.param(None, marks=pytest.mark.skip(reason="recorded signing vectors are absent"))]
    found = [v for v in json.loads(VECTORS.read_text())["vectors"] if v["kind"] == kind]
    return [pytest.param(v, id=v["id"]) for v in found]


def vault_of(vector: dict[str, Any]) -> bytes | None:
    """Return the vault address of a vector as bytes."""
    return bytes.fromhex(vector["vault_address"][2:]) if vector["vault_address"] else None


@pytest.mark.parametrize("vector", vectors("l1_action"))
def test_l1_actions_are_signed_as_the_venue_signs_them(vector: dict[str, Any]) -> None:
    """Every recorded L1 action gives the recorded signature."""
    signer = Signer(parse_key(vector["private_key"], "key"), mainnet=vector["is_mainnet"])
    r, s, v = signer.sign(vector["action"], vector["nonce"], vector["expires_after"], vault_of(vector))
    expected = vector["expected"]
    assert (int(r, 16), int(s, 16), v) == (int(expected["r"], 16), int(expected["s"], 16), expected["v"])


@pytest.mark.parametrize("vector", vectors("phantom_agent"))
def test_the_connection_id_matches_production(vector: dict[str, Any]) -> None:
    """The recorded production order hashes to the recorded connection id."""
    digest = connection_id(vector["action"], vector["nonce"], None, vault_of(vector))
    assert "0x" + digest.hex() == vector["expected_connection_id"]


def test_signing_matches_without_recorded_data() -> None:
    """The SDK's first order vector holds, with the leading zeros stripped."""
    order = {"a": 1, "b": True, "p": "100", "s": "100", "r": False, "t": {"limit": {"tif": "Gtc"}}}
    action = {"type": "order", "orders": [order], "grouping": "na"}
    assert Signer(parse_key(SECRET, "key"), mainnet=True).sign(action, 0, None) == (
        "0xd65369825a9df5d80099e513cce430311d7d26ddf477f5b3a33d2806b100d78e",
        "0x2b54116ff64054968aa237c20ca9ff68000f977c93289157748a3162b6ea940e",
        28,
    )


def test_expiry_and_vault_are_part_of_what_is_signed() -> None:
    """Changing the expiry or the vault changes the hash."""
    action = {"type": "cancel", "cancels": []}
    ids = {
        connection_id(action, 1, None),
        connection_id(action, 1, 0),
        connection_id(action, 1, 2),
        connection_id(action, 1, 3),
        connection_id(action, 1, None, bytes(20)),
    }
    assert len(ids) == 5


def test_the_address_is_the_keys() -> None:
    """The key 1 has the address that is public knowledge."""
    assert Signer((1).to_bytes(32, "big"), mainnet=True).address == "0x7e5f4552091a69125d5dfcb7b8c2659029395bdf"


@pytest.mark.parametrize("text", [SECRET, SECRET[2:], SECRET.upper().replace("0X", "0x"), f"  {SECRET}\n"])
def test_keys_are_read_in_any_usual_form(text: str) -> None:
    """Prefix, case and white space around a key do not matter."""
    assert parse_key(text, "key").hex() == SECRET[2:]


@pytest.mark.parametrize(
    "text",
    ["", "0x", SECRET[:-2], SECRET + "00", SECRET[:-1] + "g", "0x" + "0" * 64, "0x" + "f" * 64, "0x" + " 1" * 32],
)
def test_a_bad_key_is_refused_without_showing_it(text: str) -> None:
    """The error names what it is about and what is allowed, never the text."""
    with pytest.raises(ConfigError, match="quoter.key: not a private key.*64 hex digits") as caught:
        parse_key(text, "quoter.key")
    digits = text.removeprefix("0x")
    assert not digits or digits not in "".join(traceback.format_exception(caught.value))


def test_a_signer_shows_its_address_alone() -> None:
    """No form of a signer's text contains the key."""
    signer = Signer(parse_key(SECRET, "key"), mainnet=True)
    assert SECRET[2:] not in f"{signer!r} {signer}"
    assert signer.address in repr(signer)
