"""Floor 1: finds the first operation, forward or backward, that makes a NaN or an infinity."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from tinyattn.nodes import WATCHED, Node, Rule, mode, place, place_now
from tinyattn.rules.registry import Array, argument


@contextmanager
def detect_anomaly() -> Iterator[None]:
    """Raise `FloatingPointError` at the first operation inside that makes a NaN or an infinity, with the user's line.

    An operation makes a NaN where none of its inputs has one, and an infinity where all of them are finite; going back,
    where the gradient that it got is finite. What starts from a leaf that holds a NaN is told with the leaf's name. For
    this thread alone. It costs a look at every array, so that it is for looking, not for long runs.

    >>> import numpy as np, tinyattn as ta
    >>> x = ta.tensor([0.0, 1.0], requires_grad=True)
    >>> with detect_anomaly(), np.errstate(divide="ignore"):
    ...     y = ta.sqrt(x).sum()  # 0 at 0, with an infinite slope there
    ...     y.backward()  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    FloatingPointError: backward: sqrt ... gave x, of shape (2,), an infinity at (0,): ...
    """
    token = mode.set(mode.get() | WATCHED)
    try:
        yield
    finally:
        mode.reset(token)


def watch_forward(rule: Rule, inputs: Sequence[Any], output: Array) -> None:
    """Raise where the output holds something that its inputs didn't."""
    arrays = [(x, x._data if isinstance(x, Node) else x) for x in inputs if x is not None]
    for x, array in arrays:
        if isinstance(x, Node) and x._rule is None and _first(np.isnan, array) is not None:
            called = f"the tensor {x.name!r}" if x.name else "a leaf"
            raise FloatingPointError(
                f"{rule.__name__}{_here()} was given {called}, of shape {array.shape}, that holds a NaN"
                f" at {_first(np.isnan, array)}: nothing here made it"
            )
    for what, bad, excuse in (("a NaN", np.isnan, np.isnan), ("an infinity", np.isinf, _not_finite)):
        index = _first(bad, output)
        if index is not None and not any(_first(excuse, array) is not None for _, array in arrays):
            raise FloatingPointError(f"{rule.__name__}{_here()} made {what} at {index}, from {_given(arrays)}")


def watch_backward(node: Node, d_output: Array, gradients: Sequence[Any]) -> None:
    """Raise where a finite gradient became one that isn't."""
    assert node._rule is not None
    if _first(_not_finite, _plain(d_output)) is not None:
        return
    for i, gradient in enumerate(gradients):
        if gradient is None:
            continue
        for what, bad in (("a NaN", np.isnan), ("an infinity", np.isinf)):
            index = _first(bad, _plain(gradient))
            if index is not None:
                where = place(node)
                raise FloatingPointError(
                    f"backward: {node._rule.__name__}{f' ({where})' if where else ''} gave {argument(node._rule, i)},"
                    f" of shape {np.shape(_plain(gradient))}, {what} at {index}: the gradient of its output was finite,"
                    f" and its inputs were {_given([(x, _plain(x)) for x in node._inputs or () if x is not None])}"
                )


def _first(bad: Any, array: Any) -> tuple[int, ...] | None:
    """The index of the first number that is bad."""
    if np.asarray(array).dtype.kind not in "fc":
        return None
    where = np.argwhere(bad(array))
    return tuple(int(i) for i in where[0]) if len(where) else None


def _not_finite(array: Any) -> Any:
    return ~np.isfinite(array)


def _plain(x: Any) -> Any:
    return x._data if isinstance(x, Node) else x


def _here() -> str:
    where = place_now()
    return f" ({where})" if where else ""


def _given(arrays: Sequence[tuple[Any, Any]]) -> str:
    """What went in: its shape and the range of its numbers."""
    told = []
    for x, array in arrays:
        called = f"{x.name} " if isinstance(x, Node) and x.name else ""
        numbers = np.asarray(array)
        if numbers.dtype.kind not in "fiu" or not numbers.size:
            told.append(f"{called}{numbers.dtype} {numbers.shape}")
        else:
            low, high = (f"{float(number):.4g}" for number in (numbers.min(), numbers.max()))
            told.append(f"{called}{numbers.shape} in {low} … {high}" if numbers.ndim else f"{called}{low}")
    return "; ".join(told) or "nothing"
