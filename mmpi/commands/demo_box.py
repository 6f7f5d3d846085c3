"""The demo's box: practice exchange, guardian, quoter and telemetry as real processes in a folder of their own.

Invariant: whatever it started it ends, and nothing of it is outside its folder.
It must not do anything to quoter or guardian that a person with a shell could not do.
"""

import asyncio
import contextlib
import http.client
import os
import re
import signal
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from mmpi.commands.demo_broker import DemoBroker
from mmpi.commands.demo_child import Child
from mmpi.device.latch import Latch
from mmpi.device.virtual_pins import VirtualPanel
from mmpi.errors import MmpiError, RemoteError
from mmpi.practice.keys import make_keys
from mmpi.runtime import ipc
from mmpi.runtime.board import StatusBoard
from mmpi.status import Summary

T = TypeVar("T")

KILL_LINE: Final = 5
ARM_LINE: Final = 13
LAMP_LINES: Final = (17, 27, 22)
"""Green, amber, red."""
PINS: Final = {
    "BACKEND": "virtual", "KILL": KILL_LINE, "KILL_SECOND": -1, "ARM": ARM_LINE, "GREEN": LAMP_LINES[0],
    "AMBER": LAMP_LINES[1], "RED": LAMP_LINES[2], "BUZZER": -1, "POWER": -1,
}  # fmt: skip
PRESS_S: Final = 0.3
"""How long a hand is on the red button."""
ARM_S: Final = 3.3
"""A little longer than arming wants."""

POLL_S: Final = 0.05
ASK_S: Final = 0.25
"""How often the guardian is asked: as often as the quoter publishes."""
ANSWER_S: Final = 1.0
COMMAND_S: Final = 30.0
"""For the red button's or arming's effect, verified zero included; a stop takes about 3 s."""
START_S: Final = 15.0
"""Quoting must have begun by then."""
RESTART_S: Final = 1.0
STOP_S: Final = 8.0
"""For the quoter to end: it gives the venue 5 s to confirm that none of its orders is left."""
ZERO_S: Final = 5.0
"""For the guardian to clear what a dead quoter left: it notices within 1 s and needs a few round trips."""
_LISTENING: Final = re.compile(r"listening on http://(127\.0\.0\.1:\d+)")


class Box:
    """Everything of one demo, in `folder`; config, seed and latency as on the command line."""

    def __init__(self, folder: Path, config: Path | None, seed: int, latency_ms: float, port: int = 0) -> None:
        """`port`: of the page; 0, or one that somebody has already, is a free one."""
        self.folder = folder
        self.port = port
        self.broker: DemoBroker | None = None
        self.summary: Summary | None = None
        self.guardian: dict[str, Any] | None = None
        """The guardian's last answer to `status`; None while it does not answer."""
        self.problems: list[MmpiError] = []
        """What must not happen in a demo, and did."""
        self.frozen = False
        self.began = 0.0
        """Monotonic time at which quoting began; 0 = not yet."""
        self.quoted_s = 0.0
        """How long it went on from there, once it is over."""
        self.starts = 0
        self.panel: VirtualPanel | None = None
        """The front panel's wires, once there is a box."""
        self._config = config.absolute() if config is not None else folder / "demo.toml"
        self._market = ["--seed", str(seed), "--latency-ms", str(latency_ms)]
        self._address = ""
        self._children: list[Child] = []
        self._teller: Child | None = None
        self._board: StatusBoard | None = None
        self._deadline = 0.0
        self._latched = False
        """It has been, since the quoter was started."""

    @property
    def control(self) -> Path:
        """Return the guardian's control socket."""
        return self.folder / "run" / "guardian.sock"

    @property
    def quoter(self) -> str:
        """Return what the quoter's process does, in a few words; `starts` is how many there were."""
        if len(self._children) < 3:
            return "not started"
        child = self._children[2]
        if child.code is not None:
            return f"ended ({signal.Signals(-child.code).name if child.code < 0 else f'exit code {child.code}'})"
        return f"{'frozen' if self.frozen else 'runs'} (pid {child.pid})"

    @property
    def beat_age_s(self) -> float:
        """Return the age of the quoter's last sign of life, 0 before the first."""
        if self._board is None or not self._board.beat_ns:
            return 0.0
        return max(0.0, (time.monotonic_ns() - self._board.beat_ns) / 1e9)

    # Starting -----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start exchange, guardian and quoter, armed; return when it quotes, ChildError if it does not in START_S."""
        self._deadline = time.monotonic() + START_S
        await self._find_ports()
        make_keys(self.folder / "keys", self.folder / "agents.json")
        self.panel = VirtualPanel.create(self.folder / "run" / "pins", closed=(KILL_LINE,))
        Latch(self.folder / "state" / "latch.json").arm("demo", "a new practice box", time.time_ns())
        (self.folder / "demo.toml").write_text("# Empty: the built-in defaults, and what the environment says.\n")
        words = ["practice", "hyperliquid", "--port", "0", "--secrets", str(self.folder / "keys"), *self._market]
        exchange = self._add(Child("exchange", words, self.folder, os.environ))
        self._address = await self._until(lambda: _listening(exchange.log), exchange, "did not listen")
        guardian = self._add(self._daemon("guardian", "guardian"))
        await self._until(lambda: self.guardian, guardian, "did not answer")
        quoter = self._add(self._start_quoter())
        await self._until(self._quoting, quoter, "did not quote")
        self._teller = self._daemon("telemetry", "telemetry")
        self.began = time.monotonic()

    async def _find_ports(self) -> None:
        """Choose the page's port, and start the broker, if there is one: all daemons have one configuration."""
        self.port = _free_port(self.port)
        if DemoBroker.is_there():
            self.broker = DemoBroker(_free_port(0))
            await self.broker.start()

    def _add(self, child: Child) -> Child:
        self._children.append(child)
        return child

    def _start_quoter(self) -> Child:
        self.starts += 1
        self.frozen = self._latched = False
        return self._daemon("quoter", "run", "--json", "--wait")

    def _daemon(self, name: str, *words: str) -> Child:
        environ = _environ(os.environ, self.folder, f"http://{self._address}") | {"MMPI_WEB__PORT": str(self.port)}
        if self.broker is not None:
            environ["MMPI_MQTT__URL"] = f"mqtt://127.0.0.1:{self.broker.port}"
        return Child(name, [*words, "--config", str(self._config)], self.folder, environ)

    async def _until(self, found: Callable[[], T | None], child: Child, failing: str) -> T:
        """Return what is found once it is; ChildError if `child` ends or the time for starting is over before."""
        while not (result := found()):
            child.check()
            if time.monotonic() > self._deadline:
                raise child.failure(f"{failing} within {START_S:g} s")
            await asyncio.sleep(POLL_S)
        return result

    def _quoting(self) -> bool:
        self._read_board()
        return self.summary is not None and self.summary.state == "quoting"

    # The front panel ----------------------------------------------------------------------------------------------

    async def press(self) -> None:
        """Press the red button and let it go, at the pins, as a hand does."""
        if self.panel is not None:
            self.panel.release(KILL_LINE)
            await asyncio.sleep(PRESS_S)
            self.panel.drive(KILL_LINE, 0)

    async def hold_arm(self) -> None:
        """Hold the arm button for as long as it takes."""
        if self.panel is not None:
            self.panel.drive(ARM_LINE, 0)
            await asyncio.sleep(ARM_S)
            self.panel.release(ARM_LINE)

    @property
    def lamps(self) -> tuple[bool, bool, bool]:
        """Return which lamps are lit at this moment: green, amber, red."""
        panel = self.panel
        if panel is None:
            return False, False, False
        green, amber, red = (bool(panel.output(line)) for line in LAMP_LINES)
        return green, amber, red

    # Running ------------------------------------------------------------------------------------------------------

    async def keep_asking(self) -> None:
        """Ask the guardian for its status for ever."""
        while True:
            try:
                async for answer in ipc.call(self.control, {"cmd": "status"}, ANSWER_S):
                    self.guardian = answer
                    self._latched = self._latched or not self._armed()
            except RemoteError:
                self.guardian = None
            await asyncio.sleep(ASK_S)

    def look(self) -> None:
        """Read the board, and start a quoter that has ended again once it may quote; ChildError if another ended."""
        exchange, guardian, quoter = self._children
        exchange.check()
        guardian.check()
        if self._teller is not None and self._teller.code is not None:
            self.problems.append(self._teller.failure("ended"))
            self._teller = None
        self._read_board()
        if quoter.code is None or time.monotonic() - quoter.started < RESTART_S:
            return
        if self._armed():
            self._judge(quoter)
            self._children[2] = self._start_quoter()

    def freeze(self, frozen: bool) -> None:
        """Stop the quoter's process as a debugger or a full machine would, or let it go on."""
        if len(self._children) == 3:
            self._children[2].send(signal.SIGSTOP if frozen else signal.SIGCONT)
            self.frozen = frozen

    def _read_board(self) -> None:
        self._board = self._board or StatusBoard.open(self.folder / "run" / "status")
        text = self._board.read() if self._board is not None else None
        if text is not None:
            self.summary = msgspec.json.decode(text, type=Summary)

    def _armed(self) -> bool:
        return self.guardian is not None and self.guardian["latch"] == "armed"

    def _judge(self, quoter: Child) -> None:
        """Note what was wrong with a quoter that has ended; to be killed is right only where the guardian latched."""
        if quoter.code and (quoter.code > 0 or not self._latched):
            self.problems.append(quoter.failure("ended"))
        if self.summary is not None and self.summary.invariant_violations:
            self.problems.append(MmpiError(f"the accounts were wrong {self.summary.invariant_violations} times"))

    # Ending -------------------------------------------------------------------------------------------------------

    async def stop(self) -> int | None:
        """End the quoter, see that no order is left, end the rest; return the orders left, None if unknown."""
        exchange, guardian, quoter = self._children
        self.quoted_s = time.monotonic() - self.began
        self.freeze(False)
        await self._end(quoter)
        if quoter.code == 0:
            self.summary = msgspec.json.decode(quoter.out.read_bytes().splitlines()[-1], type=Summary)
        self._judge(quoter)
        left = await self._left()
        if left != 0:
            self.problems.append(RemoteError(f"orders left at the exchange: {'unknown' if left is None else left}"))
        if self._teller is not None:
            await self._end(self._teller)
        if self.broker is not None:
            await self.broker.stop()
        await self._end(guardian)
        await self._end(exchange)
        return left

    def kill(self) -> None:
        """End whatever still runs, at once."""
        for child in [*self._children, *([self._teller] if self._teller is not None else [])]:
            child.end()

    async def _end(self, child: Child) -> None:
        """Ask a child to end; one that does not is a problem, and so is one that somebody kills."""
        child.send(signal.SIGTERM)
        deadline = time.monotonic() + STOP_S
        while child.code is None and time.monotonic() < deadline:
            await asyncio.sleep(POLL_S)
        if child.code is None:
            self.problems.append(child.failure(f"did not end within {STOP_S:g} s"))

    async def _left(self) -> int | None:
        """Return how many orders rest at the exchange, once that is 0 or ZERO_S are over; None if it does not say."""
        deadline = time.monotonic() + ZERO_S
        while (left := _live_orders(self._address)) != 0 and time.monotonic() < deadline:
            await asyncio.sleep(POLL_S)
        return left


def _free_port(wanted: int) -> int:
    """Return a port of the loopback address that nobody has: the wanted one, or another."""
    for port in (wanted, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise RemoteError("no port of 127.0.0.1 is free")


def _listening(log: Path) -> str:
    found = _LISTENING.search(log.read_text(errors="replace"))
    return found[1] if found else ""


def _live_orders(address: str) -> int | None:
    link = http.client.HTTPConnection(address, timeout=ANSWER_S)
    try:
        link.request("GET", "/control/orders")
        return len(msgspec.json.decode(link.getresponse().read(), type=list[Any]))
    except (OSError, http.client.HTTPException, msgspec.MsgspecError):
        return None
    finally:
        link.close()


def _environ(environ: Mapping[str, str], folder: Path, url: str) -> dict[str, str]:
    """Return the environment of quoter and guardian: all they keep is in `folder`, and their venue is at `url`."""
    # With NOTIFY_SOCKET they would take themselves for services.
    kept = {name: value for name, value in environ.items() if name != "NOTIFY_SOCKET"}
    return kept | {
        "MMPI_PATHS__STATE_DIR": str(folder / "state"),
        "MMPI_PATHS__RUNTIME_DIR": str(folder / "run"),
        "MMPI_SECRETS__DIR": str(folder / "keys"),
        "MMPI_VENUE__NAME": "hyperliquid",
        "MMPI_VENUE__MODE": "practice",
        "MMPI_VENUE__URL": url,
        "MMPI_VENUE__NETWORK": "testnet",
        **{f"MMPI_PINS__{name}": str(value) for name, value in PINS.items()},
    }
