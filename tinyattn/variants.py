"""Floor 1: what stands beside attention. Biases and positions that go into it, and other ways to say what matches what.

All of it is composed of rules, and has their gradients.
"""

import math
from typing import Any

import numpy as np

from tinyattn.functions import attention, cumsum, embedding, exp, linear, matmul, maximum, minimum, moveaxis, tanh
from tinyattn.nodes import FLOATS, numbers
from tinyattn.rules.checks import check_flag, check_number
from tinyattn.rules.registry import Array
from tinyattn.tensor import Tensor

# ---------------------------------------------------------------------------------------------------- positions


def sinusoidal_positions(n: int, d_model: int, *, base: float = 10000.0, dtype: Any = np.float32) -> Array:
    """A row of waves for each position, to be added to embeddings; slow ones tell far from near, fast ones neighbours.

    P_p,2i = sin(p / base^(2i/d)),   P_p,2i+1 = cos(p / base^(2i/d))

    The array is (n, d_model). Nothing in it is learned. Vaswani et al. 2017, arXiv:1706.03762, section 3.5.

    >>> sinusoidal_positions(2, 4).round(2)
    array([[0.  , 1.  , 0.  , 1.  ],
           [0.84, 0.54, 0.01, 1.  ]], dtype=float32)
    """
    _check_lengths("sinusoidal_positions", n=n, d_model=d_model)
    check_number("sinusoidal_positions", "base", base)
    if not base > 0:
        raise ValueError(f"sinusoidal_positions: base must be greater than 0; got {base}")
    _check_dtype("sinusoidal_positions", dtype)
    angles = np.arange(n)[:, None] * base ** (-2.0 * np.arange((d_model + 1) // 2) / max(d_model, 1))
    waves = np.stack([np.sin(angles), np.cos(angles)], axis=-1)
    return waves.reshape(n, d_model + d_model % 2)[:, :d_model].astype(dtype)


# ---------------------------------------------------------------------------------------------------- biases


def alibi_bias(n_heads: int, n_queries: int, n_keys: int | None = None, *, dtype: Any = np.float32) -> Array:
    """A bias that takes off the more the further away a key is, in each head at a rate of its own.

    b_hij = −m_h |i + n_keys − n_queries − j|,   m_h = 2^(−8h / n_heads), h = 1, 2, …

    The array is (n_heads, n_queries, n_keys); the last query lines up with the last key, as in `attention`. It's meant
    to go with `causal=True`. Where n_heads isn't a power of 2, the rates are those of the next lower power, and then
    every other one of its double, as in the authors' code. Press, Smith and Lewis 2021, arXiv:2108.12409, section 3.

    >>> alibi_bias(2, 2)
    array([[[ 0.        , -0.0625    ],
            [-0.0625    ,  0.        ]],
    <BLANKLINE>
           [[ 0.        , -0.00390625],
            [-0.00390625,  0.        ]]], dtype=float32)
    """
    n_keys = n_queries if n_keys is None else n_keys
    _check_lengths("alibi_bias", n_heads=n_heads, n_queries=n_queries, n_keys=n_keys)
    _check_dtype("alibi_bias", dtype)
    power = 1 << (max(n_heads, 1).bit_length() - 1)
    rates = [2.0 ** (-8 * h / power) for h in range(1, power + 1)]
    rates += [2.0 ** (-4 * h / power) for h in range(1, 2 * (n_heads - power) + 1, 2)]
    distances = abs(_steps(n_queries, n_keys))
    return (0.0 - np.array(rates[:n_heads])[:, None, None] * distances).astype(dtype)


def relative_bias(
    weight: Any, n_queries: int, n_keys: int | None = None, *, bidirectional: bool = True, max_distance: int = 128
) -> Tensor:
    """A learned bias for how far, and to which side, a key is from a query: near ones each for itself, far ones binned.

    b_hij = weight[bucket(j − i), h]

    weight (n_buckets, n_heads), the result (n_heads, n_queries, n_keys); the last query lines up with the last key.
    With `bidirectional`, half of the buckets are for keys after the query; without it, all of them are for keys before
    it, as under a causal mask. Half of those for a side are for distances 0, 1, 2, …, the others for bins that grow
    like powers, up to `max_distance` and beyond. Raffel et al. 2019 (T5), arXiv:1910.10683, section 2.1, and its code.

    >>> relative_bias([[0.0], [-1.0], [-2.0], [-3.0]], 3, bidirectional=False)[0]
    array([[ 0.,  0.,  0.],
           [-1.,  0.,  0.],
           [-2., -1.,  0.]])
    """
    n_keys = n_queries if n_keys is None else n_keys
    _check_lengths("relative_bias", n_queries=n_queries, n_keys=n_keys, max_distance=max_distance)
    check_flag("relative_bias", "bidirectional", bidirectional)
    (weight,) = _arrays("relative_bias", weight=weight)
    shape = weight.shape
    sides = 2 if bidirectional else 1
    if len(shape) != 2 or shape[0] < 2 * sides or shape[0] % sides:
        raise ValueError(
            f"relative_bias: weight must be (n_buckets, n_heads), with {2 * sides} buckets or more"
            f"{', an even number' * bidirectional}; got {shape}"
        )
    steps = _steps(n_queries, n_keys)
    n = shape[0] // sides
    near = n // 2
    if max_distance <= near:
        raise ValueError(
            f"relative_bias: max_distance must be more than the {near} distances that have a bucket each;"
            f" got {max_distance}"
        )
    before = abs(steps) if bidirectional else np.maximum(-steps, 0)
    growth = np.log(np.maximum(before, 1) / near) / math.log(max_distance / near)
    far = np.minimum(near + (growth * (n - near)).astype(int), n - 1)
    buckets = np.where(before < near, before, far) + (n * (steps > 0) if bidirectional else 0)
    return moveaxis(embedding(weight, buckets), -1, 0)


def _steps(n_queries: int, n_keys: int) -> Array:
    """j − i, where the last query lines up with the last key: negative for keys before the query."""
    return np.arange(n_keys) - (np.arange(n_queries) + n_keys - n_queries)[:, None]


# ---------------------------------------------------------------------------------------------------- other matches


def additive_attention(
    query: Any, key: Any, value: Any, w_query: Any, w_key: Any, v: Any, *, mask: Any = None, causal: bool = False,
    return_weights: bool = False,
) -> Any:  # fmt: skip
    """Attention that says by a small network what matches what.

    s_ij = v · tanh(W_q q_i + W_k k_j),   o_i = Σ_j softmax_j(s_ij) v_j

    query (..., n_queries, d_q), key (..., n_keys, d_k), value (..., n_keys, d_v), w_query (d_q, d), w_key (d_k, d),
    v (d,); output (..., n_queries, d_v). All pairs of rows meet, n_queries × n_keys × d numbers. `mask`, `causal` and
    `return_weights` are those of `attention`. Bahdanau, Cho and Bengio 2014, arXiv:1409.0473, section A.1.2.

    >>> query, key, value = np.zeros((1, 2)), np.zeros((2, 2)), np.array([[1.0], [3.0]])
    >>> additive_attention(query, key, value, np.eye(2), np.eye(2), np.ones(2))
    array([[2.]])
    """
    query, key, value, w_query, w_key, v = _arrays(
        "additive_attention", query=query, key=key, value=value, w_query=w_query, w_key=w_key, v=v
    )
    _check_shapes(
        "additive_attention",
        query=(query, "(..., n_queries, d_q)"),
        key=(key, "(..., n_keys, d_k)"),
        value=(value, "(..., n_keys, d_v)"),
        w_query=(w_query, "(d_q, d)"),
        w_key=(w_key, "(d_k, d)"),
        v=(v, "(d)"),
    )
    met = tanh(linear(query, w_query)[..., :, None, :] + linear(key, w_key)[..., None, :, :])
    return _by_scores("additive_attention", matmul(met, v), value, mask, causal, return_weights)


def multiplicative_attention(
    query: Any, key: Any, value: Any, w: Any, *, mask: Any = None, causal: bool = False, return_weights: bool = False
) -> Any:
    """Attention that says by a learned matrix what matches what.

    s_ij = q_i W k_j,   o_i = Σ_j softmax_j(s_ij) v_j

    query (..., n_queries, d_q), key (..., n_keys, d_k), value (..., n_keys, d_v), w (d_q, d_k); output (..., n_queries,
    d_v). Nothing is divided by √d_k. `mask`, `causal` and `return_weights` are those of `attention`. Luong, Pham and
    Manning 2015, arXiv:1508.04025, section 3.1, where it's called general.

    >>> query, key, value = np.zeros((1, 2)), np.zeros((2, 2)), np.array([[1.0], [3.0]])
    >>> multiplicative_attention(query, key, value, np.eye(2))
    array([[2.]])
    """
    query, key, value, w = _arrays("multiplicative_attention", query=query, key=key, value=value, w=w)
    _check_shapes(
        "multiplicative_attention",
        query=(query, "(..., n_queries, d_q)"),
        key=(key, "(..., n_keys, d_k)"),
        value=(value, "(..., n_keys, d_v)"),
        w=(w, "(d_q, d_k)"),
    )
    return attention(linear(query, w), key, value, mask=mask, causal=causal, scale=1.0, return_weights=return_weights)


def linear_attention(query: Any, key: Any, value: Any, *, causal: bool = False) -> Tensor:
    """Attention without softmax, whose cost grows like the length, not its square: keys and values are summed first.

    φ(x) = elu(x) + 1,   o_i = φ(q_i) (Σ_j φ(k_j) v_jᵀ) / φ(q_i) · Σ_j φ(k_j)

    query (..., n_queries, d_k), key (..., n_keys, d_k), value (..., n_keys, d_v), output (..., n_queries, d_v).
    `causal` lets query i see keys 0 … i, of as many as there are queries: the sums then run, and take n × d_k × d_v
    numbers. Katharopoulos et al. 2020, arXiv:2006.16236, eq. 5, 7 and 9.

    >>> query, key, value = np.zeros((1, 2)), np.zeros((2, 2)), np.array([[1.0], [3.0]])
    >>> linear_attention(query, key, value)
    array([[2.]])
    """
    check_flag("linear_attention", "causal", causal)
    query, key, value = _arrays("linear_attention", query=query, key=key, value=value)
    _check_shapes(
        "linear_attention",
        query=(query, "(..., n_queries, d_k)"),
        key=(key, "(..., n_keys, d_k)"),
        value=(value, "(..., n_keys, d_v)"),
    )
    n_queries, n_keys = query.shape[-2], key.shape[-2]
    query, key = _positive(query), _positive(key)
    if not causal:
        total = key.sum(axis=-2)[..., None]
        return matmul(query, matmul(key.swapaxes(-1, -2), value)) / matmul(query, total)
    if n_queries != n_keys:
        raise ValueError(
            f"linear_attention: with causal=True there must be as many queries as keys; got {n_queries} and {n_keys}"
        )
    so_far = cumsum(key[..., :, None] * value[..., None, :], axis=-3)
    mixed = matmul(query[..., None, :], so_far)[..., 0, :]
    output: Tensor = mixed / (query * cumsum(key, axis=-2)).sum(axis=-1)[..., None]
    return output


def _positive(x: Any) -> Any:
    """elu(x) + 1, which is x + 1 above 0 and exp(x) below."""
    return maximum(x, 0.0) + exp(minimum(x, 0.0))


def _by_scores(name: str, scores: Any, value: Any, mask: Any, causal: bool, return_weights: bool) -> Any:
    """A softmax over given scores: attention whose queries and keys say nothing, with the scores as its bias."""
    nothing = np.zeros((*scores.shape[:-2], scores.shape[-2], 1), scores.dtype)
    no_keys = np.zeros((*scores.shape[:-2], scores.shape[-1], 1), scores.dtype)
    return attention(nothing, no_keys, value, bias=scores, mask=mask, causal=causal, return_weights=return_weights)


def _arrays(name: str, **given: Any) -> list[Any]:
    """What is given, as Tensors and arrays."""
    return [x if isinstance(x, Tensor) else numbers(x, f"{name}: {what}") for what, x in given.items()]


def _check_shapes(name: str, **given: tuple[Any, str]) -> None:
    """Raise `ValueError` unless arrays have such shapes, where a letter stands for one length all over."""
    lengths: dict[str, int] = {}
    for x, shape in given.values():
        letters = [letter for letter in shape.strip("()").split(", ") if letter != "..."]
        fits = x.ndim >= len(letters) if "..." in shape else x.ndim == len(letters)
        sizes = zip(letters, x.shape[max(x.ndim - len(letters), 0) :], strict=False)
        if not fits or any(lengths.setdefault(letter, n) != n for letter, n in sizes):
            expected = ", ".join(f"{what} {shape}" for what, (_, shape) in given.items())
            got = ", ".join(f"{what} {x.shape}" for what, (x, _) in given.items())
            raise ValueError(f"{name}: expected {expected}; got {got}")


def _check_lengths(name: str, **lengths: Any) -> None:
    for what, n in lengths.items():
        if isinstance(n, bool) or not isinstance(n, int | np.integer):
            raise TypeError(f"{name}: {what} must be a whole number; got {n!r}")
        if n < 0:
            raise ValueError(f"{name}: {what} must be 0 or more; got {n}")


def _check_dtype(name: str, dtype: Any) -> None:
    if np.dtype(dtype) not in FLOATS:
        raise TypeError(f"{name}: dtype must be float32 or float64; got {dtype!r}")
