"""Document: the same content as Markdown and as a page that needs nothing else."""

import re

from mmpi.research.document import BLUE, INK, PAPER, THEME, Figure, Heading, Paragraph, Table, markdown, page

SVG = (
    '<?xml version="1.0"?>\n<!DOCTYPE svg PUBLIC "x"\n "y">\n'
    f'<svg width="417pt" height="252pt" viewBox="0 0 417 252" version="1.1"><defs><path id="m1"/></defs>'
    f'<g id="axes_1" clip-path="url(#p1)" style="fill: {BLUE}; stroke: {INK}"><use xlink:href="#m1"/></g>'
    f'<path style="fill: {PAPER}"/></svg>'
)
BLOCKS = [
    Heading(1, "A < B"),
    Paragraph("1 * 2 [x] `y` a|b\\"),
    Table(("name", "verdict", "value"), (("x_y", "RED FLAG", "1"), ("z", "met", "<2")), "llr"),
    Figure("equity", "How it went & why", SVG),
]


def test_markdown() -> None:
    """Marks of the language in the text are escaped, tables are aligned, a figure is an image beside the file."""
    assert markdown(BLOCKS) == (
        "# A \\< B\n\n"
        "1 \\* 2 \\[x\\] \\`y\\` a\\|b\\\\\n\n"
        "| name | verdict | value |\n| :-- | :-- | --: |\n| x_y | RED FLAG | 1 |\n| z | met | \\<2 |\n\n"
        "![How it went & why](equity.svg)\n\nHow it went & why\n"
    )


def test_page_escapes_and_marks() -> None:
    """Text is escaped, verdicts are coloured, numbers are on the right, and phones are told the width."""
    text = page(BLOCKS)
    assert "<title>A &lt; B</title>" in text
    assert "<h1>A &lt; B</h1>" in text
    assert '<td class="bad">RED FLAG</td>' in text
    assert '<td class="good">met</td>' in text
    assert '<td class="r">&lt;2</td>' in text
    assert "<figcaption>How it went &amp; why</figcaption>" in text
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in text


def test_drawings_are_inline_with_names_and_colours_of_the_page() -> None:
    """No prologue, no fixed size, ids that no other drawing has, and colours that change in the dark."""
    text = page([*BLOCKS, Figure("other", "", SVG)])
    assert text.startswith("<!doctype html>")
    assert "<?xml" not in text
    assert "DOCTYPE" not in text
    assert 'width="417pt"' not in text
    assert 'height="252pt"' not in text
    ids = re.findall(r'id="([^"]+)"', text)
    assert sorted(ids) == ["equity-axes_1", "equity-m1", "other-axes_1", "other-m1"]
    assert 'clip-path="url(#equity-p1)"' in text
    assert 'xlink:href="#other-m1"' in text
    drawn = text.partition("</style>")[2]
    assert not any(colour in drawn for colour in THEME)
    assert "fill: var(--blue); stroke: var(--ink)" in drawn


def test_every_colour_has_one_for_the_dark() -> None:
    """The style names each variable twice: light, and dark where the reader prefers it."""
    style = page(BLOCKS).partition("</style>")[0]
    for name, dark in THEME.values():
        assert style.count(f"--{name}: ") == 2
        assert f"--{name}: {dark};" in style
    assert "prefers-color-scheme: dark" in style
