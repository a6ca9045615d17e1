"""What options have to be. NumPy takes many a thing in silence: 1.5 times for once, any string for True."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np


def check_number(name: str, option: str, x: Any, low: float = -math.inf, high: float = math.inf) -> None:
    """Raise `TypeError` unless x is one real number, `ValueError` unless it lies in low … high, as NaN never does."""
    if not isinstance(x, float | int | np.floating | np.integer) and not (np.ndim(x) == 0 and _kind(x) in "fiu"):
        raise TypeError(f"{name}: {option} must be a number; got {x!r}")
    if isinstance(x, int) and abs(x) > sys.float_info.max:
        raise ValueError(f"{name}: {option} must fit into a float; got a whole number of {x.bit_length()} bits")
    if (low > -math.inf or high < math.inf) and not low <= x <= high:
        where = f"be {low:g} or more" if high == math.inf else f"lie in {low:g} … {high:g}"
        raise ValueError(f"{name}: {option} must {where}; got {x}")


def check_whole(name: str, option: str, x: Any) -> None:
    """Raise `TypeError` unless x is a whole number, or several of them."""
    if _kind(x) not in "iu" and np.size(x):
        raise TypeError(f"{name}: {option} must be whole; got {x!r}")


def check_flag(name: str, option: str, x: Any) -> None:
    """Raise `TypeError` unless x is True or False."""
    if not isinstance(x, bool | np.bool_):
        raise TypeError(f"{name}: {option} must be True or False; got {x!r}")


def _kind(x: Any) -> str:
    """The kind of dtype of an array, or of what NumPy makes of x."""
    try:
        return str(x.dtype.kind if hasattr(x, "dtype") else np.asarray(x).dtype.kind)
    except ValueError:  # lists of no one length
        return "O"
