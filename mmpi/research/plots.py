"""Plots: a recorded run drawn as SVG: equity, inventory, fills, markouts, time by position.

Invariant: the same run gives the same bytes: no date, no random names. It must not know files.
It alone imports matplotlib, and it is imported only where a report was asked for.
"""

import io
from collections.abc import Callable, Sequence
from typing import Any, Final

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from mmpi.instrument import MONEY_SCALE, SECOND, Nanos
from mmpi.research.bootstrap import Floats
from mmpi.research.document import BLUE, FAINT, GREEN, GREY, INK, PAPER, PURPLE, VERMILLION, Figure
from mmpi.research.fills import HORIZONS_S
from mmpi.research.metrics import InstrumentMetrics
from mmpi.research.recorder import AT_LIMIT, BINS, Recorder, Trace

Indices = npt.NDArray[np.int64]

SIZE: Final = (5.8, 3.5)
"""Inches. Text of 10 points is then readable on a phone, and not too large on a desk."""
POINTS: Final = 1_500
"""A line is drawn through at most about so many: more than a screen has columns."""
SHOWN_FILLS: Final = 1_500
_STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "mmpi",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib, so that every box measures text alike
    "font.size": 10,
    "text.parse_math": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "axes.facecolor": PAPER,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.formatter.useoffset": False,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.2,
    "path.simplify": True,
}


def draw(recorder: Recorder, by_name: dict[str, InstrumentMetrics], currency: str) -> list[Figure]:
    """Return the figures of a finished recorder; those of an instrument are named after it where there are many."""
    figures = [
        Figure(
            "equity",
            "Equity since the start and its parts (total = spread + inventory + funding - fees), and how far it is "
            f"below its peak; {currency}.",
            _svg(lambda axes: _equity(axes, recorder, currency), rows=(3, 1)),
        )
    ]
    for name, trace in recorder.traces.items():
        suffix = f"-{_file_name(name)}" if len(recorder.traces) > 1 else ""
        figures += _of_instrument(recorder, name, trace, by_name[name], suffix)
    return figures


def _of_instrument(
    recorder: Recorder, name: str, trace: Trace, metrics: InstrumentMetrics, suffix: str
) -> list[Figure]:
    grid, log = trace.desk.instrument, trace.log
    every = max(1, -(-len(log.ts) // SHOWN_FILLS))
    shown = f"every fill ({log.number})" if every * log.stride == 1 else f"one fill in {every * log.stride}"
    return [
        Figure(
            f"inventory{suffix}",
            f"{name}: position, {grid.base}; dashed: the largest that the risk gate allows at the mid.",
            _svg(lambda axes: _inventory(axes[0], recorder, name, trace)),
        ),
        Figure(
            f"fills{suffix}",
            f"{name}: the mid and our fills, {grid.quote}; {shown} shown.",
            _svg(lambda axes: _fills(axes[0], recorder, name, trace, every)),
        ),
        Figure(
            f"markouts{suffix}",
            f"{name}: mean markout of a fill by horizon, with 95 % intervals; above 0 the price went our way. "
            f"Fills that the data outlived by 60 s: {metrics.markouts[-1].fills} of {log.number}.",
            _svg(lambda axes: _markouts(axes[0], metrics)),
        ),
        Figure(
            f"limit{suffix}",
            f"{name}: share of the time by position, in tenths of the largest allowed; at the limit (from "
            f"{AT_LIMIT:.0%}) {_percent(metrics.time_at_limit)} of the time.",
            _svg(lambda axes: _time_by_position(axes[0], trace)),
        ),
    ]


def _equity(axes: Sequence[Axes], recorder: Recorder, currency: str) -> None:
    top, bottom = axes
    time, unit = _elapsed(recorder)
    spread, inventory, funding, fees, _ = (np.array(part) for part in recorder.parts)
    total = spread + inventory + funding - fees
    for values, label, colour, style in (
        (spread, "spread", GREEN, "-"), (inventory, "inventory", BLUE, "--"), (funding, "funding", PURPLE, "-."),
        (-fees, "minus fees", VERMILLION, ":"),
    ):  # fmt: skip
        if values.any():
            _line(top, time, values, label=label, color=colour, linestyle=style)
    _line(top, time, total, label="total", color=INK, linewidth=1.8)
    top.set_ylabel(currency)
    top.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=5, borderaxespad=0.2, handlelength=1.6, columnspacing=1.0)
    below = total - np.maximum.accumulate(np.maximum(total, 0.0))
    chosen = _thinned(below)
    bottom.fill_between(time[chosen], below[chosen], 0, color=VERMILLION, alpha=0.35, linewidth=0)
    bottom.set_ylabel("below\npeak")
    bottom.set_xlabel(unit)


def _inventory(axes: Axes, recorder: Recorder, name: str, trace: Trace) -> None:
    time, unit = _elapsed(recorder)
    grid = trace.desk.instrument
    position = np.array(recorder.positions[name]) / grid.lots_per_base
    mid = np.array(recorder.mids[name], dtype=np.float64) / (2 * grid.ticks_per_quote)
    mid[mid == 0.0] = np.nan
    limit = recorder.max_position / MONEY_SCALE / mid
    _line(axes, time, limit, color=VERMILLION, linestyle="--", label="limit")
    _line(axes, time, -limit, color=VERMILLION, linestyle="--")
    _line(axes, time, position, color=BLUE, label="position", drawstyle="steps-post")
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.set_xlabel(unit)
    axes.set_ylabel(f"position, {grid.base}")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.2)


def _fills(axes: Axes, recorder: Recorder, name: str, trace: Trace, every: int) -> None:
    time, unit = _elapsed(recorder)
    grid, log = trace.desk.instrument, trace.log
    mid = np.array(recorder.mids[name], dtype=np.float64) / (2 * grid.ticks_per_quote)
    mid[mid == 0.0] = np.nan
    _line(axes, time, mid, color=GREY, linewidth=0.9, label="mid")
    ts = (np.array(log.ts[::every]) - recorder.start) / SECOND / _unit(recorder)[0]
    price, side = np.array(log.price[::every]) / grid.ticks_per_quote, np.array(log.side[::every])
    small = len(ts) > 300
    for sign, label, marker, colour in ((1, "buy", "^", BLUE), (-1, "sell", "v", VERMILLION)):
        axes.plot(
            ts[side == sign], price[side == sign], linestyle="", marker=marker, markersize=3 if small else 5,
            markeredgewidth=0, alpha=0.75, color=colour, label=label,
        )  # fmt: skip
    axes.set_xlabel(unit)
    axes.set_ylabel(f"price, {grid.quote}")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.2, markerscale=1.6 if small else 1)


def _markouts(axes: Axes, metrics: InstrumentMetrics) -> None:
    places = np.arange(len(HORIZONS_S), dtype=np.float64)
    looks = ((-0.18, "buy", "^", BLUE), (0.0, "all", "o", INK), (0.18, "sell", "v", VERMILLION))
    for shift, side, marker, colour in looks:
        chosen = [each for each in metrics.markouts if each.side == side]
        mean = _column([each.mean_bps for each in chosen])
        low, high = _column([each.low for each in chosen]), _column([each.high for each in chosen])
        reach = np.nan_to_num(np.maximum(np.array([mean - low, high - mean]), 0.0))
        axes.errorbar(
            places + shift, mean, yerr=reach, linestyle="", marker=marker, markersize=6, capsize=3, color=colour,
            label=side,
        )  # fmt: skip
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.set_xticks(places, [f"{horizon} s" for horizon in HORIZONS_S])
    axes.set_xlim(-0.5, len(HORIZONS_S) - 0.5)
    axes.grid(visible=False, axis="x")
    axes.set_xlabel("after the fill")
    axes.set_ylabel("markout, bp")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.2)


def _time_by_position(axes: Axes, trace: Trace) -> None:
    places = np.arange(BINS) - BINS // 2
    shares = 100 * np.array(trace.bins) / max(1, trace.time)
    at_limit = np.abs(places) >= round(10 * AT_LIMIT)
    axes.bar(places[~at_limit], shares[~at_limit], width=0.8, color=BLUE)
    axes.bar(places[at_limit], shares[at_limit], width=0.8, color=VERMILLION, hatch="///", edgecolor=PAPER)
    axes.set_xticks([-10, -5, 0, 5, 10], ["-100 %\nshort", "-50 %", "flat", "50 %", "100 %\nlong"])
    axes.grid(visible=False, axis="x")
    axes.set_ylabel("% of the time")


def _line(axes: Axes, time: Floats, values: Floats, **style: Any) -> None:
    chosen = _thinned(values)
    axes.plot(time[chosen], values[chosen], **style)


def _thinned(values: Floats) -> Indices:
    """Return the indices of a line's points to draw: of each stretch the first, the lowest and the highest."""
    count = len(values)
    if count <= POINTS:
        return np.arange(count)
    chosen = {0, count - 1}
    for part in np.array_split(np.arange(count), POINTS // 3):
        stretch = np.nan_to_num(values[part])
        chosen |= {int(part[0]), int(part[stretch.argmin()]), int(part[stretch.argmax()])}
    return np.array(sorted(chosen), dtype=np.int64)


def _elapsed(recorder: Recorder) -> tuple[Floats, str]:
    """Return the samples' times since the start and the axis label."""
    seconds, label = _unit(recorder)
    return (np.array(recorder.ts, dtype=np.int64) - recorder.start) / SECOND / seconds, label


def _unit(recorder: Recorder) -> tuple[float, str]:
    span: Nanos = recorder.span
    for seconds, name, most in ((1.0, "seconds", 180), (60.0, "minutes", 180), (3600.0, "hours", 72)):
        if span <= most * seconds * SECOND:
            return seconds, f"{name} since the start"
    return 86_400.0, "days since the start"


def _column(values: Sequence[float | None]) -> Floats:
    return np.array([float("nan") if value is None else value for value in values])


def _svg(paint: Callable[[Sequence[Axes]], None], rows: tuple[int, ...] = (1,)) -> str:
    with mpl.rc_context():
        mpl.rcdefaults()  # whatever this box's own matplotlibrc says
        mpl.rcParams.update(_STYLE)
        canvas = Canvas(figsize=SIZE, layout="constrained")
        axes = canvas.subplots(len(rows), 1, sharex=True, height_ratios=rows, squeeze=False)[:, 0]
        paint(list(axes))
        buffer = io.StringIO()
        canvas.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def _percent(share: float | None) -> str:
    return "?" if share is None else f"{100 * share:.1f} %"


def _file_name(name: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in name)
