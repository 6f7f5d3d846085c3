"""Builders for telemetry's tests: a quoter's summary, what a guardian answers, and snapshots of both."""

from typing import Any

import msgspec

from mmpi.status import (
    EDGES_US,
    FillStatus,
    Histogram,
    InstrumentStatus,
    Latency,
    OrderCounts,
    OwnOrder,
    PnlStatus,
    RequestStatus,
    Summary,
)
from mmpi.telemetry.snapshot import Exposure, Fill, GuardianView, QuoterView, Snapshot

PNL = PnlStatus("1.5", "-0.25", "0", "0.125", "1.125")


def instrument(**changes: Any) -> InstrumentStatus:
    """Return an instrument that is quoted on both sides."""
    own = [OwnOrder("buy", "99", "1", "new"), OwnOrder("sell", "102", "1", "new")]
    usual = InstrumentStatus(
        "100", "101", "2", 2, "", [("100", "3"), ("99", "4")], [("101", "3"), ("102", "4")], own, PNL, 120
    )
    return msgspec.structs.replace(usual, **changes)


def summary(**changes: Any) -> Summary:
    """Return the words of a quoter that quotes one instrument, BTC."""
    usual = Summary(
        mode="practice", venue="hyperliquid", state="quoting", reason="", instruments={"BTC": instrument()},
        events=100, orders=OrderCounts(10, 4, 1, 2), fills=3, pnl=PNL,
        tick_to_order_us=Latency(210.5, 900.25, 40), rss_mb=35.0, deadman="ARMED", latch="armed", refusals={},
        invariant_violations=0, anomalies={}, requests=RequestStatus(5, 1000, 7, 1, 2.0, 1.0, 0),
        tick_to_order=Histogram((0, 1, 2) + (0,) * (len(EDGES_US) - 2), 812.5),
        loop_lateness=Histogram((9,) + (0,) * len(EDGES_US), 90.0),
    )  # fmt: skip
    return msgspec.structs.replace(usual, **changes)


def fill_status(number: int = 1, **changes: Any) -> FillStatus:
    """Return a fill as the quoter tells it."""
    usual = FillStatus(f"f{number}", "BTC", "buy", "100", "1", "0.01", True, 1_000 * 10**9, 1_000 * 10**9)
    return msgspec.structs.replace(usual, **changes)


def guardian(**changes: Any) -> dict[str, Any]:
    """Return what a guardian answers while all is well."""
    host = {
        "cpu_percent": 12.5, "memory_mb": 300.0, "temperature_c": "UNAVAILABLE", "disk_free_mb": 900.0,
        "undervoltage": False, "throttled": False, "uptime_s": 3600.0, "unavailable": {"temperature_c": "no sensor"},
    }  # fmt: skip
    return {
        "latch": "armed", "state": "run", "reason": "", "causes": [], "details": {}, "sign": "practice",
        "generation": 4, "venue_session": True, "live_orders": 2, "quoter_alive": True, "quoter_steady": True,
        "verified_zero": False, "last_stop": {}, "box": {"host": host, "pins": "none", "panel": []},
        "boot": {"healthy": True, "why": "quoting"}, **changes,
    }  # fmt: skip


def snapshot(**changes: Any) -> Snapshot:
    """Return a moment at which all is well."""
    usual = Snapshot(
        device="shelf", version="0.1.0", sequence=7, at=1_000.0, monotonic=50.0, uptime_s=40.0,
        quoter=QuoterView(True, 0.1, 4242, summary()), guardian=GuardianView(0.2, guardian()),
        exposures={"BTC": Exposure(201.0, 0.201)},
        fills=(Fill("f1", "BTC", "buy", "100", "1", "0.01", True, 990.0, {"1s": 1.0, "5s": None, "30s": None}),),
        adverse_bps=None, last_fill_s=10.0, counters={}, rss_mb=30.0,
    )  # fmt: skip
    return msgspec.structs.replace(usual, **changes)
