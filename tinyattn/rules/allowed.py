"""Who may attend to whom: masks, causal order and windows; and whether the arrays of attention fit each other."""

from __future__ import annotations

import math

import numpy as np

from tinyattn.rules.checks import check_flag
from tinyattn.rules.registry import Array, alike

Window = tuple[int | None, int | None] | None


def allowed_pairs(query: Array, key: Array, mask: Array, causal: bool, window: Window) -> Array:
    """Which query may attend to which key, (..., n_queries, n_keys); None where every one may attend to all."""
    n_queries, n_keys = query.shape[-2], key.shape[-2]
    first, last = band(n_queries, n_keys, causal, window)
    if mask is not None:
        mask = np.broadcast_to(mask, (*mask.shape[:-2], n_queries, n_keys))
    if last < n_keys - 1:  # else the first query may see the last key
        mask = _both(mask, np.tri(n_queries, n_keys, int(last), dtype=bool, like=query))
    if first > 1 - n_queries:  # else the last query may see the first key
        mask = _both(mask, ~np.tri(n_queries, n_keys, int(first) - 1, dtype=bool, like=query))
    return mask


def _both(mask: Array, also: Array) -> Array:
    return also if mask is None else mask & also


def band(n_queries: int, n_keys: int, causal: bool, window: Window) -> tuple[float, float]:
    """Query i may attend to the keys from i + first to i + last: the last query lines up with the last key."""
    left, right = (None, None) if window is None else (None if n is None else int(n) for n in window)
    right = 0 if causal else right
    shift = n_keys - n_queries
    return -math.inf if left is None else shift - left, math.inf if right is None else shift + right


def check_arrays(name: str, query: Array, key: Array, value: Array, bias: Array, sinks: Array, mask: Array) -> None:
    """Raise `TypeError` or `ValueError` unless everything fits. Shape, ndim and dtype are all that is looked at."""
    got = f"got query {query.shape} and key {key.shape}"
    if query.ndim < 2 or key.ndim < 2:
        raise ValueError(f"{name}: query and key need two axes at least, (..., length, d_k); {got}")
    if query.shape[-1] != key.shape[-1]:
        hint = " Is key transposed?" if query.shape[-1] == key.shape[-2] else ""
        raise ValueError(f"{name}: query and key must share d_k; {got}.{hint}")
    if value is not None and (value.ndim < 2 or value.shape[-2] != key.shape[-2]):
        raise ValueError(f"{name}: key and value must share n_keys; got key {key.shape} and value {value.shape}")
    n_queries, n_keys = query.shape[-2], key.shape[-2]
    if bias is not None:
        if bias.dtype == bool:
            raise TypeError(f"{name}: bias is added to the scores, and can't be boolean. Did you mean mask=?")
        _check_pairs(name, "bias", bias, n_queries, n_keys)
    if mask is not None:
        _check_mask(name, mask)
        _check_pairs(name, "mask", mask, n_queries, n_keys)
    _check_leading(name, query, key, value, bias, sinks, mask)


def check_options(name: str, causal: bool, window: Window) -> None:
    """Raise `TypeError` or `ValueError` unless these say who may attend to whom."""
    check_flag(name, "causal", causal)
    if window is None:
        return
    what = f"{name}: window must be (left, right): how many keys before and after it a query may see, None for all"
    if not isinstance(window, tuple | list):
        raise TypeError(f"{what}; got {window!r}")
    if len(window) != 2:
        raise ValueError(f"{what}; got {window!r}")
    for n in window:
        if n is not None and (isinstance(n, bool | np.bool_) or not isinstance(n, int | np.integer)):
            raise TypeError(f"{what}; got {window!r}")
        if n is not None and n < 0:
            raise ValueError(f"{what}; got {window!r}")


def _check_mask(name: str, mask: Array) -> None:
    if mask.dtype == bool:
        return
    instead = {
        "i": " If 1 means may attend, write mask == 1; if 1 means padding, mask == 0",
        "u": " If 1 means may attend, write mask == 1; if 1 means padding, mask == 0",
        "f": " What is to be added to the scores goes in as bias=",
    }.get(mask.dtype.kind, "")
    raise TypeError(f"{name}: mask must be boolean, True = may attend; got {mask.dtype}.{instead}")


def _check_pairs(name: str, what: str, pairs: Array, n_queries: int, n_keys: int) -> None:
    expected = (n_queries, n_keys)[-pairs.ndim :] if pairs.ndim else ()
    if all(n in (1, m) for n, m in zip(pairs.shape[-2:], expected, strict=True)):
        return
    hint = ""
    if pairs.shape[-2:] == (n_keys, n_queries):
        hint = " Is it transposed?"
    elif n_queries != n_keys and pairs.shape[-2:] == (n_queries, n_queries):
        hint = f" It needs a column for each of the {n_keys} keys; causal=True makes one for itself"
    elif pairs.ndim == 2 and pairs.shape[1] == n_keys:
        hint = f" If it has a row for each sequence, write {what}[:, None, None, :]"
    raise ValueError(
        f"{name}: {what} must broadcast to (..., n_queries, n_keys), here (..., {n_queries}, {n_keys});"
        f" got {pairs.shape}.{hint}".removesuffix(".")
    )


def heads_that_share(query: Array, x: Array) -> int:
    """How many query heads share a head of x, a key or a value: 1 where the two broadcast, as other axes do."""
    n_heads, n_shared = (a.shape[-3] if a.ndim > 2 else 1 for a in (query, x))
    return n_heads // n_shared if 1 < n_shared < n_heads and n_heads % n_shared == 0 else 1


def shape_of_weights(
    name: str, query: Array, key: Array, value: Array, bias: Array, sinks: Array, mask: Array
) -> tuple[int, ...]:
    """(..., n_heads, n_queries, n_keys), a number for each weight. Raises as `check_arrays` does."""
    mask = None if mask is None else alike(mask, query)
    check_arrays(name, query, key, value, bias, sinks, mask)
    leads = _leads(query, key, value, bias, sinks, mask).values()
    return (*np.broadcast_shapes(*leads), query.shape[-2], key.shape[-2])


def _leads(
    query: Array, key: Array, value: Array, bias: Array, sinks: Array, mask: Array
) -> dict[str, tuple[int, ...]]:
    """The axes before the last two, by name, once each key and value head stands for those that share it."""
    leads = {"query": query.shape[:-2]}
    for what, x in (("key", key), ("value", value)):
        if x is not None:
            share = heads_that_share(query, x)
            leads[what] = x.shape[:-2] if share == 1 else (*x.shape[:-3], x.shape[-3] * share)
    leads |= {what: x.shape[:-2] for what, x in (("bias", bias), ("mask", mask)) if x is not None}
    if sinks is not None:
        leads["sinks"] = sinks.shape
    return leads


def _check_leading(name: str, query: Array, key: Array, value: Array, bias: Array, sinks: Array, mask: Array) -> None:
    """Whether they broadcast."""
    leads = _leads(query, key, value, bias, sinks, mask)
    if len(set(leads.values())) == 1:
        return
    try:
        np.broadcast_shapes(*leads.values())
    except ValueError:
        given = {"query": query, "key": key, "value": value, "bias": bias, "sinks": sinks, "mask": mask}
        got = ", ".join(f"{what} {given[what].shape}" for what in leads)
        told = f"{name}: the axes before the last two must broadcast; got {got}.{_hint(leads)}"
        raise ValueError(told) from None


def _hint(leads: dict[str, tuple[int, ...]]) -> str:
    n_heads = leads["query"][-1:]
    for name in ("key", "value"):
        fewer = leads.get(name, ())[-1:]
        if n_heads and fewer and 1 < fewer[0] < n_heads[0]:
            return f" The query's {n_heads[0]} heads can't share the {name}'s {fewer[0]} evenly"
    if leads.get("sinks", ())[-1:] not in ((), (1,), n_heads):
        return " sinks are one number for each head, (n_heads,)"
    return ""
