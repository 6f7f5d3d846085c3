"""Scope: what an arming is for. Live, one account and one configuration; elsewhere nothing in particular.

Invariant: another account or another configuration is another scope. It must not know latches.
"""

import hashlib
from pathlib import Path

from mmpi.runtime.secret_files import read_address
from mmpi.sections import Box


def scope_of(box: Box) -> str:
    """Return the scope, "" = any; ConfigError if the account cannot be read."""
    if box.venue.mode != "live":
        return ""
    account = read_address(Path(box.paths.secrets_dir) / "account")
    return hashlib.sha256(f"{account} {box.digest}".encode()).hexdigest()
