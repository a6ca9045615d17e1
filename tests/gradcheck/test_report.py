import json

import numpy as np
import pytest

import tinyattn as ta
from tinyattn.gallery import FAULTS
from tinyattn.gradcheck import check_rule, gradcheck


@pytest.fixture
def wrong():
    """The report on a fault with a guess: softmax without its row sum."""
    fault = FAULTS["softmax_without_row_sum"]
    return check_rule(fault.function, fault.samples()[:1]).reports[0]


def json_of(report):
    return json.loads(report.to_json(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_the_first_wrong_number_is_told_whole(wrong):
    finding = wrong.wrong
    assert (finding.rule, finding.argument, finding.index) == ("softmax_without_row_sum", "scores", (0, 0))
    assert finding.analytic == finding.numbers["backward"]
    assert finding.numeric == finding.numbers["differences"]
    assert finding.ratio == finding.analytic / finding.numbers["complex step"]
    assert not finding.doubtful
    assert 15 < finding.wrong <= finding.total == 16 * 15
    assert wrong.guess is finding.guess


def test_the_first_wrong_number_is_the_first_in_order():
    def mistaken(x):
        mistake = np.ones((3, 5))
        mistake[1, 4], mistake[2, 0] = 1.001, 7.0  # the second is worse
        return x * x, lambda d_output: (2 * d_output * x * mistake,)

    from tinyattn.gallery import Sample

    (report,) = check_rule(mistaken, [Sample("ones", (np.ones((3, 5)),))]).reports
    assert report.wrong.index == (1, 4)
    assert report.wrong.ratio == pytest.approx(1.001)
    assert report.error == pytest.approx(6 / 7, rel=1e-2)
    assert report.wrong.wrong == 2 + 2  # under the random cotangent, and each under its own


def test_a_report_prints_as_a_table(wrong):
    head, titles, row, guess = str(wrong).splitlines()
    assert head == "softmax_without_row_sum, last axis: the gradients DIFFER"
    columns = ["argument", "index", "backward", "tape", "differences", "complex", "step", "error", "ratio"]
    assert titles.split() == columns
    assert row.split()[:3] == ["scores", "(0,", "0)"]
    assert f"WRONG, {wrong.wrong.wrong} of 240" in row
    assert guess.strip() == f"scores: {wrong.guess.text}"


def test_json_holds_all_of_it(wrong):
    told = json_of(wrong)
    assert told == wrong.to_dict()
    assert (told["ok"], told["verdict"], told["problem"]) == (False, "the gradients DIFFER", None)
    assert told["wrong"]["index"] == [0, 0]
    assert told["wrong"]["guess"]["kind"] == "missing term"
    assert told["findings"][0]["numbers"]["backward"] == wrong.wrong.analytic
    good = json_of(gradcheck(ta.exp, [1.0], second_order=True))
    assert (good["ok"], good["wrong"], good["second"]["ok"]) == (True, None, True)


def test_json_of_what_is_not_finite():
    told = json_of(gradcheck(lambda x: x * np.nan, [1.0]))
    assert told["findings"][0]["numbers"]["backward"] is None
    assert told["findings"][0]["guess"]["kind"] == "nan"
    assert told["error"] is None


def test_a_notebook_gets_a_table_in_which_names_do_no_harm():
    def f(x):
        return ta.exp(x)

    f.__name__ = "<script>alert(1)</script>"
    good = gradcheck(f, [1.0])._repr_html_()
    assert "<script>" not in good
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in good
    assert good.count("<tr>") == 2
    assert "✓" in good
    name = "<img src=x>"
    bad = gradcheck(lambda p: ta.exp(p[name].detach()), {name: [1.0]}, second_order=True)._repr_html_()
    assert "<img" not in bad
    assert "✗" in bad
    assert "<li>" in bad


def test_a_report_without_findings_has_no_table():
    report = gradcheck(lambda x: ta.exp(x) * np.random.default_rng().normal(), [1.0])
    assert str(report).startswith("<lambda>: two calls")
    assert "<table>" not in report._repr_html_()
    assert (report.wrong, report.guess, report.error) == (None, None, 0.0)


def test_a_rule_check_tells_its_failures():
    fault = FAULTS["attention_value_severed"]
    check = check_rule(fault.function, fault.samples(), second_order=True)
    told = check.to_dict()
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert (told["rule"], told["ok"], len(told["failed"])) == ("attention_value_severed", False, 3)
    assert (check.wrong.argument, check.guess.kind) == ("value", "zero")
    assert check_rule("exp").to_dict()["failed"] == []
    assert check_rule("exp").wrong is None
