import math
from functools import partial

import numpy as np
import pytest

from tinyattn.rules import activations as rules


def test_far_from_zero_nothing_overflows():
    """An overflow would warn, which is an error here."""
    x = np.array([-1e4, -40.0, 0.0, 40.0, 1e4])
    sigmoid, backward = rules.sigmoid(x)
    np.testing.assert_allclose(sigmoid, [0.0, np.exp(-40.0), 0.5, 1.0, 1.0], rtol=1e-15)
    np.testing.assert_allclose(backward(np.ones(5))[0][[0, 2, 4]], [0.0, 0.25, 0.0])
    by_tanh = partial(rules.gelu, approximate="tanh")
    for rule in (rules.silu, rules.gelu, by_tanh, rules.relu):
        output, backward = rule(x)
        np.testing.assert_allclose(output, [0.0, 0.0, 0.0, 40.0, 1e4], atol=1e-15)
        np.testing.assert_allclose(backward(np.ones(5))[0][[0, 1, 3, 4]], [0.0, 0.0, 1.0, 1.0], atol=1e-14)


def test_relu_is_flat_at_0_and_does_not_hide_nan():
    output, backward = rules.relu(np.array([0.0, np.nan]))
    assert backward(np.ones(2))[0][0] == 0.0
    assert np.isnan(output[1])


def test_leaky_relu_is_steep_above_0_only():
    output, backward = rules.leaky_relu(np.array([-3.0, 0.0, 3.0]), negative_slope=0.25)
    assert output.tolist() == [-0.75, 0.0, 3.0]
    assert backward(np.ones(3))[0].tolist() == [0.25, 0.25, 1.0]
    assert rules.leaky_relu(np.array([-2.0]))[0].tolist() == [-0.02]


def test_softplus_by_head():
    """log(1 + e^0) is log 2; a β counts in the argument and, the other way, in the value."""
    assert rules.softplus(np.array(0.0))[0] == pytest.approx(math.log(2), rel=1e-15)
    output, backward = rules.softplus(np.array([0.0, math.log(3) / 4]), beta=4.0)
    np.testing.assert_allclose(output, [math.log(2) / 4, math.log(4) / 4], rtol=1e-15)
    np.testing.assert_allclose(backward(np.ones(2))[0], [0.5, 0.75], rtol=1e-15)


def test_softplus_far_from_zero():
    x = np.array([-np.inf, -1e4, -40.0, 40.0, 1e4, np.inf])
    output, backward = rules.softplus(x)
    np.testing.assert_allclose(output, [0.0, 0.0, np.exp(-40.0), 40.0, 1e4, np.inf], rtol=1e-15)
    np.testing.assert_allclose(backward(np.ones(6))[0], [0.0, 0.0, np.exp(-40.0), 1.0, 1.0, 1.0], rtol=1e-15)


@pytest.mark.parametrize("beta", [0, -1.0, math.nan])
def test_softplus_needs_a_positive_beta(beta):
    with pytest.raises(ValueError, match=f"^softplus: beta must be positive; got {beta}"):
        rules.softplus(np.zeros(3), beta=beta)


def test_gelu_is_exact_unless_told_otherwise():
    """Φ(1) = 0.841345; the approximation is off by 1.5e-4. The slope is Φ(x) + x φ(x), which at 0 is ½."""
    x = np.array([-1.0, 0.0, 1.0])
    above = 0.5 + 0.5 * math.erf(math.sqrt(0.5))
    density = math.exp(-0.5) / math.sqrt(2 * math.pi)
    output, backward = rules.gelu(x)
    np.testing.assert_allclose(output, [above - 1.0, 0.0, above], rtol=1e-14)
    np.testing.assert_allclose(backward(np.ones(3))[0], [1 - above - density, 0.5, above + density], rtol=1e-14)
    output, _ = rules.gelu(x, approximate="tanh")
    np.testing.assert_allclose(output, [-0.158808, 0.0, 0.841192], atol=1e-6)
    x = np.linspace(-9.0, 9.0, 1001)
    assert abs(rules.gelu(x)[0] - rules.gelu(x, approximate="tanh")[0]).max() == pytest.approx(4.7e-4, rel=0.02)


@pytest.mark.parametrize("approximate", ["erf", None, True])
def test_gelu_has_two_ways(approximate):
    with pytest.raises(ValueError, match=r"^gelu: approximate must be 'none' or 'tanh'; got "):
        rules.gelu(np.zeros(3), approximate=approximate)
