"""telemetry.mqtt: one link, and a real mosquitto that goes, comes back, freezes, refuses and forgets."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiomqtt
import pytest
from mosquitto_box import Mosquitto

from mmpi.channels import MqttSettings
from mmpi.errors import ConfigError
from mmpi.telemetry.commands import is_kill
from mmpi.telemetry.mqtt import WAITING, Link, unasked

pytestmark = pytest.mark.slow

BASE = "mmpi/shelf"


@pytest.fixture(autouse=True)
async def quiet() -> None:
    """Have aiomqtt's own future, which nobody asks for what broke its connection, broken in silence, as the daemon."""
    asyncio.get_running_loop().set_exception_handler(unasked)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """Give a running broker that lets everybody in, and keeps what is retained."""
    with Mosquitto(tmp_path / "broker") as made:
        yield made


class Phone:
    """One link, and what came over it."""

    def __init__(self, port: int, password: str = "", url: str = "", **settings: object) -> None:
        self.came: list[tuple[str, bytes, bool]] = []
        self.counters: Counter[str] = Counter()
        told = MqttSettings(url=url or f"mqtt://127.0.0.1:{port}", keepalive_s=5.0, **settings)  # type: ignore[arg-type]
        self.link = Link(
            "mqtt", told, BASE, password, (f"{BASE}/command",), lambda *each: self.came.append(each), is_kill,
            lambda name: self.counters.update([name]),
        )  # fmt: skip

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Phone"]:
        """Have it run."""
        task = asyncio.create_task(self.link.run())
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def until(true: Callable[[], object], timeout_s: float = 20) -> None:
    """Wait until something is so."""
    end = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < end, "it did not become so"
        await asyncio.sleep(0.02)


async def retained(port: int, topic: str, timeout_s: float = 10) -> str:
    """Return what the broker keeps of a topic, "" = nothing."""
    async with aiomqtt.Client("127.0.0.1", port) as client:
        await client.subscribe(topic)
        try:
            async with asyncio.timeout(timeout_s):
                async for message in client.messages:
                    return bytes(message.payload).decode()  # type: ignore[arg-type]
        except TimeoutError:
            pass
    return ""


async def becomes(port: int, topic: str, wanted: str, timeout_s: float = 20) -> None:
    """Wait until the broker keeps that text of a topic."""
    end = time.monotonic() + timeout_s
    while (found := await retained(port, topic, 1)) != wanted:
        assert time.monotonic() < end, f"{topic}: {found!r}, not {wanted!r}"


async def test_online_and_offline_are_told(broker: Mosquitto) -> None:
    """Online once connected, offline when we end in good order, by our own word and at once."""
    async with Phone(broker.port).running() as phone:
        await until(lambda: phone.link.connected)
        await becomes(broker.port, f"{BASE}/availability", "online")
    await becomes(broker.port, f"{BASE}/availability", "offline", 3)


async def test_a_death_is_told_by_the_will(broker: Mosquitto) -> None:
    """A telemetry that is killed says nothing more; the broker does."""
    code = (
        "import asyncio, sys; from test_mqtt_live import Phone\n"
        f"asyncio.run(Phone({broker.port}).link.run())"
    )  # fmt: skip
    import sys

    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, cwd=Path(__file__).parent)
    await becomes(broker.port, f"{BASE}/availability", "online")
    process.kill()
    await process.wait()
    await becomes(broker.port, f"{BASE}/availability", "offline", 5)


async def test_a_broker_that_comes_back_gets_everything(broker: Mosquitto) -> None:
    """It was killed and has forgotten all: states are there again, events of the meantime too, commands come again."""
    async with Phone(broker.port).running() as phone:
        phone.link.outbox.state(f"{BASE}/status", b"1")
        await becomes(broker.port, f"{BASE}/status", "1")
        broker.kill()
        await until(lambda: not phone.link.connected)
        phone.link.outbox.state(f"{BASE}/status", b"2")
        phone.link.outbox.event(f"{BASE}/fills", b"f1")
        broker.start()
        async with aiomqtt.Client("127.0.0.1", broker.port) as client:
            await client.subscribe(f"{BASE}/fills")
            async with asyncio.timeout(30):
                fill = await anext(aiter(client.messages))
            assert fill.payload == b"f1"
            await becomes(broker.port, f"{BASE}/status", "2")
            await becomes(broker.port, f"{BASE}/availability", "online")
            await client.publish(f"{BASE}/command", b"kill", qos=1)
            await until(lambda: phone.came == [(f"{BASE}/command", b"kill", False)])


async def test_a_broker_that_freezes_is_left(broker: Mosquitto) -> None:
    """Its connection stays open and nothing is answered: that is noticed by the keepalive, and gone on from."""
    async with Phone(broker.port).running() as phone:
        await until(lambda: phone.link.connected)
        broker.freeze()
        began = time.monotonic()
        for number in range(400):
            phone.link.outbox.state(f"{BASE}/status", str(number).encode())
            phone.link.outbox.event(f"{BASE}/fills", b"x" * 1000)
            assert time.monotonic() - began < 5  # putting never waits
        await until(lambda: not phone.link.connected, 20)
        assert phone.link.outbox.dropped >= 400 - 256 and len(phone.link.outbox) <= 260
        broker.thaw()
        await becomes(broker.port, f"{BASE}/status", "399", 45)


async def test_a_broker_restarted_again_and_again(broker: Mosquitto) -> None:
    """Twenty-five restarts: no task is lost on the way, memory does not grow with them, and all is well in the end."""
    async with Phone(broker.port).running() as phone:
        phone.link.outbox.state(f"{BASE}/status", b"before")
        await becomes(broker.port, f"{BASE}/status", "before")
        tasks = len(asyncio.all_tasks())
        for number in range(25):
            broker.kill()
            await until(lambda: not phone.link.connected)
            broker.start()
            phone.link.outbox.state(f"{BASE}/status", str(number).encode())
            await until(lambda: phone.link.connected, 40)
        await becomes(broker.port, f"{BASE}/status", "24")
        assert phone.counters["mqtt_reconnects"] >= 25
        assert len(asyncio.all_tasks()) == tasks


async def test_a_retained_command_comes_flagged(broker: Mosquitto) -> None:
    """Whoever judges it must see that it is old."""
    async with aiomqtt.Client("127.0.0.1", broker.port) as client:
        await client.publish(f"{BASE}/command", b"kill", qos=1, retain=True)
    async with Phone(broker.port).running() as phone:
        await until(lambda: phone.came)
        assert phone.came == [(f"{BASE}/command", b"kill", True)]


async def test_a_command_that_is_retained_while_we_listen_comes_flagged(broker: Mosquitto) -> None:
    """MQTT 5 only: an older protocol hides it from whoever is connected already."""
    async with Phone(broker.port).running() as phone:
        await until(lambda: phone.link.connected)
        await becomes(broker.port, f"{BASE}/availability", "online")
        async with aiomqtt.Client("127.0.0.1", broker.port) as client:
            await client.publish(f"{BASE}/command", b"kill", qos=1, retain=True)
            await client.publish(f"{BASE}/command", b"pause", qos=1)
        await until(lambda: len(phone.came) == 2)
        assert phone.came == [(f"{BASE}/command", b"kill", True), (f"{BASE}/command", b"pause", False)]


async def test_a_kill_overtakes_a_flood(broker: Mosquitto) -> None:
    """Ten thousand commands at once: a bounded number waits, the rest is counted, and the kill in the middle comes."""
    phone = Phone(broker.port)
    seen: list[bytes] = []
    phone.link._take = lambda _, payload, __: (seen.append(payload), time.sleep(0.0005))[0]  # type: ignore[assignment]
    async with phone.running():
        await until(lambda: phone.link.connected)
        async with aiomqtt.Client("127.0.0.1", broker.port, max_queued_outgoing_messages=0) as client:
            text = json.dumps({"cmd": "status", "id": "x" * 30}).encode()
            for number in range(10_000):
                await client.publish(f"{BASE}/command", b"kill" if number == 5000 else text, qos=0)
        await until(lambda: b"kill" in seen)
        assert phone.link._incoming(WAITING).maxsize == WAITING


async def test_a_wrong_password_is_told_and_tried_again(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The reason is shown once, not at every try; once the broker lets us in we are in."""
    import base64
    import hashlib

    salt = b"0123456789ab"
    hashed = base64.b64encode(hashlib.pbkdf2_hmac("sha512", b"right", salt, 101)).decode()
    users = tmp_path / "users"
    users.write_text(f"box:$7$101${base64.b64encode(salt).decode()}${hashed}\n")
    users.chmod(0o700)
    with Mosquitto(tmp_path / "b", ["allow_anonymous false", f"password_file {users}"]) as broker:
        async with Phone(broker.port, "wrong", username="box").running() as phone:
            await until(lambda: phone.counters["mqtt_reconnects"] >= 3, 30)
            assert "not auth" in phone.link.error.lower() or "bad user" in phone.link.error.lower()
        assert capfd.readouterr().err.lower().count("not auth") <= 2
        async with Phone(broker.port, "right", username="box").running() as phone:
            await until(lambda: phone.link.connected)


def test_files_that_are_no_certificates_are_an_error(tmp_path: Path) -> None:
    """Before anything is begun, with the section and the file."""
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(ConfigError, match=r"\[mqtt\] .*ca\.pem: cannot be used"):
        Phone(1, url="mqtts://127.0.0.1:1", ca_file=str(tmp_path / "ca.pem"))
    with pytest.raises(ConfigError, match=r"absent\.pem: cannot be used"):
        Phone(1, url="mqtts://127.0.0.1:1", ca_file=str(tmp_path / "absent.pem"))


async def test_nobody_there_costs_nothing() -> None:
    """No broker at all: putting goes on without waiting, and the reason is known."""
    async with Phone(1).running() as phone:
        for number in range(1000):
            phone.link.outbox.event("e", str(number).encode())
        await until(lambda: phone.link.error)
        assert "refused" in phone.link.error.lower()
