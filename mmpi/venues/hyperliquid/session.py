"""Hyperliquid's session without IO: many instruments, private streams and posts on one WebSocket.

Invariant: what the venue says becomes events, what cannot be read becomes a count; `receive` raises nothing.
It must not read a clock, open a socket, or decide anything about orders.

Source: Hyperliquid documentation, "WebSocket", "Exchange endpoint" and "Nonces and API wallets" (read 2026-11-21).
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from mmpi.actions import Approved, CancelOrder, NewOrder, QueryOrder, RequestReconcile
from mmpi.errors import ConfigError, LocalError
from mmpi.events import Event, ExecReport, ExecType, Reconciled
from mmpi.instrument import MILLISECOND, Instrument, Nanos
from mmpi.venues.hyperliquid import requests
from mmpi.venues.hyperliquid.answers import FillsInfo, OpenOrdersInfo, OrderStatusInfo, StateInfo
from mmpi.venues.hyperliquid.fills import FillLedger
from mmpi.venues.hyperliquid.messages import (
    AssetCtxMessage,
    BookMessage,
    ErrorMessage,
    Message,
    OrderUpdate,
    OrderUpdatesMessage,
    PostData,
    PostMessage,
    PostResponse,
    TradesMessage,
    UserFills,
    UserFillsMessage,
    WireAssetCtx,
    WireBook,
    WireTrade,
    book_snapshot,
    is_of_no_interest,
    public_trade,
    read,
    venue_mark,
)
from mmpi.venues.hyperliquid.names import OrderNames
from mmpi.venues.hyperliquid.reconcile import Reconciliation
from mmpi.venues.hyperliquid.reports import (
    Post,
    Question,
    Sent,
    batch_reports,
    error_text,
    query_report,
    update_report,
)
from mmpi.venues.hyperliquid.signing import Signer

VENUE: Final = "hyperliquid"
MAX_POSTS: Final = 1024
"""Ten times what the venue allows in flight (100, "Rate limits"); older ones will not be answered any more."""
MAX_ERROR: Final = 200
"""Characters of a complaint that are kept."""
_RECONCILING: Final = (Question.OPEN_ORDERS, Question.STATE, Question.FILLS)
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
    ) -> None:
        """Take the instruments with their asset numbers, by coin (which is the instrument's name too)."""
        self._unreadable: int = 0
        self._ignored: int = 0
        self.unknown_errors: int = 0
        self.last_error: str = ""
        self._instruments: dict[str, Instrument] = {coin: pair[0] for coin, pair in instruments.items()}
        self._assets: dict[str, int] = {coin: pair[1] for coin, pair in instruments.items()}
        self._account: str = account
        self._signer: Signer | None = signer
        self._expires_after_ms: int = expires_after_ms
        self._names: OrderNames = OrderNames(cl_ord_prefix)
        self._fills: FillLedger = FillLedger(self._instruments, self._names, expires_after_ms * MILLISECOND)
        self._posts: dict[int, Post] = {}
        self._last_post: int = 0
        self._last_nonce: int = 0
        self._book_since_ms: dict[str, int] = {}
        self._round: Reconciliation | None = None

    @property
    def unreadable(self) -> int:
        """Return how many frames and fills could not be read."""
        return self._unreadable + self._fills.unreadable

    @property
    def ignored(self) -> int:
        """Return how much was sound but of no interest: channels, coins, answers, trades before the first book."""
        return self._ignored + self._fills.ignored

    def connected(self, now: Nanos) -> list[bytes]:  # noqa: ARG002 (the port's signature)
        """Return the subscriptions."""
        frames = [
            requests.subscribe(channel, coin=coin)
            for coin in self._instruments
            for channel in ("l2Book", "trades", "activeAssetCtx")
        ]
        if self._signer is not None:
            frames += [requests.subscribe(channel, user=self._account) for channel in ("orderUpdates", "userFills")]
        return frames

    def disconnected(self, recv_ts: Nanos) -> list[Event]:
        """Return a LOST report for every order that a post without an answer was about."""
        posts = list(self._posts.values())
        self._posts.clear()
        self._book_since_ms.clear()
        self._round = None
        return [sent.report(recv_ts, ExecType.LOST, reason="disconnected") for post in posts for sent in post.orders]

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
        """Return the frames: all cancels under one signature, then all places, then questions."""
        if self._signer is None:
            raise LocalError("this session has no key: it is for market data only")
        wanted = [approved.action for approved in actions]
        cancels = [action for action in wanted if isinstance(action, CancelOrder)]
        places = [action for action in wanted if isinstance(action, NewOrder)]
        frames: list[bytes] = []
        if cancels:
            frames.append(self._cancel(cancels, self._signer, now))
        if places:
            frames.append(self._place(places, self._signer, now))
        frames += [self._query(action) for action in wanted if isinstance(action, QueryOrder)]
        if any(isinstance(action, RequestReconcile) for action in wanted):
            frames += self._reconcile()
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
            case AssetCtxMessage():
                return self._context(message.data, recv_ts)
            case OrderUpdatesMessage():
                return [report for update in message.data if (report := self._updated(update, recv_ts)) is not None]
            case UserFillsMessage():
                return self._filled(message.data, recv_ts)
            case PostMessage():
                return self._answered(message.data, recv_ts)
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

    def _updated(self, update: OrderUpdate, recv_ts: Nanos) -> ExecReport | None:
        cloid = update.order.cloid
        if cloid is None or not self._names.is_ours(cloid) or update.order.coin not in self._instruments:
            self._ignored += 1
            return None
        return self._noted(update_report(Sent(update.order.coin, cloid), update, recv_ts))

    def _filled(self, user: UserFills, recv_ts: Nanos) -> list[Event]:
        if self._round is not None:
            self._round.saw(user.fills)
        take = self._fills.recent if user.is_snapshot else self._fills.new
        return [*take(user.fills, recv_ts, wait=self._is_placing())]

    def _answered(self, data: PostData, recv_ts: Nanos) -> list[Event]:
        post = self._posts.pop(data.id, None)
        if post is None:
            self._ignored += 1
            return []
        if post.question in _RECONCILING:
            return self._reconciled(post.question, data.response, recv_ts)
        try:
            if post.question is Question.QUERY:
                reports = [self._queried(post.orders[0], data.response, recv_ts)]
            else:
                reports = batch_reports(post, data.response, recv_ts)
        except msgspec.MsgspecError:
            # The fate of the orders is what matters here; the answer that tells it is unreadable.
            self._unreadable += 1
            reports = [sent.report(recv_ts, ExecType.LOST, reason="unreadable answer") for sent in post.orders]
        return [self._noted(report) for report in reports]

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
        else:
            picture.fills = msgspec.json.decode(payload, type=FillsInfo).data
            picture.saw(picture.fills)
        return self._finish(picture, recv_ts) if picture.complete() else []

    def _finish(self, picture: Reconciliation, recv_ts: Nanos) -> list[Event]:
        self._round = None
        orders = picture.orders(self._instruments, self._names)
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

    def _is_placing(self) -> bool:
        return any(post.question is Question.PLACE for post in self._posts.values())

    # Frames out

    def _place(self, places: list[NewOrder], signer: Signer, now: Nanos) -> bytes:
        orders = [(place, self._instruments[place.instrument], self._assets[place.instrument]) for place in places]
        sent = tuple(Sent(place.instrument, place.cl_ord_id) for place in places)
        return self._act(Post(Question.PLACE, sent), requests.place_action(orders), signer, now)

    def _cancel(self, cancels: list[CancelOrder], signer: Signer, now: Nanos) -> bytes:
        """Return one frame: by oid if all are known, else by our own ids, which always are."""
        if all(cancel.order_id for cancel in cancels):
            pairs = [(self._assets[cancel.instrument], int(cancel.order_id)) for cancel in cancels]
            action = requests.cancel_action(pairs)
        else:
            named = [(self._assets[cancel.instrument], cancel.cl_ord_id) for cancel in cancels]
            action = requests.cancel_by_cloid_action(named)
        sent = tuple(Sent(cancel.instrument, cancel.cl_ord_id, cancel.order_id) for cancel in cancels)
        return self._act(Post(Question.CANCEL, sent), action, signer, now)

    def _act(self, post: Post, action: dict[str, object], signer: Signer, now: Nanos) -> bytes:
        now_ms = now // MILLISECOND
        self._last_nonce = max(self._last_nonce + 1, now_ms)
        expires = now_ms + self._expires_after_ms
        return requests.action_post(self._number(post), action, signer, self._last_nonce, expires)

    def _query(self, query: QueryOrder) -> bytes:
        post = Post(Question.QUERY, (Sent(query.instrument, query.cl_ord_id, query.order_id),))
        return requests.info_post(self._number(post), "orderStatus", self._account, oid=query.cl_ord_id)

    def _reconcile(self) -> list[bytes]:
        """Return the three questions of a new round; answers to an older one will be ignored."""
        for number in [number for number, post in self._posts.items() if post.question in _RECONCILING]:
            del self._posts[number]
        self._round = Reconciliation()
        return [
            requests.info_post(self._number(Post(question)), question.value, self._account) for question in _RECONCILING
        ]

    def _number(self, post: Post) -> int:
        self._last_post += 1
        self._posts[self._last_post] = post
        if len(self._posts) > MAX_POSTS:
            del self._posts[next(iter(self._posts))]
        return self._last_post
