"""NBD log: nbdkit's plugin for a disk that notes every request, and that gets into trouble when it is told to.

    nbdkit -f -U SOCKET python nbd_log.py file=IMAGE log=LOG control=SOCKET

The disk's present content lies in the image; what of it a power cut would have left follows from the log
(hil/power_cut.py). Orders come on the control socket, one JSON object a line, answered by a line each: {"mark": label},
{"cut": true}, {"fail_writes": bool}, {"fail_flushes": bool}, {"slow_flush_s": seconds}.

Invariant: requests are done one after the other, and each is noted before it is answered; an order counts from its
answer on. It must not know what is on the disk. It runs in nbdkit's own Python, with nothing but the standard library.

Source: nbdkit-python-plugin(3), nbdkit-plugin(3).
"""

import errno
import json
import os
import socket
import threading
from pathlib import Path
from typing import Any, Final

import nbdkit  # type: ignore[import-not-found]  # only inside nbdkit

from hil.disk_log import CUT, FLUSH, MARK, TRIM, WRITE, ZERO, LogWriter, Request

API_VERSION: Final = 2
FAULTS: Final = ("fail_writes", "fail_flushes", "slow_flush_s")
_options: Final[dict[str, Path]] = {}


class _Disk:
    """The image, its log, and the troubles that are on."""

    def __init__(self, image: Path, log: Path) -> None:
        self._image: Final = os.open(image, os.O_RDWR | os.O_CLOEXEC)
        self.size: Final = os.fstat(self._image).st_size
        self._log: Final = LogWriter(log)
        self._orders: Final = threading.Condition()
        self._faults: Final[dict[str, float]] = dict.fromkeys(FAULTS, 0)
        self._is_cut = False

    def read(self, buffer: memoryview, offset: int) -> None:
        with self._orders:
            self._refuse_if(self._is_cut)
        if os.preadv(self._image, [buffer], offset) != len(buffer):
            raise OSError(errno.EIO, "short read")

    def change(self, request: Request, data: bytes | bytearray | memoryview) -> None:
        with self._orders:
            refused = self._is_cut or bool(self._faults["fail_writes"])
            if not refused and os.pwrite(self._image, data, request.offset) != len(data):
                raise OSError(errno.EIO, "short write")
            self._log.add(request._replace(failed=refused), data if request.kind == WRITE else b"")
            self._refuse_if(refused)

    def flush(self) -> None:
        with self._orders:
            # An order that ends the slowness ends this wait, too: whoever ends the disk need not sit it out.
            self._orders.wait_for(lambda: self._is_cut or not self._faults["slow_flush_s"], self._slow_s())
            refused = self._is_cut or bool(self._faults["fail_flushes"])
            self._log.add(Request(FLUSH, failed=refused))
            self._refuse_if(refused)

    def obey(self, order: dict[str, Any]) -> None:
        """Carry out an order; a mark that comes while a flush is slow stands before that flush."""
        with self._orders:
            for name, value in order.items():
                if name == MARK:
                    self._log.add(Request(MARK, label=value))
                elif name == CUT:
                    self._is_cut = True
                    self._log.add(Request(CUT))
                else:
                    self._faults[FAULTS[FAULTS.index(name)]] = value
            self._orders.notify_all()

    def _slow_s(self) -> float:
        return self._faults["slow_flush_s"]

    @staticmethod
    def _refuse_if(refused: bool) -> None:
        if refused:
            nbdkit.set_error(errno.EIO)
            raise OSError(errno.EIO, "as ordered")


_disk: _Disk


def config(key: str, value: str) -> None:
    """Take an argument of the command line."""
    _options[key] = Path(value)


def config_complete() -> None:
    """Open the disk, and take orders from now on."""
    global _disk
    _disk = _Disk(_options["file"], _options["log"])


def after_fork() -> None:
    """Begin to take orders; nbdkit already listens for the disk's user by now."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(_options["control"]))
    server.listen()
    threading.Thread(target=_accept, args=(server,), name="control", daemon=True).start()


def _accept(server: socket.socket) -> None:
    while True:
        connection, _ = server.accept()
        threading.Thread(target=_serve, args=(connection,), name="orders", daemon=True).start()


def _serve(connection: socket.socket) -> None:
    with connection, connection.makefile("rwb", buffering=0) as stream:
        for line in stream:
            try:
                _disk.obey(json.loads(line))
            except (ValueError, AttributeError, TypeError) as error:
                stream.write(f"no: {error}\n".encode())
            else:
                stream.write(b"ok\n")


def thread_model() -> int:
    """Return how many requests run at once: one, so that the log's order is the disk's."""
    return int(nbdkit.THREAD_MODEL_SERIALIZE_ALL_REQUESTS)


def open(readonly: bool) -> int:
    """Return a connection's handle; all see the same disk."""
    del readonly
    return 1


def get_size(_handle: int) -> int:
    """Return the disk's size in bytes."""
    return _disk.size


def can_write(_handle: int) -> bool:
    """Return that the disk is no read-only one."""
    return True


def can_flush(_handle: int) -> bool:
    """Return that there is a cache to be flushed."""
    return True


def can_trim(_handle: int) -> bool:
    """Return that sectors can be given back."""
    return True


def can_zero(_handle: int) -> bool:
    """Return that zeros need not be sent."""
    return True


def can_fua(_handle: int) -> int:
    """Return that a write that must be safe at once comes marked, instead of with a flush after it."""
    return int(nbdkit.FUA_NATIVE)


def pread(_handle: int, buf: memoryview, offset: int, _flags: int) -> None:
    """Fill the buffer from the disk."""
    _disk.read(buf, offset)


def pwrite(_handle: int, buf: memoryview, offset: int, flags: int) -> None:
    """Write the buffer to the disk."""
    _disk.change(Request(WRITE, offset, len(buf), fua=_is_forced(flags)), buf)


def zero(_handle: int, count: int, offset: int, flags: int) -> None:
    """Write zeros."""
    _disk.change(Request(ZERO, offset, count, fua=_is_forced(flags)), bytes(count))


def trim(_handle: int, count: int, offset: int, flags: int) -> None:
    """Give sectors back."""
    _disk.change(Request(TRIM, offset, count, fua=_is_forced(flags)), bytes(count))


def flush(_handle: int, _flags: int) -> None:
    """Make all that was written safe."""
    _disk.flush()


def _is_forced(flags: int) -> bool:
    return bool(flags & nbdkit.FLAG_FUA)
