"""Position: one instrument's lots, cash and profit, each part of the profit accumulated on its own (I11).

Invariant: cash + lots x mid = spread + inventory + funding - fees, exactly, after every call; no part is ever
derived from the others. It must not know orders, limits or where a price came from.
"""

from collections.abc import Sequence

from mmpi.errors import LocalError
from mmpi.instrument import Instrument, Lots, Money, Side, Ticks


class Position:
    """What we hold in one instrument and where its profit came from.

    The mark is the last valid mid, which `mark` brings. A fill (or carry) before any is its own mark until one comes,
    so its spread is 0.

    Two independent accounts are kept. By cause: `spread` (each fill against the mark at its moment), `inventory` (lots
    held times the mark's moves), `funding`, `fees`. By average entry: `realised` and `unrealised`, before funding and
    fees; spread + inventory = realised + unrealised.
    """

    def __init__(self, instrument: Instrument) -> None:
        self._unit: Money = instrument.unit
        self._half: Money = instrument.unit // 2
        """One lot times half a tick; exact, because the unit is even."""
        self.lots: Lots = 0
        self.mid2: int = 0
        """The mark, twice its price in ticks; 0 = none yet."""
        self.cash: Money = 0
        self.spread: Money = 0
        self.inventory: Money = 0
        self.funding: Money = 0
        """> 0 = received."""
        self.fees: Money = 0
        """> 0 = paid; a maker's rebate is negative."""
        self.realised: Money = 0
        self.open_cost: Money = 0
        """The open lots at their average entry, long or short a positive amount."""
        self.volume: Money = 0
        """Turnover of all fills."""
        self.fills: int = 0

    def fill(self, side: Side, price: Ticks, size: Lots, fee: Money) -> None:
        """Book one fill of ours; `fee` > 0 is paid. LocalError unless price and size are positive."""
        if price <= 0 or size <= 0:
            raise LocalError(f"a fill needs a positive price and size, not {price} ticks, {size} lots")
        if self.mid2 == 0:
            self.mid2 = 2 * price
        change = size if side > 0 else -size
        notional = price * size * self._unit
        self.cash -= (notional if side > 0 else -notional) + fee
        self.spread += change * (self.mid2 - 2 * price) * self._half
        self.fees += fee
        self.volume += notional
        self.fills += 1
        self._average(change, notional)

    def carry(self, lots: Lots) -> None:
        """Take over lots that no fill of ours explains, as if bought at the mark; LocalError before there is a mark.

        They cost the mark, so taking them over is neither a gain nor a loss, and is no turnover.
        """
        if self.mid2 == 0:
            raise LocalError("a position cannot be taken over before there is a mark")
        value = lots * self.mid2 * self._half
        self.cash -= value
        self._average(lots, abs(value))

    def fund(self, amount: Money) -> None:
        """Book a funding payment; `amount` > 0 is received."""
        self.cash += amount
        self.funding += amount

    def mark(self, mid2: int) -> None:
        """Move the mark to a valid mid (twice its price in ticks); 0 = there is none, and the last one stays."""
        if mid2 == 0:
            return
        self.inventory += self.lots * (mid2 - self.mid2) * self._half
        self.mid2 = mid2

    def begin_anew(self) -> None:
        """Begin a new session: what is held goes on as if bought at the mark, and nothing is won or lost yet."""
        value = self.lots * self.mid2 * self._half
        self.cash, self.open_cost = -value, abs(value)
        self.spread = self.inventory = self.funding = self.fees = self.realised = self.volume = 0
        self.fills = 0

    @property
    def equity(self) -> Money:
        """Return cash plus the open lots at the mark."""
        return self.cash + self.lots * self.mid2 * self._half

    @property
    def total(self) -> Money:
        """Return the profit as the sum of its parts."""
        return self.spread + self.inventory + self.funding - self.fees

    @property
    def unrealised(self) -> Money:
        """Return the open lots at the mark against their average entry."""
        value = self.lots * self.mid2 * self._half
        return value - self.open_cost if self.lots > 0 else value + self.open_cost

    def entry_price(self) -> float:
        """Return the average entry in ticks; 0.0 when flat."""
        return self.open_cost / (abs(self.lots) * self._unit) if self.lots else 0.0

    def identity_error(self) -> Money:
        """Return equity minus the sum of the parts: anything but 0 is a bug (I11)."""
        # One expression: it is evaluated at every book that finds a position.
        equity = self.cash + self.lots * self.mid2 * self._half
        return equity - self.spread - self.inventory - self.funding + self.fees

    def checkpoint(self) -> tuple[int, ...]:
        """Return the state as plain integers."""
        return (
            self.lots,
            self.mid2,
            self.cash,
            self.spread,
            self.inventory,
            self.funding,
            self.fees,
            self.realised,
            self.open_cost,
            self.volume,
            self.fills,
        )

    def restore(self, state: Sequence[int]) -> None:
        """Take a state that `checkpoint` returned."""
        (
            self.lots,
            self.mid2,
            self.cash,
            self.spread,
            self.inventory,
            self.funding,
            self.fees,
            self.realised,
            self.open_cost,
            self.volume,
            self.fills,
        ) = state

    def _average(self, change: Lots, notional: Money) -> None:
        """Add a signed change worth `notional` at its price: close at the old entry first, open the rest."""
        before = self.lots
        self.lots = before + change
        if before * change >= 0:
            self.open_cost += notional
            return
        held, size = abs(before), abs(change)
        closed = min(held, size)
        # One price for the whole change, so the split of its notional is exact; the cost's is not, and the
        # remainder stays with what is still open, so nothing is lost.
        worth = notional // size * closed
        cost = self.open_cost * closed // held
        self.realised += worth - cost if before > 0 else cost - worth
        self.open_cost += notional - worth - cost
