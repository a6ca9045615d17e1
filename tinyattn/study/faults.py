"""Find the planted fault: right backward passes in which one line was changed."""

from __future__ import annotations

import functools
import linecache
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tinyattn.by_hand import attention, block
from tinyattn.study.checked import Told
from tinyattn.study.exercises import code


class Planted(NamedTuple):
    """What was changed, where, and what is told of it."""

    exercise: str
    right: str  # what stands in the right line, there and nowhere else
    wrong: str  # what stands there now
    hint: str
    mistake: str


class Fault:
    """A backward pass with one wrong line. Printed, it shows its lines, numbered from 1.

    `n` is its number, `exercise` the exercise for which it is handed in: `check(fault.exercise, fault.backward)` says
    which gradient is wrong. What it calls besides is right.
    """

    def __init__(self, n: int) -> None:
        self.n = n
        self._planted = PLANTED[n]
        self.exercise = self._planted.exercise
        self._found = False
        right = code(BACKWARDS[self.exercise])
        self._text = right.replace(self._planted.right, self._planted.wrong)
        pairs = zip(right.splitlines(), self._text.splitlines(), strict=True)
        (self._line,) = [i for i, (a, b) in enumerate(pairs, 1) if a != b]

    @property
    def lines(self) -> tuple[str, ...]:
        """The source, line by line; line 1 is the first."""
        return tuple(self._text.splitlines())

    @functools.cached_property
    def backward(self) -> Callable[[Any, dict[str, Any]], dict[str, Any]]:
        """The function: (d_output, saved) → a dict of gradients, one of them wrong at least."""
        name = f"<fault {self.n}>"
        right = BACKWARDS[self.exercise]
        names = dict(vars(sys.modules[right.__module__]))
        exec(compile(self._text, name, "exec"), names)
        text = self._text.splitlines(keepends=True)
        linecache.cache[name] = (len(self._text), None, text, name)  # for what is shown of it when it raises
        made: Callable[[Any, dict[str, Any]], dict[str, Any]] = names[right.__name__]
        return made

    def guess(self, line: int) -> bool:
        """Whether the fault is in that line. Raises `TypeError` and `ValueError` for what is no number of a line."""
        if isinstance(line, bool) or not isinstance(line, int | np.integer):
            raise TypeError(f"guess: line must be a whole number; got {type(line).__name__}")
        if not 1 <= line <= len(self.lines):
            raise ValueError(f"guess: line must be 1 … {len(self.lines)}; got {line}")
        self._found |= line == self._line
        return bool(line == self._line)

    def hint(self) -> Told:
        """What to look at, but not which line."""
        return Told(self._planted.hint)

    def explain(self, *, reveal: bool = False) -> Told:
        """The line, and what is wrong with it: once it was guessed, or where `reveal` says so."""
        if not (self._found or reveal):
            return Told("Guess the line first, by guess(line); or give up, by explain(reveal=True).")
        wrong = self.lines[self._line - 1].partition("  #")[0].strip()
        right = code(BACKWARDS[self.exercise]).splitlines()[self._line - 1].partition("  #")[0].strip()
        return Told(f"Line {self._line}: {self._planted.mistake}\n    it says    {wrong}\n    and not    {right}")

    def __str__(self) -> str:
        width = len(str(len(self.lines)))
        numbered = [f"{i:{width}}  {line}" for i, line in enumerate(self.lines, 1)]
        return "\n".join([f"fault {self.n}, of {self.exercise}: one line is wrong. Which?", "", *numbered])

    __repr__ = __str__


def fault(n: int, /) -> Fault:
    """A backward pass in which one line is wrong: which?

    There are 18, numbered from 0. The object shows its lines; `fault(n).backward` is the function, for `check`;
    `.guess(line)` says whether it is that line, `.hint()` where to look, and `.explain()` what is wrong once the line
    is found, or with `reveal=True`. Raises `TypeError` and `ValueError` for what is no number of a fault.

    >>> planted = fault(0)
    >>> print(planted)
    fault 0, of softmax: one line is wrong. Which?
    <BLANKLINE>
    1  def softmax_backward(d_weights: Array, saved: Saved) -> dict[str, Array]:
    2      weights = saved["weights"]
    3      d_scores = weights * (d_weights + (weights * d_weights).sum(axis=-1, keepdims=True))  # (softmax.3)
    4      return {"d_weights": d_weights, "d_scores": d_scores}
    >>> planted.guess(2)
    False
    """
    if isinstance(n, bool) or not isinstance(n, int | np.integer):
        raise TypeError(f"fault: needs the number of a fault; got {type(n).__name__}")
    if not 0 <= n < len(PLANTED):
        raise ValueError(f"fault: there are faults 0 … {len(PLANTED) - 1}; got {n}")
    return Fault(int(n))


BACKWARDS: dict[str, Callable[..., dict[str, Any]]] = {
    "softmax": attention.softmax_backward,
    "attention": attention.attention_backward,
    "layer_norm": block.layer_norm_backward,
    "cross_entropy": block.cross_entropy_backward,
    "multi_head": attention.multi_head_backward,
    "block": block.block_backward,
}

PLANTED = (
    Planted(
        "softmax",
        "(d_weights - (weights * d_weights)",
        "(d_weights + (weights * d_weights)",
        "A row of d_scores must sum to 0: what one key gains, the others lose.",
        "the mean gradient of the row is added, and must be taken off.",
    ),
    Planted(
        "softmax",
        "(weights * d_weights).sum(axis=-1, keepdims=True)",
        "(weights * d_weights).sum(axis=-2, keepdims=True)",
        "Along which axis do the weights sum to 1?",
        "the sum runs over the queries; it must run over the keys, along which the weights sum to 1.",
    ),
    Planted(
        "softmax",
        "weights * (d_weights - (weights * d_weights).sum",
        "weights * (d_weights - d_weights.sum",
        "Give all weights one and the same gradient: what should the scores get?",
        "the gradients are summed bare; each must count as much as its weight.",
    ),
    Planted(
        "attention",
        'd_scores @ key * saved["scale"]',
        "d_scores @ key",
        "What does the forward pass do to the product before it is a score?",
        "1/√d_k is missing: the scores were scaled, and so is what comes back.",
    ),
    Planted(
        "attention",
        "d_scores.swapaxes(-1, -2) @ query",
        "d_weights.swapaxes(-1, -2) @ query",
        "Between the key and the weights stands something. Is it undone on every way back?",
        "the gradient in the weights stands where that in the scores belongs: softmax is skipped.",
    ),
    Planted(
        "attention",
        "d_value = weights.swapaxes(-1, -2) @ d_output",
        "d_value = weights.swapaxes(-1, -2) @ d_output / weights.shape[-2]",
        "A value that two queries use gets back something from both. How is that put together?",
        "a mean over the queries is taken where a sum belongs.",
    ),
    Planted(
        "layer_norm",
        "d_x = d_centred - d_centred.mean(axis=-1, keepdims=True)",
        "d_x = d_centred",
        "Add one number to a whole row of x: the output doesn't move. What must a row of d_x sum to?",
        "x goes into the mean too, and that part is missing.",
    ),
    Planted(
        "layer_norm",
        'd_normal = d_output * saved["weight"]',
        "d_normal = d_output",
        "What is done to the normalised numbers before they are the output?",
        "the learned weight is skipped on the way back.",
    ),
    Planted(
        "layer_norm",
        "sum_rows(d_output * normal)",
        "sum_rows(d_output * centred)",
        "What is the learned weight multiplied by?",
        "the weight is multiplied by the normalised numbers, not by the centred ones.",
    ),
    Planted(
        "layer_norm",
        "d_deviation * centred / (deviation * centred.shape[-1])",
        "d_deviation * centred / deviation",
        "The deviation is the root of a mean.",
        "1/d is missing: the deviation is made of a mean of squares, and a sum was undone.",
    ),
    Planted(
        "cross_entropy",
        ' * d_output / saved["losses"].size',
        " * d_output",
        "Hand in every sample twice: the loss stays what it is. And the gradients?",
        "the mean isn't undone: the number of losses is missing.",
    ),
    Planted(
        "cross_entropy",
        "d_scores = (weights - one_hot)",
        "d_scores = (one_hot - weights)",
        "Which way must the score of the target go, for the loss to fall?",
        "the sign is wrong: the loss would rise.",
    ),
    Planted(
        "multi_head",
        "split_heads(d_mix, n_heads)",
        'd_mix.reshape(saved["heads"].shape)',
        "Does each head get back what was its own?",
        "the columns are cut into heads without exchanging the axes, so that rows and heads mix.",
    ),
    Planted(
        "multi_head",
        'd_queries @ saved["w_query"].T + d_keys @ saved["w_key"].T',
        'd_queries @ saved["w_query"].T',
        "How often is x used?",
        "x made the keys too, and that part is missing.",
    ),
    Planted(
        "multi_head",
        "d_w_key = x.swapaxes(-1, -2) @ d_keys",
        "d_w_key = x.swapaxes(-1, -2) @ d_queries",
        "One gradient is not its own.",
        "the gradient in the queries stands where that in the keys belongs.",
    ),
    Planted(
        "block",
        'd_active * (saved["hidden"] > 0)',
        'd_active * (saved["active"] >= 0)',
        "What does the rectifier let through on the way back, and does this line ever hold anything back?",
        "what comes out of a rectifier is never negative, so that everything passes; it must ask what went in.",
    ),
    Planted(
        "block",
        'd_middle = d_output + norm_2["d_x"]',
        'd_middle = norm_2["d_x"]',
        "Follow the straight path from the output to x.",
        "the straight path is cut: middle goes into the output by itself, too.",
    ),
    Planted(
        "block",
        "d_b_expand = sum_rows(d_hidden)",
        "d_b_expand = sum_rows(d_active)",
        "Where does the bias stand: before the rectifier, or behind it?",
        "the bias stands before the rectifier, and must see what the rectifier holds back as 0.",
    ),
)
