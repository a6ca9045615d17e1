import itertools

import numpy as np
import pytest

import tinyattn as ta
from tinyattn.gallery import Sample
from tinyattn.gradcheck import check_all, check_rule, gradcheck


@pytest.fixture
def x():
    return np.random.default_rng(7).normal(size=(3, 5))


def wrong(factor):
    """A rule whose gradient is `factor` times too large."""

    def squared(x):
        return x * x, lambda d_output: (factor * 2 * d_output * x,)

    return squared


def lifted(rule):
    return ta.engine.lift(ta.rules.rule(rule))


# ------------------------------------------------------------------------------------------------------ gradcheck


def test_right_gradients_pass(x):
    report = gradcheck(lambda x, y: ta.softmax(x @ y) * 3, (x, x.T.copy()), analytic=True)
    assert report
    assert report.problem is None
    assert [finding.argument for finding in report.findings] == ["x", "y"]
    assert report.error < 1e-8
    assert list(report.findings[0].numbers) == ["backward", "differences", "complex step"]
    assert report.findings[0].errors["complex step"] < 1e-12


@pytest.mark.usefixtures("own_rules")
@pytest.mark.parametrize("factor", [-1.0, 0.5, 1.0 + 1e-5, 0.0])
def test_wrong_gradients_are_told_with_both_numbers(x, factor):
    report = gradcheck(lifted(wrong(factor)), x, analytic=True)
    assert not report
    (finding,) = report.findings
    assert not finding.ok
    assert finding.argument == "x"
    assert finding.numbers["differences"] == pytest.approx(finding.numbers["complex step"])
    assert finding.numbers["backward"] == pytest.approx(factor * finding.numbers["differences"], rel=1e-7)
    assert finding.ratio == pytest.approx(factor)
    text = str(report)
    assert "the gradients DIFFER" in text
    assert "WRONG" in text
    for number in finding.numbers.values():
        assert f"{number:.10g}" in text
    assert str(finding.index) in text


@pytest.mark.usefixtures("own_rules")
def test_one_wrong_number_is_found_where_it_is():
    def squared(x):
        mistake = np.ones(x.shape)
        mistake[1, 2] = 1.001
        return x * x, lambda d_output: (2 * d_output * x * mistake,)

    report = gradcheck(lifted(squared), np.ones((3, 5)))
    assert report.findings[0].index == (1, 2)
    assert report.findings[0].ratio == pytest.approx(1.001)


@pytest.mark.usefixtures("own_rules")
def test_large_inputs_move_in_random_directions():
    big = np.random.default_rng(0).normal(size=(40, 41))
    report = gradcheck(lambda x: (x * x).sum(axis=0), big)
    assert report
    assert report.findings[0].index.startswith("direction ")
    calls = itertools.count()

    def counted(x):
        next(calls)
        return (x * x).sum()

    gradcheck(counted, big)
    assert next(calls) < 100

    def squared(x):
        mistake = np.ones(x.shape)
        mistake[17, 3] = 1.01  # one number of 1640, and a little wrong
        return x * x, lambda d_output: (2 * d_output * x * mistake,)

    assert not gradcheck(lifted(squared), big)


def test_a_cotangent_of_ones_sees_nothing_in_a_softmax(x):
    report = gradcheck(ta.softmax, x, cotangent=np.ones((3, 5)))
    assert not report
    assert report.problem.startswith("vacuous")
    assert gradcheck(ta.softmax, x)


@pytest.mark.parametrize("f", [lambda x: x * 0.0 + 1.0, lambda x: 7.0, lambda x: ta.relu(-x * x)])
def test_what_nothing_moves_is_vacuous(x, f):
    report = gradcheck(f, x)
    assert not report
    assert "vacuous" in str(report)


def test_a_severed_branch_is_wrong(x):
    report = gradcheck(lambda x: x.detach().sum(), x)
    assert not report.findings[0].ok
    assert report.findings[0].ratio == 0.0


@pytest.mark.parametrize("f", [lambda x: x * np.nan, lambda x: ta.where(x > 0, x, np.nan), lambda x: x / (x * 0.0)])
def test_nan_is_a_failure_also_on_both_sides(x, f):
    with np.errstate(all="ignore"):
        report = gradcheck(f, x)
    assert not report
    assert report.findings[0].error == np.inf


def test_two_answers_to_one_question(x):
    rng = np.random.default_rng(0)
    report = gradcheck(lambda x: x * rng.normal(), x)
    assert not report
    assert "two calls with the same inputs gave different outputs" in str(report)


@pytest.mark.usefixtures("own_rules")
def test_a_backward_that_raises_is_reported(x):
    def explosive(x):
        def backward(d_output):
            raise ArithmeticError("boom")

        return x * x, backward

    report = gradcheck(lifted(explosive), x)
    assert not report
    assert report.problem == "backward raised ArithmeticError: boom"


def test_only_floating_inputs_are_checked():
    report = gradcheck(lambda w, ids: ta.embedding(w, ids), (np.ones((5, 3), np.float32), np.array([1, 1, 4])))
    assert report
    assert [finding.argument for finding in report.findings] == ["w"]
    assert gradcheck(lambda x, n: x**n, (2.0, 3))
    with pytest.raises(TypeError, match="none of the 1 inputs is floating"):
        gradcheck(lambda ids: ids, np.array([1, 2]))


def test_tensors_and_what_the_function_closes_over(x):
    layer = ta.nn.Linear(5, 7, rng=0, dtype=np.float64)
    tensor = ta.tensor(x)
    assert gradcheck(layer, tensor, analytic=True)
    assert tensor.grad is None
    assert layer.weight.grad is None


def test_errors_of_the_function_are_its_own():
    with pytest.raises(ZeroDivisionError):
        gradcheck(lambda x: 1 // 0, [1.0])


def test_names_of_arguments():
    assert [f.argument for f in gradcheck(lambda *rows: sum(rows), ([1.0], [2.0])).findings] == ["rows[0]", "rows[1]"]
    assert [f.argument for f in gradcheck(ta.matmul, (np.ones((2, 3)), np.ones((3, 5)))).findings] == ["x", "y"]


def test_random_numbers_are_the_callers(x):
    first, second, third = (gradcheck(ta.softmax, x, rng=np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first == second != third


# ------------------------------------------------------------------------------------------------------ rules


def test_a_rule_is_heard_by_all_witnesses():
    check = check_rule("softmax")
    assert check
    assert (check.rule, check.ok, check.samples) == ("softmax", True, len(check.reports))
    assert check.error_numeric < 1e-8
    assert check.error_complex < 1e-12
    assert check.error_tape < 1e-12


def test_a_witness_that_cannot_be_heard_is_none():
    assert check_rule("exp").error_tape is None  # is composed of nothing but itself
    assert check_rule("absolute").error_complex is None


def test_a_rule_that_is_not_in_the_table():
    check = check_rule(wrong(1.0), [Sample("a row", (np.array([1.0, 2.0]),))])
    assert check
    assert check.rule == "squared"
    check = check_rule(wrong(0.5), [Sample("a row", (np.array([1.0, 2.0]),))])
    assert not check.ok
    assert check.error_tape == pytest.approx(0.5, rel=1e-2)
    assert str(check).startswith("squared, a row: the gradients DIFFER")


def test_names_nobody_knows():
    with pytest.raises(ValueError, match="there is no rule 'sofmax'; did you mean 'softmax'"):
        check_rule("sofmax")
    with pytest.raises(ValueError, match="the gallery has no samples of 'squared'; pass samples="):
        check_rule(wrong(1.0))


def test_no_samples_are_no_pass():
    assert not check_rule("softmax", [])


def test_all_rules():
    names = ["softmax", "exp"]
    assert [check.rule for check in check_all(names)] == names
    checks = check_all()
    assert all(checks)
    assert [check.rule for check in checks] == sorted(ta.gallery.SAMPLES)
