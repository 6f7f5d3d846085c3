"""What the venue remembers of all accounts, for whoever checks a client against it.

Invariant: every accepted order and every fill is written down, and memory is bounded (KEPT of each).
It must not know markets, requests or who reads it.
"""

from collections import deque
from typing import Final, TypeAlias

from mmpi.practice.hyperliquid.account import Fill, Order
from mmpi.practice.hyperliquid.messages import Json, amount, millis, price, side_letter, size

KEPT: Final = 200_000
"""Hours of a fast quoter; some 60 MB of each when full."""
PLACED: Final = ("cloid", "oid", "coin", "account", "time")
FILLED: Final = ("tid", "oid", "cloid", "coin", "side", "px", "sz", "fee", "feeToken", "time", "account")

Row: TypeAlias = tuple[str | int | None, ...]


class Ledger:
    """Accepted orders and fills, oldest first."""

    def __init__(self) -> None:
        self._placed: deque[Row] = deque(maxlen=KEPT)
        self._filled: deque[Row] = deque(maxlen=KEPT)

    def place(self, order: Order) -> None:
        """Write down an order that was accepted."""
        row = (order.cloid, order.oid, order.instrument.name, order.account, millis(order.timestamp))
        self._placed.append(row)

    def fill(self, fill: Fill) -> None:
        """Write down a fill."""
        order, instrument = fill.order, fill.order.instrument
        self._filled.append(
            (
                fill.tid,
                order.oid,
                order.cloid,
                instrument.name,
                side_letter(order.side),
                price(instrument, fill.price),
                size(instrument, fill.size),
                amount(fill.fee),
                fill.fee_token,
                millis(fill.ts),
                order.account,
            )
        )

    def placed(self) -> list[Json]:
        """Return the orders, by the names in PLACED; `time` in milliseconds."""
        return [dict(zip(PLACED, row, strict=True)) for row in self._placed]

    def filled(self) -> list[Json]:
        """Return the fills, by the names in FILLED; `time` in milliseconds, texts as the wire has them."""
        return [dict(zip(FILLED, row, strict=True)) for row in self._filled]
