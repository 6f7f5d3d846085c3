"""Composition roots: the only file that names concrete parts and knows the modes.

Invariant: live, practice, paper and replay differ in what is plugged in here and nowhere else.
It must not hold behaviour of its own beyond starting, stopping and exit codes.
"""

import asyncio
import random
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from mmpi.device.clock_sync import is_synchronised
from mmpi.device.identity import next_prefix
from mmpi.device.latch import Latch
from mmpi.engine import Engine
from mmpi.engines import checkpoint, engine_params, grid, venue_market
from mmpi.errors import DeviceError, RefusedError, RemoteError
from mmpi.instrument import BUY, Instrument, Lots
from mmpi.journal.record import CLEAN_STOP
from mmpi.journal.writer import JournalWriter
from mmpi.runtime import ipc
from mmpi.runtime.addresses import SHARED
from mmpi.runtime.board import HaltWord, StatusBoard, lock
from mmpi.runtime.clock_watch import ClockWatch
from mmpi.runtime.feeds import VenueFeed, play
from mmpi.runtime.gateway import PaperGateway, VenueGateway
from mmpi.runtime.intents import DurableIntents, must_be_durable
from mmpi.runtime.keeper import Keeper, KeeperSettings
from mmpi.runtime.keys import read_keys
from mmpi.runtime.loop import Loop, Outlet, SteadyClock
from mmpi.runtime.service import Systemd
from mmpi.runtime.showing import Showing
from mmpi.runtime.summary import summarise
from mmpi.runtime.venue_facts import VenueFacts, ask
from mmpi.session import Counted
from mmpi.settings import Settings
from mmpi.sim.exchange import Matching
from mmpi.sim.market import GENERATED, Market
from mmpi.sim.model import model_for
from mmpi.sim.venue import SimVenue
from mmpi.status import Summary
from mmpi.venues.hyperliquid.session import HyperliquidSession

STOP_S: Final = 4.5
"""Time for the venue to confirm, after a request to stop, that none of our orders is left."""
MAX_LISTED: Final = 20
"""Orders that the sentence about an unconfirmed stop names."""
FIRST_RETRY_S: Final = 1.0
LAST_RETRY_S: Final = 15.0
START_S: Final = 30.0
"""Asking the venue for its markets may take this long; systemd is told so before each try."""
LATCH_S: Final = 0.25
"""The guardian must answer a request to latch within this; otherwise the quoter stops itself."""
DISK_RETRY_S: Final = 5.0
T = TypeVar("T")
HOW_TO_ARM: Final = "to arm it again: mmpi arm"


class Outcome(msgspec.Struct, frozen=True):
    """How a quoter ended: its last summary, and why it did not stop cleanly ("" = it did)."""

    summary: Summary
    failure: str
    again: bool = False
    """It was told to begin anew, with the configuration of then (SIGUSR2)."""
    fault: bool = False
    """The venue will not let this account trade: the failure is a person's to mend."""


def run_quoter(settings: Settings, *, service: bool, seconds: float = 0.0) -> Outcome:
    """Quote until SIGTERM, SIGINT or `seconds` are over; RefusedError if latched (unless a service) or running."""
    stored = Latch(settings.paths.latch).load()
    if stored.latched and not service:
        raise RefusedError(f"latched: {stored.reason}; nothing is quoted; {HOW_TO_ARM}")
    guard = lock(settings.paths.quoter_lock)
    try:
        return asyncio.run(_Quoter(settings, service=service).run(seconds))
    finally:
        guard.close()


class _Quoter:
    """One run of the quoter process."""

    def __init__(self, settings: Settings, *, service: bool = False) -> None:
        self.settings = settings
        self.clock = SteadyClock()
        self.live = settings.venue.mode in ("practice", "live")
        SHARED.keep_in(settings.paths.addresses)
        self.halt = _halt_word(settings, required=self.live and settings.guardian.required)
        self.prefix = ""
        self.keeper: Keeper
        self.loop: Loop
        self.showing: Showing
        self.engine: Engine
        self.failure = ""
        self.again = False
        self.service = service
        self.systemd = Systemd()
        self._background: set[asyncio.Task[None]] = set()

    async def run(self, seconds: float) -> Outcome:
        """Build, quote, stop."""
        self.prefix = await self._from_disk(partial(next_prefix, Path(self.settings.paths.state_dir)))
        start = await (self._patiently() if self.settings.venue.name == "hyperliquid" else self._on_generated_market())
        journal, keeper = self._journal(), self.keeper
        await self._from_disk(partial(keeper.open, journal, start.counted))
        # Not before: who is on the board is asked to obey, and nobody could until the loop runs.
        board = StatusBoard.create(self.settings.paths.status)
        self.showing = Showing(self.engine, keeper, self._summary)
        self.loop = Loop(
            self.engine, journal, self._outlet(start.outlet), self.clock, self.halt, board, self._publish,
            self.systemd.progress, keeper,
        )  # fmt: skip
        feed = asyncio.create_task(start.feed(self.loop))
        self.systemd.ready()
        mode, name = self.settings.venue.mode, self.settings.venue.name
        print(f"mmpi run: {mode} on {name}: {', '.join(self.engine.desks)}", file=sys.stderr, flush=True)
        if not self.halt.waived and self.halt.beat_ns == 0:
            print("mmpi run: waiting for the guardian; start it with: mmpi guardian", file=sys.stderr)
        failed = ""
        try:
            await self._until_stopped(feed, seconds)
            failed = self.failure or self._fault()
            return Outcome(
                self._summary(), failed, self.again, bool(self.engine.standing.fault)
            )
        except BaseException as error:
            failed = repr(error)
            raise
        finally:
            if not self.again:
                self.systemd.stopping()
            feed.cancel()
            journal.close(f"failed: {failed}" if failed else CLEAN_STOP)
            if not await asyncio.to_thread(keeper.close, failed):
                print("mmpi run: the disk did not take the ledger's end", file=sys.stderr)

    async def _until_stopped(self, feed: "asyncio.Task[None]", seconds: float) -> None:
        """Run the loop until the engine says that it has stopped; a request to stop gets STOP_S."""
        asked = asyncio.Event()
        running = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            running.add_signal_handler(number, asked.set)
        running.add_signal_handler(signal.SIGUSR2, self._begin_anew, asked)
        ticking = asyncio.create_task(self.loop.run())
        waiting = asyncio.create_task(asked.wait())
        try:
            await asyncio.wait(
                {ticking, waiting, feed}, timeout=seconds or None, return_when=asyncio.FIRST_COMPLETED
            )
            _raise_from(ticking, feed)
            self.loop.stop("asked to stop")
            await asyncio.wait({ticking}, timeout=STOP_S)
            _raise_from(ticking)
            if not self.engine.stopped:
                self.failure = self.failure or what_is_left(self.engine)
        finally:
            ticking.cancel()
            waiting.cancel()

    def _begin_anew(self, asked: asyncio.Event) -> None:
        self.again = True
        asked.set()

    async def _from_disk(self, work: Callable[[], T]) -> T:
        """Return what some work on the disk returns; a service whose disk does not take it goes on trying."""
        while True:
            try:
                return await asyncio.to_thread(work)
            except DeviceError as error:
                if not self.service:
                    raise
                self.systemd.status(f"waiting for the disk: {error}")
            self.systemd.extend(LAST_RETRY_S + START_S)
            await asyncio.sleep(DISK_RETRY_S)

    def _outlet(self, outlet: Outlet) -> Outlet:
        """Return the gateway, behind the disk where intents must be durable."""
        if not must_be_durable(self.settings.journal.intent_durability, self.settings.venue.name):
            return outlet
        self.keeper.intents = DurableIntents(outlet, self.keeper.ledger, self.clock.now)
        return self.keeper.intents

    async def _keep(self, instruments: dict[str, Instrument], account: str) -> dict[str, Lots]:
        """Build the engine, with what an earlier run of this account left; return the positions it begins with."""
        venue = self.settings.venue
        scope = " ".join(filter(None, (venue.name, venue.network if venue.url else "", venue.mode, account)))
        text = msgspec.json.encode(self.settings)
        about = KeeperSettings(self.settings.paths, self.settings.journal, self.settings.risk.max_drawdown)
        self.keeper = await self._from_disk(partial(Keeper, about, self.prefix, scope, self.settings.digest, text))
        self.engine = Engine(engine_params(self.settings, instruments, self.prefix, at_venue=self.live))
        return self.keeper.take_up(self.engine)

    async def _patiently(self) -> "_Start":
        """Return the start at a venue; a service whose network is not up yet goes on trying, and says so."""
        delay = FIRST_RETRY_S
        while True:
            try:
                return await self._at_venue()
            except RemoteError as error:
                if not self.service:
                    raise
                self.systemd.status(f"waiting for the venue: {error}")
            self.systemd.extend(delay + START_S)
            await asyncio.sleep(delay)
            delay = min(2 * delay, LAST_RETRY_S)

    async def _at_venue(self) -> "_Start":
        """Hyperliquid: market data and, unless on paper, orders on one WebSocket."""
        venue = self.settings.venue
        url = venue.websocket_url()
        keys = read_keys(Path(self.settings.paths.secrets_dir), venue) if self.live else None
        facts = await ask(url, keys.signer.address if keys else "", ca_file=venue.ca_file)
        if keys is not None:
            facts.check_agent(keys.signer.address, keys.account, keys.file)
        markets = {each.name: venue_market(each, facts) for each in self.settings.instruments}
        account, signer = (venue.vault.lower() or keys.account, keys.signer) if keys else ("", None)
        held = await self._keep({name: market[0] for name, market in markets.items()}, account)
        session = HyperliquidSession(
            markets, account, signer, self.prefix, venue.expires_after_ms, vault=venue.vault.lower(), adopt=venue.adopt,
            counted=self.keeper.counted, fresh=frozenset(markets) - self.keeper.known,
        )  # fmt: skip
        if keys is not None:
            watch = self._clock_watch(facts)
            feed = VenueFeed(url, session, self.clock, watch, venue.ca_file)
            outlet = VenueGateway(session, feed.link, self.halt, self._latch)
            return _Start(outlet, lambda loop: feed.run(loop, None), lambda: session.counted)
        feed = VenueFeed(url, session, self.clock, ca_file=venue.ca_file)
        sim = self._sim(held)
        return _Start(PaperGateway(sim, self.halt, self._latch), lambda loop: feed.run(loop, sim))

    def _clock_watch(self, facts: VenueFacts) -> ClockWatch:
        """Return the watch on the venue's time; RefusedError, by hand, if the clock is not to be trusted (I8).

        A service starts all the same: it places nothing, and goes on by itself once the clock is right.
        """
        clock, must = self.settings.clock, self.settings.clock.require_sync and self.settings.venue.mode == "live"
        watch = ClockWatch(clock.max_offset_ms, time.time_ns, is_synchronised if must else None)
        if facts.clock is not None:
            watch.seed(facts.clock.offset, self.clock.now())
        fault = watch.fault(self.clock.now())
        if fault and not self.service:
            advice = "set the time (chrony, timedatectl), then start again"
            raise RefusedError(f"clock: {fault}; nothing is quoted; {advice}")
        return watch

    async def _on_generated_market(self) -> "_Start":
        """The built-in market in front of the simulated exchange."""
        grids = {each.name: grid(each, GENERATED[each.name]) for each in self.settings.instruments}
        sim = self._sim(await self._keep(grids, ""))
        config = self.settings.market
        market = Market([desk.instrument for desk in self.engine.desks.values()], config, random.Random(config.seed))
        outlet = PaperGateway(sim, self.halt, self._latch)
        return _Start(outlet, lambda loop: play(market.events(loop.now()), sim, loop))

    def _sim(self, held: dict[str, Lots]) -> SimVenue:
        instruments = {name: desk.instrument for name, desk in self.engine.desks.items()}
        sim = model_for(self.settings.sim, by_order=False)
        # Fills of an earlier run are known by their numbers.
        first_id = 1 + (int(self.prefix[-8:], 16) << 32)
        return SimVenue(Matching(instruments, sim, first_id, held=held), sim, random.Random(sim.seed))

    def _journal(self) -> JournalWriter:
        sizes = self.settings.journal
        return JournalWriter(
            self.settings.paths.journal,
            segment_bytes=sizes.segment_bytes,
            max_bytes=sizes.max_bytes,
            checkpoint=lambda: checkpoint(self.engine, self.settings.digest),
            on_closed=self.keeper.cold,
        )

    def _publish(self) -> bytes:
        self.systemd.status(self.engine.blocked or "quoting")
        return self.showing.text(self.loop.now())

    def _summary(self) -> Summary:
        return summarise(
            self.engine,
            mode=self.settings.venue.mode,
            venue=self.settings.venue.name,
            latency=self.loop.latency(),
            now=self.loop.now(),
            latch="latched" if self.engine.standing.latched else "armed",
            start=self.keeper.start,
            storage=self.keeper.status(),
            tick_to_order=self.loop.tick_to_order.histogram(),
            loop_lateness=self.loop.lateness.histogram(),
            run_fills=self.keeper.fills,
            last_fills=self.keeper.last_fills,
        )

    def _latch(self, reason: str) -> None:
        """A limit was touched: have it latched; the engine itself already pulls everything."""
        task = asyncio.create_task(self._have_latched(reason))
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _have_latched(self, reason: str) -> None:
        silence = ""
        if not self.halt.waived:
            try:
                async for _ in ipc.call(
                    self.settings.paths.control, {"cmd": "latch", "by": "quoter", "reason": reason}, LATCH_S
                ):
                    if not self.engine.standing.fault or self.service:
                        return
                    break
            except RemoteError as error:
                silence = f"; the guardian was asked to latch and did not: {error}"
        if self.engine.standing.fault:
            # By hand there is nothing to wait for: only a person can mend what the venue refuses.
            self.failure = self.failure or self._fault() + silence
            self.loop.stop(f"venue: {self.engine.standing.fault}")
            return
        # No guardian: latch by our own hand, and end.
        self.failure = f"limit touched: {reason}{silence}"
        try:
            await asyncio.to_thread(Latch(self.settings.paths.latch).trip, "quoter", reason, self.clock.now())
        except DeviceError as error:
            self.failure += f"; it is not latched: {error}"
        self.loop.stop(reason)

    def _fault(self) -> str:
        """Return the sentence about what the venue refuses, "" = nothing."""
        venue, fault = self.settings.venue, self.engine.standing.fault
        vault = f"venue.vault ({venue.vault}), " if venue.vault else ""
        return fault and (
            f"the venue refuses what we sign: {fault.rstrip('.')}. Check {vault}that quoter.key in "
            f"{self.settings.paths.secrets_dir} is an approved agent's, and venue.network ({venue.network}): "
            "a signature for one network is worthless on the other"
        )


def _raise_from(*tasks: "asyncio.Task[None]") -> None:
    """Raise what ended any of these tasks."""
    for task in tasks:
        if task.done() and not task.cancelled():
            task.result()


class _Start(msgspec.Struct, frozen=True):
    """What a mode plugs into the loop."""

    outlet: Outlet
    feed: Callable[[Loop], Coroutine[Any, Any, None]]
    counted: Callable[[], Counted] | None = None


def _halt_word(settings: Settings, *, required: bool) -> HaltWord:
    """Return the halt word; waived on paper until a guardian is alive (paper money needs no guard)."""
    word = HaltWord.open(settings.paths.halt)
    word.waived = not required and not word.is_guarded(time.monotonic_ns())
    return word


def what_is_left(engine: Engine) -> str:
    """Return the sentence about a stop that the venue did not confirm: which orders may still be live."""
    orders = [
        f"{name} {'buy' if order.side == BUY else 'sell'} {desk.instrument.size_text(order.leaves)} at "
        f"{desk.instrument.price_text(order.price)} ({order.cl_ord_id}, {order.status.value})"
        for name, desk in engine.desks.items()
        for order in desk.orders.live.values()
    ]
    left = "; ".join(orders[:MAX_LISTED])
    if len(orders) > MAX_LISTED:
        left += f"; and {len(orders) - MAX_LISTED} more"
    return (
        f"the venue did not confirm within {STOP_S:g} s that no order of ours is live; we know of "
        f"{len(orders)}{': ' if orders else ''}{left}"
    )
