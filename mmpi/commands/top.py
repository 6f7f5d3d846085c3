"""mmpi top: the box in a terminal, live, over SSH too.

Invariant: it only reads, and works without a quoter and without a guardian. It must not be able to change anything.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Any, Final

import msgspec

from mmpi.commands import status
from mmpi.commands.demo_view import Keys, picture
from mmpi.commands.demo_words import Frame
from mmpi.commands.screen import has_screen, keys_of
from mmpi.device.lights import lamps, pattern_of
from mmpi.folders import path_setting
from mmpi.runtime.board import StatusBoard, process_start
from mmpi.status import Summary
from mmpi.telemetry.facts import Guardian

FRAME_S: Final = 0.25
KEYS: Final[Keys] = (("q", "quit"),)
FIRST_S: Final = 1.0
"""For the guardian's first answer, where there is one picture only."""


def run(args: argparse.Namespace) -> int:
    """Return the exit code."""
    if args.json:
        return status.run(args)
    runtime = path_setting("runtime_dir", args.config, os.environ)
    return asyncio.run(_Top(runtime, args).run())


class _Top:
    """One session."""

    def __init__(self, runtime: Path, args: argparse.Namespace) -> None:
        self._args, self._runtime = args, runtime
        self._guardian = Guardian(runtime / "guardian.sock")
        self._board: StatusBoard | None = None
        self._began = time.monotonic()
        self._ended = asyncio.Event()

    async def run(self) -> int:
        """Show until told to end."""
        from rich.console import Console
        from rich.live import Live

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, self._ended.set)
        asking = asyncio.create_task(self._guardian.run())
        try:
            console = Console()
            if self._args.once or not has_screen(self._args):
                await self._heard()
                console.print(picture(self._frame(), console.height, ()))
                return 0
            live = Live(console=console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
            with keys_of(lambda key: self._ended.set() if key == "q" else None), live:
                while not self._ended.is_set() and not 0 < self._args.seconds <= time.monotonic() - self._began:
                    live.update(picture(self._frame(), console.height, KEYS), refresh=True)
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._ended.wait(), FRAME_S)
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        return 0

    async def _heard(self) -> None:
        """Wait for the guardian's first word, or that there is none."""
        end = time.monotonic() + FIRST_S
        while self._view() is None and not self._guardian.error and time.monotonic() < end:
            await asyncio.sleep(0.01)

    def _view(self) -> dict[str, Any] | None:
        view = self._guardian.view(time.monotonic())
        return view.status if view is not None else None

    def _frame(self) -> Frame:
        self._board = self._board or StatusBoard.open(self._runtime / "status")
        board, guardian = self._board, self._view()
        text = board.read() if board is not None else None
        summary = msgspec.json.decode(text, type=Summary) if text else None
        age = max(0.0, (time.monotonic_ns() - board.beat_ns) / 1e9) if board is not None and board.beat_ns else 0.0
        lit = lamps(pattern_of(str(guardian.get("sign", ""))), time.monotonic_ns()) if guardian is not None else None
        title = f"{summary.mode} {summary.venue}" if summary is not None else "no quoter has run"
        return Frame(
            time.monotonic() - self._began, title, summary, age, guardian, self._quoter(board, guardian), "",
            (lit.green, lit.amber, lit.red) if lit is not None else (False, False, False), "mmpi top",
        )  # fmt: skip

    def _quoter(self, board: StatusBoard | None, guardian: dict[str, Any] | None) -> str:
        if board is None:
            return "never ran"
        start = process_start(board.pid)
        alive = guardian["quoter_alive"] if guardian is not None else start == board.start_time
        return f"runs (pid {board.pid})" if alive else "not running"
