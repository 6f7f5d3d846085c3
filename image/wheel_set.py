"""Wheel set: mmpi of a checkout with all that it imports, as wheels for one Python and machine, and its units.

`python -m image.wheel_set --python 3.13 --arch aarch64` writes dist/wheels/cp313-aarch64/: set.tar, and manifest.json,
which names the version, the set's hash, and where each unit belongs. ansible/ installs from these.

Invariant: the same inputs give the same bytes; what was not made here is checked against requirements/run.txt.
It must not know hosts.
"""

import argparse
import hashlib
import io
import json
import shutil
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from packaging.markers import Marker

from image.debian import UnavailableError, run
from image.wheels import ROOT, SOURCES, locked

MACHINES: Final = ("aarch64", "x86_64")
PYTHONS: Final = ("3.11", "3.12", "3.13")
GLIBC: Final = ("manylinux2014", *(f"manylinux_2_{minor}" for minor in (17, 24, 26, 27, 28, 31, 34)))
"""Wheels that Debian 12 (glibc 2.36) and later can load."""
LEFT_OUT: Final = ("setuptools",)
"""Locked for builds from source, of which a host does none."""
SOURCE: Final = ("pyproject.toml", "README.md", "LICENSE", "mmpi")
EPOCH: Final = 1_600_000_000
"""Every file's date in what is made here; zip files know none before 1980."""
PLACE: Final = "/usr/local/lib"
ALWAYS: Final = ("system", "sysusers.d", "tmpfiles.d")
"""Folders of systemd/ that every host gets, and those below for pins and for I2C (scripts/install-service)."""
PINS: Final = {
    "pins": {f"{PLACE}/systemd/system/mmpi-guardian.service.d/20-pins.conf": "pins/20-pins.conf"},
    "i2c": {f"{PLACE}/systemd/system/mmpi-guardian.service.d/21-i2c.conf": "pins/21-i2c.conf"},
    "udev": {"/etc/udev/rules.d/60-mmpi-pins.rules": "udev/60-mmpi-pins.rules"},
}


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0; 4 if the set cannot be made here."""
    parser = argparse.ArgumentParser(prog="python -m image.wheel_set", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--python", choices=PYTHONS, default="3.13", help="of the hosts (default: %(default)s)")
    parser.add_argument("--arch", choices=MACHINES, default="aarch64", help="of the hosts (default: %(default)s)")
    parser.add_argument("--source", type=Path, default=ROOT, help="the checkout (default: this one)")
    parser.add_argument("--out", type=Path, default=ROOT / "dist" / "wheels", help="default: dist/wheels")
    parser.add_argument("--json", action="store_true", help="print the manifest")
    args = parser.parse_args(argv)
    try:
        made = make(args.source, args.python, args.arch, args.out)
    except UnavailableError as error:
        print(f"wheel-set: {error}", file=sys.stderr)
        return 4
    print(json.dumps(made) if args.json else f"{made['folder']}: mmpi {made['version']}, set {made['id']}")
    return 0


def make(source: Path, python: str, machine: str, out: Path) -> dict[str, Any]:
    """Write the set for one kind of host below `out` and return its manifest; one that was there is replaced whole."""
    if not (source / "pyproject.toml").is_file():
        raise UnavailableError(f"--source {source}: allowed: a checkout of mmpi; there is no pyproject.toml")
    name = f"cp{python.replace('.', '')}-{machine}"
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".making-") as place:
        wheels, target = Path(place) / "wheels", Path(place) / name
        wheels.mkdir()
        target.mkdir()
        _download(source, python, machine, wheels)
        _build(source, wheels)
        files = {f"wheels/{path.name}": path.read_bytes() for path in sorted(wheels.iterdir())}
        files["requirements.txt"] = _requirements(files).encode()
        units = {path: (source / "systemd" / path).read_bytes() for path in _units(source)}
        (target / "set.tar").write_bytes(data := _tar(files | {f"systemd/{path}": units[path] for path in units}))
        manifest = {
            "version": _project(source)["version"],
            "id": hashlib.sha256(data).hexdigest()[:16],
            "sha256": hashlib.sha256(data).hexdigest(),
            "python": python,
            "machine": machine,
            "folder": name,
            **_links(source),
        }
        (target / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        shutil.rmtree(out / name, ignore_errors=True)
        target.rename(out / name)
    return manifest


def _project(source: Path) -> dict[str, Any]:
    return dict(tomllib.loads((source / "pyproject.toml").read_text(encoding="utf-8"))["project"])


def _download(source: Path, python: str, machine: str, target: Path) -> None:
    """Fetch what has wheels, by the lock file's hashes, for the hosts' Python whatever runs here."""
    there = {
        "python_version": python, "python_full_version": f"{python}.0", "platform_machine": machine,
        "sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }  # fmt: skip
    wanted = []
    for name, block in locked(source / "requirements" / "run.txt").items():
        head, _, rest = block.partition(" \\\n")
        pinned, _, marker = head.partition(" ; ")
        if name not in (*SOURCES, *LEFT_OUT) and (not marker or Marker(marker).evaluate(there)):
            wanted.append(f"{pinned} \\\n{rest}")
    listing = target.parent / "wanted.txt"
    listing.write_text("".join(wanted), encoding="utf-8")
    run(
        sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps", "--require-hashes",
        "--only-binary=:all:", "--implementation=cp", f"--python-version={python}",
        *(f"--platform={each}_{machine}" for each in GLIBC), "-d", str(target), "-r", str(listing),
    )  # fmt: skip


def _build(source: Path, target: Path) -> None:
    """Make the wheels of mmpi and of what is published as source alone, none of which has compiled parts."""
    with tempfile.TemporaryDirectory() as place:
        copy, listing = Path(place) / "source", Path(place) / "wanted.txt"
        copy.mkdir()
        for name in SOURCE:
            if (source / name).is_dir():
                shutil.copytree(source / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
            else:
                shutil.copy(source / name, copy)
        lines = locked(source / "requirements" / "run.txt")
        listing.write_text("".join(lines[name] for name in SOURCES), encoding="utf-8")
        pip = [
            "env", f"SOURCE_DATE_EPOCH={EPOCH}", sys.executable, "-m", "pip", "wheel", "-q", "--no-deps",
            "--disable-pip-version-check", "--no-build-isolation", "--no-cache-dir", "-w", str(target),
        ]  # fmt: skip
        run(*pip, "--use-pep517", "--require-hashes", "-r", str(listing))
        run(*pip, str(copy))
    if alien := [path.name for path in target.iterdir() if not path.name.endswith(".whl")]:
        raise UnavailableError(f"no wheel was made of {', '.join(alien)}")


def _requirements(wheels: Mapping[str, bytes]) -> str:
    """Return a lock file of these very wheels."""
    lines = []
    for path, data in wheels.items():
        name, version = path.rpartition("/")[2].split("-")[:2]
        lines.append(f"{name.replace('_', '-')}=={version} --hash=sha256:{hashlib.sha256(data).hexdigest()}\n")
    return "".join(lines)


def _units(source: Path) -> list[str]:
    """Return the files below systemd/ that belong to a version of mmpi, and not to the machine."""
    folders = [*ALWAYS, *sorted({path.partition("/")[0] for links in PINS.values() for path in links.values()})]
    base = source / "systemd"
    found = sorted(path for folder in folders for path in (base / folder).rglob("*") if path.is_file())
    return [path.relative_to(base).as_posix() for path in found]


def _links(source: Path) -> dict[str, Any]:
    """Return where each of these is to be found on a host, by what asks for it: path -> below the version's folder."""
    links = {}
    for path in _units(source):
        folder, _, rest = path.partition("/")
        if folder in ALWAYS:
            links[f"{PLACE}/{'systemd/system' if folder == 'system' else folder}/{rest}"] = f"systemd/{path}"
    more = {name: {place: f"systemd/{path}" for place, path in each.items()} for name, each in PINS.items()}
    return {"links": links | {"/usr/local/bin/mmpi": "bin/mmpi"}, "more_links": more}


def _tar(files: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, data in sorted(files.items()):
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.mtime = len(data), 0o644, EPOCH
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


if __name__ == "__main__":
    sys.exit(main())
