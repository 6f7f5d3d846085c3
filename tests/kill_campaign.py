"""Kill campaign: the button pressed again and again on real processes, in every state a quoter can be in, and measured.

    .venv/bin/python -m tests.kill_campaign --count 50 --modes all --parallel 3
    .venv/bin/python -m tests.kill_campaign --count 10 --tls --faults all --modes healthy,frozen --parallel 2
    .venv/bin/python -m tests.kill_campaign --count 4 --tls --modes healthy --idle 30 --keep rounds.jsonl

Each round presses at a random moment while orders are live and in flight, then arms, quotes again and goes on. A round
fails when a bound is broken, when an order is seen after zero was verified, or when something is not as it must be
afterwards. Every second box of a mode runs a restless quoter, which always has orders in flight. With `--faults` a
trouble of tests/troubles.py begins just before each press. What `--keep` names holds every finished share: run again
with the same words, and only what is missing is run. Exit 1 if any round failed.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from decimal import Decimal
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parent))

from stack import BLOCK, FREEZE, KILL, RESTLESS, THAW, Press, Stack, latch_file, rss_mb  # noqa: E402
from troubles import NO_TROUBLE, TROUBLES, LineWatch, TroubledStack, cpu_percent  # noqa: E402
from troubles import VERIFIED_MS as VERIFIED_MS  # noqa: E402

MODES = ("healthy", "frozen", "killed", "blocked", "silent")
"""The quoter when the button is pressed; `silent`: it is frozen and nobody presses anything."""
SILENT_ZERO_MS = 1500.0
"""Bound, plus two round trips; those of the other modes are tests/troubles.py's."""
IDLE_CPU_PERCENT, GUARDIAN_MB = 1.0, 45.0
"""The guardian's bounds while a calm quoter quotes."""


class Round(msgspec.Struct):
    """What one round showed; milliseconds from the press (silent: from SIGSTOP) as an onlooker sees it.

    The press is the moment before the message leaves us or, by `mmpi kill`, when the guardian says it had the message.
    """

    mode: str
    by: str
    restless: bool
    live: int
    """Orders at the server when it began."""
    first_zero_ms: float = 0.0
    last_live_ms: float = 0.0
    """When the server was last seen with an order: after it zero was final."""
    verified_ms: float = 0.0
    start_ms: float = 0.0
    """What `mmpi kill` took from its exec until the guardian had its message."""
    guardian_ms: float = 0.0
    """The guardian's own figure for press to verified zero."""
    look_gap_ms: float = 0.0
    """The longest time for which the onlooker did not see."""
    back_s: float = 0.0
    """From arming (silent: from SIGCONT) to quoting again."""
    watched_s: float = 0.0
    """How long the server was watched after zero was verified."""
    trouble: str = ""
    flooded: float = 0.0
    """Requests a second that guardian.sock took meanwhile."""
    failures: list[str] = msgspec.field(default_factory=list)

    def check(self, holds: bool, claim: str) -> None:
        """Note a claim that does not hold."""
        if not holds:
            self.failures.append(claim)


def kill_round(
    stack: Stack, mode: str, chance: random.Random, *, by_command: bool = False, linger_s: float = 0.3
) -> Round:
    """Return one press in `mode`, from quoting to quoting again."""
    stack.wait_quoting()
    quoter = stack.quoter
    with LineWatch(stack) as watch:
        time.sleep(chance.uniform(0.05, 1.05))
        _disturb(stack, mode, chance)
        if isinstance(stack, TroubledStack):
            stack.begin_trouble()
            time.sleep(chance.uniform(0.0, 0.1))
        now = Round(mode, "command" if by_command else "message", False, len(watch.samples[-1][1]))
        press = stack.press_by_command() if by_command else stack.press()
        time.sleep(linger_s)
        _judge(now, stack, watch, press)
        now.watched_s = (watch.samples[-1][0] - press.verified) / 1e9
    if isinstance(stack, TroubledStack):
        now.trouble = stack.trouble.name
        stack.end_trouble()
        now.flooded = stack.flooded
    status = stack.status()
    now.check(status["latch"] == "latched" and status["verified_zero"], f"latched and verified, not {status}")
    now.check(latch_file(stack) == "latched", "latch.json says latched")
    if mode == "healthy":
        now.check(quoter.runs, "a healthy quoter obeys and lives")
    else:
        now.check(quoter.wait(5) == -KILL, "the quoter was ended by SIGKILL")
    if by_command:
        refused = stack.mmpi("run")
        now.check(refused.returncode == 3 and "mmpi arm" in refused.stderr, f"run is refused, not {refused}")
    began = time.monotonic()
    stack.arm()
    if not quoter.runs:
        stack.start_quoter()
    stack.wait_quoting()
    now.back_s = time.monotonic() - began
    return now


def silent_round(stack: Stack, chance: random.Random) -> Round:
    """Return one freeze without any press, from quoting to quoting again by itself."""
    stack.wait_quoting()
    with LineWatch(stack) as watch:
        time.sleep(chance.uniform(0.05, 1.05))
        now = Round("silent", "heartbeat", False, len(watch.samples[-1][1]))
        frozen = stack.quoter.send(FREEZE)
        stack.wait(lambda: stack.status()["state"] == "paused", 3, "a pause")
        time.sleep(chance.uniform(0.3, 4.0))
        thawed = stack.quoter.send(THAW)
        stack.wait(lambda: stack.status()["state"] == "run", 10, "the end of the pause")
        resumed = time.monotonic_ns()
        stack.wait_quoting()
        now.back_s = (time.monotonic_ns() - thawed) / 1e9
        time.sleep(0.3)
    now.first_zero_ms = _ms(watch.first_zero(frozen), frozen)
    seen = [at for at, ids in watch.samples if ids and frozen <= at < thawed]
    now.last_live_ms = _ms(seen[-1], frozen)
    bound = SILENT_ZERO_MS + stack.round_trips_ms
    now.check(0 < now.first_zero_ms <= bound, f"zero within {bound:g} ms")
    now.check(now.last_live_ms <= bound, f"nothing live after {bound:g} ms")
    now.check(not any(ids for at, ids in watch.samples if thawed <= at < resumed - 20_000_000), "no order while paused")
    now.check(stack.status()["latch"] == "armed", "a silence pauses, it does not latch")
    now.check(not watch.excess, f"one order a level, not {watch.excess}")
    now.look_gap_ms = watch.widest_gap_ms(frozen, frozen + round(bound * 1e6))
    _settled(now, stack)
    return now


def _disturb(stack: Stack, mode: str, chance: random.Random) -> None:
    """Bring the quoter into the state in which the button is pressed."""
    if mode == "frozen":
        stack.quoter.send(FREEZE)
        time.sleep(chance.uniform(0.0, 0.3))
    elif mode == "killed":
        stack.quoter.send(KILL)
        time.sleep(chance.uniform(0.0, 0.02))
    elif mode == "blocked":
        stack.quoter.send(BLOCK)
        stack.wait(lambda: _beat_age_ms(stack) > 250, 3, "the loop to be blocked")


def _beat_age_ms(stack: Stack) -> float:
    board = stack.board()
    return (time.monotonic_ns() - board.beat_ns) / 1e6 if board is not None else 0.0


def _judge(now: Round, stack: Stack, watch: LineWatch, press: Press) -> None:
    now.first_zero_ms = _ms(watch.first_zero(press.sent), press.sent)
    now.last_live_ms = _ms(watch.last_live(press.sent), press.sent)
    now.verified_ms = _ms(press.verified, press.sent)
    now.start_ms = press.start_ms
    now.guardian_ms = press.answer["verified_ms"]
    now.look_gap_ms = watch.widest_gap_ms(press.sent, press.verified)
    trouble = stack.trouble if isinstance(stack, TroubledStack) else NO_TROUBLE
    zero, verified = trouble.zero_ms + stack.round_trips_ms, trouble.verified_ms + stack.round_trips_ms
    now.check(0 < now.first_zero_ms <= zero, f"first zero within {zero:g} ms")
    now.check(press.answer.get("verified") is True, f"verified, not {press.answer}")
    now.check(0 < now.verified_ms <= verified, f"verified within {verified:g} ms")
    now.check(watch.last_live(press.verified) == 0, "no order after zero was verified")
    now.check(not watch.excess, f"one order a level, not {watch.excess}")


def _settled(now: Round, stack: Stack) -> None:
    """Note what quoter and venue do not agree on once nothing is in flight."""
    odd = stack.summary()
    now.check(odd["invariant_violations"] == 0, "the P&L identity holds")
    for name in ("illegal_reports", "overfilled"):
        now.check(odd["anomalies"][name] == 0, f"{name}: {odd['anomalies'][name]}")
    try:
        stack.wait(lambda: same_position(stack), 5, "the venue's position")
    except AssertionError:
        now.failures.append(f"position as the venue says: {stack.venue_positions()}, not {stack.summary()}")


def same_position(stack: Stack) -> bool:
    """Return True if the quoter's positions are those of the server's clearinghouseState."""
    venue = stack.venue_positions()
    ours = stack.summary()["instruments"]
    return all(Decimal(each["position"]) == Decimal(venue.get(name, "0")) for name, each in ours.items())


def replays(stack: Stack) -> list[str]:
    """Return what is wrong with the journal of all runs of the box's quoters: [] if it verifies and replays."""
    done = [stack.mmpi("journal", "verify"), stack.mmpi("replay", "--verify", timeout=300)]
    return [f"{each.args[3:]}: exit {each.returncode}: {each.stderr}" for each in done if each.returncode]


def _ms(at: int, since: int) -> float:
    return (at - since) / 1e6 if at else 0.0


# The campaign ---------------------------------------------------------------------------------------------------------


class Share(msgspec.Struct, frozen=True):
    """The rounds that one box runs."""

    mode: str
    count: int
    seed: int
    restless: bool
    latency_ms: float
    tls: bool = False
    trouble: str = ""
    idle_s: float = 0.0
    """For so long the guardian is weighed before the first press."""


class Shown(msgspec.Struct):
    """What one box showed: its rounds, and what was wrong with the whole."""

    rounds: list[Round]
    failures: list[str]
    cpu_percent: float = 0.0
    """Of one core, by the guardian while nothing happened."""
    rss_mb: float = 0.0
    """The guardian's, at the end."""


def run_share(share: Share) -> Shown:
    """Return the rounds of one box; what ends them early is a failure."""
    chance = random.Random(share.seed)
    shown = Shown([], [])
    with tempfile.TemporaryDirectory(prefix="mmpi-kill-") as folder:
        more = RESTLESS if share.restless else {}
        blockable = share.mode == "blocked"
        trouble = TROUBLES.get(share.trouble, NO_TROUBLE)
        with TroubledStack(
            Path(folder), trouble, tls=share.tls, latency_ms=share.latency_ms, more=more, blockable=blockable
        ) as stack:
            try:
                stack.start()
                _weigh(shown, stack, share)
                for number in range(share.count):
                    shown.rounds.append(_round(stack, share, chance, number))
                _weigh_end(shown, stack)
                stack.quoter.send(15)
                code = stack.quoter.wait(10)
                if code or stack.orders():
                    shown.failures.append(f"SIGTERM: exit {code}, {len(stack.orders())} orders left")
                shown.failures += replays(stack)
            except Exception as error:
                shown.failures.append(f"{type(error).__name__}: {error}"[:8000])
    return shown


def _weigh(shown: Shown, stack: Stack, share: Share) -> None:
    """Note what the guardian needs while it only watches."""
    if share.idle_s:
        shown.cpu_percent = cpu_percent(stack.guardian.pid, share.idle_s)
        if shown.cpu_percent >= IDLE_CPU_PERCENT:
            shown.failures.append(f"guardian: {shown.cpu_percent:.2f}% of a core in {share.idle_s:g} idle seconds")


def _weigh_end(shown: Shown, stack: Stack) -> None:
    shown.rss_mb = rss_mb(stack.guardian.pid)
    if shown.rss_mb > GUARDIAN_MB:
        shown.failures.append(f"guardian: {shown.rss_mb:.1f} MB")


def _round(stack: Stack, share: Share, chance: random.Random, number: int) -> Round:
    if share.mode == "silent":
        now = silent_round(stack, chance)
    else:
        # Every third press by `mmpi kill`; every fifth round looks for three more seconds.
        linger_s = 3.0 if number % 5 == 2 else 0.3
        # The command has a patience of its own; under trouble the message is measured.
        by_command = number % 3 == 1 and not share.trouble
        now = kill_round(stack, share.mode, chance, by_command=by_command, linger_s=linger_s)
    now.restless = share.restless
    return now


def shares(args: argparse.Namespace, modes: Sequence[str], troubles: Sequence[str]) -> Iterator[Share]:
    """Return the rounds of each mode and trouble in shares for as many boxes as run at a time."""
    for trouble in troubles:
        for mode in modes:
            for box in range(args.parallel):
                part = args.count // args.parallel + (box < args.count % args.parallel)
                if part:
                    number = args.seed * 1000 + 100 * len(trouble) + 10 * MODES.index(mode) + box
                    restless = box % 2 == 1
                    idle_s = 0.0 if restless else args.idle
                    yield Share(mode, part, number, restless, args.latency_ms, args.tls, trouble, idle_s)


class Kept(msgspec.Struct):
    """A finished share, one line of the file that `--keep` names."""

    share: Share
    shown: Shown


def kept(path: Path | None) -> list[Kept]:
    """Return the shares that were finished before."""
    if path is None or not path.exists():
        return []
    return [msgspec.json.decode(line, type=Kept) for line in path.read_bytes().splitlines()]


FIGURES: dict[str, Callable[[Round], float]] = {
    "first zero": lambda each: each.first_zero_ms,
    "last live": lambda each: each.last_live_ms,
    "verified": lambda each: each.verified_ms,
    "by guardian": lambda each: each.guardian_ms,
    "command start": lambda each: each.start_ms,
    "look gap": lambda each: each.look_gap_ms,
    "back (s)": lambda each: each.back_s,
}


def table(rounds: Sequence[Round]) -> str:
    """Return p50, p99 and max of every figure, by mode and way of pressing; milliseconds."""
    head = f"{'trouble':<13}{'mode':<9}{'by':<11}{'rounds':>7}{'failed':>7}  "
    lines = [head + "".join(f"{name:^21}" for name in FIGURES)]
    lines.append(" " * 49 + f"{'p50':>7}{'p99':>7}{'max':>7}" * len(FIGURES))
    keys = {(each.trouble, each.mode, each.by) for each in rounds}
    for trouble, mode, by in sorted(keys, key=lambda key: (key[0], MODES.index(key[1]), key[2])):
        chosen = [each for each in rounds if (each.trouble, each.mode, each.by) == (trouble, mode, by)]
        failed = sum(bool(each.failures) for each in chosen)
        cells = ""
        for figure in FIGURES.values():
            values = sorted(figure(each) for each in chosen)
            digits = 1 if figure is FIGURES["back (s)"] else 0
            last = len(values) - 1
            cells += "".join(f"{values[at]:>7.{digits}f}" for at in (last // 2, -(-last * 99 // 100), last))
        lines.append(f"{trouble or '-':<13}{mode:<9}{by:<11}{len(chosen):>7}{failed:>7}  {cells}")
    return "\n".join(lines)


def main() -> int:
    """Return 0 if no round failed."""
    args = _arguments()
    modes = MODES if args.modes == "all" else tuple(args.modes.split(","))
    troubles = _troubles(args.faults)
    work = list(shares(args, modes, troubles))
    done = [each for each in kept(args.keep) if each.share in work]
    left = [share for share in work if share not in [each.share for each in done]]
    shown = [each.shown for each in done]
    with ProcessPoolExecutor(args.parallel) as pool:
        running = {pool.submit(run_share, share): share for share in left}
        for ended in as_completed(running):
            shown.append(ended.result())
            if args.keep is not None and not shown[-1].failures:
                with args.keep.open("ab") as file:
                    file.write(msgspec.json.encode(Kept(running[ended], shown[-1])) + b"\n")
            count = sum(len(each.rounds) for each in shown)
            print(f"{count} of {sum(each.count for each in work)} rounds", file=sys.stderr, flush=True)
    rounds = [each for box in shown for each in box.rounds]
    failures = [failure for box in shown for failure in box.failures]
    failures += [f"{each.mode} by {each.by}: {', '.join(each.failures)}: {each}" for each in rounds if each.failures]
    print(table(rounds), file=sys.stderr if args.json else sys.stdout, flush=True)
    idle = [f"{each.cpu_percent:.2f}%" for each in shown if each.cpu_percent]
    print(f"guardian: {max((each.rss_mb for each in shown), default=0):.1f} MB; idle {idle}", file=sys.stderr)
    for failure in failures:
        print(failure, file=sys.stderr)
    whole = len(rounds) == sum(share.count for share in work)
    if args.json:
        print(json.dumps({"rounds": msgspec.to_builtins(rounds), "failures": failures, "complete": whole}))
    return 0 if whole and not failures else 1


def _troubles(text: str) -> Sequence[str]:
    """Return the troubles of a command line; it ends with a sentence if there is no such."""
    names = tuple(TROUBLES) if text == "all" else tuple(text.split(",")) if text else ("",)
    if unknown := [name for name in names if name and name not in TROUBLES]:
        raise SystemExit(f"--faults {unknown[0]}: no such trouble; allowed: all, {', '.join(TROUBLES)}")
    return names


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.kill_campaign", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=50, help="rounds of each mode (default 50)")
    parser.add_argument("--modes", default="all", help=f"all, or some of {','.join(MODES)}")
    parser.add_argument("--parallel", type=int, default=3, help="boxes at a time (default 3)")
    parser.add_argument("--seed", type=int, default=1, help="of the random moments")
    parser.add_argument("--latency-ms", type=float, default=80.0, help="the server's round trip (default 80)")
    parser.add_argument("--tls", action="store_true", help="the server speaks https and wss")
    parser.add_argument("--faults", default="", help=f"a trouble at each press: all, or some of {','.join(TROUBLES)}")
    parser.add_argument("--idle", type=float, default=0.0, help="seconds for which an idle guardian is weighed")
    parser.add_argument("--keep", type=Path, help="file of finished shares, so that a run can be taken up again")
    parser.add_argument("--json", action="store_true", help="every round, as one JSON object on stdout")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
