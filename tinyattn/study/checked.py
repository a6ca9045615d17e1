"""What was found of a student's backward pass, and how it is told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from tinyattn.study.comparison import FOLLOWS

EXACT, CLOSE, WRONG, MISSING = "exact", "close", "wrong", "not given"


class Told(str):
    """Text that a notebook shows as it is, without quotes."""

    __slots__ = ()

    __repr__ = str.__str__


class Hints(Protocol):
    """Whoever can say more of a gradient that is wrong, or still to come."""

    def hints(self, gradient: str) -> tuple[str, ...]:
        """All of them, in the order in which they are told."""
        ...


@dataclass(frozen=True)
class Finding:
    """What is said of one gradient: 'exact', 'close', 'wrong', 'follows' or 'not given'.

    Where it is wrong, or follows, `index` is the place of the first element that is, in the sample of that name, and
    `yours` and `true` are the numbers there. `off` is the largest difference over the largest number, in any sample.
    """

    name: str
    equation: str
    status: str
    sample: str | None = None
    index: tuple[int, ...] | None = None
    yours: float | None = None
    true: float | None = None
    off: float = float("nan")
    note: str = ""

    @property
    def place(self) -> str:
        """Where it is wrong, in words."""
        if self.sample is None:
            return ""
        if self.index is None:
            return f"{self.note}, in {self.sample!r}"
        said = f"yours {self.yours:.6g}, true {self.true:.6g}"
        return f"first at {list(self.index)} of {self.sample!r}: {said}"

    def __str__(self) -> str:
        return f"{self.name}: {self.status}" + (f" {self.place}" if self.place else "")


@dataclass(eq=False, repr=False)
class Checked:
    """What was found of a backward pass; true where all that is asked for is exact or close.

    `rows` has a `Finding` for each gradient, in the order in which they are found; `checked["d_scores"]` is one of
    them. `problem` is what kept them from being compared, in a sentence or two: an error that was raised, an array that
    was changed in place; None if there was none. `diagnosis` has all hints, of which the first `shown` were told.
    Printed it is a table, and so it is in a notebook.
    """

    exercise: str
    rows: tuple[Finding, ...]
    asked: tuple[str, ...]
    problem: str | None
    diagnosis: Hints
    shown: int = 0

    def __bool__(self) -> bool:
        there = all(self[name].status in (EXACT, CLOSE) for name in self.asked)
        return self.problem is None and there and not self._bad

    @property
    def _bad(self) -> list[Finding]:
        return [row for row in self.rows if row.status in (WRONG, FOLLOWS)]

    @property
    def first(self) -> Finding | None:
        """The first gradient that is wrong; None where none is."""
        return next((row for row in self.rows if row.status == WRONG), None)

    def __getitem__(self, name: str) -> Finding:
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(f"{name!r}; there are {', '.join(row.name for row in self.rows)}")

    @property
    def verdict(self) -> str:
        """The whole of it in a sentence."""
        missing = [name for name in self.asked if self[name].status == MISSING]
        if self.problem is not None:
            said = self.problem
        elif self.first is not None:
            said = f"wrong, first in {self.first.name}"
        elif self._bad:  # nothing is wrong by itself, where an earlier gradient is NaN, say
            said = f"wrong, in {self._bad[0].name}"
        elif missing:
            said = f"right so far; {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} still to come"
        elif all(row.status in (EXACT, MISSING) for row in self.rows):
            said = EXACT
        else:
            name, off = max(((row.name, row.off) for row in self.rows if row.status == CLOSE), key=lambda pair: pair[1])
            said = f"close: right up to rounding, coarser than need be in {name}, by {off:.0e} of its largest number"
        return f"{self.exercise}: {said}"

    @property
    def _subject(self) -> str | None:
        """The gradient that hints are about: the first that is wrong, or else the first still to come."""
        bad = self.first or next(iter(self._bad), None)
        return bad.name if bad else next((name for name in self.asked if self[name].status == MISSING), None)

    @property
    def hints(self) -> tuple[str, ...]:
        """The hints that were told."""
        return self._all_hints[: self.shown]

    @property
    def _all_hints(self) -> tuple[str, ...]:
        return () if self or self._subject is None else self.diagnosis.hints(self._subject)

    def hint(self) -> Told:
        """One hint more, of three: about the shape, about the term, about the axis. None is the formula."""
        there = self._all_hints
        if not there:
            return Told(self.problem or "Nothing is wrong.")
        if self.shown == len(there):
            return Told("There are no more hints.")
        self.shown += 1
        return Told(there[self.shown - 1])

    def told(self, n: int) -> Checked:
        """The same with n hints told already."""
        return replace(self, shown=min(n, len(self._all_hints)) if n else 0)

    def __str__(self) -> str:
        lines = [self.verdict, *(f"  {line}" for line in self._table())]
        return "\n".join([*lines, *self.hints, *self._more()])

    __repr__ = __str__

    def _given(self) -> list[Finding]:
        """What there is to show: what is asked for, and what was given."""
        return [row for row in self.rows if row.status != MISSING or (row.name in self.asked and self.problem is None)]

    def _place(self, row: Finding) -> str:
        """Where it is wrong; or how far it is right, where something ended the check."""
        return "in the samples before" if self.problem and row.status in (EXACT, CLOSE) else row.place

    def _table(self) -> Iterator[str]:
        rows = self._given()
        width = max((len(row.name) for row in rows), default=0)
        for row in rows:
            yield f"{row.name:{width}}  {row.status:9}  {self._place(row)}".rstrip()

    def _more(self) -> Iterator[str]:
        left = len(self._all_hints) - self.shown
        if left:
            yield f"({left} {'hint' if left == 1 else 'hints'}: .hint() tells the next)"

    def _repr_html_(self) -> str:
        from html import escape

        cells = [(row.name, row.status, self._place(row)) for row in self._given()]
        rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in cells)
        titles = "<tr><th>gradient</th><th>it is</th><th></th></tr>" if cells else ""
        lines = "".join(f"<p>{escape(line)}</p>" for line in (*self.hints, *self._more()))
        return f"<p><strong>{escape(self.verdict)}</strong></p><table>{titles}{rows}</table>{lines}"
