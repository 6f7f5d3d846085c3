"""mmpi replay, journal: what a quoter did, read back, checked, recomputed, packed up and thrown away.

Invariant: of what a command does not need nothing is imported. It must not do anything itself.
"""

import argparse
import importlib
from collections.abc import Callable
from typing import Final

from mmpi.errors import ConfigError

PARTS: Final = {
    "replay": ("journal_replay", "run"),
    "verify": ("journal_verify", "run"),
    "cat": ("journal_show", "cat"),
    "tail": ("journal_show", "tail"),
    "stats": ("journal_stats", "run"),
    "export": ("journal_export", "run"),
    "prune": ("journal_prune", "run"),
    "bundle": ("journal_bundle", "run"),
}
"""Word -> module and function."""


def run(args: argparse.Namespace) -> int:
    """Return the exit code of the command that was asked for."""
    try:
        return command(args.what if args.command == "journal" else args.command)(args)
    except PermissionError as error:
        who = "root and members of the group mmpi may read a service's journal"
        raise ConfigError(f"{error.filename}: {error.strerror}; {who}") from None


def command(word: str) -> Callable[[argparse.Namespace], int]:
    """Return what does a command."""
    module, name = PARTS[word]
    found: Callable[[argparse.Namespace], int] = getattr(importlib.import_module(f"mmpi.commands.{module}"), name)
    return found
