import numpy as np
import pytest

import tinyattn as ta


@pytest.fixture
def inputs():
    rng = np.random.default_rng(0)
    return [ta.tensor(rng.normal(size=shape), requires_grad=True) for shape in ((2, 3, 5), (2, 7, 5), (2, 7, 11))]


def test_attention_gives_its_weights_if_asked(inputs):
    mask = np.tri(3, 7, dtype=bool)
    output, weights = ta.attention(*inputs, mask=mask.tolist(), return_weights=True)
    assert output.shape == (2, 3, 11)
    assert weights.shape == (2, 3, 7)
    np.testing.assert_allclose((weights @ inputs[2]).numpy(), output.numpy())
    np.testing.assert_array_equal(output.numpy(), ta.attention(*inputs, mask=mask).numpy())
    assert not weights.numpy()[:, ~mask].any()


def test_output_and_weights_both_have_gradients(inputs):
    """A loss in both gets the sum of the gradients that it gets from each."""
    query = inputs[0]
    output, weights = ta.attention(*inputs, return_weights=True)
    ((output * output).sum() + (weights * weights).sum()).backward()
    together, query.grad = query.grad, None
    output = ta.attention(*inputs)
    (output * output).sum().backward()
    weights = ta.attention_weights(*inputs[:2])
    (weights * weights).sum().backward()
    np.testing.assert_allclose(together.numpy(), query.grad.numpy(), rtol=1e-12)


def test_the_bias_of_attention_goes_by_name_and_learns(inputs):
    bias = ta.tensor(np.zeros((3, 7)), requires_grad=True)
    ta.attention(*inputs, bias=bias).sum().backward()
    assert bias.grad.shape == (3, 7)
    np.testing.assert_allclose(bias.grad.numpy().sum(-1), 0.0, atol=1e-14)
    with pytest.raises(TypeError):
        ta.attention(*inputs, bias)


def test_attention_on_arrays_gives_arrays(inputs):
    output, weights = ta.attention(*(x.numpy() for x in inputs), causal=True, return_weights=True)
    assert type(output) is type(weights) is np.ndarray


@pytest.mark.usefixtures("own_rules")
def test_a_rule_of_ones_own():
    @ta.rule
    def scaled_square(x, *, by=1.0):
        """by · x²"""

        def backward(d_output):
            return (d_output * 2 * by * x,)

        return by * x * x, backward

    x = ta.tensor([1.0, 3.0], requires_grad=True)
    assert scaled_square([2.0], by=5.0).tolist() == [20.0]
    scaled_square(x, by=5.0).sum().backward()
    assert x.grad.tolist() == [10.0, 30.0]
    assert ta.grad(ta.grad(lambda x: scaled_square(x, by=5.0)))(3.0).item() == 10.0
    assert scaled_square.__doc__ == "by · x²"
    assert ta.gradcheck(scaled_square, np.array([1.0, 2.0]))


@pytest.mark.usefixtures("own_rules")
def test_a_rule_with_the_name_of_another():
    with pytest.raises(ValueError, match="there is a rule named 'softmax' already"):

        @ta.rule
        def softmax(x):
            return x, lambda d_output: (d_output,)


def test_embedding_and_cross_entropy_take_lists_and_tensors_of_integers():
    weight = ta.tensor(np.arange(6.0).reshape(3, 2), requires_grad=True)
    for ids in ([2, 0], ta.tensor([2, 0]), np.array([2, 0], np.int8)):
        weight.zero_grad()
        ta.cross_entropy(ta.embedding(weight, ids), [1, 0]).backward()
        assert weight.grad.tolist()[1] == [0.0, 0.0]
        np.testing.assert_allclose(weight.grad.numpy().sum(1), 0.0, atol=1e-15)


def test_einsum_is_the_same_call_with_numpys_name(inputs):
    query, key, _ = inputs
    for scores in (
        ta.einsum("bqd,bkd->bqk", query, key),
        np.einsum("bqd,bkd->bqk", query, key),
        np.einsum("bqd, bkd -> bqk", query, key.numpy(), optimize=True),
    ):
        assert isinstance(scores, ta.Tensor)
        np.testing.assert_allclose(scores.numpy(), query.numpy() @ key.numpy().swapaxes(1, 2))
    assert type(ta.einsum("ij->i", [[1.0, 2.0]])) is np.ndarray
    assert ta.einsum(",i->i", 2.0, inputs[0][0, 0]).shape == (5,)


def test_einsum_without_subscripts(inputs):
    for call in (lambda: ta.einsum(inputs[0], [0, 1, 2]), lambda: np.einsum(inputs[0], [0, 1, 2], [0])):
        with pytest.raises(TypeError, match=r"einsum: subscripts come first, a string as in .*; got Tensor"):
            call()


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("sections", [1, [1], [1, 2], [], (2, 1), [-1], [9], np.array([1])])
def test_split_gives_numpys_parts(sections, axis):
    x = np.arange(30.0).reshape(2, 3, 5)
    t = ta.tensor(x, requires_grad=True)
    expected = np.split(x, sections, axis)
    for parts in (ta.split(t, sections, axis), np.split(t, sections, axis=axis), ta.split(x, sections, axis)):
        assert type(parts) is list
        for part, wanted in zip(parts, expected, strict=True):
            np.testing.assert_array_equal(np.asarray(part.data), wanted)
    sum(((i + 1) * part).sum() for i, part in enumerate(ta.split(t, sections, axis))).backward()
    marked = np.zeros_like(x)
    marks = np.split(marked, sections, axis)  # views
    for i, mark in enumerate(marks):
        mark += i + 1
    np.testing.assert_array_equal(t.grad.numpy(), marked)


def test_split_into_equal_parts():
    x = ta.tensor(np.arange(6.0).reshape(2, 3), requires_grad=True)
    first, second, third = ta.split(x, 3, axis=-1)
    (first * second * third).sum().backward()
    assert x.grad.tolist() == [[2.0, 0.0, 0.0], [20.0, 15.0, 12.0]]
    assert [part.shape for part in ta.split(np.ones((0, 3)), 4)] == [(0, 3)] * 4


def test_split_that_does_not_come_out_even():
    x = ta.tensor(np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"split: axis 1 of shape \(2, 3\) can't be cut into 2 parts of one length"):
        np.split(x, 2, 1)
    with pytest.raises(ValueError, match="can't be cut into 0 parts"):
        ta.split(x, 0)
    with pytest.raises(ValueError, match=r"split: there is no axis 2, .*got shape \(2, 3\)"):
        ta.split(x, 2, 2)


@pytest.mark.parametrize("name", ["diagonal", "outer", "matmul", "tensordot"])
def test_a_namesake_in_linalg_is_not_taken_for_numpys_own(name):
    """np.linalg.diagonal is along the last two axes, np.diagonal along the first two."""
    x = ta.tensor(np.ones((2, 3, 5)))
    with pytest.raises(TypeError, match=rf"np\.linalg\.{name} has no rule, .* The nearest there is: {name}\."):
        getattr(np.linalg, name)(*[x] if name == "diagonal" else [x, x])
