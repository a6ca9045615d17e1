"""Arrays as text: their bytes in base64, with shape and dtype, to be read by the page as they are."""

import base64
from typing import Any

import numpy as np

MOST_EXACT = 250_000  # numbers that are kept in single precision; more than that in half, which has three digits


LARGEST_HALF = float(np.finfo(np.float16).max)


def pack(x: Any, dtype: Any) -> dict[str, Any]:
    """What the page reads as an array of these numbers.

    >>> pack(np.array([[1.0, 2.0]]), np.float32)
    {'shape': [1, 2], 'dtype': 'float32', 'data': 'AACAPwAAAEA='}
    """
    if dtype is np.float16 and np.abs(x, where=np.isfinite(x), out=np.zeros(np.shape(x))).max(initial=0) > LARGEST_HALF:
        dtype = np.float32
    array = np.ascontiguousarray(x, np.dtype(dtype).newbyteorder("<"))
    data = base64.b64encode(array.tobytes()).decode("ascii")
    return {"shape": list(np.shape(x)), "dtype": np.dtype(dtype).name, "data": data}


def float_for(n_numbers: int) -> Any:
    """The dtype in which so many numbers travel."""
    return np.float32 if n_numbers <= MOST_EXACT else np.float16
