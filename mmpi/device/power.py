"""Power: what to make of a supply that says whether the mains are there.

A pause wants proof that the mains are back, a shutdown wants proof that they are gone: while nobody knows, neither
happens. So a single good reading begins the hold-off anew, and a single failing one begins `good_s` anew.

Invariant: no shutdown without failing readings, and nothing but these, up to its moment; time is an argument.
It must not know pins, gauges or who cancels what.
"""

from typing import Any, Final

import msgspec

from mmpi.instrument import SECOND, Nanos

NEARBY: Final[Nanos] = SECOND
"""Two failing readings so close to each other are a failure, whatever stands between them: a supply that flaps."""
UNKNOWN: Final[Nanos] = 5 * SECOND
"""Without a reading for so long nobody knows whether the mains are there."""
CAUSE: Final = "power"
NOTHING: Final = "no reading"


class PowerLimits(msgspec.Struct, frozen=True):
    """How patient to be."""

    hold_off_s: float = 20.0
    """Failing for this long without a break: the machine is to be shut down."""
    good_s: float = 10.0
    """Good for this long without a break: the pause ends."""
    silence_pauses: bool = False
    """Nobody knowing is a cause, too: for a gauge. A pin that cannot be read latches by itself (pins)."""


class PowerWatch:
    """Follows one supply by its readings."""

    def __init__(self, limits: PowerLimits) -> None:
        self._limits: Final = limits
        self._hold_off: Final[Nanos] = round(limits.hold_off_s * SECOND)
        self._good_for: Final[Nanos] = round(limits.good_s * SECOND)
        self._began: Nanos | None = None
        """When this watch was first told or asked anything."""
        self._heard: Nanos | None = None
        """When the last reading was taken that said something."""
        self._bad_since: Nanos | None = None
        """The first of the present run of failing readings; None = the last one was good, or there is none."""
        self._good_since: Nanos | None = None
        self._last_bad: Nanos | None = None
        self._failed = False
        """A failure was confirmed, and is not over."""
        self._shut_down = False
        """`shutdown_due` has spoken about this failure."""
        self._why = ""

    def feed(self, failing: bool | None, at: Nanos, why: str = "") -> None:
        """Take a reading: True = the mains are gone, None = it could not be had, and `why`.

        `at`: when it was taken, by a clock that never jumps; one that was fed already changes nothing.
        """
        if self._began is None:
            self._began = at
        if failing is None:
            self._why = why
        elif self._heard is None or at > self._heard:
            follows = self._heard is not None and at - self._heard <= UNKNOWN
            self._heard, self._why = at, ""
            if failing:
                self._feed_bad(at, follows)
            else:
                self._feed_good(at, follows)

    def present(self, now: Nanos) -> dict[str, str]:
        """Return the cause `power` with its detail, while there is one."""
        if self._began is None:
            self._began = now
        if self._failed and self._good_since is not None:
            return {CAUSE: f"the mains are back, but not yet for {self._limits.good_s:g} s"}
        if self._failed:
            return {CAUSE: "the mains failed"}
        if self._limits.silence_pauses and self._silent(now):
            return {CAUSE: f"nobody says whether the mains are there: {self._why or NOTHING}"}
        return {}

    def shutdown_due(self, now: Nanos) -> bool:
        """Return True once for each failure: the mains have been failing for the hold-off without a break."""
        if self._shut_down or not self._failed or self._bad_since is None or self._silent(now):
            return False
        self._shut_down = now - self._bad_since >= self._hold_off
        return self._shut_down

    def status(self, now: Nanos) -> dict[str, Any]:
        """Return what observers may see: mains (good, failing, unknown), for how long they fail, why it is unknown."""
        if self._heard is None or self._silent(now):
            return {"mains": "unknown", "failing_s": None, "why": self._why or NOTHING}
        if not self._failed or self._bad_since is None:
            return {"mains": "good", "failing_s": None, "why": ""}
        return {"mains": "failing", "failing_s": round((now - self._bad_since) / SECOND, 1), "why": ""}

    def _feed_bad(self, at: Nanos, follows: bool) -> None:
        again = follows and self._bad_since is not None
        nearby = self._last_bad is not None and at - self._last_bad <= NEARBY
        self._failed = self._failed or again or nearby
        if not again:
            self._bad_since = at
        self._last_bad, self._good_since = at, None

    def _feed_good(self, at: Nanos, follows: bool) -> None:
        self._bad_since = None
        if self._good_since is None or not follows:
            self._good_since = at
        if at - self._good_since >= self._good_for:
            self._failed = self._shut_down = False

    def _silent(self, now: Nanos) -> bool:
        last = self._heard if self._heard is not None else self._began
        return last is not None and now - last > UNKNOWN
