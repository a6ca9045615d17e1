import numpy as np
import pytest

import tinyattn as ta
from tinyattn.rules.positions import rope


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def by_complex_numbers(x, positions, base, interleaved):
    """A pair as a complex number, turned by multiplying."""
    d = x.shape[-1]
    pairs = x[..., 0::2] + 1j * x[..., 1::2] if interleaved else x[..., : d // 2] + 1j * x[..., d // 2 :]
    turned = pairs * np.exp(1j * np.asarray(positions)[..., None] * base ** (-np.arange(d // 2) * 2 / d))
    if not interleaved:
        return np.concatenate([turned.real, turned.imag], axis=-1)
    return np.stack([turned.real, turned.imag], axis=-1).reshape(x.shape)


@pytest.mark.parametrize("interleaved", [True, False])
@pytest.mark.parametrize("positions", [None, [3, 0, 7, 7, 2], "of batches"])
def test_the_formula(rng, interleaved, positions):
    x = rng.normal(size=(2, 3, 5, 6))
    if positions == "of batches":
        positions = rng.integers(100, size=(2, 1, 5))
    found = rope(x, positions=positions, base=500.0, interleaved=interleaved)[0]
    expected = by_complex_numbers(x, range(5) if positions is None else positions, 500.0, interleaved)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


def test_products_depend_on_the_distance_alone(rng):
    """What rotary positions are for; and lengths stay."""
    query, key = rng.normal(size=(2, 1, 8))
    products = [(ta.rope(query, positions=[p]) @ ta.rope(key, positions=[p + 3]).T).item() for p in (0, 1, 17, 1000)]
    np.testing.assert_allclose(products, products[0], rtol=1e-10)
    assert abs((ta.rope(query, positions=[4]) @ ta.rope(key, positions=[8]).T).item() - products[0]) > 1e-3
    np.testing.assert_allclose(np.linalg.norm(ta.rope(query, positions=[9])), np.linalg.norm(query))


@pytest.mark.parametrize("interleaved", [True, False])
def test_backward(rng, interleaved):
    x = rng.normal(size=(3, 5, 4))
    assert ta.gradcheck(lambda x: ta.rope(x, interleaved=interleaved), x, second_order=True)


def test_dtypes():
    assert ta.rope(np.ones((3, 4), np.float32)).dtype == np.float32
    assert ta.rope(np.ones((3, 4), int)).dtype == np.float64
    assert ta.rope(np.ones((0, 4))).shape == (0, 4)


def test_errors():
    x = np.ones((3, 4))
    for call, kind, told in (
        (lambda: ta.rope(np.ones((3, 5))), ValueError, r"rope: x must be .* with an even d; got \(3, 5\)"),
        (lambda: ta.rope(np.ones(4)), ValueError, r"rope: x must be \(\.\.\., length, d\)"),
        (lambda: ta.rope(x, positions=[1, 2]), ValueError, r"rope: positions must be \(\.\.\., 3\), .*; got \(2,\)"),
        (lambda: ta.rope(x, positions=3), ValueError, r"rope: positions must be"),
        (lambda: ta.rope(x, positions="abc"), TypeError, "rope: positions must be numbers"),
        (lambda: ta.rope(x, base=0.0), ValueError, "rope: base must be greater than 0; got 0.0"),
        (lambda: ta.rope(x, base="1"), TypeError, "rope: base must be a number"),
        (lambda: ta.rope(x, interleaved="no"), TypeError, "rope: interleaved must be True or False"),
    ):
        with pytest.raises(kind, match=told):
            call()
