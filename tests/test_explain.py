"""Why a gradient is None, zero or NaN: the kind of reason, the operation, and the line that asked for it."""

import gc
import json

import numpy as np
import pytest

import tinyattn as ta
from tinyattn import nn
from tinyattn.engine import apply
from tinyattn.explain.causes import CAUSES
from tinyattn.gallery.samples import SAMPLES
from tinyattn.rules import RULES

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


def test_scores_of_minus_infinity_mask_too():
    bias = np.zeros((3, 7))
    bias[:, 4] = -np.inf
    (query, key, value), _ = attended(RNG(0))
    found = ta.explain_gradient(key, (ta.attention(query, key, value, bias=bias) * RNG(1).normal(size=(2, 3, 5))).sum())
    assert (found.state, only(found).kind, only(found).text) == ("partly zero", "masked", "no query attends to key 4")


def test_a_mask_is_not_told_where_it_is_not_alone():
    query, key, value = leaf([[1.0]]), leaf([[0.0], [-2000.0], [0.0]]), leaf([[1.0], [2.0], [3.0]])
    found = ta.explain_gradient(key, ta.attention(query, key, value, mask=np.array([[True, True, False]])).sum())
    assert (found.state, only(found).kind) == ("zero", "saturated softmax")


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


FLAT = {
    "absolute": (abs, [0.0, 0.0], "flat", "all 2 numbers of x are 0, where |x| has a corner"),
    "square": (ta.square, [0.0, 0.0], "flat", "the bottom of x²"),
    "power": (lambda x: x**3, [0.0, 0.0], "flat", "all 2 bases are 0"),
    "std": (ta.std, [2.0, 2.0], "flat", "are the mean"),
    "norm": (ta.linalg.norm, [0.0, 0.0], "flat", "where a norm has no slope"),
    "prod": (ta.prod, [0.0, 0.0], "times zero", "2 of the numbers that are multiplied are 0"),
    "mse_loss": (lambda x: ta.mse_loss(x, np.array([2.0, 3.0])), [2.0, 3.0], "flat", "on the other's mark"),
    "leaky_relu": (lambda x: ta.leaky_relu(x, negative_slope=0.0), [-1.0, -2.0], "dead relu", "all 2 inputs"),
    "cross_entropy": (
        lambda x: ta.cross_entropy(x, np.array([0.5, 0.5])),
        [7.0, 7.0],
        "flat",
        "the weights are what the targets ask for",
    ),
    "binary_cross_entropy_with_logits": (
        lambda x: ta.binary_cross_entropy_with_logits(x, np.array([0.0, 0.0])),
        [-800.0, -900.0],
        "saturated",
        "lie in -900 … -800",
    ),
    "layer_norm": (lambda x: ta.layer_norm(ta.tensor([5.0, 5.0]), x), [1.0, 2.0], "times zero", "scale zeros only"),
    "log_softmax": (
        lambda x: ta.log_softmax(x * 1e3)[0],
        [2.0, 1.0],
        "saturated softmax",
        "one weight takes all: 1 − max p = 0",
    ),
    "logsumexp": (lambda x: ta.logsumexp(ta.where([True, False], -np.inf, x)), [2.0, 1.0], "masked", "1 of 2 places"),
    "divide": (lambda x: x / np.inf, [2.0, 1.0], "times zero", "the divisor is infinite at all 1 places"),
    "einsum": (lambda x: ta.einsum("i,ij->j", x, np.zeros((2, 3))), [2.0, 1.0], "times zero", "operands[1] is 0"),
    "matmul": (lambda x: x @ np.array([[0.0, 0.0], [1.0, 2.0]]), [2.0, 1.0], "times zero", "1 of 2 numbers of x meet"),
}


@pytest.mark.parametrize("rule", FLAT)
def test_where_a_rule_is_flat(rule):
    function, numbers, kind, text = FLAT[rule]
    x = leaf(numbers)
    found = ta.explain_gradient(x, ta.sum(function(x)))
    assert found.state in ("zero", "partly zero")
    assert kind in found.kinds
    reason = found.reasons[found.kinds.index(kind)]
    assert text in reason.text
    assert reason.rule == ("where" if rule == "logsumexp" else rule)


def test_rows_that_are_ignored():
    scores = leaf(RNG(0).normal(size=(3, 5)))
    found = ta.explain_gradient(scores, ta.cross_entropy(scores, np.array([1, -100, 2]), ignore_index=-100))
    assert (found.state, only(found).kind) == ("partly zero", "masked")
    assert only(found).text == "1 of 3 rows are of the class that is ignored"


def test_a_query_that_has_no_choice():
    """Under a causal mask the first query sees the first key alone."""
    (query, key, value), _ = attended(RNG(0))
    causal = ta.attention(query, key[:, :3], value[:, :3], causal=True)
    found = ta.explain_gradient(query, (causal * RNG(1).normal(size=(2, 3, 5))).sum())
    assert (found.state, only(found).kind) == ("partly zero", "constant direction")
    assert only(found).text == "2 of 6 queries may attend to one key only, whose weight is always 1"


def test_attention_to_zeros():
    (query, key, value), loss = attended(RNG(0))
    found = ta.explain_gradient(key, loss(query * 0.0, key, value))
    assert (found.state, only(found).kind, only(found).text) == ("zero", "times zero", "it meets only zeros of query")
    found = ta.explain_gradient(query, loss(query, key * 0.0 + 1.0, value))
    assert found.kinds == ("constant direction",)
    assert "all keys are the same" in only(found).text


def test_round_off_is_no_gradient():
    """The same in float32, where what is left of a sum that is 0 isn't so small."""
    x = leaf(RNG(0).normal(size=(2, 64)).astype(np.float32))
    found = ta.explain_gradient(x, ta.layer_norm(x).sum())
    assert 1e-8 < np.abs(found.gradient).max() < 1e-6
    assert (found.state, only(found).kind) == ("tiny", "constant direction")
    y = leaf([0.0, 2.0, 3.0])
    found = ta.explain_gradient(y, ((y - y.mean()) * 0.1).sum())
    assert 0 < np.abs(found.gradient).max() < 1e-14
    assert (found.state, only(found).kind) == ("tiny", "cancels")


def test_many_small_slopes():
    x = y = leaf([1.0, 2.0])
    for _ in range(20):
        y = ta.sigmoid(y)
    found = ta.explain_gradient(x, y.sum())
    assert found.state == "tiny"
    assert set(found.kinds) == {"vanishing"}
    assert "one of 20 operations that shrink it" in found.reasons[0].text
    assert found.reasons[0].place.endswith("y = ta.sigmoid(y)")


def test_a_part_that_cancels():
    x = leaf([1.0, 2.0])
    found = ta.explain_gradient(x, (x * [1.0, 1.0] - x * [1.0, 3.0]).sum())
    assert (found.state, only(found).kind, found.gradient.tolist()) == ("partly zero", "cancels", [0.0, -2.0])
    y = leaf(3.0)
    found = ta.explain_gradient(y, (y * [1.0, -1.0]).sum())  # broadcast, and summed back
    assert (found.state, only(found).kind, only(found).rule) == ("zero", "cancels", "multiply")
    found = ta.explain_gradient(y, (ta.where([True, True], y, 0.0) * [1.0, -1.0]).sum())
    assert (found.state, only(found).kind, only(found).rule) == ("zero", "cancels", "where")


def test_a_factor_that_is_small():
    x = leaf([1.0, 2.0])
    found = ta.explain_gradient(x, (x * 1e-12).sum())
    assert (found.state, only(found).kind, only(found).rule) == ("tiny", "small slope", "multiply")


# ------------------------------------------------------------------------------------------------ no false reasons


def test_zeros_beside_the_way_are_not_told():
    """Half of the relus are off, as they should be; it is other rows that the embedding doesn't read."""
    rng = RNG(0)
    weight = leaf(rng.normal(size=(7, 5)))
    hidden = ta.relu(ta.embedding(weight, [1, 2, 2]) @ rng.normal(size=(5, 11)))
    assert 0 < np.count_nonzero(hidden.numpy()) < hidden.size
    found = ta.explain_gradient(weight, (hidden @ rng.normal(size=(11, 3))).sum())
    assert (found.state, only(found).kind, only(found).text) == (
        "partly zero",
        "not selected",
        "25 of 35 numbers of weight were not read",
    )


def test_zeros_in_other_columns_are_not_told():
    """A column's relu is dead. That another column is masked at times doesn't make zeros of that one's weights."""
    rng = RNG(0)
    weight = leaf(rng.normal(size=(5, 3)))
    hidden = ta.relu(np.abs(rng.normal(size=(7, 5))) @ (weight * weight) + [0.0, -1e3, 0.0])
    some = np.ones((7, 3), bool)
    some[::2, 2] = False
    shown = ta.where(some, hidden, 0.0)
    found = ta.explain_gradient(weight, (shown @ rng.normal(size=(3, 2))).sum())
    assert (found.gradient == 0).all(axis=0).tolist() == [False, True, False]
    assert (only(found).kind, only(found).text) == ("dead relu", "7 of 21 inputs are 0 or below, where a relu is flat")


def test_zeros_that_go_through_sort_and_checkpoints():
    x = leaf([3.0, 1.0, 2.0])
    top = ta.sort(x)[1:]
    found = ta.explain_gradient(x, top.sum())
    assert (found.gradient.tolist(), only(found).kind, only(found).rule) == ([1.0, 0.0, 1.0], "not selected", "index")
    kept = ta.checkpoint(lambda x: ta.exp(x) * 2.0)(x)
    masked = kept * [1.0, 1.0, 0.0]
    found = ta.explain_gradient(x, masked.sum())
    assert (found.state, only(found).kind, only(found).rule) == ("partly zero", "times zero", "multiply")
    assert only(found).place.endswith("masked = kept * [1.0, 1.0, 0.0]")
    inside = ta.checkpoint(lambda x: ta.relu(-x).sum())(x) * 2.0
    found = ta.explain_gradient(x, inside)
    assert (found.state, only(found).kind, only(found).rule) == ("zero", "dead relu", "relu")


def test_a_rule_of_ones_own():
    """One that nobody can say more of than its name; and that takes no Tensors."""

    def halved(x):
        numbers = np.asarray(x, dtype=float)
        return np.fft.ifft(np.fft.fft(numbers)).real / 2, lambda d_output: (d_output / 2,)

    def stuck(x):
        return x * 1.0, lambda d_output: (d_output * 0.0,)

    x = leaf([1.0, 2.0])
    found = ta.explain_gradient(x, apply(stuck, (x,)).sum())
    assert (found.state, only(found).kind, only(found).rule) == ("zero", "small slope", "stuck")
    assert only(found).text == "of a gradient up to 1 it passes on up to 0 to x, which lies in 1 … 2"
    half = apply(halved, (x,))
    found = ta.explain_gradient(x, (half[:1] * 2.0).sum())
    assert (found.gradient.tolist(), only(found).kind) == ([1.0, 0.0], "not selected")


CHANGES = {"as it is": 1.0, "zeros": 0.0, "huge": 1e4}


@pytest.mark.parametrize("name", RULES)
def test_every_rule_is_explained_and_left_as_it_was(name):
    """Whatever is wrong has a reason; what is told is the gradient that `backward` finds."""
    for sample in SAMPLES[name](RNG(1)):
        for change in CHANGES:
            given = [
                leaf(x * CHANGES[change]) if isinstance(x, np.ndarray) and x.dtype.kind == "f" else x
                for x in sample.arrays
            ]
            try:
                output = apply(RULES[name], tuple(given), dict(sample.options))
            except ValueError:  # bounds on what it takes
                continue
            if not output.requires_grad:
                continue
            loss = (output * RNG(2).normal(size=output.shape).astype(output.dtype)).sum()
            leaves = [x for x in given if isinstance(x, ta.Tensor)]
            told = [ta.explain_gradient(x, loss) for x in leaves]
            assert all(x.grad is None for x in leaves)
            loss.backward()
            for x, found in zip(leaves, told, strict=True):
                assert (found.state == "fine") == (not found.reasons), found
                if x.grad is None:
                    assert (found.state, found.gradient) == ("none", None)
                else:
                    np.testing.assert_array_equal(found.gradient, x.grad.numpy())
            if change == "as it is" and not sample.flat:
                assert not {"small slope", "vanishing"} & {kind for found in told for kind in found.kinds}, sample.about


def test_every_cause_is_of_a_rule_there_is():
    assert CAUSES.keys() <= RULES.keys()


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


def test_a_root_whose_copies_are_kept():
    """Losses are logged, and metrics are made of them: none of these is the root."""
    x = leaf([1.0, -2.0])
    loss = ta.relu(x).sum()
    history = [loss.detach(), float(loss)]
    with ta.no_grad():
        metric = loss / 2.0
    found = ta.explain_gradient(x)
    assert (found.state, only(found).kind) == ("partly zero", "dead relu")
    assert found.note.startswith("(the root: sum (line ")
    assert found.note in str(found)
    assert found.note.endswith("loss = ta.relu(x).sum()))")
    del history, metric


def test_the_youngest_of_several_roots():
    x = leaf([1.0, 2.0])
    first = (x * 2.0).sum()
    second = (x * 0.0).sum()
    found = ta.explain_gradient(x)
    assert found.state == "zero"
    assert found.note.endswith("second = (x * 0.0).sum()), the youngest of 2 numbers made of it)")
    assert ta.explain_gradient(x, first).note == ""
    assert ta.explain_gradient(second).state == "fine"  # in itself
    del second
    assert ta.explain_gradient(x).state == "fine"


def test_a_root_behind_a_cut():
    x, w = leaf([1.0, 2.0]), leaf(3.0)
    hidden = x * 2.0
    cut = hidden.detach()
    loss = (cut * w).sum()
    found = ta.explain_gradient(x)
    assert (found.state, only(found).kind) == ("none", "detached")
    assert only(found).place.endswith("cut = hidden.detach()")
    kept = loss.detach()
    assert ta.explain_gradient(x).note.endswith("loss = (cut * w).sum()))")
    straight = (x * 3.0).sum()
    younger = (cut * w).sum()
    found = ta.explain_gradient(x)  # what has a gradient goes before what is cut off
    assert (found.state, found.gradient.tolist()) == ("fine", [3.0, 3.0])
    del kept, straight, younger


def test_no_single_number():
    x = leaf([1.0, 2.0])
    scores = x * 2.0
    found = ta.explain_gradient(x)
    assert (found.state, only(found).kind) == ("unknown", "no root")
    assert "multiply (line " in only(found).text
    assert "scores = x * 2.0), of shape (2,)" in only(found).text
    del scores


def test_nothing_at_all():
    x = leaf(np.zeros((0, 3)))
    found = ta.explain_gradient(x, (x * 2.0).sum())
    assert (found.state, found.reasons) == ("fine", ())
    assert "its largest number 0" in str(found)


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


def test_an_infinity_made_on_the_way_forward():
    x = leaf([1000.0, 2.0])
    large = ta.exp(x)
    share = large / (large + 1.0)
    found = ta.explain_gradient(x, share.sum())
    assert (found.state, found.reasons[0].kind, found.reasons[0].rule) == ("nan", "forward", "exp")
    assert found.reasons[0].place.endswith("large = ta.exp(x)")
    assert found.reasons[0].text == "it made an infinity out of finite numbers"


def test_a_nan_that_was_given():
    x = leaf([1.0, 2.0])
    product = x * np.array([np.nan, 1.0])
    found = ta.explain_gradient(x, product.sum())
    assert (found.state, only(found).kind, only(found).text) == ("nan", "forward", "it was given a NaN, as y")
    assert only(found).place.endswith("product = x * np.array([np.nan, 1.0])")
    target = ta.tensor([np.nan, 1.0], name="target")
    found = ta.explain_gradient(x, ((x - target) ** 2).sum())
    assert (only(found).kind, only(found).text) == ("forward", "target holds a NaN to begin with")


def test_a_nan_that_does_no_harm_is_not_told():
    """The logarithm of −1 is hidden rightly, before anything is asked of its slope; the root's slope at 0 isn't."""
    x = leaf([-1.0, 4.0])
    logarithm = ta.where(x > 0, ta.log(x), 0.0)
    root = ta.sqrt(ta.maximum(x, 0.0))
    found = ta.explain_gradient(x, (logarithm + ta.where(x > 0, root, 0.0)).sum())
    assert set(found.kinds) == {"masked", "not the winner"}  # maximum doesn't let the NaN through
    y = leaf([0.0, 4.0])
    shown = ta.where(y > 0, ta.sqrt(y), 0.0)
    found = ta.explain_gradient(y, (shown + ta.where(y < 9, 0.0, ta.log(y - 5.0))).sum())
    assert (found.state, only(found).kind, only(found).rule) == ("nan", "0·inf", "sqrt")


def test_a_logarithm_of_zero_behind_a_mask():
    x = leaf([0.0, 4.0])
    found = ta.explain_gradient(x, ta.where(x > 0, ta.log(x), 0.0).sum())
    assert (found.state, found.reasons[0].kind, found.reasons[0].rule) == ("nan", "0·inf", "log")
    safe = ta.log(ta.where(x > 0, x, 1.0))
    found = ta.explain_gradient(x, ta.where(x > 0, safe, 0.0).sum())
    assert (found.state, only(found).kind) == ("partly zero", "masked")


def test_scores_of_minus_infinity_are_fine():
    """Given on purpose; a row of nothing else isn't."""
    scores = leaf(RNG(0).normal(size=(2, 3)))
    mask = np.array([[True, True, False], [True, True, True]])
    weights = ta.softmax(ta.where(mask, scores, -np.inf))
    found = ta.explain_gradient(scores, (weights * RNG(1).normal(size=(2, 3))).sum())
    assert (found.state, only(found).kind) == ("partly zero", "masked")
    mask[0] = False
    filled = ta.where(mask, 0.0, -np.inf)
    weights = ta.softmax(scores + filled)
    found = ta.explain_gradient(scores, (weights * RNG(1).normal(size=(2, 3))).sum())
    assert (found.state, only(found).kind, only(found).rule) == ("nan", "forward", "softmax")
    assert only(found).place.endswith("weights = ta.softmax(scores + filled)")


def test_a_sum_that_overflows():
    x = leaf(1.0)
    found = ta.explain_gradient(x, x * 1e308 + x * 1.5e308)
    assert found.state == "infinite"
    assert only(found).kind == "overflow"


# ------------------------------------------------------------------------------------------------ and all is well


def test_a_healthy_gradient_has_no_reasons():
    rng = RNG(0)
    block = nn.TransformerBlock(12, 3, 17, bias=False, rng=rng)
    x = leaf(rng.normal(size=(2, 5, 12)))
    loss = (block(x) * rng.normal(size=(2, 5, 12))).sum()
    for tensor in (x, *block.parameters()):
        found = ta.explain_gradient(tensor, loss)
        assert (found.state, found.reasons) == ("fine", ())
        np.testing.assert_array_equal(found.gradient, ta.tensor(found.gradient).numpy())
    loss.backward()
    x.grad.numpy()


def test_the_bias_of_keys_never_matters():
    """It moves all scores of a query alike, and a softmax doesn't see that."""
    layer = nn.MultiHeadAttention(6, 2, rng=0, dtype=np.float64)
    loss = (layer(RNG(0).normal(size=(5, 6))) * RNG(1).normal(size=(5, 6))).sum()
    assert ta.explain_gradient(layer.b_key, loss).state == "tiny"
    assert ta.explain_gradient(layer.b_query, loss).state == "fine"


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
    masked = y * 0.0
    assert ta.explain_gradient(x, masked).kinds == ("times zero",)


def test_a_long_chain_of_moves():
    """Zeros that change their places at every step."""
    x = y = leaf([1.0, 2.0, 3.0])
    for _ in range(1_000):
        y = ta.roll(y, 1)
    found = ta.explain_gradient(x, (y * [0.0, 1.0, 1.0]).sum())
    assert found.gradient.tolist() == [1.0, 1.0, 0.0]
    assert (only(found).kind, only(found).rule) == ("times zero", "multiply")


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
