"""What becomes of orders: placed, modified and cancelled in an account, booked, streamed and written down.

Invariant: each report of the simulated exchange is booked once, in the account that owns the order, and then streamed.
It must not know signatures, budgets or how often an account may ask.

A modify cancels the old order and places a new one under an oid of its own. What can be said against the new order
without a look at market or account (asset, tick, lot, cloid, time in force) refuses the whole: the old one stays. What
only its placing shows (minimum value, post-only, reduce-only, balance) comes when the old one is gone already: seen as
"Error placing new order during modify" for post-only (public code that follows the venue's blocks, read 2026-11-28);
on which side of that line the minimum value falls is not in our sources.
"""

from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Final

import msgspec

from mmpi.actions import NewOrder, TimeInForce
from mmpi.events import ExecReport, ExecType, Trade
from mmpi.instrument import BUY, Instrument, Nanos
from mmpi.practice.hyperliquid import words
from mmpi.practice.hyperliquid.account import Account, Fill, Order
from mmpi.practice.hyperliquid.entry import new_order, placed, sentence
from mmpi.practice.hyperliquid.feed import Feed
from mmpi.practice.hyperliquid.ledger import Ledger
from mmpi.practice.hyperliquid.messages import NOBODY, Json, ModifyRequest, OrderRequest
from mmpi.practice.hyperliquid.spot import PAIRS
from mmpi.practice.hyperliquid.streams import Hub
from mmpi.practice.hyperliquid.views import order_update, user_fill
from mmpi.sim.exchange import SELF_TRADE, WOULD_INCREASE, Matching

CANCELED: Final[Mapping[str, str]] = {SELF_TRADE: "selfTradeCanceled", WOULD_INCREASE: "reduceOnlyCanceled"}
"""The venue's status of an order that it cancelled itself, by the simulated exchange's reason."""
SCHEDULED: Final = "scheduledCancel"
NON_USER: Final = frozenset({*CANCELED.values(), SCHEDULED})
"""Of these the venue tells as `nonUserCancel` too; that it does so for a dead-man switch is not in our sources."""


class Execution:
    """The orders of every account in one simulated exchange."""

    def __init__(
        self,
        assets: Mapping[int, Instrument],
        matching: Matching,
        feed: Feed,
        hub: Hub,
        accounts: Mapping[str, Account],
    ) -> None:
        """`accounts` by their address; the caller adds to them."""
        self.ledger = Ledger()
        self._assets = assets
        self._matching = matching
        self._feed = feed
        self._hub = hub
        self._accounts = accounts
        self._unnamed = 0
        self._new_first = False

    def place(self, request: OrderRequest, account: Account, now: Nanos) -> Json:
        """Return the status of one order of an `order` action."""
        new = self._new_order(request)
        return self._accept(new, request, account, now) if isinstance(new, NewOrder) else {"error": new}

    def modify(self, request: ModifyRequest, always: bool, account: Account, now: Nanos) -> Json:
        """Return the status of the order that takes another's place; the two are streamed in either order, by turns."""
        old = account.order(request.oid)
        live = old if old is not None and old.status == "open" and self._is_asset(request.order.a, old) else None
        if live is None and not always:
            return {"error": words.MODIFY_GONE}
        new = self._new_order(request.order)
        if isinstance(new, NewOrder) and not always:
            new = _resting(new)
        if not isinstance(new, NewOrder):
            return {"error": new}
        if live is None:
            return self._accept(new, request.order, account, now)
        self._book(account, live, self._matching.cancel(str(live.oid), now))
        self._new_first = not self._new_first
        if not self._new_first:
            self._stream(live, [])
        answer = self._accept(new, request.order, account, now)
        if self._new_first:
            self._stream(live, [])
        return {"error": words.MODIFY_REFUSED.format(why=answer["error"])} if "error" in answer else answer

    def cancel(self, account: Account, asset: int, name: int | str, now: Nanos) -> Json | str:
        """Return the status of one order of a cancel action, named by oid or cloid."""
        order = account.order(name)
        if order is None or order.status != "open" or not self._is_asset(asset, order):
            return {"error": words.NEVER_PLACED}
        self._report(account, order, self._matching.cancel(str(order.oid), now))
        return "success"

    def cancel_all(self, account: Account, now: Nanos) -> None:
        """Cancel every order of an account whose dead-man switch fired."""
        for order in tuple(account.open_orders()):
            self._report(account, order, self._matching.cancel(str(order.oid), now), SCHEDULED)

    def settle(self, reports: Iterable[ExecReport]) -> None:
        """Book and stream reports on resting orders of any account."""
        for order_id, group in groupby(reports, key=lambda report: report.order_id):
            account = self._accounts[self._matching.owner(order_id)]
            order = account.order(int(order_id))
            assert order is not None, "every accepted order is in its account"
            self._report(account, order, group)

    def _new_order(self, request: OrderRequest) -> NewOrder | str:
        self._unnamed += 1
        return new_order(request, self._assets, unnamed=f"unnamed {self._unnamed}")

    def _is_asset(self, asset: int, order: Order) -> bool:
        return self._assets.get(asset) == order.instrument

    def _accept(self, new: NewOrder, request: OrderRequest, account: Account, now: Nanos) -> Json:
        """Return the status of an order that is in form."""
        instrument = self._assets[request.a]
        if account.full:
            return {"error": words.TOO_MANY_ORDERS}
        pair = PAIRS.get(new.instrument)
        if pair is not None and not account.affords(pair, new.side, new.price, new.size):
            return {"error": words.SPOT_BALANCE.format(asset=request.a)}
        reports = self._matching.place(new, account.address, now)
        if reports[0].exec_type is ExecType.REJECTED:
            return {"error": sentence(reports[0].reason, request.a, instrument, self._feed.best(instrument))}
        order = Order(
            oid=int(reports[0].order_id),
            account=account.address,
            instrument=instrument,
            cloid=request.c,
            side=new.side,
            price=new.price,
            size=new.size,
            time_in_force=new.time_in_force,
            reduce_only=new.reduce_only,
            timestamp=now,
            remaining=new.size,
        )
        account.add(order)
        self.ledger.place(order)
        self.settle(report for report in reports if report.order_id != reports[0].order_id)
        mine = [report for report in reports if report.order_id == reports[0].order_id]
        return placed(order, request.a, self._report(account, order, mine))

    def _report(
        self, account: Account, order: Order, reports: Iterable[ExecReport], canceled: str = "canceled"
    ) -> list[Fill]:
        """Return the fills in reports on one order, having booked and streamed them."""
        fills = self._book(account, order, reports, canceled)
        self._stream(order, fills)
        return fills

    def _book(
        self, account: Account, order: Order, reports: Iterable[ExecReport], canceled: str = "canceled"
    ) -> list[Fill]:
        fills: list[Fill] = []
        for report in reports:
            order.status_timestamp = report.recv_ts
            if report.exec_type is ExecType.TRADE:
                fills.append(account.fill(order, report))
                self.ledger.fill(fills[-1])
            elif report.exec_type is ExecType.CANCELED:
                account.finish(order, CANCELED.get(report.reason, canceled), report.recv_ts)
            elif report.exec_type is ExecType.EXPIRED:
                account.finish(order, "canceled" if fills else "iocCancelRejected", report.recv_ts)
        if order.remaining == 0:
            account.finish(order, "filled", order.status_timestamp)
        return fills

    def _stream(self, order: Order, fills: list[Fill]) -> None:
        user = order.account
        self._hub.publish(("orderUpdates", user), [order_update(order)])
        if order.status in NON_USER:
            gone = {"nonUserCancel": [{"coin": order.instrument.name, "oid": order.oid}]}
            self._hub.publish(("userEvents", user), gone)
        if not fills:
            return
        shown = [user_fill(fill) for fill in fills]
        self._hub.publish(("userFills", user), {"user": user, "fills": shown})
        self._hub.publish(("userEvents", user), {"fills": shown})
        for fill in fills:
            if not fill.maker:
                users = (user, NOBODY) if order.side == BUY else (NOBODY, user)
                name = order.instrument.name
                self._feed.trade(Trade(fill.ts, name, fill.ts, 0, order.side, fill.price, fill.size), users)


def _resting(new: NewOrder) -> NewOrder | str:
    """Return a modified order as the venue takes it without `always_place`: a Gtc becomes Alo, no Ioc."""
    if new.time_in_force is TimeInForce.IOC:
        return words.MODIFY_TIF
    return msgspec.structs.replace(new, time_in_force=TimeInForce.POST_ONLY)
