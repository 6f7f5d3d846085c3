"""Journal schemas: the tables that a journal is exported to, and the type of each column.

Prices and sizes are whole ticks and lots as in the journal (`_ticks`, `_lots`), and beside them exact decimals where
the instrument's grid is known (`tick_size`, `lot_size`). Money is a decimal of the quote currency. A time that was not
told is null, and so is a number that the column cannot hold exactly.

Invariant: columns are only ever added. It must not know how a row is made.
"""

from typing import Final

import pyarrow as pa

PLACES: Final = 18
DECIMAL: Final = pa.decimal128(38, PLACES)
TIME: Final = pa.int64()
"""Nanoseconds since 1970, as in the recorded sets."""
LEVELS: Final = pa.list_(pa.int64())

_PLACE: Final = {"segment": pa.string(), "record": pa.int64(), "run": pa.string()}
_GRID: Final = {"tick_size": pa.string(), "lot_size": pa.string()}
_ORDER: Final = {
    "side": pa.string(), "price": DECIMAL, "size": DECIMAL, "price_ticks": pa.int64(), "size_lots": pa.int64(), **_GRID
}  # fmt: skip
_REPORT: Final = {
    **_PLACE, "recv_ts": TIME, "exch_ts": TIME, "instrument": pa.string(), "cl_ord_id": pa.string(),
    "order_id": pa.string(), "exec_type": pa.string(), **_ORDER, "fee": DECIMAL, "maker": pa.bool_(),
    "exec_id": pa.string(), "reason": pa.string(),
}  # fmt: skip
SCHEMAS: Final[dict[str, pa.Schema]] = {
    name: pa.schema(list(columns.items()))
    for name, columns in {
        "books": {
            **_PLACE, "recv_ts": TIME, "exch_ts": TIME, "instrument": pa.string(), "kind": pa.string(),
            "seq": pa.int64(), "prev_seq": pa.int64(),
            "bid": DECIMAL, "bid_size": DECIMAL, "ask": DECIMAL, "ask_size": DECIMAL,
            "bid_ticks": LEVELS, "bid_lots": LEVELS, "ask_ticks": LEVELS, "ask_lots": LEVELS, **_GRID,
        },
        "trades": {
            **_PLACE, "recv_ts": TIME, "exch_ts": TIME, "instrument": pa.string(), "trade_id": pa.int64(), **_ORDER,
        },
        "reports": _REPORT,
        "fills": _REPORT,
        "actions": {
            **_PLACE, "ts": TIME, "action": pa.string(), "instrument": pa.string(), "cl_ord_id": pa.string(),
            "orig_cl_ord_id": pa.string(), "order_id": pa.string(), **_ORDER, "level": pa.int64(),
            "time_in_force": pa.string(), "reduce_only": pa.bool_(), "reason": pa.string(), "time": TIME,
        },
        "sessions": {
            **_PLACE, "ts": TIME, "scope": pa.string(), "began": TIME, "ends": TIME, "instrument": pa.string(),
            "position": DECIMAL, "position_lots": pa.int64(), "mark": DECIMAL, "cash": DECIMAL, "equity": DECIMAL,
            "spread": DECIMAL, "inventory": DECIMAL, "funding": DECIMAL, "fees": DECIMAL, "realised": DECIMAL,
            "open_cost": DECIMAL, "volume": DECIMAL, "fills": pa.int64(), "placed": pa.int64(), "ended": pa.string(),
            **_GRID, "base": DECIMAL, "peak": DECIMAL, "breach": pa.string(), "all_fills": pa.int64(),
            "foreign_fills": pa.int64(), "violations": pa.int64(), "requests": pa.int64(), "quotes": pa.int64(),
            "history_ms": pa.int64(), "funded_ms": pa.int64(), "armed": pa.int64(),
        },
        "others": {
            **_PLACE, "offset": pa.int64(), "ts": TIME, "kind": pa.string(), "type": pa.string(), "json": pa.string(),
        },
    }.items()
}  # fmt: skip
