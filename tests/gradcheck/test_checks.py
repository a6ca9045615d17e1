import itertools
import math

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
    report = gradcheck(lambda x, y: ta.softmax(x @ y) * 3, (x, x.T.copy()))
    assert report
    assert report.problem is None
    assert [finding.argument for finding in report.findings] == ["x", "y"]
    assert report.error < 1e-8
    assert list(report.findings[0].numbers) == ["backward", "differences", "complex step"]
    assert report.findings[0].errors["complex step"] < 1e-12


@pytest.mark.usefixtures("own_rules")
@pytest.mark.parametrize("factor", [-1.0, 0.5, 1.0 + 1e-5, 0.0])
def test_wrong_gradients_are_told_with_both_numbers(x, factor):
    report = gradcheck(lifted(wrong(factor)), x)
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
    assert next(calls) < 150

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


@pytest.mark.parametrize("call", [2, 3, 4, 5, 30, 100])
def test_another_answer_at_any_time_is_seen(call):
    """Whenever a function begins to give other outputs, it is seen; its gradients go on being right."""
    calls = itertools.count(1)

    def f(x):
        return x * x + (0.0 if next(calls) < call else 1e-9)

    report = gradcheck(f, np.arange(1.0, 24.0))
    assert report.problem.startswith("two calls with the same inputs gave different outputs")


def test_what_differs_on_record_is_seen(x):
    report = gradcheck(lambda x: x * x * (1.5 if x.requires_grad else 1.0), x)
    assert report.problem.endswith("recorded, and under no_grad")


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


def test_the_whole_jacobian_is_compared_where_the_output_is_small(x):
    (finding,) = gradcheck(lambda x: (x * x).sum(axis=0), x).findings
    assert finding.total == (5 + 1) * 15  # each of 5 outputs, and a random mixture of them
    (finding,) = gradcheck(lambda x: ta.stack([x] * 5), x).findings
    assert finding.total == 2 * 15  # of 75 outputs two random mixtures


@pytest.mark.usefixtures("own_rules")
def test_what_only_one_output_shows_is_told_with_it():
    """Wrong by less than the mixture of all outputs can tell."""

    def parts(x):
        weights = np.array([1e4, 1e-2])
        return weights * x, lambda d_output: (np.array([1e4, 1.01e-2]) * d_output,)

    report = gradcheck(lifted(parts), np.array([1.0, 1.0]), cotangent=np.array([1.0, 1e-5]))
    assert report
    report = gradcheck(lifted(parts), np.array([1.0, 1.0]))
    assert (report.wrong.index, report.wrong.ratio) == ((1,), pytest.approx(1.01))


def test_arguments_hold_dicts_lists_and_tuples(x):
    def f(parameters, pair):
        return parameters["w"] * pair[0] + parameters["deep"]["b"][0] - pair[1]

    report = gradcheck(f, ({"w": x, "deep": {"b": [x[0], None]}}, [x, np.arange(5)]))
    assert report
    assert [finding.argument for finding in report.findings] == [
        "parameters['w']",
        "parameters['deep']['b'][0]",
        "pair[0]",
    ]
    assert gradcheck(lambda p: p["a"] * p["b"], {"a": x, "b": 2.0})
    assert not gradcheck(lambda p: p["a"] * p["b"].detach(), {"a": x, "b": 2.0})


def test_a_module_is_checked_in_its_parameters_and_left_as_it_was(x):
    layer = ta.nn.Linear(5, 7, rng=0)
    before = layer.weight.data.copy()
    report = gradcheck(lambda layer, x: ta.tanh(layer(x)), (layer, x), second_order=True)
    assert report, str(report)
    assert [finding.argument for finding in report.findings] == ["layer['weight']", "layer['bias']", "x"]
    assert report.error < 1e-8  # as float64
    assert layer.weight.dtype == np.float32
    np.testing.assert_array_equal(layer.weight.data, before)
    assert layer.weight.grad is None
    (layer(x.astype(np.float32)) ** 2).sum().backward()  # and in working order
    assert layer.weight.grad.dtype == np.float32

    def broken(layer, x):
        return ta.tanh(layer(x)) + layer.bias.detach()

    report = gradcheck(broken, (layer, x))
    assert [finding.ok for finding in report.findings] == [True, False, True]


@pytest.mark.parametrize(
    ("f", "heard"),
    [
        (ta.softmax, True),
        (lambda x: ta.tanh(x) * 2, True),
        (lambda x: ta.where(x > 0, x, 0.0) * x, True),  # numbers are compared by their real parts
        (lambda x: x * x.numpy().real.sum(), False),  # a part is thrown away: it would disagree with the differences
        (lambda x: x * float(x[0, 0] > 0), True),
        (lambda x: x * math.exp(x[0, 0].item() * 0), False),  # raises
    ],
)
def test_whether_complex_numbers_go_through_is_found_out(x, f, heard):
    report = gradcheck(f, x, locate=False)
    assert ("complex step" in report.findings[0].numbers) == heard
    assert "complex step" not in gradcheck(f, x, analytic=False, locate=False).findings[0].numbers


def test_what_complex_numbers_change_is_no_witness(x):
    report = gradcheck(lambda x: ta.absolute(x + 5), x)
    assert report
    assert "complex step" not in report.findings[0].numbers


def test_float32_is_checked_as_float32(x):
    dtypes = set()

    def f(x):
        dtypes.add(x.dtype)
        return ta.softmax(x)

    report = gradcheck(f, x, dtype=np.float32)
    assert report, str(report)
    assert dtypes == {np.dtype(np.float32), np.dtype(np.complex64)}
    assert 1e-9 < report.error < 1e-3
    dtypes.clear()
    assert gradcheck(f, x.astype(np.float32))
    assert dtypes == {np.dtype(np.float64), np.dtype(np.complex128)}


@pytest.mark.usefixtures("own_rules")
@pytest.mark.parametrize("factor", [-1.0, 1.01, 0.0])
def test_wrong_gradients_in_float32(x, factor):
    assert not gradcheck(lifted(wrong(factor)), x, dtype=np.float32)
    assert gradcheck(lifted(wrong(1.0)), x, dtype=np.float32)


SCALES = {
    "log near 0": (ta.log, 1e-8),
    "1/x near 0": (lambda x: 1 / x, 1e-5),
    "sin of 10¹² x": (lambda x: ta.sin(x / 1e-12), 3e-13),
    "x² far from 0": (lambda x: x * x, 3.3e10),
    "√x far from 0": (ta.sqrt, 1e12),
    "beside 10⁸": (lambda x: 1e8 + ta.sin(x), 1.0),
}


@pytest.mark.parametrize("case", SCALES)
@pytest.mark.parametrize("analytic", [None, False])
def test_functions_that_live_on_another_scale(case, analytic):
    """They are found right; and wrong, where their gradient is off by a thousandth."""
    f, x = SCALES[case]
    x = np.array([x, 1.1 * x])
    report = gradcheck(f, x, analytic=analytic)
    assert report, report
    off = lambda x: f(x) + 0.001 * (f(x) - f(x).detach())  # noqa: E731
    assert not gradcheck(off, x, analytic=analytic)


def test_an_argument_with_numbers_of_all_sizes():
    assert gradcheck(ta.log, [1e-9, 1e-3, 1.0, 1e6], analytic=False)


def test_a_far_away_kink_is_no_reason_for_wide_steps():
    """Where it is, the function is constant; the other half, which a wide step would see, is none of its business."""
    report = gradcheck(lambda x: ta.relu(x) + ta.relu(x - 1e3), [5.0, 7.0], analytic=False)
    assert report
    assert not gradcheck(ta.relu, [-5.0, -7.0])


def test_the_step_can_be_chosen():
    wave = lambda x: ta.sin(1000.0 * x)  # noqa: E731
    assert not gradcheck(wave, 0.3, analytic=False, locate=False, step=2.0**-10)
    assert gradcheck(wave, 0.3, analytic=False), "by itself, it takes one that suits"
    assert gradcheck(wave, 0.3, analytic=False, step=1e-6, rtol=1e-5)


@pytest.mark.parametrize("scale", [1e-100, 1e-20, 1e-10, 1e-9, 1e9, 1e20, 1e100])
def test_the_scale_of_a_function_matters_to_no_verdict(x, scale):
    assert gradcheck(lambda x: scale * ta.softmax(10 * x), x)
    report = gradcheck(lambda x: scale * ta.softmax(x * (0.9 * x + 0.1 * x.detach())), x)
    assert report.findings[0].verdict == "WRONG"
    assert report.problem is None
    vacuous = gradcheck(lambda x: scale * ta.softmax(x).sum(), x)
    assert [vacuous.findings[0].verdict, bool(vacuous)] == ["no influence", False]


def test_each_argument_is_seen_at_its_own_scale(x):
    def f(x, y):
        return ta.tanh(x) + 1e-9 * y * (0.99 * y + 0.01 * y.detach())

    assert [finding.verdict for finding in gradcheck(f, (x, x)).findings] == ["ok", "WRONG"]


def test_a_tolerance_that_is_asked_for_holds_at_every_scale(x):
    wrong = lambda x: 1e-5 * x * x.detach()  # noqa: E731
    assert not gradcheck(wrong, x)
    assert gradcheck(wrong, x, atol=1e-3).problem.startswith("vacuous")
    assert gradcheck(lambda x: wrong(x) + x, x, atol=1e-3)
    assert not gradcheck(lambda x: wrong(x) + x, x)


def test_a_step_out_of_the_domain_is_reported_and_not_warned_of():
    report = gradcheck(ta.log, [1e-8, 2.0], step=2.0**-10)  # warnings are errors here
    assert not report
    assert math.isnan(report.wrong.numeric)
    assert not gradcheck(ta.log, [1e-300, 2.0]), "no step is that short"
    assert gradcheck(ta.log, [1e-8, 2.0])


@pytest.mark.parametrize("at", [2.0**-12, 3e-4, 7e-4, 1e-7])
def test_a_kink_nearby_is_stepped_around(at):
    assert gradcheck(ta.relu, [at, 1.0], analytic=False)


@pytest.mark.parametrize("step", [None, 2.0**-10])
def test_a_kink_is_told_as_one(step):
    report = gradcheck(lambda x: ta.relu(x), [0.0, 1.0], step=step)
    assert not report
    assert report.wrong.doubtful
    assert report.guess is None
    assert report.place is None
    assert "is there a kink" in str(report)


def test_differences_that_are_too_coarse_can_not_tell():
    """Beside 1, ten digits of the change are lost; a kink has no derivative."""
    for f, x in ((lambda x: 1 + 1e-10 * ta.softmax(x), np.arange(5.0)), (ta.relu, [0.0, 1.0])):
        report = gradcheck(f, x, analytic=False)
        assert not report
        assert report.verdict == "can't tell"
        assert "DOUBTFUL" in str(report)
        assert "DIFFER" not in str(report)


def test_a_doubt_hides_no_mistake():
    """At a kink nothing can be told; a mistake elsewhere in the argument is."""
    report = gradcheck(lambda x: ta.relu(x) * (1 + 0.01 * x.detach()), [0.0, 1.0])
    assert report.verdict == "the gradients DIFFER"
    assert report.wrong.index == (1,)


def test_an_argument_without_influence_is_told_and_no_failure(x):
    report = gradcheck(lambda x, y: x * x + 0.0 * y, (x, x))
    assert report
    assert [finding.verdict for finding in report.findings] == ["ok", "no influence"]
    assert "no influence" in str(report)


def test_an_argument_that_the_cotangent_does_not_see_is_vacuous(x):
    report = gradcheck(lambda x, y: ta.softmax(x) + y, (x, x), cotangent=np.ones((3, 5)))
    assert not report
    assert [finding.verdict for finding in report.findings] == ["vacuous", "ok"]
    assert report.problem == "vacuous in x: the output moves, but not along the cotangent"


def test_a_function_that_writes_into_its_argument(x):
    def f(x):
        x.data[0, 0] += 1.0
        return x * x

    assert gradcheck(f, x).problem == "the function writes into its argument x"


def test_second_order(x):
    report = gradcheck(lambda x, y: ta.softmax(x) * ta.exp(y), (x, x), second_order=True)
    assert report
    assert report.second.subject == "<lambda>, the gradient of its gradient"
    assert list(report.second.findings[0].numbers) == ["tape", "differences"]
    assert gradcheck(ta.exp, x).second is None


@pytest.mark.usefixtures("own_rules")
def test_second_derivatives_may_be_wrong_where_the_first_are_right(x):
    """The gradient's numbers are right, but they are computed off the tape."""

    def cube(x):
        return x**3, lambda d_output: (d_output * 3 * (x.numpy() if isinstance(x, ta.Tensor) else x) ** 2,)

    assert gradcheck(lifted(cube), x)
    report = gradcheck(lifted(cube), x, second_order=True)
    assert not report
    assert report.problem is None
    assert all(finding.ok for finding in report.findings)
    assert report.wrong is report.second.wrong
    assert report.guess.kind == "zero"
    assert "theirs DIFFER" in str(report)


def test_second_derivatives_that_are_zero_are_right_where_the_function_is_linear(x):
    report = gradcheck(lambda x: 3 * x, x, second_order=True)
    assert report
    assert report.second.notes == ("all second derivatives are zero, say all",)


@pytest.mark.parametrize(
    ("call", "error", "told"),
    [
        (lambda: gradcheck(ta.exp, [1.0], dtype=np.float16), TypeError, "dtype must be float64 or float32"),
        (lambda: gradcheck(ta.exp, [1.0], dtype=int), TypeError, "dtype must be float64 or float32"),
        (lambda: gradcheck(ta.exp, [1.0], step=0.0), ValueError, "step must be a number above 0; got 0.0"),
        (lambda: gradcheck(ta.exp, [1.0], rtol=np.nan), ValueError, "rtol must be a number above 0; got nan"),
        (lambda: gradcheck(ta.exp, [1.0], cotangent=[1.0, 2.0]), ValueError, r"the output's shape, \(1,\); got \(2,\)"),
        (lambda: gradcheck(lambda x: (x, x), [1.0]), TypeError, "must give one Tensor; got tuple of 2"),
        (lambda: gradcheck(lambda: 1.0, ()), TypeError, "none of the 0 inputs is floating"),
        (lambda: gradcheck(lambda x: {1}, [1.0]), TypeError, "real numbers; got dtype object"),
        (lambda: gradcheck(lambda x: 1j, [1.0]), TypeError, "real numbers; got dtype complex128"),
        (lambda: gradcheck(lambda x: np.array(["a"]), [1.0]), TypeError, "real numbers; got dtype <U1"),
        (lambda: gradcheck(ta.exp, [1.0], cotangent=[1j]), TypeError, "cotangent needs real numbers; got complex128"),
        (lambda: gradcheck(ta.exp, [1.0], analytic="yes"), TypeError, "analytic must be True or False; got 'yes'"),
        (lambda: gradcheck(ta.exp, [1.0], locate=3), TypeError, "locate must be True or False; got 3"),
        (lambda: gradcheck(ta.exp, [1.0], second_order="no"), TypeError, "second_order must be True or False"),
        (lambda: gradcheck(lambda x: x[x.numpy() > 1], [1.0, 2.0]), ValueError, "shape of the output must not depend"),
        (lambda: gradcheck(ta.exp, "text"), TypeError, "none of the 1 inputs is floating"),
    ],
)
def test_senseless_arguments(call, error, told):
    with pytest.raises(error, match=told):
        call()


@pytest.mark.parametrize("at", [np.inf, -np.inf, np.nan])
def test_inputs_that_are_not_finite_fail_without_a_warning(at):
    assert not gradcheck(lambda x: x * x, [at, 1.0])


def test_arrays_of_no_numbers_are_vacuous():
    assert gradcheck(ta.exp, np.ones((0, 3))).problem.startswith("vacuous")


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
    checks = check_all(second_order=True)
    assert all(checks), "\n".join(str(check) for check in checks if not check)
    assert all(check.error_second is not None for check in checks)
    assert [check.rule for check in checks] == sorted(ta.gallery.SAMPLES)
