"""Telling: the keys of mmpi.toml about what the owner is told: brokers, web page, alerts.

Invariant: defaults are those of the structs in channels.py. It must not know where a value comes from.
"""

from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator

from mmpi.channels import AlertSettings, BrokerSettings, FarMqttSettings, MqttSettings, WebSettings
from mmpi.config.fields import Section, choice, folder, number, text

_MQTT, _FAR, _WEB, _ALERTS = MqttSettings(), FarMqttSettings(), WebSettings(), AlertSettings()
_OWN = BrokerSettings()
LONGEST_S: Final = 86_400
TOPIC: Final = r"^[A-Za-z0-9_-]{1,32}(/[A-Za-z0-9_-]{1,32}){0,3}$"
TOPIC_ALLOWED: Final = "one to four words of letters, digits, _ and -, with / between them"


def _url(schemes: tuple[str, ...], path: bool) -> Any:
    """Return a check: empty, or an address by one of these schemes, without a password, with or without a path."""

    def checked(value: str) -> str:
        parts = urlsplit(value)
        whole = bool(parts.hostname) and parts.scheme in schemes and parts.port != 0 and "@" not in parts.netloc
        bare = not (parts.query or parts.fragment) and (path or parts.path == "")
        if value and not (whole and bare and value.isprintable() and " " not in value):
            raise ValueError("not such an address")
        return value

    return AfterValidator(checked)


BrokerUrl = Annotated[str, _url(("mqtt", "mqtts"), path=False)]
HookUrl = Annotated[str, _url(("http", "https"), path=True)]
_PEOPLE: Final = "names with commas or blanks between, or empty"
_BROKER: Final = "mqtt://host or mqtts://host, with :port if need be, without a password, or empty"


def _seconds(default: float, meaning: str) -> Any:
    return number(default, meaning, ge=0, le=LONGEST_S)


class Mqtt(Section):
    """The broker that the box talks to, its own or one in the house (docs/phone.md). The password is no key of this
    file: it is the content of mqtt.password in the folder of secrets."""

    url: BrokerUrl = text("Address of the broker. Empty = no MQTT.", _BROKER, _MQTT.url)
    username: str = text("Name for the broker. Empty = none.", "a text of 64 characters at most", _MQTT.username)
    ca_file: str = folder("PEM file of the authorities that may vouch for an mqtts:// broker. Empty = the system's.")
    cert_file: str = folder("PEM file of a certificate for the broker. Empty = none.")
    key_file: str = folder("Its key.")
    prefix: str = text("Topics begin with this, and the device's name.", TOPIC_ALLOWED, _MQTT.prefix, TOPIC)
    keepalive_s: float = number(
        _MQTT.keepalive_s, "The broker takes a box silent for one and a half of this for dead.", ge=5, le=300
    )
    commands: Literal["all", "stop", "none"] = choice(
        _MQTT.commands, "What is obeyed from there. stop: kill and pause alone. Nothing from there opens a position."
    )
    discovery: bool = choice(_MQTT.discovery, "Home Assistant finds the box by itself.")
    discovery_prefix: str = text("Where Home Assistant looks.", TOPIC_ALLOWED, _MQTT.discovery_prefix, TOPIC)


class FarMqtt(Section):
    """A second broker, outside the house: its last will tells that the box is dead, whatever died. Password:
    mqtt_far.password."""

    url: BrokerUrl = text("Address of the broker. Empty = none.", _BROKER, _FAR.url)
    username: str = text("Name for the broker. Empty = none.", "a text of 64 characters at most", _FAR.username)
    ca_file: str = folder("PEM file of the authorities that may vouch for an mqtts:// broker. Empty = the system's.")
    cert_file: str = folder("PEM file of a certificate for the broker. Empty = none.")
    key_file: str = folder("Its key.")
    prefix: str = text("Topics begin with this, and the device's name.", TOPIC_ALLOWED, _FAR.prefix, TOPIC)
    keepalive_s: float = number(
        _FAR.keepalive_s, "The broker takes a box silent for one and a half of this for dead.", ge=5, le=300
    )
    commands: Literal["all", "stop", "none"] = choice(_FAR.commands, "What is obeyed from there, as in [mqtt].")


def _port(default: int, meaning: str, least: int = 0) -> Any:
    return number(default, meaning, ge=least, le=65_535, unit="TCP port")


def _most(default: int, meaning: str, least: int, most: int, unit: str) -> Any:
    return number(default, meaning, ge=least, le=most, unit=unit)


class Broker(Section):
    """A broker of the box's own, mosquitto, where the house has none (docs/broker.md). Passwords are no keys of this
    file: those of its people are in broker.users of the folder of secrets, the bridge's in bridge.password."""

    enabled: bool = choice(_OWN.enabled, "Run one; the box itself uses it by mqtt.url.")
    port: int = _port(_OWN.port, "For the box itself, on the loopback address.", 1)
    tls_port: int = _port(_OWN.tls_port, "For everybody else, by TLS; 0 = nobody.")
    websocket_port: int = _port(_OWN.websocket_port, "For pages in a browser; 0 = none.")
    address: str = text("Of this machine, for both of these. Empty = all.", "an IP address, or empty", _OWN.address)
    cert_file: str = folder("PEM file of the broker's certificate.")
    key_file: str = folder("Its key.")
    ca_file: str = folder("PEM file of who vouches for the clients' certificates.")
    crl_file: str = folder("PEM file of certificates that are not valid any more. Empty = none.")
    client_certificates: bool = choice(
        _OWN.client_certificates, "A client's certificate takes the place of a password, its common name of the name."
    )
    owners: str = text("Who may hear everything and send commands.", _PEOPLE, "")
    readers: str = text("Who may hear everything, and nothing else.", _PEOPLE, "")
    max_connections: int = _most(_OWN.max_connections, "Of each listener.", 2, 1000, "number")
    max_packet_bytes: int = _most(_OWN.max_packet_bytes, "One message.", 65_536, 2**24, "bytes")
    max_queued_messages: int = _most(_OWN.max_queued_messages, "For each slow client.", 1, 10_000, "number")
    max_queued_bytes: int = _most(_OWN.max_queued_bytes, "For each slow client.", 65_536, 2**26, "bytes")
    max_inflight_messages: int = _most(_OWN.max_inflight_messages, "For each client.", 1, 1000, "number")
    max_keepalive_s: int = number(_OWN.max_keepalive_s, "A client that asks for more is refused.", ge=10, le=65_535)
    memory_bytes: int = _most(_OWN.memory_bytes, "What the broker may have in all.", 2**20, 2**30, "bytes")
    bridge_address: str = text("Host of another broker that hears it all, too. Empty = none.", "a host, or empty", "")
    bridge_port: int = _port(_OWN.bridge_port, "Its port.", 1)
    bridge_tls: bool = choice(_OWN.bridge_tls, "Whether it is reached by TLS.")
    bridge_ca_file: str = folder("PEM file of who vouches for it. Empty = the system's.")
    bridge_username: str = text("Name there; its password is in bridge.password.", "a text, or empty", "")
    bridge_commands: bool = choice(_OWN.bridge_commands, "Whether commands come back from there.")
    folder: str = folder("Where its configuration is written. Empty = /run/mmpi-broker.")


class Web(Section):
    """The page with the front panel, and Prometheus's /metrics: on this machine's loopback address only."""

    port: int = number(_WEB.port, "Port of http://127.0.0.1; 0 = no page.", ge=0, le=65_535, unit="TCP port")
    metrics: bool = choice(_WEB.metrics, "Serve /metrics there.")


class Alerts(Section):
    """When the owner is told that something is wrong; 0 = not for that reason. Each tells once, and when it is over."""

    position_percent: float = number(_ALERTS.position_percent, "Of risk.max_position.", ge=0, le=1000)
    position_for_s: float = _seconds(_ALERTS.position_for_s, "For so long.")
    adverse_bps: float = number(
        _ALERTS.adverse_bps, "Fills went against us by so much within 5 s, on average of ten minutes.", ge=0, le=1000
    )
    adverse_for_s: float = _seconds(_ALERTS.adverse_for_s, "For so long.")
    no_fills_s: float = _seconds(_ALERTS.no_fills_s, "Quoting without a fill, and without a position.")
    latency_p99_ms: float = number(_ALERTS.latency_p99_ms, "From market data to orders, 99 of 100.", ge=0, le=60_000)
    latency_for_s: float = _seconds(_ALERTS.latency_for_s, "For so long.")
    feed_age_s: float = _seconds(_ALERTS.feed_age_s, "Age of an instrument's last market data.")
    feed_for_s: float = _seconds(_ALERTS.feed_for_s, "For so long.")
    temperature_c: float = number(
        _ALERTS.temperature_c, "Of the processor.", ge=0, le=120, unit="degrees Celsius"
    )
    temperature_for_s: float = _seconds(_ALERTS.temperature_for_s, "For so long.")
    disk_mb: float = number(_ALERTS.disk_mb, "Less is free where state_dir is.", ge=0, le=1_048_576, unit="MB")
    disk_for_s: float = _seconds(_ALERTS.disk_for_s, "For so long.")
    memory_mb: float = number(_ALERTS.memory_mb, "Less is available.", ge=0, le=65_536, unit="MB")
    memory_for_s: float = _seconds(_ALERTS.memory_for_s, "For so long.")
    quoter_silent_s: float = _seconds(_ALERTS.quoter_silent_s, "No sign of life of the quoter.")
    pause_for_s: float = _seconds(_ALERTS.pause_for_s, "Paused for so long, whatever the cause.")
    webhook_url: HookUrl = text(
        "Address to which a text is posted as ntfy takes it; a token is the content of webhook.token in the folder of "
        "secrets. Empty = none.",
        "http(s)://host/path, without a password, or empty",
        _ALERTS.webhook_url,
    )
