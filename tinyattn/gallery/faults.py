"""Planted faults: rules whose forward is right and whose backward is wrong, as people really write them.

Every one must be caught by the checker. Each docstring tells the mistake.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tinyattn.rules import attention as attention_rules
from tinyattn.rules import elementwise, losses, normalization, products, reductions, selection
from tinyattn.rules import softmax as softmax_rules
from tinyattn.rules.registry import Array, Gradients, Result


class Fault(NamedTuple):
    """A rule with a mistake in its backward."""

    rule: str  # the name of the one that it should be
    mistake: str
    function: Callable[..., Result]


FAULTS: dict[str, Fault] = {}


def fault(rule: str) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
    """Put a rule on show whose forward is right, and whose backward isn't. Its docstring tells the mistake."""

    def register(function: Callable[..., Result]) -> Callable[..., Result]:
        FAULTS[function.__name__] = Fault(rule, inspect.getdoc(function) or "", function)
        return function

    return register


@fault("softmax")
def softmax_without_row_sum(scores: Array, *, axis: int = -1) -> Result:
    """The row sum of (softmax.3) is dropped."""
    weights, _ = softmax_rules.softmax(scores, axis=axis)
    return weights, lambda d_weights: (weights * d_weights,)


@fault("softmax")
def softmax_diagonal_only(scores: Array, *, axis: int = -1) -> Result:
    """Only the diagonal of the Jacobian is used, w (1 − w)."""
    weights, _ = softmax_rules.softmax(scores, axis=axis)
    return weights, lambda d_weights: (weights * (1 - weights) * d_weights,)


@fault("softmax")
def softmax_wrong_axis(scores: Array, *, axis: int = -1) -> Result:
    """The sum runs over another axis than the softmax."""
    weights, _ = softmax_rules.softmax(scores, axis=axis)
    return weights, lambda d: (weights * (d - (weights * d).sum(axis=axis - 1, keepdims=True)),)


@fault("softmax")
def softmax_mean_for_sum(scores: Array, *, axis: int = -1) -> Result:
    """A mean stands where the sum belongs."""
    weights, _ = softmax_rules.softmax(scores, axis=axis)
    return weights, lambda d: (weights * (d - (weights * d).mean(axis=axis, keepdims=True)),)


@fault("softmax")
def softmax_zero(scores: Array, *, axis: int = -1) -> Result:
    """It is zero, which a cotangent of ones takes for right."""
    weights, _ = softmax_rules.softmax(scores, axis=axis)
    return weights, lambda d_weights: (d_weights * 0.0,)


@fault("log_softmax")
def log_softmax_without_weights(scores: Array, *, axis: int = -1) -> Result:
    """The weights' part is dropped."""
    return softmax_rules.log_softmax(scores, axis=axis)[0], lambda d_output: (d_output,)


@fault("log_softmax")
def log_softmax_as_softmax(scores: Array, *, axis: int = -1) -> Result:
    """It is the gradient of softmax."""
    return softmax_rules.log_softmax(scores, axis=axis)[0], softmax_rules.softmax(scores, axis=axis)[1]


@fault("logsumexp")
def logsumexp_not_divided(x: Array, axis: Any = None, *, keepdims: bool = False) -> Result:
    """The exponentials aren't divided by their sum."""
    output, _ = reductions.logsumexp(x, axis, keepdims=keepdims)
    return output, lambda d_output: (reductions.restore(d_output, x.shape, axis) * np.exp(x),)


@fault("layer_norm")
def layer_norm_constant_mean(x: Array, weight: Array = None, bias: Array = None, *, eps: float = 1e-5) -> Result:
    """The mean is taken for a constant."""
    output, right = normalization.layer_norm(x, weight, bias, eps=eps)
    scale = 1 / np.sqrt(x.var(axis=-1, keepdims=True) + eps)
    normed = (x - x.mean(axis=-1, keepdims=True)) * scale

    def backward(d_output: Array) -> Gradients:
        d_normed = d_output if weight is None else d_output * weight
        return scale * (d_normed - normed * (d_normed * normed).mean(axis=-1, keepdims=True)), *right(d_output)[1:]

    return output, backward


@fault("layer_norm")
def layer_norm_constant_variance(x: Array, weight: Array = None, bias: Array = None, *, eps: float = 1e-5) -> Result:
    """The variance is taken for a constant."""
    output, right = normalization.layer_norm(x, weight, bias, eps=eps)
    scale = 1 / np.sqrt(x.var(axis=-1, keepdims=True) + eps)

    def backward(d_output: Array) -> Gradients:
        d_normed = d_output if weight is None else d_output * weight
        return scale * (d_normed - d_normed.mean(axis=-1, keepdims=True)), *right(d_output)[1:]

    return output, backward


@fault("layer_norm")
def layer_norm_weight_without_input(x: Array, weight: Array = None, bias: Array = None, *, eps: float = 1e-5) -> Result:
    """The weight's gradient forgets the normed input."""
    output, right = normalization.layer_norm(x, weight, bias, eps=eps)

    def backward(d_output: Array) -> Gradients:
        d_x, d_weight, d_bias = right(d_output)
        return d_x, None if d_weight is None else d_output, d_bias

    return output, backward


@fault("rms_norm")
def rms_norm_constant_scale(x: Array, weight: Array = None, *, eps: float = 1e-5) -> Result:
    """The scale is taken for a constant."""
    output, right = normalization.rms_norm(x, weight, eps=eps)
    scale = 1 / np.sqrt((x * x).mean(axis=-1, keepdims=True) + eps)
    return output, lambda d: (d * scale * (1.0 if weight is None else weight), *right(d)[1:])


@fault("cross_entropy")
def cross_entropy_not_divided(scores: Array, targets: Array, *, reduction: str = "mean", **options: Any) -> Result:
    """The mean isn't divided by n."""
    output, _ = losses.cross_entropy(scores, targets, reduction=reduction, **options)
    as_sum = "sum" if reduction == "mean" else reduction
    return output, losses.cross_entropy(scores, targets, reduction=as_sum, **options)[1]


@fault("cross_entropy")
def cross_entropy_without_targets(scores: Array, targets: Array, *, reduction: str = "mean", **options: Any) -> Result:
    """The targets aren't taken off the weights."""
    output, right = losses.cross_entropy(scores, targets, reduction=reduction, **options)
    n = scores[..., 0].size if reduction == "mean" else 1
    return output, lambda d: (softmax_rules.softmax(scores)[0] * d[..., None] / n, right(d)[1])


@fault("cross_entropy")
def cross_entropy_wrong_sign(scores: Array, targets: Array, **options: Any) -> Result:
    """The sign is wrong."""
    output, right = losses.cross_entropy(scores, targets, **options)
    return output, lambda d_output: (-right(d_output)[0], right(d_output)[1])


@fault("attention")
def attention_query_unscaled(query: Array, key: Array, value: Array, bias: Array = None, **options: Any) -> Result:
    """1/√d_k is missing in the query's gradient."""
    output, right = attention_rules.attention(query, key, value, bias, **options)
    scale = options.get("scale") or query.shape[-1] ** -0.5

    def backward(d_output: Array) -> Gradients:
        d_query, *others = right(d_output)
        return d_query / scale, *others

    return output, backward


@fault("attention")
def attention_value_severed(query: Array, key: Array, value: Array, bias: Array = None, **options: Any) -> Result:
    """The value's branch is severed."""
    output, right = attention_rules.attention(query, key, value, bias, **options)

    def backward(d_output: Array) -> Gradients:
        d_query, d_key, _, d_bias = right(d_output)
        return d_query, d_key, None, d_bias

    return output, backward


@fault("attention")
def attention_heads_swapped(query: Array, key: Array, value: Array, bias: Array = None, **options: Any) -> Result:
    """The heads are swapped in the key's gradient."""
    output, right = attention_rules.attention(query, key, value, bias, **options)

    def backward(d_output: Array) -> Gradients:
        d_query, d_key, d_value, d_bias = right(d_output)
        return d_query, d_key[::-1], d_value, d_bias

    return output, backward


@fault("attention")
def attention_mask_forgotten(query: Array, key: Array, value: Array, bias: Array = None, **options: Any) -> Result:
    """The mask is forgotten on the way back."""
    output, _ = attention_rules.attention(query, key, value, bias, **options)
    return output, attention_rules.attention(query, key, value, bias, scale=options.get("scale"))[1]


@fault("attention")
def attention_without_row_sum(query: Array, key: Array, value: Array, bias: Array = None, **options: Any) -> Result:
    """The softmax's row sum is dropped."""
    output, right = attention_rules.attention(query, key, value, bias, **options)
    weights, _ = attention_rules.attention_weights(query, key, bias, **options)
    scale = options.get("scale") or query.shape[-1] ** -0.5

    def backward(d_output: Array) -> Gradients:
        d_scores = weights * (d_output @ value.swapaxes(-1, -2))
        d_query, d_key = d_scores @ key * scale, d_scores.swapaxes(-1, -2) @ query * scale
        return d_query, d_key, right(d_output)[2], None if bias is None else d_scores

    return output, backward


@fault("attention_weights")
def attention_weights_key_transposed(query: Array, key: Array, bias: Array = None, **options: Any) -> Result:
    """The key's gradient is filled in transposed."""
    weights, right = attention_rules.attention_weights(query, key, bias, **options)

    def backward(d_weights: Array) -> Gradients:
        d_query, d_key, d_bias = right(d_weights)
        return d_query, d_key.swapaxes(-1, -2).reshape(d_key.shape), d_bias

    return weights, backward


@fault("matmul")
def matmul_factors_swapped(x: Array, y: Array) -> Result:
    """The two gradients have changed places."""
    output, right = products.matmul(x, y)
    return output, lambda d_output: right(d_output)[::-1]


@fault("linear")
def linear_bias_mean(x: Array, weight: Array, bias: Array = None) -> Result:
    """The bias gets the mean over the rows, not the sum."""
    output, right = products.linear(x, weight, bias)

    def backward(d_output: Array) -> Gradients:
        d_x, d_weight, d_bias = right(d_output)
        return d_x, d_weight, None if d_bias is None else d_bias / (x.size // x.shape[-1])

    return output, backward


@fault("embedding")
def embedding_last_wins(weight: Array, ids: Array) -> Result:
    """A repeated id keeps its last gradient only."""
    def backward(d_output: Array) -> Gradients:
        d_weight = np.zeros_like(weight)
        d_weight[ids] = d_output
        return d_weight, None

    return selection.embedding(weight, ids)[0], backward


@fault("mean")
def mean_as_sum(x: Array, axis: Any = None, *, keepdims: bool = False) -> Result:
    """It is the gradient of the sum."""
    return reductions.mean(x, axis, keepdims=keepdims)[0], reductions.sum(x, axis, keepdims=keepdims)[1]


@fault("max")
def max_everybody_wins(x: Array, axis: Any = None, *, keepdims: bool = False) -> Result:
    """Everybody wins."""
    return reductions.max(x, axis, keepdims=keepdims)[0], reductions.sum(x, axis, keepdims=keepdims)[1]


@fault("divide")
def divide_wrong_sign(x: Array, y: Array) -> Result:
    """The denominator's gradient has the wrong sign."""
    return x / y, lambda d_output: (d_output / y, d_output * x / (y * y))


@fault("where")
def where_both_sides(condition: Array, x: Array, y: Array) -> Result:
    """Both sides get everything."""
    return elementwise.where(condition, x, y)[0], lambda d_output: (None, d_output, d_output)


@fault("tanh")
def tanh_not_squared(x: Array) -> Result:
    """1 − y stands where 1 − y² belongs."""
    output = np.tanh(x)
    return output, lambda d_output: (d_output * (1 - output),)


@fault("exp")
def exp_nan(x: Array) -> Result:
    """It is NaN."""
    return np.exp(x), lambda d_output: (d_output * np.nan,)
