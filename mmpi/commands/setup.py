"""mmpi setup: take over what lies in the folder mmpi-setup of the card; at every boot, before the guardian.

Invariant: the result is there when it ends, whatever went wrong; nothing of a secret is in it, or on the terminal.
It must not know what the files mean (mmpi.setup).
"""

import argparse
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Final

import msgspec

from mmpi.errors import ConfigError, DeviceError, RemoteError
from mmpi.runtime.secret_files import keep_out_of_core_dumps
from mmpi.setup import erasing
from mmpi.setup.buttons import held_at_start
from mmpi.setup.card import is_fat, remount
from mmpi.setup.configuration import check, pins_of
from mmpi.setup.procedure import Ended, Tools, set_up
from mmpi.setup.sealing import SystemdCreds
from mmpi.setup.words import put

REBOOT: Final = ("systemctl", "--no-block", "reboot")
"""Asks systemd to end everything in order, the file systems included, and does not wait for it: it waits for us."""
REBOOT_S: Final = 30.0


def run(args: argparse.Namespace) -> int:
    """Return 0; ConfigError for a folder with something wrong, once the result is written."""
    keep_out_of_core_dumps()
    tools = Tools(
        sealer=SystemdCreds(),
        check=check,
        held=lambda config: held_at_start(pins_of(config), time.sleep),
        remount=None if args.no_mount else remount,
        fill=_fill,
        now=time.time,
        version=version("mmpi"),
        unseen=(lambda _: "") if args.no_mount else _unseen,
    )
    with _ended_in_order():
        ended = set_up(args.folder, args.data, tools)
    for note in ended.notes:
        print(f"mmpi setup: note: {note}", file=sys.stderr)
    try:
        put(args.result_file, ended.outcome)
    except OSError as error:
        raise DeviceError(f"{args.result_file}: the result was not written: {error.strerror}") from None
    _show(args, ended)
    if ended.restart:
        _restart()
    if not ended.outcome.ok:
        raise ConfigError("\n".join(ended.outcome.errors))
    return 0


def _unseen(folder: Path) -> str:
    """Return what is wrong where the card is not mounted: a folder that nobody could look into is not an empty one.

    In a service with ReadWritePaths the empty mount point is mounted on itself; `is_mount` compares devices: still no.
    """
    place = folder.parent
    if place.is_mount():
        return ""
    return f"{place} is not mounted: the card's first partition cannot be read, nor what {folder.name} on it says"


def _show(args: argparse.Namespace, ended: Ended) -> None:
    outcome = ended.outcome
    if args.json:
        print(json.dumps(msgspec.to_builtins(outcome)), flush=True)
    elif ended.restart:
        print("factory reset: all that was stored is deleted; starting anew", flush=True)
    elif outcome.ok:
        print(f"in force: {', '.join(outcome.applied)}" if outcome.applied else "nothing to do", flush=True)


def _restart() -> None:
    try:
        done = subprocess.run(REBOOT, stdin=subprocess.DEVNULL, timeout=REBOOT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RemoteError(f"the box could not be started anew: {error}; switch it off and on") from None
    if done.returncode:
        raise RemoteError(f"the box could not be started anew ({' '.join(REBOOT)}): switch it off and on")


def _fill(folder: Path) -> None:
    """Overwrite the free space where it may hold copies: on a card's FAT, which people's editors write."""
    if is_fat(folder):
        erasing.fill(folder, partial(_progress, sys.stderr.isatty()))


def _progress(wanted: bool, text: str) -> None:
    if wanted:
        print(f"\r{text}", end="", file=sys.stderr, flush=True)


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """Have SIGTERM end this as Ctrl-C does, so that the card is left read-only."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
