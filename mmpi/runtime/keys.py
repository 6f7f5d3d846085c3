"""Keys: the account, and who signs for it, from the files of one folder.

Invariant: a key is never part of an error or a log. It must not know what is signed.
"""

import os
from pathlib import Path

import msgspec

from mmpi.errors import ConfigError
from mmpi.runtime.secret_files import keep_out_of_core_dumps, read_address, read_secret
from mmpi.sections import VenueSettings
from mmpi.venues.hyperliquid.signing import Signer, parse_key


class Keys(msgspec.Struct, frozen=True):
    """The account, and who signs for it; `file` is where the key came from."""

    account: str
    signer: Signer
    file: str


def read_keys(secrets: Path, venue: VenueSettings) -> Keys:
    """Return the quoter's keys; ConfigError if they cannot be used, or live if the guardian has the same one."""
    keep_out_of_core_dumps()
    path = secrets / "quoter.key"
    key = parse_key(read_secret(path), str(path))
    other = secrets / "guardian.key"
    if venue.mode == "live" and os.access(other, os.R_OK) and parse_key(read_secret(other), str(other)) == key:
        raise ConfigError(
            f"{other}: is the quoter's key too; allowed: a key of the guardian's own (the venue counts nonces by key, "
            "and the guardian must be able to cancel whatever becomes of the quoter)"
        )
    account = read_address(secrets / "account")
    return Keys(account, Signer(key, mainnet=venue.network == "mainnet"), str(path))
