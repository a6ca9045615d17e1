"""A student's backward pass beside the truth, on several samples: exact, close or wrong."""

from __future__ import annotations  # numpy.random, which they name, is loaded where it's used

import functools
import reprlib
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from tinyattn import nodes
from tinyattn.study.checked import CLOSE, EXACT, MISSING, WRONG, Checked, Finding
from tinyattn.study.comparison import FOLLOWS
from tinyattn.study.exercises import Exercise, named
from tinyattn.study.faults import Fault
from tinyattn.study.hints import Diagnosis
from tinyattn.study.slips import Case
from tinyattn.study.steps import Made, Study, near
from tinyattn.study.witnesses import one_step_back
from tinyattn.tensor import Tensor

Vector: TypeAlias = "np.ndarray[Any, Any]"
Backward: TypeAlias = Callable[[Vector, dict[str, Any]], Any]

EPS = float(np.finfo(np.float64).eps)
ROUNDINGS = 8  # how many times as far as one rounding moves it a gradient may be off, and still be exact
FLOAT32 = 2.0**29  # how much coarser float32 rounds
TRIALS = 4  # in which everything is moved by one rounding


def check(
    name: str, backward: Backward | Fault, /, *, hint: int = 0, rng: np.random.Generator | int | None = None
) -> Checked:
    """Whether a backward pass that you wrote is right: exact, close or wrong, gradient by gradient.

    `name` is that of an `exercise`. `backward(d_output, saved)` gets the gradient of the output, and a dict of all that
    the forward pass was given and made. It returns a dict of gradients, `d_scores` and so on: those that are asked for,
    and as many of the intermediate ones as it likes. Where no more than three are asked for, they may be returned bare:
    one as an array, several as a tuple or a list. A `fault` will do, too. It is called for each of several samples,
    drawn from `rng`, of which some hide keys, and some have large scores.

    A gradient is exact where it is off by rounding alone: no farther than 8 times what it moves when every number
    that it is made of is moved by one rounding. It is close where float32 would do no better, and wrong otherwise;
    the first wrong element is shown. What is off only because it is made of an earlier gradient that is wrong is said
    to follow.

    The result is true where all that is asked for is exact or close. Each call of its `.hint()` tells more: of the
    shape, of the term, of the axis; `hint=2` tells two at once. Nothing that `backward` does or returns makes `check`
    fail: what it raises is told, and so is what it changes in place.

    Raises `ValueError` where there is no such exercise, and `TypeError` for what is no function.

    >>> def without_the_row_sum(d_weights, saved):
    ...     return saved["weights"] * d_weights
    >>> found = check("softmax", without_the_row_sum)
    >>> found["d_scores"].status
    'wrong'
    >>> print(found.hint())
    Hint 1, the shape: d_scores has that of scores, (2, 3, 5) here, and so has yours.
    """
    asked = named(name, "check")
    backward = backward.backward if isinstance(backward, Fault) else backward
    if not callable(backward):
        raise TypeError(f"check: needs a function of d_output and saved; got {type(backward).__name__}")
    if isinstance(hint, bool) or not isinstance(hint, int | np.integer):
        raise TypeError(f"check: hint must be a whole number; got {type(hint).__name__}")
    if hint < 0:
        raise ValueError(f"check: hint must be 0 or more; got {hint}")
    if isinstance(rng, bool) or not isinstance(rng, np.random.Generator | int | np.integer | None):
        raise TypeError(f"check: rng must be a numpy.random.Generator, or a seed; got {type(rng).__name__}")
    if isinstance(rng, int | np.integer) and rng < 0:
        raise ValueError(f"check: the seed must be 0 or more; got {rng}")
    samples = _samples(name, rng) if isinstance(rng, np.random.Generator) else _kept(name, int(rng or 0))

    cases: dict[str, list[Case]] = {gradient: [] for gradient in asked.gradients}
    problem = None
    for sample in samples:
        returned, problem = _called(asked, backward, sample)
        if problem is not None:
            break
        for gradient, case in _compared(asked, sample, returned):
            cases[gradient].append(case)
    findings = tuple(_finding(asked, gradient, found) for gradient, found in cases.items())
    diagnosis = Diagnosis(asked, samples[0].saved, cases)
    return Checked(asked.name, findings, asked.asked, problem, diagnosis).told(int(hint))


class Sample(NamedTuple):
    """What a backward pass is called with, and the truth."""

    about: str
    saved: Made
    d_output: Vector
    true: dict[str, Vector]
    rounding: dict[str, float]  # how far each gradient moves, at most, where all it is made of moves by one rounding


@functools.lru_cache(maxsize=32)
def _kept(name: str, seed: int) -> tuple[Sample, ...]:
    return _samples(name, np.random.default_rng(seed))


def _samples(name: str, rng: np.random.Generator) -> tuple[Sample, ...]:
    asked = named(name, "check")
    with np.errstate(all="ignore"):  # whatever the caller has set
        return tuple(_sample(asked, about, given, rng) for about, given in asked.samples(rng).items())


def _sample(asked: Exercise, about: str, given: Made, rng: np.random.Generator) -> Sample:
    saved = asked.forward(**given)
    d_output = np.asarray(rng.normal(size=np.shape(saved[asked.study.output])))
    true = _chain(asked.study, saved, d_output)
    rounding = {name: float(EPS * abs(x).max()) for name, x in true.items()}
    for _ in range(TRIALS):
        moved = _chain(asked.study, {k: _rounded(x, rng) for k, x in saved.items()}, _rounded(d_output, rng), rng)
        rounding = {name: max(least, float(abs(moved[name] - true[name]).max())) for name, least in rounding.items()}
    return Sample(about, saved, d_output, true, rounding)


def _chain(
    study: Study, saved: Made, d_output: Vector, rng: np.random.Generator | None = None
) -> dict[str, Vector]:
    """The true gradients, by the tape, each made of those before it.

    With `rng`, each is moved by one rounding of its largest number, which no algorithm does much better than.
    """
    found: dict[str, Vector] = {study.output: d_output}
    for name in study.gradients:
        if name != study.output and saved[name] is not None:
            found[name] = one_step_back(study, saved, name, found)
            if rng is not None:
                found[name] = found[name] + abs(found[name]).max() * EPS * _signs(found[name], rng)
    return found


def _signs(x: Vector, rng: np.random.Generator) -> Vector:
    return np.asarray(rng.choice([-1.0, 1.0], size=x.shape))


def _rounded(x: Any, rng: np.random.Generator) -> Any:
    """x with every number moved up or down by one rounding."""
    if not isinstance(x, np.ndarray) or x.dtype.kind != "f":
        return x
    return np.asarray(x * (1 + EPS * _signs(x, rng)))


# ---------------------------------------------------------------------------------------------------- the student


def _called(asked: Exercise, backward: Backward, sample: Sample) -> tuple[dict[str, Any], str | None]:
    """The gradients that came back, by name; and what went wrong before there were any that could be compared."""
    saved = {name: x.copy() if isinstance(x, np.ndarray) else x for name, x in sample.saved.items()}
    d_output = sample.d_output.copy()
    arrays = dict(saved)
    try:
        with np.errstate(all="ignore"):
            returned = backward(d_output, saved)
    except (Exception, SystemExit) as error:
        return {}, _raised(error, sample)
    where = f"In the sample {sample.about!r}"
    for name, x in [*arrays.items(), ("d_output", d_output)]:
        before = sample.d_output if name == "d_output" else sample.saved[name]
        if isinstance(x, np.ndarray) and not _same(x, before):
            called = "d_output" if name == "d_output" else f"saved[{name!r}]"
            return {}, (
                f"{where} your function changed {called} in place. Whatever reads it afterwards reads something else:"
                " write into a copy, as by x = x * y for x *= y."
            )
    try:
        with np.errstate(all="ignore"):
            gradients, problem = _by_name(asked, returned)
            return {name: _as_array(gradient, name) for name, gradient in gradients.items()}, problem
    except SystemExit as error:
        return {}, _raised(error, sample)
    except Exception as error:  # whatever an object of one's own does when it's asked for an array
        return {}, f"{where}: {_said(error)}"


def _raised(error: BaseException, sample: Sample) -> str:
    if isinstance(error, NotImplementedError):
        return "Nothing yet: your function raises NotImplementedError."
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename not in _OURS]
    line = f", at line {frames[0].lineno} ({frames[0].line})" if frames and frames[0].line else ""
    what = f"{type(error).__name__}{line}: {_said(error)}"
    shapes = ", ".join(f"{name} {x.shape}" for name, x in sample.saved.items() if isinstance(x, np.ndarray))
    advice = ""
    if isinstance(error, ValueError) and "broadcast" in str(error):
        advice = " Where a sum or a mean is to meet what it was taken of, keepdims=True keeps its axis."
    return (
        f"In the sample {sample.about!r} your function raised {what}.{advice} The shapes there: d_output"
        f" {sample.d_output.shape}, {shapes}."
    )


_OURS = {__file__, nodes.__file__}


def _said(error: BaseException) -> str:
    """What an error says, in one line."""
    try:
        return " ".join(str(error).split()) or "no more is said"
    except Exception:
        return "no more is said"


def _by_name(asked: Exercise, returned: Any) -> tuple[dict[str, Any], str | None]:
    """What was returned as a dict of arrays, without None; or what is the matter with it."""
    wanted = f"Return {asked.returns}."
    nothing = f"Nothing yet: your function returned no gradients. {wanted}"
    if returned is None:
        return {}, f"{nothing} Is a return missing?"
    if not isinstance(returned, Mapping):
        several = isinstance(returned, tuple) or (isinstance(returned, list) and len(asked.asked) > 1)
        bare = returned if several else (returned,)
        if not asked.bare:
            return {}, f"Your function returned {_a(returned)}. {wanted}"
        if len(bare) != len(asked.asked):
            many = "one gradient is" if len(asked.asked) == 1 else f"{len(asked.asked)} gradients are"
            return {}, f"Your function returned {_a(returned)}, and {many} asked for. {wanted}"
        returned = dict(zip(asked.asked, bare, strict=True))
    if all(x is None for x in returned.values()):
        return {}, nothing
    known = asked.gradients
    for name in returned:
        if name not in known:
            hint = near(str(name), known) or f" There are {', '.join(known)}."
            return {}, f"Your function returned {reprlib.repr(name)}, which is no gradient of this exercise.{hint}"
    return {name: x for name, x in returned.items() if x is not None}, None


def _a(returned: Any) -> str:
    kind = type(returned).__name__
    return f"a {kind} of {len(returned)}" if isinstance(returned, tuple | list) else f"one {kind}"


def _as_array(gradient: Any, name: str) -> Vector:
    array = gradient.numpy() if isinstance(gradient, Tensor) else nodes.as_array(gradient, f"your {name}")
    array = np.asarray(array) if isinstance(array, np.generic) else array  # one number
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        alone = not isinstance(array, np.ndarray) or (array.ndim == 0 and array.dtype == object)
        kind = type(gradient).__name__ + ("" if alone else f" of dtype {array.dtype}")
        raise TypeError(f"your {name} needs real numbers, in one array; got {kind}")
    return array.astype(np.float64)


def _same(a: Vector, b: Vector) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


# ---------------------------------------------------------------------------------------------------- judging


def _compared(asked: Exercise, sample: Sample, given: Mapping[str, Vector]) -> Iterator[tuple[str, Case]]:
    """What is to be said of each gradient in this sample, in backward order."""
    study, saved = asked.study, sample.saved
    own: dict[str, Vector] = {}  # the student's gradients; what follows from them where none is given
    for name, true in sample.true.items():
        yours = given.get(f"d_{name}")
        with np.errstate(all="ignore"):
            if name == study.output:
                should = sample.d_output
            elif all(np.isfinite(x).all() for x in own.values()):
                should = one_step_back(study, saved, name, own)
            else:
                should = np.full(true.shape, np.nan)
            seen = _seen(name, saved, true.shape)
            case = _case(sample, name, yours, true, should, seen, dict(own))
        yield f"d_{name}", case
        own[name] = yours if yours is not None and yours.shape == true.shape else should


def _seen(name: str, saved: Made, shape: tuple[int, ...]) -> Vector:
    """Which numbers are compared: not the gradient in a weight that is hidden, of which nothing is made."""
    if name == "weights" and saved.get("mask") is not None:
        return np.broadcast_to(saved["mask"], shape)
    return np.ones(shape, bool)


def _case(
    sample: Sample,
    name: str,
    yours: Vector | None,
    true: Vector,
    should: Vector,
    seen: Vector,
    own: dict[str, Vector],
) -> Case:
    """One gradient in one sample, with the status that it has there."""
    exact = ROUNDINGS * sample.rounding[name]
    close = exact * FLOAT32
    status, wrong = MISSING, np.zeros(true.shape, bool)
    if yours is not None and yours.shape != true.shape:
        status = WRONG
    elif yours is not None:
        error = np.where(seen, abs(yours - true), 0.0)
        wrong = ~(error <= close)  # and so NaN is wrong
        if (error <= exact).all():
            status = EXACT
        elif not wrong.any():
            status = CLOSE
        else:
            growth = max(1.0, float(np.nanmax(abs(should), initial=0.0)) / max(abs(true).max(), 1e-300))
            off = np.where(seen & ~np.isnan(should), abs(yours - should), 0.0)
            status = FOLLOWS if (off <= close * growth).all() else WRONG
    return Case(sample.about, sample.saved, sample.d_output, name, yours, true, should, own, seen, status, wrong, close)


def _finding(asked: Exercise, gradient: str, cases: list[Case]) -> Finding:
    """What is said of a gradient over all samples: the worst that was said in any."""
    name = gradient.removeprefix("d_")
    worst = max(cases, key=lambda case: _BADNESS.index(case.status), default=None)
    if worst is None:
        return Finding(gradient, asked.study.gradients[name], MISSING)
    index = yours = true = None
    if worst.yours is not None and worst.wrong.any():
        index = tuple(int(i) for i in np.argwhere(worst.wrong)[0])
        yours, true = float(worst.yours[index]), float(worst.true[index])
    note = ""
    if worst.yours is not None and worst.yours.shape != worst.true.shape:
        note = f"of shape {worst.yours.shape}, not {worst.true.shape}"
    offs = [case.off for case in cases if case.yours is not None and case.yours.shape == case.true.shape]
    return Finding(
        gradient,
        asked.study.gradients[name],
        worst.status,
        worst.sample if worst.status in (WRONG, FOLLOWS) else None,
        index,
        yours,
        true,
        max(offs, default=float("nan")),
        note,
    )


_BADNESS = (EXACT, CLOSE, MISSING, FOLLOWS, WRONG)
