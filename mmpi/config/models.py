"""Models: every key of mmpi.toml with its type, default, bounds and meaning, one model for each section.

Invariant: defaults are those of the structs the parts define; the strategies' tables are in quoters.py.
It must not know where a value comes from. (mmpi.config is the only package that imports pydantic.)
"""

import copy
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import Field, ValidationError

from mmpi.config import schema, sources
from mmpi.config.box import Guardian, Host, Journal, Pins, Power, Watchdog
from mmpi.config.fields import Amount, BaseUrl, Section, amount, choice, folder, number, quote_amount, text
from mmpi.config.quoters import AvellanedaStoikov, Glft, Improve, Layered
from mmpi.config.schema import KeyPath
from mmpi.config.telling import Alerts, Broker, FarMqtt, Mqtt, Web
from mmpi.risk import RiskConfig
from mmpi.sections import ClockSettings, VenueSettings
from mmpi.sim.exchange import SimConfig
from mmpi.sim.market import MarketConfig
from mmpi.sim.queue_models import MOST_POWER

Refusal: TypeAlias = tuple[KeyPath, str]
"""A path, and what to say about the value there."""

MOST_SEED: Final = 2**31 - 1
MEGABYTE: Final = 2**20
INSTRUMENT_NAME: Final = r"^[A-Za-z0-9@][A-Za-z0-9@:/_-]{0,31}$"
INSTRUMENT_NAME_ALLOWED: Final = "a name of letters, digits, @ : / _ and -, at most 32 of them"
MOST_INSTRUMENTS: Final = 32
"""As many as one process quotes comfortably; a limit of ours, not of a venue."""
GENERATED_INSTRUMENTS: Final = ("BTC", "ETH")
"""What is quoted when nobody says what to quote."""

_VENUE, _RISK, _SIM, _MARKET = VenueSettings(), RiskConfig(), SimConfig(), MarketConfig()
_CLOCK = ClockSettings()


def _share(default: float, meaning: str, most: float = 1) -> Any:
    return number(default, meaning, ge=0, le=most, unit="part of 1")


class Device(Section):
    """Who this box is."""

    id: str = text(
        "Name of this box in topics and reports; empty = the host name.",
        "lower-case letters, digits, _ and -, at most 32, or empty",
        pattern=r"^([a-z0-9][a-z0-9_-]{0,31})?$",
    )


class Paths(Section):
    """Two folders. Empty means, for root, the installed service's; for anyone else, the XDG ones."""

    state_dir: str = folder("What must survive: latch, epoch, journals. Empty = /var/lib/mmpi or XDG_STATE_HOME/mmpi.")
    runtime_dir: str = folder(
        "Sockets, running journal (tmpfs). Empty = /run/mmpi, XDG_RUNTIME_DIR/mmpi or /tmp/mmpi-UID."
    )


class Secrets(Section):
    """Where keys are. A key itself never stands in this file."""

    dir: str = folder("Folder of key files of mode 0600. Empty = $CREDENTIALS_DIRECTORY, else state_dir/secrets.")


class Venue(Section):
    """Which market, and with what money."""

    name: Literal["generated", "hyperliquid"] = choice(
        _VENUE.name, "generated is a market made up by this program, without a network."
    )
    mode: Literal["paper", "practice", "live"] = choice(
        _VENUE.mode,
        "paper: orders stay inside this program. practice: a practice server on this machine. "
        "live: real orders, over https only.",
    )
    url: BaseUrl = text(
        "Address of the venue; its WebSocket is at /ws below it. None for generated.",
        "http(s)://host or http(s)://host:port, without path or password, or empty",
        _VENUE.url,
    )
    network: Literal["testnet", "mainnet"] = choice(
        _VENUE.network, "Which network signatures are made for: one is worthless on the other."
    )
    expires_after_ms: int = number(
        _VENUE.expires_after_ms,
        "The venue drops an action that arrives later than this after signing. "
        "The guardian's proof of zero orders waits for it.",
        ge=200,
        le=2000,
    )
    ack_timeout_s: float = number(
        _VENUE.ack_timeout_s,
        "An order without an answer for this long has an unknown fate. More than expires_after_ms.",
        gt=0,
        le=60,
    )
    ca_file: str = folder("PEM file of the authorities that may vouch for an https address. Empty = the system's.")
    vault: str = text(
        "Vault or sub-account to trade for, with an agent of its leader. Empty = the account itself.",
        "0x and 40 hexadecimal digits, or empty",
        _VENUE.vault,
        pattern=r"^(0x[0-9a-fA-F]{40})?$",
    )
    adopt: bool = choice(
        _VENUE.adopt, "Take over orders of other hands in these instruments: keep, move or cancel them as our own."
    )
    amend: bool = choice(
        _VENUE.amend, "Move an order in one step (one request) instead of a cancel and a new order (two)."
    )
    weight_per_minute: int = number(
        _VENUE.weight_per_minute,
        "Request weight that the quoter may spend: 1000 of the venue's 1200, the rest is the guardian's. 0 = no limit.",
        ge=0,
        le=1_000_000,
        unit="weight a minute",
    )
    budget_low: int = number(
        _VENUE.budget_low,
        "Requests left to the account below which orders are moved half as often, then a quarter, and so on; "
        "at most half of all it may make.",
        ge=0,
        le=1_000_000,
    )
    budget_reserve: int = number(
        _VENUE.budget_reserve,
        "Requests left from which on only orders that reduce a position are placed; cancels always go. "
        "At most a twentieth of all it may make.",
        ge=0,
        le=1_000_000,
    )


class Instrument(Section):
    """One table for each instrument to quote; NAME is the venue's name of it. None at all = BTC and ETH."""

    quoter: Literal["layered", "avellaneda_stoikov", "glft", "improve"] = choice(
        "layered", "Strategy; its settings are in the table of its name."
    )
    tick_size: Amount = amount("0", "Price grid; 0 = as the venue says.", "quote currency", ge=0)
    lot_size: Amount = amount("0", "Size grid; 0 = as the venue says.", "base currency", ge=0)
    layered: Layered = Layered()
    avellaneda_stoikov: AvellanedaStoikov = AvellanedaStoikov()
    glft: Glft = Glft()
    improve: Improve = Improve()


class Risk(Section):
    """Limits. An order that breaks one is refused and counted; one that only reduces passes the limits on amounts."""

    capital: Amount = quote_amount(_RISK.capital, "What you trade with; the loss limits are measured against it.")
    max_position: Amount = quote_amount(
        _RISK.max_position, "One instrument, one side: position and open orders together."
    )
    warn_percent: float = number(
        _RISK.warn_percent,
        "Of max_position: from here on quoters lean harder against the position.",
        gt=0,
        le=100,
    )
    critical_percent: float = number(
        _RISK.critical_percent,
        "Of max_position: from here on orders that increase the position are withdrawn.",
        gt=0,
        le=100,
    )
    hard_percent: float = number(
        _RISK.hard_percent,
        "Of max_position: from here on the box latches. No order leads here; a price can, or a stranger's order.",
        gt=100,
        le=1000,
    )
    max_order: Amount = quote_amount(_RISK.max_order, "One order.")
    max_instrument: Amount = quote_amount(
        _RISK.max_instrument, "One instrument: position and open orders of both sides."
    )
    max_total: Amount = quote_amount(_RISK.max_total, "All instruments together.")
    session_loss: Amount = quote_amount(
        _RISK.session_loss, "Loss since the session began at which quoting ends. At most 10% of capital."
    )
    max_drawdown: Amount = quote_amount(
        _RISK.max_drawdown, "Fall from the session's best result at which quoting ends. At most 10% of capital."
    )
    daily_loss: Amount = amount(
        "0",
        "Loss since midnight UTC at which quoting ends. At most 10% of capital; 0 = as session_loss.",
        "quote currency",
        ge=0,
    )
    session_start: str = text(
        "When a session begins, UTC. Its profit, peak and losses outlive every restart; never = it goes on for ever.",
        "a time of day such as 00:00 or 21:30, or never",
        "00:00",
        pattern=r"^(([01][0-9]|2[0-3]):[0-5][0-9]|never)$",
    )
    max_fills_per_minute: int = number(
        _RISK.max_fills_per_minute, "More fills in a minute end quoting; 0 = any number.", ge=0, le=100_000
    )
    unknown_fate_s: float = number(
        _RISK.unknown_fate_s,
        "An order whose fate the venue does not tell for so long, though it is asked, ends quoting; 0 = never.",
        ge=0,
        le=3600,
    )
    price_band_bps: float = number(
        _RISK.price_band_bps, "Farthest an order may be from the mid: a guard against slips.", gt=0, le=5000
    )
    orders_per_s: float = number(_RISK.orders_per_s, "New orders, on average.", gt=0, le=1000)
    order_burst: int = number(_RISK.order_burst, "New orders at once, above the average.", ge=1, le=10_000)
    max_open_orders: int = number(
        _RISK.max_open_orders, "For each instrument; orders of unknown fate count.", ge=1, le=1000
    )
    stale_after_s: float = number(
        _RISK.stale_after_s, "Without market data for this long, quotes are pulled.", ge=0.1, le=300
    )
    unarmed_percent: float = number(
        _RISK.unarmed_percent,
        "Of max_order, max_position, max_instrument and max_total, at a venue that would not cancel our orders if we "
        "fell silent (no dead-man switch, or it is refused).",
        gt=0,
        le=100,
    )
    flatten_base_bps: float = number(
        _RISK.flatten_base_bps, "Slippage that the first order of `mmpi flatten` allows.", ge=0, le=5000
    )
    flatten_step_bps: float = number(_RISK.flatten_step_bps, "More for each further one.", ge=0, le=5000)
    flatten_max_bps: float = number(
        _RISK.flatten_max_bps, "The most that any of them allows; none leaves price_band_bps.", gt=0, le=5000
    )
    flatten_attempts: int = number(_RISK.flatten_attempts, "Orders for each instrument.", ge=1, le=1000)
    override_reason: str = text(
        "Why session_loss, max_drawdown or daily_loss may be above 10% of capital; `mmpi check` repeats it.",
        "a sentence of at least three words and 250 characters at most, or empty",
        pattern=r"^(\S+( +\S+){2,})?$",
    )


class Sim(Section):
    """The simulated exchange of paper trading and backtests."""

    maker_fee_bps: float = number(_SIM.maker_fee_bps, "Fee on resting orders; negative = rebate.", ge=-10, le=100)
    taker_fee_bps: float = number(_SIM.taker_fee_bps, "Fee on orders that take.", ge=-10, le=100)
    latency_in_ms: float = number(_SIM.latency_in_ms, "An order's way to the exchange.", ge=0, le=10_000)
    latency_out_ms: float = number(_SIM.latency_out_ms, "A report's way back.", ge=0, le=10_000)
    jitter_ms: float = number(_SIM.jitter_ms, "Each message takes up to this much longer, at random.", ge=0, le=10_000)
    seed: int = number(_SIM.seed, "The same seed gives the same delays.", ge=0, le=MOST_SEED)
    queue: Literal["conservative", "proportional", "power_law", "fifo"] = choice(
        _SIM.queue,
        "Who leaves the queue ahead of an order. conservative: those behind it first. proportional: all alike. "
        "power_law: in between, see queue_power. fifo: as recorded, where data names each order, else conservative.",
    )
    queue_power: float = number(
        _SIM.queue_power, "Of power_law: 1 is proportional; above 1 the longer part loses more.", gt=0, le=MOST_POWER
    )
    amend: Literal["replace", "keep_on_decrease"] = choice(
        _SIM.amend, "An amended order goes to the back of its queue always, or unless only its size went down."
    )
    self_trade: Literal["cancel_maker", "cancel_taker", "cancel_both"] = choice(
        _SIM.self_trade, "Which of two own orders goes when they would trade with each other."
    )
    funding_price: Literal["mark", "index"] = choice(
        _SIM.funding_price, "Price at which a position is worth what funding is paid on."
    )


class Market(Section):
    """The generated market. A key that is not written has the value of the scenario; the defaults are normal's."""

    scenario: Literal["calm", "normal", "trend", "reversion", "burst", "gap", "locked", "cascade"] = choice(
        "normal", "A named set of values for the keys below; a key that is written wins over it."
    )
    seed: int = number(_MARKET.seed, "The same seed gives the same market.", ge=0, le=MOST_SEED)
    book_interval_ms: float = number(
        _MARKET.book_interval_ms, "From one picture of the book to the next.", ge=10, le=10_000
    )
    trades_per_s: float = number(
        _MARKET.trades_per_s, "Takers' orders of each instrument, on average.", ge=0.001, le=100
    )
    volatility_bps: float = number(
        _MARKET.volatility_bps, "Per square root of a second; 1 is about 56% a year.", ge=0, le=100
    )
    branching: float = _share(_MARKET.branching, "Orders that one order sets off, on average.", 0.95)
    excite_decay_per_s: float = number(
        _MARKET.excite_decay_per_s, "How fast that excitement dies away.", ge=0.001, le=100
    )
    trend_share: float = _share(_MARKET.trend_share, "Part of the variance that is a trend that dies away.", 0.95)
    trend_tau_s: float = number(_MARKET.trend_tau_s, "Time constant of the trend.", ge=0.1, le=86_400)
    regime_strength: float = _share(
        _MARKET.regime_strength, "How much calm and wild spells differ from the rest; 0 = there are none."
    )
    reversion_tau_s: float = number(
        _MARKET.reversion_tau_s, "Time in which the price returns to a slow anchor; 0 = never.", ge=0, le=86_400
    )
    jump_every_s: float = number(_MARKET.jump_every_s, "Mean time between price jumps; 0 = none.", ge=0, le=86_400)
    jump_bps: float = number(_MARKET.jump_bps, "Mean size of a jump.", ge=0, le=1000)
    cascade_every_s: float = number(
        _MARKET.cascade_every_s, "Mean time between liquidation cascades; 0 = none.", ge=0, le=86_400
    )
    cascade_s: float = number(_MARKET.cascade_s, "How long a cascade lasts.", ge=1, le=600)
    cascade_bps: float = number(
        _MARKET.cascade_bps, "How far a cascade drives the price before part of it comes back.", ge=0, le=2000
    )
    locked_share: float = _share(_MARKET.locked_share, "Part of the books whose best bid is their best ask.")
    missing_share: float = _share(_MARKET.missing_share, "Part of the books that never arrive.", 0.95)
    stall_every_s: float = number(
        _MARKET.stall_every_s, "Mean time between stalls of the feed; 0 = none.", ge=0, le=86_400
    )
    stall_s: float = number(_MARKET.stall_s, "How long a stall lasts.", ge=0, le=600)
    funding_interval_s: float = number(
        _MARKET.funding_interval_s, "Between funding payments; 0 = no funding and no mark price.", ge=0, le=604_800
    )


class Clock(Section):
    """When the clock is trusted. While it is not, nothing is placed; cancels go out all the same."""

    max_offset_ms: int = number(_CLOCK.max_offset_ms, "Farthest from the venue's time.", ge=50, le=1900)
    require_sync: bool = choice(
        _CLOCK.require_sync, "For venue.mode live the kernel must say that the clock is synchronised (chrony, NTP)."
    )


class Config(Section):
    """Every key of mmpi.toml.

    A key left out has its default. Any key can be set by an environment variable instead, which wins over the file:
    `MMPI_VENUE__URL` sets `url` in `[venue]`, `MMPI_INSTRUMENTS__BTC__LAYERED__LEVELS` a key deeper down.
    A number stands in the unit that the key's name ends with, without writing the unit. Amounts are exact decimals, as
    numbers or in quotes.
    """

    device: Device = Device()
    paths: Paths = Paths()
    secrets: Secrets = Secrets()
    venue: Venue = Venue()
    instruments: dict[Annotated[str, Field(pattern=INSTRUMENT_NAME)], Instrument] = Field(
        {name: Instrument() for name in GENERATED_INSTRUMENTS}, min_length=1, max_length=MOST_INSTRUMENTS
    )
    risk: Risk = Risk()
    sim: Sim = Sim()
    market: Market = Market()
    journal: Journal = Journal()
    guardian: Guardian = Guardian()
    clock: Clock = Clock()
    pins: Pins = Pins()
    power: Power = Power()
    host: Host = Host()
    watchdog: Watchdog = Watchdog()
    mqtt: Mqtt = Mqtt()
    mqtt_far: FarMqtt = FarMqtt()
    broker: Broker = Broker()
    web: Web = Web()
    alerts: Alerts = Alerts()


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of mmpi.toml, with bounds, defaults and meanings."""
    return Config.model_json_schema()


KEYS: Final = schema.keys(json_schema())


def validate(tables: dict[str, Any]) -> tuple[Config, list[Refusal]]:
    """Return the configuration with defaults in place of what is refused, and each refused path with what to say."""
    tables = copy.deepcopy(tables)
    refused: list[Refusal] = []
    while True:
        try:
            return Config.model_validate(tables), refused
        except ValidationError as error:
            found = dict(_refusal(tuple(map(str, each["loc"])), each["type"]) for each in error.errors())
        refused = refused or list(found.items())  # later rounds only meet what dropping left behind
        for path in found:
            sources.drop(tables, path)


def _refusal(path: KeyPath, kind: str) -> Refusal:
    *parents, name = path
    if name == "[key]":  # pydantic's mark for the key of a mapping
        return tuple(parents), f"allowed: {INSTRUMENT_NAME_ALLOWED}"
    if kind == "extra_forbidden":
        known = schema.names_in(KEYS, tuple(parents))
        return path, "unknown key; " + sources.suggestion(name, known, ", ".join(known))
    if kind in ("too_short", "too_long"):
        return path, f"allowed: from 1 to {MOST_INSTRUMENTS} instruments"
    key = schema.find(KEYS, path)
    return path, f"allowed: {key.allowed()}" if key else "allowed: a table"
