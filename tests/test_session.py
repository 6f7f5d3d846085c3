"""mmpi.session: what a session has lost outlives every restart, and ends only when the session does."""

import msgspec
from engine_builders import PREFIX, WIDE, A, B, Bench, places, report
from hypothesis import given
from hypothesis import strategies as st

from mmpi.actions import RequestLatch
from mmpi.events import ExecReport, ExecType, Funding
from mmpi.instrument import BUY, MONEY_SCALE, SECOND, SELL, Instrument, make_instrument
from mmpi.orders import MAX_EXEC_IDS
from mmpi.risk import RiskConfig
from mmpi.session import FOR_EVER, NEVER, Resumption, SessionState

HOUR = 3600 * SECOND
DAY = 24 * HOUR


def limits(**more: int) -> RiskConfig:
    """Return limits that nothing touches, but these."""
    return msgspec.structs.replace(WIDE, **more)


def bench_with(risk: RiskConfig = WIDE, instruments: tuple[Instrument, ...] = (A,)) -> Bench:
    """Return a bench that is connected and has a mid of 1000 everywhere."""
    bench = Bench(instruments, risk=risk)
    bench.connect()
    bench.reconcile()
    for each in instruments:
        bench.book(name=each.name)
    return bench


def fill(bench: Bench, exec_id: str, side: int = BUY, price: int = 1000, size: int = 10, name: str = "A") -> ExecReport:
    """Have an order of nobody's filled, and return the report."""
    told = report(
        bench.now, "0xelse", ExecType.TRADE, name=name, side=1 if side > 0 else -1, price=price, size=size,
        exec_id=exec_id, order_id="9",
    )  # fmt: skip
    bench.feed(told)
    return told


def state_of(bench: Bench) -> SessionState:
    """Return the state as it is kept: through JSON, as the ledger has it."""
    state = bench.engine.session.state(bench.now, bench.engine.violations, 3, 2)
    return msgspec.json.decode(msgspec.json.encode(state), type=SessionState)


def restarted(
    state: SessionState,
    risk: RiskConfig = WIDE,
    instruments: tuple[Instrument, ...] = (A,),
    after_s: float = 1,
    **kept: object,
) -> Bench:
    """Return the bench of a new run that takes up a state, not connected yet."""
    bench = Bench(instruments, risk=risk)
    bench.now = state.ts + round(after_s * SECOND)
    bench.engine.session.resume(Resumption(state, **kept))  # type: ignore[arg-type]
    return bench


def go_on(bench: Bench, **positions: int) -> None:
    """Connect a bench to a venue that has these positions."""
    bench.connect()
    bench.reconcile(**positions)


def test_profit_and_loss_go_on_where_they_were() -> None:
    """After a restart every part of profit and loss, the counters and the position are the same."""
    bench = bench_with()
    fill(bench, "1", price=990)
    bench.book(989, 991)
    bench.fund(7)
    again = restarted(state_of(bench))
    before, now = bench.engine.desks["A"].position, again.engine.desks["A"].position
    assert now.checkpoint() == before.checkpoint()
    assert (again.engine.equity, again.engine.session.fills) == (bench.engine.equity, 1)
    go_on(again, A=10)
    assert again.engine.reconciling.taken == 0 and now.identity_error() == 0


def test_a_restart_loop_cannot_reset_a_loss_limit() -> None:
    """However often it is restarted, the loss of all runs together touches the limit."""
    risk = limits(session_loss=100 * MONEY_SCALE)
    bench = bench_with(risk)
    for round_ in range(10):
        fill(bench, f"b{round_}", BUY, 1001, 10)
        fill(bench, f"s{round_}", SELL, 999, 10)  # 20 lost each time
        if bench.engine.gate.breach:
            break
        bench = restarted(state_of(bench), risk, exec_ids=(f"b{round_}", f"s{round_}"))
        go_on(bench)
        bench.book()
    assert round_ == 4
    assert bench.engine.gate.breach == "session_loss"


def test_a_peak_survives_so_drawdown_does() -> None:
    """A fall is measured from the best moment of all runs."""
    risk = limits(max_drawdown=50 * MONEY_SCALE)
    bench = bench_with(risk)
    fill(bench, "1", BUY, 990, 10)  # up 100
    assert bench.engine.gate.peak == 100 * MONEY_SCALE
    again = restarted(state_of(bench), risk)
    go_on(again, A=10)
    assert not again.engine.gate.breach
    assert any(isinstance(action, RequestLatch) for action in again.book(994, 996))
    assert again.engine.gate.breach == "drawdown"


def test_the_days_loss_survives() -> None:
    """What the day has lost counts after a restart, and not after midnight."""
    risk = limits(daily_loss=50 * MONEY_SCALE, session_start_s=12 * 3600)
    bench = bench_with(risk)
    fill(bench, "1", BUY, 1000, 10)
    bench.book(996, 998)
    again = restarted(state_of(bench), risk)
    go_on(again, A=10)
    again.book(994, 996)
    assert again.engine.gate.breach == "daily_loss"
    fresh = restarted(state_of(bench), risk, after_s=24 * 3600)
    go_on(fresh, A=10)
    fresh.book(994, 996)
    assert not fresh.engine.gate.breach


def test_a_breach_is_still_one_after_a_restart() -> None:
    """Nothing is placed, and the latch is asked for again: the first request may not have got through."""
    risk = limits(session_loss=10 * MONEY_SCALE)
    bench = bench_with(risk)
    fill(bench, "1", BUY, 1005, 10)
    assert bench.engine.gate.breach == "session_loss"
    again = restarted(state_of(bench), risk)
    again.connect()
    again.reconcile(A=10)
    asked = [*again.book(), *again.timer()]
    assert places(asked) == []
    assert again.engine.gate.breach == "session_loss" and again.engine._latch_asked


def test_a_person_who_armed_meanwhile_lifts_it() -> None:
    """Armed between the runs, limits are measured from there; without that they are not."""
    risk = limits(session_loss=10 * MONEY_SCALE)
    bench = bench_with(risk)
    fill(bench, "1", BUY, 1005, 10)
    again = restarted(state_of(bench), risk, rearmed=True)
    assert (again.engine.gate.breach, again.engine.gate.base) == ("", bench.engine.equity)
    go_on(again, A=10)
    again.book()
    assert places(again.after(2).book()) and not again.engine.gate.breach


def test_what_is_no_longer_quoted_leaves_its_loss() -> None:
    """An instrument taken out of the configuration, or on another grid, takes no loss with it."""
    risk = limits(session_loss=100 * MONEY_SCALE, max_drawdown=100 * MONEY_SCALE)
    bench = bench_with(risk, (A, B))
    fill(bench, "1", BUY, 1008, 10, "B")
    assert bench.engine.equity == -80 * MONEY_SCALE
    for instruments in ((A,), (A, make_instrument("B", "0.5", "1"))):
        again = restarted(state_of(bench), risk, instruments)
        go_on(again)
        for each in instruments:
            again.book(name=each.name)
        assert not again.engine.gate.breach
        fill(again, "2", BUY, 1003, 10)
        assert again.engine.gate.breach in ("session_loss", "drawdown")


def test_what_came_after_the_state_is_counted_once() -> None:
    """Fills and funding that were read behind the state count; told again, they do not."""
    bench = bench_with()
    state = state_of(bench)
    later = (
        report(bench.now + 1, "0xelse", ExecType.TRADE, side=BUY, price=990, size=10, fee=3, exec_id="7"),
        Funding(bench.now + 2, "A", bench.now + 2, "f1", -5),
    )
    again = restarted(state, later=later, exec_ids=())
    position = again.engine.desks["A"].position
    assert (position.lots, position.fees, position.funding, again.engine.session.fills) == (10, 3, -5, 1)
    go_on(again, A=10)
    again.feed(msgspec.structs.replace(later[0], recv_ts=again.now))
    again.fund(-5, "f1")
    assert (position.lots, position.funding, again.engine.session.fills) == (10, -5, 1)
    assert again.engine.violations == 0


def test_orders_of_another_run_count_until_the_venue_says() -> None:
    """They are at stake and asked about, never kept as rungs of the ladder; the venue's word ends them."""
    bench = bench_with()
    row = ("0x" + "1" * 32, "", BUY, 999, 10, 0, 0, "new", bench.now, 0)
    again = restarted(state_of(bench), after_s=30, doubtful={"A": (row,), "gone": (row,)})
    desk = again.engine.desks["A"]
    assert desk.orders.open_size(BUY) == 10
    go_on(again)
    again.book()
    assert row[0] in desk.orders.live
    again.after(6).timer()
    again.tell(row[0], ExecType.NOT_FOUND)
    assert row[0] not in desk.orders.live


def test_a_session_ends_at_its_time_of_day() -> None:
    """At the hour that is set, and not before, loss, peak and counters begin anew; what is held stays."""
    risk = limits(session_start_s=22 * 3600)
    bench = bench_with(risk)
    session = bench.engine.session
    assert (session.ends - 22 * HOUR) % DAY == 0 and 0 < session.ends - bench.now <= DAY
    fill(bench, "1", BUY, 990, 10)
    bench.now = session.ends - 1
    bench.book()
    assert (bench.engine.equity, session.fills) == (100 * MONEY_SCALE, 1)
    bench.now += 1
    bench.book(998, 1000)
    position = bench.engine.desks["A"].position
    # The event that ends a session is its last; what comes then is the new one's own.
    assert (bench.engine.equity, session.fills, position.lots) == (0, 0, 10)
    bench.book(997, 999)
    assert bench.engine.equity == -10 * MONEY_SCALE
    assert (bench.engine.gate.base, position.realised) == (0, 0)
    assert bench.engine.violations == 0 and position.identity_error() == 0


def test_a_session_that_ended_between_two_runs_is_over() -> None:
    """A run that begins after the hour begins a session, and still knows what is held."""
    risk = limits(session_loss=50 * MONEY_SCALE)
    bench = bench_with(risk)
    fill(bench, "1", BUY, 1004, 10)
    again = restarted(state_of(bench), risk, after_s=24 * 3600)
    go_on(again, A=10)
    again.book()
    assert (again.engine.equity, again.engine.desks["A"].position.lots) == (0, 10)
    fill(again, "2", BUY, 1004, 10)
    assert not again.engine.gate.breach


def test_never_is_never() -> None:
    """With `never` a session goes on for years."""
    bench = bench_with(limits(session_start_s=NEVER))
    fill(bench, "1", BUY, 990, 10)
    assert bench.engine.session.ends == FOR_EVER
    bench.now += 1000 * DAY
    bench.book()
    assert bench.engine.equity == 100 * MONEY_SCALE


def test_a_clock_that_is_not_trusted_ends_no_session() -> None:
    """A clock that jumps ahead cannot lift a limit: the session waits until the clock is trusted."""
    bench = bench_with()
    fill(bench, "1", BUY, 990, 10)
    ends = bench.engine.session.ends
    bench.clock("a day ahead")
    bench.now = ends + HOUR
    bench.book()
    assert bench.engine.equity == 100 * MONEY_SCALE
    bench.clock()
    bench.book()
    assert bench.engine.equity == 0


def test_the_end_of_a_session_leaves_the_days_loss() -> None:
    """Where the session does not begin at midnight, what the day has lost goes on."""
    risk = limits(daily_loss=60 * MONEY_SCALE, session_start_s=22 * 3600)
    bench = bench_with(risk)
    bench.now = bench.engine.session.ends - HOUR
    bench.book()
    fill(bench, "1", BUY, 1004, 10)
    bench.now += 2 * HOUR - SECOND
    bench.book()
    assert bench.engine.equity == 0 and not bench.engine.gate.breach
    fill(bench, "2", BUY, 1002, 10)
    assert bench.engine.gate.breach == "daily_loss"


moves = st.lists(st.tuples(st.sampled_from("bsmfr"), st.integers(1, 30)), max_size=40)


@given(moves)
def test_restarts_anywhere_change_no_account(steps: list[tuple[str, int]]) -> None:
    """Whatever happened before, a run that takes up the state ends with the very accounts of one that never ended."""
    whole, cut = bench_with(), bench_with()
    for number, (what, size) in enumerate(steps):
        if what == "r":
            cut = restarted(state_of(cut), after_s=0)
            continue
        for bench in (whole, cut):
            if what in "bs":
                fill(bench, str(number), BUY if what == "b" else SELL, 990 + size, size)
            elif what == "m":
                bench.book(980 + size, 990 + size)
            else:
                bench.fund(size - 15, f"f{number}")
    one, other = whole.engine, cut.engine
    assert other.desks["A"].position.checkpoint() == one.desks["A"].position.checkpoint()
    assert (other.equity, other.gate.base, other.gate.peak, other.session.fills, other.session.ends) == (
        one.equity, one.gate.base, one.gate.peak, one.session.fills, one.session.ends,
    )  # fmt: skip
    assert other.violations == one.violations == 0


def test_a_checkpoint_holds_the_session() -> None:
    """An engine restored from a checkpoint ends its session when the first one would."""
    bench = bench_with(limits(session_start_s=3600))
    fill(bench, "1")
    other = Bench(risk=limits(session_start_s=3600))
    other.engine.restore(bench.engine.checkpoint())
    assert other.engine.session.checkpoint() == bench.engine.session.checkpoint()
    assert other.engine.params.cl_ord_prefix == PREFIX


def test_fills_of_the_last_minute_still_count() -> None:
    """A restart loop cannot reset the limit of fills per minute; what is older than a minute is not carried on."""
    risk = limits(max_fills_per_minute=3)
    bench = bench_with(risk)
    fill(bench, "0")
    bench.after(90)
    fill(bench, "1")
    bench.after(10)
    fill(bench, "2")
    assert len(state_of(bench).wires.fills) == 2
    again = restarted(state_of(bench), risk)
    fill(again, "3")
    assert not again.engine.gate.breach
    fill(again, "4")
    assert again.engine.gate.breach == "fills_per_minute"
    later = restarted(state_of(bench), risk, after_s=61)
    for exec_id in "345":
        fill(later, exec_id)
    assert not later.engine.gate.breach


def test_what_a_start_takes_up_is_bounded() -> None:
    """I12: however many fills a ledger knows, an engine remembers no more than it ever does, the newest ones."""
    again = restarted(state_of(bench_with()), exec_ids=tuple(str(number) for number in range(10_000)))
    assert list(again.engine.desks["A"].orders.exec_ids) == [str(n) for n in range(10_000 - MAX_EXEC_IDS, 10_000)]


def test_the_first_word_may_be_that_the_clock_lies() -> None:
    """At a start with a clock that is wrong, ahead or behind, neither session nor day ends: no limit is reset."""
    risk = limits(daily_loss=60 * MONEY_SCALE)
    bench = bench_with(risk)
    fill(bench, "1", BUY, 1004, 10)
    for wrong in (400 * DAY, -2 * DAY):
        again = restarted(state_of(bench), risk)
        right = again.now
        again.now += wrong
        again.clock("far from the venue's time")
        go_on(again, A=10)
        again.book()
        again.now = right
        again.clock()
        again.book(997, 999)
        assert again.engine.gate.breach == "daily_loss"
        assert again.engine.session.ends == bench.engine.session.ends


def test_another_hour_counts_from_the_next_start() -> None:
    """`never` that becomes a time of day ends the session at that time; so does another hour."""
    bench = bench_with(limits(session_start_s=NEVER))
    fill(bench, "1", BUY, 990, 10)
    again = restarted(state_of(bench), limits(session_start_s=0), after_s=2 * 86_400)
    go_on(again, A=10)
    again.book()
    assert again.engine.session.fills == 0


def test_a_lower_limit_of_fills_counts_at_once() -> None:
    """What an earlier run was allowed does not widen the window of this one."""
    bench = bench_with(limits(max_fills_per_minute=600))
    for number in range(300):
        fill(bench, f"a{number}")
    again = restarted(state_of(bench), limits(max_fills_per_minute=100))
    fill(again, "b")
    assert again.engine.gate.breach == "fills_per_minute"


def test_fills_behind_the_state_of_what_is_gone_count_for_the_limits() -> None:
    """An instrument that is no longer quoted, or on another grid, leaves the loss of its last fills behind, too."""
    risk = limits(session_loss=100 * MONEY_SCALE, max_drawdown=100 * MONEY_SCALE)
    bench = bench_with(risk, (A, B))
    later = report(bench.now + 1, "0xelse", ExecType.TRADE, name="B", side=BUY, price=1008, size=10, exec_id="9")
    for instruments in ((A,), (A, make_instrument("B", "0.5", "1"))):
        again = restarted(state_of(bench), risk, instruments, later=(later,))
        assert again.engine.gate.base == 80 * MONEY_SCALE
        assert all(desk.position.lots == 0 for desk in again.engine.desks.values())
        fill(again, "2", BUY, 1003, 10)
        go_on(again, A=10)
        again.book(999, 1001)
        assert again.engine.gate.breach in ("session_loss", "drawdown")
