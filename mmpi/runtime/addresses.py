"""Addresses: where a venue's host is, also while there is nobody who could be asked for it.

Invariant: a look-up never holds up a loop, takes at most LOOK_UP_S of anybody's time, and there is one at a time for a
host, however long the resolver is silent. What is remembered is only ever a hint: TLS checks the host's name.
It must not know connections or venues.
"""

import os
import socket
import threading
import time
from asyncio import wait, wrap_future
from collections.abc import Iterable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

LOOK_UP_S: Final = 2.0
"""For the resolver; later than this it is as good as dead, and what is remembered has to do."""
KNOWN_S: Final = 0.5
"""For the resolver where something is remembered: a stop does not wait longer for a fresher address."""
MAX_ADDRESSES: Final = 8
"""Remembered of one host, the most promising first. A content network answers with four, other ones each time."""
MAX_ANSWER: Final = 4
"""Taken of one answer, so that a wrong one, such as a captive portal's, cannot push out everything that worked."""
MAX_HOSTS: Final = 16
MAX_FILE: Final = 64 * 1024
"""Bytes read at most."""
WRITE_EVERY_S: Final = 60.0
"""The file is not written more often than that, however often the answers change: it lies on a memory card."""
MODE: Final = 0o640

Known: TypeAlias = dict[str, tuple[str, ...]]
Answer: TypeAlias = tuple[str, ...] | OSError | UnicodeError


class _File(msgspec.Struct, forbid_unknown_fields=True):
    hosts: dict[str, list[str]]


class Addresses:
    """The addresses of a few hosts, in memory and, once `keep_in` was called, in a file."""

    def __init__(self, path: Path | None = None) -> None:
        """Without a path nothing outlives the process."""
        self._path: Path | None = None
        self._known: Known = {}
        self._stored: dict[str, frozenset[str]] = {}
        self._looking: dict[str, Future[Answer]] = {}
        self._late: set[str] = set()
        """Hosts whose last look-up was not answered in time; they are not waited for again."""
        self._next_write = 0.0
        self._lock = threading.Lock()
        if path is not None:
            self.keep_in(path)

    def keep_in(self, path: Path) -> None:
        """Take what a file remembers, and remember in it from now on; one that cannot be read is as good as none."""
        with self._lock:
            self._path = path
            read = _read(path)
            self._stored = {host: frozenset(each) for host, each in read.items()}
            self._known = read | self._known

    async def of(self, host: str) -> tuple[str, ...]:
        """Return the addresses of a host, the most promising first.

        OSError or UnicodeError if it has none, or none is known within LOOK_UP_S.
        """
        if is_address(host):
            return (host,)
        looking = wrap_future(self._look_up(host))
        known = self._known.get(host)
        patience = LOOK_UP_S if known is None else 0.0 if host in self._late else KNOWN_S
        await wait({looking}, timeout=patience)
        if not looking.done():
            with self._lock:
                if host in self._looking:
                    self._late.add(host)
        answer = looking.result() if looking.done() else TimeoutError(f"{host}: no address within {LOOK_UP_S:g} s")
        if known := self._known.get(host):
            return known
        if isinstance(answer, tuple):
            return answer
        raise answer

    def worked(self, host: str, address: str) -> None:
        """Try this address first from now on."""
        self._move(host, address, first=True)

    def failed(self, host: str, address: str) -> None:
        """Try this address last from now on."""
        self._move(host, address, first=False)

    def _move(self, host: str, address: str, *, first: bool) -> None:
        with self._lock:
            known = self._known.get(host, ())
            if address in known:
                others = tuple(each for each in known if each != address)
                self._known[host] = (address, *others) if first else (*others, address)

    # Looking up, in a thread that may hang ------------------------------------------------------------------------

    def _look_up(self, host: str) -> "Future[Answer]":
        """Return the look-up that is under way, or a new one."""
        with self._lock:
            looking = self._looking.get(host)
            if looking is None:
                looking = self._looking[host] = Future()
                # A daemon: a resolver that is silent must not keep the process from ending.
                threading.Thread(target=self._ask, args=(host, looking), name="resolver", daemon=True).start()
            return looking

    def _ask(self, host: str, looking: "Future[Answer]") -> None:
        answer: Answer
        try:
            answer = _resolve(host)
        except (OSError, UnicodeError) as error:
            # UnicodeError: a name with a part that is empty or too long.
            answer = error
        with self._lock:
            if isinstance(answer, tuple):
                self._late.discard(host)
                self._known[host] = _merged(self._known.get(host, ()), answer)
                while len(self._known) > MAX_HOSTS:
                    del self._known[next(iter(self._known))]
            del self._looking[host]
        looking.set_result(answer)
        self._write()

    def _write(self) -> None:
        """Write the file if it would name other addresses than before."""
        with self._lock:
            known = {host: frozenset(each) for host, each in self._known.items()}
            now = time.monotonic()
            if self._path is None or known == self._stored or now < self._next_write:
                return
            self._stored, self._next_write = known, now + WRITE_EVERY_S
            data = msgspec.json.encode(_File({host: list(each) for host, each in self._known.items()}))
            path = self._path
        with suppress(OSError):
            # A full or broken disk costs the memory of the next start, not this connection.
            _replace(path, data + b"\n")


SHARED: Final = Addresses()
"""Of this process, as the resolver is: who looks up twice is answered once. A daemon calls `keep_in` when it starts."""


def is_address(host: str) -> bool:
    """Return whether a host is an address already."""
    for family in (socket.AF_INET, socket.AF_INET6):
        with suppress(OSError, ValueError):
            socket.inet_pton(family, host)
            return True
    return False


def _resolve(host: str) -> tuple[str, ...]:
    """Return a few addresses of a host by the system's resolver, in its order; OSError if there are none."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    addresses = tuple(dict.fromkeys(str(each[4][0]) for each in found))[:MAX_ANSWER]
    if not addresses:
        raise OSError(f"{host}: no address")
    return addresses


def _merged(known: tuple[str, ...], fresh: tuple[str, ...]) -> tuple[str, ...]:
    """Return fresh addresses first, in the order that experience gave them; then what was known before."""
    tried = tuple(each for each in known if each in fresh)
    new = tuple(each for each in fresh if each not in known)
    return (*tried, *new, *(each for each in known if each not in fresh))[:MAX_ADDRESSES]


def _read(path: Path) -> Known:
    """Return what a file remembers, {} if it cannot be read: it is a hint, and nobody is told to mend it."""
    try:
        with path.open("rb") as file:
            hosts = msgspec.json.decode(file.read(MAX_FILE), type=_File).hosts
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}
    sound = {host: _addresses(each) for host, each in list(hosts.items())[:MAX_HOSTS]}
    return {host: each for host, each in sound.items() if each}


def _addresses(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(each for each in texts if is_address(each)))[:MAX_ADDRESSES]


def _replace(path: Path, data: bytes) -> None:
    """Put data at path so that a cut at any moment leaves the old or the new content."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise
