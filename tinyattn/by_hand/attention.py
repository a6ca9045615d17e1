"""Softmax, attention and multi-head attention with their backward passes written out by hand, in NumPy alone.

    w_ij = exp(s_ij) / Σ_k exp(s_ik)                                 (softmax.1)

    s_ij = q_i · k_j / √d_k + b_ij        where i may attend to j    (attention.1)
    w_ij = exp(s_ij) / Σ_k exp(s_ik)      over those keys            (attention.2)
    o_i  = Σ_j w_ij v_j                                              (attention.3)

    head_h = attention(x W_q[h], x W_k[h], x W_v[h])                 (multi_head.1)
    output = concatenate(head_1, …, head_H) W_o                      (multi_head.2)

Each forward returns a dict of all that it was given and all that it made, by name; each `*_backward` takes the gradient
of the output and that dict, and returns the gradient in each of these: `d_scores` is the gradient of the loss in
`scores`, and has its shape. They stand there in the order in which they are found, the reverse of the forward's. The
labels are those of `tinyattn/rules/`; what undoes (multi_head.1) is labelled (multi_head.1').

Nothing is checked and nothing is fast here: it is to be read, and to be held against one's own derivation, see
`tinyattn.side_by_side`. Vaswani et al. 2017, arXiv:1706.03762, eq. 1 and section 3.2.2.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Saved = dict[str, Any]


# -- softmax ---------------------------------------------------------------------------------------------------------


def softmax(scores: Array) -> Saved:
    """Positive weights that sum to 1 along the last axis; zeros where all scores are −∞.

    >>> softmax(np.array([0.0, 0.0]))["weights"]
    array([0.5, 0.5])
    """
    top = scores.max(axis=-1, keepdims=True)
    exp = np.exp(scores - np.where(top > -np.inf, top, 0))                                 # (softmax.1)  top cancels
    total = exp.sum(axis=-1, keepdims=True)                                                # (softmax.1)
    weights = exp / np.where(total > 0, total, 1)                                          # (softmax.1)
    return {"scores": scores, "weights": weights}


def softmax_backward(d_weights: Array, saved: Saved) -> dict[str, Array]:
    """∂w_i/∂s_j = w_i (δ_ij − w_j), times d_weights, without ever forming the matrix.

    >>> softmax_backward(np.array([1.0, 3.0]), softmax(np.array([0.0, 0.0])))["d_scores"]  # 0.5 (1 − 2), 0.5 (3 − 2)
    array([-0.5,  0.5])
    """
    weights = saved["weights"]
    d_scores = weights * (d_weights - (weights * d_weights).sum(axis=-1, keepdims=True))   # (softmax.3)
    return {"d_weights": d_weights, "d_scores": d_scores}


# -- attention -------------------------------------------------------------------------------------------------------


def attention(
    query: Array,
    key: Array,
    value: Array,
    *,
    bias: Array | None = None,
    mask: Array | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> Saved:
    """For each query, the mean of the values, weighted by how well their keys match it.

    The arguments, and their shapes, are those of `tinyattn.attention`. Among what is returned are the `scores`, −∞
    where hidden; the `mask` with `causal` worked into it, None where nothing is hidden; and the `scale`.

    >>> attention(np.zeros((1, 2)), np.zeros((2, 2)), np.array([[1.0], [3.0]]))["output"]
    array([[2.]])
    """
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    mask = may_attend(mask, causal, query.shape[-2], key.shape[-2])
    scores = query @ key.swapaxes(-1, -2) * scale                                          # (attention.1)
    if bias is not None:
        scores = scores + bias                                                             # (attention.1)
    if mask is not None:
        scores = np.where(mask, scores, -np.inf)                                           # (attention.1)
    weights = softmax(scores)["weights"]                                                   # (attention.2)
    output = weights @ value                                                               # (attention.3)
    given = {"query": query, "key": key, "value": value, "bias": bias, "mask": mask, "scale": scale}
    return given | {"scores": scores, "weights": weights, "output": output}


def attention_backward(d_output: Array, saved: Saved) -> dict[str, Array]:
    """The gradient in everything that `attention` was given or made; `d_bias` where it had a bias.

    >>> saved = attention(np.zeros((1, 2)), np.zeros((2, 2)), np.array([[1.0], [3.0]]))
    >>> gradients = attention_backward(np.array([[1.0]]), saved)
    >>> gradients["d_weights"], gradients["d_scores"]
    (array([[1., 3.]]), array([[-0.5,  0.5]]))
    """
    query, key, value, weights = (saved[name] for name in ("query", "key", "value", "weights"))
    d_value = weights.swapaxes(-1, -2) @ d_output                                          # (attention.4)
    d_weights = summed_like(d_output @ value.swapaxes(-1, -2), weights)                    # (attention.5)
    d_scores = softmax_backward(d_weights, saved)["d_scores"]                              # (softmax.3)
    d_query = d_scores @ key * saved["scale"]                                              # (attention.6)
    d_key = d_scores.swapaxes(-1, -2) @ query * saved["scale"]                             # (attention.7)
    d_bias = {} if saved["bias"] is None else {"d_bias": d_scores}                         # (attention.8)
    gradients = {"d_value": d_value, "d_weights": d_weights, "d_scores": d_scores} | d_bias
    gradients |= {"d_query": d_query, "d_key": d_key}
    return {"d_output": d_output} | as_given(gradients, saved)


# -- multi-head attention --------------------------------------------------------------------------------------------


def multi_head(
    x: Array,
    w_query: Array,
    w_key: Array,
    w_value: Array,
    w_output: Array,
    *,
    n_heads: int,
    bias: Array | None = None,
    mask: Array | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> Saved:
    """The rows of x attend to each other, in several subspaces at once.

    x (..., n, d_model), w_query and w_key (d_model, n_heads d_k), w_value (d_model, n_heads d_v), w_output (n_heads
    d_v, d_output), output (..., n, d_output). Bias and mask broadcast to (..., n_heads, n, n).

    >>> multi_head(np.eye(2), *4 * [np.eye(2)], n_heads=2, causal=True)["weights"][:, 0]  # each head's first row
    array([[1., 0.],
           [1., 0.]])
    """
    query = split_heads(x @ w_query, n_heads)                                              # (multi_head.1)
    key = split_heads(x @ w_key, n_heads)                                                  # (multi_head.1)
    value = split_heads(x @ w_value, n_heads)                                              # (multi_head.1)
    made = attention(query, key, value, bias=bias, mask=mask, causal=causal, scale=scale)  # (multi_head.1)
    heads = made["output"]
    mix = merge_heads(heads)                                                               # (multi_head.2)
    output = mix @ w_output                                                                # (multi_head.2)
    given = {"x": x, "w_query": w_query, "w_key": w_key, "w_value": w_value, "w_output": w_output, "n_heads": n_heads}
    return given | made | {"heads": heads, "mix": mix, "output": output}


def multi_head_backward(d_output: Array, saved: Saved) -> dict[str, Array]:
    """The gradient in everything that `multi_head` was given or made; that of one head's part is `d_heads`.

    >>> saved = multi_head(np.eye(2), *4 * [np.eye(2)], n_heads=2, causal=True)
    >>> multi_head_backward(np.ones((2, 2)), saved)["d_mix"]
    array([[1., 1.],
           [1., 1.]])
    """
    x, n_heads = saved["x"], saved["n_heads"]
    d_w_output = saved["mix"].swapaxes(-1, -2) @ d_output                                  # (multi_head.2')
    d_mix = d_output @ saved["w_output"].T                                                 # (multi_head.2')
    d_heads = split_heads(d_mix, n_heads)                                                  # (multi_head.2')
    inside = attention_backward(d_heads, saved)                                            # (multi_head.1')
    del inside["d_output"]  # that is d_heads
    d_queries, d_keys, d_values = (merge_heads(inside[name]) for name in ("d_query", "d_key", "d_value"))
    d_w_value = x.swapaxes(-1, -2) @ d_values                                              # (multi_head.1')
    d_w_query = x.swapaxes(-1, -2) @ d_queries                                             # (multi_head.1')
    d_w_key = x.swapaxes(-1, -2) @ d_keys                                                  # (multi_head.1')
    d_x = d_values @ saved["w_value"].T                                                    # (multi_head.1')
    d_x = d_x + d_queries @ saved["w_query"].T + d_keys @ saved["w_key"].T                 # (multi_head.1')
    gradients = {"d_output": d_output, "d_w_output": d_w_output, "d_mix": d_mix, "d_heads": d_heads} | inside
    gradients |= {"d_w_value": d_w_value, "d_w_query": d_w_query, "d_w_key": d_w_key, "d_x": d_x}
    return as_given(gradients, saved)


# -- who sees whom; shapes -------------------------------------------------------------------------------------------


def may_attend(mask: Array | None, causal: bool, n_queries: int, n_keys: int) -> Array | None:
    """Which query may attend to which key; if `causal`, to none behind its own place, counted from the end.

    >>> may_attend(None, True, 2, 3)
    array([[ True,  True, False],
           [ True,  True,  True]])
    """
    if not causal:
        return mask
    not_later = np.tri(n_queries, n_keys, n_keys - n_queries, dtype=bool)
    return not_later if mask is None else not_later & mask


def as_given(gradients: dict[str, Array], saved: Saved) -> dict[str, Array]:
    """Each gradient in the shape of what it belongs to."""
    return {name: summed_like(gradient, saved[name.removeprefix("d_")]) for name, gradient in gradients.items()}


def summed_like(gradient: Array, x: Array) -> Array:
    """Undo broadcasting: the gradient in x sums over the axes along which x was repeated.

    >>> summed_like(np.ones((2, 3)), np.zeros(3))
    array([2., 2., 2.])
    """
    extra = gradient.ndim - x.ndim
    repeated = tuple(i for i, n in enumerate(gradient.shape) if i < extra or x.shape[i - extra] != n)
    total: Array = gradient.sum(axis=repeated)
    return total.reshape(x.shape)


def split_heads(x: Array, n_heads: int) -> Array:
    """(..., n, n_heads d) → (..., n_heads, n, d): head i takes the i-th d of the columns."""
    return x.reshape(*x.shape[:-1], n_heads, -1).swapaxes(-2, -3)


def merge_heads(x: Array) -> Array:
    """(..., n_heads, n, d) → (..., n, n_heads d): the heads side by side again. Each of the two undoes the other."""
    x = x.swapaxes(-2, -3)
    return x.reshape(*x.shape[:-2], -1)
