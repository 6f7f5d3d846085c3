"""Standing: every reason that nothing may be placed, the gravest first, and that none goes away by itself."""

import itertools
from collections.abc import Callable

import msgspec
import pytest
from engine_builders import VENUE, A, B, Bench, cancels, entries, schedules
from hypothesis import given
from hypothesis import strategies as st

from mmpi.actions import RequestLatch
from mmpi.events import ClockTrust, ExecType, Flatten, Halted
from mmpi.standing import Standing, StandingState

NOW = 1
OFF = "the clock is 90.0 s ahead of the venue's"


def sound() -> Standing:
    """Return one that is connected and reconciled."""
    made = Standing()
    made.on_connected()
    made.reconciled = True
    return made


def stop(standing: Standing) -> None:
    standing.stop = "asked"


def halt(standing: Standing) -> None:
    standing.on_halted(Halted(NOW, True, "button"))


def fault(standing: Standing) -> None:
    standing.fault = "agent unknown"


def clock(standing: Standing) -> None:
    standing.on_clock(ClockTrust(NOW, False, OFF))


CAUSES: list[tuple[str, Callable[[Standing], None], str, str]] = [
    ("stopping", stop, "", ""),
    ("latched: button", halt, "", ""),
    ("limit: drawdown", lambda _: None, "drawdown", ""),
    ("venue: agent unknown", fault, "", ""),
    (f"clock: {OFF}", clock, "", ""),
    ("connecting", Standing.on_disconnected, "", ""),
    ("reconciling", Standing.on_connected, "", ""),
    ("the switch", lambda _: None, "", "the switch"),
]
"""What is shown, how it comes about, the breach and what else is waited for; gravest first."""


def test_nothing_in_the_way_is_no_reason() -> None:
    """Connected, reconciled, no breach, nothing to wait for: quoting."""
    assert (sound().why("", ""), sound().may_trade("")) == ("", True)


@pytest.mark.parametrize(("shown", "cause", "breach", "waits"), CAUSES)
def test_each_cause_alone_blocks(shown: str, cause: Callable[[Standing], None], breach: str, waits: str) -> None:
    """Each is named, in words that say which it is."""
    standing = sound()
    cause(standing)
    assert standing.why(breach, waits) == shown


def test_the_gravest_is_named() -> None:
    """Of two causes the first of the list is shown, whichever came first."""
    for (shown, first, breach, waits), (_, second, other_breach, other_waits) in itertools.combinations(CAUSES, 2):
        if second is Standing.on_connected and shown == "connecting":
            continue
        for causes in ((first, second), (second, first)):
            standing = sound()
            for cause in causes:
                cause(standing)
            assert standing.why(breach or other_breach, waits or other_waits) == shown


@pytest.mark.parametrize(("shown", "cause", "breach", "waits"), CAUSES)
def test_orders_are_wanted_unless_what_lasts_forbids_them(
    shown: str, cause: Callable[[Standing], None], breach: str, waits: str
) -> None:
    """I5: the switch is set while we reconcile and wait for it, and not for an account that may not trade."""
    standing = sound()
    cause(standing)
    assert standing.why(breach, waits) == shown
    assert standing.may_trade(breach) is (shown in ("reconciling", "the switch"))


def test_a_pause_is_told_from_a_latch() -> None:
    """Only the latch needs hands, so the two are shown apart; a halt without words is one."""
    standing = sound()
    standing.on_halted(Halted(NOW, False, "network"))
    assert standing.why("", "") == "paused: network"
    standing.on_halted(Halted(NOW, True, ""))
    assert standing.why("", "") == "latched: halted"


def test_flattening_is_a_halt_of_its_own() -> None:
    """It forbids quoting, lasts until the word says something else, and leaves a latch to be lifted by a person."""
    standing = sound()
    standing.on_halted(Halted(NOW, True, "button"))
    standing.on_flatten(Flatten(NOW, "by hand"))
    assert (standing.why("drawdown", ""), standing.may_trade("")) == ("flattening: by hand", False)
    assert (standing.latched, standing.reconciled) == (True, False)
    standing.on_halted(Halted(NOW, False, "flattened"))
    assert (standing.why("", ""), standing.flatten) == ("paused: flattened", False)
    standing.on_flatten(Flatten(NOW, ""))
    assert standing.why("", "") == "flattening: flatten"
    assert standing.on_resumed() is True
    assert (standing.flatten, standing.halt) == (False, "")


@pytest.mark.parametrize(
    ("cause", "shown"),
    [(stop, "stopping"), (fault, "venue: agent unknown"), (clock, f"clock: {OFF}"),
     (Standing.on_disconnected, "connecting"), (Standing.on_connected, "reconciling")],
)  # fmt: skip
def test_what_holds_up_even_what_reduces(cause: Callable[[Standing], None], shown: str) -> None:
    """A stop, a venue that refuses, a clock, no connection, no picture of the account; the first two for good."""
    standing = sound()
    standing.on_flatten(Flatten(NOW, "by hand"))
    standing.reconciled = True
    assert (standing.holds_up(), standing.is_ending) == ("", False)
    cause(standing)
    assert (standing.holds_up(), standing.is_ending) == (shown, cause in (stop, fault))


@pytest.mark.parametrize(
    ("halts", "rearmed"), [([], False), ([False], False), ([True], True), ([True, False], True), ([False, True], True)]
)
def test_only_a_latch_lifted_is_an_arming(halts: list[bool], rearmed: bool) -> None:
    """A person armed if a latch was among what is over now, whatever pauses came between; and it counts once."""
    standing = sound()
    for latched in halts:
        standing.on_halted(Halted(NOW, latched, "x"))
    assert standing.on_resumed() is rearmed
    assert standing.on_resumed() is False
    assert (standing.halt, standing.latched) == ("", False)


def test_a_new_connection_and_a_resume_reconcile_first() -> None:
    """I13: what was known of the account is old."""
    for change in (Standing.on_connected, Standing.on_resumed, Standing.on_disconnected, halt):
        standing = sound()
        change(standing)
        assert not standing.reconciled


def test_a_clock_trusted_again_clears_its_own_reason_alone() -> None:
    """I8: nothing else is forgiven, and a distrust without words is one."""
    standing = sound()
    standing.on_halted(Halted(NOW, False, "network"))
    standing.on_clock(ClockTrust(NOW, False))
    assert standing.clock
    standing.on_clock(ClockTrust(NOW, True, "ignored"))
    assert (standing.clock, standing.why("", "")) == ("", "paused: network")


@given(
    st.lists(st.sampled_from(["a", "", "b"]), min_size=4, max_size=4), st.lists(st.booleans(), min_size=6, max_size=6)
)
def test_it_comes_back_from_a_checkpoint(texts: list[str], flags: list[bool]) -> None:
    """I10: every state is restored, and says the same."""
    made, again = Standing(), Standing()
    made.halt, made.stop, made.fault, made.clock = texts
    made.connected, made.reconciled, made.latched, made.stopped = flags[:4]
    if flags[4]:
        made.on_halted(Halted(NOW, flags[5], "x"))
    again.restore(msgspec.json.decode(msgspec.json.encode(made.checkpoint()), type=StandingState))
    assert again.checkpoint() == made.checkpoint()
    assert again.why("", "") == made.why("", "")
    assert again.on_resumed() is made.on_resumed()


# At the engine: the clock -----------------------------------------------------------------------------------------


def test_an_untrusted_clock_pulls_and_blocks() -> None:
    """I8: cancels go out, nothing is placed, the reason is shown; trusted again it quotes, all else being there."""
    bench = Bench((A, B), upkeep=VENUE).start("A", "B")
    actions = bench.clock(OFF)
    assert (len(cancels(actions)), entries(actions), bench.engine.blocked) == (8, [], f"clock: {OFF}")
    cleared = bench.acknowledge()
    assert (schedules(cleared), entries(cleared)) == ([0], [])
    bench.switch(until=0)
    assert entries(bench.after(2).book()) == []
    bench.book(name="B")
    assert entries(bench.clock()) == []
    assert bench.engine.blocked == "dead-man switch: not set yet"
    assert len(entries(bench.switch())) == 8


@pytest.mark.parametrize("order", list(itertools.permutations(["clock", "book", "reconciled", "switch"])))
def test_quotes_return_with_the_last_of_what_was_missing(order: tuple[str, ...]) -> None:
    """I5, I8, I13: after a cut and with a clock that was off, four things must come, in any order; then it quotes."""
    bench = Bench(upkeep=VENUE).start()
    bench.clock(OFF)
    bench.acknowledge()
    bench.disconnect()
    assert entries(bench.after(10).connect()) == []
    give = {"clock": bench.clock, "book": bench.book, "reconciled": bench.confirm, "switch": bench.switch}
    for what in order[:-1]:
        assert entries(give[what]()) == []
    bench.after(1)  # The shortest pause after a pull.
    assert len(entries(give[order[-1]]())) == 4


# At the engine: faults --------------------------------------------------------------------------------------------


def test_a_fault_of_the_account_latches_once_and_ends_all_quoting() -> None:
    """What only a person can mend: one request for the latch, everything cancelled, and no event brings quotes back."""
    bench = Bench((A, B), upkeep=VENUE).start("A", "B")
    actions = bench.fault("no such agent")
    assert actions[0] == RequestLatch("venue: no such agent")
    assert (len(cancels(actions)), entries(actions)) == (8, [])
    assert bench.engine.blocked == "venue: no such agent"
    assert bench.fault("no such agent") == bench.fault("something else") == []
    bench.acknowledge()
    bench.halt("venue")
    bench.resume()
    bench.confirm()
    bench.switch()
    assert entries(bench.after(2).book()) == []
    assert bench.engine.blocked == "venue: no such agent"


def test_a_fault_heard_while_disconnected_still_latches() -> None:
    """The request goes to the guardian, not to the venue."""
    bench = Bench(upkeep=VENUE).start()
    bench.disconnect()
    assert bench.fault() == [RequestLatch("venue: no such agent")]


def test_a_fault_of_one_instrument_ends_its_desk_alone() -> None:
    """A delisted market: its orders go, no latch, the other desk is quoted on, and the switch is kept up."""
    bench = Bench((A, B), upkeep=VENUE).start("A", "B")
    actions = bench.fault("delisted", "B")
    assert ({each.instrument for each in cancels(actions)}, len(actions)) == ({"B"}, 4)
    bench.acknowledge()
    assert (bench.engine.desks["B"].reason, bench.engine.quoting) == ("venue: delisted", True)
    later = bench.pass_time(6)
    moved = bench.after(1).book(1009, 1011)
    assert {each.instrument for each in entries([*later, *moved])} == {"A"}
    assert bench.orders("B") == []
    assert len(schedules(later)) == 3


def test_a_fault_of_a_market_that_is_not_ours_is_nothing() -> None:
    """A coin that no desk quotes."""
    bench = Bench(upkeep=VENUE).start()
    assert bench.fault("delisted", "UNKNOWN") == []
    assert bench.engine.quoting


def test_an_order_of_a_dead_desk_is_cancelled_when_it_shows() -> None:
    """In flight when the fault came: withdrawn with the venue's first word on it."""
    bench = Bench(upkeep=VENUE)
    bench.quote()
    assert bench.fault("delisted", "A") == []
    for order in bench.orders():
        assert [each.cl_ord_id for each in cancels(bench.tell(order.cl_ord_id, ExecType.NEW))] == [order.cl_ord_id]
