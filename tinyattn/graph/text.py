"""From nodes to lines of text, for terminals and screen readers: each line a value, made from the numbered ones above.

The same as the picture says, in the order in which it was computed; what is in a box stands under its name.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

from tinyattn.graph.nodes import KINDS, Node, Numbers, Recording, Rows
from tinyattn.graph.units import amount, bytes_of


def to_text(shown: Recording, note: str = "") -> str:
    """One line for each node, under a line that counts them, and one for each box that begins."""
    nodes = shown.nodes
    width = len(str(len(nodes)))
    calls = [_call(node) for node in nodes]
    column = min(40, max(map(len, calls), default=0))
    lines = [summary(shown), *([note] if note else [])]
    around: list[int] = []
    for i, (node, call) in enumerate(zip(nodes, calls, strict=True), start=1):
        if node.kind not in ("parameter", "constant"):  # these stand beside those who use them
            path = _path(node.box, shown)
            lines += [f"{'  ' * depth}{_title(shown, box)}" for depth, box in _begun(around, path)]
            around = path
        indent = "  " * len(around)
        size = f"{node.shape} {node.dtype}" if node.dtype else "failed"
        lines.append(f"{indent}{i:>{width}}  {call:<{column}}  {size}{_numbers(node)}{_remarks(node)}".rstrip())
    return "\n".join(lines)


def summary(shown: Recording) -> str:
    """How many nodes of which kind, and what they take: `3 operations, 1 parameter, 1 input`."""
    counts = Counter(node.kind for node in shown.nodes if node.change != "removed")
    told = [f"{n} {kind}{_plural(kind) if n != 1 else ''}" for kind in KINDS if (n := counts[kind])]
    removed = len(shown.nodes) - counts.total()
    return ", ".join([*told, f"{removed} removed"] if removed else told)


def _plural(kind: str) -> str:
    return "es" if kind == "box" else "s"


def costs(shown: Recording) -> str:
    """What all of it takes: FLOP of the forward pass, memory of what is computed and kept."""
    there = [node for node in shown.nodes if node.change != "removed"]
    flops = sum(node.flops for node in there)
    n_bytes = sum(node.n_bytes for node in there if node.kind in ("operation", "box"))
    return f"{amount(flops)} FLOP forward, {bytes_of(n_bytes)} computed and kept"


def _path(box: int | None, shown: Recording) -> list[int]:
    found: list[int] = []
    while box is not None:
        found.append(box)
        box = shown.boxes[box].parent
    return found[::-1]


def _begun(before: list[int], now: list[int]) -> Iterator[tuple[int, int]]:
    for depth, box in enumerate(now):
        if before[: depth + 1] != now[: depth + 1]:
            yield depth, box


def _title(shown: Recording, box: int) -> str:
    found = shown.boxes[box]
    inside = "inside " if found.is_rule else ""
    return f"{inside}{_line(found.name)} ({_line(found.type)}):" if found.name else f"{inside}{_line(found.type)}:"


def _call(node: Node) -> str:
    name = _line(node.name)
    if node.kind not in ("operation", "box"):
        return f"{node.kind} {name}".strip()
    # Roles tell arguments apart, so an operation of one argument needs none.
    several = len(node.sources) > 1
    arguments = [f"{s.role}=#{s.node + 1}" if several and s.role else f"#{s.node + 1}" for s in node.sources]
    call = f"{_line(node.rule)}({', '.join(filter(None, [*arguments, _line(node.options)]))})"
    return f"{name} = {call}" if name else call


def _numbers(node: Node) -> str:
    parts = [("value", node.value), ("gradient", node.gradient)]
    return "".join(f"  {word} {_told(numbers, len(node.shape))}" for word, numbers in parts if numbers is not None)


def _told(numbers: Numbers, ndim: int) -> str:
    if numbers.rows is not None:
        return _nested(numbers.rows, ndim)
    if math.isnan(numbers.mean):
        return "no finite number"
    return f"{numbers.least:.3g} … {numbers.most:.3g}, mean {numbers.mean:.3g}"


def _nested(rows: Rows, ndim: int) -> str:
    lines = ["[" + " ".join(row) + "]" for row in rows]
    return {0: lines[0].strip("[]"), 1: lines[0]}.get(ndim, "[" + " ".join(lines) + "]")


def _remarks(node: Node) -> str:
    found = [*node.marks]
    if node.failed:
        found.append(f"FAILED: {_line(node.failed)}")
    if node.change:
        found.append(node.change + (f", {_line(node.difference)}" if node.difference else ""))
    if node.line:
        found.append(_line(node.line))
    return "".join(f"  ! {remark}" if remark in node.marks else f"  {remark}" for remark in found)


def _line(text: str) -> str:
    """Text that stays on its line."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
