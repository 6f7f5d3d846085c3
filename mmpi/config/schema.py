"""Schema: what each configuration key may hold, in words, read off the configuration's JSON Schema.

Invariant: the schema is the only source; error messages and docs/configuration.md say what it says.
It must not know pydantic, files or the environment.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, Final, TypeAlias

import msgspec

KeyPath: TypeAlias = tuple[str, ...]
ANY_NAME: Final = "*"
"""In a key's path: the place of a name that the user chooses (an instrument)."""
SHOWN_CHARS: Final = 80
"""Longest value that a message repeats: a line of a terminal."""

_UNITS: Final = {
    "_per_s": "per second",
    "_per_bp": "per basis point",
    "_s": "seconds",
    "_ms": "milliseconds",
    "_bps": "basis points",
    "_percent": "percent",
    "_bytes": "bytes",
    "_ticks": "ticks",
}
_NOUNS: Final = {
    "integer": "whole number",
    "number": "plain number",
    "amount": "decimal number of at most 12 places",
    "text": "text",
}
_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
_LOOKS_SECRET: Final = re.compile(r"[0-9a-fA-F]{64}|://[^/]*@")
"""A 32-byte key in hexadecimal, or a URL with a password."""


class Key(msgspec.Struct, frozen=True):
    """One configuration key: where it is, what it may hold, what it means."""

    path: KeyPath
    kind: str
    """choice, flag (true or false), integer, number, amount (exact decimal) or text."""
    default: str
    """In TOML notation."""
    bounds: str
    unit: str
    meaning: str

    def allowed(self) -> str:
        """Return what may be written, as a phrase: `whole number from 1 to 20`."""
        if self.kind in ("choice", "flag"):
            return f"one of {self.bounds}"
        if self.kind == "text":
            return self.bounds
        return " ".join((_NOUNS[self.kind], self.bounds)) + (f", in {self.unit}" if self.unit else "")


def keys(schema: dict[str, Any]) -> tuple[Key, ...]:
    """Return every key of a JSON Schema of tables within tables, in its order."""
    return tuple(_leaves(schema, schema["$defs"], ()))


def find(every: tuple[Key, ...], path: KeyPath) -> Key | None:
    """Return the key that `path` names; None for a table or an unknown key."""
    for key in every:
        if _covers(key.path, path):
            return key
    return None


def _covers(pattern: KeyPath, path: KeyPath) -> bool:
    return len(pattern) == len(path) and all(k in (p, ANY_NAME) for k, p in zip(pattern, path, strict=True))


def names_in(every: tuple[Key, ...], table: KeyPath) -> list[str]:
    """Return the names of the keys and tables directly inside `table`."""
    depth = len(table)
    inside = (key.path[depth] for key in every if len(key.path) > depth and _covers(key.path[:depth], table))
    return list(dict.fromkeys(inside))


def dotted(path: KeyPath) -> str:
    """Return a path as TOML writes it: `risk.capital`, `instruments."@107".tick_size`."""
    return ".".join(part if _BARE_KEY.fullmatch(part) else json.dumps(part) for part in path)


def shown(value: object) -> str:
    """Return a value in TOML notation for a message: shortened, and without anything that looks like a secret."""
    if isinstance(value, dict):
        return "(a table)"
    if isinstance(value, list):
        return "(a list)"
    if isinstance(value, str) and _LOOKS_SECRET.search(value):
        return "(not shown)"
    text = toml_text(value)
    return text if len(text) <= SHOWN_CHARS else text[:SHOWN_CHARS] + "..."


def toml_text(value: object) -> str:
    """Return a single value in TOML notation."""
    if isinstance(value, str | bool):
        return json.dumps(value)
    if isinstance(value, int):
        return str(value) if value.bit_length() < 1000 else hex(value)  # Python refuses longer decimals
    return str(value)


def markdown(schema: dict[str, Any]) -> str:
    """Return docs/configuration.md: one table of keys for each section."""
    sections: dict[KeyPath, list[Key]] = {}
    for key in keys(schema):
        sections.setdefault(key.path[:-1], []).append(key)
    text = f"# Configuration\n\n{schema['description']}\n"
    for path, members in sections.items():
        text += f"\n## [{'.'.join(part.replace(ANY_NAME, 'NAME') for part in path)}]\n\n"
        text += f"{_section(schema, path)['description']}\n\n"
        text += "| key | type | default | allowed | unit | meaning |\n|---|---|---|---|---|---|\n"
        text += "".join(_row(key) for key in members)
    return text


def _row(key: Key) -> str:
    cells = (f"`{key.path[-1]}`", key.kind, f"`{key.default}`", key.bounds, key.unit, key.meaning)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _section(schema: dict[str, Any], path: KeyPath) -> dict[str, Any]:
    node = schema
    for part in path:
        node = dict(_children(node, schema["$defs"]))[part]
    return node


def _leaves(node: dict[str, Any], defs: dict[str, Any], path: KeyPath) -> Iterator[Key]:
    for name, child in _children(node, defs):
        if "properties" in child or "patternProperties" in child:
            yield from _leaves(child, defs, (*path, name))
        else:
            yield _key((*path, name), child)


def _children(node: dict[str, Any], defs: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    named = list(node.get("properties", {}).items())
    named += [(ANY_NAME, child) for child in node.get("patternProperties", {}).values()]
    for name, child in named:
        yield name, defs[child["$ref"].rpartition("/")[2]] if "$ref" in child else child


def _key(path: KeyPath, node: dict[str, Any]) -> Key:
    kind = _kind(node)
    default = node["default"] if kind == "amount" else toml_text(node["default"])
    return Key(path, kind, default, _bounds(node, kind), _unit(path[-1], node), node["description"])


def _kind(node: dict[str, Any]) -> str:
    if "enum" in node or "const" in node:
        return "choice"
    if "anyOf" in node:
        return "amount"
    return {"string": "text", "boolean": "flag"}.get(node["type"], str(node["type"]))


def _bounds(node: dict[str, Any], kind: str) -> str:
    if kind == "choice":
        return ", ".join(map(toml_text, node.get("enum") or [node["const"]]))
    if kind == "flag":
        return "true, false"
    if kind == "text":
        return str(node["x-allowed"])
    limits = node["anyOf"][0] if kind == "amount" else node
    most = _plain(limits["maximum"])
    if "minimum" in limits:
        return f"from {_plain(limits['minimum'])} to {most}"
    return f"above {_plain(limits['exclusiveMinimum'])}, at most {most}"


def _plain(number: float) -> str:
    return str(int(number)) if number == int(number) else repr(number)


def _unit(name: str, node: dict[str, Any]) -> str:
    by_suffix = next((unit for suffix, unit in _UNITS.items() if name.endswith(suffix)), "")
    return str(node.get("x-unit", by_suffix))
