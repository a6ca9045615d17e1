import numpy as np
import pytest

import tinyattn as ta
from tinyattn.rules import shapes as rules

X = np.arange(30.0).reshape(2, 3, 5)


@pytest.mark.parametrize(
    ("rule", "options"),
    [
        (rules.reshape, {"shape": (5, -1)}),
        (rules.reshape, {"shape": 30}),
        (rules.transpose, {}),
        (rules.transpose, {"axes": (1, 2, 0)}),
        (rules.transpose, {"axes": (-1, 0, -2)}),
        (rules.swapaxes, {"axis1": 0, "axis2": -1}),
        (rules.expand_dims, {"axis": (0, -1)}),
        (rules.ravel, {}),
        (rules.moveaxis, {"source": 0, "destination": -1}),
        (rules.moveaxis, {"source": (-1, 0), "destination": (0, 1)}),
        (rules.flip, {}),
        (rules.flip, {"axis": (0, -1)}),
        (rules.roll, {"shift": 37}),
        (rules.roll, {"shift": -2, "axis": -1}),
        (rules.roll, {"shift": (1, 4), "axis": (2, 0)}),
        (rules.roll, {"shift": [1, 4], "axis": [2, 0]}),
        (rules.roll, {"shift": 1, "axis": (0, 1)}),
        (rules.pad, {"pad_width": 2}),
        (rules.pad, {"pad_width": (1, 0)}),
        (rules.pad, {"pad_width": ((0, 1), (2, 3), (0, 0))}),
        (rules.pad, {"pad_width": ((2,), (0,), (1,))}),
    ],
)
def test_the_way_back_is_the_way_there_undone(rule, options):
    """What only moves numbers has a backward that moves them home."""
    output, backward = rule(X, **options)
    np.testing.assert_array_equal(output, getattr(np, rule.__name__)(X, *options.values()))
    np.testing.assert_array_equal(backward(output)[0], X)


def test_squeeze_takes_the_axes_given_and_no_others():
    x = np.zeros((1, 3, 1))
    assert rules.squeeze(x)[0].shape == (3,)
    output, backward = rules.squeeze(x, -1)
    assert output.shape == (1, 3)
    assert backward(output)[0].shape == (1, 3, 1)
    with pytest.raises(ValueError, match=r"squeeze: only axes of length 1 can go; got axis 1 of shape \(1, 3, 1\)"):
        rules.squeeze(x, 1)


def test_joined_without_an_axis():
    output, backward = rules.concatenate(X, np.float64(7.0), 10 * X[0], axis=None)
    assert output.tolist() == [*range(30), 7.0, *range(0, 150, 10)]
    backs = backward(output)
    assert [np.shape(back) for back in backs] == [(2, 3, 5), (), (3, 5)]
    np.testing.assert_array_equal(backs[0], X)
    np.testing.assert_array_equal(backs[2], 10 * X[0])


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_joined_arrays_get_their_own_part_back(axis):
    pieces = np.split(X, [1, 2], axis=axis)
    output, backward = rules.concatenate(*pieces, axis=axis)
    np.testing.assert_array_equal(output, X)
    for piece, back in zip(pieces, backward(output), strict=True):
        np.testing.assert_array_equal(back, piece)


@pytest.mark.parametrize("axis", [0, 2, -1, -2])
def test_stacked_arrays_get_their_own_slice_back(axis):
    layers = [X, 10 * X, 100 * X]
    output, backward = rules.stack(*layers, axis=axis)
    np.testing.assert_array_equal(output, np.stack(layers, axis))
    for layer, back in zip(layers, backward(output), strict=True):
        np.testing.assert_array_equal(back, layer)


def test_nothing_to_move():
    output, backward = rules.reshape(np.zeros((0, 3)), (3, 0))
    assert backward(output)[0].shape == (0, 3)
    output, backward = rules.concatenate(np.zeros((0, 3)), np.ones((2, 3)))
    assert [back.shape for back in backward(output)] == [(0, 3), (2, 3)]


@pytest.mark.parametrize("reps", [2, (2, 3), (7, 1, 1, 2), (1, 2, 1), 0, (), np.array([3, 2])])
def test_copies_send_back_the_sum(reps):
    """⟨d, tile(step)⟩ = ⟨d_x, step⟩, which is what a backward is; exactly, in integers."""
    output, backward = rules.tile(X, reps)
    np.testing.assert_array_equal(output, np.tile(X, reps))
    d_output = np.random.default_rng(0).integers(-9, 9, output.shape).astype(float)
    (d_x,) = backward(d_output)
    assert d_x.shape == X.shape
    step = np.random.default_rng(1).integers(-9, 9, X.shape)
    assert (d_x * step).sum() == (d_output * np.tile(step, reps)).sum()


@pytest.mark.parametrize("k", [0, 1, -2, 9])
@pytest.mark.parametrize("name", ["tril", "triu"])
def test_triangles(name, k):
    output, backward = getattr(rules, name)(X, k)
    np.testing.assert_array_equal(output, getattr(np, name)(X, k))
    np.testing.assert_array_equal(backward(X)[0], output)
    d_row = ta.grad(lambda row: getattr(ta, name)(row).sum())(np.ones(3))  # NumPy makes three rows of one
    assert d_row.tolist() == ([3.0, 2.0, 1.0] if name == "tril" else [1.0, 2.0, 3.0])


def test_a_triangle_hides_what_is_outside():
    output, backward = rules.tril(np.array([[1.0, np.nan], [2.0, 3.0]]))
    assert output.tolist() == [[1.0, 0.0], [2.0, 3.0]]
    assert backward(np.array([[1.0, np.nan], [1.0, 1.0]]))[0].tolist() == [[1.0, 0.0], [1.0, 1.0]]


def test_a_margin_has_no_gradient_and_the_arrays_dtype():
    output, backward = rules.pad(np.ones(2, np.float32), (1, 2), "constant", constant_values=0.5)
    assert (output.tolist(), output.dtype) == ([0.5, 1.0, 1.0, 0.5, 0.5], np.float32)
    assert backward(np.arange(5.0))[0].tolist() == [1.0, 2.0]


@pytest.mark.parametrize("x", [np.ones((0, 3)), np.ones((2, 0)), np.float64(3.0), np.ones(1)])
@pytest.mark.parametrize(
    ("name", "options"),
    [("ravel", ()), ("flip", ()), ("roll", (2,)), ("pad", (1,)), ("tile", (2,)), ("tile", ((2, 0),))],
)
def test_few_numbers_and_none(x, name, options):
    t = ta.tensor(x, requires_grad=True)
    output = getattr(np, name)(t, *options)
    np.testing.assert_array_equal(output.numpy(), getattr(np, name)(x, *options))
    output.sum().backward()
    assert t.grad.shape == np.shape(x)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: ta.reshape(X, (7, -1)), r"reshape: 30 numbers, of shape \(2, 3, 5\), don't fit into shape \(7, -1\)"),
        (lambda: ta.transpose(X, (0, 1)), r"transpose: axes \(0, 1\) must name each axis of shape \(2, 3, 5\) once"),
        (lambda: ta.transpose(X, (0, 1, 1)), r"transpose: axes \(0, 1, 1\) must name each axis"),
        (lambda: ta.moveaxis(X, (0, 1), 2), r"moveaxis: needs a place for each axis; got axes \(0, 1\) to go to 2"),
        (lambda: ta.expand_dims(X, (0, 0)), r"expand_dims: axis \(0, 0\) names an axis twice"),
        (lambda: ta.squeeze(X, 3), r"squeeze: there is no axis 3"),
        (lambda: ta.expand_dims(X, 5), r"expand_dims: there is no axis 5"),
        (lambda: ta.flip(X, 3), r"flip: there is no axis 3"),
        (lambda: ta.roll(X, 1, 3), r"roll: there is no axis 3"),
        (lambda: ta.pad(X, 1, "edge"), r"pad: mode can be 'constant' only; got 'edge'"),
        (lambda: ta.pad(X, -1), r"pad: pad_width can't be below 0; got -1\. To cut off, use slices"),
        (lambda: ta.pad(X, ((1, 2), (3, 4))), r"pad: pad_width needs a pair for each of 3 axes; got \(\(1,"),
        (lambda: ta.tril(1.0), r"tril: needs a matrix, or a stack of them; got a single number"),
    ],
)
def test_values_that_do_not_fit(call, told):
    with pytest.raises(ValueError, match=told):
        call()


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: ta.concatenate([X, None]), r"concatenate: arrays\[1\] needs an array; got None"),
        (lambda: ta.concatenate([ta.tensor(X), None]), r"concatenate: arrays\[1\] needs an array; got None"),
        (lambda: ta.stack([None, X]), r"stack: arrays\[0\] needs an array; got None"),
        (lambda: ta.pad(X, 1.5), "pad: pad_width must be whole numbers; got 1.5"),
        (lambda: ta.pad(X, {0: 1}), "pad: pad_width must be whole numbers"),
        (lambda: ta.pad(X, 1, constant_values=(0, 1)), r"pad: constant_values must be one number .*got \(0, 1\)"),
    ],
)
def test_kinds_that_do_not_fit(call, told):
    with pytest.raises(TypeError, match=told):
        call()
