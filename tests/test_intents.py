"""Durable intents: no order leaves before the disk has it, and none that the world has overtaken."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from mmpi.actions import Action, AmendOrder, Approved, CancelOrder, NewOrder
from mmpi.instrument import BUY
from mmpi.journal.record import INTENT
from mmpi.runtime import intents
from mmpi.runtime.intents import CANNOT_LIST, DurableIntents, must_be_durable


class FakeLedger:
    """Keeps what it is handed; `answer` is the disk's word."""

    def __init__(self) -> None:
        self.kept: list[tuple[int, Any]] = []
        self._done: list[Callable[[], None]] = []

    def keep(self, kind: int, *values: Any, done: Callable[[], None] | None = None) -> None:
        self.kept += [(kind, value) for value in values]
        if done is not None:
            self._done.append(done)

    async def answer(self) -> None:
        """Say from another thread that everything is on the disk."""
        done, self._done = self._done, []
        for each in done:
            await asyncio.to_thread(each)
        await asyncio.sleep(0)


class Outlet:
    """A gateway that remembers."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.refused: list[tuple[str, str]] = []
        self.times: list[int] = []
        self._unsent: deque[Any] = deque()

    @property
    def unsent(self) -> deque[Any]:
        return self._unsent

    def send(self, actions: Sequence[Approved], now: int) -> None:
        self.sent += [each.action.cl_ord_id for each in actions]  # type: ignore[union-attr]
        self.times.append(now)

    def refuse(self, actions: Sequence[Approved], now: int, why: str) -> None:  # noqa: ARG002
        self.refused += [(each.action.cl_ord_id, why) for each in actions]  # type: ignore[union-attr]


def new(name: str) -> NewOrder:
    """Return an order."""
    return NewOrder("A", name, BUY, 999, 10, 0)


def approved(*actions: Action) -> list[Approved]:
    """Return actions approved at 5."""
    return [Approved(5, action) for action in actions]


def gate() -> tuple[DurableIntents, FakeLedger, Outlet]:
    """Return a gate between an engine and a gateway; the time behind it is 9."""
    ledger, outlet = FakeLedger(), Outlet()
    return DurableIntents(outlet, ledger, lambda: 9), ledger, outlet  # type: ignore[arg-type]


async def test_an_order_waits_for_the_disk() -> None:
    """It leaves when its intent is durable, with the time of then; several of one event leave together."""
    durable, ledger, outlet = gate()
    durable.send(approved(new("1"), AmendOrder("A", "1", "7", "2", BUY, 998, 10, 0)), 5)
    assert outlet.sent == []
    assert [(kind, intent.cl_ord_id) for kind, intent in ledger.kept] == [(INTENT, "1"), (INTENT, "2")]
    await ledger.answer()
    assert (outlet.sent, outlet.times, outlet.refused) == (["1", "2"], [9], [])
    assert durable.latency.n == 1 and 0 < durable.latency.p50 <= durable.latency.p99


async def test_a_cancel_waits_for_nothing() -> None:
    """What places nothing leaves at once, whatever the disk does."""
    durable, _, outlet = gate()
    durable.send(approved(new("1"), CancelOrder("A", "0", "3")), 5)
    assert outlet.sent == ["0"]


@pytest.mark.parametrize("what", ["void", "slow"])
async def test_an_order_that_was_overtaken_never_leaves(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """Halted, stopping or disconnected meanwhile, or too slow a disk: reported as rejected, once."""
    durable, ledger, outlet = gate()
    durable.send(approved(new("1")), 5)
    if what == "void":
        durable.void()
    else:
        monkeypatch.setattr(intents, "PATIENCE_S", 0.0)
    await ledger.answer()
    assert outlet.sent == []
    assert outlet.refused == [("1", "no longer wanted" if what == "void" else "the disk was slow")]
    if what == "void":
        durable.send(approved(new("2")), 5)
        await ledger.answer()
        assert outlet.sent == ["2"]


def test_who_needs_it() -> None:
    """By default only a venue that cannot list our orders; by choice any."""
    assert [must_be_durable(setting, "hyperliquid") for setting in ("auto", "write", "fsync")] == [False, False, True]
    assert "hyperliquid" not in CANNOT_LIST


async def test_the_default_at_a_venue_that_cannot_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """`auto` is fsync there."""
    monkeypatch.setattr(intents, "CANNOT_LIST", frozenset({"blind"}))
    assert must_be_durable("auto", "blind") and not must_be_durable("write", "blind")
