"""From nodes to DOT, the language of Graphviz.

Kinds differ in shape, colour and a word, so that a picture reads without colour too. What a user named may hold
anything; `_text` is the only way into a label.
"""

import re
from collections.abc import Sequence

from tinyattn.graph.nodes import Kind, Node, Rows

_FONT = "Helvetica,Arial,sans-serif"
_MONOSPACE = "Courier,monospace"
_INK, _GREY, _GRADIENT = "#1f1f1f", "#5a5a5a", "#a3005c"

_GRAPH = {"bgcolor": "white", "fontname": _FONT, "fontsize": "9", "fontcolor": _GREY, "ranksep": ".35", "nodesep": ".3"}
_NODE = {"fontname": _FONT, "fontsize": "12", "fontcolor": _INK, "margin": "0.1,0.06", "style": "filled"}
_EDGE = {"fontname": _FONT, "fontsize": "9", "fontcolor": _GREY, "color": "#5b6b7f", "arrowsize": "0.7"}
_KINDS: dict[Kind, dict[str, str]] = {
    "operation": {"shape": "box", "style": "rounded,filled", "fillcolor": "#eef2f7", "color": "#5b6b7f"},
    "parameter": {"shape": "box", "peripheries": "2", "fillcolor": "#fde8c8", "color": "#b86e00"},
    "input": {"shape": "box3d", "margin": "0.14,0.1", "fillcolor": "#dff1e0", "color": "#2f7d3a"},
    "constant": {"shape": "note", "fillcolor": "#f6f6f6", "color": "#8a8a8a"},
}
_NO_GRADIENT = {"style": "dashed", "color": "#9a9a9a"}


def to_dot(nodes: Sequence[Node]) -> str:
    """The DOT source of a picture; the same nodes give the same bytes."""
    import graphviz

    dot = graphviz.Digraph("tinyattn", graph_attr=_GRAPH, node_attr=_NODE, edge_attr=_EDGE)
    if any(not nodes[source].carries_gradient for node in nodes for source in node.sources):
        dot.attr(label="dashed: no gradient flows back")
    for i, node in enumerate(nodes):
        dot.node(f"n{i}", _label(node), tooltip=graphviz.escape(node.about or node.kind), **_KINDS[node.kind])
        for source, role in zip(node.sources, node.roles, strict=True):
            style = {} if nodes[source].carries_gradient else _NO_GRADIENT
            # The role tells arguments apart, so an operation of one argument needs none.
            label = graphviz.escape(f" {role}") if len(node.sources) > 1 else None
            dot.edge(f"n{source}", f"n{i}", label, **style)
    text: str = dot.source
    return text


def _label(node: Node) -> str:
    title = f"<B>{_text(node.title)}</B>"
    if node.options:
        title += _font(f"&#160; {_text(node.options)}", color=_GREY)
    word = node.name if node.kind == "operation" else node.kind if node.kind != node.title else ""
    size = f"{node.shape} {node.dtype}"
    below = f"<I>{_text(word)}</I>&#160; {size}" if word else size
    rows = [f'<TD COLSPAN="2">{title}</TD>', f'<TD COLSPAN="2">{_font(below, size=10)}</TD>']
    # A constant that stands in the title need not be told twice.
    if node.value is not None and node.title != node.value[0][0]:
        rows.append(_numbers("value", node.value, _INK))
    if node.gradient is not None:
        rows.append(_numbers("gradient", node.gradient, _GRADIENT))
    table = "".join(f"<TR>{row}</TR>" for row in rows)
    return f'<<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="0" CELLPADDING="1">{table}</TABLE>>'


def _numbers(word: str, rows: Rows, color: str) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [" ".join(number.rjust(width) for number, width in zip(row, widths, strict=True)) for row in rows]
    # Spaces that don't collapse keep the columns of a matrix in line.
    block = "".join(_text(line).replace(" ", "&#160;") + '<BR ALIGN="LEFT"/>' for line in lines)
    return (
        f'<TD ALIGN="RIGHT" VALIGN="TOP">{_font(word + "&#160;", size=10, color=color)}</TD>'
        f'<TD ALIGN="LEFT">{_font(block, size=10, color=color, face=_MONOSPACE)}</TD>'
    )


def _font(content: str, *, size: int = 12, color: str = _INK, face: str = _FONT) -> str:
    given = {"POINT-SIZE": (size, 12), "COLOR": (color, _INK), "FACE": (face, _FONT)}
    changes = "".join(f' {name}="{value}"' for name, (value, default) in given.items() if value != default)
    return f"<FONT{changes}>{content}</FONT>"


def _text(text: str) -> str:
    """Text as it may stand in a label: escaped, without the control characters that XML forbids, not overlong."""
    import html

    text = re.sub(r"[\x00-\x1f\x7f\ud800-\udfff\ufffe\uffff]", "\N{REPLACEMENT CHARACTER}", text)
    return html.escape(text if len(text) <= 40 else text[:39] + "…")
