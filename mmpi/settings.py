"""Settings: the whole configuration as the quoter reads it, resolved, in frozen structs and without pydantic.

Invariant: it holds no secret, and every value is already checked (mmpi.config wrote it).
It must not know TOML, the environment or pydantic.
"""

import msgspec

from mmpi.channels import AlertSettings as AlertSettings
from mmpi.channels import BrokerSettings as BrokerSettings
from mmpi.channels import FarMqttSettings as FarMqttSettings
from mmpi.channels import MqttSettings as MqttSettings
from mmpi.channels import WebSettings as WebSettings
from mmpi.quoting import QuoterSettings
from mmpi.risk import RiskConfig
from mmpi.sections import ClockSettings as ClockSettings
from mmpi.sections import GuardianSettings as GuardianSettings
from mmpi.sections import HostSettings as HostSettings
from mmpi.sections import JournalSettings as JournalSettings
from mmpi.sections import PathSettings as PathSettings
from mmpi.sections import PinSettings as PinSettings
from mmpi.sections import PowerSettings as PowerSettings
from mmpi.sections import VenueSettings as VenueSettings
from mmpi.sections import WatchdogSettings as WatchdogSettings
from mmpi.sim.exchange import SimConfig
from mmpi.sim.market import MarketConfig


class InstrumentSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One instrument to quote. tick_size and lot_size "" = the venue's own word."""

    name: str
    quoter: QuoterSettings
    tick_size: str = ""
    lot_size: str = ""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything; `digest` is the SHA-256 of what decides behaviour (all but paths)."""

    device_id: str
    paths: PathSettings
    venue: VenueSettings
    instruments: tuple[InstrumentSettings, ...]
    risk: RiskConfig
    sim: SimConfig
    market: MarketConfig
    journal: JournalSettings
    guardian: GuardianSettings
    clock: ClockSettings = ClockSettings()
    pins: PinSettings = PinSettings()
    power: PowerSettings = PowerSettings()
    host: HostSettings = HostSettings()
    watchdog: WatchdogSettings = WatchdogSettings()
    mqtt: MqttSettings = MqttSettings()
    mqtt_far: FarMqttSettings = FarMqttSettings()
    broker: BrokerSettings = BrokerSettings()
    web: WebSettings = WebSettings()
    alerts: AlertSettings = AlertSettings()
    digest: str = ""
