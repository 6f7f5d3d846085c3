"""mmpi calibrate: the numbers that quoters and simulators are built on, fitted to a recorded market.

Invariant: it prints and changes nothing; what was fitted goes into a configuration or a module by hand.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from mmpi.config.schema import dotted
from mmpi.errors import ConfigError
from mmpi.research import queue_truth
from mmpi.research.dataset import find_set, instrument_for, open_dataset
from mmpi.research.order_by_order import SUFFIXES
from mmpi.signals.micro_price import FITTED, MicroPriceTable, table_for
from mmpi.sim.exchange import SimConfig
from mmpi.sim.market_fit import FittedMarket
from mmpi.sim.queue_models import CONSERVATIVE, FITTED_POWER, POWER_LAW, PROPORTIONAL

try:
    from mmpi.research import fit_intensity, fit_market, fit_micro_price
except ImportError as error:
    raise ConfigError(f"calibrate needs the research extra ({error.name} is missing); run: make setup") from None

if TYPE_CHECKING:
    from mmpi.research.fit_intensity import Curve, Fit

Progress = Callable[[float], None]
ERRORS: Final = ("mean_abs", "rms", "bias")


def run(args: argparse.Namespace) -> int:
    """Return 0 once the fit is printed; ConfigError if the data is not enough for one."""
    show = _progress if sys.stderr.isatty() and not args.json else None
    if show is not None:
        show(0.0)
    try:
        content, lines = FITS[args.what](args, show)
    finally:
        if show is not None:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    if args.json:
        print(msgspec.json.encode({"what": args.what, **content}).decode(), flush=True)
    else:
        print("\n".join(lines))
    return 0


def toml(name: str, k_per_bp: float, arrivals_per_s: float) -> str:
    """Return the lines for a configuration file that give an instrument's quoters this intensity."""
    return "\n".join(
        (
            f"[{dotted(('instruments', name, 'avellaneda_stoikov'))}]",
            f"k_per_bp = {k_per_bp:.4g}",
            f"[{dotted(('instruments', name, 'glft'))}]",
            f"k_per_bp = {k_per_bp:.4g}",
            f"arrivals_per_s = {arrivals_per_s:.4g}",
        )
    )


def _intensity(args: argparse.Namespace, show: Progress | None) -> tuple[dict[str, object], list[str]]:
    fit = fit_intensity.run(args.data, args.instrument, args.tick, args.lot, args.hold, show)
    pasted = toml(fit.instrument, fit.pooled.k_per_bp, fit.pooled.A_per_s)
    return {**fit.report(), "toml": pasted}, [*_intensity_lines(fit), "", "# for the configuration file:", pasted]


def _intensity_lines(fit: "Fit") -> list[str]:
    lines = [
        f"fill intensity of {fit.instrument}, {fit.data}: {fit.seconds:.0f} s, {fit.sweeps} sweeps, mid {fit.mid:g}, "
        f"half spread {fit.half_spread_bps:.3g} bp, orders held {fit.hold_s:g} s",
        f"{'':<8}{'A, per s':>20}{'k, per bp':>20}{'k, per tick':>24}{'R^2':>8}",
    ]
    for name, curve in (("pooled", fit.pooled), ("bids", fit.bid), ("asks", fit.ask)):
        lines.append(f"{name:<8}{'too few hits' if curve is None else _numbers(curve)}")
    lines.append(f"{'bp':>12}{'ticks':>10}{'hits':>8}{'seconds':>10}{'per s':>10}{'fitted':>10}   (both sides)")
    for each in (fit.touch, *fit.pooled.depths):
        note = "   the best price: not fitted" if each is fit.touch else ""
        lines.append(
            f"{each.bps:>12.4g}{each.ticks:>10g}{each.hits:>8}{each.seconds:>10.0f}{each.rate:>10.3g}"
            f"{each.fitted:>10.3g}{note}"
        )
    return lines


def _numbers(curve: "Curve") -> str:
    pairs = [
        (20, curve.A_per_s, curve.se["A_per_s"]),
        (20, curve.k_per_bp, curve.se["k_per_bp"]),
        (24, curve.k_per_tick, curve.se["k_per_tick"]),
    ]
    texts = [f"{f'{value:.4g} +- {error:.2g}':>{width}}" for width, value, error in pairs]
    return "".join(texts) + f"{curve.r2:>8.3f}"


def _micro_price(args: argparse.Namespace, _: Progress | None) -> tuple[dict[str, object], list[str]]:
    name = instrument_for(args.data, args.instrument).name
    fit = fit_micro_price.run(args.data, args.instrument, args.buckets, args.max_spread, args.test)
    shipped = table_for(name)
    same = "none" if shipped is None else "this one" if shipped == fit.table else "another one"
    content = {**fit.report(), "instrument": name, "shipped": same}
    lines = [
        f"micro-price of {name}, {args.data}: {fit.observations} touches, {fit.table.buckets} parts of the imbalance",
        *_table(fit.table),
        "how far the mid is from each estimate some time later, in steps of the price; bias 0 would be a martingale",
        f"{'':<18}{'in sample':^32}  {f'out of sample ({fit.test})'}",
        f"{'':<18}" + 2 * (f"{'n':>8}" + "".join(f"{name:>9}" for name in ERRORS)),
    ]
    for key, inside in fit.in_sample.items():
        pair = (inside, fit.out_of_sample.get(key))
        lines.append(f"{key:<18}" + "".join(_errors(each) for each in pair if each))
    lines.append(f"shipped tables: mmpi/signals/micro_price.py, of {', '.join(FITTED)}; that of {name}: {same}")
    return content, lines


def _table(table: MicroPriceTable) -> list[str]:
    """Return the table in the form in which the module of the shipped ones has it."""
    rows = "".join(f"({', '.join(map(str, row))})," for row in table.adjust)
    return [
        f"MicroPriceTable(buckets={table.buckets}, max_spread={table.max_spread}, step={table.step},",
        f"                adjust=({rows}))",
    ]


def _errors(each: dict[str, float]) -> str:
    return f"{each['n']:>8.0f}" + "".join(f"{each[name]:>9.4f}" for name in ERRORS)


def _queue(args: argparse.Namespace, show: Progress | None) -> tuple[dict[str, object], list[str]]:
    """Fit the power on the first half, compare the models on the second."""
    path = find_set(args.data).orders
    if path is None:
        raise ConfigError(
            f"--data {args.data}: not recorded order by order; the queue's truth needs a file whose name ends in one "
            f"of {', '.join(SUFFIXES)}"
        )
    listed = instrument_for(path, args.instrument, args.tick, args.lot)

    def part(done: float) -> Progress | None:
        return None if show is None else lambda share: show((done + share) / 2)

    fitted = queue_truth.fit(
        path, listed, orders=args.orders, horizon_s=args.horizon, seed=args.seed,
        book_interval_s=args.book_interval, progress=part(0.0),
    )  # fmt: skip
    powers = fitted.scores[1:]
    best = min(powers, key=lambda score: score.mean_absolute_error).power
    models = [SimConfig(queue=CONSERVATIVE), SimConfig(queue=PROPORTIONAL),
              SimConfig(queue=POWER_LAW, queue_power=best)]  # fmt: skip
    tested = queue_truth.run(
        path, listed, orders=args.orders, horizon_s=args.horizon, seed=args.seed, part=(0.5, 1.0), models=models,
        book_interval_s=args.book_interval, progress=part(1.0),
    )  # fmt: skip
    content = {
        "instrument": listed.name, "fitted_power": best, "shipped_power": FITTED_POWER, "powers": powers,
        **msgspec.structs.asdict(tested),
    }  # fmt: skip
    lines = [
        f"queue models on {path.name}; the power is fitted on the first half, all else is the second half",
        queue_truth.in_words(tested),
        f"error on the first half by power: {', '.join(f'{s.power:g}: {s.mean_absolute_error:.4f}' for s in powers)}",
        f"fitted power {best:g} (the smallest of equally good ones); shipped as the default: {FITTED_POWER:g}",
    ]
    return content, lines


def _market(args: argparse.Namespace, _: Progress | None) -> tuple[dict[str, object], list[str]]:
    listed = instrument_for(Path(args.data), args.instrument, args.tick, args.lot)
    found: FittedMarket = fit_market.fit(open_dataset(args.data, listed))
    numbers = msgspec.structs.asdict(found)
    lines = [f"market of {listed.name}, {found.source} (0 = none was seen, or the recording is too short for it)"]
    lines += [f"{key:<18}{value}" for key, value in numbers.items() if not isinstance(value, tuple)]
    lines += [f"{key:<18}{value}" for key, value in numbers.items() if isinstance(value, tuple)]
    lines.append("shipped numbers: mmpi/sim/market_fit.py")
    return {"data": found.source, "instrument": listed.name, "market": numbers}, lines


def _progress(share: float) -> None:
    print(f"\rmmpi calibrate: {100 * share:3.0f}%", end="", file=sys.stderr, flush=True)


FITS: Final = {"intensity": _intensity, "micro_price": _micro_price, "queue": _queue, "market": _market}
