"""Incident facts: what a bundle says of a box beside its journal: configuration, versions, machine, latch, last words.

Invariant: every text goes through mmpi.runtime.redact; a fact that cannot be had is told, with the reason.
It must not know segments.
"""

import json
import zlib
from pathlib import Path
from typing import Final

import msgspec

from mmpi.device.latch import MAX_FILE
from mmpi.errors import MmpiError
from mmpi.journal.bundle import Missing
from mmpi.journal.runs import Runs
from mmpi.runtime.board import StatusBoard
from mmpi.runtime.host_facts import host_facts, versions
from mmpi.runtime.incident import Window
from mmpi.runtime.redact import redacted
from mmpi.sections import PathSettings

CONFIG: Final = "config.json"
MAX_CONFIG: Final = 4 * 2**20
_UNKNOWN: Final = "unknown"


class _Roots(msgspec.Struct, frozen=True):
    proc_root: str = "/proc"
    sysfs_root: str = "/sys"


class _Config(msgspec.Struct, frozen=True):
    """What is needed of a resolved configuration, whatever version wrote it."""

    device_id: str = _UNKNOWN
    digest: str = ""
    host: _Roots = _Roots()


class Facts:
    """The texts of a bundle; `paths` None = the journal is not this box's, and neither are its files."""

    def __init__(self, paths: PathSettings | None, runs: Runs, window: Window) -> None:
        self.texts: Final[dict[str, bytes]] = {}
        self.missing: Final[list[Missing]] = []
        self.redacted: Final[list[str]] = []
        self.device_id = _UNKNOWN
        present = self._configs(paths, runs, window)
        self.put("versions.json", json.dumps(versions()).encode())
        if paths is None:
            self.missing.append(Missing("facts of the box", "PATH was given: the journal may be another box's"))
            return
        folders = {"state": Path(paths.state_dir), "runtime": Path(paths.runtime_dir)}
        roots = present.host
        host = host_facts(folders, Path(roots.proc_root), Path(roots.sysfs_root))
        self.put("host.json", json.dumps(host).encode())
        for path in (paths.boot, paths.latch):
            self._file(path.name, path, MAX_FILE)
        self._status(paths.status)

    def put(self, name: str, data: bytes) -> None:
        """Keep a text, without secrets."""
        self.texts[name], hidden = redacted(data)
        if hidden:
            self.redacted.append(name)

    def _file(self, name: str, path: Path, limit: int) -> bytes:
        """Keep a file of the box; return its bytes as they are, b"" without it."""
        try:
            with path.open("rb") as file:
                data = file.read(limit)
        except OSError as error:
            self.missing.append(Missing(name, f"{path}: {error.strerror}"))
            return b""
        self.put(name, data)
        return data

    def _status(self, path: Path) -> None:
        try:
            board = StatusBoard.open(path)
            text = board.read() if board is not None else None
        except (MmpiError, OSError, ValueError) as error:
            self.missing.append(Missing("status.json", f"{path}: {error}"))
            return
        if text:
            self.put("status.json", text)
        else:
            self.missing.append(Missing("status.json", f"{path}: no quoter has shown anything"))

    def _configs(self, paths: PathSettings | None, runs: Runs, window: Window) -> _Config:
        """Keep the present configuration, and those of the window's runs that are not the same; return the present."""
        resolved = None if paths is None else Path(paths.runtime_dir) / CONFIG
        data = b""
        if resolved is not None and (resolved.exists() or not runs.configs):
            data = self._file(CONFIG, resolved, MAX_CONFIG)
        if not data and runs.configs:
            data = self._packed(CONFIG, list(runs.configs.values())[-1])
        elif resolved is None and not data:
            self.missing.append(Missing(CONFIG, "PATH was given, and there is no ledger in it"))
        present = _parsed(data)
        self.device_id = present.device_id
        for digest in _digests(runs, window) - {present.digest}:
            name = f"config-{digest[:16]}.json"
            if digest in runs.configs:
                earlier = _parsed(self._packed(name, runs.configs[digest]))
                self.device_id = earlier.device_id if self.device_id == _UNKNOWN else self.device_id
            else:
                self.missing.append(Missing(name, "a run of that time had this configuration; the ledger has no text"))
        return present

    def _packed(self, name: str, packed: bytes) -> bytes:
        """Keep a configuration of the ledger; return it as it is, b"" if it cannot be unpacked."""
        try:
            data = zlib.decompressobj().decompress(packed, MAX_CONFIG)
        except zlib.error as error:
            self.missing.append(Missing(name, f"the ledger's text cannot be unpacked: {error}"))
            return b""
        self.put(name, data)
        return data


def _digests(runs: Runs, window: Window) -> set[str]:
    """Return the configurations of the runs that were going on in the window."""
    ends = [*(told.run.at for told in runs.told[1:]), window.last]
    return {
        told.run.digest
        for told, end in zip(runs.told, ends, strict=False)
        if told.run.at <= window.last and end >= window.first
    }


def _parsed(data: bytes) -> _Config:
    try:
        return msgspec.json.decode(data, type=_Config) if data else _Config()
    except (msgspec.MsgspecError, ValueError):
        return _Config()
