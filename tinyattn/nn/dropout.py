"""The layer that drops numbers at random."""

from __future__ import annotations  # numpy.random, which they name, is loaded where it's used

from typing import Any

from tinyattn.functions import dropout
from tinyattn.nn.initial import Seed, generator
from tinyattn.nn.module import Module
from tinyattn.rules.checks import check_number
from tinyattn.tensor import Tensor


class Dropout(Module):
    """In training each number is 0 with probability p, and the others are scaled by 1/(1 − p); in evaluation all stay.

    x (...), output the same. Every call draws anew. Raises `ValueError` for p outside 0 … 1.

    >>> import numpy as np
    >>> layer = Dropout(0.5, rng=0)
    >>> layer(np.ones(5)), layer.eval()(np.ones(5))
    (array([2., 0., 0., 0., 2.]), array([1., 1., 1., 1., 1.]))
    """

    def __init__(self, p: float = 0.5, *, rng: Seed = None) -> None:
        """`rng` is a Generator, which layers may share, or a seed."""
        check_number("Dropout", "p", p, 0, 1)
        self.p = p
        self.rng = generator("Dropout", rng)

    def forward(self, x: Any) -> Tensor:
        """X (...) → (...)."""
        return dropout(x, self.p, rng=self.rng, training=self.training)
