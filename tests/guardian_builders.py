"""Builders for the guardian's tests: a venue in memory, a quoter's board played by hand, and short waits."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from runtime_builders import board_of, until

from mmpi import guardian as guardian_module
from mmpi.control import Control
from mmpi.device.latch import Latch
from mmpi.errors import ConfigError, RemoteError
from mmpi.events import OpenOrder
from mmpi.guardian import Guardian
from mmpi.instrument import MILLISECOND
from mmpi.runtime import watch as watch_module
from mmpi.runtime import zero as zero_module
from mmpi.runtime.board import RUN, HaltWord, StatusBoard
from mmpi.runtime.peers import Peer
from mmpi.runtime.watch import QuoterWatch
from mmpi.sections import GuardianSettings

EXPIRY = 30 * MILLISECOND
HANDS, REMOTE = Peer(42, 0, hands=True), Peer(43, 990, hands=False)
SETTINGS = GuardianSettings(heartbeat_timeout_s=0.15, ack_timeout_s=0.08)


class FakeHand:
    """A venue in memory: orders that a test puts there, cancels that work, and a line that can be cut."""

    def __init__(self) -> None:
        self.ready = True
        self.alone = False
        self.news = asyncio.Event()
        self.orders: dict[str, OpenOrder] = {}
        self.unseen: set[str] = set()
        """Orders that the stream has not told of."""
        self.deaf = False
        self.asked = 0
        self.cancelled: list[str] = []
        self.breaks: list[Exception] = []
        self.sessions = 0

    @property
    def live(self) -> dict[str, OpenOrder]:
        """Return what the stream told."""
        return {key: order for key, order in self.orders.items() if key not in self.unseen}

    def place(self, *ids: str, unseen: bool = False) -> None:
        """Bring orders alive."""
        for each in ids:
            self.orders[each] = OpenOrder("BTC", f"0x{each}", each, 1, 0, 0)
            if unseen:
                self.unseen.add(each)
        self.news.set()

    async def maintain(self) -> None:
        """Do nothing for ever, or break."""
        self.sessions += 1
        if self.breaks:
            raise self.breaks.pop(0)
        await asyncio.Event().wait()

    async def live_orders(self) -> Sequence[OpenOrder]:
        """Return every order."""
        self.asked += 1
        await asyncio.sleep(0)
        if self.deaf:
            raise RemoteError("no answer")
        return list(self.orders.values())

    async def cancel(self, orders: Sequence[OpenOrder]) -> None:
        """End these orders."""
        await asyncio.sleep(0)
        if self.deaf:
            raise RemoteError("no answer")
        for order in orders:
            self.cancelled.append(order.order_id)
            self.orders.pop(order.order_id, None)


class Box:
    """A guardian in a folder, and a quoter's board to be played by hand."""

    def __init__(
        self,
        folder: Path,
        hand: FakeHand | None,
        *,
        armed: bool,
        latch: Latch | None = None,
        settings: GuardianSettings = SETTINGS,
        has_button: bool = False,
        **more: Any,
    ) -> None:
        self.folder, self.hand = folder, hand
        self.latch = latch or Latch(folder / "latch.json")
        if armed:
            self.latch.arm("test", "test", 1)
        self.halt = HaltWord.create(folder / "halt")
        self.board: StatusBoard | None = None
        self.answers: list[dict[str, Any]] = []
        self.guardian = Guardian(settings, self.latch, self.halt, QuoterWatch(folder / "status"), hand, **more)
        self.control = Control(self.guardian, has_button=has_button)
        self.task: asyncio.Task[None]

    async def say(self, answer: dict[str, Any]) -> None:
        """Keep an answer."""
        self.answers.append(answer)

    async def command(self, name: str, peer: Peer = HANDS, **more: Any) -> dict[str, Any]:
        """Return the final answer to a command."""
        answers: list[dict[str, Any]] = []

        async def keep(answer: dict[str, Any]) -> None:
            answers.append(answer)

        async with asyncio.timeout(3):
            await self.control.command({"cmd": name, "by": "tester", **more}, peer, keep)
        return answers[-1]

    @asynccontextmanager
    async def quoter(self, pid: int) -> AsyncIterator[list[bool]]:
        """Play a quoter that beats and obeys, with the process `pid`; put True into the list to freeze it."""
        frozen: list[bool] = []
        self.board = board = board_of(self.folder / "status", pid)

        async def obey() -> None:
            while True:
                if not frozen:
                    board.beat(time.monotonic_ns())
                    board.acknowledge(self.halt.generation)
                await asyncio.sleep(0.002)

        task = asyncio.create_task(obey())
        try:
            yield frozen
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


@asynccontextmanager
async def guarding(
    folder: Path,
    hand: FakeHand | None = None,
    *,
    armed: bool = True,
    paper: bool = False,
    start_latched: str = "",
    wait: bool = True,
    **more: Any,
) -> AsyncIterator[Box]:
    """Run a guardian meanwhile; an armed one from when it lets the quoter run."""
    box = Box(folder, None if paper else hand or FakeHand(), armed=armed, **more)
    box.task = asyncio.create_task(box.guardian.run(start_latched))
    try:
        if armed and wait and not start_latched:
            await until(lambda: box.halt.state == RUN or box.task.done())
        yield box
    finally:
        box.task.cancel()
        with suppress(asyncio.CancelledError, ConfigError):
            await box.task
        await asyncio.sleep(0)


def shorten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut every wait that is a setting of the real world; the rules between them stay."""
    for module, name, value in (
        (guardian_module, "POLL_S", 0.002), (guardian_module, "IDLE_S", 0.002),
        (guardian_module, "VERIFY_S", 0.15),
        (guardian_module, "VENUE_PATIENCE", 60 * MILLISECOND), (zero_module, "POLL_S", 0.002),
        (zero_module, "EXPIRY", EXPIRY), (zero_module, "RETRY_FIRST_S", 0.005), (zero_module, "RETRY_LAST_S", 0.01),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(watch_module, "SECOND", 30 * MILLISECOND)


class FakeSense:
    """Causes that a test puts there."""

    def __init__(self, **causes: str) -> None:
        self.causes = causes
        self.broken: Exception | None = None

    def present(self, now: int) -> dict[str, str]:
        """Return them, or break."""
        assert now > 0
        if self.broken is not None:
            raise self.broken
        return dict(self.causes)


class FakePanel(FakeSense):
    """Buttons that a test presses, and lamps that it reads."""

    def __init__(self, **causes: str) -> None:
        super().__init__(**causes)
        self.arming = ""
        self.sign = ""

    def wants_arming(self, now: int) -> str:
        """Return the way of arming once."""
        assert now > 0
        way, self.arming = self.arming, ""
        return way

    def show(self, sign: str, now: int) -> None:
        """Keep what is shown."""
        assert now > 0
        self.sign = sign
