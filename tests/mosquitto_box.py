"""A real mosquitto on the loopback address: fetched where it may be, with a configuration of the test's own.

The program is that of the device, Debian 13's, unpacked with its own C library into the cache folder: no root is
needed, and no service is installed or started. Where that cannot be had, a mosquitto on PATH does.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import pytest

from hil.trixie import cache
from image.debian import Apt, UnavailableError, fetch, run

SUITES: Final = ("trixie", "bookworm")
"""Debian 13, which the device has, and 12, which a user's own box may have."""
READY_S: Final = 20.0
LOOK_S: Final = 0.02
KEPT_PREFIXES: Final = ("lib", "mosquitto", "zlib1g")


def ensure_mosquitto(suite: str = SUITES[0]) -> Path:
    """Return the program, fetched now if need be; the test is skipped, with the reason, where it cannot be had."""
    try:
        return _unpacked(suite)
    except UnavailableError as error:
        if suite == SUITES[0] and (found := shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin")):
            return Path(found)
        pytest.skip(f"no mosquitto of Debian {suite} can be had: {error}", allow_module_level=True)


def _unpacked(suite: str) -> Path:
    folder = cache() / f"mosquitto-{suite}"
    program = folder / "mosquitto"
    if program.is_file():
        return program
    cache().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache()) as name:
        fresh = Path(name) / "root"
        (Path(name) / "apt").mkdir()
        apt = Apt(Path(name) / "apt", run("dpkg", "--print-architecture").strip())
        sources = next((Path(name) / "apt").glob("*.list"))
        sources.write_text(sources.read_text("utf-8").replace(SUITES[0], suite), "utf-8")
        apt.update()
        wanted = [each for each in apt.closure(["mosquitto"]) if each.name.startswith(KEPT_PREFIXES)]
        debs = fetch(wanted, Path(name) / "debs")
        if len(debs) != len(wanted):
            raise UnavailableError("the mirror does not have all of its packages")
        for deb in debs.values():
            run("dpkg-deb", "--extract", str(deb), str(fresh))
        _wrapper(fresh, folder)
        with contextlib.suppress(OSError):  # another run was quicker
            fresh.rename(folder)
    return program


def _wrapper(fresh: Path, folder: Path) -> None:
    """Write what starts the program with the C library that came with it."""
    loader = next((each for each in sorted(fresh.glob("**/ld-linux*.so.*")) if each.is_file()), None)
    if loader is None:
        raise UnavailableError("its packages hold no loader")
    libraries = {str(folder / each.parent.relative_to(fresh)) for each in fresh.glob("**/lib*.so.*")}
    line = f'exec "{folder / loader.relative_to(fresh)}" --library-path "{":".join(sorted(libraries))}" '
    script = fresh / "mosquitto"
    script.write_text(f'#!/bin/sh\n{line}"{folder}/usr/sbin/mosquitto" "$@"\n', "utf-8")
    script.chmod(0o755)


def free_port() -> int:
    """Return a port of the loopback address that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Mosquitto:
    """One broker. Without a `listener` line it gets one, at a free port; with some, `port` is that of the first."""

    def __init__(
        self, folder: Path, config_lines: Iterable[str] = ("allow_anonymous true",), program: Path | None = None,
        inside: Sequence[str] = (), host: str = "127.0.0.1",
    ) -> None:  # fmt: skip
        """`folder` gets mosquitto.conf and mosquitto.log; `program` is that of `ensure_mosquitto` unless given.

        `inside`: words before the program's, such as those that put it into a network of its own; `host`: its address.
        """
        self._inside, self.host = tuple(inside), host
        self.folder, self._program = folder, program or ensure_mosquitto()
        lines = list(config_lines)
        named = [int(line.split()[1]) for line in lines if line.split()[:1] == ["listener"]]
        self._ports = named or [free_port()]
        self.port = self._ports[0]
        if not named:
            lines.insert(0, f"listener {self.port} 127.0.0.1")
        if os.geteuid() == 0 and not any(line.split()[:1] == ["user"] for line in lines):
            lines.append("user root")  # otherwise it becomes a user who may not read the test's folder
        folder.mkdir(parents=True, exist_ok=True)
        self.config, self._log = folder / "mosquitto.conf", folder / "mosquitto.log"
        self.config.write_text("\n".join(lines) + "\n", "utf-8")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def log(self) -> str:
        """Return what it has said since it was made."""
        return self._log.read_text("utf-8", "replace") if self._log.exists() else ""

    @property
    def pid(self) -> int:
        """Return its process; RuntimeError if it does not run."""
        if self._process is None:
            raise RuntimeError("mosquitto does not run")
        return self._process.pid

    def start(self) -> None:
        """Start it and return once it listens everywhere; RuntimeError with its words if it ends instead."""
        with self._log.open("ab") as log:
            command = [*self._inside, self._program, "-c", self.config]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline, waiting = time.monotonic() + READY_S, list(self._ports)
        while waiting:
            if self._process.poll() is not None:
                self._process = None
                raise RuntimeError(f"mosquitto ended: {self.log[-2000:]}")
            with contextlib.suppress(OSError), socket.create_connection((self.host, waiting[0]), 1):
                del waiting[0]
                continue
            if time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"mosquitto does not listen at {waiting[0]}: {self.log[-2000:]}")
            time.sleep(LOOK_S)

    def stop(self) -> None:
        """End it in good order: its clients are told, by a closed connection."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, frozen or not; nothing if it does not run."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Stop it where it is: connections stay open, and nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(how)
        if how is not signal.SIGKILL:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(READY_S)
        self._process.kill()
        self._process.wait()
        self._process = None
