"""Positions, biases and other ways to say what matches what: beside plain formulas, pair by pair."""

import math

import numpy as np
import pytest

import tinyattn as ta


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def softmax(x):
    exp = np.exp(x - x.max(-1, keepdims=True))
    return exp / exp.sum(-1, keepdims=True)


# ---------------------------------------------------------------------------------------------------- positions


@pytest.mark.parametrize("d_model", [1, 2, 7, 8])
def test_sinusoidal_positions(d_model):
    found = ta.sinusoidal_positions(11, d_model, base=100.0, dtype=np.float64)
    assert found.shape == (11, d_model)
    for p, i in np.ndindex(found.shape):
        wave = math.sin if i % 2 == 0 else math.cos
        assert math.isclose(found[p, i], wave(p / 100.0 ** ((i - i % 2) / d_model)), abs_tol=1e-12)
    assert ta.sinusoidal_positions(3, 4).dtype == np.float32
    assert ta.sinusoidal_positions(0, 4).shape == (0, 4)


# ---------------------------------------------------------------------------------------------------- biases


def test_alibi_rates_are_the_authors():
    """Section 3: for 8 heads 1/2, 1/4, … 1/256. For others, their code: 12 heads have those of 8, and 4 between."""
    rates = -ta.alibi_bias(8, 1, 2)[:, 0, 0]
    np.testing.assert_array_equal(rates, 2.0 ** -np.arange(1, 9))
    rates = -ta.alibi_bias(12, 1, 2, dtype=np.float64)[:, 0, 0]
    np.testing.assert_allclose(rates, [*2.0 ** -np.arange(1, 9), *2.0 ** -np.arange(0.5, 4, 1)])
    np.testing.assert_array_equal(-ta.alibi_bias(1, 1, 2)[:, 0, 0], [2.0**-8])


def test_alibi_lines_the_last_query_up_with_the_last_key():
    found = ta.alibi_bias(2, 2, 5, dtype=np.float64)[0]
    np.testing.assert_array_equal(found, -np.array([[3, 2, 1, 0, 1], [4, 3, 2, 1, 0]]) / 16)


def bucket_by_hand(step, n_buckets, bidirectional, max_distance):
    """T5's, for a single distance."""
    first = 0
    if bidirectional:
        n_buckets //= 2
        first = n_buckets if step > 0 else 0
        distance = abs(step)
    else:
        distance = max(-step, 0)
    exact = n_buckets // 2
    if distance < exact:
        return first + distance
    grown = exact + int(math.log(distance / exact) / math.log(max_distance / exact) * (n_buckets - exact))
    return first + min(grown, n_buckets - 1)


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("n_buckets", "max_distance"), [(32, 128), (8, 20), (4, 50)])
def test_relative_bias(rng, bidirectional, n_buckets, max_distance):
    weight = rng.normal(size=(n_buckets, 3))
    options = {"bidirectional": bidirectional, "max_distance": max_distance}
    found = ta.relative_bias(weight, 37, 41, **options)
    assert found.shape == (3, 37, 41)
    for i, j in np.ndindex(37, 41):
        bucket = bucket_by_hand(j - (i + 4), n_buckets, bidirectional, max_distance)
        np.testing.assert_array_equal(found[:, i, j], weight[bucket])


def test_relative_bias_learns(rng):
    """Through attention: the gradient of a bucket is that of all pairs in it."""
    query, key, value = rng.normal(size=(3, 2, 7, 5))
    assert ta.gradcheck(
        lambda weight: ta.attention(query, key, value, bias=ta.relative_bias(weight, 7, max_distance=5)),
        rng.normal(size=(8, 2)),
    )


# ---------------------------------------------------------------------------------------------------- other matches


def test_additive_attention(rng):
    query, key, value = rng.normal(size=(2, 3, 5)), rng.normal(size=(2, 7, 11)), rng.normal(size=(2, 7, 13))
    w_query, w_key, v = rng.normal(size=(5, 4)), rng.normal(size=(11, 4)), rng.normal(size=4)
    mask = rng.random((3, 7)) < 0.6
    mask[1] = False
    output, weights = ta.additive_attention(query, key, value, w_query, w_key, v, mask=mask, return_weights=True)
    for b, i in np.ndindex(2, 3):
        scores = np.array([v @ np.tanh(query[b, i] @ w_query + key[b, j] @ w_key) for j in range(7)])
        expected = np.zeros(7)
        if mask[i].any():
            expected[mask[i]] = softmax(scores[mask[i]])
        np.testing.assert_allclose(weights[b, i], expected, rtol=1e-10)
        np.testing.assert_allclose(output[b, i], expected @ value[b], rtol=1e-10, atol=1e-14)
    assert ta.gradcheck(lambda *x: ta.additive_attention(*x, mask=mask), (query, key, value, w_query, w_key, v))


def test_multiplicative_attention(rng):
    query, key, value, w = (rng.normal(size=shape) for shape in ((2, 3, 5), (2, 7, 11), (2, 7, 13), (5, 11)))
    output, weights = ta.multiplicative_attention(query, key, value, w, return_weights=True)
    expected = softmax(np.einsum("bid,de,bje->bij", query, w, key))
    np.testing.assert_allclose(weights, expected, rtol=1e-10)
    np.testing.assert_allclose(output, expected @ value, rtol=1e-10)
    assert ta.gradcheck(lambda *x: ta.multiplicative_attention(*x, causal=True), (query, key, value, w))


@pytest.mark.parametrize("causal", [True, False])
def test_linear_attention(rng, causal):
    """As attention with weights φ(q) φ(k), which are positive and normed by their sum."""
    query, key, value = rng.normal(size=(2, 7, 5)), rng.normal(size=(2, 7, 5)), rng.normal(size=(2, 7, 11))
    phi = [np.where(x > 0, x + 1, np.exp(x)) for x in (query, key)]
    weights = np.einsum("bid,bjd->bij", *phi)
    if causal:
        weights = weights * np.tri(7)
    expected = weights / weights.sum(-1, keepdims=True) @ value
    np.testing.assert_allclose(ta.linear_attention(query, key, value, causal=causal), expected, rtol=1e-10)
    assert ta.gradcheck(lambda *x: ta.linear_attention(*x, causal=causal), (query, key, value), second_order=True)


def test_the_future_does_not_reach_back(rng):
    query, key, value = rng.normal(size=(3, 7, 5))
    before = ta.linear_attention(query, key, value, causal=True)
    key[4:], value[4:] = 9.0, -9.0
    np.testing.assert_array_equal(ta.linear_attention(query, key, value, causal=True)[:4], before[:4])


def test_tensors_give_tensors(rng):
    x = ta.tensor(rng.normal(size=(2, 3, 4)), requires_grad=True)
    eye = np.eye(4)
    for output in (
        ta.additive_attention(x, x, x, eye, eye, np.ones(4)),
        ta.multiplicative_attention(x, x, x, eye),
        ta.linear_attention(x, x, x, causal=True),
        ta.rope(x),
        ta.relative_bias(ta.tensor(np.ones((4, 2)), requires_grad=True), 3),
    ):
        assert isinstance(output, ta.Tensor)
        assert output.requires_grad
