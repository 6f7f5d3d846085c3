"""A fleet: hosts of the nspawn rig, the real ansible-playbook that is run on them, versions of mmpi to roll out."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hil.rigs.nspawn import Host, Network
from image.wheel_set import make

ROOT = Path(__file__).resolve().parents[1]
ANSIBLE = Path(f"{sys.prefix}-fleet") / "bin"
PLAY_S = 600.0
PAPER = """\
[device]
id = "{{ inventory_hostname }}"

[venue]
name = "generated"
mode = "paper"

[instruments.BTC.layered]
levels = 3
spread_percent = 0.02
step_percent = 0.01
notional = 100

[risk]
capital = 10_000
session_loss = 200
max_drawdown = 200
"""


class Played(NamedTuple):
    """How a playbook ended: exit code, everything it printed, and its recap, a dictionary for each host."""

    code: int
    text: str
    recap: dict[str, dict[str, int]]

    def changed(self, host: str) -> int:
        """Return how many tasks changed a host."""
        return self.recap[host]["changed"]


class Fleet:
    """Hosts, and a machine to command them from: this one."""

    def __init__(self, folder: Path, network: Network, hosts: Mapping[str, Host]) -> None:
        self.folder, self.network, self.hosts = folder, network, dict(hosts)
        self.known: dict[str, dict[str, Any]] = {}
        """Variables of single hosts that every playbook is given."""
        folder.mkdir(parents=True, exist_ok=True)

    def play(
        self,
        name: str,
        wheels: Path,
        *words: str,
        settings: Mapping[str, Any] | None = None,
        hosts: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> Played:
        """Run a playbook of ansible/; `settings` are variables of all hosts, `hosts` those of single ones."""
        known: dict[str, Any] = self.network.inventory(list(self.hosts.values()))
        for host, variables in [*self.known.items(), *(hosts or {}).items()]:
            known[host] = known.get(host, {}) | dict(variables)
        common = {"mmpi_config": PAPER, "mmpi_health_s": 60, "mmpi_wheels": str(wheels)} | dict(settings or {})
        common = {name: value for name, value in common.items() if value is not None}
        listing = self.folder / "hosts.json"
        listing.write_text(json.dumps({"all": {"hosts": known, "vars": common}}), encoding="utf-8")
        env = os.environ | {
            "ANSIBLE_CONFIG": str(ROOT / "ansible" / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", "ANSIBLE_HOME":
            str(self.folder / "ansible"), "ANSIBLE_LOCAL_TEMP": str(self.folder / "tmp"), "LC_ALL": "C.UTF-8",
        }  # fmt: skip
        command = [str(ANSIBLE / "ansible-playbook"), "-i", str(listing), *words, str(ROOT / "ansible" / f"{name}.yml")]
        done = subprocess.run(
            command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            timeout=PLAY_S, check=False,
        )  # fmt: skip
        text = done.stdout.decode("utf-8", "replace")
        return Played(done.returncode, text, recap(text))


def recap(text: str) -> dict[str, dict[str, int]]:
    """Return what stands under PLAY RECAP."""
    found = re.findall(r"^(\S+)\s*: (ok=.*)$", text.rpartition("PLAY RECAP")[2], flags=re.MULTILINE)
    return {host: {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", line)} for host, line in found}


def wheels(folder: Path, version: str = "", spoil: Callable[[Path], None] | None = None) -> Path:
    """Return wheel sets of this checkout, or of one with another version that `spoil` has had its hands on."""
    source = ROOT
    if version:
        source = folder / "source"
        source.mkdir(parents=True)
        for name in ("mmpi", "systemd", "requirements"):
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("README.md", "LICENSE"):
            shutil.copy(ROOT / name, source)
        project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
        changed, count = re.subn(r'^version = ".*"$', f'version = "{version}"', project, count=1, flags=re.MULTILINE)
        assert count == 1
        (source / "pyproject.toml").write_text(changed, encoding="utf-8")
        if spoil is not None:
            spoil(source)
    make(source, "3.13", os.uname().machine, folder / "sets")
    return folder / "sets"
