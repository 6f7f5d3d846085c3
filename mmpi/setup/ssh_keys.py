"""SSH keys: authorized_keys, the public keys that may log in.

Invariant: only a key that OpenSSH reads to its last byte is let through, and an error shows nothing of a line but its
type. It must not know who logs in.

Source: RFC 4253 section 6.6 (ssh-rsa), RFC 5656 section 3.1 (ecdsa), RFC 8709 section 4 (ed25519), OpenSSH's
PROTOCOL.u2f (sk-*).
"""

import base64
import binascii
import re
from typing import Final

from mmpi.setup.folder import KEYS

RSA_BITS: Final = 3072
"""BSI TR-02102-4 (2024) and NIST SP 800-57 part 1: what is as strong as 128 bits."""
_ED25519: Final = 32
_POINTS: Final = {"nistp256": 65, "nistp384": 97, "nistp521": 133}
"""Bytes of a point that is not compressed."""
TYPES: Final = (
    "ssh-ed25519", *(f"ecdsa-sha2-{curve}" for curve in _POINTS), "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com", "ssh-rsa",
)  # fmt: skip
_ALLOWED: Final = ", ".join(TYPES)
_TYPE: Final = re.compile(r"(ssh|ecdsa|sk|rsa|webauthn)-[a-z0-9@.-]{1,50}")
_PRIVATE: Final = re.compile(rb"BEGIN [A-Z0-9 ]*PRIVATE KEY|PuTTY-User-Key-File")
PRIVATE: Final = (
    f"{KEYS}: holds a private key, which must never leave the computer it was made on; it was wiped. Make a new pair "
    "there, and put the one line of the file that ends in .pub here"
)


def is_private(content: bytes) -> bool:
    """Return whether somebody pasted a private key, in any encoding of the text."""
    return _PRIVATE.search(content.replace(b"\0", b"")) is not None


def parse(text: str) -> tuple[list[str], list[str]]:
    """Return the lines of the keys, and what is wrong."""
    keys: list[str] = []
    errors: list[str] = []
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if fault := _fault(line):
            errors.append(f"{KEYS}: line {number}: {fault}")
        elif (key := " ".join(line.split())) not in keys:
            keys.append(key)
    return keys, errors


def _fault(line: str) -> str:
    """Return what is wrong with a line, "" if nothing is."""
    kind, *rest = line.split()
    if kind not in TYPES:
        if any(word in TYPES for word in rest):
            return "options stand in front of the key; allowed: type, key and comment alone"
        shown = f" {kind}" if _TYPE.fullmatch(kind) else ""
        return f"no key of a known type{shown}; allowed: {_ALLOWED}"
    try:
        blob = base64.b64decode(rest[0] if rest else "", validate=True)
    except (binascii.Error, ValueError):
        return f"what follows {kind} is not base64; allowed: the line of a .pub file as it is"
    try:
        fields = _fields(blob)
        inner = fields[0].decode("ascii")
    except (ValueError, IndexError):
        return f"what follows {kind} is not a whole key; allowed: the line of a .pub file as it is"
    if inner != kind:
        return f"says {kind}, but the key in it is of another type; allowed: the line of a .pub file as it is"
    if not line.isprintable():
        return "has characters that cannot be printed; allowed: the line of a .pub file as it is"
    if kind == "ssh-rsa":
        return _rsa_fault(fields)
    fits = _fits(kind, fields)
    return "" if fits else f"what follows {kind} is not a whole key; allowed: the line of a .pub file as it is"


def _fields(blob: bytes) -> list[bytes]:
    """Return the strings that a blob is made of; ValueError if it is not made of whole ones."""
    fields = []
    while blob:
        size = int.from_bytes(blob[:4], "big")
        if len(blob) < 4 + size:
            raise ValueError
        fields.append(blob[4 : 4 + size])
        blob = blob[4 + size :]
    return fields


def _fits(kind: str, fields: list[bytes]) -> bool:
    """Return whether the fields are those of a key of this type; security keys have their application as well."""
    words = kind.partition("@")[0]
    if words.startswith("sk-"):
        if len(fields) < 2 or not fields[-1]:
            return False
        words, fields = words.removeprefix("sk-"), fields[:-1]
    if words == "ssh-ed25519":
        return len(fields) == 2 and len(fields[1]) == _ED25519
    curve = words.rpartition("-")[2]
    return (
        len(fields) == 3
        and fields[1] == curve.encode()
        and len(fields[2]) == _POINTS[curve]
        and fields[2].startswith(b"\x04")
    )


def _rsa_fault(fields: list[bytes]) -> str:
    if len(fields) != 3:
        return "what follows ssh-rsa is not a whole key; allowed: the line of a .pub file as it is"
    bits = int.from_bytes(fields[2], "big").bit_length()
    return "" if bits >= RSA_BITS else f"ssh-rsa of {bits} bits; allowed: {RSA_BITS} and more, or better ssh-ed25519"
