import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tinyattn.rules import selection as rules

SHAPE = (3, 5, 2)
KEYS = hnp.basic_indices(SHAPE, allow_ellipsis=True, allow_newaxis=True) | st.one_of(
    hnp.integer_array_indices(SHAPE, result_shape=hnp.array_shapes(max_dims=2, min_side=0, max_side=7)),
    hnp.integer_array_indices((3,), result_shape=hnp.array_shapes(max_dims=2, max_side=7)).map(lambda key: key[0]),
    hnp.arrays(bool, (3, 5)),
)


@given(key=KEYS)
def test_scatter_is_the_adjoint_of_index(key):
    """⟨y, x[key]⟩ = ⟨scatter(y), x⟩, which is what a backward is; exactly, in integers."""
    x = np.arange(1.0, 31.0).reshape(SHAPE)
    selected, backward = rules.index(x, key=key)
    y = np.random.default_rng(0).integers(-9, 9, np.shape(selected)).astype(float)
    (scattered,) = backward(y)
    assert scattered.shape == SHAPE
    assert (scattered * x).sum() == (y * selected).sum()
    np.testing.assert_array_equal(rules.scatter(y, key=key, shape=SHAPE)[0], scattered)


def test_a_place_read_twice_collects_twice():
    key = np.array([2, 2, -1, 0])
    d_x = rules.index(np.zeros(3), key=key)[1](np.array([1.0, 10.0, 100.0, 1000.0]))[0]
    assert d_x.tolist() == [1000.0, 0.0, 111.0]
    d_x = rules.index(np.zeros((2, 3)), key=([0, 0], [1, 1]))[1](np.array([1.0, 10.0]))[0]
    assert d_x.tolist() == [[0.0, 11.0, 0.0], [0.0, 0.0, 0.0]]


def test_embedding_sums_over_all_uses_of_a_row():
    weight = np.arange(8.0).reshape(4, 2)
    ids = np.array([[3, 1, 3], [3, 0, 1]], np.uint8)
    output, backward = rules.embedding(weight, ids)
    np.testing.assert_array_equal(output, weight[ids])
    d_output = np.arange(12.0).reshape(2, 3, 2)
    d_weight, none = backward(d_output)
    expected = np.zeros((4, 2))
    np.add.at(expected, ids, d_output)
    np.testing.assert_array_equal(d_weight, expected)
    assert none is None


def test_embedding_of_no_ids():
    output, backward = rules.embedding(np.ones((4, 2)), np.zeros((0, 3), int))
    assert output.shape == (0, 3, 2)
    assert not backward(output)[0].any()


def test_ids_have_to_be_in_the_vocabulary():
    weight = np.zeros((4, 2))
    with pytest.raises(ValueError, match=r"embedding: ids must lie in 0 … 3; got 1 … 4"):
        rules.embedding(weight, np.array([1, 4]))
    with pytest.raises(ValueError, match=r"got -1 … 0"):
        rules.embedding(weight, np.array([0, -1]))
    with pytest.raises(TypeError, match="embedding: ids must be integers; got float64"):
        rules.embedding(weight, np.array([1.0]))
