"""Command: `image/build`, its words and its ends.

Invariant: with --json stdout carries one JSON object on one line; progress goes to stderr, and not there either then.
It must not know what the stages do.
"""

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from image import lock
from image.debian import UnavailableError
from image.stage import Stages
from image.stages import STAGES

ROOT = Path(__file__).resolve().parents[1]


def cache() -> Path:
    """Return the folder that results and downloads are kept in."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mmpi-image"


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0; 2 for bad usage, 4 if something could not be had or made, 5 if the mirror no longer has the lock's."""
    parser = argparse.ArgumentParser(prog="image/build", description="Make the SD card's image from locked packages.")
    parser.add_argument("--list", action="store_true", help="the stages, and whether each is made already")
    names = [stage.name for stage in STAGES]
    parser.add_argument("--stage", choices=names, default="image", help="stop after this one")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="where the image goes (default: dist/)")
    parser.add_argument("--cache", type=Path, default=cache(), help="where results of stages are kept")
    parser.add_argument("--downloads", type=Path, help="where packages are kept (default: the cache)")
    parser.add_argument("--lock", action="store_true", help="write packages.lock anew from what the mirror has now")
    parser.add_argument("--json", action="store_true", help="one JSON object on one line of stdout, no progress")
    args = parser.parse_args(argv)
    stages = Stages(STAGES, args.cache / "stages", args.downloads or args.cache, quiet=args.json)
    try:
        if args.lock:
            return _lock()
        if args.list:
            return _list(stages, as_json=args.json)
        return _build(stages, args.stage, args.out, as_json=args.json)
    except UnavailableError as error:
        print(f"image/build: {error}", file=sys.stderr)
        return 5 if isinstance(error, lock.MovedError) else 4


def _lock() -> int:
    old, new = lock.load() if lock.LOCK.exists() else None, lock.resolve()
    for role in lock.ROLES:
        lines = lock.differences(old.packages[role], new.packages[role]) if old else []
        same = f"{role}: {len(new.packages[role])} packages, as before"
        print("\n".join(f"{role}: {line}" for line in lines) or same)
    lock.LOCK.write_text(lock.text(new), encoding="utf-8")
    return 0


def _list(stages: Stages, *, as_json: bool) -> int:
    rows = [(stage.name, stages.folder(stage.name).is_dir(), stage.title, stages.key(stage.name)) for stage in STAGES]
    if as_json:
        print(json.dumps([{"stage": name, "made": made, "key": key} for name, made, _, key in rows]))
        return 0
    for name, made, title, key in rows:
        print(f"{name:8} {'made' if made else '-':5} {key}  {title}")
    return 0


def _build(stages: Stages, name: str, out: Path, *, as_json: bool) -> int:
    began = time.monotonic()
    folder = stages.run(name)
    if name == "image":
        out.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            if path.suffix != ".img":
                shutil.copyfile(path, out / path.name)
    took = round(time.monotonic() - began, 1)
    if as_json:
        print(json.dumps({"stage": name, "folder": str(folder), "seconds": took, "stages": stages.seconds}))
        return 0
    print(f"image: {name} is in {out if name == 'image' else folder} ({took:.0f} s)", file=sys.stderr)
    if name == "image":
        print((folder / "SHA256SUMS").read_text(encoding="utf-8"), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
