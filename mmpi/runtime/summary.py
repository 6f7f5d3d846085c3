"""Summary: the status of an engine, in the shape that every command shows.

Invariant: money is exact text; reading the engine changes nothing. It must not know where the summary goes.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from mmpi.desk import Desk
from mmpi.engine import Engine
from mmpi.events import ExecReport
from mmpi.instrument import BUY, MILLISECOND, Money, Nanos, money_text
from mmpi.orders import OrdStatus
from mmpi.position import Position
from mmpi.runtime.memory import rss_mb
from mmpi.status import (
    FillStatus,
    Histogram,
    InstrumentStatus,
    Latency,
    OrderCounts,
    OwnOrder,
    PnlStatus,
    RequestStatus,
    StartStatus,
    StorageStatus,
    Summary,
)

SHOWN_LEVELS: Final = 5


def summarise(
    engine: Engine, *, mode: str, venue: str, latency: Latency, latch: str, now: Nanos = 0,
    start: StartStatus | None = None, storage: StorageStatus | None = None,
    tick_to_order: Histogram | None = None, loop_lateness: Histogram | None = None,
    run_fills: int = 0, last_fills: Sequence[FillStatus] = (),
) -> Summary:  # fmt: skip
    """Return what observers may see of the engine now."""
    desks = list(engine.desks.values())
    ended: dict[str, int] = {}
    for desk in desks:
        for status, count in desk.orders.ended.items():
            ended[status] = ended.get(status, 0) + count
    return Summary(
        mode=mode,
        venue=venue,
        state=_state(engine),
        reason=engine.blocked,
        instruments={name: _instrument(desk, _unseen(engine), now) for name, desk in engine.desks.items()},
        events=engine.events,
        orders=OrderCounts(
            placed=sum(desk.orders.placed for desk in desks),
            canceled=ended.get(OrdStatus.CANCELED.value, 0),
            rejected=ended.get(OrdStatus.REJECTED.value, 0),
            amended=engine.placement.amended,
        ),
        fills=engine.session.fills,
        pnl=_pnl([desk.position for desk in desks]),
        tick_to_order_us=latency,
        rss_mb=rss_mb(),
        deadman=engine.upkeep.dead_man.text(now),
        requests=_requests(engine, now),
        flatten=engine.flattening.text,
        start=start,
        storage=storage,
        tick_to_order=tick_to_order,
        loop_lateness=loop_lateness,
        run_fills=run_fills,
        last_fills=list(last_fills),
        latch=latch,
        refusals=dict(engine.gate.refusals),
        invariant_violations=engine.violations,
        anomalies={
            "illegal_reports": sum(desk.orders.illegal for desk in desks),
            "overfilled": sum(desk.orders.overfilled for desk in desks),
            "foreign_fills": engine.session.foreign_fills,
            "position_drifts": engine.reconciling.taken,
        },
    )


def refreshed(
    summary: Summary, engine: Engine, now: Nanos, run_fills: int, last_fills: Sequence[FillStatus]
) -> Summary:
    """Return the summary with what moves with the market as it is now; the rest of it is a little older."""
    return msgspec.structs.replace(
        summary,
        instruments={name: _instrument(desk, _unseen(engine), now) for name, desk in engine.desks.items()},
        events=engine.events,
        fills=engine.session.fills,
        pnl=_pnl([desk.position for desk in engine.desks.values()]),
        run_fills=run_fills,
        last_fills=list(last_fills),
    )


def worded(engine: Engine, fill: ExecReport) -> FillStatus:
    """Return a fill in words."""
    grid = engine.desks[fill.instrument].instrument
    side = "buy" if fill.side == BUY else "sell"
    return FillStatus(
        fill.exec_id, fill.instrument, side, grid.price_text(fill.price), grid.size_text(fill.size),
        money_text(fill.fee), fill.maker, fill.exch_ts, fill.recv_ts,
    )  # fmt: skip


def _requests(engine: Engine, now: Nanos) -> RequestStatus:
    governor = engine.upkeep.governor
    fills = engine.session.fills
    return RequestStatus(
        used=governor.used,
        cap=governor.cap,
        sent=governor.requests,
        thinning=1 << governor.step,
        quote_to_trade=round(governor.quotes / fills, 3) if fills else float(governor.quotes),
        per_fill=round(governor.requests / fills, 3) if fills else float(governor.requests),
        dead_man_firings=engine.upkeep.dead_man.firings_on(now),
    )


def _state(engine: Engine) -> str:
    if engine.stopped:
        return "stopped"
    return "quoting" if engine.quoting else engine.blocked.partition(":")[0]


def _unseen(engine: Engine) -> str:
    """Return why a desk that wants to quote may have no orders, "" = nothing of the account's keeps it from placing."""
    governor = engine.upkeep.governor
    return "request budget spent" if governor.left <= governor.reserve else ""


def _instrument(desk: Desk, unseen: str, now: Nanos) -> InstrumentStatus:
    book, grid = desk.book, desk.instrument
    live = sorted(desk.orders.live.values(), key=lambda order: -order.price)
    return InstrumentStatus(
        bid=grid.price_text(book.best_bid) if book.best_bid else "",
        ask=grid.price_text(book.best_ask) if book.best_ask else "",
        position=grid.size_text(desk.position.lots),
        orders=len(live),
        reason=desk.reason or ("" if live else unseen),
        bids=[(grid.price_text(price), grid.size_text(size)) for price, size in book.bids[:SHOWN_LEVELS]],
        asks=[(grid.price_text(price), grid.size_text(size)) for price, size in book.asks[:SHOWN_LEVELS]],
        own=[
            OwnOrder(
                "buy" if order.side == BUY else "sell",
                grid.price_text(order.price),
                grid.size_text(order.leaves),
                order.status.value,
            )
            for order in live
        ],
        pnl=_pnl([desk.position]),
        feed_age_ms=max(0, now - desk.market_ts) // MILLISECOND if now and desk.market_ts else None,
    )


def _pnl(positions: list[Position]) -> PnlStatus:
    spread: Money = 0
    inventory: Money = 0
    funding: Money = 0
    fees: Money = 0
    total: Money = 0
    for position in positions:
        spread += position.spread
        inventory += position.inventory
        funding += position.funding
        fees += position.fees
        # From the cash side of the identity, so that a reader who adds the parts checks it once more.
        total += position.equity
    return PnlStatus(
        money_text(spread), money_text(inventory), money_text(funding), money_text(fees), money_text(total)
    )
