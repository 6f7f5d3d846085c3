"""mmpi.guardian with a venue in memory; latch, halt word, board and processes are real, waits are cut short."""

import asyncio
import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from guardian_builders import EXPIRY, HANDS, SETTINGS, FakeHand, guarding, shorten
from runtime_builders import until

from mmpi.config.models import KEYS
from mmpi.control import COMMANDS
from mmpi.device.latch import Latch, LatchState
from mmpi.errors import ConfigError, DeviceError
from mmpi.instrument import MILLISECOND
from mmpi.runtime import zero as zero_module
from mmpi.runtime.board import LATCHED, PAUSED, RUN
from mmpi.runtime.watch import QuoterWatch

REAL_EXPIRY = zero_module.EXPIRY


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut every wait that is a setting of the real world; the rules between them stay."""
    shorten(monkeypatch)


# Starting ---------------------------------------------------------------------------------------------------------


async def test_a_box_that_was_never_armed_is_latched(tmp_path: Path) -> None:
    """Without a record nothing runs, and what rests at the venue is cancelled all the same."""
    hand = FakeHand()
    hand.place("1")
    async with guarding(tmp_path, hand, armed=False) as box:
        await until(lambda: box.guardian.verified_at)
        assert (box.halt.state, hand.orders) == (LATCHED, {})
        assert "never armed" in box.halt.reason


async def test_an_armed_box_runs_after_zero_is_verified(tmp_path: Path) -> None:
    """Orders left over by an earlier run are gone, twice asked, before the quoter may go on."""
    hand = FakeHand()
    hand.place("1", "2", unseen=True)
    begun = time.monotonic_ns()
    async with guarding(tmp_path, hand) as box:
        assert time.monotonic_ns() - begun > EXPIRY
        assert (hand.orders, box.guardian.last_stop["reason"]) == ({}, "guardian_starting")
        assert box.control.status()["state"] == "run"


async def test_beats_say_that_it_looks(tmp_path: Path) -> None:
    """The halt word's beat follows the monotonic clock."""
    async with guarding(tmp_path) as box:
        beat = box.halt.beat_ns
        await until(lambda: box.halt.beat_ns > beat)
        assert abs(time.monotonic_ns() - box.halt.beat_ns) < 100 * MILLISECOND


# The button -------------------------------------------------------------------------------------------------------


async def test_a_press(tmp_path: Path) -> None:
    """The word is set before anything is waited for; then: cancelled, latched on disk, verified, said."""
    hand = FakeHand()
    async with guarding(tmp_path, hand) as box:
        hand.place("1", "2")
        pressing = asyncio.create_task(box.control.command({"cmd": "kill", "reason": "smoke"}, HANDS, box.say))
        await asyncio.sleep(0)
        assert (box.halt.state, box.halt.reason) == (LATCHED, "smoke")
        await pressing
        stored = Latch(tmp_path / "latch.json").load()
        assert (stored.latched, stored.reason, stored.by) == (True, "smoke", "somebody (pid 42, uid 0)")
        assert sorted(hand.cancelled) == ["1", "2"]
        accepted, verified = box.answers
        assert accepted == {"accepted": True, "reason": "smoke"}
        assert (verified["final"], verified["verified"], verified["stored"]) == (True, True, True)
        assert 0 <= verified["first_zero_ms"] < verified["verified_ms"]
        assert verified["verified_ms"] >= EXPIRY / MILLISECOND


async def test_verified_means_asked_after_every_expiry(tmp_path: Path) -> None:
    """An order that lands after the first empty answer, unseen by the stream, is found and cancelled by the second."""
    hand = FakeHand()
    async with guarding(tmp_path, hand) as box:
        asked = hand.asked
        pressing = asyncio.create_task(box.command("kill"))
        await until(lambda: hand.asked > asked)
        await asyncio.sleep(0.005)
        hand.place("late", unseen=True)
        answer = await pressing
        assert (hand.orders, hand.cancelled, answer["verified"]) == ({}, ["late"], True)
        assert answer["first_zero_ms"] > EXPIRY / MILLISECOND, "the empty answer before it counts no more"


async def test_what_comes_alive_is_cancelled_at_once(tmp_path: Path) -> None:
    """An order that the stream tells of while nothing may be live is cancelled, then and later, without a press."""
    hand = FakeHand()
    async with guarding(tmp_path, hand) as box:
        await box.command("kill")
        hand.place("ghost")
        await until(lambda: not hand.orders, 0.5)
        await until(lambda: box.guardian.verified_at)
        assert hand.cancelled == ["ghost"]


async def test_a_deaf_venue(tmp_path: Path) -> None:
    """Without answers the guardian asks on, verifies nothing, and does not let itself be armed."""
    hand = FakeHand()
    async with guarding(tmp_path, hand) as box:
        hand.place("1")
        hand.deaf = True
        pressing = asyncio.create_task(box.command("kill"))
        await until(lambda: box.guardian.errors > 5)
        assert (pressing.done(), box.control.status()["verified_zero"]) == (False, False)
        refused = await box.command("arm")
        assert refused["error"] == "it is not verified that none of our orders is live; is the venue reachable?"
        hand.deaf = False
        assert (await pressing)["verified"] is True
        assert hand.orders == {}


async def test_pressing_twice(tmp_path: Path) -> None:
    """A second press is answered like the first, and the latch keeps the first reason."""
    async with guarding(tmp_path) as box:
        first, second = await asyncio.gather(box.command("press", reason="a"), box.command("kill", reason="b"))
        assert (first["verified"], second["verified"]) == (True, True)
        assert Latch(tmp_path / "latch.json").load().reason == "a"


async def test_a_full_disk_does_not_stop_the_stop(tmp_path: Path) -> None:
    """A latch that cannot be written is said, and everything else is done."""

    class FullDisk(Latch):
        def trip(self, by: str, reason: str, now: int) -> LatchState:
            raise DeviceError(f"disk full: {by}, {reason}, {now}")

    hand = FakeHand()
    async with guarding(tmp_path, hand, latch=FullDisk(tmp_path / "latch.json")) as box:
        hand.place("1")
        answer = await box.command("kill")
        assert (answer["verified"], answer["stored"], box.halt.state, hand.orders) == (True, False, LATCHED, {})


async def test_a_peer_that_hangs_up_changes_nothing(tmp_path: Path) -> None:
    """The stop goes on, and is written down, though nobody listens to its answers."""
    hand = FakeHand()
    async with guarding(tmp_path, hand) as box:
        hand.place("1")

        async def gone(_: dict[str, Any]) -> None:
            raise ConnectionResetError

        with pytest.raises(ConnectionResetError):
            await box.control.command({"cmd": "kill"}, HANDS, gone)
        await until(lambda: box.guardian.verified_at and Latch(tmp_path / "latch.json").load().latched)
        assert hand.orders == {}


# The quoter -------------------------------------------------------------------------------------------------------


async def test_a_frozen_quoter_is_killed_by_a_press(tmp_path: Path, sleeper: "subprocess.Popen[bytes]") -> None:
    """A quoter that does not acknowledge a latch in time gets SIGKILL; zero is verified after its death's expiry."""
    async with guarding(tmp_path) as box, box.quoter(sleeper.pid) as frozen:
        await until(lambda: box.guardian.watch.steady(time.monotonic_ns()))
        frozen.append(True)
        sleeper.send_signal(signal.SIGSTOP)
        answer = await box.command("kill")
        assert sleeper.wait(timeout=5) == -signal.SIGKILL
        assert answer["verified_ms"] >= SETTINGS.ack_timeout_s * 1000 + EXPIRY / MILLISECOND


async def test_an_obedient_quoter_lives(tmp_path: Path, sleeper: "subprocess.Popen[bytes]") -> None:
    """A quoter that acknowledges a latch is not killed, and zero is verified an expiry after its word."""
    async with guarding(tmp_path) as box, box.quoter(sleeper.pid):
        await until(lambda: box.guardian.watch.alive)
        answer = await box.command("kill")
        await asyncio.sleep(2 * SETTINGS.ack_timeout_s)
        assert sleeper.poll() is None
        assert answer["verified"] is True


async def test_a_silent_quoter_is_paused_and_comes_back(tmp_path: Path, sleeper: "subprocess.Popen[bytes]") -> None:
    """Without a beat everything is cancelled and quoting pauses; it goes on by itself once beats are steady again."""
    hand = FakeHand()
    async with guarding(tmp_path, hand) as box, box.quoter(sleeper.pid) as frozen:
        await until(lambda: box.guardian.watch.steady(time.monotonic_ns()))
        hand.place("1")
        frozen.append(True)
        await until(lambda: box.halt.state == PAUSED)
        assert box.halt.reason == "quoter_heartbeat"
        await until(lambda: box.guardian.verified_at)
        assert (hand.orders, sleeper.poll(), Latch(tmp_path / "latch.json").load().latched) == ({}, None, False)
        await asyncio.sleep(0.05)
        assert box.halt.state == PAUSED
        frozen.clear()
        thawed = time.monotonic_ns()
        await until(lambda: box.halt.state == RUN)
        assert time.monotonic_ns() - thawed >= 30 * MILLISECOND


async def test_a_dead_quoter_pauses_until_the_next(tmp_path: Path, sleeper: "subprocess.Popen[bytes]") -> None:
    """A death cancels everything; quoting may go on when another quoter is there and obeys."""
    hand = FakeHand()
    async with guarding(tmp_path, hand) as box:
        async with box.quoter(sleeper.pid):
            await until(lambda: box.guardian.watch.alive)
            hand.place("1")
            sleeper.kill()
            sleeper.wait()
            await until(lambda: box.halt.state == PAUSED)
            assert box.halt.reason == "quoter_died"
            await until(lambda: box.guardian.verified_at)
            assert hand.orders == {}
        await asyncio.sleep(0.1)
        assert box.halt.state == PAUSED
        async with box.quoter(os.getpid()):
            await until(lambda: box.halt.state == RUN)


async def test_a_lost_venue_session_pauses(tmp_path: Path) -> None:
    """A guardian that could not cancel anything does not let quoting go on; when it can again it does."""
    hand = FakeHand()
    async with guarding(tmp_path, hand) as box:
        hand.ready = False
        lost = time.monotonic_ns()
        await until(lambda: box.halt.state == PAUSED)
        assert (box.halt.reason, time.monotonic_ns() - lost >= 60 * MILLISECOND) == ("venue_session", True)
        hand.ready = True
        await until(lambda: box.halt.state == RUN)


async def test_paper_needs_no_venue(tmp_path: Path, sleeper: "subprocess.Popen[bytes]") -> None:
    """Without a venue a stop is verified by the quoter's word alone."""
    async with guarding(tmp_path, paper=True) as box, box.quoter(sleeper.pid):
        await until(lambda: box.guardian.watch.alive)
        answer = await box.command("kill")
        status = box.control.status()
        assert (answer["verified"], status["venue_session"], status["live_orders"]) == (True, None, None)


# Arming -----------------------------------------------------------------------------------------------------------


async def test_arming(tmp_path: Path, sleeper: "subprocess.Popen[bytes]") -> None:
    """After a verified stop arming is written down, and quoting goes on."""
    async with guarding(tmp_path) as box, box.quoter(sleeper.pid):
        await until(lambda: box.guardian.watch.steady(time.monotonic_ns()))
        await box.command("kill")
        answer = await box.command("arm")
        stored = Latch(tmp_path / "latch.json").load()
        assert (answer["armed"], answer["generation"]) == (True, stored.generation)
        assert (stored.latched, stored.by) == (False, "tester (pid 42, uid 0)")
        await until(lambda: box.halt.state == RUN)


async def test_arming_what_is_armed(tmp_path: Path) -> None:
    """Arming an armed box says so and writes nothing."""
    async with guarding(tmp_path) as box:
        before = (tmp_path / "latch.json").read_bytes()
        assert await box.command("arm") == {"final": True, "armed": True, "note": "was not latched"}
        assert (tmp_path / "latch.json").read_bytes() == before


async def test_arming_what_another_hand_latched(tmp_path: Path) -> None:
    """A latch written beside a guardian that runs counts: arming stops everything first, then writes armed."""
    hand = FakeHand()
    async with guarding(tmp_path, hand) as box:
        Latch(tmp_path / "latch.json").trip("another hand", "smoke", 5)
        hand.place("1")
        answer = await box.command("arm")
        assert (answer.get("note"), answer["armed"], hand.orders) == (None, True, {})
        assert Latch(tmp_path / "latch.json").load().latched is False


async def test_arming_twice_at_once(tmp_path: Path) -> None:
    """Two hands that arm at the same moment both arm: the box runs and the disk says armed."""
    async with guarding(tmp_path) as box:
        await box.command("kill")
        answers = await asyncio.gather(box.command("arm"), box.command("arm"))
        assert [answer.get("armed") for answer in answers] == [True, True]
        await until(lambda: box.halt.state == RUN)
        assert Latch(tmp_path / "latch.json").load().latched is False


async def test_arming_with_a_quoter_that_does_not_answer(
    tmp_path: Path, sleeper: "subprocess.Popen[bytes]", monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quoter that has not acknowledged the latch is named; arming would let it run on unseen."""
    monkeypatch.setattr(QuoterWatch, "kill", lambda _: False)
    async with guarding(tmp_path) as box, box.quoter(sleeper.pid) as frozen:
        await until(lambda: box.guardian.watch.alive)
        await box.command("kill")
        frozen.append(True)
        box.halt.set(LATCHED, "again")
        answer = await box.command("arm")
        assert answer["error"] == f"the quoter (pid {sleeper.pid}) does not answer; end it first"
        assert box.halt.state == LATCHED


async def test_a_press_while_arming_wins(tmp_path: Path) -> None:
    """Whatever the disk was about to say, after a press it says latched."""

    class SlowDisk(Latch):
        gate = threading.Event()

        def arm(self, by: str, reason: str, now: int, scope: str = "") -> LatchState:
            state = super().arm(by, reason, now, scope)
            self.gate.wait(2)
            return state

    latch = SlowDisk(tmp_path / "latch.json")
    latch.gate.set()
    async with guarding(tmp_path, latch=latch) as box:
        await box.command("kill", reason="first")
        latch.gate.clear()
        arming = asyncio.create_task(box.command("arm"))
        await until(lambda: not Latch(tmp_path / "latch.json").load().latched)
        pressing = asyncio.create_task(box.command("kill", reason="second"))
        await asyncio.sleep(0.01)
        latch.gate.set()
        assert (await arming)["error"] == "pressed again while arming: still latched"
        await pressing
        assert (box.halt.state, Latch(tmp_path / "latch.json").load().latched) == (LATCHED, True)


async def test_a_latch_that_cannot_be_unlatched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that does not take the record leaves the box latched and says why."""
    async with guarding(tmp_path) as box:
        await box.command("kill")

        def full(*_: object) -> LatchState:
            raise DeviceError("latch.json: disk full")

        monkeypatch.setattr(box.latch, "arm", full, raising=False)
        assert (await box.command("arm"))["error"] == "latch.json: disk full"
        assert box.halt.state == LATCHED


# Everything else --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["unarm", "", None, 7, ["kill"], {"a": 1}])
async def test_an_unknown_command(tmp_path: Path, name: object) -> None:
    """What is no command is answered with those that are, and changes nothing."""
    async with guarding(tmp_path) as box:
        await box.control.command({"cmd": name}, HANDS, box.say)
        assert box.answers == [
            {"final": True, "error": f"unknown command {name!r}; allowed: {', '.join(COMMANDS)}"}
        ]  # fmt: skip
        assert box.halt.state == RUN


async def test_status(tmp_path: Path) -> None:
    """The status is what observers build on; asking changes nothing."""
    async with guarding(tmp_path) as box:
        answer = await box.command("status")
        assert (answer["latch"], answer["state"], answer["venue_session"], answer["live_orders"]) == (
            "armed", "run", True, 0,
        )  # fmt: skip
        assert (answer["quoter_alive"], answer["verified_zero"], answer["errors"]) == (False, True, 0)


async def test_a_session_that_breaks_is_made_again(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A bug in the session is counted and said once, and the session starts again."""
    hand = FakeHand()
    hand.breaks = [RuntimeError("bug"), RuntimeError("bug")]
    async with guarding(tmp_path, hand) as box:
        await until(lambda: hand.sessions == 3)
        assert (box.guardian.errors, box.task.done()) == (2, False)
    assert capfd.readouterr().err.count("RuntimeError('bug')") == 1


async def test_a_key_that_can_cancel_nothing_ends_it(tmp_path: Path) -> None:
    """A guardian whose key the venue does not know is none: it ends with the reason, and nothing ever ran."""
    hand = FakeHand()
    hand.ready = False
    hand.breaks = [ConfigError("guardian.key: no agent")]
    async with guarding(tmp_path, hand, armed=True) as box:
        with pytest.raises(ConfigError, match="no agent"):
            await box.task
        assert box.halt.state == PAUSED


async def test_a_look_that_fails_gives_no_beat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A guardian that cannot watch shows no sign of life, so that the quoter pauses; the button goes on working."""
    hand = FakeHand()
    async with guarding(tmp_path, hand) as box:
        hand.place("1")

        def broken(*_: object) -> None:
            raise OSError("too many open files")

        monkeypatch.setattr(box.guardian.watch, "poll", broken)
        await until(lambda: box.guardian.errors > 0)
        beat = box.halt.beat_ns
        await asyncio.sleep(0.02)
        assert (box.halt.beat_ns, box.task.done()) == (beat, False)
        pressing = asyncio.create_task(box.command("kill"))
        await until(lambda: not hand.orders)
        assert box.halt.state == LATCHED
        pressing.cancel()


EXPIRES_AFTER_MS_AT_MOST = 2000
"""The bound of venue.expires_after_ms."""


def test_the_expiry_covers_every_order() -> None:
    """The guardian waits as long as the configuration lets an order be valid (the fixture's cut undone)."""
    assert REAL_EXPIRY == EXPIRES_AFTER_MS_AT_MOST * MILLISECOND
    key = next(key for key in KEYS if key.path == ("venue", "expires_after_ms"))
    assert f"to {EXPIRES_AFTER_MS_AT_MOST}" in key.allowed()
