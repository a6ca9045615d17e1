"""The kernels of training beside their rules: the same numbers, whatever the shapes and options."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinyattn as ta
from tinyattn.engine import lift, unbroadcast
from tinyattn.kernels import activations, linear, losses, multi_head, normalization, selection
from tinyattn.kernels.twin import twin
from tinyattn.rules import RULES
from tinyattn.rules.registry import parameters
from tinyattn.rules.registry import rule as register

KERNELS = {
    "cross_entropy": losses.cross_entropy,
    "embedding": selection.embedding,
    "gelu": activations.gelu,
    "layer_norm": normalization.layer_norm,
    "linear": linear.linear,
    "multi_head_attention": multi_head.multi_head_attention,
}
SIZES = st.sampled_from([1, 2, 3, 5, 7])
DTYPES = st.sampled_from([np.float32, np.float64])
EXAMPLES = settings(max_examples=40, deadline=None)
CLOSE = {np.dtype(np.float32): 5e-5, np.dtype(np.float64): 1e-11}


def same(name, arrays, dtype, rng, **options):
    """A kernel in this dtype, and its rule in float64: output and every gradient, in shape, dtype and numbers."""
    n = len(parameters(RULES[name]).arrays)
    arrays = [*arrays, *[None] * (n - len(arrays))]
    own = [x.astype(dtype) if x is not None and x.dtype.kind == "f" else x for x in arrays]
    exact = [x.astype(float) if x is not None and x.dtype.kind == "f" else x for x in own]
    before = [None if x is None else x.copy() for x in own]
    output, backward = KERNELS[name](*own, wanted=(True,) * n, **options)
    right, right_backward = RULES[name](*exact, **options)
    close(output, right, dtype)
    d_output = rng.normal(size=np.shape(output)).astype(dtype)[()]
    for _ in range(2):  # a graph that is kept is gone back through twice
        found, expected = backward(d_output), right_backward(d_output.astype(float))
        assert len(found) == n
        for x, d, d_right in zip(own, found, expected, strict=True):
            if x is None or x.dtype.kind != "f":
                assert d is None
            else:
                close(unbroadcast(d, x.shape), unbroadcast(np.asarray(d_right), x.shape), dtype)
    for x, x_before in zip(own, before, strict=True):
        np.testing.assert_array_equal(x, x_before)


def close(found, right, dtype):
    found, right = np.asarray(found), np.asarray(right)
    assert (found.shape, found.dtype) == (right.shape, dtype)
    scale = max(abs(right).max(initial=0), 1.0)
    np.testing.assert_allclose(found, right, rtol=0, atol=CLOSE[np.dtype(dtype)] * scale)


def leads(data):
    return tuple(data.draw(st.lists(SIZES, max_size=2)))


@given(data=st.data(), dtype=DTYPES)
@EXAMPLES
def test_linear(data, dtype):
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    lead, d_in, d_out = leads(data), data.draw(SIZES), data.draw(SIZES)
    bias = rng.normal(size=d_out) if data.draw(st.booleans()) else None
    activation = data.draw(st.sampled_from([None, "relu", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh"]))
    arrays = [rng.normal(size=(*lead, d_in)), rng.normal(size=(d_in, d_out)), bias]
    same("linear", arrays, dtype, rng, activation=activation)


@given(data=st.data(), dtype=DTYPES)
@EXAMPLES
def test_layer_norm(data, dtype):
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    d = data.draw(SIZES)
    weight, bias = (rng.normal(size=d) if data.draw(st.booleans()) else None for _ in range(2))
    x = rng.normal(size=(*leads(data), d)) * 3 + 2
    same("layer_norm", [x, weight, bias], dtype, rng, eps=data.draw(st.sampled_from([1e-5, 0.1])))


@given(data=st.data(), dtype=DTYPES)
@EXAMPLES
def test_cross_entropy(data, dtype):
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    lead, n = (data.draw(SIZES), *leads(data)), data.draw(SIZES)
    scores = rng.normal(size=(*lead, n)) * data.draw(st.sampled_from([1.0, 100.0]))
    same("cross_entropy", [scores, rng.integers(0, n, lead)], dtype, rng)


@given(data=st.data(), dtype=DTYPES)
@EXAMPLES
def test_embedding(data, dtype):
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    n, d = data.draw(SIZES), data.draw(SIZES)
    ids = rng.integers(0, n, (data.draw(SIZES), *leads(data))).astype(data.draw(st.sampled_from([np.int64, np.uint8])))
    same("embedding", [rng.normal(size=(n, d)), ids], dtype, rng)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gelu(approximate, dtype):
    rng = np.random.default_rng(0)
    same("gelu", [rng.normal(size=(7, 5, 3)) * 2], dtype, rng, approximate=approximate)


@given(data=st.data(), dtype=DTYPES)
@EXAMPLES
def test_multi_head_attention(data, dtype):
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    n_kv_heads, share, d_k, d_v, d_model, d_output = (data.draw(SIZES) for _ in range(6))
    lead, n_queries, n_keys = leads(data), data.draw(SIZES), data.draw(SIZES)
    query, key, value, d_key, d_value = rng.normal(size=(*lead, n_queries, d_model)), None, None, d_model, d_model
    if data.draw(st.booleans()):
        d_key = d_value = data.draw(SIZES)
        key = rng.normal(size=(*data.draw(st.sampled_from([lead, ()])), n_keys, d_key))
    else:
        n_keys = n_queries
    if data.draw(st.booleans()):
        d_value = data.draw(SIZES)
        value = rng.normal(size=(*lead, n_keys, d_value))
    n_heads = n_kv_heads * share
    shapes = (d_model, n_heads * d_k), (d_key, n_kv_heads * d_k), (d_value, n_kv_heads * d_v), (n_heads * d_v, d_output)
    weights = [rng.normal(size=shape) / shape[0] for shape in shapes]
    biases = [rng.normal(size=shape[1]) if data.draw(st.booleans()) else None for shape in shapes]
    bias = rng.normal(size=(n_queries, n_keys)) if data.draw(st.booleans()) else None
    sinks = rng.normal(size=n_heads) if data.draw(st.booleans()) else None
    options = {"causal": data.draw(st.booleans()), "softcap": data.draw(st.sampled_from([None, 1.5]))}
    if data.draw(st.booleans()):
        options["mask"] = rng.random((n_queries, n_keys)) < 0.7
    arrays = [query, *weights, *biases, key, value, bias, sinks]
    same("multi_head_attention", arrays, dtype, rng, n_heads=n_heads, **options)


@pytest.mark.parametrize("name", ["gelu", "gelu_tanh", "relu", "tanh"])
def test_large_arrays_are_shared_among_threads(name):
    """Three pieces of an odd length: the same numbers as one by one."""
    x = np.random.default_rng(0).normal(size=(1153, 911)).astype(np.float32)
    whole, slopes = x.copy(), np.empty_like(x)
    activations.bend_all(name, whole, slopes)
    few, few_slopes = x[500:502].copy(), np.empty_like(x[:2])
    activations.bend_all(name, few, few_slopes)
    np.testing.assert_array_equal(whole[500:502], few)
    np.testing.assert_array_equal(slopes[500:502], few_slopes)


def test_the_normal_distribution_is_right_to_the_last_digits_of_float32():
    x = np.concatenate([np.linspace(-12, 12, 100_001), [0.0, 1e4, -1e4, 3e38, -3e38, 1e-40]]).astype(np.float32)
    y, slope = x.copy(), np.empty_like(x)
    activations.bend_all("gelu", y, slope)
    below = np.array([0.5 * math.erfc(-float(v) / math.sqrt(2)) for v in x])
    density = np.exp(-0.5 * np.minimum(x.astype(float) ** 2, 1e4)) / math.sqrt(2 * math.pi)
    assert abs(y - x * below).max() <= 6e-7
    np.testing.assert_allclose(y, x * below, rtol=2e-7, atol=6e-7)
    assert abs(slope - (below + x * density)).max() <= 4e-7
    assert np.isnan(_bent(np.nan))


def _bent(x):
    y = np.array([x], np.float32)
    activations.bend_all("gelu", y, None)
    return y[0]


def test_the_face_uses_them_and_goes_back_to_the_rules_for_higher_orders():
    rng = np.random.default_rng(0)
    x, w = (
        ta.tensor(rng.normal(size=(3, 5)), requires_grad=True),
        ta.tensor(rng.normal(size=(5, 5)), requires_grad=True),
    )
    calls = {
        "linear": lambda x: ta.linear(x, w, activation="tanh"),
        "layer_norm": lambda x: ta.layer_norm(x, w[0]),
        "cross_entropy": lambda x: ta.cross_entropy(x, [1, 0, 2]),
        "multi_head_attention": lambda x: ta.multi_head_attention(x, w, w, w, w, n_heads=5, causal=True),
        "gelu": lambda x: ta.gelu(x, approximate="tanh"),
    }
    for name, call in calls.items():
        output = call(x)
        assert (output._rule, output._backward.__module__) == (RULES[name], "tinyattn.kernels.twin"), name
        assert ta.gradcheck(call, x, second_order=True), name


@pytest.mark.parametrize("name", KERNELS)
def test_what_is_not_wanted_is_not_computed(name):
    rng = np.random.default_rng(0)
    x, square = rng.normal(size=(3, 5)), rng.normal(size=(5, 5))
    arrays = {
        "cross_entropy": [x, np.array([1, 0, 2])], "embedding": [x, np.array([1, 2])], "gelu": [x],
        "layer_norm": [x, square[0], square[1]], "linear": [x, square, square[0]],
        "multi_head_attention": [x, *[square] * 4, *[None] * 8],
    }[name]  # fmt: skip
    options = {"n_heads": 5} if name == "multi_head_attention" else {"approximate": "tanh"} if name == "gelu" else {}
    output, _ = KERNELS[name](*arrays, wanted=(False,) * len(arrays), **options)
    right, _ = RULES[name](*arrays, **options)
    np.testing.assert_allclose(output, right, rtol=1e-11)


def test_a_kernel_that_is_wrong_would_be_seen():
    """Planted: a factor that is off by a ten-thousandth."""

    def faulty(x, weight, bias, *, wanted, activation=None):
        output, backward = linear.linear(x, weight, bias, wanted=wanted, activation=activation)
        return output, lambda d: (backward(d)[0] * 1.0001, *backward(d)[1:])

    rng = np.random.default_rng(0)
    linear_of = lift(RULES["linear"], twin(RULES["linear"])(faulty))
    report = ta.gradcheck(lambda x, w: linear_of(x, w), (rng.normal(size=(3, 5)), rng.normal(size=(5, 2))))
    assert not report


def test_what_is_not_numpys_goes_to_the_rule():
    """Other dtypes, mixed ones, subclasses: what the rule makes of them."""

    class Counted(np.ndarray):
        pass

    x, w = np.ones((3, 5)), np.ones((5, 2))
    for given_x, given_w in (
        (x.astype(np.float16), w.astype(np.float16)),
        (x.astype(np.float32), w),
        (x.astype(int), w),
    ):
        found = ta.linear(given_x, given_w)
        right = RULES["linear"](given_x, given_w)[0]
        assert found.dtype == right.dtype
        np.testing.assert_array_equal(found, right)
    output, _ = linear.linear(x.view(Counted), w, None, wanted=(True,) * 3)
    assert type(output) is Counted


def test_nothing_in_nothing_out():
    x = ta.tensor(np.ones((0, 5)), requires_grad=True)
    (ta.linear(x, np.ones((5, 2)), activation="gelu").sum() + ta.layer_norm(x).sum()).backward()
    assert x.grad.shape == (0, 5)
    assert ta.cross_entropy(np.ones((0, 5)), np.ones(0, int)) == 0


def test_errors_are_those_of_the_rule():
    with pytest.raises(ValueError, match=r"^embedding: ids must lie in 0 … 2; got 1 … 3"):
        ta.embedding(np.ones((3, 2)), [1, 3])
    with pytest.raises(ValueError, match=r"^embedding: ids must lie in 0 … 2; got -1 … 1"):
        ta.embedding(np.ones((3, 2)), [1, -1])
    with pytest.raises(ValueError, match=r"^cross_entropy: targets must lie in 0 … 4; got 5 … 5"):
        ta.cross_entropy(np.ones((1, 5)), [5])
    with pytest.raises(ValueError, match=r"^linear: activation must be one of relu, .*; got 'wavy'"):
        ta.linear(np.ones((3, 5)), np.ones((5, 2)), activation="wavy")


def test_memory_can_be_kept():
    """On Linux with glibc it is; elsewhere it says that it isn't."""
    assert ta.keep_memory() in (True, False)
    np.ones(1 << 20).sum()


def test_rules_of_users_stay_rules():
    """A twin is of one rule, and knows nothing of others."""

    @register
    def doubled_for_a_test(x):
        return x * 2, lambda d: (d * 2,)

    try:
        kernel = twin(doubled_for_a_test)(lambda x, *, wanted: None)
        output, backward = kernel(np.ones(3), wanted=(True,))
        np.testing.assert_array_equal(output, [2.0, 2.0, 2.0])
        np.testing.assert_array_equal(backward(np.ones(3))[0], [2.0, 2.0, 2.0])
    finally:
        del RULES["doubled_for_a_test"]
