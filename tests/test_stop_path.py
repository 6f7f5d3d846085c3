"""The stop path on real processes: practice server with 80 ms latency, guardian and quoter, each ended in every way.

One box serves the whole file, its quoter restless (orders are always in flight) and blockable. MMPI_KILL_ROUNDS rounds
of each way to press are run (default 2: the file takes about 150 s); `python -m tests.kill_campaign` runs fifty.
"""

import json
import os
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kill_campaign import MODES, VERIFIED_MS, Round, kill_round, replays, same_position, silent_round
from stack import FREEZE, KILL, RESTLESS, THAW, OrderWatch, SlowWay, Stack, latch_file, rss_mb

from mmpi.device.latch import Latch

pytestmark = pytest.mark.slow

ROUNDS = int(os.environ.get("MMPI_KILL_ROUNDS", "2"))
FEW = (ROUNDS + 1) // 2
NO_GUARDIAN_MS = 1500.0
"""A quoter's patience with a guardian that gives no beat is 1 s; then it must notice and pull."""


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Return a box that was brought to quoting once; tests put it back there by `quoting`."""
    with Stack(tmp_path_factory.mktemp("box"), more=RESTLESS, blockable=True) as stack:
        stack.start()
        yield stack


@pytest.fixture
def quoting(box: Stack) -> Stack:
    """Return the box, quoting, whatever the test before has left."""
    if not box.server.runs:
        box.start_server()
    if not box.guardian.runs:
        box.start_guardian()
    box.arm()
    if not box.quoter.runs:
        box.start_quoter()
    box.wait_quoting()
    return box


@pytest.fixture
def chance() -> random.Random:
    """Return chance that differs from run to run; pytest shows the seed with a failure."""
    seed = time.time_ns()
    print(f"seed {seed}")
    return random.Random(seed)


def good(now: Round) -> None:
    """Assert that a round was as it must be."""
    print(now)
    assert now.live > 0, "it shows nothing unless orders were live"
    assert not now.failures


def together(*calls: Callable[[], Any]) -> list[Any]:
    """Return what the calls return, all begun at once."""
    answers: list[Any] = [None] * len(calls)

    def run(number: int) -> None:
        answers[number] = calls[number]()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


# The button -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "silent"])
def test_the_button_ends_every_order_in_time(quoting: Stack, chance: random.Random, mode: str) -> None:
    """Pressed with the quoter healthy, frozen, killed or blocked: zero, verified, latched; armed, it quotes again."""
    for number in range(ROUNDS):
        good(kill_round(quoting, mode, chance, by_command=number == ROUNDS - 1))


def test_silence_pulls_everything_and_ends_by_itself(quoting: Stack, chance: random.Random) -> None:
    """A frozen quoter's orders are gone in 1.5 s and two round trips without any press; thawed, it quotes again."""
    for _ in range(ROUNDS):
        good(silent_round(quoting, chance))


def test_presses_at_once_and_during_a_stop_are_all_answered(quoting: Stack) -> None:
    """Two presses at once and one during the stop: each is told of the verified zero in time, the latch is one."""
    quoting.quoter.send(FREEZE)

    def later() -> Any:
        time.sleep(1.0)
        return quoting.press("third")

    presses = together(lambda: quoting.press("first"), lambda: quoting.press("second"), later)
    assert all(press.answer["verified"] for press in presses)
    bound = VERIFIED_MS + quoting.round_trips_ms
    assert all((press.verified - press.sent) / 1e6 <= bound for press in presses)
    assert quoting.orders() == []
    assert quoting.quoter.wait(5) == -KILL
    stored = json.loads((quoting.state / "latch.json").read_bytes())
    assert stored["state"] == "latched" and stored["reason"] in ("first", "second")


def test_a_press_during_a_pause_kills_a_frozen_quoter(quoting: Stack) -> None:
    """A press while the guardian already stops a silent quoter still kills it and verifies in time."""
    quoting.quoter.send(FREEZE)
    quoting.wait(lambda: quoting.status()["state"] == "paused", 3, "the pause")
    time.sleep(0.4)
    press = quoting.press()
    assert (press.verified - press.sent) / 1e6 <= VERIFIED_MS + quoting.round_trips_ms
    assert quoting.quoter.wait(1) == -KILL
    assert quoting.orders() == []


def test_arming_during_a_stop_waits_for_its_end(quoting: Stack) -> None:
    """Arming while a stop runs arms nothing before zero was verified."""

    def arm() -> tuple[dict[str, Any], int]:
        time.sleep(0.3)
        return quoting.ask("arm"), time.monotonic_ns()

    press, (armed, at) = together(quoting.press, arm)
    assert press.answer["verified"] and armed["armed"]
    assert at - press.sent > 2e9, "two seconds are what an order in flight may need to expire"
    quoting.wait_quoting()


def test_a_press_while_arming_wins(quoting: Stack, chance: random.Random) -> None:
    """A press within a few milliseconds of an arming ends latched, on disk and in the halt word."""
    quoting.press()
    for _ in range(ROUNDS):
        pause = chance.uniform(0, 0.006)

        def pressed(pause: float = pause) -> Any:
            time.sleep(pause)
            return quoting.press("while arming"), time.monotonic_ns()

        armed, (press, _) = together(lambda: (quoting.ask("arm"), time.monotonic_ns()), pressed)
        status = quoting.status()
        assert status["latch"] == latch_file(quoting)
        early = armed[1] < press.sent + 1.9e9
        # Asked for first, arming is void, however long it waited for the press's own stop; asked for later, it arms.
        void = early or "pressed again" in armed[0].get("error", "")
        assert status["latch"] == ("latched" if void else "armed"), (armed, press)
        assert press.answer["verified"]
        if not void:
            quoting.press()


def test_arming_twice_at_once_leaves_one_truth(quoting: Stack) -> None:
    """Two people who arm at the same moment both get it armed: on disk, in the word, and it quotes."""
    for _ in range(FEW):
        quoting.press()
        answers = together(*[lambda: quoting.ask("arm")] * 3)
        assert all(answer.get("armed") for answer in answers), answers
        assert latch_file(quoting) == "armed"
        assert quoting.status()["latch"] == "armed"
    quoting.wait_quoting()


def test_orders_that_arrive_after_their_sender_died_are_awaited(quoting: Stack) -> None:
    """On a network that delivers 1 s late, orders of a dead quoter land during the stop, and none after it."""
    quoting.quoter.end()
    with SlowWay(quoting.port, 1.0) as way:
        # An amend cannot land late: the order that it replaces is cancelled by then.
        quoter = quoting.start_quoter(port=way.port, MMPI_VENUE__AMEND="false")
        quoting.wait_quoting(30)
        with OrderWatch(quoting.port) as watch:
            sent = way.orders
            quoting.wait(lambda: way.orders > sent, 10, "orders on their way")
            quoter.send(KILL)
            press = quoting.press()
            time.sleep(1.5)
    assert watch.last_live(press.sent) > press.sent + 0.5e9, "it shows nothing unless orders landed late"
    assert watch.last_live(press.verified) == 0
    assert (press.verified - press.sent) / 1e6 <= VERIFIED_MS + quoting.round_trips_ms


def test_a_latch_that_the_guardian_missed_can_be_armed(quoting: Stack) -> None:
    """Latched on disk by another hand while the guardian did not answer: `mmpi arm` arms it, and it quotes again."""
    Latch(quoting.state / "latch.json").trip("another hand", "missed", time.time_ns())
    assert quoting.mmpi("run").returncode == 3
    armed = quoting.mmpi("arm")
    assert armed.returncode == 0, armed.stderr
    assert latch_file(quoting) == quoting.status()["latch"] == "armed"
    quoting.wait_quoting()


# Starting and ending --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frozen", [False, True])
def test_a_press_while_a_quoter_starts_places_nothing(quoting: Stack, chance: random.Random, frozen: bool) -> None:
    """Pressed at any moment of a start, frozen in it or not: nothing is live after the verified zero, nor thawed."""
    for _ in range(FEW):
        quoting.arm()
        quoting.quoter.end()
        quoting.wait(lambda: quoting.status()["state"] == "paused", 5, "the death to be seen")
        quoter = quoting.start_quoter()
        with OrderWatch(quoting.port) as watch:
            time.sleep(chance.uniform(0.0, 1.2))
            if frozen:
                quoter.send(FREEZE)
            press = quoting.press()
            if quoter.runs and frozen:
                quoter.send(THAW)
            time.sleep(1.5)
        assert watch.last_live(press.verified) == 0
        if not quoter.runs:
            assert quoter.wait(0) in (3, -KILL)
        quoter.end()


def test_a_freeze_while_a_quoter_starts_is_survived(quoting: Stack, chance: random.Random) -> None:
    """Frozen at any moment of its start for longer than every patience, a quoter still comes to quote as it should."""
    for _ in range(FEW):
        quoting.quoter.end()
        quoter = quoting.start_quoter()
        time.sleep(chance.uniform(0.0, 1.2))
        quoter.send(FREEZE)
        time.sleep(chance.uniform(1.0, 3.0))
        quoter.send(THAW)
        quoting.wait_quoting()
        quoting.wait(lambda: same_position(quoting), 5, "the venue's position")


def test_sigterm_leaves_nothing_behind(quoting: Stack) -> None:
    """Asked to end, a quoter exits 0 within 5 s with no order left, and none appears after that."""
    with OrderWatch(quoting.port) as watch:
        time.sleep(0.2)
        asked = quoting.quoter.send(15)
        assert quoting.quoter.wait(5) == 0
        ended = time.monotonic_ns()
        time.sleep(2.5)
    assert watch.last_live(ended) == 0
    assert ended - asked < 5e9
    quoting.wait(lambda: quoting.status()["verified_zero"], 5, "the guardian's own verification")


# The others' deaths ---------------------------------------------------------------------------------------------------


def test_without_a_guardian_nothing_is_quoted_and_the_button_still_latches(quoting: Stack) -> None:
    """The guardian SIGKILLed: all is pulled, status says why, `mmpi kill` latches by its own hand."""
    with OrderWatch(quoting.port) as watch:
        time.sleep(0.2)
        killed = quoting.guardian.send(KILL)
        time.sleep(3.0)
    assert (watch.last_live(killed) - killed) / 1e6 <= NO_GUARDIAN_MS + quoting.round_trips_ms
    shown = json.loads(quoting.mmpi("status", "--json").stdout)
    assert shown["guardian"] is None and "no guardian" in shown["reason"]
    pressed = quoting.mmpi("kill")
    assert pressed.returncode == 4 and "obeyed and cancelled; it knows of 0 live orders" in pressed.stderr
    assert "Nobody verified" in pressed.stderr
    assert latch_file(quoting) == "latched"
    assert quoting.quoter.runs
    quoting.start_guardian()
    assert quoting.status()["latch"] == "latched"


def test_a_press_just_after_the_guardian_died_leaves_nothing(quoting: Stack) -> None:
    """The last process that can cancel is asked to, not killed: zero at the venue though no guardian is there."""
    with OrderWatch(quoting.port) as watch:
        quoting.guardian.send(KILL)
        pressed = quoting.mmpi("kill")
        ended = time.monotonic_ns()
        time.sleep(1.0)
    assert pressed.returncode == 4 and "obeyed and cancelled" in pressed.stderr
    assert watch.last_live(ended) <= ended + round(quoting.round_trips_ms * 1e6)
    assert quoting.quoter.runs and latch_file(quoting) == "latched"


def test_a_press_without_a_guardian_kills_a_frozen_quoter(quoting: Stack) -> None:
    """A quoter that does not obey is killed by the command itself, which says so; the next guardian cancels."""
    quoting.guardian.send(KILL)
    quoting.quoter.send(FREEZE)
    pressed = quoting.mmpi("kill")
    assert pressed.returncode == 4 and "did not obey within 0.5 s and was killed" in pressed.stderr
    assert quoting.quoter.wait(5) == -KILL
    quoting.start_guardian()
    quoting.wait(lambda: quoting.status()["verified_zero"], 10, "the verified zero")
    assert quoting.orders() == []


def test_a_new_guardian_lets_an_armed_quoter_go_on(quoting: Stack) -> None:
    """The guardian killed and started again: the same quoter quotes again, after a verified zero."""
    quoter = quoting.quoter
    quoting.guardian.send(KILL)
    time.sleep(0.3)
    quoting.start_guardian()
    quoting.wait(lambda: quoting.status()["state"] == "run", 10, "the guardian to let it run")
    assert quoting.status()["last_stop"]["reason"] == "guardian_starting"
    quoting.wait_quoting()
    assert quoting.quoter is quoter and quoter.runs
    quoting.wait(lambda: same_position(quoting), 5, "the venue's position")


def test_a_frozen_guardian_stops_quoting_and_cannot_swallow_a_press(quoting: Stack) -> None:
    """The guardian SIGSTOPped: all is pulled; a press latches without it; thawed, it has latched too."""
    with OrderWatch(quoting.port) as watch:
        time.sleep(0.2)
        frozen = quoting.guardian.send(FREEZE)
        time.sleep(2.0)
        assert (watch.last_live(frozen) - frozen) / 1e6 <= NO_GUARDIAN_MS + quoting.round_trips_ms
        pressed = quoting.mmpi("kill", timeout=10)
        quoting.guardian.send(THAW)
        assert pressed.returncode == 4 and "obeyed and cancelled" in pressed.stderr
        quoting.wait(lambda: quoting.status()["verified_zero"], 5, "the verified zero")
    assert quoting.status()["latch"] == latch_file(quoting) == "latched"


@pytest.mark.parametrize("number", [KILL, 15])
def test_a_restarted_venue_is_quoted_again(quoting: Stack, number: int) -> None:
    """The server killed or ended, and started again: guardian and quoter reconnect, reconcile, and quoting resumes."""
    quoter, guardian = quoting.quoter, quoting.guardian
    quoting.server.send(number)
    quoting.server.wait(10)
    time.sleep(0.5)
    quoting.start_server()
    quoting.wait_quoting(30)
    assert quoter.runs and guardian.runs
    assert quoting.status()["latch"] == "armed"
    quoting.wait(lambda: same_position(quoting), 10, "the venue's position")


# What is left of it all -----------------------------------------------------------------------------------------------


def test_memory_stays_in_its_bounds(quoting: Stack) -> None:
    """While trading the quoter needs at most 64 MB, and the guardian 45 MB."""
    quoter, guardian = rss_mb(quoting.quoter.pid), rss_mb(quoting.guardian.pid)
    print(f"quoter {quoter:.1f} MB, guardian {guardian:.1f} MB")
    assert quoter <= 64
    assert guardian <= 45


def test_a_quoter_handles_its_first_event_within_a_second(quoting: Stack) -> None:
    """From exec to the first beat, which follows the first event, at most 1 s; the better of two warm starts."""
    taken = []
    for _ in range(2):
        quoting.quoter.end()
        quoter = quoting.start_quoter(blockable=False)
        quoting.wait(lambda pid=quoter.pid: _first_beat(quoting, pid), 10, "the first beat")
        taken.append((_first_beat(quoting, quoter.pid) - quoter.started) / 1e9)
        quoting.wait_quoting()
    print("first event after", [f"{seconds:.2f} s" for seconds in taken])
    assert min(taken) <= 1.0


def _first_beat(stack: Stack, pid: int) -> int:
    board = stack.board()
    return board.beat_ns if board is not None and board.pid == pid else 0


def test_everything_that_happened_replays(quoting: Stack) -> None:
    """The journal of all these runs verifies, torn tails reported, and every action is recomputed from the events."""
    quoting.quoter.send(15)
    assert quoting.quoter.wait(10) == 0
    assert replays(quoting) == []
    shown = json.loads(quoting.mmpi("replay", "--verify", "--json").stdout)
    assert shown["exact"] and shown["actions"] > 0
    print({key: shown[key] for key in ("events", "actions", "restarts", "checkpoints", "torn")})


def test_a_flipped_byte_is_located(quoting: Stack, chance: random.Random, tmp_path: Path) -> None:
    """One flipped byte of one event: `journal verify` and `replay --verify` exit 1 and name its segment and offset."""
    time.sleep(1.0)
    quoting.quoter.send(15)
    assert quoting.quoter.wait(10) == 0
    copy = tmp_path / "journal"
    shutil.copytree(quoting.runtime / "journal", copy)
    lines = [json.loads(line) for line in quoting.mmpi("journal", "cat", str(copy)).stdout.splitlines()]
    record = chance.choice([line for line in lines if line.get("kind") == "event"])
    segment = copy / record["segment"]
    damaged = bytearray(segment.read_bytes())
    damaged[record["offset"] + 9] ^= 1 << chance.randrange(8)
    segment.write_bytes(damaged)
    for words in (("journal", "verify"), ("replay", "--verify")):
        done = quoting.mmpi(*words, str(copy))
        assert done.returncode == 1, done
        assert f"offset {record['offset']} of {record['segment']}" in done.stderr
