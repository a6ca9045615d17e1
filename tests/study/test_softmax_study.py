import json
import math

import numpy as np
import pytest

import tinyattn as ta
from tinyattn.study import softmax as rows
from tinyattn.study.blocks import Map, Page, Section, Table, clean, cut, folded, to_html, to_text, width
from tinyattn.study.heard import Heard
from tinyattn.study.show import softmax_dict, softmax_page
from tinyattn.study.softmax import softmax_study
from tinyattn.study.temperature import closest_to, softened

SCORES = [0.1, 2.8, 0.2, 0.1, 1.1, 0.3, 1.5]
PUBLISHED = "0.03 0.52 0.04 0.03 0.14 0.05 0.19".split()
TOKENS = "The animal didn't cross street because tired".split()
INF, NAN = math.inf, math.nan


def weights_of(scores, divisor=1.0):
    """In Python alone."""
    exponentials = [math.exp(s / divisor) for s in scores]
    return np.array(exponentials) / math.fsum(exponentials)


def text(*arguments, **options):
    return to_text(softmax_page(softmax_study(*arguments, **options)))


# ------------------------------------------------------------------------------------------------------ numbers


@pytest.mark.parametrize("d_k", [None, 1, 64, 7])
def test_every_step_is_what_its_formula_says(d_k):
    d_weights = np.random.default_rng(3).normal(size=7)
    found = softmax_study(SCORES, d_k=d_k, d_weights=d_weights, values=range(7))
    divisor = 1 if d_k is None else math.sqrt(d_k)
    weights = weights_of(SCORES, divisor)
    np.testing.assert_allclose(found.scaled, np.array(SCORES) / divisor)
    np.testing.assert_allclose(found.shifted, (np.array(SCORES) - 2.8) / divisor, atol=1e-15)
    np.testing.assert_allclose(found.exponentials, np.exp(found.shifted))
    np.testing.assert_allclose(found.weights, weights)
    assert found.mix == pytest.approx(weights @ np.arange(7))
    expected = [[weights[i] * ((i == j) - weights[j]) for j in range(7)] for i in range(7)]
    np.testing.assert_allclose(found.jacobian, expected, atol=1e-16)
    np.testing.assert_allclose(found.d_scaled, np.array(expected) @ d_weights, atol=1e-15)
    for said in (found.d_scores.hand, found.d_scores.tape, found.d_scores.differences):
        np.testing.assert_allclose(said, np.array(expected) @ d_weights / divisor, atol=1e-11)
    assert found.d_scores.agree is True


def test_the_frameworks_own_softmax_agrees():
    scores = ta.tensor(SCORES, requires_grad=True)
    d_weights = np.arange(7.0)
    (ta.softmax(scores / 8.0) * d_weights).sum().backward()
    found = softmax_study(SCORES, d_k=64, d_weights=d_weights)
    np.testing.assert_allclose(found.d_scores.hand, scores.grad.numpy(), atol=1e-15)


@pytest.mark.parametrize("fault", ["back", "_by_tape", "_by_differences"])
def test_the_witnesses_are_three(monkeypatch, fault):
    """A fault in one of them is a fault in no other."""
    right = getattr(rows, fault)
    wrong = {
        "back": lambda weights, d_weights: weights * d_weights,
        "_by_tape": lambda *arguments: right(*arguments) * 1.001,
        "_by_differences": lambda *arguments: (right(*arguments)[0] * 1.001, False),
    }
    good = softmax_study(SCORES).d_scores
    monkeypatch.setattr(rows, fault, wrong[fault])
    found = softmax_study(SCORES).d_scores
    assert found.agree is False
    place = ["back", "_by_tape", "_by_differences"].index(fault) + 1
    for i in (1, 2, 3):
        assert np.array_equal(found[i], good[i]) == (i != place)
    assert "They DIFFER" in to_text(softmax_page(softmax_study(SCORES)))


def test_nothing_of_the_rule_is_in_hand_and_tape(monkeypatch):
    from tinyattn.rules.registry import RULES

    monkeypatch.setitem(RULES, "softmax", lambda *_, **__: pytest.fail("the rule was called"))
    assert softmax_study(SCORES).d_scores.agree


def test_random_numbers_come_from_the_seed_and_are_short():
    first, again, other = (softmax_study(SCORES, seed=seed) for seed in (1, 1, 2))
    assert (first.d_weights == again.d_weights).all()
    assert (first.d_weights != other.d_weights).any()
    assert (first.d_weights * 100 == np.round(first.d_weights * 100)).all()
    assert (first.seed, softmax_study([1.0], d_weights=[1.0]).seed) == (1, None)


def test_both_ways():
    plain, scaled = softmax_study(SCORES, d_k=64).ways
    for way, divisor in ((plain, 1), (scaled, 8)):
        weights = weights_of(SCORES, divisor)
        np.testing.assert_allclose(way.weights, weights)
        assert way.entropy == pytest.approx(-sum(w * math.log(w) for w in weights))
        assert way.largest == pytest.approx(weights.max())
        assert way.size == pytest.approx(math.sqrt(sum(way.d_scores**2)))
    np.testing.assert_array_equal(scaled.d_scores, softmax_study(SCORES, d_k=64).d_scores.hand)


# ------------------------------------------------------------------------------------------------------ odd scores


def test_hidden_scores_have_exactly_nothing():
    found = softmax_study([1.0, -INF, 2.0], tokens=["a", "b", "c"], d_k=4)
    assert (found.weights[1], found.mean) == (0.0, pytest.approx(found.weights @ found.d_weights))
    assert [said[1] for said in found.d_scores[1:4]] == [0.0, 0.0, 0.0]
    assert not found.jacobian[1].any()
    assert found.d_scores.agree
    told = text([1.0, -INF, 2.0], tokens=["a", "b", "c"])
    assert "Hidden by −inf: b. Weight and gradient are exactly 0 there." in told


@pytest.mark.parametrize(
    ("scores", "told"), [([NAN, 1.0], "a score is NaN"), ([INF, 1.0], "a score is +inf"), ([-INF] * 2, "0 / 0")]
)
def test_what_is_not_a_number_is_told(scores, told):
    found = softmax_study(scores, d_k=4)
    assert np.isnan(found.weights).all()
    assert found.d_scores.agree is None
    assert told in found.problem
    assert told in text(scores, d_k=4).replace("\n", " ")
    json.dumps(softmax_dict(found), allow_nan=False)


def test_one_score_has_all_the_weight_and_no_gradient():
    found = softmax_study([7.0], d_k=3)
    assert (found.weights.tolist(), found.d_scores.hand.tolist(), found.jacobian.tolist()) == ([1.0], [0.0], [[0.0]])
    assert (found.d_scores.agree, found.ways[0].entropy) == (True, 0.0)
    assert "is positive, all else" not in text([7.0])  # of its Jacobian, which is 0


def test_equal_scores_have_equal_weights():
    found = softmax_study([3.0] * 4, d_k=2)
    assert found.weights.tolist() == [0.25] * 4
    assert found.ways[0].entropy == pytest.approx(math.log(4))
    assert found.d_scores.agree


@pytest.mark.parametrize("size", [1e9, 1e17, 1e308])
def test_huge_scores_are_moved_after_they_were_shifted(size):
    found = softmax_study([size, -size, size], d_weights=[1.0, 2.0, 3.0])
    assert found.moved_shifted
    np.testing.assert_allclose(found.d_scores.differences, [-0.5, 0.0, 0.5], atol=1e-12)
    assert found.d_scores.agree
    assert "the differences moved the shifted" in " ".join(text([size, -size, size]).split())
    assert not softmax_study(SCORES).moved_shifted


def test_weights_that_vanish_are_told():
    assert "exp gives exactly 0: #2." in text([1e308, -1e308])


@pytest.mark.parametrize("size", [1e-320, 1e-300, 1e300])
def test_gradients_of_any_size(size):
    found = softmax_study(SCORES, d_k=64, d_weights=np.arange(7) * size)
    assert found.d_scores.agree
    assert math.isfinite(found.ways[0].size)


@pytest.mark.parametrize("d_k", [10**4, 10**14])
def test_a_large_d_k_takes_a_large_step(d_k):
    found = softmax_study(SCORES, d_k=d_k, d_weights=range(7)).d_scores
    np.testing.assert_allclose(found.differences, found.hand, rtol=0, atol=1e-10 * abs(found.hand).max())


# ------------------------------------------------------------------------------------------------------ published


def test_the_published_example():
    found = softmax_study(SCORES, d_k=64, tokens=TOKENS, published=PUBLISHED).published
    grid = np.geomspace(0.5, 2, 20001)

    def divergence(t):
        p = weights_of(SCORES, t)
        q = np.array(PUBLISHED, dtype=float)
        return float(q @ np.log(q / p))

    best = min(grid, key=divergence)
    assert found.temperature == pytest.approx(best, rel=1e-4)
    assert found.divergence == pytest.approx(divergence(best), abs=1e-8)
    assert found.bracket[0] < found.temperature < found.bracket[1] < found.bracket[0] * 1.0001
    np.testing.assert_allclose(found.closest, weights_of(SCORES, found.temperature))
    np.testing.assert_allclose(found.remaining, np.array(PUBLISHED, dtype=float) - found.closest)
    assert (found.rounding, found.exact) == (pytest.approx(0.005), False)


def test_two_ranges_prove_that_no_temperature_gives_the_published_weights():
    first, second = closest_to(np.array(SCORES), PUBLISHED, TOKENS).against
    assert (first.tokens, second.tokens) == (("street", "The"), ("animal", "street"))
    assert first.high < second.low
    assert first.low == pytest.approx(1.0 / math.log(0.145 / 0.025))
    assert first.high == pytest.approx(1.0 / math.log(0.135 / 0.035))
    assert second.low == pytest.approx(1.7 / math.log(0.525 / 0.135))
    for t in np.geomspace(1e-3, 1e3, 999):  # none of them is within rounding
        assert abs(weights_of(np.array(SCORES) - 2.8, t) - np.array(PUBLISHED, dtype=float)).max() > 0.005


@pytest.mark.parametrize("temperature", [1e-2, 0.7, 1.0, 8.0, 1e5])
def test_a_temperature_is_found_again(temperature):
    weights = softened(np.array(SCORES), temperature)
    found = closest_to(np.array(SCORES), [f"{w:.17f}" for w in weights], TOKENS)
    assert found.exact
    if temperature > 0.1:  # below, one weight is 1 in 17 digits
        assert found.temperature == pytest.approx(temperature, rel=1e-5)


def test_the_search_agrees_with_a_fine_grid():
    rng = np.random.default_rng(0)
    for _ in range(50):
        scores, q = rng.normal(size=5) * 10.0 ** rng.integers(-3, 4), rng.dirichlet(np.ones(5))
        found = closest_to(scores, [f"{x:.6f}" for x in q], list("abcde"))
        spread = np.ptp(scores)
        with np.errstate(divide="ignore"):
            least = min(
                float(np.sum(q * np.log(q / softened(scores, spread * t)))) for t in np.geomspace(0.02, 1e4, 3000)
            )
        assert found.divergence <= least + 1e-5


@pytest.mark.parametrize(
    ("scores", "weights", "temperature"),
    [
        ([0.0, 1.0], ["0", "1"], 0.0),
        ([0.0, 1.0], ["0.5", "0.5"], INF),
        ([0.0, 1.0], ["0.9", "0.1"], INF),
        ([2.0, 2.0], ["0.5", "0.5"], None),
        ([2.0], ["1"], None),
        ([2.0, -INF], ["1", "0"], None),
    ],
)
def test_the_ends_of_temperature(scores, weights, temperature):
    found = closest_to(np.array(scores), weights, ["a", "b"])
    assert found.temperature == temperature
    assert found.closest.sum() == pytest.approx(1)
    json.dumps(softmax_dict(softmax_study(scores, published=weights)), allow_nan=False)
    assert ("limit" in text(scores, published=weights)) == (temperature in (0.0, INF))


@pytest.mark.parametrize(
    ("scores", "weights", "told"),
    [
        ([1.0, 1.0], ["0.2", "0.8"], "#1 and #2 have the same score, so the same weight at every T"),
        ([1.0, 2.0], ["0.9", "0.1"], "#2 and #1 have weights against the order of their scores"),
        ([1.0, 3.0, 0.5], ["0.5", "0.4", "0.1"], "#2 and #1 ∞ ∞"),
        ([1.0, -INF], ["0.5", "0.5"], "#2 is hidden (−inf), and so has weight 0"),
        ([0.0, 1.0], ["0.25", "0.75"], "These are the published weights, within their rounding of ±0.005"),
        ([0.0, 1.0], ["0.5", "1.5e-0"], None),
        ([0.0, 1.0], ["0.4", "0.8"], "The published weights sum to 1.2000; KL takes them divided by that."),
    ],
)
def test_why_none_is_exact(scores, weights, told):
    if told is None:
        with pytest.raises(ValueError, match="from 0 to 1"):
            softmax_study(scores, published=weights)
    else:
        assert told in " ".join(text(scores, published=weights).split())


# ------------------------------------------------------------------------------------------------------ mistakes


@pytest.mark.parametrize(
    ("scores", "options", "told"),
    [
        ([], {}, "needs from 1 to 1000 scores.*got 0"),
        ([0.0] * 1001, {}, "got 1001"),
        ([1.0, 2.0], {"tokens": ["a"]}, "tokens must be as many as the scores; got 1 for 2 scores"),
        ([1.0], {"d_weights": [1.0, 2.0]}, "gradient must be as many as the scores; got 2 for 1 score"),
        ([1.0], {"values": []}, "values must be as many"),
        ([1.0], {"values": [NAN]}, "values must be finite numbers; got nan"),
        ([1.0], {"d_weights": [INF]}, "gradient must be finite numbers; got inf"),
        ([1.0], {"d_k": 0}, "d_k must be a whole number, 1 or more; got 0"),
        ([1.0], {"published": ["1", "0"]}, "published weights must be as many"),
        ([1.0], {"published": ["much"]}, "a published weight is a number from 0 to 1, as 0.52; got 'much'"),
        ([1.0], {"published": ["nan"]}, "got 'nan'"),
        ([1.0], {"published": ["-0.1"]}, "got '-0.1'"),
        ([1.0], {"published": [" -0.1"]}, "got '-0.1'"),  # as the command hands it on
        ([1.0], {"published": ["0"]}, "must not all be 0"),
        ([NAN], {"published": ["1"]}, "leave out nan and inf"),
        ([1e308, -1e308], {"published": ["1", "0"]}, "whose differences are finite"),
    ],
)
def test_mistakes(scores, options, told):
    with pytest.raises(ValueError, match=f"softmax: .*{told}"):
        softmax_study(scores, **options)


# ------------------------------------------------------------------------------------------------------ what is heard


def test_agreement_is_relative_and_nan_is_no_agreement():
    x = np.array([1.0, -2.0])
    assert Heard("x", x, x, x).agree
    assert Heard("x", x * 1e-30, x * 1e-30, x * 1e-30 * (1 + 1e-9)).agree
    assert Heard("x", x * 1e-30, x * 1.01e-30, x * 1e-30).agree is False
    assert Heard("x", x * NAN, x, x).agree is False
    assert Heard("x", x, x, x * NAN).agree is False
    assert Heard("x", x * NAN, x * NAN, x * NAN).agree is None


# ------------------------------------------------------------------------------------------------------ shown


def test_words_are_cut_by_what_is_shown():
    assert cut("short") == "short"
    assert (cut("猫" * 10), width(cut("猫" * 10))) == ("猫" * 5 + "…", 11)
    assert (width("e\u0301"), width("नमस्ते"), width("\u200d"), width("ﾆ")) == (1, 4, 0, 1)
    assert clean("a\x1b[1m\n\u202eb\udc80\u200d") == "a�[1m��b�\u200d"


def test_no_line_is_wider_than_a_terminal():
    tokens = ["猫" * 20, "\x1b[31m" * 9, "e\u0301" * 40, "w" * 99, "", "\n", "a\tb", "🙂" * 9]
    scores = [-1e-9, 1e308, -1e308, 123456.789, 0.0, -INF, 1e-300, 3.0]
    told = text(scores, tokens=tokens, d_k=12345, values=scores[2:5] + [1e300] * 5, d_weights=[-1e300] * 8)
    assert max(map(width, told.splitlines())) <= 80
    assert told.replace("\n", "").isprintable()


def test_words_of_wide_letters_are_wrapped_where_they_end():
    told = text(range(8), tokens=["猫" * 20] * 8)
    assert "猫猫猫猫猫… + 0." in told
    assert max(map(width, told.splitlines())) <= 80


def test_columns_line_up():
    lines = text(SCORES, tokens=["猫猫猫", *TOKENS[1:]]).splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("  token"))
    end = lines[start].index("scores") + len("scores")
    for line in lines[start + 1 : start + 8]:
        shown = [c for c in line for _ in range(width(c))]
        assert (shown[end - 1].isdigit(), shown[end]) == (True, " ")


def test_many_scores_have_a_map_of_blocks_and_no_numbers():
    told = text(range(200))
    assert "each character is the largest of 4 × 4 numbers" in " ".join(told.split())
    assert "The numbers of up to 8 × 8 are shown; these are 200 × 200." in told
    cells, labels, size = folded(softmax_study(range(200)).jacobian, [""] * 200)
    assert (cells.shape, len(labels), labels[0], labels[-1], size) == ((50, 50), 50, "1–4", "197–200", 4)
    np.testing.assert_array_equal(cells[49, 48], softmax_study(range(200)).jacobian[196:, 192:196].__abs__().max())
    assert softmax_dict(softmax_study(range(200)))["jacobian"] is None


def test_the_shades_are_quarters():
    matrix = np.array([[0.0, 0.1, -0.25], [0.5, -0.75, 1.0], [NAN, 0.26, 0.51]])
    lines = to_text(Page("", (), (Section("", (Map(("a", "b", "c"), matrix, "all"),)),))).splitlines()
    assert "  a  ··░░░░" in lines
    assert "  b  ▒▒▓▓██" in lines
    assert "  c  ??▒▒▓▓" in lines
    assert "  ? NaN   · 0   ░ to 0.2500   ▒ to 0.5000   ▓ to 0.7500   █ to 1.0000" in lines


def test_json_holds_everything():
    told = json.loads(json.dumps(softmax_dict(softmax_study(SCORES, d_k=64, published=PUBLISHED)), allow_nan=False))
    assert told["study"] == "softmax"
    assert told["weights"] == pytest.approx(weights_of(SCORES, 8))
    assert np.array(told["jacobian"]).shape == (7, 7)
    assert max(map(abs, told["row_sums"])) < 1e-15
    assert set(told["d_scores"]) == {"hand", "tape", "differences", "apart", "agree"}
    assert [way["divisor"] for way in told["ways"]] == [1.0, 8.0]
    assert told["published"]["against"][0]["tokens"] == ["#5", "#1"]


def test_html_says_the_same_and_escapes():
    page = softmax_page(softmax_study(SCORES, tokens=["<script>alert(1)</script>", '"&', *TOKENS[2:]], d_k=64))
    made = to_html(page)
    assert "<script" not in made
    assert "&lt;script&gt;" in made
    assert "http" not in made
    for section in page.sections:
        for table in section.blocks:
            if isinstance(table, Table):
                assert all(f"<td>{cell}</td>" in made for row in table.rows for cell in row[1:])


def test_html_is_well_formed():
    from html.parser import HTMLParser

    class Checker(HTMLParser):
        stack = []  # noqa: RUF012

        def handle_starttag(self, tag, attrs):
            if tag != "meta":
                self.stack.append(tag)

        def handle_endtag(self, tag):
            assert self.stack.pop() == tag

    for scores in (SCORES, [NAN, -INF], range(100)):
        checker = Checker()
        checker.feed(to_html(softmax_page(softmax_study(scores, d_k=2))))
        assert checker.stack == []
