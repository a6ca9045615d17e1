"""A guess at the mistake: patterns that wrong gradients make beside the right ones.

A pattern counts where it holds for all numbers, and where they are more than what the pattern leaves free: two numbers
always lie on some line, and prove nothing. Where no pattern fits there is no guess.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

Vector: TypeAlias = "np.ndarray[Any, Any]"

SPARE = 3  # numbers beyond those that a pattern leaves free


class Guess(NamedTuple):
    """What the mistake looks like."""

    kind: str  # one of those that the functions below return
    text: str
    factor: float | None = None  # where it is a constant one


class Clue(NamedTuple):
    """What is known of the gradient in one argument. The first cotangent's is for all patterns but one."""

    name: str
    x: Vector
    backward: Vector
    truth: Vector
    whole: bool  # whether the two are gradients, of the argument's shape; or else numbers along random directions
    other_backwards: Vector  # under other cotangents: (number of them, ...)
    other_truths: Vector
    tolerance: float

    def same(self, a: Vector, b: Vector) -> bool:
        """Whether two arrays are the same, as far as the numbers can tell."""
        if a.shape != b.shape:
            return False
        scale = max(float(abs(self.truth).max()), float(abs(self.backward).max()))
        return bool(np.all(abs(a - b) <= self.tolerance * scale))


class Scene(NamedTuple):
    """All that the guesses look at: the argument, the others, the output, its cotangent, numbers to be off by."""

    clue: Clue
    others: list[Clue]
    output: Vector
    cotangent: Vector
    options: Mapping[str, float]

    @property
    def difference(self) -> Vector:
        """What is missing."""
        return self.clue.truth - self.clue.backward


def guess(
    clues: Sequence[Clue], k: int, output: Vector, cotangent: Vector, options: Mapping[str, float]
) -> Guess | None:
    """What the mistake in the gradient of the k-th argument looks like; None where it looks like nothing known."""
    others = [clue for j, clue in enumerate(clues) if j != k]
    scene = Scene(clues[k], others, output, cotangent, options)
    not_finite = nan(scene)
    if not_finite is not None:
        return not_finite
    patterns = ANY + WHOLE if scene.clue.whole else ANY
    return next((found for pattern in patterns if (found := pattern(scene)) is not None), None)


# ---------------------------------------------------------------------------------------------------- of any numbers


def nan(scene: Scene) -> Guess | None:
    """Something isn't finite."""
    name, truth, backward = scene.clue.name, scene.clue.truth, scene.clue.backward
    if not np.isfinite(truth).all():
        return Guess("nan", f"the function itself isn't finite near this {name}, or its derivative isn't")
    if not np.isfinite(backward).all():
        return Guess("nan", "the backward gives NaN or infinity where the derivative is finite")
    return None


def zero(scene: Scene) -> Guess | None:
    """g = 0."""
    if np.any(scene.clue.backward):
        return None
    return Guess("zero", "it is zero: a branch is forgotten, severed (detach, .numpy(), no_grad), or gives None")


def cotangent_ignored(scene: Scene) -> Guess | None:
    """g doesn't change with the cotangent."""
    clue = scene.clue
    mine = clue.backward.reshape(-1)
    if not len(clue.other_backwards) or all(clue.same(clue.truth.reshape(-1), t) for t in clue.other_truths):
        return None
    if not all(clue.same(mine, g) for g in clue.other_backwards):
        return None
    return Guess("cotangent ignored", "it is the same whatever gradient the output has: multiply by that")


def factor(scene: Scene) -> Guess | None:
    """g = k t."""
    clue = scene.clue
    norm = float((clue.truth * clue.truth).sum())
    if not norm:
        return None
    k = float((clue.backward * clue.truth).sum()) / norm
    if not clue.same(clue.backward, k * clue.truth):
        return None
    names = [name for number, name in _known_factors(scene) if math.isclose(k, number, rel_tol=clue.tolerance)]
    if clue.truth.size <= 1 and not names:  # any two numbers have a ratio
        return None
    if math.isclose(k, -1, rel_tol=clue.tolerance):
        return Guess("factor", "the sign is wrong", -1.0)
    told = ": " + " or ".join(dict.fromkeys(filter(None, names[:3]))) if any(names[:3]) else ""
    return Guess("factor", f"it is {k:.6g} times what it should be{told}", k)


def _known_factors(scene: Scene) -> Iterator[tuple[float, str]]:
    """Numbers that people forget, or use twice, with what they are."""
    sizes = dict(_sizes(scene))
    yield -1.0, "the sign"
    yield from ((number, "") for number in (2.0, 0.5))  # which say all by themselves
    numbers = [(float(n), name) for n, name in sizes.items()] + [(v, name) for name, v in scene.options.items() if v]
    for number, name in numbers:
        for sign, minus in ((1.0, ""), (-1.0, "minus ")):
            yield sign * number, minus + name
            yield sign / number, f"{minus}1 / {name}"
            yield sign * number**2, f"{minus}the square of {name}"
            yield sign / number**2, f"{minus}1 / the square of {name}"
            if number > 0:
                yield sign * math.sqrt(number), f"{minus}√ of {name}"
                yield sign / math.sqrt(number), f"{minus}1/√ of {name}"


def _sizes(scene: Scene) -> Iterator[tuple[int, str]]:
    """Lengths and numbers of elements, with what they are; the last of one length stays: that of the argument."""
    arrays = [("the output", scene.output), *((c.name, c.x) for c in scene.others), (scene.clue.name, scene.clue.x)]
    whole = {name: int(n) for name, n in scene.options.items() if n == int(n) and n > 1}
    for what, x in arrays:
        for axis, n in enumerate(x.shape):
            for name, k in whole.items():
                if n % k == 0:
                    yield n // k, f"the length of axis {axis - x.ndim} of {what} over {name} ({n // k})"
        yield x.size, f"the number of elements of {what} ({x.size})"
        if x.ndim:
            yield x.size // max(x.shape[-1], 1), f"the number of rows of {what} ({x.size // max(x.shape[-1], 1)})"
        for axis, n in enumerate(x.shape):
            yield n, f"the length of axis {axis - x.ndim} of {what} ({n})"


# ------------------------------------------------------------------------------------- of gradients, whole arrays


def swapped(scene: Scene) -> Guess | None:
    """g is the gradient of another argument."""
    clue = scene.clue
    for other in scene.others:
        if other.whole and clue.same(clue.backward, other.truth) and clue.truth.size > 1:
            return Guess("swapped", f"it is the gradient of {other.name}")
    return None


def transposed(scene: Scene) -> Guess | None:
    """g has the numbers of t, with two axes exchanged."""
    clue = scene.clue
    for a, b in itertools.combinations(range(clue.truth.ndim), 2):
        if min(clue.truth.shape[a], clue.truth.shape[b]) == 1:
            continue
        names = f"axes {a - clue.truth.ndim} and {b - clue.truth.ndim}"
        for one, other in ((clue.backward, clue.truth), (clue.truth, clue.backward)):
            if clue.same(one, other.swapaxes(a, b).reshape(one.shape)):
                return Guess("transposed", f"its numbers stand as if {names} were exchanged")
    return None


def permuted(scene: Scene) -> Guess | None:
    """g has the numbers of t in another order: along an axis, or altogether."""
    clue = scene.clue
    for axis in range(clue.truth.ndim):
        rows, sources = (np.moveaxis(x, axis, 0) for x in (clue.backward, clue.truth))
        n = len(rows)
        if not 2 <= n <= 64 or rows[0].size < 1:
            continue
        order = [next((j for j in range(n) if clue.same(rows[i], sources[j])), None) for i in range(n)]
        if sorted(j for j in order if j is not None) == list(range(n)):
            where = f"along axis {axis - clue.truth.ndim}"
            return Guess("permuted", f"{where} it stands in another order, {order}: are heads or blocks mixed up?")
    if clue.truth.size > SPARE and clue.same(np.sort(clue.backward, axis=None), np.sort(clue.truth, axis=None)):
        return Guess("permuted", "the numbers are right, but stand elsewhere: a reshape without its transpose?")
    return None


def sign(scene: Scene) -> Guess | None:
    """|g| = |t|."""
    clue = scene.clue
    if clue.truth.size <= SPARE or not clue.same(abs(clue.backward), abs(clue.truth)):
        return None
    return Guess("sign", "only signs are wrong, and not all of them")


def identity(scene: Scene) -> Guess | None:
    """t − g = ± c."""
    clue, c = scene.clue, scene.cotangent
    if c.size < 2 or c.shape != clue.truth.shape:
        return None
    for minus, told in ((1, "missing: is a residual path forgotten?"), (-1, "there once too often")):
        if clue.same(scene.difference, minus * c):
            return Guess("identity", f"the output's own gradient is {told}")
    return None


def leak(scene: Scene) -> Guess | None:
    """g ≠ 0 in some places where t = 0, and g = t in all others; or the other way round."""
    clue = scene.clue
    silent, nothing = abs(clue.truth) <= _noise(clue), abs(clue.backward) <= _noise(clue)
    right = abs(scene.difference) <= clue.tolerance * abs(clue.truth).max(initial=0.0)
    if np.any(silent & ~right) and np.all(silent | right) and not np.all(silent):
        return Guess("leak", "it is right, but flows where none should: is a mask, or a condition, forgotten?")
    if np.any(nothing & ~right) and np.all(nothing | right) and np.any(~nothing):
        return Guess("lost", "it is right where it isn't zero: something is cut off, or overwritten, elsewhere")
    return None


def missing_factor(scene: Scene) -> Guess | None:
    """t = k g a, where a is at hand: the argument, the output, or 1 over one of them."""
    clue = scene.clue
    if clue.truth.size <= SPARE:
        return None
    for name, a in _at_hand(scene):
        with np.errstate(divide="ignore"):
            inverse = 1 / a
        for told, array in ((name, a), (f"1 / {name}", inverse)):
            if array.shape != clue.truth.shape or not np.isfinite(array).all() or np.ptp(array) == 0:
                continue
            product = clue.backward * array
            k = _coefficient(clue.truth, product)
            if k is not None and clue.same(clue.truth, k * product):
                times = "" if math.isclose(k, 1, rel_tol=clue.tolerance) else f"{k:.6g} · "
                return Guess("missing factor", f"a factor is missing: {times}{told}, number by number")
    return None


def missing_term(scene: Scene) -> Guess | None:
    """t − g = k v along an axis, one k for each slice: v is constant, or the output, or the argument."""
    clue = scene.clue
    candidates = [("", np.ones(clue.truth.shape)), *_at_hand(scene)]
    for axis in _axes(clue.truth):
        centred = clue.x - clue.x.mean(axis=axis, keepdims=True)
        for name, v in [*candidates, (f"{clue.name} less its mean", centred)]:
            if v.shape == clue.truth.shape and _along(clue, scene.difference, v, axis):
                where = f"along axis {axis - clue.truth.ndim}"
                what = f"{name} times one number for each slice" if name else "the same for all numbers"
                return Guess("missing term", f"a term is missing, or wrong, that is {what} {where}: a sum or a mean?")
    return None


def factor_along_axis(scene: Scene) -> Guess | None:
    """g = k t along an axis, one k for each slice."""
    clue = scene.clue
    for axis in _axes(clue.truth):
        if _along(clue, clue.backward, clue.truth, axis):
            where = f"along axis {axis - clue.truth.ndim}"
            return Guess("factor along axis", f"each slice {where} is off by a factor of its own: a scale, like 1/σ?")
    return None


def unbalanced(scene: Scene) -> Guess | None:
    """Σ t = 0 along an axis, and Σ g ≠ 0."""
    clue = scene.clue
    for axis in _axes(clue.truth):
        balance, mine = clue.truth.sum(axis=axis), clue.backward.sum(axis=axis)
        if np.all(abs(balance) <= _noise(clue)) and not np.all(abs(mine) <= 1e-3 * abs(clue.truth).max()):
            where = f"along axis {axis - clue.truth.ndim}"
            return Guess("unbalanced", f"it should sum to zero {where}, and doesn't: is the sum over that axis right?")
    return None


def flows_in(scene: Scene) -> Guess | None:
    """g ≠ 0 in some places where t = 0, and other places are wrong too."""
    clue = scene.clue
    silent = abs(clue.truth) <= _noise(clue)
    if not np.any(silent & (abs(clue.backward) > clue.tolerance * abs(clue.backward).max())):
        return None
    told = "it flows into numbers on which nothing depends: is a mask forgotten on the way back, or a sum that cancels?"
    return Guess("flows in", told)


ANY: list[Callable[[Scene], Guess | None]] = [zero, cotangent_ignored, factor]
WHOLE: list[Callable[[Scene], Guess | None]] = [
    swapped,
    transposed,
    permuted,
    sign,
    identity,
    leak,
    missing_factor,
    missing_term,
    factor_along_axis,
    unbalanced,
    flows_in,
]
"""In the order in which they are tried: what says more comes first."""


def _at_hand(scene: Scene) -> list[tuple[str, Vector]]:
    """Arrays that a backward is made of."""
    return [("the output", scene.output), (scene.clue.name, scene.clue.x)]


def _axes(x: Vector) -> list[int]:
    """The axes along which a pattern can be told from chance, the last one first."""
    return [axis for axis in reversed(range(x.ndim)) if x.shape[axis] > 1 and x.size - x.size // x.shape[axis] >= SPARE]


def _along(clue: Clue, part: Vector, v: Vector, axis: int) -> bool:
    """Whether part = k v along an axis, for one k in each slice, and isn't just zero."""
    if not np.any(abs(part) > clue.tolerance * abs(clue.truth).max()):
        return False
    squares = (v * v).sum(axis=axis, keepdims=True)
    k = (part * v).sum(axis=axis, keepdims=True) / np.where(squares > 0, squares, 1.0)
    return clue.same(part, k * v)


def _coefficient(a: Vector, b: Vector) -> float | None:
    """The k for which k b comes nearest to a."""
    norm = float((b * b).sum())
    return float((a * b).sum()) / norm if norm else None


def _noise(clue: Clue) -> float:
    """What counts as zero among the derivatives."""
    return 1e-3 * clue.tolerance * float(abs(clue.truth).max(initial=0.0))
