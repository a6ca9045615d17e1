"""Why gradients vanish in what weighs and norms: the softmax and its kin, attention, layer norm.

The functions are those of the table in `causes`.
"""

import math
from typing import Final

import numpy as np

from tinyattn.engine import unbroadcast
from tinyattn.explain.way import Edge, Vector
from tinyattn.explain.words import Cause, round_off, some
from tinyattn.rules.allowed import heads_that_share
from tinyattn.rules.attention import attention_weights
from tinyattn.rules.dropout import kept

CONSTANT: Final = "constant direction"
SATURATED: Final = "saturated softmax"
ALMOST_ALL: Final = 1e-3  # what a weight leaves to the others that takes almost all


def _is_constant(d: Vector, counts: "Vector | bool" = True) -> bool:
    """Whether in each row a gradient is the same for all that count, up to round-off."""
    high = np.where(counts, d, -np.inf).max(axis=-1, initial=-np.inf)
    low = np.where(counts, d, np.inf).min(axis=-1, initial=np.inf)
    return bool((high - low <= round_off(d) * np.maximum(np.abs(high), np.abs(low))).all())


def _rows(x: Vector, axis: int | tuple[int, ...] | None, chosen: Vector) -> Vector:
    """Those lines of x along an axis, as rows, in which something is chosen."""
    axes = range(x.ndim) if axis is None else [axis] if isinstance(axis, int) else list(axis)
    n = math.prod(x.shape[axis] for axis in axes)
    last = range(-len(axes), 0)
    rows, chosen = (np.moveaxis(y, list(axes), last).reshape(-1, n) for y in (x, chosen))
    return np.asarray(rows[chosen.any(axis=-1)])


def _saturation(weights: Vector) -> Cause | None:
    """How much the largest weight in each row leaves to the others; failing that, how many are left with nothing."""
    others = weights.copy()
    np.put_along_axis(others, np.argmax(weights, axis=-1)[:, None], 0.0, axis=-1)
    left = others.sum(axis=-1)  # 1 − max p, without the cancellation
    if left.size and left.min() < ALMOST_ALL:
        told = f"{left.max():.3g}" if left.max() == left.min() else f"{left.min():.3g} … {left.max():.3g}"
        return SATURATED, f"one weight takes all: 1 − max p = {told}"
    nothing = weights < ALMOST_ALL * weights.max(axis=-1, initial=0.0, keepdims=True)
    return (SATURATED, f"{some(nothing, 'weights')} are next to nothing") if nothing.any() else None


def _shares(scores: Vector) -> Vector:
    exp: Vector = np.exp(scores - np.max(scores, axis=-1, keepdims=True))
    return np.asarray(exp / exp.sum(axis=-1, keepdims=True))


# ------------------------------------------------------------------------------------------------ softmax and its kin


def softmax_cause(edge: Edge) -> Cause | None:
    """Why scores don't matter, to a softmax, its logarithm or its normalizer."""
    axis = edge.option("axis", None if edge.rule == "logsumexp" else -1)
    scores = _rows(edge.given(0), axis, edge.lost)
    if edge.rule == "softmax" and _is_constant(_rows(edge.d_output, axis, edge.lost)):
        return CONSTANT, (
            "the gradient is the same for all weights of a row, which always sum to 1: together they can't change"
        )
    if scores.shape[-1] == 1 and edge.rule != "logsumexp":
        return CONSTANT, "there is one score in each row, whose weight is always 1"
    hidden = edge.given(0) == -np.inf
    if hidden[edge.lost].all():
        return "masked", f"{some(hidden, 'scores')} are −∞, and have no weight"
    return _saturation(_shares(scores))


def cross_entropy_cause(edge: Edge) -> Cause | None:
    """Why scores don't matter to a cross-entropy."""
    if edge.place != 0:
        return None
    ignored = edge.given(1) == edge.option("ignore_index", None)
    if ignored.any() and ignored.shape == edge.lost.shape[:-1] and not edge.lost[~ignored].any():
        return "masked", f"{some(ignored, 'rows')} are of the class that is ignored"
    saturated = _saturation(_shares(_rows(edge.given(0), -1, edge.lost)))
    return saturated or ("flat", "the weights are what the targets ask for: the bottom of the loss")


# ------------------------------------------------------------------------------------------------ attention


def attention_cause(edge: Edge) -> Cause | None:
    """Why a query, a key, a value, a bias or a sink gets nothing. Pairs (..., n_queries, n_keys) say who sees whom."""
    visible, weights = _pairs(edge)
    has_sinks = _argument(edge, "sinks") is not None
    # A query that sees one key alone has no choice, unless there is a sink.
    chooses = visible & (visible.sum(axis=-1, keepdims=True) + has_sinks > 1)
    if edge.argument == "sinks":
        return SATURATED, f"the sinks take {1 - weights.sum(axis=-1).min():.3g} of a query's weights at most"
    lost = edge.lost if edge.argument == "bias" else edge.lost.any(axis=-1)
    unseen = ~_in_pairs(visible, edge, lost.shape)
    if not (lost & ~unseen).any():
        return "masked", _told_unseen(edge, unseen)
    if edge.argument != "value":
        if not (lost & _in_pairs(chooses, edge, lost.shape)).any():
            return CONSTANT, _told_alone(visible)
        if edge.argument != "bias" and not _meets(chooses, edge)[edge.lost].any():
            return "times zero", f"it meets only zeros of {_other(edge)}"
        if edge.argument == "query" and not has_sinks and _is_constant(edge.given(1).swapaxes(-1, -2)):
            return CONSTANT, "all keys are the same: a query that moves changes all its scores alike"
        if not has_sinks and _is_constant(_d_weights(edge), visible):
            return CONSTANT, "all values are the same in the direction of the gradient: who looks where doesn't matter"
    return _saturation(_rows(weights, -1, chooses))


def _argument(edge: Edge, name: str) -> "Vector | None":
    """What the rule was given under that name."""
    names = (
        ("query", "key", "value", "bias", "sinks") if edge.rule == "attention" else ("query", "key", "bias", "sinks")
    )
    given: Vector | None = edge.given(names.index(name))
    return given


def _pairs(edge: Edge) -> tuple[Vector, Vector]:
    """Which query may see which key, and the weights."""
    query, key, bias = edge.given(0), edge.given(1), _argument(edge, "bias")
    options = {name: value for name, value in edge.node._options.items() if name != "dropped"}
    hidden = None if bias is None else np.where(bias == -np.inf, -np.inf, 0.0)
    visible, _ = attention_weights(np.zeros_like(query), np.zeros_like(key), hidden, **options)
    weights, _ = attention_weights(query, key, bias, _argument(edge, "sinks"), **options)
    return np.asarray(visible > 0), np.asarray(weights)


def _in_pairs(pairs: Vector, edge: Edge, shape: tuple[int, ...]) -> Vector:
    """Which queries have such a pair, or keys, or which numbers of a bias; whichever the edge leads to."""
    if edge.argument != "bias":
        pairs = np.asarray(pairs.any(axis=-1 if edge.argument == "query" else -2))[..., None]
        return _back(pairs.astype(float), edge, (*shape, 1))[..., 0] > 0
    return np.asarray(unbroadcast(pairs.astype(float), shape) > 0)


def _meets(pairs: Vector, edge: Edge) -> Vector:
    """How much each number of a query meets in the keys that it chooses from; of a key, in the queries."""
    of_query = edge.argument == "query"
    others = _for_each_head(edge, 1) if of_query else edge.given(0)
    pairs = pairs if of_query else pairs.swapaxes(-1, -2)
    return _back(pairs.astype(float) @ np.abs(others), edge, edge.lost.shape)


def _for_each_head(edge: Edge, place: int) -> Vector:
    """The keys or values, once for each query head that shares them."""
    x = edge.given(place)
    share = heads_that_share(edge.given(0), x)
    return x if share == 1 else np.repeat(x, share, axis=-3)


def _back(x: Vector, edge: Edge, shape: tuple[int, ...]) -> Vector:
    """What belongs to heads of queries, summed up for what they share."""
    share = 1 if edge.argument == "query" else heads_that_share(edge.given(0), edge.given(edge.place))
    if share > 1:
        *outer, n_heads, n, d = x.shape
        x = x.reshape(*outer, n_heads // share, share, n, d).sum(axis=-3)
    return np.asarray(unbroadcast(x, shape))


def _other(edge: Edge) -> str:
    return "key" if edge.argument == "query" else "query"


def _d_weights(edge: Edge) -> Vector:
    """The gradient of the weights."""
    if edge.rule != "attention":
        return edge.d_output
    d_weights = edge.d_output @ _for_each_head(edge, 2).swapaxes(-1, -2)
    dropped = edge.node._options.get("dropped")
    return np.asarray(d_weights if dropped is None else d_weights * kept(dropped))


def _told_alone(visible: Vector) -> str:
    if visible.shape[-1] == 1:
        return "there is one key, whose weight is always 1"
    return f"{some(visible.sum(axis=-1) == 1, 'queries')} may attend to one key only, whose weight is always 1"


def _told_unseen(edge: Edge, unseen: Vector) -> str:
    if edge.argument == "query":
        return f"{some(unseen, 'queries')} may attend to nothing"
    if edge.argument == "bias":
        return f"{some(unseen, 'pairs')} of query and key are masked"
    everywhere = unseen.reshape(-1, unseen.shape[-1])
    if (everywhere == everywhere[:1]).all():
        places = np.flatnonzero(everywhere[0]).tolist()
        more = f" and {len(places) - 8} more" if len(places) > 8 else ""
        return f"no query attends to key {', '.join(map(str, places[:8]))}{more}"
    return f"no query attends to {some(unseen, 'keys')}"


# ------------------------------------------------------------------------------------------------ norms


def norm_cause(edge: Edge) -> Cause | None:
    """Why a row doesn't matter once normed.

    It keeps its mean and its length: pushing all of it alike, or along itself, changes nothing.
    """
    if edge.argument == "bias":
        return None
    if edge.argument == "weight":
        zero = not edge.node._backward(np.ones_like(edge.d_output))[1][..., edge.lost].any()
        return ("times zero", f"{some(edge.lost, 'numbers of weight')} scale zeros only") if zero else None
    weight = edge.given(1)
    d_normed = _rows(edge.d_output if weight is None else edge.d_output * weight, -1, edge.lost)
    x = _rows(edge.given(0), -1, edge.lost)
    if edge.rule == "layer_norm" and _is_constant(d_normed):
        return CONSTANT, "the gradient is the same along the row, whose mean is always 0"
    normed = x - x.mean(axis=-1, keepdims=True) if edge.rule == "layer_norm" else x
    along = (d_normed * normed).sum(axis=-1) ** 2
    full = (d_normed**2).sum(axis=-1) * (normed**2).sum(axis=-1)  # ≥ along; equal for parallel rows (Cauchy, Schwarz)
    if ((full > 0) & (full - along <= 1e-5 * full)).all():
        return CONSTANT, "the gradient points along the normed row itself, whose length is always the same"
    return None
