"""The account's fills as TRADE reports: each fill once, under our id if the order is ours.

Invariant: a fill is reported exactly once however often the venue repeats it, and every fill is reported, because the
position moves whoever sent the order. It must not know frames or posts.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Final

from mmpi.errors import ConfigError
from mmpi.events import ExecReport, ExecType
from mmpi.instrument import MILLISECOND, MONEY_SCALE, Instrument, Money, Nanos
from mmpi.venues.hyperliquid.messages import WireFill, fitting, plain, side_of
from mmpi.venues.hyperliquid.names import OrderNames

MAX_TIDS: Final = 20_000
"""Ten times the longest list of fills that the venue sends (2000, "Info endpoint")."""
MAX_HELD: Final = 256


class FillLedger:
    """Removes repeated fills and holds back those whose order has no name yet."""

    def __init__(
        self, instruments: Mapping[str, Instrument], names: OrderNames, patience: Nanos, history_end_ms: int = -1,
        fresh: frozenset[str] = frozenset(),
    ) -> None:  # fmt: skip
        """Take how long a fill waits for its order's name before it counts as somebody else's.

        What is older than `history_end_ms` is nobody's business; -1 = the first list says. Of the
        coins in `fresh` the first list is history all the same.
        """
        self.unreadable: int = 0
        self.ignored: int = 0
        self.held: list[tuple[Nanos, WireFill]] = []
        self._instruments: Mapping[str, Instrument] = instruments
        self._names: OrderNames = names
        self._patience: Nanos = patience
        self._tids: dict[int, None] = {}
        self.history_end_ms: int = history_end_ms
        self.counted_from_ms: int = history_end_ms
        """From when on fills count in another process, which does not know what this one took for history."""
        self._fresh: frozenset[str] = fresh

    def new(self, fills: Sequence[WireFill], recv_ts: Nanos, *, wait: bool) -> list[ExecReport]:
        """Return the reports of fills from the stream. With `wait`, one whose order is unknown is held back."""
        reports: list[ExecReport] = []
        for fill in fills:
            if not self._is_new(fill):
                continue
            cloid = self._cloid(fill)
            if cloid is None and wait:
                self.held.append((recv_ts, fill))
            else:
                self._report(fill, cloid or "", recv_ts, reports)
        while len(self.held) > MAX_HELD:
            self._report(self.held.pop(0)[1], "", recv_ts, reports)
        return reports

    def recent(self, fills: Sequence[WireFill], recv_ts: Nanos, *, wait: bool) -> list[ExecReport]:
        """Return the reports of what is new in a list of recent fills.

        The first such list of a process is history: the position that it led to comes with the reconciliation. Lists
        differ in length, so a fill older than the end of that history is history too.
        """
        if self.history_end_ms < 0:
            self.history_end_ms = max((fill.time for fill in fills), default=0)
            self.counted_from_ms = self.history_end_ms + 1
            for fill in fills:
                self._is_new(fill)
            return []
        if self._fresh:
            for fill in fills:
                if fill.coin in self._fresh:
                    self._is_new(fill)
            self._fresh = frozenset()
        later = [fill for fill in fills if fill.time >= self.history_end_ms]
        if later and later[0].time > later[-1].time:
            later.reverse()  # info answers have the newest first
        return self.new(later, recv_ts, wait=wait)

    def release(self, recv_ts: Nanos, *, all_of_them: bool = False) -> list[ExecReport]:
        """Return the reports of held fills whose order has a name now, or which have waited long enough."""
        reports: list[ExecReport] = []
        still: list[tuple[Nanos, WireFill]] = []
        for since, fill in self.held:
            cloid = self._cloid(fill)
            if cloid is None and not all_of_them and recv_ts - since < self._patience:
                still.append((since, fill))
            else:
                self._report(fill, cloid or "", recv_ts, reports)
        self.held = still
        return reports

    def _is_new(self, fill: WireFill) -> bool:
        if fill.tid in self._tids:
            return False
        self._tids[fill.tid] = None
        if len(self._tids) > MAX_TIDS:
            del self._tids[next(iter(self._tids))]
        return True

    def _cloid(self, fill: WireFill) -> str | None:
        """Return our id, "" for somebody else's order, None while that is not known."""
        if fill.cloid is None:
            return self._names.cloid(fill.oid)
        return fill.cloid if self._names.is_ours(fill.cloid) else ""

    def _report(self, fill: WireFill, cloid: str, recv_ts: Nanos, reports: list[ExecReport]) -> None:
        instrument = self._instruments.get(fill.coin)
        if instrument is None:
            self.ignored += 1
            return
        try:
            price, size, fee = instrument.ticks(plain(fill.px)), instrument.lots(plain(fill.sz)), _fee(fill, instrument)
            fitting(price, size, fee)
        except (ConfigError, ArithmeticError, ValueError):
            # One that cannot be read must not take those behind it along, which are noted as seen by now.
            self.unreadable += 1
            return
        reports.append(
            ExecReport(
                recv_ts,
                instrument.name,
                fill.time * MILLISECOND,
                cloid,
                str(fill.oid),
                ExecType.TRADE,
                side=side_of(fill.side),
                price=price,
                size=size,
                fee=fee,
                maker=not fill.crossed,
                exec_id=str(fill.tid),
            )
        )


def _fee(fill: WireFill, instrument: Instrument) -> Money:
    """Return the fee in the quote currency; one taken in the token bought at what that cost.

    What is finer than money can say is cut off: a fill must not be lost over it.
    """
    fee = Decimal(plain(fill.fee))
    if fill.fee_token and fill.fee_token == instrument.base and fill.fee_token != instrument.quote:
        fee *= Decimal(fill.px)
    return int(fee * MONEY_SCALE)
