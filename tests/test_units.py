"""systemd/ and scripts/install-service: what systemd says to the units, and that their figures are the code's."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from mmpi import deadman
from mmpi.app import STOP_S
from mmpi.errors import ConfigError, RefusedError
from mmpi.instrument import SECOND
from mmpi.sections import PathSettings, ledger_folder

ROOT = Path(__file__).resolve().parents[1]
SYSTEMD = ROOT / "systemd"
SERVICES = ("mmpi-guardian", "mmpi-quoter")
MOST_EXPOSED = 20
"""systemd-analyze's 2.0 of 10."""
NEWER = {"RestartSteps", "RestartMaxDelaySec"}
"""What Debian 12's systemd (252) passes over."""


def unit(name: str) -> dict[str, list[str]]:
    """Return the settings of a unit, each with its values in order."""
    found: dict[str, list[str]] = {}
    for line in (SYSTEMD / "system" / name).read_text(encoding="utf-8").splitlines():
        if "=" in line and not line.startswith(("#", "[")):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def seconds(text: str) -> float:
    """Return a time such as 10s."""
    assert re.fullmatch(r"\d+s", text), text
    return float(text[:-1])


def install(*words: str) -> "subprocess.CompletedProcess[str]":
    """Run the installer."""
    command = [str(ROOT / "scripts" / "install-service"), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Give the root of an image that has nothing but what the units name, with everything installed into it."""
    for program in ("usr/bin/mmpi", "usr/bin/systemd-tmpfiles", "usr/sbin/mosquitto", "bin/sh"):
        (tmp_path / program).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / program).touch(mode=0o755)
    folder = tmp_path / "usr/lib/systemd/system"
    folder.mkdir(parents=True)
    for target in ("sysinit", "basic", "shutdown", "network", "paths", "multi-user"):
        (folder / f"{target}.target").write_text("[Unit]\nDefaultDependencies=no\n")
    done = install("--root", str(tmp_path), "--command", "/usr/bin/mmpi", "--appliance", "--pins", "--i2c")
    assert done.returncode == 0, done.stderr
    return tmp_path


def analyze(*words: str) -> "subprocess.CompletedProcess[str]":
    """Run systemd-analyze, or skip."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed (Debian: systemd)")
    done = subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, check=False)
    if "does not support" in done.stderr or "unrecognized option" in done.stderr:
        pytest.skip(f"this systemd-analyze is too old: {done.stderr.strip()}")
    return done


def test_systemd_finds_nothing_wrong(image: Path) -> None:
    """`systemd-analyze verify` has nothing to say but that an older systemd does not know a newer one's settings."""
    names = ["mmpi.target", *(f"{name}.service" for name in SERVICES), "mmpi-telemetry.service",
             "mmpi-broker.service", "mmpi-poweroff.path", "mmpi-poweroff.service"]  # fmt: skip
    done = analyze("verify", "--man=no", f"--root={image}", *names)
    said = [line for line in (done.stdout + done.stderr).splitlines() if "systemctl is not" not in line]
    unknown = re.compile(r".*: Unknown (?:key|key name) '(\w+)' in section '?\[?Service\]?'?, ignoring\.")
    others = [line for line in said if (found := unknown.fullmatch(line)) is None or found[1] not in NEWER]
    assert others == []


@pytest.mark.parametrize("name", [*SERVICES, "mmpi-telemetry", "mmpi-broker"])
@pytest.mark.parametrize("with_pins", [False, True])
def test_how_exposed_a_service_is(image: Path, name: str, with_pins: bool) -> None:
    """Each service is at 2.0 of systemd's 10 at most, the guardian with pins and gauges opened, too."""
    if not with_pins:
        shutil.rmtree(image / f"usr/lib/systemd/system/{name}.service.d", ignore_errors=True)
    words = ("--offline=true", f"--threshold={MOST_EXPOSED}", f"--root={image}", "--no-pager", f"{name}.service")
    done = analyze("security", *words)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr


@pytest.mark.parametrize("name", SERVICES)
def test_the_chain_of_watchdogs(name: str) -> None:
    """I6: the exchange's dead man < the service's watchdog < the machine's, and that below the Pi's limit of 15 s."""
    service = seconds(unit(f"{name}.service")["WatchdogSec"][0])
    machine = dict(re.findall(r"^(\w+)=(.*)$", (SYSTEMD / "system.conf.d/mmpi-watchdog.conf").read_text(), re.M))
    assert machine == {"RuntimeWatchdogSec": "14s", "RebootWatchdogSec": "14s"}
    assert deadman.AHEAD / SECOND < service < seconds(machine["RuntimeWatchdogSec"]) < 15


@pytest.mark.parametrize("name", SERVICES)
def test_how_a_service_ends_and_begins(name: str) -> None:
    """It tells when it is ready, is restarted unless that is pointless, never reboots, and has time to end well."""
    told = unit(f"{name}.service")
    assert (told["Type"], told["NotifyAccess"], told["Restart"]) == (["notify"], ["main"], ["always"])
    codes = {str(ConfigError.exit_code), str(RefusedError.exit_code)}
    assert set(told["RestartPreventExitStatus"][0].split()) == codes
    assert told.get("StartLimitAction", ["none"]) == ["none"]
    assert "RuntimeDirectory" not in told
    if name == "mmpi-quoter":
        assert seconds(told["TimeoutStopSec"][0]) > STOP_S + 1


def test_who_waits_for_whom() -> None:
    """Nothing that the guardian waits for is slow; the quoter comes after it and needs it, but falls with it not."""
    guardian, quoter = unit("mmpi-guardian.service"), unit("mmpi-quoter.service")
    assert set(guardian["After"][0].split()) == {"mmpi-poweroff.path", "mmpi.target"}
    assert not {"Requires", "BindsTo", "Requisite"} & (guardian.keys() | quoter.keys())
    assert "mmpi-guardian.service" in quoter["Wants"][0].split()
    assert {"mmpi-guardian.service", "network.target"} < set(quoter["After"][0].split())
    assert "network-online" not in f"{guardian} {quoter}"
    assert guardian["PartOf"] == quoter["PartOf"] == ["mmpi.target"]


def test_users_and_folders_are_the_same_everywhere() -> None:
    """Units, users, folders, pins and the code's own names of files agree."""
    users = set(re.findall(r"^u (\S+)", (SYSTEMD / "sysusers.d/mmpi.conf").read_text(), re.M))
    assert users == {"mmpi-guardian", "mmpi-quoter", "mmpi-telemetry", "mmpi-broker"}
    folders = re.findall(r"^d (\S+) +2770 root mmpi -$", (SYSTEMD / "tmpfiles.d/mmpi.conf").read_text(), re.M)
    paths = PathSettings(state_dir="/var/lib/mmpi", runtime_dir="/run/mmpi", secrets_dir="")
    assert sorted(folders) == [paths.runtime_dir, paths.state_dir, str(ledger_folder(paths))]
    for name in SERVICES:
        told = unit(f"{name}.service")
        assert (told["User"], told["Group"], told["UMask"]) == ([name], ["mmpi"], ["0027"])
        assert set(told["ReadWritePaths"][0].split()) == {paths.runtime_dir, paths.state_dir}
        environment = f"MMPI_PATHS__STATE_DIR={paths.state_dir} MMPI_PATHS__RUNTIME_DIR={paths.runtime_dir}"
        assert told["Environment"][0].startswith(environment)
    owned = dict(re.findall(r"^[zZ] (\S+) +- (\S+) +mmpi -$", (SYSTEMD / "tmpfiles.d/mmpi.conf").read_text(), re.M))
    guardians = (paths.halt, paths.control, paths.guardian_lock, paths.latch, paths.held, paths.pins)
    quoters = (paths.runtime_dir + "/status", paths.quoter_lock, paths.journal, f"{ledger_folder(paths)}/*.mmj*")
    assert {str(path): owned.get(str(path)) for path in guardians} == dict.fromkeys(map(str, guardians), SERVICES[0])
    assert {str(path): owned.get(str(path)) for path in quoters} == dict.fromkeys(map(str, quoters), SERVICES[1])
    assert unit("mmpi-poweroff.path")["PathExists"] == [str(paths.poweroff)]
    assert f"r! {paths.poweroff}" in (SYSTEMD / "tmpfiles.d/mmpi.conf").read_text()
    assert 'GROUP="mmpi-guardian"' in (SYSTEMD / "udev/60-mmpi-pins.rules").read_text()


def test_rights() -> None:
    """The guardian may kill and nothing else; the quoter has no privilege and no device; each is given its own key."""
    guardian, quoter = unit("mmpi-guardian.service"), unit("mmpi-quoter.service")
    assert guardian["AmbientCapabilities"] == guardian["CapabilityBoundingSet"] == ["CAP_KILL"]
    assert quoter["AmbientCapabilities"] == quoter["CapabilityBoundingSet"] == [""]
    assert "DeviceAllow" not in quoter.keys() | guardian.keys()
    names = [{each.partition(":")[0] for each in told["LoadCredential"]} for told in (guardian, quoter)]
    assert names == [{"account", "guardian.key"}, {"account", "quoter.key"}]
    # Not an absolute path: a credential that is missing there would be a failure.
    assert not any(":/" in each for told in (guardian, quoter) for each in told["LoadCredential"])


def test_telemetry_is_in_nobodys_way() -> None:
    """Last to be served and first to go; it writes no disk, has no key of a venue, and nobody waits for it."""
    told = unit("mmpi-telemetry.service")
    assert (told["Type"], told["Restart"], told["PartOf"]) == (["notify"], ["always"], ["mmpi.target"])
    assert (told["User"], told["Group"]) == (["mmpi-telemetry"], ["mmpi"])
    assert int(told["OOMScoreAdjust"][0]) > 0 and int(told["Nice"][0]) > 0 and int(told["CPUWeight"][0]) < 100
    assert told["ReadWritePaths"] == ["/run/mmpi"] and told["CapabilityBoundingSet"] == [""]
    assert {each.partition(":")[0] for each in told["LoadCredential"]} == {
        "mqtt.password", "mqtt_far.password", "webhook.token",
    }  # fmt: skip
    for other in SERVICES:
        assert "mmpi-telemetry" not in (SYSTEMD / "system" / f"{other}.service").read_text()
    assert "mmpi-telemetry.service" in unit("mmpi.target")["Wants"][0].split()


def test_the_broker_is_a_stranger_here() -> None:
    """Its user is in no group of ours and sees neither our sockets nor our state; root makes its configuration."""
    told = unit("mmpi-broker.service")
    assert (told["User"], told["Group"]) == (["mmpi-broker"], ["mmpi-broker"])
    assert set(told["InaccessiblePaths"][0].split()) == {"-/run/mmpi", "-/var/lib/mmpi"}
    assert "m mmpi-broker" not in (SYSTEMD / "sysusers.d/mmpi.conf").read_text()
    assert all(each.startswith("+") for key in ("ExecCondition", "ExecStartPre") for each in told[key])
    assert told["Conflicts"] == ["mosquitto.service"]


def test_an_image_starts_it(image: Path) -> None:
    """What is installed into an image is started by its first boot, and names no folder of this machine."""
    link = image / "etc/systemd/system/multi-user.target.wants/mmpi.target"
    assert os.readlink(link) == "/usr/lib/systemd/system/mmpi.target"
    written = [path for path in image.rglob("*") if path.is_file() and "mmpi" in str(path.relative_to(image))]
    assert len(written) > 12
    assert not any(str(ROOT) in path.read_text() for path in written)


def test_what_was_installed_can_be_removed(image: Path) -> None:
    """--remove leaves none of our files but the program itself."""
    assert install("--root", str(image), "--remove").returncode == 0
    left = [str(path.relative_to(image)) for path in image.rglob("*mmpi*") if not path.is_dir()]
    assert left == ["usr/bin/mmpi"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--frob"], "--frob: allowed: --command FILE, --root DIR"),
        (["--root"], "--root: a folder is missing"),
        (["--root", "/nowhere/at/all"], "--root /nowhere/at/all: no such folder"),
    ],
)
def test_bad_usage(words: list[str], text: str) -> None:
    """What is no command line ends with 2 and one sentence, and nothing is installed."""
    done = install(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert text in done.stderr


def test_no_program_to_run(tmp_path: Path) -> None:
    """A program that is not there is named before anything is installed."""
    done = install("--root", str(tmp_path), "--command", "/usr/bin/mmpi")
    assert done.returncode == 2
    assert f"{tmp_path}/usr/bin/mmpi: no such program" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["20-pins.conf", "21-i2c.conf"])
def test_the_guardian_is_in_the_group_that_udev_gives_the_files_to(name: str) -> None:
    """Group= takes a user's own group away from its service, so the drop-in gives it back."""
    rules = (ROOT / "systemd" / "udev" / "60-mmpi-pins.rules").read_text(encoding="utf-8")
    groups = set(re.findall('GROUP="([^"]+)"', rules))
    text = (ROOT / "systemd" / "pins" / name).read_text(encoding="utf-8")
    assert groups == set(re.findall("^SupplementaryGroups=(.+)$", text, flags=re.MULTILINE)) == {"mmpi-guardian"}
