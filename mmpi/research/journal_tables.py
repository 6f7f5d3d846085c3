"""Journal tables: the rows that a record of a journal makes in the tables of mmpi.research.journal_schemas.

The grid of an instrument is known from the checkpoint that a segment opens with, in a ledger from the session's state.

Invariant: a record makes rows in at least one table, so nothing is lost. It must not know files.
"""

from collections.abc import Iterator
from decimal import Context, Decimal
from typing import Any, Final, TypeAlias

import msgspec

from mmpi import actions
from mmpi.errors import JournalError
from mmpi.events import Bbo, BookDelta, BookSnapshot, ExecReport, ExecType, Level, Trade
from mmpi.instrument import Instrument, Lots, Money, Nanos, Ticks
from mmpi.journal.entries import Checkpoint, Run, Session
from mmpi.journal.readable import kind_name, readable
from mmpi.journal.record import ACTION, CHECKPOINT, EVENT, RUN, SESSION, Header, Record, decode
from mmpi.journal.survey import value_of
from mmpi.research.journal_schemas import PLACES
from mmpi.session import InstrumentState, SessionState

Row: TypeAlias = dict[str, Any]

MAX_FILLS: Final = 100_000
"""Fills whose ids are remembered, so that one that is told twice is one row."""
_EXACT: Final = Context(prec=60)
_LARGEST: Final = Decimal(10) ** (38 - PLACES)
_INT64: Final = 2**63
_POSITION: Final = (
    "lots", "mid2", "cash", "spread", "inventory", "funding", "fees", "realised", "open_cost", "volume", "fills"
)  # fmt: skip
"""What stands in a position's state (mmpi.position)."""


class _Desk(msgspec.Struct, frozen=True):
    instrument: Instrument


class _Params(msgspec.Struct, frozen=True):
    """What is needed of an engine's configuration, whatever version wrote it."""

    desks: tuple[_Desk, ...] = ()


class Grid(msgspec.Struct, frozen=True):
    """What a tick and a lot are."""

    tick_size: str
    lot_size: str

    def price(self, ticks: Ticks) -> Decimal | None:
        """Return a price."""
        return _fitting(_EXACT.multiply(Decimal(ticks), Decimal(self.tick_size)))

    def half(self, ticks2: int) -> Decimal | None:
        """Return a price that is given twice, in ticks."""
        return _fitting(_EXACT.multiply(_EXACT.multiply(Decimal(ticks2), Decimal(self.tick_size)), Decimal("0.5")))

    def size(self, lots: Lots) -> Decimal | None:
        """Return a size."""
        return _fitting(_EXACT.multiply(Decimal(lots), Decimal(self.lot_size)))


class RowMaker:
    """Makes rows, record by record."""

    def __init__(self) -> None:
        self._grids: dict[str, Grid] = {}
        self._run = ""
        self._fills: dict[str, None] = {}

    def rows(self, record: Record, header: Header, prefix: str) -> Iterator[tuple[str, Row]]:
        """Yield (table, row) for a record; `prefix` is put before its segment's name."""
        place: Row = {"segment": prefix + record.segment, "record": record.number, "run": self._run}
        try:
            value = decode(record)
            made = self._typed(record.kind, value, place)
        except (JournalError, msgspec.MsgspecError, ValueError) as error:
            yield "others", self._other(record, header, place, str(error))
            return
        if made:
            yield from made
        else:
            yield "others", self._other(record, header, place)

    def _typed(self, kind: int, value: Any, place: Row) -> list[tuple[str, Row]]:
        """Return the rows of what has a table of its own; [] = it has none."""
        if kind == EVENT:
            return self._event(value, place)
        if kind == ACTION:
            return [("actions", place | self._action(value))]
        if kind == SESSION:
            return self._session(value, place)
        if kind == CHECKPOINT:
            self._checkpoint(value, place)
        elif kind == RUN and isinstance(value, Run):
            self._run = place["run"] = value.cl_ord_prefix
        return []

    def _checkpoint(self, saved: Checkpoint, place: Row) -> None:
        self._run = place["run"] = saved.cl_ord_prefix
        params = msgspec.json.decode(saved.engine_config, type=_Params)
        for desk in params.desks:
            self._grids[desk.instrument.name] = Grid(desk.instrument.tick_size, desk.instrument.lot_size)

    # Tables -------------------------------------------------------------------------------------------------------

    def _event(self, event: Any, place: Row) -> list[tuple[str, Row]]:
        if isinstance(event, BookSnapshot | BookDelta | Bbo):
            return [("books", place | self._book(event))]
        if isinstance(event, Trade):
            row = self._order(event.instrument, event.side, event.price, event.size)
            times = {"recv_ts": _time(event.recv_ts), "exch_ts": _time(event.exch_ts), "trade_id": _int(event.trade_id)}
            return [("trades", place | times | row)]
        if not isinstance(event, ExecReport):
            return []
        row = place | self._report(event)
        fresh = event.exec_type is ExecType.TRADE and event.price > 0 and event.size > 0
        return [("reports", row), *([("fills", row)] if fresh and self._is_new(event.exec_id) else [])]

    def _book(self, event: BookSnapshot | BookDelta | Bbo) -> Row:
        row: Row = {
            "recv_ts": _time(event.recv_ts), "exch_ts": _time(event.exch_ts), "instrument": event.instrument,
            "seq": _int(event.seq), "kind": type(event).__name__.removeprefix("Book").lower(), **self._grid_of(event),
        }  # fmt: skip
        bids: tuple[Level, ...]
        asks: tuple[Level, ...]
        if isinstance(event, Bbo):
            bids = ((event.bid, event.bid_size),) if event.bid_size else ()
            asks = ((event.ask, event.ask_size),) if event.ask_size else ()
        else:
            bids, asks = event.bids, event.asks
        for side, levels in (("bid", bids), ("ask", asks)):
            row[f"{side}_ticks"], row[f"{side}_lots"] = [each[0] for each in levels], [each[1] for each in levels]
        if isinstance(event, BookDelta):
            # What it changes need not be at the top.
            return row | {"prev_seq": _int(event.prev_seq)}
        grid = self._grids.get(event.instrument)
        if grid is not None:
            for side, levels in (("bid", bids), ("ask", asks)):
                if levels:
                    row[side], row[f"{side}_size"] = grid.price(levels[0][0]), grid.size(levels[0][1])
        return row

    def _report(self, event: ExecReport) -> Row:
        return {
            "recv_ts": _time(event.recv_ts), "exch_ts": _time(event.exch_ts), "cl_ord_id": event.cl_ord_id,
            "order_id": event.order_id, "exec_type": event.exec_type.value, "fee": _money(event.fee),
            "maker": event.maker, "exec_id": event.exec_id, "reason": event.reason,
            **self._order(event.instrument, event.side, event.price, event.size),
        }  # fmt: skip

    def _action(self, approved: actions.Approved) -> Row:
        action: Any = approved.action
        row: Row = {"ts": _time(approved.ts), "action": type(action).__name__}
        for name in ("instrument", "cl_ord_id", "orig_cl_ord_id", "order_id", "level", "reduce_only", "reason"):
            row[name] = getattr(action, name, None)
        if isinstance(action, actions.NewOrder | actions.AmendOrder):
            row |= self._order(action.instrument, action.side, action.price, action.size)
            row["time_in_force"] = action.time_in_force.value
        if isinstance(action, actions.ScheduleCancel):
            row["time"] = _time(action.time)
        return row

    def _session(self, session: Session, place: Row) -> list[tuple[str, Row]]:
        state = msgspec.json.decode(session.state, type=SessionState)
        self._grids |= {name: Grid(each.tick_size, each.lot_size) for name, each in state.instruments.items()}
        account = place | {
            "run": session.cl_ord_prefix, "ts": _time(state.ts), "scope": session.scope, "began": _time(state.began),
            "ends": _time(state.ends), "base": _money(state.base), "peak": _money(state.peak), "breach": state.breach,
            "all_fills": state.fills, "foreign_fills": state.foreign_fills, "violations": state.violations,
            "requests": state.requests, "quotes": state.quotes, "history_ms": session.history_ms,
            "funded_ms": session.funded_ms, "armed": session.armed,
        }  # fmt: skip
        rows = [account | self._instrument(name, each) for name, each in state.instruments.items()]
        return [("sessions", row) for row in rows or [account]]

    def _instrument(self, name: str, kept: InstrumentState) -> Row:
        parts = dict(zip(_POSITION, kept.position, strict=False))
        grid = self._grids[name]
        lots = parts.pop("lots", 0)
        money = {key: _money(value) for key, value in parts.items() if key not in ("mid2", "fills")}
        return {
            "instrument": name, "position": grid.size(lots), "position_lots": _int(lots),
            "mark": grid.half(parts.get("mid2", 0)), "equity": _money(kept.equity), **money,
            "fills": parts.get("fills"), "placed": kept.placed, "ended": msgspec.json.encode(kept.ended).decode(),
            "tick_size": kept.tick_size, "lot_size": kept.lot_size,
        }  # fmt: skip

    def _other(self, record: Record, header: Header, place: Row, error: str = "") -> Row:
        row: Row = {**place, "offset": record.offset, "kind": kind_name(record, header)}
        try:
            value: Any = readable(value_of(record, header))
            row["json"] = msgspec.json.encode(value).decode()
        except (JournalError, ValueError, TypeError, LookupError, RecursionError) as why:
            row["json"] = msgspec.json.encode({"unreadable": error or str(why)}).decode()
            return row
        if isinstance(value, dict):
            row["type"] = value.get("type")
            time = next((value[name] for name in ("recv_ts", "at", "ts") if isinstance(value.get(name), int)), 0)
            row["ts"] = _time(time)
        return row

    def _is_new(self, exec_id: str) -> bool:
        if exec_id and exec_id in self._fills:
            return False
        self._fills[exec_id] = None
        if len(self._fills) > MAX_FILLS:
            del self._fills[next(iter(self._fills))]
        return True

    def _order(self, instrument: str, side: int, price: Ticks, size: Lots) -> Row:
        grid = self._grids.get(instrument)
        row: Row = {
            "instrument": instrument, "side": "buy" if side > 0 else "sell", "price_ticks": _int(price),
            "size_lots": _int(size),
        }  # fmt: skip
        if grid is not None:
            row |= {"price": grid.price(price), "size": grid.size(size)}
            row |= {"tick_size": grid.tick_size, "lot_size": grid.lot_size}
        return row

    def _grid_of(self, event: Any) -> Row:
        grid = self._grids.get(event.instrument)
        return {} if grid is None else {"tick_size": grid.tick_size, "lot_size": grid.lot_size}


def _money(amount: Money) -> Decimal | None:
    return _fitting(_EXACT.scaleb(Decimal(amount), Decimal(-12)))


def _fitting(value: Decimal) -> Decimal | None:
    """Return a number if the columns can hold it exactly, None if not."""
    exponent = value.as_tuple().exponent
    fits = isinstance(exponent, int) and exponent >= -PLACES and abs(value) < _LARGEST
    return value if fits else None


def _time(time: Nanos) -> int | None:
    return time if 0 < time < _INT64 else None


def _int(value: int) -> int | None:
    return value if -_INT64 <= value < _INT64 else None
