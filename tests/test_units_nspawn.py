"""The units under a real systemd: a container of this machine's own root, with two users, credentials and a venue."""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from nspawn_box import ROOT, Box, missing
from stack import QUOTES

pytestmark = pytest.mark.slow

CONFIG = (ROOT / "docs" / "examples" / "practice.toml").read_text(encoding="utf-8")
WATCHDOG_S = 10.0
ABORT_S = 2.0
"""TimeoutAbortSec: a process that does not die of SIGABRT gets SIGKILL."""
SLACK_S = 2.0
GUARDIAN, QUOTER = "mmpi-guardian", "mmpi-quoter"


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """Give a booted box with the units installed, not started."""
    if why := missing():
        pytest.skip(why)
    with Box(tmp_path_factory.mktemp("units") / "box") as box:
        box.prepare(CONFIG)
        box.boot()
        box.check(str(ROOT / "scripts" / "install-service"), "--command", str(Path(sys.prefix) / "bin" / "mmpi"))
        box.check("systemctl", "start", "practice")
        yield box


@pytest.fixture
def quoting(box: Box) -> Box:
    """Give the box as it quotes, with everything started and armed."""
    box.mend()
    box.check("systemctl", "start", "mmpi.target")
    box.wait(lambda: box.status()["guardian"].get("venue_session"), 20, "the guardian's session")
    box.check("mmpi", "arm")
    wait_quoting(box)
    return box


def wait_quoting(box: Box) -> None:
    """Wait until most of the ladder is live at the venue."""
    box.wait(lambda: box.status()["state"] == "quoting" and box.orders() >= QUOTES // 2, 40, "quotes")


def stamp(box: Box, unit: str, key: str) -> int:
    """Return a time of a unit in monotonic microseconds."""
    return int(box.show(unit, f"{key}TimestampMonotonic"))


def said_at(log: str, text: str) -> float:
    """Return when a text was last logged, in seconds."""
    lines = [line for line in log.splitlines() if text in line]
    assert lines, f"{text!r} is not in\n{log}"
    return float(lines[-1].partition("[")[2].partition("]")[0])


def title(unit: str) -> str:
    """Return how systemd's log calls a unit."""
    text = (ROOT / "systemd" / "system" / f"{unit}.service").read_text()
    return f"{unit}.service - {text.partition('Description=')[2].splitlines()[0]}"


def probe(box: Box, unit: str, code: str) -> dict[str, object]:
    """Return what Python code prints, as JSON, in the very sandbox of a service."""
    lines = (ROOT / "systemd" / "system" / f"{unit}.service").read_text().partition("[Service]")[2].splitlines()
    own = [line for line in lines if not line.startswith(("ExecStart", "Type=", "Restart", "WatchdogSec"))]
    home = f"{unit}.service.d/10-home.conf"
    if box.run("test", "-e", f"/usr/local/lib/systemd/system/{home}").returncode == 0:
        own.append("ProtectHome=read-only")
    box.write("/opt/probe.py", code)
    text = "\n".join(["[Service]", "Type=oneshot", *own, f"ExecStart={sys.executable} /opt/probe.py"])
    box.check("sh", "-c", f"cat >/run/systemd/system/probe.service <<'END'\n{text}\nEND\nsystemctl daemon-reload")
    box.check("systemctl", "start", "probe")
    said = box.check("journalctl", "-o", "cat", "--no-pager", "-u", "probe", "_COMM=python", "-n", "1")
    found: dict[str, object] = json.loads(said)
    return found


def test_the_guardian_is_up_first_and_nobody_waits_for_the_quoter(box: Box) -> None:
    """The target is reached at once; the guardian is active before the quoter starts; a box without a venue and a
    network comes up latched, with its quoter waiting, which is a healthy boot, and quotes once there is a venue and a
    hand arms it."""
    box.check("systemctl", "stop", "practice")
    began = time.monotonic()
    box.check("systemctl", "start", "mmpi.target")
    assert time.monotonic() - began < 1.0
    box.wait(lambda: box.show(GUARDIAN, "ActiveState") == "active", 10, "the guardian")
    box.wait(lambda: "waiting for the venue" in box.show(QUOTER, "StatusText"), 20, "the quoter to wait")
    assert stamp(box, GUARDIAN, "ActiveEnter") <= stamp(box, QUOTER, "ExecMainStart")
    assert (box.show(GUARDIAN, "Type"), box.show(QUOTER, "Type")) == ("notify", "notify")
    assert box.show(QUOTER, "ActiveState") == "activating"
    assert box.status()["latch"] == "latched"
    said = json.loads(box.check("mmpi", "health", "--json", "--timeout", "30"))
    assert said["why"][0].startswith("waiting for the venue: ")
    assert box.status()["guardian"]["boot"]["healthy"] is True
    box.check("systemctl", "start", "practice")
    box.wait(lambda: box.show(QUOTER, "ActiveState") == "active", 30, "the quoter")
    assert box.orders() == 0
    box.wait(lambda: box.status()["guardian"].get("venue_session"), 20, "the guardian's session")
    box.check("mmpi", "arm")
    wait_quoting(box)
    assert box.show(QUOTER, "NRestarts") == box.show(GUARDIAN, "NRestarts") == "0"


def test_who_owns_what(quoting: Box) -> None:
    """The folders are root's and the group's, every file belongs to the daemon that writes it, the group may read what
    is shared, others see nothing, and each service has its own key alone."""
    found = quoting.check("find", "/run/mmpi", "/var/lib/mmpi", "-maxdepth", "1", "-printf", "%p %u:%g %m\n")
    rights = dict(line.split(" ", 1) for line in found.splitlines())
    assert rights["/run/mmpi"] == rights["/var/lib/mmpi"] == "root:mmpi 2770"
    expected = {
        "/run/mmpi/config.json": "root:mmpi 640",
        "/run/mmpi/guardian.sock": "mmpi-guardian:mmpi 660",
        "/run/mmpi/halt": "mmpi-guardian:mmpi 640",
        "/run/mmpi/status": "mmpi-quoter:mmpi 640",
        "/run/mmpi/quoter.lock": "mmpi-quoter:mmpi 600",
        "/run/mmpi/guardian.lock": "mmpi-guardian:mmpi 600",
        "/run/mmpi/journal": "mmpi-quoter:mmpi 2750",
        "/var/lib/mmpi/latch.json": "mmpi-guardian:mmpi 640",
        "/var/lib/mmpi/instance": "mmpi-quoter:mmpi 640",
        "/var/lib/mmpi/epoch": "mmpi-quoter:mmpi 640",
    }
    assert {path: rights.get(path) for path in expected} == expected
    for unit, key in ((GUARDIAN, "guardian.key"), (QUOTER, "quoter.key")):
        keys = quoting.check("ls", f"/run/credentials/{unit}.service").split()
        assert keys == sorted(["account", key])
    assert quoting.run("cat", f"/run/credentials/{GUARDIAN}.service/guardian.key", user=QUOTER).returncode != 0
    settings = json.loads(quoting.check("cat", "/run/mmpi/config.json"))
    assert settings["paths"]["secrets_dir"] == "/var/lib/mmpi/secrets"


def test_the_daemons_did_not_check_for_themselves(quoting: Box) -> None:
    """Both take root's word for the configuration: no stamp of a check of their own is there, and neither may even
    read the file that root checked."""
    assert quoting.run("ls", "/run/mmpi/config.inputs").returncode != 0
    assert quoting.run("cat", "/etc/mmpi/mmpi.toml", user=QUOTER).returncode != 0


QUOTER_SEES = """
import ctypes, json, os, time
from mmpi.device.clock_sync import is_synchronised
def refused(work):
    try:
        work()
    except OSError as error:
        return error.strerror
    return ""
print(json.dumps({
    "synchronised": is_synchronised() is not None,
    "set clock": refused(lambda: time.clock_settime(time.CLOCK_REALTIME, time.time())),
    "guardian": os.path.exists("/proc/%d/stat"),
    "kill guardian": bool(refused(lambda: os.kill(%d, 0))),
    "write /etc": bool(refused(lambda: open("/etc/mmpi/x", "w"))),
    "write /run/mmpi": refused(lambda: open("/run/mmpi/probe", "w")),
    "devices": sorted(name for name in os.listdir("/dev") if name.startswith(("gpio", "i2c", "mem", "sd", "vd"))),
}))
"""


def test_what_the_quoter_may(quoting: Box) -> None:
    """In its sandbox the quoter may ask whether the clock is right, but not set it; it neither sees nor reaches the
    guardian's process; it writes in the two folders alone, and there is no device."""
    pid = quoting.pid(GUARDIAN)
    assert probe(quoting, QUOTER, QUOTER_SEES % (pid, pid)) == {
        "synchronised": True,
        "set clock": "Operation not permitted",
        "guardian": False,
        "kill guardian": True,
        "write /etc": True,
        "write /run/mmpi": "",
        "devices": [],
    }


GUARDIAN_SEES = """
import json, os, signal, subprocess, time
from mmpi.device.hardware_watchdog import PROPERTIES
def refused(work):
    try:
        work()
    except OSError as error:
        return error.strerror
    return ""
shown = subprocess.run(["systemctl", "show", *(f"--property={n}" for n in PROPERTIES)], capture_output=True, text=True)
print(json.dumps({
    "quoter": os.path.exists("/proc/%d/stat"),
    "signal quoter": refused(lambda: signal.pidfd_send_signal(os.pidfd_open(%d), 0)),
    "systemd's watchdogs": len(shown.stdout.split()),
    "set clock": bool(refused(lambda: time.clock_settime(0, time.time()))),
    "write /etc": bool(refused(lambda: open("/etc/mmpi/x", "w"))),
    "devices": sorted(name for name in os.listdir("/dev") if name.startswith(("gpio", "i2c", "mem", "sd", "vd"))),
}))
"""


def test_what_the_guardian_may(quoting: Box) -> None:
    """In its sandbox the guardian sees the quoter's process and may signal it by pidfd, hears from systemd which
    watchdogs are set, and can neither set the clock nor write elsewhere; without --pins it has no device."""
    pid = quoting.pid(QUOTER)
    assert probe(quoting, GUARDIAN, GUARDIAN_SEES % (pid, pid)) == {
        "quoter": True,
        "signal quoter": "",
        "systemd's watchdogs": 2,
        "set clock": True,
        "write /etc": True,
        "devices": [],
    }


def test_a_hanging_quoter_is_restarted(quoting: Box) -> None:
    """Frozen, the quoter is paused and cancelled by the guardian after one second; its watchdog ends it within 10 s and
    what an abort may take (I6), another one quotes, and the guardian's process is the same all the time."""
    guardian, quoter, restarts = quoting.pid(GUARDIAN), quoting.pid(QUOTER), int(quoting.show(QUOTER, "NRestarts"))
    quoting.check("kill", "-STOP", str(quoter))
    began = time.monotonic()
    quoting.wait(lambda: quoting.status()["guardian"].get("state") == "paused", 3, "the pause")
    assert time.monotonic() - began < 2.0
    quoting.wait(lambda: quoting.orders() == 0, 5, "zero orders")
    quoting.wait(lambda: quoting.pid(QUOTER) not in (0, quoter), 25, "another quoter")
    ended = stamp(quoting, QUOTER, "ExecMainStart") / 1e6 - began
    assert ended < WATCHDOG_S + ABORT_S + 2.0 + SLACK_S
    assert "watchdog" in quoting.log(QUOTER).lower()
    wait_quoting(quoting)
    assert quoting.pid(GUARDIAN) == guardian
    assert int(quoting.show(QUOTER, "NRestarts")) == restarts + 1
    # The unit's own view of the machine is enough to know that it was no power cut.
    start = quoting.status()["start"]
    assert (start["before"], start["resumed"], start["repaired"]) == ("killed", True, [])


def test_a_guardian_that_is_killed(quoting: Box) -> None:
    """Without a guardian the quoter pulls its orders and lives on; systemd brings the next one, and quoting resumes
    with the same quoter."""
    guardian, quoter = quoting.pid(GUARDIAN), quoting.pid(QUOTER)
    quoting.check("kill", "-KILL", str(guardian))
    quoting.wait(lambda: quoting.orders() == 0, 3, "zero orders")
    quoting.wait(lambda: quoting.pid(GUARDIAN) not in (0, guardian), 10, "another guardian")
    wait_quoting(quoting)
    assert quoting.pid(QUOTER) == quoter


def test_remote_may_stop_and_only_hands_may_start(quoting: Box) -> None:
    """A user of the group may kill but not arm; one outside the group is not heard at all; root may arm."""
    killed = quoting.run("mmpi", "kill", "--json", user="mmpi-telemetry")
    assert killed.returncode == 0, killed.stderr
    assert quoting.status()["latch"] == "latched"
    for user in (QUOTER, "mmpi-telemetry"):
        refused = quoting.run("mmpi", "arm", user=user)
        assert (refused.returncode, quoting.status()["latch"]) == (3, "latched"), refused.stderr
    quoting.check("chmod", "o+rwx", "/run/mmpi")
    quoting.check("chmod", "o+rw", "/run/mmpi/guardian.sock")
    stranger = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "env"]
    paused = quoting.run(*stranger, "MMPI_PATHS__RUNTIME_DIR=/run/mmpi", "mmpi", "pause")
    assert (paused.returncode, "Permission denied" in paused.stderr) == (4, False)
    assert quoting.status()["guardian"]["state"] == "latched"
    assert "by_hand" not in quoting.status()["guardian"]["causes"]
    quoting.check("chmod", "o-rw", "/run/mmpi/guardian.sock")
    quoting.check("chmod", "2770", "/run/mmpi")
    quoting.check("mmpi", "arm")
    wait_quoting(quoting)


def test_the_guardian_kills_across_users(quoting: Box) -> None:
    """`mmpi kill` ends a frozen quoter of another user by SIGKILL, long before its watchdog would; the next one comes
    up latched and is ready all the same."""
    quoter = quoting.pid(QUOTER)
    quoting.check("kill", "-STOP", str(quoter))
    answer = json.loads(quoting.check("mmpi", "kill", "--json"))
    assert answer["verified"]
    said = quoting.log(GUARDIAN)
    killed = said_at(said, f"quoter (pid {quoter}) did not obey: killed")
    assert killed - said_at(said, "latched: kill button") < 1.5
    assert quoting.orders() == 0
    quoting.wait(lambda: quoting.show(QUOTER, "StatusText").startswith("latched"), 15, "a quoter that is latched")
    assert quoting.show(QUOTER, "ActiveState") == "active"
    assert quoting.pid(QUOTER) != quoter


@pytest.mark.parametrize(
    ("spoil", "mend", "code"),
    [
        ("echo x >/etc/credstore/mmpi.quoter.key", "true", "2"),
        ("flock --no-fork /run/mmpi/quoter.lock sleep 60 >/dev/null 2>&1 & echo $! >/run/p", "kill $(cat /run/p)", "3"),
    ],
)
def test_what_ends_for_good(quoting: Box, spoil: str, mend: str, code: str) -> None:
    """Exit codes 2 (a key that is none) and 3 (another quoter runs) are not followed by a restart."""
    quoting.check("systemctl", "stop", QUOTER)
    quoting.check("sh", "-c", spoil)
    quoting.run("systemctl", "start", QUOTER)
    quoting.wait(lambda: quoting.show(QUOTER, "ActiveState") == "failed", 15, f"the end with {code}")
    assert quoting.show(QUOTER, "ExecMainStatus") == code
    restarts = quoting.show(QUOTER, "NRestarts")
    # RestartSec= is 2 s: another start would have begun by then.
    time.sleep(3.0)
    assert (quoting.show(QUOTER, "ActiveState"), quoting.show(QUOTER, "NRestarts")) == ("failed", restarts)
    quoting.check("sh", "-c", mend)


def test_a_wrong_edit_does_not_take_the_guardian_away(quoting: Box) -> None:
    """With a configuration that is wrong the guardian comes back with the one that was right; the quoter does not,
    until it is mended."""
    quoting.check("sh", "-c", "echo '[risk]\ncapitol = 3' >/etc/mmpi/mmpi.toml")
    quoting.check("systemctl", "restart", GUARDIAN)
    assert quoting.show(GUARDIAN, "ActiveState") == "active"
    quoting.run("systemctl", "restart", QUOTER)
    assert "risk.capitol: value 3: unknown key" in quoting.log(QUOTER)
    assert quoting.show(QUOTER, "ActiveState") != "active"
    quoting.mend()
    quoting.wait(lambda: quoting.show(QUOTER, "ActiveState") == "active", 15, "the quoter, once it is mended")


def test_a_reload_keeps_processes_and_secrets(quoting: Box) -> None:
    """`mmpi reload` by root, who has no credentials, has both services begin anew with the new configuration, in the
    same processes and with the keys that each of them was given."""
    before = [(quoting.pid(unit), quoting.show(unit, "NRestarts")) for unit in (GUARDIAN, QUOTER)]
    quoting.check("sed", "-i", "s/^levels = 3 /levels = 1 /", "/etc/mmpi/mmpi.toml")
    quoting.check("mmpi", "reload", timeout=60)
    quoting.wait(lambda: quoting.orders() == 6, 30, "a ladder of one level, beside the one of two")
    # Not "stop-sigterm": one that has said STOPPING=1 is killed when TimeoutStopSec= is over.
    assert [quoting.show(unit, "SubState") for unit in (GUARDIAN, QUOTER)] == ["running", "running"]
    assert [(quoting.pid(unit), quoting.show(unit, "NRestarts")) for unit in (GUARDIAN, QUOTER)] == before


def test_encrypted_secrets(quoting: Box) -> None:
    """With the drop-ins of docs/service.md the keys are read from files that only this machine can decrypt."""
    quoting.check("systemctl", "stop", "mmpi.target")
    quoting.check("sh", "-c", "umask 077; mkdir /etc/credstore.encrypted; rm /etc/credstore/mmpi.*")
    for name in ("account", "quoter.key", "guardian.key"):
        place = f"/etc/credstore.encrypted/mmpi.{name}"
        quoting.check("systemd-creds", "--with-key=host", f"--name={name}", "encrypt", f"/opt/kept/mmpi.{name}", place)
    text = (ROOT / "docs" / "service.md").read_text().partition("# mmpi-quoter.service.d/secrets.conf\n")[2]
    drop_in = "\n".join(line.strip() for line in text.splitlines()[:4])
    for unit, own in ((QUOTER, drop_in), (GUARDIAN, drop_in.replace("quoter.key", "guardian.key"))):
        folder = f"/run/systemd/system/{unit}.service.d"
        quoting.check("sh", "-c", f"mkdir -p {folder}; cat >{folder}/secrets.conf <<'END'\n{own}\nEND")
    quoting.check("systemctl", "daemon-reload")
    quoting.check("systemctl", "start", "mmpi.target")
    wait_quoting(quoting)
    quoting.check("sh", "-c", "rm -r /run/systemd/system/mmpi-* /etc/credstore.encrypted; systemctl daemon-reload")


def test_what_the_services_take_of_memory(quoting: Box) -> None:
    """At their greatest both are far below their limits: the guardian below 45 MB, the quoter below 50 MB."""
    peaks = {}
    for unit in (GUARDIAN, QUOTER):
        status = quoting.check("cat", f"/proc/{quoting.pid(unit)}/status")
        peaks[unit] = int(status.partition("VmHWM:")[2].split()[0]) / 1024
    print(peaks)
    assert peaks[GUARDIAN] < 45, peaks
    assert peaks[QUOTER] < 50, peaks


PAGE = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8480/status.json', timeout=5).read().decode())"


def test_telemetry_tells_and_is_in_nobodys_way(quoting: Box) -> None:
    """Another user, who sees no process of the others, tells how they are; killed, it comes back and they notice
    nothing; a broker that nobody wants is passed over without a failed unit."""
    quoting.wait(lambda: quoting.show("mmpi-telemetry", "ActiveState") == "active", 20, "telemetry")
    pids = {unit: quoting.pid(unit) for unit in (GUARDIAN, QUOTER)}
    for _ in range(2):
        quoting.wait(lambda: quoting.run(sys.executable, "-c", PAGE).returncode == 0, 30, "the page")
        quoting.wait(lambda: page(quoting)["state"] == "quoting", 10, "the page's word")
        told = page(quoting)
        assert (told["quoter_alive"], told["guardian_alive"], told["latch"]) == (True, True, "armed")
        status = quoting.check("cat", f"/proc/{quoting.pid('mmpi-telemetry')}/status")
        assert int(status.partition("VmHWM:")[2].split()[0]) / 1024 < 60
        assert status.partition("Uid:")[2].split()[0] == "873"
        quoting.check("kill", "-KILL", str(quoting.pid("mmpi-telemetry")))
    assert pids == {unit: quoting.pid(unit) for unit in (GUARDIAN, QUOTER)}
    assert quoting.show("mmpi-broker", "ActiveState") == "inactive"
    assert "mmpi-broker" not in quoting.check("systemctl", "--failed", "--no-legend")


def page(box: Box) -> dict[str, object]:
    """Return what telemetry's page says of the box."""
    told: dict[str, object] = json.loads(box.check(sys.executable, "-c", PAGE))["box"]
    return told


def test_what_root_made_by_hand_is_no_obstacle(quoting: Box) -> None:
    """Files that root's own `mmpi guardian` and `mmpi run` left behind belong to the services at the next start."""
    quoting.check("systemctl", "stop", "mmpi.target")
    quoting.check("sh", "-c", "chown -R root:root /run/mmpi/* /var/lib/mmpi/*")
    quoting.check("systemctl", "start", "mmpi.target")
    wait_quoting(quoting)


def test_paper_needs_no_secrets(quoting: Box) -> None:
    """Without any credential both services start; on paper they work, in practice each names the file that it lacks."""
    quoting.check("systemctl", "stop", "mmpi.target")
    quoting.check("sh", "-c", "rm /etc/credstore/mmpi.*")
    quoting.check("sh", "-c", "sed -i 's/^mode = .*/mode = \"paper\"/' /etc/mmpi/mmpi.toml")
    quoting.check("systemctl", "start", "mmpi.target")
    quoting.wait(lambda: quoting.status()["state"] == "quoting", 25, "quoting on paper")
    quoting.check("systemctl", "stop", "mmpi.target")
    quoting.check("cp", "/opt/kept/mmpi.toml", "/etc/mmpi/mmpi.toml")
    quoting.run("systemctl", "start", GUARDIAN)
    assert "guardian.key: no such file" in quoting.log(GUARDIAN)
    assert quoting.show(GUARDIAN, "ExecMainStatus") == "2"


def test_the_quoter_ends_first_and_leaves_nothing(quoting: Box) -> None:
    """Stopping the target ends the quoter, which leaves no order, then the guardian, both cleanly; the command returns
    when both have ended."""
    quoting.check("systemctl", "stop", "mmpi.target")
    assert [quoting.show(unit, "ActiveState") for unit in (QUOTER, GUARDIAN)] == ["inactive", "inactive"]
    assert quoting.orders() == 0
    assert "stopped, no orders left" in quoting.log(QUOTER)
    said = quoting.check("journalctl", "-o", "cat", "--no-pager", "-u", QUOTER, "-u", GUARDIAN).splitlines()
    ends = [line.partition(".service")[0] for line in said if line.endswith("Deactivated successfully.")]
    assert ends[-2:] == [QUOTER, GUARDIAN]
    last = {line: number for number, line in enumerate(said)}
    assert last[f"Stopped {title(QUOTER)}."] < last[f"Stopping {title(GUARDIAN)}..."]


def test_the_guardian_turns_the_machine_off(quoting: Box) -> None:
    """Nobody's file but the guardian's turns the machine off; then the quoter ends first, and the box is gone."""
    quoting.check("systemctl", "start", "mmpi-poweroff.path")
    quoting.run("touch", "/run/mmpi/poweroff", user=QUOTER)
    quoting.wait(lambda: "not obeyed" in quoting.log("mmpi-poweroff"), 5, "the refusal")
    quoting.wait(lambda: quoting.show("mmpi-poweroff.service", "ActiveState") == "inactive", 5, "the end of it")
    assert quoting.run("ls", "/run/mmpi/poweroff").returncode != 0
    assert quoting.run("systemctl", "is-system-running").stdout != "stopping\n"
    quoting.run("touch", "/run/mmpi/poweroff", user=GUARDIAN)
    assert quoting.ended(30) == 0
