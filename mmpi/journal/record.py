"""Record: the bytes of a journal segment.

    segment  = header record*
    header   = magic 8s | format u16 | header length u16 | schema u32 | number u64 | run u64 | first record u64
               | created_ns u64 | crc32 u32 of all before it
    record   = length u32 of the payload | crc32 u32 of kind and payload | kind u8 | payload

All integers are little-endian, the CRC is zlib's, a payload is msgpack. The first record of a segment is a checkpoint.

Invariant: decoding what was encoded and encoding it again gives the same bytes. It must not know files or folders.
"""

import struct
import zlib
from typing import Final, TypeVar

import msgspec

from mmpi.actions import Approved
from mmpi.errors import JournalError, LocalError
from mmpi.events import Event
from mmpi.instrument import Nanos

MAGIC: Final = b"MMPIJRNL"
FORMAT: Final = 1
SCHEMA: Final = 4
"""Goes up whenever the fields of an event, an action or the checkpoint change (a test pins them)."""

CHECKPOINT: Final = 1
EVENT: Final = 2
ACTION: Final = 3
NOTE: Final = 4
GAP: Final = 5
KIND_NAMES: Final = {CHECKPOINT: "checkpoint", EVENT: "event", ACTION: "action", NOTE: "note", GAP: "gap"}

MAX_PAYLOAD: Final = 2**22
"""Bytes; the checkpoint of 32 instruments with full memories takes 3 MB, so a longer length is damage, not data."""
CLEAN_STOP: Final = "clean stop"
"""The note that ends a run which was not killed."""

_T = TypeVar("_T")
_HEADER: Final = struct.Struct("<8sHHIQQQQ")
_CRC: Final = struct.Struct("<I")
_FRAME: Final = struct.Struct("<IIB")
HEADER_BYTES: Final = _HEADER.size + _CRC.size
FRAME_BYTES: Final = _FRAME.size
_KIND_CRC: Final = {kind: zlib.crc32(bytes([kind])) for kind in KIND_NAMES}


class Header(msgspec.Struct, frozen=True):
    """What a segment says of itself. Two segments belong to one run of the writer when their `run` is equal."""

    number: int
    """This segment's number, counted from 1 over all runs in a folder."""
    run: int
    """The number of the segment that this run began with."""
    first_record: int
    """The number, counted from 0 over the run, of the first record in it."""
    created_ns: Nanos
    """`recv_ts` of the first event in it."""
    schema: int = SCHEMA


class Checkpoint(msgspec.Struct, frozen=True):
    """All that rebuilds the engine as it was before a segment's first event; the two `engine_` fields are opaque."""

    digest: str
    """SHA-256 of the settings that decide behaviour."""
    cl_ord_prefix: str
    """Instance id and run epoch, the constant front of every ClOrdId of this run."""
    mmpi_version: str
    engine_config: bytes
    engine_state: bytes


class Record(msgspec.Struct, frozen=True, gc=False):
    """One whole, checked record and where it stands: segment file name, byte offset, number within the run."""

    kind: int
    payload: bytes
    segment: str
    offset: int
    number: int

    def where(self) -> str:
        """Return the position as people read it."""
        return f"record {self.number} at offset {self.offset} of {self.segment}"


_EVENTS: Final[msgspec.msgpack.Decoder[Event]] = msgspec.msgpack.Decoder(Event)
_ACTIONS: Final = msgspec.msgpack.Decoder(Approved)
_CHECKPOINTS: Final = msgspec.msgpack.Decoder(Checkpoint)
_TEXTS: Final = msgspec.msgpack.Decoder(str)
_ENCODER: Final = msgspec.msgpack.Encoder()


def encode_header(header: Header) -> bytes:
    """Return the bytes that open a segment."""
    fields = _HEADER.pack(
        MAGIC, FORMAT, HEADER_BYTES, header.schema, header.number, header.run, header.first_record, header.created_ns
    )
    return fields + _CRC.pack(zlib.crc32(fields))


def decode_header(data: bytes) -> Header:
    """Return the header in the first HEADER_BYTES of a segment; JournalError says why it cannot be one."""
    if not data:
        raise JournalError("the file is empty")
    if data[: len(MAGIC)] != MAGIC[: len(data)]:
        raise JournalError(f"not a journal segment: it starts with {data[:8]!r} instead of {MAGIC!r}")
    if len(data) < HEADER_BYTES:
        raise JournalError(f"the header is cut off after {len(data)} of {HEADER_BYTES} bytes")
    if zlib.crc32(data[: _HEADER.size]) != _CRC.unpack_from(data, _HEADER.size)[0]:
        raise JournalError("the header's CRC does not match")
    _, version, _, schema, number, run, first_record, created_ns = _HEADER.unpack_from(data)
    if (version, schema) != (FORMAT, SCHEMA):
        raise JournalError(
            f"written in format {version}, schema {schema}; this version reads format {FORMAT}, schema {SCHEMA}"
        )
    return Header(number=number, run=run, first_record=first_record, created_ns=created_ns, schema=schema)


def encode_payload(value: Event | Approved | Checkpoint | str) -> bytes:
    """Return a record's payload."""
    return _ENCODER.encode(value)


def frame(kind: int, payload: bytes) -> bytes:
    """Return a whole record; LocalError if the payload is longer than a reader accepts."""
    if len(payload) > MAX_PAYLOAD:
        raise LocalError(f"a {KIND_NAMES[kind]} record of {len(payload)} bytes; at most {MAX_PAYLOAD} are allowed")
    return _FRAME.pack(len(payload), zlib.crc32(payload, _KIND_CRC[kind]), kind) + payload


def unframe(data: bytes) -> tuple[int, int, int]:
    """Return (payload length, CRC, kind) from the first FRAME_BYTES of a record, unchecked."""
    length, crc, kind = _FRAME.unpack(data)
    return length, crc, kind


def matches(crc: int, kind: int, payload: bytes) -> bool:
    """Return True if the CRC is that of this kind and payload."""
    return kind in _KIND_CRC and zlib.crc32(payload, _KIND_CRC[kind]) == crc


def has_wrong_length(crc: int, kind: int, rest: bytes) -> bool:
    """Return True if the bytes up to the end of the file begin with the whole record, so that only its length is wrong.

    It tells a damaged length, which would hide all records after it, from a record that was cut off.
    """
    running = _KIND_CRC.get(kind, 0)
    for byte in range(len(rest)):
        if running == crc:
            return True
        running = zlib.crc32(rest[byte : byte + 1], running)
    return running == crc


def decode_event(record: Record) -> Event:
    """Return the event in an EVENT record; JournalError names the place if it is none."""
    return _decode(_EVENTS, record)


def decode_action(record: Record) -> Approved:
    """Return the action in an ACTION record; JournalError names the place if it is none."""
    return _decode(_ACTIONS, record)


def decode_checkpoint(record: Record) -> Checkpoint:
    """Return the checkpoint in a CHECKPOINT record; JournalError names the place if it is none."""
    return _decode(_CHECKPOINTS, record)


def decode_text(record: Record) -> str:
    """Return the text of a NOTE or GAP record; JournalError names the place if it is none."""
    return _decode(_TEXTS, record)


def decode(record: Record) -> Event | Approved | Checkpoint | str:
    """Return what the record holds; JournalError names the place if it cannot be read."""
    if record.kind == EVENT:
        return decode_event(record)
    if record.kind == ACTION:
        return decode_action(record)
    return decode_checkpoint(record) if record.kind == CHECKPOINT else decode_text(record)


def _decode(decoder: msgspec.msgpack.Decoder[_T], record: Record) -> _T:
    try:
        return decoder.decode(record.payload)
    except (msgspec.MsgspecError, ValueError) as error:
        # ValueError: text that is no UTF-8.
        raise JournalError(f"{record.where()}: {KIND_NAMES[record.kind]}: {error}") from None
