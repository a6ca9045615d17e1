"""Which module made what: boxes, from the ages of nodes.

A call of a module is an interval of ages: from its start to what it gave. Calls nest, and so do the intervals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from tinyattn.graph.nodes import Box, Node
from tinyattn.nodes import Node as TapeNode


class Call(NamedTuple):
    """What was made after `start`, up to `end`, was made in it."""

    start: float
    end: float
    caller: Any  # a module
    rule: str = ""  # the name of a rule, for the inside of an operation
    whole: Any = None  # the operation, where it's all of one


def calls_of(nodes: Iterable[TapeNode]) -> list[Call]:
    """The calls of modules that gave any of the nodes."""
    ends: dict[tuple[float, int], Call] = {}
    for node in nodes:
        scope = getattr(node, "_scope", None)
        while scope is not None:
            key = (scope.start, id(scope.caller))
            known = ends.get(key)
            if known is None or known.end < scope.end:
                ends[key] = Call(scope.start, scope.end, scope.caller)
            scope = scope.inner
    return list(ends.values())


def boxes_of(
    calls: Sequence[Call], ages: Sequence[float], drawn: Callable[[Any], Node]
) -> tuple[list[Box], list[int | None]]:
    """The boxes that hold anything, each after its parent; and for each age the innermost box around it.

    `drawn` tells what an operation looks like while its inside is closed.
    """
    ordered = sorted(calls, key=lambda call: (call.start, -call.end))
    found: list[int | None] = [None] * len(ages)
    stack: list[int] = []  # indices of open calls, outermost first
    parents: dict[int, int | None] = {}
    todo = iter(range(len(ordered)))
    upcoming = next(todo, None)
    for i in sorted(range(len(ages)), key=ages.__getitem__):
        age = ages[i]
        while upcoming is not None and ordered[upcoming].start < age:
            while stack and ordered[stack[-1]].end < ordered[upcoming].start:
                stack.pop()
            parents[upcoming] = stack[-1] if stack else None
            stack.append(upcoming)
            upcoming = next(todo, None)
        while stack and ordered[stack[-1]].end < age:
            stack.pop()
        found[i] = stack[-1] if stack else None
    used: set[int] = set()
    for call in found:
        while call is not None and call not in used:
            used.add(call)
            call = parents[call]
    names: dict[int, dict[int, str]] = {}  # of the parts of modules, by their ids
    places = {call: place for place, call in enumerate(sorted(used))}
    boxes = []
    for call in sorted(used):
        parent = parents[call]
        above = _above(call, parents, ordered)
        boxes.append(
            Box(
                name=_name(ordered[call], above, names),
                type=ordered[call].rule or type(ordered[call].caller).__name__,
                parent=None if parent is None else places[parent],
                is_rule=bool(ordered[call].rule),
                operation=None if ordered[call].whole is None else drawn(ordered[call].whole),
            )
        )
    return boxes, [None if call is None else places[call] for call in found]


def _above(call: int, parents: dict[int, int | None], ordered: Sequence[Call]) -> list[Any]:
    """The modules around a call, innermost first."""
    found = []
    parent = parents[call]
    while parent is not None:
        if not ordered[parent].rule:
            found.append(ordered[parent].caller)
        parent = parents[parent]
    return found


def _name(call: Call, above: Iterable[Any], names: dict[int, dict[int, str]]) -> str:
    """Where the module stands in the nearest of those around it that has it."""
    if call.rule:
        return ""
    for module in above:
        if id(module) not in names:
            named: Callable[[], Iterable[tuple[str, Any]]] = getattr(module, "named_modules", list)
            names[id(module)] = {id(part): name for name, part in reversed(list(named()))}  # the first name counts
        if id(call.caller) in names[id(module)]:
            return names[id(module)][id(call.caller)]
    return ""


def common_box(places: Iterable[int | None], boxes: Sequence[Box]) -> int | None:
    """The innermost box around all of these."""
    paths = []
    for box in places:
        path = []
        while box is not None:
            path.append(box)
            box = boxes[box].parent
        path.reverse()
        paths.append(path)
    found = None
    for level in zip(*paths, strict=False):
        if len(set(level)) > 1:
            break
        found = level[0]
    return found
