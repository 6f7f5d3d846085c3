"""Wiring drawing: makes docs/wiring.svg. Run it from the project's root: python docs/wiring_drawing.py

Invariant: pins come from the configuration's defaults and mmpi.device.header, so the drawing cannot differ from them.
It must not know what the box does with a button.
"""

from pathlib import Path
from typing import Final

from mmpi.device.header import GROUNDS, PINS
from mmpi.sections import PinSettings

SECOND, BUZZER, POWER = 19, 12, 6
"""Lines of what the defaults leave out, in this drawing and in docs/wiring.md; GPIO6 is the X1200's."""
WIDTH, HEIGHT = 1100, 800
ROW, TOP = 34, 84
LEFT, RIGHT = 760, 794
"""Where the odd and the even pins are."""
RAIL = 60
INK, FAINT, GROUND, HOT = "#1b1b1b", "#8a8a8a", "#2f4f2f", "#a33"
COLOURS: Final = {"green": "#2ca02c", "amber": "#ffb000", "red": "#d62728"}
PLAIN: Final = PinSettings()


def row(pin: int) -> int:
    """Return the height of a header pin's row."""
    return TOP + (pin - 1) // 2 * ROW


def line(x1: float, y1: float, x2: float, y2: float, colour: str = INK, width: float = 2, dash: str = "") -> str:
    """Return a straight line."""
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{colour}" stroke-width="{width}"{dashes}/>'


def dot(x: float, y: float, radius: float = 4, fill: str = INK) -> str:
    """Return a filled circle."""
    return f'<circle cx="{x}" cy="{y}" r="{radius}" fill="{fill}"/>'


def text(
    x: float, y: float, words: str, size: int = 13, anchor: str = "start", colour: str = INK, bold: bool = False
) -> str:
    """Return a line of text."""
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x}" y="{y}" font-size="{size}" text-anchor="{anchor}" fill="{colour}"{weight}>{words}</text>'


def box(x: float, y: float, width: float, height: float, fill: str = "white", corner: float = 3) -> str:
    """Return a rectangle."""
    shape = f'x="{x}" y="{y}" width="{width}" height="{height}" rx="{corner}"'
    return f'<rect {shape} fill="{fill}" stroke="{INK}" stroke-width="1.5"/>'


def header(used: dict[int, str]) -> list[str]:
    """Return the board's edge and its 40 pins; those in `used` (pin -> colour) stand out."""
    parts = [box(LEFT - 26, TOP - 44, 180, 20 * ROW + 52, "#e9f3ea", 14)]
    parts.append(text(LEFT - 14, TOP - 24, "Raspberry Pi, from above", 11))
    for pin in range(1, 41):
        x, y = (LEFT if pin % 2 else RIGHT), row(pin)
        fill = used.get(pin, GROUND if pin in GROUNDS else "#cfcfcf")
        parts.append(f'<circle cx="{x}" cy="{y}" r="12" fill="{fill}" stroke="{INK}"/>')
        dark = fill == COLOURS["amber"]
        ink = INK if dark else "white" if pin in used or pin in GROUNDS else FAINT
        parts.append(text(x, y + 4, str(pin), 11, "middle", ink, bold=pin in used))
    parts.append(text(LEFT - 14, TOP + 20 * ROW - 6, "USB sockets at this end", 11))
    return parts


def lamp(name: str, line_number: int) -> list[str]:
    """Return a lamp with its resistor, from its pin to the rail."""
    y = row(PINS[line_number])
    return [
        line(LEFT - 12, y, RAIL, y),
        box(600, y - 7, 56, 14),
        text(628, y + 4, "330 Ω", 10, "middle"),
        f'<polygon points="492,{y - 10} 492,{y + 10} 472,{y}" fill="{COLOURS[name]}" stroke="{INK}"/>',
        line(472, y - 10, 472, y + 10, INK, 2.5),
        text(500, y - 5, "+", 12),
        text(RAIL + 12, y - 5, f"{name} lamp", 13, bold=True),
        text(LEFT - 32, y - 5, f"GPIO{line_number}", 11, "end"),
        dot(RAIL, y),
    ]


def contact(line_number: int, x: float, words: str, *, closed: bool, dash: str = "") -> list[str]:
    """Return a contact in the wire from its pin to the rail, drawn as it is while nobody presses."""
    y = row(PINS[line_number])
    blade = line(x - 34, y, x + 36, y - 1, INK, 3) if closed else line(x - 34, y, x + 30, y - 15, INK, 3)
    return [
        line(LEFT - 12, y, x + 34, y, INK, 2, dash),
        line(x - 34, y, RAIL, y, INK, 2, dash),
        blade,
        dot(x - 34, y),
        dot(x + 34, y),
        text(RAIL + 12, y - 5, words, 13, bold=True),
        text(LEFT - 32, y - 5, f"GPIO{line_number}", 11, "end"),
        dot(RAIL, y),
    ]


def kill_head(x: float, top: float, bottom: float) -> list[str]:
    """Return the mushroom button and its stem, which moves both contacts."""
    return [
        line(x, top + 20, x, bottom, HOT, 2, "5 4"),
        f'<path d="M {x - 46} {top + 20} A 46 38 0 0 1 {x + 46} {top + 20} Z" fill="{COLOURS["red"]}" stroke="{INK}"/>',
        box(x - 14, top + 20, 28, 9, "#555", 0),
    ]


def rail() -> list[str]:
    """Return the ground rail and the wires that join it to the header at both ends."""
    first, last = row(9), row(39)
    return [
        line(RAIL, first, RAIL, last, GROUND, 4),
        line(RAIL, first, LEFT - 12, first, GROUND, 3),
        line(RAIL, last, LEFT - 12, last, GROUND, 3),
        text(RAIL + 12, first - 6, "ground", 13, colour=GROUND, bold=True),
        text(RAIL + 12, last - 6, "ground, a second wire", 13, colour=GROUND, bold=True),
    ]


def extras() -> list[str]:
    """Return what a box may have besides: the supply's wire and the buzzer."""
    supply, buzzer, ground = row(PINS[POWER]), row(PINS[BUZZER]), row(34)
    return [
        box(580, supply - 12, 84, 24, "#eef"),
        text(622, supply + 4, "UPS: mains?", 11, "middle"),
        line(664, supply, LEFT - 12, supply, INK, 2, "6 3"),
        text(LEFT - 32, supply - 5, f"GPIO{POWER}", 11, "end"),
        line(RIGHT + 12, buzzer, 956, buzzer, INK, 2, "6 3"),
        line(RIGHT + 12, ground, 956, ground, GROUND, 2, "6 3"),
        f'<circle cx="976" cy="{(buzzer + ground) / 2}" r="24" fill="#333"/>',
        dot(976, (buzzer + ground) / 2, 5, "white"),
        text(1008, (buzzer + ground) / 2 + 4, "buzzer", 13, bold=True),
        text(RIGHT + 18, buzzer - 5, f"GPIO{BUZZER}", 11),
        text(RIGHT + 18, ground + 14, "ground", 11, colour=GROUND),
    ]


NOTES: Final = (
    (18, "Kill button", (
        "red mushroom, latching, with two contact blocks", "NC, closed = healthy; pressed, cut, unplugged:",
        "open = everything stops", "NO, optional: finds a wire shorted to ground",
    )),
    (470, "Dashed", ("optional",)),
    (470, "Contacts", ("drawn while nobody", "presses",)),
)  # fmt: skip


def notes() -> list[str]:
    """Return the words at the top."""
    parts, heights = [], {18: TOP + 10, 470: TOP + 10}
    for x, head, lines in NOTES:
        parts.append(text(x, heights[x], head, 12, bold=True))
        for words in lines:
            parts.append(text(x + 94, heights[x], words, 12))
            heights[x] += 19
    return parts


def drawing() -> str:
    """Return the whole picture as SVG."""
    lamps = {name: getattr(PLAIN, name) for name in COLOURS}
    used = {PINS[number]: COLOURS[name] for name, number in lamps.items()}
    used |= {PINS[number]: HOT for number in (PLAIN.kill, SECOND)}
    used |= {PINS[number]: "#225ea8" for number in (PLAIN.arm, BUZZER, POWER)}
    used |= dict.fromkeys((9, 39), GROUND)
    kill, arm, second = row(PINS[PLAIN.kill]), row(PINS[PLAIN.arm]), row(PINS[SECOND])
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        text(18, 34, "Front panel of mmpi: default pins", 20, bold=True),
        text(18, 56, "Pin numbers are those of the 40-pin header; GPIO numbers are those of the configuration.", 13),
        *header(used),
        *rail(),
        *[part for name, number in lamps.items() for part in lamp(name, number)],
        *kill_head(520, kill - 74, second - 6),
        *contact(PLAIN.kill, 520, "kill button, NC", closed=True),
        *contact(PLAIN.arm, 420, "arm button, NO", closed=False),
        line(426, arm - 9, 426, arm - 22, INK, 2),
        box(412, arm - 30, 28, 9, "#225ea8"),
        *contact(SECOND, 520, "kill button, NO (optional)", closed=False, dash="6 3"),
        *extras(),
        *notes(),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    Path(__file__).with_name("wiring.svg").write_text(drawing(), encoding="utf-8")
