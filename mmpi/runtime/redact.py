"""Redact: texts that leave the box, without what looks like a secret.

Invariant: a run of 64 hex digits or more, and the value of anything that is named a key, secret, token or password,
does not pass; addresses (40 digits) do. It must not know which secrets there are.
"""

import json
import re
from typing import Any, Final

HIDDEN: Final = "[redacted]"
PUBLIC: Final = frozenset({"digest", "scope", "sha256"})
"""Names of ours under which 64 hex digits are a SHA-256."""
FOLDERS: Final = frozenset({"secrets_dir"})
"""Names of ours that sound like a secret and say where secrets are, not what they are."""
_DIGITS: Final = re.compile(r"(?:0x)?[0-9a-fA-F]{64,}")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_SECRET: Final = re.compile(r"key|secret|token|password", re.IGNORECASE)
_NAMED: Final = re.compile(
    r"""([\w.-]*(?:key|secret|token|password)[\w.-]*["']?\s*[=:]\s*)("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^\s,;&)\]}]+)""",
    re.IGNORECASE,
)


def redacted(data: bytes) -> tuple[bytes, bool]:
    """Return a file's text without secrets, JSON laid out for people, and whether there was something to hide."""
    text = data.decode("utf-8", "replace")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        clean = redacted_text(text)
        return clean.encode(), clean != text
    hidden = redacted_value(content)
    return json.dumps(hidden, indent=2, ensure_ascii=False).encode("utf-8", "replace") + b"\n", hidden != content


def redacted_text(text: str) -> str:
    """Return a text without secrets."""
    return _NAMED.sub(rf"\g<1>{HIDDEN}", _DIGITS.sub(HIDDEN, text))


def redacted_value(value: Any, name: str = "", *, secret: bool = False) -> Any:
    """Return a value of JSON without secrets; `name` is what it is called, `secret` that it is inside of one."""
    secret = secret or (name not in FOLDERS and bool(_SECRET.search(name)))
    if isinstance(value, dict):
        return {redacted_text(key): redacted_value(each, key, secret=secret) for key, each in value.items()}
    if isinstance(value, list):
        return [redacted_value(each, name, secret=secret) for each in value]
    if value is None or isinstance(value, bool) or value == "":
        return value
    if secret:
        return HIDDEN
    if isinstance(value, str) and not (name in PUBLIC and _DIGEST.fullmatch(value)):
        return redacted_text(value)
    return value
