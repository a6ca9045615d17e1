"""Floor 1: what the graph is made of. A node is a value that remembers how it was made, and where.

It also remembers until when: `_age` counts what is made, and what is written. A node is younger than what went into it;
where it isn't, that was written after it had been used, and the walk back says so (`changed_since`). Arrays of results
are never written into. Those of leaves may be, through `.data`: whoever asks for it is lent the array, and from then on
its bytes are compared at every use.
"""

import contextlib
import os
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import count
from types import CodeType
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

import numpy as np

from tinyattn.rules.registry import Array, Result

N = TypeVar("N", bound="Node")
Rule: TypeAlias = Callable[..., Result]
Options: TypeAlias = dict[str, Any]
Hook: TypeAlias = Callable[[Any], Any]

FLOATS: Final = frozenset({np.dtype(np.float32), np.dtype(np.float64)})
NUMBERS: Final = "fiubc"  # the kinds of dtypes that rules compute with
NO_OPTIONS: Final[Options] = {}
SHARED: Final = "shared"  # a leaf's array may be written by others, but nobody has looked at it yet

next_age = count().__next__


class GradientError(RuntimeError):
    """What autograd itself can't do: a graph released before, a root without a gradient, an array written too early."""


class CompileError(ValueError):
    """A function that can't be replayed. The message says what stands in the way."""


class Origin(NamedTuple):
    """How a leaf that was computed came off the graph."""

    reason: str  # "detach", "no_grad" or "constant": a dtype that has no gradients
    rule: str
    sources: "tuple[weakref.ref[Node], ...]"  # what would have had a gradient from it


class Failure(NamedTuple):
    """An operation that raised, and what it was given: it hangs on the error as `failure`."""

    rule: Rule
    inputs: tuple[Any, ...]
    options: Options
    message: str
    age: int
    callers: "tuple[tuple[Any, int], ...]" = ()  # the modules that were running, innermost first, and their starts


class Scope(NamedTuple):
    """A call that gave a node: what was made between its start and the node was made in it."""

    caller: Any  # the module
    start: int  # an age
    end: int  # the age of the node then; it's another once the node is assigned to
    inner: "Scope | None"  # another call that gave the same node


class Node:
    """A value, and how it was made. (`Tensor` dresses it as an array.)

    `_rule` is the plain rule that made it, None for a leaf. `_inputs` is what the rule was given, Tensors, arrays and
    numbers, in order; `_parents` has the nodes among these, and None for the others; both are None once the graph was
    released. `_options` are the rule's options. `_code` and `_instruction` are the place in the user's source.

    Leaves alone have `_lent` (None as long as nobody else can write into the array) and `_origin`. What was given
    numbers, `t[key] = v`, alone has `_earlier`: what it was before. What a module gave alone has `_scope`.
    """

    __slots__ = (
        "__weakref__",
        "_age",
        "_backward",
        "_code",
        "_data",
        "_earlier",
        "_grad",
        "_hooks",
        "_inputs",
        "_instruction",
        "_lent",
        "_options",
        "_origin",
        "_parents",
        "_requires_grad",
        "_rule",
        "_scope",
        "name",
    )
    _age: int
    _backward: Any  # a Backward; None for a leaf and once the graph was released
    _code: CodeType | None
    _data: Any  # an array; a scalar is what NumPy gives for results of no axes
    _earlier: "weakref.ref[Node]"  # the graph holds it, if it's needed
    _grad: Any  # an array as it came from the walk back, or a Tensor; None if there is none
    _hooks: list[Hook] | None
    _inputs: tuple[Any, ...] | None
    _instruction: int
    _lent: int | str | None  # SHARED, or what `fingerprint` gave when the array was last looked at
    _options: Options
    _origin: Origin | None
    _parents: "tuple[Node | None, ...] | None"
    _requires_grad: bool
    _rule: Rule | None
    _scope: "Scope"
    name: str | None

    def __init__(self, data: Array, requires_grad: bool = False, name: str | None = None) -> None:
        """A leaf: a node that no rule made."""
        self._data = data
        self._requires_grad = requires_grad
        self._rule = self._backward = self._code = self._hooks = self._lent = self._origin = self._grad = None
        self._inputs = self._parents = ()
        self._options = NO_OPTIONS
        self._instruction = 0
        self._age = next_age()
        self.name = name


def leaf(kind: type[N], data: Array, requires_grad: bool = False, name: str | None = None) -> N:
    """A leaf of that kind of node, whose data is known to be fine."""
    node = object.__new__(kind)
    Node.__init__(node, data, requires_grad, name)
    return node


def give(output: Any, caller: Any, start: int) -> None:
    """Let what a call gave know who was called; several outputs in a tuple, a list or a dict, too."""
    outputs = output if isinstance(output, tuple | list) else output.values() if type(output) is dict else (output,)
    for x in outputs:
        if isinstance(x, Node) and x._rule is not None and x._age > start:
            x._scope = Scope(caller, start, x._age, getattr(x, "_scope", None))


def give_of(output: Any, f: Any, start: int) -> None:
    """The same for a function, if it's a module, or a method of one: that wasn't called itself."""
    caller = getattr(f, "__self__", f)
    if hasattr(caller, "named_parameters"):
        give(output, caller, start)


def blame(error: Any, caller: Any, start: int) -> None:
    """Let an error know in whose call it was raised, if an operation raised it."""
    failure = getattr(error, "failure", None)
    if isinstance(failure, Failure):
        error.failure = failure._replace(callers=(*failure.callers, (caller, start)))


def severed(kind: type[N], data: Array, reason: str, rule: str, parents: "tuple[Node | None, ...]") -> N:
    """A leaf that was computed from nodes that have gradients, and has none itself."""
    node = leaf(kind, data)
    sources = tuple(weakref.ref(x) for x in parents if x is not None and x._requires_grad)
    node._origin = Origin(reason, rule, sources)
    node._code, node._instruction = user_place()
    return node


# ------------------------------------------------------------------------------------------------------ recording

OFF: Final = 0
ON: Final = 1
WATCHED: Final = 2  # may be added to one of them: NaN and infinity are looked for
TRACED: Final = 4  # and this: what has no gradient gets a node, too, and all are listed in `trace`
STRICT: Final = 8  # and this: numbers may not leave the tape

mode: ContextVar[int] = ContextVar("mode", default=ON)
trace: "ContextVar[list[Node]]" = ContextVar("trace")


@contextmanager
def recording(on: bool) -> Iterator[None]:
    """Whether what is done inside is recorded, for this thread alone."""
    token = mode.set(mode.get() & ~ON | on)
    try:
        yield
    finally:
        mode.reset(token)


def stay_on_tape(what: str) -> None:
    """Raise `CompileError` where numbers may not leave the tape, since they would be the same at every replay."""
    if mode.get() & STRICT:
        raise CompileError(
            f"compile: {what} gives numbers that aren't on the tape, and would be the same at every replay."
            " Compute them outside, and pass them as an argument"
        )


def notice(x: Node) -> Array:
    """The array of a node that is given as an option; where all is traced, it's remembered whose it is."""
    if mode.get() & TRACED:
        trace.get().append(x)
    return x._data


def is_recording() -> bool:
    """Whether operations are recorded here and now."""
    return bool(mode.get() & ON)


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


# ------------------------------------------------------------------------------------------------------ places


class _Ours(dict[str, bool]):
    """Whether a file belongs to the package, or stands between two of its files. Looked up for every node made."""

    def __missing__(self, filename: str) -> bool:
        package = os.path.dirname(__file__) + os.sep
        ours = self[filename] = filename.startswith(package) or filename == contextlib.__file__
        return ours


OURS: Final = _Ours()


def user_place() -> tuple[CodeType | None, int]:
    """The code outside the package that is being run, and the instruction in it."""
    frame = sys._getframe(1)
    while OURS[frame.f_code.co_filename]:
        if frame.f_back is None:
            return None, 0
        frame = frame.f_back
    return frame.f_code, frame.f_lasti


def place(node: Node) -> str:
    """Where in the user's source a node was made: 'line 12 of model.py: y = ta.exp(x)'; '' where that's not known."""
    return _told(node._code, node._instruction)


def place_now() -> str:
    """The same, of what is being run."""
    return _told(*user_place())


def _told(code: CodeType | None, instruction: int) -> str:
    lines = () if code is None else code.co_lines()
    line = next((line for start, stop, line in lines if line and start <= instruction < stop), None)
    if code is None or line is None:
        return ""
    import linecache

    source = linecache.getline(code.co_filename, line).strip()
    return f"line {line} of {os.path.basename(code.co_filename)}" + (f": {source}" if source else "")


# ------------------------------------------------------------------------------------------------------ arrays


def is_array(x: Any) -> bool:
    """Whether x speaks NumPy's protocols: an array of NumPy, or of another library; a number of NumPy's."""
    return isinstance(x, np.ndarray | np.generic) or hasattr(x, "__array_function__")


def as_array(x: Any, called: str) -> Array:
    """x as an array: NumPy's, of no subclass, or another library's. `called` is what errors call it.

    Raises `TypeError` for masked arrays, whose masks no rule would see; `ValueError` for lists of no one length.
    """
    if is_array(x) and not isinstance(x, np.ndarray):
        return x
    if hasattr(x, "filled"):  # np.ma is loaded where it's used
        raise TypeError(f"{called} can't be a masked array. Fill it, with .filled(0) say, or use tinyattn.where")
    try:
        return np.asarray(x)
    except ValueError:
        raise ValueError(f"{called}: lists of numbers must be of one length, to make an array") from None
    except TypeError as error:  # a Tensor within a list
        raise TypeError(f"{called} must be one array: {error}") from None


def numbers(x: Any, called: str) -> Array:
    """The same, of numbers; `TypeError` for what holds anything else."""
    array = as_array(x, called)
    if array.dtype.kind not in NUMBERS:
        raise TypeError(f"{called} needs numbers; got {type(x).__name__} of dtype {array.dtype}")
    return array


def read_only(array: Array) -> Array:
    """The same numbers in the same memory, which can't be written through what is returned."""
    if isinstance(array, np.ndarray | np.generic):
        array = np.asarray(array).view()
        array.flags.writeable = False
    return array


def gradient_of(node: Node) -> Array | None:
    """The array of a node's gradient, without making a Tensor of it."""
    return node._grad._data if isinstance(node._grad, Node) else node._grad


# ------------------------------------------------------------------------------------------------------ writing


def lend(node: Node) -> "np.ndarray[Any, Any]":
    """The array of a leaf, for somebody who may write into it."""
    array = _writable(node)
    if node._lent is None:
        node._lent = fingerprint(array)
    return array


def rewrite(node: Node) -> "np.ndarray[Any, Any]":
    """The array of a leaf, for somebody who writes into it now, and keeps it no longer."""
    array = _writable(node)
    node._age = next_age()
    return array


def _writable(node: Node) -> "np.ndarray[Any, Any]":
    array: Any = node._data
    if isinstance(array, np.generic) or (isinstance(array, np.ndarray) and not array.flags.writeable):
        array = node._data = np.array(array)
    return array  # type: ignore[no-any-return]


def fingerprint(array: Array) -> int:
    """A number that changes when the array does."""
    return hash(array.tobytes())


def look(leaf: Node) -> None:
    """Look whether a lent array was written since it was looked at last: then the leaf is younger from now on."""
    found = fingerprint(leaf._data)
    if leaf._lent != found:
        if leaf._lent != SHARED:
            leaf._age = next_age()
        leaf._lent = found
    if sys.getrefcount(leaf._data) == 2 and getattr(leaf._data, "base", leaf) is None:
        leaf._lent = None  # but for the leaf and that call nobody has the array any more
