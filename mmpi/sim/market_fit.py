"""Fitted numbers: what recorded markets measure, for the generated market to be made like them.

Invariant: every number here is printed by mmpi/research/fit_market.py; none is edited by hand.
It must not know how they are measured, or which scenario departs from them.
"""

from typing import Final

from mmpi.structs import Frozen


class FittedMarket(Frozen, frozen=True):
    """One recording's statistics. Sizes are in the quote currency, `*_share` are parts of 1; 0 = none was seen."""

    source: str
    """Name of the recorded set."""
    seconds: float
    books: int
    orders: int
    """Taker orders: trades of one side at one exchange time."""
    volatility_bps: float
    """Basis points per square root of a second over minutes, jumps left out."""
    trend_share: float
    """Part of that variance that comes from a drift which dies away with `trend_tau_s`."""
    trend_tau_s: float
    orders_per_s: float
    branching: float
    """Orders that one order sets off on average."""
    decay_per_s: float
    """Decay of that excitation."""
    order_sizes: "tuple[float, ...]"
    """Smallest to largest of the orders below the tail, at equal steps of probability."""
    tail_from: float
    tail_share: float
    """Part of the orders that are larger than `tail_from`."""
    tail: float
    """Pareto index of those."""
    order_max: float
    level_sizes: "tuple[tuple[float, ...], ...]"
    """Touch, near and deep levels: small to large, at equal steps of probability."""
    refresh_per_s: float
    """Rate at which a level's size becomes another."""
    wide_share: float
    """Part of the books whose spread is more than a step."""
    wide_steps: float
    """Steps beyond the first, on average over those."""
    impact_bps: float
    """Move a second after an order of one quote unit; other sizes to the power `impact_exponent`."""
    impact_exponent: float
    impact_share: float
    """Part of the variance that those moves would make."""
    jump_every_s: float
    jump_bps: float
    locked_share: float
    book_interval_s: float
    stall_every_s: float
    stall_s: float


FITTED: Final[dict[str, FittedMarket]] = {
    "BTC": FittedMarket(
        source="hyperliquid_btc_20250904",
        seconds=2070.0,
        books=3785,
        orders=2361,
        volatility_bps=0.5748,
        trend_share=0.6994,
        trend_tau_s=1.759,
        orders_per_s=1.14,
        branching=0.4773,
        decay_per_s=0.1129,
        order_sizes=(10.98, 12.12, 16.49, 38.43, 109.7, 330.6, 719.0, 1124.0, 3611.0, 8436.0, 24850.0),
        tail_from=27540.0,
        tail_share=0.1,
        tail=0.7539,
        order_max=2748000.0,
        level_sizes=(
            (12.08, 6656.0, 31620.0, 115100.0, 281100.0, 607500.0)
            + (973800.0, 1453000.0, 2101000.0, 2977000.0, 5418000.0),
            (12.08, 12.1, 53.31, 4970.0, 13250.0, 49270.0)
            + (100000.0, 150400.0, 263100.0, 440700.0, 2794000.0),
            (12.08, 12.12, 2174.0, 14380.0, 43370.0, 90180.0)
            + (139700.0, 205400.0, 300400.0, 429600.0, 1393000.0),
        ),
        refresh_per_s=1.639,
        wide_share=0.05363,
        wide_steps=5.379,
        impact_bps=0.02592,
        impact_exponent=0.28,
        impact_share=0.3046,
        jump_every_s=76.68,
        jump_bps=2.085,
        locked_share=0.0,
        book_interval_s=0.54,
        stall_every_s=2070.0,
        stall_s=17.98,
    ),
    "ETH": FittedMarket(
        source="hyperliquid_eth_20250903",
        seconds=241.6,
        books=446,
        orders=347,
        volatility_bps=0.9283,
        trend_share=0.6716,
        trend_tau_s=3.538,
        orders_per_s=1.436,
        branching=0.0,
        decay_per_s=0.0,
        order_sizes=(11.29, 15.56, 32.21, 84.06, 217.2, 435.8, 493.0, 655.3, 1304.0, 3363.0, 9808.0),
        tail_from=9998.0,
        tail_share=0.1,
        tail=0.4768,
        order_max=1654000.0,
        level_sizes=(
            (116.7, 4082.0, 34100.0, 97090.0, 155700.0, 256500.0)
            + (454000.0, 639400.0, 994400.0, 1842000.0, 5389000.0),
            (34.78, 2501.0, 15000.0, 31960.0, 66270.0, 122100.0)
            + (205600.0, 308700.0, 451800.0, 732900.0, 2315000.0),
            (1087.0, 61150.0, 146500.0, 228700.0, 325500.0, 417300.0)
            + (518800.0, 632000.0, 786400.0, 1085000.0, 2084000.0),
        ),
        refresh_per_s=2.802,
        wide_share=0.04709,
        wide_steps=3.429,
        impact_bps=0.0,
        impact_exponent=0.0,
        impact_share=0.0,
        jump_every_s=80.54,
        jump_bps=2.414,
        locked_share=0.0,
        book_interval_s=0.544,
        stall_every_s=120.8,
        stall_s=150.2,
    ),
    "SOL": FittedMarket(
        source="hyperliquid_sol_20250904",
        seconds=2070.0,
        books=3785,
        orders=1932,
        volatility_bps=1.236,
        trend_share=0.5975,
        trend_tau_s=1.006,
        orders_per_s=0.9331,
        branching=0.661,
        decay_per_s=0.06486,
        order_sizes=(10.11, 12.14, 12.16, 12.17, 16.23, 46.57, 101.4, 282.7, 690.2, 2438.0, 14130.0),
        tail_from=17700.0,
        tail_share=0.1,
        tail=0.7676,
        order_max=4281000.0,
        level_sizes=(
            (18.25, 552.1, 7498.0, 36310.0, 71520.0, 127500.0)
            + (216300.0, 316200.0, 462500.0, 712500.0, 2055000.0),
            (173.6, 6670.0, 26850.0, 61180.0, 100100.0, 150600.0)
            + (205100.0, 272800.0, 363700.0, 532700.0, 1197000.0),
            (31670.0, 159500.0, 221500.0, 269000.0, 314300.0, 364600.0)
            + (421600.0, 491100.0, 579900.0, 701100.0, 1110000.0),
        ),
        refresh_per_s=2.438,
        wide_share=0.04306,
        wide_steps=2.515,
        impact_bps=0.08008,
        impact_exponent=0.24,
        impact_share=0.1553,
        jump_every_s=90.02,
        jump_bps=4.273,
        locked_share=0.0,
        book_interval_s=0.54,
        stall_every_s=2070.0,
        stall_s=17.98,
    ),
}
"""From ../shared/data, on 2026-11-21, each by `mmpi calibrate market --data SET --json`. The four minutes of ETH are
too short for clustering and impact (0); its dynamics are not used, only its book and its sizes."""
