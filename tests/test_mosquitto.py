"""mmpi.telemetry.mosquitto: what it renders, obeyed by the real program, that of Debian 13 and that of Debian 12."""

import base64
import hashlib
import socket
import ssl
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import paho.mqtt.client as mqtt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from mosquitto_box import SUITES, Mosquitto, ensure_mosquitto, free_port
from paho.mqtt.subscribeoptions import SubscribeOptions

from mmpi.channels import MqttSettings
from mmpi.errors import ConfigError
from mmpi.telemetry.mosquitto import ACL, CONF, PASSWORDS, TOLD, BrokerSettings, hashed, render, write

pytestmark = pytest.mark.slow

BOX = MqttSettings(url="mqtt://127.0.0.1", username="box")
USERS = {"box": "b0x's own", "alice": "Alice's phrase # 1", "bob": "bob:bob"}
BASE = "mmpi/shelf"
PATIENCE_S = 10.0
BRIDGE_S = 60.0
"""A bridge that found nobody tries again after 5 to 15 s."""
WITNESS = "witness"
"""A user of the tests alone, who may do everything."""


def settings(at: Path, **changes: Any) -> BrokerSettings:
    """Return settings of a broker for the box, for alice who commands, and for bob who looks."""
    usual = BrokerSettings(folder=str(at), port=free_port(), owners=("alice",), readers=("bob",))
    return msgspec.structs.replace(usual, **changes)


@contextmanager
def running(broker: BrokerSettings, program: Path | None = None, bridge_password: str = "") -> Iterator[Mosquitto]:
    """Run the rendered broker, with the witness as one user more."""
    folder = Path(broker.folder)
    write(folder, render(broker, "shelf", BOX, USERS, bridge_password))
    for name, line in (
        (PASSWORDS, f"{WITNESS}:{hashed('w', iterations=101)}\nnobody:{hashed('n', iterations=101)}"),
        (ACL, f"user {WITNESS}\ntopic readwrite #"),
    ):
        with (folder / name).open("a") as file:
            file.write(line + "\n")
    lines = (folder / CONF).read_text("utf-8").splitlines()
    with Mosquitto(folder / "run", lines, program) as mosquitto:
        yield mosquitto


class Guest:
    """A client; what it hears is in `heard`, in order."""

    def __init__(
        self, port: int, user: str = "", password: str = "", *,
        tls: ssl.SSLContext | None = None, transport: Any = "tcp", version: Any = mqtt.MQTTv5, id: str = "",
    ) -> None:  # fmt: skip
        """Connect; ConnectionRefusedError with the broker's reason, or ConnectionError, if it does not let us."""
        self.heard: list[tuple[str, bytes, bool]] = []
        self._changed = threading.Condition()
        self._answers: dict[str, Any] = {}
        self.client = client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2, client_id=id, transport=transport, protocol=version
        )
        client.username_pw_set(user or None, password or None)
        if tls is not None:
            client.tls_set_context(tls)
        client.on_connect = lambda _c, _u, _f, reason, _p: self._answer("connect", reason)
        client.on_disconnect = lambda *_: self._answer("gone", True)
        client.on_subscribe = lambda _c, _u, mid, reasons, _p: self._answer(f"suback {mid}", reasons)
        client.on_message = self._hear
        try:
            client.connect("127.0.0.1", port, keepalive=60)
            client.loop_start()
            reason = self.answer("connect", "gone")
            if reason is True or reason.is_failure:
                raise ConnectionRefusedError("hung up" if reason is True else str(reason))
        except BaseException:
            self.close()
            raise

    def _answer(self, name: str, value: Any) -> None:
        with self._changed:
            self._answers.setdefault(name, value)
            self._changed.notify_all()

    def _hear(self, _client: Any, _data: Any, message: mqtt.MQTTMessage) -> None:
        with self._changed:
            self.heard.append((message.topic, message.payload, message.retain))
            self._changed.notify_all()

    def answer(self, *names: str) -> Any:
        """Return the first answer of these that comes."""
        with self._changed:
            found = self._changed.wait_for(lambda: [each for each in names if each in self._answers], PATIENCE_S)
            assert found, f"no {names} in time; there is {self._answers}"
            return self._answers[found[0]]

    def until(self, holds: Callable[[], Any], seconds: float = PATIENCE_S) -> None:
        """Return once something holds of what was heard."""
        with self._changed:
            assert self._changed.wait_for(holds, seconds), self.heard

    def subscribe(self, topic: str, **options: Any) -> None:
        """Subscribe, and return once the broker has answered; what it had sent before has been heard then."""
        _, mid = self.client.subscribe(topic, options=SubscribeOptions(qos=1, **options))
        assert mid is not None
        self.answer(f"suback {mid}")

    def say(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish, and return once the broker has taken it, or has passed over it."""
        self.client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(PATIENCE_S)

    def close(self) -> None:
        """Go."""
        self.client.disconnect()
        self.client.loop_stop()
        if (open_socket := self.client.socket()) is not None:
            open_socket.close()
        # The client closes its own pair of sockets when it is freed, in order only if it is in no circle with us.
        self.client.on_connect = self.client.on_disconnect = self.client.on_subscribe = self.client.on_message = None


@contextmanager
def guest(port: int, user: str = "", password: str = "", **more: Any) -> Iterator[Guest]:
    """Be a client for as long as the block lasts."""
    client = Guest(port, user, password or {**USERS, WITNESS: "w", "nobody": "n"}.get(user, ""), **more)
    try:
        yield client
    finally:
        client.close()


def rss_mb(mosquitto: Mosquitto) -> float:
    """Return the broker's memory, 10^6 bytes."""
    pages = int(Path(f"/proc/{mosquitto.pid}/statm").read_text("ascii").split()[1])
    return pages * 4096 / 1e6


@pytest.fixture(params=SUITES)
def program(request: pytest.FixtureRequest) -> Path:
    """Give the program of each Debian."""
    return ensure_mosquitto(request.param)


# Who comes in ---------------------------------------------------------------------------------------------------------


def test_the_program_takes_every_line(tmp_path: Path, program: Path) -> None:
    """Both versions start with all that can be set, websockets, TLS, revocation and bridge, without a complaint."""
    ca = Authority(tmp_path)
    server = ca.issue("server")
    broker = settings(
        tmp_path / "b", tls_port=free_port(), websocket_port=free_port(), address="127.0.0.1", client_certificates=True,
        cert_file=server.certificate, key_file=server.key, ca_file=ca.file, crl_file=ca.crl(),
        bridge_address="localhost", bridge_port=free_port(), bridge_username="far", bridge_commands=True,
    )  # fmt: skip
    with running(broker, program, "far away") as mosquitto:
        for port in (broker.port, broker.tls_port, broker.websocket_port):
            with socket.create_connection(("127.0.0.1", port), 5):
                pass
        # Nobody is at the other end of the bridge, which each version says in its own words.
        said = [line for line in mosquitto.log.splitlines() if "creating bridge" not in line and "refused" not in line]
        for word in ("Error:", "Unknown", "deprecated", "Unable to load"):
            assert not any(word in line for line in said), mosquitto.log


def test_nobody_comes_in_without_a_name_and_its_password(tmp_path: Path, program: Path) -> None:
    """Anonymous, a wrong password, an unknown name and an empty password are refused; each right one is let in."""
    with running(settings(tmp_path), program) as mosquitto:
        for user, password in (("", ""), ("alice", "wrong"), ("mallory", "x"), ("box", USERS["alice"]), ("alice", "")):
            with pytest.raises(ConnectionRefusedError, match=r"Not authorized|Bad user name|hung up"):
                Guest(mosquitto.port, user, password).close()
        for user in USERS:
            with guest(mosquitto.port, user):
                pass


def test_passwords_are_the_programs_own_format() -> None:
    """$7$iterations$salt$hash, with the parts that PBKDF2 gives by the standard library, and a new salt each time."""
    kind, iterations, salt, digest = hashed("Ünlucky $7$").split("$")[1:]
    assert (kind, iterations) == ("7", "10000")
    again = hashlib.pbkdf2_hmac("sha512", "Ünlucky $7$".encode(), base64.b64decode(salt), 10_000, 64)
    assert base64.b64decode(digest) == again
    assert hashed("a") != hashed("a")


# Who may do what ------------------------------------------------------------------------------------------------------

STATUS, COMMAND, ACTIVE = f"{BASE}/status", f"{BASE}/command", f"{BASE}/alerts/active"
DISCOVERY, BIRTH, OTHERS_DISCOVERY = (
    "homeassistant/device/shelf/config", "homeassistant/status", "homeassistant/device/other/config",
)  # fmt: skip
FOREIGN = ("mmpi/other/status", "mmpi/other/command", "mmpi/shelf2/status", "mmpi", "anything")
EVERY = (STATUS, COMMAND, ACTIVE, DISCOVERY, BIRTH, OTHERS_DISCOVERY, *FOREIGN)
SEEN = {STATUS, COMMAND, ACTIVE, DISCOVERY, BIRTH, OTHERS_DISCOVERY}
RIGHTS = {
    "box": ({COMMAND, BIRTH}, {STATUS, COMMAND, ACTIVE, DISCOVERY}),
    "alice": (SEEN, {COMMAND, BIRTH}),
    "bob": (SEEN, set()),
    "nobody": (set(), set()),
}
"""Identity -> (what it hears, what it can say), of EVERY."""


@pytest.mark.parametrize("name", RIGHTS)
def test_everyone_hears_and_says_what_they_may_and_nothing_else(tmp_path: Path, name: str, program: Path) -> None:
    """Each identity with each topic, to hear and to say: the broker lets pass what RIGHTS has, and nothing more."""
    hears, says = RIGHTS[name]
    with (
        running(settings(tmp_path), program) as mosquitto,
        guest(mosquitto.port, WITNESS) as witness,
        guest(mosquitto.port, name) as one,
    ):
        one.subscribe("#")
        for topic in EVERY:
            witness.say(topic, b"from the witness")
        one.subscribe("an/end")
        assert {topic for topic, _, _ in one.heard} == hears
        witness.subscribe("#")
        for topic in EVERY:
            one.say(topic, b"from the one")
        witness.subscribe("an/end")
        assert {topic for topic, payload, _ in witness.heard if payload == b"from the one"} == says


def test_a_retained_command_is_known_by_its_flag(tmp_path: Path, program: Path) -> None:
    """The broker tells that a command was retained: to who comes later always, to who is there if that is asked for."""
    with (
        running(settings(tmp_path), program) as mosquitto,
        guest(mosquitto.port, "alice") as alice,
        guest(mosquitto.port, "box") as box,
    ):
        box.subscribe(COMMAND, retainAsPublished=True)
        alice.say(COMMAND, b"kill", retain=True)
        box.until(lambda: box.heard)
        assert box.heard == [(COMMAND, b"kill", True)]
        with guest(mosquitto.port, "box", version=mqtt.MQTTv311) as later:
            later.client.subscribe(COMMAND, 1)
            later.until(lambda: later.heard)
            assert later.heard == [(COMMAND, b"kill", True)]


# Other listeners ------------------------------------------------------------------------------------------------------


def test_websockets_ask_for_a_password_too(tmp_path: Path, program: Path) -> None:
    """A page's client comes in by its password, hears what it may, and is refused without it."""
    broker = settings(tmp_path, websocket_port=free_port())
    with running(broker, program) as mosquitto, guest(mosquitto.port, "box") as box:
        with guest(broker.websocket_port, "bob", transport="websockets") as page:
            page.subscribe(STATUS)
            box.say(STATUS, b"{}")
            page.until(lambda: page.heard)
            assert page.heard == [(STATUS, b"{}", False)]
        with pytest.raises(ConnectionRefusedError):
            Guest(broker.websocket_port, "bob", "wrong", transport="websockets").close()


class Issued(NamedTuple):
    """Where a certificate and its key are."""

    certificate: str
    key: str


class Authority:
    """A certificate authority of the test's own."""

    def __init__(self, folder: Path, name: str = "house") -> None:
        self._folder, self._name = folder / f"ca-{name}", x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._folder.mkdir(parents=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.file = str(self._folder / "ca.pem")
        made = self._builder(self._name, self._key.public_key(), True).sign(self._key, SHA256())
        Path(self.file).write_bytes(made.public_bytes(Encoding.PEM))
        self._serials: dict[str, int] = {}

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey, is_ca: bool) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder(
            self._name, subject, key, x509.random_serial_number(), now - timedelta(days=1), now + timedelta(days=9)
        )
        return builder.add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)

    def issue(self, name: str) -> Issued:
        """Return a certificate for a common name, and for this machine."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        places = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
        builder = self._builder(subject, key.public_key(), False)
        builder = builder.add_extension(x509.SubjectAlternativeName(places), critical=False)
        # CPython 3.13 wants to know by which key it was signed.
        whose = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        made = builder.add_extension(whose, critical=False).sign(self._key, SHA256())
        self._serials[name] = made.serial_number
        paths = Issued(str(self._folder / f"{name}.pem"), str(self._folder / f"{name}.key"))
        Path(paths.certificate).write_bytes(made.public_bytes(Encoding.PEM))
        secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        Path(paths.key).write_bytes(secret)
        return paths

    def crl(self, *names: str) -> str:
        """Return the list of certificates that are not valid any more."""
        now = datetime.now(UTC)
        builder = x509.CertificateRevocationListBuilder(self._name, now, now + timedelta(days=1))
        for name in names:
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder(self._serials[name], now).build()
            )
        path = self._folder / "crl.pem"
        path.write_bytes(builder.sign(self._key, SHA256()).public_bytes(Encoding.PEM))
        return str(path)

    def context(self, issued: Issued | None = None) -> ssl.SSLContext:
        """Return a client's side of TLS, which trusts this authority."""
        context = ssl.create_default_context(cafile=self.file)
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # as telemetry: a house's authority says less than RFC 5280
        if issued is not None:
            context.load_cert_chain(*issued)
        return context


def test_tls_with_passwords(tmp_path: Path, program: Path) -> None:
    """Without client certificates TLS asks for the password, and the server's certificate is checked by the client."""
    ca, stranger = Authority(tmp_path), Authority(tmp_path, "stranger")
    server = ca.issue("server")
    broker = settings(tmp_path / "b", tls_port=free_port(), cert_file=server.certificate, key_file=server.key)
    with running(broker, program):
        with guest(broker.tls_port, "alice", tls=ca.context()) as alice:
            alice.say(COMMAND, b"pause")
        with pytest.raises(ConnectionRefusedError):
            Guest(broker.tls_port, "alice", "wrong", tls=ca.context()).close()
        with (
            socket.create_connection(("127.0.0.1", broker.tls_port), PATIENCE_S) as plain,
            pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"),
        ):
            stranger.context().wrap_socket(plain, server_hostname="127.0.0.1")


def test_a_client_certificate_is_its_owners_name(tmp_path: Path, program: Path) -> None:
    """The common name is who it is; no certificate, a stranger's, a revoked one or none with rights gets nothing."""
    ca, stranger = Authority(tmp_path), Authority(tmp_path, "stranger")
    server, phone, tablet, guest_key = (ca.issue(name) for name in ("server", "alice", "old-tablet", "visitor"))
    broker = settings(
        tmp_path / "b", tls_port=free_port(), cert_file=server.certificate, key_file=server.key, ca_file=ca.file,
        client_certificates=True, crl_file=ca.crl("old-tablet"), owners=("alice", "old-tablet"),
    )  # fmt: skip
    with running(broker, program) as mosquitto, guest(mosquitto.port, "box") as box:
        box.subscribe(COMMAND)
        # The name that a client gives beside its certificate does not count.
        with guest(broker.tls_port, "box", "x", tls=ca.context(phone)) as alice:
            alice.say(COMMAND, b"kill")
            box.until(lambda: box.heard)
            assert box.heard == [(COMMAND, b"kill", False)]
            alice.say(STATUS, b"made up")
        with guest(broker.tls_port, tls=ca.context(guest_key)) as visitor:
            visitor.subscribe("#")
            visitor.say(COMMAND, b"arm")
            box.say(STATUS, b"{}", retain=True)
            visitor.subscribe("an/end")
            assert visitor.heard == []
        box.subscribe("an/end")
        assert len(box.heard) == 1
        for context in (ca.context(), ca.context(tablet), _foreign(ca, stranger)):
            with pytest.raises((ConnectionError, ssl.SSLError, AssertionError)):
                Guest(broker.tls_port, "alice", USERS["alice"], tls=context).close()


def _foreign(ca: Authority, stranger: Authority) -> ssl.SSLContext:
    """Return the side of a client who trusts us, with a certificate of somebody else's that says alice."""
    context = ca.context()
    context.load_cert_chain(*stranger.issue("alice"))
    return context


def test_a_bridge_carries_words_out_and_commands_in(tmp_path: Path, program: Path) -> None:
    """The far broker hears what the box says, retained where it was, and its commands come in; nothing else does."""
    far_port, ca = free_port(), Authority(tmp_path)
    server = ca.issue("far")
    far_lines = [
        f"listener {far_port} 127.0.0.1", "allow_anonymous false", f"password_file {tmp_path}/far-passwords",
        f"certfile {server.certificate}", f"keyfile {server.key}",
    ]  # fmt: skip
    people = {"far": "the bridge's # one", "phone": "p"}
    lines = "".join(f"{name}:{hashed(password, iterations=101)}\n" for name, password in people.items())
    (tmp_path / "far-passwords").write_text(lines)
    broker = settings(
        tmp_path / "b", bridge_address="localhost", bridge_port=far_port, bridge_ca_file=ca.file,
        bridge_username="far", bridge_commands=True,
    )  # fmt: skip
    with (
        Mosquitto(tmp_path / "far", far_lines),
        running(broker, program, people["far"]) as near,
        guest(near.port, "box") as box,
        guest(near.port, WITNESS) as witness,
        guest(far_port, "phone", "p", tls=ca.context()) as phone,
    ):
        phone.subscribe("#", retainAsPublished=True)
        phone.until(lambda: (f"{BASE}/bridge", b"1", True) in phone.heard)
        for topic in TOLD:
            box.say(f"{BASE}/{topic}", b"told", retain=topic != "fills")
        box.say(DISCOVERY, b"{}", retain=True)
        told = {(f"{BASE}/{topic}", b"told", topic != "fills") for topic in TOLD} | {(DISCOVERY, b"{}", True)}
        phone.until(lambda: told <= set(phone.heard))
        box.subscribe(COMMAND)
        witness.subscribe("#")
        for topic in (STATUS, DISCOVERY, "anything", COMMAND):
            phone.say(topic, b"from afar")
        box.until(lambda: box.heard)
        witness.subscribe("an/end")
        assert box.heard == [(COMMAND, b"from afar", False)]
        assert {topic for topic, payload, _ in witness.heard if payload == b"from afar"} == {COMMAND}


def test_a_retained_command_through_a_bridge_is_known_to_who_asks(tmp_path: Path, program: Path) -> None:
    """What was retained at the far broker comes in as new; only MQTT 5's "retain as published" tells that it is not."""
    far_port = free_port()
    broker = settings(
        tmp_path / "b", bridge_address="localhost", bridge_port=far_port, bridge_tls=False, bridge_commands=True
    )
    far = Mosquitto(tmp_path / "far", [f"listener {far_port} 127.0.0.1", "allow_anonymous true"])
    with running(broker, program) as near, guest(near.port, "box") as asks, far:
        near.freeze()  # before its bridge finds the far broker, which is not ready yet
        with guest(far.port) as stranger:
            stranger.say(COMMAND, b"kill", retain=True)
        near.thaw()
        with guest(near.port, "box", version=mqtt.MQTTv311) as asks_not:
            asks.subscribe(COMMAND, retainAsPublished=True)
            _, mid = asks_not.client.subscribe(COMMAND, 1)
            asks_not.answer(f"suback {mid}")
            for each in (asks, asks_not):
                each.until(lambda each=each: each.heard, BRIDGE_S)
            assert asks.heard[0] == (COMMAND, b"kill", True)
            assert asks_not.heard[0] == (COMMAND, b"kill", False)


# Limits ---------------------------------------------------------------------------------------------------------------


class Stalled:
    """A subscriber that reads no more once it has subscribed."""

    def __init__(self, port: int, user: str, topic: str, qos: int) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.settimeout(PATIENCE_S)
        self._socket.connect(("127.0.0.1", port))
        name, password = _string(user), _string(USERS[user])
        self._send(0x10, _string("MQTT") + bytes([4, 0xC2, 0, 60]) + _string("stalled") + name + password)
        self._send(0x82, b"\0\1" + _string(topic) + bytes([qos]))
        # CONNACK has 4 bytes, SUBACK 5.
        answer = b""
        while len(answer) < 9:
            answer += self._socket.recv(9 - len(answer))
        assert answer[3] == 0 and answer[8] == qos

    def _send(self, kind: int, body: bytes) -> None:
        assert len(body) < 128
        self._socket.sendall(bytes([kind, len(body)]) + body)

    def close(self) -> None:
        """Go."""
        self._socket.close()


def _string(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(2, "big") + data


@pytest.mark.parametrize("qos", [0, 1])
def test_a_subscriber_that_does_not_read_costs_a_bounded_memory(tmp_path: Path, program: Path, qos: int) -> None:
    """10000 messages of 1 kB for one who does not read: the broker grows by less than 2 MB, and serves the others."""
    with (
        running(settings(tmp_path), program) as mosquitto,
        guest(mosquitto.port, "box") as box,
        guest(mosquitto.port, "bob") as bob,
    ):
        stalled = Stalled(mosquitto.port, "alice", STATUS, qos)
        before, payload = rss_mb(mosquitto), b"x" * 1000
        for number in range(10_000):
            told = box.client.publish(STATUS, payload, qos=qos)
            if number % 100 == 99:
                told.wait_for_publish(PATIENCE_S)
        bob.subscribe(ACTIVE)
        box.say(ACTIVE, b"still here")
        bob.until(lambda: bob.heard)
        grown = rss_mb(mosquitto) - before
        assert grown < 2, "without our limits it is 8 to 14 MB"
        stalled.close()


def test_a_packet_that_is_too_long_ends_its_senders_connection(tmp_path: Path, program: Path) -> None:
    """Who sends more than the limit is cut off, and nobody hears of it; what is shorter goes through to the others."""
    with (
        running(settings(tmp_path, max_packet_bytes=70_000), program) as mosquitto,
        guest(mosquitto.port, "bob") as bob,
        guest(mosquitto.port, "box", version=mqtt.MQTTv311) as long,
        guest(mosquitto.port, "box") as short,
    ):
        bob.subscribe(STATUS)
        long.client.reconnect_delay_set(60, 60)
        long.client.publish(STATUS, b"x" * 71_000, qos=1)
        assert long.answer("gone")
        short.say(STATUS, b"y" * 60_000)
        bob.until(lambda: bob.heard)
        assert [len(payload) for _, payload, _ in bob.heard] == [60_000]


def test_connections_are_counted(tmp_path: Path, program: Path) -> None:
    """With 3 allowed, the fifth is refused at the latest (2.0.11 counts one less), and those that are in stay in."""
    with running(settings(tmp_path, max_connections=3), program) as mosquitto, ExitStack() as stack:
        guests: list[Guest] = []
        with pytest.raises(ConnectionError):
            while len(guests) < 6:
                guests.append(stack.enter_context(guest(mosquitto.port, "bob")))
        assert len(guests) in (3, 4)
        for each in guests:
            each.subscribe(STATUS)


# Files and refusals ---------------------------------------------------------------------------------------------------


def test_the_files_are_for_the_broker_alone(tmp_path: Path) -> None:
    """All have mode 0600 whatever was there before, no password is in any of them, and nothing else is left behind."""
    folder = tmp_path / "deep" / "broker"
    folder.mkdir(parents=True)
    (folder / CONF).write_text("old")
    (folder / CONF).chmod(0o666)
    (folder / f"{ACL}.new").write_text("of a cut")
    write(folder, render(settings(folder), "shelf", BOX, USERS))
    assert {each.name: stat.S_IMODE(each.stat().st_mode) for each in folder.iterdir()} == dict.fromkeys(
        (CONF, ACL, PASSWORDS), 0o600
    )
    everything = b"".join(each.read_bytes() for each in folder.iterdir()).decode()
    assert not any(password in everything for password in USERS.values())


def test_files_that_cannot_all_be_written_change_nothing(tmp_path: Path) -> None:
    """When the second file fails, the first is still the old one, and no half of a new one is left."""
    (tmp_path / "a").write_text("old")
    (tmp_path / "b.new").mkdir()
    with pytest.raises(OSError):
        write(tmp_path, {"a": (b"new", 0o600), "b": (b"new", 0o600)})
    assert (tmp_path / "a").read_text() == "old"
    assert not (tmp_path / "a.new").exists()


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a name with a line break": ({"owners": ("alice\ntopic readwrite #",)}, r"broker.owners 'alice\\ntopic"),
    "a name with a blank": ({"readers": ("bob the builder",)}, "broker.readers 'bob the builder'"),
    "a name with a wildcard": ({"owners": ("#",)}, "broker.owners '#'"),
    "an empty name": ({"owners": ("",)}, "broker.owners ''"),
    "two parts at once": ({"readers": ("alice",), "owners": ("alice",)}, "'alice' is there twice"),
    "the box as owner": ({"owners": ("box",)}, "'box' is there twice"),
    "no password": ({"owners": ("alice", "carol")}, "'carol' has no password"),
    "no part to play": ({"owners": ()}, "user 'alice' is in neither"),
    "a path with a line break": ({"folder": "/a\nlistener 1"}, "broker.folder '/a"),
    "a relative path": ({"cert_file": "a.pem", "key_file": "/b"}, "broker.cert_file 'a.pem'"),
    "no folder": ({"folder": ""}, "broker.folder is empty"),
    "no port": ({"port": 0}, "broker.port 0; allowed: 1 to 65535"),
    "a port twice": ({"port": 1883, "websocket_port": 1883}, "broker.port 1883 is there twice"),
    "a port too high": ({"tls_port": 70000}, "broker.tls_port 70000"),
    "TLS without a certificate": ({"tls_port": 8883}, "broker.tls_port 8883 needs cert_file"),
    "half a certificate": ({"cert_file": "/a"}, "cert_file and key_file go together"),
    "client certificates without an authority": (
        {"client_certificates": True, "cert_file": "/a", "key_file": "/b"}, "needs cert_file, key_file and ca_file"
    ),
    "an address with more": ({"address": "0.0.0.0 x"}, "broker.address '0.0.0.0 x'"),
    "too little memory": ({"memory_bytes": 1}, "broker.memory_bytes 1; allowed"),
    "a packet below discovery": ({"max_packet_bytes": 1000}, "broker.max_packet_bytes 1000"),
    "a bridge to two hosts": ({"bridge_address": "a b"}, "broker.bridge_address 'a b'"),
    "a bridge with a port": ({"bridge_address": "a:1"}, "broker.bridge_address 'a:1'"),
    "a bridge user with a line break": (
        {"bridge_address": "a", "bridge_username": "u\naddress b"}, r"broker.bridge_username 'u\\naddress b'"
    ),
    "a bridge user without password": (
        {"bridge_address": "a", "bridge_username": "u"}, "password of the bridge; allowed: not empty"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_would_break_the_syntax_is_refused(tmp_path: Path, case: str) -> None:
    """Whatever could add a line, a right or a listener is one clear error that names the field and its value."""
    changes, message = WRONG[case]
    with pytest.raises(ConfigError, match=message):
        render(settings(tmp_path, **changes), "shelf", BOX, USERS)


@pytest.mark.parametrize(
    ("device", "changes", "field"),
    [
        ("a/b", {}, "device.id"), ("a+", {}, "device.id"), ("", {}, "device.id"),
        ("shelf", {"prefix": "a b"}, "mqtt.prefix"), ("shelf", {"prefix": "#"}, "mqtt.prefix"),
        ("shelf", {"prefix": "$SYS"}, "mqtt.prefix"), ("shelf", {"discovery_prefix": "h\ni"}, "mqtt.discovery_prefix"),
        ("shelf", {"username": ""}, "mqtt.username"), ("shelf", {"username": "a:b"}, "mqtt.username"),
    ],
)  # fmt: skip
def test_topics_and_the_boxs_name_are_checked(tmp_path: Path, device: str, changes: dict[str, Any], field: str) -> None:
    """What stands in topics and rights has no wildcard, blank or line break, and the box has a name."""
    with pytest.raises(ConfigError, match=field):
        render(settings(tmp_path), device, msgspec.structs.replace(BOX, **changes), USERS)


def test_a_refused_password_is_not_shown(tmp_path: Path) -> None:
    """The error says whose password it is, and not what it is."""
    for password in ("", "secret\nline", " secret"):
        with pytest.raises(ConfigError, match="password of 'bob'") as caught:
            render(settings(tmp_path), "shelf", BOX, USERS | {"bob": password})
        assert "secret" not in str(caught.value)
