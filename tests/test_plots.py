"""Plots: which figures there are, what is written in them, and how few points they need."""

import re

import pytest
from report_builders import Story, five_fills

pytestmark = pytest.mark.slow

np = pytest.importorskip("numpy", reason="the research extra (numpy) is not installed")
pytest.importorskip("matplotlib", reason="the research extra (matplotlib) is not installed")

from mmpi.research.document import Figure  # noqa: E402
from mmpi.research.metrics import measure  # noqa: E402
from mmpi.research.plots import POINTS, _thinned, draw  # noqa: E402
from mmpi.research.recorder import Recorder  # noqa: E402


def drawn(recorder: Recorder) -> dict[str, Figure]:
    return {figure.name: figure for figure in draw(recorder, measure(recorder)[1], "USD")}


def words(figure: Figure) -> set[str]:
    """Return the texts in a drawing."""
    return set(re.findall(r"<text[^>]*>([^<]*)</text>", figure.svg))


def test_the_five_figures() -> None:
    """Equity with its parts, inventory with the limit, fills on the mid, markouts, time by position."""
    figures = drawn(five_fills())
    assert list(figures) == ["equity", "inventory", "fills", "markouts", "limit"]
    assert {"spread", "inventory", "minus fees", "total", "USD", "seconds since the start"} <= words(figures["equity"])
    assert "funding" not in words(figures["equity"])  # there was none
    assert {"limit", "position", "position, A"} <= words(figures["inventory"])
    assert {"mid", "buy", "sell", "price, USD"} <= words(figures["fills"])
    assert {"1 s", "5 s", "30 s", "60 s", "markout, bp", "all"} <= words(figures["markouts"])
    assert {"flat", "% of the time"} <= words(figures["limit"])
    assert "at the limit (from 90%) 12.0 % of the time" in figures["limit"].caption
    assert "every fill (5) shown" in figures["fills"].caption


def test_a_run_without_anything_to_draw_is_drawn() -> None:
    """No fill, no mid: empty axes and no warning."""
    assert len(drawn(Story().stop(5))) == 5


def test_long_lines_keep_their_extremes() -> None:
    """A line is thinned to POINTS or so, and no spike is lost."""
    values = np.sin(np.arange(200_000) / 5_000)
    values[77_777], values[123_456] = 9.0, -9.0
    chosen = _thinned(values)
    assert len(chosen) <= POINTS + 2
    assert {0, 77_777, 123_456, 199_999} <= set(chosen.tolist())
    assert (np.diff(chosen) > 0).all()


def test_many_fills_are_shown_in_part_and_the_caption_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where every fill would be a blot, an even part is shown."""
    monkeypatch.setattr("mmpi.research.plots.SHOWN_FILLS", 2)
    assert "one fill in 3 shown" in drawn(five_fills())["fills"].caption
