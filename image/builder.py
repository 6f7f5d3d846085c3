"""Builder: the tools of the build, unpacked from Debian's own packages for this machine's kernel, and how they are run.

They are the same on every host; nothing of the host's own is used but its kernel, apt and Python.

Invariant: a tool sees its own root and the folder that it is given, and leaves no mount behind.
It must not know what is built.
"""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from image.debian import UnavailableError

ENVIRONMENT: Final = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC", "HOME": "/tmp",
    # Bytecode that is made depends on whether the maker's own modules came from bytecode: here they never do.
    "PYTHONDONTWRITEBYTECODE": "1",
}  # fmt: skip
INSIDE: Final = """\
set -e
mount -t proc proc "$1/proc" 2>/dev/null || mount --rbind /proc "$1/proc"
mount --rbind /dev "$1/dev"
mount --bind "$2" "$1/mnt"
root=$1
shift 2
umask 022
exec chroot "$root" "$@"
"""


class Builder:
    """The builder's root, whose files are below `root`; times that tools put into their output are `epoch`."""

    def __init__(self, root: Path, epoch: int) -> None:
        self.root: Final = root
        self._epoch: Final = epoch

    def run(self, folder: Path, *command: str, env: Mapping[str, str] | None = None, data: bytes = b"") -> bytes:
        """Return what a tool printed; it sees `folder` as /mnt. UnavailableError with its last words if it failed.

        Without root, a user namespace of its own is made for it.
        """
        alone = ["unshare", "--mount", "--fork", "--propagation=private"]
        if os.geteuid() != 0:
            alone += ["--user", "--map-root-user"]
        inside = {**ENVIRONMENT, "SOURCE_DATE_EPOCH": str(self._epoch), **_other_clock(), **(env or {})}
        words = [*alone, "sh", "-c", INSIDE, "builder", str(self.root), str(folder), "env", "-i"]
        words += [f"{key}={value}" for key, value in inside.items()] + [*command]
        done = subprocess.run(words, input=data, capture_output=True, check=False)
        if done.returncode != 0:
            said = (done.stderr or done.stdout).decode("utf-8", "replace").strip().splitlines()[-8:]
            raise UnavailableError(f"{' '.join(command[:3])}: exit {done.returncode}: {' | '.join(said)}")
        return done.stdout

    def script(self, folder: Path, text: str, words: Sequence[str] = ()) -> bytes:
        """Return what a shell script printed."""
        return self.run(folder, "/bin/bash", "-euo", "pipefail", "-c", text, "script", *words)


def _other_clock() -> dict[str, str]:
    """Return what makes tools believe another date: `image/reproduce` builds so, to see that no date gets out."""
    offset = os.environ.get("MMPI_IMAGE_CLOCK", "")
    library = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"
    # The times of files are given to them, and must arrive as they are.
    fake = {"LD_PRELOAD": library, "FAKETIME": offset, "FAKETIME_DONT_RESET": "1", "NO_FAKE_STAT": "1"}
    return fake if offset else {}
