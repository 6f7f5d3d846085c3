"""mmpi guardian: the guardian process, and the only place that puts its parts together.

Invariant: it imports no strategy, no pydantic and no web framework, so that little can go wrong in it.
"""

import argparse
import asyncio
import os
import signal
import sys
import time
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import msgspec

from mmpi.commands.guard_box import Parts, parts_of
from mmpi.commands.resolved import resolved
from mmpi.control import Control
from mmpi.device.boot import BootRecord, LastEnd
from mmpi.device.held import Held
from mmpi.device.identity import instance_id
from mmpi.device.latch import Latch
from mmpi.errors import ConfigError, DeviceError, RemoteError
from mmpi.guardian import Guardian
from mmpi.runtime.addresses import SHARED
from mmpi.runtime.allowance import PER_MINUTE
from mmpi.runtime.board import PAUSED, REDUCE, RUN, HaltWord, lock
from mmpi.runtime.hand import HyperliquidHand
from mmpi.runtime.ipc import ControlServer
from mmpi.runtime.scope import scope_of
from mmpi.runtime.secret_files import keep_out_of_core_dumps, read_address, read_secret
from mmpi.runtime.service import Systemd, say
from mmpi.runtime.watch import QuoterWatch
from mmpi.runtime.zero import POLL_S
from mmpi.sections import Box
from mmpi.venues.hyperliquid.signing import Signer, parse_key

FINISH_S: Final = 6.0
"""For a stop that goes on when the guardian is told to end; its unit gives it 10 s."""


def run(args: argparse.Namespace) -> int:
    """Return 0 once the guardian was told to end; begin anew if it was told to reload."""
    box = resolved(args.config, Box)
    # First of all: it is what keeps a second guardian from touching the halt word.
    with lock(box.paths.guardian_lock, "guardian"):
        again = asyncio.run(_guard(box))
    if again:
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    return 0


async def _guard(box: Box) -> bool:
    """Guard until told to end; return whether to begin anew."""
    paths = box.paths
    for folder in (paths.runtime_dir, paths.state_dir):
        Path(folder).mkdir(parents=True, exist_ok=True, mode=0o700)
    SHARED.keep_in(paths.addresses)
    hand, systemd = _hand(box), Systemd()
    socket = ControlServer(paths.control, lambda *request: control.command(*request))
    await socket.start()
    halt, latch = HaltWord.create(paths.halt), Latch(paths.latch)
    parts = parts_of(box)
    guardian = Guardian(
        box.guardian, latch, halt, QuoterWatch(paths.status), hand,
        senses=parts.senses, panel=parts.panel, held=Held(paths.held), scope=scope_of(box), progress=systemd.progress,
    )  # fmt: skip
    boot = _boot(box)
    last_end = await asyncio.to_thread(_look_back, boot, parts)
    guardian.well = boot.verdict is None or boot.verdict.healthy
    more, judge = partial(_more, parts, last_end, boot), partial(boot.judge, version=_version())
    control = Control(guardian, has_button=parts.panel is not None, more=more, judge=judge)
    parts.start(guardian.look)
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    start_latched = _start_latched(box, latch)
    guarding: asyncio.Task[Any] = asyncio.create_task(guardian.run(start_latched))
    booting = asyncio.create_task(_remember_boot(boot, guardian, start_latched, last_end))
    waiting: list[asyncio.Task[Any]] = [asyncio.create_task(event.wait()) for event in (ended, control.reloading)]
    systemd.ready()
    said = f"latched: {guardian.disk.stored.reason}" if guardian.disk.stored.latched else "armed"
    print(f"mmpi guardian: {said}; listening on {paths.control}", file=sys.stderr, flush=True)
    try:
        await asyncio.wait({guarding, *waiting}, return_when=asyncio.FIRST_COMPLETED)
        guardian.restore("guardian stopped")
        if ended.is_set() and not guardian.verified_at:
            await _finish(guardian, guarding, waiting)
    finally:
        sign = "updating" if control.reloading.is_set() else "dark"
        await _end(systemd, guardian, [guarding, booting, *waiting], socket, parts, sign)
        # A latch that was accepted is on the disk before this process ends, or becomes another one.
        guardian.disk.close()
    _remember(boot, last_end, clean=not (guarding.done() and not guarding.cancelled()))
    if guarding.done() and not guarding.cancelled():
        guarding.result()
    if control.reloading.is_set():
        guardian.watch.send(signal.SIGUSR2)
        return True
    if hand is not None and not guardian.verified_at:
        raise RemoteError("ended before it was verified that no order of ours is live: look at the venue")
    return False


def _look_back(boot: BootRecord, parts: Parts) -> LastEnd:
    """Return how the run before this one ended; what the set-up left is known from the first look on, too."""
    parts.setup.look()
    return boot.last_end()


def _version() -> str:
    """Return mmpi's version, "" where it was not installed as a package: that must not stop a guardian."""
    try:
        return version("mmpi")
    except PackageNotFoundError:
        return ""


def _more(parts: Parts, before: LastEnd, boot: BootRecord) -> dict[str, Any]:
    """Return what observers may see of the machine, of how the run before ended, and of this boot."""
    verdict = boot.verdict
    judged = msgspec.to_builtins(verdict) if verdict is not None else {"healthy": None, "why": "not yet judged"}
    return {"box": parts.status(), "before": msgspec.to_builtins(before), "boot": judged}


async def _finish(guardian: Guardian, guarding: "asyncio.Task[Any]", tasks: "list[asyncio.Task[Any]]") -> None:
    """Wait a while for zero: the quoter may have been ended just before us; what it left is not left to nobody."""
    finishing = asyncio.create_task(guardian.verified())
    tasks.append(finishing)
    await asyncio.wait({guarding, finishing}, timeout=FINISH_S, return_when=asyncio.FIRST_COMPLETED)


async def _end(
    systemd: Systemd,
    guardian: Guardian,
    tasks: "list[asyncio.Task[Any]]",
    socket: ControlServer,
    parts: Parts,
    sign: str,
) -> None:
    """Leave quoting paused, the socket free, and this sign on the lamps."""
    if sign != "updating":
        # systemd would take it for the end of the service, and kill what begins anew.
        systemd.stopping()
    if guardian.halt.state in (RUN, REDUCE):
        guardian.halt.set(PAUSED, "guardian stopped")
    guardian.halt.beat(time.monotonic_ns())
    for task in tasks:
        task.cancel()
    await socket.close()
    parts.close(sign)


async def _remember_boot(boot: BootRecord, guardian: Guardian, start_latched: str, before: LastEnd) -> None:
    """Keep which boot this is, once what a new boot leads to is on the disk."""
    while start_latched and not guardian.disk.stored.latched:
        await asyncio.sleep(POLL_S)
    # In the one thread that writes, as a verdict may come at the same time.
    await guardian.disk.on_disk(partial(_remember, boot, before, clean=False))


def _remember(boot: BootRecord, before: LastEnd, *, clean: bool) -> None:
    try:
        boot.remember(time.time_ns(), before, clean=clean)
    except DeviceError as error:
        say(f"mmpi guardian: {error}")


def _boot(box: Box) -> BootRecord:
    return BootRecord(box.paths.boot, Path(box.host.proc_root), Path(box.host.sysfs_root))


def _start_latched(box: Box, latch: Latch) -> str:
    """Return why an armed box begins latched all the same, "" = it does not."""
    stored, scope = latch.load(), scope_of(box)
    if stored.latched:
        return ""
    if scope and stored.scope != scope:
        return "not_armed_here: live, and never armed for this account and configuration"
    if not box.guardian.resume_after_boot and _boot(box).is_new_boot():
        return "booted: the machine was booted, and guardian.resume_after_boot is false"
    return ""


def _hand(box: Box) -> HyperliquidHand | None:
    """Return the guardian's own session; None on paper, where there is nothing to cancel."""
    if box.venue.mode not in ("practice", "live"):
        return None
    keep_out_of_core_dumps()
    secrets, venue = Path(box.paths.secrets_dir), box.venue
    key_file = secrets / "guardian.key"
    signer = Signer(parse_key(read_secret(key_file), str(key_file)), mainnet=venue.network == "mainnet")
    quoters = secrets / "quoter.key"
    if venue.mode == "live" and os.access(quoters, os.R_OK) and read_secret(quoters) == read_secret(key_file):
        raise ConfigError(f"{key_file}: is the quoter's key too; allowed: a key of the guardian's own")
    account, instance = read_address(secrets / "account"), instance_id(Path(box.paths.state_dir))
    return HyperliquidHand(
        venue.websocket_url(),
        account,
        signer,
        instance,
        str(key_file),
        vault=venue.vault.lower(),
        ca_file=venue.ca_file,
        weight_per_minute=PER_MINUTE if venue.weight_per_minute else 0,
    )
