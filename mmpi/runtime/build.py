"""Build: which code decided, so that a journal can be told from one that other code wrote.

Invariant: two builds with the same id act the same. It must not know versions of packages or of Python.
"""

import hashlib
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Final

DECIDING: Final = ("*.py", "quoting/*.py", "signals/*.py")
"""The engine and all that it is made of, from the package's folder."""


@cache
def build_id() -> str:
    """Return the version and a digest of the sources that decide what the engine does: 0.1.0+1f3a5c7e."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(path for pattern in DECIDING for path in package.glob(pattern)):
        digest.update(path.read_bytes())
    return f"{version('mmpi')}+{digest.hexdigest()[:8]}"
