"""Findings: what a check found, thing by thing, and what that comes to as an exit code.

Invariant: whatever fails says what to do. It must not know what is checked.
"""

from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

import msgspec

Level: TypeAlias = Literal["OK", "WARN", "FAIL"]
VENUE: Final = "venue"
CLOCK: Final = "clock"
BAD_INPUT: Final = 2
EXIT_CODES: Final = {CLOCK: 3, VENUE: 4}
"""Of what is neither configuration nor key: refused for safety, and remote failure."""


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at: OK, WARN (it will run, and should be known) or FAIL (it will not run)."""

    check: str
    level: Level
    text: str

    def line(self) -> str:
        """Return it for people."""
        return f"{self.level:<4}  {self.check}: {self.text}"


def exit_code(findings: Sequence[Finding]) -> int:
    """Return 0 if nothing failed; else what lasts longest: 2 bad configuration or keys, 3 the clock, 4 the venue."""
    return min((EXIT_CODES.get(each.check, BAD_INPUT) for each in findings if each.level == "FAIL"), default=0)
