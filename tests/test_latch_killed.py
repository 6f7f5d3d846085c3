"""The latch against SIGKILL: whoever dies while writing it leaves the old record or the new one (I3)."""

import os
import random
import signal
import struct
import time
from pathlib import Path

import pytest

from mmpi.device.latch import Latch

pytestmark = pytest.mark.slow

ROUNDS = 300
CONFIRMED = struct.Struct("<I?")
"""Generation, and whether it is latched."""


def write_until_killed(path: Path, pipe: int) -> None:
    """Trip and arm in turn for ever, and tell each record through the pipe once it is confirmed."""
    latch = Latch(path)
    while True:
        for act in (latch.trip, latch.arm):
            state = act("writer", "in turn", 7)
            os.write(pipe, CONFIRMED.pack(state.generation, state.latched))


def test_killed_at_random_points_it_is_what_was_last_confirmed_or_what_was_being_written(tmp_path: Path) -> None:
    """300 writers killed at random points: never a bad file, never older than confirmed, at most one step newer."""
    chance = random.Random(5)
    path = tmp_path / "latch.json"
    confirmed, latched = 0, True
    seen = {"confirmed": 0, "newer": 0}
    Latch(path).arm("hand", "ready", 1)
    for _ in range(ROUNDS):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            write_until_killed(path, writer)
        os.close(writer)
        time.sleep(chance.uniform(0.0, 0.012))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with os.fdopen(reader, "rb") as told:
            records = list(CONFIRMED.iter_unpack(told.read()))
        confirmed, latched = records[-1] if records else (confirmed, latched)
        state = Latch(path).load()
        assert state.valid, state.reason
        if state.generation == confirmed:
            assert state.latched is latched
            seen["confirmed"] += 1
        elif confirmed:
            assert (state.generation, state.latched) == (confirmed + 1, not latched)
            seen["newer"] += 1
        confirmed, latched = state.generation, state.latched
    print(seen)
    assert seen["confirmed"] > 0
