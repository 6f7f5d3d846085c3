"""One round of reconciliation: answers about the account, joined to one picture.

Invariant: a picture is made of all its answers or not at all, and its positions include exactly the fills that were
received by then. It must not know frames or how fills are reported.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from mmpi.events import OpenOrder
from mmpi.instrument import Instrument, Lots
from mmpi.venues.hyperliquid.answers import ClearinghouseState, SpotState
from mmpi.venues.hyperliquid.messages import WireFill, WireOrder, fitting, plain, side_of
from mmpi.venues.hyperliquid.names import OrderNames

MAX_LATELY: Final = 4096
"""Fills noted in one round: twice the longest list that the venue sends (2000, "Info endpoint"). A round lasts until
it is answered or a new one begins, which in a halt may be long."""


class Reconciliation:
    """Gathers the answers of one round."""

    def __init__(self, spot: frozenset[str] = frozenset()) -> None:
        """Start with nothing answered; `spot` are the coins whose position is a balance of their base token."""
        self._spot: frozenset[str] = spot
        self.spot_state: SpotState | None = None
        self.open_orders: list[WireOrder] | None = None
        self.state: ClearinghouseState | None = None
        self.fills: list[WireFill] | None = None
        self._lately: dict[int, WireFill] = {}

    def complete(self) -> bool:
        """Return whether all answers are in."""
        perps = self.open_orders is not None and self.state is not None and self.fills is not None
        return perps and (self.spot_state is not None or not self._spot)

    def saw(self, fills: Sequence[WireFill]) -> None:
        """Note fills that arrived, by whatever way, since the round began."""
        for fill in fills:
            self._lately[fill.tid] = fill
        while len(self._lately) > MAX_LATELY:
            del self._lately[next(iter(self._lately))]

    def orders(
        self, instruments: Mapping[str, Instrument], names: OrderNames, *, adopt: bool = False
    ) -> tuple[OpenOrder, ...]:
        """Return our live orders, with `adopt` all but stops; learns their names. ConfigError for one off the grid."""
        ours: list[OpenOrder] = []
        for order in self.open_orders or ():
            cloid = order.cloid or names.cloid(order.oid)
            instrument = instruments.get(order.coin)
            if adopt and instrument is not None and not order.is_trigger and not names.is_ours(cloid):
                cloid = names.adopt(order.oid, cloid)
            if cloid is None or instrument is None or not names.is_ours(cloid):
                continue
            names.learn(order.oid, cloid, live=True)
            ours.append(open_order(order, instrument, cloid))
        names.set_live(order.oid for order in self.open_orders or ())
        return tuple(ours)

    def positions(self, instruments: Mapping[str, Instrument]) -> tuple[tuple[str, Lots], ...]:
        """Return the position in every instrument, zeros too; ConfigError if a number is off the grid.

        The answers are not of one instant. The state is dated, so fills of a later date that we have received are
        added: otherwise a fill between the answers would be reported and then be missing from the position.
        """
        lots = dict.fromkeys(instruments, 0)
        if self.state is None:
            return ()
        for held in self.state.asset_positions:
            coin = held.position.coin
            if coin in lots:
                lots[coin] = instruments[coin].lots(plain(held.position.szi))
        for balance in self.spot_state.balances if self.spot_state is not None else ():
            for coin in self._spot:
                if instruments[coin].base == balance.coin:
                    # Fees are taken from what was bought: what is left over of a lot cannot be sold.
                    lots[coin] = instruments[coin].whole_lots(plain(balance.total))
        for fill in self._lately.values():
            if fill.coin in lots and 0 < self.state.time < fill.time:
                lots[fill.coin] += side_of(fill.side) * instruments[fill.coin].lots(plain(fill.sz))
        fitting(*lots.values())
        return tuple((instruments[coin].name, size) for coin, size in lots.items())


def open_order(order: WireOrder, instrument: Instrument, cloid: str) -> OpenOrder:
    """Return a live order in ticks and lots; ConfigError if a number is off the grid."""
    price, size = instrument.ticks(plain(order.limit_px)), instrument.lots(plain(order.sz))
    fitting(price, size)
    return OpenOrder(instrument.name, cloid, str(order.oid), side_of(order.side), price, size)
