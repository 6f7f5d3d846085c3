"""What it costs the quoter to show its status: microseconds of its loop for each second.

    PYTHONPATH=. .venv/bin/python -m bench.status_cost [--seconds 20]

A practice box quotes two instruments, with fills; its quoter runs with a stopwatch round the making, encoding and
publishing of its status (`Loop` asks for it four times a second, and mostly is told that the last is good).
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

OUT: Final = "BENCH_STATUS_COST"


def quoter(out: Path) -> int:
    """Be the quoter, and leave nanoseconds spent and how often in a file."""
    from mmpi.app import _Quoter
    from mmpi.cli import main
    from mmpi.runtime.board import StatusBoard

    spent, times, size, real, put = 0, 0, 0, _Quoter._publish, StatusBoard.publish

    def timed(self: _Quoter) -> bytes:
        nonlocal spent, times, size
        began = time.perf_counter_ns()
        text = real(self)
        spent, times = spent + time.perf_counter_ns() - began, times + bool(text)
        size = len(text) or size
        out.write_text(json.dumps([spent, times, size]))
        return text

    def put_timed(self: StatusBoard, status: bytes) -> None:
        nonlocal spent
        began = time.perf_counter_ns()
        put(self, status)
        spent += time.perf_counter_ns() - began

    _Quoter._publish, StatusBoard.publish = timed, put_timed  # type: ignore[method-assign]
    return main(sys.argv[1:])


def main() -> int:
    """Print the cost."""
    import stack

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mmpi-bench-") as name:
        out = Path(name) / "cost.json"
        stack.BLOCKABLE = (sys.executable, "-m", "bench.status_cost")
        more = {OUT: str(out), "PYTHONPATH": str(ROOT)} | stack.TIGHT
        with stack.Stack(Path(name), latency_ms=5, blockable=True, more=more) as box:
            box.start()
            time.sleep(5.0)
            spent, times, _ = json.loads(out.read_text())
            began = time.monotonic()
            time.sleep(args.seconds)
            after, again, size = json.loads(out.read_text())
            passed, fills = time.monotonic() - began, box.summary()["run_fills"]
    each = (after - spent) / 1000 / (again - times)
    print(f"{(after - spent) / 1000 / passed:.0f} us of each second: {(again - times) / passed:.1f} statuses of "
          f"{size} bytes, {each:.0f} us each; {fills} fills")  # fmt: skip
    return 0


if __name__ == "__main__":
    import os

    sys.exit(quoter(Path(os.environ[OUT])) if OUT in os.environ else main())
