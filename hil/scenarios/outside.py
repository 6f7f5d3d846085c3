"""Scenarios of the world outside: the network, and the venue."""

import time

from hil.rig import NETWORK, PINS
from hil.scenarios import scenario
from hil.scenarios.button import latched
from hil.scenarios.power import CUT_S, DEAD_MAN_S
from hil.stage import Stage

AWAY_S = 12.0
"""Longer than the dead man waits."""
ERRORS_S = 10.0
"""A cancel that is refused is sent again."""
DEAF_S = DEAD_MAN_S + 4.0
"""What is sent still arrives, so that the dead man waits anew until the silence is found out."""


@scenario("without a network the dead man ends every order; on return nothing is counted twice", NETWORK, limit_s=CUT_S)
def network_cut(stage: Stage) -> None:
    """The cable is pulled, and plugged in again when the venue has ended everything."""
    at = stage.timeline.trouble("the cable is pulled")
    stage.rig.cable(plugged=False)
    stage.zero_within(at, CUT_S)
    time.sleep(AWAY_S - CUT_S)
    stage.rig.cable(plugged=True)
    stage.timeline.note("the cable is plugged in")
    stage.quoting(60)
    stage.positions_agree()


@scenario("a connection that has died without a word is no connection", NETWORK, limit_s=DEAF_S)
def half_open_network(stage: Stage) -> None:
    """What the venue sends is lost, and what the box sends arrives, for some seconds."""
    at = stage.timeline.trouble("nothing reaches the box any more")
    stage.rig.deaf(on=True)
    stage.zero_within(at, DEAF_S)
    stage.rig.deaf(on=False)
    stage.timeline.note("the box hears again")
    stage.quoting(60)
    stage.positions_agree()


@scenario("a venue that hangs is left alone, and quoting goes on when it answers", PINS)
def venue_hangs(stage: Stage) -> None:
    """The server stands still for ten seconds; what it does then must not be more than was asked for."""
    stage.timeline.trouble("the venue hangs")
    stage.venue.hang(on=True)
    time.sleep(10)
    stage.venue.hang(on=False)
    stage.timeline.note("the venue goes on")
    stage.quoting(60)
    stage.positions_agree()


@scenario("errors of the venue's are no reason to quote blindly, and a press works among them", PINS, limit_s=ERRORS_S)
def venue_errors(stage: Stage) -> None:
    """Half of all requests are refused with 429 or 502 for a while; in the midst of it the button is pressed."""
    stage.timeline.note("half of all requests are refused")
    stage.venue.faults("http_429:p=0.3", "http_5xx:p=0.3,executed=1")
    time.sleep(stage.dice.uniform(5, 8))
    at = stage.timeline.trouble("the button is pressed")
    stage.press()
    stage.zero_within(at, ERRORS_S)
    stage.venue.faults()
    latched(stage, "kill")
    stage.positions_agree()


@scenario("sockets that are cut again and again are made again, and the position stays right", PINS)
def venue_cuts_sockets(stage: Stage) -> None:
    """Ten times at random moments."""
    stage.timeline.trouble("sockets are cut")
    for _ in range(10):
        stage.venue.close_sockets()
        time.sleep(stage.dice.uniform(0.2, 1.5))
    stage.quoting()
    stage.positions_agree()


@scenario("nothing is placed before the venue has said what there is", NETWORK)
def venue_without_answers(stage: Stage) -> None:
    """Sockets are cut, and from then on every question is refused, while orders would be taken, unanswered."""
    stage.venue.faults("http_5xx:p=1,executed=1")
    stage.venue.close_sockets()
    at = stage.timeline.trouble("sockets are cut, and no question is answered")
    stage.wait(lambda: stage.live() == 0, 30, "a venue without an order")
    before = len(stage.venue.placed())
    stage.stay(lambda: len(stage.venue.placed()) == before, AWAY_S, "an order was placed before the account was known")
    stage.venue.faults()
    stage.timeline.note(f"answers again, after {stage.timeline.now - at:.0f} s")
    stage.quoting(60)
    stage.positions_agree()
