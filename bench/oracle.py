"""The environment with the vendor's own client (`make oracle`): where it is, and how to ask a module that runs in it.

Everything that imports the vendor's SDK runs there, in a process of its own: the SDK and what it needs are no part of
any environment that mmpi runs in (docs/DECISIONS.md, 19).
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
VARIABLE = "MMPI_ORACLE"
PATIENCE_S = 300.0
"""For one module: several times what the slowest takes."""


def interpreter() -> Path:
    """Return the environment's Python: what MMPI_ORACLE names, else the one beside the running environment."""
    if named := os.environ.get(VARIABLE):
        return Path(named).absolute()
    beside = Path(sys.prefix)
    return beside.with_name(f"{beside.name}-oracle") / "bin" / "python"


def absence() -> str:
    """Return why the environment cannot be used, "" if it can."""
    path = interpreter()
    if path.is_file():
        return ""
    return f"the vendor's client is not here: {path} is no file; make it: make oracle, or name it by {VARIABLE}"


def ask(module: str, *words: str) -> dict[str, Any]:
    """Return the JSON object that a module prints; RuntimeError with all that it said if it fails."""
    line = [str(interpreter()), "-m", module, *words]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(line, cwd=ROOT, env=env, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    if done.returncode:
        raise RuntimeError(f"{module} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer
