"""Quoters: the tables of the strategies, `[instruments.NAME.layered]` and so on, and the struct that each resolves to.

Invariant: every field of a strategy's struct is a key of its table, with the struct's default.
It must not know what a strategy does with its settings, or limits.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final, Literal, TypeAlias

import msgspec

from mmpi.config.fields import Amount, Section, amount, choice, number
from mmpi.instrument import MONEY_SCALE, money_text
from mmpi.quoting import QuoterSettings
from mmpi.quoting.avellaneda_stoikov import AvellanedaStoikovConfig
from mmpi.quoting.glft import GlftConfig
from mmpi.quoting.improve import ImproveConfig
from mmpi.quoting.layered import LayeredConfig

K_MEANING: Final = "How fast fills become rarer with the distance from the mid; larger = a tighter quote."
REFERENCE_MEANING: Final = "Centre of the quote of a flat position; micro_price is the mid that is expected next."
FLOOR_MEANING: Final = "Per square root of a second: what is measured counts as at least this."
_LAYERED, _AS, _GLFT, _IMPROVE = LayeredConfig(), AvellanedaStoikovConfig(), GlftConfig(), ImproveConfig()


def _levels(default: int) -> Any:
    return number(default, "Orders on each side.", ge=1, le=20)


def _size(what: str) -> Any:
    return amount("0", f"{what} size; 0 = use notional.", "base currency", ge=0)


def _notional(default: str, what: str) -> Any:
    return amount(default, f"{what} worth; 0 = use size.", "quote currency", ge=0)


def _interval(default: float) -> Any:
    return number(default, "The orders are moved at most this often.", ge=0.05, le=3600)


def _tolerance_ticks(default: int) -> Any:
    return number(default, "An order this near its target stays, with its queue position.", ge=0, le=10_000)


def _tolerance_percent(default: float) -> Any:
    meaning = "The same, in percent of the order's distance from the centre of the quote; the larger counts."
    return number(default, meaning, ge=0, le=100)


def _size_tolerance_percent(default: float) -> Any:
    return number(default, "An order whose size is off by at most this stays.", ge=0, le=100)


def _bps(default: float, meaning: str, le: float = 1000) -> Any:
    return number(default, meaning, ge=0, le=le)


class Layered(Section):
    """A symmetric ladder around the reference. Exactly one of size and notional; a size switches notional off."""

    levels: int = _levels(_LAYERED.levels)
    spread_percent: float = number(
        _LAYERED.spread_percent, "From the best bid of the ladder to its best ask.", gt=0, le=20
    )
    step_percent: float = number(_LAYERED.step_percent, "From one level to the next.", gt=0, le=20)
    size: Amount = _size("Each order's")
    notional: Amount = _notional(_LAYERED.notional, "Each order's")
    update_interval_s: float = _interval(_LAYERED.update_interval_s)
    reference: Literal["mid", "weighted_mid"] = choice(
        _LAYERED.reference, "Centre of the ladder; weighted_mid leans to the thinner side of the book."
    )
    volatility_multiple: float = number(
        _LAYERED.volatility_multiple,
        "Half spread is at least this many standard deviations of the price over one update; 0 = off.",
        ge=0,
        le=100,
    )
    tolerance_ticks: int = _tolerance_ticks(_LAYERED.tolerance_ticks)
    tolerance_percent: float = _tolerance_percent(_LAYERED.tolerance_percent)
    size_tolerance_percent: float = _size_tolerance_percent(_LAYERED.size_tolerance_percent)


class AvellanedaStoikov(Section):
    """Avellaneda-Stoikov: a ladder around a price that gives way to the position, as wide as risk and fills ask for.

    Exactly one of size and notional, for one side's orders together; a size switches notional off.
    """

    levels: int = number(_AS.levels, "Orders on each side, at most: each must have its smallest size.", ge=1, le=20)
    size: Amount = _size("One side's whole")
    notional: Amount = _notional(_AS.notional, "One side's whole")
    gamma_per_bp: float = number(
        _AS.gamma_per_bp, "Risk aversion: how far the price gives way to the position; 0 = not at all.", ge=0, le=10
    )
    k_per_bp: float = number(_AS.k_per_bp, K_MEANING, ge=0.001, le=100)
    horizon_s: float = number(_AS.horizon_s, "How long a position is held, on average.", ge=0.1, le=86_400)
    reference: Literal["mid", "weighted_mid", "micro_price"] = choice(_AS.reference, REFERENCE_MEANING)
    min_volatility_bps: float = _bps(_AS.min_volatility_bps, FLOOR_MEANING, 100)
    min_half_spread_bps: float = _bps(_AS.min_half_spread_bps, "Half spread, at least.")
    max_half_spread_bps: float = number(
        _AS.max_half_spread_bps, "Half spread, at most; the lean too, and a third of the farthest order's distance.",
        gt=0, le=1000,
    )  # fmt: skip
    adverse_selection_bps: float = _bps(
        _AS.adverse_selection_bps, "Expected loss after a fill at the mid; orders keep a distance that pays it.", 100
    )
    adverse_decay_bps: float = number(
        _AS.adverse_decay_bps, "Distance from the mid at which that loss has fallen to 37%.", ge=0.01, le=1000
    )
    min_rung_percent: float = number(_AS.min_rung_percent, "Smallest share of a side that an order has.", ge=0, le=100)
    use_regime: bool = choice(
        _AS.use_regime, "Low, normal, high, extreme volatility: half spread x 0.8, 1, 1.5, 3; size x 1, 1, 0.5, 0.1."
    )
    pause_regime: bool = choice(_AS.pause_regime, "In extreme volatility only orders that reduce the position stay.")
    pause_imbalance: float = number(
        _AS.pause_imbalance, "The same while the book leans this much to one side; 0 = off.", ge=0, le=1,
        unit="part of 1",
    )  # fmt: skip
    imbalance_shift: float = number(
        _AS.imbalance_shift, "How far a book that leans wholly to one side moves the quote.", ge=0, le=1,
        unit="half spreads",
    )  # fmt: skip
    flow_shift: float = number(
        _AS.flow_shift, "The same when all takers buy, or all sell.", ge=0, le=1, unit="half spreads"
    )
    update_interval_s: float = _interval(_AS.update_interval_s)
    tolerance_ticks: int = _tolerance_ticks(_AS.tolerance_ticks)
    tolerance_percent: float = _tolerance_percent(_AS.tolerance_percent)
    size_tolerance_percent: float = _size_tolerance_percent(_AS.size_tolerance_percent)


class Glft(Section):
    """Gueant-Lehalle-Fernandez-Tapia: like avellaneda_stoikov, without an end of the day and with a largest position.

    Exactly one of size and notional, for one order; a size switches notional off.
    """

    levels: int = _levels(_GLFT.levels)
    size: Amount = _size("Each order's")
    notional: Amount = _notional(_GLFT.notional, "Each order's")
    max_inventory: int = number(
        _GLFT.max_inventory, "Largest position, in orders; risk.max_position holds besides.", ge=1, le=50
    )
    gamma_per_bp: float = number(
        _GLFT.gamma_per_bp, "Risk aversion: how far the quote gives way to the position; 0 = not at all.", ge=0, le=10
    )
    k_per_bp: float = number(_GLFT.k_per_bp, K_MEANING, ge=0.001, le=100)
    arrivals_per_s: float = number(_GLFT.arrivals_per_s, "Fills of an order at the mid.", ge=0.000001, le=10_000)
    approximate: bool = choice(_GLFT.approximate, "Use the closed form in place of the exact solution.")
    reference: Literal["mid", "weighted_mid", "micro_price"] = choice(_GLFT.reference, REFERENCE_MEANING)
    min_volatility_bps: float = number(_GLFT.min_volatility_bps, FLOOR_MEANING, ge=0.001, le=100)
    max_depth_bps: float = number(_GLFT.max_depth_bps, "No order is farther from the reference.", gt=0, le=1000)
    update_interval_s: float = _interval(_GLFT.update_interval_s)
    tolerance_ticks: int = _tolerance_ticks(_GLFT.tolerance_ticks)
    tolerance_percent: float = _tolerance_percent(_GLFT.tolerance_percent)
    size_tolerance_percent: float = _size_tolerance_percent(_GLFT.size_tolerance_percent)


class Improve(Section):
    """One bid and one ask that join, or improve, the best price with enough size behind it.

    Exactly one of size and notional, at most one of reference_size and reference_notional; sizes switch the others off.
    """

    size: Amount = _size("Each order's")
    notional: Amount = _notional(_IMPROVE.notional, "Each order's")
    improvement_ticks: int = number(
        _IMPROVE.improvement_ticks, "How far inside the reference price; 0 = join it.", ge=0, le=1000
    )
    reference_size: Amount = amount(
        "0", "A price level of this size counts; 0 = use reference_notional.", "base currency", ge=0
    )
    reference_notional: Amount = amount(
        _IMPROVE.reference_notional, "A price level worth this counts; 0 = every level.", "quote currency", ge=0
    )
    spread_bps: float = number(
        _IMPROVE.spread_bps, "From bid to ask, where no level has the reference size.", ge=0.01, le=1000
    )
    min_spread_bps: float = number(_IMPROVE.min_spread_bps, "From bid to ask, at least.", ge=0, le=1000)
    sides: Literal["both", "bid_only", "ask_only"] = choice(_IMPROVE.sides, "What is quoted.")
    pair_policy: Literal["keep", "cancel"] = choice(
        _IMPROVE.pair_policy,
        "When one order is refused, the other stays (keep), or is withdrawn until both are tried again unless it "
        "reduces the position (cancel).",
    )
    use_mark: bool = choice(_IMPROVE.use_mark, "Quote around the venue's mark price where the book has no mid.")
    cancel_threshold_bps: float = number(
        _IMPROVE.cancel_threshold_bps,
        "An order this near the wanted price stays, with its queue position; 0 = it always follows.",
        ge=0,
        le=1000,
    )
    refresh_interval_s: float = number(
        _IMPROVE.refresh_interval_s, "So often orders are moved to exactly the wanted price; 0 = never.", ge=0, le=3600
    )
    update_interval_s: float = _interval(_IMPROVE.update_interval_s)
    size_tolerance_percent: float = _size_tolerance_percent(_IMPROVE.size_tolerance_percent)


Table: TypeAlias = Layered | AvellanedaStoikov | Glft | Improve
"""Any strategy's table."""
STRATEGIES: Final[Mapping[str, type[QuoterSettings]]] = {
    "layered": LayeredConfig,
    "avellaneda_stoikov": AvellanedaStoikovConfig,
    "glft": GlftConfig,
    "improve": ImproveConfig,
}
"""What `quoter` may say, and the struct that the table of that name resolves to."""
OTHERWISE: Final = {"notional": "size", "reference_notional": "reference_size"}
"""Keys whose default counts only where nobody wrote the other key."""


def quoter_settings(name: str, table: Table) -> QuoterSettings:
    """Return the struct that a strategy's table stands for; amounts as plain decimal text, empty for 0."""
    values = table.model_dump() | in_force(table)
    plain = {key: amount_text(value) if isinstance(value, Decimal) else value for key, value in values.items()}
    return msgspec.convert(plain, STRATEGIES[name])


def in_force(table: Table) -> dict[str, Decimal]:
    """Return the amounts of OTHERWISE that the table has: 0 for a default that another key switches off."""
    written = table.model_fields_set
    return {
        key: Decimal(0) if getattr(table, other) and key not in written else getattr(table, key)
        for key, other in OTHERWISE.items()
        if key in type(table).model_fields
    }


def amount_text(value: Decimal) -> str:
    """Return an amount as settings hold it: plain decimal text, empty for 0."""
    return money_text(int(value * MONEY_SCALE)) if value else ""
