"""From an array to what is shown of it: all numbers where they are few, means of blocks where they aren't."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinyattn.graph.nodes import Cells, Numbers, Rows

MOST_NUMBERS = 16  # in an array whose numbers are shown ...
MOST_COLUMNS = 6  # ... and in a row of it
SIDE = 12  # cells along each side of a heat map, at most

Vector = np.ndarray[Any, Any]


def numbers_of(x: Any) -> Numbers | None:
    """What is shown of an array; None where it has no numbers."""
    array = np.asarray(x)
    if not array.size or array.dtype.kind not in "fiubc":
        return None
    plain = array if array.dtype.kind != "c" else np.abs(array)
    rows = _rows(array)
    if plain.size <= MOST_NUMBERS:  # Python is done before NumPy has begun
        numbers = plain.ravel().tolist()
        finite = [x for x in numbers if math.isfinite(x)]
        n_finite, n_nan = len(finite), sum(x != x for x in numbers)
        told = (min(finite), sum(x / n_finite for x in finite), max(finite)) if finite else (math.nan,) * 3
    else:
        is_finite = np.isfinite(plain) if plain.dtype.kind == "f" else np.True_
        kept = plain if is_finite.all() else plain[is_finite]
        n_finite = kept.size
        n_nan = 0 if kept is plain else int(np.isnan(plain).sum())
        told = (float(kept.min()), _mean(kept), float(kept.max())) if kept.size else (math.nan,) * 3
    least, mean, most = map(float, told)
    n_infinite = plain.size - n_finite - n_nan
    return Numbers(
        rows=rows,
        cells=_cells(plain) if rows is None else None,
        least=least,
        mean=mean,
        most=most,
        n_nan=n_nan,
        n_infinite=n_infinite,
        all_zero=not (n_nan or n_infinite or least or most) and plain.dtype.kind == "f",
    )


def _mean(x: Vector) -> float:
    """The mean, also where the sum would be infinite."""
    with np.errstate(over="ignore"):
        mean = float(x.mean(dtype=float))
    return mean if math.isfinite(mean) else float((x / x.size).sum())


def _rows(array: Vector) -> Rows | None:
    """The numbers of an array, written out row by row, if it is small."""
    if array.ndim > 2 or array.size > MOST_NUMBERS:
        return None
    rows = array.reshape(1, -1) if array.ndim < 2 else array
    if rows.shape[1] > MOST_COLUMNS:
        return None
    return tuple(tuple(str(x) if isinstance(x, bool | int) else f"{x:.4g}" for x in row) for row in rows.tolist())


def _cells(array: Vector) -> Cells:
    """Means of blocks of the array as rows of its last axis; NaN where a block holds anything that isn't finite."""
    rows = array.reshape(-1, array.shape[-1]) if array.ndim > 1 else array.reshape(1, -1)
    sums = rows.astype(float)
    sums[~np.isfinite(sums)] = np.nan
    for _ in range(2):  # rows, then columns
        n = len(sums)
        starts = np.unique(np.arange(SIDE) * n // SIDE) if n > SIDE else np.arange(n)
        counts = np.diff([*starts, n])
        sums = np.add.reduceat(sums / np.repeat(counts, counts)[:, None], starts, axis=0).T
    return tuple(tuple(row) for row in sums.tolist())
