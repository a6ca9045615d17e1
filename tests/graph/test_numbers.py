import math

import numpy as np
import pytest

from tinyattn.graph.numbers import SIDE, numbers_of


def test_cells_are_means_of_blocks():
    array = np.arange(24.0 * 36).reshape(24, 36)
    cells = np.array(numbers_of(array).cells)
    np.testing.assert_allclose(cells, array.reshape(12, 2, 12, 3).mean(axis=(1, 3)))


@pytest.mark.parametrize("shape", [(17,), (5, 7), (13, 17), (2, 3, 5, 7), (1, 100), (100, 1)])
def test_every_number_counts_once(shape):
    array = np.random.default_rng(0).normal(size=shape)
    cells = np.array(numbers_of(array).cells)
    n, m = (1, shape[0]) if len(shape) == 1 else (math.prod(shape[:-1]), shape[-1])
    assert cells.shape == (min(n, SIDE), min(m, SIDE))
    rows = np.diff([*np.unique(np.arange(len(cells)) * n // len(cells)), n])
    columns = np.diff([*np.unique(np.arange(cells.shape[1]) * m // cells.shape[1]), m])
    np.testing.assert_allclose((cells * rows[:, None] * columns).sum(), array.sum(), atol=1e-9)


def test_range_and_marks_of_what_is_finite():
    found = numbers_of(np.array([np.nan, np.inf, -np.inf, 1.0, 3.0]))
    assert (found.least, found.mean, found.most, found.n_nan, found.n_infinite) == (1.0, 2.0, 3.0, 1, 2)
    assert found.marks == ("1 NaN", "2 Inf")
    assert numbers_of(np.zeros(3)).marks == ("all zero",)
    assert numbers_of(np.array([np.nan])).marks == ("1 NaN",)
    assert math.isnan(numbers_of(np.array([np.nan])).mean)
    cells = np.array(numbers_of(np.full((20, 20), np.inf)).cells)
    assert np.isnan(cells).all()


def test_what_has_no_numbers():
    assert numbers_of(np.zeros((0, 3))) is None
    assert numbers_of(np.array(["a"])) is None
