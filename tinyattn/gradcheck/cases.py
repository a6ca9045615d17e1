"""From functions and rules to cases: what is computed, at which point, and who says what its gradients are."""

from __future__ import annotations  # numpy.random, which they name, is loaded where it's used

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from tinyattn.engine import GradientError, Node, Rule, leaf, recording, unbroadcast, walk
from tinyattn.functions import concatenate, reshape
from tinyattn.gallery import Sample
from tinyattn.gradcheck.report import BACKWARD, TAPE
from tinyattn.gradcheck.witnesses import Case, Precision, Vector, floating, random_cotangents, replaced, sent
from tinyattn.nodes import as_array, numbers
from tinyattn.rules.registry import Result
from tinyattn.structures import is_module, leaves, mapped, opened
from tinyattn.tensor import Tensor

# ---------------------------------------------------------------------------------------------------- a function


class Recorder:
    """A function of Tensors, called with other numbers in the places of its arguments; what they hold may be nested.

    The parameters of a module among the arguments take the numbers for as long as the call lasts.
    """

    def __init__(self, f: Callable[..., Any], inputs: Any, precision: Precision, op: str = "gradcheck") -> None:
        """`inputs` is the argument, or a tuple of them; `op` is who asks, for messages."""
        if not callable(f):
            raise TypeError(f"{op}: needs a function of Tensors; got {type(f).__name__}")
        self.f, self.op = f, op
        self.given = inputs if isinstance(inputs, tuple) and not hasattr(inputs, "_fields") else (inputs,)
        self.subject = getattr(f, "__name__", type(f).__name__)
        names = names_of(f, len(self.given))
        given = [opened(x, f"{op}: inputs") for x in self.given]
        held = [part for name, x in zip(names, given, strict=True) for part in leaves(x, name)]
        self.names = [name for name, _ in held]
        self.arguments = [_plain(np.asarray(x) if type(x) is float else x, precision.dtype, op) for _, x in held]
        self.chosen = floating(self.arguments)

    def value(self, *arrays: Any) -> Vector:
        """The output for these arrays, with nothing recorded, unless the function needs it: it may have hooks."""
        try:
            with recording(False), self.at(arrays, requires_grad=False) as (arguments, _):
                output = self._called(arguments)
        except GradientError:
            with self.recorded(arrays) as (output, _):
                pass
        return np.asarray(output._data if isinstance(output, Node) else output)

    @contextmanager
    def at(self, arrays: Sequence[Any], *, requires_grad: bool = True) -> Iterator[tuple[list[Any], list[Node]]]:
        """The arguments of a call, with these arrays in them, and the nodes that stand for the chosen ones.

        For as long as this lasts modules have the arrays in their parameters.
        """
        nodes: list[Any] = [
            Tensor(x, requires_grad=requires_grad) if i in self.chosen else x for i, x in enumerate(arrays)
        ]
        new = iter(enumerate(nodes))
        before: list[tuple[Node, Any, Any]] = []

        def replacement(x: Any, _: str) -> Any:
            if not is_module(x):
                return next(new)[1]
            for parameter in opened(x).values():
                i, node = next(new)
                before.append((parameter, parameter._data, parameter._lent))
                parameter._data, parameter._lent = node._data, None
                nodes[i] = parameter
            return x

        try:
            yield [mapped(replacement, x) for x in self.given], [nodes[i] for i in self.chosen]
        finally:
            for parameter, data, lent in reversed(before):
                parameter._data, parameter._lent = data, lent

    @contextmanager
    def recorded(self, arrays: Sequence[Any]) -> Iterator[tuple[Any, list[Node]]]:
        """The output for these arrays with its graph, and the nodes in which it starts."""
        with recording(True), self.at(arrays) as (arguments, variables):
            yield self._called(arguments), variables

    def _called(self, arguments: list[Any]) -> Any:
        output = self.f(*arguments)
        if output is None or isinstance(output, str):
            hint = " Is a return missing?" if output is None else ""
            raise TypeError(f"{self.op}: the function must give one Tensor; got {type(output).__name__}.{hint}")
        if isinstance(output, tuple | list | dict):
            raise TypeError(
                f"{self.op}: the function must give one Tensor; got {type(output).__name__} of {len(output)}."
                " Check them one by one, or joined with tinyattn.concatenate"
            )
        return output


def gradients_of(output: Any, cotangent: Any, nodes: Sequence[Node], *, create_graph: bool = False) -> list[Any]:
    """The gradient of Σ cotangent · output in each node; None where there is none."""
    if not (isinstance(output, Node) and output._requires_grad):
        return [None] * len(nodes)
    start = leaf(Tensor, cotangent) if create_graph else cotangent
    found = walk(output, start, nodes, retain_graph=True, create_graph=create_graph)
    return [found.get(node) for node in nodes]


def function_case(
    recorder: Recorder, precision: Precision, rng: np.random.Generator, cotangent: Any, analytic: bool | None
) -> Case:
    """A function of Tensors at a point. Its gradient, by the tape, is what is called the backward."""
    if not recorder.chosen:
        n = len(recorder.arguments)
        raise TypeError(f"{recorder.op}: there is nothing to check, since none of the {n} inputs is floating")
    arguments = recorder.arguments

    def backward(cotangents: Vector) -> list[list[Vector]]:
        with recorder.recorded(arguments) as (output, nodes):
            found = [gradients_of(output, c[()], nodes) for c in cotangents]
        return [[sent(g, arguments[i]) for g, i in zip(each, recorder.chosen, strict=True)] for each in found]

    output = recorder.value(*arguments)
    if output.dtype.kind not in "fiub":
        raise TypeError(f"{recorder.op}: the function must give one Tensor, of real numbers; got dtype {output.dtype}")
    return Case(
        rule=recorder.subject,
        subject=recorder.subject,
        arguments=arguments,
        names=recorder.names,
        value=recorder.value,
        gradients={BACKWARD: backward},
        output=output,
        cotangents=random_cotangents(rng, output) if cotangent is None else _given(cotangent, output),
        precision=precision,
        analytic=analytic,
    )


def second_of_function(recorder: Recorder, case: Case, rng: np.random.Generator) -> Case:
    """The gradient of a function, under one random cotangent, as a function whose own gradient is to be checked."""
    c = case.cotangents[0].astype(case.precision.dtype)

    def gradient(output: Any, nodes: Sequence[Node], *, create_graph: bool) -> Any:
        found = gradients_of(output, c[()], nodes, create_graph=create_graph)
        return _joined([np.zeros_like(x._data) if g is None else g for g, x in zip(found, nodes, strict=True)])

    def value(*arrays: Any) -> Vector:
        with recorder.recorded(arrays) as (output, nodes):
            return np.asarray(gradient(output, nodes, create_graph=False))

    def tape(cotangents: Vector) -> list[list[Vector]]:
        with recorder.recorded(case.arguments) as (output, nodes):
            joined = gradient(output, nodes, create_graph=True)
            found = [gradients_of(joined, d, nodes) for d in cotangents]
        return [[sent(g, case.arguments[i]) for g, i in zip(each, recorder.chosen, strict=True)] for each in found]

    return _second(case, value, tape, rng, analytic=False)


def _second(case: Case, value: Any, tape: Any, rng: np.random.Generator, analytic: bool) -> Case:
    output = value(*case.arguments)
    return case._replace(
        subject=f"{case.subject}, the gradient of its gradient",
        value=value,
        gradients={TAPE: tape},
        output=output,
        cotangents=rng.normal(size=(1, *output.shape)),
        analytic=analytic,
        flat=True,
    )


def _joined(gradients: Sequence[Any]) -> Any:
    """The numbers of all gradients in a row."""
    return concatenate([reshape(gradient, (-1,)) for gradient in gradients])


# ---------------------------------------------------------------------------------------------------- a rule


def rule_case(
    rule: Rule,
    sample: Sample,
    precision: Precision,
    rng: np.random.Generator,
    chosen: tuple[int, ...] = (),
) -> Case:
    """A rule on a sample: its own backward, and the tape if there is one."""
    arguments = [_plain(x, precision.dtype) for x in sample.arrays]
    places = chosen or floating(arguments)

    def run(arrays: Sequence[Any]) -> Result:
        return rule(*map(_scalar, arrays), **sample.options)

    def value(*arrays: Any) -> Vector:
        return np.asarray(run(arrays)[0])

    def backward(cotangents: Vector) -> list[list[Vector]]:
        pull_back = run(arguments)[1]
        found = [pull_back(c[()]) for c in cotangents]
        return [[sent(gradients[i], arguments[i]) for i in places] for gradients in found]

    output = value(*arguments)
    return Case(
        rule=rule.__name__,
        subject=f"{rule.__name__}, {sample.about}" if sample.about else rule.__name__,
        arguments=arguments,
        names=names_of(rule, len(arguments)),
        value=value,
        gradients={BACKWARD: backward},
        output=output,
        cotangents=random_cotangents(rng, output),
        precision=precision,
        analytic=sample.analytic,
        flat=sample.flat,
        options={name: x for name, x in sample.options.items() if type(x) in (int, float)},
        chosen=chosen,
    )


def with_tape(case: Case, rule: Rule, sample: Sample) -> Case:
    """The case with one more witness, if there is one: the tape over the smaller rules that the rule is composed of."""
    tensors, places = _variables(case), case.places()
    composed = rule(*map(_scalar, tensors), **sample.options)[0]

    def tape(cotangents: Vector) -> list[list[Vector]]:
        found = [gradients_of(composed, c[()], [tensors[i] for i in places]) for c in cotangents]
        return [[sent(g, case.arguments[i]) for g, i in zip(each, places, strict=True)] for each in found]

    if composed._rule is rule:  # a primitive is composed of nothing but itself
        return case
    return case._replace(gradients=case.gradients | {TAPE: tape})


def second_of_rule(rule: Rule, sample: Sample, case: Case, rng: np.random.Generator) -> Case:
    """The backward of a rule, for one random cotangent, as a function whose own gradient is to be checked."""
    c = case.cotangents[0].astype(case.precision.dtype)[()]
    places = case.places()

    def slope(arrays: Sequence[Any]) -> Any:
        gradients = rule(*map(_scalar, arrays), **sample.options)[1](c)
        return _joined([_as_sent(gradients[i], arrays[i]) for i in places])

    def value(*arrays: Any) -> Vector:
        return np.asarray(slope(arrays))

    def tape(cotangents: Vector) -> list[list[Vector]]:
        tensors = _variables(case)
        gradient = slope(tensors)
        found = [gradients_of(gradient, d, [tensors[i] for i in places]) for d in cotangents]
        return [[sent(g, case.arguments[i]) for g, i in zip(each, places, strict=True)] for each in found]

    return _second(case, value, tape, rng, analytic=bool(case.analytic))


def _variables(case: Case) -> list[Any]:
    """The arguments, with Tensors that require gradients in the chosen places."""
    return replaced(case.arguments, {i: Tensor(case.arguments[i], requires_grad=True) for i in case.places()})


def _as_sent(gradient: Any, x: Any) -> Any:
    """`sent`, for what may be complex, or a Tensor."""
    if gradient is None:
        return np.zeros(x.shape, x.dtype)
    return unbroadcast(gradient if hasattr(gradient, "shape") else np.asarray(gradient), x.shape)


# ---------------------------------------------------------------------------------------------------- small things


def _given(cotangent: Any, output: Vector) -> Vector:
    """The cotangent that was asked for, in the output's shape."""
    given = numbers(cotangent._data if isinstance(cotangent, Node) else cotangent, "gradcheck: cotangent")
    if np.iscomplexobj(given):
        raise TypeError(f"gradcheck: cotangent needs real numbers; got {np.asarray(given).dtype}")
    try:
        c = np.broadcast_to(np.asarray(given, dtype=np.float64), output.shape)
    except ValueError:
        told = f"gradcheck: the cotangent must have the output's shape, {output.shape}; got {np.shape(cotangent)}"
        raise ValueError(told) from None
    return c[None]


def _plain(x: Any, dtype: np.dtype[Any], op: str = "gradcheck") -> Any:
    """x as an array of its own, of that dtype if it is floating; None, and what isn't made of numbers, as it is."""
    if x is None or type(x) in (int, float, bool):
        return x
    array = x._data if isinstance(x, Node) else as_array(x, f"{op}: inputs")
    if array.dtype.kind not in "fiubc":
        return x
    return np.array(array, dtype=dtype if array.dtype.kind == "f" else None)


def _scalar(x: Any) -> Any:
    """As the engine gives it to rules: NumPy's scalars for arrays of no axes."""
    return x[()] if isinstance(x, np.ndarray) else x


def names_of(f: Callable[..., Any], n: int) -> list[str]:
    """What the first n arguments of a function are called."""
    try:
        named = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD)
        declared = [p for p in inspect.signature(f).parameters.values() if p.kind not in named]
    except (TypeError, ValueError):  # some functions of other languages don't say
        declared = []
    names = [p.name for p in declared if p.kind is not p.VAR_POSITIONAL]
    rest = next((p.name for p in declared if p.kind is p.VAR_POSITIONAL), "argument")
    return [names[i] if i < len(names) else f"{rest}[{i - len(names)}]" for i in range(n)]
