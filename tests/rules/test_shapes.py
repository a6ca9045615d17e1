import numpy as np
import pytest

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
    with pytest.raises(ValueError, match="size not equal to one"):
        rules.squeeze(x, 1)


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
