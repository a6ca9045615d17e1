"""Floor 2: the witnesses. A gradient is believed when ways of computing it that share no formula agree on it.

| witness | where the gradient comes from | its own error |
|---|---|---|
| backward | the derivative worked out by hand | round-off |
| tape | the same rule on Tensors: the backwards of the smaller rules that it is composed of | round-off |
| differences | central differences, extrapolated from two steps | about 1e-11 |
| complex step | Im f(x + ih) / h with h = 1e-30, where f is analytic | round-off |

Each computes the gradient of Σ c · f(x) for one random cotangent c, and every two of them are compared. (With a
cotangent of ones most wrong backwards of a softmax pass, zero among them.)

    gradcheck(f, inputs)      a function of Tensors, one's own        → Report
    check_rule("softmax")     a rule, on its samples in the gallery   → RuleCheck
    check_all()               all rules, or those named               → a list of RuleChecks

A `Report` is true where the witnesses agree, and prints as a table. A `RuleCheck` has `rule`, `samples` (how many),
`ok`, `reports` (one for each sample), and the largest relative error of the backward against each of the others:
`error_numeric`, `error_complex`, `error_tape`; None for a witness that none of the samples could call.
"""

from __future__ import annotations  # numpy.random, which they name, is loaded where it's used

import difflib
import inspect
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from tinyattn.derivatives import vjp
from tinyattn.engine import Rule, no_grad, unbroadcast, walk
from tinyattn.gallery import SAMPLES, Sample
from tinyattn.rules.registry import RULES, Result
from tinyattn.tensor import Tensor

Vector: TypeAlias = "np.ndarray[Any, Any]"

BACKWARD, TAPE, DIFFERENCES, COMPLEX = "backward", "tape", "differences", "complex step"

STEP = 2.0**-10  # truncation, ∝ step⁴, meets round-off, ∝ 1 / step; and a power of two moves most numbers exactly
COMPLEX_STEP = 1e-30  # nothing is subtracted, so that nothing is lost
SMALL = 1000  # numbers in an input: up to here each is moved, beyond it the input moves in random directions
DIRECTIONS = 20


@dataclass(frozen=True)
class Finding:
    """What the witnesses say of one argument, at the place where they disagree most."""

    argument: str
    index: tuple[int, ...] | str  # of a number in the argument; or the direction that it was moved in
    numbers: dict[str, float]  # witness → the derivative there
    error: float  # between the two that are farthest apart, relative
    errors: dict[str, float]  # witness → its largest error against the first one, at any place
    ok: bool

    @property
    def ratio(self) -> float:
        """The first number over the last: −1 tells of a sign, a whole number of a sum or mean forgotten."""
        first, *_, last = self.numbers.values()
        return first / last if last else np.nan


@dataclass(frozen=True)
class Report:
    """What came of a check: true where all witnesses agree on every argument. Printed, it is a table."""

    subject: str
    findings: tuple[Finding, ...]
    problem: str | None = None  # why the check fails whatever the numbers say

    def __bool__(self) -> bool:
        return self.problem is None and all(finding.ok for finding in self.findings)

    @property
    def error(self) -> float:
        """The largest relative error found."""
        return max((finding.error for finding in self.findings), default=0.0)

    def __str__(self) -> str:
        told = "the gradients agree" if self else self.problem or "the gradients DIFFER"
        return "\n".join([f"{self.subject}: {told}", *(f"  {line}" for line in _table(self.findings))])


@dataclass(frozen=True)
class RuleCheck:
    """What came of checking a rule on its samples; true where all went well."""

    rule: str
    reports: tuple[Report, ...]

    @property
    def samples(self) -> int:
        """How many samples were checked."""
        return len(self.reports)

    @property
    def ok(self) -> bool:
        """Whether the witnesses agree on all samples."""
        return bool(self.reports) and all(self.reports)

    @property
    def error_numeric(self) -> float | None:
        """The largest relative error of the backward against differences."""
        return self._error(DIFFERENCES)

    @property
    def error_complex(self) -> float | None:
        """The largest relative error of the backward against the complex step."""
        return self._error(COMPLEX)

    @property
    def error_tape(self) -> float | None:
        """The largest relative error of the backward against the tape."""
        return self._error(TAPE)

    def _error(self, witness: str) -> float | None:
        findings = itertools.chain.from_iterable(report.findings for report in self.reports)
        return max((finding.errors[witness] for finding in findings if witness in finding.errors), default=None)

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        return "\n".join(str(report) for report in self.reports if not report) or f"{self.rule}: the gradients agree"


# ---------------------------------------------------------------------------------------------------- to be called


def gradcheck(
    f: Callable[..., Any],
    inputs: Any,
    *,
    rng: np.random.Generator | None = None,
    cotangent: Any = None,
    analytic: bool = False,
    rtol: float = 1e-6,
    atol: float = 1e-9,
) -> Report:
    """Compare the gradient of a function of Tensors with differences, and with the complex step if it's `analytic`.

    `inputs` is the argument, or a tuple of arguments. Floating ones are checked, as float64; the others are passed on.
    `cotangent`, of the output's shape, is random unless given. Numbers agree where |a − b| ≤ atol + rtol max(|a|, |b|).

    The report is false where they don't, where a number isn't finite, where f gives two outputs for one input, or where
    all derivatives are zero, so that nothing was seen. Only f itself and senseless arguments raise.

    >>> report = gradcheck(lambda x: (x * x).sum(), [1.0, 2.0])
    >>> bool(report), report.findings[0].argument
    (True, 'x')
    """
    rng = np.random.default_rng(0) if rng is None else rng
    given = inputs if isinstance(inputs, tuple) else (inputs,)
    arguments = [_plain(np.asarray(x) if type(x) is float else x) for x in given]
    chosen = _floating(arguments)
    if not chosen:
        raise TypeError(f"gradcheck: there is nothing to check, since none of the {len(arguments)} inputs is floating")

    def value(*arrays: Any) -> Vector:
        with no_grad():
            return np.asarray(f(*(Tensor(x) if i in chosen else x for i, x in enumerate(arrays))))

    def backward() -> list[Vector]:
        def of_chosen(*moved: Any) -> Any:
            return f(*_replaced(arguments, dict(zip(chosen, moved, strict=True))))

        _, pull_back = vjp(of_chosen, *(arguments[i] for i in chosen))
        return [gradient.numpy() for gradient in pull_back(c)]

    subject = getattr(f, "__name__", type(f).__name__)
    output = value(*arguments)
    if not np.array_equal(output, value(*arguments), equal_nan=True):
        return Report(subject, (), "two calls with the same inputs gave different outputs")
    c = _normal(rng, output.shape) if cotangent is None else np.broadcast_to(np.asarray(cotangent), output.shape)
    case = _Case(subject, arguments, _names(f, len(arguments)), value, {BACKWARD: backward}, analytic, c)
    return _hear(case, rng, rtol, atol)


def check_rule(
    rule: str | Rule,
    samples: Iterable[Sample] | None = None,
    *,
    rng: np.random.Generator | None = None,
    rtol: float = 1e-6,
    atol: float = 1e-9,
) -> RuleCheck:
    """Hear all witnesses on a rule: one of the table, by name, or any plain function `arrays -> (output, backward)`.

    The samples are the gallery's unless given. Raises `ValueError` for a name that isn't in the table, or a rule that
    the gallery has no samples of.

    >>> check_rule("softmax").ok
    True
    """
    rng = np.random.default_rng(0) if rng is None else rng
    if isinstance(rule, str):
        if rule not in RULES:
            near = difflib.get_close_matches(rule, RULES, n=1)
            raise ValueError(f"gradcheck: there is no rule {rule!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        rule = RULES[rule]
    name = rule.__name__
    if samples is None:
        if name not in SAMPLES:
            raise ValueError(f"gradcheck: the gallery has no samples of {name!r}; pass samples=")
        samples = SAMPLES[name](rng)
    return RuleCheck(name, tuple(_hear(_case(rule, sample, rng), rng, rtol, atol) for sample in samples))


def check_all(names: Iterable[str] | None = None, *, rng: np.random.Generator | None = None) -> list[RuleCheck]:
    """Check the rules named; or, in alphabetical order, all that the gallery has samples of."""
    return [check_rule(name, rng=rng) for name in (sorted(SAMPLES) if names is None else names)]


# ---------------------------------------------------------------------------------------------------- the witnesses


class _Case(NamedTuple):
    """A function at a point, and a cotangent for its output."""

    subject: str
    arguments: list[Any]
    names: list[str]
    value: Callable[..., Vector]  # arrays → the output
    gradients: dict[str, Callable[[], list[Vector]]]  # witness → the gradients in the floating arguments
    analytic: bool
    cotangent: Vector
    flat: bool = False  # whether there is nothing to see, since the derivative is 0 wherever there is one


def _case(rule: Rule, sample: Sample, rng: np.random.Generator) -> _Case:
    """A rule on a sample: its own backward, and the tape if there is one."""
    arguments = [_plain(x) for x in sample.arrays]
    chosen = _floating(arguments)

    def run(arrays: Sequence[Any]) -> Result:
        """As the engine does: with NumPy's scalars for arrays of no axes."""
        return rule(*(x[()] if isinstance(x, np.ndarray) else x for x in arrays), **sample.options)

    def value(*arrays: Any) -> Vector:
        return np.asarray(run(arrays)[0])

    def backward() -> list[Vector]:
        gradients = run(arguments)[1](c[()])
        return [_sent(gradients[i], arguments[i]) for i in chosen]

    def tape() -> list[Vector]:
        found = walk(composed, c[()], retain_graph=True) if composed.requires_grad else {}
        return [_sent(found.get(tensors[i]), arguments[i]) for i in chosen]

    c = _normal(rng, value(*arguments).shape)
    tensors = _replaced(arguments, {i: Tensor(arguments[i], requires_grad=True) for i in chosen})
    composed = rule(*tensors, **sample.options)[0]
    witnesses = {BACKWARD: backward}
    if composed._rule is not rule:  # a primitive is composed of nothing but itself
        witnesses[TAPE] = tape
    subject = f"{rule.__name__}, {sample.about}"
    return _Case(subject, arguments, _names(rule, len(arguments)), value, witnesses, sample.analytic, c, sample.flat)


def _hear(case: _Case, rng: np.random.Generator, rtol: float, atol: float) -> Report:
    """Compare what all witnesses say, argument by argument."""
    gradients = {}
    for witness, compute in case.gradients.items():
        try:
            gradients[witness] = compute()
        except Exception as error:  # what is wrong may raise anything
            return Report(case.subject, (), f"{witness} raised {type(error).__name__}: {error}")
    findings = []
    moved = False
    for place, i in enumerate(_floating(case.arguments)):
        moves = _Moves(case.arguments[i], rng)
        said = {witness: moves.along(gradient[place]) for witness, gradient in gradients.items()}
        said[DIFFERENCES] = np.array([_central(case, i, direction) for direction in moves.directions])
        if case.analytic:
            said[COMPLEX] = np.array([_complex_step(case, i, direction) for direction in moves.directions])
        if case.arguments[i].size:
            findings.append(_compare(case.names[i], moves, said, rtol, atol))
            moved |= any(not np.all(abs(numbers) <= atol) for numbers in said.values())
    vacuous = "vacuous: no input moves the output along the cotangent, so that nothing was seen"
    return Report(case.subject, tuple(findings), None if moved or case.flat else vacuous)


class _Moves:
    """The ways in which an input is moved: one number at a time; or, if there are many, all at once, at random."""

    def __init__(self, x: Vector, rng: np.random.Generator) -> None:
        self.shape = x.shape
        self.single = x.size <= SMALL
        everyone = np.eye(x.size) if self.single else rng.normal(size=(DIRECTIONS, x.size))
        self.directions = everyone.reshape(len(everyone), *x.shape)

    def along(self, gradient: Vector) -> Vector:
        """The derivative along each direction."""
        numbers = gradient.reshape(-1)
        return numbers if self.single else self.directions.reshape(DIRECTIONS, -1) @ numbers

    def name(self, k: int) -> tuple[int, ...] | str:
        """Where the k-th direction leads."""
        return tuple(int(j) for j in np.unravel_index(k, self.shape)) if self.single else f"direction {k}"


def _central(case: _Case, i: int, direction: Vector) -> float:
    """(4 D(h/2) − D(h)) / 3, where D(h) = (f(x + h) − f(x − h)) / 2h: the terms in h² cancel."""

    def slope(h: float) -> float:
        change = _moved(case, i, h * direction) - _moved(case, i, -h * direction)
        return float((case.cotangent * change).sum()) / (2 * h)

    return (4 * slope(STEP / 2) - slope(STEP)) / 3


def _complex_step(case: _Case, i: int, direction: Vector) -> float:
    """Im f(x + ih) / h, which has no difference to lose digits in. Squire and Trapp 1998, SIAM Review 40(1)."""
    change = _moved(case, i, 1j * COMPLEX_STEP * direction).imag
    return float((case.cotangent * change).sum()) / COMPLEX_STEP


def _moved(case: _Case, i: int, step: Vector) -> Vector:
    """The output after argument i has taken a step."""
    return case.value(*_replaced(case.arguments, {i: case.arguments[i] + step}))


def _compare(name: str, moves: _Moves, said: dict[str, Vector], rtol: float, atol: float) -> Finding:
    def error(a: Vector, b: Vector) -> Vector:
        with np.errstate(invalid="ignore"):
            relative = abs(a - b) / (atol / rtol + np.maximum(abs(a), abs(b)))  # ≤ rtol is |a − b| ≤ atol + rtol max
        return np.where(np.isfinite(a) & np.isfinite(b), relative, np.inf)

    errors = np.max([error(a, b) for a, b in itertools.combinations(said.values(), 2)], axis=0)
    worst = int(np.argmax(errors))
    first, *others = said
    return Finding(
        argument=name,
        index=moves.name(worst),
        numbers={witness: float(numbers[worst]) for witness, numbers in said.items()},
        error=float(errors[worst]),
        errors={witness: float(error(said[first], said[witness]).max()) for witness in others},
        ok=bool(errors[worst] <= rtol),
    )


# ---------------------------------------------------------------------------------------------------- small things


def _normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Vector:
    return np.asarray(rng.normal(size=shape))


def _plain(x: Any) -> Any:
    """x as an array, of float64 if it is floating; Python's numbers, which are constants to a rule, as they are."""
    if type(x) in (int, float, bool, type(None)):
        return x
    array = x.numpy() if isinstance(x, Tensor) else np.asarray(x)
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def _floating(arguments: Sequence[Any]) -> list[int]:
    """The places of the arguments that are differentiated."""
    return [i for i, x in enumerate(arguments) if isinstance(x, np.ndarray) and x.dtype.kind == "f"]


def _replaced(arguments: Sequence[Any], new: dict[int, Any]) -> list[Any]:
    return [new.get(i, x) for i, x in enumerate(arguments)]


def _sent(gradient: Any, x: Vector) -> Vector:
    """The gradient in the shape of x, as the engine would have it; zeros where none was sent."""
    return np.zeros_like(x) if gradient is None else np.asarray(unbroadcast(np.asarray(gradient), x.shape))


def _names(f: Callable[..., Any], n: int) -> list[str]:
    """What the first n arguments of a function are called."""
    try:
        declared = [p for p in inspect.signature(f).parameters.values() if p.kind is not p.KEYWORD_ONLY]
    except ValueError:  # some functions of other languages don't say
        declared = []
    names = [p.name for p in declared if p.kind is not p.VAR_POSITIONAL]
    rest = next((p.name for p in declared if p.kind is p.VAR_POSITIONAL), "argument")
    return [names[i] if i < len(names) else f"{rest}[{i - len(names)}]" for i in range(n)]


def _table(findings: Sequence[Finding]) -> Iterator[str]:
    """Lines: for each argument its worst place, what each witness says there, and how far they are apart."""
    witnesses = list(dict.fromkeys(witness for finding in findings for witness in finding.numbers))
    rows = [["argument", "index", *witnesses, "error", "ratio", ""]]
    for finding in findings:
        numbers = [f"{finding.numbers[w]:.10g}" if w in finding.numbers else "" for w in witnesses]
        differ = [f"{finding.error:.1e}", f"{finding.ratio:.6g}", "" if finding.ok else "WRONG"]
        rows.append([finding.argument, str(finding.index), *numbers, *differ])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows if findings else ():
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
