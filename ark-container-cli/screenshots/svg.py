"""Draws a terminal's screen as an SVG picture with text, which is small and searchable."""

from html import escape
from itertools import groupby

WIDTH, HEIGHT = 8.4, 18  # of a character
MARGIN, TITLE = 14, 26
FOREGROUND, BACKGROUND = "#d8dee9", "#1f2430"
COLOURS = {
    "red": "#f28779", "green": "#87d96c", "brown": "#ffd173", "blue": "#73d0ff",
    "magenta": "#dfbfff", "cyan": "#95e6cb", "black": "#707a8c", "white": "#ffffff",
}


def draw(screen, path):
    """Draws the screen down to its last line of text."""
    rows = [row for row in range(screen.lines) if screen.display[row].strip()]
    # An empty prompt is omitted.
    if rows and screen.display[rows[-1]].strip() == "$":
        rows.pop()
    count = rows[-1] + 1
    width = MARGIN * 2 + WIDTH * screen.columns
    height = MARGIN + TITLE + HEIGHT * count
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" font-family="ui-monospace,SFMono-Regular,Menlo,Consolas,'
        f"'DejaVu Sans Mono',monospace\" font-size=\"14\">",
        f'<rect width="100%" height="100%" rx="8" fill="{BACKGROUND}"/>',
    ]
    parts += [
        f'<circle cx="{MARGIN + 5 + 18 * index}" cy="15" r="5" fill="{colour}"/>'
        for index, colour in enumerate(("#f28779", "#ffd173", "#87d96c"))
    ]
    for row in range(count):
        parts += line(screen.buffer[row], screen.columns, TITLE + HEIGHT * (row + 1))
    path.write_text("\n".join(parts) + "\n</svg>\n")


def line(cells, columns, y):
    """Yields the text elements of a line, one for each style, with a fixed position and length for any font."""
    end = max((column + 1 for column in range(columns) if cells[column].data.strip()), default=0)
    style = lambda column: (cells[column].fg, cells[column].bold)
    for (colour, bold), run in groupby(range(end), style):
        run = list(run)
        text = "".join(cells[column].data for column in run)
        fill = COLOURS.get(colour.removeprefix("bright"), FOREGROUND)
        weight = ' font-weight="bold"' if bold else ""
        yield (
            f'<text x="{MARGIN + WIDTH * run[0]:g}" y="{y}" textLength="{WIDTH * len(run):g}" '
            f'fill="{fill}"{weight} xml:space="preserve">{escape(text)}</text>'
        )
