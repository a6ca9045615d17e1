"""What holds for every rule, whatever goes in: NumPy's values through every door, and gradients that differences bear
out, to the second order, in both precisions and for any memory layout.
"""

import functools
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import tinyattn as ta
from tests.properties.cases import CASES, Case
from tests.properties.doors import by_numpy, by_rule, by_us
from tinyattn.rules import RULES

OURS = sorted(name for name, rule in RULES.items() if rule.__module__.startswith("tinyattn.rules."))
EXAMPLES = settings(max_examples=25)
STEP = 2.0**-9


def test_every_rule_has_a_strategy():
    assert sorted(CASES) == OURS


# ------------------------------------------------------------------------------------------------ values


def with_tensors(case, requires_grad=True):
    return case.with_arrays([ta.tensor(case.arrays[i], requires_grad=requires_grad) for i in case.places])


NUMPYS = [name for name in OURS if hasattr(np, name) or name in ("norm", "index", "astype")]
# BLAS rounds one way or another, depending on where in memory arrays lie (NumPy's norms have it, too), and powers
# differ in the last digit between a number and an array of no axes.
NOT_TO_THE_BIT = {"matmul", "dot", "tensordot", "einsum", "norm", "power", "exp2"}


@pytest.mark.parametrize("name", NUMPYS)
@given(data=st.data())
@EXAMPLES
def test_numpys_values_through_every_door(name, data):
    case = data.draw(CASES[name])
    expected = by_numpy(name, case)
    found = by_rule(name, case)
    digits = {"rtol": 1e-14, "atol": 1e-15} if name in NOT_TO_THE_BIT else {"rtol": 0.0}
    same = functools.partial(np.testing.assert_allclose, **digits, strict=True)
    same(found, expected)
    for requires_grad in (True, False):
        tensors = with_tensors(case, requires_grad)
        for door in (by_us, by_numpy):
            through = door(name, tensors)
            assert type(through) is ta.Tensor
            assert through.requires_grad is requires_grad
            same(through.numpy(), found)


# ------------------------------------------------------------------------------------------------ by the formula


def softmax_by_formula(x, axis=-1):
    exp = np.exp(x - x.max(axis, keepdims=True))
    return exp / exp.sum(axis, keepdims=True)


def weights_by_formula(query, key, bias=None, sinks=None, *, mask, causal, scale, window, softcap):
    """Query by query, over the keys that it may see."""
    n_queries, n_keys = query.shape[-2], key.shape[-2]
    scale = 1 / math.sqrt(max(query.shape[-1], 1)) if scale is None else scale
    scores = np.asarray(np.einsum("...id,...jd->...ij", query, repeated(key, query)) * scale)
    scores = scores if softcap is None else softcap * np.tanh(scores / softcap)
    scores = scores if bias is None else scores + bias
    allowed = np.ones((n_queries, n_keys), bool) if mask is None else mask
    sinks = np.full((), -np.inf) if sinks is None else sinks
    scores, allowed, sinks = (x.copy() for x in np.broadcast_arrays(scores, allowed, sinks[..., None, None]))
    left, right = window or (None, None)
    left = math.inf if left is None else left
    right = 0 if causal else math.inf if right is None else right
    weights = np.zeros(scores.shape)
    for where in np.ndindex(scores.shape[:-1]):
        off = np.arange(n_keys) - (where[-1] + n_keys - n_queries)
        seen = allowed[where] & (off >= -left) & (off <= right)
        if seen.any():
            scores_and_sink = np.append(scores[where][seen], sinks[where][:1])
            weights[where][seen] = softmax_by_formula(scores_and_sink)[:-1]
    return weights


def repeated(x, query):
    """Keys or values, once for each query head."""
    shared = x.shape[-3] if x.ndim > 2 else 1
    n_heads = query.shape[-3] if query.ndim > 2 else 1
    return np.repeat(x, n_heads // shared, axis=-3) if 1 < shared < n_heads else x


def attention_by_formula(query, key, value, bias=None, sinks=None, **options):
    weights = weights_by_formula(query, key, bias, sinks, **options)
    return np.einsum("...ij,...jd->...id", weights, repeated(value, query))


def multi_head_by_formula(
    query, w_query, w_key, w_value, w_output, b_query, b_key, b_value, b_output, key, value, bias, sinks, *, n_heads,
    **options,
):  # fmt: skip
    """Head by head."""
    key = query if key is None else key
    value = key if value is None else value
    d_k = w_query.shape[1] // n_heads
    n_kv_heads = w_key.shape[1] // d_k
    d_v = w_value.shape[1] // n_kv_heads

    def made(x, weight, bias, h, d):
        own = slice(h * d, (h + 1) * d)
        return x @ weight[:, own] + (0.0 if bias is None else bias[own])

    heads = []
    for h in range(n_heads):
        g = h // (n_heads // n_kv_heads)
        q, k = made(query, w_query, b_query, h, d_k), made(key, w_key, b_key, g, d_k)
        v = made(value, w_value, b_value, g, d_v)
        sink = None if sinks is None else sinks[h]
        heads.append(attention_by_formula(q, k, v, bias, sink, **options))
    return np.concatenate(heads, axis=-1) @ w_output + (0.0 if b_output is None else b_output)


def losses_by_formula(losses, reduction, n=None):
    n = max(losses.size if n is None else n, 1)
    return {"none": losses, "sum": losses.sum(), "mean": losses.sum() / n}[reduction]


def cross_entropy_by_formula(scores, targets, *, label_smoothing, ignore_index=None, reduction):
    n_classes, n = scores.shape[-1], None
    if targets.shape != scores.shape:
        counts = targets != ignore_index
        targets, n = np.eye(n_classes)[np.where(counts, targets, 0)], counts.sum()
    else:
        counts = np.ones(scores.shape[:-1])
    targets = (1 - label_smoothing) * targets + label_smoothing / n_classes
    losses = -(targets * np.log(softmax_by_formula(scores))).sum(-1) * counts
    return losses_by_formula(losses, reduction, n)


def binary_by_formula(scores, targets, pos_weight=None, *, reduction):
    yes = 1 / (1 + np.exp(-scores))
    weight = 1.0 if pos_weight is None else pos_weight
    return losses_by_formula(-(weight * targets * np.log(yes) + (1 - targets) * np.log(1 - yes)), reduction)


def norm_by_formula(x, weight, bias, eps):
    normed = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps)
    return normed * (1.0 if weight is None else weight) + (0.0 if bias is None else bias)


def rope_by_formula(x, *, positions, base, interleaved):
    """Pairs as complex numbers, turned by multiplying."""
    n, d = x.shape[-2:]
    positions = np.arange(n) if positions is None else positions
    waves = np.exp(1j * positions[..., None] * base ** (-np.arange(d // 2) * 2 / d))
    if interleaved:
        turned = (x[..., 0::2] + 1j * x[..., 1::2]) * waves
        return np.stack([turned.real, turned.imag], axis=-1).reshape(x.shape)
    turned = (x[..., : d // 2] + 1j * x[..., d // 2 :]) * waves
    return np.concatenate([turned.real, turned.imag], axis=-1)


def scatter_by_formula(x, *, key, shape):
    total = np.zeros(shape)
    np.add.at(total, key, x)
    return total


TWINS = ("attention", "cross_entropy", "gelu", "layer_norm", "linear", "multi_head_attention")
erf = np.vectorize(math.erf, otypes=[float])
BY_FORMULA = {
    "attention": attention_by_formula,
    "attention_weights": weights_by_formula,
    "binary_cross_entropy_with_logits": binary_by_formula,
    "cross_entropy": cross_entropy_by_formula,
    "dropout": lambda x, keep, p: keep * x / (1 - p) if p < 1 else keep * x,
    "embedding": lambda weight, ids: weight[ids],
    "erf": erf,
    "gelu": lambda x, approximate: (
        x
        / 2
        * (1 + (erf(x / 2**0.5) if approximate == "none" else np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3))))
    ),
    "multi_head_attention": multi_head_by_formula,
    "layer_norm": lambda x, weight, bias, eps=1e-5: norm_by_formula(x, weight, bias, eps),
    "leaky_relu": lambda x, negative_slope: np.maximum(x, 0) + negative_slope * np.minimum(x, 0),
    "linear": lambda x, weight, bias: x @ weight + (0.0 if bias is None else bias),
    "log_softmax": lambda x, axis: (
        x - x.max(axis, keepdims=True) - np.log(np.exp(x - x.max(axis, keepdims=True)).sum(axis, keepdims=True))
    ),
    "logsumexp": lambda x, axis=None, keepdims=False: np.logaddexp.reduce(
        x, axis=tuple(range(x.ndim)) if axis is None else axis, keepdims=keepdims
    ),
    "mse_loss": lambda x, y, reduction: losses_by_formula(np.square(x - y), reduction),
    "relu": lambda x: x * (x > 0),
    "rms_norm": lambda x, weight, eps=1e-5: (
        x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * (1.0 if weight is None else weight)
    ),
    "rope": rope_by_formula,
    "scatter": scatter_by_formula,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "softmax": softmax_by_formula,
    "softplus": lambda x, beta: np.logaddexp(0, beta * x) / beta,
}


def test_every_value_is_compared_with_something():
    assert sorted(NUMPYS + list(BY_FORMULA)) == OURS


@pytest.mark.parametrize("name", BY_FORMULA)
@given(data=st.data())
@EXAMPLES
def test_values_by_the_formula(name, data):
    case = data.draw(CASES[name])
    found = by_rule(name, case)
    expected = BY_FORMULA[name](*case.arrays, **case.options)
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-13)
    assert (np.shape(found), found.dtype) == (np.shape(expected), np.float64)
    through = by_us(name, with_tensors(case))
    assert type(through) is ta.Tensor
    if name in TWINS:  # which round otherwise
        np.testing.assert_allclose(through.numpy(), found, rtol=1e-11, atol=1e-13, strict=True)
    else:
        np.testing.assert_array_equal(through.numpy(), found, strict=True)


# ------------------------------------------------------------------------------------------------ derivatives


def gradients(name, case, cotangent):
    """Those of Σ cotangent · output in the arrays of a case."""
    tensors = with_tensors(case)
    by_us(name, tensors).backward(cotangent)
    return [tensors.arrays[i].grad for i in case.places]


def directions(rng, case):
    """For each array a random direction, in which no number moves by more than 1."""
    return [np.asarray(rng.uniform(-1, 1, case.arrays[i].shape)) for i in case.places]


def moved(case, along, step):
    return case.with_arrays([np.asarray(case.arrays[i] + step * d) for i, d in zip(case.places, along, strict=True)])


def slope(function, case, along):
    """How fast a function of a case changes along a direction: central differences, extrapolated from two steps."""
    near, far = (
        (function(moved(case, along, step)) - function(moved(case, along, -step))) / (2 * step)
        for step in (STEP / 2, STEP)
    )
    return (4 * near - far) / 3


def inner(gradients, along):
    return sum(float(np.sum(np.asarray(g) * d)) for g, d in zip(gradients, along, strict=True))


@pytest.mark.parametrize("name", OURS)
@given(data=st.data())
@EXAMPLES
def test_gradients_are_what_differences_say(name, data):
    case = data.draw(CASES[name])
    rng = np.random.default_rng(0)
    output = by_rule(name, case)
    assume(np.isfinite(output).all())  # of no numbers logsumexp is -inf
    cotangent = rng.normal(size=np.shape(output))
    along = directions(rng, case)
    found = gradients(name, case, cotangent)
    for gradient, i in zip(found, case.places, strict=True):
        assert (gradient.shape, gradient.dtype) == (case.arrays[i].shape, np.float64)
    numeric = slope(lambda case: np.sum(by_rule(name, case) * cotangent), case, along)
    assert inner(found, along) == pytest.approx(numeric, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("name", OURS)
@given(data=st.data())
@EXAMPLES
def test_second_derivatives_are_what_differences_of_gradients_say(name, data):
    case = data.draw(CASES[name])
    rng = np.random.default_rng(0)
    cotangent = rng.normal(size=np.shape(by_rule(name, case)))
    first, second = directions(rng, case), directions(rng, case)
    numeric = slope(lambda case: inner(gradients(name, case, cotangent), first), case, second)
    tensors = with_tensors(case)
    leaves = [tensors.arrays[i] for i in case.places]
    by_us(name, tensors).backward(cotangent, create_graph=True)
    steepness = sum((x.grad * d).sum() for x, d in zip(leaves, first, strict=True))
    for x in leaves:
        x.zero_grad()
    if steepness.requires_grad:
        steepness.backward()
    found = [np.zeros(x.shape) if x.grad is None else x.grad for x in leaves]
    assert inner(found, second) == pytest.approx(numeric, rel=1e-6, abs=1e-8)


# ------------------------------------------------------------------------------------------------ precision, layout


@pytest.mark.parametrize("name", OURS)
@given(data=st.data())
@EXAMPLES
def test_single_precision_is_kept_and_near_the_double(name, data):
    if name == "astype":
        return  # which is there to change it
    single = data.draw(CASES[name]).cast(np.float32)
    places = [i for i, x in enumerate(single.arrays) if isinstance(x, np.ndarray) and x.dtype == np.float32]
    arrays = list(single.arrays)
    for i in places:
        arrays[i] = arrays[i].astype(np.float64)
    double = Case(tuple(arrays), single.options)
    tensors = list(single.arrays)
    for i in places:
        tensors[i] = ta.tensor(tensors[i], requires_grad=True)
    output = by_us(name, Case(tuple(tensors), single.options))
    assert output.dtype == np.float32
    near(output.numpy(), by_rule(name, double))
    cotangent = np.random.default_rng(0).normal(size=output.shape).astype(np.float32)
    output.backward(cotangent)
    for i, gradient in zip(places, gradients(name, double, cotangent), strict=True):
        assert (tensors[i].grad.shape, tensors[i].grad.dtype) == (gradient.shape, np.float32)
        near(tensors[i].grad.numpy(), gradient.numpy())


def near(single, double):
    """Within some hundred units of the last digit of the largest number."""
    np.testing.assert_allclose(single, double, rtol=0.0, atol=3e-5 * abs(double).max(initial=1.0))


LAYOUTS = {
    "Fortran": lambda x: np.array(x, order="F"),
    "reversed": lambda x: x[(slice(None, None, -1),) * x.ndim].copy()[(slice(None, None, -1),) * x.ndim],
    "strided": lambda x: np.repeat(x, 2, axis=-1)[..., ::2] if x.ndim else x,
    "read-only": lambda x: np.broadcast_to(x, x.shape),
    "a scalar": lambda x: x if x.ndim else x[()],
}


@pytest.mark.parametrize("name", OURS)
@given(data=st.data())
@settings(max_examples=10)
def test_memory_layout_changes_nothing(name, data):
    case = data.draw(CASES[name])
    layout = LAYOUTS[data.draw(st.sampled_from(sorted(LAYOUTS)))]
    other = case.with_arrays([layout(case.arrays[i]) for i in case.places])
    cotangent = np.random.default_rng(0).normal(size=np.shape(by_rule(name, case)))
    wrapped = case.with_arrays([ta.Tensor(layout(case.arrays[i]), requires_grad=True) for i in case.places])
    output = by_us(name, wrapped)
    np.testing.assert_allclose(by_rule(name, other), by_rule(name, case), rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(output.numpy(), by_rule(name, case), rtol=1e-13, atol=1e-13)
    output.backward(cotangent)
    for i, gradient in zip(case.places, gradients(name, case, cotangent), strict=True):
        np.testing.assert_allclose(wrapped.arrays[i].grad.numpy(), gradient.numpy(), rtol=1e-13, atol=1e-13)


# ------------------------------------------------------------------------------------------------ small, whole

ONE_NUMBER = """absolute cos erf exp exp2 expm1 gelu leaky_relu log1p negative positive relu sigmoid sign silu sin
    softplus square tanh""".split()


@pytest.mark.parametrize("name", ONE_NUMBER)
@pytest.mark.parametrize(("dtype", "tiny"), [(np.float64, 5e-324), (np.float64, 1e-310), (np.float32, 1e-45)])
def test_subnormal_numbers_have_the_slopes_of_small_ones(name, dtype, tiny):
    slope = ta.grad(lambda x: getattr(ta, name)(x).sum())
    found, expected = (slope(np.array([x, -x], dtype)).numpy() for x in (tiny, 1e-30))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-25)


WHOLE = {"int64": np.int64, "uint8": np.uint8, "bool": bool}
OTHERWISE = {
    "exp2": "NumPy makes float16 of small integers, we float64",
    "linear": "of nothing but booleans gives booleans, as x @ weight does",
    "multi_head_attention": "as linear",
    "square": "NumPy makes int8 of booleans",
}


NOT_ALL = {
    "attention": 3,
    "attention_weights": 2,
    "cross_entropy": 1,
    "multi_head_attention": 11,
}  # a bias isn't boolean, nor probabilities whole


@pytest.mark.parametrize("name", sorted(set(OURS) - set(OTHERWISE)))
@given(data=st.data())
@settings(max_examples=10)
def test_whole_numbers_and_booleans_have_no_gradients_and_do_not_wrap_around(name, data):
    """They are as NumPy has them; where NumPy has no such function, they are as floats would be."""
    case = data.draw(CASES[name])
    dtype = WHOLE[data.draw(st.sampled_from(sorted(WHOLE)))]
    numbers = [np.rint(abs(case.arrays[i]) * 3) for i in case.places]
    wholes = [x.astype(dtype) if i < NOT_ALL.get(name, 99) else x for i, x in zip(case.places, numbers, strict=True)]
    whole, tensors = case.with_arrays(wholes), case.with_arrays(list(map(ta.tensor, wholes)))
    with np.errstate(all="ignore"):
        if name not in NUMPYS:
            expected = by_rule(name, case.with_arrays([x * 1.0 for x in wholes]))
        else:
            try:
                expected = by_numpy(name, whole)
            except (TypeError, ValueError, OverflowError):  # booleans aren't subtracted, say
                with pytest.raises((TypeError, ValueError), match=f"^{name}: "):
                    by_us(name, tensors)
                return
        found = by_us(name, tensors)
    assert not found.requires_grad
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-13, atol=1e-13, strict=name in NUMPYS)
