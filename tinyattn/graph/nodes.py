"""What a picture is made of: one `Node` for each value that the tape remembers."""

from typing import Final, Literal, NamedTuple, TypeAlias

Kind: TypeAlias = Literal["operation", "parameter", "input", "constant"]
KINDS: Final[tuple[Kind, ...]] = ("operation", "parameter", "input", "constant")
Rows: TypeAlias = tuple[tuple[str, ...], ...]
"""The numbers of a small array, written out: a scalar has one row of one."""


class Node(NamedTuple):
    """One value and where it came from, in plain strings and numbers: a picture stays as it was taken."""

    kind: Kind
    rule: str  # what computed it; empty for what is not an operation
    options: str  # those that differ from the rule's defaults, as `axis=-1`
    name: str  # given by the user; may be empty
    shape: tuple[int, ...]
    dtype: str
    value: Rows | None  # of small arrays only
    gradient: Rows | None  # of small arrays only, and where there is one
    carries_gradient: bool  # whether a gradient flows back to it
    sources: tuple[int, ...]  # the nodes it was computed from, which stand before it
    roles: tuple[str, ...]  # what the rule calls each source: `query`, `key`, ...
    about: str  # the first sentence of the rule's docstring

    @property
    def title(self) -> str:
        """What a reader sees first: the rule's name; or the name of a parameter; or the number of a constant."""
        if self.kind == "operation":
            return self.rule
        if self.name:
            return self.name
        return self.value[0][0] if self.value is not None and self.shape == () else self.kind
