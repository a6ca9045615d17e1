"""Exercises: what is right is exact or close, in whatever form; each mistake is seen where it is, and explained."""

import re
import subprocess
import sys

import numpy as np
import pytest

import tinyattn as ta
from tests.study import students
from tests.study.students import T, mean, row
from tinyattn import study
from tinyattn.by_hand import attention, block
from tinyattn.gallery import FAULTS
from tinyattn.study import checking
from tinyattn.study.exercises import EXERCISES
from tinyattn.study.faults import BACKWARDS


@pytest.fixture(params=EXERCISES)
def name(request):
    return request.param


def samples_of(name, seed=0):
    return EXERCISES[name].samples(np.random.default_rng(seed))


# ---------------------------------------------------------------------------------------------------- the exercises


def test_what_the_hand_makes_is_what_the_steps_make(name):
    """The forward pass that is shown, and the steps from which the truth follows, are the same computation."""
    exercise = EXERCISES[name]
    for about, given in samples_of(name).items():
        saved = exercise.forward(**given)
        for step in exercise.study.steps:
            uses = exercise.study.uses(step)
            made = exercise.study.steps[step](*(saved[used] for used in uses))
            np.testing.assert_allclose(made, saved[step], rtol=1e-12, atol=1e-13, err_msg=f"{about}: {step}")


def test_the_truth_is_what_differences_say(name):
    exercise = EXERCISES[name]
    rng = np.random.default_rng(3)
    about, given = next(iter(samples_of(name).items()))
    saved = exercise.forward(**given)
    arrays = {k: x for k, x in given.items() if isinstance(x, np.ndarray) and x.dtype == float}
    direction = {k: rng.normal(size=x.shape) for k, x in arrays.items()}
    c = rng.normal(size=np.shape(saved[exercise.study.output]))

    assert direction

    def at(h):
        moved = {k: x + h * direction[k] if k in direction else x for k, x in given.items()}
        return float((c * exercise.forward(**moved)[exercise.study.output]).sum())

    h = 1e-3
    slope = (4 * (at(h / 2) - at(-h / 2)) / h - (at(h) - at(-h)) / (2 * h)) / 3
    true = checking._chain(exercise.study, saved, c)
    assert slope == pytest.approx(sum((true[k] * d).sum() for k, d in direction.items()), rel=1e-8), about


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_our_own_hand_is_exact(name, seed):
    found = study.check(name, BACKWARDS[name], rng=seed)
    assert found, found
    assert found.verdict == f"{name}: exact"
    assert {row.status for row in found.rows} == {"exact"}
    assert [row.name for row in found.rows] == list(EXERCISES[name].gradients)
    assert found.hint() == "Nothing is wrong."
    assert found.first is None


def test_our_own_hand_gives_them_in_the_order_of_the_exercise(name):
    exercise = EXERCISES[name]
    saved = exercise.forward(**next(iter(samples_of(name).values())))
    gradients = BACKWARDS[name](np.ones(np.shape(saved[exercise.study.output])), saved)
    assert set(gradients) == set(exercise.gradients)
    assert set(exercise.asked) < set(gradients)


def test_no_two_lengths_are_the_same_by_chance():
    for name, exercise in EXERCISES.items():
        given = next(iter(exercise.samples(np.random.default_rng(0)).values()))
        for key, x in given.items():
            if isinstance(x, np.ndarray) and not key.startswith("w_"):
                assert len(set(x.shape)) == x.ndim, (name, key)


def test_the_task_shows_the_forward_pass_and_every_shape(name):
    told = str(study.exercise(name))
    assert f"def {name}(" in told
    assert '"""' not in told
    for asked in EXERCISES[name].asked:
        assert asked in told
    for saved, shape in study.exercise(name).shapes.items():
        assert f"    {saved} " in told
        assert shape in told
    assert max(map(len, told.splitlines())) <= 122
    assert repr(study.exercise(name)) == told


# ---------------------------------------------------------------------------------------------------- right answers


def float32(backward):
    def coarse(d_output, saved):
        def as32(x):
            return x.astype(np.float32) if isinstance(x, np.ndarray) and x.dtype.kind == "f" else x

        return backward(as32(d_output), {key: as32(x) for key, x in saved.items()})

    return coarse


def by_differences(d_weights, saved, h=1e-6):
    """What somebody hands in who has derived nothing."""
    scores = np.where(np.isfinite(saved["scores"]), saved["scores"], -1e9)
    found = np.zeros_like(scores)
    for place in np.ndindex(scores.shape):
        step = np.zeros_like(scores)
        step[place] = h
        ends = (attention.softmax(scores + step)["weights"], attention.softmax(scores - step)["weights"])
        found[place] = (d_weights * (ends[0] - ends[1])).sum() / (2 * h)
    return np.where(np.isfinite(saved["scores"]), found, 0.0)


def by_the_tape(d_output, s):
    x, weight, bias = (ta.tensor(s[name], requires_grad=True) for name in ("x", "weight", "bias"))
    ta.layer_norm(x, weight, bias, eps=s["eps"]).backward(d_output)
    return x.grad, weight.grad, bias.grad


def norm_by_steps(d_output, s):
    g = block.layer_norm_backward(d_output, s)
    return g["d_x"].tolist(), g["d_weight"], g["d_bias"]


def with_einsum(d_output, s):
    d_weights = np.einsum("...id,...jd->...ij", d_output, s["value"])
    d_scores = s["weights"] * d_weights - s["weights"] * np.einsum("...ij,...ij->...i", s["weights"], d_weights)[
        ..., None]  # fmt: skip
    return {
        "d_value": np.einsum("...ij,...id->...jd", s["weights"], d_output),
        "d_weights": d_weights,
        "d_scores": d_scores,
        "d_query": s["scale"] * np.einsum("...ij,...jd->...id", d_scores, s["key"]),
        "d_key": s["scale"] * np.einsum("...ij,...id->...jd", d_scores, s["query"]),
    }


RIGHT = {
    "bare array": ("softmax", lambda d, s: s["weights"] * (d - row(s["weights"] * d)), "exact"),
    "in two products": ("softmax", lambda d, s: s["weights"] * d - s["weights"] * row(s["weights"] * d), "exact"),
    "the other way round": ("softmax", lambda d, s: -s["weights"] * (row(s["weights"] * d) - d), "exact"),
    "by the matrix": ("softmax", students.softmax_by_the_matrix, "exact"),
    "a mean": ("softmax", lambda d, s: s["weights"] * (d - d.shape[-1] * mean(s["weights"] * d)), "exact"),
    "as a Tensor": ("softmax", lambda d, s: ta.tensor(s["weights"] * (d - row(s["weights"] * d))), "exact"),
    "as a list": ("softmax", lambda d, s: (s["weights"] * (d - row(s["weights"] * d))).tolist(), "exact"),
    "a tuple of one": ("softmax", lambda d, s: (s["weights"] * (d - row(s["weights"] * d)),), "exact"),
    "float32": ("softmax", float32(attention.softmax_backward), "close"),
    "attention by einsum": ("attention", with_einsum, "exact"),
    "attention in float32": ("attention", float32(attention.attention_backward), "close"),
    "no gradient in hidden weights": ("attention", lambda d, s: attention.attention_backward(d, s) | {
        "d_weights": np.where(True if s["mask"] is None else s["mask"], d @ T(s["value"]), 0.0)}, "exact"),
    "scaled scores": ("attention", students.attended(
        d_query=lambda g, s: (s["scale"] * g["d_scores"]) @ s["key"]), "exact"),
    "norm in three parts": ("layer_norm", students.normed(), "exact"),
    "norm by the tape": ("layer_norm", by_the_tape, "close"),  # it subtracts the mean of x a second time
    "norm as a list": ("layer_norm", norm_by_steps, "exact"),
    "norm in float32": ("layer_norm", float32(block.layer_norm_backward), "close"),
    "cross-entropy": ("cross_entropy", students.surprised(lambda d, w, t, s: d * w - d * t), "exact"),
    "cross-entropy of logarithms": ("cross_entropy", students.surprised(
        lambda d, w, t, s: (np.exp(s["log_weights"]) - t) * d), "exact"),
    "cross-entropy in float32": ("cross_entropy", float32(block.cross_entropy_backward), "close"),
    "multi-head in float32": ("multi_head", float32(attention.multi_head_backward), "close"),
    "a block in float32": ("block", float32(block.block_backward), "close"),
}  # fmt: skip


@pytest.mark.parametrize("case", RIGHT)
def test_what_is_right_is_exact_or_close_in_whatever_form(case):
    name, backward, expected = RIGHT[case]
    found = study.check(name, backward)
    assert found, found
    asked = {found[gradient].status for gradient in found.asked}
    assert max(asked, key=("exact", "close").index) == expected, found
    assert found.verdict.startswith(f"{name}: {expected}")
    assert found.problem is None


def test_differences_are_close_but_not_exact():
    given = {"plain": samples_of("softmax")["plain"]}
    sample = checking._sample(EXERCISES["softmax"], "plain", given["plain"], np.random.default_rng(0))
    yours = by_differences(sample.d_output, sample.saved)
    statuses = {key: case.status for key, case in
                checking._compared(EXERCISES["softmax"], sample, {"d_scores": yours})}  # fmt: skip
    assert statuses["d_scores"] == "close"


@pytest.mark.parametrize(("off", "status"), [(0.0, "exact"), (1e-12, "close"), (1e-8, "close"), (1e-4, "wrong")])
def test_how_far_off_is_exact_close_or_wrong(name, off, status):
    """One number, of one gradient, is off by that much of the largest one: every gradient is looked at."""
    for gradient in EXERCISES[name].asked:

        def backward(d_output, saved, gradient=gradient):
            g = BACKWARDS[name](d_output, saved)
            g[gradient] = g[gradient].copy()
            g[gradient].flat[-1] += off * abs(g[gradient]).max()
            return g

        found = study.check(name, backward)
        assert found[gradient].status == status, (gradient, found)
        assert bool(found) == (status != "wrong")
        if status == "wrong":
            assert found.first.name == gradient
            shape = np.shape(EXERCISES[name].forward(**samples_of(name)[found.first.sample])[gradient[2:]])
            assert found.first.index == tuple(n - 1 for n in shape)


# ---------------------------------------------------------------------------------------------------- wrong answers


def test_there_are_enough_of_them():
    assert len(students.WRONG) > 40
    assert {name for name, *_ in students.WRONG.values()} == set(EXERCISES)


@pytest.mark.parametrize("case", students.WRONG)
def test_a_mistake_is_seen_where_it_is_and_explained(case):
    name, backward, gradient, words = students.WRONG[case]
    found = study.check(name, backward)
    assert not found
    assert found.first.name == gradient
    assert found.first.status == "wrong"
    assert found.verdict == f"{name}: wrong, first in {gradient}"
    hints = [found.hint() for _ in range(3)]
    assert [hint[:10] for hint in hints] == ["Hint 1, th", "Hint 2, th", "Hint 3, th"]
    assert words in hints[1]
    assert found.hint() == "There are no more hints."
    assert found.hints == tuple(hints)
    for text in hints:
        assert "np." not in text
        assert "(d_" not in text, "no formula"
        assert "nan" not in text
    order = [row.name for row in found.rows]
    before = {row.status for row in found.rows[: order.index(gradient)]}
    assert before <= {"exact", "not given"}


@pytest.mark.parametrize("case", students.WRONG)
@pytest.mark.parametrize("seed", [1, 2])
def test_neither_verdict_nor_hint_hang_on_the_samples(case, seed):
    name, backward, gradient, words = students.WRONG[case]
    found = study.check(name, backward, rng=seed, hint=2)
    assert found.first.name == gradient
    assert words in found.hints[1]


def test_the_first_wrong_element_is_shown_with_the_true_one():
    seen = {}

    def backward(d_weights, saved):
        right = attention.softmax_backward(d_weights, saved)["d_scores"]
        wrong = right.copy()
        if wrong.shape == (2, 3, 5):
            wrong[0, 2, 1] += 1.0
            wrong[1, 1, 1] += 2.0
            seen.setdefault("true", right[0, 2, 1])
        return wrong

    found = study.check("softmax", backward)
    first = found.first
    assert (first.name, first.sample, first.index) == ("d_scores", "plain", (0, 2, 1))
    assert first.true == pytest.approx(seen["true"], abs=1e-14)
    assert first.yours == pytest.approx(seen["true"] + 1.0)
    assert f"first at [0, 2, 1] of 'plain': yours {first.yours:.6g}, true {first.true:.6g}" in str(found)


def test_what_follows_from_a_mistake_is_none():
    found = study.check("attention", students.attended(d_scores=lambda g, s: s["weights"] * g["d_weights"]))
    statuses = {row.name: row.status for row in found.rows if row.status != "not given"}
    assert statuses == {"d_value": "exact", "d_weights": "exact", "d_scores": "wrong", "d_query": "follows",
                        "d_key": "follows"}  # fmt: skip
    two = students.attended(
        d_scores=lambda g, s: s["weights"] * g["d_weights"],
        d_key=lambda g, s: T(g["d_scores"]) @ s["query"],
    )
    found = study.check("attention", two)
    assert [found[key].status for key in ("d_scores", "d_query", "d_key")] == ["wrong", "follows", "wrong"]


def test_a_mistake_that_only_a_mask_shows():
    def forgot(d_output, s):
        scores = s["query"] @ T(s["key"]) * s["scale"]
        weights = attention.softmax(scores)["weights"]
        return attention.attention_backward(d_output, s | {"weights": weights})

    found = study.check("attention", forgot)
    assert found.first.sample == "some keys hidden"
    assert "It is right in 'plain'" in study.check("attention", forgot, hint=2).hints[1]


def test_what_is_not_given_is_still_to_come():
    def half(d_output, s):
        g = attention.attention_backward(d_output, s)
        return {"d_value": g["d_value"], "d_weights": g["d_weights"], "d_scores": None}

    found = study.check("attention", half)
    assert not found
    assert found.first is None
    assert found.verdict == "attention: right so far; d_scores, d_query, d_key are still to come"
    assert found.hint() == "Hint 1, the shape: d_scores has that of scores, (2, 3, 7) here."
    assert found.hint().startswith("Hint 2, the term: scores goes into weights, so d_scores is made of d_weights.")


@pytest.mark.parametrize("rule", ["softmax", "layer_norm"])
def test_the_gallery_s_faults_are_seen(rule):
    """Wrong backwards that were planted for another checker."""
    faults = [fault for fault in FAULTS.values() if fault.rule == rule]
    assert len(faults) >= 8
    for fault in faults:

        def backward(d_output, s, fault=fault):
            if rule == "softmax":
                return fault.backward(d_output, s["weights"], -1)[0]
            d_x, *shared = fault.backward(d_output, s["normal"], 1 / s["deviation"], s["weight"])
            return d_x, *(attention.summed_like(d, s["weight"]) for d in shared)

        found = study.check(rule, backward)
        assert found.problem is None
        assert not found, fault
        assert found.first is not None


# ---------------------------------------------------------------------------------------------------- hints


def test_hints_come_one_by_one_and_are_shown():
    found = study.check("softmax", students.WRONG["row sum missing"][1])
    assert found.hints == ()
    assert "(3 hints: .hint() tells the next)" in str(found)
    first = found.hint()
    assert repr(first) == str(first)
    assert str(first) in str(found)
    assert "(2 hints: .hint() tells the next)" in str(found)
    at_once = study.check("softmax", students.WRONG["row sum missing"][1], hint=1)
    assert at_once.hints == (first,)
    assert study.check("softmax", students.WRONG["row sum missing"][1], hint=99).hints[0] == first


def test_the_hint_about_a_shape_says_what_to_do():
    def not_summed(d_output, s):
        return students.normed(d_bias=lambda d, g, s: g)(d_output, s)

    hints = study.check("layer_norm", not_summed, hint=3).hints
    assert "d_bias has that of bias, (5,) in the sample 'plain'; yours is (2, 3, 5)." in hints[0]
    assert "summed over all of them?" in hints[0]
    assert "aren't added up yet" in hints[1]
    assert "every axis but the last" in hints[2]
    turned = students.attention_but(d_value=lambda g, s: T(g["d_value"]))
    assert study.check("attention", turned, hint=1).hints[0].endswith("Is it transposed?")
    summed = students.attention_but(d_value=lambda g, s: g["d_value"].sum(axis=0))
    assert study.check("attention", summed, hint=1).hints[0].endswith("Is it summed over too much?")


def test_what_is_added_or_moved_is_not_called_a_product():
    hints = study.check("layer_norm", lambda d, s: {"d_x": s["x"] * 0, "d_bias": None}, hint=3)
    assert not hints
    told = hints.diagnosis.hints
    assert told("d_bias")[1].endswith("so d_bias is made of d_output; nothing is multiplied.")
    assert told("d_weight")[1].endswith("so d_weight is made of d_output; it is one product.")


def test_what_nothing_explains_is_said_to_be_so():
    def odd(d_weights, s):
        right = attention.softmax_backward(d_weights, s)["d_scores"]
        right[..., 1] = np.sin(right[..., 1] + 1)
        return right

    hint = study.check("softmax", odd, hint=2).hints[1]
    assert "nothing simple explains your numbers. In 'plain' all that is wrong lies at 1 of axis -1." in hint


# ---------------------------------------------------------------------------------------------------- hostile


class Strange:
    def __array__(self, *arguments, **options):
        raise RuntimeError("no array")


class Shut(dict):
    def values(self):
        raise RuntimeError("shut")


class Exits:
    def __array__(self, *arguments, **options):
        raise SystemExit(4)


class Unspeakable(Exception):
    def __str__(self):
        raise ValueError


def raises(error):
    def backward(d_output, saved):
        raise error

    return backward


def in_place(d_weights, saved):
    saved["weights"] *= 2.0
    return saved["weights"]


def in_place_d_output(d_weights, saved):
    d_weights -= 1.0
    return d_weights


def test_what_was_right_before_an_error_is_not_called_right():
    def fails_on_matrices(d_output, saved):
        if d_output.ndim < 3:
            raise ValueError("no")
        return students.softmax(lambda d, w: w * (d - row(w * d)))(d_output, saved)

    found = study.check("softmax", fails_on_matrices)
    assert not found
    assert "d_scores  exact      in the samples before" in str(found)


@pytest.mark.parametrize("seed", range(5))
def test_dividing_by_the_weight_of_the_target_is_found_out(seed):
    def divides(d_output, saved):
        d_weights = -saved["one_hot"] / saved["weights"] * d_output / saved["losses"].size
        mean = (saved["weights"] * d_weights).sum(axis=-1, keepdims=True)
        return saved["weights"] * (d_weights - mean)

    with np.errstate(all="ignore"):
        assert not study.check("cross_entropy", divides, rng=seed)


def deep(d_output, saved):
    return deep(d_output, saved)


HOSTILE = {
    "not yet": (lambda d, s: None, "Nothing yet: your function returned no gradients. Return a dict with "),
    "no return": (lambda d, s: None, " Is a return missing?"),
    "no keepdims": (lambda d, s: d - d.sum(axis=-1), "keepdims=True keeps its axis. The shapes there"),
    "a dict that is shut": (lambda d, s: Shut(d_scores=d), "In the sample 'plain': shut"),
    "an error of two lines": (raises(ValueError("one\n  two")), ": one two. The shapes there"),
    "nothing, by name": (lambda d, s: {"d_scores": None, "d_weights": None}, "Nothing yet: your function returned no"),
    "a tuple of nothing": (lambda d, s: (None,), "Nothing yet: your function returned no gradients"),
    "an empty dict": (lambda d, s: {}, "Nothing yet: your function returned no gradients"),
    "not implemented": (raises(NotImplementedError()), "Nothing yet: your function raises NotImplementedError."),
    "an error": (raises(ValueError("oh")), r"In the sample 'plain' your function raised ValueError, at line .*: oh"),
    "no words": (raises(Unspeakable()), "raised Unspeakable, .*: no more is said"),
    "an exit": (raises(SystemExit(3)), "your function raised SystemExit"),
    "without an end": (deep, "your function raised RecursionError"),
    "wrong arguments": (lambda d: d, r"raised TypeError: .*takes 1 positional argument but 2 were given"),
    "a misfit": (lambda d, s: d @ s["weights"], r"ValueError, at line .*: d_output \(2, 3, 5\), scores \(2, 3, 5\)"),
    "a wrong key": (lambda d, s: s["weight"], "your function raised KeyError"),
    "a number": (lambda d, s: 3.0, None),
    "a string": (lambda d, s: "text", "your d_scores needs real numbers, in one array; got str of dtype <U4"),
    "complex": (lambda d, s: d * 1j, "your d_scores needs real numbers, in one array; got ndarray of dtype complex128"),
    "booleans": (lambda d, s: d > 0, "your d_scores needs real numbers, .* bool"),
    "objects": (lambda d, s: d.astype(object), "your d_scores needs real numbers, .* object"),
    "a masked array": (lambda d, s: np.ma.array(d), "your d_scores can't be a masked array"),
    "ragged": (lambda d, s: [[1.0], [1.0, 2.0]], "lists of numbers must be of one length"),
    "an object": (lambda d, s: Strange(), "In the sample 'plain': no array"),
    "an object that exits": (lambda d, s: Exits(), r"raised SystemExit, at line .*: 4\. The shapes there"),
    "a function": (lambda d, s: (lambda: 3), "your d_scores needs real numbers, in one array; got function$"),
    "a generator": (lambda d, s: (x for x in d), "your d_scores needs real numbers, in one array; got generator$"),
    "a long name": (lambda d, s: {"x" * 5000: d}, r"^Your function returned 'x{9,}\.\.\.x{9,}', which is no gradient"),
    "two": (lambda d, s: (d, d), "returned a tuple of 2, and one gradient is asked for"),
    "a wrong name": (lambda d, s: {"d_score": d}, r"'d_score', which is no gradient .* Did you mean 'd_scores'"),
    "a name that is none": (lambda d, s: {3: d}, "returned 3, which is no gradient of this exercise"),
    "in place": (in_place, r"changed saved\['weights'\] in place"),
    "d_output in place": (in_place_d_output, "changed d_output in place"),
    "NaN": (lambda d, s: d * np.nan, None),
    "infinite": (lambda d, s: d * np.inf, None),
    "huge": (lambda d, s: d * 1e300, None),
    "tiny": (lambda d, s: d * 1e-320, None),
    "empty": (lambda d, s: np.zeros(0), None),
    "too many axes": (lambda d, s: np.zeros((1, 1, 1, *d.shape)), None),
    "whole numbers": (lambda d, s: np.ones(d.shape, int), None),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("case", HOSTILE)
def test_whatever_a_function_does_is_told(case):
    backward, message = HOSTILE[case]
    found = study.check("softmax", backward)
    assert not found
    if message is None:
        assert found.problem is None
        assert found.first.name == "d_scores"
    else:
        assert re.search(message, found.problem), found.problem
        assert found.verdict == f"softmax: {found.problem}"
        assert "\n" not in found.problem
    for text in (str(found), repr(found), found._repr_html_(), *(found.hint() for _ in range(4))):
        assert text
    assert len(found.hints) == 3


def test_what_is_changed_in_place_is_not_changed_for_the_next():
    before = {key: x.copy() for key, x in checking._kept("softmax", 0)[0].saved.items()}
    study.check("softmax", in_place)
    study.check("softmax", in_place_d_output)
    for key, x in checking._kept("softmax", 0)[0].saved.items():
        np.testing.assert_array_equal(x, before[key])
    assert study.check("softmax", attention.softmax_backward)


def test_a_function_may_do_with_the_dict_as_it_likes():
    def backward(d_output, saved):
        saved["mine"] = 3
        saved.pop("scores")
        return attention.softmax_backward(d_output, saved)

    assert study.check("softmax", backward)


def test_an_error_in_a_later_sample_is_told_with_it():
    def flat(d_weights, saved):
        if d_weights.ndim != 3:
            raise ValueError("three axes, please")
        return attention.softmax_backward(d_weights, saved)

    found = study.check("softmax", flat)
    assert not found
    assert found.problem.startswith("In the sample 'a matrix' your function raised ValueError")
    assert "three axes, please" in found.verdict
    assert found.hint() == found.problem


def test_where_there_are_names_an_array_alone_is_refused():
    found = study.check("attention", lambda d, s: d)
    assert found.problem.startswith("Your function returned one ndarray. Return a dict with d_value, d_weights")


def test_several_may_be_a_list_but_not_of_another_length():
    def right(d_output, s):
        return list(students.normed()(d_output, s))

    assert study.check("layer_norm", right).verdict == "layer_norm: exact"
    found = study.check("layer_norm", lambda d, s: right(d, s)[:2])
    assert found.problem.startswith("Your function returned a list of 2, and 3 gradients are asked for.")


@pytest.mark.filterwarnings("error")
def test_what_numpy_is_told_to_do_about_overflow_is_left_to_the_caller(name):
    with np.errstate(all="raise"):
        found = study.check(name, BACKWARDS[name], rng=12345)
        assert study.check(name, lambda d, s: np.sin(3 * d + 1), rng=12345, hint=3) is not None
    assert found


def test_what_came_in_may_be_handed_back_wrong(name):
    """There's no step that it goes into, and still there are hints."""
    given = f"d_{EXERCISES[name].study.output}"
    found = study.check(name, lambda d, s: BACKWARDS[name](d, s) | {given: np.sin(3 * d * d + 1)}, hint=3)
    assert found.first.name == given
    assert len(found.hints) == 3
    assert "d_v" not in found.hints[2]
    if name != "cross_entropy":  # where it is one number, and so a multiple
        assert f"{given} is what your function is given" in found.hints[1]


def test_html_is_escaped():
    found = study.check("softmax", raises(ValueError("<script>alert(1)</script>")))
    assert "<script>" not in found._repr_html_()
    assert "&lt;script&gt;" in found._repr_html_()


def test_interrupting_goes_through():
    with pytest.raises(KeyboardInterrupt):
        study.check("softmax", raises(KeyboardInterrupt()))


MISUSE = [
    (lambda: study.check("text", len), ValueError, "^check: there is no exercise 'text', but 'softmax', "),
    (lambda: study.check("x" * 5000, len), ValueError, r"^check: there is no exercise 'x{9,}\.\.\.x{9,}', but"),
    (lambda: study.check("sofmax", len), ValueError, r"Did you mean 'softmax'\?$"),
    (lambda: study.check(3, len), TypeError, "^check: needs the name of an exercise, of .*; got int$"),
    (lambda: study.check("softmax", 3), TypeError, "^check: needs a function of d_output and saved; got int$"),
    (lambda: study.check("softmax", None), TypeError, "^check: needs a function .*; got NoneType$"),
    (lambda: study.check("softmax", len, hint="1"), TypeError, "^check: hint must be a whole number; got str$"),
    (lambda: study.check("softmax", len, hint=True), TypeError, "^check: hint must be a whole number; got bool$"),
    (lambda: study.check("softmax", len, hint=-1), ValueError, "^check: hint must be 0 or more; got -1$"),
    (lambda: study.check("softmax", len, rng="text"), TypeError, "^check: rng must be .*, or a seed; got str$"),
    (lambda: study.check("softmax", len, rng=-1), ValueError, "^check: the seed must be 0 or more; got -1$"),
    (lambda: study.check("softmax", len, rng=True), TypeError, "^check: rng must be .*; got bool$"),
    (lambda: study.exercise("text"), ValueError, "^exercise: there is no exercise 'text'"),
    (lambda: study.exercise(None), TypeError, "^exercise: needs the name of an exercise, .*; got NoneType$"),
    (lambda: study.check("softmax", attention.softmax_backward)["text"], KeyError, "there are d_weights, d_scores"),
]


@pytest.mark.parametrize("i", range(len(MISUSE)))
def test_what_makes_no_sense_is_told(i):
    call, kind, message = MISUSE[i]
    with pytest.raises(kind, match=message):
        call()


# ---------------------------------------------------------------------------------------------------- the face


def test_samples_come_from_the_generator_that_is_given():
    rng = np.random.default_rng(7)
    first = study.check("softmax", students.WRONG["row sum missing"][1], rng=rng).first
    second = study.check("softmax", students.WRONG["row sum missing"][1], rng=rng).first
    assert first.true != second.true
    again = study.check("softmax", students.WRONG["row sum missing"][1], rng=np.random.default_rng(7)).first
    assert again.true == first.true


def test_the_face_has_it_without_importing_it_first():
    code = "import sys, tinyattn as ta; assert 'tinyattn.study' not in sys.modules; print(ta.study.check.__name__)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "check\n"


@pytest.mark.parametrize("seed", range(3))
def test_no_numbers_of_whatever_shape_and_size_are_too_much_for_it(name, seed):
    rng = np.random.default_rng([seed, 11])
    for gradient in EXERCISES[name].gradients:

        def backward(d_output, saved, gradient=gradient):
            g = BACKWARDS[name](d_output, saved)
            shape = list(g[gradient].shape)
            for _ in range(int(rng.integers(3))):
                match rng.integers(4) if shape else 0:
                    case 0:
                        shape.insert(0, int(rng.integers(1, 4)))
                    case 1:
                        shape.pop()
                    case 2:
                        shape[int(rng.integers(len(shape)))] = int(rng.choice([1, 2, 7]))
                    case 3:
                        shape.reverse()
            return g | {gradient: rng.choice([1e-300, 1.0, 1e200]) * rng.normal(size=shape)}

        found = study.check(name, backward, hint=3)
        assert not found
        assert found.problem is None
        assert len(found.hints) == 3
        assert str(found)
        assert found._repr_html_()
