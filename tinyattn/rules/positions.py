"""Rules that tell positions: where in a sequence a query or a key stands."""

from __future__ import annotations  # else every call of a rule would evaluate those of its backward

import numpy as np

from tinyattn.rules.checks import check_flag, check_number
from tinyattn.rules.registry import Array, Gradients, Result, alike, rule


@rule
def rope(x: Array, *, positions: Array = None, base: float = 10000.0, interleaved: bool = True) -> Result:
    """Rotary positions: each pair of numbers turned by an angle that grows with the position.

    θ_i = base^(−2i/d)                                               (rope.1)
    y_2i   = x_2i cos(p θ_i) − x_2i+1 sin(p θ_i)
    y_2i+1 = x_2i sin(p θ_i) + x_2i+1 cos(p θ_i)                     (rope.2)

    x (..., n, d), d even, output the same. A query at p and a key at p' turned like this have a product that depends on
    p − p' alone. `positions` (n,) or (..., n) are 0, 1, 2, … unless given: with a cache they go on from its length.
    With `interleaved=False` the pairs are x_i and x_i+d/2, as in Llama's checkpoints, in place of neighbours.

    Raises `ValueError` for an odd d, and for positions that don't fit. Su et al. 2021, arXiv:2104.09864, eq. 34.

    >>> rope(np.array([[1.0, 0.0], [1.0, 0.0]]), positions=[0, np.pi / 2])[0].round(9)
    array([[1., 0.],
           [0., 1.]])
    """
    check_number("rope", "base", base)
    check_flag("rope", "interleaved", interleaved)
    if not base > 0:
        raise ValueError(f"rope: base must be greater than 0; got {base}")
    if x.ndim < 2 or x.shape[-1] % 2:
        raise ValueError(f"rope: x must be (..., length, d) with an even d; got {x.shape}")
    n, d = x.shape[-2:]
    positions = np.arange(n) if positions is None else np.asarray(positions)
    if positions.dtype.kind not in "iuf":
        raise TypeError(f"rope: positions must be numbers; got {positions.dtype}")
    if positions.ndim == 0 or positions.shape[-1] != n:
        raise ValueError(f"rope: positions must be (..., {n}), one for each row of x {x.shape}; got {positions.shape}")
    angles = positions[..., None] * base ** (-2.0 * np.arange(d // 2) / d)  # (rope.1)
    dtype = x.dtype if x.dtype.kind == "f" else np.float64
    cos, sin = (alike(wave.astype(dtype), x) for wave in (np.cos(angles), np.sin(angles)))

    def turned(x: Array, sin: Array) -> Array:
        if interleaved:
            first, second = x[..., 0::2], x[..., 1::2]
        else:
            first, second = x[..., : d // 2], x[..., d // 2 :]
        first, second = first * cos - second * sin, first * sin + second * cos
        if not interleaved:
            return np.concatenate([first, second], axis=-1)
        pairs = np.concatenate([first[..., None], second[..., None]], axis=-1)
        return pairs.reshape(*pairs.shape[:-2], d)

    def backward(d_output: Array) -> Gradients:
        # d_x = the same, turned back: a rotation's transpose is its inverse    (rope.3)
        return (turned(d_output, -sin),)

    return turned(x, sin), backward
