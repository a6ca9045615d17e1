"""`ta.compile`: what is replayed is what the function gives, to the bit; what can't be replayed is refused."""

import ast
import gc
import itertools
import weakref

import numpy as np
import pytest

import tinyattn as ta
from tinyattn.engine import KERNELS, lift
from tinyattn.gallery import SAMPLES
from tinyattn.rules.registry import RULES, parameters


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def bits(x):
    return None if x is None else (x.shape, x.dtype, x.tobytes())


def gradients(loss, leaves):
    """Of a backward pass; forgotten afterwards."""
    loss.backward()
    found = [None if x.grad is None else bits(x.grad.numpy()) for x in leaves]
    for x in leaves:
        x.grad = None
    return found


# ---------------------------------------------------------------------------------------- the same numbers


@pytest.mark.parametrize("name", sorted(SAMPLES))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_rule_to_the_bit(name, dtype):
    """Output and gradients, at the recorded call, at those that are checked, and at one that isn't."""
    for sample in SAMPLES[name](np.random.default_rng(0)):
        if sample.options.get("dropped") is not None or name == "dropout":
            continue
        arrays = [x.astype(dtype) if getattr(x, "dtype", None) == np.float64 else x for x in sample.arrays]
        leaves = [ta.tensor(x, requires_grad=True) for x in arrays if getattr(x, "dtype", None) == dtype]
        fresh = np.random.default_rng(1)
        order = iter(leaves)
        inputs = [next(order) if getattr(x, "dtype", None) == dtype else x for x in arrays]
        rule = lift(RULES[name], KERNELS.get(RULES[name]))

        def f(factor, rule=rule, inputs=inputs, sample=sample, name=name):
            given = [inputs] if parameters(RULES[name]).variadic else inputs
            return (rule(*given, **sample.options) * factor).sum()

        if not f(np.ones((), dtype)).requires_grad:
            continue
        replayed = ta.compile(f)
        for _ in range(5):
            factor = np.asarray(fresh.normal(), dtype)
            right, found = f(factor), replayed(factor)
            assert bits(found.numpy()) == bits(right.numpy())
            assert gradients(found, leaves) == gradients(right, leaves)


def gpt(dtype=np.float32):
    return ta.nn.GPT(11, 7, 12, 2, 3, rng=0, dtype=dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_model_in_training(rng, dtype):
    """Two models, one compiled: the same bits after every step. Weights decay, gradients are clipped."""
    runs = []
    for wrap in (ta.compile, lambda f: f):
        model, batches = gpt(dtype), np.random.default_rng(1)
        optimizer = ta.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
        loss_of = wrap(lambda ids, following, model=model: ta.cross_entropy(model(ids), following))
        losses = []
        for _ in range(6):
            ids = batches.integers(0, 11, (5, 8))
            loss = loss_of(ids[:, :-1], ids[:, 1:])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step(max_norm=1.0)
            losses.append(loss.item())
        runs.append((losses, [bits(x) for x in model.state_dict().values()]))
    assert runs[0] == runs[1]
    assert len(set(runs[0][0])) == 6


def test_derivatives_of_higher_order(rng):
    """The program of plain rules has them."""
    w = ta.tensor(rng.normal(size=5), requires_grad=True)

    def f(x):
        return (ta.tanh(ta.linear(x, ta.reshape(w, (5, 1)), activation="gelu")) * x[:, :1]).sum()

    x = rng.normal(size=(3, 5))
    compiled = ta.compile(f)
    compiled(x)
    for derivative in (ta.grad, lambda f: ta.grad(lambda x: (ta.grad(f)(x) ** 2).sum()), ta.jacobian, ta.hessian):
        np.testing.assert_allclose(derivative(compiled)(x), derivative(f)(x), rtol=1e-12, atol=1e-14)


def test_what_has_no_gradient_is_replayed_too(rng):
    """Slices of ids, what is computed of arguments alone, under no_grad, or of the function's own constants."""
    w = ta.tensor(rng.normal(size=(7, 3)), requires_grad=True)

    def f(ids, x):
        with ta.no_grad():
            mean = (w * x).mean()
        rows = w[ids[:, 1:]] * ta.tensor([1.0, 2.0, 3.0]) - mean
        return (rows * ta.exp(x**2) * ids[:, :-1, None]).sum()

    compiled = ta.compile(f)
    for _ in range(5):
        ids, x = rng.integers(0, 7, (2, 5)), rng.normal(size=3)
        right, found = f(ids, x), compiled(ids, x)
        assert bits(found.numpy()) == bits(right.numpy() if isinstance(right, ta.Tensor) else right)
        assert gradients(found, [w]) == gradients(right, [w])


def test_tensors_as_arguments_get_their_gradients(rng):
    w = ta.tensor(rng.normal(size=(3, 2)), requires_grad=True)
    x = ta.tensor(rng.normal(size=(5, 3)), requires_grad=True)
    f = ta.compile(lambda x: ta.relu(x @ w).sum())
    for _ in range(4):
        assert gradients(f(x * 2.0), [x, w]) == gradients(ta.relu((x * 2.0) @ w).sum(), [x, w])
    f(x.detach()).backward()
    assert x.grad is None
    assert w.grad is not None


def test_gradients_add_up_and_a_graph_can_be_kept(rng):
    w = ta.tensor(rng.normal(size=3), requires_grad=True)
    f = ta.compile(lambda x: (w * x * w).sum())
    x = np.array([1.0, 2.0, 3.0])
    loss = f(x)
    loss.backward(retain_graph=True)
    loss.backward()
    np.testing.assert_allclose(w.grad, 4 * w.numpy() * x)
    with pytest.raises(ta.GradientError, match="released"):
        loss.backward()


def test_parameters_may_be_written_into(rng):
    w = ta.tensor([1.0, 2.0], requires_grad=True)
    f = ta.compile(lambda x: (w * w * x).sum())
    x = np.array([1.0, 10.0])
    w.data[0] = 3.0  # lent, and written before it's recorded
    for value in range(5):
        assert f(x).item() == (w.numpy() ** 2 * x).sum()
        w.data[1] = value
    w.data = [5.0, 6.0]
    assert f(x).item() == 25 + 360
    loss = f(x)
    w.data[0] = 0.0
    with pytest.raises(ta.GradientError, match=r"saved parameter_0, of shape \(2,\), which was written into since"):
        loss.backward()


def test_arguments_may_be_written_into_after_the_call(rng):
    w = ta.tensor([1.0, 2.0], requires_grad=True)
    f = ta.compile(lambda x: (w * x).sum())
    for _ in range(5):
        x = rng.normal(size=2)
        loss, then = f(x), x.copy()
        x[:] = 0.0
        loss.backward()
        np.testing.assert_array_equal(w.grad, then)
        w.grad = None


def test_another_program_for_other_shapes_dtypes_numbers_and_frozen_parameters(rng):
    w, v = (ta.tensor(x, requires_grad=True) for x in (2.0, 3.0))
    f = ta.compile(lambda x, n=1: (w * v * x**n).sum())
    assert [f([1.0, 2.0]).item(), f([1.0, 2.0], 2).item(), f([[4.0]]).item(), f(np.float32([4.0])).item()] == [
        18.0, 30.0, 24.0, 24.0
    ]  # fmt: skip
    assert f([1.0, 2.0], 2).item() == 30.0
    w.requires_grad = False
    f([1.0, 2.0]).backward()
    assert (w.grad, v.grad.item()) == (None, 6.0)
    w.requires_grad = True
    f([1.0, 2.0]).backward()
    assert w.grad.item() == 9.0


def test_what_is_not_recorded_is_not_replayed(rng):
    calls = []
    w = ta.tensor(2.0, requires_grad=True)

    def f(x):
        calls.append(x)
        return w * x

    compiled = ta.compile(f)
    x = np.array(3.0)
    with ta.no_grad():
        assert not compiled(x).requires_grad
    assert len(calls) == 1
    for _ in range(6):
        compiled(x)
    assert len(calls) == 1 + 4  # recorded once, and compared three times
    with ta.detect_anomaly(), np.errstate(over="ignore"), pytest.raises(FloatingPointError, match="multiply"):
        compiled(np.array(1.5e308))


def test_programs_are_let_go():
    w = ta.tensor(2.0, requires_grad=True)
    f = ta.compile(lambda x: (w * x).sum())
    for n in range(1, 80):
        f(np.ones(n))
    assert len(f._programs) == 64
    gone = weakref.ref(w)
    f = w = None
    gc.collect()
    assert gone() is None


# ---------------------------------------------------------------------------------------- the text


def test_names_are_letters_and_nothing_else():
    """Text of users goes into the program as names alone."""
    names = ["class", "d_w", "w", "back_1", "fitted", "multiply", "program", "x = 1; raise", "ﬁtted", "", "3", "more_0"]
    leaves = [ta.tensor(2.0, requires_grad=True, name=name) for name in names]

    def f(add, backward):
        total = add * 1.0
        for x in leaves:
            total = total + x * backward
        return total

    compiled = ta.compile(f)
    for _ in range(4):
        assert compiled(np.array(1.0), np.array(3.0)).item() == 1 + 6 * len(names)
    assert gradients(compiled(np.array(1.0), np.array(3.0)), leaves) == [bits(np.array(3.0))] * len(names)
    program = ast.parse(compiled.source).body[0]
    given = [x.arg for x in program.args.args]
    assert len(set(given)) == len(names) + 2
    assert all(x.isascii() and x.isidentifier() for x in given)


def test_the_source_is_what_runs():
    """Compiled by Python again, of plain rules, it gives the same numbers."""
    w = ta.tensor([1.0, 2.0], requires_grad=True, name="w")
    f = ta.compile(lambda x: ta.exp(ta.sin(x) * w).sum())
    x = np.array([0.3, 0.7])
    loss = f(x)
    space = {name: RULES[name] for name in ("sin", "multiply", "exp", "sum")}
    space["fitted"] = lambda gradients, *inputs: [
        None if x is None else np.broadcast_to(g, x.shape) for g, x in zip(gradients, inputs, strict=True)
    ]
    exec(f.source, space)
    output, backward = space["program"](w.numpy(), x)
    assert output == loss.item()
    loss.backward()
    np.testing.assert_array_equal(backward(np.array(1.0))[0], w.grad)


# ---------------------------------------------------------------------------------------- what is refused


def check_refused(f, *arguments, match):
    compiled = ta.compile(f)
    for argument in arguments[:-1]:
        compiled(argument)
    with pytest.raises(ta.CompileError, match=match):
        compiled(arguments[-1])


def test_what_stands_in_the_way(rng):
    w = ta.tensor([1.0, 2.0], requires_grad=True)
    x = np.array([3.0, 4.0])
    outside = w * 2.0
    check_refused(lambda x: 3.0, x, match="must give a Tensor that requires a gradient, a loss say; got 3.0")
    check_refused(lambda x: x * 2.0, x, match="must give a Tensor that requires a gradient")
    check_refused(lambda x: w, x, match="must give a Tensor that requires a gradient")
    check_refused(lambda x: outside * x, x, match="multiply is given a result of multiply that was computed outside")
    check_refused(lambda x: w * (w * x).detach(), x, match="multiply is given a tensor that isn't on the tape")
    check_refused(lambda x: w * x * ta.tensor([1.0, 2.0], requires_grad=True), x, match="isn't on the tape.* requires_")
    check_refused(lambda x: ta.dropout(w * x, 0.5, rng=rng), x, match="dropout draws at random; .* with .eval")
    check_refused(
        lambda x: ta.attention(x[:, None] * w[0], x[:, None], x[:, None], dropout=0.5, rng=rng).sum(), x,
        match="attention draws at random",
    )  # fmt: skip
    check_refused(ta.checkpoint(lambda x: ta.exp(w * x)), x, match="checkpoint is no rule that could be written down")

    def with_assignment(x):
        y = w * x
        y[0] = 3.0
        return y.sum()

    check_refused(with_assignment, x, match="where is given a tensor that was assigned to; use tinyattn.where")

    def with_hook(x):
        y = w * x
        y.retain_grad()
        return y.sum()

    check_refused(with_hook, x, match="the result of multiply has a hook")


def test_a_replay_that_differs_is_noticed(rng):
    w = ta.tensor([1.0, 2.0], requires_grad=True)
    differs = "the replay differs from the function"
    up, down, outside = np.array([3.0, 4.0]), np.array([-3.0, 4.0]), np.array([1.0, 1.0])

    turns = itertools.cycle([True, True, False])

    def counting(x):
        outside[0] += 1
        return (w * outside).sum()

    check_refused(counting, up, match=differs)
    check_refused(lambda x: (w * rng.normal(size=2)).sum(), up, match=differs)
    check_refused(lambda x: (w * outside if next(turns) else w * 2.0).sum(), up, down, match=differs)


LEAVING = {
    "a comparison": lambda w, x: w * (x > 0),
    "np.greater": lambda w, x: ta.where(np.greater(x, 0), w, x),
    ".numpy": lambda w, x: w * x.numpy(),
    ".data": lambda w, x: w * w.data,
    "item": lambda w, x: w * x[0].item(),
    "float": lambda w, x: w * float(x[0]),
    "bool": lambda w, x: w * 2.0 if x[0] else w,
    ".tolist": lambda w, x: w * x.tolist(),
    "argmax": lambda w, x: w[x.argmax()],
    "np.argsort": lambda w, x: w[np.argsort(x)],
    "an array of NumPy": lambda w, x: w * np.asarray(x),
}


@pytest.mark.parametrize("what", LEAVING)
def test_what_leaves_the_tape_is_refused(what):
    """The first calls might agree by chance, and the fifth be wrong."""
    w = ta.tensor([1.0, 2.0], requires_grad=True)
    check_refused(lambda x: LEAVING[what](w, x), np.array([3.0, 4.0]), match=rf"compile: {what}.* aren't on the tape")
    assert LEAVING[what](w, ta.tensor([3.0, 4.0])).requires_grad  # elsewhere it's fine


def test_shapes_are_fine():
    w = ta.tensor([1.0, 2.0], requires_grad=True)
    f = ta.compile(lambda x: (w * np.ones_like(x) * len(x) / x.size).sum() + w.sum() * np.ndim(x))
    assert [f(np.array([k, k])).item() for k in range(5)] == [6.0] * 5


def test_what_is_refused_once_is_refused_again(rng):
    w = ta.tensor([1.0, 2.0], requires_grad=True)
    f = ta.compile(lambda x: (w * rng.normal(size=2)).sum())
    for _ in range(6):
        with pytest.raises(ta.CompileError, match="differs"):
            f(np.ones(2))


def test_kernels_that_leave_a_call_to_the_rule(rng):
    """Whose gradients have the shapes of what was broadcast: scores too far apart for a kernel, after the checks."""
    layers = [ta.nn.MultiHeadAttention(8, 2, rng=seed, dtype=float) for seed in (0, 1)]
    bias = ta.tensor(rng.normal(size=(2, 4, 4)), requires_grad=True)

    def f(x, y):
        return sum((layer(z, bias=bias) ** 2).sum() for layer, z in zip(layers, (x, y), strict=True))

    compiled = ta.compile(f)
    for k in range(6):
        x, y = rng.normal(size=(2, 3, 4, 8)) * (100.0 if k > 3 else 1.0)
        assert gradients(compiled(x, y), [bias]) == gradients(f(x, y), [bias])


def test_numbers_of_other_dtypes_into_a_model(rng):
    block = ta.nn.TransformerBlock(8, 2, rng=0)
    for x in (rng.normal(size=(3, 5, 8)), rng.integers(-3, 3, (3, 5, 8)), rng.normal(size=(3, 5, 8)).T.copy().T):
        compiled = ta.compile(lambda x: (block(x) ** 2).mean())
        for _ in range(4):
            right, found = (block(x) ** 2).mean(), compiled(x)
            assert bits(found.numpy()) == bits(right.numpy())
            assert gradients(found, block.parameters()) == gradients(right, block.parameters())


def test_tensors_from_outside_may_be_written_into(rng):
    """Those without gradients, too; as operands, keys and masks."""
    w = ta.tensor([1.0, 2.0, 3.0], requires_grad=True)
    factor, places = ta.tensor([1.0, 1.0, 1.0]), ta.tensor([0, 1, 1])
    mask = ta.tensor([True, True, False])

    def f(x):
        return (w[places] * factor * x).sum() + ta.attention(x[:, None], w[:, None], x[:, None], mask=mask).sum()

    factor.data[0], places.data[0] = 5.0, 1  # lent, and written before it's recorded
    compiled = ta.compile(f)
    for k in range(6):
        x = rng.normal(size=3)
        assert bits(compiled(x).numpy()) == bits(f(x).numpy())
        factor.data[1], places.data[2], mask.data[2] = k, k % 3, k % 2 == 0


def test_an_argument_that_is_known_outside_too(rng):
    w, k, j = ta.tensor([1.0, 2.0, 3.0], requires_grad=True), ta.tensor([0, 1]), ta.tensor([2, 2])
    f = ta.compile(lambda i: (w[k] * w[i]).sum())
    assert [f(k).item() for _ in range(4)] == [5.0] * 4
    assert f(j).item() == 9.0


def test_zeros_have_signs():
    w = ta.tensor(1.0, requires_grad=True)
    f = ta.compile(lambda n: 1.0 / (w * n))
    with np.errstate(divide="ignore", invalid="ignore"):
        assert [f(0.0).item(), f(-0.0).item()] == [np.inf, -np.inf]


def test_one_within_another(rng):
    w = ta.tensor(rng.normal(size=3), requires_grad=True)
    inner = ta.compile(lambda x: ta.exp(w * x) * w)
    outer = ta.compile(lambda x: (inner(x) * w + inner(x * 2.0)).sum())
    for _ in range(5):
        x = rng.normal(size=3)
        right = (ta.exp(w * x) * w * w + ta.exp(w * (x * 2.0)) * w).sum()
        assert gradients(outer(x), [w]) == gradients(right, [w])


def test_arrays_in_any_order(rng):
    w = ta.tensor(rng.normal(size=50), requires_grad=True)
    f = ta.compile(lambda x: (x.sum(axis=0) * w).sum())
    for _ in range(5):
        x = rng.normal(size=(50, 1001)).T
        assert bits(f(x).numpy()) == bits((ta.Tensor(x).sum(axis=0) * w).sum().numpy())


def test_a_method_is_compiled_where_it_is_bound():
    class Model:
        def __init__(self):
            self.w = ta.tensor([1.0, 2.0], requires_grad=True)

        def loss(self, x):
            return (self.w * x).sum()

        late = ta.compile(loss)

    model = Model()
    assert ta.compile(model.loss)([1.0, 1.0]).item() == 3.0
    with pytest.raises(TypeError, match="compile the bound method"):
        model.late([1.0, 1.0])


def test_errors_are_those_of_the_function():
    model = gpt()
    f = ta.compile(lambda ids, following: ta.cross_entropy(model(ids), following))
    ids = np.zeros((2, 7), int)
    f(ids, ids)
    with pytest.raises(ValueError, match=r"^embedding: "):
        f(ids + 11, ids)
    with pytest.raises(ValueError, match=r"^cross_entropy: "):
        f(ids, ids + 11)
    assert np.isfinite(f(ids, ids).item())


def test_arguments_are_numbers():
    w = ta.tensor([1.0, 2.0], requires_grad=True)
    f = ta.compile(lambda x: (w * x).sum())
    for wrong in (np.array(["a", "b"]), {"x": 1.0}, np.ma.masked_array([1.0, 2.0], [True, False])):
        with pytest.raises(TypeError, match="compile: an argument"):
            f(wrong)
    with pytest.raises(TypeError, match="needs a function; got int"):
        ta.compile(3)


def test_there_is_no_text_before_the_first_call():
    with pytest.raises(ta.CompileError, match="there is no program yet; call the function first"):
        _ = ta.compile(lambda x: x).source
