"""A box under a real systemd: the host's own root, under an overlay that forgets, booted by systemd-nspawn.

It has no network but a loopback of its own, the units as scripts/install-service installs them, and a practice venue.
The container is started here and ended here; nothing on the host is written but the folder that is given. With
MMPI_UNITS_ROOT another Debian root (of mmdebstrap, say) is booted instead of the host's, with the host's Python in it.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from hil.rigs.container import Container, unable
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
HANG_UPS = 10
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
    return unable()


def _base() -> Path:
    return Path(os.environ.get("MMPI_UNITS_ROOT", "/"))


class Box(Container):
    """One container. Use as a context manager; `boot` starts it, without mmpi."""

    target = "box.target"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, [_base()])

    # Before it runs -----------------------------------------------------------------------------------------------

    def prepare(self, config: str) -> None:
        """Make keys, configuration and a practice venue, and have nothing else started."""
        self.mask(*LEFT_OUT)
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

    def _options(self) -> list[str]:
        return [f"--bind-ro={path}" for path in self._to_bind()]

    def _to_bind(self) -> list[Path]:
        """Return what of the checkout and its Python is not in the root that is booted."""
        wanted = [ROOT, Path(sys.base_prefix), Path(sys.prefix)]
        other = _base() != Path("/")
        return [path for path in wanted if other or path.stat().st_dev != Path("/").stat().st_dev]

    def ended(self, timeout: float) -> int:
        """Return nspawn's exit code once the box has turned itself off."""
        assert self._nspawn is not None
        return self._nspawn.wait(timeout)

    # While it runs ------------------------------------------------------------------------------------------------

    def run(self, *words: str, user: str = "", timeout: float = 60.0) -> "subprocess.CompletedProcess[str]":
        """Run a command in the box, as root or as a user with the group mmpi."""
        if not user:
            return super().run(*words, timeout=timeout)
        become = ["setpriv", f"--reuid={user}", "--regid=mmpi", "--clear-groups", "--"]
        folders = {"MMPI_PATHS__RUNTIME_DIR": "/run/mmpi", "MMPI_PATHS__STATE_DIR": "/var/lib/mmpi"}
        return self._run([*become, *words], folders, timeout)

    def show(self, unit: str, key: str) -> str:
        """Return a property of a unit."""
        return self.check("systemctl", "show", "--value", "-p", key, unit).strip()

    def pid(self, unit: str) -> int:
        """Return a service's main process, as the box numbers it; 0 = none."""
        return int(self.show(unit, "MainPID"))

    def status(self) -> dict[str, Any]:
        """Return `mmpi status`; its `guardian` is {} without one. One that is just beginning may hang up on us."""
        for _ in range(HANG_UPS):
            done = self.run("mmpi", "status", "--json")
            if done.returncode == 0:
                break
            time.sleep(0.1)
        found: dict[str, Any] = json.loads(done.stdout or self.check("mmpi", "status", "--json"))
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

    def picture(self) -> str:
        """Return what a person would look at after a failure."""
        if not self.leader:
            return super().picture()
        units = ("mmpi-guardian", "mmpi-quoter", "practice", "mmpi-poweroff")
        parts = [self.run("mmpi", "status").stdout]
        parts += [f"-- {unit}\n{self.log(unit)[-2500:]}" for unit in units]
        return "\n".join(parts)
