"""Debian: packages by name, version and hash, from the source that this machine's own apt has for Debian.

Invariant: nothing of the machine is changed: apt works in a private root, and what is fetched is checked by its hash.
It must not know what the packages are for.
"""

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

KEYRING: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
SUITE: Final = "trixie"
HELPER: Final = "/usr/lib/apt/apt-helper"
AT_ONCE: Final = 20
"""Files asked for by one call of apt-helper."""


class UnavailableError(Exception):
    """This machine cannot make what is asked for; the text says why."""


class Package(NamedTuple):
    """One package: where it lies below the mirror's address, and what it must hash to."""

    name: str
    version: str
    arch: str
    sha256: str
    size: int
    path: str


class Apt:
    """apt with a root of its own in `folder`, for one architecture; sources and settings are this machine's."""

    def __init__(self, folder: Path, arch: str, components: Sequence[str] = ("main",)) -> None:
        """UnavailableError if this machine has no apt, or no keys or source of Debian."""
        for tool in ("apt-get", "apt-cache", "dpkg-deb"):
            if shutil.which(tool) is None:
                raise UnavailableError(f"no {tool} on this machine")
        if not KEYRING.exists():
            raise UnavailableError(f"no {KEYRING}: Debian's keys are not on this machine")
        for part in ("state/lists/partial", "cache/archives/partial"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        (folder / "status").touch()
        sources = folder / "trixie.list"
        line = f"deb [arch={arch} signed-by={KEYRING}] {mirror()} {SUITE} {' '.join(components)}\n"
        sources.write_text(line, encoding="utf-8")
        settings = {
            "APT::Architecture": arch,
            "APT::Architectures": arch,
            "APT::Sandbox::User": "root" if os.getuid() == 0 else "",
            "Dir::Cache": folder / "cache",
            "Dir::Etc::sourcelist": sources,
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::State": folder / "state",
            "Dir::State::status": folder / "status",
        }
        self.options: Final = tuple(f"-o{key}={value}" for key, value in settings.items())

    def update(self) -> None:
        """Fetch the lists of packages."""
        run("apt-get", "-qq", *self.options, "update")

    def depends(self, name: str, pattern: str) -> str:
        """Return the first dependency of a package that the pattern's group finds."""
        found = re.search(rf"Depends: ({pattern})", run("apt-cache", *self.options, "depends", name))
        if found is None:
            raise UnavailableError(f"the Debian source has no {name} that depends on {pattern}")
        return found[1]

    def download(self, names: Sequence[str], target: Path) -> None:
        """Fetch the present versions of packages, checked by apt, into a folder."""
        run("apt-get", "-qq", *self.options, "download", *names, cwd=target)

    def closure(self, wanted: Sequence[str], without: Sequence[str] = ()) -> list[Package]:
        """Return the packages and all that they depend on, sorted; of `without` not even that is asked for."""
        command = ("apt-get", "-qq", *self.options, "install", "-y", "--no-install-recommends", "--print-uris")
        lines = [line for line in run(*command, *wanted).splitlines() if line.startswith("'")]
        names = {line.split()[1].partition("_")[0] for line in lines} - set(without)
        versions = {line.split()[1].partition("_")[0]: line.split()[1].split("_")[1] for line in lines}
        asked = [f"{name}={versions[name].replace('%3a', ':')}" for name in sorted(names)]
        return sorted(_parse(block) for block in run("apt-cache", *self.options, "show", *asked).split("\n\n") if block)


def _parse(block: str) -> Package:
    fields = dict(re.findall(r"^(\S+): (.*)$", block, flags=re.MULTILINE))
    return Package(
        fields["Package"], fields["Version"], fields["Architecture"], fields["SHA256"], int(fields["Size"]),
        fields["Filename"],
    )  # fmt: skip


def fetch(packages: Sequence[Package], folder: Path) -> dict[str, Path]:
    """Return where each package's file lies in `folder`, by its hash; fetched now if it is not there.

    What the mirror no longer has, or has with other content, is left out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {package: folder / f"{package.sha256}.deb" for package in packages}
    missing = [package for package, path in wanted.items() if not path.exists()]
    for start in range(0, len(missing), AT_ONCE):
        _fetch(missing[start : start + AT_ONCE], folder)
    return {package.sha256: path for package, path in wanted.items() if path.exists()}


def _fetch(packages: Sequence[Package], folder: Path) -> None:
    base = mirror().rstrip("/")
    parts = {package: folder / f"{package.sha256}.part{os.getpid()}" for package in packages}
    asked = [(f"{base}/{package.path}", part, f"SHA256:{package.sha256}") for package, part in parts.items()]
    files = [word for each in asked for word in each]
    subprocess.run([HELPER, "download-file", *files], capture_output=True, check=False)
    for package, part in parts.items():
        if part.exists() and hashlib.sha256(part.read_bytes()).hexdigest() == package.sha256:
            part.rename(folder / f"{package.sha256}.deb")
        else:
            part.unlink(missing_ok=True)


def content(deb: Path) -> bytes:
    """Return a package's files, as tar."""
    return subprocess.run(["dpkg-deb", "--fsys-tarfile", deb], capture_output=True, check=True).stdout


def control(deb: Path) -> str:
    """Return a package's control fields."""
    return run("dpkg-deb", "--field", str(deb))


def mirror() -> str:
    """Return where this machine's apt gets Debian from."""
    wanted = ("--format", "$(ORIGIN) $(LABEL) $(REPO_URI)", "Created-By: Packages")
    for line in run("apt-get", "indextargets", *wanted).splitlines():
        if line.startswith("Debian Debian "):
            return line.split()[2]
    raise UnavailableError("this machine's apt knows no Debian packages, or has no list of them yet (apt-get update)")


def run(*command: str, cwd: Path | None = None) -> str:
    """Return what a command printed; UnavailableError with its last words if it failed."""
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, check=False, text=True, encoding="utf-8", errors="replace"
    )
    if done.returncode != 0:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no reason given"]
        raise UnavailableError(f"{PurePosixPath(command[0]).name} {command[-1]}: {last[0]}")
    return done.stdout
