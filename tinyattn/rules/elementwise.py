"""Rules that work number by number: arithmetic, powers, exponentials, comparisons that choose.

Formulas are written for one element; operands broadcast as NumPy broadcasts, and the engine undoes it in the gradients.
"""

from __future__ import annotations  # else every call of a rule would evaluate those of its backward

from typing import Any

import numpy as np

from tinyattn.rules.registry import Array, Gradients, Result, rule


@rule
def positive(x: Array) -> Result:
    """x itself, as a value of its own.

    y = x                                                            (positive.1)

    >>> positive(3.0)[0]
    3.0
    """

    def backward(d_output: Array) -> Gradients:
        return (d_output,)

    return +x, backward


@rule
def negative(x: Array) -> Result:
    """The value with its sign turned.

    y = −x,   ∂y/∂x = −1                                             (negative.1)

    >>> negative(3.0)[0]
    -3.0
    """

    def backward(d_output: Array) -> Gradients:
        return (-d_output,)

    return -x, backward


@rule
def add(x: Array, y: Array) -> Result:
    """The sum of two values.

    z = x + y,   ∂z/∂x = ∂z/∂y = 1                                   (add.1)

    >>> output, backward = add(2.0, 3.0)
    >>> output, backward(1.0)
    (5.0, (1.0, 1.0))
    """

    def backward(d_output: Array) -> Gradients:
        return d_output, d_output

    return x + y, backward


@rule
def subtract(x: Array, y: Array) -> Result:
    """The difference of two values.

    z = x − y,   ∂z/∂x = 1,   ∂z/∂y = −1                             (subtract.1)

    >>> output, backward = subtract(2.0, 3.0)
    >>> output, backward(1.0)
    (-1.0, (1.0, -1.0))
    """

    def backward(d_output: Array) -> Gradients:
        return d_output, -d_output

    return x - y, backward


@rule
def multiply(x: Array, y: Array) -> Result:
    """The product of two values.

    z = x y,   ∂z/∂x = y,   ∂z/∂y = x                                (multiply.1)

    >>> output, backward = multiply(2.0, 3.0)
    >>> output, backward(1.0)
    (6.0, (3.0, 2.0))
    """

    def backward(d_output: Array) -> Gradients:
        return d_output * y, d_output * x

    return x * y, backward


@rule
def divide(x: Array, y: Array) -> Result:
    """The quotient of two values.

    z = x / y,   ∂z/∂x = 1 / y,   ∂z/∂y = −z / y                     (divide.1)

    >>> output, backward = divide(6.0, 2.0)
    >>> output, backward(1.0)
    (3.0, (0.5, -1.5))
    """
    output = x / y

    def backward(d_output: Array) -> Gradients:
        d_x = d_output / y
        return d_x, -d_x * output

    return output, backward


@rule
def power(base: Array, exponent: Array) -> Result:
    """The base raised to the exponent.

    z = b^e,   ∂z/∂b = e b^(e−1),   ∂z/∂e = z log b                  (power.1)

    Where the derivative has no value it is taken as 0: that in the base for e = 0 (at b = 0, too), that in the exponent
    for b ≤ 0. An exponent that is a Python number is a constant, and no logarithm is computed.

    >>> output, backward = power(3.0, 2)
    >>> output, backward(1.0)
    (9.0, (6.0, None))
    """
    output = base**exponent

    def backward_constant(d_output: Array) -> Gradients:
        return (d_output * (exponent * base ** (exponent - 1) if exponent else base * 0), None)

    def backward(d_output: Array) -> Gradients:
        lowered = np.where((base == 0) & (exponent == 0), 1.0, base) ** (exponent - 1)
        logarithm = np.log(np.where(base > 0, base, 1.0))
        return d_output * (exponent * lowered), d_output * (output * logarithm)

    constant = type(exponent) in (int, float, bool)  # np.float64 isn't: it may be what a Tensor holds
    return output, backward_constant if constant else backward


@rule
def absolute(x: Array) -> Result:
    """The distance from zero.

    y = |x|,   ∂y/∂x = sign x, which is 0 at 0                       (absolute.1)

    >>> float(absolute(-3.0)[0])
    3.0
    """

    def backward(d_output: Array) -> Gradients:
        return (d_output * np.sign(x),)

    return np.absolute(x), backward


@rule
def square(x: Array) -> Result:
    """The value times itself.

    y = x²,   ∂y/∂x = 2 x                                            (square.1)

    >>> output, backward = square(3.0)
    >>> output, backward(1.0)
    (9.0, (6.0,))
    """

    def backward(d_output: Array) -> Gradients:
        return (2.0 * d_output * x,)

    return x * x, backward


@rule
def sqrt(x: Array) -> Result:
    """The square root.

    y = √x,   ∂y/∂x = 1 / (2 y)                                      (sqrt.1)

    >>> float(sqrt(9.0)[0])
    3.0
    """
    output = np.sqrt(x)

    def backward(d_output: Array) -> Gradients:
        return (0.5 * d_output / output,)

    return output, backward


@rule
def exp(x: Array) -> Result:
    """The exponential.

    y = e^x,   ∂y/∂x = y                                             (exp.1)

    >>> float(exp(0.0)[0])
    1.0
    """
    output = np.exp(x)

    def backward(d_output: Array) -> Gradients:
        return (d_output * output,)

    return output, backward


@rule
def log(x: Array) -> Result:
    """The natural logarithm.

    y = log x,   ∂y/∂x = 1 / x                                       (log.1)

    >>> float(log(1.0)[0])
    0.0
    """

    def backward(d_output: Array) -> Gradients:
        return (d_output / x,)

    return np.log(x), backward


@rule
def tanh(x: Array) -> Result:
    """The hyperbolic tangent, which squeezes the line into (−1, 1).

    y = tanh x,   ∂y/∂x = 1 − y²                                     (tanh.1)

    >>> float(tanh(0.0)[0])
    0.0
    """
    output = np.tanh(x)

    def backward(d_output: Array) -> Gradients:
        return (d_output * (1.0 - output * output),)

    return output, backward


@rule
def sin(x: Array) -> Result:
    """The sine of an angle in radians.

    y = sin x,   ∂y/∂x = cos x                                       (sin.1)

    >>> float(sin(0.0)[0])
    0.0
    """

    def backward(d_output: Array) -> Gradients:
        return (d_output * np.cos(x),)

    return np.sin(x), backward


@rule
def cos(x: Array) -> Result:
    """The cosine of an angle in radians.

    y = cos x,   ∂y/∂x = −sin x                                      (cos.1)

    >>> float(cos(0.0)[0])
    1.0
    """

    def backward(d_output: Array) -> Gradients:
        return (-d_output * np.sin(x),)

    return np.cos(x), backward


@rule
def maximum(x: Array, y: Array) -> Result:
    """The larger of two values.

    z = max(x, y),   ∂z/∂x = [x > y] + ½ [x = y],   ∂z/∂y = 1 − ∂z/∂x      (maximum.1)

    A tie shares the gradient equally.

    >>> output, backward = maximum(np.array([1.0, 5.0]), np.array([4.0, 5.0]))
    >>> output, backward(np.ones(2))[0]
    (array([4., 5.]), array([0. , 0.5]))
    """

    def backward(d_output: Array) -> Gradients:
        half = 0.5 * d_output
        return (
            np.where(x > y, d_output, np.where(x == y, half, 0.0)),
            np.where(x < y, d_output, np.where(x == y, half, 0.0)),
        )

    return np.maximum(x, y), backward


@rule
def minimum(x: Array, y: Array) -> Result:
    """The smaller of two values.

    z = min(x, y),   ∂z/∂x = [x < y] + ½ [x = y],   ∂z/∂y = 1 − ∂z/∂x      (minimum.1)

    A tie shares the gradient equally.

    >>> output, backward = minimum(np.array([1.0, 5.0]), np.array([4.0, 5.0]))
    >>> output, backward(np.ones(2))[0]
    (array([1., 5.]), array([1. , 0.5]))
    """

    def backward(d_output: Array) -> Gradients:
        half = 0.5 * d_output
        return (
            np.where(x < y, d_output, np.where(x == y, half, 0.0)),
            np.where(x > y, d_output, np.where(x == y, half, 0.0)),
        )

    return np.minimum(x, y), backward


@rule
def where(condition: Array, x: Array, y: Array) -> Result:
    """x where the condition holds, y elsewhere.

    z = [c] x + [¬c] y,   ∂z/∂x = [c],   ∂z/∂y = [¬c]                (where.1)

    The side not taken gets exactly 0, also where the incoming gradient is NaN.

    >>> where(np.array([True, False]), 1.0, 2.0)[0]
    array([1., 2.])
    """

    def backward(d_output: Array) -> Gradients:
        return None, np.where(condition, d_output, 0.0), np.where(condition, 0.0, d_output)

    return np.where(condition, x, y), backward


@rule(arrays=1)
def astype(x: Array, dtype: Any) -> Result:
    """The same numbers in another dtype.

    y = x up to rounding,   ∂y/∂x = 1                                (astype.1)

    >>> astype(np.array([1.5]), np.float32)[0].dtype
    dtype('float32')
    """

    before = x.dtype

    def backward(d_output: Array) -> Gradients:
        return (d_output.astype(before),)

    return x.astype(dtype), backward
