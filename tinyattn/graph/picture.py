"""The picture of a computation graph, and the function of the face that takes it.

What draws is imported when something is drawn: `import tinyattn` stays quick.
"""

from __future__ import annotations

import difflib
import operator
import os
import reprlib
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tinyattn.graph.nodes import Node, Recording
from tinyattn.rules.registry import RULES
from tinyattn.tensor import Tensor

if TYPE_CHECKING:
    from pathlib import Path

FORMATS = ("svg", "png", "pdf", "dot", "html")
INSIDE = ("multi_head_attention", "attention", "program")
TIME_LIMIT = 30.0  # seconds
FEW = 12  # operations that stand in no box are put into groups, if there are more and time is short


class Graph:
    """What the tape remembered of a tensor when the picture was taken; `tinyattn.graph` takes it.

    Later changes to the tensors don't change it. The same model gives the same bytes, as DOT, text and page. It draws
    itself in notebooks; `print` gives a text form for terminals and screen readers.
    """

    def __init__(self, whole: Recording, depth: int | None = None, note: str = "") -> None:
        """A picture of all nodes, with boxes open down to `depth`."""
        from tinyattn.graph.fold import fold

        self._whole, self._depth, self._note = whole, depth, note
        self._shown = fold(whole, depth)
        folded = len(whole.nodes) - len(self._shown.nodes)
        if folded > 0:
            told = f"{len(self._shown.nodes)} of {len(whole.nodes)} nodes are shown, the others are in closed boxes"
            self._note = f"{note}; {told}" if note else told

    @property
    def nodes(self) -> tuple[Node, ...]:
        """What is drawn, each after its sources."""
        return self._shown.nodes

    def __str__(self) -> str:
        from tinyattn.graph.text import to_text

        return to_text(self._shown, self._note)

    def __repr__(self) -> str:
        from tinyattn.graph.text import summary

        return f"<Graph: {summary(self._shown)}>"

    def at_depth(self, depth: int | None) -> Graph:
        """The same graph with boxes open down to that depth: 0 closes all; None opens what makes a good picture."""
        return Graph(self._whole, _checked_depth(depth))

    def diff(self, other: Graph) -> Graph:
        """The other graph, with what it has added and changed marked, and what it hasn't any more.

        Compared is structure: operations, options, shapes, and what is made of what; not the numbers.

        >>> import tinyattn as ta
        >>> x = ta.tensor([1.0, 2.0], requires_grad=True, name="x")
        >>> print(graph(x.sum()).diff(graph(ta.exp(x).sum())))
        2 operations, 1 parameter
        1  parameter x  (2,) float64  value [1 2]  gradient [2.718 7.389]
        2  exp(#1)      (2,) float64  value [2.718 7.389]  gradient [1 1]  added
        3  sum(#2)      () float64  value 10.11  gradient 1  changed, it was made of others
        """
        from tinyattn.graph.diff import diff

        if not isinstance(other, Graph):
            raise TypeError(f"diff: needs another Graph; got {type(other).__name__}")
        return Graph(diff(self._whole, other._whole), self._depth)

    def to_dot(self) -> str:
        """The graph in DOT, the language of Graphviz. Needs no engine."""
        from tinyattn.graph.dot import to_dot

        return to_dot(self._shown, self._note)

    def to_html(self) -> str:
        """The graph as a page of its own, to be played forward and backward. Needs no engine, and no network."""
        from tinyattn.graph.page import to_html

        return to_html(self._whole, self._shown, self._depth)

    def save(self, path: str | os.PathLike[str], *, time_limit: float = TIME_LIMIT) -> Path:
        """Write the picture to a file, in the format that its name ends with: .svg, .png, .pdf, .dot or .html.

        Written beside and then renamed, so that there is never half a file. A layout that takes longer than
        `time_limit` seconds is ended, and drawn with more boxes closed. Returns the path. Raises `ValueError` for
        another ending, `RuntimeError` where no engine can draw, `OSError` where the file can't be written.
        """
        from pathlib import Path

        from tinyattn.pages import write_whole

        if isinstance(time_limit, bool) or not isinstance(time_limit, int | float) or not 0 < time_limit <= 1e6:
            raise ValueError(f"graph: time_limit must be a number of seconds greater than 0; got {time_limit!r}")
        path = Path(path)
        format = path.suffix.lower().removeprefix(".")
        if format not in FORMATS:
            known = ", ".join(f".{name}" for name in FORMATS)
            raise ValueError(f"graph: the file's name must end with one of {known}; got {path.name!r}")
        if not path.parent.is_dir():
            raise FileNotFoundError(f"graph: there is no folder {str(path.parent)!r} to write {path.name!r} into")
        write_whole(path, self._render(format, time_limit))
        return path

    def _render(self, format: str, time_limit: float = TIME_LIMIT) -> bytes:
        from tinyattn.graph.engines import TooSlow, render
        from tinyattn.graph.fold import grouped, levels

        if format == "html":
            return self.to_html().encode()
        if format == "dot":
            return self.to_dot().encode()
        drawn = self
        while True:
            try:
                return render(drawn.to_dot(), format, time_limit)
            except TooSlow:
                whole, depth = drawn._whole, levels(drawn._shown.boxes) - 1
                if depth < 0:
                    whole, depth = grouped(whole, FEW), 0
                    if whole is drawn._whole:
                        raise
                drawn = Graph(whole, depth, f"drawn with boxes closed: the layout took longer than {time_limit:g} s")

    def _repr_svg_(self) -> str | None:
        try:
            return self._render("svg").decode()
        except RuntimeError as error:  # a notebook then shows the line of __repr__, with this warning above
            warnings.warn(str(error), stacklevel=2)
            return None


def graph(
    tensor: Tensor | Sequence[Tensor] | BaseException,
    *,
    names: Mapping[str, Tensor] | None = None,
    gradient: Any = None,
    depth: int | None = None,
    inside: Collection[str] = INSIDE,
    lines: bool = False,
) -> Graph:
    """The computation graph behind a tensor: every operation, back to parameters, inputs and constants.

    Shown are rule and options, name, shape and dtype, the numbers of small arrays and tiny heat maps of others, and the
    same of the gradients of a single number, or from `gradient` on: they are worked out for the picture, and no `.grad`
    is written. What is saved for the way back is marked, and what is NaN, infinite or all zero. Modules are boxes, open
    down to `depth`; None closes as many as a large graph needs. Operations named in `inside` are boxes, too, of the
    steps that their rules take. `names` says how tensors are called, as in `names=dict(model.named_parameters())`;
    parameters of modules that were called have their names already. `lines` adds the user's source lines.

    In place of a tensor: several, or an error that an operation has raised: then how far it came, and what failed.

    Raises `TypeError` for what isn't a Tensor, `ValueError` where `inside` names a rule that isn't there,
    `GradientError` for a tensor that has no graph, or whose graph was released or written into.

    >>> import tinyattn as ta
    >>> x = ta.tensor([3.0, 4.0], requires_grad=True, name="x")
    >>> print(graph((x * x).sum()))
    2 operations, 1 parameter
    1  parameter x           (2,) float64  value [3 4]  gradient [6 8]
    2  multiply(x=#1, y=#1)  (2,) float64  value [9 16]  gradient [1 1]
    3  sum(#2)               () float64  value 25  gradient 1
    """
    from tinyattn.graph.trace import Wishes, trace

    roots, failure = _roots(tensor)
    names = {} if names is None else names
    if not isinstance(names, Mapping) or not all(isinstance(named, Tensor) for named in names.values()):
        raise TypeError(f"graph: names must be a dict from names to Tensors; got {reprlib.repr(names)}")
    if isinstance(inside, str) or not isinstance(inside, Iterable) or not all(isinstance(name, str) for name in inside):
        raise TypeError(f"graph: inside must be a list of names of rules; got {reprlib.repr(inside)}")
    depth = _checked_depth(depth)
    whole = trace(roots, Wishes(names, gradient, inside, lines), failure)
    known = {*RULES, *INSIDE, *(node.rule for node in whole.nodes), *(box.type for box in whole.boxes)}
    for name in inside:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "it takes names of rules, as softmax"
            raise ValueError(f"graph: inside has {name!r}, and there is no rule of that name; {hint}")
    return Graph(whole, depth)


def _roots(given: Any) -> tuple[list[Tensor], Any]:
    """The tensors to start from, and what failed, if anything."""
    from tinyattn.engine import GradientError

    if isinstance(given, BaseException):
        failure = getattr(given, "failure", None)
        if failure is None:
            raise TypeError(
                f"graph: this {type(given).__name__} wasn't raised by an operation on Tensors; there is nothing to draw"
            )
        return [x for x in failure.inputs if isinstance(x, Tensor)], failure
    roots = list(given) if isinstance(given, list | tuple) else [given]
    for root in roots:
        if not isinstance(root, Tensor):
            raise TypeError(f"graph: needs a Tensor; got {type(root).__name__}")
        if root._rule is None:
            raise GradientError(
                "graph: this tensor has no graph, since no recorded operation made it. Draw the result of operations on"
                " tensors of which one at least has requires_grad=True, made outside no_grad"
            )
    if not roots:
        raise TypeError("graph: needs a Tensor; got an empty list")
    return roots, None


def _checked_depth(depth: Any) -> int | None:
    if depth is None:
        return None
    if isinstance(depth, bool) or not hasattr(depth, "__index__") or operator.index(depth) < 0:
        raise ValueError(f"graph: depth must be a whole number from 0 on, or None; got {depth!r}")
    return operator.index(depth)
