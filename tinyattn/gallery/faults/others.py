"""Wrong backwards of what attention's neighbourhood is made of."""

from __future__ import annotations  # numpy.random, which they name, is loaded where it's used

from collections.abc import Iterable
from typing import Any

import numpy as np

from tinyattn.gallery.faults.exhibit import fault
from tinyattn.gallery.samples import Rng, Sample, all_different, clear_of_zero
from tinyattn.rules.registry import Array, Gradients


def _matrix(rng: Rng) -> Iterable[Sample]:
    yield Sample("a matrix", (rng.normal(size=(3, 5)),))


def _apart(rng: Rng) -> Iterable[Sample]:
    yield Sample("a matrix", (all_different(rng, 3, 5),))


def _square_factors(rng: Rng) -> Iterable[Sample]:
    yield Sample("square matrices", (rng.normal(size=(5, 5)), rng.normal(size=(5, 5))))


def _weighted(rng: Rng) -> Iterable[Sample]:
    yield Sample("a stack", (rng.normal(size=(2, 3, 5)), rng.normal(size=(5, 7)), rng.normal(size=7)))


def _embedded(rng: Rng) -> Iterable[Sample]:
    yield Sample("repeated ids", (rng.normal(size=(7, 5)), np.array([[2, 2, 6], [0, 5, 2]])))


def _quotients(rng: Rng) -> Iterable[Sample]:
    yield Sample("one shape", (rng.normal(size=(3, 5)), clear_of_zero(rng, 3, 5)))


def _chosen(rng: Rng) -> Iterable[Sample]:
    yield Sample("one shape", (rng.random((3, 5)) < 0.5, rng.normal(size=(3, 5)), rng.normal(size=(3, 5))))


def logsumexp(x: Array) -> tuple[Array, tuple[Any, ...]]:
    """The forward pass, over all numbers."""
    return np.log(np.exp(x).sum()), (x,)


@fault("logsumexp", logsumexp, _matrix)
def logsumexp_not_divided(d_output: Array, x: Array) -> Gradients:
    """The exponentials aren't divided by their sum."""
    return (d_output * np.exp(x),)


def matmul(x: Array, y: Array) -> tuple[Array, tuple[Any, ...]]:
    """The forward pass."""
    return x @ y, (x, y)


@fault("matmul", matmul, _square_factors)
def matmul_factors_exchanged(d_output: Array, x: Array, y: Array) -> Gradients:
    """The two gradients have changed places."""
    return x.T @ d_output, d_output @ y.T


@fault("matmul", matmul, _square_factors)
def matmul_not_transposed(d_output: Array, x: Array, y: Array) -> Gradients:
    """The right factor isn't transposed."""
    return d_output @ y, x.T @ d_output


def linear(x: Array, weight: Array, bias: Array) -> tuple[Array, tuple[Any, ...]]:
    """The forward pass."""
    return x @ weight + bias, (x, weight)


@fault("linear", linear, _weighted)
def linear_bias_mean(d_output: Array, x: Array, weight: Array) -> Gradients:
    """The bias gets the mean over the rows, not the sum."""
    d_rows = d_output.reshape(-1, d_output.shape[-1])
    return d_output @ weight.T, x.reshape(-1, x.shape[-1]).T @ d_rows, d_rows.mean(axis=0)


@fault("linear", linear, _weighted)
def linear_last_of_batch(d_output: Array, x: Array, weight: Array) -> Gradients:
    """The weight gets the gradient of the last of the batch, not the sum over it."""
    return d_output @ weight.T, x[-1].T @ d_output[-1], d_output


def embedding(weight: Array, ids: Array) -> tuple[Array, tuple[Any, ...]]:
    """The forward pass."""
    return weight[ids], (weight, ids)


@fault("embedding", embedding, _embedded)
def embedding_last_wins(d_output: Array, weight: Array, ids: Array) -> Gradients:
    """A repeated id keeps its last gradient only: `+=` at repeated places adds once."""
    d_weight = np.zeros_like(weight)
    d_weight[ids] += d_output
    return d_weight, None


def mean(x: Array) -> tuple[Array, tuple[Any, ...]]:
    """The forward pass, over all numbers."""
    return x.sum() / x.size, (x,)


@fault("mean", mean, _matrix)
def mean_as_sum(d_output: Array, x: Array) -> Gradients:
    """It is the gradient of the sum."""
    return (d_output * np.ones_like(x),)


def maximum_of_all(x: Array) -> tuple[Array, tuple[Any, ...]]:
    """The forward pass, over all numbers."""
    return x.max(), (x,)


@fault("max", maximum_of_all, _apart)
def max_everybody_wins(d_output: Array, x: Array) -> Gradients:
    """Everybody wins."""
    return (d_output * np.ones_like(x),)


def divide(x: Array, y: Array) -> tuple[Array, tuple[Any, ...]]:
    """The forward pass."""
    return x / y, (x, y)


@fault("divide", divide, _quotients)
def divide_wrong_sign(d_output: Array, x: Array, y: Array) -> Gradients:
    """The denominator's gradient has the wrong sign."""
    return d_output / y, d_output * x / (y * y)


@fault("divide", divide, _quotients)
def divide_not_squared(d_output: Array, x: Array, y: Array) -> Gradients:
    """y stands where y² belongs."""
    return d_output / y, -d_output * x / y


def where(condition: Array, x: Array, y: Array) -> tuple[Array, tuple[Any, ...]]:
    """The forward pass."""
    return np.where(condition, x, y), (condition,)


@fault("where", where, _chosen)
def where_both_sides(d_output: Array, condition: Array) -> Gradients:
    """Both sides get everything."""
    return None, d_output, d_output


def tanh(x: Array) -> tuple[Array, tuple[Any, ...]]:
    """The forward pass."""
    output = np.tanh(x)
    return output, (output,)


@fault("tanh", tanh, _matrix)
def tanh_not_squared(d_output: Array, output: Array) -> Gradients:
    """1 − y stands where 1 − y² belongs."""
    return (d_output * (1 - output),)


def exp(x: Array) -> tuple[Array, tuple[Any, ...]]:
    """The forward pass."""
    output = np.exp(x)
    return output, (output,)


@fault("exp", exp, _matrix)
def exp_forgotten(d_output: Array, output: Array) -> Gradients:
    """The output, which is its own derivative, isn't multiplied by."""
    return (d_output,)


@fault("exp", exp, _matrix)
def exp_nan(d_output: Array, output: Array) -> Gradients:
    """It is NaN."""
    return (d_output * np.nan,)
