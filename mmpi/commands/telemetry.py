"""mmpi telemetry: the process that tells the owner, and hands on what the owner asks for.

Invariant: it has no key of any venue, and nothing in it can place an order. It must not know how anything is told.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from mmpi.channels import Telling
from mmpi.commands.resolved import resolved
from mmpi.runtime.board import lock
from mmpi.runtime.secret_files import keep_out_of_core_dumps, read_secret
from mmpi.runtime.service import Systemd, say
from mmpi.telemetry.daemon import Secrets, Telemetry

LOCK: Final = "telemetry.lock"
"""In the runtime folder; keeps a second telemetry out."""
WATCH_S: Final = 1.0
"""How often it is looked whether the configuration is another one."""


def run(args: argparse.Namespace) -> int:
    """Return 0 once it was told to end; begin anew if the configuration is another one (`mmpi reload`)."""
    telling = resolved(args.config, Telling)
    with lock(Path(telling.paths.runtime_dir) / LOCK, "telemetry"):
        again = asyncio.run(_tell(telling, args))
    if again:
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    sys.stdout.flush()
    # A thread may wait for a name server or a broker that does not answer, and Python would wait for the thread.
    os._exit(0)


async def _tell(telling: Telling, args: argparse.Namespace) -> bool:
    """Tell until told to end; return whether to begin anew."""
    systemd = Systemd()
    telemetry = Telemetry(telling, _secrets(telling), systemd)
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    work = asyncio.create_task(telemetry.run())
    changed = asyncio.create_task(_changed(Path(telling.paths.runtime_dir) / "config.json"))
    told = asyncio.create_task(ended.wait())
    systemd.ready()
    page = f", page at http://127.0.0.1:{telling.web.port}" if telling.web.port else ""
    say(f"mmpi telemetry: {telling.device_id}{page}")
    await asyncio.wait((work, changed, told), timeout=args.seconds or None, return_when=asyncio.FIRST_COMPLETED)
    systemd.stopping()
    for task in (work, changed, told):
        task.cancel()
    with suppress(asyncio.CancelledError):
        await work
    if args.json:
        print(json.dumps({"counters": dict(telemetry.counters), "brokers": telemetry.links()}), flush=True)
    return changed.done() and not changed.cancelled()


def _secrets(telling: Telling) -> Secrets:
    """Return what the brokers and the webhook are told, where anything is to be told; ConfigError if it is missing."""
    keep_out_of_core_dumps()
    folder = Path(telling.paths.secrets_dir)
    hook = folder / "webhook.token"
    return Secrets(
        mqtt=read_secret(folder / "mqtt.password") if telling.mqtt.username else "",
        mqtt_far=read_secret(folder / "mqtt_far.password") if telling.mqtt_far.username else "",
        webhook=read_secret(hook) if telling.alerts.webhook_url and hook.exists() else "",
    )


async def _changed(path: Path) -> None:
    """Return once there is another configuration than now."""
    first = _content(path)
    while _content(path) in (first, None):
        await asyncio.sleep(WATCH_S)


def _content(path: Path) -> bytes | None:
    """Return what is in force, None while there is nothing: each start of a service writes it anew, mostly the same."""
    try:
        return path.read_bytes()
    except OSError:
        return None
