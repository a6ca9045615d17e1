"""Floor 1: derivatives as functions of functions.

Each takes a function of arrays and gives one that differentiates it: the function is called with Tensors, and what
comes out is walked back. Arguments may be arrays, numbers, lists of numbers or Tensors, and what `structures` are made
of; results are Tensors, in structures like those that came in. They nest, to any order.
"""

import functools
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeAlias

import numpy as np

from tinyattn.engine import FLOATS, GradientError, apply, is_recording, leaf, recording, seed, walk
from tinyattn.functions import reshape, stack
from tinyattn.nodes import as_array
from tinyattn.rows import pull_back_each
from tinyattn.rules.checks import check_flag
from tinyattn.rules.elementwise import positive
from tinyattn.rules.registry import Array, Result
from tinyattn.structures import Structure, is_array, is_module, leaves, mapped, opened
from tinyattn.tensor import Tensor, tensor

Function: TypeAlias = Callable[..., Any]

_nested: ContextVar[bool] = ContextVar("nested", default=False)


def grad(f: Function, argnums: int | tuple[int, ...] = 0, *, has_aux: bool = False) -> Function:
    """The gradient of a function whose value is one number, in its argument `argnums`, or in several.

    As in JAX, a value that isn't made of the argument has gradient zero, a plain number, too. So have `float(x)`,
    `x.item()` and `x.numpy()`, which cut it off without a word. With `has_aux` it gives (gradient, aux). Takes and
    raises what `value_and_grad` does.

    >>> grad(lambda x: x**3)(2.0)  # 3 x²
    tensor(12.)
    >>> grad(grad(lambda x: x**3))(5.0)  # 6 x
    tensor(30.)
    """

    value_and_gradient = value_and_grad(f, argnums, has_aux=has_aux)

    @functools.wraps(f)
    def gradient(*args: Any, **options: Any) -> Any:
        value, gradients = value_and_gradient(*args, **options)
        return (gradients, value[1]) if has_aux else gradients

    return gradient


def value_and_grad(
    f: Function, argnums: int | tuple[int, ...] = 0, *, has_aux: bool = False
) -> Callable[..., tuple[Any, Any]]:
    """The value of a function together with its gradient.

    A tuple of `argnums` gives a tuple of gradients. An argument that the value doesn't depend on has gradient zero.

    An argument may be a dict, list, tuple or named tuple of arrays, nested to any depth; its gradient is one, too. A
    list of nothing but numbers is an array; None stays None; what stands in two places has two gradients. The gradient
    of a module is a dict of those of its parameters that require one, wherever the function uses them.

    With `has_aux` the function returns (value, aux), and so does this, in place of the value; aux isn't differentiated.

    Raises `GradientError` where the value isn't one number, `TypeError` for arguments that aren't float32 or float64
    all the way down, or that aren't there.

    >>> value_and_grad(lambda x: (x * x).sum())([1.0, 2.0])
    (tensor(5.), tensor([2., 4.]))
    >>> grad(lambda model, x: model["w"] * x + model["b"])({"w": 2.0, "b": 1.0}, 3.0)
    {'w': tensor(3.), 'b': tensor(1.)}
    """
    return _value_and_grad("grad", f, argnums, has_aux)


def _value_and_grad(
    name: str, f: Function, argnums: int | tuple[int, ...], has_aux: bool = False
) -> Callable[..., tuple[Any, Any]]:
    """`value_and_grad`, whose errors speak under that name."""
    _check_function(name, f)
    check_flag(name, "has_aux", has_aux)
    several = isinstance(argnums, tuple)
    chosen = argnums if isinstance(argnums, tuple) else (argnums,)
    if not all(_is_whole(i) for i in chosen):
        raise TypeError(f"{name}: argnums must be a whole number, or a tuple of them; got {argnums!r}")

    @functools.wraps(f)
    def value_and_gradient(*args: Any, **options: Any) -> tuple[Any, Any]:
        further = _goes_further(name, *args, *options.values())
        places = [_place(name, "argnums", i, args) for i in chosen]
        value, variables = _recorded(name, f, args, places, options)
        aux = None
        if has_aux:
            value, aux = _pair(value)
        output = _one_number(name, value)
        gradients = _pull_back(output, None, variables, further)
        result = _done(output, further)
        return (result, _done(aux, further)) if has_aux else result, gradients if several else gradients[0]

    return value_and_gradient


def vjp(f: Function, *primals: Any) -> tuple[Tensor, Callable[[Any], tuple[Any, ...]]]:
    """f(*primals), and the function that pulls a gradient of it back to every primal: v ↦ vᵀ J.

    What is pulled back has the shape of the output (`ValueError`). Primals may be structures, as in `value_and_grad`.

    >>> output, pull_back = vjp(lambda x, y: x * y, 2.0, 3.0)
    >>> pull_back(1.0)
    (tensor(3.), tensor(2.))
    """
    _check_function("vjp", f)
    further = _goes_further("vjp", *primals)
    value, variables = _recorded("vjp", f, primals, range(len(primals)))
    output = _as_tensor("vjp", value)

    def pull_back(cotangent: Any) -> tuple[Any, ...]:
        if not isinstance(cotangent, Tensor):
            cotangent = as_array(cotangent, "vjp: the gradient to pull back")
        if cotangent.shape != output.shape:
            raise ValueError(
                f"vjp: the gradient to pull back must have the output's shape, {output.shape}; got {cotangent.shape}"
            )
        again = further or _goes_further("vjp", cotangent)
        return _pull_back(output, cotangent, variables, again, retain_graph=True)

    return _done(output, further), pull_back


def jvp(f: Function, primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Tensor, Tensor]:
    """f(*primals), and how fast it changes as the primals move along the tangents: J t.

    vᵀ J is linear in v, and Σ vᵀ J t has the gradient J t in v: two passes backward make one forward. Primals may be
    structures, as in `value_and_grad`. Raises `ValueError` where there isn't a tangent of its shape for each primal.

    >>> jvp(lambda x: x * x, [3.0], [1.0])
    (tensor(9.), tensor(6.))
    """
    _check_function("jvp", f)
    along = _tangents("jvp", primals, tangents)
    further = _goes_further("jvp", *primals, *tangents)
    value, variables = _recorded("jvp", f, primals, range(len(primals)))
    output = _as_tensor("jvp", value)
    if not output.requires_grad:
        return output, leaf(Tensor, np.zeros(output.shape, np.result_type(output.dtype, np.float32)))
    with _differentiating():
        cotangent = tensor(np.zeros(output.shape), dtype=output.dtype, requires_grad=True)
        moved = _along(_pull_back(output, cotangent, variables, further=True), along)
    return _done(output, further), _pull_back(moved, None, (cotangent,), further)[0]


def hvp(f: Function, primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Tensor, tuple[Any, ...]]:
    """f(*primals), one number, and how fast its gradient changes as the primals move along the tangents: H t.

    Σ gᵀ t, of the gradient g, has the gradient H t: a second pass backward, and no Hessian. There is a product for each
    primal, of its shape, to which all tangents add. Primals and tangents are those of `jvp`; PyTorch has it as
    `torch.autograd.functional.hvp`.

    >>> hvp(lambda x: x[0] * x[0] * x[1], [[1.0, 3.0]], [[1.0, 0.0]])  # the first column of [[6, 2], [2, 0]]
    (tensor(3.), (tensor([6., 2.]),))
    """
    _check_function("hvp", f)
    along = _tangents("hvp", primals, tangents)
    further = _goes_further("hvp", *primals, *tangents)
    value, variables = _recorded("hvp", f, primals, range(len(primals)))
    output = _one_number("hvp", value)
    with _differentiating():
        moved = _along(_pull_back(output, None, variables, further=True), along)
    return _done(output, further), _pull_back(moved, None, variables, further)


def jacobian(f: Function, argnum: int = 0) -> Callable[..., Tensor]:
    """All derivatives of every output in every input: shape output.shape + input.shape.

    ∂y_i/∂x_j = Σ_k v_k ∂y_k/∂x_j   with v_k = δ_ik                  (jacobian.1)

    The cotangents v of all outputs go back through the graph in one walk, where the rules on the way let them (see
    `rows`), and one by one where not.

    >>> jacobian(lambda x: x * x)([1.0, 2.0])
    tensor([[2., 0.],
            [0., 4.]])
    """
    return _jacobian("jacobian", f, argnum)


def _jacobian(name: str, f: Function, argnum: int) -> Callable[..., Tensor]:
    """`jacobian`, whose errors speak under that name."""
    _check_function(name, f)

    @functools.wraps(f)
    def all_derivatives(*args: Any, **options: Any) -> Tensor:
        further = _goes_further(name, *args, *options.values())
        place = _place(name, "argnum", argnum, args)
        if not is_array(args[place]):
            got = type(args[place]).__name__
            raise TypeError(f"{name}: argument {place} must be one array; got {got}. Structures can have vjp and jvp")
        value, (x,) = _recorded(name, f, args, [place], options)
        output = _as_tensor(name, value)
        shape = output.shape + x.shape
        if not output.requires_grad or not output.size:
            return leaf(Tensor, np.zeros(shape, x.dtype))
        if further:
            rows = [_pull_back(output, v.reshape(output.shape), (x,), True)[0] for v in np.eye(output.size)]
            return reshape(stack(rows), shape)
        return leaf(Tensor, pull_back_each(output, x).reshape(shape))

    return all_derivatives


def hessian(f: Function, argnum: int = 0) -> Callable[..., Tensor]:
    """All second derivatives of a function whose value is one number: shape input.shape + input.shape.

    >>> hessian(lambda x: x[0] * x[0] * x[1])([1.0, 3.0])
    tensor([[6., 2.],
            [2., 0.]])
    """
    _check_function("hessian", f)
    value_and_gradient = _value_and_grad("hessian", f, argnum)

    def gradient(*args: Any, **options: Any) -> Any:
        return value_and_gradient(*args, **options)[1]

    return functools.wraps(f)(_jacobian("hessian", gradient, argnum))


# ---------------------------------------------------------------------------------------- there and back


def _recorded(
    name: str, f: Function, args: Sequence[Any], places: Iterable[int], options: Any = None
) -> tuple[Any, tuple[Structure, ...]]:
    """f(*args, **options), with variables in those places; and the variables, with dicts in place of modules."""
    inputs = list(args)
    with _differentiating():
        for i in places:
            inputs[i] = mapped(_variable, args[i], f"{name}: argument {i}")
        variables = tuple(opened(inputs[i]) for i in places)
        for i in places:
            inputs[i] = mapped(_handed, inputs[i])
        return f(*inputs, **(options or {})), variables


def _variable(x: Any, path: str) -> Any:
    """x as a Tensor of its own: what the function does with x elsewhere, as a constant, is kept apart."""
    if is_module(x):
        return x
    if isinstance(x, Tensor) and x.requires_grad:
        return apply(positive, (x,))
    array = as_array(x, path)
    if array.dtype not in FLOATS:
        got = _kind(x, array)
        raise TypeError(f"{path}: gradients need float32 or float64; got {got}. Does it belong in another argument?")
    return tensor(array, requires_grad=True)


def _handed(x: Any, _: str) -> Any:
    """What the function gets for a variable: one that it may write into, as `x[i] = v` does, and the variable stays."""
    return apply(_itself, (x,)) if isinstance(x, Tensor) else x


def _itself(x: Array) -> Result:
    return x, lambda d_x: (d_x,)


def _pull_back(
    output: Tensor, cotangent: Any, variables: tuple[Structure, ...], further: bool, *, retain_graph: bool = False
) -> tuple[Structure, ...]:
    """The gradient of Σ output · cotangent in each variable; zeros where there is no way from one to the other."""
    found = {}
    taken = {id(cotangent)}
    if output.requires_grad:
        start = seed(output, cotangent)
        if further and not isinstance(start, Tensor):
            start = leaf(Tensor, start)
        targets = [x for variable in variables for _, x in leaves(variable)]
        found = walk(output, start, targets, retain_graph=retain_graph or further, create_graph=further)

    def gradient(x: Tensor, _: str) -> Tensor:
        g = found.get(x)
        if isinstance(g, Tensor):
            return g
        return leaf(Tensor, np.zeros_like(x._data) if g is None else _own(g, taken))

    return tuple(mapped(gradient, variable) for variable in variables)


def _along(gradients: Structure, along: dict[str, Any]) -> Tensor:
    """Σ gᵀ t over all leaves; the tangents by their paths."""
    moves = [(g * along[path]).sum() for path, g in leaves(gradients)]
    total: Tensor = functools.reduce(operator.add, moves)
    return total


def _own(gradient: Array, taken: set[int]) -> Array:
    """The gradient in memory of its own: rules may hand one array to two inputs, or on from the cotangent."""
    if isinstance(gradient, np.ndarray) and (id(gradient) in taken or not gradient.flags.owndata):
        return gradient.copy()
    taken.add(id(gradient))
    return gradient


def _done(result: Structure, further: bool) -> Structure:
    """What is handed out: without its graph, unless somebody may differentiate it again."""
    return result if further else mapped(lambda x, _: x.detach() if isinstance(x, Tensor) else x, result)


@contextmanager
def _differentiating() -> Iterator[None]:
    """Record what is done inside, and let derivatives that are taken inside have derivatives themselves."""
    token = _nested.set(True)
    try:
        with recording(True):
            yield
    finally:
        _nested.reset(token)


def _goes_further(name: str, *given: Structure) -> bool:
    """Whether somebody may differentiate what is computed from these arguments again."""
    if not is_recording():
        return False
    held = (x for i, part in enumerate(given) for _, x in leaves(part, f"{name}: argument {i}"))
    return _nested.get() or any(isinstance(x, Tensor) and x.requires_grad for x in held)


# ---------------------------------------------------------------------------------------- what was given


def _check_function(name: str, f: Any) -> None:
    if not callable(f):
        raise TypeError(f"{name}: needs a function to differentiate; got {type(f).__name__}")


def _is_whole(i: Any) -> bool:
    return isinstance(i, int | np.integer) and not isinstance(i, bool)


def _place(name: str, option: str, i: Any, args: Sequence[Any]) -> int:
    """The place of the argument that `i` means, which may count from the end."""
    if not _is_whole(i):
        raise TypeError(f"{name}: {option} must be a whole number; got {i!r}")
    if not -len(args) <= i < len(args):
        raise TypeError(f"{name}: there is no argument {i}, since the function was called with {len(args)} by position")
    return int(i) % len(args)


def _tangents(name: str, primals: Any, tangents: Any) -> dict[str, Any]:
    """The tangents by their paths, once there is known to be one of its shape for each array among the primals."""
    for what, given in (("primals", primals), ("tangents", tangents)):
        if not isinstance(given, list | tuple):
            raise TypeError(f"{name}: {what} must be a list or a tuple; got {type(given).__name__}. Are [ ] missing?")
    moving, along = (
        dict(leaves(opened(tuple(given), f"{name}: {what}")))
        for what, given in (("primals", primals), ("tangents", tangents))
    )
    for path in moving | along:
        if path not in along:
            told = f"primals{path} has none"
        elif path not in moving:
            told = f"tangents{path} has no primal"
        else:
            array = as_array(moving[path], f"{name}: primals{path}")
            t = as_array(along[path], f"{name}: tangents{path}")
            if t.dtype.kind not in "fiub":
                raise TypeError(f"{name}: tangents{path} needs real numbers; got {_kind(along[path], t)}")
            if array.shape == t.shape:
                continue
            told = f"primals{path} has shape {array.shape}, tangents{path} {t.shape}"
        raise ValueError(f"{name}: each primal needs a tangent of its shape; {told}")
    if not moving:
        raise ValueError(f"{name}: needs a primal at least, and a tangent of its shape; got none")
    return along


def _kind(x: Any, array: Array) -> Any:
    """What to call x, where it isn't of the numbers that were expected."""
    return type(x).__name__ if array.dtype.kind in "OUS" else array.dtype


def _as_tensor(name: str, output: Any) -> Tensor:
    if isinstance(output, Tensor):
        return output
    if not isinstance(output, int | float | np.ndarray | np.generic):
        got = "None. Is a return missing?" if output is None else type(output).__name__
        raise TypeError(f"{name}: the function must give a Tensor or a number; got {got}")
    return tensor(output)


def _one_number(name: str, value: Any) -> Tensor:
    output = _as_tensor(name, value)
    if output.size != 1:
        raise GradientError(
            f"{name}: the function's value must be one number; got shape {output.shape}. Reduce it, with .sum() say,"
            " or use jacobian, or vjp"
        )
    return output


def _pair(value: Any) -> tuple[Any, Any]:
    if not isinstance(value, tuple) or len(value) != 2:
        got = f"a tuple of {len(value)}" if isinstance(value, tuple) else type(value).__name__
        raise TypeError(f"grad: with has_aux, the function must return (value, aux); got {got}")
    return value
