"""One seed of the fault campaign: a practice box of real processes, faults drawn from the seed, a stop, the evidence.

Everything that a seed decides stands in its `Plan`; what the machine decides (moments, load) is in no seed's hand.
"""

import json
import re
import signal
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import chain
from pathlib import Path
from random import Random
from typing import Any

import msgspec
from fault_journal import follow, items, tell
from fault_judge import LEFT_S, Evidence, Fill, Live, Look, Placed
from stack import LEVELS, MMPI, RESTLESS, HttpLine, Process, Stack

from mmpi.practice.hyperliquid.faults import RANDOM, Fault, drawn, read_fault

CALM_S = 7.0
"""A quoter's patience with an unanswered order is 5 s; two seconds more, and it knows what became of every order."""
AFTER_S = 3.0
"""How long the server is looked at after a clean exit: longer than any action stays valid (2 s)."""
DARK = "half_open:at=0,for=30"
"""Deaf for longer than the quoter tries to stop, and than the dead-man switch waits."""
DARK_S = 0.5
LOOK_PAUSE_S = 0.02
START_S = 60.0
"""Starts under faults may take a few tries."""
EXIT_S = 15.0
LIMITS = ("--weight", "1200", "--budget", "10000")
"""The venue's, for an address that has not traded yet."""
VERIFY_S = 20.0
MAX_STARTS = 12
MAX_POSITION = 1000.0
"""risk.max_position of the example that every box runs."""
TIGHT = {
    "MMPI_INSTRUMENTS__BTC__LAYERED__SPREAD_PERCENT": "0.006",
    "MMPI_INSTRUMENTS__BTC__LAYERED__STEP_PERCENT": "0.006",
    "MMPI_INSTRUMENTS__ETH__LAYERED__SPREAD_PERCENT": "0.006",
    "MMPI_INSTRUMENTS__ETH__LAYERED__STEP_PERCENT": "0.006",
}
"""A quoter so near to the touch that the generated market fills it, and refuses it as not post-only, all the time."""


class Plan(msgspec.Struct, frozen=True):
    """What a seed decides."""

    seed: int
    seconds: float
    restless: bool
    """It re-quotes every 0.1 s without tolerance or limit of weight; otherwise as docs/examples/practice.toml says."""
    impatient: bool
    """It asks after an unanswered order in 3.5 s instead of 5, and the venue never makes it pause by a 429."""
    amend: bool
    tls: bool
    calm: bool
    """Faults end CALM_S before the stop; otherwise they go on through it."""
    dark: bool
    """Half a second before the stop every connection goes deaf and stays so: nobody can cancel but the venue."""
    from_start: bool
    """Faults are there when guardian and quoter start; otherwise they begin once it quotes."""
    rough: bool
    """What hurts most comes on top, five times as often."""
    pressed: bool
    """In the midst of it the button is pressed, and a person arms again once zero is verified."""
    limits: bool
    """The server enforces the venue's request limits."""
    latency_ms: float
    faults: tuple[str, ...]

    @property
    def kind(self) -> str:
        """Return the settings in a few words."""
        words = {
            "restless": self.restless, "impatient": self.impatient, "amend": self.amend, "tls": self.tls,
            "from start": self.from_start, "limits": self.limits, "rough": self.rough, "pressed": self.pressed,
            "calm stop": self.calm, "dark stop": self.dark,
        }  # fmt: skip
        return ", ".join(word for word, is_so in words.items() if is_so) or "plain"

    def skew_ms(self) -> float:
        """Return how far the faults may put the server's clock wrong, all at once."""
        spelt: list[Fault] = []
        for fault in map(read_fault, self.faults):
            spelt += drawn(fault.seed or 0) if fault.name == RANDOM else [fault]
        return 1000.0 * sum(abs(fault.s) for fault in spelt if fault.name == "clock_skew")


def plan_of(seed: int, seconds: float, *, tls: bool = False) -> Plan:
    """Return the plan of a seed; twenty seeds in a row have every setting with every other one or nearly so."""
    dice = Random(f"campaign/{seed}")
    restless, impatient, rough = seed % 2 == 1, seed % 4 == 1, seed % 3 == 0
    return Plan(
        seed=seed,
        seconds=seconds,
        restless=restless,
        impatient=impatient,
        amend=seed // 2 % 2 == seed // 8 % 2,
        tls=tls or seed % 5 == 0,
        calm=seed // 4 % 2 == 0,
        dark=seed % 8 in (5, 7),
        from_start=seed % 7 in (3, 6),
        rough=rough,
        pressed=seed % 5 == 2,
        limits=not restless and seed % 8 in (2, 4),
        latency_ms=dice.choice((20.0, 40.0, 80.0, 120.0)),
        faults=(*(_unlimited(seed) if impatient else (f"{RANDOM}:seed={seed}",)), *(_rough(dice) if rough else ())),
    )


def _unlimited(seed: int) -> tuple[str, ...]:
    """Return what `random` draws, without the refusals for which a client must pause for ten seconds."""
    return tuple(fault.text for fault in drawn(seed) if fault.name != "http_429")


def _rough(dice: Random) -> tuple[str, ...]:
    return (
        f"disconnect:every={dice.uniform(8, 15):.3g}",
        f"half_open:every={dice.uniform(18, 30):.3g},for={dice.uniform(2, 14):.3g}",
        f"ack_lost:p={dice.uniform(0.03, 0.1):.3g}",
        f"place_lost:p={dice.uniform(0.02, 0.08):.3g}",
        f"cancel_lost:p={dice.uniform(0.02, 0.08):.3g}",
        f"late:p={dice.uniform(0.03, 0.1):.3g},ms={dice.randint(200, 1900)}",
        f"http_5xx:p={dice.uniform(0.01, 0.05):.3g},executed=1",
        f"duplicate:p={dice.uniform(0.05, 0.2):.3g}",
        f"reorder:p={dice.uniform(0.05, 0.2):.3g}",
    )


class Watch:
    """Looks at the server's live orders every few milliseconds until closed."""

    def __init__(self, line: HttpLine) -> None:
        self.looks: list[Look] = []
        self.error = ""
        self._line = line
        self._wall = time.time_ns() - time.monotonic_ns()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._line.close()

    def _run(self) -> None:
        try:
            while not self._ended.wait(LOOK_PAUSE_S):
                sent = time.monotonic_ns()
                told = self._line.get("/control/orders")
                orders = tuple(msgspec.convert(each, Live) for each in told)
                self.looks.append(Look(sent + self._wall, time.monotonic_ns() + self._wall, orders))
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            self.error = f"{type(error).__name__}: {error}"


class FaultBox(Stack):
    """A practice box as a plan wants it."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        more = {
            "MMPI_VENUE__AMEND": str(plan.amend).lower(),
            # All of a run's journal is evidence.
            "MMPI_JOURNAL__MAX_BYTES": str(2**30),
        }
        if plan.restless:
            more |= RESTLESS | {"MMPI_VENUE__WEIGHT_PER_MINUTE": "0"}
        if plan.impatient:
            more["MMPI_VENUE__ACK_TIMEOUT_S"] = "3.5"
        super().__init__(folder, latency_ms=plan.latency_ms, more=TIGHT | more)
        self.plan = plan
        self.starts = 0
        self._tls: ssl.SSLContext | None = None

    @property
    def env(self) -> dict[str, str]:
        """Return the environment of every process of this box."""
        return super().env | ({"MMPI_VENUE__URL": f"https://127.0.0.1:{self.port}"} if self.plan.tls else {})

    def line(self) -> HttpLine:
        """Return a connection to the server; who asks for it closes it."""
        return HttpLine(self.port, self._tls)

    def start(self) -> None:
        """Start everything and wait until it quotes; under faults, guardian and quoter may need several tries."""
        self.start_server()
        self.start_guardian()
        self.arm_again()
        self.start_quoter()
        began = time.monotonic()
        while not self._quotes():
            if not self.quoter.runs:
                self._again()
            if time.monotonic() - began > START_S:
                raise AssertionError(f"it did not quote within {START_S:g} s\n{self.picture()}")
            time.sleep(0.05)

    def start_server(self, *words: str) -> None:
        """Start the practice server, with TLS and limits and, from the start, faults if the plan says so."""
        plan, more = self.plan, ["--seed", str(self.plan.seed), *words]
        if plan.limits:
            more += LIMITS
        if plan.tls:
            more += ["--tls", "--tls-dir", str(self.folder / "tls")]
        for fault in plan.faults if plan.from_start else ():
            more += ["--fault", fault]
        super().start_server(*more)
        if plan.tls:
            authority = re.search(r"CA file (\S+?)[;)]", self.server.said())
            assert authority is not None, self.server.said()
            self._tls = ssl.create_default_context(cafile=authority[1])
            self._more["MMPI_VENUE__CA_FILE"] = authority[1]

    def start_guardian(self) -> None:
        """Start the guardian and wait until its session with the venue is up, however long faults keep it down."""
        self.guardian = self._start("guardian", (*MMPI, "guardian"))
        self.wait(lambda: "listening on" in self.guardian.said(), 15, "the guardian to listen")
        self.wait(lambda: self.status()["venue_session"], START_S, "the guardian's venue session")

    def start_quoter(self, **_: Any) -> Process:
        """Start a quoter that says at its end what it had."""
        self.starts += 1
        self.quoter = self._start("quoter", (*MMPI, "run", "--json"))
        return self.quoter

    def set_faults(self, faults: tuple[str, ...]) -> None:
        """Have the server play these faults from now on, and no others."""
        self._ask(lambda line: line.post("/control/fault", {"faults": list(faults), "seed": self.plan.seed}))

    def struck(self) -> dict[str, int]:
        """Return how often each kind of fault has struck."""
        told = self._ask(lambda line: line.get("/control/fault"))
        counts: Counter[str] = Counter()
        for each in told["faults"]:
            counts[each["fault"].partition(":")[0]] += each["fired"]
        return dict(counts)

    def record(self, path: str) -> Any:
        """Return the server's answer to a control question."""
        return self._ask(lambda line: line.get(path))

    def check_alive(self) -> None:
        """AssertionError if one of the processes has ended by itself."""
        for process in (self.server, self.guardian, self.quoter):
            if not process.runs:
                code = process.wait(1)
                raise AssertionError(f"{process.log.name} ended by itself: exit {code}\n{process.said()[-3000:]}")

    def last_summary(self) -> dict[str, Any]:
        """Return what the quoter printed at its end."""
        lines = [line for line in self.quoter.said().splitlines() if line.startswith('{"mode"')]
        if not lines:
            raise AssertionError(f"the quoter printed no summary\n{self.quoter.said()[-3000:]}")
        found: dict[str, Any] = json.loads(lines[-1])
        return found

    def arm_again(self) -> None:
        """Arm; it may have to be asked for again while faults keep zero from being verified."""
        answer: dict[str, Any] = {}
        for _ in range(6):
            answer = self.ask("arm")
            if answer.get("armed"):
                return
            time.sleep(1.0)
        raise AssertionError(f"not armed: {answer}\n{self.picture()}")

    def _quotes(self) -> bool:
        try:
            return bool(self.summary().get("state") == "quoting" and self.orders())
        except OSError:
            return False

    def _again(self) -> None:
        """Start the quoter anew after a start that the faults did not let it finish: that is exit 3 or 4, no other."""
        code = self.quoter.wait(1)
        if code not in (3, 4) or self.starts >= MAX_STARTS or "Traceback" in self.quoter.said():
            raise AssertionError(f"start {self.starts}: exit {code}\n{self.quoter.said()[-3000:]}")
        self.start_quoter()

    def _ask(self, question: Callable[[HttpLine], Any]) -> Any:
        line = self.line()
        try:
            return question(line)
        finally:
            line.close()


class Played(msgspec.Struct):
    """A seed's evidence, and what else is worth telling."""

    evidence: Evidence
    starts: int


def play(plan: Plan, folder: Path) -> Played:
    """Return what a seed shows; AssertionError or OSError if it cannot be played to its end."""
    box = FaultBox(folder, plan)
    with box:
        box.start()
        with Watch(box.line()) as watch:
            if not plan.from_start:
                box.set_faults(plan.faults)
            _live(box, plan.seconds, pressed=plan.pressed)
            faults = box.struck()
            if plan.calm:
                box.set_faults(())
                _live(box, CALM_S)
            elif plan.dark:
                box.set_faults((*plan.faults, DARK))
                _live(box, DARK_S)
            asked = box.quoter.send(signal.SIGTERM)
            code = box.quoter.wait(EXIT_S)
            stop_s, stopped = (time.monotonic_ns() - asked) / 1e9, time.time_ns()
            _until_nothing_is_left(watch, clean=code == 0)
            if not plan.calm:
                faults = _sum(faults, box.struck()) if plan.dark else box.struck()
                box.set_faults(())
            verified = _verified(box)
        if watch.error:
            raise AssertionError(f"the server could not be watched: {watch.error}")
        evidence = _evidence(box, watch.looks, faults, code, stop_s, stopped)
        evidence.zero_verified = verified
        evidence.checks += _checked(box)
        return Played(evidence, box.starts)


def _sum(*counts: dict[str, int]) -> dict[str, int]:
    return {name: sum(each.get(name, 0) for each in counts) for name in {*chain(*counts)}}


def _live(box: FaultBox, seconds: float, *, pressed: bool = False) -> None:
    """Let it run; with `pressed` it is stopped by the button halfway, and armed."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        box.check_alive()
        time.sleep(min(left, 0.2))
        if pressed and left < seconds / 2:
            pressed = False
            answer = box.press("campaign").answer
            if answer.get("verified") is not True:
                raise AssertionError(f"pressed: not verified but {answer}")
            box.arm_again()


def _until_nothing_is_left(watch: Watch, *, clean: bool) -> None:
    """Look on until nothing was live for AFTER_S, at most LEFT_S longer; after a clean exit just AFTER_S."""
    end = time.monotonic() + AFTER_S
    latest = end if clean else end + LEFT_S
    while time.monotonic() < min(end, latest):
        time.sleep(0.05)
        if not clean and watch.looks and watch.looks[-1].orders:
            end = time.monotonic() + AFTER_S


def _verified(box: FaultBox) -> bool:
    """Return True once the guardian has verified zero after the quoter's end."""
    try:
        box.wait(lambda: box.status()["verified_zero"], VERIFY_S, "zero to be verified")
    except AssertionError:
        return False
    return True


def _evidence(
    box: FaultBox, looks: list[Look], faults: dict[str, int], code: int, stop_s: float, stopped: int
) -> Evidence:
    plan, journal = box.plan, box.runtime / "journal"
    states: Mapping[str, Any] = box.record("/control/state")
    return Evidence(
        story=tell(items(journal)),
        course=follow(items(journal)),
        placed=msgspec.convert(box.record("/control/placed"), list[Placed]),
        fills=msgspec.convert(box.record("/control/fills"), list[Fill]),
        looks=looks,
        venue_positions=box.venue_positions(),
        state_positions=states[box.account]["positions"] if box.account in states else {},
        summary=box.last_summary(),
        exit_code=code,
        stop_s=stop_s,
        stopped=stopped,
        said=box.quoter.said(),
        calm_s=CALM_S if plan.calm else 0.0,
        levels=LEVELS,
        most_side=MAX_POSITION,
        skew_ms=plan.skew_ms(),
        faults=faults,
    )


def _checked(box: FaultBox) -> list[str]:
    """Return what is wrong with the journal, the guardian's end, or the words of any process."""
    commands = (("journal", "verify"), ("replay", "--verify"))
    done = [box.mmpi(*command, timeout=600) for command in commands]
    found = [f"{each.args[3:]}: exit {each.returncode}: {each.stderr[-1000:]}" for each in done if each.returncode]
    box.guardian.send(signal.SIGTERM)
    if code := box.guardian.wait(EXIT_S):
        found.append(f"guardian: exit {code}: {box.guardian.said()[-1000:]}")
    for process in (box.server, box.guardian, box.quoter):
        if "Traceback" in (said := process.said()):
            found.append(f"{process.log.stem}: {said[said.index('Traceback') :][:2000]}")
    return found
