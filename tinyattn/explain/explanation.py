"""What is said of a gradient: its state, and the reasons for it."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

STATES = {
    "none": "there is none",
    "zero": "it is zero",
    "partly zero": "a part of it is zero",
    "tiny": "it is tiny",
    "nan": "it holds NaN",
    "infinite": "it holds infinities",
    "fine": "nothing is wrong with it",
    "unknown": "it can't be told any more",
}


class Reason(NamedTuple):
    """One cause, and where in the user's source it is."""

    kind: str
    text: str
    rule: str = ""
    place: str = ""  # 'line 12 of model.py: y = ta.relu(x)'

    def __str__(self) -> str:
        where = f" ({self.place})" if self.place else ""
        return f"{self.kind}: " + (f"{self.rule}{where}: " if self.rule else "") + self.text


@dataclass(frozen=True)
class Explanation:
    """Why the gradient of a tensor is what it is. Printed, it says so."""

    subject: str
    state: str  # one of STATES
    gradient: "np.ndarray[Any, Any] | None"  # that of the root in the tensor, where it could be computed
    reasons: tuple[Reason, ...]
    note: str = ""  # which root was taken, where none was named

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of the reasons, in their order."""
        return tuple(reason.kind for reason in self.reasons)

    def to_dict(self) -> dict[str, Any]:
        """The explanation as plain data, for JSON."""
        return {
            "subject": self.subject,
            "state": self.state,
            "note": self.note,
            "reasons": [reason._asdict() for reason in self.reasons],
        }

    def __str__(self) -> str:
        size = ""
        if self.gradient is not None and self.state in ("fine", "tiny", "partly zero"):
            size = f", its largest number {np.abs(self.gradient).max(initial=0.0):.3g}"
            if self.state == "partly zero":
                size += f", {np.count_nonzero(self.gradient == 0)} of {self.gradient.size} are 0"
        told = [*([self.note] if self.note else []), *map(str, self.reasons)]
        return "\n  ".join([f"the gradient of {self.subject}: {STATES[self.state]}{size}", *told])

    def _repr_html_(self) -> str:
        import html

        return f"<pre>{html.escape(str(self))}</pre>"
