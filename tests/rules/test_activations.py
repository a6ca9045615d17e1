import numpy as np

from tinyattn.rules import activations as rules


def test_far_from_zero_nothing_overflows():
    """An overflow would warn, which is an error here."""
    x = np.array([-1e4, -40.0, 0.0, 40.0, 1e4])
    sigmoid, backward = rules.sigmoid(x)
    np.testing.assert_allclose(sigmoid, [0.0, np.exp(-40.0), 0.5, 1.0, 1.0], rtol=1e-15)
    np.testing.assert_allclose(backward(np.ones(5))[0][[0, 2, 4]], [0.0, 0.25, 0.0])
    for rule in (rules.silu, rules.gelu, rules.relu):
        output, backward = rule(x)
        np.testing.assert_allclose(output, [0.0, 0.0, 0.0, 40.0, 1e4], atol=1e-15)
        np.testing.assert_allclose(backward(np.ones(5))[0][[0, 1, 3, 4]], [0.0, 0.0, 1.0, 1.0], atol=1e-14)


def test_relu_is_flat_at_0_and_does_not_hide_nan():
    output, backward = rules.relu(np.array([0.0, np.nan]))
    assert backward(np.ones(2))[0][0] == 0.0
    assert np.isnan(output[1])


def test_gelu_is_the_tanh_approximation():
    """Φ(1) = 0.841345; the approximation is off by 1.5e-4."""
    assert abs(rules.gelu(np.float64(1.0))[0] - 0.841192) < 1e-6
