"""mmpi journal export: a journal as tables that other programs read.

Invariant: the tables are all there, or none of them. It must not know what is in them.
"""

import argparse
import json
from pathlib import Path

from mmpi.commands.journal_places import Progress, chosen, ended_by_term, size_of, size_text
from mmpi.errors import ConfigError
from mmpi.journal.reader import paths_of


def run(args: argparse.Namespace) -> int:
    """Return 0 once the tables are written."""
    try:
        from mmpi.research import journal_export
    except ImportError as error:
        raise ConfigError(f"--parquet needs the research extra ({error.name} is missing); run: make setup") from None
    folder: Path = args.parquet
    with chosen(args) as found, ended_by_term():
        total = sum(size_of(path) for place in found.places for path in paths_of(place.path))
        with Progress(args, f"export to {folder}", total) as progress:
            parts = [(place.prefix, place.path) for place in found.places]
            report = journal_export.export(parts, folder, progress.moved)
    if args.json:
        print(json.dumps({"dir": str(folder), "tables": report.rows, "damage": [*found.damage, *report.damage]}))
        return 0
    for name, rows in report.rows.items():
        file = folder / f"{name}.parquet"
        print(f"{name:<9} {rows} rows, {size_text(file.stat().st_size)}, {file}")
    for text in (*found.damage, *report.damage):
        print(f"left out  {text}")
    return 0
