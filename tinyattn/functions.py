"""Floor 1: the functions of the face, each the rule of its name lifted to Tensors.

They take Tensors, arrays, lists and numbers, mixed at will, and give a Tensor where any of these is one, a plain array
otherwise. Names, arguments and broadcasting are NumPy's where NumPy has the function: `np.exp(tensor)` is the same
call.
"""

from collections.abc import Callable
from typing import Any, Literal, ParamSpec, overload

from tinyattn.engine import lift
from tinyattn.rules import (
    activations,
    elementwise,
    losses,
    normalization,
    products,
    reductions,
    selection,
    shapes,
)
from tinyattn.rules import attention as attention_rules
from tinyattn.rules import softmax as softmax_rules
from tinyattn.rules.registry import Result
from tinyattn.rules.registry import rule as register
from tinyattn.tensor import Tensor

P = ParamSpec("P")


def _lift(rule: Callable[P, Result]) -> Callable[P, Tensor]:
    return lift(rule)


add = _lift(elementwise.add)
subtract = _lift(elementwise.subtract)
multiply = _lift(elementwise.multiply)
divide = _lift(elementwise.divide)
power = _lift(elementwise.power)
positive = _lift(elementwise.positive)
negative = _lift(elementwise.negative)
absolute = _lift(elementwise.absolute)
sign = _lift(elementwise.sign)
square = _lift(elementwise.square)
sqrt = _lift(elementwise.sqrt)
exp = _lift(elementwise.exp)
exp2 = _lift(elementwise.exp2)
expm1 = _lift(elementwise.expm1)
log = _lift(elementwise.log)
log2 = _lift(elementwise.log2)
log1p = _lift(elementwise.log1p)
tanh = _lift(elementwise.tanh)
sin = _lift(elementwise.sin)
cos = _lift(elementwise.cos)
erf = _lift(elementwise.erf)
maximum = _lift(elementwise.maximum)
minimum = _lift(elementwise.minimum)
clip = _lift(elementwise.clip)
where = _lift(elementwise.where)
astype = _lift(elementwise.astype)

relu = _lift(activations.relu)
leaky_relu = _lift(activations.leaky_relu)
softplus = _lift(activations.softplus)
sigmoid = _lift(activations.sigmoid)
silu = _lift(activations.silu)
gelu = _lift(activations.gelu)

sum = _lift(reductions.sum)
mean = _lift(reductions.mean)
var = _lift(reductions.var)
std = _lift(reductions.std)
prod = _lift(reductions.prod)
cumsum = _lift(reductions.cumsum)
max = _lift(reductions.max)
min = _lift(reductions.min)
logsumexp = _lift(reductions.logsumexp)

matmul = _lift(products.matmul)
linear = _lift(products.linear)

reshape = _lift(shapes.reshape)
transpose = _lift(shapes.transpose)
swapaxes = _lift(shapes.swapaxes)
expand_dims = _lift(shapes.expand_dims)
squeeze = _lift(shapes.squeeze)
broadcast_to = _lift(shapes.broadcast_to)
concatenate = _lift(shapes.concatenate)
stack = _lift(shapes.stack)

embedding = _lift(selection.embedding)

softmax = _lift(softmax_rules.softmax)
log_softmax = _lift(softmax_rules.log_softmax)
layer_norm = _lift(normalization.layer_norm)
rms_norm = _lift(normalization.rms_norm)
cross_entropy = _lift(losses.cross_entropy)
mse_loss = _lift(losses.mse_loss)
attention_weights = _lift(attention_rules.attention_weights)

_mix = _lift(attention_rules.attention)


@overload
def attention(
    query: Any,
    key: Any,
    value: Any,
    *,
    mask: Any = None,
    bias: Any = None,
    causal: bool = False,
    scale: float | None = None,
    return_weights: Literal[False] = False,
) -> Tensor: ...
@overload
def attention(
    query: Any,
    key: Any,
    value: Any,
    *,
    mask: Any = None,
    bias: Any = None,
    causal: bool = False,
    scale: float | None = None,
    return_weights: Literal[True],
) -> tuple[Tensor, Tensor]: ...
@overload
def attention(
    query: Any,
    key: Any,
    value: Any,
    *,
    mask: Any = None,
    bias: Any = None,
    causal: bool = False,
    scale: float | None = None,
    return_weights: bool,
) -> Tensor | tuple[Tensor, Tensor]: ...
def attention(
    query: Any,
    key: Any,
    value: Any,
    *,
    mask: Any = None,
    bias: Any = None,
    causal: bool = False,
    scale: float | None = None,
    return_weights: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """For each query, the mean of the values, weighted by how well their keys match it.

    softmax(Q Kᵀ / √d_k + bias) V, over the keys that the mask allows

    query (..., n_queries, d_k), key (..., n_keys, d_k), value (..., n_keys, d_v), output (..., n_queries, d_v). `mask`
    is boolean, True = may attend, and `bias` is added to the scores; both broadcast to (..., n_queries, n_keys).
    `causal` lines the last query up with the last key and hides later ones. `scale` takes the place of 1/√d_k. With
    `return_weights` the result is (output, weights), the weights (..., n_queries, n_keys).

    A query that may attend to nothing gives zeros, with zero gradients. What stands in keys and values that are masked,
    NaN included, reaches neither output nor gradients, nor, where no query may attend to them, derivatives of any
    order. A bias of −∞ along a whole row gives NaN, since no weights sum to 1 there: hide keys with the mask instead.

    Raises `TypeError` for a mask that isn't boolean, `ValueError` for shapes that don't fit. Vaswani et al. 2017,
    arXiv:1706.03762, eq. 1. (PyTorch's `scaled_dot_product_attention` takes the bias as a float `attn_mask`, and lines
    causal masks up at the first key.)

    >>> import numpy as np
    >>> query, key, value = np.zeros((1, 2)), np.zeros((2, 2)), np.array([[1.0], [3.0]])
    >>> attention(query, key, value)
    array([[2.]])
    """
    options: dict[str, Any] = {"mask": mask, "causal": causal, "scale": scale}
    output = _mix(query, key, value, bias, **options)
    if not return_weights:
        return output
    return output, attention_weights(query, key, bias, **options)


def rule(function: Callable[P, Result]) -> Callable[P, Tensor]:
    """Make a function of Tensors out of a NumPy function `arrays -> (output, backward)`.

    The function computes its output, and returns with it a `backward` that turns the gradient of the output into a
    tuple of gradients, one for each parameter before `*`; those after it are options. If it uses NumPy's functions and
    writes into no array, it has derivatives of every order. Raises `ValueError` where another rule has its name.

    >>> @rule
    ... def cube(x):
    ...     def backward(d_output):
    ...         return (d_output * 3 * x**2,)
    ...     return x**3, backward
    >>> cube(2.0)
    np.float64(8.0)
    """
    return lift(register(function))
