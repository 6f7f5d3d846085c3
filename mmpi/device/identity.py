"""Identity: the instance id of this box and the epoch of this run, from which every ClOrdId is made (I2).

Invariant: an epoch is on disk before it is used, so no two runs of a box ever share an id.
It must not know orders.
"""

import os
import secrets
from pathlib import Path
from typing import Final

from mmpi.device.durable import sync_folder
from mmpi.errors import DeviceError

INSTANCE_FILE: Final = "instance"
EPOCH_FILE: Final = "epoch"
MAX_EPOCH: Final = 2**32 - 1
"""Four bytes; one more would begin to repeat ids."""


def instance_id(state_dir: Path) -> str:
    """Return "0x" and this box's 4-byte id in hex; made once, durable. DeviceError if it cannot be kept."""
    path = state_dir / INSTANCE_FILE
    try:
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists():
            _replace(path, secrets.token_hex(4), exclusive=True)
        text = path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise DeviceError(f"{path}: the instance id cannot be kept: {error}") from None
    if len(text) != 8 or any(digit not in "0123456789abcdef" for digit in text):
        raise DeviceError(f"{path}: {text[:20]!r} is no instance id; allowed: 8 hex digits")
    return f"0x{text}"


def next_prefix(state_dir: Path) -> str:
    """Return the prefix of this run's ClOrdIds: instance id and a fresh 4-byte epoch, which is on disk by then."""
    instance = instance_id(state_dir)
    path = state_dir / EPOCH_FILE
    try:
        text = path.read_text("ascii").strip() if path.exists() else "0"
        epoch = int(text) + 1
        if not 0 < epoch <= MAX_EPOCH:
            raise ValueError(f"{text[:20]!r} is not from 0 to {MAX_EPOCH - 1}")
        _replace(path, str(epoch), exclusive=False)
    except (OSError, ValueError) as error:
        raise DeviceError(f"{path}: the run's epoch cannot be kept: {error}") from None
    return f"{instance}{epoch:08x}"


def _replace(path: Path, text: str, *, exclusive: bool) -> None:
    """Write durably: the whole new text or the old one; `exclusive` leaves an existing file alone."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    # Quoter and guardian, two users of one group, both know a box by it.
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
    try:
        os.write(fd, text.encode("ascii") + b"\n")
        os.fsync(fd)
    except OSError:
        fresh.unlink()
        raise
    finally:
        os.close(fd)
    if exclusive:
        try:
            os.link(fresh, path)
        except FileExistsError:
            return
        finally:
            fresh.unlink()
    else:
        fresh.rename(path)
    sync_folder(path.parent)
