"""The slips of a student's backward pass: which of them gives the numbers that were handed in?

What a gradient should be is spoilt as people spoil it: by a sign, a factor, a part left out, another axis, another
array. A guess tells a slip only if that gives the student's numbers, in every sample; else it is empty.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from tinyattn.derivatives import vjp
from tinyattn.engine import unbroadcast
from tinyattn.study.exercises import Exercise
from tinyattn.study.steps import Made, Study

Vector: TypeAlias = "np.ndarray[Any, Any]"
Parts: TypeAlias = dict[str, Vector]


class Case(NamedTuple):
    """One gradient in one sample: what it is by the student, what it should be, and what is made of it."""

    sample: str
    saved: Made
    d_output: Vector
    name: str
    yours: Vector | None
    true: Vector
    should: Vector  # after the student's own earlier gradients, right or wrong
    own: Mapping[str, Vector]  # these
    seen: Vector
    status: str
    wrong: Vector
    close: float

    @property
    def off(self) -> float:
        """How far it is off, over its largest number."""
        assert self.yours is not None
        error = float(np.where(self.seen, abs(self.yours - self.true), 0.0).max())
        largest = float(abs(self.true).max())
        return error / largest if largest else error

    def is_that(self, candidate: Vector, where: Vector | bool = True) -> bool:
        """Whether the student's numbers are the candidate's."""
        if self.yours is None or candidate.shape != self.yours.shape:
            return False
        seen = self.seen & where
        largest = float(np.max(abs(candidate), initial=0.0, where=seen & np.isfinite(candidate)))
        return bool(seen.any() and (abs(self.yours - candidate) <= 1e-6 * largest + self.close)[seen].all())


# ---------------------------------------------------------------------------------------------------- guesses


def of_misfit(cases: list[Case]) -> str:
    """What is to be said of a gradient that has another shape than it should."""
    case = cases[0]
    assert case.yours is not None
    yours, true = case.yours, case.should
    if yours.ndim > 1 and case._replace(yours=yours.swapaxes(-1, -2)).is_that(true):
        return "the numbers are right, and stand transposed."
    if yours.size > true.size and _broadcasts(true.shape, yours.shape):
        if case._replace(yours=unbroadcast(yours, true.shape)).is_that(true):
            return "the numbers are right, and aren't added up yet: what is shared gets a gradient back from each use."
    return "the shape has to be right before the numbers can be compared."


def _broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    return len(shape) <= len(to) and all(a in (1, b) for a, b in zip(shape[::-1], to[::-1], strict=False))


def _not_finite(exercise: Exercise, cases: list[Case]) -> str:
    for case in cases:
        if case.yours is not None and not np.isfinite(case.yours).all():
            index = [int(i) for i in np.argwhere(~np.isfinite(case.yours))[0]]
            return (
                f"it isn't finite at {index} in the sample {case.sample!r}. Is something divided by zero, or is −∞"
                " multiplied by 0? (What is saved as weights is finite where scores aren't.)"
            )
    return ""


def _zero(exercise: Exercise, cases: list[Case]) -> str:
    if not all(case.is_that(np.zeros(case.true.shape)) for case in cases):
        return ""
    exactly = all(case.yours is not None and not case.yours.any() for case in cases)
    return "it is zero everywhere." if exactly else "it is zero everywhere, but for round-off."


def _factor(exercise: Exercise, cases: list[Case]) -> str:
    """One factor, the same number or the same thing in all samples."""
    factors = []
    for case in cases:
        assert case.yours is not None
        size = float((case.should * case.should)[case.seen].sum())
        factor = float((case.yours * case.should)[case.seen].sum()) / size if size else math.nan
        if not case.is_that(factor * case.should):
            return ""
        factors.append(factor)
    if all(abs(factor - 1) < 1e-5 for factor in factors):
        return ""
    labels = [set(_labels(case, factor)) for case, factor in zip(cases, factors, strict=True)]
    if all(abs(factor + 1) < 1e-6 for factor in factors):
        return "the numbers are right but for their sign."
    common = set.intersection(*labels)
    if common:
        return f"it is {_shortest(common)} times what it should be."
    if np.ptp(factors) <= 1e-6 * abs(factors[0]):
        return f"it is {factors[0]:.6g} times what it should be, everywhere."
    return f"it is a multiple of what it should be: {factors[0]:.6g} times in the sample {cases[0].sample!r}."


def _shortest(labels: set[str]) -> str:
    return min(labels, key=lambda label: (len(label), label))


def _labels(case: Case, factor: float) -> Iterator[str]:
    """What there is that has the value of the factor."""
    known = {"saved['scale']": float(case.saved.get("scale") or math.nan)}
    shapes = {"d_output": case.d_output.shape, case.name: case.true.shape}
    for name, shape in shapes.items():
        for axis in range(-len(shape), 0):
            known[f"{name}.shape[{axis}]"] = float(shape[axis])
        if len(shape) > 1:
            known[f"the number of rows, {name}.size / {name}.shape[-1],"] = math.prod(shape[:-1])
    if "losses" in case.saved:
        known["losses.size"] = float(case.saved["losses"].size)
    if case.d_output.ndim == 0:
        known["d_output"] = float(case.d_output)
    for label, value in known.items():
        if abs(factor - value) < 1e-6 * abs(value):
            yield label
        if abs(factor * value - 1) < 1e-6:
            yield f"1 / {label}"
        if value not in (0.0, 1.0) and abs(factor - value**2) < 1e-6 * value**2:
            yield f"{label}²"


def _by_saved(exercise: Exercise, cases: list[Case]) -> str:
    """Multiplied, or divided, by an array that is saved."""
    for name in cases[0].saved:
        for told, spoilt in (
            (f"times saved[{name!r}], element by element: is that factor one too many?", np.multiply),
            (f"divided by saved[{name!r}], element by element: is that factor missing?", np.divide),
        ):
            if all(_spoilt_by(case, case.saved[name], spoilt) for case in cases):
                return f"it is what it should be {told}"
    return ""


def _spoilt_by(case: Case, x: Any, spoilt: Callable[..., Vector]) -> bool:
    if not isinstance(x, np.ndarray) or x.dtype.kind != "f" or x.ndim > case.should.ndim:
        return False
    try:
        candidate = spoilt(case.should, x)
    except ValueError:
        return False
    fine = np.isfinite(candidate)
    return candidate.shape == case.should.shape and case.is_that(candidate, fine) and bool(fine.any())


def _in_place_of(exercise: Exercise, cases: list[Case]) -> str:
    """It is another of the gradients, or another's transpose."""
    for other in cases[0].own:
        if other != cases[0].name and all(other in case.own and case.is_that(case.own[other]) for case in cases):
            return f"the numbers are those of d_{other}. Is something between the two skipped?"
    if all(case.true.ndim > 1 and case.is_that(case.should.swapaxes(-1, -2)) for case in cases):
        return "the numbers are right, and stand transposed."
    return ""


def _heads(exercise: Exercise, cases: list[Case]) -> str:
    """The heads stand in another order."""
    case = next((c for c in cases if c.wrong.any() and c.true.ndim > 2), None)
    if case is None or case.yours is None:
        return ""
    yours, right = np.moveaxis(case.yours, -3, 0), np.moveaxis(case.should, -3, 0)
    found = [next((j for j, r in enumerate(right) if np.allclose(y, r, 1e-6, case.close)), None) for y in yours]
    if None in found or found == list(range(len(found))):
        return ""
    return "the heads stand in another order: " + ", ".join(f"yours {i} is {j}" for i, j in enumerate(found)) + "."


# ---------------------------------------------------------------------------------------------------- its parts


class Along(NamedTuple):
    """How the sums in a gradient's parts might be taken."""

    about: str
    take: Callable[[Vector, bool], Vector]  # (x, whether a mean is due) → its sum, or mean, kept broadcastable


def _sum(axis: int | tuple[int, ...] | None) -> Callable[[Vector, bool], Vector]:
    def take(x: Vector, mean: bool) -> Vector:
        found = x.mean(axis=axis, keepdims=True) if mean else x.sum(axis=axis, keepdims=True)
        return np.asarray(found)

    return take


def _as_it_is(x: Vector, mean: bool) -> Vector:
    return x


def _ways(ndim: int) -> Iterator[Along]:
    yield Along("", _sum(-1))
    for axis in range(-2, -ndim - 1, -1):
        yield Along(f"the sum in it runs along axis {axis}", _sum(axis))
    yield Along("the sum in it runs over everything", _sum(None))
    yield Along("something that should be summed along the row isn't summed", _as_it_is)


def _parts_spoilt(exercise: Exercise, cases: list[Case]) -> str:
    """Parts left out, doubled, of another sign or off by a factor; or sums along another axis.

    How often each part is there is found by least squares, and counts where that explains every number.
    """
    for about, take in _ways(min(case.true.ndim for case in cases)):
        made = [_parts(exercise, case, take) for case in cases]
        if not made[0] or (about and _SUMMED.isdisjoint(made[0])):
            continue
        counts = [_counts(case, parts) for case, parts in zip(cases, made, strict=True)]
        if None in counts:
            continue
        clear = [(case, found) for case, found in zip(cases, counts, strict=True) if found]
        said = [_counted(part, [(case, found[part]) for case, found in clear]) for part in made[0]]
        if clear and None not in said and (about or any(said)):
            return "; ".join(filter(None, (about, *said))) + "."
    return ""


def _counts(case: Case, parts: Parts) -> dict[str, float] | None:
    """How often each part is there; empty where that can't be told, None where the parts don't explain the numbers."""
    assert case.yours is not None
    seen = case.seen
    columns = np.stack([np.broadcast_to(part, seen.shape)[seen] for part in parts.values()], axis=-1)
    if not np.isfinite(columns).all():
        return None
    found, _, rank, _ = np.linalg.lstsq(columns, case.yours[seen], rcond=1e-9)
    if not case.is_that(np.asarray(sum(n * part for n, part in zip(found, parts.values(), strict=True)))):
        return None
    return dict(zip(parts, map(float, found), strict=True)) if rank == len(parts) else {}


def _counted(part: str, counts: list[tuple[Case, float]]) -> str | None:
    """What is said of a part that is there so often; nothing where it is right, None where it makes no sense."""
    for often, said in _COUNTED.items():
        if all(abs(n - often) < 1e-5 for _, n in counts):
            return said.format(part) if said else ""
    common = set.intersection(*(set(_labels(case, n)) for case, n in counts))
    return f"the part {part} is {_shortest(common)} times what it should be" if common else None


_COUNTED = {
    1: "",
    0: "the part {} is missing",
    -1: "the part {} has the wrong sign",
    2: "the part {} is there twice",
}


def _parts(exercise: Exercise, case: Case, take: Callable[[Vector, bool], Vector]) -> Parts:
    """The terms that make a gradient, in words; a sum in them is taken as `take` does."""
    study, saved, own, name = exercise.study, case.saved, case.own, case.name
    found: Parts = {}
    for step in study.steps:
        if name not in study.uses(step) or step not in own:
            continue
        if step == "weights":
            found |= _softmax_parts(own["weights"], saved["weights"], take)
        elif step == "log_weights":
            found |= _surprise_parts(own["losses"][..., None], saved, take)
        elif step in ("normed_1", "normed_2") and name in ("x", "middle"):
            i = step[-1]
            d_normal = own[step] * saved[f"weight_{i}"]
            found |= _norm_parts(d_normal, saved[f"normal_{i}"], saved[f"deviation_{i}"], take)
        elif step == "centred" and "normal" in own:
            found |= _norm_parts(own["normal"], saved["normal"], saved["deviation"], take)
        else:
            found[f"through {step}"] = _through(study, saved, name, step, own[step])
    return found


def _softmax_parts(d: Vector, w: Vector, take: Callable[[Vector, bool], Vector]) -> Parts:
    return {"from a weight to its own score": w * d, "from all weights of the row": -w * take(w * d, False)}


def _surprise_parts(d: Vector, saved: Made, take: Callable[[Vector, bool], Vector]) -> Parts:
    return {"through the weights": saved["weights"] * d, "from the target": -saved["one_hot"] * d}


def _norm_parts(d: Vector, normal: Vector, deviation: Vector, take: Callable[[Vector, bool], Vector]) -> Parts:
    return {
        "straight through the norm": d / deviation,
        "through the mean": -take(d, True) / deviation,
        "through the deviation": -normal * take(d * normal, True) / deviation,
    }


_SUMMED = {"from all weights of the row", "through the mean", "through the deviation"}


def _through(study: Study, saved: Made, name: str, step: str, gradient: Vector, **others: Vector) -> Vector:
    """What one step sends back, given its gradient; `others` stand in for what else it is made of.

    As in `one_step_back` nothing is hidden: it is left to the scores' gradient to be zero there.
    """
    uses = study.uses(step)
    place = uses.index(name)
    given = [others.get(used, None if used == "mask" else saved[used]) for used in uses]
    compute = study.steps[step]
    _, pull_back = vjp(lambda x: compute(*given[:place], x, *given[place + 1 :]), saved[name])
    found: Vector = pull_back(gradient)[0].numpy()
    return found


# ---------------------------------------------------------------------------------------------------- other slips


def _slipped(exercise: Exercise, cases: list[Case]) -> str:
    for told, spoilt in _SLIPS.get((exercise.name, cases[0].name), _SLIPS.get(("", cases[0].name), {})).items():
        try:
            if all(case.is_that(spoilt(case)) for case in cases):
                return told
        except KeyError:  # a gradient that this case has none of
            continue
    return ""


def _d_and_w(case: Case) -> tuple[Vector, Vector]:
    return case.own["weights"], case.saved["weights"]


def _row(x: Vector) -> Vector:
    return np.asarray(x.sum(axis=-1, keepdims=True))


def _unweighted(case: Case) -> Vector:
    d, w = _d_and_w(case)
    return np.asarray(w * (d - _row(d)))


def _plain_mean(case: Case) -> Vector:
    d, w = _d_and_w(case)
    return np.asarray(w * (d - d.mean(axis=-1, keepdims=True)))


def _diagonal(case: Case) -> Vector:
    d, w = _d_and_w(case)
    return np.asarray(w * (1 - w) * d)


def _bracket(case: Case) -> Vector:
    d, w = _d_and_w(case)
    return np.asarray(d - _row(w * d))


def _logs(case: Case) -> Vector:
    d, w = _d_and_w(case)
    return np.asarray(d - w * _row(d))


def _without_weight(case: Case) -> Vector:
    saved = case.saved
    parts = _norm_parts(case.own["output"], saved["normal"], saved["deviation"], _sum(-1))
    return np.asarray(sum(parts.values()))


def _shifted_targets(by: int) -> Callable[[Case], Vector]:
    def spoilt(case: Case) -> Vector:
        one_hot = np.roll(case.saved["one_hot"], by, axis=-1)
        return np.asarray((case.saved["weights"] - one_hot) * case.own["losses"][..., None])

    return spoilt


def _rectified(keep: Callable[[Vector], Vector]) -> Callable[[Case], Vector]:
    return lambda case: np.asarray(case.own["active"] * keep(case.saved["hidden"]))


def _unmixed(case: Case) -> Vector:
    return np.asarray(case.own["mix"].reshape(case.true.shape))


_OF_SOFTMAX: dict[str, Callable[[Case], Vector]] = {
    "the sum over the row doesn't count each gradient as much as its weight.": _unweighted,
    "the mean over the row counts each gradient alike, not as much as its weight.": _plain_mean,
    "each weight answers to its own score only: what it does to the others of the row is missing.": _diagonal,
    "a factor is missing: how much weight the key itself has.": _bracket,
    "this is the gradient of the logarithm of softmax.": _logs,
}
_SLIPS: dict[tuple[str, str], dict[str, Callable[[Case], Vector]]] = {
    ("", "scores"): _OF_SOFTMAX,
    ("cross_entropy", "scores"): {
        "the class beside the target is taken for it: are classes counted from 0?": _shifted_targets(-1),
        "the class on the other side of the target is taken for it.": _shifted_targets(1),
    },
    ("layer_norm", "x"): {"the learned weight, between normal and the output, is skipped.": _without_weight},
    ("", "hidden"): {
        "the rectifier lets through what it should hold back.": _rectified(np.ones_like),
        "the rectifier lets through the negative ones.": _rectified(lambda x: x < 0),
        "it is multiplied by what the rectifier let through; its slope is due, 0 or 1.": _rectified(
            lambda x: np.maximum(x, 0)
        ),
        "it is multiplied by what went into the rectifier; its slope is due, 0 or 1.": _rectified(lambda x: x),
    },
    ("", "heads"): {"the heads are cut from the columns without exchanging the axes: rows and heads mix.": _unmixed},
}


def _array_exchanged(exercise: Exercise, cases: list[Case]) -> str:
    """Another array of the same shape stands where one belongs: in the gradient that comes in, or beside it."""
    study, name = exercise.study, cases[0].name
    users = [step for step in study.steps if name in study.uses(step)]
    if len(users) != 1:
        return ""
    (step,) = users
    first = cases[0]
    if step not in first.own:
        return ""
    for used in study.uses(step):
        right = f"saved[{used!r}]"
        for other in _like(first, np.shape(first.saved[used]), right) if used != name else ():
            if all(_stands_beside(study, case, step, used, _named(case).get(other)) for case in cases):
                return f"{other} stands where {right} belongs."
    right = f"d_{step}"
    for other in _like(first, first.own[step].shape, right):
        if all(_comes_in(study, case, step, _named(case).get(other)) for case in cases):
            return f"{other} stands where {right} belongs."
    return ""


def _named(case: Case) -> dict[str, Vector]:
    """The arrays that a student has at hand, by what they are called."""
    saved = {f"saved[{name!r}]": x for name, x in case.saved.items() if isinstance(x, np.ndarray)}
    there = saved | {f"d_{name}": x for name, x in case.own.items()}
    return {name: x for name, x in there.items() if x.ndim and x.dtype.kind == "f"}


def _like(case: Case, shape: tuple[int, ...], right: str) -> list[str]:
    """What else has the shape of the right one."""
    return [name for name, x in _named(case).items() if x.shape == shape and name != right]


def _stands_beside(study: Study, case: Case, step: str, used: str, x: Vector | None) -> bool:
    """Whether x in place of what the step is made of gives the student's numbers."""
    if x is None or step not in case.own or x.shape != np.shape(case.saved[used]):
        return False
    return case.is_that(_through(study, case.saved, case.name, step, case.own[step], **{used: x}))


def _comes_in(study: Study, case: Case, step: str, x: Vector | None) -> bool:
    """Whether x in place of the step's gradient gives the student's numbers."""
    if x is None or step not in case.own or x.shape != case.own[step].shape:
        return False
    return case.is_that(_through(study, case.saved, case.name, step, x))


Guess: TypeAlias = Callable[[Exercise, list[Case]], str]
GUESSES: tuple[Guess, ...] = (  # the first that explains all numbers is told
    _not_finite,
    _zero,
    _factor,
    _slipped,
    _parts_spoilt,
    _in_place_of,
    _by_saved,
    _heads,
    _array_exchanged,
)
