"""Frames: recorded WebSocket messages of a .jsonl file as raw bytes, for measuring what reads them.

Invariant: the bytes are those of the file, one message a line, and each can be read: a benchmark is no place to find
out. It must not know who reads them.

A line is `<receive time in ns> <message>`, or the message alone; its own time then stands in for the receive time.
"""

from pathlib import Path
from typing import Final

import msgspec

from mmpi.errors import ConfigError
from mmpi.instrument import MILLISECOND, Nanos
from mmpi.research.grid import EXACT, Tally
from mmpi.research.jsonl import SUFFIXES, numbered_lines
from mmpi.venues.hyperliquid.messages import BookMessage, Message, TradesMessage, is_of_no_interest, read

MOST_DIGITS: Final = 20
"""Of a receive time in nanoseconds: a 64-bit number has fewer."""

class Frame(msgspec.Struct, frozen=True, gc=False):
    """One WebSocket message and when it was received."""

    recv_ts: Nanos
    raw: bytes
    is_book: bool
    levels: int = 0
    """Of a book, on its thinner side."""


def load(path: Path, coin: str, limit: int) -> tuple[str, list[Frame]]:
    """Return the coin and its first `limit` book and trade messages; "" takes the coin of the first book.

    ConfigError names the file and line that cannot be read, and a file without a book of the coin.
    """
    if not path.name.endswith(SUFFIXES):
        raise ConfigError(f"{path}: allowed: raw messages, one a line, in a file {', '.join(SUFFIXES)}")
    frames: list[Frame] = []
    number, last = 0, 0
    try:
        for number, line in numbered_lines(path, Tally()):
            recv_ts, raw = _split(line.strip())
            message = _read(raw, path, number)
            if isinstance(message, BookMessage):
                coin = coin or message.data.coin
                own, time = message.data.coin, message.data.time
                levels = min(map(len, message.data.levels))
            elif isinstance(message, TradesMessage) and message.data:
                own, time, levels = message.data[-1].coin, message.data[-1].time, 0
            else:
                continue
            if own == coin:
                last = max(last, recv_ts or time * MILLISECOND)
                frames.append(Frame(last, raw, isinstance(message, BookMessage), levels))
                if len(frames) == limit:
                    break
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    if not any(frame.is_book for frame in frames):
        raise ConfigError(f"{path}: no l2Book message{f' of {coin}' if coin else ''} in its first {number} lines")
    return coin, frames


def _split(line: bytes) -> tuple[Nanos, bytes]:
    """Return the receive time, 0 = the line has none, and the message."""
    head, _, rest = line.partition(b" ")
    return (int(head), rest) if head.isdigit() and len(head) < MOST_DIGITS else (0, line)


def _read(raw: bytes, path: Path, number: int) -> Message | None:
    """Return the message, None for the venue's greeting, an empty line or a channel of no interest."""
    if not raw.startswith(b"{"):
        return None
    try:
        message = read(raw)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        if is_of_no_interest(raw):
            return None
        raise ConfigError(f"{path}:{number}: not a Hyperliquid message ({error})") from None
    if isinstance(message, BookMessage):
        numbers = [each for side in message.data.levels for level in side for each in (level.px, level.sz)]
    elif isinstance(message, TradesMessage):
        numbers = [each for trade in message.data for each in (trade.px, trade.sz)]
    else:
        return None
    for each in numbers:
        if not 0.0 < each < EXACT:
            raise ConfigError(f"{path}:{number}: a price or size of {each}; allowed: more than 0, below 2^53")
    return message
