"""Stage: a rig, a venue and a timeline, and what every scenario does with them: begin with quotes, end without a doubt.

Invariant: a scenario that was played to its end was asked for what counts: no order of ours is alive at the venue, and
every fill of the venue's is in the box's ledger. It must not know single scenarios.
"""

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from hil.rig import ARM, KILL, SECOND, SUPPLY, Rig
from hil.timeline import Timeline
from hil.venue import Venue
from mmpi.journal.reader import read
from mmpi.journal.record import EVENT, Record, decode
from mmpi.journal.recovery import is_fill

LEVELS: Final = 2
QUOTES: Final = 2 * LEVELS
HOLD_S: Final = 3.4
"""The arm button is held for 3 s."""
LOOK_S: Final = 0.05
CONFIG: Final = """
[device]
id = "{rig}"

[venue]
name = "hyperliquid"
mode = "live"
url = "{url}"
network = "testnet"
ca_file = "/etc/mmpi/authority.pem"

[instruments.BTC]
quoter = "layered"

[instruments.BTC.layered]
levels = 2
spread_percent = 0.01
step_percent = 0.005
notional = 50
update_interval_s = 0.5

[risk]
capital = 10000
max_order = 200
max_position = 5000
max_instrument = 10000
max_total = 12000
session_loss = 500
max_drawdown = 500
max_fills_per_minute = 0

[power]
source = "pin"
hold_off_s = 3600
good_s = 2

[mqtt]
url = "mqtt://127.0.0.1"
username = "box"

[broker]
enabled = true
"""


class PromiseBrokenError(AssertionError):
    """A scenario saw what must not be."""


class NothingShownError(AssertionError):
    """A scenario did not come about, so that it shows nothing of a promise."""


class Stage:
    """One scenario on one rig."""

    def __init__(self, rig: Rig, venue: Venue, timeline: Timeline, seed: int) -> None:
        self.rig, self.venue, self.timeline, self.seed = rig, venue, timeline, seed
        self.dice: Final = random.Random(seed)

    # Waiting ------------------------------------------------------------------------------------------------------

    def wait(self, true: Callable[[], Any], within_s: float, what: str) -> float:
        """Wait until it is true; return the seconds that took. PromiseBrokenError if it takes longer.

        A rig that is slow has more time for it; for what is promised a time see `zero_within`.
        """
        began, within_s = time.monotonic(), within_s * self.rig.patience
        while not true():
            if time.monotonic() - began > within_s:
                raise PromiseBrokenError(f"waited {within_s:g} s for {what}; the box says: {self.told()}")
            time.sleep(LOOK_S)
        return time.monotonic() - began

    def stay(self, true: Callable[[], Any], for_s: float, what: str) -> None:
        """See that it stays true. PromiseBrokenError with `what` if it does not."""
        end = time.monotonic() + for_s
        while time.monotonic() < end:
            if not true():
                raise PromiseBrokenError(f"{what}; the box says: {self.told()}")
            time.sleep(LOOK_S)

    def told(self) -> str:
        """Return the box's state in a line."""
        status = self.rig.status()
        guardian = status.get("guardian") or {}
        return (
            f"latch {status.get('latch')} ({status.get('latch_reason', '')}), quoter {status.get('state')}"
            f" ({status.get('reason', '')}), guardian {guardian.get('state')}, causes {guardian.get('causes')}"
        )

    def live(self) -> int:
        """Return how many orders the venue has, -1 = it was not seen of late."""
        return -1 if (live := self.timeline.live()) is None else live

    def filled(self) -> None:
        """Wait until the account has a fill: without one, none can be lost."""
        self.wait(lambda: self.venue.fills(), 90, "a fill")

    def positions_agree(self) -> None:
        """See that the box holds what the venue says: nothing was counted twice, and nothing is missing."""

        def agree() -> bool:
            told = (self.rig.status().get("instruments") or {}).get("BTC", {}).get("position", "nan")
            return abs(float(told) - self.venue.position("BTC")) < 1e-9

        self.wait(agree, 20, f"a position of {self.venue.position('BTC')}")

    def befall(self, what: str, act: Callable[[], object]) -> float:
        """Bring a trouble about; return when that began. What it takes is added to what is promised."""
        at = self.timeline.trouble(what)
        act()
        self.timeline.took = self.timeline.now - at
        return at

    def latched(self) -> bool:
        """Return whether the box is latched."""
        return bool(self.rig.status().get("latch") == "latched")

    def causes(self) -> list[str]:
        """Return why the box is kept from quoting."""
        return list((self.rig.status().get("guardian") or {}).get("causes", []))

    # What a hand does ---------------------------------------------------------------------------------------------

    def press(self) -> None:
        """Press the red button and keep it pressed: one contact opens, the other closes."""
        self.rig.drive(SECOND, 0)
        self.rig.drive(KILL, None)

    def release(self) -> None:
        """Let the red button go."""
        self.rig.drive(KILL, 0)
        self.rig.drive(SECOND, None)

    def mains(self, *, there: bool) -> None:
        """Have the supply say that the mains are there, or failed."""
        self.rig.drive(SUPPLY, 1 if there else 0)

    def arm(self) -> None:
        """Hold the arm button until the box is armed: it must be latched, and its stop proven."""
        self.wait(self.latched, 10, "a box that is latched")
        for _ in range(round(10 * self.rig.patience)):
            self.rig.drive(ARM, 0)
            time.sleep(HOLD_S)
            self.rig.drive(ARM, None)
            end = time.monotonic() + 2
            while time.monotonic() < end:
                if self.rig.status().get("latch") == "armed":
                    return
                time.sleep(LOOK_S)
        raise PromiseBrokenError(f"it cannot be armed: {self.told()}")

    def quoting(self, within_s: float = 40.0) -> None:
        """Wait until the whole ladder is alive at the venue."""
        self.wait(lambda: self.live() >= QUOTES, within_s, f"{QUOTES} quotes at the venue, it has {self.live()}")
        self.timeline.note("quoting")

    # What is promised ---------------------------------------------------------------------------------------------

    def zero_within(self, since: float, seconds: float) -> None:
        """Wait until the venue has no order; PromiseBrokenError if that was later than `seconds` after `since`."""
        if since == self.timeline.trouble_at:
            seconds += self.timeline.took
        while (zero := self.timeline.first_zero(since)) is None:
            if (waited := self.timeline.now - since) > seconds + 2.0:
                left = f"after {waited:.1f} s the venue has {self.live()} orders"
                raise PromiseBrokenError(f"{left}; the box says: {self.told()}")
            time.sleep(LOOK_S)
        self.timeline.note("no order is alive")
        if zero - since > seconds:
            raise PromiseBrokenError(f"{zero - since:.2f} s with an order alive; allowed: {seconds:g} s")

    def finish(self, folder: Path) -> None:
        """End: press, see the venue empty, have everything stopped, and hold the ledger against the venue's fills."""
        at = self.timeline.note("the end: press, and compare")
        self.press()
        self.wait(lambda: self.timeline.first_zero(at), 15, "a venue without an order in the end")
        self.wait(lambda: (self.rig.status().get("guardian") or {}).get("verified_zero"), 20, "a verified zero")
        code, said = self.rig.shell("systemctl stop mmpi.target")
        if code != 0:
            raise PromiseBrokenError(f"the services do not end: {said}")
        if self.venue.orders():
            raise PromiseBrokenError(f"alive at the venue in the end: {self.venue.orders()}")
        known = {
            value.exec_id
            for item in read(self.rig.ledger(folder))
            if isinstance(item, Record) and item.kind == EVENT and is_fill(value := decode(item))
        }
        if lost := sorted(set(self.venue.fills()) - known):
            raise PromiseBrokenError(f"{len(lost)} fills of the venue's are not in the ledger: {lost[:5]}")


def config(rig: Rig) -> str:
    """Return a box's configuration on a rig."""
    return CONFIG.format(rig=rig.name, url=rig.venue_url) + rig.settings
