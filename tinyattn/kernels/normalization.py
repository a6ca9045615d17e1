"""Layer norm in few passes: means of rows as products with a vector, everything else in place."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from tinyattn.kernels.call import ones, scratch
from tinyattn.kernels.twin import twin
from tinyattn.rules import normalization
from tinyattn.rules.registry import Array, Backward, Gradients


@twin(normalization.layer_norm)
def layer_norm(
    x: Array, weight: Array, bias: Array, *, wanted: tuple[bool, ...], eps: float = 1e-5
) -> tuple[Array, Backward]:
    """The rule `layer_norm`."""
    normalization.check_norm("layer_norm", eps, x, weight, bias)
    d, dtype = x.shape[-1], x.dtype
    rows = x.reshape(-1, d)
    normed = rows - (rows @ shares(d, dtype))[:, None]
    scale = np.vecdot(normed, normed)[:, None]  # σ² = (Σ (x − μ)² + d ε) / d: (layer_norm.1)
    scale += d * eps
    np.sqrt(scale, out=scale)
    np.divide(math.sqrt(d), scale, out=scale)
    normed *= scale
    output = normed if weight is None else normed * weight
    if bias is not None:
        output = np.add(output, bias, out=None if weight is None else output)

    def backward(d_output: Array) -> Gradients:
        d_rows = d_output.reshape(normed.shape)
        product = np.multiply(d_rows, normed, out=scratch("product", normed.shape, dtype))
        down = ones(len(normed), dtype)
        d_weight = down @ product if weight is not None and wanted[1] else None
        d_bias = down @ d_rows if bias is not None and wanted[2] else None
        d_x = None
        if wanted[0]:
            share = shares(d, dtype) if weight is None else weight * (1 / d)
            mean, along = d_rows @ share, product @ share  # of d_n and of d_n n
            d_x = d_rows.copy() if weight is None else d_rows * weight
            d_x -= mean[:, None]
            d_x -= np.multiply(normed, along[:, None], out=product)
            d_x *= scale  # (layer_norm.4)
            d_x = d_x.reshape(x.shape)
        return d_x, d_weight, d_bias

    return output.reshape(x.shape), backward


@lru_cache(16)
def shares(d: int, dtype: Any) -> Array:
    """What a row is multiplied with to get its mean."""
    return np.full(d, 1 / d, dtype)
