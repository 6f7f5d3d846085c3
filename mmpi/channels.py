"""Channels: the settings of telemetry: brokers, web page, alerts. What decides how the box trades is elsewhere.

Invariant: it holds no secret; nothing in it changes what is quoted, so none of it is in the configuration's digest.
It must not know TOML, the environment or pydantic.
"""

import msgspec

from mmpi.sections import GuardianSettings, PathSettings, PinSettings, VenueSettings


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
    """Of the risk limits, what telemetry shows positions against; integers of 10^-12 quote units, as everywhere."""

    max_position: int
    session_loss: int
    daily_loss: int
    max_drawdown: int


class Telling(msgspec.Struct, frozen=True):
    """What telemetry needs of the resolved configuration; the rest of the file is passed over."""

    device_id: str
    paths: PathSettings
    venue: VenueSettings
    risk: Limits
    guardian: GuardianSettings
    pins: PinSettings = PinSettings()
    mqtt: MqttSettings = MqttSettings()
    mqtt_far: FarMqttSettings = FarMqttSettings()
    web: WebSettings = WebSettings()
    alerts: AlertSettings = AlertSettings()
