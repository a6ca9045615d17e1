"""Multi-head attention of a stream with itself, as one rule with its backward worked out by hand.

The layer (`tinyattn.nn.MultiHeadAttention`) is composed of smaller rules, and has no backward of its own. This one has,
so that faults can be planted in it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyattn.rules.registry import Array, Gradients, Result


def multi_head_attention(
    x: Array,
    w_query: Array,
    w_key: Array,
    w_value: Array,
    w_output: Array,
    b_query: Array,
    b_value: Array,
    b_output: Array,
    *,
    n_heads: int,
    causal: bool = False,
    residual: bool = False,
) -> Result:
    """Attention in several subspaces at once; with `residual`, beside a straight path.

    q = x W_q + b_q,   k = x W_k,   v = x W_v + b_v,   each split into heads of d_k = d_model / n_heads columns
    w = softmax(q kᵀ / √d_k),   o = w v                                in each head
    y = joined(o) W_o + b_o  (+ x)

    x (..., n, d_model), weights (d_model, d_model), biases (d_model,). A bias of the key would change nothing: it adds
    the same to all scores of a query. Vaswani et al. 2017, arXiv:1706.03762, section 3.2.2.

    >>> x, eye, zero = np.ones((2, 6)), np.eye(6), np.zeros(6)
    >>> multi_head_attention(x, eye, eye, eye, eye, zero, zero, zero, n_heads=3, residual=True)[0][0]
    array([2., 2., 2., 2., 2., 2.])
    """
    arrays = (x, w_query, w_key, w_value, w_output, b_query, b_value, b_output)
    output, saved = multi_head_forward(*arrays, n_heads=n_heads, causal=causal, residual=residual)
    return output, lambda d_output: multi_head_backward(d_output, *saved)


def multi_head_forward(
    x: Array,
    w_query: Array,
    w_key: Array,
    w_value: Array,
    w_output: Array,
    b_query: Array,
    b_value: Array,
    b_output: Array,
    *,
    n_heads: int,
    causal: bool = False,
    residual: bool = False,
) -> tuple[Array, tuple[Any, ...]]:
    """The forward pass: the output, and what the backward pass needs."""
    query = split(x @ w_query + b_query, n_heads)
    key = split(x @ w_key, n_heads)
    value = split(x @ w_value + b_value, n_heads)
    scale = 1 / np.sqrt(query.shape[-1])
    scores = query @ key.swapaxes(-1, -2) * scale
    allowed = np.tri(x.shape[-2], k=0 if causal else x.shape[-2], dtype=bool)
    exp = np.where(allowed, np.exp(scores - scores.max(axis=-1, keepdims=True)), 0.0)
    weights = exp / exp.sum(axis=-1, keepdims=True)
    joined = join(weights @ value)
    output = joined @ w_output + b_output + (x if residual else 0.0)
    return output, (x, (w_query, w_key, w_value, w_output), (query, key, value), weights, joined, scale, residual)


def multi_head_backward(
    d_output: Array, x: Array, w: Any, heads: Any, weights: Array, joined: Array, scale: float, residual: bool
) -> Gradients:
    """The backward pass: the gradients in x, the four weights and the three biases."""
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
    return d_x, *d_w, rows(joined).T @ rows(d_output), d_query, d_value, d_output


def split(x: Array, n_heads: int) -> Array:
    """(..., n, d_model) → (..., n_heads, n, d_k)."""
    *lead, n, d_model = x.shape
    return x.reshape(*lead, n, n_heads, d_model // n_heads).swapaxes(-2, -3)


def join(heads: Array) -> Array:
    """(..., n_heads, n, d_k) → (..., n, d_model)."""
    *lead, n_heads, n, d_k = heads.shape
    return heads.swapaxes(-2, -3).reshape(*lead, n, n_heads * d_k)


def rows(x: Array) -> Array:
    """(..., d) → (all, d)."""
    return x.reshape(-1, x.shape[-1])
