"""The simulation's model: its parameters in one table, and the table told in every report.

Invariant: nothing that decides a fill, a delay or an amount is left out of `describe`.
It must not know books or orders.
"""

from typing import Final, Literal, TypeAlias

import msgspec

from mmpi.instrument import Money
from mmpi.sim.queue_models import CONSERVATIVE, FIFO, FITTED_POWER
from mmpi.structs import Config

FEE_SCALE: Final = 10**8
"""Fee rates are integers of 10^-8 of the notional, a ten-thousandth of a basis point."""

AmendRule: TypeAlias = Literal["replace", "keep_on_decrease"]
SelfTradeRule: TypeAlias = Literal["cancel_maker", "cancel_taker", "cancel_both"]
FundingPrice: TypeAlias = Literal["mark", "index"]
REPLACE: Final = "replace"
"""An amended order is cancelled and placed anew under another id, at the back of the queue (Hyperliquid's `modify`)."""
KEEP_ON_DECREASE: Final = "keep_on_decrease"
"""An amended order keeps its id, and its place if only its size went down (Binance, Bybit, Gate)."""
CANCEL_MAKER: Final = "cancel_maker"
"""Of two orders of one owner that meet, the resting one goes and the other goes on (Hyperliquid: "expire maker")."""
CANCEL_TAKER: Final = "cancel_taker"
CANCEL_BOTH: Final = "cancel_both"


class SimConfig(Config, frozen=True):
    """The simulated exchange's rules, costs and delays; where venues differ, the default is Hyperliquid's perpetuals,
    but for `funding_price`: the recorded markets with funding are Binance's.

    Sources (read 2026-11-21): Hyperliquid documentation, "Trading: Fees" (tier 0; a negative fee is a rebate) and
    "Self-trade prevention"; what `amend` means is told at `Matching.amend`.
    """

    maker_fee_bps: float = 1.5
    taker_fee_bps: float = 4.5
    latency_in_ms: float = 50
    """An order's way to the exchange."""
    latency_out_ms: float = 50
    """A report's way back."""
    jitter_ms: float = 10
    """Each message takes up to this much longer, uniformly."""
    seed: int = 1
    amend: "AmendRule" = REPLACE
    self_trade: "SelfTradeRule" = CANCEL_MAKER
    funding_price: "FundingPrice" = "mark"
    """What turns a position into the notional that funding is paid on: Binance the mark, Hyperliquid its oracle."""
    queue: "Literal['conservative', 'proportional', 'power_law', 'fifo']" = CONSERVATIVE
    """How the queue ahead of an order shrinks, see sim/queue_models.py; fifo, the true one, needs data that names each
    order, and stands for conservative elsewhere (`model_for`)."""
    queue_power: float = FITTED_POWER
    """The exponent of power_law."""


def model_for(config: SimConfig, *, by_order: bool) -> SimConfig:
    """Return the model in force for a market: where it does not name each order, conservative in place of fifo."""
    return msgspec.structs.replace(config, queue=CONSERVATIVE) if config.queue == FIFO and not by_order else config


def describe(config: SimConfig) -> dict[str, str | float]:
    """Return every parameter by its name in the configuration."""
    return dict(msgspec.structs.asdict(config))


def in_words(config: SimConfig) -> str:
    """Return the parameters as one line of text."""
    return ", ".join(f"{name} {value}" for name, value in describe(config).items())


def fee_rate(bps: float) -> int:
    """Return basis points as an integer of 1/FEE_SCALE."""
    return round(bps * FEE_SCALE / 10_000)


def fee_of(notional: Money, rate: int) -> Money:
    """Return the fee on a fill, rounded up (against us, a rebate too)."""
    return -(-notional * rate // FEE_SCALE)
