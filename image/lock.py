"""Lock: the packages of the image and of its builder by name, version and hash: packages.lock.

Invariant: a build uses exactly what stands in the lock, or ends with the list of what differs.
It must not know what is done with the packages.
"""

import re
import tempfile
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from image.debian import Apt, Package, UnavailableError, fetch

HERE: Final = Path(__file__).resolve().parent
WANTED: Final = HERE / "packages.toml"
LOCK: Final = HERE / "packages.lock"
ROLES: Final = ("target", "builder")
DAY_S: Final = 86_400
HEAD: Final = """\
# Made by `make image-lock` out of packages.toml; one line a package: role, name, version, architecture, SHA-256, size,
# path below the mirror's address. The mirror itself is the one that this machine's apt is set up with.
"""


class MovedError(UnavailableError):
    """The mirror no longer has what the lock names."""


class Lock(NamedTuple):
    """The date that everything in the image bears (Unix seconds), and the packages of each role."""

    epoch: int
    packages: dict[str, list[Package]]


def wanted() -> dict[str, Any]:
    """Return packages.toml."""
    return tomllib.loads(WANTED.read_text(encoding="utf-8"))


def load(path: Path = LOCK) -> Lock:
    """Return the lock; UnavailableError naming the line that is no package."""
    epoch = 0
    packages: dict[str, list[Package]] = {role: [] for role in ROLES}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        words = line.split()
        if not words or line.startswith("#"):
            continue
        if words[0] == "epoch" and len(words) == 2 and words[1].isdigit():
            epoch = int(words[1])
        elif len(words) == 7 and words[0] in ROLES and re.fullmatch("[0-9a-f]{64}", words[4]) and words[5].isdigit():
            packages[words[0]].append(Package(words[1], words[2], words[3], words[4], int(words[5]), words[6]))
        else:
            raise UnavailableError(f"{path.name}, line {number}: {line[:60]!r}; allowed: what `make image-lock` writes")
    return Lock(epoch, packages)


def text(lock: Lock) -> str:
    """Return a lock as the file has it."""
    lines = [f"epoch {lock.epoch}"]
    for role in ROLES:
        lines += [" ".join(map(str, (role, *package))) for package in sorted(lock.packages[role])]
    return HEAD + "\n".join(lines) + "\n"


def resolve() -> Lock:
    """Return what the mirror has now, with today's date."""
    settings = wanted()
    packages = {}
    for role in ROLES:
        with tempfile.TemporaryDirectory() as folder:
            apt = Apt(Path(folder), settings[role]["architecture"], settings["image"]["components"])
            apt.update()
            names, without = list(settings[role]["packages"]), settings[role]["without"]
            if "linux-image-arm64" in names:
                names.append(apt.depends("linux-image-arm64", r"linux-image-\S+"))
            packages[role] = apt.closure(names, without)
    return Lock(int(time.time()) // DAY_S * DAY_S, packages)


def differences(old: Sequence[Package], new: Sequence[Package]) -> list[str]:
    """Return a line for each package that is not the same in both."""
    before, after = ({package.name: package for package in packages} for packages in (old, new))
    lines = []
    for name in sorted(before.keys() | after.keys()):
        was, now = before.get(name), after.get(name)
        if was != now:
            lines.append(f"{name}: locked {was.version if was else 'not'}, now {now.version if now else 'gone'}")
    return lines


def files(lock: Lock, role: str, folder: Path) -> list[tuple[Package, Path]]:
    """Return each package of a role with its file, fetched and checked; MovedError with the list of what differs."""
    packages = lock.packages[role]
    found = fetch(packages, folder)
    missing = [package for package in packages if package.sha256 not in found]
    if missing:
        raise MovedError(_moved(lock, role, missing))
    return [(package, found[package.sha256]) for package in packages]


def _moved(lock: Lock, role: str, missing: Sequence[Package]) -> str:
    names = [f"{package.name} {package.version}" for package in missing]
    # A mirror that cannot be asked has not moved: that is its own error.
    differs = differences(lock.packages[role], resolve().packages[role])
    told = "\n  ".join(differs or names)
    what = f"the mirror does not give {len(missing)} packages of packages.lock"
    return f"{what}; run make image-lock. Differences:\n  {told}"
