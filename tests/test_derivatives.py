import threading
from collections import namedtuple
from math import prod

import numpy as np
import pytest

import tinyattn as ta
from tinyattn.engine import lift
from tinyattn.gallery import SAMPLES
from tinyattn.rules.registry import RULES, parameters

EVERY = {
    "grad": lambda f, *args: ta.grad(f)(*args),
    "jacobian": lambda f, *args: ta.jacobian(f)(*args),
    "vjp": ta.vjp,
    "jvp": lambda f, *args: ta.jvp(f, args, [np.ones(np.shape(x)) for x in args]),
    "hvp": lambda f, *args: ta.hvp(f, args, [np.ones(np.shape(x)) for x in args]),
}
Layer = namedtuple("Layer", "weight bias")


def test_one_argument_or_several():
    def f(x, y):
        return x * x * y

    assert ta.grad(f)(3.0, 5.0).item() == 30.0
    assert ta.grad(f, 1)(3.0, 5.0).item() == 9.0
    assert [g.item() for g in ta.grad(f, (1, 0))(3.0, 5.0)] == [9.0, 30.0]
    value, gradients = ta.value_and_grad(f, (0,))(3.0, y=5.0)
    assert value.item() == 45.0
    assert isinstance(gradients, tuple)
    assert not value.requires_grad
    assert not gradients[0].requires_grad


def test_any_order():
    f = ta.exp
    for _ in range(5):
        f = ta.grad(f)
        assert f(1.0).item() == pytest.approx(np.e, rel=1e-14)
    assert ta.grad(ta.grad(ta.grad(lambda x: x**5)))(2.0).item() == 240.0


def test_inner_and_outer_variables_are_kept_apart():
    """d/dx [x · d/dy (x y)] at y = x is d/dx x² = 2 x; to take the inner x for y would give 4 x."""
    assert ta.grad(lambda x: x * ta.grad(lambda y: x * y)(x))(3.0).item() == 6.0


def test_a_variable_of_an_outer_function_counts():
    """d/dw [d/dx (w x²) at x = 2] = d/dw 4 w = 4."""
    assert ta.grad(lambda w: ta.grad(lambda x: w * x * x)(2.0))(3.0).item() == 4.0


def test_arguments_that_require_gradients_stay_connected():
    x = ta.tensor(2.0, requires_grad=True)
    ta.grad(lambda y: y**3)(x).backward()
    assert x.grad.item() == 12.0


def test_other_graphs_are_left_whole():
    """What the function closes over is neither given gradients nor released."""
    x = ta.tensor(2.0, requires_grad=True)
    y = x * x
    assert ta.grad(lambda z: y * z)(3.0).item() == 4.0
    assert ta.grad(lambda z: y)(3.0).item() == 0.0
    assert x.grad is None
    y.backward()
    assert x.grad.item() == 4.0


def test_what_does_not_matter_has_gradient_zero():
    gradients = ta.grad(lambda x, y: (x * 2.0).sum(), (0, 1))(np.ones(3), np.ones((2, 3)))
    assert gradients[1].tolist() == np.zeros((2, 3)).tolist()
    assert ta.grad(lambda x: 7.0)(np.ones(3)).tolist() == [0.0] * 3
    assert ta.grad(lambda x: x.detach().sum())(np.ones(3)).tolist() == [0.0] * 3


def test_under_no_grad():
    with ta.no_grad():
        assert ta.grad(lambda x: x * x)(3.0).item() == 6.0
        assert ta.grad(ta.grad(lambda x: x * x))(3.0).item() == 2.0
        assert not ta.grad(lambda x: x * x)(ta.tensor(3.0, requires_grad=True)).requires_grad


def test_dtypes_are_kept():
    x = np.ones(3, np.float32)
    assert ta.grad(lambda x: (x * x).sum())(x).dtype == np.float32
    assert ta.jacobian(lambda x: x * x)(x).dtype == np.float32
    assert ta.jvp(lambda x: x * x, [x], [x])[1].dtype == np.float32


@pytest.mark.parametrize(
    ("leaf", "got"),
    [
        (3, "int64"),
        (np.arange(3), "int64"),
        (ta.tensor([1, 2]), "int64"),
        (True, "bool"),
        (1j, "complex128"),
        (np.ones(2, np.float16), "float16"),
        ("ids", "str"),
        (np.array(["a"]), "ndarray"),
        ({1.0}, "set"),
    ],
)
def test_what_can_not_have_a_gradient(leaf, got):
    for name, differentiate in EVERY.items():
        with pytest.raises(TypeError, match=f"^{name}: argument 0: gradients need float32 or float64; got {got}"):
            differentiate(lambda x: 1.0, leaf)
    with pytest.raises(TypeError, match=rf"^grad: argument 1\['ids'\]\[2\]: gradients need .*; got {got}"):
        ta.grad(lambda x, y: 1.0, 1)(0.0, {"w": 1.0, "ids": [1.0, None, leaf, np.ones(1)]})


def test_lists_that_make_no_array():
    with pytest.raises(ValueError, match=r"^grad: argument 0\['w'\]: lists of numbers must be of one length"):
        ta.grad(lambda x: 1.0)({"w": [[1.0], [1.0, 2.0]]})
    with pytest.raises(ValueError, match=r"^jvp: tangents\[0\]: lists of numbers must be of one length"):
        ta.jvp(lambda x: x, [np.ones(2)], [[[1.0], [1.0, 2.0]]])


def test_tangents_are_numbers():
    for tangent, got in (("a", "str"), (1j, "complex128"), (object(), "object")):
        for name in ("jvp", "hvp"):
            with pytest.raises(TypeError, match=rf"^{name}: tangents\[0\] needs real numbers; got {got}$"):
                getattr(ta, name)(lambda x: x, [1.0], [tangent])


def test_what_is_no_function():
    for name, differentiate in EVERY.items():
        with pytest.raises(TypeError, match=f"^{name}: needs a function to differentiate; got Tensor"):
            differentiate(ta.tensor(2.0), 1.0)


@pytest.mark.parametrize("value", [lambda x: x * x, lambda x: x.detach(), lambda x: np.ones(3), lambda x: x[:0]])
def test_a_value_of_many_numbers_has_no_gradient(value):
    with pytest.raises(ta.GradientError, match=r"grad: the function's value must be one number; got shape \([03],\)"):
        ta.grad(value)(np.ones(3))


@pytest.mark.parametrize("value", [None, "one", (1.0, 2.0), [1.0], {}])
def test_a_value_that_is_no_number(value):
    got = "None. Is a return missing" if value is None else type(value).__name__
    for name, differentiate in EVERY.items():
        with pytest.raises(TypeError, match=f"^{name}: the function must give a Tensor or a number; got {got}"):
            differentiate(lambda x: value, 1.0)


def test_an_argument_that_is_not_there():
    for i in (4, -2, (0, 1)):
        with pytest.raises(TypeError, match=r"grad: there is no argument -?\d, since .* called with 1 by position"):
            ta.grad(lambda x: x, argnums=i)(3.0)
    for differentiate in (ta.jacobian, ta.hessian):
        with pytest.raises(TypeError, match=r"there is no argument 1, since .* called with 1 by position"):
            differentiate(lambda x: x, 1)(3.0)
    with pytest.raises(TypeError, match=r"grad: there is no argument 0, .*with 0 by position"):
        ta.grad(lambda x: x)(x=3.0)
    for wrong in ("x", [0], 0.0, None):
        with pytest.raises(TypeError, match="grad: argnums must be a whole number, or a tuple of them; got"):
            ta.grad(lambda x: x, argnums=wrong)
    with pytest.raises(TypeError, match="jacobian: argnum must be a whole number; got 'x'"):
        ta.jacobian(lambda x: x, argnum="x")(3.0)


def test_arguments_may_be_counted_from_the_end():
    assert ta.grad(lambda x, y: x * y, -1)(3.0, 5.0).item() == 3.0
    assert ta.jacobian(lambda x, y: x * y, -1)(3.0, 5.0).item() == 3.0
    assert ta.hessian(lambda x, y: x * y * y, -1)(3.0, 5.0).item() == 6.0


@pytest.mark.parametrize(
    ("primals", "tangents", "told"),
    [
        ([np.ones(3)], [1.0], r"primals\[0\] has shape \(3,\), tangents\[0\] \(\)"),
        ([np.ones(3)], [np.ones((1, 3))], r"primals\[0\] has shape \(3,\), tangents\[0\] \(1, 3\)"),
        ([np.ones(3)], [np.ones(3), 1.0], r"tangents\[1\] has no primal"),
        ([np.ones(3)], [], r"primals\[0\] has none"),
        ([{"w": 1.0, "b": [np.ones(2)]}], [{"w": 1.0, "b": [None]}], r"primals\[0\]\['b'\]\[0\] has none"),
        ([(1.0, 2.0)], [np.ones(2)], r"primals\[0\]\[0\] has none"),
        ([Layer(1.0, 2.0)], [(1.0, 2.0)], r"primals\[0\]\.weight has none"),
    ],
)
def test_tangents_that_do_not_fit(primals, tangents, told):
    for name in ("jvp", "hvp"):
        with pytest.raises(ValueError, match=f"^{name}: each primal needs a tangent of its shape; {told}$"):
            getattr(ta, name)(lambda *x: 1.0, primals, tangents)


def test_primals_and_tangents_are_lists():
    for name in ("jvp", "hvp"):
        for primals, tangents, wrong in ((3.0, [1.0], "primals"), ([3.0], np.ones(1), "tangents")):
            with pytest.raises(TypeError, match=rf"^{name}: {wrong} must be a list or a tuple; .* Are \[ \] missing\?"):
                getattr(ta, name)(lambda x: x * x, primals, tangents)
        for nothing in ([], [None], [{}]):
            with pytest.raises(ValueError, match=f"^{name}: needs a primal at least, and a tangent of its shape"):
                getattr(ta, name)(lambda *x: 1.0, nothing, nothing)


def test_vjp_pulls_back_as_often_as_wanted():
    matrix = np.arange(6.0).reshape(2, 3)
    output, pull_back = ta.vjp(lambda x: matrix @ x, np.ones(3))
    assert output.tolist() == [3.0, 12.0]
    for v in ([1.0, 0.0], [0.0, 1.0], [2.0, 3.0]):
        assert pull_back(v)[0].tolist() == (np.array(v) @ matrix).tolist()
    for pulled in (pull_back, ta.vjp(lambda x: x.detach(), np.ones(2))[1]):
        with pytest.raises(ValueError, match=r"^vjp: .* must have the output's shape, \(2,\); got \(3,\)"):
            pulled(np.ones(3))
    x = np.array([1.0, 2.0])
    _, pull_back = ta.vjp(lambda x: x * x, x)
    x[0] = 5.0  # the array is the caller's again
    assert pull_back(np.ones(2))[0].tolist() == [2.0, 4.0]
    for wrong in ("ab", None):
        with pytest.raises(TypeError, match="gradient needs real numbers"):
            ta.vjp(lambda x: x, 1.0)[1](wrong)


def test_jvp_is_the_jacobian_times_the_tangent():
    rng = np.random.default_rng(0)
    x, y, dx, dy = (rng.normal(size=(3, 5)) for _ in range(4))
    f = lambda x, y: ta.softmax(x * y) * x  # noqa: E731
    output, moved = ta.jvp(f, [x, y], [dx, dy])
    np.testing.assert_array_equal(output.numpy(), f(x, y))
    h = 1e-6
    np.testing.assert_allclose(
        moved.numpy(), (f(x + h * dx, y + h * dy) - f(x - h * dx, y - h * dy)) / (2 * h), atol=1e-8
    )


def test_jacobian_has_the_shapes_of_output_and_input():
    x = np.random.default_rng(0).normal(size=(2, 3))
    found = ta.jacobian(lambda x: ta.softmax(x).T)(x).numpy()
    assert found.shape == (3, 2, 2, 3)
    weights = ta.softmax(x)
    for i, j in np.ndindex(2, 2):
        expected = (np.diag(weights[i]) - np.outer(weights[i], weights[i])) * (i == j)
        np.testing.assert_allclose(found[:, i, j, :], expected, atol=1e-15)
    assert ta.jacobian(lambda x, y: x * y, 1)([2.0, 3.0], [5.0, 7.0]).tolist() == [[2.0, 0.0], [0.0, 3.0]]
    assert ta.jacobian(lambda x: x[:0])([2.0]).shape == (0, 1)


def test_hessian_of_a_quadratic_form():
    matrix = np.arange(9.0).reshape(3, 3)
    found = ta.hessian(lambda x: x @ matrix @ x)([1.0, 2.0, 3.0])
    assert found.tolist() == (matrix + matrix.T).tolist()
    assert ta.hessian(lambda x: x.sum())([1.0, 2.0]).tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_derivatives_of_derivatives_of_attention():
    """The Hessian of attention is symmetric, which no single wrong backward would give by chance."""
    rng = np.random.default_rng(0)
    key, value = rng.normal(size=(5, 3)), rng.normal(size=(5, 2))
    found = ta.hessian(lambda q: (ta.attention(q, key, value, causal=True) ** 2).sum())(rng.normal(size=(2, 3)))
    flat = found.numpy().reshape(6, 6)
    assert abs(flat).max() > 0.01
    np.testing.assert_allclose(flat, flat.T, atol=1e-14)


# ---------------------------------------------------------------------------------------- structures


def test_a_gradient_has_the_structure_of_its_argument():
    def f(model, x):
        assert type(model["layer"]) is Layer
        assert isinstance(model["layer"].weight, ta.Tensor)
        hidden = x @ model["layer"].weight + model["layer"].bias
        return (hidden * model["scales"][1][0]).sum() + model["unused"].sum()

    x = np.array([1.0, 2.0])
    model = {
        "layer": Layer(np.ones((2, 3)), 5.0),
        "scales": [None, (ta.tensor([1.0, 10.0, 100.0]),), [7.0, 7.0]],
        "unused": np.ones(4, np.float32),
    }
    value, gradient = ta.value_and_grad(f)(model, x)
    assert value.item() == 8.0 * 111.0 + 4.0
    assert list(gradient) == list(model)
    assert type(gradient["layer"]) is Layer
    assert gradient["layer"].weight.tolist() == [[1.0, 10.0, 100.0], [2.0, 20.0, 200.0]]
    assert gradient["layer"].bias.item() == 111.0
    assert gradient["scales"][0] is None
    assert type(gradient["scales"][1]) is tuple
    assert gradient["scales"][1][0].tolist() == [8.0, 8.0, 8.0]
    assert gradient["scales"][2].tolist() == [0.0, 0.0]  # a list of numbers is an array
    assert gradient["unused"].dtype == np.float32
    assert ta.grad(f, (0, 1))(model, x)[1].tolist() == [111.0, 111.0]


def test_the_same_array_twice_has_two_gradients():
    x = np.array([2.0, 3.0])
    assert [g.tolist() for g in ta.grad(lambda p: (p[0] * p[0] * p[1]).sum())((x, x))] == [[8.0, 18.0], [4.0, 9.0]]
    t = ta.tensor(3.0, requires_grad=True)
    assert [g.item() for g in ta.grad(lambda p: p[0] * p[0] * p[1])([t, t])] == [18.0, 9.0]


def test_gradients_share_no_memory():
    x, y, v = np.ones(3), np.ones(3), np.ones(3)
    gradients = [*ta.grad(lambda p: p[0].sum() + p[1].sum())((x, y)), *ta.vjp(lambda a, b: a + b, x, y)[1](v)]
    arrays = [x, y, v, *(g.data for g in gradients)]
    for i, a in enumerate(arrays):
        assert a.flags.writeable
        assert not any(np.shares_memory(a, b) for b in arrays[:i])


def test_what_the_function_does_to_a_structure_stays_inside():
    def f(p):
        first = p.pop("first")
        p["second"][0] = p["second"][0] * first
        return p["second"][0]

    given = {"first": 3.0, "second": [ta.tensor(5.0)]}
    gradient = ta.grad(f)(given)
    assert (gradient["first"].item(), gradient["second"][0].item()) == (5.0, 3.0)
    assert given["second"][0].item() == 5.0


def test_a_function_may_write_into_its_argument():
    def f(x):
        x[0] = 5.0
        return x[0] * x[1] ** 3

    x = np.array([2.0, 3.0])
    assert ta.grad(f)(x).tolist() == [0.0, 135.0]
    assert ta.hessian(f)(x).tolist() == [[0.0, 0.0], [0.0, 90.0]]
    assert x.tolist() == [2.0, 3.0]


def test_second_derivatives_of_structures():
    """f = a² b + b²: ∂f/∂a = 2ab; its gradient is 2b in a, 2a in b."""

    def f(p):
        return p["a"] * p["a"] * p["b"] + p["b"] * p["b"]

    point = {"a": 3.0, "b": 5.0}
    mixed = ta.grad(lambda p: ta.grad(f)(p)["a"])(point)
    assert (mixed["a"].item(), mixed["b"].item()) == (10.0, 6.0)
    value, (product,) = ta.hvp(f, [point], [{"b": 2.0, "a": 1.0}])
    assert (value.item(), product["a"].item(), product["b"].item()) == (70.0, 22.0, 10.0)
    value, moved = ta.jvp(f, [point], [{"b": 2.0, "a": 1.0}])
    assert (value.item(), moved.item()) == (70.0, 30.0 + 2 * 19.0)
    value, pull_back = ta.vjp(f, point)
    assert pull_back(2.0)[0]["b"].item() == 38.0


def test_a_jacobian_is_of_arrays():
    for given, got in (({"a": 1.0}, "dict"), ((1.0, 2.0), "tuple"), (None, "NoneType"), (ta.nn.Linear(2, 3), "Linear")):
        with pytest.raises(TypeError, match=f"^jacobian: argument 1 must be one array; got {got}"):
            ta.jacobian(lambda x, y: x, 1)(1.0, given)


def test_a_module_has_a_gradient():
    model = ta.nn.Linear(3, 2, rng=np.random.default_rng(0))
    x, y = np.ones((5, 3)), np.zeros((5, 2))

    def loss(model, x, y):
        return ta.mse_loss(model(x), y)

    value, gradient = ta.value_and_grad(loss)(model, x, y)
    assert model.weight.grad is None
    assert not gradient["weight"].requires_grad
    expected = loss(model, x, y)
    expected.backward()
    assert value.item() == expected.item()
    assert list(gradient) == ["weight", "bias"]
    for name, parameter in model.named_parameters():
        assert gradient[name].tolist() == parameter.grad.tolist()
    _, (of_model, of_x) = ta.value_and_grad(loss, (0, 1))(model, x, y)
    assert of_model["weight"].tolist() == gradient["weight"].tolist()
    assert of_x.shape == x.shape
    model.weight.requires_grad = False
    nested = ta.grad(lambda p: loss(p["layers"][0], p["x"], y))({"layers": [model, None], "x": x})
    assert list(nested["layers"][0]) == ["bias"]
    assert nested["x"].tolist() == of_x.tolist()


def test_second_derivatives_through_a_module():
    model = ta.nn.Linear(3, 2, rng=np.random.default_rng(0), dtype=np.float64)
    x = np.random.default_rng(1).normal(size=(5, 3))

    def penalty(model, x):
        slope = ta.grad(lambda x: (ta.tanh(model(x)) ** 2).sum())(x)
        return (slope * slope).sum()

    gradient = ta.grad(penalty)(model, x)
    h = 1e-6
    for name, parameter in model.named_parameters():
        i = (0,) * parameter.ndim
        values = []
        for step in (h, -2 * h):
            parameter.data[i] += step
            values.append(penalty(model, x).item())
        parameter.data[i] += h
        assert gradient[name].numpy()[i] == pytest.approx((values[0] - values[1]) / (2 * h), rel=1e-6)
    loss = lambda model: (ta.tanh(model(x)) ** 2).sum()  # noqa: E731
    direction = {"bias": np.array([1.0, 0.0]), "weight": np.zeros((3, 2))}
    _, (product,) = ta.hvp(loss, [model], [direction])
    model.bias.data[0] += h
    after = ta.grad(loss)(model)
    model.bias.data[0] -= 2 * h
    before = ta.grad(loss)(model)
    for name, g in product.items():
        np.testing.assert_allclose(g, (after[name].numpy() - before[name].numpy()) / (2 * h), atol=1e-8)


def test_aux_comes_along():
    def f(x):
        y = x * x
        return y.sum(), {"y": y, "n": 3, "text": ["a", None]}

    (value, aux), gradient = ta.value_and_grad(f, has_aux=True)([1.0, 2.0])
    assert (value.item(), gradient.tolist()) == (5.0, [2.0, 4.0])
    assert aux["y"].tolist() == [1.0, 4.0]
    assert not aux["y"].requires_grad
    assert (aux["n"], aux["text"]) == (3, ["a", None])
    gradient, aux = ta.grad(f, has_aux=True)([1.0, 2.0])
    assert (gradient.tolist(), aux["n"]) == ([2.0, 4.0], 3)
    through_aux = ta.grad(lambda x: ta.grad(f, has_aux=True)(x)[1]["y"].sum())
    assert through_aux(np.ones(2)).tolist() == [2.0, 2.0]
    for wrong, got in ((lambda x: x, "Tensor"), (lambda x: (x, 1, 2), "a tuple of 3"), (lambda x: None, "NoneType")):
        with pytest.raises(TypeError, match=rf"with has_aux, the function must return \(value, aux\); got {got}"):
            ta.grad(wrong, has_aux=True)(1.0)


def test_options_count_as_arguments():
    scale = ta.tensor(3.0, requires_grad=True)
    ta.grad(lambda x, *, options: x * x * options["scale"])(5.0, options={"scale": scale}).backward()
    assert scale.grad.item() == 10.0
    assert ta.jacobian(lambda x, scale: x * scale)([1.0, 2.0], scale=7.0).tolist() == [[7.0, 0.0], [0.0, 7.0]]


# ---------------------------------------------------------------------------------------- hvp


def test_hvp_is_the_hessian_times_the_tangent():
    matrix = np.arange(9.0).reshape(3, 3)
    value, (product,) = ta.hvp(lambda x: x @ matrix @ x, [[1.0, 2.0, 3.0]], [[1.0, 10.0, 100.0]])
    assert value.item() == 192.0
    assert product.tolist() == ((matrix + matrix.T) @ [1.0, 10.0, 100.0]).tolist()
    assert not product.requires_grad


def test_hvp_of_several_primals():
    """f = x² y: the Hessian is [[2y, 2x], [2x, 0]]."""
    value, products = ta.hvp(lambda x, y: x * x * y, (3.0, 5.0), (1.0, 10.0))
    assert (value.item(), [p.item() for p in products]) == (45.0, [70.0, 6.0])
    _, straight = ta.hvp(lambda x, y: x.sum(), [np.ones(2), 1.0], [np.ones(2), 1.0])
    assert [p.tolist() for p in straight] == [[0.0, 0.0], 0.0]


def test_hvp_can_be_differentiated():
    """d/dx of the product 6 x t of x³ is 6 t."""
    assert ta.grad(lambda x: ta.hvp(lambda y: y**3, [x], [2.0])[1][0])(5.0).item() == 12.0
    t = ta.tensor(2.0, requires_grad=True)
    ta.hvp(lambda y: y**3, [5.0], [t])[1][0].backward()
    assert t.grad.item() == 30.0


def test_hvp_needs_one_number():
    with pytest.raises(ta.GradientError, match=r"hvp: the function's value must be one number; got shape \(3,\)"):
        ta.hvp(lambda x: x * x, [np.ones(3)], [np.ones(3)])


# ---------------------------------------------------------------------------------------- what is passed through


def test_nan_and_infinity_flow():
    x = np.array([1.0, np.nan, np.inf])
    with np.errstate(invalid="ignore"):  # 0 · ∞
        for gradient in (ta.grad(lambda x: (x * x).sum())(x), ta.jvp(lambda x: x * x, [x], [np.ones(3)])[1]):
            np.testing.assert_array_equal(gradient, [2.0, np.nan, np.inf])
        found = ta.jacobian(lambda x: x * x)(x)
        product = ta.hvp(lambda x: (x**3).sum(), [x], [np.ones(3)])[1][0]
    np.testing.assert_array_equal(found, [[2.0, np.nan, np.nan], [0.0, np.nan, np.nan], [0.0, np.nan, np.inf]])
    np.testing.assert_array_equal(product, [6.0, np.nan, np.inf])


def test_nothing_has_a_gradient_of_no_numbers():
    empty = np.ones((0, 3))
    assert ta.grad(lambda x: (x * x).sum())(empty).shape == (0, 3)
    assert ta.jvp(lambda x: x * x, [empty], [empty])[1].shape == (0, 3)
    assert ta.hvp(lambda x: (x * x).sum(), [empty], [empty])[1][0].shape == (0, 3)
    assert ta.jacobian(lambda x: x * x)(empty).shape == (0, 3, 0, 3)
    assert ta.jacobian(lambda x: x.sum(axis=0))(empty).shape == (3, 0, 3)
    assert ta.hessian(lambda x: (x * x).sum())(empty).shape == (0, 3, 0, 3)
    assert ta.grad(lambda p: 1.0)({}) == {}
    assert ta.grad(lambda p: 1.0)(None) is None


def test_a_constant_moves_nothing():
    output, moved = ta.jvp(lambda x: 7, [np.ones(3)], [np.ones(3)])
    assert (output.item(), moved.item(), moved.dtype) == (7, 0.0, np.float64)
    assert ta.jvp(lambda x: np.ones(2, np.float32), [1.0], [1.0])[1].tolist() == [0.0, 0.0]
    assert ta.jacobian(lambda x: np.ones(2))(np.ones(3)).tolist() == np.zeros((2, 3)).tolist()


# ---------------------------------------------------------------------------------------- every rule


def of_rule(name, sample):
    """A function of the sample's floating arrays, and these."""
    places = [i for i, x in enumerate(sample.arrays) if isinstance(x, np.ndarray) and x.dtype == np.float64]

    def f(*moved):
        arrays = list(sample.arrays)
        for i, x in zip(places, moved, strict=True):
            arrays[i] = x
        return lift(RULES[name])(*([arrays] if parameters(RULES[name]).variadic else arrays), **sample.options)

    return f, [sample.arrays[i] for i in places]


def slope(f, primals, tangents, h=1e-3):
    """How fast f changes along the tangents, by differences of the fourth order."""
    at = [np.asarray(f(*(x + k * h * t for x, t in zip(primals, tangents, strict=True)))) for k in (-2, -1, 1, 2)]
    return (at[0] - 8 * at[1] + 8 * at[2] - at[3]) / (12 * h)


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_first_derivatives_of_every_rule(name):
    rng = np.random.default_rng(1)
    for sample in SAMPLES[name](np.random.default_rng(0)):
        f, primals = of_rule(name, sample)
        tangents = [rng.uniform(-1.0, 1.0, x.shape) for x in primals]
        output, moved = ta.jvp(f, primals, tangents)
        np.testing.assert_allclose(output, f(*primals), rtol=1e-15)
        np.testing.assert_allclose(moved, slope(f, primals, tangents), rtol=1e-7, atol=1e-7)
        jacobians = [ta.jacobian(f, i)(*primals).numpy() for i in range(len(primals))]
        products = [np.tensordot(j, t, axes=t.ndim) for j, t in zip(jacobians, tangents, strict=True)]
        np.testing.assert_allclose(np.sum(products, axis=0), moved, rtol=1e-12, atol=1e-13)
        cotangent = rng.normal(size=output.shape)
        for pulled, j in zip(ta.vjp(f, *primals)[1](cotangent), jacobians, strict=True):
            np.testing.assert_allclose(pulled, np.tensordot(cotangent, j, axes=output.ndim), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_second_derivatives_of_every_rule(name):
    rng = np.random.default_rng(1)
    for sample in SAMPLES[name](np.random.default_rng(0)):
        f, primals = of_rule(name, sample)
        cotangent = rng.normal(size=np.shape(f(*primals)))
        tangents = [rng.uniform(-1.0, 1.0, x.shape) for x in primals]
        each = range(len(primals))

        def loss(*moved, f=f, cotangent=cotangent):
            return (f(*moved) * cotangent).sum()

        _, products = ta.hvp(loss, primals, tangents)
        for i in each:
            along = slope(ta.grad(loss, i), primals, tangents)
            np.testing.assert_allclose(products[i], along, rtol=1e-7, atol=1e-6)
            alone = [t if j == i else np.zeros_like(t) for j, t in enumerate(tangents)]
            hessian = ta.hessian(loss, i)(*primals).numpy()
            product = np.tensordot(hessian, tangents[i], primals[i].ndim)
            np.testing.assert_allclose(product, ta.hvp(loss, primals, alone)[1][i], rtol=1e-11, atol=1e-12)
            flat = hessian.reshape(2 * (prod(primals[i].shape),))
            np.testing.assert_allclose(flat, flat.T, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_third_derivatives_of_every_rule(name):
    rng = np.random.default_rng(1)
    for sample in SAMPLES[name](np.random.default_rng(0)):
        f, primals = of_rule(name, sample)
        cotangent = rng.normal(size=np.shape(f(*primals)))
        tangents = [rng.uniform(-1.0, 1.0, x.shape) for x in primals]

        def curvature(*moved, f=f, cotangent=cotangent, tangents=tangents):
            _, products = ta.hvp(lambda *again: (f(*again) * cotangent).sum(), moved, tangents)
            return ta.stack([(p * t).sum() for p, t in zip(products, tangents, strict=True)]).sum()

        _, third = ta.jvp(curvature, primals, tangents)
        np.testing.assert_allclose(third, slope(curvature, primals, tangents), rtol=1e-6, atol=1e-5)


# ---------------------------------------------------------------------------------------- threads


def test_derivatives_in_two_threads_do_not_disturb_each_other():
    """One is inside a derivative, or under no_grad, while the other begins, ends, and goes on."""
    both = threading.Barrier(2, timeout=60)
    found = {}

    def one():
        def inner(x):
            both.wait()  # 1: the other is recording, and we're inside a nested derivative
            both.wait()  # 2: the other has left its own
            return x**3

        found["nested"] = ta.grad(lambda x: ta.grad(inner)(x))(2.0).item()
        with ta.no_grad():
            both.wait()  # 3
            both.wait()  # 4
        found["after"] = ta.hvp(lambda x: x**3, [2.0], [1.0])[1][0].item()

    def other():
        x = ta.tensor(2.0, requires_grad=True)
        both.wait()  # 1
        gradient = ta.grad(lambda y: y * y)(3.0)
        found["not nested"] = gradient.requires_grad
        both.wait()  # 2
        both.wait()  # 3
        y = x * x
        found["recorded"] = y.requires_grad
        found["jacobian"] = ta.jacobian(lambda v: v * v)(np.array([1.0, 2.0])).tolist()
        both.wait()  # 4
        y.backward()
        found["gradient"] = x.grad.item()

    threads = [threading.Thread(target=work) for work in (one, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {
        "nested": 12.0,
        "not nested": False,
        "recorded": True,
        "jacobian": [[2.0, 0.0], [0.0, 4.0]],
        "gradient": 4.0,
        "after": 12.0,
    }


def test_no_cycles_are_left():
    import gc
    import weakref

    gc.disable()
    try:
        x = np.ones(3)
        seen = []

        def f(x):
            y = x * x
            seen.append(weakref.ref(y))
            return y.sum()

        ta.grad(f)(x)
        ta.hessian(f)(x)
        assert all(reference() is None for reference in seen)
    finally:
        gc.enable()
