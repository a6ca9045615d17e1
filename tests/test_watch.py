"""The first operation that made a NaN or an infinity is named, with the line that asked for it."""

import threading

import numpy as np
import pytest

import tinyattn as ta

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def leaf(data, **options):
    return ta.tensor(data, requires_grad=True, **options)


@pytest.mark.parametrize("requires_grad", [True, False])
def test_forward(requires_grad):
    x = ta.tensor([[1.0, 2.0], [4.0, -9.0]], requires_grad=requires_grad, name="x")
    told = (
        r"^log \(line \d+ of test_watch\.py: bad = ta\.log\(x\)\) made a NaN at \(1, 1\), from x \(2, 2\) in -9 … 4$"
    )
    with ta.detect_anomaly():
        ta.exp(x)
        with pytest.raises(FloatingPointError, match=told):
            bad = ta.log(x)
        with pytest.raises(FloatingPointError, match=r"divide .* made an infinity at \(0,\)"):
            ta.tensor([1.0]) / 0.0
        with ta.no_grad(), pytest.raises(FloatingPointError, match=r"log"):
            bad = ta.log(x)
    bad = ta.log(x)
    assert np.isnan(bad.numpy()).any()


def test_backward():
    x = leaf([0.0, 4.0])
    where = r"line \d+ of test_watch\.py: y = ta\.sqrt\(x\) \* 3\.0"
    told = rf"^backward: sqrt \({where}\) gave x, of shape \(2,\), an infinity at \(0,\)"
    y = ta.sqrt(x) * 3.0
    with ta.detect_anomaly(), pytest.raises(FloatingPointError, match=told):
        y.sum().backward()
    assert x.grad is None
    y = (ta.sqrt(x) * 0.0).sum()  # 0 · ∞
    with ta.detect_anomaly(), pytest.raises(FloatingPointError, match=r"sqrt .* gave x, .*, a NaN at \(0,\)"):
        y.backward()


def test_what_was_bad_before_is_not_blamed_on_its_users():
    with ta.detect_anomaly():
        masked = leaf([0.0, 1.0]) + np.array([-np.inf, 0.0])  # a bias that hides
        assert ta.softmax(masked).tolist() == [0.0, 1.0]
        with pytest.raises(FloatingPointError, match=r"subtract .* made a NaN"):
            masked - masked
        with pytest.raises(FloatingPointError, match=r"^exp .* was given the tensor 'x', .* holds a NaN at \(1,\)"):
            ta.exp(leaf([1.0, np.nan], name="x"))
        with pytest.raises(FloatingPointError, match=r"^exp .* was given a leaf, .* holds a NaN at \(0,\)"):
            ta.exp(ta.tensor([np.nan]))


def test_in_derivatives_and_higher_orders():
    with ta.detect_anomaly():
        with pytest.raises(FloatingPointError, match="sqrt"):
            ta.grad(lambda x: ta.sqrt(x))(0.0)
        with pytest.raises(FloatingPointError, match="power"):
            ta.grad(ta.grad(lambda x: ta.absolute(x) ** 1.5))(0.0)


def test_integers_and_masks_pass():
    with ta.detect_anomaly():
        ids = ta.tensor([2, 0])
        ta.embedding(leaf(np.ones((3, 5))), ids).sum().backward()


def test_it_ends_and_is_for_one_thread_alone():
    with pytest.raises(ZeroDivisionError), ta.detect_anomaly():
        1 / 0  # noqa: B018
    found = []
    with ta.detect_anomaly():
        thread = threading.Thread(target=lambda: found.append(ta.log(ta.tensor(-1.0)).item()))
        thread.start()
        thread.join()
    assert np.isnan(found).all()
    assert np.isnan(ta.log(ta.tensor(-1.0)).item())
