"""mmpi replay, journal: what a quoter did, read back, checked and recomputed.

Invariant: exit 0 means that every byte and every action is as it was written.
"""

import argparse
import json
import os
import sys
from pathlib import Path

import msgspec

from mmpi.app import rebuild
from mmpi.engine import Engine
from mmpi.folders import path_setting
from mmpi.journal.reader import cat_journal, verify_journal
from mmpi.journal.record import Checkpoint
from mmpi.runtime.build import build_id
from mmpi.runtime.replay import verify_replay


def run(args: argparse.Namespace) -> int:
    """Return 0, or 1 if something is damaged or does not replay."""
    path: Path = args.path or path_setting("runtime_dir", args.config, os.environ) / "journal"
    if args.command == "replay":
        return _replay(args, path)
    if args.what == "cat":
        for line in cat_journal(path):
            print(line)
        return 0
    verdict = verify_journal(path)
    _print(args, verdict)
    return 1 if verdict.damage else 0


def _replay(args: argparse.Namespace, path: Path) -> int:
    builds: set[str] = set()

    def build(saved: Checkpoint) -> Engine:
        builds.add(saved.mmpi_version)
        return rebuild(saved)

    verdict = verify_replay(path, build)
    _print(args, verdict, exact=verdict.exact, mismatch=str(verdict.mismatch) if verdict.mismatch else "")
    others = sorted(builds - {build_id()})
    if others and not verdict.exact:
        print(f"mmpi replay: written by mmpi {', '.join(others)}; this is {build_id()}", file=sys.stderr)
    return 0 if verdict.exact or not args.verify else 1


def _print(args: argparse.Namespace, verdict: msgspec.Struct, **more: object) -> None:
    content = {**msgspec.to_builtins(verdict), **more}
    if args.json:
        print(json.dumps(content), flush=True)
    else:
        for key, value in content.items():
            if isinstance(value, (list, tuple)):
                for each in value:
                    print(f"{key}: {each}")
            elif value != "":
                print(f"{key}: {value}")
    for each in (*content["damage"], *content["torn"], more.get("mismatch") or ""):
        if each:
            print(f"mmpi {args.command}: {each}", file=sys.stderr)
