"""Floor 1: the Tensor, a node of the graph that looks and behaves like a NumPy array.

Nothing is computed here. Operators, methods and NumPy's own functions (through `__array_ufunc__` and
`__array_function__`) all lead to the rule of the same name.

What a picture of the graph needs stands in three attributes of every Tensor: `_rule`, the plain rule that made it, or
None for a leaf; `_inputs`, the Tensors, arrays and numbers that the rule was given, or None once the graph was
released; `_options`, the rule's keyword options.
"""

import functools
import inspect
import itertools
import math
import operator
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Final, ParamSpec

import numpy as np

from tinyattn import engine
from tinyattn.engine import apply, binary, lift
from tinyattn.nodes import (
    FLOATS,
    NUMBERS,
    SHARED,
    GradientError,
    Node,
    leaf,
    lend,
    next_age,
    notice,
    numbers,
    read_only,
    severed,
    stay_on_tape,
)
from tinyattn.rules import RULES, elementwise, products, reductions, selection, shapes
from tinyattn.rules.checks import check_flag
from tinyattn.rules.registry import Array, Result, parameters

P = ParamSpec("P")

CONSTANT: Final = frozenset(
    """equal not_equal less less_equal greater greater_equal isnan isinf isfinite isclose signbit floor ceil rint
    logical_and logical_or logical_not argmax argmin argsort any all count_nonzero nonzero flatnonzero searchsorted
    shape ndim size zeros_like ones_like full_like empty_like array_equal allclose iscomplexobj isrealobj result_type
    array_repr array_str array2string may_share_memory shares_memory asarray ones zeros full arange tri eye""".split()
)
"""NumPy's functions whose results have no gradient, or zero wherever they have one: they give plain arrays.

(Those that make arrays are asked when a Tensor is their `like=`.)
"""

_LIKE: Final = {
    "absolute": "fabs",
    "concatenate": "append delete hstack insert vstack",
    "cumsum": "cumulative_sum",
    "divide": "reciprocal",
    "dot": "inner vdot",
    "einsum": "trace vecdot",
    "expand_dims": "atleast_1d atleast_2d atleast_3d",
    "log": "log10",
    "matmul": "matvec multi_dot vecmat",
    "max": "fmax nanmax ptp",
    "mean": "average nanmean",
    "min": "fmin nanmin",
    "moveaxis": "rollaxis",
    "norm": "hypot matrix_norm vector_norm",
    "outer": "kron",
    "positive": "copy",
    "power": "float_power",
    "sort": "median partition percentile quantile",
    "split": "array_split unstack",
    "stack": "column_stack dstack",
    "subtract": "diff",
    "sum": "nansum",
    "take": "choose compress",
    "where": "nan_to_num piecewise select",
}
NEAREST: Final = {theirs: ours for ours, names in _LIKE.items() for theirs in names.split()}
"""NumPy's functions without a rule, and the rule that does most of what they do, where spelling doesn't tell."""

AS_USUAL: Final = {"where": True, "casting": "same_kind", "order": "K", "dtype": None, "subok": True}
"""What NumPy's ufuncs do unless told otherwise; telling them just that changes nothing."""

COMPOSED: Final[dict[str, Callable[..., Any]]] = {}
"""NumPy's functions that aren't a rule called as NumPy calls it, and ours that answer them; `functions` fills it."""


def _lift(rule: Callable[P, Result]) -> "Callable[P, Tensor]":
    return lift(rule)


_lifted = functools.cache(lift)


def _operator(rule: engine.Rule) -> "tuple[Callable[[Tensor, Any], Tensor], Callable[[Tensor, Any], Tensor]]":
    """A binary operator, and the one for when the Tensor stands on the right."""

    def reflected(self: "Tensor", other: Any) -> "Tensor":
        result: Tensor = apply(rule, (other, self))
        return result

    return binary(rule), reflected


def _comparison(compare: Callable[[Any, Any], Any]) -> "Callable[[Tensor, Any], np.ndarray[Any, Any]]":
    """A comparison: booleans, which have no gradient, in a plain array."""

    def comparison(self: "Tensor", other: Any) -> "np.ndarray[Any, Any]":
        stay_on_tape(f"a comparison ({compare.__name__})")
        given = other._data if isinstance(other, Node) else other
        try:
            result: np.ndarray[Any, Any] = compare(self._data, given)
        except (TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            got = f"shape {given.shape}" if hasattr(given, "shape") else type(given).__name__
            raise kind(f"{compare.__name__}: a tensor of shape {self.shape} can't be compared with {got}") from error
        return result

    return comparison


_reshape, _transpose, _index = _lift(shapes.reshape), _lift(shapes.transpose), _lift(selection.index)
_astype, _where = _lift(elementwise.astype), _lift(elementwise.where)
_scatter, _broadcast_to = _lift(selection.scatter), _lift(shapes.broadcast_to)


class Tensor(Node):
    """An array that remembers how it was made, so that gradients can be pulled back through it.

    `Tensor(data)` shares memory with an array; `tinyattn.tensor(data)` copies, and is what you want. It has NumPy's
    operators, indexing and methods; with numbers, arrays and Tensors on either side the result is a Tensor.
    Comparisons give plain boolean arrays. `t += 1` makes a new Tensor; `t[i] = v` makes t one in which v stands at i.

    Nobody can write into what the graph remembers: `.numpy()` is read-only, and so is the `.data` of results. That of a
    leaf may be written, by an optimiser say; what was computed before then refuses to go back through it.

    >>> x = Tensor([1.0, 2.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad
    tensor([2., 4.])
    """

    __slots__ = ()

    def __init__(self, data: Any, *, requires_grad: bool = False, dtype: Any = None, name: str | None = None) -> None:
        """Wrap an array without copying it; see `tinyattn.tensor`."""
        array = _array(data, dtype)
        if requires_grad:
            _check_float(array, requires_grad)
        super().__init__(array, requires_grad, name)
        self._lent = SHARED

    # ------------------------------------------------------------------------------------------------ what it is

    @property
    def data(self) -> "np.ndarray[Any, Any]":
        """The numbers, as an array that shares memory with the Tensor. A leaf's may be written; see `numpy`, too.

        Whoever goes back through what was computed from a leaf before it was written gets a `GradientError`. Setting
        takes a copy, of the same shape and dtype (`ValueError`), and is for leaves only (`GradientError`).
        """
        stay_on_tape(".data")
        array: np.ndarray[Any, Any] = lend(self) if self._rule is None else read_only(self._data)
        return array

    @data.setter
    def data(self, value: Any) -> None:
        if self._rule is not None:
            raise GradientError(f"data: only a leaf's can be set; this tensor was made by {self._rule.__name__}")
        array = _array(value, self.dtype)
        if array.shape != self.shape:
            raise ValueError(f"data: a tensor keeps its shape, {self.shape}; got {array.shape}")
        if array is not self._data:  # as it is after `t.data -= ...`
            self._data, self._lent = array.copy(), None
        self._age = next_age()

    @property
    def requires_grad(self) -> bool:
        """Whether gradients are pulled back to this Tensor. Can be set on leaves."""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if self._rule is not None:
            raise GradientError("requires_grad: only a leaf's can be set; detach() gives one that requires none")
        if value:
            _check_float(self._data, value)
        self._requires_grad = bool(value)

    @property
    def grad(self) -> "Tensor | None":
        """The gradient that `backward` has added up here; None where it hasn't. It can be set, and forgotten by None.

        Raises `TypeError` for what isn't a Tensor, `ValueError` for one of another shape.
        """
        found = self._grad
        if found is not None and not isinstance(found, Node):  # a Tensor is made of it when somebody looks
            found = self._grad = leaf(Tensor, found)
        gradient: Tensor | None = found
        return gradient

    @grad.setter
    def grad(self, value: "Tensor | None") -> None:
        if value is not None:
            if not isinstance(value, Tensor):
                raise TypeError(f"grad: must be a Tensor, or None; got {type(value).__name__}")
            if value.shape != self.shape:
                raise ValueError(f"grad: must have the tensor's shape, {self.shape}; got {value.shape}")
        self._grad = value

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of each axis."""
        shape: tuple[int, ...] = self._data.shape
        return shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        ndim: int = self._data.ndim
        return ndim

    @property
    def size(self) -> int:
        """The number of elements."""
        size: int = self._data.size
        return size

    @property
    def dtype(self) -> "np.dtype[Any]":
        """The type of the elements."""
        dtype: np.dtype[Any] = self._data.dtype
        return dtype

    # ------------------------------------------------------------------------------------------------ gradients

    def backward(self, gradient: Any = None, *, retain_graph: bool = False, create_graph: bool = False) -> None:
        """Add the gradient of this Tensor to the `.grad` of every leaf that it was made of and that requires one.

        `gradient` is that of some loss in this Tensor, of its shape; a Tensor of one element may leave it out, and
        starts from 1. The graph is released on the way: a second backward through it raises `GradientError`, unless the
        first had `retain_graph`. With `create_graph` the gradients have graphs themselves, and can be differentiated
        further (they then hold on to the leaf whose `.grad` they are; `tinyattn.grad` makes no such cycle).

        Raises `GradientError` where no gradient can be had, `ValueError` for one of another shape. Whatever is raised,
        also by a rule on the way, no `.grad` has changed; but the graph may be used up.
        """
        check_flag("backward", "retain_graph", retain_graph)
        check_flag("backward", "create_graph", create_graph)
        engine.backward(self, gradient, retain_graph=retain_graph, create_graph=create_graph)

    def retain_grad(self) -> None:
        """Keep the gradient of this result in its `.grad` when `backward` passes it, as if it were a leaf.

        >>> x = Tensor([3.0], requires_grad=True)
        >>> y = x * x
        >>> y.retain_grad()
        >>> (y * 5.0).sum().backward()
        >>> y.grad, x.grad
        (tensor([5.]), tensor([30.]))
        """
        self._needs_grad("retain_grad")
        if self._rule is not None and engine.retain not in (self._hooks or ()):
            engine.hooked(self, engine.retain)

    def register_hook(self, hook: "Callable[[Tensor], Any]") -> Callable[[], None]:
        """Let `hook` see the gradient of this Tensor, once complete, on the way back; it may give another in its place.

        It is called with a Tensor; what it returns, unless None, is passed on, and must have the Tensor's shape
        (`GradientError`). Hooks are called in the order in which they came. Returns a function that removes the hook
        (PyTorch: a handle with `.remove()`, which stands here as an attribute, too).

        >>> x = Tensor([3.0], requires_grad=True)
        >>> remove = x.register_hook(lambda gradient: gradient * 10.0)
        >>> (x * x).sum().backward()
        >>> x.grad
        tensor([60.])
        """
        self._needs_grad("register_hook")
        if not callable(hook):
            raise TypeError(f"register_hook: needs a function of the gradient; got {type(hook).__name__}")
        return engine.hooked(self, hook)

    def _needs_grad(self, name: str) -> None:
        if not self._requires_grad:
            raise GradientError(f"{name}: this tensor doesn't require a gradient, and will get none")

    def zero_grad(self) -> None:
        """Forget the gradient; `.grad` becomes None."""
        self._grad = None

    def detach(self) -> "Tensor":
        """The same numbers, in the same memory, as a leaf that requires no gradient."""
        detached = severed(Tensor, read_only(self._data), "detach", "detach", (self,))
        detached.name = self.name
        if self._rule is None:  # what is written into a leaf shows here, too
            detached._lent = SHARED
        return detached

    # ------------------------------------------------------------------------------------------------ out of the graph

    def numpy(self) -> "np.ndarray[Any, Any]":
        """The numbers as an array that can only be read, in the same memory; what happens to it is not recorded.

        `.copy()` of it can be written into, and `.data` of a leaf.
        """
        stay_on_tape(".numpy()")
        array: np.ndarray[Any, Any] = np.asarray(read_only(self._data))  # other libraries say how they're converted
        return array

    def item(self) -> float | int | bool:
        """The one number that the Tensor holds, as a Python number. Raises `ValueError` where it holds several.

        So does `float(t)`, which is also what NumPy calls for `array[0] = t`: neither is recorded.
        """
        number: float | int | bool = self._one_number("item")
        return number

    def tolist(self) -> Any:
        """The numbers as nested lists."""
        stay_on_tape(".tolist()")
        return self._data.tolist()

    def __float__(self) -> float:
        return float(self._one_number("float"))

    def __int__(self) -> int:
        return int(self._one_number("int"))

    def __bool__(self) -> bool:
        return bool(self._one_number("bool"))

    def _one_number(self, name: str) -> Any:
        stay_on_tape(f"{name}()")
        if self.size != 1:
            hint = " Use .any() or .all() of its .numpy()" if name == "bool" else " Use .tolist() for several"
            raise ValueError(f"{name}: needs a tensor of one number; got shape {self.shape}.{hint}")
        return self._data.item()

    def __reduce__(self) -> Any:
        """For copies and pickles, which are leaves: they have no part in the graph, and an age of their own."""
        if self._rule is not None:
            raise GradientError(
                f"a tensor that a rule made, here {self._rule.__name__}, can't be copied or pickled with its graph;"
                " do it to .detach()"
            )
        return _restored, (self.numpy(), self._requires_grad, self.name, self.grad)

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("a tensor of no axes has no length")
        return self.shape[0]

    def __iter__(self) -> "Iterator[Tensor]":
        if not self.ndim:
            raise TypeError("a tensor of no axes can't be iterated over")
        return (self[i] for i in range(self.shape[0]))

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else repr(self)

    def __repr__(self) -> str:
        ours = isinstance(self._data, np.ndarray | np.generic)
        parts = [np.array2string(self.numpy(), separator=", ", prefix="tensor(") if ours else repr(self._data)]
        if self.dtype not in (np.float64, np.int64, np.bool_):
            parts.append(f"dtype={self.dtype}")
        if self.name is not None:
            parts.append(f"name={self.name!r}")
        if self._rule is not None:
            parts.append(f"rule={self._rule.__name__}")
        elif self._requires_grad:
            parts.append("requires_grad=True")
        return f"tensor({', '.join(parts)})"

    # ------------------------------------------------------------------------------------------------ operators

    __hash__ = object.__hash__  # a Tensor is itself, whatever it equals

    __add__, __radd__ = _operator(elementwise.add)
    __sub__, __rsub__ = _operator(elementwise.subtract)
    __mul__, __rmul__ = _operator(elementwise.multiply)
    __truediv__, __rtruediv__ = _operator(elementwise.divide)
    __pow__, __rpow__ = _operator(elementwise.power)
    __matmul__, __rmatmul__ = _operator(products.matmul)
    __neg__ = _lift(elementwise.negative)
    __pos__ = _lift(elementwise.positive)
    __abs__ = _lift(elementwise.absolute)

    __eq__ = _comparison(operator.eq)  # type: ignore[assignment]
    __ne__ = _comparison(operator.ne)  # type: ignore[assignment]
    __lt__ = _comparison(operator.lt)
    __le__ = _comparison(operator.le)
    __gt__ = _comparison(operator.gt)
    __ge__ = _comparison(operator.ge)

    # ------------------------------------------------------------------------------------------------ methods

    sum = _lift(reductions.sum)
    mean = _lift(reductions.mean)
    var = _lift(reductions.var)
    std = _lift(reductions.std)
    prod = _lift(reductions.prod)
    max = _lift(reductions.max)
    min = _lift(reductions.min)
    cumsum = _lift(reductions.cumsum)
    clip = _lift(elementwise.clip)
    dot = _lift(products.dot)
    take = _lift(selection.take)
    repeat = _lift(selection.repeat)
    diagonal = _lift(selection.diagonal)
    ravel = _lift(shapes.ravel)
    swapaxes = _lift(shapes.swapaxes)
    squeeze = _lift(shapes.squeeze)
    astype = _lift(elementwise.astype)

    def argmax(self, axis: int | None = None) -> Any:
        """Where the largest number stands, as a plain array of integers."""
        return self._where_it_is(np.argmax, axis)

    def argmin(self, axis: int | None = None) -> Any:
        """Where the smallest number stands, as a plain array of integers."""
        return self._where_it_is(np.argmin, axis)

    def _where_it_is(self, find: Callable[..., Any], axis: int | None) -> Any:
        stay_on_tape(find.__name__)
        try:
            return find(self._data, axis)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{find.__name__}: {error}; got shape {self.shape} and axis {axis!r}") from None

    def reshape(self, *shape: Any) -> "Tensor":
        """The same numbers in another shape: `x.reshape(2, 3)` or `x.reshape((2, 3))`."""
        return _reshape(self, shape[0] if len(shape) == 1 else shape)

    def transpose(self, *axes: Any) -> "Tensor":
        """The axes in another order: `x.transpose(1, 0)`, `x.transpose((1, 0))`; reversed, if none is given."""
        return _transpose(self, axes[0] if len(axes) == 1 else axes or None)

    @property
    def T(self) -> "Tensor":
        """The axes reversed."""
        return _transpose(self)

    def __getitem__(self, key: Any) -> "Tensor":
        """The elements that a key selects, as in NumPy; the gradient goes back to the places they came from."""
        return _index(self, key=_plain_key(key))

    def __setitem__(self, key: Any, value: Any) -> None:
        """Make this Tensor one in which the value stands at the places that a key selects, and differentiate that.

        What was computed from it before has the gradients of before. Nothing is overwritten: each assignment copies the
        array. Raises `GradientError` for a leaf that requires a gradient, and would be a leaf no longer; `ValueError`
        for a key that names a place twice.
        """
        if self._rule is None and self._requires_grad:
            raise GradientError(
                "t[...] = v: t is a leaf that requires a gradient, and would be one no longer. Choose with"
                " tinyattn.where, or write into t.data, which is not recorded"
            )
        before = leaf(Tensor, None)
        before._become(self)
        assigned = _assigned(before, _plain_key(key), value)
        before._hooks, self._hooks = self._hooks, None
        for user in _users(self, value):
            engine.replace_input(user, self, before)
        self._become(assigned)
        self._earlier = weakref.ref(before)

    def _become(self, other: "Tensor") -> None:
        """Take over what another Tensor is, and how it was made; not its name."""
        for slot in Node.__slots__:
            if slot not in ("__weakref__", "_hooks", "name", "_grad") and hasattr(other, slot):
                setattr(self, slot, getattr(other, slot))

    # ------------------------------------------------------------------------------------------------ NumPy's protocols

    @property
    def _mask(self) -> Any:
        """What masked arrays ask for before they compute with the numbers, off the graph."""
        raise TypeError("a masked array can't be combined with a tensor. Fill it, with .filled(0) say")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> "np.ndarray[Any, Any]":
        stay_on_tape("an array of NumPy")
        if self._requires_grad:
            raise TypeError(
                "a tensor that requires a gradient isn't turned into an array silently, which would cut it off its"
                " graph. Use .numpy(); to join tensors, tinyattn.stack or tinyattn.concatenate"
            )
        return np.array(self._data if copy else self.numpy(), dtype=dtype, copy=copy)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **given: Any) -> Any:
        given = {name: x for name, x in given.items() if name not in AS_USUAL or not _is_default(x, AS_USUAL[name])}
        if method != "__call__" or given:
            used = f".{method}" if method != "__call__" else "(..., " + ", ".join(f"{name}=" for name in given) + ")"
            raise TypeError(f"np.{ufunc.__name__}{used} can't be recorded; np.{ufunc.__name__}(...) can")
        return _dispatch(ufunc.__name__, ufunc, inputs, given)

    def __array_function__(self, function: Any, types: Any, args: Any, given: Any) -> Any:
        return _dispatch(function.__name__, function, args, given)


def tensor(data: Any, *, requires_grad: bool = False, dtype: Any = None, name: str | None = None) -> Tensor:
    """A Tensor with a copy of the data: numbers, nested lists, an array, another Tensor.

    Gradients need float32 or float64 (`TypeError` otherwise). As in NumPy, and not as in PyTorch, Python's floats make
    float64. Raises `TypeError` for what isn't made of numbers, and for masked arrays; `np.matrix` becomes an array.

    >>> tensor([[1, 2], [3, 4]], dtype=float, name="scores")
    tensor([[1., 2.],
            [3., 4.]], name='scores')
    """
    array = _array(data, dtype).copy()
    if requires_grad:
        _check_float(array, requires_grad)
    if not isinstance(name, str | None):
        raise TypeError(f"tensor: name must be a string; got {name!r}")
    number_or_array = array if array.ndim else array[()]  # NumPy's scalars are faster than arrays of no axes
    return leaf(Tensor, number_or_array, requires_grad, name)


def _restored(data: Array, requires_grad: bool, name: str | None, grad: Tensor | None) -> Tensor:
    copied = tensor(data, requires_grad=requires_grad, name=name)
    copied._grad = grad
    return copied


def _array(data: Any, dtype: Any) -> Any:
    given = data._data if isinstance(data, Node) else data
    array = numbers(given, "tensor: data")
    if dtype is None:
        return array
    try:
        kind = np.dtype(dtype)
    except TypeError:
        raise TypeError(f"tensor: there is no dtype {dtype!r}") from None
    if kind.kind not in NUMBERS or (array.dtype.kind == "c" != kind.kind):
        raise TypeError(f"tensor: data of dtype {array.dtype} can't be of dtype {kind}")
    return np.asarray(given, kind) if isinstance(array, np.ndarray) else array.astype(kind)


def _check_float(array: Array, requires_grad: bool) -> None:
    check_flag("tensor", "requires_grad", requires_grad)
    if array.dtype not in FLOATS:
        raise TypeError(f"requires_grad: gradients need float32 or float64; got {array.dtype}. Is dtype=float missing?")


def _users(x: Tensor, result: Any) -> "Iterator[Node]":
    """The nodes that use x, among those from which a result was made."""
    stack = [result] if isinstance(result, Node) and result._age > x._age else []
    seen = set(stack)
    while stack:
        node = stack.pop()
        parents = {y for y in node._parents or () if y is not None}
        if x in parents:
            yield node
        fresh = {y for y in parents if y._age > x._age} - seen
        seen |= fresh
        stack += fresh


def _assigned(x: Tensor, key: Any, value: Any) -> Tensor:
    """x with the value at the places that a key selects."""
    given = value if isinstance(value, Tensor) else numbers(value, "t[...] = v: v")
    if given.dtype.kind == "c" != x.dtype.kind:
        raise TypeError(f"t[...] = v: v is complex, and t of dtype {x.dtype}")
    chosen = np.zeros(x.shape, bool)
    try:
        chosen[key] = True
    except IndexError as error:
        raise IndexError(f"t[...] = v: {error}; t has shape {x.shape}") from None
    shape = chosen[key].shape
    if np.count_nonzero(chosen) != math.prod(shape):
        raise ValueError(f"t[...] = v: the key names a place of t, of shape {x.shape}, twice; say which value it gets")
    lead = given.shape[: max(given.ndim - len(shape), 0)]  # as NumPy has it, axes of length 1 may stand before
    own = given.shape[len(lead) :]
    if set(lead) - {1} or any(n not in (1, m) for n, m in zip(own[::-1], shape[::-1], strict=False)):
        raise ValueError(f"t[...] = v: v must broadcast to the places that the key selects, {shape}; got {given.shape}")
    values = _astype(given, x.dtype).reshape(own)
    return _where(chosen, _scatter(_broadcast_to(values, shape), key=key, shape=x.shape), x)


OF_SHAPES: Final = frozenset("shape ndim size zeros_like ones_like full_like empty_like result_type".split())
"""Those that don't look at the numbers."""


def _plain_key(key: Any) -> Any:
    """An index without Tensors and lists in it."""
    if isinstance(key, tuple):
        return tuple(_plain_key(k) for k in key)
    if isinstance(key, Node):
        return notice(key)
    if isinstance(key, list):
        return np.asarray(key) if np.size(key) else np.zeros(np.shape(key), int)  # [] would be floating
    if hasattr(key, "filled"):
        raise TypeError("index: a key can't be a masked array. Fill it, with .filled(0) say")
    return key


# -------------------------------------------------------------------------------------------------- NumPy's functions


def _dispatch(name: str, function: Callable[..., Any], args: tuple[Any, ...], given: dict[str, Any]) -> Any:
    """Answer NumPy's function with the rule of its name."""
    if getattr(function, "__module__", None) == "numpy.linalg" and name != "norm":
        name = f"linalg.{name}"  # not always the same: np.linalg.diagonal is along the last two axes
    if name in COMPOSED:
        return COMPOSED[name](*args, **given)
    rule = RULES.get(name)
    if rule is not None:
        args, given = _as_declared(function, rule, args, given)
        return _lifted(rule)(*args, **given)
    if name in CONSTANT:
        if name not in OF_SHAPES:
            stay_on_tape(f"np.{name}")
        return function(*_plain(args), **{key: _plain(value) for key, value in given.items()})
    near = _nearest(function.__name__)
    raise TypeError(
        f"np.{name} has no rule, so that no gradient could go through it."
        + (f" The nearest there is: {near}." if near else "")
        + " Use .numpy() where no gradient is needed, or write a rule with tinyattn.rule"
    )


_signature = functools.cache(inspect.signature)


def _as_declared(
    function: Callable[..., Any], rule: engine.Rule, args: tuple[Any, ...], given: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A call of NumPy's function as a call of the rule: NumPy's signature says which argument is what.

    The first are the rule's arrays, whatever NumPy calls them; what is given as NumPy has it by default is left out,
    unless the rule knows it, too.
    """
    spec = parameters(rule)
    n_arrays = 1 if spec.variadic else len(spec.arrays)
    if len(args) <= n_arrays and all(name in spec.options for name in given):
        return args, given
    try:
        bound = _signature(function).bind(*args, **given)
    except ValueError:  # NumPy doesn't tell
        return args, given
    except TypeError as error:
        raise TypeError(f"np.{function.__name__}: {error}") from None
    declared = list(bound.signature.parameters.values())
    of_rule = {p.name: array for p, array in zip(declared, spec.arrays, strict=False)}
    taken: dict[str, Any] = {}
    for p in declared:
        if p.name not in bound.arguments:
            continue
        x = bound.arguments[p.name]
        if p.kind is p.VAR_KEYWORD:
            taken |= x
        elif p.name in of_rule or p.name in spec.arrays + spec.options or not _is_default(x, p.default):
            taken[of_rule.get(p.name, p.name)] = x
    return tuple(taken.pop(name) for name in itertools.takewhile(taken.__contains__, spec.arrays[:n_arrays])), taken


def _is_default(x: Any, default: Any) -> bool:
    return x is default or (isinstance(x, str | int | None) and x == default)


def _nearest(name: str) -> str | None:
    """The rule that does most of what a function of NumPy's does, or one that is spelled like it."""
    import difflib

    close = difflib.get_close_matches(name, RULES | COMPOSED, n=1, cutoff=0.7)
    return NEAREST.get(name, close[0] if close else None)


def _plain(x: Any) -> Any:
    """x with arrays where Tensors were, also within lists and tuples."""
    if isinstance(x, Node):
        return x._data
    return type(x)(map(_plain, x)) if isinstance(x, list | tuple) else x
