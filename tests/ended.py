"""Ended: how a command of ours ended, for whoever ran it."""

import json
from typing import Any, NamedTuple


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    def json(self) -> dict[str, Any]:
        """Return the object that must be all of stdout, on one line."""
        assert self.out.endswith("\n") and self.out.count("\n") == 1, self
        found = json.loads(self.out)
        assert isinstance(found, dict)
        return found

    def lines(self) -> list[dict[str, Any]]:
        """Return the objects of stdout, one a line."""
        return [json.loads(line) for line in self.out.splitlines()]
