"""Bundle writer: a bundle (mmpi.journal.bundle) on its way to the disk.

Invariant: the file appears whole under its name, for its owner only, or not at all; what is there is never replaced.
It must not know what is worth putting into one.
"""

import errno
import hashlib
import os
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final

import msgspec

from mmpi.device.durable import sync_folder
from mmpi.errors import ConfigError, DeviceError
from mmpi.journal.bundle import CHUNK, MANIFEST, Entry, Manifest

MODE: Final = 0o600


class BundleWriter:
    """A bundle on its way; `finish` gives it its name. As a context manager it leaves nothing behind otherwise."""

    def __init__(self, out: Path) -> None:
        """Begin one beside `out`; ConfigError if it is there already, or cannot be made there."""
        self.out: Final = out
        self.files: Final[list[Entry]] = []
        self._part: Final = out.with_name(f".{out.name}.{os.getpid()}.part")
        if out.exists() or out.is_symlink():
            raise ConfigError(f"--out {out}: exists; allowed: a new file")
        try:
            fd = os.open(self._part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, MODE)
        except OSError as error:
            raise ConfigError(f"--out {out}: cannot be made: {error.strerror}") from None
        self._file: Final[IO[bytes]] = os.fdopen(fd, "w+b")
        self._zip: Final = zipfile.ZipFile(self._file, "w")

    def __enter__(self) -> "BundleWriter":
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError, ValueError):
            self._zip.close()
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            self._part.unlink()

    def add_text(self, name: str, data: bytes) -> None:
        """Put a small file in."""
        with self._told():
            self._zip.writestr(_info(name, zipfile.ZIP_DEFLATED), data)
        self.files.append(Entry(name, len(data), hashlib.sha256(data).hexdigest()))

    def add_segment(self, name: str, source: IO[bytes], about: Entry, moved: Callable[[int], None]) -> None:
        """Put a segment in as it is now; `moved` is told of the bytes. What grows meanwhile is taken as it was."""
        left, digest = os.fstat(source.fileno()).st_size, hashlib.sha256()
        size = 0
        with self._told(), self._zip.open(_info(name, zipfile.ZIP_STORED), "w", force_zip64=True) as target:
            while left and (chunk := source.read(min(CHUNK, left))):
                target.write(chunk)
                digest.update(chunk)
                size, left = size + len(chunk), left - len(chunk)
                moved(len(chunk))
        self.files.append(msgspec.structs.replace(about, name=name, bytes=size, sha256=digest.hexdigest()))

    def finish(self, manifest: Manifest) -> int:
        """Write the manifest, and give the file its name, durable by the return; return its size."""
        told = msgspec.structs.replace(manifest, files=tuple(self.files))
        with self._told():
            self._zip.writestr(
                _info(MANIFEST, zipfile.ZIP_DEFLATED), msgspec.json.format(msgspec.json.encode(told), indent=2)
            )
            self._zip.close()
            self._file.flush()
            os.fsync(self._file.fileno())
            size = os.fstat(self._file.fileno()).st_size
            # A link does not replace what somebody else has put there meanwhile.
            try:
                os.link(self._part, self.out)
            except FileExistsError:
                raise ConfigError(f"--out {self.out}: exists; allowed: a new file") from None
            except OSError as error:
                if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
                    raise
                self._part.rename(self.out)
            sync_folder(self.out.parent)
        return size

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DeviceError(f"--out {self.out}: cannot be written: {error.strerror or error}") from None


def _info(name: str, packing: int) -> zipfile.ZipInfo:
    now = time.gmtime()
    info = zipfile.ZipInfo(name, (max(1980, now.tm_year), *now[1:6]))
    info.compress_type = packing
    info.external_attr = MODE << 16
    return info
