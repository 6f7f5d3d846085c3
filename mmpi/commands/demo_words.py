"""The demo's words: which lamp is lit, one line for a log, and the account at the end.

Invariant: the worst news wins, and what is shown of money adds up.
It must not know processes, sockets, keys or terminals.
"""

from decimal import Decimal
from typing import Any, Final

import msgspec

from mmpi.status import PnlStatus, Summary

STALE_S: Final = 2.0
"""A quoter silent for this long is shown as silent; it beats at least five times a second."""
DIGITS: Final = Decimal("0.0001")
PARTS: Final = ("spread", "inventory", "funding", "fees")


class Frame(msgspec.Struct, frozen=True):
    """What is known at one moment. `summary` None: the quoter has published nothing yet."""

    elapsed_s: float
    title: str
    summary: Summary | None
    beat_age_s: float
    """Age of the quoter's last sign of life."""
    guardian: dict[str, Any] | None
    """Its answer to `status`; None if it does not answer."""
    quoter: str
    """What the quoter's process does: running, frozen, killed ..."""
    message: str
    """The last thing that happened, for the person at the keys."""
    lamps: tuple[bool, bool, bool] = (False, False, False)
    """Green, amber, red: what the guardian has on its virtual pins at this moment."""
    name: str = "mmpi demo"


def lamp(frame: Frame) -> tuple[str, str]:
    """Return which lamp is lit, green, yellow or red, and the words beside it; the worst news wins."""
    guardian, summary = frame.guardian, frame.summary
    if guardian is not None and guardian["latch"] == "latched":
        return "red", f"latched: {guardian['reason']}"
    if summary is None:
        return "yellow", "paused: starting"
    if guardian is None:
        return "red", "no sign of life from the guardian"
    if frame.beat_age_s > STALE_S:
        return "red", f"no sign of life from the quoter for {frame.beat_age_s:.0f} s"
    if guardian["state"] != "run":
        return "yellow", f"paused: {guardian['reason']}"
    if summary.state != "quoting":
        return "yellow", f"paused: {summary.reason.removeprefix('paused: ')}"
    return "green", "quoting"


def shown(pnl: PnlStatus) -> dict[str, Decimal]:
    """Return the four parts to four digits, and as `total` the sum of exactly these."""
    parts = {name: Decimal(getattr(pnl, name)).quantize(DIGITS) for name in PARTS}
    return parts | {"total": total(parts)}


def total(parts: dict[str, Decimal]) -> Decimal:
    """Return what the four parts come to."""
    return parts["spread"] + parts["inventory"] + parts["funding"] - parts["fees"]


def line(frame: Frame) -> str:
    """Return the frame as one line of plain text."""
    words = [f"{frame.elapsed_s:.0f}s", lamp(frame)[1]]
    if (summary := frame.summary) is not None:
        for name, each in summary.instruments.items():
            words.append(f"{name} {each.bid}/{each.ask} pos {each.position}")
        pnl = shown(summary.pnl)
        parts = " ".join(f"{name} {pnl[name]:+}" for name in PARTS[:3])
        words.append(f"fills {summary.fills} pnl {pnl['total']:+} ({parts} fees {pnl['fees']})")
    return " ".join(words)


def told(stop: dict[str, Any]) -> str:
    """Return the guardian's account of a stop, in words."""
    first, verified = stop["first_zero_ms"], stop["verified_ms"]
    return f"zero orders at the exchange: first seen after {first:.0f} ms, verified after {verified:.0f} ms"


def armed_not(guardian: dict[str, Any] | None) -> str:
    """Return why holding the arm button did not arm."""
    if guardian is None:
        return "the guardian does not answer"
    return "; ".join(guardian["causes"]) or "the proof of zero orders is not there yet"


def account(summary: Summary, elapsed_s: float, starts: int, left: int | None) -> str:
    """Return what the demo did, exact.

    `starts`: of the quoter, whose accounts begin anew each time; `left`: orders that the exchange still has, None if
    it did not say.
    """
    orders, latency, pnl = summary.orders, summary.tick_to_order_us, summary.pnl
    positions = ", ".join(f"{name} {each.position}" for name, each in summary.instruments.items())
    refusals = ", ".join(f"{name} {count}" for name, count in summary.refusals.items())
    counts = f"placed {orders.placed}, canceled {orders.canceled}, rejected {orders.rejected}"
    again = f"; quoter started {starts} times, what follows is of the last" if starts > 1 else ""
    return "\n".join(
        [
            f"quoted      {elapsed_s:.1f} s ({summary.mode} {summary.venue}){again}",
            f"orders      {counts}; left at the exchange: {'unknown' if left is None else left}",
            f"fills       {summary.fills}",
            f"position    {positions}",
            f"refusals    {refusals or 'none'}",
            f"violations  {summary.invariant_violations}",
            f"speed       tick to order p50 {latency.p50:.0f} us, p99 {latency.p99:.0f} us",
            f"memory      {summary.rss_mb:.0f} MB (quoter)",
            f"p&l         total {pnl.total} = spread {pnl.spread} + inventory {pnl.inventory}"
            f" + funding {pnl.funding} - fees {pnl.fees}",
        ]
    )
