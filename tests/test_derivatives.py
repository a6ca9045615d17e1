import numpy as np
import pytest

import tinyattn as ta


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


def test_dtypes_are_kept():
    x = np.ones(3, np.float32)
    assert ta.grad(lambda x: (x * x).sum())(x).dtype == np.float32
    assert ta.jacobian(lambda x: x * x)(x).dtype == np.float32
    assert ta.jvp(lambda x: x * x, [x], [x])[1].dtype == np.float32


def test_errors():
    with pytest.raises(TypeError, match="gradients need float32 or float64; got int64"):
        ta.grad(lambda x: x * x)(3)


@pytest.mark.parametrize("value", [lambda x: x * x, lambda x: x.detach(), lambda x: np.ones(3), lambda x: x[:0]])
def test_a_value_of_many_numbers_has_no_gradient(value):
    with pytest.raises(ta.GradientError, match=r"grad: the function's value must be one number; got shape \([03],\)"):
        ta.grad(value)(np.ones(3))


@pytest.mark.parametrize("value", [None, "one", (1.0, 2.0), [1.0], {}])
def test_a_value_that_is_no_number(value):
    for differentiate in (ta.grad, ta.jacobian):
        with pytest.raises(TypeError, match=f"the function must give a Tensor or a number; got {type(value).__name__}"):
            differentiate(lambda x: value)(1.0)


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
        ([np.ones(3)], [1.0], r"primals \(3,\) and tangents \(\)"),
        ([np.ones(3)], [np.ones((1, 3))], r"primals \(3,\) and tangents \(1, 3\)"),
        ([np.ones(3)], [np.ones(3), 1.0], r"primals \(3,\) and tangents \(3,\), \(\)"),
        ([np.ones(3)], [], r"primals \(3,\) and tangents none"),
        ([], [], "primals none and tangents none"),
    ],
)
def test_tangents_that_do_not_fit(primals, tangents, told):
    with pytest.raises(ValueError, match=f"^jvp: each primal needs a tangent of its shape; got {told}$"):
        ta.jvp(lambda x: x * x, primals, tangents)


def test_primals_and_tangents_are_lists():
    for primals, tangents, wrong in ((3.0, [1.0], "primals"), ([3.0], np.ones(1), "tangents")):
        with pytest.raises(TypeError, match=rf"^jvp: {wrong} must be a list or a tuple; got .* Are \[ \] missing\?"):
            ta.jvp(lambda x: x * x, primals, tangents)


def test_vjp_pulls_back_as_often_as_wanted():
    matrix = np.arange(6.0).reshape(2, 3)
    output, pull_back = ta.vjp(lambda x: matrix @ x, np.ones(3))
    assert output.tolist() == [3.0, 12.0]
    for v in ([1.0, 0.0], [0.0, 1.0], [2.0, 3.0]):
        assert pull_back(v)[0].tolist() == (np.array(v) @ matrix).tolist()
    with pytest.raises(ValueError, match="gradient must have the tensor's shape"):
        pull_back(np.ones(3))


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
