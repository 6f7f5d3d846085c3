"""Table: a row for every quoter on every set, in order, and what it says of how it was made."""

from pathlib import Path

import pytest

pytest.importorskip("pyarrow", reason="the research extra (pyarrow) is not installed")

from market_files import full_book_row, trade_row, write_set  # noqa: E402

from mmpi.errors import ConfigError  # noqa: E402
from mmpi.instrument import MONEY_SCALE, SECOND, money  # noqa: E402
from mmpi.research.table import main, quoters, render, run  # noqa: E402
from mmpi.risk import RiskConfig  # noqa: E402

START = 1_700_000_000 * SECOND


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """Return a set that the instrument table knows: a minute of books around 100, with a trade each second."""
    books = [full_book_row(START + n * SECOND // 2, 100.0 + n % 3 * 0.1, 100.2 + n % 3 * 0.1) for n in range(120)]
    trades = [
        trade_row(START + n * SECOND + SECOND // 4, 99.9 if n % 2 else 100.5, 500.0, "A" if n % 2 else "B")
        for n in range(1, 60)
    ]
    return write_set(tmp_path, "binance_spot_nexousdt_20990101", books=books, trades=trades)


def test_a_row_is_a_run(lab: Path) -> None:
    """Fills, exact parts that add up, an interval, no violation; `tell` hears of each row as it is done."""
    told = []
    rows = run(["layered", "layered"], [str(lab)], tell=told.append)
    assert told == rows
    assert rows[0] == rows[1]
    row = rows[0]
    assert (row.data, row.quoter, row.quote) == ("binance_spot_nexousdt_20990101", "layered", "USDT")
    assert row.fills > 5
    parts = [money(text) for text in (row.spread, row.inventory, row.funding, row.fees)]
    assert parts[0] + parts[1] + parts[2] - parts[3] == money(row.total)
    assert row.bps.value == pytest.approx(float(row.total) / float(row.volume) * 1e4)
    assert row.bps.low is not None
    assert (row.violations, row.breach) == (0, "")


def test_limits_reach_the_run_and_the_text(lab: Path) -> None:
    """Other limits than the built-in ones count, and are told."""
    risk = RiskConfig(max_position=50 * MONEY_SCALE)
    rows = run(["layered"], [str(lab)], risk=risk)
    assert float(rows[0].volume) < float(run(["layered"], [str(lab)])[0].volume)
    assert "| max_position | 50 |" in render(rows, risk=risk)


def test_the_document(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Markdown on stdout, progress on stderr; exchange, limits and quoters are all told."""
    assert main(["--sets", str(lab), "--quoters", "layered"]) == 0
    out, err = capsys.readouterr()
    assert err.startswith("binance_spot_nexousdt_20990101 layered: ")
    assert out.count("\n| binance_spot_nexousdt_20990101 | layered | ") == 1
    for wanted in ("# Results", "bp of volume (95 %)", "maker_fee_bps", "max_position", "spread_percent", "0.1.0+"):
        assert wanted in out
    assert str(lab.parent) not in out


def test_unknown_names_are_refused_before_anything_runs(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A quoter or set that is not there: exit code 2, one line that says what is allowed."""
    assert main(["--sets", str(lab), "--quoters", "layered,nonsense"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"mmpi.research.table: quoter nonsense: no such quoter; allowed: {', '.join(quoters())}\n"
    with pytest.raises(ConfigError, match="no data set"):
        run(["layered"], [str(lab), str(lab) + "_x"])


@pytest.mark.slow
def test_two_jobs_give_the_same_rows(lab: Path) -> None:
    """Rows do not depend on how many processes make them."""
    names = list(quoters())
    assert run(names, [str(lab)] * 2, jobs=2) == run(names, [str(lab)] * 2)
