"""Nspawn: stock hosts of Debian trixie with a real systemd and a real sshd, on a network of their own.

A host is a root that is made once, under an overlay that forgets, booted by systemd-nspawn. All hosts hang on a bridge
in a network namespace, the operator's, from which they are reached by SSH. Of the rest of the world they see one port,
which leads to the mirror that this machine's apt uses.

    with Network() as network, Host(network, tmp_path / "one", "one", 1) as one:
        one.boot()
        one.check("apt-get", "install", "-y", "tree")
        network.ssh(one, "tree", "/etc")

A power cut ends all processes at once; what they had written is kept, even what a real disk would not have yet.

Invariant: nothing outlives the `with` blocks, nor this process if it is killed inside them; the network of this machine
is not touched. It must not know what is done with a host.
"""

import fcntl
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

from hil.rigs.container import NUMBERS, Container, at_the_end, unable
from hil.rigs.virt import Key
from hil.trixie import cache
from image.debian import KEYRING, SUITE, UnavailableError, mirror, run

HIL: Final = Path(__file__).resolve().parents[1]
PROGRAMS: Final = ("mmdebstrap", "systemd-nspawn", "ssh", "ssh-keygen", "ip", "nsenter")
PACKAGES: Final = (
    "adduser",
    "ca-certificates",
    "dbus",
    "iproute2",
    "openssh-server",
    "procps",
    "python3",
    "python3-apt",
    "sudo",
    "systemd",
    "systemd-sysv",
)
OPTIONS: Final = ("--variant=minbase", f"--include={','.join(PACKAGES)}", "--skip=cleanup/apt/lists")
"""What the stock root is made with; the lists stay, so that a host can install at once."""
KEPT: Final = 3
"""Stock roots kept in the cache, of 280 MB each."""
OPERATOR: Final = "10.77.0.1"
"""The operator's address, and the mirror's; a host's is above 10.77.0.10."""
LEFT_OUT: Final = ("firstboot", "random-seed", "binfmt", "pstore", "udevd", "udev-trigger")
"""Of systemd, what is the kernel's in a container."""
ETH0: Final = """\
[Unit]
Description=The network of the rig
DefaultDependencies=no
Wants=network.target
Before=network.target network-online.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=ip address replace {address}/24 dev eth0
ExecStart=ip link set eth0 up
"""
_END: Final = """\
kill -TERM $(ip netns pids "$1")
ip netns delete "$1"
"""
"""What is left in it are connections of SSH, kept open for the next command."""


def missing() -> str:
    """Return why no host can be booted here, "" if one can."""
    if os.geteuid() != 0:
        return "only root can boot a container"
    if not all(map(shutil.which, PROGRAMS)) or not KEYRING.exists():
        subprocess.run([HIL / "setup", "fleet"], check=False)
    for program in PROGRAMS:
        if shutil.which(program) is None:
            return f"{program} is not installed; hil/setup fleet installs it where there is an apt-get"
    if not KEYRING.exists():
        return f"no {KEYRING}: Debian's keys are not on this machine"
    try:
        where, proxies = mirror(), run("apt-config", "dump", "--format", "%f=%v%n", "Acquire")
    except UnavailableError as error:
        return str(error)
    if urlsplit(where).scheme not in ("http", "https"):
        return f"apt's mirror {where} is not one that a port leads to"
    proxies = "\n".join(line for line in proxies.splitlines() if "::proxy=" in line.lower() and line[-1] != "=")
    if proxies or os.environ.get("http_proxy"):
        return "apt gets its packages by a proxy, which a host cannot be given"
    return unable() or _no_base()


def _no_base() -> str:
    try:
        base()
    except UnavailableError as error:
        return f"no stock root can be made: {error}"
    return ""


def base() -> Path:
    """Return the stock root, made now if the cache has none; UnavailableError if that fails."""
    made_of = repr((OPTIONS, SUITE, mirror()))
    folder = cache() / f"stock-{hashlib.sha256(made_of.encode()).hexdigest()[:16]}"
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / "stock.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            _make(folder)
        os.utime(folder)
        for old in sorted(cache().glob("stock-*/"), key=lambda path: path.stat().st_mtime)[:-KEPT]:
            shutil.rmtree(old, ignore_errors=True)
    return folder


def _make(folder: Path) -> None:
    if sys.stderr.isatty():
        print("mmpi: making a stock root of Debian, once", file=sys.stderr, flush=True)
    source = f"deb [signed-by={KEYRING}] {mirror()} {SUITE} main"
    with tempfile.TemporaryDirectory(dir=cache()) as name:
        fresh = Path(name) / "root"
        # Its mounts are nobody else's, and gone with it.
        run("unshare", "--mount", "mmdebstrap", "--quiet", *OPTIONS, SUITE, str(fresh), source)
        for path in (*fresh.glob("etc/ssh/ssh_host_*"), fresh / "etc/hostname", fresh / "etc/resolv.conf"):
            path.unlink(missing_ok=True)
        (fresh / "etc/machine-id").write_text("")
        fresh.rename(folder)


class Network:
    """The operator's network namespace with the bridge that hosts hang on, and the mirror's port. A context manager."""

    def __init__(self) -> None:
        self.name: Final = f"mmpi-{os.getpid()}-{next(NUMBERS)}"
        self.path: Final = Path("/run/netns") / self.name
        where = urlsplit(mirror())
        self.mirror: Final = where.hostname or ""
        self._port = where.port or {"http": 80, "https": 443}[where.scheme]

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(at_the_end(_END, self.name))
            subprocess.run(["ip", "netns", "add", self.name], check=True)
            for line in (
                "link set lo up",
                "link add bridge type bridge",
                f"address add {OPERATOR}/24 dev bridge",
                "link set bridge up",
            ):
                assert self.ip(*line.split()), line
            port = str(self._port)
            relay = subprocess.Popen(
                [sys.executable, str(HIL / "relay.py"), str(self.path), OPERATOR, port, self.mirror, port],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
            )  # fmt: skip
            stack.callback(relay.communicate)
            assert relay.stdout is not None
            assert relay.stdout.readline() == b"ready\n", "no way to the mirror"
            self._owned = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._owned.close()

    def ip(self, *words: str) -> bool:
        """Return whether a command of `ip` succeeded in the operator's namespace."""
        return subprocess.run(["ip", "-n", self.name, *words], capture_output=True, check=False).returncode == 0

    def inventory(self, hosts: "Sequence[Host]") -> dict[str, Any]:
        """Return the variables by which Ansible reaches each host from here, by the hosts' names."""
        return {
            host.name: {
                "ansible_host": host.address,
                "ansible_user": "root",
                "ansible_ssh_private_key_file": str(host.key.path),
                "ansible_ssh_common_args": shlex.join(self._options()),
            }
            for host in hosts
        }

    def _options(self) -> list[str]:
        enter = ("nsenter", f"--net={self.path}", sys.executable, "-S", str(HIL / "relay.py"))
        options = {
            "StrictHostKeyChecking": "no",
            "UserKnownHostsFile": "/dev/null",
            "IdentitiesOnly": "yes",
            "LogLevel": "ERROR",
            "ProxyCommand": f"{shlex.join(enter)} %h %p",
        }
        return [word for key, value in options.items() for word in ("-o", f"{key}={value}")]

    def ssh(self, host: "Host", *words: str, timeout: float = 60.0) -> "subprocess.CompletedProcess[str]":
        """Run a command on a host as its operator does."""
        command = ["ssh", "-o", "BatchMode=yes", "-i", str(host.key.path), *self._options(), f"root@{host.address}"]
        return subprocess.run(
            [*command, shlex.join(words)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout,
            check=False,
        )  # fmt: skip


class Host(Container):
    """A stock host. `lower` are copies of what was written on others, to stand on, the uppermost first."""

    def __init__(self, network: Network, folder: Path, name: str, number: int, *, lower: Sequence[Path] = ()) -> None:
        """`folder` gets the key and console.log; `number` is its own on this network, from 1 to 99."""
        super().__init__(folder / "host", [*lower, base()])
        folder.mkdir(parents=True, exist_ok=True)
        self.name, self.address, self.lower = name, f"10.77.0.{10 + number}", list(lower)
        self.key = Key(folder)
        self._network, self._link, self._plugged = network, f"host-{number}", True

    def _furnish(self) -> None:
        self.mask(*LEFT_OUT)
        self.write("etc/hostname", f"{self.name}\n")
        self.write("etc/hosts", f"127.0.0.1 localhost\n127.0.1.1 {self.name}\n{OPERATOR} {self._network.mirror}\n")
        self.write("etc/machine-id", "")
        self.write("root/.ssh/authorized_keys", self.key.public.decode(), 0o600)
        (self.root / "root/.ssh").chmod(0o700)
        self.write("etc/systemd/system/eth0.service", ETH0.format(address=self.address))
        wanted = self.root / "etc/systemd/system/multi-user.target.wants/eth0.service"
        wanted.unlink(missing_ok=True)
        wanted.symlink_to("../eth0.service")
        for path in self.root.glob("etc/ssh/ssh_host_*"):
            path.unlink()
        subprocess.run(["ssh-keygen", "-q", "-A", "-f", str(self.root)], check=True, capture_output=True)

    def _options(self) -> list[str]:
        return ["--timezone=off", f"--network-veth-extra={self._link}:eth0"]

    def _from(self) -> list[str]:
        self._network.ip("link", "delete", self._link)  # that of the last boot, if the kernel has not got to it
        return ["nsenter", f"--net={self._network.path}", "--"]

    def _has_leader(self) -> bool:
        return super()._has_leader() and self._network.ip("link", "set", self._link, "master", "bridge", *self._state())

    def _state(self) -> list[str]:
        return ["up" if self._plugged else "down"]

    def cable(self, plugged: bool) -> None:
        """Plug the network's cable in, or pull it out; so it stays over a boot."""
        self._plugged = plugged
        assert self._network.ip("link", "set", self._link, *self._state()) or not self.leader
