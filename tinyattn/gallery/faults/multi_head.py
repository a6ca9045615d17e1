"""Wrong backwards of multi-head attention: everything of attention's, and what heads and four weights add to it."""

from __future__ import annotations  # numpy.random, which they name, is loaded where it's used

from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np

from tinyattn.gallery.faults.exhibit import fault
from tinyattn.gallery.multi_head import join, multi_head_attention, multi_head_forward, rows, split
from tinyattn.gallery.samples import Rng, Sample
from tinyattn.rules.registry import Array, Gradients


def _streams(rng: Rng) -> Iterable[Sample]:
    d_model, n_heads = 6, 2
    weights = [0.5 * rng.normal(size=(d_model, d_model)) for _ in range(4)]
    parameters = [*weights, *(rng.normal(size=d_model) for _ in range(3))]
    yield Sample("a stack", (rng.normal(size=(3, 5, d_model)), *parameters), {"n_heads": n_heads})
    further = {"n_heads": n_heads, "causal": True, "residual": True}
    yield Sample("causal, with a residual", (rng.normal(size=(5, d_model)), *parameters), further)


of_multi_head = partial(
    fault, "multi_head_attention", multi_head_forward, _streams, right=multi_head_attention, helpers=(split, join, rows)
)


@of_multi_head()
def multi_head_query_path_forgotten(
    d_output: Array, x: Array, w: Any, heads: Any, weights: Array, joined: Array, scale: float, residual: bool
) -> Gradients:
    """x goes into the query, the key and the value; the query's share of its gradient is forgotten."""
    _, w_key, w_value, w_output = w
    query, key, value = heads
    d_heads = split(d_output @ w_output.T, query.shape[-3])
    d_weights = d_heads @ value.swapaxes(-1, -2)
    d_scores = weights * (d_weights - (weights * d_weights).sum(axis=-1, keepdims=True))
    d_query = join(d_scores @ key * scale)
    d_key = join(d_scores.swapaxes(-1, -2) @ query * scale)
    d_value = join(weights.swapaxes(-1, -2) @ d_heads)
    d_x = d_key @ w_key.T + d_value @ w_value.T + (d_output if residual else 0.0)
    d_w = (rows(x).T @ rows(d) for d in (d_query, d_key, d_value))
    return d_x, *d_w, rows(joined).T @ rows(d_output), d_query, d_value, d_output


@of_multi_head()
def multi_head_last_path_wins(
    d_output: Array, x: Array, w: Any, heads: Any, weights: Array, joined: Array, scale: float, residual: bool
) -> Gradients:
    """x goes into the query, the key and the value; each gradient overwrites the one before it."""
    w_query, w_key, w_value, w_output = w
    query, key, value = heads
    d_heads = split(d_output @ w_output.T, query.shape[-3])
    d_weights = d_heads @ value.swapaxes(-1, -2)
    d_scores = weights * (d_weights - (weights * d_weights).sum(axis=-1, keepdims=True))
    d_query = join(d_scores @ key * scale)
    d_key = join(d_scores.swapaxes(-1, -2) @ query * scale)
    d_value = join(weights.swapaxes(-1, -2) @ d_heads)
    d_x = d_query @ w_query.T
    d_x = d_key @ w_key.T
    d_x = d_value @ w_value.T + (d_output if residual else 0.0)
    d_w = (rows(x).T @ rows(d) for d in (d_query, d_key, d_value))
    return d_x, *d_w, rows(joined).T @ rows(d_output), d_query, d_value, d_output


@of_multi_head()
def multi_head_weights_untransposed_to_x(
    d_output: Array, x: Array, w: Any, heads: Any, weights: Array, joined: Array, scale: float, residual: bool
) -> Gradients:
    """The weights aren't transposed on the way back to x."""
    w_query, w_key, w_value, w_output = w
    query, key, value = heads
    d_heads = split(d_output @ w_output.T, query.shape[-3])
    d_weights = d_heads @ value.swapaxes(-1, -2)
    d_scores = weights * (d_weights - (weights * d_weights).sum(axis=-1, keepdims=True))
    d_query = join(d_scores @ key * scale)
    d_key = join(d_scores.swapaxes(-1, -2) @ query * scale)
    d_value = join(weights.swapaxes(-1, -2) @ d_heads)
    d_x = d_query @ w_query + d_key @ w_key + d_value @ w_value + (d_output if residual else 0.0)
    d_w = (rows(x).T @ rows(d) for d in (d_query, d_key, d_value))
    return d_x, *d_w, rows(joined).T @ rows(d_output), d_query, d_value, d_output


@of_multi_head()
def multi_head_output_untransposed(
    d_output: Array, x: Array, w: Any, heads: Any, weights: Array, joined: Array, scale: float, residual: bool
) -> Gradients:
    """w_output isn't transposed on the way back to the heads."""
    w_query, w_key, w_value, w_output = w
    query, key, value = heads
    d_heads = split(d_output @ w_output, query.shape[-3])
    d_weights = d_heads @ value.swapaxes(-1, -2)
    d_scores = weights * (d_weights - (weights * d_weights).sum(axis=-1, keepdims=True))
    d_query = join(d_scores @ key * scale)
    d_key = join(d_scores.swapaxes(-1, -2) @ query * scale)
    d_value = join(weights.swapaxes(-1, -2) @ d_heads)
    d_x = d_query @ w_query.T + d_key @ w_key.T + d_value @ w_value.T + (d_output if residual else 0.0)
    d_w = (rows(x).T @ rows(d) for d in (d_query, d_key, d_value))
    return d_x, *d_w, rows(joined).T @ rows(d_output), d_query, d_value, d_output


@of_multi_head()
def multi_head_w_output_transposed(
    d_output: Array, x: Array, w: Any, heads: Any, weights: Array, joined: Array, scale: float, residual: bool
) -> Gradients:
    """The gradient of w_output is transposed."""
    w_query, w_key, w_value, w_output = w
    query, key, value = heads
    d_heads = split(d_output @ w_output.T, query.shape[-3])
    d_weights = d_heads @ value.swapaxes(-1, -2)
    d_scores = weights * (d_weights - (weights * d_weights).sum(axis=-1, keepdims=True))
    d_query = join(d_scores @ key * scale)
    d_key = join(d_scores.swapaxes(-1, -2) @ query * scale)
    d_value = join(weights.swapaxes(-1, -2) @ d_heads)
    d_x = d_query @ w_query.T + d_key @ w_key.T + d_value @ w_value.T + (d_output if residual else 0.0)
    d_w = (rows(x).T @ rows(d) for d in (d_query, d_key, d_value))
    return d_x, *d_w, rows(d_output).T @ rows(joined), d_query, d_value, d_output


@of_multi_head()
def multi_head_w_key_transposed(
    d_output: Array, x: Array, w: Any, heads: Any, weights: Array, joined: Array, scale: float, residual: bool
) -> Gradients:
    """The gradient of w_key is transposed."""
    w_query, w_key, w_value, w_output = w
    query, key, value = heads
    d_heads = split(d_output @ w_output.T, query.shape[-3])
    d_weights = d_heads @ value.swapaxes(-1, -2)
    d_scores = weights * (d_weights - (weights * d_weights).sum(axis=-1, keepdims=True))
    d_query = join(d_scores @ key * scale)
    d_key = join(d_scores.swapaxes(-1, -2) @ query * scale)
    d_value = join(weights.swapaxes(-1, -2) @ d_heads)
    d_x = d_query @ w_query.T + d_key @ w_key.T + d_value @ w_value.T + (d_output if residual else 0.0)
    d_w = rows(x).T @ rows(d_query), rows(d_key).T @ rows(x), rows(x).T @ rows(d_value)
    return d_x, *d_w, rows(joined).T @ rows(d_output), d_query, d_value, d_output


@of_multi_head()
def multi_head_w_output_from_heads(
    d_output: Array, x: Array, w: Any, heads: Any, weights: Array, joined: Array, scale: float, residual: bool
) -> Gradients:
    """The gradient of w_output takes the heads joined without their axes exchanged."""
    w_query, w_key, w_value, w_output = w
    query, key, value = heads
    d_heads = split(d_output @ w_output.T, query.shape[-3])
    d_weights = d_heads @ value.swapaxes(-1, -2)
    d_scores = weights * (d_weights - (weights * d_weights).sum(axis=-1, keepdims=True))
    d_query = join(d_scores @ key * scale)
    d_key = join(d_scores.swapaxes(-1, -2) @ query * scale)
    d_value = join(weights.swapaxes(-1, -2) @ d_heads)
    d_x = d_query @ w_query.T + d_key @ w_key.T + d_value @ w_value.T + (d_output if residual else 0.0)
    d_w = (rows(x).T @ rows(d) for d in (d_query, d_key, d_value))
    return d_x, *d_w, rows((weights @ value).reshape(joined.shape)).T @ rows(d_output), d_query, d_value, d_output


@of_multi_head()
def multi_head_split_without_exchange(
    d_output: Array, x: Array, w: Any, heads: Any, weights: Array, joined: Array, scale: float, residual: bool
) -> Gradients:
    """On the way back the gradient is cut into heads by a reshape alone; the axes aren't exchanged."""
    w_query, w_key, w_value, w_output = w
    query, key, value = heads
    d_heads = (d_output @ w_output.T).reshape(query.shape)
    d_weights = d_heads @ value.swapaxes(-1, -2)
    d_scores = weights * (d_weights - (weights * d_weights).sum(axis=-1, keepdims=True))
    d_query = join(d_scores @ key * scale)
    d_key = join(d_scores.swapaxes(-1, -2) @ query * scale)
    d_value = join(weights.swapaxes(-1, -2) @ d_heads)
    d_x = d_query @ w_query.T + d_key @ w_key.T + d_value @ w_value.T + (d_output if residual else 0.0)
    d_w = (rows(x).T @ rows(d) for d in (d_query, d_key, d_value))
    return d_x, *d_w, rows(joined).T @ rows(d_output), d_query, d_value, d_output


@of_multi_head()
def multi_head_join_without_exchange(
    d_output: Array, x: Array, w: Any, heads: Any, weights: Array, joined: Array, scale: float, residual: bool
) -> Gradients:
    """The query's gradient is joined by a reshape alone; the axes aren't exchanged."""
    w_query, w_key, w_value, w_output = w
    query, key, value = heads
    d_heads = split(d_output @ w_output.T, query.shape[-3])
    d_weights = d_heads @ value.swapaxes(-1, -2)
    d_scores = weights * (d_weights - (weights * d_weights).sum(axis=-1, keepdims=True))
    d_query = (d_scores @ key * scale).reshape(x.shape)
    d_key = join(d_scores.swapaxes(-1, -2) @ query * scale)
    d_value = join(weights.swapaxes(-1, -2) @ d_heads)
    d_x = d_query @ w_query.T + d_key @ w_key.T + d_value @ w_value.T + (d_output if residual else 0.0)
    d_w = (rows(x).T @ rows(d) for d in (d_query, d_key, d_value))
    return d_x, *d_w, rows(joined).T @ rows(d_output), d_query, d_value, d_output


@of_multi_head()
def multi_head_heads_in_wrong_order(
    d_output: Array, x: Array, w: Any, heads: Any, weights: Array, joined: Array, scale: float, residual: bool
) -> Gradients:
    """The heads of the value's gradient are joined in the wrong order."""
    w_query, w_key, w_value, w_output = w
    query, key, value = heads
    d_heads = split(d_output @ w_output.T, query.shape[-3])
    d_weights = d_heads @ value.swapaxes(-1, -2)
    d_scores = weights * (d_weights - (weights * d_weights).sum(axis=-1, keepdims=True))
    d_query = join(d_scores @ key * scale)
    d_key = join(d_scores.swapaxes(-1, -2) @ query * scale)
    d_value = join((weights.swapaxes(-1, -2) @ d_heads)[..., ::-1, :, :])
    d_x = d_query @ w_query.T + d_key @ w_key.T + d_value @ w_value.T + (d_output if residual else 0.0)
    d_w = (rows(x).T @ rows(d) for d in (d_query, d_key, d_value))
    return d_x, *d_w, rows(joined).T @ rows(d_output), d_query, d_value, d_output


@of_multi_head()
def multi_head_heads_summed(
    d_output: Array, x: Array, w: Any, heads: Any, weights: Array, joined: Array, scale: float, residual: bool
) -> Gradients:
    """The heads of the value's gradient are summed, as if all had shared one value."""
    w_query, w_key, w_value, w_output = w
    query, key, value = heads
    d_heads = split(d_output @ w_output.T, query.shape[-3])
    d_weights = d_heads @ value.swapaxes(-1, -2)
    d_scores = weights * (d_weights - (weights * d_weights).sum(axis=-1, keepdims=True))
    d_query = join(d_scores @ key * scale)
    d_key = join(d_scores.swapaxes(-1, -2) @ query * scale)
    d_value = weights.swapaxes(-1, -2) @ d_heads
    d_value = join(0.0 * d_value + d_value.sum(axis=-3, keepdims=True))
    d_x = d_query @ w_query.T + d_key @ w_key.T + d_value @ w_value.T + (d_output if residual else 0.0)
    d_w = (rows(x).T @ rows(d) for d in (d_query, d_key, d_value))
    return d_x, *d_w, rows(joined).T @ rows(d_output), d_query, d_value, d_output


@of_multi_head()
def multi_head_scale_of_d_model(
    d_output: Array, x: Array, w: Any, heads: Any, weights: Array, joined: Array, scale: float, residual: bool
) -> Gradients:
    """The way back is scaled by 1/√d_model, not by 1/√d_k."""
    w_query, w_key, w_value, w_output = w
    query, key, value = heads
    d_heads = split(d_output @ w_output.T, query.shape[-3])
    d_weights = d_heads @ value.swapaxes(-1, -2)
    d_scores = weights * (d_weights - (weights * d_weights).sum(axis=-1, keepdims=True))
    scale = 1 / np.sqrt(x.shape[-1])
    d_query = join(d_scores @ key * scale)
    d_key = join(d_scores.swapaxes(-1, -2) @ query * scale)
    d_value = join(weights.swapaxes(-1, -2) @ d_heads)
    d_x = d_query @ w_query.T + d_key @ w_key.T + d_value @ w_value.T + (d_output if residual else 0.0)
    d_w = (rows(x).T @ rows(d) for d in (d_query, d_key, d_value))
    return d_x, *d_w, rows(joined).T @ rows(d_output), d_query, d_value, d_output


@of_multi_head()
def multi_head_scale_twice(
    d_output: Array, x: Array, w: Any, heads: Any, weights: Array, joined: Array, scale: float, residual: bool
) -> Gradients:
    """The scale is applied to the scores' gradient, and again to those of query and key."""
    w_query, w_key, w_value, w_output = w
    query, key, value = heads
    d_heads = split(d_output @ w_output.T, query.shape[-3])
    d_weights = d_heads @ value.swapaxes(-1, -2)
    d_scores = weights * (d_weights - (weights * d_weights).sum(axis=-1, keepdims=True)) * scale
    d_query = join(d_scores @ key * scale)
    d_key = join(d_scores.swapaxes(-1, -2) @ query * scale)
    d_value = join(weights.swapaxes(-1, -2) @ d_heads)
    d_x = d_query @ w_query.T + d_key @ w_key.T + d_value @ w_value.T + (d_output if residual else 0.0)
    d_w = (rows(x).T @ rows(d) for d in (d_query, d_key, d_value))
    return d_x, *d_w, rows(joined).T @ rows(d_output), d_query, d_value, d_output


@of_multi_head()
def multi_head_scale_forgotten(
    d_output: Array, x: Array, w: Any, heads: Any, weights: Array, joined: Array, scale: float, residual: bool
) -> Gradients:
    """The way back isn't scaled at all."""
    w_query, w_key, w_value, w_output = w
    query, key, value = heads
    d_heads = split(d_output @ w_output.T, query.shape[-3])
    d_weights = d_heads @ value.swapaxes(-1, -2)
    d_scores = weights * (d_weights - (weights * d_weights).sum(axis=-1, keepdims=True))
    d_query = join(d_scores @ key)
    d_key = join(d_scores.swapaxes(-1, -2) @ query)
    d_value = join(weights.swapaxes(-1, -2) @ d_heads)
    d_x = d_query @ w_query.T + d_key @ w_key.T + d_value @ w_value.T + (d_output if residual else 0.0)
    d_w = (rows(x).T @ rows(d) for d in (d_query, d_key, d_value))
    return d_x, *d_w, rows(joined).T @ rows(d_output), d_query, d_value, d_output


@of_multi_head()
def multi_head_query_key_exchanged(
    d_output: Array, x: Array, w: Any, heads: Any, weights: Array, joined: Array, scale: float, residual: bool
) -> Gradients:
    """w_query and w_key get each other's gradients."""
    w_query, w_key, w_value, w_output = w
    query, key, value = heads
    d_heads = split(d_output @ w_output.T, query.shape[-3])
    d_weights = d_heads @ value.swapaxes(-1, -2)
    d_scores = weights * (d_weights - (weights * d_weights).sum(axis=-1, keepdims=True))
    d_query = join(d_scores @ key * scale)
    d_key = join(d_scores.swapaxes(-1, -2) @ query * scale)
    d_value = join(weights.swapaxes(-1, -2) @ d_heads)
    d_x = d_query @ w_query.T + d_key @ w_key.T + d_value @ w_value.T + (d_output if residual else 0.0)
    d_w = (rows(x).T @ rows(d) for d in (d_key, d_query, d_value))
    return d_x, *d_w, rows(joined).T @ rows(d_output), d_query, d_value, d_output


@of_multi_head()
def multi_head_value_weights_untransposed(
    d_output: Array, x: Array, w: Any, heads: Any, weights: Array, joined: Array, scale: float, residual: bool
) -> Gradients:
    """The weights aren't transposed on the way back to the values."""
    w_query, w_key, w_value, w_output = w
    query, key, value = heads
    d_heads = split(d_output @ w_output.T, query.shape[-3])
    d_weights = d_heads @ value.swapaxes(-1, -2)
    d_scores = weights * (d_weights - (weights * d_weights).sum(axis=-1, keepdims=True))
    d_query = join(d_scores @ key * scale)
    d_key = join(d_scores.swapaxes(-1, -2) @ query * scale)
    d_value = join(weights @ d_heads)
    d_x = d_query @ w_query.T + d_key @ w_key.T + d_value @ w_value.T + (d_output if residual else 0.0)
    d_w = (rows(x).T @ rows(d) for d in (d_query, d_key, d_value))
    return d_x, *d_w, rows(joined).T @ rows(d_output), d_query, d_value, d_output


@of_multi_head()
def multi_head_sum_over_heads(
    d_output: Array, x: Array, w: Any, heads: Any, weights: Array, joined: Array, scale: float, residual: bool
) -> Gradients:
    """The softmax's sum runs over the heads, not over the keys."""
    w_query, w_key, w_value, w_output = w
    query, key, value = heads
    d_heads = split(d_output @ w_output.T, query.shape[-3])
    d_weights = d_heads @ value.swapaxes(-1, -2)
    d_scores = weights * (d_weights - (weights * d_weights).sum(axis=-3, keepdims=True))
    d_query = join(d_scores @ key * scale)
    d_key = join(d_scores.swapaxes(-1, -2) @ query * scale)
    d_value = join(weights.swapaxes(-1, -2) @ d_heads)
    d_x = d_query @ w_query.T + d_key @ w_key.T + d_value @ w_value.T + (d_output if residual else 0.0)
    d_w = (rows(x).T @ rows(d) for d in (d_query, d_key, d_value))
    return d_x, *d_w, rows(joined).T @ rows(d_output), d_query, d_value, d_output


@of_multi_head()
def multi_head_causal_mask_transposed(
    d_output: Array, x: Array, w: Any, heads: Any, weights: Array, joined: Array, scale: float, residual: bool
) -> Gradients:
    """A mask is put on the scores' gradient once more, and transposed: the past is hidden, not the future."""
    w_query, w_key, w_value, w_output = w
    query, key, value = heads
    d_heads = split(d_output @ w_output.T, query.shape[-3])
    d_weights = d_heads @ value.swapaxes(-1, -2)
    d_scores = weights * (d_weights - (weights * d_weights).sum(axis=-1, keepdims=True))
    d_scores = np.where(np.tri(x.shape[-2], dtype=bool).T, d_scores, 0.0)
    d_query = join(d_scores @ key * scale)
    d_key = join(d_scores.swapaxes(-1, -2) @ query * scale)
    d_value = join(weights.swapaxes(-1, -2) @ d_heads)
    d_x = d_query @ w_query.T + d_key @ w_key.T + d_value @ w_value.T + (d_output if residual else 0.0)
    d_w = (rows(x).T @ rows(d) for d in (d_query, d_key, d_value))
    return d_x, *d_w, rows(joined).T @ rows(d_output), d_query, d_value, d_output


@of_multi_head()
def multi_head_bias_of_value_missing(
    d_output: Array, x: Array, w: Any, heads: Any, weights: Array, joined: Array, scale: float, residual: bool
) -> Gradients:
    """The bias of the value gets no gradient."""
    w_query, w_key, w_value, w_output = w
    query, key, value = heads
    d_heads = split(d_output @ w_output.T, query.shape[-3])
    d_weights = d_heads @ value.swapaxes(-1, -2)
    d_scores = weights * (d_weights - (weights * d_weights).sum(axis=-1, keepdims=True))
    d_query = join(d_scores @ key * scale)
    d_key = join(d_scores.swapaxes(-1, -2) @ query * scale)
    d_value = join(weights.swapaxes(-1, -2) @ d_heads)
    d_x = d_query @ w_query.T + d_key @ w_key.T + d_value @ w_value.T + (d_output if residual else 0.0)
    d_w = (rows(x).T @ rows(d) for d in (d_query, d_key, d_value))
    return d_x, *d_w, rows(joined).T @ rows(d_output), d_query, None, d_output


@of_multi_head()
def multi_head_bias_of_query_mean(
    d_output: Array, x: Array, w: Any, heads: Any, weights: Array, joined: Array, scale: float, residual: bool
) -> Gradients:
    """The bias of the query gets the mean over all positions, not the sum."""
    w_query, w_key, w_value, w_output = w
    query, key, value = heads
    d_heads = split(d_output @ w_output.T, query.shape[-3])
    d_weights = d_heads @ value.swapaxes(-1, -2)
    d_scores = weights * (d_weights - (weights * d_weights).sum(axis=-1, keepdims=True))
    d_query = join(d_scores @ key * scale)
    d_key = join(d_scores.swapaxes(-1, -2) @ query * scale)
    d_value = join(weights.swapaxes(-1, -2) @ d_heads)
    d_x = d_query @ w_query.T + d_key @ w_key.T + d_value @ w_value.T + (d_output if residual else 0.0)
    d_w = (rows(x).T @ rows(d) for d in (d_query, d_key, d_value))
    return d_x, *d_w, rows(joined).T @ rows(d_output), rows(d_query).mean(axis=0), d_value, d_output


@of_multi_head()
def multi_head_bias_of_output_unsummed(
    d_output: Array, x: Array, w: Any, heads: Any, weights: Array, joined: Array, scale: float, residual: bool
) -> Gradients:
    """The bias of the output gets the gradient of the last position alone."""
    w_query, w_key, w_value, w_output = w
    query, key, value = heads
    d_heads = split(d_output @ w_output.T, query.shape[-3])
    d_weights = d_heads @ value.swapaxes(-1, -2)
    d_scores = weights * (d_weights - (weights * d_weights).sum(axis=-1, keepdims=True))
    d_query = join(d_scores @ key * scale)
    d_key = join(d_scores.swapaxes(-1, -2) @ query * scale)
    d_value = join(weights.swapaxes(-1, -2) @ d_heads)
    d_x = d_query @ w_query.T + d_key @ w_key.T + d_value @ w_value.T + (d_output if residual else 0.0)
    d_w = (rows(x).T @ rows(d) for d in (d_query, d_key, d_value))
    return d_x, *d_w, rows(joined).T @ rows(d_output), d_query, d_value, rows(d_output)[-1]


@of_multi_head()
def multi_head_residual_dropped(
    d_output: Array, x: Array, w: Any, heads: Any, weights: Array, joined: Array, scale: float, residual: bool
) -> Gradients:
    """The straight path around the attention is forgotten."""
    w_query, w_key, w_value, w_output = w
    query, key, value = heads
    d_heads = split(d_output @ w_output.T, query.shape[-3])
    d_weights = d_heads @ value.swapaxes(-1, -2)
    d_scores = weights * (d_weights - (weights * d_weights).sum(axis=-1, keepdims=True))
    d_query = join(d_scores @ key * scale)
    d_key = join(d_scores.swapaxes(-1, -2) @ query * scale)
    d_value = join(weights.swapaxes(-1, -2) @ d_heads)
    d_x = d_query @ w_query.T + d_key @ w_key.T + d_value @ w_value.T
    d_w = (rows(x).T @ rows(d) for d in (d_query, d_key, d_value))
    return d_x, *d_w, rows(joined).T @ rows(d_output), d_query, d_value, d_output


@of_multi_head()
def multi_head_residual_always(
    d_output: Array, x: Array, w: Any, heads: Any, weights: Array, joined: Array, scale: float, residual: bool
) -> Gradients:
    """The straight path is there on the way back, whether or not it was on the way forth."""
    w_query, w_key, w_value, w_output = w
    query, key, value = heads
    d_heads = split(d_output @ w_output.T, query.shape[-3])
    d_weights = d_heads @ value.swapaxes(-1, -2)
    d_scores = weights * (d_weights - (weights * d_weights).sum(axis=-1, keepdims=True))
    d_query = join(d_scores @ key * scale)
    d_key = join(d_scores.swapaxes(-1, -2) @ query * scale)
    d_value = join(weights.swapaxes(-1, -2) @ d_heads)
    d_x = d_query @ w_query.T + d_key @ w_key.T + d_value @ w_value.T + d_output
    d_w = (rows(x).T @ rows(d) for d in (d_query, d_key, d_value))
    return d_x, *d_w, rows(joined).T @ rows(d_output), d_query, d_value, d_output
