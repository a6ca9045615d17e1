"""Bends in few passes: φ(x) in place, and φ′(x) beside it, while x is in the processor's cache."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from tinyattn.kernels.call import LOG2_E, scratch, zeros
from tinyattn.kernels.threads import run
from tinyattn.kernels.twin import twin
from tinyattn.rules import activations
from tinyattn.rules.registry import Array, Backward, Gradients

SHARED = 1 << 17  # from so many numbers on, threads share the work of slow bends
LARGE = 1 << 19  # so many at most are cut into two: fewer would be done sooner than a thread wakes up
QUICK = ("relu",)  # done by one thread sooner than two are told of it

Bend = Callable[[Array, Array, Array], None]
"""Writes φ(x) and φ′(x) for x: the first may be x itself; the second is None where nobody wants it."""


@twin(activations.gelu)
def gelu(x: Array, *, wanted: tuple[bool, ...], approximate: str = "none") -> tuple[Array, Backward] | None:
    """The rule `gelu`; in float64 by the rule itself, unless it's approximate."""
    name = {"none": "gelu", "tanh": "gelu_tanh"}.get(approximate, approximate)
    if not has_bend(name, x):
        return None
    output = np.array(x, order="C")
    slopes = np.empty_like(output) if wanted[0] else None
    bend_all(name, output, slopes)

    def backward(d_output: Array) -> Gradients:
        return (d_output * slopes,)

    return output, backward


def has_bend(name: str, x: Array) -> bool:
    """Whether there is a fast form for numbers of this dtype."""
    return (name, x.dtype) in BENDS


def bend_all(name: str, x: Array, slopes: Array) -> None:
    """Bend all numbers in place, by two threads where there are many. `name` is one of those that `has_bend` knows."""
    bend = BENDS[name, x.dtype]
    flat, flat_slopes = x.reshape(-1), None if slopes is None else slopes.reshape(-1)
    if flat.size < SHARED or name in QUICK:
        _piece(bend, flat, flat_slopes)
        return
    step = -(-flat.size // (2 * -(-flat.size // LARGE)))
    tasks = []
    for start in range(0, flat.size, step):
        piece = slice(start, start + step)
        tasks.append(partial(_piece, bend, flat[piece], None if flat_slopes is None else flat_slopes[piece]))
    run(tasks)


def _piece(bend: Bend, x: Array, slopes: Array) -> None:
    with np.errstate(all="ignore"):  # a setting of the thread
        bend(x, x, slopes)


# ---------------------------------------------------------------------------------------------------- bends


def _relu(x: Array, y: Array, slope: Array) -> None:
    if slope is not None:
        slope[...] = x > 0
    np.maximum(x, zeros(x.size, x.dtype), out=y)  # several times faster than with one 0


def _tanh(x: Array, y: Array, slope: Array) -> None:
    np.tanh(x, out=y)
    if slope is not None:
        np.multiply(y, y, out=slope)
        np.subtract(1, slope, out=slope)


# artanh(2Φ(x) − 1) = x P(x²), fitted for |x| ≤ 6.2 with the weight Φ (1 − Φ) max(x, ½), so that it's Φ that is right:
# to 1e-7, as far as float32 can tell it from 1. P is positive beyond. tests/kernels/test_training.py measures it again.
BELOW = (
    7.97884216e-01, 3.63342835e-02, -3.31299579e-05, -5.52401693e-05, 3.96911094e-06, -1.33446501e-07, 1.80561846e-09
)  # fmt: skip


def _gelu(x: Array, y: Array, slope: Array) -> None:
    """x Φ(x) and Φ(x) + x φ(x), with Φ(x) = ½ (1 + tanh(x P(x²))): (gelu.1), (gelu.2)."""
    squared = np.multiply(x, x, out=scratch("squared", x.shape, x.dtype))
    below = np.multiply(squared, x.dtype.type(BELOW[-1]), out=scratch("below", x.shape, x.dtype))
    for coefficient in BELOW[-2:0:-1]:
        below += x.dtype.type(coefficient)
        below *= squared
    below += x.dtype.type(BELOW[0])
    below *= x
    np.tanh(below, out=below)
    below *= 0.5
    below += 0.5
    if slope is not None:
        squared *= -0.5 * LOG2_E
        squared += -0.5 * math.log2(2 * math.pi)
        np.exp2(squared, out=slope)
        slope *= x
        slope += below
    np.multiply(x, below, out=y)


ROOT = math.sqrt(2 / math.pi)


def _gelu_tanh(x: Array, y: Array, slope: Array) -> None:
    """(gelu.3) to (gelu.5)."""
    squared = np.multiply(x, x, out=scratch("squared", x.shape, x.dtype))
    t = np.multiply(squared, ROOT * 0.044715, out=scratch("t", x.shape, x.dtype))
    t += ROOT
    t *= x
    np.tanh(t, out=t)
    if slope is not None:
        squared *= 3 * ROOT * 0.044715
        squared += ROOT
        squared *= x
        np.multiply(t, t, out=slope)
        np.subtract(1, slope, out=slope)
        slope *= squared
        slope += 1
        slope += t
        slope *= 0.5
    t += 1
    t *= x
    np.multiply(t, 0.5, out=y)


SINGLE, DOUBLE = np.dtype(np.float32), np.dtype(np.float64)
BENDS: dict[tuple[str | None, Any], Bend] = {
    ("gelu", SINGLE): _gelu,
    **{
        (name, dtype): bend
        for name, bend in (("relu", _relu), ("tanh", _tanh), ("gelu_tanh", _gelu_tanh))
        for dtype in (SINGLE, DOUBLE)
    },
}
"""The bends that have a fast form, by name and dtype."""
