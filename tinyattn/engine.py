"""Floor 1: the engine. It knows graphs, and no mathematics: that is in the rules.

How does it know a gradient? Forward, `apply` runs a rule and keeps what came out: a node remembers its rule, what went
in, and the rule's `backward`. Backward, `walk` takes the nodes youngest first, so that all that used a node has been
seen before it; it sums what they sent, and passes on what the node's `backward` makes of the sum. For gradients that
have gradients themselves, it calls the rule again, on Tensors, and gets a `backward` made of Tensors.

What is run for every node is written for speed: locals, no keyword arguments, the common case first.
"""

import functools
import reprlib
import sys
import weakref
from collections.abc import Callable, Collection, Iterator, Sequence
from operator import attrgetter
from typing import Any

import numpy as np

from tinyattn.nodes import (
    FLOATS,
    NO_OPTIONS,
    NUMBERS,
    ON,
    OURS,
    SHARED,
    TRACED,
    WATCHED,
    Failure,
    GradientError,
    Hook,
    N,
    Node,
    Options,
    Rule,
    as_array,
    is_array,
    is_recording,
    leaf,
    look,
    mode,
    next_age,
    no_grad,
    notice,
    numbers,
    place,
    recording,
    severed,
    trace,
)
from tinyattn.rules.registry import RULES, Array, Backward, Parameters, Result, argument, parameters
from tinyattn.watch import watch_backward, watch_forward

__all__ = [
    "FLOATS",
    "GradientError",
    "Node",
    "Rule",
    "apply",
    "backward",
    "binary",
    "is_recording",
    "leaf",
    "lift",
    "no_grad",
    "operand",
    "recording",
    "seed",
    "unbroadcast",
    "walk",
]

_float32, _float64 = np.float32, np.float64
_ndarray = np.ndarray
_new = object.__new__
_NUMBERS = frozenset({float, int, bool, np.float64, np.float32})  # need no second look

AXES = frozenset({"axis", "axis1", "axis2", "axes", "source", "destination"})
"""Options that are axes."""


Kernel = Callable[..., Result]
"""A rule's fast twin. It's told which gradients are wanted, one truth value for each array: `wanted=`."""

KERNELS: dict[Rule, Kernel] = {}
"""Those of the package's own functions, by rule."""


# ---------------------------------------------------------------------------------------------------- forward


def apply(rule: Rule, inputs: tuple[Any, ...], options: Options = NO_OPTIONS, kernel: Kernel | None = None) -> Any:
    """Run a rule on its inputs, at least one of them a node, and make a node of what comes out.

    A kernel computes what the rule says, and faster; derivatives of higher order go through the rule.
    """
    differentiable = foreign = False
    arrays: list[Any] = []
    parents: list[Node | None] = []
    for x in inputs:
        if isinstance(x, Node):
            kind = type(x)
            if x._requires_grad:
                differentiable = True
            if x._rule is None and x._lent is not None:
                look(x)
            arrays.append(x._data)
            parents.append(x)
        else:
            if type(x) not in _NUMBERS:
                x = operand(x, rule, len(arrays))
                foreign = foreign or x is not None
            arrays.append(x)
            parents.append(None)
    if differentiable and (foreign or options) and mode.get() & ~WATCHED == ON:  # what is remembered must stay as it is
        if foreign:
            arrays = [x if y is not None else _copied(x) for x, y in zip(arrays, parents, strict=True)]
            inputs = tuple(x if y is None else y for x, y in zip(arrays, parents, strict=True))
        options = {name: x if type(x) in _NUMBERS or x is None else _copied(x) for name, x in options.items()}
    try:
        if kernel is None:
            result = rule(*arrays, **options)
        else:
            recorded = differentiable and bool(mode.get() & ON)
            wanted = tuple([recorded and x is not None and x._requires_grad for x in parents])
            result = kernel(*arrays, wanted=wanted, **options)
    except Exception as error:
        _tell(error, rule, arrays, options, inputs)
        raise
    return record(kind, rule, inputs, tuple(parents), options, result, differentiable)


def binary(rule: Rule) -> Callable[[Any, Any], Any]:
    """The operator that applies a rule to a node and another, or a number: `apply`, without its loop."""

    def operator(self: Node, other: Any) -> Any:
        if type(other) is type(self):
            inputs: tuple[Any, ...] = (self, other)
            parents: tuple[Node | None, ...] = inputs
            differentiable = self._requires_grad or other._requires_grad
            if other._rule is None and other._lent is not None:
                look(other)
            y = other._data
        elif type(other) in _NUMBERS:
            inputs = (self, other)
            parents = (self, None)
            differentiable = self._requires_grad
            y = other
        else:
            return apply(rule, (self, other))
        if self._rule is None and self._lent is not None:
            look(self)
        try:
            result = rule(self._data, y)
        except Exception as error:
            _tell(error, rule, (self._data, y), NO_OPTIONS, inputs)
            raise
        return record(type(self), rule, inputs, parents, NO_OPTIONS, result, differentiable)

    return operator


def record(
    kind: type[N],
    rule: Rule,
    inputs: tuple[Any, ...],
    parents: tuple[Node | None, ...],
    options: Options,
    result: Result,
    differentiable: bool,
) -> N:
    """The node that remembers how a result was made; a leaf where there is nothing to remember."""
    if type(result) is not tuple or len(result) != 2:
        raise _no_backward(rule, result)
    output, backward = result
    node = _new(kind)
    requires_grad = True
    now = mode.get()
    if now != ON or not differentiable or not (type(output) is _float64 or output.dtype in FLOATS):
        if now & WATCHED:
            watch_forward(rule, inputs, output)
        requires_grad = bool(differentiable and now & ON and _can_require_grad(output, rule))
        if now & TRACED:
            trace.get().append(node)
        elif not requires_grad:
            return _off_the_graph(kind, rule, parents, output, differentiable, bool(now & ON))
    node._data = output
    node._requires_grad = requires_grad
    node._rule = rule
    node._inputs = inputs
    node._parents = parents
    node._options = options
    node._backward = backward
    node._age = next_age()
    frame = sys._getframe(2)
    while OURS[frame.f_code.co_filename] and frame.f_back is not None:
        frame = frame.f_back
    node._code = frame.f_code
    node._instruction = frame.f_lasti
    node._hooks = node._grad = node.name = None
    return node


def _off_the_graph(
    kind: type[N], rule: Rule, parents: tuple[Node | None, ...], output: Array, differentiable: bool, recorded: bool
) -> N:
    if differentiable:
        node = severed(kind, output, "constant" if recorded else "no_grad", rule.__name__, parents)
    else:
        node = leaf(kind, output)
        for x in parents:
            if x is not None and x._origin is not None:  # what is made of what was cut off was cut off there, too
                node._origin, node._code, node._instruction = x._origin, x._code, x._instruction
    if getattr(output, "base", None) is not None:  # a view of something that may be written into
        node._lent = SHARED
    return node


def _copied(x: Any) -> Any:
    """x with arrays of its own, also within a tuple."""
    if isinstance(x, tuple):
        return tuple(map(_copied, x))
    if isinstance(x, np.ndarray):
        return x.copy("K")
    return x.copy() if is_array(x) and not isinstance(x, np.generic | Node) else x


def lift(rule: Rule, kernel: Kernel | None = None) -> Callable[..., Any]:
    """The function that users call: a rule that takes Tensors, arrays, lists and numbers, mixed at will.

    It gives a Tensor where any input is one, and a plain array otherwise. The rule itself is its `__wrapped__`; if it
    has a kernel, that computes in its place.
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
                return apply(rule, args, given, kernel)
        alone = all(x is None or type(x) in _NUMBERS for x in args)  # else numbers stay Python's, which widen no array
        arrays = [x if type(x) in _NUMBERS and not alone else operand(x, rule, i) for i, x in enumerate(args)]
        try:
            if kernel is None:
                result = rule(*arrays, **given)
            else:
                result = kernel(*arrays, wanted=(False,) * len(arrays), **given)
        except Exception as error:
            _tell(error, rule, arrays, given)
            raise
        if type(result) is not tuple or len(result) != 2:
            raise _no_backward(rule, result)
        return result[0]

    return function


def _bind(name: str, spec: Parameters, args: tuple[Any, ...], given: Options) -> tuple[tuple[Any, ...], Options]:
    """The arrays in their places, and the options that were given by position under their names."""
    names = spec.arrays + spec.options[: spec.by_place]
    if len(args) > len(names):
        named = spec.options[spec.by_place :]
        count = f"{len(names)} argument{'s' * (len(names) > 1)} at most" + " without a name" * bool(named)
        hint = f". Is {' or '.join(f'{option}=' for option in named)} missing?" if named else ""
        raise TypeError(f"{name}: takes {count}; got {len(args)}{hint}")
    by_position = dict(zip(names, args, strict=False))
    for twice in by_position.keys() & given.keys():
        raise TypeError(f"{name}: got {twice!r} twice")
    given = by_position | given
    for array in spec.required:
        if array not in given:
            raise TypeError(f"{name}: {array!r} is missing")
    arrays = tuple(given.pop(array, None) for array in spec.arrays)
    return (_sequence(name, arrays[0]) if spec.variadic else arrays), given


def _sequence(name: str, arrays: Any) -> tuple[Any, ...]:
    if isinstance(arrays, str | bytes | dict | set) or not hasattr(arrays, "__iter__"):
        raise TypeError(f"{name}: needs a list of arrays; got {type(arrays).__name__}. Are [ ] missing?")
    return tuple(arrays)


def _option(rule: Rule, name: str, x: Node) -> Array:
    if x._requires_grad:
        raise TypeError(f"{rule.__name__}: {name} is an option, and has no gradient; pass {name}.detach()")
    return notice(x)


def operand(x: Any, rule: Rule, place: int) -> Any:
    """What a rule is given for `x`: arrays as they are, numbers and lists as arrays; anything else is a `TypeError`.

    So is None, but for an array that can be left out.
    """
    if type(x) is np.ndarray and x.dtype.kind in NUMBERS:
        return x
    if x is None:
        spec = parameters(rule)
        if spec.variadic or place < len(spec.required):
            raise TypeError(f"{rule.__name__}: {argument(rule, place)} needs an array; got None")
        return None
    return numbers(x, f"{rule.__name__}: {argument(rule, place)}")


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


def _tell(
    error: Exception, rule: Rule, arrays: Sequence[Any], options: Options, inputs: tuple[Any, ...] | None = None
) -> None:
    """Say what was being computed, and from what; and leave it with the error, for a picture of how far it came."""
    try:
        _say(error, rule, arrays, options)
    except Exception as told:
        _leave(told, rule, inputs, options)
        raise
    _leave(error, rule, inputs, options)


def _leave(error: Any, rule: Rule, inputs: tuple[Any, ...] | None, options: Options) -> None:
    if inputs is not None and not hasattr(error, "failure"):
        error.failure = Failure(rule, inputs, options, str(error), next_age())


def _say(error: Exception, rule: Rule, arrays: Sequence[Any], options: Options) -> None:
    """Say it better, where NumPy's words don't help.

    The rule's own errors, which begin with a rule's name, are let through, with a note.
    """
    name = rule.__name__
    given = ", ".join([*map(_brief, arrays), *(f"{option}={_brief(x)}" for option, x in options.items())])
    if not isinstance(error, TypeError | ValueError | IndexError | AttributeError) or _is_told(error):
        error.add_note(f"in {name}({given})")
        return
    if isinstance(error, np.exceptions.AxisError) and error.axis is not None:
        shapes = ", ".join(str(x.shape) for x in arrays if hasattr(x, "shape"))
        told = f"{name}: there is no axis {error.axis}, counted from 0 or back from -1; got shape {shapes}"
        raise np.exceptions.AxisError(told) from None
    for told in _likely(error, rule, arrays, options):
        raise TypeError(f"{name}: {told}") from error
    if "broadcast together" in str(error):
        raise ValueError(f"{name}: shapes must broadcast; got {given}.{_hint_to_broadcast(arrays)}") from error
    for kind in (TypeError, ValueError, IndexError):
        if type(error) is kind or (isinstance(error, kind) and type(error).__module__.startswith("numpy")):
            raise kind(f"{name}: {error}; got {given}") from error
    error.add_note(f"in {name}({given})")


def _is_told(error: Exception) -> bool:
    return str(error).partition(":")[0] in RULES


def _likely(error: Exception, rule: Rule, arrays: Sequence[Any], options: Options) -> Iterator[str]:
    """What is likely wrong with the kinds of the arguments, the first thing first."""
    spec = parameters(rule)
    for option in options:
        if option not in spec.options:
            hint = ". Is it axis?" if option in ("dim", "dims") and "axis" in spec.options else ""
            yield f"takes no {option!r}, but {', '.join(spec.options or spec.arrays)}{hint}"
    if isinstance(error, AttributeError | TypeError):
        for option, x in options.items():
            if option in AXES and not _is_whole(x):
                yield f"{option} must be a whole number, or several where there may be; got {x!r}"
    if isinstance(error, AttributeError):
        for x in arrays:
            if type(x) in (int, float, bool):
                yield f"needs arrays; got the number {x}"


def _is_whole(x: Any) -> bool:
    if isinstance(x, tuple | list):
        return all(map(_is_whole, x))
    return x is None or (hasattr(x, "__index__") and not np.ndim(x) and not isinstance(x, bool))


def _hint_to_broadcast(arrays: Sequence[Any]) -> str:
    """What may make two arrays broadcast that don't."""
    shapes = [np.shape(x) for x in arrays if np.ndim(x)]
    if len(shapes) != 2:
        return ""
    longer, shorter = sorted(shapes, key=len, reverse=True)
    if longer == shorter[::-1]:
        return " Is one of them transposed?"
    if longer[: len(shorter)] == shorter:
        return f" Is an axis of length 1 missing, to make {shorter} {shorter + (1,) * (len(longer) - len(shorter))}?"
    return ""


def _brief(x: Any) -> str:
    """An argument in a few characters."""
    if hasattr(x, "shape") and hasattr(x, "dtype"):
        return f"{x.dtype} {x.shape}"
    return reprlib.repr(x)


# ---------------------------------------------------------------------------------------------------- backward


def backward(root: Node, gradient: Any = None, *, retain_graph: bool = False, create_graph: bool = False) -> None:
    """Add the gradient of `root` to the `.grad` of every leaf that requires one; see `Tensor.backward`."""
    cotangent = seed(root, gradient)
    if create_graph and not isinstance(cotangent, Node):
        cotangent = leaf(type(root), cotangent)
    elif isinstance(cotangent, Node) and not create_graph:
        cotangent = cotangent._data
    found = walk(root, cotangent, retain_graph=retain_graph or create_graph, create_graph=create_graph)
    taken = {id(cotangent)}
    fresh = {node: g if isinstance(g, Node) else _own(g, taken) for node, g in found.items()}
    totals = {node: g if node._grad is None else _total(node._grad, g, type(root)) for node, g in fresh.items()}
    for node, total in totals.items():  # nothing is written before everything is known
        node._grad = total


def _total(earlier: Any, gradient: Any, kind: type[Node]) -> Any:
    """The sum of two gradients, each an array or a node; an array where both are."""
    if isinstance(earlier, Node) and not isinstance(gradient, Node):
        gradient = leaf(kind, gradient)
    if isinstance(gradient, Node) and not isinstance(earlier, Node):
        earlier = leaf(kind, earlier)
    return earlier + gradient


def seed(root: Node, gradient: Any) -> Array:
    """The gradient that a walk starts from, of the root's shape and dtype; 1 for a root of one element."""
    if not root._requires_grad:
        raise GradientError(
            "backward: this tensor doesn't require a gradient. Nothing that it was made of has requires_grad=True,"
            " or it was made under no_grad, or detached; tinyattn.explain_gradient tells which"
        )
    data = root._data
    if gradient is None:
        if type(data) is _float64 or type(data) is _float32:
            return type(data)(1.0)
        if data.size != 1:
            raise GradientError(
                f"backward: a tensor of shape {data.shape} needs a gradient of that shape to start from; only a single"
                " number starts from 1. Reduce it first, with .sum() say, or pass gradient="
            )
        return np.ones_like(data)[()]
    if not isinstance(gradient, Node):
        gradient = as_array(gradient, "backward: gradient")
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
    """The gradient of Σ root · cotangent in each target that it depends on.

    If there are no targets, in each leaf, and in each node that retains its gradient. A node lets go of what it saved
    as soon as it has been passed, unless `retain_graph`. With `create_graph` the cotangent is a Tensor, and so are the
    gradients.
    """
    wanted = frozenset(targets)
    oldest = min((target._age for target in targets), default=-1)  # what is older can't depend on a target
    order = youngest_last(root, oldest)
    sums = {root: cotangent}  # node → the sum of what its users sent, complete when its turn comes
    found: dict[Node, Array] = {}
    watched = mode.get() & WATCHED
    with recording(create_graph):
        while order:
            node = order.pop()
            d_output = sums.pop(node, None)
            if node._hooks is not None and d_output is not None:
                d_output = _heard(node, d_output)
                if retain in node._hooks and not wanted:
                    found[node] = d_output
            if node._rule is None or (wanted and node in wanted):
                if d_output is not None and (node in wanted or not wanted):
                    found[node] = d_output
                continue
            if d_output is not None:
                gradients = (_backward_of_tensors(node) if create_graph else node._backward)(d_output)
                parents = node._parents
                assert parents is not None
                if type(gradients) is not tuple or len(gradients) != len(parents):
                    if not isinstance(gradients, Node):
                        raise _broken_word(node, gradients)
                    # The node's graph was computed again (see checkpoint.py), and is walked in its place.
                    order += youngest_last(gradients, node._age + 1)
                    sums[gradients] = d_output
                    gradients = ()
                elif watched:
                    watch_backward(node, d_output, gradients)
                # The lengths were compared, and a keyword costs as much as the rest of the line.
                for x, gradient in zip(parents, gradients):  # noqa: B905
                    if x is not None and gradient is not None and x._requires_grad and x._age >= oldest:
                        data = x._data
                        if type(gradient) is not _ndarray or type(data) is not _ndarray:
                            if not type(gradient) is type(data) is _float64:
                                gradient = fit(gradient, x, node)
                        elif gradient.shape != data.shape or gradient.dtype is not data.dtype:
                            gradient = fit(gradient, x, node)
                        sums[x] = sums[x] + gradient if x in sums else gradient  # not +=: rules may share arrays
            if not retain_graph:
                node._backward = node._inputs = node._parents = None
    return found


def youngest_last(root: Node, oldest: int) -> list[Node]:
    """What the root was made of and may have a gradient, in the order of birth; nothing that is older than `oldest`.

    Raises `GradientError` where a part of the graph was released, or written into after it was used.
    """
    if root._age < oldest:
        return []
    seen = {root}
    found = [root]
    for node in found:
        parents = node._parents
        if parents is None:
            raise _released(node)
        for x in parents:
            if x is not None:
                if x._rule is None and x._lent is not None:
                    look(x)
                if x._age > node._age:
                    x = as_it_was(x, node)
                if x._requires_grad and x not in seen and x._age >= oldest:
                    seen.add(x)
                    found.append(x)
    found.sort(key=attrgetter("_age"))
    return found


def as_it_was(x: Node, user: Node) -> Node:
    """What an input was when the younger node used it, for that was assigned to since; the user is told.

    Raises `GradientError` where nobody knows: where its array was written.
    """
    then = x
    while then._age > user._age:
        earlier = then._earlier() if hasattr(then, "_earlier") else None
        if earlier is None:
            raise _written(x, user)
        then = earlier
    replace_input(user, x, then)
    return then


def replace_input(user: Node, x: Node, then: Node) -> None:
    """Let a node have been made of `then` in place of x."""
    assert user._inputs is not None
    assert user._parents is not None
    user._inputs = tuple(then if y is x else y for y in user._inputs)
    user._parents = tuple(then if y is x else y for y in user._parents)


def _backward_of_tensors(node: Node) -> Backward:
    """The node's `backward` again, but made of Tensors: from a call of the rule on Tensors."""
    assert node._rule is not None
    assert node._inputs is not None
    inputs = [x._data if isinstance(x, Node) and not x._requires_grad else x for x in node._inputs]
    return node._rule(*inputs, **node._options)[1]


def retain(gradient: Any) -> None:
    """A hook that does nothing. Where it stands among a node's hooks, `backward` keeps the gradient of the node."""


class Handle:
    """Takes a hook off again: called, or by `.remove()`, as in PyTorch. It keeps neither the node nor itself alive."""

    __slots__ = ("_hook", "_node")

    def __init__(self, node: Node, hook: Hook) -> None:
        self._node, self._hook = weakref.ref(node), hook

    def __call__(self) -> None:
        node = self._node()
        if node is not None and node._hooks is not None:
            node._hooks = [other for other in node._hooks if other is not self._hook] or None

    remove = __call__


def hooked(node: Node, hook: Hook) -> Handle:
    """Give a node a hook, and get what takes it off again."""
    node._hooks = [*(node._hooks or ()), hook]
    return Handle(node, hook)


def _heard(node: Node, d_output: Array) -> Array:
    """The gradient after the node's hooks have seen it; each may give another in its place."""
    assert node._hooks is not None
    if not (isinstance(d_output, Node) or hasattr(d_output, "tobytes")):  # many gradients at once, see rows.py
        raise TypeError(f"hook: a hook sees one gradient at a time; got {type(d_output).__name__}")
    for hook in tuple(node._hooks):
        given = hook(d_output if isinstance(d_output, Node) else leaf(type(node), d_output))
        if given is None:
            continue
        if not isinstance(given, Node) and not is_array(given):
            given = np.asarray(given)
        if given.shape != node._data.shape:
            raise GradientError(
                f"hook: the gradient that a hook gives must have the tensor's shape, {node._data.shape};"
                f" got {given.shape}"
            )
        if isinstance(given, Node) and not isinstance(d_output, Node):
            given = given._data
        d_output = given if given.dtype == node._data.dtype else given.astype(node._data.dtype)
    return d_output


def fit(gradient: Array, x: Node, node: Node) -> Array:
    """The gradient that `node` gives its input `x`, in the shape and the dtype of x."""
    if not hasattr(gradient, "shape"):
        gradient = np.asarray(gradient)
    try:
        return fitted(gradient, x._data)
    except ValueError:
        raise _wrong_shape(gradient, x, node) from None


def fitted(gradient: Array, data: Array) -> Array:
    """The gradient of `data`, in its shape and dtype. Raises `ValueError` where broadcasting doesn't explain it."""
    if gradient.shape != data.shape:
        gradient = unbroadcast(gradient, data.shape)
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
    name = argument(node._rule, next(i for i, given in enumerate(node._inputs) if given is x))
    return GradientError(
        f"{node._rule.__name__}: backward gave {name}, of shape {x._data.shape}, a gradient of shape {gradient.shape}"
    )


def _broken_word(node: Node, gradients: Any) -> GradientError:
    assert node._rule is not None
    assert node._parents is not None
    got = f"a tuple of {len(gradients)}" if isinstance(gradients, tuple) else type(gradients).__name__
    return GradientError(
        f"{node._rule.__name__}: backward must return a tuple of {len(node._parents)}, a gradient for each array"
        f" parameter and None where there is none; got {got}"
    )


def _own(gradient: Array, taken: set[int]) -> Array:
    """The gradient in memory of its own, so that nobody else sees what is written into `.grad`.

    A gradient is linear in the cotangent, so that it is new, or (a view of) what came in; it's never a saved array.
    """
    if isinstance(gradient, np.ndarray) and not gradient.flags.owndata:
        return gradient.copy()
    if id(gradient) in taken:
        return gradient.copy()
    taken.add(id(gradient))
    return gradient


def _released(node: Node) -> GradientError:
    assert node._rule is not None
    return GradientError(
        f"backward: the graph was released by an earlier backward, at {node._rule.__name__}{_at(node)}."
        " Pass retain_graph=True to the earlier one, or compute the tensor again"
    )


def _written(x: Node, node: Node) -> GradientError:
    assert node._rule is not None
    assert node._parents is not None
    name = argument(node._rule, next(i for i, parent in enumerate(node._parents) if parent is x))
    called = f" (named {x.name!r})" if x.name else ""
    return GradientError(
        f"backward: {node._rule.__name__}{_at(node)} saved {name}{called}, of shape {x._data.shape}, which was written"
        " into since. Call backward() before writing, or compute the result again after it"
    )


def _at(node: Node) -> str:
    where = place(node)
    return f" ({where})" if where else ""
