"""What the functions in `causes` and `weights` share."""

from typing import Final, TypeAlias

import numpy as np

from tinyattn.explain.way import Vector

Cause: TypeAlias = tuple[str, str]
"""The kind of a cause, and what is to be said of it."""

ROUND_OFF: Final = 16  # so many times the spacing of the numbers next to 1


def round_off(x: Vector) -> float:
    """What is less than this, beside 1, may be round-off in a dtype like x's."""
    return ROUND_OFF * float(np.finfo(x.dtype).eps)


def some(lost: Vector, of: str) -> str:
    """How many are lost: 'all 6 inputs', '2 of 6 inputs'."""
    n = int(np.count_nonzero(lost))
    return f"all {lost.size} {of}" if n == lost.size else f"{n} of {lost.size} {of}"
