"""mmpi.runtime.rotation: every line in exactly one file, files by size and age, a limit for the folder."""

import gzip
import os
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recording_builders import HOUR, LARGE, START, batch, numbered

from mmpi.errors import ConfigError, DeviceError
from mmpi.instrument import SECOND
from mmpi.runtime.recording import recorded_files
from mmpi.runtime.rotation import FLUSH_TEXT, Limits, RotatingFiles

MS = 10**6


def read_all(folder: Path) -> list[bytes]:
    """Return the lines of all files, in the order of their names."""
    return [line for path in recorded_files(folder) for line in gzip.decompress(path.read_bytes()).splitlines(True)]


def readable_part(folder: Path) -> bytes:
    """Return what a reader of the only part finds now."""
    (path,) = folder.glob("*.part")
    return zlib.decompressobj(31).decompress(path.read_bytes())


def old_file(folder: Path, ts: int, size: int) -> Path:
    """Write a finished file of an earlier recorder."""
    files = RotatingFiles(folder, LARGE)
    files.write(batch(b"1 {}\n", first=ts))
    files.close()
    path = max(folder.glob("*.gz"))
    os.truncate(path, size)
    return path


@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.integers(0, 3 * SECOND // 1000), st.integers(1, 30)), min_size=1, max_size=20),
    st.integers(1, 2000),
    st.integers(1, 10**10),
)
def test_every_line_is_in_one_file_in_its_place(
    tmp_path_factory: pytest.TempPathFactory, batches: list[tuple[int, int]], file_bytes: int, file_age: int
) -> None:
    """Whatever the limits, the files in the order of their names are the lines in theirs, and the counts are right."""
    folder = tmp_path_factory.mktemp("rotation")
    files = RotatingFiles(folder, Limits(file_bytes, file_age))
    now, written = START, []
    for wait, count in batches:
        now += wait * 1000
        lines = numbered(len(written), count, now)
        written += lines
        files.write(batch(*lines, first=now))
    files.close()
    assert read_all(folder) == written
    assert files.messages == len(written)
    assert files.files == len(recorded_files(folder))
    assert files.bytes == sum(path.stat().st_size for path in folder.iterdir())
    assert not list(folder.glob("*.part"))


def test_a_file_ends_when_it_is_full(tmp_path: Path) -> None:
    """The next batch after the size is reached begins another file, named by its own time."""
    files = RotatingFiles(tmp_path, Limits(file_bytes=1, file_age=HOUR))
    for number in range(3):
        files.write(batch(b"1 {}\n", first=START + number * SECOND))
    files.close()
    names = [path.name for path in recorded_files(tmp_path)]
    assert [name.removeprefix("hyperliquid_20261128T") for name in names] == [
        "125953_801Z.jsonl.gz", "125954_801Z.jsonl.gz", "125955_801Z.jsonl.gz",
    ]  # fmt: skip


def test_a_file_ends_when_it_is_old(tmp_path: Path) -> None:
    """Age counts from the file's first line, in received time."""
    files = RotatingFiles(tmp_path, Limits(file_bytes=2**40, file_age=60 * SECOND))
    for second in (0, 59, 60, 119, 120):
        files.write(batch(b"1 {}\n", first=START + second * SECOND))
    assert files.files == 3
    files.close()


def test_two_files_never_have_one_name(tmp_path: Path) -> None:
    """Within one millisecond no further file is begun, however full the first is."""
    files = RotatingFiles(tmp_path, Limits(file_bytes=1, file_age=1))
    for micros in (0, 1, 2, 200):
        files.write(batch(b"1 {}\n", first=START + micros * 1000))
    assert files.files == 1
    files.write(batch(b"1 {}\n", first=START + MS))
    assert files.files == 2
    files.close()


def test_a_file_without_lines_is_never_made(tmp_path: Path) -> None:
    """A recorder that heard nothing leaves nothing."""
    files = RotatingFiles(tmp_path, LARGE)
    files.flush()
    files.close()
    assert (list(tmp_path.iterdir()), files.files, files.bytes) == ([], 0, 0)


def test_lines_are_safe_after_two_seconds(tmp_path: Path) -> None:
    """The first lines at once, later ones once the last flush is two seconds old, or when there are many of them."""
    files = RotatingFiles(tmp_path, LARGE)
    texts = [b"".join(numbered(number * 10, 10)) for number in range(3)]
    for text, second in zip(texts, (0.0, 1.9, 2.0), strict=True):
        now = START + round(second * SECOND)
        files.write(batch(text, first=now))
        safe = texts[0] if second < 2 else b"".join(texts)
        assert readable_part(tmp_path) == safe
    many = b"1 " + b"x" * FLUSH_TEXT + b"\n"
    files.write(batch(many, first=START + 2 * SECOND))
    assert readable_part(tmp_path) == b"".join(texts) + many
    files.close()


def test_a_quiet_feed_is_flushed_by_hand(tmp_path: Path) -> None:
    """`flush` hands over what waits, and does nothing when nothing does."""
    files = RotatingFiles(tmp_path, LARGE)
    files.write(batch(b"1 {}\n", first=START))
    files.write(batch(b"2 {}\n", first=START + 1))
    assert readable_part(tmp_path) == b"1 {}\n"
    files.flush()
    size = files.bytes
    files.flush()
    assert (readable_part(tmp_path), files.bytes) == (b"1 {}\n2 {}\n", size)
    files.close()


def test_a_full_folder_is_said(tmp_path: Path) -> None:
    """Earlier files count; nothing is deleted."""
    old_file(tmp_path, START - HOUR, 900)
    files = RotatingFiles(tmp_path, Limits(file_bytes=500, file_age=HOUR, max_bytes=1000))
    files.write(batch(*numbered(0, 1), first=START))
    assert not files.is_full
    files.write(batch(*numbered(1, 100), first=START + 3 * SECOND))
    assert files.is_full
    files.close()
    assert (len(recorded_files(tmp_path)), files.pruned) == (2, 0)


def test_a_folder_that_is_full_already(tmp_path: Path) -> None:
    """There is no point in beginning: what helps is said."""
    old_file(tmp_path, START - HOUR, 2_000_000)
    with pytest.raises(ConfigError) as caught:
        RotatingFiles(tmp_path, Limits(file_bytes=500, file_age=HOUR, max_bytes=1_000_000))
    assert str(caught.value) == (
        f"--max-gb 0.001: {tmp_path} holds 0.002 GB already; allowed: more, another folder, or --prune"
    )


def test_the_oldest_files_go(tmp_path: Path) -> None:
    """With --prune the folder keeps below its limit by whole files, the oldest first, never the one being written."""
    oldest, older = old_file(tmp_path, START - 2 * HOUR, 700), old_file(tmp_path, START - HOUR, 700)
    limits = Limits(file_bytes=500, file_age=HOUR, max_bytes=2000, prune=True)
    files = RotatingFiles(tmp_path, limits)
    files.write(batch(*numbered(0, 1), first=START))
    assert (files.pruned, oldest.exists(), older.exists()) == (0, True, True)
    written = 1
    for number in range(1, 40):
        lines = numbered(written, 20)
        written += len(lines)
        files.write(batch(*lines, first=START + number * 3 * SECOND))
        # One file may grow past its size by a batch before it is over.
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= limits.max_bytes + limits.file_bytes
    assert not files.is_full
    files.close()
    assert files.pruned > 2
    assert (oldest.exists(), older.exists()) == (False, False)
    assert files.files - len(recorded_files(tmp_path)) == files.pruned - 2
    assert read_all(tmp_path)[-1] == numbered(written - 1, 1)[0]


def test_somebody_else_may_tidy_up(tmp_path: Path) -> None:
    """A file that is gone already is no error, and not counted as pruned."""
    gone = old_file(tmp_path, START - HOUR, 1900)
    files = RotatingFiles(tmp_path, Limits(file_bytes=500, file_age=HOUR, max_bytes=2000, prune=True))
    gone.unlink()
    files.write(batch(b"1 {}\n"))
    files.close()
    assert files.pruned == 0


def test_a_limit_too_small_to_prune(tmp_path: Path) -> None:
    """One file is being written and one must stay: the limit has to hold two."""
    with pytest.raises(ConfigError, match=r"--max-gb 0\.1 --rotate-mb 64: with --prune .* at least twice the size"):
        RotatingFiles(tmp_path, Limits(file_bytes=64_000_000, file_age=HOUR, max_bytes=100_000_000, prune=True))


def test_a_folder_that_vanishes(tmp_path: Path) -> None:
    """A folder that is taken away is one error when the next file is due."""
    folder = tmp_path / "a"
    folder.mkdir()
    files = RotatingFiles(folder, LARGE)
    folder.rmdir()
    with pytest.raises(DeviceError, match="cannot be made: No such file or directory"):
        files.write(batch(b"1 {}\n"))
