"""Rules that reduce axes: sums, means, extremes. The names and the meaning of `axis` and `keepdims` are NumPy's."""

from __future__ import annotations  # else every call of a rule would evaluate those of its backward

import math

import numpy as np

from tinyattn.rules.registry import Array, Axis, Gradients, Result, rule


def restore(reduced: Array, shape: tuple[int, ...], axis: Axis) -> Array:
    """Give what was reduced from `shape` its lost axes back, with length 1, so that the two broadcast again."""
    gone = _axes(shape, axis)
    return reduced.reshape(tuple(1 if i in gone else n for i, n in enumerate(shape)))


def count(shape: tuple[int, ...], axis: Axis) -> int:
    """How many elements of an array of `shape` stand behind one element of its reduction."""
    return math.prod(shape[a] for a in _axes(shape, axis))


def total(x: Array, axis: int) -> Array:
    """The sum along one axis, which is kept.

    Along the last axis it's a product with a vector of ones, several times faster than NumPy's sum of short rows.
    """
    if axis not in (-1, x.ndim - 1):
        return x.sum(axis=axis, keepdims=True)
    return x @ np.ones((x.shape[-1], 1), x.dtype)


def _axes(shape: tuple[int, ...], axis: Axis) -> tuple[int, ...]:
    if axis is None or not shape:  # NumPy reduces a single number along axes 0 and -1, though it has none
        return tuple(range(len(shape)))
    return tuple(a % len(shape) for a in (axis if isinstance(axis, tuple) else (axis,)))


@rule(arrays=1)
def sum(x: Array, axis: Axis = None, *, keepdims: bool = False) -> Result:
    """The sum along the axes.

    y = Σ_i x_i,   ∂y/∂x_i = 1                                       (sum.1)

    >>> sum(np.array([1.0, 2.0, 4.0]))[0].item()
    7.0
    """
    shape = x.shape

    def backward(d_output: Array) -> Gradients:
        return (np.broadcast_to(restore(d_output, shape, axis), shape),)

    return np.sum(x, axis=axis, keepdims=keepdims), backward


@rule(arrays=1)
def mean(x: Array, axis: Axis = None, *, keepdims: bool = False) -> Result:
    """The mean along the axes.

    y = (1/n) Σ_i x_i,   ∂y/∂x_i = 1/n                               (mean.1)

    >>> mean(np.array([1.0, 2.0, 6.0]))[0].item()
    3.0
    """
    shape = x.shape
    output = np.sum(x, axis=axis, keepdims=keepdims)
    n = count(shape, axis)

    def backward(d_output: Array) -> Gradients:
        return (np.broadcast_to(restore(d_output / n, shape, axis), shape),)

    return output / n, backward


@rule(arrays=1)
def var(x: Array, axis: Axis = None, *, ddof: float = 0, keepdims: bool = False) -> Result:
    """The variance along the axes; `ddof` is taken off the divisor.

    y = 1/(n − ddof) Σ_i (x_i − x̄)²                                  (var.1)
    ∂y/∂x_i = 2 (x_i − x̄) / (n − ddof),   since Σ_i (x_i − x̄) = 0    (var.2)

    >>> var(np.array([1.0, 3.0]))[0].item()
    1.0
    """
    sums = np.sum(x, axis=axis, keepdims=True)
    n = count(x.shape, axis)
    centred = x - sums / n

    def backward(d_output: Array) -> Gradients:
        return (2.0 * restore(d_output, x.shape, axis) * centred / (n - ddof),)

    return np.sum(centred * centred, axis=axis, keepdims=keepdims) / (n - ddof), backward


@rule(arrays=1)
def max(x: Array, axis: Axis = None, *, keepdims: bool = False) -> Result:
    """The largest value along the axes.

    y = max_i x_i,   ∂y/∂x_i = [x_i = y] / #{k : x_k = y}            (max.1)

    A tie shares the gradient equally among the winners, so that their order doesn't matter.

    >>> output, backward = max(np.array([3.0, 1.0, 3.0]))
    >>> output.item(), backward(np.array(1.0))[0]
    (3.0, array([0.5, 0. , 0.5]))
    """
    output = np.max(x, axis=axis, keepdims=keepdims)

    def backward(d_output: Array) -> Gradients:
        return (_to_winners(d_output, x, output, axis),)

    return output, backward


@rule(arrays=1)
def min(x: Array, axis: Axis = None, *, keepdims: bool = False) -> Result:
    """The smallest value along the axes.

    y = min_i x_i,   ∂y/∂x_i = [x_i = y] / #{k : x_k = y}            (min.1)

    A tie shares the gradient equally among the winners, so that their order doesn't matter.

    >>> min(np.array([3.0, 1.0, 3.0]))[0].item()
    1.0
    """
    output = np.min(x, axis=axis, keepdims=keepdims)

    def backward(d_output: Array) -> Gradients:
        return (_to_winners(d_output, x, output, axis),)

    return output, backward


def _to_winners(d_output: Array, x: Array, extreme: Array, axis: Axis) -> Array:
    """(max.1), (min.1): the gradient goes to the elements that equal the extreme, in equal shares."""
    wins = x == restore(extreme, x.shape, axis)  # plain booleans, whatever x is: the choice has no gradient of its own
    winners = wins.sum(axis=axis, keepdims=True, dtype=x.dtype)
    return restore(d_output, x.shape, axis) * wins / winners


@rule(arrays=1)
def logsumexp(x: Array, axis: Axis = None, *, keepdims: bool = False) -> Result:
    """The logarithm of a sum of exponentials: a smooth maximum.

    y = log Σ_i exp(x_i)                                             (logsumexp.1)
    ∂y/∂x_i = exp(x_i) / Σ_k exp(x_k),   a softmax                   (logsumexp.2)

    SciPy's `scipy.special.logsumexp`. Where every x_i is −∞, so is y, and its gradient is NaN.

    >>> round(logsumexp(np.array([0.0, 0.0]))[0].item(), 4)  # log 2
    0.6931
    """
    largest = np.max(x, axis=axis, keepdims=True)
    shift = np.where(np.isfinite(largest), largest, 0.0)  # comes out of the logarithm again; keeps exp from overflow
    exp = np.exp(x - shift)
    normalizer = np.sum(exp, axis=axis, keepdims=True)
    with np.errstate(divide="ignore"):  # where every x_i is −∞, log 0 is the answer
        output = np.log(normalizer) + shift

    def backward(d_output: Array) -> Gradients:
        with np.errstate(invalid="ignore"):  # and there it's 0/0
            weights = exp / normalizer
        return (restore(d_output, x.shape, axis) * weights,)

    return output if keepdims else np.squeeze(output, _axes(x.shape, axis)), backward
