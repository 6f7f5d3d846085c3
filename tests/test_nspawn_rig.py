"""The rig of stock hosts: reached by SSH alone, packages from the mirror and nothing else, cuts, and nothing left."""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from hil.rigs.nspawn import OPERATOR, Host, Network, missing

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
REACH = "import socket, sys; print(socket.create_connection((sys.argv[1], int(sys.argv[2])), 5).recv(7))"
LEFT = """
import signal, subprocess, sys, time
from pathlib import Path
from hil.rigs.nspawn import Host, Network
signal.signal(signal.SIGINT, signal.default_int_handler)
folder, how = Path(sys.argv[1]), sys.argv[2]
with Network() as network, Host(network, folder, "left", 1) as host:
    host.boot()
    keep = f"-o ControlMaster=auto -o ControlPath={folder}/ssh -o ControlPersist=600 -i {host.key.path}"
    line = f"ssh {keep} {network.inventory([host])['left']['ansible_ssh_common_args']} root@{host.address} true"
    subprocess.run(line, shell=True, check=True, stderr=subprocess.DEVNULL)
    print(host.leader, flush=True)
    if how == "exception":
        raise ValueError
    time.sleep(60)
"""
"""A script that ends while a host runs and SSH keeps a connection for the next command, as it does for Ansible."""


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    """Give a network with nothing on it."""
    if why := missing():
        pytest.skip(why)
    with Network() as made:
        yield made


@pytest.fixture(scope="module")
def one(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """Give a host as it comes."""
    with Host(network, tmp_path_factory.mktemp("one"), "one", 1) as host:
        host.boot()
        yield host


@pytest.fixture(scope="module")
def two(network: Network, one: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """Give another one, which stands on what was written on the first."""
    one.check("sh", "-c", "rm /etc/issue && echo mine >/etc/written && sync")
    copy = tmp_path_factory.mktemp("frozen") / "upper"
    subprocess.run(["cp", "-a", str(one.upper), str(copy)], check=True)
    with Host(network, tmp_path_factory.mktemp("two"), "two", 2, lower=[copy]) as host:
        host.boot()
        yield host


def traces(pid: int, folder: Path) -> list[str]:
    """Return what there is of a process's networks and hosts: namespaces, cgroups, mounts, processes."""
    marks = (f"mmpi-{pid}-", f"{folder}/")
    found = [str(path) for top in ("/run/netns", "/sys/fs/cgroup/systemd", "/run/systemd/nspawn/propagate")
             for path in Path(top).glob(f"{marks[0]}*")]  # fmt: skip
    lines = Path("/proc/mounts").read_text().splitlines()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            lines.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return found + [line for line in lines if any(mark in line for mark in marks)]


def test_a_host_is_stock_and_is_reached_by_ssh(network: Network, one: Host) -> None:
    """Root gets in by the rig's key; nothing failed at the boot, and keys and identity are the host's own."""
    done = network.ssh(one, "cat", "/etc/hostname", "a file that is not there")
    assert (done.returncode, done.stdout) == (1, "one\n"), done.stderr
    assert one.check("systemctl", "--failed", "--no-legend") == ""
    assert 'VERSION_CODENAME=trixie' in one.check("cat", "/etc/os-release")
    assert one.check("hostname") == "one\n"
    for program in ("chronyd", "mosquitto", "nft", "pip3"):
        assert one.run("which", program).returncode != 0, program


def test_ansible_reaches_it_by_the_inventory(network: Network, one: Host) -> None:
    """The variables of the inventory are what SSH needs, and they are text."""
    variables = json.loads(json.dumps(network.inventory([one])))["one"]
    assert (variables["ansible_host"], variables["ansible_user"]) == (one.address, "root")
    command = f"ssh {variables['ansible_ssh_common_args']} -i {variables['ansible_ssh_private_key_file']}"
    done = subprocess.run(["sh", "-c", f"{command} root@{one.address} hostname"], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, b"one\n"), done.stderr


def test_packages_come_from_the_mirror_and_nothing_else_comes(network: Network, one: Host) -> None:
    """apt works as it does anywhere; neither the mirror's real address nor a name is reached."""
    one.check("apt-get", "-qq", "update", timeout=120)
    one.check("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "install", "-y", "tree", timeout=120)
    assert "hostname" in one.check("tree", "-L", "1", "/etc")
    for family, _, _, _, address in socket.getaddrinfo(network.mirror, 80, type=socket.SOCK_STREAM):
        done = one.run("python3", "-c", REACH, str(address[0]), "80")
        assert "Network is unreachable" in done.stderr, (family, done)
    assert one.run("getent", "ahosts", "debian.org").returncode != 0
    assert "Connection refused" in one.run("python3", "-c", REACH, OPERATOR, "22").stderr


def test_two_hosts_see_each_other(network: Network, one: Host, two: Host) -> None:
    """Each reaches the other's sshd; the second has what was written on the first, but an identity of its own."""
    for host, other in ((one, two), (two, one)):
        assert host.check("python3", "-c", REACH, other.address, "22") == "b'SSH-2.0'\n"
    assert network.ssh(two, "cat", "/etc/hostname", "/etc/written").stdout == "two\nmine\n"
    assert two.run("test", "-e", "/etc/issue").returncode != 0
    for own in ("/etc/machine-id", "/etc/ssh/ssh_host_ed25519_key.pub"):
        assert one.check("cat", own) != two.check("cat", own) != "", own


def test_services_of_two_hosts_are_not_each_others(one: Host, two: Host) -> None:
    """A service that is stopped on one host runs on the other."""
    for host in (one, two):
        host.check("systemd-run", "--unit=asleep", "sleep", "600")
    one.check("systemctl", "stop", "asleep")
    assert one.run("systemctl", "is-active", "asleep").stdout == "inactive\n"
    assert two.run("systemctl", "is-active", "asleep").stdout == "active\n"


def test_a_cable_that_is_pulled_out(network: Network, one: Host) -> None:
    """Without its cable the host has no carrier and cannot be reached; with it, it can."""
    one.cable(plugged=False)
    assert one.check("cat", "/sys/class/net/eth0/carrier") == "0\n"
    assert network.ssh(one, "true").returncode == 255
    one.cable(plugged=True)
    one.wait(lambda: network.ssh(one, "true").returncode == 0, 10, "SSH")


def test_a_power_cut(network: Network, one: Host) -> None:
    """At once nothing of it runs; it boots again with what was written, and with the identity that it had."""
    identity = one.check("cat", "/etc/machine-id")
    one.check("sh", "-c", "echo kept >/var/lib/kept; echo forgotten >/run/forgotten")
    one.check("systemd-run", "sh", "-c", "trap '' TERM; sleep 600")
    began = time.monotonic()
    one.cut()
    assert time.monotonic() - began < 5
    assert one.run("true").returncode != 0
    assert network.ssh(one, "true").returncode == 255
    one.boot()
    assert network.ssh(one, "cat", "/var/lib/kept").stdout == "kept\n"
    assert one.run("test", "-e", "/run/forgotten").returncode != 0
    assert one.check("cat", "/etc/machine-id") == identity
    one.end()
    one.boot()
    assert network.ssh(one, "cat", "/var/lib/kept").stdout == "kept\n"


@pytest.mark.parametrize("how", ["exception", "SIGINT", "SIGKILL"])
def test_nothing_is_left(how: str, tmp_path: Path) -> None:
    """However it ends, a run leaves no namespace, cgroup, mount or process; one that is killed cannot see to it."""
    if why := missing():
        pytest.skip(why)
    with subprocess.Popen(
        [sys.executable, "-c", LEFT, str(tmp_path), how], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as run:
        assert run.stdout is not None
        leader = Path("/proc") / run.stdout.readline().decode().strip()
        if how != "exception":
            assert leader.exists() and len(traces(run.pid, tmp_path)) > 6
            run.send_signal(signal.Signals[how])
        run.communicate(timeout=30)
    deadline = time.monotonic() + 20
    while (left := traces(run.pid, tmp_path)) or leader.exists():
        assert time.monotonic() < deadline, left
        time.sleep(0.05)
