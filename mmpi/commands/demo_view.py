"""The demo's words and pictures: one frame for a terminal, one line for a log, and the account at the end.

Invariant: money that is shown adds up, and no state is told by colour alone.
It must not know processes, sockets or keys.
"""

from decimal import Decimal
from typing import Any, Final

import msgspec
from rich.console import Group
from rich.table import Table
from rich.text import Text

from mmpi.status import InstrumentStatus, OwnOrder, PnlStatus, Summary

STALE_S: Final = 2.0
"""A quoter silent for this long is shown as silent; it beats at least five times a second."""
CENTS: Final = Decimal("0.0001")
PARTS: Final = ("spread", "inventory", "funding", "fees")
LAMPS: Final = {"green": "quoting", "yellow": "paused", "red": "stopped"}
LADDER_WIDTH: Final = 37
FIXED_LINES: Final = 16
"""Lines of a frame that are no ladder levels, for two instruments."""
CONFIRMED: Final = ("new", "partially_filled")
KEYS: Final = (("k", "red button"), ("a", "arm"), ("f", "freeze quoter"), ("c", "continue"), ("q", "quit"))


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
    parts = {name: Decimal(getattr(pnl, name)).quantize(CENTS) for name in PARTS}
    return parts | {"total": _total(parts)}


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


def account(summary: Summary, elapsed_s: float, left: int | None) -> str:
    """Return what the demo did, exact; `left` is how many orders the venue still has, None if it did not say."""
    orders, latency, pnl = summary.orders, summary.tick_to_order_us, summary.pnl
    positions = ", ".join(f"{name} {each.position}" for name, each in summary.instruments.items())
    refusals = ", ".join(f"{name} {count}" for name, count in summary.refusals.items())
    counts = f"placed {orders.placed}, canceled {orders.canceled}, rejected {orders.rejected}"
    return "\n".join(
        [
            f"quoted      {elapsed_s:.1f} s ({summary.mode} {summary.venue})",
            f"orders      {counts}; left at the venue: {'unknown' if left is None else left}",
            f"fills       {summary.fills}",
            f"position    {positions}",
            f"refusals    {refusals or 'none'}",
            f"violations  {summary.invariant_violations}",
            f"speed       tick to order p50 {latency.p50:.0f} us, p99 {latency.p99:.0f} us; RSS {summary.rss_mb:.0f} MB",
            f"p&l         total {pnl.total} = spread {pnl.spread} + inventory {pnl.inventory}"
            f" + funding {pnl.funding} - fees {pnl.fees}",
        ]
    )


def picture(frame: Frame, height: int) -> Group:
    """Return the frame for a terminal of at least 80 columns and 24 lines; a higher one shows deeper books."""
    lines = [_title(frame), _lamps(frame), Text(frame.message, style="italic", no_wrap=True, overflow="ellipsis")]
    if (summary := frame.summary) is None:
        return Group(*lines, Text(), _footer())
    depth = max(3, min(8, (height - FIXED_LINES) // 2))
    return Group(
        *lines,
        _side_by_side([_ladder(name, each, depth) for name, each in summary.instruments.items()]),
        Text(),
        _pnl(summary),
        *_counts(summary),
        _guardian(frame.guardian),
        _quoter(frame),
        Text(),
        _footer(),
    )


def _title(frame: Frame) -> Text:
    text = Text("mmpi demo", style="bold", no_wrap=True, overflow="ellipsis")
    return text.append(f"  {frame.title}  {frame.elapsed_s:.0f} s", style="not bold")


def _lamps(frame: Frame) -> Text:
    """Three lamps: the lit one is full and has the words, the others are hollow."""
    lit, words = lamp(frame)
    text = Text(" ", no_wrap=True, overflow="ellipsis")
    for colour, name in LAMPS.items():
        if colour != lit:
            text.append(f"○ {name}    ", style="dim")
            continue
        blink = " blink" if words.startswith("no sign") else ""
        text.append(f"● {words}    ", style=f"bold {colour}{blink}")
    return text


def _side_by_side(blocks: list[Group]) -> Table:
    table = Table.grid(padding=(0, 3, 0, 0))
    for _ in blocks:
        table.add_column(width=LADDER_WIDTH, no_wrap=True)
    table.add_row(*blocks)
    return table


def _ladder(name: str, each: InstrumentStatus, depth: int) -> Group:
    """Own orders and book levels by price, asks above bids; own orders are shown before levels farther out."""
    header = Text(name, style="bold", no_wrap=True, overflow="ellipsis")
    header.append(f"  position {each.position}", style="not bold").append(f"  {each.reason}", style="yellow")
    asks = _levels(each.asks, [own for own in each.own if own.side == "sell"], depth, "sell")
    bids = _levels(each.bids, [own for own in each.own if own.side == "buy"], depth, "buy")
    return Group(header, *reversed(asks), Text("-" * LADDER_WIDTH, style="dim"), *bids)


def _levels(book: list[tuple[str, str]], own: list[OwnOrder], depth: int, side: str) -> list[Text]:
    """Return exactly `depth` lines, nearest to the market first."""
    sizes = dict(book)
    mine: dict[str, list[OwnOrder]] = {}
    for order in own:
        mine.setdefault(order.price, []).append(order)
    best_first = sorted({*sizes, *mine}, key=Decimal, reverse=side == "buy")
    first, *others = sorted(best_first, key=lambda price: price not in mine and price != best_first[0]) or [""]
    chosen = {first, *others[: depth - 1]}
    lines = [_level(price, sizes.get(price, ""), mine.get(price, []), side) for price in best_first if price in chosen]
    return lines + [Text()] * (depth - len(lines))


def _level(price: str, size: str, own: list[OwnOrder], side: str) -> Text:
    style = "green" if side == "buy" else "red"
    total = sum((Decimal(order.size) for order in own), Decimal(0))
    doubt = "" if all(order.status in CONFIRMED for order in own) else "?"
    text = Text(f"{f'{side} {total}{doubt}' if own else '':<14}", style=f"bold {style}")
    return text.append(f"{price:>11}", style="bold" if own else style).append(f"{size:>12}", style="not bold dim")


def _pnl(summary: Summary) -> Table:
    """A table whose rows and columns both add up, as shown."""
    rows = {name: shown(each.pnl) for name, each in summary.instruments.items()}
    parts = {part: sum((row[part] for row in rows.values()), Decimal(0)) for part in PARTS}
    rows["all"] = parts | {"total": _total(parts)}
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(width=5)
    for _ in range(5):
        table.add_column(width=12, justify="right")
    table.add_row("P&L", "spread", "+ inventory", "+ funding", "- fees", "= total", style="bold")
    for name, row in rows.items():
        style = "bold" if name == "all" else ""
        table.add_row(name, *(str(row[part]) for part in (*PARTS, "total")), style=style)
    return table


def _total(parts: dict[str, Decimal]) -> Decimal:
    return parts["spread"] + parts["inventory"] + parts["funding"] - parts["fees"]


def _counts(summary: Summary) -> list[Text]:
    orders = summary.orders
    counts = f"placed {orders.placed}  canceled {orders.canceled}  rejected {orders.rejected}"
    refusals = "  ".join(f"{reason} {count}" for reason, count in summary.refusals.items()) or "none"
    return [
        _row("orders", f"{counts}  fills {summary.fills}  violations {summary.invariant_violations}"),
        _row("refusals", refusals),
    ]


def _guardian(guardian: dict[str, Any] | None) -> Text:
    if guardian is None:
        return _row("guardian", "does not answer", "bold red")
    stop = guardian["last_stop"]
    zero = f"zero orders {stop['first_zero_ms']:.0f} ms, verified {stop['verified_ms']:.0f} ms" if stop else "none"
    return _row("guardian", f"{guardian['state']}  its orders in sight {guardian['live_orders']}  last stop: {zero}")


def _quoter(frame: Frame) -> Text:
    assert frame.summary is not None
    latency, stale = frame.summary.tick_to_order_us, frame.beat_age_s > STALE_S
    beat = f"beat {frame.beat_age_s * 1000:.0f} ms ago" if not stale else f"SILENT {frame.beat_age_s:.0f} s"
    speed = f"tick to order p50 {latency.p50:.0f} p99 {latency.p99:.0f} us"
    return _row("quoter", f"{frame.quoter}  {beat}  {speed}  {frame.summary.rss_mb:.0f} MB", "bold red" if stale else "")


def _row(label: str, content: str, style: str = "") -> Text:
    return Text(f"{label:<9}", no_wrap=True, overflow="ellipsis").append(content, style=style)


def _footer() -> Text:
    text = Text(no_wrap=True, overflow="ellipsis")
    for key, meaning in KEYS:
        text.append(f" {key} ", style="reverse bold").append(f" {meaning}   ")
    return text
