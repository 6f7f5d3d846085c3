"""Order-by-order recordings in Bitstamp's two forms, told by an engine of plain lists."""

import random
from collections.abc import Sequence
from pathlib import Path

from mmpi.instrument import BUY, SELL, Lots, Side, Ticks
from mmpi.sim.l3 import EXECUTE
from tests.naive_fifo import NaiveFifo

Row = tuple[int, str, int, Side, Ticks, Lots]
"""(time in ms, action, order id, side, price, what is left)"""
HEADER = "id,timestamp,exchange.timestamp,price,volume,action,direction"
T0_MS = 1_430_438_400_000


def csv_line(row: Row) -> str:
    ms, action, order_id, side, price, left = row
    stamp = T0_MS + ms
    direction = "bid" if side == BUY else "ask"
    return f"{order_id},{stamp},{stamp // 1000}000,{price / 100:.2f},{left},{action},{direction}"


def ws_line(row: Row) -> str:
    ms, action, order_id, side, price, left = row
    kind = 0 if side == BUY else 1
    return (
        f'{T0_MS + ms} order_{action} {{"price": "{price / 100:.2f}", "amount": "{left / 1e8:.8f}", '
        f'"datetime": "{T0_MS // 1000}", "id": {order_id}, "order_type": {kind}}}'
    )


def write(folder: Path, rows: Sequence[Row], form: str = "l3orders.csv", name: str = "bitstamp_btcusd_x") -> Path:
    """Return the path of a recording with these rows."""
    path = folder / f"{name}.{form}"
    lines = [HEADER, *map(csv_line, rows)] if "csv" in form else [ws_line(row) for row in rows]
    path.write_text("\n".join(lines) + "\n")
    return path


class Told:
    """An engine whose messages are written down as Bitstamp's: a taker first, then both sides of each fill."""

    def __init__(self, seed: int) -> None:
        self.engine = NaiveFifo()
        self.rows: list[Row] = []
        self.rng = random.Random(seed)

    def add(self, ms: int, order_id: int, side: Side, price: Ticks, size: Lots) -> None:
        """Place an order; its fills follow 100 ms later, the two words on each in any order."""
        self.rows.append((ms, "created", order_id, side, price, size))
        makers = {order.order_id: order for order in self.engine.orders}
        self.engine.told.clear()
        self.engine.add(order_id, side, price, size)
        left = size
        for action, maker_id, maker_side, maker_price, traded in self.engine.told:
            if action == EXECUTE:
                left -= traded
                makers_left = makers[maker_id].left
                words: list[Row] = [
                    (ms + 100, "changed" if makers_left else "deleted", maker_id, maker_side, maker_price, makers_left),
                    (ms + 100, "changed" if left else "deleted", order_id, side, price, left),
                ]
                self.rng.shuffle(words)
                self.rows.extend(words)

    def cancel(self, ms: int, order_id: int) -> None:
        """Cancel an order if it is there."""
        for order in self.engine.orders:
            if order.order_id == order_id:
                self.rows.append((ms, "deleted", order_id, order.side, order.price, order.left))
        self.engine.reduce(order_id, 0)


def busy(seed: int, messages: int, every_ms: int = 500) -> Told:
    """A market around 200.00 whose levels hold many orders, with cancels and takers."""
    told, rng, live = Told(seed), random.Random(seed), list[int]()
    for i in range(messages):
        ms, pick = i * every_ms, rng.random()
        side: Side = BUY if rng.random() < 0.5 else SELL
        if pick < 0.4 and live:
            told.cancel(ms, live.pop(rng.randrange(len(live))))
        elif pick < 0.47 and i > 100:
            told.add(ms, 1000 + i, side, 20_000 + side * 5, rng.randrange(1, 40) * 10**7)
        else:
            told.add(ms, 1000 + i, side, 20_000 - side * rng.randrange(1, 6), rng.randrange(1, 30) * 10**7)
            live.append(1000 + i)
    return told
