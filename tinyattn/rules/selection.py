"""Rules that select: indexing, and its adjoint, which scatters.

    y = x[key]            reads places of x, a place perhaps more than once        (index.1)
    x = scatter(y, key)   adds every number of y to the place it was read from     (scatter.1)

Each is the other's backward, so that the two differentiate one another to any order. The other rules here find a key,
and leave the rest to `index`.
"""

from __future__ import annotations  # else every call of a rule would evaluate those of its backward

from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from tinyattn.rules.checks import check_whole
from tinyattn.rules.registry import Array, Gradients, Result, alike, numpy_like, rule


@rule
def index(x: Array, *, key: Any) -> Result:
    """The elements that a key selects, as NumPy's `x[key]`: slices, integers, None, Ellipsis, masks, integer arrays.

    Raises `IndexError` where the key reaches past the array.

    >>> output, backward = index(np.array([1.0, 2.0, 3.0]), key=np.array([2, 2, 0]))
    >>> output, backward(np.array([1.0, 1.0, 1.0]))[0]
    (array([3., 3., 1.]), array([1., 0., 2.]))
    """
    shape = x.shape

    def backward(d_output: Array) -> Gradients:
        return (fill(d_output, key, shape),)

    try:
        return x[key], backward
    except IndexError as error:
        raise IndexError(f"index: {error}; the array has shape {shape}") from None


@rule(arrays=1)
def scatter(x: Array, key: Any, shape: tuple[int, ...]) -> Result:
    """Zeros of `shape` with x added at the places that `key` selects; places named twice collect twice.

    >>> scatter(np.array([1.0, 2.0, 4.0]), key=np.array([2, 2, 0]), shape=(3,))[0]
    array([4., 0., 3.])
    """

    def backward(d_output: Array) -> Gradients:
        return (d_output[key],)

    return fill(x, key, shape), backward


@rule
def embedding(weight: Array, ids: Array) -> Result:
    """The row of `weight` for each id.

    y_n = W[i_n]                                                     (embedding.1)
    d_W[v] = Σ_{n : i_n = v} d_y_n                                   (embedding.2)

    weight (vocab_size, d_model), ids (...) of integers, output (..., d_model). Raises `TypeError` for ids that aren't
    integers, `ValueError` for one past the vocabulary or below 0: here they don't count from the end.

    >>> embedding(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([1, 0]))[0]
    array([[3., 4.],
           [1., 2.]])
    """
    if not ids.size:
        ids = ids.astype(np.intp)  # an empty list is one of floats
    if ids.dtype.kind not in "iu":
        raise TypeError(f"embedding: ids must be integers; got {ids.dtype}")
    shape = weight.shape
    if len(shape) != 2:
        raise ValueError(f"embedding: weight must be (vocab_size, d_model); got {shape}")
    if ids.size and not (0 <= ids.min() and ids.max() < shape[0]):
        raise ValueError(f"embedding: ids must lie in 0 … {shape[0] - 1}; got {ids.min()} … {ids.max()}")

    def backward(d_output: Array) -> Gradients:
        return fill(d_output, ids, shape), None  # (embedding.2)

    return weight[ids], backward


@rule(arrays=1)
def take(x: Array, indices: Any, axis: int | None = None, *, mode: str = "raise") -> Result:
    """The elements at these places along an axis; of all numbers in a line, if it is None.

    y_k = x_(i_k),   d_x_j = Σ_{k : i_k = j} d_y_k                   (take.1)

    The axes of the indices stand where the axis was. Raises `TypeError` for indices that aren't integers, `IndexError`
    for one past the end: of NumPy's modes there is "raise" only.

    >>> take(np.array([1.0, 2.0, 4.0]), [2, 2, 0])[0]
    array([4., 4., 1.])
    """
    if mode != "raise":
        raise ValueError(f"take: mode can be 'raise' only; got {mode!r}. Bring the indices into range first")
    return _read(x, _integers("take", indices, x, axis), axis)


@rule(arrays=1)
def take_along_axis(x: Array, indices: Any, axis: int | None = -1) -> Result:
    """The elements at these places of each line along an axis: where `argsort` and `argmax` point.

    y_ak = x_(a, i_ak),   d_x_aj = Σ_{k : i_ak = j} d_y_ak           (take_along_axis.1)

    x and the indices have equally many axes, and broadcast along all but this one; if it is None, x is one line. Raises
    `TypeError` for indices that aren't integers, `IndexError` for one past the end. (PyTorch's `gather`, which doesn't
    broadcast.)

    >>> take_along_axis(np.array([[1.0, 2.0], [3.0, 4.0]]), [[1], [0]], 1)[0]
    array([[2.],
           [3.]])
    """
    indices = _integers("take_along_axis", indices, x, axis)
    _check_lines(x, indices, axis)
    return _read_lines(x, indices, axis)


@rule(arrays=1)
def sort(x: Array, axis: int | None = -1, kind: str | None = None) -> Result:
    """The elements of each line along an axis in rising order; all numbers as one line, if it is None.

    y_k = x_(i_k) ≤ y_(k+1),   d_x_(i_k) = d_y_k                     (sort.1)

    Equal ones keep the order in which they stood, whatever `kind` says, and each gets the gradient of its new place.
    NaN comes last.

    >>> output, backward = sort(np.array([3.0, 1.0, 3.0]))
    >>> output, backward(np.array([10.0, 20.0, 30.0]))[0]
    (array([1., 3., 3.]), array([20., 10., 30.]))
    """
    return _read_lines(x, np.argsort(x, axis=axis, kind="stable"), axis)


@rule(arrays=1)
def repeat(x: Array, repeats: Any, axis: int | None = None) -> Result:
    """Each element as often as `repeats` says, along an axis; of all numbers in a line, if it is None.

    y = x_1, x_1, …, x_2, x_2, …,   d_x_j = the sum over all copies of x_j       (repeat.1)

    Raises `TypeError` for repeats that aren't whole, `ValueError` unless there is one for all places, or one for each.

    >>> repeat(np.array([1.0, 2.0]), [3, 1])[0]
    array([1., 1., 1., 2.])
    """
    check_whole("repeat", "repeats", repeats)
    n = _length(x, axis)
    if np.ndim(repeats) > 1 or np.size(repeats) not in (1, n) or np.min(repeats, initial=0) < 0:
        raise ValueError(f"repeat: repeats must be 0 or more, one for each of {n} places; got {repeats}")
    return _read(x, np.repeat(np.arange(n), repeats), axis)


@rule(arrays=1)
def diagonal(x: Array, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Result:
    """The elements whose places along two axes are `offset` apart, on a new last axis.

    y_ak = x_(a, k, k + offset),   d_x_(a, i, j) = d_y_ai [j = i + offset],   and likewise below 0       (diagonal.1)

    Raises `ValueError` where there aren't two axes.

    >>> diagonal(np.array([[1.0, 2.0], [3.0, 4.0]]), 1)[0]
    array([2.])
    """
    if x.ndim < 2 or axis1 % x.ndim == axis2 % x.ndim:
        raise ValueError(f"diagonal: needs two axes; got {axis1} and {axis2} of shape {x.shape}")
    return _read(x, np.diagonal(np.arange(x.size).reshape(x.shape), offset, axis1, axis2), None)


def _read(x: Array, places: Array, axis: int | None) -> Result:
    """The elements at these places along an axis; of all numbers in a line, if it is None."""
    if axis is not None and x.ndim:
        return index(x, key=(slice(None),) * normalize_axis_index(axis, x.ndim) + (alike(places, x),))
    output, index_backward = index(x.reshape(-1), key=alike(places, x))

    def backward(d_output: Array) -> Gradients:
        return (index_backward(d_output)[0].reshape(x.shape),)

    return output, backward


def _read_lines(x: Array, places: Array, axis: int | None) -> Result:
    """The elements at these places of each line along an axis; of all numbers as one line, if it is None."""
    if axis is None:
        return _read(x, places, None)
    key = [alike(along, x) for along in np.ix_(*map(np.arange, x.shape))]  # every place of x
    key[normalize_axis_index(axis, x.ndim)] = alike(places, x)
    return index(x, key=tuple(key))


def _check_lines(x: Array, indices: Array, axis: int | None) -> None:
    got = f"got indices {indices.shape}, x {x.shape} and axis {axis}"
    if indices.ndim != (1 if axis is None else x.ndim):
        raise ValueError(f"take_along_axis: indices need as many axes as x, and one if axis is None; {got}")
    others = [] if axis is None else [i for i in range(x.ndim) if i != axis % x.ndim]
    if any(indices.shape[i] != x.shape[i] and 1 not in (indices.shape[i], x.shape[i]) for i in others):
        raise ValueError(f"take_along_axis: indices must broadcast with x along all axes but that one; {got}")


def _length(x: Array, axis: int | None) -> int:
    """How many places there are along that axis; in all, if it is None. A single number counts as a line."""
    shape = (x.size,) if axis is None or not x.ndim else x.shape
    length: int = shape[normalize_axis_index(axis or 0, len(shape))]
    return length


def _integers(name: str, indices: Any, x: Array, axis: int | None) -> Array:
    """The indices as an array, once they are known to be places along that axis of x."""
    indices = alike(indices if np.size(indices) else np.zeros(np.shape(indices), int), x)
    if indices.dtype.kind not in "iu":
        raise TypeError(f"{name}: indices must be integers; got {indices.dtype}")
    n = _length(x, axis)
    if indices.size and not (-n <= indices.min() and indices.max() < n):
        along = "" if axis is None else f" along axis {axis}"
        given = f"{indices.min()} … {indices.max()}"
        raise IndexError(f"{name}: an array of shape {x.shape} has {n} places{along}; got indices {given}")
    return indices


@numpy_like("scatter")
def fill(x: Array, key: Any, shape: tuple[int, ...]) -> Array:
    """What `scatter` computes, as a function that NumPy might have had: the one place where a rule fills an array."""
    if isinstance(key, tuple) and len(key) == 1:
        key = key[0]
    if isinstance(key, np.ndarray) and key.dtype.kind in "iu":
        return _sum_rows(x, key, shape)
    total = alike(np.zeros(shape, x.dtype), x)
    if _may_repeat(key):
        np.add.at(total, key, x)
    else:
        total[key] = x
    return total


def _may_repeat(key: Any) -> bool:
    """Whether a key may name a place twice: only arrays (or lists) of integers can."""
    parts = [x for x in (key if isinstance(key, tuple) else (key,)) if not isinstance(x, slice | int | None)]
    arrays = (part if hasattr(part, "dtype") else np.asarray(part) for part in parts if np.ndim(part))
    return any(array.dtype.kind in "iu" for array in arrays)


def _sum_rows(x: Array, rows: Array, shape: tuple[int, ...]) -> Array:
    """Add x[n] to row rows[n]: sorted first, so that each row is one run. Several times faster than `np.add.at`."""
    total = np.zeros(shape, x.dtype)
    if rows.size == 0:
        return total
    flat = rows.reshape(-1).astype(np.intp) % shape[0]  # small integers can't count many rows
    order = np.argsort(flat, kind="stable")
    flat = flat[order]
    starts = np.flatnonzero(np.concatenate(([True], flat[1:] != flat[:-1])))
    total[flat[starts]] = np.add.reduceat(x.reshape(rows.size, *shape[1:])[order], starts, axis=0)
    return total
