"""How parameters start."""

from __future__ import annotations  # numpy.random, which they name, is loaded where it's used

from typing import Any, TypeAlias

import numpy as np

from tinyattn.nodes import FLOATS
from tinyattn.tensor import Tensor

Seed: TypeAlias = "np.random.Generator | int | None"


def check_sizes(layer: str, **sizes: int) -> None:
    """Raise `TypeError` for a size that isn't a whole number, `ValueError` for one below 1."""
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int | np.integer):
            raise TypeError(f"{layer}: {name} must be a whole number; got {size!r}")
        if size < 1:
            raise ValueError(f"{layer}: {name} must be 1 or more; got {size}")


def check_dtype(layer: str, dtype: Any) -> None:
    """Raise `TypeError` for a dtype that has no gradients."""
    try:
        fine = np.dtype(dtype) in FLOATS
    except TypeError:
        fine = False
    if not fine:
        raise TypeError(f"{layer}: dtype must be float32 or float64; got {dtype!r}")


def check_layer(name: str, option: str, layer: Any) -> None:
    """Raise `TypeError` for what can't be called."""
    if not callable(layer):
        raise TypeError(f"{name}: {option} must be a layer or a function; got {type(layer).__name__}")


def generator(layer: str, rng: Seed) -> np.random.Generator:
    """The generator, or one that starts from the seed."""
    try:
        return np.random.default_rng(rng)
    except (TypeError, ValueError):
        raise TypeError(f"{layer}: rng must be a numpy.random.Generator, or a seed; got {rng!r}") from None


def uniform(rng: np.random.Generator, shape: tuple[int, ...], bound: float, dtype: Any) -> Tensor:
    """A parameter uniform in ±bound."""
    return Tensor(rng.uniform(-bound, bound, shape).astype(dtype), requires_grad=True)


def normal(rng: np.random.Generator, shape: tuple[int, ...], std: float, dtype: Any) -> Tensor:
    """A parameter normal around 0 with standard deviation `std`."""
    return Tensor(rng.normal(0.0, std, shape).astype(dtype), requires_grad=True)


def constant(shape: tuple[int, ...], value: float, dtype: Any) -> Tensor:
    """A parameter that is the same everywhere."""
    return Tensor(np.full(shape, value, dtype), requires_grad=True)
