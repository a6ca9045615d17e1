"""Weights that somebody published for some scores, and the temperature at which softmax comes closest to them.

    p(T)    = softmax(scores / T)
    KL(T)   = Σ q ln(q / p(T)),   q the published weights, made to sum to 1

In β = 1 / T, KL is convex, and so has one valley: its slope, mean score under p minus mean score under q, grows with β.
A grid and a golden section in log T find the bottom, halving the slope's change of sign says where it is to the last
digits, and the signs on both sides prove it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple, TypeAlias

import numpy as np

Vector: TypeAlias = "np.ndarray[Any, Any]"

GRID = range(-40, 41)  # of log₂ T, T in units of the largest difference of scores
GOLDEN = (math.sqrt(5) - 1) / 2


class Needs(NamedTuple):
    """Two tokens, whose published weights call for a temperature from `low` to `high`.

        w_i / w_j = exp((s_i − s_j) / T)

    So T = (s_i − s_j) / ln(w_i / w_j), and rounding leaves a range. Where there is none, `why` says so.
    """

    tokens: tuple[str, str]
    low: float
    high: float
    why: str = ""


class Published(NamedTuple):
    """Published weights beside what softmax gives."""

    weights: Vector  # as they were published
    rounding: float  # half a unit of their last digit
    temperature: float | None  # that of least KL, from 0 to ∞; None where every temperature gives the same
    bracket: tuple[float, float]  # between these it lies, proved by the slope
    divergence: float  # KL there, in nats
    closest: Vector  # the weights there
    exact: bool  # whether these are the published ones, but for rounding
    against: tuple[Needs, ...]  # the tokens that prove that no temperature gives them; empty where none do

    @property
    def remaining(self) -> Vector:
        """What is left between them."""
        return self.weights - self.closest


def closest_to(scores: Vector, published: Sequence[str], tokens: Sequence[str]) -> Published:
    """The temperature that comes closest to weights that were published as text, by KL.

    Raises `ValueError` for another number of weights, one that isn't from 0 to 1, and scores that are NaN or ∞.

    >>> found = closest_to(np.array([0.0, 1.0]), ["0.25", "0.75"], ["a", "b"])
    >>> round(found.temperature, 6), round(1 / math.log(3), 6)
    (0.910239, 0.910239)
    >>> found.exact
    True
    """
    weights, rounding = _read(published, scores)
    seen = np.isfinite(scores)
    units, spread = _units(scores[seen])
    q = weights[seen] / np.sum(weights[seen])
    temperature, bracket = _search(units, q, spread) if spread else (None, (math.nan, math.nan))
    closest = np.zeros(len(scores))
    closest[seen] = softened(units, 1.0 if temperature is None else temperature / spread)
    exact = bool(np.all(abs(closest - weights) <= rounding * (1 + 1e-9)))
    return Published(
        weights=weights,
        rounding=rounding,
        temperature=temperature,
        bracket=bracket,
        divergence=_divergence(q, closest[seen]),
        closest=closest,
        exact=exact,
        against=() if exact else _against(scores, weights, rounding, tokens),
    )


def softened(units: Vector, temperature: float) -> Vector:
    """softmax(units / T), with its limits: T = 0 leaves the largest alone, T = ∞ makes all weights equal.

    >>> softened(np.array([-1.0, 0.0, 0.0]), 0.0)
    array([0. , 0.5, 0.5])
    """
    if temperature == 0:
        exponentials = (units == units.max()).astype(np.float64)
    else:
        exponentials = np.exp((units - units.max()) / temperature)
    found: Vector = exponentials / np.sum(exponentials)
    return found


# ---------------------------------------------------------------------------------------------------- the search


def _search(units: Vector, q: Vector, spread: float) -> tuple[float, tuple[float, float]]:
    """The temperature of least KL, and two between which it lies."""

    def divergence(log2: float) -> float:
        return _divergence(q, softened(units, 2.0**log2))

    def slope(temperature: float) -> float:
        return float(np.sum((softened(units, temperature) - q) * units))

    if slope(2.0 ** GRID[-1]) >= 0:  # at ∞ it rises already: a larger β is worse
        return math.inf, (2.0 ** GRID[-1] * spread, math.inf)
    if slope(2.0 ** GRID[0]) <= 0:
        return 0.0, (0.0, 2.0 ** GRID[0] * spread)
    start = min(GRID, key=divergence)
    found = _crossing(slope, *_between(slope, 2.0 ** _golden(divergence, start - 1.0, start + 1.0)))
    low, high = _between(slope, found)
    return found * spread, (low * spread, high * spread)


def _golden(function: Callable[[float], float], low: float, high: float) -> float:
    """The bottom of a valley between two numbers, by golden section."""
    left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    at_left, at_right = function(left), function(right)
    for _ in range(60):  # 2 · 0.618⁶⁰ is less than round-off
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - GOLDEN * (high - low)
            at_left = function(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + GOLDEN * (high - low)
            at_right = function(right)
    return (low + high) / 2


def _between(slope: Callable[[float], float], temperature: float) -> tuple[float, float]:
    """Two temperatures near that one between which the slope changes its sign."""
    for exponent in range(-6, 1):
        apart = 1 + 10.0**exponent
        low, high = temperature / apart, temperature * apart
        if slope(high) < 0 < slope(low):  # the slope in β = 1 / T
            return low, high
    return 2.0 ** GRID[0], 2.0 ** GRID[-1]


def _crossing(slope: Callable[[float], float], low: float, high: float) -> float:
    """Where the slope is 0: at a bottom, values tell half as many digits."""
    for _ in range(100):  # a factor of 2^80 halved so often is less than round-off
        middle = math.sqrt(low * high)
        low, high = (middle, high) if slope(middle) > 0 else (low, middle)
    return math.sqrt(low * high)


def _divergence(q: Vector, p: Vector) -> float:
    there = q > 0
    with np.errstate(divide="ignore"):
        return max(0.0, float(np.sum(q[there] * (np.log(q[there]) - np.log(p[there])))))


def _units(scores: Vector) -> tuple[Vector, float]:
    """The scores, from −1 to 0, and the largest difference between two."""
    spread = float(scores.max()) - float(scores.min())
    if not math.isfinite(spread):
        raise ValueError("softmax: published weights need scores whose differences are finite")
    return (scores - scores.max()) / (spread or 1.0), spread


# ---------------------------------------------------------------------------------------------------- why none


def _against(scores: Vector, weights: Vector, rounding: float, tokens: Sequence[str]) -> tuple[Needs, ...]:
    """The tokens that prove that no temperature gives these weights, not even rounded; none where there is no proof."""
    hidden = np.isneginf(scores) & (weights > rounding)
    if hidden.any():
        token = tokens[int(np.argmax(hidden))]
        return (Needs((token, token), math.nan, math.nan, "is hidden (−inf), and so has weight 0"),)
    seen = np.flatnonzero(np.isfinite(scores))
    order = seen[np.argsort(scores[seen], kind="stable")]
    i, j = (order[place] for place in np.triu_indices(len(order), 1))
    if not i.size:
        return ()
    apart = scores[j] - scores[i]  # ≥ 0
    with np.errstate(divide="ignore"):
        least = np.log(np.maximum(weights[j] - rounding, 0.0)) - np.log(weights[i] + rounding)  # of ln(w_j / w_i)
        most = np.log(weights[j] + rounding) - np.log(np.maximum(weights[i] - rounding, 0.0))
    equal = apart == 0
    unequal = equal & ((least > 1e-9) | (most < -1e-9))
    if unequal.any():
        return (_needs(tokens, i, j, int(np.argmax(unequal)), "have the same score, so the same weight at every T"),)
    least, most, apart, i, j = (x[~equal] for x in (least, most, apart, i, j))
    if not i.size:
        return ()
    floor, ceiling = least / apart, most / apart  # of β
    low, high = int(np.argmax(floor)), int(np.argmin(ceiling))
    if ceiling[high] < 0:
        return (_needs(tokens, j, i, high, "have weights against the order of their scores"),)
    if floor[low] <= ceiling[high]:
        return ()
    return (
        Needs((tokens[j[low]], tokens[i[low]]), _inverse(ceiling[low]), _inverse(floor[low])),
        Needs((tokens[j[high]], tokens[i[high]]), _inverse(ceiling[high]), _inverse(floor[high])),
    )


def _needs(tokens: Sequence[str], i: Vector, j: Vector, place: int, why: str) -> Needs:
    return Needs((tokens[i[place]], tokens[j[place]]), math.nan, math.nan, why)


def _inverse(beta: float) -> float:
    return math.inf if beta <= 0 else float(1 / beta)


# ---------------------------------------------------------------------------------------------------- what is given


def _read(published: Sequence[str], scores: Vector) -> tuple[Vector, float]:
    """The weights, and half a unit of the last digit that any of them was written with, from 1 digit to 9."""
    if len(published) != len(scores):
        raise ValueError(
            f"softmax: published weights must be as many as the scores; got {len(published)} for {len(scores)} scores"
        )
    if np.isnan(scores).any() or np.isposinf(scores).any() or np.isneginf(scores).all():
        raise ValueError("softmax: published weights need scores of which softmax gives numbers; leave out nan and inf")
    read = [_decimal(text) for text in published]
    weights = np.array(read, dtype=np.float64)
    if not weights[np.isfinite(scores)].any():
        raise ValueError("softmax: published weights must not all be 0 where a token is seen: weights sum to 1")
    digits = max(-int(x.as_tuple().exponent) for x in read)
    return weights, 0.5 * 10.0 ** -min(max(1, digits), 9)


def _decimal(text: str) -> Decimal:
    try:
        found = Decimal(text.strip())
    except InvalidOperation:
        found = Decimal("nan")
    if not (found.is_finite() and 0 <= found <= 1 and len(text) < 60):
        raise ValueError(f"softmax: a published weight is a number from 0 to 1, as 0.52; got {text.strip()[:40]!r}")
    return found
