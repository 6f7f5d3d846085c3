"""mmpi record: capture a venue's public streams into files that `mmpi backtest` reads; it needs no key.

Invariant: however it ends, the files are whole or can be made so, and the exit code says whether it ended as asked.
"""

import argparse
import asyncio
import signal
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import BinaryIO, Final
from urllib.parse import urlsplit

import msgspec

from mmpi.commands.record_words import Progress, Report, in_words
from mmpi.errors import ConfigError, DeviceError, RefusedError, RemoteError
from mmpi.instrument import SECOND, Nanos
from mmpi.runtime import recording
from mmpi.runtime.board import lock
from mmpi.runtime.capture import MAX_COINS, Capture, ReceiveClock
from mmpi.runtime.gzip_part import mend
from mmpi.runtime.recording import About, Market, find_coin, market_of, utc
from mmpi.runtime.rotation import Limits, RotatingFiles
from mmpi.runtime.service import say
from mmpi.runtime.spool import Spool
from mmpi.runtime.venue_facts import VenueFacts, ask, clock_fault
from mmpi.sections import VenueSettings

MAINNET: Final = "mainnet"
NETWORKS: Final = {MAINNET: "https://api.hyperliquid.xyz", "testnet": "https://api.hyperliquid-testnet.xyz"}
"""Source: the venue's own Python SDK, `utils/constants.py`."""
CLOCK: Final = "%Y-%m-%d %H:%M:%S"
LOCK: Final = ".recorder.lock"
MAX_OFFSET_MS: Final = 1000.0
"""Farthest from the venue's time that nothing is said of it: what a quoter is allowed by default."""
FULL: Final = "--max-gb is reached"
BROKEN: Final = "broken"


def run(args: argparse.Namespace) -> int:
    """Return 0 once it was asked to end, or --seconds or --max-gb are reached."""
    wanted = coin_names(args.coins)
    url = base_url(args.url, args.network)
    if args.ca_file and not url.startswith("https:"):
        raise ConfigError(f"--ca-file {args.ca_file}: allowed only with an https:// address, not {url}")
    folder: Path = args.out
    clock = ReceiveClock()
    guard = _folder(folder)
    try:
        mended = _mend(folder, clock.now())
        files = RotatingFiles(folder, limits(args))
        report = asyncio.run(_Recorder(args, url, clock, files, mended).run(wanted))
    finally:
        guard.close()
    if args.json:
        print(msgspec.json.encode(report).decode(), flush=True)
    else:
        print(in_words(report))
    return 0


def coin_names(text: str) -> list[str]:
    """Return the coins of a list with commas, each once; ConfigError for none or too many."""
    coins = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not coins:
        raise ConfigError(f"--coins {text!r}: no coin; allowed: names with commas between them, such as BTC,ETH")
    if len(coins) > MAX_COINS:
        raise ConfigError(f"--coins: {len(coins)} coins; allowed: at most {MAX_COINS}, the venue's 1000 subscriptions")
    return coins


def base_url(url: str, network: str) -> str:
    """Return the venue's address, the network's own where none is given; ConfigError if it is none."""
    if not url:
        return NETWORKS[network or MAINNET]
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and not parts.username
    except ValueError:
        sound = False
    if not sound or parts.netloc.endswith(":") or url.rstrip("/") != f"{parts.scheme}://{parts.netloc}":
        raise ConfigError(f"--url {url!r}: not an address; allowed: http(s)://host[:port], such as {NETWORKS[MAINNET]}")
    return url.rstrip("/")


def limits(args: argparse.Namespace) -> Limits:
    """Return what the command line says of files' sizes; ConfigError for --prune without a size to keep to."""
    if args.prune and not args.max_gb:
        raise ConfigError("--prune: allowed only with --max-gb, the size that the folder is to keep to")
    return Limits(
        file_bytes=max(1, round(args.rotate_mb * 1e6)),
        file_age=max(1, round(args.rotate_minutes * 60 * SECOND)),
        max_bytes=max(1, round(args.max_gb * 1e9)) if args.max_gb else 0,
        prune=args.prune,
    )


def chosen(facts: VenueFacts, wanted: Sequence[str]) -> dict[str, Market]:
    """Return the coins' rules, by the venue's spelling; ConfigError names a coin that it has not, and some it has."""
    known = [asset.name for asset in facts.meta.universe if not asset.is_delisted]
    known += [pair.name for pair in facts.spot.universe] if facts.spot is not None else []
    markets: dict[str, Market] = {}
    for name in wanted:
        try:
            instrument, _ = facts.instrument(find_coin(name, known) or name)
        except ConfigError as error:
            raise ConfigError(f"--coins {str(error).removeprefix('instruments.')}") from None
        markets[instrument.name] = market_of(instrument)
    return markets


def _folder(folder: Path) -> BinaryIO:
    """Make the folder and lock it; ConfigError if it cannot be one, RefusedError if another recorder is at work."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {folder}: no folder can be here: {error.strerror}") from None
    return lock(folder / LOCK, f"recorder into {folder}")


def _mend(folder: Path, now: Nanos) -> int:
    """Return how many unfinished files there were; RefusedError if the clock says that they are not written yet."""
    last = recording.last_time(folder)
    if last > now:
        raise RefusedError(
            f"the clock says {utc(now):{CLOCK}} UTC, but {folder} has files up to {utc(last):{CLOCK}}: set the clock, "
            "or record into another folder"
        )
    parts = recording.parts(folder)
    for part in parts:
        done = mend(part)
        what = f"{done.path.name}, {done.cut} bytes behind its last flush cut off"
        if not done.readable:
            what = f"no whole line in it; put aside as {done.path.name}"
        say(f"mmpi record: mended {part.name}: {what}")
    return len(parts)


class _Recorder:
    """One run."""

    def __init__(
        self, args: argparse.Namespace, url: str, clock: ReceiveClock, files: RotatingFiles, mended: int
    ) -> None:
        self._args, self._clock, self._files, self._mended = args, clock, files, mended
        self._url = url
        self._address = VenueSettings(url=url).websocket_url()
        try:
            self._capture = Capture(self._address, self._say, clock, args.ca_file)
        except ConfigError as error:
            raise ConfigError(f"--ca-file {error}") from None
        self._progress = Progress() if sys.stderr.isatty() and not args.json else None
        self._spool: Spool | None = None

    async def run(self, wanted: Sequence[str]) -> Report:
        """Record until told to end; DeviceError if the disk does not take it, RemoteError without a first answer."""
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        asking = asyncio.create_task(ask(self._address, ca_file=self._args.ca_file, clock=self._clock.now))
        try:
            facts = await _unless(stop, asking)
        except RemoteError as error:
            if "CERTIFICATE_VERIFY_FAILED" not in str(error):
                raise
            raise RemoteError(f"{error}; set --ca-file to its authority's certificate") from None
        if facts is None:
            return self._report([], 0.0, "asked to stop")
        markets = chosen(facts, wanted)
        if facts.clock is not None and (fault := clock_fault(facts.clock, MAX_OFFSET_MS)):
            self._say(f"receive times will be wrong: {fault}")
        self._write_about(markets)
        started = time.monotonic()
        self._spool = Spool(self._files)
        try:
            ended = await self._capture.record(list(markets), self._spool, stop, self._args.seconds, self._look)
        finally:
            await self._close(self._spool)
        return self._report(list(markets), time.monotonic() - started, ended)

    def _write_about(self, markets: dict[str, Market]) -> None:
        network = self._args.network or ("" if self._args.url else MAINNET)
        started = f"{utc(self._clock.now()):%Y-%m-%dT%H:%M:%SZ}"
        about = About(recording.VENUE, network, self._url, started, version("mmpi"), markets)
        folder: Path = self._args.out
        earlier = recording.read_about(folder)
        whole = recording.joined(earlier, about, folder)
        if whole != earlier:
            recording.write_about(folder, whole)

    def _look(self) -> str:
        """Return why to end, "" for no reason; show how it goes."""
        assert self._spool is not None
        if self._progress is not None:
            spool, files = self._spool, self._files
            self._progress(spool.accepted, files.files, files.bytes, self._gaps(), spool.dropped)
        if self._spool.failure is not None:
            return BROKEN
        return FULL if self._files.is_full else ""

    async def _close(self, spool: Spool) -> None:
        """Have the last lines written, on the thread's time."""
        if self._progress is not None:
            self._progress.clear()
        try:
            await asyncio.to_thread(spool.close)
        except DeviceError as error:
            safe = "what was recorded before is safe: the next start makes its file whole"
            raise DeviceError(f"{error}; {safe}") from None

    def _gaps(self) -> int:
        return self._capture.gaps + (self._spool.overflows if self._spool else 0)

    def _report(self, coins: list[str], seconds: float, ended: str) -> Report:
        dropped = self._spool.dropped if self._spool else 0
        return Report(
            files=self._files.files,
            messages=self._files.messages,
            bytes=self._files.bytes,
            gaps=self._gaps(),
            coins=coins,
            seconds=round(seconds, 3),
            dropped=dropped,
            pruned=self._files.pruned,
            mended=self._mended,
            ended=ended,
            dir=str(self._args.out),
        )

    def _say(self, text: str) -> None:
        if self._progress is not None:
            self._progress.clear()
        say(f"mmpi record: {text}")


async def _unless(stop: asyncio.Event, asking: "asyncio.Task[VenueFacts]") -> VenueFacts | None:
    """Return the answer, None if it was asked to stop first."""
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({asking, stopping}, return_when=asyncio.FIRST_COMPLETED)
        return None if stopping.done() else asking.result()
    finally:
        for task in (asking, stopping):
            task.cancel()
