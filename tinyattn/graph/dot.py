"""From nodes to DOT, the language of Graphviz.

Kinds differ in shape, colour and a word, so that a picture reads without colour too. What a user named may hold
anything; `_text` is the only way into a label.
"""

from __future__ import annotations

import html
import math
import re
import textwrap
from collections.abc import Iterator
from typing import Any, TypeAlias

from tinyattn.graph.colors import color_of
from tinyattn.graph.nodes import Box, Kind, Node, Numbers, Recording, Rows, Source
from tinyattn.graph.units import amount, bytes_of

_FONT = "Helvetica,Arial,sans-serif"
_MONOSPACE = "Courier,monospace"
_CELL = 6  # points
_INK, _GREY, _GRADIENT, _ALARM = "#1f1f1f", "#5a5a5a", "#a3005c", "#c00000"

_GRAPH = {"bgcolor": "white", "fontname": _FONT, "fontsize": "9", "fontcolor": _GREY, "ranksep": ".35", "nodesep": ".3"}
_NODE = {"fontname": _FONT, "fontsize": "12", "fontcolor": _INK, "margin": "0.1,0.06", "style": "filled"}
_EDGE = {"fontname": _FONT, "fontsize": "9", "fontcolor": _GREY, "color": "#5b6b7f", "arrowsize": "0.7"}
_KINDS: dict[Kind, dict[str, str]] = {
    "operation": {"shape": "box", "style": "rounded,filled", "fillcolor": "#eef2f7", "color": "#5b6b7f"},
    "box": {"shape": "box", "style": "rounded,filled", "peripheries": "2", "fillcolor": "#e3e9f2", "color": "#42506b"},
    "parameter": {"shape": "box", "peripheries": "2", "fillcolor": "#fde8c8", "color": "#b86e00"},
    "input": {"shape": "box3d", "margin": "0.14,0.1", "fillcolor": "#dff1e0", "color": "#2f7d3a"},
    "constant": {"shape": "note", "fillcolor": "#f6f6f6", "color": "#8a8a8a"},
}
_NO_GRADIENT = {"style": "dashed", "color": "#9a9a9a"}
_CHANGES = {
    "added": {"color": "#1a7f37", "penwidth": "3"},
    "removed": {"color": "#c00000", "penwidth": "3", "style": "dashed,filled"},
    "changed": {"color": "#9a6700", "penwidth": "3"},
}
_FAILED = {"color": _ALARM, "penwidth": "3", "fillcolor": "#fdecea"}


def to_dot(shown: Recording, note: str = "") -> str:
    """The DOT source of a picture; the same nodes give the same bytes. `note` stands below it."""
    import graphviz

    legend = [note] if note else []
    if any(not source.carries_gradient for node in shown.nodes for source in node.sources):
        legend.append("dashed: no gradient flows back")
    if any(source.is_saved for node in shown.nodes for source in node.sources):
        legend.append("dot behind an arrow's head: saved for backward")
    dot = graphviz.Digraph("tinyattn", graph_attr=_GRAPH, node_attr=_NODE, edge_attr=_EDGE)
    if legend:
        dot.attr(label=graphviz.escape("; ".join(legend)))
    _fill(dot, None, shown, _contents(shown))
    for i, node in enumerate(shown.nodes):
        for source in node.sources:
            dot.edge(f"n{source.node}", f"n{i}", **_edge(source, node))
    text: str = dot.source
    return text


Contents: TypeAlias = dict[int | None, tuple[list[int], list[int]]]
"""What stands in each box: nodes, and boxes."""


def _contents(shown: Recording) -> Contents:
    found: Contents = {i: ([], []) for i in (None, *range(len(shown.boxes)))}
    for i, box in enumerate(shown.boxes):
        found[box.parent][1].append(i)
    for i, node in enumerate(shown.nodes):
        found[node.box][0].append(i)
    return found


def _fill(dot: Any, box: int | None, shown: Recording, contents: Contents) -> None:
    nodes, boxes = contents[box]
    for i in nodes:
        dot.node(f"n{i}", **_attributes(shown.nodes[i]))
    for inner in boxes:
        with dot.subgraph(name=f"cluster_{inner}") as cluster:
            cluster.attr(**_cluster(shown.boxes[inner]))
            _fill(cluster, inner, shown, contents)


def _cluster(box: Box) -> dict[str, str]:
    title = f"<B>{_text(box.name or (f'inside {box.type}' if box.is_rule else box.type))}</B>"
    if box.name:
        title += _font(f"&#160; {_text(box.type)}", color=_GREY)
    style = "rounded,dashed" if box.is_rule else "rounded"
    return {"label": f"<{title}>", "labeljust": "l", "style": style, "color": "#9aa7ba", "fontsize": "11"}


def _attributes(node: Node) -> dict[str, str]:
    import graphviz

    style = _KINDS[node.kind] | _CHANGES.get(node.change, {}) | (_FAILED if node.failed else {})
    if node.alarms and not node.change:
        style = style | {"color": _ALARM, "penwidth": "2"}
    return {"label": _label(node), "tooltip": graphviz.escape(node.failed or node.about or node.kind), **style}


def _edge(source: Source, node: Node) -> dict[str, str]:
    import graphviz

    given: dict[str, str] = {}
    if len(node.sources) > 1 and source.role:  # it tells arguments apart, so an operation of one needs none
        given["label"] = graphviz.escape(f" {source.role}")
    if source.is_saved:
        given["arrowhead"] = "normaldot"
    if not source.carries_gradient:
        given |= _NO_GRADIENT
    return given


def _label(node: Node) -> str:
    title = f"<B>{_text(node.title)}</B>"
    if node.options:
        title += _font(f"&#160; {_text(node.options)}", color=_GREY)
    word = node.name if node.kind == "operation" else node.kind if node.kind not in (node.title, "box") else ""
    size = f"{node.shape} {node.dtype}" if node.dtype else ""
    below = "&#160; ".join(filter(None, [f"<I>{_text(word)}</I>" if word else "", size]))
    rows = [f'<TD COLSPAN="2">{title}</TD>']
    if below:
        rows.append(f'<TD COLSPAN="2">{_font(below, size=10)}</TD>')
    for line in _facts(node):
        rows.append(f'<TD COLSPAN="2">{_font(_text(line, 80), size=9, color=_GREY)}</TD>')
    for mark in node.marks:
        color = _ALARM if mark in node.alarms else _GREY
        rows.append(f'<TD COLSPAN="2">{_font(f"<B>{_text(mark, 80)}</B>", size=10, color=color)}</TD>')
    for line in textwrap.wrap(f"failed: {node.failed}", 50) if node.failed else []:
        rows.append(f'<TD COLSPAN="2">{_font(f"<B>{_text(line, 80)}</B>", size=10, color=_ALARM)}</TD>')
    if node.change:
        told = node.change + (f": {node.difference}" if node.difference else "")
        rows.append(f'<TD COLSPAN="2">{_font(f"<B>{_text(told, 80)}</B>", size=10)}</TD>')
    # A constant that stands in the title need not be told twice.
    if node.value is not None and not (node.value.rows and node.title == node.value.rows[0][0]):
        rows.append(_numbers("value", node.value, _INK))
    if node.gradient is not None:
        rows.append(_numbers("gradient", node.gradient, _GRADIENT))
    table = "".join(f"<TR>{row}</TR>" for row in rows)
    return f'<<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="0" CELLPADDING="1">{table}</TABLE>>'


def _facts(node: Node) -> Iterator[str]:
    costs = []
    if node.flops:
        costs.append(f"{amount(node.flops)} FLOP")
    if node.kind in ("operation", "box") and node.n_bytes:
        costs.append(bytes_of(node.n_bytes))
    if node.kind == "box":
        costs.insert(0, node.about)
    if node.uses > 1:
        costs.append(f"used {node.uses} times")
    if node.saves_output:
        costs.append("saves its output")
    if costs:
        yield ", ".join(costs)
    if node.line:
        yield node.line


def _numbers(word: str, numbers: Numbers, color: str) -> str:
    """The cells of a row: the word, and numbers or a heat map with its range below."""
    head = f'<TD ALIGN="RIGHT" VALIGN="TOP">{_font(word + "&#160;", size=10, color=color)}</TD>'
    if numbers.rows is not None:
        return f'{head}<TD ALIGN="LEFT">{_font(_columns(numbers.rows), size=10, color=color, face=_MONOSPACE)}</TD>'
    told = _font(f'{_range(numbers)}<BR ALIGN="LEFT"/>', size=9, color=color)
    return f'{head}<TD ALIGN="LEFT">{_heat(numbers)}</TD></TR><TR><TD></TD><TD ALIGN="LEFT">{told}</TD>'


def _columns(rows: Rows) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [" ".join(number.rjust(width) for number, width in zip(row, widths, strict=True)) for row in rows]
    # Spaces that don't collapse keep the columns of a matrix in line.
    return "".join(_text(line).replace(" ", "&#160;") + '<BR ALIGN="LEFT"/>' for line in lines)


def _range(numbers: Numbers) -> str:
    if math.isnan(numbers.mean):
        return "no finite number"
    return f"{numbers.least:.3g} … {numbers.most:.3g}, mean {numbers.mean:.3g}"


def _heat(numbers: Numbers) -> str:
    """A tiny heat map: a table of coloured cells."""
    assert numbers.cells is not None
    top = max((abs(x) for row in numbers.cells for x in row if math.isfinite(x)), default=0.0)
    rows = "".join(f"<TR>{''.join(_cell(x, top) for x in row)}</TR>" for row in numbers.cells)
    fixed = f'FIXEDSIZE="TRUE" WIDTH="{_CELL * len(numbers.cells[0])}" HEIGHT="{_CELL * len(numbers.cells)}"'
    return f'<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="0" CELLPADDING="0" {fixed}>{rows}</TABLE>'


def _cell(x: float, top: float) -> str:
    return f'<TD FIXEDSIZE="TRUE" WIDTH="{_CELL}" HEIGHT="{_CELL}" BGCOLOR="{color_of(x, top)}"></TD>'


def _font(content: str, *, size: int = 12, color: str = _INK, face: str = _FONT) -> str:
    given = {"POINT-SIZE": (size, 12), "COLOR": (color, _INK), "FACE": (face, _FONT)}
    changes = "".join(f' {name}="{value}"' for name, (value, default) in given.items() if value != default)
    return f"<FONT{changes}>{content}</FONT>"


_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


def _text(text: str, most: int = 40) -> str:
    """Text as it may stand in a label: escaped, without the control characters that XML forbids, not overlong."""
    text = _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)
    return html.escape(text if len(text) <= most else text[: most - 1] + "…")
