"""`mmpi calibrate`: each fit through the command line, on generated data and on recorded slices."""

import json
import os
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

pytestmark = pytest.mark.slow

pytest.importorskip("numpy", reason="the research extra (numpy) is not installed")
pytest.importorskip("pyarrow", reason="the research extra (pyarrow) is not installed")

from mmpi.cli import main  # noqa: E402
from mmpi.commands.calibrate import toml  # noqa: E402
from mmpi.config import load_config  # noqa: E402
from mmpi.quoting.glft import GlftConfig  # noqa: E402
from mmpi.signals.micro_price import FITTED as TABLES  # noqa: E402
from mmpi.sim.market_fit import FITTED  # noqa: E402
from mmpi.sim.queue_models import FITTED_POWER  # noqa: E402
from tests.intensity_markets import as_line, takers  # noqa: E402
from tests.order_files import busy, write  # noqa: E402

Run = Callable[..., tuple[int, str, str]]
LAW = (0.35, 0.08)
"""A per second and k per tick, ten ticks a basis point."""
GRID = ("--instrument", "XY", "--tick", "1", "--lot", "1")


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Return what runs `mmpi calibrate` here: exit code, stdout, stderr."""

    def command(*argv: str | Path) -> tuple[int, str, str]:
        capfd.readouterr()
        try:
            code = main(["calibrate", *map(str, argv)])
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
        return code, *capfd.readouterr()

    return command


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return half an hour of a generated market as recorded Hyperliquid messages."""
    path = tmp_path_factory.mktemp("lines") / "day.jsonl"
    path.write_text("\n".join(map(as_line, takers(1, 1800, LAW, LAW))) + "\n")
    return path


def told(ended: tuple[int, str, str]) -> Any:
    """Return the one JSON object of a run that went well and said nothing else."""
    code, out, err = ended
    assert (code, err, out.count("\n")) == (0, "", 1)
    return json.loads(out)


def test_intensity_of_a_known_market(run: Run, lines: Path) -> None:
    """Within three of the errors stated, with every key that is promised; the same bytes again."""
    ended = run("intensity", "--data", lines, *GRID, "--json")
    found = told(ended)
    assert abs(found["A_per_s"] - LAW[0]) < 3 * found["se"]["A_per_s"]
    assert abs(found["k_per_tick"] - LAW[1]) < 3 * found["se"]["k_per_tick"]
    assert abs(found["k_per_bp"] - 10 * LAW[1]) < 3 * found["se"]["k_per_bp"]
    assert (found["what"], found["data"], found["instrument"], found["mid"]) == ("intensity", "day", "XY", 100_000)
    assert found["seconds"] == pytest.approx(1800, abs=2) and found["events"] > 7000
    assert set(found["depths"][0]) == {"ticks", "bps", "hits", "seconds", "rate", "fitted"}
    assert {"sides", "touch", "r2", "sweeps", "hold_s", "half_spread_bps", "tick_size", "toml"} <= set(found)
    assert run("intensity", "--data", lines, *GRID, "--json") == ended


def test_the_lines_to_paste_are_a_configuration(run: Run, lines: Path, tmp_path: Path) -> None:
    """What is printed after the numbers loads, and the quoters have the fit's k and A."""
    code, out, err = run("intensity", "--data", lines, *GRID)
    assert (code, err) == (0, "")
    pasted = out.partition("# for the configuration file:\n")[2]
    assert tomllib.loads(pasted) == tomllib.loads(told(run("intensity", "--data", lines, *GRID, "--json"))["toml"])
    file = tmp_path / "mmpi.toml"
    file.write_text(toml("BTC", 0.4321, 0.1234) + '\n[instruments.BTC]\nquoter = "glft"\n')
    (quoter,) = [each.quoter for each in load_config(file, {}).settings.instruments if each.name == "BTC"]
    assert isinstance(quoter, GlftConfig)
    assert (quoter.k_per_bp, quoter.arrivals_per_s) == (0.4321, 0.1234)
    assert tomllib.loads(toml("@107", 1.0, 2.0))["instruments"]["@107"]["avellaneda_stoikov"] == {"k_per_bp": 1.0}


def test_what_a_person_reads_of_the_intensity(run: Run, lines: Path) -> None:
    """Both sides, the errors, every depth, and the best price beside them."""
    found = told(run("intensity", "--data", lines, *GRID, "--json"))
    _, out, _ = run("intensity", "--data", lines, *GRID)
    for word in ("pooled", "bids", "asks", "A, per s", "k, per bp", "R^2", "the best price: not fitted", "held 1 s"):
        assert word in out
    assert f"{found['k_per_bp']:.4g} +- {found['se']['k_per_bp']:.2g}" in out
    assert all(f"{each['hits']:>8}{each['seconds']:>10.0f}" in out for each in found["depths"])


def test_the_holding_time_is_told(run: Run, lines: Path) -> None:
    """Orders held longer meet fewer instants; what must be above 0 is."""
    found = told(run("intensity", "--data", lines, *GRID, "--hold", "20", "--json"))
    assert found["hold_s"] == 20
    assert found["depths"][0]["hits"] <= 2 * 90
    code, _, err = run("intensity", "--data", lines, *GRID, "--hold", "0")
    assert code == 2 and "0 is not a number above 0" in err


def test_too_little_is_one_line_and_2(run: Run, lines: Path, tmp_path: Path) -> None:
    """No number, nothing on stdout: the set, what is in it, what is needed."""
    short = tmp_path / "short.jsonl"
    short.write_text("\n".join(lines.read_text().splitlines()[:200]) + "\n")
    code, out, err = run("intensity", "--data", short, *GRID, "--json")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("mmpi calibrate: short: ") and "needs at least 100 s" in err


@pytest.mark.parametrize("what", ["intensity", "micro_price", "queue", "market"])
def test_a_set_that_is_not_there(run: Run, tmp_path: Path, what: str) -> None:
    """2, with its name; --data is asked for."""
    code, out, err = run(what, "--data", tmp_path / "absent", "--json")
    assert (code, out) == (2, "") and "absent: no data set" in err
    assert run(what)[0] == 2
    assert run(what, "--help")[0] == 0


def test_bad_usage(run: Run) -> None:
    """Only the four fits there are."""
    assert run("moon", "--data", "x")[0] == 2
    assert run()[0] == 2


def test_progress_on_a_terminal(run: Run, lines: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Percent on stderr, wiped at the end; none with --json."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    code, out, err = run("intensity", "--data", lines, *GRID)
    assert code == 0 and "%" not in out
    assert err.startswith("\rmmpi calibrate:   0%") and err.count("%") > 2 and err.endswith("\r\x1b[K")
    told(run("intensity", "--data", lines, *GRID, "--json"))
    code, _, err = run("queue", "--data", lines, *GRID)
    assert code == 2 and err.splitlines()[-1].partition("\x1b[K")[2].startswith("mmpi calibrate: --data")


def test_queue_on_recorded_orders(run: Run, tmp_path: Path) -> None:
    """Each model with its error, bias and part of touch's, and the power with the least error of the first half."""
    path = write(tmp_path, busy(2, 3000).rows)
    options = ("queue", "--data", path, "--orders", "60", "--horizon", "60")
    found = told(run(*options, "--json"))
    scores = {each["model"]: each for each in found["scores"]}
    assert list(scores) == ["touch", "conservative", "proportional", "power_law"]
    assert {"n", "mean_absolute_error", "bias", "ratio"} <= set(scores["touch"])
    assert all(scores[name]["ratio"] < 0.6 for name in list(scores)[1:])
    least = min(each["mean_absolute_error"] for each in found["powers"])
    best = next(each["power"] for each in found["powers"] if each["mean_absolute_error"] == least)
    assert found["fitted_power"] == best == scores["power_law"]["power"]
    assert (found["what"], found["data"], found["part"]) == ("queue", path.name, [0.5, 1.0])
    code, out, err = run(*options)
    assert (code, err) == (0, "") and "conservative" in out
    assert f"fitted power {best:g} " in out and f"default: {FITTED_POWER:g}" in out


def test_queue_needs_orders(run: Run, lines: Path) -> None:
    """A recording of books and trades has no truth to compare with."""
    code, out, err = run("queue", "--data", lines, "--json")
    assert (code, out) == (2, "") and "not recorded order by order" in err and ".wslog" in err


def market(data: Path, name: str = "hyperliquid_btc_20250904") -> str:
    return str(data / "market" / name)


def test_micro_price_of_a_recorded_day(run: Run, data: Path) -> None:
    """The shipped table of BTC comes out, and says so; errors in and out of sample."""
    found = told(run("micro_price", "--data", market(data), "--json"))
    assert (found["what"], found["instrument"], found["shipped"]) == ("micro_price", "BTC", "this one")
    assert found["table"] == json.loads(msgspec.json.encode(TABLES["BTC"]))
    assert found["out_of_sample"]["30s micro_price"]["rms"] < found["out_of_sample"]["30s mid"]["rms"]
    code, out, err = run("micro_price", "--data", market(data))
    assert (code, err) == (0, "")
    assert "mmpi/signals/micro_price.py" in out and "30s micro_price" in out and "second half" in out
    table = out[out.index("MicroPriceTable(") :].partition("\nhow far")[0]
    assert eval(table, {"MicroPriceTable": type(TABLES["BTC"])}) == TABLES["BTC"]


def test_micro_price_on_another_set(run: Run, data: Path) -> None:
    """Tested on the set named, with other buckets than the shipped table's; an odd number of them is refused."""
    sol = market(data, "hyperliquid_sol_20250904")
    found = told(run("micro_price", "--data", market(data), "--test", sol, "--buckets", "4", "--json"))
    assert (found["table"]["buckets"], found["test"], found["shipped"]) == (4, sol, "another one")
    code, _, err = run("micro_price", "--data", market(data), "--buckets", "5")
    assert code == 2 and "must be even" in err


def test_market_of_a_recorded_day(run: Run, data: Path) -> None:
    """The shipped numbers come out, all of them, in both forms."""
    found = told(run("market", "--data", market(data), "--json"))
    assert (found["what"], found["data"], found["instrument"]) == ("market", "hyperliquid_btc_20250904", "BTC")
    assert found["market"] == json.loads(msgspec.json.encode(FITTED["BTC"]))
    code, out, err = run("market", "--data", market(data))
    assert (code, err) == (0, "") and "mmpi/sim/market_fit.py" in out
    assert all(name in out for name in found["market"])


def test_intensity_of_recorded_sets(run: Run, data: Path) -> None:
    """BTC's is found from the common form; WLFI's four minutes are refused."""
    found = told(run("intensity", "--data", market(data), "--json"))
    assert found["r2"] > 0.98 and found["se"]["k_per_bp"] < 0.2 * found["k_per_bp"]
    code, out, err = run("intensity", "--data", market(data, "hyperliquid_wlfi_20250903"), "--json")
    assert (code, out) == (2, "") and "hyperliquid_wlfi_20250903: WLFI: " in err and "more data" in err


def test_without_the_research_extra(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where numpy is not installed, one line says what to do."""
    import sys

    for name in [name for name in sys.modules if name.startswith("mmpi.research.fit_") or name.endswith(".calibrate")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("mmpi.research.fit_intensity", raising=False)
    monkeypatch.setitem(sys.modules, "numpy", None)
    code, out, err = run("market", "--data", os.devnull)
    assert (code, out) == (2, "") and "research extra (numpy is missing)" in err
