"""Asking: what an emulated box says of itself, by one program that stays in it and answers a line with a line.

`mmpi status` takes two processor seconds of such a machine, most of them to begin; asked again and again it would take
them from the box that is looked at. The program is that command's own code, begun once.

    asking = Asking(box)
    asking.status()

Invariant: whatever happens to the box, an answer or {} is there within some seconds. It must not know who asks, or why.
"""

import json
import select
import subprocess
import time
from typing import Any, Final

from hil.rigs.virt import Virt

ANSWER_S: Final = 10.0
"""Who has not answered by then does not answer."""
EVERY_S: Final = 0.25
"""It is asked no more often."""
_PROGRAM: Final = """
import argparse, contextlib, io, sys
from mmpi.commands.status import run
for _ in sys.stdin:
    out = io.StringIO()
    with contextlib.suppress(Exception), contextlib.redirect_stdout(out):
        run(argparse.Namespace(config=None, json=True))
    print(out.getvalue().strip() or "{}", flush=True)
"""
_PLACE: Final = "/run/rig-asking.py"
_BEGIN: Final = f"exec /usr/lib/mmpi/bin/python {_PLACE}"


class Asking:
    """One machine's; the program is begun when it is first asked, and anew when it has ended."""

    def __init__(self, box: Virt) -> None:
        self._box: Final = box
        self._way: subprocess.Popen[bytes] | None = None
        self._asked = 0.0

    def close(self) -> None:
        """End it."""
        if self._way is not None:
            self._way.kill()
            self._way.communicate()
            self._way = None

    def status(self) -> dict[str, Any]:
        """Return what `mmpi status --json` says; {} if nobody answers."""
        time.sleep(max(0.0, self._asked + EVERY_S - time.monotonic()))
        try:
            answer = self._ask(time.monotonic() + ANSWER_S)
            return dict(json.loads(answer))
        except (subprocess.TimeoutExpired, OSError, ValueError):
            self.close()
            return {}
        finally:
            self._asked = time.monotonic()

    def _ask(self, deadline: float) -> bytes:
        """Return the answer's line, less than that if there is none."""
        way = self._way = self._way or self._begin()
        assert way.stdin is not None and way.stdout is not None
        way.stdin.write(b"?\n")
        answer = b""
        while not answer.endswith(b"\n"):
            ready, _, _ = select.select([way.stdout], [], [], max(0.0, deadline - time.monotonic()))
            if not ready or not (data := way.stdout.read(65536)):
                break
            answer += data
        return answer

    def _begin(self) -> "subprocess.Popen[bytes]":
        put = self._box.run(f"cat >{_PLACE}", data=_PROGRAM.encode(), timeout_s=ANSWER_S)
        if put.returncode != 0:
            raise OSError("nobody is there")
        # The connection is the one that is there; where it has just ended, no other one is made.
        options = ["-q", "-o", f"ControlPath={self._box.control}", "-o", "ControlMaster=no", "-o", "ProxyCommand=false"]
        return subprocess.Popen(
            ["ssh", *options, "root@127.0.0.1", _BEGIN], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, bufsize=0,
        )  # fmt: skip
