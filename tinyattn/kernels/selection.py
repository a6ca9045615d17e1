"""Rows of a table, and the sum of what comes back to each, as a product."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from tinyattn.kernels.call import scratch
from tinyattn.kernels.twin import twin
from tinyattn.rules import selection
from tinyattn.rules.registry import Array, Backward, Gradients

FEW = 1 << 17  # pairs of an id and a row of the table


@twin(selection.embedding)
def embedding(weight: Array, ids: Array, *, wanted: tuple[bool, ...]) -> tuple[Array, Backward] | None:
    """The rule `embedding`: (embedding.2) as Hᵀ d_Y with h_nv = [i_n = v], where H isn't large."""
    n_rows, n = len(weight), ids.size
    if weight.ndim != 2 or ids.dtype.kind not in "iu" or not n or n * n_rows > FEW:
        return None
    if not (0 <= np.minimum.reduce(ids, axis=None) and np.maximum.reduce(ids, axis=None) < n_rows):
        return None  # the rule tells what is wrong

    def backward(d_output: Array) -> Gradients:
        hits = scratch("hits", (n_rows, n), weight.dtype)
        hits.fill(0)
        hits[ids.reshape(-1), _counted(n)] = 1
        found = hits @ d_output.reshape(n, weight.shape[1])  # (embedding.2)
        if not math.isfinite(np.vdot(found, found)):  # what isn't finite would be NaN in every row: 0 · ∞
            return selection.embedding(weight, ids)[1](d_output)
        return found, None

    return weight.take(ids, axis=0), backward


@lru_cache(16)
def _counted(n: int) -> Array:
    return np.arange(n)
