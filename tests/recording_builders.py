"""Builders for the tests of recording: the venue's frames, a spool's batches, and files written as a recorder does."""

from collections.abc import Iterable
from pathlib import Path

import msgspec

from mmpi.instrument import MILLISECOND, SECOND
from mmpi.runtime.recording import Gap, gap_line
from mmpi.runtime.rotation import Batch, Limits, RotatingFiles

START = 1_795_870_793_801 * MILLISECOND
HOUR = 3600 * SECOND
LARGE = Limits(file_bytes=2**40, file_age=HOUR)
"""One file for a whole test."""


def message(channel: str, data: object) -> bytes:
    """Return any message as the venue frames it."""
    return msgspec.json.encode({"channel": channel, "data": data})


def book_frame(time: int, bid: float = 100.5, coin: str = "BTC") -> bytes:
    """Return an l2Book message; time in milliseconds."""
    levels = [[{"px": f"{bid}", "sz": "0.5", "n": 1}], [{"px": f"{bid + 0.5}", "sz": "1.0", "n": 2}]]
    return message("l2Book", {"coin": coin, "time": time, "levels": levels})


def trade_frame(*times: int, coin: str = "BTC") -> bytes:
    """Return a trades message; each trade's id is its time."""
    trades = [
        {"coin": coin, "side": "B", "px": "101.0", "sz": "0.00002", "time": time, "tid": time, "hash": "0x0"}
        for time in times
    ]
    return message("trades", trades)


def context_frame(mark: float = 100.0, coin: str = "BTC") -> bytes:
    """Return an activeAssetCtx message."""
    ctx = {"markPx": f"{mark}", "oraclePx": "100.0", "funding": "0.0000125", "openInterest": "1.0"}
    return message("activeAssetCtx", {"coin": coin, "ctx": ctx})


def bbo_frame(time: int, coin: str = "BTC") -> bytes:
    """Return a bbo message."""
    best = [{"px": "100.5", "sz": "0.5", "n": 1}, {"px": "101.0", "sz": "1.0", "n": 2}]
    return message("bbo", {"coin": coin, "time": time, "bbo": best})


def line(recv_ts: int, frame: bytes) -> bytes:
    """Return a message as a line of a recording."""
    return b"%d %b\n" % (recv_ts, frame)


def batch(*lines: bytes, first: int = START, last: int = 0) -> Batch:
    """Return a batch of messages."""
    return Batch(first, last or first, lines, sum(map(len, lines)), len(lines))


def numbered(first: int, count: int, ts: int = START) -> list[bytes]:
    """Return lines that can be told apart, of sizes that do not repeat soon, and that do not pack to nothing."""
    return [
        line(ts, message("test", {"n": n, "x": f"{n * 2654435761 % 2**32:x}" * (n % 7)}))
        for n in range(first, first + count)
    ]


def write_files(
    folder: Path, items: Iterable[tuple[int, bytes | Gap]], limits: Limits = LARGE, *, batch_lines: int = 1
) -> RotatingFiles:
    """Write frames and gaps with their receive times as a recorder does, and finish the last file."""
    folder.mkdir(parents=True, exist_ok=True)
    files = RotatingFiles(folder, limits)
    told = [(ts, gap_line(ts, item) if isinstance(item, Gap) else line(ts, item)) for ts, item in items]
    for place in range(0, len(told), batch_lines):
        part = told[place : place + batch_lines]
        files.write(batch(*(text for _, text in part), first=part[0][0], last=part[-1][0]))
    files.close()
    return files
