"""Layers that bring the last axis to a common scale."""

from typing import Any

import numpy as np

from tinyattn.functions import layer_norm, rms_norm
from tinyattn.nn.initial import check_dtype, check_sizes, constant
from tinyattn.nn.module import Module
from tinyattn.rules.checks import check_flag, check_number
from tinyattn.tensor import Tensor


class LayerNorm(Module):
    """The last axis shifted to mean 0 and scaled to variance 1, then by a learned weight and bias.

    x (..., d_model), output the same; weight (d_model,) of ones, bias (d_model,) of zeros.

    >>> LayerNorm(2)(np.array([1.0, 3.0])).numpy().round(3)
    array([-1.,  1.])
    """

    def __init__(self, d_model: int, *, eps: float = 1e-5, bias: bool = True, dtype: Any = np.float32) -> None:
        check_sizes("LayerNorm", d_model=d_model)
        check_number("LayerNorm", "eps", eps, 0)
        check_flag("LayerNorm", "bias", bias)
        check_dtype("LayerNorm", dtype)
        self.weight = constant((d_model,), 1.0, dtype)
        self.bias = constant((d_model,), 0.0, dtype) if bias else None
        self.eps = eps

    def forward(self, x: Any) -> Tensor:
        """X (..., d_model) → (..., d_model)."""
        return layer_norm(x, self.weight, self.bias, eps=self.eps)


class RMSNorm(Module):
    """The last axis scaled to mean square 1, then by a learned weight.

    x (..., d_model), output the same; weight (d_model,) of ones.

    >>> RMSNorm(2)(np.array([3.0, -3.0])).numpy().round(3)
    array([ 1., -1.])
    """

    def __init__(self, d_model: int, *, eps: float = 1e-5, dtype: Any = np.float32) -> None:
        check_sizes("RMSNorm", d_model=d_model)
        check_number("RMSNorm", "eps", eps, 0)
        check_dtype("RMSNorm", dtype)
        self.weight = constant((d_model,), 1.0, dtype)
        self.eps = eps

    def forward(self, x: Any) -> Tensor:
        """X (..., d_model) → (..., d_model)."""
        return rms_norm(x, self.weight, eps=self.eps)
