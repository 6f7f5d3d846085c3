"""Relations: what configuration values must be to each other, and what a person should be told about them.

Invariant: each bound on one value alone is in models.py; everything here concerns at least two.
It must not know where a value came from; what a strategy's own settings come to is in ladders.py.
"""

from collections.abc import Iterator
from decimal import Decimal
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

import msgspec

from mmpi.config import ladders
from mmpi.config.schema import dotted
from mmpi.errors import ConfigError
from mmpi.instrument import Money, make_instrument, money, money_text
from mmpi.sections import PathSettings, VenueSettings
from mmpi.settings import InstrumentSettings, Settings
from mmpi.sim.market import GENERATED
from mmpi.sim.queue_models import FIFO
from mmpi.venues.hyperliquid.messages import MIN_NOTIONAL

LOSS_FRACTION: Final = 10
"""A session may lose a tenth of the capital; more wants a written reason (risk.override_reason)."""
CHECKPOINT_BYTES: Final = 256 * 1024
"""Twice what the checkpoint that opens a segment can take for one instrument: the rest has to hold events."""
SERVICE_WATCHDOG_S: Final = 10
"""WatchdogSec of the units, above the 8 s of the dead-man switch (I6)."""
SOCKET_PATH: Final = 107
"""Bytes of a socket's name that the kernel takes (unix(7): sun_path is 108 with its closing zero)."""
SEGMENTS: Final = 2
"""The journal drops whole segments while it writes another, so it needs room for two."""


MQTT_PORT: Final = 1883


class Problem(msgspec.Struct, frozen=True):
    """A broken relation: the keys concerned, the one to complain about first, and what is allowed for that one."""

    keys: tuple[str, ...]
    allowed: str


def problems(settings: Settings, override_reason: str) -> Iterator[Problem]:
    """Return every broken relation."""
    yield from _folders(settings.paths)
    yield from _venue(settings.venue)
    yield from _box(settings)
    yield from _telling(settings)
    yield from _order_of_limits(settings)
    if not override_reason:
        yield from _losses(settings)
    for instrument in settings.instruments:
        yield from _instrument(instrument, settings)
    if settings.journal.max_bytes < SEGMENTS * settings.journal.segment_bytes:
        yield Problem(
            ("journal.max_bytes", "journal.segment_bytes"),
            f"at least {SEGMENTS} x journal.segment_bytes ({settings.journal.segment_bytes})",
        )
    least = CHECKPOINT_BYTES * len(settings.instruments)
    if settings.journal.segment_bytes < least:
        yield Problem(("journal.segment_bytes",), f"at least {least}, {CHECKPOINT_BYTES} for each instrument")


def notes(settings: Settings, override_reason: str) -> Iterator[str]:
    """Return what is permitted but should be known."""
    if not settings.guardian.required and settings.venue.mode != "paper":
        yield "guardian.required: false: if nobody starts a guardian, no button and no command can stop this box"
    if override_reason:
        for problem in _losses(settings):
            yield f"{problem.keys[0]}: more than 10% of risk.capital; reason given: {override_reason}"
    if settings.sim.queue == FIFO:
        yield 'sim.queue: "fifo" is for data that names each order; everywhere else "conservative" stands in for it'
    for instrument in settings.instruments:
        for note in ladders.notes(instrument.quoter, settings.risk, _smallest(instrument, settings)):
            yield f"{ladders.table_of(instrument)}{note}"
    whole = sum(ladders.whole(each.quoter) for each in settings.instruments)
    if whole > (most := settings.risk.max_total):
        yield f"risk.max_total: {money_text(most)} is less than all ladders together ({money_text(whole)})"


def _folders(paths: PathSettings) -> Iterator[Problem]:
    socket = str(paths.control)
    if (spare := SOCKET_PATH - len(socket.encode())) < 0:
        yield Problem(("paths.runtime_dir",), f"a path {-spare} bytes shorter: {socket} is too long for a socket")


def _venue(venue: VenueSettings) -> Iterator[Problem]:
    if venue.name == "generated":
        if venue.mode != "paper":
            yield Problem(("venue.mode", "venue.name"), '"paper", the only mode of venue.name "generated"')
        if venue.url:
            yield Problem(("venue.url", "venue.name"), 'none for venue.name "generated", which has no address')
    elif venue.mode == "live" and not venue.url.startswith("https://"):
        yield Problem(("venue.url", "venue.mode", "venue.name"), 'an https:// address for venue.mode "live"')
    elif venue.mode == "practice" and not _is_loopback(venue.url):
        yield Problem(
            ("venue.url", "venue.mode", "venue.name"),
            'an address of this machine for venue.mode "practice", such as "http://127.0.0.1:8765"',
        )
    elif not venue.url:
        yield Problem(("venue.url", "venue.name"), f'the address of venue.name "{venue.name}"')
    if venue.ca_file and not venue.url.startswith("https://"):
        yield Problem(("venue.ca_file", "venue.url"), "none unless venue.url is an https:// address")
    if venue.budget_reserve > venue.budget_low:
        yield Problem(
            ("venue.budget_reserve", "venue.budget_low"), f"at most venue.budget_low ({venue.budget_low})"
        )
    if venue.expires_after_ms >= venue.ack_timeout_s * 1000:
        yield Problem(
            ("venue.expires_after_ms", "venue.ack_timeout_s"),
            f"less than venue.ack_timeout_s ({venue.ack_timeout_s} s): an order must be void before it is given up on",
        )


def _box(settings: Settings) -> Iterator[Problem]:
    pins, power = settings.pins, settings.power
    if pins.backend != "none":
        if pins.kill < 0:
            yield Problem(("pins.kill", "pins.backend"), 'from 0 on unless pins.backend is "none"')
        lines = {key: line for key, line in msgspec.to_builtins(pins).items() if isinstance(line, int) and line >= 0}
        for key, line in lines.items():
            if other := next((name for name, same in lines.items() if same == line and name != key), None):
                yield Problem((f"pins.{key}", f"pins.{other}"), f"a line of its own; pins.{other} is {line}, too")
                break
    if power.source == "pin" and (pins.backend == "none" or pins.power < 0):
        yield Problem(("power.source", "pins.power", "pins.backend"), 'not "pin" unless pins.power says which one')
    if power.i2c_shunt_ohms == 0:
        yield Problem(("power.i2c_shunt_ohms",), "other than 0: a current is measured across it")
    if 0 < settings.watchdog.hardware_s <= SERVICE_WATCHDOG_S:
        yield Problem(
            ("watchdog.hardware_s",),
            f"0, or more than the {SERVICE_WATCHDOG_S} s in which systemd restarts a hung daemon, and at most 15",
        )


def _telling(settings: Settings) -> Iterator[Problem]:
    """Yield what is wrong with the brokers' sections."""
    for name, broker in (("mqtt", settings.mqtt), ("mqtt_far", settings.mqtt_far)):
        if not broker.url and (key := next((key for key in ("username", "cert_file") if getattr(broker, key)), "")):
            yield Problem((f"{name}.{key}", f"{name}.url"), f"empty unless {name}.url names a broker")
        for key in ("ca_file", "cert_file"):
            if getattr(broker, key) and broker.url and not broker.url.startswith("mqtts://"):
                yield Problem((f"{name}.{key}", f"{name}.url"), f"empty unless {name}.url is an mqtts:// address")
        if bool(broker.cert_file) != bool(broker.key_file):
            yield Problem((f"{name}.cert_file", f"{name}.key_file"), "both files, or neither")
    if settings.broker.enabled:
        yield from _own_broker(settings)
    if settings.mqtt_far.url and settings.mqtt_far.url == settings.mqtt.url:
        yield Problem(("mqtt_far.url", "mqtt.url"), "another broker than mqtt.url: a box cannot tell of its own death")


def _own_broker(settings: Settings) -> Iterator[Problem]:
    """Yield what keeps the box's own broker from being what the box itself uses."""
    own = f"mqtt://127.0.0.1:{settings.broker.port}"
    if settings.mqtt.url not in (own, *(["mqtt://127.0.0.1"] if settings.broker.port == MQTT_PORT else [])):
        yield Problem(("mqtt.url", "broker.enabled", "broker.port"), f"{own}, the box's own broker")
    if not settings.mqtt.username:
        yield Problem(("mqtt.username", "broker.enabled"), "a name: nobody comes in without one, not even the box")
    if settings.broker.tls_port and not (settings.broker.cert_file and settings.broker.key_file):
        yield Problem(("broker.tls_port", "broker.cert_file", "broker.key_file"), "0 without both of the other two")


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _order_of_limits(settings: Settings) -> Iterator[Problem]:
    risk = settings.risk
    chain = (
        ("risk.max_order", risk.max_order),
        ("risk.max_position", risk.max_position),
        ("risk.max_instrument", risk.max_instrument),
        ("risk.max_total", risk.max_total),
    )
    for (lower_key, lower), (upper_key, upper) in zip(chain, chain[1:], strict=False):
        if lower > upper:
            yield Problem((lower_key, upper_key), f"at most {upper_key} ({money_text(upper)})")
    if risk.warn_percent > risk.critical_percent:
        keys = ("risk.warn_percent", "risk.critical_percent")
        yield Problem(keys, f"at most risk.critical_percent ({risk.critical_percent})")


def _losses(settings: Settings) -> Iterator[Problem]:
    risk = settings.risk
    for key, loss in (
        ("risk.session_loss", risk.session_loss),
        ("risk.max_drawdown", risk.max_drawdown),
        ("risk.daily_loss", risk.daily_loss),
    ):
        if loss * LOSS_FRACTION > risk.capital:
            yield Problem(
                (key, "risk.capital", "risk.override_reason"),
                f"at most 10% of risk.capital ({money_text(risk.capital)}) unless risk.override_reason says why",
            )


def _instrument(instrument: InstrumentSettings, settings: Settings) -> Iterator[Problem]:
    table = ladders.table_of(instrument)
    for keys, allowed in ladders.problems(instrument.quoter, settings.risk):
        yield Problem(tuple(key if key.startswith("risk.") else f"{table}.{key}" for key in keys), allowed)
    yield from _grid(instrument, settings)


def _grid(instrument: InstrumentSettings, settings: Settings) -> Iterator[Problem]:
    here = dotted(("instruments", instrument.name))
    if settings.venue.name == "generated" and instrument.name not in GENERATED:
        yield Problem((here, "venue.name"), f"instruments of the generated market: {', '.join(GENERATED)}")
    if instrument.tick_size and instrument.lot_size:
        try:
            make_instrument(instrument.name, instrument.tick_size, instrument.lot_size)
        except ConfigError:
            yield Problem(
                (f"{here}.tick_size", f"{here}.lot_size"),
                "tick_size x lot_size a multiple of 2e-12, so that money stays exact",
            )
    if lot := _lot(instrument, settings):
        for key, size in ladders.sizes(instrument.quoter):
            if size and Decimal(size) % Decimal(lot):
                keys = (f"{ladders.table_of(instrument)}.{key}", f"{here}.lot_size")
                yield Problem(keys, f"a multiple of the lot, {lot}")


def _smallest(instrument: InstrumentSettings, settings: Settings) -> Money:
    """Return the venue's smallest order."""
    known = GENERATED.get(instrument.name) if settings.venue.name == "generated" else None
    return known.min_notional if known else money(MIN_NOTIONAL)


def _lot(instrument: InstrumentSettings, settings: Settings) -> str:
    """Return the lot as far as it is known here; "" = only the venue knows."""
    known = GENERATED.get(instrument.name) if settings.venue.name == "generated" else None
    return instrument.lot_size or (known.lot_size if known else "")
