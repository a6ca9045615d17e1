"""From a Tensor to nodes: what the tape remembers, read in the order in which it can be computed again.

The order follows the inputs of each operation, left to right, and nothing else; so the same model gives the same nodes,
whatever else was computed before or in between. The walk has a stack of its own: depth is no limit.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tinyattn.engine import GradientError, as_it_was
from tinyattn.graph.nodes import Node, Rows
from tinyattn.rules.registry import parameters
from tinyattn.tensor import Tensor

MOST_NUMBERS = 16  # in an array whose numbers are shown ...
MOST_COLUMNS = 6  # ... and in a row of it


def trace(root: Tensor, names: Mapping[str, Tensor]) -> list[Node]:
    """A node for `root` and for each thing it was computed from, every node after its sources.

    Raises `GradientError` where there is no graph, or where a part of it was released.
    """
    if root._rule is None:
        raise GradientError(
            "graph: this tensor has no graph, since no recorded operation made it. Draw the result of operations on "
            "tensors of which one at least has requires_grad=True, made outside no_grad"
        )
    known_as = {tensor: name for name, tensor in names.items()}
    places: dict[Any, int] = {}  # id of a tensor, or what an array holds → its node; the graph keeps tensors alive
    nodes: list[Node] = []
    stack: list[Any] = [root]
    while stack:
        x = stack[-1]
        if id(x) in places:
            stack.pop()
            continue
        waiting = [y for y in reversed(_inputs(x)) if isinstance(y, Tensor) and id(y) not in places]
        if waiting:
            stack.extend(waiting)
            continue
        stack.pop()
        sources, roles = [], []
        for role, y in _arguments(x):
            if isinstance(y, Tensor):
                place = places[id(y)]
            elif isinstance(y, np.ndarray):  # the same mask, used twice, is one constant
                place = places.setdefault((y.dtype.str, y.shape, y.tobytes()), len(nodes))
            else:
                place = len(nodes)
            if place == len(nodes):
                nodes.append(_constant(y))
            sources.append(place)
            roles.append(role)
        places[id(x)] = len(nodes)
        nodes.append(_node(x, known_as.get(x, x.name), tuple(sources), tuple(roles)))
    return nodes


def _inputs(x: Tensor) -> tuple[Any, ...]:
    if x._inputs is None:
        assert x._rule is not None
        raise GradientError(
            f"graph: the graph behind this tensor was released by an earlier backward (at {x._rule.__name__}). "
            "Draw it before backward(), or pass retain_graph=True to that one to see gradients too"
        )
    for y in x._inputs:
        if isinstance(y, Tensor) and y._age > x._age:  # it was assigned to since
            as_it_was(y, x)
    return x._inputs


def _arguments(x: Tensor) -> list[tuple[str, Any]]:
    """What the rule was given, each with the rule's name for it; what was left out is left out here too."""
    if x._rule is None:
        return []
    inputs, spec = _inputs(x), parameters(x._rule)
    roles = [f"{spec.arrays[0]}[{i}]" for i in range(len(inputs))] if spec.variadic else spec.arrays
    return [(role, y) for role, y in zip(roles, inputs, strict=True) if y is not None]


def _node(x: Tensor, name: str | None, sources: tuple[int, ...], roles: tuple[str, ...]) -> Node:
    rule = x._rule
    return Node(
        kind="operation" if rule is not None else "parameter" if x.requires_grad else "input",
        rule="" if rule is None else rule.__name__,
        options="" if rule is None else _options(rule, x._options),
        name="" if name is None else str(name),
        shape=x.shape,
        dtype=str(x.dtype),
        value=_numbers(x.numpy()),
        gradient=None if x.grad is None else _numbers(x.grad.numpy()),
        carries_gradient=x.requires_grad,
        sources=sources,
        roles=roles,
        about="" if rule is None else (inspect.getdoc(rule) or "").partition("\n")[0],
    )


def _constant(x: Any) -> Node:
    array = np.asarray(x)
    return Node(
        kind="constant",
        rule="",
        options="",
        name="",
        shape=array.shape,
        dtype=str(array.dtype),
        value=_numbers(array),
        gradient=None,
        carries_gradient=False,
        sources=(),
        roles=(),
        about="",
    )


def _options(rule: Callable[..., Any], options: Mapping[str, Any]) -> str:
    """The options that were given, without those that say what the rule does anyway."""
    declared = inspect.signature(rule).parameters
    return ", ".join(
        f"{name}={_option(value)}"
        for name, value in options.items()
        if name not in declared or _option(value) != _option(declared[name].default)
    )


def _option(value: Any) -> str:
    """An option in a few characters, the same in every run: no addresses, no long arrays."""
    match value:
        case None | bool() | int() | float() | str() | np.generic():
            return repr(value.item() if isinstance(value, np.generic) else value)
        case slice():
            parts = ["" if part is None else _option(part) for part in (value.start, value.stop, value.step)]
            return ":".join(parts[:2] if value.step is None else parts)
        case tuple():
            return f"({', '.join(map(_option, value))}{',' * (len(value) == 1)})"
        case np.ndarray():
            return f"{value.dtype} {value.shape}"
        case np.dtype():
            return str(value)
        case type():
            return value.__name__
    return "..." if value is Ellipsis else type(value).__name__


def _numbers(array: "np.ndarray[Any, Any]") -> Rows | None:
    """The numbers of an array, written out row by row, if it is small."""
    if array.ndim > 2 or not 0 < array.size <= MOST_NUMBERS:
        return None
    rows = array.reshape(1, -1) if array.ndim < 2 else array
    if rows.shape[1] > MOST_COLUMNS:
        return None
    return tuple(tuple(str(x) if isinstance(x, bool | int) else f"{x:.4g}" for x in row) for row in rows.tolist())
