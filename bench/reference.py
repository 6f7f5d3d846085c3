"""The yardstick where the laboratory's one is not on this machine: a quoter as one writes it on the first day.

json.loads, Decimal, dicts and dataclasses; the same work for every message as `mmpi bench` has the engine do: the book,
time-weighted volatility, an Avellaneda-Stoikov ladder of five a side with sizes by A*exp(-k*depth)*depth, limits, and
what to change. Slow by its idiom, not on purpose.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

LEVELS = 5
GAMMA, K, HORIZON_S = Decimal("0.05"), Decimal("0.5"), Decimal(60)
"""Risk aversion and intensity decay per basis point; seconds."""
NARROWEST, WIDEST, QUIET = Decimal("0.5"), Decimal(50), Decimal("0.1")
"""Bounds of the half spread, and the least volatility, in basis points (per sqrt(second))."""
REACH = Decimal(3)
NOTIONAL, SMALLEST = Decimal(300), Decimal("0.1")
"""One side's worth, and the share of it that the smallest rung has."""
TOLERANCE = Decimal("0.1")
TAU_S = Decimal(60)
MAX_POSITION = Decimal(1000)
BAND = Decimal("0.05")


@dataclass
class Order:
    """One rung: wanted, or working."""

    side: str
    level: int
    price: Decimal
    size: Decimal


Action = tuple[str, Order]


class Reference:
    """Call on_raw (the part to be timed), then ack with what it returned, then match."""

    def __init__(self) -> None:
        self.bids: list[tuple[Decimal, Decimal]] = []
        self.asks: list[tuple[Decimal, Decimal]] = []
        self.time = self.variance = self.position = self.cash = Decimal(0)
        self.mid = self.fair = Decimal(0)
        self.tick, self.lot = Decimal("0.1"), Decimal("0.00001")
        self.live: dict[tuple[str, int], Order] = {}

    def on_raw(self, raw: bytes) -> list[Action]:
        """Return what to place and cancel after one l2Book message."""
        data = json.loads(raw)["data"]
        bids, asks = (
            {Decimal(level["px"]): Decimal(level["sz"]) for level in side} for side in data["levels"]
        )
        self.bids, self.asks = sorted(bids.items(), reverse=True), sorted(asks.items())
        self._signals(Decimal(data["time"]) / 1000)
        return self._changes(self._allowed(self._ladder()))

    def ack(self, actions: Sequence[Action]) -> None:
        """Take every action as done by the venue."""
        for what, order in actions:
            if what == "cancel":
                del self.live[order.side, order.level]
            else:
                self.live[order.side, order.level] = order

    def match(self) -> None:
        """Fill what the book went through."""
        bid, ask = self.bids[0][0], self.asks[0][0]
        for key, order in list(self.live.items()):
            if (order.side == "buy" and ask <= order.price) or (order.side == "sell" and bid >= order.price):
                size = order.size if order.side == "buy" else -order.size
                self.position += size
                self.cash -= size * order.price
                del self.live[key]

    def _signals(self, now: Decimal) -> None:
        bid, ask = self.bids[0][0], self.asks[0][0]
        mid = (bid + ask) / 2
        if self.mid:
            dt = max(now - self.time, Decimal("0.001"))
            weight = 1 - (-dt / TAU_S).exp()
            self.variance += weight * ((mid - self.mid) ** 2 / dt - self.variance)
        self.mid, self.time = mid, now

    def _ladder(self) -> list[Order]:
        point = self.mid / 10_000
        sigma = max(self.variance.sqrt() / point, QUIET)
        risk = GAMMA * sigma * sigma * HORIZON_S
        half = min(max(risk / 2 + (1 + GAMMA / K).ln() / GAMMA, NARROWEST), WIDEST)
        unit = (NOTIONAL / self.mid).quantize(self.lot, ROUND_FLOOR)
        self.fair = self.mid - risk * self.position / unit * point
        deepest = max(REACH * half, min(REACH * sigma * HORIZON_S.sqrt(), REACH * WIDEST))
        ratio = (deepest / half) ** (Decimal(1) / (LEVELS - 1))
        depths = [half * ratio**level for level in range(LEVELS)]
        weights = [(-K * (depth - half)).exp() * depth for depth in depths]
        spare = unit * (1 - LEVELS * SMALLEST) / sum(weights)
        held = self.position * self.mid / MAX_POSITION
        orders = []
        for level, (depth, weight) in enumerate(zip(depths, weights, strict=True)):
            size = unit * SMALLEST + spare * weight
            bid = ((self.fair - depth * point) / self.tick).to_integral_value(ROUND_FLOOR) * self.tick
            ask = ((self.fair + depth * point) / self.tick).to_integral_value(ROUND_CEILING) * self.tick
            buy, sell = size * (1 - max(held, Decimal(0))), size * (1 + min(held, Decimal(0)))
            bid, ask = min(bid, self.asks[0][0] - self.tick), max(ask, self.bids[0][0] + self.tick)
            orders.append(Order("buy", level, bid, max(buy, self.lot).quantize(self.lot, ROUND_FLOOR)))
            orders.append(Order("sell", level, ask, max(sell, self.lot).quantize(self.lot, ROUND_FLOOR)))
        return orders

    def _allowed(self, orders: list[Order]) -> list[Order]:
        room = {"buy": MAX_POSITION - self.position * self.mid, "sell": MAX_POSITION + self.position * self.mid}
        allowed = []
        for order in orders:
            value = order.price * order.size
            if abs(order.price / self.mid - 1) > BAND or value > room[order.side]:
                continue
            room[order.side] -= value
            allowed.append(order)
        return allowed

    def _changes(self, wanted: list[Order]) -> list[Action]:
        slots = {(order.side, order.level): order for order in wanted}
        actions: list[Action] = [("cancel", order) for slot, order in self.live.items() if slot not in slots]
        for slot, order in slots.items():
            working = self.live.get(slot)
            if working is None or abs(order.price - working.price) > TOLERANCE * abs(order.price - self.fair):
                actions.append(("place", order))
        return actions
