"""Sections: the parts of the resolved configuration that every daemon reads, the guardian too.

Invariant: it holds no secret and imports no strategy. It must not know TOML, the environment or pydantic.
"""

from pathlib import Path
from typing import TypeVar

import msgspec

from mmpi.errors import ConfigError

T = TypeVar("T")


class VenueSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which venue, and how: `mode` is paper, practice or live."""

    name: str = "generated"
    """generated (built-in market, paper only) or hyperliquid."""
    mode: str = "paper"
    url: str = ""
    """Base URL, http(s)://host:port; the WebSocket is at /ws."""
    network: str = "testnet"
    """testnet or mainnet: which source letter is signed."""
    expires_after_ms: int = 2000
    """Every trading action is void this long after it was signed; at most 2000."""
    ack_timeout_s: float = 5.0
    """An order unanswered for this long has an unknown fate."""
    ca_file: str = ""
    """PEM file of the authorities that may vouch for an https address; "" = the system's."""
    vault: str = ""
    """Address of the vault or sub-account to trade for; "" = the account itself."""
    adopt: bool = False
    """Orders of other hands in our instruments are taken over; otherwise they are never touched."""
    amend: bool = True
    """Move an order in one step where the venue can, instead of a cancel and a new order."""
    weight_per_minute: int = 1000
    """Of the 1200 that the venue allows one network address; the guardian has the rest. 0 = do not count."""
    budget_low: int = 5000
    """Requests left below which orders are moved more and more rarely."""
    budget_reserve: int = 500
    """Requests left from which on nothing new is placed but what reduces a position."""

    def websocket_url(self) -> str:
        """Return where the venue's WebSocket is."""
        scheme, _, rest = self.url.partition("://")
        return f"{'wss' if scheme == 'https' else 'ws'}://{rest.rstrip('/')}/ws"


class ClockSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When the clock is trusted (I8)."""

    max_offset_ms: int = 1000
    """Farthest from the venue's time."""
    require_sync: bool = True
    """Live: the kernel must say that the clock is synchronised."""


class JournalSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Sizes of the journal in memory and of what is on the disk, in bytes."""

    segment_bytes: int = 8 * 2**20
    max_bytes: int = 64 * 2**20
    intent_durability: str = "auto"
    """auto, write or fsync."""
    commit_s: float = 14.0
    """The promise is 15 s; the rest is for a slow disk."""
    routine: str = "memory"
    """memory or disk."""
    disk_bytes_per_hour: int = 5 * 2**20
    disk_max_bytes: int = 64 * 2**20
    disk_max_days: int = 400


class GuardianSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The guardian's patience, and what it lets a person do from afar."""

    heartbeat_timeout_s: float = 1.0
    ack_timeout_s: float = 0.5
    allow_remote_arm: bool = False
    """`mmpi arm` arms a box that has a button for it, and so may a command from the phone."""
    resume_after_boot: bool = True
    """A box that was armed goes on by itself after a power loss; otherwise it latches at each boot."""
    required: bool = True
    """Orders leave for a venue only while a guardian lives."""


class PinSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where buttons and lamps are: offsets of a GPIO chip's lines (on a Pi: BCM numbers); -1 = not wired."""

    backend: str = "none"
    """none, gpiod (the kernel's GPIO chip) or virtual (a mapped file in the runtime folder)."""
    chip: str = "/dev/gpiochip0"
    kill: int = 5
    kill_second: int = -1
    arm: int = 13
    green: int = 17
    amber: int = 27
    red: int = 22
    buzzer: int = -1
    power: int = -1


class PowerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An uninterruptible supply that says when the mains failed."""

    source: str = "none"
    """none, pin (pins.power) or i2c."""
    fail_level: str = "low"
    """Level of the pin while the mains are gone: low or high."""
    hold_off_s: float = 20.0
    good_s: float = 10.0
    shutdown: bool = True
    i2c_bus: int = 1
    i2c_address: int = 0x36
    i2c_gauge: str = "max17048"
    i2c_fail_below: float = 0.0
    i2c_shunt_ohms: float = 0.1


class HostSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When the machine is too hot, full or busy to quote; 0 = do not look."""

    max_temperature_c: float = 80.0
    max_cpu_percent: float = 0.0
    min_memory_mb: float = 40.0
    min_disk_mb: float = 64.0
    undervoltage_pauses: bool = True
    throttled_pauses: bool = True
    sysfs_root: str = "/sys"
    proc_root: str = "/proc"
    setup_result: str = "/run/mmpi-box/setup.json"
    """What the set-up of the card's folder found; only our image has one."""


class WatchdogSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The machine's own watchdog."""

    hardware_s: int = 0
    """What kernel and systemd must both say; 0 = this host has none."""


class PathSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Absolute folders, and the fixed names in them (architecture section 6)."""

    state_dir: str
    runtime_dir: str
    secrets_dir: str

    @property
    def latch(self) -> Path:
        """Return the latch file."""
        return Path(self.state_dir) / "latch.json"

    @property
    def journal(self) -> Path:
        """Return the folder of the tmpfs journal."""
        return Path(self.runtime_dir) / "journal"

    @property
    def control(self) -> Path:
        """Return the guardian's control socket."""
        return Path(self.runtime_dir) / "guardian.sock"

    @property
    def halt(self) -> Path:
        """Return the halt word."""
        return Path(self.runtime_dir) / "halt"

    @property
    def status(self) -> Path:
        """Return the quoter's status board."""
        return Path(self.runtime_dir) / "status"

    @property
    def pins(self) -> Path:
        """Return the mapped file of virtual pins."""
        return Path(self.runtime_dir) / "pins"

    @property
    def held(self) -> Path:
        """Return the file of pauses that persons set, which outlive a power loss."""
        return Path(self.state_dir) / "held.json"

    @property
    def boot(self) -> Path:
        """Return the file that says in which boot the guardian last ran."""
        return Path(self.state_dir) / "boot.json"

    @property
    def addresses(self) -> Path:
        """Return the file of the venue's last addresses, for when nobody can be asked for them."""
        return Path(self.state_dir) / "addresses.json"

    @property
    def poweroff(self) -> Path:
        """Return the file whose appearance turns the machine off (mmpi-poweroff.path)."""
        return Path(self.runtime_dir) / "poweroff"

    @property
    def guardian_lock(self) -> Path:
        """Return the lock that keeps a second guardian out."""
        return Path(self.runtime_dir) / "guardian.lock"

    @property
    def quoter_lock(self) -> Path:
        """Return the lock that keeps a second quoter out."""
        return Path(self.runtime_dir) / "quoter.lock"


def ledger_folder(paths: PathSettings) -> Path:
    """Return the folder of the durable ledger."""
    return Path(paths.state_dir) / "journal"


class Box(msgspec.Struct, frozen=True):
    """What the guardian needs of the resolved configuration; the rest of the file is passed over."""

    device_id: str
    paths: PathSettings
    venue: VenueSettings
    guardian: GuardianSettings
    pins: PinSettings = PinSettings()
    power: PowerSettings = PowerSettings()
    host: HostSettings = HostSettings()
    watchdog: WatchdogSettings = WatchdogSettings()
    digest: str = ""


def load_resolved(path: Path, kind: type[T]) -> T:
    """Return a resolved config.json as `kind`; ConfigError names the file and what is wrong with it."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; run: mmpi check --resolve") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except msgspec.MsgspecError as error:
        raise ConfigError(f"{path}: {error}; run: mmpi check --resolve") from None
