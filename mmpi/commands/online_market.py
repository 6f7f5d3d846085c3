"""Markets of mmpi check --online: whether an instrument's settings make orders that the venue would take, right now.

Invariant: the strategy itself is asked, with the venue's book, for what it would quote. It must not know accounts.
"""

import time

from mmpi.errors import ConfigError, RemoteError
from mmpi.events import Level
from mmpi.instrument import Instrument, money_text
from mmpi.ports import MarketView
from mmpi.quoting import make_quoter
from mmpi.runtime.findings import Finding
from mmpi.runtime.inquiry import Inquiry
from mmpi.runtime.venue_facts import VenueFacts, grid_fault
from mmpi.settings import InstrumentSettings
from mmpi.venues.hyperliquid.answers import BookAnswer
from mmpi.venues.hyperliquid.messages import FIRST_SPOT


async def examine_market(venue: Inquiry, facts: VenueFacts, wanted: InstrumentSettings) -> list[Finding]:
    """Return what there is to say about one configured instrument: that it exists, its grid, its orders' sizes."""
    check = f"instruments.{wanted.name}"
    try:
        instrument, number = facts.instrument(wanted.name)
        if fault := grid_fault(instrument, wanted.tick_size, wanted.lot_size):
            raise ConfigError(fault)
        bids, asks = _levels(instrument, await venue.ask(BookAnswer, "l2Book", coin=wanted.name))
        where = f"asset {number}, tick {instrument.tick_size}, lot {instrument.lot_size}"
        return [_sizes(check, where, wanted, view_of(instrument, bids, asks))]
    except ConfigError as error:
        return [Finding(check, "FAIL", _after(str(error), check))]
    except RemoteError as error:
        return [Finding(check, "WARN", f"its book cannot be read, so orders were not checked: {error}")]


def tokens_of(facts: VenueFacts, name: str) -> tuple[str, ...]:
    """Return the tokens of a spot market, () for any other."""
    try:
        instrument, number = facts.instrument(name)
    except ConfigError:
        return ()
    return (instrument.base, instrument.quote) if number >= FIRST_SPOT else ()


def view_of(instrument: Instrument, bids: tuple[Level, ...], asks: tuple[Level, ...]) -> MarketView | None:
    """Return what a strategy would see, flat and in a quiet market; None if a side is empty."""
    if not bids or not asks:
        return None
    mid = (bids[0][0] + asks[0][0]) / 2
    return MarketView(
        instrument, time.time_ns(), bids[0][0], asks[0][0], mid, mid, volatility=0.0, position=0, bids=bids, asks=asks
    )


def _levels(instrument: Instrument, book: BookAnswer) -> tuple[tuple[Level, ...], tuple[Level, ...]]:
    """Return bids and asks; ConfigError if the venue's own prices do not fit the grid that it told."""
    bids, asks = (tuple((instrument.ticks(at.px), instrument.lots(at.sz)) for at in side) for side in book.levels)
    return bids, asks


def _sizes(check: str, where: str, wanted: InstrumentSettings, view: MarketView | None) -> Finding:
    if view is None:
        return Finding(check, "WARN", f"{where}; the book is empty on a side, so orders were not checked")
    instrument = view.instrument
    least = f"{money_text(instrument.min_notional)} {instrument.quote}"
    quote = make_quoter(wanted.quoter, instrument).quote(view)
    worth = sorted(instrument.notional(rung.price, rung.size) for rung in (*quote.bids, *quote.asks))
    small = sum(amount < instrument.min_notional for amount in worth)
    if quote.reason == "size_below_lot" or (worth and small == len(worth)):
        text = f"{where}; orders would be below the lot, or below the venue's least, {least}; raise the size"
        return Finding(check, "FAIL", text)
    if not worth:
        return Finding(check, "WARN", f"{where}; at this moment there would be no orders ({quote.reason})")
    text = f"{where}; {len(worth)} orders worth {_rounded(worth[0])} to {_rounded(worth[-1])} {instrument.quote}"
    if small:
        return Finding(check, "WARN", f"{text}; {small} of them are below the venue's least, {least}; raise the size")
    return Finding(check, "OK", f"{text}; the venue's least is {least}")


def _rounded(amount: int) -> str:
    return f"{amount / 10**12:.2f}"


def _after(text: str, check: str) -> str:
    """Return a sentence without the name that the finding has anyway."""
    return text.removeprefix(check).lstrip(":. ")
