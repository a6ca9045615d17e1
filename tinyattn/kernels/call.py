"""What a kernel of attention is called with, made ready; and memory that is used again."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from tinyattn.rules.dropout import LAST_SHIFT, ROUNDS, Draw, threshold
from tinyattn.rules.registry import Array

LOG2_E = math.log2(math.e)

Head = tuple[int, ...]


class Limits(NamedTuple):
    """How far exponents of 2 may go in a dtype."""

    easy: float  # sums of 2^±easy are far from overflow
    low: float  # 2^low is nothing beside 1, and not yet denormal, which would be slow
    value: float  # what may be multiplied with 2^easy


LIMITS = {
    np.dtype(np.float32): Limits(54, -120, 2.0**40),
    np.dtype(np.float64): Limits(400, -1000, 2.0**400),
}


class Call(NamedTuple):
    """What a kernel of attention works on. All arrays have the same number of axes, of length 1 where they are shared.

    The axis of heads is cut in two, (n_key_heads, share): so many query heads share a head of keys and values. For the
    stacked way the queries that share stand one after the other, as those of one head, and query, key and value have
    n_key_heads alone.
    """

    query: Array
    key: Array
    value: Array
    bias: Array
    sinks: Array  # (..., 1, 1)
    mask: Array
    dropped: Draw | None
    scale: float
    softcap: float | None
    band: tuple[float, float]
    lead: tuple[int, ...]  # with heads cut
    shape: tuple[int, ...]  # of the output as it was asked for
    given: tuple[tuple[int, ...] | None, ...]  # shapes of query, key, value, bias and sinks as they came

    def room(self, i: int, into: Array = None, *, fill: Callable[..., Array] = np.empty) -> tuple[Array, Array]:
        """An array for the gradient of the i-th one, in the shape in which that came, and a view as it is here.

        It is `into` where that has this shape, and can be seen so without a copy.
        """
        shape: Any = self.given[i]
        array: Any = self[i]
        if into is not None and into.shape == shape:
            place = into.reshape(array.shape)
            if place.base is into.base:
                return into, place
        gradient = fill(shape, self.query.dtype)
        return gradient, gradient.reshape(array.shape)

    def of(self, name: str, head: Head) -> Array:
        """The matrix of that name that belongs to a head; None where there is none."""
        x = getattr(self, name)
        return None if x is None else x[place(x, head)]


def place(x: Array, head: Head) -> Head:
    """Where in an array what belongs to a head is."""
    return tuple(0 if n == 1 else i for n, i in zip(x.shape, head, strict=False))


def kept_share(call: Call) -> float:
    """1 − p, by which what is kept is scaled up."""
    return 1.0 if call.dropped is None or call.dropped[2] == 1 else 1 - call.dropped[2]


def kept_of(rows: Array, columns: Array, p: float) -> Array:
    """Which weights aren't dropped, (..., n_rows, n_columns): (dropout.2), without new arrays for each step."""
    shape = (*rows.shape, *columns.shape)
    bits = np.add(rows[..., None], columns, scratch("bits", shape, np.uint32))
    shifted = scratch("shifted bits", shape, np.uint32)
    for shift, factor in ROUNDS:
        bits ^= np.right_shift(bits, np.uint32(shift), shifted)
        bits *= np.uint32(factor)
    bits ^= np.right_shift(bits, np.uint32(LAST_SHIFT), shifted)
    return bits >= threshold(p)


_local = threading.local()


def scratch(name: str, shape: tuple[int, ...], dtype: Any) -> Array:
    """An array of this thread's own for what is soon forgotten, whose memory is used again and again."""
    own: dict[Any, Array] = _local.__dict__
    size = math.prod(shape)
    memory = own.get((name, dtype))
    if memory is None or memory.size < size:
        memory = own[name, dtype] = np.empty(size, dtype)
    return memory[:size].reshape(shape)


@lru_cache(16)
def ones(n: int, dtype: Any) -> Array:
    """So many ones: a row's sum is its product with them."""
    return np.ones(n, dtype)


@lru_cache(4)
def zeros(n: int, dtype: Any) -> Array:
    """So many zeros."""
    return np.zeros(n, dtype)


@lru_cache(64)
def triangle(n: int, n_keys: int, k: int, above: bool = False) -> Array:
    """Row i sees the keys up to i + k; or, above, that one and the others."""
    return ~np.tri(n, n_keys, k - 1, dtype=bool) if above else np.tri(n, n_keys, k, dtype=bool)


def summed_to(x: Array, shape: tuple[int, ...]) -> Array:
    """The sum over the axes that have length 1 in `shape`."""
    return x.sum(axis=tuple(i for i, n in enumerate(shape) if n == 1), keepdims=True)
