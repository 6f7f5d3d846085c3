"""Instrument: the only tick <-> decimal and lot <-> decimal code, venue rounding rules included.

Invariant: everything inside is an integer (`Ticks`, `Lots`, `Money`); text and floats exist at the edges only.
It must not know books, orders or venues' messages.
"""

from decimal import Decimal, InvalidOperation
from typing import Final, Literal, TypeAlias

from mmpi.errors import ConfigError
from mmpi.structs import Leaf

Ticks: TypeAlias = int
"""A price, in multiples of the instrument's finest grid."""
Lots: TypeAlias = int
"""A size, in multiples of the instrument's lot."""
Nanos: TypeAlias = int
"""A time (since the Unix epoch) or a duration, in nanoseconds."""
Money: TypeAlias = int
"""An amount of the quote currency, in units of 10^-12."""
Side: TypeAlias = Literal[1, -1]
"""BUY (+1) or SELL (-1): the sign of the position change."""

BUY: Final[Side] = 1
SELL: Final[Side] = -1
MONEY_SCALE: Final = 10**12
GRID_GUARD: Final = 1e-6
"""Ticks of float error that rounding to the grid forgives: doubles hold a price of 10^9 ticks to 10^-7."""
SECOND: Final[Nanos] = 1_000_000_000
MILLISECOND: Final[Nanos] = 1_000_000


class Instrument(Leaf, frozen=True):
    """A linear instrument's grid; make one with `make_instrument`, which derives and checks the integers."""

    name: str
    tick_size: str
    lot_size: str
    unit: Money
    """Money gained by one lot when its price rises one tick; even, so half-tick mids stay exact."""
    ticks_per_quote: float
    """Ticks in 1.0 of price."""
    lots_per_base: float
    """Lots in 1.0 of size."""
    tick_mantissa: int
    tick_exponent: int
    lot_mantissa: int
    lot_exponent: int
    significant_figures: int = 0
    """0, or the venue's limit on price digits (Hyperliquid: 5, integers always valid)."""
    min_notional: Money = 0
    base: str = ""
    quote: str = "USD"

    def step_at(self, price: Ticks) -> Ticks:
        """Return the effective price increment near `price`, in ticks.

        Source: Hyperliquid "Tick and lot size" (read 2026-11-21): at most five significant figures; an integer price
        is always valid.
        """
        if self.significant_figures == 0:
            return 1
        extra = len(str(price * self.tick_mantissa)) - self.significant_figures
        return 10 ** min(extra, self.tick_exponent) if extra > 0 and self.tick_exponent > 0 else 1

    def round_bid(self, price: float) -> Ticks:
        """Return the highest valid price at or below `price` (float ticks)."""
        floor = int((price + GRID_GUARD) // 1)
        step = self.step_at(floor)
        return floor - floor % step

    def round_ask(self, price: float) -> Ticks:
        """Return the lowest valid price at or above `price` (float ticks)."""
        ceil = -int((GRID_GUARD - price) // 1)
        step = self.step_at(ceil)
        return ceil + -ceil % step

    def price_text(self, price: Ticks) -> str:
        """Return the price as plain decimal text without trailing zeros (the form venues sign)."""
        return _decimal_text(price * self.tick_mantissa, self.tick_exponent)

    def size_text(self, size: Lots) -> str:
        """Return the size as plain decimal text without trailing zeros."""
        return _decimal_text(size * self.lot_mantissa, self.lot_exponent)

    def ticks(self, text: str) -> Ticks:
        """Return decimal text as exact ticks; ConfigError if it is not on the grid."""
        return _multiple(text, self.tick_size, "price", self.name)

    def lots(self, text: str) -> Lots:
        """Return decimal text as exact lots; ConfigError if it is not on the grid."""
        return _multiple(text, self.lot_size, "size", self.name)

    def whole_lots(self, text: str) -> Lots:
        """Return decimal text as lots, what is left of one cut off; ConfigError if it is no number."""
        try:
            return int(Decimal(text) / Decimal(self.lot_size))
        except ArithmeticError:
            raise ConfigError(f"size {text!r} of {self.name} is not a decimal number") from None

    def notional(self, price: Ticks, size: Lots) -> Money:
        """Return price times size."""
        return price * size * self.unit


def make_instrument(
    name: str,
    tick_size: str,
    lot_size: str,
    *,
    significant_figures: int = 0,
    min_notional: str = "0",
    payoff: str = "linear",
    base: str = "",
    quote: str = "USD",
) -> Instrument:
    """Return an Instrument from decimal text; ConfigError names the field that cannot be used."""
    if payoff != "linear":
        raise ConfigError(
            f"instrument {name}: payoff {payoff!r} is not implemented; allowed: linear "
            "(an inverse contract's profit is not price difference times size)"
        )
    tick, lot = positive_decimal(tick_size, f"instrument {name}: tick_size"), positive_decimal(
        lot_size, f"instrument {name}: lot_size"
    )
    unit = tick * lot * MONEY_SCALE
    if unit != unit.to_integral_value() or int(unit) % 2:
        raise ConfigError(
            f"instrument {name}: tick_size {tick_size} x lot_size {lot_size} is finer than 2e-12 of the quote "
            "currency; money would not be exact"
        )
    tick_mantissa, tick_exponent = _mantissa(tick)
    lot_mantissa, lot_exponent = _mantissa(lot)
    return Instrument(
        name=name,
        tick_size=_decimal_text(tick_mantissa, tick_exponent),
        lot_size=_decimal_text(lot_mantissa, lot_exponent),
        unit=int(unit),
        ticks_per_quote=float(1 / tick),
        lots_per_base=float(1 / lot),
        tick_mantissa=tick_mantissa,
        tick_exponent=tick_exponent,
        lot_mantissa=lot_mantissa,
        lot_exponent=lot_exponent,
        significant_figures=significant_figures,
        min_notional=money(min_notional),
        base=base or name,
        quote=quote,
    )


def money(text: str) -> Money:
    """Return decimal text as Money; ConfigError if it is no number or finer than 10^-12."""
    try:
        value = Decimal(text) * MONEY_SCALE
    except InvalidOperation:
        raise ConfigError(f"amount {text!r} is not a decimal number") from None
    if not value.is_finite() or value != value.to_integral_value():
        raise ConfigError(f"amount {text!r} must be finite and no finer than 1e-12")
    return int(value)


def money_text(amount: Money) -> str:
    """Return Money as plain decimal text without trailing zeros, exact."""
    return _decimal_text(amount, 12)


def positive_decimal(text: str, what: str) -> Decimal:
    """Return decimal text as a positive finite Decimal; ConfigError starting with `what` otherwise."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise ConfigError(f"{what} {text!r} is not a decimal number") from None
    if not value.is_finite() or value <= 0:
        raise ConfigError(f"{what} {text!r} must be greater than 0")
    return value


def _multiple(text: str, step: str, what: str, name: str) -> int:
    try:
        # A quotient that does not fit the context's 28 digits is no price or size of this world.
        count = (Decimal(text) / Decimal(step)).normalize()
        whole = count.is_finite() and count == count.to_integral_value() and count * Decimal(step) == Decimal(text)
    except ArithmeticError:
        raise ConfigError(f"{what} {text!r} of {name} is not a decimal number") from None
    if not whole:
        raise ConfigError(f"{what} {text} of {name} is not a multiple of {step}")
    return int(count)


def _mantissa(value: Decimal) -> tuple[int, int]:
    """Return (m, e) with value = m * 10^-e, e >= 0 and as small as it can be."""
    numerator, exponent = value.normalize().as_tuple().digits, int(value.normalize().as_tuple().exponent)
    mantissa = int("".join(map(str, numerator)))
    return (mantissa * 10**exponent, 0) if exponent > 0 else (mantissa, -exponent)


def _decimal_text(value: int, exponent: int) -> str:
    sign = "-" if value < 0 else ""
    digits = str(abs(value))
    if exponent == 0:
        return sign + digits
    digits = digits.rjust(exponent + 1, "0")
    fraction = digits[-exponent:].rstrip("0")
    whole = digits[:-exponent]
    return f"{sign}{whole}.{fraction}" if fraction else (f"{sign}{whole}" if value else "0")
