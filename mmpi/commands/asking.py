"""mmpi pause, resume, flatten, reload: what a person at the box asks of a guardian that works.

Invariant: what was asked for is either done and proven, or the one sentence says what was not.
It must not know how the guardian does it.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from mmpi.commands.client import NoGuardianError, call
from mmpi.commands.control import person, say, show
from mmpi.errors import RefusedError, RemoteError
from mmpi.folders import path_setting

ANSWER_S: Final = 5.0
PAUSE_S: Final = 15.0
"""A pause is verified within 3 s and two round trips; the guardian says after 10 s that it is not."""
FLATTEN_S: Final = 90.0
"""Verified zero before and after, and the 60 s that the quoter is given between."""
START_S: Final = 20.0
STOP_S: Final = 8.0
RELOAD_S: Final = 30.0


def run(args: argparse.Namespace) -> int:
    """Return the exit code."""
    runtime = path_setting("runtime_dir", args.config, os.environ)
    if args.command == "pause":
        return _pause(args, runtime)
    if args.command == "resume":
        return _resume(args, runtime)
    return _flatten(args, runtime) if args.command == "flatten" else _reload(args, runtime)


def _pause(args: argparse.Namespace, runtime: Path) -> int:
    try:
        answer = _ask(args, runtime, {"cmd": "pause", "reason": args.reason}, PAUSE_S)
    except NoGuardianError as error:
        return _hold_alone(args, error)
    if not answer["verified"]:
        show(args, answer, "")
        left = "zero orders are not verified; the guardian goes on trying"
        raise RemoteError(f"paused, nothing is placed any more, but {left}")
    show(args, answer, "paused; zero orders verified after {verified_ms:.0f} ms; to go on: mmpi resume")
    return 0


def _hold_alone(args: argparse.Namespace, error: NoGuardianError) -> int:
    """Leave word for the next guardian, without which nothing leaves for a venue anyway."""
    from mmpi.device.held import Held

    held = Held(path_setting("state_dir", args.config, os.environ) / "held.json")
    held.store(held.load() | {"by_hand": f"{person()}: {args.reason}"})
    show(args, {"paused": True, "verified": False}, "")
    raise RemoteError(f"{error}; the pause is written down for the next guardian, nothing was verified")


def _resume(args: argparse.Namespace, runtime: Path) -> int:
    answer = _ask(args, runtime, {"cmd": "resume"}, ANSWER_S)
    left = f"; but there is: {', '.join(answer['causes'])}" if answer["causes"] else ""
    show(args, answer, f"{answer.get('note', 'resumed')}{left}")
    return 0


def _flatten(args: argparse.Namespace, runtime: Path) -> int:
    status = _ask(args, runtime, {"cmd": "status"}, ANSWER_S)
    with _quoter(args, runtime, wanted=not status["quoter_alive"]):
        answer = _ask(args, runtime, {"cmd": "flatten", "reason": args.reason}, FLATTEN_S)
    text = "flat: no position, no order; it stays so until: mmpi resume (if it is latched: until a person arms)"
    show(args, answer, text)
    return 0


@contextmanager
def _quoter(args: argparse.Namespace, runtime: Path, *, wanted: bool) -> Iterator[None]:
    """Have a quoter for the time being, if there is none: one that places nothing unless it is let."""
    if not wanted:
        yield
        return
    say(args, "no quoter is running; starting one for this")
    command = [sys.executable, "-m", "mmpi", "run", "--wait", *(["--config", str(args.config)] if args.config else [])]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        end = time.monotonic() + START_S
        while not _ask(args, runtime, {"cmd": "status"}, ANSWER_S)["quoter_steady"]:
            if child.poll() is not None or time.monotonic() > end:
                child.kill()
                said = (child.communicate()[1] or b"").decode("utf-8", "replace").strip()
                raise RemoteError(f"the quoter did not start within {START_S:g} s: {said}")
            time.sleep(0.1)
        yield
    finally:
        child.terminate()
        try:
            child.communicate(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            child.kill()


def _reload(args: argparse.Namespace, runtime: Path) -> int:
    from mmpi.commands.resolved import resolved
    from mmpi.sections import Box

    # A configuration that is wrong changes nothing: ConfigError, before anybody is told.
    resolved(args.config, Box)
    _ask(args, runtime, {"cmd": "reload"}, PAUSE_S)
    end = time.monotonic() + RELOAD_S
    while time.monotonic() < end:
        time.sleep(0.1)
        try:
            status = _ask(args, runtime, {"cmd": "status"}, ANSWER_S)
        except RemoteError:
            continue
        if "reload" not in status["causes"]:
            show(args, {"reloaded": True, "state": status["state"], "reason": status["reason"]}, "reloaded")
            return 0
    raise RemoteError(f"the guardian did not come back within {RELOAD_S:g} s: mmpi status")


def _ask(args: argparse.Namespace, runtime: Path, request: dict[str, Any], timeout_s: float) -> dict[str, Any]:
    """Return the final answer; RefusedError for a refusal."""
    answer: dict[str, Any] = {}
    for answer in call(runtime / "guardian.sock", {"by": person(), **request}, timeout_s):
        if "progress" in answer:
            say(args, str(answer["progress"]))
    if answer.get("error"):
        if args.json:
            print(json.dumps({"error": answer["error"]}), flush=True)
        raise RefusedError(str(answer["error"]))
    return answer
