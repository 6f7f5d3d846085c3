"""mmpi.runtime.findings: what findings come to."""

import pytest

from mmpi.runtime.findings import Finding, Level, exit_code


@pytest.mark.parametrize(
    ("failed", "code"),
    [
        ([], 0),
        (["venue"], 4),
        (["clock"], 3),
        (["instruments.BTC"], 2),
        (["venue", "clock"], 3),
        (["venue", "quoter_key", "clock"], 2),
    ],
)
def test_the_worst_decides(failed: list[str], code: int) -> None:
    """The exit code is that of what lasts longest: keys and configuration, then the clock, then the venue."""
    fine: list[tuple[str, Level]] = [("venue", "OK"), ("clock", "WARN"), ("budget", "WARN")]
    findings = [Finding(check, level, "x") for check, level in [*fine, *((each, "FAIL") for each in failed)]]
    assert exit_code(findings) == code


def test_a_line_for_people() -> None:
    """A line begins with the level, then what was looked at."""
    assert Finding("venue", "OK", "answers").line() == "OK    venue: answers"
