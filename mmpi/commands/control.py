"""mmpi kill, arm: short conversations with the guardian, and what can be done without one.

Invariant: kill does all that can be done from here, and says plainly what it could not do.
It must not import anything heavy: a person is waiting for the orders to be gone.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mmpi.commands.client import NoGuardianError, call
from mmpi.errors import ConfigError, DeviceError, RefusedError, RemoteError
from mmpi.folders import path_setting

if TYPE_CHECKING:
    from mmpi.runtime.watch import QuoterWatch

KILL_S: Final = 30.0
"""Time given to a stop before the command says that it is not verified; the guardian goes on after that."""
ACCEPT_S: Final = 2.0
"""A guardian that has not accepted a press within this hangs: a hundred of its looks."""
ACK_S: Final = 0.5
"""As the guardian: a quoter that does not obey within this is killed."""
CANCEL_S: Final = 3.0
"""Without a guardian: time for the quoter's own cancels."""
ARM_S: Final = 15.0
"""Longer than the guardian waits for a stop to be verified."""


def run(args: argparse.Namespace) -> int:
    """Return the exit code."""
    runtime = path_setting("runtime_dir", args.config, os.environ)
    state = path_setting("state_dir", args.config, os.environ)
    return _kill(args, runtime, state) if args.command == "kill" else _arm(args, runtime, state)


def _kill(args: argparse.Namespace, runtime: Path, state: Path) -> int:
    request = {"cmd": "kill", "by": person(), "reason": args.reason}
    pressed = False
    try:
        for answer in call(runtime / "guardian.sock", request, KILL_S, ACCEPT_S):
            if answer.get("error"):
                raise RemoteError(str(answer["error"]))
            if answer.get("accepted"):
                pressed = True
                say(args, "pressed: nothing is placed any more; cancelling")
    except NoGuardianError:
        return _kill_alone(args, runtime, state)
    except RemoteError as error:
        show(args, {"verified": False, "latched": pressed}, "")
        if not pressed:
            raise
        raise RemoteError(
            f"latched, nothing is placed any more, but zero orders are not verified: {error}; the guardian goes on "
            "trying (mmpi status)"
        ) from None
    text = "latched; zero orders: first seen after {first_zero_ms:.0f} ms, verified after {verified_ms:.0f} ms"
    show(args, answer, text)
    return 0


def _kill_alone(args: argparse.Namespace, runtime: Path, state: Path) -> int:
    """Latch by our own hand, and have the quoter cancel what it can; only a guardian could verify it at the venue."""
    from mmpi.device.latch import Latch
    from mmpi.runtime.board import LATCHED, HaltWord
    from mmpi.runtime.watch import QuoterWatch

    try:
        latched = Latch(state / "latch.json").trip(person(), args.reason, time.time_ns()).latched
        said = "latched"
    except DeviceError as error:
        # Whatever the disk says, the quoter is stopped.
        latched, said = False, f"NOT latched ({error})"
    watch = QuoterWatch(runtime / "status")
    watch.poll(time.monotonic_ns(), 0)
    done, killed = "no quoter is running", False
    if watch.alive:
        try:
            generation = HaltWord.create(runtime / "halt").set(LATCHED, args.reason)
        except ConfigError:
            # It cannot be told to stop, so it will not obey and is killed.
            generation = sys.maxsize
        done, killed = _end_quoter(watch, runtime, generation)
    show(args, {"verified": False, "latched": latched, "quoter_killed": killed, "quoter": done}, "")
    raise RemoteError(
        f"no guardian answers: {said}; {done}. Nobody verified that no order rests at a venue: start the guardian "
        "(mmpi guardian), it cancels and verifies"
    )


def _end_quoter(watch: "QuoterWatch", runtime: Path, generation: int) -> tuple[str, bool]:
    """Return what became of the quoter, and whether it was killed: one that obeys cancels its own orders."""
    from mmpi.runtime.board import StatusBoard

    end = time.monotonic() + ACK_S
    while watch.alive and not watch.acknowledged(generation) and time.monotonic() < end:
        time.sleep(0.01)
        watch.poll(time.monotonic_ns(), 0)
    if not watch.acknowledged(generation):
        return f"the quoter (pid {watch.pid}) did not obey within {ACK_S:g} s and was killed", watch.kill()
    board, left, end = StatusBoard.open(runtime / "status"), -1, time.monotonic() + CANCEL_S
    while board is not None and left and time.monotonic() < end:
        time.sleep(0.05)
        left = sum(each["orders"] for each in json.loads(board.read() or b"{}").get("instruments", {}).values())
    return f"the quoter (pid {watch.pid}) obeyed and cancelled; it knows of {max(left, 0)} live orders", False


def _arm(args: argparse.Namespace, runtime: Path, state: Path) -> int:
    try:
        answers = list(call(runtime / "guardian.sock", {"cmd": "arm", "by": person()}, ARM_S))
    except NoGuardianError:
        return _arm_alone(args, state)
    answer = answers[-1]
    if answer.get("error"):
        raise RefusedError(str(answer["error"]))
    show(args, answer, f"armed ({answer['note']})" if "note" in answer else "armed")
    return 0


def _arm_alone(args: argparse.Namespace, state: Path) -> int:
    """Without a guardian the latch file is ours to write, unless arming is the button's business."""
    from mmpi.commands.resolved import resolved
    from mmpi.device.latch import Latch
    from mmpi.runtime.board import lock
    from mmpi.runtime.scope import scope_of
    from mmpi.sections import Box

    box = resolved(args.config, Box)
    if box.pins.backend != "none" and not box.guardian.allow_remote_arm:
        how = "start the guardian and hold the button at the box"
        raise RefusedError(f"only hands at the box arm: {how} (guardian.allow_remote_arm is false)")
    # A guardian that hangs or is flooded is one all the same: only it knows whether anything is left to be stopped.
    with lock(box.paths.guardian_lock, "guardian"):
        stored = Latch(state / "latch.json").arm(person(), "armed by hand", time.time_ns(), scope_of(box))
    show(args, {"final": True, "armed": True, "generation": stored.generation}, "armed (no guardian is running)")
    return 0


def person() -> str:
    """Return who asks: the name at the keyboard, under sudo too."""
    return os.environ.get("SUDO_USER") or os.environ.get("USER") or f"uid {os.getuid()}"


def say(args: argparse.Namespace, text: str) -> None:
    """Tell a person how far it is."""
    if not args.json:
        print(f"mmpi {args.command}: {text}", file=sys.stderr, flush=True)


def show(args: argparse.Namespace, answer: dict[str, Any], text: str) -> None:
    """Print an answer, as JSON or in words made of it."""
    answer = {key: value for key, value in answer.items() if key != "final"}
    if args.json:
        print(json.dumps(answer), flush=True)
    elif text:
        print(text.format(**answer))


