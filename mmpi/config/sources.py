"""Sources: where configuration comes from: a TOML file, the environment, and what the machine suggests for folders.

Invariant: later wins (file, then environment), and every value keeps the name of its source.
It must not know what a value means; schema.py says which keys there are.
"""

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from mmpi.config.schema import ANY_NAME, Key, KeyPath, dotted
from mmpi.errors import ConfigError

PREFIX: Final = "MMPI_"
SEPARATOR: Final = "__"
FILE: Final = "file"
DEFAULT: Final = "default"
MOST_DEPTH: Final = 8
"""Tables within tables that are read at all; the deepest key has four."""
SECRET_SAID: Final = (
    "secrets never stand in the configuration; allowed: a file of mode 0600 in secrets.dir, or a systemd credential"
)
_SECRET_NAME: Final = re.compile(r"key$|secret|passw|passphrase|seed_?phrase|mnemonic|token$")
_POSITION: Final = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


class Override(msgspec.Struct, frozen=True):
    """One environment variable that sets a key."""

    variable: str
    path: KeyPath
    value: str | int | float


class Gathered(msgspec.Struct, frozen=True):
    """The tables of all sources laid over one another, and what is already known to be wrong."""

    file: Path | None
    tables: dict[str, Any]
    origins: dict[str, str]
    """For each dotted key that a source set: `file`, or `environment NAME`."""
    secrets: frozenset[KeyPath]
    wrong: list[str]

    def line(self, keys: tuple[str, ...], value: str | None, said: str) -> str:
        """Return the message about keys[0]; its source is the first source that any of `keys` has."""
        origin = next((self.origins[key] for key in keys if key in self.origins), FILE)
        where = str(self.file or "defaults") if origin == FILE else origin
        return ": ".join((where, keys[0], *((f"value {value}",) if value is not None else ()), said))

    def choose(self, key: str, value: str) -> None:
        """Set a key of every instrument from the command line, whose option has the key's name."""
        names = self.tables["instruments"]
        for name in names if isinstance(names, dict) else ():
            put(self.tables, ("instruments", name, key), value)
            self.origins[dotted(("instruments", name, key))] = f"--{key}"


def gather(
    file: Path | None, environ: Mapping[str, str], every: tuple[Key, ...], instruments: tuple[str, ...]
) -> Gathered:
    """Return a file (or none) under the environment's overrides; `instruments` are those of a file that has none."""
    tables = read_toml(file) if file else {}
    origins = {dotted(path): FILE for path, _ in leaves(tables)}
    secrets = frozenset(secret_paths(tables))
    quoted = tables.setdefault("instruments", {name: {} for name in instruments})
    found, wrong = overrides(environ, every, tuple(quoted) if isinstance(quoted, dict) else instruments)
    for override in found:
        put(tables, override.path, override.value)
        origins[dotted(override.path)] = f"environment {override.variable}"
    wrong += [f"{file}: {dotted(path)}: value not shown: {SECRET_SAID}" for path in sorted(secrets)]
    return Gathered(file, tables, origins, secrets, wrong)


def read_toml(path: Path) -> dict[str, Any]:
    """Return a TOML file's content; ConfigError names the file and, for bad syntax, line and column."""
    try:
        text = path.read_text(encoding="utf-8")
        tables = tomllib.loads(text)
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: no such file; allowed: an existing TOML file (start from docs/examples/paper.toml), "
            "or no file at all for the built-in paper defaults"
        ) from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(_syntax_message(path, text, str(error))) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: byte {error.start} is not UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    if _is_too_deep(tables):
        raise ConfigError(f"{path}: tables or lists more than {MOST_DEPTH} deep; the deepest key has 4 parts")
    return tables


def leaves(table: Mapping[str, Any], path: KeyPath = ()) -> Iterator[tuple[KeyPath, object]]:
    """Return every value that is not a table, with its path."""
    for name, value in table.items():
        if isinstance(value, dict):
            yield from leaves(value, (*path, name))
        else:
            yield (*path, name), value


def look_up(table: Mapping[str, Any], path: KeyPath) -> object:
    """Return the value at `path`; None if there is none."""
    value: object = table
    for part in path:
        value = value.get(part) if isinstance(value, dict) else None
    return value


def put(table: dict[str, Any], path: KeyPath, value: object) -> None:
    """Set the value at `path`, making tables on the way; where a value stands in the way nothing is done."""
    *parents, name = path
    for part in parents:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            return
    table[name] = value


def drop(table: dict[str, Any], path: KeyPath) -> None:
    """Remove the key or table at `path`, if it is there."""
    *parents, name = path
    for part in parents:
        table = table.get(part, {})
    table.pop(name, None)


def overrides(
    environ: Mapping[str, str], every: tuple[Key, ...], names: tuple[str, ...]
) -> tuple[list[Override], list[str]]:
    """Return the overrides in the environment, and one line for each variable that names no key.

    `names` are the instruments that exist: a variable changes one, it never adds one.
    """
    known = {variable(path): (path, key) for key in every for path in _paths(key, names)}
    found: list[Override] = []
    wrong: list[str] = []
    for name in sorted(environ):
        if not name.startswith(PREFIX) or SEPARATOR not in name:
            continue
        if name in known:
            path, key = known[name]
            found.append(Override(name, path, _typed(environ[name], key.kind)))
        else:
            said = suggestion(name, list(known), "MMPI_<SECTION>__<KEY> with a key of docs/configuration.md")
            wrong.append(f"environment: {name}: no such override; {said}")
    return found, wrong


def variable(path: KeyPath) -> str:
    """Return the environment variable that overrides a key: MMPI_VENUE__URL."""
    return PREFIX + SEPARATOR.join(part.upper() for part in path)


def suggestion(name: str, known: list[str], otherwise: str) -> str:
    """Return `did you mean ...?`, or `otherwise` as what is allowed if nothing is near."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else f"allowed: {otherwise}"


def secret_paths(value: object, path: KeyPath = ()) -> Iterator[KeyPath]:
    """Return the paths of all keys, at any depth, whose name says that they hold a secret."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, child in items:
        here = (*path, str(name))
        if not isinstance(child, dict) and _SECRET_NAME.search(str(name).lower()):
            yield here
        else:
            yield from secret_paths(child, here)


def _is_too_deep(tables: dict[str, Any]) -> bool:
    level: list[object] = [tables]
    for _ in range(MOST_DEPTH):
        level = [child for node in level for child in _children(node)]
    return bool(level)


def _children(node: object) -> Iterator[object]:
    if isinstance(node, dict):
        yield from node.values()
    elif isinstance(node, list):
        yield from node


def _paths(key: Key, names: tuple[str, ...]) -> Iterator[KeyPath]:
    if ANY_NAME not in key.path:
        yield key.path
        return
    for name in names:
        yield tuple(name if part == ANY_NAME else part for part in key.path)


def _typed(text: str, kind: str) -> str | int | float:
    """Return a number or flag where the key wants one and the text is one; else the text, for the message to show."""
    if kind == "flag":
        return {"true": True, "false": False}.get(text, text)
    try:
        return int(text) if kind == "integer" else float(text) if kind == "number" else text
    except ValueError:
        return text


def _syntax_message(path: Path, text: str, message: str) -> str:
    found = _POSITION.search(message)
    line, column = (found[1], found[2]) if found else (None, None)
    if line is None:
        line, column = str(text.count("\n") + 1), str(len(text) - text.rfind("\n"))
    return f"{path}: line {line}, column {column}: not valid TOML: {_POSITION.sub('', message)}"
