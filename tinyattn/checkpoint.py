"""Floor 1: computing again instead of remembering.

A checkpointed function keeps its arguments and its output; nothing between. On the way back it is run a second time,
and the walk goes on through that second graph in place of the first: the same nodes in the same order, so that every
gradient is the same to the bit.
"""

import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from tinyattn.engine import record
from tinyattn.functions import concatenate, reshape
from tinyattn.nodes import NO_OPTIONS, GradientError, Node, give_of, is_recording, next_age, recording
from tinyattn.tensor import Tensor

State = dict[str, Any]


def checkpoint(f: Callable[..., Any], *, rngs: Iterable[Any] = ()) -> Callable[..., Any]:
    """A function that computes what f does, and remembers no step of it: the backward pass runs f again.

    It takes the memory of its arguments and its output, and the time of one more forward pass. f is a function of
    Tensors and whatever else, or a module; its value is a Tensor, or a tuple of Tensors of one dtype. Tensors that f
    uses without being given them, parameters say, get their gradients too.

    f must compute the same when it is run again (`GradientError` where it doesn't). NumPy's random generators are put
    back to where they stood, if they are arguments of f, attributes of the module, or named in `rngs`.

    Chen et al. 2016, arXiv:1604.06174, section 4. (PyTorch's `torch.utils.checkpoint.checkpoint(f, *args)` calls f at
    once; here the call has its own brackets.)

    >>> import tinyattn as ta
    >>> x = ta.tensor(0.5, requires_grad=True)
    >>> y = checkpoint(lambda x: ta.exp(ta.exp(x) - 1.0))(x)
    >>> y
    tensor(1.91309294, rule=checkpoint)
    >>> y.backward()
    >>> x.grad  # e^x y
    tensor(3.15415703)
    """
    if not callable(f):
        raise TypeError(f"checkpoint: needs a function or a module; got {type(f).__name__}")
    extra = list(rngs) if isinstance(rngs, Iterable) else [rngs]
    if extra == [rngs] or not all(isinstance(rng, np.random.Generator) for rng in extra):
        raise TypeError(f"checkpoint: rngs must be a list of numpy.random.Generators; got {rngs!r}")

    @functools.wraps(f)
    def checkpointed(*args: Any, **options: Any) -> Any:
        if not is_recording():
            return f(*args, **options)
        shapes: list[tuple[int, ...]] | None = None

        def run() -> Any:
            nonlocal shapes
            output = f(*args, **options)
            if isinstance(output, tuple) and output and all(isinstance(part, Tensor) for part in output):
                shapes = [part.shape for part in output]
                return _joined(output)
            return output

        generators = _generators((f, args, options, extra))
        states = [generator.bit_generator.state for generator in generators]
        started = next_age()
        output = run()
        if not isinstance(output, Tensor):
            raise TypeError(
                f"checkpoint: the function must give a Tensor, or a tuple of them; got {type(output).__name__}"
            )
        if output._requires_grad and output._age > started:
            output = _forgetful(run, output._data, _outside(output, started), generators, states)
            give_of(output, f, started)
        return output if shapes is None else _parted(output, shapes)

    return checkpointed


def _forgetful(
    run: Callable[[], Tensor], data: Any, outside: tuple[Node, ...], generators: list[Any], states: list[State]
) -> Tensor:
    """The node that has the output's data, and a graph only when it's asked for one."""

    def unfold(d_output: Any) -> Node:
        with recording(True), _at(generators, states):
            again = run()
        if not np.array_equal(again._data, data, equal_nan=True):
            raise GradientError(
                "checkpoint: the function gave another output when it was run again. If it draws random numbers, name"
                " the generators: checkpoint(f, rngs=[rng])"
            )
        return again

    def rule(*inputs: Any) -> Any:
        return data, unfold

    rule.__name__ = "checkpoint"
    return record(Tensor, rule, outside, outside, NO_OPTIONS, rule(), True)


def _outside(output: Node, started: int) -> tuple[Node, ...]:
    """The nodes that were there before, and have a gradient through the output."""
    seen = {output}
    inside: list[Node] = [output]
    outside: list[Node] = []
    for node in inside:
        for x in node._parents or ():
            if x is not None and x._requires_grad and x not in seen:
                seen.add(x)
                (inside if x._age > started else outside).append(x)
    return tuple(outside)


def _joined(parts: tuple[Tensor, ...]) -> Tensor:
    """All numbers of the parts in one row, so that one node carries them."""
    if len({part.dtype for part in parts}) > 1:
        raise TypeError(f"checkpoint: outputs must have one dtype; got {', '.join(str(part.dtype) for part in parts)}")
    return concatenate([reshape(part, -1) for part in parts])


def _parted(row: Tensor, shapes: list[tuple[int, ...]]) -> tuple[Tensor, ...]:
    parts, start = [], 0
    for shape in shapes:
        stop = start + int(np.prod(shape))
        parts.append(row[start:stop].reshape(shape))
        start = stop
    return tuple(parts)


@contextmanager
def _at(generators: list[Any], states: list[State]) -> Iterator[None]:
    """With the generators where they once stood; then where they stand now."""
    now = [generator.bit_generator.state for generator in generators]
    for generator, state in zip(generators, states, strict=True):
        generator.bit_generator.state = state
    try:
        yield
    finally:
        for generator, state in zip(generators, now, strict=True):
            generator.bit_generator.state = state


def _generators(x: Any) -> list[Any]:
    """NumPy's random generators among arguments, in a function's closure, in a module's attributes."""
    found: dict[int, Any] = {}
    seen: set[int] = set()
    stack = [x]
    while stack:
        x = stack.pop()
        if id(x) in seen or isinstance(x, Node | np.ndarray | str):
            continue
        seen.add(id(x))
        if isinstance(x, np.random.Generator):
            found[id(x)] = x
        elif isinstance(x, list | tuple):
            stack.extend(x)
        elif isinstance(x, dict):
            stack.extend(x.values())
        elif hasattr(x, "named_parameters"):
            stack.extend(vars(x).values())
        elif callable(x):
            stack += [getattr(x, "__self__", None), getattr(x, "__defaults__", None)]
            stack += closed_over(x)
    return list(found.values())


def closed_over(f: Any) -> Iterator[Any]:
    """What a function knows beside its arguments."""
    for cell in getattr(f, "__closure__", None) or ():
        try:
            yield cell.cell_contents
        except ValueError:  # a name that has no value yet
            continue
