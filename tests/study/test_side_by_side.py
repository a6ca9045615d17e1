"""The hand, the tape and the numbers: what is right agrees, and each mistake is named where it was made."""

import json

import numpy as np
import pytest

import tinyattn as ta
from tinyattn.by_hand import attention as by_hand
from tinyattn.study import Comparison, compare, side_by_side
from tinyattn.study.steps import STUDIES, inputs, study

RNG = np.random.default_rng(5)
MASK = RNG.random((2, 3, 7)) < 0.6
MASK[0, 1] = False  # a query that may attend to nothing
MASK[1, 2, 4] = True


def draw(*shape):
    return np.random.default_rng(sum(shape)).normal(size=shape)


def square_weights(n):
    return {f"w_{name}": draw(n, n) / n**0.5 for name in ("query", "key", "value", "output")}


RIGHT = {
    "softmax": ("softmax", {}),
    "softmax of a vector": ("softmax", {"scores": [1.0, 2.0, 4.0]}),
    "softmax far from zero": ("softmax", {"scores": 1000 + draw(2, 3)}),
    "attention": ("attention", {}),
    "one head": ("attention", {"query": draw(3, 5), "key": draw(7, 5), "value": draw(7, 11)}),
    "a batch": ("attention", {"query": draw(3, 2, 3, 5), "key": draw(3, 2, 7, 5), "value": draw(3, 2, 7, 11)}),
    "a key for all heads": ("attention", {"query": draw(2, 3, 5), "key": draw(1, 7, 5), "value": draw(7, 11)}),
    "mask": ("attention", {"mask": MASK}),
    "mask as a list": ("attention", {"mask": MASK[1].tolist()}),
    "mask as a tensor": ("attention", {"mask": ta.tensor(MASK), "causal": True}),
    "causal": ("attention", {"causal": True}),
    "causal, mask, bias, scale": ("attention", {"causal": True, "mask": MASK, "bias": draw(3, 7), "scale": 0.3}),
    "bias of a head": ("attention", {"bias": draw(2, 1, 1)}),
    "bias of one number": ("attention", {"bias": 3.0, "mask": MASK}),
    "float32 tensors": ("attention", {name: ta.tensor(draw(3, 3), dtype="float32", requires_grad=True)
                                      for name in ("query", "key", "value")}),
    "multi_head": ("multi_head", {}),
    "three heads": ("multi_head", {"n_heads": 3, "causal": True, "bias": draw(3, 1, 3)}),
    "multi_head, a batch": ("multi_head", {"x": draw(2, 5, 6), "n_heads": 2, **square_weights(6)}),
    "multi_head, one head": ("multi_head", {"x": draw(5, 6), "n_heads": np.int64(1), "scale": 2, **square_weights(6)}),
    "multi_head, mask": ("multi_head", {"mask": MASK[:, :, :3]}),
}  # fmt: skip


@pytest.mark.parametrize("case", RIGHT)
def test_our_own_hand_agrees(case):
    name, given = RIGHT[case]
    found = side_by_side(name, **given)
    assert found, found
    assert found.first is None
    assert str(found).startswith(f"{name}: the hand, the tape and the numbers agree\n")
    assert {row.status for row in found.rows} == {"agrees"}
    for row in found.rows:
        assert row.differences["hand", "tape"] < 1e-13
        assert row.differences["tape", "numbers"] < 1e-9
        assert row.index is None
        assert row.said == {}
        assert row.hand.shape == row.tape.shape == row.numbers.shape
    backward = by_hand.__dict__[f"{name}_backward"]
    made = study(name).make(inputs(study(name), given, np.random.default_rng(0)))
    order = [row.name for row in found.rows]
    assert order == list(backward(made[study(name).output], made))


@pytest.mark.parametrize("case", RIGHT)
def test_the_steps_make_what_the_hand_makes(case):
    name, given = RIGHT[case]
    taken = inputs(study(name), given, np.random.default_rng(0))
    made = study(name).make(taken)
    arguments = {key: x for key, x in taken.items() if key != "causal"}  # it is in the mask
    saved = getattr(by_hand, name)(**arguments)
    for key, x in saved.items():
        if isinstance(x, np.ndarray):
            np.testing.assert_allclose(made[key], x, rtol=1e-12, atol=1e-14, err_msg=key)
        else:
            assert made[key] == x


# ---------------------------------------------------------------------------------------------------- mistakes


def backward_of_attention(d_output, s, **mistakes):
    """A student's backward pass; each step may be replaced, and what comes after goes on from it."""
    do = {
        "d_value": lambda g: s["weights"].swapaxes(-1, -2) @ d_output,
        "d_weights": lambda g: d_output @ s["value"].swapaxes(-1, -2),
        "d_scores": lambda g: (
            s["weights"] * (g["d_weights"] - (s["weights"] * g["d_weights"]).sum(axis=-1, keepdims=True))
        ),
        "d_query": lambda g: g["d_scores"] @ s["key"] * s["scale"],
        "d_key": lambda g: g["d_scores"].swapaxes(-1, -2) @ s["query"] * s["scale"],
    } | mistakes
    gradients = {}
    for name, step in do.items():
        gradients[name] = step(gradients)
    return gradients


def softmax_of(scores):
    exp = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return exp / exp.sum(axis=-1, keepdims=True)


def in_head_1(wrong):
    """The mistake in the second head only."""

    def mistake(g, s, right):
        x = right.copy()
        x[1] = wrong(g, s)[1]
        return x

    return mistake


def forgot_the_mask(g, s):
    """Weights computed again, with all keys."""
    weights = softmax_of(s["query"] @ s["key"].swapaxes(-1, -2) * s["scale"])
    return weights * (g["d_weights"] - (weights * g["d_weights"]).sum(axis=-1, keepdims=True))


def summed_along(axis):
    def wrong(g, s):
        return s["weights"] * (g["d_weights"] - (s["weights"] * g["d_weights"]).sum(axis=axis, keepdims=True))

    return wrong


ROOT_5 = "2.23607 times what it should be"
MISTAKES = {
    "row sum missing": ("d_scores", lambda g, s: s["weights"] * g["d_weights"], ""),
    "summed along the queries": ("d_scores", summed_along(-2), ""),
    "summed over everything": ("d_scores", summed_along((-1, -2)), ""),
    "weights for derivative": ("d_scores", lambda g, s: g["d_weights"] * s["weights"] * (1 - s["weights"]), ""),
    "mask forgotten": ("d_scores", forgot_the_mask, ""),
    "sign of the scores": ("d_scores", lambda g, s: -summed_along(-1)(g, s), "-1 times what it should be"),
    "no 1/√d_k in query": ("d_query", lambda g, s: g["d_scores"] @ s["key"], ROOT_5),
    "no 1/√d_k in key": ("d_key", lambda g, s: g["d_scores"].swapaxes(-1, -2) @ s["query"], ROOT_5),
    "1/d_k": ("d_query", lambda g, s: g["d_scores"] @ s["key"] / 5, "0.447214 times what it should be"),
    "scores for weights": ("d_key", lambda g, s: g["d_weights"].swapaxes(-1, -2) @ s["query"] * s["scale"], ""),
    "nothing": ("d_value", lambda g, s: np.zeros_like(s["value"]), "zero everywhere"),
    "not a number": ("d_weights", lambda g, s: g["d_value"].sum() * np.full(s["weights"].shape, np.nan), "not finite"),
}


@pytest.mark.parametrize("where", ["everywhere", "in head 1"])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_students_mistake_is_named_where_it_was_made(mistake, where):
    name, wrong, note = MISTAKES[mistake]
    seen = {}

    def hand(d_output, s):
        right = backward_of_attention(d_output, s)[name]
        seen["right"] = right
        step = (lambda g: wrong(g, s)) if where == "everywhere" else (lambda g: in_head_1(wrong)(g, s, right))
        found = backward_of_attention(d_output, s, **{name: step})
        seen["wrong"] = found[name]
        return found

    found = side_by_side("attention", hand=hand, mask=MASK)
    assert not found
    row = found.first
    assert (row.name, row.status) == (name, "WRONG")
    apart = abs(seen["wrong"] - seen["right"])
    if name == "d_weights":
        apart = np.where(MASK, apart, 0)
    expected = np.unravel_index(np.argmax(np.where(np.isnan(apart), np.inf, apart)), apart.shape)
    assert row.index == expected
    assert row.head == expected[0]
    if where == "in head 1":
        assert row.head == 1
    else:
        assert row.note == note
    np.testing.assert_equal(row.said["hand"], seen["wrong"][expected])
    assert row.said["tape"] == pytest.approx(seen["right"][expected], abs=1e-13)
    assert row.said["numbers"] == pytest.approx(seen["right"][expected], abs=1e-9)

    statuses = {row.name: row.status for row in found.rows}
    assert statuses["d_output"] == "not given"
    before = list(statuses)[1 : list(statuses).index(name)]
    assert {statuses[earlier] for earlier in before} <= {"agrees"}
    after = {statuses[later] for later in list(statuses)[list(statuses).index(name) + 1 :]}
    assert "WRONG" not in after
    if name == "d_scores":
        assert after == {"follows"}
    verdict = found.verdict
    assert verdict.startswith(f"attention: the hand is WRONG first in {name} (")
    assert f"at head {row.head}, index {row.index}: {row.said['hand']:.6g} by hand, " in verdict


def test_mistakes_in_the_mask_only_show_where_there_is_one():
    def hand(d_output, s):
        return backward_of_attention(d_output, s, d_scores=lambda g: forgot_the_mask(g, s))

    assert side_by_side("attention", hand=hand)
    assert not side_by_side("attention", hand=hand, mask=MASK)
    assert side_by_side("attention", hand=hand, causal=True).first.name == "d_scores"


def test_weights_that_are_hidden_may_have_any_gradient_but_scores_may_not():
    def zeroed(d_output, s):
        return {"d_weights": np.where(MASK, d_output @ s["value"].swapaxes(-1, -2), 0)}

    def leaking(d_output, s):
        return {"d_scores": backward_of_attention(d_output, s)["d_scores"] + ~MASK}

    assert side_by_side("attention", hand=zeroed, mask=MASK)
    row = side_by_side("attention", hand=leaking, mask=MASK).first
    assert row.name == "d_scores"
    assert not MASK[row.index]
    assert row.said["tape"] == row.said["numbers"] == 0


@pytest.mark.parametrize(
    ("study", "name", "index", "head"),
    [
        ("softmax", "d_scores", (1, 2, 4), 1),
        ("attention", "d_output", (1, 2, 10), 1),
        ("attention", "d_value", (0, 6, 10), 0),
        ("attention", "d_weights", (1, 2, 4), 1),
        ("attention", "d_scores", (0, 0, 3), 0),
        ("attention", "d_bias", (2, 6), None),
        ("attention", "d_query", (1, 1, 3), 1),
        ("attention", "d_key", (1, 6, 4), 1),
        ("multi_head", "d_output", (2, 12), None),
        ("multi_head", "d_w_output", (10, 12), 0),
        ("multi_head", "d_w_output", (11, 12), 1),
        ("multi_head", "d_mix", (2, 11), 1),
        ("multi_head", "d_heads", (1, 2, 10), 1),
        ("multi_head", "d_value", (0, 1, 5), 0),
        ("multi_head", "d_weights", (1, 2, 0), 1),
        ("multi_head", "d_scores", (1, 0, 0), 1),
        ("multi_head", "d_bias", (1, 2), None),
        ("multi_head", "d_query", (1, 2, 4), 1),
        ("multi_head", "d_key", (0, 0, 0), 0),
        ("multi_head", "d_w_value", (6, 21), 1),
        ("multi_head", "d_w_query", (3, 4), 0),
        ("multi_head", "d_w_key", (3, 5), 1),
        ("multi_head", "d_x", (2, 6), None),
    ],
)
def test_one_number_that_is_off_is_found(study, name, index, head):
    def hand(d_output, saved):
        gradients = getattr(by_hand, f"{study}_backward")(d_output, saved)
        gradients[name] = gradients[name].copy()
        gradients[name][index] += 1e-4
        return gradients

    given = {} if study == "softmax" else {"bias": draw(3, {"attention": 7, "multi_head": 3}[study])}
    row = side_by_side(study, hand=hand, **given).first
    assert (row.name, row.index, row.head) == (name, index, head)
    assert row.said["hand"] - row.said["tape"] == pytest.approx(1e-4)
    assert row.differences["hand", "tape"] == pytest.approx(1e-4)
    assert row.differences["hand", "numbers"] == pytest.approx(1e-4)


def test_heads_in_another_order():
    def hand(d_output, s):
        gradients = by_hand.attention_backward(d_output, s)
        return gradients | {"d_key": gradients["d_key"][::-1]}

    row = side_by_side("attention", hand=hand).first
    assert (row.name, row.note) == ("d_key", "heads in another order: 0 has what is 1's, 1 has what is 0's")


def test_heads_merged_without_exchanging_the_axes():
    def hand(d_output, s):
        gradients = by_hand.multi_head_backward(d_output, s)
        merged = gradients["d_query"].reshape(len(s["x"]), -1)
        return gradients | {"d_w_query": s["x"].T @ merged}

    found = side_by_side("multi_head", hand=hand)
    assert found.first.name == "d_w_query"
    assert [row.name for row in found.rows if row.status != "agrees"] == ["d_w_query"]


def test_transposed():
    def of_another_shape(d_output, s):
        return {"d_value": d_output.swapaxes(-1, -2) @ s["weights"]}

    def of_the_same_shape(d_output, s):
        return {"d_scores": by_hand.attention_backward(d_output, s)["d_scores"].swapaxes(-1, -2)}

    row = side_by_side("attention", hand=of_another_shape).first
    assert (row.name, row.index, row.head) == ("d_value", None, None)
    assert row.note == "of shape (2, 11, 7), not (2, 7, 11): transposed?"
    assert str(row) == f"d_value (attention.4) ({row.note})"
    square = {"query": draw(3, 5), "key": draw(3, 5), "value": draw(3, 11)}
    row = side_by_side("attention", hand=of_the_same_shape, **square).first
    assert (row.name, row.note) == ("d_scores", "transposed")


def test_not_summed_over_what_was_broadcast():
    def hand(d_output, s):
        gradients = by_hand.attention_backward(d_output, s)
        return gradients | {"d_bias": gradients["d_scores"]}

    row = side_by_side("attention", hand=hand, bias=draw(7)).first
    assert row.name == "d_bias"
    assert row.note == "of shape (2, 3, 7), not (7,): not summed over what was broadcast?"


def test_what_comes_after_an_array_of_the_wrong_shape_is_still_judged():
    def hand(d_output, s):
        gradients = by_hand.attention_backward(d_output, s)
        return gradients | {"d_weights": gradients["d_weights"].swapaxes(-1, -2)}

    found = side_by_side("attention", hand=hand)
    assert [row.name for row in found.rows if row.status != "agrees"] == ["d_weights"]


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_a_mistake_is_as_wrong_at_every_scale(scale):
    def hand(factor):
        def of(d_output, s):
            gradients = by_hand.attention_backward(d_output, s)
            return gradients | {"d_scores": factor * gradients["d_scores"]}

        return of

    given = {"query": draw(3, 5), "key": draw(7, 5), "value": scale * draw(7, 11)}
    assert side_by_side("attention", hand=hand(1 + 1e-7), **given)
    row = side_by_side("attention", hand=hand(1 + 1e-5), **given).first
    assert (row.name, row.status, row.note) == ("d_scores", "WRONG", "1.00001 times what it should be")


def test_two_mistakes_are_two_and_what_follows_from_them_is_none():
    def hand(d_output, s):
        return backward_of_attention(
            d_output,
            s,
            d_scores=lambda g: s["weights"] * g["d_weights"],
            d_key=lambda g: g["d_scores"].swapaxes(-1, -2) @ s["query"],
        )

    found = side_by_side("attention", hand=hand)
    statuses = {row.name: row.status for row in found.rows if row.status not in ("agrees", "not given")}
    assert statuses == {"d_scores": "WRONG", "d_query": "follows", "d_key": "WRONG"}
    assert found["d_key"].note == ROOT_5
    assert found.first is found["d_scores"]


def test_what_is_not_given_follows_from_what_is():
    def hand(d_output, s):
        gradients = backward_of_attention(d_output, s, d_weights=lambda g: 2 * d_output @ s["value"].swapaxes(-1, -2))
        return {name: gradients[name] for name in ("d_weights", "d_key")}  # not d_scores, which is between them

    found = side_by_side("attention", hand=hand)
    assert [row.status for row in found.rows] == ["not given"] * 2 + ["WRONG"] + ["not given"] * 2 + ["follows"]


def test_right_numbers_after_wrong_ones_are_right():
    def hand(d_output, s):
        return by_hand.attention_backward(d_output, s) | {"d_scores": np.zeros((2, 3, 7))}

    found = side_by_side("attention", hand=hand)
    assert [row.name for row in found.rows if row.status != "agrees"] == ["d_scores"]


def test_nan_upstream_is_told_once():
    def hand(d_output, s):
        return backward_of_attention(d_output, s, d_scores=lambda g: np.full((2, 3, 7), np.nan))

    found = side_by_side("attention", hand=hand)
    assert [row.status for row in found.rows][-3:] == ["WRONG", "follows", "follows"]
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["rows"][3]["said"]["hand"] is None


# ---------------------------------------------------------------------------------------------------- the witnesses


def test_when_tape_and_numbers_differ_the_hand_is_not_blamed(monkeypatch):
    def off(*arguments):
        return compare.by_tape(*arguments[:4]) + 1e-3

    monkeypatch.setattr(compare, "by_differences", off)
    found = side_by_side("attention")
    assert not found
    assert {row.status for row in found.rows} == {"DISPUTED"}
    assert found.verdict.startswith("attention: the tape and the numbers differ first in d_output at head ")
    assert found.first.differences["tape", "numbers"] == pytest.approx(1e-3)


def test_a_tape_that_is_wrong_is_not_believed(monkeypatch):
    right = compare.by_tape
    monkeypatch.setattr(compare, "by_tape", lambda *arguments: right(*arguments) * 1.001)
    assert not side_by_side("softmax")


@pytest.mark.parametrize("given", [{"d_output": np.ones((2, 3, 5))}, {"scores": [[1.0], [2.0]]}], ids=["ones", "one"])
def test_where_nothing_can_be_seen_nothing_passes(given):
    found = side_by_side("softmax", hand=lambda d_output, s: {"d_scores": 0 * d_output}, **given)
    assert not found
    assert found.verdict == "softmax: all gradients are zero, so that nothing was seen"
    assert not side_by_side("attention", mask=np.zeros((3, 7), bool))


def test_gradients_that_are_zero_are_told():
    found = side_by_side("attention", query=draw(3, 5), key=draw(1, 5), value=draw(1, 11))
    assert found
    assert {row.name for row in found.rows if row.note == "all are zero"} == {"d_scores", "d_query", "d_key"}


def test_a_gradient_that_should_be_zero_and_is_not():
    one_key = {"query": draw(3, 5), "key": draw(1, 5), "value": draw(1, 11)}
    found = side_by_side("attention", hand=lambda d_output, s: {"d_scores": s["weights"]}, **one_key)
    assert (found.first.name, found.first.note, found.first.said["tape"]) == ("d_scores", "", 0)


def test_of_many_numbers_some_are_differenced_and_the_worst_always(monkeypatch):
    monkeypatch.setattr(compare, "MOST", 20)

    def hand(d_output, s):
        gradients = by_hand.attention_backward(d_output, s)
        gradients["d_key"][1, 6, 3] += 0.1
        return gradients

    found = side_by_side("attention", hand=hand)
    assert np.isfinite(found["d_value"].numbers).sum() == 20
    assert np.isfinite(found["d_key"].numbers).sum() in (20, 21)
    assert found.first.index == (1, 6, 3)
    assert found.first.said["numbers"] == pytest.approx(found.first.said["tape"], abs=1e-9)
    assert side_by_side("attention")


def test_the_seed_decides():
    same = [side_by_side("attention", rng=rng).to_dict() for rng in (None, 0, np.random.default_rng(0))]
    assert same[0] == same[1] == same[2] != side_by_side("attention", rng=1).to_dict()


def test_a_hand_that_writes_into_what_it_is_given_harms_nobody():
    def hand(d_output, saved):
        gradients = {name: x.copy() for name, x in by_hand.attention_backward(d_output, saved).items()}
        for x in (d_output, *(x for x in saved.values() if isinstance(x, np.ndarray))):
            x[...] = 0
        return gradients

    query = draw(3, 5)
    kept = query.copy()
    assert side_by_side("attention", hand=hand, query=query, key=draw(7, 5), value=draw(7, 11), mask=MASK)
    assert (query == kept).all()
    assert MASK.any()


def test_a_hand_may_return_tensors_lists_and_none():
    def hand(d_output, s):
        gradients = by_hand.attention_backward(d_output, s)
        tensor = ta.tensor(gradients["d_value"], requires_grad=True)
        return {"d_value": tensor * 1.0, "d_scores": gradients["d_scores"].tolist(), "d_query": None, "d_bias": None}

    found = side_by_side("attention", hand=hand)
    assert found
    assert [row.name for row in found.rows if row.status == "agrees"] == ["d_value", "d_scores"]


def test_the_numbers_may_be_asked_for_under_no_grad():
    with ta.no_grad():
        assert side_by_side("softmax")


# ---------------------------------------------------------------------------------------------------- what is printed


def test_the_table():
    found = side_by_side("attention", hand=lambda d_output, s: {"d_value": np.zeros((2, 7, 11))})
    lines = str(found).splitlines()
    assert lines[0] == found.verdict
    assert lines[1].split() == "gradient shape hand - tape hand - numbers tape - numbers where they differ most".split()
    (line,) = (line for line in lines if line.startswith("  d_value"))
    assert "WRONG" in line
    assert f"head {found.first.head}, index {found.first.index}  zero everywhere" in line
    assert len(lines) == 2 + len(found.rows)
    assert repr(found) == f"<Comparison: {found.verdict}>"


def test_in_a_notebook_nothing_is_taken_for_markup():
    row = side_by_side("softmax").rows[0]
    html = Comparison("<b>&", (row,), "<script>")._repr_html_()
    assert "<b>" not in html
    assert "<script>" not in html
    assert "<p>&lt;b&gt;&amp;: &lt;script&gt;</p>" in html
    assert html.count("<tr>") == 2
    assert html.count("<td>") == html.count("<th>") == 8


def test_as_a_dict_it_is_json():
    found = side_by_side("attention", hand=lambda d_output, s: {"d_value": np.zeros((2, 7, 11))})
    told = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert (told["study"], told["ok"], told["first"]) == ("attention", False, "d_value")
    assert [row["name"] for row in told["rows"]] == [row.name for row in found.rows]
    row = told["rows"][1]
    assert row["status"] == "WRONG"
    assert row["equation"] == "(attention.4)"
    assert row["index"] == list(found.first.index)
    assert set(row["differences"]) == {"hand-tape", "hand-numbers", "tape-numbers"}
    assert set(row["said"]) == {"hand", "tape", "numbers"}
    assert side_by_side("softmax").to_dict()["first"] is None


def test_rows_by_name():
    found = side_by_side("softmax")
    assert found["d_scores"] is found.rows[1]
    with pytest.raises(KeyError, match="'d_score'; there are d_weights, d_scores"):
        found["d_score"]


# ---------------------------------------------------------------------------------------------------- bad input


def hands(returned):
    return {"hand": lambda d_output, saved: returned}


BAD = [
    ("attentoin", {}, ValueError, "there is no study 'attentoin', but 'softmax', 'attention' or 'multi_head'. Did you"),
    ("x", {}, ValueError, "there is no study 'x'"),
    (np.ones(3), {}, TypeError, "needs the name of a study, 'softmax', 'attention' or 'multi_head'; got ndarray"),
    ("attention", {"keys": 1}, TypeError, "attention takes no 'keys'. Did you mean 'key'"),
    ("softmax", {"mask": MASK}, TypeError, "softmax takes no 'mask'. It takes scores"),
    ("attention", {"query": draw(3, 5), "key": draw(7, 5)}, TypeError, "attention needs 'value', or none of query,"),
    ("multi_head", {"x": draw(3, 6), **square_weights(6)}, TypeError, "multi_head needs 'n_heads'"),
    ("softmax", {"scores": 1.0}, ValueError, "scores need an axis to sum along; got a single number"),
    ("softmax", {"scores": np.ones((3, 0))}, ValueError, "scores is empty, of shape (3, 0)"),
    ("softmax", {"scores": [1.0, np.nan]}, ValueError, "scores has NaN or infinite numbers"),
    ("softmax", {"scores": [1j]}, TypeError, "scores needs real numbers; got complex128"),
    ("softmax", {"scores": ["a"]}, TypeError, "scores needs real numbers; got <U1"),
    ("attention", {"bias": np.full((3, 7), -np.inf)}, ValueError, "bias has NaN or infinite numbers, of which nothing"
     " can be compared. Hide keys with mask= instead."),
    ("attention", {"bias": MASK}, TypeError, "bias needs real numbers; got bool"),
    ("attention", {"mask": MASK.astype(int)}, TypeError, "attention: mask must be boolean, True = may attend"),
    ("attention", {"mask": MASK[:, :2]}, ValueError, "attention: mask must broadcast to"),
    ("attention", {"scale": "big"}, TypeError, "scale must be a number; got str"),
    ("attention", {"scale": np.inf}, ValueError, "scale must be finite; got inf"),
    ("attention", {"query": draw(3, 5), "key": draw(5, 7), "value": draw(5, 11)}, ValueError, "Is key transposed?"),
    ("attention", {"query": draw(5), "key": draw(5), "value": draw(5)}, ValueError, "need two axes at least"),
    ("multi_head", {"n_heads": 2.0}, TypeError, "n_heads must be a whole number; got float"),
    ("multi_head", {"n_heads": True}, TypeError, "n_heads must be a whole number; got bool"),
    ("multi_head", {"n_heads": 0}, ValueError, "n_heads must be 1 or more; got 0"),
    ("multi_head", {"x": draw(3, 6), "n_heads": 4, **square_weights(6)}, ValueError, "w_query must be (d_model, n_h"),
    ("multi_head", {"x": draw(3, 7), "n_heads": 2, **square_weights(6)}, ValueError, "here (7, a multiple of 2); got"),
    ("multi_head", {"x": draw(6), "n_heads": 2, **square_weights(6)}, ValueError, "x must be (..., n, d_model); got"),
    ("multi_head", {"x": draw(3, 6), "n_heads": 2, **square_weights(6), "w_output": draw(5, 6)}, ValueError, "w_output"
     " must have a row for each column of w_value, (6, d_output); got (5, 6)"),
    ("multi_head", {"x": draw(3, 6), "n_heads": 2, **square_weights(6), "w_key": draw(6, 8)}, ValueError, "w_query and"
     " w_key must have one shape; got (6, 6) and (6, 8)"),
    ("softmax", {"d_output": np.ones((3, 5))}, ValueError, "d_output must have the output's shape, (2, 3, 5); got"),
    ("softmax", {"d_output": np.full((2, 3, 5), np.inf)}, ValueError, "d_output has NaN or infinite"),
    ("softmax", {"rng": "seed"}, TypeError, "rng must be a numpy.random.Generator, or a seed; got str"),
    ("softmax", {"hand": {"d_scores": 1}}, TypeError, "hand must be a function of d_output and saved; got dict"),
    ("softmax", hands(np.ones((2, 3, 5))), TypeError, "the hand must return a dict of gradients, by name; got ndarray"),
    ("softmax", hands({}), ValueError, "the hand returned no gradients, of d_weights, d_scores"),
    ("softmax", hands({"d_scores": None}), ValueError, "the hand returned no gradients"),
    ("softmax", hands({"d_score": 1.0}), ValueError, "returned 'd_score', which isn't compared. Did you mean 'd_sc"),
    ("attention", hands({"d_bias": 1.0}), ValueError, "returned 'd_bias', which isn't compared"),
    ("softmax", hands({7: 1.0}), ValueError, "returned 7, which isn't compared. There are d_weights, d_scores"),
    ("softmax", hands({"d_scores": [[1], [1, 2]]}), TypeError, "the hand's d_scores needs real numbers"),
    ("softmax", hands({"d_scores": np.ones((2, 3, 5), complex)}), TypeError, "d_scores needs real numbers; got c"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "given", "error", "said"), BAD, ids=[said[:40] for *_, said in BAD])
def test_bad_input(name, given, error, said):
    with pytest.raises(error) as raised:
        side_by_side(name, **given)
    assert said in str(raised.value)


def test_what_the_hand_raises_goes_through():
    with pytest.raises(ZeroDivisionError):
        side_by_side("softmax", hand=lambda d_output, saved: 1 / 0)


def test_it_is_on_the_face():
    assert ta.side_by_side is side_by_side
    assert isinstance(ta.side_by_side("softmax"), ta.Comparison)


def test_every_study_has_a_gradient_for_each_of_its_arrays():
    for name, one in STUDIES.items():
        made = one.make(inputs(one, {} if name == "softmax" else {"bias": 1.0}, np.random.default_rng(0)))
        arrays = {key for key, x in made.items() if isinstance(x, np.ndarray)}
        assert arrays == set(one.gradients)
