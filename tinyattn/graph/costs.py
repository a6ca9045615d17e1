"""What an operation costs: how many sums, products and the like its forward pass takes, and what it keeps.

Floating point operations are counted by formula, as papers do: a product and its sum are two, and each `exp`, `tanh`
or root is one. What only moves numbers costs none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tinyattn.checkpoint import closed_over
from tinyattn.nodes import NO_OPTIONS

Shape = tuple[int, ...]

MOVING = frozenset({"shapes", "selection"})  # modules of rules that compute nothing
PER_NUMBER = {
    "softmax": 5, "log_softmax": 5, "logsumexp": 4, "layer_norm": 8, "rms_norm": 5, "gelu": 8, "silu": 4, "sigmoid": 3,
    "softplus": 3, "cross_entropy": 5, "binary_cross_entropy_with_logits": 6, "mse_loss": 3, "var": 4, "std": 5,
    "dropout": 2, "rope": 3,
}  # fmt: skip
"""Of each number that goes in, where it isn't one."""


def flops(
    rule: Callable[..., Any], given: Sequence[Shape | None], output: Shape, options: Mapping[str, Any] = NO_OPTIONS
) -> int:
    """The floating point operations of a rule's forward pass, for the shapes of what goes in and comes out.

    What a checkpoint or a compiled program computes inside isn't counted here.
    """
    name, x = rule.__name__, given[0] if given and given[0] is not None else ()
    n = math.prod(output)
    if name in ("matmul", "dot") and x and len(given) > 1 and given[1]:
        return 2 * n * x[-1]
    if name == "linear":
        return 2 * n * x[-1] + (n if len(given) > 2 and given[2] is not None else 0)
    if name in ("attention", "attention_weights"):
        return _attention(given, output)
    if name == "multi_head_attention":
        return _multi_head(given, output, int(options["n_heads"]))
    if name == "einsum":
        return _einsum(str(options["subscripts"]), [shape or () for shape in given])
    if name == "tensordot":  # the sizes that are summed over are in both
        return 2 * n * math.isqrt(math.prod(math.prod(s or ()) for s in given) // max(n, 1))
    if name in ("checkpoint", "program"):
        return 0
    if name == "outer":
        return n
    family = (rule.__module__ or "").rpartition(".")[2]
    if family in MOVING:
        return 0
    largest = max([n, *(math.prod(shape) for shape in given if shape is not None)])
    return PER_NUMBER.get(name, 1) * largest


def _einsum(subscripts: str, shapes: Sequence[Shape]) -> int:
    """For each choice of the indices one product less than there are operands, and a sum where any is summed over."""
    sizes: dict[str, int] = {}
    inputs, arrow, output = subscripts.replace(" ", "").partition("->")
    for letters, shape in zip(inputs.split(","), shapes, strict=True):
        before, dots, after = letters.partition("...")
        lead = len(shape) - len(after) if dots else len(before)
        for letter, size in [*zip(before, shape, strict=False), *zip(after, shape[lead:], strict=True)]:
            sizes[letter] = max(size, sizes.get(letter, 1))
        for place, size in enumerate(reversed(shape[len(before) : lead])):  # the axes behind the dots, from the last on
            sizes[f"...{place}"] = max(size, sizes.get(f"...{place}", 1))
    kept = output if arrow else "".join(letter for letter in sizes if inputs.count(letter) == 1)
    sums = any(letter not in kept for letter in sizes if len(letter) == 1)
    return math.prod(sizes.values()) * (len(shapes) - 1 + sums)


def _attention(given: Sequence[Shape | None], output: Shape) -> int:
    query, key, *others = given
    assert query is not None
    assert key is not None
    heads = math.prod(output[:-2]) * query[-2] * key[-2]
    d_v = output[-1] if others and others[0] is not None and len(others[0]) > 1 else 0
    return heads * (2 * query[-1] + 2 * d_v + PER_NUMBER["softmax"])


def _multi_head(given: Sequence[Shape | None], output: Shape, n_heads: int) -> int:
    query, w_query, w_key, w_value, w_output, *biases, key, value, _bias, _sinks = given
    key = key or query
    value = value or key
    total = 0
    mix = (*output[:-1], (w_output or (1,))[0])
    projections = ((query, w_query), (key, w_key), (value, w_value), (mix, w_output))
    for (x, weight), bias in zip(projections, biases, strict=True):
        assert x is not None
        assert weight is not None
        total += 2 * math.prod(x) * weight[-1] + (0 if bias is None else math.prod(x[:-1]) * weight[-1])
    assert query is not None
    assert key is not None
    assert w_query is not None
    assert w_output is not None
    pairs = math.prod(query[:-1]) * key[-2]
    return total + pairs * (2 * (w_query[1] + w_output[0]) + n_heads * PER_NUMBER["softmax"])


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
    if not np.may_share_memory(array, x):  # by their bounds, which overlap for slices side by side
        return False
    return array.strides != x.strides or np.shares_memory(array, x)  # of the same strides it's quickly told
