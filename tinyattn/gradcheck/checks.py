"""What is called: the check of a function, of a rule, of all rules."""

from __future__ import annotations  # numpy.random, which they name, is loaded where it's used

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from tinyattn.engine import Node, Rule
from tinyattn.gallery import SAMPLES, Sample
from tinyattn.gradcheck.cases import Recorder, function_case, rule_case, second_of_function, second_of_rule, with_tape
from tinyattn.gradcheck.locate import first_wrong, severed
from tinyattn.gradcheck.report import Report, RuleCheck
from tinyattn.gradcheck.witnesses import PRECISIONS, Case, Precision, hear
from tinyattn.rules.checks import check_flag, check_number
from tinyattn.rules.registry import RULES

REPEATS = 3  # calls with the same inputs, before the differences and after them, that must agree


def gradcheck(
    f: Callable[..., Any],
    inputs: Any,
    *,
    rng: np.random.Generator | None = None,
    cotangent: Any = None,
    analytic: bool | None = None,
    second_order: bool = False,
    locate: bool | None = None,
    dtype: Any = np.float64,
    step: float | None = None,
    rtol: float | None = None,
    atol: float | None = None,
) -> Report:
    """Compare the gradient of a function of Tensors with differences, and with the complex step where it's analytic.

    `inputs` is the argument, or a tuple of arguments; each may be a dict, list or tuple of arrays. Floating ones are
    checked, as float64, or as the `dtype` float32 that f is to be checked in; the others are passed on.

    Up to 1000 numbers of an input are moved one by one, beyond that all of them in 20 random directions. Cotangents are
    random, and for outputs of up to 64 numbers the whole Jacobian is compared too; or there is one `cotangent`, of the
    output's shape. Numbers agree where |a − b| ≤ atol + rtol max(|a|, |b|), with 1e-9 and 1e-6 (float32: 1e-4, 1e-3);
    unless it's given, atol is so many times less where all derivatives in an input are small, and never less than the
    round-off of the differences.
    `analytic` says whether complex numbers can go through f; None finds out. `step` is that of the differences; unless
    it's given, another is taken where the usual one, 2⁻¹⁰ (float32: 2⁻⁵), doesn't suit: near 0 for a logarithm, say.
    `second_order` checks the gradient of the gradient too, against differences of the gradient.

    The report is false where they don't agree, where a number isn't finite, where f gives two outputs for one input or
    writes into it, or where all derivatives are zero, so that nothing was seen. It guesses what the mistake is, and
    names the first operation inside f whose own backward is wrong (`locate`: True looks always, False never). Only f
    itself and senseless arguments raise: `TypeError` where no input is floating or the dtype isn't float32 or float64,
    `ValueError` for a cotangent that doesn't fit.

    >>> report = gradcheck(lambda x: (x * x).sum(), [1.0, 2.0])
    >>> bool(report), report.findings[0].argument
    (True, 'x')
    """
    rng = generator_of(rng)
    for name, flag in (("analytic", analytic), ("second_order", second_order), ("locate", locate)):
        if flag is not None:
            check_flag("gradcheck", name, flag)
    precision = precision_of(dtype, step, rtol, atol)
    recorder = Recorder(f, inputs, precision)
    case = function_case(recorder, precision, rng, cotangent, analytic)
    before = [np.array(x) for x in case.arguments]
    problem = _not_a_function(recorder, case, before)
    if problem is not None:
        return Report(case.subject, (), problem)
    report = hear(case, rng)
    problem = _not_a_function(recorder, case, before)  # once more: it may have changed on the way
    if problem is not None:
        return Report(case.subject, (), problem)
    if second_order:
        report = report._replace(second=_hear_second(second_of_function(recorder, case, rng), rng))
    if locate or (locate is None and not report):
        report = _located(report, recorder, precision, rng)
    return report


def check_rule(
    rule: str | Rule,
    samples: Iterable[Sample] | None = None,
    *,
    rng: np.random.Generator | None = None,
    second_order: bool = False,
    dtype: Any = np.float64,
    rtol: float | None = None,
    atol: float | None = None,
) -> RuleCheck:
    """Hear all witnesses on a rule: one of the table, by name, or any plain function `arrays -> (output, backward)`.

    The samples are the gallery's unless given. Raises `ValueError` for a name that isn't in the table, or a rule that
    the gallery has no samples of.

    >>> check_rule("softmax").ok
    True
    """
    rng = generator_of(rng)
    precision = precision_of(dtype, None, rtol, atol)
    function, samples = rule_and_samples(rule, samples, rng)
    reports = []
    for sample in samples:
        case = rule_case(function, sample, precision, rng)
        report = hear(with_tape(case, function, sample), rng)
        if second_order:
            report = report._replace(second=_hear_second(second_of_rule(function, sample, case, rng), rng))
        reports.append(report)
    return RuleCheck(function.__name__, tuple(reports))


def check_all(
    names: Iterable[str] | None = None, *, rng: np.random.Generator | None = None, second_order: bool = False
) -> list[RuleCheck]:
    """Check the rules named; or, in alphabetical order, all that the gallery has samples of."""
    names = sorted(SAMPLES) if names is None else names
    return [check_rule(name, rng=rng, second_order=second_order) for name in names]


def rule_and_samples(
    rule: str | Rule, samples: Iterable[Sample] | None, rng: np.random.Generator, op: str = "gradcheck"
) -> tuple[Rule, Iterable[Sample]]:
    """The rule that is meant, and what to call it with."""
    import difflib

    if isinstance(rule, str):
        if rule not in RULES:
            near = difflib.get_close_matches(rule, RULES, n=1)
            raise ValueError(f"{op}: there is no rule {rule!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        rule = RULES[rule]
    if samples is None:
        if rule.__name__ not in SAMPLES:
            raise ValueError(f"{op}: the gallery has no samples of {rule.__name__!r}; pass samples=")
        samples = SAMPLES[rule.__name__](rng)
    return rule, samples


# ---------------------------------------------------------------------------------------------------- inside


def precision_of(
    dtype: Any,
    step: float | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    op: str = "gradcheck",
) -> Precision:
    """What the dtype allows, unless something else is asked for."""
    try:
        kind = np.dtype(dtype)
    except TypeError:
        raise TypeError(f"{op}: dtype must be float64 or float32; there is no {dtype!r}") from None
    if kind not in PRECISIONS:
        raise TypeError(f"{op}: dtype must be float64 or float32, which have gradients; got {kind}")
    given = {name: number for name, number in (("step", step), ("rtol", rtol), ("atol", atol)) if number is not None}
    for name, number in given.items():
        check_number(op, name, number)
        if not 0 < number < np.inf:
            raise ValueError(f"{op}: {name} must be a number above 0; got {number!r}")
    changes: dict[str, Any] = given | {"fixed": atol is not None, "one_step": step is not None}
    return PRECISIONS[kind]._replace(**changes)


def generator_of(rng: np.random.Generator | None, op: str = "gradcheck") -> np.random.Generator:
    """The generator, or the one that always draws the same."""
    if rng is None:
        return np.random.default_rng(0)
    if not isinstance(rng, np.random.Generator):
        kind = type(rng).__name__
        raise TypeError(f"{op}: rng must be a numpy.random.Generator, np.random.default_rng(seed) say; got {kind}")
    return rng


def _not_a_function(recorder: Recorder, case: Case, before: list[Any]) -> str | None:
    """Why f isn't a function of its inputs, if it isn't: two answers to one question, or a question that changed."""
    answers = [case.value(*case.arguments) for _ in range(REPEATS)]
    for name, x, old in zip(case.names, case.arguments, before, strict=True):
        if not np.array_equal(x, old, equal_nan=old.dtype.kind in "fc"):
            return f"the function writes into its argument {name}"
    if not all(_same(case.output, answer) for answer in answers):
        return "two calls with the same inputs gave different outputs"
    with recorder.recorded(case.arguments) as (output, _):
        if not _same(case.output, output._data if isinstance(output, Node) else np.asarray(output)):
            return "two calls with the same inputs gave different outputs: recorded, and under no_grad"
    return None


def _same(a: Any, b: Any) -> bool:
    """Whether two outputs are the same to the bit, NaN for NaN."""
    return bool(np.array_equal(a, b, equal_nan=a.dtype.kind in "fc" and b.dtype.kind in "fc"))


def _hear_second(case: Case, rng: np.random.Generator) -> Report:
    """The report on second derivatives. That all of them are zero is right where the function is linear."""
    report = hear(case, rng)
    if report and all(finding.verdict == "no influence" for finding in report.findings):
        return report._replace(notes=(*report.notes, "all second derivatives are zero, say all"))
    return report


def _located(report: Report, recorder: Recorder, precision: Precision, rng: np.random.Generator) -> Report:
    """The report with the place of the mistake, or with a note that there isn't one, and why."""
    try:
        place = first_wrong(recorder, precision, rng)
        if place is not None or report:
            return report._replace(place=place)
        around = severed(recorder, rng)
    except Exception as error:  # the function was called before; what fails now fails in recording
        return report._replace(notes=(*report.notes, f"the mistake wasn't located: {type(error).__name__}: {error}"))
    alone = "each operation on record is right by itself"
    return report._replace(notes=(*report.notes, f"{alone}; {around}" if around else alone))
