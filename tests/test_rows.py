"""A stack of gradients that flows through rules as one: what it does is what NumPy does to each of the stack."""

import numpy as np
import pytest

import tinyattn as ta
from tinyattn import rows
from tinyattn.engine import lift, walk
from tinyattn.gallery import SAMPLES
from tinyattn.rows import NotBatched, Rows, pull_back_each
from tinyattn.rules.registry import RULES, parameters, rule

ONE_BY_ONE = set()  # the rules whose backward Rows don't pass


@pytest.fixture
def walks(monkeypatch):
    """How many cotangents each walk has carried; None for a plain one."""
    seen = []
    walk = rows.walk

    def counted(root, cotangent, *args, **options):
        seen.append(len(cotangent.stacked) if isinstance(cotangent, Rows) else None)
        return walk(root, cotangent, *args, **options)

    monkeypatch.setattr(rows, "walk", counted)
    return seen


def applied(name, sample):
    """The rule's output on Tensors, and those Tensors that have a gradient."""
    arrays = [
        ta.tensor(x, requires_grad=True) if isinstance(x, np.ndarray) and x.dtype == np.float64 else x
        for x in sample.arrays
    ]
    output = lift(RULES[name])(*([arrays] if parameters(RULES[name]).variadic else arrays), **sample.options)
    return output, [x for x in arrays if isinstance(x, ta.Tensor)]


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_all_at_once_is_one_by_one(name, walks):
    rng = np.random.default_rng(1)
    batched = set()
    for sample in SAMPLES[name](np.random.default_rng(0)):
        output, inputs = applied(name, sample)
        for x in inputs:
            walks.clear()
            together = pull_back_each(output, x)
            assert together.shape == (output.size, *x.shape)
            if output.size > 1:
                batched.add(None not in walks)
            for i in rng.permutation(output.size)[:30]:
                cotangent = np.eye(1, output.size, i).reshape(output.shape)
                alone = walk(output, cotangent, [x], retain_graph=True).get(x, 0.0)
                np.testing.assert_allclose(together[i], alone, rtol=1e-13, atol=1e-14)
    assert batched <= {name not in ONE_BY_ONE}


def test_in_turns_where_arrays_are_large(walks, monkeypatch):
    x = ta.tensor(np.random.default_rng(0).normal(size=7), requires_grad=True)
    output = ta.softmax(x)
    together = pull_back_each(output, x)
    monkeypatch.setattr(rows, "AT_ONCE", 21)
    np.testing.assert_array_equal(pull_back_each(output, x), together)
    assert walks == [7, 3, 3, None]
    constant = ta.concatenate([x, np.zeros(100)])[:7]
    walks.clear()
    pull_back_each(constant, x)
    assert walks == [None] * 7
    walks.clear()
    pull_back_each(x[:5] @ np.ones((5, 5)), x)  # 25 numbers in a constant
    assert walks == [None] * 5


def test_a_target_that_the_root_is_not_made_of():
    x, y = (ta.tensor(np.ones(3), requires_grad=True) for _ in range(2))
    assert pull_back_each(x * 2.0, y).tolist() == np.zeros((3, 3)).tolist()


# ------------------------------------------------------------------------------------------------ rules of users


def test_what_is_not_known_goes_one_by_one(own_rules, walks):
    @rule
    def twice(x):
        def backward(d_output):
            return (np.vander(d_output, 2)[:, 0] * 2.0,)  # the first column is d_output itself

        return x * 2.0, backward

    found = ta.jacobian(lambda x: lift(twice)(x) * x)([1.0, 2.0, 3.0, 5.0])
    assert found.tolist() == np.diag([4.0, 8.0, 12.0, 20.0]).tolist()
    assert walks == [4, None, None, None, None]


def test_hooks_see_every_gradient(walks):
    seen = []

    def f(x):
        y = x * x
        y.register_hook(lambda gradient: seen.append(gradient.tolist()))
        return y * 3.0

    assert ta.jacobian(f)([1.0, 5.0]).tolist() == [[6.0, 0.0], [0.0, 30.0]]
    assert seen == [[3.0, 0.0], [0.0, 3.0]]
    assert walks == [None, None]


def test_a_choice_is_made_where_all_rows_agree(own_rules, walks):
    @rule
    def guarded(x):
        def backward(d_output):
            if not np.isfinite(d_output).all() or abs(d_output).max() > 10.0:
                raise AssertionError
            return (d_output * 3.0 if d_output[0] == 0.0 else 3.0 * d_output,)

        return x * 3.0, backward

    assert ta.jacobian(lambda x: lift(guarded)(x))([1.0, 2.0]).tolist() == [[3.0, 0.0], [0.0, 3.0]]
    assert walks == [2, None, None]  # d_output[0] is 0 in one of two rows
    walks.clear()
    ta.jacobian(lambda x: lift(guarded)(x)[[1, 1]])([1.0, 2.0])
    assert walks == [2]


def test_an_error_is_told_as_it_is_for_one(own_rules):
    @rule
    def broken(x):
        def backward(d_output):
            raise OverflowError(f"not {type(d_output).__name__}")

        return x * 2.0, backward

    with pytest.raises(OverflowError, match="not ndarray"):
        ta.jacobian(lambda x: lift(broken)(x))([1.0, 3.0])


def test_a_gradient_that_does_not_depend_on_the_cotangent(own_rules):
    @rule
    def constant(x, y):
        def backward(d_output):
            return np.zeros(3), None

        return x * 0.0, backward

    f = lambda x: lift(constant)(x, x)  # noqa: E731
    assert ta.jacobian(f)(np.ones(3)).tolist() == np.zeros((3, 3)).tolist()
    assert ta.jacobian(lambda x: f(x) + 5.0 * x)(np.ones(3)).tolist() == (5.0 * np.eye(3)).tolist()


# ------------------------------------------------------------------------------------------------ Rows like arrays

rng = np.random.default_rng(0)
plain, mask, row = rng.normal(size=(2, 3, 5)), rng.random((3, 5)) < 0.5, rng.normal(size=5)
SAME = {
    "operators": ((3, 5), lambda x: 2.0 * -x / row + plain - x * mask),
    "a number meets a matrix": ((), lambda x: x * mask + np.where(mask, x, 0.0)),
    "a vector meets a stack": ((5,), lambda x: plain - x),
    "ufuncs": ((3, 5), lambda x: np.exp(x) + np.absolute(x) + np.maximum(x, 0.5)),
    "comparisons": ((3, 5), lambda x: (x > 0.1) & ~(x < row) | np.isfinite(plain)),
    "where, twice": ((3, 1), lambda x: np.where(x > 0, np.where(mask, x, row), 1.0)),
    "matrix @ plain": ((3, 5), lambda x: x @ plain[0].T),
    "plain @ matrix": ((5, 7), lambda x: plain[0] @ x),
    "matrix @ stack": ((7, 3), lambda x: x @ plain),
    "stack @ matrix": ((2, 7, 5), lambda x: x @ plain[0].T),
    "stack @ stack": ((11, 1, 7, 3), lambda x: x @ plain),
    "matrix @ vector": ((2, 3, 5), lambda x: x @ row),
    "vector @ matrix": ((5,), lambda x: row @ np.ones((5, 7)) + x @ np.ones((5, 7))),
    "vector @ stack": ((3,), lambda x: x @ plain),
    "stack @ vector": ((5,), lambda x: plain @ x),
    "vector @ vector": ((5,), lambda x: x @ row),
    "Rows @ Rows": ((3, 5), lambda x: x @ np.swapaxes(x, 0, 1)),
    "sums": ((2, 3, 5), lambda x: x.sum() + np.sum(x, axis=(0, -1), keepdims=True) + x.sum(axis=1, keepdims=True)),
    "of no axes": ((3, 5), lambda x: x.sum(axis=())),
    "sum of a number": ((), lambda x: x.sum()),
    "means, extremes": ((2, 3, 5), lambda x: np.mean(x, -1) + x.max(axis=2) - np.min(x, axis=(-1,))),
    "all and any": ((3, 5), lambda x: (x > 0).any(axis=0) ^ np.all(x > -1, axis=0, keepdims=True)),
    "reshape": ((2, 3, 5), lambda x: x.reshape(5, -1) + np.reshape(x, (5, 6)) + x.reshape(-1).reshape((5, 6))),
    "nothing": ((0, 3), lambda x: x.reshape(-1) * x.sum()),
    "transpose": ((2, 3, 5), lambda x: x.transpose(1, 2, 0) + np.transpose(x, (1, -1, 0))),
    "reversed": ((2, 3, 5), lambda x: x.transpose() + np.transpose(x)),
    "swapaxes": ((2, 3, 5), lambda x: x.swapaxes(0, -1)),
    "squeeze": ((1, 3, 1), lambda x: x.squeeze() + np.squeeze(x, 0).squeeze(-1)),
    "expand_dims": ((3, 5), lambda x: np.expand_dims(x, -1) + np.expand_dims(x, (0, 2)).sum(axis=0)[..., :1]),
    "broadcast_to": ((3, 1), lambda x: np.broadcast_to(x, (2, 3, 5)) + np.broadcast_to(x, (3, 5))),
    "broadcast_to, a length": ((1,), lambda x: np.broadcast_to(x, 3)),
    "astype": ((3,), lambda x: x.astype(np.float32)),
    "basic keys": ((3, 5), lambda x: x[0] + x[-1] + x[..., None, :][1, 0]),
    "slices": ((3, 5), lambda x: x[::-1, 1:4:2]),
    "masks": ((3, 5), lambda x: x[mask]),
    "integers": ((3, 5), lambda x: x[np.array([[2, 0], [-1, 2]])]),
    "arrays apart": ((2, 3, 5), lambda x: x[np.array([1, 0]), :, np.array([4, -1])]),
    "an integer apart": ((2, 3, 5), lambda x: x[0, :, np.array([4, -1])]),
    "moveaxis": ((2, 3, 5), lambda x: np.moveaxis(x, 0, -1) + np.moveaxis(x, (0, 1), (2, 0))),
    "flip": ((2, 3, 5), lambda x: np.flip(x) + np.flip(x, 1) + np.flip(x, (0, -1))),
    "roll": ((2, 3, 5), lambda x: np.roll(x, 2) + np.roll(x, -1, 1) + np.roll(x, (1, 2), (0, -1))),
    "cumsum": ((2, 3, 5), lambda x: np.cumsum(x, 1) + np.cumsum(x, axis=-1)),
    "tril and triu": ((2, 3, 5), lambda x: np.tril(x, 1) + np.triu(x)),
    "tensordot": ((3, 5, 7), lambda x: np.tensordot(x, plain, ((1, 0), (-1, 1)))),
    "tensordot, the other way": ((5, 7, 3), lambda x: np.tensordot(plain, x, ((1, -1), (2, 0)))),
    "tensordot of a number of axes": ((3, 5, 7), lambda x: np.tensordot(plain, x)),
    "einsum": ((5, 7), lambda x: np.einsum("aij,jk->aik", plain, x)),
    "einsum of Rows first": ((5, 7), lambda x: np.einsum("jk,aij,k->ki", x, plain, np.ones(7), optimize=True)),
    "zeros_like": ((2, 3), lambda x: x + np.zeros_like(x)),
    "a list": ((3, 5), lambda x: x[:, [1, 1]]),
}


@pytest.mark.parametrize("about", SAME)
def test_what_is_done_to_rows_is_done_to_each(about):
    shape, f = SAME[about]
    stacked = np.random.default_rng(1).normal(size=(7, *shape))
    got = f(Rows(stacked))
    expected = np.stack([f(each[()]) for each in stacked])
    assert isinstance(got, Rows)
    assert (got.shape, got.ndim, got.size) == (expected.shape[1:], expected.ndim - 1, expected[0].size)
    assert got.dtype == expected.dtype
    np.testing.assert_allclose(got.stacked, expected, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("key", [(..., 1), np.array([[0, 2], [2, 2]]), mask, (slice(None), np.array([4, 4, -1]))])
def test_scatter(key):
    stacked = np.random.default_rng(1).normal(size=(7, *np.empty((3, 5))[key].shape))
    scatter = lift(RULES["scatter"]).__wrapped__
    got = scatter(Rows(stacked), key=key, shape=(3, 5))[0]
    expected = np.stack([scatter(x, key=key, shape=(3, 5))[0] for x in stacked])
    np.testing.assert_allclose(got.stacked, expected, rtol=1e-14)


@pytest.mark.parametrize(
    "f",
    [
        np.asarray,
        float,
        np.sort,
        np.add.reduce,
        lambda x: np.exp(x, where=True),
        lambda x: np.array([x, x]),
        lambda x: x.item(),
        lambda x: x.cumsum(),
        np.tril,
        lambda x: np.tensordot(x, x, 1),
        lambda x: np.einsum("i,i", x, x),
        lambda x: 1.0 if x[0] > x[1] else 0.0,
        lambda x: x.__setitem__(0, 1.0),
        lambda x: np.sum(x, axis=2),
        lambda x: x.sum(axis=-3),
        lambda x: x[3],
    ],
)
def test_what_can_not_be_done_is_refused(f):
    with pytest.raises((NotBatched, TypeError, IndexError, np.exceptions.AxisError)):
        f(Rows(np.array([[1.0, 2.0], [4.0, 3.0]])))


def test_arrays_may_be_made_like_rows():
    x = Rows(np.ones((7, 3), np.float32))
    assert np.ones((2, 3), x.dtype, like=x).tolist() == [[1.0] * 3] * 2
    assert np.asarray([1, 2], like=x).tolist() == [1, 2]
    with pytest.raises(NotBatched):
        np.asarray(x, like=x)
