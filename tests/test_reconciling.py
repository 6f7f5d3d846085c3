"""Reconciling: the venue is asked until it has answered, and a drift is taken over or asked about, never forgotten."""

from itertools import pairwise

import msgspec
import pytest
from engine_builders import PATIENCE, VENUE, WIDE, A, B, Bench, entries, listing
from hypothesis import given
from hypothesis import strategies as st

from mmpi.actions import Approved, RequestLatch, RequestReconcile
from mmpi.desk import Desk, DeskParams
from mmpi.governor import Governor, GovernorConfig
from mmpi.instrument import MONEY_SCALE, SECOND, SELL
from mmpi.quoting.layered import LayeredConfig
from mmpi.reconciling import Reconciling, ReconcilingState
from mmpi.risk import HARD_INVENTORY, RiskGate
from mmpi.standing import Standing

NOW = 1_700_000_000 * SECOND


class Account:
    """Two desks and what the venue says they hold."""

    def __init__(self) -> None:
        self.standing = Standing()
        self.standing.on_connected()
        self.gate = RiskGate(WIDE)
        self.governor = Governor(GovernorConfig())
        self.asking = Reconciling(self.gate, self.standing, self.governor, PATIENCE)
        self.desks = {each.name: Desk(DeskParams(each, LayeredConfig(size="1", notional="")), PATIENCE)
                      for each in (A, B)}  # fmt: skip

    def settle(self, *, unused: bool = False, **positions: int) -> bool:
        """Take the venue's positions."""
        return self.asking.settle(self.desks.values(), positions, unused)

    def held(self) -> tuple[int, int]:
        """Return what the desks hold, what is to be carried included."""
        a, b = [desk.position.lots + desk.carry for desk in self.desks.values()]
        return a, b


# Asking -----------------------------------------------------------------------------------------------------------


def test_an_answer_is_owed_until_all_is_settled() -> None:
    """Connected and not reconciled: asked again after the patience; settled: nothing is owed any more."""
    account = Account()
    assert account.asking.ask("connected", NOW) == Approved(NOW, RequestReconcile("connected"))
    assert account.asking.due() == NOW + PATIENCE
    assert account.settle()
    assert (account.standing.reconciled, account.asking.due()) == (True, 0)


@pytest.mark.parametrize("why", ["disconnected", "halted", "stopped"])
def test_nothing_is_owed_to_one_who_cannot_use_it(why: str) -> None:
    """Not connected: there is nobody to ask. Halted: a resume asks anew. Stopped: it is over."""
    account = Account()
    account.asking.ask("connected", NOW)
    if why == "disconnected":
        account.standing.on_disconnected()
    elif why == "halted":
        account.standing.halt = "button"
    else:
        account.standing.stopped = True
    assert account.asking.due() == 0


def test_the_last_question_of_a_stop_is_owed_though_all_is_reconciled() -> None:
    """I14: zero orders by the venue's own word, however often it must be asked, a halt or not."""
    account = Account()
    account.settle()
    account.standing.halt = "button"
    account.asking.asked_last = True
    account.asking.ask("stopping", NOW)
    assert account.asking.due() == NOW + PATIENCE


def test_the_engine_asks_again_by_its_own_wake() -> None:
    """No answer at all: the question is repeated at the times the engine asked to be woken at, and quotes wait."""
    bench = Bench(upkeep=VENUE)
    bench.connect()
    bench.switch()
    asked, end = [bench.now], bench.now + 3 * PATIENCE
    while bench.now < end:
        bench.now = bench.engine.wake_at
        actions = bench.timer()
        bench.switch()
        assert entries([*actions, *bench.book()]) == []
        if RequestReconcile("no answer") in actions:
            asked.append(bench.now)
    assert {later - earlier for earlier, later in pairwise(asked)} == {PATIENCE}
    assert len(asked) >= 3


# Drifts -----------------------------------------------------------------------------------------------------------


def test_what_was_held_before_the_first_order_is_taken_at_once() -> None:
    """No fill of this run can be on its way yet: no second answer is needed, and it is no drift to be counted."""
    account = Account()
    assert account.settle(unused=True, A=-30)
    assert (account.held(), account.asking.taken) == ((-30, 0), 0)
    assert account.gate.accepted == {"A": 30}


def test_a_drift_in_mid_run_needs_a_second_answer_that_repeats_it() -> None:
    """Fills on their way look like one: three different answers are three questions; the same one twice is believed."""
    account = Account()
    assert [account.settle(A=lots) for lots in (3, 5, 4)] == [False, False, False]
    assert (account.held(), account.standing.reconciled) == ((0, 0), False)
    assert account.settle(A=4)
    assert (account.held(), account.asking.taken, account.standing.reconciled) == ((4, 0), 1, True)
    assert account.gate.accepted == {}, "what comes about in mid-run may latch"


def test_a_fill_that_comes_meanwhile_explains_it() -> None:
    """The drift is gone with the fill: settled without taking anything over."""
    account = Account()
    assert not account.settle(A=-10)
    account.desks["A"].position.fill(SELL, 1000, 10, 0)
    assert account.settle(A=-10)
    assert (account.asking.taken, account.held()) == (0, (-10, 0))


def test_one_desk_in_question_holds_back_the_account() -> None:
    """The other desk's drift, repeated, is taken over all the same; settled is what both are."""
    account = Account()
    assert not account.settle(A=1, B=7)
    assert not account.settle(A=2, B=7)
    assert (account.held(), account.asking.taken) == ((0, 7), 1)
    assert account.settle(A=2, B=7)
    assert account.held() == (2, 7)


def test_an_old_drift_does_not_count_as_its_first_answer() -> None:
    """Taken over once, settled; the same difference again later is asked about twice, like any other."""
    account = Account()
    account.settle(A=4)
    assert account.settle(A=4)
    assert not account.settle(A=8)
    assert account.settle(A=8)
    assert account.asking.taken == 2


def test_a_position_that_the_venue_does_not_name_is_none() -> None:
    """Venues list what is held; what they do not list is zero, and that is a drift as well."""
    account = Account()
    account.settle(unused=True, A=5)
    assert not account.settle()
    assert account.settle()
    assert account.held() == (0, 0)


def test_a_drift_before_the_first_price_is_kept_until_there_is_one() -> None:
    """Without a mid it cannot be valued: it counts as held, and costs the first mid: no profit, no loss."""
    bench = Bench(upkeep=VENUE)
    bench.connect()
    bench.switch()
    bench.reconcile(A=-30)
    desk = bench.engine.desks["A"]
    assert (desk.carry, desk.position.lots, desk.exposure(0).position) == (-30, 0, -30)
    bench.book(1499, 1501)
    assert (desk.carry, desk.position.lots, bench.engine.equity) == (0, -30, 0)


@given(st.lists(st.tuples(st.integers(-2, 2), st.integers(-2, 2), st.booleans()), max_size=25))
def test_no_drift_is_forgotten(script: list[tuple[int, int, bool]]) -> None:
    """After any answer: either the desks hold what the venue says, or it is not settled and will be asked again."""
    account = Account()
    account.asking.ask("connected", NOW)
    for a, b, unused in script:
        settled = account.settle(unused=unused, A=a, B=b)
        assert settled is account.standing.reconciled
        assert settled is (account.held() == (a, b))
        assert settled or account.asking.due() > 0
        twin = Reconciling(account.gate, account.standing, account.governor, PATIENCE)
        twin.restore(msgspec.json.decode(msgspec.json.encode(account.asking.checkpoint()), type=ReconcilingState))
        assert twin.checkpoint() == account.asking.checkpoint()
        assert twin.due() == account.asking.due()


# At the engine ----------------------------------------------------------------------------------------------------


def test_a_drift_that_passes_the_hard_band_latches() -> None:
    """Taken over in mid-run, far beyond what orders may lead to: a wrong book, or somebody else's hand."""
    risk = msgspec.structs.replace(WIDE, max_position=100_000 * MONEY_SCALE)
    bench = Bench(upkeep=VENUE, risk=risk).start()
    bench.halt(latched=False)
    bench.acknowledge()
    bench.resume()
    bench.book()
    assert bench.reconcile(A=130)[-1] == RequestReconcile("position")
    assert RequestLatch(HARD_INVENTORY) in bench.reconcile(A=130)
    assert bench.engine.blocked == f"limit: {HARD_INVENTORY}"


def test_an_answer_of_a_connection_that_is_gone_is_nothing() -> None:
    """I13: what comes after the cut speaks of before it."""
    bench = Bench(upkeep=VENUE).start()
    known = [listing(order) for order in bench.orders()]
    bench.disconnect()
    assert bench.reconcile(known, A=5) == []
    assert (bench.engine.standing.reconciled, bench.engine.desks["A"].drift) == (False, 0)


def test_questions_about_drifts_are_few() -> None:
    """A position that the venue tells differently each time: one question an answer, and weight is charged for each."""
    bench = Bench(upkeep=VENUE).start()
    bench.halt(latched=False)
    bench.acknowledge()
    bench.resume()
    before = bench.engine.upkeep.governor.checkpoint().weight[0]
    for lots in range(1, 11):
        assert bench.reconcile(A=lots) == [RequestReconcile("position")]
    spent = before - bench.engine.upkeep.governor.checkpoint().weight[0]
    assert spent == 10 * 42 * SECOND
