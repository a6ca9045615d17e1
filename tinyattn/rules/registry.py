"""The table of rules: what a rule is, and where all of them are written down.

A rule is a plain NumPy function that computes an output and knows how to pull a gradient back through itself:

    @rule
    def multiply(x, y):
        def backward(d_output):
            return d_output * y, d_output * x
        return x * y, backward

- The parameters before `*` are arrays; those after it are options, which are never differentiated. NumPy's own
  functions take their options by position too, so that a star cannot say where the arrays end: there `arrays=` does,
  as in `@rule(arrays=1) def sum(x, axis=None, *, keepdims=False)`. `*arrays` stands for a sequence of arrays.
- `backward` takes the gradient of the output, of the output's shape, and returns one gradient for each array
  parameter; None where there is none to give (a condition, an index, an optional array left out). It may leave
  a gradient in the broadcast shape: the engine sums it back.
- A rule uses NumPy's functions, operators and array methods, and never writes into an array. That is all it takes for
  complex arrays and Tensors to flow through it.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, ParamSpec, TypeAlias, overload

import numpy as np

Array: TypeAlias = Any
"""Whatever speaks NumPy's protocols: an ndarray, real or complex, a NumPy scalar, a Tensor."""
Gradients: TypeAlias = tuple[Array, ...]
Backward: TypeAlias = Callable[[Array], Gradients]
Result: TypeAlias = tuple[Array, Backward]

Axis: TypeAlias = int | tuple[int, ...] | None
Shape: TypeAlias = int | tuple[int, ...]

P = ParamSpec("P")

RULES: dict[str, Callable[..., Result]] = {}
"""Every rule by its name."""

_FLOAT64 = np.dtype(np.float64)
_PARAMETERS: dict[Callable[..., Result], "Parameters"] = {}


class Parameters(NamedTuple):
    """The parameters of a rule, told apart."""

    arrays: tuple[str, ...]
    required: tuple[str, ...]  # the arrays that can't be left out; they come first
    options: tuple[str, ...]
    variadic: bool  # one `*arrays`, any number of them, which users pass as one sequence
    by_place: int  # how many of the options may be given without their names


@overload
def rule(function: Callable[P, Result], /) -> Callable[P, Result]: ...
@overload
def rule(*, arrays: int) -> Callable[[Callable[P, Result]], Callable[P, Result]]: ...
def rule(function: Callable[..., Result] | None = None, /, *, arrays: int | None = None) -> Callable[..., Any]:
    """Write a rule into the table under its own name, and return it unchanged.

    Raises `ValueError` where the table has another rule of that name, `TypeError` where no parameter is an array.
    """
    if function is None:
        return functools.partial(_register, arrays=arrays)
    return _register(function, arrays=arrays)


def parameters(rule: Callable[..., Result]) -> Parameters:
    """The parameters of a rule."""
    return _PARAMETERS.get(rule) or _read_parameters(rule, None)


def argument(rule: Callable[..., Result], place: int) -> str:
    """What a rule calls the array that it is given at that place."""
    spec = parameters(rule)
    return f"{spec.arrays[0]}[{place}]" if spec.variadic else spec.arrays[place]


def _register(function: Callable[..., Result], *, arrays: int | None) -> Callable[..., Result]:
    name = function.__name__
    known = RULES.get(name)
    if known is not None and (known.__module__, known.__qualname__) != (function.__module__, function.__qualname__):
        raise ValueError(f"rule: there is a rule named {name!r} already, in {known.__module__}; choose another name")
    found = _read_parameters(function, arrays)
    _PARAMETERS[function] = found
    RULES[name] = function
    return function


def _read_parameters(function: Callable[..., Result], n_arrays: int | None) -> Parameters:
    declared = list(inspect.signature(function).parameters.values())
    before_star = [p for p in declared if p.kind is not p.KEYWORD_ONLY]
    arrays = before_star if n_arrays is None else before_star[:n_arrays]
    if not arrays:
        raise TypeError(f"rule: {function.__name__} has no array among its parameters; arrays stand before `*`")
    if any(p.default not in (p.empty, None) for p in arrays):
        raise TypeError(f"rule: {function.__name__} can leave an array out with None only; options stand after `*`")
    variadic = any(p.kind is p.VAR_POSITIONAL for p in arrays)
    return Parameters(
        arrays=tuple(p.name for p in arrays),
        required=tuple(p.name for p in arrays if p.default is p.empty),
        options=tuple(p.name for p in declared[len(arrays) :]),
        variadic=variadic,
        by_place=1 if variadic else len(before_star) - len(arrays),  # np.concatenate(arrays, axis)
    )


def alike(numbers: Any, x: Array) -> Array:
    """Plain numbers as an array that x can be mixed with: NumPy's for a Tensor, another library's for its arrays."""
    if isinstance(x, np.ndarray | np.generic):
        return np.asarray(numbers)
    return numbers if type(numbers) is type(x) else np.asarray(numbers, like=x)


def floats(x: Array) -> Array:
    """Integers and booleans as float64: small integers would wrap around where they're squared or negated."""
    return x if getattr(x, "dtype", _FLOAT64).kind in "fc" else x * 1.0


def numpy_like(name: str) -> Callable[[Callable[P, Array]], Callable[P, Array]]:
    """Make a function speak `__array_function__`, as NumPy's functions do: for a primitive that NumPy doesn't have.

    A first argument that is no NumPy array is asked to handle the call. A Tensor does so with the rule `name`; an array
    of another library declines, and is computed with as NumPy's are.
    """

    def decorate(function: Callable[P, Array]) -> Callable[P, Array]:
        @functools.wraps(function)
        def dispatching(*args: P.args, **kwargs: P.kwargs) -> Array:
            first: Any = args[0]
            if isinstance(first, np.ndarray | np.generic):
                return function(*args, **kwargs)
            answer = first.__array_function__(dispatching, (type(first),), args, kwargs)
            return function(*args, **kwargs) if answer is NotImplemented else answer

        dispatching.__name__ = name
        return dispatching

    return decorate
