"""The whole telemetry beside a real quoter and guardian, with a real mosquitto: it tells the truth and harms nobody."""

import json
import re
import signal
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import paho.mqtt.client as paho
import pytest
from broker_troubles import BASE, DEVICE, TROUBLES, may, pairs_of, start_telemetry
from mosquitto_box import Mosquitto, free_port
from stack import QUOTES, Process, Stack

from mmpi.telemetry.payloads import PAYLOADS

pytestmark = pytest.mark.slow

PLANTED = ("planted-mqtt-password-1", "planted-hook-token-2")


class Phone:
    """A client that hears everything of the broker, and publishes."""

    def __init__(self, port: int) -> None:
        self.heard: list[tuple[str, bytes, bool]] = []
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        self._client.on_message = lambda _, __, message: self.heard.append(
            (message.topic, bytes(message.payload), bool(message.retain))
        )
        self._client.on_connect = lambda client, *_: client.subscribe("#", 1)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def publish(self, payload: object, *, retain: bool = False, topic: str = f"{BASE}/command") -> None:
        data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        self._client.publish(topic, data, qos=1, retain=retain).wait_for_publish(5)

    def last(self, topic: str) -> Any:
        """Return the newest JSON of a topic below the box's, None before the first."""
        found = [payload for name, payload, _ in self.heard if name == f"{BASE}/{topic}"]
        return json.loads(found[-1]) if found else None

    def result(self, cmd: str, result: str) -> str:
        """Return the text of the newest such result, "" before the first."""
        told = [json.loads(payload) for name, payload, _ in self.heard if name == f"{BASE}/command/result"]
        return next((each["text"] for each in reversed(told) if (each["cmd"], each["result"]) == (cmd, result)), "")


class Home(Stack):
    """A practice box with telemetry, its broker, its page and a phone."""

    telemetry: Process
    phone: Phone
    broker: Mosquitto

    def begin_telling(self) -> None:
        """Start telemetry and the phone."""
        env = {"MMPI_MQTT__URL": f"mqtt://127.0.0.1:{self.broker.port}", "MMPI_DEVICE__ID": DEVICE}
        self.telemetry = start_telemetry(self, env)
        self.web = int(self._more["MMPI_WEB__PORT"])
        self.phone = Phone(self.broker.port)
        self.wait(lambda: self.phone.last("alerts/active"), 15, "the first words")

    def page(self, path: str) -> bytes:
        """Return what the page's server gives."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.web}{path}", timeout=5) as answer:
            return bytes(answer.read())

    def rss_mb(self) -> float:
        """Return telemetry's resident memory."""
        found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.telemetry.pid}/status").read_text())
        assert found is not None
        return int(found[1]) / 1000


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """Give a box that quotes and tells."""
    with Mosquitto(tmp_path / "broker") as broker, Home(tmp_path / "box", latency_ms=20) as box:
        box.broker = broker
        box.start()
        box.begin_telling()
        yield box
        box.phone.close()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> None:
    """Make the box's folder."""
    (tmp_path / "box").mkdir()


def command(cmd: str, **changes: Any) -> dict[str, Any]:
    """Return a command that passes."""
    return {"cmd": cmd, "id": str(time.time_ns()), "issued_at": time.time(), "ttl_s": 20, "by": "ann", **changes}


def test_everything_is_told_by_its_schema(home: Home) -> None:
    """Each topic's payload can be read by its type; sequences grow; fills come with their markouts; it is fresh."""
    home.wait(lambda: home.phone.last("fills"), 60, "a fill")
    home.wait(lambda: len({each["sequence"] for each in statuses(home)}) >= 3, 10, "three statuses")
    for topic in ("status", "pnl", "orders", "host", "fills", "alerts/active"):
        payload = next(data for name, data, _ in home.phone.heard if name == f"{BASE}/{topic}")
        told = msgspec.json.decode(payload, type=PAYLOADS[topic])
        assert told.age_s is None or 0 <= told.age_s < 5, (topic, told)
    told = statuses(home)
    assert [each["sequence"] for each in told] == sorted({each["sequence"] for each in told})
    assert (told[-1]["state"], told[-1]["latch"], told[-1]["sign"]) == ("quoting", "armed", "practice")
    assert len(home.phone.last("orders")["live"]) >= QUOTES // 2
    assert (f"{BASE}/availability", b"online") in [(name, data) for name, data, _ in home.phone.heard]
    discovery = [data for name, data, _ in home.phone.heard if name == f"homeassistant/device/{DEVICE}/config"]
    assert json.loads(discovery[0])["dev"]
    page = json.loads(home.page("/status.json"))
    assert page["box"]["state"] == "quoting" and b"mmpi_quoting 1.0" in home.page("/metrics")


def statuses(home: Home) -> list[dict[str, Any]]:
    return [json.loads(data) for name, data, _ in home.phone.heard if name == f"{BASE}/status"]


def test_a_kill_from_the_phone_works_with_the_quoter_frozen(home: Home) -> None:
    """The guardian does it; the phone hears that zero orders are verified, and sees the latch."""
    home.quoter.send(signal.SIGSTOP)
    home.phone.publish(b"kill")
    home.wait(lambda: home.phone.result("kill", "done"), 15, "the kill's result")
    assert "latched; zero orders verified" in home.phone.result("kill", "done")
    assert home.orders() == []
    home.wait(lambda: home.phone.last("status")["latch"] == "latched", 5, "the latch on the phone")


def test_pause_and_resume_from_the_phone(home: Home) -> None:
    """A pause pulls everything; resume lets it go on; a replay of it, and what only hands may do, are refused."""
    home.phone.publish(b"pause")
    home.wait(lambda: home.phone.result("pause", "done"), 15, "the pause")
    assert home.orders() == []
    again = command("resume")
    home.phone.publish(again)
    home.wait(lambda: home.phone.result("resume", "done"), 10, "resume")
    home.wait_quoting()
    home.phone.publish(again)
    home.wait(lambda: "used before" in home.phone.result("resume", "refused"), 5, "the replay's refusal")
    home.phone.publish(command("arm"))
    home.wait(lambda: "only hands at the box arm" in home.phone.result("arm", "refused"), 5, "arming's refusal")
    home.ask("pause")
    home.phone.publish(command("resume"))
    home.wait(lambda: "paused at the box" in home.phone.result("resume", "refused"), 5, "the refusal")


def test_flatten_from_the_phone(home: Home) -> None:
    """What is held is sold by orders that only reduce, and it stays paused."""
    home.wait(lambda: any(float(each) for each in home.venue_positions().values()), 90, "a position")
    home.phone.publish(command("flatten"))
    home.wait(lambda: home.phone.result("flatten", "done"), 60, "flat")
    assert all(float(each) == 0 for each in home.venue_positions().values()) and home.orders() == []


def test_another_configuration_is_taken_up(home: Home) -> None:
    """`mmpi check --resolve`, as each start of a service does it: the same is passed over, another one begins anew."""
    assert home.mmpi("check", "--resolve").returncode == 0
    time.sleep(2.5)
    assert home.telemetry.said().count("page at") == 1
    home._more["MMPI_ALERTS__POSITION_PERCENT"] = "33"
    assert home.mmpi("check", "--resolve").returncode == 0
    home.wait(lambda: home.telemetry.said().count("page at") == 2, 20, "a new beginning")
    assert home.telemetry.runs and home.summary()["state"] == "quoting"


def test_a_retained_kill_is_refused_and_told(tmp_path: Path) -> None:
    """It waits at the broker for whoever comes; the box does not obey, and says why."""
    with Mosquitto(tmp_path / "broker") as broker, Home(tmp_path / "box", latency_ms=20) as box:
        box.broker = broker
        first = Phone(broker.port)
        first.publish(b"kill", retain=True)
        first.close()
        box.start()
        box.begin_telling()
        box.wait(lambda: "retained" in box.phone.result("kill", "refused"), 10, "the refusal")
        assert box.status()["latch"] == "armed" and box.summary()["state"] == "quoting"
        box.phone.close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_without_telemetry_nothing_changes(home: Home, number: int) -> None:
    """Dead or frozen: quoting goes on, the red button works, and the phone is told by the broker that it is gone."""
    placed = home.summary()["orders"]["placed"]
    home.telemetry.send(number)
    if number == signal.SIGKILL:
        home.wait(lambda: home.phone.heard[-1][:2] == (f"{BASE}/availability", b"offline"), 10, "the will")
    home.wait(lambda: home.summary()["orders"]["placed"] > placed, 20, "more orders")
    assert home.status()["causes"] == []
    assert home.press().answer["verified"]
    assert home.orders() == []


def test_a_silent_quoter_is_an_alert(home: Home) -> None:
    """It hangs: an alert fires on the phone once, and is over when it goes on."""
    home.quoter.send(signal.SIGSTOP)
    home.wait(lambda: active(home, "quoter_silent"), 20, "the alert")
    home.quoter.send(signal.SIGCONT)
    home.wait(lambda: not active(home, "quoter_silent"), 30, "its end")
    told = [json.loads(data) for name, data, _ in home.phone.heard if name == f"{BASE}/alerts"]
    assert [each["state"] for each in told if each["name"] == "quoter_silent"] == ["firing", "resolved"]


def active(home: Home, name: str) -> bool:
    return any(each["name"] == name for each in home.phone.last("alerts/active")["active"])


def test_a_flood_of_commands(home: Home) -> None:
    """Ten thousand in one go: counted, answered a few times, and a kill among them is obeyed at once."""
    link = socket.create_connection(("127.0.0.1", home.broker.port))
    link.close()
    ended = threading.Event()

    def flood() -> None:
        for number in range(10_000):
            if ended.is_set():
                return
            home.phone._client.publish(f"{BASE}/command", json.dumps(command("status", id=str(number))), qos=0)

    flooding = threading.Thread(target=flood)
    flooding.start()
    try:
        time.sleep(0.3)
        began = time.monotonic()
        home.phone.publish(b"kill")
        home.wait(lambda: home.status()["latch"] == "latched", 5, "the latch")
        assert time.monotonic() - began < 5
    finally:
        ended.set()
        flooding.join()
    home.wait(lambda: home.phone.last("status")["counters"].get("commands", 0) > 1, 10, "the counts")
    assert home.telemetry.runs and home.rss_mb() < 60


@pytest.mark.parametrize("payload", [b"\xff" * 100, b"{" * 5000, b"x" * 100_000, b'{"cmd":"kill"', b"[" * 50_000])
def test_what_is_no_command_harms_nobody(home: Home, payload: bytes) -> None:
    """Nonsense, too long or cut: nothing is stopped, and the next kill is heard."""
    home.phone.publish(payload)
    time.sleep(0.5)
    assert home.status()["latch"] == "armed" and home.telemetry.runs
    home.phone.publish(b"kill")
    home.wait(lambda: home.phone.result("kill", "done"), 20, "the kill")


def test_secrets_are_in_nothing_that_is_told(tmp_path: Path) -> None:
    """Keys of the venue, passwords and tokens: not in any topic, page, metric, log or file of the runtime folder."""
    with Mosquitto(tmp_path / "broker") as broker, Home(tmp_path / "box", latency_ms=20) as box:
        box.broker = broker
        for name, secret in zip(("mqtt.password", "webhook.token"), PLANTED, strict=True):
            (box.secrets / name).write_text(secret)
            (box.secrets / name).chmod(0o600)
        box._more |= {"MMPI_MQTT__URL": f"mqtt://127.0.0.1:{broker.port}", "MMPI_MQTT__USERNAME": "box",
                      "MMPI_ALERTS__WEBHOOK_URL": f"http://127.0.0.1:{free_port()}/x"}  # fmt: skip
        box.start()
        box.begin_telling()
        box.phone.publish(command("resume", by=PLANTED[0][:8]))
        box.phone.publish(b"kill")
        box.wait(lambda: box.phone.result("kill", "done"), 20, "the kill")
        box.wait(lambda: active(box, "kill"), 20, "the alert")
        keys = [(box.secrets / name).read_text().strip() for name in ("quoter.key", "guardian.key")]
        told = [name.encode() + data for name, data, _ in box.phone.heard]
        told += [box.page(path) for path in ("/", "/page.js", "/status.json", "/metrics")]
        told += [process.log.read_bytes() for process in (box.telemetry, box.guardian, box.quoter)]
        told += [path.read_bytes() for path in box.runtime.iterdir() if path.is_file()]
        for secret in (*PLANTED, *keys):
            for form in {secret, secret.removeprefix("0x"), secret.removeprefix("0x").upper()}:
                assert not any(form.encode() in each for each in told), form[:8]
        box.phone.close()


def test_memory(home: Home) -> None:
    """With the page at most 60 MB, without at most 45."""
    for _ in range(20):
        home.page("/"), home.page("/metrics"), home.page("/status.json")
    with_page = home.rss_mb()
    home.telemetry.child.terminate()
    home.telemetry.wait(10)
    home._more["MMPI_WEB__PORT"] = "0"
    home.telemetry = home.begin("telemetry", "telemetry")
    home.wait(lambda: len(statuses(home)) > 5, 20, "statuses")
    time.sleep(3)
    print(f"\ntelemetry: {with_page:.1f} MB with the page, {home.rss_mb():.1f} MB without")
    assert with_page <= 60 and home.rss_mb() <= 45


def test_the_boxs_own_broker(tmp_path: Path) -> None:
    """`mmpi broker` writes it, mosquitto runs it: the box tells through it, and its owner alone may kill."""
    port = free_port()
    with Home(tmp_path / "box", latency_ms=20) as box:
        for name, secret in (("mqtt.password", "the-boxs"), ("broker.users", "alice:hers display:its")):
            (box.secrets / name).write_text(secret)
            (box.secrets / name).chmod(0o600)
        box._more |= {
            "MMPI_MQTT__URL": f"mqtt://127.0.0.1:{port}", "MMPI_MQTT__USERNAME": "box", "MMPI_DEVICE__ID": DEVICE,
            "MMPI_BROKER__ENABLED": "true", "MMPI_BROKER__PORT": str(port), "MMPI_BROKER__OWNERS": "alice",
            "MMPI_BROKER__READERS": "display",
        }  # fmt: skip
        box.start_server()
        done = box.mmpi("broker", "--folder", str(tmp_path / "broker"))
        assert done.returncode == 0, done.stderr
        lines = (tmp_path / "broker" / "mosquitto.conf").read_text().splitlines()
        with Mosquitto(tmp_path / "run", lines) as broker:
            box.start_guardian()
            box.arm()
            box.start_quoter()
            box.wait_quoting()
            start_telemetry(box, {})
            heard: dict[str, bytes] = {}
            for name, password in (("display", "its"), ("alice", "wrong"), ("alice", "hers")):
                client = paho.Client(paho.CallbackAPIVersion.VERSION2)
                client.username_pw_set(name, password)
                client.on_message = lambda _, __, message: heard.update({message.topic: bytes(message.payload)})
                client.on_connect = lambda client, *_: client.subscribe("#", 1)
                client.connect("127.0.0.1", broker.port)
                client.loop_start()
                if password == "its":
                    box.wait(lambda: f"{BASE}/status" in heard, 20, "a status at the display")
                # A reader may not, and neither may one whose password is wrong.
                client.publish(f"{BASE}/command", b"kill", qos=1)
                time.sleep(1.0)
                assert (box.status()["latch"] == "latched") is (password == "hers")
                client.disconnect()
                client.loop_stop()
            assert "not authorised" in broker.log


RIGHT_AFTER = ("killed", "frozen", "black_hole", "slow", "full_disk", "restarted")


@pytest.mark.parametrize("name", [each for each in TROUBLES if each != "none"])
def test_a_broker_in_trouble(tmp_path: Path, name: str) -> None:
    """The quoter goes on undelayed, within what two short windows can tell; afterwards all that is retained is right.

    `python -m tests.broker_troubles` measures it in five pairs of longer windows (docs/phone.md has the figures).
    """
    if why := may(name):
        pytest.skip(why)
    with Stack(tmp_path / "box", latency_ms=5) as box, TROUBLES[name](tmp_path / "trouble") as trouble:
        box.start()
        (pair,) = pairs_of(box, trouble, 1, 4.0)
        print(f"\n{name}: loop lateness p99.9 {pair.off_us:.0f} us without, {pair.on_us:.0f} us with telemetry")
        assert pair.on_us < 250_000
        assert box.summary()["state"] == "quoting" and box.summary()["invariant_violations"] == 0
        if name in RIGHT_AFTER and trouble.broker is not None:
            well = {"MMPI_MQTT__URL": f"mqtt://{trouble.broker.host}:{trouble.broker.port}"}
            right_after(box, trouble.env | well, trouble.broker)


def right_after(box: Stack, env: dict[str, str], broker: Mosquitto) -> None:
    """Assert that a broker that is well again has everything, with the counts of what was dropped."""
    process = start_telemetry(box, env)
    seen: dict[str, bytes] = {}
    client = paho.Client(paho.CallbackAPIVersion.VERSION2)
    client.on_message = lambda _, __, message: seen.update({message.topic: bytes(message.payload)})
    client.on_connect = lambda client, *_: client.subscribe("#", 1)
    client.connect(broker.host, broker.port)
    client.loop_start()
    wanted = {f"{BASE}/status", f"{BASE}/availability", f"homeassistant/device/{DEVICE}/config"}
    waiting: Callable[[], bool] = lambda: wanted <= set(seen) and seen[f"{BASE}/availability"] == b"online"  # noqa: E731
    try:
        box.wait(waiting, 60, "everything that is retained")
        box.wait(lambda: "mqtt_dropped" in json.loads(seen[f"{BASE}/status"])["counters"], 30, "the counts")
        assert json.loads(seen[f"{BASE}/status"])["state"] == "quoting"
        assert json.loads(seen[f"homeassistant/device/{DEVICE}/config"])["cmps"]
    finally:
        client.disconnect()
        client.loop_stop()
        process.child.terminate()
        process.wait(10)
