"""The rule for attention in several subspaces at once, with its projections."""

from __future__ import annotations  # else every call of a rule would evaluate those of its backward

from tinyattn.rules.allowed import Window
from tinyattn.rules.attention import attention
from tinyattn.rules.checks import check_whole
from tinyattn.rules.products import check_linear, linear
from tinyattn.rules.registry import Array, Gradients, Result, rule


@rule
def multi_head_attention(
    query: Array,
    w_query: Array,
    w_key: Array,
    w_value: Array,
    w_output: Array,
    b_query: Array = None,
    b_key: Array = None,
    b_value: Array = None,
    b_output: Array = None,
    key: Array = None,
    value: Array = None,
    bias: Array = None,
    sinks: Array = None,
    *,
    n_heads: int,
    mask: Array = None,
    causal: bool = False,
    window: Window = None,
    scale: float | None = None,
    softcap: float | None = None,
) -> Result:
    """Attention in `n_heads` subspaces at once, each with its own projections of queries, keys and values.

    head_h = attention(x_q W_q[h] + b_q[h], x_k W_k[h] + b_k[h], x_v W_v[h] + b_v[h])      (multi_head.1)
    y = concatenate(head_1, …, head_H) W_o + b_o                                           (multi_head.2)

    W_q[h] is the h-th block of d_k columns of `w_query` (d_model, n_heads d_k); `w_key` (d_source, n_kv_heads d_k),
    `w_value` (d_source, n_kv_heads d_v), `w_output` (n_heads d_v, d_output). query (..., n_queries, d_model), key and
    value (..., n_keys, d_source), output (..., n_queries, d_output). Without `key`, the queries attend to each other;
    `value` is `key` unless given. The other arguments are those of `attention`. Raises `ValueError` for shapes that
    don't fit. Vaswani et al. 2017, arXiv:1706.03762, section 3.2.2.

    >>> import numpy as np
    >>> x, eye = np.array([[1.0, 2.0], [3.0, 4.0]]), np.eye(2)
    >>> multi_head_attention(x, 0 * eye, 0 * eye, eye, eye, n_heads=2)[0]  # all weights are equal
    array([[2., 3.],
           [2., 3.]])
    """
    n_kv_heads = check_heads(query, w_query, w_key, w_value, key, value, n_heads)
    x_key = query if key is None else key
    x_value = x_key if value is None else value
    for x, weight, b in ((query, w_query, b_query), (x_key, w_key, b_key), (x_value, w_value, b_value)):
        check_linear(x, weight, b, None, "multi_head_attention")
    queries, through_queries = linear(query, w_query, b_query)
    keys, through_keys = linear(x_key, w_key, b_key)
    values, through_values = linear(x_value, w_value, b_value)
    options = {"mask": mask, "causal": causal, "window": window, "scale": scale, "softcap": softcap}
    inputs = split(queries, n_heads), split(keys, n_kv_heads), split(values, n_kv_heads)
    heads, through_heads = attention(*inputs, bias, sinks, **options)  # (multi_head.1)
    output, through_output = linear(merge(heads), w_output, b_output)  # (multi_head.2)

    def backward(d_output: Array) -> Gradients:
        d_heads, d_w_output, d_b_output = through_output(d_output)
        *d_inputs, d_bias, d_sinks = through_heads(split(d_heads, n_heads))
        d_queries, d_keys, d_values = (summed_to(d, x.shape) for d, x in zip(d_inputs, inputs, strict=True))
        d_query, d_w_query, d_b_query = through_queries(merge(d_queries))
        d_key, d_w_key, d_b_key = through_keys(merge(d_keys))
        d_value, d_w_value, d_b_value = through_values(merge(d_values))
        # what went in several ways gets back the sum: x into query, key and value        (multi_head.3)
        if value is None:
            d_key, d_value = d_key + d_value, None
        if key is None:
            d_query, d_key = d_query + d_key, None
        weights = d_w_query, d_w_key, d_w_value, d_w_output
        biases = d_b_query, d_b_key, d_b_value, d_b_output
        return d_query, *weights, *biases, d_key, d_value, d_bias, d_sinks

    return output, backward


def split(x: Array, n_heads: int) -> Array:
    """(..., n, n_heads d) → (..., n_heads, n, d)."""
    *lead, n, d = x.shape
    return x.reshape((*lead, n, n_heads, d // n_heads)).swapaxes(-2, -3)


def merge(heads: Array) -> Array:
    """(..., n_heads, n, d) → (..., n, n_heads d)."""
    *lead, n_heads, n, d = heads.shape
    return heads.swapaxes(-2, -3).reshape((*lead, n, n_heads * d))


def summed_to(d_x: Array, shape: tuple[int, ...]) -> Array:
    """A gradient in its array's shape: the sum over the axes along which that was repeated to meet the others."""
    extra = d_x.ndim - len(shape)
    repeated = tuple(i for i, n in enumerate(d_x.shape) if i < extra or shape[i - extra] != n)
    return d_x.sum(axis=repeated).reshape(shape) if repeated else d_x


def check_heads(
    query: Array, w_query: Array, w_key: Array, w_value: Array, key: Array, value: Array, n_heads: int
) -> int:
    """How many heads of keys there are, once it's known that the widths can be cut into heads."""
    name = "multi_head_attention"
    check_whole(name, "n_heads", n_heads)
    if n_heads < 1:
        raise ValueError(f"{name}: n_heads must be 1 or more; got {n_heads}")
    for called, x in (("query", query), ("key", key), ("value", value)):
        if x is not None and x.ndim < 2:
            raise ValueError(f"{name}: {called} must be (..., length, d_model); got shape {x.shape}")
    for called, weight in (("w_query", w_query), ("w_key", w_key), ("w_value", w_value)):
        if weight.ndim != 2:
            raise ValueError(f"{name}: {called} must be (d_in, n_heads d); got shape {weight.shape}")
    if w_query.shape[1] % n_heads or not w_query.shape[1]:
        raise ValueError(f"{name}: n_heads must divide w_query's columns; got {n_heads} for {w_query.shape[1]}")
    d_k = w_query.shape[1] // n_heads
    n_kv_heads = int(w_key.shape[1] // d_k)
    if w_key.shape[1] % d_k or not n_kv_heads or n_heads % n_kv_heads or w_value.shape[1] % n_kv_heads:
        raise ValueError(
            f"{name}: w_key needs n_kv_heads d_k columns, w_value n_kv_heads d_v, where n_kv_heads divides n_heads; got"
            f" {w_key.shape[1]} and {w_value.shape[1]} for {n_heads} heads with d_k = {d_k}"
        )
    return n_kv_heads
