"""A control socket that is flooded by other processes: the server's own work, the presses of others, and memory."""

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from stack import ROOT

from mmpi.runtime.ipc import Answer, ControlServer, Peer, call

pytestmark = pytest.mark.slow

FLOOD_S = 3.0
LOOK_S = 0.02
"""As the guardian's."""
LATE_S = 0.02
"""Of 95 of 100 looks: one look. What the flooders themselves take of the machine's cores is in it."""
GROWTH_MB = 4.0
ANSWER = {"latch": "armed", "causes": ["something that takes room"] * 20}


def resident_mb() -> float:
    """Return this process's resident memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


async def answers(request: dict[str, Any], _peer: Peer, answer: Answer) -> None:
    """Answer as a guardian: twice to a press, at length to a question."""
    if request["cmd"] == "press":
        await answer({"accepted": True})
    await answer({"final": True, **ANSWER})


async def presses(path: Path, until: float) -> list[float]:
    """Press again and again; return how long it took each time to be accepted."""
    took = []
    while time.monotonic() < until:
        began = time.monotonic()
        async for each in call(path, {"cmd": "press"}, 5.0):
            if each.get("accepted"):
                took.append(time.monotonic() - began)
        await asyncio.sleep(0.05)
    return took


@pytest.mark.parametrize(
    ("kind", "threads", "patience_s"),
    [("pipe", 1, 0.1), ("pipe", 32, 0.5), ("pipe", 100, 1.5), ("connect", 1, 1.0), ("connect", 20, 1.5)],
)
async def test_a_flood(tmp_path: Path, kind: str, threads: int, patience_s: float) -> None:
    """Ten thousand questions a second, on one connection or on many, or with a connection each, neither delay the
    server's own looks, nor keep a press from being accepted in time, nor make memory grow."""
    server = ControlServer(tmp_path / "guardian.sock", answers)
    await server.start()
    command = [sys.executable, str(ROOT / "tests" / "control_flood.py"), kind, str(server.path), str(FLOOD_S)]
    flooder = await asyncio.create_subprocess_exec(*command, str(threads), stdout=asyncio.subprocess.PIPE)
    late, began, size, spent = [], time.monotonic(), resident_mb(), time.process_time()
    pressing = asyncio.create_task(presses(server.path, began + FLOOD_S))
    while time.monotonic() < began + FLOOD_S:
        look = time.monotonic()
        await asyncio.sleep(LOOK_S)
        late.append(time.monotonic() - look - LOOK_S)
    spent = (time.process_time() - spent) / FLOOD_S
    said, _ = await flooder.communicate()
    took = await pressing
    await server.close()
    late.sort()
    figures = f"{kind} {threads}: asked {int(said) / FLOOD_S:.0f}/s, presses {sorted(took)[-3:]}, late {late[-3:]}"
    assert late[len(late) * 95 // 100] < LATE_S, figures
    assert len(took) >= 2 and max(took) < patience_s, figures
    assert spent < 0.4, figures
    assert resident_mb() - size < GROWTH_MB, figures
