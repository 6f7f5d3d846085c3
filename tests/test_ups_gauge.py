"""The UPS gauge: what the registers of two chips mean, and the kernel's I2C calls down to the bytes."""

import ctypes
import errno
import fcntl
import os
from collections.abc import Mapping

import pytest

from mmpi.device.ups_gauge import (
    BUS,
    CRATE,
    INA219,
    MAX17048,
    SHUNT,
    SOC,
    VCELL,
    Chip,
    Gauge,
    GaugeConfig,
    UpsGauge,
    ina219,
    max17048,
    read_gauge,
)
from mmpi.errors import DeviceError
from mmpi.instrument import SECOND, Nanos

FULL = {VCELL: 0xD200, SOC: 0x6400, CRATE: 0x0000}
"""A MAX17048 at 4.2 V, 100 %, at rest."""


class SmbusData(ctypes.Union):
    """union i2c_smbus_data of the kernel's include/uapi/linux/i2c.h."""

    _fields_ = (("byte", ctypes.c_uint8), ("word", ctypes.c_uint16), ("block", ctypes.c_uint8 * 34))


class SmbusIoctl(ctypes.Structure):
    """struct i2c_smbus_ioctl_data of the kernel's include/uapi/linux/i2c-dev.h."""

    _fields_ = (
        ("read_write", ctypes.c_uint8),
        ("command", ctypes.c_uint8),
        ("size", ctypes.c_uint32),
        ("data", ctypes.POINTER(SmbusData)),
    )


class Bus:
    """The kernel's side of /dev/i2c-1: chips by address, registers of two bytes in the order of the wire."""

    def __init__(self, chips: Mapping[int, Mapping[int, bytes]]) -> None:
        self.chips = chips
        self.address: int | None = None
        self.taken: set[int] = set()
        """Addresses that a driver of the kernel has."""

    def ioctl(self, _: int, request: int, argument: int | bytes) -> int:
        """Do what i2c-dev does, and nothing that it would not."""
        if request == 0x0703 and isinstance(argument, int):
            if argument in self.taken:
                raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
            self.address = argument
            return 0
        assert request == 0x0720 and isinstance(argument, bytes) and len(argument) == ctypes.sizeof(SmbusIoctl)
        ask = SmbusIoctl.from_buffer_copy(argument)
        assert (ask.read_write, ask.size) == (1, 3)
        chip = self.chips.get(self.address or 0)
        if chip is None:
            raise OSError(errno.EREMOTEIO, os.strerror(errno.EREMOTEIO))
        first, second = chip[ask.command]
        # SMBus 2.0, 5.5.5: the low byte comes first.
        ask.data.contents.word = first | second << 8
        return 0


@pytest.fixture
def bus(monkeypatch: pytest.MonkeyPatch) -> Bus:
    """Give a bus with a MAX17048 at 0x36 in place of the kernel's; its file is /dev/null."""
    there = Bus({0x36: {register: word.to_bytes(2, "big") for register, word in FULL.items()}})
    opened = os.open

    def open_null(path: str, flags: int) -> int:
        assert path == "/dev/i2c-1"
        return opened(os.devnull, flags)

    monkeypatch.setattr(os, "open", open_null)
    monkeypatch.setattr(fcntl, "ioctl", there.ioctl)
    return there


class Registers:
    """A chip that answers from a table."""

    def __init__(self, words: Mapping[int, int]) -> None:
        self.words = words
        self.closed = 0

    def word(self, register: int) -> int:
        """Return a register; as a chip that nobody hears where the table has none."""
        if register not in self.words:
            raise DeviceError(f"register {register:#04x} is not answered")
        return self.words[register]

    def close(self) -> None:
        """Count."""
        self.closed += 1


def gauge(words: Mapping[int, int], config: GaugeConfig | None = None) -> UpsGauge:
    """Return a gauge at a chip with these registers, read once at 3 s."""
    clock: list[Nanos] = [3 * SECOND]
    made = UpsGauge(config or GaugeConfig(), open_chip=lambda *_: Registers(words), clock=lambda: clock[0])
    made.sample()
    return made


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((0xD200, 0x6400, 0x0000), Gauge(4.2, 0.0, 100.0)),
        ((0xB900, 0x3280, 0x0030), Gauge(3.7, 48 * 0.208, 50.5)),
        ((0xAA00, 0x0080, 0xFF9C), Gauge(3.4, -100 * 0.208, 0.5)),
        ((0xFFFF, 0xFFFF, 0x8000), Gauge(65535 * 78.125e-6, -32768 * 0.208, 65535 / 256)),
    ],
)
def test_the_registers_of_a_max17048(words: tuple[int, int, int], told: Gauge) -> None:
    """Steps of 78.125 uV, 1/256 % and 0.208 % an hour, the last in two's complement (datasheet, register summary)."""
    got = max17048(*words)
    assert (got.volts, got.flow, got.percent) == pytest.approx((told.volts, told.flow, told.percent))


@pytest.mark.parametrize(
    ("bus_word", "shunt", "ohms", "volts", "milliamperes"),
    [
        (0x5D98, 0x07D0, 0.002, 11.98, 10_000),
        (0x0000, 0x7D00, 0.1, 0.0, 3200),
        (0x0000, 0x8300, 0.1, 0.0, -3200),
        (0x4012, 0xFD87, 0.1, 8.2, -63.3),
        (0x4012, 0xFD87, -0.1, 8.2, 63.3),
    ],
)
def test_the_registers_of_an_ina219(bus_word: int, shunt: int, ohms: float, volts: float, milliamperes: float) -> None:
    """The datasheet's design example (11.98 V, 20 mV over 2 mOhm), and both ends of its +-320 mV range."""
    told = ina219(bus_word, shunt, ohms)
    assert (told.volts, told.flow) == pytest.approx((volts, milliamperes))


def test_the_kernel_is_asked_as_it_wants(bus: Bus) -> None:
    """Address and register pass the ioctls in the kernel's own layouts; words come back in the chip's byte order."""
    chip = Chip(1, 0x36)
    assert bus.address == 0x36
    assert [chip.word(register) for register in (VCELL, SOC, CRATE)] == [0xD200, 0x6400, 0]
    chip.close()
    assert read_gauge(Chip(1, 0x36), GaugeConfig()).volts == pytest.approx(4.2)


def test_a_chip_that_does_not_answer(bus: Bus) -> None:
    """Nobody at the address: one sentence with bus, address, register and the kernel's words."""
    bus.chips = {}
    with pytest.raises(DeviceError) as error:
        Chip(1, 0x36).word(VCELL)
    assert str(error.value) == "/dev/i2c-1, address 0x36: register 0x02 is not answered: Remote I/O error"


def test_an_address_that_a_driver_has(bus: Bus) -> None:
    """A chip that the kernel has a driver for cannot be asked; the bus is let go of."""
    bus.taken = {0x36}
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(DeviceError, match="/dev/i2c-1, address 0x36: the address cannot be taken: Device or resource"):
        Chip(1, 0x36)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(("number", "words"), [(errno.ENOENT, "No such file"), (errno.EACCES, "Permission denied")])
def test_a_bus_that_cannot_be_opened(monkeypatch: pytest.MonkeyPatch, number: int, words: str) -> None:
    """Without the device node, or without the right to it, one sentence says so."""

    def refused(path: str, _: int) -> int:
        raise OSError(number, os.strerror(number), path)

    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(DeviceError, match=f"/dev/i2c-1: the I2C bus cannot be opened: {words}"):
        Chip(1, 0x36)


@pytest.mark.parametrize(
    ("config", "words", "failing"),
    [
        (GaugeConfig(), {**FULL, CRATE: 0x10000 - 9}, False),
        (GaugeConfig(), {**FULL, CRATE: 0x10000 - 10}, True),
        (GaugeConfig(fail_below=-10), {**FULL, CRATE: 0x10000 - 10}, False),
        (GaugeConfig(gauge=INA219), {BUS: 0x4012, SHUNT: 0x10000 - 500}, False),
        (GaugeConfig(gauge=INA219), {BUS: 0x4012, SHUNT: 0x10000 - 501}, True),
        (GaugeConfig(gauge=INA219, shunt_ohms=0.01), {BUS: 0x4012, SHUNT: 0x10000 - 51}, True),
        (GaugeConfig(gauge=INA219, shunt_ohms=0.01, fail_below=-600), {BUS: 0x4012, SHUNT: 0x10000 - 60}, False),
        (GaugeConfig(gauge=INA219), {BUS: 0x4012, SHUNT: 501}, False),
    ],
)
def test_draining_is_failing(config: GaugeConfig, words: Mapping[int, int], failing: bool) -> None:
    """The mains are gone when the battery drains faster than -2 % an hour or -50 mA, or than somebody chose."""
    made = gauge(words, config)
    assert (made.reading().failing, made.reading().at, made.reading().why) == (failing, 3 * SECOND, "")


@pytest.mark.parametrize(
    ("config", "words", "why"),
    [
        (GaugeConfig(), {**FULL, VCELL: 0xFFFF}, "5.12 V is no battery's voltage (2 to 5); is it a max17048?"),
        (GaugeConfig(), {**FULL, VCELL: 0x0000}, "0.00 V is no battery's voltage (2 to 5); is it a max17048?"),
        (GaugeConfig(gauge=INA219), {BUS: 0, SHUNT: 0}, "0.00 V is no battery's voltage (2 to 26); is it a ina219?"),
        (GaugeConfig(gauge=INA219), {BUS: 0x4013, SHUNT: 0}, "the ina219 is out of range (OVF)"),
    ],
)
def test_nonsense_is_no_reading(config: GaugeConfig, words: Mapping[int, int], why: str) -> None:
    """A bus that nobody drives, and a chip that is another, are told as unknown, not as mains that are there."""
    reading = gauge(words, config).reading()
    assert reading.failing is None
    assert reading.why == f"/dev/i2c-1, address 0x36: {why}"


def test_after_a_failure_the_bus_is_opened_anew() -> None:
    """A gauge whose chip went away and came back reads again; between, it is unknown and its figures are gone."""
    chips = [Registers(FULL), Registers({}), Registers(FULL)]
    opened: list[tuple[int, int]] = []

    def open_next(bus: int, address: int) -> Registers:
        opened.append((bus, address))
        return chips[len(opened) - 1]

    made = UpsGauge(GaugeConfig(bus=3, address=0x32), open_chip=open_next, clock=lambda: 7)
    assert made.reading().failing is None
    made.sample()
    made.sample()
    assert (made.reading().failing, len(opened)) == (False, 1)
    chips[0].words = {}
    made.sample()
    assert (made.reading().failing, made.reading().why) == (None, "register 0x02 is not answered")
    assert made.status()["battery_v"] is None
    made.sample()
    assert made.reading().failing is None
    made.sample()
    assert made.reading().failing is False
    assert opened == [(3, 0x32)] * 3
    assert [chip.closed for chip in chips] == [1, 1, 0]


def test_a_bus_that_is_not_there_is_told() -> None:
    """On a machine without the bus every sample says so, and none raises."""

    def refused(bus: int, _: int) -> Registers:
        raise DeviceError(f"/dev/i2c-{bus}: the I2C bus cannot be opened: No such file or directory")

    made = UpsGauge(GaugeConfig(), open_chip=refused)
    made.sample()
    assert made.reading().failing is None
    assert made.status()["why"] == "/dev/i2c-1: the I2C bus cannot be opened: No such file or directory"


def test_the_status_names_its_units() -> None:
    """Observers see voltage, charge and flow under names that say the unit."""
    assert gauge(FULL).status() == {
        "gauge": MAX17048, "battery_v": 4.2, "percent_per_hour": 0.0, "battery_percent": 100.0, "why": "",
    }  # fmt: skip
    assert gauge({BUS: 0x4012, SHUNT: 0xFD87}, GaugeConfig(gauge=INA219)).status() == {
        "gauge": INA219, "battery_v": 8.2, "battery_ma": -63.3, "battery_percent": None, "why": "",
    }  # fmt: skip
