"""Rules that score a prediction."""

from __future__ import annotations  # else every call of a rule would evaluate those of its backward

import numpy as np

from tinyattn.rules.reductions import mean, sum
from tinyattn.rules.registry import Array, Gradients, Result, rule
from tinyattn.rules.softmax import log_softmax

REDUCTIONS = {"mean": mean, "sum": sum}


@rule
def cross_entropy(scores: Array, targets: Array, *, reduction: str = "mean") -> Result:
    """How surprised the softmax of the scores is by the right classes.

    ℓ = −log w_t,   w = softmax(s)                                   (cross_entropy.1)
    ∂ℓ/∂s_j = w_j − [j = t]                                          (cross_entropy.2)

    scores (..., n_classes), targets (...) of integers; the mean over all of them, or `reduction="sum"`, or `"none"`.
    The classes stand on the last axis; PyTorch has them on the second. Raises `TypeError` for targets that aren't
    integers, `ValueError` for shapes or classes that don't fit.

    >>> cross_entropy(np.array([[0.0, 0.0]]), np.array([1]))[0].round(4).item()  # log 2
    0.6931
    """
    one_hot = _one_hot(scores, targets)
    log_weights, _ = log_softmax(scores)
    losses = -np.where(one_hot, log_weights, 0.0).sum(axis=-1)
    output, reduce_backward = _reduce("cross_entropy", losses, reduction)

    def backward(d_output: Array) -> Gradients:
        (d_losses,) = reduce_backward(d_output)
        return np.expand_dims(d_losses, -1) * (np.exp(log_weights) - one_hot), None  # (cross_entropy.2)

    return output, backward


@rule
def mse_loss(prediction: Array, target: Array, *, reduction: str = "mean") -> Result:
    """The squared distance between prediction and target.

    ℓ = (p − t)²,   ∂ℓ/∂p = 2 (p − t) = −∂ℓ/∂t                       (mse_loss.1)

    The two have one shape, for which `reduction` takes the mean, `"sum"` or `"none"`. Half of it is the loss of many a
    textbook.

    >>> mse_loss(np.array([1.0, 2.0]), np.array([1.0, 4.0]))[0].item()
    2.0
    """
    if prediction.shape != target.shape:
        raise ValueError(f"mse_loss: prediction and target must have one shape; got {prediction.shape}, {target.shape}")
    error = prediction - target
    output, reduce_backward = _reduce("mse_loss", error * error, reduction)

    def backward(d_output: Array) -> Gradients:
        (d_losses,) = reduce_backward(d_output)
        d_prediction = 2.0 * d_losses * error
        return d_prediction, -d_prediction

    return output, backward


def _reduce(name: str, losses: Array, reduction: str) -> Result:
    if reduction == "none":
        return losses, lambda d_losses: (d_losses,)
    if reduction not in REDUCTIONS:
        raise ValueError(f"{name}: reduction must be 'mean', 'sum' or 'none'; got {reduction!r}")
    return REDUCTIONS[reduction](losses)


def _one_hot(scores: Array, targets: Array) -> Array:
    """[j = t] as booleans, once the targets are known to be classes."""
    if targets.dtype.kind not in "iu":
        raise TypeError(f"cross_entropy: targets must be integers, a class for each row of scores; got {targets.dtype}")
    if scores.ndim == 0 or targets.shape != scores.shape[:-1]:
        raise ValueError(
            "cross_entropy: scores (..., n_classes) need targets (...);"
            f" got scores {scores.shape} and targets {targets.shape}"
        )
    n_classes = scores.shape[-1]
    if targets.size and not (0 <= targets.min() and targets.max() < n_classes):
        given = f"{targets.min()} … {targets.max()}"
        raise ValueError(f"cross_entropy: targets must lie in 0 … {n_classes - 1}; got {given}")
    return np.expand_dims(targets, -1) == np.arange(n_classes)
