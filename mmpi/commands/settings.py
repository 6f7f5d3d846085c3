"""mmpi check, schema: the configuration, checked, explained, resolved for the daemons, held against the venue.

Invariant: nothing is written unless everything is right; the venue is only asked on request.
"""

import argparse
import json
import os
import sys
from pathlib import Path

import msgspec

from mmpi.config import effective, json_schema, load_config, resolve
from mmpi.runtime.findings import exit_code
from mmpi.settings import Settings


def run(args: argparse.Namespace) -> int:
    """Return 0, or what the worst finding online comes to; ConfigError with everything that is wrong."""
    if args.command == "schema":
        print(json.dumps(json_schema(), indent=None if args.json else 2))
        return 0
    loaded = load_config(args.config, os.environ)
    for note in loaded.notes:
        print(f"mmpi check: note: {note}", file=sys.stderr)
    if args.resolve:
        resolve(loaded, Path(loaded.settings.paths.runtime_dir) / "config.json")
    if args.online:
        return _online(loaded.settings, as_json=args.json)
    rows = effective(loaded)
    if args.json:
        values = {key: {"value": value, "origin": origin} for key, value, origin in rows}
        print(json.dumps({"digest": loaded.settings.digest, "notes": loaded.notes, "values": values}))
        return 0
    width = max(len(f"{key} = {value}") for key, value, _ in rows)
    for key, value, origin in rows:
        print(f"{f'{key} = {value}':<{width}}  # {origin}")
    return 0


def _online(settings: Settings, *, as_json: bool) -> int:
    """Print what the venue says to the settings; return the exit code."""
    from mmpi.commands.online import examine

    findings = examine(settings)
    code = exit_code(findings)
    if as_json:
        print(json.dumps({"ok": code == 0, "findings": msgspec.to_builtins(findings)}))
        return code
    for finding in findings:
        print(finding.line())
    return code
