import numpy as np
import pytest

import tinyattn as ta
from tinyattn import optim


def parameters(dtype=np.float64):
    rng = np.random.default_rng(0)
    return [ta.tensor(rng.normal(size=shape), requires_grad=True, dtype=dtype) for shape in ((3, 5), (7,), ())]


def give_gradients(tensors, seed=0):
    rng = np.random.default_rng(seed)
    for tensor in tensors:
        tensor.grad = ta.tensor(rng.normal(size=tensor.shape), dtype=tensor.dtype)


def train(optimizer, steps, start=0):
    for step in range(start, start + steps):
        give_gradients(optimizer.parameters, seed=step)
        optimizer.step()


def by_the_book(update, steps):
    """The numbers after some steps of `update(p, g, state, t)`, one parameter at a time."""
    tensors = parameters()
    states = [{} for _ in tensors]
    for step in range(steps):
        give_gradients(tensors, seed=step)
        for tensor, state in zip(tensors, states, strict=True):
            tensor.data[...] = update(tensor.data, tensor.grad.data, state, step + 1)
    return [tensor.data for tensor in tensors]


def sgd(p, g, state, t):
    state["u"] = 0.9 * state.get("u", 0.0) + g
    return p - 0.1 * state["u"]


def adam(p, g, state, t):
    state["m"] = 0.8 * state.get("m", 0.0) + 0.2 * g
    state["v"] = 0.95 * state.get("v", 0.0) + 0.05 * g * g
    return p - 0.1 * (state["m"] / (1 - 0.8**t)) / (np.sqrt(state["v"] / (1 - 0.95**t)) + 1e-4)


def adamw(p, g, state, t):
    return adam((1 - 0.1 * 0.3) * p, g, state, t)


MAKERS = {
    "sgd": (lambda tensors: optim.SGD(tensors, 0.1, momentum=0.9), sgd),
    "adam": (lambda tensors: optim.Adam(tensors, 0.1, betas=(0.8, 0.95), eps=1e-4), adam),
    "adamw": (lambda tensors: optim.AdamW(tensors, 0.1, betas=(0.8, 0.95), eps=1e-4, weight_decay=0.3), adamw),
}


@pytest.mark.parametrize("name", MAKERS)
def test_steps_are_by_the_book(name):
    make, update = MAKERS[name]
    tensors = parameters()
    train(make(tensors), 5)
    for tensor, expected in zip(tensors, by_the_book(update, 5), strict=True):
        np.testing.assert_allclose(tensor.data, expected, rtol=1e-12)


def test_sgd_without_momentum_keeps_no_state():
    tensors = parameters()
    before = tensors[0].data.copy()
    optimizer = optim.SGD(tensors, 0.1)
    train(optimizer, 1)
    np.testing.assert_allclose(tensors[0].data, before - 0.1 * tensors[0].grad.data)
    assert list(optimizer.state_dict()) == ["steps"]


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_saved_state_goes_on_to_the_bit(name, dtype):
    make, _ = MAKERS[name]
    unbroken, broken = parameters(dtype), parameters(dtype)
    train(make(unbroken), 7)
    first = make(broken)
    train(first, 4)
    state = first.state_dict()
    assert all(isinstance(value, np.ndarray) for value in state.values())
    train(make(parameters(dtype)), 1)
    second = make(broken)
    second.load_state_dict(state)
    train(second, 3, start=4)
    for tensor, expected in zip(broken, unbroken, strict=True):
        assert tensor.dtype == dtype
        assert tensor.data.tobytes() == expected.data.tobytes()


def test_a_state_is_a_copy():
    optimizer = optim.Adam(parameters())
    train(optimizer, 1)
    state = optimizer.state_dict()
    before = state["mean"].copy()
    train(optimizer, 1)
    assert (state["mean"] == before).all()
    assert state["steps"] == 1


@pytest.mark.parametrize("change", [{"mean": np.zeros(3)}, {"extra": np.zeros(23)}, {"mean": None}])
def test_a_state_that_does_not_fit_changes_nothing(change):
    optimizer = optim.Adam(parameters())
    state = optim.Adam(parameters()).state_dict() | {"steps": np.array(9)} | change
    with pytest.raises(ValueError, match=r"load_state_dict: Adam needs .*'mean': \(23,\)"):
        optimizer.load_state_dict({key: value for key, value in state.items() if value is not None})
    assert optimizer.steps == 0


@pytest.mark.parametrize("name", MAKERS)
def test_a_step_at_another_rate(name):
    tensors = parameters()
    before = [tensor.data.copy() for tensor in tensors]
    optimizer = MAKERS[name][0](tensors)
    give_gradients(tensors)
    optimizer.step(lr=0.0)
    assert all((tensor.data == old).all() for tensor, old in zip(tensors, before, strict=True))
    optimizer.step(lr=0.2)
    assert not any((tensor.data == old).any() for tensor, old in zip(tensors, before, strict=True))


def test_no_gradient_is_gradient_zero():
    tensors = parameters()
    give_gradients(tensors)
    tensors[1].grad = None
    before = tensors[1].data.copy()
    optimizer = optim.Adam(tensors)
    optimizer.step()
    assert (tensors[1].data == before).all()
    assert tensors[1].grad is None
    optimizer.zero_grad()
    with pytest.raises(ta.GradientError, match=r"step: no parameter has a gradient; call backward\(\)"):
        optimizer.step()
    assert optimizer.steps == 1


def test_frozen_parameters_stay_as_they_are():
    tensors = parameters()
    tensors[0].requires_grad = False
    before = tensors[0].data.copy()
    train(optim.AdamW(tensors, weight_decay=0.5), 3)
    assert (tensors[0].data == before).all()


def test_errors():
    with pytest.raises(ValueError, match="SGD: there is no parameter that requires a gradient"):
        optim.SGD([ta.tensor(1.0)], 0.1)
    with pytest.raises(TypeError, match="Adam: parameters must share one dtype; got float64 and float32"):
        optim.Adam(parameters() + parameters(np.float32))


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda p: optim.Adam([p], lr=-1.0), r"Adam: lr must be 0 or more, and finite; got -1\.0"),
        (lambda p: optim.SGD([p], float("nan")), r"SGD: lr must be 0 or more, and finite; got nan"),
        (lambda p: optim.SGD([p], float("inf")), r"SGD: lr must be 0 or more, and finite; got inf"),
        (lambda p: optim.SGD([p], 0.1, momentum=-0.9), r"SGD: momentum must be 0 or more"),
        (lambda p: optim.Adam([p], betas=(1, 2)), r"Adam: betas must be 0 or more, and below 1; got 1$"),
        (lambda p: optim.Adam([p], betas=(0.9, float("nan"))), r"Adam: betas must be .*got nan"),
        (lambda p: optim.AdamW([p], betas=(-0.1, 0.9)), r"AdamW: betas must be .*got -0\.1"),
        (lambda p: optim.Adam([p], eps=-1e-8), r"Adam: eps must be 0 or more"),
        (lambda p: optim.AdamW([p], weight_decay=-1.0), r"AdamW: weight_decay must be 0 or more"),
        (lambda p: optim.Adam([p, ta.tensor(1.0), p]), r"Adam: each parameter may be given once; the one at place 2"),
        (lambda p: optim.Adam([p * 2]), r"Adam: parameters must be leaves; the one at place 0 was made by multiply"),
        (lambda p: optim.clip_grad_norm([p, p], 1.0), r"clip_grad_norm: each parameter may be given once"),
        (lambda p: optim.clip_grad_norm([p], -1.0), r"clip_grad_norm: max_norm must be 0 or more; got -1"),
        (lambda p: optim.clip_grad_norm([p], float("nan")), r"clip_grad_norm: max_norm must be 0 or more; got nan"),
    ],
)
def test_values_that_make_no_sense(make, told):
    with pytest.raises(ValueError, match=f"^{told}"):
        make(ta.tensor([1.0, 2.0], requires_grad=True))


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda p: optim.Adam(p), r"Adam: parameters must be a list of Tensors; got one Tensor\. Are \[ \] missing\?"),
        (lambda p: optim.clip_grad_norm(p, 1.0), r"clip_grad_norm: parameters must be a list of Tensors; got one"),
        (lambda p: optim.SGD(ta.nn.LayerNorm(3), 0.1), r"SGD: .*; got LayerNorm\. Did you mean its \.parameters\(\)\?"),
        (lambda p: optim.SGD(None, 0.1), r"SGD: parameters must be a list of Tensors; got NoneType\.$"),
        (lambda p: optim.SGD([p, "p"], 0.1), r"SGD: parameters must be Tensors; got str at place 1"),
        (lambda p: optim.SGD([p.data], 0.1), r"SGD: parameters must be Tensors; got ndarray at place 0"),
        (lambda p: optim.Adam([p], lr="0.1"), r"Adam: lr must be a number; got '0\.1'"),
    ],
)
def test_kinds_that_make_no_sense(make, told):
    with pytest.raises(TypeError, match=f"^{told}"):
        make(ta.tensor([1.0, 2.0], requires_grad=True))


def test_a_step_at_a_rate_that_makes_no_sense_changes_nothing():
    tensors = parameters()
    give_gradients(tensors)
    before = [tensor.data.copy() for tensor in tensors]
    optimizer = optim.Adam(tensors)
    for rate in (-0.1, float("nan")):
        with pytest.raises(ValueError, match="step: lr must be 0 or more, and finite; got"):
            optimizer.step(rate)
    assert optimizer.steps == 0
    assert all((tensor.data == old).all() for tensor, old in zip(tensors, before, strict=True))
    assert optim.clip_grad_norm(tensors, float("inf")) > 0  # which measures, and clips nothing


def test_the_parameters_stay_where_they_are():
    """An optimiser writes into the arrays, so that whoever shares them sees the step."""
    tensors = parameters()
    shared = tensors[0].numpy()
    train(optim.Adam(tensors), 1)
    assert np.shares_memory(tensors[0].numpy(), shared)


def test_clipping():
    tensors = parameters(np.float32)
    give_gradients(tensors)
    before = [tensor.grad.data.copy() for tensor in tensors]
    norm = np.sqrt(sum((g**2).sum() for g in before))
    assert optim.clip_grad_norm(tensors, 100.0) == pytest.approx(norm)
    assert all((tensor.grad.data == g).all() for tensor, g in zip(tensors, before, strict=True))
    tensors[1].grad = None
    rest = np.sqrt((before[0] ** 2).sum() + before[2] ** 2)
    assert optim.clip_grad_norm(tensors, 0.5) == pytest.approx(rest)
    np.testing.assert_allclose(tensors[0].grad.data, before[0] * 0.5 / rest, rtol=1e-6)
    assert tensors[0].grad.dtype == np.float32
    assert optim.clip_grad_norm(tensors, 1.0) == pytest.approx(0.5)
    assert optim.clip_grad_norm([], 1.0) == 0.0
    tensors[0].grad.data[0] = np.nan
    assert np.isnan(optim.clip_grad_norm(tensors, 1.0))
    assert np.isnan(tensors[2].grad.data).all()  # else it would be taken for clipped


def test_schedules():
    assert {optim.constant(0.3)(step) for step in range(9)} == {0.3}
    cosine = optim.cosine(2.0, 20, warmup=5, floor=0.5)
    assert [cosine(step) for step in (0, 4, 5)] == [0.4, 2.0, 2.0]
    assert cosine(12) > 1.25 > cosine(13)
    assert cosine(20) == cosine(99) == 0.5
    cycle = optim.one_cycle(2.0, 100)
    rates = [cycle(step) for step in range(100)]
    assert rates[0] == pytest.approx(2.0 / 25)
    assert rates[29] == 2.0 == max(rates)
    assert rates[99] == cycle(1000) == pytest.approx(8e-6)
    assert rates[:30] == sorted(rates[:30])
    assert rates[29:] == sorted(rates[29:], reverse=True)


@pytest.mark.parametrize(("steps", "rise"), [(1, 0.3), (5, 0.9), (7, 0.0), (3, 1 / 3)])
def test_a_cycle_ends_at_its_end(steps, rise):
    cycle = optim.one_cycle(1.0, steps, rise=rise, end=0.125)
    assert cycle(steps - 1) == cycle(steps + 9) == pytest.approx(0.125)


def test_a_cycle_without_a_fall_ends_at_the_top():
    assert optim.one_cycle(1.0, 5, rise=1.0)(4) == 1.0


def test_a_line_is_learned():
    """The whole of it: a layer, a loss, an optimiser with its schedule."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 3))
    target = x @ np.array([[1.0], [-2.0], [3.0]]) + 0.5
    layer = ta.nn.Linear(3, 1, rng=rng)
    optimizer, schedule = optim.Adam(layer.parameters()), optim.one_cycle(0.1, 300)
    for step in range(300):
        loss = ta.mse_loss(layer(x), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step(schedule(step))
    assert loss.item() < 1e-6
    np.testing.assert_allclose(layer.weight.numpy().ravel(), [1.0, -2.0, 3.0], atol=1e-3)
