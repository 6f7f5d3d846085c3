"""Builders of events, actions, checkpoints and whole journals."""

import resource
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mmpi.actions import Approved, CancelOrder
from mmpi.events import BookSnapshot, Event, Timer
from mmpi.journal.entries import Checkpoint
from mmpi.journal.reader import Item, Segment, read
from mmpi.journal.record import FIXED_HEADER, Record, decode_header, frame, header_length
from mmpi.journal.writer import JournalWriter

LARGE = 2**30


def timer(ts: int) -> Timer:
    """Return the smallest event."""
    return Timer(recv_ts=ts)


def snapshot(ts: int, levels: int = 20) -> BookSnapshot:
    """Return a book as Hyperliquid sends it."""
    bids = tuple((1_000_000 - i, 12_345 + i) for i in range(levels))
    asks = tuple((1_000_001 + i, 54_321 + i) for i in range(levels))
    return BookSnapshot(recv_ts=ts, instrument="BTC", exch_ts=ts - 1, seq=ts, bids=bids, asks=asks)


def cancel(ts: int, order: str = "1") -> Approved:
    """Return an approved action of some bytes."""
    return Approved(ts=ts, action=CancelOrder(instrument="BTC", cl_ord_id=order, order_id=""))


def checkpoint(state: bytes = b"state") -> Checkpoint:
    """Return a checkpoint of an engine with this state."""
    return Checkpoint(
        digest="abc", cl_ord_prefix="0000000100000002", mmpi_version="0", engine_config=b"config", engine_state=state
    )


def writer(
    folder: Path,
    *,
    segment_bytes: int = LARGE,
    max_bytes: int | None = None,
    state: Callable[[], Checkpoint] = checkpoint,
    buffered: bool = False,
) -> JournalWriter:
    """Return a writer that keeps everything in one segment unless told otherwise."""
    return JournalWriter(folder, segment_bytes=segment_bytes, max_bytes=max_bytes, checkpoint=state, buffered=buffered)


def journal(folder: Path, events: Iterable[Event], *, segment_bytes: int = LARGE, stop: bool = True) -> Path:
    """Return the folder of a run: each event is followed by one action; `stop` False = ended by SIGKILL."""
    out = writer(folder, segment_bytes=segment_bytes)
    for event in events:
        out.event(event)
        out.action(cancel(event.recv_ts))
    if stop:
        out.close()
    return folder


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let the kernel refuse every byte of a file after `size`, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def header_bytes(segment: Path) -> bytes:
    """Return the header of a segment."""
    data = segment.read_bytes()
    return data[: header_length(data[:FIXED_HEADER])]


def rewrite(segment: Path, found: Iterable[Record | tuple[int, bytes]]) -> None:
    """Replace the records of a segment, numbered anew from where they began; a pair is a record's kind and payload."""
    start = header_bytes(segment)
    header = decode_header(start)
    pairs = [(each.kind, each.payload) if isinstance(each, Record) else each for each in found]
    frames = [frame(header.marker, header.first_record + n, *pair) for n, pair in enumerate(pairs)]
    segment.write_bytes(start + b"".join(frames))


def flipped(data: bytes, bit: int) -> bytes:
    """Return the bytes with one bit changed."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def items(path: Path) -> list[Item]:
    """Return everything that a reader says but the starts of segments."""
    return [item for item in read(path) if not isinstance(item, Segment)]


def records(path: Path) -> list[Record]:
    """Return the records that a reader finds."""
    return [item for item in read(path) if isinstance(item, Record)]
