"""Wrong backwards of cross_entropy."""

from __future__ import annotations  # numpy.random, which they name, is loaded where it's used

from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np

from tinyattn.gallery.faults.exhibit import fault
from tinyattn.gallery.samples import Rng, Sample
from tinyattn.rules.registry import Array, Gradients


def _classified(rng: Rng) -> Iterable[Sample]:
    scores, targets = rng.normal(size=(2, 3, 5)), rng.integers(5, size=(2, 3))
    for reduction in ("mean", "sum", "none"):
        yield Sample(reduction, (scores, targets), {"reduction": reduction})


def cross_entropy(scores: Array, targets: Array, *, reduction: str = "mean") -> tuple[Array, tuple[Any, ...]]:
    """The forward pass."""
    exp = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights = exp / exp.sum(axis=-1, keepdims=True)
    one_hot = np.eye(scores.shape[-1])[targets]
    losses = -(one_hot * np.log(weights)).sum(axis=-1)
    n = targets.size if reduction == "mean" else 1
    output = losses if reduction == "none" else losses.sum() / n
    return output, (weights, one_hot, n)


of_cross_entropy = partial(fault, "cross_entropy", cross_entropy, _classified)


@of_cross_entropy()
def cross_entropy_not_divided(d_output: Array, weights: Array, one_hot: Array, n: int) -> Gradients:
    """The mean isn't divided by n."""
    return (weights - one_hot) * d_output[..., None], None


@of_cross_entropy()
def cross_entropy_divided_by_classes(d_output: Array, weights: Array, one_hot: Array, n: int) -> Gradients:
    """The mean is divided by the number of classes too."""
    divisor = n if n == 1 else weights.size
    return (weights - one_hot) * d_output[..., None] / divisor, None


@of_cross_entropy()
def cross_entropy_without_targets(d_output: Array, weights: Array, one_hot: Array, n: int) -> Gradients:
    """The one-hot targets aren't taken off the weights."""
    return weights * d_output[..., None] / n, None


@of_cross_entropy()
def cross_entropy_targets_undivided(d_output: Array, weights: Array, one_hot: Array, n: int) -> Gradients:
    """The weights are divided by n before the targets are taken off."""
    return (weights / n - one_hot) * d_output[..., None], None


@of_cross_entropy()
def cross_entropy_wrong_sign(d_output: Array, weights: Array, one_hot: Array, n: int) -> Gradients:
    """The sign is wrong."""
    return (one_hot - weights) * d_output[..., None] / n, None


@of_cross_entropy()
def cross_entropy_targets_off_by_one(d_output: Array, weights: Array, one_hot: Array, n: int) -> Gradients:
    """The class beside the target is taken for the target, as if they were counted from 1."""
    return (weights - np.roll(one_hot, -1, axis=-1)) * d_output[..., None] / n, None


@of_cross_entropy()
def cross_entropy_gradient_ignored(d_output: Array, weights: Array, one_hot: Array, n: int) -> Gradients:
    """The loss is taken for the last thing there is: the gradient that comes in isn't used."""
    return (weights - one_hot) / n, None
