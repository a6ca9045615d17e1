"""Attention by hand against the rules and layers, which share no code with it. (`tests/study` has more witnesses.)"""

import re
from pathlib import Path

import numpy as np
import pytest

import tinyattn as ta
from tinyattn.by_hand import attention as by_hand
from tinyattn.engine import unbroadcast
from tinyattn.rules import attention as rules
from tinyattn.rules import softmax as softmax_rules

ROOT = Path(__file__).parents[2]


def arrays(*shapes, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype(dtype) for shape in shapes]


def some_mask(*shape):
    mask = np.random.default_rng(1).random(shape) < 0.6
    mask[..., 1, :] = False  # a query that may attend to nothing
    return mask


CASES = {
    "one head": (((3, 5), (7, 5), (7, 11)), {}),
    "two heads": (((2, 3, 5), (2, 7, 5), (2, 7, 11)), {}),
    "a batch of heads": (((3, 2, 3, 5), (3, 2, 7, 5), (3, 2, 7, 11)), {}),
    "one key and value for both heads": (((2, 3, 5), (1, 7, 5), (1, 7, 11)), {}),
    "one key for all, a value for each": (((3, 5), (7, 5), (2, 7, 11)), {}),
    "mask": (((2, 3, 5), (2, 7, 5), (2, 7, 11)), {"mask": some_mask(2, 3, 7)}),
    "mask with more axes": (((3, 5), (7, 5), (7, 11)), {"mask": some_mask(2, 3, 7)}),
    "causal": (((2, 3, 5), (2, 7, 5), (2, 7, 11)), {"causal": True}),
    "causal, more queries than keys": (((7, 5), (3, 5), (3, 11)), {"causal": True}),
    "mask and causal": (((2, 3, 5), (2, 7, 5), (2, 7, 11)), {"mask": some_mask(3, 7), "causal": True}),
    "scale": (((3, 5), (7, 5), (7, 11)), {"scale": -0.3}),
}


@pytest.mark.parametrize("bias", [None, (3, 7), (7,), (2, 1, 7), (2, 3, 1), ()])
@pytest.mark.parametrize("case", CASES)
def test_attention_is_the_rule(case, bias):
    shapes, options = CASES[case]
    if "more queries" in case and bias is not None:
        bias = bias[:-2] + tuple({3: 7, 7: 3}.get(n, n) for n in bias[-2:])
    query, key, value = arrays(*shapes)
    bias = None if bias is None else np.asarray(arrays(bias)[0])
    saved = by_hand.attention(query, key, value, bias=bias, **options)
    output, backward = rules.attention(query, key, value, bias, **options)
    np.testing.assert_allclose(saved["output"], output, rtol=1e-12, atol=1e-14)

    d_output = np.random.default_rng(2).normal(size=output.shape)
    gradients = by_hand.attention_backward(d_output, saved)
    given = {"d_query": query, "d_key": key, "d_value": value, "d_bias": bias}
    for (name, x), right in zip(given.items(), backward(d_output)[:4], strict=True):
        if x is None:
            assert name not in gradients
            continue
        assert gradients[name].shape == x.shape
        np.testing.assert_allclose(gradients[name], unbroadcast(right, x.shape), rtol=1e-10, atol=1e-13)
    assert list(gradients)[:4] == ["d_output", "d_value", "d_weights", "d_scores"]
    assert all(gradient.shape == saved[name[2:]].shape for name, gradient in gradients.items())


def test_softmax_is_the_rule():
    scores, d_weights = arrays((2, 3, 5), (2, 3, 5))
    saved = by_hand.softmax(scores)
    weights, backward = softmax_rules.softmax(scores)
    np.testing.assert_allclose(saved["weights"], weights, rtol=1e-14)
    np.testing.assert_allclose(
        by_hand.softmax_backward(d_weights, saved)["d_scores"], backward(d_weights)[0], rtol=1e-12, atol=1e-15
    )
    far = by_hand.softmax(np.array([1e4, -1e4, 1e4]))["weights"]
    assert far.tolist() == [0.5, 0.0, 0.5]


def test_scores_are_hidden_where_the_mask_says_so():
    query, key, value = arrays((3, 5), (7, 5), (7, 11))
    mask = some_mask(3, 7)
    saved = by_hand.attention(query, key, value, mask=mask, causal=True)
    seen = mask & (np.arange(7) <= np.arange(3)[:, None] + 4)
    assert (saved["mask"] == seen).all()
    assert (np.isneginf(saved["scores"]) == ~seen).all()
    assert ((saved["weights"] == 0) == ~seen).all()
    assert (saved["output"][1] == 0).all()


@pytest.mark.parametrize("options", [{}, {"causal": True}, {"mask": some_mask(5, 5)}], ids=str)
def test_multi_head_is_the_layer(options):
    (x,) = arrays((3, 5, 6))
    layer = ta.nn.MultiHeadAttention(6, 2, rng=0, dtype=np.float64)
    names = ("w_query", "w_key", "w_value", "w_output")
    saved = by_hand.multi_head(x, *(getattr(layer, name).numpy() for name in names), n_heads=2, **options)
    tensor = ta.tensor(x, requires_grad=True)
    output, weights = layer(tensor, return_weights=True, **options)
    np.testing.assert_allclose(saved["output"], output.numpy(), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(saved["weights"], weights.numpy(), rtol=1e-12, atol=1e-14)

    (d_output,) = arrays(output.shape, seed=3)
    output.backward(d_output)
    gradients = by_hand.multi_head_backward(d_output, saved)
    np.testing.assert_allclose(gradients["d_x"], tensor.grad.numpy(), rtol=1e-10, atol=1e-13)
    for name in names:
        right = getattr(layer, name).grad.numpy()
        np.testing.assert_allclose(gradients[f"d_{name}"], right, rtol=1e-10, atol=1e-13, err_msg=name)
    assert all(gradient.shape == saved[name[2:]].shape for name, gradient in gradients.items())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_type_is_kept(dtype):
    shapes = ((3, 7), (7, 10), (7, 10), (7, 22), (22, 13), (3, 3), (3, 13))
    *given, bias, d_output = arrays(*shapes, dtype=dtype)
    saved = by_hand.multi_head(*given, n_heads=2, bias=bias, causal=True)
    gradients = by_hand.multi_head_backward(d_output, saved)
    made = [x for name, x in saved.items() if isinstance(x, np.ndarray) and name != "mask"]
    assert {x.dtype for x in [*made, *gradients.values()]} == {np.dtype(dtype)}


def test_heads_split_and_merge():
    x = np.arange(12).reshape(2, 6)
    split = by_hand.split_heads(x, 3)
    assert split.tolist() == [[[0, 1], [6, 7]], [[2, 3], [8, 9]], [[4, 5], [10, 11]]]
    assert (by_hand.merge_heads(split) == x).all()


LABEL = re.compile(r"\(((?:softmax|attention|multi_head)\.\d+)('?)\)")


def test_its_labels_are_those_of_the_rules():
    text = Path(by_hand.__file__).read_text(encoding="utf-8")
    known = set()
    for place in ("rules/attention.py", "rules/softmax.py", "nn/attention.py"):
        known |= {label for label, _ in LABEL.findall((ROOT / "tinyattn" / place).read_text(encoding="utf-8"))}
    used = LABEL.findall(text)
    assert {label for label, _ in used} <= known
    in_order = [label for label, _ in LABEL.findall(text[text.index("def attention(") : text.index("def multi_head(")])]
    numbers = [label for label in dict.fromkeys(in_order) if label.startswith("attention")]
    assert numbers == [f"attention.{i}" for i in range(1, 9)]
    code = text[text.index("def multi_head(") : text.index("def may_attend")]
    steps = list(dict.fromkeys(label + prime for label, prime in LABEL.findall(code)))
    assert steps == ["multi_head.1", "multi_head.2", "multi_head.2'", "multi_head.1'"]
