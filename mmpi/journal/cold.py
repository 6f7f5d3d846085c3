"""Cold segments: closed ones, compressed by zstd; and any segment opened for reading, compressed or not.

A cold segment is `<name>.mmj.zst`: frames of zstd, the first of 4 KiB of the segment (its header's), each other one of
256 KiB, each with a checksum, so damage costs one frame. What is lost is left out of the stream: the records behind it
are found by their marker.

Invariant: a segment is there, whole and durable under its cold name, before the other one is deleted.
It must not know what is in a segment.
"""

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Final

from mmpi.device.durable import FRESH, sync_folder

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

SUFFIX: Final = ".mmj"
COLD: Final = ".zst"
PART: Final = ".part"
FIRST_CHUNK: Final = 4096
"""Of the first frame: without a header a segment is lost, so little else is to be lost with it."""
CHUNK: Final = 256 * 1024
"""Of each other frame; both are multiples of a ledger's block, so what is left stays aligned."""
LEVEL: Final = 3
WINDOW_LOG: Final = 18
"""As much as a frame holds; the level's own would take three megabytes more of the quoter's memory."""
MAX_WINDOW_LOG: Final = 21
"""Of LEVEL: more memory no frame of ours asks for."""
MAGIC: Final = b"\x28\xb5\x2f\xfd"
"""Of a zstd frame (RFC 8878, 3.1.1)."""


def segment_paths(folder: Path) -> list[Path]:
    """Return the segments in a folder, oldest first; of one that is there twice the cold one is left out."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir(), reverse=True):
        if is_segment(path):
            found[path.name.partition(".")[0]] = path
    return [found[stem] for stem in sorted(found)]


def is_segment(path: Path) -> bool:
    """Return whether a file has a segment's name, cold or not."""
    name = path.name.removesuffix(COLD)
    return name.endswith(SUFFIX) and name.removesuffix(SUFFIX).isdecimal()


def number_of(path: Path) -> int:
    """Return the number in a segment's name."""
    return int(path.name.partition(".")[0])


def delete_parts(folder: Path) -> None:
    """Delete what was left of cold segments that were being written when their process ended."""
    for ending in (PART, FRESH):
        for path in folder.glob(f"*{COLD}{ending}"):
            path.unlink(missing_ok=True)


def compress(path: Path, *, durable: bool) -> int:
    """Return the bytes of the cold segment made of the one at `path`, which is deleted.

    OSError leaves the segment as it was; one that was deleted meanwhile does not come back.
    """
    cold = path.with_name(path.name + COLD)
    fresh = cold.with_name(cold.name + PART)
    compressor = zstd.ZstdCompressor(options={
        zstd.CompressionParameter.compression_level: LEVEL, zstd.CompressionParameter.checksum_flag: 1,
        zstd.CompressionParameter.window_log: WINDOW_LOG
    })  # fmt: skip
    size = 0
    try:
        with path.open("rb") as source, open(fresh, "wb", buffering=0, opener=_private) as out:
            chunk = _filled(source, FIRST_CHUNK)
            while chunk:
                size += _write(out, compressor.compress(chunk, zstd.ZstdCompressor.FLUSH_FRAME))
                chunk = _filled(source, CHUNK)
            if durable:
                os.fsync(out.fileno())
        fresh.replace(cold)
        if durable:
            sync_folder(cold.parent)
    except OSError:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise
    _delete_original(path, cold)
    return size


def open_segment(path: Path) -> BinaryIO:
    """Return the segment's bytes as a file to read; OSError if it cannot be opened."""
    file = path.open("rb")
    return Thawed(file) if path.name.endswith(COLD) else file  # type: ignore[return-value]


class Thawed:
    """The bytes of a cold segment; frames that are damaged are left out and counted."""

    def __init__(self, file: BinaryIO) -> None:
        self.damaged = 0
        self._file = file
        self._packed = b""
        self._ready = bytearray()
        self._ended = False

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, fewer at the end only; all of them if no size is given."""
        while not self._ended and (size < 0 or len(self._ready) < size):
            self._thaw()
        taken = bytes(self._ready if size < 0 else self._ready[:size])
        del self._ready[: len(taken)]
        return taken

    def __enter__(self) -> "Thawed":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _thaw(self) -> None:
        """Take one frame, or what there is of one."""
        decompressor = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: MAX_WINDOW_LOG})
        data, whole, out = self._packed, b"", bytearray()
        try:
            while not decompressor.eof:
                if not data and not (data := self._file.read(CHUNK)):
                    break
                whole += data
                out += decompressor.decompress(data, max_length=2 * CHUNK)
                data = b""
                if len(out) > 2 * CHUNK:
                    raise zstd.ZstdError("a frame is longer than any that is written")
        except (zstd.ZstdError, MemoryError):
            out.clear()
        if decompressor.eof and out:
            self._packed = decompressor.unused_data
        elif not whole:
            self._ended = True
        else:
            # Damaged, or cut off; what there is of one that is cut off is good up to there.
            self.damaged += 1
            self._packed = self._next_frame(whole[1:])
            if self._packed:
                out.clear()
        self._ready += out

    def _next_frame(self, data: bytes) -> bytes:
        """Return what begins with the next frame, b"" at the end."""
        while (at := data.find(MAGIC)) < 0:
            more = self._file.read(CHUNK)
            if not more:
                self._ended = True
                return b""
            data = data[-3:] + more
        return data[at:]


def _delete_original(path: Path, cold: Path) -> None:
    try:
        path.unlink()
    except FileNotFoundError:
        # Its writer, which looks for it under both names, deleted it before it had this one.
        cold.unlink(missing_ok=True)
        raise


def _write(out: Any, data: bytes) -> int:
    """Write all of it; return how much that was. A disk that is nearly full takes a part, without an error."""
    done = 0
    while done < len(data):
        done += out.write(data[done:])
    return done


def _filled(source: BinaryIO, size: int) -> bytes:
    """Return `size` bytes, fewer at the end only."""
    parts: list[bytes] = []
    while size and (part := source.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _private(name: Any, flags: int) -> int:
    return os.open(name, flags | os.O_CLOEXEC, 0o640)
