"""ansible/ on hosts with a real systemd and sshd: set up, rolled, stopped, asked, backed up, and what must not be."""

import json
import os
import re
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fleet_box import ANSIBLE, PAPER, ROOT, Fleet, wheels
from practice_builders import order, orders, signed

from hil.rigs.nspawn import Host, Network, missing
from mmpi.practice.keys import make_keys

pytestmark = pytest.mark.slow

PRACTICE = (ROOT / "docs" / "examples" / "practice.toml").read_text(encoding="utf-8")
SERVER = """[Service]
Environment=HOME=/root ASK="--latency-ms 20 --weight 0 --budget 0"
ExecStart=/usr/local/bin/mmpi practice hyperliquid --port 8765 --secrets /etc/practice $ASK
"""
OWN_WAY = "http://127.0.0.1:8765"


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the wheel sets of this checkout."""
    return wheels(tmp_path_factory.mktemp("sets"))


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    """Give a network with nothing on it."""
    if why := missing():
        pytest.skip(why)
    if not (ANSIBLE / "ansible-playbook").exists():
        pytest.skip("Ansible is not here; make it: make ansible")
    with Network() as made:
        yield made


@pytest.fixture(scope="module")
def first(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """Give a stock host."""
    with Host(network, tmp_path_factory.mktemp("one"), "one", 1) as host:
        host.boot()
        yield host


@pytest.fixture(scope="module")
def alone(network: Network, first: Host, tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    """Give a fleet of that one host."""
    return Fleet(tmp_path_factory.mktemp("alone"), network, {"one": first})


@pytest.fixture(scope="module")
def ready(alone: Fleet, sets: Path) -> Fleet:
    """Give that fleet when its host was set up, by a test before or now."""
    if not alone.hosts["one"].root.joinpath("opt/mmpi/current").is_symlink():
        assert (played := alone.play("site", sets)).code == 0, played.text
    return alone


@pytest.fixture(scope="module")
def fleet(ready: Fleet, sets: Path, network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Give three hosts that quote on paper: the first, and two that were cloned from it when it was set up."""
    first = ready.hosts["one"]
    first.check("sync")
    with (
        Host(network, tmp_path_factory.mktemp("two"), "two", 2, lower=frozen(first, tmp_path_factory)) as two,
        Host(network, tmp_path_factory.mktemp("three"), "three", 3, lower=two.lower) as three,
    ):
        two.boot()
        three.boot()
        made = Fleet(tmp_path_factory.mktemp("fleet"), network, {"one": first, "two": two, "three": three})
        assert (played := made.play("site", sets)).code == 0, played.text
        for host in made.hosts.values():
            host.wait(lambda host=host: status(host)["state"] == "quoting", 60, f"{host.name} to quote")
        yield made


def frozen(host: Host, factory: pytest.TempPathFactory) -> list[Path]:
    """Return a copy of what was written on a host, for others to stand on."""
    copy = factory.mktemp("frozen") / "upper"
    subprocess.run(["cp", "-a", str(host.upper), str(copy)], check=True)
    for name in ("etc/hostname", "var/lib/mmpi", "etc/machine-id"):
        path = copy / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    return [copy]


def written(host: Host) -> set[str]:
    """Return which files of a host are not those of the stock root, but for what a running system writes by itself."""
    names = {path.relative_to(host.upper).as_posix() for path in host.upper.rglob("*") if path.is_file()}
    return {name for name in names if not name.startswith(("var/log/", "var/lib/systemd/", "var/cache/"))}


def status(host: Host) -> dict[str, Any]:
    """Return what `mmpi status` says; its guardian is {} without one."""
    done = host.run("mmpi", "status", "--json")
    found: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {"state": done.stderr}
    return found | {"guardian": found.get("guardian") or {}}


def version(host: Host) -> str:
    """Return the version that is in use."""
    return host.check("mmpi", "--version").split()[-1]


def pid(host: Host, unit: str = "mmpi-quoter") -> str:
    """Return a service's main process, as the host numbers it."""
    return host.check("systemctl", "show", "--value", "-p", "MainPID", unit).strip()


def untouched(host: Host) -> bool:
    """Return whether nothing of ours is on a host."""
    places = ("/opt/mmpi", "/etc/mmpi", "/usr/local/bin/mmpi", "/etc/chrony", "/etc/nftables.conf")
    return all(host.run("test", "-e", place).returncode for place in places)


def test_the_playbooks_are_clean() -> None:
    """ansible-lint finds nothing, by its strictest profile."""
    if not (ANSIBLE / "ansible-lint").exists():
        pytest.skip("Ansible is not here; make it: make ansible")
    env = os.environ | {"PATH": f"{ANSIBLE}:{os.environ['PATH']}", "NO_COLOR": "1"}
    done = subprocess.run(
        [ANSIBLE / "ansible-lint", "--offline", "--profile", "production"],
        cwd=ROOT / "ansible", env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 failure(s), 0 warning(s)" in done.stderr + done.stdout


# Before anything changes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"mmpi_config": None}, "missing required arguments: mmpi_config"),
        ({"mmpi_config": "[device]\nidd = 1\n"}, "mmpi_config: device.idd: value 1: unknown key; did you mean id?"),
        ({"mmpi_secrets": {"quoter.key": "0x12"}}, "quoter.key: allowed: a private key, 64 hexadecimal digits"),
        ({"mmpi_secrets": {"quoter": "x"}}, "quoter: no such secret; allowed: account, quoter.key"),
        ({"mmpi_secrets": {"account": ""}}, "account: is empty; is the variable set that it comes from?"),
        ({"appliance_open_ports": [70000]}, "appliance_open_ports: 70000; allowed: "),
        ({"mmpi_wheels": "/nowhere"}, "no wheels for cp313-"),
    ],
    ids=lambda value: next(iter(value), "") if isinstance(value, dict) else "",
)
def test_what_is_wrong_is_said_before_a_host_is_touched(
    alone: Fleet, sets: Path, settings: dict[str, Any], said: str
) -> None:
    """One clear error, which names what is wrong and what is allowed, and nothing was done to the host."""
    played = alone.play("site", sets, settings=settings)
    assert played.code == 2, played.text
    assert said in " ".join(played.text.split()), played.text
    assert played.text.count("[ERROR]") == 1, played.text
    assert "Set the hosts up" not in played.text
    assert untouched(alone.hosts["one"])


def test_a_wrong_vault_password_is_said_before_a_host_is_touched(alone: Fleet, sets: Path, tmp_path: Path) -> None:
    """Secrets that cannot be decrypted end the run at once."""
    (tmp_path / "right").write_text("right\n")
    (tmp_path / "wrong").write_text("wrong\n")
    (tmp_path / "vault.yml").write_text('mmpi_secrets: {account: "0x' + "ab" * 20 + '"}\n')
    vault = [str(ANSIBLE / "ansible-vault"), "encrypt", "--vault-password-file", str(tmp_path / "right")]
    subprocess.run([*vault, str(tmp_path / "vault.yml")], check=True, capture_output=True)
    given = ("-e", f"@{tmp_path / 'vault.yml'}")
    played = alone.play("site", sets, "--vault-password-file", str(tmp_path / "wrong"), *given)
    assert played.code != 0 and "Decryption failed" in played.text, played.text
    assert "TASK" not in played.text
    assert untouched(alone.hosts["one"])


def test_a_fresh_host_is_checked_without_a_change(alone: Fleet, sets: Path) -> None:
    """--check on a stock host gets to its end, says that it would change a lot, and changes nothing."""
    before = written(alone.hosts["one"])
    played = alone.play("site", sets, "--check", "--diff")
    assert played.code == 0, played.text
    assert played.changed("one") > 5 and "would be installed into /opt/mmpi/a" in played.text
    assert untouched(alone.hosts["one"]) and written(alone.hosts["one"]) == before


# Set up ---------------------------------------------------------------------------------------------------------------


def test_a_fresh_host_quotes_on_paper_and_a_second_run_changes_nothing(alone: Fleet, sets: Path) -> None:
    """One run makes a stock host a box that quotes; the second one, and --check, find nothing to do."""
    host = alone.hosts["one"]
    assert (played := alone.play("site", sets)).code == 0, played.text
    host.wait(lambda: status(host)["state"] == "quoting", 60, "quotes")
    for words in ((), ("--check", "--diff")):
        again = alone.play("site", sets, *words)
        assert (again.code, again.changed("one")) == (0, 0), again.text
    assert host.check("systemctl", "is-enabled", "chrony", "nftables").split() == ["enabled", "enabled"]
    for unit in ("mmpi-guardian", "mmpi-quoter", "nftables"):
        assert host.check("systemctl", "is-active", unit).strip() == "active", unit
    assert host.run("systemctl", "is-active", "mosquitto").stdout.strip() == "inactive"
    assert "policy drop" in host.check("nft", "list", "table", "inet", "mmpi")
    assert alone.network.ssh(host, "true").returncode == 0


def test_the_card_is_not_written_by_the_log(ready: Fleet) -> None:
    """The log is in memory, and nothing that comes with a stock system writes by a timer."""
    host = ready.hosts["one"]
    written = host.check("sh", "-c", "ls -l /proc/$(systemctl show --value -p MainPID systemd-journald)/fd")
    assert "/run/log/journal/" in written and "/var/log/journal/" not in written, written
    timers = host.check("systemctl", "list-timers", "--no-legend", "--plain")
    assert not {"apt-daily.timer", "apt-daily-upgrade.timer", "man-db.timer"} & set(timers.split()), timers


def test_a_change_is_shown_by_check_and_then_made(ready: Fleet, sets: Path) -> None:
    """--check names the one thing that differs and leaves it; the run itself does it, and the box goes on."""
    host = ready.hosts["one"]
    wider = {"mmpi_config": PAPER.replace("spread_percent = 0.02", "spread_percent = 0.04")}
    before = pid(host)
    checked = ready.play("site", sets, "--check", "--diff", settings=wider)
    assert checked.code == 0 and "+spread_percent = 0.04" in checked.text, checked.text
    assert "0.02" in host.check("cat", "/etc/mmpi/mmpi.toml") and pid(host) == before
    done = ready.play("site", sets, settings=wider)
    assert done.code == 0, done.text
    assert "0.04" in host.check("cat", "/etc/mmpi/mmpi.toml")
    host.wait(lambda: status(host)["state"] == "quoting", 60, "quotes")
    # The daemons were told, and not only the file written.
    assert "0.04" in host.check("cat", "/run/mmpi/config.json")


def test_whoever_is_not_root_commands_by_sudo(ready: Fleet, sets: Path, tmp_path: Path) -> None:
    """A user who may use sudo, as pi on a Raspberry Pi, gets the same done, though root has no key. With secrets in a
    vault nobody asks for its password to stop a box; a check presses nothing and says so."""
    host = ready.hosts["one"]
    host.check("sh", "-c", "useradd -m pi && echo 'pi ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/pi")
    host.check("sh", "-c", "cp -r ~/.ssh ~pi/ && chown -R pi: ~pi/.ssh && rm ~/.ssh/authorized_keys")
    (tmp_path / "word").write_text("word\n")
    vault = [str(ANSIBLE / "ansible-vault"), "encrypt_string", "--vault-password-file", str(tmp_path / "word")]
    hidden = subprocess.run([*vault, "secret", "--name", "mqtt.password"], check=True, capture_output=True, text=True)
    (tmp_path / "vault.yml").write_text("mmpi_secrets:\n  " + hidden.stdout.replace("\n", "\n  ") + "\n")
    secret = ("-e", f"@{tmp_path / 'vault.yml'}")
    try:
        commanded_by_pi(ready, sets, tmp_path, secret)
    finally:
        host.check("sh", "-c", "install -m 600 ~pi/.ssh/authorized_keys ~/.ssh/authorized_keys")


def commanded_by_pi(ready: Fleet, sets: Path, tmp_path: Path, secret: tuple[str, ...]) -> None:
    """See site, kill and backup done by a user with sudo."""
    pi, host = {"one": {"ansible_user": "pi"}}, ready.hosts["one"]
    wider = {"mmpi_config": PAPER.replace("spread_percent = 0.02", "spread_percent = 0.04")}
    assert ready.play("site", sets, settings=wider, hosts=pi).code == 0
    again = ready.play("site", sets, settings=wider, hosts=pi)
    assert (again.code, again.changed("one")) == (0, 0), again.text
    checked = ready.play("kill", sets, "--check", *secret, hosts=pi)
    assert checked.code == 2 and "not pressed: this was a check" in checked.text and status(host)["latch"] == "armed"
    killed = ready.play("kill", sets, *secret, hosts=pi)
    assert killed.code == 0 and status(host)["latch"] == "latched", killed.text
    saved = ready.play("backup", sets, settings={"mmpi_backups": str(tmp_path)}, hosts=pi)
    assert saved.code == 0 and list((tmp_path / "one").glob("*.tar.gz")), saved.text
    host.check("mmpi", "arm")


def test_nobody_is_locked_out(ready: Fleet, sets: Path) -> None:
    """A firewall that would refuse this very connection is refused, whatever tags are chosen; another one is put up."""
    locked = ready.play("site", sets, "--tags", "mmpi", settings={"appliance_ssh_from": ["192.0.2.0/24"]})
    assert locked.code == 2 and "this connection comes from 10.77.0.1" in " ".join(locked.text.split()), locked.text
    narrow = {"appliance_ssh_from": ["192.0.2.0/24", "10.77.0.0/24"], "appliance_time_servers": ["192.0.2.1"]}
    first, second = (ready.play("site", sets, "--tags", "appliance", settings=narrow) for _ in range(2))
    assert first.code == 0 and (second.code, second.changed("one")) == (0, 0), second.text
    host = ready.hosts["one"]
    rules = host.check("nft", "list", "table", "inet", "mmpi")
    assert "ip saddr { 10.77.0.0/24, 192.0.2.0/24 } tcp dport 22 accept" in rules
    assert "server 192.0.2.1 iburst prefer" in host.check("cat", "/etc/chrony/sources.d/00-own.sources")
    assert ready.network.ssh(host, "true").returncode == 0


def test_a_configuration_that_the_host_does_not_take_changes_nothing(
    ready: Fleet, sets: Path, tmp_path: Path
) -> None:
    """What this machine's mmpi would take, and the one on the host does not, is not put in place."""
    host = ready.hosts["one"]
    before = host.check("sha256sum", "/etc/mmpi/mmpi.toml")
    pleased = tmp_path / "mmpi"
    pleased.write_text("#!/bin/sh\ncat >/dev/null\n")
    pleased.chmod(0o755)
    wrong = {"mmpi_config": "[venue]\nname = 'nowhere'\n", "mmpi_command": str(pleased)}
    played = ready.play("site", sets, settings=wrong)
    assert played.code != 0 and "venue.name" in played.text, played.text
    assert host.check("sha256sum", "/etc/mmpi/mmpi.toml") == before
    assert status(host)["state"] == "quoting"


# A fleet --------------------------------------------------------------------------------------------------------------


def test_status_is_a_table_with_a_row_for_each_host(fleet: Fleet, sets: Path) -> None:
    """Each box's state stands in a row; one that cannot be reached has a row too, and is named in the end."""
    played = fleet.play("status", sets)
    assert played.code == 0, played.text
    for name in fleet.hosts:
        assert re.search(rf"{name} +\d+\.\d+\.\d+ +armed +quoting ", played.text), played.text
    gone = {"gone": {"ansible_host": "127.0.0.1", "ansible_port": 1}}
    silent = fleet.play("status", sets, hosts=gone)
    assert silent.code == 2 and "no status from gone" in silent.text, silent.text
    chosen = fleet.play("status", sets, "--limit", "gone", hosts=gone)
    assert chosen.code == 2 and "no status from gone" in chosen.text and "three" not in chosen.text, chosen.text
    assert re.search(r"gone +unreachable", silent.text) and re.search(r"three +\d+\.\d+\.\d+ +armed", silent.text)


def test_a_roll_out_gets_to_all(fleet: Fleet, tmp_path: Path) -> None:
    """One host, then the others, each stopped, exchanged, proven, and doing what it did before: quoting, paused by a
    person, or latched. --check says what would be done; a second run has nothing to do."""
    newer = wheels(tmp_path, "0.9.1")
    one, two, three = fleet.hosts.values()
    one.check("mmpi", "pause", "--reason", "mine")
    two.check("mmpi", "kill", "--reason", "mine")
    before = {name: pid(host) for name, host in fleet.hosts.items()}
    assert (checked := fleet.play("update", newer, "--check")).code == 0, checked.text
    assert all(checked.changed(name) == 1 for name in fleet.hosts), checked.text
    assert {name: pid(host) for name, host in fleet.hosts.items()} == before
    played = fleet.play("update", newer)
    assert played.code == 0, played.text
    assert {version(host) for host in fleet.hosts.values()} == {"0.9.1"}
    assert "by_hand" in status(one)["guardian"]["causes"]
    assert "mine" in one.check("mmpi", "status") and "mine" in status(two)["latch_reason"]
    assert (status(two)["latch"], status(two)["guardian"]["causes"]) == ("latched", [])
    assert (status(three)["state"], status(three)["guardian"]["causes"]) == ("quoting", [])
    assert status(three)["guardian"]["boot"]["version"] == "0.9.1"
    again = fleet.play("update", newer)
    assert again.code == 0 and not any(again.changed(name) for name in fleet.hosts), again.text
    one.check("mmpi", "resume")
    two.check("mmpi", "arm")
    for host in (one, two):
        host.wait(lambda host=host: status(host)["state"] == "quoting", 60, "quotes")


def test_a_roll_out_that_was_broken_off_is_ended_by_the_next(fleet: Fleet, tmp_path: Path) -> None:
    """Whoever commanded it went away after the box was paused: the next run knows that the pause was not a person's. A
    host whose services did not run has the new version, and they still do not."""
    newer = wheels(tmp_path, "0.9.15")
    one, two = fleet.hosts["one"], fleet.hosts["two"]
    slot = Path(one.check("readlink", "/opt/mmpi/current").strip()).name
    left = {"ran": True, "latched": False, "stands": False, "quoted": True, "slot": slot}
    one.check("sh", "-c", f"echo '{json.dumps(left)}' >/opt/mmpi/rolling.json; mmpi pause --reason update")
    two.check("systemctl", "stop", "mmpi.target")
    played = fleet.play("update", newer, "--limit", "one,two")
    assert played.code == 0, played.text
    assert (version(one), status(one)["state"], status(one)["guardian"]["causes"]) == ("0.9.15", "quoting", [])
    assert (version(two), two.run("systemctl", "is-active", "mmpi.target").stdout.strip()) == ("0.9.15", "inactive")
    assert one.run("test", "-e", "/opt/mmpi/rolling.json").returncode != 0
    two.check("systemctl", "start", "mmpi.target")
    two.wait(lambda: status(two)["state"] == "quoting", 60, "quotes")


def test_a_version_that_is_not_well_goes_back_and_stops_the_roll_out(fleet: Fleet, tmp_path: Path) -> None:
    """Its quoter dies at once: the first host has its old version and quotes again, and the others are as they were."""

    def spoil(source: Path) -> None:
        place = source / "mmpi" / "commands" / "run.py"
        place.write_text(place.read_text() + "\n\nraise RuntimeError('this version is broken')\n")

    broken = wheels(tmp_path, "0.9.2", spoil)
    before = {name: (version(host), pid(host)) for name, host in fleet.hosts.items()}
    played = fleet.play("update", broken, settings={"mmpi_health_s": 20})
    assert played.code == 2, played.text
    said = " ".join(played.text.split())
    assert f"one was not updated to 0.9.2, and has {before['one'][0]}" in said, played.text
    assert "this boot is not healthy" in said and "It is healthy, and goes on as before." in said
    one = fleet.hosts["one"]
    assert version(one) == before["one"][0]
    one.wait(lambda: status(one)["state"] == "quoting", 60, "quotes of the old version")
    assert status(one)["guardian"]["causes"] == []
    for name in ("two", "three"):
        assert (version(fleet.hosts[name]), pid(fleet.hosts[name])) == before[name], name


def test_a_host_that_cannot_be_reached_stops_an_update_before_it_begins(fleet: Fleet, tmp_path: Path) -> None:
    """Nothing is begun that could not be ended on all hosts."""
    before = {name: (version(host), pid(host)) for name, host in fleet.hosts.items()}
    fleet.hosts["two"].cable(plugged=False)
    try:
        played = fleet.play("update", wheels(tmp_path, "0.9.3"))
    finally:
        fleet.hosts["two"].cable(plugged=True)
    assert played.code != 0 and played.recap["two"]["unreachable"] == 1, played.text
    assert {name: (version(host), pid(host)) for name, host in fleet.hosts.items()} == before


def test_a_backup_holds_what_belongs_to_the_box_and_no_key(fleet: Fleet, sets: Path, tmp_path: Path) -> None:
    """Configuration, latch, ledger and journal come home; secrets stay; nothing is left on the host."""
    secrets = "/var/lib/mmpi/secrets"
    fleet.hosts["one"].check("sh", "-c", f"mkdir -p {secrets} && echo secret >{secrets}/quoter.key")
    played = fleet.play("backup", sets, settings={"mmpi_backups": str(tmp_path)})
    assert played.code == 0, played.text
    for name, host in fleet.hosts.items():
        (made,) = (tmp_path / name).glob("*.tar.gz")
        with tarfile.open(made) as archive:
            names = archive.getnames()
        assert {"etc/mmpi/mmpi.toml", "var/lib/mmpi/latch.json"} <= set(names)
        assert any(each.endswith(".mmj") for each in names), names
        assert not [each for each in names if "secret" in each or "credstore" in each]
        assert host.run("sh", "-c", "ls /run/mmpi-backup-*").returncode != 0


# With orders at a venue -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trading(fleet: Fleet, sets: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Give the fleet as each box quotes at a practice venue of its own."""
    for name, host in fleet.hosts.items():
        keys = tmp_path_factory.mktemp(name) / "keys"
        made = tmp_path_factory.mktemp(name) / "agents.json"
        make_keys(keys, made)
        for path, text in {
            "etc/systemd/system/practice.service": SERVER,
            "root/.local/state/mmpi-practice/agents.json": made.read_text(),
            **{f"etc/practice/{each.name}": each.read_text() for each in keys.iterdir()},
        }.items():
            place = host.root / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
            place.chmod(0o600)
        host.check("systemctl", "daemon-reload")
        host.check("systemctl", "start", "practice")
        secrets = {each: (keys / each).read_text() for each in ("account", "quoter.key", "guardian.key")}
        fleet.known[name] = {"mmpi_secrets": secrets}
    played = fleet.play("site", sets, settings={"mmpi_config": PRACTICE})
    assert played.code == 0, played.text
    for host in fleet.hosts.values():
        host.run("mmpi", "arm")
        host.wait(lambda host=host: live(host) >= 5, 60, f"{host.name}'s quotes")
    yield fleet


def live(host: Host) -> int:
    """Return how many orders are live at the host's venue."""
    ask = f"import urllib.request as u; print(u.urlopen('{OWN_WAY}/control/orders').read().decode())"
    done = host.run("python3", "-c", ask)
    return len(json.loads(done.stdout)) if done.returncode == 0 else -1


def by_hand(host: Host, key: str) -> None:
    """Place an order that is not mmpi's, with the same account."""
    body = signed(orders(order("50000", "0.01", tif="Gtc")), bytes.fromhex(key.strip().removeprefix("0x")),
                  nonce=time.time_ns() // 1_000_000)  # fmt: skip
    json_ = "{'Content-Type': 'application/json'}"
    code = f"import sys, urllib.request as u; u.urlopen(u.Request('{OWN_WAY}/exchange', sys.argv[1].encode(), {json_}))"
    host.check("python3", "-c", code, json.dumps(body))


def test_a_host_with_open_orders_refuses_an_update(trading: Fleet, tmp_path: Path) -> None:
    """The venue has an order of the account that mmpi does not know of: nothing is exchanged, and the box goes on."""
    one = trading.hosts["one"]
    before = [version(host) for host in trading.hosts.values()]
    by_hand(one, trading.known["one"]["mmpi_secrets"]["quoter.key"])
    played = trading.play("update", wheels(tmp_path, "0.9.5"), settings={"mmpi_config": PRACTICE})
    said = " ".join(played.text.split())
    assert played.code == 2 and "the venue has 1 open orders of this account" in said, played.text
    assert [version(host) for host in trading.hosts.values()] == before
    one.wait(lambda: live(one) >= 5, 60, "its quotes again")


def test_keys_that_the_venue_does_not_know_give_way_to_the_old_ones(trading: Fleet, sets: Path, tmp_path: Path) -> None:
    """A box that is not well with its new keys quotes with the old ones again, and the next box is not touched."""
    make_keys(tmp_path / "keys", tmp_path / "agents.json")
    strange = {"quoter.key": (tmp_path / "keys" / "quoter.key").read_text()}
    one = trading.hosts["one"]
    before = one.check("cat", "/etc/credstore/mmpi.quoter.key")
    settings = {"mmpi_health_s": 20, "mmpi_tolerate_orders": True}
    hosts = {name: {"mmpi_secrets": strange} for name in ("one", "two")}
    played = trading.play("rotate-keys", sets, "--limit", "one,two", settings=settings, hosts=hosts)
    assert played.code == 2 and "one has its old keys" in " ".join(played.text.split()), played.text
    assert strange["quoter.key"].strip() not in played.text
    assert one.check("cat", "/etc/credstore/mmpi.quoter.key") == before
    one.wait(lambda: live(one) >= 5, 60, "its quotes again")
    assert one.run("test", "-e", "/run/mmpi-old-credstore").returncode != 0


def test_kill_stops_all_even_one_whose_quoter_hangs(trading: Fleet, sets: Path) -> None:
    """Every box is latched and has no order at its venue, in parallel; a quoter that hangs, and a host that cannot be
    reached, keep none waiting; the latter is named."""
    hung = trading.hosts["two"]
    hung.check("kill", "-STOP", pid(hung))
    began = time.monotonic()
    played = trading.play("kill", sets, hosts={"gone": {"ansible_host": "127.0.0.1", "ansible_port": 1}})
    took = time.monotonic() - began
    assert played.code == 2 and "NOT PROVEN TO BE STOPPED: gone" in " ".join(played.text.split()), played.text
    assert not [name for name in trading.hosts if f"STOPPED: {name}" in played.text]
    for name, host in trading.hosts.items():
        assert re.search(rf"{name} +latched; no order after", played.text), played.text
        assert status(host)["latch"] == "latched"
        # The one by hand is not ours to end.
        assert live(host) == (1 if name == "one" else 0), name
    assert took < 30, f"{took:.0f} s"
