"""What observers may see of a running quoter, in one shape for demo, backtest, status and telemetry.

Invariant: money is decimal text, exact; nothing here is a secret. It must not know how any of it is computed.
"""

from typing import Final

import msgspec

from mmpi.structs import Leaf


class PnlStatus(Leaf, frozen=True):
    """Session profit and loss: total = spread + inventory + funding - fees, to the last digit (I11)."""

    spread: str
    inventory: str
    funding: str
    fees: str
    total: str


class OrderCounts(Leaf, frozen=True):
    """Orders since the session began."""

    placed: int
    canceled: int
    rejected: int
    amended: int


class OwnOrder(Leaf, frozen=True):
    """One live order of ours, for the ladder view."""

    side: str
    price: str
    size: str
    status: str


class InstrumentStatus(msgspec.Struct, frozen=True):
    """One instrument: the touch, our position and live orders; `reason` says why it is not quoted, "" = it is."""

    bid: str
    ask: str
    position: str
    orders: int
    reason: str
    bids: list[tuple[str, str]]
    asks: list[tuple[str, str]]
    own: list[OwnOrder]
    pnl: PnlStatus
    feed_age_ms: int | None = None
    """Since the last book or trade; None = there was none, or nobody asked when."""


class Latency(Leaf, frozen=True):
    """Microseconds, of the last ones; `n` = 0 means not measured."""

    p50: float
    p99: float
    n: int


EDGES_US: Final = (
    50, 100, 200, 300, 500, 750, 1000, 1500, 2000, 3000, 4000, 5000, 7500, 10_000, 20_000, 50_000, 100_000, 200_000,
    500_000,
)  # fmt: skip
"""Upper bounds of a histogram's counts, microseconds; what is longer than all of them is counted last."""


class Histogram(msgspec.Struct, frozen=True):
    """Durations since the process began: how many were up to each of EDGES_US (and above the one before), their sum."""

    counts: tuple[int, ...]
    sum_us: float


class FillStatus(Leaf, frozen=True):
    """One fill; times in Unix ns: the venue's, and when it was told here."""

    exec_id: str
    instrument: str
    side: str
    price: str
    size: str
    fee: str
    maker: bool
    exch_ts: int
    recv_ts: int


class RequestStatus(Leaf, frozen=True):
    """Requests at the venue: the account's count and cap by its last word (0 = not told), and what this run spends.

    `thinning`: how many times rarer and wider orders are moved than the strategy asks, to make the budget last.
    `quote_to_trade`: orders and amends for each fill; `per_fill`: all requests for each (without one, their number).
    """

    used: int
    cap: int
    sent: int
    thinning: int
    quote_to_trade: float
    per_fill: float
    dead_man_firings: int


class StartStatus(msgspec.Struct, frozen=True):
    """How a run began: how the one before it ended (clean, failed, killed, power or first), and what was taken up."""

    before: str
    reason: str
    resumed: bool
    """The session of an earlier run goes on."""
    later_fills: int
    """Fills that were found after its last state."""
    doubtful_orders: int
    """Orders of it that the venue is asked about."""
    repaired: list[str]
    """What was cut off, or skipped, when the ledger was read."""


class StorageStatus(msgspec.Struct, frozen=True):
    """What is kept: `fault` says why it cannot be, "" = it can; bytes of this run, milliseconds of commits."""

    fault: str
    memory_bytes: int
    commits: int
    ledger_bytes: int
    last_commit_ms: float
    worst_commit_ms: float
    oldest_s: float
    """Age of the oldest record that is not on the disk yet."""
    routine_dropped: int
    intent_us: Latency | None = None
    """How long orders wait for the disk; None = they do not (`journal.intent_durability`)."""


class Summary(msgspec.Struct, frozen=True):
    """The shape shared by `demo --json`, `backtest --json` and `status --json`."""

    mode: str
    venue: str
    state: str
    reason: str
    instruments: dict[str, InstrumentStatus]
    events: int
    orders: OrderCounts
    fills: int
    pnl: PnlStatus
    tick_to_order_us: Latency
    rss_mb: float
    deadman: str
    latch: str
    refusals: dict[str, int]
    invariant_violations: int
    anomalies: dict[str, int]
    requests: RequestStatus
    flatten: str = ""
    """Nobody asked (""), working: ..., flat, or failed: ..."""
    start: StartStatus | None = None
    storage: StorageStatus | None = None
    tick_to_order: Histogram | None = None
    """From a frame's first byte to the orders that it led to; None where nothing is awaited (backtest)."""
    loop_lateness: Histogram | None = None
    """How late the loop was, each time it wanted to look around."""
    run_fills: int = 0
    """Fills that this process has seen; the last of `last_fills` has this number."""
    last_fills: list[FillStatus] = []
    """The last ones, oldest first."""
