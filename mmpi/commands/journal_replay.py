"""mmpi replay: a journal's actions computed again, and compared.

Invariant: exit 0 with --verify means that every byte and every action is as it was written. It must not know how.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from mmpi.commands.journal_places import Progress
from mmpi.engine import Engine
from mmpi.engines import rebuild
from mmpi.errors import ConfigError
from mmpi.folders import path_setting
from mmpi.journal.bundle import LEDGER, is_bundle, unpacked
from mmpi.journal.cold import segment_paths
from mmpi.journal.entries import Checkpoint
from mmpi.journal.spans import is_ledger
from mmpi.runtime.build import build_id
from mmpi.runtime.replay import ReplayVerdict, verify_replay


def run(args: argparse.Namespace) -> int:
    """Return 0, or with --verify 1 if something is damaged or does not replay."""
    path: Path = args.path or path_setting("runtime_dir", args.config, os.environ) / "journal"
    builds: set[str] = set()

    def build(saved: Checkpoint) -> Engine:
        builds.add(saved.mmpi_version)
        return rebuild(saved)

    with Progress(args, f"replay {path.name}"):
        if is_bundle(path):
            with unpacked(path) as found:
                folders = {place: folder for place, folder in found.folders.items() if place != LEDGER}
                if not folders:
                    raise ConfigError(f"{path}: no journal of events in this bundle, and so nothing to replay")
                parts = {place: verify_replay(folder, build) for place, folder in folders.items()}
                verdict = merged(parts, found.damage)
        else:
            _refuse_ledger(path)
            verdict = verify_replay(path, build)
    _print(args, verdict)
    others = sorted(builds - {build_id()})
    if others and not verdict.exact:
        print(f"mmpi replay: written by mmpi {', '.join(others)}; this is {build_id()}", file=sys.stderr)
    return 0 if verdict.exact or not args.verify else 1


def merged(parts: dict[str, ReplayVerdict], damage: Sequence[str] = ()) -> ReplayVerdict:
    """Return the verdict on several journals, in the order of time; between two of them the engine begins anew."""
    verdicts = list(parts.values())
    prefix = {place: f"{place}: " if len(parts) > 1 else "" for place in parts}
    return ReplayVerdict(
        events=sum(each.events for each in verdicts),
        actions=sum(each.actions for each in verdicts),
        checkpoints=sum(each.checkpoints for each in verdicts),
        restarts=sum(each.restarts for each in verdicts) + max(0, sum(each.events > 0 for each in verdicts) - 1),
        first_ts=min((each.first_ts for each in verdicts if each.first_ts), default=0),
        last_ts=max(each.last_ts for each in verdicts),
        torn=tuple(prefix[place] + text for place, each in parts.items() for text in each.torn),
        damage=(*damage, *(prefix[place] + text for place, each in parts.items() for text in each.damage)),
        mismatch=next(
            (
                msgspec.structs.replace(each.mismatch, segment=f"{place}/{each.mismatch.segment}")
                for place, each in parts.items() if each.mismatch is not None
            ),
            None,
        ),  # fmt: skip
    )


def _refuse_ledger(path: Path) -> None:
    """Raise ConfigError for a ledger: without events every replay would be exact."""
    segments = segment_paths(path) if path.is_dir() else [path] if path.exists() else []
    if segments and is_ledger(segments[-1]):
        raise ConfigError(f"{path}: a ledger, which holds no events; allowed: a journal of them, or a bundle")


def _print(args: argparse.Namespace, verdict: ReplayVerdict) -> None:
    mismatch = str(verdict.mismatch) if verdict.mismatch else ""
    content = {**msgspec.to_builtins(verdict), "exact": verdict.exact, "mismatch": mismatch}
    if args.json:
        print(json.dumps(content), flush=True)
    else:
        for key, value in content.items():
            for each in value if isinstance(value, list | tuple) else [value]:
                if each != "":
                    print(f"{key}: {each}")
    for text in (*verdict.damage, *verdict.torn, *([mismatch] if mismatch else [])):
        print(f"mmpi replay: {text}", file=sys.stderr)
