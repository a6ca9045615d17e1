"""Where it went wrong: the first operation inside a function whose own backward is wrong."""

import numpy as np
import pytest

import tinyattn as ta
from tinyattn.gradcheck import gradcheck

RNG = np.random.default_rng(3)
X, W = RNG.normal(size=(3, 5)), 0.5 * RNG.normal(size=(5, 5))


@pytest.fixture
def faulty(own_rules):
    """A softmax without the row sum in its backward."""

    @ta.rule
    def faulty_softmax(scores, *, axis=-1):
        exp = np.exp(scores - np.max(scores, axis=axis, keepdims=True))
        weights = exp / exp.sum(axis=axis, keepdims=True)
        return weights, lambda d_weights: (weights * d_weights,)

    return faulty_softmax


@pytest.fixture
def doubled(own_rules):
    """A sine whose gradient is twice what it should be."""

    @ta.rule
    def doubled_sine(x):
        return np.sin(x), lambda d_output: (2 * d_output * np.cos(x),)

    return doubled_sine


def test_the_operation_is_named_with_its_place_and_its_own_report(faulty):
    def attend(x, w):
        normed = ta.layer_norm(x)
        scores = normed @ w @ normed.T
        weights = faulty(scores)
        weights.name = "weights"
        return ta.tanh(weights @ x) + x

    report = gradcheck(attend, (X, W))
    assert not report
    place = report.place
    assert (place.rule, place.number, place.total) == ("faulty_softmax", 5, 8)
    assert place.shapes == ((3, 3),)
    assert place.name == "weights"
    assert place.line.endswith(": weights = faulty(scores)")
    assert "test_locate.py" in place.line
    assert place.report.wrong.argument == "scores"
    assert place.report.guess.kind == "missing term"
    assert "faulty_softmax, operation 5 of 8, given shapes (3, 3), named 'weights', made in line" in str(report)
    assert report.to_dict()["place"]["report"]["wrong"]["argument"] == "scores"


def test_the_first_of_several_is_told(faulty, doubled):
    report = gradcheck(lambda x: faulty(ta.exp(doubled(x))), X)
    assert (report.place.rule, report.place.number) == ("doubled_sine", 1)
    report = gradcheck(lambda x: doubled(ta.exp(faulty(x))), X)
    assert report.place.rule == "faulty_softmax"


def test_in_a_branch_beside_others_that_are_right(doubled):
    def forked(x):
        return ta.sin(x) * doubled(x) + ta.softmax(x * x)

    report = gradcheck(forked, X)
    assert (report.place.rule, report.place.report.guess.factor) == ("doubled_sine", pytest.approx(2.0))
    assert report.guess is None  # the whole has no pattern; its part has


def test_the_same_rule_is_wrong_in_one_place_only(own_rules):
    """Right for what is positive, and wrong below."""

    @ta.rule
    def half_right(x):
        return x * x, lambda d_output: (np.where(x > 0, 2.0, 3.0) * d_output * x,)

    report = gradcheck(lambda x: half_right(ta.sin(half_right(ta.exp(x)))), X)
    assert report.place.number == 4


def test_inside_a_module(faulty):
    class Attend(ta.nn.Module):
        def __init__(self):
            self.project = ta.nn.Linear(5, 5, rng=0)
            self.norm = ta.nn.LayerNorm(5)

        def forward(self, x):
            return self.norm(faulty(self.project(x)) + x)

    module = Attend()
    report = gradcheck(module, X)
    assert report.place.rule == "faulty_softmax"
    report = gradcheck(lambda module, x: module(x), (module, X))
    assert report.place.rule == "faulty_softmax"
    assert "self.norm(faulty(self.project(x)) + x)" in report.place.line
    assert module.project.weight.dtype == np.float32


def test_inside_a_checkpoint(doubled):
    f = ta.checkpoint(lambda x: ta.exp(doubled(x * x)))
    report = gradcheck(lambda x: ta.tanh(f(x)), X)
    assert report.place.rule == "doubled_sine"


def test_an_operation_of_many_numbers(doubled):
    report = gradcheck(lambda x: doubled(x).sum(axis=0), RNG.normal(size=(40, 41)))
    assert report.place.rule == "doubled_sine"


def test_a_backward_that_raises_is_the_place(own_rules):
    @ta.rule
    def explosive(x):
        def backward(d_output):
            raise ArithmeticError("boom")

        return np.exp(x), backward

    report = gradcheck(lambda x: explosive(ta.sin(x)), X)
    assert report.problem == "backward raised ArithmeticError: boom"
    assert (report.place.rule, report.place.number) == ("explosive", 2)
    assert report.place.report.problem == "backward raised ArithmeticError: boom"


def test_random_numbers_inside_do_not_mislead(doubled):
    def dropped(x):
        return doubled(ta.dropout(x, 0.5, rng=np.random.default_rng(1)))

    assert gradcheck(dropped, X).place.rule == "doubled_sine"


def test_a_kink_is_not_taken_for_a_mistake(doubled):
    assert gradcheck(lambda x: doubled(ta.relu(x - X)), X).place.rule == "doubled_sine"


@pytest.mark.parametrize(
    ("f", "told"),
    [
        (lambda x: ta.softmax(x @ W) * x.detach(), "y of multiply, operation 3 of 3, isn't on record"),
        (lambda x: ta.exp(x) + x.numpy() ** 2, "y of add, operation 2 of 2, isn't on record"),
        (lambda x: ta.exp(x.detach()), "the output isn't on record"),
        (lambda x: x.numpy() ** 2, "the output isn't on record"),
    ],
)
def test_a_severed_graph_is_told_where_all_operations_are_right(f, told):
    report = gradcheck(f, X)
    assert not report
    assert report.place is None
    (note,) = (note for note in report.notes if "each operation" in note)
    assert note.startswith("each operation on record is right by itself; the graph is severed:")
    assert told in note


def test_where_a_value_was_taken_out_is_told_with_the_line():
    report = gradcheck(lambda x: ta.exp(x) * x.detach(), X)
    assert "; detach in line" in str(report)
    assert "x.detach(), X)" in str(report)


def with_hook(x):
    h = ta.tanh(x)
    h.register_hook(lambda gradient: gradient * 1.5)
    return h * h


def with_hook_on_the_input(x):
    x.register_hook(lambda gradient: gradient * 1.5)
    return x * x


@pytest.mark.parametrize(
    ("f", "told"),
    [
        (with_hook, "there is a hook on the output of tanh, operation 1 of 2"),
        (with_hook_on_the_input, "there is a hook on x of multiply, operation 1 of 1"),
    ],
)
def test_a_hook_that_makes_another_gradient_is_named(f, told):
    report = gradcheck(f, X)
    assert report.guess.factor == pytest.approx(1.5)
    assert report.place is None
    assert report.notes == (f"each operation on record is right by itself; {told}",)


def test_the_line_of_a_rule_that_is_checked_itself(doubled):
    assert "gradcheck(doubled, X)" in gradcheck(doubled, X).place.line


def test_it_is_looked_for_when_the_check_fails_or_on_request(doubled):
    calls = []

    def counted(x):
        calls.append(type(x))
        return ta.exp(x)

    assert gradcheck(counted, X).place is None
    quick = len(calls)
    calls.clear()
    assert gradcheck(counted, X, locate=True).place is None
    assert len(calls) == quick + 1
    assert gradcheck(doubled, X, locate=False).place is None

    # Two mistakes that cancel: the whole is right, and its parts are not.
    @ta.rule
    def halved_sine(x):
        return np.sin(x), lambda d_output: (d_output * np.cos(x) / 2,)

    assert gradcheck(lambda x: halved_sine(doubled(x)), X)
    report = gradcheck(lambda x: halved_sine(doubled(x)), X, locate=True)
    assert report
    assert report.place.rule == "doubled_sine"
