"""The registry of strategies, and sizes cut to an instrument's lots."""

import json
from pathlib import Path

import pytest

from mmpi.cli import main
from mmpi.instrument import make_instrument
from mmpi.quoting import QUOTERS, QuoterSettings, make_quoter, on_grid
from mmpi.quoting.glft import GlftConfig
from mmpi.quoting.improve import ImproveConfig
from mmpi.quoting.layered import LayeredConfig

LOTS = make_instrument("X", "0.01", "0.01")
"""Lots of a hundredth."""


@pytest.mark.parametrize("kind", QUOTERS)
def test_the_defaults_of_every_strategy_make_its_quoter(kind: type[QuoterSettings]) -> None:
    """A config type belongs to exactly one class, and its defaults fit any instrument."""
    quoter = make_quoter(kind(), LOTS)
    assert type(quoter) is QUOTERS[kind]
    assert quoter.interval > 0 and quoter.refresh >= 0


@pytest.mark.parametrize("size", ["", "0.01", "1.50", "7"])
def test_a_size_of_whole_lots_is_left_alone(size: str) -> None:
    """Nothing to cut: the very same configuration."""
    config = LayeredConfig(size=size, notional="" if size else "100")
    assert on_grid(config, LOTS) is config


def test_a_size_is_cut_to_lots() -> None:
    """Down, never up, for a strategy that was written for another instrument."""
    assert on_grid(GlftConfig(size="0.0199", notional=""), LOTS) == GlftConfig(size="0.01", notional="")
    make_quoter(on_grid(GlftConfig(size="0.0199", notional=""), LOTS), LOTS)


def test_a_size_below_one_lot_quotes_nothing() -> None:
    """The quoter says size_below_lot as it does for a worth that is too small."""
    config = on_grid(LayeredConfig(size="0.0099", notional=""), LOTS)
    assert isinstance(config, LayeredConfig) and config.size == "" and float(config.notional) > 0
    make_quoter(config, LOTS)


@pytest.mark.parametrize(("wanted", "cut"), [("0.019", "0.01"), ("0.001", "0.01"), ("0.02", "0.02")])
def test_a_reference_size_is_one_lot_at_least(wanted: str, cut: str) -> None:
    """Below one lot every level would do; one lot says the same."""
    config = on_grid(ImproveConfig(reference_size=wanted, reference_notional=""), LOTS)
    assert isinstance(config, ImproveConfig) and config.reference_size == cut


def test_a_borrowed_size_runs_on_any_grid(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """BTC's size, too fine for ETH's lots, is cut, said, and quoted with."""
    config = tmp_path / "mmpi.toml"
    config.write_text('[instruments.BTC.layered]\nsize = "0.00405"\n')
    assert main(["backtest", "--config", str(config), "--instrument", "ETH", "--seconds", "30", "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["orders"]["placed"] > 0
    assert "sizes are cut to ETH's lots of 0.0001" in said.err


def test_fifo_without_named_orders_is_conservative_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """The report states the model in force, not the one that was asked for."""
    assert main(["backtest", "--queue", "fifo", "--seconds", "20", "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["sim"]["queue"] == "conservative"
    assert "does not name each order" in said.err


def test_the_queue_model_can_be_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    """--queue wins over the configuration and is stated."""
    assert main(["backtest", "--queue", "power_law", "--seconds", "20", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sim"]["queue"] == "power_law"
