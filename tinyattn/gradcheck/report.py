"""What came of a check: findings, one for each argument; a report of them; and all reports on a rule."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

from tinyattn.gradcheck.guesses import Guess

BACKWARD, TAPE, DIFFERENCES, COMPLEX = "backward", "tape", "differences", "complex step"

Index: TypeAlias = "tuple[int, ...] | str"  # of a number in an argument; or the direction that it was moved in
Verdict: TypeAlias = Literal["ok", "WRONG", "no influence", "vacuous"]


class Finding(NamedTuple):
    """What the witnesses say of one argument: at the first place where they disagree, or else where they do most.

    The verdict is "no influence" where the output doesn't depend on the argument, and all say so; "vacuous" where it
    does, but doesn't change along the cotangent, so that nothing was seen.
    """

    rule: str  # the function or the rule that was checked
    argument: str
    index: Index  # type: ignore[assignment]  # a tuple's method of that name isn't needed
    output: tuple[int, ...] | None  # the number of the output whose derivative it is; None: the random sum of them all
    numbers: dict[str, float]  # witness → the derivative there
    error: float  # the largest between any two at any place, relative
    errors: dict[str, float]  # witness → its largest error against the first one, at any place
    wrong: int  # how many derivatives differ
    total: int  # of how many
    uncertainty: float  # what the differences themselves may be off by, there
    verdict: Verdict
    guess: Guess | None = None

    @property
    def ok(self) -> bool:
        """Whether the witnesses agree, and have seen what they agree on."""
        return self.verdict in ("ok", "no influence")

    @property
    def analytic(self) -> float:
        """The derivative that is being checked: what the backward says."""
        return next(iter(self.numbers.values()))

    @property
    def numeric(self) -> float:
        """The derivative by differences."""
        return self.numbers[DIFFERENCES]

    @property
    def ratio(self) -> float:
        """The first number over the last: −1 tells of a sign, a whole number of a sum or mean forgotten."""
        first, *_, last = self.numbers.values()
        return first / last if last else math.nan

    @property
    def doubtful(self) -> bool:
        """Whether the differences are no better than what they find: there is a kink or a jump, or f is too steep."""
        return self.verdict == "WRONG" and abs(self.analytic - self.numeric) <= 2 * self.uncertainty

    def to_dict(self) -> dict[str, Any]:
        """The finding in dicts, lists, strings, numbers and None; what isn't finite is None."""
        return {
            "rule": self.rule,
            "argument": self.argument,
            "index": list(self.index) if isinstance(self.index, tuple) else self.index,
            "output": None if self.output is None else list(self.output),
            "analytic": finite(self.analytic),
            "numeric": finite(self.numeric),
            "ratio": finite(self.ratio),
            "numbers": {witness: finite(number) for witness, number in self.numbers.items()},
            "error": finite(self.error),
            "wrong": self.wrong,
            "total": self.total,
            "uncertainty": finite(self.uncertainty),
            "verdict": self.verdict,
            "guess": None if self.guess is None else self.guess._asdict(),
        }


class Place(NamedTuple):
    """The operation inside a composed function whose backward is wrong."""

    rule: str
    number: int  # of the operation, counted from 1 in the order of the forward pass
    total: int  # of all operations
    shapes: tuple[tuple[int, ...], ...]  # of what it was given
    name: str | None  # of the Tensor that it made
    line: str  # of the user's source that called it: 'line 12 of model.py: y = f(x)'; '' where that isn't known
    report: Report  # the check of this operation alone

    def __str__(self) -> str:
        given = ", ".join(map(str, self.shapes))
        named = f", named {self.name!r}" if self.name is not None else ""
        line = f", made in {self.line}" if self.line else ""
        return f"{self.rule}, operation {self.number} of {self.total}, given shapes {given}{named}{line}"

    def to_dict(self) -> dict[str, Any]:
        """The place, and the report on it, in dicts, lists, strings, numbers and None."""
        return self._asdict() | {"shapes": [list(shape) for shape in self.shapes], "report": self.report.to_dict()}


class Report(NamedTuple):
    """What came of a check: true where all witnesses agree on every argument. Printed, it is a table."""

    subject: str
    findings: tuple[Finding, ...]
    problem: str | None = None  # why the check fails whatever the numbers say
    place: Place | None = None  # the first operation inside that is wrong, if it was looked for and found
    notes: tuple[str, ...] = ()
    second: Report | None = None  # on the second derivatives, if they were asked for

    def __bool__(self) -> bool:
        """Whether the gradient can be believed."""
        first = self.problem is None and all(finding.ok for finding in self.findings)
        return first and (self.second is None or bool(self.second))

    @property
    def error(self) -> float:
        """The largest relative error found."""
        return max((finding.error for finding in self.findings), default=0.0)

    @property
    def wrong(self) -> Finding | None:
        """What there is to say of the first argument that is wrong; None where all is well."""
        later = None if self.second is None else self.second.wrong
        return next((finding for finding in self.findings if not finding.ok), later)

    @property
    def guess(self) -> Guess | None:
        """What the mistake looks like: the first guess of any argument."""
        later = None if self.second is None else self.second.guess
        return next((finding.guess for finding in self.findings if finding.guess is not None), later)

    @property
    def verdict(self) -> str:
        """What came of it in a few words."""
        if self.problem is not None:
            return self.problem
        wrong = [finding for finding in self.findings if not finding.ok]
        if wrong:
            return "can't tell" if all(finding.doubtful for finding in wrong) else "the gradients DIFFER"
        return "the gradients agree" if self else "the gradients agree, but theirs DIFFER"

    def __str__(self) -> str:
        lines = [f"{self.subject}: {self.verdict}"]
        lines += [f"  {line}" for line in columns(self._rows())] if self.findings else []
        lines += [f"  {line}" for line in self._remarks()]
        return "\n".join(lines) + ("" if self.second is None else f"\n{self.second}")

    def _repr_html_(self) -> str:
        """The table for notebooks."""
        from html import escape

        head, *body = ([escape(cell) for cell in row] for row in self._rows())
        rows = ["<tr>" + "".join(f"<th>{cell}</th>" for cell in head) + "</tr>"]
        rows += ["<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in body]
        told = f"<p>{'✓' if self else '✗'} <b>{escape(self.subject)}</b>: {escape(self.verdict)}</p>"
        remarks = "".join(f"<li>{escape(remark)}</li>" for remark in self._remarks())
        table = f"<table>{''.join(rows)}</table>" if self.findings else ""
        second = "" if self.second is None else self.second._repr_html_()
        return f"<div>{told}{table}{f'<ul>{remarks}</ul>' if remarks else ''}{second}</div>"

    def to_dict(self) -> dict[str, Any]:
        """The report in dicts, lists, strings, numbers and None, as JSON has them; what isn't finite is None."""
        wrong = self.wrong
        return {
            "subject": self.subject,
            "ok": bool(self),
            "verdict": self.verdict,
            "problem": self.problem,
            "error": finite(self.error),
            "wrong": None if wrong is None else wrong.to_dict(),
            "place": None if self.place is None else self.place.to_dict(),
            "notes": list(self.notes),
            "findings": [finding.to_dict() for finding in self.findings],
            "second": None if self.second is None else self.second.to_dict(),
        }

    def to_json(self) -> str:
        """`to_dict()` as JSON."""
        import json

        return json.dumps(self.to_dict(), indent=2, allow_nan=False)

    def _rows(self) -> list[list[str]]:
        """For each argument its place, what each witness says there, and how far they are apart at most."""
        witnesses = list(dict.fromkeys(witness for finding in self.findings for witness in finding.numbers))
        of_output = any(finding.output is not None for finding in self.findings)
        rows = [["argument", "index", *(["output"] if of_output else []), *witnesses, "error", "ratio", ""]]
        for finding in self.findings:
            output = ["" if finding.output is None else str(finding.output)] if of_output else []
            numbers = [f"{finding.numbers[w]:.10g}" if w in finding.numbers else "" for w in witnesses]
            word = "DOUBTFUL" if finding.doubtful else "WRONG"
            verdict = {"ok": "", "WRONG": f"{word}, {finding.wrong} of {finding.total}"}
            told = verdict.get(finding.verdict, finding.verdict)
            differ = [f"{finding.error:.1e}", f"{finding.ratio:.6g}", told]
            rows.append([finding.argument, str(finding.index), *output, *numbers, *differ])
        return rows

    def _remarks(self) -> Iterator[str]:
        for finding in self.findings:
            if finding.guess is not None:
                yield f"{finding.argument}: {finding.guess.text}"
            elif finding.doubtful:
                yield (
                    f"{finding.argument}: the differences may be off by {finding.uncertainty:.1e} themselves;"
                    " is there a kink or a jump near the input, or is the step too long or too short (step=)?"
                )
        if self.place is not None:
            yield f"the first operation that is wrong: {self.place}"
            yield from (f"  {line}" for line in str(self.place.report).splitlines())
        yield from self.notes


class RuleCheck(NamedTuple):
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
        return _largest(self.reports, DIFFERENCES)

    @property
    def error_complex(self) -> float | None:
        """The largest relative error of the backward against the complex step."""
        return _largest(self.reports, COMPLEX)

    @property
    def error_tape(self) -> float | None:
        """The largest relative error of the backward against the tape."""
        return _largest(self.reports, TAPE)

    @property
    def error_second(self) -> float | None:
        """The largest relative error of second derivatives against differences, if they were asked for."""
        return _largest([report.second for report in self.reports if report.second is not None], DIFFERENCES)

    @property
    def wrong(self) -> Finding | None:
        """What there is to say of the first argument that is wrong; None where all is well."""
        return next((report.wrong for report in self.reports if report.wrong is not None), None)

    @property
    def guess(self) -> Guess | None:
        """What the mistake looks like: the first guess on any sample."""
        return next((report.guess for report in self.reports if report.guess is not None), None)

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        return "\n".join(str(report) for report in self.reports if not report) or f"{self.rule}: the gradients agree"

    def to_dict(self) -> dict[str, Any]:
        """The check in dicts, lists, strings, numbers and None; of the reports, those that failed."""
        return {
            "rule": self.rule,
            "samples": self.samples,
            "error_numeric": finite(self.error_numeric),
            "error_complex": finite(self.error_complex),
            "error_tape": finite(self.error_tape),
            "error_second": finite(self.error_second),
            "ok": self.ok,
            "failed": [report.to_dict() for report in self.reports if not report],
        }


def finite(number: float | None) -> float | None:
    """The number if it is one: JSON has no NaN and no infinity. (Where they turn up, `ok` is false.)"""
    return number if number is not None and math.isfinite(number) else None


def _largest(reports: Sequence[Report], witness: str) -> float | None:
    findings = itertools.chain.from_iterable(report.findings for report in reports)
    return max((finding.errors[witness] for finding in findings if witness in finding.errors), default=None)


def columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lines in which the cells stand below each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
