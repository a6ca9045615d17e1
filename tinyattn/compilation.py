"""Floor 1: a function recorded once, and replayed without the tape's bookkeeping.

The tape of one call tells which rules were applied to what. Line by line it makes a program: the rules in their order,
then their backward passes in the reverse order. That program is a rule itself, of all parameters and arguments, and the
engine applies it as one. Of the same text there are two: of plain rules, which is the specification and has derivatives
of every order, and of their kernels, its fast twin.
"""

from __future__ import annotations

import functools
import keyword
import math
import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import numpy as np

from tinyattn import engine
from tinyattn.engine import KERNELS, record, walk
from tinyattn.kernels.twin import FLOATS, PLAIN
from tinyattn.nodes import (
    NO_OPTIONS,
    ON,
    STRICT,
    TRACED,
    CompileError,
    Node,
    Rule,
    give_of,
    is_array,
    leaf,
    look,
    mode,
    next_age,
    numbers,
    trace,
)
from tinyattn.rules.registry import RULES, Array, Gradients, Result
from tinyattn.tensor import Tensor

CHECKED = 2  # calls, the first after the one that was recorded, that are compared with the function itself
RANDOM = ("dropout",)
RESERVED = ("program", "backward", "fitted")  # names that a program uses for itself
KEPT = 64  # programs of a function, one for each shapes and dtypes


def compile(f: Callable[..., Tensor]) -> Compiled:
    """The same function, recorded at its first call and replayed from then on: faster where its arrays are small.

    f takes arrays, Tensors and numbers, each in its place, and is given Tensors for arrays; it gives a Tensor that
    requires a gradient: a loss, say. What it gives afterwards is the same, to the bit, and so are the gradients of
    whatever parameters it uses; `backward` is called as usual. (Only sums over several calls, whose gradients meet in
    another order, may differ in the last digit.) It is recorded anew for other shapes, dtypes and numbers. The first
    replays are compared with f.

    f must stay on the tape: comparisons, `.numpy()`, `argmax` and the like are refused, for their results would be the
    same at every replay. So would arrays be that f finds outside, if they are written into; Tensors may be, but not
    replaced by others. Dropout has to be off. Under `no_grad` and `detect_anomaly` f itself is called. What the forward
    pass saved is kept until the backward pass has ended.

    `.source` is the program: the forward and the backward pass of the function, written out line by line.

    Raises `CompileError`, a `ValueError`, for a function that can't be replayed, and for one whose replay differs.

    >>> w = Tensor([1.0, 2.0], requires_grad=True, name="w")
    >>> loss = compile(lambda x: (w * x).sum())
    >>> [loss([3.0, x]).item() for x in (4.0, 5.0)]
    [11.0, 13.0]
    >>> print(loss.source)
    def program(w, x):
        multiply_1, back_1 = multiply(w, x)  # (2,)
        sum_2, back_2 = sum(multiply_1)  # ()
    <BLANKLINE>
        def backward(d_sum_2):
            d_multiply_1, = fitted(back_2(d_sum_2), multiply_1)
            d_w, _ = fitted(back_1(d_multiply_1), w, None)
            return d_w, None
    <BLANKLINE>
        return sum_2, backward
    """
    if not callable(f):
        raise TypeError(f"compile: needs a function; got {type(f).__name__}")
    return Compiled(f)


class Compiled:
    """What `compile` gives: the function, and the programs that were recorded of it."""

    def __init__(self, f: Callable[..., Tensor]) -> None:
        functools.update_wrapper(self, f, updated=())
        self._f = f
        self._programs: dict[Any, Program] = {}
        self._latest: Program | None = None

    def __call__(self, *arguments: Any, **named: Any) -> Tensor:
        """What the function gives for these arguments, all in their places."""
        if named:
            raise TypeError(f"compile: arguments are given by place, without names; got {', '.join(named)}=")
        if mode.get() != ON:
            return self._f(*arguments)
        given = [x.copy("K") if type(x) is np.ndarray else _argument(x) for x in arguments]  # what is kept must stay
        key = tuple([(x.shape, x.dtype) if type(x) is np.ndarray else _kind(x) for x in given])
        program = self._programs.get(key)
        if program is None or program.is_out_of_date():
            program = Program(self._f, given)
            self._programs[key] = self._latest = program
            if len(self._programs) > KEPT:
                self._programs.pop(next(iter(list(self._programs))), None)  # another thread may be adding
        start = next_age()
        try:
            output = program.replay(given)
        except Exception as error:
            self._f(*given)  # says in its own words what is wrong
            raise CompileError(f"compile: the replay fails where the function doesn't: {error}") from error
        if program.unchecked and not program.agrees(self._f, given, output):
            self._programs.pop(key, None)
            raise CompileError(
                "compile: the replay differs from the function. Does it draw at random, or compute something of its"
                " arguments by NumPy alone? Then do that outside, and pass what came out"
            )
        give_of(output, self._f, start)
        return output

    def __get__(self, instance: Any, owner: Any = None) -> Compiled:
        if instance is not None:
            raise TypeError("compile: compile the bound method in place of the class's: ta.compile(model.loss), say")
        return self

    @property
    def source(self) -> str:
        """The program that was recorded last: rules, called one after the other, and `fitted`, which brings gradients
        into the shapes of what they belong to."""
        if self._latest is None:
            raise CompileError("compile: there is no program yet; call the function first")
        return self._latest.source


def _argument(x: Any) -> Any:
    """An argument as it's handed on: a Tensor, an array of its own, or what stands for itself."""
    if isinstance(x, Node) or x is None or type(x) in (bool, int, float, str):
        return x
    if isinstance(x, np.integer | np.bool_):
        return x.item()
    return numbers(x, "compile: an argument").copy()


def _kind(x: Any) -> Any:
    """What a program depends on of an argument; of a number, all."""
    if isinstance(x, Node):
        return x.shape, x.dtype, x._requires_grad  # type: ignore[attr-defined]
    return (x.shape, x.dtype) if is_array(x) else (type(x), repr(x))  # 0.0 equals -0.0


class Program:
    """What was recorded of one call: text, and two rules made of it."""

    def __init__(self, f: Callable[..., Tensor], given: list[Any]) -> None:
        for attempt in range(2):  # a leaf that was written into is as young as its next use: at the second it's older
            start = next_age()
            stand_ins = [_stand_in(x) for x in given]
            output, traced = _traced(f, stand_ins)
            if not isinstance(output, Tensor) or not output.requires_grad or output._rule is None:
                raise CompileError(
                    f"compile: the function must give a Tensor that requires a gradient, a loss say; got {output!r}"
                )
            try:
                text = Text(output, traced, stand_ins, start, _names_of_arguments(f, len(given)))
            except CompileError:
                if attempt:
                    raise
            else:
                if not text.has_young:
                    break
        self.source, self.parameters, self.unchecked = text.source, tuple(text.parameters), CHECKED + 1
        self._requires_grad = [x._requires_grad for x in self.parameters]
        self._only_arrays = all(type(x) is np.ndarray for x in given)
        self._parents = (*self.parameters, *(None for x in given if is_array(x)))
        self.rule, self._fast = text.rules()

    def is_out_of_date(self) -> bool:
        """Whether a parameter was frozen or thawed since."""
        return [x._requires_grad for x in self.parameters] != self._requires_grad

    def replay(self, given: list[Any]) -> Tensor:
        """The program's output, as one node: `engine.apply` for what is known already."""
        inputs, parents = (*self.parameters, *given), self._parents
        if not self._only_arrays:
            inputs = tuple([x for x in inputs if is_array(x)])
            parents = tuple([x if isinstance(x, Node) else None for x in inputs])
        for x in parents:
            if x is not None and x._rule is None and x._lent is not None:
                look(x)
        arrays = [x._data if isinstance(x, Node) else x for x in inputs]
        output, gradients_of = self._fast(*arrays)

        def backward(d_output: Array) -> Gradients:
            return gradients_of(d_output) if type(d_output) in PLAIN else self.rule(*arrays)[1](d_output)

        return record(Tensor, self.rule, inputs, parents, NO_OPTIONS, (output, backward), True)

    def agrees(self, f: Callable[..., Tensor], given: list[Any], output: Tensor) -> bool:
        """Whether the output, and all gradients, are what the function itself gives; bit for bit."""
        self.unchecked -= 1
        stand_ins = [_stand_in(x) for x in given]
        right, _ = _traced(f, stand_ins)
        if not isinstance(right, Tensor) or not right.requires_grad or not _same(right._data, output._data):
            return False
        sources = [x for x in (*self.parameters, *stand_ins) if isinstance(x, Node)]
        if any(x._hooks for x in sources):  # hooks are called by the real backward alone
            return True
        start = np.ones_like(right._data)[()]
        found, replayed = walk(right, start), output._backward(start)
        return all(
            (x not in found and d is None) or (x in found and d is not None and _same(found[x], d))
            for x, d in zip(sources, replayed, strict=True)
        )


def _same(x: Array, y: Array) -> bool:
    """To the bit."""
    return x.shape == y.shape and x.dtype == y.dtype and bool(x.tobytes() == y.tobytes())


def _stand_in(x: Any) -> Any:
    """The Tensor by which an array, or another Tensor, is known on the tape."""
    if isinstance(x, Node):
        array = x._data.view() if type(x._data) is np.ndarray else x._data  # told apart from x, if f uses that, too
        return leaf(Tensor, array, x._requires_grad, x.name)
    return leaf(Tensor, numbers(x, "compile: an argument")) if is_array(x) else x


def _traced(f: Callable[..., Any], arguments: list[Any]) -> tuple[Any, list[Node]]:
    """What f gives, and every node that was made for it, in the order of birth."""
    nodes: list[Node] = []
    tokens = mode.set(ON | TRACED | STRICT), trace.set(nodes)
    try:
        return f(*arguments), nodes
    finally:
        mode.reset(tokens[0])
        trace.reset(tokens[1])


def _names_of_arguments(f: Callable[..., Any], n: int) -> list[str]:
    code = getattr(getattr(f, "__func__", f), "__code__", None)
    names = [] if code is None else list(code.co_varnames[: code.co_argcount])
    names = names[hasattr(f, "__func__") :]
    return [names[i] if i < len(names) else f"argument_{i}" for i in range(n)]


# ---------------------------------------------------------------------------------------------------- the text


class Text:
    """The program of a tape, line by line."""

    def __init__(self, output: Node, traced: list[Node], arguments: list[Any], start: int, names: list[str]) -> None:
        known = [*traced, *(x for x in arguments if isinstance(x, Node))]
        self._of_array = {id(x._data): x for x in known if type(x._data) is np.ndarray}
        self.constants: dict[str, Any] = {}
        self.has_young = False  # whether a leaf is used that was made within, or written into before
        self.steps = self._needed(output, [x for x in traced if x._rule is not None])
        self.parameters = self._outside(start, [x for x in arguments if isinstance(x, Node)])
        self._taken = {*RESERVED, "_", *RULES}
        self._taken |= {f"back_{i}" for i in range(len(self.steps) + 1)}
        self._names: dict[Any, str] = {}
        for i, x in enumerate(self.parameters):
            self._names[x] = self._name(str(x.name or f"parameter_{i}"))
        for name, x in zip(names, arguments, strict=True):
            if isinstance(x, Node):
                self._names[x] = self._name(name)
        self._sources = list(self._names)
        for i, node in enumerate(self.steps, 1):
            self._names[node] = self._name(f"{_rule_of(node).__name__}_{i}")
        self._is_plain = self._all_plain()
        last = self._names[output]
        self.source = "\n".join([
            f"def program({', '.join(self._names[x] for x in self._sources)}):",
            *[f"    {self._forward(i, node)}" for i, node in enumerate(self.steps, 1)],
            "",
            f"    def backward(d_{last}):",
            *[f"        {line}" for line in self._backward()],
            "",
            f"    return {last}, backward",
        ])  # fmt: skip

    def rules(self) -> tuple[Callable[..., Result], Callable[..., Result]]:
        """The program of plain rules, and that of their kernels."""
        plain: dict[str, Any] = {}
        fast: dict[str, Any] = {}
        for rule in map(_rule_of, self.steps):
            kernel: Any = KERNELS.get(rule)
            plain[rule.__name__] = rule if kernel is None else _without_wanted(rule)
            if kernel is None:
                fast[rule.__name__] = rule
            else:
                fast[rule.__name__] = kernel.trusting if self._trusts(rule) else kernel
        return self._made(plain), self._made(fast)

    def _trusts(self, rule: Rule) -> bool:
        """Whether a rule's kernel needn't look at what it's given."""
        return self._is_plain and hasattr(KERNELS.get(rule), "trusting")

    def _all_plain(self) -> bool:
        """Whether all arrays are NumPy's, with numbers in them, of one dtype but for whole numbers."""
        arrays = [x._data for x in self._names if x is not self.steps[-1]]
        dtypes = {x.dtype for x in arrays if x.dtype.kind not in "biu"}
        firsts = [node._inputs[0] for node in self.steps if node._rule in KERNELS and node._inputs]
        return (
            all(type(x) is np.ndarray and x.size for x in arrays)
            and dtypes in ({FLOATS[0]}, {FLOATS[1]})
            and all(np.asarray(x._data if isinstance(x, Node) else x).dtype in FLOATS for x in firsts)
        )

    def _made(self, rules: dict[str, Any]) -> Callable[..., Result]:
        space: dict[str, Any] = {"fitted": fitted, **self.constants, **rules}
        exec(self.source, space)  # what it says is said here: names are those of rules, or made of letters
        made: Callable[..., Result] = space["program"]
        return made

    def _needed(self, output: Node, traced: list[Node]) -> list[Node]:
        """What the output was made of: as arrays, or as options."""
        needed = {output}
        for node in reversed(traced):
            if node in needed:
                needed.update(x for x in node._parents or () if x is not None)
                needed.update(self._among(tuple(node._options.values())))
        return [node for node in traced if node in needed]

    def _among(self, options: tuple[Any, ...]) -> Iterator[Node]:
        for x in options:
            if type(x) is tuple:
                yield from self._among(x)
            elif id(x) in self._of_array:
                yield self._of_array[id(x)]

    def _outside(self, start: int, arguments: list[Node]) -> list[Node]:
        """The leaves that were there before, in the order of their use."""
        known = {*arguments, *self.steps}
        found: dict[Node, None] = {}
        for node in self.steps:
            name = _rule_of(node).__name__
            if RULES.get(name) is not node._rule or name in RESERVED:
                raise CompileError(f"compile: {name} is no rule that could be written down")
            if name in RANDOM or node._options.get("dropped") is not None:
                raise CompileError(f"compile: {name} draws at random; switch dropout off, with .eval() say")
            if node._hooks is not None:
                raise CompileError(f"compile: the result of {name} has a hook, which the replay wouldn't call")
            options = self._among(tuple(node._options.values()))
            for x in (*(node._parents or ()), *options):
                if x is None or x in known:
                    continue
                if x._rule is not None and x._age > start:  # what `t[...] = v` put in its place
                    raise CompileError(f"compile: {name} is given a tensor that was assigned to; use tinyattn.where")
                if x._rule is not None:
                    raise CompileError(
                        f"compile: {name} is given a result of {x._rule.__name__} that was computed outside, once;"
                        " compute it within the function, or pass it as an argument"
                    )
                if x._origin is not None or (x._age > start and x._requires_grad):
                    raise CompileError(
                        f"compile: {name} is given a tensor that isn't on the tape, for it was detached, or made with"
                        " requires_grad within the function; make it outside, and pass it as an argument"
                    )
                if x._age < start:
                    found[x] = None
                else:
                    self.has_young = True
        return list(found)

    def _name(self, wanted: str) -> str:
        """A name that Python takes, and that nothing else has."""
        name = re.sub(r"\W", "_", wanted, flags=re.ASCII)
        if not name.isidentifier() or keyword.iskeyword(name) or name == "__debug__":
            name = f"x_{name}"
        while not self._taken.isdisjoint({name, f"d_{name}"}) or name.startswith("more_"):
            name = f"x_{name}"
        self._taken |= {name, f"d_{name}"}
        return name

    def _forward(self, i: int, node: Node) -> str:
        inputs, parents, rule = node._inputs or (), node._parents or (), _rule_of(node)
        given = [
            self._names.get(parent) or self._constant("constant", x if parent is None else parent._data)
            for x, parent in zip(inputs, parents, strict=True)
        ]
        given += [f"{name}={self._constant(name, x)}" for name, x in node._options.items()]
        if rule in KERNELS:
            wanted = tuple([x is not None and x._requires_grad for x in parents])
            given.append(f"wanted={wanted}")
        return f"{self._names[node]}, back_{i} = {rule.__name__}({', '.join(given)})  # {node._data.shape}"

    def _constant(self, name: str, x: Any) -> str:
        """What stands for the same at every call: the number itself, or a name.

        An option is no node, but a mask or a key may be the array of one.
        """
        if id(x) in self._of_array:
            known = self._names.get(self._of_array[id(x)])
            if known is not None:
                return known
        if type(x) is tuple:
            return f"({''.join(f'{self._constant(name, part)}, ' for part in x)})"
        if x is None or x is ... or type(x) in (bool, int, str) or (type(x) is float and math.isfinite(x)):
            return repr(x)
        if type(x) is slice and {type(part) for part in (x.start, x.stop, x.step)} <= {int, type(None)}:
            return repr(x)
        name = self._name(f"{name}_{len(self.constants)}")
        self.constants[name] = deepcopy(x)
        return name

    def _backward(self) -> list[str]:
        """The order is that of `engine.walk`, and so are the sums."""
        lines: list[str] = []
        reached: set[Any] = set()
        for i in range(len(self.steps), 0, -1):
            node, targets, inputs, sums = self.steps[i - 1], [], [], []
            if not node._requires_grad:
                continue
            for j, x in enumerate(node._parents or ()):
                wanted = x is not None and x._requires_grad
                inputs.append(self._names[x] if wanted else "None")
                d = f"d_{self._names[x]}" if wanted else "_"
                targets.append(f"more_{j}" if x in reached else d)
                if x in reached:
                    sums.append(f"{d} = {d} + more_{j}")
                elif wanted:
                    reached.add(x)
            into = f"{', '.join(targets)}{',' * (len(targets) == 1)}"
            back = f"back_{i}(d_{self._names[node]})"
            fits = self._trusts(_rule_of(node))  # kernels give each gradient in its input's shape
            lines += [f"{into} = {back if fits else _fitted(back, inputs)}", *sums]
        results = [f"d_{self._names[x]}" if x in reached else "None" for x in self._sources]
        return [*lines, f"return {', '.join(results)}{',' * (len(results) == 1)}"]


def _rule_of(node: Node) -> Rule:
    assert node._rule is not None
    return node._rule


def _fitted(gradients: str, inputs: list[str]) -> str:
    return f"fitted({gradients}, {', '.join(inputs)})"


def fitted(gradients: Gradients, *inputs: Array) -> list[Array]:
    """The gradients of a step, each in the shape and dtype of its input; None where an input has none."""
    found: list[Array] = []
    for gradient, x in zip(gradients, inputs):  # noqa: B905
        if x is None:
            found.append(None)
        elif type(gradient) is np.ndarray and gradient.shape == x.shape and gradient.dtype is x.dtype:
            found.append(gradient)
        elif gradient is None:
            raise CompileError("compile: a rule gives no gradient for an input that requires one; leave it to the tape")
        else:
            gradient = gradient if hasattr(gradient, "shape") else np.asarray(gradient)
            found.append(engine.fitted(gradient, x))
    return found


def _without_wanted(rule: Rule) -> Rule:
    """The rule, told what only its kernel needs to know."""

    def told(*arrays: Array, wanted: tuple[bool, ...], **options: Any) -> Result:
        return rule(*arrays, **options)

    return told
