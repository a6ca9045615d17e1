import numpy as np
import pytest

from tinyattn.rules import softmax as rules


@pytest.mark.parametrize("axis", [0, 1, -1, -3])
def test_weights_sum_to_one_along_the_axis(axis):
    x = np.random.default_rng(0).normal(size=(2, 3, 5))
    weights, _ = rules.softmax(x, axis=axis)
    np.testing.assert_allclose(weights.sum(axis), 1.0)
    np.testing.assert_allclose(weights, np.exp(x) / np.exp(x).sum(axis, keepdims=True))
    np.testing.assert_allclose(rules.log_softmax(x, axis=axis)[0], np.log(weights))


def test_by_head():
    """w = (¼, ¾), d = (1, 0): Σ w d = ¼, so that d_s = (¼ · ¾, ¾ · −¼)."""
    weights, backward = rules.softmax(np.log(np.array([1.0, 3.0])))
    np.testing.assert_allclose(weights, [0.25, 0.75])
    np.testing.assert_allclose(backward(np.array([1.0, 0.0]))[0], [3 / 16, -3 / 16])


def test_a_single_number():
    for rule in (rules.softmax, rules.log_softmax):
        with pytest.raises(ValueError, match=f"^{rule.__name__}: scores need an axis to sum along"):
            rule(np.float64(1.0))


def test_a_shift_changes_nothing_and_overflows_nowhere():
    x = np.array([0.0, 1.0, 2.0])
    for rule in (rules.softmax, rules.log_softmax):
        np.testing.assert_allclose(rule(x + 1e6)[0], rule(x)[0], rtol=1e-9)
        np.testing.assert_allclose(rule(x - 1e6)[0], rule(x)[0], rtol=1e-9)


def test_logarithms_of_weights_too_small_to_be_numbers():
    output, backward = rules.log_softmax(np.array([0.0, 1e4]))
    np.testing.assert_allclose(output, [-1e4, 0.0])
    np.testing.assert_allclose(backward(np.array([1.0, 0.0]))[0], [1.0, -1.0])


def test_a_score_of_minus_infinity_is_out():
    weights, backward = rules.softmax(np.array([0.0, -np.inf, 0.0]))
    assert weights.tolist() == [0.5, 0.0, 0.5]
    assert backward(np.array([1.0, 5.0, 0.0]))[0].tolist() == [0.25, 0.0, -0.25]


@pytest.mark.parametrize("rule", [rules.softmax, rules.log_softmax])
@pytest.mark.parametrize("shape", [(3, 0), (0, 3), (0,)])
def test_nothing_is_left_as_it_is(rule, shape):
    output, backward = rule(np.zeros(shape, np.float32))
    assert (output.shape, output.dtype) == (shape, np.float32)
    assert backward(output)[0].shape == shape
