"""What a segment says of its shapes: every change is noticed, and older and later programs read each other's records.

journal_shapes/ has one description for each set of shapes that was ever written, named by its CRC. After a change on
purpose run this file as a program: it adds the new one.
"""

import json
import zlib
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from journals import cancel, snapshot
from msgspec import inspect
from test_journal_record import VALUES, anything

from mmpi.errors import JournalError
from mmpi.events import ExecReport, ExecType
from mmpi.journal import schema
from mmpi.journal.entries import Commit
from mmpi.journal.record import (
    ACTION,
    CHECKPOINT,
    EVENT,
    KINDS,
    Header,
    Record,
    decode_plain,
    description,
    encode_payload,
)
from mmpi.journal.schema import Description, Field, Shape
from mmpi.journal.survey import spelled, value_of

STORED = Path(__file__).parent / "journal_shapes"


def structs() -> dict[str, type[msgspec.Struct]]:
    """Return every struct that may be in a journal, by its name."""
    found: dict[str, type[msgspec.Struct]] = {}

    def look(kind: object) -> None:
        if isinstance(kind, inspect.StructType) and kind.cls.__name__ not in found:
            found[kind.cls.__name__] = kind.cls
            for field in kind.fields:
                look(field.type)
        parts = (*getattr(kind, "types", ()), *getattr(kind, "item_types", ()), getattr(kind, "item_type", None))
        for each in filter(None, parts):
            look(each)

    for _, kind in KINDS.values():
        look(inspect.type_info(kind))
    return found


STRUCTS = structs()
INSTANCES = {name: anything(struct) for name, struct in STRUCTS.items()}
OURS = schema.describe(KINDS)


def text_of(told: Description) -> str:
    """Return a description as it is stored: one kind or type a line."""
    lines = [
        f'"{part}": {{\n'
        + ",\n".join(f"{json.dumps(key)}: {msgspec.json.encode(value).decode()}" for key, value in sorted(each.items()))
        + "\n}"
        for part, each in (("kinds", told.kinds), ("types", told.types))
    ]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def crc_of(told: Description) -> int:
    """Return the number that names a description."""
    return zlib.crc32(msgspec.json.encode(told, order="deterministic"))


def undone(old: Description, new: Description) -> list[str]:
    """Return what of an older description a newer one has not kept."""
    wrong = [f"kind {number}" for number, (name, _) in old.kinds.items() if new.kinds.get(number, ("",))[0] != name]
    types = [(f"kind {number}", type_, new.kinds.get(number, ("", ""))[1]) for number, (_, type_) in old.kinds.items()]
    for name, shape in old.types.items():
        now = new.types.get(name, Shape())
        if (now.tag, now.array) != (shape.tag, shape.array):
            wrong.append(f"{name}'s tag or way")
        if not set(shape.values) <= set(now.values):
            wrong.append(f"{name}'s values")
        kept = now.fields[: len(shape.fields)]
        if [field.name for field in kept] != [field.name for field in shape.fields]:
            wrong.append(f"{name}'s fields")
        types += [(f"{name}.{was.name}", was.type, field.type) for was, field in zip(shape.fields, kept, strict=False)]
    return wrong + [where for where, was, now in types if not set(was.split("|")) <= set(now.split("|"))]


def test_a_change_of_shape_is_noticed() -> None:
    """The shapes of this version are stored under their CRC: who changes them sees this fail, and adds their file."""
    path = STORED / f"{crc_of(OURS)}.json"
    assert path.is_file(), f"the shapes have changed; if that was on purpose: python {__file__}"
    assert path.read_text() == text_of(OURS)
    assert schema.unpack(description()) == OURS


@pytest.mark.parametrize("path", sorted(STORED.glob("*.json")), ids=lambda path: path.stem)
def test_fields_are_only_added_at_the_end_with_a_default(path: Path) -> None:
    """Everything that was ever written keeps its place and its type, and what came later may be missing."""
    old = msgspec.json.decode(path.read_bytes(), type=Description)
    assert path.stem == str(crc_of(old))
    assert undone(old, OURS) == []
    for name, shape in old.types.items():
        if name in STRUCTS:
            added = msgspec.structs.fields(STRUCTS[name])[len(shape.fields) :]
            assert [field.name for field in added if field.required] == []


def test_what_breaks_old_journals_is_found() -> None:
    """The comparison above sees a field that is gone, renamed, moved or of another type, and a kind that is gone."""
    commit = OURS.types["Commit"]
    number, at = commit.fields

    def changed(shape: Shape) -> list[str]:
        return undone(OURS, Description(OURS.kinds, {**OURS.types, "Commit": shape}))

    more = Field("more", "int")
    assert changed(msgspec.structs.replace(commit, fields=(number, at, more))) == []
    for fields in ((number,), (at, number), (more, number, at), (Field("count", "int"), at)):
        assert changed(msgspec.structs.replace(commit, fields=fields)) == ["Commit's fields"]
    wider = msgspec.structs.replace(commit, fields=(number, Field("at", "int|none")))
    assert changed(wider) == []
    assert changed(msgspec.structs.replace(commit, fields=(number, Field("at", "str")))) == ["Commit.at"]
    assert changed(msgspec.structs.replace(commit, tag="x")) == ["Commit's tag or way"]
    fewer = {name: shape for name, shape in OURS.types.items() if name != "Commit"}
    assert undone(OURS, Description(OURS.kinds, fewer)) == ["Commit's fields"]
    assert undone(OURS, Description({}, OURS.types))[0] == "kind 1"
    values = msgspec.structs.replace(OURS.types["ExecType"], values=("new",))
    assert undone(OURS, Description(OURS.kinds, {**OURS.types, "ExecType": values})) == ["ExecType's values"]


@pytest.mark.parametrize("name", STRUCTS)
@settings(max_examples=8)
@given(data=st.data())
def test_an_old_program_passes_over_what_a_newer_one_added(name: str, data: st.DataObject) -> None:
    """Any struct with fields behind the last one that we know is decoded, and is what we know of it."""
    struct = STRUCTS[name]
    value = data.draw(INSTANCES[name])
    plain = msgspec.to_builtins(value, builtin_types=(bytes,))
    longer = {**plain, "more": 1} if isinstance(plain, dict) else [*plain, None, {"more": [1]}, "text"]
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(longer), type=struct) == value


@pytest.mark.parametrize("name", STRUCTS)
@settings(max_examples=8)
@given(data=st.data())
def test_a_new_program_fills_in_what_an_older_one_did_not_know(name: str, data: st.DataObject) -> None:
    """Without any number of its last fields that have a default a struct is decoded, with the defaults."""
    struct = STRUCTS[name]
    fields = msgspec.structs.fields(struct)
    optional = 0
    while optional < len(fields) and not fields[-1 - optional].required:
        optional += 1
    value = data.draw(INSTANCES[name])
    plain = msgspec.to_builtins(value, builtin_types=(bytes,))
    for cut in range(optional + 1):
        gone = fields[len(fields) - cut :]
        if isinstance(plain, dict):
            shorter = {key: each for key, each in plain.items() if key not in {field.encode_name for field in gone}}
        else:
            shorter = plain[: len(plain) - cut]
        wanted = msgspec.structs.replace(value, **{field.name: field.default for field in gone})
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(shorter), type=struct) == wanted


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=20)
@given(data=st.data())
def test_a_description_spells_out_what_the_program_does(kind: int, data: st.DataObject) -> None:
    """By the description alone a payload has the same names and values as by the code that wrote it."""
    value = data.draw(VALUES[kind])
    record = Record(kind, encode_payload(value), "", 0, 0)
    theirs = Header(1, 1, 0, 0, schema.pack(Description({**OURS.kinds, "250": ("new", "Commit")}, OURS.types)))
    assert theirs.description_differs()
    assert value_of(record, theirs) == {"kind": KINDS[kind][0], "content": spelled(value)}
    assert value_of(Record(250, encode_payload(Commit(1, 2)), "", 0, 0), theirs) == {
        "kind": "new", "content": {"type": "Commit", "number": 1, "at": 2},
    }  # fmt: skip


def test_what_a_description_does_not_know_stays_as_it_is() -> None:
    """Fields behind the known ones have numbers; a tag, a type or a shape that is not described is no error."""
    pair = Shape("p", (Field("one", "int"), Field("two", "[Pair]")))
    told = Description({}, {"Pair": pair, "Map": Shape(array=False)})
    spelt = schema.named(told, "Pair", ["p", 1, [["p", 2]], 3, 4])
    two = [{"type": "Pair", "one": 2}]
    assert spelt == {"type": "Pair", "one": 1, "two": two, "field_2": 3, "field_3": 4}
    assert schema.named(told, "Map", {"a": 1}) == {"type": "Map", "a": 1}
    strange = (("Pair", ["q", 1]), ("Other", [1]), ("", {"a": 1}), ("int", "text"), ("Pair", []), ("Map", [1]))
    for type_, value in strange:
        assert schema.named(told, type_, value) == value
    assert schema.named(told, "{str:Pair}", {"a": ["p", 1]}) == {"a": {"type": "Pair", "one": 1}}
    assert schema.named(told, "[int,[Pair,{str:int}]]", [1, [["p"], {"a": 2}]]) == [1, [{"type": "Pair"}, {"a": 2}]]


@given(st.dictionaries(st.text(max_size=3), st.tuples(st.text(max_size=3), st.text(max_size=3)), max_size=3))
def test_a_description_is_exact_both_ways(kinds: dict[str, tuple[str, str]]) -> None:
    """Unpacked, a description is what was packed; the same one gives the same bytes, in whichever order it was made."""
    one = Description(kinds, {"A": Shape(), "B": Shape("t", (Field("x", "int"),))})
    other = Description(dict(reversed(kinds.items())), dict(reversed(one.types.items())))
    assert schema.unpack(schema.pack(one)) == one
    assert schema.pack(one) == schema.pack(other)


@given(st.binary(max_size=60))
def test_garbage_is_no_description(data: bytes) -> None:
    """Whatever a header brings along, it is read or it is a JournalError."""
    for packed in (data, zlib.compress(data)):
        with pytest.raises(JournalError, match="the description of its shapes cannot be read"):
            schema.unpack(packed)


def test_a_description_that_swells_is_refused() -> None:
    """A few hundred bytes that unpack to megabytes are not unpacked."""
    with pytest.raises(JournalError, match=f"longer than {schema.MAX_DESCRIPTION} bytes"):
        schema.unpack(zlib.compress(b" " * (2 * schema.MAX_DESCRIPTION)))


def test_the_tag_tells_one_of_several() -> None:
    """An event and an action are named by their tag, the action inside its approval."""
    report = ExecReport(6, "BTC", 0, "1", "2", ExecType.NEW)
    told = ((EVENT, snapshot(5), "BookSnapshot"), (EVENT, report, "ExecReport"), (ACTION, cancel(5), ""))
    for kind, value, name in told:
        plain = decode_plain(Record(kind, encode_payload(value), "", 0, 0))
        spelt = schema.named(OURS, OURS.kinds[str(kind)][1], plain)
        assert isinstance(spelt, dict)
        assert spelt["type"] == (name or "Approved")
        assert name or spelt["action"]["type"] == "CancelOrder"
    assert OURS.types["Checkpoint"].array is False
    assert OURS.kinds[str(CHECKPOINT)] == ("checkpoint", "Checkpoint")


if __name__ == "__main__":
    (STORED / f"{crc_of(OURS)}.json").write_text(text_of(OURS))
