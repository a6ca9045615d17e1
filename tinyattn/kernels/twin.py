"""How a kernel stands beside its rule: it computes what it can, and leaves the rest to the rule."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from tinyattn.rules.multi_head import summed_to
from tinyattn.rules.registry import Array, Gradients, Result

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
PLAIN = frozenset({np.ndarray, np.float32, np.float64})


def twin(rule: Callable[..., Result]) -> Callable[[Callable[..., Result | None]], Callable[..., Result]]:
    """Make a kernel of a function that is fast for NumPy's arrays of one dtype, float32 or float64.

    It's told which gradients are `wanted`, and gives None for those that aren't. For other arrays the rule is called,
    and where the function gives None; and so is the rule's `backward` for gradients that aren't NumPy's: Tensors, or
    many at once. `kernel.trusting` is for who knows already that arrays and gradients are as they should be; it gives
    each gradient in its array's shape, which rules needn't.
    """

    def decorate(fast: Callable[..., Result | None]) -> Callable[..., Result]:
        @functools.wraps(rule)
        def kernel(*arrays: Array, wanted: tuple[bool, ...], **options: Any) -> Result:
            made = fast(*arrays, wanted=wanted, **options) if _are_plain(arrays) else None
            if made is None:
                return rule(*arrays, **options)
            output, gradients_of = made

            def backward(d_output: Array) -> Gradients:
                if type(d_output) not in PLAIN:
                    return rule(*arrays, **options)[1](d_output)
                return gradients_of(d_output)

            return output, backward

        def trusting(*arrays: Array, wanted: tuple[bool, ...], **options: Any) -> Result:
            return fast(*arrays, wanted=wanted, **options) or fitting(arrays, rule(*arrays, **options))

        kernel.trusting = trusting  # type: ignore[attr-defined]
        return kernel

    return decorate


def fitting(arrays: tuple[Array, ...], result: Result) -> Result:
    """A rule's result, whose gradients come in the shapes of the arrays, as a kernel's do."""
    output, gradients_of = result

    def backward(d_output: Array) -> Gradients:
        return tuple(
            [
                summed_to(gradient, x.shape) if type(gradient) is np.ndarray and gradient.shape != x.shape else gradient
                for x, gradient in zip(arrays, gradients_of(d_output), strict=True)
            ]
        )

    return output, backward


def _are_plain(arrays: tuple[Array, ...]) -> bool:
    """Whether all are NumPy's own, and those that aren't whole numbers of the dtype of the first."""
    first = arrays[0]
    if type(first) is not np.ndarray or first.dtype not in FLOATS or not first.size:
        return False
    dtype = first.dtype
    for x in arrays:
        if x is not None and (type(x) is not np.ndarray or (x.dtype is not dtype and x.dtype.kind not in "iu")):
            return False
    return True
