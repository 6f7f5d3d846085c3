"""OrderBook: one instrument's visible book from snapshots, deltas and the venue's best bid and offer.

Invariant: what a message says is shown as it is or refused as a whole, with a typed outcome; nothing is repaired.
It must not know venues' message forms, our own orders or what a price is worth.
"""

from bisect import bisect_left
from collections.abc import Sequence
from enum import Enum
from typing import Final, TypeAlias

from mmpi.events import Bbo, BookDelta, BookSnapshot, Level
from mmpi.instrument import BUY, SELL, Lots, Nanos, Ticks

MAX_LEVELS: Final = 5_000
"""Levels kept a side under deltas, the farthest dropped: as many as the deepest snapshot holds (Binance spot REST
depth, largest `limit`). Beyond its snapshot's depth such a book was never complete."""

BookState: TypeAlias = tuple[
    Sequence[int],  # seq, bbo_seq, recv_ts
    bool,  # valid
    Sequence[int],  # best_bid, best_bid_size, best_ask, best_ask_size
    Sequence[int],  # mid2, last_mid2
    Sequence[Sequence[int]],  # bids
    Sequence[Sequence[int]],  # asks
    Sequence[int],  # counts, in the order of BookOutcome
]


class BookOutcome(Enum):
    """What became of a message. A message with several flaws gets the one listed last here."""

    OK = "ok"
    LOCKED = "locked"
    """Applied; best bid = best ask, which is the mid."""
    CROSSED = "crossed"
    """Applied, and no valid mid: best bid > best ask."""
    ONE_SIDED = "one_sided"
    """Applied, and no valid mid: one side has no level."""
    EMPTY = "empty"
    """Applied, and no valid mid: neither side has a level."""
    BAD_ORDER = "bad_order"
    """Refused: snapshot levels not best first, or one price twice on a side."""
    BAD_SIZE = "bad_size"
    """Refused: a size below 0, or a snapshot level of size 0."""
    BAD_PRICE = "bad_price"
    """Refused: a price not above 0."""
    GAP = "gap"
    """Refused: a delta without a valid book, or one whose `prev_seq` is later than the book."""
    STALE = "stale"
    """Ignored: its number is not above the last one (repeated or overtaken); a valid book stays as it was."""

    # Members are singletons; Enum's own __hash__ is Python code, and counting would pay for it twice a message.
    __hash__ = object.__hash__


class OrderBook:
    """The book as the venue last showed it.

    Every number 0 (`seq`, `prev_seq`) means that the venue has none, and is not checked. Deltas carry absolute sizes,
    so one that starts before the book's number and ends after it (the first after a snapshot does) follows.

    After GAP or BAD_* there is no valid mid. The levels stay as they were, with `valid` False until the next snapshot,
    which then counts whatever its number: the venue may have begun anew. A refused Bbo leaves `valid` alone, for the
    levels do not depend on it.

    A Bbo replaces the touch (best prices and sizes, mid) until the next message of any kind; the levels are not
    trimmed to agree with it. It needs no valid levels: a venue may send nothing else.
    """

    def __init__(self, instrument: str) -> None:
        self.instrument: str = instrument
        self.seq: int = 0
        """Of the last snapshot or delta applied."""
        self.recv_ts: Nanos = 0
        """Of the last message applied."""
        self.valid: bool = False
        """The levels are what the venue shows."""
        self.best_bid: Ticks = 0
        """0 = that side is empty; likewise the next three."""
        self.best_bid_size: Lots = 0
        self.best_ask: Ticks = 0
        self.best_ask_size: Lots = 0
        self.mid2: int = 0
        """Twice the mid in ticks; 0 = no valid mid now."""
        self.last_mid2: int = 0
        """The last valid `mid2`; 0 = never one."""
        self.counts: dict[BookOutcome, int] = dict.fromkeys(BookOutcome, 0)
        self._bbo_seq: int = 0
        self._bids = _Ladder(BUY)
        self._asks = _Ladder(SELL)

    @property
    def bids(self) -> tuple[Level, ...]:
        """Return the bid levels, best first."""
        return self._bids.levels()

    @property
    def asks(self) -> tuple[Level, ...]:
        """Return the ask levels, best first."""
        return self._asks.levels()

    def apply(self, event: BookSnapshot | BookDelta | Bbo) -> BookOutcome:
        """Return what became of the message; apply it if it can be."""
        if isinstance(event, BookSnapshot):
            outcome = self._snapshot(event)
        elif isinstance(event, BookDelta):
            outcome = self._delta(event)
        else:
            outcome = self._bbo(event)
        self.counts[outcome] += 1
        return outcome

    def invalidate(self) -> None:
        """Forget the numbering and the mid: the feed was interrupted, and only a new snapshot (or Bbo) counts."""
        self.valid = False
        self.mid2 = 0
        self.seq = 0
        self._bbo_seq = 0

    def checkpoint(self) -> BookState:
        """Return the exact state as plain numbers."""
        return (
            (self.seq, self._bbo_seq, self.recv_ts),
            self.valid,
            (self.best_bid, self.best_bid_size, self.best_ask, self.best_ask_size),
            (self.mid2, self.last_mid2),
            self.bids,
            self.asks,
            tuple(self.counts.values()),
        )

    def restore(self, state: BookState) -> None:
        """Take a state that `checkpoint` returned; lists serve as tuples."""
        numbers, self.valid, touch, mids, bids, asks, counts = state
        self.seq, self._bbo_seq, self.recv_ts = numbers
        self.best_bid, self.best_bid_size, self.best_ask, self.best_ask_size = touch
        self.mid2, self.last_mid2 = mids
        self._bids.replace(tuple((price, size) for price, size in bids))
        self._asks.replace(tuple((price, size) for price, size in asks))
        self.counts = dict(zip(BookOutcome, counts, strict=True))

    def _snapshot(self, event: BookSnapshot) -> BookOutcome:
        if 0 < event.seq <= self.seq and self.valid:
            return BookOutcome.STALE
        bids = event.bids
        asks = event.asks
        # The healthy case in one tight loop a side; which flaw it is matters only when there is one.
        above = 0
        for price, size in reversed(bids):
            if price <= above or size <= 0:
                return self._refuse(_snapshot_flaw(bids, asks))
            above = price
        above = 0
        for price, size in asks:
            if price <= above or size <= 0:
                return self._refuse(_snapshot_flaw(bids, asks))
            above = price
        self._bids.replace(bids)
        self._asks.replace(asks)
        self.valid = True
        self.seq = event.seq
        self.recv_ts = event.recv_ts
        bid, bid_size = bids[0] if bids else _NO_LEVEL
        ask, ask_size = asks[0] if asks else _NO_LEVEL
        return self._touch(bid, bid_size, ask, ask_size)

    def _delta(self, event: BookDelta) -> BookOutcome:
        seq = event.seq
        if not self.valid:
            return self._refuse(BookOutcome.GAP)
        if 0 < seq <= self.seq:
            return BookOutcome.STALE
        if event.prev_seq > self.seq:
            return self._refuse(BookOutcome.GAP)
        flaw = _delta_flaw(event.bids, event.asks)
        if flaw is not None:
            return self._refuse(flaw)
        if event.bids:
            self._bids.change(event.bids)
        if event.asks:
            self._asks.change(event.asks)
        self.seq = seq
        self.recv_ts = event.recv_ts
        bid, bid_size = self._bids.best()
        ask, ask_size = self._asks.best()
        return self._touch(bid, bid_size, ask, ask_size)

    def _bbo(self, event: Bbo) -> BookOutcome:
        if event.seq and (event.seq <= self.seq or event.seq <= self._bbo_seq):
            return BookOutcome.STALE
        bid, bid_size, ask, ask_size = event.bid, event.bid_size, event.ask, event.ask_size
        flaw = None
        if (bid_size and bid <= 0) or (ask_size and ask <= 0):
            flaw = BookOutcome.BAD_PRICE
        elif bid_size < 0 or ask_size < 0:
            flaw = BookOutcome.BAD_SIZE
        if flaw is not None:
            self.mid2 = 0
            return flaw
        self._bbo_seq = event.seq
        self.recv_ts = event.recv_ts
        return self._touch(bid if bid_size else 0, bid_size, ask if ask_size else 0, ask_size)

    def _touch(self, bid: Ticks, bid_size: Lots, ask: Ticks, ask_size: Lots) -> BookOutcome:
        self.best_bid = bid
        self.best_bid_size = bid_size
        self.best_ask = ask
        self.best_ask_size = ask_size
        if bid and ask and bid <= ask:
            self.mid2 = self.last_mid2 = bid + ask
            return BookOutcome.OK if bid < ask else BookOutcome.LOCKED
        self.mid2 = 0
        if bid and ask:
            return BookOutcome.CROSSED
        return BookOutcome.ONE_SIDED if bid or ask else BookOutcome.EMPTY

    def _refuse(self, outcome: BookOutcome) -> BookOutcome:
        self.valid = False
        self.mid2 = 0
        return outcome


_NO_LEVEL: Final[Level] = (0, 0)


class _Ladder:
    """One side of the book: a tuple as it came, or, from the first delta on, sorted keys and their sizes.

    A key is the price of a bid or the negated price of an ask, so the best is the last on both sides, where most
    changes happen and lists are cheap to change.
    """

    def __init__(self, sign: int) -> None:
        self._sign: int = sign
        self._levels: tuple[Level, ...] | None = ()
        """The side best first, or None = changed since it was last asked for."""
        self._keys: list[int] = []
        self._sizes: list[Lots] = []
        self._keyed: bool = False
        """The keys and sizes hold the side."""

    def replace(self, levels: tuple[Level, ...]) -> None:
        """Take a whole side, best first."""
        self._levels = levels
        self._keyed = False

    def levels(self) -> tuple[Level, ...]:
        """Return the side, best first."""
        if self._levels is None:
            sign = self._sign
            pairs = zip(reversed(self._keys), reversed(self._sizes), strict=True)
            self._levels = tuple((sign * key, size) for key, size in pairs)
        return self._levels

    def best(self) -> Level:
        """Return the best level, (0, 0) if there is none."""
        if self._keyed:
            return (self._sign * self._keys[-1], self._sizes[-1]) if self._keys else _NO_LEVEL
        return self.levels()[0] if self.levels() else _NO_LEVEL

    def change(self, levels: tuple[Level, ...]) -> None:
        """Set absolute sizes; 0 removes a level, and removing one that is not there changes nothing."""
        if not self._keyed:
            self._key()
        sign, keys, sizes = self._sign, self._keys, self._sizes
        for price, size in levels:
            key = sign * price
            at = bisect_left(keys, key)
            if at < len(keys) and keys[at] == key:
                if size:
                    sizes[at] = size
                else:
                    del keys[at], sizes[at]
            elif size:
                keys.insert(at, key)
                sizes.insert(at, size)
        if len(keys) > MAX_LEVELS:
            del keys[:-MAX_LEVELS], sizes[:-MAX_LEVELS]
        self._levels = None

    def _key(self) -> None:
        sign = self._sign
        levels = self.levels()
        self._keys = [sign * price for price, _ in reversed(levels)]
        self._sizes = [size for _, size in reversed(levels)]
        self._keyed = True


def _snapshot_flaw(bids: tuple[Level, ...], asks: tuple[Level, ...]) -> BookOutcome:
    levels = bids + asks
    if any(price <= 0 for price, _ in levels):
        return BookOutcome.BAD_PRICE
    if any(size <= 0 for _, size in levels):
        return BookOutcome.BAD_SIZE
    return BookOutcome.BAD_ORDER


def _delta_flaw(bids: tuple[Level, ...], asks: tuple[Level, ...]) -> BookOutcome | None:
    flaw = None
    for levels in (bids, asks):
        for price, size in levels:
            if price <= 0:
                return BookOutcome.BAD_PRICE
            if size < 0:
                flaw = BookOutcome.BAD_SIZE
        if flaw is None and len(levels) > 1 and len({price for price, _ in levels}) < len(levels):
            flaw = BookOutcome.BAD_ORDER
    return flaw
