"""The bytes of a segment: exact both ways, and every change of a shape is noticed."""

import types
import typing
import zlib
from enum import Enum

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from journals import cancel, checkpoint, timer

from mmpi.actions import Action, Approved, TimeInForce
from mmpi.errors import JournalError, LocalError
from mmpi.events import Event, ExecType, OpenOrder
from mmpi.journal.record import (
    ACTION,
    CHECKPOINT,
    EVENT,
    FRAME_BYTES,
    HEADER_BYTES,
    MAX_PAYLOAD,
    NOTE,
    SCHEMA,
    Checkpoint,
    Header,
    Record,
    decode,
    decode_header,
    encode_header,
    encode_payload,
    frame,
    has_wrong_length,
    matches,
    unframe,
)

HEADER = Header(number=7, run=3, first_record=1234, created_ns=1_700_000_000_000_000_000)
SHAPES = {4: 430838022}
"""CRC32 of all names that a schema stands for."""


FLOATS: dict[type, st.SearchStrategy[object]] = {float: st.floats(allow_nan=False)}


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
    return {int: st.integers(-(2**63), 2**63 - 1), str: st.text(max_size=20), bool: st.booleans(), **FLOATS}[hint]  # type: ignore[index]


def record(kind: int, payload: bytes) -> Record:
    """Return a record at some place."""
    return Record(kind, payload, "00000001.mmj", 48, 5)


@given(anything(Event))
def test_events_are_exact_both_ways(event: Event) -> None:
    """A decoded event is the event, and encodes to the very bytes it was read from."""
    payload = encode_payload(event)
    decoded = decode(record(EVENT, payload))
    assert decoded == event
    assert encode_payload(decoded) == payload


@given(anything(Approved))
def test_actions_are_exact_both_ways(approved: Approved) -> None:
    """A decoded action is the action, and encodes to the very bytes it was read from."""
    payload = encode_payload(approved)
    decoded = decode(record(ACTION, payload))
    assert decoded == approved
    assert encode_payload(decoded) == payload


def test_every_event_has_its_own_tag() -> None:
    """No two kinds of event, and no two kinds of action, share the tag that tells them apart."""
    for union in (Event, Action):
        tags = [kind.__struct_config__.tag for kind in typing.get_args(union)]
        assert len(set(tags)) == len(tags) > 1


def test_a_change_of_shape_needs_a_new_schema_number() -> None:
    """The fields that SCHEMA stands for are pinned: whoever changes them sees this fail and raises SCHEMA."""
    kinds = [*typing.get_args(Event), *typing.get_args(Action), Approved, OpenOrder, Checkpoint]
    fields = [(kind.__struct_config__.tag, kind.__struct_fields__) for kind in kinds]
    words = [member.value for enum in (ExecType, TimeInForce) for member in enum]
    shape = (fields, words)
    assert zlib.crc32(repr(shape).encode()) == SHAPES[SCHEMA]


def test_the_other_payloads_are_exact_both_ways() -> None:
    """Checkpoints and notes come back as they were."""
    assert decode(record(CHECKPOINT, encode_payload(checkpoint()))) == checkpoint()
    assert decode(record(NOTE, encode_payload("clean stop"))) == "clean stop"


def test_header_comes_back() -> None:
    """A header is decoded to what was encoded, from exactly HEADER_BYTES."""
    data = encode_header(HEADER)
    assert len(data) == HEADER_BYTES
    assert decode_header(data) == HEADER


def test_every_flipped_bit_of_a_header_is_noticed() -> None:
    """No header with one wrong bit is read."""
    data = encode_header(HEADER)
    for bit in range(len(data) * 8):
        bad = bytearray(data)
        bad[bit // 8] ^= 1 << bit % 8
        with pytest.raises(JournalError):
            decode_header(bytes(bad))


def test_a_header_that_is_none_is_named() -> None:
    """Empty, cut, foreign and future headers each have their own message."""
    data = encode_header(HEADER)
    future = encode_header(msgspec.structs.replace(HEADER, schema=SCHEMA + 1))
    for bad, message in (
        (b"", "the file is empty"),
        (data[:20], f"cut off after 20 of {HEADER_BYTES}"),
        (b"PAR1" + bytes(60), "not a journal segment"),
        (future, f"format 1, schema {SCHEMA + 1}; this version reads format 1, schema {SCHEMA}"),
    ):
        with pytest.raises(JournalError, match=message):
            decode_header(bad)


def test_a_frame_checks_kind_and_payload() -> None:
    """The CRC of a frame is that of its kind and payload and of no other kind, known or not."""
    payload = encode_payload(timer(1))
    length, crc, kind = unframe(frame(EVENT, payload)[:FRAME_BYTES])
    assert (length, kind) == (len(payload), EVENT)
    assert matches(crc, EVENT, payload)
    assert not matches(crc, ACTION, payload)
    assert not matches(crc, 99, payload)
    assert not matches(crc, EVENT, payload + b"x")


def test_a_payload_that_no_reader_accepts_is_not_written() -> None:
    """A record over the limit is our bug and is named."""
    with pytest.raises(LocalError, match=f"note record of {MAX_PAYLOAD + 5} bytes"):
        frame(NOTE, encode_payload("x" * MAX_PAYLOAD))


def test_a_wrong_length_is_told_from_a_cut() -> None:
    """A record whose length says too much is found whole in the rest of the file; one that was cut is not."""
    payload = encode_payload(cancel(5))
    _, crc, kind = unframe(frame(ACTION, payload)[:FRAME_BYTES])
    assert has_wrong_length(crc, kind, payload)
    assert has_wrong_length(crc, kind, payload + frame(EVENT, encode_payload(timer(6))))
    assert not any(has_wrong_length(crc, kind, payload[:cut]) for cut in range(len(payload)))


def test_a_payload_that_is_no_event_is_located() -> None:
    """A record with a good CRC that holds something else is an error with its place."""
    with pytest.raises(JournalError, match="record 5 at offset 48 of 00000001.mmj: event: "):
        decode(record(EVENT, encode_payload("text")))
