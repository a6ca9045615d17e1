"""tinyattn: attention, understood down to the last gradient.

A from-scratch autograd framework on NumPy. This module is the face; it only re-exports. What is asked for seldom is
imported when it's asked for.

>>> import tinyattn as ta
>>> x = ta.tensor([1.0, 2.0, 3.0], requires_grad=True)
>>> (x * x).sum().backward()
>>> x.grad
tensor([2., 4., 6.])
"""

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tinyattn import linalg, nn, optim
from tinyattn.checkpoint import checkpoint
from tinyattn.derivatives import grad, hessian, hvp, jacobian, jvp, value_and_grad, vjp
from tinyattn.engine import GradientError, no_grad
from tinyattn.functions import (
    absolute,
    add,
    astype,
    attention,
    attention_choice,
    attention_weights,
    binary_cross_entropy_with_logits,
    broadcast_to,
    clip,
    concatenate,
    cos,
    cross_entropy,
    cumsum,
    diagonal,
    divide,
    dot,
    dropout,
    einsum,
    embedding,
    erf,
    exp,
    exp2,
    expand_dims,
    expm1,
    flip,
    gelu,
    layer_norm,
    leaky_relu,
    linear,
    log,
    log1p,
    log2,
    log_softmax,
    logsumexp,
    matmul,
    max,
    maximum,
    mean,
    min,
    minimum,
    moveaxis,
    mse_loss,
    multi_head_attention,
    multiply,
    negative,
    outer,
    pad,
    positive,
    power,
    prod,
    ravel,
    relu,
    repeat,
    reshape,
    rms_norm,
    roll,
    rope,
    rule,
    sigmoid,
    sign,
    silu,
    sin,
    softmax,
    softplus,
    sort,
    split,
    sqrt,
    square,
    squeeze,
    stack,
    std,
    subtract,
    sum,
    swapaxes,
    take,
    take_along_axis,
    tanh,
    tensordot,
    tile,
    transpose,
    tril,
    triu,
    var,
    where,
)
from tinyattn.graph import Graph, graph
from tinyattn.kernels.memory import keep_memory
from tinyattn.kernels.threads import set_num_threads
from tinyattn.tensor import Tensor, tensor
from tinyattn.variants import (
    additive_attention,
    alibi_bias,
    linear_attention,
    multiplicative_attention,
    relative_bias,
    sinusoidal_positions,
)
from tinyattn.watch import detect_anomaly

if TYPE_CHECKING:
    from tinyattn import study
    from tinyattn.compilation import compile
    from tinyattn.diagnosis import Diagnosis, doctor
    from tinyattn.explain import Explanation, explain_gradient
    from tinyattn.gallery import FAULTS as faults
    from tinyattn.gradcheck import Report, Sweep, gradcheck, step_sweep
    from tinyattn.study import Comparison, side_by_side
    from tinyattn.viewer import View, view

__all__ = [
    "Comparison",
    "CompileError",
    "Diagnosis",
    "Explanation",
    "GradientError",
    "Graph",
    "Report",
    "Sweep",
    "Tensor",
    "View",
    "absolute",
    "add",
    "additive_attention",
    "alibi_bias",
    "astype",
    "attention",
    "attention_choice",
    "attention_weights",
    "binary_cross_entropy_with_logits",
    "broadcast_to",
    "checkpoint",
    "clip",
    "compile",
    "concatenate",
    "cos",
    "cross_entropy",
    "cumsum",
    "detect_anomaly",
    "diagonal",
    "divide",
    "doctor",
    "dot",
    "dropout",
    "einsum",
    "embedding",
    "erf",
    "exp",
    "exp2",
    "expand_dims",
    "explain_gradient",
    "expm1",
    "faults",
    "flip",
    "gelu",
    "grad",
    "gradcheck",
    "graph",
    "hessian",
    "hvp",
    "jacobian",
    "jvp",
    "keep_memory",
    "layer_norm",
    "leaky_relu",
    "linalg",
    "linear",
    "linear_attention",
    "log",
    "log1p",
    "log2",
    "log_softmax",
    "logsumexp",
    "matmul",
    "max",
    "maximum",
    "mean",
    "min",
    "minimum",
    "moveaxis",
    "mse_loss",
    "multi_head_attention",
    "multiplicative_attention",
    "multiply",
    "negative",
    "nn",
    "no_grad",
    "optim",
    "outer",
    "pad",
    "positive",
    "power",
    "prod",
    "ravel",
    "relative_bias",
    "relu",
    "repeat",
    "reshape",
    "rms_norm",
    "roll",
    "rope",
    "rule",
    "set_num_threads",
    "side_by_side",
    "sigmoid",
    "sign",
    "silu",
    "sin",
    "sinusoidal_positions",
    "softmax",
    "softplus",
    "sort",
    "split",
    "sqrt",
    "square",
    "squeeze",
    "stack",
    "std",
    "step_sweep",
    "study",
    "subtract",
    "sum",
    "swapaxes",
    "take",
    "take_along_axis",
    "tanh",
    "tensor",
    "tensordot",
    "tile",
    "transpose",
    "tril",
    "triu",
    "value_and_grad",
    "var",
    "view",
    "vjp",
    "where",
]

_LATER = {
    "View": "viewer",
    "view": "viewer",
    "Comparison": "study",
    "CompileError": "nodes",
    "Diagnosis": "diagnosis",
    "Explanation": "explain",
    "Report": "gradcheck",
    "Sweep": "gradcheck",
    "compile": "compilation",
    "doctor": "diagnosis",
    "explain_gradient": "explain",
    "faults": "gallery:FAULTS",
    "gradcheck": "gradcheck",
    "step_sweep": "gradcheck",
    "side_by_side": "study",
}
_MODULES_LATER = ("study",)


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _MODULES_LATER:
        return import_module(f"tinyattn.{name}")
    if name not in _LATER:
        raise AttributeError(f"module 'tinyattn' has no attribute {name!r}")
    module, _, there = _LATER[name].partition(":")
    found = globals()[name] = getattr(import_module(f"tinyattn.{module}"), there or name)
    return found


class _Face(ModuleType):
    """The face keeps a name for what it stands for, where a package has the same one: `gradcheck` is the function."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _LATER and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Face


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
