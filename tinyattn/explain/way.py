"""The way back from a root to a tensor, and who on it made zeros or NaN of a gradient that had others.

It is walked as `engine.walk` does it; but nothing is released, no `.grad` is written, and what went over each edge is
kept.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np

from tinyattn.derivatives import jvp
from tinyattn.engine import apply, fit, seed, youngest_last
from tinyattn.nodes import FLOATS, Node, Rule, recording
from tinyattn.rules.registry import argument

Vector: TypeAlias = "np.ndarray[Any, Any]"
Bad: TypeAlias = Callable[[Vector], Vector]
"""Where an array holds what is asked about: zeros, or numbers that aren't finite."""

WEIGH: Final = frozenset({"softmax", "log_softmax", "attention", "attention_weights", "layer_norm", "rms_norm"})
"""Rules in which each number of a row has a say in what comes back to all others."""


class Edge(NamedTuple):
    """A node on the way back, and one of its inputs: the gradient that came in, and the one that went out to it."""

    node: Node
    place: int  # of the input among those of the rule
    d_output: Vector
    d_input: Vector
    lost: Vector  # which numbers of d_input are asked about

    @property
    def function(self) -> Rule:
        """The node's rule."""
        assert self.node._rule is not None
        return self.node._rule

    @property
    def rule(self) -> str:
        """The name of the node's rule."""
        return self.function.__name__

    @property
    def argument(self) -> str:
        """What the rule calls the input."""
        return argument(self.function, self.place)

    @property
    def input(self) -> Node:
        """The node that the edge leads to."""
        assert self.node._parents is not None
        x = self.node._parents[self.place]
        assert x is not None
        return x

    def given(self, place: int) -> Any:
        """The numbers that the rule was given at a place; None where it was given none."""
        inputs = self.node._inputs or ()
        x = plain(inputs[place]) if place < len(inputs) else None
        return x if x is None else np.asarray(x)

    def option(self, name: str, default: Any) -> Any:
        """An option of the call, by its name."""
        return self.node._options.get(name, default)

    def sent(self, gradients: Any) -> Vector:
        """What goes out to the input, of the gradients that the rule gives, in the input's shape."""
        return np.asarray(fit(gradients[self.place], self.input, self.node))


class Way(NamedTuple):
    """Every edge that leads from the root to the tensor, with the gradients on it."""

    passed: list[Node]  # root first
    sums: dict[Node, Vector]  # the gradient in each of them
    into: dict[Node, list[Edge]]  # by the node that the edges lead to
    instead: dict[Node, Node]  # what a checkpoint computed again → the checkpoint


class Meeting(NamedTuple):
    """Edges whose gradients are fine one by one; their sum isn't."""

    edges: list[Edge]


def plain(x: Any) -> Any:
    """The numbers of a node; anything else as it is."""
    return x._data if isinstance(x, Node) else x


def walk(tensor: Node, root: Node, order: list[Node]) -> Way:
    """The way from the root to the tensor; `order` is what the root was made of, oldest first."""
    leads = _leading_to(tensor, order)
    order = list(order)
    sums: dict[Node, Any] = {root: seed(root, None)}
    way = Way([], {}, defaultdict(list), {})
    with recording(False), np.errstate(all="ignore"):
        while order:
            node = order.pop()
            d_output = sums.get(node)
            if d_output is None:
                continue
            way.passed.append(node)
            way.sums[node] = np.asarray(d_output)
            if node._rule is None or node is tensor:
                continue
            gradients = node._backward(d_output)
            if isinstance(gradients, Node):  # a checkpoint, computed again
                again = youngest_last(gradients, node._age + 1)
                leads |= _leading_to(tensor, again, leads)
                order += again
                sums[gradients] = d_output
                way.instead[gradients] = node
                continue
            for i, (x, gradient) in enumerate(zip(node._parents or (), gradients, strict=True)):
                if x is None or gradient is None or not x._requires_grad or x not in leads:
                    continue
                gradient = fit(gradient, x, node)
                d_input = np.asarray(gradient)
                way.into[x].append(Edge(node, i, way.sums[node], d_input, np.ones(d_input.shape, bool)))
                sums[x] = sums[x] + gradient if x in sums else gradient
    return way


def _leading_to(tensor: Node, order: list[Node], known: "set[Node] | None" = None) -> set[Node]:
    """The nodes of `order`, which is oldest first, from which the tensor can be reached."""
    leads = {tensor} | (known or set())
    for node in order:
        if any(x in leads for x in node._parents or () if x is not None and x._requires_grad):
            leads.add(node)
    return leads


# ------------------------------------------------------------------------------------------------ who is to blame


def is_zero(x: Vector) -> Vector:
    """Where an array is 0."""
    return np.asarray(x == 0)


def not_finite(x: Vector) -> Vector:
    """Where an array holds NaN or infinities."""
    return ~np.isfinite(x)


def culprits(way: Way, tensor: Node, bad: Bad) -> Iterator[Edge | Meeting]:
    """Who made bad numbers, zeros say, of a gradient that had none; followed from the tensor towards the root.

    An edge is to blame for what stays bad when others are put in place of the bad numbers that came in; and in rules
    that weigh, for zeros that wouldn't be there if it had been given other numbers. The rest came in bad: there the
    search goes on. What merely lies beside the way is never asked.
    """
    suspects = {tensor: bad(way.sums[tensor])}
    for node in reversed(way.passed):  # all that was made of a node comes after it here
        where = suspects.pop(node, None)
        if where is None:
            continue
        if node in way.instead:
            suspects[way.instead[node]] = where
            continue
        edges = way.into[node]
        if not edges:
            continue
        each = [bad(edge.d_input) for edge in edges]
        in_each = np.all(each, axis=0) if bad is is_zero else np.any(each, axis=0)
        if (where & ~in_each).any():
            yield Meeting([edge for edge in edges if edge.d_input[where].any()])
        for edge, bad_here in zip(edges, each, strict=True):
            asked = where & in_each & bad_here
            own = asked & _stays(edge, bad)
            if bad is is_zero and edge.rule in WEIGH and (asked & ~own).any():
                own |= asked & _elsewhere(edge)
            if own.any():
                yield edge._replace(lost=own)
            if (asked & ~own).any():
                came_in = _came_from(edge, asked & ~own, bad)
                suspects[edge.node] = suspects[edge.node] | came_in if edge.node in suspects else came_in


def _stays(edge: Edge, bad: Bad) -> Vector:
    """What of the gradient that went out is bad whatever stands in place of the bad numbers that came in."""
    came = bad(edge.d_output)
    if not came.any():
        return np.ones(edge.d_input.shape, bool)
    others = np.random.default_rng(0).normal(size=came.shape)
    replaced = np.where(came, others, edge.d_output).astype(edge.d_output.dtype)
    with recording(False), np.errstate(all="ignore"):
        return bad(edge.sent(edge.node._backward(replaced)))


def _elsewhere(edge: Edge) -> Vector:
    """Where what came in would make a gradient that isn't 0, were the rule given other numbers."""
    rng = np.random.default_rng(0)
    inputs = [plain(x) for x in edge.node._inputs or ()]
    others = [
        rng.uniform(0.5, 1.5, x.shape).astype(x.dtype) if getattr(x, "dtype", None) in FLOATS else x for x in inputs
    ]
    try:
        with recording(False), np.errstate(all="ignore"):
            gradient = edge.sent(edge.function(*others, **edge.node._options)[1](edge.d_output))
    except Exception:  # somebody's own rule needn't take any numbers
        return np.zeros(edge.lost.shape, bool)
    return np.asarray(np.isfinite(gradient) & (gradient != 0))


def _came_from(edge: Edge, where: Vector, bad: Bad) -> Vector:
    """The bad numbers of the gradient that came in, which those that went out at `where` are made of.

    d_x_j = Σ_i d_y_i ∂y_i/∂x_j: those of the outputs that move with these inputs.
    """
    came = bad(edge.d_output)
    if came.all() or (came.shape == where.shape and (came == where).all() and (came == bad(edge.d_input)).all()):
        return came  # all, or number by number: no need to try
    inputs = [plain(x) for x in edge.node._inputs or ()]
    x = inputs[edge.place]

    def output(x: Any) -> Any:
        return apply(edge.function, (*inputs[: edge.place], x, *inputs[edge.place + 1 :]), edge.node._options)

    push = np.where(where, np.random.default_rng(0).normal(size=where.shape), 0.0).astype(x.dtype)
    try:
        with recording(True), np.errstate(all="ignore"):
            moved = jvp(output, (x,), (push,))[1].numpy() != 0
    except Exception:  # somebody's own rule needn't take Tensors: then all that came in bad is asked
        return came
    return came & moved if (came & moved).any() else came


def shrinking(way: Way) -> Iterator[tuple[float, Edge | Meeting]]:
    """How large the gradient that goes out of each edge is, beside the one that came in; and a sum beside its parts."""
    for node in way.passed:
        edges = way.into[node]
        yield from ((_ratio(edge.d_input, [edge.d_output]), edge) for edge in edges)
        if len(edges) > 1:
            ratio = _ratio(way.sums[node], [edge.d_input for edge in edges])
            if ratio < 1e-3:  # not worth mentioning else
                yield ratio, Meeting(edges)


def _ratio(went: Vector, came: list[Vector]) -> float:
    largest = max(np.abs(gradient).max(initial=0.0) for gradient in came)
    return float(np.abs(went).max(initial=0.0) / largest) if largest else 1.0
