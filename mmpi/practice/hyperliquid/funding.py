"""Funding: what the market's marks say is due, paid to every position on the hour.

Invariant: each due time is paid once to every account, on the position that it then has.
It must not know orders or sockets.

The notional is that of the oracle price (Hyperliquid "Funding", read 2026-11-21).
"""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Final

from mmpi.events import Mark
from mmpi.instrument import Instrument, Nanos
from mmpi.practice.hyperliquid.account import Account
from mmpi.practice.hyperliquid.messages import Json, millis, rate
from mmpi.practice.hyperliquid.streams import Hub
from mmpi.practice.hyperliquid.views import funding_event, user_funding
from mmpi.sim.funding import FundingSchedule, Payment

MAX_RATES: Final = 500
"""The most that one answer to `fundingHistory` has."""


class FundingDesk:
    """The coming payments of every perpetual, and the rates of the last ones."""

    def __init__(self, instruments: Mapping[str, Instrument], hub: Hub) -> None:
        self._instruments = instruments
        self._hub = hub
        self._schedule = FundingSchedule("index")
        self._paid: dict[str, deque[Payment]] = {name: deque(maxlen=MAX_RATES) for name in instruments}

    def on_mark(self, mark: Mark) -> None:
        """Take what a mark tells of the next payment; that of a coin without funding tells nothing."""
        if mark.instrument in self._instruments:
            self._schedule.on_mark(mark)

    def pay(self, accounts: Iterable[Account], now: Nanos) -> None:
        """Pay what is due up to `now`, and stream it."""
        if not 0 < self._schedule.next_ts <= now:
            return
        everyone = tuple(accounts)
        for payment in self._schedule.due(now):
            instrument = self._instruments[payment.instrument]
            self._paid[payment.instrument].append(payment)
            for account in everyone:
                paid = account.fund(instrument, payment)
                if paid is not None:
                    user = account.address
                    self._hub.publish(("userFundings", user), {"user": user, "fundings": [user_funding(paid)]})
                    self._hub.publish(("userEvents", user), {"funding": funding_event(paid)})

    def history(self, name: str) -> list[Json]:
        """Return the latest rates of a coin, oldest first; the practice venue keeps no premium."""
        return [
            {"coin": name, "fundingRate": rate(each.rate), "premium": "0.0", "time": millis(each.ts)}
            for each in self._paid.get(name, ())
        ]
