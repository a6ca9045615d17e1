"""Layers that are one table of numbers: a matrix to multiply by, or rows to look up."""

from __future__ import annotations  # numpy.random, which they name, is loaded where it's used

from typing import Any

import numpy as np

from tinyattn.functions import embedding, linear
from tinyattn.nn.initial import Seed, check_dtype, check_sizes, generator, normal, uniform
from tinyattn.nn.module import Module
from tinyattn.rules.checks import check_flag, check_number
from tinyattn.rules.products import check_activation
from tinyattn.tensor import Tensor


class Linear(Module):
    """A matrix applied to the last axis, and a bias added: y = x W + b; bent, if an activation is named, to φ(x W + b).

    x (..., d_in), output (..., d_out); weight (d_in, d_out), which is PyTorch's transposed. Both start uniform in
    ±1/√d_in, as in PyTorch. `activation` is one of those of the rule `linear`, "relu" or "gelu" say.

    >>> Linear(3, 2, rng=0)(np.zeros((5, 3))).shape
    (5, 2)
    """

    def __init__(
        self,
        d_in: int,
        d_out: int,
        *,
        bias: bool = True,
        activation: str | None = None,
        rng: Seed = None,
        dtype: Any = np.float32,
    ) -> None:
        """`rng` is a Generator or a seed; without one, every layer starts from its own random numbers."""
        check_sizes("Linear", d_in=d_in, d_out=d_out)
        check_flag("Linear", "bias", bias)
        check_activation("Linear", activation)
        check_dtype("Linear", dtype)
        rng = generator("Linear", rng)
        self.weight = uniform(rng, (d_in, d_out), d_in**-0.5, dtype)
        self.bias = uniform(rng, (d_out,), d_in**-0.5, dtype) if bias else None
        self.activation = activation

    def forward(self, x: Any) -> Tensor:
        """X (..., d_in) → (..., d_out)."""
        if self.activation is None:
            return linear(x, self.weight, self.bias)
        return linear(x, self.weight, self.bias, activation=self.activation)


class Embedding(Module):
    """A row of learned numbers for each id.

    ids (...) of integers in 0 … vocab_size − 1, output (..., d_model); weight (vocab_size, d_model), which starts
    normal with standard deviation `std`.

    >>> Embedding(7, 3, rng=0)([[1, 2], [3, 4]]).shape
    (2, 2, 3)
    """

    def __init__(
        self, vocab_size: int, d_model: int, *, std: float = 1.0, rng: Seed = None, dtype: Any = np.float32
    ) -> None:
        """`rng` is a Generator or a seed."""
        check_sizes("Embedding", vocab_size=vocab_size, d_model=d_model)
        check_number("Embedding", "std", std, 0)
        check_dtype("Embedding", dtype)
        self.weight = normal(generator("Embedding", rng), (vocab_size, d_model), std, dtype)

    def forward(self, ids: Any) -> Tensor:
        """ids (...) → (..., d_model)."""
        return embedding(self.weight, ids)
