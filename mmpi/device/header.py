"""Header: where a line of a Raspberry Pi comes out.

Invariant: the 40 pins are the same on every model with a 40-pin header, 1 to Zero 2 W to 5.
It must not know what a line is for.

Source: Raspberry Pi documentation, GPIO and the 40-pin header (read 2026-11-28); Linux numbers lines as it does.
"""

from typing import Final

PINS: Final = {
    0: 27, 1: 28, 2: 3, 3: 5, 4: 7, 5: 29, 6: 31, 7: 26, 8: 24, 9: 21, 10: 19, 11: 23, 12: 32, 13: 33, 14: 8, 15: 10,
    16: 36, 17: 11, 18: 12, 19: 35, 20: 38, 21: 40, 22: 15, 23: 16, 24: 18, 25: 22, 26: 37, 27: 13,
}  # fmt: skip
"""BCM number -> pin of the header."""
GROUNDS: Final = (6, 9, 14, 20, 25, 30, 34, 39)
"""Pins of the header that are ground."""


def place(line: int) -> str:
    """Return where a line is, for people."""
    return f"GPIO{line}, header pin {PINS[line]}" if line in PINS else f"line {line} of the chip"
