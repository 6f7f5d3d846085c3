"""Readable: what a record holds in what people and JSON can read: opaque fields opened, kinds by their names.

Invariant: what cannot be opened stays as it is. It must not know how records are printed.
"""

import json
import zlib
from typing import Any, Final

from mmpi.errors import JournalError
from mmpi.journal import schema
from mmpi.journal.record import KIND_NAMES, Header, Record, description

MAX_JSON: Final = 2**26
"""Bytes of a field that are unpacked to be shown."""


def readable(value: Any) -> Any:
    """Return a value with its bytes, where they are JSON or packed JSON, as what they say."""
    if isinstance(value, bytes):
        content = _json(value)
        return value if content is None else content
    if isinstance(value, dict):
        return {key: readable(each) for key, each in value.items()}
    return [readable(each) for each in value] if isinstance(value, list | tuple) else value


def kind_name(record: Record, header: Header | None) -> str:
    """Return the name of a record's kind, that of a later version by what its segment says."""
    if record.kind in KIND_NAMES or header is None:
        return record.name
    return kinds_of(header).get(str(record.kind), record.name)


def kinds_of(header: Header) -> dict[str, str]:
    """Return number -> name of the kinds that a segment describes."""
    try:
        told = schema.unpack(header.description or description())
    except JournalError:
        return {}
    return {number: name for number, (name, _) in told.kinds.items()}


def _json(data: bytes) -> Any:
    """Return what bytes say in JSON, packed by zlib or not; None if they are nothing of the kind."""
    if data[:1] == b"\x78":
        try:
            data = zlib.decompressobj().decompress(data, MAX_JSON)
        except zlib.error:
            return None
    if data[:1] not in (b"{", b"["):
        return None
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None
