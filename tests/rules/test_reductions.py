import itertools
import math

import numpy as np
import pytest

import tinyattn as ta
from tinyattn.rules import reductions as rules

X = np.arange(30.0).reshape(2, 3, 5)
AXES = [None, 0, -1, (0, 2), (-1, 1), (0, 1, 2), ()]


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("name", ["sum", "mean", "max", "min", "var", "std", "prod"])
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
    output, backward = rules.std(np.array([1.0, 1.0, 5.0, 5.0, 3.0]), ddof=1)
    assert output == 2.0
    np.testing.assert_allclose(backward(np.float64(8.0))[0], [-2.0, -2.0, 2.0, 2.0, 0.0])


@pytest.mark.parametrize("name", ["var", "std"])
@pytest.mark.parametrize("ddof", [2, 3])
def test_more_ddof_than_numbers(name, ddof):
    """Divided by 0, never by less."""
    with np.errstate(divide="ignore"):
        assert getattr(rules, name)(np.array([1.0, 3.0]), ddof=ddof)[0] == np.inf


def test_std_of_equal_numbers_has_gradient_0():
    x = np.array([[3.0, 3.0, 3.0], [1.0, 2.0, 3.0]])
    output, backward = rules.std(x, -1)
    np.testing.assert_allclose(output, [0.0, math.sqrt(2 / 3)])
    d_x = backward(np.ones(2))[0]
    assert d_x[0].tolist() == [0.0, 0.0, 0.0]
    assert not ta.hessian(lambda x: ta.std(x))(x[0]).numpy().any()


def test_prod_of_zeros():
    """With one zero it alone moves the product, with two nothing does; but two together do."""
    x = np.array([[2.0, 3.0, 5.0], [2.0, 0.0, 5.0], [0.0, 3.0, 0.0]])
    output, backward = rules.prod(x, 1)
    assert output.tolist() == [30.0, 0.0, 0.0]
    expected = [[15.0, 10.0, 6.0], [0.0, 100.0, 0.0], [0.0, 0.0, 0.0]]
    assert backward(np.array([1.0, 10.0, 100.0]))[0].tolist() == expected
    hessian = ta.hessian(lambda x: ta.prod(x))(x[2])
    assert hessian.tolist() == [[0.0, 0.0, 3.0], [0.0, 0.0, 0.0], [3.0, 0.0, 0.0]]


@pytest.mark.parametrize("n", [0, 1, 2, 7, 8, 9])
def test_prod_of_any_number_of_factors(n):
    """The derivative in each is the product of the others, also where one is so small that dividing would overflow."""
    x = 1.0 + np.arange(2.0 * n).reshape(n, 2)
    x[0:1, 0] = 1e-310
    d_x = rules.prod(x, 0)[1](np.ones(2))[0]
    assert d_x.shape == (n, 2)
    for i, j in np.ndindex(n, 2):
        assert d_x[i, j] == pytest.approx(math.prod(x[k, j] for k in range(n) if k != i), rel=1e-14)


def test_cumsum_is_numpys():
    for axis in (None, 0, 1, 2, -1, -3):
        output, backward = rules.cumsum(X, axis)
        np.testing.assert_array_equal(output, np.cumsum(X, axis))
        later = np.ones_like(output)
        n = output.shape[0 if axis is None else axis]
        d_x = backward(later)[0]
        assert d_x.shape == X.shape
        first = d_x.reshape(-1)[0] if axis is None else d_x.take(0, axis)
        np.testing.assert_array_equal(first, n)  # it is in every sum
    d_x = rules.cumsum(np.zeros((2, 2)), 0)[1](np.array([[1.0, 10.0], [100.0, 1000.0]]))[0]
    assert d_x.tolist() == [[101.0, 1010.0], [100.0, 1000.0]]
    assert rules.cumsum(np.float64(3.0))[0].tolist() == [3.0]
    assert rules.cumsum(np.float64(3.0))[1](np.array([2.0]))[0].shape == ()
    with pytest.raises(np.exceptions.AxisError):
        rules.cumsum(X, 3)


def test_logsumexp_far_from_zero():
    output, backward = rules.logsumexp(np.array([[1000.0, 1000.0], [-1000.0, -np.inf]]), -1)
    np.testing.assert_allclose(output, [1000.0 + np.log(2.0), -1000.0])
    np.testing.assert_allclose(backward(np.ones(2))[0], [[0.5, 0.5], [1.0, 0.0]])


def test_logsumexp_of_nothing_but_minus_infinity():
    """The first row has no softmax; the second is as it would be alone. NumPy warns of nothing."""
    output, backward = rules.logsumexp(np.array([[-np.inf, -np.inf], [0.0, -np.inf]]), -1)
    assert output.tolist() == [-np.inf, 0.0]
    np.testing.assert_array_equal(backward(np.ones(2))[0], [[np.nan, np.nan], [1.0, 0.0]])


@pytest.mark.parametrize("name", ["sum", "prod", "mean", "var", "std", "cumsum", "max", "min"])
@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        *itertools.product([(0,), (0, 3), (2, 0, 3)], [None, 0, -1, (), (-1,), (0, -1), (0, 0), 3]),
        *itertools.product([()], [None, (), (0, 0), 3]),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value", "ignore:Mean of empty", "ignore:Degrees of freedom")
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_no_numbers_at_all(name, shape, axis):
    """What NumPy gives, NaN included, or the error that it raises; and a gradient of the shape of nothing."""
    x = np.ones(shape)
    try:
        expected = getattr(np, name)(x, axis=axis)
    except (ValueError, TypeError) as error:
        with pytest.raises(type(error)):
            getattr(rules, name)(x, axis)
    else:
        output, backward = getattr(rules, name)(x, axis)
        np.testing.assert_array_equal(output, expected)
        assert np.shape(output) == np.shape(expected)
        d_x = backward(np.ones(expected.shape)[()])[0]
        assert np.broadcast_shapes(d_x.shape, shape) == shape


def test_logsumexp_of_nothing():
    output, backward = rules.logsumexp(np.zeros((0, 3)), 0)
    assert output.tolist() == [-np.inf] * 3
    assert backward(np.ones(3))[0].shape == (0, 3)
    assert rules.logsumexp(np.zeros((0, 3)), 1)[0].shape == (0,)
    assert rules.logsumexp(X, ())[0].tolist() == X.tolist()


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


VECTOR_NORMS = [None, 2, 1, 3, 0.5, -1, 0, math.inf, -math.inf, np.float64(2.5)]
MATRIX_NORMS = [None, "fro", 1, -1, math.inf, -math.inf]


def same_norm(x, *args, **options):
    found = rules.norm(x, *args, **options)[0]
    expected = np.linalg.norm(x, *args, **options)
    np.testing.assert_allclose(found, expected, rtol=1e-15)
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("dtype", [np.float64, np.int64])
def test_norms_are_numpys(keepdims, dtype):
    x = (X - 14.5).astype(dtype) + dtype(20)
    for ord in VECTOR_NORMS:
        same_norm(x, ord, 1, keepdims=keepdims)
        same_norm(x, ord, (-1,), keepdims)
        same_norm(x[0, 0], ord, keepdims=keepdims)
    for ord in MATRIX_NORMS:
        same_norm(x, ord, (-1, 0), keepdims)
        same_norm(x, ord, (0, 1), keepdims=keepdims)
        same_norm(x[0], ord, keepdims=keepdims)
    same_norm(x, keepdims=keepdims)
    same_norm(x[0, 0, 0], keepdims=keepdims)


@pytest.mark.parametrize("ord", VECTOR_NORMS)
def test_a_norm_keeps_float32(ord):
    output, backward = rules.norm(X[0].astype(np.float32) + 1, ord, -1)
    assert output.dtype == backward(output)[0].dtype == np.float32


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0)])
def test_the_norm_of_nothing_is_0(shape):
    """Also the largest of no lengths."""
    x = np.zeros(shape)
    for ord in (None, 1, math.inf, *(["fro"] if x.ndim == 2 else [])):
        output, backward = rules.norm(x, ord)
        assert output == 0.0
        assert backward(np.float64(1.0))[0].shape == shape
    with pytest.raises(ValueError, match="zero-size array"):
        rules.norm(x, -math.inf if shape[0] == 0 else -1)


@pytest.mark.parametrize("ord", [None, 2, 1, 3, 1.5, math.inf, -math.inf, 0])
def test_a_norm_at_zero_has_gradient_0(ord):
    """In a row of zeros; the other rows have theirs. The Hessian has no NaN either."""
    x = np.array([[0.0, 0.0], [3.0, -4.0]])
    output, backward = rules.norm(x, ord, -1)
    d_x = backward(np.ones(2))[0]
    assert output[0] == 0.0
    assert d_x[0].tolist() == [0.0, 0.0]
    assert d_x[1].any() == (ord != 0)
    if ord != 0:
        assert not ta.hessian(lambda x: ta.linalg.norm(x, ord))(np.zeros(2)).numpy().any()


@pytest.mark.parametrize("ord", [1, 0.5, -1, 3])
def test_a_norm_along_an_axis_that_has_a_zero(ord):
    """That element gets 0, having no derivative (or 0) there; where the norm is 0 through it, so do all."""
    with np.errstate(divide="ignore"):
        output, backward = rules.norm(np.array([0.0, 2.0]), ord)
    expected = 1.0 if ord > 0 else 0.0
    np.testing.assert_allclose(output, 2.0 * expected, rtol=1e-15)
    np.testing.assert_allclose(backward(np.float64(1.0))[0], [0.0, expected], rtol=1e-15)


def test_norms_by_head():
    x = np.array([[3.0, -4.0], [6.0, 8.0]])
    assert rules.norm(x, axis=1)[1](np.array([5.0, 10.0]))[0].tolist() == [[3.0, -4.0], [6.0, 8.0]]
    assert rules.norm(x, 1)[1](np.float64(1.0))[0].tolist() == [[0.0, -1.0], [0.0, 1.0]]
    assert rules.norm(x, math.inf)[1](np.float64(1.0))[0].tolist() == [[0.0, 0.0], [1.0, 1.0]]
    tie = rules.norm(np.array([-3.0, 3.0]), math.inf)[1](np.float64(1.0))[0]
    assert tie.tolist() == [-0.5, 0.5]


def test_norm_stands_where_numpys_does():
    x = ta.tensor([3.0, -4.0], requires_grad=True)
    for norm in (np.linalg.norm, ta.linalg.norm):
        x.zero_grad()
        norm(x).backward()
        np.testing.assert_allclose(x.grad.numpy(), [0.6, -0.8], rtol=1e-15)


def test_norms_that_there_are_not():
    for ord in (2, -2, "nuc", 3):
        with pytest.raises(ValueError, match=r"^norm: ord of a matrix must be None, 'fro', ±1 or ±inf; got .*singular"):
            rules.norm(X[0], ord)
    with pytest.raises(ValueError, match=r"^norm: ord of a vector must be a number, inf or -inf; got 'fro'"):
        rules.norm(X, "fro", 0)
    for axis, ord in ((None, 1), ((0, 1, 2), None), ((), None)):
        with pytest.raises(ValueError, match=r"^norm: a vector has one axis, a matrix two; got shape \(2, 3, 5\) with"):
            rules.norm(X, ord, axis)
    for ord in MATRIX_NORMS:
        with pytest.raises(ValueError, match="duplicate value in 'axis'"):
            rules.norm(X, ord, (0, -3))
    with pytest.raises(np.exceptions.AxisError):
        rules.norm(X, 1, 3)


@pytest.mark.parametrize("axis", [0, 1, -1, 2])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
def test_total_is_a_sum_that_keeps_its_axis(axis, dtype):
    x = X.astype(dtype)
    found = rules.total(x, axis)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, x.sum(axis=axis, keepdims=True))
    assert rules.total(np.zeros((3, 0)), -1).tolist() == [[0.0]] * 3
