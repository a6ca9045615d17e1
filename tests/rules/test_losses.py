import numpy as np
import pytest

from tinyattn.rules import losses as rules


def test_cross_entropy_by_head():
    """Weights ¼ and ¾: a loss of log 4 or log 4/3, and gradients w − [j = t], halved by the mean over two rows."""
    scores = np.log(np.array([[1.0, 3.0], [1.0, 3.0]]))
    loss, backward = rules.cross_entropy(scores, np.array([0, 1]))
    assert np.isclose(loss, (np.log(4) + np.log(4 / 3)) / 2)
    d_scores, none = backward(np.float64(1.0))
    np.testing.assert_allclose(d_scores, [[-0.375, 0.375], [0.125, -0.125]])
    assert none is None


def test_reductions():
    scores, targets = np.random.default_rng(0).normal(size=(2, 3, 5)), np.array([[1, 0, 4], [2, 2, 3]])
    each, backward = rules.cross_entropy(scores, targets, reduction="none")
    assert each.shape == (2, 3)
    np.testing.assert_allclose(rules.cross_entropy(scores, targets)[0], each.mean())
    np.testing.assert_allclose(rules.cross_entropy(scores, targets, reduction="sum")[0], each.sum())
    weighted = np.arange(6.0).reshape(2, 3)
    np.testing.assert_allclose(backward(weighted)[0].sum(-1), 0.0, atol=1e-14)
    assert not backward(weighted)[0][0, 0].any()


def test_an_impossible_class_that_is_not_the_target_costs_nothing():
    scores = np.array([0.0, -np.inf, 0.0])
    loss, backward = rules.cross_entropy(scores, np.array(2))
    assert np.isclose(loss, np.log(2))
    np.testing.assert_allclose(backward(np.float64(1.0))[0], [0.5, 0.0, -0.5])


def test_mse_by_head():
    loss, backward = rules.mse_loss(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    assert loss == 2.0
    d_prediction, d_target = backward(np.float64(1.0))
    assert d_prediction.tolist() == [0.0, -2.0]
    assert d_target.tolist() == [0.0, 2.0]


def test_probabilities_by_head():
    """Weights ¼ and ¾, expected ½ and ½: ℓ = ½ log 4 + ½ log 4/3, d_s = w − t, d_t = −log w."""
    loss, backward = rules.cross_entropy(np.log(np.array([1.0, 3.0])), np.array([0.5, 0.5]))
    assert np.isclose(loss, (np.log(4) + np.log(4 / 3)) / 2)
    d_scores, d_targets = backward(np.float64(2.0))
    np.testing.assert_allclose(d_scores, [-0.5, 0.5])
    np.testing.assert_allclose(d_targets, [2 * np.log(4), 2 * np.log(4 / 3)])


def test_probabilities_that_do_not_sum_to_1_are_taken_as_they_are():
    loss, backward = rules.cross_entropy(np.zeros(2), np.array([2.0, 1.0]))
    assert np.isclose(loss, 3 * np.log(2))
    np.testing.assert_allclose(backward(np.float64(1.0))[0], [1.5 - 2.0, 1.5 - 1.0])


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.3}, {"reduction": "none"}, {"reduction": "sum"}])
def test_a_class_is_a_probability_of_1(options):
    scores, targets = np.random.default_rng(0).normal(size=(2, 3, 5)), np.array([[1, 0, 4], [2, 2, 3]])
    by_class, backward = rules.cross_entropy(scores, targets, **options)
    by_probability, backward_too = rules.cross_entropy(scores, np.eye(5)[targets], **options)
    np.testing.assert_allclose(by_class, by_probability)
    d = np.random.default_rng(1).normal(size=np.shape(by_class))
    np.testing.assert_allclose(backward(d)[0], backward_too(d)[0], atol=1e-15)


def test_smoothed_labels_by_head():
    """ε = ½ over 2 classes makes ¾ and ¼ of 1 and 0; a smoothing of 1 forgets the target."""
    scores = np.log(np.array([1.0, 3.0]))
    loss, backward = rules.cross_entropy(scores, np.array(0), label_smoothing=0.5)
    assert np.isclose(loss, 0.75 * np.log(4) + 0.25 * np.log(4 / 3))
    np.testing.assert_allclose(backward(np.float64(1.0))[0], [0.25 - 0.75, 0.75 - 0.25])
    one, other = (rules.cross_entropy(scores, np.array(t), label_smoothing=1.0)[0] for t in (0, 1))
    assert one == other


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("garbage", [0.0, np.nan, np.inf])
@pytest.mark.parametrize("ignored", [-100, 2, 99])
def test_ignored_rows_are_not_there(ignored, garbage, smoothing):
    scores = np.random.default_rng(0).normal(size=(3, 5))
    scores[1] = garbage
    options = {"ignore_index": ignored, "label_smoothing": smoothing}
    for reduction in ("mean", "sum"):
        loss, backward = rules.cross_entropy(scores, np.array([1, ignored, 4]), reduction=reduction, **options)
        expected, expected_backward = rules.cross_entropy(
            scores[[0, 2]], np.array([1, 4]), reduction=reduction, label_smoothing=smoothing
        )
        np.testing.assert_allclose(loss, expected)
        d_scores = backward(np.float64(1.7))[0]
        assert d_scores[1].tolist() == [0.0] * 5
        np.testing.assert_allclose(d_scores[[0, 2]], expected_backward(np.float64(1.7))[0])
    each, _ = rules.cross_entropy(scores, np.array([1, ignored, 4]), reduction="none", **options)
    assert each[1] == 0.0
    assert (each[[0, 2]] > 0.0).all()


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_where_no_row_counts_the_loss_is_0(reduction):
    loss, backward = rules.cross_entropy(np.ones((3, 5)), np.full(3, -100), ignore_index=-100, reduction=reduction)
    assert loss == 0.0
    assert backward(np.float64(1.0))[0].tolist() == np.zeros((3, 5)).tolist()
    for rule, arrays in (
        (rules.cross_entropy, (np.ones((0, 5)), np.ones(0, int))),
        (rules.cross_entropy, (np.ones((0, 5)), np.ones((0, 5)))),
        (rules.mse_loss, (np.ones((0, 5)), np.ones((0, 5)))),
        (rules.binary_cross_entropy_with_logits, (np.ones(0), np.ones(0))),
    ):
        loss, backward = rule(*arrays, reduction=reduction)
        assert loss == 0.0
        assert backward(np.float64(1.0))[0].shape == arrays[0].shape


def test_an_impossible_class_that_is_not_expected_costs_nothing():
    """Also as a probability of 0: 0 log 0 = 0, and no gradient is infinite or NaN."""
    loss, backward = rules.cross_entropy(np.array([0.0, -np.inf, 0.0]), np.array([0.0, 0.0, 1.0]))
    assert np.isclose(loss, np.log(2))
    d_scores, d_targets = backward(np.float64(1.0))
    np.testing.assert_allclose(d_scores, [0.5, 0.0, -0.5])
    np.testing.assert_allclose(d_targets, [np.log(2), 0.0, np.log(2)])
    assert rules.cross_entropy(np.array([0.0, -np.inf]), np.array([0.5, 0.5]))[0] == np.inf


def test_binary_cross_entropy_by_head():
    """σ(log 3) = ¾: a yes costs log 4/3, a no log 4; a yes that weighs 2 costs twice."""
    scores, targets = np.log(np.array([3.0, 3.0])), np.array([1.0, 0.0])
    each, backward = rules.binary_cross_entropy_with_logits(scores, targets, reduction="none")
    np.testing.assert_allclose(each, [np.log(4 / 3), np.log(4)])
    d_scores, d_targets, none = backward(np.array([1.0, 10.0]))
    np.testing.assert_allclose(d_scores, [-0.25, 7.5])
    np.testing.assert_allclose(d_targets, [-np.log(3), -10 * np.log(3)])
    assert none is None
    weighted, backward = rules.binary_cross_entropy_with_logits(scores, targets, np.array([2.0, 2.0]), reduction="none")
    np.testing.assert_allclose(weighted, [2 * np.log(4 / 3), np.log(4)])
    np.testing.assert_allclose(backward(np.ones(2))[0], [-0.5, 0.75])
    np.testing.assert_allclose(backward(np.ones(2))[2], [np.log(4 / 3), 0.0])


def test_binary_cross_entropy_far_from_zero():
    """An overflow would warn, which is an error here; small losses keep their digits."""
    scores, targets = np.array([-1e4, -40.0, 40.0, 1e4]), np.array([0.0, 0.0, 1.0, 1.0])
    each, backward = rules.binary_cross_entropy_with_logits(scores, targets, reduction="none")
    np.testing.assert_allclose(each, [0.0, np.exp(-40.0), np.exp(-40.0), 0.0], rtol=1e-12)
    np.testing.assert_allclose(backward(np.ones(4))[0], [0.0, np.exp(-40.0), -np.exp(-40.0), 0.0], rtol=1e-12)
    assert rules.binary_cross_entropy_with_logits(scores, 1.0 - targets)[0] == (2e4 + 80.0) / 4


@pytest.mark.parametrize("targets", [np.array([1, 0]), np.array([True, False])])
def test_answers_may_be_integers_or_booleans(targets):
    scores = np.array([0.3, -1.2], np.float32)
    loss, _ = rules.binary_cross_entropy_with_logits(scores, targets)
    assert loss.dtype == np.float32
    assert loss == rules.binary_cross_entropy_with_logits(scores, targets.astype(np.float32))[0]


def test_errors():
    scores = np.zeros((3, 5))
    with pytest.raises(TypeError, match=r"targets that are classes must be integers; got float64, of shape \(3,\) for"):
        rules.cross_entropy(scores, np.zeros(3))
    with pytest.raises(TypeError, match=r"targets that are probabilities must be floating; got int64, of shape"):
        rules.cross_entropy(scores, np.eye(3, 5, dtype=int))
    with pytest.raises(TypeError, match=r"targets that are classes must be integers; got bool"):
        rules.cross_entropy(scores, np.ones(3, bool))
    for targets in (np.zeros(2, int), np.zeros((3, 1)), np.zeros((5, 3)), np.zeros(())):
        with pytest.raises(ValueError, match=r"cross_entropy: scores .*got scores \(3, 5\) and targets"):
            rules.cross_entropy(scores, targets)
    with pytest.raises(ValueError, match=r"cross_entropy: scores .* need targets"):
        rules.cross_entropy(np.float64(1.0), np.array(1))
    for smoothing in (-0.1, 1.1, np.nan):
        with pytest.raises(ValueError, match=r"cross_entropy: label_smoothing must lie in 0 … 1; got"):
            rules.cross_entropy(scores, np.zeros(3, int), label_smoothing=smoothing)
    with pytest.raises(ValueError, match="ignore_index is for targets that are classes; got probabilities"):
        rules.cross_entropy(scores, scores, ignore_index=0)
    with pytest.raises(ValueError, match=r"cross_entropy: targets must lie in 0 … 4; got -100 … 1"):
        rules.cross_entropy(scores, np.array([0, -100, 1]))
    with pytest.raises(ValueError, match=r"cross_entropy: targets must lie in 0 … 4; got -1 … 1"):
        rules.cross_entropy(scores, np.array([-1, -100, 1]), ignore_index=-100)
    with pytest.raises(ValueError, match=r"cross_entropy: targets must lie in 0 … 4; got 0 … 5"):
        rules.cross_entropy(scores, np.array([0, 5, 1]))
    with pytest.raises(ValueError, match="cross_entropy: reduction must be 'mean', 'sum' or 'none'; got 'average'"):
        rules.cross_entropy(scores, np.zeros(3, int), reduction="average")
    with pytest.raises(ValueError, match=r"mse_loss: .*got \(3, 5\), \(5,\)"):
        rules.mse_loss(scores, np.zeros(5))
    name = "binary_cross_entropy_with_logits"
    with pytest.raises(ValueError, match=rf"{name}: scores and targets must have one shape; got \(3, 5\) and \(3,\)"):
        rules.binary_cross_entropy_with_logits(scores, np.zeros(3))
    with pytest.raises(ValueError, match=rf"{name}: pos_weight must broadcast to \(3, 5\); got \(3,\)"):
        rules.binary_cross_entropy_with_logits(scores, scores, np.ones(3))
    with pytest.raises(ValueError, match=f"{name}: reduction must be"):
        rules.binary_cross_entropy_with_logits(scores, scores, reduction="average")


@pytest.mark.parametrize("loss", [rules.mse_loss, rules.binary_cross_entropy_with_logits])
def test_targets_of_whole_numbers_widen_nothing_and_do_not_wrap_around(loss):
    scores, targets = np.array([-1.5, 0.5, 20.0], np.float32), np.array([1, 0, 1], np.uint8)
    found, backward = loss(scores, targets)
    assert found.dtype == backward(np.float32(1.0))[0].dtype == np.float32
    assert np.isclose(found, loss(scores.astype(float), targets.astype(float))[0])
    bytes_ = np.array([0, 200], np.uint8)
    assert loss(bytes_, bytes_[::-1])[0] == loss(bytes_ * 1.0, bytes_[::-1] * 1.0)[0]


def test_no_targets_are_of_any_type():
    """An empty list is one of floats to NumPy."""
    loss, backward = rules.cross_entropy(np.ones((0, 5)), np.zeros(0))
    assert loss == 0.0
    assert backward(np.float64(1.0))[0].shape == (0, 5)
