"""mmpi.practice.hyperliquid.signatures against the venue's published vectors."""

import json
from pathlib import Path
from typing import Any

import pytest

from mmpi.errors import LocalError
from mmpi.practice.hyperliquid.signatures import address_bytes, address_of, agent_digest, connection_id, recover

VECTORS = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "vectors" / "hyperliquid_signing.json"


def vectors(kind: str) -> list[dict[str, Any]]:
    """Return the recorded vectors of one kind."""
    if not VECTORS.exists():
        pytest.skip("../shared/data/vectors is not here")
    return [vector for vector in json.loads(VECTORS.read_text())["vectors"] if vector["kind"] == kind]


def hash_of(vector: dict[str, Any]) -> bytes:
    """Return the connection id of a vector's action."""
    return connection_id(vector["action"], vector["nonce"], vector["vault_address"], vector.get("expires_after"))


def test_the_signer_of_every_vector_is_recovered() -> None:
    """Each published signature leads to the address of the key that made it, on both networks."""
    cases = vectors("l1_action")
    for vector in cases:
        digest = agent_digest(hash_of(vector), mainnet=vector["is_mainnet"])
        expected = vector["expected"]
        signer = recover(digest, expected["r"], expected["s"], expected["v"])
        assert signer == address_of(bytes.fromhex(vector["private_key"][2:])), vector["id"]
    assert len(cases) >= 16


def test_the_connection_id_seen_in_production() -> None:
    """The hash of the documented production order is the documented one."""
    for vector in vectors("phantom_agent"):
        assert "0x" + hash_of(vector).hex() == vector["expected_connection_id"]


def test_every_part_of_the_envelope_is_signed() -> None:
    """Another nonce, vault, expiry or order of keys gives another hash."""
    action = {"type": "cancel", "cancels": []}
    hashes = {
        connection_id(action, 1, None, None),
        connection_id(action, 2, None, None),
        connection_id(action, 1, "0x" + "11" * 20, None),
        connection_id(action, 1, None, 5),
        connection_id(dict(reversed(action.items())), 1, None, None),
    }
    assert len(hashes) == 5


def test_networks_differ() -> None:
    """The same action is signed differently on mainnet and testnet."""
    assert agent_digest(bytes(32), mainnet=True) != agent_digest(bytes(32), mainnet=False)


@pytest.mark.parametrize(
    ("r", "s", "v"),
    [("0x1", "0x1", 0), ("0x1", "0x1", 31), ("zz", "0x1", 27), ("0x" + "f" * 70, "0x1", 27), ("0x0", "0x0", 27)],
)
def test_what_is_no_signature_is_a_value_error(r: str, s: str, v: int) -> None:
    """Numbers that no key could have made are refused, not mapped to an address."""
    with pytest.raises(ValueError, match=r"signature|recover|recovery|base 16"):
        recover(bytes(32), r, s, v)


@pytest.mark.parametrize("text", ["", "0x12", "ab" * 20 + "abab", "0x" + "zz" * 20])
def test_what_is_no_address_is_a_value_error(text: str) -> None:
    """Only 0x and forty hexadecimal digits are an address."""
    with pytest.raises(ValueError, match=r"address|hexadecimal"):
        address_bytes(text)


def test_an_action_that_cannot_be_encoded_is_a_value_error() -> None:
    """An integer beyond 64 bits has no msgpack form."""
    with pytest.raises(ValueError, match="cannot be encoded"):
        connection_id({"type": "x", "n": 2**70}, 1, None, None)


def test_a_short_private_key_is_our_bug() -> None:
    """Key lengths are checked by the caller."""
    with pytest.raises(LocalError, match="32 bytes"):
        address_of(b"short")
