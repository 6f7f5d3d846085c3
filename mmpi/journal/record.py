"""Record: the bytes of a journal segment, of the one in memory and of the durable ledger alike.

    segment     = header record*
    header      = magic 8s | format u16 | length u16 of the header up to its CRC | description length u32 | schema u32
                  | number u64 | run u64 | first record u64 | created_ns u64 | marker 4s | crc32 u32 of all but itself
                  | description
    record      = marker 4s | length u32 of the payload | number u32 | kind u8 | crc32 u32 of all but itself | payload

All integers are little-endian, the CRC is zlib's, a payload is msgpack. The description (mmpi.journal.schema) says
what is in it; `schema` is the description's CRC. The marker is a segment's own: it is where to look for the next record
after damage. A record's number is counted over the run, modulo 2^32, so that what is missing can be counted. Where a
record could begin there may be zeros up to a multiple of 4096 bytes: the ledger's commits fill whole blocks, and what
is reserved for later ones is zeros up to the end of the file. The first record of a segment is a checkpoint: of the
engine, in the ledger of the session.

Invariant: decoding what was encoded and encoding it again gives the same bytes. It must not know files or folders.
"""

import struct
import zlib
from functools import cache
from typing import Any, Final

import msgspec

from mmpi.actions import Approved
from mmpi.errors import JournalError, LocalError
from mmpi.events import Event, ExecReport, Funding
from mmpi.instrument import Nanos
from mmpi.journal import schema
from mmpi.journal.entries import Checkpoint, Commit, ConfigText, Ending, Gap, Intent, Run, Session

MAGIC: Final = b"MMPIJRNL"
FORMAT: Final = 2
BLOCK: Final = 4096

CHECKPOINT: Final = 1
EVENT: Final = 2
ACTION: Final = 3
NOTE: Final = 4
GAP: Final = 5
SESSION: Final = 6
RUN: Final = 7
END: Final = 8
COMMIT: Final = 9
CONFIG: Final = 10
INTENT: Final = 11
KINDS: Final[dict[int, tuple[str, Any]]] = {
    CHECKPOINT: ("checkpoint", Checkpoint),
    EVENT: ("event", Event),
    ACTION: ("action", Approved),
    NOTE: ("note", str),
    GAP: ("gap", Gap),
    SESSION: ("session", Session),
    RUN: ("run", Run),
    END: ("end", Ending),
    COMMIT: ("commit", Commit),
    CONFIG: ("config", ConfigText),
    INTENT: ("intent", Intent),
}
KIND_NAMES: Final = {kind: name for kind, (name, _) in KINDS.items()}

MAX_PAYLOAD: Final = 2**22
"""Bytes; the checkpoint of 32 instruments with full memories takes 3 MB, so a longer length is damage, not data."""
CLEAN_STOP: Final = "clean stop"
"""The note that ends a run which was not killed."""

_HEADER: Final = struct.Struct("<8sHHIIQQQQ4s")
_LENGTHS: Final = (10, 16)
"""Where the two lengths stand in it."""
_CRC: Final = struct.Struct("<I")
_FRAME: Final = struct.Struct("<4sIIB")
FRAME_BYTES: Final = _FRAME.size + _CRC.size
FIXED_HEADER: Final = _HEADER.size + _CRC.size
"""Bytes of a header up to its description."""
MAX_HEADER: Final = 2**20


class HeaderCutError(JournalError):
    """A header that was being written when its run ended."""


class Header(msgspec.Struct, frozen=True):
    """What a segment says of itself. Two segments belong to one run of the writer when their `run` is equal."""

    number: int
    """This segment's number, counted from 1 over all runs in a folder."""
    run: int
    """The number of the segment that this run began with; the ledger is one run for ever."""
    first_record: int
    """The number, counted from 0 over the run, of the first record in it."""
    created_ns: Nanos
    """`recv_ts` of the first event in it."""
    description: bytes = b""
    """Packed; empty = ours."""

    @property
    def schema(self) -> int:
        """Return the schema's id."""
        return zlib.crc32(self.description or description())

    def description_differs(self) -> bool:
        """Return whether another version's shapes are in it; another packer's bytes may be of the same ones."""
        if self.description in (b"", description()):
            return False
        try:
            return schema.unpack(self.description) != schema.unpack(description())
        except JournalError:
            return True

    @property
    def marker(self) -> bytes:
        """Return the four bytes that each record of this segment begins with.

        The first is never part of a UTF-8 text, so no text that a venue sends can pass for a record.
        """
        crc = zlib.crc32(b"%d %d %d %d" % (self.number, self.run, self.first_record, self.created_ns))
        return b"\xf5" + crc.to_bytes(4, "little")[:3]


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

    @property
    def name(self) -> str:
        """Return the kind's name; that of a kind which a later version has added is its number."""
        return KIND_NAMES.get(self.kind, str(self.kind))


@cache
def description() -> bytes:
    """Return the packed description of the shapes that this version writes."""
    return schema.pack(schema.describe(KINDS))


@cache
def _decoder(kind: int) -> Any:
    return msgspec.msgpack.Decoder(KINDS[kind][1])


_MONEY: Final = frozenset(b"\xa1" + str(each.__struct_config__.tag).encode() for each in (ExecReport, Funding))
_ENCODER: Final = msgspec.msgpack.Encoder()
_PLAIN: Final = msgspec.msgpack.Decoder()


def encode_header(header: Header) -> bytes:
    """Return the bytes that open a segment."""
    told = header.description or description()
    fields = _HEADER.pack(
        MAGIC, FORMAT, FIXED_HEADER, len(told), header.schema, header.number, header.run, header.first_record,
        header.created_ns, header.marker,
    )  # fmt: skip
    return fields + _CRC.pack(zlib.crc32(told, zlib.crc32(fields))) + told


def header_length(data: bytes) -> int:
    """Return how long a header is that begins with these bytes, at most MAX_HEADER; 0 if they do not tell."""
    if len(data) < FIXED_HEADER or data[: len(MAGIC)] != MAGIC:
        return 0
    _, _, fixed, told, *_ = _HEADER.unpack_from(data)
    return min(int(fixed) + int(told), MAX_HEADER)


def decode_header(data: bytes) -> Header:
    """Return the header that a segment begins with; JournalError says why it cannot be one."""
    if not data:
        raise HeaderCutError("the file is empty")
    if not data.strip(b"\0"):
        raise HeaderCutError("nothing is written in it")
    if data[: len(MAGIC)] != MAGIC[: len(data)]:
        raise JournalError(f"not a journal segment: it starts with {data[:8]!r} instead of {MAGIC!r}")
    if len(data) < FIXED_HEADER:
        raise HeaderCutError(f"the header is cut off after {len(data)} of {FIXED_HEADER} bytes")
    _, version, fixed, told, number_of_schema, number, run, first_record, created_ns, marker = _HEADER.unpack_from(data)
    if version != FORMAT:
        raise JournalError(f"written in format {version}; this version reads format {FORMAT}")
    if len(data) < fixed + told <= MAX_HEADER and not _has_wrong_header_length(data):
        raise HeaderCutError(f"the header is cut off after {len(data)} of {fixed + told} bytes")
    if not _header_matches(data):
        raise JournalError("the header's CRC does not match")
    header = Header(number, run, first_record, created_ns, data[fixed : fixed + told])
    if header.schema != number_of_schema or header.marker != marker:
        raise JournalError("the header contradicts itself")
    return header


def _header_matches(data: bytes) -> bool:
    """Return True if a whole header is there and its CRC is right."""
    _, _, fixed, told, *_ = _HEADER.unpack_from(data)
    if not FIXED_HEADER <= fixed <= fixed + told <= min(len(data), MAX_HEADER):
        return False
    # A later version may have more fields, before the CRC.
    checked = data[: fixed - _CRC.size] + data[fixed : fixed + told]
    crc: int = _CRC.unpack_from(data, fixed - _CRC.size)[0]
    return zlib.crc32(checked) == crc


def _has_wrong_header_length(data: bytes) -> bool:
    """Return True if a whole header is there, but for a bit of its lengths."""
    first, last = _LENGTHS
    for bit in range(8 * first, 8 * last):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        if _header_matches(bytes(changed)):
            return True
    return False


def encode_payload(value: object) -> bytes:
    """Return a record's payload."""
    return _ENCODER.encode(value)


def frame(marker: bytes, number: int, kind: int, payload: bytes) -> bytes:
    """Return a whole record; LocalError if the payload is longer than a reader accepts."""
    if len(payload) > MAX_PAYLOAD:
        raise LocalError(f"a {KIND_NAMES[kind]} record of {len(payload)} bytes; at most {MAX_PAYLOAD} are allowed")
    head = _FRAME.pack(marker, len(payload), number & 0xFFFFFFFF, kind)
    return head + _CRC.pack(zlib.crc32(payload, zlib.crc32(head))) + payload


def unframe(data: bytes) -> tuple[bytes, int, int, int, int]:
    """Return (marker, payload length, number, kind, CRC) from the first FRAME_BYTES of a record, unchecked."""
    marker, length, number, kind = _FRAME.unpack_from(data)
    return marker, length, number, kind, _CRC.unpack_from(data, _FRAME.size)[0]


def matches(head: bytes, payload: bytes) -> bool:
    """Return True if the CRC in a record's first FRAME_BYTES is that of these and of the payload."""
    crc: int = _CRC.unpack_from(head, _FRAME.size)[0]
    return zlib.crc32(payload, zlib.crc32(head[: _FRAME.size])) == crc


def has_wrong_length(head: bytes, rest: bytes) -> bool:
    """Return True if the bytes up to the end of the file begin with the whole record, but for a bit of its length."""
    marker, length, number, kind, crc = unframe(head)
    for true in (len(rest), *(length ^ (1 << bit) for bit in range(32))):
        if true <= len(rest):
            first = _FRAME.pack(marker, true, number, kind)
            if zlib.crc32(rest[:true], zlib.crc32(first)) == crc:
                return True
    return False


def decode_event(record: Record) -> Event:
    """Return the event in an EVENT record; JournalError names the place if it is none."""
    event: Event = decode(record)
    return event


def decode_action(record: Record) -> Approved:
    """Return the action in an ACTION record; JournalError names the place if it is none."""
    approved: Approved = decode(record)
    return approved


def decode_checkpoint(record: Record) -> Checkpoint:
    """Return the checkpoint in a CHECKPOINT record; JournalError names the place if it is none."""
    saved: Checkpoint = decode(record)
    return saved


def decode(record: Record) -> Any:
    """Return what the record holds (KINDS); JournalError names the place if it cannot be read."""
    if record.kind not in KINDS:
        raise JournalError(f"{record.where()}: of a kind that this version does not know ({record.kind})")
    return _decoded(_decoder(record.kind).decode, record)


def is_money(record: Record) -> bool:
    """Return whether an EVENT record may hold an order report or a funding payment, without decoding it."""
    payload = record.payload
    # A list of up to 15 has a header of one byte, a longer one of three; then comes the tag, a text of one letter.
    at = 1 if payload[:1] < b"\xa0" else 3
    return payload[at : at + 2] in _MONEY


def decode_plain(record: Record) -> object:
    """Return what the record holds without any names, whoever wrote it; JournalError as `decode`."""
    return _decoded(_PLAIN.decode, record)


def _decoded(decode: Any, record: Record) -> Any:
    try:
        return decode(record.payload)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        # ValueError: text that is no UTF-8.
        raise JournalError(f"{record.where()}: {record.name}: {error}") from None
