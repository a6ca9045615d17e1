"""What the three witnesses say of one gradient: the formula by hand, the tape, central differences."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, TypeAlias

import numpy as np

Vector: TypeAlias = "np.ndarray[Any, Any]"

RTOL = 1e-6  # of the largest number of a gradient
APART = ("hand − tape", "hand − differences", "tape − differences")


class Heard(NamedTuple):
    """One gradient, said by three; `noise` is what round-off may make of differences."""

    name: str
    hand: Vector
    tape: Vector
    differences: Vector  # NaN where they weren't taken
    noise: float = 0.0

    @property
    def apart(self) -> tuple[float, float, float]:
        """The largest difference of each two, in the order of `APART`; NaN where one of the two isn't a number.

        >>> Heard("d_scores", np.array([1.0, 2.0]), np.array([1.0, 2.5]), np.array([1.0, np.nan])).apart
        (0.5, 0.0, 0.0)
        """
        taken = ~np.isnan(self.differences)
        numbers = self.differences[taken]
        return (
            largest(self.hand - self.tape),
            largest(self.hand[taken] - numbers) if numbers.size else math.nan,
            largest(self.tape[taken] - numbers) if numbers.size else math.nan,
        )

    @property
    def agree(self) -> bool | None:
        """Whether they are the same but for round-off; None where nothing can be told, since no number is finite."""
        said = [x[np.isfinite(x)] for x in (self.hand, self.tape, self.differences)]
        if not any(x.size for x in said):
            return None
        allowed = RTOL * max(largest(x) for x in said if x.size) + self.noise
        return all(error <= allowed for error in self.apart)


def largest(x: Vector) -> float:
    """The largest |x|; NaN if there is one, 0 of none."""
    return float(np.max(abs(x), initial=0.0))
