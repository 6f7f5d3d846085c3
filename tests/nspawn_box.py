"""A box under a real systemd: the host's own root, under an overlay that forgets, booted by systemd-nspawn.

It has no network but a loopback of its own, the units as scripts/install-service installs them, and a practice venue.
The container is started here and ended here; nothing on the host is written but the folder that is given. With
MMPI_UNITS_ROOT another Debian root (of mmdebstrap, say) is booted instead of the host's, with the host's Python in it.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmpi.practice.keys import make_keys
from mmpi.runtime.board import StatusBoard

ROOT = Path(__file__).resolve().parents[1]
SERVER = """[Service]
ExecStart=mmpi practice hyperliquid --port 8765 --latency-ms 20 --secrets /etc/practice --weight 0 --budget 0
Environment=HOME=/root
"""
TARGET = """[Unit]
Requires=basic.target
After=basic.target
AllowIsolate=yes
"""
LEFT_OUT = ("firstboot", "random-seed", "binfmt", "pstore", "timesyncd", "udevd", "udev-trigger", "resolved")
BOOT_S = 30.0
END_S = 20.0
ORDERS = "import sys,urllib.request as u; sys.stdout.write(u.urlopen('http://127.0.0.1:8765/control/orders').read().decode())"


def missing() -> str:
    """Return why no box can be booted here, "" if one can."""
    if os.geteuid() != 0:
        return "only root can boot a container"
    if ROOT.is_relative_to("/tmp") or ROOT.is_relative_to("/var/tmp"):
        return f"{ROOT} lies in a temporary folder, which a container and its services have of their own"
    if shutil.which("systemd-nspawn") is None:
        subprocess.run([Path(__file__).with_name("setup-nspawn")], check=False)
    for program in ("systemd-nspawn", "nsenter", "setpriv"):
        if shutil.which(program) is None:
            return f"{program} is not installed (Debian: systemd-container, util-linux)"
    if not _base().joinpath("lib/systemd/systemd").exists():
        return f"{_base()} has no systemd to boot"
    if "overlay" not in Path("/proc/filesystems").read_text():
        return "the kernel has no overlay file system"
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        return "this root may not mount anything (a container without privileges?)"
    return ""


def _base() -> Path:
    return Path(os.environ.get("MMPI_UNITS_ROOT", "/"))


class Box:
    """One container. Use as a context manager; `boot` starts it, without mmpi."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.root = folder, folder / "root"
        self._log = folder.with_name("console.log")
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._mounted: list[Path] = []
        self.leader = 0

    def __enter__(self) -> "Box":
        self._mount("-t", "tmpfs", "-o", "size=1g", "tmpfs", self.folder)
        for name in ("root", "upper", "work"):
            (self.folder / name).mkdir()
        layers = f"lowerdir={_base()},upperdir={self.folder}/upper,workdir={self.folder}/work"
        self._mount("-t", "overlay", "-o", layers, "overlay", self.root)
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        for place in reversed(self._mounted):
            subprocess.run(["umount", str(place)], check=False)

    def _mount(self, *words: "str | Path") -> None:
        place = Path(words[-1])
        place.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", *map(str, words)], check=True)
        self._mounted.append(place)

    # Before it runs -----------------------------------------------------------------------------------------------

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file of the box."""
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    def prepare(self, config: str) -> None:
        """Make keys, configuration and a practice venue, and have nothing else started."""
        for name in LEFT_OUT:
            place = self.root / f"etc/systemd/system/systemd-{name}.service"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.unlink(missing_ok=True)
            place.symlink_to("/dev/null")
        for own in ("etc/mmpi", "var/lib/mmpi"):
            # What root of this machine did with mmpi is not the box's.
            shutil.rmtree(self.root / own, ignore_errors=True)
        self.write("etc/systemd/system/box.target", TARGET)
        self.write("etc/systemd/system/practice.service", SERVER)
        self.write("etc/mmpi/mmpi.toml", config, 0o600)
        self.write("opt/kept/mmpi.toml", config, 0o600)
        keys = self.root / "etc/practice"
        make_keys(keys, self.root / "root/.local/state/mmpi-practice/agents.json")
        for name in ("account", "quoter.key", "guardian.key"):
            for folder in ("etc/credstore", "opt/kept"):
                self.write(f"{folder}/mmpi.{name}", (keys / name).read_text(), 0o600)
        for needed in (ROOT, Path(os.path.realpath(sys.executable)).parent):
            for folder in (needed, *needed.parents):
                inside = self.root / str(folder).lstrip("/")
                if inside.exists() and folder != Path("/"):
                    inside.chmod(inside.stat().st_mode | 0o011)

    def mend(self) -> None:
        """Put configuration and secrets back as they were made."""
        self.check("sh", "-c", "cd /opt/kept && cp mmpi.toml /etc/mmpi && cp mmpi.account mmpi.*.key /etc/credstore")

    def boot(self) -> float:
        """Boot; return how many seconds that took."""
        began = time.monotonic()
        name = f"mmpi-{os.getpid()}"
        words = ["--boot", "--register=no", "--keep-unit", "--private-network", "--resolv-conf=off"]
        # Asking for the state of the clock is what a container is not allowed by itself.
        words += ["--link-journal=no", "--console=pipe", "--system-call-filter=adjtimex clock_adjtime"]
        words += ["--machine", name, *(f"--bind-ro={path}" for path in self._to_bind())]
        with self._log.open("wb") as log:
            self._nspawn = subprocess.Popen(
                ["systemd-nspawn", "--quiet", "-D", str(self.root), *words, "--", "systemd.unit=box.target"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        self.wait(self._has_leader, BOOT_S, "the container's first process")
        self.wait(lambda: self.run("systemctl", "is-active", "box.target").stdout == "active\n", BOOT_S, "the boot")
        return time.monotonic() - began

    def _to_bind(self) -> list[Path]:
        """Return what of the checkout and its Python is not in the root that is booted."""
        wanted = [ROOT, Path(sys.base_prefix), Path(sys.prefix)]
        other = _base() != Path("/")
        return [path for path in wanted if other or path.stat().st_dev != Path("/").stat().st_dev]

    def _has_leader(self) -> bool:
        assert self._nspawn is not None
        assert self._nspawn.poll() is None, self._log.read_text()
        children = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children").read_text().split()
        self.leader = int(children[0]) if children else 0
        return self.leader > 0 and self.run("true").returncode == 0

    def end(self) -> None:
        """Turn it off."""
        if self._nspawn is None or self._nspawn.poll() is not None:
            return
        self._nspawn.send_signal(signal.SIGTERM)
        try:
            self._nspawn.wait(END_S)
        except subprocess.TimeoutExpired:
            # nspawn's own death would leave the container behind; that of its first process ends both.
            os.kill(self.leader, signal.SIGKILL)
            self._nspawn.wait(END_S)

    def ended(self, timeout: float) -> int:
        """Return nspawn's exit code once the box has turned itself off."""
        assert self._nspawn is not None
        return self._nspawn.wait(timeout)

    # While it runs ------------------------------------------------------------------------------------------------

    def run(self, *words: str, user: str = "", timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run a command in the box, as root or as a user with the group mmpi."""
        inside = ["nsenter", "-t", str(self.leader), "-m", "-u", "-i", "-n", "-p", "--"]
        if user:
            inside += ["setpriv", f"--reuid={user}", "--regid=mmpi", "--clear-groups", "--"]
        env = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C"}
        if user:
            env |= {"MMPI_PATHS__RUNTIME_DIR": "/run/mmpi", "MMPI_PATHS__STATE_DIR": "/var/lib/mmpi"}
        command = [*inside, *words]
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=timeout, check=False)

    def check(self, *words: str, timeout: float = 60.0) -> str:
        """Return the stdout of a command that must succeed."""
        done = self.run(*words, timeout=timeout)
        assert done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}\n{self.picture()}"
        return done.stdout

    def show(self, unit: str, key: str) -> str:
        """Return a property of a unit."""
        return self.check("systemctl", "show", "--value", "-p", key, unit).strip()

    def pid(self, unit: str) -> int:
        """Return a service's main process, as the box numbers it; 0 = none."""
        return int(self.show(unit, "MainPID"))

    def status(self) -> dict[str, Any]:
        """Return `mmpi status`; its `guardian` is {} without one."""
        found: dict[str, Any] = json.loads(self.check("mmpi", "status", "--json"))
        found["guardian"] = found["guardian"] or {}
        return found

    def orders(self) -> int:
        """Return how many orders are live at the practice venue."""
        return len(json.loads(self.check(sys.executable, "-Sc", ORDERS)))

    def board(self) -> StatusBoard:
        """Return the quoter's board, read from outside."""
        board = StatusBoard.open(Path(f"/proc/{self.leader}/root/run/mmpi/status"))
        assert board is not None
        return board

    def log(self, unit: str) -> str:
        """Return what a unit said, and what systemd said about it."""
        self.run("journalctl", "--sync")
        return self.run("journalctl", "-o", "short-monotonic", "--no-pager", "-u", unit).stdout

    def wait(self, true: Callable[[], Any], timeout: float, what: str) -> float:
        """Wait until it is true; return how many seconds that took."""
        began = time.monotonic()
        while not true():
            assert time.monotonic() - began < timeout, f"waited {timeout:g} s for {what}\n{self.picture()}"
            time.sleep(0.05)
        return time.monotonic() - began

    def picture(self) -> str:
        """Return what a person would look at after a failure."""
        if not self.leader:
            return self._log.read_text(errors="replace")[-2000:]
        units = ("mmpi-guardian", "mmpi-quoter", "practice", "mmpi-poweroff")
        parts = [self.run("mmpi", "status").stdout]
        parts += [f"-- {unit}\n{self.log(unit)[-2500:]}" for unit in units]
        return "\n".join(parts)
