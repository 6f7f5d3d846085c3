"""Host facts: what machine this is and how it does, for whoever looks into an incident elsewhere.

Invariant: what cannot be read is a sentence that says why, never an error. It must not know what the facts are for.
"""

import os
import platform
import sys
from collections.abc import Callable
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from mmpi.device.boot import boot_id
from mmpi.device.host_health import temperature_c
from mmpi.errors import MmpiError
from mmpi.runtime.build import build_id

PACKAGES: Final = ("msgspec", "websockets", "coincurve", "safe-pysha3", "gpiod", "gpiozero", "psutil", "backports.zstd")
LOCK: Final = Path(__file__).parents[2] / "requirements" / "run.txt"
"""Of a checkout; an installation by wheel has none."""
_MEMORY: Final = ("MemTotal", "MemFree", "MemAvailable", "SwapTotal", "SwapFree")


def host_facts(folders: dict[str, Path], proc: Path = Path("/proc"), sysfs: Path = Path("/sys")) -> dict[str, Any]:
    """Return the machine's facts; `folders`: name -> where to look at the disk."""
    facts: dict[str, Callable[[], Any]] = {
        "kernel": lambda: " ".join(platform.uname()[:1] + platform.uname()[2:4]),
        "machine": platform.machine,
        "model": lambda: _text(proc / "device-tree/model"),
        "cpu": lambda: _cpu(proc),
        "cores": os.cpu_count,
        "boot_id": lambda: boot_id(proc),
        "uptime_s": lambda: float(_text(proc / "uptime").split()[0]),
        "load": lambda: _text(proc / "loadavg"),
        "memory_kb": lambda: _memory(proc),
        "temperature_c": lambda: temperature_c(sysfs),
        **{f"disk_{name}": _disk_of(folder) for name, folder in folders.items()},
    }
    return {name: _told(read) for name, read in facts.items()}


def versions() -> dict[str, Any]:
    """Return which code made a bundle, and on what it ran."""
    return {
        "mmpi": build_id(),
        "python": sys.version,
        "implementation": platform.python_implementation(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "lock": _told(lambda: {"file": LOCK.name, "sha256": sha256(LOCK.read_bytes()).hexdigest()}),
    }


def _told(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except (MmpiError, OSError, ValueError, LookupError) as error:
        return f"UNAVAILABLE: {error}"


def _disk_of(folder: Path) -> Callable[[], dict[str, Any]]:
    def read() -> dict[str, Any]:
        disk = os.statvfs(folder)
        return {
            "folder": str(folder),
            "bytes": disk.f_blocks * disk.f_frsize,
            "free_bytes": disk.f_bavail * disk.f_frsize,
            "free_files": disk.f_favail,
            "read_only": bool(disk.f_flag & os.ST_RDONLY),
        }

    return read


def _cpu(proc: Path) -> str:
    """Return the processor's name; x86 says "model name", a Pi's kernel "Model" of the board or only part numbers."""
    lines = [line.partition(":") for line in _text(proc / "cpuinfo").splitlines()]
    told = {name.strip(): value.strip() for name, _, value in reversed(lines)}
    for name in ("model name", "Model", "Hardware", "CPU part"):
        if told.get(name):
            return told[name]
    raise ValueError(f"{proc / 'cpuinfo'} names no processor")


def _memory(proc: Path) -> dict[str, int]:
    lines = [line.partition(":") for line in _text(proc / "meminfo").splitlines()]
    return {name: int(value.split()[0]) for name, _, value in lines if name in _MEMORY}


def _text(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "replace").strip("\0\n ")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
