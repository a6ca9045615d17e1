"""Exact attention in blocks of queries and keys: no array of n_queries × n_keys is made, forward or backward.

A tile is some queries by some keys. Its scores live in a buffer that stays in the processor's cache, and is used again
for the next tile. The formulas are those of `rules/attention.py`, with powers of 2, which are cheaper than those of e:

    x_ij = (s_ij − t_i) log₂e,   t_i the top of row i,   l_i = log₂ Σ_j 2^x_ij
    o_i  = Σ_j 2^x_ij v_j / Σ_j 2^x_ij                                                       (attention.3)

Forward, the sums run over the tiles of a row; where a tile brings a higher top, what was summed so far is scaled down
(Milakov and Gimelshein 2018, arXiv:1805.02867). Where no score can be far from 0, t_i = 0 does for all, and the top
isn't looked for: |q · k| ≤ ‖q‖ ‖k‖. Backward, the weights are computed again from l (Dao et al. 2022, arXiv:2205.14135,
section 3.1):

    w_ij = 2^(x_ij − l_i),   D_i = Σ_j w_ij d_w_ij = d_o_i · o_i,   d_s_ij = w_ij (d_w_ij − D_i)

Both differences come out of the matrix products themselves: (q_i, −l_i) · (k_j, 1) = x_ij − l_i. Where scores are large
the top is taken off first, and the rest after it, so that no digits are lost.

What a query may not see may be anything that is finite: it's multiplied by 0. Where something isn't, the readable rule
does the work, some queries at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from tinyattn.kernels.call import (
    LIMITS,
    LOG2_E,
    Call,
    Head,
    kept_of,
    kept_share,
    ones,
    place,
    scratch,
    summed_to,
    triangle,
)
from tinyattn.kernels.threads import run
from tinyattn.rules import attention as readable
from tinyattn.rules.registry import Array, Gradients, Result

QUERIES, KEYS = 1024, 256  # of a tile
TASKS = 8  # at least so many, where there are queries enough
SUMS = 16 << 20  # bytes at most for what tasks sum up side by side
CAREFUL = 1 << 20  # scores at most that the readable rule has at once

EASY, SHIFTED, NOT_FINITE = range(3)


def attention(call: Call, wanted: tuple[bool, ...]) -> tuple[Array, Callable[..., Gradients]]:
    """The output, and the backward pass, which gives None for gradients of bias and sinks that aren't wanted."""
    mixed, tops, log_sums = _forward(call)

    def backward(d_output: Array, into: Gradients) -> Gradients:  # tiles are added up elsewhere
        d_mixed = np.broadcast_to(d_output, call.shape).reshape(mixed.shape)
        return _backward(call, Forward(mixed, d_mixed, tops, log_sums), wanted)

    return mixed.reshape(call.shape), backward


def _with_column(name: str, x: Array, column: Any, factor: float = 1.0) -> Array:
    """x, scaled, and one more column."""
    n, d = x.shape
    wider = scratch(name, (n, d + 1), x.dtype)
    np.multiply(x, x.dtype.type(factor), out=wider[:, :d])
    wider[:, d] = column
    return wider


# ---------------------------------------------------------------------------------------------------- tiles


def _blocks(whole: slice, step: int) -> Iterator[slice]:
    return (slice(i, min(i + step, whole.stop)) for i in range(whole.start, whole.stop, step))


def _tiles(call: Call, queries: slice) -> Iterator[tuple[slice, slice, slice]]:
    """The tiles of a block of queries that aren't wholly hidden: the queries, their rows in the block, the keys."""
    first, last = call.band
    for keys in _blocks(slice(0, call.key.shape[-2]), KEYS):
        start, stop = max(queries.start, keys.start - last), min(queries.stop, keys.stop - first)
        if start < stop:
            seen = slice(int(start), int(stop))
            yield seen, slice(seen.start - queries.start, seen.stop - queries.start), keys


def _hidden_in_part(call: Call, head: Head, queries: slice, keys: slice) -> Iterator[tuple[slice, Array]]:
    """Rows of a tile of which something is hidden, and what isn't: several times, and all of them hold."""
    if call.mask is not None:
        visible = _part(call, "mask", head, queries, keys)
        if not visible.all():
            yield slice(None), visible
    first, last = call.band
    n, n_keys = queries.stop - queries.start, keys.stop - keys.start
    off = queries.start - keys.start
    stop = int(max(0, min(n, n_keys - 1 - off - last)))  # rows from there on see the tile's last key
    if stop > 0:
        yield slice(0, stop), triangle(stop, n_keys, int(off + last))
    start = int(min(n, max(0, 1 - off - first)))  # rows before that see the tile's first key
    if start < n:
        yield slice(start, n), triangle(n - start, n_keys, int(off + start + first), True)


def _part(call: Call, name: str, head: Head, queries: slice, keys: slice) -> Array:
    """What belongs to a tile of the mask or the bias, which may have a single row or column for all."""
    return _tile_of(call.of(name, head), queries, keys)


def _scores(
    call: Call, head: Head, q: Array, k: Array, queries: slice, keys: slice, unit: float, x: Array, bent: Array
) -> None:
    """s_ij of a tile, less what the columns of q and k take off, in that unit. A softcap's tanh is left in `bent`."""
    np.matmul(q, k.T, out=x)
    if call.softcap is not None:
        np.tanh(x, out=bent)
        np.multiply(bent, x.dtype.type(call.softcap * unit), out=x)
    if call.bias is not None:  # where the unit is 1, see `_way`
        x += _part(call, "bias", head, queries, keys)


def _bury(call: Call, head: Head, queries: slice, keys: slice, x: Array) -> None:
    """−∞ where hidden."""
    for rows, visible in _hidden_in_part(call, head, queries, keys):
        np.copyto(x[rows], -np.inf, where=~visible)


def _hide(call: Call, head: Head, queries: slice, keys: slice, weights: Array) -> None:
    """0 where hidden."""
    for rows, visible in _hidden_in_part(call, head, queries, keys):
        weights[rows] *= visible


def _power(x: Array) -> None:
    """2^x in place of x ≤ 0, and 0 for what is nothing beside 1: denormal numbers are slow."""
    low = LIMITS[x.dtype].low
    matters = x > low
    np.maximum(x, low, out=x)
    np.exp2(x, out=x)
    x *= matters


def _kept(call: Call, head: Head, queries: slice, keys: slice) -> Array:
    """Which weights of a tile aren't dropped."""
    assert call.dropped is not None
    rows, columns, p = call.dropped
    return kept_of(rows[head][queries], columns[keys], p)


def _unit(shifted: bool) -> float:
    """What scores are counted in: in powers of 2 at once, unless the top has to be taken off before."""
    return 1.0 if shifted else LOG2_E


def _q_factor(call: Call, unit: float) -> float:
    """What q is multiplied by, so that its product with k is the score, or with a softcap what tanh is given."""
    return call.scale * unit if call.softcap is None else call.scale / call.softcap


class Extent(NamedTuple):
    """How long the longest key is, and how large the largest value; NaN or infinite where any is."""

    key: float
    value: float


def _extent(k: Array, v: Array) -> Extent:
    return Extent(_longest(k), max(float(v.max(initial=0)), -float(v.min(initial=0))))


def _longest(x: Array) -> float:
    return math.sqrt(np.einsum("ij,ij->i", x, x).max(initial=0))


def _way(call: Call, head: Head, q: Array, extent: Extent) -> int:
    """How a block of queries is gone about: whether the top has to be looked for, or there is something not finite."""
    farthest = _longest(q) * extent.key * abs(call.scale) * LOG2_E
    if not math.isfinite(farthest + extent.value):
        return NOT_FINITE
    if call.softcap is not None:
        farthest = min(farthest, call.softcap * LOG2_E)
    if call.sinks is not None:
        farthest = max(farthest, abs(float(call.of("sinks", head)[0, 0])) * LOG2_E)
    limits = LIMITS[q.dtype]
    easy = call.bias is None and farthest <= limits.easy and extent.value <= limits.value
    return EASY if easy else SHIFTED


# ---------------------------------------------------------------------------------------------------- forward


def _forward(call: Call) -> tuple[Array, Array, Array]:
    """o (*lead, n_queries, d_v), and t and l (*lead, n_queries)."""
    n_queries = call.query.shape[-2]
    mixed = np.empty((*call.lead, n_queries, call.value.shape[-1]), call.query.dtype)
    tops, log_sums = (np.empty(mixed.shape[:-1], mixed.dtype) for _ in range(2))
    step = max(QUERIES, math.ceil(n_queries * math.prod(call.lead) / TASKS))
    blocks = reversed(list(_blocks(slice(0, n_queries), step)))  # with causal, the last ones take longest
    found = (mixed, tops, log_sums)
    run([partial(_forward_task, call, h, b, *[x[h] for x in found]) for b in blocks for h in np.ndindex(call.lead)])
    return found


def _forward_task(call: Call, head: Head, queries: slice, mixed: Array, tops: Array, log_sums: Array) -> None:
    q, k, v = call.of("query", head), call.of("key", head), call.of("value", head)
    with np.errstate(all="ignore"):
        extent = _extent(k, v)
        for block in _blocks(queries, QUERIES):
            way = _way(call, head, q[block], extent)
            if way == NOT_FINITE:
                for few in _blocks(block, max(1, CAREFUL // len(k))):
                    mixed[few], _ = _readably(call, head, few)
            else:
                found = mixed[block], tops[block], log_sums[block]
                _forward_block(call, head, block, q[block], k, v, way == SHIFTED, *found)


def _forward_block(
    call: Call, head: Head, block: slice, q: Array, k: Array, v: Array, shifted: bool,
    mixed: Array, tops: Array, log_sums: Array,
) -> None:  # fmt: skip
    n, dtype, unit = len(q), q.dtype, _unit(shifted)
    q = np.multiply(q, dtype.type(_q_factor(call, unit)), out=scratch("q", q.shape, dtype))
    mixed[...] = 0
    sums, top = np.zeros(n, dtype), np.full(n, -np.inf if shifted else 0, dtype)
    if call.sinks is not None:  # a first score, which brings no value
        sink = call.of("sinks", head)[0, 0]
        sums[...], top[...] = (1, sink) if shifted else (np.exp(sink), 0)
    for queries, rows, keys in _tiles(call, block):
        shape = (rows.stop - rows.start, keys.stop - keys.start)
        x = scratch("x", shape, dtype)
        _scores(call, head, q[rows], k[keys], queries, keys, unit, x, x)
        if shifted:
            _bury(call, head, queries, keys, x)
            higher = np.maximum(top[rows], x.max(axis=1))
            shift = np.where(higher == -np.inf, 0, higher)
            x -= shift[:, None]
            x *= dtype.type(LOG2_E)
            _power(x)
            fade = np.exp(top[rows] - shift)
            sums[rows] *= fade
            mixed[rows] *= fade[:, None]
            top[rows] = higher
        else:
            np.exp2(x, out=x)
            _hide(call, head, queries, keys, x)
        sums[rows] += x @ ones(shape[1], dtype)
        if call.dropped is not None:
            x *= _kept(call, head, queries, keys)
        mixed[rows] += np.matmul(x, v[keys], out=scratch("product", (shape[0], v.shape[1]), dtype))
    nothing = sums == 0
    np.divide(mixed, np.where(nothing, 1, sums * dtype.type(kept_share(call)))[:, None], out=mixed)
    np.copyto(tops, np.where(top == -np.inf, 0, top))
    np.copyto(log_sums, np.where(nothing, np.inf, np.log2(sums)))


def _readably(call: Call, head: Head, queries: slice) -> Result:
    """Some queries of a head, by the readable rule."""
    q, k, v = call.of("query", head)[queries], call.of("key", head), call.of("value", head)
    everything = slice(0, len(k))
    visible = np.ones((len(q), len(k)), bool)
    for rows, part in _hidden_in_part(call, head, queries, everything):
        visible[rows] &= part
    bias = None if call.bias is None else _part(call, "bias", head, queries, everything)
    sinks = None if call.sinks is None else call.of("sinks", head)[0, 0]
    dropped = None
    if call.dropped is not None:
        dropped = (call.dropped[0][head][queries], *call.dropped[1:])
    return readable.attention(
        q, k, v, bias, sinks, mask=visible, scale=call.scale, softcap=call.softcap, dropped=dropped
    )


# ---------------------------------------------------------------------------------------------------- backward


class Forward(NamedTuple):
    """What the forward pass found, and the gradient of its output."""

    mixed: Array
    d_mixed: Array
    tops: Array
    log_sums: Array

    def of(self, head: Head, block: slice) -> Forward:
        """What belongs to some queries of a head."""
        return Forward(*[x[head][block] for x in self])


class Gradient(NamedTuple):
    """Where the gradients are added up: of arrays of the call, and for each query what went to the sink."""

    query: Array
    key: Array
    value: Array
    bias: Array
    to_sinks: Array

    def of(self, name: str, head: Head) -> Array:
        """The matrix of that name that belongs to a head."""
        x = getattr(self, name)
        return None if x is None else x[place(x, head)]


def _backward(call: Call, found: Forward, wanted: tuple[bool, ...]) -> Gradients:
    with_bias, with_sinks = call.bias is not None and wanted[3], call.sinks is not None and wanted[4]
    summed = [call.query, call.key, call.value, *([call.bias] if with_bias else [])]
    together = list(_heads_together(call.lead, summed))
    n_queries, n_parts = call.query.shape[-2], _n_parts(call, len(together))
    d_query, of_query = call.room(0, fill=np.zeros)
    # What several parts of the queries add to, each adds to an array of its own.
    d_keys, d_values = ([call.room(i, fill=np.zeros) for _ in range(n_parts)] for i in (1, 2))
    is_shared = with_bias and call.bias.shape[-2] == 1
    n_biases = n_parts if is_shared else 1
    d_biases = [call.room(3, fill=np.zeros) for _ in range(n_biases)] if with_bias else [(None, None)]
    to_sinks = np.zeros_like(found.log_sums) if with_sinks else None
    tasks = []
    for i, queries in reversed(list(enumerate(_blocks(slice(0, n_queries), math.ceil(n_queries / n_parts))))):
        of_bias = d_biases[i if is_shared else 0][1]
        gradient = Gradient(of_query, d_keys[i][1], d_values[i][1], of_bias, to_sinks)
        tasks += [partial(_backward_task, call, heads, queries, found, gradient) for heads in together]
    run(tasks)
    d_sinks = None
    if to_sinks is not None:
        d_sinks = -summed_to(to_sinks.sum(axis=-1)[..., None, None], call.sinks.shape).reshape(call.given[4])
    return d_query, *map(_added_up, (d_keys, d_values, d_biases)), d_sinks


def _added_up(parts: list[tuple[Array, Array]]) -> Array:
    """The first array, and all others added to it in their order."""
    (first, _), *others = parts
    for other, _ in others:
        first += other
    return first


def _heads_together(lead: Head, summed: list[Array]) -> Iterator[list[Head]]:
    """Groups of heads that add to the same gradients, to be done in one order by one task."""
    shared = tuple(n if any(x.shape[axis] == 1 for x in summed) else 1 for axis, n in enumerate(lead))
    for start in np.ndindex(*(n // of_one for n, of_one in zip(lead, shared, strict=True))):
        yield [tuple(map(sum, zip(start, inner, strict=True))) for inner in np.ndindex(shared)]


def _n_parts(call: Call, n_tasks: int) -> int:
    """Into how many parts the queries are cut, each with sums of its own for keys and values: by shapes alone."""
    n_queries, n_bytes, n = call.query.shape[-2], call.key.nbytes + call.value.nbytes, 1
    while n_tasks * n < TASKS and 2 * n * n_bytes <= SUMS and n_queries >= 2 * n * QUERIES:
        n *= 2
    return n


def _backward_task(call: Call, heads: list[Head], queries: slice, found: Forward, gradient: Gradient) -> None:
    with np.errstate(all="ignore"):
        for head in heads:
            q, k, v = call.of("query", head), call.of("key", head), call.of("value", head)
            extent = _extent(k, v)
            plain = call.softcap is not None
            k_1 = k if plain else _with_column("key, 1", k, 1)
            v_1 = v if call.dropped is not None else _with_column("value, 1", v, 1)
            for block in _blocks(queries, QUERIES):
                way = _way(call, head, q[block], extent)
                if way == NOT_FINITE or not _stays_finite(found.d_mixed[head][block], extent):
                    for few in _blocks(block, max(1, CAREFUL // len(k))):
                        _backward_readably(call, head, few, found.d_mixed[head][few], gradient)
                else:
                    shifted = way == SHIFTED
                    _backward_block(call, head, block, q[block], k, k_1, v_1, shifted, found.of(head, block), gradient)


def _stays_finite(d_o: Array, extent: Extent) -> bool:
    """Whether no d_o_i · v_j can overflow, not even one that a weight of 0 is to hide."""
    reach = max(float(d_o.max(initial=0)), -float(d_o.min(initial=0))) * extent.value * d_o.shape[1]
    return bool(reach < 1e-3 * float(np.finfo(d_o.dtype).max))


def _backward_block(
    call: Call, head: Head, block: slice, q: Array, k: Array, k_1: Array, v_1: Array, shifted: bool,
    found: Forward, gradient: Gradient,
) -> None:  # fmt: skip
    dtype, scale, unit = q.dtype, q.dtype.type(call.scale), _unit(shifted)
    o, d_o, tops, log_sums = found
    d_k, d_v = gradient.of("key", head), gradient.of("value", head)
    mean = np.einsum("ij,ij->i", d_o, o)  # D_i
    if call.softcap is None:
        q_1 = _with_column("query, −l", q, -tops if shifted else -log_sums, _q_factor(call, unit))
    else:
        q_1 = np.multiply(q, dtype.type(_q_factor(call, unit)), out=scratch("query, −l", q.shape, dtype))
    q = np.multiply(q, scale, out=scratch("q", q.shape, dtype))
    if call.dropped is None:
        d_o_1 = _with_column("d_o, −D", d_o, -mean)
    else:
        d_o_1 = d_o = np.multiply(d_o, dtype.type(1 / kept_share(call)), out=scratch("d_o, −D", d_o.shape, dtype))
    if gradient.to_sinks is not None:
        sink = call.of("sinks", head)[0, 0]
        share = np.exp2((sink - tops) * dtype.type(LOG2_E) - log_sums)
        gradient.to_sinks[head][block] = share * mean
    d_q = scratch("d_q", q.shape, dtype)
    d_q[...] = 0
    for queries, rows, keys in _tiles(call, block):
        shape = (rows.stop - rows.start, keys.stop - keys.start)
        w, d_s = scratch("x", shape, dtype), scratch("d_s", shape, dtype)
        bent = scratch("bent", shape, dtype) if call.softcap is not None else w
        _scores(call, head, q_1[rows], k_1[keys], queries, keys, unit, w, bent)
        if shifted:
            if call.softcap is not None:
                w -= tops[rows, None]
            w *= dtype.type(LOG2_E)
        if shifted or call.softcap is not None:
            w -= log_sums[rows, None]
        if shifted:
            _bury(call, head, queries, keys, w)
            _power(w)
        else:
            np.exp2(w, out=w)
            _hide(call, head, queries, keys, w)
        np.matmul(d_o_1[rows], v_1[keys].T, out=d_s)
        mixing = w
        if call.dropped is not None:
            kept = _kept(call, head, queries, keys)
            mixing = np.multiply(w, kept, out=scratch("mixing", shape, dtype))
            d_s *= kept
            d_s -= mean[rows, None]
        of_value = scratch("product", (shape[1], d_o.shape[1]), dtype)
        d_v[keys] += np.matmul(mixing.T, d_o[rows], out=of_value)  # (attention.4)
        d_s *= w  # (softmax.3)
        if gradient.bias is not None:
            d_b = _tile_of(gradient.of("bias", head), queries, keys)
            d_b += summed_to(d_s, d_b.shape)  # (attention.8)
        if call.softcap is not None:
            bent *= bent
            d_s *= np.subtract(1, bent, out=bent)  # (attention.11)
        of_key = scratch("product", (shape[1], q.shape[1]), dtype)
        d_k[keys] += np.matmul(d_s.T, q[rows], out=of_key)  # (attention.7)
        of_query = scratch("product", (shape[0], q.shape[1]), dtype)
        d_q[rows] += np.matmul(d_s, k[keys], out=of_query)  # (attention.6)
    d_q *= scale
    gradient.of("query", head)[block] += d_q


def _backward_readably(call: Call, head: Head, queries: slice, d_o: Array, gradient: Gradient) -> None:
    d_q, d_k, d_v, d_b, d_z = _readably(call, head, queries)[1](d_o)
    gradient.of("query", head)[queries] += d_q
    gradient.of("key", head)[...] += d_k
    gradient.of("value", head)[...] += d_v
    if gradient.bias is not None:
        part = _tile_of(gradient.of("bias", head), queries, slice(0, d_b.shape[1]))
        part += summed_to(d_b, part.shape)
    if gradient.to_sinks is not None:
        gradient.to_sinks[head][queries.start] = -d_z


def _tile_of(pairs: Array, queries: slice, keys: slice) -> Array:
    """What belongs to a tile, of something that may have a single row or column for all."""
    return pairs[queries if len(pairs) > 1 else slice(None), keys if pairs.shape[1] > 1 else slice(None)]
