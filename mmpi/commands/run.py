"""mmpi run: the quoter process."""

import argparse
import os
import signal
import sys
from pathlib import Path

import msgspec

from mmpi.app import run_quoter
from mmpi.commands.resolved import resolved
from mmpi.errors import ConfigError, RefusedError, RemoteError
from mmpi.settings import Settings


def _begin_anew() -> None:
    """Become the same command anew, under the same process number; a signal meanwhile asks for nothing more."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def run(args: argparse.Namespace) -> int:
    """Return the exit code of a quoter that has ended."""
    # Until the quoter takes the signal itself nothing has begun that would have to be ended.
    signal.signal(signal.SIGUSR2, lambda *_: _begin_anew())
    settings = resolved(args.config, Settings)
    service = args.wait or "NOTIFY_SOCKET" in os.environ
    outcome = run_quoter(settings, service=service, seconds=args.seconds)
    if outcome.again and not outcome.failure:
        # The same command with the new configuration, under the same process number, which is what systemd watches.
        _begin_anew()
    if args.json:
        print(msgspec.json.encode(outcome.summary).decode(), flush=True)
    if outcome.failure.startswith("limit touched"):
        raise RefusedError(outcome.failure)
    if outcome.fault:
        raise ConfigError(outcome.failure)
    if outcome.failure:
        raise RemoteError(outcome.failure)
    print(f"mmpi run: stopped, no orders left; journal in {Path(settings.paths.journal)}", file=sys.stderr)
    return 0
