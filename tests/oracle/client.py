"""python -m tests.oracle.client URL KEYS SCENE...: play scenes of the vendor's SDK; print one JSON object.

For each scene: what it returned ("answers"), or why it broke off ("error"), and what the SDK itself printed, which it
does when it hears something that it does not expect ("printed").
"""

import contextlib
import io
import json
import sys
import traceback
from pathlib import Path
from typing import Any

from tests.oracle.scenes import SCENES, Stage


def main(url: str, keys: str, *names: str) -> None:
    """Play the scenes named, one after the other."""
    stage = Stage(url, Path(keys))
    print(json.dumps({name: play(name, stage) for name in names}))


def play(name: str, stage: Stage) -> dict[str, Any]:
    """Return what came of one scene."""
    printed = io.StringIO()
    told: dict[str, Any] = {"answers": None, "error": ""}
    with contextlib.redirect_stdout(printed):
        try:
            told["answers"] = SCENES[name](stage)
        except Exception:
            told["error"] = traceback.format_exc()
    return told | {"printed": printed.getvalue()}


if __name__ == "__main__":
    main(*sys.argv[1:])
