"""The rule that drops numbers at random. The choice is made outside, so that each call of the rule makes the same."""

from __future__ import annotations  # else every call of a rule would evaluate those of its backward

import numpy as np

from tinyattn.rules.registry import Array, Gradients, Result, rule


@rule
def dropout(x: Array, keep: Array, *, p: float) -> Result:
    """Zeros where `keep` is false; elsewhere x, scaled up by what was to be expected to go: E[y] = x if keep is random.

    y = x [keep] / (1 − p),   ∂y/∂x = [keep] / (1 − p)               (dropout.1)

    Srivastava et al. 2014, JMLR 15, section 4; who scale down when the network is used, and not up when it's trained.
    What is dropped gets exactly 0, also where the incoming gradient is NaN.

    >>> dropout(np.array([1.0, 2.0]), np.array([True, False]), p=0.5)[0]
    array([2., 0.])
    """
    scale = 1 / (1 - p) if p < 1 else 1.0  # for p = 1 there is nothing to scale

    def backward(d_output: Array) -> Gradients:
        return np.where(keep, d_output * scale, 0.0), None

    return np.where(keep, x * scale, 0.0), backward
