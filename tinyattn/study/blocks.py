"""Pages of formulas, tables and heat maps, told as text of 80 columns or as one HTML file.

Words of users are cleaned here: what could do a terminal harm is replaced, what is markup in HTML is escaped. Columns
line up by what is shown, in which a letter may be two columns wide, or none.
"""

from __future__ import annotations

import html
import math
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

Vector: TypeAlias = "np.ndarray[Any, Any]"

COLUMNS = 80
WORD = 12  # columns of a token in a table
BAR = 10  # columns of a bar of 1
SHADES = "░▒▓█"  # of quarters of the largest
MOST_CELLS = 64  # in a row of a heat map; of more, blocks are shown
NUMBERED = 8  # rows of a heat map with numbers, at most
SCROLL = '<div class="scroll" role="group" aria-label="table" tabindex="0">'


class Formulas(NamedTuple):
    """A line for each: the formula, and its label or a remark."""

    lines: tuple[tuple[str, str], ...]


class Note(NamedTuple):
    """A paragraph."""

    text: str


class Table(NamedTuple):
    """Rows of cells under titles. The first column is for words, the others for numbers."""

    titles: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    foot: tuple[tuple[str, ...], ...] = ()
    bars: tuple[float, ...] = ()  # for each row, from 0 to 1


class Map(NamedTuple):
    """A square matrix as shades of |x|, with its numbers if it has 8 rows or fewer."""

    labels: tuple[str, ...]
    numbers: Vector  # (n, n)
    about: str


Block: TypeAlias = Formulas | Note | Table | Map


class Section(NamedTuple):
    """Blocks under a title."""

    title: str
    blocks: tuple[Block, ...]


class Page(NamedTuple):
    """All of it."""

    title: str
    notes: tuple[str, ...]
    sections: tuple[Section, ...]


# ---------------------------------------------------------------------------------------------------- words and numbers


def number(x: float, digits: int = 4) -> str:
    """A number of few columns; exactly 0 is told from what is rounded.

    >>> [number(x) for x in (0.0, 0.25, -1e-9, 1e308, -math.inf)]
    ['0', '0.2500', '-1.0e-09', '1.0e+308', '-inf']
    """
    if x == 0:
        return "0"
    if not math.isfinite(x):
        return str(float(x))
    return f"{x:.{digits}f}" if 10.0**-digits <= abs(x) < 1e5 else f"{x:.1e}"


def numbers(x: Vector, digits: int = 4) -> tuple[str, ...]:
    """Each of them."""
    return tuple(number(float(each), digits) for each in x)


def clean(word: str) -> str:
    """The word on one line, with what isn't printable replaced; joiners of letters stay."""
    return "".join(c if c.isprintable() or c in "\u200c\u200d" else "\N{REPLACEMENT CHARACTER}" for c in word)


def width(text: str) -> int:
    """How many columns it takes on a terminal.

    >>> width("cat"), width("猫"), width("e\u0301")  # the accent stands on its letter
    (3, 2, 1)
    """
    return sum(_columns(c) for c in text)


def _columns(c: str) -> int:
    if unicodedata.combining(c) or unicodedata.category(c) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(c) in "WF" else 1


def cut(word: str, most: int = WORD) -> str:
    """The word, cleaned, and cut where it takes more columns than that.

    >>> cut("antidisestablishmentarianism"), cut("猫猫猫猫", 6)
    ('antidisesta…', '猫猫…')
    """
    word = clean(word)
    if width(word) <= most:
        return word
    while width(word) > most - 1:
        word = word[:-1]
    return word + "…"


def wrapped(text: str, most: int) -> list[str]:
    """Lines of at most so many columns, broken between words, and within one that is longer.

    >>> wrapped("the 猫猫猫猫 sat", 7)
    ['the', '猫猫猫', '猫 sat']
    """
    lines = [""]
    for word in text.split():
        if lines[-1] and width(f"{lines[-1]} {word}") <= most:
            lines[-1] += f" {word}"
            continue
        lines.append("")
        for c in word:
            if width(lines[-1] + c) > most:
                lines.append("")
            lines[-1] += c
    return [line for line in lines if line]


def _padded(text: str, columns: int, right: bool) -> str:
    space = " " * (columns - width(text))
    return space + text if right else text + space


def folded(matrix: Vector, labels: Sequence[str]) -> tuple[Vector, tuple[str, ...], int]:
    """|x|, of blocks of so many rows and columns the largest; and the rows' labels.

    >>> folded(np.eye(130), [""] * 130)[0].shape
    (44, 44)
    """
    n = len(matrix)
    block = -(-n // MOST_CELLS)
    if block == 1:
        return abs(matrix), tuple(labels), 1
    starts = np.arange(0, n, block)
    found = np.maximum.reduceat(np.maximum.reduceat(abs(matrix), starts, axis=0), starts, axis=1)
    return found, tuple(f"{i + 1}–{min(i + block, n)}" for i in starts), block


# ---------------------------------------------------------------------------------------------------- text


def to_text(page: Page) -> str:
    """The page for a terminal.

    >>> print(to_text(Page("Sums", (), (Section("ONE", (Table(("", "x"), (("a", "1"), ("b", "10"))),)),))))
    Sums
    <BLANKLINE>
    ONE
    <BLANKLINE>
          x
      a   1
      b  10
    """
    lines = wrapped(page.title, COLUMNS)
    for note in page.notes:
        lines += wrapped(note, COLUMNS)
    for section in page.sections:
        lines += ["", section.title]
        for block in section.blocks:
            lines += ["", *(f"  {line}".rstrip() for line in _lines(block))]
    return "\n".join(lines)


def _lines(block: Block) -> Iterator[str]:
    match block:
        case Formulas(lines):
            column = max(width(formula) for formula, _ in lines) + 3
            for formula, remark in lines:
                yield _padded(formula, column, False) + remark
        case Note(text):
            yield from wrapped(text, COLUMNS - 2)
        case Table():
            yield from _table_lines(block)
        case Map():
            yield from _map_lines(block)


def _table_lines(table: Table) -> Iterator[str]:
    everything = [table.titles, *table.rows, *table.foot]
    widths = [max(map(width, column)) for column in zip(*everything, strict=True)]

    def line(row: Sequence[str]) -> str:
        return "  ".join(_padded(cell, widths[i], i > 0) for i, cell in enumerate(row))

    yield line(table.titles)
    for i, row in enumerate(table.rows):
        yield line(row) + (f"  {_bar(table.bars[i])}" if table.bars else "")
    if table.foot:
        yield "─" * (sum(widths) + 2 * (len(widths) - 1))
    yield from map(line, table.foot)


def _bar(share: float) -> str:
    """Eighths of a column are told, too."""
    eighths = round(8 * BAR * share) if math.isfinite(share) else 0
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()


def _map_lines(block: Map) -> Iterator[str]:
    cells, labels, size = folded(block.numbers, block.labels)
    top = float(np.max(cells, initial=0.0, where=np.isfinite(cells)))
    side = 2 if 2 * len(cells) + WORD + 4 <= COLUMNS else 1
    column = max(width(cut(label)) for label in labels)
    for label, row in zip(labels, cells, strict=True):
        yield _padded(cut(label), column, False) + "  " + "".join(_shade(float(x), top) * side for x in row)
    yield ""
    yield "   ".join(_legend(cells, top))
    yield from wrapped(_about(block, size), COLUMNS - 2)
    if len(cells) <= NUMBERED:
        space = 9 if len(cells) < NUMBERED else 6  # 80 columns hold 8 of 7, the spaces between, and that
        rows = ((cut(label, space), *map(_brief, row)) for label, row in zip(labels, block.numbers, strict=True))
        yield ""
        yield from _table_lines(Table(("", *(cut(label, 7) for label in labels)), tuple(rows)))


def _brief(x: float) -> str:
    """A number of a Jacobian in 7 columns: none is larger than 1."""
    return number(x) if x == 0 or not abs(x) < 1e-4 else f"{x:.0e}"


def _legend(cells: Vector, top: float) -> Iterator[str]:
    if np.isnan(cells).any():
        yield "? NaN"
    if np.any(cells == 0):
        yield "· 0"
    if top > 0:
        yield from (f"{shade} to {number(top * (k + 1) / 4)}" for k, shade in enumerate(SHADES))


def _shade(x: float, top: float) -> str:
    if math.isnan(x):
        return "?"
    return "·" if x == 0 else SHADES[max(0, math.ceil(4 * x / top) - 1)]


def _about(block: Map, size: int) -> str:
    if size == 1:
        return block.about
    return f"{block.about}; each character is the largest of {size} × {size} numbers"


# ---------------------------------------------------------------------------------------------------- HTML

STYLE = """
:root { --paper: #fff; --ink: #1c2026; --faint: #565f6c; --rule: #c5cdd8; --ground: #f4f6f9; color-scheme: light dark;
  font: 16px/1.5 system-ui, sans-serif; --shade: 214, 96, 16; --bar: #2166ac; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #171a1f; --ink: #eceff3; --faint: #a8b1bd; --rule: #3a424e; --ground: #22262d;
    --shade: 240, 130, 50; --bar: #7db4ff; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 60rem; background: var(--paper); color: var(--ink); }
h1 { font-size: 1.4rem; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin-top: 2rem; border-bottom: 1px solid var(--rule); }
p { overflow-wrap: anywhere; }
.scroll { overflow-x: auto; margin: 1rem 0; }
.formulas { background: var(--ground); padding: 0.5rem 0.8rem; border-radius: 6px; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; white-space: nowrap; }
th, td { padding: 0.1rem 0.7rem 0.1rem 0; text-align: right; font-weight: normal; }
thead th { color: var(--faint); }
th:first-child, .formulas td { text-align: left; }
tfoot { border-top: 1px solid var(--rule); }
.formulas td + td { color: var(--faint); }
code { font: 0.9rem ui-monospace, monospace; white-space: pre; }
th:first-child { position: sticky; left: 0; background: var(--paper); }
@media (max-width: 32rem) {
  :root { font-size: 14px; }
  th, td { padding-right: 0.5rem; }
  code { white-space: pre-wrap; }
  .formulas td { display: block; white-space: normal; }
}
.bar { min-width: 6rem; text-align: left; }
.bar i { display: inline-block; height: 0.7rem; background: var(--bar); border-radius: 2px; }
.map tbody td { padding: 0; min-width: 0.6rem; height: 1.2rem; border: 1px solid var(--paper);
  background: rgba(var(--shade), var(--share)); }
.map.numbered th, .map.numbered tbody td { padding: 0.1rem 0.4rem; }
"""


def to_html(page: Page) -> str:
    """The page as one file: no script, nothing from elsewhere.

    >>> "&lt;b&gt;" in to_html(Page("<b>", (), ()))
    True
    """
    title = _escaped(page.title)
    body = [f"<h1>{title}</h1>", *(f"<p>{_escaped(note)}</p>" for note in page.notes)]
    for section in page.sections:
        body.append(f"<h2>{_escaped(section.title.capitalize())}</h2>")
        body += ["".join(_markup(block)) for block in section.blocks]
    inside = "\n".join(body)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{inside}\n</main>\n</body>\n</html>\n"
    )


def _escaped(text: str) -> str:
    return html.escape(clean(text))


def _markup(block: Block) -> Iterator[str]:
    match block:
        case Formulas(lines):
            yield '<div class="scroll formulas"><table>'
            for formula, remark in lines:
                yield f"<tr><td><code>{_escaped(formula)}</code></td><td>{_escaped(remark)}</td></tr>"
            yield "</table></div>"
        case Note(text):
            yield f"<p>{_escaped(text)}</p>"
        case Table():
            yield from _table_markup(block)
        case Map():
            yield from _map_markup(block)


def _table_markup(table: Table) -> Iterator[str]:
    yield f"{SCROLL}<table><thead>"
    bar = "<th></th>" if table.bars else ""
    yield f'<tr>{"".join(f"""<th scope="col">{_escaped(title)}</th>""" for title in table.titles)}{bar}</tr>'
    yield "</thead><tbody>"
    for i, row in enumerate(table.rows):
        share = table.bars[i] if table.bars and math.isfinite(table.bars[i]) else 0.0
        bar = f'<td class="bar"><i style="width:{6 * share:.2f}rem"></i></td>' if table.bars else ""
        yield f"<tr>{_cells(row)}{bar}</tr>"
    yield "</tbody>"
    if table.foot:
        yield f"<tfoot>{''.join(f'<tr>{_cells(row)}</tr>' for row in table.foot)}</tfoot>"
    yield "</table></div>"


def _cells(row: Sequence[str]) -> str:
    first, *others = map(_escaped, row)
    return f'<th scope="row"><bdi>{first}</bdi></th>' + "".join(f"<td>{cell}</td>" for cell in others)


def _map_markup(block: Map) -> Iterator[str]:
    cells, labels, size = folded(block.numbers, block.labels)
    top = float(np.max(cells, initial=0.0, where=np.isfinite(cells)))
    numbered = len(cells) <= NUMBERED
    words = [f"<bdi>{_escaped(cut(label))}</bdi>" for label in labels]
    yield f'{SCROLL}<table class="map{" numbered" if numbered else ""}">'
    if numbered:
        yield "<thead><tr><td></td>" + "".join(f'<th scope="col">{word}</th>' for word in words) + "</tr></thead>"
    for i, word in enumerate(words):
        told = numbers(block.numbers[i]) if numbered else ("",) * len(cells)
        shaded = "".join(
            f'<td style="--share:{_share(float(x), top):.3f}">{text}</td>'
            for x, text in zip(cells[i], told, strict=True)
        )
        yield f'<tr><th scope="row">{word}</th>{shaded}</tr>'
    darkest = f"; the darkest is {number(top)}" if top else ""
    yield f"</table></div><p>{_escaped(_about(block, size))}{darkest}</p>"


def _share(x: float, top: float) -> float:
    """How opaque a cell is: so little that text on it can be read."""
    return 0.6 * x / top if top and math.isfinite(x) else 0.0
