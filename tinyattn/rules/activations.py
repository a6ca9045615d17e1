"""Rules for the bends between linear layers."""

from __future__ import annotations  # else every call of a rule would evaluate those of its backward

import math

import numpy as np

from tinyattn.rules.checks import check_number
from tinyattn.rules.elementwise import erf
from tinyattn.rules.registry import Array, Gradients, Result, floats, rule


@rule
def relu(x: Array) -> Result:
    """The value where it is positive, 0 elsewhere.

    y = max(x, 0),   ∂y/∂x = [x > 0], which is 0 at 0                (relu.1)

    >>> relu(np.array([-2.0, 3.0]))[0]
    array([0., 3.])
    """

    def backward(d_output: Array) -> Gradients:
        return (d_output * (x > 0),)

    return np.maximum(x, 0.0), backward


@rule
def leaky_relu(x: Array, *, negative_slope: float = 0.01) -> Result:
    """The value where it is positive, a small part of it elsewhere.

    y = x if x > 0 else a x,   ∂y/∂x = 1 if x > 0 else a             (leaky_relu.1)

    Maas, Hannun and Ng 2013, "Rectifier Nonlinearities Improve Neural Network Acoustic Models", section 2.

    >>> leaky_relu(np.array([-2.0, 3.0]), negative_slope=0.5)[0]
    array([-1.,  3.])
    """
    check_number("leaky_relu", "negative_slope", negative_slope)

    def backward(d_output: Array) -> Gradients:
        return (np.where(x > 0, d_output, negative_slope * d_output),)

    return np.where(x > 0, x, negative_slope * x), backward


@rule
def softplus(x: Array, *, beta: float = 1.0) -> Result:
    """A smooth relu, the nearer to it the larger β: near 0 for x far below zero, near x far above.

    y = log(1 + e^(βx)) / β                                          (softplus.1)
      = (max(βx, 0) + log(1 + e^(−|βx|))) / β                        (softplus.2)
    ∂y/∂x = σ(βx)                                                    (softplus.3)

    No x overflows in (softplus.2), so that PyTorch's `threshold` isn't needed. Raises `ValueError` unless β is
    positive and finite.

    >>> float(np.exp(softplus(0.0)[0]))
    2.0
    """
    check_number("softplus", "beta", beta)
    if not 0 < beta < math.inf:
        raise ValueError(f"softplus: beta must be positive{', and finite' if beta > 0 else ''}; got {beta}")
    scaled = beta * floats(x)
    small = np.exp(np.where(scaled > 0, -scaled, scaled))  # e^(−|βx|)

    def backward(d_output: Array) -> Gradients:
        slope, _ = sigmoid(scaled)
        return (d_output * slope,)

    return (np.where(scaled > 0, scaled, 0.0) + np.log1p(small)) / beta, backward


@rule
def sigmoid(x: Array) -> Result:
    """The logistic curve, from 0 to 1.

    y = 1 / (1 + e^(−x))                                             (sigmoid.1)
    ∂y/∂x = y (1 − y)                                                (sigmoid.2)

    >>> float(sigmoid(0.0)[0])
    0.5
    """
    x = floats(x)
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
def gelu(x: Array, *, approximate: str = "none") -> Result:
    """The value times the probability that a normal variable lies below it.

    y = x Φ(x),   Φ(x) = ½ (1 + erf(x / √2))                         (gelu.1)
    ∂y/∂x = Φ(x) + x φ(x),   φ(x) = Φ′(x) = e^(−x²/2) / √(2π)        (gelu.2)

    `approximate="tanh"` is faster and up to 5e-4 away from it; this is what GPT-2 was trained with.

    u = √(2/π) (x + 0.044715 x³)                                     (gelu.3)
    y = ½ x (1 + tanh u)                                             (gelu.4)
    ∂y/∂x = ½ (1 + tanh u) + ½ x (1 − tanh² u) √(2/π) (1 + 3 · 0.044715 x²)      (gelu.5)

    Raises `ValueError` for another name. Hendrycks and Gimpel 2016, arXiv:1606.08415, section 2.

    >>> output, backward = gelu(np.array(0.0))
    >>> output.item(), backward(1.0)[0].item()
    (0.0, 0.5)
    """
    if approximate == "tanh":
        return _gelu_by_tanh(x)
    if approximate != "none":
        raise ValueError(f"gelu: approximate must be 'none' or 'tanh'; got {approximate!r}")
    value, through_erf = erf(math.sqrt(0.5) * x)
    below = 0.5 * (1.0 + value)

    def backward(d_output: Array) -> Gradients:
        (density,) = through_erf(0.5 * math.sqrt(0.5))  # φ(x), by the chain rule
        return (d_output * (below + x * density),)

    return x * below, backward


def _gelu_by_tanh(x: Array) -> Result:
    squared = x * x
    t = np.tanh(math.sqrt(2 / math.pi) * x * (1.0 + 0.044715 * squared))

    def backward(d_output: Array) -> Gradients:
        d_u = math.sqrt(2 / math.pi) * (1.0 + 3 * 0.044715 * squared)
        return (d_output * (0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * d_u),)

    return 0.5 * x * (1.0 + t), backward
