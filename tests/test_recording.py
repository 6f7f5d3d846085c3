"""mmpi.runtime.recording: names, what a folder says of itself, marks of gaps, whole or not at all."""

import errno
import os
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmpi.errors import ConfigError, DeviceError
from mmpi.instrument import make_instrument
from mmpi.runtime import recording
from mmpi.runtime.recording import (
    About,
    Gap,
    file_name,
    find_coin,
    gap_line,
    instrument_of,
    is_recorded,
    joined,
    last_time,
    market_of,
    parts,
    read_about,
    recorded_files,
    write_about,
)
from mmpi.venues.hyperliquid.messages import instrument_from_meta, instrument_from_spot_meta
from mmpi.venues.hyperliquid.session import HyperliquidSession

BTC = instrument_from_meta("BTC", 5)
RULES = market_of(BTC)
ABOUT = About("hyperliquid", "mainnet", "https://venue", "2026-11-28T12:00:00Z", "0.1.0", {"BTC": RULES})
MS = 10**6


@given(st.lists(st.integers(0, 2**62 // MS).map(lambda ms: ms * MS), min_size=2, max_size=2))
def test_names_sort_as_times_do(times: list[int]) -> None:
    """A later file's name comes later, and is a name that is looked for."""
    early, late = sorted(times)
    assert file_name(early) <= file_name(late)
    assert is_recorded(Path(file_name(early)))


def test_a_name() -> None:
    """A name is the time in UTC, to the millisecond."""
    assert file_name(1_795_870_793_801_355_351) == "hyperliquid_20261128T125953_801Z.jsonl.gz"


def test_files_of_a_folder(tmp_path: Path) -> None:
    """Only recorded files count, in the order of time, the unfinished one where it belongs."""
    names = [file_name(3 * MS) + ".part", file_name(2 * MS), file_name(MS), "hyperliquid_1.jsonl.gz", "recording.json"]
    for name in names:
        (tmp_path / name).touch()
    assert [path.name for path in recorded_files(tmp_path)] == names[2::-1]
    assert [path.name for path in parts(tmp_path)] == names[:1]


def test_a_folder_that_cannot_be_read(tmp_path: Path) -> None:
    """What is no folder is named."""
    with pytest.raises(ConfigError, match=r"none: cannot be read: No such file"):
        recorded_files(tmp_path / "none")


def test_about_is_read_as_it_was_written(tmp_path: Path) -> None:
    """What a folder says of itself survives, a second time too; without a word it says nothing."""
    assert read_about(tmp_path) is None
    for _ in range(2):
        write_about(tmp_path, ABOUT)
    assert read_about(tmp_path) == ABOUT
    assert [path.name for path in tmp_path.iterdir()] == ["recording.json"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"{", "not what a recording says of itself"),
        (b"\xff", "not what a recording says of itself"),
        (b'{"venue":"hyperliquid"}', "not what a recording says of itself .*network"),
        (msgspec.json.encode(msgspec.structs.replace(ABOUT, format=2)), "format 2; allowed: 1"),
    ],
)
def test_a_spoilt_about_is_named(tmp_path: Path, text: bytes, said: str) -> None:
    """Another format, a cut or foreign file: one error with the file's name."""
    (tmp_path / "recording.json").write_bytes(text)
    with pytest.raises(ConfigError, match=rf"recording\.json: {said}"):
        read_about(tmp_path)


def test_a_full_disk_leaves_the_old_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be written replaces nothing and leaves nothing behind."""
    write_about(tmp_path, ABOUT)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DeviceError, match=r"recording\.json: cannot be written: No space left on device"):
        write_about(tmp_path, msgspec.structs.replace(ABOUT, network="testnet"))
    assert read_about(tmp_path) == ABOUT
    assert [path.name for path in tmp_path.iterdir()] == ["recording.json"]


def test_a_folder_takes_more_coins(tmp_path: Path) -> None:
    """Further coins of the same venue join; the start stays the first one's."""
    eth = market_of(instrument_from_meta("ETH", 4))
    new = msgspec.structs.replace(ABOUT, started="2027-01-01T00:00:00Z", instruments={"ETH": eth})
    both = joined(ABOUT, new, tmp_path)
    assert both == msgspec.structs.replace(ABOUT, instruments={"BTC": RULES, "ETH": eth})
    assert joined(None, new, tmp_path) is new


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"url": "http://elsewhere"}, "holds a recording of mainnet at https://venue; this one is of mainnet at http://e"),
        ({"network": ""}, "holds a recording of mainnet at https://venue; this one is of https://venue"),
        (
            {"instruments": {"BTC": market_of(instrument_from_meta("BTC", 4))}},
            r"holds BTC by other rules \(tick 0\.1, lot 0\.00001\) than the venue now says \(tick 0\.01, lot 0\.0001\)",
        ),
    ],
)
def test_a_folder_is_one_market(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    """Another venue or other rules would make a set that nothing can read: another folder is asked for."""
    with pytest.raises(ConfigError, match=rf"--out .*: {said}.*: allowed: another folder"):
        joined(ABOUT, msgspec.structs.replace(ABOUT, **changes), tmp_path)


@pytest.mark.parametrize(
    "instrument",
    [BTC, instrument_from_meta("kPEPE", 0), instrument_from_spot_meta("PURR/USDC", 0, "PURR", "USDC")],
)
def test_rules_make_the_same_instrument_again(instrument: object) -> None:
    """A perpetual and a spot pair come out of recording.json as the live session has them."""
    assert isinstance(instrument, type(BTC))
    rules = msgspec.json.decode(msgspec.json.encode(market_of(instrument)), type=type(RULES))
    assert instrument_of(instrument.name, rules) == instrument


def test_another_grid_wins() -> None:
    """Tick and lot that are given replace the venue's; the other rules stay."""
    wanted = make_instrument("BTC", "1", "0.001", significant_figures=5, min_notional="10", base="BTC", quote="USDC")
    assert instrument_of("BTC", RULES, "1", "0.001") == wanted


@pytest.mark.parametrize(
    ("wanted", "found"),
    [("BTC", "BTC"), ("btc", "BTC"), ("kpepe", "kPEPE"), ("twin", None), ("TWIN", "TWIN"), ("x", None)],
)
def test_coins_are_found_whatever_their_case(wanted: str, found: str | None) -> None:
    """A coin is found as it is spelt, or by its letters where only one has them."""
    assert find_coin(wanted, ["BTC", "kPEPE", "TWIN", "Twin"]) == found


def test_the_latest_time_of_a_folder(tmp_path: Path) -> None:
    """Both what a name says and what the disk says count; a date that does not exist says nothing."""
    assert last_time(tmp_path) == 0
    named = tmp_path / file_name(5_000 * MS)
    named.touch()
    os.utime(named, ns=(0, 7_000 * MS))
    assert last_time(tmp_path) == 7_000 * MS
    os.utime(named, ns=(0, 0))
    assert last_time(tmp_path) == 5_000 * MS
    (tmp_path / "hyperliquid_20269999T999999_000Z.jsonl.gz").touch()
    os.utime(tmp_path / "hyperliquid_20269999T999999_000Z.jsonl.gz", ns=(0, 0))
    assert last_time(tmp_path) == 5_000 * MS


def test_a_gap_is_a_line_that_a_session_passes_over() -> None:
    """The mark has the form of the venue's messages and counts as of no interest; a long reason is cut."""
    stamp, _, frame = gap_line(7, Gap("closed " + "x" * 1000, 3, 5)).rstrip(b"\n").partition(b" ")
    assert stamp == b"7"
    told = msgspec.json.decode(frame)
    assert told == {"channel": recording.GAP, "data": {"why": "closed " + "x" * 193, "since": 3, "lost": 5}}
    session = HyperliquidSession({"BTC": (BTC, 0)}, "", None, cl_ord_prefix="0" * 8, expires_after_ms=2000)
    assert session.receive(frame, 7) == []
    assert (session.unreadable, session.ignored) == (0, 1)
