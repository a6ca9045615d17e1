"""One row of attention taken apart: from scores to weights and back, every number of it.

    scaled    = scores / √d_k                                        (attention.1)
    shifted   = scaled − max scaled
    exp       = exp(shifted)
    weights   = exp / Σ exp                                          (softmax.1)
    ∂w_i/∂s_j = w_i (δ_ij − w_j)                                     (softmax.2)
    d_scaled  = weights (d_weights − Σ weights d_weights)            (softmax.3)
    d_scores  = d_scaled / √d_k

Forward and hand are plain NumPy, and none of tinyattn's rules; the tape walks back through exp, sum and quotient, and
knows nothing of (softmax.3); the differences only look at the weights.
"""

from __future__ import annotations  # numpy.random, which they name, is loaded where it's used

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from tinyattn import functions as f
from tinyattn.derivatives import vjp
from tinyattn.study.heard import Heard
from tinyattn.study.temperature import Published, closest_to

Vector: TypeAlias = "np.ndarray[Any, Any]"

MOST = 1000  # scores: the Jacobian has as many rows, and as many columns
STEP = 2.0**-10  # truncation, ∝ step⁴, meets round-off, ∝ 1 / step; and a power of two moves most numbers exactly


class Way(NamedTuple):
    """The weights of a row, with its scores divided by `divisor`, and what goes back to the scores."""

    divisor: float
    weights: Vector
    d_scores: Vector

    @property
    def entropy(self) -> float:
        """−Σ w ln w in nats: 0 where one weight is 1, ln n where all are equal."""
        positive = self.weights[~(self.weights == 0)]
        return abs(float(np.sum(positive * np.log(positive))))

    @property
    def largest(self) -> float:
        """The largest weight."""
        return float(np.max(self.weights))

    @property
    def size(self) -> float:
        """√Σ d_scores²."""
        return math.hypot(*self.d_scores.tolist())  # squares may overflow


class Row(NamedTuple):
    """The study of one row of n scores. All arrays are float64 and (n,), but the Jacobian, (n, n)."""

    tokens: tuple[str, ...]
    scores: Vector
    d_k: int | None  # None: not scaled
    scaled: Vector
    shifted: Vector
    exponentials: Vector
    weights: Vector
    values: Vector | None
    mix: float | None  # Σ weights values
    jacobian: Vector
    d_weights: Vector
    seed: int | None  # of random d_weights; None where they were given
    mean: float  # Σ weights d_weights
    d_scaled: Vector
    d_scores: Heard
    moved_shifted: bool  # whether the differences moved the shifted scores, since the scores are too large to be moved
    ways: tuple[Way, ...]  # unscaled, then scaled; unscaled alone where there is no d_k
    published: Published | None

    @property
    def divisor(self) -> float:
        """What the scores are divided by: √d_k, or 1."""
        return 1.0 if self.d_k is None else math.sqrt(self.d_k)

    @property
    def hidden(self) -> Vector:
        """Which scores are −∞, so that nobody looks there."""
        return np.isneginf(self.scores)

    @property
    def problem(self) -> str:
        """Why the weights aren't numbers; empty where they are."""
        if np.isnan(self.scores).any():
            return "a score is NaN, which goes into the sum of exponentials, and so into every weight"
        if np.isposinf(self.scores).any():
            return "a score is +inf, and inf − inf is not a number; −inf is what hides a token"
        if self.hidden.all():
            return "every score is −inf: nothing may be looked at, and 0 / 0 is not a number (ta.attention gives zeros)"
        return ""


def softmax_study(
    scores: Sequence[float],
    *,
    tokens: Sequence[str] | None = None,
    d_k: int | None = None,
    d_weights: Sequence[float] | None = None,
    values: Sequence[float] | None = None,
    published: Sequence[str] | None = None,
    seed: int = 0,
) -> Row:
    """Everything between the scores of one query and their gradient.

    `tokens` names the scores, `d_k` divides them by √d_k, `values` has a number for each token to be mixed;
    `d_weights` is where the way back begins, random by `seed` unless given. `published` are weights as somebody wrote
    them, as text: "0.50" has been rounded to two digits.

    A score may be −∞, whose weight and gradient are zero, or NaN or ∞, and then `problem` says what comes of that.
    Raises `ValueError` for no scores, more than 1000, lists of other lengths, and what isn't finite elsewhere.

    >>> found = softmax_study([0.0, 0.0], d_weights=[1.0, 3.0], d_k=4)
    >>> found.weights, found.d_scaled, found.d_scores.hand  # 0.5 (1 − 2), 0.5 (3 − 2); then halved by √d_k
    (array([0.5, 0.5]), array([-0.5,  0.5]), array([-0.25,  0.25]))
    >>> found.d_scores.agree
    True
    """
    n = len(scores)
    if not 1 <= n <= MOST:
        raise ValueError(
            f"softmax: needs from 1 to {MOST} scores, before any option, as in tinyattn softmax 0.1 2.8 0.2; got {n}"
        )
    if d_k is not None and d_k < 1:
        raise ValueError(f"softmax: d_k must be a whole number, 1 or more; got {d_k}")
    given = np.array(scores, dtype=np.float64)
    names = tuple(f"#{i + 1}" for i in range(n)) if tokens is None else tuple(tokens)
    _check_length("tokens", names, n)
    with np.errstate(all="ignore"):  # what isn't finite is told
        return _row(
            given,
            names,
            d_k,
            _random(n, seed) if d_weights is None else _finite("gradient", d_weights, n),
            seed if d_weights is None else None,
            None if values is None else _finite("values", values, n),
            None if published is None else closest_to(given, published, names),
        )


def _row(
    scores: Vector,
    tokens: tuple[str, ...],
    d_k: int | None,
    d_weights: Vector,
    seed: int | None,
    values: Vector | None,
    published: Published | None,
) -> Row:
    divisor = 1.0 if d_k is None else math.sqrt(d_k)
    scaled, shifted, exponentials, weights = forward(scores, divisor)
    differences, moved_shifted = _by_differences(scores, divisor, d_weights)
    d_scaled = back(weights, d_weights)
    noise = 8 * _rounding(d_weights * weights) / (STEP * divisor)
    return Row(
        tokens=tokens,
        scores=scores,
        d_k=d_k,
        scaled=scaled,
        shifted=shifted,
        exponentials=exponentials,
        weights=weights,
        values=values,
        mix=None if values is None else float(np.sum(weights * values)),
        jacobian=jacobian(weights),
        d_weights=d_weights,
        seed=seed,
        mean=float(np.sum(weights * d_weights)),
        d_scaled=d_scaled,
        d_scores=Heard("d_scores", d_scaled / divisor, _by_tape(scores, divisor, d_weights), differences, noise),
        moved_shifted=moved_shifted,
        ways=tuple(way(scores, by, d_weights) for by in ([1.0] if d_k is None else [1.0, divisor])),
        published=published,
    )


# ---------------------------------------------------------------------------------------------------- the formulas


def forward(scores: Vector, divisor: float) -> tuple[Vector, Vector, Vector, Vector]:
    """Scaled, shifted, exponentials, weights.

    >>> forward(np.array([2.0, -np.inf, 2.0]), 2.0)[-1]
    array([0.5, 0. , 0.5])
    """
    scaled = scores / divisor
    shifted = scaled - np.max(scaled)  # the shift cancels in (softmax.1); no overflow
    exponentials = np.exp(shifted)
    return scaled, shifted, exponentials, exponentials / np.sum(exponentials)


def jacobian(weights: Vector) -> Vector:
    """diag(w) − w wᵀ, (n, n): ∂w_i/∂s_j = w_i (δ_ij − w_j)  (softmax.2).

    >>> jacobian(np.array([0.5, 0.5]))
    array([[ 0.25, -0.25],
           [-0.25,  0.25]])
    """
    found: Vector = np.diag(weights) - np.outer(weights, weights)
    return found


def back(weights: Vector, d_weights: Vector) -> Vector:
    """w (d_w − Σ w d_w)  (softmax.3), which is the Jacobian times d_w, without ever forming it."""
    found: Vector = weights * (d_weights - np.sum(weights * d_weights))
    return found


def way(scores: Vector, divisor: float, d_weights: Vector) -> Way:
    """The row with its scores divided by that."""
    *_, weights = forward(scores, divisor)
    return Way(divisor, weights, back(weights, d_weights) / divisor)


# ---------------------------------------------------------------------------------------------------- the witnesses


def _by_tape(scores: Vector, divisor: float, d_weights: Vector) -> Vector:
    """exp, sum and quotient on Tensors, walked back."""

    def weights(scores: Any) -> Any:
        scaled = scores / divisor
        exponentials = f.exp(scaled - f.max(scaled))
        return exponentials / f.sum(exponentials)

    _, pull_back = vjp(weights, scores)
    found: Vector = pull_back(d_weights)[0].numpy()
    return found


def _by_differences(scores: Vector, divisor: float, d_weights: Vector) -> tuple[Vector, bool]:
    """(4 D(h/2) − D(h)) / 3, D(h) = (L(s + h) − L(s − h)) / 2h, L = Σ d_weights weights; and whether s was shifted.

    A score of 1e308 can't be moved by h: the next number is 2e292 away. There the shifted scores are moved.
    """
    step = STEP * 2.0 ** round(math.log2(divisor))  # moves the scaled scores by about as much, whatever d_k
    too_large = bool(np.any(np.isfinite(scores) & (abs(scores) > step * 2.0**24)))
    at = forward(scores, divisor)[1] * divisor if too_large else scores

    def slope(i: int, h: float) -> float:
        above, below = at.copy(), at.copy()
        above[i] += h
        below[i] -= h
        change = forward(above, divisor)[-1] - forward(below, divisor)[-1]
        return float(np.sum(d_weights * change)) / (2 * h)

    found = [(4 * slope(i, step / 2) - slope(i, step)) / 3 for i in range(len(at))]
    return np.array(found), too_large


def _rounding(terms: Vector) -> float:
    """What round-off may make of a sum; below 1e-308 numbers are whole multiples of the least one."""
    limits = np.finfo(np.float64)
    return float(limits.eps * np.sum(abs(terms)) + terms.size * limits.smallest_subnormal)


# ---------------------------------------------------------------------------------------------------- what is given


def _random(n: int, seed: int) -> Vector:
    """Of two digits, so that a reader can follow with pencil and paper."""
    return np.round(np.random.default_rng(seed).normal(size=n), 2)


def _finite(name: str, given: Sequence[float], n: int) -> Vector:
    _check_length(name, given, n)
    numbers = np.array(given, dtype=np.float64)
    if not np.isfinite(numbers).all():
        wrong = numbers[~np.isfinite(numbers)][0]
        raise ValueError(f"softmax: {name} must be finite numbers; got {wrong}. Only a score may be nan, inf or -inf")
    return numbers


def _check_length(name: str, given: Sequence[Any], n: int) -> None:
    if len(given) != n:
        scores = "1 score" if n == 1 else f"{n} scores"
        raise ValueError(f"softmax: {name} must be as many as the scores; got {len(given)} for {scores}")
