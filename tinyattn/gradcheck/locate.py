"""Where it went wrong: the first operation inside a composed function whose own backward is wrong.

The function is run once, recorded. Each operation on the record, the oldest first, is then checked alone: its rule, on
the arrays that it was given here, against differences of that rule. An error that is seen at the end of a long way back
has its place at the first of them that fails. Where all are right and the whole is wrong, something goes around the
record: a value that was taken out of it, with detach or .numpy(), and put in again. A second run, at another input,
shows which: a constant to the tape that has changed. Or a hook made another gradient of a right one.
"""

from __future__ import annotations  # numpy.random, which they name, is loaded where it's used

import copy
import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinyattn.engine import Node, Rule
from tinyattn.gallery import Sample
from tinyattn.gradcheck.cases import Recorder, names_of, rule_case
from tinyattn.gradcheck.report import Place, Report
from tinyattn.gradcheck.witnesses import Case, Precision, hear
from tinyattn.nodes import place
from tinyattn.rules.registry import RULES

FEW = 3  # random directions are enough to find an operation that is wrong


def first_wrong(recorder: Recorder, precision: Precision, rng: np.random.Generator) -> Place | None:
    """The oldest operation whose backward differs from its differences; None where all agree."""
    with recorder.recorded(recorder.arguments) as (output, _):
        nodes = [inner for node in operations(output) for inner in _unfolded(node)]
        for number, node in enumerate(nodes, 1):
            case = _alone(node, precision, rng)
            if case is not None and _is_wrong(hear(case, rng, directions=FEW)):
                return _place(node, number, len(nodes), hear(case, rng))  # once more, number by number
    return None


def operations(output: Any) -> list[Node]:
    """The operations that an output was made by, as far as they are on record, the oldest first."""
    seen: set[Node] = set()
    stack = [output] if isinstance(output, Node) and output._requires_grad else []
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            stack.extend(x for x in node._inputs or () if isinstance(x, Node) and x._requires_grad)
    return sorted((node for node in seen if node._rule is not None), key=lambda node: node._age)


def _unfolded(node: Node) -> list[Node]:
    """The operation; or, of a checkpoint, which gives a graph in place of gradients, those that are on that."""
    assert node._rule is not None
    if RULES.get(node._rule.__name__) is node._rule:
        return [node]
    try:
        again = node._backward(np.ones_like(node._data))
    except Exception:  # which will be found again, and told
        return [node]
    return [inner for inner in operations(again) if inner._age > node._age] if isinstance(again, Node) else [node]


def severed(recorder: Recorder, rng: np.random.Generator) -> str | None:
    """What goes around the record, in words; None where nothing does, as far as can be seen."""
    with recorder.recorded(recorder.arguments) as (here, _), recorder.recorded(_elsewhere(recorder, rng)) as (there, _):
        return _around(here, there) or _hooked(here)


def _around(here: Any, there: Any) -> str | None:
    """What differs between two runs, and isn't on record."""
    if np.array_equal(_data(here), _data(there), equal_nan=True):
        return None
    around = "the graph is severed: {} isn't on record, but changes with the input (detach, .numpy(), .data, no_grad?)"
    if not (isinstance(here, Node) and here._requires_grad):
        return around.format("the output") + _cut(here)
    nodes, others = operations(here), operations(there)
    if [node._rule for node in nodes] != [node._rule for node in others]:
        return None
    for number, (node, other) in enumerate(zip(nodes, others, strict=True), 1):
        assert node._rule is not None
        inputs, changed = node._inputs or (), other._inputs or ()
        for name, x, y in zip(names_of(node._rule, len(inputs)), inputs, changed, strict=True):
            if _is_constant(x) and _is_constant(y) and not np.array_equal(_data(x), _data(y), equal_nan=True):
                where = f"{name} of {node._rule.__name__}, operation {number} of {len(nodes)},"
                return around.format(where) + _cut(x)
    return None


def _hooked(output: Any) -> str | None:
    """The oldest operation with a hook on its output, or on what it was given, in words."""
    nodes = operations(output)
    for number, node in enumerate(nodes, 1):
        assert node._rule is not None
        inputs = node._inputs or ()
        named = zip(names_of(node._rule, len(inputs)), inputs, strict=True)
        for name, x in [*named, ("the output", node)]:
            if isinstance(x, Node) and x._hooks:
                return f"there is a hook on {name} of {node._rule.__name__}, operation {number} of {len(nodes)}"
    return None


def _alone(node: Node, precision: Precision, rng: np.random.Generator) -> Case | None:
    """An operation on its own, on the arrays that it was given; None where it can't be called again."""
    assert node._rule is not None
    inputs = node._inputs or ()
    chosen = tuple(i for i, x in enumerate(inputs) if isinstance(x, Node) and x._requires_grad)
    arrays = tuple(x._data if isinstance(x, Node) else x for x in inputs)
    sample = Sample("", arrays, node._options, analytic=False)
    try:
        case = rule_case(_with_options_of_its_own(node._rule), sample, precision, rng, chosen)
    except Exception:
        return None
    return case if np.array_equal(case.output, case.value(*case.arguments), equal_nan=True) else None


def _with_options_of_its_own(rule: Rule) -> Rule:
    """The rule, called each time with the options as they are now: a random generator starts where it stands."""

    def repeatable(*arrays: Any, **options: Any) -> Any:
        return rule(*arrays, **copy.deepcopy(options))

    repeatable.__name__ = rule.__name__
    repeatable.__signature__ = inspect.signature(rule)  # type: ignore[attr-defined]
    return repeatable


def _is_wrong(report: Report) -> bool:
    """Whether the backward is wrong, and not the differences, at a kink say. That nothing is seen is no mistake."""
    if report.findings:
        return any(finding.verdict == "WRONG" and not finding.doubtful for finding in report.findings)
    return report.problem is not None and " raised " in report.problem


def _place(node: Node, number: int, total: int, report: Report) -> Place:
    """Where an operation stands: in the graph, and in the user's source."""
    assert node._rule is not None
    return Place(
        rule=node._rule.__name__,
        number=number,
        total=total,
        shapes=tuple(np.shape(_data(x)) for x in node._inputs or () if x is not None),
        name=node.name,
        line=place(node),
        report=report,
    )


def _cut(x: Any) -> str:
    """Where a value was taken out of the graph, if it says."""
    line = place(x) if isinstance(x, Node) else ""
    return f"; {x._origin.reason} in {line}" if line and x._origin is not None else ""


def _elsewhere(recorder: Recorder, rng: np.random.Generator) -> Sequence[Any]:
    """The arguments, with those that are differentiated moved a little."""
    return [
        (x + 2.0**-10 * rng.normal(size=x.shape)).astype(x.dtype) if i in recorder.chosen else x
        for i, x in enumerate(recorder.arguments)
    ]


def _is_constant(x: Any) -> bool:
    """Whether x is numbers that could have a gradient, and haven't one."""
    return not (isinstance(x, Node) and x._requires_grad) and x is not None and np.asarray(_data(x)).dtype.kind == "f"


def _data(x: Any) -> Any:
    return x._data if isinstance(x, Node) else x
