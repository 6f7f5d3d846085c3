"""mmpi replay, journal: what a quoter did, read back, checked, recomputed, packed up and thrown away.

Invariant: of what a command does not need nothing is imported. It must not do anything itself.
"""

import argparse
from collections.abc import Callable

from mmpi.errors import ConfigError


def run(args: argparse.Namespace) -> int:
    """Return the exit code of the command that was asked for."""
    try:
        return _command(args)(args)
    except PermissionError as error:
        who = "root and members of the group mmpi may read a service's journal"
        raise ConfigError(f"{error.filename}: {error.strerror}; {who}") from None


def _command(args: argparse.Namespace) -> Callable[[argparse.Namespace], int]:
    if args.command == "replay":
        from mmpi.commands import journal_replay

        return journal_replay.run
    if args.what in ("cat", "tail"):
        from mmpi.commands import journal_show

        return journal_show.cat if args.what == "cat" else journal_show.tail
    if args.what in ("verify", "stats"):
        from mmpi.commands import journal_stats, journal_verify

        return journal_verify.run if args.what == "verify" else journal_stats.run
    if args.what in ("export", "prune"):
        from mmpi.commands import journal_export, journal_prune

        return journal_export.run if args.what == "export" else journal_prune.run
    from mmpi.commands import journal_bundle

    return journal_bundle.run
