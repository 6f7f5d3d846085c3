"""Who signed an action: the digest that Hyperliquid agents sign, and the address behind a signature.

Invariant: the digest is over the action exactly as it arrived, keys in the order received.
It must not know what an action means, nor which addresses exist.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgpack  # type: ignore[import-untyped]
from coincurve import PrivateKey, PublicKey
from Crypto.Hash import keccak

from mmpi.errors import LocalError

ADDRESS_BYTES: Final = 20
WORD_BYTES: Final = 32
CHAIN_ID: Final = 1337
"""Of every L1 action, on both networks (hyperliquid-python-sdk, signing.py)."""
FIRST_V: Final = 27
"""Ethereum writes the recovery id 0 or 1 as v = 27 or 28."""


def keccak256(data: bytes) -> bytes:
    """Return the 32-byte Keccak-256 hash (Ethereum's, not SHA3-256)."""
    return keccak.new(digest_bits=256, data=data).digest()


AGENT_TYPE: Final = keccak256(b"Agent(string source,bytes32 connectionId)")
DOMAIN_SEPARATOR: Final = keccak256(
    keccak256(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
    + keccak256(b"Exchange")
    + keccak256(b"1")
    + CHAIN_ID.to_bytes(WORD_BYTES, "big")
    + bytes(WORD_BYTES)
)


def connection_id(action: Mapping[str, Any], nonce: int, vault: str | None, expires_after: int | None) -> bytes:
    """Return the hash that names an action; ValueError if a part of it cannot be encoded.

    Source: hyperliquid-python-sdk signing.py (action_hash): msgpack of the action, nonce, vault flag and address,
    then a zero byte and the time for `expiresAfter`, which is left out when absent.
    """
    try:
        data = msgpack.packb(action) + nonce.to_bytes(8, "big")
        data += b"\x00" if vault is None else b"\x01" + address_bytes(vault)
        data += b"" if expires_after is None else b"\x00" + expires_after.to_bytes(8, "big")
    except (OverflowError, TypeError) as error:
        raise ValueError(f"the action cannot be encoded: {error}") from None
    return keccak256(data)


def agent_digest(connection: bytes, *, mainnet: bool) -> bytes:
    """Return what the agent's key signs: the EIP-712 hash of the phantom agent {source, connectionId}."""
    agent = AGENT_TYPE + keccak256(b"a" if mainnet else b"b") + connection
    return keccak256(b"\x19\x01" + DOMAIN_SEPARATOR + keccak256(agent))


def recover(digest: bytes, r: str, s: str, v: int) -> str:
    """Return the address whose key signed `digest`; ValueError if r, s, v are no signature at all.

    `r` and `s` are hexadecimal text, leading zeros optional. A signature of something else gives another address.
    """
    try:
        packed = int(r, 16).to_bytes(WORD_BYTES, "big") + int(s, 16).to_bytes(WORD_BYTES, "big")
        packed += (v - FIRST_V).to_bytes(1, "big")
    except OverflowError:
        raise ValueError("r, s or v of the signature is out of range") from None
    return _address(PublicKey.from_signature_and_message(packed, digest, hasher=None))


def address_of(private_key: bytes) -> str:
    """Return the address that belongs to a private key of 32 bytes."""
    if len(private_key) != WORD_BYTES:
        raise LocalError(f"a private key has {WORD_BYTES} bytes, not {len(private_key)}")
    return _address(PrivateKey(private_key).public_key)


def address_bytes(address: str) -> bytes:
    """Return the 20 bytes of a 0x address; ValueError if it is none."""
    raw = bytes.fromhex(address.removeprefix("0x"))
    if len(raw) != ADDRESS_BYTES or not address.startswith("0x"):
        raise ValueError(f"{address!r} is not an address of 0x and {2 * ADDRESS_BYTES} hexadecimal digits")
    return raw


def _address(public_key: PublicKey) -> str:
    return "0x" + keccak256(public_key.format(compressed=False)[1:])[-ADDRESS_BYTES:].hex()
