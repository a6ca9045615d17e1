import numpy as np
import pytest

import tinyattn as ta
from tinyattn.rules import dropout as rules

X = np.random.default_rng(1).normal(size=(3, 5))


def test_by_head():
    output, backward = rules.dropout(np.array([1.0, 2.0, 4.0]), np.array([True, False, True]), p=0.75)
    assert output.tolist() == [4.0, 0.0, 16.0]
    d_x, none = backward(np.array([1.0, np.nan, 10.0]))
    assert d_x.tolist() == [4.0, 0.0, 40.0]
    assert none is None


def test_the_mean_stays():
    y = ta.dropout(np.ones(10**6), 0.2, rng=np.random.default_rng(0))
    assert set(np.unique(y)) == {0.0, 1.25}
    assert abs((y == 0).mean() - 0.2) < 0.002
    assert abs(y.mean() - 1.0) < 0.002


def test_backward_and_its_derivatives_see_what_forward_drew():
    """For Σ y³ with y = x [keep] / (1 − p): slope 3 [keep] x² / (1 − p)³, and half the sum of its squares."""
    drawn = np.random.default_rng(0).random((3, 5)) >= 0.4

    def loss(x, rng):
        return (ta.dropout(x, 0.4, rng=rng) ** 3).sum()

    scale = 1 / 0.6**3
    slope = ta.grad(lambda x: loss(x, np.random.default_rng(0)))(X)
    np.testing.assert_allclose(slope.numpy(), 3 * drawn * X**2 * scale)
    rng = np.random.default_rng(0)
    twice = ta.grad(lambda y: (ta.grad(lambda x: loss(x, rng))(y) ** 2).sum() / 2)(X)
    np.testing.assert_allclose(twice.numpy(), 18 * drawn * X**3 * scale**2)
    assert rng.bit_generator.state != np.random.default_rng(0).bit_generator.state
    x = ta.tensor(X, requires_grad=True)
    y = loss(x, np.random.default_rng(0))
    y.backward(create_graph=True)
    np.testing.assert_allclose(x.grad.numpy(), slope.numpy())


def test_each_call_draws_anew():
    rng = np.random.default_rng(0)
    first, second = (ta.dropout(np.ones(100), rng=rng) for _ in range(2))
    assert (first != second).any()
    assert not ta.gradcheck(lambda x: ta.dropout(x, rng=rng), X)


@pytest.mark.parametrize("kind", [np.asarray, ta.tensor])
def test_nothing_is_drawn_where_nothing_is_dropped(kind):
    rng = np.random.default_rng(0)
    before = rng.bit_generator.state
    for options in ({"p": 0.0}, {"p": 0}, {"training": False, "rng": rng}, {"p": 1.0, "training": False}):
        y = ta.dropout(kind(X), **options)
        assert type(y) is type(kind(X))
        np.testing.assert_array_equal(y, X)
    assert rng.bit_generator.state == before


def test_everything_is_dropped():
    x = ta.tensor(X, requires_grad=True)
    y = ta.dropout(x, 1.0, rng=np.random.default_rng(0))
    assert not y.numpy().any()
    y.sum().backward()
    assert x.grad.tolist() == np.zeros((3, 5)).tolist()


@pytest.mark.parametrize("x", [np.float32(2.0), np.zeros((0, 3), np.float32), np.ones(3, np.float32)])
def test_shape_and_dtype_are_kept(x):
    y = ta.dropout(x, rng=np.random.default_rng(0))
    assert (np.shape(y), y.dtype) == (np.shape(x), np.float32)


def test_errors():
    for rng in (None, 0, np.random.RandomState(0), np.random):
        with pytest.raises(TypeError, match=r"dropout: rng must be a numpy\.random\.Generator, .*; got \w+"):
            ta.dropout(X, rng=rng)
    for p in (-0.1, 1.1, np.nan):
        with pytest.raises(ValueError, match=r"dropout: p must lie in 0 … 1; got"):
            ta.dropout(X, p, rng=np.random.default_rng(0))
