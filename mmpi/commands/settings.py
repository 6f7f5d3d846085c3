"""mmpi check, schema: the configuration, checked, explained, resolved for the daemons.

Invariant: nothing is written unless everything is right.
"""

import argparse
import json
import os
import sys
from pathlib import Path

from mmpi.config import effective, json_schema, load_config, resolve


def run(args: argparse.Namespace) -> int:
    """Return 0; ConfigError with everything that is wrong."""
    if args.command == "schema":
        print(json.dumps(json_schema(), indent=None if args.json else 2))
        return 0
    loaded = load_config(args.config, os.environ)
    for note in loaded.notes:
        print(f"mmpi check: note: {note}", file=sys.stderr)
    if args.resolve:
        resolve(loaded, Path(loaded.settings.paths.runtime_dir) / "config.json")
    rows = effective(loaded)
    if args.json:
        values = {key: {"value": value, "origin": origin} for key, value, origin in rows}
        print(json.dumps({"digest": loaded.settings.digest, "notes": loaded.notes, "values": values}))
        return 0
    width = max(len(f"{key} = {value}") for key, value, _ in rows)
    for key, value, origin in rows:
        print(f"{f'{key} = {value}':<{width}}  # {origin}")
    return 0
