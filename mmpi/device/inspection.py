"""Inspection: the walk through buttons and lamps after wiring, and what it says of each mistake.

A person (or a program that plays one) is asked to look and to press; the inspection compares what the lines say.

Invariant: a step passes only if the line was seen in both of its states, each when it should be.
It must not know terminals, or who the person is.
"""

from collections.abc import Callable
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
_RESTS_CLOSED: Final = {"kill": True, "kill_second": False, "arm": False}


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
        """Be asked: hands off, press kill, free kill, press arm, free arm, mains off or mains on; return at once."""
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

    def run(self) -> list[Verdict]:
        """Return every step's verdict; the lamps are dark afterwards."""
        verdicts = self._lamps()
        self._person.told("hands off")
        rest = self._at_rest()
        verdicts += self._kill(rest)
        if self._config.arm >= 0:
            verdicts.append(self._arm(rest))
        if self._config.power >= 0:
            verdicts.append(self._power())
        return verdicts

    # Lamps --------------------------------------------------------------------------------------------------------

    def _lamps(self) -> list[Verdict]:
        wired = [name for name in LAMPS if self._config.line(name) >= 0]
        seen: dict[str, frozenset[str]] = {}
        for name in ("", *wired):
            self._lines.light(Lamps(**{name: True}) if name else Lamps())
            self._tick()
            seen[name] = self._person.sees(name)
        self._lines.light(Lamps())
        return [self._lamp(name, seen) for name in wired]

    def _lamp(self, name: str, seen: dict[str, frozenset[str]]) -> Verdict:
        where = place(self._config.line(name))
        if name in seen[""]:
            text = f"on though {where} is low: it goes to 3.3 V instead of the pin, or its wire touches another"
        elif seen[name] == {name}:
            return Verdict(name, True, f"lit by {where}, and by nothing else")
        elif len(seen[name]) == 1 and seen.get(other := next(iter(seen[name]))) == {name}:
            text = (
                f"{other} lights instead, and {name} for {other}: they are swapped; exchange the wires of {where} and "
                f"{place(self._config.line(other))}, or the numbers of pins.{name} and pins.{other}"
            )
        elif seen[name]:
            text = f"{' and '.join(sorted(seen[name]))} instead of {name} alone, from {where}: wires touch, or are mixed up"
        else:
            text = (
                f"nothing from {where}: check that wire, the resistor, the LED's direction (long leg to the pin, short "
                f"leg to ground), and the wire to {_GROUND}"
            )
        return Verdict(name, False, text)

    # Contacts -----------------------------------------------------------------------------------------------------

    def _at_rest(self) -> dict[str, bool | None]:
        """Return each contact as it was all the time (closed or not); None = now so, now so."""
        seen: dict[str, set[bool | None]] = {name: set() for name in self._contacts}
        end = self._clock() + REST
        while self._clock() < end:
            for name in self._contacts:
                seen[name].add(self._lines.closed(name))
            self._tick()
        return {name: next(iter(states)) if len(states) == 1 else None for name, states in seen.items()}

    def _kill(self, rest: dict[str, bool | None]) -> list[Verdict]:
        names = [name for name in ("kill", "kill_second") if name in rest]
        if not names:
            return [Verdict("kill", False, "no kill button is wired (pins.kill = -1): nothing stops this box by hand")]
        pressed = {name: not _RESTS_CLOSED[name] for name in names}
        self._person.told("press kill")
        moved = self._until(pressed, rest)
        self._person.told("free kill")
        back = self._until({name: _RESTS_CLOSED[name] for name in names}, {})
        return [self._contact(name, rest, moved, back) for name in names]

    def _arm(self, rest: dict[str, bool | None]) -> Verdict:
        self._person.told("press arm")
        button, end, moved = ArmButton(), self._clock() + PATIENCE, set[str]()
        button.sample(False, 0, self._clock())
        held = False
        while not held and self._clock() < end:
            self._tick()
            moved |= {name for name in self._contacts if self._lines.closed(name) is not rest[name]}
            held = button.sample(self._lines.closed("arm") is True, 0, self._clock())
        self._person.told("free arm")
        back = self._until({"arm": False}, {})
        verdict = self._contact("arm", rest, moved, back)
        if not verdict.passed or held:
            return verdict
        text = f"pressed, but never for {HOLD // SECOND} s without a break: a loose wire, or it was let go too soon"
        return Verdict("arm", False, text)

    def _until(self, wanted: dict[str, bool], rest: dict[str, bool | None]) -> set[str]:
        """Wait until all are as wanted for a moment; return those that were, and others that moved from their rest."""
        since: dict[str, Nanos] = {}
        reached: set[str] = set()
        end = self._clock() + PATIENCE
        while not wanted.keys() <= reached and self._clock() < end:
            now = self._clock()
            for name in self._contacts:
                closed = self._lines.closed(name)
                if closed is wanted.get(name, not rest.get(name, closed)):
                    if now - since.setdefault(name, now) >= STEADY:
                        reached.add(name)
                else:
                    since.pop(name, None)
            self._tick()
        return reached

    def _contact(self, name: str, rest: dict[str, bool | None], moved: set[str], back: set[str]) -> Verdict:
        """Return the verdict on a contact that rested, moved when it was pressed, and came back."""
        where, right = place(self._config.line(name)), _RESTS_CLOSED[name]
        others = [_NAMES[other] for other in sorted(moved - {name}) if other != "kill" or name == "arm"]
        others = [] if name != "arm" and others == [_NAMES["kill_second"]] else others
        if rest[name] is None:
            text = f"{where} flickers while nobody touches it: a loose wire, or a plug that is not all the way in"
        elif rest[name] is not right:
            text = self._wrong_at_rest(name, where, pressed_is_rest=name in moved)
        elif name not in moved:
            said = "closed" if right else "open"
            instead = f"; instead {' and '.join(others)} moved: are their wires mixed up?" if others else ""
            text = f"{where} stays {said} when {_NAMES[name]} is pressed{instead or self._stuck(name)}"
        elif name not in back:
            text = f"{where} does not come back after {_NAMES[name]} is free again: it sticks, or was not turned free"
        else:
            said = "closed, and open when pressed" if right else "open, and closed when pressed"
            return Verdict(name, True, f"{where}: {said}")
        return Verdict(name, False, text)

    def _wrong_at_rest(self, name: str, where: str, *, pressed_is_rest: bool) -> str:
        """Return what it means that a contact rests the wrong way round; `pressed_is_rest`: it never left it."""
        if name != "kill":
            return (
                f"{where} reads closed while nobody presses: a normally closed contact where a normally open one belongs "
                "(marked NO, 3-4 or 13-14), or its wire is shorted to ground"
            )
        if self._closes_when_pressed:
            return (
                f"{where} reads open while nobody presses, and closed when pressed: the button is wired by its normally "
                "open contact; use the normally closed one (marked NC, 1-2 or 11-12)"
            )
        assert pressed_is_rest or not pressed_is_rest
        return (
            f"{where} reads open, pressed or not: its wire is cut or not plugged in, or the other wire does not reach "
            f"{_GROUND}"
        )

    def _stuck(self, name: str) -> str:
        if name == "kill":
            return ": its two wires touch, the pin is shorted to ground, or the contact is welded"
        return f": the wire is cut or not plugged in, or the other one does not reach {_GROUND}"

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
