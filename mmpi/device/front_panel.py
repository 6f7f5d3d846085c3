"""Front panel: buttons, lamps and the supply's wire put together, as the guardian asks for them at each look.

Invariant: a panel that cannot be read is a cause, never an exception and never a healthy contact; no call waits.
It must not know what a cause leads to, or who quotes.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from mmpi.device.arm_button import HOLD, KILL_HOLD, ArmButton, KillButtonArming
from mmpi.device.contacts import POLL, KillSwitch
from mmpi.device.lights import Lamps, Lights
from mmpi.device.panel_lines import PanelConfig, PanelLines
from mmpi.errors import DeviceError
from mmpi.instrument import MILLISECOND, SECOND, Nanos

PATIENCE: Final[Nanos] = 10 * SECOND
"""At its start the guardian may be quicker than the kernel's driver and the permissions of its device."""
RETRY_S: Final = 0.5
RETRY_LATER_S: Final = 2.0
WATCHED: Final = ("kill", "kill_second", "arm", "power")
LATCHED: Final = "latched"
"""The sign that says: latched, proven and on the disk."""

STARTING: Final = "guardian_starting"
"""The cause of a panel that is not ready: nothing may be quoted by a box whose button is not looked at."""

Open = Callable[[PanelConfig], PanelLines]


class FrontPanel:
    """Buttons and lamps. All calls come from the guardian's loop; opening and lamps have a thread each."""

    def __init__(self, config: PanelConfig, open_lines: Open = PanelLines.open) -> None:
        self.config: Final = config
        self.power_level: int | None = None
        """What the supply's wire said at the last look; None = not wired, or not readable."""
        self._open_lines = open_lines
        self._lines: PanelLines | None = None
        self._trouble = ""
        """Why there are no lines; "" = none was met yet."""
        self._was_open = False
        self._began: Nanos | None = None
        self._switch, self._arm, self._kill_arming = KillSwitch(), ArmButton(), KillButtonArming()
        self._asked = ""
        self._sign = ""
        self._beat: Nanos = 0
        self._wake: Callable[[], object] | None = None
        self._reader: tuple[asyncio.AbstractEventLoop, int] | None = None
        """The descriptor on which edges wake the loop, and that loop."""
        self._timer: asyncio.TimerHandle | None = None
        self._lights = Lights(self._light)
        self._ended = False
        self._wanted = threading.Event()
        self._opener = threading.Thread(target=self._keep_open, name="pins", daemon=True)
        self._looker = threading.Thread(target=self._keep_looking, name="contacts", daemon=True)
        self._reading = threading.Lock()
        """Held while that thread reads, so that nothing is closed under it."""
        self._loop: asyncio.AbstractEventLoop | None = None

    def open(self, wake: Callable[[], object] | None = None) -> None:
        """Begin: lamps, and tries to open the lines until they are; returns at once.

        `wake`: called on the event loop on which `present` is called, when it is time to look between two polls.
        """
        if self.config.backend != "none":
            self._wake = wake
            self._lights.start()
            self._wanted.set()
            self._opener.start()
            if wake is not None:
                self._loop = asyncio.get_running_loop()
                self._looker.start()

    @property
    def problems(self) -> tuple[str, ...]:
        """Return what a person should know about the panel; none of it is a cause by itself."""
        if self.config.backend == "none":
            return ()
        unwired = "no kill button is wired (pins.kill = -1)" if self.config.kill < 0 else ""
        return tuple(filter(None, (unwired, self._arm.problem(), self._lights.problem)))

    def present(self, now: Nanos) -> dict[str, str]:
        """Look at everything; return the causes, each with its detail."""
        if self.config.backend == "none":
            return {}
        self._began = self._began if self._began is not None else now
        lines = self._lines
        if lines is None:
            return self._without_lines(now)
        try:
            self._look(lines, now)
        except DeviceError as error:
            self._lose(lines, str(error))
            return self._without_lines(now)
        self._see_to_wake(lines, now)
        causes = self._switch.present()
        if not causes and self.config.kill >= 0 and not self._switch.known:
            return {STARTING: "the kill contact has been looked at once only"}
        return causes

    def wants_arming(self, now: Nanos) -> str:  # noqa: ARG002  # the guardian's protocol; holding is timed by looks
        """Return how a person at the box asked to arm, once for each time; "" = nobody did."""
        asked, self._asked = self._asked, ""
        return asked

    def show(self, sign: str, now: Nanos) -> None:
        """Show a sign from now on; while a button is held to arm, the lamps say that instead."""
        self._sign = sign
        if sign == LATCHED and self._kill_arming.let_go():
            sign = "let_go"
        elif sign == LATCHED and (self._arm.holding() or self._kill_arming.holding()):
            sign = "arming"
        self._lights.show(sign, now)

    def close(self, sign: str = "dark") -> None:
        """Show this for the last time. dark: give everything up; anything else goes on until the process ends."""
        self._ended = True
        self._wanted.set()
        self._lights.close(sign)
        self._deafen()
        if sign == "dark" and self._lines is not None:
            self._let_go(self._lines)

    # Looking ------------------------------------------------------------------------------------------------------

    def _look(self, lines: PanelLines, now: Nanos) -> None:
        if now - self._beat >= POLL - MILLISECOND:
            # Once a poll and no more: in between, a storm of edges does not wake us again.
            self._beat = now
            lines.beat(now)
        edges = lines.take_edges()
        closed, second, arm = lines.closed("kill"), lines.closed("kill_second"), lines.closed("arm")
        self.power_level = lines.level("power")
        if closed is not None:
            moved = edges.get("kill", 0) + edges.get("kill_second", 0)
            self._switch.look(closed, second, moved, now)
        if arm is not None:
            if self._arm.sample(arm, edges.get("arm", 0), now):
                self._asked = f"arm button held {HOLD // SECOND} s"
        elif closed is not None:
            self._look_one_button(closed, second, edges.get("kill", 0), now)

    def _look_one_button(self, closed: bool, second: bool | None, edges: int, now: Nanos) -> None:
        if self._kill_arming.sample(closed, second, edges, self._sign == LATCHED, now):
            self._asked = f"kill button held {KILL_HOLD // SECOND} s and let go"

    def _without_lines(self, now: Nanos) -> dict[str, str]:
        self.power_level = None
        if self._was_open or (self._began is not None and now - self._began >= PATIENCE):
            return {"pins": self._trouble or f"not open after {PATIENCE // SECOND} s"}
        return {STARTING: f"the pins are not open yet{': ' if self._trouble else ''}{self._trouble}"}

    def _lose(self, lines: PanelLines, trouble: str) -> None:
        """Give up lines that cannot be read, and begin anew: what was seen before says nothing about now."""
        self._trouble = trouble
        self._let_go(lines)
        self._switch, self._arm, self._kill_arming = KillSwitch(), ArmButton(), KillButtonArming()
        self._asked = ""
        self._wanted.set()

    def _let_go(self, lines: PanelLines) -> None:
        self._deafen()
        with self._reading:
            self._lines = None
            lines.close()

    def _deafen(self) -> None:
        if self._reader is not None:
            loop, fd = self._reader
            self._reader = None
            loop.remove_reader(fd)

    def _see_to_wake(self, lines: PanelLines, now: Nanos) -> None:
        """Have the loop look at once when a button moves, and soon again when something is undecided."""
        if self._wake is None:
            return
        if self._reader is None and lines.edges_fd is not None:
            self._reader = asyncio.get_running_loop(), lines.edges_fd
            self._reader[0].add_reader(self._reader[1], self._wake)
        soon = self._switch.due() - now
        if soon < POLL and self._timer is None and self.config.kill >= 0:
            self._timer = asyncio.get_running_loop().call_later(soon / SECOND, self._look_again)

    def _look_again(self) -> None:
        self._timer = None
        if self._wake is not None and not self._ended:
            self._wake()

    # Threads ------------------------------------------------------------------------------------------------------

    def _keep_open(self) -> None:
        """Open the lines whenever there are none, for as long as it takes."""
        while self._wanted.wait() and not self._ended:
            try:
                lines = self._open_lines(self.config)
            except DeviceError as error:
                self._trouble = str(error)
                time.sleep(RETRY_LATER_S if self._was_open else RETRY_S)
                continue
            self._wanted.clear()
            self._lines, self._was_open = lines, True
            if self._ended:
                lines.close()

    def _keep_looking(self) -> None:
        """Look at the contacts every POLL, and wake the guardian when one has moved: it need not look so often itself.

        A thread that sleeps costs a fraction of an event loop that does; what a move means is decided there alone, by
        two looks: so it is woken at the move and at the look after it.
        """
        seen: tuple[int | None, ...] | str | None = None
        moved = False
        while not self._ended:
            time.sleep(POLL / SECOND)
            with self._reading:
                now = self._levels()
            again, moved, seen = moved, now != seen, now
            if (moved or again) and self._wake is not None and self._loop is not None:
                with suppress(RuntimeError):  # the loop has ended, and we shall in a moment
                    self._loop.call_soon_threadsafe(self._wake)

    def _levels(self) -> tuple[int | None, ...] | str | None:
        lines = self._lines
        if lines is None:
            return None
        try:
            return tuple(lines.level(name) for name in WATCHED)
        except DeviceError as error:
            return str(error)

    def _light(self, lamps: Lamps) -> None:
        lines = self._lines
        if lines is not None:
            lines.light(lamps)
