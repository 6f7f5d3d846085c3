"""Document: headings, paragraphs, tables and figures, rendered as Markdown or as one self-contained HTML page.

Invariant: both renderings say the same, and the page needs no other file and no network. It must not know what the
document is about.
"""

import html
import re
from collections.abc import Sequence
from typing import Final, TypeAlias

from mmpi.structs import Frozen


class Heading(Frozen, frozen=True):
    """Level 1 is the title."""

    level: int
    text: str


class Paragraph(Frozen, frozen=True):
    """Plain text."""

    text: str


class Table(Frozen, frozen=True):
    """Cells of plain text; `align` has l or r for each column."""

    header: "tuple[str, ...]"
    rows: "tuple[tuple[str, ...], ...]"
    align: str


class Figure(Frozen, frozen=True):
    """An SVG drawing, in `PAPER`, `INK` and the other colours of `THEME`."""

    name: str
    caption: str
    svg: str


Block: TypeAlias = Heading | Paragraph | Table | Figure

PAPER: Final = "#fefefe"
INK: Final = "#1b1f24"
FAINT: Final = "#d5d9de"
BLUE: Final = "#0072b2"
VERMILLION: Final = "#d55e00"
GREEN: Final = "#009e73"
PURPLE: Final = "#aa4499"
GREY: Final = "#7b828a"
THEME: Final = {
    PAPER: ("paper", "#15181c"),
    INK: ("ink", "#e4e7ea"),
    FAINT: ("faint", "#343a41"),
    BLUE: ("blue", "#56b4e9"),
    VERMILLION: ("vermillion", "#ff8c42"),
    GREEN: ("green", "#2fc79a"),
    PURPLE: ("purple", "#e08fcb"),
    GREY: ("grey", "#9aa2ab"),
}
"""Colour in the light -> its CSS variable and the colour in the dark. Hues after Okabe & Ito (2008), "Color Universal
Design": told apart by the colour-blind; the purple is darkened for contrast on paper."""
MARKS: Final = {"RED FLAG": "bad", "met": "good"}
"""Cells that a page colours."""
_SPECIAL: Final = re.compile(r"([\\|*<\[\]`])")
_SVG_ID: Final = re.compile(r'(\bid="|url\(#|href="#)')
_PROLOGUE: Final = re.compile(r"^.*?(?=<svg)", re.DOTALL)
_SVG_SIZE: Final = re.compile(r'(<svg[^>]*?) width="[^"]*"([^>]*?)', re.DOTALL)


def markdown(blocks: Sequence[Block]) -> str:
    """Return the document; a figure is an image that lies beside it, NAME.svg."""
    return "\n\n".join(_markdown(block) for block in blocks) + "\n"


def page(blocks: Sequence[Block]) -> str:
    """Return the document as an HTML page."""
    title = next((block.text for block in blocks if isinstance(block, Heading)), "")
    body = "\n".join(_html(block) for block in blocks)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>\n{_style()}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _markdown(block: Block) -> str:
    match block:
        case Heading():
            return f"{'#' * block.level} {_plain(block.text)}"
        case Paragraph():
            return _plain(block.text)
        case Figure():
            return f"![{_plain(block.caption)}]({block.name}.svg)\n\n{_plain(block.caption)}"
        case Table():
            rules = ["--:" if how == "r" else ":--" for how in block.align]
            lines = [_plain_row(block.header), f"| {' | '.join(rules)} |", *map(_plain_row, block.rows)]
            return "\n".join(lines)


def _plain(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", text)


def _plain_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(_plain(cell) for cell in cells)} |"


def _html(block: Block) -> str:
    match block:
        case Heading():
            return f"<h{block.level}>{html.escape(block.text)}</h{block.level}>"
        case Paragraph():
            return f"<p>{html.escape(block.text)}</p>"
        case Figure():
            caption = f"<figcaption>{html.escape(block.caption)}</figcaption>"
            return f"<figure>{_inline(block)}{caption}</figure>"
        case Table():
            head, rows = _row("th", block, block.header), "\n".join(_row("td", block, row) for row in block.rows)
            table = f"<table>\n<thead>\n{head}\n</thead>\n<tbody>\n{rows}\n</tbody>\n</table>"
            return f'<div class="table">{table}</div>'


def _row(tag: str, table: Table, cells: Sequence[str]) -> str:
    pairs = zip(table.align, cells, strict=True)
    return f"<tr>{''.join(f'<{tag}{_class(how, text)}>{html.escape(text)}</{tag}>' for how, text in pairs)}</tr>"


def _class(how: str, text: str) -> str:
    names = " ".join(name for name in ("r" if how == "r" else "", MARKS.get(text, "")) if name)
    return f' class="{names}"' if names else ""


def _inline(figure: Figure) -> str:
    """Return the drawing for a page: no prologue, names of its own, colours that follow the page's."""
    svg = _SVG_SIZE.sub(r"\1\2", _PROLOGUE.sub("", figure.svg), count=1)
    svg = re.sub(r' height="[^"]*"', "", svg, count=1)
    svg = _SVG_ID.sub(lambda found: found[0] + figure.name + "-", svg)
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{html.escape(figure.name)}" ', 1)
    for colour, (name, _) in THEME.items():
        svg = svg.replace(colour, f"var(--{name})")
    return svg


def _style() -> str:
    light = " ".join(f"--{name}: {colour};" for colour, (name, _) in THEME.items())
    dark = " ".join(f"--{name}: {colour};" for name, colour in THEME.values())
    return f"""\
:root {{ color-scheme: light dark; {light} }}
@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}
body {{ margin: 0 auto; padding: 1rem; max-width: 52rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: break-word; }}
h1 {{ font-size: 1.5rem; line-height: 1.2; }} h2 {{ font-size: 1.2rem; margin-top: 2rem; }} h3 {{ font-size: 1rem; }}
.table {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }}
th, td {{ padding: 0.25rem 0.6rem; border-bottom: 1px solid var(--faint); text-align: left; vertical-align: top; }}
.r {{ text-align: right; white-space: nowrap; }}
.bad {{ color: var(--vermillion); font-weight: 700; }} .good {{ color: var(--green); font-weight: 700; }}
td:last-child:not(.r) {{ min-width: 14rem; }}
figure {{ margin: 1rem 0; }} svg {{ display: block; width: 100%; max-width: 44rem; height: auto; }}
@media (max-width: 40rem) {{ th, td {{ padding: 0.25rem 0.4rem; }} }}
svg text {{ font-family: system-ui, sans-serif !important; }}
figcaption {{ color: var(--grey); font-size: 0.85rem; }}
"""
