"""What a picture is made of: a `Node` for each value that the tape remembers, and a `Box` for each call of a module.

All of it is plain strings and numbers, so that a picture stays as it was taken.
"""

from collections.abc import Callable
from typing import Final, Literal, NamedTuple, TypeAlias

Kind: TypeAlias = Literal["operation", "box", "parameter", "input", "constant"]
KINDS: Final[tuple[Kind, ...]] = ("operation", "box", "parameter", "input", "constant")
Change: TypeAlias = Literal["", "added", "removed", "changed"]
Rows: TypeAlias = tuple[tuple[str, ...], ...]
"""The numbers of a small array, written out: a scalar has one row of one."""
Cells: TypeAlias = tuple[tuple[float, ...], ...]
"""A larger array in small: means of its blocks."""


_MEANT = ("all zero", "from a constant")


class Numbers(NamedTuple):
    """What is shown of an array."""

    rows: Rows | None  # of small arrays
    cells: Cells | None  # of all others that have numbers
    least: float  # of what is finite, as are the next two; NaN where nothing is
    mean: float
    most: float
    n_nan: int = 0
    n_infinite: int = 0
    all_zero: bool = False

    @property
    def marks(self) -> tuple[str, ...]:
        """What a reader should stumble over."""
        found = [f"{n} {word}" for n, word in ((self.n_nan, "NaN"), (self.n_infinite, "Inf")) if n]
        return (*found, *["all zero"] * self.all_zero)


class Source(NamedTuple):
    """What an operation was given, and what it sends back."""

    node: int
    role: str  # what the rule calls it: `query`, `key`, ...
    carries_gradient: bool = True
    is_saved: bool = False  # for the way back
    gradient: Numbers | None = None  # what goes back over this edge alone
    jacobian: tuple[tuple[float, ...], ...] | None = None  # ∂ output / ∂ this, both flat; where small


class Node(NamedTuple):
    """One value and where it came from."""

    kind: Kind
    rule: str = ""  # what computed it; empty for what is not an operation
    options: str = ""  # those that differ from the rule's defaults, as `axis=-1`
    name: str = ""  # given by the user; may be empty
    shape: tuple[int, ...] = ()
    dtype: str = ""
    value: Numbers | None = None
    gradient: Numbers | None = None
    is_root: bool = False  # one of those whose graph it is
    seed: Numbers | None = None  # what backward starts with, at a root
    sums: tuple[Numbers | None, ...] = ()  # of the gradients that arrive, as they arrive; where there are several
    carries_gradient: bool = True  # whether a gradient flows back to it
    sources: tuple[Source, ...] = ()  # the nodes it was computed from, which stand before it
    about: str = ""  # the first sentence of the rule's docstring
    box: int | None = None  # the innermost one that it is in
    uses: int = 0  # how often it goes into something
    n_bytes: int = 0  # of the output, and of what is saved of the operation's own
    flops: int = 0  # of the forward pass
    saves_output: bool = False
    line: str = ""  # where the user's code made it
    failed: str = ""  # what the operation raised
    change: Change = ""  # beside another graph
    difference: str = ""  # what was changed: how it was there
    inner_marks: tuple[str, ...] = ()  # of what is in a closed box
    begins: Literal["", "NaN", "Inf"] = ""  # what isn't finite here, and is in all that it's computed from
    infinity_is_meant: bool = False  # a mask's

    def moved(self, place: Callable[[int], int]) -> "Node":
        """The same node, where its sources stand elsewhere."""
        return self._replace(sources=tuple(source._replace(node=place(source.node)) for source in self.sources))

    @property
    def title(self) -> str:
        """What a reader sees first: the rule's name; or the name of a parameter; or the number of a constant."""
        if self.kind in ("operation", "box"):
            return self.rule
        if self.name:
            return self.name
        return self.value.rows[0][0] if self.value is not None and self.value.rows and self.shape == () else self.kind

    @property
    def marks(self) -> tuple[str, ...]:
        """What is odd about the value and the gradient."""
        of_gradient = () if self.gradient is None else self.gradient.marks
        own = () if self.value is None or self.kind == "constant" else self.value.marks
        if self.begins:
            own = (f"{self.begins} begins here", *own)
        elif self.infinity_is_meant:
            own = tuple(f"{mark}, from a constant" if mark.endswith(" Inf") else mark for mark in own)
        return (*own, *(f"gradient {mark}" for mark in of_gradient), *(f"inside: {mark}" for mark in self.inner_marks))

    @property
    def alarms(self) -> tuple[str, ...]:
        """Those that are hardly meant. Zeros may be, as a bias at the start, and so may the infinities of a mask."""
        return tuple(mark for mark in self.marks if not mark.endswith(_MEANT) or "gradient" in mark)


class Box(NamedTuple):
    """A call of a module, or the inside of an operation: everything that was computed while it ran."""

    name: str  # where the module stands in the one around it, as `blocks.0`; may be empty
    type: str  # its class, or the rule
    parent: int | None
    is_rule: bool = False
    operation: Node | None = None  # what is drawn in the place of an operation's inside, while that is closed

    def moved(self, place: Callable[[int], int]) -> "Box":
        """The same box, where what its operation was given stands elsewhere."""
        if self.operation is None:
            return self
        return self._replace(operation=self.operation.moved(place))


class Recording(NamedTuple):
    """The whole graph, before anything is folded: nodes, each after its sources, and boxes, each after its parent."""

    nodes: tuple[Node, ...]
    boxes: tuple[Box, ...] = ()

    def moved(self, place: Callable[[int], int]) -> "Recording":
        """The same nodes and boxes, where their sources stand elsewhere."""
        return Recording(tuple(node.moved(place) for node in self.nodes), tuple(box.moved(place) for box in self.boxes))
