"""What the witnesses said of every gradient, side by side, and the first of them that went wrong."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

Vector: TypeAlias = "np.ndarray[Any, Any]"

HAND, TAPE, NUMBERS = "hand", "tape", "numbers"
AGREES, FOLLOWS, WRONG, NOT_GIVEN, DISPUTED = "agrees", "follows", "WRONG", "not given", "DISPUTED"


@dataclass(frozen=True, eq=False)
class Row:
    """What the witnesses said of one gradient.

    `status` is 'agrees'; 'WRONG', where the hand differs; 'follows', where it differs, and rightly so, since it is made
    of an earlier gradient that was wrong; 'not given', where the hand gave none; or 'DISPUTED', where tape and numbers
    differ, and the hand is not to blame. Where they differ, `index` is the place where they do so most, hand from tape,
    and `head` the head that it belongs to, None where it belongs to all.
    """

    name: str
    equation: str
    status: str
    hand: Vector | None
    tape: Vector
    numbers: Vector  # NaN where they weren't computed
    differences: dict[tuple[str, str], float]  # between each two witnesses the largest, anywhere
    index: tuple[int, ...] | None
    head: int | None
    note: str = ""

    @property
    def said(self) -> dict[str, float]:
        """What each witness says at `index`."""
        given = {HAND: self.hand, TAPE: self.tape, NUMBERS: self.numbers}
        if self.index is None:
            return {}
        at = {witness: x[self.index] for witness, x in given.items() if x is not None and x.shape == self.tape.shape}
        return {witness: float(x) for witness, x in at.items()}

    @property
    def place(self) -> str:
        """Where it is, in words."""
        head = "" if self.head is None else f"head {self.head}, "
        return "" if self.index is None else f"{head}index {self.index}"

    def __str__(self) -> str:
        who = {HAND: "by hand", TAPE: "by the tape", NUMBERS: "by numbers"}
        said = ", ".join(f"{number:.6g} {who[witness]}" for witness, number in self.said.items())
        place = f" at {self.place}: {said}" if said else ""
        return f"{self.name} {self.equation}".rstrip() + place + (f" ({self.note})" if self.note else "")

    def to_dict(self) -> dict[str, Any]:
        """What can be said of it in JSON; None for a number that isn't finite."""
        return {
            "name": self.name,
            "equation": self.equation,
            "shape": list(self.tape.shape),
            "status": self.status,
            "differences": {f"{a}-{b}": _finite(error) for (a, b), error in self.differences.items()},
            "head": self.head,
            "index": None if self.index is None else list(self.index),
            "said": {witness: _finite(number) for witness, number in self.said.items()},
            "note": self.note,
        }


@dataclass(frozen=True, eq=False)
class Comparison:
    """The hand, the tape and the numbers beside each other; true where all agree on every gradient.

    `rows` has a `Row` for each gradient, in the order of the backward pass; `comparison["d_scores"]` is one of them,
    with all its numbers. Printed it is a table, and so it is in a notebook.
    """

    study: str
    rows: tuple[Row, ...]
    problem: str | None = None  # why it is false, whatever the rows say

    def __bool__(self) -> bool:
        return self.problem is None and self.first is None

    @property
    def first(self) -> Row | None:
        """The first gradient of the backward pass that went wrong; None where none did."""
        return next((row for row in self.rows if row.status in (WRONG, DISPUTED)), None)

    def __getitem__(self, name: str) -> Row:
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(f"{name!r}; there are {', '.join(row.name for row in self.rows)}")

    @property
    def verdict(self) -> str:
        """The whole of it in one sentence."""
        if self.problem:
            return f"{self.study}: {self.problem}"
        if self.first is None:
            return f"{self.study}: the hand, the tape and the numbers agree"
        if self.first.status == DISPUTED:
            return f"{self.study}: the tape and the numbers differ first in {self.first}"
        return f"{self.study}: the hand is WRONG first in {self.first}"

    def __str__(self) -> str:
        rows = [_TITLES, *map(_cells, self.rows)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
        return "\n".join([self.verdict, *(f"  {line}" for line in lines)])

    def __repr__(self) -> str:
        return f"<Comparison: {self.verdict}>"

    def _repr_html_(self) -> str:
        return "\n".join(self._html())

    def _html(self) -> Iterator[str]:
        from html import escape

        yield f"<p>{escape(self.verdict)}</p>"
        yield "<table>"
        yield f"<tr>{''.join(f'<th>{escape(title)}</th>' for title in _TITLES)}</tr>"
        for row in self.rows:
            yield f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in _cells(row))}</tr>"
        yield "</table>"

    def to_dict(self) -> dict[str, Any]:
        """Everything but the arrays, for JSON."""
        return {
            "study": self.study,
            "ok": bool(self),
            "verdict": self.verdict,
            "first": None if self.first is None else self.first.name,
            "rows": [row.to_dict() for row in self.rows],
        }


_PAIRS = tuple(itertools.combinations((HAND, TAPE, NUMBERS), 2))
_TITLES = ("gradient", "shape", *(f"{a} - {b}" for a, b in _PAIRS), "", "where they differ most", "")


def _cells(row: Row) -> tuple[str, ...]:
    differences = (_small(row.differences[pair]) if pair in row.differences else "" for pair in _PAIRS)
    place = row.place if row.status in (WRONG, DISPUTED, FOLLOWS) else ""
    return (row.name, str(row.tape.shape), *differences, row.status, place, row.note)


def _small(error: float) -> str:
    return "0" if error == 0 else f"{error:.1e}"


def _finite(number: float) -> float | None:
    return number if np.isfinite(number) else None
