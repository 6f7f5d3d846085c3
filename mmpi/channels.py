"""Channels: the settings of telemetry: brokers, web page, alerts. What decides how the box trades is elsewhere.

Invariant: it holds no secret; nothing in it changes what is quoted, so none of it is in the configuration's digest.
It must not know TOML, the environment or pydantic.
"""

import msgspec

from mmpi.sections import GuardianSettings, PathSettings, PinSettings


class MqttSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The broker that the box talks to: its own, or one in the house. "" = no MQTT."""

    url: str = ""
    """mqtt://host[:port] or mqtts://host[:port]."""
    username: str = ""
    """With the password in the file mqtt.password of the folder of secrets."""
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    prefix: str = "mmpi"
    """Topics begin with prefix/device_id."""
    keepalive_s: float = 20.0
    commands: str = "all"
    """all, stop (kill and pause) or none."""
    discovery: bool = True
    discovery_prefix: str = "homeassistant"


class FarMqttSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A second broker, somewhere else: its last will tells that the box is dead. "" = none."""

    url: str = ""
    username: str = ""
    """With the password in mqtt_far.password."""
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    prefix: str = "mmpi"
    keepalive_s: float = 30.0
    commands: str = "none"


class BrokerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The broker on the box. Ports: 0 = no such listener. Secrets are not in here."""

    enabled: bool = False
    folder: str = "/run/mmpi-broker"
    """Where what `render` returns is put; the lines name the files there."""
    port: int = 1883
    """For the box itself, on the loopback address only, without TLS."""
    tls_port: int = 0
    """For everybody else, usually 8883."""
    websocket_port: int = 0
    """For pages in a browser; with TLS if there is a certificate, else on the loopback address only."""
    address: str = ""
    """Of this machine, for both of these; "" = all."""
    cert_file: str = ""
    key_file: str = ""
    ca_file: str = ""
    """Who vouches for the clients' certificates."""
    crl_file: str = ""
    """Of certificates that are not valid any more; "" = none."""
    client_certificates: bool = False
    """With TLS a client's certificate takes the place of a password, and its common name that of the user's."""
    owners: tuple[str, ...] = ()
    """Who may hear everything and send commands, by the name of the user or of the certificate."""
    readers: tuple[str, ...] = ()
    """Who may hear everything, and nothing else."""
    max_connections: int = 16
    """Of each listener."""
    max_packet_bytes: int = 128 * 1024
    """Twice Home Assistant's discovery message."""
    max_queued_messages: int = 200
    """For each client that does not keep up; the rest of its messages is dropped."""
    max_queued_bytes: int = 512 * 1024
    max_inflight_messages: int = 20
    max_keepalive_s: int = 600
    memory_bytes: int = 32 * 1024 * 1024
    """What the broker may have in all."""
    bridge_address: str = ""
    """Host of another broker that hears what the box says; "" = none."""
    bridge_port: int = 8883
    bridge_tls: bool = True
    bridge_ca_file: str = ""
    """Who vouches for it; "" = whom the system trusts."""
    bridge_username: str = ""
    bridge_commands: bool = False
    """Whether commands come back from there."""


class WebSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The page, and /metrics, on the loopback address. 0 = none."""

    port: int = 8480
    metrics: bool = True


class AlertSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When the owner is told that something is wrong; 0 = never for that reason."""

    position_percent: float = 80.0
    position_for_s: float = 60.0
    adverse_bps: float = 20.0
    adverse_for_s: float = 300.0
    no_fills_s: float = 600.0
    latency_p99_ms: float = 50.0
    latency_for_s: float = 300.0
    feed_age_s: float = 10.0
    feed_for_s: float = 10.0
    temperature_c: float = 75.0
    temperature_for_s: float = 60.0
    disk_mb: float = 128.0
    disk_for_s: float = 60.0
    memory_mb: float = 64.0
    memory_for_s: float = 60.0
    quoter_silent_s: float = 5.0
    pause_for_s: float = 60.0
    webhook_url: str = ""
    """http(s)://host/topic, where a text is posted as ntfy takes it; with webhook.token in the folder of secrets."""


class Limits(msgspec.Struct, frozen=True):
    """Of the risk limits, what telemetry shows positions against: integers of 10^-12 quote units, as everywhere."""

    max_position: int


class Telling(msgspec.Struct, frozen=True):
    """What telemetry needs of the resolved configuration; the rest of the file is passed over."""

    device_id: str
    paths: PathSettings
    risk: Limits
    guardian: GuardianSettings
    pins: PinSettings = PinSettings()
    mqtt: MqttSettings = MqttSettings()
    mqtt_far: FarMqttSettings = FarMqttSettings()
    broker: BrokerSettings = BrokerSettings()
    web: WebSettings = WebSettings()
    alerts: AlertSettings = AlertSettings()
