"""Load: one checked configuration out of all sources, resolved to settings.Settings.

Invariant: either everything is right, or one ConfigError says everything that is wrong.
It must not know pydantic, or what any part does with its settings.
"""

import hashlib
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Final

import msgspec

from mmpi import folders
from mmpi.channels import AlertSettings, BrokerSettings, FarMqttSettings, MqttSettings, WebSettings
from mmpi.config import box, models, relations, schema, sources, telling
from mmpi.config.quoters import STRATEGIES, amount_text, in_force, quoter_settings
from mmpi.errors import ConfigError
from mmpi.instrument import MONEY_SCALE, Money, money_text
from mmpi.risk import RiskConfig
from mmpi.sections import (
    ClockSettings,
    GuardianSettings,
    HostSettings,
    JournalSettings,
    PathSettings,
    PinSettings,
    PowerSettings,
    VenueSettings,
    WatchdogSettings,
)
from mmpi.session import NEVER
from mmpi.settings import InstrumentSettings, Settings
from mmpi.sim.exchange import SimConfig
from mmpi.sim.scenario import NORMAL, MarketConfig, scenario

EMPTY: Final = schema.toml_text("")
"""A text that nobody chose."""
TELLING: Final = ("mqtt", "mqtt_far", "broker", "web", "alerts")
"""Sections that decide what the owner is told, and nothing of what is quoted."""
NO_FILE: Final = "no configuration file: built-in paper defaults on the generated market"


class Loaded(msgspec.Struct, frozen=True):
    """Settings, and for each dotted key its value as text and its origin: default, file, `environment NAME` or
    `scenario NAME`."""

    settings: Settings
    values: dict[str, str]
    origins: dict[str, str]
    notes: list[str]
    """What is permitted but should be known."""


def effective(loaded: Loaded) -> list[tuple[str, str, str]]:
    """Return (key, value, origin) for every key that is in force."""
    return [(key, value, loaded.origins[key]) for key, value in loaded.values.items()]


def digest(settings: Settings) -> str:
    """Return the SHA-256, in hexadecimal, of everything that decides behaviour: all but folders, name and telemetry."""
    content = msgspec.to_builtins(settings)
    for key in ("device_id", "paths", "digest", *TELLING):
        del content[key]
    # A place, too; and what a box was armed for before it knew this key must stay the same.
    del content["host"]["setup_result"]
    return hashlib.sha256(msgspec.json.encode(content, order="sorted")).hexdigest()


def load_config(path: Path | None, environ: Mapping[str, str], quoter: str = "") -> Loaded:
    """Return the checked configuration: `path`'s, else MMPI_CONFIG's, else the installed file's, else paper defaults.

    The environment's overrides win over a file, and `quoter` over both, for every instrument. ConfigError has one line
    for every thing that is wrong.
    """
    if quoter and quoter not in STRATEGIES:
        raise ConfigError(f"--quoter {quoter}: no such quoter; allowed: {', '.join(STRATEGIES)}")
    file = folders.config_file(path, environ)
    gathered = sources.gather(file, environ, models.KEYS, models.GENERATED_INSTRUMENTS)
    if quoter:
        gathered.choose("quoter", quoter)
    config, refused = models.validate(gathered.tables)
    values = _values(config)
    automatic = {k: v for k, v in folders.automatic(environ, config.paths.state_dir).items() if values[k] == EMPTY}
    settings = _settings(config, automatic)
    resolved = {**automatic, **_by_scenario(config.market, settings.market)}
    reason = config.risk.override_reason
    broken = relations.problems(settings, reason)
    lines = [*gathered.wrong, *_refusals(gathered, refused), *_breaches(gathered, values, broken, refused)]
    if lines:
        raise ConfigError("\n".join(lines))
    return Loaded(
        settings=settings,
        values=values | {key: schema.toml_text(value) for key, (value, _) in resolved.items()},
        origins={key: resolved.get(key, ("", gathered.origins.get(key, sources.DEFAULT)))[1] for key in values},
        notes=([] if file else [NO_FILE]) + list(_unused(config, gathered)) + list(relations.notes(settings, reason)),
    )


def _refusals(gathered: sources.Gathered, refused: list[models.Refusal]) -> Iterator[str]:
    """Return the lines for values that are wrong by themselves."""
    for path, said in refused:
        if path not in gathered.secrets:
            yield gathered.line((schema.dotted(path),), schema.shown(sources.look_up(gathered.tables, path)), said)


def _breaches(
    gathered: sources.Gathered,
    values: dict[str, str],
    broken: Iterator[relations.Problem],
    refused: list[models.Refusal],
) -> Iterator[str]:
    """Return the lines for broken relations between values that are fine by themselves."""
    bad = [f"{schema.dotted(path)}." for path, _ in refused]
    for problem in broken:
        if not any(f"{key}.".startswith(prefix) for key in problem.keys for prefix in bad):
            yield gathered.line(problem.keys, values.get(problem.keys[0]), f"allowed: {problem.allowed}")


def _settings(config: models.Config, automatic: dict[str, tuple[str, str]]) -> Settings:
    """Return the settings, with what `automatic` holds in place of empty texts."""
    settings = Settings(
        device_id=config.device.id or automatic["device.id"][0],
        paths=PathSettings(
            state_dir=config.paths.state_dir or automatic["paths.state_dir"][0],
            runtime_dir=config.paths.runtime_dir or automatic["paths.runtime_dir"][0],
            secrets_dir=config.secrets.dir or automatic["secrets.dir"][0],
        ),
        venue=VenueSettings(**config.venue.model_dump()),
        instruments=tuple(_instrument(name, each) for name, each in config.instruments.items()),
        risk=_risk(config.risk),
        sim=SimConfig(**config.sim.model_dump()),
        market=_market(config.market),
        journal=JournalSettings(**config.journal.model_dump()),
        guardian=GuardianSettings(**config.guardian.model_dump()),
        clock=ClockSettings(**config.clock.model_dump()),
        pins=PinSettings(**config.pins.model_dump()),
        power=PowerSettings(**config.power.model_dump()),
        host=_host(config.host),
        watchdog=WatchdogSettings(**config.watchdog.model_dump()),
        mqtt=MqttSettings(**config.mqtt.model_dump()),
        mqtt_far=FarMqttSettings(**config.mqtt_far.model_dump()),
        broker=_broker(config.broker),
        web=WebSettings(**config.web.model_dump()),
        alerts=AlertSettings(**config.alerts.model_dump()),
    )
    return msgspec.structs.replace(settings, digest=digest(settings))


def _broker(section: telling.Broker) -> BrokerSettings:
    """Return the broker's settings, with its people as names."""
    given = {key: value for key, value in section.model_dump().items() if value != ""}
    for key in ("owners", "readers"):
        given[key] = tuple(getattr(section, key).replace(",", " ").split())
    return BrokerSettings(**given)


def _host(section: box.Host) -> HostSettings:
    return HostSettings(**{key: value for key, value in section.model_dump().items() if value != ""})


def _market(section: models.Market) -> MarketConfig:
    """Return the scenario's numbers, with those that were written in place of its own."""
    return scenario(section.scenario, section.model_dump(include=section.model_fields_set - {"scenario"}))


def _by_scenario(section: models.Market, market: MarketConfig) -> dict[str, tuple[object, str]]:
    """Return the values that are what they are because of the scenario, each with that origin."""
    chosen = msgspec.to_builtins(market)
    usual = msgspec.to_builtins(NORMAL)
    unwritten = (key for key in chosen if key not in section.model_fields_set and chosen[key] != usual[key])
    return {f"market.{key}": (chosen[key], f"scenario {section.scenario}") for key in unwritten}


def _instrument(name: str, section: models.Instrument) -> InstrumentSettings:
    return InstrumentSettings(
        name=name,
        quoter=quoter_settings(section.quoter, getattr(section, section.quoter)),
        tick_size=amount_text(section.tick_size),
        lot_size=amount_text(section.lot_size),
    )


def _unused(config: models.Config, gathered: sources.Gathered) -> Iterator[str]:
    """Return a note for each strategy's table that somebody wrote and no instrument's `quoter` names."""
    for name, section in config.instruments.items():
        for other in STRATEGIES:
            table = schema.dotted(("instruments", name, other))
            if other != section.quoter and any(key.startswith(f"{table}.") for key in gathered.origins):
                yield f"{table}: not used; {schema.dotted(('instruments', name, 'quoter'))} is \"{section.quoter}\""


def _risk(section: models.Risk) -> RiskConfig:
    limits = section.model_dump(exclude={"override_reason", "session_start"})
    hour, _, minute = section.session_start.partition(":")
    start_s = int(hour) * 3600 + int(minute) * 60 if minute else NEVER
    money = {key: _money(v) if isinstance(v, Decimal) else v for key, v in limits.items()}
    return RiskConfig(**money, session_start_s=start_s)


def _values(config: models.Config) -> dict[str, str]:
    """Return every key's value in TOML notation."""
    values = {schema.dotted(path): _value_text(value) for path, value in sources.leaves(config.model_dump())}
    for name, section in config.instruments.items():
        for strategy in STRATEGIES:
            for key, amount in in_force(getattr(section, strategy)).items():
                values[schema.dotted(("instruments", name, strategy, key))] = _value_text(amount)
    return values


def _value_text(value: object) -> str:
    return money_text(_money(value)) if isinstance(value, Decimal) else schema.toml_text(value)


def _money(value: Decimal) -> Money:
    return int(value * MONEY_SCALE)
