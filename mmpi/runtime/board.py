"""Board: the two mapped files of the runtime folder, and the lock that keeps a second quoter out.

`halt` is written by the guardian and read by the quoter before every send; `status` is written by the quoter and read
by the guardian and everybody who shows it. A value is one aligned 8-byte word, stored and loaded in one machine
instruction (64-bit machines; `memoryview` copies a word with a fixed-size memcpy), so no reader sees half of it; texts
carry a CRC and the generation or sequence they belong to. Reading and writing touch memory only: there is no system
call and no lock in either, so neither side can delay the other.

Invariant: one writer per file (`mmpi kill` takes `halt` over when no guardian answers); a writer opens an existing file
in place, so that readers keep seeing it; whatever a reader cannot trust reads as PAUSED or None.
It must not know what a status says or why something halts.
"""

import fcntl
import mmap
import os
import zlib
from pathlib import Path
from typing import BinaryIO, Final

from mmpi.errors import ConfigError, RefusedError
from mmpi.instrument import SECOND, Nanos

RUN: Final = 0
PAUSED: Final = 1
LATCHED: Final = 2
REDUCE: Final = 3
"""Only what reduces a position may leave."""
STATE_NAMES: Final = {RUN: "run", PAUSED: "paused", LATCHED: "latched", REDUCE: "reduce"}

HALT_BYTES: Final = 4096
STATUS_BYTES: Final = 128 * 1024
"""Two halves, each with room for one status: a writer that is stopped in the middle of one leaves the other whole."""
HALT_MAGIC: Final = int.from_bytes(b"MMPIHLT1", "little")
STATUS_MAGIC: Final = int.from_bytes(b"MMPISTA2", "little")
TEXT_AT: Final = 64
"""Byte offset of a file's text; the words before it are numbered below."""
MAX_REASON: Final = HALT_BYTES - TEXT_AT
MAX_STATUS: Final = STATUS_BYTES // 2 - TEXT_AT
GUARDIAN_PATIENCE: Final[Nanos] = SECOND
"""A quoter never trades without a live guardian; this is fifty of its beats."""
RETRIES: Final = 8
"""Attempts of a reader whose text is replaced while it reads; one text takes microseconds."""

_MAGIC, _WORD, _REASON_GENERATION, _LENGTH, _CRC, _GUARDIAN_BEAT = 0, 1, 2, 3, 4, 5
_BEAT, _PID, _START, _ACKNOWLEDGED, _SEQUENCE, _STATUS_LENGTH, _STATUS_CRC = 1, 2, 3, 4, 5, 6, 7
_HALF: Final = STATUS_BYTES // 2 // 8
"""Words from one half's length and CRC to the other's."""
_SEED: Final = 0xFFFF_FFFF
"""A status's CRC begins with its sequence, so that an older one in the same half is none of this sequence."""


class HaltWord:
    """The word that forbids placing orders; the guardian gets one by `create`, everybody else by `open`."""

    def __init__(self, path: Path, view: memoryview | None) -> None:
        self.waived = False
        """Nobody guards yet, and nobody has to (reader only): the first sign of a guardian ends that for good."""
        self._path: Final = path
        self._inode = 0
        self._bytes = view
        self._words = view.cast("Q") if view is not None else None

    @classmethod
    def create(cls, path: Path) -> "HaltWord":
        """Return the writer's word, PAUSED with a generation of its own; ConfigError if the file cannot be made."""
        word = cls(path, _map_writable(path, HALT_BYTES))
        if word._load(_MAGIC) != HALT_MAGIC:
            word._store(_WORD, 0)
        word.set(PAUSED, "guardian starting")
        word._store(_MAGIC, HALT_MAGIC)
        return word

    @classmethod
    def open(cls, path: Path) -> "HaltWord":
        """Return a reader; without a file it reads as PAUSED until `refresh` finds one."""
        word = cls(path, None)
        word.refresh()
        return word

    def refresh(self) -> None:
        """Map the file that is at the path now (reader only); system calls, so once a heartbeat, not before a send."""
        inode = _inode(self._path)
        if inode == self._inode and inode:
            return
        view = _map_readable(self._path, HALT_BYTES, HALT_MAGIC)
        self._inode = inode if view is not None else 0
        self._bytes = view
        self._words = view.cast("Q") if view is not None else None

    def read(self) -> tuple[int, int]:
        """Return (state, generation) of one moment; generation 0 = no guardian has ever written."""
        word = self._load(_WORD)
        generation, state = word >> 8, word & 0xFF
        if generation == 0:
            return PAUSED, 0
        return (state if state in STATE_NAMES else LATCHED), generation

    @property
    def state(self) -> int:
        """Return RUN, PAUSED, LATCHED or REDUCE; an unknown value reads as LATCHED."""
        return self.read()[0]

    @property
    def generation(self) -> int:
        """Return how many times the word was set."""
        return self.read()[1]

    def permits(self, now_ns: int, *, reducing: bool = False) -> bool:
        """Return True if orders may leave at monotonic time `now_ns`: RUN, by a guardian that is alive.

        `reducing`: orders that can only reduce a position, which REDUCE lets pass as well.
        """
        if self.waived:
            return True
        state = self.read()[0]
        return (state == RUN or (reducing and state == REDUCE)) and self.is_guarded(now_ns)

    def is_guarded(self, now_ns: int) -> bool:
        """Return True if the guardian was alive just before monotonic time `now_ns`.

        A beat from the future is one from before a reboot: the folder may be on a disk.
        """
        return abs(now_ns - self._load(_GUARDIAN_BEAT)) <= GUARDIAN_PATIENCE

    @property
    def reason(self) -> str:
        """Return the text set with the present state, or "" while it is being changed."""
        if self._bytes is None or self._words is None:
            return "no guardian"
        for _ in range(RETRIES):
            generation = self.generation
            text = _checked(self._bytes, self._words[_LENGTH], self._words[_CRC], MAX_REASON)
            if text is not None and self._words[_REASON_GENERATION] == generation == self.generation:
                return text.decode("utf-8", "replace")
        return ""

    def set(self, state: int, reason: str) -> int:
        """Store state and reason (cut to fit), visible to every reader at once; return the new generation."""
        generation = self.generation + 1
        text = reason.encode("utf-8", "replace")[:MAX_REASON]
        assert self._bytes is not None
        self._bytes[TEXT_AT : TEXT_AT + len(text)] = text
        self._store(_LENGTH, len(text))
        self._store(_CRC, zlib.crc32(text))
        self._store(_REASON_GENERATION, generation)
        self._store(_WORD, generation << 8 | state)
        return generation

    def beat(self, now_ns: int) -> None:
        """Say that the guardian looked around at monotonic time `now_ns`."""
        self._store(_GUARDIAN_BEAT, now_ns)

    @property
    def beat_ns(self) -> int:
        """Return the monotonic time of the guardian's last beat, 0 without one."""
        return self._load(_GUARDIAN_BEAT)

    def _load(self, index: int) -> int:
        return self._words[index] if self._words is not None else 0

    def _store(self, index: int, value: int) -> None:
        assert self._words is not None
        self._words[index] = value


class StatusBoard:
    """The quoter's sign of life and status; the quoter gets one by `create`, everybody else by `open`."""

    def __init__(self, path: Path, view: memoryview) -> None:
        self._path: Final = path
        self._bytes: Final = view
        self._words: Final = view.cast("Q")
        self.dropped = 0
        """Status texts that were too large to publish."""

    @classmethod
    def create(cls, path: Path) -> "StatusBoard":
        """Return the writer's board, without beat and status; ConfigError if the file cannot be made."""
        board = cls(path, _map_writable(path, STATUS_BYTES))
        words = board._words
        for index in (_SEQUENCE, _BEAT, _PID, _START, _ACKNOWLEDGED, _STATUS_CRC, _HALF + _STATUS_CRC):
            words[index] = 0
        words[_START] = process_start(os.getpid()) or 0
        words[_PID] = os.getpid()
        words[_MAGIC] = STATUS_MAGIC
        return board

    @classmethod
    def open(cls, path: Path) -> "StatusBoard | None":
        """Return a reader, or None if no quoter has made the file yet."""
        view = _map_readable(path, STATUS_BYTES, STATUS_MAGIC)
        return cls(path, view) if view is not None else None

    def beat(self, now_ns: int) -> None:
        """Say that an event was handled or a timer answered at monotonic time `now_ns`."""
        self._words[_BEAT] = now_ns

    def acknowledge(self, generation: int) -> None:
        """Say that the halt word of this generation was seen and is obeyed."""
        self._words[_ACKNOWLEDGED] = generation

    def publish(self, status: bytes) -> None:
        """Replace the status text; one of more than MAX_STATUS bytes is counted in `dropped` instead."""
        if len(status) > MAX_STATUS:
            self.dropped += 1
            return
        words = self._words
        sequence = words[_SEQUENCE] + 1
        half = sequence % 2 * _HALF
        begin = half * 8 + TEXT_AT
        self._bytes[begin : begin + len(status)] = status
        words[half + _STATUS_LENGTH] = len(status)
        words[half + _STATUS_CRC] = zlib.crc32(status, sequence & _SEED)
        words[_SEQUENCE] = sequence

    @property
    def beat_ns(self) -> int:
        """Return the monotonic time of the last beat, 0 before the first."""
        return self._words[_BEAT]

    @property
    def pid(self) -> int:
        """Return the quoter's process id, 0 while it starts."""
        return self._words[_PID]

    @property
    def start_time(self) -> int:
        """Return the quoter's `process_start`, which tells it from a later process with the same id."""
        return self._words[_START]

    @property
    def acknowledged(self) -> int:
        """Return the generation of the halt word that the quoter obeys."""
        return self._words[_ACKNOWLEDGED]

    def read(self) -> bytes | None:
        """Return the newest whole status text, or None if there is none, or only what a foreign hand has damaged."""
        words = self._words
        for _ in range(RETRIES):
            sequence = words[_SEQUENCE]
            if sequence == 0:
                return None
            half = sequence % 2 * _HALF
            view = self._bytes[half * 8 : half * 8 + STATUS_BYTES // 2]
            length, crc = words[half + _STATUS_LENGTH], words[half + _STATUS_CRC]
            text = _checked(view, length, crc, MAX_STATUS, sequence & _SEED)
            if text is not None:
                return text or None
        return None


def process_start(pid: int) -> int | None:
    """Return a process's start time in clock ticks since boot, None if there is no such process.

    Source: proc_pid_stat(5), field 22; the second field may hold spaces and brackets, so it is cut off first.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    return int(stat.rpartition(b")")[2].split()[19])


def lock(path: Path, what: str = "quoter") -> BinaryIO:
    """Return the locked file, to be kept open for life; RefusedError if another process of that kind holds it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Not even readable for the group: whoever can open it could hold the lock and keep the daemon from starting.
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b", buffering=0)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = file.read(16).decode("ascii", "replace").strip()
        file.close()
        raise RefusedError(f"another {what} is running (pid {pid or 'unknown'})") from None
    file.truncate(0)
    file.write(b"%d\n" % os.getpid())
    return file


def _map_writable(path: Path, size: int) -> memoryview:
    """Return the file's memory, in place if it exists; reserved, as touching a full tmpfs would kill with SIGBUS."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # The service's group may read it (architecture section 3); by hand the folder keeps everybody out.
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o640)
        try:
            os.posix_fallocate(fd, 0, size)
            return memoryview(mmap.mmap(fd, size))
        finally:
            os.close(fd)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; the runtime folder must be writable") from None


def _map_readable(path: Path, size: int, magic: int) -> memoryview | None:
    """Return the file's memory, or None unless its writer has finished making it."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        if os.fstat(fd).st_size < size:
            return None
        view = memoryview(mmap.mmap(fd, size, prot=mmap.PROT_READ))
    except OSError:
        return None
    finally:
        os.close(fd)
    return view if view.cast("Q")[_MAGIC] == magic else None


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except OSError:
        return 0


def _checked(view: memoryview, length: int, crc: int, limit: int, seed: int = 0) -> bytes | None:
    """Return the text, or None if it does not match its CRC, which begins with `seed`."""
    if length > limit:
        return None
    text = bytes(view[TEXT_AT : TEXT_AT + length])
    return text if zlib.crc32(text, seed) == crc else None
