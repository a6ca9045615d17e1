"""The rule that drops numbers at random. The choice is made outside, so that each call of the rule makes the same.

For arrays too large to be written down, a choice is two lists of random bits, one for rows and one for columns: whoever
has them can tell for any element whether it's kept, without the others.

    keep_ij = mix(r_i + c_j) ≥ 2³² p                                 (dropout.2)

`mix` scrambles 32 bits, so that whether one element is kept tells nothing of its neighbours.
"""

from __future__ import annotations  # else every call of a rule would evaluate those of its backward

import numpy as np

from tinyattn.rules.registry import Array, Gradients, Result, rule


@rule
def dropout(x: Array, keep: Array, *, p: float) -> Result:
    """Zeros where `keep` is false; elsewhere x, scaled up by what was to be expected to go: E[y] = x if keep is random.

    y = x [keep] / (1 − p),   ∂y/∂x = [keep] / (1 − p)               (dropout.1)

    Srivastava et al. 2014, JMLR 15, section 4; who scale down when the network is used, and not up when it's trained.
    What is dropped gets exactly 0, also where the incoming gradient is NaN.

    >>> dropout(np.array([1.0, 2.0]), np.array([True, False]), p=0.5)[0]
    array([2., 0.])
    """
    scale = 1 / (1 - float(p)) if p < 1 else 1.0  # for p = 1 there is nothing to scale

    def backward(d_output: Array) -> Gradients:
        return np.where(keep, d_output * scale, 0.0), None

    return np.where(keep, x * scale, 0.0), backward


Draw = tuple[Array, Array, float]
"""Random bits for rows (..., n_rows) and columns (n_columns,), and the probability p of being dropped."""


def draw(shape: tuple[int, ...], p: float, rng: np.random.Generator) -> Draw:
    """What decides for each element of an array of `shape`, a matrix or a stack of them, whether it's kept."""
    *rows, n_columns = shape
    return _bits(tuple(rows), rng), _bits((n_columns,), rng), p


def kept(draw: Draw) -> Array:
    """Which elements are kept: (dropout.2).

    >>> keep = kept(draw((100, 100), 0.25, np.random.default_rng(0)))
    >>> round(float(keep.mean()), 2)
    0.75
    """
    rows, columns, p = draw
    return mix(rows[..., None] + columns) >= threshold(p)


def threshold(p: float) -> np.uint32:
    """2³² p, as far as it is one of the numbers that 32 bits can be."""
    return np.uint32(min(round(p * 2**32), 2**32 - 1))


def mix(bits: Array) -> Array:
    """32 bits of which each depends on all of the given ones: `lowbias32`, found by C. Wellons, 2018.

    Multiplications carry what is low up, and shifts bring what is high down.
    """
    for shift, factor in ROUNDS:
        bits = (bits ^ (bits >> np.uint32(shift))) * np.uint32(factor)
    return bits ^ (bits >> np.uint32(LAST_SHIFT))


ROUNDS, LAST_SHIFT = ((16, 0x7FEB352D), (15, 0x846CA68B)), 16


def _bits(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    return rng.integers(0, 2**32, shape, dtype=np.uint32)
