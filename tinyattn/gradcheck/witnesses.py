"""The witnesses: ways of computing one gradient, and the comparison of what they say."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from tinyattn.engine import unbroadcast
from tinyattn.gradcheck.guesses import Clue, guess
from tinyattn.gradcheck.report import COMPLEX, DIFFERENCES, Finding, Index, Report

Vector: TypeAlias = "np.ndarray[Any, Any]"
Pullback: TypeAlias = "Callable[[Vector], list[list[Vector]]]"  # cotangents → for each the gradients, in order

SMALL = 1000  # numbers in an input: up to here each is moved, beyond it the input moves in random directions
DIRECTIONS = 20
OUTPUTS = 64  # numbers in an output: up to here each has a cotangent of its own, so that the whole Jacobian is seen

RESCALED = [16.0**k for n in range(1, 11) for k in (-n, n)]  # of the usual step: nearer, wider, nearer still, ...

VACUOUS = "vacuous: no input moves the output along the cotangent, so that nothing was seen"


class Precision(NamedTuple):
    """What one dtype allows: derivatives agree where |a − b| ≤ atol + rtol max(|a|, |b|).

    atol is that of derivatives of size 1 and more, unless it was asked for; `at_scale` says what it is for others.
    """

    dtype: np.dtype[Any]
    step: float  # truncation, ∝ step⁴, meets round-off, ∝ 1 / step; and a power of two moves most numbers exactly
    complex_step: float  # nothing is subtracted, so that nothing is lost
    rtol: float
    atol: float
    fixed: bool = False  # whether that atol was asked for, and holds whatever the derivatives
    one_step: bool = False  # whether that step was asked for, and no other is tried

    def at_scale(self, size: float, noise: float) -> Precision:
        """What holds for derivatives of up to that size, where the round-off of differences may make that noise."""
        if self.fixed or not size < np.inf:
            return self
        smaller = self.atol * min(size, 1.0)
        return self._replace(atol=noise if size <= noise else max(smaller, min(noise, 1e-3 * size)))


PRECISIONS = {
    np.dtype(np.float64): Precision(np.dtype(np.float64), 2.0**-10, 1e-30, rtol=1e-6, atol=1e-9),
    np.dtype(np.float32): Precision(np.dtype(np.float32), 2.0**-5, 1e-20, rtol=1e-3, atol=1e-4),
}


class Case(NamedTuple):
    """A function at a point, cotangents for its output, and those who say what its gradients are."""

    rule: str
    subject: str
    arguments: list[Any]
    names: list[str]
    value: Callable[..., Vector]  # arrays → the output
    gradients: dict[str, Pullback]  # witness → its gradients
    output: Vector
    cotangents: Vector  # (number of them, *output.shape)
    precision: Precision
    analytic: bool | None = None  # whether complex numbers can go through; None: find out
    flat: bool = False  # whether derivatives may all be 0, so that there is nothing to see
    options: Mapping[str, float] = MappingProxyType({})  # numbers that a mistake may be off by
    chosen: tuple[int, ...] = ()  # the arguments that are differentiated; all that are floating, if none are given

    def places(self) -> Sequence[int]:
        """The arguments that are differentiated."""
        return self.chosen or floating(self.arguments)

    def moved(self, i: int, step: Vector) -> Vector:
        """The output after argument i has taken a step; one that leads out of the function's domain gives NaN."""
        x = self.arguments[i]
        kind = np.result_type(x.dtype, np.complex64) if np.iscomplexobj(step) else x.dtype
        with np.errstate(all="ignore"):
            output = self.value(*replaced(self.arguments, {i: np.asarray(x + step, dtype=kind)}))
        if output.shape != self.output.shape:
            raise ValueError(
                f"gradcheck: the shape of the output must not depend on the numbers in {self.names[i]}, or there is"
                f" nothing to compare; got {self.output.shape}, and {output.shape} a step away"
            )
        return output

    def along_cotangents(self, change: Vector) -> Vector:
        """Σ c · change for every cotangent c, summed in float64."""
        return self.cotangents.reshape(len(self.cotangents), -1) @ change.reshape(-1)


def random_cotangents(rng: np.random.Generator, output: Vector) -> Vector:
    """A random one; and one for each number of the output, or, if these are many, another random one."""
    few = 1 < output.size <= OUTPUTS
    further = np.eye(output.size) if few else rng.normal(size=(1, output.size))
    cotangents = np.concatenate([rng.normal(size=(1, output.size)), further])
    return cotangents.reshape(len(cotangents), *output.shape)


# ---------------------------------------------------------------------------------------------------- comparing


def hear(case: Case, rng: np.random.Generator, *, directions: int | None = None) -> Report:
    """Compare what all witnesses say, argument by argument. `directions`: move in so few random ones, to be quick."""
    gradients = {}
    for witness, compute in case.gradients.items():
        try:
            gradients[witness] = compute(case.cotangents.astype(case.precision.dtype))
        except Exception as error:  # what is wrong may raise anything
            return Report(case.subject, (), f"{witness} raised {type(error).__name__}: {error}")
    heard = []
    notes = []
    for place, i in enumerate(case.places()):
        if not case.arguments[i].size:
            continue
        moves = Moves(case.arguments[i], rng, directions)
        suited = _suited(case, i)
        said = {witness: moves.along([g[place] for g in each]) for witness, each in gradients.items()}
        said[DIFFERENCES] = np.stack([_central(suited, i, d) for d in moves.directions], axis=-1)
        size = max(float(np.max(abs(numbers), initial=0.0)) for numbers in said.values())
        scaled = suited._replace(precision=suited.precision.at_scale(size, _noise(suited, i)))
        doubts = _look_closer(scaled, i, moves, said)
        said_by_complex = _by_complex_step(case, i, moves)
        if said_by_complex is not None:
            if case.analytic or np.all(_errors(said_by_complex, said[DIFFERENCES], scaled.precision) <= 1e-4):
                said[COMPLEX] = said_by_complex
            else:
                notes.append(f"{case.names[i]}: the complex step isn't heard, since it differs from the differences")
        heard.append((scaled, i, moves, said, doubts))
    findings = [_compare(*each) for each in heard]
    clues = [_clue(*each[:-1]) for each in heard]
    for k, finding in enumerate(findings):
        if finding.verdict == "WRONG" and not finding.doubtful:
            told = guess(clues, k, case.output, case.cotangents[0], case.options)
            findings[k] = finding._replace(guess=told)
    return Report(case.subject, tuple(findings), None if case.flat else _unseen(findings), notes=tuple(notes))


def _unseen(findings: Sequence[Finding]) -> str | None:
    """Why there is nothing to agree on, if there isn't."""
    if all(finding.verdict in ("no influence", "vacuous") for finding in findings):
        return VACUOUS
    unseen = [finding.argument for finding in findings if finding.verdict == "vacuous"]
    return f"vacuous in {', '.join(unseen)}: the output moves, but not along the cotangent" if unseen else None


class Moves:
    """The ways in which an input is moved: one number at a time; or, if there are many, all at once, at random."""

    def __init__(self, x: Vector, rng: np.random.Generator, directions: int | None = None) -> None:
        """`directions` of them at random, if given."""
        self.shape = x.shape
        self.single = x.size <= (directions or SMALL)
        everyone = np.eye(x.size) if self.single else rng.normal(size=(directions or DIRECTIONS, x.size))
        self.directions = everyone.reshape(len(everyone), *x.shape)

    def along(self, gradients: Sequence[Vector]) -> Vector:
        """The derivatives along each direction, a row for each gradient."""
        rows = np.stack([gradient.reshape(-1) for gradient in gradients])
        return rows if self.single else rows @ self.directions.reshape(len(self.directions), -1).T

    def name(self, k: int) -> Index:
        """Where the k-th direction leads."""
        return tuple(int(j) for j in np.unravel_index(k, self.shape)) if self.single else f"direction {k}"


def _central(case: Case, i: int, direction: Vector) -> Vector:
    """(4 D(h/2) − D(h)) / 3, where D(h) = (f(x + h) − f(x − h)) / 2h: the terms in h² cancel."""
    h = case.precision.step
    return (4 * slope(case, i, direction, h / 2) - slope(case, i, direction, h)) / 3


def slope(case: Case, i: int, direction: Vector, h: float) -> Vector:
    """D(h) = Σ c · (f(x + h) − f(x − h)) / 2h, for every cotangent c. What is divided by is what x really moved by."""
    above, below = case.moved(i, h * direction), case.moved(i, -h * direction)
    with np.errstate(all="ignore"):  # ∞ − ∞ is NaN, which fails anyway
        return case.along_cotangents(above.astype(np.float64) - below) / (2 * h)


def complex_slope(case: Case, i: int, direction: Vector, h: float) -> Vector:
    """Im f(x + ih) / h, which has no difference to lose digits in. Squire and Trapp 1998, SIAM Review 40(1)."""
    return case.along_cotangents(case.moved(i, 1j * h * direction).imag) / h


def _by_complex_step(case: Case, i: int, moves: Moves) -> Vector | None:
    """What the complex step says; None where complex numbers can't go through."""
    h = case.precision.complex_step
    if case.analytic is None and not takes_complex(case, i):
        return None
    if case.analytic is False:
        return None
    return np.stack([complex_slope(case, i, direction, h) for direction in moves.directions], axis=-1)


def takes_complex(case: Case, i: int) -> bool:
    """Whether the function, given complex numbers, gives complex numbers."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", np.exceptions.ComplexWarning)  # of a part that was thrown away
            output = case.moved(i, 1j * case.precision.complex_step * np.ones(case.arguments[i].shape))
    except Exception:  # a function that isn't made for them may raise anything
        return False
    return bool(output.dtype.kind == "c")


def _compare(case: Case, i: int, moves: Moves, said: dict[str, Vector], doubts: Mapping[int, Vector]) -> Finding:
    pairs = [_errors(a, b, case.precision) for a, b in itertools.combinations(said.values(), 2)]
    errors = np.max(pairs, axis=0)
    wrong = errors > case.precision.rtol
    # The first that is wrong, where the random cotangent, which tells most, comes first; or else the worst.
    # What is more than the differences may be off by comes before that.
    first, *others = said
    certain = wrong.copy()
    for k, doubt_there in doubts.items():
        certain[:, k] &= ~(abs(said[first][:, k] - said[DIFFERENCES][:, k]) <= 2 * doubt_there)
    told = next((each for each in (certain, wrong) if each.any()), errors)
    row, worst = divmod(int(np.argmax(told)), errors.shape[1])
    doubt = 0.0
    if wrong.any():
        doubt = float((doubts[worst] if worst in doubts else _estimate(case, i, moves.directions[worst])[1])[row])
    return Finding(
        rule=case.rule,
        argument=case.names[i],
        index=moves.name(worst),
        output=_output_index(case, row),
        numbers={witness: float(numbers[row, worst]) for witness, numbers in said.items()},
        error=float(errors.max()),
        errors={witness: float(_errors(said[first], said[witness], case.precision).max()) for witness in others},
        wrong=int(wrong.sum()),
        total=wrong.size,
        uncertainty=doubt,
        verdict="WRONG" if wrong.any() else _seen(case, i, moves, said),
    )


def _errors(a: Vector, b: Vector, precision: Precision) -> Vector:
    """Relative errors, at most rtol where |a − b| ≤ atol + rtol max(|a|, |b|); infinite where either isn't finite."""
    with np.errstate(invalid="ignore"):
        relative = abs(a - b) / (precision.atol / precision.rtol + np.maximum(abs(a), abs(b)))
    return np.where(np.isfinite(a) & np.isfinite(b), relative, np.inf)


def _output_index(case: Case, row: int) -> tuple[int, ...] | None:
    """The number of the output that a cotangent asks for; None for a cotangent that asks for a mixture."""
    if row == 0 or len(case.cotangents) != case.output.size + 1:
        return None
    return tuple(int(j) for j in np.unravel_index(row - 1, case.output.shape))


def _seen(case: Case, i: int, moves: Moves, said: dict[str, Vector]) -> Any:
    """Whether there was anything to agree on: zeros agree too easily."""
    atol = case.precision.atol
    if any(np.any(abs(numbers) > atol) for numbers in said.values()):
        return "ok"
    h = case.precision.step
    rounding = 8 * np.finfo(case.precision.dtype).eps * float(np.max(abs(case.output), initial=0.0))
    for direction in moves.directions:
        change = case.moved(i, h * direction).astype(np.float64) - case.moved(i, -h * direction)
        if np.any(abs(change) > max(2 * h * atol, rounding)):
            return "vacuous"
    return "no influence"


def _suited(case: Case, i: int) -> Case:
    """The case with a step that suits an argument: the usual one, unless the differences distrust it themselves.

    A function may live on another scale than 1: log x near 0, x² far from it.
    """
    direction = np.where(np.arange(case.arguments[i].size) % 2, -1.0, 1.0).reshape(case.arguments[i].shape)
    for rescaled in _rescaled(case, i, direction):
        estimate, doubt = _estimate(rescaled, i, direction)
        if doubt.sum() <= case.precision.rtol * abs(estimate).sum():
            return rescaled
    return case


def _look_closer(case: Case, i: int, moves: Moves, said: dict[str, Vector]) -> dict[int, Vector]:
    """Where the differences contradict others, and distrust themselves, take them at another step, in their place.

    Nobody asks what the others say. Gives what the differences may still be off by, for every cotangent, by direction.
    """
    differences, doubts, rtol = said[DIFFERENCES], {}, case.precision.rtol
    errors = [_errors(numbers, differences, case.precision) for who, numbers in said.items() if who != DIFFERENCES]
    for k in np.flatnonzero((np.max(errors, axis=0) > rtol).any(axis=0)):
        best, least = _estimate(case, i, moves.directions[k])
        for rescaled in _rescaled(case, i, moves.directions[k]):
            if np.all(least <= rtol * abs(best)):
                break
            estimate, doubt = _estimate(rescaled, i, moves.directions[k])
            better = (least > rtol * abs(best)) & (doubt <= rtol * abs(estimate)) | (doubt < least) & np.isinf(least)
            best, least = np.where(better, estimate, best), np.where(better, doubt, least)
        differences[:, k], doubts[int(k)] = best, least
    return doubts


def _rescaled(case: Case, i: int, direction: Vector) -> Iterator[Case]:
    """The case with its own step, and with others that move the argument by what they should, but for a small part."""
    x, rtol = case.arguments[i], case.precision.rtol
    for factor in (1.0, *(() if case.precision.one_step else RESCALED)):
        step = case.precision.step * factor
        shortest = step / 4 * direction
        if factor == 1 or np.all(abs((x + shortest) - x - shortest) <= 0.01 * rtol * abs(shortest)):
            yield case._replace(precision=case.precision._replace(step=step))


def _estimate(case: Case, i: int, direction: Vector) -> tuple[Vector, Vector]:
    """The extrapolated slope, and what it may be off by, for every cotangent: a third step; a kink; round-off.

    A step of half the length extrapolates to another number. At a kink the slopes of the two sides differ, and
    S(h) = (f(x + h) − 2 f(x) + f(x − h)) / h doesn't go to zero with h: 2 S(h/2) − S(h) does for smooth f. What isn't
    finite tells nothing.
    """
    h = case.precision.step
    with np.errstate(all="ignore"):
        d = [slope(case, i, direction, h / 2**k) for k in range(3)]
        estimate = (4 * d[1] - d[0]) / 3
        moved = abs((4 * d[2] - d[1]) / 3 - estimate)
        middle = case.output.astype(np.float64)
        bend = [
            case.along_cotangents(case.moved(i, s * direction) - 2 * middle + case.moved(i, -s * direction)) / s
            for s in (h, h / 2)
        ]
        doubt = np.max([moved, abs(2 * bend[1] - bend[0]), _rounding(case, middle)], axis=0)
    return estimate, np.where(np.isfinite(estimate) & np.isfinite(doubt), doubt, np.inf)


def _rounding(case: Case, output: Vector) -> Vector:
    """What round-off in an output makes of differences, for every cotangent: ε Σ |c f| / h."""
    size = np.abs(case.cotangents.reshape(len(case.cotangents), -1)) @ np.abs(output.reshape(-1))
    return np.asarray(np.finfo(case.precision.dtype).eps * size / case.precision.step)


def _noise(case: Case, i: int) -> float:
    """Below what a derivative can't be told from round-off: a few times as much as it may make here, or a step away."""
    away = case.moved(i, np.full(case.arguments[i].shape, case.precision.step))
    largest = np.fmax(abs(case.output), np.where(np.isfinite(away), abs(away), 0.0)).astype(np.float64)
    return 4 * float(_rounding(case, largest).max())


def _clue(case: Case, i: int, moves: Moves, said: dict[str, Vector]) -> Clue:
    """What a guess at the mistake can go by: what is said, by the backward and in truth."""
    first, *_ = said.values()
    truth = said.get(COMPLEX, said[DIFFERENCES])
    shape = moves.shape if moves.single else (len(moves.directions),)
    return Clue(
        name=case.names[i],
        x=case.arguments[i],
        backward=first[0].reshape(shape),
        truth=truth[0].reshape(shape),
        whole=moves.single,
        other_backwards=first[1:],
        other_truths=truth[1:],
        tolerance=10 * case.precision.rtol,
    )


# ---------------------------------------------------------------------------------------------------- small things


def floating(arguments: Sequence[Any]) -> list[int]:
    """The places of the arguments that are differentiated."""
    return [i for i, x in enumerate(arguments) if isinstance(x, np.ndarray) and x.dtype.kind == "f"]


def replaced(arguments: Sequence[Any], new: dict[int, Any]) -> list[Any]:
    """The arguments, with new ones at some places."""
    return [new.get(i, x) for i, x in enumerate(arguments)]


def sent(gradient: Any, x: Vector) -> Vector:
    """The gradient in the shape of x, as the engine would have it; zeros where none was sent."""
    return np.zeros_like(x) if gradient is None else np.asarray(unbroadcast(np.asarray(gradient), x.shape))
