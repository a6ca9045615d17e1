"""A linear layer and its bend in few passes: one product, then bias and bend in place."""

from __future__ import annotations

import numpy as np

from tinyattn.kernels.activations import bend_all, has_bend
from tinyattn.kernels.call import ones, scratch
from tinyattn.kernels.twin import twin
from tinyattn.rules import products
from tinyattn.rules.registry import Array, Backward, Gradients


@twin(products.linear)
def linear(
    x: Array, weight: Array, bias: Array, *, wanted: tuple[bool, ...], activation: str | None = None
) -> tuple[Array, Backward] | None:
    """y = φ(x W + b), and back: the rule `linear`."""
    lead, d_in, d_out = products.check_linear(x, weight, bias, activation)
    if activation is not None and not has_bend(activation, x):
        return None
    rows = x.reshape(-1, d_in)
    output = rows @ weight
    if bias is not None:
        output += bias
    slopes: Array = None
    shape, dtype = output.shape, output.dtype  # the output itself isn't needed on the way back
    if activation is not None:
        slopes = np.empty_like(output) if True in wanted else None
        bend_all(activation, output, slopes)

    def backward(d_output: Array) -> Gradients:
        d_rows = d_output.reshape(shape)
        if slopes is not None:
            d_rows = np.multiply(d_rows, slopes, scratch("d_rows", shape, dtype))
        return (
            (d_rows @ weight.T).reshape(x.shape) if wanted[0] else None,
            rows.T @ d_rows if wanted[1] else None,
            ones(len(d_rows), d_rows.dtype) @ d_rows if bias is not None and wanted[2] else None,
        )  # (linear.2)

    return output.reshape(*lead, d_out), backward
