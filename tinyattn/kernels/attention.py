"""The rule `attention`, by the way that is fastest for its sizes: the readable one, many small heads, or blocks.

- readable: `rules/attention.py`, whatever there is. It has all scores at once, and goes over them a dozen times.
- stacked: small heads, as many at once as fit in the processor's cache. It goes over scores as rarely as it can.
- blocked: tiles of scores, one after the other. It needs the memory of a few tiles, however long the sequences.

What shapes alone decide is worked out once for each: the way, and whether everything fits.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from tinyattn.kernels import stacked
from tinyattn.kernels.call import Call
from tinyattn.kernels.twin import fitting
from tinyattn.rules import attention as readable
from tinyattn.rules.allowed import Window, band, check_arrays, check_options, heads_that_share, shape_of_weights
from tinyattn.rules.attention import check_scale, check_softcap
from tinyattn.rules.dropout import Draw
from tinyattn.rules.registry import Array, Gradients, Result

Shape = tuple[int, ...]

WAYS = ("readable", "stacked", "blocked")
FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
SMALL = 1 << 18  # scores of a head that isn't large
TINY = 1 << 14  # scores of a head for which a tile isn't worth it


def attention(
    query: Array,
    key: Array,
    value: Array,
    bias: Array = None,
    sinks: Array = None,
    *,
    mask: Array = None,
    causal: bool = False,
    window: Window = None,
    scale: float | None = None,
    softcap: float | None = None,
    dropped: Draw | None = None,
    wanted: tuple[bool, ...] = (True,) * 5,
    way: str | None = None,
) -> Result:
    """The rule `attention`, by the way that is named, or the fastest.

    Of the last two gradients, those of bias and sinks, what isn't wanted is None; if none is, nothing is remembered.
    `backward` may be told `into` which arrays the gradients of query, key and value should go; it gives these, or
    others where that can't be.
    """
    arrays = (query, key, value, bias, sinks)

    def readably() -> Result:
        result = readable.attention(
            *arrays, mask=mask, causal=causal, window=window, scale=scale, softcap=softcap, dropped=dropped
        )
        output, backward = fitting(arrays, result) if is_plain else result
        return output, lambda d_output, into=None: backward(d_output)

    is_plain = _are_plain(arrays)
    if not is_plain:
        return readably()
    check_options("attention", causal, window)
    if mask is not None:
        mask = np.asarray(mask)
    kinds = [None if x is None else (x.shape, x.dtype) for x in (*arrays, mask)]
    plan = _plan(way, causal, None if window is None else tuple(window), *kinds)
    number = float(check_scale("attention", scale, query.shape[-1]))
    check_softcap("attention", softcap)
    if plan.way == "readable":
        return readably()
    call = _call(plan, (*arrays, mask), dropped, number, None if softcap is None else float(softcap))
    if plan.way == "stacked":
        way_taken = stacked.attention(call, wanted)
    else:
        from tinyattn.kernels import blocked  # for long sequences alone: who has none needn't wait for its import

        way_taken = blocked.attention(call, wanted)
    if way_taken is None:
        return readably()
    output, gradients_of = way_taken

    def backward(d_output: Array, into: Gradients = (None,) * 3) -> Gradients:
        is_one = type(d_output) is np.ndarray  # many at once, for a Jacobian, aren't
        found = gradients_of(d_output, into) if is_one else None
        return readably()[1](d_output) if found is None else found

    return output, backward


class Choice(NamedTuple):
    """Which way is taken, and why."""

    way: str
    why: str

    def __str__(self) -> str:
        return f"{self.way}: {self.why}"


def choice(query: Array, key: Array, value: Array, bias: Array, sinks: Array, mask: Array) -> Choice:
    """Which way is taken for these arrays. Raises as the rule does."""
    kinds = [None if x is None else (x.shape, x.dtype) for x in (query, key, value, bias, sinks, mask)]
    plan = _plan(None, False, None, *kinds)
    if not _are_plain((query, key, value, bias, sinks)):
        return Choice("readable", "kernels are for NumPy's arrays of float32 and float64")
    return Choice(plan.way, plan.why)


def _are_plain(arrays: tuple[Array, ...]) -> bool:
    return not [x for x in arrays if x is not None and not (type(x) is np.ndarray and x.dtype in FLOATS)]


class Kind(NamedTuple):
    """What is known of an array before its numbers are."""

    shape: Shape
    dtype: Any

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)


class Plan(NamedTuple):
    """What shapes alone decide."""

    way: str
    why: str
    shapes: tuple[Shape | None, ...]  # of query, key, value, bias, sinks and mask for a `Call`
    dtype: Any  # of all of them, but for the mask; None where they have it
    lead: Shape
    shape: Shape
    band: tuple[float, float]
    given: tuple[Shape | None, ...]


def choose(query: Kind, key: Kind, value: Kind, bias: Kind | None, sinks: Kind | None, mask: Kind | None) -> Choice:
    """The way that is fastest for arrays of these shapes."""
    n_queries, n_keys = query.shape[-2], key.shape[-2]
    if not all(0 not in x.shape for x in (query, key, value)):
        return Choice("readable", "there is nothing to compute")
    if n_keys == 1 and sinks is None:
        return Choice("readable", "there is one key, whose weight is 1")
    shares = {heads_that_share(query, x) for x in (key, value)} - {1}
    if len(shares) > 1:
        return Choice("readable", "keys are shared by other heads than values")
    scores = f"{n_queries} × {n_keys} scores of a head"
    if n_queries * n_keys > SMALL:
        return Choice("blocked", f"{scores} are many: tile by tile")
    if not _stackable(query, key, value, bias, sinks, mask):
        way = "blocked" if n_queries * n_keys > TINY else "readable"
        return Choice(way, "heads aren't alike, some arrays have axes that others don't")
    return Choice("stacked", f"{scores} are few: many heads at once")


@lru_cache(256, typed=True)
def _plan(way: str | None, causal: bool, window: Window, *arrays: tuple[Shape, Any] | None) -> Plan:
    """What shapes and dtypes of query, key, value, bias, sinks and mask decide. Raises as the rule does."""
    kinds: list[Any] = [None if x is None else Kind(*x) for x in arrays]
    query, key, value, bias, sinks, mask = kinds
    check_arrays("attention", *kinds)
    fastest = choose(*kinds)
    way, why = (fastest.way, fastest.why) if way is None else (way, "it was asked for")
    given = tuple(None if x is None else x.shape for x in kinds[:5])
    heads = shape_of_weights("attention", *kinds)[:-1]
    between = band(query.shape[-2], key.shape[-2], causal, window)
    if way == "readable":
        return Plan(way, why, (), None, (), (*heads, value.shape[-1]), between, given)
    share = max(heads_that_share(query, key), heads_that_share(query, value))
    if share == 1 and query.ndim > 2 and all(x.ndim == 2 or x.shape[-3] == 1 for x in (key, value)):
        share = query.shape[-3]
    of_heads = None if sinks is None else Kind((*sinks.shape, 1, 1), sinks.dtype)
    shapes: list[Any] = [
        None if x is None else _cut(x.shape, query, share) for x in (query, key, value, bias, of_heads, mask)
    ]
    n_axes = max(len(shape) for shape in shapes if shape is not None)
    shapes = [None if shape is None else (1,) * (n_axes - len(shape)) + shape for shape in shapes]
    lead = np.broadcast_shapes(*(shape[:-2] for shape in shapes if shape is not None))
    if way == "stacked":
        (*outer, n_shared, n_queries, d_k), *others = (shape for shape in shapes[:3] if shape is not None)
        shapes[:3] = [(*outer, n_shared * n_queries, d_k), *((*shape[:-3], *shape[-2:]) for shape in others)]
    dtypes = {x.dtype for x in kinds[:5] if x is not None}
    return Plan(
        way,
        why,
        tuple(shapes),
        None if len(dtypes) == 1 else np.result_type(*dtypes),
        lead,
        (*heads, value.shape[-1]),
        between,
        given,
    )


def _cut(shape: Shape, query: Kind, share: int) -> Shape:
    """The shape with its axis of heads cut in two, (n_key_heads, share)."""
    *outer, n = shape[:-2] or (1,)
    rows_and_columns = (1,) * (2 - len(shape)) + shape[-2:]
    n_heads = query.shape[-3] if query.ndim > 2 else 1
    return (*outer, *((n // share, share) if n == n_heads else (n, 1)), *rows_and_columns)


def _call(plan: Plan, arrays: Any, dropped: Draw | None, scale: float, softcap: float | None) -> Call:
    given = [
        x if x is None or x.shape == shape else x.reshape(shape)
        for x, shape in zip(arrays, plan.shapes)  # noqa: B905
    ]
    if plan.dtype is not None:
        given[:5] = [None if x is None else x.astype(plan.dtype, copy=False) for x in given[:5]]
    if dropped is not None:
        rows, columns, p = dropped
        lead, n_queries = plan.lead, plan.shape[-2]
        dropped = rows.reshape(
            (*lead[:-1], lead[-1] * n_queries) if plan.way == "stacked" else (*lead, n_queries)
        ), columns, p  # fmt: skip
    return Call._make([*given, dropped, scale, softcap, plan.band, plan.lead, plan.shape, plan.given])


def _stackable(query: Kind, key: Kind, value: Kind, bias: Kind | None, sinks: Kind | None, mask: Kind | None) -> bool:
    """Whether queries have all axes, and keys and values all but those of heads that share."""
    lead = query.shape[:-2]
    keys = key.shape[:-2]
    others = [x.shape[:-2] for x in (bias, mask) if x is not None] + ([] if sinks is None else [sinks.shape])
    return (
        keys == value.shape[:-2]
        and len(keys) == len(lead)
        and (keys == lead or (keys[:-1] == lead[:-1] and lead[-1] % keys[-1] == 0))
        and all(np.broadcast_shapes(lead, other) == lead for other in others)
    )
