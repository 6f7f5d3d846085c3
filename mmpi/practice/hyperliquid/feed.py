"""The venue's public data: books, best prices, mids and trades, as questions answered and as streams.

Invariant: what is shown is the generated market with every practice order merged in. It must not know accounts.
"""

from collections.abc import Mapping

import msgspec

from mmpi.events import BookSnapshot, Mark, MarketEvent, Trade
from mmpi.instrument import Instrument, Money, Nanos
from mmpi.practice.hyperliquid.market_data import l2_book, level, perpetual_context, public_trade, spot_context
from mmpi.practice.hyperliquid.messages import NOBODY, Json, average_price, millis, price
from mmpi.practice.hyperliquid.spot import PAIRS
from mmpi.practice.hyperliquid.streams import Hub
from mmpi.sim.exchange import Matching

PUBLIC_USERS = (NOBODY, NOBODY)


class Feed:
    """Shows one Matching to the public."""

    def __init__(self, instruments: Mapping[str, Instrument], matching: Matching, hub: Hub, first_tid: int) -> None:
        self.instruments = instruments
        self._matching = matching
        self._hub = hub
        self._next_tid = first_tid
        self._lot_values: dict[Instrument, Money] = {}
        self._bbo: dict[str, list[Json | None]] = {}
        self._marks: dict[str, Mark] = {}

    def on_market(self, event: MarketEvent) -> None:
        """Stream an event that the matching has already seen."""
        if isinstance(event, Trade):
            self.trade(event, PUBLIC_USERS)
        elif isinstance(event, BookSnapshot):
            self._books(self.instruments[event.instrument], event.recv_ts)
        elif isinstance(event, Mark):
            self._marks[event.instrument] = event
            if self._hub.wanted(("activeAssetCtx", event.instrument)):
                shown = {"coin": event.instrument, "ctx": self.context(event.instrument)}
                self._hub.publish(("activeAssetCtx", event.instrument), shown)

    def trade(self, trade: Trade, users: tuple[str, str]) -> None:
        """Stream a trade under a trade id of our own: the generated ones repeat from coin to coin."""
        self._next_tid += 1
        if self._hub.wanted(("trades", trade.instrument)):
            numbered = msgspec.structs.replace(trade, trade_id=self._next_tid)
            public = public_trade(self.instruments[trade.instrument], numbered, users)
            self._hub.publish(("trades", trade.instrument), [public])

    def l2_book(self, instrument: Instrument, now: Nanos) -> Json:
        """Return the data of `l2Book`."""
        bids, asks = self._matching.book(instrument.name)
        return l2_book(instrument, bids, asks, now)

    def told_mark(self, name: str) -> bool:
        """Return whether the market has told a mark price."""
        return name in self._marks

    def context(self, name: str) -> Json:
        """Return the `ctx` of a coin; before the market has told a mark price, the mid stands for it."""
        instrument, mid = self.instruments[name], self.mids().get(name)
        mark = self._marks.get(name) or self._mid_as_mark(instrument)
        if name in PAIRS:
            return spot_context(mark, instrument, mid)
        bids, asks = self._matching.book(name, 1)
        best = [price(instrument, bids[0][0]), price(instrument, asks[0][0])] if bids and asks else None
        return perpetual_context(mark, instrument, best, mid)

    def best(self, instrument: Instrument) -> str:
        """Return the best prices as the venue's errors name them: bid@ask."""
        bids, asks = self._matching.book(instrument.name, 1)
        return "@".join(instrument.price_text(side[0][0]) if side else "" for side in (bids, asks))

    def mids(self) -> dict[str, str]:
        """Return the mid of each coin that has a two-sided book."""
        return {instrument.name: average_price(instrument, value, 1) for instrument, value in self._lot_values.items()}

    def lot_values(self) -> Mapping[Instrument, Money]:
        """Return what one lot of each instrument is worth at its mid."""
        return self._lot_values

    def _mid_as_mark(self, instrument: Instrument) -> Mark:
        mid = self._lot_values.get(instrument, 0) / instrument.unit
        return Mark(0, instrument.name, 0, mid, mid)

    def _books(self, instrument: Instrument, now: Nanos) -> None:
        name = instrument.name
        bids, asks = self._matching.book(name)
        if bids and asks:
            # The unit of money is even, so half a tick is exact.
            self._lot_values[instrument] = (bids[0][0] + asks[0][0]) * instrument.unit // 2
        if self._hub.wanted(("l2Book", name)):
            self._hub.publish(("l2Book", name), l2_book(instrument, bids, asks, now))
        best = [level(instrument, side[0]) if side else None for side in (bids, asks)]
        if best != self._bbo.get(name):
            self._bbo[name] = best
            self._hub.publish(("bbo", name), {"coin": name, "time": millis(now), "bbo": best})
        if self._hub.wanted(("allMids", "")):
            self._hub.publish(("allMids", ""), {"mids": self.mids()})
