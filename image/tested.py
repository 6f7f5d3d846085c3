"""Tested: which image the whole of `make image-test` last passed for; whoever builds these inputs must get that hash.

`python -m image.tested` exits 0 if this checkout's inputs are those, 1 if not; --write notes what has just been tested.
The whole takes over an hour, so it may be run file by file: files that passed for the same image stand together.

Invariant: what is noted passed whole, for an image that was built, here, from what is in the checkout. It must not know
what the tests do.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

from image.command import ROOT, cache
from image.debian import UnavailableError
from image.stage import Stages
from image.stages import STAGES

RESULTS: Final = ROOT / "dist" / "image-test.xml"
COUNTS: Final = ("tests", "errors", "failures", "skipped")
NOTE: Final = ROOT / "docs" / "image-tested.json"
TESTS: Final = ROOT / "tests"
MARK: Final = "\npytestmark = pytest.mark.image\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0 if the inputs are the tested ones, or were noted; 1 if not; 4 if there is nothing that can be noted."""
    parser = argparse.ArgumentParser(prog="python -m image.tested", description="Which image was tested.")
    parser.add_argument("--write", action="store_true", help="note this checkout's, which has just been tested")
    parser.add_argument("--results", type=Path, default=RESULTS, help="JUnit's file of it (default: %(default)s)")
    args = parser.parse_args(argv)
    stages = Stages(STAGES, cache() / "stages", cache(), quiet=True)
    try:
        if args.write:
            NOTE.write_text(json.dumps(built(stages, args.results, noted()), indent=1) + "\n", encoding="utf-8")
    except UnavailableError as error:
        print(f"image: {error}", file=sys.stderr)
        return 4
    note = noted()
    what = f"{note.get('image', 'none')[:16]} of {note.get('version', 'no version')}"
    if note.get("inputs") != stages.key("image"):
        print(f"image: tested was {what}; what it is made from is different now")
        return 1
    if missing := sorted(whole() - set(note["passed"])):
        print(f"image: {what}, which this is, was not tested by {', '.join(missing)}")
        return 0 if args.write else 1
    print(f"image: tested was {what}; what it is made from is the same now")
    return 0


def noted() -> dict[str, Any]:
    """Return the note, or {}."""
    return dict(json.loads(NOTE.read_text(encoding="utf-8"))) if NOTE.exists() else {}


def whole() -> set[str]:
    """Return the names of the files of tests that boot the image."""
    return {path.stem for path in TESTS.glob("test_*.py") if MARK in path.read_text(encoding="utf-8")}


def built(stages: Stages, results: Path, before: dict[str, Any]) -> dict[str, Any]:
    """Return what is noted of the build that is in the cache: a key of all inputs, the image's hash, what passed."""
    found = sorted(stages.folder("image").glob("*.manifest.json"))
    if not found:
        raise UnavailableError("nothing to note: this checkout's image was not built; make image")
    suite = ElementTree.parse(results).getroot().find("testsuite") if results.exists() else None
    counts = {name: int(suite.get(name, "0")) for name in COUNTS} if suite is not None else {}
    if suite is None or not counts["tests"] or any(counts[name] for name in COUNTS[1:]):
        raise UnavailableError(f"nothing to note: {results.name} says {counts or 'nothing'}; allowed: all passed")
    said = {each.get("name"): each.get("value", "") for each in suite.iterfind("properties/property")}
    key, shortened = stages.key("image"), said.get("shortened")
    if said.get("image") != key:
        raise UnavailableError(f"nothing to note: tested was {said.get('image')}, and what is here now is {key}")
    if shortened != "":
        raise UnavailableError(f"nothing to note: shortened by {shortened}; allowed: whole files, as they are")
    passed = dict(before["passed"]) if before.get("inputs") == key else {}
    here = [each.get("classname", "").rpartition(".")[2] for each in suite.iterfind("testcase")]
    passed |= {name: here.count(name) for name in here}
    manifest = json.loads(found[0].read_text(encoding="utf-8"))
    return {"inputs": key, "image": manifest["sha256"], "version": manifest["version"],
            "passed": dict(sorted(passed.items()))}  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
