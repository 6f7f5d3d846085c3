"""mmpi journal verify: whether what a box has written down is whole.

Invariant: exit 0 means that every byte is as it was written, but for what a kill or a power cut tears off, and what
could not be written and says so. It must not know what the records are for.
"""

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import msgspec

from mmpi.commands.journal_places import Place, Progress, as_folder, chosen, size_of, size_text
from mmpi.errors import ConfigError, JournalError
from mmpi.journal.budget import ARCHIVE
from mmpi.journal.bundle import LEDGER
from mmpi.journal.cold import COLD, segment_paths
from mmpi.journal.record import HeaderCutError
from mmpi.journal.spans import chains_of
from mmpi.journal.survey import Verdict, verify_journal
from mmpi.runtime.incident import MEMORY
from mmpi.runtime.rescue import PREFIX

NOTHING: Final = Verdict(0, 0, 0, 0, 0, 0, 0, False, (), ())
_SUMS: Final = ("segments", "records", "checkpoints", "events", "actions", "lost", "skipped_bytes", "unknown")
_LISTS: Final = ("torn", "damage", "gaps")


def run(args: argparse.Namespace) -> int:
    """Return 0 if all is whole, 1 if something is damaged; ConfigError if there is no journal."""
    with chosen(args, both=True) as found:
        verdicts: dict[str, Verdict] = {}
        missing: list[str] = []
        for place in _with_kept(found.places) if args.path is None and not args.ledger else found.places:
            with Progress(args, f"verify {place.label or place.path.name}, {size_text(_bytes(place.path))}"):
                try:
                    verdicts[place.label] = _verdict(place)
                except ConfigError as error:
                    missing.append(str(error))
        if not verdicts:
            raise ConfigError("\n".join(missing))
    if found.places[0].packed:
        whole = merged(verdict for label, verdict in verdicts.items() if label != LEDGER)
        verdicts[""] = msgspec.structs.replace(whole, damage=(*found.damage, *whole.damage))
    if args.json:
        print(json.dumps(_content(verdicts, missing, alone=args.path is not None and len(verdicts) == 1)), flush=True)
    else:
        _show(verdicts, missing, {place.label: place.path for place in found.places})
    told = [(label, text) for label, verdict in verdicts.items() for text in (*verdict.damage, *verdict.torn)]
    for label, text in told:
        # What all of a bundle's places hold together is told once, by place.
        if label or text in found.damage or len(verdicts) == 1:
            print(f"mmpi journal: {label + ': ' if label else ''}{text}", file=sys.stderr)
    return 1 if any(verdict.damage for verdict in verdicts.values()) else 0


def merged(verdicts: Iterable[Verdict]) -> Verdict:
    """Return what several journals hold together, in the order of time."""
    total = msgspec.to_builtins(NOTHING)
    total |= {key: [] for key in _LISTS} | {"kinds": {}}
    for verdict in verdicts:
        for key in _SUMS:
            total[key] += getattr(verdict, key)
        for key in _LISTS:
            total[key] += getattr(verdict, key)
        for kind, count in verdict.kinds.items():
            total["kinds"][kind] = total["kinds"].get(kind, 0) + count
        total["first_ts"] = total["first_ts"] or verdict.first_ts
        total["last_ts"] = max(total["last_ts"], verdict.last_ts)
        total["clean_stop"] = verdict.clean_stop
    return msgspec.convert(total, Verdict)


def _verdict(place: Place) -> Verdict:
    if place.label != ARCHIVE or not place.path.is_dir():
        return _verify(place.path)
    parts = []
    for chain in chains_of(segment_paths(place.path)):
        # Numbers in it begin anew with each boot, and what was over the budget was left out.
        with as_folder(chain) as folder:
            parts.append(_verify(folder))
    return merged(parts)


def _verify(path: Path) -> Verdict:
    """Return the verdict on a journal, also on one of which not even the first header can be read."""
    try:
        return verify_journal(path)
    except JournalError as error:
        text = str(error).removeprefix(f"{path}/")
        paths = segment_paths(path) if path.is_dir() else [path]
        if isinstance(error, HeaderCutError) and not any(each.name.endswith(COLD) for each in paths):
            # Its first segment was being made when the run ended.
            return msgspec.structs.replace(NOTHING, torn=(text,))
        return msgspec.structs.replace(NOTHING, damage=(text,))


def _with_kept(places: Iterable[Place]) -> Iterable[Place]:
    """Yield the tiers, and behind the ledger what is kept of the journal in memory beside it."""
    for place in places:
        yield place
        if place.label == LEDGER and place.path.is_dir():
            kept = sorted(path for path in place.path.iterdir() if path.is_dir() and path.name.startswith(PREFIX))
            for folder in [place.path / ARCHIVE, *kept]:
                if folder.is_dir() and segment_paths(folder):
                    yield Place(folder.name, folder)


def _content(verdicts: dict[str, Verdict], missing: list[str], *, alone: bool) -> dict[str, Any]:
    """Return the JSON: the journal in memory, or the one that PATH names, on top; the others under their names."""
    names: dict[str, Any] = {label: msgspec.to_builtins(verdict) for label, verdict in verdicts.items()}
    if alone and "" in names:
        found: dict[str, Any] = names[""]
        return found
    ledger = names.pop(LEDGER, None)
    if ledger is not None and not names and not missing:
        return {LEDGER: ledger}
    top = names.pop("") if "" in names else names.pop(MEMORY, msgspec.to_builtins(NOTHING))
    return {**top, LEDGER: ledger, **names, "missing": missing}


def _show(verdicts: dict[str, Verdict], missing: list[str], paths: dict[str, Path]) -> None:
    for label, verdict in verdicts.items():
        if label:
            where = f" {paths[label]}" if label in paths else ""
            print(f"{label}{where}: {'damaged' if verdict.damage else 'whole'}")
        for key, value in msgspec.to_builtins(verdict).items():
            for each in value if isinstance(value, list | tuple) else [value]:
                print(f"{'  ' if label else ''}{key}: {each}")
    for text in missing:
        print(f"missing: {text}")


def _bytes(path: Path) -> int:
    return sum(map(size_of, segment_paths(path) if path.is_dir() else [path]))
