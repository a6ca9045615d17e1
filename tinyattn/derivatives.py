"""Floor 1: derivatives as functions of functions.

Each takes a function of arrays and gives one that differentiates it: the function is called with Tensors, and what
comes out is walked back. Arguments may be arrays, numbers, lists or Tensors; results are Tensors. They nest, to any
order.
"""

import functools
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeAlias

import numpy as np

from tinyattn.engine import GradientError, apply, is_recording, leaf, recording, seed, walk
from tinyattn.functions import reshape, stack
from tinyattn.rules.elementwise import positive
from tinyattn.tensor import Tensor, tensor

Function: TypeAlias = Callable[..., Any]

_nested: ContextVar[bool] = ContextVar("nested", default=False)


def grad(f: Function, argnums: int | tuple[int, ...] = 0) -> Function:
    """The gradient of a function whose value is one number, in its argument `argnums`, or in several.

    As in JAX, a value that isn't made of the argument has gradient zero, a plain number, too. So have `float(x)`,
    `x.item()` and `x.numpy()`, which cut it off without a word. Raises what `value_and_grad` raises.

    >>> grad(lambda x: x**3)(2.0)  # 3 x²
    tensor(12.)
    >>> grad(grad(lambda x: x**3))(5.0)  # 6 x
    tensor(30.)
    """

    value_and_gradient = value_and_grad(f, argnums)

    @functools.wraps(f)
    def gradient(*args: Any, **options: Any) -> Any:
        return value_and_gradient(*args, **options)[1]

    return gradient


def value_and_grad(f: Function, argnums: int | tuple[int, ...] = 0) -> Callable[..., tuple[Tensor, Any]]:
    """The value of a function together with its gradient.

    A tuple of `argnums` gives a tuple of gradients. An argument that the value doesn't depend on has gradient zero.
    Raises `GradientError` where the value isn't one number, `TypeError` for arguments that aren't float32 or float64,
    or that aren't there.

    >>> value_and_grad(lambda x: (x * x).sum())([1.0, 2.0])
    (tensor(5.), tensor([2., 4.]))
    """
    several = isinstance(argnums, tuple)
    chosen = argnums if isinstance(argnums, tuple) else (argnums,)
    if not all(isinstance(i, int | np.integer) for i in chosen):
        raise TypeError(f"grad: argnums must be a whole number, or a tuple of them; got {argnums!r}")

    @functools.wraps(f)
    def value_and_gradient(*args: Any, **options: Any) -> tuple[Tensor, Any]:
        further = _goes_further(args)
        inputs = list(args)
        with _differentiating():
            for i in chosen:
                inputs[i] = _fresh(args[_place("grad", "argnums", i, args)])
            output = _as_tensor("grad", f(*inputs, **options))
        if output.size != 1:
            raise GradientError(
                f"grad: the function's value must be one number; got shape {output.shape}. Reduce it, with .sum() say,"
                " or use jacobian, or vjp"
            )
        gradients = _pull_back(output, None, [inputs[i] for i in chosen], further)
        return output if further else output.detach(), gradients if several else gradients[0]

    return value_and_gradient


def vjp(f: Function, *primals: Any) -> tuple[Tensor, Callable[[Any], tuple[Tensor, ...]]]:
    """f(*primals), and the function that pulls a gradient of it back to every primal: v ↦ vᵀ J.

    The gradient has the shape of the output (`ValueError`).

    >>> output, pull_back = vjp(lambda x, y: x * y, 2.0, 3.0)
    >>> pull_back(1.0)
    (tensor(3.), tensor(2.))
    """
    further = _goes_further(primals)
    with _differentiating():
        inputs = [_fresh(x) for x in primals]
        output = _as_tensor("vjp", f(*inputs))

    def pull_back(cotangent: Any) -> tuple[Tensor, ...]:
        return _pull_back(output, cotangent, inputs, further or _goes_further((cotangent,)), retain_graph=True)

    return output if further else output.detach(), pull_back


def jvp(f: Function, primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Tensor, Tensor]:
    """f(*primals), and how fast it changes as the primals move along the tangents: J t.

    vᵀ J is linear in v, and Σ vᵀ J t has the gradient J t in v: two passes backward make one forward. Raises
    `ValueError` where there isn't a tangent of its shape for each primal.

    >>> jvp(lambda x: x * x, [3.0], [1.0])
    (tensor(9.), tensor(6.))
    """
    for name, given in (("primals", primals), ("tangents", tangents)):
        if not isinstance(given, list | tuple):
            raise TypeError(f"jvp: {name} must be a list or a tuple; got {type(given).__name__}. Are [ ] missing?")
    shapes = [[np.shape(x) for x in given] for given in (primals, tangents)]
    if not primals or shapes[0] != shapes[1]:
        raise ValueError(
            "jvp: each primal needs a tangent of its shape;"
            f" got primals {_listed(shapes[0])} and tangents {_listed(shapes[1])}"
        )
    further = _goes_further((*primals, *tangents))
    output, pull_back = vjp(f, *primals)
    cotangent = tensor(np.zeros(output.shape), dtype=output.dtype, requires_grad=True)
    with _differentiating():
        moves = [(g * t).sum() for g, t in zip(pull_back(cotangent), tangents, strict=True)]
        total = functools.reduce(operator.add, moves)
    return output, _pull_back(total, None, [cotangent], further)[0]


def jacobian(f: Function, argnum: int = 0) -> Callable[..., Tensor]:
    """All derivatives of every output in every input: shape output.shape + input.shape, one pass back for each output.

    >>> jacobian(lambda x: x * x)([1.0, 2.0])
    tensor([[2., 0.],
            [0., 4.]])
    """

    @functools.wraps(f)
    def all_derivatives(*args: Any) -> Tensor:
        place = _place("jacobian", "argnum", argnum, args)
        output, pull_back = vjp(lambda x: f(*args[:place], x, *args[place + 1 :]), args[place])
        rows = [pull_back(row.reshape(output.shape))[0] for row in np.eye(output.size)]
        shape = output.shape + np.shape(args[place])
        return reshape(stack(rows), shape) if rows else tensor(np.zeros(shape))

    return all_derivatives


def hessian(f: Function, argnum: int = 0) -> Callable[..., Tensor]:
    """All second derivatives of a function whose value is one number: shape input.shape + input.shape.

    >>> hessian(lambda x: x[0] * x[0] * x[1])([1.0, 3.0])
    tensor([[6., 2.],
            [2., 0.]])
    """
    return jacobian(grad(f, argnum), argnum)


@contextmanager
def _differentiating() -> Iterator[None]:
    """Record what is done inside, and let derivatives that are taken inside have derivatives themselves."""
    token = _nested.set(True)
    try:
        with recording(True):
            yield
    finally:
        _nested.reset(token)


def _goes_further(args: Iterable[Any]) -> bool:
    """Whether somebody may differentiate what is computed from these arguments again."""
    return is_recording() and (_nested.get() or any(isinstance(x, Tensor) and x.requires_grad for x in args))


def _fresh(x: Any) -> Tensor:
    """x as a Tensor of its own: what the function does with x elsewhere, as a constant, is kept apart."""
    if isinstance(x, Tensor) and x.requires_grad:
        alias: Tensor = apply(positive, (x,))
        return alias
    return Tensor(x, requires_grad=True)


def _place(name: str, option: str, i: int, args: Sequence[Any]) -> int:
    """The place of the argument that `i` means, which may count from the end."""
    if not isinstance(i, int | np.integer):
        raise TypeError(f"{name}: {option} must be a whole number; got {i!r}")
    if not -len(args) <= i < len(args):
        raise TypeError(f"{name}: there is no argument {i}, since the function was called with {len(args)} by position")
    return int(i) % len(args)


def _as_tensor(name: str, output: Any) -> Tensor:
    if isinstance(output, Tensor):
        return output
    if not isinstance(output, int | float | np.ndarray | np.generic):
        raise TypeError(f"{name}: the function must give a Tensor or a number; got {type(output).__name__}")
    return tensor(output)


def _listed(shapes: Iterable[tuple[int, ...]]) -> str:
    return ", ".join(map(str, shapes)) or "none"


def _pull_back(
    output: Tensor, cotangent: Any, inputs: Sequence[Tensor], further: bool, *, retain_graph: bool = False
) -> tuple[Tensor, ...]:
    """The gradient of Σ output · cotangent in each input; zeros where there is no way from one to the other."""
    found = {}
    if output.requires_grad:
        start = seed(output, cotangent)
        if further and not isinstance(start, Tensor):
            start = leaf(Tensor, start)
        found = walk(output, start, inputs, retain_graph=retain_graph or further, create_graph=further)
    gradients = (found[x] if x in found else np.zeros(x.shape, x.dtype) for x in inputs)
    return tuple(g if isinstance(g, Tensor) else leaf(Tensor, g) for g in gradients)
