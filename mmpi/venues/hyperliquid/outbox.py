"""Outbox: from approved actions to numbered, signed frames, and which of them the venue has not answered yet.

One signature for all cancels of an event, one for its amends, one for its new orders; cancels go first.

Invariant: nonces only grow, every trading action expires, and all times that are signed are the venue's.
It must not know answers or what becomes of an order.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec

from mmpi.actions import (
    Action,
    AmendOrder,
    Approved,
    CancelOrder,
    NewOrder,
    QueryOrder,
    RequestBudget,
    RequestReconcile,
    ScheduleCancel,
)
from mmpi.errors import LocalError
from mmpi.instrument import MILLISECOND, SECOND, Instrument, Nanos
from mmpi.venues.hyperliquid import requests
from mmpi.venues.hyperliquid.messages import FIRST_SPOT
from mmpi.venues.hyperliquid.reports import Post, Question, Sent
from mmpi.venues.hyperliquid.signing import Signer

MAX_POSTS: Final = 1024
"""Ten times what the venue allows in flight (100, "Rate limits"); older ones will not be answered any more."""
IN_FLIGHT: Final[Nanos] = 10 * SECOND
"""A post without an answer for so long is not in flight any more, whatever became of its answer; five times the
longest that an action stays valid (settings: expires_after_ms <= 2000)."""
NONCE_AHEAD_MS: Final = 86_400_000
"""The venue takes no nonce that is more than a day ahead of its time ("Nonces and API wallets")."""


class Outbox:
    """Speaks for one account, through one signer."""

    def __init__(
        self,
        instruments: Mapping[str, Instrument],
        assets: Mapping[str, int],
        account: str,
        signer: Signer | None,
        expires_after_ms: int,
        vault: str,
        rounds: "tuple[Question, ...]",
    ) -> None:
        """`account` is whose orders these are: `vault` if there is one. `rounds`: what one reconciliation asks."""
        self.offset: Nanos = 0
        """How far the caller's clock is ahead of the venue's."""
        self._instruments: Mapping[str, Instrument] = instruments
        self._assets: Mapping[str, int] = assets
        self._account: str = account
        self._signer: Signer | None = signer
        self._expires_after_ms: int = expires_after_ms
        self._vault: str = vault
        self._rounds: tuple[Question, ...] = rounds
        self._posts: dict[int, tuple[Nanos, Post]] = {}
        """By number, which is by age, with the time of sending."""
        self._last_post: int = 0
        self._last_nonce: int = 0

    def frames(self, actions: Sequence[Approved], now: Nanos) -> list[bytes]:
        """Return what carries the actions: cancels, amends, new orders, then the rest. LocalError without a signer."""
        if self._signer is None:
            raise LocalError("this session has no key: it is for market data only")
        wanted = [approved.action for approved in actions]
        cancels = [action for action in wanted if isinstance(action, CancelOrder)]
        amends = [action for action in wanted if isinstance(action, AmendOrder)]
        places = [action for action in wanted if isinstance(action, NewOrder)]
        frames: list[bytes] = []
        if cancels:
            frames += self._cancel(cancels, self._signer, now)
        if amends:
            frames.append(self._amend(amends, self._signer, now))
        if places:
            frames.append(self._place(places, self._signer, now))
        if len(cancels) + len(amends) + len(places) < len(wanted):
            frames += [frame for action in wanted for frame in self._other(action, self._signer, now)]
        return frames

    def take(self, number: int) -> Post | None:
        """Return the post of that number, which is now answered; None if it is not waited for."""
        return self._posts.pop(number, (0, None))[1]

    def withdraw(self) -> None:
        """Forget the post numbered last: its frame was not sent."""
        self._posts.pop(self._last_post, None)

    def lost(self) -> list[Sent]:
        """Return the orders of every post without an answer; none is waited for any more."""
        posts = list(self._posts.values())
        self._posts.clear()
        return [sent for _, post in posts for sent in (*post.replaced, *post.orders)]

    def waiting(self, now: Nanos) -> int:
        """Return how many posts are in flight; an answer that got lost does not count for ever."""
        return sum(1 for _ in self._in_flight(now))

    def is_placing(self, now: Nanos) -> bool:
        """Return whether an order is under way that the venue may name in a fill before its answer names it."""
        return any(post.question in (Question.PLACE, Question.MODIFY) for post in self._in_flight(now))

    def _in_flight(self, now: Nanos) -> Iterator[Post]:
        """Yield the posts that an answer may still come to, the youngest first."""
        for at, post in reversed(self._posts.values()):
            if now - at > IN_FLIGHT:
                return
            yield post

    def _as_taken(self, place: NewOrder) -> tuple[NewOrder, Instrument, int]:
        """Return an order as the venue takes it, with its instrument and asset.

        It refuses "reduce only" for spot, where what is sold is what is held, so that a sale can only reduce.
        """
        asset = self._assets[place.instrument]
        if place.reduce_only and asset >= FIRST_SPOT:
            place = msgspec.structs.replace(place, reduce_only=False)
        return place, self._instruments[place.instrument], asset

    def _place(self, places: list[NewOrder], signer: Signer, now: Nanos) -> bytes:
        orders = [self._as_taken(place) for place in places]
        sent = tuple([Sent(place.instrument, place.cl_ord_id) for place in places])
        return self._act(Post(Question.PLACE, sent), requests.place_action(orders), signer, now)

    def _amend(self, amends: list[AmendOrder], signer: Signer, now: Nanos) -> bytes:
        orders = [(amend, self._instruments[amend.instrument], self._assets[amend.instrument]) for amend in amends]
        sent = tuple([Sent(amend.instrument, amend.cl_ord_id) for amend in amends])
        replaced = tuple([Sent(amend.instrument, amend.orig_cl_ord_id, amend.order_id) for amend in amends])
        return self._act(Post(Question.MODIFY, sent, replaced), requests.modify_action(orders), signer, now)

    def _cancel(self, cancels: list[CancelOrder], signer: Signer, now: Nanos) -> list[bytes]:
        """Return one frame: by oid if all are known, else by our own ids, which always are.

        An order of another hand has no id that the venue knows, only its number: then there are two frames.
        """
        nameless = [cancel for cancel in cancels if not cancel.order_id]
        foreign = [cancel for cancel in cancels if cancel.order_id and not cancel.cl_ord_id.startswith("0x")]
        if nameless and foreign:
            ours = [cancel for cancel in cancels if cancel not in foreign]
            return [*self._cancel(foreign, signer, now), *self._cancel(ours, signer, now)]
        if not nameless:
            pairs = [(self._assets[cancel.instrument], int(cancel.order_id)) for cancel in cancels]
            action = requests.cancel_action(pairs)
        else:
            named = [(self._assets[cancel.instrument], cancel.cl_ord_id) for cancel in cancels]
            action = requests.cancel_by_cloid_action(named)
        sent = tuple([Sent(cancel.instrument, cancel.cl_ord_id, cancel.order_id) for cancel in cancels])
        return [self._act(Post(Question.CANCEL, sent), action, signer, now)]

    def _other(self, action: Action, signer: Signer, now: Nanos) -> list[bytes]:
        if isinstance(action, QueryOrder):
            post = Post(Question.QUERY, (Sent(action.instrument, action.cl_ord_id, action.order_id),))
            # An order of another hand has no id of ours; the venue takes its own number as well.
            oid: str | int = action.cl_ord_id if action.cl_ord_id.startswith("0x") else int(action.order_id)
            return [requests.info_post(self._number(post, now), "orderStatus", self._account, oid=oid)]
        if isinstance(action, RequestReconcile):
            return self._reconcile(now)
        if isinstance(action, ScheduleCancel):
            time_ms = (action.time - self.offset) // MILLISECOND if action.time else None
            post = Post(Question.DEAD_MAN, until=action.time)
            return [self._act(post, requests.schedule_cancel_action(time_ms), signer, now)]
        if isinstance(action, RequestBudget):
            return [self._ask(Question.BUDGET, now)]
        return []

    def _reconcile(self, now: Nanos) -> list[bytes]:
        """Return the questions of a new round; answers to an older one will be ignored."""
        for number in [number for number, (_, post) in self._posts.items() if post.question in self._rounds]:
            del self._posts[number]
        return [self._ask(question, now) for question in self._rounds]

    def _ask(self, question: Question, now: Nanos) -> bytes:
        return requests.info_post(self._number(Post(question), now), question.value, self._account)

    def _act(self, post: Post, action: Mapping[str, object], signer: Signer, now: Nanos) -> bytes:
        now_ms = (now - self.offset) // MILLISECOND
        if self._last_nonce > now_ms + NONCE_AHEAD_MS:
            # By a clock that was wrong; the venue refused it, and would refuse all that follow it.
            self._last_nonce = 0
        self._last_nonce = max(self._last_nonce + 1, now_ms)
        expires = now_ms + self._expires_after_ms
        return requests.action_post(self._number(post, now), action, signer, self._last_nonce, expires, self._vault)

    def _number(self, post: Post, now: Nanos) -> int:
        self._last_post += 1
        self._posts[self._last_post] = (now, post)
        if len(self._posts) > MAX_POSTS:
            del self._posts[next(iter(self._posts))]
        return self._last_post
