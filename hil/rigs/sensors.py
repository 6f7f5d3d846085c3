"""Sensors: what a rig puts in the place of the kernel's files, below its own root of sysfs.

Invariant: names and units are the kernel's (mmpi/device/host_health.py has the sources). It must not know machines.
"""


def told(celsius: float, weak: bool) -> dict[str, str]:
    """Return the files' texts by their paths: the processor's temperature, and whether the supply is too weak."""
    return {
        "class/thermal/thermal_zone0/type": "cpu-thermal",
        "class/thermal/thermal_zone0/temp": f"{celsius * 1000:.0f}",
        "class/hwmon/hwmon0/name": "rpi_volt",
        "class/hwmon/hwmon0/in0_lcrit_alarm": str(int(weak)),
    }
