"""The exercises: a forward pass that saves what it makes, and the steps from which the true gradients follow.

The forward passes, which a student reads, are those of `tinyattn.by_hand`. The truth comes from elsewhere: from the
tape, over the small rules that the steps are made of.
"""

from __future__ import annotations  # numpy.random, which they name, is loaded where it's used

import ast
import inspect
import math
import re
import reprlib
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from tinyattn import functions as f
from tinyattn.by_hand import attention, block
from tinyattn.study.steps import STUDIES, Array, Made, Step, Study, near

Samples: TypeAlias = "Callable[[np.random.Generator], dict[str, Made]]"


@dataclass(frozen=True, eq=False)
class Exercise:
    """A backward pass to write: what is computed, what is saved of it, and which gradients are asked for.

    Printed, it is the task, with the forward pass and the shapes of what it saves; the sizes are those of the first
    sample, and all different.
    """

    name: str
    task: str
    asked: tuple[str, ...]
    study: Study = field(repr=False)
    forward: Callable[..., Made] = field(repr=False)
    samples: Samples = field(repr=False)

    @property
    def bare(self) -> bool:
        """Whether the gradients may be returned without their names: one array, or a tuple of as many as are asked."""
        return len(self.asked) <= 3

    @property
    def returns(self) -> str:
        """What a backward pass returns, in words."""
        bare = "the array alone" if len(self.asked) == 1 else "a tuple of these in this order"
        return f"a dict with {', '.join(self.asked)}" + (f", or {bare}" if self.bare else "")

    @property
    def gradients(self) -> tuple[str, ...]:
        """Every gradient that may be handed in, in the order in which they are found."""
        saved = self.forward(**self._sample)
        return tuple(f"d_{name}" for name in self.study.gradients if saved[name] is not None)

    @property
    def source(self) -> str:
        """The forward pass."""
        return code(self.forward)

    @property
    def shapes(self) -> dict[str, str]:
        """What is saved: the shape of each array, and what else there is."""
        saved = self.forward(**self._sample)
        return {name: str(x.shape) if hasattr(x, "shape") else repr(x) for name, x in saved.items()}

    @property
    def _sample(self) -> Made:
        return next(iter(self.samples(np.random.default_rng(0)).values()))

    def __str__(self) -> str:
        width = max(map(len, self.shapes))
        optional = [name for name in self.gradients if name not in (*self.asked, f"d_{self.study.output}")]
        further = f"What may be in it too, and is checked in this order: {', '.join(optional)}."
        return "\n\n".join(
            [
                f"{self.name}: {self.task}",
                textwrap.indent(self.source, "    "),
                "Saved, by name:",
                "\n".join(f"    {name:{width}}  {shape}" for name, shape in self.shapes.items()),
                _filled(f"Write backward(d_output, saved). It returns {self.returns}."),
                *([_filled(further)] if optional else []),
            ]
        )

    __repr__ = __str__


def exercise(name: str) -> Exercise:
    """The exercise of that name: 'softmax', 'attention', 'layer_norm', 'cross_entropy', 'multi_head' or 'block'.

    Printed, it shows the task, the forward pass, and the shapes of what that saves. A backward pass for it is a
    function `backward(d_output, saved)`, for `check`. Raises `ValueError` where there is no such exercise.

    >>> softmax = exercise("softmax")
    >>> softmax.asked, softmax.shapes
    (('d_scores',), {'scores': '(2, 3, 5)', 'weights': '(2, 3, 5)'})
    """
    return named(name, "exercise")


def named(name: Any, operation: str) -> Exercise:
    """The same; `operation` is what errors call whoever asks."""
    known = ", ".join(map(repr, EXERCISES))
    if not isinstance(name, str):
        raise TypeError(f"{operation}: needs the name of an exercise, of {known}; got {type(name).__name__}")
    if name not in EXERCISES:
        raise ValueError(f"{operation}: there is no exercise {reprlib.repr(name)}, but {known}.{near(name, EXERCISES)}")
    return EXERCISES[name]


def code(function: Callable[..., Any]) -> str:
    """The source of a function, without its docstring."""
    lines = inspect.getsource(function).rstrip().splitlines()
    definition = ast.parse("\n".join(lines)).body[0]
    assert isinstance(definition, ast.FunctionDef)
    first = definition.body[0]
    if ast.get_docstring(definition) is not None:
        del lines[first.lineno - 1 : first.end_lineno]
    return "\n".join(re.sub(r" +# ", "  # ", line).rstrip() for line in lines)


def _filled(text: str) -> str:
    return textwrap.fill(text, 88, break_long_words=False)


# ---------------------------------------------------------------------------------------------------- the steps


def _centred(x: Array) -> Array:
    return x - f.mean(x, axis=-1, keepdims=True)


def _deviation(centred: Array, eps: float) -> Array:
    return f.sqrt(f.mean(centred * centred, axis=-1, keepdims=True) + eps)


def _normal(centred: Array, deviation: Array) -> Array:
    return centred / deviation


def _scaled(normal: Array, weight: Array, bias: Array) -> Array:
    return normal * weight + bias


def _norm(x: Array, weight: Array, bias: Array, eps: float) -> Array:
    centred = _centred(x)
    return _scaled(_normal(centred, _deviation(centred, eps)), weight, bias)


def _log_weights(scores: Array) -> Array:
    shifted = scores - f.max(scores, axis=-1, keepdims=True)
    return shifted - f.log(f.sum(f.exp(shifted), axis=-1, keepdims=True))


def _losses(log_weights: Array, one_hot: Array) -> Array:
    return -f.sum(log_weights * one_hot, axis=-1)


def _loss(losses: Array) -> Array:
    return f.mean(losses)


_inside = STUDIES["multi_head"].steps


def _of_normed(step: str, weight: str) -> Step:
    """The queries, keys or values, of what the norm made of x."""

    def projected(normed_1: Array, w: Array, n_heads: int) -> Array:
        return _inside[step](normed_1, w, n_heads)

    signature = inspect.signature(projected)
    parameters = [p.replace(name=weight) if name == "w" else p for name, p in signature.parameters.items()]
    projected.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return projected


def _norm_1(x: Array, weight_1: Array, bias_1: Array, eps: float) -> Array:
    return _norm(x, weight_1, bias_1, eps)


def _norm_2(middle: Array, weight_2: Array, bias_2: Array, eps: float) -> Array:
    return _norm(middle, weight_2, bias_2, eps)


def _scores(query: Array, key: Array, mask: Array, scale: float) -> Array:
    return _inside["scores"](query, key, None, mask, scale)


def _middle(x: Array, attended: Array) -> Array:
    return x + attended


def _hidden(normed_2: Array, w_expand: Array, b_expand: Array) -> Array:
    return f.matmul(normed_2, w_expand) + b_expand


def _active(hidden: Array) -> Array:
    return f.relu(hidden)


def _block_output(middle: Array, active: Array, w_contract: Array, b_contract: Array) -> Array:
    return middle + f.matmul(active, w_contract) + b_contract


_OF_BLOCK: dict[str, Step] = {
    "normed_1": _norm_1,
    "query": _of_normed("query", "w_query"),
    "key": _of_normed("key", "w_key"),
    "value": _of_normed("value", "w_value"),
    "scores": _scores,
    "weights": _inside["weights"],
    "heads": _inside["heads"],
    "mix": _inside["mix"],
    "attended": _inside["output"],
    "middle": _middle,
    "normed_2": _norm_2,
    "hidden": _hidden,
    "active": _active,
    "output": _block_output,
}


def _study(name: str, made_by: dict[str, Step], gradients: Mapping[str, str]) -> Study:
    return Study(name, made_by, dict(gradients), dict, lambda rng, n_heads: {}, (), (), {})


_LAYER_NORM = _study(
    "layer_norm",
    {"centred": _centred, "deviation": _deviation, "normal": _normal, "output": _scaled},
    {"output": ""} | dict.fromkeys(("bias", "weight", "normal", "deviation"), "(layer_norm.2')")
    | dict.fromkeys(("centred", "x"), "(layer_norm.1')"),
)  # fmt: skip
_CROSS_ENTROPY = _study(
    "cross_entropy",
    {"log_weights": _log_weights, "losses": _losses, "output": _loss},
    {"output": ""} | dict.fromkeys(("losses", "log_weights"), "(cross_entropy.1')") | {"scores": "(cross_entropy.2)"},
)
_BLOCK = _study(
    "block",
    _OF_BLOCK,
    {"output": ""}
    | dict.fromkeys(("b_contract", "w_contract", "active", "hidden", "b_expand", "w_expand", "normed_2"), "(mlp.1')")
    | dict.fromkeys(("bias_2", "weight_2", "middle"), "(block.2')")
    | {"attended": "(block.1')", "w_output": "(multi_head.2')"}
    | {name: label for name, label in STUDIES["multi_head"].gradients.items() if name not in ("output", "x", "bias")}
    | dict.fromkeys(("normed_1", "bias_1", "weight_1", "x"), "(block.1')"),
)


# ---------------------------------------------------------------------------------------------------- the samples
# Lengths are distinct primes, so that no wrong transpose fits by chance; and each sample shows what others hide.


def _of_softmax(rng: np.random.Generator) -> dict[str, Made]:
    hidden = np.where(rng.random((2, 3, 5)) < 0.4, -np.inf, rng.normal(size=(2, 3, 5)))
    hidden[0, 1] = -np.inf
    hidden[1, 2] = rng.normal(size=5)
    far = 300 * rng.normal(size=(3, 7))
    far[0] = 300 + rng.normal(size=7)  # a row that isn't decided, against which rounding is measured
    return {
        "plain": {"scores": rng.normal(size=(2, 3, 5))},
        "a matrix": {"scores": rng.normal(size=(7, 3))},
        "some scores -inf": {"scores": hidden},
        "scores in the hundreds": {"scores": far},
    }


def _of_attention(rng: np.random.Generator) -> dict[str, Made]:
    def drawn(*lead: int) -> Made:
        shapes = {"query": (*lead, 3, 5), "key": (*lead, 7, 5), "value": (*lead, 7, 11)}
        return {name: rng.normal(size=shape) for name, shape in shapes.items()}

    far = drawn(2)
    far["query"][:, 1:] *= 100.0  # the first isn't decided: against it rounding is measured
    seen = rng.random((2, 3, 7)) < 0.6
    seen[0, 1] = False
    seen[1, 2] = True
    return {
        "plain": drawn(2),
        "one head": drawn(),
        "some keys hidden": drawn(2) | {"mask": seen},
        "a batch, causal, another scale": drawn(2, 3) | {"causal": True, "scale": 0.7},
        "scores in the hundreds": far,
    }


def _of_layer_norm(rng: np.random.Generator) -> dict[str, Made]:
    def drawn(*shape: int) -> Made:
        affine = {name: rng.normal(size=shape[-1]) for name in ("weight", "bias")}
        return {"x": rng.normal(size=shape)} | affine

    given = drawn(5, 7)
    return {
        "plain": drawn(2, 3, 5),
        "a large eps": drawn(3, 7) | {"eps": 0.5},
        "numbers in the thousands": given | {"x": 1000 * given["x"] + 5000},
        "nearly constant rows": drawn(3, 5) | {"x": 1.0 + 1e-3 * rng.normal(size=(3, 5))},
    }


def _of_cross_entropy(rng: np.random.Generator) -> dict[str, Made]:
    def drawn(*shape: int) -> Made:
        return {"scores": rng.normal(size=shape), "targets": rng.integers(shape[-1], size=shape[:-1])}

    far = drawn(7, 3)
    far["scores"] *= 300
    far["scores"][0, far["targets"][0]] -= 2000  # a target whose weight is exactly 0
    return {"plain": drawn(3, 5), "a stack": drawn(2, 3, 7), "scores in the hundreds": far}


def _with_heads(rng: np.random.Generator, drawn: Callable[..., Made]) -> dict[str, Made]:
    seen = rng.random((3, 5, 5)) < 0.6
    seen[0, 1] = False
    return {
        "plain": drawn(),
        "a batch, causal": drawn(2) | {"causal": True},
        "three heads, some keys hidden": drawn(n_heads=3, n=5) | {"mask": seen},
    }


def _of_multi_head(rng: np.random.Generator) -> dict[str, Made]:
    def drawn(*lead: int, n_heads: int = 2, n: int = 3) -> Made:
        shapes = {"w_query": (7, 5 * n_heads), "w_key": (7, 5 * n_heads)}
        shapes |= {"w_value": (7, 11 * n_heads), "w_output": (11 * n_heads, 13)}
        weights = {name: rng.normal(size=shape) / math.sqrt(shape[0]) for name, shape in shapes.items()}
        return {"x": rng.normal(size=(*lead, n, 7))} | weights | {"n_heads": n_heads}

    return _with_heads(rng, drawn)


def _of_block(rng: np.random.Generator) -> dict[str, Made]:
    def drawn(*lead: int, n_heads: int = 2, n: int = 3) -> Made:
        shapes = {"w_query": (7, 5 * n_heads), "w_key": (7, 5 * n_heads), "w_value": (7, 11 * n_heads)}
        shapes |= {"w_output": (11 * n_heads, 7), "w_expand": (7, 13), "w_contract": (13, 7)}
        given = {name: rng.normal(size=shape) / math.sqrt(shape[0]) for name, shape in shapes.items()}
        vectors = {"weight_1": 7, "bias_1": 7, "weight_2": 7, "bias_2": 7, "b_expand": 13, "b_contract": 7}
        given |= {name: rng.normal(size=n) for name, n in vectors.items()}
        return {"x": rng.normal(size=(*lead, n, 7))} | given | {"n_heads": n_heads, "eps": 0.1}

    return _with_heads(rng, drawn)


# ---------------------------------------------------------------------------------------------------- all of them

_OF_MLP = ("d_b_contract", "d_w_contract", "d_b_expand", "d_w_expand")
_WEIGHTS = ("d_w_output", "d_w_value", "d_w_query", "d_w_key")

EXERCISES: Mapping[str, Exercise] = {
    made.name: made
    for made in (
        Exercise(
            "softmax",
            "from the gradient in the weights, find that in the scores.",
            ("d_scores",),
            STUDIES["softmax"],
            attention.softmax,
            _of_softmax,
        ),
        Exercise(
            "attention",
            "follow the output back to the weights, the scores, and the query, key and value.",
            ("d_value", "d_weights", "d_scores", "d_query", "d_key"),
            STUDIES["attention"],
            attention.attention,
            _of_attention,
        ),
        Exercise(
            "layer_norm",
            "x goes into the output three times: by itself, through the mean, and through the deviation.",
            ("d_x", "d_weight", "d_bias"),
            _LAYER_NORM,
            block.layer_norm,
            _of_layer_norm,
        ),
        Exercise(
            "cross_entropy",
            "from the gradient in the mean loss, one number, find that in the scores.",
            ("d_scores",),
            _CROSS_ENTROPY,
            block.cross_entropy,
            _of_cross_entropy,
        ),
        Exercise(
            "multi_head",
            "split, attend, merge, and mix: find the gradients in x and in the four weights.",
            (*_WEIGHTS, "d_x"),
            STUDIES["multi_head"],
            attention.multi_head,
            _of_multi_head,
        ),
        Exercise(
            "block",
            "a whole transformer block: the gradients in x and in all twelve parameters.",
            (*_OF_MLP, "d_bias_2", "d_weight_2", *_WEIGHTS, "d_bias_1", "d_weight_1", "d_x"),
            _BLOCK,
            block.block,
            _of_block,
        ),
    )
}
