"""Strategies, one file each. `make_quoter` is the registry: a config type belongs to exactly one quoter class."""

from typing import Final, TypeAlias

from mmpi.instrument import Instrument
from mmpi.ports import Quoter
from mmpi.quoting.avellaneda_stoikov import AvellanedaStoikov, AvellanedaStoikovConfig
from mmpi.quoting.glft import Glft, GlftConfig
from mmpi.quoting.improve import Improve, ImproveConfig
from mmpi.quoting.layered import Layered, LayeredConfig

QuoterSettings: TypeAlias = LayeredConfig | AvellanedaStoikovConfig | GlftConfig | ImproveConfig
"""Any strategy's configuration."""
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
