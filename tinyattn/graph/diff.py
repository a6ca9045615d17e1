"""Two graphs on one picture: what one has and the other hasn't, and what is there in both and differs.

Compared is structure: operations, options, shapes, dtypes, and what is made of what. Numbers differ from run to run.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from typing import Any

from tinyattn.graph.nodes import Box, Node, Recording
from tinyattn.graph.scopes import common_box

Place = tuple[str, int]  # ("new", of the later graph) or ("old", of the earlier one)
FARTHEST = 500  # edits that are looked for one by one; graphs that differ more are compared by their longest runs


def diff(before: Recording, after: Recording) -> Recording:
    """The later graph, with what was added and changed marked in it, and what was removed put where it was."""
    pairs = _pairs(before, after)  # of the later → of the earlier
    of_old: dict[int, Place] = {i: ("old", i) for i in range(len(before.nodes))}
    of_old |= {i: ("new", j) for j, i in pairs.items()}
    places = {item: place for place, item in enumerate(_merged(before.nodes, after.nodes, of_old))}
    moved = before.moved(lambda i: places[of_old[i]]), after.moved(lambda j: places["new", j])
    boxes, box_of = _boxes(*moved, pairs)
    before, after = moved
    nodes = []
    for which, i in places:
        if which == "old":
            box = before.nodes[i].box
            nodes.append(before.nodes[i]._replace(box=None if box is None else box_of[box], change="removed"))
        elif i not in pairs:
            nodes.append(after.nodes[i]._replace(change="added"))
        else:
            found = _difference(before.nodes[pairs[i]], after.nodes[i])
            nodes.append(after.nodes[i]._replace(change="changed" if found else "", difference=found))
    return Recording(tuple(_around_users(nodes, boxes)), tuple(boxes))


def _around_users(nodes: Sequence[Node], boxes: Sequence[Box]) -> Iterator[Node]:
    """What isn't computed and stands in a box: where all its users are, those that were removed, too."""
    users: dict[int, list[int | None]] = {}
    for node in nodes:
        for source in node.sources:
            users.setdefault(source.node, []).append(node.box)
    for i, node in enumerate(nodes):
        is_held = node.box is not None and node.kind != "operation"
        yield node._replace(box=common_box([node.box, *users.get(i, [])], boxes)) if is_held else node


def _pairs(before: Recording, after: Recording) -> dict[int, int]:
    """What is there in both: operations by their order, all else by its name."""
    pairs: dict[int, int] = {}
    for listed in (_computed, _given):
        (old, old_places), (new, new_places) = listed(before), listed(after)
        pairs |= {new_places[j]: old_places[i] for i, j in aligned(old, new)}
    return pairs


def _computed(of: Recording) -> tuple[list[Any], list[int]]:
    """What tells operations apart, and their places."""
    places = [i for i, node in enumerate(of.nodes) if node.kind == "operation"]
    return [(_path(of.nodes[i].box, of), of.nodes[i].rule) for i in places], places


def _given(of: Recording) -> tuple[list[Any], list[int]]:
    """The same of parameters, inputs and constants. The order in which they are needed says nothing."""
    told = [(node.kind, node.name, len(node.shape)) for node in of.nodes]
    places = sorted((i for i, node in enumerate(of.nodes) if node.kind != "operation"), key=told.__getitem__)
    return [told[i] for i in places], places


def aligned(old: Sequence[Any], new: Sequence[Any]) -> list[tuple[int, int]]:
    """Places of what is equal, in the order of both, and with the fewest others between.

    Myers 1986, "An O(ND) difference algorithm and its variations", section 3: after each number of edits, how far one
    comes on each diagonal of the table whose sides are the two sequences.

    >>> aligned("abcd", "xbd")
    [(1, 1), (3, 2)]
    """
    farthest = {1: 0}  # diagonal → the farthest place in `old`
    history = []
    for n_edits in range(len(old) + len(new) + 1):
        if n_edits > FARTHEST:
            return _roughly_aligned(old, new)
        history.append(dict(farthest))
        for diagonal in range(-n_edits, n_edits + 1, 2):
            adds = _adds(farthest, diagonal, n_edits)
            i = farthest[diagonal + 1] if adds else farthest[diagonal - 1] + 1
            j = i - diagonal
            while i < len(old) and j < len(new) and old[i] == new[j]:
                i, j = i + 1, j + 1
            farthest[diagonal] = i
            if i >= len(old) and j >= len(new):
                return _way_back(history, old, len(new))
    return []


def _adds(farthest: dict[int, int], diagonal: int, n_edits: int) -> bool:
    """Whether the last edit on the way to a diagonal adds, and comes from the one above, or removes."""
    return diagonal == -n_edits or (diagonal != n_edits and farthest[diagonal - 1] < farthest[diagonal + 1])


def _way_back(history: list[dict[int, int]], old: Sequence[Any], j: int) -> list[tuple[int, int]]:
    found, i = [], len(old)
    for n_edits in reversed(range(len(history))):
        farthest, diagonal = history[n_edits], i - j
        adds = _adds(farthest, diagonal, n_edits)
        start = farthest[diagonal + 1] if adds else farthest[diagonal - 1] + 1
        while i > start:
            i, j = i - 1, j - 1
            found.append((i, j))
        i, j = (i, j - 1) if adds else (i - 1, j)
    return _slid(found[::-1], old)


def _slid(pairs: list[tuple[int, int]], old: Sequence[Any]) -> list[tuple[int, int]]:
    """The same, but of equal ones in a row that is removed whose place was taken by something new."""
    partner = {-1: -1, **dict(pairs)}
    for removed in sorted(set(range(len(old))) - partner.keys()):
        place = start = removed
        while start > 0 and start - 1 in partner and old[start - 1] == old[removed]:
            start -= 1
            if start - 1 in partner and partner[start] > partner[start - 1] + 1:  # something new stands there
                place = start
        moved = [partner.pop(i) for i in range(place, removed)]
        partner |= dict(zip(range(place + 1, removed + 1), moved, strict=True))
    return sorted(partner.items())[1:]


def _roughly_aligned(old: Sequence[Any], new: Sequence[Any]) -> list[tuple[int, int]]:
    blocks = SequenceMatcher(None, old, new, autojunk=len(old) > 2000).get_matching_blocks()
    return [(i + k, j + k) for i, j, n in blocks for k in range(n)]


def _merged(before: Sequence[Node], after: Sequence[Node], of_old: dict[int, Place]) -> list[Place]:
    """Both orders in one, each node after its sources: what was removed stands behind what it stood behind."""
    needs: dict[Place, set[Place]] = {
        ("new", j): {("new", s.node) for s in after[j].sources} for j in range(len(after))
    }
    rank: dict[Place, tuple[int, int, int]] = {("new", j): (j, 1, 0) for j in range(len(after))}
    last = -1  # of those in the later graph that stand before
    for i, node in enumerate(before):
        which, place = of_old[i]
        if which == "new":
            last = max(last, place)
        else:
            needs["old", i] = {of_old[source.node] for source in node.sources}
            rank["old", i] = (last + 1, 0, i)
    users: dict[Place, list[Place]] = {item: [] for item in needs}
    for item, needed in needs.items():
        for source in needed:
            users[source].append(item)
    left = {item: len(needed) for item, needed in needs.items()}
    ready = [(rank[item], item) for item, n in left.items() if not n]
    heapq.heapify(ready)
    order = []
    while ready:
        _, item = heapq.heappop(ready)
        order.append(item)
        for user in users[item]:
            left[user] -= 1
            if not left[user]:
                heapq.heappush(ready, (rank[user], user))
    return order


def _boxes(before: Recording, after: Recording, pairs: dict[int, int]) -> tuple[list[Box], dict[int, int]]:
    """All boxes of both, and where those of the earlier graph are among them.

    Two boxes are one where something in both is, and each of them in one other only: else a box could be made of what
    it is needed for.
    """
    boxes, box_of = list(after.boxes), dict[int, int]()
    for j in sorted(pairs):
        old, new = before.nodes[pairs[j]].box, after.nodes[j].box
        while old is not None and new is not None and old not in box_of and new not in box_of.values():
            if before.boxes[old][:2] != after.boxes[new][:2]:
                break
            box_of[old] = new
            old, new = before.boxes[old].parent, after.boxes[new].parent
    for old, box in enumerate(before.boxes):  # each after its parent
        if old not in box_of:
            box_of[old] = len(boxes)
            boxes.append(box._replace(parent=None if box.parent is None else box_of[box.parent]))
    return boxes, box_of


def _path(box: int | None, of: Recording) -> tuple[tuple[str, str], ...]:
    found: list[tuple[str, str]] = []
    while box is not None:
        found.append((of.boxes[box].name, of.boxes[box].type))
        box = of.boxes[box].parent
    return tuple(reversed(found))


def _difference(earlier: Node, later: Node) -> str:
    told = []
    if earlier.options != later.options:
        told.append(earlier.options or "without options")
    if (earlier.shape, earlier.dtype) != (later.shape, later.dtype):
        told.append(f"{earlier.shape} {earlier.dtype}")
    if earlier.name != later.name:
        told.append(f"named {earlier.name}" if earlier.name else "without a name")
    if earlier.kind == "constant" and earlier.title != later.title:
        told.append(earlier.title)
    if [source.node for source in earlier.sources] != [source.node for source in later.sources]:
        told.append("made of others")
    return f"it was {', '.join(told)}" if told else ""
