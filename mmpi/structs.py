"""Structs: the options that compiled modules' structs share, as bases to inherit them from.

mypyc drops the keywords of a class line, so a module that it compiles cannot set a struct's options; msgspec inherits
them. A compiled struct repeats `frozen=True` for the type checker alone, and quotes a field's type that is more than a
class: of `tuple[int, ...]` mypyc would leave `tuple`.

Invariant: this module is never compiled, and no base has a field. It must not know what the structs hold.
"""

import msgspec


class Frozen(msgspec.Struct, frozen=True):
    """A value that does not change."""


class Leaf(Frozen, frozen=True, gc=False):
    """A small frozen value that cannot be part of a reference cycle, so the garbage collector need not look at it."""


class State(Frozen, frozen=True, array_like=True):
    """A part of a checkpoint: encoded by position, without field names."""


class Config(Frozen, frozen=True, forbid_unknown_fields=True):
    """A table of the resolved configuration: a field that it does not know is an error."""


def _strategy(name: str) -> str:
    words = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name.removesuffix("Config"))
    return words.removeprefix("_")


class QuoterConfig(Config, frozen=True, tag=_strategy):
    """A strategy's table; what tells it from others in the file is its class name: `LayeredConfig` is "layered"."""
