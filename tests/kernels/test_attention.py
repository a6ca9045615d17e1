"""The kernels of attention beside the readable rule, over the whole contract; and what they promise on their own."""

import functools
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tinyattn as ta
from tinyattn.engine import lift, unbroadcast
from tinyattn.kernels import attention as kernel
from tinyattn.kernels import blocked, stacked, threads
from tinyattn.rules.allowed import shape_of_weights
from tinyattn.rules.attention import attention as readable
from tinyattn.rules.dropout import draw as draw_bits

LENGTHS = (1, 2, 3, 5, 7, 11, 13)
GARBAGE = (np.nan, np.inf, -np.inf, 1e300)


class Setting:
    """Arrays and options for one call, as Hypothesis chose them."""

    def __init__(self, arrays, options, d_output):
        self.arrays, self.options, self.d_output = arrays, options, d_output

    def __repr__(self):
        shapes = [None if x is None else x.shape for x in self.arrays]
        return f"{shapes}, { ({k: v for k, v in self.options.items() if k != 'dropped'}) }"

    def results(self, compute, **options):
        """The output, and the gradients as the engine would see them."""
        with np.errstate(all="ignore"):
            output, backward = compute(*self.arrays, **self.options, **options)
            gradients = backward(self.d_output)
            found = [output]
            for x, d_x in zip(self.arrays, gradients, strict=True):
                assert (d_x is None) == (x is None)
                found.append(None if d_x is None else unbroadcast(d_x, x.shape))
        return found


@st.composite
def settings_of_all(draw, garbage=()):
    """Any setting of the contract: heads that share keys, axes that broadcast, masks, biases, sinks, dropout."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_queries, n_keys, d_k, d_v = (draw(st.sampled_from(LENGTHS)) for _ in range(4))
    n_key_heads, share, batch = (
        draw(st.sampled_from([1, 2, 3])),
        draw(st.sampled_from([1, 2, 3])),
        draw(st.integers(1, 3)),
    )
    n_heads = n_key_heads * share

    def lead(heads):
        return draw(st.sampled_from([(batch, heads), (1, heads), (heads,)]))

    def of_pairs():
        heads = draw(st.sampled_from([(batch, n_heads), (1, n_heads), (batch, 1), (n_heads,), ()]))
        return (*heads, *draw(st.sampled_from([(n_queries, n_keys), (1, n_keys), (n_queries, 1), (1, 1)])))

    size = draw(st.sampled_from([1.0, 30.0, 1e4]))
    query = rng.normal(size=(*lead(n_heads), n_queries, d_k)) * size
    key, value = (rng.normal(size=(*lead(n_key_heads), n_keys, d)) for d in (d_k, d_v))
    bias = rng.normal(size=of_pairs()) if draw(st.booleans()) else None
    sinks = rng.normal(size=draw(st.sampled_from([(n_heads,), (batch, n_heads), ()]))) if draw(st.booleans()) else None
    sinks = None if sinks is None else np.asarray(sinks)
    mask = rng.random(of_pairs()) < 0.6 if draw(st.booleans()) else None
    options = {
        "mask": mask,
        "causal": draw(st.booleans()),
        "window": draw(st.sampled_from([None, (2, 1), (None, 3), (4, None), (0, 0)])),
        "softcap": draw(st.sampled_from([None, None, 2.0])),
        "scale": draw(st.sampled_from([None, 0.3, -0.5])),
    }
    shape = shape_of_weights("attention", query, key, value, bias, sinks, mask)
    if draw(st.booleans()):
        options["dropped"] = draw_bits(shape, draw(st.sampled_from([0.3, 1.0])), rng)
    for x in (key, value):
        if garbage and draw(st.booleans()):
            x[..., rng.integers(n_keys), :] = draw(st.sampled_from(garbage))
    d_output = rng.normal(size=(*shape[:-1], d_v))
    return Setting((query, key, value, bias, sinks), options, d_output)


def same(found, expected):
    for x, y in zip(found, expected, strict=True):
        if y is None:
            assert x is None
        else:
            assert x.shape == y.shape
            np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-10)


@pytest.fixture
def sizes(monkeypatch):
    """Sets the sizes that say how the work is cut."""

    def put(**values):
        for name, value in values.items():
            module = blocked if hasattr(blocked, name) else stacked
            monkeypatch.setattr(module, name, value)
        stacked._parts.cache_clear()
        kernel._plan.cache_clear()

    yield put
    monkeypatch.undo()
    stacked._parts.cache_clear()


# Hypothesis runs a test many times within one call of its fixtures, which set what each run sets anew.
HYPOTHESIS = settings(deadline=None, max_examples=120, suppress_health_check=list(HealthCheck))


@HYPOTHESIS
@given(setting=settings_of_all(), queries=st.integers(1, 7), keys=st.integers(1, 7), tasks=st.integers(1, 9))
def test_blocked_is_the_rule(sizes, setting, queries, keys, tasks):
    sizes(QUERIES=queries, KEYS=keys, TASKS=tasks)
    same(setting.results(kernel.attention, way="blocked"), setting.results(readable))


@HYPOTHESIS
@given(setting=settings_of_all(), scores=st.integers(1, 3000), shared=st.integers(1, 3000), kept=st.integers(0, 3000))
def test_small_heads_are_the_rule(sizes, setting, scores, shared, kept):
    sizes(SCORES=scores, SHARED=shared, KEPT=kept)
    same(setting.results(kernel.attention), setting.results(readable))


@HYPOTHESIS
@given(setting=settings_of_all(GARBAGE), way=st.sampled_from([None, "blocked"]))
def test_garbage_goes_where_the_rule_lets_it(sizes, setting, way):
    sizes(QUERIES=5, KEYS=3, SCORES=50, SHARED=1)
    same(setting.results(kernel.attention, way=way), setting.results(readable))


@HYPOTHESIS
@given(setting=settings_of_all(), way=st.sampled_from([None, "blocked"]), dtype=st.sampled_from(["f4", "f8"]))
def test_dtypes_are_kept(sizes, setting, way, dtype):
    arrays = [None if x is None else x.astype(dtype) for x in setting.arrays]
    small = Setting(
        [x if i else x / 1e4 for i, x in enumerate(arrays)], setting.options, setting.d_output.astype(dtype)
    )
    for x, y in zip(small.results(kernel.attention, way=way), small.results(readable), strict=True):
        if x is not None:
            assert x.dtype == y.dtype == dtype
            np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4)


def test_both_kernels_are_reached(monkeypatch):
    """The tests above would pass as well if everything fell back to the readable rule."""
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(2, 3, 7, 5)) for _ in range(3)]
    expected = readable(*arrays, causal=True)[0]

    def no_rule(*_, **__):
        raise AssertionError("the readable rule was called")

    monkeypatch.setattr(kernel.readable, "attention", no_rule)
    for way in ("stacked", "blocked"):
        output, backward = kernel.attention(*arrays, causal=True, way=way)
        np.testing.assert_allclose(output, expected, rtol=1e-12)
        backward(output)
    with pytest.raises(AssertionError):
        kernel.attention(*arrays, way="readable")


@pytest.mark.parametrize("fault", ["l", "D", "scale"])
def test_a_fault_in_blocked_would_be_seen(monkeypatch, fault):
    """Planted: a wrong log-sum, a wrong row sum, a forgotten scale."""
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(2, 7, 5)) for _ in range(3)]
    original = blocked._backward_block

    def faulty(call, head, block, q, k, k_1, v_1, shifted, found, gradient):
        if fault == "l":
            found = found._replace(log_sums=found.log_sums + 0.01)
        elif fault == "D":
            found = found._replace(mixed=found.mixed * 1.01)
        else:
            call = call._replace(scale=call.scale * 1.01)
        return original(call, head, block, q, k, k_1, v_1, shifted, found, gradient)

    monkeypatch.setattr(blocked, "_backward_block", faulty)
    setting = Setting((*arrays, None, None), {}, rng.normal(size=(2, 7, 5)))
    with pytest.raises(AssertionError):
        same(setting.results(kernel.attention, way="blocked"), setting.results(readable))


@pytest.mark.parametrize("way", ["stacked", "blocked"])
def test_finite_differences(way):
    """The third witness: through the face, with everything at once."""
    rng = np.random.default_rng(3)
    query, key, value = rng.normal(size=(4, 5, 3)), rng.normal(size=(2, 7, 3)), rng.normal(size=(2, 7, 2))
    bias, sinks, mask = rng.normal(size=(1, 5, 7)), rng.normal(size=4), rng.random((4, 5, 7)) < 0.7
    options = {"mask": mask, "causal": True, "window": (4, 2), "softcap": 1.5, "scale": 0.7}

    attend = lift(readable, functools.partial(kernel.attention, way=way))
    report = ta.gradcheck(lambda *arrays: attend(*arrays, **options), (query, key, value, bias, sinks), analytic=False)
    assert report, report


def test_the_face_uses_them_and_goes_back_to_the_rule_for_higher_orders():
    rng = np.random.default_rng(4)
    arrays = [rng.normal(size=(2, 7, 5)) for _ in range(3)]
    assert ta.gradcheck(lambda q, k, v: ta.attention(q, k, v, causal=True), tuple(arrays), second_order=True)
    query = ta.tensor(arrays[0], requires_grad=True)
    output = ta.attention(query, *arrays[1:])
    assert output._backward.__module__ == kernel.__name__
    assert output._rule is readable


def test_jacobians_take_all_rows_at_once():
    rng = np.random.default_rng(13)
    query, key, value = rng.normal(size=(3, 2, 5, 3))
    jacobian = ta.jacobian(lambda query: ta.attention(query, key, value, causal=True))(query)
    assert jacobian.shape == (2, 5, 3, 2, 5, 3)
    _, backward = readable(query, key, value, causal=True)
    for place in ((0, 0, 0), (1, 4, 2), (1, 2, 0)):
        d_output = np.zeros((2, 5, 3))
        d_output[place] = 1.0
        np.testing.assert_allclose(jacobian.numpy()[place], backward(d_output)[0], rtol=1e-11, atol=1e-14)


# ---------------------------------------------------------------------------------------------------- what is hidden


@pytest.mark.parametrize("way", ["stacked", "blocked"])
@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("hidden_from", ["earlier queries", "everyone"])
def test_what_is_hidden_leaks_nowhere(way, garbage, hidden_from):
    """NaN in later keys and values reaches neither the output nor the gradients of what came before."""
    rng = np.random.default_rng(5)
    query, key, value, d_output = rng.normal(size=(4, 2, 3, 13, 5))
    mask = np.arange(13) < 7 if hidden_from == "everyone" else None
    n = 13 if hidden_from == "everyone" else 7

    def found(fill):
        k, v = key.copy(), value.copy()
        k[:, :, 7:] = v[:, :, 7:] = fill
        with np.errstate(all="ignore"):
            output, backward = kernel.attention(query, k, v, mask=mask, causal=True, way=way)
            d_query, d_key, d_value, _, _ = backward(d_output)
        # A query that sees a NaN is NaN, and whatever key it sees gets NaN from it: those are left out.
        return output[:, :, :n], d_query[:, :, :n], *((d_key, d_value) if mask is not None else ())

    for dirty, clean in zip(found(garbage), found(0.0), strict=True):
        np.testing.assert_allclose(dirty, clean, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("way", ["stacked", "blocked"])
def test_a_query_that_may_attend_to_nothing(way):
    rng = np.random.default_rng(6)
    query, key, value = rng.normal(size=(3, 2, 7, 5))
    mask = rng.random((7, 7)) < 0.7
    mask[[0, 4]] = False
    output, backward = kernel.attention(query, key, value, rng.normal(size=(7, 7)), mask=mask, way=way)
    assert not output[:, [0, 4]].any()
    d_query, *_, d_bias, _ = backward(rng.normal(size=output.shape))
    assert not d_query[:, [0, 4]].any()
    assert not unbroadcast(d_bias, (7, 7))[[0, 4]].any()


@pytest.mark.parametrize("way", ["stacked", "blocked"])
@pytest.mark.parametrize("size", [1e2, 1e4, 1e30])
def test_scores_far_from_zero(way, size):
    """The largest score takes all; ties share."""
    key = np.array([[1.0], [1.0], [0.5], [-1.0]], np.float32) * np.float32(size)
    value = np.arange(8, dtype=np.float32).reshape(4, 2)
    output, backward = kernel.attention(np.ones((1, 1), np.float32), key, value, way=way)
    np.testing.assert_allclose(output, [[1.0, 2.0]], rtol=1e-6)
    assert all(np.isfinite(d).all() for d in backward(np.ones_like(output))[:3])


@pytest.mark.parametrize("way", kernel.WAYS)
def test_large_scores_lose_no_digits(way):
    """Scores of about 1e4 that float32 can hold exactly: what is left after the top is exact, too."""
    rng = np.random.default_rng(0)
    query = (rng.integers(-40, 41, (1, 300, 4)) * 4).astype(np.float32)
    key = (rng.integers(-40, 41, (1, 300, 4)) * 2).astype(np.float32)
    value, d_output = (rng.normal(size=(1, 300, 4)).astype(np.float32) for _ in range(2))
    setting = Setting((query, key, value, None, None), {}, d_output)
    exact = Setting((*[x.astype(float) for x in (query, key, value)], None, None), {}, d_output.astype(float))
    found, right = setting.results(kernel.attention, way=way), exact.results(readable)
    for i in (0, 3):  # output and d_value; the other gradients are differences of larger numbers
        assert abs(found[i] - right[i]).max() <= 2e-6 * abs(right[i]).max()


@pytest.mark.parametrize("way", kernel.WAYS)
@pytest.mark.parametrize("options", [{}, {"softcap": 2.0}], ids=str)
def test_what_is_hidden_may_be_large(way, options):
    """Its products overflow, and ∞ · 0 is NaN."""
    rng = np.random.default_rng(0)
    query, key, value, d_output = (rng.normal(size=(9, 4)).astype(np.float32) * 3 for _ in range(4))
    value[-1] = 1e38
    options = {**options, "mask": np.arange(9) < 8}
    output, backward = kernel.attention(query, key, value, **options, way=way)
    rest, rest_backward = readable(query, key[:8], value[:8], softcap=options.get("softcap"))
    np.testing.assert_allclose(output, rest, rtol=1e-5, atol=1e-6)
    d_query, d_key, d_value = backward(d_output)[:3]
    for found, right in zip((d_query, d_key[:8], d_value[:8]), rest_backward(d_output)[:3], strict=True):
        np.testing.assert_allclose(found, right, rtol=1e-4, atol=1e-5)
    assert not d_key[8].any()
    assert not d_value[8].any()


def test_numbers_of_numpy_are_numbers():
    """They neither wrap around nor widen what they're multiplied with."""
    query, key = np.zeros((4, 2), np.float32), np.zeros((130, 2), np.float32)
    seen = ta.attention_weights(query, key, window=(0, np.int8(2)))
    np.testing.assert_array_equal(seen, ta.attention_weights(query, key, window=(0, 2)))
    ta.attention_weights(query, key[:2], window=(np.uint8(5), 0))
    options = {"scale": np.float64(0.5), "softcap": np.float64(2.0), "dropout": np.float16(0.5)}
    for n in (1, 2, 130):
        for rng in (0, 1):
            generator = np.random.default_rng(rng)
            assert ta.attention(query, key[:n], key[:n], rng=generator, **options).dtype == np.float32
    assert ta.attention_weights(query, key, scale=np.float64(0.5), softcap=np.float64(2.0)).dtype == np.float32


def test_no_keys_have_shapes_and_gradients_all_the_same():
    sinks = ta.tensor([0.0, 1.0], requires_grad=True)
    empty, mask = np.ones((2, 0, 3)), np.ones((5, 1, 4, 0), bool)
    output, weights = ta.attention(np.ones((2, 4, 3)), empty, empty, sinks=sinks, mask=mask, return_weights=True)
    assert output.shape == (5, 2, 4, 3)
    assert weights.shape == (5, 2, 4, 0)
    assert not output.numpy().any()
    output.sum().backward()
    np.testing.assert_array_equal(sinks.grad.numpy(), [0.0, 0.0])


def test_an_additive_mask_of_large_numbers_is_nothing_special():
    """Others write −1e9 where they mean hidden, and such scores don't send small heads to the slow rule."""
    rng = np.random.default_rng(7)
    query, key, value = rng.normal(size=(3, 2, 7, 5))
    hidden = rng.random((7, 7)) < 0.3
    hidden[np.arange(7), np.arange(7)] = False
    for low in (-1e9, -np.inf):
        setting = Setting((query, key, value, np.where(hidden, low, 0.0), None), {}, rng.normal(size=(2, 7, 5)))
        same(setting.results(kernel.attention), setting.results(readable))
        stacked_alone, _ = stacked_call(*setting.arrays[:4])
        assert stacked_alone is not None


def stacked_call(*arrays):
    """What the stacked way gives by itself, None where it gives up."""
    seen = []
    original = stacked.attention

    def spying(call, wanted):
        seen.append(original(call, wanted))
        return seen[-1]

    stacked.attention = spying
    try:
        kernel.attention(*arrays, way="stacked")
    finally:
        stacked.attention = original
    return seen[0] or (None, None)


def test_keys_in_another_order_change_nothing():
    rng = np.random.default_rng(8)
    query, key, value = rng.normal(size=(3, 2, 13, 5))
    order = rng.permutation(13)
    for way in ("stacked", "blocked"):
        output, backward = kernel.attention(query, key, value, way=way)
        moved, moved_backward = kernel.attention(query, key[:, order], value[:, order], way=way)
        np.testing.assert_allclose(moved, output, rtol=1e-12)
        d_output = rng.normal(size=output.shape)
        for i, of_keys in ((0, False), (1, True), (2, True)):
            there = backward(d_output)[i]
            expected = there[:, order] if of_keys else there
            np.testing.assert_allclose(moved_backward(d_output)[i], expected, rtol=1e-10, atol=1e-12)


def test_shared_heads_are_repeated_heads():
    rng = np.random.default_rng(9)
    query, key, value = rng.normal(size=(3, 6, 7, 5)), rng.normal(size=(3, 2, 7, 5)), rng.normal(size=(3, 2, 7, 11))
    for way in ("stacked", "blocked"):
        output, backward = kernel.attention(query, key, value, causal=True, way=way)
        repeated, backward_of_repeated = kernel.attention(
            query, np.repeat(key, 3, axis=1), np.repeat(value, 3, axis=1), causal=True, way=way
        )
        np.testing.assert_allclose(output, repeated, rtol=1e-12)
        d_output = rng.normal(size=output.shape)
        for d, d_repeated in zip(backward(d_output)[1:3], backward_of_repeated(d_output)[1:3], strict=True):
            np.testing.assert_allclose(d, d_repeated.reshape(3, 2, 3, *d.shape[2:]).sum(axis=2), rtol=1e-10)


def test_keys_shared_by_other_heads_than_values():
    rng = np.random.default_rng(14)
    query, key, value = rng.normal(size=(6, 7, 5)), rng.normal(size=(2, 7, 5)), rng.normal(size=(3, 7, 4))
    expected = readable(query, np.repeat(key, 3, axis=0), np.repeat(value, 2, axis=0))[0]
    np.testing.assert_allclose(ta.attention(query, key, value), expected, rtol=1e-12)
    for one in ((query, key[:1], value), (query, key, value[:1])):
        six = [np.repeat(x, 6, axis=0) if len(x) == 1 else x for x in one]
        np.testing.assert_allclose(ta.attention(*one), ta.attention(*six), rtol=1e-12)


# ---------------------------------------------------------------------------------------------------- the pool


@pytest.fixture
def _threads_as_before():
    before = threads.get_num_threads()
    yield
    threads.set_num_threads(before)


@pytest.mark.usefixtures("_threads_as_before")
@pytest.mark.parametrize(("way", "n"), [("blocked", 300), ("stacked", 150)])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_the_same_bits_whatever_the_number_of_threads(sizes, way, n, dropout):
    sizes(QUERIES=64, KEYS=32, SHARED=1)
    rng = np.random.default_rng(10)
    query, key, value = (rng.standard_normal((1, 4, n, 16), dtype=np.float32) for _ in range(3))
    options = {"causal": True, "way": way}
    if dropout:
        options["dropped"] = draw_bits((1, 4, n, n), dropout, rng)
    found = []
    for n_threads in (1, 2, 3, 7, 2):
        threads.set_num_threads(n_threads)
        output, backward = kernel.attention(query, key, value, **options)
        found.append((output, *backward(query)[:3]))
    for others in found[1:]:
        for x, y in zip(others, found[0], strict=True):
            np.testing.assert_array_equal(x, y)


@pytest.mark.usefixtures("_threads_as_before")
def test_dropout_is_what_the_generator_says_by_every_way():
    rng = np.random.default_rng(11)
    query, key, value = rng.normal(size=(3, 2, 3, 13, 5))
    bits = draw_bits((2, 3, 13, 13), 0.5, np.random.default_rng(1))
    expected = readable(query, key, value, dropped=bits)[0]
    for way in ("stacked", "blocked"):
        np.testing.assert_allclose(kernel.attention(query, key, value, dropped=bits, way=way)[0], expected, rtol=1e-12)
    again = [ta.attention(query, key, value, dropout=0.5, rng=np.random.default_rng(1)) for _ in range(2)]
    np.testing.assert_array_equal(*again)
    np.testing.assert_allclose(again[0], expected, rtol=1e-12)


@pytest.mark.usefixtures("_threads_as_before")
def test_an_error_in_a_task_is_raised_and_ends_the_work():
    threads.set_num_threads(3)
    done = []

    def task(i):
        if i == 5:
            raise KeyError("five")
        time.sleep(0.001)
        done.append(i)

    with pytest.raises(KeyError, match="five"):
        threads.run([lambda i=i: task(i) for i in range(200)])
    assert len(done) < 190
    threads.run([lambda: done.append("after")])
    assert done[-1] == "after"


@pytest.mark.usefixtures("_threads_as_before")
def test_blas_gets_its_threads_back():
    threads.set_num_threads(2)

    def blas_threads():
        return [library["num_threads"] for library in threads.blas().info()]

    before, inside = blas_threads(), []
    threads.run([lambda: inside.append(blas_threads()) for _ in range(4)])
    assert all(set(n) == {1} for n in inside)
    assert blas_threads() == before
    with pytest.raises(ValueError, match="broken"):
        threads.run([broken])
    assert blas_threads() == before


def broken():
    raise ValueError("broken")


@pytest.mark.usefixtures("_threads_as_before")
def test_threads_of_users_may_call_it_at_once(sizes):
    """Scratch belongs to a thread; nobody gets another's numbers."""
    sizes(QUERIES=16, KEYS=8)
    threads.set_num_threads(2)
    rng = np.random.default_rng(12)
    inputs = [rng.normal(size=(3, 2, 50, 8)) for _ in range(6)]
    expected = [kernel.attention(*x, way="blocked")[0] for x in inputs]
    wrong = []

    def work(i):
        for _ in range(5):
            if not np.array_equal(kernel.attention(*inputs[i], way="blocked")[0], expected[i]):
                wrong.append(i)

    users = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for user in users:
        user.start()
    for user in users:
        user.join()
    assert not wrong


@pytest.mark.parametrize("bad", [0, -1, 65, 10**9])
def test_a_number_of_threads_that_can_not_be(bad):
    with pytest.raises(ValueError, match="set_num_threads: n must lie in 1 … 64"):
        threads.set_num_threads(bad)
    for kind in (True, 1.5, "2", None):
        with pytest.raises(TypeError, match="set_num_threads: n must be a whole number"):
            threads.set_num_threads(kind)


# ---------------------------------------------------------------------------------------------------- memory

PEAK = """
import sys, threading, time
import numpy as np
import tinyattn as ta

rng = np.random.default_rng(0)
query, key, value, d_output = (rng.standard_normal((1, 8, {n}, 64), dtype=np.float32) for _ in range(4))
small = [x[:, :, :64] for x in (query, key, value)]
ta.attention(*small, causal=True)  # imports what is imported on first use
tensors = [ta.tensor(x, requires_grad=True) for x in (query, key, value)]
held = query.nbytes * 4  # the output, and three gradients

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

before, peak, over = resident(), 0, False

def watch():
    global peak
    while not over:
        peak = max(peak, resident())
        time.sleep(0.001)

watcher = threading.Thread(target=watch)
watcher.start()
output = ta.attention(*tensors, causal={causal})
output.backward(d_output)
over = True
watcher.join()
print((max(peak, resident()) - before - held) / 2**20)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the memory from Linux's /proc")
def test_long_sequences_take_little_memory():
    """(1, 8, 16384, 64), forward with backward: beyond inputs, output and gradients 64 MB at most. All scores: 8 GB."""
    done = subprocess.run(
        [sys.executable, "-c", PEAK.format(n=16384, causal=True)],
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    )
    assert 0 < float(done.stdout) <= 64


# ---------------------------------------------------------------------------------------------------- the choice


def test_the_choice():
    small, large, one = (np.zeros((2, 3, n, 5)) for n in (16, 1024, 1))
    assert ta.attention_choice(small, small, small).way == "stacked"
    assert ta.attention_choice(large, large, large).way == "blocked"
    assert ta.attention_choice(small, one, one).way == "readable"
    assert ta.attention_choice(small * 1j, small, small).way == "readable"
    assert ta.attention_choice(small, small[:1], small).way == "readable"
    assert ta.attention_choice(large[:, :, :200], large[:1, :, :200], large[:1, :, :200]).way == "blocked"
    assert ta.attention_choice(ta.tensor(large), large, large, mask=np.ones(1024, bool)).way == "blocked"
    assert str(ta.attention_choice(large, large, large)).startswith("blocked: 1024 × 1024 scores of a head")
    with pytest.raises(ValueError, match="attention: query and key must share d_k"):
        ta.attention_choice(small, small[..., :3], small)
