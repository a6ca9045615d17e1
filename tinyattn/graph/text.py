"""From nodes to lines of text, for terminals and screen readers: each line a value, made from the numbered ones above.

The same as the picture says, in the order in which it was computed.
"""

from collections import Counter
from collections.abc import Sequence

from tinyattn.graph.nodes import KINDS, Node, Rows


def to_text(nodes: Sequence[Node]) -> str:
    """One line for each node, under a line that counts them."""
    width = len(str(len(nodes)))
    calls = [_call(node) for node in nodes]
    column = min(40, max(map(len, calls)))
    lines = [
        f"{i:>{width}}  {call:<{column}}  {node.shape} {node.dtype}{_numbers(node)}"
        for i, (node, call) in enumerate(zip(nodes, calls, strict=True), start=1)
    ]
    return "\n".join([summary(nodes), *lines])


def summary(nodes: Sequence[Node]) -> str:
    """How many nodes of which kind: `3 operations, 1 parameter, 1 input`."""
    counts = Counter(node.kind for node in nodes)
    return ", ".join(f"{counts[kind]} {kind}{'s' * (counts[kind] != 1)}" for kind in KINDS if counts[kind])


def _call(node: Node) -> str:
    name = _line(node.name)
    if node.kind != "operation":
        return f"{node.kind} {name}".strip()
    # Roles tell arguments apart, so an operation of one argument needs none.
    roles = [f"{role}=" for role in node.roles] if len(node.roles) > 1 else [""] * len(node.roles)
    arguments = [f"{role}#{source + 1}" for role, source in zip(roles, node.sources, strict=True)]
    call = f"{node.rule}({', '.join(filter(None, [*arguments, node.options]))})"
    return f"{name} = {call}" if name else call


def _numbers(node: Node) -> str:
    parts = [("value", node.value), ("gradient", node.gradient)]
    return "".join(f"  {word} {_nested(rows, len(node.shape))}" for word, rows in parts if rows is not None)


def _nested(rows: Rows, ndim: int) -> str:
    lines = ["[" + " ".join(row) + "]" for row in rows]
    return {0: lines[0].strip("[]"), 1: lines[0]}.get(ndim, "[" + " ".join(lines) + "]")


def _line(text: str) -> str:
    """Text that stays on its line."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
