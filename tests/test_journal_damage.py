"""Torn and flipped: real journals, hot, cold and a ledger's, cut at every byte and flipped at any bit.

Whatever happens to a segment the reader does not crash, returns nothing that was not written, loses nothing before the
damage, goes on behind it, and says how much is missing.
"""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from journals import flipped
from real_journals import Kept, backtest, end_of, freeze, ledger, numbers, payloads

from mmpi.journal import cold
from mmpi.journal.reader import Damage, Torn
from mmpi.journal.record import BLOCK

FLIPS = 150
"""Of each journal in the quick suite."""
FRAME = cold.CHUNK
SMALL_FRAME = 4096
"""So that a segment of a few kilobytes has several frames, as a real one has."""


@pytest.fixture(scope="module", autouse=True)
def small_frames() -> Iterator[None]:
    """Have cold segments of small frames."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cold, "CHUNK", SMALL_FRAME)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for this module."""
    return tmp_path_factory.mktemp("damage")


@pytest.fixture(scope="module")
def hot(folder: Path) -> Kept:
    """Return a run of a few segments, ended cleanly."""
    return Kept(backtest(folder / "hot", 4, 12_000))


@pytest.fixture(scope="module")
def frozen(folder: Path) -> Kept:
    """Return the same run, all of its segments but the last one compressed."""
    return Kept(freeze(backtest(folder / "cold", 4, 12_000)))


@pytest.fixture(scope="module")
def books(folder: Path, hot: Kept) -> Kept:
    """Return a ledger over the same events, its first segments cold and its last two hot."""
    return Kept(ledger(folder / "ledger", payloads(hot.folder)))


# Cut ----------------------------------------------------------------------------------------------------------------


def cut(kept: Kept, path: Path, size: int) -> None:
    """Cut a hot segment there, and check what is left of the journal."""
    whole, last = kept.of[path], path == kept.paths[-1]
    left = kept.look(path, kept.data[path][:size])
    gone = [record for record in whole if end_of(record) > size]
    assert left.missing == numbers(gone)
    if size >= kept.header[path] and not last:
        assert (left.lost, left.unknown, len(left.told)) == (len(gone), False, 1 if gone else 0)
        assert all(isinstance(item, Damage) for item in left.told)
    elif not last:
        # The header itself: the segment is gone, which the next one counts.
        assert (left.lost, [type(item) for item in left.told]) == (len(gone), [Damage, Damage])
    else:
        # The end of the run: a torn tail, unless it is cut behind a record, and nobody can know what was to come.
        behind = {end_of(record) for record in whole} | {kept.header[path]}
        padding = size > kept.header[path] and not kept.hit(path, size - 1)
        assert [type(item) for item in left.told] == ([] if size in behind or padding else [Torn])


def points(kept: Kept, path: Path, every: int) -> list[int]:
    """Return where to cut a segment: around the start and the head of some records, and at every so many bytes."""
    size, starts = len(kept.data[path]), [record.offset for record in kept.of[path][::7]]
    near = {start + byte for start in starts for byte in (-1, 0, 1, 4, 16, 17, 18)}
    return sorted(byte for byte in near | set(range(0, size, every)) if byte < size)


def test_a_hot_segment_cut_here_and_there(hot: Kept) -> None:
    """In the middle of a run and at its end exactly the records behind the cut are missing, and counted."""
    for path in (hot.paths[1], hot.paths[-1]):
        for size in points(hot, path, 211):
            cut(hot, path, size)


def test_a_ledger_cut_here_and_there(books: Kept) -> None:
    """The same for a ledger: what is missing is what is behind the cut."""
    for path in books.paths[-2:]:
        for size in points(books, path, 997):
            cut(books, path, size)


def cut_cold(kept: Kept, path: Path, size: int) -> int:
    """Cut a cold segment there: what is missing is at its end, all counted, the rest is there; return how many."""
    left = kept.look(path, kept.data[path][:size])
    all_of_it = numbers(kept.of[path])
    assert left.missing == all_of_it[len(all_of_it) - len(left.missing) :]
    assert left.lost == len(left.missing)
    assert left.told
    return left.lost


def test_a_cold_segment_cut_here_and_there(frozen: Kept) -> None:
    """Frames that are whole are read, those behind the cut are missing and counted."""
    path = frozen.paths[0]
    lost = {cut_cold(frozen, path, size) for size in range(0, len(frozen.data[path]), 23)}
    assert len(lost) > 2, "not all or nothing"


@pytest.mark.slow
@pytest.mark.parametrize(("which", "segment"), [("hot", 1), ("hot", -1), ("frozen", 0), ("books", -2)])
def test_every_point(request: pytest.FixtureRequest, which: str, segment: int) -> None:
    """Cut at every single byte: as above."""
    kept: Kept = request.getfixturevalue(which)
    path = kept.paths[segment]
    for size in range(len(kept.data[path])):
        cut_cold(kept, path, size) if path.name.endswith(cold.COLD) else cut(kept, path, size)


# Flipped ------------------------------------------------------------------------------------------------------------


def flip(kept: Kept, path: Path, bit: int) -> None:
    """Change a bit of a hot segment: exactly the record that it belongs to is missing, and it is told."""
    byte = bit // 8
    hit = kept.hit(path, byte)
    left = kept.look(path, flipped(kept.data[path], bit))
    if byte < kept.header[path]:
        whole = kept.of[path]
        assert left.missing == numbers(whole)
        assert isinstance(left.told[0], Damage)
        assert left.lost == (len(whole) if path != kept.paths[-1] else 0)
    elif hit is None:
        # Padding: no record is missing, and what stands there is told.
        assert (left.missing, left.lost, len(left.told)) == ([], 0, 1)
    else:
        assert left.missing == [hit.number]
        (damage,) = left.told
        assert isinstance(damage, Damage)
        assert (damage.offset, damage.number) == (hit.offset, hit.number)
        last = hit.number == kept.records[-1].number
        assert (damage.lost, left.unknown) == ((-1, True) if last else (1, False))


def flip_cold(kept: Kept, path: Path, bit: int, frame: int) -> int:
    """Change a bit of a cold segment: no more than a frame is missing, the first one apart; return how many records."""
    whole = kept.of[path]
    left = kept.look(path, flipped(kept.data[path], bit))
    assert left.lost == len(left.missing)
    if left.missing:
        gone = [record for record in whole if record.number in set(left.missing)]
        assert numbers(gone) == list(range(gone[0].number, gone[-1].number + 1))
        inner = sum(end_of(record) - record.offset for record in gone[1:-1])
        assert inner <= frame or gone == whole
        assert any("damaged parts" in str(item) for item in left.told) or gone == whole
    return left.lost


def flip_any(kept: Kept, chance: random.Random, frame: int = SMALL_FRAME) -> None:
    """Change one bit anywhere in a journal."""
    sizes = [len(kept.data[path]) for path in kept.paths]
    (path,) = chance.choices(kept.paths, sizes)
    bit = chance.randrange(8 * len(kept.data[path]))
    flip_cold(kept, path, bit, frame) if path.name.endswith(cold.COLD) else flip(kept, path, bit)


@pytest.mark.parametrize("which", ["hot", "frozen", "books"])
def test_some_flipped_bits(request: pytest.FixtureRequest, which: str) -> None:
    """A sample, the same each time."""
    kept: Kept = request.getfixturevalue(which)
    chance = random.Random(which)
    for _ in range(FLIPS):
        flip_any(kept, chance)


@pytest.mark.slow
@pytest.mark.parametrize("which", ["hot", "frozen", "books"])
def test_ten_thousand_flipped_bits(request: pytest.FixtureRequest, which: str) -> None:
    """Others each time, 4000 of each kind of journal; a failure names the seed."""
    kept: Kept = request.getfixturevalue(which)
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    for number in range(4000):
        try:
            flip_any(kept, chance)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, flip {number}: {error}") from error


@pytest.mark.slow
def test_a_cold_segment_of_real_size(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a segment of a megabyte a flipped bit costs one frame of 256 KiB, wherever it is."""
    monkeypatch.setattr(cold, "CHUNK", FRAME)
    kept = Kept(freeze(backtest(folder / "large", 300, 800_000)))
    path = kept.paths[0]
    assert len(kept.of[path]) > 1000
    chance = random.Random(5)
    costs = set()
    for _ in range(60):
        costs.add(flip_cold(kept, path, chance.randrange(8 * len(kept.data[path])), FRAME))
    assert len(costs) > 2


def test_several_bits_at_once(hot: Kept) -> None:
    """Many flips in one segment: what is missing is what was hit, each stretch of it counted."""
    path, chance = hot.paths[0], random.Random(3)
    start = hot.header[path]
    for _ in range(60):
        data, hits = hot.data[path], set()
        for _ in range(chance.randrange(2, 9)):
            bit = chance.randrange(8 * start, 8 * len(data))
            data = flipped(data, bit)
            hit = hot.hit(path, bit // 8)
            assert hit is not None
            hits.add(hit.number)
        left = hot.look(path, data)
        if set(left.missing) != hits:
            # Two flips of one place undo each other.
            assert set(left.missing) < hits
        assert (left.lost, left.unknown) == (len(left.missing), False)


# Zeros and noise ----------------------------------------------------------------------------------------------------


def test_zeros_where_a_block_should_be(books: Kept) -> None:
    """A block of a ledger that reads as zeros costs the records that were in it, and these are counted."""
    for path in books.paths[-2:]:
        data = books.data[path]
        for block in range(BLOCK, len(data), BLOCK):
            left = books.look(path, data[:block] + bytes(BLOCK) + data[block + BLOCK :])
            hit = [each for each in books.of[path] if each.offset < block + BLOCK and end_of(each) > block]
            assert left.missing == numbers(hit)
            if hit and hit[-1].number < books.records[-1].number:
                assert (left.lost, left.unknown, len(left.told)) == (len(hit), False, 1)


def test_noise_in_the_middle(hot: Kept) -> None:
    """A stretch of random bytes costs what it lies on, and is skipped to the next record."""
    path, chance = hot.paths[0], random.Random(4)
    data, whole = hot.data[path], hot.of[path]
    for _ in range(40):
        start = chance.randrange(whole[0].offset, whole[-1].offset)
        size = chance.randrange(1, 3000)
        noise = chance.randbytes(min(size, len(data) - start))
        left = hot.look(path, data[:start] + noise + data[start + len(noise) :])
        hit = [each for each in whole if each.offset < start + len(noise) and end_of(each) > start]
        assert set(left.missing) <= set(numbers(hit))
        assert len(left.missing) >= len(hit) - 2, "a byte or two may be what they were"
        assert (left.lost, left.unknown) == (len(left.missing), False)


def test_bytes_that_were_put_in(hot: Kept) -> None:
    """Bytes between two records cost no record, and are told as none."""
    path = hot.paths[0]
    data, whole = hot.data[path], hot.of[path]
    for record in whole[1:9]:
        left = hot.look(path, data[: record.offset] + b"something else" + data[record.offset :])
        assert (left.missing, left.lost, left.unknown) == ([], 0, False)
        (damage,) = left.told
        assert isinstance(damage, Damage)
        assert (damage.skipped, damage.reason) == (14, "no record begins here")


def test_a_record_that_is_there_twice(hot: Kept) -> None:
    """A block that an old write has left over is not told again."""
    path = hot.paths[0]
    data, whole = hot.data[path], hot.of[path]
    for record in whole[2:9]:
        again = data[whole[1].offset : record.offset]
        left = hot.look(path, data[: record.offset] + again + data[record.offset :])
        assert (left.missing, left.lost) == ([], 0)
        assert [str(item).endswith(", which was before") for item in left.told] == [True]
