"""Strategies, one file each. `make_quoter` is the registry: a config type belongs to exactly one quoter class."""

from decimal import Decimal
from typing import Final, TypeAlias

import msgspec

from mmpi.instrument import Instrument
from mmpi.ports import Quoter
from mmpi.quoting.avellaneda_stoikov import AvellanedaStoikov, AvellanedaStoikovConfig
from mmpi.quoting.glft import Glft, GlftConfig
from mmpi.quoting.improve import Improve, ImproveConfig
from mmpi.quoting.layered import Layered, LayeredConfig

QuoterSettings: TypeAlias = LayeredConfig | AvellanedaStoikovConfig | GlftConfig | ImproveConfig
"""Any strategy's configuration."""
TOO_SMALL: Final = "0.000000000001"
"""A worth of less than any lot: the finest amount of money there is."""
QUOTERS: Final = {
    LayeredConfig: Layered,
    AvellanedaStoikovConfig: AvellanedaStoikov,
    GlftConfig: Glft,
    ImproveConfig: Improve,
}


def make_quoter(config: QuoterSettings, instrument: Instrument) -> Quoter:
    """Return the quoter that a strategy's configuration describes."""
    quoter: Quoter = QUOTERS[type(config)](config, instrument)
    return quoter


def on_grid(config: QuoterSettings, instrument: Instrument) -> QuoterSettings:
    """Return the configuration with its sizes cut to whole lots of an instrument that it was not written for.

    The same object where nothing is to be cut. A size below one lot becomes a worth below one lot: the quoter then says
    size_below_lot. A reference size below one lot becomes one lot.
    """
    if config.size and (lots := _whole_lots(config.size, instrument)) != config.size:
        small = {"notional": TOO_SMALL} if not lots else {}
        config = msgspec.structs.replace(config, size=lots, **small)
    if isinstance(config, ImproveConfig) and config.reference_size:
        lots = _whole_lots(config.reference_size, instrument) or instrument.lot_size
        if lots != config.reference_size:
            config = msgspec.structs.replace(config, reference_size=lots)
    return config


def _whole_lots(size: str, instrument: Instrument) -> str:
    """Return the size as it is if it is whole lots, else rounded down to them; "" for less than one."""
    count = int(Decimal(size) / Decimal(instrument.lot_size))
    if count * Decimal(instrument.lot_size) == Decimal(size):
        return size
    return instrument.size_text(count) if count else ""
