"""Source: what the page is made of, and the hand that it lends.

Invariant: a state is made when somebody looks, once for all who do. It must not know sockets or browsers.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from mmpi.errors import RefusedError, RemoteError
from mmpi.telemetry import metrics
from mmpi.telemetry.alerts import Alert
from mmpi.telemetry.commands import Commands, Order
from mmpi.telemetry.page_state import History, lamp_state, page_state
from mmpi.telemetry.panel import Panel
from mmpi.telemetry.snapshot import Snapshot

ENCODE: Final = msgspec.json.Encoder().encode
WHO: Final = "the page"
SHOWN: Final = ("verified", "verified_ms", "causes", "note")
"""Of the guardian's answer, what the page tells."""


class Source:
    """The page's side of telemetry."""

    def __init__(self, commands: Commands, panel: Panel | None, run: float) -> None:
        """`run`: when this run of telemetry began, Unix seconds."""
        self.panel = panel is not None
        self._commands, self._panel, self._run = commands, panel, run
        self._snapshot: Snapshot | None = None
        self._active: Sequence[Alert] = ()
        self._history = History()
        self._state: bytes | None = None
        self._newer = asyncio.Event()

    def update(self, snapshot: Snapshot, active: Sequence[Alert]) -> None:
        """Take over what is known now."""
        self._snapshot, self._active, self._state = snapshot, active, None
        self._history.add(snapshot)
        self._newer.set()
        self._newer = asyncio.Event()

    def state(self) -> bytes:
        """Return the newest state as JSON; RemoteError before the first."""
        if self._snapshot is None:
            raise RemoteError("nothing is known yet")
        if self._state is None:
            lamps = lamp_state(self._snapshot)
            self._state = ENCODE(page_state(self._snapshot, self._run, self._active, lamps, panel=self.panel))
        return self._state

    def history(self) -> bytes:
        """Return the past as JSON."""
        return self._history.encoded()

    async def wait(self) -> None:
        """Return when there is a newer state."""
        await self._newer.wait()

    def metrics(self) -> tuple[bytes, str] | None:
        """Return what Prometheus scrapes, None before anything is known."""
        if self._snapshot is None:
            return None
        return metrics.render(self._snapshot, [(each.name, each.instrument) for each in self._active])

    async def command(self, name: str, reason: str) -> dict[str, Any]:
        """Do what the page asks for, by the ways of everybody who asks from afar; MmpiError if it was not done."""
        if name.endswith(("_down", "_up")):
            return self._move(*name.split("_"))
        said: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

        def tell(_cmd: str, _id: str, result: str, text: str, answer: dict[str, Any]) -> None:
            # One that joined another of its kind hears no more: that one's end shows in the state.
            if said.done() or (result == "accepted" and not answer.get("joined")):
                return
            if result in ("done", "accepted"):
                shown: dict[str, Any] = {key: answer[key] for key in SHOWN if key in answer}
                said.set_result({"result": result, "text": text, **shown})
            else:
                said.set_exception(RefusedError(text) if result == "refused" else RemoteError(text))

        self._commands.do(Order(name, "", WHO, reason or f"from {WHO}", tell, awaited=True))
        return await said

    def _move(self, button: str, how: str) -> dict[str, Any]:
        if self._panel is None:
            raise RefusedError("this box has no virtual panel: its buttons are real")
        if wrong := self._panel.move(button, how == "down"):
            raise RefusedError(wrong)
        return {"result": "done", "text": f"{button} {how}"}
