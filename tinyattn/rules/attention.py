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

from tinyattn.rules.checks import check_flag, check_number
from tinyattn.rules.reductions import total
from tinyattn.rules.registry import Array, Gradients, Result, alike, rule
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
    NaN included, reaches neither output nor gradients, nor, where no query may attend to them, derivatives of any
    order. Raises `TypeError` for a mask that isn't boolean, `ValueError` for shapes that don't fit.

    >>> query, key = np.zeros((1, 2)), np.zeros((2, 2))
    >>> attention(query, key, np.array([[1.0], [3.0]]))[0]
    array([[2.]])
    """
    allowed = _allowed("attention", query, key, mask, causal)
    if value.ndim < 2 or value.shape[-2] != key.shape[-2]:
        raise ValueError(f"attention: key and value must share n_keys; got key {key.shape} and value {value.shape}")
    _check_leading("attention", query, key, value, bias, mask)
    weights, weights_backward = _weights("attention", query, key, bias, allowed, scale)  # (attention.1), (attention.2)
    value, of_value = _seen(value, allowed)
    output = _mix(weights, value, of_value)  # (attention.3)

    def backward(d_output: Array) -> Gradients:
        # d_v_j  = Σ_i w_ij d_o_i                                    (attention.4)
        # d_w_ij = d_o_i · v_j                                       (attention.5)
        d_output, of_output = _seen(d_output, _transposed(allowed))
        d_value = _mix(weights.swapaxes(-1, -2), d_output, of_output)
        with _garbage(allowed):
            d_weights = d_output @ value.swapaxes(-1, -2)
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
    allowed = _allowed("attention_weights", query, key, mask, causal)
    _check_leading("attention_weights", query, key, None, bias, mask)
    return _weights("attention_weights", query, key, bias, allowed, scale)


def _weights(op: str, query: Array, key: Array, bias: Array, allowed: Array, scale: float | None) -> Result:
    """(attention.1) and (attention.2), and back."""
    _check_bias(op, bias, query.shape[-2], key.shape[-2])
    if scale is not None:
        check_number(op, "scale", scale)
    scale = 1 / math.sqrt(max(query.shape[-1], 1)) if scale is None else scale
    query, of_query = _seen(query, _transposed(allowed))
    key, of_key = _seen(key, allowed)
    scaled = query * scale  # of fewer numbers than the scores have
    with _garbage(allowed):
        dots = scaled @ key.swapaxes(-1, -2)
    weights = _softmax(dots if bias is None else dots + bias, allowed)

    def backward(d_weights: Array) -> Gradients:
        # d_s_ij = w_ij (d_w_ij − Σ_k w_ik d_w_ik)                   (softmax.3)
        # d_q_i  = Σ_j d_s_ij k_j / √d_k                             (attention.6)
        # d_k_j  = Σ_i d_s_ij q_i / √d_k                             (attention.7)
        # d_b_ij = d_s_ij                                            (attention.8)
        d_weights = _masked(d_weights, allowed)
        d_scores = _masked(weights * (d_weights - total(weights * d_weights, axis=-1)), allowed)
        d_query = _mix(d_scores, key, of_key) * scale
        d_key = _mix(d_scores.swapaxes(-1, -2), scaled, of_query)
        return d_query, d_key, None if bias is None else d_scores

    return weights, backward


def _softmax(scores: Array, allowed: Array) -> Array:
    """(attention.2): a softmax over the allowed keys, and a row of zeros where there are none."""
    if scores.shape[-1] == 0:
        return scores
    if allowed is None:
        return softmax(scores)[0]
    visible = np.where(allowed, scores, -np.inf)
    any_visible = allowed.any(axis=-1, keepdims=True)
    exp = np.exp(visible - np.where(any_visible, np.max(visible, axis=-1, keepdims=True), 0.0))
    # A NaN among the visible scores is in its whole row now; the weights of hidden keys stay 0.
    return _masked(exp / np.where(any_visible, total(exp, axis=-1), 1.0), allowed)


def _allowed(op: str, query: Array, key: Array, mask: Array, causal: bool) -> Array:
    """Which query may attend to which key, (..., n_queries, n_keys); None where every one may attend to all."""
    got = f"got query {query.shape} and key {key.shape}"
    if query.ndim < 2 or key.ndim < 2:
        raise ValueError(f"{op}: query and key need two axes at least, (..., length, d_k); {got}")
    if query.shape[-1] != key.shape[-1]:
        hint = " Is key transposed?" if query.shape[-1] == key.shape[-2] else ""
        raise ValueError(f"{op}: query and key must share d_k; {got}.{hint}")
    n_queries, n_keys = query.shape[-2], key.shape[-2]
    check_flag(op, "causal", causal)
    if mask is not None:
        mask = alike(mask, query)
        if mask.dtype != bool:
            raise TypeError(
                f"{op}: mask must be boolean, True = may attend; got {mask.dtype}."
                " What is to be added to the scores goes in as bias="
            )
        _check_pairs(op, "mask", mask, n_queries, n_keys)
        mask = np.broadcast_to(mask, (*mask.shape[:-2], n_queries, n_keys))
    if not causal:
        return mask
    not_later = np.tri(n_queries, n_keys, n_keys - n_queries, dtype=bool, like=query)
    return not_later if mask is None else not_later & mask


def _check_bias(op: str, bias: Array, n_queries: int, n_keys: int) -> None:
    if bias is None:
        return
    if bias.dtype == bool:
        raise TypeError(f"{op}: bias is added to the scores, and can't be boolean. Did you mean mask=?")
    _check_pairs(op, "bias", bias, n_queries, n_keys)


def _check_pairs(op: str, name: str, pairs: Array, n_queries: int, n_keys: int) -> None:
    expected = (n_queries, n_keys)[-pairs.ndim :] if pairs.ndim else ()
    if any(n not in (1, m) for n, m in zip(pairs.shape[-2:], expected, strict=True)):
        raise ValueError(
            f"{op}: {name} must broadcast to (..., n_queries, n_keys), here (..., {n_queries}, {n_keys});"
            f" got {pairs.shape}"
        )


def _check_leading(op: str, *given: Array) -> None:
    """Whether the axes before the last two broadcast: those of query, key, value, bias and mask."""
    leads = {np.shape(x)[:-2] for x in given if x is not None}
    if len(leads) == 1:
        return
    try:
        np.broadcast_shapes(*leads)
    except ValueError:
        names = ("query", "key", "value", "bias", "mask")
        shapes = {name: np.shape(x) for name, x in zip(names, given, strict=True) if x is not None}
        got = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(
            f"{op}: the axes before the last two must broadcast; got {got}.{_hint_heads(shapes)}"
        ) from None


def _hint_heads(shapes: dict[str, tuple[int, ...]]) -> str:
    n_heads = shapes["query"][-3:-2]
    for name in ("key", "value"):
        fewer = shapes.get(name, ())[-3:-2]
        if n_heads and fewer and 1 < fewer[0] < n_heads[0] and n_heads[0] % fewer[0] == 0:
            times = n_heads[0] // fewer[0]
            return f" Fewer key and value heads aren't grouped yet: repeat each of them {times} times"
    return ""


# What is masked may hold anything, and 0 · NaN is NaN: a weight of 0 doesn't hide what it's multiplied by.


def _seen(rows: Array, allowed: Array) -> tuple[Array, Array]:
    """The rows, with zeros for those that nobody sees, which is differentiable; and the pairs that `_mix` must mind.

    Those are None where all rows are finite by now. Where not, garbage is left that some see and others don't. (What is
    small does no harm where nobody sees it; what is large may overflow.)
    """
    if allowed is None or (abs(rows) < 1e4).all():
        return rows, None
    rows = np.where(allowed.any(axis=-2)[..., None], rows, 0.0)
    return rows, None if np.isfinite(rows).all() else allowed


def _mix(coefficients: Array, rows: Array, allowed: Array) -> Array:
    """Σ_j c_ij r_j over the allowed pairs, where c is 0 on all others; `allowed` is None where all rows are finite.

    One matrix product for the rows that are. One that isn't is left out of it, and added where it is allowed.
    """
    if allowed is None:
        return coefficients @ rows
    finite = np.isfinite(rows).all(axis=-1)
    output = coefficients @ np.where(finite[..., None], rows, 0.0)
    for j in np.flatnonzero(~finite.reshape(-1, finite.shape[-1]).all(axis=0)):
        meet = allowed[..., j, None] & ~finite[..., j, None, None]
        output = output + coefficients[..., j, None] * np.where(meet, rows[..., j, None, :], 0.0)
    return output


def _masked(pairs: Array, allowed: Array) -> Array:
    """0 where not allowed. What is finite there has or gets a factor 0 anyway, so that the pass can be saved."""
    return pairs if allowed is None or np.isfinite(pairs).all() else np.where(allowed, pairs, 0.0)


def _garbage(allowed: Array) -> AbstractContextManager[Any]:
    """Don't warn of 0 · ∞ where masked rows take part in a product: what comes of them is masked after it."""
    return contextlib.nullcontext() if allowed is None else np.errstate(invalid="ignore", over="ignore")


def _transposed(allowed: Array) -> Array:
    return None if allowed is None else allowed.swapaxes(-1, -2)
