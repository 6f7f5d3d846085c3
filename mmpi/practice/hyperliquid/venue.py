"""The venue itself, without IO: signed actions in, answers and stream messages out.

Invariant: only an action whose signature, nonce and expiry hold changes anything, and only in its signer's account.
It must not know sockets, latency or the wall clock.
"""

from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Final

from mmpi.errors import ConfigError
from mmpi.events import ExecReport, ExecType, MarketEvent, Trade
from mmpi.instrument import BUY, Instrument, Nanos
from mmpi.practice.hyperliquid import messages
from mmpi.practice.hyperliquid.account import Account, Fill, Nonces, Order
from mmpi.practice.hyperliquid.entry import new_order, placed, sentence
from mmpi.practice.hyperliquid.feed import Feed
from mmpi.practice.hyperliquid.messages import Json, SignedAction, UnprocessableError, millis, ok, refusal
from mmpi.practice.hyperliquid.rules import DEFAULT, Rules
from mmpi.practice.hyperliquid.signatures import agent_digest, connection_id, recover
from mmpi.practice.hyperliquid.streams import Hub
from mmpi.practice.hyperliquid.views import control_order, order_update, user_fill
from mmpi.practice.keys import Registry
from mmpi.sim.exchange import SELF_TRADE, WOULD_INCREASE, Matching, SimConfig

CANCELED: Final[Mapping[str, str]] = {SELF_TRADE: "selfTradeCanceled", WOULD_INCREASE: "reduceOnlyCanceled"}
"""The venue's status of an order that it cancelled itself, by the simulated exchange's reason."""
MAX_SIGNERS: Final = 100
"""Far above what a practice needs; it bounds the accounts, which only signers can open."""


class Venue:
    """Accounts in front of one simulated exchange."""

    def __init__(
        self,
        instruments: Mapping[str, Instrument],
        registry: Registry,
        hub: Hub,
        *,
        mainnet: bool,
        first_id: int,
        rules: Rules = DEFAULT,
    ) -> None:
        """`first_id` is the first oid and tid; growing from one start to the next, it keeps them unique."""
        self.registry = registry
        self._hub = hub
        self._mainnet = mainnet
        self._rules = rules
        self._assets = tuple(instruments.values())
        self._matching = Matching(instruments, SimConfig(), first_id)
        self.feed = Feed(instruments, self._matching, hub, first_id)
        self._accounts: dict[str, Account] = {}
        self._nonces: dict[str, Nonces] = {}
        self._unnamed = 0

    def account(self, address: str) -> Account | None:
        """Return the account of an address, None while it has never acted."""
        return self._accounts.get(address)

    def placed_log(self) -> list[Json]:
        """Return the latest accepted orders of all accounts, oldest first, as `/control/placed` lists them."""
        return []

    def fill_log(self) -> list[Json]:
        """Return the latest fills of all accounts, oldest first, as `/control/fills` lists them."""
        return []

    def states(self) -> Json:
        """Return each account's standing by its address, as `/control/state` shows it."""
        return {}

    def live_orders(self) -> list[Json]:
        """Return every live order of every account, as `/control/orders` lists them."""
        return [control_order(order) for account in self._accounts.values() for order in account.open_orders()]

    def on_market(self, event: MarketEvent) -> None:
        """Let a market event fill orders, then show it to the public."""
        self._settle(self._matching.on_market(event))
        self.feed.on_market(event)

    def tick(self, now: Nanos) -> None:
        """Do everything that is due by time."""

    def act(self, body: Json, now: Nanos) -> Json:
        """Return the answer to a signed action; UnprocessableError if the body has not the form of one."""
        request = messages.convert(body, SignedAction)
        signer = self._signer(request)
        try:
            address = self.registry.account(signer)
        except ConfigError as error:
            return refusal(str(error))
        if address is None:
            return refusal(messages.UNKNOWN_USER.format(address=signer))
        reason = self._refuse(request, signer, millis(now))
        if reason:
            return refusal(reason)
        try:
            action = messages.convert_action(request.action)
        except UnprocessableError as error:
            return refusal(messages.INVALID_ACTION.format(why=error))
        return self._execute(action, self._accounts.setdefault(address, Account(address)), now)

    def _signer(self, request: SignedAction) -> str:
        try:
            connection = connection_id(request.action, request.nonce, request.vault_address, request.expires_after)
            signature = request.signature
            return recover(agent_digest(connection, mainnet=self._mainnet), signature.r, signature.s, signature.v)
        except ValueError as error:
            raise UnprocessableError(str(error)) from None

    def _refuse(self, request: SignedAction, signer: str, now_ms: int) -> str:
        """Return why the action is not processed at all, "" if it is; its nonce is then used."""
        if signer not in self._nonces:
            if len(self._nonces) >= MAX_SIGNERS:
                return messages.TOO_MANY_ACCOUNTS
            self._nonces[signer] = Nonces()
        if reason := self._nonces[signer].refuse(request.nonce, now_ms):
            return reason
        if request.expires_after is not None and request.expires_after < now_ms:
            return messages.EXPIRED.format(expires=request.expires_after, now=now_ms)
        return messages.NO_VAULTS if request.vault_address is not None else ""

    def _execute(self, action: messages.Action, account: Account, now: Nanos) -> Json:
        match action:
            case messages.OrderAction():
                account.requests += len(action.orders)
                return ok("order", [self._place(order, account, now) for order in action.orders])
            case messages.CancelAction():
                account.requests += len(action.cancels)
                return ok("cancel", [self._cancel(account, item.a, item.o, now) for item in action.cancels])
            case messages.CancelByCloidAction():
                account.requests += len(action.cancels)
                return ok("cancel", [self._cancel(account, item.asset, item.cloid, now) for item in action.cancels])
            case _:
                account.requests += 1
                return refusal(messages.NO_DEAD_MAN)

    def _place(self, request: messages.OrderRequest, account: Account, now: Nanos) -> Json:
        if account.full:
            return {"error": messages.TOO_MANY_ORDERS}
        self._unnamed += 1
        new = new_order(request, self._assets, unnamed=f"unnamed {self._unnamed}")
        if isinstance(new, str):
            return {"error": new}
        instrument = self._assets[request.a]
        reports = self._matching.place(new, account.address, now)
        if reports[0].exec_type is ExecType.REJECTED:
            return {"error": sentence(reports[0].reason, self.feed.best(instrument))}
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
        self._settle(report for report in reports if report.order_id != reports[0].order_id)
        mine = [report for report in reports if report.order_id == reports[0].order_id]
        return placed(order, self._report(account, order, mine))

    def _cancel(self, account: Account, asset: int, name: int | str, now: Nanos) -> Json | str:
        order = account.order(name)
        known = 0 <= asset < len(self._assets) and order is not None and order.instrument == self._assets[asset]
        if order is None or not known or order.status != "open":
            return {"error": messages.NEVER_PLACED}
        self._report(account, order, self._matching.cancel(str(order.oid), now))
        return "success"

    def _settle(self, reports: Iterable[ExecReport]) -> None:
        """Book reports on resting orders of any account."""
        for order_id, group in groupby(reports, key=lambda report: report.order_id):
            account = self._accounts[self._matching.owner(order_id)]
            order = account.order(int(order_id))
            assert order is not None, "every accepted order is in its account"
            self._report(account, order, group)

    def _report(self, account: Account, order: Order, reports: Iterable[ExecReport]) -> list[Fill]:
        """Return the fills in reports on one order, having booked and streamed them."""
        fills: list[Fill] = []
        for report in reports:
            order.status_timestamp = report.recv_ts
            if report.exec_type is ExecType.TRADE:
                fills.append(account.fill(order, report))
            elif report.exec_type is ExecType.CANCELED:
                account.finish(order, CANCELED.get(report.reason, "canceled"), report.recv_ts)
            elif report.exec_type is ExecType.EXPIRED:
                account.finish(order, "canceled" if fills else "iocCancelRejected", report.recv_ts)
        if order.remaining == 0:
            account.finish(order, "filled", order.status_timestamp)
        self._stream(order, fills)
        return fills

    def _stream(self, order: Order, fills: list[Fill]) -> None:
        user = order.account
        self._hub.publish(("orderUpdates", user), [order_update(order)])
        if not fills:
            return
        shown = [user_fill(fill) for fill in fills]
        self._hub.publish(("userFills", user), {"user": user, "fills": shown})
        self._hub.publish(("userEvents", user), {"fills": shown})
        for fill in fills:
            if not fill.maker:
                users = (user, messages.NOBODY) if order.side == BUY else (messages.NOBODY, user)
                name = order.instrument.name
                self.feed.trade(Trade(fill.ts, name, fill.ts, 0, order.side, fill.price, fill.size), users)
