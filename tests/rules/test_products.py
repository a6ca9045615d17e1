import numpy as np
import pytest

from tinyattn.rules import products as rules

R = np.random.default_rng(0).normal


def test_the_gradients_of_a_product_are_products():
    x, y, d_z = R(size=(3, 5)), R(size=(5, 7)), R(size=(3, 7))
    d_x, d_y = rules.matmul(x, y)[1](d_z)
    np.testing.assert_allclose(d_x, d_z @ y.T)
    np.testing.assert_allclose(d_y, x.T @ d_z)


def test_a_matrix_shared_by_a_stack_gets_the_sum():
    x, y, d_z = R(size=(2, 3, 5)), R(size=(5, 7)), R(size=(2, 3, 7))
    d_y = rules.matmul(x, y)[1](d_z)[1]
    np.testing.assert_allclose(d_y, np.einsum("bni,bno->io", x, d_z))


def test_linear_is_a_product_and_a_sum():
    x, weight, bias, d_y = R(size=(2, 3, 5)), R(size=(5, 7)), R(size=7), R(size=(2, 3, 7))
    output, backward = rules.linear(x, weight, bias)
    np.testing.assert_allclose(output, x @ weight + bias)
    d_x, d_weight, d_bias = backward(d_y)
    np.testing.assert_allclose(d_x, d_y @ weight.T)
    np.testing.assert_allclose(d_weight, np.einsum("bni,bno->io", x, d_y))
    np.testing.assert_allclose(d_bias, d_y.sum((0, 1)))


@pytest.mark.parametrize("shape", [(0, 5), (2, 0, 5), (5,)])
def test_linear_on_no_rows_and_on_one(shape):
    output, backward = rules.linear(np.ones(shape), np.ones((5, 7)), np.ones(7))
    assert output.shape == (*shape[:-1], 7)
    d_x, d_weight, d_bias = backward(np.ones(output.shape))
    assert (d_x.shape, d_weight.shape, d_bias.shape) == (shape, (5, 7), (7,))
    assert (d_bias == (1.0 if shape == (5,) else 0.0)).all()


def test_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match=r"matmul: .*got \(3, 5\) and \(7, 5\)\. Is y transposed\?"):
        rules.matmul(np.ones((3, 5)), np.ones((7, 5)))
    with pytest.raises(ValueError, match=r"matmul: .*got \(3,\) and \(5,\)\.$"):
        rules.matmul(np.ones(3), np.ones(5))
    with pytest.raises(ValueError, match=r"matmul: needs vectors or matrices; got \(3,\) and \(\)\. To scale"):
        rules.matmul(np.ones(3), np.float64(2.0))
    with pytest.raises(ValueError, match=r"linear: .*x \(3, 5\) and weight \(7, 5\)\. Is weight transposed\?"):
        rules.linear(np.ones((3, 5)), np.ones((7, 5)))
    with pytest.raises(ValueError, match=r"linear: .*x \(3, 5\) and weight \(2, 5, 7\)\.$"):
        rules.linear(np.ones((3, 5)), np.ones((2, 5, 7)))
