"""Floor 1: the functions of the face, each the rule of its name lifted to Tensors.

They take Tensors, arrays, lists and numbers, mixed at will, and give a Tensor where any of these is one, a plain array
otherwise. Names, arguments and broadcasting are NumPy's where NumPy has the function: `np.exp(tensor)` is the same
call.
"""

import inspect
import itertools
import operator
import sys
from collections.abc import Callable
from typing import Any, Literal, ParamSpec, TypeVar, overload

import numpy as np

from tinyattn.engine import KERNELS, Kernel, lift
from tinyattn.kernels.activations import gelu as gelu_kernel
from tinyattn.kernels.attention import Choice, choice
from tinyattn.kernels.attention import attention as attention_kernel
from tinyattn.kernels.linear import linear as linear_kernel
from tinyattn.kernels.losses import cross_entropy as cross_entropy_kernel
from tinyattn.kernels.multi_head import multi_head_attention as multi_head_kernel
from tinyattn.kernels.normalization import layer_norm as layer_norm_kernel
from tinyattn.kernels.selection import embedding as embedding_kernel
from tinyattn.nodes import as_array, numbers
from tinyattn.rules import (
    activations,
    elementwise,
    losses,
    multi_head,
    normalization,
    positions,
    products,
    reductions,
    selection,
    shapes,
)
from tinyattn.rules import attention as attention_rules
from tinyattn.rules import dropout as dropout_rules
from tinyattn.rules import softmax as softmax_rules
from tinyattn.rules.allowed import Window, shape_of_weights
from tinyattn.rules.checks import check_flag, check_number, check_whole
from tinyattn.rules.dropout import draw
from tinyattn.rules.registry import Result, parameters
from tinyattn.rules.registry import rule as register
from tinyattn.tensor import COMPOSED, Tensor

P = ParamSpec("P")
F = TypeVar("F", bound=Callable[..., Any])


NOTE = """The examples are the rule's own: they call the NumPy function `arrays -> (output, backward)`. What is public
gives the output alone, a Tensor where any argument is one."""
INDENT = "" if sys.version_info >= (3, 13) else "    "  # what the compiler leaves in docstrings


def _lift(rule: Callable[P, Result], kernel: Kernel | None = None) -> Callable[P, Tensor]:
    function = lift(rule, kernel)
    if kernel is not None:
        KERNELS[rule] = kernel
    if rule.__doc__ is not None:
        function.__doc__ = f"{rule.__doc__.rstrip()}\n\n{INDENT}" + NOTE.replace("\n", f"\n{INDENT}")
    if parameters(rule).variadic:  # users pass one sequence, and then options
        takes = inspect.signature(rule).parameters.values()
        shown = inspect.Signature([p.replace(kind=p.POSITIONAL_OR_KEYWORD) for p in takes])
        function.__signature__ = shown  # type: ignore[attr-defined]
    return function


def _answers_numpy(function: F) -> F:
    """Make NumPy's function of this name, on Tensors, the same call as ours."""
    COMPOSED[function.__name__] = function
    return function


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
gelu = _lift(activations.gelu, gelu_kernel)

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
linear = _lift(products.linear, linear_kernel)
dot = _lift(products.dot)
outer = _lift(products.outer)
tensordot = _lift(products.tensordot)

reshape = _lift(shapes.reshape)
ravel = _lift(shapes.ravel)
transpose = _lift(shapes.transpose)
swapaxes = _lift(shapes.swapaxes)
moveaxis = _lift(shapes.moveaxis)
expand_dims = _lift(shapes.expand_dims)
squeeze = _lift(shapes.squeeze)
broadcast_to = _lift(shapes.broadcast_to)
concatenate = _lift(shapes.concatenate)
stack = _lift(shapes.stack)
flip = _lift(shapes.flip)
roll = _lift(shapes.roll)
pad = _lift(shapes.pad)
tile = _lift(shapes.tile)
tril = _lift(shapes.tril)
triu = _lift(shapes.triu)

embedding = _lift(selection.embedding, embedding_kernel)
take = _lift(selection.take)
take_along_axis = _lift(selection.take_along_axis)
sort = _lift(selection.sort)
repeat = _lift(selection.repeat)
diagonal = _lift(selection.diagonal)

softmax = _lift(softmax_rules.softmax)
log_softmax = _lift(softmax_rules.log_softmax)
layer_norm = _lift(normalization.layer_norm, layer_norm_kernel)
rms_norm = _lift(normalization.rms_norm)
cross_entropy = _lift(losses.cross_entropy, cross_entropy_kernel)
binary_cross_entropy_with_logits = _lift(losses.binary_cross_entropy_with_logits)
mse_loss = _lift(losses.mse_loss)
rope = _lift(positions.rope)
multi_head_attention = _lift(multi_head.multi_head_attention, multi_head_kernel)
attention_weights = _lift(attention_rules.attention_weights)

_attention = _lift(attention_rules.attention, attention_kernel)


@overload
def attention(
    query: Any,
    key: Any,
    value: Any,
    *,
    mask: Any = None,
    bias: Any = None,
    causal: bool = False,
    window: Window = None,
    scale: float | None = None,
    softcap: float | None = None,
    sinks: Any = None,
    dropout: float = 0.0,
    rng: Any = None,
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
    window: Window = None,
    scale: float | None = None,
    softcap: float | None = None,
    sinks: Any = None,
    dropout: float = 0.0,
    rng: Any = None,
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
    window: Window = None,
    scale: float | None = None,
    softcap: float | None = None,
    sinks: Any = None,
    dropout: float = 0.0,
    rng: Any = None,
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
    window: Window = None,
    scale: float | None = None,
    softcap: float | None = None,
    sinks: Any = None,
    dropout: float = 0.0,
    rng: Any = None,
    return_weights: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """For each query, the mean of the values, weighted by how well their keys match it.

    softmax(c(Q Kᵀ / √d_k) + bias) V, over the keys that the mask allows

    query (..., n_heads, n_queries, d_k), key (..., n_heads, n_keys, d_k), value (..., n_heads, n_keys, d_v), output
    (..., n_heads, n_queries, d_v). The axes before the last two broadcast; where key and value have fewer heads than
    the query, as many query heads as it takes share each of them, the first ones the first.

    - `mask`: boolean, True = may attend. It broadcasts to (..., n_heads, n_queries, n_keys), as the bias does.
    - `bias`: added to the scaled scores, with a gradient of its own; `alibi_bias` and `relative_bias` make one.
    - `causal`: hides later keys; the last query lines up with the last key, which is what a cache needs.
    - `window`: (left, right), how many keys before and after it a query may see; None on a side for all of them.
    - `scale`: takes the place of 1/√d_k.
    - `softcap`: a number C; the scaled scores are bent into ±C, c(x) = C tanh(x / C), before the bias is added.
    - `sinks`: (n_heads,), for each head a score that takes its share of the weights, and gives nothing.
    - `dropout`: how likely a weight is replaced by 0, the others scaled up; `rng` is then a `numpy.random.Generator`.
    - `return_weights`: the result is (output, weights), the weights (..., n_heads, n_queries, n_keys), for each head
      and before any are dropped.

    A query that may attend to nothing gives zeros, with zero gradients; so does one whose scores are all −∞. What
    stands in keys and values that are masked, NaN included, reaches neither output nor gradients, nor, where no query
    may attend to them, derivatives of any order.

    Raises `TypeError` for a mask that isn't boolean, `ValueError` for shapes that don't fit. Vaswani et al. 2017,
    arXiv:1706.03762, eq. 1. (PyTorch's `scaled_dot_product_attention` takes the bias as a float `attn_mask`, lines
    causal masks up at the first key, and shares keys and values among heads with `enable_gqa=True` alone.)

    >>> import numpy as np
    >>> query, key, value = np.zeros((1, 2)), np.zeros((2, 2)), np.array([[1.0], [3.0]])
    >>> attention(query, key, value)
    array([[2.]])
    """
    check_flag("attention", "return_weights", return_weights)
    check_number("attention", "dropout", dropout, 0, 1)
    dropout = float(dropout)
    mask = mask if mask is None or isinstance(mask, Tensor) else as_array(mask, "attention: mask")
    options: dict[str, Any] = {} if causal is False else {"causal": causal}
    for name, option in (("mask", mask), ("window", window), ("scale", scale), ("softcap", softcap)):
        if option is not None:
            options[name] = option
    dropped: dict[str, Any] = {}
    if dropout:
        generator = _generator("attention", rng)
        query, key, value, bias, sinks = (
            x if x is None or isinstance(x, Tensor) else numbers(x, "attention")
            for x in (query, key, value, bias, sinks)
        )
        shape = shape_of_weights("attention", query, key, value, bias, sinks, mask)
        dropped["dropped"] = draw(shape, dropout, generator)
    output = _attention(query, key, value, bias, sinks, **options, **dropped)
    return (output, attention_weights(query, key, bias, sinks, **options)) if return_weights else output


def attention_choice(
    query: Any, key: Any, value: Any, *, mask: Any = None, bias: Any = None, sinks: Any = None
) -> Choice:
    """Which way `attention` computes arrays of these shapes and dtypes, and why; nothing is computed.

    `readable` is the rule as it stands in `rules/attention.py`; `stacked` and `blocked` are its fast twins, for many
    small heads and for long sequences. All give the same numbers, up to round-off.

    The arguments are those of `attention`, which has more that the choice doesn't depend on. Raises what it raises.

    >>> import numpy as np
    >>> x = np.zeros((8, 4, 16, 8), np.float32)
    >>> print(attention_choice(x, x, x))
    stacked: 16 × 16 scores of a head are few: many heads at once
    """
    given = {"query": query, "key": key, "value": value, "bias": bias, "sinks": sinks, "mask": mask}
    arrays: dict[str, Any] = {}
    for name, x in given.items():
        if x is None and name in ("bias", "sinks", "mask"):
            arrays[name] = None
        else:
            arrays[name] = x.numpy() if isinstance(x, Tensor) else numbers(x, f"attention_choice: {name}")
    return choice(*arrays.values())


_einsum = _lift(products.einsum)
_index = _lift(selection.index)
_dropout = _lift(dropout_rules.dropout)


@_answers_numpy
def einsum(subscripts: str, *operands: Any, optimize: bool = False) -> Tensor:
    """Sums of products whose axes are named by letters: Einstein's convention, as NumPy writes it.

    y_ik = Σ_j x_ij x'_jk       for "ij,jk->ik"

    Each operand has a letter for each of its axes; the sum is over every letter that the output doesn't have. Without
    an arrow the output has the letters that stand once, in the order of the alphabet. A letter twice in one operand
    reads a diagonal; `...` stands for axes that aren't named, which broadcast. `optimize=True` lets NumPy choose the
    order of the products, and use matrix products where it can: faster for large operands and for more than two.

    Raises `TypeError` where the subscripts aren't a string (NumPy's other form, with lists of numbers, isn't taken),
    `ValueError` where they don't fit the operands' shapes.

    >>> x = [[1.0, 2.0], [3.0, 4.0]]
    >>> einsum("ij,j->i", x, [10.0, 1.0]), einsum("ii", x)
    (array([12., 34.]), np.float64(5.0))
    """
    if not isinstance(subscripts, str):
        kind = type(subscripts).__name__
        raise TypeError(f"einsum: subscripts come first, a string as in einsum('ij,jk->ik', x, y); got {kind}")
    return _einsum(operands, subscripts=subscripts, optimize=optimize)


@_answers_numpy
def split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Tensor]:
    """The parts of an array along an axis: so many of one length, or those between the places to cut at.

    Raises `ValueError` where the axis can't be cut into so many parts of one length.

    >>> split([1.0, 2.0, 3.0, 4.0], 2)
    [array([1., 2.]), array([3., 4.])]
    >>> split([1.0, 2.0, 3.0, 4.0], [1])
    [array([1.]), array([2., 3., 4.])]
    """
    ary = ary if isinstance(ary, Tensor) else numbers(ary, "split: ary")
    check_whole("split", "indices_or_sections", indices_or_sections)
    try:
        axis = operator.index(axis)
    except TypeError:
        raise TypeError(f"split: axis must be a whole number; got {axis!r}") from None
    if np.ndim(indices_or_sections) > 1:
        raise ValueError(f"split: places to cut at go in as one list; got {indices_or_sections!r}")
    shape = ary.shape
    if not -len(shape) <= axis < len(shape):
        raise np.exceptions.AxisError(
            f"split: there is no axis {axis}, counted from 0 or back from -1; got shape {shape}"
        )
    if np.ndim(indices_or_sections):
        cuts = [int(place) for place in indices_or_sections]
    else:
        n = int(indices_or_sections)
        if n < 1 or shape[axis] % n:
            raise ValueError(
                f"split: axis {axis} of shape {shape} can't be cut into {n} parts of one length."
                " Places to cut at go in as a list"
            )
        cuts = [i * shape[axis] // n for i in range(1, n)]
    before = (slice(None),) * (axis % len(shape))
    return [_index(ary, key=(*before, slice(*ends))) for ends in itertools.pairwise([0, *cuts, None])]


def dropout(x: Any, p: float = 0.5, *, rng: Any = None, training: bool = True) -> Tensor:
    """Each number with probability p replaced by 0, the others scaled up so that the mean stays.

    y = x [keep] / (1 − p),   keep with probability 1 − p

    `rng` is a `numpy.random.Generator`, which draws anew on each call; gradients of any order see what the call drew.
    There is no global one: None will do only where nothing is drawn, for p = 0 or out of `training`, when y is x.

    Raises `TypeError` for any other rng, `ValueError` for p outside 0 … 1. Srivastava et al. 2014, JMLR 15, section 4.

    >>> import numpy as np
    >>> dropout(np.ones(5), 0.5, rng=np.random.default_rng(0))
    array([2., 0., 0., 0., 2.])
    """
    check_number("dropout", "p", p, 0, 1)
    check_flag("dropout", "training", training)
    x = x if isinstance(x, Tensor) else numbers(x, "dropout: x")
    if p == 0 or not training:
        return positive(x)
    return _dropout(x, _generator("dropout", rng).random(x.shape) >= p, p=p)


def _generator(name: str, rng: Any) -> "np.random.Generator":
    if isinstance(rng, np.random.Generator):
        return rng
    kind = type(rng).__name__
    raise TypeError(f"{name}: rng must be a numpy.random.Generator, np.random.default_rng(seed) say; got {kind}")


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
    if not callable(function):
        raise TypeError(f"rule: needs a function that gives (output, backward); got {type(function).__name__}")
    return lift(register(function))
