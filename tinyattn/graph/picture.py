"""The picture of a computation graph, and the function of the face that takes it.

What draws is imported when something is drawn: `import tinyattn` stays quick.
"""

import os
import reprlib
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tinyattn.graph.nodes import Node
from tinyattn.graph.text import summary, to_text
from tinyattn.graph.trace import trace
from tinyattn.tensor import Tensor

if TYPE_CHECKING:
    from pathlib import Path

FORMATS = ("svg", "png", "pdf", "dot")


class Graph:
    """What the tape remembered of a tensor when the picture was taken; `tinyattn.graph` takes it.

    Later changes to the tensors don't change it. The same model gives the same bytes, as DOT and as text. It draws
    itself in notebooks; `print` gives a text form for terminals and screen readers.
    """

    def __init__(self, nodes: Sequence[Node]) -> None:
        """A picture of nodes, each of which stands after its sources."""
        self.nodes = tuple(nodes)

    def __str__(self) -> str:
        return to_text(self.nodes)

    def __repr__(self) -> str:
        return f"<Graph: {summary(self.nodes)}>"

    def to_dot(self) -> str:
        """The graph in DOT, the language of Graphviz. Needs no engine."""
        from tinyattn.graph.dot import to_dot

        return to_dot(self.nodes)

    def save(self, path: str | os.PathLike[str]) -> "Path":
        """Write the picture to a file, in the format that its name ends with: .svg, .png, .pdf or .dot.

        Written beside and then renamed, so that there is never half a file. Returns the path. Raises `ValueError` for
        another ending, `RuntimeError` where no engine can draw, `OSError` where the file can't be written.
        """
        from pathlib import Path

        path = Path(path)
        format = path.suffix.lower().removeprefix(".")
        if format not in FORMATS:
            known = ", ".join(f".{name}" for name in FORMATS)
            raise ValueError(f"graph: the file's name must end with one of {known}; got {path.name!r}")
        if not path.parent.is_dir():
            raise FileNotFoundError(f"graph: there is no folder {str(path.parent)!r} to write {path.name!r} into")
        _write(path, self._render(format))
        return path

    def _render(self, format: str) -> bytes:
        from tinyattn.graph.engines import render

        dot = self.to_dot()
        return dot.encode() if format == "dot" else render(dot, format)

    def _repr_svg_(self) -> str | None:
        try:
            return self._render("svg").decode()
        except RuntimeError as error:  # a notebook then shows the line of __repr__, with this warning above
            warnings.warn(str(error), stacklevel=2)
            return None


def graph(tensor: Tensor, *, names: Mapping[str, Tensor] | None = None) -> Graph:
    """The computation graph behind a tensor: every operation, back to parameters, inputs and constants.

    Shown are rule and options, name, shape and dtype, and the numbers of small arrays, with their gradients where there
    are any: draw before `backward()`, or after `backward(retain_graph=True)` to see them. `names` says how tensors are
    called in the picture, as in `graph(loss, names=dict(model.named_parameters()))`.

    Raises `TypeError` for what isn't a Tensor, `GradientError` for one that has no graph, or whose graph was released.

    >>> import tinyattn as ta
    >>> x = ta.tensor([3.0, 4.0], requires_grad=True, name="x")
    >>> y = (x * x).sum()
    >>> y.backward(retain_graph=True)
    >>> print(graph(y))
    2 operations, 1 parameter
    1  parameter x           (2,) float64  value [3 4]  gradient [6 8]
    2  multiply(x=#1, y=#1)  (2,) float64  value [9 16]
    3  sum(#2)               () float64  value 25
    """
    if not isinstance(tensor, Tensor):
        raise TypeError(f"graph: needs a Tensor; got {type(tensor).__name__}")
    names = {} if names is None else names
    if not isinstance(names, Mapping) or not all(isinstance(named, Tensor) for named in names.values()):
        raise TypeError(f"graph: names must be a dict from names to Tensors; got {reprlib.repr(names)}")
    return Graph(trace(tensor, names))


def _write(path: "Path", content: bytes) -> None:
    """The whole file or none of it."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_bytes(content)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
