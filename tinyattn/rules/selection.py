"""Rules that select: indexing, and its adjoint, which scatters.

    y = x[key]            reads places of x, a place perhaps more than once        (index.1)
    x = scatter(y, key)   adds every number of y to the place it was read from     (scatter.1)

Each is the other's backward, so that the two differentiate one another to any order.
"""

from __future__ import annotations  # else every call of a rule would evaluate those of its backward

from typing import Any

import numpy as np

from tinyattn.rules.registry import Array, Gradients, Result, numpy_like, rule


@rule
def index(x: Array, *, key: Any) -> Result:
    """The elements that a key selects, as NumPy's `x[key]`: slices, integers, None, Ellipsis, masks, integer arrays.

    >>> output, backward = index(np.array([1.0, 2.0, 3.0]), key=np.array([2, 2, 0]))
    >>> output, backward(np.array([1.0, 1.0, 1.0]))[0]
    (array([3., 3., 1.]), array([1., 0., 2.]))
    """
    shape = x.shape

    def backward(d_output: Array) -> Gradients:
        return (_fill(d_output, key, shape),)

    return x[key], backward


@rule
def scatter(x: Array, *, key: Any, shape: tuple[int, ...]) -> Result:
    """Zeros of `shape` with x added at the places that `key` selects; places named twice collect twice.

    >>> scatter(np.array([1.0, 2.0, 4.0]), key=np.array([2, 2, 0]), shape=(3,))[0]
    array([4., 0., 3.])
    """

    def backward(d_output: Array) -> Gradients:
        return (d_output[key],)

    return _fill(x, key, shape), backward


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
    if ids.dtype.kind not in "iu":
        raise TypeError(f"embedding: ids must be integers; got {ids.dtype}")
    shape = weight.shape
    if ids.size and not (0 <= ids.min() and ids.max() < shape[0]):
        raise ValueError(f"embedding: ids must lie in 0 … {shape[0] - 1}; got {ids.min()} … {ids.max()}")

    def backward(d_output: Array) -> Gradients:
        return _fill(d_output, ids, shape), None  # (embedding.2)

    return weight[ids], backward


@numpy_like("scatter")
def _fill(x: Array, key: Any, shape: tuple[int, ...]) -> Array:
    """What `scatter` computes, as a function that NumPy might have had: the one place where a rule fills an array."""
    if isinstance(key, np.ndarray) and key.dtype.kind in "iu":
        return _sum_rows(x, key, shape)
    total = np.zeros(shape, x.dtype)
    if _may_repeat(key):
        np.add.at(total, key, x)
    else:
        total[key] = x
    return total


def _may_repeat(key: Any) -> bool:
    """Whether a key may name a place twice: only arrays (or lists) of integers can."""
    parts = key if isinstance(key, tuple) else (key,)
    return any(np.ndim(part) and np.asarray(part).dtype.kind in "iu" for part in parts)


def _sum_rows(x: Array, rows: Array, shape: tuple[int, ...]) -> Array:
    """Add x[n] to row rows[n]: sorted first, so that each row is one run. Several times faster than `np.add.at`."""
    total = np.zeros(shape, x.dtype)
    if rows.size == 0:
        return total
    flat = rows.reshape(-1) % shape[0]
    order = np.argsort(flat, kind="stable")
    flat = flat[order]
    starts = np.flatnonzero(np.concatenate(([True], flat[1:] != flat[:-1])))
    total[flat[starts]] = np.add.reduceat(x.reshape(rows.size, *shape[1:])[order], starts, axis=0)
    return total
