"""Wrong backwards of softmax and log_softmax."""

from __future__ import annotations  # numpy.random, which they name, is loaded where it's used

from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np

from tinyattn.gallery.faults.exhibit import fault
from tinyattn.gallery.samples import Rng, Sample
from tinyattn.rules.registry import Array, Gradients


def _scores(rng: Rng) -> Iterable[Sample]:
    yield Sample("last axis", (rng.normal(size=(3, 5)),))
    yield Sample("axis 1 of 3", (rng.normal(size=(2, 3, 5)),), {"axis": 1})


# ------------------------------------------------------------------------------------------------------- softmax


def softmax(scores: Array, *, axis: int = -1) -> tuple[Array, tuple[Any, ...]]:
    """The forward pass."""
    exp = np.exp(scores - scores.max(axis=axis, keepdims=True))
    weights = exp / exp.sum(axis=axis, keepdims=True)
    return weights, (weights, axis)


of_softmax = partial(fault, "softmax", softmax, _scores)


@of_softmax()
def softmax_without_row_sum(d_weights: Array, weights: Array, axis: int) -> Gradients:
    """The row sum of (softmax.3) is dropped."""
    return (weights * d_weights,)


@of_softmax()
def softmax_diagonal_only(d_weights: Array, weights: Array, axis: int) -> Gradients:
    """Only the diagonal of the Jacobian is used, w (1 − w)."""
    return (weights * (1 - weights) * d_weights,)


@of_softmax()
def softmax_wrong_axis(d_weights: Array, weights: Array, axis: int) -> Gradients:
    """The sum runs over another axis than the softmax."""
    inner = (weights * d_weights).sum(axis=axis - 1, keepdims=True)
    return (weights * (d_weights - inner),)


@of_softmax()
def softmax_sum_over_everything(d_weights: Array, weights: Array, axis: int) -> Gradients:
    """The sum has no axis, and runs over all rows."""
    return (weights * (d_weights - (weights * d_weights).sum()),)


@of_softmax()
def softmax_mean_for_sum(d_weights: Array, weights: Array, axis: int) -> Gradients:
    """A mean stands where the sum belongs."""
    inner = (weights * d_weights).mean(axis=axis, keepdims=True)
    return (weights * (d_weights - inner),)


@of_softmax()
def softmax_sum_unweighted(d_weights: Array, weights: Array, axis: int) -> Gradients:
    """The gradients are summed without their weights."""
    inner = d_weights.sum(axis=axis, keepdims=True)
    return (weights * (d_weights - inner),)


@of_softmax()
def softmax_weights_forgotten(d_weights: Array, weights: Array, axis: int) -> Gradients:
    """The bracket of (softmax.3) isn't multiplied by the weights."""
    inner = (weights * d_weights).sum(axis=axis, keepdims=True)
    return (d_weights - inner,)


@of_softmax()
def softmax_plus_for_minus(d_weights: Array, weights: Array, axis: int) -> Gradients:
    """The row sum is added, not taken off."""
    inner = (weights * d_weights).sum(axis=axis, keepdims=True)
    return (weights * (d_weights + inner),)


@of_softmax()
def softmax_zero(d_weights: Array, weights: Array, axis: int) -> Gradients:
    """It is zero, which a cotangent of ones takes for right."""
    return (0.0 * d_weights,)


# --------------------------------------------------------------------------------------------------- log_softmax


def log_softmax(scores: Array, *, axis: int = -1) -> tuple[Array, tuple[Any, ...]]:
    """The forward pass."""
    shifted = scores - scores.max(axis=axis, keepdims=True)
    output = shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))
    return output, (output, axis)


of_log_softmax = partial(fault, "log_softmax", log_softmax, _scores)


@of_log_softmax()
def log_softmax_without_weights(d_output: Array, output: Array, axis: int) -> Gradients:
    """The weights' part is dropped."""
    return (d_output,)


@of_log_softmax()
def log_softmax_as_softmax(d_output: Array, output: Array, axis: int) -> Gradients:
    """It is the gradient of softmax."""
    weights = np.exp(output)
    return (weights * (d_output - (weights * d_output).sum(axis=axis, keepdims=True)),)


@of_log_softmax()
def log_softmax_not_summed(d_output: Array, output: Array, axis: int) -> Gradients:
    """The gradients aren't summed along the axis before they meet the weights."""
    return (d_output - np.exp(output) * d_output,)


@of_log_softmax()
def log_softmax_logs_for_weights(d_output: Array, output: Array, axis: int) -> Gradients:
    """The log weights stand where the weights belong."""
    return (d_output - output * d_output.sum(axis=axis, keepdims=True),)


@of_log_softmax()
def log_softmax_uniform_weights(d_output: Array, output: Array, axis: int) -> Gradients:
    """All weights are taken for 1/n: the mean of the gradients is taken off."""
    return (d_output - d_output.mean(axis=axis, keepdims=True),)
