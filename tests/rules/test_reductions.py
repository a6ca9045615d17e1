import numpy as np
import pytest

from tinyattn.rules import reductions as rules

X = np.arange(30.0).reshape(2, 3, 5)
AXES = [None, 0, -1, (0, 2), (-1, 1), (0, 1, 2), ()]


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("name", ["sum", "mean", "max", "min", "var"])
def test_values_are_numpys(name, axis, keepdims):
    output, backward = getattr(rules, name)(X, axis, keepdims=keepdims)
    expected = getattr(np, name)(X, axis=axis, keepdims=keepdims)
    np.testing.assert_allclose(output, expected, rtol=1e-14)
    assert output.shape == expected.shape
    assert np.broadcast_shapes(backward(np.ones(expected.shape))[0].shape, X.shape) == X.shape


def test_each_output_sends_its_own_gradient_back():
    """Column j of the cotangent reaches column j of the input, and no other."""
    d_x = rules.sum(np.zeros((2, 3)), 0)[1](np.array([1.0, 10.0, 100.0]))[0]
    assert d_x.tolist() == [[1.0, 10.0, 100.0]] * 2
    d_x = rules.mean(np.zeros((2, 3)), (0, -1))[1](np.float64(12.0))[0]
    assert d_x.tolist() == [[2.0, 2.0, 2.0]] * 2


def test_ties_share():
    x = np.array([[1.0, 4.0, 4.0], [7.0, 7.0, 7.0]])
    d_x = rules.max(x, -1)[1](np.array([1.0, 3.0]))[0]
    assert d_x.tolist() == [[0.0, 0.5, 0.5], [1.0, 1.0, 1.0]]
    d_x = rules.min(x, axis=(0, 1))[1](np.float64(1.0))[0]
    assert d_x.tolist() == [[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]


def test_ddof():
    output, backward = rules.var(np.array([1.0, 3.0]), ddof=1)
    assert output == 2.0
    assert backward(np.float64(1.0))[0].tolist() == [-2.0, 2.0]


def test_logsumexp_far_from_zero():
    output, backward = rules.logsumexp(np.array([[1000.0, 1000.0], [-1000.0, -np.inf]]), -1)
    np.testing.assert_allclose(output, [1000.0 + np.log(2.0), -1000.0])
    np.testing.assert_allclose(backward(np.ones(2))[0], [[0.5, 0.5], [1.0, 0.0]])


def test_logsumexp_of_nothing_but_minus_infinity():
    """The first row has no softmax; the second is as it would be alone. NumPy warns of nothing."""
    output, backward = rules.logsumexp(np.array([[-np.inf, -np.inf], [0.0, -np.inf]]), -1)
    assert output.tolist() == [-np.inf, 0.0]
    np.testing.assert_array_equal(backward(np.ones(2))[0], [[np.nan, np.nan], [1.0, 0.0]])


def test_no_numbers_at_all():
    nothing = np.zeros((0, 3))
    output, backward = rules.sum(nothing, 0)
    assert output.tolist() == [0.0, 0.0, 0.0]
    assert backward(np.ones(3))[0].shape == (0, 3)
    with pytest.raises(ValueError, match="zero-size array"):
        rules.max(nothing, 0)


def test_a_single_number():
    output, backward = rules.max(np.float64(3.0))
    assert output == 3.0
    assert backward(np.float64(5.0))[0] == 5.0


@pytest.mark.parametrize("name", ["sum", "mean", "var", "max", "min", "logsumexp"])
@pytest.mark.parametrize("axis", [0, -1])
def test_a_single_number_along_an_axis(name, axis):
    """NumPy lets it have axes 0 and -1."""
    output, backward = getattr(rules, name)(np.array(3.0), axis)
    assert output == (0.0 if name == "var" else 3.0)
    assert backward(np.array(5.0))[0] == (0.0 if name == "var" else 5.0)


@pytest.mark.parametrize("axis", [0, 1, -1, 2])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
def test_total_is_a_sum_that_keeps_its_axis(axis, dtype):
    x = X.astype(dtype)
    found = rules.total(x, axis)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, x.sum(axis=axis, keepdims=True))
    assert rules.total(np.zeros((3, 0)), -1).tolist() == [[0.0]] * 3
