"""Engines: built from settings, saved as the journal's checkpoints, and rebuilt from them.

Invariant: `rebuild(checkpoint(engine))` acts as the engine does. It must not know modes, sockets or files.
"""

from decimal import Decimal

import msgspec

from mmpi.desk import DeskParams
from mmpi.engine import Engine, EngineParams
from mmpi.errors import ConfigError
from mmpi.governor import GovernorConfig
from mmpi.instrument import SECOND, Instrument, make_instrument
from mmpi.journal.entries import Checkpoint
from mmpi.runtime.build import build_id
from mmpi.runtime.venue_facts import VenueFacts
from mmpi.settings import InstrumentSettings, Settings
from mmpi.upkeep import UpkeepConfig


def engine_params(
    settings: Settings, instruments: dict[str, Instrument], prefix: str, *, at_venue: bool = False
) -> EngineParams:
    """Return what an engine is built from; `at_venue` where orders go to the venue that the books come from."""
    venue = settings.venue
    governor = GovernorConfig(venue.weight_per_minute, venue.budget_low, venue.budget_reserve)
    return EngineParams(
        cl_ord_prefix=prefix,
        desks=tuple(DeskParams(instruments[each.name], each.quoter, at_venue) for each in settings.instruments),
        risk=settings.risk,
        patience=round(venue.ack_timeout_s * SECOND),
        upkeep=UpkeepConfig(governor, amends=venue.amend) if at_venue else None,
    )


def venue_market(wanted: InstrumentSettings, facts: VenueFacts) -> tuple[Instrument, int]:
    """Return the venue's instrument and asset number; ConfigError for another grid, which its prices do not fit."""
    known, number = facts.instrument(wanted.name)
    for key, own, theirs in (
        ("tick_size", wanted.tick_size, known.tick_size), ("lot_size", wanted.lot_size, known.lot_size)
    ):  # fmt: skip
        if own and Decimal(own) != Decimal(theirs):
            here = f"instruments.{wanted.name}.{key}"
            raise ConfigError(f"{here}: value {own}: allowed: 0, or {theirs} as the venue says")
    return known, number


def grid(wanted: InstrumentSettings, known: Instrument) -> Instrument:
    """Return the generated market's instrument, on another grid where the configuration says so."""
    if not wanted.tick_size and not wanted.lot_size:
        return known
    return make_instrument(
        known.name,
        wanted.tick_size or known.tick_size,
        wanted.lot_size or known.lot_size,
        significant_figures=known.significant_figures,
        min_notional=str(known.min_notional / 10**12),
    )


def checkpoint(engine: Engine, digest: str) -> Checkpoint:
    """Return the journal's checkpoint of an engine."""
    return Checkpoint(
        digest=digest,
        cl_ord_prefix=engine.params.cl_ord_prefix,
        mmpi_version=build_id(),
        engine_config=msgspec.json.encode(engine.params),
        engine_state=engine.checkpoint(),
    )


def rebuild(saved: Checkpoint) -> Engine:
    """Return the engine of a checkpoint; the inverse of `checkpoint`."""
    engine = Engine(msgspec.json.decode(saved.engine_config, type=EngineParams))
    engine.restore(saved.engine_state)
    return engine
