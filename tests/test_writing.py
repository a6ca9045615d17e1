"""What is remembered for the way back is never silently another: a write gives the right gradient, or an error."""

import gc
import weakref

import numpy as np
import pytest

import tinyattn as ta
from tinyattn import optim
from tinyattn.nodes import rewrite

GradientError = ta.GradientError


def leaf(data, **options):
    return ta.tensor(data, requires_grad=True, **options)


# ------------------------------------------------------------------------------------------------------ t[key] = v


def test_assignment_fills_a_constant():
    x = leaf([2.0, 3.0, 5.0])
    y = ta.tensor(np.zeros(3))
    for i in range(3):
        y[i] = x[i] * x[i]
    y[0] = 7.0
    assert y.tolist() == [7.0, 9.0, 25.0]
    (y * [10.0, 100.0, 1000.0]).sum().backward()
    assert x.grad.tolist() == [0.0, 600.0, 10000.0]


def test_assignment_into_a_result():
    x, v = leaf([2.0, 3.0, 5.0]), leaf([7.0, 11.0])
    y = x * x
    y[1:] = v * x[:2]
    assert y.tolist() == [4.0, 14.0, 33.0]
    (y * [1.0, 10.0, 100.0]).sum().backward()
    assert x.grad.tolist() == [4.0 + 70.0, 1100.0, 0.0]
    assert v.grad.tolist() == [20.0, 300.0]


KEYS = [0, slice(1, None), ..., (slice(None), 2), np.array([2, 0]), [0, 2], np.arange(3) == 1, (0, np.array([1, 3]))]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("whole", [True, False])
def test_assignment_is_numpys_and_its_gradient_agrees_with_differences(key, whole):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 5))
    value = rng.normal(size=x[tuple(key) if isinstance(key, tuple) else key].shape if whole else ())

    def assigned(x, value):
        y = x * 1.0
        y[key] = value * value
        return y * y

    expected = x.copy()
    expected[key] = value * value
    np.testing.assert_array_equal(assigned(ta.tensor(x), ta.tensor(value)).numpy(), expected * expected)
    assert ta.gradcheck(assigned, (x, np.asarray(value)))


def test_a_place_named_twice_is_no_assignment():
    x = leaf([1.0, 2.0, 3.0]) * 1.0
    with pytest.raises(ValueError, match=r"the key names a place of t, of shape \(3,\), twice"):
        x[[0, 0]] = leaf([1.0, 2.0])
    assert x.tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("create_graph", [False, True])
def test_what_used_it_before_has_the_gradient_of_before(create_graph):
    x = leaf([1.0, 2.0])
    y = x * 3.0
    first = ta.exp(y)
    y[0] = 5.0
    second = y * y
    y[1] = x[0]
    third = y * y * y
    loss = first.sum() + second.sum() + third.sum()  # e^3x₀ + e^3x₁ + 25 + 9x₁² + 125 + x₀³
    loss.backward(create_graph=create_graph)
    expected = [3.0 * np.exp(3.0) + 3.0, 3.0 * np.exp(6.0) + 36.0]
    assert x.grad.tolist() == pytest.approx(expected, rel=1e-14)
    x.grad = None


def test_each_place_made_of_the_one_before():
    x = leaf(3.0)
    y = ta.tensor(np.ones(5))
    for i in range(1, 5):
        y[i] = y[i - 1] * x
    assert y.tolist() == [1.0, 3.0, 9.0, 27.0, 81.0]
    (y * [0.0, 0.0, 0.0, 0.0, 1.0]).sum().backward()
    assert x.grad.item() == 4 * 27.0
    power = ta.grad(lambda x: filled(x)[3])
    assert (power(2.0).item(), ta.grad(power)(2.0).item()) == (12.0, 12.0)


def filled(x):
    y = ta.tensor(np.ones(4))
    for i in range(1, 4):
        y[i] = x * y[i - 1]
    return y


def test_assignment_makes_no_cycle():
    gc.disable()
    try:
        y = filled(leaf(3.0))
        there = weakref.ref(y)
        del y
        assert there() is None
        y = filled(leaf(3.0))
        before = y._earlier
        y.sum().backward()
        assert before() is None
    finally:
        gc.enable()


def test_assignment_of_itself():
    x = leaf([1.0, 2.0, 3.0])
    y = x * x
    y[:2] = y[1:]
    assert y.tolist() == [4.0, 9.0, 9.0]
    y[...] = y * y
    (y * [1.0, 10.0, 100.0]).sum().backward()
    assert x.grad.tolist() == pytest.approx([0.0, 4 * 8.0, 110 * 4 * 27.0])


def test_a_leaf_that_requires_a_gradient_stays_one():
    x = leaf([1.0, 2.0])
    with pytest.raises(GradientError, match=r"t is a leaf that requires a gradient.*tinyattn\.where.*t\.data"):
        x[0] = 5.0
    assert x.tolist() == [1.0, 2.0]


def test_assignment_keeps_name_and_dtype_and_drops_its_hooks():
    seen = []
    x = leaf(np.ones(3, np.float32))
    y = x * 2.0
    y.name = "y"
    y.register_hook(seen.append)
    y[0] = leaf(5.0)  # float64
    assert (y.name, y.dtype, y.tolist()) == ("y", np.float32, [5.0, 2.0, 2.0])
    y.sum().backward()
    assert [gradient.tolist() for gradient in seen] == [[0.0, 1.0, 1.0]]  # what y was before
    assert x.grad.tolist() == [0.0, 2.0, 2.0]


def test_assignment_without_recording():
    x = ta.tensor([1.0, 2.0])
    seen = x.numpy()
    x[0] = 7.0
    assert x.tolist() == [7.0, 2.0]
    assert seen.tolist() == [1.0, 2.0]
    assert not x.requires_grad


# ------------------------------------------------------------------------------------------------------ t += v


def test_adding_in_place_makes_a_new_tensor():
    x = leaf([1.0, 2.0])
    y = x * x
    before = y
    y += x
    y *= 2.0
    assert before.tolist() == [1.0, 4.0]
    (y.sum() + before.sum()).backward()
    assert x.grad.tolist() == [2 * 3.0 + 2.0, 2 * 5.0 + 4.0]


# ------------------------------------------------------------------------------------------------------ arrays


@pytest.mark.parametrize("get", [lambda t: t.numpy(), lambda t: t.data, lambda t: t.detach().numpy()])
def test_results_can_only_be_read(get):
    y = ta.exp(leaf([1.0, 2.0]))
    with pytest.raises(ValueError, match="read-only"):
        get(y)[0] = 100.0


def test_a_leafs_numpy_can_only_be_read():
    for x in (leaf([1.0]), ta.tensor([1.0])):
        with pytest.raises(ValueError, match="read-only"):
            x.numpy()[0] = 100.0
    with pytest.raises(ValueError, match="read-only"):
        np.asarray(ta.tensor([1.0]))[0] = 100.0
    np.array(ta.tensor([1.0]))[0] = 100.0


def test_a_detached_result_cannot_be_written_through():
    x = leaf([1.0, 2.0])
    y = ta.exp(x)
    alias = y.detach()
    alias.data[0] = 100.0
    assert alias.tolist()[0] == 100.0
    y.sum().backward()
    assert x.grad.tolist() == pytest.approx(np.exp([1.0, 2.0]))


def replaced(w):
    w.data = w.data * 2.0


def subtracted(w):
    w.data -= 1.0


def stepped(w):
    w.grad = ta.tensor(np.ones(w.shape))
    optim.SGD([w], lr=0.1).step()
    w.grad = None


WRITES = {
    "an element": lambda w: w.data.__setitem__(0, 9.0),
    "all elements": lambda w: w.data.fill(9.0),
    "into a view": lambda w: w.data[:1].__iadd__(1.0),
    "out=": lambda w: np.add(w.data, 1.0, out=w.data),
    "another array": replaced,
    "-=": subtracted,
    "a step of an optimiser": stepped,
    "rewritten": lambda w: rewrite(w).fill(9.0),
    "an array sorted": lambda w: w.data[::-1].sort(),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("lent", [False, True])
@pytest.mark.parametrize("create_graph", [False, True])
def test_a_leaf_written_before_the_way_back(write, lent, create_graph):
    w = leaf([1.0, 2.0], name="w")
    if lent:
        w.data  # noqa: B018
    loss = (w * w).sum()
    write(w)
    expected = r"backward: multiply \(line \d+ of test_writing\.py: loss = \(w \* w\)\.sum\(\)\) saved x \(named 'w'\)"
    with pytest.raises(GradientError, match=expected):
        loss.backward(create_graph=create_graph)
    assert w.grad is None
    loss = (w * w).sum()  # computed again, all is well
    loss.backward()
    assert w.grad.tolist() == (2.0 * w.numpy()).tolist()


def test_a_leaf_that_is_only_read_is_as_it_was():
    w = leaf([1.0, 2.0])
    loss = (w * w).sum()
    assert w.data.sum() == 3.0
    loss.backward()
    assert w.grad.tolist() == [2.0, 4.0]


def test_a_training_loop_by_hand():
    """The array is written between the steps, never within one."""
    w = leaf([1.0, 2.0])
    kept = w.data
    for _ in range(3):
        w.zero_grad()
        (w * w).sum().backward()
        kept -= 0.25 * w.grad.numpy()
    assert w.tolist() == [0.125, 0.25]
    for _ in range(2):
        w.zero_grad()
        (w * w).sum().backward()
        w.data -= 0.25 * w.grad.numpy()
    assert w.tolist() == [0.03125, 0.0625]


def test_who_lends_an_array_gets_it_back():
    """An array that nobody else holds any more needn't be watched."""
    w = leaf(np.ones(3))
    w.data *= 2.0
    assert w._lent is not None
    w * 1.0
    assert w._lent is None
    kept = w.data
    w * 1.0
    assert w._lent is not None
    assert kept.tolist() == [2.0] * 3


def test_a_constant_written_before_the_way_back():
    x, c = leaf([1.0, 2.0]), ta.tensor([3.0, 5.0])
    for use in (c, c.reshape(2), c.detach(), c[:]):
        loss = (x * use).sum()
        c.data[0] += 1.0
        with pytest.raises(GradientError, match=r"backward: multiply .* saved y, of shape \(2,\), which was written"):
            loss.backward()
    assert x.grad is None


def test_a_tensor_that_shares_an_array_written_before_the_way_back():
    array = np.array([3.0, 5.0])
    x, shared = leaf([1.0, 2.0]), ta.Tensor(array)
    loss = (x * shared).sum()
    array[0] = 7.0
    with pytest.raises(GradientError, match=r"multiply .* saved y"):
        loss.backward()
    (x * shared).sum().backward()
    assert x.grad.tolist() == [7.0, 5.0]


def test_plain_arrays_are_copied_when_they_are_remembered():
    x = leaf([1.0, 2.0])
    factor, mask, places = np.array([3.0, 5.0]), np.array([True, False]), np.array([1, 1, 0])
    loss = (x * factor).sum() + ta.where(mask, x, 0.0).sum() + (x[places] * [1.0, 10.0, 100.0]).sum()
    factor[:], mask[:], places[:] = -1.0, True, 0
    loss.backward(retain_graph=True)
    assert x.grad.tolist() == [3.0 + 1.0 + 100.0, 5.0 + 11.0]
    x.grad = None
    loss.backward(create_graph=True)
    assert x.grad.tolist() == [104.0, 16.0]
    x.grad = None


def test_masks_are_copied_too():
    x, mask = leaf(np.eye(3)), np.eye(3, dtype=bool)
    loss = ta.attention(x, x, x, mask=mask).sum()
    mask[:] = False
    loss.backward()
    assert x.grad.numpy().any()


def test_data_that_is_set_is_copied():
    x, array = leaf([1.0, 2.0]), np.array([3.0, 4.0])
    x.data = array
    array[0] = 9.0
    assert x.tolist() == [3.0, 4.0]


def test_only_a_leafs_data_can_be_set():
    y = leaf([1.0, 2.0]) * 2.0
    with pytest.raises(GradientError, match=r"only a leaf's can be set; this tensor was made by multiply"):
        y.data = np.zeros(2)


def test_a_read_only_array_is_copied_before_it_is_lent():
    array = np.broadcast_to(np.array([1.0]), (3,))
    x = ta.Tensor(array, requires_grad=True)
    x.data[0] = 5.0
    assert x.tolist() == [5.0, 1.0, 1.0]
