"""Journal export: a journal as Parquet files, one for each table, a few thousand rows at a time.

Invariant: the files appear together when all are whole, or not at all; memory does not grow with the journal.
It must not know what a row means. Import it only where the research extra is installed.
"""

import os
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from mmpi.device.durable import sync_folder
from mmpi.errors import ConfigError, DeviceError, JournalError
from mmpi.journal.reader import Segment, read
from mmpi.journal.record import Header, Record
from mmpi.journal.survey import settled
from mmpi.research.journal_schemas import SCHEMAS
from mmpi.research.journal_tables import Row, RowMaker
from mmpi.runtime.build import build_id

SUFFIX: Final = ".parquet"
PART: Final = ".part"
GROUP_ROWS: Final = 8192
GROUP_BYTES: Final = 8 * 2**20
"""Of JSON: checkpoints are large."""


class Exported(msgspec.Struct, frozen=True):
    """What was written, and what had to be left out."""

    rows: dict[str, int]
    damage: tuple[str, ...]


class Table:
    """One file, written in groups of rows."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.rows = 0
        self._schema: Final = schema.with_metadata({"mmpi": build_id()})
        self._writer: Final = pq.ParquetWriter(path, self._schema, compression="zstd")
        self._waiting: list[Row] = []
        self._bytes = 0

    def add(self, row: Row) -> None:
        """Take one row."""
        self._waiting.append(row)
        self._bytes += len(row.get("json") or "")
        if len(self._waiting) >= GROUP_ROWS or self._bytes >= GROUP_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write the rows that wait; JournalError for a number that fits no column."""
        if not self._waiting:
            return
        try:
            columns: list[Any] = [
                pa.array([row.get(field.name) for row in self._waiting], field.type) for field in self._schema
            ]
        except (pa.ArrowException, OverflowError) as error:
            raise JournalError(f"a row cannot be written: {error}") from None
        self._writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=self._schema))
        self.rows += len(self._waiting)
        self._waiting, self._bytes = [], 0

    def close(self) -> None:
        """Write what waits, and finish the file."""
        self.flush()
        self._writer.close()

    def abandon(self) -> None:
        """Give the file up, without a word about what is wrong with it."""
        with suppress(OSError):
            self._writer.close()
        # Otherwise it is tried again, and complained about, when nobody listens any more.
        self._writer.is_open = False


def export(parts: Iterable[tuple[str, Path]], folder: Path, moved: Callable[[int], None] = lambda _: None) -> Exported:
    """Write the journals (what to put before their segments' names, where they are) into a new or empty folder.

    `moved` is told of the bytes of each segment that is begun. ConfigError for a folder that is not empty, DeviceError
    if the disk does not take it; then nothing is left.
    """
    made = _make(folder)
    part = folder / PART
    done: list[Path] = []
    try:
        part.mkdir()
        report = _write(parts, part, moved)
        for name in SCHEMAS:
            (part / f"{name}{SUFFIX}").rename(folder / f"{name}{SUFFIX}")
            done.append(folder / f"{name}{SUFFIX}")
        part.rmdir()
        sync_folder(folder)
    except BaseException as error:
        shutil.rmtree(part, ignore_errors=True)
        for path in done:
            path.unlink(missing_ok=True)
        for path in reversed(made):
            with suppress(OSError):
                path.rmdir()
        if isinstance(error, OSError):
            raise DeviceError(f"--parquet {folder}: cannot be written: {error.strerror or error}") from None
        raise
    return report


def _write(parts: Iterable[tuple[str, Path]], folder: Path, moved: Callable[[int], None]) -> Exported:
    tables: dict[str, Table] = {}
    damage: list[str] = []
    try:
        for name, schema in SCHEMAS.items():
            tables[name] = Table(folder / f"{name}{SUFFIX}", schema)
        for prefix, path in parts:
            _read(prefix, path, tables, damage, moved)
        for table in tables.values():
            table.close()
    except BaseException:
        for table in tables.values():
            table.abandon()
        raise
    return Exported({name: table.rows for name, table in tables.items()}, tuple(damage))


def _read(
    prefix: str, path: Path, tables: dict[str, Table], damage: list[str], moved: Callable[[int], None]
) -> None:
    header: Header | None = None
    maker = RowMaker()
    for item in settled(read(path)):
        if isinstance(item, Segment):
            header = item.header
            moved(os.stat(item.path).st_size if item.path.exists() else 0)
        elif isinstance(item, Record):
            assert header is not None
            for name, row in maker.rows(item, header, prefix):
                tables[name].add(row)
        else:
            damage.append(f"{prefix}{item}")
            text = msgspec.json.encode({"text": str(item)}).decode()
            kind = type(item).__name__.lower()
            tables["others"].add({"segment": prefix + item.segment, "offset": item.offset, "kind": kind, "json": text})


def _make(folder: Path) -> list[Path]:
    """Make a folder and what is above it; return what was made. ConfigError unless it is new or empty."""
    if folder.is_dir() and not any(folder.iterdir()):
        return []
    if folder.exists() or folder.is_symlink():
        what = "not empty" if folder.is_dir() else "no folder"
        raise ConfigError(f"--parquet {folder}: exists and is {what}; allowed: a new or empty folder")
    made: list[Path] = []
    try:
        for path in [*reversed(folder.absolute().parents), folder.absolute()]:
            if not path.exists():
                path.mkdir()
                made.append(path)
    except OSError as error:
        for path in reversed(made):
            with suppress(OSError):
                path.rmdir()
        raise ConfigError(f"--parquet {folder}: cannot be made: {error.strerror}") from None
    return made
