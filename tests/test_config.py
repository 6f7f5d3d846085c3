"""Configuration: what is accepted, what is refused and in which words, who wins, and what the daemons get."""

import json
import os
import stat
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmpi import folders
from mmpi.channels import AlertSettings, BrokerSettings, FarMqttSettings, MqttSettings, WebSettings
from mmpi.config import Loaded, effective, json_schema, load_config, models, quoters, resolve, schema
from mmpi.config.load import digest
from mmpi.config.quoters import STRATEGIES
from mmpi.config.schema import Key, markdown
from mmpi.errors import ConfigError
from mmpi.instrument import MONEY_SCALE
from mmpi.quoting import QUOTERS
from mmpi.quoting.layered import LayeredConfig
from mmpi.risk import RiskConfig
from mmpi.sections import (
    Box,
    ClockSettings,
    GuardianSettings,
    HostSettings,
    JournalSettings,
    PathSettings,
    PinSettings,
    PowerSettings,
    VenueSettings,
    WatchdogSettings,
    load_resolved,
)
from mmpi.settings import Settings
from mmpi.sim.exchange import SimConfig
from mmpi.sim.market import MarketConfig

DOCS = Path(__file__).resolve().parents[1] / "docs"
QUOTE_BOUNDS = "decimal number of at most 12 places above 0, at most 1000000000, in quote currency"
HYPERLIQUID = '[venue]\nname = "hyperliquid"\n'


@pytest.fixture(autouse=True)
def nothing_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test reads this machine's own configuration."""
    monkeypatch.setattr(folders, "INSTALLED_CONFIG", tmp_path / "not-installed.toml")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return the path of a configuration file to be."""
    return tmp_path / "mmpi.toml"


def read(file: Path, text: str, environ: Mapping[str, str] | None = None) -> Loaded:
    """Return what a file with this text loads to."""
    file.write_text(text, encoding="utf-8")
    return load_config(file, environ or {})


def refusals(file: Path, text: str, environ: Mapping[str, str] | None = None) -> list[str]:
    """Return the lines that a file with this text is refused with, the file's path as FILE."""
    with pytest.raises(ConfigError) as caught:
        read(file, text, environ)
    return str(caught.value).replace(str(file), "FILE").split("\n")


def value_of(loaded: Loaded, key: str) -> tuple[str, str]:
    """Return (value, origin) of one effective key."""
    return next((value, origin) for name, value, origin in effective(loaded) if name == key)


def numeric_keys() -> Iterator[Key]:
    """Return the keys with bounds."""
    return (key for key in models.KEYS if key.kind in ("integer", "number", "amount"))


def toml_for(key: Key, value: str) -> str:
    """Return a file that sets one key; NAME is BTC."""
    *table, name = ("BTC" if part == schema.ANY_NAME else part for part in key.path)
    return f"[{'.'.join(table)}]\n{name} = {value}\n"


def ends(key: Key) -> tuple[Decimal, Decimal]:
    """Return the documented lower and upper bound of a key."""
    words = key.bounds.replace(",", "").split()
    return Decimal(words[1]), Decimal(words[-1])


# --- what is accepted


def test_without_a_file_everything_is_the_built_in_paper_default() -> None:
    """No file at all: BTC and ETH on the generated market, on paper, with the parts' own defaults, and a note."""
    loaded = load_config(None, {})
    assert loaded.settings.venue == VenueSettings()
    assert [(each.name, each.quoter) for each in loaded.settings.instruments] == [
        ("BTC", LayeredConfig()),
        ("ETH", LayeredConfig()),
    ]
    assert (loaded.settings.risk, loaded.settings.sim, loaded.settings.market) == (
        RiskConfig(),
        SimConfig(),
        MarketConfig(),
    )
    assert (loaded.settings.journal, loaded.settings.guardian) == (JournalSettings(), GuardianSettings())
    assert loaded.notes == ["no configuration file: built-in paper defaults on the generated market"]


def test_the_installed_file_is_read_when_nobody_names_one(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --config and MMPI_CONFIG the file under /etc counts, if it exists."""
    file.write_text("[sim]\nseed = 42\n")
    monkeypatch.setattr(folders, "INSTALLED_CONFIG", file)
    assert load_config(None, {}).settings.sim.seed == 42


def test_the_environment_can_name_the_file(file: Path) -> None:
    """MMPI_CONFIG is the file when --config is not given, and --config wins over it."""
    file.write_text("[sim]\nseed = 42\n")
    other = file.with_name("other.toml")
    other.write_text("[sim]\nseed = 43\n")
    assert load_config(None, {"MMPI_CONFIG": str(file)}).settings.sim.seed == 42
    assert load_config(other, {"MMPI_CONFIG": str(file)}).settings.sim.seed == 43


def test_default_file_environment_in_rising_order(file: Path) -> None:
    """The environment wins over the file, the file over the default, and each value says where it came from."""
    loaded = read(file, "[sim]\nseed = 42\nmaker_fee_bps = 2\n", {"MMPI_SIM__SEED": "43"})
    assert (loaded.settings.sim.seed, loaded.settings.sim.maker_fee_bps) == (43, 2.0)
    assert value_of(loaded, "sim.seed") == ("43", "environment MMPI_SIM__SEED")
    assert value_of(loaded, "sim.maker_fee_bps") == ("2.0", "file")
    assert value_of(loaded, "sim.taker_fee_bps") == (str(SimConfig().taker_fee_bps), "default")


def test_the_environment_reaches_a_deep_key_without_losing_the_other_instruments() -> None:
    """An override of one built-in instrument leaves the other one and all other keys alone."""
    loaded = load_config(None, {"MMPI_INSTRUMENTS__ETH__LAYERED__LEVELS": "7"})
    assert [each.quoter.levels for each in loaded.settings.instruments] == [LayeredConfig().levels, 7]
    assert value_of(loaded, "instruments.ETH.layered.levels") == (
        "7",
        "environment MMPI_INSTRUMENTS__ETH__LAYERED__LEVELS",
    )


def test_environment_names_that_are_no_overrides_are_left_alone() -> None:
    """Only MMPI_ names with a double underscore are read."""
    assert load_config(None, {"MMPI_HOME": "x", "HOME": "/home/x", "OTHER__SEED": "y"}).settings.sim == SimConfig()


def test_the_files_instruments_replace_the_built_in_ones(file: Path) -> None:
    """Who names one instrument quotes that one only."""
    assert [each.name for each in read(file, "[instruments.ETH]\n").settings.instruments] == ["ETH"]


def test_a_size_switches_the_default_notional_off(file: Path) -> None:
    """Exactly one of size and notional reaches the quoter, and check shows it."""
    loaded = read(file, '[instruments.BTC.layered]\nsize = "0.0010"\n')
    quoter = loaded.settings.instruments[0].quoter
    assert (quoter.size, quoter.notional) == ("0.001", "")
    assert value_of(loaded, "instruments.BTC.layered.notional") == ("0", "default")


@pytest.mark.parametrize(("written", "exact"), [("0.1", "0.1"), ('"0.1"', "0.1"), ("7", "7"), ("1e2", "100")])
def test_an_amount_means_the_digits_that_were_written(file: Path, written: str, exact: str) -> None:
    """0.1 is a tenth exactly, as a number and in quotes."""
    loaded = read(file, f"[risk]\nmax_order = {written}\n[instruments.BTC.layered]\nnotional = 0.01\n")
    assert loaded.settings.risk.max_order == Decimal(exact) * MONEY_SCALE
    assert value_of(loaded, "risk.max_order") == (exact, "file")


def test_an_unusual_instrument_name_keeps_its_keys_readable(file: Path) -> None:
    """A name that TOML must quote is quoted in keys, so a key can be pasted back."""
    loaded = read(file, HYPERLIQUID + 'url = "https://api.example.org"\n[instruments."@107"]\ntick_size = 0.5\n')
    assert value_of(loaded, 'instruments."@107".tick_size') == ("0.5", "file")
    assert loaded.settings.instruments[0].tick_size == "0.5"


@pytest.mark.parametrize("name", sorted(file.name for file in (DOCS / "examples").glob("*.toml")))
def test_the_examples_load_without_a_note(name: str) -> None:
    """What docs/examples shows is valid and leaves nothing to remark on."""
    assert load_config(DOCS / "examples" / name, {}).notes == []


def test_the_practice_example_is_a_practice_box_on_this_machine() -> None:
    """The documented example is the quoter and guardian against a loopback server, with the test network's letter."""
    loaded = load_config(DOCS / "examples" / "practice.toml", {"MMPI_VENUE__URL": "http://127.0.0.1:9000"})
    venue = loaded.settings.venue
    assert (venue.name, venue.mode, venue.network, venue.url) == (
        "hyperliquid",
        "practice",
        "testnet",
        "http://127.0.0.1:9000",
    )
    assert [each.name for each in loaded.settings.instruments] == ["BTC", "ETH"]


money_texts = st.decimals(min_value=Decimal("0.000000000001"), max_value=10**9, places=12, allow_nan=False)


@given(capital=money_texts, limits=st.lists(money_texts, min_size=4, max_size=4).map(sorted))
def test_random_limits_arrive_to_the_last_digit(
    tmp_path_factory: pytest.TempPathFactory, capital: Decimal, limits: list[Decimal]
) -> None:
    """Any amounts in the right order, to twelve places, are resolved exactly."""
    order, position, instrument, total = limits
    file = tmp_path_factory.getbasetemp() / "random.toml"
    text = f'[risk]\ncapital = "{capital}"\noverride_reason = "a random test"\nmax_order = "{order}"\n'
    text += f'max_position = "{position}"\nmax_instrument = "{instrument}"\nmax_total = "{total}"\n'
    text += '[instruments.BTC.layered]\nsize = "1"\n'
    risk = read(file, text).settings.risk
    assert [risk.capital, risk.max_order, risk.max_position, risk.max_instrument, risk.max_total] == [
        int(amount.scaleb(12)) for amount in (capital, order, position, instrument, total)
    ]


@given(
    levels=st.integers(1, 5),
    spread=st.floats(0, 2, exclude_min=True),
    step=st.floats(0, 1, exclude_min=True),
    interval=st.floats(0.05, 3600),
    latency=st.floats(0, 10_000),
    seed=st.integers(0, 2**31 - 1),
)
def test_random_valid_numbers_arrive_unchanged(
    tmp_path_factory: pytest.TempPathFactory,
    levels: int,
    spread: float,
    step: float,
    interval: float,
    latency: float,
    seed: int,
) -> None:
    """Any number within its bounds is accepted, by file and by environment alike, and reaches its struct as it is."""
    file = tmp_path_factory.getbasetemp() / "random.toml"
    text = f"[instruments.BTC.layered]\nlevels = {levels}\nspread_percent = {spread!r}\nstep_percent = {step!r}\n"
    text += f"update_interval_s = {interval!r}\n[risk]\nprice_band_bps = 500\n"
    loaded = read(file, text, {"MMPI_SIM__LATENCY_IN_MS": repr(latency), "MMPI_SIM__SEED": str(seed)})
    quoter, sim = loaded.settings.instruments[0].quoter, loaded.settings.sim
    assert (quoter.levels, quoter.spread_percent, quoter.step_percent) == (levels, spread, step)
    assert (quoter.update_interval_s, sim.latency_in_ms, sim.seed) == (interval, latency, seed)


# --- one value by itself


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "[risk]\nmax_ordr = 5\n",
            "FILE: risk.max_ordr: value 5: unknown key; did you mean max_order?",
        ),
        (
            "[instruments.BTC.layered]\nlevel = 5\n",
            "FILE: instruments.BTC.layered.level: value 5: unknown key; did you mean levels?",
        ),
        (
            "[guardian]\nfoo = 1\n",
            "FILE: guardian.foo: value 1: unknown key; allowed: heartbeat_timeout_s, ack_timeout_s, allow_remote_arm, "
        "resume_after_boot, required",
        ),
        ("[rsk]\ncapital = 5\n", "FILE: rsk: value (a table): unknown key; did you mean risk?"),
        ("venue = 3\n", "FILE: venue: value 3: allowed: a table"),
        ("[[risk]]\n", "FILE: risk: value (a list): allowed: a table"),
        ("instruments = {}\n", "FILE: instruments: value (a table): allowed: from 1 to 32 instruments"),
        (
            '[instruments."a b"]\n',
            'FILE: instruments."a b": value (a table): '
            "allowed: a name of letters, digits, @ : / _ and -, at most 32 of them",
        ),
        ("[risk]\nmax_order = -5\n", f"FILE: risk.max_order: value -5: allowed: {QUOTE_BOUNDS}"),
        ("[risk]\nmax_order = nan\n", f"FILE: risk.max_order: value nan: allowed: {QUOTE_BOUNDS}"),
        ("[risk]\ncapital = inf\n", f"FILE: risk.capital: value inf: allowed: {QUOTE_BOUNDS}"),
        ('[risk]\ncapital = "1e-13"\n', f'FILE: risk.capital: value "1e-13": allowed: {QUOTE_BOUNDS}'),
        ('[risk]\ncapital = "5 EUR"\n', f'FILE: risk.capital: value "5 EUR": allowed: {QUOTE_BOUNDS}'),
        ("[risk]\ncapital = true\n", f"FILE: risk.capital: value true: allowed: {QUOTE_BOUNDS}"),
        (
            "[instruments.BTC.layered]\nsize = -1\n",
            "FILE: instruments.BTC.layered.size: value -1: "
            "allowed: decimal number of at most 12 places from 0 to 1000000000, in base currency",
        ),
        (
            '[instruments.BTC.layered]\nupdate_interval_s = "10s"\n',
            'FILE: instruments.BTC.layered.update_interval_s: value "10s": '
            "allowed: plain number from 0.05 to 3600, in seconds",
        ),
        (
            '[instruments.BTC.layered]\nspread_percent = "10bps"\n',
            'FILE: instruments.BTC.layered.spread_percent: value "10bps": '
            "allowed: plain number above 0, at most 20, in percent",
        ),
        (
            "[instruments.BTC.layered]\nspread_percent = nan\n",
            "FILE: instruments.BTC.layered.spread_percent: value nan: "
            "allowed: plain number above 0, at most 20, in percent",
        ),
        (
            "[instruments.BTC.layered]\nlevels = 2.0\n",
            "FILE: instruments.BTC.layered.levels: value 2.0: allowed: whole number from 1 to 20",
        ),
        (
            "[instruments.BTC.layered]\nlevels = true\n",
            "FILE: instruments.BTC.layered.levels: value true: allowed: whole number from 1 to 20",
        ),
        (
            '[instruments.BTC]\nquoter = "magic"\n',
            'FILE: instruments.BTC.quoter: value "magic": allowed: one of '
            + ", ".join(f'"{name}"' for name in STRATEGIES),
        ),
        (
            '[instruments.BTC.layered]\nreference = "last"\n',
            'FILE: instruments.BTC.layered.reference: value "last": allowed: one of "mid", "weighted_mid"',
        ),
        ('[venue]\nmode = "real"\n', 'FILE: venue.mode: value "real": allowed: one of "paper", "practice", "live"'),
        (
            '[venue]\nurl = "ftp://example.org"\n',
            'FILE: venue.url: value "ftp://example.org": '
            "allowed: http(s)://host or http(s)://host:port, without path or password, or empty",
        ),
        ('[paths]\nstate_dir = "here"\n', 'FILE: paths.state_dir: value "here": allowed: an absolute path, or empty'),
        (
            '[device]\nid = "My Box"\n',
            'FILE: device.id: value "My Box": allowed: lower-case letters, digits, _ and -, at most 32, or empty',
        ),
        (
            '[risk]\noverride_reason = "because"\n',
            'FILE: risk.override_reason: value "because": '
            "allowed: a sentence of at least three words and 250 characters at most, or empty",
        ),
        ("[sim]\nseed = 2026-11-21\n", "FILE: sim.seed: value 2026-11-21: allowed: whole number from 0 to 2147483647"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(file: Path, text: str, line: str) -> None:
    """One wrong value gives one line: file, key, value, what is allowed."""
    assert refusals(file, text) == [line]


@pytest.mark.parametrize("key", list(numeric_keys()), ids=lambda key: ".".join(key.path))
def test_the_documented_bounds_are_the_enforced_ones(file: Path, key: Key) -> None:
    """Just outside either documented bound is refused in the documented words; just inside is not."""
    least, most = ends(key)
    nudge = Decimal(1) if key.kind == "integer" else Decimal("0.000001")
    inside = least + nudge if key.bounds.startswith("above") else least
    said = f": allowed: {key.allowed()}"
    for outside in (most + nudge, inside - nudge):
        assert [line.endswith(said) for line in refusals(file, toml_for(key, str(outside)))] == [True]
    for value in (inside, most):
        try:
            read(file, toml_for(key, str(value)))
        except ConfigError as error:
            assert said not in str(error), "only a relation may still object"


@pytest.mark.parametrize(
    "url",
    ["http://user:word@h", "http://h/path", "http://h?q", "http://h:99999", "http://h:0", "http://[", "http://a b"],
)
def test_only_a_plain_base_url_is_a_url(file: Path, url: str) -> None:
    """Paths, passwords and impossible ports or hosts are refused."""
    (line,) = refusals(file, f'[venue]\nname = "hyperliquid"\nurl = "{url}"\n')
    assert line.startswith("FILE: venue.url: value ")
    assert "word" not in line.replace("password", "")


def test_a_wrong_override_names_its_variable() -> None:
    """A bad value from the environment is reported under the variable, with the key and what is allowed."""
    with pytest.raises(ConfigError) as caught:
        load_config(None, {"MMPI_INSTRUMENTS__BTC__LAYERED__LEVELS": "many"})
    assert str(caught.value) == (
        "environment MMPI_INSTRUMENTS__BTC__LAYERED__LEVELS: instruments.BTC.layered.levels: "
        'value "many": allowed: whole number from 1 to 20'
    )


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("MMPI_RISK__MAX_ORDR", "MMPI_RISK__MAX_ORDER"),
        ("MMPI_INSTRUMENTS__BTCC__LAYERED__LEVELS", "MMPI_INSTRUMENTS__BTC__LAYERED__LEVELS"),
        ("MMPI_venue__url", ""),
    ],
)
def test_an_unknown_override_is_refused_with_the_nearest_name(name: str, near: str) -> None:
    """A misspelt variable never passes unnoticed, adds no instrument, and its value is not shown."""
    with pytest.raises(ConfigError) as caught:
        load_config(None, {name: "hush"})
    if near:
        assert str(caught.value) == f"environment: {name}: no such override; did you mean {near}?"
    else:
        said = "allowed: MMPI_<SECTION>__<KEY> with a key of docs/configuration.md"
        assert str(caught.value) == f"environment: {name}: no such override; {said}"
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('[venue]\nprivate_key = "hush"\n', "venue.private_key"),
        ('[secrets]\nquoter_secret = "hush"\n', "secrets.quoter_secret"),
        ('apiKey = "hush"\n', "apiKey"),
        ('[[wallets]]\npassphrase = ["hush"]\n', "wallets.0.passphrase"),
    ],
)
def test_a_secret_in_the_file_is_refused_and_never_repeated(file: Path, text: str, key: str) -> None:
    """Keys that look like secrets, at any depth, give a hint where they belong, without their value."""
    lines = refusals(file, text)
    assert lines[0] == (
        f"FILE: {key}: value not shown: secrets never stand in the configuration; "
        "allowed: a file of mode 0600 in secrets.dir, or a systemd credential"
    )
    assert "hush" not in "".join(lines)


def test_a_key_in_the_wrong_place_is_not_repeated_either(file: Path) -> None:
    """A value that looks like a private key is not shown, wherever it stands."""
    (line,) = refusals(file, f'[device]\nid = "0x{"ab" * 32}"\n')
    assert line.startswith("FILE: device.id: value (not shown): allowed: ")


def test_no_real_key_is_taken_for_a_secret(file: Path) -> None:
    """Every key of the schema can be set in a file: none of the names is refused as a secret."""
    for key in models.KEYS:
        try:
            read(file, toml_for(key, key.default))
        except ConfigError as error:
            pytest.fail(str(error))


def test_long_values_are_cut(file: Path) -> None:
    """A message stays readable however long the value is."""
    (line,) = refusals(file, f'[device]\nid = "{"x" * 5000}"\n')
    assert len(line) < 250
    (line,) = refusals(file, f"[sim]\nseed = 0x{'f' * 5000}\n")
    assert len(line) < 250


# --- relations


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "[risk]\nmax_order = 1001\n",
            "FILE: risk.max_order: value 1001: allowed: at most risk.max_position (1000)",
        ),
        (
            "[risk]\nmax_position = 3000.5\n",
            "FILE: risk.max_position: value 3000.5: allowed: at most risk.max_instrument (3000)",
        ),
        (
            "[risk]\nmax_total = 2999\n",
            "FILE: risk.max_instrument: value 3000: allowed: at most risk.max_total (2999)",
        ),
        (
            "[risk]\nsession_loss = 1000.01\n",
            "FILE: risk.session_loss: value 1000.01: "
            "allowed: at most 10% of risk.capital (10000) unless risk.override_reason says why",
        ),
        (
            "[risk]\nmax_drawdown = 1000.01\n",
            "FILE: risk.max_drawdown: value 1000.01: "
            "allowed: at most 10% of risk.capital (10000) unless risk.override_reason says why",
        ),
        (
            "[instruments.BTC.layered]\nnotional = 501\n",
            "FILE: instruments.BTC.layered.notional: value 501: "
            "allowed: at most risk.max_order (500), or every order is refused",
        ),
        (
            "[instruments.BTC.layered]\nsize = 1\nnotional = 5\n",
            "FILE: instruments.BTC.layered.size: value 1: allowed: exactly one of size and notional above 0",
        ),
        (
            "[instruments.BTC.layered]\nnotional = 0\n",
            "FILE: instruments.BTC.layered.size: value 0: allowed: exactly one of size and notional above 0",
        ),
        (
            "[instruments.BTC.layered]\nlevels = 5\nspread_percent = 2.0\nstep_percent = 1.01\n",
            "FILE: instruments.BTC.layered.spread_percent: value 2.0: "
            "allowed: a ladder within risk.price_band_bps (500.0) of the reference; "
            "spread_percent / 2 + (levels - 1) x step_percent is 504 basis points",
        ),
        (
            "[risk]\nwarn_percent = 90.5\n",
            "FILE: risk.warn_percent: value 90.5: allowed: at most risk.critical_percent (90.0)",
        ),
        (
            "[instruments.BTC.layered]\nsize = 0.000015\n",
            "FILE: instruments.BTC.layered.size: value 0.000015: allowed: a multiple of the lot, 0.00001",
        ),
        (
            "[instruments.BTC]\nlot_size = 0.01\n[instruments.BTC.layered]\nsize = 0.001\n",
            "FILE: instruments.BTC.layered.size: value 0.001: allowed: a multiple of the lot, 0.01",
        ),
        (
            "[venue]\nexpires_after_ms = 1000\nack_timeout_s = 1\n",
            "FILE: venue.expires_after_ms: value 1000: "
            "allowed: less than venue.ack_timeout_s (1.0 s): an order must be void before it is given up on",
        ),
        (
            '[venue]\nmode = "live"\n',
            'FILE: venue.mode: value "live": allowed: "paper", the only mode of venue.name "generated"',
        ),
        (
            '[venue]\nurl = "http://127.0.0.1:1"\n',
            'FILE: venue.url: value "http://127.0.0.1:1": '
            'allowed: none for venue.name "generated", which has no address',
        ),
        (HYPERLIQUID, 'FILE: venue.url: value "": allowed: the address of venue.name "hyperliquid"'),
        (
            HYPERLIQUID + 'mode = "live"\nurl = "http://api.example.org"\n',
            'FILE: venue.url: value "http://api.example.org": allowed: an https:// address for venue.mode "live"',
        ),
        (
            HYPERLIQUID + 'mode = "practice"\nurl = "https://api.example.org"\n',
            'FILE: venue.url: value "https://api.example.org": '
            'allowed: an address of this machine for venue.mode "practice", such as "http://127.0.0.1:8765"',
        ),
        (
            "[instruments.DOGE]\n",
            "FILE: instruments.DOGE: allowed: instruments of the generated market: BTC, ETH",
        ),
        (
            "[instruments.BTC]\ntick_size = 0.0000001\nlot_size = 0.0000001\n",
            "FILE: instruments.BTC.tick_size: value 0.0000001: "
            "allowed: tick_size x lot_size a multiple of 2e-12, so that money stays exact",
        ),
        (
            "[journal]\nmax_bytes = 16777215\n",
            "FILE: journal.max_bytes: value 16777215: allowed: at least 2 x journal.segment_bytes (8388608)",
        ),
    ],
)
def test_a_broken_relation_names_both_keys(file: Path, text: str, line: str) -> None:
    """Values that are fine alone but not together give one line that names the other key and its value."""
    assert refusals(file, text) == [line]


@pytest.mark.parametrize(
    "text",
    [
        "[risk]\nmax_order = 1000\n",
        "[risk]\nwarn_percent = 70\ncritical_percent = 70\n",
        "[risk]\nsession_loss = 1000\nmax_drawdown = 1000\n",
        "[instruments.BTC.layered]\nnotional = 499\nlevels = 2\n",
        "[instruments.BTC.layered]\nlevels = 5\nspread_percent = 2.0\nstep_percent = 1.0\n",
        "[venue]\nexpires_after_ms = 999\nack_timeout_s = 1\n",
        "[journal]\nmax_bytes = 16777216\n",
        HYPERLIQUID + 'mode = "live"\nnetwork = "mainnet"\nurl = "https://api.example.org"\n',
        HYPERLIQUID + 'mode = "practice"\nurl = "http://localhost:8765"\n',
        HYPERLIQUID + 'mode = "practice"\nurl = "http://[::1]:8765"\n',
    ],
)
def test_a_relation_that_just_holds_is_accepted(file: Path, text: str) -> None:
    """Every relation includes its edge."""
    assert read(file, text).notes == []


def test_a_broken_relation_is_blamed_on_the_source_that_was_touched(file: Path) -> None:
    """If only an override breaks a default, the message names the variable."""
    assert refusals(file, "", {"MMPI_RISK__MAX_POSITION": "400"}) == [
        "environment MMPI_RISK__MAX_POSITION: risk.max_order: value 500: allowed: at most risk.max_position (400)"
    ]


def test_a_written_reason_lifts_the_loss_bound_and_is_noted(file: Path) -> None:
    """More than a tenth of the capital may be risked by whoever says why, and check repeats it."""
    loaded = read(file, '[risk]\nsession_loss = 2000\noverride_reason = "a small account"\n')
    assert loaded.settings.risk.session_loss == 2000 * MONEY_SCALE
    assert loaded.notes == ["risk.session_loss: more than 10% of risk.capital; reason given: a small account"]


def test_a_queue_model_that_wants_special_data_is_noted(file: Path) -> None:
    """fifo cannot be refused here, where the data is not known; check says what it is good for."""
    assert read(file, '[sim]\nqueue = "fifo"\n').notes == [
        'sim.queue: "fifo" is for data that names each order; everywhere else "conservative" stands in for it'
    ]


def test_a_ladder_that_outgrows_the_limits_is_noted(file: Path) -> None:
    """A ladder whose outer orders will be refused is permitted, and said."""
    text = "[instruments.BTC.layered]\nlevels = 20\nstep_percent = 0.1\nnotional = 400\n[risk]\nmax_open_orders = 39\n"
    assert read(file, text).notes == [
        "instruments.BTC.layered: one side of the ladder is 8000, risk.max_position is 1000: "
        "outer orders will be refused",
        "instruments.BTC.layered: the ladder is 16000, risk.max_instrument is 3000: outer orders will be refused",
        "instruments.BTC.layered: the ladder has 40 orders, risk.max_open_orders is 39",
        "risk.max_total: 6000 is less than all ladders together (16000)",
    ]


def test_all_errors_come_at_once(file: Path) -> None:
    """Unknown keys, bad values, broken relations and bad overrides appear together, one line each."""
    text = "[risk]\nmax_ordr = 5\nmax_position = 5000\n[sim]\nseed = -1\n[market]\nseed = 1.5\n"
    assert refusals(file, text, {"MMPI_SIM__SEAD": "1", "MMPI_GUARDIAN__ACK_TIMEOUT_S": "9"}) == [
        "environment: MMPI_SIM__SEAD: no such override; did you mean MMPI_SIM__SEED?",
        "FILE: risk.max_ordr: value 5: unknown key; did you mean max_order?",
        "FILE: sim.seed: value -1: allowed: whole number from 0 to 2147483647",
        "FILE: market.seed: value 1.5: allowed: whole number from 0 to 2147483647",
        "environment MMPI_GUARDIAN__ACK_TIMEOUT_S: guardian.ack_timeout_s: value 9.0: "
        "allowed: plain number from 0.1 to 2, in seconds",
        "FILE: risk.max_position: value 5000: allowed: at most risk.max_instrument (3000)",
    ]


def test_a_refused_value_breaks_no_relation_besides(file: Path) -> None:
    """A value that is wrong by itself is reported once, not again through the default that stands in for it."""
    assert len(refusals(file, "[risk]\nmax_position = -1\nmax_order = 2000\n")) == 1
    assert len(refusals(file, '[risk]\nsession_loss = 5000\noverride_reason = "x"\n')) == 1


# --- files


def test_a_missing_file_says_how_to_get_defaults(file: Path) -> None:
    """A file that was asked for and is not there is an error, never a silent default."""
    with pytest.raises(ConfigError) as caught:
        load_config(file, {})
    assert str(caught.value) == (
        f"{file}: no such file; allowed: an existing TOML file (start from docs/examples/paper.toml), "
        "or no file at all for the built-in paper defaults"
    )


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("[risk]\ncapital = 5 EUR\n", "line 2, column 13"),
        ("a = 1\nb = [", "line 2, column 6"),
        ("[", "line 1, column 2"),
    ],
)
def test_a_syntax_error_says_line_and_column(file: Path, text: str, where: str) -> None:
    """TOML that cannot be parsed is located, at the end of the file too."""
    (line,) = refusals(file, text)
    assert line.startswith(f"FILE: {where}: not valid TOML: ")


def test_files_that_are_no_text_are_refused(tmp_path: Path, file: Path) -> None:
    """A folder, binary data and endless nesting are each one clear line."""
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_config(tmp_path, {})
    file.write_bytes(b"a = '\xff'")
    with pytest.raises(ConfigError, match="not valid TOML: byte 5 is not UTF-8"):
        load_config(file, {})
    (line,) = refusals(file, ".".join("a" * 5000) + " = 1\n")
    assert line == "FILE: tables or lists more than 8 deep; the deepest key has 4 parts"


names = st.sampled_from(sorted({part for key in models.KEYS for part in key.path} | {"BTC", "private_key"})) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=4
)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**200), 2**200)
    | st.floats()
    | st.dates()
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)


def inline(value: object) -> str:
    """Return a value as inline TOML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k, ensure_ascii=False)} = {inline(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(inline, value)) + "]"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str | bool) else str(value or "''")


@given(junk=st.dictionaries(names, values, max_size=6))
def test_junk_is_refused_or_accepted_never_a_crash(
    tmp_path_factory: pytest.TempPathFactory, junk: dict[str, object]
) -> None:
    """Whatever a TOML file holds, the outcome is settings or a ConfigError."""
    file = tmp_path_factory.getbasetemp() / "junk.toml"
    text = "".join(f"{json.dumps(k, ensure_ascii=False)} = {inline(v)}\n" for k, v in junk.items())
    try:
        assert isinstance(read(file, text, {"MMPI_RISK__CAPITAL": "7000"}).settings, Settings)
    except ConfigError as error:
        assert str(error)


@given(
    content=st.binary(max_size=60),
    environ=st.dictionaries(st.sampled_from(["MMPI_SIM__SEED", "MMPI_RISK__CAPITAL"]), st.text(max_size=9)),
)
def test_bytes_and_odd_overrides_are_never_a_crash(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, environ: dict[str, str]
) -> None:
    """Whatever bytes a file has and whatever text a variable, the outcome is settings or a ConfigError."""
    file = tmp_path_factory.getbasetemp() / "bytes.toml"
    file.write_bytes(content)
    try:
        load_config(file, environ)
    except ConfigError as error:
        assert str(error)


# --- folders


def test_root_gets_the_installed_services_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    """root: /var/lib and /run, whatever XDG says."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    paths = load_config(None, {"XDG_STATE_HOME": "/x", "XDG_RUNTIME_DIR": "/y"}).settings.paths
    assert (paths.state_dir, paths.runtime_dir) == ("/var/lib/mmpi", "/run/mmpi")
    assert paths.secrets_dir == "/var/lib/mmpi/secrets"


@pytest.mark.parametrize(
    ("environ", "state", "runtime"),
    [
        ({"XDG_STATE_HOME": "/s", "XDG_RUNTIME_DIR": "/r", "HOME": "/h"}, "/s/mmpi", "/r/mmpi"),
        ({"HOME": "/h", "TMPDIR": "/t/"}, "/h/.local/state/mmpi", "/t/mmpi-1000"),
        ({"HOME": "/h", "XDG_STATE_HOME": "relative"}, "/h/.local/state/mmpi", "/tmp/mmpi-1000"),
        ({}, "/tmp/mmpi-1000/state", "/tmp/mmpi-1000"),
    ],
)
def test_a_user_gets_xdg_folders(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], state: str, runtime: str
) -> None:
    """Anyone else: XDG's folders, then the home folder and a private temporary one."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    paths = load_config(None, environ).settings.paths
    assert (paths.state_dir, paths.runtime_dir, paths.secrets_dir) == (state, runtime, f"{state}/secrets")


def test_chosen_folders_win_and_credentials_are_found(file: Path) -> None:
    """A written folder beats XDG; systemd's credentials folder is the default for secrets; each says its origin."""
    environ = {
        "CREDENTIALS_DIRECTORY": "/run/credentials/mmpi",
        "MMPI_PATHS__RUNTIME_DIR": "/r",
        "XDG_STATE_HOME": "/s",
    }
    loaded = read(file, '[paths]\nstate_dir = "/var/x"\n', environ)
    assert value_of(loaded, "paths.state_dir") == ('"/var/x"', "file")
    assert value_of(loaded, "paths.runtime_dir") == ('"/r"', "environment MMPI_PATHS__RUNTIME_DIR")
    assert value_of(loaded, "secrets.dir") == ('"/run/credentials/mmpi"', "environment CREDENTIALS_DIRECTORY")
    assert loaded.settings.paths == PathSettings("/var/x", "/r", "/run/credentials/mmpi")
    assert read(file, '[paths]\nstate_dir = "/var/x"\n').settings.paths.secrets_dir == "/var/x/secrets"


def test_a_nameless_box_is_called_by_its_host_name(file: Path) -> None:
    """device.id is never empty, and always in the letters it is allowed."""
    device_id = load_config(None, {}).settings.device_id
    assert read(file, f'[device]\nid = "{device_id}"\n').settings.device_id == device_id != ""


# --- what the daemons read


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_the_resolved_file_is_what_was_loaded(tmp_path: Path, umask: int) -> None:
    """resolve writes exactly the settings, mode 0640 under any umask, and leaves nothing else behind."""
    loaded = load_config(DOCS / "examples" / "practice.toml", {"MMPI_RISK__CAPITAL": "1000000000"})
    out = tmp_path / "run" / "config.json"
    before = os.umask(umask)
    try:
        resolve(loaded, out)
        resolve(loaded, out)
    finally:
        os.umask(before)
    assert load_resolved(out, Settings) == loaded.settings
    assert load_resolved(out, Box).venue == loaded.settings.venue
    assert stat.S_IMODE(out.stat().st_mode) == 0o640
    assert list(out.parent.iterdir()) == [out]


def test_a_failed_write_keeps_the_old_file_and_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk half way leaves the previous configuration whole and no debris."""
    out = tmp_path / "config.json"
    resolve(load_config(None, {"MMPI_SIM__SEED": "42"}), out)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigError) as caught:
        resolve(load_config(None, {}), out)
    assert str(caught.value) == f"{out}: cannot be written: No space left on device"
    assert load_resolved(out, Settings).sim.seed == 42
    assert list(tmp_path.iterdir()) == [out]


def test_a_folder_of_someone_else_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A runtime folder that another user made first is refused: they could swap the configuration."""
    folder = tmp_path / "mmpi-1000"
    folder.mkdir()
    if os.geteuid() == 0:
        os.chown(folder, 4242, -1)
    owner = folder.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(ConfigError) as caught:
        resolve(load_config(None, {}), folder / "config.json")
    assert str(caught.value) == f"{folder}: belongs to user id {owner}; allowed: a folder of your own, or root's"


def test_the_digest_changes_with_behaviour_only(file: Path) -> None:
    """Folders and the box's name do not change it; every other section does; writing a default out does not."""
    plain = load_config(None, {}).settings.digest
    same = '[device]\nid = "other"\n[paths]\nstate_dir = "/x"\n[secrets]\ndir = "/y"\n[sim]\nlatency_in_ms = 50\n'
    assert read(file, same).settings.digest == plain
    assert digest(load_config(None, {}).settings) == plain
    assert load_config(None, {"MMPI_HOST__SETUP_RESULT": "/elsewhere.json"}).settings.digest == plain
    changes = (
        "RISK__CAPITAL",
        "SIM__SEED",
        "MARKET__SEED",
        "INSTRUMENTS__BTC__LAYERED__LEVELS",
        "VENUE__ACK_TIMEOUT_S",
    )
    digests = {load_config(None, {f"MMPI_{name}": "11"}).settings.digest for name in changes[1:]}
    digests.add(load_config(None, {"MMPI_RISK__CAPITAL": "11000"}).settings.digest)
    assert len(digests | {plain}) == len(changes) + 1


# --- docs and schema


def test_the_reference_is_up_to_date() -> None:
    """docs/configuration.md is what the models say: python -m mmpi.config > docs/configuration.md."""
    assert (DOCS / "configuration.md").read_text(encoding="utf-8") == markdown(json_schema())


def test_every_key_is_explained() -> None:
    """Each key has a meaning and says what is allowed, and the schema refuses unknown keys in every table."""
    assert [key.path for key in models.KEYS if not (key.meaning and key.bounds)] == []
    tables = [json_schema(), *json_schema()["$defs"].values()]
    assert [table["title"] for table in tables if table["additionalProperties"] is not False] == []


def test_every_numbers_unit_is_in_its_name_or_stated() -> None:
    """A number without a unit is a count, a seed or a multiple."""
    bare = {key.path[-1] for key in numeric_keys() if not key.unit}
    counts = {"levels", "max_inventory", "order_burst", "max_open_orders", "budget_low", "budget_reserve"}
    counts |= {"flatten_attempts", "max_fills_per_minute"}
    assert bare == counts | {"volatility_multiple", "seed", "queue_power"}


@pytest.mark.parametrize(
    ("model", "struct", "extra"),
    [
        (models.Venue, VenueSettings, set()),
        *((getattr(quoters, struct.__name__.removesuffix("Config")), struct, set()) for struct in QUOTERS),
        (models.Risk, RiskConfig, {"override_reason"}),
        (models.Sim, SimConfig, set()),
        (models.Market, MarketConfig, {"scenario"}),
        (models.Journal, JournalSettings, set()),
        (models.Guardian, GuardianSettings, set()),
        (models.Clock, ClockSettings, set()),
        (models.Pins, PinSettings, set()),
        (models.Power, PowerSettings, set()),
        (models.Host, HostSettings, set()),
        (models.Watchdog, WatchdogSettings, set()),
        (models.Mqtt, MqttSettings, set()),
        (models.FarMqtt, FarMqttSettings, set()),
        (models.Broker, BrokerSettings, set()),
        (models.Web, WebSettings, set()),
        (models.Alerts, AlertSettings, set()),
    ],
)
def test_each_section_covers_its_struct(
    model: type[models.Section], struct: type[msgspec.Struct], extra: set[str]
) -> None:
    """A setting that a part knows can be written in the file, and the other way round."""
    written = {{"session_start": "session_start_s"}.get(name, name) for name in model.model_fields}
    assert written == set(struct.__struct_fields__) | extra
