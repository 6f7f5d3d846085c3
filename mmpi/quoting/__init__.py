"""Strategies, one file each. `make_quoter` is the registry: a config type belongs to exactly one quoter class."""

from typing import Final, TypeAlias

from mmpi.instrument import Instrument
from mmpi.ports import Quoter
from mmpi.quoting.layered import Layered, LayeredConfig

QuoterSettings: TypeAlias = LayeredConfig
"""Any strategy's configuration."""
QUOTERS: Final = {LayeredConfig: Layered}


def make_quoter(config: QuoterSettings, instrument: Instrument) -> Quoter:
    """Return the quoter that a strategy's configuration describes."""
    return QUOTERS[type(config)](config, instrument)
