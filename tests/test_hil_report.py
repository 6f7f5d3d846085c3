"""hil.report and hil.timeline: what is told of scenarios, those that did not run too."""

import time
from pathlib import Path
from typing import Any

from hil.report import FAILED, NOT_RUN, PASSED, Result, drawing, keep, page
from hil.rig import PINS
from hil.scenarios import Scenario, load
from hil.timeline import Timeline

STORY = {
    "samples": [(0.0, 0), (0.1, 4), (0.9, 4), (1.0, 2), (1.1, 0), (2.0, 0)],
    "events": [(0.05, "quoting"), (0.85, "the <button> is pressed")],
    "trouble_at": 0.85,
    "silent": 0,
}


class Asked:
    """A venue with so many orders, one after the other; an exception is no answer."""

    def __init__(self, *answers: int | OSError) -> None:
        self.answers = list(answers)

    def orders(self) -> list[dict[str, Any]]:
        """Return as many as the next answer says, the last for ever."""
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, OSError):
            raise answer
        return [{}] * answer


def test_exposure_is_from_the_first_trouble_to_the_first_zero() -> None:
    """An empty venue before the trouble is none, nor is one that does not answer; the second trouble does not count."""
    with Timeline(Asked(0, 3, 3, OSError(), 2, 0)) as timeline:  # type: ignore[arg-type]
        while not any(live == 3 for _, live in timeline.samples):
            time.sleep(0.001)
        began = timeline.trouble("first")
        timeline.trouble("second")
        while timeline.exposure() is None:
            time.sleep(0.001)
    assert timeline.trouble_at == began and len(timeline.silent) == 1
    zero = timeline.first_zero(began)
    assert zero is not None and timeline.exposure() == zero - began > 0
    assert timeline.last_live(began, zero) is not None and timeline.last_live(zero, timeline.now) is None


def test_without_trouble_there_is_no_exposure() -> None:
    """Nothing is made up."""
    with Timeline(Asked(0)) as timeline:  # type: ignore[arg-type]
        while not timeline.samples:
            time.sleep(0.001)
    assert timeline.exposure() is None


def test_a_drawing_tells_what_happened() -> None:
    """A step for each change, a mark for each event with its words, safe as HTML; the trouble's is spelt out."""
    shown = drawing(STORY)
    assert shown.count("V") == 3 and shown.count("<line") == 2
    assert "the &lt;button&gt; is pressed" in shown and "<button>" not in shown
    assert shown.count('fill="#b00020"') == 1
    assert drawing({"samples": []}) == "<p>The venue was not seen.</p>"


def test_results_of_several_rigs_stand_together(tmp_path: Path) -> None:
    """A rig's new result takes the place of its old one, and of no other rig's."""
    path = tmp_path / "deep" / "results.json"
    keep(path, [Result("nspawn", "a", FAILED, "why"), Result("virt", "a", PASSED)])
    whole = keep(path, [Result("nspawn", "a", PASSED, exposure_s=0.4)])
    assert [(each.rig, each.result) for each in whole] == [("virt", PASSED), ("nspawn", PASSED)]
    assert keep(path, []) == whole


def test_the_page_leaves_nothing_out() -> None:
    """What passed, what failed and why, what a rig could not play and what nobody played, each in its cell."""
    scenarios = {
        name: Scenario(name, f"promise of {name}", frozenset({PINS}), limit, lambda _: None)
        for name, limit in (("press_it", 1.0), ("cut_it", None), ("heat_it", None))
    }
    results = [
        Result("nspawn", "press_it", PASSED, seed=3, exposure_s=0.321, timeline=STORY),
        Result("nspawn", "cut_it", FAILED, "4 orders <alive>", timeline=STORY),
        Result("nspawn", "heat_it", NOT_RUN, "this rig has no sensors"),
    ]
    shown = page(results, scenarios, ("nspawn", "virt"))
    assert "passed 0.32 s (1 s)" in shown and "4 orders &lt;alive&gt;" in shown
    assert "not run: this rig has no sensors" in shown
    assert shown.count("not run: nobody played it") == 3
    assert shown.count("<svg") == 2 and shown.count("promise of") == 3


def test_every_scenario_says_what_it_promises() -> None:
    """None is without a promise, a story, or a need that a rig may have."""
    for name, each in load().items():
        assert each.name == name and each.promise and each.play.__doc__
        assert each.needs
    assert len(load()) >= 15
