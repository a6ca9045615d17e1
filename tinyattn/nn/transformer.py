"""The block that transformers stack, and the stacking."""

from __future__ import annotations  # numpy.random, which they name, is loaded where it's used

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinyattn import functions
from tinyattn.functions import gelu
from tinyattn.nn.attention import KeyValueCache, MultiHeadAttention, all_or_none, check_caches
from tinyattn.nn.dropout import Dropout
from tinyattn.nn.initial import Seed, check_layer, check_sizes, generator
from tinyattn.nn.linear import Linear
from tinyattn.nn.module import Module
from tinyattn.nn.normalization import LayerNorm
from tinyattn.rules.checks import check_flag, check_number
from tinyattn.rules.products import ACTIVATIONS, check_activation
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


class MLP(Module):
    """Two linear layers with a bend between them, for each position alone.

    y = φ(x W₁ + b₁) W₂ + b₂                                         (mlp.1)

    x (..., d_model), output the same; `expand` has W₁ (d_model, d_ff), `contract` W₂. `d_ff` is 4 d_model unless given.
    Vaswani et al. 2017, arXiv:1706.03762, eq. 2.

    >>> MLP(6, rng=0)(np.zeros((5, 6))).shape
    (5, 6)
    """

    def __init__(
        self,
        d_model: int,
        d_ff: int | None = None,
        *,
        activation: Callable[..., Tensor] | str = gelu,
        bias: bool = True,
        rng: Seed = None,
        dtype: Any = np.float32,
    ) -> None:
        """`activation` is φ, a function of one Tensor, or its name: "gelu", "gelu_tanh", "relu" and so on."""
        name = _name(activation)
        self.activation: Callable[..., Tensor] | None = None
        check_sizes("MLP", d_model=d_model)
        d_ff = 4 * d_model if d_ff is None else d_ff
        check_sizes("MLP", d_ff=d_ff)
        rng = generator("MLP", rng)
        if name is None and not isinstance(activation, str):
            self.activation = activation
        self.expand = Linear(d_model, d_ff, bias=bias, activation=name, rng=rng, dtype=dtype)
        self.contract = Linear(d_ff, d_model, bias=bias, rng=rng, dtype=dtype)

    def forward(self, x: Any) -> Any:
        """X (..., d_model) → (..., d_model)."""
        expanded: Any = self.expand(x)
        return self.contract(expanded if self.activation is None else self.activation(expanded))


def _name(activation: Callable[..., Tensor] | str) -> str | None:
    """The name under which `linear` bends by itself; None for a function that it doesn't know."""
    if isinstance(activation, str):
        check_activation("MLP", activation)
        return activation
    check_layer("MLP", "activation", activation)
    return next((name for name in ACTIVATIONS if getattr(functions, name, None) is activation), None)


class TransformerBlock(Module):
    """Attention, then a two-layer network for each position, each beside a path that goes straight through.

    h = x + attention(norm(x))                                       (block.1)
    y = h + mlp(norm(h))                                             (block.2)

    x (..., n, d_model), output the same. The norms stand before the layers ("pre-norm", Xiong et al. 2020,
    arXiv:2002.04745); with `norm_first=False` they stand after the sums, norm(x + attention(x)), as in Vaswani et al.
    2017. `d_ff` is 4 d_model unless given, φ is `activation`.

    >>> TransformerBlock(6, 2, rng=0)(np.zeros((5, 6))).shape
    (5, 6)
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        d_ff: int | None = None,
        *,
        activation: Callable[..., Tensor] | str = gelu,
        norm: Callable[..., Module] = LayerNorm,
        norm_first: bool = True,
        cross: bool = False,
        bias: bool = True,
        dropout: float = 0.0,
        rng: Seed = None,
        dtype: Any = np.float32,
        **attention: Any,
    ) -> None:
        """`norm` is the class of the norms, `LayerNorm` or `RMSNorm`.

        - `cross`: between the two, attention to a `source`, as in a decoder: h = x + cross(norm(x), source).
        - `bias`: False leaves out all biases, those of attention, of the two layers and of the norms.
        - `dropout`: how likely weights, and numbers of what is added to the path, are dropped in training. (PyTorch
          drops numbers between the two layers, too.)
        - other options go to `MultiHeadAttention`: `n_kv_heads`, `qk_norm`, `rope`, `window` and so on.
        """
        name = type(self).__name__
        check_layer(name, "norm", norm)
        check_flag(name, "norm_first", norm_first)
        check_flag(name, "cross", cross)
        check_flag(name, "bias", bias)
        check_number(name, "dropout", dropout, 0, 1)
        rng = generator(name, rng)
        self.norm_first = norm_first
        shared: dict[str, Any] = {"dropout": dropout, "bias": bias, "rng": rng, "dtype": dtype}
        self.norm_attention = _norm(norm, d_model, bias, dtype)
        self.attention = MultiHeadAttention(d_model, n_heads, **shared, **attention)
        self.norm_cross = _norm(norm, d_model, bias, dtype) if cross else None
        without_positions = {option: value for option, value in attention.items() if option not in ("rope", "window")}
        self.cross = MultiHeadAttention(d_model, n_heads, **shared, **without_positions) if cross else None
        self.norm_mlp = _norm(norm, d_model, bias, dtype)
        self.mlp = MLP(d_model, d_ff, activation=activation, bias=bias, rng=rng, dtype=dtype)
        self.drop = Dropout(dropout, rng=rng)

    def forward(
        self,
        x: Any,
        source: Any = None,
        *,
        mask: Any = None,
        bias: Any = None,
        causal: bool = False,
        source_mask: Any = None,
        cache: KeyValueCache | None = None,
        return_weights: bool = False,
    ) -> Any:
        """X (..., n, d_model) → (..., n, d_model), or (output, weights), the weights (..., n_heads, n, n_keys).

        `mask`, `bias`, `causal` and `cache` are those of the attention; `source_mask` is the mask of that to `source`
        (..., n_source, d_model), whose weights aren't among those that are given back.
        """
        if (source is None) != (self.cross is None):
            told = (
                "is needed: the block was made with cross=True" if source is None else "needs a block with cross=True"
            )
            raise ValueError(f"TransformerBlock: source {told}")
        if source is None and source_mask is not None:
            raise ValueError("TransformerBlock: source_mask needs a block with cross=True, and its source")
        weights: list[Any] = []

        def attend(x: Any) -> Any:
            attended = self.attention(
                x, mask=mask, bias=bias, causal=causal, cache=cache, return_weights=return_weights
            )
            if not return_weights:
                return attended
            weights.append(attended[1])
            return attended[0]

        x = self._beside(x, attend, self.norm_attention)  # (block.1)
        if self.cross is not None and self.norm_cross is not None:
            cross = self.cross
            x = self._beside(x, lambda x: cross(x, source, mask=source_mask), self.norm_cross)
        x = self._beside(x, self.mlp, self.norm_mlp)  # (block.2)
        return (x, weights[0]) if return_weights else x

    def _beside(self, x: Any, layer: Callable[[Any], Any], norm: Module) -> Any:
        """The layer beside the path that goes straight through."""
        if self.norm_first:
            return x + self.drop(layer(norm(x)))
        return norm(x + self.drop(layer(x)))


def _norm(norm: Callable[..., Module], d_model: int, bias: bool, dtype: Any) -> Module:
    """A norm of that class, without a bias if there is to be none."""
    return norm(d_model, dtype=dtype) if bias or norm is not LayerNorm else norm(d_model, bias=False, dtype=dtype)


class Encoder(Module):
    """Blocks, one after the other: each position becomes what it means among the others.

    x (..., n, d_model), output the same. Where norms come first, a last one brings the sums to a common scale. Vaswani
    et al. 2017, arXiv:1706.03762, section 3.1.

    >>> Encoder(2, 6, 2, rng=0)(np.zeros((5, 6))).shape
    (5, 6)
    """

    crosses = False

    def __init__(
        self,
        n_layers: int,
        d_model: int,
        n_heads: int,
        d_ff: int | None = None,
        *,
        norm: Callable[..., Module] = LayerNorm,
        norm_first: bool = True,
        bias: bool = True,
        rng: Seed = None,
        dtype: Any = np.float32,
        **options: Any,
    ) -> None:
        """Other options go to each `TransformerBlock`; without `bias`, there is none anywhere."""
        check_sizes(type(self).__name__, n_layers=n_layers)
        if "cross" in options:
            raise TypeError(f"{type(self).__name__}: takes no 'cross'; a Decoder has it, an Encoder hasn't")
        rng = generator(type(self).__name__, rng)
        shared: dict[str, Any] = {"norm": norm, "norm_first": norm_first, "bias": bias, "rng": rng, "dtype": dtype}
        self.blocks = [
            TransformerBlock(d_model, n_heads, d_ff, cross=self.crosses, **shared, **options) for _ in range(n_layers)
        ]
        self.norm = _norm(norm, d_model, bias, dtype) if norm_first else None

    def forward(
        self,
        x: Any,
        *,
        mask: Any = None,
        bias: Any = None,
        causal: bool = False,
        caches: list[KeyValueCache] | None = None,
        return_weights: bool = False,
    ) -> Any:
        """X (..., n, d_model) → (..., n, d_model), or (output, [weights of each block])."""
        return self._through(x, (), caches, return_weights=return_weights, mask=mask, bias=bias, causal=causal)

    def caches(self) -> list[KeyValueCache]:
        """An empty cache for each block."""
        return [KeyValueCache() for _ in self.blocks]

    def _through(self, x: Any, source: tuple[Any, ...], caches: list[KeyValueCache] | None, **options: Any) -> Any:
        if caches is None:
            return self._one_by_one(x, source, [None] * len(self.blocks), **options)
        check_caches(type(self).__name__, caches, len(self.blocks))
        with all_or_none(caches):
            return self._one_by_one(x, source, caches, **options)

    def _one_by_one(
        self, x: Any, source: tuple[Any, ...], caches: Sequence[KeyValueCache | None], **options: Any
    ) -> Any:
        weights = []
        for block, cache in zip(self.blocks, caches, strict=True):
            x = block(x, *source, cache=cache, **options)
            if options["return_weights"]:
                x, of_block = x
                weights.append(of_block)
        x = x if self.norm is None else self.norm(x)
        return (x, weights) if options["return_weights"] else x


class Decoder(Encoder):
    """Blocks that attend to what was said before, and to a source: what an encoder made of another sequence.

    x (..., n, d_model), source (..., n_source, d_model), output as x. Each position sees itself and those before it.
    Vaswani et al. 2017, arXiv:1706.03762, section 3.1.

    >>> Decoder(2, 6, 2, rng=0)(np.zeros((5, 6)), np.zeros((7, 6))).shape
    (5, 6)
    """

    crosses = True

    def forward(  # type: ignore[override]
        self,
        x: Any,
        source: Any,
        *,
        mask: Any = None,
        source_mask: Any = None,
        bias: Any = None,
        causal: bool = True,
        caches: list[KeyValueCache] | None = None,
        return_weights: bool = False,
    ) -> Any:
        """x (..., n, d_model) and source (..., n_source, d_model) → (..., n, d_model), or (output, [weights])."""
        options = {"mask": mask, "bias": bias, "causal": causal, "source_mask": source_mask}
        return self._through(x, (source,), caches, return_weights=return_weights, **options)
