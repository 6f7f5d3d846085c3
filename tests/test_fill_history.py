"""Which of a venue's old fills are ours to count after a restart: those since the session began, of what it knew."""

from mmpi.instrument import MILLISECOND, make_instrument
from mmpi.venues.hyperliquid.fills import FillLedger
from mmpi.venues.hyperliquid.messages import WireFill
from mmpi.venues.hyperliquid.names import OrderNames

INSTRUMENTS = {coin: make_instrument(coin, "1", "1") for coin in ("BTC", "SOL")}


def ledger(since_ms: int = -1, fresh: frozenset[str] = frozenset()) -> FillLedger:
    """Return the ledger of a new process."""
    return FillLedger(INSTRUMENTS, OrderNames("0xaaaaaaaa00000001"), 2000 * MILLISECOND, since_ms, fresh)


def fill(tid: int, time_ms: int, coin: str = "BTC") -> WireFill:
    """Return a fill of our own order."""
    return WireFill(coin, "100", "1", "B", time_ms, tid, tid, cloid="0xaaaaaaaa" + "0" * 24)


def told(of: FillLedger, *fills: WireFill) -> list[str]:
    """Return the fills that a list of recent ones makes the engine count."""
    return [report.exec_id for report in of.recent(fills, 1, wait=False)]


def test_history_stays_history_after_a_restart() -> None:
    """What was there before the first process is never counted, its newest fill neither; what came then is."""
    old = [fill(1, 1000), fill(2, 3000)]
    first = ledger()
    assert told(first, *old) == []
    assert told(first, *old, fill(3, 3500)) == ["3"]
    assert told(ledger(first.counted_from_ms), *old, fill(3, 3500), fill(4, 4000)) == ["3", "4"]


def test_an_account_without_fills_has_no_history() -> None:
    """From its first fill on everything counts."""
    first = ledger()
    assert told(first) == []
    assert told(ledger(first.counted_from_ms), fill(1, 1000)) == ["1"]


def test_a_new_instrument_begins_with_its_first_list() -> None:
    """What somebody traded in it before it was configured is history, though others count from long ago."""
    again = ledger(1000, frozenset({"SOL"}))
    assert told(again, fill(1, 2000, "SOL"), fill(2, 2000)) == ["2"]
    assert told(again, fill(1, 2000, "SOL"), fill(3, 2500, "SOL")) == ["3"]
