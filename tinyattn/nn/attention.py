"""Multi-head attention."""

from __future__ import annotations  # numpy.random, which they name, is loaded where it's used

from typing import Any

import numpy as np

from tinyattn.functions import attention, linear
from tinyattn.nn.initial import Seed, check_dtype, check_sizes, constant, generator, uniform
from tinyattn.nn.module import Module
from tinyattn.nodes import numbers
from tinyattn.rules.checks import check_flag, check_number
from tinyattn.tensor import Tensor


class MultiHeadAttention(Module):
    """Attention in several subspaces at once, each with its own idea of what matches what.

    head_h = attention(x_q W_q[h], x_k W_k[h], x_v W_v[h])           (multi_head.1)
    output = concatenate(head_1, …, head_H) W_o                      (multi_head.2)

    W_q[h] is the h-th block of d_k = d_model / n_heads columns of `w_query` (d_model, d_model), and so on. They start
    uniform in ±√(6 / (d_in + d_out)), as in Glorot and Bengio 2010; biases, if wanted, at zero. Vaswani et al. 2017,
    arXiv:1706.03762, section 3.2.2.

    >>> attend = MultiHeadAttention(6, 2, rng=0)
    >>> output, weights = attend(np.zeros((5, 6)), return_weights=True)
    >>> output.shape, weights.shape
    ((5, 6), (2, 5, 5))
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        *,
        bias: bool = False,
        scale: float | None = None,
        rng: Seed = None,
        dtype: Any = np.float32,
    ) -> None:
        """`scale` takes the place of 1/√d_k. Raises `ValueError` where `n_heads` doesn't divide `d_model`."""
        check_sizes("MultiHeadAttention", d_model=d_model, n_heads=n_heads)
        if d_model % n_heads:
            raise ValueError(f"MultiHeadAttention: n_heads must divide d_model; got {n_heads} heads of {d_model}")
        check_flag("MultiHeadAttention", "bias", bias)
        check_dtype("MultiHeadAttention", dtype)
        if scale is not None:
            check_number("MultiHeadAttention", "scale", scale)
        rng = generator("MultiHeadAttention", rng)
        bound = (6 / (d_model + d_model)) ** 0.5
        self.n_heads, self.scale = n_heads, scale
        self.w_query, self.w_key, self.w_value, self.w_output = (
            uniform(rng, (d_model, d_model), bound, dtype) for _ in range(4)
        )
        self.b_query, self.b_key, self.b_value, self.b_output = (
            constant((d_model,), 0.0, dtype) if bias else None for _ in range(4)
        )

    def forward(
        self,
        query: Any,
        key: Any = None,
        value: Any = None,
        *,
        mask: Any = None,
        causal: bool = False,
        return_weights: bool = False,
    ) -> Any:
        """query (..., n_queries, d_model), key and value (..., n_keys, d_model) → (..., n_queries, d_model).

        Without `key`, the queries attend to each other; `value` is `key` unless given. `return_weights` gives
        (output, weights), the weights (..., n_heads, n_queries, n_keys). `mask`, True = may attend, is (n_queries,
        n_keys), with or without the leading axes of the query, and the same for all heads; or it has their axis, too,
        before the last two. (In PyTorch's MultiheadAttention, True = may not.)
        """
        key = query if key is None else key
        value = key if value is None else value
        mixed = attention(
            self._split(linear(query, self.w_query, self.b_query)),
            self._split(linear(key, self.w_key, self.b_key)),
            self._split(linear(value, self.w_value, self.b_value)),
            mask=_for_heads(mask, query),
            causal=causal,
            scale=self.scale,
            return_weights=return_weights,
        )
        heads, weights = mixed if isinstance(mixed, tuple) else (mixed, None)
        output = linear(self._join(heads), self.w_output, self.b_output)
        return (output, weights) if return_weights else output

    def _split(self, x: Tensor) -> Tensor:
        """(..., n, d_model) → (..., n_heads, n, d_k)."""
        if x.ndim < 2:
            raise ValueError(
                f"MultiHeadAttention: query, key and value must be (..., length, d_model); got shape {x.shape}"
            )
        *lead, n, d_model = x.shape
        return x.reshape(*lead, n, self.n_heads, d_model // self.n_heads).swapaxes(-2, -3)

    def _join(self, heads: Tensor) -> Tensor:
        """(..., n_heads, n, d_k) → (..., n, d_model)."""
        *lead, n_heads, n, d_k = heads.shape
        return heads.swapaxes(-2, -3).reshape(*lead, n, n_heads * d_k)


def _for_heads(mask: Any, query: Any) -> Any:
    """The mask with an axis for the heads, where it has leading axes but not that one."""
    if mask is None:
        return None
    mask = mask if isinstance(mask, Tensor) else numbers(mask, "MultiHeadAttention: mask")
    if mask.ndim <= 2 or mask.ndim > np.ndim(query):
        return mask
    return np.expand_dims(mask, -3)
