"""Reproduce: build the image twice, the second time under everything that could leak into it, and compare every byte.

The second build runs in a copy of the checkout at another path, with umask 077, another time zone, an ASCII locale, one
core, a clock of another year, and not one result of the first but the packages that both are made from.

Invariant: the same inputs that `image/build` has are built; what differs is kept, with diffoscope's words about it.
It must not know what stages make.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from image.command import ROOT, cache
from image.debian import UnavailableError
from image.stage import Stages
from image.stages import STAGES

COPIED: Final = ("image", "mmpi", "systemd", "scripts", "requirements", "pyproject.toml")
"""All that a build reads of the project."""
YEAR: Final = "+400d"
LARGEST: Final = 512 * 1024**2
"""Bytes of a file that diffoscope is given; of a larger one a stage before has the cause."""
DIFFOSCOPE_S: Final = 600


class Build(NamedTuple):
    """One build: its stages' folders by name, and the digests of what it gives out."""

    folders: dict[str, Path]
    sums: dict[str, str]


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0 if both are the same, 1 if not, 4 if one could not be made."""
    parser = argparse.ArgumentParser(prog="make image-reproduce", description="Build twice, and compare every byte.")
    parser.add_argument("--out", type=Path, default=ROOT / "dist" / "reproduce", help="where differences are kept")
    parser.add_argument("--cache", type=Path, default=cache(), help="packages, and results of the first build")
    parser.add_argument("--json", action="store_true", help="one JSON object on one line of stdout, no progress")
    args = parser.parse_args(argv)
    try:
        with tempfile.TemporaryDirectory(prefix="mmpi other path ") as place:
            return _compare(args.cache, Path(place), args.out, as_json=args.json)
    except UnavailableError as error:
        print(f"image-reproduce: {error}", file=sys.stderr)
        return 4


def _compare(downloads: Path, place: Path, out: Path, *, as_json: bool) -> int:
    began = time.monotonic()
    stages = Stages(STAGES, downloads / "stages", downloads, quiet=as_json)
    # Each of them: a result that is there already does not say that those before it still are.
    first = read({name: stages.run(name) for name in stages.stages})
    second = elsewhere(downloads, place, quiet=as_json)
    differing = different(first, second)
    found: dict[str, Any] = {"same": not differing, "sums": first.sums, "differing": differing}
    if differing:
        shutil.rmtree(out, ignore_errors=True)
        found["kept"] = [str(path) for path in keep(first, second, out)]
    found["seconds"] = round(time.monotonic() - began, 1)
    if as_json:
        print(json.dumps(found))
    else:
        _tell(found)
    return 1 if differing else 0


def _tell(found: dict[str, Any]) -> None:
    for name, digest in sorted(found["sums"].items()):
        print(f"{digest}  {name}")
    if found["same"]:
        count, took = len(found["sums"]), found["seconds"]
        print(f"image-reproduce: two builds, the same {count} files, byte for byte ({took:.0f} s)")
        return
    for stage, names in found["differing"].items():
        print(f"image-reproduce: stage {stage} differs: {', '.join(names)}")
    for path in found["kept"]:
        print(f"image-reproduce: see {path}")


def elsewhere(downloads: Path, place: Path, *, quiet: bool) -> Build:
    """Return a second build, made below `place` under other circumstances, from the packages in `downloads`."""
    ensure("clock", "faketime", "taskset")
    checkout, stages, out = place / "checkout", place / "cache", place / "out"
    for name in COPIED:
        _copy(ROOT / name, checkout / name)
    # Not the clock of whatever measures intervals: packages are fetched under it, too.
    under = ["faketime", "--exclude-monotonic", "-f", YEAR, "taskset", "-c", "0"]
    build = [sys.executable, "-m", "image.command", "--cache", str(stages), "--downloads", str(downloads)]
    env = {
        "PATH": os.environ["PATH"], "HOME": str(place), "TMPDIR": str(place), "PYTHONPATH": str(checkout),
        "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONDONTWRITEBYTECODE": "1",
        "TZ": "Pacific/Kiritimati", "MMPI_IMAGE_CLOCK": YEAR,
    }  # fmt: skip
    words = [*under, *build, "--out", str(out)]
    if not quiet:
        print("image: once more, elsewhere, under another clock ...", file=sys.stderr, flush=True)
    said = subprocess.PIPE if quiet else None
    done = subprocess.run(words, cwd=place, env=env, umask=0o077, stdout=subprocess.DEVNULL, stderr=said, check=False)
    if done.returncode != 0:
        last = (done.stderr or b"").decode("utf-8", "replace").strip().splitlines()[-1:] or ["see above"]
        raise UnavailableError(f"the second build ended with exit {done.returncode}: {last[0]}")
    listed = subprocess.run([*build, "--list", "--json"], cwd=place, env=env, capture_output=True, check=True).stdout
    rows = json.loads(listed)
    return read({row["stage"]: stages / "stages" / f"{row['stage']}-{row['key']}" for row in rows})


def read(folders: dict[str, Path]) -> Build:
    """Return a build by its stages' folders; the digests are those of its last stage."""
    sums = (folders["image"] / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    return Build(folders, {name: digest for digest, _, name in (line.partition("  ") for line in sums)})


def different(first: Build, second: Build) -> dict[str, list[str]]:
    """Return the files that differ, by stage, in the order in which stages are made; all of them are read."""
    found = {}
    for stage, folder in first.folders.items():
        other = second.folders[stage]
        mine, theirs = _digests(folder), _digests(other)
        names = sorted(name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name))
        if names:
            found[stage] = names
    return found


def keep(first: Build, second: Build, out: Path) -> list[Path]:
    """Keep both forms of what differs in the first stage that does, and diffoscope's words; return what was made."""
    stage, names = next(iter(different(first, second).items()))
    out.mkdir(parents=True)
    for name in names:
        for which, build in (("first", first), ("second", second)):
            if (source := build.folders[stage] / name).is_file():
                (out / which / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, out / which / name)
    made = [out / "first", out / "second"]
    for name in names:
        pair = [out / "first" / name, out / "second" / name]
        if all(path.is_file() and path.stat().st_size <= LARGEST for path in pair):
            made += _explained(pair, out / f"{name.replace('/', '_')}.diffoscope.txt")
    return made


def _explained(pair: Sequence[Path], report: Path) -> list[Path]:
    """Return diffoscope's report, if it could be had in good time: that two files differ is known without."""
    try:
        ensure("compare", "diffoscope")
        words = ["diffoscope", "--text", str(report), "--new-file", *map(str, pair)]
        subprocess.run(words, capture_output=True, timeout=DIFFOSCOPE_S, check=False)
    except (UnavailableError, subprocess.TimeoutExpired) as error:
        print(f"image-reproduce: no report of {pair[0].name}: {error}", file=sys.stderr)
    return [report] if report.exists() else []


def ensure(what: str, *programs: str) -> None:
    """Have `hil/setup` install programs that are not there; UnavailableError with its last words if it cannot."""
    if not _there(programs):
        done = subprocess.run([ROOT / "hil" / "setup", what], capture_output=True, text=True, check=False)
        if done.returncode != 0 or not _there(programs):
            raise UnavailableError((done.stderr.strip().splitlines() or [f"not all of {', '.join(programs)}"])[-1])


def _there(programs: Sequence[str]) -> bool:
    return all(shutil.which(program) for program in programs)


def _copy(source: Path, target: Path) -> None:
    """Copy contents, and what can be run; other modes and times are the second build's own."""
    for path in sorted(source.rglob("*")) if source.is_dir() else [source]:
        if path.is_file() and "__pycache__" not in path.parts:
            place = target / path.relative_to(source) if source.is_dir() else target
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)
            place.chmod(0o700 if os.access(path, os.X_OK) else 0o600)


def _digests(folder: Path) -> dict[str, str]:
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            found[path.relative_to(folder).as_posix()] = f"link to {os.readlink(path)}"
        elif path.is_file():
            with path.open("rb") as data:
                found[path.relative_to(folder).as_posix()] = hashlib.file_digest(data, "sha256").hexdigest()
    return found


if __name__ == "__main__":
    sys.exit(main())
