"""Schema: what a segment says of the shapes in it, so that it can be read without the program that wrote it.

A description is JSON: `kinds` names each kind of record and the type of its payload; `types` gives each struct's tag,
its fields in order with their types, and each enumeration's values. Fields are only ever added, at the end and with a
default: so an old reader passes over what a newer one added, and a new reader fills in what an older one did not know.

Invariant: the same shapes give the same bytes. It must not know files or records' meaning.
"""

import zlib
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

import msgspec
from msgspec import inspect

from mmpi.errors import JournalError

MAX_DESCRIPTION: Final = 2**20
"""Bytes of a description once it is unpacked: a hundred times ours."""


class Field(msgspec.Struct, frozen=True):
    """One field: its name and its type.

    A type is a word (int, float, str, bool, bytes, a struct's or an enumeration's name), [T] for a list of T, [A,B] for
    a list of just these, {K:V} for a map, A|B for one of these.
    """

    name: str
    type: str


class Shape(msgspec.Struct, frozen=True):
    """A struct: its tag where several may stand, and its fields in the order in which they are written."""

    tag: str = ""
    fields: tuple[Field, ...] = ()
    array: bool = True
    values: tuple[str, ...] = ()
    """Of an enumeration."""


class Description(msgspec.Struct, frozen=True):
    """Every kind of record and every type in it."""

    kinds: dict[str, tuple[str, str]]
    """Number -> (name, type of the payload)."""
    types: dict[str, Shape]


def describe(kinds: Mapping[int, tuple[str, Any]]) -> Description:
    """Return the description of kinds: number -> (name, type of the payload)."""
    types: dict[str, Shape] = {}
    named = {str(number): (name, _text(inspect.type_info(kind), types)) for number, (name, kind) in kinds.items()}
    return Description(named, types)


def pack(description: Description) -> bytes:
    """Return the description as it stands in a header."""
    return zlib.compress(msgspec.json.encode(description, order="deterministic"), 9)


@cache
def unpack(data: bytes) -> Description:
    """Return a description again; JournalError if it is none."""
    try:
        unpacker = zlib.decompressobj()
        text = unpacker.decompress(data, MAX_DESCRIPTION)
        if unpacker.unconsumed_tail:
            raise JournalError(f"the description of its shapes is longer than {MAX_DESCRIPTION} bytes")
        return msgspec.json.decode(text, type=Description)
    except (zlib.error, msgspec.MsgspecError, ValueError) as error:
        raise JournalError(f"the description of its shapes cannot be read: {error}") from None


def named(description: Description, type_: str, value: object) -> object:
    """Return a decoded payload with the names of types and fields; what the description does not fit stays as it is."""
    words = [word for word in type_.split("|") if word in description.types]
    if isinstance(value, list | tuple) and words:
        shape_name = _which(description, words, value)
        if shape_name:
            return _struct(description, shape_name, value)
    if isinstance(value, list | tuple) and type_.startswith("["):
        parts = _parts(type_[1:-1])
        parts = parts * len(value) if len(parts) == 1 else parts
        return [named(description, part, each) for part, each in zip(parts, value, strict=False)]
    if isinstance(value, dict) and type_.startswith("{"):
        inner = type_[1:-1].partition(":")[2]
        return {key: named(description, inner, each) for key, each in value.items()}
    if isinstance(value, dict) and words:
        shape = description.types[words[0]]
        known = {each.name: each.type for each in shape.fields}
        return {"type": words[0], **{key: named(description, known.get(key, ""), each) for key, each in value.items()}}
    return value


def _parts(inner: str) -> list[str]:
    """Return the types between the outermost commas."""
    parts, depth = [""], 0
    for letter in inner:
        depth += (letter in "[{") - (letter in "]}")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def _which(description: Description, words: list[str], value: list[Any] | tuple[Any, ...]) -> str:
    """Return the struct that a list is: the only one there may be, or the one whose tag comes first."""
    if len(words) == 1 and not description.types[words[0]].tag:
        return words[0] if description.types[words[0]].array else ""
    first = value[0] if value else None
    return next((word for word in words if description.types[word].tag == first), "")


def _struct(description: Description, name: str, value: list[Any] | tuple[Any, ...]) -> dict[str, object]:
    shape = description.types[name]
    rest = value[1:] if shape.tag else value
    fields = {
        field.name: named(description, field.type, each) for field, each in zip(shape.fields, rest, strict=False)
    }
    more = {f"field_{index}": each for index, each in enumerate(rest) if index >= len(shape.fields)}
    return {"type": name, **fields, **more}


def _text(kind: inspect.Type, types: dict[str, Shape]) -> str:
    """Return a type as text, noting the structs and enumerations in it."""
    if isinstance(kind, inspect.UnionType):
        return "|".join(_text(each, types) for each in kind.types)
    if isinstance(kind, inspect.StructType):
        return _note_struct(kind, types)
    if isinstance(kind, inspect.EnumType):
        types[kind.cls.__name__] = Shape(values=tuple(str(each.value) for each in kind.cls))
        return kind.cls.__name__
    if isinstance(kind, inspect.VarTupleType | inspect.ListType):
        return f"[{_text(kind.item_type, types)}]"
    if isinstance(kind, inspect.TupleType):
        return f"[{','.join(_text(each, types) for each in kind.item_types)}]"
    if isinstance(kind, inspect.DictType):
        return f"{{{_text(kind.key_type, types)}:{_text(kind.value_type, types)}}}"
    if isinstance(kind, inspect.LiteralType):
        return "int" if isinstance(kind.values[0], int) else "str"
    return type(kind).__name__.removesuffix("Type").lower()


def _note_struct(kind: inspect.StructType, types: dict[str, Shape]) -> str:
    name = kind.cls.__name__
    if name not in types:
        types[name] = Shape()  # so that one that contains itself ends
        fields = tuple(Field(each.encode_name, _text(each.type, types)) for each in kind.fields)
        types[name] = Shape(str(kind.tag or ""), fields, kind.array_like)
    return name
