"""Frames: the bytes of recorded messages as they are, with a receive time that never goes back."""

import gzip
import json
from pathlib import Path

import pytest

from mmpi.errors import ConfigError
from mmpi.research.frames import Frame, load


def book(coin: str = "BTC", time: int = 1_000) -> bytes:
    """Return an l2Book message, spaced as no program of ours would space it."""
    levels = [[{"px": "1", "sz": "2", "n": 1}], [{"px": "3", "sz": "4", "n": 1}]]
    return json.dumps({"channel": "l2Book", "data": {"coin": coin, "time": time, "levels": levels}}).encode()


def trade(coin: str = "BTC", time: int = 1_001) -> bytes:
    """Return a trades message of one trade."""
    one = {"coin": coin, "side": "A", "px": "1", "sz": "2", "time": time, "hash": "0x", "tid": 5}
    return json.dumps({"channel": "trades", "data": [one]}).encode()


def written(path: Path, *lines: bytes) -> Path:
    """Return the file, holding these lines."""
    content = b"\n".join(lines) + b"\n"
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_the_bytes_are_the_files_own(tmp_path: Path, name: str) -> None:
    """Books and trades of the first book's coin, byte for byte; other coins, channels and the greeting are left out."""
    path = written(
        tmp_path / name,
        b"Websocket connection established.", b'{"channel":"pong"}', trade("BTC", 999), book("BTC"),
        book("ETH"), trade(), b"",
    )  # fmt: skip
    coin, frames = load(path, "", 100)
    assert (coin, frames) == (
        "BTC",
        [Frame(1_000_000_000, book(), True, 1), Frame(1_001_000_000, trade(), False)],
    )


def test_receive_times_come_from_the_prefix_and_never_go_back(tmp_path: Path) -> None:
    """A prefix in nanoseconds wins over the message's own time; an earlier one is held."""
    path = written(tmp_path / "a.jsonl", b"7000000000 " + book(time=1), b"6000000000 " + book(time=2))
    assert [frame.recv_ts for frame in load(path, "BTC", 100)[1]] == [7_000_000_000, 7_000_000_000]


def test_the_limit_ends_the_reading(tmp_path: Path) -> None:
    """What lies behind the limit is not even looked at."""
    path = written(tmp_path / "a.jsonl", book(), book(time=2_000), b"{broken")
    assert len(load(path, "", 2)[1]) == 2


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([b"{broken"], ":1: not a Hyperliquid message"),
        ([book(), b'{"channel":"l2Book","data":{"coin":5}}'], ":2: not a Hyperliquid message"),
        ([book().replace(b'"px": "3"', b'"px": "abc"')], ":1: not a Hyperliquid message"),
        ([book().replace(b'"px": "3"', b'"px": "NaN"')], ":1: not a Hyperliquid message"),
        ([book().replace(b'"sz": "4"', b'"sz": "-4"')], ":1: not a Hyperliquid message"),
        ([book(), trade().replace(b'"A"', b'"Q"')], ":2: not a Hyperliquid message"),
        ([book("ETH")], "no l2Book message of BTC"),
        ([trade()], "no l2Book message of BTC"),
        ([b""], "no l2Book message of BTC"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, lines: list[bytes], message: str) -> None:
    """The error names the file, and the line where there is one."""
    path = written(tmp_path / "a.jsonl", *lines)
    with pytest.raises(ConfigError, match=message) as raised:
        load(path, "BTC", 100)
    assert "a.jsonl" in str(raised.value)


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    """A name that is not .jsonl says what is allowed; a file that is not there says so."""
    with pytest.raises(ConfigError, match=r"allowed: raw messages"):
        load(tmp_path / "a.parquet", "", 1)
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load(tmp_path / "a.jsonl", "", 1)
