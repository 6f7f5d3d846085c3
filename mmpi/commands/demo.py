"""mmpi demo: a whole box on a practice exchange in one command, with a view of it and a virtual front panel.

Invariant: when it returns no process of it runs and, unless something failed, nothing of it is on the disk.
It must not know how the processes are started or what a frame looks like.
"""

import argparse
import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
import webbrowser
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, Final, TextIO

import msgspec

from mmpi.commands.demo_box import COMMAND_S, Box
from mmpi.commands.demo_words import Frame, account, armed_not, line, told
from mmpi.commands.screen import has_screen, keys_of
from mmpi.errors import ConfigError, MmpiError

FRAME_S: Final = 0.15
"""The lamps blink several times a second."""
LINE_S: Final = 2.0
ARMED_S: Final = 3.0
"""For arming to take effect, once the button was held for long enough."""
INTERRUPTED: Final = 130
"""Exit code of a demo that was ended before it quoted: 128 + SIGINT, as shells have it."""

Show = Callable[[Frame], None]


def run(args: argparse.Namespace) -> int:
    """Return 0 if it quoted, stopped cleanly, left no order behind and its accounts are right."""
    folder = Path(tempfile.mkdtemp(prefix="mmpi-demo-"))
    keep = True
    try:
        code = asyncio.run(_Demo(args, Box(folder, args.config, args.seed, args.latency_ms, args.port)).run())
        keep = code not in (0, INTERRUPTED)
        return code
    except MmpiError as error:
        keep = error.exit_code != ConfigError.exit_code
        raise
    finally:
        if keep:
            print(f"mmpi demo: everything is kept in {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder)


class _Demo:
    """One demo, from its first child to its last line."""

    def __init__(self, args: argparse.Namespace, box: Box) -> None:
        self.args = args
        self.box = box
        self._title = f"practice hyperliquid, generated market, {args.latency_ms:g} ms round trip"
        self._message = "starting the exchange, the guardian and the quoter"
        self._ended = False
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> int:
        """Return the exit code."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, self._end)
        left: int | None = None
        try:
            with _display(self.args, self._key) as show:
                await self._watch(show)
                if self.box.began:
                    self._message = "ending: the quoter cancels its orders"
                    show(self._frame())
                    left = await self.box.stop()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self.box.kill()
        return self._report(left)

    async def _watch(self, show: Show) -> None:
        """Show the box until the time is over or somebody ends it; ChildError if it cannot go on."""
        self._spawn(self.box.keep_asking())
        self._spawn(self._start())
        while not self._ended:
            self._collect()
            if self.box.began:
                self.box.look()
                if 0 < self.args.seconds <= self._elapsed_s():
                    return
            show(self._frame())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), FRAME_S)
            self._wake.clear()

    async def _start(self) -> None:
        await self.box.start()
        page = f"http://127.0.0.1:{self.box.port}"
        self._title += f"; page: {page}"
        broker = self.box.broker
        topics = f"; MQTT: mosquitto_sub -p {broker.port} -v -t 'mmpi/#'" if broker is not None else ""
        self._message = f"the page is at {page}{topics}"
        if not has_screen(self.args):
            print(f"mmpi demo: {self._message}", file=sys.stderr, flush=True)
        if self._opens_browser():
            # A thread that ends: no child may be made beside one that stays (demo_child.py).
            threading.Thread(target=webbrowser.open, args=(page,), daemon=True).start()

    def _opens_browser(self) -> bool:
        """Return whether a person sits at a desktop here."""
        desktop = any(name in os.environ for name in ("DISPLAY", "WAYLAND_DISPLAY"))
        return desktop and has_screen(self.args) and not self.args.no_browser

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        return task

    def _collect(self) -> None:
        """Drop the tasks that are over; raise what one of them raised."""
        for task in [task for task in self._tasks if task.done()]:
            self._tasks.discard(task)
            task.result()

    def _end(self) -> None:
        self._ended = True
        self._wake.set()

    def _elapsed_s(self) -> float:
        return time.monotonic() - self.box.began if self.box.began else 0.0

    def _frame(self) -> Frame:
        box = self.box
        return Frame(
            self._elapsed_s(), self._title, box.summary, box.beat_age_s, box.guardian, box.quoter, self._message,
            box.lamps,
        )  # fmt: skip

    # The front panel ----------------------------------------------------------------------------------------------

    def _key(self, key: str) -> None:
        """Do what a key says, at once."""
        if key == "q":
            self._end()
        elif not self.box.began:
            self._message = "not yet: it is starting"
        elif key in "ka":
            self._spawn(self._press() if key == "k" else self._arm())
        elif key in "fc":
            self.box.freeze(key == "f")
            self._message = "quoter frozen (SIGSTOP)" if key == "f" else "quoter goes on (SIGCONT)"
        self._wake.set()

    async def _press(self) -> None:
        """Press the red button, and tell what comes of it."""
        box = self.box
        before = (box.guardian or {}).get("generation", 0)
        await box.press()
        self._message = "pressed: nothing is placed any more; cancelling"
        if await self._until(lambda now: now["generation"] > before and now["sign"] == "latched"):
            self._message = told((box.guardian or {})["last_stop"])

    async def _arm(self) -> None:
        """Hold the arm button, and tell what comes of it."""
        self._message = "holding the arm button for 3 s"
        await self.box.hold_arm()
        armed = await self._until(lambda now: now["latch"] == "armed", ARMED_S)
        self._message = "armed" if armed else f"not armed: {armed_not(self.box.guardian)}"
        self._wake.set()

    async def _until(self, true: Callable[[dict[str, Any]], bool], limit_s: float = COMMAND_S) -> bool:
        """Return True once the guardian's status is so, False if it is not in time."""
        end = time.monotonic() + limit_s
        while time.monotonic() < end:
            if self.box.guardian is not None and true(self.box.guardian):
                self._wake.set()
                return True
            await asyncio.sleep(FRAME_S / 2)
        return False

    # The end ------------------------------------------------------------------------------------------------------

    def _report(self, left: int | None) -> int:
        """Print the account and what went wrong; return the exit code."""
        box = self.box
        if box.summary is None or not box.began:
            print("mmpi demo: ended before it quoted", file=sys.stderr)
            return INTERRUPTED
        if self.args.json:
            print(msgspec.json.encode(box.summary).decode(), flush=True)
        else:
            print(account(box.summary, box.quoted_s, box.starts, left), flush=True)
        for problem in box.problems:
            print("\n".join(f"mmpi demo: {text}" for text in str(problem).splitlines()), file=sys.stderr)
        return box.problems[0].exit_code if box.problems else 0


@contextlib.contextmanager
def _display(args: argparse.Namespace, on_key: Callable[[str], None]) -> Iterator[Show]:
    """Yield what shows a frame: a full screen with keys on a terminal, lines elsewhere."""
    if not has_screen(args):
        yield _lines(sys.stderr if args.json else sys.stdout)
        return
    from rich.console import Console
    from rich.live import Live

    from mmpi.commands.demo_view import picture

    console = Console()
    live = Live(console=console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
    with keys_of(on_key), live:
        yield lambda frame: live.update(picture(frame, console.height), refresh=True)


def _lines(out: TextIO) -> Show:
    """Return what prints a frame as a line, the first at once, then one every LINE_S."""
    due = 0.0

    def show(frame: Frame) -> None:
        nonlocal due
        if time.monotonic() >= due:
            due = time.monotonic() + LINE_S
            print(line(frame), file=out, flush=True)

    return show
