"""The hand, the tape and the numbers beside each other: the function of the face."""

from __future__ import annotations  # numpy.random, which they name, is loaded where it's used

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from tinyattn.rules.checks import check_number
from tinyattn.study import steps
from tinyattn.study.comparison import AGREES, DISPUTED, FOLLOWS, HAND, NOT_GIVEN, NUMBERS, TAPE, WRONG, Comparison, Row
from tinyattn.study.steps import Made, Study, near
from tinyattn.study.witnesses import STEP, by_differences, by_tape, one_step_back

Vector: TypeAlias = "np.ndarray[Any, Any]"
Hand: TypeAlias = Callable[[Vector, dict[str, Any]], Mapping[str, Any]]

MOST = 1000  # numbers of an array that are differenced; of a larger one as many, chosen at random


def side_by_side(
    study: str,
    /,
    *,
    hand: Hand | None = None,
    d_output: Any = None,
    rng: np.random.Generator | int | None = None,
    rtol: float = 1e-6,
    atol: float = 1e-9,
    **inputs: Any,
) -> Comparison:
    """Compare a backward pass that was derived by hand with two witnesses, gradient by gradient.

        side_by_side("softmax", scores=)
        side_by_side("attention", query=, key=, value=, bias=, mask=, causal=, scale=)
        side_by_side("multi_head", x=, w_query=, w_key=, w_value=, w_output=, n_heads=, bias=, mask=, causal=, scale=)

    The inputs of attention are those of `tinyattn.attention`; x is (..., n, d_model), w_query and w_key (d_model,
    n_heads d_k), w_value (d_model, n_heads d_v), w_output (n_heads d_v, d_output). The axis before the last two is that
    of the heads. Without arrays, some of 2 heads are drawn from `rng`. All is compared in float64.

    `hand(d_output, saved)` gets the gradient of the output, and a dict of the inputs and all that the forward pass
    made: `scores`, −∞ where hidden; `weights`; `output`; for multi-head attention `query`, `key`, `value` and `heads`
    of each head, and `mix`, the heads beside each other; `mask` with `causal` worked into it, None where nothing is
    hidden; `scale`. It returns a dict of gradients, `d_scores` and so on, as many as it likes. Without `hand` it is
    that of `tinyattn.by_hand.attention`.

    The tape is that of the smaller rules of which the rest of the computation is made, as a function of the
    intermediate; the numbers are its central differences, of an array of more than 1000 numbers at as many places,
    drawn from `rng`. `d_output` is random unless given. Numbers agree where |a − b| ≤ atol m + rtol max(|a|, |b|) + r,
    m being the largest of that gradient, and r the round-off of differences.

    The result is false where they don't, or where all gradients are zero, so that nothing was seen. It names the first
    gradient of the backward pass that is wrong, with head and index; later ones that are off only because they are made
    of it are said to follow. (`d_weights` isn't compared where a key is hidden: the weight there is zero, whatever the
    score.)

    Raises `TypeError` and `ValueError` for inputs that don't fit, and for a hand that returns anything but gradients by
    name. What the hand itself raises goes through.

    >>> def without_the_row_sum(d_output, saved):
    ...     d_weights = d_output @ saved["value"].T
    ...     return {"d_weights": d_weights, "d_scores": saved["weights"] * d_weights}
    >>> inputs = {"query": np.zeros((1, 2)), "key": np.zeros((2, 2)), "value": np.array([[1.0], [3.0]])}
    >>> found = side_by_side("attention", hand=without_the_row_sum, d_output=[[1.0]], **inputs)
    >>> bool(found), found["d_weights"].status, found["d_scores"].status
    (False, 'agrees', 'WRONG')
    >>> print(found.first)  # 0.5 (1 − 2) and 0.5 (3 − 2) is right
    d_scores (softmax.3) at index (0, 0): 0.5 by hand, -0.5 by the tape, -0.5 by numbers
    """
    parts = steps.study(study)
    if hand is not None and not callable(hand):
        raise TypeError(f"side_by_side: hand must be a function of d_output and saved; got {type(hand).__name__}")
    check_number("side_by_side", "rtol", rtol, 0)
    check_number("side_by_side", "atol", atol, 0)
    rng = _generator(rng)
    made = parts.make(steps.inputs(parts, inputs, rng))
    cotangent = _cotangent(d_output, made[parts.output], rng)
    given = _by_hand(parts, _own_hand(study) if hand is None else hand, made, cotangent)
    trial = _Trial(parts, made, cotangent, rng, rtol, atol)
    rows = tuple(_rows(trial, given))
    ends = [row for row in rows if row.name.removeprefix("d_") not in parts.steps]
    seen = any((abs(row.tape) > trial.noise).any() for row in ends)
    return Comparison(study, rows, None if seen else "all gradients are zero, so that nothing was seen")


class _Trial(NamedTuple):
    """What is compared, and how closely."""

    study: Study
    made: Made
    cotangent: Vector
    rng: np.random.Generator
    rtol: float
    atol: float

    def differ(self, a: Vector, b: Vector, error: Vector) -> bool:
        """Whether two arrays, that far apart, differ anywhere by more than round-off. NaN differs from everything."""
        largest = np.max(abs(b), initial=0.0, where=np.isfinite(b))
        allowed = self.atol * largest + self.rtol * np.fmax(abs(a), abs(b)) + self.noise
        return not bool(((error == 0) | (np.isfinite(error) & (error <= allowed))).all())

    def same(self, a: Vector, b: Vector) -> bool:
        return a.shape == b.shape and not self.differ(a, b, _difference(a, b))

    @property
    def noise(self) -> float:
        """How far differences may be off: the round-off of Σ c · output, over the step."""
        eps = float(np.finfo(np.float64).eps)
        return 8 * eps * float(abs(self.cotangent * self.made[self.study.output]).sum()) / STEP


def _rows(trial: _Trial, given: Mapping[str, Vector]) -> Iterator[Row]:
    """A row for each gradient, in backward order."""
    own: dict[str, Vector] = {}  # the hand's gradients; where it gave none that fits, what follows from its others
    for name in trial.study.gradients:
        if trial.made[name] is None:  # an optional array
            continue
        with np.errstate(invalid="ignore", over="ignore"):  # a hand may give anything
            follows = _follows(trial, name, own)
            row = _row(trial, name, given.get(name), follows)
        own[name] = row.hand if row.hand is not None and row.hand.shape == follows.shape else follows
        yield row


def _follows(trial: _Trial, name: str, own: Mapping[str, Vector]) -> Vector:
    """What the hand should say of a gradient, after what it said of earlier ones; NaN where nothing follows."""
    if name == trial.study.output:
        return trial.cotangent
    if not all(np.isfinite(earlier).all() for earlier in own.values()):
        return np.full(trial.made[name].shape, np.nan)
    return one_step_back(trial.study, trial.made, name, own)


def _row(trial: _Trial, name: str, hand: Vector | None, follows: Vector) -> Row:
    """What the three say of one gradient."""
    study, made, cotangent, rng, *_ = trial
    tape = by_tape(study, made, name, cotangent)
    said = {HAND: hand} if hand is not None and hand.shape == tape.shape else {}
    compared = _compared(name, made)
    moved = _chosen(compared, _difference(said.get(HAND, tape), tape, compared), rng)
    said |= {TAPE: tape, NUMBERS: by_differences(study, made, name, cotangent, map(tuple, np.argwhere(moved)))}

    errors = {
        (a, b): _difference(said[a], said[b], moved if b == NUMBERS else compared)
        for a, b in itertools.combinations(said, 2)
    }
    apart = {(a, b) for (a, b), error in errors.items() if trial.differ(said[a], said[b], error)}
    status, note = _verdict(trial, hand, tape, follows, compared, apart)
    index = None
    most = errors.get((TAPE, NUMBERS) if status == DISPUTED else (HAND, TAPE))
    if status in (DISPUTED, FOLLOWS, WRONG) and most is not None:
        index = tuple(int(i) for i in np.unravel_index(np.argmax(most), most.shape))
    return Row(
        name=f"d_{name}",
        equation=study.gradients[name],
        status=status,
        hand=hand,
        tape=tape,
        numbers=said[NUMBERS],
        differences={pair: float(error.max()) for pair, error in errors.items()},
        index=index,
        head=None if index is None else study.head(name, index, made),
        note=note,
    )


def _verdict(
    trial: _Trial, hand: Vector | None, tape: Vector, follows: Vector, compared: Vector, apart: set[tuple[str, str]]
) -> tuple[str, str]:
    """The status of a row, and a note; `apart` are the witnesses that differ."""
    zero = "" if tape.any() else "all are zero"
    if (TAPE, NUMBERS) in apart:
        return DISPUTED, ""
    if hand is None:
        return NOT_GIVEN, zero
    if hand.shape != tape.shape:
        return WRONG, _misfit(hand, tape)
    if not apart:
        return AGREES, zero
    if not trial.differ(hand, follows, _difference(hand, follows, compared & ~np.isnan(follows))):
        return FOLLOWS, ""
    return WRONG, _guess(hand, follows, trial)


# ---------------------------------------------------------------------------------------------------- what is asked


def _generator(rng: Any) -> np.random.Generator:
    if not isinstance(rng, np.random.Generator | int | np.integer | None):
        raise TypeError(f"side_by_side: rng must be a numpy.random.Generator, or a seed; got {type(rng).__name__}")
    return np.random.default_rng(0 if rng is None else rng)


def _cotangent(d_output: Any, output: Vector, rng: np.random.Generator) -> Vector:
    if d_output is None:
        return np.asarray(rng.normal(size=output.shape))
    cotangent: Vector = steps.as_array("d_output", d_output)
    if cotangent.shape != output.shape:
        raise ValueError(
            f"side_by_side: d_output must have the output's shape, {output.shape}; got {cotangent.shape}"
        )
    return cotangent


def _own_hand(study: str) -> Hand:
    from tinyattn.by_hand import attention

    hand: Hand = getattr(attention, f"{study}_backward")
    return hand


def _by_hand(study: Study, hand: Hand, made: Made, cotangent: Vector) -> dict[str, Vector]:
    """What the hand says, by the names of what it is the gradient in. It is given copies, to do with as it likes."""
    copies = {name: x.copy() if isinstance(x, np.ndarray) else x for name, x in made.items() if name != "causal"}
    returned = hand(cotangent.copy(), copies)
    if not isinstance(returned, Mapping):
        raise TypeError(
            f"side_by_side: the hand must return a dict of gradients, by name; got {type(returned).__name__}"
        )
    known = [f"d_{name}" for name in study.gradients if made[name] is not None]
    found = {}
    for name, gradient in returned.items():
        if name not in known and gradient is not None:
            hint = near(str(name), known) or f" There are {', '.join(known)}"
            raise ValueError(f"side_by_side: the hand returned {name!r}, which isn't compared.{hint}")
        if gradient is not None:
            found[name.removeprefix("d_")] = steps.as_numbers(f"the hand's {name}", gradient)
    if not found:
        raise ValueError(f"side_by_side: the hand returned no gradients, of {', '.join(known)}")
    return found


# ---------------------------------------------------------------------------------------------------- judging


def _difference(a: Vector, b: Vector, compared: Vector | bool = True) -> Vector:
    """|a − b|; ∞ where that is no number, and 0 where it isn't compared."""
    error = abs(a - b)
    return np.where(compared, np.where(np.isfinite(error), error, np.inf), 0.0)


def _compared(name: str, made: Made) -> Vector:
    """Which numbers of a gradient are compared: not what a hidden weight has, of which nothing is made."""
    shape = made[name].shape
    if name == "weights" and made.get("mask") is not None:
        return np.broadcast_to(made["mask"], shape)
    return np.ones(shape, bool)


def _chosen(compared: Vector, error: Vector, rng: np.random.Generator) -> Vector:
    """Which numbers are differenced: all; of many, some at random, and where hand and tape are farthest apart."""
    places = np.flatnonzero(compared)
    if len(places) <= MOST:
        return compared
    chosen = np.zeros(compared.size, bool)
    chosen[rng.choice(places, MOST, replace=False)] = True
    chosen[np.argmax(error)] |= error.any()
    return chosen.reshape(compared.shape)


# ---------------------------------------------------------------------------------------------------- known mistakes


def _misfit(hand: Vector, right: Vector) -> str:
    told = f"of shape {hand.shape}, not {right.shape}"
    if hand.ndim > 1 and hand.swapaxes(-1, -2).shape == right.shape:
        return f"{told}: transposed?"
    summed = hand.ndim > right.ndim or (hand.ndim == right.ndim and hand.size > right.size)
    return f"{told}: not summed over what was broadcast?" if summed else told


def _guess(hand: Vector, right: Vector, trial: _Trial) -> str:
    """How a wrong gradient is made of the right one, where that is seen at once."""
    if not np.isfinite(hand).all():
        return "not finite"
    if not hand.any():
        return "zero everywhere"
    factor = float((hand * right).sum() / (right * right).sum())
    if trial.same(hand, factor * right):
        return f"{factor:.6g} times what it should be"
    if trial.same(hand.swapaxes(-1, -2) if hand.ndim > 1 else hand, right):
        return "transposed"
    if hand.ndim > 2:
        of_heads = np.moveaxis(hand, -3, 0), np.moveaxis(right, -3, 0)
        sources = [next((j for j, r in enumerate(of_heads[1]) if trial.same(h, r)), None) for h in of_heads[0]]
        if None not in sources and sources != list(range(len(sources))):
            return "heads in another order: " + ", ".join(f"{h} has what is {j}'s" for h, j in enumerate(sources))
    return ""
