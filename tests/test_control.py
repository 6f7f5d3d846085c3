"""Who may ask the guardian for what: remote may stop, only hands may start (I9)."""

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest
from guardian_builders import HANDS, REMOTE, SETTINGS, FakeHand, FakePanel, FakeSense, guarding, shorten
from runtime_builders import until

from mmpi import control as control_module
from mmpi.control import Control
from mmpi.device.held import Held
from mmpi.device.latch import Latch
from mmpi.errors import DeviceError
from mmpi.runtime.board import LATCHED, PAUSED, REDUCE, RUN
from mmpi.runtime.peers import Peer


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut every wait that is a setting of the real world; the rules between them stay."""
    shorten(monkeypatch)
    monkeypatch.setattr(control_module, "ASK_S", 0.002)
    monkeypatch.setattr(control_module, "FLATTEN_START_S", 0.2)


# Pausing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("peer", "cause"), [(HANDS, "by_hand"), (REMOTE, "by_remote")])
async def test_a_pause_cancels_and_lasts(tmp_path: Path, peer: Peer, cause: str) -> None:
    """Pausing halts at once, is verified, survives the guardian, and ends by resume; without any latch."""
    hand, held = FakeHand(), Held(tmp_path / "held.json")
    async with guarding(tmp_path, hand, held=held) as box:
        hand.place("1")
        answer = await box.command("pause", peer, reason="lunch")
        assert (answer["paused"], answer["verified"], hand.orders, box.halt.state) == (True, True, {}, PAUSED)
        assert Latch(tmp_path / "latch.json").load().latched is False
        await asyncio.sleep(0.05)
        assert box.halt.state == PAUSED
    assert list(held.load()) == [cause]
    async with guarding(tmp_path, FakeHand(), held=held, wait=False) as box:
        await until(lambda: box.guardian.verified_at)
        await asyncio.sleep(0.05)
        assert box.halt.state == PAUSED
        assert (await box.command("resume", peer))["resumed"] is True
        await until(lambda: box.halt.state == RUN)
    assert held.load() == {}


async def test_the_halt_comes_before_any_wait(tmp_path: Path) -> None:
    """A pause, like a press, forbids placing before its disk write or its answer."""
    async with guarding(tmp_path, held=Held(tmp_path / "held.json")) as box:
        pausing = asyncio.create_task(box.command("pause"))
        await asyncio.sleep(0)
        assert box.halt.state == PAUSED
        await pausing


async def test_remote_cannot_resume_what_hands_paused(tmp_path: Path) -> None:
    """A pause set at the box outranks the phone, also beside a remote one; hands end both."""
    async with guarding(tmp_path) as box:
        await box.command("pause", REMOTE)
        await box.command("pause", HANDS, reason="cleaning")
        refused = await box.command("resume", REMOTE)
        assert "only hands there" in refused["error"] and "cleaning" in refused["error"]
        assert box.halt.state == PAUSED
        assert (await box.command("resume", HANDS))["held"] == ["by_remote", "by_hand"]
        await until(lambda: box.halt.state == RUN)


async def test_whoever_says_so_is_remote(tmp_path: Path) -> None:
    """Telemetry under the same user declares itself remote, and is treated so."""
    async with guarding(tmp_path) as box:
        await box.command("pause", HANDS)
        assert "error" in await box.command("resume", HANDS, remote=True)


async def test_pausing_twice_and_resuming_what_nobody_paused(tmp_path: Path) -> None:
    """A pause is idempotent; resume without a person's pause says what else is there."""
    async with guarding(tmp_path) as box:
        for _ in range(2):
            assert (await box.command("pause"))["paused"] is True
        await box.command("resume")
        await until(lambda: box.halt.state == RUN)
        assert (await box.command("resume"))["note"] == "nobody had paused it"


async def test_a_latch_is_no_pause(tmp_path: Path) -> None:
    """resume does not lift a latch, and a pause set while latched still holds after arming."""
    async with guarding(tmp_path) as box:
        await box.command("kill", reason="smoke")
        assert "only arming" in (await box.command("resume"))["error"]
        await box.command("pause")
        assert (await box.command("arm"))["armed"] is True
        await until(lambda: box.guardian.verified_at and box.halt.state == PAUSED)
        await asyncio.sleep(0.05)
        assert box.halt.state == PAUSED


# Arming -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("has_button", "allowed", "peer", "armed"),
    [
        (False, False, HANDS, True),
        (False, False, REMOTE, False),
        (False, True, REMOTE, True),
        (True, False, HANDS, False),
        (True, False, REMOTE, False),
        (True, True, HANDS, True),
        (True, True, REMOTE, True),
    ],
)
async def test_who_may_arm(tmp_path: Path, has_button: bool, allowed: bool, peer: Peer, armed: bool) -> None:
    """With a button only the button arms, unless allow_remote_arm; without one hands at the box may."""
    settings = msgspec.structs.replace(SETTINGS, allow_remote_arm=allowed)
    async with guarding(tmp_path, settings=settings, has_button=has_button) as box:
        await box.command("kill")
        answer = await box.command("arm", peer)
        assert bool(answer.get("armed")) is armed
        assert Latch(tmp_path / "latch.json").load().latched is not armed
        assert armed or "only hands at the box arm" in answer["error"]


async def test_the_button_arms(tmp_path: Path) -> None:
    """Held at the box the arm button arms, whatever commands may not."""
    panel = FakePanel()
    async with guarding(tmp_path, panel=panel, has_button=True) as box:
        await box.command("kill")
        panel.arming = "arm button held 3 s"
        await until(lambda: box.halt.state == RUN)
        assert Latch(tmp_path / "latch.json").load().by == "arm button held 3 s"


async def test_arming_is_refused_while_a_cause_is_there(tmp_path: Path) -> None:
    """Neither button nor command arms while the kill contact is open or the mains are gone; the cause is named."""
    panel = FakePanel(kill_button="contact open")
    settings = msgspec.structs.replace(SETTINGS, allow_remote_arm=True)
    async with guarding(tmp_path, panel=panel, settings=settings, has_button=True, wait=False) as box:
        await until(lambda: box.guardian.verified_at and box.halt.state == LATCHED)
        assert "kill_button: contact open" in (await box.command("arm"))["error"]
        panel.arming = "arm button"
        await until(lambda: not panel.arming)
        await asyncio.sleep(0.02)
        assert box.halt.state == LATCHED
        panel.causes = {"power": "mains failed"}
        await asyncio.sleep(0.01)
        assert "power: mains failed" in (await box.command("arm"))["error"]
        panel.causes = {}
        await asyncio.sleep(0.01)
        assert (await box.command("arm"))["armed"] is True


async def test_kill_and_latch_are_never_refused(tmp_path: Path) -> None:
    """Anybody who reaches the socket may stop, again and again."""
    async with guarding(tmp_path, has_button=True) as box:
        for name in ("kill", "press", "latch"):
            assert (await box.command(name, REMOTE))["verified"] is True
        assert "remote" in Latch(tmp_path / "latch.json").load().by


# Flattening -------------------------------------------------------------------------------------------------------


async def flattening(box: Any, words: list[str], seen: list[int]) -> None:
    """Play a quoter that flattens: say these words, one after the other, once it is let."""
    await until(lambda: box.halt.state == REDUCE, 3)
    for word in words:
        seen.append(box.halt.state)
        box.board.publish(msgspec.json.encode({"state": "blocked", "reason": "flattening", "flatten": word}))
        await asyncio.sleep(0.25)


async def test_flatten_reduces_and_stays_paused(tmp_path: Path) -> None:
    """The quoter is let to reduce only after a verified zero, and quoting stays paused until a person resumes."""
    async with guarding(tmp_path) as box, box.quoter(os.getpid()):
        await until(lambda: box.halt.state == RUN and box.guardian.watch.alive)
        seen: list[int] = []
        playing = asyncio.create_task(flattening(box, ["working: BTC 1 left", "flat"], seen))
        answer = await box.command("flatten")
        assert (answer["flat"], box.halt.state) == (True, PAUSED)
        await playing
        assert seen[0] == REDUCE
        assert "flattened" in box.control.status()["causes"]
        await box.command("resume")
        await until(lambda: box.halt.state == RUN)


async def test_flatten_ends_latched_if_it_was(tmp_path: Path) -> None:
    """Hands may flatten a latched box; it is latched again afterwards, and was so on disk all the time."""
    async with guarding(tmp_path) as box, box.quoter(os.getpid()):
        await until(lambda: box.guardian.watch.alive)
        await box.command("kill", reason="smoke")
        assert "only hands" in (await box.command("flatten", REMOTE))["error"]
        playing = asyncio.create_task(flattening(box, ["flat"], []))
        flatten = asyncio.create_task(box.command("flatten"))
        await until(lambda: box.halt.state == REDUCE, 3)
        assert Latch(tmp_path / "latch.json").load().latched
        assert box.control.status()["latch"] == "latched"
        assert "flattened" in (await box.command("arm"))["error"] or box.halt.state == REDUCE
        assert (await flatten)["flat"] is True
        await playing
        assert (box.halt.state, box.halt.reason) == (LATCHED, "smoke")


async def test_a_press_breaks_flattening_off(tmp_path: Path) -> None:
    """From a press on nothing leaves, not even what reduces."""
    async with guarding(tmp_path) as box, box.quoter(os.getpid()):
        await until(lambda: box.halt.state == RUN and box.guardian.watch.alive)
        flatten = asyncio.create_task(box.command("flatten"))
        await until(lambda: box.halt.state == REDUCE, 3)
        await box.command("kill", reason="stop that")
        assert (await flatten)["error"] == "broken off: stop that"
        assert box.halt.state == LATCHED


async def test_what_makes_selling_impossible_breaks_it_off(tmp_path: Path) -> None:
    """A guardian that could not stop it does not let it go on."""
    hand = FakeHand()
    async with guarding(tmp_path, hand) as box, box.quoter(os.getpid()):
        await until(lambda: box.halt.state == RUN and box.guardian.watch.alive)
        flatten = asyncio.create_task(box.command("flatten"))
        await until(lambda: box.halt.state == REDUCE, 3)
        hand.ready = False
        assert (await flatten)["error"] == "broken off: venue_session"
        assert box.halt.state == PAUSED


async def test_a_hot_box_may_be_made_flat(tmp_path: Path) -> None:
    """What merely makes the machine unfit to quote does not keep anybody from ending a position."""
    panel = FakePanel()
    async with guarding(tmp_path, panel=panel) as box, box.quoter(os.getpid()):
        await until(lambda: box.halt.state == RUN and box.guardian.watch.alive)
        panel.causes = {"temperature": "91 C", "power": "mains failed"}
        await until(lambda: box.halt.state == PAUSED)
        playing = asyncio.create_task(flattening(box, ["flat"], []))
        assert (await box.command("flatten"))["flat"] is True
        await playing


async def test_flatten_that_fails_says_so(tmp_path: Path) -> None:
    """The quoter's own account of what is left is the answer; one that does not begin is given up on."""
    async with guarding(tmp_path) as box, box.quoter(os.getpid()):
        await until(lambda: box.halt.state == RUN and box.guardian.watch.alive)
        playing = asyncio.create_task(flattening(box, ["failed: BTC 0.5 left"], []))
        assert (await box.command("flatten"))["error"] == "failed: BTC 0.5 left"
        await playing
        box.board.publish(b"{}")
        await asyncio.sleep(0.25)
        assert "did not begin" in (await box.command("flatten"))["error"]
        assert box.halt.state == PAUSED


async def test_flatten_without_a_quoter(tmp_path: Path) -> None:
    """Without anybody to do it nothing is changed, and the answer says what to start."""
    async with guarding(tmp_path) as box:
        assert "no quoter is running" in (await box.command("flatten"))["error"]
        assert box.halt.state == RUN


# Beginning anew ---------------------------------------------------------------------------------------------------


async def test_reload_stands_still_first(tmp_path: Path) -> None:
    """The daemons begin anew only after a verified zero; remote cannot ask for it, and nothing of it is kept."""
    hand, held = FakeHand(), Held(tmp_path / "held.json")
    async with guarding(tmp_path, hand, held=held) as box:
        assert "error" in await box.command("reload", REMOTE)
        hand.place("1")
        assert (await box.command("reload"))["reloading"] is True
        assert (box.halt.state, hand.orders, box.control.reloading.is_set()) == (PAUSED, {}, True)
    assert held.load() == {}


async def test_reload_without_a_verified_zero_is_taken_back(tmp_path: Path) -> None:
    """A venue that does not answer keeps the old daemons at their work of stopping."""
    hand = FakeHand()
    async with guarding(tmp_path, hand) as box:
        hand.deaf = True
        assert "not verified" in (await box.command("reload"))["error"]
        assert not box.control.reloading.is_set()
        hand.deaf = False
        await until(lambda: box.halt.state == RUN)


# What came later --------------------------------------------------------------------------------------------------


async def test_a_press_during_the_wait_of_an_arming_wins(tmp_path: Path) -> None:
    """Arming that waits for the proof of zero is void once anybody has pressed, by command or by button."""
    for pressing in ("command", "button"):
        folder, hand, panel = tmp_path / pressing, FakeHand(), FakePanel()
        async with guarding(folder, hand, panel=panel, wait=False) as box:
            await until(lambda: box.guardian.verified_at)
            hand.deaf = True
            first = asyncio.create_task(box.command("kill", reason="first"))
            await asyncio.sleep(0.02)
            arming = asyncio.create_task(box.guardian.arm("hand"))
            await asyncio.sleep(0.02)
            if pressing == "command":
                second = asyncio.create_task(box.command("kill", reason="second"))
            else:
                panel.causes = {"kill_button": "open"}
                await asyncio.sleep(0.02)
                panel.causes = {}
                second = asyncio.create_task(asyncio.sleep(0))
            await asyncio.sleep(0.01)
            hand.deaf = False
            assert "still latched" in (await arming)["error"]
            await asyncio.gather(first, second)
            assert box.halt.state == LATCHED and Latch(folder / "latch.json").load().latched


@pytest.mark.parametrize("peer", [HANDS, REMOTE])
async def test_a_press_during_the_wait_of_a_flatten_wins(tmp_path: Path, peer: Peer) -> None:
    """A flatten that waited for zero sells nothing after a press."""
    hand = FakeHand()
    async with guarding(tmp_path, hand) as box, box.quoter(os.getpid()):
        await until(lambda: box.halt.state == RUN and box.guardian.watch.alive)
        hand.deaf = True
        flatten = asyncio.create_task(box.command("flatten", peer))
        await asyncio.sleep(0.02)
        kill = asyncio.create_task(box.command("kill", reason="stop that"))
        await asyncio.sleep(0.01)
        hand.deaf = False
        assert "pressed meanwhile: stop that" in (await flatten)["error"]
        await kill
        assert box.halt.state == LATCHED


async def test_a_latch_by_another_hand_is_found_before_anything_runs(tmp_path: Path) -> None:
    """What `mmpi kill` or a quoter wrote to the disk while nobody answered counts before the next RUN."""
    async with guarding(tmp_path) as box:
        await box.command("pause")
        Latch(tmp_path / "latch.json").trip("quoter", "drawdown: 100", 5)
        await box.command("resume")
        await until(lambda: box.halt.state == LATCHED)
        assert box.halt.reason == "drawdown: 100"


async def test_a_pause_ends_a_flatten(tmp_path: Path) -> None:
    """Paused while it sells, nothing more is sold, and the proof is a new one."""
    async with guarding(tmp_path) as box, box.quoter(os.getpid()):
        await until(lambda: box.halt.state == RUN and box.guardian.watch.alive)
        flatten = asyncio.create_task(box.command("flatten"))
        await until(lambda: box.halt.state == REDUCE, 3)
        assert box.control.status()["verified_zero"] is False
        assert (await box.command("pause", REMOTE))["verified"] is True
        assert "error" in await flatten
        assert box.halt.state == PAUSED


async def test_a_pause_holds_though_looks_fail(tmp_path: Path) -> None:
    """A guardian whose looks raise can still be told to pause."""
    panel = FakePanel()
    async with guarding(tmp_path, panel=panel) as box:
        panel.broken = RuntimeError("bug")
        await box.command("pause")
        assert box.halt.state == PAUSED


async def test_arming_ends_a_flattens_pause_and_no_other(tmp_path: Path) -> None:
    """Who arms by hand has seen that it is flat; a pause set by a person stays, and is the reason that is shown."""
    async with guarding(tmp_path, held=Held(tmp_path / "held.json")) as box:
        box.guardian.hold("flattened", "me")
        await box.command("kill")
        assert (await box.command("arm"))["armed"] is True
        await until(lambda: box.halt.state == RUN)
        await box.command("pause")
        await box.command("kill")
        await box.command("arm")
        assert (box.halt.state, box.halt.reason) == (PAUSED, "by_hand")
        await asyncio.sleep(0.03)
        assert box.control.status()["causes"] == ["by_hand"]


# This boot --------------------------------------------------------------------------------------------------------


async def test_a_verdict_on_this_boot_is_kept_and_shown(tmp_path: Path) -> None:
    """Hands say whether the boot is healthy, as often as they like: it is kept in the disk's thread, changes the sign,
    and neither pauses nor lets anything go on."""
    kept: list[tuple[bool, str, str]] = []
    panel = FakePanel()

    def judge(healthy: bool, why: str) -> None:
        kept.append((healthy, why, threading.current_thread().name))

    async with guarding(tmp_path, panel=panel) as box:
        box.control = Control(box.guardian, has_button=False, judge=judge)
        assert await box.command("booted", healthy=False, why="no quoter is running") == {"final": True, "booted": True}
        await until(lambda: panel.sign == "unhealthy")
        assert box.halt.state == RUN
        await box.command("booted", healthy=True, why="quoting")
        await until(lambda: panel.sign == "paused")
    assert [each[:2] for each in kept] == [(False, "no quoter is running"), (True, "quoting")]
    assert all(name.startswith("latch") for *_, name in kept)


@pytest.mark.parametrize("more", [{}, {"remote": True}])
async def test_remote_does_not_judge_this_boot(tmp_path: Path, more: dict[str, bool]) -> None:
    """Whether the machine came up well is for hands to say, whatever is allowed from afar."""
    settings = msgspec.structs.replace(SETTINGS, allow_remote_arm=True)
    kept: list[bool] = []
    async with guarding(tmp_path, settings=settings) as box:
        box.control = Control(box.guardian, has_button=False, judge=lambda healthy, _: kept.append(healthy))
        answer = await box.command("booted", HANDS if more else REMOTE, healthy=False, why="because", **more)
        assert "for hands at the box" in answer["error"]
        assert (kept, box.guardian.well) == ([], True)


@pytest.mark.parametrize(
    "wrong",
    [{}, {"healthy": True}, {"healthy": "yes", "why": ""}, {"healthy": 1, "why": ""}, {"healthy": True, "why": 3}],
)
async def test_a_verdict_that_is_none(tmp_path: Path, wrong: dict[str, object]) -> None:
    """What is not true or false, with a text, is refused with what is allowed, and nothing is kept."""
    kept: list[bool] = []
    async with guarding(tmp_path) as box:
        box.control = Control(box.guardian, has_button=False, judge=lambda healthy, _: kept.append(healthy))
        answer = await box.command("booted", **wrong)
        assert answer["error"] == "allowed: healthy, true or false, and why, a text"
        assert (kept, box.guardian.well) == ([], True)


async def test_a_verdict_that_the_disk_does_not_take_is_shown_all_the_same(tmp_path: Path) -> None:
    """The answer says that it is not kept; the lamps show it."""

    def full(*_: object) -> None:
        raise DeviceError("boot.json: the verdict on this boot was not kept: No space left on device")

    async with guarding(tmp_path) as box:
        box.control = Control(box.guardian, has_button=False, judge=full)
        assert "not kept" in (await box.command("booted", healthy=False, why="no quoter"))["error"]
        assert box.guardian.well is False


async def test_a_wrong_set_up_keeps_from_arming_and_shows(tmp_path: Path) -> None:
    """On a new card the lamps and the refusal name the set-up folder; once it is right the box is armed by hand."""
    panel, sense = FakePanel(), FakeSense(setup="wifi.toml: ssid: missing")
    async with guarding(tmp_path, armed=False, panel=panel, senses=(sense,)) as box:
        await until(lambda: panel.sign == "setup")
        assert "setup: wifi.toml: ssid: missing" in (await box.command("arm"))["error"]
        await box.command("kill", reason="all the same")
        await until(lambda: panel.sign == "latched")
        sense.causes = {}
        await until(lambda: not box.guardian.found)
        assert (await box.command("arm"))["armed"] is True
        sense.causes = {"setup": "quoter.toml: broken"}
        await until(lambda: panel.sign == "setup")
        assert (box.halt.state, box.control.status()["causes"]) == (PAUSED, ["setup"])
