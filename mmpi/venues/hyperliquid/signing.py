"""Signing of Hyperliquid's L1 actions: msgpack, keccak-256, EIP-712 with its domain hashed once, secp256k1.

Invariant: a key's text appears in no message, repr or exception. It must not know what an action means.

Source: the venue's Python SDK, `utils/signing.py` (its documentation leaves the scheme to the SDK). The order of an
action's keys is part of what is signed.
"""

from collections.abc import Mapping
from typing import Final

import msgspec
import sha3  # type: ignore[import-untyped]
from coincurve import PrivateKey

from mmpi.errors import ConfigError

KEY_BYTES: Final = 32
CHAIN_ID: Final = 1337
"""Fixed for L1 actions on mainnet and testnet; the network is told by the source letter."""
RECOVERY_OFFSET: Final = 27
"""Ethereum writes the recovery number 0 or 1 as v = 27 or 28."""

_encode: Final = msgspec.msgpack.Encoder().encode


def keccak256(data: bytes) -> bytes:
    """Return the 32-byte Keccak-256 digest (Ethereum's padding, not SHA-3's)."""
    digest: bytes = sha3.keccak_256(data).digest()
    return digest


_AGENT_TYPE: Final = keccak256(b"Agent(string source,bytes32 connectionId)")
_DOMAIN: Final = keccak256(
    keccak256(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
    + keccak256(b"Exchange")
    + keccak256(b"1")
    + CHAIN_ID.to_bytes(32, "big")
    + bytes(32)
)


def parse_key(text: str, what: str) -> bytes:
    """Return the 32 bytes of a private key in hex; ConfigError starts with `what` and never shows the text."""
    digits = text.strip().removeprefix("0x").removeprefix("0X")
    try:
        key = bytes.fromhex(digits)
        if len(digits) != 2 * KEY_BYTES or len(key) != KEY_BYTES:
            raise ValueError
        PrivateKey(key)
    except ValueError:
        raise ConfigError(
            f"{what}: not a private key ({len(digits)} characters, not shown); "
            f"allowed: {2 * KEY_BYTES} hex digits, with or without 0x, below the order of secp256k1"
        ) from None
    return key


def connection_id(
    action: Mapping[str, object], nonce_ms: int, expires_after_ms: int | None, vault: bytes | None = None
) -> bytes:
    """Return the 32-byte hash of an action and what limits it."""
    data = _encode(action) + nonce_ms.to_bytes(8, "big")
    data += b"\x00" if vault is None else b"\x01" + vault
    if expires_after_ms is not None:
        data += b"\x00" + expires_after_ms.to_bytes(8, "big")
    return keccak256(data)


class Signer:
    """Signs actions with one key for one network."""

    def __init__(self, key: bytes, *, mainnet: bool) -> None:
        """Take the 32 bytes that `parse_key` returned."""
        self._key: PrivateKey = PrivateKey(key)
        self._source: bytes = keccak256(b"a" if mainnet else b"b")
        public = self._key.public_key.format(compressed=False)[1:]
        self.address: str = "0x" + keccak256(public)[-20:].hex()

    def __repr__(self) -> str:
        """Return the address alone."""
        return f"Signer({self.address})"

    def sign(
        self,
        action: Mapping[str, object],
        nonce_ms: int,
        expires_after_ms: int | None,
        vault: bytes | None = None,
    ) -> tuple[str, str, int]:
        """Return (r, s, v); r and s in hex without leading zeros, as the venue's SDK writes them."""
        agent = keccak256(_AGENT_TYPE + self._source + connection_id(action, nonce_ms, expires_after_ms, vault))
        digest = keccak256(b"\x19\x01" + _DOMAIN + agent)
        signature = self._key.sign_recoverable(digest, hasher=None)
        r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")
        return hex(r), hex(s), signature[64] + RECOVERY_OFFSET
