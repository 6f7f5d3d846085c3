"""All campaigns one after the other, and what of them did not run: `make campaign`.

    make campaign                                        # everything: hours
    make campaign ARGS="--seeds 1-100"                   # words that are not these go to the campaign of faults
    make campaign ARGS="--only crashes,cuts,image --crashes 1000 --cuts 5000 --guests 20 --boots 50"

Exit 1 if any of them failed, or what was asked for could not be run.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from hil.mounts import ensure_mounts
from image.debian import UnavailableError

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("faults", "crashes", "cuts", "image")


def commands(args: argparse.Namespace, rest: Sequence[str]) -> dict[str, list[str]]:
    """Return the command of each campaign."""
    python = [sys.executable, "-m"]
    kept = ["--report", "campaign/report.json", "--keep", "campaign/failed"]
    return {
        "faults": [*python, "tests.fault_campaign", *kept, *rest],
        "crashes": [*python, "tests.crash_campaign", "--kills", str(args.crashes)],
        "cuts": [*python, "tests.cut_campaign", "--cuts", str(args.cuts), "--guests", str(args.guests)],
        "image": [*python, "tests.image_cuts", "--cuts", str(args.boots)],
    }


def unavailable(name: str) -> str:
    """Return why a campaign cannot run on this machine, "" = it can."""
    if name != "cuts":
        return ""
    if os.geteuid():
        return "it mounts file systems: root only"
    try:
        ensure_mounts()
    except UnavailableError as error:
        return str(error)
    return ""


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0 if every campaign ran and found nothing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(NAMES), help=f"some of {', '.join(NAMES)}")
    parser.add_argument("--crashes", type=int, default=1000, help="kills of a live quoter (default 1000)")
    parser.add_argument("--cuts", type=int, default=5000, help="power cuts replayed on this machine (default 5000)")
    parser.add_argument("--guests", type=int, default=20, help="power cuts in an emulated Pi (default 20)")
    parser.add_argument("--boots", type=int, default=50, help="power cuts of the whole image (default 50); it goes on")
    args, rest = parser.parse_known_args(argv)
    wanted = args.only.split(",")
    if unknown := [name for name in wanted if name not in NAMES]:
        parser.error(f"--only {unknown[0]}: allowed: {', '.join(NAMES)}")
    lines, failed = [], False
    for name, command in commands(args, rest).items():
        why = "not asked for" if name not in wanted else unavailable(name)
        if why:
            lines.append(f"{name:<8} NOT RUN: {why}")
            failed = failed or name in wanted
            continue
        print(f"campaign: {name}: {' '.join(command[2:])}", file=sys.stderr, flush=True)
        began = time.monotonic()
        code = subprocess.run(command, cwd=ROOT, check=False).returncode
        failed = failed or code != 0
        result = "passed" if code == 0 else f"FAILED (exit {code})"
        lines.append(f"{name:<8} {result} in {time.monotonic() - began:.0f} s")
    print("\n".join(lines))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
