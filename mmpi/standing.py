"""Standing: how the account stands with venue, guardian, clock and its own end, and so why nothing may be placed.

Invariant: the states in which nothing is placed are all named in `why`, the gravest first; none ends by time alone.
It must not know orders, markets or limits' figures.
"""

from mmpi.events import ClockTrust, Flatten, Halted
from mmpi.structs import State


class StandingState(State, frozen=True):
    """A Standing as plain values."""

    texts: "tuple[str, str, str, str, str]"
    flags: "tuple[bool, bool, bool, bool, bool, bool]"


class Standing:
    """The account's standing; the engine tells it what happened."""

    def __init__(self) -> None:
        self.connected = False
        self.reconciled = False
        self.halt = ""
        """The guardian's reason, "" = it lets us quote."""
        self.latched = False
        self.stop = ""
        """Why we are ending; never taken back (I14)."""
        self.stopped = False
        """Stopping is over: the venue itself said that no order of ours is live."""
        self.fault = ""
        """Why the venue will not let this account trade; only a person mends that, and starts again."""
        self.clock = ""
        """Why the clock is not trusted (I8)."""
        self.storage = ""
        """Why what must be kept cannot be kept (I2)."""
        self.flatten = False
        """The guardian lets us place what reduces a position, and nothing else."""
        self._rearm = False

    def on_connected(self) -> None:
        """A session begins: whatever was known of the account is old."""
        self.connected, self.reconciled = True, False

    def on_disconnected(self) -> None:
        """The session is gone."""
        self.connected = self.reconciled = False

    def on_halted(self, event: Halted) -> None:
        """The halt word forbids placing."""
        self.halt, self.latched = event.reason or "halted", event.latched
        self._rearm = self._rearm or event.latched
        self.reconciled = self.flatten = False

    def on_flatten(self, event: Flatten) -> None:
        """What is held is to be sold; of quoting there is no question."""
        self.halt, self.flatten = event.reason or "flatten", True
        self.reconciled = False

    def on_resumed(self) -> bool:
        """Return True if a person armed since the last latch, whatever pauses came between; the halt is over."""
        rearmed, self._rearm = self._rearm, False
        self.halt, self.latched = "", False
        self.reconciled = self.flatten = False
        return rearmed

    def on_clock(self, event: ClockTrust) -> None:
        """The clock is trusted, or no longer."""
        self.clock = "" if event.trusted else event.reason or "not trusted"

    def may_trade(self, breach: str) -> bool:
        """Return True if orders are or will soon be wanted: the session is up and nothing that lasts forbids them."""
        return self.connected and not (self.stop or self.halt or self.fault or self.clock or self.storage or breach)

    @property
    def is_ending(self) -> bool:
        """Return True if nothing will ever be placed again by this run."""
        return bool(self.stop or self.fault)

    def holds_up(self) -> str:
        """Return why not even what reduces may be placed, "" = it may."""
        if self.stop:
            return "stopping"
        if self.fault:
            return f"venue: {self.fault}"
        if self.clock:
            return f"clock: {self.clock}"
        if self.storage:
            return f"journal: {self.storage}"
        if not self.connected:
            return "connecting"
        return "" if self.reconciled else "reconciling"

    def why(self, breach: str, waits: str) -> str:
        """Return why nothing may be placed, "" = quoting; `waits` is what else is not there yet, "" = nothing."""
        if self.stop:
            return "stopping"
        if self.flatten:
            return f"flattening: {self.halt}"
        if self.halt:
            return f"{'latched' if self.latched else 'paused'}: {self.halt}"
        if breach:
            return f"limit: {breach}"
        if self.fault:
            return f"venue: {self.fault}"
        if self.clock:
            return f"clock: {self.clock}"
        if self.storage:
            return f"journal: {self.storage}"
        if not self.connected:
            return "connecting"
        return waits if self.reconciled else "reconciling"

    def checkpoint(self) -> StandingState:
        """Return the state as plain values."""
        return StandingState(
            (self.halt, self.stop, self.fault, self.clock, self.storage),
            (self.connected, self.reconciled, self.latched, self.stopped, self.flatten, self._rearm),
        )

    def restore(self, state: StandingState) -> None:
        """Take the state that `checkpoint` returned."""
        self.halt, self.stop, self.fault, self.clock, self.storage = state.texts
        self.connected, self.reconciled, self.latched, self.stopped, self.flatten, self._rearm = state.flags
