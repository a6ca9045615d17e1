"""The block that transformers stack, and the stacking."""

from __future__ import annotations  # numpy.random, which they name, is loaded where it's used

from collections.abc import Callable
from typing import Any

import numpy as np

from tinyattn.functions import gelu
from tinyattn.nn.attention import MultiHeadAttention
from tinyattn.nn.initial import Seed, check_layer, generator
from tinyattn.nn.linear import Linear
from tinyattn.nn.module import Module
from tinyattn.nn.normalization import LayerNorm
from tinyattn.tensor import Tensor


class Sequential(Module):
    """Layers, one after the other. Plain functions may stand among them.

    >>> Sequential(Linear(3, 5, rng=0), gelu, Linear(5, 2, rng=1))(np.zeros((7, 3))).shape
    (7, 2)
    """

    def __init__(self, *layers: Callable[..., Any]) -> None:
        for i, layer in enumerate(layers):
            check_layer("Sequential", f"layers[{i}]", layer)
        self.layers = list(layers)

    def forward(self, x: Any) -> Any:
        """The last layer's output, each layer having had the output of the one before it."""
        for layer in self.layers:
            x = layer(x)
        return x


class TransformerBlock(Module):
    """Attention, then a two-layer network for each position, each beside a path that goes straight through.

    h = x + attention(norm(x))                                       (block.1)
    y = h + W₂ φ(W₁ norm(h))                                         (block.2)

    x (..., n, d_model), output the same. The norms stand before the layers ("pre-norm", Xiong et al. 2020,
    arXiv:2002.04745), where Vaswani et al. 2017 have them after. `d_ff` is 4 d_model unless given, φ is `activation`.

    >>> TransformerBlock(6, 2, rng=0)(np.zeros((5, 6))).shape
    (5, 6)
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        d_ff: int | None = None,
        *,
        activation: Callable[..., Tensor] = gelu,
        norm: Callable[..., Module] = LayerNorm,
        rng: Seed = None,
        dtype: Any = np.float32,
    ) -> None:
        """`norm` is the class of the norms, `LayerNorm` or `RMSNorm`."""
        check_layer("TransformerBlock", "activation", activation)
        check_layer("TransformerBlock", "norm", norm)
        rng = generator("TransformerBlock", rng)
        d_ff = 4 * d_model if d_ff is None else d_ff
        self.norm_attention = norm(d_model, dtype=dtype)
        self.attention = MultiHeadAttention(d_model, n_heads, rng=rng, dtype=dtype)
        self.norm_mlp = norm(d_model, dtype=dtype)
        self.mlp = Sequential(
            Linear(d_model, d_ff, rng=rng, dtype=dtype), activation, Linear(d_ff, d_model, rng=rng, dtype=dtype)
        )

    def forward(self, x: Any, *, mask: Any = None, causal: bool = False, return_weights: bool = False) -> Any:
        """X (..., n, d_model) → (..., n, d_model), or (output, weights), the weights (..., n_heads, n, n)."""
        attended = self.attention(self.norm_attention(x), mask=mask, causal=causal, return_weights=return_weights)
        mixed, weights = attended if return_weights else (attended, None)
        h = x + mixed  # (block.1)
        output = h + self.mlp(self.norm_mlp(h))  # (block.2)
        return (output, weights) if return_weights else output
