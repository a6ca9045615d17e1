"""What softmax, attention and multi-head attention are made of, step by step, and what they take.

A step is a function of arrays that were given, or made by earlier steps; its parameters name them. It is made of small
rules: arrays give arrays, and Tensors leave a tape. These are not the rules `softmax` and `attention`, and not the
forward passes of `by_hand`, so that a fault in either is seen.
"""

from __future__ import annotations  # numpy.random, which they name, is loaded where it's used

import functools
import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from tinyattn import functions as f
from tinyattn import nodes
from tinyattn.rules import attention as rules
from tinyattn.tensor import Tensor

Array: TypeAlias = Any
Made: TypeAlias = dict[str, Any]
Step: TypeAlias = Callable[..., Array]


class Study(NamedTuple):
    """A computation taken apart."""

    name: str
    steps: dict[str, Step]  # what it makes → how, in forward order; the last is the output
    gradients: dict[str, str]  # what it was given and makes, in backward order → the equation of its gradient
    prepare: Callable[[Made], Made]  # checks what was given, and works it into what the steps take
    sample: Callable[[np.random.Generator, int], Made]  # for n_heads heads, where nothing was given
    required: tuple[str, ...]
    options: tuple[str, ...]
    columns: dict[str, int]  # arrays in which the heads stand beside each other → along which axis

    @property
    def output(self) -> str:
        """The name of what is made last."""
        return next(reversed(self.steps))

    def uses(self, step: str) -> tuple[str, ...]:
        """What a step is made of."""
        return _parameters(self.steps[step])

    def make(self, given: Made) -> Made:
        """Everything that was given and is made, by name."""
        made = dict(given)
        for step, compute in self.steps.items():
            made[step] = compute(*(made[name] for name in self.uses(step)))
        return made

    def head(self, name: str, index: tuple[int, ...], made: Made) -> int | None:
        """The head that a number belongs to; None where it belongs to all."""
        shape: tuple[int, ...] = made[name].shape
        if name in self.columns:
            axis = self.columns[name]
            width = shape[axis] // int(made["n_heads"])
            return index[axis] // width
        if self.columns and name in ("x", self.output):
            return None
        n_heads = made["weights"].shape[-3:-2]
        return index[-3] if shape[-3:-2] == n_heads != () else None


@functools.cache
def _parameters(step: Step) -> tuple[str, ...]:
    return tuple(inspect.signature(step).parameters)


# ---------------------------------------------------------------------------------------------------- the steps


def _scores(query: Array, key: Array, bias: Array, mask: Array, scale: float) -> Array:
    scores = f.matmul(query, f.swapaxes(key, -1, -2)) * scale
    scores = scores if bias is None else scores + bias
    return scores if mask is None else f.where(mask, scores, -np.inf)


def _weights(scores: Array) -> Array:
    sees_any = np.any(scores > -np.inf, axis=-1, keepdims=True)
    scores = f.where(sees_any, scores, 0.0)
    exp = f.exp(scores - f.max(scores, axis=-1, keepdims=True))
    return f.where(sees_any, exp / f.sum(exp, axis=-1, keepdims=True), 0.0)


def _mixed(weights: Array, value: Array) -> Array:
    return f.matmul(weights, value)


def _query(x: Array, w_query: Array, n_heads: int) -> Array:
    return _split(f.matmul(x, w_query), n_heads)


def _key(x: Array, w_key: Array, n_heads: int) -> Array:
    return _split(f.matmul(x, w_key), n_heads)


def _value(x: Array, w_value: Array, n_heads: int) -> Array:
    return _split(f.matmul(x, w_value), n_heads)


def _mix(heads: Array) -> Array:
    """Head by head, side by side."""
    return f.concatenate([heads[..., h, :, :] for h in range(heads.shape[-3])], axis=-1)


def _output(mix: Array, w_output: Array) -> Array:
    return f.matmul(mix, w_output)


def _split(x: Array, n_heads: int) -> Array:
    """Head h takes the h-th of n_heads equal parts of the columns."""
    width = x.shape[-1] // n_heads
    return f.stack([x[..., h * width : (h + 1) * width] for h in range(n_heads)], axis=-3)


# ---------------------------------------------------------------------------------------------------- what they take


def _prepare_softmax(given: Made) -> Made:
    if given["scores"].ndim == 0:
        raise ValueError("side_by_side: scores need an axis to sum along; got a single number")
    return given


def _prepare_attention(given: Made) -> Made:
    query, key = given["query"], given["key"]
    mask, scale = _mask(given["mask"]), _scale(given["scale"], query.shape[-1])
    rules.attention(query, key, given["value"], given["bias"], mask=mask, causal=given["causal"], scale=scale)  # checks
    return given | {"mask": _seen(mask, given["causal"], query.shape[-2], key.shape[-2]), "scale": scale}


def _prepare_multi_head(given: Made) -> Made:
    x, n_heads = given["x"], given["n_heads"]
    if not isinstance(n_heads, int | np.integer) or isinstance(n_heads, bool):
        raise TypeError(f"side_by_side: n_heads must be a whole number; got {type(n_heads).__name__}")
    if n_heads < 1:
        raise ValueError(f"side_by_side: n_heads must be 1 or more; got {n_heads}")
    if x.ndim < 2:
        raise ValueError(f"side_by_side: x must be (..., n, d_model); got {x.shape}")
    for name in ("w_query", "w_key", "w_value"):
        shape = given[name].shape
        if len(shape) != 2 or shape[0] != x.shape[-1] or shape[1] % n_heads:
            raise ValueError(
                f"side_by_side: {name} must be (d_model, n_heads · d), here ({x.shape[-1]}, a multiple of {n_heads});"
                f" got {shape}. Is it transposed?"
            )
    rows = given["w_value"].shape[1]
    if given["w_output"].ndim != 2 or len(given["w_output"]) != rows:
        raise ValueError(
            f"side_by_side: w_output must have a row for each column of w_value, ({rows}, d_output);"
            f" got {given['w_output'].shape}"
        )
    w_query, w_key = given["w_query"].shape, given["w_key"].shape
    if w_query != w_key:
        raise ValueError(f"side_by_side: w_query and w_key must have one shape; got {w_query} and {w_key}")
    heads = {name: _split(x @ given[f"w_{name}"], int(n_heads)) for name in ("query", "key", "value")}
    prepared = _prepare_attention(given | heads)
    return {name: prepared[name] for name in prepared if name not in heads} | {"n_heads": int(n_heads)}


def _mask(mask: Any) -> Any:
    return mask if mask is None else mask.numpy() if isinstance(mask, Tensor) else np.asarray(mask)


def _seen(mask: Any, causal: bool, n_queries: int, n_keys: int) -> Any:
    """The mask with `causal` worked into it: the last query sees the last key."""
    if not causal:
        return mask
    i, j = np.ogrid[:n_queries, :n_keys]
    not_later = n_queries - i <= n_keys - j
    return not_later if mask is None else not_later & mask


def _scale(scale: Any, d_k: int) -> float:
    if scale is None:
        return 1 / math.sqrt(d_k)
    if isinstance(scale, bool) or not isinstance(scale, int | float | np.integer | np.floating):
        raise TypeError(f"side_by_side: scale must be a number; got {type(scale).__name__}")
    if not math.isfinite(scale):
        raise ValueError(f"side_by_side: scale must be finite; got {scale}")
    return float(scale)


def _sample_softmax(rng: np.random.Generator, n_heads: int) -> Made:
    return {"scores": rng.normal(size=(n_heads, 3, 5))}


def _sample_attention(rng: np.random.Generator, n_heads: int) -> Made:
    shapes = {"query": (n_heads, 3, 5), "key": (n_heads, 7, 5), "value": (n_heads, 7, 11)}
    return {name: rng.normal(size=shape) for name, shape in shapes.items()}


def _sample_multi_head(rng: np.random.Generator, n_heads: int) -> Made:
    shapes = {"x": (3, 7), "w_query": (7, 5 * n_heads), "w_key": (7, 5 * n_heads)}
    shapes |= {"w_value": (7, 11 * n_heads), "w_output": (11 * n_heads, 13)}
    return {name: rng.normal(size=shape) / math.sqrt(shape[0]) for name, shape in shapes.items()}


# ---------------------------------------------------------------------------------------------------- the studies

_OF_ATTENTION = {
    "value": "(attention.4)",
    "weights": "(attention.5)",
    "scores": "(softmax.3)",
    "bias": "(attention.8)",
    "query": "(attention.6)",
    "key": "(attention.7)",
}

STUDIES: Mapping[str, Study] = {
    "softmax": Study(
        name="softmax",
        steps={"weights": _weights},
        gradients={"weights": "", "scores": "(softmax.3)"},
        prepare=_prepare_softmax,
        sample=_sample_softmax,
        required=("scores",),
        options=(),
        columns={},
    ),
    "attention": Study(
        name="attention",
        steps={"scores": _scores, "weights": _weights, "output": _mixed},
        gradients={"output": ""} | _OF_ATTENTION,
        prepare=_prepare_attention,
        sample=_sample_attention,
        required=("query", "key", "value"),
        options=("bias", "mask", "causal", "scale"),
        columns={},
    ),
    "multi_head": Study(
        name="multi_head",
        steps={
            "query": _query,
            "key": _key,
            "value": _value,
            "scores": _scores,
            "weights": _weights,
            "heads": _mixed,
            "mix": _mix,
            "output": _output,
        },
        gradients={"output": "", "w_output": "(multi_head.2')", "mix": "(multi_head.2')", "heads": "(multi_head.2')"}
        | _OF_ATTENTION
        | dict.fromkeys(("w_value", "w_query", "w_key", "x"), "(multi_head.1')"),
        prepare=_prepare_multi_head,
        sample=_sample_multi_head,
        required=("x", "w_query", "w_key", "w_value", "w_output", "n_heads"),
        options=("bias", "mask", "causal", "scale"),
        columns={"w_query": -1, "w_key": -1, "w_value": -1, "mix": -1, "w_output": -2},
    ),
}


def study(name: Any) -> Study:
    """The study of that name. Raises `ValueError` where there is none."""
    if not isinstance(name, str):
        raise TypeError(f"side_by_side: needs the name of a study, {_listed(STUDIES)}; got {type(name).__name__}")
    if name not in STUDIES:
        raise ValueError(f"side_by_side: there is no study {name!r}, but {_listed(STUDIES)}.{near(name, STUDIES)}")
    return STUDIES[name]


def inputs(study: Study, given: Mapping[str, Any], rng: np.random.Generator) -> Made:
    """What the steps of a study take, checked; arrays drawn from `rng` where none are given."""
    known = (*study.required, *study.options)
    for name in given:
        if name not in known:
            hint = near(name, known) or f" It takes {', '.join(known)}"
            raise TypeError(f"side_by_side: {study.name} takes no {name!r}.{hint}")
    arrays = [name for name in study.required if name != "n_heads"]
    given = {"bias": None, "mask": None, "causal": False, "scale": None} | dict(given) if study.options else dict(given)
    if all(given.get(name) is None for name in arrays):
        n_heads = given.get("n_heads", 2)
        given |= study.sample(rng, n_heads if isinstance(n_heads, int) and n_heads > 0 else 2)
        given |= {"n_heads": n_heads} if "n_heads" in study.required else {}
    for name in study.required:
        if given.get(name) is None:
            raise TypeError(f"side_by_side: {study.name} needs {name!r}, or none of {', '.join(arrays)}")
    checked = {name: as_array(name, given[name]) for name in (*arrays, "bias") if given.get(name) is not None}
    return study.prepare(given | checked)


def near(name: str, known: Iterable[str]) -> str:
    """' Did you mean ...?', if anything is near."""
    import difflib

    found = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {found[0]!r}?" if found else ""


def as_array(name: str, x: Any) -> Array:
    """x as an array of which something can be compared."""
    array = as_numbers(name, x)
    if array.size == 0:
        raise ValueError(f"side_by_side: {name} is empty, of shape {array.shape}; there is nothing to compare")
    if not np.isfinite(array).all():
        hint = " Hide keys with mask= instead." if name == "bias" else ""
        raise ValueError(f"side_by_side: {name} has NaN or infinite numbers, of which nothing can be compared.{hint}")
    return array


def as_numbers(name: str, x: Any) -> Array:
    """x as float64: what is compared is the mathematics, not the rounding."""
    try:
        array = x.numpy() if isinstance(x, Tensor) else nodes.as_array(x, f"side_by_side: {name}")
    except ValueError as error:  # lists of unequal lengths
        raise TypeError(f"side_by_side: {name} needs real numbers, in one array ({error})") from error
    if array.dtype.kind not in "fiu":
        raise TypeError(f"side_by_side: {name} needs real numbers; got {array.dtype}")
    return array.astype(np.float64)


def _listed(names: Iterable[str]) -> str:
    *most, last = (repr(name) for name in names)
    return f"{', '.join(most)} or {last}"
