"""Ratios: by hand, and when they mean nothing."""

import math

import pytest

np = pytest.importorskip("numpy", reason="the research extra (numpy) is not installed")

from mmpi.research.ratios import sharpe, sortino  # noqa: E402

DAYS = 10 * 86_400
RETURNS = np.array([0.002, -0.001] * 20)


def test_by_hand() -> None:
    """Mean 0.0005; deviation 0.0015 with n - 1; downside the root mean square of the losses; 365 days of hours."""
    ratio = sharpe(RETURNS, 3600, DAYS)
    each = 0.0005 / (0.0015 * math.sqrt(40 / 39))
    assert ratio.value == pytest.approx(each * math.sqrt(8760))
    assert ratio.error == pytest.approx(math.sqrt((1 + each**2 / 2) / 40 * 8760))
    assert sortino(RETURNS, 3600, DAYS).value == pytest.approx(0.0005 / math.sqrt(1e-6 / 2) * math.sqrt(8760))
    assert (ratio.meaningful, ratio.note, ratio.interval_s, ratio.returns) == (True, "", 3600, 40)


def test_returns_that_follow_each_other_are_worth_fewer() -> None:
    """Autocorrelation 0.9 or so leaves few independent returns; alternation does not make more than there are."""
    assert sharpe(np.sin(np.arange(100) / 10), 60, DAYS).independent < 10
    assert sharpe(RETURNS, 60, DAYS).independent == 40


@pytest.mark.parametrize(
    ("returns", "span", "valued", "note"),
    [
        (RETURNS[:29], DAYS, False, "not meaningful: 29 returns of 60 s, at least 30 are needed"),
        (np.full(40, 0.001), DAYS, False, "not meaningful: no return varied"),
        (RETURNS, 7_200, True, "not meaningful: the run is shorter than a day (2.0 h)"),
    ],
)
def test_what_means_nothing_says_so(returns: object, span: float, valued: bool, note: str) -> None:
    """Too few returns, none that varies, or too short a run: never meaningful, and the note tells why."""
    ratio = sharpe(returns, 60, span)  # type: ignore[arg-type]
    assert (ratio.value is not None, ratio.meaningful, ratio.note) == (valued, False, note)
