"""Ladders: what each strategy's settings come to in orders, amounts and reach, and what that is to the limits.

Invariant: a problem is a setting with which orders are refused in any market; what depends on the market is a note.
It must not know instruments' prices, or where a value came from.
"""

from collections.abc import Iterator
from decimal import Decimal
from typing import Final, TypeAlias

from mmpi.config.schema import dotted
from mmpi.instrument import Money, money, money_text
from mmpi.quoting import QuoterSettings
from mmpi.quoting.avellaneda_stoikov import REACH_SPREADS, AvellanedaStoikovConfig
from mmpi.quoting.glft import GlftConfig
from mmpi.quoting.improve import ImproveConfig
from mmpi.quoting.layered import LayeredConfig
from mmpi.risk import RiskConfig
from mmpi.settings import InstrumentSettings

Broken: TypeAlias = tuple[tuple[str, ...], str]
"""Keys, of the strategy's table unless they begin with a section, and what is allowed for the first."""
BPS: Final = 10_000


def table_of(instrument: InstrumentSettings) -> str:
    """Return the dotted name of the table that an instrument's strategy was read from."""
    return dotted(("instruments", instrument.name, name_of(instrument.quoter)))


def name_of(quoter: QuoterSettings) -> str:
    """Return what `quoter` says for a strategy."""
    return str(type(quoter).__struct_config__.tag)


def orders(quoter: QuoterSettings) -> int:
    """Return how many orders there may be at once, both sides together."""
    if isinstance(quoter, ImproveConfig):
        return 2 if quoter.sides == "both" else 1
    return 2 * quoter.levels


def sizes(quoter: QuoterSettings) -> tuple[tuple[str, str], ...]:
    """Return the keys of sizes in lots, with their texts."""
    size = ("size", quoter.size)
    return (size, ("reference_size", quoter.reference_size)) if isinstance(quoter, ImproveConfig) else (size,)


def whole(quoter: QuoterSettings) -> Money:
    """Return what all orders of both sides may be worth; 0 where they are given as a size."""
    amount = money(quoter.notional or "0")
    return (2 if isinstance(quoter, AvellanedaStoikovConfig) else orders(quoter)) * amount


def problems(quoter: QuoterSettings, risk: RiskConfig) -> Iterator[Broken]:
    """Return what is broken within a strategy's table, and between it and the limits."""
    worth, most, band = money(quoter.notional or "0"), risk.max_order, risk.price_band_bps
    if bool(quoter.size) == bool(quoter.notional):
        yield ("size", "notional"), "exactly one of size and notional above 0"
    elif isinstance(quoter, AvellanedaStoikovConfig):
        if worth > quoter.levels * most:
            said = f"at most levels x risk.max_order ({money_text(quoter.levels * most)}), or orders are refused"
            yield ("notional", "size", "levels", "risk.max_order"), said
    elif worth > most:
        said = f"at most risk.max_order ({money_text(most)}), or every order is refused"
        yield ("notional", "size", "risk.max_order"), said
    if isinstance(quoter, LayeredConfig):
        outermost = _outermost_bps(quoter)
        if outermost > Decimal(repr(band)):
            yield (
                ("spread_percent", "step_percent", "levels", "risk.price_band_bps"),
                f"a ladder within risk.price_band_bps ({band}) of the reference; "
                f"spread_percent / 2 + (levels - 1) x step_percent is {outermost.normalize():f} basis points",
            )
    elif isinstance(quoter, AvellanedaStoikovConfig):
        if quoter.min_half_spread_bps > quoter.max_half_spread_bps:
            said = f"at most max_half_spread_bps ({quoter.max_half_spread_bps})"
            yield ("min_half_spread_bps", "max_half_spread_bps"), said
        if quoter.min_half_spread_bps > band:
            said = f"at most risk.price_band_bps ({band}), or every order is refused"
            yield ("min_half_spread_bps", "risk.price_band_bps"), said
    elif isinstance(quoter, ImproveConfig):
        yield from _of_improve(quoter, band)


def _of_improve(quoter: ImproveConfig, band: float) -> Iterator[Broken]:
    if quoter.reference_size and quoter.reference_notional:
        yield ("reference_size", "reference_notional"), "at most one of reference_size and reference_notional above 0"
    if quoter.min_spread_bps > quoter.spread_bps:
        yield ("min_spread_bps", "spread_bps"), f"at most spread_bps ({quoter.spread_bps})"
    if quoter.min_spread_bps > 2 * band:
        said = f"at most 2 x risk.price_band_bps ({2 * band}), or orders are refused"
        yield ("min_spread_bps", "risk.price_band_bps"), said


def notes(quoter: QuoterSettings, risk: RiskConfig, smallest: Money) -> Iterator[str]:
    """Return what will, or may, be refused; each note follows the table's name. `smallest` is the venue's order."""
    both, worth = whole(quoter), money(quoter.notional or "0")
    one = both if orders(quoter) == 1 else both // 2
    if 0 < worth < smallest:
        yield f".notional: {money_text(worth)}; the venue takes none below {money_text(smallest)}: there will be none"
    for what, amount, limit, key in (
        ("one side of the ladder", one, risk.max_position, "risk.max_position"),
        ("the ladder", both, risk.max_instrument, "risk.max_instrument"),
    ):
        if amount > limit:
            yield f": {what} is {money_text(amount)}, {key} is {money_text(limit)}: outer orders will be refused"
    if orders(quoter) > risk.max_open_orders:
        yield f": the ladder has {orders(quoter)} orders, risk.max_open_orders is {risk.max_open_orders}"
    yield from _amount_notes(quoter, risk)
    if (reach := _reach_bps(quoter)) > risk.price_band_bps:
        yield (
            f": an order may be {reach:g} basis points from the mid, risk.price_band_bps is {risk.price_band_bps:g}: "
            "it is refused then"
        )


def _amount_notes(quoter: QuoterSettings, risk: RiskConfig) -> Iterator[str]:
    worth, most = money(quoter.notional or "0"), risk.max_order
    if isinstance(quoter, AvellanedaStoikovConfig):
        if worth > most:
            yield f".notional: one order may have all of it; risk.max_order is {money_text(most)}: it is refused then"
        return
    # Orders are sized at the mid; one above it is worth more.
    reach = risk.price_band_bps if isinstance(quoter, ImproveConfig) else _reach_bps(quoter)
    dearest = worth + int(worth * min(reach, risk.price_band_bps)) // BPS
    if worth <= most < dearest:
        yield (
            f".notional: an ask above the mid is worth up to {money_text(dearest)}, risk.max_order is "
            f"{money_text(most)}: what is above it will be refused"
        )
    if isinstance(quoter, GlftConfig) and quoter.max_inventory * worth > risk.max_position:
        largest = money_text(quoter.max_inventory * worth)
        yield f".max_inventory: {largest} is more than risk.max_position, {money_text(risk.max_position)}, which holds"


def _reach_bps(quoter: QuoterSettings) -> float:
    """Return how far from the mid an order may be at most, as far as the settings bound it."""
    if isinstance(quoter, LayeredConfig):
        return float(_outermost_bps(quoter))
    if isinstance(quoter, GlftConfig):
        return quoter.max_depth_bps
    if isinstance(quoter, ImproveConfig):
        # A level that has the reference size may be anywhere.
        return quoter.spread_bps / 2
    # The lean, the shift by signals, and the deepest order's distance from where these lead.
    widest = quoter.max_half_spread_bps
    deepest = (REACH_SPREADS if quoter.levels > 1 else 1.0) * (widest + quoter.adverse_selection_bps)
    return widest * (1.0 + quoter.imbalance_shift + quoter.flow_shift) + deepest


def _outermost_bps(quoter: LayeredConfig) -> Decimal:
    spread, step = Decimal(repr(quoter.spread_percent)), Decimal(repr(quoter.step_percent))
    return 100 * (spread / 2 + (quoter.levels - 1) * step)
