"""mmpi guardian: the guardian process, and the only place that puts its parts together.

Invariant: it imports no strategy, no pydantic and no web framework, so that little can go wrong in it.
"""

import argparse
import asyncio
import os
import signal
import sys
import time
from pathlib import Path

from mmpi.commands.resolved import resolved
from mmpi.device.identity import instance_id
from mmpi.device.latch import Latch
from mmpi.errors import ConfigError, RemoteError
from mmpi.guardian import Guardian
from mmpi.runtime.board import PAUSED, RUN, HaltWord, lock
from mmpi.runtime.hand import HyperliquidHand
from mmpi.runtime.ipc import ControlServer
from mmpi.runtime.secret_files import keep_out_of_core_dumps, read_address, read_secret
from mmpi.runtime.service import notifier
from mmpi.runtime.watch import QuoterWatch
from mmpi.sections import Box
from mmpi.venues.hyperliquid.signing import Signer, parse_key


def run(args: argparse.Namespace) -> int:
    """Return 0 once the guardian was told to end."""
    box = resolved(args.config, Box)
    # First of all: it is what keeps a second guardian from touching the halt word.
    with lock(box.paths.guardian_lock, "guardian"):
        asyncio.run(_guard(box))
    return 0


async def _guard(box: Box) -> None:
    paths = box.paths
    for folder in (paths.runtime_dir, paths.state_dir):
        Path(folder).mkdir(parents=True, exist_ok=True, mode=0o700)
    hand = _hand(box)
    control = ControlServer(paths.control, lambda *request: guardian.command(*request))
    await control.start()
    halt = HaltWord.create(paths.halt)
    guardian = Guardian(box.guardian, Latch(paths.latch), halt, QuoterWatch(paths.status), hand)
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    guarding, waiting = asyncio.create_task(guardian.run()), asyncio.create_task(ended.wait())
    notify = notifier()
    notify("READY=1")
    latch = f"latched: {guardian.stored.reason}" if guardian.stored.latched else "armed"
    print(f"mmpi guardian: {latch}; listening on {paths.control}", file=sys.stderr, flush=True)
    try:
        await asyncio.wait({guarding, waiting}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        notify("STOPPING=1")
        if halt.state == RUN:
            halt.set(PAUSED, "guardian stopped")
        halt.beat(time.monotonic_ns())
        waiting.cancel()
        guarding.cancel()
        await control.close()
    if guarding.done() and not guarding.cancelled():
        guarding.result()
    if hand is not None and not guardian.verified_at:
        raise RemoteError("ended before it was verified that no order of ours is live: look at the venue")


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
    )
