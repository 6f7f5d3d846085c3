"""UPS gauge: a battery gauge on the I2C bus, asked whether the battery is being drained.

Registers are read as SMBus words through /dev/i2c-N (kernel, Documentation/i2c/dev-interface.rst), and nothing is ever
written to a chip. smbus2 would do the same: it is pure Python and well kept, but it is one more package for a read-only
word, and brings all of ctypes.

Invariant: a reading is the chip's own, and plausible, or None. It must not know what a failing supply leads to.
"""

import fcntl
import os
import struct
import time
from array import array
from collections.abc import Callable
from typing import Any, Final, Protocol

import msgspec

from mmpi.errors import DeviceError
from mmpi.instrument import Nanos

I2C_SLAVE: Final = 0x0703
I2C_SMBUS: Final = 0x0720
"""ioctl numbers (kernel, include/uapi/linux/i2c-dev.h)."""
SMBUS_READ: Final = 1
SMBUS_WORD_DATA: Final = 3
_ASK: Final = struct.Struct("@BBIP")
"""struct i2c_smbus_ioctl_data: read_write, command, size, address of the union that takes the answer."""
_UNION_BYTES: Final = 34
"""union i2c_smbus_data (kernel, include/uapi/linux/i2c.h): a block of 32, its length, one spare."""

MAX17048: Final = "max17048"
INA219: Final = "ina219"
DRAINING: Final = {MAX17048: -2.0, INA219: -50.0}
"""Below it the battery is being drained, where nobody chose: % an hour, and mA. The least that a Pi takes, 1 W, is 5%
an hour of two 18650 cells (20 Wh), or 135 mA of them in series; a battery at rest shows steps of 0.2% and some mA."""

VCELL, SOC, CRATE = 0x02, 0x04, 0x16
"""MAX17048 datasheet (19-6171, revision 7), register summary."""
SHUNT, BUS = 0x01, 0x02
"""INA219 datasheet (SBOS448), register summary."""
BUS_OVERFLOW: Final = 0x0001
LEAST_CELL_V: Final = 2.0
MOST_CELL_V: Final = 5.0
"""A lithium cell, with room: 2.5 to 4.5 V is what feeds the MAX17048; a bus that nobody drives reads all ones."""
LEAST_PACK_V: Final = 2.0
MOST_PACK_V: Final = 26.0
"""The INA219 measures up to 26 V; below 2 V no battery feeds a Pi."""


class GaugeConfig(msgspec.Struct, frozen=True):
    """Which chip is where, and when its battery counts as being drained."""

    gauge: str = MAX17048
    bus: int = 1
    address: int = 0x36
    fail_below: float = 0.0
    """% an hour (max17048) or mA (ina219), negative while draining; 0 = DRAINING."""
    shunt_ohms: float = 0.1
    """ina219: the resistor its current flows through; negative if the board has it the other way round."""


class Words(Protocol):
    """A chip whose registers are 16 bits, the high byte first."""

    def word(self, register: int) -> int:
        """Return a register; DeviceError if the chip does not answer."""
        ...

    def close(self) -> None:
        """Let go of the bus."""
        ...


class Gauge(msgspec.Struct, frozen=True):
    """What a chip says: % an hour or mA, negative while draining."""

    volts: float
    flow: float
    percent: float | None = None


class Supply(msgspec.Struct, frozen=True):
    """One reading for PowerWatch.feed: failing, when, and why it is not known."""

    failing: bool | None
    at: Nanos
    why: str


class Chip:
    """One chip on one bus of the kernel."""

    def __init__(self, bus: int, address: int) -> None:
        self._path: Final = f"/dev/i2c-{bus}"
        self._name: Final = f"{self._path}, address {address:#04x}"
        try:
            self._fd: Final = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise DeviceError(f"{self._path}: the I2C bus cannot be opened: {error.strerror}") from None
        try:
            fcntl.ioctl(self._fd, I2C_SLAVE, address)
        except OSError as error:
            os.close(self._fd)
            # EBUSY: a driver of the kernel has the chip.
            raise DeviceError(f"{self._name}: the address cannot be taken: {error.strerror}") from None

    def word(self, register: int) -> int:
        """Return a register, high byte first; DeviceError if the chip does not answer."""
        answer = array("B", bytes(_UNION_BYTES))
        ask = _ASK.pack(SMBUS_READ, register, SMBUS_WORD_DATA, answer.buffer_info()[0])
        try:
            fcntl.ioctl(self._fd, I2C_SMBUS, ask)
        except OSError as error:
            raise DeviceError(f"{self._name}: register {register:#04x} is not answered: {error.strerror}") from None
        # SMBus sends the low byte first; both chips send the high byte first. The kernel hands over its own byte order.
        return int.from_bytes(struct.pack("<H", *struct.unpack_from("@H", answer)), "big")

    def close(self) -> None:
        """Let go of the bus."""
        os.close(self._fd)


class UpsGauge:
    """Asks one gauge; `sample` belongs in a thread, the others may be called from another at any time."""

    def __init__(
        self,
        config: GaugeConfig,
        *,
        open_chip: Callable[[int, int], Words] = Chip,
        clock: Callable[[], Nanos] = time.monotonic_ns,
    ) -> None:
        self._config: Final = config
        self._open: Final = open_chip
        self._clock: Final = clock
        self._chip: Words | None = None
        self._told: Gauge | None = None
        self._reading = Supply(None, clock(), "no reading yet")
        self._below: Final = config.fail_below or DRAINING[config.gauge]

    def sample(self) -> None:
        """Ask the chip once; after a failure the bus is opened anew."""
        try:
            if self._chip is None:
                self._chip = self._open(self._config.bus, self._config.address)
            told = read_gauge(self._chip, self._config)
        except DeviceError as error:
            self._told = None
            self._reading = Supply(None, self._clock(), str(error))
            self.close()
            return
        self._told = told
        self._reading = Supply(told.flow < self._below, self._clock(), "")

    def reading(self) -> Supply:
        """Return the last reading; the same one again until there is another."""
        return self._reading

    def status(self) -> dict[str, Any]:
        """Return what observers may see."""
        told = self._told
        unit = "percent_per_hour" if self._config.gauge == MAX17048 else "battery_ma"
        return {
            "gauge": self._config.gauge,
            "battery_v": None if told is None else round(told.volts, 3),
            unit: None if told is None else round(told.flow, 1),
            "battery_percent": None if told is None or told.percent is None else round(told.percent, 1),
            "why": self._reading.why,
        }

    def close(self) -> None:
        """Let go of the bus, in the thread that samples; the next sample opens it again."""
        chip, self._chip = self._chip, None
        if chip is not None:
            chip.close()


def read_gauge(chip: Words, config: GaugeConfig) -> Gauge:
    """Return what the chip says; DeviceError if it does not answer, or what it says cannot be of this chip."""
    if config.gauge == MAX17048:
        told = max17048(chip.word(VCELL), chip.word(SOC), chip.word(CRATE))
        least, most = LEAST_CELL_V, MOST_CELL_V
    else:
        bus = chip.word(BUS)
        if bus & BUS_OVERFLOW:
            raise DeviceError(f"/dev/i2c-{config.bus}, address {config.address:#04x}: the ina219 is out of range (OVF)")
        told = ina219(bus, chip.word(SHUNT), config.shunt_ohms)
        least, most = LEAST_PACK_V, MOST_PACK_V
    if not least <= told.volts <= most:
        raise DeviceError(
            f"/dev/i2c-{config.bus}, address {config.address:#04x}: {told.volts:.2f} V is no battery's voltage "
            f"({least:g} to {most:g}); is it a {config.gauge}?"
        )
    return told


def max17048(vcell: int, soc: int, crate: int) -> Gauge:
    """Return what three registers of a MAX17048 mean: 78.125 uV, 1/256 % and 0.208 % an hour a step."""
    return Gauge(volts=vcell * 78.125e-6, flow=_signed(crate) * 0.208, percent=soc / 256)


def ina219(bus: int, shunt: int, shunt_ohms: float) -> Gauge:
    """Return what two registers of an INA219 mean: 4 mV a step from bit 3 on, and 10 uV a step over the shunt.

    The shunt's voltage needs no calibration, so nothing has to be written to the chip.
    """
    return Gauge(volts=(bus >> 3) * 0.004, flow=_signed(shunt) * 0.01 / shunt_ohms)


def _signed(word: int) -> int:
    return word - 0x10000 if word & 0x8000 else word
