"""Position: the profit identity, its parts against fractions, and mutants that must not survive."""

from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from mmpi.errors import LocalError
from mmpi.instrument import BUY, MONEY_SCALE, SELL, Instrument, Side, make_instrument, money
from mmpi.position import Position

BTC = make_instrument("BTC", "0.1", "0.001")
"""One lot moving one tick is 0.0001."""
FINE = make_instrument("FINE", "0.000001", "0.000002")
"""The finest money there is: one lot times half a tick is 1 unit."""

Operation = tuple[str, int, int, int]
"""(what, a, b, c): fill(signed size, price, fee), carry(lots), fund(amount), mark(mid2, 0 = none valid)."""

fees = st.integers(-50, 500)
operations = st.lists(
    st.one_of(
        st.tuples(st.just("fill"), st.integers(-9, 9).filter(bool), st.integers(1, 400), fees),
        st.tuples(st.just("fill"), st.integers(-9, 9).filter(bool), st.integers(1, 400), fees),
        st.tuples(st.just("mark"), st.one_of(st.just(0), st.integers(2, 800)), st.just(0), st.just(0)),
        st.tuples(st.just("fund"), st.integers(-999, 999), st.just(0), st.just(0)),
        st.tuples(st.just("carry"), st.integers(-9, 9), st.just(0), st.just(0)),
    ),
    max_size=25,
)
instruments = st.sampled_from([BTC, FINE])


def do(position: Position, operation: Operation) -> None:
    what, a, b, c = operation
    if what == "fill":
        side: Side = BUY if a > 0 else SELL
        position.fill(side, b, abs(a), c)
    elif what == "mark":
        position.mark(a)
    elif what == "fund":
        position.fund(a)
    elif position.mid2:
        position.carry(a)


class SlowPosition:
    """The same profit in fractions of the quote currency, from prices and sizes as people write them."""

    def __init__(self, instrument: Instrument) -> None:
        self.tick, self.lot = Fraction(instrument.tick_size), Fraction(instrument.lot_size)
        self.size = self.mid = self.spread = self.inventory = self.funding = self.fees = self.cash = Fraction(0)
        self.entry = self.realised = self.volume = Fraction(0)

    def do(self, operation: Operation) -> None:
        what, a, b, c = operation
        if what == "fill":
            price, size, fee = b * self.tick, a * self.lot, Fraction(c, MONEY_SCALE)
            self.mid = self.mid or price
            self.spread += (self.mid - price) * size
            self.fees += fee
            self.cash -= price * size + fee
            self.volume += price * abs(size)
            self.trade(size, price)
        elif what == "mark" and a:
            mid = a * self.tick / 2
            self.inventory += self.size * (mid - self.mid)
            self.mid = mid
        elif what == "fund":
            self.funding += Fraction(a, MONEY_SCALE)
            self.cash += Fraction(a, MONEY_SCALE)
        elif what == "carry" and self.mid:
            self.cash -= a * self.lot * self.mid
            self.trade(a * self.lot, self.mid)

    def trade(self, size: Fraction, price: Fraction) -> None:
        """Lot by lot: each either closes one at the average entry or opens one."""
        step = self.lot if size > 0 else -self.lot
        for _ in range(int(size / step)):
            if self.size * step < 0:
                self.realised -= step * (price - self.entry)
            else:
                self.entry = (self.entry * abs(self.size) + price * self.lot) / (abs(self.size) + self.lot)
            self.size += step


Doer = Callable[[Position, Operation], None]


def identity_holds(doer: Doer) -> None:
    """Run the property that every Position must have; AssertionError if `doer` makes one break it."""

    @settings(max_examples=200, deadline=None, database=None, phases=(Phase.generate,), report_multiple_bugs=False)
    @given(instruments, operations)
    def holds(instrument: Instrument, todo: list[Operation]) -> None:
        position = Position(instrument)
        for operation in todo:
            doer(position, operation)
            assert position.identity_error() == 0
            assert position.realised + position.unrealised == position.spread + position.inventory

    holds()


def inventory_wrong_sign(position: Position, operation: Operation) -> None:
    """Mutant: the price rises and a long position loses."""
    before = position.inventory
    do(position, operation)
    position.inventory = 2 * before - position.inventory


def fees_not_in_cash(position: Position, operation: Operation) -> None:
    """Mutant: fees are counted but never paid."""
    before = position.fees
    do(position, operation)
    position.cash += position.fees - before


def spread_twice(position: Position, operation: Operation) -> None:
    """Mutant: what a fill earns against the mid is booked as inventory too (source text 004 section 13.1)."""
    before = position.spread
    do(position, operation)
    position.inventory += position.spread - before


def funding_wrong_sign(position: Position, operation: Operation) -> None:
    """Mutant: a payment received is booked as paid."""
    before = position.funding
    do(position, operation)
    position.funding = 2 * before - position.funding


def entry_overwritten(position: Position, operation: Operation) -> None:
    """Mutant: a flip forgets the old entry before it realises (source text 004 section 7.2)."""
    what, size, _, _ = operation
    if what == "fill" and position.lots * size < 0 and abs(size) > abs(position.lots):
        position.open_cost = 0
    do(position, operation)


MUTANTS = [inventory_wrong_sign, fees_not_in_cash, spread_twice, funding_wrong_sign, entry_overwritten]


def numbers(position: Position) -> dict[str, int]:
    """Return every number that a Position shows."""
    shown = {name: getattr(position, name) for name in dir(position)}
    return {name: value for name, value in shown.items() if isinstance(value, int)}


def test_identity_holds_under_random_operations() -> None:
    """Cash plus lots at the mid equals the sum of the parts to the last unit, after every operation (I11)."""
    identity_holds(do)


@pytest.mark.parametrize("mutant", MUTANTS)
def test_identity_catches_mutants(mutant: Doer) -> None:
    """The property above fails for a Position with one part wrong."""
    with pytest.raises(AssertionError):
        identity_holds(mutant)


def test_identity_names_the_mutant_amount() -> None:
    """A wrong inventory sign shows as an identity error of twice the move: 2 lots, 5 ticks, both ways."""
    position = Position(BTC)
    position.mark(2000)
    position.fill(BUY, 1000, 2, 0)
    inventory_wrong_sign(position, ("mark", 2010, 0, 0))
    assert position.identity_error() == 2 * (2 * 5 * BTC.unit)


@settings(max_examples=200, deadline=None)
@given(instruments, operations)
def test_parts_equal_the_fractions(instrument: Instrument, todo: list[Operation]) -> None:
    """Each part, cash and turnover equal the same in fractions; realised is off by less than a unit a fill."""
    position, slow = Position(instrument), SlowPosition(instrument)
    for operation in todo:
        do(position, operation)
        slow.do(operation)
    exact = (position.cash, position.spread, position.inventory, position.funding, position.fees, position.volume)
    wanted = (slow.cash, slow.spread, slow.inventory, slow.funding, slow.fees, slow.volume)
    assert tuple(Fraction(amount, MONEY_SCALE) for amount in exact) == wanted
    assert position.lots * slow.lot == slow.size
    assert position.equity == (slow.cash + slow.size * slow.mid) * MONEY_SCALE == position.total
    assert abs(position.realised - slow.realised * MONEY_SCALE) <= len(todo)
    assert abs(position.open_cost - abs(slow.size) * slow.entry * MONEY_SCALE) <= len(todo)


@settings(max_examples=100, deadline=None)
@given(operations, operations)
def test_restored_position_behaves_as_the_first(before: list[Operation], after: list[Operation]) -> None:
    """A checkpoint is the whole state."""
    first, second = Position(BTC), Position(BTC)
    for operation in before:
        do(first, operation)
    second.restore(list(first.checkpoint()))
    for operation in after:
        do(first, operation)
        do(second, operation)
    assert second.checkpoint() == first.checkpoint()
    assert numbers(second) == numbers(first)


def test_flip_closes_at_the_old_entry_first() -> None:
    """Long 2 at 100.0, sold 5 at 101.0: 2 are realised at the old entry, 3 are short at 101.0."""
    position = Position(BTC)
    position.fill(BUY, 1000, 2, 0)
    position.fill(SELL, 1010, 5, 0)
    assert position.realised == money("0.002")
    assert (position.lots, position.entry_price(), position.open_cost) == (-3, 1010.0, money("0.303"))


def test_flip_to_the_same_size_changes_the_entry() -> None:
    """Short 2 at 100.0, bought 4 at 99.0: the entry of the long 2 is 99.0."""
    position = Position(BTC)
    position.fill(SELL, 1000, 2, 0)
    position.fill(BUY, 990, 4, 0)
    assert (position.lots, position.entry_price(), position.realised) == (2, 990.0, money("0.002"))


def test_partial_close_loses_no_remainder() -> None:
    """An entry that divides badly is released in whole units, and flat means no cost left."""
    position = Position(FINE)
    position.fill(BUY, 1, 2, 0)
    position.fill(BUY, 2, 1, 0)
    position.fill(SELL, 3, 2, 0)
    assert (position.open_cost, position.realised) == (3, 12 - 5)
    position.fill(SELL, 3, 1, 0)
    assert (position.open_cost, position.entry_price(), position.realised) == (0, 0.0, position.total)


def test_first_fill_without_a_mid_is_its_own_mark() -> None:
    """Before any valid mid a fill earns no spread; the first mid moves it like any other."""
    position = Position(BTC)
    position.fill(SELL, 1000, 3, 7)
    assert (position.spread, position.mid2, position.total) == (0, 2000, -7)
    position.mark(1999)
    assert (position.inventory, position.identity_error()) == (3 * BTC.unit // 2, 0)


def test_missing_mid_keeps_the_mark() -> None:
    """No valid mid (0) leaves the last one in force."""
    position = Position(BTC)
    position.mark(2001)
    position.fill(BUY, 1000, 2, 0)
    position.mark(0)
    assert (position.mid2, position.inventory, position.spread) == (2001, 0, BTC.unit)


def test_carry_is_no_gain() -> None:
    """Lots taken over at the mark change neither profit nor turnover, and count as entered there."""
    position = Position(BTC)
    position.mark(2001)
    position.carry(-4)
    assert (position.lots, position.total, position.equity, position.volume, position.fills) == (-4, 0, 0, 0, 0)
    assert (position.entry_price(), position.unrealised) == (1000.5, 0)


def test_carry_needs_a_mark() -> None:
    """Lots cannot be valued before there is a price."""
    with pytest.raises(LocalError, match="before there is a mark"):
        Position(BTC).carry(1)


@pytest.mark.parametrize(("price", "size"), [(0, 1), (100, 0), (100, -1)])
def test_fill_refuses_nonsense(price: int, size: int) -> None:
    """A fill without a positive price and size is a caller's bug, and changes nothing."""
    position = Position(BTC)
    with pytest.raises(LocalError, match="positive price and size"):
        position.fill(BUY, price, size, 0)
    assert position.checkpoint() == Position(BTC).checkpoint()
