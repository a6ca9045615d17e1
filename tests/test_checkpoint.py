"""Checkpoints: the same gradients to the bit, from less memory."""

import weakref

import numpy as np
import pytest

import tinyattn as ta
from tinyattn import nn

GradientError = ta.GradientError


def same(first, second):
    assert len(first) == len(second)
    return all(np.array_equal(x, y) for x, y in zip(first, second, strict=True))


def gradients(wrap, retain=False):
    """Of a loss that uses a block twice, and its input beside it, so that there are many sums to take in one order."""
    rng = np.random.default_rng(0)
    block = nn.TransformerBlock(12, 3, 17, rng=rng)
    x = ta.tensor(rng.normal(size=(2, 5, 12)), requires_grad=True)
    f = wrap(block)
    y = f(x * 1.5)
    z = f(y) + x * y
    (z * z).sum().backward(retain_graph=retain)
    return [x.grad.numpy(), *(parameter.grad.numpy() for parameter in block.parameters())]


def test_the_same_gradients_to_the_bit():
    plain = gradients(lambda f: f)
    assert same(plain, gradients(ta.checkpoint))
    assert same(plain, gradients(lambda f: ta.checkpoint(ta.checkpoint(f))))
    assert same(plain, gradients(ta.checkpoint, retain=True))


def f(x):
    return (ta.tanh(x) ** 2 * ta.sin(x) * x).sum()


def test_functional_gradients_of_any_order():
    x = np.random.default_rng(0).normal(size=7)
    g = ta.checkpoint(f)
    assert same([ta.grad(f)(x).numpy()], [ta.grad(g)(x).numpy()])
    twice = [ta.grad(lambda x, h=h: (ta.grad(h)(x) ** 2).sum())(x).numpy() for h in (f, g)]
    assert same(twice[:1], twice[1:])
    np.testing.assert_allclose(ta.hessian(g)(x).numpy(), ta.hessian(f)(x).numpy(), rtol=1e-14)


def test_nothing_between_is_remembered():
    seen = []

    def steps(x):
        y = ta.exp(x)
        seen.append(weakref.ref(y))
        return (y * y).sum()

    x = ta.tensor(np.ones(5), requires_grad=True)
    loss = ta.checkpoint(steps)(x)
    assert seen[0]() is None
    loss.backward()
    assert len(seen) == 2
    assert seen[1]() is None
    assert x.grad.tolist() == pytest.approx([2 * np.exp(2.0)] * 5)


def test_the_output_is_what_it_would_be():
    x = ta.tensor([1.0, 2.0], requires_grad=True)
    y = ta.checkpoint(lambda x, power: x**power)(x, power=3)
    assert y.tolist() == [1.0, 8.0]
    assert y._rule.__name__ == "checkpoint"
    with ta.no_grad():
        assert not ta.checkpoint(f)(x).requires_grad
    assert ta.checkpoint(lambda x: x)(x) is x
    assert not ta.checkpoint(f)(ta.tensor([1.0])).requires_grad


def test_what_was_there_before_is_given_back_as_it_is():
    """A function that hands its argument through has nothing to compute again."""
    x = ta.tensor([1.0, 2.0], requires_grad=True)
    y = x * x
    assert ta.checkpoint(lambda x: x)(x) is x
    assert ta.checkpoint(lambda: y)() is y


def test_a_tuple_of_outputs():
    def both(x):
        return ta.exp(x), ta.sin(x).sum()

    results = []
    for g in (both, ta.checkpoint(both)):
        x = ta.tensor([[1.0, 2.0, 3.0]], requires_grad=True)
        exp, total = g(x)
        assert (exp.shape, total.shape) == ((1, 3), ())
        ((exp * [[1.0, 10.0, 100.0]]).sum() * total).backward()
        results.append(x.grad.numpy())
    assert same(results[:1], results[1:])


def test_a_generator_is_put_back():
    def noisy(x, rng):
        return (x * ta.tensor(rng.normal(size=x.shape)) * x).sum()

    def run(wrap):
        rng = np.random.default_rng(0)
        x = ta.tensor([1.0, 2.0], requires_grad=True)
        loss = wrap(noisy)(x, rng)
        after = rng.normal()
        loss.backward()
        return x.grad.numpy(), np.array([after, rng.normal()])

    assert same(run(lambda f: f), run(ta.checkpoint))
    rng = np.random.default_rng(0)
    x = ta.tensor([1.0, 2.0], requires_grad=True)
    ta.checkpoint(lambda x: noisy(x, rng))(x).backward()  # one that the function closes over
    assert same([x.grad.numpy()], run(lambda f: f)[:1])


class Hidden:
    def __init__(self):
        self.rng = np.random.default_rng(0)


def test_a_function_that_is_another_the_second_time():
    hidden = Hidden()
    x = ta.tensor([1.0, 2.0], requires_grad=True)
    noisy = lambda x: (x * hidden.rng.normal(size=2)).sum()  # noqa: E731
    with pytest.raises(GradientError, match=r"gave another output .*: checkpoint\(f, rngs=\[rng\]\)"):
        ta.checkpoint(noisy)(x).backward()
    assert x.grad is None
    ta.checkpoint(noisy, rngs=[hidden.rng])(x).backward()
    assert x.grad is not None


def test_a_parameter_written_before_the_way_back():
    w = ta.tensor([1.0, 2.0], requires_grad=True)
    loss = ta.checkpoint(lambda x: (x * w).sum())(ta.tensor([3.0, 4.0]))
    w.data[0] = 5.0
    with pytest.raises(GradientError, match=r"backward: checkpoint .* which was written"):
        loss.backward()


@pytest.mark.parametrize("value", [1.0, None, [], "x", (1.0, 2.0), ()])
def test_a_value_that_is_no_tensor(value):
    with pytest.raises(TypeError, match="checkpoint: the function must give a Tensor, or a tuple of them; got"):
        ta.checkpoint(lambda x: value)(ta.tensor(1.0))


def test_what_cannot_be_checkpointed():
    with pytest.raises(TypeError, match="checkpoint: needs a function or a module; got Tensor"):
        ta.checkpoint(ta.tensor(1.0))
    with pytest.raises(TypeError, match="checkpoint: outputs must have one dtype; got float64, float32"):
        ta.checkpoint(lambda x: (x * 1.0, x.astype(np.float32)))(ta.tensor([1.0], requires_grad=True))


def test_a_hook_inside_a_checkpoint_sees_one_gradient_at_a_time():
    """Also where a Jacobian's rows would go back together."""
    seen = []

    def hooked(x):
        y = x * x
        y.register_hook(lambda gradient: seen.append(gradient.tolist()))
        return y * 3.0

    jacobian = ta.jacobian(ta.checkpoint(hooked))([1.0, 2.0])
    assert jacobian.tolist() == [[6.0, 0.0], [0.0, 12.0]]
    assert seen == [[3.0, 0.0], [0.0, 3.0]]
