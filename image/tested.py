"""Tested: which image the whole of `make image-test` last passed for; whoever builds these inputs must get that hash.

`python -m image.tested` exits 0 if this checkout's inputs are those, 1 if not; --write notes them, after a test.

Invariant: what is noted was built, here, from what is in the checkout. It must not know the tests.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Final
from xml.etree import ElementTree

from image.command import ROOT, cache
from image.debian import UnavailableError
from image.stage import Stages
from image.stages import STAGES

RESULTS: Final = ROOT / "dist" / "image-test.xml"
COUNTS: Final = ("tests", "errors", "failures", "skipped")
NOTE: Final = ROOT / "docs" / "image-tested.json"


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0 if the inputs are the tested ones, or were noted; 1 if not; 4 if there is no build of them to note."""
    parser = argparse.ArgumentParser(prog="python -m image.tested", description="Which image was tested.")
    parser.add_argument("--write", action="store_true", help="note this checkout's, which has just been tested")
    args = parser.parse_args(argv)
    stages = Stages(STAGES, cache() / "stages", cache(), quiet=True)
    try:
        if args.write:
            NOTE.write_text(json.dumps(built(stages), indent=1) + "\n", encoding="utf-8")
    except UnavailableError as error:
        print(f"image: {error}", file=sys.stderr)
        return 4
    noted = json.loads(NOTE.read_text(encoding="utf-8")) if NOTE.exists() else {}
    same = noted.get("inputs") == stages.key("image")
    what = f"{noted.get('image', 'none')[:16]} of {noted.get('version', 'no version')}"
    print(f"image: tested was {what}; what it is made from is {'the same' if same else 'different'} now")
    return 0 if same else 1


def built(stages: Stages) -> dict[str, str]:
    """Return what is noted of the build that is in the cache: a key of all inputs, and the image's hash."""
    found = sorted(stages.folder("image").glob("*.manifest.json"))
    if not found:
        raise UnavailableError("nothing to note: this checkout's image was not built; make image")
    suite = ElementTree.parse(RESULTS).getroot().find("testsuite") if RESULTS.exists() else None
    counts = {name: int(suite.get(name, "0")) for name in COUNTS} if suite is not None else {}
    if not counts.get("tests") or any(counts[name] for name in COUNTS[1:]):
        raise UnavailableError(f"nothing to note: {RESULTS.name} says {counts or 'nothing'}; allowed: all passed")
    manifest = json.loads(found[0].read_text(encoding="utf-8"))
    return {"inputs": stages.key("image"), "image": manifest["sha256"], "version": manifest["version"]}


if __name__ == "__main__":
    sys.exit(main())
