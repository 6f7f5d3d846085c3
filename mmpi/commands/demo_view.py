"""The demo's picture: one frame for a terminal of at least 80 columns and 24 lines.

Invariant: no state is told by colour alone, and what is shown of money adds up in rows and columns.
It must not know processes, sockets or keys.
"""

from decimal import Decimal
from typing import Any, Final, TypeAlias

from rich.console import Group
from rich.table import Table
from rich.text import Text

from mmpi.commands.demo_words import PARTS, STALE_S, Frame, lamp, shown, total
from mmpi.status import InstrumentStatus, OwnOrder, Summary

LAMPS: Final = {"green": "quoting", "yellow": "paused", "red": "stopped"}
LADDER_WIDTH: Final = 36
FIXED_LINES: Final = 16
"""Lines of a frame that are no ladder levels, for two instruments."""
CONFIRMED: Final = ("new", "partially_filled")
Keys: TypeAlias = tuple[tuple[str, str], ...]
"""(key, what it does)."""
KEYS: Final[Keys] = (("k", "red button"), ("a", "arm"), ("f", "freeze quoter"), ("c", "continue"), ("q", "quit"))


def picture(frame: Frame, height: int, keys: Keys = KEYS) -> Group:
    """Return the frame as a terminal of `height` lines shows it; a higher one shows deeper books."""
    lines = [_title(frame), _lamps(frame), Text(frame.message, style="italic", no_wrap=True, overflow="ellipsis")]
    if (summary := frame.summary) is None:
        return Group(*lines, Text(), _footer(frame, keys))
    depth = max(3, min(8, (height - FIXED_LINES) // 2))
    return Group(
        *lines,
        _ladders(frame, summary, depth),
        Text(),
        _pnl(summary),
        *_counts(summary),
        _guardian(frame.guardian),
        _quoter(frame),
        Text(),
        _footer(frame, keys),
    )


def _title(frame: Frame) -> Text:
    text = Text(frame.name, style="bold", no_wrap=True, overflow="ellipsis")
    return text.append(f"  {frame.elapsed_s:>4.0f} s  {frame.title}", style="not bold")


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


def _ladders(frame: Frame, summary: Summary, depth: int) -> Table:
    """The books side by side; what a silent quoter last saw is dim, and its orders go when the guardian sees none."""
    stale = frame.beat_age_s > STALE_S
    guardian = frame.guardian
    gone = guardian is not None and guardian["state"] != "run" and guardian["live_orders"] == 0
    table = Table.grid(padding=(0, 3, 0, 0))
    for _ in summary.instruments:
        table.add_column(width=LADDER_WIDTH, no_wrap=True)
    blocks = []
    for name, each in summary.instruments.items():
        header = Text(name, style="bold", no_wrap=True, overflow="ellipsis")
        header.append(f"  position {each.position}", style="not bold")
        if stale:
            header.append(f"  {frame.beat_age_s:.0f} s old", style="bold red")
        elif each.reason != summary.reason:
            header.append(f"  {each.reason}", style="yellow")
        blocks.append(Group(header, *_ladder(each, [] if gone else each.own, depth)))
    table.add_row(*blocks, style="dim" if stale else "")
    return table


def _ladder(each: InstrumentStatus, own: list[OwnOrder], depth: int) -> list[Text]:
    """Own orders and book levels by price, asks above bids; own orders are shown before levels farther out."""
    asks = _levels(each.asks, [order for order in own if order.side == "sell"], depth, "sell")
    bids = _levels(each.bids, [order for order in own if order.side == "buy"], depth, "buy")
    return [*reversed(asks), Text("-" * LADDER_WIDTH, style="dim"), *bids]


def _levels(book: list[tuple[str, str]], own: list[OwnOrder], depth: int, side: str) -> list[Text]:
    """Return exactly `depth` lines, nearest to the market first."""
    sizes = dict(book)
    mine: dict[str, list[OwnOrder]] = {}
    for order in own:
        mine.setdefault(order.price, []).append(order)
    best_first = sorted({*sizes, *mine}, key=Decimal, reverse=side == "buy")
    wanted = sorted(best_first, key=lambda price: price not in mine and price != best_first[0])[:depth]
    lines = [_level(price, sizes.get(price, ""), mine.get(price, []), side) for price in best_first if price in wanted]
    return lines + [Text()] * (depth - len(lines))


def _level(price: str, size: str, own: list[OwnOrder], side: str) -> Text:
    style = "green" if side == "buy" else "red"
    resting = sum((Decimal(order.size) for order in own), Decimal(0))
    doubt = "" if all(order.status in CONFIRMED for order in own) else "?"
    text = Text(f"{f'{side} {resting}{doubt}' if own else '':<13}", style=f"bold {style}")
    text.append(_aligned(price, 8, 2), style="bold" if own else "not bold")
    return text.append(_aligned(size, 6, 5), style="not bold dim")


def _aligned(number: str, before: int, after: int) -> str:
    """Return a number padded so that the points of a column stand below one another."""
    whole, point, fraction = number.partition(".")
    return f"{whole:>{before}}{point + fraction:<{after + 1}}"


def _pnl(summary: Summary) -> Table:
    """A table whose rows and columns both add up, as shown."""
    rows = {name: shown(each.pnl) for name, each in summary.instruments.items()}
    parts = {part: sum((row[part] for row in rows.values()), Decimal(0)) for part in PARTS}
    rows["all"] = parts | {"total": total(parts)}
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(width=5)
    for _ in range(5):
        table.add_column(width=12, justify="right")
    table.add_row("P&L", "spread", "+ inventory", "+ funding", "- fees", "= total", style="bold")
    for name, row in rows.items():
        style = "bold" if name == "all" else ""
        table.add_row(name, *(str(row[part]) for part in (*PARTS, "total")), style=style)
    return table


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
    return _row("guardian", f"{guardian['state']}  live orders {guardian['live_orders']}  last stop: {zero}")


def _quoter(frame: Frame) -> Text:
    assert frame.summary is not None
    latency, stale = frame.summary.tick_to_order_us, frame.beat_age_s > STALE_S
    beat = f"beat {frame.beat_age_s * 1000:.0f} ms" if not stale else f"SILENT {frame.beat_age_s:.0f} s"
    speed = f"tick to order us p50 {latency.p50:.0f} p99 {latency.p99:.0f}"
    memory = f"{frame.summary.rss_mb:.0f} MB"
    return _row("quoter", f"{frame.quoter}  {beat}  {speed}  {memory}", "bold red" if stale else "")


def _row(label: str, content: str, style: str = "") -> Text:
    return Text(f"{label:<9}", no_wrap=True, overflow="ellipsis").append(content, style=style)


def _footer(frame: Frame, keys: Keys) -> Text:
    """The keys, and the three lamps as they are lit on the box's pins at this moment (docs/lights.md)."""
    text = Text(no_wrap=True, overflow="ellipsis")
    for key, meaning in keys:
        text.append(f" {key} ", style="reverse bold").append(f" {meaning}   ")
    for colour, lit in zip(LAMPS, frame.lamps, strict=True):
        text.append("● " if lit else "○ ", style=f"bold {colour}" if lit else "dim")
    return text
