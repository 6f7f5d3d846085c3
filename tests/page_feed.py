"""Page feed: a box in one object for the page's tests: a market that moves, fills, and a guardian that obeys.

It makes real snapshots and real page states of them; only what is in the snapshots is made up. Its clock is its own, so
that a day can pass in a moment.
"""

import asyncio
import random
import socket
import time
from collections import Counter, deque
from typing import Any

import msgspec
from telemetry_builders import guardian, instrument, summary

from mmpi.errors import RemoteError
from mmpi.status import FillStatus, Latency, OrderCounts, OwnOrder, PnlStatus, RequestStatus, StorageStatus, Summary
from mmpi.telemetry.fills import Fills
from mmpi.telemetry.page_state import AlertState, History, lamp_state, page_state
from mmpi.telemetry.payloads import middle
from mmpi.telemetry.snapshot import Exposure, GuardianView, QuoterView, Snapshot

LIMIT = 10_000.0
STEP_S = 0.25


class Market:
    """One instrument: its mid in ticks, our position in lots, and what that earned."""

    def __init__(self, name: str, mid: float, tick: float, lot: float) -> None:
        self.name, self.mid, self.tick, self.lot = name, mid, tick, lot
        self.position = 0
        self.parts = dict.fromkeys(("spread", "inventory", "funding", "fees"), 0.0)

    def price(self, ticks: float) -> str:
        """Return a price as text."""
        return f"{round(ticks) * self.tick:.{max(0, len(f'{self.tick:g}'.partition('.')[2]))}f}"

    def size(self, lots: float) -> str:
        """Return a size as text."""
        return f"{lots * self.lot:.{len(f'{self.lot:g}'.partition('.')[2])}f}"

    def pnl(self) -> PnlStatus:
        """Return its profit and loss."""
        parts = {name: f"{value:.6f}" for name, value in self.parts.items()}
        total = sum(self.parts.values()) - 2 * self.parts["fees"]
        return PnlStatus(**parts, total=f"{total:.6f}")


class Feed:
    """The source of a page. `talk` is set while it has news; commands that came are in `asked`."""

    def __init__(self, *, panel: bool = False, past_s: float = 0.0, seed: int = 1) -> None:
        self.panel = panel
        self.asked: list[tuple[str, str]] = []
        self.counters: Counter[str] = Counter()
        self.talk = asyncio.Event()
        self.talk.set()
        self.hold = asyncio.Event()
        """Commands wait for it."""
        self.hold.set()
        self.fault: Exception | None = None
        """What the next calls raise."""
        self.alerts: list[AlertState] = []
        self.quoter_age, self.guardian_age = 0.1, 0.2
        self.sign, self.latch_reason = "practice", ""
        self.causes: list[str] = []
        self.last_stop: dict[str, Any] = {}
        self.run = time.time()
        self._random = random.Random(seed)
        self._markets = [Market("BTC", 671_230.0, 0.1, 0.001), Market("ETH", 353_412.0, 0.01, 0.01)]
        self._fills, self._told, self._count = Fills(), deque[FillStatus](maxlen=20), 0
        self._sequence = 0
        self._history = History()
        for now, moves in past(past_s):
            self._advance(now, moves)
        self._advance(time.monotonic())

    # Source -------------------------------------------------------------------------------------------------------

    def state(self) -> bytes:
        """Return the newest state."""
        self._fail()
        return self._state

    def history(self) -> bytes:
        """Return the past."""
        return self._history.encoded()

    async def wait(self) -> None:
        """Return a quarter of a second later, with news."""
        await asyncio.sleep(STEP_S)
        await self.talk.wait()
        self._advance(time.monotonic())

    async def command(self, name: str, reason: str) -> dict[str, Any]:
        """Obey."""
        self.asked.append((name, reason))
        await self.hold.wait()
        self._fail()
        if name in ("kill", "red_down"):
            self._latch(f"{name}: {reason}")
            return {"final": True, "verified": True, "reason": reason, **self.last_stop, "stored": True}
        if name == "pause":
            self.sign, self.causes = "paused", ["by_remote"]
            return {"final": True, "paused": True, "verified": True, "verified_ms": 231.4}
        if name == "resume":
            if self.latch_reason:
                raise RemoteError(f"latched, not paused: {self.latch_reason}; only arming ends that")
            self.sign, self.causes = "practice", []
            return {"final": True, "resumed": True, "held": ["by_remote"], "causes": []}
        if name == "arm_up":
            self.sign, self.latch_reason, self.causes = "practice", "", []
        return {"final": True}

    def metrics(self) -> tuple[bytes, str] | None:
        """Return a metric."""
        return b"mmpi_up 1\n", "text/plain; version=0.0.4; charset=utf-8"

    # What happens -------------------------------------------------------------------------------------------------

    def news(self) -> None:
        """Have a moment pass, without waiting for it."""
        self._advance(time.monotonic())

    def _fail(self) -> None:
        if self.fault is not None:
            raise self.fault

    def _latch(self, reason: str) -> None:
        if self.latch_reason:
            return
        self.sign, self.latch_reason, self.causes = "latched", reason, []
        self.last_stop = {"reason": reason, "first_zero_ms": 121.0, "verified_ms": 243.2 + len(self.asked)}

    def _advance(self, now: float, moves: int = 1) -> None:
        at = time.time() - (time.monotonic() - now)
        if not self.latch_reason and not self.causes:
            for market in self._markets * moves:
                self._move(market, at)
        told = self._summary()
        mids = {name: middle(each) for name, each in told.instruments.items()}
        self._fills.look(told, 1, mids, now, at)
        self._sequence += 1
        held = {name: float(each.position) * (mids[name] or 0) for name, each in told.instruments.items()}
        exposures = {name: Exposure(notional, abs(notional) / LIMIT) for name, notional in held.items()}
        snapshot = Snapshot(
            device="kitchen-shelf", version="0.1.0", sequence=self._sequence, at=at, monotonic=now, uptime_s=86_400.0,
            quoter=QuoterView(True, self.quoter_age, 4242, told), guardian=self._guardian(), exposures=exposures,
            fills=self._fills.all(), adverse_bps=self._fills.adverse_bps(now), last_fill_s=self._fills.last_s(now),
            counters=dict(self.counters), rss_mb=41.3,
        )  # fmt: skip
        self._history.add(snapshot)
        self.snapshot = snapshot
        lamps = lamp_state(snapshot)
        self._state = msgspec.json.encode(page_state(snapshot, self.run, self.alerts, lamps, panel=self.panel))

    def _move(self, market: Market, at: float) -> None:
        draw = self._random
        before = market.mid
        market.mid += draw.gauss(0, 4) - market.position * 0.02
        worth = market.tick * market.lot
        market.parts["inventory"] += market.position * (market.mid - before) * worth
        market.parts["funding"] -= market.position * market.mid * worth * 2e-9
        if draw.random() < 0.04:
            buy = draw.random() < 0.5 - market.position / 400
            lots = draw.randint(2, 12)
            market.position += lots if buy else -lots
            price = market.mid + (-9 if buy else 9)
            market.parts["spread"] += 9 * lots * worth
            market.parts["fees"] += price * lots * worth * 1e-6
            self._count += 1
            stamp = round(at * 1e9)
            self._told.append(FillStatus(
                f"f{self._count}", market.name, "buy" if buy else "sell", market.price(price), market.size(lots),
                "0.01", True, stamp, stamp,
            ))  # fmt: skip

    def _summary(self) -> Summary:
        instruments = {}
        quoting = not self.latch_reason and not self.causes
        for market in self._markets:
            mid, ten, twenty = market.mid, market.size(10), market.size(20)
            bids = [(market.price(mid - 4 - 3 * n), market.size(40 + 30 * n + n * n * 7 % 23)) for n in range(5)]
            asks = [(market.price(mid + 4 + 3 * n), market.size(35 + 33 * n + n * n * 11 % 19)) for n in range(5)]
            own = [
                OwnOrder("buy", bids[1][0], ten, "new"), OwnOrder("sell", asks[2][0], ten, "new"),
                OwnOrder("buy", market.price(mid - 34), twenty, "new"),
                OwnOrder("sell", market.price(mid + 37), twenty, "pending_new"),
            ]  # fmt: skip
            instruments[market.name] = instrument(
                bid=bids[0][0], ask=asks[0][0], position=market.size(market.position), orders=4 if quoting else 0,
                reason="", bids=bids, asks=asks, own=own if quoting else [], pnl=market.pnl(), feed_age_ms=140,
            )
        parts = {name: sum(market.parts[name] for market in self._markets) for name in self._markets[0].parts}
        total = sum(parts.values()) - 2 * parts["fees"]
        return summary(
            state="quoting" if quoting else "stopped", reason=self.latch_reason, instruments=instruments,
            events=self._sequence * 31, orders=OrderCounts(self._sequence * 2, self._sequence, 3, self._sequence // 3),
            fills=self._count, run_fills=self._count, last_fills=list(self._told),
            pnl=PnlStatus(**{name: f"{value:.6f}" for name, value in parts.items()}, total=f"{total:.6f}"),
            tick_to_order_us=Latency(231.0 + self._sequence % 9, 1_412.0, 1000), refusals={"post_only_would_cross": 12},
            requests=RequestStatus(4_321, 10_000, 4_002, 1, 14.2, 22.0, 0),
            storage=StorageStatus("", 80_000, 412, 2_000_000, 4.0, 31.0, 0.4, 0),
        )  # fmt: skip

    def _guardian(self) -> GuardianView | None:
        latched = bool(self.latch_reason)
        by = "the page (pid 812, uid 872, remote): tea"
        status = guardian(
            sign=self.sign, latch="latched" if latched else "armed", reason=self.latch_reason,
            cause="command" if latched else "", causes=self.causes, details=dict.fromkeys(self.causes, by),
            verified_zero=latched, last_stop=self.last_stop, live_orders=0 if latched or self.causes else 8,
        )  # fmt: skip
        host = status["box"]["host"]
        host.update(temperature_c=51.3, cpu_percent=23.0, throttled="UNAVAILABLE")
        host["unavailable"] = {"throttled": "no such sensor"}
        return GuardianView(self.guardian_age, status) if self.guardian_age <= 2.0 else None


def past(seconds: float) -> "list[tuple[float, int]]":
    """Return when something was seen and how often the market moved till then: in the last hour often, else rarely."""
    now = time.monotonic()
    coarse = [(now - age, 20) for age in range(round(seconds), 3600, -300)]
    return coarse + [(now - age, 3) for age in range(min(round(seconds), 3600), 0, -10)]


# A socket, by hand --------------------------------------------------------------------------------------------------

UPGRADE = {
    "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}  # fmt: skip


def upgrading(port: int) -> bytes:
    """Return a request for a socket, as bytes."""
    host = f"localhost:{port}"
    lines = [f"{name}: {value}" for name, value in {**UPGRADE, "Host": host, "Origin": f"http://{host}"}.items()]
    return "\r\n".join(["GET /live HTTP/1.1", *lines, "", ""]).encode()


async def stalled(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return a client that was upgraded, with small buffers, and reads no further."""
    small = socket.socket()
    small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    small.setblocking(False)
    await asyncio.get_running_loop().sock_connect(small, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=small, limit=1024)
    writer.write(upgrading(port))
    await reader.readuntil(b"\r\n\r\n")
    return reader, writer


async def frame(reader: asyncio.StreamReader) -> bytes:
    """Return what is in the next text frame."""
    while True:
        kind, size = await reader.readexactly(2)
        if size >= 126:
            size = int.from_bytes(await reader.readexactly(2 if size == 126 else 8), "big")
        text = await reader.readexactly(size)
        if kind == 0x81:
            return text
