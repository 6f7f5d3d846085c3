"""Crashes: quoters killed at random moments of live practice, and nothing is lost, doubled, or forgiven."""

import signal
import time
from decimal import Decimal
from pathlib import Path

import pytest
from crash_campaign import FAST, campaign
from stack import Stack

from mmpi.journal.survey import verify_journal

pytestmark = pytest.mark.slow

KILLS, BOXES = 300, 4


def test_three_hundred_kills() -> None:
    """Each time: the server's fills are those in the books, no order is unknown, position and cash are exact."""
    kills = campaign(KILLS, BOXES)
    assert [failure for kill in kills for failure in kill.failures] == []
    assert len(kills) >= KILLS
    # It would show nothing if every kill found everything on the disk, or nothing happened meanwhile.
    assert sum(kill.fills - kill.in_ledger for kill in kills) > KILLS // 4
    assert sum(kill.while_dead for kill in kills) > KILLS // 10


def test_a_restart_loop_touches_the_limit_all_the_same(tmp_path: Path) -> None:
    """Killed again and again, a losing quoter latches when all its runs together have lost what one may.

    Each fill costs its fee, and the ladder is too tight to earn it.
    """
    limit = Decimal("0.7")
    losing = FAST | {"MMPI_RISK__SESSION_LOSS": str(limit), "MMPI_JOURNAL__COMMIT_S": "1"}
    with Stack(tmp_path, latency_ms=15.0, more=losing) as stack:
        stack.start_server()
        stack.start_guardian()
        stack.arm()
        losses: list[Decimal] = []
        while stack.status()["latch"] != "latched":
            assert len(losses) < 60, f"not latched, with losses of {losses}"
            stack.start_quoter()
            stack.wait(lambda: stack.summary().get("fills") is not None, 20, "a quoter")
            began = Decimal(stack.summary()["pnl"]["total"])
            time.sleep(2.0)
            losses.append(began - Decimal(stack.summary()["pnl"]["total"]))
            stack.quoter.send(signal.SIGKILL)
            stack.quoter.wait(10)
        assert "session_loss" in stack.status()["reason"]
        # No run alone had lost so much.
        assert len(losses) > 1 and max(losses[:-1]) < limit
        assert verify_journal(stack.state / "journal").damage == ()
