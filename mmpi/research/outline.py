"""Outline: what a report says and in which order.

Invariant: every figure stands beside what it was computed from; nothing is said that is not in report.json or drawn.
It must not know how a document is rendered or where it is written.
"""

from collections.abc import Mapping

from mmpi.research.bootstrap import Estimate
from mmpi.research.document import Block, Figure, Heading, Paragraph, Table
from mmpi.research.metrics import InstrumentMetrics, Metrics, Trips
from mmpi.research.plots import draw
from mmpi.research.ratios import Ratio
from mmpi.research.recorder import AT_LIMIT, Recorder
from mmpi.research.report import Facts, Report

NONE = "n/a"


def outline(report: Report, recorder: Recorder) -> list[Block]:
    """Return the report's blocks, drawings included."""
    facts, metrics = report.facts, report.metrics
    currency = "/".join(dict.fromkeys(each.quote for each in facts.instruments))
    figures = draw(recorder, report.instruments, currency)
    names = ", ".join(each.name for each in facts.instruments)
    quoters = ", ".join(dict.fromkeys(each.quoter for each in facts.instruments))
    return [
        Heading(1, f"Backtest: {quoters} on {names}"),
        Paragraph(_verdict(facts, metrics, currency)),
        *_targets(report),
        *_profit(metrics, report.instruments, currency),
        figures[0],
        *_ratios(metrics),
        *_by_instrument(report, figures[1:]),
        *_run(facts),
        *_reading(),
    ]


def _verdict(facts: Facts, metrics: Metrics, currency: str) -> str:
    bps = metrics.profit_bps
    text = (
        f"{facts.data}, {facts.start} to {facts.end} ({metrics.span_s / 3600:.2f} h): {metrics.fills} fills, volume "
        f"{_money(metrics.volume)} {currency}, profit {_money(metrics.total)} {currency}"
    )
    if bps.value is not None:
        text += f", {_with_interval(bps)} bp of the volume"
    stopped = f" The run was stopped by a limit: {facts.breach}." if facts.breach else ""
    return f"{text}.{stopped}"


def _targets(report: Report) -> list[Block]:
    rows = tuple(
        (
            each.metric,
            each.verdict,
            f"{_number(each.value)} {each.unit}".strip() if each.value is not None else NONE,
            f"{'>' if each.above else '<'} {each.target:g}",
            f"{'<' if each.above else '>'} {each.red_flag:g}",
            each.basis,
        )
        for each in report.targets
    )
    header = ("figure", "verdict", "value", "target", "red flag", "from")
    return [Heading(2, "Targets and red flags"), Table(header, rows, "llrrrl")]


def _profit(metrics: Metrics, by_name: Mapping[str, InstrumentMetrics], currency: str) -> list[Block]:
    columns = list(by_name.values())
    header = ("part", currency, *(by_name if len(columns) > 1 else ()))
    parts = (
        ("spread: fills against the mid", "spread"), ("+ inventory: position times mid moves", "inventory"),
        ("+ funding", "funding"), ("- fees", "fees"), ("= total", "total"),
    )  # fmt: skip
    several = columns if len(columns) > 1 else []
    rows = tuple((text, getattr(metrics, key), *(getattr(each, key) for each in several)) for text, key in parts)
    exact = "exactly" if metrics.identity_error == "0" else f"NOT: it is off by {metrics.identity_error}"
    return [
        Heading(2, "Profit"),
        Table(header, rows, "l" + "r" * (len(header) - 1)),
        Paragraph(
            f"The identity holds {exact}: cash from fills, funding and fees plus the position at the last valid mid, "
            "booked on its own, is the sum of these parts."
        ),
    ]


def _ratios(metrics: Metrics) -> list[Block]:
    rows: list[tuple[str, str, str]] = [
        ("Sharpe ratio", _number(metrics.sharpe.value), _basis(metrics.sharpe)),
        ("Sortino ratio", _number(metrics.sortino.value), _basis(metrics.sortino)),
        ("max drawdown", f"{_money(metrics.max_drawdown)} ({_number(metrics.max_drawdown_percent, 3)} % of capital)",
         "from the peak of equity, looked at after every event"),
        *_trips(metrics.trips),
        ("profit, bp of volume", _with_interval(metrics.profit_bps), _blocks(metrics.profit_bps, metrics)),
        ("profit per fill", _number(metrics.profit_per_fill, 4), f"{metrics.fills} fills"),
        (f"profit per {metrics.bootstrap_interval_s} s", _with_interval(metrics.profit_per_interval, 4),
         _blocks(metrics.profit_per_interval, metrics)),
        ("turnover", f"{_number(metrics.turnover_per_day)} x/day", f"volume over the capital of {metrics.capital}"),
        ("inventory turnover", f"{_number(metrics.inventory_turnover_per_day)} x/day",
         "half the volume over the time-weighted mean of the absolute position"),
    ]  # fmt: skip
    header = ("figure", "value", "from")
    return [Heading(2, "Ratios"), Table(header, tuple(rows), "lrl")]


def _trips(trips: Trips) -> list[tuple[str, str, str]]:
    basis = f"{trips.trips} round trips: {trips.wins} won, {trips.losses} lost"
    factor = f"gained {_money(trips.gained)}, lost {_money(trips.lost)}" + (f"; {trips.note}" if trips.note else "")
    return [("win rate", _percent(trips.win_rate), basis), ("profit factor", _number(trips.profit_factor), factor)]


def _basis(ratio: Ratio) -> str:
    text = f"{ratio.returns} returns of {ratio.interval_s} s (worth {ratio.independent:.0f} independent ones), 365 days"
    if ratio.error is not None:
        text += f"; standard error {_number(ratio.error)}"
    return f"{text}; {ratio.note}" if ratio.note else text


def _blocks(estimate: Estimate, metrics: Metrics) -> str:
    text = f"95 % by stationary bootstrap: {estimate.observations} steps of {metrics.bootstrap_interval_s} s"
    text += f", mean block {estimate.block:.1f}"
    return f"{text}; {estimate.note}" if estimate.note else text


def _by_instrument(report: Report, figures: list[Figure]) -> list[Block]:
    blocks: list[Block] = []
    each = len(figures) // len(report.instruments)
    for index, (name, metrics) in enumerate(report.instruments.items()):
        blocks += [Heading(2, name), _quoting(metrics)]
        inventory, fills, markouts, limit = figures[index * each : (index + 1) * each]
        blocks += [inventory, fills, Heading(3, f"Markouts of {name}"), markouts, _markouts(metrics), limit]
    return blocks


def _quoting(metrics: InstrumentMetrics) -> Table:
    listed = "" if metrics.listed_fills == metrics.fills else f", {metrics.listed_fills} of them listed, evenly"
    adverse = next(each for each in metrics.markouts if (each.horizon_s, each.side) == (30, "all"))
    rows = (
        ("fills", f"{metrics.fills} ({metrics.buys} buys, {metrics.sells} sells{listed})"),
        ("volume", metrics.volume),
        ("inventory term", metrics.inventory),
        ("adverse selection, first 30 s: a part of the inventory term", adverse.adverse_selection),
        ("position at the end", metrics.position),
        ("mean absolute position at the mid", _number(metrics.mean_position)),
        (f"time at the limit (from {AT_LIMIT:.0%} of it)", _percent(metrics.time_at_limit)),
        ("time quoting both sides", _percent(metrics.time_two_sided)),
        ("own spread while quoting both sides", f"{_number(metrics.own_spread_bps)} bp"),
        ("win rate", f"{_percent(metrics.trips.win_rate)} of {metrics.trips.trips} round trips"),
        ("profit factor", _number(metrics.trips.profit_factor)),
        ("own orders crossed", str(metrics.crossed)),
    )
    return Table(("quoting", ""), rows, "lr")


def _markouts(metrics: InstrumentMetrics) -> Table:
    rows = tuple(
        (
            f"{each.horizon_s} s",
            each.side,
            str(each.fills),
            _number(each.mean_bps),
            f"{_number(each.low)} to {_number(each.high)}" if each.low is not None else NONE,
            _number(each.by_volume_bps),
            each.adverse_selection,
            str(each.missing),
            str(each.late),
        )
        for each in metrics.markouts
    )
    header = ("after", "side", "fills", "mean bp", "95 %", "bp of volume", "adverse selection", "missing", "late")
    return Table(header, rows, "rlrrrrrrr")


def _run(facts: Facts) -> list[Block]:
    rows: list[tuple[str, str]] = [
        ("mmpi", facts.mmpi), ("command", facts.command), ("data", facts.data), ("events", str(facts.events)),
        ("from", facts.start), ("to", facts.end), ("stopped by a limit", facts.breach or "no"),
        ("violations of the profit identity", str(facts.violations)),
    ]  # fmt: skip
    blocks: list[Block] = [Heading(2, "Run"), Table(("run", ""), tuple(rows), "ll")]
    for each in facts.instruments:
        grid = {"tick": each.tick_size, "lot": each.lot_size, "least order value": each.min_notional,
                "base": each.base, "quote": each.quote}  # fmt: skip
        blocks += [Heading(3, f"{each.name}: instrument"), _table(grid)]
        blocks += [Heading(3, f"{each.name}: quoter {each.quoter}"), _table(each.parameters)]
    odd = {"rows or bytes read": facts.tally.get("done", 0)} if facts.tally else {}
    odd |= {key: count for key, count in facts.tally.items() if count and key != "done"}
    risk = {**facts.risk, "patience_s (venue.ack_timeout_s)": facts.patience_s}
    for title, content in (
        ("Limits", risk), ("Simulated exchange", facts.sim), ("Data that was rounded or left out", odd),
        ("Orders", facts.orders), ("Orders refused by risk", facts.refusals), ("Anomalies", facts.anomalies),
    ):  # fmt: skip
        blocks += [Heading(3, title), _table(content) if content else Paragraph("None.")]
    return blocks


def _reading() -> list[Block]:
    return [
        Heading(2, "How to read this"),
        *map(
            Paragraph,
            (
                "Sharpe and Sortino: returns are changes of equity over the interval stated, over the capital; Sortino "
                "divides by the root mean square of the losses alone. Both are annualised with 365 days.",
                "Round trip: a fill that reduced the position, at the average entry price, after the fees of both "
                "ends. Win rate: share of round trips with a profit above 0. Profit factor: what they gained over "
                "what they lost.",
                "Markout: how far the mid moved in our favour after a fill, from the fill's price, in basis points; "
                "the mid is that of the first book at or after the horizon, counted from when the fill was reported. "
                "Missing: the data ended first. Late: the mid came later than twice the horizon, after a hole.",
                "Adverse selection: the mid's move from the fill to the horizon, times the size. It is part of the "
                "inventory term and is never added to it.",
                "Intervals: stationary bootstrap (Politis & Romano 1994) with automatic block length (Politis & White "
                "2004); markouts are resampled in blocks of fills that follow each other.",
                "A simulator's queue position is a guess. Profit here is no promise; a loss here is a warning.",
            ),
        ),
    ]


def _table(content: Mapping[str, object]) -> Table:
    return Table(("name", "value"), tuple((key, _value(value)) for key, value in content.items()), "lr")


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.12g}" if isinstance(value, float) else str(value) or "-"


def _with_interval(estimate: Estimate, digits: int = 2) -> str:
    if estimate.low is None:
        return _number(estimate.value, digits)
    return f"{_number(estimate.value, digits)} ({_number(estimate.low, digits)} to {_number(estimate.high, digits)})"


def _number(value: float | None, digits: int = 2) -> str:
    if value is None:
        return NONE
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def _money(text: str) -> str:
    return _number(float(text))


def _percent(share: float | None) -> str:
    return NONE if share is None else f"{100 * share:.1f} %"
