"""From the whole graph to what is drawn: boxes deeper than wanted become single nodes.

Where a graph is large and has no boxes, runs of operations are put into boxes first.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from tinyattn.graph.nodes import Box, Change, Node, Recording, Source

MOST = 150  # nodes that are drawn unless more are asked for
GROUPED = 400  # more than so many that stand in no box are put into groups


def fold(whole: Recording, depth: int | None) -> Recording:
    """The graph with boxes open down to a depth; 0 closes all. None opens as many as make a picture to look at."""
    if depth is not None:
        return _closed(whole, depth)
    if len(whole.nodes) <= MOST:
        return whole
    whole = grouped(whole)
    levels = _levels(whole.boxes)
    found = _closed(whole, 0)
    for deeper in range(1, max(levels, default=0) + 1):
        opened = _closed(whole, deeper)
        if len(opened.nodes) > MOST:
            break
        found = opened
    return found


def levels(boxes: Sequence[Box]) -> int:
    """How deep boxes stand in boxes."""
    return max(_levels(boxes), default=0)


def _levels(boxes: Sequence[Box]) -> list[int]:
    """How many boxes each is in, itself counted."""
    found: list[int] = []
    for box in boxes:
        found.append(1 if box.parent is None else found[box.parent] + 1)
    return found


def grouped(whole: Recording, most: int = GROUPED) -> Recording:
    """Runs of operations that are in no box, in boxes of about √n, if they are many."""
    loose = [
        i for i, node in enumerate(whole.nodes) if node.box is None and node.kind == "operation" and not node.failed
    ]
    if len(loose) <= most:
        return whole
    size = math.isqrt(len(loose))
    boxes, box_of = list(whole.boxes), dict[int, int]()
    for first in range(0, len(loose), size):
        run = loose[first : first + size]
        boxes.append(Box(f"operations {first + 1} to {first + len(run)}", "group", None))
        box_of |= dict.fromkeys(run, len(boxes) - 1)
    users: dict[int, set[int | None]] = {}
    for i, node in enumerate(whole.nodes):
        for source in node.sources:
            users.setdefault(source.node, set()).add(box_of.get(i, node.box))
    for i, node in enumerate(whole.nodes):
        if node.kind in ("parameter", "constant", "input") and node.box is None and len(users.get(i, ())) == 1:
            (only,) = users[i]
            if only is not None:
                box_of[i] = only
    nodes = [node if i not in box_of else node._replace(box=box_of[i]) for i, node in enumerate(whole.nodes)]
    return Recording(tuple(nodes), tuple(boxes))


def _closed(whole: Recording, depth: int) -> Recording:
    """Every box deeper than that as one node."""
    level = _levels(whole.boxes)
    outermost: list[int | None] = []  # of the closed boxes around each box, itself included
    for i, box in enumerate(whole.boxes):
        above = None if box.parent is None else outermost[box.parent]
        outermost.append(above if above is not None else i if level[i] > depth else None)
    if not any(x is not None for x in outermost):
        return whole
    stands_for: list[tuple[str, int]] = []
    members: dict[tuple[str, int], list[int]] = {}
    for i, node in enumerate(whole.nodes):
        closed = None if node.box is None else outermost[node.box]
        stands_for.append(("node", i) if closed is None else ("box", closed))
        members.setdefault(stands_for[-1], []).append(i)
    places = {item: place for place, item in enumerate(_in_order(members, stands_for, whole.nodes))}
    used_outside = {
        s.node for i, node in enumerate(whole.nodes) for s in node.sources if stands_for[s.node] != stands_for[i]
    }
    kept_boxes = [i for i in range(len(whole.boxes)) if outermost[i] is None]
    box_places: dict[int | None, int | None] = {box: place for place, box in enumerate(kept_boxes)}
    box_places[None] = None

    def placed(node: int) -> int:
        return places[stands_for[node]]

    nodes = []
    for item in places:
        inside = members[item]
        sources = tuple(_sources(inside, item, stands_for, places, whole.nodes))
        if item[0] == "node":
            node = whole.nodes[item[1]]
            nodes.append(node._replace(sources=sources, box=box_places[node.box]))
        else:
            box = whole.boxes[item[1]]
            if box.operation is not None:
                operation = box.operation.moved(placed)
                change = _change([whole.nodes[i] for i in inside])
                nodes.append(operation._replace(box=box_places[box.parent], **change))
                continue
            outputs = [i for i in inside if i in used_outside or whole.nodes[i].is_root]
            within = [whole.nodes[i] for i in inside]
            nodes.append(_as_node(box, within, outputs, whole.nodes, sources, box_places[box.parent]))
    uses = Counter(source.node for node in nodes for source in node.sources)
    nodes = [node._replace(uses=uses[i]) for i, node in enumerate(nodes)]
    kept = [whole.boxes[i].moved(placed) for i in kept_boxes]
    boxes = [box._replace(parent=box_places[box.parent]) for box in kept]
    return Recording(tuple(nodes), tuple(boxes))


def _in_order(
    members: dict[tuple[str, int], list[int]], stands_for: Sequence[tuple[str, int]], nodes: Sequence[Node]
) -> Iterator[tuple[str, int]]:
    """Each item after those that it needs; else in the order of the nodes."""
    needs = {
        item: {stands_for[s.node] for i in inside for s in nodes[i].sources} - {item}
        for item, inside in members.items()
    }
    users: dict[tuple[str, int], list[tuple[str, int]]] = {item: [] for item in members}
    for item, needed in needs.items():
        for source in needed:
            users[source].append(item)
    left = {item: len(needed) for item, needed in needs.items()}
    ready = [(inside[0], item) for item, inside in members.items() if not left[item]]
    heapq.heapify(ready)
    while ready:
        _, item = heapq.heappop(ready)
        yield item
        for user in users[item]:
            left[user] -= 1
            if not left[user]:
                heapq.heappush(ready, (members[user][0], user))


def _sources(
    inside: Sequence[int],
    item: tuple[str, int],
    stands_for: Sequence[tuple[str, int]],
    places: dict[tuple[str, int], int],
    nodes: Sequence[Node],
) -> Iterator[Source]:
    """What comes from outside; a box is told once of each."""
    told: set[int] = set()
    for i in inside:
        for source in nodes[i].sources:
            outside = stands_for[source.node]
            if outside == item:
                continue
            place = places[outside]
            if item[0] == "box":
                if place in told:
                    continue
                told.add(place)
                source = source._replace(role="", gradient=None)
            yield source._replace(node=place)


def _as_node(
    box: Box,
    inside: Sequence[Node],
    outputs: Sequence[int],
    nodes: Sequence[Node],
    sources: tuple[Source, ...],
    parent: int | None,
) -> Node:
    counts = [(sum(node.kind == kind for node in inside), kind) for kind in ("operation", "parameter")]
    about = ", ".join(f"{n} {kind}{'s' * (n != 1)}" for n, kind in counts if n)
    last = nodes[outputs[-1]] if outputs else inside[-1]
    marks = {mark for node in inside for mark in node.alarms} - set(last.marks)
    return Node(
        kind="operation" if box.is_rule else "box",
        rule=box.type if box.is_rule else box.name or box.type,
        options="" if box.is_rule or not box.name else box.type,
        name=last.name if len(outputs) == 1 else "",
        shape=last.shape,
        dtype=last.dtype,
        value=last.value if len(outputs) == 1 else None,
        gradient=last.gradient if len(outputs) == 1 else None,
        carries_gradient=any(node.carries_gradient for node in inside),
        sources=sources,
        about=about,
        box=parent,
        uses=last.uses,
        n_bytes=sum(node.n_bytes for node in inside if node.kind == "operation"),
        flops=sum(node.flops for node in inside),
        inner_marks=tuple(sorted(marks)),
        failed=next((f"{node.rule}: {node.failed}" for node in inside if node.failed), ""),
        is_root=any(node.is_root for node in inside),
        **_change(inside),
    )


def _change(inside: Sequence[Node]) -> dict[str, Any]:
    """What a closed box says of the differences in it: all was added, all was removed, or how many of its nodes."""
    counts = Counter(node.change for node in inside if node.change)
    if not counts:
        return {}
    change: Change = "changed"
    if len(counts) == 1 and counts.total() == len(inside):
        (change,) = counts
    told = ", ".join(f"{counts[kind]} {kind}" for kind in ("added", "removed", "changed") if counts[kind])
    return {"change": change, "difference": f"inside: {told}" if change == "changed" else ""}
