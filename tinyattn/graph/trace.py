"""From a Tensor to nodes: what the tape remembers, read in the order in which it can be computed again.

The order follows the inputs of each operation, left to right, and nothing else; so the same model gives the same nodes,
whatever else was computed before or in between. The walk has a stack of its own: depth is no limit.
"""

from __future__ import annotations

import inspect
import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np

from tinyattn import engine
from tinyattn.engine import GradientError, as_it_was, fit
from tinyattn.graph.costs import flops, is_of, kept
from tinyattn.graph.inside import Inside, look_inside
from tinyattn.graph.nodes import Node, Numbers, Recording, Source
from tinyattn.graph.numbers import numbers_of
from tinyattn.graph.scopes import Call, boxes_of, calls_of, common_box
from tinyattn.nodes import Failure, look, place, recording
from tinyattn.rules.registry import parameters
from tinyattn.tensor import Tensor

Place = int
MOST_PARTIALS = 64  # in a Jacobian that is shown
MOST_WITH_JACOBIANS = 1000  # nodes


class Wishes(NamedTuple):
    """What is to be shown beside the graph itself."""

    names: Mapping[str, Tensor]
    gradient: Any = None  # of the root; 1 for a single number
    inside: Collection[str] = ()  # rules whose insides are shown
    with_lines: bool = False


def trace(roots: Sequence[Tensor], wishes: Wishes, failure: Failure | None = None) -> Recording:
    """A node for each root and for each thing it was computed from, every node after its sources.

    Raises `GradientError` where there is no graph, or where a part of it was released.
    """
    tape = Tape(roots, wishes.inside)
    seeds, arrived, sent = tape.gradients(roots, wishes.gradient)
    calls = [*calls_of(tape.order), *(call for inside in tape.opened.values() for call in inside.calls)]
    if failure is not None:  # the calls that it ended
        calls += [Call(start, math.inf, caller) for caller, start in failure.callers]
    made = [x for x in tape.items if isinstance(x, Tensor) and x._rule is not None]
    owned = _names_within(calls)
    ids = {id(tape.meant(root)) for root in roots} if failure is None else set()
    known_as = {**owned, **{tensor: name for name, tensor in wishes.names.items()}}

    def drawn(x: Tensor) -> Node:
        meant = id(tape.meant(x))
        name = known_as.get(x, x.name)
        node = _node(x, name, tape, sent, arrived.get(meant, []), wishes.with_lines)
        return node._replace(is_root=meant in ids, seed=tape.shown(seeds.get(meant)))

    ages = [tape.age(x) for x in made] + ([] if failure is None else [failure.age])
    boxes, innermost = boxes_of(calls, ages, drawn)
    box_of: dict[int, int | None] = dict(zip(map(id, made), innermost, strict=False))
    for x, inside in tape.opened.items():
        known_as[inside.output] = known_as.get(x, x.name) or ""
    nodes: list[Node] = []
    for x in tape.items:
        if not isinstance(x, Tensor):
            nodes.append(_constant(x))
            continue
        nodes.append(drawn(x)._replace(box=box_of.get(id(x))))
    if failure is not None:
        nodes.append(_failed(failure, tape, nodes)._replace(box=innermost[-1]))
    items = [*tape.items, *[None] * len(nodes)]
    held = {i for i, node in enumerate(nodes) if node.kind == "constant" or items[i] in owned}
    return Recording(tuple(_begun(_used(nodes, boxes, held))), tuple(boxes))


class Tape:
    """What is on the tape behind some tensors, in order; opened operations replaced by what they are made of."""

    def __init__(self, roots: Sequence[Tensor], inside: Collection[str]) -> None:
        self.items: list[Any] = []  # Tensors, arrays and numbers, each after what it was made of
        self.order: list[Tensor] = []  # the Tensors that are results, opened ones, too
        self.opened: dict[Tensor, Inside] = {}
        self._inside = frozenset(inside)
        self._places: dict[Any, Place] = {}  # id of a tensor, or what an array holds; the graph keeps tensors alive
        self._ages: dict[int, float] = {}
        self._shown: dict[int, tuple[Numbers | None, Any]] = {}
        self._stand_for: dict[int, Tensor] = {}  # id → what is meant
        stack: list[Any] = list(reversed(roots))
        while stack:
            x = self.meant(stack[-1])
            if id(x) in self._places:
                stack.pop()
                continue
            waiting = [y for y in reversed(self.inputs(x)) if isinstance(y, Tensor) and not self._is_placed(y)]
            if waiting:
                stack.extend(waiting)
                continue
            if x._rule is not None:
                self.order.append(x)
                if self._open(x):
                    stack[-1] = self.opened[x].output
                    continue
            stack.pop()
            self._places[id(x)] = len(self.items)
            self.items.append(x)
        self._put_in_order()

    def _put_in_order(self) -> None:
        """Results in the order in which they were computed, everything else just before it's needed."""
        tensors, self.items, self._places = self.items, [], {}
        for x in sorted((x for x in tensors if x._rule is not None), key=self.age):
            for i, y in enumerate(self.inputs(x)):
                if y is not None:
                    y = self.meant(y) if isinstance(y, Tensor) else y
                    self._put(y, _key(y, x, i))
            self._put(x, id(x))
        for x in tensors:
            self._put(x, id(x))

    def _put(self, y: Any, key: Any) -> None:
        if key not in self._places:
            self._places[key] = len(self.items)
            self.items.append(y)

    def meant(self, x: Tensor) -> Tensor:
        """The tensor itself; what an operation that was opened gave, and what stood in for its inputs, replaced."""
        while id(x) in self._stand_for:
            x = self._stand_for[id(x)]
        return x

    def inputs(self, x: Tensor) -> tuple[Any, ...]:
        """What the rule was given."""
        if x._inputs is None:
            assert x._rule is not None
            raise GradientError(
                f"graph: the graph behind this tensor was released by an earlier backward (at {x._rule.__name__}). "
                "Draw it before backward(), or pass retain_graph=True to that one"
            )
        for y in x._inputs:
            if isinstance(y, Tensor):
                if y._rule is None and y._lent is not None:
                    look(y)
                if y._age > x._age:  # it was assigned to since
                    as_it_was(y, x)
        return x._inputs

    def age(self, x: Tensor) -> float:
        """When it was made; what is inside of an operation, between that and what was made before."""
        return self._ages.get(id(x), x._age)

    def place(self, y: Any, x: Tensor | None = None, i: int = 0) -> Place:
        """Where in `items` the i-th input of x stands."""
        return self._places[_key(self.meant(y) if isinstance(y, Tensor) else y, x, i)]

    def has(self, y: Any, x: Tensor, i: int) -> bool:
        """Whether the i-th input of x is there: of an operation that was opened, not all need be used inside."""
        return _key(self.meant(y) if isinstance(y, Tensor) else y, x, i) in self._places

    def sources(self, x: Tensor, sent: Mapping[tuple[int, int], Any]) -> tuple[Source, ...]:
        """Where each input stands, with the rule's name for it; what was left out is left out here too."""
        if x._rule is None:
            return ()
        inputs, saved = self.inputs(x), list(kept(x._backward))
        jacobians = _jacobians(x) if len(self.items) <= MOST_WITH_JACOBIANS else {}
        return tuple(
            Source(
                node=self.place(y, x, i),
                role=role,
                carries_gradient=isinstance(y, Tensor) and y.requires_grad,
                is_saved=any(is_of(array, y._data if isinstance(y, Tensor) else y) for array in saved),
                gradient=self.shown(sent.get((id(x), i))),
                jacobian=jacobians.get(i),
            )
            for i, (role, y) in enumerate(zip(_roles(x._rule, len(inputs)), inputs, strict=True))
            if y is not None and self.has(y, x, i)
        )

    def gradients(
        self, roots: Sequence[Tensor], gradient: Any
    ) -> tuple[dict[int, Any], dict[int, list[Any]], dict[tuple[int, int], Any]]:
        """What it starts with, the sums in each tensor, the last of which is its gradient, and what each edge sends.

        Nothing is released, no hook is called and no `.grad` written. Without a gradient to start from, there is none.
        """
        seeds: dict[int, Any] = {}
        sent: dict[tuple[int, int], Any] = {}
        for root in roots:
            if root.requires_grad and (gradient is not None or root.size == 1):
                seeds[id(self.meant(root))] = engine.seed(root, gradient)
        sums = {key: [seed] for key, seed in seeds.items()}
        with recording(False), np.errstate(all="ignore"):
            for x in reversed(self.items):
                if id(x) not in sums or x._rule is None or not x.requires_grad:
                    continue
                d_output = sums[id(x)][-1]
                found = x._backward(d_output)
                if not isinstance(found, tuple):  # a checkpoint, computed again
                    _, again, _ = Tape([found], ()).gradients([found], d_output)
                    found = tuple([again[id(y)][-1] if id(y) in again else None for y in x._parents or ()])
                for i, (y, d_input) in enumerate(zip(x._parents or (), found, strict=True)):
                    if y is not None and d_input is not None and y._requires_grad:
                        y, d_input = self.meant(y), fit(d_input, y, x)
                        sent[id(x), i] = d_input
                        so_far = sums.setdefault(id(y), [])
                        so_far.append(so_far[-1] + d_input if so_far else d_input)
        return seeds, sums, sent

    def shown(self, gradient: Any) -> Numbers | None:
        """What is shown of a gradient, if there is one; what goes back over a node's only edge is all that it gets."""
        if gradient is None:
            return None
        if id(gradient) not in self._shown:
            self._shown[id(gradient)] = numbers_of(gradient), gradient
        return self._shown[id(gradient)][0]

    def _is_placed(self, y: Tensor) -> bool:
        return id(self.meant(y)) in self._places

    def _open(self, x: Tensor) -> bool:
        assert x._rule is not None
        if x._rule.__name__ not in self._inside or id(x) in self._ages:
            return False
        found = look_inside(x)
        if found is None:
            return False
        self.opened[x] = found
        self._stand_for[id(x)] = found.output
        for stand_in, y in found.stand_ins:
            self._stand_for[id(stand_in)] = y
        self._ages |= {id(y): age for y, age in found.ages}
        return True


def _jacobians(x: Tensor) -> dict[int, tuple[tuple[float, ...], ...]]:
    """∂ output / ∂ input of small operations, by the place of the input: a row for each number of the output."""
    sizes = [y.size if isinstance(y, Tensor) and y.requires_grad else 0 for y in x._inputs or ()]
    if not 0 < x.size * max(sizes, default=0) <= MOST_PARTIALS or not x.requires_grad or _is_checkpoint(x):
        return {}
    found: dict[int, list[tuple[float, ...]]] = {i: [] for i, n in enumerate(sizes) if n}
    with recording(False), np.errstate(all="ignore"):
        for k in range(x.size):
            unit = np.zeros(x.size, x.dtype)
            unit[k] = 1
            gradients = x._backward(unit.reshape(x.shape)[()])
            for i, rows in found.items():
                y = (x._inputs or ())[i]
                d_y = np.zeros(sizes[i]) if gradients[i] is None else fit(gradients[i], y, x)
                rows.append(tuple(np.ravel(d_y).tolist()))
    return {i: tuple(rows) for i, rows in found.items()}


def _is_checkpoint(x: Tensor) -> bool:
    """Whether its backward pass runs a function of the user again."""
    return getattr(x._rule, "__module__", "") == "tinyattn.checkpoint"


def _key(y: Any, x: Any, i: int) -> Any:
    """What tells inputs apart. The same mask, used twice, is one constant; a number is told where it's used."""
    if isinstance(y, Tensor):
        return id(y)
    return (y.dtype.str, y.shape, y.tobytes()) if isinstance(y, np.ndarray) else (id(x), i)


def _names_within(calls: Sequence[Any]) -> dict[Tensor, str]:
    """The names of parameters in the outermost modules that were called."""
    found: dict[Tensor, str] = {}
    for call in sorted(calls, key=lambda call: (call.start, -call.end)):
        named = getattr(call.caller, "named_parameters", None)
        for name, tensor in named() if named is not None else ():
            found.setdefault(tensor, tensor.name or name)
    return found


@lru_cache(512)
def _roles(rule: Callable[..., Any], n: int) -> tuple[str, ...]:
    spec = parameters(rule)
    return tuple(f"{spec.arrays[0]}[{i}]" for i in range(n)) if spec.variadic else spec.arrays


def _node(
    x: Tensor,
    name: str | None,
    tape: Tape,
    sent: Mapping[tuple[int, int], Any],
    arrived: Sequence[Any],
    with_line: bool,
) -> Node:
    rule = x._rule
    shown = Node(
        kind="operation" if rule is not None else "parameter" if x.requires_grad else "input",
        name="" if name is None else str(name),
        shape=x.shape,
        dtype=str(x.dtype),
        value=numbers_of(x._data),
        gradient=tape.shown(arrived[-1]) if arrived else None,
        sums=tuple(map(tape.shown, arrived)) if len(arrived) > 1 else (),
        carries_gradient=x.requires_grad,
        sources=tape.sources(x, sent),
        n_bytes=x._data.nbytes,
    )
    if rule is None:
        return shown
    given = [y._data if isinstance(y, Tensor) else y for y in x._inputs or ()]
    saved = {id(array): array for array in kept(x._backward)}.values()
    own = [array for array in saved if not any(is_of(array, y) for y in (*given, x._data))]
    return shown._replace(
        rule=rule.__name__,
        options=_options(rule, x._options),
        about=_about(rule),
        n_bytes=x._data.nbytes + sum(array.nbytes for array in own),
        flops=flops(rule, [getattr(y, "shape", None if y is None else ()) for y in given], x.shape, x._options),
        saves_output=any(is_of(array, x._data) for array in saved),
        line=place(x) if with_line else "",
    )


def _constant(x: Any) -> Node:
    array = np.asarray(x)
    return Node(
        kind="constant",
        shape=array.shape,
        dtype=str(array.dtype),
        value=numbers_of(array),
        carries_gradient=False,
        n_bytes=array.nbytes,
    )


def _failed(failure: Failure, tape: Tape, nodes: list[Node]) -> Node:
    """The operation that raised, after what it was given."""
    sources = []
    inputs = failure.inputs
    for role, y in zip(_roles(failure.rule, len(inputs)), inputs, strict=False):
        if y is None:
            continue
        if isinstance(y, Tensor):
            place_of = tape.place(y)
        else:
            place_of = len(nodes)
            nodes.append(_constant(y))
        sources.append(Source(place_of, role, carries_gradient=getattr(y, "requires_grad", False)))
    return Node(
        kind="operation",
        rule=failure.rule.__name__,
        options=_options(failure.rule, failure.options),
        carries_gradient=False,
        sources=tuple(sources),
        about=_about(failure.rule),
        failed=failure.message.removeprefix(f"{failure.rule.__name__}: "),
    )


def _used(nodes: list[Node], boxes: Sequence[Any], held: Collection[int]) -> list[Node]:
    """The nodes, with how often each is used. Constants and parameters of modules are `held` where they are used.

    They stand in the innermost box around all their users.
    """
    uses = Counter(source.node for node in nodes for source in node.sources)
    around: dict[int, list[int | None]] = {}
    for node in nodes:
        for source in node.sources:
            around.setdefault(source.node, []).append(node.box)
    return [
        node._replace(uses=uses[i], box=_beside(node, around.get(i, []), boxes) if i in held else node.box)
        for i, node in enumerate(nodes)
    ]


def _begun(nodes: Sequence[Node]) -> list[Node]:
    """The nodes, with a mark where NaN or infinity begins: what they are computed from is finite.

    Infinities of constants, as a mask's, are meant, and so is what passes them on.
    """
    found: list[Node] = []
    for node in nodes:
        if node.value is None or not (node.value.n_nan or node.value.n_infinite):
            found.append(node)
            continue
        sources = [found[source.node] for source in node.sources]
        odd = [x for x in sources if x.value is not None and (x.value.n_nan or x.value.n_infinite)]
        meant = not node.value.n_nan and (node.kind == "constant" or any(x.infinity_is_meant for x in odd))
        found.append(node._replace(infinity_is_meant=meant, begins=_what_begins(node.value, odd) if sources else ""))
    return found


def _what_begins(value: Numbers, odd: Sequence[Node]) -> Literal["", "NaN", "Inf"]:
    if value.n_nan:  # of infinities, too, as ∞ − ∞
        return "" if any(x.value is not None and x.value.n_nan for x in odd) else "NaN"
    return "" if odd else "Inf"


def _beside(node: Node, users: list[int | None], boxes: Sequence[Any]) -> int | None:
    """Where it stands: parameters never in the inside of an operation."""
    box = common_box(users, boxes)
    while node.kind == "parameter" and box is not None and boxes[box].is_rule:
        box = boxes[box].parent
    return box


@lru_cache(512)
def _about(rule: Callable[..., Any]) -> str:
    return (inspect.getdoc(rule) or "").partition("\n")[0]


@lru_cache(512)
def _defaults(rule: Callable[..., Any]) -> dict[str, str]:
    return {name: _option(parameter.default) for name, parameter in inspect.signature(rule).parameters.items()}


def _options(rule: Callable[..., Any], options: Mapping[str, Any]) -> str:
    """The options that were given, without those that say what the rule does anyway."""
    if not options:
        return ""
    declared = _defaults(rule)
    return ", ".join(
        f"{name}={_option(value)}" for name, value in options.items() if _option(value) != declared.get(name)
    )


def _option(value: Any) -> str:
    """An option in a few characters, the same in every run: no addresses, no long arrays."""
    match value:
        case None | bool() | int() | float() | str() | np.generic():
            return repr(value.item() if isinstance(value, np.generic) else value)
        case slice():
            parts = ["" if part is None else _option(part) for part in (value.start, value.stop, value.step)]
            return ":".join(parts[:2] if value.step is None else parts)
        case tuple():
            return f"({', '.join(map(_option, value))}{',' * (len(value) == 1)})"
        case np.ndarray():
            return f"{value.dtype} {value.shape}"
        case np.dtype():
            return str(value)
        case type():
            return value.__name__
    return "..." if value is Ellipsis else type(value).__name__
