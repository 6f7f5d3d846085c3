"""Hyperliquid's answers to our posts as execution reports.

Invariant: every order of a post gets exactly one report, whatever the answer looks like; what cannot be read as a
certain outcome is LOST. It must not know frames, fills or state.
"""

from enum import Enum

import msgspec

from mmpi.events import DeadManReport, ExecReport, ExecType
from mmpi.instrument import MILLISECOND, Nanos
from mmpi.structs import Leaf
from mmpi.venues.hyperliquid.answers import ActionAnswer, ActionResult, OrderStatus, OrderStatusAnswer
from mmpi.venues.hyperliquid.messages import OrderUpdate, PostResponse
from mmpi.venues.hyperliquid.words import (
    cancel_error,
    dead_man_error,
    modify_error,
    order_status,
    place_error,
    reason_of,
)


class Question(Enum):
    """What a post asked."""

    PLACE = "place"
    CANCEL = "cancel"
    MODIFY = "modify"
    DEAD_MAN = "scheduleCancel"
    QUERY = "query"
    OPEN_ORDERS = "frontendOpenOrders"
    STATE = "clearinghouseState"
    FILLS = "userFills"
    SPOT_STATE = "spotClearinghouseState"
    BUDGET = "userRateLimit"


class Sent(Leaf, frozen=True):
    """An order that a post is about; `order_id` "" while the venue has not named it."""

    instrument: str
    cl_ord_id: str
    order_id: str = ""

    def report(self, recv_ts: Nanos, exec_type: ExecType, order_id: str = "", reason: str = "") -> ExecReport:
        """Return a report on this order; the venue does not date its answers."""
        return ExecReport(
            recv_ts, self.instrument, 0, self.cl_ord_id, order_id or self.order_id, exec_type, reason=reason
        )


class Post(Leaf, frozen=True):
    """A post without an answer yet; a question about the account is about no single order."""

    question: Question
    orders: "tuple[Sent, ...]" = ()
    replaced: "tuple[Sent, ...]" = ()
    """For a modify: the orders that `orders` were to replace, pair by pair."""
    until: Nanos = 0
    """For the dead-man switch: the time asked for, by the engine's clock; 0 = clear it."""


def batch_reports(post: Post, response: PostResponse, recv_ts: Nanos) -> list[ExecReport]:
    """Return one report for each order of a PLACE, CANCEL or MODIFY post, in the batch's order; replaced ones first."""
    outcomes, reason = _outcomes(response, len(post.orders))
    if outcomes is None:
        return [sent.report(recv_ts, ExecType.LOST, reason=reason) for sent in (*post.replaced, *post.orders)]
    if post.question is Question.MODIFY:
        pairs = zip(post.replaced, post.orders, outcomes, strict=True)
        return [report for old, new, outcome in pairs for report in _modified(old, new, outcome, recv_ts)]
    one = _placed if post.question is Question.PLACE else _canceled
    return [one(sent, outcome, recv_ts) for sent, outcome in zip(post.orders, outcomes, strict=True)]


def query_report(sent: Sent, answer: OrderStatusAnswer, recv_ts: Nanos) -> ExecReport:
    """Return what the venue answered about one order."""
    if answer.status == "unknownOid":
        return sent.report(recv_ts, ExecType.NOT_FOUND)
    if answer.order is None:
        return sent.report(recv_ts, ExecType.LOST, reason=reason_of(answer.status))
    return update_report(sent, answer.order, recv_ts)


def update_report(sent: Sent, update: OrderUpdate, recv_ts: Nanos) -> ExecReport:
    """Return what an order's status says; a word we do not know is LOST, with the word as its reason."""
    exec_type = order_status(update.status) or ExecType.LOST
    return ExecReport(
        recv_ts,
        sent.instrument,
        update.status_timestamp * MILLISECOND,
        sent.cl_ord_id,
        str(update.order.oid),
        exec_type,
        reason="" if exec_type in (ExecType.NEW, ExecType.FILLED) else reason_of(update.status),
    )


def _outcomes(response: PostResponse, count: int) -> tuple[list[str | OrderStatus] | None, str]:
    """Return one outcome for each order, or None and the reason why there are none."""
    if response.type != "action":
        return None, reason_of(error_text(response))
    answer = msgspec.json.decode(response.payload, type=ActionAnswer)
    if answer.status != "ok":
        return [OrderStatus(error=msgspec.json.decode(answer.response, type=str))] * count, ""
    statuses = msgspec.json.decode(answer.response, type=ActionResult).data.statuses
    if len(statuses) == 1 and isinstance(statuses[0], OrderStatus) and statuses[0].error is not None:
        # Checks that need the payload alone give one error for the whole batch ("Error responses").
        return statuses * count, ""
    if len(statuses) != count:
        return None, f"{len(statuses)} answers for {count} orders"
    return statuses, ""


def error_text(response: PostResponse) -> str:
    """Return the sentence of an answer of the kind error."""
    try:
        return msgspec.json.decode(response.payload, type=str)
    except msgspec.MsgspecError:
        return f"answer of the kind {response.type}"


def _placed(sent: Sent, outcome: str | OrderStatus, recv_ts: Nanos) -> ExecReport:
    if isinstance(outcome, str):
        return sent.report(recv_ts, ExecType.LOST, reason=reason_of(outcome))
    # "filled" is reported as NEW: it sums the fills up without their ids or fees, and each of them comes by userFills
    # as well. A trade reported from both would count twice.
    named = outcome.resting or outcome.filled
    if named is not None:
        return sent.report(recv_ts, ExecType.NEW, str(named.oid))
    text = outcome.error or "an answer without an outcome"
    return sent.report(recv_ts, place_error(text), reason=reason_of(text))


def _modified(old: Sent, new: Sent, outcome: str | OrderStatus, recv_ts: Nanos) -> list[ExecReport]:
    placed = _placed(new, outcome, recv_ts)
    if placed.exec_type is ExecType.NEW:
        return [old.report(recv_ts, ExecType.CANCELED, reason="replaced"), placed]
    text = (outcome if isinstance(outcome, str) else outcome.error) or "an answer without an outcome"
    of_old, of_new = modify_error(text)
    return [
        old.report(recv_ts, of_old, reason=reason_of(text)),
        new.report(recv_ts, of_new, reason=reason_of(text)),
    ]


def _canceled(sent: Sent, outcome: str | OrderStatus, recv_ts: Nanos) -> ExecReport:
    if outcome == "success":
        return sent.report(recv_ts, ExecType.CANCELED)
    text = (outcome if isinstance(outcome, str) else outcome.error) or "an answer without an outcome"
    return sent.report(recv_ts, cancel_error(text), reason=reason_of(text))


def dead_man_report(venue: str, post: Post, response: PostResponse, recv_ts: Nanos) -> DeadManReport:
    """Return what became of a request about the dead-man switch."""
    if response.type != "action":
        return DeadManReport(recv_ts, venue, post.until, ExecType.LOST, error_text(response))
    answer = msgspec.json.decode(response.payload, type=ActionAnswer)
    if answer.status == "ok":
        return DeadManReport(recv_ts, venue, post.until, ExecType.NEW)
    text = msgspec.json.decode(answer.response, type=str)
    return DeadManReport(recv_ts, venue, post.until, dead_man_error(text), text)
