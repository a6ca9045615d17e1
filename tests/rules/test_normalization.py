import numpy as np
import pytest

from tinyattn.rules import normalization as rules


def test_mean_0_and_variance_1():
    x = np.random.default_rng(0).normal(3.0, 7.0, (2, 3, 5))
    normed, _ = rules.layer_norm(x, eps=0.0)
    np.testing.assert_allclose(normed.mean(-1), 0.0, atol=1e-14)
    np.testing.assert_allclose(normed.var(-1), 1.0)
    np.testing.assert_allclose((rules.rms_norm(x, eps=0.0)[0] ** 2).mean(-1), 1.0)


def test_weight_and_bias_come_after():
    x, weight, bias = np.array([1.0, 3.0]), np.array([10.0, 100.0]), np.array([7.0, 8.0])
    output, backward = rules.layer_norm(x, weight, bias, eps=0.0)
    assert output.tolist() == [-3.0, 108.0]
    d_x, d_weight, d_bias = backward(np.array([1.0, 2.0]))
    assert d_weight.tolist() == [-1.0, 2.0]
    assert d_bias.tolist() == [1.0, 2.0]
    np.testing.assert_allclose(d_x, 0.0, atol=1e-12)  # two numbers have no other normed form than ∓1


def test_epsilon_keeps_constant_rows_finite():
    normed, backward = rules.layer_norm(np.full((2, 3), 7.0))
    assert not normed.any()
    np.testing.assert_allclose(backward(np.array([[1.0, 0.0, -1.0]]))[0], [[1e5**0.5, 0.0, -(1e5**0.5)]] * 2)
    assert not rules.rms_norm(np.zeros(3))[0].any()


def test_parameters_have_the_length_of_the_last_axis():
    with pytest.raises(ValueError, match=r"layer_norm: weight and bias must be .* \(5,\); got \(3,\)"):
        rules.layer_norm(np.ones((3, 5)), np.ones(5), np.ones(3))
    with pytest.raises(ValueError, match=r"rms_norm: .*got \(1,\)"):
        rules.rms_norm(np.ones((3, 5)), np.ones(1))


def test_a_single_number():
    for rule in (rules.layer_norm, rules.rms_norm):
        with pytest.raises(ValueError, match=f"^{rule.__name__}: x needs an axis at least"):
            rule(np.float64(1.0))


@pytest.mark.parametrize("rule", [rules.layer_norm, rules.rms_norm])
def test_nothing_is_left_as_it_is(rule):
    output, backward = rule(np.zeros((3, 0)), np.ones(0))
    assert output.shape == backward(output)[0].shape == (3, 0)
