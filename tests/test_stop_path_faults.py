"""The stop path on real processes over TLS, with everything around it failing; and at random moments.

MMPI_INTERLEAVINGS presses are made at random moments (default 7: each kind once); MMPI_INTERLEAVINGS_SEED repeats those
of a failure.
"""

import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fault_journal import items
from kill_campaign import kill_round, replays
from stack import FREEZE, KILL, RESTLESS, THAW, Stack, latch_file, rss_mb
from troubles import (
    FIRST_ZERO_MS,
    NO_TROUBLE,
    RECONNECT_MS,
    TROUBLES,
    VERIFIED_MS,
    WEIGHT_MS,
    LineWatch,
    Names,
    Trouble,
    TroubledStack,
    can_unshare,
)

from mmpi.actions import AmendOrder, Approved, NewOrder
from mmpi.commands.client import call
from mmpi.errors import RemoteError
from mmpi.events import Halted, Resumed

pytestmark = pytest.mark.slow

ROUNDS = int(os.environ.get("MMPI_INTERLEAVINGS", "7"))
SEED = int(os.environ.get("MMPI_INTERLEAVINGS_SEED", "0")) or time.time_ns() % 10**9
EXPIRY_MS = 2000
"""What was signed before the press may land for so long (venue.expires_after_ms)."""
NAMES = pytest.mark.skipif(not can_unshare(), reason="mount namespaces are root's: DNS cannot be taken away here")


def box_of(folder: Path, trouble: Trouble = NO_TROUBLE, **more: str) -> TroubledStack:
    """Return a box over TLS, its quoter restless."""
    return TroubledStack(folder, trouble, tls=True, latency_ms=60.0, more=RESTLESS | more)


# Troubles -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [pytest.param(each, marks=[NAMES] if each == "dns" else []) for each in TROUBLES])
@pytest.mark.parametrize("mode", ["healthy", "frozen"])
def test_the_button_under(tmp_path: Path, name: str, mode: str) -> None:
    """A trouble begins just before the press: zero, and verified, within its bounds, and nothing alive after that."""
    with box_of(tmp_path, TROUBLES[name]) as box:
        box.start()
        now = kill_round(box, mode, random.Random(SEED), linger_s=2.5)
        print(now)
        assert now.live > 0, "it shows nothing unless orders were live"
        assert not now.failures
        assert rss_mb(box.guardian.pid) <= 45


@pytest.mark.parametrize("ahead_s", [90, 86_400])
def test_a_venue_whose_clock_leaps_ahead_is_stopped_in_time(tmp_path: Path, ahead_s: int) -> None:
    """From the press on every cancel comes too late: refused once, then without an expiry; zero in its bounds."""
    trouble = Trouble("ahead", FIRST_ZERO_MS + 500, VERIFIED_MS + 1000, (f"clock_skew:s={ahead_s}",))
    with box_of(tmp_path, trouble) as box:
        # Alone: neither the venue's dead-man switch nor the quoter's own cancels must help.
        box.start_server("--volume-gate", "1000000")
        box.start_guardian()
        box.arm()
        box.start_quoter()
        box.wait_quoting()
        box.quoter.send(FREEZE)
        box.begin_trouble()
        with LineWatch(box) as watch:
            press = box.press()
            time.sleep(1.0)
    assert watch.samples[0][1] and watch.last_live(press.verified) == 0
    assert (watch.first_zero(press.sent) - press.sent) / 1e6 <= trouble.zero_ms + box.round_trips_ms
    assert (press.verified - press.sent) / 1e6 <= trouble.verified_ms + box.round_trips_ms


def test_a_venue_whose_clock_goes_back_is_waited_for(tmp_path: Path) -> None:
    """Back by 4 s while orders are late by 4 s: they land after their 2 s, so zero is verified only after all that."""
    trouble = Trouble("back", 0, 0, ("clock_skew:s=-4,at=0,for=30", "late:p=1,ms=4000,until=0.4"))
    with box_of(tmp_path, trouble, MMPI_VENUE__AMEND="false") as box:
        box.start()
        with LineWatch(box) as watch:
            box.begin_trouble()
            time.sleep(0.4)
            press = box.press()
            time.sleep(2.0)
    late = watch.last_live(press.sent)
    print(f"last order {(late - press.sent) / 1e6:.0f} ms, verified {(press.verified - press.sent) / 1e6:.0f} ms")
    assert late > press.sent + 2.5e9, "it shows nothing unless orders landed after their time"
    assert press.answer["verified"] and late < press.verified
    assert (press.verified - press.sent) / 1e9 < 4 + 12 + 10


def test_a_press_right_after_a_start_counts_its_weight(tmp_path: Path) -> None:
    """A guardian that counts, as it does by default, has spent most of its weight on its start: zero comes in time."""
    with box_of(tmp_path, MMPI_VENUE__WEIGHT_PER_MINUTE="1000") as box:
        box.start()
        with LineWatch(box) as watch:
            press = box.press()
            time.sleep(0.5)
    assert (watch.first_zero(press.sent) - press.sent) / 1e6 <= FIRST_ZERO_MS + box.round_trips_ms
    assert (press.verified - press.sent) / 1e6 <= VERIFIED_MS + WEIGHT_MS + box.round_trips_ms
    assert watch.last_live(press.verified) == 0


# Names ----------------------------------------------------------------------------------------------------------------


@NAMES
def test_with_dns_dead_from_the_start_a_guardian_still_stops(tmp_path: Path) -> None:
    """The name was known once; then it is not, the server is restarted, and so is the guardian: it finds the venue."""
    with box_of(tmp_path, Trouble("dns", 0, 0, dns=True)) as box:
        box.start()
        box.wait(lambda: (box.state / "addresses.json").exists(), 5, "the addresses on disk")
        assert isinstance(box.names, Names)
        box.names.unknown()
        box.guardian.send(KILL)
        box.guardian.wait(5)
        began = time.monotonic()
        box.start_guardian()
        print(f"session after {time.monotonic() - began:.1f} s without names")
        box.wait(lambda: box.status()["verified_zero"], 10, "the guardian's first zero")
        box.server.send(KILL)
        box.server.wait(5)
        box.start_server()
        box.wait(lambda: box.status()["venue_session"] and box.quoter.runs, 2 * RECONNECT_MS / 1000, "a session again")
        box.wait_quoting(40)
        press = box.press()
        assert press.answer["verified"]
        assert (press.verified - press.sent) / 1e6 <= VERIFIED_MS + box.round_trips_ms
        assert box.orders() == []


# Random moments -------------------------------------------------------------------------------------------------------


class Pressed(msgspec.Struct):
    """A press: when the guardian had accepted it (wall clock, nanoseconds), and when zero was verified (monotonic)."""

    accepted: int
    verified: int
    answer: Mapping[str, Any]


def pressed(box: Stack) -> Pressed:
    """Press, again while a guardian that begins anew does not answer, and note when each of the two answers came."""
    answers: list[tuple[int, dict[str, Any]]] = []
    end = time.monotonic() + 10
    while not answers or not answers[-1][1].get("final"):
        try:
            for answer in call(box.runtime / "guardian.sock", {"cmd": "press", "by": "test", "reason": "random"}, 40):
                answers.append((time.time_ns(), answer))
        except (OSError, RemoteError):
            assert time.monotonic() < end, f"nobody takes a press for 10 s: {box.picture()}"
            time.sleep(0.02)
    return Pressed(answers[0][0], time.monotonic_ns(), answers[-1][1])


def while_it_starts(box: TroubledStack, chance: random.Random) -> None:
    """A quoter connects, asks, reconciles, or quotes for the first time."""
    box.quoter.end()
    box.start_quoter()
    time.sleep(chance.uniform(0.0, 1.5))


def while_it_reconciles(box: TroubledStack, chance: random.Random) -> None:
    """Every connection was cut."""
    box.tell("/control/close", {})
    time.sleep(chance.uniform(0.0, 0.6))


def while_orders_are_under_way(_: TroubledStack, chance: random.Random) -> None:
    """A restless quoter always has some."""
    time.sleep(chance.uniform(0.0, 0.3))


def while_it_ends(box: TroubledStack, chance: random.Random) -> None:
    """It was told to."""
    box.quoter.send(15)
    time.sleep(chance.uniform(0.0, 0.3))


def while_it_is_frozen(box: TroubledStack, chance: random.Random) -> None:
    """It was stopped a moment ago and goes on at a random moment, before or after its patience ends."""
    box.quoter.send(FREEZE)
    time.sleep(chance.uniform(0.0, 1.2))
    thaw = threading.Timer(chance.uniform(0.0, 0.7), lambda: box.quoter.runs and box.quoter.send(THAW))
    thaw.daemon = True
    thaw.start()


def while_actions_are_late(box: TroubledStack, chance: random.Random) -> None:
    """Some of what was sent arrives up to two seconds later, and some cancels never."""
    box.set_faults(f"late:p=0.5,ms={chance.randint(200, 1990)},until=1.5", "cancel_lost:p=0.3,until=1.5")
    time.sleep(chance.uniform(0.0, 1.0))


def while_it_reloads(box: TroubledStack, chance: random.Random) -> None:
    """Guardian and quoter were told to begin anew."""

    def reload() -> None:
        try:
            box.ask("reload")
        except (OSError, RemoteError):
            return

    threading.Thread(target=reload, daemon=True).start()
    time.sleep(chance.uniform(0.0, 0.3))


MOMENTS: tuple[Callable[[TroubledStack, random.Random], None], ...] = (
    while_it_starts,
    while_it_reconciles,
    while_orders_are_under_way,
    while_it_ends,
    while_it_is_frozen,
    while_actions_are_late,
    while_it_reloads,
)


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TroubledStack]:
    """Return a box for all random moments; the whole journal is kept."""
    with box_of(tmp_path_factory.mktemp("box"), MMPI_JOURNAL__MAX_BYTES=str(2**30)) as made:
        made.start()
        yield made


def test_nothing_is_placed_once_a_press_is_seen(box: TroubledStack) -> None:
    """Pressed at random moments of everything a quoter does: what lands was signed before, ends, and zero is zero."""
    print(f"MMPI_INTERLEAVINGS_SEED={SEED}")
    chance, stories = random.Random(SEED), []
    stops: list[tuple[int, int]] = []
    """From when a press was accepted to when it was armed again."""
    for number in range(ROUNDS):
        moment = MOMENTS[number % len(MOMENTS)]
        box.arm()
        if not box.quoter.runs:
            box.start_quoter()
        box.wait_quoting(40)
        with LineWatch(box) as watch:
            moment(box, chance)
            press = pressed(box)
            time.sleep(chance.uniform(0.3, 2.5))
        box.set_faults()
        stories.append(f"{moment.__name__}: {press.answer}")
        assert press.answer.get("verified") is True, stories
        assert watch.last_live(press.verified) == 0, stories
        # A guardian that was told to reload may begin anew only now.
        box.wait(lambda: box.status()["latch"] == latch_file(box) == "latched", 15, f"the latch: {stories}")
        stops.append((press.accepted, time.time_ns()))
    signed = _signed(box)
    landed = 0
    for row in box.control("/control/placed"):
        for accepted, armed in stops:
            if accepted < row["time"] * 10**6 < armed:
                landed += 1
                assert row["cloid"] in signed, "I2: what the venue took is in the journal"
                assert signed[row["cloid"]] <= accepted, f"{row} was signed after the press of {accepted}"
                assert row["time"] - accepted // 10**6 <= EXPIRY_MS, f"{row} landed after its time"
    print(f"{landed} orders landed after {len(stops)} presses, all signed before; {stories}")


def test_no_action_follows_a_halt_in_the_journal(box: TroubledStack) -> None:
    """Between `Halted` and `Resumed` the quoters of all those rounds decided on no order and no amend; it replays."""
    if box.quoter.runs:
        box.quoter.send(15)
        box.quoter.wait(10)
    halts, halted, entries = 0, False, 0
    for item in items(box.runtime / "journal"):
        if isinstance(item, Halted):
            halts, halted = halts + 1, True
        elif isinstance(item, Resumed):
            halted = False
        elif isinstance(item, Approved) and isinstance(item.action, NewOrder | AmendOrder):
            entries += 1
            assert not halted, f"{item} after a halt"
    assert halts >= 1
    assert entries > 0
    assert replays(box) == []


def _signed(box: Stack) -> dict[str, int]:
    """Return when each order of all runs was approved, which is before it was signed, by its id."""
    approved = [item for item in items(box.runtime / "journal") if isinstance(item, Approved)]
    return {each.action.cl_ord_id: each.ts for each in approved if isinstance(each.action, NewOrder | AmendOrder)}
