"""Inspection: the walk through buttons and lamps after wiring, and what it says of each mistake.

A person (or a program that plays one) is asked to look and to press; the inspection compares what the lines say.

Invariant: a step passes only if the line was seen in both of its states, each when it should be.
It must not know terminals, or who the person is.
"""

from collections.abc import Callable, Iterator
from typing import Final, Protocol

import msgspec

from mmpi.device.arm_button import HOLD, ArmButton
from mmpi.device.header import GROUNDS, place
from mmpi.device.lights import Lamps
from mmpi.device.panel_lines import LAMPS, PanelConfig, PanelLines
from mmpi.instrument import MILLISECOND, SECOND, Nanos

POLL: Final[Nanos] = 20 * MILLISECOND
REST: Final[Nanos] = SECOND
"""A contact is watched for this long before it is called at rest."""
PATIENCE: Final[Nanos] = 30 * SECOND
"""For a person to do what was asked."""
STEADY: Final[Nanos] = 200 * MILLISECOND
"""What a contact has to stay for, so that bouncing is no answer."""

_GROUND: Final = f"ground (header pins {', '.join(map(str, GROUNDS[:-1]))} or {GROUNDS[-1]})"
_NAMES: Final = {"kill": "the red button", "kill_second": "the second contact", "arm": "the arm button"}
_WRONG: Final = {
    (True, True): "reads open while nobody presses, and closed when pressed: the button is wired by its normally open "
    "contact; use the normally closed one (marked NC, 1-2 or 11-12)",
    (True, False): "reads open, pressed or not: its wire is cut or not plugged in, or the other wire does not reach "
    f"{_GROUND}",
    (False, True): "reads closed while nobody presses, and open when pressed: a normally closed contact; use the "
    "normally open one (marked NO, 3-4 or 13-14)",
    (False, False): "reads closed, pressed or not: its two wires touch, the pin is shorted to ground, or the button is "
    "stuck",
}
"""(is it the kill contact, was it as it should rest when it was pressed) -> what is wrong."""
_STUCK: Final = {
    True: "stays closed when pressed: its two wires touch, the pin is shorted to ground, or the contact is welded",
    False: f"stays open when pressed: its wire is cut or not plugged in, or the other wire does not reach {_GROUND}",
}


class Verdict(msgspec.Struct, frozen=True):
    """What came of one step; `text` says what is right, or exactly what to check."""

    step: str
    passed: bool
    text: str


class Person(Protocol):
    """Who looks and presses."""

    def sees(self, expected: str) -> frozenset[str]:
        """Return which lamps are lit (or "buzzer") now; `expected` is the one that should be, "" = none."""
        ...

    def told(self, wish: str) -> None:
        """Be asked: hands off, press kill, free kill, press arm, free arm, mains off or mains on.

        Returns as soon as it was asked; after "hands off", when that is so.
        """
        ...


class Inspection:
    """One walk. Time and patience are arguments, so that nothing here knows a clock."""

    def __init__(
        self,
        config: PanelConfig,
        lines: PanelLines,
        person: Person,
        clock: Callable[[], Nanos],
        sleep: Callable[[Nanos], None],
    ) -> None:
        self._config, self._lines, self._person = config, lines, person
        self._clock, self._sleep = clock, sleep
        self._contacts: Final = [name for name in _NAMES if config.line(name) >= 0]

    def run(self) -> Iterator[Verdict]:
        """Yield each step's verdict; DeviceError if a line fails. The lamps are dark afterwards."""
        yield from self._lamps()
        self._person.told("hands off")
        rest = self._at_rest()
        yield from self._kill(rest)
        if self._config.arm >= 0:
            yield self._arm(rest)
        if self._config.power >= 0:
            yield self._power()

    # Lamps --------------------------------------------------------------------------------------------------------

    def _lamps(self) -> list[Verdict]:
        wired = [name for name in LAMPS if self._config.line(name) >= 0]
        seen: dict[str, frozenset[str]] = {}
        for name in ("", *wired):
            self._lines.light(Lamps(**{name: True}) if name else Lamps())
            self._tick()
            seen[name] = self._person.sees(name)
            if name:
                # What is lit all the time is that lamp's own mistake.
                seen[name] -= seen[""] - {name}
        self._lines.light(Lamps())
        return [self._lamp(name, seen) for name in wired]

    def _lamp(self, name: str, seen: dict[str, frozenset[str]]) -> Verdict:
        where = place(self._config.line(name))
        if name in seen[""]:
            text = f"on though {where} is low: it goes to 3.3 V instead of the pin, or its wire touches another"
        elif seen[name] == {name}:
            return Verdict(name, True, f"lit by {where}, and by nothing else")
        elif len(seen[name]) == 1 and seen.get(other := next(iter(seen[name])), frozenset()) == {name}:
            text = (
                f"{other} lights instead, and {name} for {other}: they are swapped; exchange the wires of {where} and "
                f"{place(self._config.line(other))}, or the numbers of pins.{name} and pins.{other}"
            )
        elif seen[name]:
            lit = " and ".join(sorted(seen[name]))
            text = f"{lit} instead of {name} alone, from {where}: wires touch, or are mixed up"
        else:
            text = (
                f"nothing from {where}: check that wire, the resistor, the LED's direction (long leg to the pin, short "
                f"leg to ground), and the wire to {_GROUND}"
            )
        return Verdict(name, False, text)

    # Contacts -----------------------------------------------------------------------------------------------------

    def _at_rest(self) -> dict[str, bool | None]:
        """Return each contact as it was all the time (True = closed); None = now so, now so."""
        seen: dict[str, set[bool | None]] = {name: set() for name in self._contacts}
        self._lines.take_edges()
        end = self._clock() + REST
        while self._clock() < end:
            for name in self._contacts:
                seen[name].add(self._lines.closed(name))
            self._tick()
        for name in self._lines.take_edges().keys() & seen.keys():
            # It moved between two samples, as a loose wire does that picks up the mains.
            seen[name].add(None)
        return {name: next(iter(states)) if len(states) == 1 else None for name, states in seen.items()}

    def _kill(self, rest: dict[str, bool | None]) -> list[Verdict]:
        if "kill" not in rest:
            return [Verdict("kill", False, "no kill button is wired (pins.kill = -1): no hand stops this box")]
        names = [name for name in ("kill", "kill_second") if name in rest]
        self._person.told("press kill")
        pressed = self._watch({name: not rest[name] for name in names})
        self._person.told("free kill")
        freed = self._watch({name: bool(rest[name]) for name in names})
        moved = self._moved({"arm"}, rest, pressed)
        return [self._contact(name, rest[name], pressed[name], freed[name], moved) for name in names]

    def _arm(self, rest: dict[str, bool | None]) -> Verdict:
        self._person.told("press arm")
        hold = _Hold(self._lines, self._clock)
        pressed = self._watch({"arm": not rest["arm"]}, hold)
        self._person.told("free arm")
        freed = self._watch({"arm": bool(rest["arm"])})
        moved = self._moved({"kill", "kill_second"}, rest, pressed)
        verdict = self._contact("arm", rest["arm"], pressed["arm"], freed["arm"], moved)
        if not verdict.passed or hold.done:
            return verdict
        text = f"pressed, but never for {HOLD // SECOND} s without a break: a loose wire, or it was let go too soon"
        return Verdict("arm", False, text)

    def _watch(self, wanted: dict[str, bool], enough: Callable[[], bool] = lambda: True) -> dict[str, set[bool]]:
        """Return the states in which each contact stood steady, until all were as wanted and `enough`, or too long."""
        steady: dict[str, set[bool]] = {name: set() for name in self._contacts}
        since: dict[str, tuple[bool | None, Nanos]] = {}
        end = self._clock() + PATIENCE
        while (now := self._clock()) < end:
            for name in self._contacts:
                closed = self._lines.closed(name)
                if name not in since or since[name][0] is not closed:
                    since[name] = closed, now
                elif now - since[name][1] >= STEADY:
                    steady[name].add(closed is True)
            if enough() and all(state in steady[name] for name, state in wanted.items()):
                break
            self._tick()
        return steady

    @staticmethod
    def _moved(others: set[str], rest: dict[str, bool | None], seen: dict[str, set[bool]]) -> str:
        """Return which contacts of the other button left their rest; "" = none."""
        known = [name for name in seen if name in others and rest[name] is not None]
        return " and ".join(_NAMES[name] for name in known if (not rest[name]) in seen[name])

    def _contact(self, name: str, rest: bool | None, pressed: set[bool], freed: set[bool], moved: str) -> Verdict:
        """Return the verdict on a contact that rested, was pressed, and was let go; `moved`: what else did."""
        where, right = place(self._config.line(name)), name == "kill"
        if rest is None:
            text = "flickers while nobody touches it: a loose wire, or a plug that is not all the way in"
        elif rest is not right:
            text = _WRONG[name == "kill", right in pressed]
        elif moved and (not right) not in pressed:
            text = f"stays as it is when {_NAMES[name]} is pressed; instead {moved} moved: are their wires mixed up?"
        elif (not right) not in pressed:
            text = _STUCK[name == "kill"]
        elif right not in freed:
            text = "does not come back when it is let go: it sticks, or was not turned free"
        else:
            return Verdict(name, True, f"{where}: {'closed, and open' if right else 'open, and closed'} when pressed")
        return Verdict(name, False, f"{where} {text}")

    # The supply ---------------------------------------------------------------------------------------------------

    def _power(self) -> Verdict:
        where, failing = place(self._config.power), 1 if self._config.power_fail_level == "high" else 0
        if self._lines.level("power") == failing:
            text = (
                f"{where} says that the mains failed: are they on? Is the wire plugged in, and power.fail_level = "
                f"{self._config.power_fail_level} right for this supply?"
            )
            return Verdict("power", False, text)
        for wish, level, text in (
            ("mains off", failing, f"{where} does not say that the mains failed: see the supply's manual for its pin"),
            ("mains on", 1 - failing, f"{where} does not say that the mains are back"),
        ):
            self._person.told(wish)
            end = self._clock() + PATIENCE
            while self._lines.level("power") != level:
                if self._clock() >= end:
                    return Verdict("power", False, text)
                self._tick()
        return Verdict("power", True, f"{where}: {self._config.power_fail_level} while the mains are gone")

    def _tick(self) -> None:
        self._lines.beat(self._clock())
        self._sleep(POLL)


class _Hold:
    """Whether the arm button was held for as long as arming takes, by the guardian's own timing."""

    def __init__(self, lines: PanelLines, clock: Callable[[], Nanos]) -> None:
        self.done = False
        self._lines, self._clock = lines, clock
        self._button: Final = ArmButton()
        self._button.sample(False, 0, clock())

    def __call__(self) -> bool:
        """Take a sample; return True once it was held."""
        self.done = self._button.sample(self._lines.closed("arm") is True, 0, self._clock()) or self.done
        return self.done
