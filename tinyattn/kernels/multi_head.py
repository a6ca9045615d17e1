"""Multi-head attention in few steps: what is made of the same rows is made by one product.

What shapes alone decide is worked out once for each.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from tinyattn.kernels.attention import attention
from tinyattn.kernels.call import ones
from tinyattn.kernels.twin import twin
from tinyattn.rules import multi_head
from tinyattn.rules.multi_head import summed_to
from tinyattn.rules.products import check_linear
from tinyattn.rules.registry import Array, Backward, Gradients

NAME = "multi_head_attention"
Shape = tuple[int, ...]


@twin(multi_head.multi_head_attention)
def multi_head_attention(
    query: Array,
    w_query: Array,
    w_key: Array,
    w_value: Array,
    w_output: Array,
    b_query: Array,
    b_key: Array,
    b_value: Array,
    b_output: Array,
    key: Array,
    value: Array,
    bias: Array,
    sinks: Array,
    *,
    wanted: tuple[bool, ...],
    n_heads: int,
    **options: Any,
) -> tuple[Array, Backward] | None:
    """The rule `multi_head_attention`."""
    arrays = (query, w_query, w_key, w_value, w_output, b_query, b_key, b_value, b_output, key, value)
    plan = _plan(n_heads, *[None if x is None else x.shape for x in arrays])
    if plan is None:
        return None  # something brings axes of its own, over which gradients are summed
    made = [_made(source, arrays) for source in plan.sources]
    queries, keys, values = _split(plan, [product for _, _, product in made])
    recorded = True in wanted
    of_heads = (recorded, recorded, recorded, wanted[11], wanted[12])
    through_heads: Any  # takes places for its results, too
    heads, through_heads = attention(queries, keys, values, bias, sinks, wanted=of_heads, **options)
    if heads.shape != plan.heads:
        return None
    merged = heads.swapaxes(-2, -3).reshape(plan.merged)
    output = merged @ w_output  # (multi_head.2)
    if b_output is not None:
        output += b_output

    def backward(d_output: Array) -> Gradients:
        found: list[Array] = [None] * 13
        d_rows = d_output.reshape(output.shape)
        found[4] = merged.T @ d_rows
        if b_output is not None:
            found[8] = ones(len(d_rows), d_rows.dtype) @ d_rows
        d_heads = (d_rows @ w_output.T).reshape(plan.split_output).swapaxes(-2, -3)
        d_products = [np.empty_like(product) for _, _, product in made]
        places = _split(plan, d_products)
        *d_inputs, found[11], found[12] = through_heads(d_heads, tuple(places))
        for place, gradient in zip(places, d_inputs, strict=True):
            if gradient is not place:
                place[...] = summed_to(gradient, place.shape)
        for source, (rows, weight, _), d_product in zip(plan.sources, made, d_products, strict=True):
            found[source.place] = (d_product @ weight.T).reshape(source.shape)  # (multi_head.3)
            d_weight = rows.T @ d_product
            d_bias: Any = ones(len(rows), rows.dtype) @ d_product if source.has_bias else None
            for part in source.parts:
                found[1 + part.place] = d_weight[:, part.columns]
                if arrays[5 + part.place] is not None:
                    found[5 + part.place] = d_bias[part.columns]
        return tuple(found)

    return output.reshape(plan.output), backward


class Part(NamedTuple):
    """Queries 0, keys 1 or values 2: the columns of a product that they are."""

    place: int
    columns: slice
    split: Shape  # (..., n, n_heads, d)


class Source(NamedTuple):
    """Rows, and what is made of them: x [W_q, W_k, W_v] + [b_q, b_k, b_v], as far as they are made of these."""

    place: int  # among the arrays of the rule
    shape: Shape
    parts: list[Part]
    has_bias: bool


class Plan(NamedTuple):
    """What shapes alone decide."""

    sources: list[Source]
    heads: Shape
    merged: Shape
    split_output: Shape
    output: Shape


class Sized(NamedTuple):
    """What is known of an array before its numbers are."""

    shape: Shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)


@lru_cache(256)
def _plan(n_heads: int, *shapes: Shape | None) -> Plan | None:
    """Raises as the rule does; None where heads have leading axes of their own."""
    sized: Any = [None if shape is None else Sized(shape) for shape in shapes]
    query, w_query, w_key, w_value, w_output, *biases, key, value = sized
    n_kv_heads = multi_head.check_heads(query, w_query, w_key, w_value, key, value, n_heads)
    weights = (w_query, w_key, w_value)
    sources: list[Source] = []
    for i, (place, x) in enumerate(((0, query), (9, key), (10, value))):
        if x is not None:
            sources.append(Source(place, x.shape, [], False))
        *_, source = sources
        check_linear(Sized(source.shape), weights[i], biases[i], None, NAME)
        start = source.parts[-1].columns.stop if source.parts else 0
        width, n = weights[i].shape[1], n_kv_heads if i else n_heads
        source.parts.append(Part(i, slice(start, start + width), (*source.shape[:-1], n, width // n)))
        sources[-1] = source._replace(has_bias=source.has_bias or biases[i] is not None)
    lead, n_queries = query.shape[:-2], query.shape[-2]
    if any(source.shape[:-2] != lead for source in sources):
        return None
    d_v = w_value.shape[1] // n_kv_heads
    merged = Sized((*query.shape[:-1], n_heads * d_v))
    check_linear(merged, w_output, biases[3], None, NAME)
    heads = (*lead, n_heads, n_queries, d_v)
    split_output = (*query.shape[:-1], n_heads, d_v)
    return Plan(sources, heads, (-1, n_heads * d_v), split_output, (*query.shape[:-1], w_output.shape[1]))


def _split(plan: Plan, products: list[Array]) -> list[Array]:
    """Queries, keys and values of all heads: views of the products."""
    return [
        product[:, part.columns].reshape(part.split).swapaxes(-2, -3)
        for source, product in zip(plan.sources, products, strict=True)
        for part in source.parts
    ]


def _made(source: Source, arrays: tuple[Array, ...]) -> tuple[Array, Array, Array]:
    """The rows, the weights side by side, and their product with the biases."""
    own = [arrays[1 + part.place] for part in source.parts]
    weight = own[0] if len(own) == 1 else np.concatenate(own, axis=1)
    rows = arrays[source.place].reshape(-1, source.shape[-1])
    product = rows @ weight  # (multi_head.1)
    if source.has_bias:
        biases = [arrays[5 + part.place] for part in source.parts]
        given = [np.zeros(w.shape[1], w.dtype) if b is None else b for w, b in zip(own, biases, strict=True)]
        product += np.concatenate(given)
    return rows, weight, product
