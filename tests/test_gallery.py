"""The tester, tested: every planted fault is caught, by numbers that share nothing with it."""

import numpy as np
import pytest

from tinyattn.gallery import FAULTS, SAMPLES, all_different, clear_of_zero
from tinyattn.gradcheck import BACKWARD, COMPLEX, DIFFERENCES, check_rule
from tinyattn.rules import RULES


def samples(name):
    return list(SAMPLES[name](np.random.default_rng(0)))


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_is_caught(name):
    fault = FAULTS[name]
    check = check_rule(fault.function, samples(fault.rule))
    assert not check.ok
    caught = [report for report in check.reports if not report]
    for report in caught:
        assert "vacuous" not in str(report)
        for finding in report.findings:
            if not finding.ok:
                numbers = finding.numbers
                assert numbers[DIFFERENCES] == pytest.approx(numbers[COMPLEX], rel=1e-5, abs=1e-8)
                assert numbers[BACKWARD] != pytest.approx(numbers[COMPLEX], rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_in_the_backward_alone(name):
    fault = FAULTS[name]
    for sample in samples(fault.rule):
        right, wrong = (rule(*sample.arrays, **sample.options)[0] for rule in (RULES[fault.rule], fault.function))
        np.testing.assert_array_equal(wrong, right)


def test_there_are_enough_faults_and_each_is_told():
    assert len(FAULTS) >= 30
    assert all(fault.mistake.endswith(".") and fault.rule in RULES for fault in FAULTS.values())


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
