"""Hyperliquid's session without IO: many instruments, private streams and posts on one WebSocket.

Invariant: what the venue says becomes events, what cannot be read becomes a count; `receive` raises nothing.
It must not read a clock, open a socket, or decide anything about orders.

Source: Hyperliquid documentation, "WebSocket", "Exchange endpoint" and "Nonces and API wallets" (read 2026-11-21).
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from mmpi.actions import Approved, RequestReconcile
from mmpi.errors import ConfigError
from mmpi.events import Budget, Event, ExecReport, ExecType, Funding, Reconciled, VenueFault
from mmpi.instrument import MILLISECOND, Instrument, Nanos, money
from mmpi.session import NOTHING, Counted
from mmpi.venues.hyperliquid import requests
from mmpi.venues.hyperliquid.answers import (
    BudgetInfo,
    FillsInfo,
    OpenOrdersInfo,
    OrderStatusInfo,
    SpotStateInfo,
    StateInfo,
)
from mmpi.venues.hyperliquid.fills import FillLedger
from mmpi.venues.hyperliquid.messages import (
    FIRST_SPOT,
    AssetCtxMessage,
    BookMessage,
    ErrorMessage,
    Message,
    OrderUpdate,
    OrderUpdatesMessage,
    PostData,
    PostMessage,
    PostResponse,
    SpotAssetCtxMessage,
    SubscriptionMessage,
    TradesMessage,
    UserEvents,
    UserEventsMessage,
    UserFills,
    UserFillsMessage,
    UserFundings,
    UserFundingsMessage,
    WireAssetCtx,
    WireBook,
    WireTrade,
    book_snapshot,
    fitting,
    is_of_no_interest,
    plain,
    public_trade,
    read,
    venue_mark,
)
from mmpi.venues.hyperliquid.names import OrderNames
from mmpi.venues.hyperliquid.outbox import Outbox
from mmpi.venues.hyperliquid.reconcile import Reconciliation
from mmpi.venues.hyperliquid.reports import (
    Question,
    Sent,
    batch_reports,
    dead_man_report,
    error_text,
    query_report,
    update_report,
)
from mmpi.venues.hyperliquid.signing import Signer
from mmpi.venues.hyperliquid.words import DELISTED, is_account_fault

VENUE: Final = "hyperliquid"
MAX_IN_FLIGHT: Final = 90
"""Posts without an answer up to which new orders are sent; the venue allows 100 ("Rate limits")."""
MAX_ERROR: Final = 200
"""Characters of a complaint that are kept."""
_RECONCILING: Final = (Question.OPEN_ORDERS, Question.STATE, Question.FILLS)
_PRIVATE: Final = ("orderUpdates", "userFills", "userFundings", "userEvents")
_ENDS: Final = (ExecType.CANCELED, ExecType.REJECTED, ExecType.FILLED)
_UNREADABLE: Final = (msgspec.MsgspecError, ValueError, ArithmeticError, RecursionError, ConfigError)


class HyperliquidSession:
    """Speaks for one account; without a signer it is market data only."""

    def __init__(
        self,
        instruments: Mapping[str, tuple[Instrument, int]],
        account: str,
        signer: Signer | None,
        cl_ord_prefix: str,
        expires_after_ms: int,
        *,
        vault: str = "",
        adopt: bool = False,
        counted: Counted = NOTHING,
        fresh: frozenset[str] = frozenset(),
    ) -> None:
        """Take the instruments with their asset numbers, by coin (which is the instrument's name too).

        `account` is whose orders these are: with a `vault` the vault's address. `adopt`: orders that are not ours, in
        these instruments, are taken over as if they were. `counted`: fills and funding of before this process that are
        told, though an earlier one may know them. Of the coins in `fresh` none is.
        """
        self._unreadable: int = 0
        self._ignored: int = 0
        self.unknown_errors: int = 0
        self.last_error: str = ""
        self._instruments: dict[str, Instrument] = {coin: pair[0] for coin, pair in instruments.items()}
        self._spot: frozenset[str] = frozenset(coin for coin, pair in instruments.items() if pair[1] >= FIRST_SPOT)
        self._account: str = account
        self._is_private: bool = signer is not None
        self._adopt: bool = adopt
        self._names: OrderNames = OrderNames(cl_ord_prefix)
        self._fills: FillLedger = FillLedger(
            self._instruments, self._names, expires_after_ms * MILLISECOND, counted.fills_from_ms, fresh
        )
        self._rounds: tuple[Question, ...] = (*_RECONCILING, Question.SPOT_STATE) if self._spot else _RECONCILING
        assets = {coin: pair[1] for coin, pair in instruments.items()}
        self._out: Outbox = Outbox(
            self._instruments, assets, account, signer, expires_after_ms, vault, self._rounds
        )
        self._funded_ms: int = counted.funded_ms
        """When the last funding payment that we know of was made; -1 = not told yet."""
        self._unfunded: frozenset[str] = fresh
        """Coins of which the next list of payments is history."""
        self._book_since_ms: dict[str, int] = {}
        self._unconfirmed: set[str] = set()
        self._round: Reconciliation | None = None

    @property
    def unreadable(self) -> int:
        """Return how many frames and fills could not be read."""
        return self._unreadable + self._fills.unreadable

    @property
    def ignored(self) -> int:
        """Return how much was sound but of no interest: channels, coins, answers, trades before the first book."""
        return self._ignored + self._fills.ignored

    @property
    def counted(self) -> Counted:
        """Return what another process is to count."""
        return Counted(self._fills.counted_from_ms, self._funded_ms)

    def connected(self, now: Nanos) -> list[bytes]:  # noqa: ARG002 (the port's signature)
        """Return the subscriptions."""
        frames = [
            requests.subscribe(channel, coin=coin)
            for coin in self._instruments
            for channel in ("l2Book", "trades", "activeAssetCtx")
        ]
        self._unconfirmed = set(_PRIVATE if self._is_private else ())
        if self._is_private:
            frames += [requests.subscribe(channel, user=self._account) for channel in _PRIVATE]
        return frames

    def set_offset(self, offset: Nanos) -> None:
        """Take how far the caller's clock is ahead of the venue's: what is signed bears the venue's time."""
        self._out.offset = offset

    def withdraw(self) -> None:
        """Forget the frame built last: it was not sent."""
        self._out.withdraw()

    def is_deaf(self) -> bool:
        """Return whether the venue has not confirmed yet that it will tell us of our orders and fills."""
        return bool(self._unconfirmed)

    def is_full(self, now: Nanos) -> bool:
        """Return whether so many posts are without an answer that no new order may be sent."""
        return self._out.waiting(now) >= MAX_IN_FLIGHT

    def disconnected(self, recv_ts: Nanos) -> list[Event]:
        """Return a LOST report for every order that a post without an answer was about."""
        self._book_since_ms.clear()
        self._round = None
        return [sent.report(recv_ts, ExecType.LOST, reason="disconnected") for sent in self._out.lost()]

    def ping(self) -> bytes:
        """Return the frame that keeps an idle connection open (the venue closes it after 60 s)."""
        return requests.PING

    def receive(self, frame: bytes | str, recv_ts: Nanos) -> list[Event]:
        """Return the events in one frame; what cannot be read is counted."""
        try:
            message = read(frame)
            if isinstance(message, BookMessage):
                events = self._book(message.data, recv_ts)
            else:
                events = self._other(message, recv_ts)
        except _UNREADABLE:
            if is_of_no_interest(frame):
                self._ignored += 1
            else:
                self._unreadable += 1
            return []
        if self._fills.held:
            events += self._fills.release(recv_ts)
        return events

    def send(self, actions: Sequence[Approved], now: Nanos) -> list[bytes]:
        """Return the frames: all cancels under one signature, then all amends, all places, then questions."""
        frames = self._out.frames(actions, now)
        if any(isinstance(approved.action, RequestReconcile) for approved in actions):
            self._round = Reconciliation(self._spot)
        return frames

    # Frames in

    def _book(self, book: WireBook, recv_ts: Nanos) -> list[Event]:
        instrument = self._instruments.get(book.coin)
        if instrument is None:
            self._ignored += 1
            return []
        self._book_since_ms.setdefault(book.coin, book.time)
        return [book_snapshot(book, instrument, recv_ts)]

    def _other(self, message: Message, recv_ts: Nanos) -> list[Event]:
        match message:
            case TradesMessage():
                return self._trades(message.data, recv_ts)
            case AssetCtxMessage() | SpotAssetCtxMessage():
                return self._context(message.data, recv_ts)
            case OrderUpdatesMessage():
                return [event for update in message.data for event in self._updated(update, recv_ts)]
            case UserFillsMessage():
                return self._filled(message.data, recv_ts)
            case PostMessage():
                return self._answered(message.data, recv_ts)
            case UserFundingsMessage():
                return self._funded(message.data, recv_ts)
            case UserEventsMessage():
                return self._happened(message.data, recv_ts)
            case SubscriptionMessage():
                self._unconfirmed.discard(message.data.subscription.type)
            case ErrorMessage():
                self._complaint(message.data)
        return []

    def _trades(self, trades: list[WireTrade], recv_ts: Nanos) -> list[Event]:
        """Return the trades since this connection's first book; every subscribe repeats older ones."""
        events: list[Event] = []
        for trade in trades:
            since = self._book_since_ms.get(trade.coin)
            if since is None or trade.time <= since:
                self._ignored += 1
            else:
                events.append(public_trade(trade, self._instruments[trade.coin], recv_ts))
        return events

    def _context(self, context: WireAssetCtx, recv_ts: Nanos) -> list[Event]:
        instrument = self._instruments.get(context.coin)
        if instrument is None:
            self._ignored += 1
            return []
        return [venue_mark(context, instrument, recv_ts)]

    def _updated(self, update: OrderUpdate, recv_ts: Nanos) -> list[Event]:
        coin = update.order.coin
        cloid = update.order.cloid or self._names.cloid(update.order.oid)
        if cloid is None or not self._names.is_ours(cloid) or coin not in self._instruments:
            self._ignored += 1
            return []
        events: list[Event] = [self._noted(update_report(Sent(coin, cloid), update, recv_ts))]
        if update.status == DELISTED:
            events.append(VenueFault(recv_ts, VENUE, coin, "this market is delisted"))
        return events

    def _funded(self, user: UserFundings, recv_ts: Nanos) -> list[Event]:
        """Return the payments that are new; the first list ever is history."""
        first = self._funded_ms < 0
        events: list[Event] = []
        for paid in sorted(user.fundings, key=lambda each: each.time):
            is_old = user.is_snapshot and (first or paid.time <= self._funded_ms or paid.coin in self._unfunded)
            if is_old or paid.coin not in self._instruments:
                self._ignored += 1
            else:
                name, at, amount = f"{paid.coin}:{paid.time}", paid.time * MILLISECOND, money(plain(paid.usdc))
                fitting(amount)
                events.append(Funding(recv_ts, self._instruments[paid.coin].name, at, name, amount))
        # Last of all: a list that cannot be read was none.
        self._funded_ms = max([self._funded_ms, 0, *[paid.time for paid in user.fundings]])
        if user.is_snapshot:
            self._unfunded = frozenset()
        return events

    def _happened(self, user: UserEvents, recv_ts: Nanos) -> list[Event]:
        """Return what the venue itself did to the account's orders and positions; fills come by their own channel."""
        events: list[Event] = []
        for canceled in user.non_user_cancel:
            cloid = self._names.cloid(canceled.oid)
            if cloid is not None and canceled.coin in self._instruments:
                sent = Sent(canceled.coin, cloid, str(canceled.oid))
                events.append(self._noted(sent.report(recv_ts, ExecType.CANCELED, reason="canceled by the venue")))
        if user.liquidation is not None and user.liquidation.liquidated_user.lower() == self._account:
            events.append(VenueFault(recv_ts, VENUE, "", "the venue liquidated this account"))
        return events

    def _filled(self, user: UserFills, recv_ts: Nanos) -> list[Event]:
        if self._round is not None:
            self._round.saw(user.fills)
        take = self._fills.recent if user.is_snapshot else self._fills.new
        return [*take(user.fills, recv_ts, wait=self._out.is_placing(recv_ts))]

    def _answered(self, data: PostData, recv_ts: Nanos) -> list[Event]:
        post = self._out.take(data.id)
        if post is None:
            self._ignored += 1
            return []
        response = data.response
        if post.question in self._rounds:
            return self._reconciled(post.question, response, recv_ts)
        if post.question is Question.BUDGET:
            return self._budgeted(response, recv_ts)
        if post.question is Question.DEAD_MAN:
            report = dead_man_report(VENUE, post, response, recv_ts)
            return [report, *self._fault(report.reason, recv_ts)]
        try:
            if post.question is Question.QUERY:
                reports = [self._queried(post.orders[0], response, recv_ts)]
            else:
                reports = batch_reports(post, response, recv_ts)
        except msgspec.MsgspecError:
            # The fate of the orders is what matters here; the answer that tells it is unreadable.
            self._unreadable += 1
            sent = (*post.replaced, *post.orders)
            reports = [each.report(recv_ts, ExecType.LOST, reason="unreadable answer") for each in sent]
        faults = next((fault for report in reports if (fault := self._fault(report.reason, recv_ts))), [])
        return [*[self._noted(report) for report in reports], *faults]

    def _fault(self, reason: str, recv_ts: Nanos) -> list[Event]:
        """Return the event that ends all trading if the venue's words mean that."""
        return [VenueFault(recv_ts, VENUE, "", reason[:MAX_ERROR])] if is_account_fault(reason) else []

    def _budgeted(self, response: PostResponse, recv_ts: Nanos) -> list[Event]:
        if response.type != "info":
            self._complaint(error_text(response))
            return []
        told = msgspec.json.decode(response.payload, type=BudgetInfo).data
        return [Budget(recv_ts, VENUE, told.used, told.cap)]

    def _queried(self, sent: Sent, response: PostResponse, recv_ts: Nanos) -> ExecReport:
        if response.type != "info":
            return sent.report(recv_ts, ExecType.LOST, reason=error_text(response))
        return query_report(sent, msgspec.json.decode(response.payload, type=OrderStatusInfo).data, recv_ts)

    def _reconciled(self, question: Question, response: PostResponse, recv_ts: Nanos) -> list[Event]:
        picture = self._round
        if picture is None:
            return []
        if response.type != "info":
            self._round = None
            self._complaint(error_text(response))
            return []
        payload = response.payload
        if question is Question.OPEN_ORDERS:
            picture.open_orders = msgspec.json.decode(payload, type=OpenOrdersInfo).data
        elif question is Question.STATE:
            picture.state = msgspec.json.decode(payload, type=StateInfo).data
        elif question is Question.SPOT_STATE:
            picture.spot_state = msgspec.json.decode(payload, type=SpotStateInfo).data
        else:
            picture.fills = msgspec.json.decode(payload, type=FillsInfo).data
            picture.saw(picture.fills)
        return self._finish(picture, recv_ts) if picture.complete() else []

    def _finish(self, picture: Reconciliation, recv_ts: Nanos) -> list[Event]:
        self._round = None
        orders = picture.orders(self._instruments, self._names, adopt=self._adopt)
        positions = picture.positions(self._instruments)
        events: list[Event] = [*self._fills.recent(picture.fills or (), recv_ts, wait=False)]
        # The positions hold every fill received, so none may be told later.
        events += self._fills.release(recv_ts, all_of_them=True)
        return [*events, Reconciled(recv_ts, VENUE, orders, positions)]

    def _noted(self, report: ExecReport) -> ExecReport:
        """Return the report, having learnt from it the order's name and whether it can still trade."""
        if report.exec_type is ExecType.LOST:
            self._complaint(report.reason)
        elif report.order_id and (report.exec_type is ExecType.NEW or report.exec_type in _ENDS):
            self._names.learn(int(report.order_id), report.cl_ord_id, live=report.exec_type not in _ENDS)
        return report

    def _complaint(self, text: str) -> None:
        self.unknown_errors += 1
        self.last_error = text[:MAX_ERROR]
