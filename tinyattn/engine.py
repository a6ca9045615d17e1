"""Floor 1: the engine. It knows graphs, and no mathematics: that is in the rules.

How does it know a gradient? Forward, `apply` runs a rule and keeps what came out: a node remembers its rule, what went
in, and the rule's `backward`. Backward, `walk` takes the nodes youngest first, so that all that used a node has been
seen before it; it sums what they sent, and passes on what the node's `backward` makes of the sum. For gradients that
have gradients themselves, it calls the rule again, on Tensors, and gets a `backward` made of Tensors.
"""

import functools
import itertools
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from operator import attrgetter
from typing import Any, TypeAlias, TypeVar

import numpy as np

from tinyattn.rules.registry import Array, Backward, Parameters, Result, parameters

N = TypeVar("N", bound="Node")
Rule: TypeAlias = Callable[..., Result]
Options: TypeAlias = dict[str, Any]

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
NO_OPTIONS: Options = {}

_recording: ContextVar[bool] = ContextVar("recording", default=True)
_next_age = itertools.count().__next__
_float64 = np.float64
_NUMBERS = frozenset({float, int, bool, np.float64, np.float32, type(None)})  # need no second look


class GradientError(RuntimeError):
    """What autograd itself can't do: a graph released before, a root without a gradient, a rule that broke its word."""


class Node:
    """A value, and how it was made. (`Tensor` dresses it as an array.)

    `_rule` is the plain rule that made it, None for a leaf. `_inputs` is what the rule was given, Tensors, arrays and
    numbers, in order; None once the graph was released. `_options` are the rule's options. A node is younger than its
    inputs: `_age` grows with every node that is made.
    """

    __slots__ = (
        "__weakref__",
        "_age",
        "_backward",
        "_data",
        "_inputs",
        "_options",
        "_requires_grad",
        "_rule",
        "grad",
        "name",
    )
    _age: int
    _backward: Any  # a Backward; None for a leaf and once the graph was released
    _data: "np.ndarray[Any, Any] | np.generic"  # a scalar is what NumPy gives for results of no axes
    _inputs: tuple[Any, ...] | None
    _options: Options
    _requires_grad: bool
    _rule: Rule | None
    grad: Any
    name: str | None

    def __init__(self, data: Array, requires_grad: bool = False, name: str | None = None) -> None:
        """A leaf: a node that no rule made."""
        self._data = data
        self._requires_grad = requires_grad
        self._rule = self._backward = self.grad = None
        self._inputs = ()
        self._options = NO_OPTIONS
        self._age = _next_age()
        self.name = name


def leaf(kind: type[N], data: Array, requires_grad: bool = False, name: str | None = None) -> N:
    """A leaf of that kind of node, whose data is known to be fine."""
    node = object.__new__(kind)
    Node.__init__(node, data, requires_grad, name)
    return node


# ---------------------------------------------------------------------------------------------------- forward


def apply(rule: Rule, inputs: tuple[Any, ...], options: Options = NO_OPTIONS) -> Any:
    """Run a rule on its inputs, at least one of them a node, and make a node of what comes out."""
    differentiable = False
    arrays = []
    for x in inputs:
        if isinstance(x, Node):
            kind = type(x)
            arrays.append(x._data)
            if x._requires_grad:
                differentiable = True
        else:
            arrays.append(x if type(x) in _NUMBERS else operand(x, rule, len(arrays)))
    try:
        result = rule(*arrays, **options)
    except Exception as error:
        _tell(error, rule, arrays)
        raise
    if type(result) is not tuple or len(result) != 2:
        raise _no_backward(rule, result)
    output, backward = result
    if not (differentiable and _recording.get() and (output.dtype in FLOATS or _can_require_grad(output, rule))):
        return leaf(kind, output)
    node = object.__new__(kind)
    node._data = output
    node._requires_grad = True
    node._rule = rule
    node._inputs = inputs
    node._options = options
    node._backward = backward
    node._age = _next_age()
    node.grad = node.name = None
    return node


def lift(rule: Rule) -> Callable[..., Any]:
    """The function that users call: a rule that takes Tensors, arrays, lists and numbers, mixed at will.

    It gives a Tensor where any input is one, and a plain array otherwise. The rule itself is its `__wrapped__`.
    """
    spec = parameters(rule)
    n_arrays = -1 if spec.variadic else len(spec.arrays)

    @functools.wraps(rule)
    def function(*args: Any, **given: Any) -> Any:
        if len(args) != n_arrays:
            args, given = _bind(rule.__name__, spec, args, given)
        if given:
            given = {name: _option(rule, name, x) if isinstance(x, Node) else x for name, x in given.items()}
        for x in args:
            if isinstance(x, Node):
                return apply(rule, args, given)
        arrays = [x if x is None else operand(x, rule, i) for i, x in enumerate(args)]
        try:
            result = rule(*arrays, **given)
        except Exception as error:
            _tell(error, rule, arrays)
            raise
        if type(result) is not tuple or len(result) != 2:
            raise _no_backward(rule, result)
        return result[0]

    return function


def _bind(name: str, spec: Parameters, args: tuple[Any, ...], given: Options) -> tuple[tuple[Any, ...], Options]:
    """The arrays in their places, and the options that were given by position under their names."""
    names = spec.arrays + spec.options
    if len(args) > len(names):
        raise TypeError(f"{name}: takes {len(names)} arguments at most; got {len(args)}")
    by_position = dict(zip(names, args, strict=False))
    for twice in by_position.keys() & given.keys():
        raise TypeError(f"{name}: got {twice!r} twice")
    given = by_position | given
    for array in spec.required:
        if array not in given:
            raise TypeError(f"{name}: {array!r} is missing")
    arrays = tuple(given.pop(array, None) for array in spec.arrays)
    return (tuple(arrays[0]) if spec.variadic else arrays), given


def _option(rule: Rule, name: str, x: Node) -> Array:
    if x._requires_grad:
        raise TypeError(f"{rule.__name__}: {name} is an option, and has no gradient; pass {name}.detach()")
    return x._data


def operand(x: Any, rule: Rule, place: int) -> Any:
    """What a rule is given for `x`: arrays as they are, numbers and lists as arrays; anything else is a `TypeError`."""
    array = x if isinstance(x, np.ndarray | np.generic) else np.asarray(x)
    if array.dtype.kind not in "fiubc":
        name, kind = _name(rule, place), type(x).__name__
        raise TypeError(f"{rule.__name__}: {name} needs numbers; got {kind} of dtype {array.dtype}")
    return array


def _name(rule: Rule, place: int) -> str:
    """What the rule calls the array that it is given at that place."""
    spec = parameters(rule)
    return f"{spec.arrays[0]}[{place}]" if spec.variadic else spec.arrays[place]


def _no_backward(rule: Rule, result: Any) -> TypeError:
    got = f"a tuple of {len(result)}" if isinstance(result, tuple) else type(result).__name__
    return TypeError(
        f"{rule.__name__}: a rule must return (output, backward), where backward turns the gradient of the output into"
        f" a tuple of gradients, one for each array; got {got}"
    )


def _can_require_grad(output: Array, rule: Rule) -> bool:
    if output.dtype in FLOATS:
        return True
    if output.dtype.kind in "biu":  # counts and choices are constant wherever they have a derivative
        return False
    raise TypeError(f"{rule.__name__}: gradients need float32 or float64; the output is {output.dtype}")


def _tell(error: Exception, rule: Rule, arrays: Sequence[Any]) -> None:
    """Note on the error what was being computed, and from what; say it better, where NumPy's words don't help."""
    if isinstance(error, AttributeError | TypeError):
        for place, x in enumerate(arrays[: len(parameters(rule).required)]):
            if x is None:
                raise TypeError(f"{rule.__name__}: {_name(rule, place)} needs an array; got None") from error
    if isinstance(error, np.exceptions.AxisError) and error.axis is not None:
        shapes = ", ".join(str(x.shape) for x in arrays if hasattr(x, "shape"))
        told = f"{rule.__name__}: there is no axis {error.axis}, counted from 0 or back from -1; got shape {shapes}"
        raise np.exceptions.AxisError(told) from None
    numbers = [x for x in arrays if type(x) in (int, float, bool)]
    if numbers and isinstance(error, AttributeError):
        raise TypeError(f"{rule.__name__}: needs arrays; got the number {numbers[0]}") from error
    given = (f"{x.dtype} {x.shape}" if hasattr(x, "shape") else repr(x) for x in arrays)
    error.add_note(f"in {rule.__name__}({', '.join(given)})")


@contextmanager
def recording(on: bool) -> Iterator[None]:
    """Whether what is done inside is recorded, for this thread alone."""
    token = _recording.set(on)
    try:
        yield
    finally:
        _recording.reset(token)


def is_recording() -> bool:
    """Whether operations are recorded here and now."""
    return _recording.get()


@contextmanager
def no_grad() -> Iterator[None]:
    """Nothing done inside is recorded, so that no result requires a gradient. Also a decorator, `@no_grad()`.

    >>> import tinyattn as ta
    >>> x = ta.tensor(2.0, requires_grad=True)
    >>> with ta.no_grad():
    ...     (x * x).requires_grad
    False
    """
    with recording(False):
        yield


# ---------------------------------------------------------------------------------------------------- backward


def backward(root: Node, gradient: Any = None, *, retain_graph: bool = False, create_graph: bool = False) -> None:
    """Add the gradient of `root` to the `.grad` of every leaf that requires one; see `Tensor.backward`."""
    cotangent = seed(root, gradient)
    if create_graph and not isinstance(cotangent, Node):
        cotangent = leaf(type(root), cotangent)
    found = walk(root, cotangent, retain_graph=retain_graph or create_graph, create_graph=create_graph)
    taken = {id(cotangent)}
    fresh = {node: g if isinstance(g, Node) else leaf(type(root), _own(g, taken)) for node, g in found.items()}
    totals = {node: g if node.grad is None else node.grad + g for node, g in fresh.items()}
    for node, total in totals.items():  # nothing is written before everything is known
        node.grad = total


def seed(root: Node, gradient: Any) -> Array:
    """The gradient that a walk starts from, of the root's shape and dtype; 1 for a root of one element."""
    if not root._requires_grad:
        raise GradientError(
            "backward: this tensor doesn't require a gradient. Nothing that it was made of has requires_grad=True,"
            " or it was made under no_grad, or detached"
        )
    data = root._data
    if gradient is None:
        if data.size != 1:
            raise GradientError(
                f"backward: a tensor of shape {data.shape} needs a gradient of that shape to start from; only a single"
                " number starts from 1. Reduce it first, with .sum() say, or pass gradient="
            )
        return np.ones(data.shape, data.dtype)[()]
    if not isinstance(gradient, Node):
        gradient = np.asarray(gradient)
    if gradient.dtype.kind not in "fiub":
        raise TypeError(f"backward: gradient needs real numbers, of dtype {data.dtype}; got {gradient.dtype}")
    if gradient.shape != data.shape:
        raise ValueError(f"backward: gradient must have the tensor's shape; got {gradient.shape} for {data.shape}")
    return gradient if gradient.dtype == data.dtype else gradient.astype(data.dtype)


def walk(
    root: Node,
    cotangent: Array,
    targets: Collection[Node] = (),
    *,
    retain_graph: bool = False,
    create_graph: bool = False,
) -> dict[Node, Array]:
    """The gradient of Σ root · cotangent in each target that it depends on; in each leaf, if there are no targets.

    Each node lets go of what it saved as soon as it has been passed, unless `retain_graph`. With `create_graph` the
    cotangent is a Tensor, and so are the gradients.
    """
    wanted = frozenset(targets)
    oldest = min((target._age for target in targets), default=-1)  # what is older can't depend on a target
    order = _youngest_last(root, oldest)
    sums = {root: cotangent}  # node → the sum of what its users sent, complete when its turn comes
    found: dict[Node, Array] = {}
    with recording(create_graph):
        while order:
            node = order.pop()
            d_output = sums.pop(node, None)
            if node in wanted or node._rule is None:
                if d_output is not None and (node in wanted or not wanted):
                    found[node] = d_output
                continue
            if d_output is not None:
                gradients = (_backward_of_tensors(node) if create_graph else node._backward)(d_output)
                inputs = node._inputs
                assert inputs is not None
                if type(gradients) is not tuple or len(gradients) != len(inputs):
                    raise _broken_word(node._rule, inputs, gradients)
                for x, gradient in zip(inputs, gradients, strict=False):  # strict costs, and was checked
                    if gradient is not None and isinstance(x, Node) and x._requires_grad and x._age >= oldest:
                        if not type(gradient) is type(x._data) is _float64:
                            gradient = _fit(gradient, x, node)
                        known = sums.get(x)
                        sums[x] = gradient if known is None else known + gradient  # not +=: rules may share arrays
            if not retain_graph:
                node._backward = node._inputs = None
    return found


def _youngest_last(root: Node, oldest: int) -> list[Node]:
    """What the root was made of and may have a gradient, in the order of birth; nothing that is older than `oldest`."""
    seen = {root} if root._age >= oldest else set()
    stack = list(seen)
    while stack:
        node = stack.pop()
        if node._inputs is None:
            assert node._rule is not None
            raise GradientError(
                f"backward: the graph was released by an earlier backward, at {node._rule.__name__}."
                " Pass retain_graph=True to the earlier one, or compute the tensor again"
            )
        for x in node._inputs:
            if isinstance(x, Node) and x._requires_grad and x not in seen and x._age >= oldest:
                seen.add(x)
                stack.append(x)
    return sorted(seen, key=attrgetter("_age"))


def _backward_of_tensors(node: Node) -> Backward:
    """The node's `backward` again, but made of Tensors: from a call of the rule on Tensors."""
    assert node._rule is not None
    assert node._inputs is not None
    inputs = [x._data if isinstance(x, Node) and not x._requires_grad else x for x in node._inputs]
    return node._rule(*inputs, **node._options)[1]


def _fit(gradient: Array, x: Node, node: Node) -> Array:
    """The gradient that `node` gives its input `x`, in the shape and the dtype of x."""
    data = x._data
    if not hasattr(gradient, "shape"):
        gradient = np.asarray(gradient)
    if gradient.shape != data.shape:
        try:
            gradient = unbroadcast(gradient, data.shape)
        except ValueError:
            raise _wrong_shape(gradient, x, node) from None
    return gradient if gradient.dtype == data.dtype else gradient.astype(data.dtype)


def unbroadcast(gradient: Array, shape: tuple[int, ...]) -> Array:
    """Undo broadcasting: sum over the axes along which an array of `shape` was repeated to meet the others.

    y_ij = x_j   →   d_x_j = Σ_i d_y_ij

    Raises `ValueError` where an array of `shape` doesn't broadcast to the gradient's shape.

    >>> unbroadcast(np.ones((2, 3)), (3,))
    array([2., 2., 2.])
    """
    extra = gradient.ndim - len(shape)
    if extra < 0 or any(n not in (1, m) for n, m in zip(shape, gradient.shape[extra:], strict=True)):
        raise ValueError(f"unbroadcast: {shape} doesn't broadcast to {gradient.shape}")
    repeated = tuple(i for i, m in enumerate(gradient.shape) if i < extra or shape[i - extra] != m)
    return gradient.sum(axis=repeated).reshape(shape)


def _wrong_shape(gradient: Array, x: Node, node: Node) -> GradientError:
    assert node._rule is not None
    assert node._inputs is not None
    name = _name(node._rule, next(i for i, given in enumerate(node._inputs) if given is x))
    return GradientError(
        f"{node._rule.__name__}: backward gave {name}, of shape {x._data.shape}, a gradient of shape {gradient.shape}"
    )


def _broken_word(rule: Rule, inputs: tuple[Any, ...], gradients: Any) -> GradientError:
    got = f"a tuple of {len(gradients)}" if isinstance(gradients, tuple) else type(gradients).__name__
    return GradientError(
        f"{rule.__name__}: backward must return a tuple of {len(inputs)}, a gradient for each array parameter and None"
        f" where there is none; got {got}"
    )


def _own(gradient: Array, taken: set[int]) -> Array:
    """The gradient in memory of its own, so that nobody else sees what is written into `.grad`.

    A gradient is linear in the cotangent, so that it is new, or (a view of) what came in; it's never a saved array.
    """
    if isinstance(gradient, np.ndarray) and (id(gradient) in taken or not gradient.flags.owndata):
        return gradient.copy()
    taken.add(id(gradient))
    return gradient
