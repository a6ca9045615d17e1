"""Rules that multiply and sum: matrix products, and products over any axes."""

from __future__ import annotations  # else every call of a rule would evaluate those of its backward

import math
import string
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from tinyattn.rules.activations import gelu, relu, sigmoid, silu
from tinyattn.rules.checks import check_flag, check_whole
from tinyattn.rules.elementwise import multiply, tanh
from tinyattn.rules.registry import Array, Backward, Gradients, Result, alike, rule
from tinyattn.rules.selection import fill
from tinyattn.rules.shapes import check_arrays

ACTIVATIONS: dict[str, Callable[[Array], Result]] = {
    "relu": relu,
    "gelu": gelu,
    "gelu_tanh": partial(gelu, approximate="tanh"),
    "silu": silu,
    "sigmoid": sigmoid,
    "tanh": tanh,
}
"""What may bend the output of `linear`, by name."""

Axes: TypeAlias = "int | tuple[int | Sequence[int], int | Sequence[int]]"


@rule
def matmul(x: Array, y: Array) -> Result:
    """The matrix product, over stacks of matrices; a vector counts as one row on the left, one column on the right.

    Z = X Y                                                          (matmul.1)
    d_X = d_Z Yᵀ,   d_Y = Xᵀ d_Z                                     (matmul.2)

    x (..., n, k), y (..., k, m), output (..., n, m). Raises `ValueError` where the inner lengths differ.

    >>> output, backward = matmul(np.array([[1.0, 2.0]]), np.array([[3.0], [4.0]]))
    >>> output, backward(np.array([[1.0]]))[0]
    (array([[11.]]), array([[3., 4.]]))
    """
    _check_inner(x, y)

    def backward(d_output: Array) -> Gradients:
        rows = x if x.ndim > 1 else np.expand_dims(x, 0)
        columns = y if y.ndim > 1 else np.expand_dims(y, -1)
        if y.ndim == 1:
            d_output = np.expand_dims(d_output, -1)
        if x.ndim == 1:
            d_output = np.expand_dims(d_output, -2)
        d_x = d_output @ columns.swapaxes(-1, -2)  # (matmul.2)
        if columns.ndim == 2:  # one matrix for the whole stack
            d_y = weight_gradient(rows, d_output)
        else:
            d_y = rows.swapaxes(-1, -2) @ d_output  # (matmul.2)
        return d_x, d_y if y.ndim > 1 else d_y.squeeze(-1)

    return x @ y, backward


@rule
def linear(x: Array, weight: Array, bias: Array = None, *, activation: str | None = None) -> Result:
    """A matrix applied to the last axis, a bias added, and the sum bent, if an activation is named.

    y = φ(z),   z = x W + b                                          (linear.1)
    d_z = φ′(z) d_y,   d_x = d_z Wᵀ,   d_W = Xᵀ d_Z,   d_b = Σ_n d_z_n       (linear.2)

    x (..., d_in), weight (d_in, d_out), bias (d_out,), output (..., d_out). The weight stands as it is multiplied;
    PyTorch keeps its transpose. In (linear.2) X and d_Z hold all rows of x and d_z, whatever axes they came with.
    `activation` is "relu", "gelu", "gelu_tanh", "silu", "sigmoid" or "tanh": φ is the rule of that name. Raises
    `ValueError` for shapes that don't fit, and for another name.

    >>> linear(np.array([1.0, 2.0]), np.array([[3.0], [4.0]]), np.array([5.0]))[0]
    array([16.])
    """
    lead, d_in, d_out = check_linear(x, weight, bias, activation)
    n = math.prod(lead)
    rows = x.reshape((n, d_in)) @ weight  # all rows in one product
    product = rows.reshape((*lead, d_out))
    bent = product if bias is None else product + bias
    output, through_bend = (bent, None) if activation is None else ACTIVATIONS[activation](bent)

    def backward(d_output: Array) -> Gradients:
        if through_bend is not None:
            (d_output,) = through_bend(d_output)
        d_rows = d_output.reshape((n, d_out))
        d_x = (d_rows @ weight.swapaxes(0, 1)).reshape((*lead, d_in))
        d_bias = None if bias is None else d_rows.sum(axis=0)
        return d_x, weight_gradient(x, d_output), d_bias  # (linear.2)

    return output, backward


@rule
def dot(x: Array, y: Array) -> Result:
    """NumPy's dot: the last axis of x with the last but one of y, or with its only one; a number scales.

    z_a..bc = Σ_k x_a..k y_b..kc                                     (dot.1)

    That is a `tensordot` over these axes. For vectors it's their scalar product, for matrices `matmul`; from which it
    differs on stacks, where it takes every matrix of x with every one of y. Raises `ValueError` where lengths differ.

    >>> dot(np.array([1.0, 2.0]), np.array([3.0, 4.0]))[0].item()
    11.0
    """
    if np.ndim(x) == 0 or np.ndim(y) == 0:
        return multiply(x, y)
    pairs = [x.ndim - 1], [max(y.ndim - 2, 0)]
    _check_partners("dot", x, y, *pairs)
    return np.dot(x, y), _contraction_backward(x, y, *pairs)


@rule(arrays=2)
def tensordot(x: Array, y: Array, axes: Axes = 2) -> Result:
    """The product over any axes: those of x that are named first, each with its partner in y.

    z_ab = Σ_k x_ak y_kb                                             (tensordot.1)
    d_x_ak = Σ_b d_z_ab y_kb,   d_y_kb = Σ_a x_ak d_z_ab             (tensordot.2)

    Each of a, k and b stands for any number of axes, which x and y may have in any order; the output has those of a,
    then those of b. `axes` is a pair, of axes or of sequences of axes, the k of x and the k of y; or a number n, for
    the last n of x and the first n of y. Raises `ValueError` where partners differ in length, or n is
    below 0.

    >>> tensordot(np.array([[1.0, 2.0]]), np.array([[3.0, 4.0]]), ((0, 1), (0, 1)))[0].item()
    11.0
    """
    pair = _pair_of_axes(axes)
    of_x, of_y = (list(normalize_axis_tuple(axis, a.ndim)) for axis, a in zip(pair, (x, y), strict=True))
    _check_partners("tensordot", x, y, of_x, of_y)
    return np.tensordot(x, y, (of_x, of_y)), _contraction_backward(x, y, of_x, of_y)


@rule
def outer(x: Array, y: Array) -> Result:
    """Every number of x times every number of y, as a matrix; more axes than one are read as one.

    z_ij = x_i y_j                                                   (outer.1)
    d_x_i = Σ_j d_z_ij y_j,   d_y_j = Σ_i x_i d_z_ij                 (outer.2)

    >>> outer(np.array([1.0, 2.0]), np.array([3.0, 5.0]))[0]
    array([[ 3.,  5.],
           [ 6., 10.]])
    """
    column, row = np.reshape(x, (-1, 1)), np.reshape(y, (1, -1))

    def backward(d_output: Array) -> Gradients:
        d_x, d_y = d_output @ row.swapaxes(0, 1), column.swapaxes(0, 1) @ d_output  # (outer.2)
        return d_x.reshape(np.shape(x)), d_y.reshape(np.shape(y))

    return column * row, backward


@rule
def einsum(*operands: Array, subscripts: str, optimize: bool = False) -> Result:
    """Sums of products whose axes are named by letters: Einstein's convention, as NumPy writes it.

    y_o = Σ x_a x'_b …           over every index that isn't in o    (einsum.1)
    d_x_a = Σ d_y_o x'_b …       over every index that isn't in a    (einsum.2)

    The gradient of an operand is an einsum of the output's gradient and the other operands. Three cases beside: along
    an index that x_a alone has it's the same everywhere; of one that a has twice it lies on the diagonal, among zeros;
    along an axis of length 1 that met a longer one, it's the sum.

    In "ij,jk->ik" stands a letter for each axis of each operand, then those of the output; without an arrow it has the
    letters that stand once, in the order of the alphabet. `...` stands for the axes not named, which broadcast. Raises
    `ValueError` for letters that don't fit. With `optimize` NumPy chooses an order, and matrix products where it can.

    >>> x = np.array([[1.0, 2.0], [3.0, 4.0]])
    >>> output, backward = einsum(x, np.array([10.0, 1.0]), subscripts="ii,i->")  # Σ_i x_ii v_i
    >>> output.item(), backward(1.0)[0]
    (14.0, array([[10.,  0.],
           [ 0.,  1.]]))
    """
    check_flag("einsum", "optimize", optimize)
    check_arrays("einsum: operands", operands)
    terms, out = _letters(subscripts, operands)
    lengths = _lengths(subscripts, terms, operands)

    def gradient(k: int, d_output: Array) -> Array:
        given = ",".join([out, *terms[:k], *terms[k + 1 :]])
        others = operands[:k] + operands[k + 1 :]
        own = dict(zip(terms[k], np.shape(operands[k]), strict=True))
        kept = "".join(i for i in own if i in given and own[i] == lengths[i])
        d_x = np.einsum(f"{given}->{kept}", d_output, *others, optimize=optimize)  # (einsum.2)
        d_x = np.expand_dims(d_x, tuple(axis for axis, i in enumerate(own) if i not in kept))
        return _on_diagonal(np.broadcast_to(d_x, tuple(own.values())), "".join(own), terms[k])

    def backward(d_output: Array) -> Gradients:
        return tuple(gradient(k, d_output) for k in range(len(operands)))

    return np.einsum(f"{','.join(terms)}->{out}", *operands, optimize=optimize), backward


def check_linear(
    x: Array, weight: Array, bias: Array, activation: str | None, name: str = "linear"
) -> tuple[tuple[int, ...], int, int]:
    """The leading axes of x, d_in and d_out, once it's known that they fit."""
    if weight.ndim != 2 or x.ndim == 0 or x.shape[-1] != weight.shape[0]:
        raise ValueError(
            f"{name}: x (..., d_in) needs weight (d_in, d_out); got x {x.shape} and weight {weight.shape}."
            + _hint_transposed(x, weight)
        )
    d_in, d_out = weight.shape
    if bias is not None and np.shape(bias) != (d_out,):
        raise ValueError(f"{name}: bias must be (d_out,), here ({d_out},); got {np.shape(bias)}")
    check_activation("linear", activation)
    return x.shape[:-1], d_in, d_out


def check_activation(name: str, activation: str | None) -> None:
    """Raise `ValueError` unless it's None, or the name of an activation."""
    if activation is not None and (not isinstance(activation, str) or activation not in ACTIVATIONS):
        raise ValueError(f"{name}: activation must be one of {', '.join(ACTIVATIONS)}; got {activation!r}")


def weight_gradient(x: Array, d_output: Array) -> Array:
    """(matmul.2), (linear.2): Xᵀ d_Y over all rows of x (..., d_in) and d_output (..., d_out), as one product."""
    d_in, d_out = x.shape[-1], d_output.shape[-1]
    n = math.prod(x.shape[:-1])
    return x.reshape((n, d_in)).swapaxes(0, 1) @ d_output.reshape((n, d_out))


def _contraction_backward(x: Array, y: Array, of_x: list[int], of_y: list[int]) -> Backward:
    """(tensordot.2), and each axis back to where it stood."""
    free_x = [i for i in range(x.ndim) if i not in of_x]
    free_y = [j for j in range(y.ndim) if j not in of_y]
    n = len(free_x)

    def backward(d_output: Array) -> Gradients:
        d_x = np.tensordot(d_output, y, (range(n, d_output.ndim), free_y))  # its axes: a, then k in the order of y
        d_y = np.tensordot(x, d_output, (free_x, range(n)))  # k in the order of x, then b
        from_y = [i for _, i in sorted(zip(of_y, of_x, strict=True))]
        from_x = [j for _, j in sorted(zip(of_x, of_y, strict=True))]
        return np.moveaxis(d_x, range(x.ndim), free_x + from_y), np.moveaxis(d_y, range(y.ndim), from_x + free_y)

    return backward


def _pair_of_axes(axes: Axes) -> Sequence[int | Sequence[int]]:
    if isinstance(axes, int | np.integer):
        if axes < 0:
            raise ValueError(f"tensordot: axes, where it is one number, must be 0 or more; got {axes}")
        return range(-int(axes), 0), range(int(axes))
    if not isinstance(axes, Sequence) or len(axes) != 2:
        raise TypeError(f"tensordot: axes must be a number, or a pair of axes or of lists of them; got {axes!r}")
    for each in axes:
        check_whole("tensordot", "axes", each)
    return axes


def _check_partners(name: str, x: Array, y: Array, of_x: list[int], of_y: list[int]) -> None:
    if [x.shape[i] for i in of_x] != [y.shape[j] for j in of_y]:
        raise ValueError(
            f"{name}: axes that are summed together must have one length; got axes {of_x} of x {x.shape}"
            f" and {of_y} of y {y.shape}"
        )


def _letters(subscripts: str, operands: Sequence[Array]) -> tuple[list[str], str]:
    """A letter for each axis of each operand, and of the output; `...` has got letters of its own."""
    inputs, arrow, out = subscripts.replace(" ", "").partition("->")
    terms = inputs.split(",")
    if len(terms) != len(operands):
        raise ValueError(f"einsum: {subscripts!r} is for {len(terms)} operands; got {len(operands)}")
    hidden = [np.ndim(x) - len(term) + 3 if "..." in term else 0 for term, x in zip(terms, operands, strict=True)]
    spare = [letter for letter in string.ascii_letters if letter not in subscripts]
    dots = "".join(spare[: max(0, *hidden)])
    for k, (n, x) in enumerate(zip(hidden, operands, strict=True)):
        named = terms[k].replace("...", dots[len(dots) - n :])  # the last ones, so that axes broadcast as always
        if len(named) != np.ndim(x) or not set(named) <= set(string.ascii_letters):
            raise ValueError(
                f"einsum: {terms[k]!r} in {subscripts!r} needs a letter for each axis of operand {k}, or '...';"
                f" got shape {np.shape(x)}"
            )
        terms[k] = named
    if not arrow:
        out = dots + "".join(sorted(i for i in set(inputs) - set(".,") if inputs.count(i) == 1))
    elif dots and "..." not in out:
        raise ValueError(f"einsum: the output of {subscripts!r} needs '...' for the axes that aren't named")
    else:
        out = out.replace("...", dots)
    if len(set(out)) < len(out) or not set(out) <= set("".join(terms)):
        raise ValueError(f"einsum: the output of {subscripts!r} may name indices of the operands only, each once")
    return terms, out


def _lengths(subscripts: str, terms: list[str], operands: Sequence[Array]) -> dict[str, int]:
    """How long each index is; an axis of length 1 stretches to what it meets."""
    lengths: dict[str, int] = {}
    for term, x in zip(terms, operands, strict=True):
        for i, n in zip(term, np.shape(x), strict=True):
            known = lengths.get(i, 1)
            if n not in (1, known) and known != 1:
                shapes = ", ".join(str(np.shape(x)) for x in operands)
                name = repr(i) if i in subscripts else "'...'"
                raise ValueError(f"einsum: index {name} of {subscripts!r} is both {known} and {n} long; got {shapes}")
            lengths[i] = n if known == 1 else known
    return lengths


def _on_diagonal(x: Array, letters: str, term: str) -> Array:
    """The array with an axis for each letter of a term: where one stands twice, x lies on the diagonal, among zeros."""
    if letters == term:
        return x
    places = {i: alike(along, x) for i, along in zip(letters, np.ix_(*map(np.arange, x.shape)), strict=True)}
    lengths = dict(zip(letters, x.shape, strict=True))
    return fill(x, tuple(places[i] for i in term), tuple(lengths[i] for i in term))


def _check_inner(x: Array, y: Array) -> None:
    if x.ndim == 0 or y.ndim == 0:
        raise ValueError(f"matmul: needs vectors or matrices; got {x.shape} and {y.shape}. To scale by a number, use *")
    if x.shape[-1] != y.shape[-2 if y.ndim > 1 else -1]:
        hint = " Is y transposed?" if y.ndim > 1 and x.shape[-1] == y.shape[-1] else ""
        raise ValueError(f"matmul: the last axis of x must match the rows of y; got {x.shape} and {y.shape}.{hint}")


def _hint_transposed(x: Array, weight: Array) -> str:
    return " Is weight transposed?" if weight.ndim == 2 and x.ndim and x.shape[-1] == weight.shape[1] else ""
