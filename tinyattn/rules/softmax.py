"""Rules that turn scores into weights."""

from __future__ import annotations  # else every call of a rule would evaluate those of its backward

import numpy as np

from tinyattn.rules.elementwise import positive
from tinyattn.rules.reductions import total
from tinyattn.rules.registry import Array, Gradients, Result, floats, rule


@rule
def softmax(scores: Array, *, axis: int = -1) -> Result:
    """Positive weights that sum to 1 along `axis`.

    w_i = exp(s_i) / Σ_k exp(s_k)                                    (softmax.1)
    ∂w_i/∂s_j = w_i (δ_ij − w_j)                                     (softmax.2)

    >>> softmax(np.array([0.0, 0.0]))[0]
    array([0.5, 0.5])
    """
    _check("softmax", scores)
    scores = floats(scores)
    if not scores.size:
        return positive(scores)
    exp = np.exp(scores - np.max(scores, axis=axis, keepdims=True))  # the shift cancels in (softmax.1); no overflow
    weights = exp / total(exp, axis)

    def backward(d_weights: Array) -> Gradients:
        # d_s_j = Σ_i d_w_i ∂w_i/∂s_j = w_j (d_w_j − Σ_i w_i d_w_i)    (softmax.3)
        return (weights * (d_weights - total(weights * d_weights, axis)),)

    return weights, backward


@rule
def log_softmax(scores: Array, *, axis: int = -1) -> Result:
    """The logarithms of the softmax weights, computed without the weights.

    l_i = s_i − log Σ_k exp(s_k)                                     (log_softmax.1)
    ∂l_i/∂s_j = δ_ij − w_j,   w_j = exp(l_j)                         (log_softmax.2)

    >>> log_softmax(np.array([0.0, 0.0]))[0].round(4)  # −log 2
    array([-0.6931, -0.6931])
    """
    _check("log_softmax", scores)
    scores = floats(scores)
    if not scores.size:
        return positive(scores)
    shifted = scores - np.max(scores, axis=axis, keepdims=True)
    exp = np.exp(shifted)
    normalizer = total(exp, axis)

    def backward(d_output: Array) -> Gradients:
        # d_s_j = Σ_i d_l_i (δ_ij − w_j) = d_l_j − w_j Σ_i d_l_i       (log_softmax.3)
        return (d_output - exp / normalizer * total(d_output, axis),)

    return shifted - np.log(normalizer), backward


def _check(name: str, scores: Array) -> None:
    if scores.ndim == 0:
        raise ValueError(f"{name}: scores need an axis to sum along; got a single number")
