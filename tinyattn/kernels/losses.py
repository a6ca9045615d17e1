"""Cross-entropy in few passes, for classes and the mean: what training computes at every step."""

from __future__ import annotations

import numpy as np

from tinyattn.kernels.call import ones, scratch
from tinyattn.kernels.twin import twin
from tinyattn.rules import losses
from tinyattn.rules.registry import Array, Backward, Gradients

WIDE = 60.0  # scores further apart get a top for each row


@twin(losses.cross_entropy)
def cross_entropy(
    scores: Array,
    targets: Array,
    *,
    wanted: tuple[bool, ...],
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
    reduction: str = "mean",
) -> tuple[Array, Backward] | None:
    """The rule `cross_entropy`; what isn't usual is left to it.

    ℓ_i = log Σ_j e^(s_ij − t) − (s_iy − t),   d_s_ij = (w_ij − [j = y]) / n        (cross_entropy.1), (cross_entropy.2)

    t is the top of all scores, where they don't lie far from it; else that of each row.
    """
    usual = label_smoothing == 0 and ignore_index is None and reduction == "mean"
    if not usual or targets.dtype.kind not in "iu" or targets.shape != scores.shape[:-1]:
        return None
    n_classes, dtype = scores.shape[-1], scores.dtype
    rows, classes = scores.reshape(-1, n_classes), targets.reshape(-1)
    if not (0 <= np.minimum.reduce(classes) and np.maximum.reduce(classes) < n_classes):
        return None
    top, low = np.maximum.reduce(rows, axis=None), np.minimum.reduce(rows, axis=None)
    shift = top if top - low < WIDE else rows.max(axis=1, keepdims=True)
    shifted = np.subtract(rows, shift, out=scratch("shifted", rows.shape, dtype))
    at_classes = (np.arange(len(rows)), classes)
    of_classes = shifted[at_classes]
    exp = np.exp(shifted)
    sums = exp @ ones(n_classes, dtype)
    output = np.add.reduce(np.log(sums) - of_classes) / dtype.type(len(rows))

    def backward(d_output: Array) -> Gradients:
        share = dtype.type(d_output / len(rows))
        d_rows = exp * (share / sums)[:, None]
        d_rows[at_classes] -= share
        return d_rows.reshape(scores.shape), None

    return output, backward
