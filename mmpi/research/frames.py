"""Frames: recorded WebSocket messages of a .jsonl file as raw bytes, for measuring what reads them.

Invariant: the bytes are those of the file, one message a line. It must not know what the messages say beyond their
channel, coin and time.

A line is `<receive time in ns> <message>`, or the message alone; its own time then stands in for the receive time.
"""

from pathlib import Path
from typing import Final

import msgspec

from mmpi.errors import ConfigError
from mmpi.instrument import MILLISECOND, Nanos
from mmpi.research.jsonl import SUFFIXES, decompressed, read_line

BOOKS: Final = "l2Book"
TRADES: Final = "trades"


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One WebSocket message and when it was received."""

    recv_ts: Nanos
    raw: bytes
    is_book: bool


class _Stamp(msgspec.Struct, gc=False):
    coin: str = ""
    time: int = 0


class _Message(msgspec.Struct, gc=False):
    channel: str
    data: msgspec.Raw = msgspec.Raw(b"null")


_MESSAGE: Final = msgspec.json.Decoder(_Message)
_BOOK: Final = msgspec.json.Decoder(_Stamp)
_TRADES: Final = msgspec.json.Decoder(list[_Stamp])


def load(path: Path, coin: str, limit: int) -> tuple[str, list[Frame]]:
    """Return the coin and its first `limit` book and trade messages; "" takes the coin of the first book.

    ConfigError names the file and line that cannot be read, and a file without a book of the coin.
    """
    if not path.name.endswith(SUFFIXES):
        raise ConfigError(f"{path}: allowed: raw messages, one a line, in a file {', '.join(SUFFIXES)}")
    frames: list[Frame] = []
    number, last = 0, 0
    try:
        with path.open("rb") as file:
            stream = decompressed(path, file)
            while len(frames) < limit:
                number += 1
                line = read_line(stream, path, number)
                if not line:
                    break
                kind, stamp, recv_ts, raw = _read(line.strip(), path, number)
                coin = coin or (stamp.coin if kind == BOOKS else "")
                if kind and stamp.coin == coin:
                    last = max(last, recv_ts or stamp.time * MILLISECOND)
                    frames.append(Frame(last, raw, kind == BOOKS))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    if not any(frame.is_book for frame in frames):
        raise ConfigError(f"{path}: no l2Book message{f' of {coin}' if coin else ''} in its first {number} lines")
    return coin, frames


def _read(line: bytes, path: Path, number: int) -> tuple[str, _Stamp, Nanos, bytes]:
    """Return the channel ("" = of no interest), coin and time, the receive time (0 = not told) and the message."""
    head, _, rest = line.partition(b" ")
    recv_ts, raw = (int(head), rest) if head.isdigit() else (0, line)
    if not raw.startswith(b"{"):  # The venue's greeting, or an empty line.
        return "", _Stamp(), recv_ts, raw
    try:
        message = _MESSAGE.decode(raw)
        if message.channel == BOOKS:
            return BOOKS, _BOOK.decode(message.data), recv_ts, raw
        if message.channel == TRADES:
            trades = _TRADES.decode(message.data)
            return TRADES, trades[-1] if trades else _Stamp(), recv_ts, raw
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ConfigError(f"{path}:{number}: not a Hyperliquid message ({error})") from None
    return "", _Stamp(), recv_ts, raw
