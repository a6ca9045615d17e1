"""Rules for scaled dot-product attention.

    s_ij = c(q_i · k_j / √d_k) + b_ij     where query i may attend to key j        (attention.1)
    w_ij = exp(s_ij) / (Σ_k exp(s_ik) + exp(z))      over those keys; 0 elsewhere  (attention.2)
    o_i  = Σ_j w_ij v_j                                                            (attention.3)

c is the identity, or with a softcap C it's C tanh(x / C), whose values stay within ±C. exp(z) is there where a head has
a sink: a score that takes its share, and gives nothing.

Vaswani et al. 2017, arXiv:1706.03762, eq. 1. Softcap: Gemma 2, 2024, arXiv:2408.00118, section 2. Sinks: Xiao et al.
2023, arXiv:2309.17453, section 3.3, and one learned number for each head as in gpt-oss, 2025, arXiv:2508.10925,
section 2. Shared keys and values: Ainslie et al. 2023, arXiv:2305.13245.
"""

from __future__ import annotations  # else every call of a rule would evaluate those of its backward

import contextlib
import math
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from tinyattn.rules.allowed import Window, allowed_pairs, check_arrays, check_options, heads_that_share
from tinyattn.rules.checks import check_number
from tinyattn.rules.dropout import Draw, dropout, kept
from tinyattn.rules.reductions import total
from tinyattn.rules.registry import Array, Gradients, Result, alike, rule


@rule
def attention(
    query: Array,
    key: Array,
    value: Array,
    bias: Array = None,
    sinks: Array = None,
    *,
    mask: Array = None,
    causal: bool = False,
    window: Window = None,
    scale: float | None = None,
    softcap: float | None = None,
    dropped: Draw | None = None,
) -> Result:
    """For each query, the mean of the values, weighted by how well their keys match it: (attention.1) to (attention.3).

    query (..., n_heads, n_queries, d_k), key (..., n_heads, n_keys, d_k), value (..., n_heads, n_keys, d_v), output
    (..., n_heads, n_queries, d_v). Where key and value have fewer heads, each is shared by as many query heads, one
    after the other. `bias` is added to the scores; `mask` is boolean, True = may attend; both broadcast to (...,
    n_heads, n_queries, n_keys). `sinks` has a number z for each head. `causal` lines the last query up with the last
    key and hides later ones; `window` (left, right) hides what is further away than that. `scale` takes the place of
    1/√d_k. `dropped` says which weights are dropped, as in `dropout`.

    A query that may attend to nothing gives zeros, with zero gradients. What stands in keys and values that are masked,
    NaN included, reaches neither output nor gradients, nor, where no query may attend to them, derivatives of any
    order. Raises `TypeError` for a mask that isn't boolean, `ValueError` for shapes that don't fit.

    >>> query, key = np.zeros((1, 2)), np.zeros((2, 2))
    >>> attention(query, key, np.array([[1.0], [3.0]]))[0]
    array([[2.]])
    """
    check_options("attention", causal, window)
    mask = None if mask is None else alike(mask, query)
    check_arrays("attention", query, key, value, bias, sinks, mask)
    allowed = allowed_pairs(query, key, mask, causal, window)
    weights, weights_backward = _weights("attention", query, key, bias, sinks, allowed, scale, softcap)
    mixing, mixing_backward = _drop(weights, dropped)
    value, value_backward = _shared(value, query)
    value, of_value = _seen(value, allowed)
    output = _mix(mixing, value, of_value)  # (attention.3)

    def backward(d_output: Array) -> Gradients:
        # d_v_j  = Σ_i w_ij d_o_i                                    (attention.4)
        # d_w_ij = d_o_i · v_j                                       (attention.5)
        d_output, of_output = _seen(d_output, _transposed(allowed))
        d_value = _mix(mixing.swapaxes(-1, -2), d_output, of_output)
        with _garbage(allowed):
            d_mixing = d_output @ value.swapaxes(-1, -2)
        d_query, d_key, d_bias, d_sinks = weights_backward(mixing_backward(d_mixing))
        return d_query, d_key, value_backward(d_value), d_bias, d_sinks

    return output, backward


@rule
def attention_weights(
    query: Array,
    key: Array,
    bias: Array = None,
    sinks: Array = None,
    *,
    mask: Array = None,
    causal: bool = False,
    window: Window = None,
    scale: float | None = None,
    softcap: float | None = None,
) -> Result:
    """How much each query attends to each key: (attention.1) and (attention.2), with the arguments of `attention`.

    output (..., n_queries, n_keys); each row sums to 1, or to 0 where the query may attend to nothing. With sinks it
    sums to less.

    >>> attention_weights(np.zeros((2, 3)), np.zeros((2, 3)), causal=True)[0]
    array([[1. , 0. ],
           [0.5, 0.5]])
    """
    check_options("attention_weights", causal, window)
    mask = None if mask is None else alike(mask, query)
    check_arrays("attention_weights", query, key, None, bias, sinks, mask)
    allowed = allowed_pairs(query, key, mask, causal, window)
    return _weights("attention_weights", query, key, bias, sinks, allowed, scale, softcap)


def _weights(
    name: str,
    query: Array,
    key: Array,
    bias: Array,
    sinks: Array,
    allowed: Array,
    scale: float | None,
    softcap: float | None,
) -> Result:
    """(attention.1) and (attention.2), and back."""
    scale = check_scale(name, scale, query.shape[-1])
    key, key_backward = _shared(key, query)
    query, of_query = _seen(query, _transposed(allowed))
    key, of_key = _seen(key, allowed)
    scaled = query * scale  # of fewer numbers than the scores have
    with _garbage(allowed):
        dots = scaled @ key.swapaxes(-1, -2)
    scores, cap_backward = _capped(name, dots, softcap)
    weights, to_sinks = _softmax(scores if bias is None else scores + bias, allowed, sinks)

    def backward(d_weights: Array) -> Gradients:
        # d_s_ij = w_ij (d_w_ij − Σ_k w_ik d_w_ik)                   (softmax.3)
        # d_q_i  = Σ_j d_s_ij c' k_j / √d_k                          (attention.6)
        # d_k_j  = Σ_i d_s_ij c' q_i / √d_k                          (attention.7)
        # d_b_ij = d_s_ij                                            (attention.8)
        # d_z    = −Σ_i w_iz Σ_k w_ik d_w_ik,  w_iz what goes to z   (attention.9)
        d_weights = _masked(d_weights, allowed)
        mean = total(weights * d_weights, axis=-1)
        d_scores = _masked(weights * (d_weights - mean), allowed)
        d_dots = _masked(cap_backward(d_scores), allowed)
        d_query = _mix(d_dots, key, of_key) * scale
        d_key = key_backward(_mix(d_dots.swapaxes(-1, -2), scaled, of_query))
        d_sinks = None if sinks is None else -(to_sinks * mean).sum(axis=(-1, -2))
        return d_query, d_key, None if bias is None else d_scores, d_sinks

    return weights, backward


def check_scale(name: str, scale: float | None, d_k: int) -> float:
    """What the scores are multiplied by: 1/√d_k unless given."""
    if scale is None:
        return 1 / math.sqrt(max(d_k, 1))
    check_number(name, "scale", scale)
    return float(scale)  # a number of NumPy's would widen what it's multiplied with


def check_softcap(name: str, softcap: float | None) -> None:
    """Raise `TypeError` or `ValueError` unless it can be one."""
    if softcap is None:
        return
    check_number(name, "softcap", softcap)
    if not 0 < softcap < math.inf:
        raise ValueError(f"{name}: softcap must be greater than 0, or None for no cap; got {softcap}")


def _shared(x: Array, query: Array) -> tuple[Array, Any]:
    """Each head of x, a key or a value, once for each query head that shares it, and the sum of their gradients.

    k_h = k_⌊h / share⌋,   d_k_g = Σ of the d_k_h that it went to    (attention.10)
    """
    share = heads_that_share(query, x)
    if share == 1:
        return x, lambda d_x: d_x
    *outer, n_heads, n, d = x.shape
    copies = np.broadcast_to(x[..., None, :, :], (*outer, n_heads, share, n, d))

    def backward(d_copies: Array) -> Array:
        return d_copies.reshape(*d_copies.shape[:-3], n_heads, share, n, d).sum(axis=-3)

    return copies.reshape(*outer, n_heads * share, n, d), backward


def _capped(name: str, dots: Array, softcap: float | None) -> tuple[Array, Any]:
    """C tanh(x / C), which stays within ±C, and back: (attention.11)."""
    if softcap is None:
        return dots, lambda d_scores: d_scores
    check_softcap(name, softcap)
    softcap = float(softcap)
    bent = np.tanh(dots / softcap)
    # ∂c/∂x = 1 − tanh²(x / C)                                       (attention.11)
    return bent * softcap, lambda d_scores: d_scores * (1 - bent * bent)


def _drop(weights: Array, dropped: Draw | None) -> tuple[Array, Any]:
    """What is left of the weights, and back."""
    if dropped is None:
        return weights, lambda d_mixing: d_mixing
    mixing, backward = dropout(weights, kept(dropped), p=dropped[2])
    return mixing, lambda d_mixing: backward(d_mixing)[0]


def _softmax(scores: Array, allowed: Array, sinks: Array) -> tuple[Array, Array]:
    """(attention.2): a softmax over the allowed keys and the sink, zeros where there are none; and the sink's share."""
    visible = scores if allowed is None else np.where(allowed, scores, -np.inf)
    top = np.max(visible, axis=-1, keepdims=True) if visible.shape[-1] else total(visible, axis=-1)
    if sinks is not None:
        sinks = sinks[..., None, None]
        top = np.maximum(top, sinks)
    top = np.where(top == -np.inf, 0.0, top)
    exp = np.exp(visible - top)
    to_sinks = 0.0 if sinks is None else np.exp(sinks - top)
    everything = total(exp, axis=-1) + to_sinks
    everything = np.where(everything == 0, 1.0, everything)
    # A NaN among the visible scores is in its whole row now; the weights of hidden keys stay 0.
    return _masked(exp / everything, allowed), to_sinks / everything


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
