"""Exact attention for many small heads: one pass over all of their scores for each step of the formula.

The formulas are those of `kernels/blocked.py`, without blocks and without a top: where no exponent is far from 0, and
that is looked at once for all of them, e_ij = 2^(x_ij) can stand for the weights until the sum is known. With
l_i = Σ_j e_ij, everything that is divided by l has n × d numbers, never n × n:

    o_i = (Σ_j e_ij v_j) / l_i                                                               (attention.3)
    u_i = d_o_i / l_i,   d_s_ij = e_ij (u_i · v_j − u_i · o_i)                               (softmax.3)

Where heads share keys, their queries stand one after the other as those of one head. What is far from 0, or not finite,
the readable rule does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import numpy as np

from tinyattn.kernels.call import LOG2_E, Call, kept_of, kept_share, ones, scratch, summed_to, triangle
from tinyattn.kernels.threads import run
from tinyattn.rules.registry import Array, Gradients

SCORES = 1 << 17  # of a part: they should stay in the processor's cache
SHARED = 1 << 18  # from so many on, threads share the work
KEPT = 1 << 22  # so many at most are remembered for the way back; more are computed again

Part = tuple[slice, ...]  # of the first two axes at most


def attention(call: Call, wanted: tuple[bool, ...]) -> tuple[Array, Callable[..., Any]] | None:
    """The output, and the backward pass; None for either where the readable rule has to do it."""
    rows, dtype = call.query.shape[:-1], call.query.dtype
    n_keys, d_v = call.value.shape[-2:]
    parts, n_scores = _parts(rows, n_keys)
    output, inverse = np.empty((*rows, d_v), dtype), np.empty((*rows, 1), dtype)
    exp = np.empty((*rows, n_keys), dtype) if n_scores <= KEPT and True in wanted else None
    pieces = [(_cut(call, part), *_cut_all(part, output, inverse, exp)) for part in parts]
    is_large = n_scores >= SHARED
    if not _each(_forward, pieces, is_large):
        return None

    def backward(d_output: Array, into: Gradients) -> Any:
        d_output = d_output.reshape(output.shape)
        gradients, places = zip(*map(call.room, range(3), into), strict=True)
        shared: list[list[Array]] = [[] for _ in parts]
        tasks = [
            (*piece, *_cut_all(part, d_output, *places), wanted, sums_of_part)
            for part, piece, sums_of_part in zip(parts, pieces, shared, strict=True)
        ]
        if not _each(_backward, tasks, is_large):
            return None
        of_bias, of_sinks = zip(*shared, strict=True)
        return *gradients, _gathered(call, 3, parts, of_bias), _gathered(call, 4, parts, of_sinks)

    return output.reshape(call.shape), backward


# ---------------------------------------------------------------------------------------------------- parts


@lru_cache(256)
def _parts(rows: tuple[int, ...], n_keys: int) -> tuple[list[Part], int]:
    """What is computed at once, by shapes alone; an empty part is everything. And how many scores there are.

    Parts are of the first axis; where one item of it is too large already, of the second one.
    """
    total = math.prod(rows) * n_keys
    at_once = min(SCORES, -(-total // 2)) if total >= SHARED else SCORES
    if total <= at_once:
        return [()], total
    n, *inner = rows[:-1]
    of_item = total // n
    if of_item <= at_once or not inner:
        return [(x,) for x in _slices(n, at_once // of_item)], total
    step = at_once // (of_item // inner[0])
    return [(slice(i, i + 1), x) for i in range(n) for x in _slices(inner[0], step)], total


def _slices(n: int, step: int) -> list[slice]:
    step = max(step, 1)
    return [slice(i, min(i + step, n)) for i in range(0, n, step)]


def _each(f: Callable[..., bool], tasks: list[Any], side_by_side: bool) -> bool:
    """Whether f is true of all of them."""
    if not side_by_side:
        return False not in [f(*task) for task in tasks]
    told: list[bool] = []
    run([partial(lambda task: told.append(f(*task)), task) for task in tasks])
    return all(told)


def _cut(call: Call, part: Part) -> Call:
    """The part of a call."""
    if not part:
        return call
    dropped = None if call.dropped is None else (call.dropped[0][part], *call.dropped[1:])
    shared = [None if x is None else _of(x, part) for x in (call.bias, call.sinks, call.mask)]
    return Call._make([*_cut_all(part, call.query, call.key, call.value), *shared, dropped, *call[7:]])


def _cut_all(part: Part, *arrays: Array) -> tuple[Array, ...]:
    return arrays if not part else tuple([None if x is None else x[part] for x in arrays])


def _of(x: Array, part: Part) -> Array:
    """What belongs to a part of something that may be shared."""
    return x[tuple([slice(None) if n == 1 else own for n, own in zip(x.shape, part)])]  # noqa: B905


def _gathered(call: Call, i: int, parts: list[Part], sums: tuple[Array, ...]) -> Array:
    """The gradient of bias or sinks, of the sums of all parts; in one order, so that it's the same each time."""
    if sums[0] is None:
        return None
    gradient, places = call.room(i, fill=np.zeros)
    for part, of_part in zip(parts, sums, strict=True):
        place = _of(places, part)
        place += of_part
    return gradient


# ---------------------------------------------------------------------------------------------------- one part


def _dots(call: Call, factor: float, out: Array) -> Array:
    query = np.multiply(call.query, factor, scratch("query", call.query.shape, call.query.dtype))
    return np.matmul(query, call.key.swapaxes(-1, -2), out)


def _bend(call: Call, out: Array) -> Array:
    """What a softcap's tanh gives."""
    assert call.softcap is not None
    return np.tanh(_dots(call, call.scale / call.softcap, out), out)


def _exponentials(call: Call, out: Array) -> tuple[Array, bool]:
    """2^x of a part, 0 where hidden; and whether anything may be."""
    if call.softcap is None:
        x = _dots(call, call.scale * LOG2_E, out)
    else:
        x = _bend(call, out)
        x *= call.softcap * LOG2_E
    if call.bias is not None:
        pairs = _pairs(call, x)
        pairs += call.bias * LOG2_E
    exp = np.exp2(x, x)
    return exp, _hide(call, exp)


def _hide(call: Call, x: Array) -> bool:
    """0 where hidden; whether anything may be."""
    first, last = call.band
    n_queries, n_keys = call.shape[-2], x.shape[-1]
    late, early = last < n_keys - 1, first > 1 - n_queries
    if call.mask is None and not late and not early:
        return False
    pairs = _pairs(call, x)
    if late:
        pairs *= _factors(n_queries, n_keys, int(last), False, x.dtype)
    if early:
        pairs *= _factors(n_queries, n_keys, int(first), True, x.dtype)
    if call.mask is not None:
        pairs *= call.mask
    return True


@lru_cache(16)
def _factors(n: int, n_keys: int, k: int, above: bool, dtype: Any) -> Array:
    """The triangle as numbers, which are multiplied faster than truth values."""
    return triangle(n, n_keys, k, above).astype(dtype)


def _pairs(call: Call, scores: Array) -> Array:
    """The scores with the axis of heads that share, (..., share, n_queries, n_keys), for what has to broadcast."""
    *lead, rows, n_keys = scores.shape
    share = call.lead[-1]
    return scores.reshape(*lead, share, rows // share, n_keys)


def _row_sums(x: Array, out: Array) -> Array:
    """One product for all rows."""
    n = x.shape[-1]
    np.matmul(x.reshape(-1, n), ones(n, x.dtype), out.reshape(-1))
    return out


def _dropped(call: Call, exp: Array) -> tuple[Array, Array]:
    """The weights that are left, and which."""
    assert call.dropped is not None
    kept = kept_of(*call.dropped).reshape(exp.shape)
    return np.multiply(exp, kept, scratch("mixing", exp.shape, exp.dtype)), kept


def _forward(call: Call, output: Array, inverse: Array, exp: Array) -> bool:
    """o, 1/l and e of a part; false where l is far from 1, or something isn't finite."""
    sums, dtype = inverse, output.dtype
    with np.errstate(all="ignore"):
        room = scratch("exp", (*sums.shape[:-1], call.key.shape[-2]), dtype) if exp is None else exp
        exp, hidden = _exponentials(call, room)
        _row_sums(exp, sums)
        if call.sinks is not None:  # a score that brings no value
            sinks = _pairs(call, sums)
            sinks += np.exp2(call.sinks * LOG2_E)
        mixing = exp
        if call.dropped is not None:
            mixing, _ = _dropped(call, exp)
            sums *= kept_share(call)
        of_sums = _square(sums)  # it and the next are finite where l is neither very large nor very small
        np.reciprocal(sums, inverse)
        of_inverse = _square(inverse)
        if hidden and not math.isfinite(of_inverse):
            of_inverse = _square(_give_nothing(call, exp.shape, inverse))
        np.matmul(mixing, call.value, output)
        output *= inverse
        return math.isfinite(of_sums + of_inverse + _square(output))


def _give_nothing(call: Call, shape: tuple[int, ...], inverse: Array) -> Array:
    """1/l, 0 for the queries that may attend to nothing, whose l is 0."""
    if call.sinks is None:
        seen = np.ones(shape, inverse.dtype)
        _hide(call, seen)
        inverse[~seen.any(axis=-1, keepdims=True)] = 0
    return inverse


def _square(x: Array) -> float:
    """Σ x², which isn't finite where any number isn't."""
    return float(np.vdot(x, x))


def _backward(
    call: Call,
    output: Array,
    inverse: Array,
    exp: Array,
    d_output: Array,
    d_query: Array,
    d_key: Array,
    d_value: Array,
    wanted: tuple[bool, ...],
    shared: list[Array],
) -> bool:
    """The gradients of a part: query's, key's and value's in their places, and the sums of those of bias and sinks.

    False where something isn't finite.
    """
    dtype = output.dtype
    with np.errstate(all="ignore"):
        if exp is None:
            exp, _ = _exponentials(call, scratch("exp", (*inverse.shape[:-1], call.key.shape[-2]), dtype))
        u = np.multiply(d_output, inverse, scratch("u", output.shape, dtype))
        mean = np.multiply(u, output, scratch("product", output.shape, dtype))
        mean = _row_sums(mean, scratch("mean", inverse.shape, dtype))
        d_s = np.matmul(u, call.value.swapaxes(-1, -2), scratch("d_s", exp.shape, dtype))
        mixing = exp
        if call.dropped is not None:
            mixing, kept = _dropped(call, exp)
            mean *= kept_share(call)
            d_s *= kept
        np.matmul(mixing.swapaxes(-1, -2), u, d_value)  # (attention.4)
        d_s -= mean
        d_s *= exp  # (softmax.3)
        shared += [None, None]
        if call.bias is not None and wanted[3]:
            shared[0] = _summed_as(call.bias, _pairs(call, d_s))  # (attention.8)
        if call.sinks is not None and wanted[4]:
            shared[1] = -_summed_as(call.sinks, np.exp2(call.sinks * LOG2_E) * _pairs(call, mean))  # (attention.9)
        if call.softcap is not None:
            bent = _bend(call, scratch("bent", exp.shape, dtype))
            bent *= bent
            d_s *= np.subtract(1, bent, bent)  # (attention.11)
        d_s *= call.scale
        np.matmul(d_s, call.key, d_query)  # (attention.6)
        np.matmul(d_s.swapaxes(-1, -2), call.query, d_key)  # (attention.7)
        return math.isfinite(_square(d_s))  # u, v and o are in it


def _summed_as(x: Array, pairs: Array) -> Array:
    """The sum of pairs over the axes that x shares."""
    return summed_to(pairs, tuple(1 if n == 1 else m for n, m in zip(x.shape, pairs.shape, strict=True)))
