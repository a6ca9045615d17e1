"""Why a gradient is None, zero or NaN: the kind of reason, the operation, and the line that asked for it."""

import gc
import json

import numpy as np
import pytest

import tinyattn as ta
from tinyattn import nn

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
RNG = np.random.default_rng


def leaf(data, **options):
    return ta.tensor(data, requires_grad=True, **options)


def only(explanation):
    (reason,) = explanation.reasons
    return reason


# ------------------------------------------------------------------------------------------------ zero

X = [[-1.0, -2.0, -3.0], [-5.0, -7.0, -11.0]]
ZEROS = {
    "dead relu": (lambda x: ta.relu(x), "relu", "all 6 inputs are 0 or below"),
    "saturated": (lambda x: ta.tanh(x * 1000.0), "tanh", "lie in -1.1e+04 … -1e+03, where tanh is flat"),
    "clipped": (lambda x: ta.clip(x, 0.0, 1.0), "clip", "all 6 inputs lie beyond a bound"),
    "masked": (lambda x: ta.where(np.ones((2, 3), bool), 1.0, x), "where", "takes the other side for all 6 places"),
    "not the winner": (lambda x: ta.maximum(x, 0.0), "maximum", "all 6 numbers of x are never the largest"),
    "times zero": (lambda x: x * np.zeros(3), "multiply", "the other factor is 0 at all 3 places"),
    "flat": (lambda x: ta.sign(x), "sign", "sign has slope 0"),
    "not selected": (lambda x: ta.tril(x, -5), "tril", "all 6 numbers of x were not read"),
    "dropped": (lambda x: ta.dropout(x, p=1.0, rng=RNG(0)), "dropout", "in place of all 6 numbers"),
    "constant direction": (lambda x: ta.softmax(x), "softmax", "always sum to 1"),
    "saturated softmax": (lambda x: ta.softmax(x * 1000.0) * [[1.0, 2.0, 3.0]], "softmax", "1 − max p = 0"),
}


@pytest.mark.parametrize("kind", ZEROS)
def test_a_gradient_of_zero(kind):
    function, rule, text = ZEROS[kind]
    x = leaf(X, name="x")
    loss = (function(x) * 2.0).sum()  # the culprit's line is that of ZEROS
    found = ta.explain_gradient(x, loss)
    assert found.state == ("tiny" if kind == "constant direction" else "zero")  # which leaves round-off
    assert np.abs(found.gradient).max() < 1e-15
    reason = only(found)
    assert (reason.kind, reason.rule) == (kind, rule)
    assert text in reason.text
    assert "test_explain.py" in reason.place
    assert f'"{kind}": (lambda x:' in reason.place
    assert str(found).startswith("the gradient of x, of shape (2, 3): it is ")
    assert f"\n  {kind}: {rule} (line " in str(found)


def test_the_line_is_the_users_however_deep_the_rule():
    layer = nn.Linear(3, 5, rng=0)
    layer.bias.data[...] = -1e6
    x = leaf(np.ones((2, 3)))
    hidden = layer(x)
    loss = ta.relu(hidden).mean()
    reason = only(ta.explain_gradient(layer.weight, loss))
    assert reason.kind == "dead relu"
    assert reason.place.endswith("loss = ta.relu(hidden).mean()")
    layer.bias.data[...] = 0.0
    layer.weight.data[...] = 0.0
    hidden = layer(x)
    reason = only(ta.explain_gradient(x, hidden.sum()))
    assert (reason.kind, reason.rule) == ("times zero", "linear")
    assert reason.place.endswith("test_explain.py: hidden = layer(x)")


def test_a_saturated_softmax_says_by_how_much():
    scores = leaf([0.0, 50.0, 0.0])
    loss = (ta.softmax(scores) * [1.0, 2.0, 3.0]).sum()
    found = ta.explain_gradient(scores, loss)
    assert found.state == "tiny"
    assert only(found).kind == "saturated softmax"
    assert f"1 − max p = {2 * np.exp(-50.0):.3g}" in only(found).text
    found = ta.explain_gradient(scores, ta.cross_entropy(scores, np.array(1)))
    assert (found.state, only(found).kind, only(found).rule) == ("tiny", "saturated softmax", "cross_entropy")


def attended(rng, **options):
    query, key, value = (leaf(rng.normal(size=(2, n, 5))) for n in (3, 7, 7))
    return (query, key, value), lambda *given: (ta.attention(*given, **options) * rng.normal(size=(2, 3, 5))).sum()


def test_masked_keys_are_named():
    mask = np.ones((3, 7), bool)
    mask[:, [2, 5]] = False
    (query, key, value), loss = attended(RNG(0), mask=mask)
    root = loss(query, key, value)
    for tensor in (key, value):
        found = ta.explain_gradient(tensor, root)
        assert found.state == "partly zero"
        assert (only(found).kind, only(found).rule) == ("masked", "attention")
        assert only(found).text == "no query attends to key 2, 5"
    assert ta.explain_gradient(query, root).state == "fine"


def test_queries_that_see_nothing():
    mask = np.ones((3, 7), bool)
    mask[1] = False
    (query, key, value), loss = attended(RNG(0), mask=mask)
    found = ta.explain_gradient(query, loss(query, key, value))
    assert (found.state, only(found).kind) == ("partly zero", "masked")
    assert only(found).text == "2 of 6 queries may attend to nothing"


def test_attention_that_cannot_move():
    (query, key, value), loss = attended(RNG(0))
    found = ta.explain_gradient(query, loss(query * 1e5, key, value))
    assert (found.state, found.kinds) == ("zero", ("saturated softmax",))
    same = ta.tensor(np.ones((2, 7, 5)))
    found = ta.explain_gradient(key, loss(query, key, same))
    assert (found.state, found.kinds) == ("tiny", ("constant direction",))
    one = ta.explain_gradient(query, loss(query, key[:, :1], value[:, :1]))
    assert (one.state, only(one).kind, only(one).text) == (
        "zero",
        "constant direction",
        "there is one key, whose weight is always 1",
    )


def test_a_layer_norm_that_is_summed():
    x = leaf(RNG(0).normal(size=(2, 5)))
    found = ta.explain_gradient(x, (ta.layer_norm(x) * 0.0 + ta.layer_norm(x)).sum())
    assert np.abs(found.gradient).max() < 1e-12
    assert "constant direction" in found.kinds


def test_ways_that_cancel():
    x = leaf([1.0, 2.0], name="x")
    minus = x * -1.0
    found = ta.explain_gradient(x, (x * 1.0 + minus).sum())
    assert (found.state, only(found).kind) == ("zero", "cancels")
    assert "minus = x * -1.0" in only(found).text


def test_a_zero_made_of_two_halves():
    """Neither mask alone hides everything."""
    x = leaf([1.0, 2.0])
    first = x * [1.0, 0.0]
    second = first * [0.0, 1.0]
    found = ta.explain_gradient(x, second.sum())
    assert found.state == "zero"
    assert set(found.kinds) == {"times zero"}


def test_never_used_rows_of_an_embedding():
    weight = leaf(np.ones((5, 3)), name="weight")
    found = ta.explain_gradient(weight, (ta.embedding(weight, [1, 1, 4]) * 2.0).sum())
    assert found.state == "partly zero"
    assert only(found).kind == "not selected"
    assert only(found).text.startswith("9 of 15 numbers of weight")


# ------------------------------------------------------------------------------------------------ none


def test_a_tensor_that_asks_for_none():
    found = ta.explain_gradient(ta.tensor([1.0]))
    assert (found.state, only(found).kind) == ("none", "constant")
    assert "requires_grad" in only(found).text
    assert "int64" in only(ta.explain_gradient(ta.tensor([1]))).text


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("kind", ["detached", "no_grad", "constant"])
def test_a_way_that_is_cut(kind, given):
    x, w = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    if kind == "detached":
        cut = (x * 2.0).detach()
    elif kind == "no_grad":
        with ta.no_grad():
            cut = x * 2.0
    else:
        cut = (x * 2.0).astype(int)
    loss = (cut * w).sum()
    if given:
        found = ta.explain_gradient(x, loss)
    else:
        loss.backward()
        assert x.grad is None
        found = ta.explain_gradient(cut)
    assert (found.state, found.gradient) == ("none", None)
    assert only(found).kind == kind
    assert only(found).place.rpartition(": ")[2].startswith("cut = ")
    assert ta.explain_gradient(w, (cut * w).sum()).state == "fine"


def test_cut_twice():
    x, w = leaf([1.0, 2.0]), leaf(1.0)
    first = x.detach() * 1.0
    exp = ta.exp(x)
    second = exp.detach()
    found = ta.explain_gradient(x, (first + second * w).sum())
    assert found.kinds == ("detached", "detached")
    assert [reason.place.rpartition(": ")[2] for reason in found.reasons] == [
        "first = x.detach() * 1.0",
        "second = exp.detach()",
    ]


def test_a_loss_that_was_made_elsewhere():
    x, w = leaf(1.0, name="x"), leaf(2.0)
    found = ta.explain_gradient(x, w * float(x))
    assert (found.state, only(found).kind) == ("none", "severed")
    assert "float(t)" in only(found).text


def test_a_root_under_no_grad():
    x = leaf(1.0)
    with ta.no_grad():
        loss = x * 2.0
    assert only(ta.explain_gradient(x, loss)).kind == "no_grad"
    assert only(ta.explain_gradient(loss)).kind == "no_grad"


def test_after_backward():
    x = leaf([1.0, -2.0], name="x")
    loss = ta.relu(x).sum()
    loss.backward()
    found = ta.explain_gradient(x, loss)
    assert (found.state, only(found).kind) == ("unknown", "released")
    assert "retain_graph=True" in only(found).text
    found = ta.explain_gradient(x)
    assert (found.state, only(found).kind) == ("unknown", "released")
    kept = x.detach()
    found = ta.explain_gradient(x)
    assert found.kinds == ("detached", "released")
    assert "kept = x.detach()" in found.reasons[0].place
    del kept


def test_the_root_is_found():
    x = leaf([1.0, -2.0])
    loss = ta.relu(x).sum()
    found = ta.explain_gradient(x)
    assert (found.state, only(found).kind, found.gradient.tolist()) == ("partly zero", "dead relu", [1.0, 0.0])
    loss.backward(retain_graph=True)
    assert ta.explain_gradient(x).state == "partly zero"


def test_written_since():
    x = leaf([1.0, 2.0])
    loss = (x * x).sum()
    x.data[0] = 5.0
    assert ta.explain_gradient(x, loss).kinds == ("written",)


# ------------------------------------------------------------------------------------------------ NaN


def test_zero_times_infinity():
    x = leaf([0.0, 4.0], name="x")
    root = ta.sqrt(x)
    safe = ta.where(x > 0, root, 0.0)
    found = ta.explain_gradient(x, safe.sum())
    assert (found.state, only(found).kind, only(found).rule) == ("nan", "0·inf", "sqrt")
    assert only(found).place.endswith("root = ta.sqrt(x)")
    assert "put one before it" in only(found).text
    found = ta.explain_gradient(x, ta.sqrt(x).sum())
    assert (found.state, only(found).kind) == ("infinite", "infinite slope")


def test_a_nan_made_on_the_way_forward():
    x = leaf([-1.0, 4.0])
    bad = ta.log(x)
    found = ta.explain_gradient(x, (bad * bad).sum())
    assert (found.state, only(found).kind, only(found).rule) == ("nan", "forward", "log")
    assert only(found).place.endswith("bad = ta.log(x)")
    found = ta.explain_gradient(y := leaf([np.nan, 1.0], name="y"), (y * y).sum())
    assert (found.state, only(found).kind, only(found).text) == ("nan", "forward", "y holds a NaN to begin with")


# ------------------------------------------------------------------------------------------------ and all is well


def test_a_healthy_gradient_has_no_reasons():
    rng = RNG(0)
    block = nn.TransformerBlock(12, 3, 17, rng=rng)
    x = leaf(rng.normal(size=(2, 5, 12)))
    loss = (block(x) * rng.normal(size=(2, 5, 12))).sum()
    for tensor in (x, *block.parameters()):
        found = ta.explain_gradient(tensor, loss)
        assert (found.state, found.reasons) == ("fine", ())
        np.testing.assert_array_equal(found.gradient, ta.tensor(found.gradient).numpy())
    loss.backward()
    x.grad.numpy()


def test_it_is_the_gradient_and_nothing_is_changed():
    x = leaf(RNG(0).normal(size=(3, 5)))
    calls = []

    def f(x):
        y = ta.softmax(x * x) * x
        y.register_hook(calls.append)
        return (y * y).sum() + ta.checkpoint(lambda x: (ta.sin(x) * x).sum())(x)

    loss = f(x)
    found = ta.explain_gradient(x, loss)
    assert (x.grad, calls, found.kinds) == (None, [], ("hook",))
    loss.backward()
    np.testing.assert_allclose(found.gradient, x.grad.numpy(), rtol=1e-14)


def test_a_long_chain():
    x = y = leaf(1.0)
    for _ in range(20_000):
        y = y * 1.0
    assert ta.explain_gradient(x, y).state == "fine"


def test_explaining_keeps_nothing_alive():
    x = leaf([1.0, 2.0])
    loss = (x * x).sum()
    ta.explain_gradient(x, loss)
    before = len(gc.get_referrers(x))
    ta.explain_gradient(x, loss)
    assert len(gc.get_referrers(x)) == before


def test_forms():
    x = leaf([-1.0], name="<b>")
    found = ta.explain_gradient(x, ta.relu(x).sum())
    assert json.loads(json.dumps(found.to_dict()))["reasons"][0]["kind"] == "dead relu"
    assert "<b>" not in found._repr_html_()
    assert "&lt;b&gt;" in found._repr_html_()


def test_what_cannot_be_explained():
    x = leaf([1.0, 2.0])
    with pytest.raises(TypeError, match="explain_gradient: tensor must be a Tensor; got float"):
        ta.explain_gradient(1.0)
    with pytest.raises(TypeError, match="explain_gradient: root must be a Tensor; got float"):
        ta.explain_gradient(x, 1.0)
    with pytest.raises(ta.GradientError, match=r"root must be a single number, a loss; got shape \(2,\)"):
        ta.explain_gradient(x, x * 2.0)
