"""telemetry.facts: what is known of quoter and guardian, from a real board and a real control socket."""

import asyncio
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
from telemetry_builders import fill_status, guardian, instrument, summary

from mmpi.channels import Limits, Telling
from mmpi.instrument import MONEY_SCALE
from mmpi.runtime.board import StatusBoard
from mmpi.runtime.ipc import Answer, ControlServer
from mmpi.runtime.peers import Peer
from mmpi.sections import GuardianSettings, PathSettings
from mmpi.status import Summary
from mmpi.telemetry.facts import LOOK_S, OLD_S, Facts, Guardian


def telling(folder: Path, **changes: Any) -> Telling:
    """Return the settings of a box whose folders are all one."""
    paths = PathSettings(str(folder), str(folder), str(folder))
    usual = Telling("shelf", paths, Limits(1_000 * MONEY_SCALE), GuardianSettings())
    return msgspec.structs.replace(usual, **changes)


class Desk:
    """Facts of a box in one folder, with a clock of its own."""

    def __init__(self, folder: Path) -> None:
        self.told = telling(folder)
        self.counters: Counter[str] = Counter()
        self.guardian = Guardian(self.told.paths.control)
        self.facts = Facts(self.told, self.guardian, self.counters)
        self.board = StatusBoard.create(self.told.paths.status)

    def publish(self, words: Summary) -> None:
        self.board.beat(time.monotonic_ns())
        self.board.publish(msgspec.json.encode(words))


def test_nothing_is_known_of_a_box_that_never_ran(tmp_path: Path) -> None:
    """No board, no guardian: all of it is None, and nothing fails."""
    told = telling(tmp_path)
    seen = Facts(told, Guardian(told.paths.control), Counter()).look()
    assert (seen.quoter.summary, seen.quoter.age_s, seen.guardian, seen.last_fill_s) == (None, None, None, None)
    assert (seen.quoter.alive, seen.device, seen.sequence) == (False, "shelf", 1)


def test_the_quoters_words_have_their_age(tmp_path: Path) -> None:
    """The words are the last ones; their age grows while nothing new comes, and the sequence with every look."""
    desk = Desk(tmp_path)
    desk.publish(summary())
    first = desk.facts.look()
    assert first.quoter.summary == summary() and first.quoter.age_s is not None and first.quoter.age_s < 1
    assert first.quoter.alive and first.quoter.pid == os.getpid()
    later = desk.facts.look(lambda: time.monotonic() + 60)
    assert later.quoter.age_s is not None and later.quoter.age_s >= 60
    assert later.sequence == first.sequence + 1


def test_a_position_is_measured_against_its_limit(tmp_path: Path) -> None:
    """2 at a mid of 100.5 of 1000; short positions count as much; without a mid nothing is said."""
    desk = Desk(tmp_path)
    words = {"BTC": instrument(), "ETH": instrument(position="-4"), "SOL": instrument(bid="")}
    desk.publish(summary(instruments=words))
    found = desk.facts.look().exposures
    assert {name: (each.notional, each.share) for name, each in found.items()} == {
        "BTC": (201.0, 0.201), "ETH": (-402.0, 0.402),
    }  # fmt: skip


def test_words_of_a_silent_quoter_measure_no_markout(tmp_path: Path) -> None:
    """What it last saw of the market is not the mid of now."""
    desk = Desk(tmp_path)
    now, at = time.monotonic(), time.time()
    fill = fill_status(recv_ts=round(at * 1e9))
    desk.publish(summary(run_fills=1, last_fills=[fill]))
    desk.facts.look(lambda: now, lambda: at)
    assert [each.exec_id for each in desk.facts.fresh] == ["f1"]
    seen = desk.facts.look(lambda: now + 5, lambda: at + 5)
    assert seen.fills[0].markouts == {"1s": None, "5s": None, "30s": None}


def test_a_board_made_anew_is_found(tmp_path: Path) -> None:
    """The folder was emptied and another quoter runs: its board is read within LOOK_S."""
    desk = Desk(tmp_path)
    desk.publish(summary(events=1))
    desk.facts.look()
    desk.told.paths.status.unlink()
    desk.board = StatusBoard.create(desk.told.paths.status)
    desk.publish(summary(events=2))
    seen = desk.facts.look(lambda: time.monotonic() + LOOK_S)
    assert seen.quoter.summary is not None and seen.quoter.summary.events == 2


def test_words_that_cannot_be_read_are_counted(tmp_path: Path) -> None:
    """A quoter of another version says something else: the last words that were understood stay, and grow old."""
    desk = Desk(tmp_path)
    desk.publish(summary())
    desk.facts.look()
    desk.board.publish(b'{"mode": 3}')
    assert desk.facts.look().quoter.summary == summary()
    assert desk.facts.look().counters["status_unreadable"] == 2


async def test_the_guardian_is_asked_and_its_silence_noticed(tmp_path: Path) -> None:
    """Its answer has an age; one that hangs is silent after OLD_S, and makes nobody wait; then it is heard again."""
    desk, hang = Desk(tmp_path), asyncio.Event()
    hang.set()

    async def serve(request: dict[str, Any], peer: Peer, answer: Answer) -> None:  # noqa: ARG001
        await hang.wait()
        await answer({"final": True, **guardian(quoter_alive=False)})

    server = ControlServer(desk.told.paths.control, serve)
    await server.start()
    asking = asyncio.create_task(desk.guardian.run())
    while desk.facts.look().guardian is None:
        await asyncio.sleep(0.01)
    seen = desk.facts.look()
    assert seen.guardian is not None and seen.guardian.age_s < OLD_S
    assert not seen.quoter.alive  # by its word
    hang.clear()
    began = time.monotonic()
    assert desk.facts.look(lambda: began + OLD_S + 1).guardian is None
    assert time.monotonic() - began < 0.5
    hang.set()
    while desk.guardian.view(time.monotonic()) is None:
        await asyncio.sleep(0.01)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await server.close()


async def test_without_a_guardian_it_says_why(tmp_path: Path) -> None:
    """Nobody listens: that is no answer, and no error of ours."""
    desk = Desk(tmp_path)
    asking = asyncio.create_task(desk.guardian.run())
    while not desk.guardian.error:
        await asyncio.sleep(0.01)
    assert "no guardian is listening" in desk.guardian.error
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
