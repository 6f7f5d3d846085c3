"""The spot balances of one account.

Invariant: amounts are exact integers of 10^-12 of their token, and no balance goes below zero.
It must not know orders, the wire or prices.
"""

from typing import Final

import msgspec

from mmpi.instrument import BUY, MONEY_SCALE, Lots, Money, Side, Ticks, money
from mmpi.practice.hyperliquid.spot import PURR, START_PRICE, USDC, Pair, Token
from mmpi.sim.model import FEE_SCALE

AMOUNT_DECIMALS: Final = 12
START: Final[dict[Token, Money]] = {USDC: 100_000 * MONEY_SCALE, PURR: 500_000 * MONEY_SCALE}
"""What every practice account starts with: enough of either to quote both sides."""


class Balance(msgspec.Struct):
    """An amount of a token and what it cost, in USDC (`entryNtl` on the wire; 0 for USDC itself)."""

    total: Money = 0
    entry: Money = 0


class Booked(msgspec.Struct, frozen=True):
    """What a spot fill did: the fee in `token`, the base balance before, and what a sale earned (fees apart)."""

    fee: Money
    token: Token
    start: Money
    closed_pnl: Money


class Wallet:
    """The balances by token."""

    def __init__(self) -> None:
        self.balances = {token: Balance(total) for token, total in START.items()}
        self.balances[PURR].entry = START[PURR] * money(START_PRICE) // MONEY_SCALE

    def trade(self, pair: Pair, side: Side, price: Ticks, size: Lots, rate: int) -> Booked:
        """Return what a fill did, having booked it; `rate` is the fee in units of 1/FEE_SCALE.

        The fee is taken out of what is received. It is cut to the quote token's decimals first, and a buyer's, turned
        into base, to the base token's: so a recorded fill has it (1.267 at 160.32, 0.00088689 of the base at 7 bps).
        """
        base, quote = self.balances[pair.base], self.balances[pair.quote]
        cost, units = pair.instrument.notional(price, size), base_amount(pair, size)
        fee, start = _cut(cost * rate // FEE_SCALE, pair.quote), base.total
        if side == BUY:
            fee = _cut(fee * units // cost, pair.base)
            quote.total -= cost
            base.total += units - fee
            base.entry += cost
            return Booked(fee, pair.base, start, 0)
        basis = base.entry * units // start
        quote.total += cost - fee
        base.total -= units
        base.entry -= basis
        return Booked(fee, pair.quote, start, cost - basis)


def base_amount(pair: Pair, size: Lots) -> Money:
    """Return a size in units of 10^-12 of the base token."""
    return size * _unit(pair.base.size_decimals)


def _cut(amount: Money, token: Token) -> Money:
    """Return an amount without the decimals that its token has not."""
    return amount - amount % _unit(token.wei_decimals)


def _unit(decimals: int) -> Money:
    """Return the least amount that can be written with so many decimals."""
    return int(10 ** (AMOUNT_DECIMALS - decimals))
