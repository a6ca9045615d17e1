"""Rules for the bends between linear layers."""

from __future__ import annotations  # else every call of a rule would evaluate those of its backward

import math

import numpy as np

from tinyattn.rules.registry import Array, Gradients, Result, rule


@rule
def relu(x: Array) -> Result:
    """The value where it is positive, 0 elsewhere.

    y = max(x, 0),   ∂y/∂x = [x > 0]                                 (relu.1)

    >>> relu(np.array([-2.0, 3.0]))[0]
    array([0., 3.])
    """

    def backward(d_output: Array) -> Gradients:
        return (d_output * (x > 0),)

    return np.maximum(x, 0.0), backward


@rule
def sigmoid(x: Array) -> Result:
    """The logistic curve, from 0 to 1.

    y = 1 / (1 + e^(−x))                                             (sigmoid.1)
    ∂y/∂x = y (1 − y)                                                (sigmoid.2)

    >>> float(sigmoid(0.0)[0])
    0.5
    """
    small = np.exp(np.where(x > 0, -x, x))  # e^(−|x|): never overflows
    output = np.where(x > 0, 1.0, small) / (1.0 + small)

    def backward(d_output: Array) -> Gradients:
        return (d_output * (output * (1.0 - output)),)

    return output, backward


@rule
def silu(x: Array) -> Result:
    """The value times its own sigmoid; also called swish.

    y = x σ(x)                                                       (silu.1)
    ∂y/∂x = σ + x σ (1 − σ)                                          (silu.2)

    Elfwing, Uchibe and Doya 2017, arXiv:1702.03118, eq. 3.

    >>> float(silu(0.0)[0])
    0.0
    """
    gate, _ = sigmoid(x)

    def backward(d_output: Array) -> Gradients:
        return (d_output * (gate + x * gate * (1.0 - gate)),)

    return x * gate, backward


@rule
def gelu(x: Array) -> Result:
    """The value times the probability that a normal variable lies below it, in the tanh approximation.

    u = √(2/π) (x + 0.044715 x³)                                     (gelu.1)
    y = ½ x (1 + tanh u)                                             (gelu.2)
    ∂y/∂x = ½ (1 + tanh u) + ½ x (1 − tanh² u) √(2/π) (1 + 3 · 0.044715 x²)      (gelu.3)

    Hendrycks and Gimpel 2016, arXiv:1606.08415, section 2. PyTorch's name for it is `gelu(x, approximate="tanh")`.

    >>> float(gelu(0.0)[0])
    0.0
    """
    squared = x * x
    t = np.tanh(math.sqrt(2 / math.pi) * x * (1.0 + 0.044715 * squared))

    def backward(d_output: Array) -> Gradients:
        d_u = math.sqrt(2 / math.pi) * (1.0 + 3 * 0.044715 * squared)
        return (d_output * (0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * d_u),)

    return 0.5 * x * (1.0 + t), backward
