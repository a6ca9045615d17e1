"""The graph as a page: one file with data, style and script, that opens without a network and is played step by step.

Text of users travels as JSON and is put on the page as text, never as markup.
"""

from __future__ import annotations

import math
from collections import Counter
from functools import lru_cache
from importlib.resources import files
from typing import Any

from tinyattn.graph.fold import grouped
from tinyattn.graph.nodes import Node, Numbers, Recording, Source
from tinyattn.graph.text import costs, summary
from tinyattn.pages import fill, to_json


def to_html(whole: Recording, shown: Recording, depth: int | None) -> str:
    """The page. All boxes are on it; those that are open in the picture are open at first.

    Where no depth was asked for, the page closes more of them, until what is left can be read.
    """
    whole = grouped(whole)
    title = _title(whole)
    parts = files("tinyattn.graph") / "assets"
    facts = _data(whole, shown) | {"title": title, "depthIsGiven": depth is not None}
    return fill(
        (parts / "page.html").read_text(encoding="utf-8"),
        title,
        {
            "style": (parts / "page.css").read_text(encoding="utf-8"),
            "script": (parts / "page.js").read_text(encoding="utf-8"),
            "data": to_json(facts),
        },
    )


def _title(whole: Recording) -> str:
    last = whole.nodes[-1]
    return f"{last.name or last.title}: computation graph"


def _data(whole: Recording, shown: Recording) -> dict[str, Any]:
    open_boxes, paths = set(_paths(shown)), _paths(whole)
    return {
        "summary": summary(whole),
        "costs": costs(whole),
        "rules": {name: {"about": _about(name), "formula": list(_formula(name))} for name in _rules(whole)},
        "boxes": [
            {
                "name": box.name,
                "type": box.type,
                "parent": box.parent,
                "isRule": box.is_rule,
                "open": paths[i] in open_boxes,
                "operation": None if box.operation is None else _node(box.operation, whole),
            }
            for i, box in enumerate(whole.boxes)
        ],
        "nodes": [_node(node, whole) for node in whole.nodes],
    }


def _rules(whole: Recording) -> list[str]:
    """The names of all rules on the page."""
    found = {node.rule: None for node in whole.nodes if node.rule}
    found |= {box.type: None for box in whole.boxes if box.is_rule}
    return list(found)


def _paths(of: Recording) -> list[Any]:
    """What tells boxes apart in both recordings: parent, name and type, and a number among those that share them."""
    seen: Counter[Any] = Counter()
    found: list[Any] = []
    for box in of.boxes:
        key = None if box.parent is None else found[box.parent], box.name, box.type
        seen[key] += 1
        found.append(hash((*key, seen[key])))  # paths of deep boxes are long
    return found


def _node(node: Node, whole: Recording) -> dict[str, Any]:
    return {
        "kind": node.kind,
        "title": node.title,
        "rule": node.rule,
        "name": node.name,
        "options": node.options,
        "shape": str(node.shape),
        "dtype": node.dtype,
        "box": node.box,
        "value": _numbers(node.value),
        "gradient": _numbers(node.gradient),
        "isRoot": node.is_root,
        "seed": _numbers(node.seed),
        "sums": [_numbers(numbers) for numbers in node.sums],
        "carries": node.carries_gradient,
        "marks": list(node.marks),
        "alarms": list(node.alarms),
        "uses": node.uses,
        "bytes": node.n_bytes,
        "flops": node.flops,
        "savesOutput": node.saves_output,
        "line": node.line,
        "failed": node.failed,
        "change": node.change,
        "difference": node.difference,
        "sources": [_source(source, whole.nodes[source.node]) for source in node.sources],
    }


def _source(source: Source, node: Node) -> dict[str, Any]:
    """An edge; what goes back over it is mostly all that its node gets, and is told there."""
    same = source.gradient is not None and source.gradient == node.gradient
    return {
        "node": source.node,
        "role": source.role,
        "carries": source.carries_gradient,
        "saved": source.is_saved,
        "gradient": "same" if same else _numbers(source.gradient),
        "jacobian": None if source.jacobian is None else [[_short(x) for x in row] for row in source.jacobian],
    }


def _numbers(numbers: Numbers | None) -> dict[str, Any] | None:
    if numbers is None:
        return None
    return {
        "rows": None if numbers.rows is None else [list(row) for row in numbers.rows],
        "cells": None if numbers.cells is None else [[_short(x) for x in row] for row in numbers.cells],
        "areEqual": numbers.least == numbers.most and not numbers.n_nan + numbers.n_infinite,
        "least": _short(numbers.least),
        "mean": _short(numbers.mean),
        "most": _short(numbers.most),
    }


def _short(x: float) -> float | None:
    """Three digits are enough to look at; None for what isn't finite, which JSON doesn't have."""
    if not math.isfinite(x):
        return None
    short = float(f"{x:.3g}")
    if math.isinf(short):  # the largest floats aren't to be rounded up
        return x
    return int(short) if short == int(short) and abs(short) < 1e6 else short


@lru_cache(256)
def _formula(rule: str) -> tuple[str, ...]:
    """The lines of a rule's docstring that carry a label, as `(softmax.1)`."""
    return tuple(line.strip() for line in _doc(rule).splitlines() if line.rstrip().endswith(")") and _is_labelled(line))


def _is_labelled(line: str) -> bool:
    import re

    return re.search(r"\([a-z]\w*\.\d+\)$", line.rstrip()) is not None


def _about(rule: str) -> str:
    return _doc(rule).partition("\n")[0]


def _doc(rule: str) -> str:
    import inspect

    from tinyattn.rules.registry import RULES

    return inspect.getdoc(RULES[rule]) or "" if rule in RULES else ""
