"""Cold segments: the same bytes, or what is whole of them; and a segment is never gone before its cold one is there."""

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from journals import journal, largest_file, records, snapshot

from mmpi.journal import cold
from mmpi.journal.cold import (
    CHUNK,
    FIRST_CHUNK,
    MAGIC,
    PART,
    Thawed,
    compress,
    delete_parts,
    is_segment,
    number_of,
    open_segment,
    segment_paths,
)
from mmpi.journal.record import BLOCK
from mmpi.journal.survey import verify_journal


def segment(folder: Path, data: bytes) -> Path:
    """Return a hot segment of these bytes."""
    path = folder / "00000001.mmj"
    path.write_bytes(data)
    return path


def thawed(path: Path) -> bytes:
    """Return all bytes of a segment."""
    with open_segment(path) as file:
        return file.read()


def noise(size: int) -> bytes:
    """Return bytes that do not compress."""
    return os.urandom(size)


def names(folder: Path) -> list[str]:
    """Return the names in a folder."""
    return sorted(path.name for path in folder.iterdir())


LENGTHS = [0, 1, FIRST_CHUNK - 1, FIRST_CHUNK, FIRST_CHUNK + 1, FIRST_CHUNK + CHUNK, 2 * CHUNK + FIRST_CHUNK + 7]


@pytest.mark.parametrize("size", LENGTHS)
@pytest.mark.parametrize("durable", [True, False])
def test_it_is_exact_both_ways(tmp_path: Path, size: int, durable: bool) -> None:
    """Whatever its length, a segment comes back byte for byte, read at once or in any pieces."""
    whole = (noise(100) * (size // 100 + 1))[:size]
    path = segment(tmp_path, whole)
    written = compress(path, durable=durable)
    (frozen,) = tmp_path.iterdir()
    assert (frozen.name, frozen.stat().st_size, frozen.stat().st_mode & 0o777) == ("00000001.mmj.zst", written, 0o640)
    assert thawed(frozen) == whole
    for length in (999, 4096, 65536, 300_000):
        with open_segment(frozen) as file:
            assert isinstance(file, Thawed)
            assert b"".join(iter(lambda file=file, length=length: file.read(length), b"")) == whole
            assert file.damaged == 0


def test_the_header_is_in_a_frame_of_its_own(tmp_path: Path) -> None:
    """So that damage behind it costs a part of the segment, not all; frames end where a ledger's blocks do."""
    assert FIRST_CHUNK % BLOCK == CHUNK % BLOCK == 0
    data = noise(FIRST_CHUNK + CHUNK + 5000)
    compress(segment(tmp_path, data), durable=False)
    packed = (tmp_path / "00000001.mmj.zst").read_bytes()
    starts = [at for at in range(len(packed)) if packed.startswith(MAGIC, at)]
    assert len(starts) == 3
    for number, (begin, end) in enumerate(((0, FIRST_CHUNK), (FIRST_CHUNK, FIRST_CHUNK + CHUNK), (-5000, None))):
        spoilt = bytearray(packed)
        spoilt[starts[number] + 20] ^= 1
        (tmp_path / "00000001.mmj.zst").write_bytes(spoilt)
        assert thawed(tmp_path / "00000001.mmj.zst") == data.replace(data[begin:end], b"")


def test_a_frame_that_swallows_the_next_ones_costs_itself_alone(tmp_path: Path) -> None:
    """Where the end of the file comes in the middle of a damaged frame, the frames that it took in are still found."""
    data = noise(FIRST_CHUNK) + bytes(3 * CHUNK) + noise(1000)
    compress(segment(tmp_path, data), durable=False)
    path = tmp_path / "00000001.mmj.zst"
    packed = path.read_bytes()
    starts = [at for at in range(len(packed)) if packed.startswith(MAGIC, at)]
    assert len(starts) == 5
    for bit in range(8 * (starts[1] + 4), 8 * starts[2]):
        spoilt = bytearray(packed)
        spoilt[bit // 8] ^= 1 << bit % 8
        path.write_bytes(spoilt)
        assert len(thawed(path)) in (len(data), len(data) - CHUNK)


def test_a_cut_leaves_what_is_before_it(tmp_path: Path) -> None:
    """A file that ends in the middle of a frame is read up to there, and one frame counts as damaged."""
    data = noise(FIRST_CHUNK + 2 * CHUNK)
    compress(segment(tmp_path, data), durable=False)
    path = tmp_path / "00000001.mmj.zst"
    packed = path.read_bytes()
    for size in range(0, len(packed), 9001):
        path.write_bytes(packed[:size])
        with open_segment(path) as file:
            assert isinstance(file, Thawed)
            found = file.read()
            assert data.startswith(found)
            assert size - len(found) <= 2**17 + 1000, "no more than the last block of zstd"
            assert file.damaged == (size > 0)


@given(st.binary(max_size=300))
def test_noise_never_crashes_it(data: bytes) -> None:
    """Whatever stands in a cold segment, it is read to its end."""
    for packed in (data, MAGIC + data, MAGIC * 3 + data + MAGIC):
        with open(os.memfd_create("noise"), "w+b") as file:
            file.write(packed)
            file.seek(0)
            thaw = Thawed(file)
            thaw.read()
            assert thaw.read() == b""


def test_a_frame_that_swells_is_refused(tmp_path: Path) -> None:
    """A small file that unpacks to gigabytes, or asks for much memory, is damage and takes no memory."""
    bomb = cold.zstd.compress(bytes(50 * 2**20))
    compressor = cold.zstd.ZstdCompressor(options={cold.zstd.CompressionParameter.window_log: 27})
    wide = compressor.compress(b"few bytes") + compressor.flush()
    for packed in (bomb, wide):
        path = tmp_path / "00000001.mmj.zst"
        path.write_bytes(packed)
        with open_segment(path) as file:
            assert isinstance(file, Thawed)
            assert len(file.read()) <= 3 * CHUNK
            assert file.damaged == 1


# Names --------------------------------------------------------------------------------------------------------------


def test_segments_are_found_by_their_names(tmp_path: Path) -> None:
    """Oldest first, hot or cold; of one that is there twice the hot one, which is whole for sure; nothing else."""
    for name in ("00000002.mmj", "00000001.mmj.zst", "00000003.mmj.zst", "00000003.mmj", "notes.mmj", "00000004.mmj.gz",
                 "00000005.mmj.zst.part", "00000006.zst", ".mmj"):  # fmt: skip
        (tmp_path / name).write_bytes(b"")
    found = segment_paths(tmp_path)
    assert [path.name for path in found] == ["00000001.mmj.zst", "00000002.mmj", "00000003.mmj"]
    assert [number_of(path) for path in found] == [1, 2, 3]
    assert is_segment(Path("1.mmj")) and not is_segment(Path("x.mmj.zst"))


def test_parts_are_deleted(tmp_path: Path) -> None:
    """What a killed process left half written goes; everything else stays."""
    for name in ("00000002.mmj", "00000001.mmj.zst.part", "00000009.mmj.zst", "other.part"):
        (tmp_path / name).write_bytes(b"")
    delete_parts(tmp_path)
    delete_parts(tmp_path / "none")
    assert names(tmp_path) == ["00000002.mmj", "00000009.mmj.zst", "other.part"]


# Never gone ---------------------------------------------------------------------------------------------------------


def test_a_journal_is_the_same_cold(tmp_path: Path) -> None:
    """Segments compressed one after the other, the journal is the same after each, and smaller."""
    journal(tmp_path, [snapshot(ts) for ts in range(1, 60)], segment_bytes=4000)
    whole, before = records(tmp_path), sum(path.stat().st_size for path in tmp_path.iterdir())
    for path in segment_paths(tmp_path)[:-1]:
        compress(path, durable=False)
        assert [(each.number, each.payload) for each in records(tmp_path)] == [
            (each.number, each.payload) for each in whole
        ]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < before * 0.6
    assert verify_journal(tmp_path).damage == ()


@pytest.mark.parametrize("room", [0, 1, 5000, 70_000, 150_000, 300_000])
def test_a_full_disk_leaves_the_segment(tmp_path: Path, room: int) -> None:
    """However much of it the disk takes, of its last frame too, a cold segment that is not whole is no segment."""
    data = noise(FIRST_CHUNK + CHUNK)
    path = segment(tmp_path, data)
    with largest_file(room):
        if room > len(data):
            compress(path, durable=True)
        else:
            with pytest.raises(OSError, match="File too large"):
                compress(path, durable=True)
    (left,) = segment_paths(tmp_path)
    assert (thawed(left), len(names(tmp_path))) == (data, 1)


@pytest.mark.parametrize("call", ["fsync", "replace", "open"])
def test_a_disk_that_fails_leaves_the_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """An error at any step leaves the segment as it was and nothing besides."""
    path = segment(tmp_path, b"text" * 99)

    def failing(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, call, failing)
    with pytest.raises(OSError, match="Input/output error"):
        compress(path, durable=True)
    monkeypatch.undo()
    assert (names(tmp_path), path.read_bytes()) == (["00000001.mmj"], b"text" * 99)


def test_it_is_durable_before_the_other_is_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cold one is synced, takes its name, the name is synced, and only then the hot one goes."""
    path, done = segment(tmp_path, b"text" * 99), []
    fsync, replace, unlink = os.fsync, os.replace, os.unlink

    def fsynced(fd: int) -> None:
        done.append(("fsync", Path(os.readlink(f"/proc/self/fd/{fd}")).name))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", fsynced)
    monkeypatch.setattr(os, "replace", lambda *args: (done.append(("replace", Path(args[1]).name)), replace(*args)))
    monkeypatch.setattr(os, "unlink", lambda *args: (done.append(("unlink", Path(args[0]).name)), unlink(*args)))
    compress(path, durable=True)
    assert done == [
        ("fsync", f"00000001.mmj.zst{PART}"), ("replace", "00000001.mmj.zst"), ("fsync", tmp_path.name),
        ("unlink", "00000001.mmj"),
    ]  # fmt: skip


def test_one_deleted_meanwhile_does_not_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A segment that its writer deletes while it is compressed, at any moment, is gone under both names."""
    real = os.replace
    for before in (True, False):
        path = segment(tmp_path, b"text" * 99)

        def deleting(source: Path, target: Path, path: Path = path, before: bool = before) -> None:
            if before:
                path.unlink()
            real(source, target)
            path.unlink(missing_ok=True)

        monkeypatch.setattr(os, "replace", deleting)
        with pytest.raises(FileNotFoundError):
            compress(path, durable=False)
        assert names(tmp_path) == []
