"""Two witnesses that need no derivation, on the gradient of each intermediate: the tape, and differences.

Both differentiate what comes after the intermediate, as a function of it: Σ c · output, for one cotangent c.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np

from tinyattn.derivatives import vjp
from tinyattn.study.steps import Made, Study

Vector: TypeAlias = "np.ndarray[Any, Any]"
Place: TypeAlias = tuple[int, ...]

STEP = 2.0**-10  # truncation, ∝ step⁴, meets round-off, ∝ 1 / step; and a power of two moves most numbers exactly


def rest(study: Study, made: Made, name: str) -> Callable[[Any], Any]:
    """The output as a function of one of the arrays, with all that isn't made of it held where it is."""

    def output(x: Any) -> Any:
        moved = {name: x}
        for step, compute in study.steps.items():
            uses = study.uses(step)
            if step != name and not moved.keys().isdisjoint(uses):
                moved[step] = compute(*(moved.get(used, made[used]) for used in uses))
        return moved[study.output]

    return output


def by_tape(study: Study, made: Made, name: str, cotangent: Vector) -> Vector:
    """The gradient in one of the arrays: the rest of the computation on Tensors, walked back."""
    _, pull_back = vjp(rest(study, made, name), made[name])
    gradient: Vector = pull_back(cotangent)[0].numpy()
    return gradient


def by_differences(study: Study, made: Made, name: str, cotangent: Vector, places: Iterable[Place]) -> Vector:
    """The gradient at those places, NaN at others: (4 D(h/2) − D(h)) / 3, D(h) = (f(x + h) − f(x − h)) / 2h."""
    output = rest(study, made, name)

    def moved(place: Place, step: float) -> Any:
        x = made[name].copy()
        x[place] += step
        return output(x)

    def slope(place: Place, step: float) -> float:
        return float((cotangent * (moved(place, step) - moved(place, -step))).sum()) / (2 * step)

    gradient = np.full(made[name].shape, np.nan)
    for place in places:
        gradient[place] = (4 * slope(place, STEP / 2) - slope(place, STEP)) / 3
    return gradient


def one_step_back(study: Study, made: Made, name: str, gradients: Mapping[str, Vector]) -> Vector:
    """The gradient in one of the arrays that follows from those given in what is made of it, right or wrong.

    By the equations, which leave it to the scores' gradient to be zero where a key is hidden: here nothing is.
    """
    made = made | {"mask": None if made.get("mask") is None else np.ones_like(made["mask"])}
    total = np.zeros(made[name].shape)
    for step, compute in study.steps.items():
        uses = study.uses(step)
        if name in uses:
            place = uses.index(name)
            others = [made[used] for used in uses]
            _, pull_back = vjp(lambda x, f=compute, at=place, o=others: f(*o[:at], x, *o[at + 1 :]), made[name])
            total = total + pull_back(gradients[step])[0].numpy()
    return total
