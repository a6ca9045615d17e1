"""Multi-head attention, and the memory of what was attended to before."""

from __future__ import annotations  # numpy.random, which they name, is loaded where it's used

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from tinyattn.functions import attention, concatenate, linear, multi_head_attention, rope
from tinyattn.nn.initial import Seed, check_dtype, check_sizes, constant, generator, uniform
from tinyattn.nn.module import Module
from tinyattn.nn.normalization import RMSNorm
from tinyattn.nodes import numbers
from tinyattn.rules.allowed import Window, check_options
from tinyattn.rules.attention import check_softcap
from tinyattn.rules.checks import check_flag, check_number
from tinyattn.rules.multi_head import merge, split
from tinyattn.tensor import Tensor


class KeyValueCache:
    """The keys and values of a sequence so far, for attention that goes on step by step.

    Given to `MultiHeadAttention` as `cache`, it hands out those of before with those of the step, and keeps both. With
    `causal=True` the outputs are those of the whole sequence at once. A cache belongs to one layer and one sequence, or
    one batch of them.

    >>> layer, cache = MultiHeadAttention(4, 2, rng=0), KeyValueCache()
    >>> steps = [layer(np.ones((1, 4)), cache=cache, causal=True) for _ in range(3)]
    >>> cache.length
    3
    """

    def __init__(self) -> None:
        self.key: Tensor | None = None
        self.value: Tensor | None = None

    @property
    def length(self) -> int:
        """How many positions are kept."""
        return 0 if self.key is None else int(self.key.shape[-2])

    def extend(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """All keys (..., n_heads, n, d_k) and values (..., n_heads, n, d_v) so far, with these as the last ones."""
        if key.shape[:-1] != value.shape[:-1]:
            raise ValueError(f"KeyValueCache: each key needs a value; got keys {key.shape} and values {value.shape}")
        if self.key is not None and self.value is not None:
            for kept, new in ((self.key, key), (self.value, value)):
                if kept.shape[:-2] != new.shape[:-2] or kept.shape[-1] != new.shape[-1] or kept.dtype != new.dtype:
                    raise ValueError(
                        f"KeyValueCache: it keeps {kept.dtype} {kept.shape}, and can't go on with {new.dtype}"
                        f" {new.shape}: another batch, and another layer, needs a new cache"
                    )
            key = concatenate([self.key, key], axis=-2)
            value = concatenate([self.value, value], axis=-2)
        self.key, self.value = key, value
        return key, value


@contextmanager
def all_or_none(caches: Sequence[KeyValueCache]) -> Iterator[None]:
    """After an error inside, the caches keep what they kept before."""
    kept = [(cache.key, cache.value) for cache in caches]
    try:
        yield
    except BaseException:
        for cache, (key, value) in zip(caches, kept, strict=True):
            cache.key, cache.value = key, value
        raise


def check_caches(name: str, caches: Any, n: int) -> None:
    """Raise `TypeError` or `ValueError` unless there are n caches that keep equally much."""
    if not isinstance(caches, list | tuple) or any(not isinstance(cache, KeyValueCache) for cache in caches):
        raise TypeError(f"{name}: needs a list of KeyValueCaches, one for each block; got {caches!r:.60}")
    if len(caches) != n:
        raise ValueError(f"{name}: needs a cache for each of {n} blocks; got {len(caches)}. Its caches() makes them")
    lengths = [cache.length for cache in caches]
    if len(set(lengths)) > 1:
        raise ValueError(f"{name}: all caches must keep equally much; they keep {lengths}")


class MultiHeadAttention(Module):
    """Attention in several subspaces at once, each with its own idea of what matches what.

    head_h = attention(x_q W_q[h], x_k W_k[h], x_v W_v[h])           (multi_head.1)
    output = concatenate(head_1, …, head_H) W_o                      (multi_head.2)

    W_q[h] is the h-th block of d_k columns of `w_query` (d_model, n_heads d_k); `w_key` (d_source, n_kv_heads d_k),
    `w_value` (d_source, n_kv_heads d_v), `w_output` (n_heads d_v, d_model). They start uniform in ±√(6 / (d_in +
    d_out)), as in Glorot and Bengio 2010; biases at zero. Vaswani et al. 2017, arXiv:1706.03762, section 3.2.2.

    >>> attend = MultiHeadAttention(6, 2, rng=0)
    >>> output, weights = attend(np.zeros((5, 6)), return_weights=True)
    >>> output.shape, weights.shape
    ((5, 6), (2, 5, 5))
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        n_kv_heads: int | None = None,
        d_k: int | None = None,
        d_v: int | None = None,
        bias: bool = True,
        qk_norm: bool = False,
        rope: float | bool | None = None,
        *,
        d_source: int | None = None,
        window: Window = None,
        softcap: float | None = None,
        sinks: bool = False,
        scale: float | None = None,
        dropout: float = 0.0,
        rng: Seed = None,
        dtype: Any = np.float32,
    ) -> None:
        """What isn't given is as in the paper: as many heads of keys as of queries, d_k = d_v = d_model / n_heads.

        - `n_kv_heads`: heads of keys and values, each shared by n_heads / n_kv_heads heads of queries (GQA).
        - `qk_norm`: an `RMSNorm` of each head's queries and keys, so that scores can't grow with them. Dehghani et al.
          2023, arXiv:2302.05442, section 2, who take a layer norm.
        - `rope`: rotary positions for queries and keys; True for a base of 10 000, or the base.
        - `d_source`: the width of what keys and values are made of, where it isn't d_model.
        - `window`, `softcap`, `scale`: those of `attention`; `sinks`: a learned sink for each head, at 0 to begin with.
        - `dropout`: how likely a weight is dropped in training; it's drawn from `rng`, which the parameters start from.

        Raises `ValueError` for sizes that don't divide.
        """
        name = type(self).__name__
        check_sizes(name, d_model=d_model, n_heads=n_heads)
        n_kv_heads = n_heads if n_kv_heads is None else n_kv_heads
        d_source = d_model if d_source is None else d_source
        check_sizes(name, n_kv_heads=n_kv_heads, d_source=d_source)
        if n_heads % n_kv_heads:
            raise ValueError(f"{name}: n_kv_heads must divide n_heads; got {n_kv_heads} for {n_heads} heads")
        if d_k is None or d_v is None:
            if d_model % n_heads:
                raise ValueError(f"{name}: n_heads must divide d_model; got {n_heads} heads of {d_model}")
            d_k, d_v = (d_model // n_heads if d is None else d for d in (d_k, d_v))
        check_sizes(name, d_k=d_k, d_v=d_v)
        for option, flag in (("bias", bias), ("qk_norm", qk_norm), ("sinks", sinks)):
            check_flag(name, option, flag)
        check_dtype(name, dtype)
        check_options(name, False, window)
        check_softcap(name, softcap)
        check_number(name, "dropout", dropout, 0, 1)
        if scale is not None:
            check_number(name, "scale", scale)
        self.n_heads, self.n_kv_heads, self.d_k, self.d_v = n_heads, n_kv_heads, d_k, d_v
        self.scale, self.window, self.softcap, self.dropout = scale, window, softcap, dropout
        self.rope_base = _base(name, rope, d_k)
        self.rng = generator(name, rng)
        of_query, of_key, of_value, mixed = n_heads * d_k, n_kv_heads * d_k, n_kv_heads * d_v, n_heads * d_v
        self.w_query = _matrix(self.rng, d_model, of_query, dtype)
        self.w_key = _matrix(self.rng, d_source, of_key, dtype)
        self.w_value = _matrix(self.rng, d_source, of_value, dtype)
        self.w_output = _matrix(self.rng, mixed, d_model, dtype)
        self.b_query, self.b_key, self.b_value, self.b_output = (
            constant((d,), 0.0, dtype) if bias else None for d in (of_query, of_key, of_value, d_model)
        )
        self.sinks = constant((n_heads,), 0.0, dtype) if sinks else None
        self.norm_query, self.norm_key = (RMSNorm(d_k, dtype=dtype) if qk_norm else None for _ in range(2))

    def forward(
        self,
        query: Any,
        key: Any = None,
        value: Any = None,
        *,
        mask: Any = None,
        bias: Any = None,
        causal: bool = False,
        cache: KeyValueCache | None = None,
        head_weights: Any = None,
        return_weights: bool = False,
    ) -> Any:
        """query (..., n_queries, d_model), key and value (..., n_keys, d_source) → (..., n_queries, d_model).

        Without `key`, the queries attend to each other; `value` is `key` unless given.

        - `mask`: True = may attend, (n_queries, n_keys), with or without the leading axes of the query, and the same
          for all heads; or it has their axis, too, before the last two. Keys that are only there to fill up a batch
          are hidden by `mask=real[:, None, :]`, real (batch, n_keys). (In PyTorch's MultiheadAttention True = may not.)
        - `bias`: added to the scores, (..., n_heads, n_queries, n_keys) or what broadcasts to it: unlike a mask, each
          head has its own. One for each sequence and all heads alike is `bias[:, None]`.
        - `causal`: hides later keys. The last query lines up with the last key, with `rope` also in its position.
        - `cache`: keys and values of before come before these, positions go on from there, and these are kept.
        - `head_weights`: (n_heads,), what each head's output is multiplied by. Its gradient at ones tells how much a
          head matters: Michel, Levy and Neubig 2019, arXiv:1905.10650, section 4.1.
        - `return_weights`: the result is (output, weights), the weights (..., n_heads, n_queries, n_keys).
        """
        if cache is not None:
            check_caches("MultiHeadAttention", [cache], 1)
        plain = cache is None and self.rope_base is None and self.norm_query is None
        dropping = self.training and self.dropout > 0
        if plain and not dropping and head_weights is None and return_weights is False:
            options = {"n_heads": self.n_heads, "causal": causal, "mask": _for_heads(mask, query)}
            options |= {"window": self.window, "scale": self.scale, "softcap": self.softcap}
            return multi_head_attention(
                query, self.w_query, self.w_key, self.w_value, self.w_output,
                self.b_query, self.b_key, self.b_value, self.b_output, key, value, bias, self.sinks,
                **{name: option for name, option in options.items() if option is not None and option is not False},
            )  # fmt: skip
        with all_or_none([] if cache is None else [cache]):
            return self._attend(query, key, value, mask, bias, causal, cache, head_weights, return_weights)

    def _attend(
        self,
        query: Any,
        key: Any,
        value: Any,
        mask: Any,
        bias: Any,
        causal: bool,
        cache: KeyValueCache | None,
        head_weights: Any,
        return_weights: bool,
    ) -> Any:
        key = query if key is None else key
        value = key if value is None else value
        queries = self._split(linear(query, self.w_query, self.b_query), self.n_heads)
        keys = self._split(linear(key, self.w_key, self.b_key), self.n_kv_heads)
        values = self._split(linear(value, self.w_value, self.b_value), self.n_kv_heads)
        if self.norm_query is not None and self.norm_key is not None:
            queries, keys = self.norm_query(queries), self.norm_key(keys)
        if self.rope_base is not None:
            start = 0 if cache is None else cache.length
            later = keys.shape[-2] - queries.shape[-2] if causal else 0  # then the last query is at the last key
            queries, keys = _turned(queries, start + later, self.rope_base), _turned(keys, start, self.rope_base)
        if cache is not None:
            keys, values = cache.extend(keys, values)
        dropout = self.dropout if self.training else 0.0
        mixed = attention(
            queries,
            keys,
            values,
            mask=_for_heads(mask, query),
            bias=bias,
            causal=causal,
            window=self.window,
            scale=self.scale,
            softcap=self.softcap,
            sinks=self.sinks,
            dropout=dropout,
            rng=self.rng if dropout else None,
            return_weights=return_weights,
        )
        heads, weights = mixed if isinstance(mixed, tuple) else (mixed, None)
        if head_weights is not None:
            heads = heads * self._of_heads(head_weights)
        output = linear(merge(heads), self.w_output, self.b_output)
        return (output, weights) if return_weights else output

    def prune_heads(self, heads: Iterable[int]) -> None:
        """Take these heads away for good, with their parameters: the output is what it would be with weights of 0.

        Where heads share keys, as many must stay in each group, or none: a head of keys without queries goes, too. The
        parameters are new ones; an optimiser that knows the old ones has to be made anew. Raises `ValueError` for a
        head that isn't there, and where all would go or groups would differ.

        >>> layer = MultiHeadAttention(6, 3, rng=0)
        >>> layer.prune_heads([1])
        >>> layer.n_heads, layer.w_query.shape
        (2, (6, 4))
        """
        if not isinstance(heads, Iterable):
            raise TypeError(f"prune_heads: heads are a list of whole numbers; got {heads!r}. Are [ ] missing?")
        gone = {self._head(h) for h in heads}
        stay = [h for h in range(self.n_heads) if h not in gone]
        share = self.n_heads // self.n_kv_heads
        left = [sum(h // share == group for h in stay) for group in range(self.n_kv_heads)]
        if not stay:
            raise ValueError("prune_heads: all heads would go; one must stay")
        if len(set(left) - {0}) > 1:
            raise ValueError(
                f"prune_heads: heads that share keys must stay in equal numbers, or go together; {share} share each"
                f" head of keys, and of those would stay {left}"
            )
        groups = [group for group, n in enumerate(left) if n]
        self.w_query = _kept_columns(self.w_query, stay, self.d_k)
        self.w_key = _kept_columns(self.w_key, groups, self.d_k)
        self.w_value = _kept_columns(self.w_value, groups, self.d_v)
        self.w_output = _kept_columns(self.w_output.T, stay, self.d_v, turned=True)
        if self.b_query is not None and self.b_key is not None and self.b_value is not None:
            self.b_query = _kept_columns(self.b_query, stay, self.d_k)
            self.b_key = _kept_columns(self.b_key, groups, self.d_k)
            self.b_value = _kept_columns(self.b_value, groups, self.d_v)
        if self.sinks is not None:
            self.sinks = _kept_columns(self.sinks, stay, 1)
        self.n_heads, self.n_kv_heads = len(stay), len(groups)

    def _head(self, h: Any) -> int:
        if isinstance(h, bool) or not isinstance(h, int | np.integer):
            raise TypeError(f"prune_heads: heads are whole numbers; got {h!r}")
        if not 0 <= h < self.n_heads:
            raise ValueError(f"prune_heads: there are heads 0 … {self.n_heads - 1}; got {h}")
        return int(h)

    def _of_heads(self, head_weights: Any) -> Any:
        """A number for each head, to be multiplied with (..., n_heads, n, d_v)."""
        weights = (
            head_weights
            if isinstance(head_weights, Tensor)
            else numbers(head_weights, "MultiHeadAttention: head_weights")
        )
        if weights.shape[-1:] != (self.n_heads,):
            raise ValueError(
                f"MultiHeadAttention: head_weights must be (..., n_heads), here (..., {self.n_heads});"
                f" got {weights.shape}"
            )
        return weights[..., None, None]

    def _split(self, x: Any, n_heads: int) -> Any:
        """(..., n, n_heads d) → (..., n_heads, n, d)."""
        if x.ndim < 2:
            raise ValueError(
                f"MultiHeadAttention: query, key and value must be (..., length, d_model); got shape {x.shape}"
            )
        return split(x, n_heads)


def _matrix(rng: np.random.Generator, d_in: int, d_out: int, dtype: Any) -> Tensor:
    return uniform(rng, (d_in, d_out), (6 / (d_in + d_out)) ** 0.5, dtype)


def _base(name: str, rope: float | bool | None, d_k: int) -> float | None:
    """The base of the angles; None for no rotary positions."""
    if rope is None or rope is False:
        return None
    base = 10000.0 if rope is True else rope
    check_number(name, "rope", base)
    if not base > 0:
        raise ValueError(f"{name}: rope must be True, or a base greater than 0; got {rope}")
    if d_k % 2:
        raise ValueError(f"{name}: rope turns pairs of numbers, and d_k must be even; got {d_k}")
    return float(base)


def _turned(x: Tensor, start: int, base: float) -> Tensor:
    return rope(x, positions=np.arange(start, start + x.shape[-2]), base=base)


def _kept_columns(x: Tensor, heads: list[int], d: int, *, turned: bool = False) -> Tensor:
    """A new parameter of some heads' columns, d for each; of its transpose where it was `turned`."""
    columns = np.concatenate([np.arange(h * d, (h + 1) * d) for h in heads])
    kept = x.numpy()[..., columns]
    return Tensor(np.ascontiguousarray(kept.T if turned else kept), requires_grad=True, name=x.name)


def _for_heads(mask: Any, query: Any) -> Any:
    """The mask with an axis for the heads, where it has leading axes but not that one."""
    if mask is None:
        return None
    mask = mask if isinstance(mask, Tensor) else numbers(mask, "MultiHeadAttention: mask")
    if mask.ndim <= 2 or mask.ndim > np.ndim(query):
        return mask
    return np.expand_dims(mask, -3)
