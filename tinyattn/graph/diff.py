"""Two graphs on one picture: what one has and the other hasn't, and what is there in both and differs.

Compared is structure: operations, options, shapes, dtypes, and what is made of what. Numbers differ from run to run.
"""

from __future__ import annotations

from difflib import SequenceMatcher
from typing import Any

from tinyattn.graph.nodes import Box, Node, Recording


def diff(before: Recording, after: Recording) -> Recording:
    """The later graph, with what was added and changed marked in it, and what was removed put where it was."""
    old, new = [_identity(node, before) for node in before.nodes], [_identity(node, after) for node in after.nodes]
    pairs: dict[int, int] = {}  # of the later → of the earlier
    for i, j, n in SequenceMatcher(None, old, new, autojunk=len(old) > 2000).get_matching_blocks():
        pairs |= {j + k: i + k for k in range(n)}
    order = _merged(len(before.nodes), len(after.nodes), pairs)
    places = {item: place for place, item in enumerate(order)}
    of_old = {("old", i): places["new", j] for j, i in pairs.items()}
    of_old |= {item: place for item, place in places.items() if item[0] == "old"}
    before, after = before.moved(lambda i: of_old["old", i]), after.moved(lambda j: places["new", j])
    boxes = list(after.boxes)
    known = {_path(i, after): i for i in range(len(boxes))}
    nodes = []
    for which, i in order:
        if which == "old":
            box = _box(before.nodes[i].box, before, boxes, known)
            nodes.append(before.nodes[i]._replace(box=box, change="removed"))
        elif i not in pairs:
            nodes.append(after.nodes[i]._replace(change="added"))
        else:
            found = _difference(before.nodes[pairs[i]], after.nodes[i])
            nodes.append(after.nodes[i]._replace(change="changed" if found else "", difference=found))
    return Recording(tuple(nodes), tuple(boxes))


def _identity(node: Node, of: Recording) -> Any:
    return _path(node.box, of), node.kind, node.rule, "" if node.kind == "operation" else node.title, len(node.shape)


def _path(box: int | None, of: Recording) -> tuple[tuple[str, str], ...]:
    found: list[tuple[str, str]] = []
    while box is not None:
        found.append((of.boxes[box].name, of.boxes[box].type))
        box = of.boxes[box].parent
    return tuple(reversed(found))


def _merged(n_old: int, n_new: int, pairs: dict[int, int]) -> list[tuple[str, int]]:
    """Both orders in one: what was removed stands before what came after it."""
    order: list[tuple[str, int]] = []
    taken = set(pairs.values())
    next_old = 0
    for j in range(n_new):
        if j in pairs:
            order += [("old", i) for i in range(next_old, pairs[j]) if i not in taken]
            next_old = pairs[j] + 1
        order.append(("new", j))
    return order + [("old", i) for i in range(next_old, n_old) if i not in taken]


def _difference(earlier: Node, later: Node) -> str:
    told = []
    if earlier.options != later.options:
        told.append(earlier.options or "without options")
    if (earlier.shape, earlier.dtype) != (later.shape, later.dtype):
        told.append(f"{earlier.shape} {earlier.dtype}")
    if earlier.name != later.name:
        told.append(f"named {earlier.name}" if earlier.name else "without a name")
    if [source.node for source in earlier.sources] != [source.node for source in later.sources]:
        told.append("made of others")
    return f"it was {', '.join(told)}" if told else ""


def _box(box: int | None, of: Recording, boxes: list[Box], known: dict[Any, int]) -> int | None:
    """The box of the later graph in which something of the earlier one stands; a new one, if it has none."""
    if box is None:
        return None
    path = _path(box, of)
    if path not in known:
        parent = _box(of.boxes[box].parent, of, boxes, known)
        known[path] = len(boxes)
        boxes.append(of.boxes[box]._replace(parent=parent))
    return known[path]
