"""Floor 1: many cotangents in one walk, for Jacobians.

A rule's backward is linear in the gradient that it's given, and written in NumPy's names. So a stack of gradients that
speaks NumPy's protocols, and hides that it's a stack, takes all of them through the graph at once: `Rows`. What it
doesn't know raises `NotBatched`, and the gradients go one by one.
"""

import math
import string
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple
from numpy.lib.mixins import NDArrayOperatorsMixin

from tinyattn.engine import Node, walk
from tinyattn.rules.registry import Array, Axis, Shape

Numbers = np.ndarray[Any, Any]

AT_ONCE = 2**20  # as many numbers may an array of Rows hold, by and large


class NotBatched(Exception):
    """What was asked of Rows can't be done for all rows at once."""


def pull_back_each(root: Node, target: Node) -> Numbers:
    """The gradient of each number of `root` in `target`: shape (root.size, *target.shape). The graph is kept."""
    shape, size = root._data.shape, root._data.size
    gradients = np.zeros((size, *target._data.shape), target._data.dtype)
    at_once = _how_many(root)
    start = 0
    while start < size:
        n = min(at_once, size - start)
        cotangents = np.eye(n, size, start, root._data.dtype).reshape((n, *shape))
        try:
            found = walk(root, Rows(cotangents) if n > 1 else cotangents[0], [target], retain_graph=True)
        except Exception:
            if n == 1:
                raise
            at_once = 1  # whatever it was, one by one goes without, or tells it better
            continue
        gradient = found.get(target, 0.0)
        gradients[start : start + n] = gradient.stacked if isinstance(gradient, Rows) else gradient
        start += n
    return gradients


def _how_many(root: Node) -> int:
    """How many cotangents go at once: few where arrays are large, and one where a hook is to see every gradient."""
    largest, seen, stack = 1, {root}, [root]
    while stack:
        node = stack.pop()
        if node._hooks:
            return 1
        largest = max(largest, node._data.size)  # no array in a backward is much larger than those of the forward
        for x in node._inputs or ():
            if not isinstance(x, Node):
                largest = max(largest, getattr(x, "size", 1))
            elif x not in seen:
                seen.add(x)
                stack.append(x)
    return max(1, AT_ONCE // largest)


class Rows(NDArrayOperatorsMixin):
    """Arrays of one shape that are computed with as if they were one: `stacked` has a first axis that nobody sees."""

    __slots__ = ("stacked",)

    def __init__(self, stacked: Numbers) -> None:
        self.stacked = stacked

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of each."""
        shape: tuple[int, ...] = self.stacked.shape[1:]
        return shape

    @property
    def ndim(self) -> int:
        """The number of axes of each."""
        return self.stacked.ndim - 1

    @property
    def size(self) -> int:
        """The number of elements of each."""
        return math.prod(self.shape)

    @property
    def dtype(self) -> "np.dtype[Any]":
        """The type of the elements."""
        dtype: np.dtype[Any] = self.stacked.dtype
        return dtype

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> "Rows":
        if method != "__call__" or options or (ufunc.signature and ufunc is not np.matmul):
            raise NotBatched(ufunc.__name__)
        return _matmul(*inputs) if ufunc is np.matmul else Rows(ufunc(*_aligned(*inputs)))

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        name = function.__name__
        if name in ALIKE:  # from like=
            return function(*args, **options)
        if name not in FUNCTIONS:
            raise NotBatched(name)
        return FUNCTIONS[name](*args, **options)

    def __getattr__(self, name: str) -> Any:
        """NumPy's methods are its functions."""
        if name.startswith("__"):
            raise AttributeError(name)
        if name not in FUNCTIONS:
            raise NotBatched(name)
        return partial(FUNCTIONS[name], self)

    def __getitem__(self, key: Any) -> "Rows":
        if _is_basic(key):
            return Rows(self.stacked[_behind(key)])
        return Rows(self.stacked.reshape(len(self.stacked), -1)[:, _positions(key, self.shape)])

    def __bool__(self) -> bool:
        """A choice that a rule makes by its gradient: possible where all rows choose the same."""
        choices = self.stacked.astype(bool)
        if self.ndim or choices.any() != choices.all():
            raise NotBatched("if")
        return bool(choices.all())

    def __setitem__(self, key: Any, value: Any) -> None:
        raise NotBatched("x[...] = ...")

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise NotBatched("asarray")


def _aligned(*operands: Any) -> list[Any]:
    """Arrays that broadcast against each other as the operands do, the hidden axis in front of all the others."""
    ndim = max(getattr(x, "ndim", 0) for x in operands)
    return [
        x.stacked.reshape(len(x.stacked), *(1,) * (ndim - x.ndim), *x.shape) if isinstance(x, Rows) else x
        for x in operands
    ]


def _matmul(x: Array, y: Array) -> Rows:
    if x.ndim == 1:
        return _squeeze(_matmul(np.expand_dims(x, 0), y), -2 if y.ndim > 1 else -1)
    if y.ndim == 1:
        return _squeeze(_matmul(x, np.expand_dims(y, -1)), -1)
    if not isinstance(y, Rows) and y.ndim == 2:  # one matrix for all: one product
        return Rows((x.stacked.reshape(-1, x.shape[-1]) @ y).reshape(*x.stacked.shape[:-1], y.shape[-1]))
    left, right = _aligned(x, y)
    return Rows(left @ right)


# ---------------------------------------------------------------------------------------- NumPy's functions on Rows


def _along(function: Callable[..., Any]) -> Callable[..., Rows]:
    """A function of which all that follows the array are axes; None stands for all of them."""

    def along(x: Rows, *axes: Any, **options: Any) -> Rows:
        axes = axes or (options.pop("axis", None),)
        return Rows(function(x.stacked, *(_shifted(axis, x.ndim) for axis in axes), **options))

    return along


def _shifted(axis: Any, ndim: int) -> Any:
    """Where axes stand, counted behind the hidden one."""
    if isinstance(axis, int):
        return normalize_axis_index(axis, ndim) + 1
    return tuple(a + 1 for a in (range(ndim) if axis is None else normalize_axis_tuple(axis, ndim)))


def _reshape(x: Rows, *shape: Any) -> Rows:
    lengths = shape[0] if len(shape) == 1 else shape
    return Rows(x.stacked.reshape(len(x.stacked), *(lengths if isinstance(lengths, tuple | list) else (lengths,))))


def _transpose(x: Rows, *axes: Any) -> Rows:
    order = (axes[0] if len(axes) == 1 else axes) or range(x.ndim)[::-1]
    return Rows(x.stacked.transpose(0, *_shifted(tuple(order), x.ndim)))


def _squeeze(x: Rows, axis: Axis = None) -> Rows:
    axes = tuple(i for i, n in enumerate(x.shape) if n == 1) if axis is None else axis
    return Rows(x.stacked.squeeze(_shifted(axes, x.ndim)))


def _concatenate(arrays: Sequence[Rows], axis: int = 0) -> Rows:
    if not all(isinstance(x, Rows) for x in arrays):
        raise NotBatched("concatenate")
    return Rows(np.concatenate([x.stacked for x in arrays], axis=_shifted(axis, arrays[0].ndim)))


def _expand_dims(x: Rows, axis: int | tuple[int, ...]) -> Rows:
    axes = axis if isinstance(axis, tuple) else (axis,)
    return Rows(np.expand_dims(x.stacked, _shifted(axes, x.ndim + len(axes))))


def _roll(x: Rows, shift: Any, axis: Axis = None) -> Rows:
    if axis is None:
        return Rows(np.roll(_reshape(x, -1).stacked, shift, 1).reshape(x.stacked.shape))
    return Rows(np.roll(x.stacked, shift, _shifted(axis, x.ndim)))


def _of_matrices(function: Callable[..., Any]) -> Callable[..., Rows]:
    """A function that sees the last two axes, which must not be the hidden one."""

    def of_matrices(x: Rows, *options: Any) -> Rows:
        if x.ndim < 2:
            raise NotBatched(function.__name__)
        return Rows(function(x.stacked, *options))

    return of_matrices


def _broadcast_to(x: Rows, shape: Shape) -> Rows:
    lengths = shape if isinstance(shape, tuple) else (shape,)
    stacked = _reshape(x, (1,) * (len(lengths) - x.ndim) + x.shape).stacked
    return Rows(np.broadcast_to(stacked, (len(stacked), *lengths)))


def _where(condition: Any, x: Any, y: Any) -> Rows:
    return Rows(np.where(*_aligned(condition, x, y)))


def _tensordot(x: Array, y: Array, axes: Any = 2) -> Rows:
    of_x, of_y = (range(-axes, 0), range(axes)) if isinstance(axes, int) else axes
    if not isinstance(y, Rows):
        return Rows(np.tensordot(x.stacked, y, (_shifted(of_x, x.ndim), of_y)))
    hidden = np.ndim(x) - len(of_x)  # stands behind the axes that x keeps
    return Rows(np.moveaxis(np.tensordot(x, y.stacked, (of_x, _shifted(of_y, y.ndim))), hidden, 0))


def _einsum(subscripts: str, *operands: Any, **options: Any) -> Rows:
    terms, arrow, out = subscripts.partition("->")
    if not arrow:
        raise NotBatched("einsum without ->")
    hidden = next(letter for letter in string.ascii_letters if letter not in subscripts)
    inputs = [hidden + t if isinstance(x, Rows) else t for t, x in zip(terms.split(","), operands, strict=True)]
    arrays = [x.stacked if isinstance(x, Rows) else x for x in operands]
    return Rows(np.einsum(f"{','.join(inputs)}->{hidden}{out}", *arrays, **options))


def _scatter(x: Rows, key: Any, shape: tuple[int, ...]) -> Rows:
    """(scatter.1): zeros of `shape`, with x added at the places that `key` selects."""
    n = len(x.stacked)
    total = np.zeros((n, *shape), x.dtype)
    if _is_basic(key):
        total[_behind(key)] = x.stacked
    else:
        size = math.prod(shape)
        places = np.arange(n)[:, None] * size + _positions(key, shape).reshape(-1)
        np.add.at(total.reshape(-1), places.reshape(-1), x.stacked.reshape(-1))
    return Rows(total)


def _is_basic(key: Any) -> bool:
    """Whether a key holds no array: only integers, slices, None and Ellipsis."""
    parts = key if isinstance(key, tuple) else (key,)
    return all(part is None or part is ... or type(part) in (int, slice) for part in parts)


def _behind(key: Any) -> tuple[Any, ...]:
    return (slice(None), *(key if isinstance(key, tuple) else (key,)))


def _positions(key: Any, shape: tuple[int, ...]) -> Numbers:
    """Where what a key selects stands in the flat array; there, no array in the key can move the hidden axis."""
    positions: Numbers = np.arange(math.prod(shape)).reshape(shape)[key]
    return positions


ALIKE = frozenset({"arange", "array", "asarray", "empty", "eye", "full", "ones", "tri", "zeros"})
FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{function.__name__: _along(function) for function in (np.all, np.any, np.max, np.mean, np.min, np.sum)},
    **{function.__name__: _along(function) for function in (np.cumsum, np.flip, np.moveaxis, np.swapaxes)},
    **{function.__name__: _of_matrices(function) for function in (np.tril, np.triu)},
    "astype": lambda x, dtype: Rows(x.stacked.astype(dtype)),
    "broadcast_to": _broadcast_to,
    "concatenate": _concatenate,
    "einsum": _einsum,
    "expand_dims": _expand_dims,
    "reshape": _reshape,
    "roll": _roll,
    "scatter": _scatter,
    "squeeze": _squeeze,
    "tensordot": _tensordot,
    "transpose": _transpose,
    "where": _where,
    "zeros_like": lambda x: np.zeros(x.shape, x.dtype),
}
