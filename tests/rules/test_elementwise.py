import math

import numpy as np
import pytest

import tinyattn as ta
from tinyattn.rules import elementwise as rules


def gradients(rule, *arrays):
    """The gradients of the sum of the outputs."""
    output, backward = rule(*arrays)
    return backward(np.ones_like(output))


def test_a_tie_is_shared():
    x, y = np.array([1.0, 2.0, 3.0]), np.array([3.0, 2.0, 1.0])
    d_x, d_y = gradients(rules.maximum, x, y)
    assert d_x.tolist() == [0.0, 0.5, 1.0]
    assert d_y.tolist() == [1.0, 0.5, 0.0]
    d_x, d_y = gradients(rules.minimum, x, y)
    assert d_x.tolist() == [1.0, 0.5, 0.0]
    assert d_y.tolist() == [0.0, 0.5, 1.0]


def test_where_shuts_out_nan():
    """The side not taken gets 0, not 0 · NaN."""
    _, backward = rules.where(np.array([True, False]), np.zeros(2), np.zeros(2))
    none, d_x, d_y = backward(np.array([1.0, np.nan]))
    assert none is None
    assert d_x.tolist() == [1.0, 0.0]
    assert d_y[0] == 0.0


def test_absolute_has_slope_0_at_0():
    assert gradients(rules.absolute, np.array([-2.0, 0.0, 2.0]))[0].tolist() == [-1.0, 0.0, 1.0]


def test_sign_has_slope_0_everywhere():
    output, backward = rules.sign(np.array([-2.0, 0.0, 2.0, np.nan]))
    np.testing.assert_array_equal(output, [-1.0, 0.0, 1.0, np.nan])
    assert backward(np.full(4, np.nan))[0].tolist() == [0.0] * 4


def test_roots_and_logarithms_at_0():
    """Infinite with infinite slope, as in NumPy, which warns."""
    zero = np.array([0.0])
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        assert gradients(rules.sqrt, zero)[0].tolist() == [np.inf]
    with np.errstate(divide="ignore", invalid="ignore"):
        for rule, x in ((rules.log, zero), (rules.log2, zero), (rules.log1p, zero - 1.0)):
            assert rule(x)[0].tolist() == [-np.inf]
            assert gradients(rule, x)[0].tolist() == [np.inf]
            assert np.isnan(rule(x - 1.0)[0]).all()


def test_powers_and_logarithms_of_2():
    x = np.array([-1.0, 0.0, 3.0, 10.0])
    powers, backward = rules.exp2(x)
    assert powers.tolist() == [0.5, 1.0, 8.0, 1024.0]
    np.testing.assert_allclose(backward(np.ones(4))[0], powers * math.log(2), rtol=1e-15)
    assert rules.log2(powers)[0].tolist() == x.tolist()
    np.testing.assert_allclose(gradients(rules.log2, powers)[0], 1 / (powers * math.log(2)), rtol=1e-15)


def test_digits_near_0_are_kept():
    x = np.array([1e-20, -1e-20])
    assert rules.expm1(x)[0].tolist() == rules.log1p(x)[0].tolist() == x.tolist()
    assert gradients(rules.expm1, x)[0].tolist() == gradients(rules.log1p, x)[0].tolist() == [1.0, 1.0]


GRID = np.concatenate([np.linspace(0.0, 7.0, 7001)[1:], 10.0 ** np.arange(-30.0, 31.0)])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_erf_to_the_last_digits(dtype):
    """The standard library's is the reference; a slope of it is one of erf's own witnesses."""
    x = GRID.astype(dtype)
    found = rules.erf(x)[0]
    expected = np.array([math.erf(number) for number in x.tolist()])
    assert found.dtype == dtype
    np.testing.assert_allclose(found.astype(float), expected, rtol=4 * np.finfo(dtype).eps)
    np.testing.assert_array_equal(rules.erf(-x)[0], -found)


def test_erf_at_its_limits():
    """With no overflow on the way, which would warn."""
    x = np.array([0.0, -0.0, 6.0, np.finfo(float).max, np.inf, -np.inf, np.nan])
    output, backward = rules.erf(x)
    np.testing.assert_array_equal(output, [0.0, 0.0, 1.0, 1.0, 1.0, -1.0, np.nan])
    assert np.signbit(output[1])
    slope = 2 / math.sqrt(math.pi)
    np.testing.assert_allclose(backward(np.ones(7))[0], [slope, slope, slope * math.exp(-36), 0, 0, 0, np.nan])
    assert rules.erf(np.array([0, 1]))[0].tolist() == [0.0, pytest.approx(math.erf(1), rel=1e-15)]
    assert rules.erf(np.zeros((0, 3)))[0].shape == (0, 3)


def test_erf_takes_complex_steps():
    """On both sides of |x| = ½, where the formula changes, and of 6, where it ends."""
    x = np.linspace(-7.0, 7.0, 281)
    slope = rules.erf(x + 1e-30j)[0].imag / 1e-30
    np.testing.assert_allclose(slope, gradients(rules.erf, x)[0], rtol=1e-14, atol=1e-15)


def test_clip_gives_the_gradient_to_what_is_seen():
    """At a bound that is x."""
    x, low, high = np.array([-2.0, -1.0, 0.0, 1.0, 2.0]), np.full(5, -1.0), np.ones(5)
    output, backward = rules.clip(x, low, high)
    d_x, d_low, d_high = backward(np.array([1.0, 10.0, 100.0, 1000.0, 10000.0]))
    assert output.tolist() == [-1.0, -1.0, 0.0, 1.0, 1.0]
    assert d_x.tolist() == [0.0, 10.0, 100.0, 1000.0, 0.0]
    assert d_low.tolist() == [1.0, 0.0, 0.0, 0.0, 0.0]
    assert d_high.tolist() == [0.0, 0.0, 0.0, 0.0, 10000.0]


def test_clip_between_bounds_that_cross():
    """The upper one is what NumPy gives, wherever x lies."""
    x = np.array([-9.0, 2.0, 9.0])
    output, backward = rules.clip(x, 3.0, 1.0)
    assert output.tolist() == np.clip(x, 3.0, 1.0).tolist() == [1.0, 1.0, 1.0]
    d_x, d_low, d_high = backward(np.ones(3))
    assert d_x.tolist() == d_low.tolist() == [0.0, 0.0, 0.0]
    assert d_high.tolist() == [1.0, 1.0, 1.0]


def test_clip_is_called_as_numpys():
    x = ta.tensor([-2.0, 0.5, 2.0], requires_grad=True)
    high = ta.tensor(1.0, requires_grad=True)
    for clipped in (np.clip(x, 0.0, high), np.clip(x, min=0.0, max=high), ta.clip(x, max=high, min=0)):
        x.zero_grad(), high.zero_grad()
        (clipped * [1.0, 10.0, 100.0]).sum().backward()
        assert clipped.tolist() == [0.0, 0.5, 1.0]
        assert x.grad.tolist() == [0.0, 10.0, 0.0]
        assert high.grad.item() == 100.0
    assert rules.clip(np.array([-2.0, 2.0]), None, 1.0)[0].tolist() == [-2.0, 1.0]
    np.testing.assert_array_equal(rules.clip(np.array([np.nan]), 0.0, 1.0)[0], [np.nan])


def test_power_of_a_constant_exponent_needs_no_logarithm():
    """Which would warn of these bases, and is an error here."""
    d_base, d_exponent = gradients(rules.power, np.array([-2.0, 0.0, 3.0]), 2)
    assert d_base.tolist() == [-4.0, 0.0, 6.0]
    assert d_exponent is None


def test_power_has_a_gradient_where_bases_and_exponents_are_zero():
    assert rules.power(np.array(0.0), 0)[0] == rules.power(np.array(0.0), np.array(0.0))[0] == 1.0
    d_base, d_exponent = gradients(rules.power, np.array([0.0, 0.0, 0.0, -2.0]), np.array([0.0, 1.0, 2.0, 2.0]))
    assert d_base.tolist() == [0.0, 1.0, 0.0, -4.0]
    assert d_exponent.tolist() == [0.0, 0.0, 0.0, 0.0]
    assert gradients(rules.power, np.array([0.0, -1.0]), 0)[0].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("number", [2, 2.5, True])
@pytest.mark.parametrize("rule", [rules.add, rules.subtract, rules.multiply, rules.divide, rules.power, rules.maximum])
def test_python_numbers_do_not_widen(rule, number):
    x = np.array([1.5, 2.5], np.float32)
    output, backward = rule(x, number)
    assert output.dtype == np.float32
    assert backward(np.ones(2, np.float32))[0].dtype == np.float32


def test_numpys_scalars_are_arrays_with_a_gradient():
    """They stand for Tensors of no axes; only Python's numbers are constants."""
    d_base, d_exponent = rules.power(np.array([2.0, 3.0]), np.float64(2.0))[1](np.ones(2))
    assert d_base.tolist() == [4.0, 6.0]
    np.testing.assert_allclose(d_exponent, [4 * np.log(2), 9 * np.log(3)])


def test_astype_brings_the_gradient_back_in_the_dtype_that_came_in():
    output, backward = rules.astype(np.array([1.5], np.float32), np.float64)
    assert output.dtype == np.float64
    assert backward(output)[0].dtype == np.float32


def test_an_exponent_has_no_gradient_where_the_base_is_not_positive():
    """Also where the power itself is infinite or NaN, which times 0 would be NaN."""
    with np.errstate(divide="ignore", invalid="ignore"):
        _, backward = rules.power(np.array([0.0, 0.0, -2.0, 0.0]), np.array([0.0, -1.0, 0.5, 2.0]))
        assert backward(np.ones(4))[1].tolist() == [0.0] * 4
