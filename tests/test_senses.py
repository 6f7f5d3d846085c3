"""The rounds that read for the guardian: one thread each, whose failures are told once and end nothing."""

import threading
import time

import pytest

from mmpi.runtime.senses import Rounds


def test_rounds_go_on_after_failures(capfd: pytest.CaptureFixture[str]) -> None:
    """A reading that raises is counted, said once for each kind, and tried again."""
    done = threading.Event()
    calls: list[int] = []

    def work() -> None:
        calls.append(1)
        if len(calls) < 4:
            raise OSError("no bus")
        done.set()

    rounds = Rounds("gauge", 0.001, work)
    rounds.start()
    assert done.wait(5)
    rounds.close()
    assert (rounds.failures, rounds.last_error) == (3, "OSError('no bus')")
    assert capfd.readouterr().err.count("mmpi guardian: gauge: OSError('no bus')") == 1


def test_closed_rounds_end(capfd: pytest.CaptureFixture[str]) -> None:
    """After closing no further round begins."""
    calls: list[float] = []
    rounds = Rounds("host", 0.001, lambda: calls.append(time.monotonic()))
    rounds.start()
    while not calls:
        time.sleep(0.001)
    rounds.close()
    time.sleep(0.02)
    known = len(calls)
    time.sleep(0.05)
    assert len(calls) == known
    assert capfd.readouterr().err == ""
