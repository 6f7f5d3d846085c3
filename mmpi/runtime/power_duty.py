"""Power duty: what is done while the mains are gone: pause, save the journal, and in the end ask for the shutdown.

The cause `power` makes the guardian cancel everything at the same look; the journal is saved beside that, by a thread.
When the hold-off ends the file is written that turns the machine off (the guardian itself has no right to).

Invariant: nothing here waits on the guardian's loop, and no shutdown is asked for without the hold-off.
It must not know pins, gauges or units.
"""

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from mmpi.device.power import CAUSE, PowerWatch
from mmpi.instrument import Nanos
from mmpi.runtime.rescue import Rescue, Rescued
from mmpi.runtime.service import say

MARGIN_S: Final = 2.0
"""Of the hold-off, that are left to the machine's own end of file systems."""

Reading = Callable[[Nanos], tuple[bool | None, Nanos, str]]
"""Return (the mains are gone, when that was read, why it is not known)."""


class PowerDuty:
    """One supply's duty; a sense of the guardian."""

    def __init__(
        self,
        watch: PowerWatch,
        reading: Reading,
        rescue: Callable[[], Rescue],
        hold_off_s: float,
        poweroff: Path | None,
    ) -> None:
        """`poweroff`: the file that turns the machine off; None = it stays on."""
        self.rescued: Rescued | None = None
        self._watch, self._reading, self._rescue, self._poweroff = watch, reading, rescue, poweroff
        self._deadline_s = max(1.0, hold_off_s - MARGIN_S)
        self._enough = threading.Event()
        self._saving: threading.Thread | None = None
        self._run: Rescue | None = None
        """The rescue of the present failure, flaps and all."""
        self._failing = False

    def present(self, now: Nanos) -> Mapping[str, str]:
        """Return the cause `power`, while there is one."""
        failing, at, why = self._reading(now)
        self._watch.feed(failing, at, why)
        causes = self._watch.present(now)
        self._see_to_journal(CAUSE in causes and self._watch.status(now)["mains"] == "failing")
        if CAUSE not in causes:
            self._run = None
        if self._watch.shutdown_due(now) and self._poweroff is not None:
            say("mmpi guardian: the mains are gone for too long: asking for a clean shutdown")
            threading.Thread(target=self._turn_off, args=(self._poweroff,), daemon=True).start()
        return causes

    def status(self, now: Nanos) -> dict[str, Any]:
        """Return what observers may see."""
        saved = self.rescued
        return {**self._watch.status(now), "rescued": saved.folder if saved is not None else "", "saved": _said(saved)}

    def _see_to_journal(self, failing: bool) -> None:
        """Begin to save the journal when a failure begins; stop when the mains are back."""
        if failing and not self._failing and (self._saving is None or not self._saving.is_alive()):
            self._enough = threading.Event()
            work = (self._enough, self._deadline_s)
            self._saving = threading.Thread(target=self._save, args=work, name="rescue", daemon=True)
            self._saving.start()
        elif not failing:
            self._enough.set()
        self._failing = failing

    def _save(self, enough: threading.Event, deadline_s: float) -> None:
        try:
            self._run = self._run or self._rescue()
            self.rescued = self._run.save(deadline_s, enough)
        except Exception as error:
            say(f"mmpi guardian: the journal is not saved: {error}")
            return
        say(f"mmpi guardian: {_said(self.rescued)}")

    def _turn_off(self, file: Path) -> None:
        """Save what the journal has gained since, the proof of zero too, and ask for the end of the machine."""
        if self._saving is not None:
            # It ends at the same deadline; what it has saved is added to, and never twice at once.
            self._saving.join(MARGIN_S / 2)
        if self._saving is None or not self._saving.is_alive():
            self._save(threading.Event(), MARGIN_S / 2)
        try:
            file.touch(mode=0o640)
        except OSError as error:
            say(f"mmpi guardian: {file}: the shutdown cannot be asked for: {error.strerror}")


def _said(saved: Rescued | None) -> str:
    if saved is None:
        return ""
    why = f" ({saved.why})" if saved.why else ""
    return f"{saved.segments} journal segments ({saved.bytes} bytes) saved in {saved.seconds:.1f} s{why}"
