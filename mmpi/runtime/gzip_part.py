"""Gzip part: one gzip file that grows under its name with .part, and the mending of one whose writer was killed.

Invariant: up to the last flush the file can always be read, and made whole by ten bytes; mending keeps those lines and
invents none. It must not know what the lines mean or when to begin another file.

A flush ends a deflate block on a byte (zlib's Z_SYNC_FLUSH: the bytes 00 00 FF FF, RFC 1951 section 3.2.4), so behind
one an empty last block and the trailer of RFC 1952 make the file whole, without packing anything anew.
"""

import mmap
import os
import struct
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from mmpi.device.durable import sync_folder
from mmpi.errors import ConfigError, DeviceError
from mmpi.runtime.recording import PART

LEVEL: Final = 6
"""zlib's own default."""
GZIP: Final = 16 + zlib.MAX_WBITS
HEADER: Final = 10
"""Bytes of a gzip header without a name, which zlib writes."""
MAGIC: Final = b"\x1f\x8b\x08\x00"
FLUSHED: Final = b"\x00\x00\xff\xff"
LAST_BLOCK: Final = b"\x03\x00"
TRAILER: Final = struct.Struct("<II")
SLICE: Final = 64 * 1024
UNREADABLE: Final = ".unreadable"


class GzipPart:
    """Writes lines into `path` + .part; `size` is bytes so far. DeviceError when the disk does not take them."""

    def __init__(self, path: Path) -> None:
        self.path: Final = path
        self.part: Final = path.with_name(path.name + PART)
        self.size = 0
        self._safe = 0
        """Bytes up to the last flush."""
        self._deflate: Final = zlib.compressobj(LEVEL, zlib.DEFLATED, GZIP)
        try:
            self._fd = os.open(self.part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        except OSError as error:
            raise DeviceError(f"{self.part}: cannot be made: {error.strerror}") from None

    def write(self, lines: bytes) -> None:
        """Take whole lines; they are in the file for certain after the next flush."""
        self._append(self._deflate.compress(lines))

    def flush(self) -> None:
        """Hand everything so far to the system: the end of this process no longer harms it."""
        self._append(self._deflate.flush(zlib.Z_SYNC_FLUSH))
        self._safe = self.size

    def finish(self) -> None:
        """Make the file whole and durable, and give it its name."""
        self._append(self._deflate.flush(zlib.Z_FINISH))
        try:
            os.fsync(self._fd)
            os.close(self._fd)
            self.part.rename(self.path)
            sync_folder(self.path.parent)
        except OSError as error:
            raise DeviceError(f"{self.part}: cannot be finished: {error.strerror}") from None

    def _append(self, data: bytes) -> None:
        done = 0
        try:
            while done < len(data):
                done += os.write(self._fd, data[done:] if done else data)
        except OSError as error:
            # What reached the disk of this write is no end of a line; up to the last flush all is well.
            with suppress(OSError):
                os.ftruncate(self._fd, self._safe)
            os.close(self._fd)
            raise DeviceError(f"{self.part}: cannot be written: {error.strerror}") from None
        self.size += done


class Mended(msgspec.Struct, frozen=True):
    """What became of a file that a killed recorder left."""

    path: Path
    """Its new name."""
    size: int
    cut: int
    """Bytes behind the last flush, cut off."""
    readable: bool = True


def mend(part: Path) -> Mended:
    """Make a part whole up to its last flush and give it its name; one without a line is put aside as .unreadable."""
    size = part.stat().st_size
    try:
        end = _last_flush(part) if size >= HEADER else None
        if end is None:
            aside = part.with_name(part.name + UNREADABLE)
            part.rename(aside)
            return Mended(aside, size, size, readable=False)
        whole = part.with_name(part.name.removesuffix(PART))
        if whole.exists():
            raise ConfigError(f"{part}: {whole.name} is there too; move one of them away")
        if not end.is_whole:
            with part.open("r+b") as file:
                file.truncate(end.offset)
                file.seek(0, os.SEEK_END)
                file.write(LAST_BLOCK + TRAILER.pack(end.crc, end.length % 2**32))
                file.flush()
                os.fsync(file.fileno())
        cut = 0 if end.is_whole else size - end.offset
        part.rename(whole)
        sync_folder(whole.parent)
    except OSError as error:
        raise DeviceError(f"{part}: cannot be mended: {error.strerror}") from None
    return Mended(whole, whole.stat().st_size, cut)


def flushed_end(part: Path) -> int:
    """Return how many bytes of a part are readable for certain: up to its last flush; 0 = none."""
    if part.stat().st_size < HEADER:
        return 0
    end = _last_flush(part)
    return 0 if end is None else end.offset


class _End(msgspec.Struct):
    """Where a file can end: its bytes up to there, and the trailer's numbers for what they unpack to."""

    offset: int
    crc: int
    length: int
    is_whole: bool = False


def _last_flush(part: Path) -> _End | None:
    """Return the last place behind which an empty block makes the file whole, None without a line before it."""
    with part.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[: len(MAGIC)] != MAGIC:
            return None
        text = _Text()
        found: _End | None = None
        begin = HEADER
        with suppress(zlib.error):  # What a power cut leaves at the end of a file need not be what was written.
            while (mark := data.find(FLUSHED, begin)) >= 0:
                mark += len(FLUSHED)
                text.take(data, begin, mark)
                if text.can_end():
                    found = _End(mark, text.crc, text.length)
                begin = mark
            text.take(data, begin, len(data))
            if text.is_whole():
                found = _End(len(data), text.crc, text.length, is_whole=True)
        return found


class _Text:
    """What the bytes so far unpack to."""

    def __init__(self) -> None:
        self.crc = 0
        self.length = 0
        self._last = b""
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)

    def take(self, data: mmap.mmap, begin: int, end: int) -> None:
        """Unpack data[begin:end], a slice at a time."""
        for start in range(begin, end, SLICE):
            text = self._inflate.decompress(data[start : min(start + SLICE, end)])
            self.crc = zlib.crc32(text, self.crc)
            self.length += len(text)
            self._last = text[-1:] or self._last

    def can_end(self) -> bool:
        """Return whether an empty last block may follow, which adds nothing, and the text ends with a line."""
        if self._last != b"\n" or self._inflate.eof:
            return False
        probe = self._inflate.copy()
        try:
            return probe.decompress(LAST_BLOCK) == b"" and probe.eof and not probe.unused_data
        except zlib.error:
            # The four bytes can also occur inside a block.
            return False

    def is_whole(self) -> bool:
        """Return whether the stream has ended, and its trailer is right."""
        return self._inflate.eof and self._inflate.unused_data == TRAILER.pack(self.crc, self.length % 2**32)
