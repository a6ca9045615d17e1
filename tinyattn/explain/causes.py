"""What it was in a rule that made its gradient zero, or nearly so: a small function for each kind of rule.

Each looks at what one node was given and gave, at the numbers that are asked about (`edge.lost`), and says what kind of
cause it is, in words; None where its cause isn't there. What no function explains, as in rules without one, is told by
the rule's name and the size of its numbers.
"""

from collections.abc import Callable
from typing import Final, TypeAlias

import numpy as np

from tinyattn.explain.way import Edge, Vector, plain
from tinyattn.explain.weights import attention_cause, cross_entropy_cause, norm_cause, softmax_cause
from tinyattn.explain.words import Cause, round_off, some
from tinyattn.rules.registry import argument

Find: TypeAlias = Callable[[Edge], Cause | None]


def cause(edge: Edge) -> Cause:
    """Why the gradient is lost on this edge."""
    find = CAUSES.get(edge.rule)
    with np.errstate(all="ignore"):
        return (find and find(edge)) or _unnamed(edge)


def _unnamed(edge: Edge) -> Cause:
    came, went = (f"{np.abs(g).max():.3g}" if g.size else "nothing" for g in (edge.d_output, edge.d_input))
    x = edge.given(edge.place)
    numbers = f", which lies in {x.min():.3g} … {x.max():.3g}" if x.size else ""
    return "small slope", f"of a gradient up to {came} it passes on up to {went} to {edge.argument}{numbers}"


# ------------------------------------------------------------------------------------------------ one number at a time


def _dead_relu(edge: Edge) -> Cause | None:
    off = edge.given(0) <= 0
    if not off[edge.lost].any() or edge.option("negative_slope", 0.0):
        return None
    return "dead relu", f"{some(off, 'inputs')} are 0 or below, where a relu is flat"


def _saturated_curve(edge: Edge) -> Cause | None:
    if edge.place != 0:
        return None
    x = edge.given(0)[edge.lost]
    return "saturated", f"its inputs lie in {x.min():.3g} … {x.max():.3g}, where {edge.rule} is flat or nearly so"


def _flat(edge: Edge) -> Cause:
    return "flat", f"{edge.rule} has slope 0 wherever it has one"


def _flat_at(special: Callable[[Edge], Vector], told: str) -> Find:
    """For a rule that has slope 0 at special numbers."""

    def find(edge: Edge) -> Cause | None:
        there = np.broadcast_to(special(edge), edge.lost.shape)
        return ("flat", f"{some(there, 'numbers')} of {edge.argument} {told}") if there[edge.lost].all() else None

    return find


def _at_zero(edge: Edge) -> Vector:
    return np.asarray(edge.given(0) == 0)


def _at_the_mean(edge: Edge) -> Vector:
    x, axis = edge.given(0), edge.option("axis", None)
    return np.asarray(np.abs(x - x.mean(axis=axis, keepdims=True)) <= round_off(x) * np.abs(x).max())


def _at_the_target(edge: Edge) -> Vector:
    return np.asarray(edge.given(0) == edge.given(1))


def _norm(edge: Edge) -> Cause | None:
    ord = edge.option("ord", None)
    if ord in (None, "fro", 2) or not edge.given(0)[edge.lost].any():
        return _flat_at(_at_zero, "are 0, where a norm has no slope; it is taken as 0 there")(edge)
    return "not the winner", f"{some(edge.lost, 'numbers of x')} don't count in a norm of ord {ord}"


def _other_side(edge: Edge) -> Cause | None:
    return ("masked", f"the condition takes the other side for {some(edge.lost, 'places')}") if edge.place else None


def _clipped(edge: Edge) -> Cause:
    if edge.place == 0:
        return "clipped", f"{some(edge.lost, 'inputs')} lie beyond a bound, where clip is flat"
    return "clipped", f"nothing lies beyond {some(edge.lost, f'numbers of {edge.argument}')}"


def _not_the_winner(edge: Edge) -> Cause:
    extreme = "largest" if edge.rule.startswith("max") else "smallest"
    return "not the winner", f"{some(edge.lost, f'numbers of {edge.argument}')} are never the {extreme}"


def _dropped(edge: Edge) -> Cause:
    return "dropped", f"dropout put 0 in place of {some(edge.lost, 'numbers')}"


def _power(edge: Edge) -> Cause | None:
    base, exponent = np.broadcast_arrays(edge.given(0), edge.given(1))
    if edge.place == 0 and (exponent == 0).any():
        return "flat", f"{some(edge.given(1) == 0, 'exponents')} are 0, and b⁰ is 1 whatever b is"
    if edge.place == 0 and (base == 0).any():
        return "flat", f"{some(edge.given(0) == 0, 'bases')} are 0, where a power above 1 has slope 0"
    if edge.place == 1 and ((base == 1) | (base <= 0)).any():
        return "flat", f"{some((base == 1) | (base <= 0), 'bases')} are 1, 0 or below, where log b is 0 or taken as 0"
    return None


def _prod(edge: Edge) -> Cause | None:
    zeros = np.count_nonzero(edge.given(0) == 0)
    return ("times zero", f"{zeros} of the numbers that are multiplied are 0") if zeros else None


# ------------------------------------------------------------------------------------------- sums of products, of some


def _could_be(edge: Edge, of_sizes: bool) -> Vector:
    """What would come back if nothing could cancel: made of the sizes of all numbers."""
    inputs = [plain(x) for x in edge.node._inputs or ()]
    if of_sizes:
        inputs = [x if x is None else abs(x) for x in inputs]
    _, backward = edge.function(*inputs, **edge.node._options)
    return np.abs(edge.sent(backward(np.abs(edge.d_output))))[edge.lost]


def _cancels(edge: Edge, could_be: Vector) -> Cause | None:
    came_back = np.abs(edge.d_input[edge.lost]).max(initial=0.0)
    if came_back > could_be.max(initial=0.0) * round_off(edge.d_input):
        return None
    return "cancels", f"what comes back to {edge.argument} from several places sums to 0"


def _summed(edge: Edge) -> Cause | None:
    return _cancels(edge, _could_be(edge, of_sizes=False))


def _chosen(find: Find) -> Find:
    """For a rule that passes on what it chose: the rest got nothing, or what came back to it cancels."""

    def either(edge: Edge) -> Cause | None:
        could_be = _could_be(edge, of_sizes=False)
        return _cancels(edge, could_be) if could_be.any() else find(edge)

    return either


def _not_read(edge: Edge) -> Cause:
    return "not selected", f"{some(edge.lost, f'numbers of {edge.argument}')} were not read"


def _product(edge: Edge) -> Cause | None:
    could_be = _could_be(edge, of_sizes=True)
    if could_be.any():
        return _cancels(edge, could_be)
    others = [i for i in range(len(edge.node._inputs or ())) if i != edge.place and edge.given(i) is not None]
    zeros = [i for i in others if not edge.given(i).any()]
    if edge.rule in ("multiply", "divide"):
        other = edge.given(1 - edge.place)
        what = "divisor" if (edge.rule, edge.place) == ("divide", 0) else "other factor"
        none = other == 0 if what == "other factor" else np.isinf(other)
        return "times zero", f"the {what} is {'0' if what == 'other factor' else 'infinite'} at {some(none, 'places')}"
    if zeros:
        return "times zero", f"all of {argument(edge.function, zeros[0])} is 0"
    return "times zero", f"{some(edge.lost, f'numbers of {edge.argument}')} meet only zeros"


FAMILIES: Final[dict[str, Find]] = {
    "relu leaky_relu": _dead_relu,
    "sigmoid tanh erf exp exp2 expm1 silu gelu softplus binary_cross_entropy_with_logits": _saturated_curve,
    "sign": _flat,
    "absolute": _flat_at(_at_zero, "are 0, where |x| has a corner; its slope is taken as 0 there"),
    "square": _flat_at(_at_zero, "are 0, the bottom of x²"),
    "cos": _flat_at(_at_zero, "are 0, the top of a cosine"),
    "norm": _norm,
    "var std": _flat_at(_at_the_mean, "are the mean, where the spread is at its smallest"),
    "mse_loss": _flat_at(_at_the_target, "are on the other's mark: the bottom of the loss"),
    "where": _chosen(_other_side),
    "clip": _chosen(_clipped),
    "max maximum min minimum": _chosen(_not_the_winner),
    "power": _power,
    "prod": _prod,
    "dropout": _chosen(_dropped),
    "index take take_along_axis embedding diagonal tril triu scatter": _chosen(_not_read),
    "multiply divide matmul linear dot outer tensordot einsum": _product,
    "add subtract broadcast_to repeat tile pad cumsum concatenate stack sum mean": _summed,
    "softmax log_softmax logsumexp": softmax_cause,
    "cross_entropy": cross_entropy_cause,
    "attention attention_weights": attention_cause,
    "layer_norm rms_norm": norm_cause,
}
CAUSES: Final[dict[str, Find]] = {rule: find for rules, find in FAMILIES.items() for rule in rules.split()}
