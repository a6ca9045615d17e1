"""The tester, tested: every planted fault is caught, by numbers that share nothing with it, and told for what it is."""

import inspect

import numpy as np
import pytest

import tinyattn as ta
from tinyattn.gallery import FAULTS, SAMPLES, all_different, clear_of_zero
from tinyattn.gallery.multi_head import multi_head_attention
from tinyattn.gradcheck import BACKWARD, COMPLEX, DIFFERENCES, TAPE, check_rule

SIX = {"softmax", "log_softmax", "layer_norm", "cross_entropy", "attention", "multi_head_attention"}

# By what each is caught: the argument and the first index at which it's wrong; and the guess, if the pattern is known,
# with the argument that it is made of and the factor, if it's one.
CAUGHT = """
    softmax_without_row_sum                scores (0, 0)        scores: missing term
    softmax_diagonal_only                  scores (0, 0)        scores: unbalanced
    softmax_wrong_axis                     scores (0, 0)        scores: unbalanced
    softmax_sum_over_everything            scores (0, 0)        scores: missing term
    softmax_mean_for_sum                   scores (0, 0)        scores: missing term
    softmax_sum_unweighted                 scores (0, 0)        scores: missing term
    softmax_weights_forgotten              scores (0, 0)        scores: missing factor
    softmax_plus_for_minus                 scores (0, 0)        scores: missing term
    softmax_zero                           scores (0, 0)        scores: zero
    log_softmax_without_weights            scores (0, 0)        scores: wrong sum
    log_softmax_as_softmax                 scores (0, 0)        scores: output factor
    log_softmax_not_summed                 scores (0, 0)        scores: unbalanced
    log_softmax_logs_for_weights           scores (0, 0)        scores: wrong sum
    log_softmax_uniform_weights            scores (0, 0)        scores: wrong sum
    cross_entropy_not_divided              scores (0, 0, 0)     scores: factor 6
    cross_entropy_divided_by_classes       scores (0, 0, 0)     scores: factor 0.2
    cross_entropy_without_targets          scores (0, 0, 4)     scores: unbalanced
    cross_entropy_targets_undivided        scores (0, 0, 4)     scores: unbalanced
    cross_entropy_wrong_sign               scores (0, 0, 0)     scores: factor -1
    cross_entropy_targets_off_by_one       scores (0, 0, 3)     scores: misplaced
    cross_entropy_gradient_ignored         scores (0, 0, 0)     scores: cotangent ignored
    layer_norm_constant_mean               x (0, 0, 0)          x: missing term
    layer_norm_constant_variance           x (0, 0, 0)          x: missing term
    layer_norm_unscaled                    x (0, 0, 0)          x: factor along axis
    layer_norm_weight_skipped              x (0, 0, 0)          x: output factor
    layer_norm_sums_for_means              x (0, 0, 0)          x: unbalanced
    layer_norm_wrong_axis                  x (0, 0, 0)          x: unbalanced
    layer_norm_weight_without_input        weight (0,)          weight: swapped
    layer_norm_bias_mean                   bias (0,)            bias: factor 0.166667
    rms_norm_constant_scale                x (0, 0, 0)          x: missing term
    attention_query_unscaled               query (0, 0, 0)      query: factor 1.73205
    attention_scaled_twice                 query (0, 0, 0)      query: factor 0.57735
    attention_value_severed                value (0, 0, 0)      value: zero
    attention_key_severed                  key (0, 0, 0)        key: zero
    attention_heads_swapped                key (0, 0, 0)        key: permuted
    attention_query_key_swapped            query (0, 0, 0)      query: swapped
    attention_mask_forgotten               query (0, 0, 0)      query: flows in
    attention_mask_transposed              query (0, 1, 0)
    attention_without_row_sum              query (0, 0, 0)      key: unbalanced
    attention_sum_over_queries             query (0, 0, 0)      key: unbalanced
    attention_weights_not_transposed       value (0, 0, 0)
    attention_bias_transposed              bias (0, 0, 1)       bias: transposed
    attention_weights_key_transposed       key (0, 0, 1)        key: transposed
    multi_head_query_path_forgotten        x (0, 0, 0)
    multi_head_last_path_wins              x (0, 0, 0)
    multi_head_weights_untransposed_to_x   x (0, 0, 0)
    multi_head_output_untransposed         x (0, 0, 0)
    multi_head_w_output_transposed         w_output (0, 1)      w_output: transposed
    multi_head_w_key_transposed            w_key (0, 1)         w_key: transposed
    multi_head_w_output_from_heads         w_output (0, 0)
    multi_head_split_without_exchange      x (0, 0, 0)
    multi_head_join_without_exchange       x (0, 0, 0)
    multi_head_heads_in_wrong_order        x (0, 0, 0)          w_value: permuted
    multi_head_heads_summed                x (0, 0, 0)
    multi_head_scale_of_d_model            x (0, 0, 0)          w_query: factor 0.707107
    multi_head_scale_twice                 x (0, 0, 0)          w_query: factor 0.57735
    multi_head_scale_forgotten             x (0, 0, 0)          w_query: factor 1.73205
    multi_head_query_key_exchanged         w_query (0, 0)       w_query: swapped
    multi_head_value_weights_untransposed  x (0, 0, 0)
    multi_head_sum_over_heads              x (0, 0, 0)
    multi_head_causal_mask_transposed      x (0, 0, 0)
    multi_head_bias_of_value_missing       b_value (0,)         b_value: zero
    multi_head_bias_of_query_mean          b_query (0,)         b_query: factor 0.0666667
    multi_head_bias_of_output_unsummed     b_output (0,)        b_output: not summed
    multi_head_residual_dropped            x (0, 0)             x: identity
    multi_head_residual_always             x (0, 0, 0)          x: identity
    logsumexp_not_divided                  x (0, 0)             x: factor 16.8454
    matmul_factors_exchanged               x (0, 0)             x: swapped
    matmul_not_transposed                  x (0, 0)             x: jacobian transposed
    linear_bias_mean                       bias (0,)            bias: factor 0.166667
    linear_last_of_batch                   weight (0, 0)        weight: not summed
    embedding_last_wins                    weight (2, 0)        weight: last wins
    mean_as_sum                            x (0, 0)             x: factor 15
    max_everybody_wins                     x (0, 0)             x: leak
    divide_wrong_sign                      y (0, 0)             y: factor -1
    divide_not_squared                     y (0, 0)             y: missing factor
    where_both_sides                       x (0, 0)             x: leak
    tanh_not_squared                       x (0, 0)             x: missing factor
    exp_forgotten                          x (0, 0)             x: missing factor
    exp_nan                                x (0, 0)             x: nan
"""


def caught():
    for line in CAUGHT.strip().splitlines():
        name, argument, *rest = line.split(maxsplit=2)
        index, _, guess = rest[0].partition(")")
        yield pytest.param(name, argument, tuple(map(int, index[1:].rstrip(",").split(","))), guess.strip(), id=name)


def samples(name):
    return list(SAMPLES[name](np.random.default_rng(0)))


@pytest.fixture(scope="module")
def check():
    """Checks each fault once."""
    known = {}

    def check(name):
        if name not in known:
            known[name] = check_rule(FAULTS[name].function, FAULTS[name].samples())
        return known[name]

    return check


def test_the_table_holds_every_fault():
    assert [case.id for case in caught()] == list(FAULTS)


@pytest.mark.parametrize(("name", "argument", "index", "guess"), list(caught()))
def test_every_fault_is_caught_and_told(check, name, argument, index, guess):
    checked = check(name)
    assert not checked.ok
    assert (checked.wrong.rule, checked.wrong.argument, checked.wrong.index) == (name, argument, index)
    told = next((f for report in checked.reports for f in report.findings if f.guess is not None), None)
    if not guess:
        assert told is None
    else:
        found = f"{told.argument}: {told.guess.kind}"
        found += "" if told.guess.factor is None else f" {told.guess.factor:.6g}"
        assert found == guess


@pytest.mark.parametrize("name", FAULTS)
def test_the_backward_stands_against_all_other_witnesses(check, name):
    """Which pairs disagree: the backward with differences, complex step and tape; and no two of these."""
    wrong = [finding for report in check(name).reports for finding in report.findings if not finding.ok]
    assert wrong
    for finding in wrong:
        numbers = finding.numbers
        assert finding.verdict == "WRONG"
        assert numbers[DIFFERENCES] == pytest.approx(numbers[COMPLEX], rel=1e-6, abs=1e-9)
        assert numbers.get(TAPE, numbers[COMPLEX]) == pytest.approx(numbers[COMPLEX], rel=1e-6, abs=1e-9)
        assert numbers[BACKWARD] != pytest.approx(numbers[COMPLEX], rel=1e-6, abs=1e-9)
        assert all(error > 1e-6 for error in finding.errors.values())


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_in_the_backward_alone(name):
    fault = FAULTS[name]
    for sample in fault.samples():
        right, wrong = (rule(*sample.arrays, **sample.options)[0] for rule in (fault.right, fault.function))
        np.testing.assert_allclose(wrong, right, rtol=1e-13)


def test_there_are_enough_faults_and_each_is_told():
    assert sum(fault.rule in SIX for fault in FAULTS.values()) >= 45
    assert {fault.rule for fault in FAULTS.values()} >= SIX
    assert all(fault.mistake.endswith(".") and "\n" not in fault.mistake for fault in FAULTS.values())
    assert len({(fault.rule, fault.mistake) for fault in FAULTS.values()}) == len(FAULTS)


def test_multi_head_attention_by_hand_is_right_and_is_the_layer():
    for sample in FAULTS["multi_head_residual_dropped"].samples():
        check = check_rule(multi_head_attention, [sample])
        assert check.ok, str(check)
        assert check.error_complex < 1e-11  # round-off of numbers up to 10, relative to 1e-3 at least
        assert check.error_tape < 1e-11
        layer = ta.nn.MultiHeadAttention(6, 2, bias=True, dtype=np.float64)
        x, layer.w_query, layer.w_key, layer.w_value, layer.w_output, *biases = sample.arrays
        layer.b_query, layer.b_value, layer.b_output = biases
        output, _ = multi_head_attention(*sample.arrays, **(sample.options | {"residual": False}))
        np.testing.assert_allclose(layer(x, causal=sample.options.get("causal", False)).numpy(), output)


# ---------------------------------------------------------------------------------------------------- as exercises


@pytest.mark.parametrize("name", FAULTS)
def test_an_exercise_holds_the_code_and_not_the_answer(name):
    fault = FAULTS[name]
    text = fault.exercise()
    assert name not in text
    assert fault.mistake not in text
    assert (inspect.getdoc(fault.right) or "").partition(">>>")[0].split("\n")[0] in text
    assert ">>>" not in text
    assert f"def {fault.rule}_backward(" in text
    body = inspect.getsource(fault.backward).rstrip().rpartition("\n")[2].strip()
    assert body in text
    assert "#" not in fault.source
    assert fault.mistake in fault.solution()
    assert f"def {fault.right.__name__}(" in fault.solution()


@pytest.mark.parametrize("name", FAULTS)
def test_the_code_of_an_exercise_runs_and_is_wrong(name):
    """Whoever pastes it into a notebook gets what is described there."""
    fault = FAULTS[name]
    names = {"np": np, "Any": object, "Array": object, "Gradients": tuple}
    exec("from __future__ import annotations\n" + fault.source, names)
    forward, backward = names[fault.forward.__name__], names[f"{fault.rule}_backward"]
    sample = fault.samples()[0]
    output, saved = forward(*sample.arrays, **sample.options)
    expected, right = fault.function(*sample.arrays, **sample.options)
    np.testing.assert_array_equal(output, expected)
    c = np.random.default_rng(0).normal(size=np.shape(output))[()]
    for given, wrong in zip(backward(c, *saved), right(c), strict=True):
        np.testing.assert_array_equal(given, wrong)


def test_faults_are_on_the_face_as_a_mapping_that_cannot_be_written():
    assert ta.faults is FAULTS
    with pytest.raises(TypeError):
        ta.faults["mine"] = None
    with pytest.raises(KeyError, match="there is no fault 'softmax_zer'; did you mean 'softmax_zero'"):
        ta.faults["softmax_zer"]
    assert "softmax_zer" not in ta.faults
    assert repr(ta.faults["exp_nan"]) == "<Fault exp_nan: It is NaN.>"
    assert repr(ta.faults) == f"<{len(FAULTS)} planted faults>"


def test_the_list_has_every_fault_under_its_rule():
    lines = str(ta.faults).splitlines()
    rules = [line for line in lines if not line.startswith(" ")]
    assert len(rules) == len(set(rules))
    assert len(lines) == len(rules) + len(FAULTS)
    softmax = lines[lines.index("softmax") + 1 : lines.index("log_softmax")]
    assert [line.split()[0] for line in softmax] == [f.name for f in FAULTS.values() if f.rule == "softmax"]


def test_one_at_random():
    assert ta.faults.random(3) is ta.faults.random(np.random.default_rng(3))
    assert len({ta.faults.random(seed).name for seed in range(200)}) > len(FAULTS) / 2


# ---------------------------------------------------------------------------------------------------- samples


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_are_the_same_for_the_same_seed(name):
    for first, second in zip(samples(name), samples(name), strict=True):
        assert first.about == second.about
        for x, y in zip(first.arrays, second.arrays, strict=True):
            np.testing.assert_array_equal(x, y)


def test_values_keep_clear_of_kinks():
    rng = np.random.default_rng(0)
    assert abs(clear_of_zero(rng, 7, 11)).min() >= 0.3
    assert np.diff(np.sort(all_different(rng, 7, 11), axis=None)).min() > 0.1
