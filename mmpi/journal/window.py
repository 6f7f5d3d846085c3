"""Window: a stream of bytes that can be looked at before it is taken; the reader's way through a segment.

Invariant: it holds no more than was looked at and one chunk; a stream that cannot be read on ends there, and `error`
says why. It must not know what the bytes mean.
"""

from collections.abc import Callable
from typing import Final

CHUNK: Final = 64 * 1024


class Window:
    """Bytes from `read`, which returns no more than it is asked for, and none at the end only."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self.offset = 0
        """Of the next byte in the stream."""
        self.error = ""
        self._read = read
        self._held = b""
        self._at = 0
        self._ended = False

    def peek(self, size: int) -> bytes:
        """Return the next bytes without taking them; fewer at the end only."""
        return self.peek_from(0, size)

    def peek_from(self, skip: int, size: int) -> bytes:
        """Return bytes that begin `skip` further on, without taking them."""
        if self._at + skip + size > len(self._held):
            self._fill(skip + size)
        start = self._at + skip
        return self._held[start : start + size]

    def skip(self, size: int) -> int:
        """Take bytes; return how many there were."""
        if self._at + size > len(self._held):
            self._fill(size)
            size = min(size, len(self._held) - self._at)
        self._at += size
        self.offset += size
        return size

    def find(self, wanted: bytes) -> bool:
        """Take what stands before the next `wanted`; False, and everything is taken, if there is none."""
        while True:
            at = self._held.find(wanted, self._at)
            if at >= 0:
                self.offset += at - self._at
                self._at = at
                return True
            keep = min(len(wanted) - 1, len(self._held) - self._at)
            self.skip(len(self._held) - self._at - keep)
            if not self._fill(keep + 1):
                self.skip(keep)
                return False

    def _fill(self, size: int) -> bool:
        """Return True if `size` bytes are there to be looked at."""
        parts = [self._held[self._at :]]
        there = len(parts[0])
        while there < size and not self._ended:
            try:
                more = self._read(max(CHUNK, size - there))
            except OSError as error:
                more, self.error = b"", error.strerror or str(error)
            self._ended = not more
            parts.append(more)
            there += len(more)
        self._held, self._at = b"".join(parts), 0
        return there >= size
