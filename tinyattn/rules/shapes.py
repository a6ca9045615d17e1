"""Rules that move numbers without changing them. Each backward moves the gradient the way back."""

from __future__ import annotations  # else every call of a rule would evaluate those of its backward

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinyattn.rules.checks import check_number, check_whole
from tinyattn.rules.registry import Array, Axis, Gradients, Result, Shape, rule


@rule(arrays=1)
def reshape(x: Array, shape: Shape) -> Result:
    """The same numbers, in the same order, in another shape. One length may be −1: as long as it takes.

    y_n = x_n,   d_x_n = d_y_n        for the n-th number of all     (reshape.1)

    Raises `ValueError` for a shape with another number of places.

    >>> reshape(np.array([1.0, 2.0, 3.0, 4.0]), (2, 2))[0]
    array([[1., 2.],
           [3., 4.]])
    """
    before = x.shape

    def backward(d_output: Array) -> Gradients:
        return (d_output.reshape(before),)

    try:
        return x.reshape(shape), backward
    except ValueError:
        n = math.prod(before)
        raise ValueError(f"reshape: {n} numbers, of shape {before}, don't fit into shape {shape}") from None


@rule
def ravel(x: Array) -> Result:
    """The same numbers, in the same order, in a line.

    y_n = x_n,   d_x_n = d_y_n        for the n-th number of all     (ravel.1)

    >>> ravel(np.array([[1.0, 2.0], [3.0, 4.0]]))[0]
    array([1., 2., 3., 4.])
    """
    return reshape(x, (-1,))


@rule(arrays=1)
def transpose(x: Array, axes: tuple[int, ...] | None = None) -> Result:
    """The axes in another order; reversed, if none is given. Raises `ValueError` unless each is named once.

    y_ij = x_ji,   d_x_ji = d_y_ij                                   (transpose.1)

    >>> transpose(np.array([[1.0, 2.0, 3.0]]))[0].shape
    (3, 1)
    """

    def backward(d_output: Array) -> Gradients:
        return (np.transpose(d_output, None if axes is None else np.argsort([a % len(axes) for a in axes]).tolist()),)

    try:
        return np.transpose(x, axes), backward
    except ValueError:
        raise ValueError(f"transpose: axes {axes} must name each axis of shape {x.shape} once") from None


@rule(arrays=1)
def moveaxis(x: Array, source: int | Sequence[int], destination: int | Sequence[int]) -> Result:
    """Some axes moved to new places; the others stay in order. Raises `ValueError` unless each has a place of its own.

    y_jki = x_ijk,   d_x_ijk = d_y_jki        for axis 0 moved to −1 (moveaxis.1)

    >>> moveaxis(np.zeros((2, 3, 5)), 0, -1)[0].shape
    (3, 5, 2)
    """

    def backward(d_output: Array) -> Gradients:
        return (np.moveaxis(d_output, destination, source),)

    try:
        return np.moveaxis(x, source, destination), backward
    except np.exceptions.AxisError:
        raise
    except ValueError:
        raise ValueError(f"moveaxis: needs a place for each axis; got axes {source} to go to {destination}") from None


@rule(arrays=1)
def swapaxes(x: Array, axis1: int, axis2: int) -> Result:
    """Two axes exchanged.

    y_ji = x_ij,   d_x_ij = d_y_ji                                   (swapaxes.1)

    >>> swapaxes(np.zeros((2, 3, 5)), 0, -1)[0].shape
    (5, 3, 2)
    """

    def backward(d_output: Array) -> Gradients:
        return (d_output.swapaxes(axis1, axis2),)

    return x.swapaxes(axis1, axis2), backward


@rule(arrays=1)
def expand_dims(x: Array, axis: int | tuple[int, ...]) -> Result:
    """New axes of length 1.

    y_1i = x_i,   d_x_i = d_y_1i                                     (expand_dims.1)

    >>> expand_dims(np.zeros(3), 0)[0].shape
    (1, 3)
    """
    before = x.shape

    def backward(d_output: Array) -> Gradients:
        return (d_output.reshape(before),)

    try:
        return np.expand_dims(x, axis), backward
    except np.exceptions.AxisError:
        raise
    except ValueError:
        raise ValueError(f"expand_dims: axis {axis} names an axis twice") from None


@rule(arrays=1)
def squeeze(x: Array, axis: Axis = None) -> Result:
    """Without the axes of length 1: all of them, or those given. Raises `ValueError` for one that is longer.

    y_i = x_1i,   d_x_1i = d_y_i                                     (squeeze.1)

    >>> squeeze(np.zeros((1, 3, 1)), 0)[0].shape
    (3, 1)
    """
    before = x.shape

    def backward(d_output: Array) -> Gradients:
        return (d_output.reshape(before),)

    try:
        return x.squeeze(axis), backward
    except np.exceptions.AxisError:
        raise
    except ValueError:
        raise ValueError(f"squeeze: only axes of length 1 can go; got axis {axis} of shape {before}") from None


@rule(arrays=1)
def broadcast_to(x: Array, shape: Shape) -> Result:
    """The array repeated to fill a larger shape, without a copy.

    y_ij = x_j,   d_x_j = Σ_i d_y_ij                                 (broadcast_to.1)

    The sum is the engine's to take, as for every rule whose operands broadcast.

    >>> broadcast_to(np.array([1.0, 2.0]), (2, 2))[0]
    array([[1., 2.],
           [1., 2.]])
    """

    def backward(d_output: Array) -> Gradients:
        return (d_output,)

    try:
        return np.broadcast_to(x, shape), backward
    except ValueError as error:
        raise ValueError(f"broadcast_to: {x.shape} can't be repeated to fill {shape}: {error}") from None


@rule
def concatenate(*arrays: Array, axis: int | None = 0) -> Result:
    """Arrays joined along an axis that they have; if it is None, all their numbers in a line.

    y = x, x', …,   d_x, d_x', … = the pieces of d_y                 (concatenate.1)

    >>> concatenate(np.array([1.0]), np.array([2.0, 3.0]))[0]
    array([1., 2., 3.])
    """
    check_arrays("concatenate: arrays", arrays)
    shapes = [np.shape(x) for x in arrays]
    if axis is not None:
        _check_joined(shapes, axis)
    output = np.concatenate(arrays, axis=axis)
    lengths = [math.prod(shape) if axis is None else shape[axis] for shape in shapes]

    def backward(d_output: Array) -> Gradients:
        before = (slice(None),) * ((axis or 0) % d_output.ndim)
        edges = itertools.pairwise([0, *itertools.accumulate(lengths)])
        pieces = (d_output[(*before, slice(start, stop))] for start, stop in edges)
        return tuple(piece.reshape(shape) for piece, shape in zip(pieces, shapes, strict=True))

    return output, backward


@rule
def stack(*arrays: Array, axis: int = 0) -> Result:
    """Arrays of one shape (`ValueError` otherwise) joined along a new axis.

    y_1 = x, y_2 = x', …,   d_x = d_y_1, d_x' = d_y_2, …             (stack.1)

    >>> stack(np.array([1.0, 2.0]), np.array([3.0, 4.0]), axis=1)[0]
    array([[1., 3.],
           [2., 4.]])
    """
    check_arrays("stack: arrays", arrays)
    if len({np.shape(x) for x in arrays}) > 1:
        raise ValueError(f"stack: arrays must have one shape; got {', '.join(str(np.shape(x)) for x in arrays)}")

    def backward(d_output: Array) -> Gradients:
        before = (slice(None),) * (axis % d_output.ndim)
        return tuple(d_output[(*before, i)] for i in range(len(arrays)))

    return np.stack(arrays, axis=axis), backward


@rule(arrays=1)
def flip(x: Array, axis: Axis = None) -> Result:
    """The order reversed along the axes, all of them if none is given.

    y_i = x_(n+1−i),   d_x_i = d_y_(n+1−i)        for i = 1 … n      (flip.1)

    >>> flip(np.array([1.0, 2.0, 3.0]))[0]
    array([3., 2., 1.])
    """

    def backward(d_output: Array) -> Gradients:
        return (np.flip(d_output, axis),)

    return np.flip(x, axis), backward


@rule(arrays=1)
def roll(x: Array, shift: Shape, axis: Axis = None) -> Result:
    """The elements moved on along an axis by `shift` places, those at the end to the start; as one line, if it is None.

    y_(i+s mod n) = x_i,   d_x_i = d_y_(i+s mod n)                   (roll.1)

    >>> roll(np.array([1.0, 2.0, 3.0]), 1)[0]
    array([3., 1., 2.])
    """

    def backward(d_output: Array) -> Gradients:
        return (np.roll(d_output, tuple(-n for n in shift) if isinstance(shift, tuple | list) else -shift, axis),)

    check_whole("roll", "shift", shift)
    return np.roll(x, shift, axis), backward


@rule(arrays=1)
def pad(x: Array, pad_width: Any, mode: str = "constant", *, constant_values: float = 0) -> Result:
    """A margin of one number around the array; on the way back it's cut off.

    y = c, x, c,   d_x = d_y without its margins                     (pad.1)

    `pad_width` is one number for all margins, a pair for those before and after on every axis, or a pair for each axis.
    Of NumPy's modes there is "constant" only.

    >>> pad(np.array([1.0, 2.0]), (0, 1), constant_values=7)[0]
    array([1., 2., 7.])
    """
    if mode != "constant":
        raise ValueError(f"pad: mode can be 'constant' only; got {mode!r}")
    if np.ndim(constant_values):
        raise TypeError(f"pad: constant_values must be one number for all margins; got {constant_values!r}")
    check_number("pad", "constant_values", constant_values)
    margins = _margins(pad_width, x.ndim)
    inside = tuple(slice(start, start + n) for start, n in zip(margins[:, 0].tolist(), x.shape, strict=True))

    def backward(d_output: Array) -> Gradients:
        return (d_output[inside],)

    return np.pad(x, margins.tolist() if x.ndim else 0, constant_values=constant_values), backward


@rule(arrays=1)
def tile(x: Array, reps: Shape) -> Result:
    """Copies of the array side by side, `reps` times along each axis, counted from the last one.

    y = x x x …,   d_x = the sum over the copies                     (tile.1)

    >>> tile(np.array([1.0, 2.0]), (2, 2))[0]
    array([[1., 2., 1., 2.],
           [1., 2., 1., 2.]])
    """
    check_whole("tile", "reps", reps)
    times = tuple(np.atleast_1d(reps).tolist())
    if any(n < 0 for n in times):
        raise ValueError(f"tile: reps must be 0 or more; got {reps!r}")
    ndim = max(x.ndim, len(times))
    pairs = zip((1,) * (ndim - len(times)) + times, (1,) * (ndim - x.ndim) + x.shape, strict=True)
    split = tuple(itertools.chain.from_iterable(pairs))  # an axis for the copies before each axis of x

    def backward(d_output: Array) -> Gradients:
        return (d_output.reshape(split).sum(axis=tuple(range(0, 2 * ndim, 2))).reshape(x.shape),)

    return np.tile(x, times), backward


@rule(arrays=1)
def tril(x: Array, k: int = 0) -> Result:
    """Each matrix with zeros above its k-th diagonal, counted upward from the main one.

    y_ij = x_ij [j ≤ i + k],   d_x_ij = d_y_ij [j ≤ i + k]           (tril.1)

    >>> tril(np.array([[1.0, 2.0], [3.0, 4.0]]))[0]
    array([[1., 0.],
           [3., 4.]])
    """
    _check_matrices("tril", x, k)

    def backward(d_output: Array) -> Gradients:
        return (np.tril(d_output, k),)

    return np.tril(x, k), backward


@rule(arrays=1)
def triu(x: Array, k: int = 0) -> Result:
    """Each matrix with zeros below its k-th diagonal, counted upward from the main one.

    y_ij = x_ij [j ≥ i + k],   d_x_ij = d_y_ij [j ≥ i + k]           (triu.1)

    >>> triu(np.array([[1.0, 2.0], [3.0, 4.0]]))[0]
    array([[1., 2.],
           [0., 4.]])
    """
    _check_matrices("triu", x, k)

    def backward(d_output: Array) -> Gradients:
        return (np.triu(d_output, k),)

    return np.triu(x, k), backward


def check_arrays(named: str, arrays: Sequence[Array]) -> None:
    """Raise `TypeError` where None stands among the arrays, `ValueError` where there are none."""
    if not arrays:
        raise ValueError(f"{named}: needs one at least; got none")
    for place, x in enumerate(arrays):
        if x is None:
            raise TypeError(f"{named}[{place}] needs an array; got None")


def _check_matrices(name: str, x: Array, k: int) -> None:
    check_whole(name, "k", k)
    if x.ndim == 0:  # (of a vector NumPy makes a matrix first, of equal rows)
        raise ValueError(f"{name}: needs a matrix, or a stack of them; got a single number")


def _check_joined(shapes: Sequence[tuple[int, ...]], axis: int) -> None:
    got = ", ".join(map(str, shapes))
    if () in shapes:
        raise ValueError(f"concatenate: arrays need an axis to be joined along; got {got}. To join numbers, use stack")
    others = {shape[:axis] + shape[axis:][1:] for shape in shapes}
    if len({len(shape) for shape in shapes}) > 1 or (-len(shapes[0]) <= axis < len(shapes[0]) and len(others) > 1):
        raise ValueError(f"concatenate: shapes must be the same but for axis {axis}; got {got}")


def _margins(pad_width: Any, ndim: int) -> Array:
    """How wide it is before and after the array, for each axis, (ndim, 2)."""
    widths = np.asarray(pad_width)
    if widths.dtype.kind not in "iu":
        raise TypeError(f"pad: pad_width must be whole numbers; got {pad_width!r}")
    try:
        margins = np.broadcast_to(widths, (ndim, 2))
    except ValueError:
        raise ValueError(f"pad: pad_width needs a pair for each of {ndim} axes; got {pad_width!r}") from None
    if (margins < 0).any():
        raise ValueError(f"pad: pad_width can't be below 0; got {pad_width!r}. To cut off, use slices")
    return margins
