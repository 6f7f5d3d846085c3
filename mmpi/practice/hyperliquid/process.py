"""The practice venue as a process: put together, started, and ended by a signal or by itself.

Invariant: whatever is wrong with the options is said before the port is open.
It must not know what the server does with requests.
"""

import asyncio
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Final

import msgspec

from mmpi.errors import ConfigError
from mmpi.events import MarketEvent
from mmpi.instrument import MILLISECOND, Instrument, Nanos
from mmpi.practice.hyperliquid.limits import WEIGHT
from mmpi.practice.hyperliquid.rules import DEFAULT, Rules
from mmpi.practice.hyperliquid.server import PracticeServer
from mmpi.practice.hyperliquid.spot import beside
from mmpi.practice.hyperliquid.streams import Hub
from mmpi.practice.hyperliquid.tls import server_context
from mmpi.practice.hyperliquid.venue import Venue
from mmpi.practice.keys import REGISTRY_FILE, Registry
from mmpi.sim.market import GENERATED, Market, MarketConfig

MAX_LATENCY_MS: Final = 10_000.0


class Shown(msgspec.Struct, frozen=True):
    """The market that the venue shows: its perpetuals, in the order of their asset numbers, and its events."""

    what: str
    instruments: Mapping[str, Instrument]
    events: Callable[[Nanos], Iterator[MarketEvent]]
    """From a time on."""
    seed: int = 0
    """Of the spot market, which is generated beside any other."""
    recorded: bool = False


class PracticeOptions(msgspec.Struct, frozen=True):
    """Everything that a practice venue can be told.

    With `secrets_dir` its agents.json alone says who exists. Without, the agents in `registry` (to which `make_keys`
    appends) act for their accounts, and unless it is strict every other address is an account of its own.
    """

    registry: Path
    port: int = 0
    host: str = "127.0.0.1"
    latency_ms: float = 0.0
    secrets_dir: Path | None = None
    strict: bool = False
    mainnet: bool = False
    rules: Rules = DEFAULT
    weight: int = WEIGHT
    faults: tuple[str, ...] = ()
    fault_seed: int = 0
    tls_dir: Path | None = None
    """Where its certificates are; None = no TLS."""
    seconds: float = 0.0
    """It ends by itself after this long; 0 = it does not."""


class Report(msgspec.Struct, frozen=True):
    """What was, once it has ended; the JSON of --json."""

    url: str
    ca_file: str
    market: str
    seconds: float
    requests: int
    """Questions and actions, over REST and WebSockets, refused ones not counted."""
    refused: int
    """For the limits of their address."""
    sockets: int
    dropped: int
    """Clients that were too slow."""
    placed: int
    fills: int
    open_orders: int
    fault_seed: int
    faults: list[dict[str, object]]


def generated(seed: int) -> Shown:
    """Return the generated market of a seed."""
    market = Market(tuple(GENERATED.values()), MarketConfig(seed=seed), Random(seed))
    return Shown(f"the generated market, seed {seed}", GENERATED, market.events, seed)


def run_practice(options: PracticeOptions, shown: Shown) -> Report:
    """Run a practice venue until SIGTERM, SIGINT or its time is over; ConfigError if it cannot be as it was told."""
    if not 0 <= options.latency_ms <= MAX_LATENCY_MS:
        raise ConfigError(f"--latency-ms {options.latency_ms:g} is not between 0 and {MAX_LATENCY_MS:g}")
    if not 0 <= options.port <= 65_535:
        raise ConfigError(f"--port {options.port} is not between 0 and 65535")
    if options.secrets_dir is None:
        agents = Registry(options.registry, strict=options.strict)
    else:
        agents = Registry(_existing(options.secrets_dir / REGISTRY_FILE), strict=True)
    return asyncio.run(_run(options, shown, agents))


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; make one with: mmpi practice keys --out {path.parent}")
    return path


async def _run(options: PracticeOptions, shown: Shown, registry: Registry) -> Report:
    start = time.time_ns()
    hub = Hub()
    first_id = start // MILLISECOND
    venue = Venue(
        shown.instruments, registry, hub, mainnet=options.mainnet, first_id=first_id, rules=options.rules
    )
    tls, ca_file = server_context(options.tls_dir) if options.tls_dir is not None else (None, None)
    server = PracticeServer(
        venue, hub, options.latency_ms,
        faults=options.faults, fault_seed=options.fault_seed, weight=options.weight, tls=tls,
    )  # fmt: skip
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    market = asyncio.create_task(server.play(beside(shown.events(start), shown.seed, start)))
    stopped = asyncio.create_task(stop.wait())
    await asyncio.sleep(0)
    tasks = {market, stopped}
    try:
        bound = await server.start(options.host, options.port)
        url = f"{'http' if tls is None else 'https'}://{options.host}:{bound}"
        _say(f"listening on {url} ({_how(options, ca_file)})")
        _say_more(options, shown)
        assert server.looking is not None
        tasks.add(server.looking)
        await asyncio.wait(tasks, timeout=options.seconds or None, return_when=asyncio.FIRST_COMPLETED)
        report = _report(server, venue, shown, url, ca_file, (time.time_ns() - start) / 1e9)
    finally:
        await server.close()
        for task in tasks:
            task.cancel()
    for task in tasks - {stopped}:
        # The market and the venue go on for ever; what ended before was an error.
        if task.done() and not task.cancelled():
            task.result()
    return report


def _how(options: PracticeOptions, ca_file: Path | None) -> str:
    """Return what a client has to know."""
    ca = "" if ca_file is None else f"CA file {ca_file}; "
    network = "mainnet" if options.mainnet else "testnet"
    return f"{ca}{network} signatures, latency {options.latency_ms:g} ms"


def _say_more(options: PracticeOptions, shown: Shown) -> None:
    if shown.recorded:
        _say(f"plays {shown.what}: {', '.join(shown.instruments)}, over and over")
    if options.faults:
        named = " ".join(options.faults)
        _say(f"has faults, seed {options.fault_seed}: {named} (/control/fault shows and changes them)")


def _report(
    server: PracticeServer, venue: Venue, shown: Shown, url: str, ca_file: Path | None, seconds: float
) -> Report:
    faults = server.faults()
    return Report(
        url=url,
        ca_file=str(ca_file or ""),
        market=shown.what,
        seconds=round(seconds, 3),
        requests=server.reception.requests,
        refused=server.reception.limits.refused,
        sockets=server.sockets,
        dropped=server.dropped,
        placed=len(venue.placed_log()),
        fills=len(venue.fill_log()),
        open_orders=len(venue.live_orders()),
        fault_seed=faults["seed"],
        faults=faults["faults"],
    )


def _say(text: str) -> None:
    print(f"practice hyperliquid {text}", file=sys.stderr, flush=True)
