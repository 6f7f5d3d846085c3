"""Models: every key of mmpi.toml with its type, default, bounds and meaning, one model for each section.

Invariant: this is the only module that imports pydantic; defaults are those of the structs the parts define.
It must not know where a value comes from.
"""

import copy
import re
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Final, Literal, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from mmpi.config import schema, sources
from mmpi.config.schema import KeyPath
from mmpi.instrument import Money, money_text
from mmpi.quoting.layered import LayeredConfig
from mmpi.risk import RiskConfig
from mmpi.sections import GuardianSettings, JournalSettings, VenueSettings
from mmpi.sim.exchange import SimConfig
from mmpi.sim.market import MarketConfig

Refusal: TypeAlias = tuple[KeyPath, str]
"""A path, and what to say about the value there."""

MOST_MONEY: Final = 10**9
"""A billion: with its twelve decimals it still fits the 28 digits in which decimals are exact."""
MOST_SEED: Final = 2**31 - 1
MOST_TEXT: Final = 250
"""Characters of a text: a path, a URL or a sentence; more is a slip."""
MEGABYTE: Final = 2**20
_HOST_AND_PORT: Final = re.compile(r"([A-Za-z0-9.-]+|\[[0-9a-fA-F:.]+\])(:[0-9]+)?")
INSTRUMENT_NAME: Final = r"^[A-Za-z0-9@][A-Za-z0-9@:_-]{0,31}$"
INSTRUMENT_NAME_ALLOWED: Final = "a name of letters, digits, @ : _ and -, at most 32 of them"
MOST_INSTRUMENTS: Final = 32
"""As many as one process quotes comfortably; a limit of ours, not of a venue."""
GENERATED_INSTRUMENTS: Final = ("BTC", "ETH")
"""What is quoted when nobody says what to quote."""

_VENUE, _RISK, _SIM, _MARKET = VenueSettings(), RiskConfig(), SimConfig(), MarketConfig()
_JOURNAL, _GUARDIAN, _LAYERED = JournalSettings(), GuardianSettings(), LayeredConfig()


def _decimal(value: object) -> object:
    """Return the decimal that was written, quoted or not; anything else unchanged, for pydantic to refuse."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return value
    try:
        return Decimal(repr(value) if isinstance(value, float) else value)
    except InvalidOperation:
        return value


def _base_url(value: str) -> str:
    """Return `value` if it is empty or scheme://host[:port] without a password; ValueError otherwise."""
    parts = urlsplit(value)
    whole = value == f"{parts.scheme}://{parts.netloc}" and parts.port != 0
    if value and not (whole and parts.scheme in ("http", "https") and _HOST_AND_PORT.fullmatch(parts.netloc)):
        raise ValueError("not a base URL")
    return value


def _number(default: float, meaning: str, *, le: float, gt: float | None = None, ge: float | None = None) -> Any:
    return Field(default, description=meaning, gt=gt, ge=ge, le=le)


def _choice(default: str, meaning: str) -> Any:
    return Field(default, description=meaning)


def _amount(default: str, meaning: str, unit: str, *, gt: int | None = None, ge: int | None = None) -> Any:
    """Return the field of an exact decimal."""
    extra: Any = {"x-unit": unit}
    return Field(
        Decimal(default), description=meaning, gt=gt, ge=ge, le=MOST_MONEY, decimal_places=12, json_schema_extra=extra
    )


def _quote(default: Money, meaning: str) -> Any:
    return _amount(money_text(default), meaning, "quote currency", gt=0)


def _text(meaning: str, allowed: str, default: str = "", pattern: str | None = None) -> Any:
    extra: Any = {"x-allowed": allowed}
    return Field(default, description=meaning, pattern=pattern, max_length=MOST_TEXT, json_schema_extra=extra)


def _folder(meaning: str) -> Any:
    return _text(meaning, "an absolute path, or empty", pattern=r"^(/[^\x00-\x1f]*)?$")


Amount = Annotated[Decimal, BeforeValidator(_decimal)]
BaseUrl = Annotated[str, AfterValidator(_base_url)]


class Section(BaseModel):
    """A table: nothing unknown in it, no type changed silently, no NaN, no infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, validate_default=True)


class Device(Section):
    """Who this box is."""

    id: str = _text(
        "Name of this box in topics and reports; empty = the host name.",
        "lower-case letters, digits, _ and -, at most 32, or empty",
        pattern=r"^([a-z0-9][a-z0-9_-]{0,31})?$",
    )


class Paths(Section):
    """Two folders. Empty means, for root, the installed service's; for anyone else, the XDG ones."""

    state_dir: str = _folder("What must survive: latch, epoch, journals. Empty = /var/lib/mmpi or XDG_STATE_HOME/mmpi.")
    runtime_dir: str = _folder(
        "Sockets, running journal (tmpfs). Empty = /run/mmpi, XDG_RUNTIME_DIR/mmpi or /tmp/mmpi-UID."
    )


class Secrets(Section):
    """Where keys are. A key itself never stands in this file."""

    dir: str = _folder("Folder of key files of mode 0600. Empty = $CREDENTIALS_DIRECTORY, else state_dir/secrets.")


class Venue(Section):
    """Which market, and with what money."""

    name: Literal["generated", "hyperliquid"] = _choice(
        _VENUE.name, "generated is a market made up by this program, without a network."
    )
    mode: Literal["paper", "practice", "live"] = _choice(
        _VENUE.mode,
        "paper: orders stay inside this program. practice: a practice server on this machine. "
        "live: real orders, over https only.",
    )
    url: BaseUrl = _text(
        "Address of the venue; its WebSocket is at /ws below it. None for generated.",
        "http(s)://host or http(s)://host:port, without path or password, or empty",
        _VENUE.url,
    )
    network: Literal["testnet", "mainnet"] = _choice(
        _VENUE.network, "Which network signatures are made for: one is worthless on the other."
    )
    expires_after_ms: int = _number(
        _VENUE.expires_after_ms,
        "The venue drops an action that arrives later than this after signing. "
        "The guardian's proof of zero orders waits for it.",
        ge=200,
        le=2000,
    )
    ack_timeout_s: float = _number(
        _VENUE.ack_timeout_s,
        "An order without an answer for this long has an unknown fate. More than expires_after_ms.",
        gt=0,
        le=60,
    )


class Layered(Section):
    """A symmetric ladder around the reference. Exactly one of size and notional; a size switches notional off."""

    levels: int = _number(_LAYERED.levels, "Orders on each side.", ge=1, le=20)
    spread_percent: float = _number(
        _LAYERED.spread_percent, "From the best bid of the ladder to its best ask.", gt=0, le=20
    )
    step_percent: float = _number(_LAYERED.step_percent, "From one level to the next.", gt=0, le=20)
    size: Amount = _amount("0", "Each order's size; 0 = use notional.", "base currency", ge=0)
    notional: Amount = _amount(_LAYERED.notional, "Each order's worth; 0 = use size.", "quote currency", ge=0)
    update_interval_s: float = _number(
        _LAYERED.update_interval_s, "The ladder is moved at most this often.", ge=0.05, le=3600
    )
    reference: Literal["mid", "weighted_mid"] = _choice(
        _LAYERED.reference, "Centre of the ladder; weighted_mid leans to the thinner side of the book."
    )
    volatility_multiple: float = _number(
        _LAYERED.volatility_multiple,
        "Half spread is at least this many standard deviations of the price over one update; 0 = off.",
        ge=0,
        le=100,
    )
    tolerance_ticks: int = _number(
        _LAYERED.tolerance_ticks, "An order this near its target stays, with its queue position.", ge=0, le=10_000
    )
    tolerance_percent: float = _number(
        _LAYERED.tolerance_percent,
        "The same, in percent of the order's distance from the reference; the larger counts.",
        ge=0,
        le=100,
    )
    size_tolerance_percent: float = _number(
        _LAYERED.size_tolerance_percent, "An order whose size is off by at most this stays.", ge=0, le=100
    )

    def notional_in_force(self) -> Decimal:
        """Return the notional; 0 where a size was given and nobody wrote a notional beside it."""
        return Decimal(0) if self.size and "notional" not in self.model_fields_set else self.notional


class Instrument(Section):
    """One table for each instrument to quote; NAME is the venue's name of it. None at all = BTC and ETH."""

    quoter: Literal["layered"] = _choice("layered", "Strategy; its settings are in the table of its name.")
    tick_size: Amount = _amount("0", "Price grid; 0 = as the venue says.", "quote currency", ge=0)
    lot_size: Amount = _amount("0", "Size grid; 0 = as the venue says.", "base currency", ge=0)
    layered: Layered = Layered()


class Risk(Section):
    """Limits. An order that breaks one is refused and counted; one that only reduces passes the limits on amounts."""

    capital: Amount = _quote(_RISK.capital, "What you trade with; the loss limits are measured against it.")
    max_position: Amount = _quote(_RISK.max_position, "One instrument, one side: position and open orders together.")
    max_order: Amount = _quote(_RISK.max_order, "One order.")
    max_instrument: Amount = _quote(_RISK.max_instrument, "One instrument: position and open orders of both sides.")
    max_total: Amount = _quote(_RISK.max_total, "All instruments together.")
    session_loss: Amount = _quote(
        _RISK.session_loss, "Loss since the start at which quoting ends. At most 10% of capital."
    )
    max_drawdown: Amount = _quote(
        _RISK.max_drawdown, "Fall from the session's best result at which quoting ends. At most 10% of capital."
    )
    price_band_bps: float = _number(
        _RISK.price_band_bps, "Farthest an order may be from the mid: a guard against slips.", gt=0, le=5000
    )
    orders_per_s: float = _number(_RISK.orders_per_s, "New orders, on average.", gt=0, le=1000)
    order_burst: int = _number(_RISK.order_burst, "New orders at once, above the average.", ge=1, le=10_000)
    max_open_orders: int = _number(
        _RISK.max_open_orders, "For each instrument; orders of unknown fate count.", ge=1, le=1000
    )
    stale_after_s: float = _number(
        _RISK.stale_after_s, "Without market data for this long, quotes are pulled.", ge=0.1, le=300
    )
    override_reason: str = _text(
        "Why session_loss or max_drawdown may be above 10% of capital; `mmpi check` repeats it.",
        "a sentence of at least three words and 250 characters at most, or empty",
        pattern=r"^(\S+( +\S+){2,})?$",
    )


class Sim(Section):
    """The simulated exchange of paper trading and backtests."""

    maker_fee_bps: float = _number(_SIM.maker_fee_bps, "Fee on resting orders; negative = rebate.", ge=-10, le=100)
    taker_fee_bps: float = _number(_SIM.taker_fee_bps, "Fee on orders that take.", ge=-10, le=100)
    latency_in_ms: float = _number(_SIM.latency_in_ms, "An order's way to the exchange.", ge=0, le=10_000)
    latency_out_ms: float = _number(_SIM.latency_out_ms, "A report's way back.", ge=0, le=10_000)
    jitter_ms: float = _number(_SIM.jitter_ms, "Each message takes up to this much longer, at random.", ge=0, le=10_000)
    seed: int = _number(_SIM.seed, "The same seed gives the same delays.", ge=0, le=MOST_SEED)


class Market(Section):
    """The generated market."""

    seed: int = _number(_MARKET.seed, "The same seed gives the same market.", ge=0, le=MOST_SEED)
    book_interval_ms: float = _number(
        _MARKET.book_interval_ms, "From one picture of the book to the next.", ge=10, le=10_000
    )
    trades_per_s: float = _number(_MARKET.trades_per_s, "Trades of each instrument, on average.", gt=0, le=100)
    volatility_bps: float = _number(
        _MARKET.volatility_bps, "Per square root of a second; 1 is about 56% a year.", ge=0, le=100
    )
    stall_every_s: float = _number(
        _MARKET.stall_every_s, "Mean time between stalls of the feed; 0 = none.", ge=0, le=86_400
    )
    stall_s: float = _number(_MARKET.stall_s, "How long a stall lasts.", ge=0, le=600)


class Journal(Section):
    """The running journal, in memory (tmpfs)."""

    segment_bytes: int = _number(
        _JOURNAL.segment_bytes, "One segment; each opens with a checkpoint.", ge=MEGABYTE, le=256 * MEGABYTE
    )
    max_bytes: int = _number(_JOURNAL.max_bytes, "All segments; at least two must fit.", ge=131_072, le=1024 * MEGABYTE)


class Guardian(Section):
    """The stop path."""

    heartbeat_timeout_s: float = _number(
        _GUARDIAN.heartbeat_timeout_s, "A quoter silent for this long is cancelled and paused.", ge=0.3, le=5
    )
    ack_timeout_s: float = _number(
        _GUARDIAN.ack_timeout_s, "A quoter that does not confirm a stop for this long is killed.", ge=0.1, le=2
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
