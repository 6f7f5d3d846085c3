"""Replay: exact when nothing changed, and the first difference located when something did (I10)."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from journals import LARGE, cancel, checkpoint, records, rewrite, timer

from mmpi.actions import Approved
from mmpi.errors import JournalError
from mmpi.events import Event
from mmpi.journal.cold import compress, segment_paths
from mmpi.journal.entries import Checkpoint, Gap
from mmpi.journal.record import ACTION, EVENT, FRAME_BYTES, GAP, Record, encode_payload
from mmpi.journal.writer import JournalWriter
from mmpi.runtime.replay import ReplayVerdict, verify_replay


class Counter:
    """The smallest engine with a state: it answers the n-th event with n % 3 actions that carry n."""

    def __init__(self, count: int = 0) -> None:
        self.count = count

    def handle(self, event: Event) -> Sequence[Approved]:
        self.count += 1
        return [cancel(event.recv_ts, f"{self.count}.{which}") for which in range(self.count % 3)]

    def checkpoint(self) -> bytes:
        return str(self.count).encode()


def build(state: Checkpoint) -> Counter:
    """Return the engine that a checkpoint describes."""
    return Counter(int(state.engine_state))


def run(folder: Path, events: int, *, segment_bytes: int = LARGE, note: str | None = "clean stop") -> Path:
    """Return the folder of a run of `Counter`, which may be one of several in it; `note` None = ended by SIGKILL."""
    engine = Counter()
    out = JournalWriter(
        folder,
        segment_bytes=segment_bytes,
        max_bytes=None,
        checkpoint=lambda: checkpoint(engine.checkpoint()),
    )
    for ts in range(1, events + 1):
        out.event(timer(ts))
        for action in engine.handle(timer(ts)):
            out.action(action)
    if note is not None:
        out.close(note)
    return folder


def test_a_run_replays_exactly(tmp_path: Path) -> None:
    """Every action is computed again, every later checkpoint and the last state compared; the verdict says so."""
    run(tmp_path, 100, segment_bytes=2800)
    segments = len(list(tmp_path.iterdir()))
    assert segments > 3
    verdict = verify_replay(tmp_path, build)
    assert verdict == ReplayVerdict(
        events=100, actions=100, checkpoints=segments, restarts=0, first_ts=1, last_ts=100, torn=(), damage=(),
        mismatch=None,
    )  # fmt: skip
    assert verdict.exact


def test_one_segment_replays_alone(tmp_path: Path) -> None:
    """Any segment's checkpoint is enough to replay it."""
    run(tmp_path, 100, segment_bytes=2800)
    verdict = verify_replay(tmp_path / "00000003.mmj", build)
    assert verdict.exact
    assert 1 < verdict.first_ts < verdict.last_ts < 100
    assert verdict.events == verdict.last_ts - verdict.first_ts + 1


def test_another_answer_is_located(tmp_path: Path) -> None:
    """An engine that answers otherwise is caught at the first record that differs."""
    run(tmp_path, 20)
    place = next(record for record in records(tmp_path) if record.kind == ACTION)
    verdict = verify_replay(tmp_path, lambda state: Counter(int(state.engine_state) + 3))
    assert not verdict.exact
    assert verdict.mismatch is not None
    assert (verdict.mismatch.offset, verdict.mismatch.record, verdict.mismatch.event) == (place.offset, place.number, 1)
    text = str(verdict.mismatch)
    assert text.startswith(f"record {place.number} at offset {place.offset} of 00000001.mmj, after event 1: recorded ")
    assert "cl_ord_id='1.0'" in text
    assert "computed CancelOrder(instrument='BTC', cl_ord_id='4.0'" in text


@pytest.mark.parametrize("which", range(19))
def test_a_missing_action_is_located(tmp_path: Path, which: int) -> None:
    """An action record taken out of the middle is a mismatch, at the record where it should have been or the next."""
    segment = run(tmp_path, 20) / "00000001.mmj"
    found = records(segment)
    actions = [index for index, record in enumerate(found) if record.kind == ACTION]
    cut = actions[which]
    rewrite(segment, found[:cut] + found[cut + 1 :])
    verdict = verify_replay(tmp_path, build)
    assert verdict.mismatch is not None
    assert (verdict.mismatch.record, verdict.mismatch.offset) == (cut, found[cut].offset)


def test_an_added_action_is_located(tmp_path: Path) -> None:
    """An action record that no event explains is a mismatch at its place."""
    segment = run(tmp_path, 20) / "00000001.mmj"
    found = records(segment)
    rewrite(segment, [*found[:6], Record(ACTION, encode_payload(cancel(99)), "", 0, 0), *found[6:]])
    verdict = verify_replay(tmp_path, build)
    assert verdict.mismatch is not None
    assert (verdict.mismatch.record, verdict.mismatch.offset) == (6, found[6].offset)
    assert "cl_ord_id='1'" in verdict.mismatch.recorded


def test_a_changed_event_with_a_good_crc_is_found(tmp_path: Path) -> None:
    """Recorded actions are never fed back: a missing event shows in what follows it."""
    segment = run(tmp_path, 20) / "00000001.mmj"
    found = records(segment)
    event = [index for index, record in enumerate(found) if record.kind == EVENT][2]
    rewrite(segment, found[:event] + found[event + 1 :])
    assert verify_replay(tmp_path, build).mismatch is not None


def test_a_flipped_byte_of_an_event_is_located(tmp_path: Path) -> None:
    """Each byte of one event record, flipped, is damage with its record and offset, and the replay is not exact."""
    segment = run(tmp_path, 20) / "00000001.mmj"
    data, found = segment.read_bytes(), records(segment)
    index = next(index for index, record in enumerate(found) if record.kind == EVENT and index > 5)
    for at in range(found[index].offset, found[index + 1].offset):
        segment.write_bytes(data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :])
        verdict = verify_replay(tmp_path, build)
        assert not verdict.exact
        assert verdict.mismatch is None
        assert verdict.damage[0].startswith(f"record {index} at offset {found[index].offset} of 00000001.mmj: ")


def test_damage_costs_no_more_than_its_segment(tmp_path: Path) -> None:
    """Behind damage the engine is built anew from the next segment's checkpoint, and the rest is still compared."""
    run(tmp_path, 100, segment_bytes=2800)
    second = tmp_path / "00000002.mmj"
    data, place = second.read_bytes(), records(second)[4]
    second.write_bytes(data[: place.offset] + b"\xff" * 4 + data[place.offset + 4 :])
    verdict = verify_replay(tmp_path, build)
    assert (len(verdict.damage), verdict.mismatch, verdict.restarts) == (1, None, 1)
    assert verdict.last_ts == 100
    assert 70 < verdict.events < 100


def test_a_state_that_drifted_is_located(tmp_path: Path) -> None:
    """An engine whose answers agree but whose state does not is caught at the next checkpoint."""

    class Drifting(Counter):
        def checkpoint(self) -> bytes:
            return super().checkpoint() + b"!"

    run(tmp_path, 100, segment_bytes=2800)
    verdict = verify_replay(tmp_path, lambda state: Drifting(int(state.engine_state)))
    assert verdict.mismatch is not None
    assert (verdict.mismatch.segment, verdict.mismatch.offset) == ("00000002.mmj", records(tmp_path)[0].offset)
    assert verdict.mismatch.recorded == "a state of 2 bytes"
    assert verdict.mismatch.computed == "one of 3 bytes that differs from byte 2"


def test_a_run_killed_anywhere_replays(tmp_path: Path) -> None:
    """Cut at every byte, a run replays exactly: the last event's actions may be a prefix of those computed."""
    segment = run(tmp_path, 6, note=None) / "00000001.mmj"
    data, found = segment.read_bytes(), records(segment)
    for size in range(found[1].offset, len(data)):
        segment.write_bytes(data[:size])
        verdict = verify_replay(tmp_path, build)
        assert verdict.exact
        ends = [record.offset + FRAME_BYTES + len(record.payload) for record in found if record.kind == EVENT]
        assert verdict.events == sum(end <= size for end in ends)


def test_later_runs_start_anew(tmp_path: Path) -> None:
    """A killed run with a second one behind it: both are exact, each from its own checkpoint."""
    run(tmp_path, 5, note=None)
    segment = tmp_path / "00000001.mmj"
    segment.write_bytes(segment.read_bytes()[:-1])
    run(tmp_path, 7)
    verdict = verify_replay(tmp_path, build)
    assert verdict.exact
    assert (verdict.events, verdict.restarts, verdict.checkpoints, len(verdict.torn)) == (12, 1, 1, 1)


def test_nothing_is_claimed_for_a_gap(tmp_path: Path) -> None:
    """Between a Gap record and the next checkpoint nothing is compared or counted."""
    run(tmp_path, 100, segment_bytes=2800)
    segment = tmp_path / "00000002.mmj"
    found = records(segment)
    rewrite(segment, [*found[:4], Record(GAP, encode_payload(Gap(2, 1, "dropped")), "", 0, 0), *found[5:]])
    verdict = verify_replay(tmp_path, build)
    assert (verdict.exact, verdict.restarts, verdict.last_ts) == (True, 1, 100)
    assert 70 < verdict.events < 100


def test_what_a_later_version_added_is_ignored(tmp_path: Path) -> None:
    """Records of kinds that this version does not know change no verdict, wherever they stand."""
    run(tmp_path, 40)
    segment, before = tmp_path / "00000001.mmj", verify_replay(tmp_path, build)
    found = records(segment)
    strange = [(kind, encode_payload([kind, "new"])) for kind in (12, 99, 255)]
    rewrite(segment, [each for record in found for each in (record, *strange)])
    assert verify_replay(tmp_path, build) == before
    assert before.exact


def test_a_cold_journal_replays(tmp_path: Path) -> None:
    """Compressed, a journal has the same verdict."""
    run(tmp_path, 100, segment_bytes=2800)
    before = verify_replay(tmp_path, build)
    for path in segment_paths(tmp_path)[:-1]:
        compress(path, durable=False)
    assert verify_replay(tmp_path, build) == before


def test_an_event_that_cannot_be_decoded_is_an_error(tmp_path: Path) -> None:
    """A record with a good CRC that is no event stops the replay with its place."""
    segment = run(tmp_path, 3) / "00000001.mmj"
    found = records(segment)
    rewrite(segment, [found[0], Record(EVENT, encode_payload("x"), "", 0, 0)])
    with pytest.raises(JournalError, match=f"record 1 at offset {found[1].offset} of 00000001.mmj: event: "):
        verify_replay(tmp_path, build)
