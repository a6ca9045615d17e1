"""What an operation is made of: its rule called again on Tensors, which leave a tape of their own.

A rule is written against NumPy's names, so that Tensors flow through it: what comes out remembers each step. The rules
that it calls on its way are boxes within.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from tinyattn.graph.scopes import Call
from tinyattn.nodes import ON, TRACED, leaf, mode, next_age, trace
from tinyattn.rules.attention import _softmax
from tinyattn.rules.reductions import total
from tinyattn.rules.registry import RULES
from tinyattn.tensor import Tensor

_STEPS = {_softmax.__code__: "softmax", total.__code__: "sum"}
"""Parts of rules that have a name of their own: a softmax over allowed keys, a sum that's a product with ones."""


class Inside(NamedTuple):
    """The tape of one operation."""

    output: Tensor
    stand_ins: list[tuple[Tensor, Tensor]]  # what was given inside, and what it stands for
    calls: list[Call]  # of rules
    ages: list[tuple[Tensor, float]]


def look_inside(x: Tensor) -> Inside | None:
    """What made x, step by step; None where nothing can be seen, as with a rule that takes no Tensors."""
    assert x._rule is not None
    assert x._inputs is not None
    stand_ins = {y: leaf(Tensor, y._data, y.requires_grad, y.name) for y in x._inputs if isinstance(y, Tensor)}
    start = next_age()
    marks: list[tuple[str, int, int]] = []
    try:
        with _all_recorded(), _watched(marks), np.errstate(all="ignore"):
            output = x._rule(*(stand_ins[y] if isinstance(y, Tensor) else y for y in x._inputs), **x._options)[0]
    except Exception:  # somebody's own rule needn't take Tensors
        return None
    end = next_age()
    if not isinstance(output, Tensor) or output._rule is None:
        return None

    def age(then: int) -> float:
        return x._age - 1 + (then - start + 1) / (end - start + 2)

    whole = marks[-1] if marks and marks[-1][0] == x._rule.__name__ else None  # the rule itself returned last
    calls = [Call(age(mark[1]), age(mark[2]), None, mark[0], x if mark is whole else None) for mark in marks]
    made = _made(output, start)
    ages = [(y, age(y._age)) for y in made if isinstance(y, Tensor)]
    return Inside(output, [(stand_in, y) for y, stand_in in stand_ins.items()], calls, ages)


def _made(output: Tensor, start: int) -> list[Tensor]:
    """What was computed on the way, whether a gradient flows through it or not."""
    seen, found = {output}, [output]
    for x in found:
        for y in x._parents or ():
            if isinstance(y, Tensor) and y not in seen and y._rule is not None and y._age > start:
                seen.add(y)
                found.append(y)
    return found


@contextmanager
def _all_recorded() -> Iterator[None]:
    """Also what no gradient flows through, which has no node else."""
    tokens = mode.set(ON | TRACED), trace.set([])
    try:
        yield
    finally:
        mode.reset(tokens[0])
        trace.reset(tokens[1])


@contextmanager
def _watched(marks: list[tuple[str, int, int]]) -> Iterator[None]:
    """Note the rules that are called inside: their names, and the ages at which they began and ended."""
    names = {rule.__code__: name for name, rule in RULES.items() if hasattr(rule, "__code__")} | _STEPS
    begun: list[tuple[str, int]] = []

    def watch(frame: Any, event: str, argument: Any) -> None:
        name = names.get(frame.f_code)
        if name is not None and event == "call":
            begun.append((name, next_age()))
        elif name is not None and event == "return":
            marks.append((*begun.pop(), next_age()))

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        yield
    finally:
        sys.setprofile(before)
