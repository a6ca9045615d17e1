"""Rules that work number by number: arithmetic, powers, exponentials, comparisons that choose.

Formulas are written for one element; operands broadcast as NumPy broadcasts, and the engine undoes it in the gradients.
"""

from __future__ import annotations  # else every call of a rule would evaluate those of its backward

import itertools
import math
import operator
from typing import Any

import numpy as np

from tinyattn.rules.registry import Array, Gradients, Result, numpy_like, rule


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

    0⁰ is 1. Where the derivative has no value it is taken as 0: that in the base for e = 0 (at b = 0, too), that in the
    exponent for b ≤ 0. An exponent that is a Python number is a constant, and no logarithm is computed.

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
        return d_output * (exponent * lowered), d_output * (np.where(base <= 0, 0.0, output) * logarithm)

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
def sign(x: Array) -> Result:
    """1 above zero, −1 below, 0 at it.

    y = [x > 0] − [x < 0],   ∂y/∂x = 0, at the jump too              (sign.1)

    >>> sign(np.array([-3.0, 0.0, 5.0]))[0]
    array([-1.,  0.,  1.])
    """

    def backward(d_output: Array) -> Gradients:
        return (np.zeros_like(d_output),)

    return np.sign(x), backward


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

    The slope at 0 is ∞, and NumPy warns of it; that of `std` and `norm`, which are roots too, is taken as 0.

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
def exp2(x: Array) -> Result:
    """2 raised to the value.

    y = 2^x,   ∂y/∂x = y log 2                                       (exp2.1)

    >>> float(exp2(3.0)[0])
    8.0
    """
    output = 2.0**x  # NumPy's exp2 doesn't take complex numbers

    def backward(d_output: Array) -> Gradients:
        return (d_output * (output * math.log(2)),)

    return output, backward


@rule
def expm1(x: Array) -> Result:
    """The exponential less 1, without loss of digits near 0.

    y = e^x − 1,   ∂y/∂x = y + 1                                     (expm1.1)

    >>> float(expm1(1e-20)[0])
    1e-20
    """
    output = np.expm1(x)

    def backward(d_output: Array) -> Gradients:
        return (d_output * (output + 1.0),)

    return output, backward


@rule
def log(x: Array) -> Result:
    """The natural logarithm.

    y = log x,   ∂y/∂x = 1 / x                                       (log.1)

    At 0 it is −∞ with slope ∞, below 0 it is NaN; NumPy warns of each.

    >>> float(log(1.0)[0])
    0.0
    """

    def backward(d_output: Array) -> Gradients:
        return (d_output / x,)

    return np.log(x), backward


@rule
def log2(x: Array) -> Result:
    """The logarithm to the base 2.

    y = log x / log 2,   ∂y/∂x = 1 / (x log 2)                       (log2.1)

    At 0 and below it is as `log` is.

    >>> float(log2(8.0)[0])
    3.0
    """

    def backward(d_output: Array) -> Gradients:
        return (d_output / (x * math.log(2)),)

    return np.log2(x), backward


@rule
def log1p(x: Array) -> Result:
    """The logarithm of 1 plus the value, without loss of digits near 0.

    y = log(1 + x),   ∂y/∂x = 1 / (1 + x)                            (log1p.1)

    At −1 it is −∞ with slope ∞, below −1 it is NaN; NumPy warns of each.

    >>> float(log1p(1e-20)[0])
    1e-20
    """

    def backward(d_output: Array) -> Gradients:
        return (d_output / (1.0 + x),)

    return np.log1p(x), backward


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
def erf(x: Array) -> Result:
    """The error function: how likely a normal variable of variance ½ lies between −x and x (negative for x < 0).

    y = (2/√π) ∫_0^x e^(−t²) dt,   ∂y/∂x = (2/√π) e^(−x²)            (erf.1)

    To within 4 units of the last digit, in float32 and float64; complex x are meant to lie near the real axis.

    >>> round(erf(np.float64(0.5))[0].item(), 4)
    0.5205
    """

    def backward(d_output: Array) -> Gradients:
        near = np.where(np.absolute(x) > 30, 30.0, x)  # whose e^(−x²) is 0 as well; no overflow of x²
        return (2 / math.sqrt(math.pi) * d_output * np.exp(-near * near),)

    return _erf(x), backward


_SERIES = list(itertools.accumulate(range(3, 27, 2), operator.truediv, initial=1.0))
"""1 / (1 · 3 · 5 ··· (2n + 1)), for n from 0."""
_MIDPOINTS = [((n + 0.5) / 2) ** 2 for n in range(12)]
"""t², for t in the middle of each step of length ½."""


@numpy_like("erf")
def _erf(x: Array) -> Array:
    """What `erf` computes, as a function that NumPy might have had.

    |x| < ½:   y = (2x/√π) e^(−x²) Σ_n (2x²)^n / (1 · 3 · 5 ··· (2n + 1))          (erf.2)
    beyond:    y = 1 − (2x/π) e^(−x²) ∫_0^∞ e^(−t²) / (t² + x²) dt                 (erf.3)
               y = tanh(πx/h) − (2x/π) e^(−x²) h Σ_n e^(−t_n²) / (t_n² + x²)       (erf.4)

    (erf.4) is (erf.3) by the midpoint rule, t_n = (n + ½) h, with what the pole at t = ix adds to it; its error is of
    the order e^(−(π/h)²), 1e-17 with h = ½. Near 0, where it would lose digits, the series (erf.2) loses none. From 6
    on y is ±1 to the last digit.

    (erf.2) is 7.1.6 of Abramowitz and Stegun 1964; (erf.4) Chiarella and Reichel 1968, Math. Comp. 22, 137, as
    corrected by Hunter and Regan 1972, Math. Comp. 26, 539.
    """
    central = abs(x) < 0.5
    x = np.where(abs(x) > 6, np.copysign(6.0, x.real), x)
    small = np.where(central, x, 0.0)
    series: Array = 0.0
    for coefficient in reversed(_SERIES):
        series = series * (2 * small * small) + coefficient
    by_series = 2 / math.sqrt(math.pi) * small * np.exp(-small * small) * series  # (erf.2)
    integral = sum(math.exp(-t2) / (t2 + x * x) for t2 in _MIDPOINTS)
    by_integral = np.tanh(2 * math.pi * x) - x / math.pi * np.exp(-x * x) * integral  # (erf.4)
    return np.where(central, by_series, by_integral)[()]


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
def clip(x: Array, min: Array = None, max: Array = None) -> Result:
    """The value, or the bound that it lies beyond; a bound left out bounds nothing.

    y = min(max(x, a), b)                                            (clip.1)
    ∂y/∂x = [a ≤ x ≤ b],   ∂y/∂a = [x < a ≤ b],   ∂y/∂b = [x > b or a > b]      (clip.2)

    At a bound the gradient is that of x, wholly, as in PyTorch. (`maximum` and `minimum` share it.) Where the bounds
    cross, the upper one holds.

    >>> output, backward = clip(np.array([-2.0, 0.0, 3.0, 7.0]), 0.0, 5.0)
    >>> output, backward(np.ones(4))[0]
    (array([0., 0., 3., 5.]), array([0., 1., 1., 0.]))
    """
    low = -math.inf if min is None else min
    high = math.inf if max is None else max

    def backward(d_output: Array) -> Gradients:
        return (
            np.where((low <= x) & (x <= high), d_output, 0.0),
            None if min is None else np.where((x < low) & (low <= high), d_output, 0.0),
            None if max is None else np.where((x > high) | (low > high), d_output, 0.0),
        )

    return np.clip(x, min, max), backward


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
    if np.dtype(dtype).kind not in "fiubc":
        raise TypeError(f"astype: dtype must be one of numbers; got {np.dtype(dtype)}")

    def backward(d_output: Array) -> Gradients:
        return (d_output.astype(before),)

    return x.astype(dtype), backward
