"""Metrics: the figures of a recorded run, each with what it was computed from.

Invariant: money is exact text, a ratio carries its sampling interval, and a figure that the run is too short for is
null or says so. It must not know plots, files or formats.

Returns are changes of equity over an interval, divided by the capital (`risk.capital`).
"""

from typing import Final

import numpy as np

from mmpi.instrument import MONEY_SCALE, SECOND, Money, money_text
from mmpi.research.bootstrap import Estimate, Floats, mean_estimate, ratio_estimate
from mmpi.research.fills import HORIZONS_S, FillLog, side_name
from mmpi.research.ratios import DAY_S, Ratio, sharpe, sortino
from mmpi.research.recorder import Recorder, Trace
from mmpi.structs import Frozen

RETURN_INTERVAL_S: Final = 60
"""Or the recorder's interval where that is longer. Below a minute, the flicker of the mid is most of a return."""
ENOUGH_STEPS: Final = 200
"""Steps of RETURN_INTERVAL_S below which the bootstrap takes the recorder's own, shorter interval."""


class Trips(Frozen, frozen=True):
    """Round trips: each fill that reduced the position, at average entry, after the fees of both ends."""

    trips: int
    wins: int
    losses: int
    win_rate: float | None
    profit_factor: float | None
    gained: str
    lost: str
    note: str = ""


class Markout(Frozen, frozen=True):
    """Of one side ("all" = both) and horizon, basis points per fill, > 0 in our favour."""

    horizon_s: int
    side: str
    fills: int
    missing: int
    """Fills whose horizon runs past the end of the data."""
    late: int
    """Fills whose mid came later than twice the horizon, after a hole in the data."""
    mean_bps: float | None
    low: float | None
    high: float | None
    by_volume_bps: float | None
    """Weighted by volume."""
    adverse_selection: str
    """Money: position of each fill times the mid's move within the horizon, a part OF the inventory term."""


class InstrumentMetrics(Frozen, frozen=True):
    """One instrument's profit and quoting."""

    spread: str
    inventory: str
    funding: str
    fees: str
    total: str
    volume: str
    fills: int
    buys: int
    sells: int
    listed_fills: int
    position: str
    markouts: "tuple[Markout, ...]"
    trips: Trips
    time_at_limit: float | None
    time_two_sided: float | None
    own_spread_bps: float | None
    mean_position: float
    """Time-weighted absolute position at the mid, quote currency."""
    crossed: int


class Metrics(Frozen, frozen=True):
    """The run's figures over all instruments; money in quote currency."""

    span_s: float
    sampling_interval_s: int
    samples: int
    capital: str
    spread: str
    inventory: str
    funding: str
    fees: str
    total: str
    identity_error: str
    """Equity minus the sum of the parts; anything but 0 is a bug (I11)."""
    volume: str
    fills: int
    sharpe: Ratio
    sortino: Ratio
    max_drawdown: str
    max_drawdown_percent: float
    """Of the capital."""
    trips: Trips
    profit_bps: Estimate
    """Total profit over volume."""
    profit_per_fill: float | None
    profit_per_interval: Estimate
    bootstrap_interval_s: int
    turnover_per_day: float | None
    """Volume over capital."""
    inventory_turnover_per_day: float | None
    """Half the volume (bought once, sold once) over the mean absolute position."""
    time_at_limit: float | None
    """Of the instrument that was there most."""
    time_two_sided: float | None
    """Of the instrument that was so least."""


def measure(recorder: Recorder) -> tuple[Metrics, dict[str, InstrumentMetrics]]:
    """Return the figures of a finished recorder, over all and by instrument."""
    by_name = {name: _instrument(trace) for name, trace in recorder.traces.items()}
    traces = list(recorder.traces.values())
    positions = [trace.desk.position for trace in traces]
    total: Money = sum(position.equity for position in positions)
    volume: Money = sum(position.volume for position in positions)
    fills = sum(trace.log.number for trace in traces)
    capital, span_s, turned = recorder.capital / MONEY_SCALE, recorder.span / SECOND, volume / MONEY_SCALE
    held = sum(trace.held for trace in traces) / span_s if span_s else 0.0
    interval, step = return_interval(recorder), bootstrap_interval(recorder)
    returns = whole(steps_of(recorder, interval)[0], recorder, interval) / capital
    profits, volumes = steps_of(recorder, step)
    at_limit = [each.time_at_limit for each in by_name.values() if each.time_at_limit is not None]
    two_sided = [each.time_two_sided for each in by_name.values() if each.time_two_sided is not None]
    metrics = Metrics(
        span_s=span_s,
        sampling_interval_s=recorder.interval // SECOND,
        samples=len(recorder.ts),
        capital=money_text(recorder.capital),
        spread=money_text(sum(position.spread for position in positions)),
        inventory=money_text(sum(position.inventory for position in positions)),
        funding=money_text(sum(position.funding for position in positions)),
        fees=money_text(sum(position.fees for position in positions)),
        total=money_text(total),
        identity_error=money_text(sum(abs(position.identity_error()) for position in positions)),
        volume=money_text(volume),
        fills=fills,
        sharpe=sharpe(returns, interval, span_s),
        sortino=sortino(returns, interval, span_s),
        max_drawdown=money_text(recorder.drawdown),
        max_drawdown_percent=100 * recorder.drawdown / recorder.capital,
        trips=_trips(traces),
        profit_bps=ratio_estimate(profits, volumes, scale=1e4),
        profit_per_fill=total / MONEY_SCALE / fills if fills else None,
        profit_per_interval=mean_estimate(profits),
        bootstrap_interval_s=step,
        turnover_per_day=turned / capital * DAY_S / span_s if span_s else None,
        inventory_turnover_per_day=turned / 2 / held * DAY_S / span_s if held else None,
        time_at_limit=max(at_limit, default=None),
        time_two_sided=min(two_sided, default=None),
    )
    return metrics, by_name


def steps_of(recorder: Recorder, interval_s: int) -> tuple[Floats, Floats]:
    """Return profit and volume of each interval, quote currency; the last one may be shorter, so that all is in."""
    spread, inventory, funding, fees, volume = (np.array(column, dtype=np.float64) for column in recorder.parts)
    total = spread + inventory + funding - fees
    if len(total) == 0:
        return np.zeros(0), np.zeros(0)
    picked = np.append(np.arange(0, recorder.grid, _every(recorder, interval_s)), len(total) - 1)
    picked = np.unique(picked)
    # The first sample is the run's first event: nothing was earned before it.
    return np.diff(total[picked]), np.diff(volume[picked])


def whole(profits: Floats, recorder: Recorder, interval_s: int) -> Floats:
    """Return the profits of the intervals that are not cut short by the run's end."""
    return profits[: max(0, (recorder.grid - 1) // _every(recorder, interval_s))]


def return_interval(recorder: Recorder) -> int:
    """Return the seconds between the equities that returns are made of."""
    return max(RETURN_INTERVAL_S, recorder.interval // SECOND)


def bootstrap_interval(recorder: Recorder) -> int:
    """Return the seconds of one observation of the bootstrap."""
    enough = recorder.span >= ENOUGH_STEPS * RETURN_INTERVAL_S * SECOND
    return return_interval(recorder) if enough else recorder.interval // SECOND


def _every(recorder: Recorder, interval_s: int) -> int:
    return max(1, interval_s * SECOND // recorder.interval)


def _instrument(trace: Trace) -> InstrumentMetrics:
    position, log, grid = trace.desk.position, trace.log, trace.desk.instrument
    sides = ("buy", "sell", "all")
    return InstrumentMetrics(
        spread=money_text(position.spread),
        inventory=money_text(position.inventory),
        funding=money_text(position.funding),
        fees=money_text(position.fees),
        total=money_text(position.equity),
        volume=money_text(position.volume),
        fills=log.number,
        buys=log.counts[1],
        sells=log.counts[-1],
        listed_fills=len(log.ts),
        position=grid.size_text(position.lots),
        markouts=tuple(markout(log, horizon, side) for horizon in HORIZONS_S for side in sides),
        trips=_trips([trace]),
        time_at_limit=trace.at_limit / trace.time if trace.time else None,
        time_two_sided=trace.two_sided / trace.time if trace.time else None,
        own_spread_bps=trace.spread_time / trace.two_sided if trace.two_sided else None,
        mean_position=trace.held * SECOND / trace.time if trace.time else 0.0,
        crossed=trace.crossed,
    )


def markout(log: FillLog, horizon: int, side: str) -> Markout:
    """Return the markout of one horizon and side, its interval from the listed fills in their order."""
    wanted = [each for each in (1, -1) if side in ("all", side_name(each))]
    sums = [log.sums[horizon, each] for each in wanted]
    known, notional = sum(each.fills for each in sums), sum(each.notional for each in sums)
    column = np.array(log.markouts[HORIZONS_S.index(horizon)], dtype=np.float64)
    chosen = column[np.isin(np.array(log.side), wanted) & ~np.isnan(column)]
    interval = mean_estimate(chosen) if len(chosen) else Estimate(None)
    return Markout(
        horizon_s=horizon,
        side=side,
        fills=known,
        missing=sum(log.counts[each] for each in wanted) - known,
        late=sum(each.late for each in sums),
        mean_bps=sum(each.bps for each in sums) / known if known else None,
        low=interval.low,
        high=interval.high,
        by_volume_bps=sum(each.worth for each in sums) / notional * 1e4 if notional else None,
        adverse_selection=money_text(sum(each.adverse for each in sums)),
    )


def _trips(traces: list[Trace]) -> Trips:
    trips = [trace.trips for trace in traces]
    count, wins = sum(each.trips for each in trips), sum(each.wins for each in trips)
    gained, lost = sum(each.gained for each in trips), sum(each.lost for each in trips)
    note = "" if count and lost else ("no trip lost anything" if count else "no fill reduced the position")
    return Trips(
        trips=count,
        wins=wins,
        losses=sum(each.losses for each in trips),
        win_rate=wins / count if count else None,
        profit_factor=gained / lost if lost else None,
        gained=money_text(gained),
        lost=money_text(lost),
        note=note,
    )
