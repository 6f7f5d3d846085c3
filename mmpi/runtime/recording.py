"""Recording: a folder of captured market data: the names of its files, what it says of itself, the mark of a gap.

Invariant: the files of a folder, in the order of their names, are one market in the order of time; what the folder says
of itself was asked of the venue before the first message. It must not know connections, threads or compression.

A file is lines of `<receive time in ns> <message>`, gzip. While it is written its name ends in .part. A gap is a line
whose message has the channel `mmpi.gap`: every reader of the venue's messages passes over a channel it does not know.
"""

import os
import re
from collections.abc import Collection
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from mmpi.device.durable import sync_folder
from mmpi.errors import ConfigError, DeviceError
from mmpi.instrument import MILLISECOND, SECOND, Instrument, Nanos, make_instrument, money_text

VENUE: Final = "hyperliquid"
SUFFIX: Final = ".jsonl.gz"
PART: Final = ".part"
ABOUT: Final = "recording.json"
FORMAT: Final = 1
GAP: Final = "mmpi.gap"
MAX_WHY: Final = 200
"""Characters of a gap's reason that are kept."""
_NAME: Final = re.compile(rf"{VENUE}_\d{{8}}T\d{{6}}_\d{{3}}Z{re.escape(SUFFIX)}({re.escape(PART)})?")


class Market(msgspec.Struct, frozen=True):
    """One coin's rules, as the venue told them before the first message."""

    sz_decimals: int
    tick_size: str
    lot_size: str
    significant_figures: int
    min_notional: str
    base: str
    quote: str


def market_of(instrument: Instrument) -> Market:
    """Return the rules of a venue's instrument; its lot is 1e-szDecimals."""
    return Market(
        sz_decimals=instrument.lot_exponent,
        tick_size=instrument.tick_size,
        lot_size=instrument.lot_size,
        significant_figures=instrument.significant_figures,
        min_notional=money_text(instrument.min_notional),
        base=instrument.base,
        quote=instrument.quote,
    )


def instrument_of(coin: str, market: Market, tick: str = "", lot: str = "") -> Instrument:
    """Return the instrument again, on another grid where one is given; ConfigError if the rules cannot be."""
    return make_instrument(
        coin,
        tick or market.tick_size,
        lot or market.lot_size,
        significant_figures=market.significant_figures,
        min_notional=market.min_notional,
        base=market.base,
        quote=market.quote,
    )


class About(msgspec.Struct, frozen=True):
    """What recording.json says: where the messages are from, since when, and the rules of their coins."""

    venue: str
    network: str
    """mainnet, testnet, or "" where only the address is known."""
    url: str
    started: str
    mmpi: str
    """The version that recorded first."""
    instruments: dict[str, Market]
    format: int = FORMAT


class Gap(msgspec.Struct, frozen=True):
    """Why messages are missing before this line: since when (0 = unknown), and how many if that is known."""

    why: str
    since: Nanos = 0
    lost: int = 0


class _GapMessage(msgspec.Struct, frozen=True, tag=GAP, tag_field="channel"):
    data: Gap


def file_name(first: Nanos) -> str:
    """Return the name of the file whose first line was received then; names sort as times do."""
    return f"{VENUE}_{utc(first):%Y%m%dT%H%M%S}_{first // MILLISECOND % 1000:03d}Z{SUFFIX}"


def utc(time: Nanos) -> datetime:
    """Return a time as a date, in whole seconds."""
    return datetime.fromtimestamp(time // SECOND, UTC)


def gap_line(now: Nanos, gap: Gap) -> bytes:
    """Return the line that marks a gap that ends now."""
    short = msgspec.structs.replace(gap, why=gap.why[:MAX_WHY])
    return b"%d %b\n" % (now, msgspec.json.encode(_GapMessage(short)))


def is_recorded(path: Path) -> bool:
    """Return whether a file has the name of a recorded one, whole or still being written."""
    return _NAME.fullmatch(path.name) is not None


def recorded_files(folder: Path) -> list[Path]:
    """Return the recorded files of a folder in the order of time, the one being written too; ConfigError if unread."""
    try:
        return sorted(path for path in folder.iterdir() if is_recorded(path))
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be read: {error.strerror}") from None


def parts(folder: Path) -> list[Path]:
    """Return the files that are being written, or were when their recorder was killed."""
    return [path for path in recorded_files(folder) if path.name.endswith(PART)]


def read_about(folder: Path) -> About | None:
    """Return what the folder says of itself, None if it says nothing; ConfigError if that cannot be read."""
    path = folder / ABOUT
    try:
        about = msgspec.json.decode(path.read_bytes(), type=About)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not what a recording says of itself ({error})") from None
    if about.format != FORMAT:
        raise ConfigError(f"{path}: format {about.format}; allowed: {FORMAT}")
    return about


def joined(earlier: About | None, new: About, folder: Path) -> About:
    """Return what the folder says once `new` is recorded into it too; ConfigError if it cannot be one market."""
    if earlier is None:
        return new
    if (earlier.venue, earlier.url, earlier.network) != (new.venue, new.url, new.network):
        raise ConfigError(
            f"--out {folder}: holds a recording of {_place(earlier)}; this one is of {_place(new)}: "
            "allowed: another folder"
        )
    for coin, market in new.instruments.items():
        if earlier.instruments.get(coin, market) != market:
            raise ConfigError(
                f"--out {folder}: holds {coin} by other rules ({_rules(earlier.instruments[coin])}) than the venue now "
                f"says ({_rules(market)}): allowed: another folder"
            )
    return msgspec.structs.replace(earlier, instruments={**earlier.instruments, **new.instruments})


def write_about(folder: Path, about: About) -> None:
    """Write recording.json, whole or not at all; DeviceError if the disk does not take it."""
    path = folder / ABOUT
    fresh = path.with_name(f".{ABOUT}.new")
    try:
        with fresh.open("wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(about), indent=2) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        sync_folder(folder)
    except OSError as error:
        with suppress(OSError):
            fresh.unlink()
        raise DeviceError(f"{path}: cannot be written: {error.strerror}") from None


def last_time(folder: Path) -> Nanos:
    """Return the latest time that a recorded file's name or the disk tells of it, 0 without files."""
    return max((max(_named_time(path), path.stat().st_mtime_ns) for path in recorded_files(folder)), default=0)


def find_coin(wanted: str, known: Collection[str]) -> str | None:
    """Return a coin as it is spelt there: the very name, or the only one that differs in case alone."""
    if wanted in known:
        return wanted
    alike = [name for name in known if name.upper() == wanted.upper()]
    return alike[0] if len(alike) == 1 else None


def _named_time(path: Path) -> Nanos:
    stamp = path.name.removeprefix(f"{VENUE}_").partition("Z")[0]
    whole, _, millis = stamp.partition("_")
    try:
        seconds = datetime.strptime(whole, "%Y%m%dT%H%M%S").replace(tzinfo=UTC).timestamp()
    except ValueError:
        # Somebody's file that looks like ours; there is no 99th of any month.
        return 0
    return int(seconds) * SECOND + int(millis) * MILLISECOND


def _place(about: About) -> str:
    return f"{about.network} at {about.url}" if about.network else about.url


def _rules(market: Market) -> str:
    return f"tick {market.tick_size}, lot {market.lot_size}"
