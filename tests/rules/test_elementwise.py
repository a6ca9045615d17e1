import numpy as np
import pytest

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


def test_power_of_a_constant_exponent_needs_no_logarithm():
    """Which would warn of these bases, and is an error here."""
    d_base, d_exponent = gradients(rules.power, np.array([-2.0, 0.0, 3.0]), 2)
    assert d_base.tolist() == [-4.0, 0.0, 6.0]
    assert d_exponent is None


def test_power_has_a_gradient_where_bases_and_exponents_are_zero():
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
