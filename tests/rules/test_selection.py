import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tinyattn as ta
from tinyattn.rules import selection as rules

SHAPE = (3, 5, 2)
KEYS = hnp.basic_indices(SHAPE, allow_ellipsis=True, allow_newaxis=True) | st.one_of(
    hnp.integer_array_indices(SHAPE, result_shape=hnp.array_shapes(max_dims=2, min_side=0, max_side=7)),
    hnp.integer_array_indices((3,), result_shape=hnp.array_shapes(max_dims=2, max_side=7)).map(lambda key: key[0]),
    hnp.arrays(bool, (3, 5)),
)


@given(key=KEYS)
def test_scatter_is_the_adjoint_of_index(key):
    """⟨y, x[key]⟩ = ⟨scatter(y), x⟩, which is what a backward is; exactly, in integers."""
    x = np.arange(1.0, 31.0).reshape(SHAPE)
    selected, backward = rules.index(x, key=key)
    y = np.random.default_rng(0).integers(-9, 9, np.shape(selected)).astype(float)
    (scattered,) = backward(y)
    assert scattered.shape == SHAPE
    assert (scattered * x).sum() == (y * selected).sum()
    np.testing.assert_array_equal(rules.scatter(y, key=key, shape=SHAPE)[0], scattered)


def test_a_place_read_twice_collects_twice():
    key = np.array([2, 2, -1, 0])
    d_x = rules.index(np.zeros(3), key=key)[1](np.array([1.0, 10.0, 100.0, 1000.0]))[0]
    assert d_x.tolist() == [1000.0, 0.0, 111.0]
    d_x = rules.index(np.zeros((2, 3)), key=([0, 0], [1, 1]))[1](np.array([1.0, 10.0]))[0]
    assert d_x.tolist() == [[0.0, 11.0, 0.0], [0.0, 0.0, 0.0]]


def test_embedding_sums_over_all_uses_of_a_row():
    weight = np.arange(8.0).reshape(4, 2)
    ids = np.array([[3, 1, 3], [3, 0, 1]], np.uint8)
    output, backward = rules.embedding(weight, ids)
    np.testing.assert_array_equal(output, weight[ids])
    d_output = np.arange(12.0).reshape(2, 3, 2)
    d_weight, none = backward(d_output)
    expected = np.zeros((4, 2))
    np.add.at(expected, ids, d_output)
    np.testing.assert_array_equal(d_weight, expected)
    assert none is None


def test_embedding_of_no_ids():
    output, backward = rules.embedding(np.ones((4, 2)), np.zeros((0, 3), int))
    assert output.shape == (0, 3, 2)
    assert not backward(output)[0].any()


def test_ids_have_to_be_in_the_vocabulary():
    weight = np.zeros((4, 2))
    with pytest.raises(ValueError, match=r"embedding: ids must lie in 0 … 3; got 1 … 4"):
        rules.embedding(weight, np.array([1, 4]))
    with pytest.raises(ValueError, match=r"got -1 … 0"):
        rules.embedding(weight, np.array([0, -1]))
    with pytest.raises(TypeError, match="embedding: ids must be integers; got float64"):
        rules.embedding(weight, np.array([1.0]))


X = np.arange(30.0).reshape(SHAPE)
UNUSUAL = {
    "nothing": [],
    "nothing, of an axis": (slice(None), []),
    "no row of a matrix": [[]],
    "nothing, by a mask": np.zeros(SHAPE, bool),
    "an empty slice": slice(3, 1),
    "()": (),
    "None": None,
    "...": ...,
    "True": True,
    "False": (None, False),
    "an array of no axes": np.array(1),
    "NumPy's integer": np.int64(-1),
    "a number": (2, -1, 0),
    "a list of masks": [True, False, True],
    "lists": ([0, 2, 0], [1, 1, 1]),
    "arrays with a slice between": (np.array([0, 2, 2]), slice(None), np.array([1, 1, 1])),
    "a mask and an integer": (X[..., 0] > 11.0, 1),
    "a mask within": (slice(None), np.arange(5) % 2 == 0, None, [0, 0, 1]),
    "small integers": (..., np.array([1, 1, 0], np.uint8)),
    "a Tensor": ta.tensor([2, 2, 0]),
    "a Tensor in a tuple": (slice(None), ta.tensor([[1], [4]]), ta.tensor([0, 1])),
    "a Tensor that is a mask": ta.tensor([True, False, True]),
}


def without_tensor(key):
    return key.numpy() if isinstance(key, ta.Tensor) else key


@pytest.mark.parametrize("about", UNUSUAL)
def test_every_key_of_numpys(about):
    """The value, the gradient, and the gradient of the gradient, in which a place read n times counts n²."""
    key = UNUSUAL[about]
    plain = tuple(map(without_tensor, key)) if isinstance(key, tuple) else without_tensor(key)
    x = ta.tensor(X, requires_grad=True)
    np.testing.assert_array_equal(x[key].numpy(), X[plain])
    d = np.asarray(np.random.default_rng(0).normal(size=X[plain].shape))
    x[key].backward(d)
    expected, times = np.zeros(SHAPE), np.zeros(SHAPE)
    np.add.at(expected, plain, d)
    np.add.at(times, plain, 1.0)
    np.testing.assert_allclose(x.grad.numpy(), expected)
    twice = ta.grad(lambda y: (ta.grad(lambda z: (z[key] ** 3).sum())(y) ** 2).sum())(X)
    np.testing.assert_allclose(twice.numpy(), 36.0 * times**2 * X**3)


@pytest.mark.parametrize("key", [(), ..., None, True, False, (None, ...), np.array(True)])
def test_keys_of_a_single_number(key):
    x = ta.tensor(3.0, requires_grad=True)
    assert x[key].shape == np.array(3.0)[key].shape
    x[key].sum().backward()
    assert x.grad.item() == np.array(3.0)[key].size


@pytest.mark.parametrize("key", [3, (0, 5), (0, 0, 0, 0), [0, 7], np.zeros((5, 3), bool), 1.0, "a", ta.tensor([0.5])])
def test_a_key_past_the_array_is_told_with_the_shape(key):
    with pytest.raises(IndexError, match=r"^index: .*; the array has shape \(3, 5, 2\)"):
        ta.tensor(X)[key]


def test_small_integers_point_into_large_tables():
    """8 bits can't count 300 rows, but they can point at some."""
    d_weight = rules.embedding(np.zeros((300, 2)), np.array([7, 7], np.uint8))[1](np.ones((2, 2)))[0]
    assert (d_weight.sum(), d_weight[7].tolist()) == (4.0, [2.0, 2.0])


# ------------------------------------------------------------------------------------------- keys that rules find

PLACES = np.array([[2, 0, -1], [1, 2, 2]])


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("take", {"indices": PLACES, "axis": 0}),
        ("take", {"indices": PLACES - 1, "axis": 1}),
        ("take", {"indices": [0, -1, -1], "axis": -1}),
        ("take", {"indices": np.array([29, -30, 7])}),
        ("take", {"indices": 4, "axis": 1}),
        ("take", {"indices": [], "axis": 0}),
        ("take", {"indices": np.array([2, 2], np.uint8), "axis": -2}),
        ("take_along_axis", {"indices": PLACES.reshape(3, 1, 2) % 3, "axis": 1}),
        ("take_along_axis", {"indices": np.array([[[1, 0, 1, -1]]]), "axis": -1}),
        ("take_along_axis", {"indices": np.zeros((0, 5, 2), int), "axis": 0}),
        ("take_along_axis", {"indices": np.array([29, -30, 7]), "axis": None}),
        ("sort", {}),
        ("sort", {"axis": 0}),
        ("sort", {"axis": None, "kind": "quicksort"}),
        ("repeat", {"repeats": 2}),
        ("repeat", {"repeats": [0, 3, 1], "axis": 0}),
        ("repeat", {"repeats": [2], "axis": -1}),
        ("repeat", {"repeats": 0, "axis": 1}),
        ("diagonal", {}),
        ("diagonal", {"offset": -1, "axis1": 1, "axis2": -1}),
        ("diagonal", {"offset": 1, "axis1": -1, "axis2": 0}),
        ("diagonal", {"offset": 9}),
    ],
)
def test_what_is_read_goes_back_to_its_place(name, options):
    """Every number of x is told by what is read of it; each output is what NumPy's function gives."""
    rng = np.random.default_rng(0)
    x = rng.permutation(30).astype(float).reshape(SHAPE)
    output, backward = getattr(rules, name)(x, **options)
    as_numpy = {key: np.asarray(value, int) if key == "indices" else value for key, value in options.items()}
    np.testing.assert_array_equal(output, getattr(np, name)(x, **as_numpy))
    np.testing.assert_array_equal(getattr(np, name)(ta.tensor(x), **options).numpy(), output)
    d = rng.integers(-9, 9, np.shape(output)).astype(float)
    (d_x,) = backward(d)
    assert d_x.shape == SHAPE
    expected = np.zeros(30)
    np.add.at(expected, np.asarray(output, int), d)  # no two numbers of x are the same: they say where they came from
    np.testing.assert_array_equal(d_x, expected[x.astype(int)])


def test_a_single_number_is_a_line_of_one():
    x = ta.tensor(3.0, requires_grad=True)
    for output in (ta.take(x, [0, 0, -1]), ta.take(x, [0, 0, 0], 0), ta.repeat(x, 3), ta.repeat(x, 3, -1)):
        assert output.tolist() == [3.0, 3.0, 3.0]
        x.zero_grad()
        output.sum().backward()
        assert x.grad.item() == 3.0
    assert ta.sort(x, None).tolist() == [3.0]


def test_equal_numbers_keep_their_order_and_nan_comes_last():
    output, backward = rules.sort(np.array([[2.0, np.nan, 1.0, 2.0, 1.0]]), kind="heapsort")
    np.testing.assert_array_equal(output, [[1.0, 1.0, 2.0, 2.0, np.nan]])
    assert backward(np.array([[1.0, 2.0, 3.0, 4.0, 5.0]]))[0].tolist() == [[3.0, 5.0, 1.0, 4.0, 2.0]]
    many = np.arange(999) % 2  # few enough are in order by chance
    d_x = rules.sort(many.astype(float), kind="quicksort")[1](np.arange(999.0))[0]
    assert d_x[::2].tolist() == list(range(500))
    assert d_x[1::2].tolist() == list(range(500, 999))


def test_indices_that_are_not_places():
    x = np.zeros((3, 5))
    with pytest.raises(TypeError, match="take: indices must be integers; got float64"):
        ta.take(x, [0.5])
    with pytest.raises(TypeError, match="take_along_axis: indices must be integers; got bool"):
        ta.take_along_axis(x, np.ones((3, 5), bool))
    with pytest.raises(IndexError, match=r"take: an array of shape \(3, 5\) has 5 places along axis -1; got"):
        ta.take(x, [0, 5], -1)
    with pytest.raises(IndexError, match=r"take: an array of shape \(3, 5\) has 15 places; got indices -16 … 1"):
        ta.take(x, [1, -16])
    with pytest.raises(IndexError, match=r"take_along_axis: .* has 3 places along axis 0; got indices 3 … 3"):
        ta.take_along_axis(x, [[3]], 0)
    with pytest.raises(ValueError, match=r"take_along_axis: .*got indices \(2,\), x \(3, 5\) and axis 1"):
        ta.take_along_axis(x, [0, 1], 1)
    with pytest.raises(ValueError, match=r"take: mode can be 'raise' only; got 'clip'"):
        ta.take(x, [0], mode="clip")
    with pytest.raises(ValueError, match=r"repeat: repeats must be 0 or more, one for each of 3 places; got \[1, 2\]"):
        ta.repeat(x, [1, 2], 0)
    with pytest.raises(ValueError, match=r"repeat: .*got -1"):
        ta.repeat(x, -1)
    with pytest.raises(ValueError, match=r"diagonal: needs two axes; got 0 and 1 of shape \(5,\)"):
        ta.diagonal(x[0])
    with pytest.raises(ValueError, match=r"diagonal: needs two axes; got 1 and -1 of shape \(3, 5\)"):
        ta.diagonal(x, 0, 1, -1)
    for function in (ta.take, ta.take_along_axis):
        with pytest.raises(ValueError, match="there is no axis 2"):
            function(x, [[0]], 2)
    with pytest.raises(ValueError, match="sort: there is no axis -3"):
        ta.sort(x, -3)


def test_no_ids_give_no_rows():
    """An empty list, too, which NumPy takes for one of floats."""
    for ids in (np.zeros((2, 0), int), np.zeros((2, 0))):
        output, backward = rules.embedding(np.ones((7, 3)), ids)
        assert output.shape == (2, 0, 3)
        assert backward(output)[0].tolist() == np.zeros((7, 3)).tolist()


def test_indices_of_lines_that_do_not_meet():
    told = r"take_along_axis: indices must broadcast .* got indices \(3, 3\), x \(2, 3\) and axis 1"
    with pytest.raises(ValueError, match=told):
        rules.take_along_axis(np.ones((2, 3)), np.zeros((3, 3), int), 1)
