"""The bytes of a segment: exact both ways, and nothing that is not what was written passes for it."""

import struct
import types
import typing
import zlib
from enum import Enum

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from journals import cancel, flipped, timer

from mmpi.actions import Action
from mmpi.errors import JournalError, LocalError
from mmpi.events import Event
from mmpi.journal.record import (
    ACTION,
    EVENT,
    FIXED_HEADER,
    FORMAT,
    FRAME_BYTES,
    KINDS,
    MAX_HEADER,
    MAX_PAYLOAD,
    NOTE,
    Header,
    HeaderCutError,
    Record,
    decode,
    decode_header,
    description,
    encode_header,
    encode_payload,
    frame,
    has_wrong_length,
    header_length,
    matches,
    unframe,
)

HEADER = Header(number=7, run=3, first_record=1234, created_ns=1_700_000_000_000_000_000)
MARKER = HEADER.marker
COUNTS = st.integers(0, 2**64 - 1)
HEADERS = st.builds(Header, COUNTS, COUNTS, COUNTS, COUNTS, st.binary(min_size=1, max_size=300))
PLAIN: dict[type, st.SearchStrategy[object]] = {
    int: st.integers(-(2**63), 2**63 - 1), float: st.floats(allow_nan=False), str: st.text(max_size=20),
    bytes: st.binary(max_size=20), bool: st.booleans(),
}  # fmt: skip


def anything(hint: object) -> st.SearchStrategy[object]:
    """Return a strategy for every value of a field's type."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return st.builds(hint, **{name: anything(kind) for name, kind in typing.get_type_hints(hint).items()})
    if isinstance(hint, type) and issubclass(hint, Enum) or origin is typing.Literal:
        return st.sampled_from(arguments or list(typing.cast(type[Enum], hint)))
    if origin is tuple and arguments[-1] is ...:
        return st.lists(anything(arguments[0]), max_size=4).map(tuple)
    if origin is tuple:
        return st.tuples(*map(anything, arguments))
    if origin is types.UnionType:
        return st.one_of(*map(anything, arguments))
    return PLAIN[hint]  # type: ignore[index]


VALUES = {kind: anything(hint) for kind, (_, hint) in KINDS.items()}


def record(kind: int, payload: bytes) -> Record:
    """Return a record at some place."""
    return Record(kind, payload, "00000001.mmj", 48, 5)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_every_kind_is_exact_both_ways(kind: int, data: st.DataObject) -> None:
    """Whatever a record holds, decoded it is the same, and encodes to the very bytes it was read from."""
    value = data.draw(VALUES[kind])
    payload = encode_payload(value)
    decoded = decode(record(kind, payload))
    assert decoded == value
    assert encode_payload(decoded) == payload


def test_every_event_has_its_own_tag() -> None:
    """No two kinds of event, and no two kinds of action, share the tag that tells them apart."""
    for union in (Event, Action):
        tags = [kind.__struct_config__.tag for kind in typing.get_args(union)]
        assert len(set(tags)) == len(tags) > 1


# Headers ------------------------------------------------------------------------------------------------------------


@given(HEADERS)
def test_a_header_is_exact_both_ways(header: Header) -> None:
    """A header comes back as it was, with any description, and its length is told by its first bytes."""
    data = encode_header(header)
    assert decode_header(data + b"more") == header
    assert encode_header(decode_header(data)) == data
    assert header_length(data[:FIXED_HEADER]) == len(data)


def test_a_header_brings_our_description_along() -> None:
    """Without another one a segment says what the shapes of this version are."""
    decoded = decode_header(encode_header(HEADER))
    assert decoded.description == description()
    assert (decoded.schema, decoded.description_differs()) == (HEADER.schema, False)
    assert msgspec.structs.replace(HEADER, description=b"{}").description_differs()


def test_a_description_that_was_packed_otherwise_does_not_differ() -> None:
    """Another zlib may pack the same shapes into other bytes: they are the same shapes."""
    packed = zlib.compress(zlib.decompress(description()), 1)
    header = decode_header(encode_header(msgspec.structs.replace(HEADER, description=packed)))
    assert packed != description()
    assert not header.description_differs()


def test_every_flipped_bit_of_a_header_is_noticed() -> None:
    """No header with one wrong bit is read, and none is taken for one that was being written when its run ended."""
    data = encode_header(HEADER)
    for bit in range(len(data) * 8):
        with pytest.raises(JournalError) as caught:
            decode_header(flipped(data, bit))
        assert not isinstance(caught.value, HeaderCutError), bit


def test_a_header_cut_anywhere_was_being_written() -> None:
    """Every beginning of a header, and of zeros that were reserved for one, is told from damage."""
    data = encode_header(HEADER)
    for cut in (*(data[:size] for size in range(len(data))), bytes(1), bytes(FIXED_HEADER)):
        with pytest.raises(HeaderCutError):
            decode_header(cut)


def test_a_header_that_is_none_is_named() -> None:
    """Empty, cut, foreign, future and lying headers each have their own message."""
    data = encode_header(HEADER)
    future = data[:8] + struct.pack("<H", FORMAT + 1) + data[10:]
    for bad, message in (
        (b"", "the file is empty"),
        (bytes(100), "nothing is written in it"),
        (data[:20], f"cut off after 20 of {FIXED_HEADER}"),
        (data[:-1], f"cut off after {len(data) - 1} of {len(data)}"),
        (b"PAR1" + bytes(60), "not a journal segment"),
        (future, f"written in format {FORMAT + 1}; this version reads format {FORMAT}"),
        (signed(HEADER, description_bytes=MAX_HEADER), "the header's CRC does not match"),
        (signed(HEADER, schema=1), "the header contradicts itself"),
        (signed(HEADER, marker=b"\xf5abc"), "the header contradicts itself"),
    ):
        with pytest.raises(JournalError, match=message):
            decode_header(bad)


def test_a_later_header_may_say_more() -> None:
    """Fields that a later version adds before the CRC are passed over."""
    assert decode_header(signed(HEADER, more=b"12345678")) == decode_header(encode_header(HEADER))


def signed(
    header: Header, *, schema: int = -1, marker: bytes = b"", description_bytes: int = -1, more: bytes = b""
) -> bytes:
    """Return a header that says something else, with a good CRC."""
    told = description()
    length = len(told) if description_bytes < 0 else description_bytes
    fields = struct.pack(
        "<8sHHIIQQQQ4s", b"MMPIJRNL", FORMAT, FIXED_HEADER + len(more), length,
        header.schema if schema < 0 else schema, header.number, header.run, header.first_record, header.created_ns,
        marker or header.marker,
    ) + more  # fmt: skip
    return fields + struct.pack("<I", zlib.crc32(fields + told)) + told


# Records ------------------------------------------------------------------------------------------------------------


@given(COUNTS, COUNTS, COUNTS, COUNTS, st.text())
def test_no_text_holds_a_marker(number: int, run: int, first: int, at: int, text: str) -> None:
    """A marker's first byte is in no UTF-8, so nothing that a venue sends passes for the start of a record."""
    marker = Header(number, run, first, at).marker
    assert (len(marker), marker[0]) == (4, 0xF5)
    assert marker[:1] not in text.encode()


def test_each_segment_has_its_own_marker() -> None:
    """What an earlier segment has left in a block is not taken for a record of this one."""
    markers = {Header(number, 1, 100 * number, number * 10**9).marker for number in range(1, 1000)}
    assert len(markers) == 999


@given(st.integers(0, 2**40), st.sampled_from(list(KINDS)), st.binary(max_size=60))
def test_every_flipped_bit_of_a_record_is_noticed(number: int, kind: int, payload: bytes) -> None:
    """The CRC is that of marker, length, number, kind and payload."""
    data = frame(MARKER, number, kind, payload)
    head = data[:FRAME_BYTES]
    assert unframe(head)[:4] == (MARKER, len(payload), number % 2**32, kind)
    assert matches(head, payload)
    for bit in range(len(data) * 8):
        bad = flipped(data, bit)
        assert not matches(bad[:FRAME_BYTES], bad[FRAME_BYTES:])
    assert not matches(head, payload + b"x")


def test_a_payload_that_no_reader_accepts_is_not_written() -> None:
    """A record over the limit is our bug and is named."""
    with pytest.raises(LocalError, match=f"note record of {MAX_PAYLOAD + 5} bytes"):
        frame(MARKER, 0, NOTE, encode_payload("x" * MAX_PAYLOAD))


def test_a_wrong_length_is_told_from_a_cut() -> None:
    """A record whose length says too much is found whole in the rest of the file; one that was cut is not."""
    payload = encode_payload(cancel(5))
    data = frame(MARKER, 9, ACTION, payload)
    for bit in range(8 * 4, 8 * 8):
        head = flipped(data, bit)[:FRAME_BYTES]
        assert has_wrong_length(head, payload)
        assert has_wrong_length(head, payload + frame(MARKER, 10, EVENT, encode_payload(timer(6))))
    head = data[:FRAME_BYTES]
    assert not any(has_wrong_length(head, payload[:cut]) for cut in range(len(payload)))


def test_a_payload_that_is_no_event_is_located() -> None:
    """A record with a good CRC that holds something else is an error with its place."""
    with pytest.raises(JournalError, match="record 5 at offset 48 of 00000001.mmj: event: "):
        decode(record(EVENT, encode_payload("text")))


def test_a_kind_of_a_later_version_is_located() -> None:
    """What this version does not know it does not guess."""
    unknown = record(200, encode_payload("text"))
    assert unknown.name == "200"
    with pytest.raises(JournalError, match=r"record 5 at offset 48 of 00000001.mmj: of a kind that .* \(200\)"):
        decode(unknown)


@given(st.sampled_from(list(KINDS)), st.binary(max_size=40))
def test_no_payload_crashes(kind: int, payload: bytes) -> None:
    """Whatever stands behind a good CRC, it is decoded or it is a JournalError."""
    try:
        decode(record(kind, payload))
    except JournalError as error:
        assert str(error).startswith("record 5 at offset 48 of 00000001.mmj: ")
