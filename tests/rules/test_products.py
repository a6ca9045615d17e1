import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinyattn as ta
from tinyattn.rules import products as rules

R = np.random.default_rng(0).normal


def test_the_gradients_of_a_product_are_products():
    x, y, d_z = R(size=(3, 5)), R(size=(5, 7)), R(size=(3, 7))
    d_x, d_y = rules.matmul(x, y)[1](d_z)
    np.testing.assert_allclose(d_x, d_z @ y.T)
    np.testing.assert_allclose(d_y, x.T @ d_z)


def test_a_matrix_shared_by_a_stack_gets_the_sum():
    x, y, d_z = R(size=(2, 3, 5)), R(size=(5, 7)), R(size=(2, 3, 7))
    d_y = rules.matmul(x, y)[1](d_z)[1]
    np.testing.assert_allclose(d_y, np.einsum("bni,bno->io", x, d_z))


def test_linear_is_a_product_and_a_sum():
    x, weight, bias, d_y = R(size=(2, 3, 5)), R(size=(5, 7)), R(size=7), R(size=(2, 3, 7))
    output, backward = rules.linear(x, weight, bias)
    np.testing.assert_allclose(output, x @ weight + bias)
    d_x, d_weight, d_bias = backward(d_y)
    np.testing.assert_allclose(d_x, d_y @ weight.T)
    np.testing.assert_allclose(d_weight, np.einsum("bni,bno->io", x, d_y))
    np.testing.assert_allclose(d_bias, d_y.sum((0, 1)))


@pytest.mark.parametrize("shape", [(0, 5), (2, 0, 5), (5,)])
def test_linear_on_no_rows_and_on_one(shape):
    output, backward = rules.linear(np.ones(shape), np.ones((5, 7)), np.ones(7))
    assert output.shape == (*shape[:-1], 7)
    d_x, d_weight, d_bias = backward(np.ones(output.shape))
    assert (d_x.shape, d_weight.shape, d_bias.shape) == (shape, (5, 7), (7,))
    assert (d_bias == (1.0 if shape == (5,) else 0.0)).all()


def test_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match=r"matmul: .*got \(3, 5\) and \(7, 5\)\. Is y transposed\?"):
        rules.matmul(np.ones((3, 5)), np.ones((7, 5)))
    with pytest.raises(ValueError, match=r"matmul: .*got \(3,\) and \(5,\)\.$"):
        rules.matmul(np.ones(3), np.ones(5))
    with pytest.raises(ValueError, match=r"matmul: needs vectors or matrices; got \(3,\) and \(\)\. To scale"):
        rules.matmul(np.ones(3), np.float64(2.0))
    with pytest.raises(ValueError, match=r"linear: .*x \(3, 5\) and weight \(7, 5\)\. Is weight transposed\?"):
        rules.linear(np.ones((3, 5)), np.ones((7, 5)))
    with pytest.raises(ValueError, match=r"linear: .*x \(3, 5\) and weight \(2, 5, 7\)\.$"):
        rules.linear(np.ones((3, 5)), np.ones((2, 5, 7)))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((5,), (5,)),
        ((3, 5), (5, 7)),
        ((2, 3, 5), (11, 5, 7)),
        ((5,), (5, 7)),
        ((2, 3, 5), (5,)),
        ((), (3, 5)),
        ((2,), ()),
    ],
)
def test_dot_is_numpys(left, right):
    x, y = np.asarray(R(size=left)), np.asarray(R(size=right))
    output, backward = rules.dot(x, y)
    np.testing.assert_array_equal(output, np.dot(x, y))
    d = np.asarray(R(size=np.shape(output)))
    d_x, d_y = backward(d)
    step = np.asarray(R(size=left)), np.asarray(R(size=right))  # it is linear in each: ⟨d, step · y⟩ = ⟨d_x, step⟩
    np.testing.assert_allclose((d * np.dot(step[0], y)).sum(), (d_x * step[0]).sum())
    np.testing.assert_allclose((d * np.dot(x, step[1])).sum(), (d_y * step[1]).sum())


def test_outer_reads_more_axes_as_one():
    x, y = np.array([[1.0], [2.0]]), np.array([3.0, 5.0, 7.0])
    output, backward = rules.outer(x, y)
    assert output.tolist() == [[3.0, 5.0, 7.0], [6.0, 10.0, 14.0]]
    d_x, d_y = backward(np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]]))
    assert d_x.tolist() == [[3.0], [12.0]]
    assert d_y.tolist() == [1.0, 2.0, 2.0]


@given(data=st.data())
def test_tensordot_over_any_axes(data):
    """In any order on either side, some of them named from the end: each gradient against an einsum of its own."""
    summed, free_x, free_y = (data.draw(st.lists(st.integers(0, 3), max_size=2), name) for name in ("k", "a", "b"))
    orders = [data.draw(st.permutations(range(len(summed + free)))) for free in (free_x, free_y)]
    k, a, b = "klm"[: len(summed)], "abc"[: len(free_x)], "xyz"[: len(free_y)]
    names = ["".join((k + free)[i] for i in order) for free, order in zip((a, b), orders, strict=True)]
    length = dict(zip(k + a + b, summed + free_x + free_y, strict=True))
    x, y = (np.asarray(R(size=[length[i] for i in name])) for name in names)
    axes = [names[0].index(i) for i in k], [names[1].index(i) - data.draw(st.sampled_from([0, y.ndim])) for i in k]
    output, backward = rules.tensordot(x, y, axes)
    out = "".join(i for i in names[0] if i in a) + "".join(i for i in names[1] if i in b)
    np.testing.assert_allclose(output, np.einsum(f"{names[0]},{names[1]}->{out}", x, y), atol=1e-14)
    d_z = np.asarray(R(size=output.shape))
    d_x, d_y = backward(d_z)
    np.testing.assert_allclose(d_x, np.einsum(f"{out},{names[1]}->{names[0]}", d_z, y), atol=1e-14)
    np.testing.assert_allclose(d_y, np.einsum(f"{names[0]},{out}->{names[1]}", x, d_z), atol=1e-14)


def test_einsum_by_head():
    x, y = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([10.0, 1.0])
    output, backward = rules.einsum(x, y, subscripts="ij,j->i")
    assert output.tolist() == [12.0, 34.0]
    d_x, d_y = backward(np.array([1.0, 100.0]))
    assert d_x.tolist() == [[10.0, 1.0], [1000.0, 100.0]]
    assert d_y.tolist() == [301.0, 402.0]


@pytest.mark.parametrize(
    ("subscripts", "d_y", "expected"),
    [
        ("ij->", 2.0, [[2.0, 2.0], [2.0, 2.0]]),  # summed alone: the same everywhere
        ("ii", 2.0, [[2.0, 0.0], [0.0, 2.0]]),  # a trace
        ("ii->i", [2.0, 3.0], [[2.0, 0.0], [0.0, 3.0]]),
        ("ij->j", [2.0, 3.0], [[2.0, 3.0], [2.0, 3.0]]),
        ("ji", [[2.0, 3.0], [5.0, 7.0]], [[2.0, 5.0], [3.0, 7.0]]),  # without an arrow, in the alphabet's order
        ("...j->j...", [[2.0, 3.0], [5.0, 7.0]], [[2.0, 5.0], [3.0, 7.0]]),
        ("...", [[2.0, 3.0], [5.0, 7.0]], [[2.0, 3.0], [5.0, 7.0]]),
    ],
)
def test_the_gradient_of_one_operand(subscripts, d_y, expected):
    x = np.array([[1.0, 2.0], [3.0, 4.0]])
    output, backward = rules.einsum(x, subscripts=subscripts)
    np.testing.assert_array_equal(output, np.einsum(subscripts, x))
    assert backward(np.array(d_y))[0].tolist() == expected


@st.composite
def sums(draw):
    """Subscripts, and arrays that fit them: repeated letters, dots, axes of length 1 that stretch, and of length 0."""
    length = {letter: draw(st.sampled_from([0, 1, 2, 3, 3])) for letter in "abcd"}
    hidden = draw(st.lists(st.integers(1, 3), max_size=2))
    terms, arrays = [], []
    for _ in range(draw(st.integers(1, 3))):
        term = draw(st.text("abcd", max_size=3))
        shape = [1 if term.count(i) == 1 and draw(st.booleans()) else length[i] for i in term]
        if draw(st.booleans()):
            at, n = draw(st.integers(0, len(term))), draw(st.integers(0, len(hidden)))
            shape[at:at] = [draw(st.sampled_from([1, m])) for m in hidden[len(hidden) - n :]]
            term = term[:at] + "..." + term[at:]
        terms.append(term)
        arrays.append(np.asarray(R(size=shape)))
    subscripts = ",".join(terms)
    if draw(st.booleans()):
        letters = sorted(set(subscripts) - set(",."))
        out = draw(st.permutations(letters))[: draw(st.integers(0, len(letters)))]
        subscripts += "->" + "".join(out) + ("..." if "." in subscripts else "")
    return subscripts, arrays


@given(sums())
def test_every_gradient_of_an_einsum(case):
    """It is linear in each operand: Σ d ⊙ einsum(…, step, …) = Σ d_x ⊙ step, whatever the subscripts say."""
    subscripts, arrays = case
    output, backward = rules.einsum(*arrays, subscripts=subscripts)
    np.testing.assert_array_equal(output, np.einsum(subscripts, *arrays))
    d = np.asarray(R(size=np.shape(output)))
    for k, d_x in enumerate(backward(d)):
        step = np.asarray(R(size=arrays[k].shape))
        assert d_x.shape == step.shape
        moved = np.einsum(subscripts, *arrays[:k], step, *arrays[k + 1 :])
        np.testing.assert_allclose((d_x * step).sum(), (d * moved).sum(), rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(rules.einsum(*arrays, subscripts=subscripts, optimize=True)[0], output, atol=1e-13)


def test_what_is_beside_a_diagonal_stays_clean_of_nan():
    d_x = rules.einsum(np.ones((2, 2)), subscripts="ii->i")[1](np.array([np.nan, 1.0]))[0]
    np.testing.assert_array_equal(d_x, [[np.nan, 0.0], [0.0, 1.0]])


@pytest.mark.parametrize("subscripts", ["ii->", "iij,jk->ik", "...i,...i->...", "i,j,k->"])
def test_third_derivatives_of_an_einsum(subscripts):
    terms = subscripts.split("->")[0].split(",")
    uniform = np.random.default_rng(0).uniform  # away from 0, so that no derivative is too small to be seen
    arrays = [uniform(0.3, 0.6, (3,) * len(term.replace("...", "ab"))) for term in terms]

    def loss(*x):
        return (ta.einsum(subscripts, *x) ** 4).sum()

    def slope(f):
        return lambda *x: sum((g**2).sum() for g in ta.grad(f, tuple(range(len(x))))(*x))

    assert ta.gradcheck(slope(slope(loss)), tuple(arrays), rtol=1e-5)


@pytest.mark.parametrize(
    ("subscripts", "shapes", "told"),
    [
        ("ij,jk->ik", [(2, 3)], r"'ij,jk->ik' is for 2 operands; got 1"),
        ("ij,jk->ik", [(2, 3), (5, 7)], r"index 'j' of 'ij,jk->ik' is both 3 and 5 long; got \(2, 3\), \(5, 7\)"),
        ("ii", [(2, 3)], r"index 'i' of 'ii' is both 2 and 3 long"),
        ("...,...", [(2,), (3,)], r"index '\.\.\.' of '\.\.\.,\.\.\.' is both 2 and 3 long"),
        ("ijk->i", [(2, 3)], r"'ijk' in 'ijk->i' needs a letter for each axis of operand 0, .*got shape \(2, 3\)"),
        ("i->i", [(2, 3)], r"'i' in 'i->i' needs a letter for each axis"),
        ("i2->i", [(2, 3)], r"'i2' in 'i2->i' needs a letter for each axis"),
        ("ij...->i", [(2,)], r"'ij\.\.\.' in .* needs a letter for each axis"),
        ("...i->i", [(2, 3)], r"the output of '\.\.\.i->i' needs '\.\.\.' for the axes that aren't named"),
        ("ij->ik", [(2, 3)], r"the output of 'ij->ik' may name indices of the operands only, each once"),
        ("ij->ii", [(2, 3)], r"the output of 'ij->ii' may name indices of the operands only, each once"),
        ("ii", [(1, 3)], r"don't match \(1 != 3\)"),  # NumPy's own words
    ],
)
def test_subscripts_that_do_not_fit(subscripts, shapes, told):
    arrays = [np.ones(shape) for shape in shapes]
    with pytest.raises(ValueError, match=told):
        np.einsum(subscripts, *map(ta.tensor, arrays))
    with pytest.raises(ValueError, match=r"."):
        np.einsum(subscripts, *arrays)


def test_partners_that_do_not_fit():
    with pytest.raises(ValueError, match=r"^dot: .* one length; got axes \[1\] of x \(3, 5\) and \[0\] of y \(7, 5\)"):
        rules.dot(np.ones((3, 5)), np.ones((7, 5)))
    with pytest.raises(ValueError, match=r"^tensordot: .* got axes \[0, 1\] of x \(3, 5\) and \[0, 1\] of y \(5, 3\)"):
        rules.tensordot(np.ones((3, 5)), np.ones((5, 3)))
    with pytest.raises(ValueError, match=r"^tensordot: "):
        rules.tensordot(np.ones((3, 5)), np.ones((5, 3)), ([0, 1], [1]))
    with pytest.raises(ValueError, match="tensordot: there is no axis 2"):
        ta.tensordot(np.ones((3, 5)), np.ones((5, 3)), (2, 0))
    with pytest.raises(TypeError, match=r"einsum: operands\[1\] needs an array; got None"):
        ta.einsum("i,i", [1.0], None)
