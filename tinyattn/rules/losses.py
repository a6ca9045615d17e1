"""Rules that score a prediction. `reduction` says what becomes of the losses: their "mean", their "sum", or "none".

The mean of no losses is 0, with gradients of zeros. (PyTorch has NaN there.)
"""

from __future__ import annotations  # else every call of a rule would evaluate those of its backward

import numpy as np

from tinyattn.rules.activations import sigmoid, softplus
from tinyattn.rules.checks import check_number, check_whole
from tinyattn.rules.reductions import sum, total
from tinyattn.rules.registry import Array, Gradients, Result, alike, floats, rule
from tinyattn.rules.softmax import log_softmax


@rule
def cross_entropy(
    scores: Array,
    targets: Array,
    *,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
    reduction: str = "mean",
) -> Result:
    """How surprised the softmax of the scores is by the right classes.

    ℓ = −Σ_j t_j log w_j,   w = softmax(s)                           (cross_entropy.1)
    ∂ℓ/∂s_j = w_j Σ_k t_k − t_j,   ∂ℓ/∂t_j = −log w_j                (cross_entropy.2)
    t = (1 − ε) t' + ε / n_classes       with label smoothing ε      (cross_entropy.3)

    scores (..., n_classes). The targets t' are probabilities (..., n_classes), floating; or classes (...), integers,
    each a 1 among zeros. The losses (...) are reduced to their mean, their sum (`reduction="sum"`) or not at all
    ("none"). A row whose class is `ignore_index` doesn't count: its loss and gradients are 0 whatever its scores, and
    the mean is that of the other rows, 0 if there are none. A class of probability 0 that isn't expected costs nothing.

    PyTorch has the classes on the second axis, ignores −100 unless told otherwise, and gives NaN where no row counts.
    Raises `TypeError` for classes that aren't integers and probabilities that aren't floating, `ValueError` for shapes,
    classes and options that don't fit. Label smoothing: Szegedy et al. 2015, arXiv:1512.00567, section 7.

    >>> cross_entropy(np.array([[0.0, 0.0]]), np.array([1]))[0].round(4).item()  # log 2
    0.6931
    """
    check_number("cross_entropy", "label_smoothing", label_smoothing, 0, 1)
    if ignore_index is not None:
        check_whole("cross_entropy", "ignore_index", ignore_index)
    are_classes = _are_classes(scores, targets)
    if not are_classes and ignore_index is not None:
        raise ValueError("cross_entropy: ignore_index is for targets that are classes; got probabilities")
    expected = _one_hot(scores, targets, ignore_index) if are_classes else targets
    if label_smoothing:
        numbers = expected.astype(scores.dtype) if are_classes else expected
        expected = (1.0 - label_smoothing) * numbers + label_smoothing / scores.shape[-1]  # (cross_entropy.3)
    counts = np.ones(scores.shape[:-1], bool, like=scores)
    if ignore_index is not None:
        counts = targets != ignore_index
        scores = np.where(np.expand_dims(counts, -1), scores, 0.0)  # else what is ignored might be NaN
    log_weights, _ = log_softmax(scores)
    losses = -_products(expected, log_weights).sum(axis=-1) * counts  # (cross_entropy.1)
    output, reduce_backward = _reduce("cross_entropy", losses, reduction, int(counts.sum()))

    def backward(d_output: Array) -> Gradients:
        d_losses = np.expand_dims(reduce_backward(d_output)[0] * counts, -1)
        if are_classes:
            return d_losses * (np.exp(log_weights) - expected), None  # (cross_entropy.2), with Σ_k t_k = 1
        d_scores = d_losses * (np.exp(log_weights) * total(expected, axis=-1) - expected)
        d_expected = -d_losses * _counted(expected, log_weights)
        return d_scores, (1.0 - label_smoothing) * d_expected

    return output, backward


@rule
def binary_cross_entropy_with_logits(
    scores: Array, targets: Array, pos_weight: Array = None, *, reduction: str = "mean"
) -> Result:
    """How surprised the sigmoid of each score is by the answer, 1 for yes, 0 for no, or a probability of yes.

    ℓ = −p t log σ(s) − (1 − t) log σ(−s)                            (binary_cross_entropy.1)
    ∂ℓ/∂s = (1 − t) σ(s) − p t σ(−s)                                 (binary_cross_entropy.2)
    ∂ℓ/∂t = log σ(−s) − p log σ(s),   ∂ℓ/∂p = −t log σ(s)            (binary_cross_entropy.3)

    scores, targets and losses have one shape; the weight p of a yes, which broadcasts to it, is 1 unless given. The
    losses are reduced to their mean, their sum (`reduction="sum"`) or not at all ("none"). No score overflows, since
    −log σ(s) is softplus(−s). The name is PyTorch's. Raises `ValueError` for shapes that don't fit.

    >>> binary_cross_entropy_with_logits(np.array([0.0]), np.array([1.0]))[0].round(4).item()  # log 2
    0.6931
    """
    name = "binary_cross_entropy_with_logits"
    if scores.shape != targets.shape:
        raise ValueError(f"{name}: scores and targets must have one shape; got {scores.shape} and {targets.shape}")
    if pos_weight is not None and not _broadcasts(np.shape(pos_weight), scores.shape):
        raise ValueError(f"{name}: pos_weight must broadcast to {scores.shape}; got {np.shape(pos_weight)}")
    scores, targets = _floats(scores, targets)
    weight = 1.0 if pos_weight is None else pos_weight
    of_yes, of_no = softplus(-scores)[0], softplus(scores)[0]  # −log σ(s), −log σ(−s)
    losses = weight * targets * of_yes + (1.0 - targets) * of_no
    output, reduce_backward = _reduce(name, losses, reduction)

    def backward(d_output: Array) -> Gradients:
        (d_losses,) = reduce_backward(d_output)
        d_scores = d_losses * ((1.0 - targets) * sigmoid(scores)[0] - weight * targets * sigmoid(-scores)[0])
        d_targets = d_losses * (weight * of_yes - of_no)
        return d_scores, d_targets, None if pos_weight is None else d_losses * targets * of_yes

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
    prediction, target = _floats(prediction, target)
    error = prediction - target
    output, reduce_backward = _reduce("mse_loss", error * error, reduction)

    def backward(d_output: Array) -> Gradients:
        (d_losses,) = reduce_backward(d_output)
        d_prediction = 2.0 * d_losses * error
        return d_prediction, -d_prediction

    return output, backward


def _floats(prediction: Array, target: Array) -> tuple[Array, Array]:
    """Both as floats; a target of whole numbers is exact in the prediction's dtype, and doesn't widen it."""
    prediction = floats(prediction)
    return prediction, target.astype(prediction.dtype) if target.dtype.kind in "biu" else target


def _reduce(name: str, losses: Array, reduction: str, n: int | None = None) -> Result:
    """The losses reduced; their mean is over n of them, over all unless it's given."""
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"{name}: reduction must be 'mean', 'sum' or 'none'; got {reduction!r}")
    if reduction == "none":
        return losses, lambda d_losses: (d_losses,)
    output, sum_backward = sum(losses)
    if reduction == "sum":
        return output, sum_backward
    n = max(losses.size if n is None else n, 1)
    return output / n, lambda d_output: sum_backward(d_output / n)


def _are_classes(scores: Array, targets: Array) -> bool:
    """Whether the targets are classes, or else probabilities: the shape tells, and the dtype has to agree."""
    if scores.ndim == 0 or targets.shape not in (scores.shape, scores.shape[:-1]):
        raise ValueError(
            "cross_entropy: scores (..., n_classes) need targets that are classes (...) or probabilities"
            f" (..., n_classes); got scores {scores.shape} and targets {targets.shape}"
        )
    are_classes: bool = targets.shape != scores.shape
    if targets.dtype.kind not in ("iu" if are_classes else "fc") and targets.size:  # an empty list is one of floats
        needed = "classes must be integers" if are_classes else "probabilities must be floating"
        raise TypeError(
            f"cross_entropy: targets that are {needed}; got {targets.dtype}, of shape {targets.shape} for scores"
            f" {scores.shape}"
        )
    return are_classes


def _one_hot(scores: Array, classes: Array, ignore_index: int | None) -> Array:
    """[j = t'], once the targets are known to be classes, or to be ignored."""
    n_classes = scores.shape[-1]
    counting = classes if ignore_index is None else classes[classes != ignore_index]
    if counting.size and not (0 <= counting.min() and counting.max() < n_classes):
        given = f"{counting.min()} … {counting.max()}"
        raise ValueError(f"cross_entropy: targets must lie in 0 … {n_classes - 1}; got {given}")
    return np.expand_dims(classes, -1) == alike(np.arange(n_classes), classes)


def _products(expected: Array, log_weights: Array) -> Array:
    """t · log w, with 0 log 0 = 0."""
    if expected.dtype == bool:
        return np.where(expected, log_weights, 0.0)
    return expected * _counted(expected, log_weights)


def _counted(expected: Array, log_weights: Array) -> Array:
    """The logarithms, without those of impossible classes that aren't expected."""
    return np.where((log_weights == -np.inf) & (expected == 0), 0.0, log_weights)


def _broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    return len(shape) <= len(to) and all(n in (1, m) for n, m in zip(shape[::-1], to[::-1], strict=False))
