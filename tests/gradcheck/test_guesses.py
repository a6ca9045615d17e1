"""Guesses: each pattern on the least arrays that show it, and none where there is no pattern."""

import inspect

import numpy as np
import pytest

import tinyattn as ta
from tinyattn.gallery import FAULTS, SAMPLES, Sample
from tinyattn.gradcheck import check_rule
from tinyattn.gradcheck.guesses import SPARE
from tinyattn.rules import RULES

RNG = np.random.default_rng(5)
X, SQUARE, Y = RNG.normal(size=(3, 5)), RNG.normal(size=(5, 5)), RNG.normal(size=(3, 5))


def guess(change, rule="exp", arrays=(X,), **options):
    """What is guessed where `change` was done to the gradients of a rule."""

    def faulty(*arrays, **options):
        output, backward = RULES[rule](*arrays, **options)
        return output, lambda d_output: change(*backward(d_output))

    faulty.__name__ = rule
    faulty.__signature__ = inspect.signature(RULES[rule])
    (report,) = check_rule(faulty, [Sample("", arrays, options)]).reports
    return report.guess


@pytest.mark.parametrize(
    ("change", "kind", "told"),
    [
        (lambda g: (g * 0,), "zero", "severed"),
        (lambda g: (None,), "zero", "None"),
        (lambda g: (1e-17 * Y,), "zero", "zero, but for round-off"),
        (lambda g: (-g,), "factor", "the sign is wrong"),
        (lambda g: (2 * g,), "factor", "it is 2 times what it should be"),
        (lambda g: (g / 3,), "factor", "1 / the length of axis -2 of x (3)"),
        (lambda g: (5 * g,), "factor", "5 times what it should be: the length of axis -1 of x (5)"),
        (lambda g: (g * 15,), "factor", "the number of elements of x (15)"),
        (lambda g: (g * 5**0.5,), "factor", "√ of the length of axis -1 of x (5)"),
        (lambda g: (g / 5**0.5,), "factor", "1/√ of the length of axis -1 of x (5)"),
        (lambda g: (-g * 25,), "factor", "minus the square of the length of axis -1 of x (5)"),
        (lambda g: (g / 1024,), "factor", "it is 0.000976562 times what it should be"),
        (lambda g: (1.2345 * g,), "factor", "1.2345 times what it should be"),
        (lambda g: (g[::-1],), "permuted", "along axis -2 it stands in another order, [2, 1, 0]"),
        (lambda g: (np.roll(g, 2, axis=1),), "permuted", "along axis -1 it stands in another order, [3, 4, 0, 1, 2]"),
        (lambda g: (g.T.reshape(3, 5),), "transposed", "axes -2 and -1"),
        (lambda g: (np.roll(g.reshape(-1), 4).reshape(3, 5),), "permuted", "stand elsewhere"),
        (lambda g: (abs(g),), "sign", "only signs"),
        (lambda g: (g * np.nan,), "nan", "the backward gives NaN"),
        (lambda g: (np.where(X > 0, g, 0),), "lost", "right where it isn't zero"),
        (lambda g: (g * np.exp(X),), "missing factor", "1 / the output"),
        (lambda g: (g / X,), "missing factor", ": x, number by number"),
        (lambda g: (g / X / 3.5,), "missing factor", "3.5 · x"),
        (lambda g: (g + 1.5,), "missing term", "the same for all numbers along axis -1"),
        (lambda g: (g + X * [[1.0], [2.0], [3.0]],), "missing term", "x times one number for each slice along axis -1"),
        (lambda g: (g * [[1.0], [2.0], [3.0]],), "factor along axis", "each slice along axis -1"),
        (lambda g: (g * [1.0, 2.0, 3.0, 4.0, 5.0],), "factor along axis", "each slice along axis -2"),
    ],
)
def test_patterns_of_one_argument(change, kind, told):
    found = guess(change)
    assert found.kind == kind
    assert told in found.text
    assert (found.factor is not None) == (kind == "factor")


def test_next_to_nothing_is_no_multiple_of_anything():
    """x/√(mean x²), squared and summed: its gradient is 0 but for round-off, and the wrong one isn't."""

    def rms_normalized(x):
        root = np.sqrt(np.mean(x * x, axis=-1, keepdims=True))
        output = x / root
        return output, lambda d: ((d - output * np.sum(d * output, axis=-1, keepdims=True)) / root,)

    rms_normalized.__signature__ = inspect.signature(RULES["exp"])
    (report,) = check_rule(rms_normalized, [Sample("", (X,), {})]).reports
    assert report.guess.kind == "missing term"
    normalized = ta.rule(rms_normalized)
    told = ta.gradcheck(lambda x: normalized(x) ** 2, X, cotangent=np.ones(X.shape))
    assert told.guess.kind == "missing term"


def test_a_small_gradient_that_changes_with_the_cotangent_isn_t_said_not_to():
    small = ta.rule(_a_thousandth)
    told = ta.gradcheck(small, X, dtype=np.float32)
    assert told.guess.kind == "factor"


def _a_thousandth(x):
    return np.sin(x), lambda d: (d * np.cos(x) / 1024,)


def test_patterns_that_need_more_than_one_argument():
    assert guess(lambda g, h: (h, g), "multiply", (X, Y)).kind == "swapped"
    assert guess(lambda g, h: (g, g), "matmul", (SQUARE, SQUARE + 1)).text == "it is the gradient of x"


def test_patterns_of_square_matrices():
    assert guess(lambda g: (g.T,), arrays=(SQUARE,)).kind == "transposed"
    stack = RNG.normal(size=(2, 3, 5))
    assert guess(lambda g: (g.swapaxes(0, 1).reshape(2, 3, 5),), arrays=(stack,)).kind == "transposed"


def test_a_factor_is_named_after_the_option_that_it_is():
    arrays = (*(RNG.normal(size=shape) for shape in ((2, 3, 5), (2, 7, 5))), None, None)
    for factor in (0.3, 1 / 0.3):
        found = guess(lambda g, h, *_, by=factor: (g * by, h, None, None), "attention_weights", arrays, scale=0.3)
        assert "scale" in found.text


def test_one_number_has_no_pattern_but_a_known_factor():
    assert guess(lambda g: (g * 1.2345,), arrays=(np.array(0.7),)) is None
    assert guess(lambda g: (g + 1.0,), arrays=(np.array(0.7),)) is None
    assert guess(lambda g: (-g,), arrays=(np.array(0.7),)).kind == "factor"
    assert SPARE >= 3


def told_of(backward, rule, *arrays, **options):
    """What is guessed where a rule has another backward, made of its arrays and its output."""

    def faulty(*arrays, **options):
        output = RULES[rule](*arrays, **options)[0]
        return output, lambda d_output: backward(d_output, output, *arrays)

    faulty.__name__ = rule
    faulty.__signature__ = inspect.signature(RULES[rule])
    (report,) = check_rule(faulty, [Sample("", arrays, options)]).reports
    return report.guess


def without_sum(wrong):
    """The backward of log_softmax with something else in place of its weights."""
    return lambda d, y, _: (d - wrong(y) * d.sum(axis=-1, keepdims=True),)


@pytest.mark.parametrize(
    ("backward", "rule", "arrays", "kind", "told"),
    [
        (lambda d, y, _: (d * (1 - y),), "tanh", (X,), "missing factor", "(1 + the output), number by number"),
        (lambda d, y, _: (d * (1 + y),), "tanh", (X,), "missing factor", "(1 − the output), number by number"),
        (lambda d, _, x, y: (d @ y, x.T @ d), "matmul", (X, SQUARE), "jacobian transposed", "untransposed"),
        (lambda d, _, x, y: (d[-1:], d), "add", (X[:1], Y), "not summed", "index 2 along axis -2 of the output"),
        (lambda d, _, x, y: (d[:, :1], d), "add", (X[:, :1], Y), "not summed", "index 0 along axis -1 of the output"),
        (without_sum(lambda y: 0.2), "log_softmax", (X,), "wrong sum", "along axis -1"),
        (without_sum(lambda y: 0.0), "log_softmax", (X,), "wrong sum", "along axis -1"),
    ],
)
def test_patterns_of_what_the_output_sends(backward, rule, arrays, kind, told):
    found = told_of(backward, rule, *arrays)
    assert found.kind == kind
    assert told in found.text


def test_a_factor_for_each_number_of_the_output():
    def scaled(scale):
        def backward(d, y, _):
            d = scale(y) * d
            return (d - np.exp(y) * d.sum(axis=-1, keepdims=True),)

        return told_of(backward, "log_softmax", X)

    assert scaled(np.exp).text.endswith("a factor of its own for each number: times exp of the output")
    assert scaled(lambda y: 1 / y).text.endswith(": divided by the output")
    assert scaled(np.cos).text.endswith("a factor of its own for each number")


def test_what_is_overwritten_is_lost():
    ids = np.array([2, 0, 2, 2])

    def assigned(d, _, weight, ids):
        d_weight = np.zeros(weight.shape)
        d_weight[ids] = d
        return d_weight, None

    assert told_of(assigned, "embedding", X, ids).kind == "last wins"


def test_what_is_added_in_a_wrong_place():
    targets = np.array([1, 4, 0])

    def off_by_one(d, _, scores, targets):
        weights = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
        return (weights - np.eye(5)[(targets + 1) % 5]) * d / 3, None

    assert told_of(off_by_one, "cross_entropy", X, targets).kind == "misplaced"


def test_many_numbers_are_known_along_random_directions_only():
    big = RNG.normal(size=(40, 41))
    assert guess(lambda g: (3.5 * g,), arrays=(big,)).factor == pytest.approx(3.5)
    assert guess(lambda g: (g * 0,), arrays=(big,)).kind == "zero"
    assert guess(lambda g: (g.T.reshape(40, 41),), arrays=(big,)) is None


@pytest.mark.parametrize("name", sorted(set(SAMPLES) & {fault.rule for fault in FAULTS.values()}))
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_noise_looks_like_nothing(name, seed):
    """A gradient that is wrong without a pattern is guessed nothing of, on any sample of the rule."""
    rng = np.random.default_rng(seed)

    def noisy(*arrays, **options):
        output, backward = RULES[name](*arrays, **options)

        def wrong(d_output):
            noise = np.random.default_rng(int(1e6 * abs(d_output).sum()))  # of the cotangent's own
            return tuple(
                g if g is None else g * noise.normal(size=g.shape) + noise.normal(size=g.shape)
                for g in backward(d_output)
            )

        return output, wrong

    for sample in SAMPLES[name](rng):
        (report,) = check_rule(noisy, [sample]).reports
        assert not report
        # Two are no guesses at a pattern, but say what is true of any noise: where there should be zeros, or sums of 0.
        assert {f.guess.kind for f in report.findings if f.guess is not None} <= {"unbalanced", "flows in"}, str(report)


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_right_is_guessed_nothing_of(name):
    fault = FAULTS[name]
    check = check_rule(fault.right, fault.samples())
    assert check.ok
    assert check.guess is None
