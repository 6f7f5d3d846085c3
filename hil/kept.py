"""Kept: what a campaign keeps in its folder, so that it can be ended at any time and goes on where it was.

`campaign.json` has every plan that was played and its outcome; `failures/NNN.json` the smallest plan that fails, with
its timeline and the line that plays it again.

Invariant: a file is written whole or not at all, and the results of one campaign never stand beside those of another:
of another seed, rig or source, nor of two that run at once. It must not know how a plan is played.
"""

import fcntl
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from hil.judgement import Verdict
from hil.plans import Plan, told
from hil.report import FAILED
from hil.shrink import Shrunk
from hil.source import digest
from hil.trixie import ROOT

STATE: Final = "campaign.json"
FAILURES: Final = "failures"
BROKE_DOWN: Final = "rig broke down"
"""A result: nothing is known of the box."""
SOURCES: Final[Mapping[str, tuple[str, ...]]] = {
    "package": ("mmpi/**/*.py",),
    "units": ("systemd/**/*", "scripts/install-service"),
    "scenarios": ("hil/**/*.py",),
}


class OtherError(Exception):
    """The folder has another campaign, or is another's; the text says what differs."""


class Played(msgspec.Struct):
    """One plan, and what became of it."""

    number: int
    plan: Plan
    result: str
    why: str = ""
    seconds: float = 0.0
    verdicts: list[Verdict] = []
    repeated: bool = True
    """Of a failure: it failed again when it was played again."""
    shrunk: str = ""
    """How far it was shrunk, in words."""


class State(msgspec.Struct):
    """A campaign."""

    key: dict[str, str]
    played: list[Played] = []
    cut_short: list[str] = []
    """What was begun and not played to its end, by Ctrl-C; it is played anew."""

    @property
    def seed(self) -> int:
        """Return the seed."""
        return int(self.key["seed"])


class Failure(msgspec.Struct):
    """One failure, as its file has it."""

    plan: Plan
    seed: int
    number: int
    rig: str
    why: str
    again: str
    """The line that plays it again."""
    whole: Plan
    """As it was drawn."""
    repeated: bool
    shrunk: str
    key: dict[str, str]
    log: str
    timeline: dict[str, Any]


def key(seed: int, rig: str, root: Path = ROOT) -> dict[str, str]:
    """Return what a campaign's results hold for, beside what the rig can."""
    return {"seed": str(seed), "rig": rig} | {name: digest(root, patterns) for name, patterns in SOURCES.items()}


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Have a folder for one campaign; OtherError if another one that runs has it. It is given back however we end."""
    folder.mkdir(parents=True, exist_ok=True)
    place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OtherError(
                f"--folder {folder}: in use by another campaign; allowed: another --folder, or that one's end"
            ) from None
        yield
    finally:
        os.close(place)


def begin(folder: Path, wanted: dict[str, str]) -> State:
    """Return the campaign of a folder, or a new one; OtherError if that one differs in `wanted`, and is left alone."""
    path = folder / STATE
    if not path.exists():
        return State(wanted)
    try:
        state = msgspec.json.decode(path.read_bytes(), type=State)
    except msgspec.MsgspecError as error:
        raise OtherError(f"--folder {folder}: {STATE}: {error}; allowed: another --folder, or move it away") from None
    differing = [
        f"{name}: {state.key.get(name, 'unknown')} (now {now})"
        for name, now in wanted.items()
        if state.key.get(name) != now
    ]
    if differing:
        raise OtherError(
            f"--folder {folder}: has another campaign, of {', of '.join(differing)}; nothing was changed; allowed: the"
            " same again, another --folder, or move this one away"
        )
    return state


def keep(folder: Path, state: State) -> None:
    """Write the campaign."""
    _write(folder / STATE, msgspec.json.encode(state))


def keep_failure(folder: Path, state: State, number: int, whole: Plan, shrunk: Shrunk) -> Path:
    """Write a failure; return its file."""
    path = folder / FAILURES / f"{number:03}.json"
    failure = Failure(
        plan=shrunk.plan, seed=state.seed, number=number, rig=state.key["rig"], why=shrunk.outcome.why,
        again=f"python -m hil.campaign --repeat {path}", whole=whole, repeated=shrunk.repeated, shrunk=in_words(shrunk),
        key=state.key, log=shrunk.outcome.log, timeline=shrunk.outcome.timeline,
    )  # fmt: skip
    _write(path, msgspec.json.format(msgspec.json.encode(failure), indent=1))
    return path


def in_words(shrunk: Shrunk) -> str:
    """Return how far a failure was shrunk."""
    tried = f"{shrunk.replays} replays"
    if shrunk.repeated:
        said = f"{told(shrunk.plan)}; {tried}, then {shrunk.ended or 'no smaller one fails'}"
    elif shrunk.replays:
        said = f"did not repeat: {tried}" + (f", then {shrunk.ended}" if shrunk.ended else "")
    else:
        said = f"not played again: {shrunk.ended}"
    return "; on the way: ".join([said, *shrunk.aside])


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.new")
    with fresh.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


# What is told of it ---------------------------------------------------------------------------------------------------


def summary(state: State, not_run: list[str]) -> dict[str, Any]:
    """Return what is told at the end."""
    failed = [each for each in state.played if each.result == FAILED]
    down = [each for each in state.played if each.result == BROKE_DOWN]
    return {
        **{name: state.key.get(name, "") for name in ("seed", "rig", *SOURCES)},
        "played": len(state.played),
        "failed": len(failed),
        "broke_down": len(down),
        "troubles": dict(sorted(Counter(step.trouble for each in state.played for step in each.plan).items())),
        "worst": worst(verdict for each in state.played for verdict in each.verdicts),
        "failures": [
            {"number": each.number, "why": each.why, "repeated": each.repeated, "shrunk": each.shrunk,
             "file": f"{FAILURES}/{each.number:03}.json"}
            for each in failed
        ],
        "breakdowns": [{"number": each.number, "why": each.why} for each in down],
        "not_run": [*not_run, *(f"{each}; it is played anew" for each in state.cut_short)],
    }  # fmt: skip


def worst(verdicts: Iterable[Verdict]) -> dict[str, dict[str, float]]:
    """Return the longest exposure under each trouble, and what was allowed there."""
    found: dict[str, Verdict] = {}
    for each in verdicts:
        if each.trouble not in found or each.exposure_s > found[each.trouble].exposure_s:
            found[each.trouble] = each
    return {
        name: {"exposure_s": each.exposure_s, "allowed_s": each.allowed_s} for name, each in sorted(found.items())
    }


def in_lines(told_of: Mapping[str, Any]) -> str:
    """Return a summary as a person reads it."""
    down = told_of["broke_down"]
    lines = [f"hil campaign: seed {told_of['seed']} on {told_of['rig']}: {told_of['played']} plans played, "
             f"{told_of['failed']} failed" + f", {down} ended by a rig that broke down" * bool(down)]  # fmt: skip
    if counted := told_of["troubles"]:
        lines += ["troubles played: " + ", ".join(f"{name} {count}" for name, count in counted.items())]
    lines += [
        f"  worst exposure: {name:<16} {each['exposure_s']:6.2f} s, where {each['allowed_s']:.2f} s were allowed"
        for name, each in told_of["worst"].items()
    ]
    for each in told_of["failures"]:
        lines += [f"{FAILED}: plan {each['number']} ({each['file']}): {each['why']}", f"  {each['shrunk']}"]
    lines += [f"{BROKE_DOWN}: plan {each['number']}: {each['why']}" for each in told_of["breakdowns"]]
    return "\n".join([*lines, *(f"not run: {each}" for each in told_of["not_run"])])
