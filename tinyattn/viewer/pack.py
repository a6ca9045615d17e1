"""Arrays as text: their bytes in base64, with shape and dtype, to be read by the page as they are."""

import base64
from typing import Any

import numpy as np

MOST_EXACT = 2_000_000  # numbers that are kept in single precision; more than that in half, which has three digits


def pack(x: Any, dtype: Any) -> dict[str, Any]:
    """What the page reads as an array of these numbers.

    >>> pack(np.array([[1.0, 2.0]]), np.float32)
    {'shape': [1, 2], 'dtype': 'float32', 'data': 'AACAPwAAAEA='}
    """
    array = np.ascontiguousarray(x, np.dtype(dtype).newbyteorder("<"))
    data = base64.b64encode(array.tobytes()).decode("ascii")
    return {"shape": list(np.shape(x)), "dtype": np.dtype(dtype).name, "data": data}


def float_for(x: Any, n_numbers: int) -> Any:
    """The dtype in which an array travels, of so many numbers in all: one that has its finite numbers."""
    largest = np.abs(x, where=np.isfinite(x), out=np.zeros(np.shape(x))).max(initial=0)
    for dtype in (np.float16, np.float32) if n_numbers > MOST_EXACT else (np.float32,):
        if largest <= np.finfo(dtype).max:
            return dtype
    return np.float64
