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
ROUND_OFF = 1e-14  # of the largest derivative


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

    def is_multiple(self, a: Vector, k: float, b: Vector) -> bool:
        """Whether a = k b, as far as a itself can tell: where it is next to nothing, k = 0 would do as well."""
        return bool(np.all(abs(a - k * b) <= self.tolerance * abs(a).max(initial=0.0)))


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

    @property
    def jacobians(self) -> tuple[Vector, Vector] | None:
        """The backward's and the true one, (numbers of the output, numbers of the argument), if there are few."""
        mine, true = self.clue.other_backwards, self.clue.other_truths
        return (mine, true) if len(mine) == self.output.size > 1 else None


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
    """g = 0, exactly or but for round-off."""
    if np.any(abs(scene.clue.backward) > ROUND_OFF * abs(scene.clue.truth).max(initial=0.0)):
        return None
    but = ", but for round-off" if np.any(scene.clue.backward) else ""
    return Guess("zero", f"it is zero{but}: a branch is forgotten, severed (detach, .numpy(), no_grad), or gives None")


def cotangent_ignored(scene: Scene) -> Guess | None:
    """g doesn't change with the cotangent."""
    clue = scene.clue
    mine = clue.backward.reshape(-1)
    if not len(clue.other_backwards) or all(clue.same(clue.truth.reshape(-1), t) for t in clue.other_truths):
        return None
    if not all(clue.is_multiple(g, 1.0, mine) for g in clue.other_backwards):
        return None
    return Guess("cotangent ignored", "it is the same whatever gradient the output has: multiply by that")


def factor(scene: Scene) -> Guess | None:
    """g = k t."""
    clue = scene.clue
    norm = float((clue.truth * clue.truth).sum())
    if not norm:
        return None
    k = float((clue.backward * clue.truth).sum()) / norm
    if not clue.is_multiple(clue.backward, k, clue.truth):
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
    near_one = [("(1 + the output)", 1 + scene.output), ("(1 − the output)", 1 - scene.output)]
    for name, a in [*_at_hand(scene), *near_one]:
        with np.errstate(divide="ignore"):
            inverse = 1 / a
        for told, array in ((name, a), (f"1 / {name}", inverse)):
            if array.shape != clue.truth.shape or not np.isfinite(array).all() or np.ptp(array) == 0:
                continue
            product = clue.backward * array
            k = _coefficient(clue.truth, product)
            if k is not None and clue.is_multiple(clue.truth, k, product):
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


def misplaced(scene: Scene) -> Guess | None:
    """t − g = 0, but for a k and a −k in each slice along an axis."""
    clue = scene.clue
    missing = np.where(abs(scene.difference) > clue.tolerance * abs(clue.truth).max(initial=0.0), scene.difference, 0.0)
    for axis in _axes(clue.truth):
        pairs = (missing > 0).sum(axis=axis) == 1
        pairs &= (missing < 0).sum(axis=axis) == 1
        if pairs.size > 1 and clue.truth.shape[axis] > 2 and np.all(pairs) and _vanishes(clue, missing.sum(axis=axis)):
            where = f"along axis {axis - clue.truth.ndim}"
            told = f"{where} one number of each slice is added in a wrong place: is an index off, or of something else?"
            return Guess("misplaced", told)
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


# ---------------------------------------------------------------------- of Jacobians, where the output is small enough


def jacobian_transposed(scene: Scene) -> Guess | None:
    """g = J c, where t = Jᵀ c."""
    if scene.jacobians is None or scene.output.shape != scene.clue.x.shape:
        return None
    mine, true = scene.jacobians
    if _alike(mine, true, scene) or not _alike(mine, true.T, scene):
        return None
    told = "it is J c, and should be Jᵀ c, for Jacobian J: a matrix in it stands untransposed"
    return Guess("jacobian transposed", told)


def not_summed(scene: Scene) -> Guess | None:
    """g is what one slice of the output sends, and t what all of them send together."""
    if scene.jacobians is None:
        return None
    mine, true = (numbers.reshape(*scene.output.shape, -1) for numbers in scene.jacobians)
    for axis, n in enumerate(scene.output.shape):
        sends = [np.any(abs(part) > _noise(scene.clue)) for part in np.moveaxis(mine, axis, 0)]
        true_sends = [np.any(abs(part) > _noise(scene.clue)) for part in np.moveaxis(true, axis, 0)]
        if n < 2 or sum(sends) != 1 or sum(true_sends) < 2:
            continue
        k = int(np.argmax(sends))
        if _alike(mine.take(k, axis), true.take(k, axis), scene):
            where = f"from index {k} along axis {axis - scene.output.ndim} of the output"
            return Guess("not summed", f"it is what comes {where} alone: the others are overwritten, or not summed")
    return None


def last_wins(scene: Scene) -> Guess | None:
    """Each number of the output sends what it should, or nothing; some send nothing."""
    if scene.jacobians is None:
        return None
    mine, true = scene.jacobians
    large = scene.clue.tolerance * abs(true).max(initial=0.0)
    sends = np.any(abs(mine) > large, axis=1)
    if np.all(sends == np.any(abs(true) > large, axis=1)) or not np.any(sends):
        return None
    if not _alike(mine[sends], true[sends], scene):
        return None
    told = "what some numbers of the output send is right, and what others send is lost: assigned where it adds up?"
    return Guess("last wins", told)


def output_factor(scene: Scene) -> Guess | None:
    """g = Jᵀ (a c), where t = Jᵀ c: a is at hand, or 1 over it is."""
    if scene.jacobians is None:
        return None
    mine, true = scene.jacobians
    squares = (true * true).sum(axis=1)
    several = (abs(true) > scene.clue.tolerance * abs(true).max(initial=0.0)).sum(axis=1) > 1
    if not np.all(several[squares > 0]) or not np.any(squares > 0):
        return None  # where each has one number any factors fit
    a = (mine * true).sum(axis=1) / np.where(squares > 0, squares, 1.0)
    if np.ptp(a) == 0 or not _alike(mine, a[:, None] * true, scene):
        return None
    with np.errstate(all="ignore"):
        known = [("exp of the output", np.exp(scene.output)), ("the output", scene.output)]
        known += [(other.name, other.x) for other in scene.others]
        known = [(told, b) for name, x in known for told, b in ((f"times {name}", x), (f"divided by {name}", 1 / x))]
        names = [told for told, b in known if _is(a, b, scene)]
    cause = f": {names[0]}" if names else ""
    return Guess("output factor", f"the output's gradient enters with a factor of its own for each number{cause}")


def wrong_sum(scene: Scene) -> Guess | None:
    """t − g is the same wherever along an axis the output's gradient stands: it takes only the sum of that."""
    if scene.jacobians is None:
        return None
    mine, true = (numbers.reshape(*scene.output.shape, -1) for numbers in scene.jacobians)
    missing = true - mine
    for axis in reversed(range(scene.output.ndim)):
        sums_anyway = _alike(true, true.mean(axis=axis, keepdims=True), scene)
        takes_sum = _alike(missing, missing.mean(axis=axis, keepdims=True), scene)
        if scene.output.shape[axis] > 2 and takes_sum and not sums_anyway:
            where = f"along axis {axis - scene.output.ndim}"
            told = f"the term with the sum of the output's gradient {where} is wrong, or missing, and the rest is right"
            return Guess("wrong sum", told)
    return None


def _alike(a: Vector, b: Vector, scene: Scene) -> bool:
    """Whether two parts of Jacobians are the same."""
    largest = max((float(abs(x).max(initial=0.0)) for x in scene.jacobians or ()), default=0.0)
    return bool(np.all(abs(a - b) <= scene.clue.tolerance * largest))


def _is(factors: Vector, b: Vector, scene: Scene) -> bool:
    """Whether the factors of the output's numbers are those of an array that broadcasts to its shape."""
    try:
        wanted = np.broadcast_to(b, scene.output.shape).reshape(-1)
    except ValueError:
        return False
    return bool(np.allclose(factors, wanted, rtol=scene.clue.tolerance, atol=0.0))


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
    jacobian_transposed,
    not_summed,
    last_wins,
    output_factor,
    misplaced,
    wrong_sum,
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


def _vanishes(clue: Clue, numbers: Vector) -> bool:
    """Whether these are zero beside the derivatives."""
    return bool(np.all(abs(numbers) <= clue.tolerance * abs(clue.truth).max(initial=0.0)))


def _coefficient(a: Vector, b: Vector) -> float | None:
    """The k for which k b comes nearest to a."""
    norm = float((b * b).sum())
    return float((a * b).sum()) / norm if norm else None


def _noise(clue: Clue) -> float:
    """What counts as zero among the derivatives."""
    return 1e-3 * clue.tolerance * float(abs(clue.truth).max(initial=0.0))
