"""Rules for scaled dot-product attention.

    s_ij = q_i · k_j / √d_k + b_ij        where query i may attend to key j        (attention.1)
    w_ij = exp(s_ij) / Σ_k exp(s_ik)      over those keys; 0 elsewhere             (attention.2)
    o_i  = Σ_j w_ij v_j                                                            (attention.3)

Vaswani et al. 2017, arXiv:1706.03762, eq. 1.
"""

from __future__ import annotations  # else every call of a rule would evaluate those of its backward

import contextlib
import math
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from tinyattn.rules.registry import Array, Gradients, Result, rule
from tinyattn.rules.softmax import softmax


@rule
def attention(
    query: Array,
    key: Array,
    value: Array,
    bias: Array = None,
    *,
    mask: Array = None,
    causal: bool = False,
    scale: float | None = None,
) -> Result:
    """For each query, the mean of the values, weighted by how well their keys match it: (attention.1) to (attention.3).

    query (..., n_queries, d_k), key (..., n_keys, d_k), value (..., n_keys, d_v), output (..., n_queries, d_v). `bias`
    is added to the scores; `mask` is boolean, True = may attend; both broadcast to (..., n_queries, n_keys). `causal`
    lines the last query up with the last key and hides later ones. `scale` takes the place of 1/√d_k.

    A query that may attend to nothing gives zeros, with zero gradients. What stands in keys and values that are masked,
    NaN included, reaches neither output nor gradients. (PyTorch's `scaled_dot_product_attention` has `bias` as a float
    `attn_mask`, and lines causal masks up at the first key.)

    >>> query, key = np.zeros((1, 2)), np.zeros((2, 2))
    >>> attention(query, key, np.array([[1.0], [3.0]]))[0]
    array([[2.]])
    """
    if value.ndim < 2 or value.shape[-2] != key.shape[-2]:
        raise ValueError(f"attention: key and value must share n_keys; got key {key.shape} and value {value.shape}")
    weights, weights_backward = attention_weights(query, key, bias, mask=mask, causal=causal, scale=scale)
    allowed = _allowed(query, key, mask, causal)
    output = _mix(weights, value, allowed)  # (attention.3)

    def backward(d_output: Array) -> Gradients:
        d_value = _mix(weights.swapaxes(-1, -2), d_output, _transposed(allowed))  # d_v_j = Σ_i w_ij d_o_i   (attention.4)
        with _quiet(allowed):
            d_weights = d_output @ value.swapaxes(-1, -2)  # d_w_ij = d_o_i · v_j                            (attention.5)
        d_query, d_key, d_bias = weights_backward(d_weights)
        return d_query, d_key, d_value, d_bias

    return output, backward


@rule
def attention_weights(
    query: Array,
    key: Array,
    bias: Array = None,
    *,
    mask: Array = None,
    causal: bool = False,
    scale: float | None = None,
) -> Result:
    """How much each query attends to each key: (attention.1) and (attention.2), with the arguments of `attention`.

    output (..., n_queries, n_keys); each row sums to 1, or to 0 where the query may attend to nothing.

    >>> attention_weights(np.zeros((2, 3)), np.zeros((2, 3)), causal=True)[0]
    array([[1. , 0. ],
           [0.5, 0.5]])
    """
    _check(query, key, bias, mask)
    allowed = _allowed(query, key, mask, causal)
    scale = 1 / math.sqrt(max(query.shape[-1], 1)) if scale is None else scale
    scaled = query * scale  # cheaper than scaling the scores
    with _quiet(allowed):
        dots = scaled @ key.swapaxes(-1, -2)
    scores = dots if bias is None else dots + bias  # (attention.1)
    weights = _masked_softmax(scores, allowed)

    def backward(d_weights: Array) -> Gradients:
        if allowed is not None:
            d_weights = np.where(allowed, d_weights, 0.0)  # 0 · NaN is NaN: what is masked has to go before the sum
        d_scores = weights * (d_weights - (weights * d_weights).sum(axis=-1, keepdims=True))  # (softmax.3)
        if allowed is not None:
            d_scores = np.where(allowed, d_scores, 0.0)  # and again, where the sum over an allowed NaN is NaN
        d_scaled = _mix(d_scores, key, allowed)  # d_q_i = Σ_j d_s_ij k_j / √d_k                             (attention.6)
        d_key = _mix(d_scores.swapaxes(-1, -2), scaled, _transposed(allowed))  # d_k_j = Σ_i d_s_ij q_i / √d_k (attention.7)
        return d_scaled * scale, d_key, None if bias is None else d_scores

    return weights, backward


def _masked_softmax(scores: Array, allowed: Array) -> Array:
    """(attention.2): a softmax over the allowed keys, and a row of zeros where there are none."""
    if scores.shape[-1] == 0:
        return scores
    if allowed is None:
        return softmax(scores)[0]
    visible = np.where(allowed, scores, -np.inf)
    reaches = allowed.any(axis=-1, keepdims=True)
    exp = np.exp(visible - np.where(reaches, np.max(visible, axis=-1, keepdims=True), 0.0))
    return exp / np.where(reaches, exp.sum(axis=-1, keepdims=True), 1.0)


def _mix(coefficients: Array, rows: Array, allowed: Array) -> Array:
    """Σ_j c_ij r_j over the allowed pairs, where c is 0 on all others.

    A matrix product does it, as long as every row is finite. One that isn't (0 · NaN is NaN) is left out of the product,
    and added where it belongs.
    """
    if allowed is None:
        return coefficients @ rows
    finite = np.isfinite(rows).all(axis=-1)
    if finite.all():
        return coefficients @ rows
    output = coefficients @ np.where(finite[..., None], rows, 0.0)
    for j in np.flatnonzero(~finite.reshape(-1, finite.shape[-1]).all(axis=0)):
        meets = allowed[..., j, None] & ~finite[..., j, None, None]
        output = output + coefficients[..., j, None] * np.where(meets, rows[..., j, None, :], 0.0)
    return output


def _allowed(query: Array, key: Array, mask: Array, causal: bool) -> Array:
    """Which query may attend to which key, (..., n_queries, n_keys); None stands for everything."""
    if not causal:
        return None if mask is None else np.broadcast_to(mask, (*mask.shape[:-2], query.shape[-2], key.shape[-2]))
    n_queries, n_keys = query.shape[-2], key.shape[-2]
    earlier = np.tri(n_queries, n_keys, n_keys - n_queries, dtype=bool)
    return earlier if mask is None else earlier & mask


def _quiet(allowed: Array) -> AbstractContextManager[Any]:
    """No warnings of 0 · ∞ where masked rows may hold anything: what comes of them is masked next."""
    return contextlib.nullcontext() if allowed is None else np.errstate(invalid="ignore", over="ignore")


def _transposed(allowed: Array) -> Array:
    return None if allowed is None else allowed.swapaxes(-1, -2)


def _check(query: Array, key: Array, bias: Array, mask: Array) -> None:
    got = f"got query {query.shape} and key {key.shape}"
    if query.ndim < 2 or key.ndim < 2:
        raise ValueError(f"attention: query and key need two axes at least, (..., length, d_k); {got}")
    if query.shape[-1] != key.shape[-1]:
        hint = " Is key transposed?" if query.shape[-1] == key.shape[-2] else ""
        raise ValueError(f"attention: query and key must share d_k; {got}.{hint}")
    scores = (query.shape[-2], key.shape[-2])
    if mask is not None:
        if mask.dtype != bool:
            raise TypeError(
                f"attention: mask must be boolean, True = may attend; got {mask.dtype}."
                " What is added to the scores goes in as bias"
            )
        _check_pairs("mask", mask, scores)
    if bias is not None:
        if bias.dtype == bool:
            raise TypeError("attention: bias is added to the scores; got booleans. Did you mean mask=?")
        _check_pairs("bias", bias, scores)


def _check_pairs(name: str, pairs: Array, scores: tuple[int, int]) -> None:
    if any(n not in (1, expected) for n, expected in zip(pairs.shape[::-1], scores[::-1], strict=False)):
        raise ValueError(
            f"attention: {name} must broadcast to (..., n_queries, n_keys) = (..., {scores[0]}, {scores[1]}); got {pairs.shape}"
        )
