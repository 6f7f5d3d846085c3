"""The image of this checkout, booted through U-Boot in an emulated machine and set up from its card.

Two boots: the first one takes the set-up folder, with planted secrets; the second finds everything as it was left.
"""

import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from types import SimpleNamespace

import pytest
from image_box import PASSPHRASE, SECRETS, SIZE_MB, arm, flashed, press, release, settle, wait_state

from hil.rigs.virt import GREEN, RED, Virt
from image.card import DATA, MIB

pytestmark = pytest.mark.image

MOST_EXPOSED = 2.0
MOST_COMPRESSED = 180 * 10**6
QUOTING_S = float(os.environ.get("MMPI_IMAGE_QUOTING_S", "600"))
"""So long it is measured what is written; the promise is about ten minutes."""
MOST_WRITTEN = 1_000_000
UNITS = ("mmpi-clock", "mmpi-grow", "mmpi-guardian", "mmpi-health", "mmpi-mark-good", "mmpi-poweroff", "mmpi-quoter",
         "mmpi-setup", "mmpi-ssh-key", "mmpi-telemetry", "mmpi-wifi")  # fmt: skip
BAD: dict[str, tuple[dict[str, str], str]] = {
    "no TOML": ({"mmpi.toml": "[risk\n"}, "mmpi.toml"),
    "unknown key": ({"mmpi.toml": "[risk]\nmax_ordr = 3\n"}, "risk.max_ordr"),
    "wrong value": ({"mmpi.toml": "[risk]\nmax_order = -3\n"}, "risk.max_order"),
    "live without keys": ({"mmpi.toml": '[venue]\nname = "hyperliquid"\nmode = "live"\n'}, "mmpi.toml"),
    "no key": ({"secrets.env": "QUOTER_KEY=123\n"}, "QUOTER_KEY"),
    "unknown secret": ({"secrets.env": "QUOTER=" + "c3" * 32 + "\n"}, "secrets.env"),
    "short passphrase": ({"wifi.toml": 'ssid = "a"\npassphrase = "short"\ncountry = "DE"\n'}, "passphrase"),
    "no country": ({"wifi.toml": 'ssid = "a"\npassphrase = "long enough"\ncountry = "UK"\n'}, "country"),
    "no public key": ({"authorized_keys": "ssh-ed25519 AAAA me\n"}, "authorized_keys"),
    "no host name": ({"hostname": "my box\n"}, "hostname"),
    "unknown file": ({"secret.env": "A=1\n"}, "secret.env"),
    "editor's ending": ({"mmpi.toml.txt": "[risk]\n"}, "mmpi.toml.txt"),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """Give the build, a card with a set-up folder, and the machine that it is in, up for the second time."""
    folder = tmp_path_factory.mktemp("image")
    with flashed(folder) as there, ExitStack() as stack:
        with Virt(there.build, there.card, folder, key=there.key) as first:
            first.wait_up()
            settle(first)
            result = first.check("cat /boot/firmware/mmpi-setup/RESULT.txt")
            first.power_off()
        box = stack.enter_context(Virt(there.build, there.card, folder, key=there.key))
        box.wait_up()
        settle(box)
        yield SimpleNamespace(build=there.build, card=there.card, box=box, result=result)


def test_it_quotes_on_paper_and_is_healthy(made: SimpleNamespace) -> None:
    """The quoter is READY and quotes, the boot is healthy by its own verdict, its slot has all attempts back."""
    box: Virt = made.box
    status = box.status()
    assert status["state"] == "quoting", box.check("mmpi status; journalctl -b -p 4 -o cat --no-pager")
    assert status["guardian"]["boot"]["healthy"] and status["guardian"]["boot"]["slot"] == "A"
    assert "BOOT_A_LEFT=3" in box.check("fw_printenv")
    print(box.check("systemd-analyze time; cat /proc/uptime"))
    assert json.loads(box.check("cat /data/mmpi/boot.json"))["before"]["ended"] == "clean"


def test_nothing_failed_and_nothing_is_exposed(made: SimpleNamespace) -> None:
    """No failed unit, and none of ours above 2.0 by systemd's own measure."""
    box: Virt = made.box
    assert box.check("systemctl --failed --no-legend") == ""
    for unit in UNITS:
        said = box.check(f"systemd-analyze security --no-pager {unit}.service | tail -2")
        found = re.search(r"level for \S+: ([\d.]+)", said)
        assert found is not None and float(found[1]) <= MOST_EXPOSED, said


def test_telemetry_tells(made: SimpleNamespace) -> None:
    """Its page, on the box's own loopback address, says what the others say; no broker runs that nobody wants."""
    box: Virt = made.box
    code = b"import urllib.request as u; print(u.urlopen('http://127.0.0.1:8480/status.json').read().decode())"
    told = json.loads(box.check("/usr/lib/mmpi/bin/python -", data=code))["box"]
    assert (told["state"], told["quoter_alive"], told["guardian_alive"]) == ("quoting", True, True)
    assert box.run("systemctl is-active mmpi-broker").stdout.strip() == b"inactive"


def test_the_root_is_read_only_and_the_data_has_grown(made: SimpleNamespace) -> None:
    """A write to / fails, what is written to /var is in memory, four fifths of the card are used."""
    box: Virt = made.box
    assert box.run("touch /x").returncode != 0 and box.run("touch /etc/x").returncode != 0
    # erofs takes the order and stays as it is.
    assert box.run("mount -o remount,rw /; touch /x || touch /etc/x || touch /usr/x").returncode != 0
    assert box.check("findmnt -n -o FSTYPE /var").strip() == "overlay"
    size = int(box.check("df --output=size -B1 /data | tail -1"))
    assert size > (SIZE_MB * 0.8 - DATA.start) * MIB * 0.9
    assert DATA.start * MIB + int(box.check("cat /sys/class/block/vda3/size")) * 512 >= (SIZE_MB * 0.8 - 4) * MIB


def test_the_set_up_is_in_force(made: SimpleNamespace) -> None:
    """RESULT.txt says so, the host name is there, iwd knows the network, the keys are credentials."""
    box: Virt = made.box
    assert "\nDONE: " in made.result and box.check("hostname").strip() == "shelf"
    assert PASSPHRASE in box.check("cat '/var/lib/iwd/My Home.psk'")
    left = box.check("ls /boot/firmware/mmpi-setup").split()
    assert left == ["RESULT.txt", "authorized_keys", "hostname", "mmpi.toml"]
    assert box.check("ls /run/credentials/mmpi-guardian.service").split() == ["account", "guardian.key"]


def test_who_may_come_in(made: SimpleNamespace) -> None:
    """Deny by default; SSH is the one exception while it runs, and refuses passwords."""
    box: Virt = made.box
    rules = box.check("nft list ruleset")
    assert "hook input priority filter; policy drop;" in rules and rules.count("dport 22") == 1
    done = box.password_login()
    assert done.returncode != 0 and b"Permission denied (publickey)" in done.stderr


def test_a_press_stops_it_and_the_lamp_says_so(made: SimpleNamespace) -> None:
    """A true edge on the line: latched, no order left, red blinks; the arm button, held, lets it quote again."""
    box: Virt = made.box
    assert box.header.output(RED) == 0 and box.header.changes(GREEN, 2, 20) == 2
    press(box)
    assert all(each["orders"] == 0 for each in box.status()["instruments"].values())
    assert "kill_button" in box.check("cat /data/mmpi/latch.json")
    assert box.header.changes(RED, 4, 20) == 4
    release(box)
    arm(box)
    wait_state(box, "quoting")


@pytest.mark.parametrize("name", BAD)
def test_a_bad_folder_is_told_and_changes_nothing(made: SimpleNamespace, name: str) -> None:
    """The file or key is named in RESULT.txt, the box pauses with the reason, what was in force stays."""
    box: Virt = made.box
    files, word = BAD[name]
    before = box.check("readlink /data/settings")
    box.check("mount -o remount,rw /boot/firmware; cp -r /boot/firmware/mmpi-setup /tmp/kept")
    try:
        for path, text in files.items():
            box.check(f"cat >/boot/firmware/mmpi-setup/{path}", data=text.encode())
        box.run("systemctl restart mmpi-setup")
        assert word in box.check("cat /boot/firmware/mmpi-setup/RESULT.txt")
        assert not json.loads(box.check("cat /run/mmpi-box/setup.json"))["ok"]
        assert box.check("readlink /data/settings") == before
    finally:
        box.check("mount -o remount,rw /boot/firmware; rm -rf /boot/firmware/mmpi-setup; "
                  "cp -r /tmp/kept /boot/firmware/mmpi-setup; rm -rf /tmp/kept; systemctl restart mmpi-setup; "
                  "mount -o remount,ro /boot/firmware")  # fmt: skip


def test_what_quoting_writes(made: SimpleNamespace) -> None:
    """Beside the ledger's own bytes at most 1 MB in ten minutes, all that the file system writes for it included."""
    box: Virt = made.box
    # Without it, each commit of the ledger is followed by one of its file's time.
    assert "lazytime" in box.check("grep ' /data ' /proc/mounts")
    box.check("sync")
    ledger = "du -sb /data/mmpi/journal | cut -f1"
    disk, kept = box.bytes_written(), int(box.check(ledger))
    time.sleep(QUOTING_S)
    box.check("sync")
    written, grown = box.bytes_written() - disk, int(box.check(ledger)) - kept
    commits = box.status()["storage"]["commits"]
    print(f"{written} bytes in {QUOTING_S:.0f} s, the ledger grew by {grown}; {commits} commits so far")
    # The first and the last commit, and the two syncs, are there however short it is.
    assert written - grown <= MOST_WRITTEN * (QUOTING_S + 120) / 720


def test_the_secrets_are_gone(made: SimpleNamespace) -> None:
    """Not a byte of them is left anywhere on the card, after the box was shut down; neither slot nor data has them."""
    made.box.power_off()
    for secret in (PASSPHRASE, *SECRETS.values()):
        plain = secret.removeprefix("0x").encode()
        assert made.card.contains(plain) == [] and made.card.contains(plain.upper()) == []
        if len(secret) == 64:
            assert made.card.contains(bytes.fromhex(secret)) == []
    (packed,) = made.build.run("image").glob("*.img.zst")
    print(f"compressed: {packed.stat().st_size} bytes")
    assert packed.stat().st_size <= MOST_COMPRESSED
