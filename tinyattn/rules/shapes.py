"""Rules that move numbers without changing them. Each backward moves the gradient the way back."""

from __future__ import annotations  # else every call of a rule would evaluate those of its backward

import itertools

import numpy as np

from tinyattn.rules.registry import Array, Axis, Gradients, Result, Shape, rule


@rule(arrays=1)
def reshape(x: Array, shape: Shape) -> Result:
    """The same numbers, in the same order, in another shape. One length may be −1.

    >>> reshape(np.array([1.0, 2.0, 3.0, 4.0]), (2, 2))[0]
    array([[1., 2.],
           [3., 4.]])
    """
    before = x.shape

    def backward(d_output: Array) -> Gradients:
        return (d_output.reshape(before),)

    return x.reshape(shape), backward


@rule(arrays=1)
def transpose(x: Array, axes: tuple[int, ...] | None = None) -> Result:
    """The axes in another order; reversed, if none is given.

    >>> transpose(np.array([[1.0, 2.0, 3.0]]))[0].shape
    (3, 1)
    """

    def backward(d_output: Array) -> Gradients:
        return (np.transpose(d_output, None if axes is None else np.argsort([a % len(axes) for a in axes]).tolist()),)

    return np.transpose(x, axes), backward


@rule(arrays=1)
def swapaxes(x: Array, axis1: int, axis2: int) -> Result:
    """Two axes exchanged.

    >>> swapaxes(np.zeros((2, 3, 5)), 0, -1)[0].shape
    (5, 3, 2)
    """

    def backward(d_output: Array) -> Gradients:
        return (d_output.swapaxes(axis1, axis2),)

    return x.swapaxes(axis1, axis2), backward


@rule(arrays=1)
def expand_dims(x: Array, axis: int | tuple[int, ...]) -> Result:
    """New axes of length 1.

    >>> expand_dims(np.zeros(3), 0)[0].shape
    (1, 3)
    """
    before = x.shape

    def backward(d_output: Array) -> Gradients:
        return (d_output.reshape(before),)

    return np.expand_dims(x, axis), backward


@rule(arrays=1)
def squeeze(x: Array, axis: Axis = None) -> Result:
    """Without the axes of length 1: all of them, or those given.

    >>> squeeze(np.zeros((1, 3, 1)), 0)[0].shape
    (3, 1)
    """
    before = x.shape

    def backward(d_output: Array) -> Gradients:
        return (d_output.reshape(before),)

    return x.squeeze(axis), backward


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

    return np.broadcast_to(x, shape), backward


@rule
def concatenate(*arrays: Array, axis: int = 0) -> Result:
    """Arrays joined along an axis that they have.

    >>> concatenate(np.array([1.0]), np.array([2.0, 3.0]))[0]
    array([1., 2., 3.])
    """
    output = np.concatenate(arrays, axis=axis)
    lengths = [x.shape[axis] for x in arrays]
    edges = [0, *itertools.accumulate(lengths)]

    def backward(d_output: Array) -> Gradients:
        before = (slice(None),) * (axis % d_output.ndim)
        return tuple(d_output[(*before, slice(start, stop))] for start, stop in itertools.pairwise(edges))

    return output, backward


@rule
def stack(*arrays: Array, axis: int = 0) -> Result:
    """Arrays of one shape joined along a new axis.

    >>> stack(np.array([1.0, 2.0]), np.array([3.0, 4.0]), axis=1)[0]
    array([[1., 3.],
           [2., 4.]])
    """

    def backward(d_output: Array) -> Gradients:
        before = (slice(None),) * (axis % d_output.ndim)
        return tuple(d_output[(*before, i)] for i in range(len(arrays)))

    return np.stack(arrays, axis=axis), backward
