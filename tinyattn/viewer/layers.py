"""From what a user gives, arrays of several shapes, to layers of arrays of one shape each; with what is odd in them."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

SUM_TOLERANCE = 1e-3  # half precision, and weights that were rounded for a table
SCORE_TOLERANCE = 1e-2
MOST_NOTES = 3

Array = np.ndarray[Any, Any]


class Layer(NamedTuple):
    """One layer: arrays (n_heads, n_queries, n_keys), and (n_heads, n, d_k); None for what wasn't given."""

    name: str
    asking: list[int] | None  # the places of the tokens that ask; None for all
    weights: Array
    mask: Array | None
    scores: Array | None
    query: Array | None
    key: Array | None
    value: Array | None
    scale: float | None
    d_weights: Array | None

    @property
    def scoring(self) -> str:
        """What makes a score of a product q · k, as the page calls it; or what else the scores are."""
        products = self.products
        if products is None or self.query is None or self.scale is None:
            return "log w" if self.scores is None else "scores"
        if self.scores is not None:
            with np.errstate(all="ignore"):
                apart = np.abs(self.scores - products)
                differs = (apart > SCORE_TOLERANCE * (1 + np.abs(self.scores))) | ~np.isfinite(self.scores)
                differs &= np.isfinite(products)
            if (differs if self.mask is None else differs & self.mask).any():  # there is a bias, or a softcap
                return "scores"
        is_root = abs(self.scale**2 * self.query.shape[-1] - 1) < SUM_TOLERANCE
        return "÷ √d_k" if is_root else f"× {self.scale:.4g}"

    @property
    def products(self) -> Array | None:
        """The scaled products of queries and keys, where both were given."""
        if self.query is None or self.key is None or self.scale is None:
            return None
        with np.errstate(all="ignore"):
            return np.asarray(self.query @ self.key.swapaxes(-1, -2) * self.scale)


def layers_of(
    n_queries: int, n_keys: int, weights: Any, asking: Any, scale: float | None, names: Any, given: dict[str, Any]
) -> list[Layer]:
    """The layers, each array checked. Raises `TypeError` and `ValueError`, which name what doesn't fit."""
    several = _split("weights", weights)
    parts = {name: _matching(name, x, len(several)) for name, x in given.items()}
    names = [f"layer {i + 1}" for i in range(len(several))] if names is None else names
    if not isinstance(names, list | tuple) or len(names) != len(several) or not all(isinstance(n, str) for n in names):
        raise ValueError(f"view: names must be {_count(len(several), 'string')}, one for each layer; got {names!r}")
    places = _places(asking, len(several), n_queries)
    found = []
    for i, own in enumerate(several):
        n_heads, n_asking = own.shape[0], n_queries if places[i] is None else len(places[i] or ())
        _fits("weights", own, (n_heads, n_asking, n_keys), n_queries, n_keys)
        layer: dict[str, Any] = {name: None if several is None else several[i] for name, several in parts.items()}
        for name in ("mask", "scores", "d_weights"):
            if layer[name] is not None:
                layer[name] = _spread(name, layer[name], own.shape)
        for name, n in (("query", n_asking), ("key", n_keys), ("value", n_keys)):
            if layer[name] is not None:
                layer[name] = _vectors(name, layer[name], n_heads, n)
        if layer["mask"] is not None and layer["mask"].dtype != bool:
            raise TypeError(
                f"view: mask must be boolean, True = may attend; got {layer['mask'].dtype}. If 1 means may attend,"
                " write mask == 1; if 1 means padding, mask == 0"
            )
        _same_width(layer["query"], layer["key"])
        found.append(Layer(name=names[i], asking=places[i], weights=own, scale=_scale(scale, layer["query"]), **layer))
    return found


def notes_on(layers: Sequence[Layer]) -> list[str]:
    """What a reader should know of weights that aren't as attention's are; a few are told, the others counted."""
    found = [note for layer in layers for note in _odd(layer)]
    more = len(found) - MOST_NOTES
    return found if more <= 0 else [*found[:MOST_NOTES], f"{more} more of this kind"]


def _odd(layer: Layer) -> Iterator[str]:
    scores, of = layer.scores, "the scores"
    if scores is None:
        scores, of = layer.products, "the scaled products of queries and keys"
    for head, weights in enumerate(layer.weights):
        where = f"{layer.name}, head {head + 1}"
        finite = np.isfinite(weights)
        if not finite.all():
            yield f"{where}: {_are(~finite)} NaN or infinite"
        if (weights < 0).any():
            yield f"{where}: {_are(weights < 0)} negative, the least is {np.nanmin(weights):.3g}"
        if layer.mask is not None and (weights[~layer.mask[head]] != 0).any():
            yield f"{where}: {_are((weights != 0) & ~layer.mask[head])} not 0, though masked"
        if scores is not None and finite.all():
            apart = float(np.abs(weights - _softmax(scores[head], layer.mask, head)).max(initial=0))
            if apart > SUM_TOLERANCE:
                yield f"{where}: the weights aren't the softmax of {of}, but up to {apart:.2g} away from it"
        sums = np.where(finite, weights, 0.0).sum(axis=-1)
        # A query that may attend to nothing has weights of 0.
        off = finite.all(axis=-1) & (np.abs(sums - 1) > SUM_TOLERANCE) & (weights != 0).any(axis=-1)
        if off.any():
            row = int(np.abs(np.where(off, sums - 1, 0)).argmax())
            yield (
                f"{where}: the weights of {np.count_nonzero(off)} of {len(sums)} queries don't sum to 1; those of query"
                f" {row + 1} sum to {sums[row]:.4g}"
            )


def _are(which: Array) -> str:
    n = np.count_nonzero(which)
    return "1 weight is" if n == 1 else f"{n} weights are"


def _count(n: int, word: str) -> str:
    return f"{n} {word}" if n == 1 else f"{n} {word}s"


def _softmax(scores: Array, mask: Array | None, head: int) -> Array:
    """What weights ought to be; a query that may attend to nothing has none."""
    visible = scores if mask is None else np.where(mask[head], scores, -np.inf)
    with np.errstate(all="ignore"):
        top = np.maximum(visible.max(axis=-1, keepdims=True, initial=-np.inf), np.finfo(float).min)
        exp = np.exp(visible - top)
        return np.asarray(exp / np.maximum(exp.sum(axis=-1, keepdims=True), np.finfo(float).tiny))


def _array(name: str, x: Any) -> Array:
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"view: {name} is a masked array; pass its .filled(0), and mask=~{name}.mask")
    numpy = getattr(x, "numpy", None)  # a Tensor's, or another library's
    try:
        array = np.asarray(numpy() if callable(numpy) else x)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"view: {name} must be an array of numbers; {error}") from None
    if array.dtype.kind not in "fiub":
        raise TypeError(f"view: {name} must be an array of real numbers; got dtype {array.dtype}")
    return array


def _split(name: str, given: Any) -> list[Array]:
    """A list of layers, (n_heads, n_queries, n_keys) each; of one with a batch axis of 1, as other libraries have."""
    if name == "mask" and np.ndim(given) < 2:
        given = np.atleast_2d(given)  # the same for all queries
    if isinstance(given, list | tuple) and any(np.ndim(_array(name, part)) >= 3 for part in given):
        layers = [_array(name, part) for part in given]
    else:
        array = _array(name, given)
        if not 2 <= array.ndim <= 4:
            raise ValueError(
                f"view: {name} must be (n_layers, n_heads, n_queries, n_keys) or have fewer of the first axes; got"
                f" {array.shape}"
            )
        layers = list(array if array.ndim == 4 else array[None])
    found = []
    for layer in layers:
        if layer.ndim == 4 and layer.shape[0] == 1:
            layer = layer[0]
        if layer.ndim > 3 or layer.ndim < 2:
            raise ValueError(
                f"view: {name} of a layer must be (n_heads, n_queries, n_keys); got {layer.shape}. One sentence of a"
                " batch is shown at a time: take weights[i]"
            )
        found.append(layer if layer.ndim == 3 else layer[None])
    return found


def _matching(name: str, given: Any, n_layers: int) -> list[Any] | None:
    if given is None:
        return None
    found = _split(name, given)
    if len(found) == 1:
        return found * n_layers
    if len(found) != n_layers:
        raise ValueError(f"view: weights have {n_layers} layers; got {name} of {len(found)}")
    return found


def _places(asking: Any, n_layers: int, n_queries: int) -> list[list[int] | None]:
    if asking is None:
        return [None] * n_layers
    if not isinstance(asking, list | tuple) or len(asking) != n_layers:
        raise ValueError(f"view: asking must have None or a list of places for each of {n_layers}; got {asking!r}")
    try:
        found = [None if places is None else [operator.index(place) for place in places] for places in asking]
    except TypeError:
        raise TypeError(f"view: asking must have lists of whole numbers, the places; got {asking!r}") from None
    for places in found:
        if places is not None and (len(set(places)) != len(places) or not all(0 <= i < n_queries for i in places)):
            raise ValueError(f"view: asking must have different places from 0 to {n_queries - 1}; got {places}")
    return found


def _fits(name: str, x: Array, wanted: tuple[int, ...], n_queries: int, n_keys: int) -> None:
    if x.shape == wanted:
        return
    hint = ""
    if x.shape[-2:] == (wanted[-1], wanted[-2]):
        hint = ". Are they transposed? Each query has a row"
    elif x.shape[-1] != n_keys and x.shape[-2] == n_queries:
        hint = ". Other tokens that are looked at are given as key_tokens"
    elif x.shape[-2] != wanted[-2]:
        hint = ". Where only some tokens ask, asking says which"
    tokens = f"{n_queries} tokens" if n_queries == n_keys else f"{n_queries} tokens and {n_keys} key_tokens"
    raise ValueError(
        f"view: {name} must have a row for each query and a column for each key; got {x.shape} for {tokens}{hint}"
    )


def _spread(name: str, x: Array, shape: tuple[int, ...]) -> Array:
    try:
        return np.broadcast_to(x, shape)  # what was (1, 1, n) for want of axes may be one row for all queries
    except ValueError:
        raise ValueError(f"view: {name} must broadcast to the weights, {shape}; got {x.shape}") from None


def _vectors(name: str, x: Array, n_heads: int, n: int) -> Array:
    if x.shape[1] != n or not x.shape[0] or n_heads % x.shape[0]:
        raise ValueError(f"view: {name} must be (n_heads, n, d_k) with {n_heads} heads and n = {n}; got {x.shape}")
    return np.repeat(x, n_heads // x.shape[0], axis=0)  # heads that share keys and values


def _same_width(query: Array | None, key: Array | None) -> None:
    if query is not None and key is not None and query.shape[-1] != key.shape[-1]:
        raise ValueError(f"view: query and key must share d_k; got {query.shape} and {key.shape}")


def _scale(scale: Any, query: Array | None) -> float | None:
    if scale is None:
        return None if query is None else float(1 / np.sqrt(max(query.shape[-1], 1)))
    if isinstance(scale, bool) or not isinstance(scale, int | float | np.number) or not np.isfinite(scale):
        raise ValueError(f"view: scale must be a number; got {scale!r}")
    return float(scale)
