"""Wrong backwards of attention and attention_weights."""

from __future__ import annotations  # numpy.random, which they name, is loaded where it's used

from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np

from tinyattn.gallery.faults.exhibit import fault
from tinyattn.gallery.samples import Rng, Sample
from tinyattn.rules.registry import Array, Gradients


def _attended(rng: Rng) -> Iterable[Sample]:
    query, key, value = rng.normal(size=(2, 5, 3)), rng.normal(size=(2, 5, 3)), rng.normal(size=(2, 5, 7))
    bias = rng.normal(size=(2, 5, 5))
    yield Sample("as many queries as keys", (query, key, value, bias))
    yield Sample("causal", (query, key, value, bias), {"causal": True})
    yield Sample("fewer queries than keys", (query[:, :2], key, value, bias[:, :2]), {"scale": 0.3})


def _matched(rng: Rng) -> Iterable[Sample]:
    yield Sample("plain", (rng.normal(size=(2, 3, 5)), rng.normal(size=(2, 7, 5))))


def attention(
    query: Array, key: Array, value: Array, bias: Array, *, causal: bool = False, scale: float | None = None
) -> tuple[Array, tuple[Any, ...]]:
    """The forward pass."""
    scale = 1 / np.sqrt(query.shape[-1]) if scale is None else scale
    n_queries, n_keys = query.shape[-2], key.shape[-2]
    allowed = np.tri(n_queries, n_keys, n_keys - n_queries if causal else n_keys, dtype=bool)
    scores = query @ key.swapaxes(-1, -2) * scale + bias
    exp = np.where(allowed, np.exp(scores - scores.max(axis=-1, keepdims=True)), 0.0)
    weights = exp / exp.sum(axis=-1, keepdims=True)
    return weights @ value, (query, key, value, bias, allowed, scale, weights)


of_attention = partial(fault, "attention", attention, _attended)


@of_attention()
def attention_query_unscaled(
    d_output: Array, query: Array, key: Array, value: Array, bias: Array, allowed: Array, scale: float, weights: Array
) -> Gradients:
    """1/√d_k is missing in the query's gradient."""
    d_value = weights.swapaxes(-1, -2) @ d_output
    d_weights = d_output @ value.swapaxes(-1, -2)
    d_scores = weights * (d_weights - (weights * d_weights).sum(axis=-1, keepdims=True))
    return d_scores @ key, d_scores.swapaxes(-1, -2) @ query * scale, d_value, d_scores


@of_attention()
def attention_scaled_twice(
    d_output: Array, query: Array, key: Array, value: Array, bias: Array, allowed: Array, scale: float, weights: Array
) -> Gradients:
    """1/√d_k is in the scores' gradient, and once more in those of query and key; the bias gets it too."""
    d_value = weights.swapaxes(-1, -2) @ d_output
    d_weights = d_output @ value.swapaxes(-1, -2)
    d_scores = weights * (d_weights - (weights * d_weights).sum(axis=-1, keepdims=True)) * scale
    return d_scores @ key * scale, d_scores.swapaxes(-1, -2) @ query * scale, d_value, d_scores


@of_attention()
def attention_value_severed(
    d_output: Array, query: Array, key: Array, value: Array, bias: Array, allowed: Array, scale: float, weights: Array
) -> Gradients:
    """The value's branch is severed."""
    d_weights = d_output @ value.swapaxes(-1, -2)
    d_scores = weights * (d_weights - (weights * d_weights).sum(axis=-1, keepdims=True))
    return d_scores @ key * scale, d_scores.swapaxes(-1, -2) @ query * scale, None, d_scores


@of_attention()
def attention_key_severed(
    d_output: Array, query: Array, key: Array, value: Array, bias: Array, allowed: Array, scale: float, weights: Array
) -> Gradients:
    """The key is taken for a constant."""
    d_value = weights.swapaxes(-1, -2) @ d_output
    d_weights = d_output @ value.swapaxes(-1, -2)
    d_scores = weights * (d_weights - (weights * d_weights).sum(axis=-1, keepdims=True))
    return d_scores @ key * scale, None, d_value, d_scores


@of_attention()
def attention_heads_swapped(
    d_output: Array, query: Array, key: Array, value: Array, bias: Array, allowed: Array, scale: float, weights: Array
) -> Gradients:
    """The heads are swapped in the key's gradient."""
    d_value = weights.swapaxes(-1, -2) @ d_output
    d_weights = d_output @ value.swapaxes(-1, -2)
    d_scores = weights * (d_weights - (weights * d_weights).sum(axis=-1, keepdims=True))
    d_key = d_scores.swapaxes(-1, -2) @ query * scale
    return d_scores @ key * scale, d_key[::-1], d_value, d_scores


@of_attention()
def attention_query_key_swapped(
    d_output: Array, query: Array, key: Array, value: Array, bias: Array, allowed: Array, scale: float, weights: Array
) -> Gradients:
    """Query and key get each other's gradients, where they have one shape."""
    d_value = weights.swapaxes(-1, -2) @ d_output
    d_weights = d_output @ value.swapaxes(-1, -2)
    d_scores = weights * (d_weights - (weights * d_weights).sum(axis=-1, keepdims=True))
    d_query, d_key = d_scores @ key * scale, d_scores.swapaxes(-1, -2) @ query * scale
    return *((d_key, d_query) if query.shape == key.shape else (d_query, d_key)), d_value, d_scores


@of_attention()
def attention_mask_forgotten(
    d_output: Array, query: Array, key: Array, value: Array, bias: Array, allowed: Array, scale: float, weights: Array
) -> Gradients:
    """The weights are computed again on the way back, without the mask."""
    scores = query @ key.swapaxes(-1, -2) * scale + bias
    exp = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights = exp / exp.sum(axis=-1, keepdims=True)
    d_value = weights.swapaxes(-1, -2) @ d_output
    d_weights = d_output @ value.swapaxes(-1, -2)
    d_scores = weights * (d_weights - (weights * d_weights).sum(axis=-1, keepdims=True))
    return d_scores @ key * scale, d_scores.swapaxes(-1, -2) @ query * scale, d_value, d_scores


@of_attention()
def attention_mask_transposed(
    d_output: Array, query: Array, key: Array, value: Array, bias: Array, allowed: Array, scale: float, weights: Array
) -> Gradients:
    """The mask is transposed on the way back, where it is square."""
    square = allowed.shape[-2] == allowed.shape[-1]
    seen = allowed.swapaxes(-1, -2) if square else allowed
    d_value = weights.swapaxes(-1, -2) @ d_output
    d_weights = np.where(seen, d_output @ value.swapaxes(-1, -2), 0.0)
    d_scores = weights * (d_weights - (weights * d_weights).sum(axis=-1, keepdims=True))
    return d_scores @ key * scale, d_scores.swapaxes(-1, -2) @ query * scale, d_value, d_scores


@of_attention()
def attention_without_row_sum(
    d_output: Array, query: Array, key: Array, value: Array, bias: Array, allowed: Array, scale: float, weights: Array
) -> Gradients:
    """The softmax's row sum is dropped."""
    d_value = weights.swapaxes(-1, -2) @ d_output
    d_scores = weights * (d_output @ value.swapaxes(-1, -2))
    return d_scores @ key * scale, d_scores.swapaxes(-1, -2) @ query * scale, d_value, d_scores


@of_attention()
def attention_sum_over_queries(
    d_output: Array, query: Array, key: Array, value: Array, bias: Array, allowed: Array, scale: float, weights: Array
) -> Gradients:
    """The softmax's sum runs over the queries, not over the keys."""
    d_value = weights.swapaxes(-1, -2) @ d_output
    d_weights = d_output @ value.swapaxes(-1, -2)
    d_scores = weights * (d_weights - (weights * d_weights).sum(axis=-2, keepdims=True))
    return d_scores @ key * scale, d_scores.swapaxes(-1, -2) @ query * scale, d_value, d_scores


@of_attention()
def attention_weights_not_transposed(
    d_output: Array, query: Array, key: Array, value: Array, bias: Array, allowed: Array, scale: float, weights: Array
) -> Gradients:
    """The weights aren't transposed in the value's gradient, where they are square."""
    square = weights.shape[-2] == weights.shape[-1]
    d_value = (weights if square else weights.swapaxes(-1, -2)) @ d_output
    d_weights = d_output @ value.swapaxes(-1, -2)
    d_scores = weights * (d_weights - (weights * d_weights).sum(axis=-1, keepdims=True))
    return d_scores @ key * scale, d_scores.swapaxes(-1, -2) @ query * scale, d_value, d_scores


@of_attention()
def attention_bias_transposed(
    d_output: Array, query: Array, key: Array, value: Array, bias: Array, allowed: Array, scale: float, weights: Array
) -> Gradients:
    """The bias's gradient is transposed, where it is square."""
    d_value = weights.swapaxes(-1, -2) @ d_output
    d_weights = d_output @ value.swapaxes(-1, -2)
    d_scores = weights * (d_weights - (weights * d_weights).sum(axis=-1, keepdims=True))
    d_bias = d_scores.swapaxes(-1, -2) if bias.shape[-2] == bias.shape[-1] else d_scores
    return d_scores @ key * scale, d_scores.swapaxes(-1, -2) @ query * scale, d_value, d_bias


# --------------------------------------------------------------------------------------------- attention_weights


def attention_weights(query: Array, key: Array) -> tuple[Array, tuple[Any, ...]]:
    """The forward pass."""
    scale = 1 / np.sqrt(query.shape[-1])
    scores = query @ key.swapaxes(-1, -2) * scale
    exp = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights = exp / exp.sum(axis=-1, keepdims=True)
    return weights, (query, key, scale, weights)


@fault("attention_weights", attention_weights, _matched)
def attention_weights_key_transposed(
    d_weights: Array, query: Array, key: Array, scale: float, weights: Array
) -> Gradients:
    """The key's gradient is filled in transposed."""
    d_scores = weights * (d_weights - (weights * d_weights).sum(axis=-1, keepdims=True))
    d_key = query.swapaxes(-1, -2) @ d_scores * scale
    return d_scores @ key * scale, d_key.reshape(key.shape)
