"""Report: what was played on which rig, how long orders were exposed, and each timeline as a drawing, in one HTML file.

What did not run is told as such. Results of several runs stand together until they are made anew.
Invariant: nothing is left out because it is awkward. It must not know rigs.
"""

import fcntl
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from hil.scenarios import Scenario

PASSED: Final = "passed"
FAILED: Final = "FAILED"
NOT_RUN: Final = "not run"
WIDTH: Final = 720
HEIGHT: Final = 110
EDGE: Final = 34
STYLE: Final = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: #1b1b1b; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .35rem .6rem; border-bottom: 1px solid #ddd; vertical-align: top; }
.passed { color: #12702f; } .FAILED { color: #b00020; font-weight: 700; } .not { color: #777; }
figure { margin: 1rem 0 2.2rem; } figcaption { margin-bottom: .3rem; }
svg { background: #fafafa; width: 100%; height: auto; }
code { background: #f1f1f1; padding: 0 .25rem; }
"""


class Result(msgspec.Struct):
    """One scenario on one rig."""

    rig: str
    scenario: str
    result: str
    why: str = ""
    seed: int = 0
    exposure_s: float | None = None
    fills: int = 0
    seconds: float = 0.0
    timeline: dict[str, Any] = {}
    played: str = ""
    """When, and of what: the source's digest."""


def keep(path: Path, results: Sequence[Result]) -> list[Result]:
    """Return these with those of `path` that they do not take the place of, and keep all of them there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        fresh = {(each.rig, each.scenario) for each in results}
        whole = [each for each in read(path) if (each.rig, each.scenario) not in fresh] + list(results)
        new = path.with_suffix(".new")
        new.write_bytes(msgspec.json.encode(whole))
        new.replace(path)
    return whole


def read(path: Path) -> list[Result]:
    """Return the results of a file, none if there is no such file; ValueError if it is no such file."""
    return msgspec.json.decode(path.read_bytes(), type=list[Result]) if path.exists() else []


def page(results: Sequence[Result], scenarios: Mapping[str, Scenario], rigs: Sequence[str]) -> str:
    """Return the report."""
    known = {(each.rig, each.scenario): each for each in results}
    rows = "".join(_row(each, [known.get((rig, name)) for rig in rigs]) for name, each in scenarios.items())
    head = "".join(f"<th>{html.escape(rig)}</th>" for rig in rigs)
    drawn = "".join(_figure(each, scenarios) for each in results if each.result != NOT_RUN)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>mmpi: scenarios</title><style>{STYLE}</style>'
        "<h1>What happens to a box when ...</h1><p>Exposure: from the first instant of trouble until the venue was "
        "first seen without an order of the box. The allowed time is in brackets, with what it took to bring the "
        "trouble about, where a rig is not reached at once.</p>"
        f"<table><tr><th>scenario</th><th>promise</th>{head}</tr>{rows}</table><h2>Timelines</h2>"
        "<p>How many orders were alive at the venue. Red: the trouble. To play one again: "
        f"<code>make hil ARGS=\"--rig RIG -k SCENARIO --seed SEED\"</code>.</p>{drawn}</html>\n"
    )


def _row(scenario: Scenario, cells: Sequence[Result | None]) -> str:
    told = "".join(_cell(scenario, each) for each in cells)
    return f"<tr><td>{scenario.name.replace('_', ' ')}</td><td>{html.escape(scenario.promise)}</td>{told}</tr>"


def _cell(scenario: Scenario, result: Result | None) -> str:
    if result is None or result.result == NOT_RUN:
        why = result.why if result is not None else "nobody played it"
        return f'<td class="not">not run: {html.escape(why)}</td>'
    shown = "" if result.exposure_s is None else f" {result.exposure_s:.2f} s"
    took = result.timeline.get("took", 0.0)
    more = f" + {took:.1f} s" if took >= 0.05 else ""
    allowed = "" if scenario.limit_s is None else f" ({scenario.limit_s:g} s{more})"
    return f'<td class="{result.result}">{result.result}{shown}{allowed}</td>'


def _figure(result: Result, scenarios: Mapping[str, Scenario]) -> str:
    name = result.scenario.replace("_", " ")
    known = scenarios.get(result.scenario)
    story = (known.play.__doc__ or "").strip() if known is not None else ""
    why = f'<p class="FAILED">{html.escape(result.why)}</p>' if result.why else ""
    told = f"seed {result.seed}, {result.seconds:.0f} s, {result.fills} fills; played {html.escape(result.played)}"
    played = f"<b>{name}</b> on {html.escape(result.rig)}, {told}."
    caption = f"{played} {html.escape(story)}"
    return f"<figure><figcaption>{caption}</figcaption>{why}{drawing(result.timeline)}</figure>"


def drawing(timeline: Mapping[str, Any]) -> str:
    """Return a timeline as SVG: live orders over seconds, and what happened when."""
    samples: list[tuple[float, int]] = timeline.get("samples", [])
    if len(samples) < 2:
        return "<p>The venue was not seen.</p>"
    last, most = samples[-1][0] or 1.0, max(live for _, live in samples) or 1

    def x(at: float) -> float:
        return round(EDGE + at / last * (WIDTH - 2 * EDGE), 1)

    def y(live: float) -> float:
        return round(HEIGHT - 18 - live / most * (HEIGHT - 44), 1)

    steps, before = [f"M{x(samples[0][0])} {y(samples[0][1])}"], samples[0][1]
    for at, live in samples:
        if live != before:
            steps.append(f"H{x(at)}V{y(live)}")
            before = live
    steps.append(f"H{x(last)}")
    trouble = timeline.get("trouble_at")
    marks = "".join(_mark(x(at), what, at == trouble) for at, what in timeline.get("events", []))
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img"><path d="{"".join(steps)}" fill="none" stroke="#2458a6" '
        f'stroke-width="1.6"/>{marks}<text x="2" y="{y(most) + 4}" font-size="10">{most}</text>'
        f'<text x="2" y="{y(0) + 4}" font-size="10">0</text>'
        f'<text x="{WIDTH - EDGE + 4}" y="{HEIGHT - 6}" font-size="10">{last:.0f} s</text></svg>'
    )


def _mark(at: float, what: str, trouble: bool) -> str:
    colour = "#b00020" if trouble else "#999"
    title = f"<title>{html.escape(what)}</title>"
    line = f'<line x1="{at}" x2="{at}" y1="14" y2="{HEIGHT - 18}" stroke="{colour}" stroke-dasharray="3 2"/>'
    label = f'<text x="{at}" y="11" font-size="9" fill="{colour}" text-anchor="middle">{html.escape(what[:34])}</text>'
    return f"<g>{title}{line}{label if trouble else ''}</g>"
