"""Strategies' tables: which one counts, what it resolves to, and how it must fit the limits."""

from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from mmpi import folders
from mmpi.config import Loaded, effective, load_config, models
from mmpi.config.ladders import name_of
from mmpi.config.quoters import STRATEGIES
from mmpi.desk import DeskParams
from mmpi.engine import EngineParams
from mmpi.errors import ConfigError
from mmpi.instrument import SECOND
from mmpi.quoting import QUOTERS, make_quoter
from mmpi.quoting.glft import GlftConfig
from mmpi.quoting.improve import ImproveConfig
from mmpi.quoting.layered import LayeredConfig
from mmpi.risk import RiskConfig
from mmpi.settings import Settings
from mmpi.sim.market import GENERATED


@pytest.fixture(autouse=True)
def nothing_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test reads this machine's own configuration."""
    monkeypatch.setattr(folders, "INSTALLED_CONFIG", tmp_path / "not-installed.toml")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return the path of a configuration file to be."""
    return tmp_path / "mmpi.toml"


def read(file: Path, text: str, environ: Mapping[str, str] | None = None, quoter: str = "") -> Loaded:
    """Return what a file with this text loads to."""
    file.write_text(text, encoding="utf-8")
    return load_config(file, environ or {}, quoter)


def refusals(file: Path, text: str, quoter: str = "") -> list[str]:
    """Return the lines that a file with this text is refused with, the file's path as FILE."""
    with pytest.raises(ConfigError) as caught:
        read(file, text, quoter=quoter)
    return str(caught.value).replace(str(file), "FILE").split("\n")


def btc(name: str, text: str = "") -> str:
    """Return a file that quotes BTC alone with a strategy, `text` in its table."""
    return f'[instruments.BTC]\nquoter = "{name}"\n[instruments.BTC.{name}]\n{text}\n'


# --- which table counts


def test_every_strategy_can_be_chosen() -> None:
    """`quoter` and the tables' names are the tags of the registered strategies, in the schema too."""
    assert {name: STRATEGIES[name] for name in STRATEGIES} == {name_of(config()): config for config in QUOTERS}
    (key,) = (key for key in models.KEYS if key.path[-1] == "quoter")
    assert key.bounds == ", ".join(f'"{name}"' for name in STRATEGIES)


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_chosen_strategy_has_its_own_defaults(file: Path, name: str) -> None:
    """Naming a strategy is enough: it resolves to its struct's defaults, without a note, and quoting can begin."""
    loaded = read(file, f'[instruments.BTC]\nquoter = "{name}"\n')
    (instrument,) = loaded.settings.instruments
    assert instrument.quoter == STRATEGIES[name]()
    assert loaded.notes == []
    assert make_quoter(instrument.quoter, GENERATED["BTC"]).interval in (SECOND, 2 * SECOND)


def test_the_strategy_can_be_chosen_by_the_environment() -> None:
    """MMPI_INSTRUMENTS__BTC__QUOTER chooses, and a flag among its keys is true or false, nothing else."""
    choice = {"MMPI_INSTRUMENTS__BTC__QUOTER": "glft"}
    key = "MMPI_INSTRUMENTS__BTC__GLFT__APPROXIMATE"
    instruments = load_config(None, choice | {key: "true"}).settings.instruments
    assert [each.quoter for each in instruments] == [GlftConfig(approximate=True), LayeredConfig()]
    with pytest.raises(ConfigError) as caught:
        load_config(None, choice | {key: "yes"})
    assert str(caught.value) == (
        f'environment {key}: instruments.BTC.glft.approximate: value "yes": allowed: one of true, false'
    )


def test_a_table_that_does_not_count_is_checked_and_noted(file: Path) -> None:
    """The other strategies' tables are not resolved: said in a note; a wrong value in them is an error all the same."""
    text = btc("glft", "levels = 2") + "[instruments.BTC.layered]\nlevels = 7\n"
    loaded = read(file, text)
    assert loaded.settings.instruments[0].quoter == GlftConfig(levels=2)
    assert loaded.notes == ['instruments.BTC.layered: not used; instruments.BTC.quoter is "glft"']
    assert refusals(file, text.replace("7", "70")) == [
        "FILE: instruments.BTC.layered.levels: value 70: allowed: whole number from 1 to 20"
    ]


def test_an_option_wins_over_file_and_environment_for_every_instrument(file: Path) -> None:
    """--quoter takes that strategy's table where there is one, else its defaults; check shows it as the origin."""
    text = btc("layered", "levels = 7") + "[instruments.BTC.glft]\nlevels = 2\n[instruments.ETH]\n"
    loaded = read(file, text, {"MMPI_INSTRUMENTS__ETH__QUOTER": "layered"}, quoter="glft")
    assert [each.quoter for each in loaded.settings.instruments] == [GlftConfig(levels=2), GlftConfig()]
    assert ("instruments.ETH.quoter", '"glft"', "--quoter") in effective(loaded)


def test_an_unknown_option_lists_what_there_is(file: Path) -> None:
    """--quoter with an unknown name is one line with all names."""
    assert refusals(file, "", quoter="magic") == [f"--quoter magic: no such quoter; allowed: {', '.join(STRATEGIES)}"]


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_size_switches_the_default_notional_off(file: Path, name: str) -> None:
    """Exactly one of size and notional reaches every strategy, and check shows which."""
    loaded = read(file, btc(name, 'size = "0.0010"'))
    quoter = loaded.settings.instruments[0].quoter
    assert (quoter.size, quoter.notional) == ("0.001", "")
    assert (f"instruments.BTC.{name}.notional", "0", "default") in effective(loaded)
    assert refusals(file, btc(name, "size = 1\nnotional = 5")) == [
        f"FILE: instruments.BTC.{name}.size: value 1: allowed: exactly one of size and notional above 0"
    ]


def test_a_reference_size_switches_the_default_worth_off(file: Path) -> None:
    """improve: the reference is a size or a worth; with neither above 0 every level counts."""
    improve = [
        read(file, btc("improve", text)).settings.instruments[0].quoter
        for text in ("", "reference_size = 2", "reference_notional = 0")
    ]
    assert improve == [
        ImproveConfig(),
        ImproveConfig(reference_size="2", reference_notional=""),
        ImproveConfig(reference_notional=""),
    ]


@pytest.mark.parametrize("name", STRATEGIES)
def test_settings_and_checkpoints_keep_the_strategy(file: Path, name: str) -> None:
    """The resolved file and a checkpoint's parameters say by a tag which strategy it is, and decode to the same."""
    settings = read(file, btc(name, "size_tolerance_percent = 3")).settings
    assert msgspec.json.decode(msgspec.json.encode(settings), type=Settings) == settings
    quoter = settings.instruments[0].quoter
    params = EngineParams("0x", (DeskParams(GENERATED["BTC"], quoter),), RiskConfig(), SECOND)
    assert msgspec.json.decode(msgspec.json.encode(params), type=EngineParams) == params


# --- relations


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            btc("glft", "notional = 501"),
            "FILE: instruments.BTC.glft.notional: value 501: allowed: at most risk.max_order (500), "
            "or every order is refused",
        ),
        (
            btc("avellaneda_stoikov", "notional = 1001\nlevels = 2"),
            "FILE: instruments.BTC.avellaneda_stoikov.notional: value 1001: "
            "allowed: at most levels x risk.max_order (1000), or orders are refused",
        ),
        (
            btc("avellaneda_stoikov", "min_half_spread_bps = 51"),
            "FILE: instruments.BTC.avellaneda_stoikov.min_half_spread_bps: value 51.0: "
            "allowed: at most max_half_spread_bps (50.0)",
        ),
        (
            btc("improve", 'reference_size = "0.5"\nreference_notional = 5'),
            'FILE: instruments.BTC.improve.reference_size: value 0.5: '
            "allowed: at most one of reference_size and reference_notional above 0",
        ),
        (
            btc("improve", "reference_size = 0.000001"),
            "FILE: instruments.BTC.improve.reference_size: value 0.000001: allowed: a multiple of the lot, 0.00001",
        ),
        (
            btc("improve", "min_spread_bps = 10.5"),
            "FILE: instruments.BTC.improve.min_spread_bps: value 10.5: allowed: at most spread_bps (10.0)",
        ),
        (
            btc("improve", "spread_bps = 9\nmin_spread_bps = 9\n[risk]\nprice_band_bps = 4"),
            "FILE: instruments.BTC.improve.min_spread_bps: value 9.0: "
            "allowed: at most 2 x risk.price_band_bps (8.0), or orders are refused",
        ),
        (
            btc("avellaneda_stoikov", "min_half_spread_bps = 31\n[risk]\nprice_band_bps = 30"),
            "FILE: instruments.BTC.avellaneda_stoikov.min_half_spread_bps: value 31.0: "
            "allowed: at most risk.price_band_bps (30.0), or every order is refused",
        ),
    ],
)
def test_a_strategy_that_cannot_work_is_refused(file: Path, text: str, line: str) -> None:
    """A setting with which no order could pass, or that contradicts another, is one line that names both keys."""
    assert refusals(file, text) == [line]


@pytest.mark.parametrize(
    ("text", "notes"),
    [
        (
            btc("layered", "notional = 500\nlevels = 1"),
            [
                ".layered.notional: an ask above the mid is worth up to 500.05, risk.max_order is 500: "
                "what is above it will be refused"
            ],
        ),
        (btc("layered", "notional = 9"), [".layered.notional: 9; the venue takes none below 10: there will be none"]),
        (
            btc("avellaneda_stoikov", "notional = 600"),
            [".avellaneda_stoikov.notional: one order may have all of it; risk.max_order is 500: it is refused then"],
        ),
        (
            btc("avellaneda_stoikov", "[risk]\nprice_band_bps = 199"),
            [
                ".avellaneda_stoikov: an order may be 200 basis points from the mid, risk.price_band_bps is 199: "
                "it is refused then"
            ],
        ),
        (
            btc("glft", "max_inventory = 11"),
            [".glft.max_inventory: 1100 is more than risk.max_position, 1000, which holds"],
        ),
        (
            btc("improve", "notional = 500\n[risk]\nmax_open_orders = 1"),
            [
                ".improve: the ladder has 2 orders, risk.max_open_orders is 1",
                ".improve.notional: an ask above the mid is worth up to 525, risk.max_order is 500: "
                "what is above it will be refused",
            ],
        ),
        (btc("improve", 'sides = "ask_only"\n[risk]\nmax_open_orders = 1'), []),
        (
            btc("glft", "max_depth_bps = 501"),
            [".glft: an order may be 501 basis points from the mid, risk.price_band_bps is 500: it is refused then"],
        ),
    ],
)
def test_what_may_be_refused_is_noted(file: Path, text: str, notes: list[str]) -> None:
    """What depends on the market is permitted, and said."""
    assert read(file, text).notes == [f"instruments.BTC{note}" for note in notes]
