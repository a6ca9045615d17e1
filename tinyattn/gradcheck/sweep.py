"""How the error of a derivative depends on the step: truncation falls with it, round-off rises.

    central differences    D(h) = (f(x + h) − f(x − h)) / 2h       h² / 6 · f‴  +  ε |f| / h              (sweep.1)
    extrapolated           (4 D(h/2) − D(h)) / 3                   h⁴ / 480 · f⁗′  +  ε |f| / h           (sweep.2)
    complex step           Im f(x + ih) / h                        h² / 6 · f‴, and no round-off          (sweep.3)

On paper with logarithmic axes the first two are a V: they go down with slope 2, or 4, and up again with slope −1. The
complex step goes down and stays down. Where all of them stop far above ε, it is the backward that is wrong.
"""

from __future__ import annotations  # numpy.random, which they name, is loaded where it's used

import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tinyattn.engine import Rule
from tinyattn.gallery import Sample
from tinyattn.gradcheck.cases import Recorder, function_case, rule_case
from tinyattn.gradcheck.checks import generator_of, precision_of, rule_and_samples
from tinyattn.gradcheck.report import BACKWARD, COMPLEX, finite
from tinyattn.gradcheck.witnesses import Case, complex_slope, slope, takes_complex

if TYPE_CHECKING:
    from pathlib import Path

CENTRAL, EXTRAPOLATED = "central differences", "extrapolated"
SIGNS = {CENTRAL: "c", EXTRAPOLATED: "r", COMPLEX: "i"}
PICTURES = ("png", "svg", "pdf")
DIRECTIONS = 5


class Sweep(NamedTuple):
    """The relative error of each way of taking a derivative, at each step; the backward is what they err from.

    Printed, it is a picture made of characters.
    """

    subject: str
    steps: tuple[float, ...]
    errors: dict[str, tuple[float, ...]]  # way → its error at each step

    @property
    def best(self) -> dict[str, float]:
        """For each way the longest step with the least error."""
        return {way: self.steps[int(np.argmin(errors))] for way, errors in self.errors.items()}

    def __str__(self) -> str:
        return "\n".join(_picture(self))

    def to_dict(self) -> dict[str, Any]:
        """The sweep in dicts, lists, strings, numbers and None; what isn't finite is None."""
        errors = {way: [finite(error) for error in numbers] for way, numbers in self.errors.items()}
        return {"subject": self.subject, "steps": list(self.steps), "errors": errors, "best": self.best}

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write it to a file, as its name ends: numbers as .csv or .json; a picture as .png, .svg or .pdf.

        Returns the path. Pictures need matplotlib (`ImportError` that names the extra). Raises `ValueError` for another
        ending, `OSError` where the file can't be written.
        """
        import csv
        import json
        from pathlib import Path

        path = Path(path)
        ending = path.suffix.lower().removeprefix(".")
        if ending == "json":
            path.write_text(json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n", encoding="utf-8")
        elif ending == "csv":
            with path.open("w", newline="", encoding="utf-8") as file:
                rows = csv.writer(file)
                rows.writerow(["step", *self.errors])
                rows.writerows(zip(self.steps, *self.errors.values(), strict=True))
        elif ending in PICTURES:
            _draw(self, path)
        else:
            known = ", ".join(f".{name}" for name in ("csv", "json", *PICTURES))
            raise ValueError(f"sweep: the file's name must end with one of {known}; got {path.name!r}")
        return path


def step_sweep(
    f: Callable[..., Any],
    inputs: Any,
    *,
    steps: Iterable[float] | None = None,
    rng: np.random.Generator | None = None,
    dtype: Any = np.float64,
    analytic: bool | None = None,
) -> Sweep:
    """The error of differences and of the complex step in the derivative of a function of Tensors, step by step.

    `inputs`, `dtype` and `analytic` are those of `gradcheck`; the inputs move in 5 random directions each, and the
    error is that of these derivatives together, relative to the backward's. `steps` are 2⁻¹ … 2⁻⁵² unless given.
    Raises `TypeError` where no input is floating, `ValueError` for steps that aren't above 0, or where no input moves
    the output.

    >>> sweep = step_sweep(lambda x: x**3, 2.0, steps=[0.5])
    >>> round(sweep.errors["central differences"][0] * 12, 6)  # h² f‴ / 6 = h²
    0.25
    """
    op = "step_sweep"
    rng, precision = generator_of(rng, op), precision_of(dtype, op=op)
    recorder = Recorder(f, inputs, precision, op)
    return _swept(function_case(recorder, precision, rng, None, analytic), steps, rng, op)


def sweep_rule(
    rule: str | Rule,
    samples: Iterable[Sample] | None = None,
    *,
    steps: Iterable[float] | None = None,
    rng: np.random.Generator | None = None,
) -> Sweep:
    """`step_sweep` of a rule, on the first sample that there is of it; arguments and errors are those of `check_rule`.

    >>> print(sweep_rule("exp").subject)
    exp, a number
    """
    op = "sweep"
    rng = generator_of(rng, op)
    function, samples = rule_and_samples(rule, samples, rng, op)
    sample = next(iter(samples))
    return _swept(rule_case(function, sample, precision_of(np.float64), rng), steps, rng, op)


def _swept(case: Case, given: Iterable[float] | None, rng: np.random.Generator, op: str) -> Sweep:
    if isinstance(given, str) or not (given is None or hasattr(given, "__iter__")):
        raise TypeError(f"{op}: steps must be a list of numbers; got {type(given).__name__}")
    steps = [2.0**-k for k in range(1, 53)] if given is None else [float(h) for h in given]
    if not steps or not all(0 < h < np.inf for h in steps):
        raise ValueError(f"{op}: steps must be numbers above 0, one at least")
    # Every number moves by one step, up or down.
    moves = [(i, rng.choice([-1.0, 1.0], case.arguments[i].shape)) for i in case.places() for _ in range(DIRECTIONS)]
    places = list(case.places())
    (gradients,) = case.gradients[BACKWARD](case.cotangents[:1].astype(case.precision.dtype))
    truth = np.array([(gradients[places.index(i)] * direction).sum() for i, direction in moves], dtype=np.float64)
    size = np.linalg.norm(truth)
    if not size > 0:
        raise ValueError(f"{op}: {case.subject} has gradient 0, or NaN, so that no relative error can be told")

    def error(way: Callable[..., Any], h: float) -> float:
        with np.errstate(all="ignore"):  # far steps may lead out of the function's domain
            numbers = np.array([way(case, i, direction, h)[0] for i, direction in moves])
            return float(np.linalg.norm(numbers - truth) / size)

    ways: dict[str, Callable[..., Any]] = {CENTRAL: slope, EXTRAPOLATED: _extrapolated}
    if case.analytic or (case.analytic is None and all(takes_complex(case, i) for i in places)):
        ways[COMPLEX] = complex_slope
    return Sweep(case.subject, tuple(steps), {name: tuple(error(way, h) for h in steps) for name, way in ways.items()})


def _extrapolated(case: Case, i: int, direction: Any, h: float) -> Any:
    return (4 * slope(case, i, direction, h / 2) - slope(case, i, direction, h)) / 3  # (sweep.2)


# ---------------------------------------------------------------------------------------------------- pictures


def _picture(sweep: Sweep) -> list[str]:
    """A line for every decade of the error, a column for every step; the step falls from left to right."""
    decades = {way: [_decade(error) for error in errors] for way, errors in sweep.errors.items()}
    known = [d for each in decades.values() for d in each if d is not None]
    lines = [f"{sweep.subject}: relative error (down), by step (across)"]
    for decade in range(max(known, default=0), min(known, default=0) - 1, -1):
        row = [" "] * len(sweep.steps)
        for way, each in decades.items():
            for k, d in enumerate(each):
                if d == decade:
                    row[k] = SIGNS[way] if row[k] == " " else "*"
        lines.append(f"1e{decade:+03d} |{''.join(row)}".rstrip())
    lines.append("      +" + "-" * len(sweep.steps))
    first, last = f"{sweep.steps[0]:.0e}", f"{sweep.steps[-1]:.0e}"
    lines.append(" " * 7 + first + last.rjust(max(len(sweep.steps) - len(first), len(last) + 1)))
    for way, h in sweep.best.items():
        lines.append(f"{SIGNS[way]}  {way}: {min(sweep.errors[way]):.1e} at best, with step {h:.1e}")
    return [*lines, "*  several of them"]


def _decade(error: float) -> int | None:
    """The power of 10 below an error; what is less than round-off counts as that."""
    return int(np.floor(np.log10(max(error, 1e-17)))) if np.isfinite(error) else None


def _draw(sweep: Sweep, path: Path) -> None:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        told = "sweep: pictures need matplotlib: pip install 'tinyattn[demos]'. print, .csv and .json need nothing"
        raise ImportError(told) from error
    figure = Figure(layout="constrained")
    axes = figure.subplots()
    for way, errors in sweep.errors.items():
        dashed = "--" if way == COMPLEX else "-"  # for long steps it lies on the central differences
        axes.loglog(sweep.steps, np.maximum(errors, 1e-17), dashed, marker=".", label=way)
    axes.set(title=sweep.subject, xlabel="step", ylabel="relative error")
    axes.legend()
    figure.savefig(path)


