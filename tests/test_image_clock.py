"""The image with its clock at the build date, live at a venue that knows better, and a factory reset after it.

The venue is the practice server of this host, over TLS: the only thing that the machine's network leads to.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from image_box import arm, flashed, good, press, release, secrets_env, settle, wait_state

from hil.rigs.clock import set_clock, stop_keeping
from hil.rigs.virt import ARM, KILL, PINS, SECOND, SERVER, Virt
from image.lock import load
from mmpi.practice.hyperliquid.tls import server_context
from mmpi.practice.keys import make_keys

pytestmark = pytest.mark.image

PORT = 8443
LIVE = f"""
[venue]
name = "hyperliquid"
mode = "live"
url = "https://127.0.0.1:{PORT}"
network = "testnet"
ca_file = "/run/authority.pem"

[instruments.BTC]
quoter = "layered"

[instruments.BTC.layered]
levels = 1
spread_percent = 0.1
notional = 40
update_interval_s = 5

[risk]
capital = 10000
max_order = 200
max_position = 1000
max_instrument = 2000
max_total = 4000
session_loss = 200
max_drawdown = 200
"""
IDENTITY = "cat /etc/machine-id; cut -d' ' -f2 /data/ssh/ssh_host_ed25519_key.pub"


@contextmanager
def venue(folder: Path) -> Iterator[SimpleNamespace]:
    """Give a practice server over TLS: its port, its authority's file, and the secrets of an account there.

    Its certificate is valid since the day on which the image was made: like a real venue's, it is older than the clock
    of the box.
    """
    keys = folder / "keys"
    account = make_keys(keys, folder / "registry.json").account
    tls = folder / "tls"
    server_context(tls, datetime.fromtimestamp(load().epoch, UTC))
    words = ("practice", "hyperliquid", "--port", "0", "--tls", "--tls-dir", str(tls), "--secrets", str(keys))
    command = [sys.executable, "-m", "mmpi", *words, "--weight", "0", "--budget", "0"]
    env = os.environ | {"XDG_STATE_HOME": str(folder), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env) as server:
        try:
            assert server.stdout is not None
            port = 0
            while not port:
                line = server.stdout.readline()
                assert line, "the practice server ended"
                port = int(found[1]) if (found := re.search(r"https://127\.0\.0\.1:(\d+)", line)) else 0
            secrets = {"ACCOUNT": account}
            for name in ("quoter", "guardian"):
                secrets[f"{name.upper()}_KEY"] = (keys / f"{name}.key").read_text().strip()
            yield SimpleNamespace(port=port, authority=(tls / "ca.pem").read_bytes(), secrets=secrets)
        finally:
            server.kill()


@pytest.fixture(scope="module")
def stuck(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """Give a machine whose clock begins at the year 2000, and a venue that it can reach."""
    folder = tmp_path_factory.mktemp("clock")
    with flashed(folder) as found, ExitStack() as stack:
        found.venue = stack.enter_context(venue(folder))
        where = {"clock": "2000-01-01T00:00:00", "server": found.venue.port}
        found.box = stack.enter_context(Virt(found.build, found.card, folder, key=found.key, **where))
        found.box.wait_up()
        settle(found.box)
        yield found


def go_live(box: Virt, there: SimpleNamespace) -> None:
    """Put a live configuration into the set-up folder, and have it taken up."""
    box.check("cat >/run/authority.pem; chmod 644 /run/authority.pem", data=there.authority)
    relay = f"/usr/lib/systemd/systemd-socket-proxyd {SERVER[0]}:{SERVER[1]}"
    box.check(f"systemd-run -q --unit way --socket-property=ListenStream=127.0.0.1:{PORT} {relay}")
    box.check("mount -o remount,rw /boot/firmware")
    box.check("cat >/boot/firmware/mmpi-setup/mmpi.toml", data=(PINS + LIVE).encode())
    box.check("cat >/boot/firmware/mmpi-setup/secrets.env", data=secrets_env(there.secrets))
    box.check("mount -o remount,ro /boot/firmware; systemctl restart mmpi-setup; cat /run/mmpi-box/setup.json")
    box.check("systemctl restart mmpi-guardian mmpi-quoter", timeout_s=300)


def test_with_the_build_date_trading_waits_and_the_button_works(stuck: SimpleNamespace) -> None:
    """The clock is the image's own date; nothing is placed and the status says why; a press latches all the same."""
    box: Virt = stuck.box
    now = int(box.check("date +%s"))
    assert load().epoch <= now < load().epoch + 3600 and load().epoch < time.time()
    go_live(box, stuck.venue)
    arm(box)
    end = time.monotonic() + 240
    while not str(box.status()["reason"]).startswith("clock: "):
        assert time.monotonic() < end, box.check("mmpi status; journalctl -b -u 'mmpi-*' -o cat --no-pager | tail -40")
        time.sleep(3)
    print(box.check("mmpi status"))
    time.sleep(10)
    status = box.status()
    assert status["state"] != "quoting" and all(each["orders"] == 0 for each in status["instruments"].values())
    assert status["guardian"]["venue_session"], "the guardian reaches the venue all the same"
    press(box)
    assert "kill_button" in box.check("cat /data/mmpi/latch.json")


def test_once_the_clock_is_right_it_trades(stuck: SimpleNamespace) -> None:
    """The time, and the kernel's word that somebody keeps it, were all that was missing."""
    box: Virt = stuck.box
    release(box)
    stop_keeping(box)
    set_clock(box, 0.0)
    arm(box)
    wait_state(box, "quoting", 240)
    stuck.identity = box.check(IDENTITY)
    box.power_off()


def test_both_buttons_at_power_on_reset_it(stuck: SimpleNamespace) -> None:
    """Settings, secrets, latch, journal and SSH's own key are gone; the box starts anew with what is on the card.

    Its new name is in force from the next start on (docs/setup.md).
    """
    stuck.card.put(good(stuck.key) | {"hostname": b"fresh\n"})
    held = {KILL: 1, SECOND: 0, ARM: 0}
    with Virt(stuck.build, stuck.card, stuck.folder, key=stuck.key, levels=held) as box:
        box.wait_serial("U-Boot", 120)
        box.wait_serial("U-Boot", 400)
        release(box)
        box.header.drive(ARM, 1)
        box.wait_up()
        settle(box)
        assert box.check("hostname; cat /data/settings/hostname").split() == ["mmpi", "fresh"]
        boot = json.loads(box.check("cat /data/mmpi/boot.json"))
        assert boot["before"]["ended"] == "first", boot
        assert not set(box.check(IDENTITY).split()) & set(stuck.identity.split())
        assert "live" not in box.check("cat /data/settings/mmpi/mmpi.toml")
        assert wait_state(box, "quoting", 240)["guardian"]
        box.power_off()
    for name, secret in stuck.venue.secrets.items():
        if name != "ACCOUNT":
            assert stuck.card.contains(bytes.fromhex(secret.removeprefix("0x"))) == []
            assert stuck.card.contains(secret.removeprefix("0x").encode()) == []
