"""What it was in a rule that made its gradient zero, or nearly so: a small function for each kind of rule.

Each looks at what one node was given and gave, and says what kind of cause it is, in words. A new rule without an entry
is told by its name and the size of its numbers.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from tinyattn.nodes import Node
from tinyattn.rules.attention import attention_weights
from tinyattn.rules.registry import argument

Vector: TypeAlias = "np.ndarray[Any, Any]"


class Edge(NamedTuple):
    """A node on the way back, and one of its inputs: the gradient that came in, and the one that went out to it."""

    node: Node
    place: int  # of the input among those of the rule
    d_output: Vector
    d_input: Vector

    @property
    def rule(self) -> str:
        """The name of the node's rule."""
        assert self.node._rule is not None
        return self.node._rule.__name__

    @property
    def argument(self) -> str:
        """What the rule calls the input."""
        assert self.node._rule is not None
        return argument(self.node._rule, self.place)

    def given(self, place: int) -> Any:
        """The numbers that the rule was given at a place; None where it was given none."""
        inputs = self.node._inputs
        x: Any = inputs[place] if inputs is not None and place < len(inputs) else None
        return plain(x)

    def option(self, name: str, default: Any) -> Any:
        """An option of the call, by its name."""
        return self.node._options.get(name, default)


Cause: TypeAlias = tuple[str, str]
"""The kind of a cause, and what is to be said of it."""


def plain(x: Any) -> Any:
    """The numbers of a node; anything else as it is."""
    return np.asarray(x._data) if isinstance(x, Node) else x if x is None else np.asarray(x)


def cause(edge: Edge) -> Cause:
    """Why the gradient is lost on this edge."""
    find = CAUSES.get(edge.rule)
    return (find and find(edge)) or _unnamed(edge)


def _unnamed(edge: Edge) -> Cause:
    came, went = (f"{np.abs(g).max():.3g}" if g.size else "nothing" for g in (edge.d_output, edge.d_input))
    return "small slope", f"of a gradient up to {came} it passes on up to {went} to {edge.argument}"


def _some(lost: Vector, of: str) -> str:
    """How many are lost: 'all 6 inputs', '2 of 6 inputs'."""
    n = int(np.count_nonzero(lost))
    return f"all {lost.size} {of}" if n == lost.size else f"{n} of {lost.size} {of}"


# ------------------------------------------------------------------------------------------------ one number at a time


def _dead_relu(edge: Edge) -> Cause:
    return "dead relu", f"{_some(edge.given(0) <= 0, 'inputs')} are 0 or below, where a relu is flat"


def _saturated_curve(edge: Edge) -> Cause:
    x = edge.given(0)
    return "saturated", f"its inputs lie in {x.min():.3g} … {x.max():.3g}, where {edge.rule} is flat to the last digits"


def _flat(edge: Edge) -> Cause:
    return "flat", f"{edge.rule} has slope 0 wherever it has one"


def _other_side(edge: Edge) -> Cause | None:
    condition = edge.given(0)
    if edge.place not in (1, 2):
        return None
    taken = condition if edge.place == 2 else ~condition.astype(bool)
    return "masked", f"the condition takes the other side for {_some(np.asarray(taken), 'places')}"


def _clipped(edge: Edge) -> Cause:
    return "clipped", f"{_some(edge.d_input == 0, 'inputs')} lie beyond a bound, where clip is flat"


def _not_the_winner(edge: Edge) -> Cause:
    extreme = "largest" if edge.rule.startswith("max") else "smallest"
    return "not the winner", f"{_some(edge.d_input == 0, f'numbers of {edge.argument}')} are never the {extreme}"


def _times_zero(edge: Edge) -> Cause | None:
    other = edge.given(1 - edge.place)
    if not (other == 0).any():
        return None
    return "times zero", f"the other factor is 0 at {_some(other == 0, 'places')}"


def _dropped(edge: Edge) -> Cause:
    return "dropped", f"dropout put 0 in place of {_some(edge.d_input == 0, 'numbers')}"


def _power_of_zero(edge: Edge) -> Cause | None:
    base, exponent = edge.given(0), edge.given(1)
    if edge.place == 0 and (exponent == 0).all():
        return "flat", "the exponent is 0, and x⁰ is 1 whatever x is"
    if edge.place == 0 and (base == 0).any():
        return "flat", f"{_some(base == 0, 'bases')} are 0, where a power above 1 has slope 0"
    return None


# ------------------------------------------------------------------------------------------ selections and products


def _not_selected(edge: Edge) -> Cause:
    lost = _some(edge.d_input == 0, f"numbers of {edge.argument}")
    return "not selected", f"{lost} were not read, or only where it doesn't matter"


def _other_factor(edge: Edge) -> Cause | None:
    other = edge.given(1 - edge.place) if edge.place < 2 else None
    if other is None or other.any():
        return None
    assert edge.node._rule is not None
    return "times zero", f"all of {argument(edge.node._rule, 1 - edge.place)} is 0"


# ------------------------------------------------------------------------------------------------ softmax and its kin


def _is_constant(d: Vector, axis: int) -> bool:
    """Whether a gradient is the same for all along the axis, up to round-off."""
    return d.size > 0 and bool(np.ptp(d, axis=axis).max() <= 1e-12 * np.abs(d).max())


def _saturation(weights: Vector, axis: int) -> str:
    largest = np.argmax(weights, axis=axis)
    others = weights.copy()
    np.put_along_axis(others, np.expand_dims(largest, axis), 0.0, axis)
    left = others.sum(axis=axis)  # 1 − max p, without the cancellation
    told = f"{left.max():.3g}" if np.size(left) == 1 else f"{left.min():.3g} … {left.max():.3g}"
    return f"one weight takes all: 1 − max p = {told}"


CONSTANT = "constant direction"
SATURATED = "saturated softmax"


def _softmax(edge: Edge) -> Cause | None:
    axis = edge.option("axis", -1)
    weights, scores = edge.node._data, edge.given(0)
    if edge.rule == "log_softmax":
        weights = np.exp(weights)
    elif _is_constant(edge.d_output, axis):
        return CONSTANT, (
            "the gradient is the same for all weights of a row, which always sum to 1: together they can't change"
        )
    if scores.shape[axis] == 1:
        return CONSTANT, "there is one score in each row, whose weight is always 1"
    hidden = scores == -np.inf
    if hidden.any() and not edge.d_input[~hidden].any():
        return "masked", f"{_some(hidden, 'scores')} are −∞, and what is left has nothing to share"
    return SATURATED, _saturation(np.asarray(weights), axis)


def _cross_entropy(edge: Edge) -> Cause | None:
    if edge.place != 0:
        return None
    scores = edge.given(0)
    exp = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return SATURATED, _saturation(exp / exp.sum(axis=-1, keepdims=True), -1)


def _attention(edge: Edge) -> Cause | None:
    mixes = edge.rule == "attention"
    bias = edge.given(3 if mixes else 2)
    named = {name: edge.option(name, None) for name in ("mask", "scale") if edge.option(name, None) is not None}
    weights, _ = attention_weights(edge.given(0), edge.given(1), bias, causal=edge.option("causal", False), **named)
    weights = np.asarray(weights)
    unseen = np.asarray(~weights.any(axis=tuple(range(weights.ndim - 1))))  # keys that no query attends to
    if edge.argument in ("key", "value") and unseen.any() and not _lost_elsewhere(edge, unseen):
        return "masked", f"no query attends to key {_numbers(unseen)}"
    blind = np.asarray(~weights.any(axis=-1))
    if edge.argument == "query" and blind.any() and (blind.all() or _rows_lost(edge.d_input, blind)):
        return "masked", f"{_some(blind, 'queries')} may attend to nothing"
    if edge.argument in ("query", "key", "bias"):
        if weights.shape[-1] == 1:
            return CONSTANT, "there is one key, whose weight is always 1"
        if mixes and _is_constant(np.asarray(edge.d_output @ edge.given(2).swapaxes(-1, -2)), -1):
            return CONSTANT, "all values are the same in the direction of the gradient: who looks where doesn't matter"
        return SATURATED, _saturation(weights, -1)
    return None


def _lost_elsewhere(edge: Edge, unseen: Vector) -> bool:
    """Whether rows of the gradient are zero, too, that some query attends to."""
    rows = edge.d_input.reshape(-1, *edge.d_input.shape[-2:])
    lost = ~rows.any(axis=(0, -1))
    return bool((lost & ~unseen).any())


def _rows_lost(gradient: Vector, rows: Vector) -> bool:
    return gradient.shape[:-1] == rows.shape and not gradient[rows].any()


def _numbers(chosen: Vector) -> str:
    places = np.flatnonzero(chosen).tolist()
    told = ", ".join(map(str, places[:8]))
    return told + (f" and {len(places) - 8} more" if len(places) > 8 else "")


def _normed(edge: Edge) -> Cause | None:
    """A normed row has mean 0 and length √d whatever happens: pushing all of it, or along itself, changes nothing."""
    if edge.place != 0:
        return None
    weight = edge.given(1)
    d_normed = edge.d_output if weight is None else edge.d_output * weight
    if edge.rule == "layer_norm" and _is_constant(d_normed, -1):
        return CONSTANT, "the gradient is the same along the row, whose mean is always 0"
    return "small slope", "the gradient points along the normed row itself, whose length is always the same"


CAUSES: dict[str, Callable[[Edge], Cause | None]] = {
    "relu": _dead_relu,
    "sigmoid": _saturated_curve,
    "tanh": _saturated_curve,
    "erf": _saturated_curve,
    "exp": _saturated_curve,
    "silu": _saturated_curve,
    "gelu": _saturated_curve,
    "softplus": _saturated_curve,
    "sign": _flat,
    "where": _other_side,
    "clip": _clipped,
    "max": _not_the_winner,
    "maximum": _not_the_winner,
    "min": _not_the_winner,
    "minimum": _not_the_winner,
    "multiply": _times_zero,
    "power": _power_of_zero,
    "dropout": _dropped,
    "index": _not_selected,
    "take": _not_selected,
    "take_along_axis": _not_selected,
    "embedding": _not_selected,
    "diagonal": _not_selected,
    "tril": _not_selected,
    "triu": _not_selected,
    "matmul": _other_factor,
    "linear": _other_factor,
    "dot": _other_factor,
    "outer": _other_factor,
    "softmax": _softmax,
    "log_softmax": _softmax,
    "logsumexp": _unnamed,
    "cross_entropy": _cross_entropy,
    "attention": _attention,
    "attention_weights": _attention,
    "layer_norm": _normed,
    "rms_norm": _normed,
}
