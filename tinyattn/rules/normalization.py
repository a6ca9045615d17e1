"""Rules that bring the last axis to a common scale."""

from __future__ import annotations  # else every call of a rule would evaluate those of its backward

import numpy as np

from tinyattn.rules.checks import check_number
from tinyattn.rules.reductions import total
from tinyattn.rules.registry import Array, Gradients, Result, floats, rule


@rule
def layer_norm(x: Array, weight: Array = None, bias: Array = None, *, eps: float = 1e-5) -> Result:
    """The last axis shifted to mean 0 and scaled to variance 1, then scaled and shifted as learned.

    μ = (1/d) Σ_i x_i,   σ² = (1/d) Σ_i (x_i − μ)² + ε               (layer_norm.1)
    n_i = (x_i − μ) / σ,   y_i = γ_i n_i + β_i                       (layer_norm.2)
    ∂n_i/∂x_j = (δ_ij − 1/d − n_i n_j / d) / σ                       (layer_norm.3)

    x (..., d), weight γ (d,), bias β (d,). Ba, Kiros and Hinton 2016, arXiv:1607.06450, eq. 4; the ε is PyTorch's.
    Raises `ValueError` for shapes that don't fit, and ε below 0.

    >>> layer_norm(np.array([1.0, 3.0]), eps=0.0)[0]
    array([-1.,  1.])
    """
    check_norm("layer_norm", eps, x, weight, bias)
    x = floats(x)
    centred = x - _mean(x)
    scale = 1.0 / np.sqrt(_mean(centred * centred) + eps)
    normed = centred * scale
    scaled = normed if weight is None else normed * weight
    output = scaled if bias is None else scaled + bias

    def backward(d_output: Array) -> Gradients:
        d_normed = d_output if weight is None else d_output * weight
        # d_x_j = Σ_i d_n_i ∂n_i/∂x_j = (d_n_j − mean d_n − n_j mean(d_n n)) / σ      (layer_norm.4)
        d_x = scale * (d_normed - _mean(d_normed) - normed * _mean(d_normed * normed))
        return d_x, None if weight is None else d_output * normed, None if bias is None else d_output

    return output, backward


@rule
def rms_norm(x: Array, weight: Array = None, *, eps: float = 1e-5) -> Result:
    """The last axis scaled to mean square 1, then scaled as learned.

    r² = (1/d) Σ_i x_i² + ε,   n_i = x_i / r,   y_i = γ_i n_i        (rms_norm.1)
    ∂n_i/∂x_j = (δ_ij − n_i n_j / d) / r                             (rms_norm.2)

    x (..., d), weight γ (d,). Zhang and Sennrich 2019, arXiv:1910.07467, eq. 4, where there is no ε. (PyTorch's is the
    dtype's own, 1.2e-7 for float32, unless it's given.) Raises `ValueError` for shapes that don't fit, and ε below 0.

    >>> rms_norm(np.array([3.0, -3.0]), eps=0.0)[0]
    array([ 1., -1.])
    """
    check_norm("rms_norm", eps, x, weight)
    x = floats(x)
    scale = 1.0 / np.sqrt(_mean(x * x) + eps)
    normed = x * scale

    def backward(d_output: Array) -> Gradients:
        d_normed = d_output if weight is None else d_output * weight
        # d_x_j = Σ_i d_n_i ∂n_i/∂x_j = (d_n_j − n_j mean(d_n n)) / r                 (rms_norm.3)
        d_x = scale * (d_normed - normed * _mean(d_normed * normed))
        return d_x, None if weight is None else d_output * normed

    return normed if weight is None else normed * weight, backward


def _mean(x: Array) -> Array:
    return total(x, axis=-1) / max(x.shape[-1], 1)


def check_norm(name: str, eps: float, x: Array, *parameters: Array) -> None:
    """Raise `TypeError` or `ValueError` unless the arrays fit each other, and ε is a number of 0 or more."""
    check_number(name, "eps", eps, 0)
    if x.ndim == 0:
        raise ValueError(f"{name}: x needs an axis at least, (..., d); got a single number")
    for parameter in parameters:
        if parameter is not None and parameter.shape != x.shape[-1:]:
            raise ValueError(
                f"{name}: weight and bias must be as long as the last axis of x, {x.shape[-1:]}; got {parameter.shape}"
            )
