"""Wrong backwards of layer_norm and rms_norm."""

from __future__ import annotations  # numpy.random, which they name, is loaded where it's used

from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np

from tinyattn.gallery.faults.exhibit import fault
from tinyattn.gallery.samples import Rng, Sample
from tinyattn.rules.registry import Array, Gradients


def _normed(rng: Rng) -> Iterable[Sample]:
    x, weight, bias = rng.normal(size=(2, 3, 5)), rng.normal(size=5), rng.normal(size=5)
    yield Sample("weight and bias", (x, weight, bias))
    yield Sample("a large ε", (x, weight, bias), {"eps": 0.5})


def _scaled(rng: Rng) -> Iterable[Sample]:
    yield Sample("weight", (rng.normal(size=(2, 3, 5)), rng.normal(size=5)))


# ---------------------------------------------------------------------------------------------------- layer_norm


def layer_norm(x: Array, weight: Array, bias: Array, *, eps: float = 1e-5) -> tuple[Array, tuple[Any, ...]]:
    """The forward pass."""
    centred = x - x.mean(axis=-1, keepdims=True)
    scale = 1 / np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + eps)
    normed = centred * scale
    return normed * weight + bias, (normed, scale, weight)


of_layer_norm = partial(fault, "layer_norm", layer_norm, _normed)


@of_layer_norm()
def layer_norm_constant_mean(d_output: Array, normed: Array, scale: Array, weight: Array) -> Gradients:
    """The mean is taken for a constant."""
    d_normed = d_output * weight
    d_x = scale * (d_normed - normed * (d_normed * normed).mean(axis=-1, keepdims=True))
    return d_x, d_output * normed, d_output


@of_layer_norm()
def layer_norm_constant_variance(d_output: Array, normed: Array, scale: Array, weight: Array) -> Gradients:
    """The variance is taken for a constant."""
    d_normed = d_output * weight
    d_x = scale * (d_normed - d_normed.mean(axis=-1, keepdims=True))
    return d_x, d_output * normed, d_output


@of_layer_norm()
def layer_norm_unscaled(d_output: Array, normed: Array, scale: Array, weight: Array) -> Gradients:
    """1/σ is missing."""
    d_normed = d_output * weight
    mean, along = d_normed.mean(axis=-1, keepdims=True), (d_normed * normed).mean(axis=-1, keepdims=True)
    return d_normed - mean - normed * along, d_output * normed, d_output


@of_layer_norm()
def layer_norm_weight_skipped(d_output: Array, normed: Array, scale: Array, weight: Array) -> Gradients:
    """The gradient doesn't pass through the weight on its way to x."""
    mean, along = d_output.mean(axis=-1, keepdims=True), (d_output * normed).mean(axis=-1, keepdims=True)
    return scale * (d_output - mean - normed * along), d_output * normed, d_output


@of_layer_norm()
def layer_norm_sums_for_means(d_output: Array, normed: Array, scale: Array, weight: Array) -> Gradients:
    """Sums stand where the means belong: 1/d is missing."""
    d_normed = d_output * weight
    total, along = d_normed.sum(axis=-1, keepdims=True), (d_normed * normed).sum(axis=-1, keepdims=True)
    return scale * (d_normed - total - normed * along), d_output * normed, d_output


@of_layer_norm()
def layer_norm_wrong_axis(d_output: Array, normed: Array, scale: Array, weight: Array) -> Gradients:
    """The means run over the rows."""
    d_normed = d_output * weight
    mean, along = d_normed.mean(axis=-2, keepdims=True), (d_normed * normed).mean(axis=-2, keepdims=True)
    return scale * (d_normed - mean - normed * along), d_output * normed, d_output


@of_layer_norm()
def layer_norm_weight_without_input(d_output: Array, normed: Array, scale: Array, weight: Array) -> Gradients:
    """The weight's gradient forgets the normed input: it is the bias's."""
    d_normed = d_output * weight
    mean, along = d_normed.mean(axis=-1, keepdims=True), (d_normed * normed).mean(axis=-1, keepdims=True)
    return scale * (d_normed - mean - normed * along), d_output, d_output


@of_layer_norm()
def layer_norm_bias_mean(d_output: Array, normed: Array, scale: Array, weight: Array) -> Gradients:
    """The bias gets the mean over the rows, not the sum."""
    d_normed = d_output * weight
    mean, along = d_normed.mean(axis=-1, keepdims=True), (d_normed * normed).mean(axis=-1, keepdims=True)
    d_bias = d_output.reshape(-1, weight.size).mean(axis=0)
    return scale * (d_normed - mean - normed * along), d_output * normed, d_bias


# ------------------------------------------------------------------------------------------------------ rms_norm


def rms_norm(x: Array, weight: Array, *, eps: float = 1e-5) -> tuple[Array, tuple[Any, ...]]:
    """The forward pass."""
    scale = 1 / np.sqrt((x * x).mean(axis=-1, keepdims=True) + eps)
    return x * scale * weight, (x * scale, scale, weight)


@fault("rms_norm", rms_norm, _scaled)
def rms_norm_constant_scale(d_output: Array, normed: Array, scale: Array, weight: Array) -> Gradients:
    """The scale is taken for a constant."""
    return d_output * weight * scale, d_output * normed
