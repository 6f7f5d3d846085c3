"""Source: a short name for what is played, so that results of other sources are known as such.

Invariant: whatever of a checkout can change what a box or a rig does, changes the name. It must not know results.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

PLAYED: Final = ("mmpi/**/*.py", "systemd/**/*", "hil/**/*.py")


def digest(root: Path, patterns: Sequence[str] = PLAYED) -> str:
    """Return 12 hex digits of the names and contents of these files."""
    found = hashlib.sha256()
    for path in sorted({path for pattern in patterns for path in root.glob(pattern) if path.is_file()}):
        if "__pycache__" not in path.parts:
            found.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()[:12]
