"""Rules that multiply and sum: matrix products."""

from __future__ import annotations  # else every call of a rule would evaluate those of its backward

import math

import numpy as np

from tinyattn.rules.registry import Array, Gradients, Result, rule


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
def linear(x: Array, weight: Array, bias: Array = None) -> Result:
    """A matrix applied to the last axis, and a bias added.

    y = x W + b                                                      (linear.1)
    d_x = d_y Wᵀ,   d_W = Xᵀ d_Y,   d_b = Σ_n d_y_n                  (linear.2)

    x (..., d_in), weight (d_in, d_out), bias (d_out,), output (..., d_out). The weight stands as it is multiplied;
    PyTorch keeps its transpose. In (linear.2) X and d_Y hold all rows of x and d_y, whatever axes they came with.

    >>> linear(np.array([1.0, 2.0]), np.array([[3.0], [4.0]]), np.array([5.0]))[0]
    array([16.])
    """
    if weight.ndim != 2 or x.ndim == 0 or x.shape[-1] != weight.shape[0]:
        raise ValueError(
            f"linear: x (..., d_in) needs weight (d_in, d_out); got x {x.shape} and weight {weight.shape}."
            + _hint_transposed(x, weight)
        )
    d_in, d_out = weight.shape
    lead = x.shape[:-1]
    n = math.prod(lead)
    rows = x.reshape((n, d_in)) @ weight  # all rows in one product
    output = rows.reshape((*lead, d_out))

    def backward(d_output: Array) -> Gradients:
        d_rows = d_output.reshape((n, d_out))
        d_x = (d_rows @ weight.swapaxes(0, 1)).reshape((*lead, d_in))
        d_bias = None if bias is None else d_rows.sum(axis=0)
        return d_x, weight_gradient(x, d_output), d_bias  # (linear.2)

    return output if bias is None else output + bias, backward


def weight_gradient(x: Array, d_output: Array) -> Array:
    """(matmul.2), (linear.2): Xᵀ d_Y over all rows of x (..., d_in) and d_output (..., d_out), as one product."""
    d_in, d_out = x.shape[-1], d_output.shape[-1]
    n = math.prod(x.shape[:-1])
    return x.reshape((n, d_in)).swapaxes(0, 1) @ d_output.reshape((n, d_out))


def _check_inner(x: Array, y: Array) -> None:
    if x.ndim == 0 or y.ndim == 0:
        raise ValueError(f"matmul: needs vectors or matrices; got {x.shape} and {y.shape}. To scale by a number, use *")
    if x.shape[-1] != y.shape[-2 if y.ndim > 1 else -1]:
        hint = " Is y transposed?" if y.ndim > 1 and x.shape[-1] == y.shape[-1] else ""
        raise ValueError(f"matmul: the last axis of x must match the rows of y; got {x.shape} and {y.shape}.{hint}")


def _hint_transposed(x: Array, weight: Array) -> str:
    return " Is weight transposed?" if weight.ndim == 2 and x.ndim and x.shape[-1] == weight.shape[1] else ""
