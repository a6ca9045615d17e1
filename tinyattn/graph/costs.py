"""What an operation costs: how many sums, products and the like its forward pass takes, and what it keeps.

Floating point operations are counted by formula, as papers do: a product and its sum are two, and each `exp`, `tanh`
or root is one. What only moves numbers costs none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tinyattn.checkpoint import closed_over

Shape = tuple[int, ...]

MOVING = frozenset({"shapes", "selection"})  # modules of rules that compute nothing
PER_NUMBER = {
    "softmax": 5, "log_softmax": 5, "logsumexp": 4, "layer_norm": 8, "rms_norm": 5, "gelu": 8, "silu": 4, "sigmoid": 3,
    "softplus": 3, "cross_entropy": 5, "binary_cross_entropy_with_logits": 6, "mse_loss": 3, "var": 4, "std": 5,
    "dropout": 2, "rope": 3,
}  # fmt: skip
"""Of each number that goes in, where it isn't one."""


def flops(rule: Callable[..., Any], given: Sequence[Shape | None], output: Shape) -> int:
    """The floating point operations of a rule's forward pass, for the shapes of what goes in and comes out."""
    name, x = rule.__name__, given[0] if given and given[0] is not None else ()
    n = math.prod(output)
    if name in ("matmul", "dot") and x and len(given) > 1 and given[1]:
        return 2 * n * x[-1]
    if name == "linear":
        return 2 * n * x[-1] + (n if len(given) > 2 and given[2] is not None else 0)
    if name in ("attention", "attention_weights"):
        return _attention(given, output)
    if name == "multi_head_attention":
        return _multi_head(given, output)
    if name in ("einsum", "tensordot", "outer"):
        return 2 * n * max(1, math.isqrt(math.prod(math.prod(s or ()) for s in given) // max(n, 1)))
    family = (rule.__module__ or "").rpartition(".")[2]
    if family in MOVING:
        return 0
    largest = max([n, *(math.prod(shape) for shape in given if shape is not None)])
    return PER_NUMBER.get(name, 1) * largest


def _attention(given: Sequence[Shape | None], output: Shape) -> int:
    query, key, *others = given
    assert query is not None
    assert key is not None
    heads = math.prod(output[:-2]) * query[-2] * key[-2]
    d_v = output[-1] if others and others[0] is not None and len(others[0]) > 1 else 0
    return heads * (2 * query[-1] + 2 * d_v + PER_NUMBER["softmax"])


def _multi_head(given: Sequence[Shape | None], output: Shape) -> int:
    query, w_query, w_key, w_value, w_output, *_biases, key, value, _bias, _sinks = given
    key = key or query
    value = value or key
    total = 0
    for x, weight in (
        (query, w_query),
        (key, w_key),
        (value, w_value),
        ((*output[:-1], (w_output or (1,))[0]), w_output),
    ):
        assert x is not None
        assert weight is not None
        total += 2 * math.prod(x) * weight[-1]
    assert query is not None
    assert key is not None
    assert w_query is not None
    assert w_output is not None
    pairs = math.prod(query[:-1]) * key[-2]
    return total + pairs * 2 * (w_query[1] + w_output[0])


def kept(backward: Any) -> Iterator[Any]:
    """The arrays that a backward pass holds on to: what the closure of the function, and of those in it, knows."""
    seen: set[int] = set()
    waiting = [backward]
    while waiting:
        x = waiting.pop()
        if id(x) in seen:
            continue
        seen.add(id(x))
        if isinstance(x, np.ndarray | np.generic):
            yield x
        elif isinstance(x, tuple | list):
            waiting.extend(x)
        elif isinstance(x, dict):
            waiting.extend(x.values())
        elif hasattr(x, "func") and hasattr(x, "args"):  # functools.partial
            waiting += [x.func, *x.args, *x.keywords.values()]
        else:
            waiting += closed_over(x)


def is_of(array: Any, x: Any) -> bool:
    """Whether an array is x, or a view of its memory."""
    if array is x:
        return True
    if not isinstance(array, np.ndarray) or not isinstance(x, np.ndarray) or not array.size:
        return False
    return np.may_share_memory(array, x)
