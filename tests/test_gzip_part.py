"""mmpi.runtime.gzip_part: whole files, files cut anywhere, disks that are full."""

import errno
import gzip
import os
import random
import zlib
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from recording_builders import numbered

from mmpi.errors import ConfigError, DeviceError
from mmpi.runtime import gzip_part
from mmpi.runtime.gzip_part import GzipPart, mend

NAME = "hyperliquid_20261128T125953_801Z.jsonl.gz"


def write(part: GzipPart, first: int, count: int) -> bytes:
    """Write lines and return them."""
    lines = b"".join(numbered(first, count))
    part.write(lines)
    return lines


def unfinished(folder: Path, flushes: int = 5, lines: int = 40) -> tuple[Path, list[tuple[int, bytes]]]:
    """Return a part that a killed writer left, and for each flush its offset and the text before it."""
    part = GzipPart(folder / NAME)
    text, safe = b"", []
    for number in range(flushes):
        text += write(part, number * lines, lines)
        part.flush()
        safe.append((part.size, text))
    write(part, flushes * lines, 150 * lines)
    os.close(part._fd)
    return part.part, safe


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, list[tuple[int, bytes]]]:
    """Return the bytes of an unfinished part, and its flushes."""
    path, safe = unfinished(tmp_path_factory.mktemp("killed"))
    return path.read_bytes(), safe


def mended_text(folder: Path, data: bytes) -> bytes | None:
    """Return what any gzip reader finds in a mended part with these bytes, None if it was put aside."""
    part = folder / (NAME + ".part")
    part.write_bytes(data)
    done = mend(part)
    assert not part.exists()
    assert done.size == done.path.stat().st_size
    if not done.readable:
        assert done.path.read_bytes() == data
        done.path.unlink()
        return None
    text = gzip.decompress(done.path.read_bytes())
    done.path.unlink()
    return text


def test_a_file_has_its_name_once_it_is_whole(tmp_path: Path) -> None:
    """While it is written it is a part; finished, any gzip reader reads all of it."""
    part = GzipPart(tmp_path / NAME)
    text = write(part, 0, 10)
    assert [path.name for path in tmp_path.iterdir()] == [NAME + ".part"]
    part.flush()
    text += write(part, 10, 10)
    part.finish()
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    assert gzip.decompress((tmp_path / NAME).read_bytes()) == text
    assert part.size == (tmp_path / NAME).stat().st_size


def test_what_was_flushed_is_on_the_disk(tmp_path: Path) -> None:
    """A reader that opens the part after a flush finds every line before it."""
    part = GzipPart(tmp_path / NAME)
    text = write(part, 0, 10)
    part.flush()
    assert zlib.decompressobj(31).decompress(part.part.read_bytes()) == text
    part.finish()


@given(cut=st.floats(0, 1))
@example(0.0)
@example(1.0)
def test_a_part_cut_anywhere_keeps_all_before_its_last_flush(
    killed: tuple[bytes, list[tuple[int, bytes]]], tmp_path_factory: pytest.TempPathFactory, cut: float
) -> None:
    """However much of a file is left, the mended one has exactly the lines up to the last whole flush."""
    data, safe = killed
    size = round(cut * len(data))
    expected = [text for offset, text in safe if offset <= size]
    assert mended_text(tmp_path_factory.mktemp("cut"), data[:size]) == (expected[-1] if expected else None)


@given(st.integers(0, 4), st.binary(max_size=64) | st.sampled_from([bytes(5000), b"\xff" * 5000, b"\0\0\xff\xff" * 9]))
def test_garbage_behind_a_flush_changes_nothing_before_it(
    killed: tuple[bytes, list[tuple[int, bytes]]],
    tmp_path_factory: pytest.TempPathFactory,
    flush: int,
    garbage: bytes,
) -> None:
    """After a power cut anything may follow: the lines before are kept as they were."""
    data, safe = killed
    offset, text = safe[flush]
    assert mended_text(tmp_path_factory.mktemp("garbage"), data[:offset] + garbage) == text


def test_a_part_that_was_whole_is_only_renamed(tmp_path: Path) -> None:
    """A writer killed between the last byte and the new name loses nothing."""
    part = GzipPart(tmp_path / NAME)
    text = write(part, 0, 10)
    part.finish()
    (tmp_path / NAME).rename(part.part)
    size = part.part.stat().st_size
    done = mend(part.part)
    assert (done.path, done.size, done.cut, done.readable) == (tmp_path / NAME, size, 0, True)
    assert gzip.decompress(done.path.read_bytes()) == text


def test_what_a_mend_says(tmp_path: Path) -> None:
    """The bytes behind the last flush are counted as cut."""
    path, safe = unfinished(tmp_path)
    behind = path.stat().st_size - safe[-1][0]
    assert behind > 1000
    done = mend(path)
    assert (done.cut, done.size) == (behind, safe[-1][0] + 10)


def test_the_flush_mark_inside_a_block_is_no_end(tmp_path: Path) -> None:
    """Stored blocks hold any bytes, the mark's own four too: such a place is not taken for a flush."""
    text = b"\0\0\xff\xff" * 50 + b"\n"
    deflate = zlib.compressobj(0, zlib.DEFLATED, 31)
    data = deflate.compress(text) + deflate.flush(zlib.Z_SYNC_FLUSH)
    assert mended_text(tmp_path, data + b"\x01") == text
    assert mended_text(tmp_path, data[:100]) is None


@pytest.mark.parametrize("data", [b"", b"\x1f", b"no gzip at all", random.Random(1).randbytes(1000)])
def test_what_has_no_line_is_put_aside(tmp_path: Path, data: bytes) -> None:
    """Nothing is deleted: a file without a whole line gets another name."""
    assert mended_text(tmp_path, data) is None


def test_a_name_that_is_taken(tmp_path: Path) -> None:
    """Mending never writes over a finished file."""
    path, _ = unfinished(tmp_path)
    (tmp_path / NAME).write_bytes(b"mine")
    with pytest.raises(ConfigError, match=rf"\.part: {NAME} is there too; move one of them away"):
        mend(path)
    assert (tmp_path / NAME).read_bytes() == b"mine"


def test_a_part_that_cannot_be_made(tmp_path: Path) -> None:
    """A folder that is gone is one error."""
    with pytest.raises(DeviceError, match=r"\.part: cannot be made: No such file or directory"):
        GzipPart(tmp_path / "gone" / NAME)


@pytest.mark.parametrize("room", [0, 1, 100, 300])
def test_a_full_disk_leaves_all_up_to_the_last_flush(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    """A write that does not fit, a part of it on the disk or not, is cut off again: the file can be mended."""
    part = GzipPart(tmp_path / NAME)
    text = write(part, 0, 40)
    part.flush()
    left, write_some = room, os.write

    def short(fd: int, data: bytes) -> int:
        nonlocal left
        if left == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        done = write_some(fd, data[:left])
        left -= done
        return done

    monkeypatch.setattr(gzip_part.os, "write", short)
    part.write(b"".join(numbered(40, 40)))
    with pytest.raises(DeviceError, match=r"\.part: cannot be written: No space left on device"):
        part.flush()
    monkeypatch.undo()
    done = mend(part.part)
    assert done.cut == 0
    assert gzip.decompress(done.path.read_bytes()) == text
