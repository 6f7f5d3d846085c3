"""Latch: the durable kill switch (I3).

Invariant: whatever cannot be read as an explicit, intact "armed" is latched.
It must not know who presses or what stops.
"""

import threading
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from mmpi.device import durable
from mmpi.errors import DeviceError
from mmpi.instrument import Nanos

VERSION: Final = 2
LATCHED: Final = "latched"
ARMED: Final = "armed"
MAX_TEXT: Final = 500
"""Characters kept of a reason or a name."""
MAX_FILE: Final = 16 * 1024
"""Bytes read at most: two texts of MAX_TEXT characters, a character at most 6 bytes of JSON, and the rest."""


class LatchState(msgspec.Struct, frozen=True):
    """The switch as it stands. `valid` False: the file is absent or bad, `reason` says which, the rest is empty."""

    latched: bool
    reason: str
    generation: int = 0
    by: str = ""
    at: Nanos = 0
    scope: str = ""
    """What it was armed for (account and configuration); of a latch, what it was armed for before."""
    valid: bool = True


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    state: str
    generation: int
    reason: str
    by: str
    at: Nanos
    scope: str
    crc: int


class Latch:
    """The latch file at `path`. Calls block on the disk: run them in a thread. One process at a time may write it."""

    def __init__(self, path: Path) -> None:
        self.path: Final = path
        self._lock: Final = threading.Lock()

    def load(self) -> LatchState:
        """Return the state on disk; never raises."""
        try:
            with self.path.open("rb") as file:
                data = file.read(MAX_FILE + 1)
        except FileNotFoundError:
            return _invalid(f"{self.path} does not exist: never armed")
        except OSError as error:
            return _invalid(f"{self.path} cannot be read: {error.strerror}")
        problem, content = _parse(data)
        if content is None:
            return _invalid(f"{self.path} is not trusted: {problem}")
        return LatchState(
            content.state == LATCHED, content.reason, content.generation, content.by, content.at, content.scope
        )

    def trip(self, by: str, reason: str, now: Nanos) -> LatchState:
        """Return the latched state once it is on disk; DeviceError if it could not be written.

        An earlier latch stays as it is, with its reason.
        """
        with self._lock:
            before = self.load()
            if before.valid and before.latched:
                return before
            try:
                return self._store(LATCHED, before.generation + 1, by, reason, now, before.scope)
            except DeviceError:
                # A full disk still lets a file go, and no file at all is latched.
                with suppress(OSError):
                    self.path.unlink()
                raise

    def arm(self, by: str, reason: str, now: Nanos, scope: str = "") -> LatchState:
        """Return the armed state once it is on disk; DeviceError if that could not be confirmed: then it is latched.

        `scope` names what it is armed for; "" = anything that asks for no name.
        """
        with self._lock:
            try:
                return self._store(ARMED, self.load().generation + 1, by, reason, now, scope)
            except DeviceError:
                # The rename may have happened although its fsync failed; no file at all is latched for certain.
                if not self.load().latched:
                    with suppress(OSError):
                        self.path.unlink()
                raise

    def _store(self, state: str, generation: int, by: str, reason: str, now: Nanos, scope: str) -> LatchState:
        content = _File(VERSION, state, generation, _tidy(reason), _tidy(by), now, _tidy(scope), 0)
        try:
            durable.replace(self.path, _encode(content))
        except OSError as error:
            raise DeviceError(f"{self.path}: the latch was not written ({state}): {error.strerror}") from error
        return LatchState(state == LATCHED, content.reason, generation, content.by, now, content.scope)


def _encode(content: _File) -> bytes:
    """Return the only bytes that stand for this content."""
    return msgspec.json.encode(msgspec.structs.replace(content, crc=_crc(content))) + b"\n"


def _crc(content: _File) -> int:
    return zlib.crc32(msgspec.json.encode(msgspec.structs.replace(content, crc=0)))


def _parse(data: bytes) -> tuple[str, _File | None]:
    """Return ("", content), or the reason why the bytes are not exactly what `_encode` writes."""
    if not data:
        return "it is empty", None
    try:
        content = msgspec.json.decode(data, type=_File)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        return f"it is not a latch record ({error})", None
    if content.version != VERSION:
        return f"its version is {content.version}, not {VERSION}", None
    if content.state not in (LATCHED, ARMED):
        return f"its state is {content.state!r}", None
    if content.crc != _crc(content):
        return "its CRC does not match", None
    return ("", content) if data == _encode(content) else ("its bytes are not canonical", None)


def _invalid(reason: str) -> LatchState:
    return LatchState(latched=True, reason=reason, valid=False)


def _tidy(text: str) -> str:
    """Return text that always encodes and fits: a latch must not fail for its wording."""
    return text[:MAX_TEXT].encode("utf-8", "replace").decode()
