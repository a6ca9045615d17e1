import numpy as np
import pytest

import tinyattn as ta
from tinyattn.rules.attention import attention, attention_weights

N_QUERIES, N_KEYS, D_K, D_V = 3, 7, 5, 11


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def inputs(rng):
    """query, key, value, with two heads."""
    return [rng.normal(size=(2, *shape)) for shape in ((N_QUERIES, D_K), (N_KEYS, D_K), (N_KEYS, D_V))]


def by_the_book(query, key, value, mask=None, bias=0.0):
    """Head by head, query by query, over the keys that it may attend to."""
    output = np.zeros((2, N_QUERIES, D_V))
    mask = np.broadcast_to(True if mask is None else mask, (2, N_QUERIES, N_KEYS))
    bias = np.broadcast_to(bias, (2, N_QUERIES, N_KEYS))
    for h, i in np.ndindex(2, N_QUERIES):
        seen = mask[h, i]
        if seen.any():
            weights = np.exp(key[h, seen] @ query[h, i] / np.sqrt(D_K) + bias[h, i, seen])
            output[h, i] = weights / weights.sum() @ value[h, seen]
    return output


SHAPES = [(N_QUERIES, N_KEYS), (2, N_QUERIES, N_KEYS), (2, 1, N_KEYS), (N_QUERIES, 1), (N_KEYS,), ()]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_formula(inputs, rng, shape):
    mask, bias = rng.random(shape) < 0.6, rng.normal(size=shape)
    np.testing.assert_allclose(attention(*inputs)[0], by_the_book(*inputs))
    found = attention(*inputs, bias, mask=mask)[0]
    np.testing.assert_allclose(found, by_the_book(*inputs, mask, bias), rtol=1e-12)
    weights = attention_weights(*inputs[:2], bias, mask=mask)[0]
    np.testing.assert_allclose(weights @ inputs[2], found, rtol=1e-12, atol=1e-15)
    assert not weights[~np.broadcast_to(mask, weights.shape)].any()


def test_causal_lines_the_last_query_up_with_the_last_key(inputs):
    """With three queries for seven keys, the first query sees five keys: what a cache of four needs."""
    weights, _ = attention_weights(*inputs[:2], causal=True)
    assert ((weights > 0).sum(-1) == [5, 6, 7]).all()
    latest = attention(inputs[0][:, -1:], *inputs[1:], causal=True)[0]
    np.testing.assert_allclose(latest, attention(*inputs, causal=True)[0][:, -1:])


def test_more_queries_than_keys(inputs):
    """The first queries then come before all keys, and see none."""
    weights, _ = attention_weights(inputs[1], inputs[0], causal=True)
    assert ((weights > 0).sum(-1) == [0, 0, 0, 0, 1, 2, 3]).all()


def test_causal_and_mask_both_hold(inputs):
    mask = np.ones(N_KEYS, bool)
    mask[0] = False
    weights, _ = attention_weights(*inputs[:2], mask=mask, causal=True)
    assert ((weights > 0).sum(-1) == [4, 5, 6]).all()


def test_scale(inputs):
    query, key, value = inputs
    np.testing.assert_allclose(attention(query, key, value, scale=1.0)[0], attention(query * D_K**0.5, key, value)[0])
    assert np.allclose(attention_weights(query, key, scale=0.0)[0], 1 / N_KEYS)


def test_a_query_that_may_attend_to_nothing(inputs, rng):
    mask = np.ones((N_QUERIES, N_KEYS), bool)
    mask[1] = False
    output, backward = attention(*inputs, rng.normal(size=(N_QUERIES, N_KEYS)), mask=mask)
    assert not output[:, 1].any()
    d_query, d_key, d_value, d_bias, _ = backward(rng.normal(size=output.shape))
    assert not d_query[:, 1].any()
    assert not d_bias[:, 1].any()
    assert all(np.isfinite(d).all() for d in (d_query, d_key, d_value, d_bias))


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf, 1e308])
def test_what_is_masked_reaches_nothing(inputs, rng, garbage):
    """Garbage in keys and values that nobody sees, and in a query that sees nothing: as if it were zeros."""
    mask = np.ones((N_QUERIES, N_KEYS), bool)
    mask[:, [2, 5]] = mask[1] = False
    query, key, value = inputs
    for clean, (rows, *_) in ((query, ([1],)), (key, ([2, 5],)), (value, ([2, 5],))):
        clean[:, rows] = 0.0
    expected, backward = attention(query, key, value, mask=mask)
    d_output = rng.normal(size=expected.shape)
    expected_gradients = backward(d_output)
    dirty = [query.copy(), key.copy(), value.copy()]
    dirty[0][:, 1] = dirty[1][:, [2, 5]] = dirty[2][:, [2, 5]] = garbage
    output, backward = attention(*dirty, mask=mask)
    np.testing.assert_array_equal(output, expected)
    for found, wanted in zip(backward(d_output)[:3], expected_gradients[:3], strict=True):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf, 1e308])
@pytest.mark.parametrize("scale", [None, 0.0, 1e3])
def test_what_nobody_sees_reaches_no_higher_derivative(inputs, rng, garbage, scale):
    """In jvp, in gradients of gradients and in the Hessian, each in all three inputs and the bias: as if it were 0."""
    mask = np.ones((2, N_QUERIES, N_KEYS), bool)
    mask[:, :, 2] = mask[0, :, 5] = mask[:, 1] = False
    inputs.append(rng.normal(size=(N_QUERIES, N_KEYS)))
    tangents = [rng.normal(size=x.shape) for x in inputs]
    hidden = [(slice(None), 1), (slice(None), 2), (0, 5)]

    def dirty(filling):
        copies = [x.copy() for x in inputs]
        for x, places in zip(copies, (hidden[:1], hidden[1:], hidden[1:], [(slice(None), 2)]), strict=True):
            for place in places:
                x[place] = filling
        return copies

    def loss(query, key, value, bias):
        return (ta.attention(query, key, value, mask=mask, bias=bias, scale=scale) ** 2).sum()

    def slope(*arrays):
        gradients = ta.grad(loss, (0, 1, 2, 3))(*arrays)
        return sum((g * t).sum() for g, t in zip(gradients, tangents, strict=True))

    def derivatives(arrays):
        yield from ta.jvp(lambda *x: ta.attention(*x[:3], mask=mask, bias=x[3], scale=scale), arrays, tangents)
        yield from ta.grad(slope, (0, 1, 2, 3))(*arrays)
        small = [x[..., :1] for x in arrays[:3]]
        yield from (ta.hessian(lambda *x: loss(*x, arrays[3]), i)(*small) for i in range(3))

    for found, expected in zip(derivatives(dirty(garbage)), derivatives(dirty(0.0)), strict=True):
        np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-12, atol=1e-13)  # by kernel, and by rule


@pytest.mark.parametrize("garbage", [np.nan, np.inf])
def test_a_shared_key_that_some_batches_hide(inputs, garbage):
    """One key and value for two heads, garbage in a row that one head hides: that head is as it was without it."""
    query, (key, _), (value, _) = inputs
    mask = np.ones((2, 1, N_KEYS), bool)
    mask[0, :, 4] = False
    key[4] = value[4] = 0.0
    expected, backward = attention(query, key, value, mask=mask)
    d_output = np.ones_like(expected)
    expected_gradients = backward(d_output)
    key[4, 0] = value[4] = garbage
    with np.errstate(invalid="ignore"):
        output, backward = attention(query, key, value, mask=mask)
        gradients = backward(d_output)
    np.testing.assert_array_equal(output[0], expected[0])
    for found, wanted in zip(gradients[:3], expected_gradients[:3], strict=True):
        np.testing.assert_array_equal(found[0], wanted[0])
    assert np.isnan(output[1]).all()


@pytest.mark.parametrize("garbage", [np.nan, np.inf])
def test_what_comes_later_does_not_reach_back(inputs, rng, garbage):
    """Garbage in the last key and value, which only the last query sees: the others are as they were without it."""
    query, key, value = inputs
    expected, backward = attention(query[:, :-1], key[:, :-1], value[:, :-1], causal=True)
    d_output = rng.normal(size=(2, N_QUERIES, D_V))
    d_output[:, -1] = 0.0
    expected_gradients = backward(d_output[:, :-1])
    key[:, -1, 0] = value[:, -1] = garbage
    with np.errstate(invalid="ignore"):  # the last query's own garbage is its own
        output, backward = attention(query, key, value, causal=True)
        d_query = backward(d_output)[0]
    np.testing.assert_allclose(output[:, :-1], expected)
    assert np.isnan(output[:, -1]).all()
    np.testing.assert_allclose(d_query[:, :-1], expected_gradients[0])


@pytest.mark.parametrize("place", ["key", "value"])
def test_what_a_query_does_not_see_gets_nothing_of_the_garbage_that_it_sees(inputs, rng, place):
    """Query 1 sees NaN at key 2, but neither key 4, which the others see, nor key 5, which nobody sees."""
    mask = np.ones((N_QUERIES, N_KEYS), bool)
    mask[[0, 2], 2] = mask[1, 4] = mask[:, 5] = False
    query, *dirty = inputs
    d_output = rng.normal(size=(2, N_QUERIES, D_V))
    others = [0, 2]
    _, expected, expected_value, *_ = attention(query[:, others], *dirty, mask=mask[others])[1](d_output[:, others])
    dirty[place == "value"][:, 2, 0] = np.nan
    _, d_key, d_value, *_ = attention(query, *dirty, mask=mask)[1](d_output)
    assert np.isnan(d_key[:, 3]).all(), "which query 1 does see"
    np.testing.assert_allclose(d_key[:, 4], expected[:, 4])
    np.testing.assert_allclose(d_value[:, 4], expected_value[:, 4])
    assert not d_key[:, 5].any()
    assert not d_value[:, 5].any()


def test_a_visible_value_that_is_infinite_makes_its_own_queries_infinite(inputs):
    value = inputs[2]
    value[0, 6, 3] = np.inf
    output, _ = attention(*inputs, causal=True)
    assert (np.isinf(output[0]).sum(0) == [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]).all()
    assert output[0, 2, 3] == np.inf
    assert np.isfinite(output[1]).all()


def test_scores_that_would_overflow(inputs):
    query, key, value = inputs
    assert np.isfinite(attention(1e4 * query, key, value)[0]).all()
    first_three = attention(1e4 * query, key[:, :3], value[:, :3])[0]
    np.testing.assert_allclose(attention(1e4 * query, key, value, mask=np.arange(N_KEYS) < 3)[0], first_three)


def test_sizes_of_zero():
    empty = attention(np.ones((3, 5)), np.ones((0, 5)), np.ones((0, 11)))
    assert empty[0].tolist() == np.zeros((3, 11)).tolist()
    assert [d.shape for d in empty[1](np.ones((3, 11)))[:3]] == [(3, 5), (0, 5), (0, 11)]
    assert attention(np.ones((0, 5)), np.ones((7, 5)), np.ones((7, 11)))[0].shape == (0, 11)
    assert np.allclose(attention(np.ones((3, 0)), np.ones((7, 0)), np.ones((7, 11)))[0], 1.0)
    no_batch = [np.ones((0, *shape)) for shape in ((3, 5), (7, 5), (7, 11))]
    assert attention(*no_batch, mask=np.ones(7, bool))[0].shape == (0, 3, 11)


def test_errors(inputs):
    query, key, value = inputs
    with pytest.raises(ValueError, match=r"^attention: query and key must share d_k; got query \(3, 7\) and key \(5"):
        attention(np.ones((3, 7)), np.ones((5, 8)), np.ones((5, 2)))
    with pytest.raises(ValueError, match=r"got query \(2, 3, 5\) and key \(2, 5, 7\)\. Is key transposed\?"):
        attention(query, key.swapaxes(-1, -2), value)
    with pytest.raises(ValueError, match=r"attention: key and value must share n_keys; got key \(2, 7, 5\) and value"):
        attention(query, key, value[:, :-1])
    with pytest.raises(ValueError, match=r"attention: query and key need two axes at least"):
        attention(query[0, 0], key, value)
    with pytest.raises(TypeError, match=r"attention: mask must be boolean, True = may attend; got int64\. If 1 means"):
        attention(query, key, value, mask=np.ones((3, 7), int))
    with pytest.raises(TypeError, match=r"can't be boolean\. Did you mean mask=\?"):
        attention(query, key, value, np.ones((3, 7), bool))
    with pytest.raises(ValueError, match=r"attention: mask must broadcast to .*here \(\.\.\., 3, 7\); got \(7, 3\)"):
        attention(query, key, value, mask=np.ones((7, 3), bool))
    with pytest.raises(ValueError, match=r"attention: bias must broadcast to .*got \(3,\)"):
        attention(query, key, value, np.ones(3))


@pytest.mark.parametrize(
    ("shapes", "mask", "told"),
    [
        ([(2, 3, 4), (3, 5, 4), (3, 5, 4)], None, r"got query (2, 3, 4), key (3, 5, 4), value (3, 5, 4)."),
        ([(2, 3, 4), (2, 5, 4), (3, 5, 4)], None, r"got query (2, 3, 4), key (2, 5, 4), value (3, 5, 4)."),
        ([(2, 3, 4), (2, 5, 4), (2, 5, 4)], (7, 1, 5), r"value (2, 5, 4), mask (7, 1, 5)."),
        ([(2, 3, 4), (5, 4), (5, 4), (7, 3, 5)], None, r"value (5, 4), bias (7, 3, 5)."),
        ([(7, 4, 3, 4), (7, 3, 5, 4), (7, 3, 5, 4)], None, r"The query's 4 heads can't share the key's 3 evenly"),
        ([(4, 3, 4), (4, 5, 4), (3, 5, 4)], None, r"The query's 4 heads can't share the value's 3 evenly"),
    ],
)
def test_leading_axes_that_do_not_broadcast(shapes, mask, told):
    arrays = [np.ones(shape) for shape in shapes]
    mask = None if mask is None else np.ones(mask, bool).tolist()
    with pytest.raises(ValueError, match=r"^attention: the axes before the last two must broadcast; ") as raised:
        attention(*arrays, mask=mask)
    assert str(raised.value).endswith(told)
    if len(shapes) == 4 or arrays[1].shape[:-2] != arrays[0].shape[:-2]:
        with pytest.raises(ValueError, match=r"^attention_weights: the axes before"):
            attention_weights(*arrays[:2], *arrays[3:], mask=mask)


def test_leading_axes_that_broadcast():
    shapes = [(2, 1, 3, 4), (5, 7, 4), (7, 4), (2, 1, 1, 7)]
    assert attention(*map(np.ones, shapes), mask=np.ones((5, 1, 7), bool))[0].shape == (2, 5, 3, 4)
