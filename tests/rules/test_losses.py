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


def test_errors():
    scores = np.zeros((3, 5))
    with pytest.raises(TypeError, match=r"cross_entropy: targets must be integers, .*got float64"):
        rules.cross_entropy(scores, np.zeros(3))
    with pytest.raises(ValueError, match=r"cross_entropy: .*got scores \(3, 5\) and targets \(2,\)"):
        rules.cross_entropy(scores, np.zeros(2, int))
    with pytest.raises(ValueError, match=r"cross_entropy: targets must lie in 0 … 4; got 0 … 5"):
        rules.cross_entropy(scores, np.array([0, 5, 1]))
    with pytest.raises(ValueError, match="cross_entropy: reduction must be 'mean', 'sum' or 'none'; got 'average'"):
        rules.cross_entropy(scores, np.zeros(3, int), reduction="average")
    with pytest.raises(ValueError, match=r"mse_loss: .*got \(3, 5\), \(5,\)"):
        rules.mse_loss(scores, np.zeros(5))
