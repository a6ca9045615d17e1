"""What is told of a gradient that is wrong, step by step: its shape, the term, the axis; never the formula."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tinyattn.study.exercises import Exercise
from tinyattn.study.slips import GUESSES, Case, of_misfit
from tinyattn.study.steps import Made


class Diagnosis:
    """Says more and more of what is wrong with one gradient."""

    def __init__(self, exercise: Exercise, saved: Made, cases: Mapping[str, list[Case]]) -> None:
        self.exercise, self.saved, self.cases = exercise, saved, cases
        self._found: dict[str, tuple[str, ...]] = {}

    def hints(self, gradient: str) -> tuple[str, ...]:
        """All hints for a gradient, one after the other: the shape, the term, the axis."""
        if gradient not in self._found:
            with np.errstate(all="ignore"):
                told = (self._shape(gradient), self._term(gradient), self._axis(gradient))
            kinds = ("the shape", "the term", "the axis")
            pairs = enumerate(zip(kinds, told, strict=True), 1)
            self._found[gradient] = tuple(f"Hint {i}, {kind}: {text}" for i, (kind, text) in pairs)
        return self._found[gradient]

    def _given(self, gradient: str) -> list[Case]:
        return [case for case in self.cases[gradient] if case.yours is not None]

    # -- the shape

    def _shape(self, gradient: str) -> str:
        name = gradient.removeprefix("d_")
        fits = next((c for c in self._given(gradient) if c.yours is not None and c.yours.shape != c.true.shape), None)
        if fits is None or fits.yours is None:
            shape = np.shape(self.saved[name])
            yours = ", and so has yours" if self._given(gradient) else ""
            return f"{gradient} has that of {name}, {shape} here{yours}."
        yours, right = fits.yours.shape, fits.true.shape
        told = f"{gradient} has that of {name}, {right} in the sample {fits.sample!r}; yours is {yours}."
        if len(yours) > 1 and (*yours[:-2], yours[-1], yours[-2]) == right:
            return f"{told} Is it transposed?"
        if fits.yours.size > fits.true.size:
            return f"{told} {name} is used for more than one row: is the gradient summed over all of them?"
        return f"{told} Is it summed over too much?"

    # -- the term

    def _term(self, gradient: str) -> str:
        cases = self._given(gradient)
        if not cases:
            return self._to_come(gradient)
        misfit = [case for case in cases if case.yours is not None and case.yours.shape != case.true.shape]
        if misfit:
            return of_misfit(misfit)
        for guess in GUESSES:
            told = guess(self.exercise, cases)
            if told:
                return f"{told}{_where(cases)}"
        return f"nothing simple explains your numbers.{_where(cases)}{_confined(cases)} {self._to_come(gradient)}"

    def _to_come(self, gradient: str) -> str:
        name = gradient.removeprefix("d_")
        if name == self.exercise.study.output:
            return f"{gradient} is what your function is given: hand it back as it came, or leave it out."
        users = [step for step in self.exercise.study.steps if name in self.exercise.study.uses(step)]
        given = [f"d_{step}" for step in users]
        n = _N_PARTS.get((self.exercise.name, name), _N_PARTS.get(("", name), len(users)))
        made = f"{name} goes into {_listed(users)}, so {gradient} is made of {_listed(given)}"
        if name in _UNMULTIPLIED:
            return f"{made}; nothing is multiplied."
        return made + (f". It is a sum of {n} terms." if n > 1 else "; it is one product.")

    # -- the axis

    def _axis(self, gradient: str) -> str:
        name = gradient.removeprefix("d_")
        if name == self.exercise.study.output:
            return _ROW_BY_ROW
        return _AXES.get((self.exercise.name, name)) or _AXES.get(("", name)) or _ROW_BY_ROW


def _listed(names: list[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


# ---------------------------------------------------------------------------------------------------- where


def _where(cases: list[Case]) -> str:
    """In which samples it is right, and in which wrong, if that differs."""
    wrong = [repr(case.sample) for case in cases if case.wrong.any()]
    right = [repr(case.sample) for case in cases if not case.wrong.any()]
    return f" It is right in {_listed(right)}, and wrong in {_listed(wrong)}." if wrong and right else ""


def _confined(cases: list[Case]) -> str:
    """Whether all that is wrong lies at some places along an axis."""
    case = next((c for c in cases if c.wrong.any()), None)
    if case is None:
        return ""
    for axis in range(case.wrong.ndim):
        others = tuple(i for i in range(case.wrong.ndim) if i != axis)
        places = np.flatnonzero(case.wrong.any(axis=others))
        if len(places) < case.wrong.shape[axis]:
            told = ", ".join(map(str, places))
            return f" In {case.sample!r} all that is wrong lies at {told} of axis {axis - case.wrong.ndim}."
    return ""


# ---------------------------------------------------------------------------------------------------- axes

_N_PARTS = {("", "scores"): 2, ("layer_norm", "x"): 3, ("block", "x"): 4, ("block", "middle"): 4}
_UNMULTIPLIED = {"bias", "bias_1", "bias_2", "b_expand", "b_contract", "heads", "attended"}
_ROW_BY_ROW = "nothing is summed: it is found element by element, or only moved to another place."
_ALL_ROWS = "it is shared by all rows: the sum runs over every axis but the last."
_LINEAR = "it is a weight, shared by all rows, and by all sequences of a batch: the sum runs over these."
_ROW = "the sum runs along the last axis, the one that is normalised: one number for each row."

_AXES: dict[tuple[str, str], str] = {
    ("", "scores"): "the sum runs along the keys, the last axis: along which the weights of a query sum to 1.",
    ("cross_entropy", "scores"): "nothing is summed along the classes; the mean was over the targets, all other axes.",
    ("cross_entropy", "losses"): "the mean was over all targets, so that the number of them counts.",
    ("", "weights"): "the sum runs along d_v: what is left are queries by keys.",
    ("", "query"): "the sum runs over the keys: one row for each query is left.",
    ("", "key"): "the sum runs over the queries: one row for each key is left.",
    ("", "value"): "the sum runs over the queries: one row for each key is left.",
    ("", "weight"): _ALL_ROWS,
    ("", "bias"): _ALL_ROWS,
    ("layer_norm", "deviation"): _ROW,
    ("layer_norm", "centred"): _ROW,
    ("layer_norm", "x"): _ROW,
    ("", "mix"): "the sum runs along the columns of the output: the last axis of w_output.",
    ("multi_head", "x"): "the sums run along the columns of queries, keys and values, of all heads beside each other.",
    ("block", "x"): _ROW,
    ("block", "middle"): _ROW,
    ("block", "normed_1"): "the sums run along the columns of queries, keys and values, of all heads together.",
    ("block", "normed_2"): "the sum runs along the columns of hidden.",
    ("block", "active"): "the sum runs along the columns of the output: the last axis of w_contract.",
}
_AXES |= {("", name): _LINEAR for name in ("w_query", "w_key", "w_value", "w_output", "w_expand", "w_contract")}
_AXES |= {("", name): _ALL_ROWS for name in ("weight_1", "bias_1", "weight_2", "bias_2", "b_expand", "b_contract")}
