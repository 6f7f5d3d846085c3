"""Fault campaign: `mmpi run` at a practice server on which everything goes wrong at random, then a stop, and a judge.

    .venv/bin/python -m tests.fault_campaign --seeds 1-20 --seconds 60 --parallel 4 --report campaign/report.json

Each seed is a process of its own with a box of its own. The report is written after each seed, so that a campaign that
was ended can go on with `--resume`; a seed that did not run is reported as not run. Exit 1 unless every seed passed.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parent))

from fault_box import Plan, plan_of, play  # noqa: E402
from fault_judge import judge  # noqa: E402

from mmpi.errors import ConfigError  # noqa: E402
from mmpi.runtime.build import build_id  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
PASS, FAIL, NOT_RUN = "PASS", "FAIL", "NOT RUN"
GRACE_S = 180.0
"""What a seed may take beside its seconds: to start under faults, to stop, to be watched, replayed and judged."""
MAX_REASON = 4000


class Result(msgspec.Struct):
    """What became of one seed."""

    seed: int
    verdict: str = NOT_RUN
    reasons: list[str] = []
    notes: list[str] = []
    kind: str = ""
    faults: dict[str, int] = {}
    """How often each kind of fault struck."""
    counts: dict[str, int] = {}
    gaps: dict[str, float] = {}
    starts: int = 0
    """How often the quoter was started until it quoted."""
    took_s: float = 0.0


class Report(msgspec.Struct):
    """A campaign: what was asked for, and what became of each seed."""

    seeds: str
    seconds: float
    tls: bool
    build: str
    """Of the code that decides (`mmpi.runtime.build`); the latest, if it was resumed with another."""
    results: list[Result] = []
    complete: bool = False

    def result(self, seed: int) -> Result | None:
        """Return what became of a seed, None if it has not run."""
        return next((each for each in self.results if each.seed == seed and each.verdict != NOT_RUN), None)

    def take(self, result: Result) -> None:
        """Put a result in its place."""
        kept = [each for each in self.results if each.seed != result.seed]
        self.results = sorted([*kept, result], key=lambda each: each.seed)
        self.complete = all(each.verdict != NOT_RUN for each in self.results)


def run_seed(plan: Plan, folder: Path) -> Result:
    """Return what becomes of a seed, played here and now; whatever keeps it from its end is a failure."""
    began, result = time.monotonic(), Result(plan.seed, FAIL, kind=plan.kind)
    try:
        played = play(plan, folder)
        verdict = judge(played.evidence)
        result.reasons, result.notes = verdict.reasons, verdict.notes
        result.counts, result.gaps, result.starts = verdict.counts, verdict.gaps, played.starts
        result.faults = played.evidence.faults
        result.verdict = FAIL if verdict.reasons else PASS
    except Exception as error:
        result.reasons.append(f"crash: {type(error).__name__}: {error}"[:MAX_REASON])
    result.took_s = round(time.monotonic() - began, 1)
    return result


# Many seeds -----------------------------------------------------------------------------------------------------------


class Campaign:
    """Plays seeds, some at a time, each in a process of its own."""

    def __init__(self, seconds: float, *, tls: bool, keep: Path | None, said: Callable[[str], None]) -> None:
        """`keep`: where the folders of seeds that failed are moved to; otherwise they are deleted as all others."""
        self._seconds, self._tls, self._keep, self._say = seconds, tls, keep, said
        self._children: dict[int, subprocess.Popen[str]] = {}
        self._lock = threading.Lock()
        self.ended = ""
        """Why no further seed is begun, "" = they are."""

    def play(self, seeds: Sequence[int], parallel: int) -> Iterator[Result]:
        """Return results as they come; a seed that was not begun, or not let to its end, is NOT RUN."""
        with ThreadPoolExecutor(parallel) as pool:
            for future in as_completed([pool.submit(self._one, seed) for seed in seeds]):
                yield future.result()

    def end(self, why: str, *, now: bool) -> None:
        """Begin no further seed; with `now` end those that run, too."""
        self.ended = self.ended or why
        if now:
            with self._lock:
                for child in self._children.values():
                    _end_group(child)

    def _one(self, seed: int) -> Result:
        if self.ended:
            return Result(seed, reasons=[self.ended])
        folder = Path(tempfile.mkdtemp(prefix=f"mmpi-fault-{seed}-"))
        began = time.monotonic()
        child = self._begin(seed, folder)
        try:
            out, err = child.communicate(timeout=self._seconds + GRACE_S)
            result = _told(seed, child.returncode, out, err)
        except subprocess.TimeoutExpired:
            result = Result(seed, FAIL, [f"timeout: not over after {time.monotonic() - began:.0f} s"])
        finally:
            _end_group(child)
            child.communicate()
            with self._lock:
                del self._children[seed]
        if self.ended and child.returncode < 0:
            result = Result(seed, reasons=[f"{self.ended}, after {time.monotonic() - began:.0f} s of it"])
        result.reasons = [_without_places(reason, folder) for reason in result.reasons]
        self._put_away(seed, folder, failed=result.verdict == FAIL)
        return result

    def _begin(self, seed: int, folder: Path) -> "subprocess.Popen[str]":
        words = ["--seeds", str(seed), "--seconds", str(self._seconds), "--only-in", str(folder)]
        command = [sys.executable, "-m", "tests.fault_campaign", *words, *(["--tls"] if self._tls else [])]
        with self._lock:
            # A group of its own: whatever becomes of it, its server, guardian and quoter can be ended with it.
            child = subprocess.Popen(
                command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
            )
            self._children[seed] = child
        return child

    def _put_away(self, seed: int, folder: Path, *, failed: bool) -> None:
        if failed and self._keep is not None:
            _make_folder(self._keep)
            target = self._keep / f"seed-{seed}"
            shutil.rmtree(target, ignore_errors=True)
            shutil.move(folder, target)
            self._say(f"seed {seed}: its folder is kept in {target}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def _end_group(child: "subprocess.Popen[str]") -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


def _told(seed: int, code: int, out: str, err: str) -> Result:
    """Return the result that a seed's process printed as its last line; without one it crashed."""
    lines = out.strip().splitlines()
    try:
        return msgspec.json.decode(lines[-1] if lines else "", type=Result)
    except msgspec.MsgspecError:
        return Result(seed, FAIL, [f"crash: exit {code} without a result: {err[-MAX_REASON:]}"])


def _without_places(text: str, folder: Path) -> str:
    """Return text in which this machine's folders have names instead of paths."""
    return text.replace(str(folder), "FOLDER").replace(str(ROOT), "ROOT")


# What is shown --------------------------------------------------------------------------------------------------------

COLUMNS: dict[str, Callable[[Result], object]] = {
    "seed": lambda each: each.seed,
    "": lambda each: each.verdict,
    "settings": lambda each: each.kind,
    "orders": lambda each: each.counts.get("placed", ""),
    "amends": lambda each: each.counts.get("amends", ""),
    "fills": lambda each: each.counts.get("fills", ""),
    "cuts": lambda each: each.counts.get("disconnects", ""),
    "halts": lambda each: each.counts.get("halts", ""),
    "faults": lambda each: each.counts.get("faults", ""),
    "fates lost": lambda each: each.counts.get("unknown_fates", ""),
    "exit": lambda each: f"{each.counts['exit_code']} in {each.gaps['stop_s']:.1f} s" if each.gaps else "",
    "left": lambda each: f"{each.counts['live_at_exit']}, {each.gaps['left_s']:.1f} s" if each.gaps else "",
    "longest doubt (s)": lambda each: each.gaps.get("doubt_s", ""),
    "longest wait (s)": lambda each: each.gaps.get("forbidden_s", ""),
    "might quote (%)": lambda each: each.gaps.get("allowed_percent", ""),
    "quoted (%)": lambda each: each.gaps.get("quoted_percent", ""),
}


def table(results: Sequence[Result]) -> str:
    """Return the results as a Markdown table."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    lines += ["| " + " | ".join(str(cell(each)) for cell in COLUMNS.values()) + " |" for each in results]
    return "\n".join(lines)


def closing(report: Report) -> str:
    """Return the sentences under the table: verdicts, sums, faults by kind, worst gaps, every reason."""
    ran = [each for each in report.results if each.verdict != NOT_RUN]
    verdicts = Counter(each.verdict for each in report.results)
    lines = [f"{verdicts[PASS]} passed, {verdicts[FAIL]} failed, {verdicts[NOT_RUN]} not run"]
    if not ran:
        return f"{lines[0]}\nThe campaign did not run."
    counts: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    for each in ran:
        counts.update(each.counts)
        faults.update(each.faults)
    shown = ("placed", "amends", "fills", "unheard_fills", "disconnects", "halts", "unknown_fates")
    lines.append("in all: " + ", ".join(f"{counts[name]} {name}" for name in shown))
    lines.append("faults: " + ", ".join(f"{count} {name}" for name, count in sorted(faults.items())))
    names = sorted({name for each in ran for name in each.gaps} - {"allowed_percent", "quoted_percent"})
    worst = {name: max(each.gaps.get(name, 0.0) for each in ran) for name in names}
    lines.append("worst: " + ", ".join(f"{name} {value:g}" for name, value in worst.items()))
    for each in report.results:
        lines += [f"seed {each.seed}: {each.verdict}: {reason}" for reason in each.reasons]
        lines += [f"seed {each.seed}: note: {note}" for note in each.notes]
    return "\n".join(lines)


def _make_folder(folder: Path) -> None:
    """Make a folder if there is none, unseen by git: what a campaign leaves is of one machine."""
    if not folder.exists():
        folder.mkdir(parents=True)
        (folder / ".gitignore").write_text("*\n")


def write(report: Report, path: Path) -> None:
    """Write the report whole or not at all."""
    _make_folder(path.parent)
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1))
    fresh.replace(path)


# The command ----------------------------------------------------------------------------------------------------------


def seeds_of(text: str) -> list[int]:
    """Return the seeds in "1-20" or "3,7,10-12", for argparse."""
    seeds: list[int] = []
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if found is None or int(found[2] or found[1]) < int(found[1]):
            raise argparse.ArgumentTypeError(f"{text!r}: {part!r} is no seed; allowed: such as 1-20 or 3,7,10-12")
        seeds += range(int(found[1]), int(found[2] or found[1]) + 1)
    return sorted(set(seeds))


def begin(args: argparse.Namespace) -> Report:
    """Return the report to go on with, resumed or new; what has not run is in it, too. ConfigError if it is unfit."""
    fresh = Report("", args.seconds, args.tls, build_id())
    if args.resume is not None and args.resume.exists():
        try:
            before = msgspec.json.decode(args.resume.read_bytes(), type=Report)
        except msgspec.MsgspecError as error:
            raise ConfigError(f"--resume {args.resume}: not a report: {error}") from None
        if (before.seconds, before.tls) != (args.seconds, args.tls):
            there = f"{before.seconds:g} s a seed, TLS {before.tls}"
            raise ConfigError(f"--resume {args.resume}: made with {there}; allowed: the same, or a new report")
        fresh.results = [each for each in before.results if each.verdict != NOT_RUN]
    for seed in args.seeds:
        if fresh.result(seed) is None:
            fresh.take(Result(seed, reasons=["not begun"]))
    fresh.seeds = ",".join(str(each.seed) for each in fresh.results)
    return fresh


def conduct(args: argparse.Namespace) -> Report:
    """Return the report of a campaign, written after each seed."""
    report, path = begin(args), args.report or args.resume
    todo = [each.seed for each in report.results if each.verdict == NOT_RUN]
    done = len(report.results) - len(todo)
    _say(f"{len(todo)} seeds to run, {done} were run before")
    if path is not None:
        write(report, path)
    campaign = Campaign(args.seconds, tls=args.tls, keep=args.keep, said=_say)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: campaign.end("the campaign was ended", now=True))
    if args.minutes:
        over = f"{args.minutes:g} minutes were over"
        limit = threading.Timer(args.minutes * 60, campaign.end, [over], {"now": False})
        limit.daemon = True
        limit.start()
    for count, result in enumerate(campaign.play(todo, args.parallel), 1):
        report.take(result)
        if path is not None:
            write(report, path)
        why = f": {result.reasons[0][:200]}" if result.reasons else ""
        _say(f"{count} of {len(todo)}: seed {result.seed} {result.verdict} after {result.took_s:g} s{why}")
    return report


def main() -> int:
    """Return 0 if every seed ran and passed, 1 if not, 2 if the command cannot be followed."""
    args = _arguments()
    if args.only_in is not None:
        [seed] = args.seeds
        result = run_seed(plan_of(seed, args.seconds, tls=args.tls), args.only_in)
        print(msgspec.json.encode(result).decode(), flush=True)
        return 0
    try:
        report = conduct(args)
    except (ConfigError, OSError) as error:
        print(f"python -m tests.fault_campaign: {error}", file=sys.stderr)
        return 2
    print(f"{table(report.results)}\n\n{closing(report)}", file=sys.stderr if args.json else sys.stdout, flush=True)
    if args.json:
        print(json.dumps(msgspec.to_builtins(report)))
    return 0 if all(each.verdict == PASS for each in report.results) else 1


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value <= 86_400:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 86400")
    return value


def _few(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 64:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 1 to 64")
    return value


def _arguments(words: Sequence[str] | None = None) -> Any:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fault_campaign", description=(__doc__ or "").splitlines()[0], allow_abbrev=False
    )
    parser.add_argument("--seeds", type=seeds_of, default=seeds_of("1-20"), help="such as 1-20 or 3,7 (default 1-20)")
    parser.add_argument("--seconds", type=_positive, default=60.0, help="under faults, each seed (default 60)")
    parser.add_argument("--parallel", type=_few, default=4, metavar="N", help="seeds at a time (default 4)")
    parser.add_argument("--tls", action="store_true", help="over TLS every time, not only in every fifth seed")
    parser.add_argument("--minutes", type=_positive, help="begin no further seed after so long")
    parser.add_argument("--report", type=Path, metavar="FILE", help="where the report goes, after each seed")
    parser.add_argument("--resume", type=Path, metavar="FILE", help="a report to go on with: what it has is not run")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the folders of failed seeds: journal, logs")
    parser.add_argument("--json", action="store_true", help="the report as one JSON object on stdout")
    parser.add_argument("--only-in", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main())
