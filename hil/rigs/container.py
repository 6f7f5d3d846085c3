"""Container: a root under an overlay that forgets, with a real systemd in it, booted by systemd-nspawn.

Invariant: nothing outlives the `with` block, nor this process if it is killed inside it: a small process of its own
waits for either and clears away. It must not know what the root is, or what runs in it.
"""

import itertools
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
BOOT_S: Final = 60.0
"""Half a second on an idle machine."""
END_S: Final = 20.0
LOOK_S: Final = 0.05
NUMBERS: Final = itertools.count(1)
"""What of this process is called by a number."""
_IN_CGROUPS: Final = """\
while [ "$1" != -- ]; do
    echo $$ >"$1/cgroup.procs"
    shift
done
shift
exec "$@"
"""
_END: Final = """\
while [ "$1" != -- ]; do
    tries=0
    while [ $tries -lt 200 ] && pids=$(find "$1" -name cgroup.procs -exec cat {} + | grep -vx 0); do
        kill -KILL $pids
        tries=$((tries + 1))
        sleep 0.05
    done
    find "$1" -depth -type d -exec rmdir {} \\;
    shift
done
shift
rmdir "/run/systemd/nspawn/propagate/$1"
shift
for place; do
    umount "$place" || umount --lazy "$place"
done
"""
"""Arguments: cgroups, --, the machine's name, mounts."""


def unable() -> str:
    """Return what this machine's kernel and this root cannot do for a container, "" if nothing."""
    if "overlay" not in Path("/proc/filesystems").read_text():
        return "the kernel has no overlay file system"
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        return "this root may not mount anything (a container without privileges?)"
    return ""


@contextmanager
def at_the_end(script: str, *words: "str | Path") -> Iterator[None]:
    """Have a script run when the block ends, and also when this process is killed inside it."""
    keeper = subprocess.Popen(
        ["sh", "-c", f"read -r ended\n{script}", "sh", *map(str, words)], start_new_session=True,
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield
    finally:
        keeper.communicate()


def _cgroups(name: str) -> list[Path]:
    """Return where a container's own cgroup is to be; two in the same one would end each other's services."""
    top = Path("/sys/fs/cgroup")
    found = []
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "name=systemd":
            found.append(top / "systemd" / path.lstrip("/"))
        elif not controllers:
            whole = (top / "cgroup.controllers").exists()
            found.append((top if whole else top / "unified") / path.lstrip("/"))
    return [place / name for place in found if place.is_dir()]


class Container:
    """A root under an overlay that forgets, and a systemd in it. Use as a context manager; `boot` starts it."""

    target = "multi-user.target"

    def __init__(self, folder: Path, layers: Sequence[Path]) -> None:
        """`folder` is mounted over; `layers` are what lies below the overlay, the uppermost first."""
        self.folder, self.root, self.upper = folder, folder / "root", folder / "upper"
        self.leader = 0
        self._layers = list(layers)
        self._console = folder.with_name("console.log")
        self._machine = f"mmpi-{os.getpid()}-{next(NUMBERS)}"
        self._cgroups = _cgroups(self._machine)
        self._nspawn: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.callback(self._reap)
            kept: list[str | Path] = [*self._cgroups, "--", self._machine, self.root, self.folder]
            stack.enter_context(at_the_end(_END, *kept))
            stack.callback(self.end)
            self.folder.mkdir(parents=True, exist_ok=True)
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1g", "tmpfs", str(self.folder)], check=True)
            for name in ("root", "upper", "work"):
                (self.folder / name).mkdir()
            below = ":".join(map(str, self._layers))
            layers = f"lowerdir={below},upperdir={self.upper},workdir={self.folder}/work"
            subprocess.run(["mount", "-t", "overlay", "-o", layers, "overlay", str(self.root)], check=True)
            self._furnish()
            self._owned = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._owned.close()

    def _furnish(self) -> None:
        """Put in what is this one's own."""

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file of the root."""
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    def mask(self, *names: str) -> None:
        """Have services of systemd's own not started."""
        for name in names:
            place = self.root / f"etc/systemd/system/systemd-{name}.service"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.unlink(missing_ok=True)
            place.symlink_to("/dev/null")

    def boot(self) -> float:
        """Boot; return how many seconds that took."""
        began = time.monotonic()
        for place in self._cgroups:
            place.mkdir(exist_ok=True)
        words = ["--boot", "--register=no", "--keep-unit", "--private-network", "--resolv-conf=off"]
        # Asking for the state of the clock is what a container is not allowed by itself.
        words += ["--link-journal=no", "--console=pipe", "--system-call-filter=adjtimex clock_adjtime"]
        words += ["-D", str(self.root), "--machine", self._machine, *self._options()]
        moved = ["sh", "-c", _IN_CGROUPS, "sh", *map(str, self._cgroups), "--", *self._from()]
        with self._console.open("wb") as log:
            self._nspawn = subprocess.Popen(
                [*moved, "systemd-nspawn", "--quiet", *words, "--", f"systemd.unit={self.target}"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        self.wait(self._has_leader, BOOT_S, "the container's first process")
        self.wait(lambda: self.run("systemctl", "is-active", self.target).stdout == "active\n", BOOT_S, "the boot")
        return time.monotonic() - began

    def _options(self) -> list[str]:
        """Return more options of nspawn."""
        return []

    def _from(self) -> list[str]:
        """Return the words that put nspawn where it is to be started."""
        return []

    def _has_leader(self) -> bool:
        assert self._nspawn is not None
        assert self._nspawn.poll() is None, self._console.read_text()
        with suppress(OSError):  # a child of a moment
            for child in Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children").read_text().split():
                numbers = Path(f"/proc/{child}/status").read_text().partition("\nNSpid:")[2].partition("\n")[0].split()
                if len(numbers) > 1 and numbers[-1] == "1":
                    self.leader = int(child)
                    return self.run("true").returncode == 0
        return False

    def end(self) -> None:
        """Turn it off."""
        if self._nspawn is None or self._nspawn.poll() is not None:
            return
        self._nspawn.send_signal(signal.SIGTERM)
        try:
            self._nspawn.wait(END_S)
            self.leader = 0
        except subprocess.TimeoutExpired:
            self.cut()

    def cut(self) -> None:
        """Take the power away: all its processes end at once, and what they wrote is kept."""
        if self._nspawn is None or self._nspawn.poll() is not None:
            return
        # nspawn's own death would leave the container behind; that of its first process ends both.
        os.kill(self.leader or self._nspawn.pid, signal.SIGKILL)
        self._nspawn.wait(END_S)
        self.leader = 0

    def _reap(self) -> None:
        if self._nspawn is not None:
            self._nspawn.wait(END_S)

    def run(self, *words: str, timeout: float = 60.0) -> "subprocess.CompletedProcess[str]":
        """Run a command in it as root, not by SSH."""
        return self._run(words, {}, timeout)

    def _run(self, words: Sequence[str], more: dict[str, str], timeout: float) -> "subprocess.CompletedProcess[str]":
        command = ["nsenter", "-t", str(self.leader), "-m", "-u", "-i", "-n", "-p", "--", *words]
        env = {"PATH": PATH, "HOME": "/root", "LC_ALL": "C"} | more
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=timeout, check=False)

    def check(self, *words: str, timeout: float = 60.0) -> str:
        """Return the stdout of a command that must succeed."""
        done = self.run(*words, timeout=timeout)
        assert done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}\n{self.picture()}"
        return done.stdout

    def log(self, unit: str) -> str:
        """Return what a unit said, and what systemd said about it."""
        self.run("journalctl", "--sync")
        return self.run("journalctl", "-o", "short-monotonic", "--no-pager", "-u", unit).stdout

    def wait(self, true: Callable[[], Any], timeout: float, what: str) -> float:
        """Wait until it is true; return how many seconds that took."""
        began = time.monotonic()
        while not true():
            assert time.monotonic() - began < timeout, f"waited {timeout:g} s for {what}\n{self.picture()}"
            time.sleep(LOOK_S)
        return time.monotonic() - began

    def picture(self) -> str:
        """Return what a person would look at after a failure."""
        failed = self.run("systemctl", "--failed", "--no-legend", "--plain").stdout if self.leader else ""
        return failed + self._console.read_text(errors="replace")[-2000:]
