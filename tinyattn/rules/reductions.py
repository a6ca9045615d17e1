"""Rules that reduce axes: sums, means, products, extremes, norms.

The names and the meaning of `axis` and `keepdims` are NumPy's.
"""

from __future__ import annotations  # else every call of a rule would evaluate those of its backward

import math
from collections.abc import Callable

import numpy as np

from tinyattn.rules.checks import check_flag, check_number
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
    return x @ np.ones((x.shape[-1], 1), x.dtype, like=x)


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

    Where n ≤ ddof it divides by 0, as NumPy does.

    >>> var(np.array([1.0, 3.0]))[0].item()
    1.0
    """
    check_number("var", "ddof", ddof)
    sums = np.sum(x, axis=axis, keepdims=True)
    n = count(x.shape, axis)
    centred = x - sums / n
    divisor = n - ddof if n > ddof else 0

    def backward(d_output: Array) -> Gradients:
        return (2.0 * restore(d_output, x.shape, axis) * centred / divisor,)

    return np.sum(centred * centred, axis=axis, keepdims=keepdims) / divisor, backward


@rule(arrays=1)
def std(x: Array, axis: Axis = None, *, ddof: float = 0, keepdims: bool = False) -> Result:
    """The standard deviation along the axes, the root of the variance; `ddof` is taken off the divisor.

    y = √v,   v = 1/(n − ddof) Σ_i (x_i − x̄)²                        (std.1)
    ∂y/∂x_i = ∂v/∂x_i / (2 y),   which is taken as 0 where y = 0     (std.2)

    >>> std(np.array([1.0, 5.0]))[0].item()
    2.0
    """
    check_number("std", "ddof", ddof)
    variance, through_variance = var(x, axis, ddof=ddof, keepdims=keepdims)

    def backward(d_output: Array) -> Gradients:
        return through_variance(d_output * _slope_of_root(variance))

    return np.sqrt(variance), backward


def _slope_of_root(square: Array) -> Array:
    """1 / (2 √square), but 0 where that has no value: at 0, with no division by it."""
    zero = square == 0
    return np.where(zero, 0.0, 0.5 / np.sqrt(np.where(zero, 1.0, square)))


@rule(arrays=1)
def prod(x: Array, axis: Axis = None, *, keepdims: bool = False) -> Result:
    """The product along the axes.

    y = Π_i x_i                                                      (prod.1)
    ∂y/∂x_i = Π_{k<i} x_k · Π_{k>i} x_k                              (prod.2)

    Nothing is divided by, so that zeros do no harm. Of no numbers the product is 1.

    >>> output, backward = prod(np.array([2.0, 0.0, 5.0]))
    >>> output.item(), backward(np.array(1.0))[0]
    (0.0, array([ 0., 10.,  0.]))
    """
    shape, gone = x.shape, _axes(x.shape, axis)
    order = [i for i in range(len(shape)) if i not in gone] + list(gone)  # those that stay, then those that go
    back = [order.index(i) for i in range(len(shape))]

    def backward(d_output: Array) -> Gradients:
        moved = x.transpose(order)
        rows = moved.reshape((*moved.shape[: len(order) - len(gone)], count(shape, axis)))
        others = _before(rows) * _before(rows[..., ::-1])[..., ::-1]  # (prod.2)
        return (restore(d_output, shape, axis) * others.reshape(moved.shape).transpose(back),)

    return np.prod(x, axis=axis, keepdims=keepdims), backward


def _before(rows: Array) -> Array:
    """Along the last axis, for each element the product of all that stand before it.

    Products of 1 element, of 2, of 4, ... are joined, so that there are as many steps as n has binary digits.
    """
    products = _later(rows, 1)
    reach = 1
    while reach < rows.shape[-1]:
        products = products * _later(products, reach)
        reach *= 2
    return products


def _later(rows: Array, by: int) -> Array:
    """The rows moved on by some places, with ones in front."""
    return np.concatenate([np.ones_like(rows[..., :by]), rows[..., :-by]], axis=-1)


@rule(arrays=1)
def cumsum(x: Array, axis: int | None = None) -> Result:
    """The sums of everything up to each place along the axis; of the flattened x, if no axis is named.

    y_i = Σ_{k≤i} x_k                                                (cumsum.1)
    d_x_i = Σ_{k≥i} d_y_k                                            (cumsum.2)

    >>> output, backward = cumsum(np.array([1.0, 2.0, 4.0]))
    >>> output, backward(np.array([1.0, 10.0, 100.0]))[0]
    (array([1., 3., 7.]), array([111., 110., 100.]))
    """
    shape = x.shape
    backwards = (slice(None),) * (axis % len(shape) if axis and shape else 0) + (slice(None, None, -1),)

    def backward(d_output: Array) -> Gradients:
        return (np.cumsum(d_output[backwards], axis or 0)[backwards].reshape(shape),)

    return np.cumsum(x, axis), backward


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

    SciPy's `scipy.special.logsumexp`. Where every x_i is −∞, so is y, and its gradient is NaN; of no numbers it's −∞.

    >>> round(logsumexp(np.array([0.0, 0.0]))[0].item(), 4)  # log 2
    0.6931
    """
    check_flag("logsumexp", "keepdims", keepdims)
    nothing = count(x.shape, axis) == 0
    largest = (np.sum if nothing else np.max)(x, axis=axis, keepdims=True)  # nothing has a sum, but no maximum
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


@rule(arrays=1)
def norm(x: Array, ord: float | str | None = None, axis: Axis = None, keepdims: bool = False) -> Result:
    """The length of vectors, or a norm of matrices, as `np.linalg.norm`.

    of a vector, `axis` an integer:      ‖x‖_p = (Σ_i |x_i|^p)^(1/p),   p = 2 unless `ord` says otherwise      (norm.1)
                                         ‖x‖_∞ = max_i |x_i|,   ‖x‖_−∞ = min_i |x_i|      (norm.2)
                                         `ord` 0: how many x_i aren't 0
    of a matrix, `axis` two integers:    Frobenius, `ord` None or "fro": as a vector of all its elements
                                         `ord` ±1: the largest (smallest) ‖column‖_1; ±∞: that of the rows      (norm.3)

    ∂‖x‖_p/∂x_i = sign x_i (|x_i| / ‖x‖_p)^(p−1)                      (norm.4)

    Without `axis`, `ord` None takes all elements as one vector, another `ord` takes x as the vector or the matrix that
    it is. Where a derivative has no value it is taken as 0: that of ‖x‖ at x = 0, and those in an x_i that is 0 for
    p ≤ 1. Ties in (norm.2) and (norm.3) share it equally. `ord` 0 has gradient 0.

    Raises `ValueError` for another `ord` or number of axes. NumPy's ±2 and "nuc" of matrices need singular values,
    which have no rule here.

    >>> output, backward = norm(np.array([3.0, -4.0]))
    >>> output.item(), backward(np.array(1.0))[0]
    (5.0, array([ 0.6, -0.8]))
    """
    check_flag("norm", "keepdims", keepdims)
    axes = _axes_of_norm(x.shape, ord, axis)
    if x.dtype.kind in "biu":
        x = x * 1.0
    if ord is None or ord == ("fro" if len(axes) == 2 else 2):
        return _euclidean_norm(x, axes, keepdims)
    if len(axes) == 2:
        return _matrix_norm(x, ord, axes, keepdims)
    return _vector_norm(x, ord, axes, keepdims)


def _axes_of_norm(shape: tuple[int, ...], ord: float | str | None, axis: Axis) -> tuple[int, ...]:
    """One axis for vectors, two for matrices; all there are, if neither `axis` nor `ord` tells which is meant."""
    everything = tuple(range(len(shape)))
    axes = everything if axis is None else axis if isinstance(axis, tuple) else (axis,)
    if axis is None and ord is None:
        return axes
    if len(axes) not in (1, 2):
        raise ValueError(f"norm: a vector has one axis, a matrix two; got shape {shape} with axis={axis}")
    return axes


def _euclidean_norm(x: Array, axis: Axis, keepdims: bool) -> Result:
    square = np.sum(x * x, axis=axis, keepdims=keepdims)

    def backward(d_output: Array) -> Gradients:
        d_square = d_output * _slope_of_root(square)
        return (2.0 * restore(d_square, x.shape, axis) * x,)

    return np.sqrt(square), backward


def _vector_norm(x: Array, ord: float | str, axis: Axis, keepdims: bool) -> Result:
    if isinstance(ord, str):
        raise ValueError(f"norm: ord of a vector must be a number, inf or -inf; got {ord!r}")
    check_number("norm", "ord", ord)
    size = np.absolute(x)
    if math.isinf(ord):
        output, through_extreme = _extreme(ord)(size, axis, keepdims=keepdims)
        return output, lambda d_output: (through_extreme(d_output)[0] * np.sign(x),)
    if ord == 0:
        return np.sum(np.sign(size), axis=axis, keepdims=keepdims), lambda d_output: (np.zeros_like(x),)
    p = float(ord)  # a NumPy scalar would widen
    powers = np.sum(size**p, axis=axis, keepdims=True)

    def backward(d_output: Array) -> Gradients:
        # with 1 for what has no derivative, and 0 in the end; for p < 0 their sum is ∞ where an element is 0
        live = (size != 0) & (powers != math.inf)
        length = np.where((powers == 0) | (powers == math.inf), 1.0, powers) ** (1 / p)
        share = np.where(live, size, 1.0) / length
        return (restore(d_output, x.shape, axis) * np.where(live, np.sign(x) * share ** (p - 1), 0.0),)  # (norm.4)

    output = powers ** (1 / p)
    return output if keepdims else np.squeeze(output, axis), backward


def _matrix_norm(x: Array, ord: float | str, axes: tuple[int, ...], keepdims: bool) -> Result:
    if ord not in (1, -1, math.inf, -math.inf):
        raise ValueError(
            f"norm: ord of a matrix must be None, 'fro', ±1 or ±inf; got {ord!r}. (2, -2 and 'nuc' need singular"
            " values, which have no rule.) For the norms of vectors, name their axis"
        )
    along = axes[0] if abs(ord) == 1 else axes[1]
    sums, through_sums = _vector_norm(x, 1, along, keepdims=True)
    output, through_extreme = _extreme(ord)(sums, axes, keepdims=keepdims)
    return output, lambda d_output: through_sums(*through_extreme(d_output))


def _extreme(ord: float) -> Callable[..., Result]:
    """What (norm.2) and (norm.3) take: the smallest, or the largest, which of no lengths is 0."""
    if ord < 0:
        return min
    return lambda sizes, axis, keepdims: (max if count(sizes.shape, axis) else sum)(sizes, axis, keepdims=keepdims)
